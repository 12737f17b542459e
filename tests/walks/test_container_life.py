"""A container of `fluyt run` from its start to its end and back: kill, wait, start, restart, --rm of one that is left alone, host ports."""

import json
import os
import signal
import socket
import subprocess

import harness
import pytest


@pytest.fixture
def pulled(engine, busybox):
    engine.fluyt("pull", "-q", busybox)
    return busybox


def status(engine, name):
    return json.loads(engine.fluyt("inspect", name).stdout)["status"]


def names(engine):
    return [container["metadata"]["name"] for container in json.loads(engine.fluyt("ps", "-a", "--format", "json").stdout)]


def pods(engine):
    return {pod["metadata"]["name"]: pod["state"] for pod in json.loads(engine.fluyt("pods", "--format", "json").stdout)}


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as peer:
            return peer.recv(100).decode()
    except OSError:
        return ""


def test_kill_and_wait(engine, pulled):
    script = "trap 'exit 7' HUP; echo ready; while :; do sleep 0.1; done"
    engine.fluyt("run", "-d", "--network", "host", "--name", "one", pulled, "sh", "-c", script)
    engine.fluyt("run", "-d", "--network", "host", "--name", "two", pulled, "sh", "-c", script)
    for name in ("one", "two"):
        harness.wait_for(lambda name=name: "ready" in engine.fluyt("logs", name).stdout, "the trap")
    waiting = subprocess.Popen([harness.BIN + "/fluyt", "--socket", engine.socket, "wait", "one", "two"], stdout=subprocess.PIPE, text=True)
    assert engine.fluyt("kill", "-s", "SIGHUP", "one").stdout == "one\n"
    assert engine.fluyt("kill", "two").stdout == "two\n"
    assert waiting.communicate(timeout=30)[0] == "7\n137\n" and waiting.returncode == 0
    assert engine.fluyt("wait", "one").stdout == "7\n"
    done = engine.fluyt("kill", "one", check=False)
    assert done.returncode == 1 and "exited: expected running" in done.stderr
    assert engine.fluyt("kill", "-s", "SIGNONE", "one", check=False).returncode == 2
    done = engine.fluyt("wait", "none", "two", check=False)
    assert done.returncode == 1 and done.stdout == "137\n" and 'no container "none"' in done.stderr
    engine.fluyt("rm", "one", "two")


def test_one_that_has_ended_starts_again_over_its_files(engine, pulled):
    script = "cat /kept 2>/dev/null; echo line >> /kept; hostname; exit 3"
    assert engine.fluyt("run", "--name", "again", pulled, "sh", "-c", script, check=False).returncode == 3
    first = status(engine, "again")
    harness.wait_for(lambda: pods(engine)["again"] == "SANDBOX_NOTREADY", "the pod to end with it")
    done = engine.fluyt("start", "-a", "again", check=False)
    assert (done.returncode, done.stdout) == (3, "line\nagain\n")
    assert engine.fluyt("start", "again").stdout == "again\n"
    assert engine.fluyt("wait", "again").stdout == "3\n"
    second = status(engine, "again")
    assert second["id"] == first["id"] and int(second["startedAt"]) > int(first["finishedAt"])
    assert engine.fluyt("logs", "again").stdout == "again\nline\nagain\nline\nline\nagain\n"
    # fluytd may be another one by then.
    engine.kill()
    engine.start()
    done = engine.fluyt("start", "-a", "again", check=False)
    assert (done.returncode, done.stdout) == (3, "line\nline\nline\nagain\n")
    engine.fluyt("rm", "again")
    assert "again" not in pods(engine)


def test_start_and_restart_of_one_that_runs(engine, pulled):
    engine.fluyt("run", "-d", "--network", "host", "--name", "runs", pulled, "sleep", "1000")
    first = status(engine, "runs")
    assert engine.fluyt("start", "runs").stdout == "runs\n"
    assert status(engine, "runs")["startedAt"] == first["startedAt"]
    done = engine.fluyt("start", "-a", "runs", check=False)
    assert done.returncode == 1 and "is running: fluyt attach connects to it" in done.stderr
    assert engine.fluyt("restart", "-t", "0", "runs").stdout == "runs\n"
    second = status(engine, "runs")
    assert second["state"] == "CONTAINER_RUNNING" and second["startedAt"] != first["startedAt"]
    assert pods(engine)["runs"] == "SANDBOX_READY"
    engine.fluyt("rm", "-f", "runs")


def test_one_that_a_terminal_has_is_restarted_beside_it(engine, pulled):
    with subprocess.Popen([harness.BIN + "/fluyt", "--socket", engine.socket, "run", "--name", "held", pulled, "sh", "-c", "echo up; exec sleep 1000"],
                          stdout=subprocess.PIPE, text=True) as held:
        assert held.stdout.readline() == "up\n"
        held.send_signal(signal.SIGSTOP)  # it hears of the end when the next one runs
        assert engine.fluyt("restart", "-t", "0", "held").stdout == "held\n"
        held.send_signal(signal.SIGCONT)
        assert held.wait(timeout=30) == 137
    assert status(engine, "held")["state"] == "CONTAINER_RUNNING"
    assert pods(engine)["held"] == "SANDBOX_READY"
    engine.fluyt("rm", "-f", "held")


