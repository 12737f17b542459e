"""The streaming server over TLS: certificates that are replaced, broken and asked of clients."""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.parse

import cri as c
import harness
import pytest
import streams


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def make_pair(folder, name, signer=None):
    """A certificate for localhost and 127.0.0.1, signed by itself or by `signer`: (certificate, key)."""
    folder.mkdir(exist_ok=True)
    cert, key = str(folder / (name + ".crt")), str(folder / (name + ".key"))
    by = ["-CA", signer[0], "-CAkey", signer[1]] if signer else []
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-keyout", key,
            "-out", cert, "-subj", "/CN=" + name, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", *by)
    return cert, key


def start(settings):
    engine = harness.Engine(settings=settings)
    engine.start()
    return engine


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    ca = make_pair(folder, "ca")
    return {"folder": folder, "ca": ca, "first": make_pair(folder, "first", ca), "second": make_pair(folder, "second", ca),
            "client": make_pair(folder, "client", ca), "stranger": make_pair(folder, "stranger")}


@pytest.fixture
def serving(pairs, busybox, tmp_path):
    """An engine with TLS whose files are copies in tmp_path, a client of it and a container."""
    put(tmp_path, pairs["first"])
    engine = start(f'[cri.streaming]\ntls_cert = "{tmp_path}/crt"\ntls_key = "{tmp_path}/key"\n')
    client = c.Client(engine.socket, engine.folder + "/logs")
    client.pull(busybox)
    config = client.sandbox_config(network=c.pb.NODE)
    sandbox = client.run_sandbox(config)
    container = client.run_container(sandbox, config, client.container_config(busybox, ["sleep", "1000"]))
    yield engine, client, container
    client.close()
    engine.close()


def put(folder, pair):
    """Puts a pair in force as tools do: a new file, renamed over the old one."""
    for source, name in zip(pair, ("crt", "key")):
        shutil.copy(source, folder / (name + ".new"))
        os.rename(folder / (name + ".new"), folder / name)


def exec_url(client, container, *command, stdin=False):
    return client.runtime.Exec(c.pb.ExecRequest(container_id=container, cmd=command, stdin=stdin, stdout=True, stderr=True),
                               timeout=20).url


def wrap(pairs, pair=None):
    context = ssl.create_default_context(cafile=pairs["ca"][0])
    if pair:
        context.load_cert_chain(*pair)
    return lambda sock: context.wrap_socket(sock, server_hostname="127.0.0.1")


def name_of(sock):
    return dict(field[0] for field in sock.getpeercert()["subject"])["commonName"]


def name_in_force(client, container, pairs):
    ws = streams.WebSocket(exec_url(client, container, "true"), wrap=wrap(pairs))
    name = name_of(ws.sock)
    assert ws.outcome()[2] == 0
    return name


def test_sessions_over_tls(serving, pairs):
    engine, client, container = serving
    url = exec_url(client, container, "sh", "-c", "cat; exit 3", stdin=True)
    assert url.startswith("https://127.0.0.1:")
    ws = streams.WebSocket(url, wrap=wrap(pairs))
    data = os.urandom(2_000_000)
    for i in range(0, len(data), 50_000):
        ws.send(streams.IN, data[i:i + 50_000])
    ws.send(streams.CLOSE, bytes([streams.IN]))
    assert ws.outcome() == (data, b"", 3)
    if os.path.exists(harness.crictl()):
        own = ["--tls-cert", pairs["client"][0], "--tls-key", pairs["client"][1]]  # crictl wants one
        for transport in ("spdy", "websocket"):
            done = engine.crictl("exec", "--transport", transport, "--tls-ca", pairs["ca"][0], *own, container, "echo", "hello")
            assert done.stdout == "hello\n"
        assert engine.crictl("exec", "--tls-ca", pairs["stranger"][0], *own, container, "echo", check=False).returncode != 0


def test_who_speaks_plainly_gets_nothing(serving):
    _, client, container = serving
    with pytest.raises(OSError):
        streams.refusal(exec_url(client, container, "true"), streams.SPDY, "POST")


