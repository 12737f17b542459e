"""What a container must not find or hold up."""

import os
import subprocess
import threading
import time

import cri as c
import harness
import pytest


def test_shared_pid_pod_shows_nothing_of_the_host(cri, busybox):
    cri.pull(busybox)
    config = cri.sandbox_config(pid=c.pb.POD)
    sandbox = cri.run_sandbox(config)
    try:
        wanted = cri.container_config(busybox, ["sleep", "1000"])
        wanted.linux.security_context.capabilities.add_capabilities.append("SYS_PTRACE")
        container = cri.run_container(sandbox, config, wanted)
        code, out, err = cri.exec(container, "sh", "-c", "ls -A /proc/1/root/")
        assert out == b"", (code, out, err)
        code, out, _ = cri.exec(container, "sh", "-c", "ls /proc/1/fd/ 2>/dev/null")
        assert out == b""
        code, out, _ = cri.exec(container, "sh", "-c", "cat /proc/1/environ")
        assert out.strip(b"\0") == b""
        code, out, _ = cri.exec(container, "sh", "-c", "cat /proc/1/maps")
        assert b"/work" not in out and b"monitor" not in out
        code, out, _ = cri.exec(container, "cat", "/proc/1/status")
        fields = dict(line.split(b":\t", 1) for line in out.splitlines() if b":\t" in line)
        assert fields[b"CapEff"].strip() == b"0" * 16 and fields[b"CapBnd"].strip() == b"0" * 16
        assert fields[b"Uid"].split()[0] != b"0" and fields[b"Seccomp"].strip() == b"2"
        assert fields[b"NoNewPrivs"].strip() == b"1"
        # Both containers of a pod see each other's processes, and pid 1 reaps orphans.
        other = cri.run_container(sandbox, config, cri.container_config(busybox, ["sleep", "2000"], name="other"))
        assert b"sleep 1000" in cri.exec(other, "ps")[1]
        cri.exec(other, "sh", "-c", "(sleep 0.1 &) ; true")
        time.sleep(0.5)
        assert b"Z" not in cri.exec(other, "sh", "-c", "grep -h State: /proc/[0-9]*/status")[1]
    finally:
        cri.remove_sandbox(sandbox)


def test_a_hanging_source_holds_up_nobody(cri, busybox, pod, tmp_path):
    """A FUSE filesystem that never answers, as a volume: the create is given up, the neighbour goes on."""
    sandbox, config = pod
    point = str(tmp_path / "hang")
    os.mkdir(point)
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    libc = __import__("ctypes").CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"hang", point.encode(), b"fuse", 0, options) != 0:
        os.close(device)
        pytest.skip("the kernel refuses a FUSE mount")
    try:
        script = "i=0; while true; do i=$((i+1)); echo $i; sleep 0.02; done"
        neighbour = cri.run_container(sandbox, config, cri.container_config(busybox, ["sh", "-c", script]))
        wanted = cri.container_config(busybox, ["true"], name="hanging")
        wanted.mounts.add(container_path="/x", host_path=point + "/sub")
        result = {}

        def create():
            try:
                cri.create(sandbox, config, wanted, timeout=8)
                result["error"] = None
            except Exception as error:  # the gRPC deadline or the engine's own
                result["error"] = error
        thread = threading.Thread(target=create)
        thread.start()
        time.sleep(0.5)
        assert thread.is_alive()
        began = time.monotonic()
        assert cri.exec(neighbour, "echo", "hi")[1] == b"hi\n"
        log = os.path.join(config.log_directory, "main.log")
        size = os.path.getsize(log)
        harness.wait_for(lambda: os.path.getsize(log) > size + 100, "the neighbour's log to grow", 3)
        cri.stop(neighbour)
        assert time.monotonic() - began < 5
        thread.join(30)
        assert not thread.is_alive() and result["error"] is not None
    finally:
        os.close(device)  # aborts the connection: whatever still waits gets an error
        subprocess.run(["umount", "-l", point], check=False)


def test_hundred_pods_leave_nothing(engine, cri, busybox):
    cri.pull(busybox)
    # One pod first: the bridge and the default cgroups are made once and stay.
    config = cri.sandbox_config()
    sandbox = cri.run_sandbox(config)
    cri.run_container(sandbox, config, cri.container_config(busybox, ["true"]))
    cri.remove_sandbox(sandbox)
    before = harness.settled_counts(engine)
    for _ in range(10):
        pods = []
        for _ in range(10):
            config = cri.sandbox_config()
            sandbox = cri.run_sandbox(config)
            cri.run_container(sandbox, config, cri.container_config(busybox, ["sleep", "1000"]))
            pods.append(sandbox)
        for sandbox in pods:
            cri.remove_sandbox(sandbox)
    assert harness.settled_counts(engine) == before
