"""runf checkpoint and restore, through a real CRIU. What a restore must refuse is asked for by a config.json that gives less
than the archive has."""

import array
import copy
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import harness  # noqa: E402  (found in tests/lib)

RUNF = harness.BIN + "/runf"
COUNTER = "i=0; while :; do i=$((i+1)); echo $i > /dev/shm/n; sleep 0.05; done"


def missing():
    if shutil.which("criu") is None:
        return "no criu (Debian's package criu)"
    done = subprocess.run(["criu", "check"], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return "" if done.returncode == 0 else "criu does not work on this kernel: " + done.stdout.strip().splitlines()[0]


WHY = missing()
needs_criu = pytest.mark.skipif(WHY != "", reason=WHY)


class Box:
    """A bundle, a state folder and an archive's folder."""

    def __init__(self, folder, name):
        self.folder = str(folder)
        self.name = name
        self.bundle = self.folder + "/bundle"
        self.archive = self.folder + "/archive"
        os.makedirs(self.bundle + "/rootfs/bin")
        os.makedirs(self.bundle + "/rootfs/etc")
        for program in ("sh", "sleep", "cat", "ls", "mkdir", "true", "grep", "id", "tr"):
            shutil.copy(shutil.which("busybox"), f"{self.bundle}/rootfs/bin/{program}")
        subprocess.run([RUNF, "spec", "-b", self.bundle], check=True)
        with open(self.bundle + "/config.json", encoding="utf-8") as file:
            self.config = json.load(file)
        self.config["process"]["terminal"] = False
        self.config["process"]["args"] = ["sh", "-c", COUNTER]
        self.config["linux"]["cgroupsPath"] = f"/fluyt-checkpoint-{os.getpid()}/{name}"

    def runf(self, *words, check=True, **options):
        with open(self.bundle + "/config.json", "w", encoding="utf-8") as file:
            json.dump(self.config, file)
        with open(self.folder + "/said", "w+", encoding="utf-8") as said:
            options = {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": said, "timeout": 60, **options}
            done = subprocess.run([RUNF, "--root", self.folder + "/state", *words], check=False, cwd=self.folder, **options)
            said.seek(0)
            self.said = said.read()
        if check and done.returncode != 0:
            log = ""
            for name in glob.glob(self.archive + "/*.log"):
                with open(name, encoding="utf-8", errors="replace") as file:
                    log += "".join(line for line in file if "Error" in line or "Warn" in line)
            raise AssertionError(f"runf {' '.join(words)}: exit {done.returncode}\n{self.said}\n{log}")
        return done.returncode

    def run(self, *options, **how):
        self.runf("run", "-d", "-b", self.bundle, *options, self.name, **how)

    def checkpoint(self, *options, **how):
        return self.runf("checkpoint", "--image-path", self.archive, *options, self.name, **how)

    def restore(self, *options, **how):
        return self.runf("restore", "-d", "-b", self.bundle, "--image-path", self.archive, *options, self.name, **how)

    def exec(self, *words):
        self.runf("exec", self.name, *words)
        return self.said

    def state(self):
        if self.runf("state", self.name, check=False) != 0:
            return None
        return json.loads(self.said)

    def count(self):
        return int(harness.wait_for(lambda: self.exec("cat", "/dev/shm/n").strip(), "a number"))

    def left(self):
        state = self.folder + "/state"
        found = os.listdir(state) if os.path.isdir(state) else []
        for top in glob.glob("/sys/fs/cgroup/*") + ["/sys/fs/cgroup"]:
            found += glob.glob(f"{top}{self.config['linux']['cgroupsPath']}")
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            found += [line for line in file if self.folder in line]
        return found

    def close(self):
        self.runf("delete", "--force", self.name, check=False)
        assert self.left() == []
        for top in glob.glob(f"/sys/fs/cgroup/*/fluyt-checkpoint-{os.getpid()}") + glob.glob(
                f"/sys/fs/cgroup/fluyt-checkpoint-{os.getpid()}"):
            os.rmdir(top)


@pytest.fixture
def box(tmp_path, request):
    made = Box(tmp_path, "c" + str(abs(hash(request.node.name)) % 100000))
    yield made
    made.close()


@needs_criu
def test_a_container_goes_on_where_it_was(box):
    box.run()
    # Not a sleep itself: one that was interrupted may end at the restore.
    box.exec("sh", "-c", "while :; do sleep 9; done < /dev/null > /dev/null 2>&1 &")
    before = box.count()
    box.checkpoint()
    assert box.state() is None and box.left() == []
    time.sleep(0.5)  # in which it would have counted on
    box.restore("--pid-file", box.folder + "/pid")
    first = box.count()
    assert before <= first < before + 8
    assert harness.wait_for(lambda: box.count() > first, "it to count on")
    state = box.state()
    with open(box.folder + "/pid", encoding="ascii") as file:
        assert state["status"] == "running" and state["pid"] == int(file.read())
    box.runf("ps", "-f", "json", box.name)
    lines = [open(f"/proc/{pid}/cmdline", encoding="ascii").read() for pid in json.loads(box.said)]
    assert any("sleep 9" in line for line in lines)  # the one that was exec'd
    box.exec("sh", "-c", "while :; do sleep 8; done < /dev/null > /dev/null 2>&1 &")  # into the time namespace that CRIU gave it
    box.checkpoint()
    box.restore()
    assert box.count() > first


@needs_criu
def test_leave_running(box):
    box.run()
    box.checkpoint("--leave-running")
    first = box.count()
    assert harness.wait_for(lambda: box.count() > first, "it to count on")


@needs_criu
def test_its_pipes_are_those_of_the_restore(box):
    box.config["process"]["args"] = ["sh", "-c", "while read word; do echo got $word; done; echo end"]

    def pipes():
        return os.pipe(), os.pipe()
    (in_read, in_write), (out_read, out_write) = pipes()
    box.run(stdin=in_read, stdout=out_write, stderr=out_write)
    box.checkpoint()
    for end in (in_read, in_write, out_read, out_write):
        os.close(end)
    (in_read, in_write), (out_read, out_write) = pipes()
    box.restore(stdin=in_read, stdout=out_write, stderr=out_write)
    os.close(in_read)
    os.close(out_write)
    os.write(in_write, b"word\n")
    os.close(in_write)
    with os.fdopen(out_read) as file:
        assert file.read() == "got word\nend\n"


@needs_criu
def test_in_the_foreground_it_gives_the_exit_status(box):
    box.config["process"]["args"] = ["sh", "-c", "while ! cat /tmp/go; do sleep 0.05; done 2> /dev/null; exit 7"]
    box.config["root"]["readonly"] = False
    os.mkdir(box.bundle + "/rootfs/tmp")
    box.run()
    box.checkpoint()
    with open(box.bundle + "/rootfs/tmp/go", "w", encoding="ascii"):
        pass
    assert box.runf("restore", "-b", box.bundle, "--image-path", box.archive, box.name, check=False) == 7
    assert box.left() == []


class Terminal:
    """The other end of --console-socket."""

    def __init__(self, path):
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.master = -1

    def take(self):
        connection, _ = self.listener.accept()
        _, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
        connection.close()
        if self.master >= 0:
            os.close(self.master)
        self.master = array.array("i", ancillary[0][2])[0]

    def say(self, text, expect):
        os.write(self.master, text.encode())
        shown = ""
        while expect not in shown:
            shown += os.read(self.master, 4096).decode()


@needs_criu
def test_a_terminal_comes_back_over_the_console_socket(box):
    box.config["process"]["terminal"] = True
    box.config["process"]["args"] = ["sh"]
    terminal = Terminal(box.folder + "/tty")
    box.run("--console-socket", terminal.path)
    terminal.take()
    terminal.say("word=kept\n", "# ")
    box.checkpoint()
    box.restore("--console-socket", terminal.path)
    terminal.take()
    terminal.say("echo $word-$((40+2))\n", "kept-42")


@needs_criu
def test_binds_below_links_in_binds_and_with_mounts_of_their_own(box):
    os.makedirs(box.bundle + "/rootfs/real/conf")
    os.symlink("/real/conf", box.bundle + "/rootfs/conf")
    for name in ("one", "two", "three/sub"):
        os.makedirs(f"{box.folder}/{name}")
    subprocess.run(["mount", "-t", "tmpfs", "sub", box.folder + "/three/sub"], check=True)
    try:
        for name in ("one", "two", "three/sub"):
            with open(f"{box.folder}/{name}/file", "w", encoding="ascii") as file:
                file.write(name)
        box.config["mounts"] += [
            {"source": box.folder + "/one", "destination": "/conf", "options": ["bind", "ro"]},
            {"source": box.folder + "/one", "destination": "/test", "options": ["bind"]},
            {"source": box.folder + "/two", "destination": "/test/for/nested", "options": ["bind"]},
            {"source": box.folder + "/three", "destination": "/three", "options": ["rbind"]}]
        box.run()
        box.checkpoint()
        shutil.rmtree(box.folder + "/one/for")  # a mount point that the runtime made
        box.restore()
        assert box.exec("cat", "/conf/file", "/test/for/nested/file", "/three/sub/file") == "onetwothree/sub"
        box.runf("delete", "--force", box.name)
    finally:
        subprocess.run(["umount", box.folder + "/three/sub"], check=True)


@needs_criu
def test_a_network_namespace_by_path_is_left_alone(box):
    name = "fluyt-checkpoint"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        for space in box.config["linux"]["namespaces"]:
            if space["type"] == "network":
                space["path"] = "/run/netns/" + name
        box.run()
        inode = os.stat("/run/netns/" + name).st_ino
        box.checkpoint()
        box.restore()
        assert os.stat(f"/proc/{box.state()['pid']}/ns/net").st_ino == inode
        box.runf("delete", "--force", box.name)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@needs_criu
def test_limits_are_those_of_the_specification(box):
    box.config["linux"]["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 20}}
    box.run()
    box.checkpoint()
    box.config["linux"]["resources"] = {"memory": {"limit": 32 << 20}, "pids": {"limit": 10}}
    box.restore()
    values = [open(path, encoding="ascii").read().strip() for name in ("memory.max", "memory.limit_in_bytes", "pids.max")
              for path in glob.glob(f"/sys/fs/cgroup/**{box.config['linux']['cgroupsPath']}/{name}", recursive=True)]
    assert sorted(values) == ["10", str(32 << 20)]


CAPABILITIES = ["CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_AUDIT_WRITE"]
ALLOW_ALL = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
             "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]}


def capabilities(config, names):
    config["process"]["capabilities"] = {kind: list(names) for kind in ("bounding", "effective", "permitted")}


def with_mount(config, **more):
    mount = {"destination": "/data", "source": more.pop("source"), "options": more.pop("options")}
    config["mounts"] = config["mounts"] + [mount]


def loosen_nothing(config, folder):
    del config, folder


# name, what the container that is dumped has, what the one that is restored may have, the field that is named
MORE = {
    "capabilities": (lambda c, f: capabilities(c, [*CAPABILITIES, "CAP_SYS_ADMIN"]),
                     lambda c, f: capabilities(c, CAPABILITIES), "CAP_SYS_ADMIN"),
    "no_new_privs": (lambda c, f: c["process"].update(noNewPrivileges=False),
                     lambda c, f: c["process"].update(noNewPrivileges=True), "noNewPrivileges"),
    "no filter": (loosen_nothing, lambda c, f: c["linux"].update(seccomp=ALLOW_ALL), "linux.seccomp"),
    "another filter": (lambda c, f: c["linux"].update(seccomp=ALLOW_ALL),
                       lambda c, f: c["linux"].update(seccomp={**ALLOW_ALL, "syscalls": [
                           {"names": ["swapon", "mount"], "action": "SCMP_ACT_ERRNO"}]}), "linux.seccomp"),
    "user": (loosen_nothing, lambda c, f: c["process"].update(user={"uid": 1000, "gid": 1000}), "user.uid"),
    "a root that can be written to": (lambda c, f: c["root"].update(readonly=False),
                                      lambda c, f: c["root"].update(readonly=True), "root.readonly"),
    "a path that was not masked": (lambda c, f: c["linux"].update(maskedPaths=["/proc/kcore"]),
                                   lambda c, f: c["linux"].update(maskedPaths=["/proc/kcore", "/proc/keys"]), "maskedPaths"),
    "a path that can be written to": (lambda c, f: c["linux"].update(readonlyPaths=[]), loosen_nothing, "readonlyPaths"),
    "a mount that can be written to": (lambda c, f: with_mount(c, source=f, options=["bind"]),
                                       lambda c, f: with_mount(c, source=f, options=["bind", "ro"]), "is not ro"),
    "a mount with set-user-id programs": (lambda c, f: with_mount(c, source=f, options=["bind"]),
                                          lambda c, f: with_mount(c, source=f, options=["bind", "nosuid"]), "is not nosuid"),
    "a mount too many": (lambda c, f: with_mount(c, source=f, options=["bind"]), loosen_nothing, "criu"),
    "the host's network": (lambda c, f: c["linux"].update(namespaces=[
        space for space in c["linux"]["namespaces"] if space["type"] != "network"]), loosen_nothing, "net"),
    "the host's IPC": (lambda c, f: c["linux"].update(namespaces=[
        space for space in c["linux"]["namespaces"] if space["type"] != "ipc"]), loosen_nothing, "ipc"),
    "limits": (loosen_nothing, lambda c, f: c["process"].update(
        rlimits=[{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 10}]), "rlimits"),
}


@needs_criu
@pytest.mark.parametrize("name", MORE)
def test_an_archive_with_more_than_the_specification_gives_is_refused(box, name):
    had, may_have, field = MORE[name]
    os.mkdir(box.folder + "/data")
    base = copy.deepcopy(box.config)
    had(box.config, box.folder + "/data")
    box.run()
    box.checkpoint()
    box.config = copy.deepcopy(base)
    may_have(box.config, box.folder + "/data")
    assert box.restore(check=False) == 1
    assert field in box.said, box.said
    assert box.state() is None and box.left() == []


@needs_criu
def test_the_same_archive_is_restored_under_the_specification_that_it_was_made_under(box):
    capabilities(box.config, CAPABILITIES)
    box.config["linux"]["seccomp"] = ALLOW_ALL
    box.config["process"]["args"] = ["sh", "-c", "while :; do sleep 9; done"]
    # A process of another user's has limits that only CAP_SYS_RESOURCE can read.
    with open("/proc/self/status", encoding="ascii") as file:
        user = 1000 if int(file.read().split("CapEff:")[1].split()[0], 16) >> 24 & 1 else 0
    box.config["process"]["user"] = {"uid": user, "gid": user, "additionalGids": [7]}
    box.run()
    box.checkpoint()
    box.restore()
    with open(f"/proc/{box.state()['pid']}/status", encoding="ascii") as file:
        fields = dict(line.strip().split(":\t") for line in file if ":\t" in line)
    assert fields["Seccomp"] == "2" and fields["NoNewPrivs"] == "1" and fields["Uid"].split() == [str(user)] * 4
    assert fields["State"].startswith("S")


def waits_to_connect(pid):
    with open(f"/proc/{pid}/syscall", encoding="ascii") as file:
        return file.read().split()[0] == {"x86_64": "42", "aarch64": "203"}[os.uname().machine]


@needs_criu
def test_a_restore_cut_short_is_deleted_with_all_that_it_made(box):
    box.run()
    box.checkpoint()
    box.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"]}]}
    assert box.restore(check=False) == -signal.SIGKILL
    assert len(box.left()) > 1
    assert box.runf("state", box.name, check=False) == 1 and "being created" in box.said
    box.runf("delete", "--force", box.name)
    assert box.left() == []


@needs_criu
def test_a_restore_cut_short_before_it_is_on_record_is_deleted_with_its_processes(box):
    """It stands where it hands the terminal over: all is restored, and the record names CRIU's process still."""
    box.config["process"]["terminal"] = True
    box.config["process"]["args"] = ["sh"]
    terminal = Terminal(box.folder + "/tty")
    box.run("--console-socket", terminal.path)
    terminal.take()
    box.checkpoint()
    deaf = socket.socket(socket.AF_UNIX)
    deaf.bind(box.folder + "/deaf")
    deaf.listen(0)
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(box.folder + "/deaf")  # the one that the listener has room for
        restore = subprocess.Popen([RUNF, "--root", box.folder + "/state", "restore", "-d", "-b", box.bundle, "--image-path", box.archive,
                                    "--console-socket", box.folder + "/deaf", box.name], cwd=box.folder, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            harness.wait_for(lambda: waits_to_connect(restore.pid), "it to hand the terminal over")
        finally:
            restore.kill()
            restore.wait()
    deaf.close()
    assert len(box.left()) > 1
    box.runf("delete", "--force", box.name)
    assert box.left() == []


@needs_criu
def test_a_signal_during_a_restore_undoes_it(box):
    box.run()
    box.checkpoint()
    at = box.folder + "/at"
    box.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", f"touch {at}; while [ -e {at} ]; do sleep 0.02; done"]}]}
    with open(box.bundle + "/config.json", "w", encoding="utf-8") as file:
        json.dump(box.config, file)
    with open(box.folder + "/said", "w", encoding="utf-8") as said:  # as what it had before: a file
        restore = subprocess.Popen([RUNF, "--root", box.folder + "/state", "restore", "-b", box.bundle, "--image-path", box.archive, box.name],
                                   cwd=box.folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        harness.wait_for(lambda: os.path.exists(at), "the hook")
        restore.send_signal(signal.SIGTERM)
        os.unlink(at)
        assert restore.wait(60) == 128 + signal.SIGTERM
    finally:
        restore.kill()
        restore.wait()
    assert box.left() == []


@needs_criu
def test_a_process_that_was_stopped_stays_so(box):
    box.run()
    box.exec("sh", "-c", "sleep 1000 < /dev/null > /dev/null 2>&1 & kill -STOP $!")
    box.checkpoint()
    box.restore()

    def states():
        box.runf("ps", "-f", "json", box.name)
        out = []
        for pid in json.loads(box.said):
            with open(f"/proc/{pid}/stat", encoding="ascii") as file:
                out.append(file.read().rpartition(")")[2].split()[0])
        return out
    assert states().count("T") == 1


@needs_criu
def test_a_mount_point_that_criu_would_misread_is_refused(box):
    with_mount(box.config, source=box.folder, options=["bind"])
    box.config["mounts"][-1]["destination"] = "/a]:/etc"
    box.run()
    assert box.checkpoint(check=False) == 1
    assert "criu cannot be told of one with ']'" in box.said
    assert box.state()["status"] == "running"


@needs_criu
def test_criu_restores_where_nothing_of_the_host_can_be_written_to(box):
    # In criu's place a script that tries, and becomes criu if it cannot. Not below /tmp: that is criu's own there.
    folder = f"{harness.ROOT}/build/criu-{os.getpid()}"
    os.mkdir(folder)
    try:
        with open(folder + "/criu", "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\ntouch {folder}/written 2> /dev/null && exit 1\nexec {shutil.which('criu')} \"$@\"\n")
        os.chmod(folder + "/criu", 0o755)
        box.run()
        box.checkpoint()
        box.restore(env={"PATH": folder + ":" + os.environ["PATH"]})
        assert box.state()["status"] == "running"
        assert os.listdir(folder) == ["criu"]
    finally:
        shutil.rmtree(folder)


@needs_criu
def test_an_archive_is_not_believed(box):
    box.run()
    box.checkpoint()
    with open(box.archive + "/fluyt.json", encoding="utf-8") as file:
        good = json.load(file)
    for bad in ({**good, "descriptors": ["net:[1]"]}, {**good, "submounts": [[0, ["../../etc"]]]}, {"version": 9}, []):
        with open(box.archive + "/fluyt.json", "w", encoding="utf-8") as file:
            json.dump(bad, file)
        assert box.restore(check=False) == 1
        assert box.left() == []


def test_what_is_missing_is_named(box):
    box.run()
    empty = {"PATH": box.folder}
    assert box.checkpoint(check=False, env=empty) == 1
    assert "criu: not found in PATH" in box.said
    assert box.restore(check=False, env=empty) == 1
    assert box.state()["status"] == "running"


@pytest.mark.parametrize("words, said", [
    (["--manage-cgroups-mode", "odd"], "option --manage-cgroups-mode: \"odd\": expected ignore, soft, full or strict"),
    (["--empty-ns", "mount"], "option --empty-ns: \"mount\": expected network"),
    (["--page-server", "nowhere"], "option --page-server: \"nowhere\": expected ADDRESS:PORT"),
    (["--status-fd", "77"], "option --status-fd: \"77\": expected a descriptor that is open for writing"),
])
def test_bad_options(box, words, said):
    box.run()
    assert box.checkpoint(*words, check=False) == 1
    assert json.dumps(said)[1:-1] in box.said or said in box.said


def test_only_what_runs_can_be_checkpointed(box):
    box.runf("create", "-b", box.bundle, box.name)
    assert box.checkpoint(check=False) == 1
    assert "cannot be checkpointed in created state" in box.said


@needs_criu
def test_bad_parents(box):
    box.run()
    for path in ("/absolute", "./none"):
        assert box.checkpoint("--parent-path", path, check=False) == 1
        assert "--parent-path" in box.said
