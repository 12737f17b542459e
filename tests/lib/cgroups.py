"""Cgroups of our own, for other people's programs to have all theirs in."""

import os
import time


def hierarchies():
    """Every cgroup mount: {mount point: the options that mount it again}."""
    found = {}
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            before, after = line.split(" - ")
            kind, _, options = after.split()[:3]
            place = before.split()[4]
            if kind == "cgroup2":
                found[place] = None
            elif kind == "cgroup":
                found[place] = ",".join(word for word in options.split(",") if word not in ("rw", "ro"))
    return found


def make_cgroups(name):
    """A cgroup of our own in every hierarchy, this process moved into it: a cgroup namespace's root."""
    for place in hierarchies():
        folder = os.path.join(place, name)
        os.mkdir(folder)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # on v1 a new one has none and takes no process
            if os.path.exists(f"{folder}/{setting}") and os.path.exists(f"{folder}/tasks"):
                with open(f"{place}/{setting}", encoding="ascii") as source, open(f"{folder}/{setting}", "w",
                                                                                 encoding="ascii") as target:
                    target.write(source.read())
        with open(folder + "/cgroup.procs", "w", encoding="ascii") as file:
            file.write(str(os.getpid()))


def remove_cgroups(name):
    """Returns what did not go away."""
    end = time.monotonic() + 10
    while True:
        left = []
        for place in hierarchies():
            for folder, _, _ in os.walk(os.path.join(place, name), topdown=False):
                try:
                    os.rmdir(folder)
                except OSError as why:
                    left.append(f"{folder}: {why.strerror}")
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.1)


def limit(name, pids, memory):
    """At most so many processes, and bytes of memory, in the cgroup `name` of make_cgroups(), where the host has the controllers."""
    for place in hierarchies():
        for setting, value in (("pids.max", pids), ("memory.max", memory), ("memory.limit_in_bytes", memory)):
            path = os.path.join(place, name, setting)
            if os.path.exists(path):
                with open(path, "w", encoding="ascii") as file:
                    file.write(str(value))
