"""The other engines, from Debian, in a tree of their own (build/peers/SUITE): made once, never started by apt."""

import os
import shutil
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACKAGES = {
    "bookworm": ["podman", "docker.io", "containerd", "criu", "tini", "python3-pytest", "busybox-static", "iptables",
                 "iproute2", "procps", "util-linux", "containernetworking-plugins", "catatonit", "ca-certificates"],
}
PACKAGES["sid"] = [*PACKAGES["bookworm"], "docker-cli"]
SHOWN = ("podman", "docker.io", "containerd", "criu", "conmon")


def suites():
    return list(PACKAGES)


def path(suite):
    return os.path.join(ROOT, "build", "peers", suite)


def make(suite):
    """Makes the tree unless it is there; returns {package: version}."""
    tree = path(suite)
    if not os.path.exists(tree + "/.complete"):
        print(f"making a Debian {suite} tree with the engines (once, some 500 MB)", flush=True)
        shutil.rmtree(tree, ignore_errors=True)
        os.makedirs(os.path.dirname(tree), exist_ok=True)
        command = ["debootstrap", "--variant=minbase", suite, tree]
        if os.environ.get("MIRROR"):
            command.append(os.environ["MIRROR"])
        _run(command, tree + ".log")
        with open(tree + "/usr/sbin/policy-rc.d", "w", encoding="ascii") as file:
            file.write("#!/bin/sh\nexit 101\n")
        os.chmod(tree + "/usr/sbin/policy-rc.d", 0o755)
        _keep_proxy(tree)
        install = "apt-get -o Acquire::Check-Valid-Until=false update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "
        inside = "mount -t proc proc /proc && " + install + " ".join(PACKAGES[suite]) + " && apt-get clean"
        _run(["unshare", "--mount", "chroot", tree, "sh", "-c", inside], tree + ".log")
        with open(tree + "/.complete", "w", encoding="ascii"):
            pass
    return versions(tree)


def versions(tree):
    out = {}
    for name in SHOWN:
        done = subprocess.run(["dpkg-query", "--root=" + tree, "-W", "-f", "${Version}", name], check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if done.returncode == 0:
            out[name] = done.stdout
    return out


def _run(command, log):
    with open(log, "a", encoding="utf-8") as file:
        done = subprocess.run(command, check=False, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:4])}…: exit {done.returncode}: see {log}")


def _keep_proxy(tree):
    """apt in the tree reaches the archive the way apt on the host does."""
    for folder in ("/etc/apt/apt.conf.d",):
        for name in os.listdir(folder):
            with open(f"{folder}/{name}", encoding="utf-8", errors="replace") as file:
                text = file.read()
            if "Proxy" in text or "CaInfo" in text:
                shutil.copy(f"{folder}/{name}", f"{tree}{folder}/{name}")
    shutil.copy("/etc/resolv.conf", tree + "/etc/resolv.conf")
