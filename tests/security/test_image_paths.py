"""An image whose paths are links: nothing of the host may be reached through them, and what the container's safety
rests on (/proc, /sys, /dev) is never somewhere else."""

import json
import os

import pytest


@pytest.mark.parametrize("name", ["/proc", "/sys"])
@pytest.mark.parametrize("target", ["/tmp/elsewhere", "../tmp/elsewhere", "CANARY"])
def test_proc_and_sys_are_mounted_through_no_link(any_box, canary, name, target):
    """CVE-2019-19921, CVE-2023-27561, CVE-2023-28642"""
    box = any_box
    os.mkdir(box.rootfs + "/tmp/elsewhere")
    box.link(name, canary.folder if target == "CANARY" else target)
    done = box.run("/bin/true")
    assert done.code != 0 and name in done.err and "no link" in done.err, done
    assert os.listdir(box.rootfs + "/tmp/elsewhere") == []


@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_nothing_but_procfs_goes_over_proc(any_box, canary, kind):
    """CVE-2019-16884: an image's VOLUME at /proc"""
    box = any_box
    os.mkdir(box.folder + "/volume")
    if kind == "tmpfs":
        box.spec["mounts"].append({"destination": "/proc", "type": "tmpfs", "source": "tmpfs"})
    else:
        box.bind(box.folder + "/volume", "/proc")
    done = box.run("/bin/true")
    assert done.code != 0 and "only procfs may be mounted here" in done.err, done


@pytest.mark.parametrize("below", ["self/attr", "self/attr/exec", "sys/kernel", "../proc/self/attr/exec"])
def test_nothing_goes_into_proc(any_box, below):
    """CVE-2019-16884, CVE-2025-52881: a file where a label would be written"""
    box = any_box
    os.mkdir(box.folder + "/volume")
    box.bind(box.folder + "/volume", "/proc/" + below)
    done = box.run("/bin/true")
    assert done.code != 0 and "nothing may be mounted inside /proc" in done.err, done


@pytest.mark.parametrize("target", ["/proc", "/sys", "/proc/self"])
def test_a_link_leads_no_mount_over_proc_or_sys(any_box, target):
    """CVE-2019-16884: by a link of the image instead of by its name"""
    box = any_box
    os.mkdir(box.folder + "/volume")
    box.link("/data", target)
    box.bind(box.folder + "/volume", "/data")
    done = box.run("/bin/true")
    assert done.code != 0 and "leads into procfs or sysfs" in done.err, done


def test_a_link_leads_no_remount_to_sys(any_box):
    """CVE-2019-16884's kin: what a remount changes is what its destination says"""
    box = any_box
    box.link("/data", "/sys")
    box.spec["mounts"].append({"destination": "/data", "options": ["remount", "bind", "rw"]})
    done = box.shell("grep ' /sys ' /proc/self/mountinfo")
    assert done.code != 0 and "mounts[" in done.err, done


@pytest.mark.parametrize("root", ["/", "../../../../../../../../../.."])
def test_a_mount_below_a_link_to_the_root_stays_in_the_image(any_box, canary, root):
    """CVE-2019-18837"""
    box = any_box
    os.mkdir(box.folder + "/volume")
    box.link("/up", root)
    box.bind(box.folder + "/volume", "/up" + canary.folder + "/inner")
    box.bind(box.folder + "/volume", "/up" + canary.folder + "/new/made")
    done = box.shell(f"grep -c ' {canary.folder}/' /proc/self/mountinfo")
    assert done.code == 0 and done.out.strip() == "2", done


def test_a_mount_on_a_link_to_a_host_path_stays_in_the_image(any_box, canary):
    """CVE-2019-18837, CVE-2021-30465 without a race"""
    box = any_box
    os.mkdir(box.folder + "/volume")
    box.link("/data", canary.folder + "/inner")
    box.link("/dangling", canary.folder + "/made")
    box.bind(box.folder + "/volume", "/data")
    box.bind(box.folder + "/volume", "/dangling")
    done = box.shell(f"grep -c ' {canary.folder}/' /proc/self/mountinfo")
    assert done.code == 0 and done.out.strip() == "2", done


def test_no_mount_over_the_root_through_a_link(any_box):
    """The root itself, with a volume's content in place of what was checked"""
    box = any_box
    os.mkdir(box.folder + "/volume")
    box.link("/data", "/")
    box.bind(box.folder + "/volume", "/data")
    done = box.run("/bin/true")
    assert done.code != 0 and "leads to its root" in done.err, done


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("mounted", [True, False])
def test_dev_as_a_link_makes_nothing_outside(any_box, canary, relative, mounted):
    """CVE-2026-41579, CVE-2026-47766: devices, links and ptmx where an image's /dev leads"""
    box = any_box
    box.link("/dev", os.path.relpath(canary.folder, box.rootfs) if relative else canary.folder)
    if not mounted:
        box.drop_mount("/dev")
    box.run("/bin/true")
    # The canary is the oracle; whether it runs or is refused is the image's matter.


@pytest.mark.parametrize("console", ["CANARY/made", "CANARY/console", "/etc/made", "/etc/passwd"])
def test_console_is_bound_onto_no_link(any_box, canary, console):
    """CVE-2026-88264: a file made, as root, where the image's /dev/console leads"""
    box = any_box
    box.drop_mount("/dev")
    box.spec["mounts"].append({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                               "options": ["newinstance", "ptmxmode=0666"]})
    box.link("/dev/console", console.replace("CANARY", canary.folder))
    box.process["terminal"] = True
    done = box.run("/bin/true")
    assert done.code != 0 and "console" in done.err, done
    assert not os.path.exists(box.rootfs + "/etc/made")


