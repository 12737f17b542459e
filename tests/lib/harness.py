"""What the walks share: a private fluytd, a loopback registry, and counts of what a host holds."""

import contextlib
import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import images  # noqa: E402  (found beside this file)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("FLUYT_BIN", os.path.join(ROOT, "build", "release", "bin"))
SANITIZED = "FLUYT_REPORTS" in os.environ  # `./dev sanitize walks`
ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")  # of a pod or a container
PATIENCE = float(os.environ.get("FLUYT_PATIENCE", "1"))  # how much longer than usual everything may take: slower programs


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, what, seconds=15.0):
    """Polls `condition` until it is true; a test that waits for ever tells nobody anything."""
    end = time.monotonic() + seconds * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"gave up after {seconds * PATIENCE} s: {what}")
        time.sleep(0.02)


def stop_process(process, sig=signal.SIGTERM, seconds=10):
    if process.poll() is None:
        process.send_signal(sig)
        try:
            process.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cgroup_tops():
    """The mount points of the cgroup hierarchies."""
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        fields = [line.split() for line in mounts]
    return [field[1] for field in fields if field[2] in ("cgroup", "cgroup2")]


class Registry:
    """Debian's docker-registry on a free port of loopback, its files in `folder`."""

    def __init__(self, folder, auth=None, access_log=False, headers=None):
        """`auth`: the `auth` section of its configuration; None: everybody may do everything. `headers`: {name: [value]} of every
        answer."""
        program = shutil.which("docker-registry")
        if program is None:
            raise RuntimeError("docker-registry: not found; install Debian's docker-registry")
        os.makedirs(folder, exist_ok=True)
        self.address = f"127.0.0.1:{free_port()}"
        config = os.path.join(folder, "config.yml")
        with open(config, "w", encoding="utf-8") as file:
            json.dump({"version": "0.1", "log": {"level": "error", "accesslog": {"disabled": not access_log}},
                       "storage": {"filesystem": {"rootdirectory": folder + "/data"}, "delete": {"enabled": True}},
                       "http": {"addr": self.address, "headers": headers or {}}, **({"auth": auth} if auth else {})}, file)
        self.log = folder + "/log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([program, "serve", config], stdout=log, stderr=log)
        try:
            wait_for(self._answers, "docker-registry to answer")
        except BaseException:
            self.stop()
            raise

    def _answers(self):
        with contextlib.suppress(OSError), socket.create_connection(self.address.split(":"), 0.2):
            return True
        return False

    def stop(self):
        stop_process(self.process)


def write_mirrors(certs_dir, registry, hosts):
    """hosts.toml that sends each of `hosts` to `registry`."""
    for host in hosts:
        folder = os.path.join(certs_dir, host)
        os.makedirs(folder, exist_ok=True)
        with open(folder + "/hosts.toml", "w", encoding="utf-8") as file:
            file.write(f'server = "https://{host}"\n\n[host."http://{registry}"]\n'
                       'capabilities = ["pull", "resolve"]\n')


BRIDGE = {
    "cniVersion": "1.0.0", "name": "fluyt-test",
    "plugins": [
        {"type": "bridge", "bridge": "fluyttest0", "isGateway": True, "ipMasq": True, "hairpinMode": True,
         "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.187.0.0/16"}]],
                  "routes": [{"dst": "0.0.0.0/0"}]}},
        {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
    ],
}


