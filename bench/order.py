"""Which code of runf the life of a container executes: `./dev order` writes it to src/cmd/runf/order.ld, by which the linker lays that
code out in one piece.

The kernel maps a program's file in pieces of 64 KiB around each page that is touched. Where what is executed lies among what is not,
nearly the whole program becomes resident, in the process that prepares a container and again in the one that becomes it.

Names in the file that the program no longer has are passed over, and code that it does not name lies behind: nothing depends on it.
"""

import bisect
import os
import re
import shutil
import subprocess
import sys

import common
import runtime

FILE = os.path.join(common.ROOT, "src/cmd/runf/order.ld")
MAP = os.path.join(common.ROOT, "build/release/src/cmd/runf/runf.map")
HEAD = """/* Which code the life of a container executes: run, create, start, exec, kill and delete. Written by `./dev order`. */
SECTIONS
{
  .text.used :
  {
"""
TAIL = """  }
}
INSERT BEFORE .text;
"""


def executed():
    """Addresses, in steps of 8 bytes."""
    common.in_private_tree()
    os.makedirs(common.TREE + runtime.PLACE, exist_ok=True)
    runtime.make_bundles()
    shutil.copy(common.BIN + "/bench_steps", common.TREE + runtime.PLACE + "/steps")
    parents = runtime.make_parent_cgroups()
    runf = runtime.Runtime("runf", runtime.PLACE + "/runf")
    program = [runf.program, "--root", f"{runtime.PLACE}/state/runf"]
    found = set()
    try:
        for words in (runf.run("true", "one"), runf.run("seccomp", "two"), runf.run("small", "three"),
                      [*program, "create", "-b", runtime.PLACE + "/hold", "four"], [*program, "start", "four"], [*program, "state", "four"],
                      runf.exec("four", "/bin/true"), [*program, "kill", "four", "KILL"], runf.delete("four")):
            print(*words, flush=True)
            addresses = runtime.PLACE + "/addresses"
            subprocess.run(["chroot", common.TREE, runtime.PLACE + "/steps", addresses, *words], check=True, stdin=subprocess.DEVNULL)
            with open(common.TREE + addresses, encoding="ascii") as file:
                found.update(int(line, 16) for line in file)
    finally:
        for parent in parents:
            os.rmdir(parent)
        common.sh("umount", f"{common.TREE}{runtime.PLACE}/state")
    return sorted(found)


def sections():
    """[(address, size, section, file)] of the code, as the linker's map tells it."""
    with open(MAP, encoding="utf-8") as file:
        text = file.read().split("Linker script and memory map", 1)[1]
    # A long name has a line to itself.
    found = re.findall(r"^ (\.text\S*)\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)\s+(\S.*)$", text, re.MULTILINE)
    return sorted((int(address, 16), int(size, 16), name, file) for name, address, size, file in found if int(address, 16) and int(size, 16))


def line_of(section, file):
    member = re.match(r".*/([^/]+\.a)\((.+)\)$", file)
    if section != ".text" or not member:
        return f"    *({section})\n"
    return f"    *{member[1]}:{member[2]}({section})\n"  # of a library that has no section a function


def main():
    if os.environ.get("FLUYT_BENCH_INSIDE") != "1":
        common.peers_tree()
        os.environ["FLUYT_BENCH_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--net", sys.executable, os.path.abspath(__file__)])
    known = sections()
    starts = [section[0] for section in known]
    used = {}
    for address in executed():
        # The last of the 8 bytes: a function may begin among them.
        address, size, name, file = known[bisect.bisect_right(starts, address + 7) - 1]
        used[line_of(name, file)] = size
    used = {line: size for line, size in used.items() if line != "    *(.text)\n"}
    with open(FILE, "w", encoding="utf-8") as file:
        file.write(HEAD + "".join(used) + TAIL)
    print(f"{len(used)} functions, {sum(used.values()) >> 10} KiB of {sum(section[1] for section in known) >> 10} KiB")


if __name__ == "__main__":
    main()
