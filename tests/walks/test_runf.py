"""runf as callers of runc use it: the real program, a busybox bundle, a state folder of its own."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import harness
import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

RUNF = os.path.join(harness.BIN, "runf")
GROUP = "/fluyt-walk-runf"


class Box:
    """A bundle, and runf with its own --root."""

    def __init__(self, folder):
        self.bundle, self.root = folder + "/bundle", folder + "/state"
        rootfs = self.bundle + "/rootfs"
        for name in ("bin", "etc", "tmp", "proc", "sys", "dev"):
            os.makedirs(rootfs + "/" + name)
        shutil.copy("/bin/busybox", rootfs + "/bin/busybox")
        for name in ("sh", "cat", "env", "echo", "sleep", "true", "false", "id", "grep", "mkdir", "pwd", "head", "kill"):
            os.symlink("busybox", rootfs + "/bin/" + name)
        with open(rootfs + "/etc/passwd", "w", encoding="utf-8") as file:
            file.write("root:x:0:0::/root:/bin/sh\n")
        self.done("spec", "-b", self.bundle)
        with open(self.bundle + "/config.json", encoding="utf-8") as file:
            self.config = json.load(file)
        self.config["process"]["terminal"] = False
        self.config["linux"]["cgroupsPath"] = f"{GROUP}/{os.path.basename(folder)}"
        self.ids = set()

    def write(self):
        with open(self.bundle + "/config.json", "w", encoding="utf-8") as file:
            json.dump(self.config, file)

    def runf(self, *words, **more):
        more.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run([RUNF, "--root", self.root, *words], check=False, capture_output=True, text=True,
                              timeout=60, cwd=self.bundle, **more)

    def done(self, *words, **more):
        made = self.runf(*words, **more)
        assert made.returncode == 0, (words, made.stdout, made.stderr)
        return made.stdout

    def start(self, name="one", args=("sleep", "1000")):
        """A detached container of the configuration as it now is."""
        self.config["process"]["args"] = list(args)
        self.write()
        self.ids.add(name)
        self.detached("run", "-d", name)
        return json.loads(self.done("state", name))["pid"]

    def detached(self, *words):
        # Its outputs must not be pipes of ours: we would wait for the end of what it starts.
        made = subprocess.run([RUNF, "--root", self.root, "--log", self.bundle + "/log", *words], check=False,
                              cwd=self.bundle, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, timeout=60)
        with open(self.bundle + "/log", encoding="utf-8") as log:
            assert made.returncode == 0, log.read()

    def once(self, args, name="once"):
        """(status, output, error) of a container run to its end."""
        self.config["process"]["args"] = list(args)
        self.write()
        made = self.runf("run", name)
        return made.returncode, made.stdout, made.stderr

    def cgroups(self):
        return sorted(folder for top in harness.cgroup_tops() for folder in [top + self.config["linux"]["cgroupsPath"]]
                      if os.path.isdir(folder))

    def close(self):
        for name in self.ids:
            self.runf("delete", "--force", name)
        assert self.cgroups() == []
        for top in harness.cgroup_tops():
            if os.path.isdir(top + GROUP):
                os.rmdir(top + GROUP)


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
    code, _, error = box.once(["no-such"])
    assert code == 1 and "executable file not found in $PATH" in error
    code, _, error = box.once(["/no/such"])
    assert code == 1 and "no such file or directory" in error
    code, _, error = box.once(["/etc/passwd"])
    assert code == 1 and "permission denied" in error
    with open(box.bundle + "/rootfs/bin/odd", "w", encoding="utf-8") as file:
        file.write("#!/no/interpreter\n")
    os.chmod(box.bundle + "/rootfs/bin/odd", 0o755)
    code, _, error = box.once(["/bin/odd"])
    assert code == 1 and "exec /bin/odd: no such file or directory" in error
    box.start()
    refused = box.runf("exec", "one", "/bin/odd")
    assert refused.returncode == 255 and "exec /bin/odd: no such file or directory" in refused.stderr


def test_output_through_a_terminal_has_no_carriage_returns(box):
    box.config["process"]["terminal"] = True
    assert box.once(["echo", "ship"])[1] == "ship\n"


def test_warnings_are_log_lines(box):
    box.config["process"]["capabilities"]["inheritable"] = ["CAP_KILL"]
    box.config["process"]["capabilities"]["ambient"] = ["CAP_KILL", "CAP_CHOWN"]
    code, _, error = box.once(["true"])
    assert code == 0 and "level=warning" in error and "can't raise ambient capability CAP_CHOWN: " in error


def test_exec_cap_is_ambient_only_beside_inheritable_ones(box):
    capabilities = box.config["process"]["capabilities"]
    box.start("bare")
    status = box.done("exec", "--cap", "CAP_SYSLOG", "bare", "cat", "/proc/self/status")
    assert "CapInh:\t0000000000000000" in status and "CapAmb:\t0000000000000000" in status
    assert "CapEff:\t0000000420000420" in status
    box.done("delete", "-f", "bare")
    capabilities["bounding"].append("CAP_SYSLOG")
    capabilities["inheritable"] = ["CAP_SYSLOG"]
    box.start("heir")
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
    code, _, error = box.once(["true"], "two")
    assert code == 1 and "container's cgroup is not empty" in error
    assert json.loads(box.done("state", "one"))["status"] == "running"


def test_events_are_lines_of_json(box):
    box.config["linux"]["resources"] = {"memory": {"limit": 64 << 20}}
    box.start()
    line = json.loads(box.done("events", "--stats", "one"))
    assert line["type"] == "stats" and line["id"] == "one"
    assert set(line["data"]) >= {"cpu", "memory", "pids", "blkio", "hugetlb"}
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


def test_a_creation_cut_short_is_deleted_with_all_that_it_made(box):
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


def test_a_plain_run_tells_its_end_and_is_on_record_while_it_runs(box):
    code, _, error = box.once(["/bin/missing"], "missing")
    assert code == 1 and "/bin/missing" in error
    assert box.once(["sh", "-c", "exit 7"])[0] == 7
    assert os.listdir(box.root) == []
    box.start("plain")
    assert json.loads(box.done("state", "plain"))["status"] == "running"
    assert box.done("exec", "plain", "echo", "hi") == "hi\n"
