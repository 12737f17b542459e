"""What the CRI reports: streamed lists, events, stats and metrics, compared with what else there is to see."""

import contextlib
import json
import os
import queue
import subprocess
import threading
import time
import uuid

import cri as c
import grpc
import harness
import pytest

CREATED, STARTED, STOPPED, DELETED = (c.pb.CONTAINER_CREATED_EVENT, c.pb.CONTAINER_STARTED_EVENT,
                                      c.pb.CONTAINER_STOPPED_EVENT, c.pb.CONTAINER_DELETED_EVENT)


class Listener:
    """A GetContainerEvents call whose events are kept as they come; it misses nothing from here on."""

    def __init__(self, cri):
        self.call = cri.runtime.GetContainerEvents(c.pb.GetEventsRequest(), wait_for_ready=True)
        self.call.initial_metadata()  # sent once it is subscribed
        self.events, self.error = [], None
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        try:
            for event in self.call:
                self.events.append(event)
        except grpc.RpcError as error:
            self.error = error

    def kinds(self):
        return [(event.container_event_type, event.container_id) for event in self.events]

    def close(self):
        self.call.cancel()
        self.thread.join(10)


@pytest.fixture
def listeners(cri):
    both = Listener(cri), Listener(cri)
    yield both
    for listener in both:
        listener.close()


def test_a_life_in_events(cri, busybox, listeners):
    cri.pull(busybox)
    config = cri.sandbox_config()
    sandbox = cri.run_sandbox(config)
    keeps = cri.run_container(sandbox, config, cri.container_config(busybox, ["sleep", "1000"], name="keeps"))
    ends = cri.run_container(sandbox, config, cri.container_config(busybox, ["sh", "-c", "exit 3"], name="ends"))
    harness.wait_for(lambda: cri.status(ends).state == c.EXITED, "the exit")
    cri.remove(ends)
    cri.remove_sandbox(sandbox)
    expected = [(CREATED, sandbox), (STARTED, sandbox), (CREATED, keeps), (STARTED, keeps), (CREATED, ends),
                (STARTED, ends), (STOPPED, ends), (DELETED, ends), (STOPPED, keeps), (STOPPED, sandbox),
                (DELETED, keeps), (DELETED, sandbox)]
    for listener in listeners:
        harness.wait_for(lambda: len(listener.events) >= len(expected), "all events")
        assert listener.kinds() == expected
        times = [event.created_at for event in listener.events]
        assert times == sorted(times) and times[0] > 0
        for event in listener.events:
            assert event.pod_sandbox_status.id == sandbox
            assert event.pod_sandbox_status.metadata == config.metadata
        statuses = [{status.id: status.state for status in event.containers_statuses} for event in listener.events]
        assert statuses == [{}, {}, {keeps: c.CREATED}, {keeps: c.RUNNING}, {keeps: c.RUNNING, ends: c.CREATED},
                            {keeps: c.RUNNING, ends: c.RUNNING}, {keeps: c.RUNNING, ends: c.EXITED},
                            {keeps: c.RUNNING}, {keeps: c.EXITED}, {keeps: c.EXITED}, {}, {}]
        stopped = next(event for event in listener.events if event.container_event_type == STOPPED)
        ended = next(status for status in stopped.containers_statuses if status.id == ends)
        assert (ended.exit_code, ended.reason) == (3, "Error")
        assert listener.events[9].pod_sandbox_status.state == c.pb.SANDBOX_NOTREADY
    assert [event.SerializeToString(deterministic=True) for event in listeners[0].events] == \
        [event.SerializeToString(deterministic=True) for event in listeners[1].events]


def test_status_has_what_an_event_has(cri, busybox, pod):
    sandbox, config = pod
    container = cri.run_container(sandbox, config, cri.container_config(busybox, ["sleep", "1000"]))
    answer = cri.runtime.PodSandboxStatus(c.pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox), timeout=10)
    assert list(answer.containers_statuses) == [cri.status(container)]
    assert answer.timestamp > answer.status.created_at > 0


