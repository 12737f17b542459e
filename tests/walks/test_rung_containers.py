"""rung with runc's command line: containers on the guest kernel, as containerd and Docker make them."""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import termios
import time

import bundle
import harness
import masked
import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

RUNG = os.path.join(harness.BIN, "rung")
GROUP = f"/fluyt-walk-rung-containers-{os.getpid()}"  # others may run these walks at the same time
LIMIT_S = 120


class Box(bundle.Box):
    def __init__(self, folder):
        super().__init__(RUNG, GROUP, folder, limit_s=LIMIT_S)
        self.config["root"]["readonly"] = False

    rung = bundle.Box.call


@pytest.fixture
def box(tmp_path):
    made = Box(str(tmp_path))
    missing = made.once("true")
    if missing[0] != 0 and "expected 5.19" in missing[2]:
        pytest.skip(missing[2])
    yield made
    made.close()


def is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def text_of(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def test_a_program_runs_and_its_end_is_rungs(box):
    code, out, error = box.once("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (code, out, error) == (7, "out\n", "err\n")
    assert box.once("sh", "-c", "sh -c 'kill -9 $$'; exit $?")[0] == 137
    assert box.rung("list", "-q").stdout == ""


def test_what_it_sees_of_a_kernel_is_the_guests(box):
    box.config["hostname"] = "harbour"
    code, out, _ = box.once("sh", "-c", "hostname; cat /proc/version; cat /proc/1/comm; ls /proc | grep -c '^[0-9]'; ls /dev | wc -l")
    lines = out.splitlines()
    assert code == 0 and lines[0] == "harbour" and lines[2] == "sh", out
    assert lines[1].strip() != text_of("/proc/version").strip()
    assert int(lines[3]) <= 3 and int(lines[4]) < 25


def test_create_and_start_are_two_steps(box):
    box.write(("sh", "-c", "echo began; sleep 1000"))
    box.ids.add("one")
    box.detached("create", "--pid-file", box.bundle + "/pid", "one", out=box.bundle + "/out")
    state = box.state()
    assert state["status"] == "created" and str(state["pid"]) == text_of(box.bundle + "/pid")
    time.sleep(0.2)
    assert text_of(box.bundle + "/out") == ""
    box.done("start", "one")
    harness.wait_for(lambda: text_of(box.bundle + "/out") == "began\n", "the program's first line")
    assert box.state()["status"] == "running"
    assert box.rung("start", "one").returncode == 1
    assert box.rung("delete", "one").returncode == 1
    box.done("kill", "one", "KILL")
    harness.wait_for(lambda: box.state()["status"] == "stopped", "its end")
    box.done("delete", "one")
    assert "does not exist" in box.rung("state", "one").stderr


def test_a_missing_program_is_told_before_anything_runs(box):
    for args, told in ((("nothing",), "executable file not found in $PATH"), (("/bin/nothing",), "no such file or directory"),
                       (("/etc/passwd",), "permission denied")):
        code, _, error = box.once(*args)
        assert code == 1 and told in error, error
        assert box.cgroups() == [] and box.rung("list", "-q").stdout == ""


def watched(box, path, change, expected):
    """Waits until a program that has asked for `path` all the time says what is there after `change`."""
    said = box.bundle + "/said"
    harness.wait_for(lambda: text_of(said).count("\n") > 2, "its first words")
    change()
    harness.wait_for(lambda: text_of(said).splitlines()[-1] == expected, f"{path} to be {expected!r}: {text_of(said)[-100:]!r}")


@pytest.mark.parametrize("place", ["/etc", "/volume"])
def test_what_is_changed_outside_is_seen_by_programs_that_run(box, place):
    folder = {"/etc": box.rootfs + "/etc", "/volume": box.bundle + "/volume"}[place]
    os.makedirs(box.bundle + "/volume", exist_ok=True)
    box.config["mounts"].append({"destination": "/volume", "type": "bind", "source": box.bundle + "/volume", "options": ["rbind"]})
    box.start("sh", "-c", f"while :; do if [ -e {place}/f ]; then echo $(stat -c '%s %a' {place}/f) $(cat {place}/f); else echo none; fi; sleep 0.05; done",
              out=box.bundle + "/said")

    def put(text, mode=0o644):
        with open(folder + "/new", "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(folder + "/new", mode)
        os.rename(folder + "/new", folder + "/f")

    def append():
        with open(folder + "/f", "a", encoding="ascii") as file:
            file.write("er")

    watched(box, place, lambda: put("first"), "5 644 first")
    watched(box, place, append, "7 644 firster")
    watched(box, place, lambda: os.chmod(folder + "/f", 0o600), "7 600 firster")
    watched(box, place, lambda: put("another", 0o640), "7 640 another")
    watched(box, place, lambda: os.rename(folder + "/f", folder + "/g"), "none")


def test_what_is_changed_outside_is_seen_at_once_by_who_is_executed_then(box):
    box.start("sh", "-c", "while :; do [ -e /etc/f ]; [ -e /etc/g/h ]; done")
    for text in ("one", "three", ""):
        with open(box.rootfs + "/etc/new", "w", encoding="ascii") as file:
            file.write(text)
        os.rename(box.rootfs + "/etc/new", box.rootfs + "/etc/f")
        assert box.done("exec", "one", "sh", "-c", "cat /etc/f; stat -c %s /etc/f") == f"{text}{len(text)}\n"
    os.remove(box.rootfs + "/etc/f")
    assert box.rung("exec", "one", "cat", "/etc/f").returncode == 1
    os.makedirs(box.rootfs + "/etc/g/h")
    assert box.rung("exec", "one", "ls", "-d", "/etc/g/h").stdout == "/etc/g/h\n"


def test_an_error_names_a_mount_by_its_place_in_the_specification(box):
    # Those before it are the guest kernel's own, and not among the outer container's.
    place = len(box.config["mounts"])
    box.config["mounts"].append({"destination": "/mnt", "type": "bind", "source": box.bundle + "/missing", "options": ["rbind"]})
    code, _, error = box.once("true")
    assert code == 1 and f"mounts[{place}]: " in error and "/mnt" in error, error


def test_exec_has_a_keeper_that_lives_as_long_and_ends_alike(box):
    box.start()
    done = box.rung("exec", "one", "sh", "-c", "echo in; echo no >&2; exit 9")
    assert (done.returncode, done.stdout, done.stderr) == (9, "in\n", "no\n")
    assert box.rung("exec", "one", "sh", "-c", "kill -15 $$").returncode == 143
    missing = box.rung("exec", "one", "nothing")
    assert missing.returncode == 255 and "executable file not found in $PATH" in missing.stderr
    box.detached("exec", "-d", "--pid-file", box.bundle + "/keeper", "one", "sleep", "1234")
    keeper = int(text_of(box.bundle + "/keeper"))
    assert "sleep 1234" in box.done("exec", "one", "ps")
    os.kill(keeper, signal.SIGKILL)
    harness.wait_for(lambda: "sleep 1234" not in box.done("exec", "one", "ps"), "the end of what it kept")
    # And the other way round: who ends inside ends its keeper.
    box.detached("exec", "-d", "--pid-file", box.bundle + "/keeper", "one", "sleep", "4321")
    keeper = int(text_of(box.bundle + "/keeper"))
    pid = next(line.split()[0] for line in box.done("exec", "one", "ps").splitlines() if "sleep 4321" in line)
    box.done("exec", "one", "kill", "-9", pid)
    harness.wait_for(lambda: is_gone(keeper), "the keeper's end")


def test_a_signal_to_the_keeper_is_the_programs(box):
    box.start()
    box.detached("exec", "-d", "--pid-file", box.bundle + "/keeper", "one", "sh", "-c",
                 "trap 'echo caught > /tmp/told; exit 0' USR1; while :; do sleep 0.05; done")
    time.sleep(0.3)
    os.kill(int(text_of(box.bundle + "/keeper")), signal.SIGUSR1)
    harness.wait_for(lambda: os.path.exists(box.rootfs + "/tmp/told"), "the trap")


def test_standard_streams_are_opened_again(box):
    for user in (0, 1000):
        box.config["process"]["user"] = {"uid": user, "gid": user}
        assert box.once("sh", "-c", "echo out > /dev/stdout; echo more >> /proc/self/fd/1; echo err > /dev/stderr") == (0, "out\nmore\n", "err\n")
        box.start("sh", "-c", "echo up > /dev/stdout; exec sleep 1000", name=f"of{user}", out=box.bundle + "/out")
        harness.wait_for(lambda: text_of(box.bundle + "/out") == "up\n", "the program's first line")
        assert box.done("exec", f"of{user}", "sh", "-c", "echo there > /dev/stdout; echo again >> /dev/stderr") == "there\n"
        box.done("delete", "--force", f"of{user}")


def test_exec_as_another_user(box):
    box.start()
    assert box.done("exec", "-u", "1000:1000", "one", "id").startswith("uid=1000")
    assert box.done("exec", "-e", "A=b", "--cwd", "/tmp", "one", "sh", "-c", "echo $A $(pwd)") == "b /tmp\n"
    assert "Permission denied" in box.rung("exec", "-u", "1000:1000", "one", "touch", "/etc/new").stderr


def test_the_end_of_the_container_ends_its_execs(box):
    pid = box.start()
    box.detached("exec", "-d", "--pid-file", box.bundle + "/keeper", "one", "sleep", "1000")
    keeper = int(text_of(box.bundle + "/keeper"))
    box.done("kill", "one", "KILL")
    harness.wait_for(lambda: is_gone(pid) and is_gone(keeper), "both ends")


def test_processes_are_listed_by_the_guest_kernel(box):
    box.start("sh", "-c", "sleep 1000 & wait")
    box.detached("exec", "-d", "--user", "1000", "one", "sleep", "2000")
    harness.wait_for(lambda: "sleep 2000" in box.done("ps", "one"), "the second program")
    lines = box.done("ps", "one").splitlines()
    assert lines[0].split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"] and len(lines) == 4, lines
    assert lines[1].split()[:3] == ["0", "1", "0"] and lines[1].endswith(" sh -c sleep 1000 & wait"), lines
    assert sorted(line.split()[0] for line in lines[1:]) == ["0", "0", "1000"], lines
    assert box.done("ps", "one", "-o", "pid,user,comm").splitlines()[:2] == ["PID USER COMMAND", "  1 0    sh"]
    assert box.done("ps", "one", "aux").splitlines()[0].split()[:3] == ["USER", "PID", "%CPU"]
    assert "expected some of pid" in box.rung("ps", "one", "-o", "nothing").stderr and "expected -ef" in box.rung("ps", "one", "--forest").stderr
    assert set(json.loads(box.done("ps", "-f", "json", "one"))) == pids_of(box)


def test_a_signal_for_all_is_for_the_containers_programs(box):
    box.start("sh", "-c", "trap 'echo parent' TERM; sh -c 'trap \"echo child; exit\" TERM; echo up; while :; do sleep 0.05; done' & "
                          "echo up; while :; do sleep 0.05; done", out=box.bundle + "/out")
    harness.wait_for(lambda: text_of(box.bundle + "/out") == "up\nup\n", "both traps")
    box.done("kill", "--all", "one", "TERM")
    harness.wait_for(lambda: {"child", "parent"} <= set(text_of(box.bundle + "/out").split()), "both words")
    assert box.state()["status"] == "running" and box.done("exec", "one", "echo", "there") == "there\n"
    box.done("kill", "--all", "one", "KILL")
    harness.wait_for(lambda: box.state()["status"] == "stopped", "its end")


def test_limits_are_seen_in_a_cgroup(box):
    resources = box.config["linux"]["resources"]
    resources["memory"] = {"limit": 96 << 20, "swap": 96 << 20}
    resources["cpu"] = {"quota": 50000, "period": 200000}
    resources["pids"] = {"limit": 60}
    assert any(mount["destination"] == "/sys/fs/cgroup" for mount in box.config["mounts"])
    box.start()
    look = ("cd /sys/fs/cgroup; cat memory.max cpu.max pids.max pids.current cgroup.procs; grep -c ' /sys/fs/cgroup ro.* - cgroup2 ' /proc/self/mountinfo;"
            " echo 1 > memory.max; stat -f -c %t .")
    done = box.rung("exec", "one", "sh", "-c", look)
    lines = done.stdout.split("\n")
    assert lines[:4] == [str(96 << 20), "50000 200000", "60", "3"] and lines[4:9] == ["1", "2", "3", "1", "63677270"], done
    assert "Read-only file system" in done.stderr or "Permission denied" in done.stderr, done
    box.done("update", "--cpu-quota", "-1", "--cpu-period", "100000", "one")
    assert box.done("exec", "one", "cat", "/sys/fs/cgroup/cpu.max") == "max 100000\n"
    used = int(box.done("exec", "one", "cat", "/sys/fs/cgroup/memory.current"))
    assert 0 < used < 96 << 20


def test_signals_reach_the_program(box):
    box.start("sh", "-c", "trap 'echo term; exit 3' TERM; echo up; while :; do sleep 0.05; done", out=box.bundle + "/out")
    harness.wait_for(lambda: text_of(box.bundle + "/out") == "up\n", "the trap")
    box.done("kill", "one", "TERM")
    harness.wait_for(lambda: text_of(box.bundle + "/out") == "up\nterm\n", "the trap's word")
    harness.wait_for(lambda: box.state()["status"] == "stopped", "its end")


def test_init_is_deaf_to_what_it_has_no_handler_for(box):
    box.start()
    box.done("kill", "one", "TERM")
    time.sleep(0.3)
    assert box.state()["status"] == "running"


def test_a_signal_that_comes_before_its_handler_is_not_lost(box):
    box.write(("sh", "-c", "sleep 0.5; trap 'exit 4' TERM; while :; do sleep 0.05; done"))
    child = subprocess.Popen([RUNG, "--root", box.root, "run", "one"], cwd=box.bundle, stdin=subprocess.DEVNULL)
    box.ids.add("one")
    harness.wait_for(lambda: box.rung("state", "one").returncode == 0 and box.state()["status"] == "running", "its start")
    box.done("kill", "one", "TERM")
    assert child.wait(timeout=LIMIT_S) == 4


def test_who_is_no_init_is_not_spared(box):
    box.config["linux"]["namespaces"] = [one for one in box.config["linux"]["namespaces"] if one["type"] != "pid"]
    for at in range(10):
        box.write(("sleep", "1000"))
        box.ids.add(f"c{at}")
        box.detached("create", f"c{at}")
        box.done("start", f"c{at}")
        box.done("kill", f"c{at}", "TERM")
        harness.wait_for(lambda at=at: box.state(f"c{at}")["status"] == "stopped", "its end")
        box.done("delete", f"c{at}")


def test_files_are_the_hosts(box):
    code, out, error = box.once("sh", "-c", "echo kept > /tmp/file; mkdir /new; ln -s /tmp/file /new/link; rm /etc/passwd; stat -c %a /new")
    assert code == 0 and out == "755\n", error
    assert text_of(box.rootfs + "/tmp/file") == "kept\n" and os.readlink(box.rootfs + "/new/link") == "/tmp/file"
    assert not os.path.exists(box.rootfs + "/etc/passwd")
    # Nothing of the guest's own file systems came with it.
    assert sorted(os.listdir(box.rootfs)) == ["bin", "etc", "new", "tmp"]


def test_volumes_and_their_flags(box):
    for name in ("data", "fixed", "shm"):
        os.mkdir(f"{box.bundle}/{name}")
    with open(box.bundle + "/fixed/file", "w", encoding="utf-8") as file:
        file.write("fixed\n")
    with open(box.bundle + "/single", "w", encoding="utf-8") as file:
        file.write("single\n")
    box.config["mounts"] = [mount for mount in box.config["mounts"] if mount["destination"] != "/dev/shm"]
    box.config["mounts"] += [{"source": "data", "destination": "/data", "options": ["bind"]},
                             {"source": "fixed", "destination": "/fixed", "options": ["bind", "ro"]},
                             {"source": "single", "destination": "/etc/single", "options": ["bind"]},
                             {"source": "single", "destination": "/dev/termination-log", "options": ["bind"]},
                             {"source": "shm", "destination": "/dev/shm", "options": ["bind"]}]
    code, out, error = box.once("sh", "-c", "cat /fixed/file /etc/single; echo a > /data/new; echo b > /dev/shm/new; echo c > /dev/termination-log;"
                                " echo x > /fixed/file; grep -c ' /fixed [a-z0-9]* ro,' /proc/mounts")
    assert code == 0 and out == "fixed\nsingle\n1\n" and "Read-only file system" in error, (out, error)
    assert text_of(box.bundle + "/data/new") == "a\n" and text_of(box.bundle + "/shm/new") == "b\n"
    assert text_of(box.bundle + "/single") == "c\n"


def test_a_read_only_root_and_masks(box):
    box.config["root"]["readonly"] = True
    box.config["linux"]["maskedPaths"] = ["/proc/meminfo", "/etc/passwd", "/sys/kernel"]
    box.config["linux"]["readonlyPaths"] = ["/proc/sys"]
    code, out, error = box.once("sh", "-c", "cat /proc/meminfo /etc/passwd | wc -c; echo x > /new; echo x > /dev/null; echo done")
    assert code == 0 and out == "0\ndone\n" and "/new: Read-only file system" in error, (out, error)


def test_settings_of_namespaces_are_the_containers_own(box):
    box.config["linux"]["sysctl"] = {"net.core.somaxconn": "77", "kernel.shmmni": "99"}
    box.config["linux"]["readonlyPaths"] = ["/proc/sys"]
    code, out, error = box.once("sh", "-c", "cd /proc/sys; cat net/core/somaxconn kernel/shmmni net/ipv4/conf/lo/rp_filter kernel/ostype; echo *;"
                                " cat /proc/sys/net/core/somaxconn; cat kernel/modprobe || echo none")
    lines = out.splitlines()
    assert code == 0 and lines[:2] == ["77", "99"] and lines[2] in "012" and lines[3:] == ["Linux", "fs kernel net user vm", "77", "none"], (out, error)


def test_the_identity_is_the_specifications(box):
    box.config["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [7, 8], "umask": 0o77}
    box.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99}]
    box.config["process"]["cwd"] = "/made/for/it"
    code, out, error = box.once("sh", "-c", "id; echo $HOME; pwd; umask; ulimit -n; ulimit -Hn; grep -E 'CapEff|NoNewPrivs' /proc/self/status")
    assert code == 0, error
    lines = out.splitlines()
    assert "uid=1000" in lines[0] and "gid=1000" in lines[0] and lines[0].endswith("7,8"), lines
    assert lines[1:6] == ["/home/sailor", "/made/for/it", "0077", "77", "99"], lines
    assert lines[6:] == ["CapEff:\t0000000000000000", "NoNewPrivs:\t1"], lines


def receive_terminal(listener):
    connection, _ = listener.accept()
    _, fds, _, _ = socket.recv_fds(connection, 64, 1)
    connection.close()
    return fds[0]


def read_until(master, wanted, seconds=30):
    seen = b""
    end = time.monotonic() + seconds
    while wanted not in seen:
        assert time.monotonic() < end, seen
        ready, _, _ = select.select([master], [], [], 0.2)
        if ready:
            try:
                seen += os.read(master, 4096)
            except OSError:
                break
    return seen


def test_a_terminal_through_the_console_socket(box):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(box.bundle + "/console")
    listener.listen(1)
    box.config["process"]["terminal"] = True
    box.config["process"]["consoleSize"] = {"height": 33, "width": 77}
    box.write(("sh", "-c", "stty size; tty; trap 'echo interrupted' INT; read line; echo got $line; stty size; read line; echo end"))
    box.ids.add("one")
    box.detached("create", "--console-socket", box.bundle + "/console", "one")
    master = receive_terminal(listener)
    box.done("start", "one")
    read_until(master, b"/dev/pts/0")
    assert fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 88, 0, 0)) is not None
    os.write(master, b"word\n")
    assert b"got word" in read_until(master, b"44 88")
    os.write(master, b"\x03")
    read_until(master, b"interrupted")
    os.write(master, b"\n")
    read_until(master, b"end")
    os.close(master)
    harness.wait_for(lambda: box.state()["status"] == "stopped", "its end")


