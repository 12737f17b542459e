"""`run` and `exec` of each runtime's command line beside the bare kernel work (floor.cc).

All of them make the same container, from the specification that runc itself writes, in cgroups below one that stands ready and with
their state in memory. What the program inside sees is compared first: figures of unequal containers are not printed.
"""

import contextlib
import json
import os
import shutil
import subprocess

import common

PLACE = "/run/bench"  # in the peers' tree
ROUNDS = int(os.environ.get("ROUNDS", "50"))
VIEW = ("cat /proc/self/mountinfo; echo ==; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; echo ==; cat /proc/self/limits; "
        "echo ==; cat /proc/self/cgroup; echo ==; for n in cgroup ipc mnt net pid user uts time; do readlink /proc/self/ns/$n; done")
# A mask is one of several things that show nothing; what counts is that it is there.
MASKED = ("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
          "/proc/sched_debug", "/proc/scsi", "/sys/firmware")


def in_tree(*command, **options):
    return subprocess.run(["chroot", common.TREE, PLACE + "/turns", "once", *command], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          stdin=subprocess.DEVNULL, **options)


class Runtime:
    """One way to make a container: a runtime's program, or the bare sequence."""

    def __init__(self, name, program):
        self.name, self.program = name, program

    def run(self, bundle, container, *words):
        return [self.program, "--root", f"{PLACE}/state/{self.name}", "run", *words, "-b", f"{PLACE}/{bundle}", container]

    def exec(self, container, *command):
        return [self.program, "--root", f"{PLACE}/state/{self.name}", "exec", container, *command]

    def delete(self, container):
        return [self.program, "--root", f"{PLACE}/state/{self.name}", "delete", "-f", container]


