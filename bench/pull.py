"""Pulls side by side: fluyt, containerd and podman from one registry on loopback, each onto a file system made new for the run.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time

import common
import images_of_usr

import harness  # found in tests/lib, which common names

RUNS = int(os.environ.get("FLUYT_BENCH_RUNS", "7"))
PLACE = common.TREE + "/run/bench/pull"
DISK = os.path.join(common.ROOT, "build", "bench", "pull.disk")
CGROUP = "/fluyt-bench-pull"

CONTAINERD = """version = 3
root = "/run/bench/pull/disk/root"
state = "/run/bench/pull/state"
[grpc]
  address = "/run/bench/pull/containerd.sock"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "/run/bench/pull/certs.d"
"""


class Meter:
    """CPU time of an engine and all its children: they live in a cgroup of their own."""

    def __init__(self):
        self.folder = next(top for top in harness.cgroup_tops() if top.endswith("cpuacct")) + CGROUP

    def __enter__(self):
        os.makedirs(self.folder, exist_ok=True)
        return self

    def join(self):
        with open(self.folder + "/cgroup.procs", "w", encoding="ascii") as file:
            file.write("0")

    def cpu_ns(self):
        with open(self.folder + "/cpuacct.usage", encoding="ascii") as file:
            return int(file.read())

    def pss_kb(self):
        """Proportional set sizes of all its processes."""
        total = 0
        with open(self.folder + "/cgroup.procs", encoding="ascii") as file:
            pids = file.read().split()
        for pid in pids:
            with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                total += next((int(line.split()[1]) for line in file if line.startswith("Pss:")), 0)
        return total

    def __exit__(self, *error):
        harness.wait_for(lambda: not open(self.folder + "/cgroup.procs", encoding="ascii").read(), "the engine's processes to end")
        os.rmdir(self.folder)


class Peak(threading.Thread):
    """The most memory that an engine had while it is a context, looked at every 20 ms; used in a run that is not timed."""

    def __init__(self, meter):
        super().__init__(daemon=True)
        self.meter, self.idle, self.most, self.ended = meter, meter.pss_kb(), 0, threading.Event()

    def run(self):
        while not self.ended.wait(0.02):
            self.most = max(self.most, self.meter.pss_kb())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.ended.set()
        self.join()

    def above_idle_mb(self):
        return (self.most - self.idle) / 1024


class CriEngine:
    """What fluytd and containerd have in common: a daemon and a PullImage. A context, which ends what was started however far that came."""

    def __init__(self, command, socket):
        self.command, self.socket = command, socket
        self.ends = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as ends:
            self.start(ends)
            self.ends = ends.pop_all()
        return self

    def __exit__(self, *error):
        self.ends.close()

    def start(self, ends):
        import cri
        ends.callback(shutil.rmtree, PLACE + "/state", ignore_errors=True)
        log = ends.enter_context(open(PLACE + "/log", "ab"))
        self.meter = ends.enter_context(Meter())
        process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=self.meter.join)
        ends.callback(harness.stop_process, process)
        harness.wait_for(lambda: os.path.exists(self.socket), "the engine's socket")
        self.client = ends.enter_context(contextlib.closing(cri.Client(self.socket, PLACE + "/logs")))
        harness.wait_for(self.answers, "the engine to answer")
        self.client.images.ListImages(cri.pb.ListImagesRequest())
        time.sleep(0.5)

    def answers(self):
        import cri
        with contextlib.suppress(cri.grpc.RpcError):
            self.client.images.ListImages(cri.pb.ListImagesRequest(), timeout=5)
            return True
        return False

    def pull(self, image):
        self.client.pull(image)


class Fluyt(CriEngine):
    name = "fluyt"
    form = "directory"

    def __init__(self, disk):
        socket = PLACE + "/fluyt.sock"
        os.makedirs(PLACE + "/net.d", exist_ok=True)
        with open(PLACE + "/fluytd.toml", "w", encoding="utf-8") as file:
            file.write(f'[image]\nlayer_form = "{self.form}"\n')
        super().__init__([common.BIN + "/fluytd", "--root", disk + "/root", "--state", PLACE + "/state", "--listen", "unix:" + socket,
                          "--certs-dir", PLACE + "/certs.d", "--cni-conf-dir", PLACE + "/net.d", "--config", PLACE + "/fluytd.toml"], socket)


class FluytErofs(Fluyt):
    """Each layer one EROFS image."""

    name = "fluyt-erofs"
    form = "erofs"


class Containerd(CriEngine):
    name = "containerd"

    def __init__(self, disk):
        with open(PLACE + "/containerd.toml", "w", encoding="utf-8") as file:
            file.write(CONTAINERD)
        super().__init__(["chroot", common.TREE, "containerd", "-c", "/run/bench/pull/containerd.toml"], PLACE + "/containerd.sock")


class Podman:
    """No daemon: each pull is a program, and its idle memory is nothing."""

    name = "podman"

    def __init__(self, disk):
        self.meter = Meter()

    def __enter__(self):
        self.meter.__enter__()
        return self

    def __exit__(self, *error):
        self.meter.__exit__(*error)

    def pull(self, image):
        place = "/run/bench/pull"
        subprocess.run(["chroot", common.TREE, "podman", "--root", place + "/disk/root", "--runroot", place + "/runroot", "--storage-driver",
                        "overlay", "--cgroup-manager", "cgroupfs", "pull", "-q", "--tls-verify=false", image], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=self.meter.join)


def pull_once(engine_type, image, want_memory=False):
    with contextlib.ExitStack() as ends:
        disk = ends.enter_context(common.fresh_disk(PLACE + "/disk", DISK))
        handle = os.open(disk, os.O_RDONLY | os.O_DIRECTORY)
        ends.callback(os.close, handle)
        engine = ends.enter_context(engine_type(disk))
        with Peak(engine.meter) if want_memory else contextlib.nullcontext() as peak:
            cpu, began = engine.meter.cpu_ns(), time.perf_counter_ns()
            engine.pull(image)
            usable = time.perf_counter_ns() - began
        used = engine.meter.cpu_ns() - cpu
        began = time.perf_counter_ns()
        syncfs(handle)
        return {"usable": usable, "durable": usable + time.perf_counter_ns() - began, "cpu": used,
                "memory": peak.above_idle_mb() if peak else None}


def syncfs(handle):
    import ctypes
    if ctypes.CDLL(None, use_errno=True).syncfs(handle) != 0:
        raise OSError(ctypes.get_errno(), "syncfs")


def bench(versions):
    parts = images_of_usr.layers()
    os.makedirs(PLACE, exist_ok=True)
    chosen_engines = os.environ.get("FLUYT_BENCH_ENGINES", "fluyt,fluyt-erofs,containerd,podman").split(",")
    engines = [engine for engine in (Fluyt, FluytErofs, Containerd, Podman) if engine.name in chosen_engines]
    with contextlib.ExitStack() as ends:
        ends.callback(shutil.rmtree, PLACE, ignore_errors=True)
        registry = harness.Registry(PLACE + "/registry")
        ends.callback(registry.stop)
        os.makedirs(f"{PLACE}/certs.d/{registry.address}", exist_ok=True)
        with open(f"{PLACE}/certs.d/{registry.address}/hosts.toml", "w", encoding="utf-8") as file:
            file.write(f'server = "http://{registry.address}"\n')
        images = {"four layers, gzip": ("four", "gz"), "four layers, zstd": ("four", "zst"),
                  "ten layers, gzip": ("ten", "gz"), "50,000 small files, gzip": ("small", "gz")}
        chosen = os.environ.get("FLUYT_BENCH_IMAGES")
        for title, (name, form) in images.items():
            if chosen and f"{name}-{form}" not in chosen.split(","):
                continue
            image = images_of_usr.push(registry.address, f"bench/{name}-{form}", parts[name], form)
            packed, plain = (sum(value) / 1e6 for value in ([part[form]["size"] for part in parts[name]],
                                                            [part["bytes"] for part in parts[name]]))
            memory = {engine: pull_once(engine, image, True)["memory"] for engine in engines}
            runs = {engine: [] for engine in engines}
            for turn in range(RUNS):
                for engine in engines if turn % 2 == 0 else engines[::-1]:
                    runs[engine].append(pull_once(engine, image))
            report(f"pull of {title}: {packed:.0f} MB packed, {plain:.0f} MB in tars; median of {RUNS}", engines, runs, memory, versions)


def report(title, engines, runs, memory, versions):
    """Medians, and beside each peer's the ratio of ours to it, in both forms."""
    keys = ("usable", "durable", "cpu")
    medians = {engine: {key: common.median([run[key] for run in runs[engine]]) / 1e9 for key in keys} for engine in engines}
    ours = [engine for engine in engines if issubclass(engine, Fluyt)]
    rows = []
    for engine in engines:
        ratios = [" / ".join(f"{medians[mine][key] / medians[engine][key]:.2f}" for mine in ours) for key in keys]
        rows.append([f"{engine.name} {versions.get(engine.name, '')}".strip(), *[f"{medians[engine][key]:.2f}" for key in keys],
                     f"{memory[engine]:.0f}", *(["", "", ""] if engine in ours else ratios)])
    names = " / ".join(engine.name for engine in ours)
    common.table(title, rows, ["engine", "usable s", "durable s", "CPU s", "MB above idle", f"usable: {names} to it", "durable", "CPU"])