def test_exec_on_a_terminal(box):
    box.start()
    child, master = pty.fork()
    if child == 0:
        os.execv(RUNG, [RUNG, "--root", box.root, "exec", "-t", "one", "sh", "-c", "tty; stty -echo; read line; echo got $line; exit 5"])
    read_until(master, b"/dev/pts/0")
    time.sleep(0.2)
    os.write(master, b"typed\n")
    read_until(master, b"got typed")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    os.close(master)


def test_what_would_run_on_the_hosts_kernel_is_refused(box):
    box.config["hooks"] = {"startContainer": [{"path": "/bin/true"}]}
    code, _, error = box.once("true")
    assert code == 1 and "hooks.startContainer" in error
    del box.config["hooks"]
    box.write(("true",))
    refused = box.rung("run", "--preserve-fds", "1", "once", stdin=None, pass_fds=(3,)) if os.path.exists("/proc/self/fd/3") else None
    assert refused is None or (refused.returncode == 1 and "--preserve-fds" in refused.stderr)


def test_hooks_of_the_runtime_run_on_the_host(box):
    hook = box.bundle + "/hook"
    with open(hook, "w", encoding="utf-8") as file:
        file.write(f"#!/bin/sh\ncat > {box.bundle}/$1\n")
    os.chmod(hook, 0o755)
    names = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    box.config["hooks"] = {name: [{"path": hook, "args": ["hook", name]}] for name in names}
    assert box.once("true")[0] == 0
    for name in names:
        assert json.loads(text_of(f"{box.bundle}/{name}"))["id"] == "once", name


