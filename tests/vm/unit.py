"""fluyt's Debian package under systemd (unit.sh): installed, its unit restarted, stopped, hung, upgraded and removed under pods, and
containers that run out of memory. FLUYT_OOM_ROUNDS says how often (10), arguments which parts of unit.sh alone.
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
    """A Debian package of the release build; the folder that holds it alone. What was made of the same programs before is kept."""
    only = f"{machine.WORK}/deb{revision}"
    os.makedirs(only, exist_ok=True)
    sources = [os.path.join(top, name) for where in (machine.RELEASE + "/bin", os.path.join(machine.ROOT, "packaging"))
               for top, _, names in os.walk(where) for name in names]
    made = [f"{only}/{name}" for name in os.listdir(only)]
    if made and max(map(os.path.getmtime, sources)) < os.path.getmtime(made[0]):
        return only
    command = [sys.executable, "-B", os.path.join(machine.ROOT, "packaging", "package.py"), folder]
    print("+", *command, flush=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "FLUYT_REVISION": revision})
    for path in made:
        os.remove(path)
    name = next(name for name in os.listdir(folder) if name.endswith(f"-{revision}_amd64.deb"))
    os.link(f"{folder}/{name}", f"{only}/{name}")
    return only


def files(packages=("first", "second")):
    """The payload of common.sh with these packages of fluyt, "first" and "second"."""
    os.makedirs(machine.WORK, exist_ok=True)
    built = machine.WORK + "/package"
    image = machine.WORK + "/busybox"
    images.write_layout(images.Image([images.busybox_layer()], {"Cmd": ["sh"], "Env": [images.PATH_ENV]}), image, "latest")
    revisions = {"first": "1", "second": "2"}
    return {**{name: package(built, revisions[name]) for name in packages}, "image": image,
            "common.sh": os.path.join(machine.HERE, "common.sh"), "crictl": os.path.join(machine.ROOT, "build", "tools", "crictl")}


def run(parts):
    with open(os.path.join(machine.HERE, "unit.sh"), encoding="utf-8") as file:
        script = file.read()
    said = f"OOM_ROUNDS={os.environ.get('FLUYT_OOM_ROUNDS', 10)} PARTS='{' '.join(parts)}'\n"
    yield from debian.run(files(), said + script, limit_s=LIMIT_S)
