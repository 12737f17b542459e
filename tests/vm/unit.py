"""fluyt's Debian package under systemd (unit.sh): installed, its unit restarted, stopped, hung, upgraded and removed under pods, and
containers that run out of memory. FLUYT_OOM_ROUNDS says how often (10), FLUYT_PARTS which parts of unit.sh alone.
"""

import os
import subprocess
import sys

import debian
import machine

sys.path.insert(0, os.path.join(machine.ROOT, "tests", "lib"))
import images  # noqa: E402  (found there)

LIMIT_S = 7200


def package(folder, revision):
    """A Debian package of the release build; the folder that holds it alone."""
    command = [sys.executable, "-B", os.path.join(machine.ROOT, "packaging", "package.py"), folder]
    print("+", *command, flush=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "FLUYT_REVISION": revision})
    only = machine.WORK + "/deb" + revision
    os.makedirs(only, exist_ok=True)
    for name in os.listdir(only):
        os.remove(f"{only}/{name}")
    name = next(name for name in os.listdir(folder) if name.endswith(f"-{revision}_amd64.deb"))
    os.link(f"{folder}/{name}", f"{only}/{name}")
    return only


def files():
    built = machine.WORK + "/package"
    image = machine.WORK + "/busybox"
    images.write_layout(images.Image([images.busybox_layer()], {"Cmd": ["sh"], "Env": [images.PATH_ENV]}), image, "latest")
    return {"first": package(built, "1"), "second": package(built, "2"), "image": image,
            "crictl": os.path.join(machine.ROOT, "build", "tools", "crictl")}


def run():
    with open(os.path.join(machine.HERE, "unit.sh"), encoding="utf-8") as file:
        script = file.read()
    said = [f"{name}='{os.environ['FLUYT_' + name]}'\n" for name in ("OOM_ROUNDS", "PARTS") if os.environ.get("FLUYT_" + name)]
    yield from debian.run(files(), "".join(said) + script, limit_s=LIMIT_S)
