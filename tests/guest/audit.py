"""The host calls of a sandbox's guest threads, read from the raw_syscalls:sys_enter tracepoint, which fires only after
seccomp let a call through. usage: audit.py COMMAND...: runs it traced and prints a JSON object: per call number how often guest
threads had the host carry it out. To be run in a mount namespace of its own, as root; exits with 77 where tracefs cannot be mounted."""

import collections
import json
import os
import re
import subprocess
import sys
import tempfile
import threading

# Where src/guest/stub/layout.h puts the program that makes a thread a guest's: BOOT_GUEST_PROGRAM in STUB_BOOT.
GUEST_PROGRAM = 0x7fff00010000 + 32
SECCOMP = 317


def put(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def main():
    place = tempfile.mkdtemp()
    if subprocess.run(["mount", "-t", "tracefs", "none", place], stderr=subprocess.DEVNULL, check=False).returncode != 0:
        sys.exit(77)
    instance = f"{place}/instances/fluyt-audit-{os.getpid()}"
    try:
        os.mkdir(instance)
    except OSError:
        subprocess.run(["umount", place], check=False)
        sys.exit(77)
    seen = collections.Counter()
    guests = set()
    lost = []
    try:
        put(instance + "/buffer_size_kb", "32768")
        put(instance + "/options/event-fork", "1")
        put(instance + "/set_event_pid", str(os.getpid()))
        put(instance + "/events/raw_syscalls/sys_enter/enable", "1")
        pattern = re.compile(rb"^ *.*-(\d+) +\[.*sys_enter: NR (-?\d+) \(([^)]*)\)")

        def read():
            with open(instance + "/trace_pipe", "rb") as pipe:
                for line in pipe:
                    if b"LOST" in line:
                        lost.append(line.decode())
                    if b"fluyt-audit-end" in line:
                        return
                    found = pattern.match(line)
                    if not found:
                        continue
                    thread, number = int(found[1]), int(found[2])
                    if thread in guests:
                        seen[number] += 1
                    elif number == SECCOMP and int(found[3].split(b",")[2], 16) == GUEST_PROGRAM:
                        guests.add(thread)

        reader = threading.Thread(target=read)
        reader.start()
        code = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120,
                              check=False).returncode
        put(instance + "/events/raw_syscalls/sys_enter/enable", "0")
        put(instance + "/trace_marker", "fluyt-audit-end\n")
        reader.join(60)
    finally:
        os.rmdir(instance)
        subprocess.run(["umount", place], check=False)
        os.rmdir(place)
    print(json.dumps({"code": code, "guests": len(guests), "calls": seen, "lost": len(lost)}))


main()
