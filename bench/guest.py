"""The guest kernel beside the host's: the same program natively and under rung, in turns, in one run."""

import os
import shutil
import statistics
import subprocess
import tempfile
import time

import common

ROUNDS = 5


def lines(*command):
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=300).stdout
    return {name: (float(p50), float(p90)) for name, p50, p90 in (line.split() for line in out.splitlines())}


def pss_kb(pid):
    """Of a process and everything below it."""
    total = 0
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        total += next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
            total += sum(pss_kb(child) for child in file.read().split())
    return total


def bench():
    rung = os.path.join(common.BIN, "rung")
    ops, probe = (os.path.join(common.BIN, name) for name in ("guest_ops", "guest_probe"))
    with tempfile.TemporaryDirectory() as root:
        for name in ("bin", "tmp", "proc", "dev"):
            os.mkdir(f"{root}/{name}")
        shutil.copy(ops, root + "/bin/guest_ops")
        inside = (rung, "do", "--root", root, "--")
        rounds = []
        for _ in range(ROUNDS):
            rounds.append((lines(probe), lines(ops), lines(*inside, "/bin/guest_ops")))
        print(f"\nguest kernel, medians of {ROUNDS} rounds in turns (ns)\n")
        print(f"{'operation':<20}{'native p50':>12}{'rung p50':>12}{'rung p90':>12}{'rung/native':>13}{'p90/p50':>9}")

        def middle(which, name, at):
            return statistics.median(turn[which][name][at] for turn in rounds)

        for name in rounds[0][1]:
            native, p50, p90 = middle(1, name, 0), middle(2, name, 0), middle(2, name, 1)
            print(f"{name:<20}{native:>12.0f}{p50:>12.0f}{p90:>12.0f}{p50 / native:>13.1f}{p90 / p50:>9.2f}")
        bare, ours = middle(0, "getppid", 0), middle(2, "getppid", 0)
        print(f"\nbare notification: p50 {bare:.0f} ns, p90 {middle(0, 'getppid', 1):.0f} ns; rung's getppid is {ours / bare:.2f} times it (bar 1.25)")

        took = []
        for _ in range(20):
            began = time.perf_counter()
            subprocess.run([*inside, "/bin/guest_ops", "true"], check=True)
            took.append((time.perf_counter() - began) * 1e3)
        print(f"rung do true: p50 {statistics.median(took):.1f} ms, p90 {sorted(took)[17]:.1f} ms")
        shutil.copy("/bin/busybox", root + "/bin/busybox")
        sleeper = subprocess.Popen([*inside, "/bin/busybox", "sleep", "60"])
        time.sleep(1)
        print(f"idle memory of a sandbox, Pss of all its processes: {pss_kb(sleeper.pid) / 1024:.1f} MB")
        sleeper.kill()
        sleeper.wait()
