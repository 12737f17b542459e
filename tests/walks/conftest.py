"""What every walk starts from: one registry and one busybox image a run, one engine a test file."""

import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import harness  # noqa: E402  (found beside this file)
import images  # noqa: E402


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
def engine():
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


@pytest.fixture
def pod(cri, busybox):
    """A pod of an ordinary kind: (sandbox id, its configuration)."""
    cri.pull(busybox)
    config = cri.sandbox_config()
    sandbox = cri.run_sandbox(config)
    yield sandbox, config
    cri.remove_sandbox(sandbox)
