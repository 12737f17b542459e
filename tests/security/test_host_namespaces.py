"""What a container's mounts and settings change is the container's: no mount shows on the host, no setting of the
host's is written."""

import os
import subprocess

import pytest


@pytest.fixture
def shared(tmp_path):
    """A mount of the host's whose events every namespace hears."""
    path = str(tmp_path / "shared")
    os.mkdir(path)
    subprocess.run(["mount", "-t", "tmpfs", "shared", path], check=True)
    subprocess.run(["mount", "--make-shared", path], check=True)
    yield path
    subprocess.run(["umount", "--recursive", "--lazy", path], check=True)


def mounts(skip=""):
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return sorted(" ".join(line.split()[2:]) for line in file if not skip or skip not in line)


@pytest.mark.parametrize("propagation", ["", "rslave", "rprivate", "private", "slave", "rshared", "shared", "unbindable"])
def test_no_mount_of_a_container_shows_on_the_host(any_box, shared, propagation):
    """CVE-2021-30465's oracle without the race, for a volume of every propagation and the root below a shared mount"""
    box = any_box
    os.makedirs(shared + "/volume/below")
    box.linux["rootfsPropagation"] = propagation if propagation in ("", "shared", "slave", "private", "unbindable") else ""
    box.bind(shared + "/volume", "/data", *([propagation] if propagation else []))
    box.spec["mounts"].append({"destination": "/data/below", "type": "tmpfs", "source": "inner"})
    before = mounts()
    done = box.run("/bin/true")
    assert done.code == 0, done
    after = mounts()
    if propagation in ("rshared", "shared"):
        # Asked for: it shows, as the specification has it, and goes with the container.
        after = [line for line in after if " inner " not in line]
    assert after == before, done


def test_the_propagation_of_the_hosts_root_is_left_alone(any_box, shared):
    """runc 1.5.3's host-mntns: not touched outside our own namespace"""
    subprocess.run(["mount", "--make-shared", "/"], check=True)
    try:
        before = mounts()
        for propagation in ("private", "slave", "shared"):
            any_box.linux["rootfsPropagation"] = propagation
            done = any_box.run("/bin/true")
            assert done.code == 0, done
            assert mounts() == before
    finally:
        subprocess.run(["mount", "--make-private", "/"], check=True)


def test_a_container_in_the_hosts_mount_namespace_changes_no_mount_of_it(box, shared):
    """runc 1.5.3: without a mount namespace of its own, mounts are the host's: all go with the container, and the
    propagation of what was there stays"""
    subprocess.run(["mount", "--make-shared", "/"], check=True)
    try:
        box.namespace("mount", False)
        for propagation in ("", "private", "slave"):
            box.linux["rootfsPropagation"] = propagation
            before = mounts()
            done = box.run("/bin/true")
            assert done.code == 0, done
            assert mounts() == before
    finally:
        subprocess.run(["mount", "--make-private", "/"], check=True)


@pytest.mark.parametrize("hooked", [False, True])
def test_a_container_in_the_hosts_mount_namespace_sees_nothing_of_it(box, canary, shared, hooked):
    """The same from inside: behind its root it finds nothing of the host's"""
    box.namespace("mount", False)
    if hooked:
        box.early_hook()
    os.mkdir(shared + "/volume")
    box.bind(shared + "/volume", "/data")
    subprocess.run(["mount", "--make-shared", "/"], check=True)
    try:
        before = mounts()
        done = box.run("/bin/hostile", "audit", canary.folder)
        if done.code != 0:
            assert "mount namespace" in done.err, done
        assert mounts() == before
    finally:
        subprocess.run(["mount", "--make-private", "/"], check=True)


def test_the_hosts_mount_namespace_by_path_is_refused(box):
    """Its root would be pivoted away from everybody"""
    box.namespace("mount", f"/proc/{os.getpid()}/ns/mnt")
    before = mounts()
    done = box.run("/bin/true")
    assert done.code != 0 and "linux.namespaces" in done.err, done
    assert mounts() == before


def test_settings_are_written_to_a_procfs_of_our_own(any_box):
    """CVE-2025-52881: another setting lies over the one that is meant"""
    box = any_box
    box.bind("/proc/sys/kernel/domainname", "/proc/sys/net/ipv4/ip_default_ttl")
    box.spec["domainname"] = "harbour"
    box.linux["sysctl"] = {"net.ipv4.ip_default_ttl": "77"}
    box.linux["readonlyPaths"] = []
    done = box.shell("cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_default_ttl")
    # Through the container's own /proc the one shows the other; what was written went to neither.
    assert done.code == 0 and done.out.split() == ["harbour", "harbour"], done


