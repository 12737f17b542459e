"""Layers with all that tar and the image specification allow and few images have: {name: [tar bytes, lowest first]}."""

import io
import os
import random
import struct
import subprocess
import tarfile

LONG = "long-" + "x" * 120
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)  # cap_net_raw+ep, revision 2


def entry(name, kind="f", data=b"", **fields):
    """A TarInfo and its data. Kinds are those of trees.Node, and 'h' for a hard link."""
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = 0o755 if kind == "d" else 0o644, 1700000000
    info.type = {"f": tarfile.REGTYPE, "d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE, "h": tarfile.LNKTYPE,
                 "c": tarfile.CHRTYPE, "b": tarfile.BLKTYPE, "p": tarfile.FIFOTYPE}[kind]
    if kind in "lh":
        info.linkname = data
    elif kind in "cb":
        info.devmajor, info.devminor = data
    else:
        info.size = len(data)
    xattrs = fields.pop("xattrs", {})
    for name_, value in fields.pop("pax", {}).items():
        info.pax_headers[name_] = value
    for name_, value in xattrs.items():
        info.pax_headers["SCHILY.xattr." + name_] = value.decode("utf-8", "surrogateescape")
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data if kind == "f" else b""


def tar(*entries, form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, encoding="utf-8", errors="surrogateescape") as file:
        for info, data in entries:
            file.addfile(info, io.BytesIO(data))
    return out.getvalue()


def sparse(work):
    """One file with a few holes and one with many, in each of GNU tar's four forms."""
    rng = random.Random(1)
    for name, pieces in (("few", 3), ("many", 60)):
        with open(f"{work}/{name}", "wb") as file:
            for i in range(pieces):
                file.seek(i * 300_000 + 8192)
                file.write(rng.randbytes(5000))
            file.truncate(pieces * 300_000 + 77_777)
    with open(work + "/hole", "wb") as file:
        file.truncate(5_000_000)
    out = []
    for i, form in enumerate((["--format=gnu"], ["--format=posix", "--sparse-version=0.0"],
                              ["--format=posix", "--sparse-version=0.1"], ["--format=posix", "--sparse-version=1.0"])):
        done = subprocess.run(["tar", "-C", work, "--sparse", *form, f"--transform=s,^,form{i}-,", "--owner=0", "--group=0",
                               "--numeric-owner", "--mtime=@1700000000", "-cf", "-", "few", "many", "hole"], check=True,
                              stdout=subprocess.PIPE)
        out.append(done.stdout)
    return out


