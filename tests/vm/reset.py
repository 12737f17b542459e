"""A machine that is reset under twenty pods and starts again from its disk (`./dev vm reset`): fluyt from its package, on systemd and
cgroup v2, and who asks for the pods is crictl (reset.sh) or, with `./dev vm reset kubelet`, a kubelet (reset_kubelet.sh). The reset comes
from without, as a power cut: nothing in the machine is asked or told. The second boot's journal is left in build/vm/reset.
"""

import contextlib
import json
import os
import subprocess
import sys

import debian
import machine
import unit

sys.path.insert(0, os.path.join(machine.ROOT, "tests", "lib"))
import kubelet  # noqa: E402  (found there)

LIMIT_S = 3600
CONFLIST = {
    "cniVersion": "1.0.0", "name": "vm",
    "plugins": [
        {"type": "bridge", "bridge": "fluytvm0", "isGateway": True, "ipMasq": True, "hairpinMode": True,
         "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.189.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
        {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
    ],
}
# Of the cgroup driver it says nothing: the kubelet asks fluytd.
KUBELET = {**kubelet.STANDALONE, "staticPodPath": "/etc/kubernetes/manifests", "containerRuntimeEndpoint": "unix:///run/fluyt/fluyt.sock"}


def disk():
    """A disk of its own, with a journal as a machine's has that may lose its power."""
    tree, version = machine.kernel()
    kept = machine.WORK + "/reset.img"
    subprocess.run(["cp", "--sparse=always", debian.image(tree, version), kept], check=True)
    subprocess.run(["tune2fs", "-O", "has_journal", kept], check=True, stdout=subprocess.DEVNULL)
    return kept


def files(who):
    paths = {**unit.files(), "cni": "/usr/lib/cni"}
    for name, content in [("net.conflist", CONFLIST), ("kubelet.json", KUBELET)]:
        paths[name] = f"{machine.WORK}/reset-{name}"
        with open(paths[name], "w", encoding="utf-8") as file:
            json.dump(content, file)
    return {**paths, **({"kubelet": kubelet.PROGRAM} if who == "kubelet" else {})}


def run(arguments):
    who = arguments[0] if arguments else "crictl"
    if len(arguments) > 1 or who not in ("crictl", "kubelet"):
        sys.exit(f"reset: '{' '.join(arguments)}': expected nothing, crictl or kubelet")
    if who == "kubelet" and not os.path.exists(kubelet.PROGRAM):
        sys.exit("reset kubelet: build/tools/kubelet is not there: `./dev kubelet` builds it")
    name = "reset_kubelet.sh" if who == "kubelet" else "reset.sh"
    with open(os.path.join(machine.HERE, name), encoding="utf-8") as file:
        script = file.read()
    payload, kept = files(who), disk()
    try:
        with contextlib.closing(debian.run(payload, script, limit_s=LIMIT_S, kept=kept)) as lines:
            for line in lines:
                yield line
                if line.startswith("== reset"):
                    break
            else:
                return
        yield from debian.run(payload, script, out=machine.WORK + "/reset", limit_s=LIMIT_S, kept=kept)
    finally:
        os.remove(kept)
