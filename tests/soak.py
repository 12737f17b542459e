"""Many containers through runf's create, start and delete: `./dev soak [N]`, N (default 10000) in a row and N eight at a
time. None may fail, and nothing may be left: no state folder, mount, cgroup or process.
"""

import concurrent.futures
import ctypes
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RUNF = os.environ.get("FLUYT_BIN", os.path.join(ROOT, "build", "release", "bin")) + "/runf"
AT_A_TIME = 8
PR_SET_CHILD_SUBREAPER = 36


class Soak:
    def __init__(self, folder):
        self.folder = folder
        self.state = folder + "/state"
        self.bundle = folder + "/bundle"
        self.cgroups = f"fluyt-soak-{os.getpid()}"
        os.makedirs(self.bundle + "/rootfs/bin")
        shutil.copy(shutil.which("busybox"), self.bundle + "/rootfs/bin/true")
        subprocess.run([RUNF, "spec", "-b", self.bundle], check=True)
        with open(self.bundle + "/config.json", encoding="utf-8") as file:
            self.config = json.load(file)
        self.config["process"]["terminal"] = False
        self.config["process"]["args"] = ["/bin/true"]
        self.config["linux"]["resources"] = {"pids": {"limit": 50}, "memory": {"limit": 64 << 20}}
        # A container's end must be told by its own parent: us.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def write_bundle(self, name):
        """A bundle a container, on the one root: only the cgroup's path is its own."""
        place = f"{self.folder}/{name}"
        os.mkdir(place)
        config = {**self.config, "root": {"path": self.bundle + "/rootfs", "readonly": True}}
        config["linux"] = {**config["linux"], "cgroupsPath": f"/{self.cgroups}/{name}"}
        with open(place + "/config.json", "w", encoding="utf-8") as file:
            json.dump(config, file)
        return place

    def runf(self, *words):
        # A file, not a pipe: the container has it too, and would keep it from ending.
        with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
            done = subprocess.run([RUNF, "--root", self.state, *words], check=False, stdout=subprocess.DEVNULL,
                                  stderr=said, stdin=subprocess.DEVNULL, timeout=60)
            said.seek(0)
            if done.returncode != 0:
                raise RuntimeError(f"runf {' '.join(words)}: exit {done.returncode}: {said.read().strip()}")

    def cycle(self, name):
        bundle = self.write_bundle(name)
        self.runf("create", "-b", bundle, "--pid-file", bundle + "/pid", name)
        with open(bundle + "/pid", encoding="ascii") as file:
            pid = int(file.read())
        self.runf("start", name)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status != 0:
            raise RuntimeError(f"{name}: its program ended with {status}")
        self.runf("delete", name)
        shutil.rmtree(bundle)

    def left(self, mounts):
        """What there should be nothing of."""
        found = []
        if os.path.isdir(self.state):
            found += [f"state folder {name}" for name in os.listdir(self.state)]
        found += [f"mount {line}" for line in read_mounts() - mounts]
        for top in glob.glob("/sys/fs/cgroup/*/" + self.cgroups) + glob.glob("/sys/fs/cgroup/" + self.cgroups):
            found += [f"cgroup {top}/{name}" for name in os.listdir(top) if os.path.isdir(f"{top}/{name}")]
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            found.append(f"a process that nobody waited for ({pid or 'running'})")
        except ChildProcessError:
            pass
        return found

    def close(self):
        for name in os.listdir(self.state) if os.path.isdir(self.state) else []:
            subprocess.run([RUNF, "--root", self.state, "delete", "--force", name], check=False)
        for top in glob.glob("/sys/fs/cgroup/*/" + self.cgroups) + glob.glob("/sys/fs/cgroup/" + self.cgroups):
            for folder, _, _ in os.walk(top, topdown=False):
                os.rmdir(folder)


def read_mounts():
    """Without what a mount's line says of its use: the mount points and where they come from."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return {" ".join(line.split()[3:5]) for line in file}


def soak(count, at_a_time, report):
    """Raises what a cycle raised; returns what is left."""
    with tempfile.TemporaryDirectory(prefix="fluyt-soak-") as folder:
        run = Soak(folder)
        mounts = read_mounts()
        began = time.monotonic()
        try:
            with concurrent.futures.ThreadPoolExecutor(at_a_time) as pool:
                for number, _ in enumerate(pool.map(run.cycle, (f"soak{i}" for i in range(count))), 1):
                    if number % 1000 == 0 or number == count:
                        report(f"{number} of {count}, {at_a_time} at a time: {time.monotonic() - began:.1f} s")
            return run.left(mounts)
        finally:
            run.close()


def main():
    if len(sys.argv) > 2 or (len(sys.argv) == 2 and not sys.argv[1].isdecimal()):
        sys.exit("usage: ./dev soak [N]")
    count = int(sys.argv[1]) if len(sys.argv) == 2 else 10000
    for at_a_time in (1, AT_A_TIME):
        left = soak(count, at_a_time, lambda line: print(line, flush=True))
        for what in left:
            print(f"left behind: {what}")
        if left:
            return 1
    print(f"{2 * count} containers: none failed, nothing is left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
