"""fluytd of one build, then of another: the pods' monitors are spoken to, then replaced in place, up and down, and nothing is
lost. The other build is this one with another version in its programs."""

import os
import shutil
import signal
import threading

import cri as c
import harness
import host
import pytest

PODS = int(os.environ.get("FLUYT_UPGRADE_PODS", "10"))


@pytest.fixture(scope="module")
def other_build(tmp_path_factory):
    """(folder, version): copies of the programs that say so."""
    ours = harness.subprocess.run([harness.BIN + "/fluytd", "--version"], check=True, stdout=harness.subprocess.PIPE,
                                  text=True).stdout.split()[-1]
    other = ours[:-1] + chr((ord(ours[-1]) - ord("0") + 1) % 10 + ord("0"))
    folder = str(tmp_path_factory.mktemp("other-build"))
    for name in ("fluytd", "fluyt-monitor", "fluyt-pod-init", "fluyt-unpack", "rung"):
        with open(os.path.join(harness.BIN, name), "rb") as file:
            code = file.read()
        with open(os.path.join(folder, name), "wb") as file:
            file.write(code.replace(ours.encode(), other.encode()))
        shutil.copymode(os.path.join(harness.BIN, name), os.path.join(folder, name))
    return folder, other


WRITER = "i=0; while [ ! -e /end ]; do i=$((i+1)); echo line $i; done; echo last $i; exit %d"
EXEC = "i=0; while [ ! -e /end ]; do i=$((i+1)); echo $i >/tmp/exec; sleep 0.05; done; exit 7"


def mark(monitor):
    """Words of the monitor's command line: those of a program that goes on for another have one more."""
    with open(f"/proc/{monitor}/cmdline", encoding="utf-8") as file:
        return file.read().rstrip("\0").split("\0")


def test_up_and_down_under_writing_pods(engine, cri, busybox, other_build):
    folder, version = other_build
    cri.pull(busybox)
    pods = []
    for i in range(PODS):
        config = cri.sandbox_config()
        sandbox = cri.run_sandbox(config)
        made = cri.container_config(busybox, ["sh", "-c", WRITER % (i + 1)])
        pods.append((sandbox, config, cri.run_container(sandbox, config, made)))
    # An exec in each whose call the daemon's end breaks off: the process goes on.
    for _, _, container in pods:
        threading.Thread(target=lambda id=container: c.error_of(cri.exec, id, "sh", "-c", EXEC, timeout=0), daemon=True).start()
    for _, _, container in pods:
        harness.wait_for(lambda: cri.exec(container, "test", "-s", "/tmp/exec")[0] == 0, "the exec to run")
    monitors = host.monitors()
    assert all(len(mark(pid)) == 4 for pid in monitors.values())
    for step, programs in enumerate((folder, harness.BIN, folder)):
        engine.kill()
        engine.bin = programs
        size = os.path.getsize(engine.log)
        engine.start()
        cri.wait_served()
        # Under the build before: list, exec, start and stop work at once, while monitors change one by one.
        for _, _, container in pods:
            assert cri.status(container).state == c.RUNNING
            assert cri.exec(container, "echo", "there")[1] == b"there\n"
        late = cri.run_container(pods[0][0], pods[0][1], cri.container_config(busybox, ["sh", "-c", "exit 5"], name=f"late{step}"))

        def done():
            with open(engine.log, encoding="utf-8") as file:
                file.seek(size)
                text = file.read()
            assert "its monitor goes on as it is" not in text, text
            return text.count(": its monitor of fluyt ") == PODS
        harness.wait_for(done, "all monitors to be replaced", 60)
        assert host.monitors() == monitors, "a monitor has another pid"
        assert all(mark(pid)[4].startswith("resume:") for pid in monitors.values())
        harness.wait_for(lambda: cri.status(late).state == c.EXITED, "the exit")
        assert cri.status(late).exit_code == 5
        for _, _, container in pods:
            before = int(cri.exec(container, "cat", "/tmp/exec")[1] or b"0")
            harness.wait_for(lambda: int(cri.exec(container, "cat", "/tmp/exec")[1] or b"0") > before, "the exec to go on")
    for i, (sandbox, config, container) in enumerate(pods):
        if i == 0:
            cri.stop(container, 0)
            assert cri.status(container).exit_code == 137
        else:
            # The first process may see the file and end, and touch with it, before that has ended.
            assert cri.exec(container, "touch", "/end")[0] in (0, 137)
            harness.wait_for(lambda: cri.status(container).state == c.EXITED, "the exit")
            assert cri.status(container).exit_code == i + 1
        with open(config.log_directory + "/main.log", encoding="ascii") as file:
            lines = [line.rstrip("\n").split(" ", 3) for line in file]
        last = lines.pop()[3] if i != 0 else None
        numbers = [int(line[3].split()[1]) for line in lines if line[2] == "F"]
        assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 1000
        assert last in (None, f"last {len(numbers)}")
        cri.remove_sandbox(sandbox)
    engine.bin = harness.BIN


def test_a_pod_with_a_guest_kernel(engine, cri, busybox, other_build):
    """Its own container is handed over with the others: it is joined, and its end is seen, by the monitor that goes on."""
    engine.kill()  # whatever build runs
    engine.bin = harness.BIN
    engine.start()
    cri.wait_served()
    cri.pull(busybox)
    config = cri.sandbox_config(pid=c.pb.POD)
    sandbox = cri.run_sandbox(config, "guest")
    try:
        first = cri.run_container(sandbox, config, cri.container_config(busybox, ["sleep", "1234"]))
        monitor = host.monitors()[sandbox]
        engine.kill()
        engine.bin = other_build[0]
        engine.start()
        cri.wait_served()
        harness.wait_for(lambda: len(mark(monitor)) == 5, "the monitor to be replaced", 30)
        second = cri.run_container(sandbox, config, cri.container_config(busybox, ["sleep", "1000"], name="second"))
        assert b"sleep 1234" in cri.exec(second, "ps")[1] and cri.status(first).state == c.RUNNING
        with open(f"/proc/{monitor}/task/{monitor}/children", encoding="ascii") as file:
            sentries = [pid for pid in map(int, file.read().split()) if mark(pid)[:2] == ["rung", "sentry"]]
        assert len(sentries) == 1
        os.kill(sentries[0], signal.SIGKILL)
        asked = c.pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox)
        harness.wait_for(lambda: cri.runtime.PodSandboxStatus(asked, timeout=10).status.state == c.pb.SANDBOX_NOTREADY, "its end")
        for container in (first, second):
            harness.wait_for(lambda container=container: cri.status(container).exit_code == 137, "the containers' ends")
    finally:
        cri.remove_sandbox(sandbox)
        engine.bin = harness.BIN
