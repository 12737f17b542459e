"""`fluyt trace` and `fluyt top`: where a pod's time goes, and what it uses."""

import json

import pytest

import cri


@pytest.fixture(name="pod", scope="module")
def running_pod(engine, busybox):
    """A pod that keeps a processor busy, seen by name."""
    client = cri.Client(engine.socket, engine.folder + "/logs")
    client.pull(busybox)
    config = client.sandbox_config("traced")
    sandbox = client.run_sandbox(config)
    container = client.run_container(sandbox, config, client.container_config(busybox, ["sh", "-c", "while :; do :; done"]))
    client.exec(container, "true")
    yield client, sandbox, container
    client.remove_sandbox(sandbox)
    client.close()


def walks(engine, what):
    return json.loads(engine.fluyt("trace", "--format", "json", what).stdout)


def test_a_walk_has_its_parts_within_its_time(engine, pod):
    _, sandbox, container = pod
    traced = walks(engine, "traced")
    assert [walk["verb"] for walk in traced] == ["RunPodSandbox", "CreateContainer", "StartContainer", "ExecSync"]
    run = traced[0]
    assert run["sandboxId"] == sandbox and not run.get("containerId")
    names = [part["name"] for part in run["parts"]]
    assert {"record", "monitor", "namespaces", "network"} <= set(names)
    create = traced[1]["parts"]
    waited = next(part for part in create if part["name"] == "monitor and runtime")
    below = [part for part in create if int(part.get("depth", 0)) == 1]
    assert {"plan", "cgroup", "mounts and identity"} <= {part["name"] for part in below}
    for part in below:  # as another process saw it, on the same clock
        assert int(part["beginNs"]) >= int(waited["beginNs"])
        assert int(part["beginNs"]) + int(part["tookNs"]) <= int(waited["beginNs"]) + int(waited["tookNs"])
    for walk in traced:
        for part in walk.get("parts", []):
            assert int(part.get("beginNs", 0)) + int(part["tookNs"]) <= int(walk["tookNs"])
    assert [walk["verb"] for walk in walks(engine, container)] == ["CreateContainer", "StartContainer", "ExecSync"]
    text = engine.fluyt("trace", "traced").stdout
    assert "RunPodSandbox" in text and "  network" in text and "(the rest)" in text


def test_what_failed_says_why_and_what_is_gone_is_kept(engine, pod, busybox):
    client, sandbox, _ = pod
    config = client.sandbox_config("traced-gone")
    gone = client.run_sandbox(config)
    cri.error_of(client.create, gone, config, client.container_config(busybox, ["/no/such/program"]))
    client.remove_sandbox(gone)
    traced = walks(engine, gone)
    assert "no such file or directory" in next(walk for walk in traced if walk["verb"] == "CreateContainer")["error"]
    assert traced[-1]["verb"] == "RemovePodSandbox"
    failed = engine.fluyt("trace", "nowhere", check=False)
    assert failed.returncode == 1 and "nowhere" in failed.stderr
    assert engine.fluyt("trace", "--format", "xml", "traced", check=False).returncode == 2
    assert sandbox != gone


def test_top_sees_who_is_busy(engine, pod):
    text = engine.fluyt("top", "-n", "1", "-i", "1s").stdout
    row = next(line.split() for line in text.splitlines() if line.startswith("traced "))
    assert row[1] == "default" and float(row[2].rstrip("%")) > 10
    assert row[3].endswith("iB") and row[6].isdigit()
    lines = engine.fluyt("top", "-n", "1", "-i", "1s", "--containers").stdout.splitlines()
    assert any(line.split()[:2] == ["main", "traced"] for line in lines)
    for wrong in (["--sort", "size"], ["-n", "0"], ["-i", "soon"]):
        assert engine.fluyt("top", *wrong, check=False).returncode == 2
