"""Formatting, headers that compile alone, and clang-tidy 19 with warnings as errors."""

import concurrent.futures
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build", "release")


def run(*command, **options):
    print("+", *command[:8], "..." if len(command) > 8 else "", file=sys.stderr, flush=True)
    return subprocess.run(command, check=False, **options)


def main():
    os.chdir(ROOT)
    wanted = [os.path.relpath(name, ROOT) for name in sys.argv[1:]]
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "src", "bench", "tests"], check=True,
                            stdout=subprocess.PIPE, text=True).stdout.split()
    sources = [name for name in listed if name.endswith((".cc", ".h")) and (not wanted or name in wanted)]
    failures = []
    if run("clang-format-19", "--dry-run", "-Werror", *sources).returncode != 0:
        failures.append("formatting (clang-format-19 -i mends it)")
    if run("cmake", "--preset", "release", stdout=subprocess.DEVNULL).returncode != 0:
        return 1
    if not wanted and run("flock", "build/release.lock", "ninja", "-C", BUILD, "all", "fluyt_headers").returncode != 0:
        failures.append("headers")
    with open(os.path.join(BUILD, "compile_commands.json"), encoding="utf-8") as file:
        known = {os.path.relpath(entry["file"], ROOT) for entry in json.load(file)}
    bodies = [name for name in sources if name.endswith(".cc") and name in known]

    def tidy(name):
        done = subprocess.run(["clang-tidy-19", "--quiet", "-p", BUILD, name], check=False, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True)
        return name, done.returncode, done.stdout

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, code, out in pool.map(tidy, bodies):
            if code != 0:
                failures.append(f"clang-tidy {name}")
                print(out)
    for failure in failures:
        print(f"FAILED {failure}")
    print(f"checked {len(sources)} files, {len(failures)} complaints")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
