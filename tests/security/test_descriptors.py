"""No descriptor of runf's, of its caller's or of the host's reaches a container or a hook, and no path leads out
through one."""

import os
import subprocess

import pytest

import box as boxes


@pytest.fixture
def host_folders():
    """Descriptors of the host's root that a careless caller holds open, inheritable."""
    numbers = [os.open("/", os.O_RDONLY | os.O_DIRECTORY) for _ in range(12)]
    yield tuple(numbers)
    for number in numbers:
        os.close(number)


def listed(text):
    return {int(line.split()[0]): line.split(" ", 1)[1] for line in text.splitlines() if line[:1].isdigit()}


def test_init_gets_three_descriptors(any_box, host_folders):
    """CVE-2024-21626, CVE-2016-9962"""
    done = any_box.run("/bin/hostile", "descriptors", pass_fds=host_folders)
    assert done.code == 0 and set(listed(done.out)) == {0, 1, 2}, done


def test_exec_gets_three_descriptors(box, host_folders):
    """CVE-2024-21626, CVE-2016-9962"""
    box.start()
    done = box.exec("/bin/hostile", "descriptors", pass_fds=host_folders)
    assert done.code == 0 and set(listed(done.out)) == {0, 1, 2}, done


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "0<&- 1>&-", "0<&- 1>&- 2>&-"])
@pytest.mark.parametrize("verb", ["run", "exec"])
def test_a_closed_stream_is_no_place_for_a_descriptor(box, tmp_path, verb, closed):
    """CVE-2024-21626's kin: a caller without standard input, whose number the next open takes"""
    os.mkdir(box.folder + "/volume")
    os.mkdir(box.rootfs + "/volume")
    box.bind(box.folder + "/volume", "/volume")
    look = ["/bin/sh", "-c", "/bin/hostile descriptors 3>/volume/seen >&3 3>&-"]
    words = ["run", "--bundle", box.folder, box.id]
    if verb == "exec":
        box.start()
        words = ["exec", box.id, *look]
    else:
        box.save(look)
    subprocess.run(["/bin/bash", "-c", f'"$@" {closed}', "bash", boxes.RUNF, "--root", box.state, *words], check=False,
                   capture_output=True, timeout=boxes.LIMIT_S)
    text = (tmp_path / box.id / "volume" / "seen").read_text()
    seen = listed(text)
    assert set(seen) == {0, 1, 2}, text
    assert all(target in ("/dev/null", "/volume/seen") or target.startswith(("pipe:", "socket:"))
               for target in seen.values()), text


def test_a_terminal_is_the_only_descriptor_more(box, host_folders):
    """With a terminal the descriptors are its, three times"""
    box.process["terminal"] = True
    done = box.run("/bin/hostile", "descriptors", pass_fds=host_folders)
    assert done.code == 0 and set(listed(done.out)) == {0, 1, 2}, done


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"])
def test_hooks_get_three_descriptors_and_a_clean_start(box, host_folders, tmp_path, kind):
    """CVE-2024-21626 for hooks; CVE-2025-23266: no variable of the container's"""
    script = "/bin/hostile descriptors; echo cwd $(pwd); env"
    # Inside, the image's; outside, a copy of it at a path of ours.
    os.makedirs(tmp_path / "hook", exist_ok=True)
    report = tmp_path / "hook" / "report"
    if kind == "startContainer":
        os.mkdir(box.folder + "/volume")
        os.mkdir(box.rootfs + "/volume")
        box.bind(box.folder + "/volume", "/volume")
        report = tmp_path / box.id / "volume" / "report"
        box.hook(kind, "/bin/sh", "-c", f"exec >/volume/report 2>&1; {script}", env=["PATH=/bin"])
    else:
        script = script.replace("/bin/hostile", box.rootfs + "/bin/hostile")
        box.hook(kind, "/bin/sh", "-c", f"exec >{report} 2>&1; {script}", env=["PATH=/usr/bin:/bin"])
    box.process["env"].append("LD_PRELOAD=./evil.so")
    done = box.run("/bin/true", pass_fds=host_folders)
    assert done.code == 0, done
    text = report.read_text()
    # The shell's own redirection may have left a copy: what counts is where they lead.
    for number, target in listed(text).items():
        assert target == str(report) or target.startswith(("pipe:", "/volume/report", "socket:")) or target == "/dev/null", text
        assert number <= 2 or number >= 10, text
    assert "LD_PRELOAD" not in text and "EVIL" not in text, text
    cwd = [line for line in text.splitlines() if line.startswith("cwd ")][0][4:]
    # A createContainer hook starts in the root, as callers of runc expect: a name without "/" is all that leads it there.
    assert kind == "createContainer" or not cwd.startswith(box.rootfs), text


