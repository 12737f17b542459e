"""Every image that the official CRI suite (critest 1.36) asks for, rebuilt from Debian packages and pushed to a
registry on loopback under its original repository name; mirrors in hosts.toml lead there.

Run as: critest_images.py REGISTRY(host:port) WORKDIR
"""

import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import images  # noqa: E402  (found beside this file)
from images import Entry, Image, PATH_ENV  # noqa: E402

E2E = "e2e-test-images/"
TOOLS = "k8s-staging-cri-tools/"

PAUSE = """
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void leave(int s) { (void)s; _exit(0); }
static void reap(int s) { (void)s; while (waitpid(-1, 0, WNOHANG) > 0) {} }
int main(void) {
  signal(SIGINT, leave);
  signal(SIGTERM, leave);
  signal(SIGCHLD, reap);
  for (;;) pause();
}
"""
SHOW_UID = """
#include <stdio.h>
#include <unistd.h>
int main(void) { printf("Effective uid: %d\\n", geteuid()); return 0; }
"""
# What the suite's own busybox has and Debian's static one has not.
PGREP = b"""#!/bin/sh
for folder in /proc/[0-9]*; do
  read -r name <"$folder/comm" 2>/dev/null && [ "$name" = "$1" ] && { echo "${folder#/proc/}"; found=1; }
done
[ -n "$found" ]
"""
IPCS = b"#!/bin/sh\nexec cat /proc/sysvipc/shm\n"


def debian_tree(work):
    """A Debian userland with nginx, for the specs that serve HTTP and as a larger image for benchmarks. Made once; needs the network."""
    os.makedirs(work, exist_ok=True)
    tree = os.path.join(work, "debian")
    if not os.path.exists(tree + "/usr/sbin/nginx"):
        shutil.rmtree(tree, ignore_errors=True)
        command = ["debootstrap", "--variant=minbase", "--include=nginx-light", "bookworm", tree]
        if os.environ.get("MIRROR"):
            command.append(os.environ["MIRROR"])
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["sh", "-c", f"rm -rf {tree}/var/cache/apt/* {tree}/var/lib/apt/lists/* "
                        f"{tree}/dev/* {tree}/proc/* {tree}/sys/*"], check=True)
        page = "<h1>Welcome to nginx!</h1>\n"
        os.makedirs(tree + "/var/www/html", exist_ok=True)
        for path in ("/usr/share/nginx/html/index.html", "/var/www/html/index.html"):
            with open(tree + path, "w", encoding="utf-8") as file:
                file.write(page)
    # GNU grep calls /proc/PID/cmdline binary and prints nothing of it; the suite was written for busybox.
    shutil.copy(shutil.which("busybox"), tree + "/usr/bin/grep")
    return tree


def shell_layer(work):
    """A /bin/sh that executes /bin/ls as a file, as the suite's own busybox does: Debian's busybox-static runs its own
    applet instead, its dynamic busybox does not. The two cannot be installed side by side, so this one is only unpacked.
    Made once; needs the network."""
    folder = os.path.join(work, "busybox")
    program = os.path.join(folder, "bin", "busybox")
    if not os.path.exists(program):
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        subprocess.run(["apt-get", "download", "-q", "busybox"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        package = next(name for name in os.listdir(folder) if name.endswith(".deb"))
        subprocess.run(["dpkg-deb", "-x", package, "."], cwd=folder, check=True)
    needed = subprocess.run(["ldd", program], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    files = {"bin/sh": program, **{word.lstrip("/"): word for word in needed if word.startswith("/")}}
    folders = sorted({os.path.dirname(path) for path in files} - {"bin"} | {"lib"})
    entries = [Entry(path, "d", mode=0o755) for path in folders]
    for path, source in files.items():
        with open(source, "rb") as file:
            entries.append(Entry(path, data=file.read(), mode=0o755))
    return images.layer(entries)


def make(registry, work):
    os.makedirs(work, exist_ok=True)
    base = images.busybox_layer()
    env = {"Env": [PATH_ENV]}

    def push(image, name, *tags):
        images.push(image, registry, name, *tags)
        print(f"{name} {' '.join(tags)}", flush=True)

    def marked(name, data):
        return images.layer([Entry(name, data=data.encode())])

    commands = images.layer([Entry("usr/bin/pgrep", data=PGREP, mode=0o755), Entry("usr/bin/ipcs", data=IPCS, mode=0o755)])
    push(Image([base, shell_layer(work), commands], {**env, "Cmd": ["sh"]}), E2E + "busybox", "1.29-2")
    page = images.layer([Entry("www", "d", mode=0o755),
                         Entry("www/index.html", data=b"<html><body><h1>It works!</h1></body></html>\n")])
    push(Image([base, page], {**env, "Cmd": ["sh", "-c", "echo httpd: serving /www; exec httpd -f -p 80 -h /www"]}), E2E + "httpd", "2.4.39-4")
    pause = images.static_program(PAUSE, work, "pause")
    push(Image([images.layer([Entry("pause", data=pause, mode=0o755)])],
               {**env, "Entrypoint": ["/pause"], "User": "65535:65535"}), "pause", "3.9", "3.10", "3.10.1", "3.10.2")
    uid = images.static_program(SHOW_UID, work, "nnp")
    push(Image([base, images.layer([Entry("nnp", data=uid, mode=0o4755)])],
               {**env, "User": "1000", "Entrypoint": ["/nnp"]}), E2E + "nonewprivs", "1.3")
    for name, tags in (("test-image-latest", ["latest"]), ("test-image-tag", ["test"]), ("test-image-tag", ["all"]),
                       ("test-image-1", ["latest"]), ("test-image-2", ["latest"]), ("test-image-3", ["latest"]),
                       ("test-image-tags", ["1", "2", "3"])):
        mark = f"{name}-{tags[0]}"
        push(Image([base, marked("t-" + mark, mark)], {**env, "Cmd": ["sh"]}), TOOLS + name, *tags)
    users = images.busybox_layer("www-data:x:33:33::/var/www:/bin/false\n", "www-data:x:33:\nusers:x:100:\n")
    for kind, user in (("uid", "1002"), ("username", "www-data"), ("uid-group", "1003:users"),
                       ("username-group", "www-data:100")):
        push(Image([users, marked("u-" + kind, user)], {**env, "Cmd": ["sh"], "User": user}),
             TOOLS + "test-image-user-" + kind, "latest")
    groups = images.busybox_layer("default-user:x:1000:1000::/home:/bin/sh\n",
                                  "default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n")
    push(Image([groups], {**env, "Cmd": ["sh"], "User": "1000"}), TOOLS + "test-image-predefined-group", "latest")
    tree = images.tree_layer(debian_tree(work))
    config = {**env, "Cmd": ["nginx", "-g", "daemon off;"], "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT"}
    push(Image([tree], config), E2E + "nginx", "1.14-2")
    site = b"server { listen 12003; location / { root /var/www/html; index index.html; } }\n"
    push(Image([tree, images.layer([Entry("etc/nginx/sites-enabled/default", data=site)])], config),
         TOOLS + "hostnet-nginx-amd64", "latest")


if __name__ == "__main__":
    debian_tree(sys.argv[1])
    shell_layer(sys.argv[1])
