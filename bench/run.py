"""Side by side with the peers, in one run on one machine: `./dev bench [runtime] [engine]`.

Peers come from Debian sid in a tree of their own (build/bench/peers, made once with debootstrap); their versions are printed.
Everything runs in a mount and network namespace of the benchmark's own. Figures are medians; what to read is the ratio.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
import harness  # noqa: E402  (found in tests/lib)
import images  # noqa: E402

BIN = os.path.join(ROOT, "build", "release", "bin")
TREE = os.path.join(ROOT, "build", "bench", "peers")
PEERS = ("crun", "runc", "containerd")


def sh(*command, **options):
    return subprocess.run(command, check=True, **options)


def peers_tree():
    if not os.path.exists(TREE + "/.complete"):
        print("making a Debian sid tree with the peers (once)", flush=True)
        shutil.rmtree(TREE, ignore_errors=True)
        os.makedirs(os.path.dirname(TREE), exist_ok=True)
        command = ["debootstrap", "--variant=minbase",
                   "--include=crun,runc,containerd,containernetworking-plugins,iptables", "sid", TREE]
        if os.environ.get("MIRROR"):
            command.append(os.environ["MIRROR"])
        sh(*command, stdout=subprocess.DEVNULL)
        open(TREE + "/.complete", "w", encoding="ascii").close()
    versions = {}
    for name in PEERS:
        text = subprocess.run(["dpkg-query", "--root=" + TREE, "-W", "-f", "${Version}", name], check=True,
                              stdout=subprocess.PIPE, text=True).stdout
        versions[name] = text.split("+")[0].split("-")[0]
    return versions


def enter_tree_mounts():
    """A private mount namespace was made by our caller; the tree gets the host's kernel file systems."""
    sh("mount", "--make-rprivate", "/")
    sh("mount", "--bind", TREE, TREE)
    for name in ("proc", "sys", "dev"):
        sh("mount", "--rbind", "/" + name, f"{TREE}/{name}")
    # crun refuses a hybrid host whose v2 side has a controller: without that side all see the same, plain v1.
    if os.path.ismount(TREE + "/sys/fs/cgroup/unified"):
        sh("umount", TREE + "/sys/fs/cgroup/unified")
    os.makedirs(TREE + "/run/bench", exist_ok=True)


def median_ms(values):
    return statistics.median(values) / 1e6


