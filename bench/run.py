"""Side by side with the peers, in one run on one machine: `./dev bench [runtime] [cri] [pull] [guest]`.

Peers come from Debian sid in a tree of their own (build/bench/peers, made once with debootstrap); their versions are printed.
Everything runs in a mount and network namespace of the benchmark's own. Figures are medians; what to read is the ratio.
"""

import os
import sys

import common
import cri_calls
import guest
import pull
import runtime


def main():
    wanted = sys.argv[1:] or ["runtime", "cri", "pull"]
    if "guest" in wanted:  # its containers are not the tree's
        guest.bench()
        wanted.remove("guest")
        if not wanted:
            return
    if os.environ.get("FLUYT_BENCH_INSIDE") != "1":
        common.peers_tree()
        os.environ["FLUYT_BENCH_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--net", sys.executable, os.path.abspath(__file__), *wanted])
    common.sh("ip", "link", "set", "lo", "up")
    versions = common.peers_tree()
    common.in_private_tree()
    print("kernel", os.uname().release, "· cores", os.cpu_count(), "·",
          ", ".join(f"{name} {version}" for name, version in versions.items()))
    if "runtime" in wanted:
        runtime.bench(versions)
    if "cri" in wanted:
        cri_calls.bench(versions)
    if "pull" in wanted:
        pull.bench(versions)


if __name__ == "__main__":
    main()
