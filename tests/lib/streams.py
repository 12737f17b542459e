"""Clients of the streaming server: a WebSocket one as small as can be, and raw sockets for what no client should send."""

import base64
import json
import os
import socket
import struct
import urllib.parse

IN, OUT, ERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255


def connect(url, timeout=30):
    """A socket to the server of `url`, and the path to ask for."""
    parts = urllib.parse.urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout), parts.path


def ask(url, headers, method="GET", wrap=None):
    """Sends the head of a request: (socket, status, headers of the answer, what came behind them)."""
    plain, path = connect(url)
    sock = wrap(plain) if wrap else plain
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in headers)]
    sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        piece = sock.recv(4096)
        if not piece:
            raise ConnectionError(f"the answer ended after {head!r}")
        head += piece
    head, rest = head.split(b"\r\n\r\n", 1)
    first, *fields = head.decode().split("\r\n")
    answer = {name.strip().lower(): value.strip() for name, value in (field.split(":", 1) for field in fields)}
    return sock, int(first.split()[1]), answer, rest


def refusal(url, headers, method="GET"):
    """(status, text) of an answer that is no upgrade."""
    sock, status, answer, text = ask(url, headers, method)
    with sock:
        while len(text) < int(answer.get("content-length", 0)):
            text += sock.recv(4096)
    return status, text.decode()


SPDY = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")]


def upgrade_to_spdy(url, *versions):
    """A socket on which SPDY is spoken from here on."""
    sock, status, answer, rest = ask(url, SPDY + [("X-Stream-Protocol-Version", name) for name in versions], "POST")
    assert status == 101 and not rest, (status, rest)
    if versions:
        assert answer["x-stream-protocol-version"] in versions
    return sock


class WebSocket:
    """One connection; `protocol` may be None, to ask for none."""

    def __init__(self, url, protocol="v5.channel.k8s.io", wrap=None):
        headers = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
                   ("Sec-WebSocket-Key", base64.b64encode(os.urandom(16)).decode())]
        if protocol:
            headers.append(("Sec-WebSocket-Protocol", protocol))
        self.sock, status, answer, self.pending = ask(url, headers, wrap=wrap)
        assert status == 101, (status, self.pending)
        assert answer.get("sec-websocket-protocol") == protocol
        self.base64 = bool(protocol) and "base64" in protocol
        self.close_code = None

    def send_frame(self, opcode, data, final=True):
        mask = os.urandom(4)
        size = len(data)
        head = bytes([opcode | (0x80 if final else 0)])
        if size < 126:
            head += bytes([0x80 | size])
        elif size < 1 << 16:
            head += bytes([0x80 | 126]) + struct.pack(">H", size)
        else:
            head += bytes([0x80 | 127]) + struct.pack(">Q", size)
        repeated = (mask * (size // 4 + 1))[:size]
        masked = (int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")
        self.sock.sendall(head + mask + masked)

    def send(self, channel, data=b""):
        if self.base64:
            self.send_frame(1, str(channel).encode() + base64.b64encode(data))
        else:
            self.send_frame(2, bytes([channel]) + data)

    def _take(self, size):
        while len(self.pending) < size:
            piece = self.sock.recv(1 << 16)
            if not piece:
                raise ConnectionError("the connection ended within a frame")
            self.pending += piece
        taken, self.pending = self.pending[:size], self.pending[size:]
        return taken

    def frame(self):
        """(opcode, payload) of the next frame."""
        first, second = self._take(2)
        assert not second & 0x80, "a server must not mask"
        size = second & 0x7F
        if size == 126:
            size, = struct.unpack(">H", self._take(2))
        elif size == 127:
            size, = struct.unpack(">Q", self._take(8))
        return first & 0x0F, self._take(size)

    def messages(self):
        """(channel, bytes) until the server closes."""
        while True:
            opcode, data = self.frame()
            if opcode == 8:
                self.close_code = struct.unpack(">H", data[:2])[0] if data else None
                self.send_frame(8, data)
                self.sock.close()
                return
            if opcode in (1, 2):
                if self.base64:
                    yield int(data[:1]), base64.b64decode(data[1:])
                else:
                    yield data[0], data[1:]

    def collect(self):
        """Everything to the end: (output, errors, what the error channel said)."""
        got = {OUT: b"", ERR: b"", ERROR: b""}
        pieces = {channel: [] for channel in got}
        for channel, data in self.messages():
            pieces[channel].append(data)
        return tuple(b"".join(pieces[channel]) for channel in got)

    def outcome(self):
        """As collect, the last as the exit code: 0, a number, or the message of another failure."""
        out, err, status = self.collect()
        status = json.loads(status)
        if status["status"] == "Success":
            return out, err, 0
        if status.get("reason") == "NonZeroExitCode":
            cause, = status["details"]["causes"]
            assert cause["reason"] == "ExitCode"
            return out, err, int(cause["message"])
        return out, err, status["message"]

    def close(self):
        self.sock.close()
