"""A short run of tests/soak.py: `./dev soak` is the long one."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import soak  # noqa: E402  (found in tests)


@pytest.mark.parametrize("at_a_time", [1, soak.AT_A_TIME])
def test_create_start_and_delete_leave_nothing(at_a_time):
    lines = []
    assert soak.soak(60, at_a_time, lines.append) == []
    assert lines[-1].startswith("60 of 60")
