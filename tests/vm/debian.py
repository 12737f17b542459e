"""A Debian with systemd as pid 1 on cgroup v2, for what the other machine (run.py) cannot show. The disk is made once
(debootstrap, as root) and kept in build/vm; a run writes to a copy that is thrown away. What is run comes on a second disk, a tar
archive whose `run` is started by a service; what it leaves in /out comes back on a third.
"""

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile

import machine

SUITE = "bookworm"
PACKAGES = ("systemd-sysv", "dbus", "dbus-user-session", "libpam-systemd", "udev", "kmod", "iproute2", "procps", "util-linux",
            "bsdextrautils", "busybox-static", "jq", "bats", "gawk", "xz-utils", "uidmap", "criu", "sshfs", "openssh-server",
            "openssh-client", "curl", "gcc", "libc6-dev", "libseccomp-dev", "keyutils", "fdisk", "sudo", "attr", "acl",
            "libcap2-bin", "file", "e2fsprogs", "python3-minimal", "nftables", "iptables",
            # What fluyt's own package depends on, and what its tests and critest want beside it.
            "libgrpc++1.51", "libprotobuf32", "libcurl4", "libisal2", "libnftables1", "libspdlog1.10", "libfmt9", "libyaml-cpp0.7",
            "libsqlite3-0", "libarchive13", "libzstd1", "libssl3", "apparmor", "docker-registry", "runc", "crun")
MASKED = ("getty.target", "getty-static.service", "serial-getty@ttyS0.service", "ssh.service", "apt-daily.timer",
          "apt-daily-upgrade.timer", "e2scrub_reap.service", "e2scrub_all.timer", "fstrim.timer", "dpkg-db-backup.timer",
          "systemd-networkd.service", "systemd-timesyncd.service", "systemd-pstore.service", "systemd-update-utmp.service",
          "docker-registry.service")
SERVICE = """[Unit]
After=basic.target dbus.service systemd-logind.service
[Service]
Type=exec
ExecStart=/usr/local/sbin/fluyt-payload
StandardInput=null
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
TimeoutStartSec=infinity
LimitNOFILE=65536
Delegate=yes
"""
PAYLOAD = """#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mkdir -p /payload /out
tar -xf /dev/vdb -C /payload
cd /payload && sh ./run
tar -cf /dev/vdc -C /out .
echo "== all done"
systemctl poweroff --force --force
"""
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
for name in virtio_pci virtio_blk; do modprobe $name; done
while [ ! -b /dev/vda ]; do sleep 0.1; done
mount -t ext4 /dev/vda /new
[ ! -d /early ] || cp -r /early/. /new/
umount /proc /sys; mount --move /dev /new/dev
exec switch_root /new /sbin/init
"""

INIT_UML = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
while [ ! -b /dev/ubda ]; do sleep 0.1; done
ln -s ubdb /dev/vdb; ln -s ubdc /dev/vdc
mount -t ext4 /dev/ubda /new
mkdir -p /new/lib/modules/$(uname -r)
mount -t hostfs none /new/lib/modules/$(uname -r) -o MODULES
[ ! -d /early ] || cp -r /early/. /new/
umount /proc /sys; mount --move /dev /new/dev
exec switch_root /new /sbin/init
"""


def write(path, text, mode=0o644):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)


