"""Pods with a user namespace of their own: whose the files are, what root there may do, and what is left."""

import glob
import json
import os
import socket
import subprocess
import time

import cri as c
import handlers
import harness
import images
import pytest

BASE, OTHER, COUNT = 100000, 300000, 65536


def in_users(config, first=BASE, count=COUNT):
    users = config.linux.security_context.namespace_options.userns_options
    users.mode = c.pb.POD
    users.uids.add(container_id=0, host_id=first, length=count)
    users.gids.add(container_id=0, host_id=first, length=count)
    return config


def create(cri, sandbox, config, wanted):
    wanted.linux.security_context.namespace_options.CopyFrom(config.linux.security_context.namespace_options)
    return cri.create(sandbox, config, wanted)


def start(cri, sandbox, config, wanted):
    container = create(cri, sandbox, config, wanted)
    cri.start(container)
    return container


@pytest.fixture
def users_pod(cri, busybox):
    cri.pull(busybox)
    config = in_users(cri.sandbox_config())
    sandbox = cri.run_sandbox(config)
    yield sandbox, config
    cri.remove_sandbox(sandbox)


def pid_of(engine, container):
    return json.loads(engine.crictl("inspect", container).stdout)["info"]["pid"]


def upper_of(engine, container):
    return f"{engine.root}/image/roots/{container}/upper"


def test_the_feature_is_offered(cri):
    status = cri.runtime.Status(c.pb.StatusRequest(), timeout=30)
    assert {handler.name: handler.features.user_namespaces for handler in status.runtime_handlers} == {
        "": True, "runf": True, "guest": True}
    assert status.features.user_namespaces_host_network


def test_root_in_the_pod_is_somebody_else_outside(engine, cri, busybox, users_pod):
    sandbox, config = users_pod
    container = start(cri, sandbox, config, cri.container_config(busybox, ["sleep", "1000"]))
    assert cri.exec(container, "cat", "/proc/self/uid_map")[1].split() == [b"0", b"100000", b"65536"]
    assert cri.exec(container, "cat", "/proc/self/gid_map")[1].split() == [b"0", b"100000", b"65536"]
    assert cri.exec(container, "id", "-u")[1] == b"0\n"
    # The image's files are root's inside, and stay what they are on disk.
    assert cri.exec(container, "stat", "-c", "%u:%g", "/bin/busybox", "/", "/etc")[1] == b"0:0\n0:0\n0:0\n"
    code, out, err = cri.exec(container, "sh", "-c", "echo x > /made && chown 1234:5678 /made && mkdir /dir "
                              "&& chmod 4755 /made && stat -c %u:%g:%a /made /dir")
    assert (code, out) == (0, b"1234:5678:4755\n0:0:755\n"), err
    made = os.stat(upper_of(engine, container) + "/made")
    assert (made.st_uid, made.st_gid) == (BASE + 1234, BASE + 5678)
    assert os.stat(upper_of(engine, container) + "/dir").st_uid == BASE
    assert os.stat(upper_of(engine, container)).st_uid == BASE
    # Ids that the namespace does not have cannot be taken.
    assert cri.exec(container, "chown", "65536", "/made")[0] != 0
    # Files of the pod: readable, root's, and hosts writable as it is for root in any pod.
    assert cri.exec(container, "stat", "-c", "%u", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname",
                    "/dev/shm", "/dev/mqueue")[1] == b"0\n" * 5
    assert cri.exec(container, "sh", "-c", "echo '10.0.0.1 more' >> /etc/hosts && echo y > /dev/shm/f")[0] == 0
    status = cri.runtime.PodSandboxStatus(c.pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox), timeout=30).status
    told = status.linux.namespaces.options.userns_options
    assert (told.mode, told.uids[0].host_id, told.gids[0].length) == (c.pb.POD, BASE, COUNT)


