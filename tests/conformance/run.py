"""Other people's test suites against runf: `./dev conformance bats|crun|runtime-tools|all [OPTION...]`.

The suites are not here and are not fetched: --copy DIR, or FLUYT_CONFORMANCE_BATS (runc's repository), FLUYT_CONFORMANCE_CRUN and
FLUYT_CONFORMANCE_RUNTIME_TOOLS, name copies of them. What they build is built in a copy of that copy, below build/conformance.
The tests run as root in namespaces and cgroups of their own, with a limit on processes and memory; what is left behind is told.
--peer PROGRAM runs each file with that runtime too, right after runf. --shard I/N takes every Nth file; results are kept, and
--report prints the table of all that were run with the same copy and the same programs.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "tests", "lib")]
import suites  # noqa: E402  (found beside this file)
import tap  # noqa: E402
from cgroups import hierarchies, limit, make_cgroups, remove_cgroups  # noqa: E402

WORK = os.environ.get("FLUYT_CONFORMANCE_FOLDER", ROOT + "/build/conformance")
RUNF = os.path.join(os.environ.get("FLUYT_BIN", ROOT + "/build/release/bin"), "runf")


def arguments():
    parser = argparse.ArgumentParser(prog="./dev conformance", description=__doc__.splitlines()[0])
    parser.add_argument("suite", choices=[*suites.ALL, "all"])
    parser.add_argument("files", nargs="*", help="the files to run (all)")
    parser.add_argument("--copy", help="where a fetched copy of the suite is (with one suite)")
    parser.add_argument("--runtime", default=RUNF, help="in runf's place")
    parser.add_argument("--peer", help="a runtime to compare with")
    parser.add_argument("--shard", default="1/1", help="I/N: every Nth file, from the Ith on")
    parser.add_argument("-k", dest="words", default="", help="which tests of a file, as the suite itself takes it (bats -f, RUN_TESTS)")
    parser.add_argument("--pids", type=int, default=1024, help="at most so many processes")
    parser.add_argument("--memory", type=int, default=2048, help="at most so many MiB")
    parser.add_argument("--report", action="store_true", help="run nothing, print what was kept")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    return parser.parse_args()


def source_of(name, options):
    variable = "FLUYT_CONFORMANCE_" + name.upper().replace("-", "_")
    source = options.copy or os.environ.get(variable)
    if not source:
        sys.exit(f"conformance: {name}: --copy or {variable} must name a fetched copy of the suite")
    if not os.path.exists(os.path.join(source, suites.ALL[name].marker)):
        sys.exit(f"conformance: {name}: {source}: {suites.ALL[name].marker} is not there: no copy of this suite")
    return os.path.abspath(source)


def working_copy(name, source):
    """A copy to build in. Made anew when `source` is another one than last time."""
    work = f"{WORK}/{name}"
    mark = work + ".source"
    if os.path.isdir(work) and os.path.exists(mark):
        with open(mark, encoding="utf-8") as file:
            if file.read() == source:
                return work
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(WORK, exist_ok=True)
    shutil.copytree(source, work, symlinks=True)
    with open(mark, "w", encoding="utf-8") as file:
        file.write(source)
    return work


def enter():
    """In the new namespaces: cgroups are mounted anew, so that ours are their roots."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    for place, options in hierarchies().items():
        kind = ["-t", "cgroup2", "cgroup2"] if options is None else ["-t", "cgroup", "-o", options, "cgroup"]
        subprocess.run(["umount", "--lazy", place], check=True)  # the kernel mounts none of them twice in one place
        subprocess.run(["mount", *kind, place], check=True)


def be_init():
    """Process 1 of the namespace takes in every orphan: returns in a child of it, whose end is the end of all."""
    child = os.fork()
    while child:
        ended, status = os.wait()
        if ended == child:
            os._exit(os.waitstatus_to_exitcode(status) & 255)


def inside(options):
    """One file with one runtime; its outcomes go to standard output."""
    be_init()
    enter()
    suite = suites.ALL[options.suite](options.copy)
    outcomes = suite.run(options.inside, options.runtime, options.words)
    json.dump([[outcome.name, outcome.kind, outcome.why] for outcome in outcomes], sys.stdout)
    return 0


