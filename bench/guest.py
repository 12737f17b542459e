"""The guest kernel beside the host's and beside gVisor: one static program natively, in a container of runf, of rung and of runsc (where
Debian sid's runs), in turns, in one run; then what a container costs, and redis with its client inside."""

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time

import common

ROUNDS = int(os.environ.get("ROUNDS", "5"))
STARTS = 30
LIMIT_S = 600


def lines(*command):
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL).stdout
    return {name: (float(p50), float(p90)) for name, p50, p90 in (line.split() for line in out.splitlines())}


def pss_kb(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))


def below(pid):
    """A process and all that descends from it."""
    yield pid
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
            for child in file.read().split():
                yield from below(int(child))


class Runtime:
    """A way to make a container of a bundle."""

    def __init__(self, name, folder, program, *options):
        self.name, self.folder = name, folder
        self.words = [program, "--root", f"{folder}/state-{name}", *options]

    def bundle(self, *args):
        """The bundle's config.json anew, for this program."""
        with open(self.folder + "/bundle/config.json", encoding="utf-8") as file:
            config = json.load(file)
        config["process"]["args"] = list(args)
        with open(self.folder + "/bundle/config.json", "w", encoding="utf-8") as file:
            json.dump(config, file)

    def run(self, *args, options=()):
        self.bundle(*args)
        return [*self.words, "run", *options, "--bundle", self.folder + "/bundle", "bench"]

    def works(self, *args):
        """Whether guest_ops comes to its end in it."""
        try:
            done = subprocess.run(self.run("/bin/guest_ops", *args), check=False, timeout=120, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            return False
        finally:
            subprocess.run([*self.words, "delete", "--force", "bench"], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return done.returncode == 0

    def idle_mb(self):
        """Pss of everything that an idle container has, its caller not counted in."""
        before = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        subprocess.run(self.run("/bin/busybox", "sleep", "300", options=["--detach"]), check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=LIMIT_S)
        try:
            time.sleep(2)
            pid = json.loads(subprocess.run([*self.words, "state", "bench"], check=True, stdout=subprocess.PIPE).stdout)["pid"]
            # runsc's gofer is the sandbox's sibling: what was not there before and runs the same program.
            program = os.path.realpath(self.words[0])
            family = set(below(pid))
            for other in {int(name) for name in os.listdir("/proc") if name.isdigit()} - before:
                try:
                    if os.path.realpath(f"/proc/{other}/exe") == program:
                        family.add(other)
                except OSError:
                    pass
            return sum(pss_kb(member) for member in family) / 1024
        finally:
            subprocess.run([*self.words, "delete", "--force", "bench"], check=False, stdout=subprocess.DEVNULL)


def write_bundle(folder):
    rung = os.path.join(common.BIN, "rung")
    root = folder + "/bundle/rootfs"
    for name in ("bin", "tmp", "proc", "dev", "sys"):
        os.makedirs(f"{root}/{name}")
    shutil.copy(os.path.join(common.BIN, "guest_ops"), root + "/bin/guest_ops")
    shutil.copy("/bin/busybox", root + "/bin/busybox")
    subprocess.run([rung, "spec", "--bundle", folder + "/bundle"], check=True)
    path = folder + "/bundle/config.json"
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    config["process"]["terminal"] = False
    config["root"]["readonly"] = False
    config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]})
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file)


def find_runsc(folder):
    """Debian sid's: on the first of its platforms where a program starts, and whether the operations come to their end there."""
    program = common.TREE + "/usr/bin/runsc"
    version = subprocess.run([program, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()[2]
    for platform in ("systrap", "ptrace"):
        runtime = Runtime("runsc", folder, program, "--platform=" + platform, "--network=none", "--ignore-cgroups")
        if runtime.works("true"):
            whole = runtime.works()
            print(f"runsc {version} of Debian sid, platform {platform}" + ("" if whole else ": it ends in the operations, and is left out there"))
            return runtime, whole
    print(f"runsc {version} of Debian sid does not run here")
    return None, False


def operations(runtimes):
    ops, probe = (os.path.join(common.BIN, name) for name in ("guest_ops", "guest_probe"))
    rounds = []
    for _ in range(ROUNDS):
        turn = {"bare": lines(probe), "native": lines(ops)}
        for runtime in runtimes:
            turn[runtime.name] = lines(*runtime.run("/bin/guest_ops"))
        rounds.append(turn)

    def middle(which, name, at):
        return statistics.median(turn[which][name][at] for turn in rounds)

    names = ["native", *(runtime.name for runtime in runtimes)]
    print(f"\noperations, medians of {ROUNDS} rounds in turns (ns)\n")
    print(f"{'operation':<18}" + "".join(f"{name + ' p50':>13}" for name in names) + f"{'rung p90/p50':>14}{'rung/native':>13}"
          + (f"{'rung/runsc':>12}" if "runsc" in names else ""))
    for name in rounds[0]["native"]:
        p50 = {which: middle(which, name, 0) for which in names}
        row = f"{name:<18}" + "".join(f"{p50[which]:>13.0f}" for which in names)
        row += f"{middle('rung', name, 1) / p50['rung']:>14.2f}{p50['rung'] / p50['native']:>13.1f}"
        print(row + (f"{p50['rung'] / p50['runsc']:>12.2f}" if "runsc" in names else ""))
    bare = middle("bare", "getppid", 0)
    print(f"\nbare notification: p50 {bare:.0f} ns, p90 {middle('bare', 'getppid', 1):.0f} ns; "
          f"rung's getppid is {middle('rung', 'getppid', 0) / bare:.2f} times it (bar 1.25)")


def starts(runtimes):
    took = {runtime.name: [] for runtime in runtimes}
    for _ in range(STARTS):
        for runtime in runtimes:
            command = runtime.run("/bin/guest_ops", "true")
            began = time.perf_counter()
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
            took[runtime.name].append((time.perf_counter() - began) * 1e3)
    print(f"\nrun of a static true, {STARTS} in turns, and an idle container\n")
    print(f"{'runtime':<10}{'p50 ms':>9}{'p90 ms':>9}{'Pss MB':>9}")
    for runtime in runtimes:
        times = sorted(took[runtime.name])
        print(f"{runtime.name:<10}{statistics.median(times):>9.1f}{times[len(times) * 9 // 10]:>9.1f}{runtime.idle_mb():>9.1f}")


def bench():
    common.peers_tree()
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(folder)
        runtimes = [Runtime(name, folder, os.path.join(common.BIN, name)) for name in ("runf", "rung")]
        runsc, whole = find_runsc(folder)
        operations([*runtimes, runsc] if whole else runtimes)
        starts([*runtimes, runsc] if runsc else runtimes)
