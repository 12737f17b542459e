"""Kills under a load of pods coming and going, in short (`./dev chaos` is the long form)."""

import json
import os
import subprocess
import sys

import harness

ROUNDS = 6


def test_the_two_stories_agree_after_kills(tmp_path):
    report = str(tmp_path / "report.json")
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-B",
               os.path.join(harness.ROOT, "tests", "chaos", "run.py"), "--rounds", str(ROUNDS), "--json", report]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-6000:]
    with open(report, encoding="utf-8") as file:
        got = json.load(file)
    assert got["counts"]["SIGKILLs"] >= ROUNDS // 2 and got["counts"]["log files read"] > 0
    assert got["calls"]["RunPodSandbox OK"] > 0 and got["calls"].get("RemovePodSandbox OK", 0) > 0