def test_a_listener_that_never_reads_holds_nobody_up(cri, busybox, pod):
    """5,000 events pass; it then gets what it was sent, in order and without a gap, and an error."""
    sandbox, config = pod
    asleep = cri.runtime.GetContainerEvents(c.pb.GetEventsRequest())
    asleep.initial_metadata()
    awake = Listener(cri)
    # Long statuses, so that little fits between us and a reader who does not read.
    config.annotations["padding"] = "x" * 20000
    jobs = queue.Queue()
    for number in range(1250):
        jobs.put(number)
    failed = []

    def work():
        while not failed:
            try:
                number = jobs.get_nowait()
            except queue.Empty:
                return
            wanted = cri.container_config(busybox, ["true"], name=f"c{number}", log_path="")
            wanted.annotations["padding"] = "x" * 4000
            try:
                container = cri.create(sandbox, config, wanted)
                cri.start(container)
                cri.remove(container)
            except grpc.RpcError as error:
                failed.append(error)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failed
    harness.wait_for(lambda: len(awake.events) >= 5000, "5,000 events", 60)
    try:
        got = []
        with pytest.raises(grpc.RpcError) as ended:
            for event in asleep:
                got.append((event.container_event_type, event.container_id))
        assert ended.value.code().name in ("RESOURCE_EXHAUSTED", "CANCELLED"), ended.value
        assert got == awake.kinds()[:len(got)] and 0 < len(got) < 5000
        lives = {}
        for kind, container in awake.kinds():
            lives.setdefault(container, []).append(kind)
        assert len(lives) == 1250
        assert all(life == [CREATED, STARTED, STOPPED, DELETED] for life in lives.values())
    finally:
        awake.close()


def test_a_stopping_daemon_ends_the_stream_and_a_new_one_tells_on(engine, cri, busybox, pod):
    sandbox, config = pod
    container = cri.run_container(sandbox, config, cri.container_config(busybox, ["sleep", "1000"]))
    listener = Listener(cri)
    engine.process.terminate()
    harness.wait_for(lambda: listener.error is not None, "the end of the stream", 2)
    assert listener.error.code().name == "UNAVAILABLE"
    engine.stop()
    engine.start()
    cri.wait_served()
    again = Listener(cri)
    cri.stop(container)
    harness.wait_for(lambda: again.events or again.error, "the event")
    assert again.kinds() == [(STOPPED, container)], again.error
    assert {status.id: status.state for status in again.events[0].containers_statuses} == {container: c.EXITED}
    again.close()


def streamed(call, request, field):
    """Every item of a streamed list; each message of it must have one at least."""
    items = []
    for message in call(request, timeout=30):
        got = list(getattr(message, field))
        assert got
        items += got
    return items


def by_id(items):
    found = {item.id: item for item in items}
    assert len(found) == len(items)
    return found


def test_streamed_lists_equal_the_others(cri, busybox, pod):
    sandbox, config = pod
    padding = "x" * 12000  # 300 of them do not fit into one message
    containers = []
    for number in range(300):
        wanted = cri.container_config(busybox, ["true"], name=f"c{number}", log_path="")
        wanted.labels["third"] = str(number % 3)
        wanted.annotations["padding"] = padding
        containers.append(cri.create(sandbox, config, wanted))
    cri.start(containers[0])
    harness.wait_for(lambda: cri.status(containers[0]).state == c.EXITED, "its end, which would come between two lists")
    for request in (c.pb.ContainerFilter(), c.pb.ContainerFilter(pod_sandbox_id=sandbox),
                    c.pb.ContainerFilter(id=containers[7]), c.pb.ContainerFilter(label_selector={"third": "1"}),
                    c.pb.ContainerFilter(state=c.pb.ContainerStateValue(state=c.CREATED)),
                    c.pb.ContainerFilter(id="feed")):
        one = cri.runtime.ListContainers(c.pb.ListContainersRequest(filter=request), timeout=30)
        many = streamed(cri.runtime.StreamContainers, c.pb.StreamContainersRequest(filter=request), "containers")
        assert by_id(many) == by_id(one.containers)
    assert len(streamed(cri.runtime.StreamContainers, c.pb.StreamContainersRequest(), "containers")) >= 300
    messages = list(cri.runtime.StreamContainers(c.pb.StreamContainersRequest(), timeout=30))
    assert len(messages) > 2 and all(message.ByteSize() < 2 << 20 for message in messages)

    for request in (c.pb.PodSandboxFilter(), c.pb.PodSandboxFilter(id=sandbox), c.pb.PodSandboxFilter(id="feed")):
        one = cri.runtime.ListPodSandbox(c.pb.ListPodSandboxRequest(filter=request), timeout=30)
        many = streamed(cri.runtime.StreamPodSandboxes, c.pb.StreamPodSandboxesRequest(filter=request), "pod_sandboxes")
        assert by_id(many) == by_id(one.items)

    for request in (c.pb.ImageFilter(), c.pb.ImageFilter(image=c.pb.ImageSpec(image=busybox)),
                    c.pb.ImageFilter(image=c.pb.ImageSpec(image="nothere"))):
        one = cri.images.ListImages(c.pb.ListImagesRequest(filter=request), timeout=30)
        many = streamed(cri.images.StreamImages, c.pb.StreamImagesRequest(filter=request), "images")
        assert by_id(many) == by_id(one.images)


