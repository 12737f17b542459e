"""A real kubelet, standalone with static pods: what it asks of a runtime for years, in ten kinds of pod."""

import contextlib
import glob
import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import harness
import images
import pytest

sys.path.insert(0, os.path.join(harness.ROOT, "tests", "power"))
import disk  # noqa: E402  (found there)

kubelet_lib = pytest.importorskip("kubelet")
pytestmark = pytest.mark.skipif(not os.path.exists(kubelet_lib.PROGRAM),
                                reason="build/tools/kubelet is not there: ./dev kubelet builds it from Go modules")

FOREVER = ["sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.2; done"]


@pytest.fixture(scope="module")
def kubelet(engine, busybox):
    engine.fluyt("pull", busybox)
    made = kubelet_lib.Kubelet(engine)
    made.start()
    try:
        yield made
        # The kubelet collects dead sandboxes once a minute; what it asked to be removed must be removed.
        harness.wait_for(lambda: not engine.fluyt("pods", "-q").stdout.split(), "every sandbox to be removed", 150)
    finally:
        made.close()


def pod(name, image, *containers, **spec):
    """A manifest; each of `containers` is {name, command, ...} and gets the image."""
    for container in [*containers, *spec.get("initContainers", [])]:
        container.setdefault("image", image)
        container.setdefault("imagePullPolicy", "IfNotPresent")
        container.setdefault("command", FOREVER)
    spec.setdefault("terminationGracePeriodSeconds", 2)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"containers": list(containers), **spec}}


@pytest.fixture
def run(kubelet):
    """Applies manifests and takes them away at the end, seen to be ended."""
    applied = []

    def apply(manifest, ready=True):
        name = manifest["metadata"]["name"]
        kubelet.apply(manifest)
        if name not in applied:
            applied.append(name)
        if ready:
            kubelet.wait_ready(name)
        return name

    yield apply
    for name in applied:
        if os.path.exists(f"{kubelet.manifests}/{name}.json"):
            kubelet.delete(name)
    for name in applied:
        harness.wait_for(lambda name=name: kubelet.pod(name) is None, f"pod {name} to be gone", 60)


def sandboxes(engine, name):
    listed = json.loads(engine.crictl("pods", "-o", "json").stdout).get("items") or []
    return [item for item in listed if item["metadata"]["name"] == name + "-walk"]


def container_id(kubelet, name, container):
    return kubelet.containers(name)[container]["containerID"].split("://")[1]


def inside(kubelet, engine, name, container, *command):
    return engine.fluyt("exec", container_id(kubelet, name, container), *command).stdout


def log_of(kubelet, name, container):
    """What the container wrote, through the kubelet's own port."""
    status, body = kubelet.get(f"/containerLogs/default/{name}-walk/{container}")
    assert status == 200, body
    return body


def restarts(kubelet, name, container):
    return kubelet.containers(name).get(container, {}).get("restartCount", 0)


def test_init_and_sidecar(kubelet, engine, busybox, run):
    share = {"name": "share", "mountPath": "/share"}
    name = run(pod("init", busybox, {"name": "main", "command": ["sh", "-c", "cat /share/order; exec sleep 1000"],
                                      "volumeMounts": [share]},
                   initContainers=[
                       {"name": "first", "command": ["sh", "-c", "echo first >> /share/order"], "volumeMounts": [share]},
                       {"name": "sidecar", "restartPolicy": "Always", "volumeMounts": [share],
                        "command": ["sh", "-c", "echo sidecar >> /share/order; exec sleep 1000"]},
                       {"name": "last", "command": ["sh", "-c", "sleep 0.5; echo last >> /share/order"],
                        "volumeMounts": [share]}],
                   volumes=[{"name": "share", "emptyDir": {}}]))
    assert log_of(kubelet, name, "main").split() == ["first", "sidecar", "last"]
    rows = kubelet.containers(name)
    assert {row["image"] for row in rows.values()} == {busybox}
    assert rows["first"]["state"]["terminated"]["reason"] == "Completed"
    assert "running" in rows["sidecar"]["state"]
    before = restarts(kubelet, name, "sidecar")
    engine.crictl("stop", "-t", "0", container_id(kubelet, name, "sidecar"))
    harness.wait_for(lambda: restarts(kubelet, name, "sidecar") > before and kubelet.ready(name), "the sidecar again", 40)
    assert restarts(kubelet, name, "main") == 0


