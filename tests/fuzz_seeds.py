"""What the fuzzers of images begin with: small inputs of each kind that there is, made here so that none is kept as bytes."""

import base64
import gzip
import hashlib
import io
import json
import os
import re
import tarfile
import zlib

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DIGEST = "sha256:" + hashlib.sha256(b"").hexdigest()


def tar(form, entries):
    """A tar of (name, changes to its header, content)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as to:
        for name, changes, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in changes.items():
                setattr(info, key, value)
            to.addfile(info, io.BytesIO(content))
        end = to.offset
    return out.getvalue()[:end + 1024]  # without what Python fills a record with


def sparse(records, body, stored):
    """GNU's sparse forms in PAX headers: 0.0, 0.1 and, with the map in its body, 1.0."""
    return tar(tarfile.PAX_FORMAT, [("GNUSparseFile.0/s", {"pax_headers": records}, body + stored)])


def tars():
    folder, link = {"type": tarfile.DIRTYPE, "mode": 0o755}, {"type": tarfile.SYMTYPE, "linkname": "d/f"}
    tree = [("d", folder, b""), ("d/f", {"mode": 0o4755, "uid": 1, "gid": 2}, b"content"), ("l", link, b""),
            ("h", {"type": tarfile.LNKTYPE, "linkname": "d/f"}, b""), ("p", {"type": tarfile.FIFOTYPE}, b""),
            ("c", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}, b""),
            ("b", {"type": tarfile.BLKTYPE, "devmajor": 8, "devminor": 1}, b"")]
    whiteouts = [("d/.wh.gone", {}, b""), ("e/.wh..wh..opq", {}, b""), ("e/x/y", {}, b"y"), ("d", {**link, "linkname": "e"}, b""), ("d/z", {}, b"z"),
                 (".wh.d", {}, b""), ("d/", folder, b"")]
    lower = [("new/name", {"type": tarfile.LNKTYPE, "linkname": "usr/lib/below"}, b""), ("/abs", {}, b"")]
    yield from (tar(form, tree) for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    yield tar(tarfile.GNU_FORMAT, whiteouts)
    yield tar(tarfile.USTAR_FORMAT, lower)
    yield tar(tarfile.USTAR_FORMAT, [*lower, ("../up", {}, b"")])
    yield tar(tarfile.GNU_FORMAT, [("long/" * 40 + "name", {"uid": 3000000}, b"x"), ("s", {**link, "linkname": "t" * 300}, b"")])
    yield tar(tarfile.PAX_FORMAT, [("x", {"mtime": 1.5, "pax_headers": {
        "SCHILY.xattr.user.k": "v", "SCHILY.xattr.security.capability": "\1\0\0\2", "uid": "5", "path": "y"}}, b"body")])
    yield tar(tarfile.GNU_FORMAT, [(f"many/{i:03}", {}, b"") for i in range(60)])  # a directory of several blocks
    yield sparse({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s", "GNU.sparse.realsize": "70000"},
                 b"2\n0\n4\n65536\n4\n".ljust(512, b"\0"), b"headtail")
    yield sparse({"GNU.sparse.size": "9000", "GNU.sparse.numblocks": "1", "GNU.sparse.map": "8192,4", "GNU.sparse.name": "s"}, b"", b"tail")
    old = bytearray(tar(tarfile.GNU_FORMAT, [("s", {"type": b"S"}, b"data")]))
    old[386:410] = b"%011o\0%011o\0" % (4096, 4)  # its one piece,
    old[483:495] = b"%011o\0" % 8192              # and its whole size
    old[148:156] = b" " * 8
    old[148:156] = b"%06o\0 " % sum(old[:512])
    yield bytes(old)


def gzips():
    def member(content, flags=0, extra=b""):
        packed = gzip.compress(content, mtime=0)
        return packed[:3] + bytes([flags]) + packed[4:10] + extra + packed[10:]

    yield member(b"one") + member(b"two" * 100) + b"\0" * 20
    yield member(b"x", 4, b"\x05\0SGabc") + member(b"", 8, b"name\0") + member(b"y", 16, b"why\0")
    stored = zlib.compressobj(0, zlib.DEFLATED, 31)
    yield stored.compress(b"stored") + stored.flush()
    yield gzip.compress(next(tars()), mtime=0)
    yield b"plain"
    yield b"\x50\x2a\x4d\x18\x03\0\0\0abc"
    # How well-formed ones are put together: src/image/layer/inflate_fuzz.cc.
    for kind in (b"g", b"z"):
        yield kind + b"".join(bytes([flags, repeats, len(text)]) + text for flags, repeats, text in (
            (0, 0, b"plain"), (0x1d, 3, b"with all parts"), (0x80, 0, b"stored"), (3, 255, b"window" * 40), (0x85, 9, b"")))
        yield kind + bytes([0x80, 255, 255]) + bytes(range(255)) + b"\0" * 2


def manifest(config, layers, **more):
    return {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers, **more}


def described(media_type, digest=DIGEST, size=0, **more):
    return {"mediaType": media_type, "digest": digest, "size": size, **more}


def config(diff_ids):
    return {"architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z", "author": "a", "config": {
        "User": "1:2", "Env": ["A=b"], "Entrypoint": ["/x"], "Cmd": ["y"], "Volumes": {"/v": {}}, "WorkingDir": "/w",
        "ExposedPorts": {"80/tcp": {}}, "Labels": {"k": "v"}, "StopSignal": "SIGINT", "Shell": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": [{"created_by": "z", "empty_layer": True}]}


def documents():
    yield manifest(described(CONFIG), [described(LAYER, annotations={"a": "b"}, urls=["https://x"], data="")],
                   subject=described(MANIFEST), annotations={"k": "v"}, artifactType="x/y")
    yield {"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        described(MANIFEST, platform={"os": "linux", "architecture": "amd64"}),
        described(MANIFEST, platform={"os": "linux", "architecture": "arm", "variant": "v7", "os.version": "1", "os.features": ["f"]}),
        described(MANIFEST, platform={"os": "unknown", "architecture": "unknown"}, artifactType="x/y")]}
    yield {"schemaVersion": 1, "fsLayers": []}
    yield config([DIGEST])


def archives():
    """Members end with an RS, names with a US; %dN, %hN and %sN tell of member N (src/image/archive/archive_fuzz.cc)."""
    def members(*files):
        return "\x1e".join(name + "\x1f" + (content if isinstance(content, str) else json.dumps(content)) for name, content in files).encode()

    names = {"annotations": {"io.containerd.image.name": "docker.io/library/x:1", "org.opencontainers.image.ref.name": "1"}}
    at = "blobs/sha256/%h"
    layout = ("oci-layout", {"imageLayoutVersion": "1.0.0"})
    image = manifest(described(CONFIG, "%d3", "@3"), [described(LAYER, "%d4", "@4")])

    def sized(*files):  # a size is no string
        return re.sub(rb'"@(\d)"', rb"%s\1", members(*files))

    def index(*entries):
        return ("index.json", {"schemaVersion": 2, "manifests": list(entries)})

    rest = [(at + "2", image), (at + "3", config(["%d4"])), (at + "4", "layer")]
    yield sized(layout, index(described(MANIFEST, "%d2", "@2", **names)), *rest)
    yield sized(layout, index(described(MANIFEST, "%d2", "@2", platform={"os": "linux", "architecture": "amd64"}),
                              described(MANIFEST, "%d5", "@5", platform={"os": "linux", "architecture": "arm64"})),
                *rest, (at + "5", image))
    listed = [{"Config": "%h3.json", "RepoTags": ["x:1"], "Layers": ["l/layer.tar", "k/layer.tar"]}]
    yield members(("manifest.json", listed), (">l/layer.tar", "../%h4.tar"), ("=k/layer.tar", "%h4.tar"), ("%h3.json", config(["%d4"])),
                  ("%h4.tar", "layer"))
    yield sized(layout, index(described(MANIFEST, "%d2", "@2", **names)), *rest,
                ("manifest.json", [{"Config": at + "3", "RepoTags": ["y:1"], "Layers": [at + "4"]}]))
    yield members((">a", "b"), (">b", "a"), ("oci-layout", "{}"))
    yield from (b"T" + one for one in tars())
    yield b"Rfile\0name\x001\x005\0" + DIGEST.encode() + b"\0link\0a\0name\0"
    yield b'R{"error":{"code":"data_loss","message":"m"}}'


TEXTS = {
    "auth_file_fuzz": [json.dumps({"auths": {"registry.example": {"auth": base64.b64encode(b"u:p").decode()}, "https://index.docker.io/v1/": {
        "username": "u", "password": "p", "identitytoken": "t", "registrytoken": "r"}, "registry.example/team": {"auth": "dTpw"}},
        "credHelpers": {"x.example": "pass"}, "credsStore": "secretservice"}), json.dumps({"ServerURL": "s", "Username": "<token>", "Secret": "x"})],
    "hosts_toml_fuzz": ['server = "https://a"\n[host."https://m:5000/v2"]\n  capabilities = ["pull", "resolve", "push"]\n  ca = ["c.crt", "/d"]\n'
                        '  client = [["c.cert", "c.key"]]\n  skip_verify = true\n  override_path = true\n  dial_timeout = "3s"\n'
                        '  [host."https://m:5000/v2".header]\n    x = ["1", "2"]\n'],
    "policy_fuzz": [json.dumps({"default": [{"type": "reject"}], "transports": {"docker": {
        "registry.example": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k", "signedIdentity": {"type": "matchRepository"}}],
        "registry.example/team/app:v1": [{"type": "sigstoreSigned", "keyData": "LS0t", "signedIdentity": {
            "type": "remapIdentity", "prefix": "registry.example", "signedPrefix": "other.example"}}],
        "*.example": [{"type": "insecureAcceptAnything"}], "": [{"type": "signedBy", "keyType": "GPGKeys", "keyPaths": ["/a", "/b"], "signedIdentity": {
            "type": "exactReference", "dockerReference": "a.example/b:c"}}]}}}),
        "docker:\n  registry.example:\n    lookaside: https://l.example/sigs\n    use-sigstore-attachments: true\ndefault-docker:\n  sigstore: file:///s\n",
        json.dumps({"critical": {"identity": {"docker-reference": "registry.example:5000/team/app:v1"}, "image": {"docker-manifest-digest": DIGEST},
                                 "type": "cosign container image signature"}, "optional": {"creator": "x", "timestamp": 1}})],
    "reference_fuzz": ["busybox", "docker.io/library/a:1", "[::1]:5000/a/b__c@" + DIGEST, "localhost/x:T@sha512:" + "a" * 128, "a.b/c-d.e_f:v"],
    "token_fuzz": ['{"token":"t","access_token":"a","expires_in":60,"issued_at":"2024-01-01T00:00:00Z","refresh_token":"r"}',
                   '{"errors":[{"code":"DENIED","message":"m","detail":{"a":[1]}}]}', "../x?y=z#f", "//h:1/p", "https://u:p@h/"],
    "www_authenticate_fuzz": ['Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push",error="invalid_token"',
                              'Basic realm="a \\"b\\"", Bearer realm=x', "Negotiate YWJj==, NTLM", 'a b="c" , , d'],
}


def seeds(name):
    """The inputs for a fuzzer: bytes."""
    made = {"tar_fuzz": tars, "erofs_fuzz": tars, "inflate_fuzz": gzips, "archive_fuzz": archives,
            "image_fuzz": lambda: (json.dumps(one).encode() for one in documents())}
    if name in made:
        return list(made[name]())
    return [text.encode() for text in TEXTS.get(name, [])]


def write(name, folder):
    """Puts them into a folder, which is made; False when there are none."""
    inputs = seeds(name)
    if inputs:
        os.makedirs(folder, exist_ok=True)
    for number, one in enumerate(inputs):
        with open(os.path.join(folder, f"seed-{number:02}"), "wb") as to:
            to.write(one)
    return bool(inputs)