def table(title, rows, columns):
    print(f"\n{title}")
    widths = [max(len(str(row[i])) for row in [columns, *rows]) for i in range(len(columns))]
    for row in [columns, *rows]:
        print("  " + "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip(), flush=True)


def bundle(folder, config):
    rootfs = folder + "/rootfs"
    os.makedirs(rootfs + "/bin", exist_ok=True)
    for name in ("proc", "dev", "sys", "etc", "tmp"):
        os.makedirs(f"{rootfs}/{name}", exist_ok=True)
    shutil.copy(shutil.which("busybox"), rootfs + "/bin/busybox")
    for name in ("true", "sh", "sleep"):
        if not os.path.exists(f"{rootfs}/bin/{name}"):
            os.link(rootfs + "/bin/busybox", f"{rootfs}/bin/{name}")
    with open(folder + "/config.json", "w", encoding="utf-8") as file:
        json.dump(config, file)


def turns(commands, rounds, warmup=5):
    """Runs in the peers' tree; {name: ([wall ns], [cpu ns])}. A command that fails is an error, not a figure."""
    words = []
    for command in commands.values():
        words += ["--", *command]
    out = subprocess.run(["chroot", TREE, "/run/bench/turns", str(rounds), str(warmup), *words], check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    names = list(commands)
    figures = {name: ([], []) for name in names}
    for line in out.splitlines():
        index, wall, cpu, status = (int(word) for word in line.split())
        if status != 0:
            raise RuntimeError(f"{names[index]}: exit status {status}")
        figures[names[index]][0].append(wall)
        figures[names[index]][1].append(cpu)
    return figures


def bench_runtime(versions):
    """`run` of /bin/true with each runtime's command line, from the specification that runc itself writes."""
    place = TREE + "/run/bench"
    for name in ("runf", "bench_turns"):
        shutil.copy(f"{BIN}/{name}", place + "/" + name.removeprefix("bench_"))
    sh("chroot", TREE, "sh", "-c", "cd /run/bench && rm -f config.json && runc spec")
    with open(place + "/config.json", encoding="utf-8") as file:
        config = json.load(file)
    config["process"]["terminal"] = False
    config["process"]["args"] = ["/bin/true"]
    bundle(place + "/bundle", config)
    config["linux"]["seccomp"] = large_profile()
    bundle(place + "/bundle-seccomp", config)
    programs = {"runf": "/run/bench/runf", "crun": "/usr/bin/crun", "runc": "/usr/sbin/runc"}
    if not os.path.exists(TREE + programs["runc"]):
        programs["runc"] = "/usr/bin/runc"
    for title, folder in (("run of /bin/true", "bundle"), ("the same with a seccomp profile of 400 names", "bundle-seccomp")):
        commands = {}
        for name, program in programs.items():
            command = [program, "--root", f"/run/bench/state-{name}", "run", "-b", f"/run/bench/{folder}", f"bench-{name}"]
            probe = subprocess.run(["chroot", TREE, *command], check=False, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True)
            if probe.returncode == 0:
                commands[name] = command
            else:
                print(f"{name} does not run here: {probe.stdout.strip()[:300]}")
        figures = turns(commands, int(os.environ.get("ROUNDS", "60")))
        base = median_ms(figures["runf"][0])
        rows = [[name + " " + versions.get(name, "(ours)"), f"{median_ms(wall):.2f}", f"{median_ms(cpu):.2f}",
                 f"{base / median_ms(wall):.2f}"] for name, (wall, cpu) in figures.items()]
        table(title, rows, ["runtime", "wall ms", "CPU ms", "runf / it"])


def large_profile():
    names = subprocess.run(["sh", "-c", "grep -ohE '__NR_[a-z0-9_]+' /usr/include/x86_64-linux-gnu/asm/unistd_64.h | "
                            "sed s/__NR_// | sort -u"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    denied = {"mount", "umount2", "pivot_root", "kexec_load", "init_module", "delete_module", "reboot", "swapon"}
    return {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [{"names": [name for name in names if name not in denied], "action": "SCMP_ACT_ALLOW"}]}


CONTAINERD = """version = 3
root = "/run/bench/containerd/root"
state = "/run/bench/containerd/state"
[grpc]
  address = "/run/bench/containerd/containerd.sock"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "/run/bench/net.d"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
    SystemdCgroup = false
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "/run/bench/certs.d"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "%(pause)s"
"""


def start_containerd(pause, registry):
    place = TREE + "/run/bench"
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
        file.write(CONTAINERD % {"pause": pause})
    with open(place + "/containerd.log", "wb") as log:
        process = subprocess.Popen(["chroot", TREE, "containerd", "-c", "/run/bench/containerd.toml"],
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
    work = TREE + "/run/bench/work"
    os.makedirs(work, exist_ok=True)
    registry = harness.Registry(work + "/registry")
    engine = harness.Engine()
    containerd = None
    try:
        images.push(harness.busybox_image(), registry.address, "bench/busybox", "latest")
        sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
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
                 "containerd": c.Client(socket, TREE + "/run/bench/logs")}
        # containerd sees the tree as its root.
        peer = names["containerd"]
        plain = peer.sandbox_config

        def in_tree(name=None, **options):
            config = plain(name, **options)
            config.log_directory = config.log_directory.removeprefix(TREE)
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
        rows = [[verb, f"{median_ms(row['fluyt']):.1f}", f"{median_ms(row['containerd']):.1f}",
                 f"{median_ms(row['fluyt']) / median_ms(row['containerd']):.2f}"] for verb, row in results.items()]
        table("CRI, medians in ms", rows, ["call", "fluyt", "containerd " + versions["containerd"], "ratio"])
        rss = {name: resident_kb(pid) for name, pid in (("fluytd", engine.process.pid), ("containerd", containerd.pid))}
        table("resident memory after that", [[name, f"{kb / 1024:.1f}"] for name, kb in rss.items()], ["daemon", "MB"])
    finally:
        engine.close()
        if containerd is not None:
            harness.stop_process(containerd)
        registry.stop()


def resident_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))


def main():
    wanted = sys.argv[1:] or ["runtime", "engine"]
    if os.environ.get("FLUYT_BENCH_INSIDE") != "1":
        peers_tree()
        os.environ["FLUYT_BENCH_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--net", sys.executable, os.path.abspath(__file__), *wanted])
    sh("ip", "link", "set", "lo", "up")
    versions = peers_tree()
    enter_tree_mounts()
    print("kernel", os.uname().release, "· cores", os.cpu_count(), "·",
          ", ".join(f"{name} {version}" for name, version in versions.items()))
    if "runtime" in wanted:
        bench_runtime(versions)
    if "engine" in wanted:
        bench_engine(versions)


if __name__ == "__main__":
    main()