def test_probes(kubelet, engine, busybox, run):
    name = run(pod("probes", busybox,
                   {"name": "exec", "command": ["sh", "-c", "touch /tmp/ok; exec sleep 1000"], "livenessProbe": {
                       "exec": {"command": ["cat", "/tmp/ok"]}, "periodSeconds": 1, "failureThreshold": 1}},
                   {"name": "http", "command": ["sh", "-c", "mkdir -p /www; echo up >/www/up; exec httpd -f -p 8080 -h /www"],
                    "readinessProbe": {"httpGet": {"path": "/up", "port": 8080}, "periodSeconds": 1}},
                   {"name": "tcp", "command": ["httpd", "-f", "-p", "8081"],
                    "startupProbe": {"tcpSocket": {"port": 8081}, "periodSeconds": 1}}))
    inside(kubelet, engine, name, "http", "rm", "/www/up")
    harness.wait_for(lambda: not kubelet.ready(name), "the HTTP probe to fail", 30)
    inside(kubelet, engine, name, "http", "touch", "/www/up")
    kubelet.wait_ready(name)
    inside(kubelet, engine, name, "exec", "rm", "/tmp/ok")
    harness.wait_for(lambda: restarts(kubelet, name, "exec") == 1, "the exec probe to restart its container", 30)
    assert (restarts(kubelet, name, "http"), restarts(kubelet, name, "tcp")) == (0, 0)


def test_volumes(kubelet, engine, busybox, run, tmp_path):
    (tmp_path / "given").write_text("from the host\n")
    name = run(pod("volumes", busybox,
                   {"name": "a", "command": ["sh", "-c", "echo shared > /empty/file; cat /host/given; echo back > /host/made; "
                                             "exec sleep 1000"],
                    "volumeMounts": [{"name": "empty", "mountPath": "/empty"}, {"name": "host", "mountPath": "/host"}]},
                   {"name": "b", "volumeMounts": [{"name": "empty", "mountPath": "/empty", "readOnly": True},
                                                  {"name": "memory", "mountPath": "/memory"}]},
                   volumes=[{"name": "empty", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}},
                            {"name": "host", "hostPath": {"path": str(tmp_path), "type": "Directory"}}]))
    harness.wait_for(lambda: (tmp_path / "made").exists(), "the file on the host")
    assert "from the host" in log_of(kubelet, name, "a")
    assert inside(kubelet, engine, name, "b", "cat", "/empty/file") == "shared\n"
    refused = engine.fluyt("exec", container_id(kubelet, name, "b"), "sh", "-c", "echo x > /empty/file", check=False)
    assert refused.returncode != 0 and "Read-only file system" in refused.stderr
    assert " tmpfs " in inside(kubelet, engine, name, "b", "grep", " /memory ", "/proc/mounts")


def test_host_port(kubelet, busybox, run):
    port = harness.free_port()
    run(pod("hostport", busybox,
            {"name": "web", "command": ["sh", "-c", "mkdir -p /www; echo here >/www/index.html; exec httpd -f -p 80 -h /www"],
             "ports": [{"containerPort": 80, "hostPort": port}]}))

    def fetched():
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2).read()
        except OSError:
            return None
    assert harness.wait_for(fetched, "the host's port", 20) == b"here\n"


def test_host_network(kubelet, engine, busybox, run):
    name = run(pod("hostnet", busybox, {"name": "main"}, hostNetwork=True))
    assert inside(kubelet, engine, name, "main", "readlink", "/proc/self/ns/net").strip() == os.readlink("/proc/self/ns/net")
    assert inside(kubelet, engine, name, "main", "hostname").strip() == os.uname().nodename


def test_shared_pid(kubelet, engine, busybox, run):
    name = run(pod("sharedpid", busybox, {"name": "a"}, {"name": "b", "command": ["sleep", "4242"]},
                   shareProcessNamespace=True))
    assert "sleep 4242" in inside(kubelet, engine, name, "a", "ps")
    assert inside(kubelet, engine, name, "a", "sh", "-c", "tr '\\0' ' ' </proc/1/cmdline").strip() != ""


