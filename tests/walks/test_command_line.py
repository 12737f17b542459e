"""`fluyt` as people use it who come from docker: names, exit codes, wrong words, terminals."""

import json
import os
import pty
import re
import select
import subprocess
import time

import harness
import pytest


@pytest.fixture
def pulled(engine, busybox):
    engine.fluyt("pull", "-q", busybox)
    return busybox


def test_of_two_runs_of_one_name_one_wins(engine, pulled):
    for _ in range(4):
        command = [harness.BIN + "/fluyt", "--socket", engine.socket, "run", "-d", "--name", "one", pulled, "sleep", "1000"]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        said = [(process.communicate(timeout=60), process.returncode) for process in both]
        assert sorted(code for _, code in said) == [0, 125], said
        won = next(out.strip() for (out, _), code in said if code == 0)
        lost = next(err for (_, err), code in said if code != 0)
        assert '--name: "one" is taken' in lost
        assert json.loads(engine.fluyt("inspect", "one").stdout)["status"]["id"] == won
        assert json.loads(engine.fluyt("inspect", "one").stdout)["status"]["state"] == "CONTAINER_RUNNING"
        engine.fluyt("rm", "-f", "one")


def tags(engine):
    return {tag for image in json.loads(engine.fluyt("images", "--format", "json").stdout) for tag in image["repoTags"]}


def test_rmi_takes_the_names_that_are_meant(engine, pulled):
    image = json.loads(engine.fluyt("inspect", "--type", "image", pulled).stdout)
    start = image["id"].removeprefix("sha256:")[:12]
    for name in ("app:1", start[:2], f"{start}:keep"):
        engine.fluyt("tag", pulled, name)
    assert engine.fluyt("rmi", start[:2]).stdout == f"untagged docker.io/library/{start[:2]}:latest\n"
    assert engine.fluyt("rmi", f"{start}:keep").stdout == f"untagged docker.io/library/{start}:keep\n"
    digest = next(name for name in image["repoDigests"] if "walk/busybox" in name)
    assert engine.fluyt("rmi", digest).stdout == f"untagged {pulled}\n"
    assert "docker.io/library/app:1" in tags(engine) and pulled not in tags(engine)
    assert engine.fluyt("rmi", start).stdout == f"removed {image['id']}\n"


def test_exit_codes_say_what_was_wrong(engine, pulled):
    def code(*words):
        done = engine.fluyt("run", "--rm", "--network", "host", *words, check=False)
        return done.returncode, done.stderr

    assert code(pulled, "sh", "-c", "exit 7") == (7, "")
    for program in ("nosuch", "/bin/nosuch"):
        status, said = code(pulled, program)
        assert status == 127 and program in said, said
    status, said = code(pulled, "/etc")
    assert status == 126, said
    assert code("-v", "relative", pulled, "true")[0] == 125
    engine.fluyt("run", "-d", "--network", "host", "--name", "execs", pulled, "sleep", "1000")
    for program, expected in (("nosuch", 127), ("/bin/nosuch", 127), ("/etc", 126)):
        done = engine.fluyt("exec", "execs", program, check=False)
        assert done.returncode == expected and program in done.stderr, done
    assert engine.fluyt("exec", "nosuch", "true", check=False).returncode == 125
    engine.fluyt("rm", "-f", "execs")