def test_a_cancelled_list_ends(cri, busybox, pod):
    sandbox, config = pod
    for number in range(40):
        wanted = cri.container_config(busybox, ["true"], name=f"c{number}", log_path="")
        wanted.annotations["padding"] = "x" * 200000
        cri.create(sandbox, config, wanted)
    call = cri.runtime.StreamContainers(c.pb.StreamContainersRequest())
    next(call)
    call.cancel()
    with pytest.raises(grpc.RpcError):
        list(call)
    assert cri.runtime.Version(c.pb.VersionRequest(), timeout=5).runtime_name == "fluyt"


# Stats and metrics --------------------------------------------------------------------------------------------------

LOAD = """
dd if=/dev/zero of=/big bs=1M count=5 2>/dev/null
{ head -c 30000000 /dev/zero; : >/held; exec sleep 1000; } | tail -c 30000001 &
while true; do :; done
"""


@pytest.fixture
def loaded(cri, busybox):
    """A pod with a cgroup of its own and a container that computes, holds 30 MB and has written 5 MB."""
    cri.pull(busybox)
    parent = "/fluyt-reports-" + uuid.uuid4().hex[:8]
    config = cri.sandbox_config()
    config.linux.cgroup_parent = parent
    config.labels["app"] = "load"
    sandbox = cri.run_sandbox(config)
    wanted = cri.container_config(busybox, ["sh", "-c", LOAD])
    wanted.linux.resources.memory_limit_in_bytes = 128 << 20
    wanted.linux.resources.cpu_period, wanted.linux.resources.cpu_quota = 100000, 50000
    wanted.image.user_specified_image = "busybox:walk"
    container = cri.run_container(sandbox, config, wanted)
    # From then on three processes run, and none is a zombie, which one count has and another has not.
    harness.wait_for(lambda: cri.exec(container, "test", "-e", "/held")[0] == 0, "the 30 MB")
    assert cri.exec(container, "stat", "-c", "%s", "/big")[1] == b"5242880\n"
    yield sandbox, container, config
    cri.remove_sandbox(sandbox)
    for top in harness.cgroup_tops():
        with contextlib.suppress(OSError):
            os.rmdir(top + parent)


def cgroups_of(cri, container):
    answer = cri.runtime.ContainerStatus(c.pb.ContainerStatusRequest(container_id=container, verbose=True), timeout=10)
    return json.loads(answer.info["info"])["cgroups"]


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read()


def memory_usage(cgroups):
    if "memory" in cgroups:
        return int(read(cgroups["memory"] + "/memory.usage_in_bytes"))
    return int(read(cgroups["unified"] + "/memory.current"))


def cpu_usage(cgroups):
    if "cpuacct" in cgroups:
        return int(read(cgroups["cpuacct"] + "/cpuacct.usage"))
    return int(read(cgroups["unified"] + "/cpu.stat").split()[1]) * 1000


