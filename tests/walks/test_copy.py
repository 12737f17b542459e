"""`fluyt cp`: files into containers and out of them, running or not, and what a hostile container makes of it."""

import io
import os
import stat
import subprocess
import tarfile
import time

import harness
import pytest


@pytest.fixture
def box(engine, busybox, tmp_path):
    """A container that does nothing, and a folder here: (name, folder)."""
    engine.fluyt("pull", "-q", busybox)
    engine.fluyt("run", "-d", "--network", "host", "--name", "box", busybox, "sleep", "1000")
    yield "box", tmp_path
    engine.fluyt("rm", "-f", "box", check=False)


def run_in(engine, script):
    return engine.fluyt("exec", "box", "sh", "-c", script).stdout


def test_both_ways_while_it_runs(engine, box):
    _, here = box
    tree = here / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "file").write_text("hello")
    (tree / "sub" / "big").write_bytes(os.urandom(3_000_000))
    (tree / "link").symlink_to("file")
    os.link(tree / "file", tree / "sub" / "same")
    os.chmod(tree / "file", 0o640)
    os.chown(tree / "file", 1234, 1234)
    os.utime(tree / "file", (1_000_000_000, 1_000_000_000))
    engine.fluyt("cp", str(tree), "box:/made")  # there is no /made: that is its name
    assert run_in(engine, "stat -c '%a %u %Y' /made/file; readlink /made/link; cat /made/sub/same") == "640 0 1000000000\nfile\nhello"
    engine.fluyt("cp", str(tree), "box:made")  # now there is: within it
    engine.fluyt("cp", str(tree) + "/.", "box:/tmp")
    assert run_in(engine, "ls /made/tree /tmp").count("file") == 2
    engine.fluyt("cp", "-a", str(tree / "file"), "box:/owned")
    assert run_in(engine, "stat -c '%u:%g' /owned") == "1234:1234\n"
    engine.fluyt("cp", "box:/made", str(here / "back"))
    assert (here / "back" / "sub" / "big").read_bytes() == (tree / "sub" / "big").read_bytes()
    assert os.readlink(here / "back" / "link") == "file"
    assert os.path.samefile(here / "back" / "file", here / "back" / "sub" / "same")
    engine.fluyt("cp", "box:/made/file", str(here))
    assert (here / "file").read_text() == "hello"
    engine.fluyt("cp", "box:/made/link", str(here / "as-link"))
    engine.fluyt("cp", "-L", "box:/made/link", str(here / "as-file"))
    assert (here / "as-link").is_symlink() and not (here / "as-file").is_symlink()


def test_one_that_does_not_run(engine, box):
    _, here = box
    run_in(engine, "mkdir /data; echo kept > /data/file; rm /bin/true")
    engine.fluyt("stop", "-t", "0", "box")
    engine.fluyt("cp", "box:/data/.", str(here))
    assert (here / "file").read_text() == "kept\n"
    assert "no such file or directory" in engine.fluyt("cp", "box:/bin/true", str(here), check=False).stderr
    (here / "new").write_text("from here")
    engine.fluyt("cp", str(here / "new"), "box:/data/new")
    engine.fluyt("start", "box")
    assert run_in(engine, "cat /data/file /data/new") == "kept\nfrom here"
    engine.fluyt("rm", "-f", "box")
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        assert engine.folder not in mounts.read()


def test_a_tar_is_taken_and_given_as_it_is(engine, box):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        entry = tarfile.TarInfo("etc/from-tar")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"hello"))
    command = [harness.BIN + "/fluyt", "--socket", engine.socket, "cp", "-", "box:/"]
    subprocess.run(command, input=made.getvalue(), check=True, timeout=60)
    assert run_in(engine, "cat /etc/from-tar") == "hello"
    given = subprocess.run([*command[:4], "box:/etc/from-tar", "-"], stdout=subprocess.PIPE, check=True, timeout=60).stdout
    with tarfile.open(fileobj=io.BytesIO(given)) as tar:
        assert tar.getnames() == ["from-tar"] and tar.extractfile("from-tar").read() == b"hello"
    done = subprocess.run(command, input=made.getvalue()[:514], stderr=subprocess.PIPE, check=False, timeout=60)
    assert done.returncode == 1 and b"tar" in done.stderr


