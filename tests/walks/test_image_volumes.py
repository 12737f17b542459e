"""Volumes that are an image's tree: read-only, whole or in part, and there while a container uses them."""

import os

import cri as c
import harness
import images
import pytest

VOLUME = "/volume"


@pytest.fixture(scope="module")
def data(registry):
    """An image of two layers that are data alone, with a whiteout and links that mean no good."""
    lower = images.layer([
        images.Entry("set", kind="d", mode=0o755), images.Entry("set/one", data=b"one\n"),
        images.Entry("set/gone", data=b"gone\n"), images.Entry("owned", data=b"x", uid=7, gid=8),
        images.Entry("bin", kind="d", mode=0o755), images.Entry("bin/run", data=b"#!/bin/sh\necho ran\n", mode=0o755),
        images.Entry("bin/suid", data=b"#!/bin/sh\n", mode=0o4755)])
    upper = images.layer([
        images.Entry("set/.wh.gone"), images.Entry("set/two", data=b"two\n"),
        images.Entry("inside", kind="l", data="/set"), images.Entry("outside", kind="l", data="../../../../../etc"),
        images.Entry("magic", kind="l", data="/proc/self/root"), images.Entry("loop", kind="l", data="loop")])
    images.push(images.Image([lower, upper], {}), registry.address, "walk/data", "latest")
    return registry.address + "/walk/data:latest"


def with_volume(cri, busybox, image, sub_path="", **options):
    wanted = cri.container_config(busybox, ["sleep", "1000"], **options)
    mount = wanted.mounts.add(container_path=VOLUME, readonly=True, image_sub_path=sub_path)
    mount.image.image = image
    return wanted


def test_the_tree_is_there_and_read_only(cri, busybox, pod, data):
    sandbox, config = pod
    ref = cri.pull(data)
    wanted = with_volume(cri, busybox, ref)
    wanted.mounts[0].image.user_specified_image = data
    container = cri.run_container(sandbox, config, wanted)
    assert cri.exec(container, "ls", VOLUME + "/set")[1] == b"one\ntwo\n"
    assert cri.exec(container, "cat", VOLUME + "/set/two")[1] == b"two\n"
    assert cri.exec(container, "stat", "-c", "%u:%g", VOLUME + "/owned")[1] == b"7:8\n"
    for command in (["touch", VOLUME + "/new"], ["rm", VOLUME + "/owned"], ["chmod", "777", VOLUME + "/owned"],
                    ["mount", "-o", "remount,rw", VOLUME]):
        assert cri.exec(container, *command)[0] != 0, command
    assert cri.exec(container, VOLUME + "/bin/run")[1] == b"ran\n", "programs in it can be run"
    assert b"nosuid" in [line for line in cri.exec(container, "cat", "/proc/mounts")[1].split(b"\n")
                         if VOLUME.encode() in line][0]
    told = cri.status(container).mounts[0]
    assert told.image.image == ref and told.image.image_ref == ref and told.image.user_specified_image == data
    assert told.readonly and told.host_path == ""


def test_a_sub_path_is_resolved_in_the_tree(cri, busybox, pod, data):
    sandbox, config = pod
    cri.pull(data)
    for attempt, path in enumerate(("set", "/set/", "inside", "./set/.")):
        wanted = with_volume(cri, busybox, data, path)
        wanted.metadata.attempt = attempt
        container = cri.run_container(sandbox, config, wanted)
        assert cri.exec(container, "ls", VOLUME)[1] == b"one\ntwo\n", path
        assert cri.status(container).mounts[0].image_sub_path == path
        cri.remove(container)


def test_a_wrong_one_is_refused_by_name(cri, busybox, pod, data):
    sandbox, config = pod
    cri.pull(data)
    for path in ("none", "set/none", "outside", "magic/etc", "loop", "set/one", "set/gone"):
        code, message = c.error_of(cri.create, sandbox, config, with_volume(cri, busybox, data, path))
        assert "ImageVolumeMountFailed" in message and VOLUME in message, (path, code, message)
        assert code in ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "INTERNAL"), (path, code, message)
    code, message = c.error_of(cri.create, sandbox, config, with_volume(cri, busybox, data, "set/../../etc"))
    assert code == "INVALID_ARGUMENT" and "image_sub_path" in message
    wanted = with_volume(cri, busybox, data)
    wanted.mounts[0].readonly = False
    code, message = c.error_of(cri.create, sandbox, config, wanted)
    assert code == "INVALID_ARGUMENT" and "mounts[0].readonly: false" in message
    wanted = with_volume(cri, busybox, data)
    wanted.mounts[0].host_path = "/etc"
    assert "mounts[0].host_path" in c.error_of(cri.create, sandbox, config, wanted)[1]
    code, message = c.error_of(cri.create, sandbox, config, with_volume(cri, busybox, "walk/none:1"))
    assert code == "INVALID_ARGUMENT" and "is not here" in message


def test_the_image_stays_while_it_is_used(engine, cri, busybox, pod, data):
    sandbox, config = pod
    ref = cri.pull(data)
    container = cri.run_container(sandbox, config, with_volume(cri, busybox, ref))
    cri.images.RemoveImage(c.pb.RemoveImageRequest(image=c.pb.ImageSpec(image=ref)), timeout=30)
    engine.fluyt("gc")
    assert cri.exec(container, "cat", VOLUME + "/set/one")[1] == b"one\n"
    engine.kill()
    engine.start()
    cri.wait_served()
    engine.fluyt("gc")
    assert cri.exec(container, "cat", VOLUME + "/bin/run")[0] == 0
    cri.remove(container)
    assert not [name for name in os.listdir(engine.root + "/image/roots") if name.startswith(container)]
    cri.pull(data)


def test_in_a_user_namespace_its_ids_are_mapped(cri, busybox, data):
    cri.pull(busybox)
    cri.pull(data)
    config = cri.sandbox_config()
    users = config.linux.security_context.namespace_options.userns_options
    users.mode = c.pb.POD
    users.uids.add(container_id=0, host_id=100000, length=65536)
    users.gids.add(container_id=0, host_id=100000, length=65536)
    sandbox = cri.run_sandbox(config)
    try:
        wanted = with_volume(cri, busybox, data)
        # As the kubelet does for every mount of such a pod.
        wanted.mounts[0].uidMappings.add(container_id=0, host_id=100000, length=65536)
        wanted.mounts[0].gidMappings.add(container_id=0, host_id=100000, length=65536)
        container = cri.run_container(sandbox, config, wanted)
        assert cri.exec(container, "stat", "-c", "%u:%g", VOLUME + "/owned", VOLUME + "/set")[1] == b"7:8\n0:0\n"
        assert cri.exec(container, "touch", VOLUME + "/new")[0] != 0
    finally:
        cri.remove_sandbox(sandbox)


def test_nothing_is_left(engine, cri, busybox, data):
    cri.pull(data)

    def once():
        config = cri.sandbox_config()
        sandbox = cri.run_sandbox(config)
        cri.run_container(sandbox, config, with_volume(cri, busybox, data, "set"))
        c.error_of(cri.create, sandbox, config, with_volume(cri, busybox, data, "none", name="other"))
        cri.remove_sandbox(sandbox)
    cri.pull(busybox)
    once()
    before = harness.settled_counts(engine)
    for _ in range(3):
        once()
    assert harness.settled_counts(engine) == before
