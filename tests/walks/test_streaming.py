"""Exec, attach and port-forward as clients see them: crictl over SPDY, a small client over WebSocket, and clients that
send what none should, stop reading, or vanish."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
import threading
import time

import cri as c
import harness
import pytest
import streams

needs_crictl = pytest.mark.skipif(not os.path.exists(harness.crictl()), reason="crictl is not built: Go is not installed")
ECHO = "nc -ll -p 8080 -e cat & "


@pytest.fixture(scope="module")
def pod(cri, busybox):
    """One pod for the file: (sandbox id, its configuration)."""
    cri.pull(busybox)
    config = cri.sandbox_config()
    sandbox = cri.run_sandbox(config)
    yield sandbox, config
    cri.remove_sandbox(sandbox)


@pytest.fixture(scope="module")
def container(cri, pod, busybox):
    """A container that echoes what comes to its port 8080."""
    return cri.run_container(*pod, cri.container_config(busybox, ["sh", "-c", ECHO + "sleep 10000"], name="main"))


def exec_url(cri, container, *command, tty=False, stdin=False, stdout=True, stderr=None):
    request = c.pb.ExecRequest(container_id=container, cmd=command, tty=tty, stdin=stdin, stdout=stdout,
                               stderr=not tty if stderr is None else stderr)
    return cri.runtime.Exec(request, timeout=20).url


def attach_url(cri, container, tty=False, stdin=False, stderr=None):
    request = c.pb.AttachRequest(container_id=container, tty=tty, stdin=stdin, stdout=True,
                                 stderr=not tty if stderr is None else stderr)
    return cri.runtime.Attach(request, timeout=20).url


def port_url(cri, sandbox):
    return cri.runtime.PortForward(c.pb.PortForwardRequest(pod_sandbox_id=sandbox), timeout=20).url


def descriptors(engine):
    """What fluytd has open: number to what it is."""
    folder, found = f"/proc/{engine.process.pid}/fd", {}
    for number in os.listdir(folder):
        with contextlib.suppress(OSError):
            found[number] = os.readlink(f"{folder}/{number}")
    return found


def memory(engine):
    with open(f"/proc/{engine.process.pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) << 10


def keeps_little(engine, before):
    """What was freed is kept for a while by sanitizers, which would hide it."""
    return harness.SANITIZED or memory(engine) - before < 16 << 20


def processes(word):
    """The host's pids whose command line has `word` as one of its arguments."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            if word.encode() in file.read().split(b"\0"):
                found.append(int(pid))
    return found


@contextlib.contextmanager
def nothing_left(engine, word=None):
    """Descriptors of fluytd as before, and no process with `word`, soon after the block."""
    before = descriptors(engine)
    yield
    if word:
        harness.wait_for(lambda: not processes(word), "the process to go")
    try:
        harness.wait_for(lambda: len(descriptors(engine)) <= len(before), "the descriptors to be closed")
    except TimeoutError:
        raise AssertionError(f"still open: {set(descriptors(engine).items()) - set(before.items())}") from None


# What is refused at once ---------------------------------------------------------------------------


def test_requests_are_checked(cri, pod, container, busybox):
    def refused(method, **fields):
        return c.error_of(getattr(cri.runtime, method), getattr(c.pb, method + "Request")(**fields), timeout=20)

    assert refused("Exec", container_id="nobody", cmd=["ls"], stdout=True)[0] == "NOT_FOUND"
    assert refused("Exec", container_id=container, stdout=True)[0] == "INVALID_ARGUMENT"
    code, text = refused("Exec", container_id=container, cmd=["ls"])
    assert code == "INVALID_ARGUMENT" and "expected one of them at least" in text
    code, text = refused("Exec", container_id=container, cmd=["ls"], stdout=True, stderr=True, tty=True)
    assert code == "INVALID_ARGUMENT" and "stderr" in text
    assert refused("Attach", container_id="nobody", stdout=True)[0] == "NOT_FOUND"
    assert refused("Attach", container_id=container)[0] == "INVALID_ARGUMENT"
    code, text = refused("Attach", container_id=container, stdin=True)
    assert code == "FAILED_PRECONDITION" and "without standard input" in text
    assert refused("PortForward", pod_sandbox_id="nobody")[0] == "NOT_FOUND"
    made = cri.create(*pod, cri.container_config(busybox, ["true"], name="made"))
    code, text = refused("Exec", container_id=made, cmd=["ls"], stdout=True)
    assert code == "FAILED_PRECONDITION" and "expected running" in text
    assert refused("Attach", container_id=made, stdout=True)[0] == "FAILED_PRECONDITION"
    cri.remove(made)


