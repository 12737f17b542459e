"""Every test attacks a container of its own. In a mount namespace of the tests' own (tests/run.py makes it), so that the
mounts which are compared are only theirs."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import box as boxes  # noqa: E402  (found beside this file)


def pytest_collection_modifyitems(items):
    reason = None
    if os.geteuid() != 0:
        reason = "needs root"
    elif not os.path.exists(boxes.HOSTILE):
        reason = f"{boxes.HOSTILE}: not built"
    for item in items:
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def cgroup_parents():
    yield
    boxes.remove_cgroup_parents()


@pytest.fixture
def make_box(tmp_path):
    made = []

    def make():
        made.append(boxes.Box(str(tmp_path)))
        return made[-1]

    os.chmod(tmp_path, 0o755)
    yield make
    for one in made:
        one.close()


@pytest.fixture
def box(make_box):
    return make_box()


@pytest.fixture
def canary(tmp_path):
    made = boxes.Canary(str(tmp_path / "canary"))
    yield made
    made.check()


@pytest.fixture(params=["pivoted", "hooked", "mapped"])
def moment(request):
    """When the image's tree is worked on: behind the pivot, or (with hooks) before it; or from a user namespace, where
    devices are bound instead of made."""
    return request.param


@pytest.fixture
def any_box(make_box, moment):
    made = make_box()
    if moment == "hooked":
        made.early_hook()
    if moment == "mapped":
        made.map_users()
    return made
