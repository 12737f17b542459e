"""Side by side with the peers, in one run on one machine: `./dev bench [runtime] [engine] [pull]`.

Peers come from Debian sid in a tree of their own (build/bench/peers, made once with debootstrap); their versions are printed.
Everything runs in a mount and network namespace of the benchmark's own. Figures are medians; what to read is the ratio.
"""

import json
import os
import subprocess
import sys
import time

import common
import guest
import pull
import runtime

import harness  # found in tests/lib, which common names
import images


def start_containerd(pause, registry):
    place = common.TREE + "/run/bench"
    os.makedirs(place + "/containerd", exist_ok=True)
    os.makedirs(place + "/net.d", exist_ok=True)
    network = json.loads(json.dumps(harness.BRIDGE).replace("fluyttest0", "peertest0").replace("10.187", "10.188"))
    network["plugins"][0]["ipam"]["dataDir"] = "/run/bench/leases"
    with open(place + "/net.d/10-test.conflist", "w", encoding="utf-8") as file:
        json.dump(network, file)
    os.makedirs(f"{place}/certs.d/{registry}", exist_ok=True)
    with open(f"{place}/certs.d/{registry}/hosts.toml", "w", encoding="utf-8") as file:
        file.write(f'server = "http://{registry}"\n')
    with open(place + "/containerd.toml", "w", encoding="utf-8") as file:
        file.write(common.containerd_config("/run/bench/containerd", "/run/bench", "/run/bench/containerd/containerd.sock", pause))
    with open(place + "/containerd.log", "wb") as log:
        process = subprocess.Popen(["chroot", common.TREE, "containerd", "-c", "/run/bench/containerd.toml"],
                                   stdout=log, stderr=log)
    return process, place + "/containerd/containerd.sock"


def timed(call, *arguments):
    began = time.perf_counter_ns()
    value = call(*arguments)
    return value, time.perf_counter_ns() - began


def walk(client, c, image, count):
    """Times of each verb over `count` pods of one container."""
    times = {}

    def note(name, call, *arguments):
        value, took = timed(call, *arguments)
        times.setdefault(name, []).append(took)
        return value

    for _ in range(count):
        config = client.sandbox_config()
        sandbox = note("RunPodSandbox", client.run_sandbox, config)
        wanted = client.container_config(image, ["sleep", "1000"])
        container = note("CreateContainer", client.create, sandbox, config, wanted)
        note("StartContainer", client.start, container)
        for _ in range(5):
            note("ExecSync of /bin/true", client.exec, container, "/bin/true")
        note("StopContainer, no grace", client.stop, container)
        note("RemoveContainer", client.remove, container)
        note("StopPodSandbox", lambda: client.runtime.StopPodSandbox(c.pb.StopPodSandboxRequest(pod_sandbox_id=sandbox)))
        note("RemovePodSandbox", lambda: client.runtime.RemovePodSandbox(
            c.pb.RemovePodSandboxRequest(pod_sandbox_id=sandbox)))
    return times


def large_image():
    """Four layers of real files: what a language image looks like, about 200 MB of gzip."""
    layers = []
    for folder in ("/usr/share", "/usr/lib/gcc", "/usr/lib/llvm-19", "/usr/bin"):
        if os.path.isdir(folder):
            layers.append(images.tree_layer(folder))
    return images.Image(layers, {"Env": [images.PATH_ENV], "Cmd": ["sh"]})


def bench_engine(versions):
    import cri as c
    work = common.TREE + "/run/bench/work"
    os.makedirs(work, exist_ok=True)
    registry = harness.Registry(work + "/registry")
    engine = harness.Engine()
    containerd = None
    try:
        images.push(harness.busybox_image(), registry.address, "bench/busybox", "latest")
        import critest_images
        pause = images.static_program(critest_images.PAUSE, work, "pause")
        images.push(images.Image([images.layer([images.Entry("pause", data=pause, mode=0o755)])],
                                 {"Entrypoint": ["/pause"]}), registry.address, "bench/pause", "latest")
        images.push(large_image(), registry.address, "bench/large", "latest")
        engine.start()
        containerd, socket = start_containerd(registry.address + "/bench/pause:latest", registry.address)
        harness.wait_for(lambda: os.path.exists(socket), "containerd's socket")
        time.sleep(2)
        names = {"fluyt": c.Client(engine.socket, engine.folder + "/logs"),
                 "containerd": c.Client(socket, common.TREE + "/run/bench/logs")}
        # containerd sees the tree as its root.
        peer = names["containerd"]
        plain = peer.sandbox_config

        def in_tree(name=None, **options):
            config = plain(name, **options)
            config.log_directory = config.log_directory.removeprefix(common.TREE)
            return config
        peer.sandbox_config = in_tree
        large = registry.address + "/bench/large:latest"
        pulls = {name: [] for name in names}
        for _ in range(3):
            for name, client in names.items():
                pulls[name].append(timed(client.pull, large)[1])
                client.images.RemoveImage(c.pb.RemoveImageRequest(image=c.pb.ImageSpec(image=large)))
                time.sleep(1)
        busybox = registry.address + "/bench/busybox:latest"
        results = {}
        for client in names.values():
            client.pull(busybox)
            client.pull(registry.address + "/bench/pause:latest")
            walk(client, c, busybox, 2)
        for _ in range(4):
            for name, client in names.items():
                for verb, values in walk(client, c, busybox, 5).items():
                    results.setdefault(verb, {}).setdefault(name, []).extend(values)
        results = {"PullImage, 4 layers": pulls, **results}
        rows = [[verb, f"{common.median_ms(row['fluyt']):.1f}", f"{common.median_ms(row['containerd']):.1f}",
                 f"{common.median_ms(row['fluyt']) / common.median_ms(row['containerd']):.2f}"] for verb, row in results.items()]
        common.table("CRI, medians in ms", rows, ["call", "fluyt", "containerd " + versions["containerd"], "ratio"])
        rss = {name: resident_kb(pid) for name, pid in (("fluytd", engine.process.pid), ("containerd", containerd.pid))}
        common.table("resident memory after that", [[name, f"{kb / 1024:.1f}"] for name, kb in rss.items()], ["daemon", "MB"])
    finally:
        engine.close()
        if containerd is not None:
            harness.stop_process(containerd)
        registry.stop()


def resident_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))


def main():
    wanted = sys.argv[1:] or ["runtime", "engine", "pull"]
    if "guest" in wanted:  # has no peers in the tree yet
        guest.bench()
        wanted.remove("guest")
        if not wanted:
            return
    if os.environ.get("FLUYT_BENCH_INSIDE") != "1":
        common.peers_tree()
        os.environ["FLUYT_BENCH_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--net", sys.executable, os.path.abspath(__file__), *wanted])
    common.sh("ip", "link", "set", "lo", "up")
    versions = common.peers_tree()
    common.in_private_tree()
    print("kernel", os.uname().release, "· cores", os.cpu_count(), "·",
          ", ".join(f"{name} {version}" for name, version in versions.items()))
    if "runtime" in wanted:
        runtime.bench(versions)
    if "engine" in wanted:
        bench_engine(versions)
    if "pull" in wanted:
        pull.bench(versions)


if __name__ == "__main__":
    main()
