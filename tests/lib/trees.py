"""What a root filesystem is to look like, as a value: read from a folder, or worked out from an image's layers."""

import dataclasses
import decimal
import hashlib
import io
import os
import stat
import tarfile

# overlayfs's own marks and the labels of security modules are not the image's.
IGNORED_XATTRS = ("trusted.overlay.", "user.overlay.", "security.selinux")


@dataclasses.dataclass
class Node:
    """One name in a tree. `content` is a file's digest, a symlink's target or a device's numbers."""

    kind: str  # d, f, l, c, b, p
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    content: object = None
    xattrs: dict = dataclasses.field(default_factory=dict)
    links: frozenset = frozenset()  # all names of this file in the tree, when it has more than one
    implied: bool = False  # a directory that a layer above the one that lists it needs, and does not list


def digest(data):
    return hashlib.sha256(data).hexdigest()


def read(folder):
    """{path: Node} of a folder, the folder itself as ''. Paths are bytes."""
    tree, by_inode = {}, {}
    top = os.fsencode(folder)

    def add(path, name):
        info = os.lstat(path)
        tree[name] = _node(path, info)
        if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
            by_inode.setdefault((info.st_dev, info.st_ino), []).append(name)
        if stat.S_ISDIR(info.st_mode):
            for entry in os.listdir(path):
                add(path + b"/" + entry, name + b"/" + entry if name else entry)

    add(top, b"")
    for names in by_inode.values():
        if len(names) > 1:
            for name in names:
                tree[name].links = frozenset(names)
    return tree


def _node(path, info):
    mode = info.st_mode
    content = None
    if stat.S_ISREG(mode):
        kind = "f"
        hasher = hashlib.sha256()
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                hasher.update(piece)
        content = hasher.hexdigest()
    elif stat.S_ISLNK(mode):
        kind, content = "l", os.readlink(path)
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        kind = "c" if stat.S_ISCHR(mode) else "b"
        content = (os.major(info.st_rdev), os.minor(info.st_rdev))
    else:
        kind = {stat.S_IFDIR: "d", stat.S_IFIFO: "p"}.get(stat.S_IFMT(mode), "s")
    xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
              if not name.startswith(IGNORED_XATTRS)}
    return Node(kind, stat.S_IMODE(mode), info.st_uid, info.st_gid, info.st_mtime_ns, content, xattrs)


def differences(wanted, found, fields=("kind", "mode", "uid", "gid", "mtime_ns", "content", "xattrs", "links")):
    """One line for each name that differs."""
    out = []
    for name in sorted(set(wanted) | set(found)):
        shown = repr(name)[1:]
        if name not in found:
            out.append(f"{shown}: missing")
        elif name not in wanted:
            out.append(f"{shown}: not expected ({found[name].kind})")
        else:
            for field in fields:
                a, b = getattr(wanted[name], field), getattr(found[name], field)
                if field == "mode" and wanted[name].kind == "l":
                    continue  # a symlink's mode means nothing
                if a != b:
                    out.append(f"{shown}: {field} {b!r}, wanted {a!r}")
    return out


def of_layers(layers):
    """{path: Node} of the root that a container sees on `layers` (tar bytes, lowest first), by the rules of the image
    specification, written as plainly as they can be. mtime_ns is None where no layer says one."""
    tree = {b"": _implied()}
    for data in layers:
        _apply(tree, data)
    names = {}
    for path, node in tree.items():
        names.setdefault(id(node), []).append(path)
    # A node under several names is one file.
    return {path: dataclasses.replace(node, links=frozenset(names[id(node)]) if len(names[id(node)]) > 1 else frozenset())
            for path, node in tree.items()}


def _implied():
    return Node("d", 0o755, 0, 0, None)


def _parents(path):
    parts = path.split(b"/")
    return [b"/".join(parts[:i]) for i in range(1, len(parts))]


def _drop(tree, path):
    for name in [name for name in tree if name == path or name.startswith(path + b"/")]:
        del tree[name]


def _below(tree, path):
    return [name for name in tree if name != path and (not path or name.startswith(path + b"/"))]


def _apply(tree, data):
    own, implied, whiteouts, opaque = {}, set(), set(), set()

    def make_way(path):
        for parent in _parents(path):
            if parent not in own or own[parent].kind != "d":
                own.pop(parent, None)
                own[parent] = _implied()
                implied.add(parent)

    for member, content in _members(data):
        path = b"/".join(part for part in member.split(b"/") if part not in (b"", b"."))
        folder, _, base = path.rpartition(b"/")
        if base.startswith(b".wh."):
            make_way(path)
            if base == b".wh..wh..opq":
                opaque.add(folder)
            elif not base.startswith(b".wh..wh."):
                whiteouts.add(folder + b"/" + base[4:] if folder else base[4:])
            continue
        make_way(path)
        if isinstance(content, bytes):  # a hard link: another name of what is there
            target = b"/".join(part for part in content.split(b"/") if part not in (b"", b"."))
            node = own[target] if target in own else tree[target]
        else:
            node = content
        if path in own and not (own[path].kind == "d" and node.kind == "d"):
            _drop(own, path)
        own[path] = node
        implied.discard(path)
    for path in opaque:
        for name in _below(tree, path):
            del tree[name]
    for path in whiteouts:
        _drop(tree, path)
    for path, node in own.items():
        if path in implied and path in tree and tree[path].kind == "d":
            tree[path] = dataclasses.replace(tree[path], implied=True)
            continue
        if node.kind != "d" or (path in tree and tree[path].kind != "d"):
            _drop(tree, path)
        tree[path] = node


def _members(data):
    """(name, Node or the target of a hard link) of each entry, in their order."""
    raw = {"encoding": "utf-8", "errors": "surrogateescape"}
    kinds = {tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l", tarfile.CHRTYPE: "c", tarfile.BLKTYPE: "b", tarfile.FIFOTYPE: "p"}
    with tarfile.open(fileobj=io.BytesIO(data), **raw) as tar:
        for member in tar:
            name = member.name.encode(**raw)
            if member.islnk():
                yield name, member.linkname.encode(**raw)
                continue
            kind = kinds.get(member.type, "f")
            content = None
            if kind == "l":
                content = member.linkname.encode(**raw)
            elif kind in "cb":
                content = (member.devmajor, member.devminor)
            elif kind == "f":
                content = digest(tar.extractfile(member).read())
            xattrs = {key[len("SCHILY.xattr."):]: value.encode(**raw) for key, value in member.pax_headers.items()
                      if key.startswith("SCHILY.xattr.")}
            yield name, Node(kind, member.mode & 0o7777, member.uid, member.gid,
                             _nanoseconds(member.pax_headers.get("mtime", member.mtime)), content, xattrs)


def _nanoseconds(seconds):
    return int(decimal.Decimal(seconds).scaleb(9).to_integral_value(decimal.ROUND_FLOOR))
