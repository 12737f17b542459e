"""Bad input: one clear error at the caller, and nothing left of the attempt."""

import os
import re

import cri as c
import harness
import pytest


@pytest.fixture
def unchanged(engine, cri, busybox):
    cri.pull(busybox)
    before = harness.settled_counts(engine)
    yield
    assert harness.settled_counts(engine) == before


@pytest.mark.parametrize("name,words", [
    ("{registry}/walk/nothing:latest", ("nothing", "not")),
    ("{registry}/walk/busybox:no-such-tag", ("no-such-tag",)),
    ("{registry}/walk/UPPER:latest", ("UPPER",)),
    ("127.0.0.1:1/walk/busybox:latest", ("127.0.0.1:1",)),
])
def test_pull(cri, registry, unchanged, name, words):
    code, message = c.error_of(cri.pull, name.format(registry=registry.address))
    assert code in ("NOT_FOUND", "INVALID_ARGUMENT", "UNAVAILABLE"), message
    for word in words:
        assert word in message


def create_error(cri, pod, config):
    sandbox, sandbox_config = pod
    return c.error_of(cri.create, sandbox, sandbox_config, config)


def test_unknown_image(cri, pod):
    code, message = create_error(cri, pod, cri.container_config("no.such/image:tag", ["true"]))
    assert code == "NOT_FOUND" and "no.such/image" in message


def test_missing_program(cri, busybox, pod):
    sandbox, config = pod
    with pytest.raises(Exception) as caught:
        container = cri.create(sandbox, config, cri.container_config(busybox, ["/no/such/program"]))
        cri.start(container)
    assert "/no/such/program" in caught.value.details()
    assert list(cri.runtime.ListContainers(c.pb.ListContainersRequest(
        filter=c.pb.ContainerFilter(pod_sandbox_id=sandbox, state=c.pb.ContainerStateValue(state=c.RUNNING)))).containers) == []


def test_duplicate_name(cri, busybox, pod):
    sandbox, config = pod
    first = cri.create(sandbox, config, cri.container_config(busybox, ["true"]))
    code, message = create_error(cri, pod, cri.container_config(busybox, ["true"]))
    assert code == "ALREADY_EXISTS" and first in message and "main" in message


def test_unknown_sandbox(cri, busybox, pod):
    code, message = create_error(cri, ("0" * 64, pod[1]), cri.container_config(busybox, ["true"]))
    assert code == "NOT_FOUND" and "0" * 64 in message


def test_bind_source_that_is_a_loop(cri, busybox, pod, tmp_path):
    loop = str(tmp_path / "loop")
    os.symlink(loop, loop)
    wanted = cri.container_config(busybox, ["true"])
    wanted.mounts.add(container_path="/x", host_path=loop)
    code, message = create_error(cri, pod, wanted)
    assert loop in message, (code, message)


@pytest.mark.parametrize("field,value", [("capability", "CAP_NO_SUCH"), ("sysctl", "kernel.core_pattern")])
def test_fields_are_named(cri, busybox, pod, field, value):
    sandbox, config = pod
    if field == "capability":
        wanted = cri.container_config(busybox, ["true"])
        wanted.linux.security_context.capabilities.add_capabilities.append(value)
        message = create_error(cri, pod, wanted)[1]
    else:
        bad = cri.sandbox_config()
        bad.linux.sysctls[value] = "|/bin/x"
        message = c.error_of(cri.run_sandbox, bad)[1]
    assert re.search(value, message), message


def test_unknown_runtime_handler(cri, unchanged):
    code, message = c.error_of(cri.run_sandbox, cri.sandbox_config(), "no-such-handler")
    assert "no-such-handler" in message, code


def test_empty_messages(cri):
    for call, request in ((cri.runtime.RunPodSandbox, c.pb.RunPodSandboxRequest()),
                          (cri.runtime.CreateContainer, c.pb.CreateContainerRequest()),
                          (cri.runtime.StartContainer, c.pb.StartContainerRequest()),
                          (cri.runtime.ExecSync, c.pb.ExecSyncRequest()),
                          (cri.images.PullImage, c.pb.PullImageRequest())):
        code, message = c.error_of(call, request, timeout=20)
        assert code in ("INVALID_ARGUMENT", "NOT_FOUND") and message


def requests_of(service):
    """Each unary RPC of a service, with its request's type."""
    names = {"runtime": "RuntimeService", "images": "ImageService"}
    for method in c.pb.DESCRIPTOR.services_by_name[names[service]].methods:
        if not method.server_streaming:
            yield method.name, getattr(c.pb, method.input_type.name)


