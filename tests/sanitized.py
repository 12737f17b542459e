"""Runs the walks, or the official CRI suite, with the programs of build/dev (AddressSanitizer, LeakSanitizer, UBSan) beside what only
build/release has. Every report is printed and fails the run, whatever the tests themselves say."""

import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
import sanitizers  # noqa: E402  (found beside this file)

MIXED = "build/dev/mixed"  # from ROOT; its bin/ has the programs
PATIENCE = 4  # how much longer than usual an answer may take
WALKS = ["/usr/bin/python3", "tests/run.py", "--build", MIXED, "--only", "walks"]
CRITEST = ["unshare", "--net", "--mount", "/usr/bin/python3", "tests/critest/run.py"]


def main():
    suite, words = sys.argv[1], sys.argv[2:]
    command = {"walks": WALKS, "critest": CRITEST}[suite]
    os.chdir(ROOT)
    sanitizers.mix("build/dev", "build/release", MIXED + "/bin")
    reports = os.path.join(ROOT, "build", "dev", "reports")
    shutil.rmtree(reports, ignore_errors=True)
    os.makedirs(reports)
    os.environ["FLUYT_BIN"] = os.path.join(ROOT, MIXED, "bin")
    os.environ["FLUYT_REPORTS"] = reports
    os.environ["FLUYT_PATIENCE"] = str(PATIENCE)
    sanitizers.set_options(reports)
    code = subprocess.run([*command, *words], check=False).returncode
    found = sanitizers.read_reports(reports)
    for name, text in found.items():
        print(f"--- {name}\n{text}", flush=True)
    print(f"sanitizers: {len(found)} reports")
    return 1 if found else code


if __name__ == "__main__":
    sys.exit(main())
