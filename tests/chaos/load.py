"""Pods coming and going. A worker knows nothing but what the engine lists: what a lost answer was about is met again."""

import collections
import os
import random
import threading
import time
import uuid

import cri as c
import grpc

WRITER = "i=0; while true; do i=$((i+1)); echo line $i; [ $((i % 50)) = 0 ] && sleep 0.02; done"
FINISHER = "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; done; exit 3"
FINISHER_LINES, FINISHER_CODE = 300, 3
PODS_A_WORKER = 3
HOST_PORTS = iter(range(20000, 60000))


class Client(c.Client):
    """Connects again at once, and counts what calls end with."""

    def __init__(self, engine, ends):
        super().__init__(engine.socket, engine.folder + "/logs", options=[
            ("grpc.min_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 50)])
        self.ends = ends

    def tried(self, name, call, *arguments, **options):
        """The answer, or nothing: an error is the load's fate, not its end."""
        try:
            answer = call(*arguments, **options)
            self.ends[name, "OK"] += 1
            return answer
        except grpc.RpcError as error:
            self.ends[name, error.code().name] += 1
            return None


class Worker(threading.Thread):
    def __init__(self, load, number, seed):
        super().__init__(daemon=True)
        self.load, self.label, self.rng = load, f"worker{number}", random.Random(seed)
        self.client = Client(load.engine, load.ends)

    def run(self):
        while not self.load.ending:
            with self.load.running:
                if self.load.paused:
                    self.load.idle += 1
                    self.load.running.notify_all()
                    self.load.running.wait_for(lambda: not self.load.paused or self.load.ending)
                    self.load.idle -= 1
            if not self.load.ending:
                self.step()
        self.client.close()

    def step(self):
        listed = self.client.tried("ListPodSandbox", self.client.runtime.ListPodSandbox, c.pb.ListPodSandboxRequest(
            filter=c.pb.PodSandboxFilter(label_selector={"worker": self.label})), timeout=20)
        if listed is None:
            time.sleep(0.05)
            return
        pods = list(listed.items)
        if len(pods) < PODS_A_WORKER and self.rng.random() < 0.5:
            return self.come()
        if not pods:
            return None
        pod = self.rng.choice(pods)
        if pod.state != c.pb.SANDBOX_READY or self.rng.random() < 0.35:
            return self.go(pod.id)
        return self.disturb(pod.id)

    def come(self):
        config = self.client.sandbox_config()
        config.labels["worker"] = self.label
        if self.rng.random() < 0.3:
            config.port_mappings.add(protocol=c.pb.TCP, container_port=80, host_port=next(HOST_PORTS))
        sandbox = self.client.tried("RunPodSandbox", self.client.run_sandbox, config)
        if sandbox is None:
            return
        for kind, script in (("writer", WRITER), ("finisher", FINISHER)):
            made = self.client.container_config(self.load.image, ["sh", "-c", script], name=f"{kind}-{uuid.uuid4().hex[:8]}")
            container = self.client.tried("CreateContainer", self.client.create, sandbox, config, made)
            if container is not None:
                self.client.tried("StartContainer", self.client.start, container)

    def disturb(self, sandbox):
        listed = self.client.tried("ListContainers", self.client.runtime.ListContainers, c.pb.ListContainersRequest(
            filter=c.pb.ContainerFilter(pod_sandbox_id=sandbox)), timeout=20)
        if not listed or not listed.containers:
            return
        container = self.rng.choice(list(listed.containers)).id
        what = self.rng.random()
        if what < 0.5:
            self.client.tried("ExecSync", self.client.exec, container, "echo", "there", timeout=10)
        elif what < 0.8:
            self.client.tried("StopContainer", self.client.stop, container, self.rng.choice((0, 1)))
        else:
            self.client.tried("RemoveContainer", self.client.remove, container)

    def go(self, sandbox):
        self.client.tried("StopPodSandbox", self.client.runtime.StopPodSandbox,
                          c.pb.StopPodSandboxRequest(pod_sandbox_id=sandbox), timeout=120)
        self.client.tried("RemovePodSandbox", self.client.runtime.RemovePodSandbox,
                          c.pb.RemovePodSandboxRequest(pod_sandbox_id=sandbox), timeout=120)


class Load:
    def __init__(self, engine, image, rng, workers):
        self.engine, self.image = engine, image
        self.ends = collections.Counter()  # (call, code): how often
        self.paused, self.ending, self.idle = True, False, 0
        self.running = threading.Condition()
        self.workers = [Worker(self, i, rng.random()) for i in range(workers)]
        for worker in self.workers:
            worker.start()

    def resume(self):
        with self.running:
            self.paused = False
            self.running.notify_all()

    def pause(self, seconds):
        """When this returns no call is under way."""
        with self.running:
            self.paused = True
            if not self.running.wait_for(lambda: self.idle == len(self.workers), seconds):
                raise TimeoutError(f"a call of the load has not ended after {seconds} s")

    def stop(self):
        with self.running:
            self.ending = True
            self.running.notify_all()
        for worker in self.workers:
            worker.join(150)


def logs(engine):
    """{(kind, name): path} of every container's log."""
    found = {}
    for folder, _, names in os.walk(engine.folder + "/logs"):
        for name in names:
            if name.endswith(".log"):
                found[name.split("-")[0], name.removesuffix(".log")] = os.path.join(folder, name)
    return found
