"""Stop and remove end within the grace time plus two seconds, whatever stands in the way; what the kernel will not kill is
named."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import cri as c
import harness
import prometheus
import pytest
from host import monitor_pid, processes_below

IN_TIME = 2.0


@contextlib.contextmanager
def within(seconds, what):
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took <= seconds, f"{what} took {took:.2f} s, expected at most {seconds} s"


def sandbox_state(cri, sandbox):
    return cri.runtime.PodSandboxStatus(c.pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox), timeout=10).status.state


def answers(cri, container):
    try:
        return cri.exec(container, "true")[0] == 0
    except c.grpc.RpcError:
        return False


def stop_sandbox(cri, sandbox):
    cri.runtime.StopPodSandbox(c.pb.StopPodSandboxRequest(pod_sandbox_id=sandbox), timeout=30)


def remove_sandbox(cri, sandbox):
    cri.runtime.RemovePodSandbox(c.pb.RemovePodSandboxRequest(pod_sandbox_id=sandbox), timeout=30)


@pytest.fixture
def counted(engine, cri, busybox):
    """Nothing of the engine's is there after the test that was not there before."""
    cri.pull(busybox)
    cri.remove_sandbox(running_pod(cri, busybox, ["true"])[0])  # makes the cgroups that stay
    before = harness.settled_counts(engine)
    yield
    assert harness.settled_counts(engine) == before


TRAPS = ["sh", "-c", "trap 'echo heard; sleep 0.2; exit 3' TERM; echo ready; while true; do sleep 0.05; done"]
DEAF = ["sh", "-c", "trap '' TERM; echo ready; while true; do sleep 0.05; done"]


def running_pod(cri, busybox, command, containers=1):
    config = cri.sandbox_config()
    sandbox = cri.run_sandbox(config)
    return sandbox, [cri.run_container(sandbox, config, cri.container_config(busybox, command, name=f"c{i}")) for i in range(containers)]


@pytest.mark.parametrize("grace", [0, 1])
def test_stop_of_a_container_whose_monitor_is_stopped(engine, cri, busybox, counted, grace):
    sandbox, containers = running_pod(cri, busybox, DEAF, 2)
    monitor = monitor_pid(sandbox)
    os.kill(monitor, signal.SIGSTOP)
    with within(grace + IN_TIME, "StopContainer"):
        cri.stop(containers[0], grace)
    for container in containers:
        status = harness.wait_for(lambda: cri.status(container).state == c.EXITED and cri.status(container), "the end")
        assert (status.exit_code, status.reason) == (137, "MonitorLost")
    assert sandbox_state(cri, sandbox) == c.pb.SANDBOX_NOTREADY
    assert not os.path.exists(f"/proc/{monitor}") or processes_below(monitor) == []
    with within(IN_TIME, "RemoveContainer"):
        cri.remove(containers[0])
    with within(IN_TIME, "StopPodSandbox"):
        stop_sandbox(cri, sandbox)
    with within(IN_TIME, "RemovePodSandbox"):
        remove_sandbox(cri, sandbox)


def test_a_stopped_monitor_keeps_no_container_from_its_signal(engine, cri, busybox, counted):
    """The program that ends by itself at SIGTERM did so: what it did about it is in its volume."""
    folder = engine.folder + "/heard"
    os.makedirs(folder, exist_ok=True)
    config = cri.sandbox_config()
    sandbox = cri.run_sandbox(config)
    made = cri.container_config(busybox, ["sh", "-c", "trap 'echo heard >/v/heard; exit 3' TERM; while true; do sleep 0.05; done"])
    made.mounts.add(container_path="/v", host_path=folder)
    container = cri.run_container(sandbox, config, made)
    os.kill(monitor_pid(sandbox), signal.SIGSTOP)
    with within(1 + IN_TIME, "StopContainer"):
        cri.stop(container, 1)
    assert os.path.exists(folder + "/heard")
    assert cri.status(container).state == c.EXITED
    cri.remove_sandbox(sandbox)


