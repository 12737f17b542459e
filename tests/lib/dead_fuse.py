"""A FUSE file system that is dead: `dead_fuse.py FOLDER` mounts one, whose root can be looked at, and takes the look-up of the
name `never` without answering it. Who asked waits in the kernel, where no signal reaches it, until this program ends."""

import ctypes
import os
import struct
import sys

LOOKUP, FORGET, GETATTR, STATFS, INIT, INTERRUPT, DESTROY, BATCH_FORGET = 1, 2, 3, 17, 26, 36, 38, 42
ENOENT, ENOSYS = 2, 38


def answer(device, unique, body=b"", error=0):
    os.write(device, struct.pack("<IiQ", 16 + len(body), -error, unique) + body)


def main():
    folder = sys.argv[1]
    device = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    if libc.mount(b"dead", folder.encode(), b"fuse", 0, options) != 0:
        sys.exit("mount: " + os.strerror(ctypes.get_errno()))
    print("mounted", flush=True)
    root = struct.pack("<QII", 3600, 0, 0) + struct.pack("<6Q10I", 1, 0, 0, 0, 0, 0, 0, 0, 0, 0o40755, 2, 0, 0, 0, 4096, 0)
    while True:
        request = os.read(device, 1 << 17)
        _, opcode, unique = struct.unpack_from("<IIQ", request)
        if opcode == INIT:
            answer(device, unique, struct.pack("<4I2H2I2HI7I", 7, 31, 0, 0, 16, 12, 1 << 16, 1, 0, 0, 0, *[0] * 7))
        elif opcode == GETATTR:
            answer(device, unique, root)
        elif opcode == STATFS:
            answer(device, unique, bytes(80))
        elif opcode == LOOKUP:
            if request[40:].rstrip(b"\0") != b"never":
                answer(device, unique, error=ENOENT)
        elif opcode not in (FORGET, BATCH_FORGET, INTERRUPT, DESTROY):
            answer(device, unique, error=ENOSYS)


main()
