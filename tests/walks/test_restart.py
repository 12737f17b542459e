"""fluytd dies by SIGKILL under running containers; the next one finds them."""

import json
import os
import time

import pytest

import cri as c
import harness


def test_ten_containers_lose_no_line(engine, cri, busybox):
    cri.pull(busybox)
    config = cri.sandbox_config()
    sandbox = cri.run_sandbox(config)
    script = "i=0; while true; do i=$((i+1)); echo $i; sleep 0.01; done"
    ends = "i=0; while [ $i -lt 100 ]; do i=$((i+1)); echo $i; sleep 0.01; done; exit %d"
    running = [cri.run_container(sandbox, config, cri.container_config(busybox, ["sh", "-c", script], name=f"loop{i}"))
               for i in range(5)]
    ending = [cri.run_container(sandbox, config, cri.container_config(busybox, ["sh", "-c", ends % (i + 1)], name=f"end{i}"))
              for i in range(5)]
    started = {container: cri.status(container).started_at for container in running + ending}
    engine.kill()
    time.sleep(3)  # the containers' time, not ours: the five that end do so with no fluytd there
    engine.start()
    cri.wait_served()
    for i, container in enumerate(ending):
        status = harness.wait_for(lambda: cri.status(container).state == c.EXITED and cri.status(container), "an exit")
        assert status.exit_code == i + 1
    for container in running:
        assert cri.status(container).state == c.RUNNING
        cri.stop(container)
    for container, when in started.items():
        assert cri.status(container).started_at == when
    for name in [f"loop{i}" for i in range(5)] + [f"end{i}" for i in range(5)]:
        with open(os.path.join(config.log_directory, name + ".log"), encoding="ascii") as file:
            numbers = [int(line.split(" ")[3]) for line in file]
        assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= 100
    cri.remove_sandbox(sandbox)


def test_a_lost_monitor_ends_its_sandbox(engine, cri, busybox):
    cri.pull(busybox)
    config = cri.sandbox_config()
    sandbox = cri.run_sandbox(config)
    container = cri.run_container(sandbox, config, cri.container_config(busybox, ["sleep", "1000"]))
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit() and is_monitor_of(name, sandbox)]
    assert len(pids) == 1
    os.kill(pids[0], 9)
    status = harness.wait_for(lambda: cri.status(container).state == c.EXITED and cri.status(container), "the end")
    assert (status.exit_code, status.reason) == (137, "MonitorLost")
    answer = cri.runtime.PodSandboxStatus(c.pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox))
    assert answer.status.state == c.pb.SANDBOX_NOTREADY
    cri.remove_sandbox(sandbox)


@pytest.mark.parametrize("told", ["at once", "at the next start"])
def test_a_lost_pod_init_ends_its_sandbox(engine, cri, busybox, told):
    cri.pull(busybox)
    config = cri.sandbox_config(pid=c.pb.POD)
    sandbox = cri.run_sandbox(config)
    wanted = cri.container_config(busybox, ["sleep", "1000"])
    wanted.linux.security_context.namespace_options.pid = c.pb.POD
    container = cri.run_container(sandbox, config, wanted)
    with open(f"{engine.state}/sandboxes/{sandbox}/monitor/pod_init.json", encoding="ascii") as file:
        pod_init = json.load(file)["pid"]
    with open(f"/proc/{pod_init}/oom_score_adj", encoding="ascii") as file:
        assert int(file.read()) <= 0
    if told != "at once":
        engine.kill()
    os.kill(pod_init, 9)
    if told != "at once":
        harness.wait_for(lambda: not os.path.exists(f"/proc/{pod_init}"), "the pod init's end")
        engine.start()
        cri.wait_served()
    status = lambda: cri.runtime.PodSandboxStatus(c.pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox)).status
    harness.wait_for(lambda: status().state == c.pb.SANDBOX_NOTREADY, "the sandbox's end")
    ended = harness.wait_for(lambda: cri.status(container).state == c.EXITED and cri.status(container), "the end")
    assert (ended.exit_code, ended.reason) == (137, "Error")
    other = cri.container_config(busybox, ["true"], name="other")
    assert c.error_of(cri.create, sandbox, config, other)[0] == "FAILED_PRECONDITION"
    cri.remove_sandbox(sandbox)


def is_monitor_of(pid, sandbox):
    try:
        with open(f"/proc/{pid}/comm", encoding="ascii") as comm, open(f"/proc/{pid}/cmdline", "rb") as cmdline:
            return comm.read().startswith("fluyt-monitor") and sandbox.encode() in cmdline.read()
    except OSError:
        return False


def test_a_second_daemon_is_refused(engine):
    import subprocess
    command = [harness.BIN + "/fluytd", "--root", engine.root, "--state", engine.state,
               "--listen", "unix:" + engine.socket]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20, check=False)
    assert done.returncode != 0 and ("another" in done.stdout or "already" in done.stdout), done.stdout
    assert engine.fluyt("version").returncode == 0
