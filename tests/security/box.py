"""A container to attack: a bundle made of busybox, runf's verbs on it, and the oracles that say whether something of
it reached the host."""

import copy
import hashlib
import json
import os
import shutil
import subprocess
import time
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("FLUYT_BIN", os.path.join(ROOT, "build", "release", "bin"))
# Another runf under the same tests: what a test is worth shows against one that lacks a defence.
RUNF = os.environ.get("FLUYT_RUNF", os.path.join(BIN, "runf"))
TOOLS = os.path.join(os.path.dirname(BIN), "security")
HOSTILE = os.path.join(TOOLS, "hostile")
STOPS = os.path.join(TOOLS, "stops")
BUSYBOX = shutil.which("busybox") or "/bin/busybox"
CGROUP_PARENT = "fluyt-security"
LIMIT_S = 60

_APPLETS = ("sh", "ls", "cat", "id", "true", "sleep", "mount", "readlink", "stat", "grep", "mkdir", "touch", "env",
            "pwd", "test", "mknod", "head", "chmod", "kill", "echo", "tty", "dd", "seq")

ALL_CAPS = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
            "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
            "CAP_AUDIT_WRITE"]


def default_spec():
    folder = f"/tmp/fluyt-spec-{uuid.uuid4().hex[:8]}"
    os.mkdir(folder)
    try:
        subprocess.run([RUNF, "spec", "--bundle", folder], check=True, timeout=LIMIT_S)
        with open(folder + "/config.json", encoding="utf-8") as file:
            return json.load(file)
    finally:
        shutil.rmtree(folder)


_SPEC = None


class Outcome:
    def __init__(self, done):
        self.code = done.returncode
        self.out = (done.stdout or b"").decode(errors="replace")
        self.err = (done.stderr or b"").decode(errors="replace")

    def __repr__(self):
        return f"exit {self.code}\nout: {self.out}\nerr: {self.err}"


