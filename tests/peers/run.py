"""runf, or rung, in runc's place under other engines: `./dev peers [SUITE...] [--runtime rung] [-k WORDS]`, SUITE being bookworm
(the default) or sid.

Each suite's engines come from Debian, in a tree that debootstrap makes (tree.py). The tests run with that tree as their root:
own mount, PID, network, IPC, UTS and cgroup namespaces, the tree below an overlay that is gone with them, and nothing of
the host but /dev and the kernel. When the namespace ends, so does everything in it.
"""

import argparse
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "lib")]
import tree  # noqa: E402  (found beside this file)
from cgroups import hierarchies, make_cgroups, remove_cgroups  # noqa: E402

ROOT = tree.ROOT
LIMIT_S = 1500


def mount(*words):
    subprocess.run(["mount", *words], check=True)


def enter(suite):
    """Called in the new namespaces: makes the tree the root. Returns in it."""
    tops = hierarchies()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    mount("--make-rprivate", "/")
    place = ROOT + "/build/peers/place"
    os.makedirs(place, exist_ok=True)
    mount("-t", "tmpfs", "peers", place)
    for name in ("upper", "work", "root"):
        os.mkdir(f"{place}/{name}")
    new = place + "/root"
    mount("-t", "overlay", "peers", "-o", f"lowerdir={tree.path(suite)},upperdir={place}/upper,workdir={place}/work", new)
    for name in ("fluyt", "old"):
        os.makedirs(f"{new}/{name}")
    mount("-t", "proc", "proc", new + "/proc")
    mount("-t", "sysfs", "sysfs", new + "/sys")
    mount("--rbind", "/dev", new + "/dev")
    for name in ("run", "tmp", "var/lib/containers", "var/lib/docker", "var/lib/containerd"):
        os.makedirs(f"{new}/{name}", exist_ok=True)
        mount("-t", "tmpfs", "peers", f"{new}/{name}")
    mount("--bind", ROOT, new + "/fluyt")
    if "/sys/fs/cgroup" not in tops:
        mount("-t", "tmpfs", "peers", new + "/sys/fs/cgroup")
    for top, options in tops.items():
        os.makedirs(new + top, exist_ok=True)
        if options is None:
            mount("-t", "cgroup2", "cgroup2", new + top)
        else:
            mount("-t", "cgroup", "cgroup", "-o", options, new + top)
    os.chdir(new)
    subprocess.run(["pivot_root", ".", "old"], check=True)
    os.chroot(".")
    os.chdir("/")
    subprocess.run(["umount", "-l", "/old"], check=True)


def inside(suite, runtime, words):
    enter(suite)
    os.umask(0o022)
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8",
                   "FLUYT_PEERS": suite, "FLUYT_BIN": "/fluyt/build/release/bin", "FLUYT_RUNTIME": runtime, "TERM": "xterm"}
    if words[:1] == ["--command"]:
        os.execve("/bin/sh", ["sh", "-c", words[1]], environment)
    more = ["/fluyt/tests/walks/test_checkpoint.py"] if runtime == "runf" else []
    os.execve("/usr/bin/python3", ["python3", "-B", "-m", "pytest", "-p", "no:cacheprovider", "--tb=short", "-v", "-rs",
                                   "--durations=5", "/fluyt/tests/peers", *more, *words], environment)


def host_mounts():
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return sorted(line.split()[4] for line in file)


def run(suite, runtime, words):
    versions = tree.make(suite)
    print(f"{suite}: " + ", ".join(f"{name} {version}" for name, version in versions.items()), flush=True)
    before = host_mounts()
    name = f"fluyt-peers-{os.getpid()}"
    command = ["unshare", "--mount", "--net", "--ipc", "--uts", "--cgroup", "--pid", "--fork", "--kill-child", "--mount-proc",
               sys.executable, "-B", os.path.abspath(__file__), "--inside", suite, "--runtime", runtime, *words]
    try:
        done = subprocess.run(command, check=False, preexec_fn=lambda: make_cgroups(name), timeout=LIMIT_S,
                              stdin=subprocess.DEVNULL)
        code = done.returncode
    except subprocess.TimeoutExpired:
        print(f"{suite}: no end after {LIMIT_S} s")
        code = 1
    left = remove_cgroups(name)
    left += [f"mount {place}" for place in host_mounts() if place not in before]
    for line in left:
        print(f"{suite}: left behind: {line}")
    return 1 if code != 0 or left else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--inside")
    parser.add_argument("suites", nargs="*")
    parser.add_argument("--runtime", choices=("runf", "rung"), default="runf")
    parser.add_argument("-k", dest="words", help="which tests, as pytest's -k")
    parser.add_argument("--command", help="run this shell command in there, in place of the tests")
    options = parser.parse_args()
    words = ["-k", options.words] if options.words else []
    if options.command:
        words = ["--command", options.command]
    if options.inside:
        inside(options.inside, options.runtime, words)
    for suite in options.suites:
        if suite not in tree.suites():
            sys.exit(f"peers: {suite!r}: expected one of {', '.join(tree.suites())}")
    results = [run(suite, options.runtime, words) for suite in options.suites or ["bookworm"]]
    return max(results)


if __name__ == "__main__":
    sys.exit(main())
