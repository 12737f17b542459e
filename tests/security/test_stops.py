"""The races without luck: runf is stopped at each of its calls that takes a path or moves a mount, the tree is exchanged,
and runf goes on. One container a stop. FLUYT_STOP_STEP says how many stops to go on by (1 in `./dev security`)."""

import os

import pytest

import box as boxes
import scenes

STEP = int(os.environ.get("FLUYT_STOP_STEP", "61"))


def run_stopped(box, scene, at, back):
    report = box.folder + "/report"
    done = box.runf(str(at), str(back), scene.one, scene.two, report, "--", boxes.RUNF, "--root", box.state, "run",
                    "--bundle", box.folder, box.id, program=boxes.STOPS)
    with open(report, encoding="ascii") as file:
        count, name = file.read().split()
    return done, int(count), name


@pytest.mark.parametrize("begin", ["folder", "link"])
@pytest.mark.parametrize("back", [0, 1])
@pytest.mark.parametrize("kind", scenes.KINDS)
def test_no_stop_reaches_the_host(any_box, moment, canary, kind, back, begin):
    """CVE-2021-30465, CVE-2024-45310, CVE-2025-31133, CVE-2025-52565, CVE-2025-52881, CVE-2026-41579"""
    box = any_box
    scene = scenes.Scene(box, kind, canary)
    box.save()
    _, last, _ = run_stopped(box, scene, 0, 0)
    box.runf("delete", "--force", box.id)
    at, tried, ran = 1 + STEP // 2, set(), 0
    # A refusal ends runf early: the longest run says how many stops there are.
    while at <= last:
        scene.settled()
        if begin == "link":
            exchange(scene)
        done, count, name = run_stopped(box, scene, at, back)
        box.runf("delete", "--force", box.id)
        last = max(last, count)
        tried.add(name)
        ran += done.code == 0
        scene.judge(done)
        at += STEP
    scene.settled()
    print(f"{kind}, {moment}, begins as a {begin}, back after {back}: {last} stops, one in {STEP}, {ran} ran; "
          f"at {', '.join(sorted(tried))}")
    assert last > 20, "runf was not stopped: this test would show nothing"


def exchange(scene):
    hold = scene.one + ".hold"
    os.rename(scene.one, hold)
    os.rename(scene.two, scene.one)
    os.rename(hold, scene.two)
