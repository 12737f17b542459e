"""What builds with sanitizers need: what their runtimes are told, which programs go together, and the reports that they leave."""

import glob
import os
import re
import shutil

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LISTS = os.path.join(ROOT, "tests", "sanitizers")
# The rest stays as it is shipped: fluyt-pod-init has no C library.
SANITIZED = ("fluytd", "fluyt", "fluyt-unpack", "fluyt-monitor", "runf")


def set_options(reports=None):
    """In the environment, for whatever is started. A report ends the program, or is its exit status. `reports`: the folder that reports
    go to, a file a process; None: standard error."""
    where = f":log_path={reports}/report:log_exe_name=1" if reports else ""
    os.environ["ASAN_OPTIONS"] = "detect_stack_use_after_return=1" + where
    os.environ["UBSAN_OPTIONS"] = "print_stacktrace=1:halt_on_error=1" + where
    os.environ["LSAN_OPTIONS"] = f"suppressions={LISTS}/leak.supp:print_suppressions=0"
    os.environ["TSAN_OPTIONS"] = f"suppressions={LISTS}/thread.supp:print_suppressions=0:second_deadlock_stack=1" + where


def mix(sanitized, release, folder):
    """The programs of the build `release` in `folder`, those of SANITIZED from the build `sanitized`. Each finds the others beside it:
    hard links, whose own path is this one."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    for program in sorted(glob.glob(release + "/bin/*")):
        name = os.path.basename(program)
        os.link(f"{sanitized}/bin/{name}" if name in SANITIZED else program, f"{folder}/{name}")


def read_reports(folder):
    """{file name: text}. What is no report: a warning that a child on a stack of its own in fluytd's memory, which starts a monitor, ends
    without returning."""
    texts = {}
    for path in sorted(glob.glob(folder + "/report*")):
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
        if re.search(r"ERROR: |runtime error: |WARNING: ThreadSanitizer", text):
            texts[os.path.basename(path)] = text
    return texts
