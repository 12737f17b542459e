"""Docker with `--add-runtime runf=…`: the docker command, dockerd, its containerd and shim are Debian's."""

import json
import os
import re
import time

import pytest
from peer import IMAGE, RUNF, RUNTIME, SUITE, host_pids, on_terminal, processes, sh, start_daemon, stop_daemon, tail, wait_for

SOCKET = "unix:///run/docker-test.sock"
LOG = "/run/dockerd.log"
STATE = "/run/docker/runtime-runc/moby"  # what dockerd passes as --root, whatever the runtime is called


def docker(*words, **options):
    return sh("docker", "-H", SOCKET, *words, **options)


@pytest.fixture(scope="module", autouse=True)
def daemon(archive):
    command = ["dockerd", "-H", SOCKET, "--data-root", "/var/lib/docker", "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false",
               "--add-runtime", "runf=" + RUNF, "--default-runtime", "runf", "--exec-opt", "native.cgroupdriver=cgroupfs"]
    if SUITE == "bookworm":
        command += ["--oom-score-adjust", "0"]  # the default is lower than one may go without CAP_SYS_RESOURCE
    process = start_daemon(command, LOG)
    try:
        wait_for(lambda: process.poll() is not None or docker("version", code=None).code == 0, "dockerd", 40)
        assert process.poll() is None, tail(LOG)
        docker("load", "-i", archive[0])
        yield
        left = docker("ps", "-aq").out.split()
        if left:
            docker("rm", "-f", *left, code=None)
        assert os.listdir(STATE) == []
    finally:
        stop_daemon(process)
    assert not [line for line in processes().values() if "containerd-shim" in line]


@pytest.fixture
def sleeper(daemon):
    """A container that runs: its id."""
    made = docker("run", "-d", "--network", "none", IMAGE, "sh", "-c",
                  "trap 'echo told; exit 7' TERM; echo begun; while :; do sleep 0.1; done").out.strip()
    wait_for(lambda: "begun" in docker("logs", made).out, "the container's first line")
    yield made
    docker("rm", "-f", made)


def test_it_is_runf_that_runs(daemon):
    info = json.loads(docker("info", "--format", "{{json .}}").out)
    assert info["DefaultRuntime"] == "runf" and info["Runtimes"]["runf"]["path"] == RUNF
    made = docker("run", "-d", "--runtime", "runf", "--network", "none", IMAGE, "sleep", "1000").out.strip()
    try:
        assert made in os.listdir(STATE)
        state = json.loads(sh(RUNF, "--root", STATE, "state", made).out)
        assert state["status"] == "running"
        assert state["pid"] == int(docker("inspect", "-f", "{{.State.Pid}}", made).out)
    finally:
        docker("rm", "-f", made)
    assert made not in os.listdir(STATE)


