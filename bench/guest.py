"""The guest kernel beside the host's and beside gVisor: one static program natively, in a container of runf, of rung and of runsc (where
Debian sid's runs), in turns, in one run, on the machine as it is and with two busy processes beside; then redis with its client inside, and
what a container costs."""

import contextlib
import csv
import io
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
BUSY = 2  # processes that take all the time they get, for the rows under load
REDIS = ("redis-server", "redis-cli", "redis-benchmark")
REDIS_CLIENTS = 20
REDIS_REQUESTS = int(os.environ.get("REDIS_REQUESTS", "20000"))
LATENCY = ("p50_latency_ms", "p95_latency_ms")


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
            self.delete()
        return done.returncode == 0

    def idle_mb(self):
        """Pss of everything that an idle container has, its caller not counted in."""
        before = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        try:
            subprocess.run(self.run("/bin/busybox", "sleep", "300", options=["--detach"]), check=True, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=LIMIT_S)
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
            self.delete()

    def delete(self):
        """What a run left that did not come to its end."""
        subprocess.run([*self.words, "delete", "--force", "bench"], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def copy_program(path, root):
    """A program of the host's into /bin, with the libraries that it is linked with where they are on the host."""
    shutil.copy(path, root + "/bin")
    for word in subprocess.run(["ldd", path], check=True, stdout=subprocess.PIPE, text=True).stdout.split():
        if word.startswith("/"):
            os.makedirs(root + os.path.dirname(word), exist_ok=True)
            shutil.copy(word, root + word)


def write_bundle(folder):
    rung = os.path.join(common.BIN, "rung")
    root = folder + "/bundle/rootfs"
    for name in ("bin", "tmp", "proc", "dev", "sys"):
        os.makedirs(f"{root}/{name}")
    shutil.copy(os.path.join(common.BIN, "guest_ops"), root + "/bin/guest_ops")
    shutil.copy("/bin/busybox", root + "/bin/busybox")
    for name in filter(shutil.which, REDIS):
        copy_program(shutil.which(name), root)
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


@contextlib.contextmanager
def busy():
    """Processes beside that never sleep."""
    with contextlib.ExitStack() as ends:
        for _ in range(BUSY):
            process = subprocess.Popen([os.path.join(common.BIN, "guest_ops"), "spin"])
            ends.callback(process.wait)
            ends.callback(process.kill)
        yield


SCENES = (("as it is", contextlib.nullcontext), (f"{BUSY} busy processes beside", busy))


def quantiles(values):
    """p50 and p90; of few values p90 is the largest but one, or the largest."""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, len(ordered) * 9 // 10)]


def operations(runtimes):
    for scene, load in SCENES:
        with load():
            operations_in(scene, runtimes)


def operations_in(scene, runtimes):
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
    print(f"\noperations, machine {scene}, medians of {ROUNDS} rounds in turns (ns)\n")
    print(f"{'operation':<18}" + "".join(f"{name + ' ' + at:>13}" for name in names for at in ("p50", "p90")) + f"{'rung/native':>13}{'p90s':>7}"
          + (f"{'rung/runsc':>12}" if "runsc" in names else ""))
    for name in rounds[0]["native"]:
        p50, p90 = ({which: middle(which, name, at) for which in names} for at in (0, 1))
        row = f"{name:<18}" + "".join(f"{value[which]:>13.0f}" for which in names for value in (p50, p90))
        row += f"{p50['rung'] / p50['native']:>13.1f}{p90['rung'] / p90['native']:>7.1f}"
        print(row + (f"{p50['rung'] / p50['runsc']:>12.2f}" if "runsc" in names else ""))
    bare, own = (middle(which, "getppid", 0) for which in ("bare", "rung"))
    print(f"\nbare notification: p50 {bare:.0f} ns, p90 {middle('bare', 'getppid', 1):.0f} ns; rung's getppid is {own / bare:.2f} times it (bar 1.25), "
          f"its p90/p50 {middle('rung', 'getppid', 1) / own:.2f} (bar 1.3)")


REDIS_SCRIPT = f"""
{{bin}}redis-server --port 7379 --save '' --appendonly no --dir {{folder}} >/dev/null &
until {{bin}}redis-cli -p 7379 ping >/dev/null 2>&1; do {{sleep}} 0.1; done
{{bin}}redis-benchmark -p 7379 -c {REDIS_CLIENTS} -n {REDIS_REQUESTS} -t set,get -d 64 --csv
kill -9 $!
"""


def redis_rows(command):
    """What redis-benchmark says: requests per second, and its own quantiles of their latency."""
    out = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL).stdout
    rows = {row["test"]: {name: float(value) for name, value in row.items() if name != "test"} for row in csv.DictReader(io.StringIO(out))}
    if not {"GET", "SET"} <= set(rows):
        raise RuntimeError(f"{command[0]}: redis-benchmark did not come to its end: {out!r}")
    return rows


