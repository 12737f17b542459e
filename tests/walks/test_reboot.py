"""The machine is started anew: the state folder is empty, the boot id another, and nothing runs. And folders that a newer
program wrote."""

import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import time
import uuid

import cri as c
import harness
import host
import pytest


def power_off(engine):
    """fluytd, every monitor and what runs below them end at once; what lay on the tmpfs and in the kernel is gone."""
    engine.kill()
    running = host.monitors().values()
    below = [process.pid for monitor in running for process in host.processes_below(monitor)]
    for pid in [*running, *below]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    harness.wait_for(lambda: not host.monitors(), "the monitors to be gone")
    ids = {name for folder in ("fluyt", "fluyt-monitors") for top in harness.cgroup_tops()
           for name in (os.listdir(f"{top}/{folder}") if os.path.isdir(f"{top}/{folder}") else []) if len(name) == 64}

    def cgroups_are_gone():
        left = [path for name in ids for top in harness.cgroup_tops() for path in glob.glob(f"{top}/fluyt*/{name}")]
        for path in left:
            with contextlib.suppress(OSError):  # its processes are about to end
                os.rmdir(path)
        return not left
    harness.wait_for(cgroups_are_gone, "the cgroups to be gone")
    with open("/proc/self/mounts", encoding="utf-8") as file:
        points = [line.split()[1] for line in file]
    for point in sorted((point for point in points if point.startswith(engine.state + "/")), reverse=True):
        subprocess.run(["umount", "-l", point], check=True)
    shutil.rmtree(engine.state)


def start_in_another_boot(engine, tmp_path):
    """fluytd in a mount namespace where the kernel's file says another boot id."""
    file = tmp_path / "boot_id"
    file.write_text(str(uuid.uuid4()) + "\n")
    engine.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c",
                     f'mount --bind {file} /proc/sys/kernel/random/boot_id && exec "$@"', "sh"]
    engine.start()


def leases(engine):
    return [name for name in glob.glob(engine.folder + "/leases/*/*") if name.split("/")[-1][0].isdigit()]


def test_after_a_reboot(engine, cri, busybox, tmp_path):
    cri.pull(busybox)
    harness.wait_for(lambda: engine.fluyt("info", check=False).returncode == 0, "info")
    subprocess.run(["sync", "-f", engine.root], check=True)
    time.sleep(2)  # what was pulled becomes durable behind the pull's answer
    config = cri.sandbox_config()
    config.labels["app"] = "walk"
    sandbox = cri.run_sandbox(config)
    runs = cri.run_container(sandbox, config, cri.container_config(busybox, ["sh", "-c", "echo line; sleep 1000"], name="runs"))
    waits = cri.create(sandbox, config, cri.container_config(busybox, ["true"], name="waits"))
    ended = cri.run_container(sandbox, config, cri.container_config(busybox, ["sh", "-c", "exit 3"], name="ended"))
    harness.wait_for(lambda: cri.status(ended).state == c.EXITED, "the exit")
    harness.wait_for(lambda: os.path.getsize(cri.status(runs).log_path), "the line")
    before = {container: cri.status(container) for container in (runs, waits, ended)}
    assert len(leases(engine)) == 1

    power_off(engine)
    start_in_another_boot(engine, tmp_path)
    try:
        cri.wait_served()
        status = cri.runtime.PodSandboxStatus(c.pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox)).status
        assert status.state == c.pb.SANDBOX_NOTREADY and status.labels["app"] == "walk"
        for container in (runs, waits):
            now = cri.status(container)
            assert (now.state, now.exit_code, now.reason) == (c.EXITED, 255, "Unknown"), now
            assert now.id == container and now.log_path == before[container].log_path and now.finished_at > 0
            assert now.labels == before[container].labels and now.metadata == before[container].metadata
        now = cri.status(ended)
        assert (now.state, now.exit_code, now.finished_at) == (c.EXITED, 3, before[ended].finished_at)
        assert os.path.getsize(before[runs].log_path) > 0
        harness.wait_for(lambda: not leases(engine), "DEL from the stored result")
        assert not host.monitors(), "something was started by itself"
        assert not glob.glob(engine.state + "/sandboxes/*")
        # Stays until it is removed, over another start too.
        engine.kill()
        engine.start()
        cri.wait_served()
        assert cri.status(runs).exit_code == 255
        with pytest.raises(c.grpc.RpcError):
            cri.create(sandbox, config, cri.container_config(busybox, ["true"], name="late"))
        cri.remove_sandbox(sandbox)
        assert engine.fluyt("doctor").stdout == "nothing found\n"
        # The same pod can be had again, and runs.
        again = cri.run_sandbox(config)
        container = cri.run_container(again, config, cri.container_config(busybox, ["sh", "-c", "exit 4"], name="runs"))
        harness.wait_for(lambda: cri.status(container).state == c.EXITED, "the exit")
        assert cri.status(container).exit_code == 4
        cri.remove_sandbox(again)
    finally:
        engine.stop()
        engine.prefix = []
        engine.start()


def listing(folder):
    return {path: (os.lstat(path).st_mtime_ns, os.lstat(path).st_size)
            for top, dirs, files in os.walk(folder) for path in [os.path.join(top, name) for name in dirs + files]}


@pytest.mark.parametrize("where", ["state", "root/engine"])
def test_folders_of_a_newer_program_are_refused_untouched(engine, cri, where):
    engine.stop()
    path = f"{engine.folder}/{where}/layout.json"
    with open(path, encoding="ascii") as file:
        ours = file.read()
    assert json.loads(ours)["version"] == 1
    with open(path, "w", encoding="ascii") as file:
        file.write('{"version": 2, "written_by": "9.9.9", "of_tomorrow": []}')
    before = {top: listing(top) for top in (engine.root, engine.state)}
    size = os.path.getsize(engine.log)
    engine.start(wait=False)
    assert engine.process.wait(20) == 1
    with open(engine.log, encoding="utf-8") as file:
        file.seek(size)
        said = file.read()
    for words in (path, "has layout 2, written by fluyt \"9.9.9\"", "knows up to 1", "left untouched"):
        assert words in said, said
    after = {top: listing(top) for top in (engine.root, engine.state)}
    lock = engine.root + "/fluytd.lock"  # whose it is to look
    for tops in (before, after):
        tops[engine.root].pop(lock, None)
    assert after == before
    with open(path, "w", encoding="ascii") as file:
        file.write(ours)
    engine.start()
    cri.wait_served()