def test_stop_of_a_sandbox_whose_monitor_is_stopped(engine, cri, busybox, counted):
    sandbox, containers = running_pod(cri, busybox, DEAF, 3)
    os.kill(monitor_pid(sandbox), signal.SIGSTOP)
    with within(IN_TIME, "StopPodSandbox"):
        stop_sandbox(cri, sandbox)
    assert sandbox_state(cri, sandbox) == c.pb.SANDBOX_NOTREADY
    for container in containers:
        assert cri.status(container).state == c.EXITED
        assert cri.status(container).exit_code == 137
    with within(IN_TIME, "RemovePodSandbox"):
        remove_sandbox(cri, sandbox)


def test_remove_of_a_sandbox_whose_monitor_is_stopped(engine, cri, busybox, counted):
    sandbox, _ = running_pod(cri, busybox, DEAF, 2)
    os.kill(monitor_pid(sandbox), signal.SIGSTOP)
    with within(IN_TIME, "RemovePodSandbox"):
        remove_sandbox(cri, sandbox)


def test_remove_of_a_container_whose_monitor_is_stopped(engine, cri, busybox, counted):
    sandbox, containers = running_pod(cri, busybox, ["true"], 1)
    harness.wait_for(lambda: cri.status(containers[0]).state == c.EXITED, "the exit")
    os.kill(monitor_pid(sandbox), signal.SIGSTOP)
    with within(IN_TIME, "RemoveContainer"):
        cri.remove(containers[0])
    assert sandbox_state(cri, sandbox) == c.pb.SANDBOX_READY
    with within(2 * IN_TIME, "StopPodSandbox and RemovePodSandbox"):
        cri.remove_sandbox(sandbox)


def test_a_monitor_that_is_stopped_when_the_engine_starts(engine, cri, busybox, counted):
    """It is no reason to end what runs; and what is to end does."""
    pods = [running_pod(cri, busybox, DEAF, 2) for _ in range(3)]
    monitors = [monitor_pid(sandbox) for sandbox, _ in pods]
    for monitor in monitors:
        os.kill(monitor, signal.SIGSTOP)
    engine.kill()
    with within(10, "the start"):
        engine.start()
    cri.wait_served()
    for sandbox, containers in pods:
        assert sandbox_state(cri, sandbox) == c.pb.SANDBOX_READY
        assert [cri.status(container).state for container in containers] == [c.RUNNING] * 2
        assert c.error_of(cri.exec, containers[0], "true")[0] == "UNAVAILABLE"
    (goes_on, going), (one, ended), (other, _) = pods
    with within(IN_TIME, "StopContainer"):
        cri.stop(ended[0], 0)
    for container in ended:
        status = harness.wait_for(lambda: cri.status(container).state == c.EXITED and cri.status(container), "the end")
        assert (status.exit_code, status.reason) == (137, "MonitorLost")
    assert sandbox_state(cri, one) == c.pb.SANDBOX_NOTREADY
    with within(IN_TIME, "StopPodSandbox"):
        stop_sandbox(cri, other)
    assert sandbox_state(cri, other) == c.pb.SANDBOX_NOTREADY
    os.kill(monitors[0], signal.SIGCONT)
    harness.wait_for(lambda: answers(cri, going[0]), "the monitor to be heard")
    assert sandbox_state(cri, goes_on) == c.pb.SANDBOX_READY
    assert [cri.status(container).state for container in going] == [c.RUNNING] * 2
    for sandbox, _ in pods:
        cri.remove_sandbox(sandbox)