def test_its_rights_are_its_own_namespaces(cri, busybox, users_pod):
    sandbox, config = users_pod
    wanted = cri.container_config(busybox, ["sleep", "1000"])
    wanted.linux.security_context.capabilities.add_capabilities.append("ALL")
    container = start(cri, sandbox, config, wanted)
    assert cri.exec(container, "mknod", "/disk", "b", "8", "0")[0] != 0
    assert cri.exec(container, "sh", "-c", "echo 1 > /proc/sys/kernel/panic")[0] != 0
    assert cri.exec(container, "mount", "-t", "ext4", "/dev/zero", "/mnt")[0] != 0
    assert cri.exec(container, "hostname", "renamed")[0] == 0, "its UTS namespace is the pod's own"
    assert cri.exec(container, "ip", "link", "add", "dummy9", "type", "dummy")[0] in (0, 1, 2)
    assert cri.exec(container, "ip", "addr", "add", "127.0.0.9/8", "dev", "lo")[0] == 0, "the network is too"
    # The namespace's own settings: its ids are fixed.
    assert cri.exec(container, "sh", "-c", "echo '0 0 1' > /proc/self/uid_map")[0] != 0


def test_identity_logs_stats_kill(engine, cri, busybox, users_pod):
    sandbox, config = users_pod
    wanted = cri.container_config(busybox, ["sh", "-c", "id -u; id -g; id -G; echo err >&2; echo again > /dev/stdout; "
                                            "exec sleep 1000"])
    security = wanted.linux.security_context
    security.run_as_user.value, security.run_as_group.value = 1000, 2000
    security.supplemental_groups.append(3000)
    container = start(cri, sandbox, config, wanted)
    log = os.path.join(config.log_directory, "main.log")

    def lines():
        with open(log, encoding="utf-8") as file:
            return [line.split(" ", 3)[3].strip() for line in file]
    harness.wait_for(lambda: len(lines()) == 5, "five lines of log")
    assert sorted(lines()) == sorted(["1000", "2000", "2000 3000", "err", "again"])
    user = cri.status(container).user.linux
    assert (user.uid, user.gid) == (1000, 2000)
    assert os.stat(f"/proc/{pid_of(engine, container)}").st_uid == BASE + 1000
    assert cri.exec(container, "id", "-u")[1] == b"1000\n"
    stats = cri.runtime.ContainerStats(c.pb.ContainerStatsRequest(container_id=container), timeout=30).stats
    assert stats.cpu.usage_core_nano_seconds.value > 0
    cri.stop(container)
    assert cri.status(container).exit_code == 137
    security.run_as_user.value = COUNT
    wanted.metadata.attempt = 1
    code, message = c.error_of(create, cri, sandbox, config, wanted)
    assert code == "INVALID_ARGUMENT" and "run_as_user: 65536" in message


def test_a_volume_with_its_ids_mapped(cri, busybox, users_pod, tmp_path):
    sandbox, config = users_pod
    volume = tmp_path / "volume"
    volume.mkdir()
    os.chmod(tmp_path, 0o711)
    (volume / "mine").write_text("x")
    os.chown(volume / "mine", 42, 42)
    wanted = cri.container_config(busybox, ["sleep", "1000"])
    for path in ("/mapped", "/plain"):
        mount = wanted.mounts.add(container_path=path, host_path=str(volume))
        if path == "/mapped":
            mount.uidMappings.add(container_id=0, host_id=BASE, length=COUNT)
            mount.gidMappings.add(container_id=0, host_id=BASE, length=COUNT)
    container = start(cri, sandbox, config, wanted)
    assert cri.exec(container, "stat", "-c", "%u:%g", "/mapped/mine", "/mapped")[1] == b"42:42\n0:0\n"
    assert cri.exec(container, "sh", "-c", "echo y > /mapped/new && chown 7 /mapped/new")[0] == 0
    assert os.stat(volume / "new").st_uid == 7, "on disk it is as without a user namespace"
    # Without mappings the host's ids are nobody's, and what is not open to all stays shut.
    assert cri.exec(container, "stat", "-c", "%u", "/plain/mine")[1] == b"65534\n"
    assert cri.exec(container, "sh", "-c", "echo z >> /plain/mine")[0] != 0
    assert cri.exec(container, "sh", "-c", "echo z > /plain/created")[0] != 0
    assert len(cri.status(container).mounts[0].uidMappings) == 1


