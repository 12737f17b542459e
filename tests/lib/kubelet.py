"""A real kubelet without an API server: static pods from a folder, everything of it below one private folder."""

import contextlib
import glob
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import time

import harness

NODE_IP = "10.186.0.1"  # the kubelet wants an address that is not of 127/8
PROGRAM = os.path.join(harness.ROOT, "build", "tools", "kubelet")

# What one without an API server wants, wherever it runs.
STANDALONE = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
    "address": "127.0.0.1", "readOnlyPort": 0, "healthzPort": 0,
    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    "fileCheckFrequency": "1s", "syncFrequency": "2s", "nodeStatusUpdateFrequency": "5s",
    "failCgroupV1": False, "failSwapOn": False,
    "enforceNodeAllocatable": ["pods"], "enableControllerAttachDetach": False,
    "evictionHard": {"memory.available": "1Mi"}, "registerNode": False,
    "crashLoopBackOff": {"maxContainerRestartPeriod": "2s"},
    "featureGates": {"KubeletCrashLoopBackOffMax": True},
}


def _controllers():
    """The cgroup folders below which a tree of ours may be made, one a hierarchy."""
    return [top for top in harness.cgroup_tops() if os.access(top, os.W_OK)]


class Kubelet:
    """`engine`: the harness.Engine that it speaks CRI to. Manifests go to `manifests`; logs of containers to `logs`."""

    def __init__(self, engine, **settings):
        self.engine = engine
        self.folder = engine.folder + "/kubelet"
        self.manifests = self.folder + "/manifests"
        self.logs = self.folder + "/pod-logs"
        self.log = self.folder + "/kubelet.log"
        self.port = harness.free_port()
        self.cgroup = f"fluyt-kubelet-{os.getpid()}"
        for path in (self.manifests, self.logs, self.folder + "/root"):
            os.makedirs(path, exist_ok=True)
        self.config = {
            **STANDALONE, "port": self.port, "staticPodPath": self.manifests,
            "containerRuntimeEndpoint": "unix://" + engine.socket, "podLogsDir": self.logs,
            "volumePluginDir": self.folder + "/volume-plugins", "cgroupRoot": "/" + self.cgroup,
            "containerLogMaxSize": "10Mi", "containerLogMonitorInterval": "3s",
            **settings,
        }
        self.process = None

    def start(self):
        subprocess.run(["ip", "addr", "replace", NODE_IP + "/32", "dev", "lo"], check=True)
        for top in _controllers():
            folder = f"{top}/{self.cgroup}"
            os.makedirs(folder, exist_ok=True)
            self._fill_cpuset(top, folder)
        path = self.folder + "/config.yaml"  # JSON is YAML
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.config, file, indent=1)
        command = [PROGRAM, "--config", path, "--root-dir", self.folder + "/root", "--cert-dir", self.folder + "/certs",
                   "--hostname-override", "walk", "--node-ip", NODE_IP, "-v", "2"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        harness.wait_for(self._healthy, "the kubelet to answer", seconds=90)

    @staticmethod
    def _fill_cpuset(top, folder):
        for name in ("cpuset.cpus", "cpuset.mems"):
            if os.path.exists(f"{folder}/{name}"):
                with open(f"{top}/{name}", encoding="ascii") as source, open(f"{folder}/{name}", "w", encoding="ascii") as to:
                    to.write(source.read())

    def _healthy(self):
        if self.process.poll() is not None:
            with open(self.log, encoding="utf-8", errors="replace") as file:
                raise RuntimeError("the kubelet ended:\n" + file.read()[-6000:])
        with contextlib.suppress(OSError):
            return self.get("/healthz")[0] == 200
        return False

    def connection(self, timeout=30):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=context)

    def get(self, path):
        """(HTTP status, body as text)."""
        connection = self.connection()
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
        finally:
            connection.close()

    def apply(self, pod):
        """A manifest appears whole: the kubelet reads it at any moment."""
        name = pod["metadata"]["name"]
        with open(f"{self.folder}/{name}.new", "w", encoding="utf-8") as file:
            json.dump(pod, file)
        os.rename(f"{self.folder}/{name}.new", f"{self.manifests}/{name}.json")

    def delete(self, name):
        os.unlink(f"{self.manifests}/{name}.json")

    def pod(self, name):
        """The pod as the kubelet tells of it, or None. A static pod's name ends in the node's."""
        for pod in json.loads(self.get("/pods")[1]).get("items") or []:
            if pod["metadata"]["name"] == name + "-walk":
                return pod
        return None

    def containers(self, name):
        """{container name: its status} of a pod, init containers among them."""
        status = (self.pod(name) or {}).get("status", {})
        rows = status.get("initContainerStatuses", []) + status.get("containerStatuses", [])
        return {row["name"]: row for row in rows}

    def ready(self, name):
        pod = self.pod(name)
        conditions = (pod or {}).get("status", {}).get("conditions") or []
        return any(row["type"] == "Ready" and row["status"] == "True" for row in conditions)

    def wait_ready(self, *names, seconds=90):
        for name in names:
            harness.wait_for(lambda name=name: self.ready(name), f"pod {name} to be ready", seconds)

    def stop(self):
        if self.process is not None:
            harness.stop_process(self.process, signal.SIGTERM, 20)
            self.process = None

    def close(self):
        """Ends the kubelet, its pods, its mounts and its cgroups."""
        self.stop()
        self.engine.remove_all()
        with open("/proc/self/mounts", encoding="utf-8") as mounts:
            ours = [line.split()[1] for line in mounts if line.split()[1].startswith(self.folder + "/")]
        for path in sorted(ours, reverse=True):
            subprocess.run(["umount", "-l", path], check=False)
        for top in _controllers():
            self._remove_cgroup(f"{top}/{self.cgroup}")
        if not os.environ.get("FLUYT_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def _remove_cgroup(folder, seconds=5.0):
        end = time.monotonic() + seconds
        while os.path.isdir(folder) and time.monotonic() < end:
            for path in sorted(glob.glob(folder + "/**/", recursive=True), reverse=True):
                with contextlib.suppress(OSError):
                    os.rmdir(path)
            time.sleep(0.05)
