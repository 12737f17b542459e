"""The guest kernel end to end: real programs, unmodified, under `rung do`. Every run has a deadline."""

import collections
import contextlib
import json
import os
import pty
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import time

import harness
import masked
import pytest

RUNG = os.path.join(harness.BIN, "rung")
LIMIT_S = 240  # a machine with thirty runnable tasks is slow at hand-offs


def rung(*words, options=(), **more):
    return subprocess.run([RUNG, "do", *options, "--", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=LIMIT_S, check=False, stdin=subprocess.DEVNULL, **more)


def missing():
    """Why the host cannot run guests, as rung itself says it."""
    done = subprocess.run([RUNG, "do", "--", "/bin/true"], stderr=subprocess.PIPE, text=True, timeout=LIMIT_S, check=False)
    return done.stderr.strip() if done.returncode == 125 and "expected 5.19" in done.stderr else ""


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


def out(*words, options=(), code=0):
    done = rung(*words, options=options)
    assert done.returncode == code, done
    assert done.stderr == "", done
    return done.stdout


@pytest.fixture
def root(tmp_path):
    """A root folder with nothing in it but a static busybox."""
    for name in ("bin", "proc", "dev", "tmp", "etc"):
        os.makedirs(tmp_path / "root" / name)
    shutil.copy("/bin/busybox", tmp_path / "root/bin/busybox")
    for name in ("sh", "cat", "ls", "sleep", "mkdir", "rm", "mv", "ln", "wc", "sort", "kill", "true", "false", "ps"):
        os.symlink("busybox", tmp_path / "root/bin" / name)
    return str(tmp_path / "root")


def test_exit_codes_and_signals_come_back(root):
    options = ("--root", root)
    assert rung("/bin/sh", "-c", "exit 7", options=options).returncode == 7
    assert rung("/bin/false", options=options).returncode == 1
    assert rung("/bin/sh", "-c", "sh -c 'kill -9 $$'; exit $?", options=options).returncode == 137
    done = rung("/bin/nothing", options=options)
    assert done.returncode == 125 and "\"/bin/nothing\": no such file or directory" in done.stderr


def test_a_bad_command_line_names_what_was_expected():
    for words, expected in ((("do",), "expected its path"), (("do", "--root"), "expected a value"), (("do", "--nope", "x"), "no such option"),
                            (("do", "--env", "X", "--", "/bin/true"), "expected NAME=VALUE"),
                            (("do", "--pids", "0", "x"), "expected 1 to 30000")):
        done = subprocess.run([RUNG, *words], stderr=subprocess.PIPE, text=True, timeout=LIMIT_S, check=False)
        assert done.returncode == 125 and expected in done.stderr, done


def test_busybox_shell_scripts(root):
    script = """
      set -e
      mkdir /d && cd /d
      i=0; while [ $i -lt 20 ]; do echo "line $i" > f$i; i=$((i+1)); done
      ls | wc -l; cat f* | sort -r | wc -c
      mv f1 g1; ln -s g1 l; cat l; rm f2; [ ! -e f2 ] && echo gone
      (cd /; pwd); echo $(echo nested $(echo deeper))
      trap 'echo caught' USR1; kill -USR1 $$
      false || echo failed as it should
      cat <<X | sort
b
a
X
      sleep 100 & kill $!; wait $! 2>/dev/null || echo $?
    """
    assert out("/bin/sh", "-c", script, options=("--root", root)).split("\n") == [
        "20", "150", "line 1", "gone", "/", "nested deeper", "caught", "failed as it should", "a", "b", "143", ""]
    assert os.path.exists(os.path.join(root, "d/g1")) and not os.path.exists(os.path.join(root, "d/f2"))


JOBS = r"""
import os, pty, select, sys, time
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])

seen = ""

def until(words):
    global seen
    end = time.monotonic() + 60
    while words not in seen:
        assert time.monotonic() < end, (words, seen)
        if select.select([fd], [], [], 0.1)[0]:
            seen += os.read(fd, 4096).decode(errors="replace")
    seen = seen[seen.index(words) + len(words):]

until("# ")
for typed, expected in (("PS1='$ '\n", "$ "), ("sleep 100\n", "sleep 100"), ("\x1a", "topped"), ("bg\n", "sleep 100"), ("fg\n", "sleep 100"),
                        ("\x03", "$ "), ("echo st $?\n", "st 130"), ("echo ready; cat\n", "ready\r\n"), ("abc\n", "abc\r\nabc"), ("\x04", "$ "),
                        ("tty\n", "/dev/pts/"), ("(sleep 0.2; cat) & sleep 1; jobs\n", "topped"), ("kill -9 %1; wait; echo do''ne\n", "done\r\n")):
    if typed in ("\x1a", "\x03", "\x04"):
        time.sleep(0.5)  # the program is to be in the foreground
    os.write(fd, typed.encode())
    until(expected)
until("$ ")  # what is typed before a shell edits its line may be lost
os.write(fd, b"exit 7\nexit 7\n")  # the first may be answered by: you have stopped jobs
while True:
    try:
        if not os.read(fd, 4096):
            break
    except OSError:
        break
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), os.listdir("/dev/pts"))
"""


@pytest.mark.parametrize("shell", [["/bin/bash", "--norc", "-i"], ["/bin/dash", "-i"]])
def test_shells_have_jobs_on_a_terminal_of_the_guests_own(shell):
    assert out("/usr/bin/python3", "-u", "-c", JOBS, *shell).split("\n")[-2] == "7 ['ptmx', '0']"


def test_ash_job_control_on_a_terminal(root):
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(RUNG, [RUNG, "do", "--root", root, "--", "/bin/sh", "-i"])
    seen = ""

    def until(words):
        nonlocal seen
        end = time.monotonic() + LIMIT_S
        while words not in seen:
            assert time.monotonic() < end, seen
            if select.select([fd], [], [], 0.1)[0]:
                seen += os.read(fd, 4096).decode(errors="replace")
        seen = seen[seen.index(words) + len(words):]

    until("/ # ")
    for typed, expected in (("sleep 100\n", "sleep 100"), ("\x1a", "Stopped"), ("jobs\n", "Stopped"), ("bg\n", "[1] sleep 100"),
                            ("fg\n", "sleep 100\r\n"), ("\x03", "/ # "), ("echo st $?\n", "st 130")):
        if typed == "\x1a":
            time.sleep(0.5)  # the program is to be in the foreground
        os.write(fd, typed.encode())
        until(expected)
        if typed == "fg\n":
            time.sleep(0.5)
    os.write(fd, b"exit 9\n")
    end = time.monotonic() + LIMIT_S
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        assert time.monotonic() < end
        if select.select([fd], [], [], 0.05)[0]:
            try:
                os.read(fd, 4096)
            except OSError:
                time.sleep(0.05)
    assert os.waitstatus_to_exitcode(status) == 9
    os.close(fd)


STREAMS = """echo one; echo two > /dev/stdout; echo three; echo four >> /dev/stdout; cat /dev/stdin; echo five > /proc/self/fd/1
echo six > /dev/stderr; echo seven > /dev/fd/2; stat -L -c %F /dev/stdin; test -p /dev/stdout && echo piped; exec 3<> /dev/stdout; echo eight >&3"""


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_standard_streams_of_the_hosts_are_opened_again(kind, tmp_path):
    said = []
    for name, words in (("native", ["/bin/sh", "-c", STREAMS]), ("inside", [RUNG, "do", "--", "/bin/sh", "-c", STREAMS])):
        if kind == "pipe":
            done = subprocess.run(words, input="in\n", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=LIMIT_S, check=True)
            said.append((done.stdout, done.stderr))
            continue
        files = [str(tmp_path / f"{name}-{which}") for which in ("in", "out", "err")]
        with open(files[0], "w", encoding="ascii") as file:
            file.write("in\n")
        with open(files[0], encoding="ascii") as given, open(files[1], "w", encoding="ascii") as out_file, open(files[2], "w", encoding="ascii") as error:
            subprocess.run(words, stdin=given, stdout=out_file, stderr=error, timeout=LIMIT_S, check=True)
        texts = []
        for path in files[1:]:
            with open(path, encoding="ascii") as file:
                texts.append(file.read())
        said.append(tuple(texts))
    assert said[0] == said[1] and ("in\n" in said[0][0] or kind == "file") and "seven\n" in said[0][1], said


def test_readers_of_one_pipe_of_the_hosts_end_when_they_are_killed():
    """A byte for three who wait: one has it, and the others hear of what ends them."""
    script = ("exec 3<&0; all=; for i in 1 2 3; do cat <&3 > /dev/null & all=\"$all $!\"; done; echo up; sleep 1;"
              " kill -9 $all; wait; echo ended")
    held, end = os.pipe()
    with subprocess.Popen([RUNG, "do", "--", "/bin/sh", "-c", script], stdin=held, stdout=subprocess.PIPE, text=True) as guest:
        os.close(held)
        assert guest.stdout.readline() == "up\n"
        while not select.select([guest.stdout], [], [], 0.001)[0] and guest.poll() is None and os.write(end, b"x") == 1:
            pass
        assert guest.stdout.readline() == "ended\n"
        os.close(end)
        assert guest.wait(LIMIT_S) == 0


def test_bash_and_coreutils():
    script = """
      shopt -s extglob; a=(1 2 3); echo ${#a[@]} ${a[@]/2/x} $BASHPID
      cd /tmp; mkdir a; echo x > a/f; cp -r a b; tar cf t.tar a b; rm -rf a; tar xf t.tar; cat a/f
      find . -type f | sort | tr '\\n' ' '; seq 1 100 | paste -sd+ | bc 2>/dev/null || seq 1 100 | awk '{s+=$1} END {print s}'
      printf '%s\\n' b a c | sort | head -1; stat -c %s,%a a/f; chmod 600 a/f; stat -c %a a/f; du -s --apparent-size a | cut -f2
      diff <(echo 1) <(echo 2) > /dev/null; echo diff $?
      for i in $(seq 30); do (exit $i) & done; wait; echo waited
    """
    assert out("/bin/bash", "-c", script).split("\n") == [
        "3 1 x 3 1", "x", "./a/f ./b/f ./t.tar 5050", "a", "2,644", "600", "a", "diff 1", "waited", ""]


def test_there_are_no_protection_keys():
    code = ("import ctypes, errno; c = ctypes.CDLL(None, use_errno=True)\n"
            "def call(*words): ctypes.set_errno(0); c.syscall(*words); return errno.errorcode.get(ctypes.get_errno(), 'none')\n"
            "print(call(330, 0, 0), call(330, 1, 0), call(331, 1), call(329, 0, 0, 1, 1), call(329, 0, 0, 1, -1))")
    assert out("/usr/bin/python3", "-c", code) == "ENOSPC EINVAL EINVAL EINVAL none\n"


def test_perl_sqlite_dpkg():
    assert out("/usr/bin/perl", "-e", "if (my $p = fork) { waitpid $p, 0; print $? >> 8 } else { exit 3 } print ' ', `echo piped`;") == "3 piped\n"
    if os.path.exists("/usr/bin/sqlite3"):
        assert out("/usr/bin/sqlite3", "/tmp/x.db", "create table t(a); insert into t values(1),(2); select sum(a) from t;") == "3\n"
    assert re.search(r"^ii +bash ", out("/usr/bin/dpkg", "-l", "bash"), re.M)


def test_python_threads_processes_and_signals():
    program = """
import mmap, os, signal, subprocess, threading, time
seen = []
threads = [threading.Thread(target=lambda i=i: seen.append(i)) for i in range(20)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sorted(seen) == list(range(20)))
print(subprocess.check_output("echo $((1+2))", shell=True))
signal.signal(signal.SIGALRM, lambda *a: print("alarm")); signal.setitimer(signal.ITIMER_REAL, 0.05); signal.pause()
shared = mmap.mmap(-1, 8192); shared[0] = 65
pid = os.fork()
if pid == 0:
    shared[1] = 66; os._exit(5)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shared[:2])
r, w = os.pipe()
t = threading.Timer(0.05, lambda: os.write(w, b"late")); t.start(); print(os.read(r, 10))
"""
    assert out("/usr/bin/python3", "-c", program) == "True\nb'3\\n'\nalarm\n5 b'AB'\nb'late'\n"


def test_proc_shows_the_guest_alone():
    assert out("/bin/sh", "-c", "echo $$; echo /proc/[0-9]*; cat /proc/self/comm; readlink /proc/self/exe").split() == [
        "1", "/proc/1", "cat", "/usr/bin/readlink"]
    maps = out("/bin/cat", "/proc/self/maps")
    assert "[stack]" in maps and "[heap]" in maps and "7fff0000" not in maps
    for line in maps.splitlines():
        assert re.match(r"[0-9a-f]+-[0-9a-f]+ [r-][w-][x-][ps] [0-9a-f]{8} [0-9a-f:]+ \d+ ", line), line


def test_no_procfs_of_the_host_lies_under_the_guests(tmp_path):
    """A bind of the root shows what the guest's own mounts cover: there the host's /proc has the memory of the guest kernel."""
    script = """
      mount --bind / /mnt && ls /mnt/etc >/dev/null || echo no bind
      for place in proc proc/self proc/1/status proc/1/mem proc/version; do
        cat /mnt/$place >/dev/null 2>&1 && echo "read $place"
        ls /mnt/$place/ >/dev/null 2>&1 && echo "listed $place"
        echo x 2>/dev/null >>/mnt/$place && echo "wrote $place"
      done
      cat /proc/1/comm
    """
    assert out("/bin/sh", "-c", script) == "sh\n"


KILLED = """
import os, signal, time
counts = mmap.mmap(-1, 4096)  # shared
first = os.fork()
if first == 0:
    os.setpgid(0, 0)
    compute(counts, PROCESSES)
while not all(struct.unpack_from(f"<{PROCESSES}Q", counts)):
    time.sleep(0.01)
os.killpg(first, signal.SIGKILL)
print(*[os.WTERMSIG(os.wait()[1]) for _ in range(PROCESSES)])
"""


def test_a_thread_that_blocks_every_signal_of_the_host_ends_when_it_is_killed():
    assert out("/usr/bin/python3", "-c", masked.program() + KILLED.replace("PROCESSES", "1")) == "9\n"


def test_two_processes_in_one_memory_that_block_every_signal_of_the_host_end_when_both_are_killed():
    """A memory that another process is in too is left alone, unless that is to end as well."""
    assert out("/usr/bin/python3", "-c", masked.program() + KILLED.replace("PROCESSES", "2")) == "9 9\n"


def test_the_host_root_is_read_only_by_default(tmp_path):
    victim = tmp_path / "file"
    victim.write_text("kept")
    done = rung("/bin/sh", "-c", f"echo gone > {victim}; rm -f {victim}; mkdir {tmp_path}/d; chmod 777 {victim}")
    assert "Read-only file system" in done.stderr or str(tmp_path).startswith("/tmp/"), done
    assert victim.read_text() == "kept" and os.listdir(tmp_path) == ["file"]


def test_links_lead_nowhere_out_of_the_root(root, tmp_path):
    (tmp_path / "secret").write_text("secret")
    os.symlink("../secret", os.path.join(root, "up"))
    os.symlink(str(tmp_path / "secret"), os.path.join(root, "abs"))
    os.symlink("/proc/1/root" + str(tmp_path / "secret"), os.path.join(root, "magic"))
    done = rung("/bin/sh", "-c", "cat /up /abs /magic /../secret ../../../../secret", options=("--root", root))
    assert done.returncode == 1 and "secret" not in done.stdout


def test_a_program_that_forks_without_end_meets_a_limit(root):
    done = rung("/bin/sh", "-c", "f() { f & f & wait; }; (f) 2>/dev/null & sleep 2; kill -9 -1; echo alive",
                options=("--root", root, "--pids", "64"))
    assert done.returncode == 0 and done.stdout == "alive\n", done


LOOPBACK = """
import select, socket, threading
server = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
port = server.getsockname()[1]
def serve():
    for _ in range(2):
        peer, _ = server.accept()
        with peer:
            while data := peer.recv(65536):
                peer.sendall(data)
thread = threading.Thread(target=serve)
thread.start()
for host in ("127.0.0.1", "::1"):
    with socket.create_connection((host, port)) as client:
        sent = bytes(range(256)) * 4000
        writer = threading.Thread(target=lambda: (client.sendall(sent), client.shutdown(socket.SHUT_WR)))
        writer.start()
        got = b""
        while data := client.recv(65536):
            got += data
        writer.join()
        print(host, got == sent)
thread.join()
left, right = socket.socketpair()
socket.send_fds(left, [b"take"], [server.fileno()])
_, fds, _, _ = socket.recv_fds(right, 10, 1)
print(socket.socket(fileno=fds[0]).getsockname()[1] == port)
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
except OSError as error:
    print(error.strerror)
print(socket.if_nameindex())
"""


def test_sockets_on_loopback(tmp_path):
    assert out("/usr/bin/python3", "-c", LOOPBACK) == "127.0.0.1 True\n::1 True\nTrue\nNetwork is unreachable\n[(1, 'lo')]\n"


OUTWARD = """
import socket, sys
host, port, own = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with socket.create_connection((host, port), timeout=30) as client:
    client.sendall(b"ping")
    print(client.recv(100))
try:
    socket.create_connection(("127.0.0.1", port), timeout=5)
except OSError as error:
    print(error.strerror)
udp = socket.socket(type=socket.SOCK_DGRAM)
udp.settimeout(30)
udp.sendto(b"datagram", (host, port))
print(udp.recvfrom(100)[0])
server = socket.create_server(("0.0.0.0", own))
print("listens", flush=True)
peer, _ = server.accept()
print(peer.recv(100))
peer.sendall(b"welcome")
"""


def address_beyond_loopback():
    """Of the host's own, by which its servers are reached without loopback."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.200", 9))
        except OSError:
            pytest.skip("the host has no route but loopback")
        return probe.getsockname()[0]


def test_a_network_beyond_loopback_through_the_broker():
    host = address_beyond_loopback()
    with socket.create_server((host, 0)) as server, socket.socket(type=socket.SOCK_DGRAM) as udp, socket.create_server((host, 0)) as other:
        port, own = server.getsockname()[1], other.getsockname()[1]
        udp.bind((host, port))
        other.close()
        guest = subprocess.Popen([RUNG, "do", "--network", "host", "--", "/usr/bin/python3", "-c", OUTWARD, host, str(port), str(own)],
                                 stdout=subprocess.PIPE, text=True)
        try:
            for one in (server, udp):
                one.settimeout(60)
            peer, _ = server.accept()
            with peer:
                peer.sendall(peer.recv(100) + b" pong")
                data, sender = udp.recvfrom(100)
                udp.sendto(data + b" back", sender)
                lines = [guest.stdout.readline() for _ in range(4)]
                assert lines == ["b'ping pong'\n", "Connection refused\n", "b'datagram back'\n", "listens\n"]
            with socket.create_connection((host, own), timeout=60) as client:
                client.sendall(b"from outside")
                assert client.recv(100) == b"welcome"
            assert guest.stdout.read() == "b'from outside'\n" and guest.wait(60) == 0
        finally:
            guest.kill()
            guest.wait()


TUNED = """
import socket, struct, sys
host, port, own = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
listener = socket.create_server((host, own), backlog=7)
client = socket.socket()
client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 50000)
client.connect((host, port))
client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 60000)
client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
print("there", flush=True)
sys.stdin.readline()
client.close()
print("closed", flush=True)
sys.stdin.readline()
"""


def test_what_is_set_for_a_socket_is_so_on_the_host():
    if shutil.which("ss") is None:
        pytest.skip("ss is not installed")
    host = address_beyond_loopback()
    with socket.create_server((host, 0)) as server, socket.create_server((host, 0)) as other:
        port, own = server.getsockname()[1], other.getsockname()[1]
        other.close()
        server.settimeout(60)
        guest = subprocess.Popen([RUNG, "do", "--network", "host", "--", "/usr/bin/python3", "-c", TUNED, host, str(port), str(own)],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            peer, _ = server.accept()
            assert guest.stdout.readline() == "there\n"
            listening = subprocess.run(["ss", "-Hltn", f"sport = :{own}"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
            assert listening[:3] == ["LISTEN", "0", "7"], listening
            tuned = subprocess.run(["ss", "-Htnom", f"dport = :{port}"], stdout=subprocess.PIPE, text=True, check=True).stdout
            assert "timer:(keepalive" in tuned and "rb100000" in tuned and "tb120000" in tuned, tuned
            guest.stdin.write("\n")
            guest.stdin.flush()
            assert guest.stdout.readline() == "closed\n"
            peer.settimeout(60)
            with peer, pytest.raises(ConnectionResetError):
                peer.recv(1)
        finally:
            guest.kill()
            guest.wait()


GROUPS = """
import select, socket, struct, sys
host, own = sys.argv[1], sys.argv[2]
group = socket.inet_aton("239.1.2.3")
udp = socket.socket(type=socket.SOCK_DGRAM)
udp.settimeout(30)
udp.bind(("0.0.0.0", 7000))
udp.setsockopt(socket.IPPROTO_IP, 12, 1)
udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + socket.inet_aton(own))
udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 3)
print("joined", flush=True)
data, control, _, sender = udp.recvmsg(100, 100)
print(data, sender[0], [(kind, struct.unpack("i", value)[0]) for _, kind, value in control], flush=True)
udp.sendto(b"from inside", ("239.1.2.4", 7001))
udp.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, group + socket.inet_aton(own))
print("left", flush=True)
udp.settimeout(1)
try:
    print(udp.recv(100))
