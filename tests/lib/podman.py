"""Podman beside a walk: the machine's, or the one of the tree of Debian sid that the benchmarks keep, with a store of its own."""

import os
import shutil
import subprocess
import tempfile

import harness

TREE = os.path.join(harness.ROOT, "build", "bench", "peers")
# Each call is a mount namespace's whole life: nothing stays mounted in the tree.
IN_TREE = 'for name in proc sys dev; do mount --rbind "/$name" "$0/$name"; done; mount --bind "$1" "$0/mnt"; shift; exec chroot "$0" podman "$@"'


class Podman:
    """Its store is in `folder`, where it also finds files. None of it runs a container."""

    def __init__(self, folder):
        self.folder = folder
        own = shutil.which("podman")
        if own:
            self.words, self.place = [own], folder
        else:
            self.words, self.place = ["unshare", "--mount", "--propagation", "private", "sh", "-c", IN_TREE, TREE, folder], "/mnt"
        self.runroot = tempfile.mkdtemp(prefix="podman-") if own else "/mnt/run"  # it takes 50 characters and no more

    @staticmethod
    def is_there():
        return shutil.which("podman") is not None or os.path.exists(TREE + "/usr/bin/podman")

    def __call__(self, *args):
        storage = ["--root", self.place + "/root", "--runroot", self.runroot, "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs",
                   "--events-backend", "none"]
        done = subprocess.run([*self.words, *storage, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, check=False, timeout=120)
        assert done.returncode == 0, f"podman {' '.join(args)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def close(self):
        self("system", "reset", "-f")
        shutil.rmtree(self.runroot if self.words[0] != "unshare" else self.folder + "/run", ignore_errors=True)
