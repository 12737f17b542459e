"""Kills fluytd and monitors at random moments under a load of pods coming and going, with plugins that fail or hang and disks
that are full; after each round the engine's story and the kernel's must agree, and logs must be as they should.

`./dev chaos [N]` makes N rounds (500). Nothing in the engine is told that it is being tested."""

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cri as c  # noqa: E402  (found in tests/lib)
import harness  # noqa: E402
import host  # noqa: E402
import images  # noqa: E402
import load as loads  # noqa: E402  (found beside this file)
import story  # noqa: E402

SETTLE_S = 20  # for what goes on behind the calls: a lost sandbox's end, its DEL
PAUSE_S = 130  # the longest deadline of a call
WORKERS = 3

PLUGIN = """#!/usr/bin/python3 -IS
import json, os, sys, time
given = json.load(sys.stdin) if os.environ["CNI_COMMAND"] != "VERSION" else {"cniVersion": "1.0.0"}
if os.environ["CNI_COMMAND"] == "VERSION":
    print(json.dumps({"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}))
    sys.exit()
with open(given["modeFile"]) as file:
    mode = file.read()
if mode == "hang":
    time.sleep(3)
if mode == "fail":
    print(json.dumps({"cniVersion": given["cniVersion"], "code": 100, "msg": "chaos"}))
    sys.exit(1)
if os.environ["CNI_COMMAND"] == "ADD":
    print(json.dumps(given["prevResult"]))
"""


class Place:
    """An engine with a plugin of ours in its chain, and small disks, one each for its logs, its root and its state."""

    SIZES = {"logs": "256m", "root": "256m", "state": "32m"}

    def __init__(self, work):
        self.foreign = story.cgroups()
        self.mode_file = work + "/plugin-mode"
        self.plugin("pass")
        network = json.loads(json.dumps(harness.BRIDGE))
        network["plugins"].append({"type": "fluyt-chaos", "modeFile": self.mode_file})
        self.engine = harness.Engine(network=network)
        bins = work + "/cni"
        os.makedirs(bins)
        with open(bins + "/fluyt-chaos", "w", encoding="ascii") as file:
            file.write(PLUGIN)
        os.chmod(bins + "/fluyt-chaos", 0o755)
        self.engine.cni_bins = f"{bins}:/usr/lib/cni"
        self.logs = self.engine.folder + "/logs"
        for name, size in self.SIZES.items():
            os.makedirs(f"{self.engine.folder}/{name}", mode=0o711)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=711", name, f"{self.engine.folder}/{name}"], check=True)

    def plugin(self, mode):
        with open(self.mode_file + ".new", "w", encoding="ascii") as file:
            file.write(mode)
        os.rename(self.mode_file + ".new", self.mode_file)

    def fill(self, disk):
        with open(f"{self.engine.folder}/{disk}/filler", "ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(1 << 16)) == 1 << 16:
                pass

    def free(self):
        for name in self.SIZES:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.engine.folder}/{name}/filler")

    def close(self):
        self.engine.close()
        for name in self.SIZES:
            subprocess.run(["umount", "-l", f"{self.engine.folder}/{name}"], check=False)
        shutil.rmtree(self.engine.folder, ignore_errors=True)  # its logs were in the way


