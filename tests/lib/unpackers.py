"""The root that each of several tools makes of an image: fluyt, umoci, skopeo (containers/storage)."""

import contextlib
import ctypes
import json
import os
import subprocess
import tempfile

import harness
import images


def layout_of(layers, folder):
    """An OCI layout of plain layers; the image's name is `latest`."""
    image = images.Image(layers, {"Env": [images.PATH_ENV], "Cmd": ["sh"]}, level=1)
    images.write_layout(image, folder, "latest")
    return folder


@contextlib.contextmanager
def overlay(layers):
    """Folders (topmost first) as one read-only tree."""
    if len(layers) == 1:
        yield layers[0]
        return
    place = tempfile.mkdtemp(prefix="fluyt-tree-")
    top = os.path.commonpath(layers)
    names = ":".join(os.path.relpath(layer, top) for layer in layers)
    subprocess.run(["mount", "-t", "overlay", "-o", "ro,lowerdir=" + names, "none", place], check=True, cwd=top)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
        os.rmdir(place)


def run(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                          timeout=300)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.decode(errors='replace').strip()[-500:]}")
    return done.stdout


@contextlib.contextmanager
def fluyt(engine, layers, layout, name):
    """A container's root on the image, whose program is none: it is looked at, not run."""
    engine.fluyt("import", "-q", "--name", name, layout)
    image = engine.root + "/image"
    chain, stack = "", []
    for data in layers:
        diff_id = images.digest_of(data).split(":")[1]
        chain = images.digest_of(f"sha256:{chain} sha256:{diff_id}".encode()).split(":")[1] if chain else diff_id
        stack += [f"{image}/layers/{diff_id}/fs", f"{image}/fixups/{chain}/fs"]
    with contextlib.ExitStack() as ends:
        ends.callback(engine.fluyt, "rmi", name)
        for folder in stack:
            # fluytd mounts a layer when it needs it, and takes over what is mounted.
            if os.path.exists(os.path.dirname(folder) + "/layer.erofs") and not os.path.ismount(folder):
                mount_image(os.path.dirname(folder) + "/layer.erofs", folder)
                ends.callback(subprocess.run, ["umount", folder], check=True)
        yield ends.enter_context(overlay([folder for folder in stack if os.path.isdir(folder)][::-1]))


def mount_image(file, folder):
    """Without a loop device, which mount(8) would make."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(file.encode(), folder.encode(), b"erofs", 1, None) != 0:  # MS_RDONLY
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), file)


@contextlib.contextmanager
def umoci(layout, work):
    run("umoci", "raw", "unpack", "--image", layout + ":latest", work + "/umoci")
    try:
        yield work + "/umoci"
    finally:
        run("rm", "-rf", work + "/umoci")


@contextlib.contextmanager
def skopeo(layout, work):
    store = work + "/storage"
    try:
        run("skopeo", "--insecure-policy", "copy", f"oci:{layout}:latest",
            f"containers-storage:[overlay@{store}+{work}/run]localhost/tree:latest")
        with open(store + "/overlay-layers/layers.json", encoding="utf-8") as file:
            layers = {layer["id"]: layer for layer in json.load(file)}
        with open(store + "/overlay-images/images.json", encoding="utf-8") as file:
            at = json.load(file)[0]["layer"]
        stack = []
        while at:
            stack.append(f"{store}/overlay/{at}/diff")
            at = layers[at].get("parent")
        with overlay(stack) as place:
            yield place
    finally:
        subprocess.run(["umount", store + "/overlay"], check=False, stderr=subprocess.DEVNULL)  # on itself, by the driver
        run("rm", "-rf", store, work + "/run")