def corpus(work):
    os.makedirs(work, exist_ok=True)
    def d(name, **fields):
        return entry(name, "d", **fields)
    def f(name, data=b"", **fields):
        return entry(name, "f", data or name.encode("utf-8", "surrogateescape"), **fields)
    base = tar(d("dir", mode=0o2770, uid=1234, gid=1234, xattrs={"user.of": b"dir"}, pax={"mtime": "1500000000.123456789"}),
               d("dir/sub", mode=0o1777, uid=5), f("dir/file"), f("dir/sub/file"), f("file"), entry("link", "l", "dir"),
               f("a"), f("b"), f("c"))
    deep = "/".join(["deep-" + "y" * 60] * 6)
    return {
        "sparse forms": sparse(work),
        "PAX": [tar(d("d"), f("d/" + LONG * 2), f("d/" + "é" * 60), f(deep.split("/", 1)[0] + "-file"),
                    entry("d/to", "l", "/" + LONG * 2), entry("d/hard", "h", "d/" + LONG * 2),
                    f("d/xattr", xattrs={"user.one": b"1", "user.binary": b"\x01\xff\x00z", "user.empty": b""}),
                    f("d/caps", mode=0o755, xattrs={"security.capability": CAPABILITY}))],
        "GNU long names": [tar(d("d"), f("d/" + LONG * 2), entry("d/to", "l", "/" + LONG * 2),
                               entry("d/hard", "h", "d/" + LONG * 2), d("d/" + LONG), f(f"d/{LONG}/{LONG}"),
                               form=tarfile.GNU_FORMAT)],
        "ustar prefix": [tar(d(deep[:200].rstrip("/")), f(deep[:180] + "/file"), form=tarfile.USTAR_FORMAT)],
        "names that are no UTF-8": [
            tar(d("d"), f("d/\udcff\udcfe"), entry("d/to-\udc80", "l", "\udcff\udcfe"), form=tarfile.GNU_FORMAT),
            tar(d("p"), f("p/\udcff\udcfe" + LONG), entry("p/h\udc80", "h", "p/\udcff\udcfe" + LONG))],
        "times": [tar(f("nanoseconds", pax={"mtime": "1700000000.123456789"}), f("before 1970", pax={"mtime": "-86400.75"}),
                      f("after 2038", pax={"mtime": "4400000000.5"}), f("zero", mtime=0),
                      d("dir", pax={"mtime": "1111111111.000000001"}), f("dir/made-after", mtime=1600000000),
                      entry("link", "l", "zero", pax={"mtime": "1234567890.000000007"}))],
        "times of GNU tar": [tar(f("before", mtime=-3600), f("after", mtime=1 << 33), form=tarfile.GNU_FORMAT)],
        "large ids": [tar(f("pax", uid=3_000_000_000, gid=4_294_967_294), d("dir", uid=2_147_483_648, gid=2_147_483_647)),
                      tar(f("gnu", uid=3_000_000_000, gid=4_294_967_294), form=tarfile.GNU_FORMAT)],
        "hard link to a lower layer": [base, tar(entry("dir/again", "h", "dir/file"), entry("other", "h", "dir/sub/file"))],
        "hard links": [tar(f("one"), entry("two", "h", "one"), entry("three", "h", "two"), entry("sym", "l", "one"),
                           entry("hard-sym", "h", "sym"), f("one", b"replaced"), entry("./four", "h", "/three"))],
        "hard links that say otherwise": [tar(f("file", mode=0o4711, uid=3, gid=4),
                                              entry("link", "h", "file", mode=0o600, uid=5, gid=6, mtime=1))],
        "whiteout and file of one name": [base, tar(f("a", b"new a"), f(".wh.a"), f(".wh.b"), f("b", b"new b"), f(".wh.c"),
                                                    f("dir/.wh.sub"), d("dir/sub", uid=9), f("dir/sub/new"))],
        "whiteouts": [base, tar(f("dir/.wh.file"), f(".wh.file"), f(".wh.none"), f(".wh.link")), tar(f("file", b"back"))],
        "opaque": [base, tar(d("dir", uid=3), f("dir/first"), f("dir/.wh..wh..opq"), f("dir/last")),
                   tar(d("dir/sub"), f("dir/sub/x"))],
        "opaque below": [base, tar(f("dir/sub/.wh..wh..opq"), f("dir/sub/only"))],
        "directory to file and back": [base, tar(f("dir", b"now a file"), d("file"), f("file/in"), d("link"), f("link/in")),
                                       tar(d("dir"), f("dir/new"), f("file", b"a file again"), f("link", b"a file"))],
        "implied parents": [base, tar(f("dir/sub/new"), f("not/listed/anywhere")), tar(f("dir/other"), d("not"))],
        "implied parent that is a link below": [tar(d("usr"), d("usr/lib"), f("usr/lib/one"), entry("lib", "l", "usr/lib")),
                                                tar(f("lib/two"))],
        "duplicates": [tar(f("twice", b"1"), f("twice", b"2"), f("file-dir"), d("file-dir"), f("file-dir/in"), d("dir-file"),
                           f("dir-file/in"), f("dir-file", b"file"), entry("link-file", "l", "twice"), f("link-file", b"own"),
                           d("dir", uid=1), f("dir/in"), d("dir", uid=2, mode=0o700))],
        "special": [tar(f("suid", mode=0o4755, uid=7), f("sgid", mode=0o2755, gid=7), d("sticky", mode=0o1777),
                        f("none", mode=0), entry("null", "c", (1, 3), mode=0o666, uid=4), entry("disk", "b", (7, 300)),
                        entry("fifo", "p", mode=0o622), f("empty"), f("suid-caps", mode=0o4755, uid=8,
                                                                       xattrs={"security.capability": CAPABILITY}))],
        "odd spellings": [tar(d("./", mode=0o711, uid=2), d("./d/"), f("./d//x"), f("/abs"), f("d/./y"), d("e/"))],
    }