def check_pressure(message, directory, resource):
    """Set exactly where the kernel has the file, and not ahead of it."""
    path = f"{directory}/{resource}.pressure"
    if not os.path.exists(path):
        assert not message.HasField("psi")
        return
    some = read(path).splitlines()[0].split()
    assert message.psi.Some.Total <= int(some[4].split("=")[1]) * 1000
    assert 0 <= message.psi.Some.Avg10 <= 100


def container_stats(cri, container):
    return cri.runtime.ContainerStats(c.pb.ContainerStatsRequest(container_id=container), timeout=10).stats


def test_container_stats_are_what_the_cgroup_says(cri, loaded):
    _, container, _ = loaded
    cgroups = cgroups_of(cri, container)
    harness.wait_for(lambda: container_stats(cri, container).memory.rss_bytes.value > 25 << 20, "30 MB in use")
    before = cpu_usage(cgroups)
    stats = container_stats(cri, container)
    assert before <= stats.cpu.usage_core_nano_seconds.value <= cpu_usage(cgroups)
    assert abs(stats.memory.usage_bytes.value - memory_usage(cgroups)) < 4 << 20
    assert stats.memory.working_set_bytes.value <= stats.memory.usage_bytes.value
    assert stats.memory.available_bytes.value == (128 << 20) - stats.memory.working_set_bytes.value
    assert stats.memory.page_faults.value > 1000
    for message, resource in ((stats.cpu, "cpu"), (stats.memory, "memory"), (stats.io, "io")):
        check_pressure(message, cgroups.get("unified", ""), resource)
        assert message.timestamp > 0
    if os.path.exists(cgroups.get("memory", "") + "/memory.memsw.usage_in_bytes"):
        assert stats.swap.swap_usage_bytes.value < 1 << 20
    # Half a core, over more than a second.
    time.sleep(2)
    stats = container_stats(cri, container)
    time.sleep(2)
    stats = container_stats(cri, container)
    assert 100_000_000 < stats.cpu.usage_nano_cores.value < 700_000_000
    # What was written is measured behind our back.
    layer = harness.wait_for(lambda: container_stats(cri, container).writable_layer.used_bytes.value > 5 << 20
                             and container_stats(cri, container).writable_layer, "5 MB on disk", 30)
    assert layer.used_bytes.value < 6 << 20 and layer.inodes_used.value >= 1
    assert os.path.isdir(layer.fs_id.mountpoint) and layer.timestamp > 0


def test_stats_are_cheap(cri, loaded):
    _, container, _ = loaded
    container_stats(cri, container)  # the first waits for the root's first figures
    began = time.monotonic()
    for _ in range(50):
        container_stats(cri, container)
    assert (time.monotonic() - began) / 50 < 0.1


def test_pod_stats_are_the_pods(cri, loaded):
    sandbox, container, config = loaded
    request = c.pb.PodSandboxStatsRequest(pod_sandbox_id=sandbox)
    first = cri.runtime.PodSandboxStats(request, timeout=10).stats
    assert first.attributes.id == sandbox and first.attributes.metadata == config.metadata
    assert dict(first.attributes.labels) == {"app": "load"}
    assert first.linux.network.default_interface.name == "eth0" and not first.linux.network.interfaces
    assert [stats.attributes.id for stats in first.linux.containers] == [container]
    assert cri.exec(container, "ping", "-c", "3", "-s", "1000", "10.187.0.1")[0] == 0
    second = cri.runtime.PodSandboxStats(request, timeout=10).stats
    before, after = first.linux.network.default_interface, second.linux.network.default_interface
    assert after.rx_bytes.value >= before.rx_bytes.value + 3000
    assert after.tx_bytes.value >= before.tx_bytes.value + 3000
    assert (after.rx_errors.value, after.tx_errors.value) == (0, 0)
    pid = json.loads(cri.runtime.ContainerStatus(c.pb.ContainerStatusRequest(
        container_id=container, verbose=True), timeout=10).info["info"])["pid"]
    device = next(line.split() for line in read(f"/proc/{pid}/net/dev").splitlines() if "eth0:" in line)
    assert int(device[1]) >= after.rx_bytes.value and int(device[9]) >= after.tx_bytes.value
    # The pod's cgroup has all of its containers.
    inside = second.linux.containers[0]
    assert second.linux.memory.usage_bytes.value > 25 << 20
    assert second.linux.cpu.usage_core_nano_seconds.value >= first.linux.containers[0].cpu.usage_core_nano_seconds.value
    assert second.linux.process.process_count.value in (3, 4)  # sh, tail, sleep; head may still run
    assert inside.cpu.usage_core_nano_seconds.value > 0
    # A container that has gone has counted.
    used = second.linux.cpu.usage_core_nano_seconds.value
    cri.stop(container)
    cri.remove(container)
    third = cri.runtime.PodSandboxStats(request, timeout=10).stats
    assert third.linux.cpu.usage_core_nano_seconds.value >= used and not third.linux.containers


