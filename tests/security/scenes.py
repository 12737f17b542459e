"""What is raced for: trees whose parts change from what they seem to what an attacker wants while a container is made of
them. Each scene names the two paths that are exchanged, and what must hold whichever was seen."""

import os

MASKED = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"]
KINDS = ("mount", "mask", "null", "dev", "proc", "console", "cwd")


class Scene:
    """A box, the pair of paths, and the marks of a sound container."""

    def __init__(self, box, kind, canary):
        self.box, self.kind, self.canary = box, kind, canary
        self.one = self.two = None
        box.process["args"] = ["/bin/hostile", "audit", canary.folder, *MASKED]
        getattr(self, "make_" + kind)()

    def pair(self, one, two_target):
        """`one` is a folder; beside it a link that takes its place."""
        self.one, self.two = one, one + ".swapped"
        os.makedirs(one, exist_ok=True)
        os.symlink(two_target, self.two)

    def shared(self):
        """A volume that another container has too, at /data."""
        volume = self.box.folder + "/volume"
        os.makedirs(volume, exist_ok=True)
        os.makedirs(self.box.rootfs + "/data", exist_ok=True)
        self.box.bind(volume, "/data")
        return volume

    def make_mount(self):
        """CVE-2021-30465, CVE-2024-45310: mounts, and folders made for them, below a folder of a shared volume."""
        volume = self.shared()
        other = self.box.folder + "/other"
        others = [other + "/one", other + "/two"]
        for one in others:
            os.makedirs(one)
        with open(other + "/file", "w", encoding="ascii") as file:
            file.write("of a volume")
        self.pair(volume + "/swapped", self.canary.folder)
        self.box.bind(others[0], "/data/swapped/inner")
        self.box.bind(others[1], "/data/swapped/made/by/runf")
        self.box.bind(other + "/file", "/data/swapped/made-file")
        self.box.spec["mounts"].append({"destination": "/data/swapped/fs", "type": "tmpfs", "source": "tmpfs"})
        # Wherever in the image it was: a mount that is nowhere in it was made outside.
        self.box.process["args"] += ["+" + path for path in (*others, other + "/file")]

    def make_mask(self):
        """Where masks and read-only paths go, in a shared volume."""
        volume = self.shared()
        self.pair(volume + "/swapped", "/proc/sys/kernel")
        with open(self.one + "/core_pattern", "w", encoding="ascii") as file:
            file.write("not a setting")
        self.box.linux["maskedPaths"] = [*MASKED, "/data/swapped/core_pattern", "/data/swapped"]
        self.box.linux["readonlyPaths"] = ["/proc/sys", "/proc/sysrq-trigger", "/data/swapped"]

    def make_null(self):
        """CVE-2025-31133: what masks are made of, where /dev is a shared volume."""
        dev = self.box.folder + "/dev"
        os.makedirs(dev)
        self.one, self.two = dev + "/null", dev + "/null.swapped"
        os.mknod(self.one, 0o20666, os.makedev(1, 3))
        os.symlink("/proc/sys/kernel/core_pattern", self.two)
        self.box.drop_mount("/dev")
        self.box.bind(dev, "/dev")
        self.box.linux["maskedPaths"] = MASKED

    def make_dev(self):
        """CVE-2026-41579: devices, links and ptmx in an image that another container writes to."""
        self.box.drop_mount("/dev")
        self.pair(self.box.rootfs + "/dev", os.path.relpath(self.canary.folder, self.box.rootfs))

    def make_proc(self):
        """CVE-2025-52881: procfs and what is written to it."""
        fake = self.box.rootfs + "/fake"
        os.makedirs(fake + "/sys/net/ipv4")
        os.makedirs(fake + "/self/fd")
        with open(fake + "/sys/net/ipv4/ip_default_ttl", "w", encoding="ascii") as file:
            file.write("1\n")
        self.pair(self.box.rootfs + "/proc", "/fake")
        self.box.linux["sysctl"] = {"net.ipv4.ip_default_ttl": "77"}

    def make_console(self):
        """CVE-2025-52565, CVE-2026-88264: the pty and /dev/console."""
        self.box.drop_mount("/dev")
        self.box.spec["mounts"].append({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                                        "options": ["newinstance", "ptmxmode=0666"]})
        self.box.process["terminal"] = True
        self.pair(self.box.rootfs + "/dev", self.canary.folder)

    def make_cwd(self):
        """A working directory that is made where it is missing."""
        volume = self.shared()
        self.pair(volume + "/swapped", self.canary.folder)
        self.box.process["cwd"] = "/data/swapped/made"

    def settled(self):
        """The pair as it was before: a folder and a link."""
        if os.path.islink(self.one):
            hold = self.one + ".hold"
            os.rename(self.one, hold)
            os.rename(self.two, self.one)
            os.rename(hold, self.two)

    def judge(self, done):
        """A refusal is sound; a container that ran must find itself whole."""
        assert done.code in (0, 1), done
        assert "bad:" not in done.out, done
        if done.code == 0:
            assert "sound" in done.out, done
        if self.kind == "proc":
            with open(self.box.rootfs + "/fake/sys/net/ipv4/ip_default_ttl", encoding="ascii") as file:
                assert file.read() == "1\n", "a setting went to a file of the image"
        self.canary.check()
