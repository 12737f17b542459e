"""crictl, the field's own command line, drives everything it can."""

import json
import os

import harness
import pytest

pytestmark = pytest.mark.skipif(not os.path.exists(harness.crictl()), reason="crictl is not built: Go is not installed")


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
    run("stop", "-t", "1", made)
    assert json.loads(run("inspect", made).stdout)["status"]["state"] == "CONTAINER_EXITED"
    run("rm", made)
    run("stopp", sandbox)
    run("rmp", sandbox)
    assert sandbox[:12] not in run("pods").stdout
    run("rmi", busybox)
    assert "walk/busybox" not in run("images").stdout
