"""runf where things go wrong, or happen at once: what is not the container's stays as it is, and what is does not stay."""

import contextlib
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import tempfile
import time

import bundle
import harness
import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

RUNF = os.path.join(harness.BIN, "runf")
GROUP = f"/fluyt-walk-runf-faults-{os.getpid()}"  # others may run these walks at the same time


@pytest.fixture
def box(tmp_path):
    made = bundle.Box(RUNF, GROUP, str(tmp_path), folders=("proc", "sys", "dev"))
    yield made
    made.close()


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def in_background(box, *words, **more):
    more.setdefault("stdin", subprocess.DEVNULL)
    more.setdefault("stdout", subprocess.DEVNULL)
    more.setdefault("stderr", subprocess.DEVNULL)
    return subprocess.Popen([RUNF, "--root", box.root, *words], cwd=box.bundle, **more)


@contextlib.contextmanager
def stranger(place):
    """Somebody else's process in the cgroup `place`, which is made for it with its parents; none where it does not get in."""
    os.makedirs(place)
    sleeper = subprocess.Popen(["sleep", "1000"])
    try:
        with open(place + "/cgroup.procs", "w", encoding="ascii") as procs:
            procs.write(str(sleeper.pid))
        yield sleeper
    except OSError:  # a cpuset without processors
        yield None
    finally:
        sleeper.kill()
        sleeper.wait()
        harness.wait_for(lambda: removed(place), f"{place} to be empty")


def removed(place):
    try:
        os.rmdir(place)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def without_pid_namespace(box):
    spaces = box.config["linux"]["namespaces"]
    spaces[:] = [space for space in spaces if space["type"] != "pid"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_cgroup_with_processes_below_is_refused(box, fails):
    if fails:
        box.config["linux"]["sysctl"] = {"net.no-such": "1"}
    seen = 0
    for number, top in enumerate(harness.cgroup_tops()):
        place = top + box.config["linux"]["cgroupsPath"]
        with stranger(place + "/child") as sleeper:
            if sleeper is not None:
                code, _, error = box.once("true", name=f"over{number}")
                assert code == 1 and (fails or "container's cgroup is not empty" in error), error
                assert sleeper.poll() is None and os.path.isdir(place + "/child")
                seen += 1
        os.rmdir(place)
    assert seen > 0


@pytest.mark.parametrize("own_pids", [True, False])
@pytest.mark.parametrize("verb", [("delete", "one"), ("delete", "-f", "one"), ("kill", "one", "KILL"), ("kill", "--all", "one", "KILL")])
def test_a_stopped_container_has_no_claim_on_who_is_in_its_cgroup_now(box, own_pids, verb):
    if not own_pids:
        without_pid_namespace(box)
    first = box.start(name="one")
    os.kill(first, signal.SIGKILL)
    harness.wait_for(lambda: gone(first), "the first to end")
    second = box.start(name="two")
    made = box.call(*verb)
    assert box.state("two")["status"] == "running" and not gone(second)
    if verb[0] == "delete":
        assert made.returncode == 0 and "the cgroup stays" in made.stderr and not os.path.exists(box.root + "/one")
    else:
        assert made.returncode == (0 if "--all" in verb else 1)
    box.done("delete", "-f", "two")


def test_a_container_below_anothers_cgroup_outlives_its_delete(box):
    without_pid_namespace(box)
    path = box.config["linux"]["cgroupsPath"]
    box.start(name="one")
    box.config["linux"]["cgroupsPath"] = path + "/below"
    below = box.start(name="two")
    box.config["linux"]["cgroupsPath"] = path
    refused = box.call("delete", "-f", "one")
    assert refused.returncode == 1 and path + "/below" in refused.stderr and "another container's" in refused.stderr
    assert box.state("one")["status"] == "running" and not gone(below)
    box.done("delete", "-f", "two")
    box.done("delete", "-f", "one")
    assert box.cgroups() == []


def test_a_late_delete_leaves_the_next_of_the_name(box, tmp_path):
    """The second of two deletes waits for the first; by the time that it gets its turn the name is another container's."""
    mark = str(tmp_path / "mark")
    box.config["hooks"] = {"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", f"touch {mark}; while [ -e {mark} ]; do sleep 0.02; done"]}]}
    box.start(name="name")
    first = in_background(box, "delete", "-f", "name")
    try:
        harness.wait_for(lambda: os.path.exists(mark), "the hook")
        # The name is free while the hook runs.
        assert box.call("delete", "name").returncode == 1
        box.done("delete", "-f", "name")
        del box.config["hooks"]
        box.start(name="name")
        second = in_background(box, "delete", "name")
        assert second.wait(60) == 1
    finally:
        if os.path.exists(mark):
            os.unlink(mark)
        assert first.wait(60) == 0
    assert box.state("name")["status"] == "running"


