"""Prometheus' text format, read strictly: what its own parser would forgive is an error here."""

import http.client
import math
import re
import socket

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (\S+)")
SUFFIXES = ("_bucket", "_sum", "_count")


class Family:
    def __init__(self, name, help_text):
        self.name, self.help, self.type, self.samples = name, help_text, None, {}

    def value(self, suffix="", **labels):
        return self.samples[(self.name + suffix, frozenset(labels.items()))]

    def sum(self, suffix="", **labels):
        """Over all samples that have these labels."""
        return sum(value for (name, have), value in self.samples.items()
                   if name == self.name + suffix and set(labels.items()) <= have)


def parse(text):
    """{family: Family}; a ValueError says what is not as it must be."""
    families, now = {}, None
    if not text.endswith("\n"):
        raise ValueError("the last line has no end")
    for number, line in enumerate(text[:-1].split("\n"), 1):
        try:
            now = _line(line, families, now)
        except ValueError as wrong:
            raise ValueError(f"line {number}: {line!r}: {wrong}") from None
    for family in families.values():
        _check(family)
    return families


def _line(line, families, now):
    if line.startswith("# HELP "):
        name, _, help_text = line[len("# HELP "):].partition(" ")
        if not re.fullmatch(NAME, name) or name in families or not help_text:
            raise ValueError("a new name and a text were expected")
        families[name] = Family(name, help_text)
        return families[name]
    if line.startswith("# TYPE "):
        name, _, kind = line[len("# TYPE "):].partition(" ")
        if now is None or name != now.name or now.type or now.samples or kind not in ("counter", "gauge", "histogram"):
            raise ValueError("the type of the family above was expected, before its samples")
        now.type = kind
        return now
    found = SAMPLE.fullmatch(line)
    if not found:
        raise ValueError("no sample")
    name, labels, value = found.groups()
    if now is None or now.type is None:
        raise ValueError("no family above")
    allowed = [now.name + suffix for suffix in SUFFIXES] if now.type == "histogram" else [now.name]
    if name not in allowed:
        raise ValueError(f"not of the family {now.name}")
    series = (name, frozenset(_labels(labels)))
    if series in now.samples:
        raise ValueError("the series is there twice")
    now.samples[series] = float(value)
    if math.isnan(now.samples[series]):
        raise ValueError("not a number")
    return now


def _labels(text):
    out, at = [], 0
    while text and at < len(text):
        found = LABEL.match(text, at)
        if not found:
            raise ValueError(f"labels at {at}")
        out.append((found.group(1), found.group(2)))
        at = found.end()
        if found.group(3) == "," and at == len(text):
            raise ValueError("a comma at the end")
    if len({name for name, _ in out}) != len(out):
        raise ValueError("a label twice")
    return out


def _check(family):
    if family.type is None:
        raise ValueError(f"{family.name}: no type")
    if (family.type == "counter") != family.name.endswith("_total"):
        raise ValueError(f"{family.name}: _total is the end of counters' names, and of no others")
    if family.type == "counter" and any(value < 0 for value in family.samples.values()):
        raise ValueError(f"{family.name}: less than nothing")
    if family.type != "histogram":
        return
    rows = {}
    for (name, labels), value in family.samples.items():
        if name.endswith("_bucket"):
            bound = dict(labels)["le"]
            rows.setdefault(frozenset(pair for pair in labels if pair[0] != "le"), []).append((float(bound), value))
    for labels, buckets in rows.items():
        counts = [count for _, count in sorted(buckets)]
        if counts != sorted(counts) or max(buckets)[0] != math.inf:
            raise ValueError(f"{family.name}: buckets that do not add up")
        if counts[-1] != family.samples[(family.name + "_count", labels)] or (family.name + "_sum", labels) not in family.samples:
            raise ValueError(f"{family.name}: count or sum are not those of the buckets")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("fluytd", timeout=20)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(20)
        self.sock.connect(self.path)


def get(address, path="/metrics"):
    """(status, content type, text) from "unix:/PATH" or "IP:PORT"."""
    if address.startswith("unix:"):
        connection = _UnixConnection(address[len("unix:"):])
    else:
        connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read().decode()
    finally:
        connection.close()


def scrape(address):
    status, kind, text = get(address)
    if status != 200 or not kind.startswith("text/plain; version=0.0.4"):
        raise ValueError(f"{status} {kind}: {text}")
    return parse(text)
