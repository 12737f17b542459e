"""A small disk that fills in the middle of a layer, by bytes and by inodes: the error, and the space afterwards. And one
whose writes get lost behind the back of who wrote them. Prints one JSON object."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import disk as disks  # noqa: E402  (found beside this file)
import engines  # noqa: E402
import harness  # noqa: E402  (found in tests/lib)
import images  # noqa: E402
import trees  # noqa: E402


def make_images(registry):
    """small fits; zeros are 150 MB from a blob of 150 KB, and names 40,000 empty files: neither shows before it is unpacked.
    large is what it seems."""
    entry = images.Entry
    made = {
        "small": [images.layer([entry("small", data=os.urandom(2_000_000))])],
        "zeros": [images.layer([entry(f"zero/{i}", data=bytes(5_000_000)) for i in range(30)])],
        "names": [images.layer([entry("n", "d")] + [entry(f"n/{i}") for i in range(40_000)])],
        "large": [images.layer([entry(f"large/{i}", data=os.urandom(4_000_000)) for i in range(15)])],
    }
    out = {}
    for name, layers in made.items():
        out[f"{registry.address}/full/{name}:latest"] = image = images.Image(layers, {"Cmd": ["sh"]}, level=1)
        images.push(image, registry.address, "full/" + name, "latest")
    return out


def room(folder):
    info = os.statvfs(folder)
    return {"bytes": info.f_bavail * info.f_frsize, "inodes": info.f_favail}


def is_right(engine, made, name):
    with engine.tree(name, made[name]) as place:
        return not trees.differences(trees.of_layers(made[name].layers), trees.read(place), ("kind", "mode", "content"))


def refused(engine, folder, name):
    """What a pull that does not fit says, how long it takes, and what it leaves."""
    before = room(folder)
    began = time.monotonic()
    try:
        engine.pull(name)
        error = None
    except engines.Failed as failed:
        error = str(failed)
    took = time.monotonic() - began
    # What failed is removed behind the error; and a file that the kernel was just writing back keeps its blocks until
    # that has ended.
    def is_free():
        now = room(folder)
        return before["bytes"] - now["bytes"] < 100_000 and before["inodes"] - now["inodes"] <= 2
    with contextlib.suppress(TimeoutError):
        harness.wait_for(is_free, "blocks and inodes to be free", 20)
    after = room(folder)
    return {"error": error, "seconds": round(took, 2), "bytes lost": before["bytes"] - after["bytes"],
            "inodes lost": before["inodes"] - after["inodes"], "left": engine.unaccounted()}


def fill(work, made):
    """The two refusals, with an image before and after them that is as it should be."""
    names = {name.split("/")[-1].split(":")[0]: name for name in made}
    disk = disks.Disk(work, "ext4", 120)
    engine = engines.Fluyt(work, disk.mount_point)
    try:
        engine.start()
        engine.pull(names["small"])
        subprocess.run(["sync"], check=True)
        out = {"zeros": refused(engine, disk.mount_point, names["zeros"]), "names": refused(engine, disk.mount_point, names["names"])}
        out["small is right"] = is_right(engine, made, names["small"])
        engine.remove(names["small"])
        engine.pull(names["small"])
        out["small is right when pulled again"] = is_right(engine, made, names["small"])
        return out
    finally:
        engine.power_off()
        disk.close()


def kernel_log():
    """The kernel's lines with the seconds that they begin with; none where it may not be read."""
    done = subprocess.run(["dmesg"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace", check=False)
    lines = (line.partition("]") for line in done.stdout.splitlines() if line.startswith("["))
    return [(float(stamp[1:]), text) for stamp, _, text in lines]


def lost_writes(disk, since):
    """What the kernel says of them, so that the test cannot pass for having lost none: errors that ext4 counts (of metadata), and
    the lines that it and the block layer log (of data)."""
    device = os.path.basename(disk.device)
    with open(f"/sys/fs/ext4/{device}/errors_count", encoding="ascii") as file:
        counted = int(file.read())
    logged = sum(stamp > since and device in text and ("I/O error" in text or "potential data loss" in text) for stamp, text in kernel_log())
    with open("/proc/self/mounts", encoding="utf-8") as file:
        options = next(line.split()[3] for line in file if line.split()[1] == disk.mount_point)
    return {"errors": counted + logged, "read-only": "ro" in options.split(",")}


def lose(work, made):
    """A disk that says yes and has no room: a sparse file on a tmpfs. Write-back fails after the pull was answered."""
    names = {name.split("/")[-1].split(":")[0]: name for name in made}
    thin = work + "/thin"
    os.makedirs(thin)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=70m", "none", thin], check=True)
    disk = engine = None
    since = max((stamp for stamp, _ in kernel_log()), default=0.0)
    try:
        # Its own tables and journal written out, so that only data finds no room.
        disk = disks.Disk(thin, "ext4", 300, ["-E", "lazy_itable_init=0,lazy_journal_init=0", "-J", "size=8"])
        engine = engines.Fluyt(work, disk.mount_point)
        engine.start()
        engine.pull(names["small"])
        harness.wait_for(lambda: engine.durable(), "the small image to be durable")
        with contextlib.suppress(engines.Failed):
            engine.pull(names["large"])
        subprocess.run(["sync"], check=True)
        with contextlib.suppress(engines.Failed):
            engine.pull(names["large"])
        out = {"lost": lost_writes(disk, since)}
        subprocess.run(["mount", "-o", "remount,size=400m", thin], check=True)
        engine.power_off()  # ext4 may have gone read-only: that ends with the mount
        disk.unmount()
        disk.mount()
        engine.start()
        out["right after it"] = {name.split("/")[-1]: is_right(engine, made, name) for name in engine.listed()}
        engine.pull(names["large"])
        out["large is right when pulled again"] = is_right(engine, made, names["large"])
        out["left"] = engine.unaccounted()
        return out
    finally:
        if engine is not None:
            engine.power_off()
        if disk is not None:
            disk.close()
        subprocess.run(["umount", thin], check=False)


def main():
    with tempfile.TemporaryDirectory(prefix="fluyt-full-") as work:
        registry = harness.Registry(work + "/registry")
        try:
            made = make_images(registry)
            print(json.dumps({"fill": fill(work, made), "lose": lose(work, made)}))
        finally:
            registry.stop()


if __name__ == "__main__":
    main()
