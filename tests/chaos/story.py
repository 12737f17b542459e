"""The engine's story and the kernel's, side by side: where they differ, one line each."""

import glob
import json
import os
import re
import subprocess
import sys

import cri as c
import harness
import host

ID = re.compile(r"[0-9a-f]{64}")
ADDRESS = re.compile(r"\b10\.187\.\d+\.\d+\b")


def listed(client):
    sandboxes = client.runtime.ListPodSandbox(c.pb.ListPodSandboxRequest(), timeout=30).items
    containers = client.runtime.ListContainers(c.pb.ListContainersRequest(), timeout=30).containers
    return sandboxes, containers


def with_processes():
    """Ids in the cgroup paths of processes that live."""
    found = {}
    for process in host.processes():
        if process.state in "ZX":
            continue
        try:
            with open(f"/proc/{process.pid}/cgroup", encoding="utf-8") as file:
                for name in ID.findall(file.read()):
                    found.setdefault(name, []).append(f"{process.pid} ({process.name})")
        except OSError:
            pass
    return found


def cgroups():
    return {name for top in harness.cgroup_tops() for parent in ("fluyt", "fluyt-monitors")
            for path in glob.glob(f"{top}/{parent}/*") for name in ID.findall(path)}


def mounts(engine):
    with open("/proc/self/mounts", encoding="utf-8") as file:
        points = [line.split()[1] for line in file]
    return {point.removeprefix(engine.state + "/sandboxes/") for point in points if point.startswith(engine.state + "/sandboxes/")}


def links(*where):
    done = subprocess.run([*where, "ip", "-j", "link"], check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(done.stdout or "[]")


def peer_of(engine, sandbox):
    """The index of the host's end of a sandbox's interface, or nothing."""
    path = f"{engine.state}/sandboxes/{sandbox}/monitor/ns/net"
    found = [link for link in links("nsenter", "--net=" + path) if link["ifname"] == "eth0"]
    return found[0].get("link_index") if found else None


def leases(engine):
    return {name.split("/")[-1] for name in glob.glob(engine.folder + "/leases/*/*") if name.split("/")[-1][0].isdigit()}


def addresses_in_rules():
    rules = subprocess.run(["nft", "list", "ruleset"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return {found for found in ADDRESS.findall(rules) if not found.endswith(".0.0") and not found.endswith(".0.1")}


def differences(engine, client, foreign):
    """`foreign`: cgroups that were there before the engine was."""
    out = []
    sandboxes, containers = listed(client)
    ready = {sandbox.id for sandbox in sandboxes if sandbox.state == c.pb.SANDBOX_READY}
    monitors = host.monitors(engine.state)
    out += [f"sandbox {name} is ready and has no monitor" for name in ready - monitors.keys()]
    out += [f"monitor {monitors[name]} of {name}, which is not ready" for name in monitors.keys() - ready]

    alive = {one.id for one in containers if one.state in (c.RUNNING, c.CREATED)}
    out += [f"container {one.id} lives in sandbox {one.pod_sandbox_id}, which is not ready"
            for one in containers if one.id in alive and one.pod_sandbox_id not in ready]
    processes = with_processes()
    out += [f"container {name} is said to live and has no process" for name in alive - processes.keys()]
    out += [f"processes {', '.join(processes[name])} in a cgroup of {name}, which is not there"
            for name in processes.keys() - alive - ready]
    kept = ready | {one.id for one in containers if one.pod_sandbox_id in ready}
    out += [f"a cgroup of {name}, which is not there" for name in cgroups() - kept - foreign]

    points = mounts(engine)
    out += [f"mount {point} of a sandbox that is not ready" for point in points if point.split("/")[0] not in ready]
    out += [f"sandbox {name} has no network namespace mounted" for name in ready if f"{name}/monitor/ns/net" not in points]
    folders = set(os.listdir(engine.state + "/sandboxes"))
    out += [f"folder of sandbox {name}, which is not ready" for name in folders - ready]

    ips, peers = {}, {}
    for name in ready:
        status = client.runtime.PodSandboxStatus(c.pb.PodSandboxStatusRequest(pod_sandbox_id=name), timeout=30).status
        out += [f"sandboxes {name} and {ips[status.network.ip]} both have {status.network.ip}"] if status.network.ip in ips else []
        ips[status.network.ip] = name
        peers[peer_of(engine, name)] = name
    out += [f"sandbox {peers[None]} has no interface"] if None in peers else []
    veths = {link["ifindex"]: link["ifname"] for link in links() if link["ifname"].startswith("veth")}
    out += [f"{veths[index]} is of no ready sandbox" for index in veths.keys() - peers.keys()]
    out += [f"sandbox {peers[index]} has an interface whose other end is gone" for index in peers.keys() - veths.keys() - {None}]
    out += [f"lease {ip} of no ready sandbox" for ip in leases(engine) - ips.keys()]
    out += [f"sandbox {ips[ip]} has the address {ip} without a lease" for ip in ips.keys() - leases(engine)]
    out += [f"a rule with {ip}, which no ready sandbox has" for ip in addresses_in_rules() - ips.keys()]
    doctor = engine.fluyt("doctor", check=False)
    if doctor.returncode != 0:
        out += ["doctor: " + line for line in (doctor.stdout + doctor.stderr).splitlines()]
    return out


LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) [FP] .*")


def broken_lines(path):
    """Of a log file, lines that are no whole lines of CRI's format."""
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    lines = text.split("\n")
    end = lines.pop()
    return [line for line in [*lines, *([end] if end else [])] if not LINE.fullmatch(line)] + ([f"no end of line after {end!r}"] if end else [])


def missing_lines(path):
    """What is wrong with the numbers of `line N` in a log; nothing when they count from 1 without a gap."""
    with open(path, encoding="utf-8") as file:
        numbers = [int(line.split("line ")[1]) for line in file if " F line " in line]
    for place, number in enumerate(numbers, 1):
        if number != place:
            return f"{path}: line {place} is number {number}"
    return None


def count(path):
    with open(path, encoding="utf-8") as file:
        return sum(" F line " in line for line in file)


if __name__ == "__main__":
    sys.exit("part of tests/chaos/run.py")