class Engine:
    """fluytd with everything of it under one private folder."""

    def __init__(self, folder=None, network=BRIDGE, settings="", prefix=()):
        """`settings`: what goes into its configuration file beside what is said by flags. `prefix`: words of a command
        that executes fluytd, such as nsenter's."""
        self.prefix = list(prefix)
        self.bin = BIN  # where its programs are
        self.cni_bins = "/usr/lib/cni"
        self.folder = folder or tempfile.mkdtemp(prefix="fluyt-walk-")
        self.owned = folder is None
        self.root, self.state = self.folder + "/root", self.folder + "/state"
        self.certs, self.cni = self.folder + "/certs.d", self.folder + "/net.d"
        self.socket = self.folder + "/run/fluyt.sock"
        self.log = self.folder + "/fluytd.log"
        for path in (self.certs, self.cni, os.path.dirname(self.socket)):
            os.makedirs(path, exist_ok=True, mode=0o700)
        os.chmod(self.folder, 0o711)
        if network is not None:
            config = json.loads(json.dumps(network))
            for plugin in config["plugins"]:
                if "ipam" in plugin:
                    plugin["ipam"]["dataDir"] = self.folder + "/leases"
            with open(self.cni + "/10-test.conflist", "w", encoding="utf-8") as file:
                json.dump(config, file)
        self.configure(settings)
        self.process = None
        self.ids = set()  # see ids_of

    def configure(self, settings):
        with open(self.folder + "/fluytd.toml", "w", encoding="utf-8") as file:
            file.write(settings)

    def start(self, wait=True):
        command = [*self.prefix, self.bin + "/fluytd", "--root", self.root, "--state", self.state, "--listen", "unix:" + self.socket,
                   "--certs-dir", self.certs, "--cni-conf-dir", self.cni, "--cni-bin-dir", self.cni_bins,
                   "--config", self.folder + "/fluytd.toml", "--log-level", "debug"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if wait:
            wait_for(self._ready, "fluytd to answer")

    def _ready(self):
        if self.process.poll() is not None:
            with open(self.log, encoding="utf-8", errors="replace") as file:
                raise RuntimeError("fluytd ended:\n" + file.read()[-4000:])
        return self.fluyt("version", check=False).returncode == 0

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process is not None:
            stop_process(self.process)

    def fluyt(self, *args, check=True, **options):
        """Runs `fluyt ARGS` against this engine; output captured as text."""
        return self._run([BIN + "/fluyt", "--socket", self.socket, *args], check, options)

    def crictl(self, *args, check=True, **options):
        endpoint = "unix://" + self.socket
        return self._run([crictl(), "-r", endpoint, "-i", endpoint, "-t", "60s", *args], check, options)

    @staticmethod
    def _run(command, check, options):
        options.setdefault("timeout", 120)
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                              stdin=options.pop("stdin", subprocess.DEVNULL), **options)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def remove_all(self):
        """Every pod stopped and removed, whatever a failed test left."""
        for pod in self.fluyt("pods", "-q", check=False).stdout.split():
            self.fluyt("rm", "-f", pod, check=False)

    def close(self):
        with contextlib.suppress(Exception):
            self.remove_all()
        self.stop()
        subprocess.run(["ip", "link", "del", "fluyttest0"], stderr=subprocess.DEVNULL, check=False)
        for folder in glob.glob("/sys/fs/cgroup/*/fluyt*") + glob.glob("/sys/fs/cgroup/fluyt*"):
            with contextlib.suppress(OSError):  # another engine's pods are below it
                os.rmdir(folder)
        if self.owned and not os.environ.get("FLUYT_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)


def crictl():
    """The pinned crictl of tests/tools, built by `./dev tools`."""
    return os.path.join(ROOT, "build", "tools", "crictl")


def busybox_image():
    return images.Image([images.busybox_layer()], {"Env": [images.PATH_ENV], "Cmd": ["sh"]})


def settled_counts(engine, seconds=20):
    """host_counts once they have stood still for a second: network namespaces and pid 1 take their time."""
    end = time.monotonic() + seconds
    before = host_counts(engine)
    while True:
        time.sleep(1)
        now = host_counts(engine)
        if now == before or time.monotonic() > end:
            return now
        before = now


def ids_of(engine):
    """Of the pods and containers that the engine has or had: what of the host is theirs carries one in its name. Those of before are
    in its log."""
    with open(engine.log, encoding="utf-8", errors="replace") as file:
        engine.ids.update(ID.findall(file.read()))
    for top in (engine.state, engine.root):
        for _, dirs, names in os.walk(top):
            engine.ids.update(ID.findall(" ".join(dirs + names)))
    return engine.ids


def processes_of(engine):
    """{pid: (name, network namespace)} of what runs for the engine: its monitors, what it unpacks with, and all in its cgroups."""
    ids, found = ids_of(engine), {}
    for folder in glob.glob("/proc/[0-9]*"):
        with contextlib.suppress(OSError):
            with open(folder + "/stat", encoding="utf-8") as file:
                name, _, rest = file.read().split("(", 1)[1].rpartition(")")
            if rest.split()[0] == "Z":  # ended; its parent, pid 1, will come to it
                continue
            with open(folder + "/cgroup", encoding="utf-8") as file:
                is_ours = not ids.isdisjoint(ID.findall(file.read()))
            with open(folder + "/cmdline", encoding="utf-8", errors="replace") as file:
                is_ours = is_ours or engine.folder in file.read()
            if is_ours or (engine.process is not None and int(rest.split()[1]) == engine.process.pid):
                found[int(os.path.basename(folder))] = (name, os.readlink(folder + "/ns/net"))
    return found


def host_counts(engine):
    """What must be the same before and after: kernel objects and files of the engine's. Other engines of the machine do not count."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = sum(1 for line in file)
    ids = ids_of(engine)
    cgroups = sum(not ids.isdisjoint(ID.findall(name))
                  for top in cgroup_tops() for _, dirs, _ in os.walk(top) for name in dirs)
    links = json.loads(subprocess.run(["ip", "-j", "link"], check=True, stdout=subprocess.PIPE, text=True).stdout)
    running = processes_of(engine)
    files = 0
    for top in (engine.state, engine.root):
        for folder, dirs, names in os.walk(top):
            # Layers are the image's, not a pod's, and SQLite's journals come and go.
            dirs[:] = [name for name in dirs if not (folder == engine.root + "/image" and name in ("layers", "blobs"))]
            files += len(dirs) + sum(not name.endswith(("-wal", "-shm")) for name in names)
    leases = len([name for name in glob.glob(engine.folder + "/leases/*/*") if name.split("/")[-1][0].isdigit()])
    return {"mounts": mounts, "cgroups": cgroups, "veths": sum(link["ifname"].startswith("veth") for link in links),
            "processes": len(running), "network namespaces": len({namespace for _, namespace in running.values()}),
            "files": files, "IP leases": leases}
