"""A Debian whose SELinux is enforcing, with a small policy of our own (selinux.cil): what labels pods, their files and their volumes have,
and what they keep apart (selinux.sh; arguments are its parts). `./dev vm selinux critest [ARG...]` runs the official suite's specs of SELinux
there, which it has on such a host alone.
"""

import os
import subprocess
import tempfile

import critest
import debian
import machine
import unit

LIMIT_S = 3600
CATEGORIES = [f"c{number}" for number in range(1024)]
CONFIG = b"SELINUX=enforcing\nSELINUXTYPE=vm\n"
CONTEXTS = b"""process = "system_u:system_r:container_t:s0"
file = "system_u:object_r:container_file_t:s0"
"""
FILE_CONTEXTS = b"""/.* system_u:object_r:host_file_t:s0
/dev/null system_u:object_r:shown_t:s0
"""
DBUS_CONTEXTS = b"""<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><selinux></selinux></busconfig>
"""


def policy():
    """The policy as the kernel takes it."""
    with open(os.path.join(machine.HERE, "selinux.cil"), encoding="ascii") as file:
        text = file.read()
    categories = "\n".join(f"(category {name})" for name in CATEGORIES) + f"\n(categoryorder ({' '.join(CATEGORIES)}))"
    with tempfile.TemporaryDirectory(prefix="policy-", dir=machine.WORK) as folder:
        debian.write(folder + "/policy.cil", text.replace("CATEGORIES\n", categories + "\n", 1))
        command = ["secilc", "--mls=true", "--policyvers=33", f"--output={folder}/policy", f"--filecontext={folder}/contexts",
                   folder + "/policy.cil"]
        subprocess.run(command, check=True)
        with open(folder + "/policy", "rb") as file:
            return file.read()


def boot():
    """What debian.run() is to be told: systemd loads the policy before anything else."""
    policies = "etc/selinux/vm"
    return {"append": "security=selinux",
            "early": {"etc/selinux/config": CONFIG, policies + "/policy/policy.33": policy(),
                      policies + "/contexts/lxc_contexts": CONTEXTS, policies + "/contexts/files/file_contexts": FILE_CONTEXTS,
                      policies + "/contexts/dbus_contexts": DBUS_CONTEXTS}}


def run(arguments):
    os.makedirs(machine.WORK, exist_ok=True)
    if arguments[:1] == ["critest"]:
        yield from critest.run(["-ginkgo.focus=SELinux", *arguments[1:]], **boot())
        return
    with open(os.path.join(machine.HERE, "selinux.sh"), encoding="utf-8") as file:
        script = f"PARTS='{' '.join(arguments)}'\n" + file.read()
    yield from debian.run(unit.files(("first",)), script, limit_s=LIMIT_S, **boot())
