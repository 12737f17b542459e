"""A disk that can lose its power: a file system in a file, behind a loop device of its own, and the ioctl that makes it
forget all that was not yet on the disk."""

import array
import contextlib
import fcntl
import os
import shutil
import subprocess
import time

FS_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32), <linux/fs.h>; ext4 and xfs know it
# What is lost besides the pages in memory: flushed whole, so nothing; the journal flushed, data not; nothing flushed.
FLUSHED, JOURNAL_FLUSHED, NOTHING_FLUSHED = 0, 1, 2
MAKE = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}


def why_not(kind):
    """What this machine lacks for a Disk of `kind`; nothing when it can have one."""
    if os.geteuid() != 0:
        return "needs root for loop devices and mounts"
    if shutil.which(MAKE[kind][0]) is None:
        return f"{MAKE[kind][0]} is not installed"
    done = subprocess.run(["losetup", "-f"], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0 or not os.path.exists(done.stdout.strip()):
        return "no loop devices here: " + done.stdout.strip()
    with open("/proc/filesystems", encoding="ascii") as file:
        if kind not in file.read().split():
            return f"the kernel has no {kind}"
    return None


class Disk:
    """Mounted at `folder`/mnt. Use it in a mount namespace of your own: a copy of the mount in another one keeps the
    file system alive, and what is alive has forgotten nothing."""

    def __init__(self, folder, kind, mib=1024, options=()):
        self.file, self.mount_point, self.device = f"{folder}/{kind}.disk", f"{folder}/mnt", None
        os.makedirs(self.mount_point, exist_ok=True)
        with open(self.file, "wb") as file:
            file.truncate(mib << 20)
        subprocess.run([*MAKE[kind], *options, self.file], check=True)
        self.mount()

    def mount(self):
        self.device = subprocess.run(["losetup", "-f", "--show", self.file], check=True, stdout=subprocess.PIPE,
                                     text=True).stdout.strip()
        subprocess.run(["mount", self.device, self.mount_point], check=True)

    def cut(self, flag):
        """From here on nothing more reaches the disk."""
        folder = os.open(self.mount_point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(folder, FS_IOC_SHUTDOWN, array.array("I", [flag]))
        finally:
            os.close(folder)

    def unmount(self, seconds=30):
        """Until the kernel has let go of the device: only then does the next mount read the disk and no old memory."""
        end = time.monotonic() + seconds
        while subprocess.run(["umount", "-R", self.mount_point], check=False, stderr=subprocess.PIPE).returncode != 0:
            if time.monotonic() > end:
                raise TimeoutError(f"{self.mount_point} stays busy")
            time.sleep(0.05)
        backing = f"/sys/block/{os.path.basename(self.device)}/loop/backing_file"
        subprocess.run(["losetup", "-d", self.device], check=True)
        while os.path.exists(backing):
            if time.monotonic() > end:
                raise TimeoutError(f"{self.device} stays in use")
            time.sleep(0.02)
        self.device = None

    def close(self):
        if self.device is not None:
            with contextlib.suppress(TimeoutError, subprocess.CalledProcessError):
                self.unmount()
        os.unlink(self.file)
