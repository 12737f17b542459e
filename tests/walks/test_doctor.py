"""`fluyt doctor` finds what is planted, each in one line with what mends it, and with --repair mends it."""

import os
import sqlite3
import subprocess
import uuid

import cri as c
import harness
import host
import pytest


def doctor(engine, *options, code):
    done = engine.fluyt("doctor", *options, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout.splitlines()


def an_id():
    return uuid.uuid4().hex + uuid.uuid4().hex


def stray_monitor(engine):
    """A monitor that no record names: (process, sandbox id)."""
    stray = an_id()
    state = f"{engine.state}/sandboxes/{stray}/monitor"
    os.makedirs(state)
    read, write = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)
    program = f'exec 3<&{null} 4>&{write}; exec -a fluyt-monitor "$@"'
    process = subprocess.Popen(["bash", "-c", program, "sh", harness.BIN + "/fluyt-monitor", stray, state, ""],
                               pass_fds=(null, write), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    os.close(write)
    os.close(null)
    assert os.read(read, 100) == b"ready\n"
    os.close(read)
    return process, stray


@pytest.fixture
def planted(engine, cri, busybox):
    """{kind of finding: its name}, beside a pod that runs."""
    cri.pull(busybox)
    config = cri.sandbox_config()
    sandbox = cri.run_sandbox(config)
    container = cri.run_container(sandbox, config, cri.container_config(busybox, ["sleep", "1000"]))
    assert doctor(engine, code=0) == ["nothing found"]
    made = {}
    # A record that cannot be read: a start sets it aside.
    engine.kill()
    broken = an_id()
    database = sqlite3.connect(engine.root + "/engine/engine.db")
    with database:
        database.execute("INSERT INTO sandbox VALUES (?, ?)", (broken, b"{not json"))
    database.close()
    made["record"] = f"sandbox {broken}"
    engine.start()
    cri.wait_served()
    folder = engine.state + "/sandboxes/" + an_id()
    os.makedirs(folder + "/left")
    subprocess.run(["mount", "-t", "tmpfs", "left", folder + "/left"], check=True)
    made["folder"], made["mount"] = folder, folder + "/left"
    top = [top for top in harness.cgroup_tops() if os.path.isdir(top + "/fluyt")][0]
    for parent, kind in (("fluyt", "cgroup"), ("fluyt-monitors", "cgroup of a monitor")):
        name = parent + "/" + an_id()
        os.makedirs(f"{top}/{name}")
        made[kind] = "/" + name
    process, stray = stray_monitor(engine)
    made["process"], made["folder of it"] = f"pid {process.pid}", f"{engine.state}/sandboxes/{stray}"
    yield made, process, sandbox, container
    process.kill()
    process.wait()
    cri.remove_sandbox(sandbox)


def test_what_is_planted_is_found_and_mended(engine, cri, planted):
    made, process, sandbox, container = planted
    lines = doctor(engine, code=3)
    for kind, name in made.items():
        mine = [line for line in lines if line.startswith(f"{kind.split()[0]} {name}: ")]
        assert len(mine) == 1 and "; to mend: fluyt doctor --repair" in mine[0], (kind, lines)
    assert len(lines) == len(made), lines
    # Nothing was touched.
    assert doctor(engine, code=3) == lines and os.path.ismount(made["mount"]) and process.poll() is None
    mended = doctor(engine, "--repair", code=0)
    assert len(mended) >= 5 and all(line.endswith("; mended") for line in mended), mended
    assert doctor(engine, code=0) == ["nothing found"]
    harness.wait_for(lambda: process.poll() is not None, "the monitor to be ended")
    assert not os.path.exists(made["folder"]) and not os.path.exists(made["folder of it"])
    assert not [top for top in harness.cgroup_tops() if os.path.exists(top + made["cgroup"])]
    # What is no leak is as it was.
    assert cri.status(container).state == c.RUNNING and sandbox in host.monitors()
    assert cri.exec(container, "echo", "there")[1] == b"there\n"


def test_a_cgroup_with_processes_is_nobodys_to_end(engine, cri, busybox):
    cri.pull(busybox)
    sandbox = cri.run_sandbox(cri.sandbox_config())
    top = [top for top in harness.cgroup_tops() if os.path.isdir(top + "/fluyt-monitors")][0]
    name = "/fluyt/" + an_id()
    os.makedirs(top + name)
    sleeper = subprocess.Popen(["sleep", "1000"])
    try:
        with open(top + name + "/cgroup.procs", "w", encoding="ascii") as file:
            file.write(str(sleeper.pid))
        for options in ((), ("--repair",)):
            lines = doctor(engine, *options, code=3)
            assert len(lines) == 1 and name in lines[0] and "holds 1 processes" in lines[0], lines
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()
    harness.wait_for(lambda: not open(top + name + "/cgroup.procs", encoding="ascii").read(), "the cgroup to be empty")
    doctor(engine, "--repair", code=0)
    assert not os.path.exists(top + name)
    cri.remove_sandbox(sandbox)


def test_what_the_network_holds_for_nobody(busybox):
    engine = harness.Engine(network={**harness.BRIDGE, "cniVersion": "1.1.0"})
    try:
        engine.start()
        cri = c.Client(engine.socket, engine.folder + "/logs")
        cri.pull(busybox)
        cri.run_sandbox(cri.sandbox_config())
        assert doctor(engine, code=0) == ["nothing found"]
        lease = engine.folder + "/leases/fluyt-test/10.187.77.7"
        with open(lease, "w", encoding="ascii") as file:
            file.write(an_id() + "\r\neth0")
        lines = doctor(engine, code=3)
        assert len(lines) == 1 and lines[0].startswith(f"network lease {lease}: belongs to no sandbox"), lines
        assert os.path.exists(lease)
        assert doctor(engine, "--repair", code=0)[0].endswith("; mended")
        assert not os.path.exists(lease) and doctor(engine, code=0) == ["nothing found"]
        cri.close()
    finally:
        engine.close()


def test_wrong_usage(engine):
    assert engine.fluyt("doctor", "--mend", check=False).returncode == 2
    assert "--repair" in engine.fluyt("doctor", "--help").stdout
