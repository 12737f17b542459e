"""A machine that is reset under twenty pods and starts again from its disk (`./dev vm reset`, reset.sh): fluyt from its package, on
systemd and cgroup v2. The reset comes from without, as a power cut: nothing in the machine is asked or told.
"""

import contextlib
import json
import os
import subprocess

import debian
import machine
import unit

LIMIT_S = 3600
CONFLIST = {
    "cniVersion": "1.0.0", "name": "vm",
    "plugins": [
        {"type": "bridge", "bridge": "fluytvm0", "isGateway": True, "ipMasq": True, "hairpinMode": True,
         "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.189.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
        {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
    ],
}


def disk():
    """A disk of its own, with a journal as a machine's has that may lose its power."""
    tree, version = machine.kernel()
    kept = machine.WORK + "/reset.img"
    subprocess.run(["cp", "--sparse=always", debian.image(tree, version), kept], check=True)
    subprocess.run(["tune2fs", "-O", "has_journal", kept], check=True, stdout=subprocess.DEVNULL)
    return kept


def run(_arguments):
    with open(os.path.join(machine.HERE, "reset.sh"), encoding="utf-8") as file:
        script = file.read()
    conflist = machine.WORK + "/reset.conflist"
    with open(conflist, "w", encoding="utf-8") as file:
        json.dump(CONFLIST, file)
    files = {**unit.files(), "net.conflist": conflist, "cni": "/usr/lib/cni"}
    kept = disk()
    try:
        with contextlib.closing(debian.run(files, script, limit_s=LIMIT_S, kept=kept)) as lines:
            for line in lines:
                yield line
                if line.startswith("== reset"):
                    break
            else:
                return
        yield from debian.run(files, script, limit_s=LIMIT_S, kept=kept)
    finally:
        os.remove(kept)
