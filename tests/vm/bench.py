"""What a pod's calls take with systemd making the cgroups, and how much of it is systemd's (`./dev vm bench [ROUNDS]`, bench.sh): by what
`fluyt trace` tells of each call, beside the same with the other driver in the same machine.
"""

import glob
import json
import os
import shutil
import statistics
import sys

import debian
import machine
import unit

LIMIT_S = 3600
DBUS = "systemd (D-Bus)"
# No masquerading and no host port: User-mode Linux's nftables has neither, and both drivers would pay the same for them.
CONFLIST = {
    "cniVersion": "1.0.0", "name": "vm",
    "plugins": [{"type": "bridge", "bridge": "fluytvm0", "isGateway": True,
                 "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.189.0.0/16"}]]}}],
}
ROWS = [("RunPodSandbox",), ("CreateContainer", "StartContainer"), ("StopPodSandbox", "RemovePodSandbox")]


def run(arguments):
    """Yields the console's lines, and then the table."""
    if len(arguments) > 1 or not all(word.isdigit() and int(word) > 0 for word in arguments):
        sys.exit(f"bench: '{' '.join(arguments)}': expected how many pods")
    out = machine.WORK + "/bench"
    shutil.rmtree(out, ignore_errors=True)
    paths = {**unit.files(), "net.conflist": machine.WORK + "/bench.conflist"}
    with open(paths["net.conflist"], "w", encoding="utf-8") as file:
        json.dump(CONFLIST, file)
    with open(os.path.join(machine.HERE, "bench.sh"), encoding="utf-8") as file:
        script = file.read()
    yield from debian.run(paths, f"ROUNDS={(arguments or ['30'])[0]}\n" + script, out=out, limit_s=LIMIT_S)
    yield from table({driver: pods(f"{out}/{driver}") for driver in ("systemd", "cgroupfs")})


def pods(folder):
    """Of each pod {call: (milliseconds, those that it waited for systemd)}."""
    told = []
    for path in sorted(glob.glob(folder + "/*.json")):
        with open(path, encoding="utf-8") as file:
            walks = json.load(file)
        told.append({walk["verb"]: (int(walk["tookNs"]) / 1e6, sum(int(part["tookNs"]) for part in walk.get("parts", [])
                                                                   if part["name"] == DBUS) / 1e6) for walk in walks})
    return told


def table(measured):
    yield "== table"
    if not all(measured.values()):
        yield "nothing was measured"
        yield "== exit 1"
        return
    yield f"medians of {len(measured['systemd'])} pods with systemd and {len(measured['cgroupfs'])} with cgroupfs, as fluytd tells them"
    yield "| call | systemd ms | of it D-Bus ms | share | without D-Bus ms | cgroupfs ms |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for calls in ROWS:
        whole = [sum(pod[call][0] for call in calls) for pod in measured["systemd"]]
        dbus = [sum(pod[call][1] for call in calls) for pod in measured["systemd"]]
        other = [sum(pod[call][0] for call in calls) for pod in measured["cgroupfs"]]
        rest = [a - b for a, b in zip(whole, dbus)]
        share = statistics.median(b / a for a, b in zip(whole, dbus))
        yield (f"| {' + '.join(calls)} | {statistics.median(whole):.1f} | {statistics.median(dbus):.1f} | {share:.0%} | "
               f"{statistics.median(rest):.1f} | {statistics.median(other):.1f} |")
    # Each of the three asks systemd for something; with cgroupfs nothing does.
    silent = [" + ".join(calls) for calls in ROWS if any(sum(pod[call][1] for call in calls) <= 0 for pod in measured["systemd"])]
    loud = any(spent > 0 for pod in measured["cgroupfs"] for _, spent in pod.values())
    for what in silent:
        yield f"{what}: a pod whose trace tells no time of systemd's"
    if loud:
        yield "with cgroupfs a trace tells of systemd"
    yield f"== exit {1 if silent or loud else 0}"
