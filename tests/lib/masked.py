"""A guest thread that the guest kernel cannot call in: it blocks every signal of the host's, by the stub's own way back from a
signal, to which a guest can jump with a frame of its own."""

import os
import subprocess

import harness

_PROGRAM = """
import ctypes, mmap, struct
def compute(counts, processes=1):
    \"\"\"Counts in the first eight bytes of a mapping, and never comes back. A second process in the same memory: in the next eight.\"\"\"
    memory = mmap.mmap(-1, 8192, prot=7, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    code = "4889fc4989f0"                            # mov rsp, rdi; mov r8, rsi
    if processes == 2:
        code += "b838000000bf1101000031f60f05"       # clone(CLONE_VM | SIGCHLD, 0)
        code += "85c075074881c400020000"             # the child: add rsp, 512
    code = bytes.fromhex(code + "4c89c0ffe0")        # mov rax, r8; jmp rax
    memory[0:len(code)] = code
    memory[64:69] = bytes.fromhex("48ff03ebfb")      # inc qword [rbx]; jmp back to it
    for i in range(2):
        frame = bytearray(304)                       # ucontext, as the stub's handler finds it
        struct.pack_into("<QiiQ", frame, 16, 0, 2, 0, 0)
        struct.pack_into("<Q", frame, 40 + 11 * 8, ctypes.addressof(ctypes.c_char.from_buffer(counts)) + 8 * i)
        struct.pack_into("<QQQ", frame, 40 + 15 * 8, start + 8000, start + 64, 0x202)
        struct.pack_into("<HHHH", frame, 40 + 18 * 8, 0x33, 0, 0, 0x2b)
        struct.pack_into("<Q", frame, 296, 2 ** 64 - 1)  # every signal blocked
        memory[1032 + 512 * i:1032 + 512 * i + len(frame)] = bytes(frame)
    ctypes.CFUNCTYPE(None, ctypes.c_uint64, ctypes.c_uint64)(start)(start + 1024, WAY_BACK)
"""


def program():
    """Python's text of compute(), for the guest kernel beside us."""
    symbols = subprocess.run(["nm", os.path.join(harness.BIN, "guest_stub")], stdout=subprocess.PIPE, text=True, check=True).stdout
    way_back = next(int(line.split()[0], 16) for line in symbols.splitlines() if line.endswith(" back"))
    return _PROGRAM.replace("WAY_BACK", str(way_back))