def test_limits_and_oom(kubelet, busybox, run):
    name = run(pod("oom", busybox,
                   {"name": "eater", "command": ["sh", "-c", "sleep 1; tail /dev/zero"],
                    "resources": {"limits": {"memory": "24Mi", "cpu": "200m"}}}), ready=False)

    def killed():
        row = kubelet.containers(name).get("eater", {})
        return row.get("lastState", {}).get("terminated") or row.get("state", {}).get("terminated")
    ended = harness.wait_for(killed, "the OOM kill", 60)
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


def test_crash_loop(kubelet, engine, busybox, run):
    name = run(pod("crash", busybox, {"name": "main", "command": ["sh", "-c", "echo again; exit 3"]}), ready=False)
    harness.wait_for(lambda: restarts(kubelet, name, "main") >= 2, "two restarts", 60)
    row = kubelet.containers(name)["main"]
    assert row["lastState"]["terminated"]["exitCode"] == 3
    # The kubelet keeps one dead container a name; whatever it removed, the runtime has removed.
    harness.wait_for(lambda: len(json.loads(engine.crictl("ps", "-a", "--name", "main", "--pod", sandboxes(engine, name)[0]["id"],
                                                          "-o", "json").stdout)["containers"]) <= 2, "old ones gone", 60)


def test_hooks(kubelet, busybox, run, tmp_path):
    run(pod("hooks", busybox,
            {"name": "main", "volumeMounts": [{"name": "host", "mountPath": "/host"}],
             "lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", "echo started > /host/started"]}},
                           "preStop": {"exec": {"command": ["sh", "-c", "sleep 0.3; echo stopping > /host/stopping"]}}}},
            terminationGracePeriodSeconds=10, volumes=[{"name": "host", "hostPath": {"path": str(tmp_path)}}]))
    assert (tmp_path / "started").read_text() == "started\n"
    kubelet.delete("hooks")
    harness.wait_for(lambda: (tmp_path / "stopping").exists(), "the preStop hook", 30)


