"""The demonstration: one image, one pod, one container, through every part of fluyt, on a private engine.

Runs in a network and mount namespace of its own (`./dev demo` makes them), with every file below one folder of
/tmp, and leaves nothing behind.
"""

import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import harness  # noqa: E402  (found beside this file)
import images  # noqa: E402

BOLD, DIM, RESET = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


class Story:
    def __init__(self):
        self.number = 0
        self.began = time.monotonic()

    def step(self, title):
        self.number += 1
        print(f"\n{BOLD}{self.number}. {title}{RESET}", flush=True)

    @staticmethod
    def took(began):
        print(f"{DIM}   ({(time.monotonic() - began) * 1000:.0f} ms){RESET}", flush=True)


def main():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    story = Story()
    engine = harness.Engine()
    registry = None

    def fluyt(*args, **options):
        print(f"{DIM}   $ fluyt {' '.join(args)}{RESET}", flush=True)
        began = time.monotonic()
        out = engine.fluyt(*args, **options).stdout
        for line in out.splitlines():
            print("   " + line)
        story.took(began)
        return out

    try:
        story.step("Make a small image from Debian's busybox-static and serve it from a registry on loopback")
        began = time.monotonic()
        registry = harness.Registry(engine.folder + "/registry")
        digest = images.push(harness.busybox_image(), registry.address, "demo/busybox", "latest")
        print(f"   {registry.address}/demo/busybox:latest  {digest[:19]}…")
        story.took(began)

        story.step("Start fluytd: a private root, state, socket and network below " + engine.folder)
        began = time.monotonic()
        engine.start()
        story.took(began)
        fluyt("version")

        name = registry.address + "/demo/busybox:latest"
        story.step("Pull it")
        fluyt("pull", name)
        fluyt("images")

        story.step("Run a pod with one container")
        script = "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.2; done"
        container = fluyt("run", "-d", "--name", "demo", name, "sh", "-c", script).strip().splitlines()[-1]

        story.step("Its log, through the monitor")
        time.sleep(0.7)
        fluyt("logs", "--tail", "3", container)

        story.step("A command inside it: its own processes, its own address")
        fluyt("exec", container, "sh", "-c", "ps; hostname; ip -4 addr show eth0 | grep inet")

        story.step("The tables")
        fluyt("pods")
        fluyt("ps")

        story.step("Kill fluytd with SIGKILL, start it again: the container has not noticed")
        before = engine.fluyt("exec", container, "cat", "/proc/1/stat").stdout.split()[21]
        engine.kill()
        time.sleep(0.5)
        began = time.monotonic()
        engine.start()
        story.took(began)
        fluyt("ps")
        after = engine.fluyt("exec", container, "cat", "/proc/1/stat").stdout.split()[21]
        if before != after:
            raise AssertionError(f"the container was restarted: start time {before}, now {after}")
        lines = [int(line.split()[-1]) for line in engine.fluyt("logs", container).stdout.splitlines()]
        if lines != list(range(1, len(lines) + 1)):
            raise AssertionError(f"lines are missing from the log: {lines}")
        print(f"   {len(lines)} lines in the log, none missing")

        story.step("Stop and remove everything")
        fluyt("stop", "-t", "1", container)
        fluyt("ps", "-a")
        pods = engine.fluyt("pods", "-q").stdout.split()
        fluyt("rm", "-f", *pods)
        fluyt("rmi", name)
        fluyt("pods")
        engine.stop()
        left = [path for path in (engine.state + "/sandboxes", engine.root + "/image/roots", engine.root + "/image/layers")
                if os.path.isdir(path) and os.listdir(path)]
        if left:
            raise AssertionError(f"left behind: {left}")
        print(f"\n{BOLD}Done in {time.monotonic() - story.began:.1f} s. Nothing is left behind.{RESET}")
    except Exception:
        with open(engine.log, encoding="utf-8", errors="replace") as file:
            sys.stderr.write("the last lines of fluytd's log:\n" + "".join(file.readlines()[-30:]))
        raise
    finally:
        engine.close()
        if registry is not None:
            registry.stop()
        shutil.rmtree(engine.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