def test_the_end_of_a_run_leaves_the_next_of_the_name(box):
    box.write(("sleep", "1000"))
    box.ids.add("name")
    run = in_background(box, "run", "name")
    try:
        harness.wait_for(lambda: box.call("state", "name").returncode == 0 and box.state("name")["status"] == "running", "it to run")
        os.kill(run.pid, signal.SIGSTOP)
        box.done("delete", "-f", "name")
        second = box.start(name="name")
    finally:
        os.kill(run.pid, signal.SIGCONT)
    assert run.wait(60) == 128 + signal.SIGKILL
    assert box.state("name")["status"] == "running" and not gone(second)


@pytest.mark.parametrize("kind", ["startContainer", "poststart"])
def test_a_forced_delete_does_not_wait_for_hooks(box, tmp_path, kind):
    mark = str(tmp_path / "mark")
    # One in the container, which ends with it, and one on the host.
    wait = "sleep 1000" if kind == "startContainer" else f"touch {mark}; while [ -e {mark} ]; do sleep 0.02; done"
    box.config["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", wait]}]}
    box.write(("sleep", "1000"))
    box.ids.add("slow")
    box.detached("create", "slow")
    start = in_background(box, "start", "slow")
    try:
        harness.wait_for(lambda: box.state("slow")["status"] == "running", "it to be started")
        if kind == "poststart":
            harness.wait_for(lambda: os.path.exists(mark), "the hook")
        began = time.monotonic()
        box.done("delete", "-f", "slow")
        assert time.monotonic() - began < 8
        assert not os.path.exists(box.root + "/slow") and box.cgroups() == []
    finally:
        if os.path.exists(mark):
            os.unlink(mark)
        start.wait(60)


def test_update_leaves_the_devices_that_others_allowed(box):
    top = next((top for top in harness.cgroup_tops() if os.path.exists(top + "/devices.allow")), None)
    if top is None:
        pytest.skip("no v1 devices controller")
    box.start()
    place = top + box.config["linux"]["cgroupsPath"]
    with open(place + "/devices.allow", "w", encoding="ascii") as file:
        file.write("c 195:* rw")
    resources = box.bundle + "/resources.json"
    with open(resources, "w", encoding="utf-8") as file:
        json.dump({"cpu": {"shares": 512}, "devices": [{"allow": False, "access": "rwm"}]}, file)
    box.done("update", "-r", resources, "one")
    with open(place + "/devices.list", encoding="ascii") as file:
        assert "c 195:* rw" in file.read()
    cpu = next(top for top in harness.cgroup_tops() if os.path.exists(top + box.config["linux"]["cgroupsPath"] + "/cpu.shares"))
    with open(cpu + box.config["linux"]["cgroupsPath"] + "/cpu.shares", encoding="ascii") as file:
        assert file.read().strip() == "512"


@pytest.mark.parametrize("words", [("--pid-file", "/no/such/file"), ("--pidfd-socket", "/no/such/socket")])
@pytest.mark.parametrize("detach", [("-d",), ()])
def test_an_exec_that_fails_late_leaves_no_process(box, words, detach):
    box.start()
    refused = box.call("exec", *detach, *words, "one", "sleep", "1002")
    assert refused.returncode == 255 and "/no/such" in refused.stderr
    assert len(json.loads(box.done("ps", "--format", "json", "one"))) == 1