# What takes no id, or means everything by none.
OF_NO_OBJECT = {"Version", "ListPodSandbox", "ListContainers", "ListContainerStats", "ListPodSandboxStats", "ListPodSandboxMetrics",
                "ListMetricDescriptors", "Status", "RuntimeConfig", "UpdateRuntimeConfig", "ListImages", "ImageFsInfo"}
# Of what is not there it is success, or an answer without it (idempotence: api.proto).
GONE_IS_FINE = {"StopPodSandbox", "RemovePodSandbox", "StopContainer", "RemoveContainer", "ImageStatus", "RemoveImage"}


@pytest.mark.parametrize("service", ["runtime", "images"])
def test_ids_that_are_empty_or_unknown(cri, unchanged, service):
    tried = 0
    for name, request in requests_of(service):
        if name in OF_NO_OBJECT:
            continue
        call = getattr(getattr(cri, service), name)
        code, message = c.error_of(call, request(), timeout=20)
        assert code in ("INVALID_ARGUMENT", "NOT_FOUND") and message, (name, code, message)
        fields = [each.name for each in request.DESCRIPTOR.fields if each.name in ("pod_sandbox_id", "container_id")]
        if not fields:
            continue
        tried += 1
        asked = request(**{fields[0]: "feed"})
        if name in GONE_IS_FINE:
            call(asked, timeout=20)
            continue
        code, message = c.error_of(call, asked, timeout=20)
        assert (code == "NOT_FOUND" and "feed" in message) or code == "INVALID_ARGUMENT", (name, code, message)
    assert tried >= 14 or service == "images"


@pytest.mark.parametrize("service", ["runtime", "images"])
def test_messages_that_are_too_long(engine, unchanged, service):
    """The limit is that of other engines, 16 MiB: the answer says so, and the connection serves on."""
    client = c.Client(engine.socket, engine.folder + "/logs", options=[("grpc.max_send_message_length", -1)])
    try:
        for name, request in requests_of(service):
            asked = request()
            asked.MergeFromString(b"\xfa\x3e\x80\x80\x80\x09" + bytes(18 << 20))  # a field 999 that nobody knows
            code, message = c.error_of(getattr(getattr(client, service), name), asked, timeout=60)
            assert code == "RESOURCE_EXHAUSTED" and message, (name, code, message)
        assert client.runtime.Version(c.pb.VersionRequest(), timeout=10).runtime_name == "fluyt"
    finally:
        client.close()


@pytest.mark.parametrize("kind", ["symlink", "fifo", "climb", "absolute", "symlinked folder"])
def test_log_path(cri, busybox, pod, tmp_path, kind):
    sandbox, config = pod
    victim = tmp_path / "victim"
    victim.write_text("precious")
    log = os.path.join(config.log_directory, "evil.log")
    path = "evil.log"
    if kind == "symlink":
        os.symlink(victim, log)
    elif kind == "fifo":
        os.mkfifo(log)
    elif kind == "climb":
        path = "../../" + "x/" * 3 + "../evil.log"
    elif kind == "absolute":
        path = str(victim)
    else:
        os.symlink(tmp_path, os.path.join(config.log_directory, "folder"))
        path = "folder/victim"
    wanted = cri.container_config(busybox, ["echo", "overwritten"], log_path=path)
    with pytest.raises(Exception) as caught:
        cri.start(cri.create(sandbox, config, wanted))
    assert "log" in caught.value.details()
    assert victim.read_text() == "precious"


def test_reopen_refuses_what_create_refuses(cri, busybox, pod, tmp_path):
    sandbox, config = pod
    victim = tmp_path / "victim"
    victim.write_text("precious")
    script = "while true; do echo line; sleep 0.02; done"
    container = cri.run_container(sandbox, config, cri.container_config(busybox, ["sh", "-c", script]))
    log = os.path.join(config.log_directory, "main.log")
    harness.wait_for(lambda: os.path.exists(log) and os.path.getsize(log) > 0, "a line")
    os.rename(log, log + ".1")
    os.symlink(victim, log)
    code, message = c.error_of(cri.runtime.ReopenContainerLog,
                               c.pb.ReopenContainerLogRequest(container_id=container), timeout=10)
    assert "main.log" in message, code
    size = os.path.getsize(log + ".1")
    harness.wait_for(lambda: os.path.getsize(log + ".1") > size, "the old file to go on growing")
    assert victim.read_text() == "precious"
