"""The calls of the CRI beside containerd: the same conflist, the same image, one client, in turns."""

import concurrent.futures
import contextlib
import glob
import json
import os
import subprocess
import threading
import time

import common

import harness  # found in tests/lib, which common names
import images

PODS = int(os.environ.get("FLUYT_BENCH_PODS", "30"))
DENSE = int(os.environ.get("FLUYT_BENCH_DENSE", "300"))
BURST = 20
PLACE = common.TREE + "/run/bench"
BRIDGES = {"fluyt": "fluyttest0", "containerd": "peertest0"}


def timed(call, *arguments):
    began = time.perf_counter_ns()
    value = call(*arguments)
    return value, time.perf_counter_ns() - began


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def on_tmpfs(folder, ends):
    """What ends with the boot lies in /run on a node, for both."""
    os.makedirs(folder, exist_ok=True)
    common.sh("mount", "-t", "tmpfs", "-o", "mode=711", "none", folder)
    ends.callback(common.sh, "umount", "-l", folder)


def start_containerd(pause, registry, ends):
    """Its socket; `ends` ends it."""
    own = PLACE + "/containerd"
    on_tmpfs(own + "/state", ends)
    os.makedirs(PLACE + "/net.d", exist_ok=True)
    network = json.loads(json.dumps(harness.BRIDGE).replace("fluyttest0", BRIDGES["containerd"]).replace("10.187", "10.188"))
    network["plugins"][0]["ipam"]["dataDir"] = "/run/bench/leases"
    with open(PLACE + "/net.d/10-test.conflist", "w", encoding="utf-8") as file:
        json.dump(network, file)
    os.makedirs(f"{PLACE}/certs.d/{registry}", exist_ok=True)
    with open(f"{PLACE}/certs.d/{registry}/hosts.toml", "w", encoding="utf-8") as file:
        file.write(f'server = "http://{registry}"\n')
    with open(PLACE + "/containerd.toml", "w", encoding="utf-8") as file:
        file.write(common.containerd_config("/run/bench/containerd", "/run/bench", "/run/bench/containerd/containerd.sock", pause))
    with open(PLACE + "/containerd.log", "wb") as log:
        process = subprocess.Popen(common.in_tree("containerd", "-c", "/run/bench/containerd.toml"), stdout=log, stderr=log)
    ends.callback(harness.stop_process, process)
    return own + "/containerd.sock"


class Held:
    """What the kernel holds for one pod, looked for by name: after StopPodSandbox no process, address or host port, after
    RemovePodSandbox no mount, cgroup, namespace or device."""

    def __init__(self, name):
        self.name = name
        self.leases = PLACE + "/leases" if name == "containerd" else None
        self.faults = []

    def look(self, stage, engine_leases, sandbox, container):
        leases = glob.glob((self.leases or engine_leases) + "/*/*")
        owners = []
        for path in leases:
            with contextlib.suppress(OSError), open(path, encoding="utf-8") as file:
                owners.append(file.read())
        found = []
        if any(sandbox in owner for owner in owners):
            found.append("an address")
        devices = json.loads(common.sh("ip", "-j", "link", "show", "master", BRIDGES[self.name], stdout=subprocess.PIPE).stdout or "[]")
        if devices:
            found.append("a device on the bridge")
        ids = [word for word in (sandbox, container) if word]
        if self.processes(ids):
            found.append("a process")
        if stage == "RemovePodSandbox":
            with open("/proc/self/mountinfo", encoding="utf-8") as file:
                if any(word in file.read() for word in ids[:1]):
                    found.append("a mount")
            if any(sandbox in name for top in glob.glob("/sys/fs/cgroup/*") for _, names, _ in os.walk(top) for name in names):
                found.append("a cgroup")
        self.faults += [f"{self.name}: {stage}: {what}" for what in found]

    def processes(self, ids):
        """Programs of the engine's that name the pod; the containers' own are found by their cgroups."""
        for folder in glob.glob("/proc/[0-9]*"):
            with contextlib.suppress(OSError):
                with open(folder + "/cmdline", "rb") as file:
                    words = file.read().decode(errors="replace")
                if not words:  # it has ended, and waits for its parent
                    continue
                with open(folder + "/cgroup", encoding="utf-8") as file:
                    words += file.read()
                if any(word in words for word in ids):
                    return True
        return False