def test_files_are_copied_onto_what_is_mapped(engine, cri, busybox, users_pod, tmp_path):
    sandbox, config = users_pod
    volume = tmp_path / "volume"
    volume.mkdir()
    os.chmod(tmp_path, 0o711)
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "file").write_text("hello")
    wanted = cri.container_config(busybox, ["sleep", "1000"])
    mount = wanted.mounts.add(container_path="/mapped", host_path=str(volume))
    mount.uidMappings.add(container_id=0, host_id=BASE, length=COUNT)
    mount.gidMappings.add(container_id=0, host_id=BASE, length=COUNT)
    container = start(cri, sandbox, config, wanted)
    for place in ("/mapped", "/dev", "/"):  # a mapped mount, a tmpfs of its own user namespace, and the root
        engine.fluyt("cp", str(tmp_path / "tree"), f"{container}:{place}/new")
        assert cri.exec(container, "sh", "-c", f"cd {place}/new/sub && stat -c %u:%g . file && cat file")[1] == b"0:0\n0:0\nhello"
    assert os.stat(volume / "new" / "sub" / "file").st_uid == 0, "on disk it is as without a user namespace"


def test_a_file_system_that_cannot_be_mapped_is_named(cri, busybox, users_pod):
    sandbox, config = users_pod
    wanted = cri.container_config(busybox, ["true"])
    mount = wanted.mounts.add(container_path="/kernel", host_path="/proc/sys")
    mount.uidMappings.add(container_id=0, host_id=BASE, length=COUNT)
    mount.gidMappings.add(container_id=0, host_id=BASE, length=COUNT)
    code, message = c.error_of(create, cri, sandbox, config, wanted)
    assert code == "FAILED_PRECONDITION"
    assert '"/kernel"' in message and "files of proc cannot be shown under other ids" in message


def test_two_pods_share_layers_under_different_ids(engine, cri, registry):
    layer = images.layer([images.Entry("shared", data=b"s" * (4 << 20), uid=5, gid=6),
                          images.Entry("suid", data=b"#!/bin/sh\n", mode=0o4755),
                          images.Entry("out-of-range", uid=COUNT + 1, gid=COUNT + 1)])
    image = images.Image([images.busybox_layer(), layer], {"Env": [images.PATH_ENV], "Cmd": ["sh"]})
    images.push(image, registry.address, "walk/shared", "latest")
    name = registry.address + "/walk/shared:latest"
    cri.pull(name)
    blocks = disk_usage(engine.root + "/image/layers")
    pods = []
    for first in (BASE, OTHER):
        config = in_users(cri.sandbox_config(), first)
        sandbox = cri.run_sandbox(config)
        container = start(cri, sandbox, config, cri.container_config(name, ["sleep", "1000"]))
        pods.append((first, sandbox, container))
    try:
        for first, _, container in pods:
            assert cri.exec(container, "stat", "-c", "%u:%g", "/shared", "/out-of-range")[1] == b"5:6\n65534:65534\n"
            root = f"/proc/{pid_of(engine, container)}/root"
            assert os.stat(root + "/shared").st_uid == first + 5
            assert os.stat(root + "/suid").st_uid == first
            assert disk_usage(upper_of(engine, container)) < 64 << 10, "no copy of a layer is made"
        assert disk_usage(engine.root + "/image/layers") == blocks
    finally:
        for _, sandbox, _ in pods:
            cri.remove_sandbox(sandbox)


def disk_usage(folder):
    return int(subprocess.run(["du", "-s", "-B1", folder], check=True, stdout=subprocess.PIPE).stdout.split()[0])