def run_file(name, work, file, runtime, options):
    cgroups = f"fluyt-conformance-{os.getpid()}"

    def before():
        make_cgroups(cgroups)
        limit(cgroups, options.pids, options.memory << 20)

    command = ["unshare", "--mount", "--net", "--ipc", "--uts", "--cgroup", "--pid", "--fork", "--kill-child", "--mount-proc",
               sys.executable, "-B", os.path.abspath(__file__), name, "--inside", file, "--copy", work, "--runtime", runtime,
               "-k", options.words]
    process = subprocess.Popen(command, preexec_fn=before, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = process.communicate()
    finally:
        process.kill()  # and with it the namespace's first process, hence all
        process.wait()
        for line in remove_cgroups(cgroups):
            print(f"{file}: left behind: {line}", flush=True)
    try:
        return [tap.Outcome(*fields) for fields in json.loads(out)]
    except json.JSONDecodeError:
        said = err.strip().splitlines()[-1:] or [""]
        return [tap.Outcome("(the file's end)", "failed", f"exit {process.returncode}: {said[0]}")]


def shown_name(runtime):
    """runf, or a program's name with its version."""
    said = subprocess.run([runtime, "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout
    return " ".join(said.splitlines()[0].replace("version", "").split()) if said.strip() else os.path.basename(runtime)


class Kept:
    """Results over several sittings, by suite, source, runtime and file."""

    def __init__(self, name, source):
        self.path = f"{WORK}/{name}.json"
        self.source = source
        self.all = {}
        if os.path.exists(self.path):
            with open(self.path, encoding="utf-8") as file:
                kept = json.load(file)
            if kept["source"] == source:
                self.all = kept["results"]

    def put(self, runtime, file, outcomes):
        self.all.setdefault(runtime, {})[file] = [[outcome.name, outcome.kind, outcome.why] for outcome in outcomes]
        with open(self.path + ".new", "w", encoding="utf-8") as out:
            json.dump({"source": self.source, "results": self.all}, out)
        os.rename(self.path + ".new", self.path)

    def of(self, runtimes, files):
        return {runtime: {file: [tap.Outcome(*fields) for fields in outcomes] for file, outcomes in self.all.get(runtime, {}).items()
                          if file in files} for runtime in runtimes}


def run_suite(name, options):
    source = source_of(name, options)
    work = working_copy(name, source)
    suite = suites.ALL[name](work)
    programs = {shown_name(program): os.path.abspath(program) for program in (options.runtime, options.peer) if program}
    kept = Kept(name, source)
    files = suite.files()
    unknown = set(options.files) - set(files)
    if unknown:
        sys.exit(f"conformance: {name} has no {', '.join(sorted(unknown))}; it has {', '.join(files)}")
    chosen = options.files or files
    if not options.report:
        print(f"{name}: building what the suite needs", flush=True)
        try:
            suite.prepare()
        except (OSError, RuntimeError) as why:
            sys.exit(f"conformance: {name}: {why}")
        at, of = (int(number) for number in options.shard.split("/"))
        for file in chosen[at - 1::of]:
            for runtime, program in programs.items():
                began = time.monotonic()
                outcomes = run_file(name, work, file, program, options)
                kept.put(runtime, file, outcomes)
                counts = {kind: sum(outcome.kind == kind for outcome in outcomes) for kind in ("passed", "skipped", "failed")}
                print(f"{name} {file}, {runtime}: " + ", ".join(f"{number} {kind}" for kind, number in counts.items() if number) +
                      f" ({time.monotonic() - began:.0f} s)", flush=True)
    results = kept.of(programs, chosen)
    first = next(iter(programs))
    print("\n" + "\n".join(suite.render(results, list(programs))))
    return any(outcome.kind == "failed" for outcomes in results[first].values() for outcome in outcomes)


def main():
    options = arguments()
    if options.inside:
        return inside(options)
    if os.getuid() != 0:
        sys.exit("conformance: this takes root")
    if options.suite == "all" and (options.copy or options.files):
        sys.exit("conformance: --copy and files go with one suite")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs is ended and cleaned up after
    failed = [run_suite(name, options) for name in (suites.ALL if options.suite == "all" else [options.suite])]
    return 1 if any(failed) else 0


if __name__ == "__main__":
    sys.exit(main())