def test_a_process_that_takes_too_much_memory_ends_alone(box):
    box.config["linux"]["resources"]["memory"] = {"limit": 96 << 20, "swap": 96 << 20}
    tries = [box.once("sh", "-c", "awk 'BEGIN { s = \"x\"; while (1) s = s s }'; echo ended $?; echo still here") for _ in range(3)]
    # Now and then the host has nothing left for a frame of another process in the moment that this one ends.
    assert sum(code == 0 and "still here" in out and "ended 137" in out for code, out, _ in tries) >= 2, tries


def test_a_memory_limit_is_all_the_memory_there_is(box):
    box.config["linux"]["resources"]["memory"] = {"limit": 96 << 20, "swap": 96 << 20}
    code, out, error = box.once("sh", "-c", "head -3 /proc/meminfo; head -1 /sys/devices/system/node/node0/meminfo")
    words = out.split()
    assert code == 0 and words[0::3][:3] == ["MemTotal:", "MemFree:", "MemAvailable:"], (out, error)
    total, free, available = (int(word) for word in words[1:9:3])
    assert total == 96 << 10 and 0 < free <= available < total and words[-2:] == ["98304", "kB"], out


def test_what_proc_has_of_a_process_is_its_users(box):
    box.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    code, out, error = box.once("sh", "-c", "stat -c '%u:%g' /proc/self/ /proc/self/environ /proc/self/fd; ls /proc/self/fd | head -3 | wc -l;"
                                            " head -1 /proc/self/io | grep -c rchar")
    assert code == 0 and out.split() == ["1000:1000"] * 3 + ["3", "1"], (out, error)