@pytest.fixture
def dead_mount(tmp_path):
    """A FUSE mount whose program has taken a request and does not answer; yields (folder, the program). What waits for it
    is in the kernel where no signal reaches it."""
    program = os.path.join(harness.ROOT, "tests", "lib", "dead_fuse.py")
    folder = str(tmp_path / "dead")
    os.makedirs(folder)
    process = subprocess.Popen([sys.executable, program, folder], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"mounted\n"
    yield folder, process
    process.kill()
    process.wait()
    subprocess.run(["umount", "-l", folder], check=False, stderr=subprocess.DEVNULL)


def held_pod(cri, busybox, folder):
    """A pod with a container whose shell has started a reader of the dead mount."""
    config = cri.sandbox_config()
    sandbox = cri.run_sandbox(config)
    made = cri.container_config(busybox, ["sh", "-c", "cat /v/never & echo ready; while true; do sleep 0.05; done"])
    made.mounts.add(container_path="/v", host_path=folder)
    container = cri.run_container(sandbox, config, made)
    harness.wait_for(lambda: [p for p in processes_below(monitor_pid(sandbox)) if p.name == "cat"], "the reader")
    time.sleep(0.3)  # until its request is with the file system's program
    return sandbox, container


@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="no /dev/fuse")
def test_what_the_kernel_does_not_kill_is_named(engine, cri, busybox, counted, dead_mount):
    folder, program = dead_mount
    sandbox, container = held_pod(cri, busybox, folder)
    for what, call in (("StopContainer", lambda: cri.stop(container, 0)), ("StopPodSandbox", lambda: stop_sandbox(cri, sandbox)),
                       ("RemoveContainer", lambda: cri.remove(container)), ("RemovePodSandbox", lambda: remove_sandbox(cri, sandbox))):
        with within(IN_TIME, what):
            code, message = c.error_of(call)
        assert code == "DEADLINE_EXCEEDED" and '("cat", D)' in message and container in message, message
    with within(1 + IN_TIME, "StopContainer"):
        c.error_of(cri.stop, container, 1)
    assert sandbox_state(cri, sandbox) == c.pb.SANDBOX_READY
    program.kill()  # the mount is gone now, and what waited for it ends
    harness.wait_for(lambda: cri.status(container).state == c.EXITED, "the exit")
    assert cri.status(container).exit_code == 137
    cri.remove_sandbox(sandbox)


@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="no /dev/fuse")
def test_a_killed_monitor_above_what_the_kernel_does_not_kill(engine, cri, busybox, counted, dead_mount):
    folder, program = dead_mount
    sandbox, container = held_pod(cri, busybox, folder)
    os.kill(monitor_pid(sandbox), signal.SIGKILL)
    harness.wait_for(lambda: sandbox_state(cri, sandbox) == c.pb.SANDBOX_NOTREADY, "the sandbox to be lost", 5)
    for what, call in (("StopContainer", lambda: cri.stop(container, 0)), ("RemovePodSandbox", lambda: remove_sandbox(cri, sandbox))):
        with within(IN_TIME, what):
            code, message = c.error_of(call)
        assert code == "DEADLINE_EXCEEDED" and '("cat", D)' in message, message
    program.kill()
    with within(IN_TIME, "StopContainer"):
        cri.stop(container, 0)
    status = cri.status(container)
    assert (status.state, status.exit_code, status.reason) == (c.EXITED, 137, "MonitorLost")
    cri.remove_sandbox(sandbox)