def test_a_hostile_image_gains_nothing_outside(engine, cri, registry):
    """Its setuid program makes root of the pod and of nobody else; ids outside the range make nobody at all."""
    with open(harness.BIN + "/fluyt-pod-init", "rb") as file:  # a program that waits, and drops no rights by itself
        program = file.read()
    layer = images.layer([images.Entry("suid", data=program, mode=0o4755, uid=0, gid=0),
                          images.Entry("stranger", data=program, mode=0o6755, uid=COUNT + 5, gid=COUNT + 5),
                          images.Entry("private", data=b"secret", mode=0o600, uid=COUNT + 5),
                          images.Entry("etc/passwd", data=b"root:x:0:0::/:/bin/sh\nhigh:x:70000:70000::/:/bin/sh\n")])
    images.push(images.Image([images.busybox_layer(), layer], {"Env": [images.PATH_ENV], "Cmd": ["sh"]}),
                registry.address, "walk/hostile", "latest")
    name = registry.address + "/walk/hostile:latest"
    cri.pull(name)
    config = in_users(cri.sandbox_config())
    sandbox = cri.run_sandbox(config)
    try:
        wanted = cri.container_config(name, ["/suid"])
        wanted.linux.security_context.run_as_user.value = 1000
        container = start(cri, sandbox, config, wanted)

        def ids(pid):
            with open(f"/proc/{pid}/status", encoding="utf-8") as file:
                rows = dict(line.split(":\t", 1) for line in file if ":\t" in line)
            return rows["Uid"].split(), rows["Gid"].split()
        uids, _ = ids(pid_of(engine, container))
        assert uids[:3] == [str(BASE + 1000), str(BASE), str(BASE)], "root of the pod is not the host's"
        root = cri.container_config(name, ["sleep", "1000"], name="root")
        root.linux.security_context.capabilities.add_capabilities.append("ALL")
        container = start(cri, sandbox, config, root)
        # A set-id bit of an id that the pod does not have is not obeyed, and such files are not even root's to change.
        stranger = start(cri, sandbox, config, cri.container_config(name, ["/stranger"], name="stranger"))
        assert ids(pid_of(engine, stranger)) == ([str(BASE)] * 4, [str(BASE)] * 4)
        for command in ("cat /private", "chmod 777 /private", "chown 0 /private", "echo x > /private",
                        "chown 65536 /suid", "su high -c true"):
            assert cri.exec(container, "sh", "-c", command)[0] != 0, command
        # What it writes with a set-id bit is, on the host's disk, the pod's.
        assert cri.exec(container, "sh", "-c", "cp /bin/busybox /made && chmod 6777 /made")[0] == 0
        made = os.stat(upper_of(engine, container) + "/made")
        assert (made.st_uid, made.st_gid) == (BASE, BASE)
        for folder, _, names in os.walk(upper_of(engine, container)):
            for entry in names:
                assert os.lstat(os.path.join(folder, entry)).st_uid >= BASE, entry
        # Nobody but root comes as far as the layers.
        assert os.stat(engine.root + "/image").st_mode & 0o077 == 0
        # The kernel's own settings are the host's.
        for command in ("echo x > /proc/sys/kernel/core_pattern", "echo 1 > /proc/sys/vm/drop_caches",
                        "mount -t sysfs none /mnt && echo x > /mnt/power/state", "echo b > /proc/sysrq-trigger", "unshare -r mknod /null c 1 3"):
            assert cri.exec(container, "sh", "-c", command)[0] != 0, command
    finally:
        cri.remove_sandbox(sandbox)


def test_shared_processes(cri, busybox):
    config = in_users(cri.sandbox_config(pid=c.pb.POD))
    sandbox = cri.run_sandbox(config)
    try:
        one = start(cri, sandbox, config, cri.container_config(busybox, ["sleep", "1000"], name="one"))
        wanted = cri.container_config(busybox, ["sleep", "2000"], name="two")
        wanted.linux.security_context.capabilities.add_capabilities.append("SYS_PTRACE")
        two = start(cri, sandbox, config, wanted)
        assert b"sleep 1000" in cri.exec(two, "ps")[1]
        assert cri.exec(two, "ls", "-A", "/proc/1/root/")[1] == b""
        assert cri.exec(two, "stat", "-c", "%u", "/proc/1")[1] == b"65534\n", "no user of the pod's"
        assert cri.exec(one, "kill", "-9", "1")[0] == 0
        assert b"fluyt-pod-init" in cri.exec(one, "cat", "/proc/1/comm")[1]
        cri.exec(one, "sh", "-c", "(sleep 0.1 &) ; true")
        time.sleep(0.5)
        assert b"Z" not in cri.exec(one, "sh", "-c", "grep -h State: /proc/[0-9]*/status")[1]
    finally:
        cri.remove_sandbox(sandbox)


