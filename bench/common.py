"""What the benchmarks share: the peers' tree, tables, medians."""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))

BIN = os.path.join(ROOT, "build", "release", "bin")
TREE = os.path.join(ROOT, "build", "bench", "peers")
PEERS = ("crun", "runc", "containerd", "podman")
PACKAGES = (*PEERS, "containernetworking-plugins", "iptables", "skopeo", "umoci", "runsc")


def sh(*command, **options):
    return subprocess.run(command, check=True, **options)


def peers_tree():
    """Debian sid with the peers; made at the first call, and completed when the list of packages has grown."""
    stamp = TREE + "/.complete"
    if not os.path.exists(stamp):
        print("making a Debian sid tree with the peers (once)", flush=True)
        shutil.rmtree(TREE, ignore_errors=True)
        os.makedirs(os.path.dirname(TREE), exist_ok=True)
        command = ["debootstrap", "--variant=minbase", "sid", TREE]
        if os.environ.get("MIRROR"):
            command.append(os.environ["MIRROR"])
        sh(*command, stdout=subprocess.DEVNULL)
        open(stamp, "w", encoding="ascii").close()
    with open(stamp, encoding="ascii") as file:
        missing = sorted(set(PACKAGES) - set(file.read().split()))
    if missing:
        print("installing in it:", " ".join(missing), flush=True)
        with open(TREE + "/usr/sbin/policy-rc.d", "w", encoding="ascii") as file:
            file.write("#!/bin/sh\nexit 101\n")
        os.chmod(TREE + "/usr/sbin/policy-rc.d", 0o755)
        sh("cp", "/etc/resolv.conf", TREE + "/etc/resolv.conf")
        for command in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
            # A mirror may lag behind the dates in its own lists.
            sh("chroot", TREE, "apt-get", "-q", "-o", "Acquire::Check-Valid-Until=false", *command, stdout=subprocess.DEVNULL, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        with open(stamp, "w", encoding="ascii") as file:
            file.write(" ".join(PACKAGES))
    versions = {}
    for name in PEERS:
        text = subprocess.run(["dpkg-query", "--root=" + TREE, "-W", "-f", "${Version}", name], check=True,
                              stdout=subprocess.PIPE, text=True).stdout
        versions[name] = text.split("+")[0].split("-")[0]
    return versions


def in_private_tree():
    """A private mount namespace was made by our caller; the tree gets the host's kernel file systems. Once is enough."""
    if os.path.ismount(TREE + "/proc"):
        return
    sh("mount", "--make-rprivate", "/")
    sh("mount", "--bind", TREE, TREE)
    for name in ("proc", "sys", "dev"):
        sh("mount", "--rbind", "/" + name, f"{TREE}/{name}")
    # crun refuses a hybrid host whose v2 side has a controller: without that side all see the same, plain v1.
    if os.path.ismount(TREE + "/sys/fs/cgroup/unified"):
        sh("umount", TREE + "/sys/fs/cgroup/unified")
    os.makedirs(TREE + "/run/bench", exist_ok=True)


def in_tree(*command):
    """The words to run `command` with the private tree as the root of a mount namespace of its own. Under a mere chroot runc
    leaves the old root mounted below a container's, and whoever joins that container is in the host's tree."""
    enter = 'mount --rbind "$0" "$0" && cd "$0" && mkdir -p old && pivot_root . old && umount -l old && exec chroot . "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", enter, TREE, *command]


CONTAINERD = """version = 3
root = "{own}/root"
state = "{own}/state"
[grpc]
  address = "{socket}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{settings}/net.d"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
    SystemdCgroup = false
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "{settings}/certs.d"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{pause}"
"""


def containerd_config(own, settings, socket, pause):
    """containerd's configuration: its data below `own`, net.d and certs.d in `settings`."""
    return CONTAINERD.format(own=own, settings=settings, socket=socket, pause=pause)


DISK_BYTES = 6 << 30


@contextlib.contextmanager
def fresh_disk(folder, image):
    """An empty ext4 at `folder`, in the loop file `image`, made new and with a journal as nodes have it. To delete and create again
    and again on one without a journal would measure ext4: it looks at every inode freed in the last minutes for each new one."""
    os.makedirs(folder, exist_ok=True)
    with contextlib.ExitStack() as ends:
        with open(image, "wb") as file:
            ends.callback(os.unlink, image)
            file.truncate(DISK_BYTES)
        sh("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
        loop = subprocess.run(["losetup", "--find", "--show", "--direct-io=on", image], check=True,
                              stdout=subprocess.PIPE, text=True).stdout.strip()
        ends.callback(sh, "losetup", "--detach", loop)
        sh("mount", loop, folder)
        ends.callback(sh, "umount", folder)
        yield folder


def median(values):
    return statistics.median(values)


def median_ms(values):
    return median(values) / 1e6


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
    for name in ("true", "sh", "sleep", "cat", "grep", "readlink"):
        if not os.path.exists(f"{rootfs}/bin/{name}"):
            os.link(rootfs + "/bin/busybox", f"{rootfs}/bin/{name}")
    with open(folder + "/config.json", "w", encoding="utf-8") as file:
        json.dump(config, file)
