"""What every walk starts from: one registry and one busybox image a run, one engine a test file."""

import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import harness  # noqa: E402  (found beside this file)
import images  # noqa: E402


def pytest_collection_modifyitems(items):
    """On another engine, what contrast.NAME lists is expected to fail."""
    other = os.environ.get("FLUYT_CONTRAST")
    if not other:
        return
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "contrast." + other), encoding="utf-8") as file:
        known = dict(line.rstrip("\n").split("\t") for line in file if line.strip() and not line.startswith("#"))
    for item in items:
        reason = known.get(item.nodeid.split("/")[-1])
        if reason:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=False))


@pytest.fixture(scope="session")
def registry(tmp_path_factory):
    made = harness.Registry(str(tmp_path_factory.mktemp("registry")))
    yield made
    made.stop()


@pytest.fixture(scope="session")
def busybox(registry):
    images.push(harness.busybox_image(), registry.address, "walk/busybox", "latest")
    return registry.address + "/walk/busybox:latest"


@pytest.fixture(scope="module")
def engine(request):
    """fluytd, or with FLUYT_CONTRAST=containerd that one (`./dev contrast`)."""
    if os.environ.get("FLUYT_CONTRAST"):
        from containerd import Containerd
        registry = request.getfixturevalue("registry")
        pause = images.Image([images.busybox_layer()], {"Env": [images.PATH_ENV], "Cmd": ["sleep", "1000000"]})
        images.push(pause, registry.address, "walk/pause", "latest")
        made = Containerd(registry.address + "/walk/pause:latest")
    else:
        made = harness.Engine()
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def cri(engine):
    from cri import Client
    client = Client(engine.socket, engine.folder + "/logs")
    yield client
    client.close()


@pytest.fixture(scope="module")
def kubelet(node):
    """A client of an engine whose configuration the file changes, its own fixture `node`."""
    from cri import Client
    client = Client(node.socket, node.folder + "/logs")
    yield client
    client.close()


@pytest.fixture
def pod(cri, busybox):
    """A pod of an ordinary kind: (sandbox id, its configuration)."""
    cri.pull(busybox)
    config = cri.sandbox_config()
    sandbox = cri.run_sandbox(config)
    yield sandbox, config
    cri.remove_sandbox(sandbox)
