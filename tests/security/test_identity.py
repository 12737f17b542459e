"""Who a process in a container is: ids as they were written, groups, and no capability that was not asked for."""

import os
import shutil
import struct

import pytest

import box as boxes

NET_RAW = 1 << 13
_CAPS = "grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|Groups|Uid|Gid):' /proc/self/status"


def status(text):
    return {line.split(":")[0]: line.split(":")[1].split() for line in text.splitlines() if ":" in line}


@pytest.mark.parametrize("text, expected", [
    ("1", ("1", None)),
    ("1:2", ("1", "2")),
    ("01", ("1", None)),
    ("010:0020", ("10", "20")),
    ("1000:1000", ("1000", "1000")),
    ("2147483646", ("2147483646", None)),
])
def test_exec_user_is_what_was_written(box, text, expected):
    """CVE-2026-30892: "1" is uid 1"""
    box.start()
    done = box.exec("/bin/sh", "-c", _CAPS, flags=("-u", text))
    assert done.code == 0, done
    seen = status(done.out)
    assert seen["Uid"] == [expected[0]] * 4, done
    if expected[1] is not None:
        assert seen["Gid"] == [expected[1]] * 4, done


@pytest.mark.parametrize("text", ["", ":", ":2", "1:", "1x", "x1", " 1", "1 ", "+1", "-1", "0x1", "1:2:3",
                                  "1,2", "1.0", "4294967296", "4294967295", "2147483648", "18446744073709551616",
                                  "1:4294967296", "root", "1\n"])
def test_exec_user_that_is_no_number_is_refused(box, text):
    """CVE-2026-30892, CVE-2024-40635: nothing is guessed, cut or wrapped"""
    box.start()
    done = box.exec("/bin/id", "-u", flags=("-u", text))
    assert done.code == 255 and done.out == "", done
    assert "--user" in done.err, done


def test_a_number_is_never_looked_up_as_a_name(box):
    """CVE-2016-3697"""
    box.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\n1000:x:0:0::/root:/bin/sh\n")
    box.write("/etc/group", "root:x:0:\n1000:x:0:\n")
    box.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [1000]}
    done = box.shell(_CAPS)
    seen = status(done.out)
    assert seen["Uid"] == ["1000"] * 4 and seen["Gid"] == ["1000"] * 4 and seen["Groups"] == ["1000"], done
    box.start()
    done = box.exec("/bin/sh", "-c", _CAPS, flags=("-u", "1000:1000", "-g", "1000"))
    seen = status(done.out)
    assert seen["Uid"] == ["1000"] * 4 and seen["Gid"] == ["1000"] * 4 and "0" not in seen["Groups"], done


def test_the_groups_are_those_that_were_asked_for(box):
    """CVE-2023-25173's class: a file that shuts a group out shuts out its members by primary group too, where the engine names
    that among the others, as ours does; and no group of the caller's comes along"""
    box.write("/secret", "secret", mode=0o604)
    os.chown(box.rootfs + "/secret", 0, 4321)
    box.process["user"] = {"uid": 1000, "gid": 4321, "additionalGids": [7, 4321]}
    done = box.shell("cat /secret; " + _CAPS)
    assert "secret\n" not in done.out and sorted(status(done.out)["Groups"]) == ["4321", "7"], done
    box.process["user"] = {"uid": 1000, "gid": 1000}
    done = box.shell(_CAPS)
    assert status(done.out)["Groups"] == [], done


def file_capability(path, inheritable):
    """A file that adds nothing of its own: its inheritable set meets the process's."""
    revision = 0x02000000 | 1  # VFS_CAP_REVISION_2, effective
    os.setxattr(path, "security.capability", struct.pack("<5I", revision, 0, inheritable, 0, 0))


def run_inheriting(box, *words):
    """runf by a caller whose own inheritable set is not empty."""
    tool = shutil.which("setpriv")
    if tool is None:
        pytest.skip("setpriv: not found")
    return box.runf("--inh-caps=+net_raw,+chown,+setuid", boxes.RUNF, "--root", box.state, *words, program=tool)


@pytest.mark.parametrize("user", [0, 1000])
def test_nothing_is_inheritable_that_was_not_asked_for(box, user):
    """CVE-2022-24769, CVE-2022-29162, CVE-2025-27612, and a caller that has some"""
    box.grant("CAP_NET_RAW", "CAP_CHOWN")
    box.process["user"] = {"uid": user, "gid": user}
    box.process["noNewPrivileges"] = False
    os.mkdir(box.rootfs + "/gifted")
    shutil.copy(box.rootfs + "/bin/busybox", box.rootfs + "/gifted/grep")
    file_capability(box.rootfs + "/gifted/grep", NET_RAW)
    script = f"{_CAPS}; /gifted/grep CapEff: /proc/self/status"
    box.save(["/bin/sh", "-c", script])
    init = run_inheriting(box, "run", "--bundle", box.folder, box.id)
    box.runf("delete", "--force", box.id)
    box.start()
    execed = run_inheriting(box, "exec", "--cap", "CAP_NET_RAW", box.id, "/bin/sh", "-c", script)
    for done in (init, execed):
        assert done.code == 0, done
        lines = done.out.splitlines()
        seen = status("\n".join(lines[:-1]))
        assert int(seen["CapInh"][0], 16) == 0 and int(seen["CapAmb"][0], 16) == 0, done
        if user != 0:
            assert int(lines[-1].split()[1], 16) & NET_RAW == 0, done


def test_exec_cap_adds_nothing_inheritable_to_what_is_ambient(box):
    """CVE-2022-29162: exec --cap in a container without ambient capabilities"""
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.start()
    done = box.exec("/bin/sh", "-c", _CAPS, flags=("--cap", "CAP_NET_RAW"))
    seen = status(done.out)
    assert int(seen["CapInh"][0], 16) == 0 and int(seen["CapAmb"][0], 16) == 0, done


def test_no_capability_but_those_asked_for(box):
    """Without a list there is none, and the bounding set is the list"""
    del box.process["capabilities"]
    seen = status(box.shell(_CAPS).out)
    assert all(int(seen[name][0], 16) == 0 for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")), seen


@pytest.mark.parametrize("count", [341, 5000])
def test_a_mapping_of_any_length_is_refused_or_whole(box, count):
    """CVE-2021-43784: a list whose length overflowed what carried it (5,000 entries are 70 KB of text)"""
    box.namespace("user")
    box.linux["uidMappings"] = [{"containerID": n, "hostID": 100000 + n, "size": 1} for n in range(count)]
    box.linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    done = box.shell("cat /proc/self/uid_map")
    assert done.code != 0 and f"linux.uidMappings: {count} mappings" in done.err, done
    listed = box.runf("list", "-q")
    assert box.id not in listed.out, listed


def test_a_long_mapping_is_whole(box):
    box.namespace("user")
    box.linux["uidMappings"] = [{"containerID": n, "hostID": 100000 + n, "size": 1} for n in range(200)]
    box.linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    for top, folders, files in os.walk(box.rootfs):
        for name in (*folders, *files, "."):
            os.lchown(os.path.join(top, name), 100000, 100000)
    done = box.shell("cat /proc/self/uid_map")
    assert done.code == 0 and len(done.out.splitlines()) == 200, done