class Bench:
    """A context, which ends what was started however far that came."""

    def __init__(self, versions):
        import cri
        self.c, self.versions = cri, versions
        self.ends = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as ends:
            self.start(PLACE + "/work", ends)
            self.ends = ends.pop_all()
        return self

    def __exit__(self, *error):
        self.ends.close()

    def start(self, work, ends):
        import critest_images
        os.makedirs(work, exist_ok=True)
        registry = harness.Registry(work + "/registry")
        ends.callback(registry.stop)
        address = registry.address
        images.push(harness.busybox_image(), address, "bench/busybox", "latest")
        pause = images.static_program(critest_images.PAUSE, work, "pause")
        images.push(images.Image([images.layer([images.Entry("pause", data=pause, mode=0o755)])],
                                 {"Entrypoint": ["/pause"]}), address, "bench/pause", "latest")
        images.push(large_image(), address, "bench/large", "latest")
        self.engine = harness.Engine()
        ends.callback(self.engine.close)
        for folder, name in ((self.engine.root, "fluyt"), (PLACE + "/containerd", "containerd")):
            ends.enter_context(common.fresh_disk(folder, os.path.join(common.ROOT, "build", "bench", name + ".disk")))
        on_tmpfs(self.engine.state, ends)
        ends.callback(self.stop_engine)
        self.engine.start()
        self.idle_kb = resident_kb(self.engine.process.pid)
        socket = start_containerd(address + "/bench/pause:latest", address, ends)
        harness.wait_for(lambda: os.path.exists(socket), "containerd's socket")
        time.sleep(2)
        self.clients = {"fluyt": self.c.Client(self.engine.socket, self.engine.folder + "/logs"),
                        "containerd": self.c.Client(socket, common.TREE + "/run/bench/logs")}
        for client in self.clients.values():
            ends.callback(client.close)
        # containerd sees the tree as its root.
        peer = self.clients["containerd"]
        plain = peer.sandbox_config

        def in_tree(name=None, **options):
            config = plain(name, **options)
            config.log_directory = config.log_directory.removeprefix(common.TREE)
            return config
        peer.sandbox_config = in_tree
        self.busybox, self.large = address + "/bench/busybox:latest", address + "/bench/large:latest"
        for client in self.clients.values():
            client.pull(self.busybox)
            client.pull(address + "/bench/pause:latest")

    def stop_engine(self):
        with contextlib.suppress(Exception):
            self.engine.remove_all()
        self.engine.stop()

    def stop_sandbox(self, client, sandbox):
        client.runtime.StopPodSandbox(self.c.pb.StopPodSandboxRequest(pod_sandbox_id=sandbox), timeout=120)

    def remove_sandbox(self, client, sandbox):
        client.runtime.RemovePodSandbox(self.c.pb.RemovePodSandboxRequest(pod_sandbox_id=sandbox), timeout=120)

    def walk(self, name, times, held=None):
        """One pod of one container through its verbs."""
        client = self.clients[name]

        def note(verb, call, *arguments):
            value, took = timed(call, *arguments)
            times.setdefault(verb, {}).setdefault(name, []).append(took)
            return value, took

        config = client.sandbox_config()
        sandbox, _ = note("RunPodSandbox", client.run_sandbox, config)
        container, created = note("CreateContainer", client.create, sandbox, config, client.container_config(self.busybox, ["sleep", "1000"]))
        _, started = note("StartContainer", client.start, container)
        times.setdefault("CreateContainer + StartContainer", {}).setdefault(name, []).append(created + started)
        for _ in range(3):
            note("ExecSync of /bin/true", client.exec, container, "/bin/true")
        note("StopContainer, no grace", client.stop, container)
        note("RemoveContainer", client.remove, container)
        _, stopped = note("StopPodSandbox", self.stop_sandbox, client, sandbox)
        if held:
            held.look("StopPodSandbox", self.engine.folder + "/leases", sandbox, container)
        _, removed = note("RemovePodSandbox", self.remove_sandbox, client, sandbox)
        times.setdefault("StopPodSandbox + RemovePodSandbox", {}).setdefault(name, []).append(stopped + removed)
        if held:
            held.look("RemovePodSandbox", self.engine.folder + "/leases", sandbox, container)

    def verbs(self):
        warm = {}
        for name in self.clients:
            for _ in range(2):
                self.walk(name, warm)
        times = {}
        held = {name: Held(name) for name in self.clients}
        for _ in range(PODS):
            for name in self.clients:
                self.walk(name, times, held[name])
        rows = [[verb, *(f"{common.median_ms(row[name]):.1f}" for name in self.clients),
                 f"{common.median_ms(row['fluyt']) / common.median_ms(row['containerd']):.3f}",
                 f"{percentile(row['fluyt'], .9) / 1e6:.1f}"] for verb, row in times.items()]
        common.table(f"CRI, one pod at a time, median of {PODS} in turns, in ms", rows,
                     ["call", "fluyt", "containerd " + self.versions["containerd"], "ratio", "fluyt p90"])
        for name in self.clients:
            faults = sorted(set(held[name].faults))
            print(f"  held after Stop and Remove by {name}: " + (", ".join(faults) if faults else "nothing"), flush=True)

    def burst(self):
        """20 pods at once, with a container each, then all of them gone."""
        rows = []
        for name, client in self.clients.items():
            def one(_):
                config = client.sandbox_config()
                sandbox = client.run_sandbox(config)
                client.run_container(sandbox, config, client.container_config(self.busybox, ["sleep", "1000"]))
                return sandbox

            def gone(sandbox):
                self.stop_sandbox(client, sandbox)
                self.remove_sandbox(client, sandbox)

            up, down = [], []
            with concurrent.futures.ThreadPoolExecutor(BURST) as pool:
                for _ in range(3):
                    sandboxes, took = timed(lambda: list(pool.map(one, range(BURST))))
                    up.append(took)
                    down.append(timed(lambda: list(pool.map(gone, sandboxes)))[1])
            rows.append([name, f"{common.median_ms(up):.0f}", f"{common.median_ms(down):.0f}"])
        common.table(f"{BURST} pods at once, in ms (median of 3)", rows, ["engine", "all running", "all removed"])

    def density(self):
        """Many pods on fluytd: what lists and memory cost."""
        client, pid = self.clients["fluyt"], self.engine.process.pid
        before = pss_kb(pid)
        sandboxes = []
        for _ in range(DENSE):
            config = client.sandbox_config()
            sandboxes.append(client.run_sandbox(config))
            client.run_container(sandboxes[-1], config, client.container_config(self.busybox, ["sleep", "100000"]))
        time.sleep(2)
        lists = {"ListPodSandbox": lambda: client.runtime.ListPodSandbox(self.c.pb.ListPodSandboxRequest()),
                 "ListContainers": lambda: client.runtime.ListContainers(self.c.pb.ListContainersRequest())}
        rows = []
        for verb, call in lists.items():
            took = [timed(call)[1] for _ in range(30)]
            rows.append([verb, f"{common.median_ms(took):.1f}", f"{percentile(took, .9) / 1e6:.1f}"])
        common.table(f"{DENSE} pods on fluytd, in ms", rows, ["call", "median", "p90"])
        helpers = sum(pss_kb(other) for other in programs("fluyt-monitor", "fluyt-pod-in"))
        rows = [["fluytd idle after its start, RSS", f"{self.idle_kb / 1024:.1f} MB"],
                [f"fluytd with {DENSE} pods, RSS", f"{resident_kb(pid) / 1024:.1f} MB"],
                ["monitors and pod inits a pod, PSS", f"{helpers / DENSE / 1024:.2f} MB"],
                ["a pod: those and fluytd's growth, PSS", f"{(helpers + pss_kb(pid) - before) / DENSE / 1024:.2f} MB"]]
        common.table("memory", rows, ["what", "how much"])
        for sandbox in sandboxes:
            self.stop_sandbox(client, sandbox)
            self.remove_sandbox(client, sandbox)

    def under_pull(self):
        """RunPodSandbox while a large image is pulled, beside the same while it is quiet."""
        rows = []
        for name, client in self.clients.items():
            def runs(going):
                took = []
                while going(len(took)):
                    sandbox, time_taken = timed(client.run_sandbox, client.sandbox_config())
                    took.append(time_taken)
                    self.stop_sandbox(client, sandbox)
                    self.remove_sandbox(client, sandbox)
                return took

            quiet = runs(lambda count: count < 60)
            busy = []
            for _ in range(3):
                pull = threading.Thread(target=client.pull, args=(self.large,))
                pull.start()
                busy += runs(lambda _, pull=pull: pull.is_alive())
                pull.join()
                client.images.RemoveImage(self.c.pb.RemoveImageRequest(image=self.c.pb.ImageSpec(image=self.large)))
                time.sleep(1)
            rows.append([name, f"{common.median_ms(quiet):.1f}", f"{percentile(quiet, .99) / 1e6:.1f}", f"{common.median_ms(busy):.1f}",
                         f"{percentile(busy, .99) / 1e6:.1f}", f"{percentile(busy, .99) / percentile(quiet, .99):.2f}", len(busy)])
        common.table("RunPodSandbox while four layers are pulled, in ms", rows,
                     ["engine", "quiet median", "quiet p99", "pulling median", "pulling p99", "p99 ratio", "pods meanwhile"])


