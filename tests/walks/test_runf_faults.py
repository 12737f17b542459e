"""runf where things go wrong, or happen at once: what is not the container's stays as it is, and what is does not stay."""

import contextlib
import os
import signal
import subprocess

import bundle
import harness
import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

RUNF = os.path.join(harness.BIN, "runf")
GROUP = "/fluyt-walk-runf-faults"


@pytest.fixture
def box(tmp_path):
    made = bundle.Box(RUNF, GROUP, str(tmp_path), folders=("proc", "sys", "dev"))
    yield made
    made.close()


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def in_background(box, *words, **more):
    more.setdefault("stdin", subprocess.DEVNULL)
    more.setdefault("stdout", subprocess.DEVNULL)
    more.setdefault("stderr", subprocess.DEVNULL)
    return subprocess.Popen([RUNF, "--root", box.root, *words], cwd=box.bundle, **more)


@contextlib.contextmanager
def stranger(place):
    """Somebody else's process in the cgroup `place`, which is made for it with its parents; none where it does not get in."""
    os.makedirs(place)
    sleeper = subprocess.Popen(["sleep", "1000"])
    try:
        with open(place + "/cgroup.procs", "w", encoding="ascii") as procs:
            procs.write(str(sleeper.pid))
        yield sleeper
    except OSError:  # a cpuset without processors
        yield None
    finally:
        sleeper.kill()
        sleeper.wait()
        harness.wait_for(lambda: removed(place), f"{place} to be empty")


def removed(place):
    try:
        os.rmdir(place)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def without_pid_namespace(box):
    spaces = box.config["linux"]["namespaces"]
    spaces[:] = [space for space in spaces if space["type"] != "pid"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_cgroup_with_processes_below_is_refused(box, fails):
    if fails:
        box.config["linux"]["sysctl"] = {"net.no-such": "1"}
    seen = 0
    for number, top in enumerate(harness.cgroup_tops()):
        place = top + box.config["linux"]["cgroupsPath"]
        with stranger(place + "/child") as sleeper:
            if sleeper is not None:
                code, _, error = box.once("true", name=f"over{number}")
                assert code == 1 and (fails or "container's cgroup is not empty" in error), error
                assert sleeper.poll() is None and os.path.isdir(place + "/child")
                seen += 1
        os.rmdir(place)
    assert seen > 0