@pytest.mark.parametrize("name", ["null", "zero", "ptmx"])
def test_devices_replace_no_link(any_box, canary, name):
    """CVE-2026-88265: the image's /dev/null is a link to a file that the host shared"""
    box = any_box
    box.drop_mount("/dev")
    shared = canary.folder + "/file"
    box.write("/shared", "")
    box.bind(shared, "/shared")
    box.link("/dev/" + name, "/shared")
    box.process["user"] = {"uid": 1000, "gid": 1000}
    done = box.shell("echo text >/dev/null; readlink /dev/ptmx")
    if name == "ptmx":
        # Ours in its place: whatever lay there may have been the host's multiplexer.
        assert done.code == 0 and done.out.strip() == "pts/ptmx", done
    else:
        assert done.code != 0 and f"/dev/{name}" in done.err, done


def test_standard_streams_are_the_hosts_null(any_box):
    """CVE-2026-88265: with nothing on stdin, the container's own /dev/null is not asked"""
    box = any_box
    os.mkdir(box.folder + "/dev")
    with open(box.folder + "/dev/null", "w", encoding="ascii") as file:
        file.write("not null")
    box.drop_mount("/dev")
    box.bind(box.folder + "/dev", "/dev")
    done = box.shell("stat -L -c %t:%T /proc/self/fd/0; cat")
    assert done.code == 0 and done.out.split() == ["1:3"], done


def test_a_file_as_output_keeps_its_owner(box, tmp_path):
    """CVE-2026-88265: only pipes are given to the container's user"""
    box.process["user"] = {"uid": 1000, "gid": 1000}
    with open(tmp_path / "log", "wb") as log:
        done = box.run("/bin/id", "-u", stdout=log)
    assert done.code == 0, done
    assert os.stat(tmp_path / "log").st_uid == 0
    assert (tmp_path / "log").read_text() == "1000\n"


@pytest.mark.parametrize("target", ["/proc/sys/kernel/core_pattern", "CANARY/null"])
def test_masks_are_the_hosts_null(any_box, canary, target):
    """CVE-2025-31133: a volume at /dev whose null leads to what masking would make writable"""
    box = any_box
    os.mkdir(box.folder + "/dev")
    os.symlink(target.replace("CANARY", canary.folder), box.folder + "/dev/null")
    box.drop_mount("/dev")
    box.bind(box.folder + "/dev", "/dev")
    box.linux["maskedPaths"] = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi"]
    done = box.run("/bin/hostile", "audit", canary.folder, *box.linux["maskedPaths"])
    assert done.code == 0, done
    null = box.shell("for f in /proc/kcore /proc/keys /proc/timer_list; do [ -e $f ] && stat -c %t:%T $f; done")
    assert set(null.out.split()) == {"1:3"}, null


def test_masks_follow_links_within_the_image_alone(any_box, canary):
    """Masked paths that an image made links of"""
    box = any_box
    box.link("/secret", canary.folder + "/file")
    box.link("/folder", os.path.relpath(canary.folder, box.rootfs))
    box.linux["maskedPaths"] = ["/secret", "/folder", "/folder/inner"]
    done = box.run("/bin/hostile", "audit", canary.folder, "/proc/kcore")
    assert "host's path" not in done.out, done


def test_a_read_only_root_needs_no_path(any_box):
    """CVE-2026-115521: a root remounted through the image's own /proc/self/fd"""
    box = any_box
    box.spec["root"]["readonly"] = True
    box.spec["mounts"] = []
    os.makedirs(box.rootfs + "/proc/self/fd")
    os.makedirs(box.rootfs + "/proc/thread-self/fd")
    for number in range(40):
        for folder in ("self", "thread-self"):
            os.symlink("/tmp", f"{box.rootfs}/proc/{folder}/fd/{number}")
    done = box.shell("touch /tmp/written || echo refused")
    assert done.out.strip() == "refused", done


def test_read_only_binds_need_no_path(any_box):
    """CVE-2026-115521 for a volume"""
    box = any_box
    os.mkdir(box.folder + "/volume")
    os.mkdir(box.rootfs + "/data")
    box.drop_mount("/proc")
    box.linux["maskedPaths"] = box.linux["readonlyPaths"] = []
    os.makedirs(box.rootfs + "/proc/self/fd")
    for number in range(40):
        os.symlink("/tmp", f"{box.rootfs}/proc/self/fd/{number}")
    box.bind(box.folder + "/volume", "/data", "ro")
    box.linux["readonlyPaths"] = ["/etc"]
    done = box.shell("touch /data/written || echo refused; touch /etc/written || echo refused")
    assert done.out.split() == ["refused", "refused"], done


def test_a_missing_working_directory_is_made_in_the_image(any_box, canary):
    """CVE-2025-9566, CVE-2026-55686: WORKDIR below a link"""
    box = any_box
    box.link("/deck", canary.folder)
    box.process["cwd"] = "/deck/made"
    done = box.shell("pwd -P")
    assert done.code == 0 and done.out.strip() == canary.folder + "/made", done


def test_copy_up_takes_from_the_image_alone(any_box, canary):
    """tmpcopyup of a folder that the image made a link to the host's"""
    box = any_box
    box.link("/data", canary.folder)
    box.spec["mounts"].append({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]})
    done = box.shell("ls /data/ | grep -c .")
    assert done.out.strip() == "0", done


def test_a_root_that_is_a_link_is_no_way_out(box, canary):
    """The bundle's root.path is the caller's, but what it leads to is what the container gets, whole"""
    os.rename(box.rootfs, box.folder + "/real")
    os.symlink("real", box.rootfs)
    done = box.run("/bin/hostile", "audit", canary.folder)
    assert done.code != 0 or json.dumps(done.out) == json.dumps("sound\n"), done
