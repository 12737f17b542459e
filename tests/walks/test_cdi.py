"""CDI devices: what the administrator's files say of them, in a container that asks for one by name."""

import json
import os

import cri as c
import harness
import pytest


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folders = [str(tmp_path_factory.mktemp(name)) for name in ("etc-cdi", "run-cdi")]
    made = harness.Engine(settings=f"cdi_dirs = {json.dumps([*folders, folders[0] + '/none'])}\n")
    made.cdi = folders
    made.start()
    yield made
    made.close()


def write(engine, place, name, text):
    path = os.path.join(engine.cdi[place], name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text if isinstance(text, str) else json.dumps(text))
    return path


@pytest.fixture
def files(engine):
    yield lambda *arguments: write(engine, *arguments)
    for folder in engine.cdi:
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))


def asking(cri, busybox, *devices, command=("sleep", "1000"), **options):
    wanted = cri.container_config(busybox, list(command), **options)
    for device in devices:
        wanted.CDI_devices.add(name=device)
    return wanted


def one_device(**edits):
    return {"cdiVersion": "0.7.0", "kind": "vendor.com/thing", "devices": [{"name": "a", "containerEdits": edits}]}


def test_a_device_from_json_and_one_from_yaml(cri, busybox, pod, files, tmp_path):
    sandbox, config = pod
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "driver.so").write_text("driver")
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ncat > {tmp_path}/seen\necho $MARK $* >> {tmp_path}/ran\n")
    hook.chmod(0o755)
    files(0, "vendor.json", {
        "cdiVersion": "0.7.0", "kind": "vendor.com/gpu",
        "containerEdits": {"env": ["VENDOR=all"], "mounts": [
            {"hostPath": str(tmp_path / "lib"), "containerPath": "/usr/lib/vendor", "options": ["ro", "rbind", "nosuid"]}]},
        "devices": [{"name": "0", "containerEdits": {
            "env": ["GPU=0"],
            "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/fuse", "permissions": "r"}],
            "hooks": [{"hookName": "createRuntime", "path": str(hook), "args": ["hook", "made"], "env": ["MARK=cdi"]}],
            "additionalGids": [4242]}}, {"name": "1", "containerEdits": {"env": ["GPU=1"]}}]})
    files(1, "other.yaml", "cdiVersion: 0.5.0\nkind: other.org/disk\ndevices:\n- name: d\n  containerEdits:\n"
          "    deviceNodes:\n    - {path: /dev/deep/disk, type: c, major: 1, minor: 3, fileMode: 0640, uid: 7}\n")
    wanted = asking(cri, busybox, "vendor.com/gpu=0", "other.org/disk=d")
    wanted.linux.security_context.run_as_user.value = 1000
    container = cri.run_container(sandbox, config, wanted)
    assert cri.exec(container, "sh", "-c", "echo $VENDOR $GPU")[1] == b"all 0\n"
    assert cri.exec(container, "cat", "/usr/lib/vendor/driver.so")[1] == b"driver"
    assert cri.exec(container, "touch", "/usr/lib/vendor/x")[0] != 0
    assert cri.exec(container, "sh", "-c", ": < /dev/gpu0")[0] == 0
    assert cri.exec(container, "sh", "-c", ": > /dev/gpu0")[0] != 0, "its permissions are r alone"
    assert cri.exec(container, "stat", "-c", "%u:%t:%T:%a", "/dev/gpu0", "/dev/deep/disk")[1] == (
        b"1000:a:e5:666\n7:1:3:640\n")
    assert b"4242" in cri.exec(container, "id", "-G")[1].split()
    assert (tmp_path / "ran").read_text() == "cdi made\n"
    assert json.loads((tmp_path / "seen").read_text())["id"] == container