def test_on_the_hosts_network(cri, busybox):
    cri.pull(busybox)
    config = in_users(cri.sandbox_config(network=c.pb.NODE))
    sandbox = cri.run_sandbox(config)
    try:
        wanted = cri.container_config(busybox, ["sleep", "1000"])
        wanted.linux.security_context.capabilities.add_capabilities.append("ALL")
        container = start(cri, sandbox, config, wanted)
        assert cri.exec(container, "readlink", "/proc/self/ns/net")[1].strip().decode() == os.readlink(
            "/proc/self/ns/net")
        assert cri.exec(container, "ls", "/sys/class/net/lo")[0] == 0
        assert cri.exec(container, "ip", "addr", "add", "127.0.0.8/8", "dev", "lo")[0] != 0, "it is not the pod's"
        assert cri.exec(container, "hostname", "renamed")[0] != 0
        assert cri.exec(container, "id", "-u")[1] == b"0\n"
    finally:
        cri.remove_sandbox(sandbox)


def test_a_published_port_answers(cri, busybox):
    cri.pull(busybox)
    config = in_users(cri.sandbox_config())
    port = harness.free_port()
    config.port_mappings.add(protocol=c.pb.TCP, container_port=80, host_port=port)
    sandbox = cri.run_sandbox(config)
    try:
        start(cri, sandbox, config, cri.container_config(
            busybox, ["sh", "-c", "while true; do echo hello | nc -l -p 80; done"]))
        ip = cri.runtime.PodSandboxStatus(c.pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox),
                                          timeout=30).status.network.ip

        def answer(address):
            try:
                with socket.create_connection(address, 2) as connection:
                    return connection.recv(100) == b"hello\n"
            except OSError:
                return False
        harness.wait_for(lambda: answer((ip, 80)), "the pod to answer on port 80, as no host's root")
        harness.wait_for(lambda: answer(("10.187.0.1", port)), "the published port to answer")
    finally:
        cri.remove_sandbox(sandbox)


def test_a_restart_of_the_engine_changes_nothing(engine, cri, busybox):
    cri.pull(busybox)
    config = in_users(cri.sandbox_config())
    sandbox = cri.run_sandbox(config)
    try:
        container = start(cri, sandbox, config, cri.container_config(busybox, ["sleep", "1000"]))
        engine.kill()
        engine.start()
        cri.wait_served()
        assert cri.exec(container, "cat", "/proc/self/uid_map")[1].split()[1] == b"100000"
        after = start(cri, sandbox, config, cri.container_config(busybox, ["sleep", "1000"], name="after"))
        assert cri.exec(after, "cat", "/proc/self/uid_map")[1].split()[1] == b"100000"
        assert cri.exec(after, "stat", "-c", "%u", "/bin/busybox")[1] == b"0\n"
        assert cri.exec(after, "readlink", "/proc/self/ns/user")[1] == cri.exec(
            container, "readlink", "/proc/self/ns/user")[1]
    finally:
        cri.remove_sandbox(sandbox)


def test_what_cannot_be_is_refused_by_name(cri, busybox):
    cri.pull(busybox)
    for field, value in (("pid", c.pb.NODE), ("ipc", c.pb.NODE)):
        config = in_users(cri.sandbox_config())
        setattr(config.linux.security_context.namespace_options, field, value)
        code, message = c.error_of(cri.run_sandbox, config)
        assert code == "INVALID_ARGUMENT" and f"{field}: NODE" in message
    config = in_users(cri.sandbox_config())
    sandbox = cri.run_sandbox(config)
    try:
        wanted = cri.container_config(busybox, ["true"])
        other = in_users(cri.sandbox_config(), OTHER)
        code, message = c.error_of(create, cri, sandbox, other, wanted)
        assert code == "INVALID_ARGUMENT" and "expected what the sandbox was made with" in message
        request = c.pb.CreateContainerRequest(pod_sandbox_id=sandbox, config=wanted, sandbox_config=config)
        namespaces = request.config.linux.security_context.namespace_options
        namespaces.CopyFrom(config.linux.security_context.namespace_options)
        namespaces.pid = c.pb.NODE
        code, message = c.error_of(cri.runtime.CreateContainer, request, timeout=60)
        assert code == "INVALID_ARGUMENT" and "namespace_options.pid: NODE" in message, message
    finally:
        cri.remove_sandbox(sandbox)


