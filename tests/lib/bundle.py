"""A container without an engine: a busybox bundle, and a program with runc's command line that has a state folder of its own."""

import json
import os
import shutil
import subprocess

import harness

NAMES = ("sh", "cat", "env", "echo", "sleep", "true", "false", "id", "grep", "mkdir", "pwd", "ls", "ps", "kill", "hostname", "stty", "tty", "touch",
         "ln", "rm", "mv", "wc", "stat", "head", "awk", "umount", "mount", "cp")
PASSWD = "root:x:0:0::/root:/bin/sh\nsailor:x:1000:1000::/home/sailor:/bin/sh\n"


class Box:
    """`group` is the cgroup that its containers' lie in: gone at the end."""

    def __init__(self, program, group, folder, folders=(), limit_s=60):
        self.program, self.group, self.limit_s = program, group, limit_s
        self.bundle, self.root = folder + "/bundle", folder + "/state"
        self.rootfs = self.bundle + "/rootfs"
        for name in ("bin", "etc", "tmp", *folders):
            os.makedirs(self.rootfs + "/" + name)
        shutil.copy("/bin/busybox", self.rootfs + "/bin/busybox")
        for name in NAMES:
            os.symlink("busybox", self.rootfs + "/bin/" + name)
        with open(self.rootfs + "/etc/passwd", "w", encoding="utf-8") as file:
            file.write(PASSWD)
        self.done("spec", "-b", self.bundle)
        with open(self.bundle + "/config.json", encoding="utf-8") as file:
            self.config = json.load(file)
        self.config["process"]["terminal"] = False
        self.config["linux"]["cgroupsPath"] = f"{group}/{os.path.basename(folder)}"
        self.ids = set()

    def write(self, args=None):
        if args is not None:
            self.config["process"]["args"] = list(args)
        with open(self.bundle + "/config.json", "w", encoding="utf-8") as file:
            json.dump(self.config, file)

    def call(self, *words, **more):
        more.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run([self.program, "--root", self.root, *words], check=False, capture_output=True, text=True,
                              timeout=self.limit_s, cwd=self.bundle, **more)

    def done(self, *words, **more):
        made = self.call(*words, **more)
        assert made.returncode == 0, (words, made.stdout, made.stderr)
        return made.stdout

    def detached(self, *words, out=None):
        # Its outputs must not be pipes of ours: we would wait for the end of what it starts.
        with open(out or os.devnull, "wb") as target:
            made = subprocess.run([self.program, "--root", self.root, "--log", self.bundle + "/log", *words], check=False,
                                  cwd=self.bundle, stdin=subprocess.DEVNULL, stdout=target, stderr=target, timeout=self.limit_s)
        with open(self.bundle + "/log", encoding="utf-8") as log:
            assert made.returncode == 0, log.read()

    def start(self, *args, name="one", out=None):
        """A detached container of the configuration as it now is; its pid."""
        self.write(args or ("sleep", "1000"))
        self.ids.add(name)
        self.detached("run", "-d", name, out=out)
        return self.state(name)["pid"]

    def state(self, name="one"):
        return json.loads(self.done("state", name))

    def once(self, *args, name="once"):
        """(status, output, error) of a container run to its end."""
        self.write(args)
        made = self.call("run", name)
        return made.returncode, made.stdout, made.stderr

    def cgroups(self):
        return sorted(folder for top in harness.cgroup_tops() for folder in [top + self.config["linux"]["cgroupsPath"]]
                      if os.path.isdir(folder))

    def close(self):
        for name in self.ids:
            self.call("delete", "--force", name)
        assert self.cgroups() == []
        for top in harness.cgroup_tops():
            if os.path.isdir(top + self.group):
                os.rmdir(top + self.group)
