"""CVE-2019-5736: what enters a container is a program of the host's, and nothing in the container can write to its
file."""

import errno
import os
import shutil
import time

import pytest

import box as boxes


@pytest.fixture
def copy_of_runf(tmp_path):
    """A runf of its own, since the attack is meant to write to it."""
    path = str(tmp_path / "runf-copy")
    shutil.copy(boxes.RUNF, path)
    return path


def attack(box, copy, entry, seconds=6):
    """A container that holds every program it catches and tries to write to it, while `entry` is executed in it."""
    before = boxes.file_hash(copy)
    box.save(["/bin/hostile", "overwrite", str(seconds)])
    with open(box.folder + "/output", "wb") as output:
        started = box.runf("run", "--detach", "--bundle", box.folder, box.id, program=copy, stdout=output, stderr=output)
    assert started.code == 0, box.output()
    busy = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:  # a busy machine races seldom: all the time that there is
        try:
            box.runf("exec", box.id, *entry, program=copy)
        except OSError as error:
            assert error.errno == errno.ETXTBSY
            busy += 1
    caught = box.wait().split("held ")[1].split()
    assert boxes.file_hash(copy) == before, "the host's runf was overwritten"
    assert caught[2] == "0", box.output()
    return int(caught[0]), busy


def trusted(box):
    """All that lets a container follow what another process maps."""
    box.grant("CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE", "CAP_DAC_OVERRIDE")


def test_programs_of_execs_cannot_be_written(box, copy_of_runf):
    trusted(box)
    attack(box, copy_of_runf, ["/bin/true"])


def test_an_entry_point_that_is_runf_itself_cannot_be_written(box, copy_of_runf):
    """`#!/proc/self/exe`: the kernel executes runf once more, now as a program of the container"""
    box.write("/entry", "#!/proc/self/exe\n", mode=0o755)
    held, busy = attack(box, copy_of_runf, ["/entry"], seconds=20)
    assert busy == 0, "a container kept the host from executing runf"
    assert held > 0, "the attacker never got hold of runf: this test would show nothing"


def test_an_entry_point_by_link_cannot_be_written(box, copy_of_runf):
    os.symlink("/proc/self/exe", box.rootfs + "/entry")
    attack(box, copy_of_runf, ["/entry"])


def test_the_first_program_cannot_write_to_runf(box, copy_of_runf):
    """The image's own entry point is runf: `#!/proc/self/exe` in `run`"""
    before = boxes.file_hash(copy_of_runf)
    box.write("/entry", "#!/proc/self/exe\n", mode=0o755)
    box.save(["/entry"])
    done = box.runf("run", "--bundle", box.folder, box.id, program=copy_of_runf)
    assert boxes.file_hash(copy_of_runf) == before, done


def test_runf_runs_from_where_it_cannot_be_written(box, copy_of_runf, tmp_path):
    """A startContainer hook sees the program of the process that runs it, before the container's own"""
    os.mkdir(box.folder + "/volume")
    os.mkdir(box.rootfs + "/volume")
    box.bind(box.folder + "/volume", "/volume")
    box.hook("startContainer", "/bin/sh", "-c",
             "echo EVIL 2>/volume/error 1<>/proc/$PPID/exe; echo tried >/volume/tried", env=["PATH=/bin"])
    before = boxes.file_hash(copy_of_runf)
    box.save(["/bin/true"])
    done = box.runf("run", "--bundle", box.folder, box.id, program=copy_of_runf)
    assert done.code == 0, done
    assert (tmp_path / box.id / "volume" / "tried").exists()
    assert "Read-only file system" in (tmp_path / box.id / "volume" / "error").read_text() or \
        "Text file busy" not in (tmp_path / box.id / "volume" / "error").read_text()
    assert boxes.file_hash(copy_of_runf) == before
