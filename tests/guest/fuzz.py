"""Sandboxes of rung with a guest in them that asks for anything (tests/guest/fuzz.cc), one after the other for SECONDS. What has to hold:
the guest kernel neither crashes nor hangs, keeps no descriptor and no memory of what has ended, ends when it is told to, and a sandbox
beside it notices nothing. As root, at low priority, within cgroups of its own.

usage: fuzz.py SECONDS [--build FOLDER [--guest FOLDER]] [--seed N] [--workers N] [--round SECONDS] [--calls]"""

import argparse
import collections
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TASKS = 250                 # of the guest's
HOST_TASKS = 4 * TASKS + 64
MEMORY = 1 << 30
# What may be more at one epoch's end than at the first's. Descriptors: the guest kernel keeps some for the next (stubs, names).
MORE_DESCRIPTORS = 100
TMPFS_FILE = "/memfd:guest-file"
MORE_MEMORY_KB = 150 << 10


def text_of(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


class Cgroup:
    """A pids and a memory limit, on v1 and v2."""

    def __init__(self, name):
        tops = [top for top in glob.glob("/sys/fs/cgroup/*") + ["/sys/fs/cgroup"] if os.path.exists(top + "/cgroup.procs")]
        self.folders = []
        for top in tops:
            folder = f"{top}/{name}"
            os.makedirs(folder, exist_ok=True)
            limits = {"pids.max": HOST_TASKS, "memory.limit_in_bytes": MEMORY, "memory.max": MEMORY}
            found = False
            for file, limit in limits.items():
                if os.path.exists(f"{folder}/{file}"):
                    with open(f"{folder}/{file}", "w", encoding="ascii") as out:
                        out.write(str(limit))
                    found = True
            if found:
                self.folders.append(folder)
            else:
                os.rmdir(folder)

    def enter(self):
        for folder in self.folders:
            with open(folder + "/cgroup.procs", "w", encoding="ascii") as out:
                out.write(str(os.getpid()))

    def processes(self):
        return {int(pid) for folder in self.folders for pid in text_of(folder + "/cgroup.procs").split()}

    def usage(self):
        found = [text_of(folder + "/" + name).strip() for folder in self.folders for name in ("memory.usage_in_bytes", "memory.current")]
        return next((int(value) >> 10 for value in found if value), 0)

    def remove(self):
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        for folder in self.folders:
            for _ in range(100):
                try:
                    os.rmdir(folder)
                    break
                except OSError:
                    time.sleep(0.05)


def resident_kb(pid):
    found = re.search(r"VmRSS:\s+(\d+)", text_of(f"/proc/{pid}/status"))
    return int(found[1]) if found else 0


def descriptors(pid):
    """What descriptors of a process lead to, and how many to each. Files of a tmpfs are a descriptor each, and stay as long as they have a name."""
    kinds = collections.Counter()
    for fd in glob.glob(f"/proc/{pid}/fd/*"):
        try:
            kinds[re.sub(r":?\[?\d+\]?( \(deleted\))?$", "", os.readlink(fd))] += 1
        except OSError:
            pass
    return kinds


class Neighbour:
    """A sandbox that does a little all the time, and says so."""

    def __init__(self, rung, root, folder):
        self.out = open(folder + "/neighbour", "w+", encoding="ascii")
        self.process = subprocess.Popen([rung, "do", "--root", root, "--", "/bin/busybox", "sh", "-c",
                                         "i=0; while :; do echo $i | /bin/busybox cat; i=$((i+1)); /bin/busybox sleep 0.2; done"],
                                        stdin=subprocess.DEVNULL, stdout=self.out, stderr=subprocess.STDOUT)

    def check(self):
        """How many lines it has said; every one the next number."""
        assert self.process.poll() is None, f"the sandbox beside has ended: {self.process.returncode}"
        self.out.seek(0)
        lines = self.out.read().split("\n")[:-1]
        assert lines == [str(i) for i in range(len(lines))], f"the sandbox beside says {lines[-3:]}"
        return len(lines)

    def close(self):
        self.process.kill()
        self.process.wait()


class Round:
    def __init__(self, options, folder, seed):
        self.rung = os.path.join(options.build, "bin", "rung")
        self.options, self.seed, self.folder = options, seed, folder
        self.failures, self.epochs, self.totals = [], [], collections.Counter()
        self.output = []

    def fail(self, what):
        self.failures.append(f"seed {self.seed}: {what}")

    def run(self, seconds, kill_at_end):
        root = f"{self.folder}/root-{self.seed}"
        for name in ("bin", "tmp", "etc", "w", "proc", "dev", "sys"):
            os.makedirs(f"{root}/{name}")
        shutil.copy(os.path.join(self.options.guest or self.options.build, "guest", "guest_fuzz"), root + "/bin/guest_fuzz")
        group = Cgroup(f"fluyt-fuzz-{os.getpid()}-{self.seed}")
        with open(f"{self.folder}/errors-{self.seed}", "wb+") as errors:
            program = subprocess.Popen([self.rung, "do", "--root", root, "--pids", str(TASKS), "--", "/bin/guest_fuzz", str(self.seed), str(seconds),
                                        str(self.options.workers)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
                                       errors="replace", preexec_fn=group.enter)
            reader = threading.Thread(target=self.read, args=(program, group))
            reader.start()
            # Told to end at any moment, or ending by itself; then with what it may take to end everybody.
            patience = seconds * (0.3 + 0.05 * (self.seed % 10)) if kill_at_end else seconds + 150
            try:
                code = program.wait(timeout=patience)
                if kill_at_end or code != 0:
                    self.fail(f"ended with {code}")
            except subprocess.TimeoutExpired:
                if not kill_at_end:
                    self.fail("did not come to its end")
                    self.describe(program.pid)
                program.kill()
                program.wait()
            deadline = time.monotonic() + 10
            while group.processes() and time.monotonic() < deadline:
                time.sleep(0.05)
            if left := group.processes():
                self.fail(f"{len(left)} processes outlive their sentry: {[text_of(f'/proc/{pid}/comm').strip() for pid in left][:5]}")
            reader.join(10)
            errors.seek(0)
            told = errors.read().decode(errors="replace").strip()
        if told:
            self.fail("said: " + told[-6000:])
        self.look_at_growth()
        group.remove()
        shutil.rmtree(root, ignore_errors=True)

    def describe(self, pid):
        print(f"  state: {text_of(f'/proc/{pid}/wchan')}, {len(glob.glob(f'/proc/{pid}/task/*'))} threads", flush=True)
        gdb = shutil.which("gdb")
        if gdb:
            subprocess.run([gdb, "-p", str(pid), "-batch", "-ex", "thread apply all bt 12"], check=False, stderr=subprocess.DEVNULL)

    def read(self, program, group):
        for line in program.stdout:
            words = line.split()
            if line.startswith("epoch ") and len(words) > 4:
                self.epochs.append((descriptors(program.pid), resident_kb(program.pid), len(os.listdir(f"/proc/{program.pid}/task")), group.usage(),
                                    int(words[2])))
            elif len(words) == 3 and words[1].isdigit() and words[2].isdigit():
                self.totals[words[0]] += int(words[1])
                self.totals[words[0] + " done"] += int(words[2])
            elif not line.startswith("survived"):
                self.output.append(line.strip()[:200])
                if line.startswith("stuck"):
                    self.fail(line.strip())
                    self.describe(program.pid)

    def look_at_growth(self):
        if len(self.epochs) < 3:
            return
        first, last = self.epochs[0], self.epochs[-1]
        grown = {kind: [epoch[0][kind] for epoch in self.epochs] for kind in last[0]
                 if kind != TMPFS_FILE and last[0][kind] > first[0][kind] + MORE_DESCRIPTORS}
        if grown:
            self.fail(f"descriptors of the sentry at the ends of epochs: {grown}")
        if last[1] > first[1] + MORE_MEMORY_KB:
            self.fail(f"resident KB of the sentry at the ends of epochs: {[epoch[1] for epoch in self.epochs]}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("seconds", type=int)
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"))
    parser.add_argument("--guest", help="the build that the guest is taken from, which has to be static (default: the same)")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 1000000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--round", type=int, default=60)
    parser.add_argument("--calls", action="store_true", help="print how often each call was made, and how often it gave no error")
    options = parser.parse_args()
    os.nice(19)
    try:
        os.setsid()  # a group of its own for the scheduler too: not the one of the shell that we were started from
        with open("/proc/self/autogroup", "w", encoding="ascii") as file:
            file.write("19")
    except OSError:
        pass
    failures, totals = [], collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        quiet = folder + "/quiet"
        for name in ("bin", "tmp", "proc", "dev", "sys"):
            os.makedirs(f"{quiet}/{name}")
        shutil.copy("/bin/busybox", quiet + "/bin/busybox")
        neighbour = Neighbour(os.path.join(options.build, "bin", "rung"), quiet, folder)
        end = time.monotonic() + options.seconds
        seed = options.seed
        said = 0
        try:
            while (left := end - time.monotonic()) > 1:
                one = Round(options, folder, seed)
                # Every third is told to end in its midst.
                one.run(max(1, int(min(left, options.round))), kill_at_end=seed % 3 == 2)
                now = neighbour.check()
                if now <= said:
                    one.fail("the sandbox beside stands still")
                said = now
                last = one.epochs[-1] if one.epochs else ()
                if last:
                    last = f"{sum(last[0].values())} descriptors, {last[1]} KB resident, {last[2]} threads, {last[3]} KB of the cgroup, {last[4]} calls"
                print(f"seed {seed}: {last}; {len(one.failures)} faults", flush=True)
                for failure in one.failures:
                    print("  " + failure.replace("\n", "\n  "), flush=True)
                failures += one.failures
                totals += one.totals
                seed += 1
        finally:
            neighbour.close()
    if options.calls:
        for name in sorted(name for name in totals if not name.endswith(" done")):
            print(f"{name:24} {totals[name]:10} {totals[name + ' done']:10}")
    print(f"{seed - options.seed} sandboxes, {len(failures)} faults")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
