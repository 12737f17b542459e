"""Runs every fuzzer of build/fuzz for a while, each with a folder of its own for what it learns, and what it begins with if there is such."""

import glob
import os
import subprocess
import sys

import fuzz_seeds

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Inputs as long as these from the start: by itself libFuzzer comes to a few hundred bytes in ten minutes.
LENGTHS = {"cri_fuzz": 65536, "session_fuzz": 65536, "websocket_fuzz": 65536, "tar_fuzz": 65536, "erofs_fuzz": 65536, "archive_fuzz": 65536}


def main():
    seconds, words = int(sys.argv[1]), sys.argv[2:]
    ran, failed = 0, []
    for program in sorted(glob.glob(os.path.join(ROOT, "build", "fuzz", "fuzz", "*"))):
        if not os.access(program, os.X_OK) or os.path.isdir(program):
            continue
        name = os.path.basename(program)
        if words and not any(word in name for word in words):
            continue
        corpus = os.path.join(ROOT, "build", "fuzz", "corpus", name)
        os.makedirs(corpus, exist_ok=True)
        seeds = os.path.join(ROOT, "build", "fuzz", "seeds", name)
        folders = [corpus, seeds] if fuzz_seeds.write(name, seeds) else [corpus]
        ran += 1
        print(f"+ {name} for {seconds} s", flush=True)
        length = [f"-max_len={LENGTHS[name]}", "-len_control=0"] if name in LENGTHS else []
        done = subprocess.run([program, *length, f"-max_total_time={seconds}", "-rss_limit_mb=2048", "-timeout=30",
                               "-print_final_stats=1", f"-artifact_prefix={corpus}-", *folders], check=False,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in done.stderr.splitlines():
            if "stat::number_of_executed_units" in line or "ERROR:" in line or "SUMMARY" in line:
                print("  ", line)
        if done.returncode != 0:
            failed.append(name)
            print("\n".join("   | " + line for line in done.stderr.splitlines()[-40:]), flush=True)
    print("failed: " + ", ".join(failed) if failed else f"{ran} fuzzers found no fault")
    return 1 if failed or ran == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
