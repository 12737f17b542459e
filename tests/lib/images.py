"""Container images made from Debian packages alone, as OCI layouts, and pushed to a registry on loopback.

An Image is a list of layers (tar bytes) and a config; `write_layout` makes an OCI image layout folder of it,
`push` sends it to a registry over the distribution API. Nothing here needs root, skopeo or the internet.
"""

import dataclasses
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import urllib.error
import urllib.parse
import urllib.request

MTIME = 1700000000
PATH_ENV = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OCI = "application/vnd.oci.image."


@dataclasses.dataclass
class Entry:
    """One tar entry: kind is 'd'irectory, 'f'ile, 'l'ink (symbolic) or 'h'ard link."""

    path: str
    kind: str = "f"
    data: object = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


def layer(entries):
    """The tar bytes of `entries`, the same for the same input."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry in entries:
            info = tarfile.TarInfo(entry.path)
            info.mode, info.uid, info.gid, info.mtime = entry.mode, entry.uid, entry.gid, MTIME
            if entry.kind == "d":
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            elif entry.kind in "lh":
                info.type = tarfile.SYMTYPE if entry.kind == "l" else tarfile.LNKTYPE
                info.linkname = entry.data
                tar.addfile(info)
            else:
                info.size = len(entry.data)
                tar.addfile(info, io.BytesIO(entry.data))
    return out.getvalue()


def tree_layer(folder):
    """The tar bytes of a whole folder."""
    command = ["tar", "-C", folder, "--numeric-owner", "--sort=name", f"--mtime=@{MTIME}", "-c", "."]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def busybox_layer(passwd="", group=""):
    """A root with Debian's static busybox under every name that it answers to."""
    program = shutil.which("busybox")
    if program is None:
        raise RuntimeError("busybox: not found; install Debian's busybox-static")
    with open(program, "rb") as file:
        data = file.read()
    names = subprocess.run([program, "--list"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    entries = [Entry(path, "d", mode=mode) for path, mode in (
        ("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("home", 0o755), ("usr", 0o755),
        ("usr/bin", 0o755), ("usr/sbin", 0o755), ("var", 0o755), ("dev", 0o755), ("proc", 0o755), ("sys", 0o755))]
    entries.append(Entry("bin/busybox", data=data, mode=0o755))
    entries += [Entry("bin/" + name, "h", "bin/busybox", 0o755) for name in names if name != "busybox"]
    users = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n" + passwd
    entries.append(Entry("etc/passwd", data=users.encode()))
    entries.append(Entry("etc/group", data=("root:x:0:\nnobody:x:65534:\n" + group).encode()))
    return layer(entries)


def static_program(source, work, name):
    """The bytes of a C program, linked statically."""
    os.makedirs(work, exist_ok=True)
    path = os.path.join(work, name)
    with open(path + ".c", "w", encoding="utf-8") as file:
        file.write(source)
    subprocess.run(["gcc", "-O2", "-static", "-s", "-o", path, path + ".c"], check=True)
    with open(path, "rb") as file:
        return file.read()


@dataclasses.dataclass
class Image:
    layers: list
    config: dict
    level: int = 6  # of gzip


_gzipped = {}


def _gzip(data, level):
    key = (hashlib.sha256(data).hexdigest(), level)
    if key not in _gzipped:
        _gzipped[key] = gzip.compress(data, level, mtime=0)
    return _gzipped[key]


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def build(image):
    """(manifest bytes, {digest: bytes} of config and layers)."""
    blobs = {}

    def descriptor(media_type, data):
        digest = digest_of(data)
        blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    layers = [descriptor(OCI + "layer.v1.tar+gzip", _gzip(data, image.level)) for data in image.layers]
    config = {
        "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z", "config": image.config,
        "rootfs": {"type": "layers", "diff_ids": [digest_of(data) for data in image.layers]},
        "history": [{"created_by": f"layer {i}"} for i in range(len(image.layers))],
    }
    manifest = {
        "schemaVersion": 2, "mediaType": OCI + "manifest.v1+json",
        "config": descriptor(OCI + "config.v1+json", json.dumps(config).encode()), "layers": layers,
    }
    return json.dumps(manifest).encode(), blobs


def write_layout(image, folder, name):
    """Writes an OCI image layout that holds `image` under `name`."""
    manifest, blobs = build(image)
    os.makedirs(os.path.join(folder, "blobs", "sha256"), exist_ok=True)
    for digest, data in {**blobs, digest_of(manifest): manifest}.items():
        with open(os.path.join(folder, "blobs", "sha256", digest.split(":")[1]), "wb") as file:
            file.write(data)
    index = {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": [{
        "mediaType": OCI + "manifest.v1+json", "digest": digest_of(manifest), "size": len(manifest),
        "annotations": {"org.opencontainers.image.ref.name": name}}]}
    with open(os.path.join(folder, "index.json"), "w", encoding="utf-8") as file:
        json.dump(index, file)
    with open(os.path.join(folder, "oci-layout"), "w", encoding="utf-8") as file:
        json.dump({"imageLayoutVersion": "1.0.0"}, file)


def _request(method, url, data=None, headers=None):
    request = urllib.request.Request(url, data=data, headers=headers or {}, method=method)
    return urllib.request.urlopen(request, timeout=60)


def push(image, registry, repository, *tags):
    """Sends `image` to `registry` (host:port, plain HTTP) under each tag. Returns the manifest's digest."""
    base = f"http://{registry}/v2/{repository}"
    manifest, blobs = build(image)
    for digest, data in blobs.items():
        try:
            _request("HEAD", f"{base}/blobs/{digest}").close()
            continue
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
        with _request("POST", f"{base}/blobs/uploads/", b"") as answer:
            place = urllib.parse.urljoin(base, answer.headers["Location"])
        place += ("&" if "?" in place else "?") + urllib.parse.urlencode({"digest": digest})
        _request("PUT", place, data, {"Content-Type": "application/octet-stream"}).close()
    for tag in tags:
        _request("PUT", f"{base}/manifests/{tag}", manifest, {"Content-Type": OCI + "manifest.v1+json"}).close()
    return digest_of(manifest)


def push_index(index, registry, repository, tag):
    """Sends the bytes of an index, whose manifests are there. Returns its digest."""
    _request("PUT", f"http://{registry}/v2/{repository}/manifests/{tag}", index, {"Content-Type": OCI + "index.v1+json"}).close()
    return digest_of(index)