def test_of_several_names_each_is_told(engine, pulled):
    engine.fluyt("run", "-d", "--network", "host", "--name", "there", pulled, "sleep", "1000")
    done = engine.fluyt("rm", "none1", "there", "none2", check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 3 and all(name in done.stderr for name in ("none1", "there", "none2"))
    done = engine.fluyt("inspect", "there", "none1", check=False)
    assert done.returncode == 1 and "none1" in done.stderr and len(json.loads(done.stdout)) == 1
    done = engine.fluyt("rmi", "none1", "none2", check=False)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 2
    done = engine.fluyt("rm", "-f", "none1", "there", check=False)
    assert done.returncode == 1 and done.stdout == "there\n"


def test_wrong_words_are_answered(engine):
    for words, expected in ((("imges",), "did you mean fluyt images?"), (("image", "ls"), "fluyt images"),
                            (("create", "x"), "fluyt run -d"), (("run", "-p", "80:80", "-p", "80:81", "x"), "host port 80 is given twice"),
                            (("image", "verify"), "name images, or give --all")):
        done = engine.fluyt(*words, check=False)
        assert done.returncode in (2, 125) and expected in done.stderr, done
    done = subprocess.run([harness.BIN + "/fluyt", "run", "x", b"\xff"], stderr=subprocess.PIPE, check=False, timeout=20)
    assert (done.returncode, done.stderr) == (125, b'fluyt: argument "\\xff": expected UTF-8\n')
    assert engine.fluyt("help", "run").stdout == engine.fluyt("run", "--help").stdout
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run([harness.BIN + "/fluyt", "help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=20)
    assert (done.returncode, done.stderr) == (1, "fluyt: standard output: No space left on device\n")
    # The address as crictl and fluytd have it.
    for address in ("unix://" + engine.socket, "unix:" + engine.socket):
        done = subprocess.run([harness.BIN + "/fluyt", "version"], env={**os.environ, "FLUYT_SOCKET": address}, check=False, timeout=20,
                              stdout=subprocess.PIPE)
        assert done.returncode == 0


class Terminal:
    """`fluyt WORDS` on a terminal of its own."""

    def __init__(self, engine, *words):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen([harness.BIN + "/fluyt", "--socket", engine.socket, *words], stdin=slave, stdout=slave, stderr=slave,
                                        start_new_session=True)
        os.close(slave)
        self.said = ""

    def type(self, keys):
        os.write(self.master, keys)

    def until(self, pattern, seconds=30):
        end = time.monotonic() + seconds
        while not re.search(pattern, self.said):
            assert time.monotonic() < end, self.said
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.said += os.read(self.master, 65536).decode(errors="replace")
                except OSError:  # everybody has closed it
                    assert re.search(pattern, self.said), self.said
                    return

    def end(self):
        code = self.process.wait(timeout=30)
        os.close(self.master)
        return code


def test_a_terminal_is_left_and_found_again(engine, pulled):
    first = Terminal(engine, "run", "--rm", "-it", "--network", "host", "--name", "shell", pulled, "sh")
    first.type(b"echo on''e\n")
    first.until(r"\none\r")
    first.type(b"\x10")  # the first of the two keys alone is a key like another: sh's last line
    first.type(b"\x15echo tw''o\n")
    first.until(r"\ntwo\r")
    first.type(b"\x10\x11")
    first.until("shell goes on; fluyt attach shell comes back, fluyt rm removes it")
    assert first.end() == 0
    assert json.loads(engine.fluyt("inspect", "shell").stdout)["status"]["state"] == "CONTAINER_RUNNING"
    second = Terminal(engine, "attach", "--detach-keys", "ctrl-]", "shell")
    second.type(b"echo thre''e\n")
    second.until(r"\nthree\r")
    second.type(b"\x1d")
    assert second.end() == 0
    third = Terminal(engine, "attach", "shell")
    third.type(b"exit 3\n")
    assert third.end() == 3
    engine.fluyt("rm", "shell")
    done = engine.fluyt("attach", "--detach-keys", "alt-x", "shell", check=False)
    assert done.returncode == 2 and '--detach-keys: "alt-x": expected' in done.stderr


def test_the_end_of_fluytd_is_told_in_words(busybox):
    engine = harness.Engine(network=None)
    engine.start()
    try:
        engine.fluyt("pull", "-q", busybox)
        engine.fluyt("run", "-d", "--network", "host", "--name", "talks", busybox, "sh", "-c", "while :; do date; sleep 0.1; done")
        logs = subprocess.Popen([harness.BIN + "/fluyt", "--socket", engine.socket, "logs", "-f", "talks"], stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True)
        execs = subprocess.Popen([harness.BIN + "/fluyt", "--socket", engine.socket, "exec", "talks", "sleep", "1000"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(1)
        engine.stop()
        for client in (logs, execs):
            _, said = client.communicate(timeout=30)
            assert re.search("fluytd (is stopping|went away)", said), said
        engine.start()
    finally:
        engine.close()