def test_a_stopped_sandbox_forwards_nothing(cri, busybox):
    config = cri.sandbox_config(network=c.pb.NODE)
    sandbox = cri.run_sandbox(config)
    cri.runtime.StopPodSandbox(c.pb.StopPodSandboxRequest(pod_sandbox_id=sandbox), timeout=60)
    code, text = c.error_of(port_url, cri, sandbox)
    assert code == "FAILED_PRECONDITION" and "expected ready" in text
    cri.remove_sandbox(sandbox)


# crictl, over SPDY and over WebSocket --------------------------------------------------------------


@needs_crictl
@pytest.mark.parametrize("transport", ["spdy", "websocket"])
def test_crictl_exec(engine, container, transport):
    def run(*words, check=True, **options):
        return engine.crictl("exec", "--transport", transport, *words, check=check, **options)

    done = run(container, "sh", "-c", "echo out; echo err >&2")
    assert done.stdout == "out\n" and done.stderr.endswith("err\n")  # crictl warns that it has no file of its own
    done = run(container, "sh", "-c", "echo last words; exit 42", check=False)
    assert done.returncode != 0 and done.stdout == "last words\n" and "42" in done.stderr
    done = run(container, "no-such-program", check=False)
    assert done.returncode != 0 and "no-such-program" in done.stderr
    data = os.urandom(300_000).hex()
    read, write = os.pipe()
    feeder = threading.Thread(target=lambda: (os.write(write, b""), feed(write, data.encode())))
    feeder.start()
    done = run("-i", container, "cat", stdin=read)
    feeder.join()
    os.close(read)
    assert done.stdout == data


def feed(descriptor, data):
    with open(descriptor, "wb") as file:
        file.write(data)


class Terminal:
    """A program on a pseudo-terminal of ours."""

    def __init__(self, command, rows=24, columns=80):
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.execv(command[0], command)
        self.seen = b""
        self.resize(rows, columns)

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.master, text.encode())

    def expect(self, text, seconds=30):
        end = time.monotonic() + seconds
        while text.encode() not in self.seen:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.master], [], [], left)[0]:
                raise AssertionError(f"{text!r} did not come; seen: {self.seen!r}")
            self.seen += os.read(self.master, 4096)
        self.seen = self.seen.split(text.encode(), 1)[1]

    def end(self):
        with contextlib.suppress(OSError):
            while os.read(self.master, 4096):
                pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self.master)
        return os.waitstatus_to_exitcode(status)


@needs_crictl
@pytest.mark.parametrize("transport", ["spdy", "websocket"])
def test_crictl_exec_on_a_terminal(engine, container, transport):
    endpoint = "unix://" + engine.socket
    terminal = Terminal([harness.crictl(), "-r", endpoint, "-i", endpoint, "exec", "--transport", transport, "-it",
                         container, "sh", "-c", "stty -echo; echo ready; sh"], rows=31, columns=97)
    terminal.expect("ready")

    def size_is(wanted):
        terminal.type("stty size\n")
        with contextlib.suppress(AssertionError):
            terminal.expect(wanted, seconds=2)
            return True
        return False

    harness.wait_for(lambda: size_is("31 97"), "the size")
    terminal.resize(43, 111)
    harness.wait_for(lambda: size_is("43 111"), "the new size")
    terminal.type("tty\n")
    terminal.expect("/dev/pts/")
    terminal.type("exit 0\n")
    assert terminal.end() == 0