def image(tree, version):
    """The disk with Debian on it."""
    key = hashlib.sha256(repr((SUITE, PACKAGES, MASKED, SERVICE, PAYLOAD, version)).encode()).hexdigest()[:16]
    disk = f"{machine.WORK}/debian-{key}.img"
    if os.path.exists(disk):
        return disk
    root = machine.WORK + "/debian"
    wanted = " ".join((SUITE, *PACKAGES))
    if not os.path.exists(root + "/.complete") or open(root + "/.complete", encoding="ascii").read() != wanted:
        shutil.rmtree(root, ignore_errors=True)
        # In a mount namespace of its own: what debootstrap mounts goes with it.
        command = ["unshare", "--mount", "debootstrap", "--variant=minbase", "--include=" + ",".join(PACKAGES), SUITE, root]
        print("+", *command, flush=True)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        write(root + "/.complete", wanted)
    write(root + "/etc/systemd/system/fluyt-payload.service", SERVICE)
    write(root + "/usr/local/sbin/fluyt-payload", PAYLOAD, 0o755)
    write(root + "/etc/hostname", "vm\n")
    write(root + "/etc/fstab", "")
    units = root + "/etc/systemd/system"
    for name in MASKED:
        if not os.path.lexists(f"{units}/{name}"):
            os.symlink("/dev/null", f"{units}/{name}")
    os.makedirs(units + "/multi-user.target.wants", exist_ok=True)
    wants = units + "/multi-user.target.wants/fluyt-payload.service"
    if not os.path.lexists(wants):
        os.symlink("/etc/systemd/system/fluyt-payload.service", wants)
    if "rootless:" not in open(root + "/etc/passwd", encoding="utf-8").read():
        subprocess.run(["chroot", root, "useradd", "-m", "-u", "1000", "-s", "/bin/bash", "rootless"], check=True)
    shutil.rmtree(f"{root}/lib/modules", ignore_errors=True)
    shutil.copytree(f"{tree}/lib/modules/{version}", f"{root}/lib/modules/{version}", symlinks=True)
    partial = disk + ".partial"
    if os.path.exists(partial):
        os.remove(partial)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-E", "root_owner=0:0", "-d", root, partial, "6G"],
                   check=True)
    os.rename(partial, disk)
    return disk


def initrd(tree, version, folder, early):
    root = folder + "/initrd"
    for name, text in early.items():
        os.makedirs(os.path.dirname(f"{root}/early/{name}"), exist_ok=True)
        with open(f"{root}/early/{name}", "wb") as file:
            file.write(text)
    for name in ("bin", "proc", "sys", "dev", "new"):
        os.makedirs(f"{root}/{name}")
    shutil.copy(shutil.which("busybox"), root + "/bin/busybox")
    if machine.is_uml():
        write(root + "/init", INIT_UML.replace("MODULES", machine.uml()[1]), 0o755)
    else:
        write(root + "/init", INIT, 0o755)
        machine.copy_modules(tree, version, root, ("kernel/drivers/virtio", "kernel/drivers/block/virtio_blk.ko"))
    machine.pack(root, folder + "/initrd.cpio")
    return folder + "/initrd.cpio"


def _boot(disk, kept, folder, archive, append, limit_s):
    payload, results = folder + "/payload.tar", folder + "/results.tar"
    append = "rdinit=/init systemd.show_status=0 systemd.log_level=warning " + append
    if kept and not os.path.exists(kept):
        subprocess.run(["cp", "--sparse=always", disk, kept], check=True)
    if machine.is_uml():
        own = f"ubd0={kept or folder + '/own.cow,' + disk}"  # of the machine's own form: what differs from the disk
        return machine.boot_uml(archive, append, folder, [own, "ubd1r=" + payload, "ubd2=" + results], limit_s=limit_s)
    own = f"file={kept or disk},if=virtio,format=raw" + ("" if kept else ",snapshot=on")
    drives = [own, f"file={payload},if=virtio,format=raw,readonly=on", f"file={results},if=virtio,format=raw"]
    return machine.boot(machine.kernel()[0], archive, append, drives, limit_s=limit_s)


def run(files, script, out=None, limit_s=900, append="", kept=None, early=None):
    """Boots with `files` (name in the payload to path here) and `script` as /payload/run. Yields the console's lines; what the
    script left in /out is unpacked into `out`. With `kept`, a file, the disk is the one that an earlier run with it left. `early` (path
    in the machine to bytes) is there before systemd is."""
    tree, version = machine.kernel()
    disk = image(tree, version)
    with tempfile.TemporaryDirectory(prefix="run-", dir=machine.WORK) as folder:
        write(folder + "/run", script, 0o755)
        with tarfile.open(folder + "/payload.tar", "w") as archive:
            archive.add(folder + "/run", "run")
            for name, path in files.items():
                archive.add(path, name)
        with open(folder + "/results.tar", "wb") as file:
            file.truncate(256 << 20)
        yield from _boot(disk, kept, folder, initrd(tree, version, folder, early or {}), append, limit_s)
        if out:
            os.makedirs(out, exist_ok=True)
            subprocess.run(["tar", "-xf", folder + "/results.tar", "-C", out], check=False)