def test_nothing_is_left(engine, cri, busybox):
    cri.pull(busybox)

    def once():
        config = in_users(cri.sandbox_config(pid=c.pb.POD))
        sandbox = cri.run_sandbox(config)
        container = start(cri, sandbox, config, cri.container_config(busybox, ["sleep", "1000"]))
        cri.exec(container, "touch", "/made")
        cri.remove_sandbox(sandbox)
    once()
    before = harness.settled_counts(engine), user_namespaces()
    for _ in range(5):
        once()
    assert (harness.settled_counts(engine), user_namespaces()) == before


def user_namespaces():
    found = set()
    for path in glob.glob("/proc/[0-9]*/ns/user"):
        try:
            found.add(os.readlink(path))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("settings", ['[image]\nlayer_form = "erofs"\n', '[image]\nroot_driver = "copy"\n'],
                         ids=["erofs", "copy"])
def test_other_forms_of_layers_and_roots(settings, registry, busybox):
    """Layers as EROFS images, and roots that are copies: idmapped in their own ways, the same to the pod."""
    engine = harness.Engine(settings=settings)
    client = None
    try:
        engine.start()
        client = c.Client(engine.socket, engine.folder + "/logs")
        layer = images.layer([images.Entry("owned", data=b"x", uid=5, gid=6)])
        images.push(images.Image([images.busybox_layer(), layer], {"Env": [images.PATH_ENV], "Cmd": ["sh"]}),
                    registry.address, "walk/owned", "latest")
        name = registry.address + "/walk/owned:latest"
        client.pull(name)
        offered = client.runtime.Status(c.pb.StatusRequest(), timeout=30).runtime_handlers[0].features.user_namespaces
        assert offered, "what the store's file system can do is the same"
        config = in_users(client.sandbox_config())
        sandbox = client.run_sandbox(config)
        wanted = client.container_config(name, ["sleep", "1000"])
        mount = wanted.mounts.add(container_path="/volume", readonly=True)
        mount.image.image = name
        container = start(client, sandbox, config, wanted)
        assert client.exec(container, "stat", "-c", "%u:%g", "/owned", "/bin/busybox", "/", "/volume/owned")[1] == (
            b"5:6\n0:0\n0:0\n5:6\n")
        assert client.exec(container, "sh", "-c", "touch /made && chown 7 /made && stat -c %u /made")[1] == b"7\n"
        assert client.exec(container, "touch", "/volume/made")[0] != 0
        client.remove_sandbox(sandbox)
        # Their disk is given back behind the answer.
        harness.wait_for(lambda: not os.listdir(engine.root + "/image/roots"), "the roots to be gone")
    finally:
        if client is not None:
            client.close()
        engine.close()


@pytest.mark.parametrize("name", handlers.NAMES)
def test_through_a_runtime_program(name, busybox):
    """The same by a runtime's command line, with an image volume, where it says that it can."""
    if handlers.find(name) is None:
        pytest.skip(f"needs {name}")
    namespace = handlers.Namespace(name)
    engine = harness.Engine(settings=handlers.settings(name), prefix=namespace.prefix())
    client = None
    try:
        engine.start()
        client = c.Client(engine.socket, engine.folder + "/logs")
        client.pull(busybox)
        offered = {handler.name: handler.features.user_namespaces for handler in
                   client.runtime.Status(c.pb.StatusRequest(), timeout=30).runtime_handlers}
        config = in_users(client.sandbox_config())
        if not offered[name]:
            code, message = c.error_of(client.run_sandbox, config, name)
            assert code == "FAILED_PRECONDITION" and f'runtime handler "{name}"' in message
            return
        sandbox = client.run_sandbox(config, name)
        wanted = client.container_config(busybox, ["sleep", "1000"])
        mount = wanted.mounts.add(container_path="/volume", readonly=True, image_sub_path="bin")
        mount.image.image = busybox
        container = start(client, sandbox, config, wanted)
        assert client.exec(container, "cat", "/proc/self/uid_map")[1].split() == [b"0", b"100000", b"65536"]
        assert client.exec(container, "stat", "-c", "%u:%g", "/bin/busybox", "/volume/busybox")[1] == b"0:0\n0:0\n"
        assert client.exec(container, "sh", "-c", "touch /made && touch /volume/made")[0] != 0
        assert os.stat(upper_of(engine, container) + "/made").st_uid == BASE
        client.remove_sandbox(sandbox)
    finally:
        if client is not None:
            client.close()
        engine.close()
        namespace.close()
