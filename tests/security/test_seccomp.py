"""A profile holds whichever way a call is made."""

import errno

import pytest

AF_VSOCK, AF_ALG, AF_UNIX = 40, 38, 1


def profile(*rules, default="SCMP_ACT_ALLOW"):
    return {"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": list(rules)}


def socketcall(box, family):
    done = box.run("/bin/hostile", "socketcall", str(family))
    if done.code != 0:
        pytest.skip(f"the kernel takes no 32-bit calls: {done}")
    return int(done.out)


@pytest.mark.parametrize("family", [AF_ALG, AF_VSOCK])
def test_socketcall_is_no_way_round_a_rule(box, family):
    """CVE-2026-31431's way in: socket(AF_ALG) through int 0x80 and socketcall"""
    assert socketcall(box, AF_UNIX) >= 0
    box.linux["seccomp"] = profile({"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EAFNOSUPPORT,
                                    "args": [{"index": 0, "value": family, "op": "SCMP_CMP_EQ"}]})
    assert socketcall(box, family) == -errno.EAFNOSUPPORT


def test_an_exec_has_the_containers_profile(box):
    box.linux["seccomp"] = profile({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EXDEV})
    box.start()
    done = box.exec("/bin/mkdir", "/tmp/made")
    assert done.code != 0 and "ross-device" in done.err, done


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_the_profile_is_there_before_the_program(box, no_new_privileges):
    """Also without no_new_privs, where it has to be loaded before the capabilities go"""
    box.process["noNewPrivileges"] = no_new_privileges
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.linux["seccomp"] = profile({"names": ["unlink"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1})
    done = box.shell("grep Seccomp: /proc/self/status")
    assert done.out.split() == ["Seccomp:", "2"], done