def test_the_pids_limit_is_the_guests(box):
    box.config["linux"]["resources"]["pids"] = {"limit": 5}
    code, out, error = box.once("sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; echo $i")
    assert code != 0 and "fork" in error, (out, error)
    box.config["linux"]["resources"]["pids"] = {"limit": 20}
    assert box.once("sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 0.2 & done; echo $i")[1] == "8\n"


def test_the_seccomp_profile_is_the_guests(box):
    box.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                                      "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99},
                                                   {"names": ["symlink", "symlinkat"], "action": "SCMP_ACT_KILL_PROCESS"}]}
    code, out, error = box.once("sh", "-c", "grep Seccomp: /proc/self/status; mkdir /new; ln -s a /tmp/b; echo $?")
    assert code == 0 and out == "Seccomp:\t2\n159\n" and "Cannot assign requested address" in error, (out, error)
    box.start()
    assert "Cannot assign requested address" in box.rung("exec", "one", "mkdir", "/new").stderr
    box.config["linux"]["seccomp"]["syscalls"][0]["action"] = "SCMP_ACT_NOTIFY"
    code, _, error = box.once("true")
    assert code == 1 and "SCMP_ACT_NOTIFY" in error


def test_update_and_events(box):
    box.config["linux"]["resources"]["pids"] = {"limit": 50}
    box.start()
    box.done("update", "--pids-limit", "3", "one")
    done = box.rung("exec", "one", "sh", "-c", "for i in 1 2 3 4 5; do sleep 3 & done; echo all")
    assert "all" not in done.stdout, done
    assert json.loads(box.done("events", "--stats", "one"))["data"]["pids"]["current"] > 0


def test_a_paused_container_does_nothing_until_it_is_resumed(box):
    box.start("sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /tmp/count; done")
    box.detached("exec", "-d", "one", "sh", "-c", "while :; do sleep 0.01; echo x >> /tmp/beats; done")

    def counts():
        return text_of(box.rootfs + "/tmp/count"), os.path.getsize(box.rootfs + "/tmp/beats")
    harness.wait_for(lambda: os.path.exists(box.rootfs + "/tmp/beats") and counts()[0], "both at work")
    box.done("pause", "one")
    assert box.state()["status"] == "paused"
    time.sleep(0.1)
    before = counts()
    time.sleep(0.3)
    assert counts() == before
    assert "paused" in box.rung("exec", "one", "true").stderr and box.rung("pause", "one").returncode == 1
    box.done("resume", "one")
    assert box.state()["status"] == "running"
    harness.wait_for(lambda: counts()[0] != before[0] and counts()[1] != before[1], "both to go on")
    box.done("pause", "one")
    box.done("kill", "one", "KILL")
    harness.wait_for(lambda: box.state()["status"] == "stopped", "its end")


COUNTS = """
import os, time
with open("/tmp/counts", "w+b") as file:
    file.truncate(4096)
    counts = mmap.mmap(file.fileno(), 4096)
if os.fork() == 0:
    compute(counts, 2)
while True:
    time.sleep(0.01)
    with open("/tmp/beats", "a") as file:
        file.write("x")
"""


def with_python(box):
    box.config["mounts"] += [{"destination": path, "source": path, "type": "bind", "options": ["rbind", "ro"]}
                             for path in ("/usr", "/lib", "/lib64") if os.path.exists(path)]


def stands_still_while_paused(box, name):
    """A program of COUNTS, from outside."""
    def counts():
        with open(box.rootfs + "/tmp/counts", "rb") as file:
            return *struct.unpack("<QQ", file.read(16)), os.path.getsize(box.rootfs + "/tmp/beats")
    harness.wait_for(lambda: os.path.exists(box.rootfs + "/tmp/beats") and all(counts()), "all at work", 60)
    for _ in range(2):
        box.done("pause", name)
        before = counts()
        time.sleep(0.3)
        assert counts() == before
        # What else there is to do goes on beside it, and what was stopped goes on as it was.
        assert "paused" in box.rung("exec", name, "true").stderr
        box.done("update", "--pids-limit", "100", name)
        box.done("resume", name)
        harness.wait_for(lambda seen=before: all(now != then for now, then in zip(counts(), seen)), "all to go on", 60)
        assert box.done("exec", name, "echo", "there") == "there\n"
    box.done("pause", name)
    box.done("kill", name, "KILL")
    harness.wait_for(lambda: box.state(name)["status"] == "stopped", "its end", 60)


def test_a_paused_program_stands_still_though_it_blocks_every_signal_of_the_host(box):
    with_python(box)
    box.start("/usr/bin/python3", "-c", masked.program() + COUNTS)
    stands_still_while_paused(box, "one")


def test_who_administers_may_mount_inside(box):
    script = ("set -e; cd /; mkdir /m /n; mount -t tmpfs -o mode=700 none /m; stat -c %a /m; echo a > /m/f; mount --bind /m /n; cat /n/f; echo b > /n/g; cat /m/g;"
              " mount -o remount,ro,bind /m /m || mount -o remount,ro /m; echo c > /m/h || echo read-only; umount /n; ls /n; umount /m; ls /m;"
              " umount /proc || echo stays; mount -t proc none /m; grep -c ^ /m/self/comm; cp /bin/busybox /tmp/b; mount -t tmpfs -o noexec none /n; cp /bin/busybox /n/b;"
              " /n/b true || echo not executed; grep ' /n ' /proc/mounts")
    for group in self_and_bounding(box.config):
        group.append("CAP_SYS_ADMIN")
    code, out, error = box.once("sh", "-c", script)
    assert code == 0, (out, error)
    assert out.splitlines() == ["700", "a", "b", "read-only", "stays", "1", "not executed", "tmpfs /n tmpfs rw,noexec,relatime 0 0"], (out, error)
    # Nothing of it is the host's.
    assert sorted(os.listdir(box.rootfs + "/m") + os.listdir(box.rootfs + "/n")) == []
    for group in self_and_bounding(box.config):
        group.remove("CAP_SYS_ADMIN")
    code, out, error = box.once("mount", "-t", "tmpfs", "none", "/m")
    assert code != 0 and ("Operation not permitted" in error or "permission denied" in error), error


def self_and_bounding(config):
    return [config["process"]["capabilities"][name] for name in ("bounding", "effective", "permitted")]