def is_inside(done):
    """Refused, or the container's own root, which runf still holds when it goes there."""
    if done.code != 0:
        assert "process.cwd" in done.err, done
    else:
        assert done.out.startswith("/\nbin\n") and "\nvar" not in done.out, done


@pytest.mark.parametrize("number", range(3, 21))
def test_no_working_directory_through_a_descriptor(any_box, canary, host_folders, number):
    """CVE-2024-21626"""
    any_box.process["cwd"] = f"/proc/self/fd/{number}"
    is_inside(any_box.shell("pwd; ls", pass_fds=host_folders))


@pytest.mark.parametrize("below", ["", "/..", "/../../.."])
def test_no_working_directory_through_a_kept_descriptor(box, host_folders, tmp_path, below):
    """CVE-2024-21626: a folder that the caller asked to keep still has no path in the container"""
    folder = tmp_path / "kept" / "inner"
    os.makedirs(folder)
    box.process["cwd"] = "/proc/self/fd/3" + below
    kept = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        done = _with_descriptor_three(box, kept, ["run", "--preserve-fds", "1", "--bundle", box.folder, box.id],
                                      ["/bin/ls"])
    finally:
        os.close(kept)
    assert done.code != 0 and "lies outside the container's root" in done.err, done


def test_exec_enters_no_kept_descriptor(box, tmp_path):
    """CVE-2024-21626 for exec"""
    box.start()
    os.mkdir(tmp_path / "kept")
    kept = os.open(tmp_path / "kept", os.O_RDONLY | os.O_DIRECTORY)
    try:
        done = _with_descriptor_three(
            box, kept, ["exec", "--preserve-fds", "1", "--cwd", "/proc/self/fd/3", box.id, "/bin/ls"])
    finally:
        os.close(kept)
    assert done.code != 0 and "process.cwd" in done.err, done


@pytest.mark.parametrize("number", range(3, 21))
def test_exec_enters_no_descriptor(box, canary, number):
    """CVE-2024-21626 for exec"""
    box.start()
    is_inside(box.exec("/bin/sh", "-c", "pwd; ls", flags=("--cwd", f"/proc/self/fd/{number}")))


def test_a_link_of_the_image_to_a_descriptor_is_no_working_directory(box, tmp_path):
    """CVE-2024-21626: the image's WORKDIR is a link into /proc/self/fd"""
    for number in range(3, 12):
        box.link(f"/deck{number}", f"/proc/self/fd/{number}")
        box.process["cwd"] = f"/deck{number}"
        is_inside(box.shell("pwd; ls"))


@pytest.mark.parametrize("number", range(3, 21))
def test_no_program_through_a_descriptor(box, canary, host_folders, number):
    """CVE-2024-21626: a program of the host's below a folder that was left open"""
    done = box.run(f"/proc/self/fd/{number}/bin/true", pass_fds=host_folders)
    assert done.code != 0 and "process.args[0]" in done.err, done


def _with_descriptor_three(box, fd, words, args=None):
    """runf with `fd` as its descriptor 3, and nothing else."""
    box.save(args)
    done = boxes.Outcome(subprocess.run(
        ["/bin/bash", "-c", f'exec 3<&{fd}; exec "$@"', "bash", boxes.RUNF, "--root", box.state, *words], check=False,
        stdin=subprocess.DEVNULL, capture_output=True, pass_fds=(fd,), timeout=boxes.LIMIT_S))
    if words[0] == "run":
        box.runf("delete", "--force", box.id)
    return done
