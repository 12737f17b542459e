"""A short run of tests/soak.py, which counts its own children: `./dev soak` is the long one."""

import os
import subprocess
import sys

SOAK = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "soak.py")


def test_create_start_and_delete_leave_nothing():
    done = subprocess.run([sys.executable, SOAK, "60"], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=300)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "120 containers: none failed, nothing is left"
