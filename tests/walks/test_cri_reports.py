"""What the CRI reports: streamed lists, events, stats and metrics, compared with what else there is to see."""

import queue
import threading

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
    engine.stop()
    harness.wait_for(lambda: listener.error is not None, "the end of the stream", 5)
    assert listener.error.code().name == "UNAVAILABLE"
    engine.start()
    again = Listener(cri)
    cri.stop(container)
    harness.wait_for(lambda: again.events or again.error, "the event")
    assert again.kinds() == [(STOPPED, container)]
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
