"""What every engine's tests start from."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from peer import IMAGE, make_archive  # noqa: E402  (found beside this file)


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """A busybox image as an archive: (path, its name)."""
    return make_archive(str(tmp_path_factory.mktemp("image") / "busybox.tar"), IMAGE, ["sh"]), IMAGE
