"""Which code of runf the life of a container executes: `./dev order` writes it to src/cmd/runf/order.ld, by which the linker lays that
code out in one piece.

The kernel maps a program's file in pieces of 64 KiB around each page that is touched. Where what is executed lies among what is not,
nearly the whole program becomes resident, in the process that prepares a container, once more when that one has mapped itself anew, and
again in each process that it makes. So what each of them executes lies together, as far as one line can have it.

Names in the file that the program no longer has are passed over, and code that it does not name lies behind: nothing depends on it.
"""

import bisect
import contextlib
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


# The order of the groups, by who executes them (steps.cc): of the first and the second at most one other lies between what each executes.
GROUPS = (1, 5, 7, 3, 2, 6, 4)
# Of the commands below, those whose speed counts. What only others execute lies behind.
RUN, EXEC = 0, 6


def executed():
    """{address, in steps of 8 bytes: {the command's number: by whom}}."""
    common.in_private_tree()
    os.makedirs(common.TREE + runtime.PLACE, exist_ok=True)
    shutil.copy(common.BIN + "/bench_steps", common.TREE + runtime.PLACE + "/steps")
    runf = runtime.Runtime("runf", runtime.PLACE + "/runf")
    program = [runf.program, "--root", f"{runtime.PLACE}/state/runf"]
    found = {}
    with contextlib.ExitStack() as ends:
        runtime.make_bundles(ends)
        runtime.make_parent_cgroups(ends)
        for number, words in enumerate((runf.run("true", "one"), runf.run("seccomp", "two"), runf.run("small", "three"),
                      [*program, "create", "-b", runtime.PLACE + "/hold", "four"], [*program, "start", "four"], [*program, "state", "four"],
                      runf.exec("four", "/bin/true"), [*program, "kill", "four", "KILL"], runf.delete("four"))):
            print(*words, flush=True)
            addresses = runtime.PLACE + "/addresses"
            subprocess.run(["chroot", common.TREE, runtime.PLACE + "/steps", addresses, *words], check=True, stdin=subprocess.DEVNULL)
            with open(common.TREE + addresses, encoding="ascii") as file:
                for line in file:
                    where, by = line.split()
                    found.setdefault(int(where, 16), {})[number] = int(by)
    return found


def place_of(by):
    """What to sort a function by."""
    run, exec_ = by.get(RUN, 0), by.get(EXEC, 0)
    if run | exec_ == 0:
        return len(GROUPS), 0
    one = (2 if run else 1) if not run or not exec_ else 0
    group = GROUPS.index(run | exec_)
    # What both execute lies towards the other groups.
    return group, -one if group == 0 else one


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
    used, users = {}, {}
    for address, by in sorted(executed().items()):
        # The last of the 8 bytes: a function may begin among them.
        address, size, name, file = known[bisect.bisect_right(starts, address + 7) - 1]
        line = line_of(name, file)
        if line == "    *(.text)\n":
            continue
        used[line] = size
        for number, bits in by.items():
            users.setdefault(line, {})[number] = users.get(line, {}).get(number, 0) | bits
    used = {line: used[line] for line in sorted(used, key=lambda line: place_of(users[line]))}
    with open(FILE, "w", encoding="utf-8") as file:
        file.write(HEAD + "".join(used) + TAIL)
    print(f"{len(used)} functions, {sum(used.values()) >> 10} KiB of {sum(section[1] for section in known) >> 10} KiB")


if __name__ == "__main__":
    main()
