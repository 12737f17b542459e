"""A store on a disk that cannot write some blocks, or cannot read them back: one error that names what it is about, and nothing else affected."""

import contextlib
import json
import os
import subprocess
import sys

import harness
import images
import pytest

pytestmark = pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="no /dev/fuse")
DISK_BYTES = 256 << 20
WORD = b"what-the-disk-does-not-hold."
FILE_BYTES = 1 << 20


class Node:
    """fluytd whose store is on an ext4 of its own, on a loop device whose file fails as `arm` says."""

    def __init__(self, folder, settings, ends):
        os.makedirs(folder + "/fuse")
        with open(folder + "/backing", "wb") as file:
            file.truncate(DISK_BYTES)
        self.armed = folder + "/armed"
        self.arm("")
        program = os.path.join(harness.ROOT, "tests", "lib", "faulty_disk.py")
        disk = subprocess.Popen([sys.executable, program, folder + "/fuse", folder + "/backing", self.armed], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE)
        ends.callback(harness.stop_process, disk)
        assert disk.stdout.readline() == b"mounted\n"
        ends.callback(subprocess.run, ["umount", folder + "/fuse"], check=False)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0", folder + "/fuse/disk"], check=True)
        self.loop = subprocess.run(["losetup", "--find", "--show", folder + "/fuse/disk"], check=True, stdout=subprocess.PIPE,
                                   text=True).stdout.strip()
        ends.callback(subprocess.run, ["losetup", "--detach", self.loop], check=False)
        with open(f"/sys/block/{os.path.basename(self.loop)}/queue/nomerges", "w", encoding="ascii") as file:
            file.write("2")  # what fails fails alone
        self.engine = harness.Engine(folder + "/engine", network=None, settings=settings)
        os.makedirs(self.engine.root)
        subprocess.run(["mount", self.loop, self.engine.root], check=True)
        ends.callback(subprocess.run, ["umount", self.engine.root], check=False)
        os.chmod(self.engine.root, 0o711)
        ends.callback(self.engine.close)
        self.engine.start()

    def arm(self, what):
        with open(self.armed + ".new", "w", encoding="utf-8") as file:
            file.write(f"{what} {WORD.decode()}\n" if what else "")
        os.rename(self.armed + ".new", self.armed)

    def names(self):
        return {tag for line in json.loads(self.engine.fluyt("images", "--format", "json").stdout) for tag in line["repoTags"]}

    def details(self, name):
        return json.loads(self.engine.fluyt("inspect", "--type", "image", name).stdout)

    def wait_until_durable(self, name):
        harness.wait_for(lambda: all(layer["durable"] for layer in self.details(name)["layers"]), f"{name} to be durable", 30)

    def log(self):
        with open(self.engine.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def used(self):
        status = os.statvfs(self.engine.root)
        return (status.f_blocks - status.f_bfree) * status.f_frsize

    def forget_pages(self, path):
        """What the kernel has of a file in memory."""
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.fixture
def node(tmp_path, request):
    with contextlib.ExitStack() as ends:
        form, keep_blobs = request.param
        yield Node(str(tmp_path), f'[image]\nlayer_form = "{form}"\nkeep_blobs = "{keep_blobs}"\n', ends)


def push(registry, name, data, level=6):
    image = images.Image([images.layer([images.Entry("data", data=data)])], {"Cmd": ["sh"]}, level)
    images.push(image, registry.address, "disk/" + name, "1")
    return f"{registry.address}/disk/{name}:1"


def stores(*keep_blobs):
    return pytest.mark.parametrize("node", [(form, keep) for form in ("directory", "erofs") for keep in keep_blobs], indirect=True,
                                   ids="-".join)


@stores("pushable")
def test_what_cannot_be_written_is_dropped_and_named(node, registry):
    good, bad = push(registry, "good", os.urandom(FILE_BYTES)), push(registry, "bad", WORD * (FILE_BYTES // len(WORD)))
    node.engine.fluyt("pull", good)
    node.wait_until_durable(good)
    before = node.used()
    node.arm("write")
    pulled = node.engine.fluyt("pull", bad, check=False)  # which may be told already, or not yet
    if pulled.returncode != 0:
        assert "the disk lost writes meanwhile" in pulled.stderr, pulled.stderr
    harness.wait_for(lambda: "image: the disk lost writes: layers that are not durable yet are discarded: " in node.log().replace('"', ""),
                     "the lost writes to be seen", 30)
    assert "Input/output error" in node.log()
    harness.wait_for(lambda: node.names() == {good}, "the image to be dropped", 30)
    assert node.engine.fluyt("image", "verify", good).stdout.endswith("all is well\n")
    node.arm("")
    harness.wait_for(lambda: not os.path.exists(node.engine.state + "/image-lost-writes"), "all of it to be gone", 30)
    node.engine.fluyt("gc")
    subprocess.run(["sync", "-f", node.engine.root], check=False)  # ext4 gives blocks back with its journal
    assert node.used() < before + (FILE_BYTES // 2)
    node.engine.fluyt("pull", bad)
    node.wait_until_durable(bad)
    assert node.engine.fluyt("image", "verify", "--all").stdout.endswith("all is well\n")


@stores("pushable", "never")
def test_what_cannot_be_read_is_damage_of_one_image(node, registry):
    """In its tree, whether that is held against its blob or against its manifest; it is mended from where it came."""
    good, bad = push(registry, "good", os.urandom(FILE_BYTES)), push(registry, "bad", WORD * (FILE_BYTES // len(WORD)))
    for name in (good, bad):
        node.engine.fluyt("pull", name)
        node.wait_until_durable(name)
    layer = node.details(bad)["layers"][0]["diffId"].split(":")[1]
    folder = f"{node.engine.root}/image/layers/{layer}"
    file = folder + "/layer.erofs" if os.path.exists(folder + "/layer.erofs") else folder + "/fs/data"
    node.forget_pages(file)
    node.arm("read")
    found = node.engine.fluyt("image", "verify", "--all", check=False)
    assert found.returncode == 1, found
    assert "Input/output error" in found.stdout and f"of {bad}" in found.stdout and good not in found.stdout, found.stdout
    assert node.engine.fluyt("image", "verify", good).stdout.endswith("all is well\n")
    mended = node.engine.fluyt("image", "verify", "--repair", bad, check=False)
    assert "mended: " in mended.stdout, (mended, found.stdout)
    node.arm("")
    assert node.engine.fluyt("image", "verify", "--all").stdout.endswith("all is well\n")


@stores("pushable")
def test_a_blob_that_cannot_be_read_is_named(node, registry, tmp_path):
    good, bad = push(registry, "good", os.urandom(FILE_BYTES)), push(registry, "stored", WORD * (FILE_BYTES // len(WORD)), level=0)
    for name in (good, bad):
        node.engine.fluyt("pull", name)
        node.wait_until_durable(name)
    blob = node.details(bad)["layers"][0]["digest"]
    node.forget_pages(f"{node.engine.root}/image/blobs/sha256/{blob.split(':')[1]}")
    node.arm("read")
    refused = node.engine.fluyt("save", "-o", str(tmp_path / "saved.tar"), bad, check=False)
    assert refused.returncode != 0
    assert blob in refused.stderr and "Input/output error" in refused.stderr, refused.stderr
    assert not [name for name in os.listdir(tmp_path) if name.startswith("saved")]
    node.engine.fluyt("save", "-o", str(tmp_path / "saved.tar"), good)
    found = node.engine.fluyt("image", "verify", "--all", check=False)
    assert found.returncode == 1, found
    assert blob.split(":")[1][:12] in found.stdout and "Input/output error" in found.stdout and good not in found.stdout, found.stdout
