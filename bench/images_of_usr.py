"""The images that pulls are measured with: layers of real files of this machine's /usr, and one of many small files.

A layer is written once, in one pass, as gzip (level 6) and as zstd (level 3), into build/bench/layers, and reused.
"""

import concurrent.futures
import hashlib
import io
import json
import os
import random
import subprocess
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zlib

import common

OCI = "application/vnd.oci.image."
MTIME = 1700000000
SMALL_FILES = 50_000
FOLDER = os.path.join(common.ROOT, "build", "bench", "layers")
# What each of the four layers begins with, so that documents, sources, libraries and programs are all there.
STARTS = ("/usr/share", "/usr/include", "/usr/bin", "/usr/lib/x86_64-linux-gnu")


class LayerFile:
    """Takes a tar, keeps it as gzip and as zstd, and knows the digests of all three."""

    def __init__(self, path):
        self.path = path
        self.gzip_file = open(path + ".gz", "wb")
        with open(path + ".zst", "wb") as out:
            self.zstd = subprocess.Popen(["zstd", "-q", "-3", "-c"], stdin=subprocess.PIPE, stdout=out)
        self.deflate = zlib.compressobj(6, zlib.DEFLATED, 31)
        self.diff = hashlib.sha256()
        self.bytes = self.gzip_bytes = 0

    def write(self, data):
        self.diff.update(data)
        self.zstd.stdin.write(data)
        packed = self.deflate.compress(data)
        self.gzip_file.write(packed)
        self.bytes += len(data)
        self.gzip_bytes += len(packed)
        return len(data)

    def close(self):
        self.gzip_file.write(self.deflate.flush())
        self.gzip_file.close()
        self.zstd.stdin.close()
        self.zstd.wait()
        layer = {"diff_id": "sha256:" + self.diff.hexdigest(), "bytes": self.bytes}
        for name in ("gz", "zst"):
            with open(f"{self.path}.{name}", "rb") as file:
                digest = hashlib.file_digest(file, "sha256")
                layer[name] = {"path": f"{self.path}.{name}", "digest": "sha256:" + digest.hexdigest(),
                               "size": file.tell()}
        return layer


def add(tar, path):
    """One file or folder; what vanishes or cannot be in a tar is passed over."""
    try:
        info = tar.gettarinfo(path, path.lstrip("/"))
        if info is None:
            return
        info.mtime = MTIME
        if info.isreg():
            with open(path, "rb") as file:
                tar.addfile(info, file)
        else:
            tar.addfile(info)
    except OSError:
        return


def usr_layers(name, starts, gzip_bytes):
    """One layer of about `gzip_bytes` for each of `starts`: its files in order until there is enough."""
    layers = []
    taken = set()
    for i, start in enumerate(starts):
        out = LayerFile(f"{FOLDER}/{name}.{i}")
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            add(tar, "/usr")
            for place in (start, *STARTS, "/usr/lib"):
                for folder, folders, files in os.walk(place):
                    folders.sort()
                    if out.gzip_bytes >= gzip_bytes:
                        break
                    listed = False
                    for file in sorted(files):
                        path = os.path.join(folder, file)
                        if path in taken or out.gzip_bytes >= gzip_bytes:
                            continue
                        if not listed:
                            add(tar, folder)
                            listed = True
                        taken.add(path)
                        tar.members = []  # hard links' targets are found by inode; the list only grows
                        add(tar, path)
        layers.append(out.close())
    return layers


def small_files_layer(name):
    out = LayerFile(f"{FOLDER}/{name}")
    chance = random.Random(50)
    words = [bytes(chance.choices(b"abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 9))) for _ in range(5000)]
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for i in range(SMALL_FILES):
            if i % 100 == 0:
                folder = tarfile.TarInfo(f"srv/{i // 100:03}")
                folder.type, folder.mode, folder.mtime = tarfile.DIRTYPE, 0o755, MTIME
                tar.addfile(folder)
            data = b" ".join(chance.choices(words, k=chance.randint(20, 500)))
            info = tarfile.TarInfo(f"srv/{i // 100:03}/file-{i:05}")
            info.size, info.mode, info.mtime = len(data), 0o644, MTIME
            tar.addfile(info, io.BytesIO(data))
            tar.members = []
    return out.close()


def layers():
    """{"four": [...], "ten": [...], "small": [...]}: the layers, made at the first call."""
    record = FOLDER + "/layers.json"
    if os.path.exists(record):
        with open(record, encoding="utf-8") as file:
            return json.load(file)
    os.makedirs(FOLDER, exist_ok=True)
    print("making the images' layers of /usr (once)", flush=True)
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        four = pool.submit(usr_layers, "four", STARTS, 55_000_000)
        ten = pool.submit(usr_layers, "ten", [*STARTS, "/usr/lib", *["/usr/share", "/usr/bin"] * 2, "/usr/lib/gcc"], 20_000_000)
        small = pool.submit(small_files_layer, "small")
        made = {"four": four.result(), "ten": ten.result(), "small": [small.result()]}
    with open(record + ".new", "w", encoding="utf-8") as file:
        json.dump(made, file)
    os.rename(record + ".new", record)
    return made


def request(method, url, data=None, headers=None):
    return urllib.request.urlopen(urllib.request.Request(url, data=data, headers=headers or {}, method=method), timeout=120)


def push_blob(base, digest, data):
    with request("POST", f"{base}/blobs/uploads/", b"") as answer:
        place = urllib.parse.urljoin(base, answer.headers["Location"])
    place += ("&" if "?" in place else "?") + urllib.parse.urlencode({"digest": digest})
    request("PUT", place, data, {"Content-Type": "application/octet-stream"}).close()


def push(registry, repository, parts, form):
    """Sends an image of `parts` in `form` ("gz" or "zst") to a registry on loopback."""
    base = f"http://{registry}/v2/{repository}"
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z", "config": {"Cmd": ["true"]},
        "rootfs": {"type": "layers", "diff_ids": [part["diff_id"] for part in parts]},
        "history": [{"created_by": f"layer {i}"} for i in range(len(parts))]}).encode()
    config_digest = "sha256:" + hashlib.sha256(config).hexdigest()
    push_blob(base, config_digest, config)
    media = OCI + "layer.v1.tar+" + {"gz": "gzip", "zst": "zstd"}[form]
    for part in parts:
        with open(part[form]["path"], "rb") as file:
            push_blob(base, part[form]["digest"], file.read())
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": OCI + "manifest.v1+json",
        "config": {"mediaType": OCI + "config.v1+json", "digest": config_digest, "size": len(config)},
        "layers": [{"mediaType": media, "digest": part[form]["digest"], "size": part[form]["size"]} for part in parts],
    }).encode()
    request("PUT", f"{base}/manifests/latest", manifest, {"Content-Type": OCI + "manifest.v1+json"}).close()
    return f"{registry}/{repository}:latest"
