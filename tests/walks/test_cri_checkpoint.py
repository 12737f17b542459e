"""CheckpointContainer: an archive or nothing, and a container that goes on whatever happens."""

import contextlib
import json
import os
import shutil
import subprocess
import tarfile
import time

import cri as c
import harness
import pytest

COUNTER = "i=0; while :; do i=$((i+1)); echo $i > /dev/shm/n; sleep 0.05; done"


def works():
    if shutil.which("criu") is None:
        return False
    return subprocess.run(["criu", "check"], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def checkpoint(cri, container, location, timeout=0):
    cri.runtime.CheckpointContainer(c.pb.CheckpointContainerRequest(
        container_id=container, location=str(location), timeout=timeout), timeout=120)


def counts_on(cri, container):
    before = cri.exec(container, "cat", "/dev/shm/n")[1]
    return harness.wait_for(lambda: cri.exec(container, "cat", "/dev/shm/n")[1] != before, "the counter to go on")


def left(engine):
    with contextlib.suppress(FileNotFoundError):
        return os.listdir(engine.root + "/engine/checkpoints")
    return []


@pytest.fixture
def counter(cri, busybox, pod):
    sandbox, config = pod
    container = cri.run_container(sandbox, config, cri.container_config(busybox, ["sh", "-c", COUNTER]))
    harness.wait_for(lambda: cri.exec(container, "sh", "-c", "echo hi > /written; rm /bin/ls; cat /dev/shm/n")[0] == 0, "the counter")
    return container


def test_what_cannot_be_is_refused(engine, cri, counter, busybox, pod, tmp_path):
    for location in ("", "relative.tar", str(tmp_path), f"{tmp_path}/none/x.tar", f"{tmp_path}/../x.tar", f"{tmp_path}/x.tar/"):
        code, message = c.error_of(checkpoint, cri, counter, location)
        assert code == "INVALID_ARGUMENT" and "location" in message
    assert c.error_of(checkpoint, cri, counter, tmp_path / "x.tar", -1)[0] == "INVALID_ARGUMENT"
    assert c.error_of(checkpoint, cri, "feed", tmp_path / "x.tar")[0] == "NOT_FOUND"
    assert c.error_of(checkpoint, cri, "", tmp_path / "x.tar")[0] == "INVALID_ARGUMENT"
    sandbox, config = pod
    created = cri.create(sandbox, config, cri.container_config(busybox, ["true"], name="other"))
    code, message = c.error_of(checkpoint, cri, created, tmp_path / "x.tar")
    assert code == "FAILED_PRECONDITION" and "created" in message
    assert not os.listdir(tmp_path) and not left(engine)
    assert counts_on(cri, counter)


def test_without_criu_the_error_names_it(engine, cri, counter, tmp_path):
    if shutil.which("criu") is not None:
        pytest.skip("criu is installed")
    code, message = c.error_of(checkpoint, cri, counter, tmp_path / "x.tar")
    assert code == "FAILED_PRECONDITION" and "criu" in message
    assert not os.listdir(tmp_path) and not left(engine)
    assert counts_on(cri, counter)


def test_a_criu_that_does_not_answer(busybox, tmp_path, monkeypatch):
    """At the deadline the caller is told so, and what comes later is removed."""
    fake = tmp_path / "fake"
    fake.mkdir()
    (fake / "criu").write_text("#!/bin/sh\nsleep 4\n", encoding="ascii")
    (fake / "criu").chmod(0o755)
    # Monitors look in the usual folders alone: a mount namespace gives this daemon one of its own.
    programs = tmp_path / "bin"
    programs.mkdir()
    os.symlink(harness.BIN + "/fluyt", programs / "fluyt")
    (programs / "fluytd").write_text(f"""#!/bin/sh
exec unshare --mount --propagation private sh -c 'mount --bind {fake} /usr/local/sbin && exec {harness.BIN}/fluytd "$@"' sh "$@"
""", encoding="ascii")
    (programs / "fluytd").chmod(0o755)
    monkeypatch.setattr(harness, "BIN", str(programs))
    out = tmp_path / "out"
    out.mkdir()
    engine = harness.Engine(network=None)
    try:
        engine.start()
        client = c.Client(engine.socket, engine.folder + "/logs")
        client.pull(busybox)
        config = client.sandbox_config(network=c.pb.NODE)
        sandbox = client.run_sandbox(config)
        container = client.run_container(sandbox, config, client.container_config(busybox, ["sh", "-c", COUNTER]))
        harness.wait_for(lambda: client.exec(container, "cat", "/dev/shm/n")[0] == 0, "the counter")
        began = time.monotonic()
        code, message = c.error_of(checkpoint, client, container, out / "x.tar", 1)
        assert code == "DEADLINE_EXCEEDED" and container in message, message
        assert time.monotonic() - began < 3.5
        assert c.error_of(checkpoint, client, container, out / "x.tar", 1)[0] == "FAILED_PRECONDITION"  # one is under way
        assert counts_on(client, container)
        time.sleep(4)
        assert not os.listdir(out) and not left(engine)
        assert client.status(container).state == c.RUNNING
        client.close()
    finally:
        engine.close()


@pytest.mark.skipif(not works(), reason="no criu that works on this kernel")
def test_an_archive(engine, cri, counter, tmp_path):
    location = tmp_path / "checkpoint.tar"
    location.write_text("an older one", encoding="ascii")
    checkpoint(cri, counter, location)
    assert os.stat(location).st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["checkpoint.tar"] and not left(engine)
    with tarfile.open(location) as archive:
        names = archive.getnames()
        config = json.load(archive.extractfile("config.dump"))
        spec = json.load(archive.extractfile("spec.dump"))
        with tarfile.open(fileobj=archive.extractfile("rootfs-diff.tar")) as diff:
            assert "written" in diff.getnames() and "bin/.wh.ls" in diff.getnames()
    assert "dump.log" in names and "checkpoint/inventory.img" in names
    assert any(name.startswith("checkpoint/pages-") for name in names)
    assert config["id"] == counter and config["name"] == "main"
    assert spec["process"]["args"][:2] == ["sh", "-c"] and spec["process"]["env"]
    assert counts_on(cri, counter)
    checkpoint(cri, counter, location)
    cri.stop(counter)