except TimeoutError:
    print("nothing more")
udp.sendmsg([b"hops"], [(socket.IPPROTO_IP, socket.IP_TTL, struct.pack("i", 9))], 0, (host, 7001))
try:
    udp.sendmsg([b"martian"], [(socket.IPPROTO_IP, 8, struct.pack("=i4s4x", 0, socket.inet_aton("127.0.0.1")))], 0, (host, 7001))
except OSError as error:
    print(error.strerror)
echo = socket.socket(type=socket.SOCK_DGRAM, proto=socket.IPPROTO_ICMP)
echo.settimeout(30)
for target in (host, "127.0.0.1"):
    echo.sendto(b"\\x08\\0\\0\\0\\0\\0\\0\\x07payload", (target, 0))
    data, sender = echo.recvfrom(100)
    whole = data + b"\\0"
    total = sum(struct.unpack("!%dH" % (len(whole) // 2), whole[:len(whole) // 2 * 2]))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    print(sender[0] == target, data[:2], data[6:], struct.unpack("!H", data[4:6])[0] == echo.getsockname()[1], total == 0xffff)
"""


@pytest.fixture
def neighbour():
    """A network namespace with a cable to ours, where all may send echo requests: its name, and both ends' addresses."""
    if os.geteuid() != 0:
        pytest.skip("needs root: makes a network namespace")
    name, ours, theirs = f"fluyt-net-{os.getpid()}", f"fnh{os.getpid()}", f"fng{os.getpid()}"
    steps = [f"netns add {name}", f"link add {ours} type veth peer name {theirs} netns {name}", f"addr add 198.18.79.1/30 dev {ours}",
             f"link set {ours} up", f"-n {name} link set lo up", f"-n {name} addr add 198.18.79.2/30 dev {theirs}", f"-n {name} link set {theirs} up",
             f"netns exec {name} sh -c"]
    try:
        for step in steps[:-1]:
            subprocess.run(["ip", *step.split()], check=True, timeout=30)
        subprocess.run(["ip", *steps[-1].split(), "echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range"], check=True, timeout=30)
        yield name, "198.18.79.1", "198.18.79.2"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, timeout=30)


def test_groups_and_echo_requests_beyond_loopback(neighbour):
    name, host, own = neighbour
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.settimeout(60)
        udp.bind(("0.0.0.0", 7001))
        udp.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("239.1.2.4") + socket.inet_aton(host))
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(host))
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 5)
        guest = subprocess.Popen(["ip", "netns", "exec", name, RUNG, "do", "--network", "host", "--", "/usr/bin/python3", "-c", GROUPS, host, own],
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            assert guest.stdout.readline() == "joined\n"
            udp.sendto(b"from outside", ("239.1.2.3", 7000))
            assert guest.stdout.readline() == f"b'from outside' {host} [(2, 5)]\n"
            data, control, _, sender = udp.recvmsg(100, 100)
            assert (data, sender, control[0][2][0]) == (b"from inside", (own, 7000), 3)
            assert guest.stdout.readline() == "left\n"
            udp.sendto(b"too late", ("239.1.2.3", 7000))
            assert guest.stdout.readline() == "nothing more\n"
            data, control, _, _ = udp.recvmsg(100, 100)
            assert (data, control[0][2][0]) == (b"hops", 9)
            assert guest.stdout.readline() == "Invalid argument\n"
            answer = "True b'\\x00\\x00' b'\\x00\\x07payload' True True\n"
            assert guest.stdout.read() == answer * 2 and guest.wait(60) == 0
        finally:
            guest.kill()
            guest.wait()


# Who makes a user namespace is its root, and nobody's outside.
USERS = r"""
set -e
id -u; cat /proc/self/uid_map | tr -s " "; cat /proc/self/setgroups
hostname inside; hostname
mount -t tmpfs x /mnt; echo mine > /mnt/file; stat -c "%u %a" /mnt; chown 5 /mnt/file 2>&1 | grep -o "Invalid argument"
ps -e -o pid= -o comm= | tr -s " "
umount /mnt; mount -t sysfs x /mnt 2>&1 | grep -o "permission denied"
readlink /proc/self/exe
"""


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_who_makes_a_user_namespace_is_its_root(user):
    id_of = "0" if user == "root" else "65534"
    become = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"] if user == "nobody" else []
    lines = out(*become, "unshare", "-Urmupf", "--mount-proc", "sh", "-c", USERS).split("\n")
    assert lines[:3] == ["0", f" 0 {id_of} 1", "deny"]
    assert lines[3:6] == ["inside", "0 1777", "Invalid argument"]
    assert lines[6] == " 1 sh" and lines[-3:] == ["permission denied", "/usr/bin/readlink", ""]


def test_a_user_namespace_is_entered_by_who_may():
    script = r"""
      unshare -U sh -c 'echo $$; exec sleep 60' & child=$!
      while [ "$(readlink /proc/$child/ns/user)" = "$(readlink /proc/self/ns/user)" ]; do sleep 0.01; done
      printf '0 100 1\n1 1000 50\n' > /proc/$child/uid_map; printf '0 200 51\n' > /proc/$child/gid_map
      nsenter -t $child -U -S 7 -G 3 sh -c 'id -u; id -g; grep ^Uid /proc/self/status; grep -c . /proc/self/uid_map'
      setpriv --reuid 5 --clear-groups --regid 5 nsenter -t $child -U true 2>&1 | grep -o 'Permission denied\|Operation not permitted' | head -1
      nsenter -t $child -U -S 7 -G 3 sleep 50 & inside=$!
      while [ "$(cat /proc/$inside/comm)" != sleep ]; do sleep 0.01; done
      grep ^Uid /proc/$inside/status
      nsenter -t $child -U -S 8 -G 3 --preserve-credentials kill $inside 2>/dev/null || true
      nsenter -t $child -U -S 8 -G 3 sh -c "kill $inside" 2>&1 | grep -o 'not permitted'
      kill $inside $child; wait
    """
    lines = out("sh", "-c", script).split("\n")[1:]
    assert lines[:4] == ["7", "3", "Uid:\t7\t7\t7\t7", "2"], lines
    assert lines[4] in ("Permission denied", "Operation not permitted"), lines
    assert lines[5:7] == ["Uid:\t1006\t1006\t1006\t1006", "not permitted"], lines


def test_nobody_inside_ends_the_first_process():
    done = rung("/bin/sh", "-c", "sh -c 'kill -9 1; kill -TERM 1'; echo survived $?")
    assert (done.returncode, done.stdout) == (0, "survived 0\n"), done.stderr


# What the guest kernel answers otherwise than Linux does: "call: case": (native, inside). At most 15.
DIFFERENCES = {}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: half of the cases are about ids")
def test_calls_answer_as_natively(root, tmp_path):
    program = os.path.join(os.path.dirname(harness.BIN), "guest", "guest_calls")
    os.mkdir(tmp_path / "native")
    os.mkdir(os.path.join(root, "work"))
    shutil.copy(program, root + "/bin/guest_calls")
    native = subprocess.run([program, str(tmp_path / "native")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                            timeout=LIMIT_S, check=True).stdout.splitlines()
    done = rung("/bin/guest_calls", "/work", options=("--root", root))
    assert done.returncode == 0, done.stdout[-500:]
    inside = done.stdout.splitlines()
    assert len(native) == len(inside) > 500
    found = {}
    for a, b in zip(native, inside):
        if a != b:
            name, answer = a.rsplit(": ", 1)
            found[name] = (answer, b.rsplit(": ", 1)[1])
    assert found == DIFFERENCES and len(found) <= 15


# What shells, coreutils, sqlite, python, gcc, git, redis, nginx, Go, apt, node and java were seen to ask for.
CALLS_OF_PROGRAMS = """
    accept4 access arch_prctl bind brk capget chdir chmod chown clock_getres clock_nanosleep clone clone3 close close_range connect copy_file_range
    creat dup dup2 epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd2 execve exit exit_group faccessat2 fadvise64 fchdir fchmod
    fchmodat fchown fchownat fcntl fdatasync flock fstat fstatfs fsync ftruncate futex getcwd getdents64 getegid geteuid getgid getgroups getpeername
    getpgrp getpid getppid getrandom getrusage getsockname getsockopt gettid getuid getxattr ioctl kill lchown lgetxattr link listen lseek madvise
    mkdir mkdirat mknodat mmap mprotect mremap munmap nanosleep newfstatat open openat pipe2 pkey_alloc poll prctl pread64 prlimit64 pselect6 pwrite64
    read readlink readlinkat recvfrom recvmsg rename renameat2 rseq rt_sigaction rt_sigprocmask rt_sigreturn rt_sigsuspend sched_getaffinity
    sched_yield sendfile sendmmsg sendmsg sendto set_robust_list set_tid_address setgid setgroups setitimer setpgid setresgid setresuid setsockopt
    setuid shutdown sigaltstack socket socketpair statfs statx symlink symlinkat sysinfo tgkill timer_create timer_settime umask uname unlink unlinkat
    utimensat vfork wait4 write writev
""".split()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: half of the cases are about ids")
def test_each_call_that_programs_ask_for_has_four_cases(root):
    """A case of a call is a line that the test program prints after asking for it: counted in what the guest kernel was asked for."""
    shutil.copy(os.path.join(os.path.dirname(harness.BIN), "guest", "guest_calls"), root + "/bin/guest_calls")
    os.mkdir(os.path.join(root, "work"))
    done = subprocess.run([RUNG, "do", "--root", root, "--strace", "--", "/bin/guest_calls", "/work"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          text=True, errors="replace", timeout=LIMIT_S, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr[-500:]
    cases, asked = collections.Counter(), set()
    for name, arguments in re.findall(r"^\[ *\d+ [^]]*\] (\w+)\((.*)$", done.stderr, re.MULTILINE):
        if name == "write" and arguments.startswith("1, ") and asked:
            cases.update(asked)
            asked = set()
        else:
            asked.add(name)
    assert len(CALLS_OF_PROGRAMS) == 137
    assert {name: cases[name] for name in CALLS_OF_PROGRAMS if cases[name] < 4} == {}


# What the host may carry out for guest threads: rt_sigreturn, exit, arch_prctl, and what no filter sees (uretprobe, uprobe).
# A thread's own processor time (98, 228) only the host knows.
VETTED = {15, 60, 98, 158, 228, 334, 335, 336}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: tracefs")
@pytest.mark.parametrize("program", ["calls", "shell", "python"])
def test_the_host_carries_out_no_call_but_the_vetted_ones(root, program):
    words = {
        "calls": ["--root", root, "--", "/bin/guest_calls", "/work"],
        "shell": ["--", "/bin/bash", "-c", "for i in 1 2 3; do ls -l / | sort | wc -l; done; trap : USR1; kill -USR1 $$; (exit 3); true"],
        "python": ["--", "/usr/bin/python3", "-c", "import threading, subprocess; [threading.Thread(target=print).start() for i in range(9)];"
                   "subprocess.run('true')"]}[program]
    os.mkdir(os.path.join(root, "work"))
    shutil.copy(os.path.join(os.path.dirname(harness.BIN), "guest", "guest_calls"), root + "/bin/guest_calls")
    done = subprocess.run(["unshare", "--mount", "/usr/bin/python3", os.path.join(harness.ROOT, "tests/guest/audit.py"), RUNG, "do", *words],
                          stdout=subprocess.PIPE, text=True, timeout=180, check=False)
    if done.returncode == 77:
        pytest.skip("tracefs cannot be mounted")
    assert done.returncode == 0
    audit = json.loads(done.stdout)
    assert audit["lost"] == 0 and audit["code"] == 0 and audit["guests"] > 2
    carried = {int(number): count for number, count in audit["calls"].items()}
    assert carried.get(15) and set(carried) <= VETTED, carried


def test_the_table_of_calls_is_the_documentation():
    printed = subprocess.run([RUNG, "syscalls"], stdout=subprocess.PIPE, text=True, timeout=LIMIT_S, check=True).stdout
    with open(os.path.join(harness.ROOT, "docs/guest-syscalls.md"), encoding="utf-8") as file:
        assert file.read() == printed, "docs/guest-syscalls.md is stale: rung syscalls > docs/guest-syscalls.md"


@pytest.mark.parametrize("how,expected", [("race 2000", "agreed\n"), ("doors", "survived\n"), ("scribble", "survived\n"),
                                          ("threads", "320\n"), ("calls", "too\n"), ("buffers 1000", "survived\n"), ("crowd 150", "ended\n")])
def test_a_hostile_guest_harms_itself_alone(root, how, expected):
    shutil.copy(os.path.join(os.path.dirname(harness.BIN), "guest", "guest_storm"), root + "/bin/guest_storm")
    done = subprocess.run([RUNG, "do", "--root", root, "--pids", "200", "--", "/bin/guest_storm", *how.split()], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=240, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0 and done.stdout.endswith(expected), done


def children(pid):
    found = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found += [int(word) for word in file.read().split()]
        except FileNotFoundError:
            pass
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: kills processes of the sandbox from outside")
def test_stubs_may_be_killed_at_any_moment(root):
    shutil.copy(os.path.join(os.path.dirname(harness.BIN), "guest", "guest_storm"), root + "/bin/guest_storm")
    program = subprocess.Popen([RUNG, "do", "--root", root, "--", "/bin/guest_storm", "busy", "4"],
                               stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(0.5)
        spared = set(children(program.pid))  # the broker, the template, and the first program's stub
        end = time.monotonic() + 4
        killed = 0
        random.seed(20)
        while time.monotonic() < end:
            pid = random.choice(children(program.pid) or [0])
            if pid == 0:
                break  # it has come to its end
            if pid not in spared:
                with contextlib.suppress(ProcessLookupError):  # it ended by itself
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
            time.sleep(0.005)
        told = program.communicate(timeout=LIMIT_S)[0]
    finally:
        program.kill()
        program.wait()
    assert killed > 20 and (program.returncode, told) == (0, "survived: made some, lost some\n"), (killed, told)


def test_a_process_that_the_host_ends_in_its_sleep_is_noticed(root):
    """None of its threads waits for its stub: each is in a call of the guest kernel's. What ends it is most often the OOM killer."""
    program = subprocess.Popen([RUNG, "do", "--root", root, "--", "/bin/sh", "-c", "sh -c 'echo up; exec sleep 1000'; echo $?"],
                               stdout=subprocess.PIPE, text=True)
    try:
        assert program.stdout.readline() == "up\n"
        time.sleep(1)  # it is asleep by then; were it not, it would be no test, and no failure either
        os.kill(max(children(program.pid)), signal.SIGKILL)
        assert program.communicate(timeout=LIMIT_S)[0] == "137\n"
    finally:
        program.kill()
        program.wait()


FULL = """
import os, signal, threading
made = []
for _ in range(3):
    go = threading.Event()
    threads, children = [], []
    try:
        while True:
            pid = os.fork()
            if pid == 0:
                signal.pause()
            children.append(pid)
    except OSError:
        pass
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    assert sorted(os.wait()[0] for _ in children) == children
    try:
        os.wait()
        raise AssertionError("a child that fork did not tell of")
    except ChildProcessError:
        pass
    try:
        while True:
            one = threading.Thread(target=go.wait)
            one.start()
            threads.append(one)
    except RuntimeError:
        pass
    go.set()
    for one in threads:
        one.join()
    made.append((len(children), len(threads)))
assert min(made[0]) > 2, made
print("emptied")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes a cgroup")
@pytest.mark.parametrize("most", range(40, 46))
def test_what_the_host_has_no_thread_for_is_not_there(most):
    """The host's limit meets either the thread of the guest's or the sentry's own for it: neither leaves anything behind."""
    v1 = "/sys/fs/cgroup/pids"
    group = (v1 if os.path.isdir(v1) else "/sys/fs/cgroup") + f"/fluyt-walk-rung-{os.getpid()}"
    os.mkdir(group)
    try:
        with open(group + "/pids.max", "w", encoding="ascii") as file:
            file.write(str(most))

        def enter():
            with open(group + "/cgroup.procs", "w", encoding="ascii") as file:
                file.write("0")
        done = rung("/usr/bin/python3", "-c", FULL, preexec_fn=enter)
        assert (done.returncode, done.stdout) == (0, "emptied\n"), done
    finally:
        harness.wait_for(lambda: not open(group + "/cgroup.procs", encoding="ascii").read(), "the end of all")
        os.rmdir(group)


def test_sys_is_the_guests_own():
    assert out("/bin/cat", "/sys/class/net/lo/operstate", "/sys/class/net/lo/mtu") == "unknown\n65536\n"
    assert out("/bin/sh", "-c", "cd /sys; ls -d * class/* class/net/*; stat -f -c %T . ; cd class/net/lo && pwd -P").split() == [
        "block", "bus", "class", "class/net", "class/net/lo", "dev", "devices", "firmware", "fs", "kernel", "module", "power",
        "sysfs", "/sys/devices/virtual/net/lo"]
    # Every file can be read, but for what a device that is none cannot say; none can be written.
    done = rung("/usr/bin/python3", "-c", """
import errno, os
failed = {}
for folder, _, files in os.walk("/sys"):
    for path in (os.path.join(folder, name) for name in files):
        if os.path.islink(path):
            continue
        try:
            assert open(path).read(), path
        except OSError as error:
            failed[path] = error.errno
        try:
            os.write(os.open(path, os.O_WRONLY), b"1")
        except OSError:
            continue
        raise AssertionError(path)
print(sorted((os.path.basename(path), errno.errorcode[number]) for path, number in failed.items()))
""")
    assert done.stdout == "[('duplex', 'EINVAL'), ('speed', 'EINVAL')]\n", done
    for name in ("enabled", "hpage_pmd_size"):
        path = "/sys/kernel/mm/transparent_hugepage/" + name
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                assert out("/bin/cat", path) == file.read()


def test_processors_are_counted_alike_by_everybody():
    count = len(os.sched_getaffinity(0))
    assert out("/usr/bin/nproc") == f"{count}\n"
    assert out("/usr/bin/nproc", "--all") == f"{count}\n"
    assert out("/usr/bin/python3", "-c", "import os; print(os.cpu_count(), os.sysconf('SC_NPROCESSORS_CONF'), os.sysconf('SC_NPROCESSORS_ONLN'))",
               ) == f"{count} {count} {count}\n"
    assert out("/bin/grep", "-c", "^processor", "/proc/cpuinfo") == f"{count}\n"
    if shutil.which("lscpu"):
        assert out("/usr/bin/lscpu", "-p=CPU,CORE,SOCKET,NODE").split("\n")[-count - 1:] == [f"{i},{i},0,0" for i in range(count)] + [""]
        nodes = re.findall(r"NUMA node(\d+) CPU\(s\): +(\S+)", out("/usr/bin/lscpu"))
        assert nodes == [("0", {1: "0", 2: "0,1"}.get(count, f"0-{count - 1}"))], nodes


FIGURES = r"""
import os, re, time

def table(path):
    with open(path) as file:
        return {name: int(number) for name, number in re.findall(r"^(\w+):\s+(\d+)(?: kB)?$", file.read(), re.MULTILINE)}

def processors():
    with open("/proc/stat") as file:
        rows = [line.split() for line in file if line.startswith("cpu")]
    assert [row[0] for row in rows] == ["cpu"] + [f"cpu{i}" for i in range(os.cpu_count())]
    values = [[int(word) for word in row[1:]] for row in rows]
    assert values[0] == [sum(column) for column in zip(*values[1:])], values
    return values[0]

before = processors()
end = time.process_time() + 1
while time.process_time() < end:
    sum(range(100000))
after = processors()
print("user", 80 <= after[0] - before[0] <= 130, "idle", after[3] >= before[3])
if os.fork() == 0:  # what an ended process has used is not forgotten
    end = time.process_time() + 0.5
    while time.process_time() < end:
        sum(range(100000))
    os._exit(0)
os.wait()
print("child", 40 <= processors()[0] - after[0] <= 90)
load = os.getloadavg()
print("load", load[0] > 0.005, load[0] >= load[1] >= load[2])

io = table("/proc/self/io")
with open("/tmp/written", "wb", buffering=0) as file:
    for _ in range(3):
        file.write(b"x" * 1000)
now = table("/proc/self/io")
print("io", now["wchar"] - io["wchar"], now["syscw"] - io["syscw"], now["rchar"] > io["rchar"])

memory = table("/proc/meminfo")
print("memory", memory["MemTotal"], memory["MemTotal"] >= memory["MemAvailable"] > 0)
node = open("/sys/devices/system/node/node0/meminfo").read().split()
print("node", node[node.index("MemTotal:") + 1], os.sysconf("SC_PHYS_PAGES") * 4)

import mmap
page = os.sysconf("SC_PAGESIZE")
size, resident = [int(word) for word in open("/proc/self/statm").read().split()[:2]]
nothing = mmap.mmap(-1, 64 << 20, prot=0, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
reserved, still = [int(word) for word in open("/proc/self/statm").read().split()[:2]]
status = table("/proc/self/status")
print("statm", (reserved - size) * page >> 20, still - resident < 1024, status["VmSize"] * 1024 // page >= reserved, status["VmRSS"] > 0)
rows = open("/proc/self/smaps").read().splitlines()
total = sum(int(row.split()[1]) for row in rows if row.startswith("Rss:"))
print("smaps", abs(total - table("/proc/self/status")["VmRSS"]) < 4096)
"""


def test_proc_has_figures_and_not_words():
    lines = dict(line.split(" ", 1) for line in out("/usr/bin/python3", "-c", FIGURES).splitlines())
    total = int(lines["memory"].split()[0])
    with open("/proc/meminfo", encoding="utf-8") as file:
        hosts = int(file.readline().split()[1])
    assert 0 < total <= hosts and lines["memory"].endswith("True"), lines
    assert lines["node"] == f"{total} {total}", lines
    assert {name: lines[name] for name in ("user", "child", "load", "io", "statm", "smaps")} == {
        "user": "True idle True", "child": "True", "load": "True True", "io": "3000 3 True", "statm": "64 True True True", "smaps": "True"}, lines