@needs_crictl
@pytest.mark.parametrize("transport", ["spdy", "websocket"])
def test_crictl_attach(engine, cri, pod, busybox, transport):
    config = cri.container_config(busybox, ["sh", "-c", "while read line; do echo got $line; done; echo the end"], name="read" + transport)
    config.stdin, config.stdin_once = True, True
    reader = cri.run_container(*pod, config)
    endpoint = "unix://" + engine.socket
    process = subprocess.Popen([harness.crictl(), "-r", endpoint, "-i", endpoint, "attach", "--transport", transport,
                                "-i", reader], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(b"one\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"got one\n"
    out, err = process.communicate(b"two\n", timeout=30)
    assert (out, process.returncode) == (b"got two\nthe end\n", 0), err
    harness.wait_for(lambda: cri.status(reader).state == c.EXITED, "the container to end")
    cri.remove(reader)


@needs_crictl
@pytest.mark.parametrize("transport", ["spdy", "websocket"])
def test_crictl_attach_on_a_terminal(engine, cri, pod, busybox, transport):
    config = cri.container_config(busybox, ["sh", "-c", "stty -echo; while read line; do echo got $line at $(stty size); done"],
                                  name="term" + transport)
    config.stdin, config.stdin_once, config.tty = True, True, True
    shell = cri.run_container(*pod, config)
    endpoint = "unix://" + engine.socket
    terminal = Terminal([harness.crictl(), "-r", endpoint, "-i", endpoint, "attach", "--transport", transport, "-it", shell],
                        rows=33, columns=99)

    def sized():  # the size is sent once it is attached, and what is typed may be there before
        terminal.type("one\n")
        terminal.expect("got one at")
        with contextlib.suppress(AssertionError):
            terminal.expect(" 33 99", seconds=0.5)
            return True
    harness.wait_for(sized, "the terminal's size", 30)
    terminal.type("\x04")  # the end of its input
    assert terminal.end() == 0
    harness.wait_for(lambda: cri.status(shell).state == c.EXITED, "the container to end")
    cri.remove(shell)


def read_until(process, words):
    """What a program says, up to the line with `words`."""
    said = b""
    while words not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    return said


@contextlib.contextmanager
def forwarded(engine, sandbox, port, transport):
    """A local port that crictl forwards to the sandbox's."""
    local = harness.free_port()
    endpoint = "unix://" + engine.socket
    process = subprocess.Popen([harness.crictl(), "-r", endpoint, "-i", endpoint, "port-forward", "--transport", transport,
                                sandbox, f"{local}:{port}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    read_until(process, b"Forwarding from")
    yield local
    process.kill()
    process.wait()
    process.stdout.close()


def echo(port, data):
    """Sends `data` and the end of it; what comes back to the end."""
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        sender = threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
        sender.start()
        back = b"".join(iter(lambda: sock.recv(1 << 16), b""))
        sender.join()
    return back


@needs_crictl
@pytest.mark.parametrize("transport", ["spdy", "websocket"])
def test_crictl_port_forward(engine, pod, container, transport):
    with nothing_left(engine), forwarded(engine, pod[0], 8080, transport) as local:
        assert echo(local, b"hello") == b"hello"
        data = os.urandom(3_000_000)
        answers = {}
        threads = [threading.Thread(target=lambda i=i: answers.update({i: echo(local, data[i:])})) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(answers[i] == data[i:] for i in range(4))


@needs_crictl
def test_a_server_that_does_not_care_holds_no_forwarded_connection(engine, cri, pod, busybox):
    """The client has closed its side; the server neither says anything nor ends."""
    cri.run_container(*pod, cri.container_config(busybox, ["nc", "-ll", "-p", "8090", "-e", "sleep", "1000"], name="careless"))
    with forwarded(engine, pod[0], 8090, "spdy") as local:
        before = len(descriptors(engine))
        clients = [socket.create_connection(("127.0.0.1", local), 30) for _ in range(3)]
        harness.wait_for(lambda: len(descriptors(engine)) >= before + 3, "the connections to be forwarded")
        for client in clients:
            client.close()
        harness.wait_for(lambda: len(descriptors(engine)) <= before, "the connections to be given up", 40)


@needs_crictl
def test_a_port_where_nothing_listens_says_so(engine, pod, container):
    local = harness.free_port()
    endpoint = "unix://" + engine.socket
    process = subprocess.Popen([harness.crictl(), "-r", endpoint, "-i", endpoint, "port-forward", pod[0], f"{local}:81"],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    read_until(process, b"Forwarding from")
    assert echo(local, b"") == b""
    read_until(process, b"connect(127.0.0.1:81)")
    process.kill()
    process.wait()
    process.stdout.close()


@needs_crictl
def test_ports_of_the_hosts_network(engine, cri, busybox):
    port = harness.free_port()
    config = cri.sandbox_config(network=c.pb.NODE)
    sandbox = cri.run_sandbox(config)
    cri.run_container(sandbox, config, cri.container_config(busybox, ["nc", "-ll", "-p", str(port), "-e", "cat"]))
    with forwarded(engine, sandbox, port, "spdy") as local:
        harness.wait_for(lambda: echo(local, b"host") == b"host", "the echo")
    cri.remove_sandbox(sandbox)


@needs_crictl
def test_a_sandbox_that_goes_takes_its_connections_along(engine, cri, busybox):
    with nothing_left(engine):
        config = cri.sandbox_config()
        sandbox = cri.run_sandbox(config)
        cri.run_container(sandbox, config, cri.container_config(busybox, ["nc", "-ll", "-p", "8080", "-e", "cat"]))
        with forwarded(engine, sandbox, 8080, "spdy") as local:
            harness.wait_for(lambda: echo(local, b"up") == b"up", "the echo")
            with socket.create_connection(("127.0.0.1", local), 30) as sock:
                sock.sendall(b"x")
                assert sock.recv(1) == b"x"
                cri.remove_sandbox(sandbox)
                assert sock.recv(1) == b""
            with contextlib.suppress(ConnectionError):  # crictl may end with the session
                assert echo(local, b"gone") == b""


# WebSocket, by hand --------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"])
def test_websocket_exec(cri, container, protocol):
    url = exec_url(cri, container, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert streams.WebSocket(url, protocol).outcome() == (b"out\n", b"err\n", 7)
    url = exec_url(cri, container, "sh", "-c", "read line; echo got $line", stdin=True)
    client = streams.WebSocket(url, protocol)
    client.send(streams.IN, b"hel")
    client.send(streams.IN, b"lo\n")
    assert client.outcome() == (b"got hello\n", b"", 0)
    assert client.close_code == 1000


@pytest.mark.parametrize("protocol", ["channel.k8s.io", "base64.channel.k8s.io", None])
def test_the_oldest_websockets_say_errors_as_text(cri, container, protocol):
    assert streams.WebSocket(exec_url(cri, container, "echo", "out"), protocol).collect() == (b"out\n", b"", b"")
    out, err, text = streams.WebSocket(exec_url(cri, container, "sh", "-c", "exit 3"), protocol).collect()
    assert (out, err) == (b"", b"") and b"exit status 3" in text


def test_the_close_signal_ends_standard_input(cri, container):
    client = streams.WebSocket(exec_url(cri, container, "wc", "-c", stdin=True))
    for _ in range(10):
        client.send(streams.IN, b"x" * 100_000)
    client.send(streams.CLOSE, bytes([streams.IN]))
    assert client.outcome() == (b"1000000\n", b"", 0)


def test_a_resize_message_sizes_the_terminal(cri, container):
    client = streams.WebSocket(exec_url(cri, container, "sh", "-c", "read go; stty size; exit 5", tty=True, stdin=True))
    client.send(streams.RESIZE, b'{"Width":132,"Height":50}')
    client.send(streams.IN, b"go\n")
    out, err, code = client.outcome()
    assert b"50 132" in out and (err, code) == (b"", 5)


def test_output_that_is_not_asked_for_is_dropped(cri, container):
    url = exec_url(cri, container, "sh", "-c", "dd if=/dev/zero bs=1M count=3 2>/dev/null; echo err >&2", stdout=False)
    assert streams.WebSocket(url).outcome() == (b"", b"err\n", 0)


def test_a_child_that_keeps_the_output_open_is_not_waited_for(cri, container):
    began = time.monotonic()
    url = exec_url(cri, container, "sh", "-c", "setsid sleep 31 & echo done")
    assert streams.WebSocket(url).outcome() == (b"done\n", b"", 0)
    assert time.monotonic() - began < 20


def test_an_error_names_the_program(cri, container):
    out, err, message = streams.WebSocket(exec_url(cri, container, "no-such-program")).outcome()
    assert (out, err) == (b"", b"") and "no-such-program" in message


def test_attach_leaves_the_container_alone(engine, cri, pod, busybox):
    script = "while true; do echo tick; sleep 0.1; done"
    ticking = cri.run_container(*pod, cri.container_config(busybox, ["sh", "-c", script], name="ticking"))
    with nothing_left(engine):
        for _ in range(2):  # the second sees that the first has gone
            client = streams.WebSocket(attach_url(cri, ticking))
            for channel, data in client.messages():
                if channel == streams.OUT and b"tick" in data:
                    break
            client.close()
    assert cri.status(ticking).state == c.RUNNING
    cri.stop(ticking)
    cri.remove(ticking)


def test_a_terminal_is_attached_to_again_and_again(engine, cri, pod, busybox):
    config = cri.container_config(busybox, ["sh", "-c", "stty -echo; exec sh"], name="shell")
    config.tty, config.stdin = True, True
    shell = cri.run_container(*pod, config)
    with nothing_left(engine):
        for rows, columns in ((30, 90), (50, 132)):
            client = streams.WebSocket(attach_url(cri, shell, tty=True, stdin=True))
            client.send(streams.RESIZE, b'{"Width":%d,"Height":%d}' % (columns, rows))
            seen = b""
            wanted = b"%d %d" % (rows, columns)
            client.send(streams.IN, b"stty size\n")
            for channel, data in client.messages():
                seen += data if channel == streams.OUT else b""
                if wanted in seen:
                    break
                if b"\n" in data:  # the size may be told later than what is typed
                    time.sleep(0.05)
                    client.send(streams.IN, b"stty size\n")
            client.close()  # its end is not the shell's
    assert cri.status(shell).state == c.RUNNING
    client = streams.WebSocket(attach_url(cri, shell, tty=True, stdin=True))
    client.send(streams.IN, b"exit 3\n")
    assert client.outcome()[2] == 0  # an attach has no exit code
    harness.wait_for(lambda: cri.status(shell).state == c.EXITED, "the shell to end")
    assert cri.status(shell).exit_code == 3
    cri.remove(shell)


def test_an_attached_client_that_lags_is_told_and_the_log_goes_on(cri, pod, busybox):
    config = cri.container_config(busybox, ["sh", "-c", "read go; dd if=/dev/zero bs=64k count=256 2>/dev/null; echo; echo last; sleep 1000"],
                                  name="loud")
    config.stdin = True
    loud = cri.run_container(*pod, config)
    client = streams.WebSocket(attach_url(cri, loud, stdin=True))
    client.send(streams.IN, b"go\n")

    def logged():
        with open(os.path.join(pod[1].log_directory, "loud.log"), "rb") as log:
            log.seek(max(os.path.getsize(log.name) - 100, 0))
            return log.read().endswith(b"last\n")

    harness.wait_for(logged, "the whole log")  # though nobody reads the client
    out, _, message = client.outcome()
    assert len(out) < 256 << 16 and "is dropped" in message
    assert cri.status(loud).state == c.RUNNING
    cri.stop(loud)
    cri.remove(loud)


# Tokens --------------------------------------------------------------------------------------------


def test_an_address_is_good_once(cri, container):
    url = exec_url(cri, container, "true")
    assert streams.WebSocket(url).outcome()[2] == 0
    used = streams.refusal(url, streams.SPDY, "POST")
    assert used[0] == 404 and "good for one request" in used[1]
    base = url.rsplit("/", 2)[0]
    for path in ("/exec/" + "0" * 32, "/exec/", "/", "/exec/" + "a" * 5000, "/attach/" + url.rsplit("/", 1)[1]):
        assert streams.refusal(base + path, streams.SPDY, "POST") == used
    url = exec_url(cri, container, "true")
    token = url.rsplit("/", 1)[1]
    assert len(token) == 32
    assert streams.refusal(f"{base}/attach/{token}", streams.SPDY, "POST") == used  # another verb
    assert streams.refusal(url, streams.SPDY, "POST") == used                       # which has used it up


def test_what_is_no_upgrade_is_told_so(cri, container):
    url = exec_url(cri, container, "true")
    assert streams.refusal(url, [])[0] == 400
    assert streams.refusal(url, [("Connection", "Upgrade"), ("Upgrade", "h2c")])[0] == 400
    status, text = streams.refusal(url, streams.SPDY + [("X-Stream-Protocol-Version", "v9.channel.k8s.io")], "POST")
    assert status == 403 and "v4.channel.k8s.io" in text
    assert streams.refusal(url, streams.SPDY, "DELETE")[0] == 405
    assert streams.WebSocket(url).outcome()[2] == 0  # none of these was a request for it


def test_only_so_many_addresses_wait(engine, busybox):
    """On an engine of its own, whose table is then full for a minute."""
    own = harness.Engine()
    own.start()
    client = c.Client(own.socket, own.folder + "/logs")
    try:
        config = client.sandbox_config(network=c.pb.NODE)
        sandbox = client.run_sandbox(config)
        for _ in range(1000):
            port_url(client, sandbox)
        code, text = c.error_of(port_url, client, sandbox)
        assert code == "RESOURCE_EXHAUSTED" and "1000" in text
        client.remove_sandbox(sandbox)
    finally:
        client.close()
        own.close()


# Hostile clients -----------------------------------------------------------------------------------


def closed(sock, seconds=10):
    """Whether the server ends the connection."""
    sock.settimeout(seconds)
    with contextlib.suppress(ConnectionError):
        while sock.recv(1 << 16):
            pass
    sock.close()
    return True


def test_requests_that_are_none(engine, cri, container):
    url = exec_url(cri, container, "true")
    with nothing_left(engine):
        status, _ = streams.refusal(url, [("X-Long", "x" * 20_000)])
        assert status == 431
        for data in (b"\0" * 1000, b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", os.urandom(5000)):
            sock, _ = streams.connect(url)
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            assert closed(sock)
        silent = [streams.connect(url)[0] for _ in range(50)]
        time.sleep(0.2)
        for sock in silent:
            sock.close()
    assert streams.WebSocket(url).outcome()[2] == 0


def control(kind, payload, version=3):
    return struct.pack(">HHI", 0x8000 | version, kind, len(payload)) + payload


@pytest.mark.parametrize("data", [
    b"\xff" * 100_000,
    control(1, b"short"), control(1, struct.pack(">IIH", 1, 0, 0) + b"no zlib"), control(6, b"abc"),
    control(6, b"\0\0\0\1", version=2), struct.pack(">HHI", 0x8003, 1, 0xffffff), struct.pack(">II", 0, 5) + b"hello"],
    ids=["garbage", "short SYN_STREAM", "no zlib", "short PING", "version 2", "huge frame", "stream 0"])
def test_broken_spdy_ends_the_connection(engine, cri, pod, container, data):
    with nothing_left(engine):
        for url in (exec_url(cri, container, "true"), port_url(cri, pod[0])):
            sock = streams.upgrade_to_spdy(url)
            sock.sendall(data)
            assert closed(sock)


def test_pings_without_an_ear_end_the_connection(engine, cri, pod):
    before = memory(engine)
    with nothing_left(engine):
        sock = streams.upgrade_to_spdy(port_url(cri, pod[0]), "portforward.k8s.io")
        sock.settimeout(30)
        pings = control(6, b"\0\0\0\1") * 10_000
        with pytest.raises(OSError):
            for _ in range(2000):
                sock.sendall(pings)
        sock.close()
    assert memory(engine) - before < 32 << 20


def test_a_websocket_message_has_a_limit_where_it_must_be_kept(engine, cri, container):
    with nothing_left(engine, "2718.1"):
        client = streams.WebSocket(exec_url(cri, container, "sleep", "2718.1", stdin=True), "v4.base64.channel.k8s.io")
        with contextlib.suppress(ConnectionError):
            client.send_frame(1, b"0" + b"A" * (3 << 20))
            while client.frame()[0] != 8:
                pass
        client.close()
    for frame in (lambda ws: ws.send_frame(1, b"0????"), lambda ws: ws.send_frame(7, b""), lambda ws: ws.send_frame(9, b"x" * 126),
                  lambda ws: ws.sock.sendall(b"\x82\x03abc")):
        with nothing_left(engine, "2718.2"):
            client = streams.WebSocket(exec_url(cri, container, "sleep", "2718.2", stdin=True), "v4.base64.channel.k8s.io")
            frame(client)
            assert closed(client.sock)


def test_a_message_in_many_frames_is_one(cri, container):
    client = streams.WebSocket(exec_url(cri, container, "wc", "-c", stdin=True))
    client.send_frame(2, b"", final=False)
    client.send_frame(0, bytes([streams.IN]), final=False)
    client.send_frame(9, b"ping")  # in between, as it may be
    for _ in range(5):
        client.send_frame(0, b"y" * 70_000, final=False)
    client.send_frame(0, b"z", final=True)
    client.send_frame(2, bytes([streams.CLOSE]), final=False)
    client.send_frame(0, bytes([streams.IN]))
    assert client.outcome() == (b"350001\n", b"", 0)


def test_a_slow_reader_holds_its_own_process_back(engine, cri, container):
    total = 48 << 20
    before = memory(engine)
    url = exec_url(cri, container, "dd", "if=/dev/zero", "bs=1M", f"count={total >> 20}", stderr=False)
    client = streams.WebSocket(url)
    time.sleep(2)  # the client's, in which it reads nothing
    assert keeps_little(engine, before)
    other = streams.WebSocket(exec_url(cri, container, "echo", "not held back"))
    assert other.outcome() == (b"not held back\n", b"", 0)
    out, _, code = client.outcome()
    assert (len(out), code) == (total, 0)


def test_a_process_that_does_not_read_holds_its_client_back(engine, cri, container):
    before = memory(engine)
    client = streams.WebSocket(exec_url(cri, container, "sh", "-c", "sleep 2; wc -c", stdin=True))
    for _ in range(400):
        client.send(streams.IN, b"x" * 50_000)
    client.send(streams.CLOSE, bytes([streams.IN]))
    assert client.outcome() == (b"20000000\n", b"", 0)
    assert keeps_little(engine, before)


@pytest.mark.parametrize("tty", [False, True])
def test_the_process_of_a_vanished_client_ends(engine, cri, container, tty):
    with nothing_left(engine, "3141.5"):
        client = streams.WebSocket(exec_url(cri, container, "sleep", "3141.5", tty=tty, stdin=True))
        harness.wait_for(lambda: processes("3141.5"), "the process")
        client.close()


def test_one_that_ignores_the_hangup_is_killed(engine, cri, container):
    with nothing_left(engine, "3141.6"):
        script = "trap '' HUP TERM PIPE; sleep 3141.6"
        client = streams.WebSocket(exec_url(cri, container, "sh", "-c", script, tty=True, stdin=True))
        harness.wait_for(lambda: processes("3141.6"), "the process")
        client.close()


def test_a_client_that_vanishes_behind_unread_input_is_noticed(engine, cri, container):
    with nothing_left(engine, "3141.7"):
        client = streams.WebSocket(exec_url(cri, container, "sleep", "3141.7", stdin=True))
        harness.wait_for(lambda: processes("3141.7"), "the process")
        for _ in range(4):  # more than is read of it, and less than its kernel has to keep back
            client.send(streams.IN, b"x" * 50_000)
        client.close()


@needs_crictl
def test_a_killed_crictl_leaves_nothing(engine, cri, container):
    endpoint = "unix://" + engine.socket
    with nothing_left(engine, "3141.8"):
        process = subprocess.Popen([harness.crictl(), "-r", endpoint, "-i", endpoint, "exec", container, "sleep", "3141.8"])
        harness.wait_for(lambda: len(processes("3141.8")) == 2, "the process")
        process.send_signal(signal.SIGKILL)
        process.wait()


# The end of the daemon -----------------------------------------------------------------------------


def test_a_restart_ends_sessions_and_no_container(busybox):
    """On an engine of its own, since a channel of gRPC's for Python that nobody uses does not hear of a server's end."""
    own = harness.Engine()
    own.start()
    client = c.Client(own.socket, own.folder + "/logs")
    try:
        client.pull(busybox)
        config = client.sandbox_config(network=c.pb.NODE)
        sandbox = client.run_sandbox(config)
        container = client.run_container(sandbox, config, client.container_config(busybox, ["sleep", "1000"]))
        ws = streams.WebSocket(exec_url(client, container, "sleep", "3141.9", stdin=True))
        harness.wait_for(lambda: processes("3141.9"), "the process")
        forward = streams.upgrade_to_spdy(port_url(client, sandbox), "portforward.k8s.io")
        client.close()
        began = time.monotonic()
        own.stop()
        assert time.monotonic() - began < 2
        assert closed(ws.sock) and closed(forward)
        harness.wait_for(lambda: not processes("3141.9"), "the process to go")
        own.start()
        client = c.Client(own.socket, own.folder + "/logs")
        assert client.status(container).state == c.RUNNING
        assert streams.WebSocket(exec_url(client, container, "echo", "again")).outcome() == (b"again\n", b"", 0)
    finally:
        client.close()
        own.close()
