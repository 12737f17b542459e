"""What the virtual machines of the tests share: Debian's cloud kernel, and qemu in software emulation."""

import glob
import os
import shutil
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
WORK = os.path.join(ROOT, "build", "vm")
RELEASE = os.path.join(ROOT, "build", "release")


def missing_programs(names):
    return [name for name in names if shutil.which(name) is None]


def kernel():
    """Debian's cloud kernel, unpacked once: its tree and version."""
    tree = WORK + "/kernel"
    if not os.path.exists(tree + "/.complete"):
        shutil.rmtree(tree, ignore_errors=True)
        os.makedirs(tree)
        depends = subprocess.run(["apt-cache", "depends", "linux-image-cloud-amd64"], check=True,
                                 stdout=subprocess.PIPE, text=True).stdout
        package = next(word for word in depends.split() if word.startswith("linux-image-6"))
        subprocess.run(["apt-get", "download", "-q", package], check=True, cwd=tree)
        subprocess.run(["dpkg-deb", "-x", glob.glob(tree + "/*.deb")[0], tree], check=True)
        version = os.listdir(tree + "/lib/modules")[0]
        subprocess.run(["depmod", "-b", tree, version], check=True)
        open(tree + "/.complete", "w", encoding="ascii").close()
    return tree, os.listdir(tree + "/lib/modules")[0]


def copy_modules(tree, version, root, names):
    """Copies modules (files or folders below lib/modules/VERSION) and the lists that modprobe reads."""
    modules = f"{root}/lib/modules/{version}"
    source = f"{tree}/lib/modules/{version}"
    os.makedirs(modules, exist_ok=True)
    for name in os.listdir(source):
        if name.startswith("modules."):
            shutil.copy(f"{source}/{name}", modules)
    for name in names:
        path = f"{source}/{name}"
        if os.path.isdir(path):
            shutil.copytree(path, f"{modules}/{name}", dirs_exist_ok=True)
        elif os.path.exists(path):
            os.makedirs(os.path.dirname(f"{modules}/{name}"), exist_ok=True)
            shutil.copy(path, f"{modules}/{name}")


def pack(root, archive):
    subprocess.run(f"cd {root} && find . -print0 | cpio --null -o --quiet -H newc > {archive}", shell=True, check=True)


def boot(tree, archive, append, drives=(), memory_mib=3072, limit_s=900):
    """Yields the lines of the serial console until the machine is off or the limit has passed."""
    # What software emulation is slow at is left out: wide vectors, the page tables' isolation, and a check of the timer
    # that a busy host does not pass.
    command = ["timeout", str(limit_s), "qemu-system-x86_64", "-machine", "accel=tcg", "-cpu", "max,avx=off,avx2=off",
               "-smp", "2", "-m", str(memory_mib), "-nographic", "-no-reboot", "-nic", "none", "-kernel",
               glob.glob(tree + "/boot/vmlinuz-*")[0], "-initrd", archive, "-append",
               "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check " + append]
    for drive in drives:
        command += ["-drive", drive]
    print("+", *command, flush=True)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace")
    try:
        for line in process.stdout:
            yield line.rstrip()
        process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
