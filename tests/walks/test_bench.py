"""The benchmarks end what they started when a step of theirs fails."""

import glob
import os
import subprocess
import sys

import harness
import pytest

sys.path.insert(0, os.path.join(harness.ROOT, "bench"))
import pull  # noqa: E402  (found beside nothing else)


def test_a_pull_whose_engine_does_not_come_leaves_nothing(tmp_path, monkeypatch):
    if not any(top.endswith("cpuacct") for top in harness.cgroup_tops()):
        pytest.skip("no cpuacct hierarchy of cgroup v1")
    monkeypatch.setattr(pull, "PLACE", str(tmp_path))
    monkeypatch.setattr(pull, "DISK", str(tmp_path / "pull.disk"))
    monkeypatch.setattr(pull, "CGROUP", f"/fluyt-walk-{os.getpid()}")
    monkeypatch.setattr(pull.common, "DISK_BYTES", 64 << 20)
    started = []

    class Mute(pull.CriEngine):
        """Its socket is there, and nobody answers."""

        def __init__(self, disk):
            super().__init__(["sleep", "1000"], str(tmp_path / "socket"))

        def answers(self):
            with open(self.meter.folder + "/cgroup.procs", encoding="ascii") as file:
                started.extend(int(pid) for pid in file.read().split())
            raise RuntimeError("on purpose")

    (tmp_path / "socket").touch()
    with pytest.raises(RuntimeError, match="on purpose"):
        pull.pull_once(Mute, "none")
    assert started and not [pid for pid in started if os.path.exists(f"/proc/{pid}")]
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        assert str(tmp_path) not in file.read()
    assert not os.path.exists(pull.DISK)
    assert not subprocess.run(["losetup", "--associated", pull.DISK], check=True, stdout=subprocess.PIPE).stdout
    assert not glob.glob("/sys/fs/cgroup/*" + pull.CGROUP)
