"""Runs the tests and counts them: unit tests (one gtest program a module), then the attacks of tests/security and the
walks (pytest, against real programs, in a network namespace of their own). The last line is "N passed, N failed, N skipped"."""

import argparse
import glob
import json
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
import sanitizers  # noqa: E402  (found beside this file)

UNIT_LIMIT_S = 300
SLOWER = {"dev": 3, "mixed": 4, "tsan": 5}  # builds with sanitizers
WALK_LIMIT_S = 1500


class Count:
    def __init__(self):
        self.passed = self.failed = 0
        self.skipped = {}  # name: reason
        self.failures = []

    def fail(self, name):
        self.failed += 1
        self.failures.append(name)


def run_unit(program, words, count, limit_s):
    name = os.path.basename(program).removesuffix("_test")
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [program, f"--gtest_output=json:{report.name}", "--gtest_brief=1"]
        if words:
            command.append("--gtest_filter=" + ":".join(f"*{word}*" for word in words))
        began = time.monotonic()
        try:
            # Own network namespace: unit tests that touch the kernel's network touch only theirs.
            done = subprocess.run(["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command],
                                  check=False, timeout=limit_s, stdin=subprocess.DEVNULL)
            code = done.returncode
        except subprocess.TimeoutExpired:
            code = f"no end after {limit_s} s"
        try:
            suites = json.load(report)["testsuites"]
        except (json.JSONDecodeError, KeyError):
            suites = []
    passed = 0
    failed_before = count.failed
    for suite in suites:
        for test in suite["testsuite"]:
            full = f"{name}: {suite['name']}.{test['name']}"
            if test["result"] == "SKIPPED":
                count.skipped[full] = (test.get("skipped") or [{"message": ""}])[0]["message"].strip()
            elif test.get("failures"):
                count.fail(full)
            elif test["result"] == "COMPLETED":
                passed += 1
    count.passed += passed
    if code != 0 and count.failed == failed_before:
        count.fail(f"{name}: the program ended with {code}")
    print(f"unit {name}: {passed} passed, {count.failed - failed_before} failed ({time.monotonic() - began:.1f} s)",
          flush=True)


def run_pytest(folder, words, count, limit_s):
    """The tests of a folder, in namespaces of their own: loopback alone, and mounts that nobody else makes."""
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        command = ["unshare", "--net", *(["--mount"] if folder == "security" else []), "sh", "-c",
                   'ip link set lo up && exec "$@"', "sh", "/usr/bin/python3", "-m", "pytest", "-q", "-x" if os.environ.get("FLUYT_FAIL_FAST") else "-q",
                   "-p", "no:cacheprovider", "--tb=short", "--durations=8", f"--junitxml={report.name}",
                   os.path.join(ROOT, "tests", folder)]
        if words:
            command += ["-k", " or ".join(words)]
        try:
            code = subprocess.run(command, check=False, timeout=limit_s, stdin=subprocess.DEVNULL).returncode
        except subprocess.TimeoutExpired:
            code = f"no end after {limit_s} s"
        try:
            cases = list(xml.etree.ElementTree.parse(report.name).getroot().iter("testcase"))
        except xml.etree.ElementTree.ParseError:
            cases = []
    failed_before = count.failed
    for case in cases:
        name = f"{case.get('classname', '').split('.')[-1]}: {case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            count.fail(name)
        elif case.find("skipped") is not None:
            count.skipped[name] = case.find("skipped").get("message", "")
        else:
            count.passed += 1
    if code not in (0, 5) and count.failed == failed_before:
        count.fail(f"{folder}: pytest ended with {code}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--only", choices=("unit", "security", "walks"))
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    # A socket of systemd's or an odd umask must not decide what tests see.
    os.umask(0o022)
    os.environ.pop("NOTIFY_SOCKET", None)
    os.environ["FLUYT_BIN"] = os.path.join(ROOT, options.build, "bin")
    sanitizers.set_options(os.environ.get("FLUYT_REPORTS"))
    slower = SLOWER.get(os.path.basename(options.build), 1)
    count = Count()
    if options.only in (None, "unit"):
        for program in sorted(glob.glob(os.path.join(ROOT, options.build, "test", "*_test"))):
            run_unit(program, options.words, count, UNIT_LIMIT_S * slower)
    for folder in ("security", "walks"):
        if options.only in (None, folder):
            run_pytest(folder, options.words, count, WALK_LIMIT_S * slower)
    for name, reason in count.skipped.items():
        print(f"skipped {name}: {reason}")
    for name in count.failures:
        print(f"FAILED {name}")
    print(f"{count.passed} passed, {count.failed} failed, {len(count.skipped)} skipped")
    return 1 if count.failed or count.passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
