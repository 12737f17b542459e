"""Options of runf's commands that no other walk uses: each does what its help says, by a table. And none is left without a test."""

import base64
import glob
import json
import os
import re
import shutil
import subprocess
import tempfile
import zlib

import bundle
import harness
import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

RUNF = os.path.join(harness.BIN, "runf")
GROUP = "/fluyt-walk-options"
TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Box(bundle.Box):
    def __init__(self, folder):
        super().__init__(RUNF, GROUP, folder, folders=("proc", "sys", "dev"))

    def setting(self, *names):
        """What the container's cgroup has in the first of the files that is there; None without one."""
        for folder in self.cgroups():
            for name in names:
                if os.path.exists(f"{folder}/{name}"):
                    with open(f"{folder}/{name}", encoding="ascii") as file:
                        return file.read().strip()
        return None


@pytest.fixture
def box(tmp_path):
    made = Box(str(tmp_path))
    yield made
    made.close()


def options_of(*command):
    help_text = subprocess.run([RUNF, *command, "--help"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return set(re.findall(r"^ +--([a-z0-9-]+)", help_text, re.MULTILINE))


def test_no_option_is_without_a_test():
    text = ""
    for path in glob.glob(TESTS + "/**/*.py", recursive=True):
        with open(path, encoding="utf-8") as file:
            text += file.read()
    commands = ("checkpoint", "create", "delete", "events", "exec", "features", "kill", "list", "pause", "ps", "restore", "resume", "run",
                "spec", "start", "state", "update")
    untested = [f"{' '.join(command)} --{name}" for command in [(), *((command,) for command in commands)] for name in options_of(*command)
                if not re.search(rf"--{name}\b(?!-)", text)]
    assert untested == []


UPDATES = [  # words, files of v1 and v2, what is in them then (v1, v2)
    (("--cpu-share", "512"), ("cpu.shares", "cpu.weight"), {"512", "20", "59"}),
    (("--cpu-quota", "50000", "--cpu-period", "100000", "--cpu-burst", "10000"), ("cpu.cfs_burst_us", "cpu.max.burst"), {"10000"}),
    (("--cpu-idle", "1"), ("cpu.idle",), {"1"}),
    (("--cpuset-cpus", "0"), ("cpuset.cpus",), {"0"}),
    (("--cpuset-mems", "0"), ("cpuset.mems",), {"0"}),
    (("--memory-reservation", "64m"), ("memory.soft_limit_in_bytes", "memory.low"), {str(64 << 20)}),
    (("--blkio-weight", "300"), ("blkio.bfq.weight", "blkio.weight", "io.bfq.weight"), {"300", "default 300"}),
    (("--cpu-rt-period", "900000"), ("cpu.rt_period_us",), {"900000"}),
    (("--cpu-rt-runtime", "0"), ("cpu.rt_runtime_us",), {"0"}),
]


@pytest.mark.parametrize("words, files, expected", UPDATES, ids=[row[0][0][2:] for row in UPDATES])
def test_update(box, words, files, expected):
    box.start()
    if box.setting(*files) is None:
        refused = box.call("update", *words, "one")
        assert refused.returncode == 1 and "linux.resources." in refused.stderr, refused
        pytest.skip(f"this host has no {' or '.join(files)}; it is refused by name")
    box.done("update", *words, "one")
    assert box.setting(*files) in expected


def test_update_takes_a_file_or_standard_input(box):
    box.start()
    box.done("update", "--resources", "-", "one", stdin=None, input=json.dumps({"pids": {"limit": 21}}))
    assert box.setting("pids.max") == "21"
    with open(box.bundle + "/limits", "w", encoding="ascii") as file:
        json.dump({"pids": {"limit": 22}}, file)
    box.done("update", "-r", box.bundle + "/limits", "one")
    assert box.setting("pids.max") == "22"


@pytest.mark.parametrize("option", ("--kernel-memory", "--kernel-memory-tcp"))
def test_limits_that_the_kernel_has_no_more_are_said_to_be_ignored(box, option):
    box.start()
    done = box.call("update", option, "10m", "one")
    assert done.returncode == 0 and "obsolete and ignored" in done.stderr


def test_update_refuses_what_is_no_number(box):
    box.start()
    for option in ("--cpu-share", "--cpu-burst", "--cpu-rt-period", "--cpu-rt-runtime", "--cpu-idle", "--blkio-weight", "--memory-reservation"):
        refused = box.call("update", option, "much", "one")
        assert refused.returncode == 1 and f"option {option}: " in refused.stderr and "much" in refused.stderr, refused


EXECS = [  # words, what is run, what it says
    (("--additional-gids", "7", "-g", "8"), ("id", "-G"), "0 7 8"),
    (("--no-new-privs",), ("grep", "NoNewPrivs", "/proc/self/status"), "NoNewPrivs:\t1"),
    ((), ("grep", "NoNewPrivs", "/proc/self/status"), "NoNewPrivs:\t0"),
]


@pytest.mark.parametrize("words, run, said", EXECS)
def test_exec(box, words, run, said):
    box.config["process"]["noNewPrivileges"] = False
    box.start()
    assert box.done("exec", *words, "one", *run).strip() == said


@pytest.mark.parametrize("option, value, field", (("--apparmor", "nosuch-profile", "apparmor"), ("--process-label", "u:r:t:s0", "selinux")))
def test_exec_refuses_labels_that_cannot_be(box, option, value, field):
    box.start()
    done = box.call("exec", option, value, "one", "true")
    if done.returncode == 0:
        pytest.skip(f"this host knows the {field} label {value}")
    assert done.returncode == 255 and field in done.stderr.lower(), done


def test_exec_of_a_paused_container_waits_where_it_is_wanted(box):
    box.start()
    box.done("pause", "one")
    refused = box.call("exec", "one", "true")
    assert refused.returncode == 255 and "--ignore-paused" in refused.stderr
    with subprocess.Popen([RUNF, "--root", box.root, "exec", "--ignore-paused", "one", "echo", "at last"], stdout=subprocess.PIPE, text=True) as late:
        with pytest.raises(subprocess.TimeoutExpired):
            late.wait(0.5)
        box.done("resume", "one")
        assert late.communicate(timeout=30)[0] == "at last\n" and late.returncode == 0


def test_run_with_keep_leaves_what_has_stopped(box):
    box.write(("true",))
    box.ids.add("kept")
    box.done("run", "--keep", "kept")
    assert box.state("kept")["status"] == "stopped"
    box.done("delete", "kept")


@pytest.mark.parametrize("option", ("--no-subreaper", "--no-pivot"))
def test_options_that_change_nothing_that_is_seen(box, option):
    box.write(("echo", "hello"))
    assert box.done("run", option, "once") == "hello\n"


def test_kill_and_delete_by_regular_expression(box):
    for name in ("web-1", "web-2", "db-1"):
        box.config["linux"]["cgroupsPath"] = f"{GROUP}/{os.path.basename(os.path.dirname(box.bundle))}-{name}"
        box.start(name=name)
    box.done("kill", "--regex", "web-.*", "KILL")
    harness.wait_for(lambda: box.state("web-1")["status"] == box.state("web-2")["status"] == "stopped", "both to stop")
    assert box.state("db-1")["status"] == "running"
    box.done("delete", "--regex", "web-[12]")
    box.done("delete", "--regex", "--force", "db-")
    assert json.loads(box.done("list", "--format", "json")) in (None, [])


def test_systemd_cgroups_want_a_path_of_three_parts(box):
    box.config["linux"]["cgroupsPath"] = "/not/of/systemd"
    box.write(("true",))
    refused = box.call("--systemd-cgroup", "run", "one")
    assert refused.returncode == 1 and ("slice:prefix:name" in refused.stderr or "systemd" in refused.stderr)
    box.config["linux"]["cgroupsPath"] = f"{GROUP}/{os.path.basename(os.path.dirname(box.bundle))}"


# A criu that dumps and restores nothing: its error is what it was asked, or, with a file "yes" beside it, there is none. Field numbers
# are those of CRIU's rpc.proto: criu_req and criu_resp here, criu_opts below.
CRIU = """#!/usr/bin/python3
import base64, os, socket, sys, zlib
peer = socket.socket(fileno=int(sys.argv[2]))
def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])
def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value
while asked := peer.recv(1 << 20):
    kind = asked[1]
    if kind == 10:
        peer.send(field(1, 10) + field(2, 1) + field(10, field(1, 4) + field(2, 2)))
    elif kind == 9:
        peer.send(field(1, 9) + field(2, 1) + field(8, field(1, 1) + field(2, 1)))
    else:
        yes = os.path.exists(os.path.dirname(sys.argv[0]) + "/yes")
        peer.send(field(1, kind) + field(2, int(yes)) + field(9, b"asked:" + base64.urlsafe_b64encode(zlib.compress(asked, 9))))
        break
"""


def fields(data):
    """{number: last value} of a message in protobuf's wire format."""
    found, at = {}, 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            value |= (data[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if not data[at - 1] & 128:
                return value
    while at < len(data):
        key = varint()
        if key & 7 == 0:
            found[key >> 3] = varint()
        else:
            size = varint()
            found[key >> 3] = data[at:at + size]
            at += size
    return found


DUMPS = [  # words, field, what it has
    (("--ext-unix-sk",), 4, 1), (("--tcp-established",), 5, 1), (("--shell-job",), 7, 1), (("--file-locks",), 8, 1),
    (("--auto-dedup",), 16, 1), (("--link-remap",), 18, 1), (("--tcp-skip-in-flight",), 46, 1),
    (("--lazy-pages", "--page-server", "127.0.0.1:27"), 48, 1), (("--pre-dump",), 15, 1),
]
RESTORES = [
    (("--ext-unix-sk",), 4, 1), (("--tcp-established",), 5, 1), (("--shell-job",), 7, 1), (("--file-locks",), 8, 1),
    (("--auto-dedup",), 16, 1), (("--lsm-profile", "apparmor:other"), 53, b"apparmor:other"),
    (("--lsm-mount-context", "u:r:t:s0"), 63, b"u:r:t:s0"), (("--no-subreaper", "--no-pivot"), 12, 1),
]


@pytest.fixture
def asked(box, monkeypatch):
    """Calls runf with that criu; what was asked of it: (kind, its options' fields)."""
    programs = tempfile.mkdtemp(prefix="fluyt-criu-", dir="/var/tmp")  # in a restore /tmp is another one
    with open(programs + "/criu", "w", encoding="ascii") as file:
        file.write(CRIU)
    os.chmod(programs + "/criu", 0o755)
    monkeypatch.setenv("PATH", programs + ":" + os.environ["PATH"])

    def call(*words):
        done = box.call(*words)
        said = re.search("asked:([A-Za-z0-9_=-]+)", done.stderr)
        assert done.returncode == 1 and said, done
        request = fields(zlib.decompress(base64.urlsafe_b64decode(said[1])))
        return request[1], fields(request[2])
    call.programs = programs
    yield call
    shutil.rmtree(programs)


@pytest.mark.parametrize("words, number, value", DUMPS, ids=[row[0][0][2:] for row in DUMPS])
def test_checkpoint_passes_its_options_on(box, asked, words, number, value):
    box.start()
    _, plain = asked("checkpoint", "--image-path", box.bundle + "/archive", "one")
    assert plain.get(number) != value or number == 15  # memory is tracked in any case
    kind, options = asked("checkpoint", "--image-path", box.bundle + "/archive", *words, "one")
    assert kind == (4 if "--pre-dump" in words else 1) and options[number] == value


def test_checkpoint_has_its_log_where_it_is_told(box, asked):
    box.start()
    _, options = asked("checkpoint", "--image-path", box.bundle + "/archive", "--work-path", box.bundle + "/work", "one")
    assert 17 in options and os.path.isdir(box.bundle + "/work")


@pytest.mark.parametrize("words, number, value", RESTORES, ids=[row[0][0][2:] for row in RESTORES])
def test_restore_passes_its_options_on(box, asked, words, number, value):
    box.start()
    with open(asked.programs + "/yes", "w", encoding="ascii"):
        box.done("checkpoint", "--image-path", box.bundle + "/archive", "one")
    os.remove(asked.programs + "/yes")
    kind, options = asked("restore", "-d", "--image-path", box.bundle + "/archive", *words, "back")
    assert kind == 2 and options[number] == value