def test_projected_files(kubelet, engine, busybox, run):
    name = run(pod("projected", busybox,
                   {"name": "main", "volumeMounts": [{"name": "about", "mountPath": "/about"}],
                    "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]},
                   volumes=[{"name": "about", "downwardAPI": {"items": [
                       {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
                       {"path": "uid", "fieldRef": {"fieldPath": "metadata.uid"}}]}}]))
    assert inside(kubelet, engine, name, "main", "cat", "/about/name") == "projected-walk"
    told = kubelet.pod(name)
    address = inside(kubelet, engine, name, "main", "sh", "-c", "echo $POD_IP").strip()
    assert address == told["status"]["podIP"] and address.startswith("10.187.")


def test_edited_manifest(kubelet, engine, busybox, run):
    name = run(pod("edited", busybox, {"name": "main", "env": [{"name": "V", "value": "1"}]}))
    old = container_id(kubelet, name, "main")
    run(pod("edited", busybox, {"name": "main", "env": [{"name": "V", "value": "2"}]}), ready=False)

    def renewed():
        row = kubelet.containers(name).get("main", {})
        return "running" in row.get("state", {}) and row["containerID"].split("://")[1] != old
    harness.wait_for(renewed, "the pod to run anew", 60)
    assert inside(kubelet, engine, name, "main", "sh", "-c", "echo $V") == "2\n"


def test_log_rotation(kubelet, busybox, run):
    kubelet.stop()
    kubelet.config["containerLogMaxSize"] = "20Ki"
    kubelet.start()
    try:
        name = run(pod("rotated", busybox, {"name": "main", "command": [
            "sh", "-c", "i=0; while [ $i -lt 4000 ]; do i=$((i+1)); echo line $i; [ $((i % 100)) = 0 ] && sleep 0.2; done; "
            "exec sleep 1000"]}))
        folder = glob.glob(f"{kubelet.logs}/default_{name}-walk_*/main")[0]
        harness.wait_for(lambda: len(os.listdir(folder)) >= 2, "a rotation", 60)
        harness.wait_for(lambda: log_of(kubelet, name, "main").endswith("line 4000\n"), "the last line", 60)
        import gzip
        lines = []
        for path in sorted(os.listdir(folder), key=lambda path: (path == "0.log", path)):
            opener = gzip.open if path.endswith(".gz") else open
            with opener(f"{folder}/{path}", "rt") as file:
                lines += [int(line.split()[4]) for line in file]
        # The kubelet keeps five files and drops the oldest; what it kept has no hole.
        assert lines == list(range(lines[0], 4001))
    finally:
        kubelet.stop()
        kubelet.config["containerLogMaxSize"] = "10Mi"
        kubelet.start()


def test_restarts_of_both(kubelet, engine, busybox, run):
    names = [run(pod(f"stays-{i}", busybox, {"name": "main"}, {"name": "other"}), ready=False) for i in range(3)]
    kubelet.wait_ready(*names)

    def ids():
        return {(name, container): row["containerID"] for name in names for container, row in kubelet.containers(name).items()}
    before = ids()
    assert len(before) == 6
    kubelet.stop()
    kubelet.start()
    kubelet.wait_ready(*names)
    time.sleep(6)  # three rounds of the kubelet: what it would restart, it has restarted
    assert ids() == before
    engine.kill()
    engine.start()
    time.sleep(6)
    kubelet.wait_ready(*names)
    assert ids() == before
    assert all(restarts(kubelet, name, container) == 0 for name, container in before)


@pytest.mark.skipif(disk.why_not("ext4") is not None, reason=str(disk.why_not("ext4")))
def test_disk_pressure(kubelet, registry, busybox, tmp_path):
    """Images fill a small disk: the unused ones go, a pinned one stays, and no pod is evicted."""
    kubelet.stop()  # one at a time: both would count cgroups and mounts of the node as theirs
    fillers = []
    for number in range(7):
        content = images.Entry(f"filler-{number}", data=os.urandom(24 << 20))
        images.push(images.Image([images.layer([content])], {}), registry.address, f"walk/filler-{number}", "latest")
        fillers.append(f"{registry.address}/walk/filler-{number}:latest")
    small = disk.Disk(str(tmp_path), "ext4", mib=320)
    folder = tmp_path / "engine"
    folder.mkdir()
    engine = harness.Engine(str(folder), settings=f'[image]\npinned = ["{fillers[0]}"]\n')
    engine.root = small.mount_point + "/fluyt"
    other = None
    try:
        engine.start()
        engine.crictl("pull", busybox)
        other = kubelet_lib.Kubelet(engine, imageMinimumGCAge="1s", evictionPressureTransitionPeriod="5s",
                                    evictionHard={"imagefs.available": "45%", "memory.available": "1Mi"})
        other.start()
        other.apply(pod("stays", busybox, {"name": "main"}))
        other.wait_ready("stays")
        before = container_id(other, "stays", "main")
        for image in fillers:
            engine.crictl("pull", image)

        def here():
            listed = json.loads(engine.crictl("images", "-o", "json").stdout)["images"]
            return {tag for image in listed for tag in image["repoTags"]}
        assert set(fillers) | {busybox} <= here()
        harness.wait_for(lambda: here() == {fillers[0], busybox}, "the unused images to go", 90)
        # What the kubelet asked to be free is free: what it removed is gone from the disk too.
        used = os.statvfs(small.mount_point)
        assert used.f_bavail / used.f_blocks > 0.45
        time.sleep(12)  # one more round of the eviction manager, which comes every ten seconds
        assert container_id(other, "stays", "main") == before
        assert other.pod("stays")["status"]["phase"] == "Running"
    finally:
        if other is not None:
            other.close()
        engine.close()
        small.close()
        kubelet.start()


STREAM = os.path.join(harness.ROOT, "build", "tools", "stream")
BOTH = pytest.mark.parametrize("by", [[], ["-websocket"]], ids=["spdy", "websocket"])


def streamed(kubelet, by, verb, path, *flags, stdin=None):
    """kubectl's own client against the kubelet's port: (exit code, output, error output)."""
    done = subprocess.run([STREAM, verb, *by, *flags, f"https://127.0.0.1:{kubelet.port}{path}"], check=False, timeout=60,
                          input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return done.returncode, done.stdout, done.stderr


@BOTH
def test_exec_through_the_kubelet(kubelet, busybox, run, by):
    name = run(pod(f"exec-{len(by)}", busybox, {"name": "main"}))

    def path(script, **streams):
        query = [*streams.items(), ("command", "sh"), ("command", "-c"), ("command", script)]
        return f"/exec/default/{name}-walk/main?" + urllib.parse.urlencode(query)
    script = "echo out; echo err >&2; exit 7"
    assert streamed(kubelet, by, "exec", path(script, output=1, error=1)) == (7, b"out\n", b"err\n")
    data = os.urandom(300_000)
    assert streamed(kubelet, by, "exec", path("cat", input=1, output=1, error=1), "-i", stdin=data) == (0, data, b"")
    assert streamed(kubelet, by, "exec", path("tty", output=1, tty=1), "-t")[:2] == (0, b"/dev/pts/0\r\n")


@BOTH
def test_attach_through_the_kubelet(kubelet, busybox, run, by):
    name = run(pod(f"attach-{len(by)}", busybox, {"name": "main", "stdin": True, "stdinOnce": True,
                                       "command": ["sh", "-c", "read line; echo got $line; sleep 1000"]}))
    client = subprocess.Popen([STREAM, "attach", *by, "-i", f"https://127.0.0.1:{kubelet.port}/attach/default/{name}-walk/main"
                               "?input=1&output=1&error=1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        client.stdin.write(b"a word\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"got a word\n"
    finally:
        client.kill()
        client.wait()
    assert restarts(kubelet, name, "main") == 0


@BOTH
def test_port_forward_through_the_kubelet(kubelet, busybox, run, by):
    name = run(pod(f"forward-{len(by)}", busybox, {"name": "main", "command": [
        "sh", "-c", "mkdir -p /www; dd if=/dev/urandom of=/www/index.html bs=1000 count=500 2>/dev/null; "
        "md5sum </www/index.html; exec httpd -f -p 127.0.0.1:8085 -h /www"]}))
    port = harness.free_port()
    client = subprocess.Popen([STREAM, "forward", *by, f"https://127.0.0.1:{kubelet.port}/portForward/default/{name}-walk",
                               f"{port}:8085"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert client.stdout.readline() == b"ready\n"
        for _ in range(5):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
                assert hashlib.md5(answer.read()).hexdigest() == log_of(kubelet, name, "main").split()[0]
    finally:
        client.stdin.close()
        client.wait(20)


def test_logs_followed(kubelet, busybox, run):
    name = run(pod("follow", busybox, {"name": "main", "command": [
        "sh", "-c", "i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo $i; sleep 0.05; done; sleep 1000"]}))
    connection = kubelet.connection()
    try:
        connection.request("GET", f"/containerLogs/default/{name}-walk/main?follow=true")
        answer = connection.getresponse()
        assert [int(answer.readline()) for _ in range(50)] == list(range(1, 51))
    finally:
        connection.close()


def test_stats(kubelet, engine, busybox, run):
    name = run(pod("stats", busybox, {"name": "main", "command": ["sh", "-c", "while true; do :; done"],
                                      "resources": {"limits": {"cpu": "300m", "memory": "64Mi"}}}))

    def summary():
        told = json.loads(kubelet.get("/stats/summary")[1])
        return next((row for row in told["pods"] if row["podRef"]["name"] == name + "-walk"
                     and row["containers"] and row["containers"][0].get("cpu", {}).get("usageNanoCores")
                     and row["cpu"]["usageCoreNanoSeconds"]), None)
    row = harness.wait_for(summary, "the pod's statistics", 60)
    main = row["containers"][0]
    assert 100_000_000 < main["cpu"]["usageNanoCores"] < 600_000_000
    assert 0 < main["memory"]["workingSetBytes"] < 64 << 20
    assert row["cpu"]["usageCoreNanoSeconds"] >= main["cpu"]["usageCoreNanoSeconds"] * 0.9
    resource = kubelet.get("/metrics/resource")[1]
    labels = f'container="main",namespace="default",pod="{name}-walk"'
    assert f"container_cpu_usage_seconds_total{{{labels}}}" in resource
    assert f"container_memory_working_set_bytes{{{labels}}}" in resource


@contextlib.contextmanager
def with_gates(kubelet, *names):
    """The kubelet started anew with feature gates on; as it was, afterwards."""
    gates = dict(kubelet.config["featureGates"])
    kubelet.stop()
    kubelet.config["featureGates"] = {**gates, **{name: True for name in names}}
    kubelet.start()
    try:
        yield
    finally:
        for manifest in os.listdir(kubelet.manifests):
            os.unlink(os.path.join(kubelet.manifests, manifest))
        kubelet.stop()
        kubelet.config["featureGates"] = gates
        kubelet.start()


def test_stats_from_the_runtime(kubelet, engine, busybox):
    """PodAndContainerStatsFromCRI: what cAdvisor told before comes from the runtime, each series with its pod's labels."""
    with with_gates(kubelet, "PodAndContainerStatsFromCRI"):
        kubelet.apply(pod("cristats", busybox, {"name": "main", "command": ["sh", "-c", "while true; do :; done"]}))
        kubelet.wait_ready("cristats")

        def series():
            lines = kubelet.get("/metrics/cadvisor")[1].splitlines()
            return [line for line in lines if 'pod="cristats-walk"' in line]
        lines = harness.wait_for(lambda: len(series()) > 20 and series(), "the pod's series", 60)
        # Of whichever pod or container, so that one without labels is seen as well.
        of_pods = [line for line in kubelet.get("/metrics/cadvisor")[1].splitlines() if line.startswith("container_")]
        assert not [line for line in of_pods if not all(label + '="' in line for label in ("namespace", "pod", "container"))]
        names = {line.split("{")[0] for line in lines if 'container="main"' in line}
        assert {"container_cpu_usage_seconds_total", "container_memory_working_set_bytes",
                "container_memory_rss", "container_start_time_seconds"} <= names
        assert any(line.startswith("container_network_receive_bytes_total{") for line in lines)
        told = json.loads(kubelet.get("/stats/summary")[1])
        row = next(row for row in told["pods"] if row["podRef"]["name"] == "cristats-walk")
        assert row["memory"]["workingSetBytes"] > 0 and row["network"]["name"]
        kubelet.delete("cristats")


def test_told_by_events_and_streamed_lists(kubelet, engine, busybox):
    """EventedPLEG and CRIListStreaming: what happens comes by GetContainerEvents, and relists by the streaming lists."""
    def counted(name):
        lines = kubelet.get("/metrics")[1].splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    with with_gates(kubelet, "EventedPLEG", "CRIListStreaming"):
        assert counted("kubelet_evented_pleg_connection_success_count") > 0
        kubelet.apply(pod("told", busybox,
                          {"name": "main", "command": ["sh", "-c", "touch /tmp/ok; exec sleep 1000"], "livenessProbe": {
                              "exec": {"command": ["cat", "/tmp/ok"]}, "periodSeconds": 1, "failureThreshold": 1}},
                          {"name": "crash", "command": ["sh", "-c", "sleep 0.5; exit 3"]},
                          {"name": "steady", "command": ["sleep", "1000"]}))
        harness.wait_for(lambda: restarts(kubelet, "told", "crash") >= 2, "the one that crashes to be restarted", 60)
        inside(kubelet, engine, "told", "main", "rm", "/tmp/ok")
        harness.wait_for(lambda: restarts(kubelet, "told", "main") == 1, "the probe to restart its container", 30)
        assert restarts(kubelet, "told", "steady") == 0
        engine.kill()
        metrics = engine.folder + "/run/metrics.sock"
        engine.configure(f'[metrics]\nlisten = "unix:{metrics}"\n')
        engine.start()
        before = restarts(kubelet, "told", "crash")
        harness.wait_for(lambda: restarts(kubelet, "told", "crash") > before, "events of the fluytd that came", 60)
        assert (restarts(kubelet, "told", "main"), restarts(kubelet, "told", "steady")) == (1, 0)
        connection = http.client.HTTPConnection("fluytd", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(metrics)
        connection.request("GET", "/metrics")
        page = connection.getresponse().read().decode()
        connection.close()
        served = {line.split('method="')[1].split('"')[0] for line in page.splitlines() if line.startswith("fluyt_rpcs_total{")}
        assert "StreamContainers" in served and "ListContainers" not in served, served
        kubelet.delete("told")
        harness.wait_for(lambda: kubelet.pod("told") is None, "pod told to be gone", 60)