@pytest.fixture(scope="module")
def small(request, busybox):
    """An engine whose root, state and logs are small file systems of their own: (engine, CRI client, fill, free)."""
    engine = harness.Engine()
    engine.metrics = f"unix:{engine.folder}/run/metrics.sock"
    engine.configure(f'[metrics]\nlisten = "{engine.metrics}"\n')
    disks = {"root": engine.root, "state": engine.state, "logs": engine.folder + "/logs"}
    for path in disks.values():
        os.makedirs(path, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m,mode=711", "small", path], check=True)

    def fill(name):
        with open(disks[name] + "/filler", "ab", buffering=0) as file, contextlib.suppress(OSError):
            for size in (1 << 20, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        if file.write(bytes(size)) < size:
                            break

    def free(name):
        os.unlink(disks[name] + "/filler")

    engine.start()
    client = c.Client(engine.socket, engine.folder + "/logs")
    client.pull(busybox)
    yield engine, client, fill, free
    client.close()
    for path in disks.values():
        with contextlib.suppress(OSError):
            os.unlink(path + "/filler")
    with contextlib.suppress(Exception):
        engine.remove_all()
    engine.stop()
    for path in disks.values():
        subprocess.run(["umount", "-l", path], check=False)
    engine.close()


@pytest.mark.parametrize("full", ["root", "state", "logs", "root and state and logs"])
def test_stop_and_remove_on_a_full_disk(small, busybox, full):
    engine, cri, fill, free = small
    cri.remove_sandbox(running_pod(cri, busybox, ["true"])[0])
    before = harness.settled_counts(engine)
    pods = [running_pod(cri, busybox, DEAF) for _ in range(2)]
    for disk in full.split(" and "):
        fill(disk)
    (one, containers), (two, _) = pods
    with within(IN_TIME, "StopContainer"):
        cri.stop(containers[0], 0)
    assert cri.status(containers[0]).exit_code == 137
    with within(IN_TIME, "RemoveContainer"):
        cri.remove(containers[0])
    for sandbox in (one, two):
        with within(IN_TIME, "StopPodSandbox"):
            stop_sandbox(cri, sandbox)
        assert sandbox_state(cri, sandbox) == c.pb.SANDBOX_NOTREADY
        with within(IN_TIME, "RemovePodSandbox"):
            remove_sandbox(cri, sandbox)
    # What was done on a full disk is so after a restart, too.
    engine.kill()
    engine.start()
    cri.wait_served()
    assert not cri.runtime.ListPodSandbox(c.pb.ListPodSandboxRequest()).items
    for disk in full.split(" and "):
        free(disk)
    engine.kill()
    engine.start()  # which keeps room for the next time
    cri.wait_served()
    assert harness.settled_counts(engine) == before
    cri.remove_sandbox(running_pod(cri, busybox, ["true"])[0])


def test_a_full_log_blocks_no_container_and_what_is_lost_is_counted(small, busybox):
    engine, cri, fill, free = small
    config = cri.sandbox_config()
    sandbox = cri.run_sandbox(config)
    script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done; touch /done; while [ ! -e /go ]; do sleep 0.05; done; echo last; exit 6"
    made = cri.container_config(busybox, ["sh", "-c", "while [ ! -e /begin ]; do sleep 0.05; done; " + script])
    container = cri.run_container(sandbox, config, made)
    fill("logs")
    cri.exec(container, "touch", "/begin")
    harness.wait_for(lambda: cri.exec(container, "test", "-e", "/done")[0] == 0, "the container to go on", 30)
    free("logs")
    cri.exec(container, "touch", "/go")
    status = harness.wait_for(lambda: cri.status(container).state == c.EXITED and cri.status(container), "the exit")
    assert status.exit_code == 6
    lost = int(status.message.split(" bytes of its output could not be written")[0])
    with open(status.log_path, encoding="ascii") as file:
        lines = file.read().split("\n")
    assert lines[-1] == "" and lines[-2].endswith(" stdout F last")
    whole = [line for line in lines[:-1] if line.split(" ", 3)[3:] and line.split(" ", 3)[3].startswith("line ")]
    # 30 for the time, " stdout F " and the text: what is not in the file was counted.
    written = sum(len(f"line {i}\n") + 40 for i in range(1, 20001)) - lost
    assert abs(sum(len(line) + 1 for line in lines[:-2]) - written) <= 2, (len(whole), lost)
    assert prometheus.scrape(engine.metrics)["fluyt_container_log_dropped_bytes_total"].value() == lost
    with open(engine.log, encoding="utf-8") as file:
        assert f"container {container}: {lost} bytes of its output could not be written" in file.read()
    cri.remove_sandbox(sandbox)
