"""runf as callers of runc use it: the real program, a busybox bundle, a state folder of its own."""

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import bundle
import harness
import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

RUNF = os.path.join(harness.BIN, "runf")
GROUP = f"/fluyt-walk-runf-{os.getpid()}"  # others may run these walks at the same time


class Box(bundle.Box):
    def __init__(self, folder):
        super().__init__(RUNF, GROUP, folder, folders=("proc", "sys", "dev"))

    runf = bundle.Box.call


@pytest.fixture
def box(tmp_path):
    made = Box(str(tmp_path))
    yield made
    made.close()


def wait_gone(pid):
    def gone():
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                return file.read().rsplit(")", 1)[1].split()[0] in "ZX"
        except FileNotFoundError:
            return True
    harness.wait_for(gone, f"process {pid} to end")


def test_help_and_version_have_the_shape_that_callers_read(box):
    lines = box.done("--version").splitlines()
    assert re.match(r"runf version \d+\.\d+\.\d+$", lines[0]) and lines[1].startswith("commit: ")
    assert re.match(r"spec: 1\.3\.\d+", lines[2])
    lines = [line for line in box.done("--help").splitlines() if line]
    assert lines[0] == "NAME:" and "runf - Open Container Initiative runtime" in lines[1]
    for command in ("create", "delete", "events", "exec", "features", "kill", "list", "pause", "ps", "resume", "run",
                    "spec", "start", "state", "update"):
        lines = [line for line in box.done(command, "-h").splitlines() if line]
        assert lines[0] == "NAME:" and lines[1].startswith(f"   runf {command} - ") and len(lines[1]) > 25
    refused = box.runf("voyage", "-h")
    assert refused.returncode == 1 and "No help topic for 'voyage'" in refused.stderr


def test_options_may_stand_behind_the_container(box):
    box.config["linux"]["resources"] = {"pids": {"limit": 20}}
    box.start()
    box.done("update", "one", "--pids-limit", "33")
    path = next((top for top in harness.cgroup_tops()
                 if os.path.exists(top + box.config["linux"]["cgroupsPath"] + "/pids.max")), None)
    with open(path + box.config["linux"]["cgroupsPath"] + "/pids.max", encoding="utf-8") as file:
        assert file.read().strip() == "33"
    # Behind an exec's container everything is the program's.
    assert box.done("exec", "one", "echo", "-e", "--tty").strip() == "--tty"


def test_list_tells_a_missing_root_from_an_empty_one(box):
    assert box.runf("list").returncode == 1
    os.makedirs(box.root)
    assert box.done("list", "--format", "json").strip() == "null"
    assert box.done("list").split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]


def test_a_program_that_cannot_run_is_told_in_the_words_callers_look_for(box):
    code, _, error = box.once("no-such")
    assert code == 1 and "executable file not found in $PATH" in error
    code, _, error = box.once("/no/such")
    assert code == 1 and "no such file or directory" in error
    code, _, error = box.once("/etc/passwd")
    assert code == 1 and "permission denied" in error
    with open(box.bundle + "/rootfs/bin/odd", "w", encoding="utf-8") as file:
        file.write("#!/no/interpreter\n")
    os.chmod(box.bundle + "/rootfs/bin/odd", 0o755)
    code, _, error = box.once("/bin/odd")
    assert code == 1 and error == "exec /bin/odd: no such file or directory\n"
    box.start()
    refused = box.runf("exec", "one", "/bin/odd")
    assert refused.returncode == 255 and "exec /bin/odd: no such file or directory" in refused.stderr


def test_output_through_a_terminal_has_no_carriage_returns(box):
    box.config["process"]["terminal"] = True
    assert box.once("echo", "ship")[1] == "ship\n"


def test_debug_lines_go_where_the_log_goes(box):
    box.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                                      "syscalls": [{"names": ["set_sail"], "action": "SCMP_ACT_ERRNO"}]}
    box.config["process"]["args"] = ["true"]
    box.write()
    error = box.runf("--debug", "run", "one").stderr
    assert 'level=debug msg="seccomp filter flags: 2"' in error and "set_sail" in error
    assert box.runf("--debug", "--log", box.bundle + "/log", "--log-format", "json", "run", "one").stderr == ""
    with open(box.bundle + "/log", encoding="utf-8") as log:
        lines = [json.loads(line) for line in log]
    assert {line["level"] for line in lines} == {"debug"} and all(set(line) == {"level", "msg", "time"} for line in lines)
    assert "level=debug" not in box.runf("run", "one").stderr


def test_a_read_only_dev_is_filled_first(box):
    for mount in box.config["mounts"]:
        if mount["destination"] == "/dev":
            mount["options"].append("ro")
    code, out, _ = box.once("sh", "-c", "grep -w /dev /proc/mounts; echo x > /dev/null && ! echo x > /dev/new")
    assert code == 0 and " ro," in out


def test_a_container_at_its_gate_holds_nothing_of_the_host(box):
    box.config["process"]["args"] = ["true"]
    box.write()
    box.detached("create", "one")
    box.ids.add("one")
    folder = f"/proc/{json.loads(box.done('state', 'one'))['pid']}/fd/"
    held = {os.readlink(folder + name) for name in os.listdir(folder) if int(name) > 2}
    # The gate's FIFOs, by a mount without a name.
    assert held <= {"/"}, held


def test_a_bind_of_what_an_earlier_mount_shows(box):
    os.makedirs(box.bundle + "/source/deep")
    with open(box.bundle + "/source/deep/file", "w", encoding="utf-8") as file:
        file.write("hold\n")
    box.config["mounts"] += [{"source": "source", "destination": "/first", "options": ["bind"]},
                             {"source": "rootfs/first/deep", "destination": box.bundle + "/rootfs/second",
                              "options": ["bind", "ro"]}]
    code, out, error = box.once("sh", "-c", "cat /second/file; echo x > /second/file")
    assert code == 1 and out == "hold\n" and "Read-only" in error