def test_a_kubelets_container_is_not_restarted(engine, pulled, cri):
    config = cri.sandbox_config("kept")
    sandbox = cri.run_sandbox(config)
    container = cri.run_container(sandbox, config, cri.container_config(pulled, ["sleep", "1000"]))
    done = engine.fluyt("restart", "-t", "0", container, check=False)
    assert done.returncode == 1 and "is not of fluyt run" in done.stderr, done
    assert status(engine, container)["state"] == "CONTAINER_RUNNING"
    engine.fluyt("stop", "-t", "0", container)
    done = engine.fluyt("start", container, check=False)
    assert done.returncode == 1 and "only those of fluyt run are made again" in done.stderr, done
    cri.remove_sandbox(sandbox)


def test_a_start_that_fails_leaves_it_as_it_was(engine, pulled):
    engine.fluyt("tag", pulled, "vanishes:1")
    engine.fluyt("run", "--network", "host", "--name", "orphan", "vanishes:1", "sh", "-c", "exit 4", check=False)
    image = json.loads(engine.fluyt("inspect", "--type", "image", pulled).stdout)["id"]
    engine.fluyt("rmi", image)
    done = engine.fluyt("start", "orphan", check=False)
    assert done.returncode == 1 and "is not here: pull it first" in done.stderr
    assert status(engine, "orphan")["exitCode"] == 4
    engine.fluyt("pull", "-q", pulled)
    assert engine.fluyt("start", "orphan").stdout == "orphan\n"
    assert engine.fluyt("wait", "orphan").stdout == "4\n"
    engine.fluyt("rm", "orphan")


def test_detached_with_rm_goes_with_its_end(engine, pulled):
    engine.fluyt("run", "-d", "--rm", "--name", "brief", pulled, "sh", "-c", "while :; do echo tick; sleep 0.1; done")
    log = status(engine, "brief")["logPath"]
    assert os.path.exists(log)
    with subprocess.Popen([harness.BIN + "/fluyt", "--socket", engine.socket, "attach", "--no-stdin", "brief"], stdout=subprocess.PIPE,
                          text=True) as attached:
        assert attached.stdout.readline() == "tick\n"
        engine.fluyt("kill", "brief")
        attached.stdout.read()
        assert attached.wait(timeout=30) == 137  # though it is gone
    harness.wait_for(lambda: "brief" not in names(engine) and "brief" not in pods(engine), "it to go")
    harness.wait_for(lambda: not os.path.exists(os.path.dirname(log)), "its log to go")
    # And of one that cannot be started nothing is left either.
    done = engine.fluyt("run", "-d", "--rm", "--name", "brief", pulled, "nosuch", check=False)
    assert done.returncode == 127
    harness.wait_for(lambda: "brief" not in names(engine) and "brief" not in pods(engine), "it to go")


def test_what_ended_while_fluytd_was_away_goes_too(engine, pulled):
    engine.fluyt("run", "-d", "--rm", "--name", "away", pulled, "sh", "-c", "until test -e /gone; do sleep 0.05; done")
    pid = json.loads(engine.fluyt("inspect", "away").stdout)["info"]["info"]["pid"]
    engine.kill()
    with open(f"/proc/{pid}/root/gone", "w", encoding="ascii"):
        pass
    harness.wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "its end")
    engine.start()
    harness.wait_for(lambda: "away" not in names(engine) and "away" not in pods(engine), "it to go")


def test_a_host_port_is_free_when_its_container_has_ended(engine, pulled):
    port = harness.free_port()
    serve = "while :; do echo hello | nc -l -p 80; done"
    options = ["-d", "-p", f"127.0.0.1:{port}:80", "-p", f"{port + 1}:53/udp"]
    engine.fluyt("run", *options, "--name", "serves", pulled, "sh", "-c", serve)
    harness.wait_for(lambda: answers(port) == "hello\n", "an answer")
    shown = next(line for line in engine.fluyt("ps").stdout.splitlines() if line.startswith("serves"))
    assert f"127.0.0.1:{port}->80/tcp, {port + 1}->53/udp" in shown
    engine.fluyt("kill", "serves")
    harness.wait_for(lambda: pods(engine)["serves"] == "SANDBOX_NOTREADY", "its pod to end")
    shown = next(line for line in engine.fluyt("ps", "-a").stdout.splitlines() if line.startswith("serves"))
    assert "->" not in shown
    engine.fluyt("run", *options, "--name", "next", pulled, "sh", "-c", serve)
    harness.wait_for(lambda: answers(port) == "hello\n", "an answer of the next one")
    # The first one cannot have it back while the next one has it.
    engine.fluyt("rm", "-f", "next")
    engine.fluyt("start", "serves")
    harness.wait_for(lambda: answers(port) == "hello\n", "an answer once more")
    engine.fluyt("rm", "-f", "serves")