def test_a_create_that_fails_late_has_the_hooks_of_an_end(box, tmp_path):
    said = str(tmp_path / "said")
    box.config["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"echo {kind} >> {said}"]}]
                           for kind in ("createRuntime", "poststop")}
    box.write(("sleep", "1000"))
    refused = box.call("create", "--pid-file", "/no/such/file", "late")
    assert refused.returncode == 1 and "--pid-file" in refused.stderr
    with open(said, encoding="utf-8") as file:
        assert file.read().split() == ["createRuntime", "poststop"]
    assert os.listdir(box.root) == [] and box.cgroups() == []


def hanging(mark):
    """A hook that says in `mark` that it is there and goes on for ever; what it is called in /proc."""
    seconds = f"86401.{os.getpid()}"
    return [{"path": "/bin/sh", "args": ["sh", "-c", f"touch {mark}; exec sleep {seconds}"]}], f"sleep\0{seconds}\0"


def lives(name):
    def is_it(pid):
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                return file.read() == name
        except OSError:  # it has just ended
            return False

    return any(is_it(pid) for pid in os.listdir("/proc") if pid.isdigit())


@pytest.mark.parametrize("own_pids", [True, False])
@pytest.mark.parametrize("words,kind", [(("run",), "prestart"), (("run",), "createRuntime"), (("run",), "createContainer"),
                                        (("run",), "startContainer"), (("run",), "poststart"), (("run", "-d"), "startContainer"),
                                        (("create",), "createRuntime"), (("create",), "createContainer")])
