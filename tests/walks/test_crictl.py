"""crictl, the field's own command line, drives everything it can."""

import json
import os
import subprocess

import harness
import pytest

pytestmark = pytest.mark.skipif(not os.path.exists(harness.crictl()), reason="crictl is not built: Go is not installed")


def test_crictl_by_itself(tmp_path):
    """What asks no engine."""
    config = str(tmp_path / "crictl.yaml")
    run = lambda *words: subprocess.run([harness.crictl(), "--config", config, *words], check=True, capture_output=True, text=True).stdout
    (tmp_path / "crictl.yaml").write_text("", encoding="ascii")
    assert "runtime-endpoint" in run("config", "--help") and "complete" in run("completion", "bash")
    run("config", "--set", "timeout=7")
    assert run("config", "--get", "timeout").strip() in ("7", "7s")


def test_crictl_walk(engine, busybox, tmp_path):
    run = engine.crictl
    run("pull", busybox)
    assert "walk/busybox" in run("images").stdout
    assert json.loads(run("inspecti", busybox).stdout)["status"]["repoTags"] == [busybox]
    assert json.loads(run("imagefsinfo").stdout)["status"]["imageFilesystems"]
    info = json.loads(run("info").stdout)
    conditions = {item["type"]: item["status"] for item in info["status"]["conditions"]}
    assert conditions["RuntimeReady"] and conditions["NetworkReady"]
    assert "fluyt" in run("version").stdout
    logs = tmp_path / "logs"
    logs.mkdir()
    pod = tmp_path / "pod.json"
    pod.write_text(json.dumps({"metadata": {"name": "walk", "namespace": "default", "uid": "u1", "attempt": 0},
                               "log_directory": str(logs), "linux": {}}))
    container = tmp_path / "container.json"
    script = "echo hello; while true; do sleep 1; done"
    container.write_text(json.dumps({"metadata": {"name": "main"}, "image": {"image": busybox},
                                     "command": ["sh", "-c", script], "log_path": "main.log", "linux": {}}))
    sandbox = run("runp", str(pod)).stdout.strip()
    made = run("create", sandbox, str(container), str(pod)).stdout.strip()
    run("start", made)
    assert run("exec", "-s", made, "echo", "hi").stdout.split() == ["hi"]  # crictl adds empty lines
    harness.wait_for(lambda: "hello" in run("logs", made).stdout, "the log")
    run("update", "--memory", str(128 << 20), made)
    assert json.loads(run("inspect", made).stdout)["status"]["state"] == "CONTAINER_RUNNING"
    assert json.loads(run("inspectp", sandbox).stdout)["status"]["state"] == "SANDBOX_READY"
    assert made[:12] in run("ps").stdout
    assert sandbox[:12] in run("pods").stdout
    assert made[:12] in run("stats").stdout
    follower = subprocess.Popen([harness.crictl(), "-r", "unix://" + engine.socket, "logs", "-f", made], stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, text=True)
    assert follower.stdout.readline() == "hello\n"
    assert "cgroup" in run("runtime-config").stdout.lower()
    run("update-runtime-config", "--pod-cidr", "10.88.0.0/16")
    run("stop", "-t", "1", made)
    assert follower.wait(timeout=30) == 0, "logs -f ends with its container"
    assert json.loads(run("inspect", made).stdout)["status"]["state"] == "CONTAINER_EXITED"
    run("rm", made)
    run("stopp", sandbox)
    run("rmp", sandbox)
    assert sandbox[:12] not in run("pods").stdout
    ran = run("run", "--with-pull", str(container), str(pod)).stdout.split()[-1]
    harness.wait_for(lambda: "hello" in run("logs", ran).stdout, "the log of what was run at once")
    run("rmp", "-f", run("inspect", "-o", "go-template", "--template", "{{.info.sandboxID}}", ran).stdout.strip())
    run("rmi", busybox)
    assert "walk/busybox" not in run("images").stdout