def test_flags_of_a_bind_are_those_that_are_named(box):
    os.mkdir(box.bundle + "/source")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid,nodev,noexec,noatime", "tmpfs", box.bundle + "/source"], check=True)
    try:
        def flags(*options):
            box.config["mounts"] = [mount for mount in box.config["mounts"] if mount["destination"] != "/mnt"]
            box.config["mounts"].append({"source": "source", "destination": "/mnt", "options": list(options)})
            code, out, error = box.once("grep", " /mnt ", "/proc/mounts")
            assert code == 0, error
            return set(out.split()[3].split(",")) & {"ro", "rw", "nosuid", "nodev", "noexec", "noatime", "relatime"}

        assert flags("bind") == {"rw", "nosuid", "nodev", "noexec", "noatime"}
        assert flags("bind", "ro") == {"ro", "noatime"}
        assert flags("bind", "dev", "atime") == {"rw", "noatime"}
        assert flags("bind", "nosuid", "relatime") == {"rw", "nosuid", "relatime"}
        assert flags("rbind", "rro", "nodev") == {"ro", "nodev", "noatime"}
        linux = box.config["linux"]
        linux["namespaces"].append({"type": "user"})
        linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": 0, "size": 65536}]
        assert flags("bind", "ro") == {"ro", "nosuid", "nodev", "noexec", "noatime"}
        for options in (["bind", "dev"], ["bind", "relatime"]):
            box.config["mounts"][-1]["options"] = options
            code, _, error = box.once("true")
            assert code == 1 and "operation not permitted" in error
    finally:
        subprocess.run(["umount", box.bundle + "/source"], check=True)


def test_masked_paths_that_stand_twice_are_masked_once(box):
    box.config["linux"]["maskedPaths"] = ["/tmp", "/tmp/", "/tmp"]
    assert box.once("grep", "-c", " /tmp ", "/proc/mounts")[1] == "1\n"


def test_warnings_are_log_lines(box):
    box.config["process"]["capabilities"]["inheritable"] = ["CAP_KILL"]
    box.config["process"]["capabilities"]["ambient"] = ["CAP_KILL", "CAP_CHOWN"]
    code, _, error = box.once("true")
    assert code == 0 and "level=warning" in error and "can't raise ambient capability CAP_CHOWN: " in error


class Agent:
    """Who listens at linux.seccomp.listenerPath: keeps what it was told, and the listeners."""

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.listener.settimeout(60)
        self.held = []

    def told(self):
        connection, _ = self.listener.accept()
        with connection:
            text, fds, _, _ = socket.recv_fds(connection, 1 << 16, 4)
        self.held += fds
        return json.loads(text)

    def close(self):
        self.listener.close()
        for fd in self.held:
            os.close(fd)


def test_a_seccomp_agent_is_told_whose_process_it_is(box, tmp_path):
    agent = Agent(str(tmp_path / "agent"))
    box.config["annotations"] = {"org.harbour": "seven"}
    box.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": str(tmp_path / "agent"), "listenerMetadata": "pilot",
                                      "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_NOTIFY"}]}
    try:
        first = box.start()
        told = agent.told()
        assert told["pid"] == first and told["metadata"] == "pilot" and told["fds"] == ["seccompFd"]
        for packed in (True, False):
            if not packed:
                os.utime(box.root + "/one/config.json")
            assert box.done("exec", "one", "true") == ""
            again = agent.told()
            assert again["pid"] != first and again["state"]["status"] == "running" and again["state"]["pid"] == first
            for key in ("id", "bundle", "annotations"):
                assert again["state"][key] == told["state"][key], key
        assert told["state"]["bundle"] == box.bundle and told["state"]["annotations"] == {"org.harbour": "seven"}
    finally:
        agent.close()


def test_an_exec_keeps_the_callers_keyring_where_the_container_does(box):
    box.config["linux"]["maskedPaths"].remove("/proc/keys")
    for name, options, rings in ((f"ring{os.getpid()}", (), 1), (f"noring{os.getpid()}", ("--no-new-keyring",), 0)):
        box.write(("sleep", "1000"))
        box.ids.add(name)
        box.detached("run", "-d", *options, name)
        seen = box.done("exec", name, "cat", "/proc/keys")
        if rings and "_ses." not in seen:
            pytest.skip("this kernel has no session keyrings for containers")
        assert seen.count(f"_ses.{name}") == rings
        box.done("delete", "-f", name)


def test_exec_cap_is_ambient_only_beside_inheritable_ones(box):
    capabilities = box.config["process"]["capabilities"]
    box.start(name="bare")
    status = box.done("exec", "--cap", "CAP_SYSLOG", "bare", "cat", "/proc/self/status")
    assert "CapInh:\t0000000000000000" in status and "CapAmb:\t0000000000000000" in status
    assert "CapEff:\t0000000420000420" in status
    box.done("delete", "-f", "bare")
    capabilities["bounding"].append("CAP_SYSLOG")
    capabilities["inheritable"] = ["CAP_SYSLOG"]
    box.start(name="heir")
    status = box.done("exec", "--cap", "CAP_SYSLOG", "heir", "cat", "/proc/self/status")
    assert "CapInh:\t0000000400000000" in status and "CapAmb:\t0000000400000000" in status


def test_kill_reaches_all_of_a_container_in_the_hosts_pid_namespace(box):
    spaces = box.config["linux"]["namespaces"]
    spaces[:] = [space for space in spaces if space["type"] != "pid"]
    for verb in (("kill", "one", "KILL"), ("delete", "one")):
        first = box.start()
        box.detached("exec", "-d", "one", "sleep", "1001")
        pids = json.loads(box.done("ps", "--format", "json", "one"))
        assert len(pids) == 2
        os.kill(first, signal.SIGKILL)
        wait_gone(first)
        assert json.loads(box.done("state", "one"))["status"] == "stopped"
        box.done(*verb)
        for pid in pids:
            wait_gone(pid)
        if verb[0] == "kill":
            refused = box.runf("kill", "one", "KILL")
            assert refused.returncode == 1 and "container not running" in refused.stderr
            box.done("kill", "-a", "one", "0")
            box.done("delete", "one")
    assert box.cgroups() == []


def into_a_pod(box, *args):
    """A container in whose PID namespace those made from now on are."""
    own = box.config["linux"]["cgroupsPath"]
    box.config["linux"]["cgroupsPath"] = own + "-pod"
    pid = box.start(*args, name="pod")
    box.config["linux"]["cgroupsPath"] = own
    next(space for space in box.config["linux"]["namespaces"] if space["type"] == "pid")["path"] = f"/proc/{pid}/ns/pid"