def test_what_programs_ask_for_can_be_seen(box):
    box.write(("sh", "-c", "mkdir /seen; sleep 1000"))
    box.ids.add("one")
    box.detached("--strace", box.bundle + "/strace", "--unsupported", box.bundle + "/unsupported", "run", "-d", "one")
    harness.wait_for(lambda: os.path.exists(box.rootfs + "/seen") and "execve" in box.done("calls", "one"), "the folder, and sleep behind it")
    rows = {line.split()[0]: line.split()[1:] for line in box.done("calls", "one").splitlines()}
    assert rows["CALL"] == ["COUNT", "SUPPORT"] and rows["mkdir"] == ["1", "full"] and int(rows["execve"][0]) >= 1, rows
    assert 'mkdir("/seen", ' in text_of(box.bundle + "/strace")
    assert os.path.exists(box.bundle + "/unsupported")
    refused = box.rung("--strace", "/no/such/folder/file", "run", "two")
    assert refused.returncode == 1 and "option --strace" in refused.stderr


def test_message_queues_are_those_of_the_namespace(box):
    box.config["linux"]["sysctl"] = {"fs.mqueue.msg_max": "21", "fs.mqueue.msg_default": "17"}
    script = ("grep ' /dev/mqueue ' /proc/mounts | cut -d' ' -f3; touch /dev/mqueue/q; cat /dev/mqueue/q; stat -c %s /dev/mqueue/q; mkdir /dev/mqueue/d; "
              "cat /proc/sys/fs/mqueue/msg_max /proc/sys/fs/mqueue/msg_default")
    code, out, error = box.once("sh", "-c", script)
    assert code == 0 and "Operation not permitted" in error, (out, error)
    assert [line.split() for line in out.splitlines()] == [["mqueue"], ["QSIZE:0", "NOTIFY:0", "SIGNO:0", "NOTIFY_PID:0"], ["80"], ["21"], ["17"]]


def test_calls_that_there_are_not_are_named_once(box):
    shutil.copy(os.path.join(os.path.dirname(harness.BIN), "guest", "guest_storm"), box.rootfs + "/bin/guest_storm")
    box.start("sh", "-c", "/bin/guest_storm calls >/said; mv /said /done; sleep 1000")
    harness.wait_for(lambda: os.path.exists(box.rootfs + "/done"), "every call to be asked for", LIMIT_S)
    path = f"{box.root}/one/unsupported"
    lines = text_of(path).splitlines()
    numbers = [int(number) for line in lines for number in re.findall(r"^rung: guest_storm: system call (\d+) is not supported$", line)]
    assert len(numbers) == len(lines) == len(set(numbers)) and 425 in numbers and 0 not in numbers, lines  # io_uring_setup and read
    # The guest kernel has the file, and is not shown where it lies.
    sentry = f"/proc/{box.state()['pid']}/fd"
    links = {fd: os.readlink(f"{sentry}/{fd}") for fd in os.listdir(sentry)}
    same = [fd for fd in links if os.path.samestat(os.stat(f"{sentry}/{fd}"), os.stat(path))]
    assert len(same) == 1 and not links[same[0]].startswith(box.root), links
    box.done("kill", "one", "KILL")
    harness.wait_for(lambda: box.state()["status"] == "stopped", "its end")
    box.done("delete", "one")
    assert not os.path.exists(path)


def test_features_tell_the_truth(box):
    features = json.loads(box.done("features"))
    assert "startContainer" not in features["hooks"] and "createRuntime" in features["hooks"]
    assert features["linux"]["apparmor"]["enabled"] is False
    for command in ("checkpoint", "restore"):
        assert f"  {command} " not in box.done("--help")


def test_containers_that_are_killed_in_the_middle_leave_nothing(box):
    box.write(("sleep", "1000"))
    for at in range(8):
        child = subprocess.Popen([RUNG, "--root", box.root, "run", f"c{at}"], cwd=box.bundle, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.004 * at)
        child.kill()
        child.wait()
        box.rung("delete", "--force", f"c{at}")
    # Of one that was killed before it was on record the first process may live a moment longer; its cgroup is the next one's.
    harness.wait_for(lambda: not pids_of(box), "the last one's processes to end")
    assert box.once("true") == (0, "", "")
    assert box.cgroups() == [] and box.rung("list", "-q").stdout == ""


@pytest.fixture
def namespace():
    """A network namespace as a CNI plugin leaves it: its path, and the two ends' addresses."""
    name, ours, theirs = f"fluyt-rung-{os.getpid()}", f"frh{os.getpid()}", f"frg{os.getpid()}"
    steps = [f"netns add {name}", f"link add {ours} type veth peer name {theirs} netns {name}", f"addr add 198.18.77.1/30 dev {ours}",
             f"link set {ours} up", f"-n {name} link set lo up", f"-n {name} addr add 198.18.77.2/30 dev {theirs}", f"-n {name} link set {theirs} up",
             f"-n {name} route add default via 198.18.77.1"]
    try:
        for step in steps:
            subprocess.run(["ip", *step.split()], check=True, timeout=30)
        yield f"/var/run/netns/{name}", "198.18.77.1", "198.18.77.2"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, timeout=30)


def test_the_network_is_the_namespaces(box, namespace):
    path, host, guest = namespace
    for one in box.config["linux"]["namespaces"]:
        if one["type"] == "network":
            one["path"] = path
    code, output, error = box.once("sh", "-c", "/bin/busybox ip -4 -o addr; /bin/busybox ip route")
    assert code == 0, error
    assert f"inet {guest}/30" in output and f"default via {host}" in output and "inet 127.0.0.1/8" in output
    # Outward.
    with socket.create_server((host, 0)) as server:
        server.settimeout(LIMIT_S)
        box.start("sh", "-c", f"echo hello | /bin/busybox nc {host} {server.getsockname()[1]}; "
                  "echo served | /bin/busybox nc -l -p 80; sleep 1000")
        peer, (address, _) = server.accept()
        with peer:
            assert address == guest and peer.recv(100) == b"hello\n"
    # Inward: what a probe or a port forward does.
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            with socket.create_connection((guest, 80), timeout=LIMIT_S) as client:
                assert client.recv(100) == b"served\n"
            break
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_containers_of_one_namespace_reach_each_other_on_loopback(box, namespace):
    path, _, _ = namespace
    for one in box.config["linux"]["namespaces"]:
        if one["type"] == "network":
            one["path"] = path
    box.start("sh", "-c", "while :; do echo beside | /bin/busybox nc -l -p 7000; done", name="server")
    # A second guest kernel in the same network.
    own, box.config["linux"]["cgroupsPath"] = box.config["linux"]["cgroupsPath"], box.config["linux"]["cgroupsPath"] + "-beside"
    code, output, error = box.once("sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do /bin/busybox nc 127.0.0.1 7000 </dev/null && exit 0; sleep 0.1; done; exit 1")
    assert code == 0 and output == "beside\n", (output, error)
    # And one of the host's programs there: a probe, a port forward to loopback.
    def asked():
        return subprocess.run(["ip", "netns", "exec", os.path.basename(path), "/bin/busybox", "nc", "127.0.0.1", "7000"], check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=LIMIT_S).stdout
    harness.wait_for(lambda: asked() == "beside\n", "an answer to a program of the host's")
    # Within one sandbox nothing changes.
    code, output, _ = box.once("sh", "-c", "echo own | /bin/busybox nc -l -p 7001 & sleep 0.3; /bin/busybox nc 127.0.0.1 7001; /bin/busybox nc 127.0.0.1 9 || echo refused")
    assert code == 0 and output == "own\nrefused\n", output
    box.config["linux"]["cgroupsPath"] = own


