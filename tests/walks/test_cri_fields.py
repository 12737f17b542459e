"""Fields of CRI that the official suite leaves out, by what a container sees of them."""

import json
import os
import socket
import subprocess

import cri as c
import harness
import pytest


def says(cri, container, *command):
    code, out, err = cri.exec(container, *command)
    assert code == 0, (out, err)
    return out.decode()


def create_request(cri, busybox, pod, name):
    """With namespace options that are the test's own."""
    wanted = cri.container_config(busybox, ["sleep", "1002"], name=name)
    return c.pb.CreateContainerRequest(pod_sandbox_id=pod[0], config=wanted, sandbox_config=pod[1])


def test_target_pid_sees_the_other_containers_processes(cri, busybox, pod):
    sandbox, config = pod
    first = cri.run_container(sandbox, config, cri.container_config(busybox, ["sh", "-c", "sleep 1234 & exec sleep 1000"], name="first"))
    request = create_request(cri, busybox, pod, name="debug")
    namespaces = request.config.linux.security_context.namespace_options
    namespaces.pid, namespaces.target_id = c.pb.TARGET, first
    debug = cri.runtime.CreateContainer(request, timeout=60).container_id
    cri.start(debug)
    listed = says(cri, debug, "ps")
    assert "sleep 1234" in listed and "sleep 1000" in listed and "sleep 1002" in listed, listed
    # It may come and go without the other.
    cri.stop(debug)
    assert cri.status(first).state == c.RUNNING
    request.config.metadata.name = "late"
    request.config.linux.security_context.namespace_options.target_id = debug
    code, message = c.error_of(cri.runtime.CreateContainer, request, timeout=60)
    assert code in ("FAILED_PRECONDITION", "INVALID_ARGUMENT") and debug in message, message


@pytest.mark.parametrize("field", ["network", "ipc"])
def test_a_container_cannot_leave_its_sandboxs_namespaces(cri, busybox, pod, field):
    request = create_request(cri, busybox, pod, name="out")
    setattr(request.config.linux.security_context.namespace_options, field, c.pb.NODE)
    code, message = c.error_of(cri.runtime.CreateContainer, request, timeout=60)
    assert code == "INVALID_ARGUMENT" and f"namespace_options.{field}: NODE" in message, message


def test_verbose_status_has_the_runtimes_specification(cri, busybox, pod):
    sandbox, config = pod
    wanted = cri.container_config(busybox, ["sleep", "1000"])
    wanted.envs.add(key="TOLD", value=b"once")
    container = cri.run_container(sandbox, config, wanted)
    asked = c.pb.ContainerStatusRequest(container_id=container, verbose=True)
    spec = json.loads(cri.runtime.ContainerStatus(asked, timeout=10).info["info"])["runtimeSpec"]
    assert spec["process"]["args"] == ["sleep", "1000"] and "TOLD=once" in spec["process"]["env"]
    assert {"pid", "mount"} <= {each["type"] for each in spec["linux"]["namespaces"]}
    cri.stop(container)
    assert "runtimeSpec" in json.loads(cri.runtime.ContainerStatus(asked, timeout=10).info["info"])


@pytest.mark.parametrize("number,name", [(c.pb.SIGUSR1, "USR1"), (c.pb.SIGRTMINPLUS3, "37")])
def test_stop_signal(cri, busybox, pod, number, name):
    sandbox, config = pod
    script = f"trap 'echo got it; exit 7' {name}; trap 'exit 8' TERM; echo ready; while true; do sleep 0.05; done"
    wanted = cri.container_config(busybox, ["sh", "-c", script], name="stop" + name)
    wanted.stop_signal = number
    container = cri.run_container(sandbox, config, wanted)
    log = os.path.join(config.log_directory, wanted.log_path)
    harness.wait_for(lambda: os.path.exists(log) and "ready" in open(log, encoding="utf-8").read(), "the traps")
    assert cri.status(container).stop_signal == number
    cri.stop(container, grace=20)
    status = cri.status(container)
    assert (status.exit_code, status.state) == (7, c.EXITED)
    assert "got it" in open(log, encoding="utf-8").read()


def hugepage_limit(cri, container, size):
    answer = cri.runtime.ContainerStatus(c.pb.ContainerStatusRequest(container_id=container, verbose=True), timeout=10)
    with open(f"/proc/{json.loads(answer.info['info'])['pid']}/cgroup", encoding="ascii") as file:
        places = [line.strip().split(":", 2)[1:] for line in file]
    for controllers, place in places:
        if controllers not in ("", "hugetlb"):
            continue
        for top, name in (("hugetlb", "limit_in_bytes"), ("unified", "max"), (".", "max")):
            path = f"/sys/fs/cgroup/{top}/{place}/hugetlb.{size}.{name}"
            if os.path.exists(path):
                with open(path, encoding="ascii") as file:
                    return file.read().strip()
    return None


def test_hugepage_limits(cri, busybox, pod):
    sandbox, config = pod
    wanted = cri.container_config(busybox, ["sleep", "1000"])
    wanted.linux.resources.hugepage_limits.add(page_size="2MB", limit=4 << 20)
    container = cri.run_container(sandbox, config, wanted)
    limit = hugepage_limit(cri, container, "2MB")
    if limit is None:
        pytest.skip("no hierarchy of this host has the hugetlb controller")
    assert limit == str(4 << 20)
    told = cri.status(container).resources.linux.hugepage_limits
    assert [(each.page_size, each.limit) for each in told] == [("2MB", 4 << 20)]
    wanted.metadata.name = "other"
    wanted.linux.resources.hugepage_limits[0].page_size = "3MB"
    code, message = c.error_of(cri.create, sandbox, config, wanted)
    assert "3MB" in message and code != "UNKNOWN", (code, message)