def test_lists_of_stats(cri, loaded, pod):
    sandbox, container, _ = loaded
    other, _ = pod

    def listed(**filters):
        wanted = c.pb.PodSandboxStatsFilter(**filters)
        one = cri.runtime.ListPodSandboxStats(c.pb.ListPodSandboxStatsRequest(filter=wanted), timeout=10).stats
        many = streamed(cri.runtime.StreamPodSandboxStats, c.pb.StreamPodSandboxStatsRequest(filter=wanted),
                        "pod_sandbox_stats")
        found = {stats.attributes.id for stats in one}
        assert found == {stats.attributes.id for stats in many} and len(found) == len(one) == len(many)
        return found

    assert listed() >= {sandbox, other}
    assert listed(id=sandbox) == {sandbox}
    assert listed(label_selector={"app": "load"}) == {sandbox}
    assert listed(label_selector={"app": "none"}) == set()
    one = cri.runtime.ListContainerStats(c.pb.ListContainerStatsRequest(), timeout=10).stats
    many = streamed(cri.runtime.StreamContainerStats, c.pb.StreamContainerStatsRequest(), "container_stats")
    assert {stats.attributes.id for stats in one} == {stats.attributes.id for stats in many} == {container}
    # A pod without a cgroup of its own has its containers' sum.
    empty = cri.runtime.PodSandboxStats(c.pb.PodSandboxStatsRequest(pod_sandbox_id=other), timeout=10).stats
    assert not empty.linux.containers and not empty.linux.cpu.HasField("usage_core_nano_seconds")
    cri.runtime.StopPodSandbox(c.pb.StopPodSandboxRequest(pod_sandbox_id=other), timeout=30)
    assert other not in listed()
    assert c.error_of(cri.runtime.PodSandboxStats, c.pb.PodSandboxStatsRequest(pod_sandbox_id=other),
                      timeout=10)[0] == "FAILED_PRECONDITION"


def metrics_of(message, descriptors):
    """{name: [(labels, value)]} of one pod or container; every metric must be one of the descriptors'."""
    found = {}
    for metric in message.metrics:
        keys = descriptors[metric.name].label_keys
        assert len(keys) == len(metric.label_values) and metric.timestamp == 0
        kind = c.pb.COUNTER if metric.name.endswith(("_total", "_failcnt")) and "inodes" not in metric.name else c.pb.GAUGE
        assert metric.metric_type == kind, metric.name
        found.setdefault(metric.name, []).append((dict(zip(keys, metric.label_values)), metric.value.value))
    return found


