"""A container's cgroup holds it: no process beside it, no way to move out, and no device that was not allowed."""

import os

import pytest

import box as boxes


def cgroups_of(text):
    return [line.split(":", 2)[2] for line in text.splitlines() if line.count(":") >= 2]


@pytest.mark.parametrize("path", ["../SIBLING", "/../SIBLING", "below/../../SIBLING", "../../", "..", "/..",
                                  "./../SIBLING", "devices:../SIBLING", "cpu,memory:/../SIBLING"])
def test_exec_enters_no_cgroup_outside(make_box, path):
    """runc 1.5.2's and crun 1.28's `exec --cgroup ../sibling`"""
    box, sibling = make_box(), make_box()
    sibling.start()
    box.start()
    done = box.exec("/bin/cat", "/proc/self/cgroup", flags=("--cgroup", path.replace("SIBLING", sibling.id)))
    assert done.code == 255 and done.out == "", done
    assert "cgroup" in done.err, done


def test_exec_enters_no_cgroup_of_a_like_name(make_box):
    """A prefix is no parent: box-1 and box-10"""
    box, twin = make_box(), make_box()
    twin.id = box.id + "0"
    twin.linux["cgroupsPath"] = box.linux["cgroupsPath"] + "0"
    twin.start()
    box.start()
    for path in ("0", "/0", f"../{twin.id}", f"{box.id}0"):
        done = box.exec("/bin/cat", "/proc/self/cgroup", flags=("--cgroup", path))
        assert done.code == 255, done


@pytest.mark.parametrize("path", ["/fluyt-security/../../../../../../etc", "../../../../tmp/x", "/../../x"])
def test_a_cgroups_path_stays_in_its_hierarchies(box, canary, path):
    """linux.cgroupsPath with dots leads to no folder of the host"""
    box.linux["cgroupsPath"] = path
    done = box.run("/bin/true")
    if done.code != 0:
        assert "cgroupsPath" in done.err, done
    assert not os.path.exists("/tmp/x/cgroup.procs")


@pytest.mark.parametrize("user_namespace", [False, True])
def test_without_a_cgroup_namespace_cgroups_are_read_only(box, user_namespace):
    """CVE-2023-25809"""
    box.namespace("cgroup", False)
    if user_namespace:
        box.namespace("user")
        box.linux["uidMappings"] = box.linux["gidMappings"] = [{"containerID": 0, "hostID": 0, "size": 65536}]
    box.grant("CAP_DAC_OVERRIDE")
    for mount in box.spec["mounts"]:
        if mount["destination"] == "/sys/fs/cgroup":
            mount["options"] = ["nosuid", "noexec", "nodev", "relatime", "rw"]
    done = box.shell("found=; for f in $(find_it() { for d in /sys/fs/cgroup /sys/fs/cgroup/*; do "
                     "[ -e $d/cgroup.procs ] && echo $d/cgroup.procs; done; }; find_it); do "
                     "found=1; { echo 0 >$f; } 2>/dev/null && echo wrote $f; done; echo found $found; "
                     "mkdir /sys/fs/cgroup/made /sys/fs/cgroup/*/made 2>/dev/null && echo made")
    assert done.out.split("\n")[-2] == "found 1" and "wrote" not in done.out and "made" not in done.out, done


# Which devices a container opens for writing or reading, made by itself with CAP_MKNOD: (type, major, minor).
DEVICES = {"mem": "c 1 1", "kmsg": "c 1 11", "disk": "b 254 0", "loop": "b 7 0", "fuse": "c 10 229", "tun": "c 10 200",
           "null": "c 1 3", "full": "c 1 7"}


def opened(box, allow):
    box.grant("CAP_MKNOD", "CAP_DAC_OVERRIDE")
    box.linux["resources"]["devices"] = allow
    script = "".join(f"mknod /tmp/{name} {numbers} && dd if=/tmp/{name} of=/dev/null count=0 2>/tmp/why && echo opened {name} || "
                     f"{{ grep -q 'not permitted' /tmp/why && echo refused {name}; }}; " for name, numbers in DEVICES.items())
    done = box.shell(script)
    return {line.split()[1] for line in done.out.splitlines() if line.startswith("opened")}, done


@pytest.mark.parametrize("allow", [
    [],
    [{"allow": True, "type": "c", "major": 1, "minor": 7, "access": "rwm"}],
    [{"allow": True, "type": "c", "major": 1, "minor": 7, "access": "r"}],
])
def test_devices_are_refused_unless_allowed(box, allow):
    """GHSA-g54h-m393-cpwq: rules without a "deny all" before them"""
    seen, done = opened(box, allow)
    # The default devices of the specification are always there.
    assert seen <= {"null", "full"} and "full" in seen, done
    assert "refused disk" in done.out or "refused mem" in done.out or "refused loop" in done.out, done


def test_a_device_rule_of_the_specification_is_enough(box):
    seen, done = opened(box, [{"allow": False, "access": "rwm"},
                              {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"}])
    # Whether the kernel has a driver for it is another matter.
    assert "refused fuse" not in done.out and not seen & {"mem", "kmsg", "disk", "loop", "tun"}, done


def test_the_last_of_many_rules_decides(box):
    seen, done = opened(box, [{"allow": True, "access": "rwm"}, {"allow": False, "access": "rwm"}])
    assert not seen & {"mem", "kmsg", "disk", "loop", "tun", "fuse"}, done


def test_update_gives_no_device(box):
    """What `update` changes leaves the device rules as they were"""
    box.grant("CAP_MKNOD")
    box.start()
    assert box.runf("update", "--pids-limit", "50", box.id).code == 0
    done = box.exec("/bin/sh", "-c", "mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg | head -c 1")
    assert "not permitted" in done.err and done.out == "", done


def test_nothing_is_left_of_the_cgroup(box):
    box.start()
    assert box.runf("delete", "--force", box.id).code == 0
    for top in os.scandir("/sys/fs/cgroup"):
        assert not os.path.exists(f"{top.path}/{boxes.CGROUP_PARENT}/{box.id}")
