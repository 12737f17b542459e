"""Debian sid's containerd in the place of fluytd, for the walks that speak CRI alone: what they ask of an engine is then seen
to be what the field gives. Use it in mount and network namespaces of its own."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile

import harness
import pytest

sys.path.insert(0, os.path.join(harness.ROOT, "bench"))
import common  # noqa: E402  (the peers' tree)


class Containerd:
    """As harness.Engine, as far as that is CRI. A walk that asks for fluyt's own command is skipped."""

    def __init__(self, pause):
        self.folder = tempfile.mkdtemp(prefix="containerd-walk-")
        self.socket = self.folder + "/run/containerd.sock"
        self.certs, self.log = self.folder + "/certs.d", self.folder + "/containerd.log"
        for name in ("run", "certs.d", "net.d"):
            os.makedirs(f"{self.folder}/{name}")
        os.chmod(self.folder, 0o711)
        network = json.loads(json.dumps(harness.BRIDGE))
        network["plugins"][0]["ipam"]["dataDir"] = self.folder + "/leases"
        with open(self.folder + "/net.d/10-test.conflist", "w", encoding="utf-8") as file:
            json.dump(network, file)
        with open(self.folder + "/config.toml", "w", encoding="utf-8") as file:
            file.write(common.containerd_config(self.folder, self.folder, self.socket, pause))
        self.process = None
        print("containerd", common.peers_tree()["containerd"])
        common.in_private_tree()
        # The same paths inside the tree as outside: log folders and volumes are said in absolute paths.
        for path in ("/tmp", "/etc/cdi", "/run/cdi"):
            os.makedirs(common.TREE + path, exist_ok=True)
            if os.path.isdir(path):
                common.sh("mount", "--rbind", path, common.TREE + path)

    def start(self, wait=True):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(common.in_tree("containerd", "-c", self.folder + "/config.toml"), stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        if wait:
            harness.wait_for(lambda: self.crictl("version", check=False).returncode == 0, "containerd to answer", 30)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process is not None:
            harness.stop_process(self.process)

    def fluyt(self, *args, **_options):
        pytest.skip("asks for fluyt's own command: " + " ".join(args))

    def __getattr__(self, name):
        pytest.skip("looks into fluytd: " + name)

    def crictl(self, *args, check=True, **options):
        endpoint = "unix://" + self.socket
        return harness.Engine._run([harness.crictl(), "-r", endpoint, "-i", endpoint, "-t", "60s", *args], check, options)

    def remove_all(self):
        self.crictl("rmp", "-a", "-f", check=False)

    def close(self):
        with contextlib.suppress(Exception):
            self.remove_all()
        self.stop()
        subprocess.run(["ip", "link", "del", "fluyttest0"], stderr=subprocess.DEVNULL, check=False)
        if not os.environ.get("FLUYT_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)