def test_metrics(cri, loaded):
    sandbox, container, config = loaded
    listed = cri.runtime.ListMetricDescriptors(c.pb.ListMetricDescriptorsRequest(), timeout=10).descriptors
    descriptors = {descriptor.name: descriptor for descriptor in listed}
    assert len(descriptors) == len(listed) == 56
    assert all(descriptor.help and descriptor.label_keys for descriptor in listed)
    harness.wait_for(lambda: container_stats(cri, container).memory.rss_bytes.value > 25 << 20, "30 MB in use")
    one = cri.runtime.ListPodSandboxMetrics(c.pb.ListPodSandboxMetricsRequest(), timeout=10).pod_metrics
    many = streamed(cri.runtime.StreamPodSandboxMetrics, c.pb.StreamPodSandboxMetricsRequest(), "pod_sandbox_metrics")
    assert [pod.pod_sandbox_id for pod in one] == [pod.pod_sandbox_id for pod in many]
    pod = next(pod for pod in one if pod.pod_sandbox_id == sandbox)
    network = metrics_of(pod, descriptors)
    labels, received = network["container_network_receive_bytes_total"][0]
    assert labels == {"id": config.linux.cgroup_parent, "name": sandbox, "image": "", "namespace": "default",
                      "pod": config.metadata.name, "container": "POD", "interface": "eth0"}
    stats = cri.runtime.PodSandboxStats(c.pb.PodSandboxStatsRequest(pod_sandbox_id=sandbox), timeout=10).stats.linux
    assert 0 < received <= stats.network.default_interface.rx_bytes.value
    assert [entry.container_id for entry in pod.container_metrics] == [container]
    found = metrics_of(pod.container_metrics[0], descriptors)
    base = {"id": f"{config.linux.cgroup_parent}/{container}", "name": container, "image": "busybox:walk",
            "namespace": "default", "pod": config.metadata.name, "container": "main"}
    for name, values in found.items():
        for labels, _ in values:
            assert {key: labels[key] for key in base} == base, name
    cgroups = cgroups_of(cri, container)

    def value(name):
        assert len(found[name]) == 1
        return found[name][0][1]

    assert abs(value("container_memory_usage_bytes") - memory_usage(cgroups)) < 4 << 20
    assert value("container_memory_rss") > 25 << 20
    assert value("container_memory_max_usage_bytes") >= value("container_memory_rss")
    assert value("container_cpu_usage_seconds_total") <= cpu_usage(cgroups) // 10 ** 9
    assert found["container_cpu_usage_seconds_total"][0][0]["cpu"] == "total"
    assert value("container_cpu_cfs_periods_total") > 0 and value("container_cpu_cfs_throttled_periods_total") > 0
    assert value("container_processes") == value("container_threads") and value("container_threads") == 3
    assert value("container_file_descriptors") >= 9 and value("container_sockets") == 0
    assert value("container_oom_events_total") == 0
    assert (value("container_spec_cpu_period"), value("container_spec_cpu_quota")) == (100000, 50000)
    assert value("container_spec_memory_limit_bytes") == 128 << 20
    assert abs(value("container_last_seen") - time.time()) < 30
    assert value("container_start_time_seconds") == cri.status(container).started_at // 10 ** 9
    assert found["container_ulimits_soft"][0][0]["ulimit"] == "max_open_files"
    size = os.statvfs(cri.images.ImageFsInfo(c.pb.ImageFsInfoRequest(), timeout=10).image_filesystems[0].fs_id.mountpoint)
    assert value("container_fs_limit_bytes") == size.f_blocks * size.f_frsize
    assert value("container_fs_inodes_total") == size.f_files
    faults = {(labels["failure_type"], labels["scope"]): count for labels, count in found["container_memory_failures_total"]}
    assert set(faults) == {(kind, scope) for kind in ("pgfault", "pgmajfault") for scope in ("container", "hierarchy")}
    # Everything has a value but what this kernel does not count.
    optional = {name for name in descriptors if "pressure" in name or "hugetlb" in name or "blkio" in name
                or "fs_reads" in name or "fs_writes" in name}
    assert set(found) | set(network) | optional == set(descriptors)
    if os.path.exists(cgroups.get("unified", "") + "/cpu.pressure"):
        assert sum("pressure" in name for name in found) == 6


