"""The kernel tests under cgroup v2: boots Debian's cloud kernel in qemu (software emulation is enough) on a root made of
busybox and the test programs with the libraries that they need. `./dev vm [TEST...]`; names are those of build/release/test.
`./dev vm systemd [TEST...]` does so on a Debian where systemd is pid 1 (debian.py), by default with the tests of its driver.
`./dev vm unit`, `critest`, `network`, `reset`, `selinux` and `bench` run what their files say there (unit.py, critest.py, and so on); with FLUYT_VM=uml,
Debian's User-mode Linux is the machine's kernel instead of qemu's.
"""

import glob
import os
import shutil
import subprocess
import sys

import bench
import critest
import debian
import machine
import network
import reset
import selinux
import unit

WORK, RELEASE = machine.WORK, machine.RELEASE
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
    machine.copy_modules(tree, version, root, MODULES)
    bins = RELEASE + "/bin"
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
    machine.pack(root, archive)
    return archive


SYSTEMD_SCRIPT = """systemctl --version | head -1; uname -r; cat /sys/fs/cgroup/cgroup.controllers
for name in overlay fuse veth bridge erofs; do modprobe $name; done
for test in test/*_test; do
  echo "== $(basename $test)"
  timeout 600 $test --gtest_brief=1 </dev/null 2>&1
  echo "== exit $?"
done
"""


def on_systemd(tests):
    files = {"test/" + os.path.basename(path): path for path in tests}
    files["bin"] = RELEASE + "/bin"
    return debian.run(files, SYSTEMD_SCRIPT)


def on_busybox(tests):
    tree, version = machine.kernel()
    return machine.boot(tree, make_root(tests, tree, version), "rdinit=/init")


def watch(lines):
    """Prints the console; the programs that failed, and whether the end was reached."""
    failed, ended, current = [], False, ""
    for line in lines:
        print(line, flush=True)
        if line.startswith("== exit "):
            if line.split()[2] != "0":
                failed.append(current)
        elif line.startswith("== all done"):
            ended = True
        elif line.startswith("== "):
            current = line.split()[1]
    return failed, ended


def main():
    names = sys.argv[1:]
    wholes = {"unit": unit.run, "critest": critest.run, "network": network.run, "reset": reset.run, "bench": bench.run,
              "selinux": selinux.run}
    whole = wholes.get(names[0]) if names else None
    with_systemd = names[:1] == ["systemd"] or whole is not None
    programs = ["cpio", "depmod"] + ([] if machine.is_uml() else ["qemu-system-x86_64"]) + (["debootstrap", "mke2fs"] if with_systemd else [])
    programs += ["secilc"] if whole is selinux.run else []
    missing = machine.missing_programs(programs)
    if missing:
        print("not found: " + ", ".join(missing) + "; `./dev setup vm` installs them")
        return 1
    if whole:
        failed, ended = watch(whole(names[1:]))
        print(f"failed: {', '.join(failed) or 'nothing'}{'' if ended else '; the machine did not come to its end'}")
        return 0 if ended and not failed else 1
    if with_systemd:
        names = names[1:] or ["runtime_cgroup", "runtime_cgroup_dbus"]
    names = names or TESTS
    tests = [path for path in (f"{RELEASE}/test/{name}_test" for name in names) if os.path.exists(path)]
    if not tests:
        print("no such tests: " + " ".join(names))
        return 1
    failed, ended = watch(on_systemd(tests) if with_systemd else on_busybox(tests))
    print(f"{len(tests) - len(failed)} programs passed, failed: {', '.join(failed) or 'none'}")
    return 0 if ended and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
