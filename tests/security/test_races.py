"""Containers are made, started and removed while two threads exchange a folder of theirs with a link, at every phase.
FLUYT_RACES says how many a scene (a few in `./dev test`; 10,000 in `./dev security`)."""

import os
import signal
import subprocess

import pytest

import box as boxes
import scenes

ROUNDS = int(os.environ.get("FLUYT_RACES", "12"))


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_no_race_reaches_the_host(any_box, moment, canary, kind):
    """CVE-2021-30465, CVE-2024-45310, CVE-2025-31133, CVE-2025-52565, CVE-2025-52881, CVE-2026-41579"""
    box = any_box
    scene = scenes.Scene(box, kind, canary)
    box.save()
    racer = subprocess.Popen([boxes.HOSTILE, "race", scene.one, scene.two], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             text=True, preexec_fn=lambda: os.nice(5))
    ran = 0
    try:
        for _ in range((ROUNDS + 1) // 2):
            done = box.runf("run", "--bundle", box.folder, box.id)
            ran += done.code == 0
            scene.judge(done)
            box.runf("delete", "--force", box.id) if done.code != 0 else None
    finally:
        swaps, _ = racer.communicate(timeout=10)
        if racer.poll() is None:
            racer.send_signal(signal.SIGKILL)
        scene.settled()
    print(f"{kind}, {moment}: {(ROUNDS + 1) // 2} containers, {ran} of them ran, {swaps.strip()}")
    assert int(swaps.split()[0]) > 0, "nothing was exchanged"