def test_run_gives_output_and_exit_status(daemon):
    done = docker("run", "--rm", "--network", "none", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 3", code=3)
    assert done.out == "out\n" and done.err == "err\n"


def test_run_reads_standard_input(daemon):
    assert docker("run", "--rm", "-i", "--network", "none", IMAGE, "cat", text="from outside\n").out == "from outside\n"


def test_a_missing_program_is_127_and_one_that_may_not_run_126(daemon):
    done = docker("run", "--rm", "--network", "none", IMAGE, "/no/such", code=127)
    assert "no such file or directory" in done.err
    done = docker("run", "--rm", "--network", "none", IMAGE, "/etc/passwd", code=126)
    assert "permission denied" in done.err


def test_exec(sleeper):
    done = docker("exec", "-e", "WORD=seen", "-w", "/tmp", "-u", "65534:65534", sleeper, "sh", "-c",
                  "echo $WORD $(pwd) $(id -u):$(id -g); exit 5", code=5)
    assert done.out == "seen /tmp 65534:65534\n"
    assert docker("exec", "-i", sleeper, "cat", text="through\n").out == "through\n"
    docker("exec", sleeper, "/no/such", code=126 if SUITE == "bookworm" else 127)  # as it has it with runc


@pytest.mark.skipif(RUNTIME == "rung", reason="it looks with docker top: the host sees rung's processes")
def test_exec_in_the_background(sleeper):
    docker("exec", "-d", sleeper, "sleep", "777")
    wait_for(lambda: "sleep 777" in docker("top", sleeper).out, "the process in docker top")


def test_logs(sleeper):
    assert docker("logs", sleeper).out == "begun\n"
    docker("stop", "-t", "5", sleeper)
    assert docker("logs", sleeper).out == "begun\ntold\n"


def test_stop_lets_it_end_by_itself(sleeper):
    docker("stop", "-t", "10", sleeper)
    assert docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", sleeper).out == "exited 7\n"
    docker("start", sleeper)
    assert docker("inspect", "-f", "{{.State.Status}}", sleeper).out == "running\n"


def test_kill(sleeper):
    docker("kill", sleeper)
    wait_for(lambda: docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", sleeper).out == "exited 137\n",
             "its end")


@pytest.mark.skipif(RUNTIME == "rung", reason="the host sees rung's processes, not the guest kernel's")
def test_top_lists_what_runs(sleeper):
    lines = docker("top", sleeper).out.splitlines()
    assert "PID" in lines[0] and any("sh -c" in line for line in lines[1:])


def test_pause_and_unpause(sleeper):
    docker("pause", sleeper)
    assert docker("inspect", "-f", "{{.State.Status}}", sleeper).out == "paused\n"
    assert "paused" in docker("exec", sleeper, "true", code=None).err
    pid = docker("inspect", "-f", "{{.State.Pid}}", sleeper).out.strip()

    def ticks():
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[11:15]
    before = ticks()
    time.sleep(0.5)
    assert ticks() == before
    docker("unpause", sleeper)
    docker("exec", sleeper, "true")


def read_limit(container, controller, name):
    """A limit as the host's kernel has it."""
    pid = docker("inspect", "-f", "{{.State.Pid}}", container).out.strip()
    with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
        for line in file:
            number, controllers, path = line.strip().split(":", 2)
            if controller in controllers.split(",") or (number == "0" and not controllers
                                                        and os.path.exists("/sys/fs/cgroup/cgroup.controllers")):
                top = "/sys/fs/cgroup" if number == "0" else "/sys/fs/cgroup/" + controllers
                with open(f"{top}{path}/{name}", encoding="ascii") as value:
                    return value.read().strip()
    raise AssertionError(f"no cgroup of {controller}")


def v2():
    return os.path.exists("/sys/fs/cgroup/cgroup.controllers")


def test_limits_and_update(daemon):
    made = docker("run", "-d", "--network", "none", "-m", "64m", "--pids-limit", "20", "--cpus", "0.5", IMAGE, "sleep",
                  "1000").out.strip()
    try:
        memory = "memory.max" if v2() else "memory.limit_in_bytes"
        assert read_limit(made, "memory", memory) == str(64 << 20)
        assert read_limit(made, "pids", "pids.max") == host_pids(20)
        docker("update", "-m", "96m", "--memory-swap", "96m", "--pids-limit", "30", made)
        assert read_limit(made, "memory", memory) == str(96 << 20)
        assert read_limit(made, "pids", "pids.max") == host_pids(30)
        done = docker("exec", made, "sh", "-c", "for i in $(seq 40); do sleep 2 & done; wait", code=None)
        assert "can't fork" in done.err
    finally:
        docker("rm", "-f", made)


def test_one_that_eats_its_memory_is_killed_and_said_to_be(daemon):
    made = docker("run", "-d", "--network", "none", "-m", "16m", "--memory-swap", "16m", IMAGE, "sh", "-c",
                  "tail /dev/zero").out.strip()
    try:
        docker("wait", made)
        assert docker("inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", made).out == "true 137\n"
    finally:
        docker("rm", "-f", made)


def test_init_is_docker_s(daemon):
    done = docker("run", "--rm", "--init", "--network", "none", IMAGE, "sh", "-c", "cat /proc/1/comm; ps -o pid,comm")
    assert done.out.splitlines()[0] in ("docker-init", "tini")


def test_a_terminal(daemon):
    code, shown = on_terminal(["docker", "-H", SOCKET, "run", "--rm", "-it", "--network", "none", IMAGE, "sh"],
                              "stty size; tty; echo got-$((40+2)); exit 9\n")
    assert code == 9 and "got-42" in shown and "/dev/pts/0" in shown


def test_exec_with_a_terminal(sleeper):
    code, shown = on_terminal(["docker", "-H", SOCKET, "exec", "-it", sleeper, "sh"], "test -t 0 && echo got-$((1+1)); exit 4\n")
    assert code == 4 and "got-2" in shown


def test_no_network_but_loopback(daemon):
    out = docker("run", "--rm", "--network", "none", IMAGE, "ip", "-o", "link").out
    assert re.findall(r"^\d+: ([^:@]+)", out, re.M) == ["lo"]


def test_volumes_read_only_root_and_user(daemon, tmp_path):
    (tmp_path / "file").write_text("of the host\n")
    tmp_path.chmod(0o777)
    script = "cat /v/file; touch /v/new 2>&1; touch /new 2>&1; id -u; echo ok > /tmp/t && cat /tmp/t"
    out = docker("run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", "-u", "1234", "-v", f"{tmp_path}:/v:ro",
                 IMAGE, "sh", "-c", script).out
    assert "of the host" in out and out.count("Read-only file system") == 2 and "1234\nok\n" in out


def test_capabilities_seccomp_and_no_new_privileges(daemon):
    script = "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status"
    out = docker("run", "--rm", "--network", "none", "--cap-drop", "ALL", "--cap-add", "NET_RAW", "--security-opt",
                 "no-new-privileges", IMAGE, "sh", "-c", script).out.split()
    assert out == ["CapEff:", "0000000000002000", "NoNewPrivs:", "1", "Seccomp:", "2"]


def test_privileged(daemon):
    out = docker("run", "--rm", "--privileged", "--network", "none", IMAGE, "sh", "-c",
                 "mount -t tmpfs t /mnt 2>/dev/null || { mkdir -p /mnt; mount -t tmpfs t /mnt; } && echo mounted; "
                 "grep Seccomp: /proc/self/status").out
    assert "mounted" in out and out.split()[-1] == "0"


def test_restart_keeps_the_container_s_files(sleeper):
    docker("exec", sleeper, "sh", "-c", "echo kept > /root/file")
    docker("restart", "-t", "1", sleeper)
    assert docker("exec", sleeper, "cat", "/root/file").out == "kept\n"


def test_files_go_in_and_out_and_are_told(sleeper, tmp_path):
    """cp, diff and commit look at the container's writable layer on the host: what its programs wrote is there."""
    (tmp_path / "in").write_text("from the host\n")
    docker("exec", sleeper, "sh", "-c", "echo made > /root/made; mkdir /root/folder; rm /etc/passwd")
    docker("cp", str(tmp_path / "in"), f"{sleeper}:/root/in")
    wait_for(lambda: docker("exec", sleeper, "cat", "/root/in", code=None).out == "from the host\n", "the file to be seen inside")
    docker("cp", f"{sleeper}:/root/made", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "made\n"
    told = docker("diff", sleeper).out.splitlines()
    assert {"A /root/made", "A /root/folder", "A /root/in", "D /etc/passwd"} <= set(told), told
    image = docker("commit", sleeper).out.strip()
    try:
        out = docker("run", "--rm", "--network", "none", image, "sh", "-c", "cat /root/made /root/in; ls -d /root/folder /etc/passwd 2>&1", code=1).out
        assert out.startswith("made\nfrom the host\n") and "/root/folder" in out and "No such file" in out, out
    finally:
        docker("rmi", "-f", image)


def test_many_at_once(daemon):
    made = [docker("run", "-d", "--network", "none", IMAGE, "sleep", "1000").out.strip() for _ in range(4)]
    assert len(docker("ps", "-q", "--no-trunc").out.split()) >= 4
    docker("rm", "-f", *made)
    assert not set(made) & set(os.listdir(STATE))
