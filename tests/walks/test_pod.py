"""One pod through every verb, as the kubelet asks."""

import os

import cri as c
import harness


def test_pod_walk(cri, busybox, pod):
    sandbox, config = pod
    image_id = cri.pull(busybox)
    script = "echo out; echo err >&2; echo -n tail; sleep 1000"
    container = cri.create(sandbox, config, cri.container_config(busybox, ["sh", "-c", script]))
    assert cri.status(container).state == c.CREATED
    cri.start(container)
    status = cri.status(container)
    assert status.state == c.RUNNING
    assert status.image_id == image_id
    log = os.path.join(config.log_directory, "main.log")
    harness.wait_for(lambda: open(log).read().count("\n") >= 2, "two log lines")
    lines = [line.split(" ", 3) for line in open(log).read().splitlines()]
    assert sorted((stream, tag, text) for _, stream, tag, text in lines[:2]) == [("stderr", "F", "err"), ("stdout", "F", "out")]
    assert os.stat(log).st_mode & 0o777 == 0o640
    assert cri.exec(container, "sh", "-c", "echo hi; echo no >&2; exit 3") == (3, b"hi\n", b"no\n")
    cri.stop(container, grace=0)
    status = cri.status(container)
    assert (status.state, status.exit_code) == (c.EXITED, 137)
    assert status.finished_at >= status.started_at >= status.created_at > 0
    cri.stop(container)
    cri.remove(container)
    cri.remove(container)
    assert c.error_of(cri.status, container)[0] == "NOT_FOUND"


def test_exit_code_and_reason(cri, busybox, pod):
    sandbox, config = pod
    container = cri.run_container(sandbox, config, cri.container_config(busybox, ["sh", "-c", "exit 42"]))
    status = harness.wait_for(lambda: cri.status(container).state == c.EXITED and cri.status(container), "the exit")
    assert (status.exit_code, status.reason) == (42, "Error")
    done = cri.run_container(sandbox, config, cri.container_config(busybox, ["true"], name="other"))
    status = harness.wait_for(lambda: cri.status(done).state == c.EXITED and cri.status(done), "the exit")
    assert (status.exit_code, status.reason) == (0, "Completed")


def test_stop_lets_a_program_finish(cri, busybox, pod):
    sandbox, config = pod
    script = "trap 'echo bye; exit 7' TERM; while true; do sleep 0.1; done"
    container = cri.run_container(sandbox, config, cri.container_config(busybox, ["sh", "-c", script]))
    harness.wait_for(lambda: cri.exec(container, "true")[0] == 0, "the shell")
    cri.stop(container, grace=20)
    assert cri.status(container).exit_code == 7
    assert "bye" in open(os.path.join(config.log_directory, "main.log")).read()


def test_output_larger_than_a_line(cri, busybox, pod):
    sandbox, config = pod
    script = "head -c 50000 /dev/zero | tr '\\0' x; echo; echo end"
    container = cri.run_container(sandbox, config, cri.container_config(busybox, ["sh", "-c", script]))
    harness.wait_for(lambda: cri.status(container).state == c.EXITED, "the exit")
    lines = [line.split(" ", 3) for line in open(os.path.join(config.log_directory, "main.log")).read().splitlines()]
    assert [line[2] for line in lines[-2:]] == ["F", "F"] and lines[-1][3] == "end"
    assert all(line[2] == "P" for line in lines[:-2]) and len(lines) > 2
    assert "".join(line[3] for line in lines[:-1]) == "x" * 50000