def test_new_certificates_are_taken_and_broken_ones_are_not(serving, pairs, tmp_path):
    engine, client, container = serving
    assert name_in_force(client, container, pairs) == "first"
    old = streams.WebSocket(exec_url(client, container, "cat", stdin=True), wrap=wrap(pairs))
    put(tmp_path, pairs["second"])
    harness.wait_for(lambda: name_in_force(client, container, pairs) == "second", "the new certificate")
    (tmp_path / "crt").write_text("broken")
    time.sleep(1.2)  # the files are looked at once a second
    assert name_in_force(client, container, pairs) == "second"
    shutil.copy(pairs["first"][0], tmp_path / "crt")  # whose key is another
    time.sleep(1.2)
    assert name_in_force(client, container, pairs) == "second"
    put(tmp_path, pairs["first"])
    engine.process.send_signal(signal.SIGHUP)
    harness.wait_for(lambda: name_in_force(client, container, pairs) == "first", "the certificate after SIGHUP")
    old.send(streams.IN, b"still here")  # through all of it
    old.send(streams.CLOSE, bytes([streams.IN]))
    assert old.outcome() == (b"still here", b"", 0)
    with open(engine.log, encoding="utf-8") as log:
        text = log.read()
    assert "stays in force" in text and "key values mismatch" in text


def test_clients_may_have_to_show_a_certificate(pairs, busybox):
    settings = '[cri.streaming]\naddress = "0.0.0.0"\n' + "".join(
        f'{key} = "{path}"\n' for key, path in (("tls_cert", pairs["first"][0]), ("tls_key", pairs["first"][1]),
                                                ("tls_client_ca", pairs["ca"][0])))
    engine = start(settings)
    client = c.Client(engine.socket, engine.folder + "/logs")
    try:
        client.pull(busybox)
        config = client.sandbox_config(network=c.pb.NODE)
        sandbox = client.run_sandbox(config)
        container = client.run_container(sandbox, config, client.container_config(busybox, ["sleep", "1000"]))
        url = exec_url(client, container, "echo", "hello")
        for pair in (None, pairs["stranger"]):
            with pytest.raises((OSError, AssertionError)):
                streams.WebSocket(url, wrap=wrap(pairs, pair))
        assert streams.WebSocket(url, wrap=wrap(pairs, pairs["client"])).outcome() == (b"hello\n", b"", 0)
        # Who has been here goes on with the session of before.
        context = ssl.create_default_context(cafile=pairs["ca"][0])
        context.load_cert_chain(*pairs["client"])
        context.check_hostname = False
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # later ones hand over the session behind the handshake
        place = urllib.parse.urlsplit(exec_url(client, container, "true"))
        session = None
        for times in range(2):
            with socket.create_connection((place.hostname, place.port), 30) as plain, context.wrap_socket(plain, session=session) as secure:
                session = secure.session
                assert secure.session_reused == (times == 1)
    finally:
        client.close()
        engine.close()


def test_half_a_handshake_is_given_up(serving):
    engine, client, container = serving
    sock, _ = streams.connect(exec_url(client, container, "true"))
    sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
    sock.settimeout(20)
    with contextlib.suppress(ConnectionError):
        assert sock.recv(100) == b""
    sock.close()


@pytest.mark.parametrize("settings, words", [
    ('address = "0.0.0.0"', "cri.streaming.address: 0.0.0.0: expected a loopback address, or tls_cert and tls_key"),
    ('address = "::"', "cri.streaming.address"),
    ('address = "localhost"', "expected an IP address"),
    ('tls_cert = "/x"', "cri.streaming.tls_key: expected with tls_cert"),
    ('tls_key = "/x"', "cri.streaming.tls_cert: expected with tls_key"),
    ('tls_client_ca = "/x"', "cri.streaming.tls_client_ca"),
    ('tls_cert = "/nowhere"\ntls_key = "/nowhere"', "cri.streaming.tls_cert: /nowhere"),
    ("port = 70000", "a port from 1 to 65535"),
    ("idle_timeout = 0", "cri.streaming.idle_timeout"),
    ("color = 1", "cri.streaming.color"),
])
def test_wrong_settings_are_named(settings, words):
    engine = harness.Engine(settings="[cri.streaming]\n" + settings + "\n")
    try:
        engine.start(wait=False)
        assert engine.process.wait(20) != 0
        with open(engine.log, encoding="utf-8") as log:
            assert words in log.read()
    finally:
        engine.close()


def test_a_port_that_is_taken_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        engine = harness.Engine(settings=f"[cri.streaming]\nport = {taken.getsockname()[1]}\n")
        try:
            engine.start(wait=False)
            assert engine.process.wait(20) != 0
            with open(engine.log, encoding="utf-8") as log:
                assert "Address already in use" in log.read()
        finally:
            engine.close()