class Chaos:
    def __init__(self, place, image, rng):
        self.place, self.engine, self.rng = place, place.engine, rng
        self.counts = collections.Counter()
        self.problems = []
        self.client = loads.Client(self.engine, collections.Counter())
        self.client.wait_served()
        self.client.pull(image)
        self.load = loads.Load(self.engine, image, rng, WORKERS)
        self.hurt = set()  # names of containers whose monitor was killed or whose disk was full: lines may be missing
        self.hurt_by_disk = set()

    def round(self, number):
        victim = self.rng.choices(("fluytd", "monitor", "monitors", "fluytd and monitor"), (50, 30, 10, 10))[0]
        condition = self.rng.choices(("nothing", "plugin fails", "plugin hangs", "logs full", "root full", "state full"), (45, 20, 10, 15, 5, 5))[0]
        self.counts[victim] += 1
        self.counts[condition] += 1
        self.load.resume()
        if condition == "plugin fails":
            self.place.plugin("fail")
        elif condition == "plugin hangs":
            self.place.plugin("hang")
        elif condition.endswith(" full"):
            self.place.fill(condition.split()[0])
        time.sleep(self.rng.uniform(0.02, 1.2))
        if victim == "monitors":
            self.kill_monitors(3)
        elif "monitor" in victim:
            self.kill_monitors(1)
        if "fluytd" in victim:
            self.engine.kill()
            self.counts["SIGKILLs"] += 1
            time.sleep(self.rng.choice((0, 0, 0.3)))
            self.engine.start()
        time.sleep(self.rng.uniform(0, 0.4))
        self.place.plugin("pass")
        self.place.free()
        if condition == "logs full":  # listed after there is room again: a log may begin at the last moment before it
            self.hurt_by_disk |= {name for _, name in loads.logs(self.engine)}
            self.hurt |= self.hurt_by_disk
        began = time.monotonic()
        self.load.pause(PAUSE_S)
        self.counts["longest pause (s)"] = max(self.counts["longest pause (s)"], round(time.monotonic() - began, 1))
        self.compare(f"round {number} ({victim}, {condition})")

    def kill_monitors(self, most):
        running = list(host.monitors(self.engine.state).items())
        for sandbox, pid in self.rng.sample(running, min(most, len(running))):
            # Which containers these were is known by their names alone once they are gone.
            with contextlib.suppress(c.grpc.RpcError):
                listed = self.client.runtime.ListContainers(c.pb.ListContainersRequest(
                    filter=c.pb.ContainerFilter(pod_sandbox_id=sandbox)), timeout=10).containers
                self.hurt |= {one.metadata.name for one in listed}
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.counts["SIGKILLs"] += 1
            self.counts["monitors killed"] += 1

    def compare(self, what):
        self.client.wait_served()
        end = time.monotonic() + SETTLE_S
        while True:
            found = self.remove_ended() + story.differences(self.engine, self.client, self.place.foreign)
            if not found or time.monotonic() > end:
                break
            time.sleep(0.2)
        found += self.check_logs()
        for line in found:
            print(f"{what}: {line}", flush=True)
        self.problems += [f"{what}: {line}" for line in found]

    def remove_ended(self):
        """As the kubelet does it: what is not ready goes, now that nothing stands in the way."""
        found = []
        for sandbox in story.listed(self.client)[0]:
            if sandbox.state == c.pb.SANDBOX_READY:
                continue
            try:
                self.client.remove_sandbox(sandbox.id)
                self.counts["sandboxes that were not ready"] += 1
            except c.grpc.RpcError as error:
                found.append(f"sandbox {sandbox.id} cannot be removed: {error.details()}")
        return found

    def check_logs(self):
        """After the load has paused: nothing is written but by containers that run."""
        found = []
        _, containers = story.listed(self.client)
        known = {one.metadata.name: one for one in containers}
        for (kind, name), path in loads.logs(self.engine).items():
            one = known.get(name)
            running = one is not None and one.state == c.RUNNING
            # The last line of one that runs may be being written. On a full disk the kernel takes part of a line, and
            # the monitor begins a new one.
            if not (running and kind == "writer") and name not in self.hurt_by_disk:
                found += [f"{path}: {line!r}" for line in story.broken_lines(path)[:3]]
            if name not in self.hurt:
                wrong = story.missing_lines(path)
                found += [wrong] if wrong else []
                if one is not None and kind == "finisher" and one.state == c.EXITED:
                    status = self.client.status(one.id)
                    lines = story.count(path)
                    if status.exit_code == loads.FINISHER_CODE and lines != loads.FINISHER_LINES:
                        found.append(f"{path}: {lines} of {loads.FINISHER_LINES} lines of a container that ended by itself")
            self.counts["log files read"] += 1
            if one is None:
                os.unlink(path)
                with contextlib.suppress(OSError):
                    os.rmdir(os.path.dirname(path))
        return found

    def close(self):
        self.load.stop()
        self.client.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--json")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="fluyt-chaos-") as work:
        registry = harness.Registry(work + "/registry")
        place = Place(work)
        chaos = None
        try:
            images.push(harness.busybox_image(), registry.address, "chaos/busybox", "latest")
            place.engine.start()
            chaos = Chaos(place, registry.address + "/chaos/busybox:latest", rng)
            began = time.monotonic()
            for number in range(1, options.rounds + 1):
                chaos.round(number)
                if number % 10 == 0:
                    print(f"{number} rounds, {chaos.counts['SIGKILLs']} SIGKILLs, {len(chaos.problems)} problems, "
                          f"{time.monotonic() - began:.0f} s", flush=True)
        finally:
            if chaos is not None:
                chaos.close()
            if chaos is not None and chaos.problems:
                keep = os.path.join(tempfile.gettempdir(), "fluyt-chaos.log")
                subprocess.run(["cp", place.engine.log, keep], check=False)
                print(f"fluytd's log: {keep}", flush=True)
            place.close()
            registry.stop()
    calls = {f"{name} {code}": count for (name, code), count in sorted(chaos.load.ends.items())}
    report = {"seed": options.seed, "rounds": options.rounds, "counts": dict(chaos.counts), "calls": calls, "problems": chaos.problems}
    print(json.dumps(report, indent=1))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file)
    return 1 if chaos.problems else 0


if __name__ == "__main__":
    sys.exit(main())
