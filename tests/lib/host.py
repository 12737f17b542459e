"""What the kernel holds of an engine: its monitors and what runs below them."""

import collections
import os

Process = collections.namedtuple("Process", "pid parent name state")


def processes():
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            continue
        rest = text.rpartition(")")[2].split()
        found.append(Process(int(name), int(rest[1]), text.split("(", 1)[1].rpartition(")")[0], rest[0]))
    return found


def monitors(state="/"):
    """{sandbox id: pid} of the monitors that run, of the engine whose folder `state` is."""
    found = {}
    for process in processes():
        if process.name != "fluyt-monitor"[:15] or process.state == "Z":
            continue
        try:
            with open(f"/proc/{process.pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        # A worker is a copy of its monitor: the monitor itself is a child of init.
        if len(words) > 2 and process.parent == 1 and words[2].decode().startswith(state):
            found[words[1].decode()] = process.pid
    return found


def monitor_pid(sandbox):
    return monitors()[sandbox]


def processes_below(pid):
    """Every process whose ancestor `pid` is."""
    table = processes()
    below, found = {pid}, []
    grown = True
    while grown:
        grown = False
        for process in table:
            if process.parent in below and process.pid not in below:
                below.add(process.pid)
                found.append(process)
                grown = True
    return found