def test_its_volumes_are_seen_and_the_kernels_files_are_not(engine, busybox, tmp_path):
    engine.fluyt("pull", "-q", busybox)
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "file").write_text("of the host")
    engine.fluyt("run", "-d", "--network", "host", "--name", "vol", "-v", f"{tmp_path}/volume:/mnt", busybox, "sleep", "1000")
    engine.fluyt("cp", "vol:/mnt/file", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "of the host"
    engine.fluyt("cp", "vol:/", str(tmp_path / "all"))
    assert (tmp_path / "all" / "mnt" / "file").read_text() == "of the host"
    assert list((tmp_path / "all" / "proc").iterdir()) == [] and list((tmp_path / "all" / "sys").iterdir()) == []
    assert not any(stat.S_ISCHR(os.lstat(path).st_mode) for path in (tmp_path / "all" / "dev").iterdir())
    done = engine.fluyt("cp", "vol:/proc/1/environ", str(tmp_path / "environ"), check=False)
    assert done.returncode == 1 and "the kernel makes up" in done.stderr and not (tmp_path / "environ").exists()
    engine.fluyt("rm", "-f", "vol")


def test_a_mount_is_not_replaced(engine, busybox, tmp_path):
    engine.fluyt("pull", "-q", busybox)
    (tmp_path / "mounted").write_text("of the host")
    (tmp_path / "new").write_text("new")
    engine.fluyt("run", "-d", "--network", "host", "--name", "box", "-v", f"{tmp_path}/mounted:/etc/thing", busybox, "sleep", "1000")
    done = engine.fluyt("cp", str(tmp_path / "new"), "box:/etc/thing", check=False)
    assert done.returncode == 1 and '"thing": a mount is in its place' in done.stderr, done
    assert run_in(engine, "cat /etc/thing; grep -c ' /etc/thing ' /proc/mounts") == "of the host1\n"
    engine.fluyt("rm", "-f", "box", check=False)


def test_the_volumes_of_one_that_has_ended_are_not_there(engine, busybox, tmp_path):
    engine.fluyt("pull", "-q", busybox)
    (tmp_path / "volume").mkdir()
    (tmp_path / "tree" / "data" / "vol").mkdir(parents=True)
    (tmp_path / "tree" / "data" / "vol" / "file").write_text("new")
    engine.fluyt("run", "-d", "--network", "host", "--name", "gone", "-v", f"{tmp_path}/volume:/data/vol", busybox, "sleep", "1000")
    engine.fluyt("stop", "-t", "0", "gone")
    for words in (("gone:/data/vol", "out"), ("gone:/data", "out"), ("gone:/data/../data/vol/.", "out"),
                  (str(tmp_path / "tree") + "/.", "gone:/"), (str(tmp_path / "tree" / "data" / "vol" / "file"), "gone:/data/vol")):
        words = [str(tmp_path / word) if word == "out" else word for word in words]
        done = engine.fluyt("cp", *words, check=False)
        assert done.returncode == 1 and '"/data/vol" is a volume, which is there only while it runs' in done.stderr, (words, done)
    engine.fluyt("cp", "gone:/etc", str(tmp_path / "etc"))
    engine.fluyt("cp", str(tmp_path / "tree" / "data" / "vol" / "file"), "gone:/data/beside")
    assert list((tmp_path / "volume").iterdir()) == []
    engine.fluyt("run", "-d", "--network", "host", "--name", "fixed", "--read-only", busybox, "sleep", "1000")
    for state, expected in (("running", "ead-only file system"), ("exited", "its root is read-only")):
        if state == "exited":
            engine.fluyt("stop", "-t", "0", "fixed")
        done = engine.fluyt("cp", str(tmp_path / "tree"), "fixed:/new", check=False)
        assert done.returncode == 1 and expected in done.stderr, done


def begin(engine, *words, **how):
    return subprocess.Popen([harness.BIN + "/fluyt", "--socket", engine.socket, "cp", *words], stderr=subprocess.PIPE, **how)


def begin_to_read(engine, path):
    """A copy out of the container that is under way and waits for us: more follows than lies in any buffer."""
    copy = begin(engine, path, "-", stdout=subprocess.PIPE)
    assert len(copy.stdout.read(512)) == 512
    return copy


def ended_with(copy):
    error = copy.communicate(timeout=60)[1].decode()
    return copy.returncode, error


def test_a_container_that_ends_meanwhile_is_no_success(engine, box):
    _, here = box
    run_in(engine, "dd of=/large bs=1 count=0 seek=300M 2>&1")
    reading = begin_to_read(engine, "box:/large")
    writing = begin(engine, "-", "box:/", stdin=subprocess.PIPE)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name in ("first", "second"):
            tar.addfile(tarfile.TarInfo(name))
    writing.stdin.write(made.getvalue()[:512])
    writing.stdin.flush()
    deadline = time.monotonic() + 30
    while "first" not in run_in(engine, "ls /"):
        assert time.monotonic() < deadline
    engine.fluyt("stop", "-t", "0", "box")
    # Two mounts of one root would not know of each other's writes.
    done = engine.fluyt("start", "box", check=False)
    assert done.returncode == 1 and "files are copied from or to it" in done.stderr, done
    writing.stdin.write(made.getvalue()[512:])
    for copy in (reading, writing):
        code, error = ended_with(copy)
        assert code == 1 and "ended or was removed meanwhile" in error, error
    engine.fluyt("start", "box")
    engine.fluyt("stop", "-t", "0", "box")
    reading = begin_to_read(engine, "box:/large")
    engine.fluyt("rm", "box")
    code, error = ended_with(reading)
    assert code == 1 and "ended or was removed meanwhile" in error, error


def test_a_hostile_container_leads_nowhere(engine, box):
    _, here = box
    (here / "secret").write_text("secret")
    (here / "outside").mkdir()
    run_in(engine, f"mkdir -p /trap; ln -s {here} /trap/abs; ln -s ../../../../../../../../..{here} /trap/up; ln -s /proc/1/root /trap/magic")
    for path in ("/trap/abs/secret", "/trap/up/secret", f"/trap/magic{here}/secret", f"/../../..{here}/secret"):
        done = engine.fluyt("cp", "box:" + path, str(here / "got"), check=False)
        assert done.returncode == 1 and not (here / "got").exists(), path
        done = engine.fluyt("cp", str(here / "secret"), "box:" + os.path.dirname(path) + "/outside/new", check=False)
        assert done.returncode == 1 and list((here / "outside").iterdir()) == [], path
    # A name that is a link: replaced, never written through.
    run_in(engine, "echo mine > /tmp/victim; ln -s /tmp/victim /tmp/entry")
    engine.fluyt("cp", str(here / "secret"), "box:/tmp/entry", check=False)
    assert run_in(engine, "cat /tmp/entry") == "secret"
    # What comes out has no setuid bit, and a link that it brings leads nobody out of the folder.
    run_in(engine, f"mkdir /out; cp /bin/busybox /out/sh; chmod 6755 /out/sh; ln -s {here}/outside /out/way")
    engine.fluyt("cp", "box:/out", str(here / "out"))
    assert stat.S_IMODE(os.stat(here / "out" / "sh").st_mode) == 0o755
    (here / "dir").mkdir()
    (here / "dir" / "way").symlink_to(here / "outside")
    run_in(engine, "rm /out/way; mkdir /out/way; echo x > /out/way/planted")
    assert engine.fluyt("cp", "box:/out/.", str(here / "dir"), check=False).returncode == 1
    assert list((here / "outside").iterdir()) == []


def test_wrong_words_are_answered(engine, box):
    _, here = box
    for words, code, expected in (
            (("a", "b"), 2, "CONTAINER:PATH"), (("box:/a", "box:/b"), 2, "CONTAINER:PATH"),
            (("none:/a", "b"), 1, 'no container "none"'), (("box:/none", "."), 1, 'no such file or directory: "/none"'),
            ((str(here / "none"), "box:/"), 1, "no such file or directory"), (("box:/etc/.", str(here / "no" / "such")), 1, "no"),
            (("box:/bin/busybox", str(here / "none") + "/"), 1, "no such directory"), (("box:/bin", __file__), 1, "not a directory"),
            (("box:/bin/busybox/", "."), 1, "not a directory"), ((__file__, "box:/none/x"), 1, 'no such file or directory: "/none"'),
            ((str(here), "box:/bin/busybox"), 1, "not a directory")):
        done = engine.fluyt("cp", *words, check=False)
        assert done.returncode == code and expected in done.stderr, (words, done)