def test_what_is_asked_for_and_not_there_is_named(cri, busybox, pod, files):
    sandbox, config = pod
    files(0, "broken.json", "{")
    files(0, "strange.yaml", "cdiVersion: 9.0.0\nkind: vendor.com/thing\ndevices: []\n")
    files(0, "good.json", one_device(env=["A=1"]))
    code, message = c.error_of(cri.create, sandbox, config, asking(cri, busybox, "vendor.com/thing=b"))
    assert code == "INVALID_ARGUMENT" and 'CDI_devices[0].name: "vendor.com/thing=b": no CDI file' in message
    assert "broken.json" in message and "strange.yaml" in message, "why it may be missing is said"
    code, message = c.error_of(cri.create, sandbox, config, asking(cri, busybox, "vendor.com/thing=a", "nonsense"))
    assert code == "INVALID_ARGUMENT" and "CDI_devices[1].name" in message
    # The broken ones hold up nobody who does not ask for them.
    assert cri.create(sandbox, config, asking(cri, busybox, "vendor.com/thing=a"))


def test_the_later_folder_wins_and_conflicts_are_errors(cri, busybox, pod, files):
    sandbox, config = pod
    files(0, "a.json", one_device(env=["FROM=etc"]))
    files(1, "a.json", one_device(env=["FROM=run"]))
    container = cri.run_container(sandbox, config, asking(cri, busybox, "vendor.com/thing=a"))
    assert cri.exec(container, "sh", "-c", "echo $FROM")[1] == b"run\n"
    files(1, "b.json", one_device(env=["FROM=rival"]))
    code, message = c.error_of(cri.create, sandbox, config, asking(cri, busybox, "vendor.com/thing=a", name="other"))
    assert code == "FAILED_PRECONDITION" and "a.json" in message and "b.json" in message


def test_files_that_others_can_write_are_not_used(engine, cri, busybox, pod, files):
    sandbox, config = pod
    path = files(0, "open.json", one_device(env=["A=1"]))
    os.chmod(path, 0o666)
    code, message = c.error_of(cri.create, sandbox, config, asking(cri, busybox, "vendor.com/thing=a"))
    assert code == "INVALID_ARGUMENT" and "others cannot write" in message
    os.chmod(path, 0o644)
    os.chown(path, 1000, 1000)
    assert "root's" in c.error_of(cri.create, sandbox, config, asking(cri, busybox, "vendor.com/thing=a"))[1]


def test_a_node_that_is_not_there_is_named(cri, busybox, pod, files):
    sandbox, config = pod
    files(0, "a.json", one_device(deviceNodes=[{"path": "/dev/none-of-these"}]))
    code, message = c.error_of(cri.create, sandbox, config, asking(cri, busybox, "vendor.com/thing=a"))
    assert code == "FAILED_PRECONDITION" and '"/dev/none-of-these": is not there' in message


def test_annotations_change_nothing(cri, busybox, pod, files):
    sandbox, config = pod
    files(0, "a.json", one_device(env=["FROM=cdi"]))
    wanted = asking(cri, busybox)
    wanted.annotations["cdi.k8s.io/x"] = "vendor.com/thing=a"
    container = cri.run_container(sandbox, config, wanted)
    assert cri.exec(container, "sh", "-c", "echo $FROM")[1] == b"\n"


def test_in_a_user_namespace(cri, busybox, files):
    cri.pull(busybox)
    files(0, "a.json", one_device(deviceNodes=[{"path": "/dev/thing", "hostPath": "/dev/zero", "uid": 5}]))
    config = cri.sandbox_config()
    users = config.linux.security_context.namespace_options.userns_options
    users.mode = c.pb.POD
    users.uids.add(container_id=0, host_id=100000, length=65536)
    users.gids.add(container_id=0, host_id=100000, length=65536)
    sandbox = cri.run_sandbox(config)
    try:
        container = cri.run_container(sandbox, config, asking(cri, busybox, "vendor.com/thing=a"))
        assert cri.exec(container, "stat", "-c", "%u", "/dev/thing")[1] == b"5\n"
        assert cri.exec(container, "sh", "-c", "head -c 2 /dev/thing | od -An -tx1")[1].split() == [b"00"] * 2
    finally:
        cri.remove_sandbox(sandbox)