def test_unified_is_kept_or_refused_by_name(cri, busybox, pod):
    sandbox, config = pod
    wanted = cri.container_config(busybox, ["sleep", "1000"])
    wanted.linux.resources.unified["hugetlb.2MB.max"] = str(6 << 20)
    try:
        container = cri.run_container(sandbox, config, wanted)
    except c.grpc.RpcError as error:
        assert "unified" in error.details(), error.details()
    else:
        assert hugepage_limit(cri, container, "2MB") == str(6 << 20)
    wanted.metadata.name = "other"
    wanted.linux.resources.unified["memory.nonsense"] = "1"
    code, message = c.error_of(cri.create, sandbox, config, wanted)
    assert "memory.nonsense" in message or "unified" in message, (code, message)


@pytest.fixture
def dual_stack(engine):
    """The engine's network, with an address of each family for a pod."""
    path = engine.cni + "/10-test.conflist"
    with open(path, encoding="utf-8") as file:
        before = file.read()
    config = json.loads(before)
    for plugin in config["plugins"]:
        if "ipam" in plugin:
            plugin["ipam"].pop("subnet", None)
            plugin["ipam"]["ranges"] = [[{"subnet": "10.77.9.0/24"}], [{"subnet": "fd77::/64"}]]
            plugin["bridge"] = "fluyttest6"
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file)
    yield
    with open(path, "w", encoding="utf-8") as file:
        file.write(before)
    subprocess.run(["ip", "link", "del", "fluyttest6"], stderr=subprocess.DEVNULL, check=False)


@pytest.mark.skipif("FLUYT_CONTRAST" in os.environ, reason="the network is of the other engine's own")
def test_a_pod_with_both_families(cri, busybox, dual_stack):
    config = cri.sandbox_config()
    config.port_mappings.add(protocol=c.pb.TCP, container_port=8080, host_port=harness.free_port())
    sandbox = cri.run_sandbox(config)
    try:
        network = cri.runtime.PodSandboxStatus(c.pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox), timeout=10).status.network
        assert network.ip.startswith("10.77.9.") and [each.ip[:5] for each in network.additional_ips] == ["fd77:"]
        script = "echo hello > /tmp/index.html; exec httpd -f -p '[::]:8080' -h /tmp"
        cri.run_container(sandbox, config, cri.container_config(busybox, ["sh", "-c", script]))
        for address in (network.ip, network.additional_ips[0].ip):
            harness.wait_for(lambda address=address: answers(address, 8080), f"the server at {address}")
    finally:
        cri.remove_sandbox(sandbox)


def answers(address, port):
    try:
        with socket.create_connection((address, port), timeout=2) as connection:
            connection.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
            return b"hello" in connection.makefile("rb").read()
    except OSError:
        return False


def test_the_file_systems_of_images_and_containers(cri, busybox, pod):
    sandbox, config = pod
    script = "head -c 9000000 /dev/zero > /written; exec sleep 1000"
    cri.run_container(sandbox, config, cri.container_config(busybox, ["sh", "-c", script]))

    def written():
        answer = cri.images.ImageFsInfo(c.pb.ImageFsInfoRequest(), timeout=10)
        if not answer.image_filesystems or not answer.container_filesystems:
            return False
        [images], [containers] = answer.image_filesystems, answer.container_filesystems
        for told in (images, containers):
            assert os.path.isdir(told.fs_id.mountpoint)
            assert told.used_bytes.value > 100_000 and told.inodes_used.value > 10 and told.timestamp > 0
        return containers.used_bytes.value - images.used_bytes.value >= 9_000_000
    harness.wait_for(written, "what the container wrote", 30)  # it is measured at most every ten seconds


def test_a_call_whose_caller_has_gone_leaves_no_name_behind(cri, busybox, pod):
    """Made or not by then: who asks again gets a container."""
    sandbox, config = pod
    for attempt, seconds in enumerate((0.0005, 0.002, 0.005, 0.01, 0.02)):
        wanted = cri.container_config(busybox, ["sleep", "1000"], name=f"gone{attempt}")
        with pytest.raises(c.grpc.RpcError) as cut:
            cri.create(sandbox, config, wanted, timeout=seconds)
            pytest.skip("this machine makes a container in less time than a call takes")
        assert cut.value.code() == c.grpc.StatusCode.DEADLINE_EXCEEDED
        container = cri.create(sandbox, config, wanted)
        listed = cri.runtime.ListContainers(c.pb.ListContainersRequest(filter=c.pb.ContainerFilter(pod_sandbox_id=sandbox)), timeout=10)
        assert [each.id for each in listed.containers if each.metadata.name == wanted.metadata.name] == [container]
        cri.start(container)


def test_a_container_is_shown_by_the_name_of_its_image(cri, busybox, pod):
    """A kubelet asks by id and shows what it is told in the pod's status."""
    sandbox, config = pod
    wanted = cri.container_config(cri.pull(busybox), ["sleep", "1000"])
    wanted.image.user_specified_image = busybox
    container = cri.create(sandbox, config, wanted)
    status = cri.status(container)
    assert status.image.image == busybox
    assert status.image_id == wanted.image.image