def test_a_setting_has_its_value_below_what_lies_over_it(any_box):
    """The same, seen from a procfs without anything over it"""
    box = any_box
    box.grant("CAP_SYS_ADMIN")
    box.bind("/proc/sys/kernel/domainname", "/proc/sys/net/ipv4/ip_default_ttl")
    box.linux["sysctl"] = {"net.ipv4.ip_default_ttl": "77"}
    done = box.shell("mkdir /tmp/proc && mount -t proc proc /tmp/proc && cat /tmp/proc/sys/net/ipv4/ip_default_ttl")
    assert done.code == 0 and done.out.strip() == "77", done


@pytest.mark.parametrize("key", ["kernel.core_pattern", "kernel.shm_rmid_forced/../core_pattern", "kernel/../kernel/core_pattern",
                                 "net.../kernel/core_pattern", "vm.overcommit_memory", "kernel.sysrq", "fs.suid_dumpable",
                                 "net/../kernel/core_pattern", ""])
def test_settings_of_the_host_are_refused(box, canary, key):
    """CVE-2022-0811's oracle: core_pattern"""
    box.linux["sysctl"] = {key: "|/evil"}
    done = box.run("/bin/true")
    assert done.code != 0 and "linux.sysctl" in done.err, done


def test_one_setting_carries_no_other(box, canary):
    """CVE-2022-0811: a value with a second setting in it"""
    for value in ("1+kernel.core_pattern=|/evil", "1\nkernel.core_pattern=|/evil"):
        box.linux["sysctl"] = {"kernel.shm_rmid_forced": value}
        done = box.run("/bin/true")
        assert done.code != 0 and "linux.sysctl" in done.err, done


@pytest.mark.parametrize("kind, key", [("network", "net.ipv4.ip_default_ttl"), ("ipc", "kernel.msgmax"),
                                       ("uts", "kernel.domainname")])
@pytest.mark.parametrize("path", [False, "HOST"])
def test_settings_of_a_namespace_of_the_hosts_are_refused(box, kind, key, path):
    """CVE-2022-0532: by no namespace, or by the path of the host's own"""
    name = {"network": "net"}.get(kind, kind)
    with open("/proc/sys/" + key.replace(".", "/"), encoding="utf-8") as file:
        before = file.read()
    box.namespace(kind, f"/proc/{os.getpid()}/ns/{name}" if path else False)
    if kind == "uts":
        box.spec.pop("hostname", None)
    box.linux["sysctl"] = {key: "99"}
    done = box.run("/bin/true")
    assert done.code != 0 and "linux.sysctl" in done.err, done
    with open("/proc/sys/" + key.replace(".", "/"), encoding="utf-8") as file:
        assert file.read() == before


def test_console_is_a_pty_of_a_real_devpts(any_box, canary):
    """CVE-2025-52565: a volume at /dev/pts with a multiplexer of the attacker's making"""
    box = any_box
    os.mkdir(box.folder + "/pts")
    os.symlink("/proc/self/fd/0", box.folder + "/pts/ptmx")
    box.drop_mount("/dev/pts")
    box.bind(box.folder + "/pts", "/dev/pts")
    box.process["terminal"] = True
    done = box.run("/bin/true")
    assert done.code != 0 and "devpts" in done.err, done


@pytest.mark.parametrize("kind", ["file", "device", "null"])
def test_the_multiplexer_is_verified(any_box, canary, kind, tmp_path):
    """CVE-2025-52565: what is called ptmx in a devpts that a container could write to"""
    box = any_box
    pts = str(tmp_path / "pts")
    os.mkdir(pts)
    subprocess.run(["mount", "-t", "devpts", "-o", "newinstance,ptmxmode=0666", "devpts", pts], check=True)
    try:
        box.drop_mount("/dev/pts")
        box.bind(pts, "/dev/pts")
        over = str(tmp_path / "over")
        if kind == "file":
            with open(over, "w", encoding="ascii") as file:
                file.write("not a multiplexer")
        else:
            os.mknod(over, 0o20666, os.makedev(5, 2) if kind == "device" else os.makedev(1, 3))
        box.bind(over, "/dev/pts/ptmx")
        box.process["terminal"] = True
        done = box.run("/bin/true")
        assert done.code != 0 and "console" in done.err, done
    finally:
        subprocess.run(["umount", "--lazy", pts], check=True)
