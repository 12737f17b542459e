"""A disk with faults: `faulty_disk.py FOLDER BACKING ARMED` mounts a FUSE file system there whose one file, `disk`, is BACKING, to be had as a
loop device. Blocks that hold one of the words in the file ARMED cannot be written ("write WORD", a line each) or read ("read WORD"): EIO.
So the file's content says what fails, wherever the file system of the loop device puts it."""

import ctypes
import errno
import os
import struct
import sys

LOOKUP, FORGET, GETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH, INIT, INTERRUPT, DESTROY, BATCH_FORGET = (
    1, 2, 3, 14, 15, 16, 17, 18, 20, 25, 26, 36, 38, 42)
DIRECT_IO = 1  # of an open file: nothing is kept of it above us
BLOCK = 4096


class Disk:
    def __init__(self, device, backing, armed):
        self.device, self.armed = device, armed
        self.file = os.open(backing, os.O_RDWR)
        self.size = os.fstat(self.file).st_size

    def answer(self, unique, body=b"", error=0):
        os.write(self.device, struct.pack("<IiQ", 16 + len(body), -error, unique) + body)

    def words(self, what):
        with open(self.armed, "rb") as file:
            return [line.split()[1] for line in file if line.startswith(what)]

    def attributes(self, node):
        mode, size = (0o40700, 0) if node == 1 else (0o100600, self.size)
        return struct.pack("<6Q10I", node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, BLOCK, 0)

    def read(self, unique, offset, size):
        data = os.pread(self.file, size, offset)
        if any(word in data for word in self.words(b"read")):
            self.answer(unique, error=errno.EIO)
        else:
            self.answer(unique, data)

    def write(self, unique, offset, data):
        words, failed = self.words(b"write"), False
        for at in range(0, len(data), BLOCK):
            block = data[at:at + BLOCK]
            if any(word in block for word in words):
                failed = True
            else:
                os.pwrite(self.file, block, offset + at)
        if failed:
            self.answer(unique, error=errno.EIO)
        else:
            self.answer(unique, struct.pack("<II", len(data), 0))

    def serve(self, request):
        _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
        body = request[40:]
        if opcode == INIT:
            self.answer(unique, struct.pack("<4I2H2I2HI7I", 7, 31, 1 << 17, 0, 16, 12, 1 << 17, 1, 0, 0, 0, *[0] * 7))
        elif opcode == LOOKUP:
            if body.rstrip(b"\0") == b"disk":
                self.answer(unique, struct.pack("<4Q2I", 2, 0, 3600, 3600, 0, 0) + self.attributes(2))
            else:
                self.answer(unique, error=errno.ENOENT)
        elif opcode == GETATTR:
            self.answer(unique, struct.pack("<QII", 3600, 0, 0) + self.attributes(node))
        elif opcode == OPEN:
            self.answer(unique, struct.pack("<QII", 0, DIRECT_IO, 0))
        elif opcode == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            self.read(unique, offset, size)
        elif opcode == WRITE:
            _, offset, size = struct.unpack_from("<QQI", body)
            self.write(unique, offset, body[40:40 + size])
        elif opcode in (FSYNC, FLUSH, RELEASE):
            self.answer(unique)
        elif opcode == STATFS:
            self.answer(unique, bytes(80))
        elif opcode not in (FORGET, BATCH_FORGET, INTERRUPT, DESTROY):
            self.answer(unique, error=errno.ENOSYS)


def main():
    folder, backing, armed = sys.argv[1:]
    device = os.open("/dev/fuse", os.O_RDWR)
    disk = Disk(device, backing, armed)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"faulty", folder.encode(), b"fuse", 0, options) != 0:
        sys.exit("mount: " + os.strerror(ctypes.get_errno()))
    print("mounted", flush=True)
    while True:
        try:
            disk.serve(os.read(device, 1 << 18))
        except OSError as error:
            if error.errno == errno.ENODEV:  # unmounted
                return
            if error.errno not in (errno.ENOENT, errno.EINTR):  # who asked does not wait any more
                raise


main()
