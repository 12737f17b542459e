"""Pods of the handler `guest`: one guest kernel for all containers of one, which is there as long as the pod."""

import contextlib
import os
import signal
import time

import cri as c
import harness
import pytest

HANDLER = "guest"
SHARED_MEMORY = "import ctypes; print(ctypes.CDLL(None).shmget(0x706f64, 4096, {}) >= 0)"


def text_of(path):
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
    return ""


def children_of(pid):
    return [int(word) for word in text_of(f"/proc/{pid}/task/{pid}/children").split()]


class Guests:
    """One engine, and its pods on the guest kernel."""

    def __init__(self, image, settings=""):
        self.image = image
        self.engine = harness.Engine(settings=settings)
        self.engine.start()
        self.cri = c.Client(self.engine.socket, self.engine.folder + "/logs")
        self.cri.pull(image)
        self.sandboxes = []

    def close(self):
        self.cri.close()
        self.engine.close()

    def pod(self, sysctls=None, **options):
        config = self.cri.sandbox_config(**options)
        config.linux.sysctls.update(sysctls or {})
        sandbox = self.cri.run_sandbox(config, HANDLER)
        self.sandboxes.append(sandbox)
        return sandbox, config

    def run(self, pod, name, *command, libraries=False):
        wanted = self.cri.container_config(self.image, list(command), name=name)
        for path in ("/usr", "/lib", "/lib64") if libraries else ():
            wanted.mounts.add(container_path=path, host_path=path, readonly=True)
        return self.cri.run_container(pod[0], pod[1], wanted)

    def says(self, container, *command):
        code, out, err = self.cri.exec(container, *command)
        assert code == 0, (code, out, err)
        return out.decode()

    def state(self, pod):
        return self.cri.runtime.PodSandboxStatus(c.pb.PodSandboxStatusRequest(pod_sandbox_id=pod[0]), timeout=10).status.state

    def monitor(self, pod):
        for folder in os.listdir("/proc"):
            if folder.isdigit() and text_of(f"/proc/{folder}/cmdline").split("\0")[:2] == ["fluyt-monitor", pod[0]]:
                return int(folder)
        raise AssertionError("no monitor")

    def programs(self, pod, word):
        """Pids of the monitor's children that are rung's sentries, or its members."""
        return [pid for pid in children_of(self.monitor(pod)) if text_of(f"/proc/{pid}/cmdline").split("\0")[:2] == ["rung", word]]

    def remove(self, pod):
        self.cri.remove_sandbox(pod[0])
        self.sandboxes.remove(pod[0])


@pytest.fixture(scope="module")
def made(busybox):
    guests = Guests(busybox)
    yield guests
    guests.close()


@pytest.fixture
def guests(made):
    yield made
    for sandbox in list(made.sandboxes):
        made.cri.remove_sandbox(sandbox)
    made.sandboxes.clear()


def test_a_pod_has_one_guest_kernel(guests):
    pod = guests.pod()
    sentries = guests.programs(pod, "sentry")
    assert len(sentries) == 1 and guests.programs(pod, "member") == []
    first = guests.run(pod, "first", "sh", "-c", "echo one >/tmp/who; sleep 1000 & exec sleep 1001")
    second = guests.run(pod, "second", "sleep", "1002")
    assert guests.programs(pod, "sentry") == sentries and len(guests.programs(pod, "member")) == 2
    # Each has its own processes and its own tree.
    harness.wait_for(lambda: "sleep 1001" in guests.says(first, "cat", "/proc/1/cmdline").replace("\0", " "), "the shell to be the program")
    assert "sleep 1002" in guests.says(second, "cat", "/proc/1/cmdline").replace("\0", " ")
    listed = guests.says(second, "ps")
    assert "sleep 1001" not in listed and "pod-init" not in listed, listed
    assert guests.cri.exec(second, "cat", "/tmp/who")[0] != 0
    # The end of one is not the others', and another may come.
    guests.cri.stop(first)
    assert guests.cri.status(first).exit_code == 137 and guests.cri.status(second).state == c.RUNNING
    third = guests.run(pod, "third", "sh", "-c", "exit 5")
    harness.wait_for(lambda: guests.cri.status(third).state == c.EXITED, "the third's end")
    assert guests.cri.status(third).exit_code == 5 and guests.programs(pod, "sentry") == sentries
    # Nobody is told of the sandbox's own.
    listed = guests.cri.runtime.ListContainers(c.pb.ListContainersRequest(), timeout=10).containers
    assert pod[0] not in [one.id for one in listed] and second in [one.id for one in listed]