class Pod:
    """A sandbox's container and those that belong to it, as CRI's implementations annotate them."""

    def __init__(self, sandbox, folder):
        self.sandbox, self.folder, self.boxes = sandbox, folder, []
        sandbox.config["annotations"] = {"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": "pod"}
        self.pid = sandbox.start("sleep", "1000", name="pod")

    def box(self, name, shares=("network", "ipc", "uts"), annotations=None):
        made = Box(f"{self.folder}/{name}")
        made.root = self.sandbox.root
        made.config["annotations"] = annotations or {"io.kubernetes.cri.container-type": "container",
                                                     "io.kubernetes.cri.sandbox-id": "pod"}
        made.config.pop("hostname", None)
        for one in made.config["linux"]["namespaces"]:
            if one["type"] in shares:
                one["path"] = f"/proc/{self.pid}/ns/{ {'network': 'net'}.get(one['type'], one['type']) }"
        made.config["linux"]["cgroupsPath"] = f"{GROUP}/pod-{name}"
        self.boxes.append(made)
        return made

    def sentries(self):
        """Pids of guest kernels of this pod's state folder, by their names on the host."""
        out = []
        for made in [self.sandbox, *self.boxes]:
            for name in made.ids:
                state = json.loads(made.rung("state", name).stdout or "{}")
                if state.get("pid") and "sentry" in text_of(f"/proc/{state['pid']}/cmdline").split("\0"):
                    out.append(state["pid"])
        return out


@pytest.fixture
def pod(box, tmp_path):
    made = Pod(box, str(tmp_path))
    yield made
    for one in made.boxes:
        for name in one.ids:
            one.rung("delete", "--force", name)
        assert one.cgroups() == []


def pids_of(box):
    return {int(pid) for folder in box.cgroups() for pid in text_of(folder + "/cgroup.procs").split()}