def test_kill_all_reaches_those_that_fork_meanwhile(box):
    into_a_pod(box, "sh", "-c", "while :; do sleep 0.02; done")  # which reaps them
    box.config["linux"]["resources"] = {"pids": {"limit": 5000}}
    # Each has another in its place before a list of them is read to its end.
    box.start("sh", "-c", "f() { f & }; for i in 1 2 3 4 5 6 7 8; do f; done; exec sleep 1000")

    def members():
        with open(box.cgroups()[0] + "/cgroup.procs", encoding="ascii") as procs:
            return procs.read().split()
    before = members()
    harness.wait_for(lambda: len(set(members()) - set(before)) > 4, "them to fork")
    box.done("kill", "--all", "one", "KILL")
    assert members() == []
    box.done("delete", "one")


def exec_trace(box, *words):
    """The files of the state folder that an exec opens, in order."""
    log = box.bundle + "/strace"
    done = subprocess.run(["strace", "-f", "-e", "trace=openat", "-o", log, RUNF, "--root", box.root, "exec", *words], check=False,
                          capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    with open(log, encoding="utf-8") as file:
        opened = re.findall(r'openat\(\d+, "([a-z]+\.[a-z]+)"', file.read())
    return [name for name in opened if name in ("exec.packed", "state.json", "config.json")], done.stdout


def test_an_exec_reads_the_packed_record_while_it_is_true(box):
    """exec.packed is a copy of parts of state.json and config.json, and never counts more than they do."""
    box.config["process"]["env"].append("SAID=first")
    box.start()
    folder = box.root + "/one"
    if shutil.which("strace"):
        assert exec_trace(box, "one", "env")[0] == ["exec.packed"]
    assert "SAID=first\n" in box.done("exec", "one", "env")
    # Of this build and whole, or none.
    with open(folder + "/exec.packed", "rb") as file:
        whole = file.read()
    for wrong in (b"", whole[:-1], whole + b"x", whole[:14] + b"\xff" + whole[15:], b"junk"):
        with open(folder + "/exec.packed", "wb") as file:
            file.write(wrong)
        assert "SAID=first\n" in box.done("exec", "one", "env"), wrong
    with open(folder + "/exec.packed", "wb") as file:
        file.write(whole)
    # Another config.json: the copy is of an old one.
    with open(folder + "/config.json", encoding="utf-8") as file:
        text = file.read()
    with open(folder + "/config.json", "w", encoding="utf-8") as file:
        file.write(text.replace("SAID=first", "SAID=later"))
    assert "SAID=later\n" in box.done("exec", "one", "env")
    os.remove(folder + "/exec.packed")
    assert "SAID=later\n" in box.done("exec", "one", "env")


def test_exec_sees_limits_that_update_changed(box):
    box.start()
    box.done("update", "--pids-limit", "77", "one")
    box.done("exec", "one", "true")
    seen = [open(folder + "/pids.max", encoding="ascii").read() for folder in box.cgroups() if os.path.exists(folder + "/pids.max")]
    assert seen == ["77\n"]


def test_exec_tells_a_container_that_has_ended(box):
    pid = box.start()
    os.kill(pid, signal.SIGKILL)
    wait_gone(pid)
    done = box.runf("exec", "one", "true")
    assert done.returncode == 255
    assert "cannot exec in a stopped container" in done.stderr


def test_exec_where_the_joining_process_has_memory_of_its_own(box):
    """A user namespace, and clocks of its own: what may not be joined in memory that is shared."""
    mapping = [{"containerID": 0, "hostID": 0, "size": 65536}]
    box.config["linux"]["uidMappings"] = box.config["linux"]["gidMappings"] = mapping
    box.config["linux"]["namespaces"] += [{"type": "user"}, {"type": "time"}]
    box.config["linux"]["timeOffsets"] = {"monotonic": {"secs": 5000000}}
    box.config["process"]["oomScoreAdj"] = 321
    box.start()
    out = box.done("exec", "one", "sh", "-c", "cat /proc/self/timens_offsets /proc/self/uid_map /proc/self/oom_score_adj")
    assert re.search(r"monotonic\s+5000000", out), out
    assert re.search(r"0\s+0\s+65536", out), out
    assert out.endswith("\n321\n"), out


def test_exec_has_the_score_and_the_signals_of_a_program(box):
    box.config["process"]["oomScoreAdj"] = 321
    box.start()
    assert box.done("exec", "one", "cat", "/proc/self/oom_score_adj") == "321\n"
    out = box.done("exec", "one", "grep", "Sig", "/proc/self/status",
                   preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert re.search(r"SigIgn:\s+0+\n", out) and re.search(r"SigBlk:\s+0+\n", out), out


def test_exec_of_nothing_leaves_nothing(box):
    """The process that joins has no program to make: its error arrives from memory that it shares with its maker."""
    box.start()
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(5):
        done = box.runf("exec", "one", "/no/such/program")
        assert done.returncode == 255 and "no such file or directory" in done.stderr, done
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert box.done("exec", "one", "echo", "alive") == "alive\n"


def test_exec_joins_a_cgroup_below(box):
    legacy = [top for top in harness.cgroup_tops() if os.path.exists(top + "/tasks")]
    box.start()
    for words, told in ((("--cgroup", "../x"), "bad sub cgroup path"), (("--cgroup", "nothing"), "o such file or dir"),
                        (("--cgroup", "nosuch:/"), "unknown controller nosuch"),
                        (("--cgroup", "a", "--cgroup", "b"), "expected CONTROLLER:PATH"),
                        (("--cgroup", ":x"), "expected CONTROLLER:PATH")):
        refused = box.runf("exec", *words, "one", "true")
        assert refused.returncode == 255 and told in refused.stderr, refused.stderr
    path = box.config["linux"]["cgroupsPath"]
    assert f":{path}\n" in box.done("exec", "--cgroup", "/", "one", "cat", "/proc/self/cgroup")
    for top in harness.cgroup_tops():
        os.mkdir(top + path + "/sub")
    inside = box.done("exec", "--cgroup", "sub", "one", "cat", "/proc/self/cgroup")
    assert f":{path}/sub\n" in inside
    if legacy:
        inside = box.done("exec", "--cgroup", "memory:sub", "one", "cat", "/proc/self/cgroup")
        assert f":memory:{path}/sub\n" in inside and f":pids:{path}\n" in inside


def test_a_cgroup_with_processes_or_frozen_is_refused(box):
    box.start()
    code, _, error = box.once("true", name="two")
    assert code == 1 and "container's cgroup is not empty" in error
    assert json.loads(box.done("state", "one"))["status"] == "running"


def test_somebody_elses_cgroup_is_left_alone(box):
    """In each hierarchy alone, for the first process has its v2 cgroup before the others are looked at."""
    seen = 0
    for number, top in enumerate(harness.cgroup_tops()):
        place = top + box.config["linux"]["cgroupsPath"]
        os.makedirs(place)
        sleeper = subprocess.Popen(["sleep", "1000"])
        try:
            try:
                with open(place + "/cgroup.procs", "w", encoding="ascii") as procs:
                    procs.write(str(sleeper.pid))
            except OSError:  # a cpuset without processors
                continue
            code, _, error = box.once("true", name=f"occupied{number}")
            assert code == 1 and "container's cgroup is not empty" in error and os.path.isdir(place), (place, error)
            assert sleeper.poll() is None, place
            seen += 1
        finally:
            sleeper.kill()
            sleeper.wait()
            harness.wait_for(lambda: removed(place), f"{place} to be empty")
    assert seen > 0
    for number, top in enumerate(harness.cgroup_tops()):
        place = top + box.config["linux"]["cgroupsPath"]
        os.makedirs(place)
        state, frozen = (place + "/freezer.state", "FROZEN") if os.path.exists(place + "/freezer.state") else (place + "/cgroup.freeze", "1")
        if os.path.exists(state):
            with open(state, "w", encoding="ascii") as file:
                file.write(frozen)
            for again in (1, 2):
                code, _, error = box.once("true", name=f"frozen{number}-{again}")
                assert code == 1 and "container's cgroup unexpectedly frozen" in error and os.path.isdir(place), (place, error)
        os.rmdir(place)


def removed(place):
    try:
        os.rmdir(place)
    except OSError:
        return False
    return True


def test_events_are_lines_of_json(box):
    box.config["linux"]["resources"] = {"memory": {"limit": 64 << 20}}
    box.start()
    line = json.loads(box.done("events", "--stats", "one"))
    assert line["type"] == "stats" and line["id"] == "one"
    assert set(line["data"]) >= {"cpu", "cpuset", "memory", "pids", "blkio", "hugetlb"}
    assert line["data"]["cpuset"]["cpus"] == sorted(os.sched_getaffinity(1)) and line["data"]["cpuset"]["mems"]
    memory = line["data"]["memory"]
    assert memory["swap"]["usage"] == 0 or memory["swap"]["usage"] >= memory["usage"]["usage"] // 2  # both together
    assert all(set(memory[key]) == {"limit", "usage", "max", "failcnt"} for key in ("usage", "swap", "kernel", "kernelTCP"))
    usage = line["data"]["cpu"]["usage"]
    assert len(usage["percpu_kernel"]) == len(usage["percpu_user"]) == len(usage["percpu"])
    assert line["data"]["memory"]["usage"]["limit"] == 64 << 20 and line["data"]["pids"]["current"] == 1
    for wrong in ("0s", "5", "-1s", "1x", "s"):
        refused = box.runf("events", "--interval", wrong, "one")
        assert refused.returncode == 1 and "option --interval" in refused.stderr
    following = subprocess.Popen([RUNF, "--root", box.root, "events", "--interval", "50ms", "one"],
                                 stdout=subprocess.PIPE, text=True)
    for _ in range(3):
        assert json.loads(following.stdout.readline())["type"] == "stats"
    box.runf("exec", "one", "sh", "-c", "x=$(busybox yes | busybox head -c 200000000)")
    kinds = {json.loads(following.stdout.readline())["type"] for _ in range(200)}
    assert "oom" in kinds
    began = time.monotonic()
    box.done("delete", "-f", "one")
    following.communicate(timeout=20)
    assert following.returncode == 0 and time.monotonic() - began < 10
    box.ids.discard("one")


def test_spec_for_a_caller_without_privileges(box, tmp_path):
    os.mkdir(tmp_path / "rootless")
    box.done("spec", "--rootless", "-b", str(tmp_path / "rootless"))
    with open(tmp_path / "rootless" / "config.json", encoding="utf-8") as file:
        made = json.load(file)
    types = {space["type"] for space in made["linux"]["namespaces"]}
    assert "user" in types and "network" not in types and not made["linux"].get("resources")
    refused = box.runf("spec", "-b", box.bundle)
    assert refused.returncode == 1 and "File config.json exists" in refused.stderr


def test_rootless_leaves_out_a_cgroup_that_nobody_asked_for(box):
    path = box.config["linux"].pop("cgroupsPath")
    box.config["linux"].pop("resources", None)
    box.write()
    box.config["process"]["args"] = ["cat", "/proc/self/cgroup"]
    box.write()
    mine = open("/proc/self/cgroup", encoding="utf-8").read()
    assert box.runf("--rootless", "true", "run", "one").stdout == mine
    assert box.runf("--rootless", "false", "run", "one").stdout != mine
    assert box.runf("--rootless", "maybe", "run", "one").returncode == 1
    box.config["linux"]["cgroupsPath"] = path


class Sailor:
    """runf as a user without any privilege, in a folder of that user's."""

    UID = 65534

    def __init__(self, box):
        self.folder = tempfile.mkdtemp(prefix="fluyt-sailor-")
        os.chmod(self.folder, 0o755)
        self.program = shutil.copy(RUNF, self.folder + "/runf")
        shutil.copytree(box.bundle, self.folder + "/bundle", symlinks=True)
        os.remove(self.folder + "/bundle/config.json")
        for folder in ("bundle", "run"):
            os.makedirs(f"{self.folder}/{folder}", exist_ok=True)
        subprocess.run(["chown", "-hR", f"{self.UID}:{self.UID}", self.folder + "/bundle", self.folder + "/run"], check=True)
        made = self.runf("spec", "--rootless")
        assert made.returncode == 0, made.stderr
        with open(self.folder + "/bundle/config.json", encoding="utf-8") as file:
            self.config = json.load(file)
        self.config["process"]["terminal"] = False

    def runf(self, *words, **more):
        if "stdout" not in more:
            more["capture_output"] = True
        return subprocess.run([self.program, *words], check=False, text=True, timeout=60, stdin=subprocess.DEVNULL,
                              cwd=self.folder + "/bundle", env={**os.environ, "XDG_RUNTIME_DIR": self.folder + "/run"},
                              user=self.UID, group=self.UID, extra_groups=[], **more)

    def write(self, *args):
        self.config["process"]["args"] = list(args)
        with open(self.folder + "/bundle/config.json", "w", encoding="utf-8") as file:
            json.dump(self.config, file)


@pytest.fixture
def sailor(box):
    made = Sailor(box)
    yield made
    for word in ("one", "two"):
        made.runf("delete", "-f", word)
    shutil.rmtree(made.folder)


def test_a_user_without_privileges_has_containers(sailor):
    sailor.write("sh", "-c", "id -u; cat /proc/self/uid_map; echo x >/dev/null && echo written; grep CapEff /proc/self/status")
    done = sailor.runf("run", "one")
    assert done.returncode == 0, done
    lines = done.stdout.splitlines()
    assert lines[0] == "0" and lines[1].split()[2] == "1" and lines[2] == "written", done
    # What the specification gives and no more: not all that a user namespace has.
    assert lines[3].split()[1] == "0000000020000420", done
    sailor.write("sleep", "1000")
    done = sailor.runf("run", "-d", "one", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert done.returncode == 0
    listed = json.loads(sailor.runf("list", "--format", "json").stdout)
    assert [(one["status"], one["owner"]) for one in listed] == [("running", "nobody")]
    assert os.stat(f"/proc/{listed[0]['pid']}").st_uid in (0, sailor.UID)  # root's: it cannot be looked into
    done = sailor.runf("exec", "one", "sh", "-c", "id -u; grep CapEff /proc/self/status")
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\nCapEff:\t0000000020000420\n", "")
    assert sailor.runf("kill", "one", "KILL").returncode == 0
    wait_gone(listed[0]["pid"])
    assert sailor.runf("delete", "one").returncode == 0
    assert json.loads(sailor.runf("list", "--format", "json").stdout or "null") in (None, [])


@pytest.fixture
def subordinate(tmp_path):
    """/etc/subuid and /etc/subgid, in a mount namespace that the walks have for themselves, give Sailor ids from 200000 on."""
    if shutil.which("newuidmap") is None:
        pytest.skip("needs newuidmap (Debian's package uidmap)")
    paths = ("/etc/subuid", "/etc/subgid")
    (tmp_path / "ids").write_text("nobody:200000:1000\n")
    for path in paths:
        subprocess.run(["mount", "--bind", str(tmp_path / "ids"), path], check=True)
    yield
    for path in paths:
        subprocess.run(["umount", path], check=True)


def test_a_user_without_privileges_has_the_ids_of_subuid(sailor, subordinate):
    for kind in ("uidMappings", "gidMappings"):
        sailor.config["linux"][kind] = [{"containerID": 0, "hostID": sailor.UID, "size": 1}, {"containerID": 1, "hostID": 200000, "size": 1000}]
    sailor.config["process"]["user"] = {"uid": 7, "gid": 8}
    sailor.write("sh", "-c", "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map; touch /tmp/mine")
    os.chmod(sailor.folder + "/bundle/rootfs/tmp", 0o777)
    sailor.config["root"]["readonly"] = False
    sailor.write(*sailor.config["process"]["args"])
    done = sailor.runf("run", "one")
    assert done.returncode == 0, done
    assert done.stdout.split()[:2] == ["7", "8"]
    made = os.stat(sailor.folder + "/bundle/rootfs/tmp/mine")
    assert (made.st_uid, made.st_gid) == (200006, 200007)
    os.remove(sailor.folder + "/bundle/rootfs/tmp/mine")
    sailor.write("sleep", "1000")
    done = sailor.runf("run", "-d", "one", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert done.returncode == 0
    done = sailor.runf("exec", "one", "id", "-u")
    assert (done.returncode, done.stdout) == (0, "7\n"), done
    # Ids of somebody else's are not to be had, and nothing is left of who asked.
    sailor.config["linux"]["gidMappings"][1]["hostID"] = 300000
    sailor.write("true")
    done = sailor.runf("run", "two")
    assert done.returncode == 1 and "linux.gidMappings: without privileges: newgidmap: exit 1" in done.stderr, done


@pytest.fixture
def without_newuidmap(tmp_path):
    """In the walks' own mount namespace it may not be executed; nothing to do where there is none."""
    there = shutil.which("newuidmap")
    (tmp_path / "text").write_text("")
    if there:
        subprocess.run(["mount", "--bind", str(tmp_path / "text"), os.path.realpath(there)], check=True)
    yield
    if there:
        subprocess.run(["umount", os.path.realpath(there)], check=True)


def test_a_missing_newuidmap_is_told_with_its_package(sailor, without_newuidmap):
    for kind in ("uidMappings", "gidMappings"):
        sailor.config["linux"][kind] = [{"containerID": 0, "hostID": sailor.UID, "size": 1}, {"containerID": 1, "hostID": 200000, "size": 1000}]
    sailor.write("true")
    done = sailor.runf("run", "two")
    assert done.returncode == 1 and "process.args" not in done.stderr, done
    assert "linux.uidMappings: without privileges: newuidmap is not in $PATH" in done.stderr and "package uidmap" in done.stderr, done


def test_what_a_user_without_privileges_cannot_have_is_told_by_field(sailor):
    own = {"containerID": 0, "hostID": sailor.UID, "size": 1}
    for field, value, told in (
            (("linux", "uidMappings"), [{**own, "hostID": 0}], "linux.uidMappings: without privileges"),
            (("linux", "gidMappings"), [{**own, "size": 2}], "linux.gidMappings: without privileges"),
            (("process", "user", "additionalGids"), [0], "process.user.additionalGids"),
            (("linux", "resources"), {"pids": {"limit": 5}}, "cgroup")):
        sailor.write("true")
        kept = json.dumps(sailor.config)
        at = sailor.config
        for name in field[:-1]:
            at = at[name]
        at[field[-1]] = value
        sailor.write("true")
        done = sailor.runf("run", "two")
        assert done.returncode == 1 and told in done.stderr, (field, done)
        assert os.listdir(sailor.folder + "/run/runf" if os.path.isdir(sailor.folder + "/run/runf") else sailor.folder + "/run") == []
        sailor.config = json.loads(kept)


def test_two_creates_of_one_id_at_once(box):
    """One wins and one is told, and what the loser made is gone."""
    box.config["process"]["args"] = ["sleep", "1000"]
    box.ids.add("twin")
    for _ in range(10):
        box.write()
        made = [None, None]

        def create(i):
            made[i] = subprocess.run([RUNF, "--root", box.root, "--log", f"{box.bundle}/log{i}", "create", "twin"],
                                     check=False, cwd=box.bundle, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL, timeout=60).returncode

        threads = [threading.Thread(target=create, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(made) == [0, 1]
        with open(f"{box.bundle}/log{made.index(1)}", encoding="utf-8") as log:
            assert "container with id exists" in log.read()
        assert json.loads(box.done("state", "twin"))["status"] == "created"
        box.done("start", "twin")
        box.done("delete", "-f", "twin")
        assert not os.listdir(box.root) and box.cgroups() == []
        for i in range(2):
            open(f"{box.bundle}/log{i}", "w", encoding="utf-8").close()


@pytest.mark.parametrize("pids", ["its own", "a pod's"])
def test_a_creation_cut_short_is_deleted_with_all_that_it_made(box, pids):
    if pids == "a pod's":  # the program's process is forked last there, behind the hooks
        into_a_pod(box)
    box.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"]}]}
    box.write()
    box.ids.add("half")
    assert box.runf("create", "half").returncode == -signal.SIGKILL
    assert box.cgroups() != []
    told = box.runf("state", "half")
    assert told.returncode == 1 and "being created" in told.stderr
    assert box.runf("delete", "half").returncode == 1
    box.done("delete", "--force", "half")
    assert box.cgroups() == [] and not os.path.exists(box.root + "/half")


@pytest.mark.parametrize("pids", ["its own", "a pod's"])
def test_every_kind_of_hook_runs(box, tmp_path, pids):
    if pids == "a pod's":
        into_a_pod(box)
    kinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    box.config["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"echo {kind} >> {tmp_path}/said"]}] for kind in kinds}
    box.config["mounts"].append({"destination": str(tmp_path), "type": "bind", "source": str(tmp_path), "options": ["bind"]})
    box.config["root"]["readonly"] = False
    box.start()
    box.done("delete", "-f", "one")
    with open(f"{tmp_path}/said", encoding="utf-8") as said:
        assert said.read().split() == kinds


def test_a_plain_run_tells_its_end_and_is_on_record_while_it_runs(box):
    code, _, error = box.once("/bin/missing", name="missing")
    assert code == 1 and "/bin/missing" in error
    assert box.once("sh", "-c", "exit 7")[0] == 7
    assert os.listdir(box.root) == []
    box.start(name="plain")
    assert json.loads(box.done("state", "plain"))["status"] == "running"
    assert box.done("exec", "plain", "echo", "hi") == "hi\n"


def left_overs(box):
    """What a refused container must not leave: state folders, cgroups, mounts, processes."""
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        mounted = [line for line in mounts if box.bundle in line or box.root in line]
    running = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if box.root.encode() in file.read():
                    running.append(pid)
        except OSError:
            continue
    return [os.listdir(box.root) if os.path.isdir(box.root) else [], box.cgroups(), mounted, running]


def put(config, path, value):
    """Sets config["a"][0]["b"] for "a/0/b"; a missing list or object on the way is an error of the test."""
    *way, last = [int(key) if key.isdigit() else key for key in path.split("/")]
    for key in way:
        config = config[key]
    if isinstance(config, list) and last == len(config):
        config.append(value)
    else:
        config[last] = value


# Where in the configuration, what stands there, and what the error says of it.
BAD_CONFIGURATIONS = [
    ("ociVersion", "3.0.0", "ociVersion: \"3.0.0\""),
    ("ociVersion", 1, "ociVersion: 1: expected"),
    ("process/args", "sh", "process.args: \"sh\""),
    ("process/args", [], "process.args: "),
    ("process/cwd", "tmp", "process.cwd: \"tmp\": expected an absolute path"),
    ("process/env", ["NOVALUE"], "process.env[0]: \"NOVALUE\": expected NAME=value"),
    ("process/user", {"uid": -1, "gid": 0}, "process.user.uid: -1"),
    ("process/oomScoreAdj", 1001, "process.oomScoreAdj: 1001: expected a score from -1000 to 1000"),
    ("process/rlimits/0/type", "RLIMIT_SAILS", "process.rlimits[0].type: \"RLIMIT_SAILS\""),
    ("process/rlimits/1", {"type": "RLIMIT_NOFILE", "hard": 1, "soft": 1}, "RLIMIT_NOFILE stands twice"),
    ("process/capabilities/bounding", "CAP_KILL", "process.capabilities.bounding: \"CAP_KILL\""),
    ("root/path", "nowhere", "root.path: "),
    ("root/path", "config.json", "root.path: "),
    ("root/path", "linked", "root.path: "),
    ("mounts/0/destination", "", "mounts[0].destination: \"\": expected a path"),
    ("mounts/1/type", "nofs", "mounts[1]: "),
    ("mounts/7", {"destination": "/x", "source": "/no/such/source", "options": ["bind"]}, "/no/such/source"),
    ("linux/namespaces/0/type", "dream", "linux.namespaces[0].type: \"dream\""),
    ("linux/namespaces/1", {"type": "pid"}, "linux.namespaces: pid stands twice"),
    ("linux/namespaces/1", {"type": "network", "path": "/no/such/ns"}, "\"/no/such/ns\""),
    ("linux/namespaces/1", {"type": "network", "path": "/proc/self/ns/uts"}, "linux.namespaces[1].path: \"/proc/self/ns/uts\""),
    ("linux/cgroupsPath", GROUP + "/../x", "linux.cgroupsPath: \"" + GROUP + "/../x\": may not contain"),
    ("linux/cgroupsPath", GROUP + "/cgroup.procs", "linux.cgroupsPath: "),
    ("linux/cgroupsPath", GROUP + "/" + 256 * "n", "longer than 255 bytes"),
    ("linux/resources", {"cpu": {"cpus": "0;1"}}, "linux.resources.cpu.cpus: \"0;1\""),
    ("linux/resources", {"cpu": {"cpus": "4095"}}, "4095"),
    ("linux/resources", {"memory": {"limit": "much"}}, "linux.resources.memory.limit: \"much\""),
    ("linux/seccomp", {"defaultAction": "SCMP_ACT_SINK"}, "linux.seccomp.defaultAction: \"SCMP_ACT_SINK\""),
    ("linux/sysctl", {"kernel.core_pattern": "|/x"}, "linux.sysctl"),
    ("linux/devices", [{"path": "/dev/x", "type": "q", "major": 1, "minor": 1}], "linux.devices[0].type: \"q\""),
    ("hooks", {"createRuntime": [{"path": "relative"}]}, "hooks.createRuntime[0].path: \"relative\""),
    ("hooks", {"createRuntime": [{"path": "/no/such/hook"}]}, "error running createRuntime hook #0"),
    ("hooks", {"prestart": [{"path": "/bin/false"}]}, "error running prestart hook #0"),
    ("hooks", {"createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "echo aground >&2; exit 3"]}]},
     "exit status 3: \\\"aground\\\""),
    ("hooks", {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]},
     "killed after its timeout of 1 s"),
    ("hooks", {"startContainer": [{"path": "/bin/false"}]}, "error running startContainer hook #0"),
    ("hooks", {"poststart": [{"path": "/bin/false"}]}, "error running poststart hook #0"),
]


@pytest.mark.parametrize("path,value,told", BAD_CONFIGURATIONS, ids=[f"{row[0]}-{i}" for i, row in enumerate(BAD_CONFIGURATIONS)])
def test_bad_configuration_is_told_and_leaves_nothing(box, path, value, told):
    os.symlink("rootfs", box.bundle + "/linked")
    if path == "linux/seccomp" or path == "linux/sysctl":
        box.config["linux"].pop(path.split("/")[1], None)
    path_before = box.config["linux"]["cgroupsPath"]
    box.config["process"]["args"] = ["true"]
    put(box.config, path, value)
    box.write()
    refused = box.runf("run", "once")
    code, error = refused.returncode, refused.stderr
    assert code == 1 and told in error.replace('\\"', '"') + error, error
    box.config["linux"]["cgroupsPath"] = path_before
    assert left_overs(box) == [[], [], [], []]
    # A start needs its container created first: what cannot be created cannot be started.
    assert box.runf("start", "once").returncode == 1


@pytest.mark.parametrize("text,told", [("", ""), ("{", ""), ("[]", ""), ("null", ""), ('{"ociVersion": "1.0.0"', ""),
                                       ('{"a": 1, "a": 2}', "stands twice"), ("{}", "ociVersion"),
                                       (None, "JSON specification file")])
def test_a_configuration_that_is_none(box, text, told):
    os.remove(box.bundle + "/config.json")
    if text is not None:
        with open(box.bundle + "/config.json", "w", encoding="utf-8") as file:
            file.write(text)
    for command in ("create", "run"):
        refused = box.runf(command, "one")
        assert refused.returncode == 1 and told in refused.stderr and "config.json" in refused.stderr, refused.stderr
    assert left_overs(box) == [[], [], [], []]


def test_an_exec_on_cpus_of_its_own(box):
    box.start()
    first = sorted(os.sched_getaffinity(0))[0]
    process = {"cwd": "/", "args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "execCPUAffinity": {"initial": str(first)}}
    path = box.root + "-process.json"
    with open(path, "w", encoding="utf-8") as file:
        json.dump(process, file)
    done = box.runf("--debug", "exec", "--process", path, "one")
    os.unlink(path)
    assert done.returncode == 0 and done.stdout.split() == ["Cpus_allowed_list:", str(first)], done
    assert f"]: affinity: {1 << first:#x}" in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["../up", "a/b", "/", "", ".", "..", "sp ace", "new\nline", 1025 * "n"])
def test_bad_ids(box, name):
    box.config["process"]["args"] = ["true"]
    box.write()
    for command in ("create", "run", "start", "state", "kill", "exec", "delete", "pause", "resume", "update", "events", "ps"):
        refused = box.runf(command, "--", name, *(["true"] if command == "exec" else []))
        assert refused.returncode == (255 if command == "exec" else 1), (command, refused.stderr)
        assert "container ID" in refused.stderr or "option" in refused.stderr, (command, refused.stderr)
    assert left_overs(box) == [[], [], [], []]


def test_unknown_capabilities_and_calls_are_passed_over_as_runc_does(box):
    box.config["process"]["capabilities"]["bounding"].append("CAP_STEER")
    box.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["set_sail", "ptrace"], "action": "SCMP_ACT_ERRNO"}]}
    code, _, error = box.once("true")
    assert code == 0 and "process.capabilities.bounding[3]" in error and "CAP_STEER" in error


def test_commands_in_the_wrong_state(box):
    def refused(words, told):
        made = box.runf(*words)
        assert made.returncode == (255 if words[0] == "exec" else 1) and told in made.stderr, (words, made.stderr)

    for command in ("start", "state", "kill", "delete", "pause", "resume", "update", "events", "ps"):
        refused((command, "ghost"), "container does not exist")
    refused(("exec", "ghost", "true"), "container does not exist")
    box.done("delete", "--force", "ghost")
    box.config["process"]["args"] = ["sleep", "1000"]
    box.write()
    box.detached("create", "one")
    box.ids.add("one")
    refused(("resume", "one"), "container not paused")
    refused(("create", "one"), "container with id exists")
    box.done("start", "one")
    refused(("start", "one"), "cannot start an already running container")
    refused(("delete", "one"), "that is not stopped: running")
    refused(("run", "one"), "container with id exists")
    box.done("pause", "one")
    assert json.loads(box.done("state", "one"))["status"] == "paused"
    refused(("exec", "one", "true"), "cannot exec in a paused container")
    refused(("pause", "one"), "container not running or created: paused")
    refused(("delete", "one"), "that is not stopped: paused")
    refused(("start", "one"), "cannot start an already running container")
    box.done("resume", "one")
    pid = json.loads(box.done("state", "one"))["pid"]
    box.done("kill", "one", "KILL")
    wait_gone(pid)
    for words, told in ((("start", "one"), "cannot start a container that has stopped"),
                        (("exec", "one", "true"), "cannot exec in a stopped container"),
                        (("kill", "one"), "container not running"), (("pause", "one"), "container not running or created"),
                        (("update", "--pids-limit", "7", "one"), "container not running"),
                        (("events", "one"), "is not running"), (("run", "one"), "container with id exists")):
        refused(words, told)
    box.done("delete", "one")
    box.ids.discard("one")
    assert left_overs(box) == [[], [], [], []]


def test_bad_options(box):
    box.start()
    for words, told in ((("kill", "one", "SIGSINK"), "unknown signal \"SIGSINK\""),
                        (("kill", "one", "65"), "unknown signal \"65\""),
                        (("list", "-f", "yaml"), "invalid format option"), (("ps", "-f", "yaml", "one"), "invalid format option"),
                        (("update", "--memory", "lots", "one"), "option --memory: \"lots\""),
                        (("update", "-r", "/no/such", "one"), "/no/such"),
                        (("exec", "--user", "x", "one", "true"), "option --user: \"x\""),
                        (("exec", "--cwd", "tmp", "one", "true"), "process.cwd: \"tmp\""),
                        (("exec", "one"), "exec args cannot be empty"),
                        (("exec", "-p", "/no/such", "one"), "/no/such"),
                        (("state",), "expected: runf state CONTAINER"), (("state", "one", "two"), "expected: runf state"),
                        (("--log-format", "xml", "list"), "option --log-format: \"xml\""),
                        (("--sails", "list"), "option --sails: unknown"), (("create", "--bundle"), "expected a value"),
                        (("create", "-b", "/no/such", "two"), "option --bundle"),
                        (("run", "--console-socket", "/x", "two"), "console socket")):
        made = box.runf(*words)
        error = made.stderr.replace('\\"', '"')
        assert made.returncode == (255 if words[0] == "exec" else 1) and told in error, (words, made.stderr)
    assert json.loads(box.done("state", "one"))["status"] == "running"


def test_it_asks_the_processor_nothing_when_it_starts():
    """As the C library's own start does, at some 10 µs a question in a virtual machine (src/cmd/runf/start.cc)."""
    if os.uname().machine != "x86_64" or os.confstr("CS_GNU_LIBC_VERSION") != "glibc 2.36":
        pytest.skip("another machine or C library: it starts us itself")
    with open(RUNF, "rb") as file:
        assert b"intel_check_word" not in file.read()


# The service manager ---------------------------------------------------------------------------------------------------------

SPEAKER = """
import os, socket, sys, time
assert os.environ["NOTIFY_SOCKET"] == "/run/notify/notify.sock", os.environ
def say(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.connect(os.environ["NOTIFY_SOCKET"])
        to.send(text.encode())
say("STATUS=warming up\\nMAINPID=1\\nFDSTORE=1")
say("READY=1\\nSTATUS=up")
time.sleep(float(sys.argv[1]))
try:
    open("/run/notify/mine", "w")
except OSError as error:
    say(f"STATUS={error.strerror}")
"""


class Manager:
    """What systemd is to a service: NOTIFY_SOCKET, and whoever sent something may go on once its barrier was seen."""

    def __init__(self, folder):
        self.path = folder + "/manager"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(30)

    def hear(self):
        data, fds, _, _ = socket.recv_fds(self.socket, 4096, 4)
        for fd in fds:
            os.close(fd)
        return data.decode()


@pytest.fixture
def manager(box):
    made = Manager(os.path.dirname(box.root))
    box.config["root"] = {"path": "/", "readonly": True}  # with a python
    box.config["process"]["user"] = {"uid": 65534, "gid": 65534}
    box.config["mounts"].append({"destination": "/run", "type": "tmpfs", "source": "tmpfs"})
    yield made
    made.socket.close()


def speaking(box, manager, *words, args=(), seconds=0):
    box.config["process"]["args"] = list(args) or ["/usr/bin/python3", "-c", SPEAKER, str(seconds)]
    box.write()
    return subprocess.Popen([RUNF, "--root", box.root, *words], stdin=subprocess.DEVNULL, cwd=box.bundle,
                            env={**os.environ, "NOTIFY_SOCKET": manager.path})


def test_a_program_in_the_foreground_speaks_to_the_service_manager(box, manager):
    with speaking(box, manager, "run", "one") as run:
        assert [manager.hear() for _ in range(3)] == [
            "STATUS=warming up\n", "READY=1\nSTATUS=up\n", "STATUS=Read-only file system\n"]
    assert run.returncode == 0


LAST_WORDS = """
import os, socket, sys, time
to = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
to.connect(os.environ["NOTIFY_SOCKET"])
to.send(b"READY=1")
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
for i in range(6):
    to.send(b"STATUS=%d" % i)
"""


def test_what_a_program_said_before_its_end_is_passed_on(box, manager):
    """Also where nobody has looked before it had ended."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        mark = folder + "/mark"
        with speaking(box, manager, "run", "one", args=["/usr/bin/python3", "-c", LAST_WORDS, mark]) as run:
            assert manager.hear() == "READY=1\n"
            program = os.pidfd_open(box.state("one")["pid"])
            os.kill(run.pid, signal.SIGSTOP)
            try:
                with open(mark, "w", encoding="utf-8"):
                    pass
                assert select.select([program], [], [], 60)[0] == [program]
            finally:
                os.close(program)
                os.kill(run.pid, signal.SIGCONT)
            assert [manager.hear() for _ in range(6)] == [f"STATUS={i}\n" for i in range(6)]
        assert run.returncode == 0


def test_who_does_not_stay_waits_until_the_program_is_ready(box, manager):
    box.ids.add("one")
    with speaking(box, manager, "run", "-d", "one", seconds=1000) as run:
        assert [manager.hear() for _ in range(2)] == ["STATUS=warming up\n", "READY=1\nSTATUS=up\n"]
        pid = json.loads(box.done("state", "one"))["pid"]
        assert [manager.hear() for _ in range(2)] == [f"MAINPID={pid}\n", "BARRIER=1"]
    assert run.returncode == 0
    box.done("delete", "-f", "one")


def test_a_start_waits_for_ready_and_lets_others_delete(box, manager):
    box.ids.add("one")
    with speaking(box, manager, "create", "one", seconds=1000) as create:
        pass
    assert create.returncode == 0
    environment = {**os.environ, "NOTIFY_SOCKET": manager.path}
    with subprocess.Popen([RUNF, "--root", box.root, "start", "one"], env=environment) as start:
        heard = [manager.hear() for _ in range(4)]
    assert start.returncode == 0 and heard[1] == "READY=1\nSTATUS=up\n" and heard[3] == "BARRIER=1"
    box.done("delete", "-f", "one")
    # One that never gets ready.
    with speaking(box, manager, "create", "one", args=["/bin/sleep", "1000"]) as create:
        pass
    assert create.returncode == 0
    with subprocess.Popen([RUNF, "--root", box.root, "start", "one"], env=environment) as start:
        harness.wait_for(lambda: json.loads(box.done("state", "one"))["status"] == "running", "the start")
        assert start.poll() is None
        box.done("delete", "-f", "one")
    assert start.returncode == 0


def test_an_address_that_is_none_is_refused(box):
    done = box.runf("run", "one", env={**os.environ, "NOTIFY_SOCKET": "relative"})
    assert done.returncode == 1 and "relative" in done.stderr and "expected a path, or a name" in done.stderr
    assert not os.path.exists(box.root + "/one")