def test_pod_resources_are_recorded(engine, cri, pod):
    sandbox, _ = pod

    def shown():
        answer = cri.runtime.PodSandboxStatus(c.pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox, verbose=True), timeout=10)
        info = json.loads(answer.info["info"])
        return info.get("overhead"), info.get("resources")

    def update(**parts):
        cri.runtime.UpdatePodSandboxResources(c.pb.UpdatePodSandboxResourcesRequest(pod_sandbox_id=sandbox, **parts), timeout=10)

    assert shown() == (None, None)
    update(resources=c.pb.LinuxContainerResources(memory_limit_in_bytes=64 << 20, cpu_shares=512))
    assert shown() == (None, {"memory_limit_in_bytes": str(64 << 20), "cpu_shares": "512"})
    update(overhead=c.pb.LinuxContainerResources(cpu_shares=2))
    assert shown() == ({"cpu_shares": "2"}, {"memory_limit_in_bytes": str(64 << 20), "cpu_shares": "512"})
    engine.stop()
    engine.start()
    cri.wait_served()
    assert shown()[0] == {"cpu_shares": "2"}
    code, message = c.error_of(update, resources=c.pb.LinuxContainerResources(cpu_shares=-1))
    assert code == "INVALID_ARGUMENT" and "resources" in message and "cpu_shares" in message


def test_what_is_wrong_is_named(cri, engine):
    for call, request in ((cri.runtime.PodSandboxStats, c.pb.PodSandboxStatsRequest),
                          (cri.runtime.UpdatePodSandboxResources, c.pb.UpdatePodSandboxResourcesRequest)):
        code, message = c.error_of(call, request(pod_sandbox_id="feed"), timeout=10)
        assert code == "NOT_FOUND" and "feed" in message
        assert c.error_of(call, request(), timeout=10)[0] == "INVALID_ARGUMENT"
    code, message = c.error_of(cri.runtime.ContainerStats, c.pb.ContainerStatsRequest(container_id="feed"), timeout=10)
    assert code == "NOT_FOUND" and "feed" in message
    assert c.error_of(cri.runtime.ContainerStats, c.pb.ContainerStatsRequest(), timeout=10)[0] == "INVALID_ARGUMENT"


@pytest.mark.skipif(not os.path.exists(harness.crictl()), reason="crictl is not built (./dev tools)")
def test_crictl_prints_it(engine, cri, loaded, tmp_path):
    sandbox, container, config = loaded
    with open(tmp_path / "events", "wb") as said:
        listener = subprocess.Popen([harness.crictl(), "-r", "unix://" + engine.socket, "events"], stdout=said,
                                    stderr=subprocess.DEVNULL)
    try:
        rows = engine.crictl("stats").stdout.splitlines()
        assert "NAME" in rows[0] and any(row.startswith(container[:13]) for row in rows[1:])
        rows = engine.crictl("statsp").stdout.splitlines()
        assert any(config.metadata.name in row for row in rows[1:])
        pods = json.loads(engine.crictl("statsp", "-o", "json").stdout)["stats"]
        assert any(stats["attributes"]["id"] == sandbox and stats["linux"]["network"]["defaultInterface"]["name"] == "eth0"
                   for stats in pods)
        assert len(json.loads(engine.crictl("metricdescs").stdout)["descriptors"]) == 56
        metrics = json.loads(engine.crictl("metricsp").stdout)["podMetrics"]
        assert any(entry["containerMetrics"][0]["containerId"] == container for entry in metrics if entry.get("containerMetrics"))
        cri.stop(container)
        harness.wait_for(lambda: "CONTAINER_STOPPED_EVENT" in read(tmp_path / "events"), "the event")
        assert container in read(tmp_path / "events")
    finally:
        harness.stop_process(listener)


@pytest.mark.parametrize("parent,words", [
    ("kubepods", "expected an absolute path"),
    ("/kubepods/../x", "without \"..\""),
    ("kubepods-pod1.slice", "expected an absolute path"),
    ("/kubepods.slice/kubepods-pod1.slice", "a slice is the systemd driver's"),
])
def test_cgroup_parent_of_another_form(cri, parent, words):
    """What RuntimeConfig says is what a pod's parent must be."""
    assert cri.runtime.RuntimeConfig(c.pb.RuntimeConfigRequest()).linux.cgroup_driver == c.pb.CGROUPFS
    config = cri.sandbox_config()
    config.linux.cgroup_parent = parent
    code, message = c.error_of(cri.run_sandbox, config)
    assert code == "INVALID_ARGUMENT" and f'linux.cgroup_parent: "{parent}": ' in message and words in message, message
    assert not list(cri.runtime.ListPodSandbox(c.pb.ListPodSandboxRequest()).items)
