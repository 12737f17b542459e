"""A container that may trace others reads everything of each process that appears beside it: what enters it, and what
is made in its PID namespace, has nothing of the host's or of a neighbour's."""

import os
import subprocess

import pytest

import box as boxes

EXECS = int(os.environ.get("FLUYT_WATCHED_EXECS", "100"))
CREATES = int(os.environ.get("FLUYT_WATCHED_CREATES", "20"))
SECRET = "TheHostsOwnSecret"


def begin(box, *command):
    """Starts the watching container; returns a way to end it that says what it saw."""
    box.save(["/bin/hostile", *command])
    read, write = os.pipe()
    with open(box.folder + "/output", "wb") as output:
        started = box.runf("run", "--detach", "--bundle", box.folder, box.id, stdin=read, stdout=output, stderr=output)
    os.close(read)
    assert started.code == 0, box.output()

    def end():
        os.close(write)
        text = box.wait()
        assert "looked" in text, text
        return text

    return end


@pytest.fixture
def watcher(make_box, canary, tmp_path):
    box = make_box()
    box.grant("CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN")
    box.linux["maskedPaths"] = []
    return box, begin(box, "watch", SECRET, canary.folder, str(tmp_path), os.path.dirname(boxes.RUNF))


def environment():
    """A caller's, with something in it that is none of the container's business."""
    return {**os.environ, "SECRET": SECRET}


def judge(text):
    print(text)
    assert "leak:" not in text, text
    seen = int(text.rsplit(" at ", 1)[1].split()[0])
    assert seen > 0, "the watcher saw nobody before its program: this test would show nothing\n" + text


def test_execs_show_nothing(watcher):
    """CVE-2016-9962"""
    box, end = watcher
    for _ in range(EXECS):
        done = box.exec("/bin/true", env=environment())
        assert done.code == 0, done
    judge(end())


def test_creates_in_its_pid_namespace_show_nothing(watcher, make_box, canary):
    """CVE-2016-9962 for a neighbour: its specification, and the host's root that it is made from"""
    box, end = watcher
    pid_namespace = f"/proc/{box.pid()}/ns/pid"
    for _ in range(CREATES):
        neighbour = make_box()
        neighbour.namespace("pid", pid_namespace)
        neighbour.spec["annotations"] = {"secret": SECRET}
        neighbour.hook("poststop", "/bin/true", env=["SECRET=" + SECRET])
        os.mkdir(neighbour.rootfs + "/data")
        neighbour.bind(canary.folder, "/data", "ro")
        neighbour.save(["/bin/true"])
        for words in (["create", "--bundle", neighbour.folder], ["start"], ["delete", "--force"]):
            # Between create and start it waits, for all to see.
            done = neighbour.runf(*words, neighbour.id, env=environment(), stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
            assert done.code == 0, done
        done = neighbour.run("/bin/true", env=environment())
        assert done.code == 0, done
        neighbour.close()
    judge(end())


def test_what_enters_cannot_be_looked_into(make_box):
    """CVE-2016-9962: root in the container, with the very capabilities that an exec will have, without CAP_SYS_PTRACE"""
    box = make_box()
    end = begin(box, "peek")
    for _ in range(EXECS):
        done = box.exec("/bin/true", env=environment())
        assert done.code == 0, done
    judge(end())