def test_shared_processes(guests):
    pod = guests.pod(pid=c.pb.POD)
    first = guests.run(pod, "first", "sh", "-c", "sleep 1234 & exec sleep 1000")
    second = guests.run(pod, "second", "sh", "-c", "trap 'echo caught >/tmp/caught' USR1; while :; do sleep 0.05; done")
    harness.wait_for(lambda: all(one in guests.says(second, "ps") for one in ("sleep 1234", "sleep 1000")), "the first's two programs")
    # The pod init is process 1, nobody's, and spared.
    assert guests.says(first, "cat", "/proc/1/comm") == "fluyt-pod-init\n"
    assert "Uid:\t65535" in guests.says(first, "cat", "/proc/1/status")
    for word in ("TERM", "KILL"):
        guests.says(first, "kill", f"-{word}", "1")
    assert guests.state(pod) == c.pb.SANDBOX_READY and guests.says(second, "echo", "here") == "here\n"
    # One signals the other.
    number = next(line.split()[0] for line in guests.says(first, "ps").splitlines() if "trap" in line and "ps" not in line.split())
    guests.says(first, "kill", "-USR1", number)
    harness.wait_for(lambda: guests.cri.exec(second, "cat", "/tmp/caught")[0] == 0, "the signal")
    # What is left without a parent is process 1's, which waits for it.
    orphan = guests.says(second, "sh", "-c", "(sleep 1 >/dev/null 2>&1 & echo $!)").strip()
    assert "PPid:\t1\n" in guests.says(first, "cat", f"/proc/{orphan}/status")
    harness.wait_for(lambda: guests.cri.exec(first, "test", "-e", f"/proc/{orphan}")[0] == 1, "the orphan to be waited for")
    # The end of one takes all of its programs, and none of the other's.
    guests.cri.stop(first)
    listed = guests.says(second, "ps")
    assert "sleep 1234" not in listed and "sleep 1000" not in listed, listed


def test_what_namespaces_share(guests):
    pod = guests.pod(sysctls={"kernel.shm_rmid_forced": "1", "net.ipv4.ip_local_port_range": "20000 30000"})
    first = guests.run(pod, "first", "sleep", "1000", libraries=True)
    second = guests.run(pod, "second", "sleep", "1000", libraries=True)
    # System V objects and /dev/shm.
    assert guests.says(first, "/usr/bin/python3", "-c", SHARED_MEMORY.format("0o1600")) == "True\n"
    assert guests.says(second, "/usr/bin/python3", "-c", SHARED_MEMORY.format("0")) == "True\n"
    guests.says(first, "sh", "-c", "echo shared >/dev/shm/file")
    assert guests.says(second, "cat", "/dev/shm/file") == "shared\n"
    # Host name, DNS, sysctls.
    for each in (first, second):
        assert guests.says(each, "hostname") == pod[1].hostname + "\n"
        assert guests.says(each, "cat", "/proc/sys/net/ipv4/ip_local_port_range").split() == ["20000", "30000"]
        assert pod[1].hostname in guests.says(each, "cat", "/etc/hosts")
    # The network, with its loopback: one listens, the other connects, and so does the host.
    address = guests.cri.runtime.PodSandboxStatus(c.pb.PodSandboxStatusRequest(pod_sandbox_id=pod[0]), timeout=10).status.network.ip
    assert address in guests.says(first, "ip", "addr", "show", "eth0")
    guests.run(pod, "server", "sh", "-c", "while :; do echo over loopback | nc -l -p 7100; done")
    ask = "for i in 1 2 3 4 5 6 7 8 9; do nc {} 7100 </dev/null && exit 0; sleep 0.1; done; exit 1"
    assert guests.says(second, "sh", "-c", ask.format("127.0.0.1")) == "over loopback\n"
    assert guests.says(first, "sh", "-c", ask.format(address)) == "over loopback\n"


def test_one_that_targets_another_sees_its_processes(guests):
    pod = guests.pod()
    first = guests.run(pod, "first", "sh", "-c", "sleep 1234 & exec sleep 1000")
    guests.run(pod, "second", "sleep", "1001")
    wanted = guests.cri.container_config(guests.image, ["sleep", "1002"], name="debug")
    wanted.linux.security_context.namespace_options.pid = c.pb.TARGET
    wanted.linux.security_context.namespace_options.target_id = first
    debug = guests.cri.runtime.CreateContainer(c.pb.CreateContainerRequest(pod_sandbox_id=pod[0], config=wanted, sandbox_config=pod[1]),
                                               timeout=60).container_id
    guests.cri.start(debug)
    listed = guests.says(debug, "ps")
    assert "sleep 1234" in listed and "sleep 1002" in listed and "sleep 1001" not in listed, listed
    # Process 1 of it is the other's, with its tree.
    guests.says(first, "touch", "/tmp/first")
    guests.says(debug, "test", "-e", "/proc/1/root/tmp/first")


