"""What the virtual machines of the tests share: Debian's cloud kernel in qemu's software emulation, and, with FLUYT_VM=uml, Debian's
User-mode Linux: a kernel that is a process of this host. It runs programs at this processor's speed, has one processor, and of
nftables neither inet tables nor NAT."""

import contextlib
import glob
import os
import shutil
import signal
import subprocess
import time

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
        depends = subprocess.run(["apt-cache", "depends", "linux-image-cloud-amd64"], check=True,
                                 stdout=subprocess.PIPE, text=True).stdout
        package = next(word for word in depends.split() if word.startswith("linux-image-6"))
        _unpack_package(tree, package)
        version = os.listdir(tree + "/lib/modules")[0]
        subprocess.run(["depmod", "-b", tree, version], check=True)
        open(tree + "/.complete", "w", encoding="ascii").close()
    return tree, os.listdir(tree + "/lib/modules")[0]


def is_uml():
    return os.environ.get("FLUYT_VM") == "uml"


def _unpack_package(tree, package):
    shutil.rmtree(tree, ignore_errors=True)
    os.makedirs(tree)
    subprocess.run(["apt-get", "download", "-q", package], check=True, cwd=tree)
    subprocess.run(["dpkg-deb", "-x", glob.glob(tree + "/*.deb")[0], tree], check=True)


def uml():
    """User-mode Linux, unpacked once: its program and the folder of its modules, with its version as the last name."""
    tree = WORK + "/uml"
    if not os.path.exists(tree + "/.complete"):
        _unpack_package(tree, "user-mode-linux")
        open(tree + "/.complete", "w", encoding="ascii").close()
    return tree + "/usr/bin/linux.uml", glob.glob(tree + "/usr/lib/uml/modules/*")[0]


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
    yield from _console(command)


def boot_uml(archive, append, folder, drives, memory_mib=3072, limit_s=900):
    """The same with User-mode Linux; `drives` are its ubd options, `folder` is for its own files."""
    program, _ = uml()
    command = ["timeout", str(limit_s), program, f"mem={memory_mib}M", f"uml_dir={folder}/uml", f"initrd={archive}", *drives,
               "con=null", "ssl=null", "ssl0=null,fd:1", "console=ttyS0", "quiet", "panic=-1", "security=apparmor", *append.split()]
    yield from _console(command)


def _console(command):
    """The lines that a machine says. One that is not read to its end is cut off: nothing of it is written any more."""
    print("+", *command, flush=True)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               errors="replace")
    try:
        for line in process.stdout:
            yield line.rstrip()
        process.wait()
    finally:
        if process.poll() is None:
            _cut_off(process)


def _cut_off(process):
    """Ends timeout(1) and what it started, which may be a session of its own, and waits until its files are free."""
    with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as file:
        groups = {os.getpgid(int(pid)) for pid in file.read().split()} | {os.getpgid(process.pid)}
    for group in groups - {os.getpgid(0)}:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    process.wait()
    for _ in range(300):
        if not any(_is_there(group) for group in groups - {os.getpgid(0)}):
            return
        time.sleep(0.1)


def _is_there(group):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, 0)
        return True
    return False