def redis(runtimes, folder):
    """Server and client in one container, beside both on the host."""
    if missing := [name for name in REDIS if not shutil.which(name)]:
        print("\nredis is not measured: the machine lacks", ", ".join(missing))
        return
    native = ["/bin/sh", "-c", REDIS_SCRIPT.format(bin="", folder=folder, sleep="sleep")]
    inside = ["/bin/busybox", "sh", "-c", REDIS_SCRIPT.format(bin="/bin/", folder="/tmp", sleep="/bin/busybox sleep")]
    for scene, load in SCENES:
        took = {name: [] for name in ("native", *(runtime.name for runtime in runtimes))}
        with load():
            for _ in range(ROUNDS):
                # On a network of its own, as the containers are.
                took["native"].append(redis_rows(["unshare", "--net", "/bin/sh", "-c", 'ip link set lo up && exec "$@"', "sh", *native]))
                for runtime in runtimes:
                    took[runtime.name].append(redis_rows(runtime.run(*inside)))
        print(f"\nredis-benchmark -c {REDIS_CLIENTS} -n {REDIS_REQUESTS}, both inside, machine {scene}, medians of {ROUNDS} rounds in turns\n")
        print(f"{'test':<6}{'where':<9}{'requests/s':>12}{'slow round':>12}{'p50 ms':>9}{'p95 ms':>9}{'of native':>11}")
        for test in ("GET", "SET"):
            whole = statistics.median(rows[test]["rps"] for rows in took["native"])
            for name, rounds in took.items():
                speeds = [rows[test]["rps"] for rows in rounds]
                speed, slow = -quantiles([-value for value in speeds])[0], -quantiles([-value for value in speeds])[1]
                latency = [statistics.median(rows[test][at] for rows in rounds) for at in LATENCY]
                print(f"{test:<6}{name:<9}{speed:>12.0f}{slow:>12.0f}{latency[0]:>9.2f}{latency[1]:>9.2f}{speed / whole:>11.2f}")


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
        p50, p90 = quantiles(took[runtime.name])
        print(f"{runtime.name:<10}{p50:>9.1f}{p90:>9.1f}{runtime.idle_mb():>9.1f}")


def bench():
    common.peers_tree()
    with contextlib.ExitStack() as ends:
        folder = ends.enter_context(tempfile.TemporaryDirectory())
        write_bundle(folder)
        runtimes = [Runtime(name, folder, os.path.join(common.BIN, name)) for name in ("runf", "rung")]
        runsc, whole = find_runsc(folder)
        for runtime in [*runtimes, runsc] if runsc else runtimes:
            ends.callback(runtime.delete)
        operations([*runtimes, runsc] if whole else runtimes)
        if runsc and not whole:
            print("\nredis waits as well: it is not run under runsc")
        redis([*runtimes, runsc] if whole else runtimes, folder)
        starts([*runtimes, runsc] if runsc else runtimes)
