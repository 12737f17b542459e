"""What the engines' tests share. They run as root of a tree that run.py made: everything here is private and short-lived."""

import contextlib
import glob
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import tarfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import images  # noqa: E402  (found in tests/lib)

RUNTIME = os.environ["FLUYT_RUNTIME"]  # runf or rung
RUNF = os.environ["FLUYT_BIN"] + "/" + RUNTIME
SUITE = os.environ["FLUYT_PEERS"]
IMAGE = "docker.io/fluyt/busybox:latest"


def host_pids(asked):
    """pids.max of the cgroup where so many were asked for (docs/rung.md, Limits)."""
    return str(asked if RUNTIME == "runf" else asked * 4 + 64)


def wait_for(condition, what, seconds=20.0):
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"gave up after {seconds} s: {what}")
        time.sleep(0.05)


class Done:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


def sh(*command, code=0, text=None, seconds=60):
    """Runs to the end; `code` is the exit status that must come, None for any."""
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=seconds,
                          input=text, text=True, **({} if text is not None else {"stdin": subprocess.DEVNULL}))
    if code is not None and done.returncode != code:
        raise AssertionError(f"{' '.join(command)}: exit {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}")
    return Done(done.returncode, done.stdout, done.stderr)


def on_terminal(command, typed, seconds=30):
    """Runs `command` on a new terminal, types `typed` once there is a prompt; (exit status, all that was shown)."""
    child, master = pty.fork()
    if child == 0:
        os.execvp(command[0], command)
    shown, sent = b"", False
    end = time.monotonic() + seconds
    try:
        while True:
            ready, _, _ = select.select([master], [], [], 0.2)
            if ready:
                try:
                    some = os.read(master, 65536)
                except OSError:  # EIO: nobody has it open any more
                    break
                if not some:
                    break
                shown += some
            if not sent and b"# " in shown:
                os.write(master, typed.encode())
                sent = True
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                raise TimeoutError(f"{' '.join(command)}: no end after {seconds} s; it showed {shown!r}")
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown.decode(errors="replace")
    finally:
        os.close(master)


def start_daemon(command, log):
    with open(log, "ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True)


def stop_daemon(process):
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


def tail(log, lines=40):
    with contextlib.suppress(OSError):
        with open(log, encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-lines:])
    return ""


def docker_archive(image, name, path):
    """What `docker load`, `podman load` and `ctr images import` take."""
    _, blobs = images.build(image)
    config = next(data for data in blobs.values() if data[:1] == b"{")
    entries = [("config.json", config)]
    entries += [(f"{i}/layer.tar", data) for i, data in enumerate(image.layers)]
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": [name for name, _ in entries[1:]]}]
    entries.append(("manifest.json", json.dumps(manifest).encode()))
    with tarfile.open(path, "w") as tar:
        for place, data in entries:
            info = tarfile.TarInfo(place)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def cgroup_dirs():
    """Every cgroup of ours below the roots, in all hierarchies."""
    found = set()
    for top in glob.glob("/sys/fs/cgroup/*") + ["/sys/fs/cgroup"]:
        if os.path.ismount(top):
            found |= {os.path.join(folder, name) for folder, names, _ in os.walk(top) for name in names
                      if os.path.exists(os.path.join(folder, name, "cgroup.procs"))}
    return found


def processes():
    """{pid: command line} of what is alive."""
    found = {}
    for folder in glob.glob("/proc/[0-9]*"):
        with contextlib.suppress(OSError):
            with open(folder + "/cmdline", "rb") as file:
                line = file.read()
            if line:
                found[int(folder.split("/")[-1])] = line.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def make_archive(path, name, command):
    docker_archive(images.Image([images.busybox_layer()], {"Env": [images.PATH_ENV], "Cmd": command}), name, path)
    return path