def namespaces_of_ours():
    return {os.readlink("/proc/self/ns/" + name) for name in ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts", "time")}


def view_of(text):
    """What VIEW printed, without what differs from run to run."""
    mounts, status, limits, cgroups, spaces = text.split("==\n")
    seen, flags = set(), {}
    for line in mounts.splitlines():
        words = line.split()
        point, kind = words[4], words[words.index("-") + 1]
        seen.add((point, "masked" if point in MASKED else kind) if point != "/" else (point, "root"))
        if point not in MASKED:
            flags[point] = ",".join(sorted(words[5].split(",")))
    ours = namespaces_of_ours()
    return {"mounts": seen, "mount flags": flags, "capabilities": status, "limits": limits,
            "cgroups": sorted(line.split(":", 1)[1] for line in cgroups.splitlines()),
            "new namespaces": {link.split(":")[0] for link in spaces.split() if link not in ours}}


def make_bundles(ends):
    """The bundles, and where the runtimes' state is; `ends` takes that away."""
    place = common.TREE + PLACE
    for name in ("runf", "bench_floor", "bench_turns"):
        shutil.copy(f"{common.BIN}/{name}", place + "/" + name.removeprefix("bench_"))
    os.makedirs(place + "/state", exist_ok=True)
    common.sh("mount", "-t", "tmpfs", "tmpfs", place + "/state")
    ends.callback(common.sh, "umount", place + "/state")
    common.sh("chroot", common.TREE, "sh", "-c", f"cd {PLACE} && rm -f config.json && runc spec")
    with open(place + "/config.json", encoding="utf-8") as file:
        config = json.load(file)
    config["process"]["terminal"] = False
    if not any(space["type"] == "cgroup" for space in config["linux"]["namespaces"]):
        config["linux"]["namespaces"].append({"type": "cgroup"})  # runc writes it on v2 alone

    def bundle(folder, args, **linux):
        made = json.loads(json.dumps(config))
        made["process"]["args"] = args
        made["linux"].update(linux)
        common.bundle(f"{place}/{folder}", made)

    bundle("true", ["/bin/true"], cgroupsPath="/bench/true")
    bundle("view", ["/bin/sh", "-c", VIEW], cgroupsPath="/bench/view")
    bundle("hold", ["/bin/sleep", "100000"], cgroupsPath="/bench/hold")
    bundle("seccomp", ["/bin/true"], cgroupsPath="/bench/seccomp", seccomp=large_profile())
    small = dict(config["linux"]["resources"], memory={"limit": 512 * 1024})
    bundle("small", ["/bin/true"], cgroupsPath="/bench/small", resources=small)


def large_profile():
    """As many names as Docker's default profile allows."""
    names = subprocess.run(["sh", "-c", "grep -ohE '__NR_[a-z0-9_]+' /usr/include/x86_64-linux-gnu/asm/unistd_64.h "
                            "/usr/include/x86_64-linux-gnu/asm/unistd_32.h | sed s/__NR_// | sort -u"],
                           check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    denied = {"mount", "umount2", "pivot_root", "kexec_load", "init_module", "delete_module", "reboot", "swapon"}
    return {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [{"names": [name for name in names if name not in denied][:440], "action": "SCMP_ACT_ALLOW"}]}


def make_parent_cgroups(ends):
    """A folder in each hierarchy, so that no runtime has to fill the cpuset of its parent; `ends` removes them."""
    for name in os.listdir("/sys/fs/cgroup"):
        top = "/sys/fs/cgroup/" + name
        if not os.path.ismount(top) or name == "unified":
            continue
        os.makedirs(top + "/bench", exist_ok=True)
        ends.callback(os.rmdir, top + "/bench")
        for file in ("cpuset.cpus", "cpuset.mems"):
            if os.path.exists(f"{top}/{file}"):
                with open(f"{top}/{file}", encoding="ascii") as source, open(f"{top}/bench/{file}", "w", encoding="ascii") as target:
                    target.write(source.read())


def turns(commands, rounds=ROUNDS, warmup=5):
    """Runs in the peers' tree, taking turns; {name: [(wall ns, CPU ns, peak KiB)]}. A command that fails is an error, not a figure."""
    words = []
    for command in commands.values():
        words += ["--", *command]
    done = subprocess.run(["chroot", common.TREE, PLACE + "/turns", str(rounds), str(warmup), *words], check=True,
                          stdout=subprocess.PIPE, text=True)
    names = list(commands)
    figures = {name: [] for name in names}
    for line in done.stdout.splitlines():
        index, wall, cpu, status, peak = (int(word) for word in line.split())
        if status != 0:
            raise RuntimeError(f"{names[index]}: exit status {status}")
        figures[names[index]].append((wall, cpu, peak))
    return figures


def print_figures(title, figures, versions):
    def middle(name, place):
        return common.median(row[place] for row in figures[name])

    rows = []
    for name in figures:
        ratios = [f"{middle('runf', 0) / middle(name, 0):.2f}", f"{middle('runf', 1) / middle(name, 1):.2f}"]
        rows.append([f"{name} {versions.get(name, '')}".strip(), f"{middle(name, 0) / 1e6:.2f}", f"{middle(name, 1) / 1e6:.2f}",
                     f"{max(row[2] for row in figures[name]) / 1024:.1f}", *ratios])
    common.table(title, rows, ["", "wall ms", "CPU ms", "peak MiB", "runf / it, wall", "runf / it, CPU"])


def check_views(commands, how):
    """runf must show what floor does, and each other one must when it runs a program, but for flags of mounts: what they leave out or add
    is told. So is what they leave out of an exec."""
    expected, told = None, []
    for name, command in commands.items():
        done = in_tree(*command)
        if done.returncode != 0:
            raise RuntimeError(f"{name} does not {how} here: {done.stdout.strip()[:500]}")
        view = view_of(done.stdout)
        if expected is None:
            expected = view
        for key, value in view.items():
            if value == expected[key]:
                continue
            if name == "runf" or (how == "run" and key != "mount flags"):
                raise RuntimeError(f"{name}, {how}: the program sees other {key} than under floor: {value}, {expected[key]}")
            told.append(f"other {key} under {name}")
    print(f"{how}: the program inside sees the same mounts with their flags, capabilities, namespaces, limits and cgroups under all of them" +
          (", but for " + ", ".join(told) if told else ""))


def bench_exec(floor, runtimes, versions):
    """One container; each runtime executes in one of its own."""
    commands, views, held = {}, {}, []
    try:
        for runtime in runtimes:
            name = "hold-" + runtime.name
            pid_file = f"{PLACE}/{name}.pid"
            with open(f"{common.TREE}{PLACE}/hold/config.json", encoding="utf-8") as file:
                config = json.load(file)
            config["linux"]["cgroupsPath"] = "/bench/" + name
            with open(f"{common.TREE}{PLACE}/hold/config.json", "w", encoding="utf-8") as file:
                json.dump(config, file)
            started = subprocess.run(["chroot", common.TREE, PLACE + "/turns", "once", *runtime.run("hold", name, "-d", "--pid-file", pid_file)],
                                     check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if started.returncode != 0:
                raise RuntimeError(f"{runtime.name}: run -d: exit status {started.returncode}")
            held.append((runtime, name))
            commands[runtime.name] = runtime.exec(name, "/bin/true")
            views[runtime.name] = runtime.exec(name, "/bin/sh", "-c", VIEW)
            if runtime.name == "runf":
                with open(common.TREE + pid_file, encoding="ascii") as file:
                    inside = [floor, "exec", file.read().strip(), name]
                commands = {"floor": [*inside, "/bin/true"], **commands}
                views = {"floor": [*inside, "/bin/sh", "-c", VIEW], **views}
        check_views(views, "exec")
        print_figures("exec of /bin/true", turns(commands), versions)
    finally:
        for runtime, name in held:
            in_tree(*runtime.delete(name))


def bench(versions):
    common.in_private_tree()
    os.makedirs(common.TREE + PLACE, exist_ok=True)
    floor = PLACE + "/floor"
    runc = "/usr/sbin/runc" if os.path.exists(common.TREE + "/usr/sbin/runc") else "/usr/bin/runc"
    runtimes = [Runtime("runf", PLACE + "/runf"), Runtime("crun", "/usr/bin/crun"), Runtime("runc", runc)]
    with contextlib.ExitStack() as ends:
        make_bundles(ends)
        make_parent_cgroups(ends)
        views = {"floor": [floor, "run", f"{PLACE}/view/rootfs", "view", "/bin/sh", "-c", VIEW]}
        check_views(views | {runtime.name: runtime.run("view", "view") for runtime in runtimes}, "run")
        commands = {"floor": [floor, "run", f"{PLACE}/true/rootfs", "true", "/bin/true"]}
        figures = turns(commands | {runtime.name: runtime.run("true", "true") for runtime in runtimes})
        print_figures("run of /bin/true, the default specification", figures, versions)
        figures = turns(commands | {runtime.name: runtime.run("seccomp", "seccomp") for runtime in runtimes})
        print_figures("the same with a seccomp profile of 440 names (floor: without one)", figures, versions)
        bench_exec(floor, runtimes, versions)
        for runtime in runtimes:
            done = in_tree(*runtime.run("small", "small"))
            print(f"{runtime.name}, a memory limit of 512 KiB: " + ("starts" if done.returncode == 0 else done.stdout.strip()[:200]))