def test_reopen_follows_a_rotation(cri, busybox, pod):
    sandbox, config = pod
    script = "i=0; while true; do i=$((i+1)); echo $i; sleep 0.01; done"
    container = cri.run_container(sandbox, config, cri.container_config(busybox, ["sh", "-c", script]))
    log = os.path.join(config.log_directory, "main.log")
    harness.wait_for(lambda: os.path.getsize(log) > 500, "lines")
    os.rename(log, log + ".1")
    cri.runtime.ReopenContainerLog(c.pb.ReopenContainerLogRequest(container_id=container), timeout=10)
    harness.wait_for(lambda: os.path.exists(log) and os.path.getsize(log) > 500, "lines in the new file")
    cri.stop(container)
    text = open(log + ".1").read() + open(log).read()
    numbers = [int(line.split(" ")[3]) for line in text.splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_update_changes_the_limit(cri, busybox, pod):
    sandbox, config = pod
    wanted = cri.container_config(busybox, ["sleep", "1000"])
    wanted.linux.resources.memory_limit_in_bytes = 64 << 20
    container = cri.run_container(sandbox, config, wanted)
    limits = ("sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null")
    assert cri.exec(container, *limits)[1].split() == [b"%d" % (64 << 20)]
    cri.runtime.UpdateContainerResources(c.pb.UpdateContainerResourcesRequest(
        container_id=container, linux=c.pb.LinuxContainerResources(memory_limit_in_bytes=96 << 20)), timeout=10)
    assert cri.exec(container, *limits)[1].split() == [b"%d" % (96 << 20)]
    assert cri.status(container).resources.linux.memory_limit_in_bytes == 96 << 20


def test_out_of_memory_is_named(cri, busybox, pod):
    sandbox, config = pod
    wanted = cri.container_config(busybox, ["sh", "-c", "tail /dev/zero"])
    wanted.linux.resources.memory_limit_in_bytes = 16 << 20
    container = cri.run_container(sandbox, config, wanted)
    status = harness.wait_for(lambda: cri.status(container).state == c.EXITED and cri.status(container), "the exit", 40)
    assert (status.exit_code, status.reason) == (137, "OOMKilled")


def test_a_child_out_of_memory_is_named_too(cri, busybox, pod):
    sandbox, config = pod
    for code in (5, 0):
        wanted = cri.container_config(busybox, ["sh", "-c", f"tail /dev/zero; exit {code}"], name=f"code{code}")
        wanted.linux.resources.memory_limit_in_bytes = 16 << 20
        container = cri.run_container(sandbox, config, wanted)
        status = harness.wait_for(lambda: cri.status(container).state == c.EXITED and cri.status(container), "the exit", 40)
        assert (status.exit_code, status.reason) == (code, "OOMKilled")


def test_exec_deadline_and_output_cap(cri, busybox, pod):
    sandbox, config = pod
    container = cri.run_container(sandbox, config, cri.container_config(busybox, ["sleep", "1000"]))
    code, message = c.error_of(cri.exec, container, "sleep", "77", timeout=1)
    assert code == "DEADLINE_EXCEEDED", message
    assert b"sleep 77" not in cri.exec(container, "ps")[1]
    code, out, _ = cri.exec(container, "sh", "-c", "sleep 88 & echo done")
    assert (code, out) == (0, b"done\n")


def test_an_exec_that_nobody_waits_for_ends(cri, busybox, pod):
    sandbox, config = pod
    container = cri.run_container(sandbox, config, cri.container_config(busybox, ["sleep", "1000"]))
    request = c.pb.ExecSyncRequest(container_id=container, cmd=["sleep", "78"], timeout=0)
    call = cri.runtime.ExecSync.future(request, timeout=60)
    harness.wait_for(lambda: b"sleep 78" in cri.exec(container, "ps")[1], "the program")
    call.cancel()
    harness.wait_for(lambda: b"sleep 78" not in cri.exec(container, "ps")[1], "its end")


def test_container_in_the_host_network(cri, busybox):
    config = cri.sandbox_config(network=c.pb.NODE)
    sandbox = cri.run_sandbox(config)
    try:
        container = cri.run_container(sandbox, config, cri.container_config(busybox, ["sleep", "1000"]))
        assert cri.exec(container, "readlink", "/proc/self/ns/net")[1].decode().strip() == os.readlink("/proc/self/ns/net")
    finally:
        cri.remove_sandbox(sandbox)


def test_lists_are_filtered(cri, busybox, pod):
    sandbox, config = pod
    container = cri.create(sandbox, config, cri.container_config(busybox, ["sleep", "1"]))
    Filter = c.pb.ContainerFilter

    def ids(**fields):
        request = c.pb.ListContainersRequest(filter=Filter(**fields))
        return [item.id for item in cri.runtime.ListContainers(request).containers]

    assert ids(id=container) == [container]
    assert ids(pod_sandbox_id=sandbox) == [container]
    assert ids(id=container, state=c.pb.ContainerStateValue(state=c.RUNNING)) == []
    assert ids(label_selector={"no": "such"}) == []
