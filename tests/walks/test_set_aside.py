"""Records that cannot be read: what they are about may run, and keeps what it stands on."""

import os
import sqlite3

import pytest

import cri as c
import harness
import host

SCRIPT = "echo kept > /written; while true; do cat /written || echo lost; sleep 0.02; done"


def change_database(engine, *statement):
    database = sqlite3.connect(engine.root + "/engine/engine.db")
    with database:
        database.execute(*statement)
    database.close()


def in_database(engine, *statement):
    """Carried out while no fluytd is there."""
    engine.kill()
    change_database(engine, *statement)
    engine.start()


def records_found(engine, *options):
    lines = engine.fluyt("doctor", *options, check=False).stdout.splitlines()
    return [line for line in lines if line.startswith("record ")]


@pytest.fixture
def running(engine, cri, busybox):
    """A container that reads what it wrote: (sandbox, container, where its file is on the disk)."""
    cri.pull(busybox)
    config = cri.sandbox_config()
    sandbox = cri.run_sandbox(config)
    container = cri.run_container(sandbox, config, cri.container_config(busybox, ["sh", "-c", SCRIPT]))
    log = os.path.join(config.log_directory, "main.log")
    reads_on(log)
    [shell] = [process for process in host.processes_below(host.monitor_pid(sandbox)) if process.name == "sh"]
    written = f"{engine.root}/image/roots/{container}/upper/written"
    assert os.path.exists(written)
    gone = lambda: not [process for process in host.processes() if process.pid == shell.pid and process.state != "Z"]
    try:
        yield sandbox, container, written
        assert os.path.exists(written) and not gone()
        reads_on(log)
    finally:
        # What is set aside ends when somebody says so, and with it goes what it left.
        set_aside = records_found(engine, "--repair")
        cri.wait_served()
        left = (os.path.exists(written), gone())
        cri.remove_sandbox(sandbox)
    if any(container in line for line in set_aside):
        assert left == (False, True)
    assert not os.path.exists(written) and gone() and not records_found(engine)


def lines_of(log):
    with open(log, encoding="ascii") as file:
        return [line.split(" ", 3)[3].strip() for line in file if line.endswith("\n")]


def reads_on(log):
    harness.wait_for(lambda: os.path.exists(log) and lines_of(log), "the container's first line")
    before = len(lines_of(log))
    harness.wait_for(lambda: len(lines_of(log)) > before + 1, "more lines of the container")
    assert set(lines_of(log)) == {"kept"}


@pytest.mark.parametrize("table", ["sandbox", "container"])
def test_a_record_that_is_set_aside(engine, running, table):
    sandbox, container, written = running
    damaged = {"sandbox": sandbox, "container": container}[table]
    in_database(engine, f"UPDATE {table} SET record = ? WHERE id = ?", (b"{not json", damaged))
    assert os.path.exists(written)
    engine.fluyt("gc")
    assert os.path.exists(written)
    found = {line.split(": ")[0] for line in records_found(engine)}
    assert found == {f"record {table} {damaged}", f"record container {container}"}


def test_without_its_records_it_does_not_start(engine, cri, running):
    """Else a kubelet would be told that no pod runs, and make each a second time."""
    _, container, written = running
    engine.kill()
    change_database(engine, "ALTER TABLE container RENAME COLUMN record TO other")
    logged = os.path.getsize(engine.log)
    engine.start(wait=False)
    assert engine.process.wait(timeout=30) == 1
    with open(engine.log, encoding="utf-8") as log:
        log.seek(logged)
        assert f"{engine.root}/engine/engine.db: the records of pods and containers cannot be read" in log.read()
    assert os.path.exists(written)
    change_database(engine, "ALTER TABLE container RENAME COLUMN other TO record")
    engine.start()
    cri.wait_served()
    assert cri.status(container).state == c.RUNNING