class Box:
    """One bundle under `folder`; a container of it has the id `id`."""

    def __init__(self, folder):
        global _SPEC
        _SPEC = _SPEC or default_spec()
        self.id = "sec-" + uuid.uuid4().hex[:10]
        self.folder = os.path.join(folder, self.id)
        self.state = os.path.join(folder, "state")
        self.rootfs = self.folder + "/rootfs"
        os.makedirs(self.rootfs)
        for name in ("bin", "etc", "tmp", "proc", "sys", "dev"):
            os.mkdir(f"{self.rootfs}/{name}")
        shutil.copy(BUSYBOX, self.rootfs + "/bin/busybox")
        shutil.copy(HOSTILE, self.rootfs + "/bin/hostile")
        for name in _APPLETS:
            os.symlink("busybox", f"{self.rootfs}/bin/{name}")
        self.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nsailor:x:1000:1000::/:/bin/sh\n")
        self.write("/etc/group", "root:x:0:\nsailor:x:1000:\n")
        self.spec = copy.deepcopy(_SPEC)
        self.process["terminal"] = False
        self.spec["root"]["readonly"] = False
        self.linux["cgroupsPath"] = f"/{CGROUP_PARENT}/{self.id}"
        self.linux.setdefault("maskedPaths", [])
        self.linux.setdefault("readonlyPaths", [])

    @property
    def linux(self):
        return self.spec["linux"]

    @property
    def process(self):
        return self.spec["process"]

    def write(self, path, text, mode=0o644):
        """A file of the image."""
        with open(self.rootfs + path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.rootfs + path, mode)

    def link(self, path, target):
        """A link of the image in place of what is there."""
        whole = self.rootfs + path
        if os.path.isdir(whole) and not os.path.islink(whole):
            os.rmdir(whole)
        elif os.path.lexists(whole):
            os.remove(whole)
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        os.symlink(target, whole)

    def drop_mount(self, destination):
        """Also what lies below."""
        self.spec["mounts"] = [m for m in self.spec["mounts"]
                               if m["destination"] != destination and not m["destination"].startswith(destination + "/")]

    def bind(self, source, destination, *options):
        self.spec["mounts"].append({"destination": destination, "type": "bind", "source": source,
                                    "options": ["rbind", *options]})

    def grant(self, *names):
        for kind in ("bounding", "effective", "permitted"):
            have = self.process["capabilities"].setdefault(kind, [])
            have.extend(n for n in names if n not in have)

    def hook(self, kind, *args, env=None):
        self.spec.setdefault("hooks", {}).setdefault(kind, []).append(
            {"path": args[0], "args": list(args), "env": env or []})

    def early_hook(self):
        """With a hook that looks for the root at its host path, runf mounts before it pivots: the host is still there
        to be reached."""
        self.hook("createRuntime", "/bin/true")

    def map_users(self):
        """Into a user namespace, every id as it is: what counts is whose rights are asked."""
        self.namespace("user")
        self.linux["uidMappings"] = [{"containerID": 0, "hostID": 0, "size": 65536}]
        self.linux["gidMappings"] = [{"containerID": 0, "hostID": 0, "size": 65536}]

    def namespace(self, kind, path=None):
        self.linux["namespaces"] = [n for n in self.linux["namespaces"] if n["type"] != kind]
        if path is not False:
            self.linux["namespaces"].append({"type": kind, **({"path": path} if path else {})})

    def save(self, args=None):
        if args is not None:
            self.process["args"] = list(args)
        with open(self.folder + "/config.json", "w", encoding="utf-8") as file:
            json.dump(self.spec, file)

    def runf(self, *args, program=None, timeout=LIMIT_S, **options):
        """runf of this box's state; with `program`, that one with just `args` (a runf is told the state too)."""
        options.setdefault("stdin", subprocess.DEVNULL)
        runf = program is None or os.path.basename(program).startswith("runf")
        command = [program or RUNF, *(("--root", self.state) if runf else ()), *args]
        return Outcome(subprocess.run(command, check=False, timeout=timeout,
                                      stdout=options.pop("stdout", subprocess.PIPE),
                                      stderr=options.pop("stderr", subprocess.PIPE), **options))

    def run(self, *args, flags=(), **options):
        self.save(args)
        done = self.runf("run", *flags, "--bundle", self.folder, self.id, **options)
        self.runf("delete", "--force", self.id)
        return done

    def shell(self, script, **options):
        return self.run("/bin/sh", "-c", script, **options)

    def start(self, *args, **options):
        """Runs `args` behind our back, until the end of the test."""
        self.save(args or ("/bin/sleep", "1000"))
        with open(self.folder + "/output", "wb") as output:
            done = self.runf("run", "--detach", "--bundle", self.folder, self.id, stdout=output, stderr=output, **options)
        with open(self.folder + "/output", encoding="utf-8", errors="replace") as output:
            done.err = output.read()
        assert done.code == 0, done
        return self.pid()

    def output(self):
        with open(self.folder + "/output", encoding="utf-8", errors="replace") as output:
            return output.read()

    def pid(self):
        return json.loads(self.runf("state", self.id).out)["pid"]

    def wait(self):
        """Until the first process has ended; returns what it wrote."""
        end = time.monotonic() + LIMIT_S
        while self.pid() != 0:
            assert time.monotonic() < end, "it does not end: " + self.output()
            time.sleep(0.05)
        return self.output()

    def exec(self, *args, flags=(), **options):
        return self.runf("exec", *flags, self.id, *args, **options)

    def close(self):
        self.runf("delete", "--force", self.id)
        shutil.rmtree(self.folder, ignore_errors=True)


def remove_cgroup_parents():
    for folder in ["/sys/fs/cgroup", *(e.path for e in os.scandir("/sys/fs/cgroup") if e.is_dir(follow_symlinks=False))]:
        path = os.path.join(folder, CGROUP_PARENT)
        if os.path.isdir(path):
            try:
                os.rmdir(path)
            except OSError:
                pass  # another run's container is in it


class Canary:
    """A folder of the host's that no container was given: nothing may appear, change or be mounted in it."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder + "/inner")
        for name in ("file", "null", "console", "inner/file"):
            with open(f"{folder}/{name}", "w", encoding="ascii") as file:
                file.write(f"canary {name}\n")
        self.before = self.look()

    def look(self):
        seen = {}
        for top, folders, files in os.walk(self.folder):
            for name in [*folders, *files, "."]:
                path = os.path.join(top, name)
                info = os.lstat(path)
                content = ""
                if os.path.isfile(path) and not os.path.islink(path):
                    with open(path, "rb") as file:
                        content = hashlib.sha256(file.read()).hexdigest()
                seen[path] = (info.st_mode, info.st_uid, info.st_gid, info.st_ino, info.st_dev, info.st_rdev, content)
        return seen, host_mounts(), core_pattern()

    def check(self):
        """What was looked at once more, against what it was; the difference is the escape."""
        now = self.look()
        for what, before, after in zip(("files", "mounts", "core_pattern"), self.before, now):
            assert before == after, f"{what} of the host changed"


def host_mounts():
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return sorted(" ".join(line.split()[2:]) for line in file)


def core_pattern():
    with open("/proc/sys/kernel/core_pattern", encoding="utf-8") as file:
        return file.read()


def file_hash(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