def test_containers_of_a_pod_have_one_guest_kernel(pod):
    one, two = pod.box("one"), pod.box("two")
    first = one.start("sh", "-c", "echo one > /tmp/who; exec sleep 1000", name="one")
    second = two.start("sh", "-c", "sleep 1000 & wait", name="two")
    assert pod.sentries() == [pod.pid] and "member" in text_of(f"/proc/{first}/cmdline").split("\0")
    # Each has its own tree, process 1, and name for itself.
    harness.wait_for(lambda: os.path.exists(one.rootfs + "/tmp/who"), "the first's file")
    assert one.done("exec", "one", "cat", "/tmp/who") == "one\n" and two.rung("exec", "two", "cat", "/tmp/who").returncode == 1
    assert two.done("exec", "two", "sh", "-c", "cat /proc/1/cmdline | head -c 2") == "sh"
    listed = one.done("exec", "one", "ps")
    assert "sleep 1000" in listed and "sh -c" not in listed, listed
    # Their programs are processes of their cgroups; the guest kernel is in the sandbox's, with the brokers that answer it.
    assert pod.pid in pids_of(pod.sandbox) and first in pids_of(one) and second in pids_of(two)
    for member in (first, second):
        brokers = {int(pid) for pid in text_of(f"/proc/{member}/task/{member}/children").split()}
        assert len(brokers) == 1 and brokers <= pids_of(pod.sandbox), brokers
    assert len(pids_of(one)) >= 3 and len(pids_of(two)) >= 4 and not pids_of(one) & pids_of(two)
    parents = {int(text_of(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[1]) for pid in pids_of(one)}
    assert pod.pid in parents
    assert {one.state("one")["status"], two.state("two")["status"]} == {"running"}
    # What ends one leaves the other.
    one.done("kill", "one", "KILL")
    harness.wait_for(lambda: one.state("one")["status"] == "stopped", "the end of the first")
    one.done("delete", "one")
    assert one.cgroups() == [] and two.done("exec", "two", "echo", "there") == "there\n"
    assert one.start("sleep", "1000", name="one") and one.done("exec", "one", "echo", "again") == "again\n"


def test_the_end_of_a_program_of_a_pod_is_its_containers(pod):
    one = pod.box("one")
    assert one.once("sh", "-c", "echo out; echo err >&2; exit 7") == (7, "out\n", "err\n")
    assert one.once("sh", "-c", "kill -9 $$; kill -SEGV 1; exit 3")[0] == 3
    assert one.once("sh", "-c", "sleep 1000 & exec false")[0] == 1
    assert one.once("/nothing")[0] != 0 and "no such file" in one.once("/nothing")[2]
    one.write(["sh", "-c", "trap 'exit 9' TERM; echo up > /tmp/up; while :; do sleep 0.05; done"])
    child = subprocess.Popen([RUNG, "--root", one.root, "run", "one"], cwd=one.bundle, stdin=subprocess.DEVNULL)
    one.ids.add("one")
    harness.wait_for(lambda: os.path.exists(one.rootfs + "/tmp/up"), "its trap")
    one.done("kill", "one", "TERM")
    assert child.wait(timeout=LIMIT_S) == 9
    # A crash is nobody else's.
    one.start("sh", "-c", "exec sleep 1000", name="other")
    one.config["linux"]["cgroupsPath"] += "-x"
    assert one.once("sh", "-c", "kill -SEGV $(/bin/busybox sh -c 'kill -SEGV $$' & echo $!); exit 4", name="x")[0] == 4
    one.config["linux"]["cgroupsPath"] = one.config["linux"]["cgroupsPath"][:-2]
    assert one.done("exec", "other", "echo", "there") == "there\n"


MEET_ONE = """
import _multiprocessing, os, socket
os.mkfifo("/volume/fifo")
listener = socket.socket(socket.AF_UNIX)
listener.bind("/volume/socket")
listener.listen()
semaphore = _multiprocessing.SemLock(1, 0, 1, "/walk", False)
peer, _ = listener.accept()
peer.sendall(b"through the socket")
peer.close()
semaphore.acquire(True)
with open("/volume/fifo", "w") as file:
    file.write("through the FIFO")
"""
MEET_TWO = """
import _multiprocessing, socket, struct, time
def until(ask):
    while True:
        try:
            got = ask()
            if got:
                return got
        except OSError:
            pass
        time.sleep(0.02)
def connect():
    client = socket.socket(socket.AF_UNIX)
    client.connect("/again/socket")
    return client
print(until(connect).recv(100).decode())
def someone_waits():
    with open("/dev/shm/sem.walk", "rb") as file:
        return struct.unpack("II", file.read(8))[1]
until(someone_waits)
_multiprocessing.SemLock._rebuild(0, 1, 1, "/walk").release()
with open("/volume/fifo") as file:
    print(file.read())
"""


def test_containers_of_a_pod_meet_in_a_volume(pod):
    libraries = [{"destination": path, "source": path, "type": "bind", "options": ["rbind", "ro"]} for path in ("/usr", "/lib", "/lib64")]
    one, two = pod.box("one"), pod.box("two")
    os.mkdir(pod.folder + "/volume")
    os.mkdir(pod.folder + "/memory")
    for name, box in (("one", one), ("two", two)):
        box.config["mounts"] = [mount for mount in box.config["mounts"] if mount["destination"] != "/dev/shm"] + libraries + [
            {"destination": at, "source": pod.folder + folder, "type": "bind", "options": ["rbind", "rw"]}
            for at, folder in (("/volume", "/volume"), ("/again", "/volume"), ("/dev/shm", "/memory"))]
        box.start("sleep", "1000", name=name)
    one.detached("exec", "-d", "one", "/usr/bin/python3", "-c", MEET_ONE, out=pod.folder + "/said")
    assert two.done("exec", "two", "/usr/bin/python3", "-c", MEET_TWO) == "through the socket\nthrough the FIFO\n", text_of(pod.folder + "/said")
    # What runs in one is written to in none.
    one.done("exec", "one", "cp", "/bin/busybox", "/volume/busybox")
    one.detached("exec", "-d", "one", "/volume/busybox", "sleep", "1000")
    harness.wait_for(lambda: "busybox sleep" in one.done("ps", "one"), "the program")
    for box, name in ((one, "one"), (two, "two")):
        assert "Text file busy" in box.rung("exec", name, "sh", "-c", "echo > /again/busybox").stderr


def test_what_a_pods_containers_share_is_what_their_namespaces_say(pod):
    libraries = [{"destination": path, "source": path, "type": "bind", "options": ["rbind", "ro"]} for path in ("/usr", "/lib", "/lib64")]
    one, two, alone = pod.box("one"), pod.box("two", ("network", "ipc", "uts", "pid")), pod.box("alone", ("network",))
    for each in (one, two, alone):
        each.config["mounts"] += libraries
        for kind in ("bounding", "effective", "permitted"):
            each.config["process"]["capabilities"][kind].append("CAP_SYS_ADMIN")
    one.start("sleep", "1000", name="one")
    two.start("sleep", "1000", name="two")
    alone.start("sleep", "1000", name="alone")
    make = "import ctypes; c = ctypes.CDLL(None); print(c.shmget(0x706f64, 4096, 0o1600) >= 0)"
    look = "import ctypes; c = ctypes.CDLL(None); print(c.shmget(0x706f64, 4096, 0) >= 0)"
    assert one.done("exec", "one", "/usr/bin/python3", "-c", make) == "True\n"
    assert two.done("exec", "two", "/usr/bin/python3", "-c", look) == "True\n"
    assert alone.done("exec", "alone", "/usr/bin/python3", "-c", look) == "False\n"
    name = pod.sandbox.done("exec", "pod", "hostname")
    assert one.done("exec", "one", "hostname") == name
    one.done("exec", "one", "hostname", "renamed")
    assert two.done("exec", "two", "hostname") == "renamed\n" and alone.done("exec", "alone", "hostname") != "renamed\n"
    # The second is in the sandbox's PID namespace: it sees the sandbox's process 1 and can signal it, but not end it.
    assert "sleep" in two.done("exec", "two", "sh", "-c", "cat /proc/1/cmdline") and "1" not in two.done("exec", "two", "sh", "-c", "echo $$").split()
    two.done("exec", "two", "sh", "-c", "kill -0 1 && kill 1 && kill -9 1")
    assert pod.sandbox.state("pod")["status"] == "running" and one.done("exec", "one", "echo", "there") == "there\n"
    links = [box.done("exec", name, "/usr/bin/readlink", *(f"/proc/self/ns/{kind}" for kind in ("pid", "ipc", "uts", "mnt"))).split()
             for box, name in ((one, "one"), (two, "two"), (alone, "alone"))]
    assert links[0][0] != links[1][0] and links[0][1:3] == links[1][1:3] and len({link[3] for link in links}) == 3
    assert links[2][1] != links[0][1] and links[2][2] != links[0][2]
    # One network, with its loopback.
    one.detached("exec", "-d", "one", "sh", "-c", "echo over loopback | /bin/busybox nc -l -p 7100")
    assert alone.done("exec", "alone", "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do /bin/busybox nc 127.0.0.1 7100 </dev/null && exit 0; sleep 0.1; done") == \
        "over loopback\n"


def test_a_pods_container_has_the_processors_of_its_own_cgroup(pod):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor is all there are")
    one, two = pod.box("one"), pod.box("two")
    one.config["linux"]["resources"]["cpu"] = {"cpus": "0"}
    for name, box in (("one", one), ("two", two)):
        box.start("sleep", "1000", name=name)
    look = "/bin/busybox nproc; grep -c ^processor /proc/cpuinfo; grep -c '^cpu[0-9]' /proc/stat; cat /sys/devices/system/cpu/online"
    assert one.done("exec", "one", "sh", "-c", look).split() == ["1", "1", "1", "0"]
    count = str(len(os.sched_getaffinity(0)))
    assert two.done("exec", "two", "sh", "-c", look).split()[:3] == [count] * 3


def test_containers_join_each_others_pids(pod):
    one = pod.box("one")
    pid = one.start("sh", "-c", "sleep 1000 & sleep 1001 & wait", name="one")
    two = pod.box("two")
    for space in two.config["linux"]["namespaces"]:
        if space["type"] == "pid":
            space["path"] = f"/proc/{pid}/ns/pid"
    two.start("sh", "-c", "sleep 2000 & wait", name="two")
    listed = two.done("exec", "two", "ps")
    assert "sleep 1000" in listed and "sleep 2000" in listed, listed
    assert one.done("exec", "one", "sh", "-c", "ls /proc/1/root/bin/busybox") == "/proc/1/root/bin/busybox\n"
    # Who has the namespace's process 1 ends all that is in it; who has not ends its own.
    two.done("exec", "two", "sh", "-c", "kill -9 $(ps | awk '$4 == 1000 { print $1 }')")
    assert "root     sleep 1000" not in one.done("exec", "one", "ps") and one.state("one")["status"] == "running"
    two.done("kill", "two", "KILL")
    harness.wait_for(lambda: two.state("two")["status"] == "stopped", "the end of the second")
    assert "sleep 2000" not in one.done("exec", "one", "ps")
    two.done("delete", "two")
    two.start("sleep", "3000", name="two")
    one.done("kill", "one", "KILL")
    harness.wait_for(lambda: two.state("two")["status"] == "stopped", "the end of the second with the first")


def test_a_pods_containers_are_paused_alone(pod):
    one, two = pod.box("one"), pod.box("two")
    script = "while :; do sleep 0.01; echo x >> /tmp/beats; done"
    one.start("sh", "-c", script, name="one")
    two.start("sh", "-c", script, name="two")
    beats = [each.rootfs + "/tmp/beats" for each in (one, two)]
    harness.wait_for(lambda: all(os.path.exists(path) for path in beats), "both at work")
    one.done("pause", "one")
    assert one.state("one")["status"] == "paused" and two.state("two")["status"] == "running"
    time.sleep(0.1)
    before = [os.path.getsize(path) for path in beats]
    harness.wait_for(lambda: os.path.getsize(beats[1]) > before[1] + 10, "the second to go on")
    assert os.path.getsize(beats[0]) == before[0]
    one.done("resume", "one")
    harness.wait_for(lambda: os.path.getsize(beats[0]) > before[0], "the first to go on")


def test_a_pods_container_stands_still_though_it_blocks_every_signal_of_the_host(pod):
    one = pod.box("one")
    with_python(one)
    one.start("/usr/bin/python3", "-c", masked.program() + COUNTS, name="one")
    stands_still_while_paused(one, "one")
    assert pod.sandbox.done("exec", "pod", "echo", "there") == "there\n"


def process_status(pid):
    return dict(line.split(":\t", 1) for line in text_of(f"/proc/{pid}/status").splitlines() if ":\t" in line)


WITHOUT_PTRACE = ("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace")


def is_open_to_its_like(pid):
    """Whether who has all capabilities but CAP_SYS_PTRACE, and is the same user, may look into the process (ptrace(2))."""
    return subprocess.run([*WITHOUT_PTRACE, "readlink", f"/proc/{pid}/exe"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          check=False).returncode == 0


def test_each_process_of_ours_is_confined(pod):
    one = pod.box("one")
    member = one.start("sleep", "1000", name="one")
    one.detached("exec", "-d", "--pid-file", one.bundle + "/pid", "one", "sleep", "1000")
    keeper = int(text_of(one.bundle + "/pid"))
    with subprocess.Popen([*WITHOUT_PTRACE, "sleep", "1000"]) as own:
        harness.wait_for(lambda: is_open_to_its_like(own.pid), "a look into a process that keeps nobody out")
        own.kill()
    brokers = {"rung-broker", "rung-net"}
    for pid in text_of(f"/proc/{pod.pid}/task/{pod.pid}/children").split():
        if text_of(f"/proc/{pid}/comm").strip() in brokers:
            brokers.remove(text_of(f"/proc/{pid}/comm").strip())
            assert process_status(pid)["Seccomp"] == "2" and not is_open_to_its_like(pid), text_of(f"/proc/{pid}/comm")
    assert not brokers, "they are children of the guest kernel"
    for pid, word in ((pod.pid, "sentry"), (member, "member"), (keeper, "keeper")):
        assert word in text_of(f"/proc/{pid}/cmdline").split("\0")
        status = process_status(pid)
        assert (status["Seccomp"], status["NoNewPrivs"], int(status["CapEff"], 16)) == ("2", "1", 0), (word, status)
        assert not is_open_to_its_like(pid), word


def test_what_members_and_keepers_do_is_what_their_filters_allow(pod):
    """Signals and ends of every kind, and words that are refused."""
    one = pod.box("one")
    assert one.once("sh", "-c", "exit 7")[0] == 7 and one.once("/nothing")[0] == 1
    one.start("sleep", "1000", name="one")
    assert one.rung("exec", "one", "sh", "-c", "kill -9 $$").returncode == 137
    assert one.rung("exec", "one", "sh", "-c", "kill -SEGV $$").returncode == 139
    assert "executable file not found" in one.rung("exec", "one", "nothing").stderr
    running = subprocess.Popen([RUNG, "--root", one.root, "exec", "--pid-file", one.bundle + "/pid", "one", "sleep", "1000"], cwd=one.bundle,
                               stdin=subprocess.DEVNULL)
    harness.wait_for(lambda: os.path.exists(one.bundle + "/pid") and "sleep 1000\n" * 2 in one.done("exec", "one", "ps", "-o", "args"), "its program")
    os.kill(int(text_of(one.bundle + "/pid")), signal.SIGTERM)
    assert running.wait(timeout=LIMIT_S) == 143


def test_a_pods_containers_are_limited_alone(pod):
    one, two = pod.box("one"), pod.box("two")
    one.config["linux"]["resources"]["pids"] = {"limit": 8}
    one.config["linux"]["resources"]["memory"] = {"limit": 64 << 20}
    one.start("sleep", "1000", name="one")
    two.start("sleep", "1000", name="two")
    many = "i=0; while [ $i -lt 20 ]; do sleep 5 & i=$((i+1)); done; echo all"
    assert "all" not in one.rung("exec", "one", "sh", "-c", many).stdout and two.done("exec", "two", "sh", "-c", many) == "all\n"
    assert int(one.done("exec", "one", "awk", "/MemTotal/ { print $2 }", "/proc/meminfo")) == 64 << 10
    assert int(two.done("exec", "two", "awk", "/MemTotal/ { print $2 }", "/proc/meminfo")) > 64 << 10
    eaten = one.rung("exec", "one", "sh", "-c", "head -c 200000000 /dev/zero | /bin/busybox tail -c 150000000 | wc -c")
    assert eaten.stdout != "150000000\n"
    assert two.done("exec", "two", "echo", "there") == "there\n"
    stats = json.loads(one.done("events", "--stats", "one"))
    assert stats["data"]["memory"]["usage"]["limit"] == 64 << 20 and stats["data"]["pids"]["current"] > 0


def test_a_pods_container_on_a_terminal(pod):
    one = pod.box("one")
    one.config["process"]["terminal"] = True
    path = pod.folder + "/console"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(1)
        one.write(["sh", "-c", "tty; stty size; read line; echo got $line; sleep 1000"])
        one.ids.add("one")
        one.detached("create", "--console-socket", path, "one")
        peer, _ = server.accept()
        with peer:
            _, descriptors, _, _ = socket.recv_fds(peer, 100, 1)
    master = descriptors[0]
    one.done("start", "one")
    harness.wait_for(lambda: select.select([master], [], [], 0)[0], "its first words")
    os.write(master, b"word\n")
    seen = b""
    while b"got word" not in seen:
        assert select.select([master], [], [], LIMIT_S)[0], seen
        seen += os.read(master, 4096)
    assert b"/dev/pts/" in seen or b"/dev/console" in seen
    os.close(master)


def test_the_end_of_the_sandbox_is_its_containers(pod):
    one, two = pod.box("one"), pod.box("two")
    one.start("sleep", "1000", name="one")
    two.write(["sleep", "1000"])
    two.ids.add("two")
    two.detached("create", "two")
    pod.sandbox.done("kill", "pod", "KILL")
    for each, name in ((pod.sandbox, "pod"), (one, "one"), (two, "two")):
        harness.wait_for(lambda each=each, name=name: each.state(name)["status"] == "stopped", f"the end of {name}")
    assert one.rung("exec", "one", "true").returncode != 0
    for each, name in ((one, "one"), (two, "two"), (pod.sandbox, "pod")):
        each.done("delete", name)
        assert each.cgroups() == []


def test_message_queues_are_shared_with_the_ipc_namespace(pod):
    one, two, apart = pod.box("one"), pod.box("two"), pod.box("apart", ("network", "uts"))
    for each, name in ((one, "one"), (two, "two"), (apart, "apart")):
        each.start("sleep", "1000", name=name)
    one.done("exec", "one", "touch", "/dev/mqueue/q")
    assert two.done("exec", "two", "ls", "/dev/mqueue") == "q\n" and apart.done("exec", "apart", "ls", "/dev/mqueue") == ""


def test_who_is_no_member_has_a_guest_kernel_of_its_own(pod):
    strange = pod.box("strange", annotations={"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "nobody"})
    pid = strange.start("sleep", "1000", name="strange")
    assert sorted(pod.sentries()) == sorted([pod.pid, pid])
    # Another network is another guest kernel's.
    apart = pod.box("apart", ("ipc", "uts"))
    pid = apart.start("sleep", "1000", name="apart")
    assert pid in pod.sentries()
    crio = pod.box("crio", annotations={"io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.SandboxID": "pod"})
    assert crio.start("sleep", "1000", name="crio") not in pod.sentries()


def test_members_that_are_killed_in_the_middle_leave_nothing(pod):
    one = pod.box("one")
    one.write(("sleep", "1000"))
    for at in range(8):
        child = subprocess.Popen([RUNG, "--root", one.root, "run", f"c{at}"], cwd=one.bundle, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.004 * at)
        child.kill()
        child.wait()
        one.rung("delete", "--force", f"c{at}")
    # Of one that was killed before it was on record the first process may live a moment longer, in the cgroup that all of them have.
    harness.wait_for(lambda: not pids_of(one), "the last one's processes to end")
    assert one.once("echo", "whole") == (0, "whole\n", "")
    assert one.cgroups() == []
    # No process of the sandbox's is left of them but its own.
    harness.wait_for(lambda: len(text_of(f"/proc/{pod.pid}/task/{pod.pid}/children").split()) <= 4, "the sandbox to forget them")
