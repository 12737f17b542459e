"""The kernel tests under cgroup v2: boots Debian's cloud kernel in qemu (software emulation is enough) on a root made of
busybox and the test programs with the libraries that they need. `./dev vm [TEST...]`; names are those of build/release/test.
"""

import glob
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
WORK = os.path.join(ROOT, "build", "vm")
LIMIT_S = 900
# What needs a kernel below it; the rest gains nothing from another one.
TESTS = ("sys", "runtime_cgroup", "runtime_caps", "runtime_seccomp", "runtime", "monitor", "image_layer", "image_rootfs")
MODULES = ("kernel/fs/overlayfs", "kernel/fs/fuse", "kernel/fs/erofs", "kernel/net", "kernel/drivers/net/veth.ko",
           "kernel/drivers/net/dummy.ko", "kernel/drivers/net/ipvlan", "kernel/drivers/net/macvlan.ko", "kernel/lib",
           "kernel/crypto")

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
if [ ! -e /switched ]; then
  # pivot_root(2), which containers need, does not work on an initramfs: go on from a tmpfs.
  mkdir /new
  mount -t tmpfs -o size=2G,mode=755 tmpfs /new
  cp -a /bin /lib /lib64 /usr /etc /root /test /var /init /new/
  for name in proc sys dev tmp run; do mkdir /new/$name; done
  touch /new/switched
  exec switch_root /new /init
fi
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm; mount -t devpts devpts /dev/pts; mount -t tmpfs tmpfs /dev/shm; mount -t tmpfs tmpfs /tmp; mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for name in $(cat /sys/fs/cgroup/cgroup.controllers); do echo +$name >/sys/fs/cgroup/cgroup.subtree_control; done
for name in overlay fuse veth bridge erofs; do modprobe $name; done
ip link set lo up
export PATH=/bin HOME=/root
echo "kernel $(uname -r), controllers: $(cat /sys/fs/cgroup/cgroup.controllers)"
for test in /test/*_test; do
  echo "== $(basename $test)"
  timeout 300 $test --gtest_brief=1 </dev/null 2>&1
  echo "== exit $?"
done
echo "== all done"
poweroff -f
"""


def kernel():
    """Debian's cloud kernel, unpacked once."""
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


def libraries(program):
    out = subprocess.run(["ldd", program], check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return [word for word in out.split() if word.startswith("/")]


def make_root(tests, tree, version):
    root = WORK + "/root"
    shutil.rmtree(root, ignore_errors=True)
    for folder in ("bin", "proc", "sys", "dev", "tmp", "run", "root", "etc", "test", "var/tmp", "usr/bin"):
        os.makedirs(f"{root}/{folder}")
    shutil.copy(shutil.which("busybox"), root + "/bin/busybox")
    os.symlink("/bin/busybox", root + "/usr/bin/busybox")
    with open(root + "/etc/passwd", "w", encoding="ascii") as file:
        file.write("root:x:0:0:root:/root:/bin/sh\n")
    with open(root + "/init", "w", encoding="ascii") as file:
        file.write(INIT)
    os.chmod(root + "/init", 0o755)
    modules = f"{root}/lib/modules/{version}"
    source = f"{tree}/lib/modules/{version}"
    os.makedirs(modules)
    for name in os.listdir(source):
        if name.startswith("modules."):
            shutil.copy(f"{source}/{name}", modules)
    for name in MODULES:
        path = f"{source}/{name}"
        if os.path.isdir(path):
            shutil.copytree(path, f"{modules}/{name}")
        elif os.path.exists(path):
            os.makedirs(os.path.dirname(f"{modules}/{name}"), exist_ok=True)
            shutil.copy(path, f"{modules}/{name}")
    bins = os.path.join(ROOT, "build", "release", "bin")
    # Tests find the programs beside their own folder, as in the build tree.
    for program in glob.glob(bins + "/*") + tests:
        target = f"{root}/{'test' if program.endswith('_test') else 'bin'}/{os.path.basename(program)}"
        if os.path.basename(program) in ("fluytd", "fluyt"):
            continue
        shutil.copy(program, target)
        for library in libraries(program):
            place = root + library
            if not os.path.exists(place):
                os.makedirs(os.path.dirname(place), exist_ok=True)
                shutil.copy(os.path.realpath(library), place)
    archive = WORK + "/root.cpio"
    subprocess.run(f"cd {root} && find . -print0 | cpio --null -o --quiet -H newc > {archive}", shell=True, check=True)
    return archive


def main():
    for program in ("qemu-system-x86_64", "cpio", "depmod"):
        if shutil.which(program) is None:
            print(f"{program}: not found; install qemu-system-x86, cpio and kmod")
            return 1
    names = sys.argv[1:] or TESTS
    tests = [path for path in (os.path.join(ROOT, "build", "release", "test", f"{name}_test") for name in names)
             if os.path.exists(path)]
    if not tests:
        print("no such tests: " + " ".join(names))
        return 1
    tree, version = kernel()
    archive = make_root(tests, tree, version)
    command = ["qemu-system-x86_64", "-machine", "accel=tcg", "-cpu", "max", "-smp", "2", "-m", "3072", "-nographic",
               "-no-reboot", "-nic", "none", "-kernel", glob.glob(tree + "/boot/vmlinuz-*")[0], "-initrd", archive,
               "-append", "console=ttyS0 quiet panic=-1 rdinit=/init"]
    print("+", *command, flush=True)
    failed, ended = [], False
    process = subprocess.Popen(["timeout", str(LIMIT_S), *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               text=True, errors="replace")
    current = ""
    for line in process.stdout:
        print(line.rstrip(), flush=True)
        if line.startswith("== exit "):
            if line.split()[2] != "0":
                failed.append(current)
        elif line.startswith("== all done"):
            ended = True
        elif line.startswith("== "):
            current = line.split()[1]
    process.wait()
    print(f"{len(tests) - len(failed)} programs passed, failed: {', '.join(failed) or 'none'}")
    return 0 if ended and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
