"""Power cuts and SIGKILLs under work with images, in short (`./dev powercut` and `./dev kills` are the long forms)."""

import json
import os
import subprocess
import sys

import harness
import pytest

POWER = os.path.join(harness.ROOT, "tests", "power")
sys.path.insert(0, POWER)
import disk  # noqa: E402  (found in tests/power)


def rounds(tmp_path, *arguments):
    """The program has a mount namespace of its own: see Disk."""
    report = str(tmp_path / "report.json")
    done = subprocess.run(["unshare", "--mount", "--propagation", "private", sys.executable, "-B", POWER + "/run.py",
                           "--fs", "ext4", "--json", report, *arguments], check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=400)
    assert done.returncode == 0, done.stdout
    with open(report, encoding="utf-8") as file:
        return json.load(file).values()


@pytest.mark.skipif(disk.why_not("ext4") is not None, reason=str(disk.why_not("ext4")))
def test_no_wrong_byte_after_a_power_cut(tmp_path):
    counts = rounds(tmp_path, "--cuts", "8")
    assert sum(count["rounds"] for count in counts) == 8
    assert sum(count["verbs answered before"] for count in counts) > 0


@pytest.mark.skipif(disk.why_not("ext4") is not None, reason=str(disk.why_not("ext4")))
def test_nothing_lost_or_leaked_after_a_kill(tmp_path):
    counts = rounds(tmp_path, "--kills", "8")
    assert sum(count["rounds"] for count in counts) == 8
    assert sum(count["images listed after it"] for count in counts) > 0


@pytest.mark.skipif(disk.why_not("ext4") is not None, reason=str(disk.why_not("ext4")))
def test_disks_that_fill_and_disks_that_lose(tmp_path):
    done = subprocess.run(["unshare", "--mount", "--propagation", "private", sys.executable, "-B", POWER + "/full_disk.py"],
                          check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    fill = got["fill"]
    for name, words in (("zeros", "unpacks to more than"), ("names", "No space left on device")):
        assert words in fill[name]["error"], fill
        assert fill[name]["left"] == [] and fill[name]["bytes lost"] <= 100_000 and fill[name]["inodes lost"] <= 2, fill
    assert fill["small is right"] and fill["small is right when pulled again"]
    lose = got["lose"]
    assert lose["lost"]["errors"] > 0, "the disk lost nothing: this shows nothing"
    assert lose["right after it"] and all(lose["right after it"].values()), lose
    assert lose["large is right when pulled again"] and lose["left"] == []