def test_a_signal_while_a_hook_hangs_undoes_the_container(box, tmp_path, words, kind, own_pids):
    at, said, number = str(tmp_path / "at"), str(tmp_path / "said"), signal.SIGTERM if own_pids else signal.SIGINT
    if not own_pids:
        box.config["linux"]["namespaces"] = [space for space in box.config["linux"]["namespaces"] if space["type"] != "pid"]
    box.config["root"]["readonly"] = False
    hooks, name = hanging("/tmp/at" if kind == "startContainer" else at)
    box.config["hooks"] = {kind: hooks, "poststop": [{"path": "/bin/sh", "args": ["sh", "-c", f"touch {said}"]}]}
    box.write(("sleep", "1000"))
    # Who is started with & ignores SIGINT, and so does what it starts.
    run = in_background(box, *words, "asked", stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    try:
        harness.wait_for(lambda: os.path.exists(box.rootfs + "/tmp/at" if kind == "startContainer" else at) and lives(name), "the hook")
        run.send_signal(number)
        assert run.wait(60) == 128 + number and "given up" in run.stderr.read()
    finally:
        run.kill()
        run.communicate()
    assert os.path.exists(said) and os.listdir(box.root) == [] and box.cgroups() == []
    harness.wait_for(lambda: not lives(name), "the hook to be gone")
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        assert box.bundle not in mounts.read()


def test_a_poststop_hook_that_hangs_has_a_while_left_after_a_signal(box, tmp_path):
    at = str(tmp_path / "at")
    box.config["hooks"] = {"poststop": hanging(at)[0]}
    box.write(("true",))
    run = in_background(box, "run", "ended", stderr=subprocess.PIPE, text=True)
    try:
        harness.wait_for(lambda: os.path.exists(at), "the hook")
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 0 and "hooks.poststop[0]" in run.stderr.read()
    finally:
        run.kill()
        run.communicate()
    assert os.listdir(box.root) == [] and box.cgroups() == []


def test_a_signal_that_a_run_was_started_to_ignore_does_not_end_it(box, tmp_path):
    at = str(tmp_path / "at")
    box.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", f"touch {at}; while [ -e {at} ]; do sleep 0.02; done"]}]}
    box.write(("true",))
    run = in_background(box, "run", "deaf", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    try:
        harness.wait_for(lambda: os.path.exists(at), "the hook")
        run.send_signal(signal.SIGHUP)
        os.unlink(at)
        assert run.wait(60) == 0
    finally:
        run.kill()
        run.wait()


def test_a_terminal_passes_on_more_than_it_holds(box):
    """Input beyond what a pty holds, while the program waits for its output to be read."""
    box.config["process"]["terminal"] = True
    box.write(("sh", "-c", "stty -echo; echo ready; exec cat"))
    box.ids.add("terminal")
    run = in_background(box, "run", "terminal", stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    lines = b"".join(b"%06d of the cargo, stowed below decks and sealed\n" % i for i in range(20_000))
    try:
        assert run.stdout.readline() == b"ready\n"
        assert run.communicate(lines + b"\x04", timeout=60)[0] == lines and run.returncode == 0
    finally:
        run.kill()
        run.wait()


def test_an_output_that_does_not_block_gets_all(box):
    box.config["process"]["terminal"] = True
    box.write(("sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo $i of the cargo; i=$((i+1)); done"))
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    box.ids.add("terminal")
    run = in_background(box, "run", "terminal", stdout=writer)
    got = b""
    try:
        # It finds the pipe full before anybody reads.
        harness.wait_for(lambda: select.select([], [writer], [], 0)[1] == [], "the pipe to be full")
        os.close(writer)
        while chunk := os.read(reader, 1 << 16):
            got += chunk
        assert run.wait(60) == 0
    finally:
        run.kill()
        run.wait()
        os.close(reader)
    assert got.splitlines()[-1] == b"19999 of the cargo" and got.count(b"\n") == 20000


def test_an_exec_by_file_is_confined_as_its_container(box):
    process = box.config["process"]
    process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99}]
    process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
    process["oomScoreAdj"] = 321
    box.start()
    told = box.bundle + "/process.json"
    with open(told, "w", encoding="utf-8") as file:
        json.dump({"args": ["sh", "-c", "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; grep CapBnd /proc/self/status"], "cwd": "/",
                   "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}, file)
    lines = box.done("exec", "--process", told, "one").split()
    assert lines[:3] == ["77", "99", "321"] and lines[4] == "0000000020000420"
    with open(told, "w", encoding="utf-8") as file:
        json.dump({"args": ["sh", "-c", "ulimit -n"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
                   "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 55, "hard": 66}]}, file)
    assert box.done("exec", "--process", told, "one").split() == ["55"]


def test_a_container_without_namespaces_takes_an_exec(box):
    box.config["linux"]["namespaces"] = []
    box.config["mounts"] = []
    for key in ("maskedPaths", "readonlyPaths"):
        box.config["linux"].pop(key, None)
    box.config.pop("hostname", None)
    box.start()
    assert box.done("exec", "one", "echo", "aboard") == "aboard\n"


def test_kill_all_without_a_cgroup_is_a_kill(box):
    box.write(("sleep", "1000"))
    box.ids.add("bare")
    made = subprocess.run([RUNF, "--root", box.root, "--cgroup-manager", "disabled", "--log", box.bundle + "/log", "run", "-d", "bare"], check=False,
                          cwd=box.bundle, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
    assert made.returncode == 0
    pid = box.state("bare")["pid"]
    box.done("kill", "--all", "bare", "KILL")
    harness.wait_for(lambda: gone(pid), "it to end")


def test_kill_all_succeeds_though_one_cannot_die_yet(box):
    """As in a device's driver: here what lies above is frozen, which the container's own cgroup cannot thaw."""
    top = next((top for top in harness.cgroup_tops() if os.path.basename(top) == "freezer"), None)
    if top is None:
        pytest.skip("no v1 freezer")
    pid = box.start()
    frozen = top + GROUP + "/freezer.state"

    def put(state):
        with open(frozen, "w", encoding="ascii") as file:
            file.write(state)
    put("FROZEN")
    try:
        killed = box.call("kill", "--all", "one", "KILL")
        assert killed.returncode == 0 and "not gone yet" in killed.stderr, killed.stderr
        assert not gone(pid)
    finally:
        put("THAWED")
    harness.wait_for(lambda: gone(pid), "it to end")


def test_an_exec_by_file_that_does_not_say_has_no_new_privileges(box):
    box.start()
    process = {"args": ["grep", "NoNewPrivs", "/proc/self/status"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
    for said, value in ((None, "1"), (False, "0")):
        if said is not None:
            process["noNewPrivileges"] = said
        with open(box.bundle + "/process.json", "w", encoding="utf-8") as file:
            json.dump(process, file)
        assert box.done("exec", "-p", box.bundle + "/process.json", "one").split() == ["NoNewPrivs:", value]


def test_a_socket_that_is_not_there_is_told_by_its_option(box):
    refused = box.call("run", "--pidfd-socket", box.bundle + "/none", "unheard")
    assert refused.returncode == 1 and "option --pidfd-socket" in refused.stderr and "console" not in refused.stderr
    assert box.cgroups() == []
    box.start()
    refused = box.call("exec", "--pidfd-socket", box.bundle + "/none", "one", "sleep", "9")
    assert refused.returncode == 255 and "option --pidfd-socket" in refused.stderr


def test_a_log_file_takes_no_descriptor_from_anybody(box):
    log = box.bundle + "/log"
    few = subprocess.run([RUNF, "--root", box.root, "--log", log, "state", "nobody"], check=False, capture_output=True, text=True, timeout=60,
                         preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100)))  # pylint: disable=subprocess-popen-preexec-fn
    assert few.returncode == 1
    with open(log, encoding="utf-8") as file:
        assert "does not exist" in file.read()
    box.write(("ls", "-l", "/proc/self/fd"))
    many = box.call("--log", log, "run", "--preserve-fds", "300", "many")
    assert many.returncode == 0 and "log" not in many.stdout, many.stdout


def test_the_state_root_below_the_runtime_directory_is_sticky(box, tmp_path):
    runtime_dir = tmp_path / "runtime"
    runtime_dir.mkdir(mode=0o700)
    box.write(("true",))
    for root, mode in ((runtime_dir / "deep" / "runf", 0o1700), (tmp_path / "other", 0o700)):
        made = subprocess.run([RUNF, "--root", str(root), "run", "brief"], check=False, capture_output=True, text=True, timeout=60, cwd=box.bundle,
                              env={**os.environ, "XDG_RUNTIME_DIR": str(runtime_dir)}, stdin=subprocess.DEVNULL)
        assert made.returncode == 0, made.stderr
        assert os.stat(root).st_mode & 0o7777 == mode


def test_annotations_that_set_a_units_properties_are_said_to_be_unsafe(box):
    assert json.loads(box.done("features"))["potentiallyUnsafeConfigAnnotations"] == ["org.systemd.property."]


def test_schemata_that_are_refused_change_no_limit(box):
    """They are written first: what a limit was before is put back only where a limit is refused."""
    if os.path.exists("/sys/fs/resctrl/schemata"):
        pytest.skip("the class would have to be one of the machine's")
    box.config["linux"]["resources"] = {"pids": {"limit": 50}}
    box.start()
    kept = box.root + "/one/config.json"
    with open(kept, encoding="utf-8") as file:
        config = json.load(file)
    config["linux"]["intelRdt"] = {"closID": "none-of-this-name"}
    with open(kept, "w", encoding="utf-8") as file:
        json.dump(config, file)
    refused = box.call("update", "--l3-cache-schema", "L3:0=f", "--pids-limit", "77", "one")
    assert refused.returncode == 1 and "intelRdt" in refused.stderr, refused.stderr
    place = next(place for place in box.cgroups() if os.path.exists(place + "/pids.max"))
    with open(place + "/pids.max", encoding="ascii") as file:
        assert file.read().strip() == "50"


def test_schemata_without_a_class_are_refused(box):
    box.start()
    for option in ("--l3-cache-schema", "--mem-bw-schema"):
        refused = box.call("update", option, "L3:0=f", "one")
        assert refused.returncode == 1 and "made without linux.intelRdt" in refused.stderr


def test_descriptors_of_another_process_are_not_listened_on(box):
    box.write(("sh", "-c", "echo fds=$LISTEN_FDS pid=$LISTEN_PID; ls /proc/self/fd"))
    env = {**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": "1"}
    made = box.call("run", "ears", env=env)
    assert made.returncode == 0 and made.stdout.startswith("fds= pid=\n"), made.stdout
    # What is ours is passed on: the shell is the process that becomes runf.
    made = subprocess.run(["sh", "-c", f'LISTEN_FDS=1 LISTEN_PID=$$ exec "{RUNF}" --root "{box.root}" run ears 3</dev/null'], check=False,
                          cwd=box.bundle, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert made.returncode == 0 and made.stdout.startswith("fds=1 pid=1\n") and "3" in made.stdout.split()[2:], (made.stdout, made.stderr)


@pytest.mark.parametrize("user", [None, "root"])
def test_root_of_a_user_namespace_is_not_the_hosts(box, user):
    """Somebody else has made the namespace: no cgroups unless asked for, the host's nodes bound, a state folder of the caller's."""
    folder = tempfile.mkdtemp(prefix="fluyt-walk-", dir="/tmp")
    try:
        shutil.copytree(box.bundle, folder + "/bundle", symlinks=True)
        os.mkdir(folder + "/run")
        config = json.loads(json.dumps(box.config))
        config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] == "/dev"]
        linux = config["linux"]
        for key in ("cgroupsPath", "resources", "maskedPaths", "readonlyPaths"):
            linux.pop(key, None)
        linux["namespaces"] = [space for space in linux["namespaces"] if space["type"] in ("mount", "pid", "uts")]
        config["process"]["args"] = ["sh", "-c", "echo x > /dev/null && sleep 0 && stat -c %t:%T /dev/null /dev/tty"]
        with open(folder + "/bundle/config.json", "w", encoding="utf-8") as file:
            json.dump(config, file)
        subprocess.run(["chown", "-R", "65534:65534", folder], check=True)
        env = {name: value for name, value in os.environ.items() if name != "USER"}
        env["XDG_RUNTIME_DIR"] = folder + "/run"
        if user is not None:
            env["USER"] = user
        made = subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "unshare", "-Urm", RUNF, "run", "inner"],
                              check=False, cwd=folder + "/bundle", env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        if user == "root":
            # Root all the way, as in a container of its own: /run is as good as its own.
            assert made.returncode == 1 and "/run/runf" in made.stderr
        else:
            assert made.returncode == 0 and made.stdout.split() == ["1:3", "5:0"], (made.stdout, made.stderr)
            assert os.path.isdir(folder + "/run/runf")
    finally:
        shutil.rmtree(folder)


IN_A_CHROOT = """
set -e
mount --make-r$2 /
mount --bind $1 $1
for name in proc sys dev; do mkdir -p $1/$name; mount --rbind /$name $1/$name; done
runf() { chroot $1 /runf --root /state "$2" $3 $4 $5 $6 $7 $8; }
cd $1
cat /proc/self/mountinfo > before
runf $1 run -d -b /bundle in >/dev/null 2>&1 </dev/null || echo "no container: $?"
cat /proc/self/mountinfo > meanwhile
runf $1 exec in /bin/ls /
runf $1 exec in /bin/cat /proc/self/mountinfo
runf $1 delete -f in
cat /proc/self/mountinfo > after
"""


@pytest.mark.parametrize("propagation", ["private", "shared"])
@pytest.mark.parametrize("hooked", [False, True])
def test_who_joins_a_container_of_a_chroot_is_in_its_root(box, tmp_path, hooked, propagation):
    """And nothing of what lies above the chroot is left in the container's mounts, nor changed in the host's."""
    tree = str(tmp_path)
    shutil.copy(RUNF, tree + "/runf")
    if hooked:  # they see the root at its path first
        shutil.copy("/bin/busybox", tree + "/busybox")
        box.config["hooks"] = {"createContainer": [{"path": "/busybox", "args": ["true"]}]}
    box.write(("sleep", "1000"))
    done = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", IN_A_CHROOT, "sh", tree, propagation], check=False,
                          capture_output=True, text=True, timeout=60)
    mounts = []
    for name in ("before", "meanwhile", "after"):
        if name != "after" or done.returncode == 0:
            with open(f"{tree}/{name}", encoding="utf-8") as file:
                mounts.append(file.read())
    assert all(those == mounts[0] for those in mounts)
    assert done.returncode == 0, (done.stdout, done.stderr)
    seen = done.stdout.split("\n")
    assert sorted(line for line in seen if line and " " not in line) == sorted(os.listdir(box.rootfs))
    roots = [line for line in seen if " " in line and line.split()[4] == "/"]
    assert len(roots) == 1 and roots[0].split()[3].endswith("/bundle/rootfs")
