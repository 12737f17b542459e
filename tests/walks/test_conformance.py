"""`./dev conformance` on a suite of our own making: what it counts, tells apart and keeps."""

import os
import shutil
import subprocess
import sys

import harness
import pytest

sys.path.insert(0, harness.ROOT + "/tests/conformance")
import suites  # noqa: E402  (found there)
import table  # noqa: E402
import tap  # noqa: E402

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

OURS = """1..5
ok 1 state of one
not ok 2 exec | with a bar
# (in test file x.bats, line 3)
#   it said so
ok 3 checkpoint # skip no criu
ok 4 - twice # 0.012s
ok 5 - twice #SKIP not here # 0.100s
"""


def test_tap_is_read_as_the_suites_write_it():
    outcomes = tap.read(OURS)
    assert [(outcome.name, outcome.kind) for outcome in outcomes] == [
        ("state of one", "passed"), ("exec | with a bar", "failed"), ("checkpoint", "skipped"), ("twice", "passed"), ("twice (2)", "skipped")]
    assert outcomes[1].why == "(in test file x.bats, line 3) | it said so" and outcomes[2].why == "no criu" and outcomes[4].why == "not here"
    assert tap.planned(OURS) == 5 and tap.planned("ok 1 x") is None
    assert tap.read("Bail out!\nokay then\n") == []


def test_a_file_that_does_not_come_to_its_end_is_told():
    whole, two = tap.read(OURS), tap.read("ok 1 a\nok 2 b\n")
    assert suites.unfinished(whole, 5, 1) == whole and suites.unfinished([], 0, 0) == []
    for outcomes, planned, code, why in ((two, 5, 1, "exit 1 after 2 of 5 tests"), (two, None, "no end after 9 s", "no end after 9 s after 2 tests"),
                                         ([], None, 127, "exit 127 after 0 tests")):
        assert suites.unfinished(outcomes, planned, code)[-1] == tap.Outcome("(the file's end)", "failed", why)


def test_tables_have_the_form_of_the_documents():
    theirs = tap.read(OURS.replace("not ok 2", "ok 2").replace("ok 1", "not ok 1"))
    lines = table.by_file({"runf": {"state": tap.read(OURS)}, "runc": {"state": theirs}}, ["runf", "runc"])
    assert lines[0] == "| file | tests | ran | passed by runf | passed by runc |"
    assert "| state | 5 | 3 | 2 | 2 |" in lines and "| all | 5 | 3 | 2 | 2 |" in lines
    assert "| state | exec \\| with a bar | passes | (in test file x.bats, line 3) \\| it said so |" in lines
    assert "Passed by runf and not by runc: state: state of one." in lines
    programs = table.by_program({"runf": {"kill": [*theirs, tap.Outcome(table.EXIT, "passed")], "x": []}}, ["runf"])
    assert "| kill | fails, 2 of 3 |" in programs and "| x | not run |" in programs


CREATE = """#!/usr/bin/env bats
@test "its features are told" { run "$RUNC" features; [ "$status" -eq 0 ]; [[ "$output" == *ociVersionMin* ]]; }
@test "it is called as the suite calls it" { [ "$(basename "$RUNC")" = runc ]; }
@test "is not for us" { skip "no such thing"; }
@test "is wrong" { echo "because of this"; false; }
@test "its cgroup is a root" { ! grep -q conformance /proc/self/cgroup; }
"""


@pytest.mark.skipif(shutil.which("bats") is None or shutil.which("jq") is None, reason="needs bats and jq")
def test_a_suite_is_run_and_its_results_are_kept(tmp_path):
    copy = tmp_path / "copy"
    (copy / "tests/integration/testdata").mkdir(parents=True)
    (copy / "tests/integration/helpers.bash").write_text("")
    for name in ("busybox", "debian"):
        (copy / f"tests/integration/testdata/{name}-amd64.tar.xz").write_text("")
        (copy / f"tests/integration/testdata/{name}-arm64.tar.xz").write_text("")
    (copy / "tests/integration/create.bats").write_text(CREATE)
    (copy / "tests/integration/list.bats").write_text('@test "has nothing to do" { true; }\n')

    def run(*words, **more):
        environment = {**os.environ, "FLUYT_CONFORMANCE_FOLDER": str(tmp_path / "work"), "FLUYT_BIN": harness.BIN, **more}
        return subprocess.run([sys.executable, "-B", harness.ROOT + "/tests/conformance/run.py", *words], env=environment, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)

    done = run("bats", "--copy", str(copy), "--shard", "1/2")
    assert done.returncode == 1, done.stdout
    assert "| create | 5 | 4 | 3 |" in done.stdout and "| create | is wrong |" in done.stdout, done.stdout
    assert "| list |" not in done.stdout and "left behind" not in done.stdout, done.stdout
    done = run("bats", "--shard", "2/2", FLUYT_CONFORMANCE_BATS=str(copy))
    assert "| create | 5 | 4 | 3 |" in done.stdout and "| list | 1 | 1 | 1 |" in done.stdout and "| all | 6 | 5 | 4 |" in done.stdout, done.stdout
    report = run("bats", "--report", "--copy", str(copy))
    assert done.stdout.endswith(report.stdout)
    assert not (copy / "tests/cmd").exists()  # the copy stays as it was
    wrong = run("bats")
    assert wrong.returncode == 1 and "FLUYT_CONFORMANCE_BATS" in wrong.stdout
    wrong = run("crun", "--copy", str(copy))
    assert wrong.returncode == 1 and "no copy of this suite" in wrong.stdout
    wrong = run("bats", "nosuch", "--copy", str(copy))
    assert wrong.returncode == 1 and "bats has no nosuch" in wrong.stdout