def test_what_the_guest_kernel_uses_is_the_pods(guests):
    pod = guests.pod()
    containers = [guests.run(pod, name, "sleep", "1000") for name in ("first", "second")]
    used = [guests.cri.runtime.ContainerStats(c.pb.ContainerStatsRequest(container_id=each), timeout=10).stats.memory.usage_bytes.value
            for each in containers]
    stats = guests.cri.runtime.PodSandboxStats(c.pb.PodSandboxStatsRequest(pod_sandbox_id=pod[0]), timeout=10).stats
    assert [each.attributes.id for each in stats.linux.containers].count(pod[0]) == 0 and len(stats.linux.containers) == 2
    # The sentry's is in no container's.
    assert stats.linux.memory.usage_bytes.value > sum(used) + (512 << 10) and min(used) > 0, (stats.linux.memory, used)


def test_another_pods_objects_are_its_own(guests):
    one, two = guests.pod(), guests.pod()
    first, second = (guests.run(pod, "main", "sleep", "1000", libraries=True) for pod in (one, two))
    assert guests.says(first, "/usr/bin/python3", "-c", SHARED_MEMORY.format("0o1600")) == "True\n"
    assert guests.says(second, "/usr/bin/python3", "-c", SHARED_MEMORY.format("0")) == "False\n"
    assert guests.programs(one, "sentry") != guests.programs(two, "sentry")


def test_fluytd_may_die_in_between(guests):
    pod = guests.pod(pid=c.pb.POD)
    first = guests.run(pod, "first", "sleep", "1000")
    sentries = guests.programs(pod, "sentry")
    guests.engine.kill()
    guests.engine.start()
    guests.cri.wait_served()
    assert guests.state(pod) == c.pb.SANDBOX_READY and guests.cri.status(first).state == c.RUNNING
    second = guests.run(pod, "second", "sleep", "1001")
    assert guests.programs(pod, "sentry") == sentries and "sleep 1000" in guests.says(second, "ps")


@pytest.mark.parametrize("away", [False, True], ids=["fluytd there", "fluytd away"])
def test_the_end_of_the_guest_kernel_is_the_pods(guests, away):
    pod = guests.pod()
    first = guests.run(pod, "first", "sleep", "1000")
    second = guests.cri.create(pod[0], pod[1], guests.cri.container_config(guests.image, ["sleep", "1000"], name="second"))
    sentry, = guests.programs(pod, "sentry")
    if away:
        guests.engine.kill()
    os.kill(sentry, signal.SIGKILL)
    if away:
        time.sleep(0.5)
        guests.engine.start()
        guests.cri.wait_served()
    harness.wait_for(lambda: guests.state(pod) == c.pb.SANDBOX_NOTREADY, "the sandbox to be not ready")
    for each in (first, second):
        harness.wait_for(lambda each=each: guests.cri.status(each).state == c.EXITED, "the containers' ends")
        assert guests.cri.status(each).exit_code == 137
    wanted = guests.cri.container_config(guests.image, ["true"], name="third")
    code, message = c.error_of(guests.cri.create, pod[0], pod[1], wanted)
    assert code == "FAILED_PRECONDITION", message
    harness.wait_for(lambda: not os.path.exists(f"{guests.engine.state}/sandboxes/{pod[0]}"), "what it had to be gone", 30)
    guests.remove(pod)


def test_the_end_of_the_monitor_is_the_pods(guests):
    pod = guests.pod()
    first = guests.run(pod, "first", "sleep", "1000")
    sentry, = guests.programs(pod, "sentry")
    os.kill(guests.monitor(pod), signal.SIGKILL)
    harness.wait_for(lambda: guests.state(pod) == c.pb.SANDBOX_NOTREADY, "the sandbox to be not ready")
    harness.wait_for(lambda: guests.cri.status(first).state == c.EXITED, "the container's end")
    harness.wait_for(lambda: not os.path.exists(f"/proc/{sentry}"), "the guest kernel's end")


def test_nothing_is_left(guests):
    def round_trip(pid):
        pod = guests.pod(pid=pid)
        for number in range(2):
            guests.run(pod, f"c{number}", "sh", "-c", "sleep 1000 & sleep 1000")
        guests.remove(pod)

    round_trip(c.pb.POD)  # what the first one makes for all
    before = harness.settled_counts(guests.engine)
    for pid in (c.pb.POD, c.pb.CONTAINER, c.pb.POD):
        round_trip(pid)
    assert harness.settled_counts(guests.engine) == before
    guests.engine.fluyt("doctor")  # nothing is found


def test_a_handler_may_go_without(busybox):
    guests = Guests(busybox, f'[runtime.handlers.guest]\npath = "{harness.BIN}/rung"\nsandbox_container = false\n')
    try:
        pod = guests.pod()
        assert guests.programs(pod, "sentry") == []
        for name in ("first", "second"):
            guests.run(pod, name, "sleep", "1000")
        assert len(guests.programs(pod, "sentry")) == 2 and guests.programs(pod, "member") == []
        guests.remove(pod)
    finally:
        guests.close()
