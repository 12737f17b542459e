"""Runtime handlers for walks and critest: where the programs are, and namespaces in which they run.

runc and crun are taken from the tree of Debian sid that the benchmarks keep in build/bench/peers, else from the host. Those
of the tree want its libraries; crun refuses a host whose v2 hierarchy has a controller beside v1. So a handler may need a
mount namespace of its own for fluytd and all that it starts."""

import os
import shutil
import subprocess
import tempfile

import harness

TREE = os.path.join(harness.ROOT, "build", "bench", "peers")
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
UNIFIED = "/sys/fs/cgroup/unified"
NAMES = ("runf-program", "runc", "crun", "guest")  # by their command line; "runf" is what the monitor links


def find(name):
    """The path of a handler's program, or None."""
    if name in ("", "runf"):  # no program
        return None
    if name == "runf-program":
        return harness.BIN + "/runf"
    if name == "guest":
        return harness.BIN + "/rung"
    for folder in ("/usr/sbin", "/usr/bin"):
        if os.path.exists(f"{TREE}{folder}/{name}"):
            return f"{TREE}{folder}/{name}"
    return shutil.which(name)


def settings(name, **more):
    """The section of fluytd's configuration; nothing for the linked runtime."""
    if name == "runf":
        return ""
    lines = [f"[runtime.handlers.{name}]", f'path = "{find(name)}"']
    lines += [f"{key} = {value}" for key, value in more.items()]
    return "\n".join(lines) + "\n"


def links_to_libraries(program):
    """A folder of links to the tree's libraries that the program wants, and to all of its C library, whose parts go
    together. The host's programs run with a newer C library than theirs, and with the rest of their own."""
    libraries = TREE + LIBRARIES
    listed = subprocess.run([libraries + "/ld-linux-x86-64.so.2", "--library-path", libraries, "--list", program],
                            check=True, stdout=subprocess.PIPE, text=True).stdout
    names = {os.path.basename(word) for word in listed.split() if word.startswith(libraries)}
    with open(TREE + "/var/lib/dpkg/info/libc6:amd64.list", encoding="utf-8") as file:
        names |= {os.path.basename(line.strip()) for line in file if ".so" in line and "/gconv/" not in line}
    folder = tempfile.mkdtemp(prefix="fluyt-libraries-")
    for name in names:
        if os.path.isfile(f"{libraries}/{name}"):
            os.symlink(f"{libraries}/{name}", f"{folder}/{name}")
    return folder


class Namespace:
    """A mount namespace with what the handler's program needs, held by a process that sleeps."""

    def __init__(self, name):
        commands = []
        self.libraries = None
        if (find(name) or "").startswith(TREE):
            self.libraries = links_to_libraries(find(name))
            commands.append(f"mount -t overlay overlay -o lowerdir={self.libraries}:{LIBRARIES} {LIBRARIES}")
        if name == "crun" and os.path.ismount(UNIFIED):
            commands.append("umount " + UNIFIED)
        self.holder = None
        if commands:
            script = " && ".join([*commands, "echo made", "exec sleep infinity"])
            self.holder = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
                                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            if self.holder.stdout.readline() != b"made\n":
                raise RuntimeError(f"no namespace for {name}")

    def prefix(self):
        """The words in front of a command that is to run there."""
        return ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", "--"] if self.holder else []

    def close(self):
        if self.holder:
            self.holder.kill()
            self.holder.wait()
            self.holder.stdout.close()
        if self.libraries:
            shutil.rmtree(self.libraries)