def large_image():
    """Four layers of real files: what a language image looks like, about 200 MB of gzip."""
    layers = []
    for folder in ("/usr/share", "/usr/lib/gcc", "/usr/lib/llvm-19", "/usr/bin"):
        if os.path.isdir(folder):
            layers.append(images.tree_layer(folder))
    return images.Image(layers, {"Env": [images.PATH_ENV], "Cmd": ["sh"]})


def programs(*names):
    for folder in glob.glob("/proc/[0-9]*"):
        with contextlib.suppress(OSError), open(folder + "/comm", encoding="utf-8") as file:
            if file.read().strip().startswith(names):
                yield int(folder.rsplit("/", 1)[1])


def field_kb(path, field):
    with open(path, encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field))


def resident_kb(pid):
    return field_kb(f"/proc/{pid}/status", "VmRSS:")


def pss_kb(pid):
    try:
        return field_kb(f"/proc/{pid}/smaps_rollup", "Pss:")
    except (OSError, StopIteration):  # it has ended meanwhile
        return 0


def bench(versions):
    # FLUYT_BENCH_PARTS: some of these words, for one part alone.
    parts = os.environ.get("FLUYT_BENCH_PARTS", "verbs burst under_pull density").split()
    with Bench(versions) as run:
        for part in parts:
            getattr(run, part)()
