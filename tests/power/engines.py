"""The engines under test, each with its store on a disk of the harness: start, kill, a few verbs, the list of images, an
image's tree as a container would see it, and what lies on the disk that no list accounts for."""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading

import harness  # found in tests/lib, which run.py names
import images


LIBC = ctypes.CDLL(None, use_errno=True)
MS_RDONLY = 1


class Failed(Exception):
    """A verb that ended in an error."""


def call(command, seconds=60):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          check=False, timeout=seconds)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()[-600:]}")
    return done.stdout


@contextlib.contextmanager
def overlay(folder, layers):
    """The layers (names below `folder`, topmost first) as one tree, read-only."""
    if len(layers) == 1:
        yield f"{folder}/{layers[0]}"
        return
    place = tempfile.mkdtemp(prefix="fluyt-power-")
    subprocess.run(["mount", "-t", "overlay", "-o", "ro,lowerdir=" + ":".join(layers), "none", place], check=True, cwd=folder)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
        os.rmdir(place)


class Fluyt:
    """A private fluytd. What would lie in /run (a tmpfs) goes when the power goes."""

    name = "fluyt"
    busy_seconds = 2.5  # of work before a cut in the middle of it
    cuts_a_disk = 20
    tags_and_collects = True  # peers are not asked for these verbs
    settings = ""

    def __init__(self, work, disk):
        self.engine = harness.Engine(folder=work + "/fluyt", network=None, settings=self.settings)
        self.engine.root = disk + "/fluyt"
        self.store = disk + "/fluyt/image"

    def start(self):
        self.engine.start()

    def kill(self):
        if self.engine.process is not None and self.engine.process.poll() is None:
            self.engine.kill()

    def power_off(self):
        self.kill()
        shutil.rmtree(self.engine.state, ignore_errors=True)

    def stop(self):
        self.engine.stop()

    def _fluyt(self, *args):
        return call([harness.BIN + "/fluyt", "--socket", self.engine.socket, *args])

    def pull(self, image):
        self._fluyt("pull", "-q", image)

    def load(self, archive):
        self._fluyt("import", "-q", archive)

    def remove(self, image):
        self._fluyt("rmi", image)

    def tag(self, image, name):
        self._fluyt("tag", image, name)

    def collect(self):
        self._fluyt("gc", "-q")

    def listed(self):
        """The names of all images."""
        return {tag for image in json.loads(self._fluyt("images", "--format", "json")) for tag in image.get("repo_tags", image.get("repoTags", []))}

    @contextlib.contextmanager
    def tree(self, name, image):
        chain, stack, missing = "", [], False
        for data in image.layers:
            diff_id = images.digest_of(data).split(":")[1]
            chain = images.digest_of(f"sha256:{chain} sha256:{diff_id}".encode()).split(":")[1] if chain else diff_id
            stack += [f"layers/{diff_id}/fs", f"fixups/{chain}/fs"]
            if len(stack) > 2 and not os.path.isdir(f"{self.store}/fixups/{chain}"):
                with open(f"{self.store}/layers/{diff_id}/layer.json", encoding="utf-8") as file:
                    record = json.load(file)
                missing = missing or bool(record["implied_dirs"] or record["lower_links"])
        if missing:  # it is made when a root is made
            with contextlib.suppress(Failed):
                self._fluyt("run", "--rm", "--network", "host", name, "/there-is-none")
        with overlay(self.store, [name for name in stack if os.path.isdir(f"{self.store}/{name}")][::-1]) as place:
            yield place

    @contextlib.contextmanager
    def _catalogue(self):
        """A connection to a copy of it: fluytd holds the file for itself."""
        with tempfile.TemporaryDirectory() as copy:
            for name in ("catalog.db", "catalog.db-wal"):
                if os.path.exists(f"{self.store}/{name}"):
                    shutil.copy(f"{self.store}/{name}", copy)
            with contextlib.closing(sqlite3.connect(copy + "/catalog.db")) as database:
                yield database

    def durable(self):
        """Whether all layers are said to outlive a power cut."""
        with self._catalogue() as database:
            return database.execute("SELECT min(durable) FROM layer").fetchone() == (1,)

    def unaccounted(self):
        """What is on the disk and not in the catalogue, and the other way round."""
        with self._catalogue() as database:
            def column(query):
                return {row[0] for row in database.execute(query)}
            layers = column("SELECT diff_id FROM layer")
            used = column("SELECT diff_id FROM image_layer") | column("SELECT diff_id FROM root_layer")
            blobs = column("SELECT digest FROM blob")
            documents = column("SELECT digest FROM image_blob")
            wanted = documents | column("SELECT blob_digest FROM image_layer")
            roots = column("SELECT container_id FROM root")
            chains = {}
            for image, diff_id in database.execute("SELECT image_id, diff_id FROM image_layer ORDER BY image_id, position"):
                chains.setdefault(image, []).append(diff_id)
        fixups = set()
        for diff_ids in chains.values():
            chain = diff_ids[0]
            for diff_id in diff_ids[1:]:
                chain = images.digest_of(f"{chain} {diff_id}".encode())
                fixups.add(chain)

        def on_disk(*folder):
            return {"sha256:" + name for name in os.listdir(os.path.join(self.store, *folder))}
        out = [f"layer {name}: in the catalogue, but of no image" for name in layers - used]
        out += [f"layer {name}: on disk, not in the catalogue" for name in on_disk("layers") - layers]
        out += [f"layer {name}: in the catalogue, not on disk" for name in (layers | used) - on_disk("layers")]
        out += [f"fix-up {name}: of no image" for name in on_disk("fixups") - fixups]
        out += [f"blob {name}: of no image" for name in blobs - wanted]
        out += [f"blob {name}: on disk, not in the catalogue" for name in on_disk("blobs", "sha256") - blobs]
        out += [f"blob {name}: not on disk" for name in (blobs | documents) - on_disk("blobs", "sha256")]
        out += [f"{folder}/{name}: left" for folder in ("staging", "trash", "aside") for name in os.listdir(f"{self.store}/{folder}")]
        out += [f"roots/{name}: left" for name in set(os.listdir(self.store + "/roots")) ^ roots]
        return out


class FluytErofs(Fluyt):
    """The same with layers as EROFS images."""

    name = "fluyt-erofs"
    settings = '[image]\nlayer_form = "erofs"\n'

    def power_off(self):
        """The machine's mounts go with its power; a killed fluytd leaves them to the next."""
        super().power_off()
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            mounts = [line.split()[4] for line in file]
        for place in reversed(mounts):
            if place.startswith(self.store + "/layers/"):
                harness.wait_for(lambda place=place: subprocess.run(["umount", place], check=False).returncode == 0,
                                 f"{place} to be free", 30)

    @contextlib.contextmanager
    def tree(self, name, image):
        """Layers are mounted when they are first used; fluytd takes over what is mounted already. mount(8) would put a loop
        device below the file."""
        for data in image.layers:
            layer = f"{self.store}/layers/{images.digest_of(data).split(':')[1]}"
            if os.path.exists(layer + "/layer.erofs") and not os.path.ismount(layer + "/fs"):
                if LIBC.mount((layer + "/layer.erofs").encode(), (layer + "/fs").encode(), b"erofs", MS_RDONLY, None) != 0:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), layer)
        with super().tree(name, image) as place:
            yield place


class InTree:
    """A peer from the tree of Debian sid that `./dev bench` makes, in a chroot there. Its store is on the disk, what it
    keeps in /run goes with the power."""

    busy_seconds = 8
    tags_and_collects = False
    cuts_a_disk = 1  # they do not mend what a cut has broken: it is to count once

    def __init__(self, work, disk):
        del work
        import common  # bench/common.py: needed for peers alone
        self.versions = common.peers_tree()
        self.top = common.TREE
        common.in_private_tree()
        self.place = self.top + "/run/power"
        for name in ("disk", "run", "view"):
            os.makedirs(f"{self.place}/{name}", exist_ok=True)
        self.disk = disk
        self.running, self.lock = set(), threading.Lock()

    def _in_tree(self, *command):
        """Killed with the engine: podman has no daemon, its verbs are the engine."""
        process = subprocess.Popen(["chroot", self.top, *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, start_new_session=True)
        with self.lock:
            self.running.add(process)
        try:
            out, error = process.communicate(timeout=120)
        finally:
            with self.lock:
                self.running.discard(process)
        if process.returncode != 0:
            raise Failed(f"{' '.join(command)}: exit {process.returncode}: {error.strip()[-600:]}")
        return out

    def start(self):
        if not os.path.ismount(self.place + "/disk"):
            subprocess.run(["mount", "--bind", self.disk, self.place + "/disk"], check=True)

    def kill(self):
        with self.lock:
            for process in self.running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def power_off(self):
        self.kill()
        self._let_go()
        shutil.rmtree(self.place + "/run", ignore_errors=True)
        os.makedirs(self.place + "/run")

    def stop(self):
        self._let_go()

    def _let_go(self):
        """All mounts that lead to the disk, the latest first."""
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            mounts = [line.split()[4] for line in file]
        for place in reversed(mounts):
            if place.startswith(self.place + "/"):
                subprocess.run(["umount", "-l", place], check=False, stderr=subprocess.DEVNULL)

    def unaccounted(self):
        return []  # what peers leave behind is not counted


class Containerd(InTree):
    """containerd with its default settings, by its own command."""

    name = "containerd"

    def start(self):
        super().start()
        with open(self.place + "/containerd.toml", "w", encoding="ascii") as file:
            file.write('version = 3\nroot = "/run/power/disk/containerd"\nstate = "/run/power/run/state"\n'
                       '[grpc]\n  address = "/run/power/run/containerd.sock"\n')
        with open(self.place + "/containerd.log", "ab") as log:
            self.process = subprocess.Popen(["chroot", self.top, "containerd", "-c", "/run/power/containerd.toml"],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        harness.wait_for(self._answers, "containerd to answer", 60)

    def _answers(self):
        with contextlib.suppress(Failed):
            self._ctr("version")
            return True
        return False

    def kill(self):
        super().kill()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self):
        harness.stop_process(self.process)
        super().stop()

    def _ctr(self, *args):
        return self._in_tree("ctr", "-a", "/run/power/run/containerd.sock", *args)

    def pull(self, image):
        self._ctr("images", "pull", "--plain-http", image)

    def load(self, archive):
        shutil.copy(archive, self.place + "/archive.tar")
        self._ctr("images", "import", "/run/power/archive.tar")

    def remove(self, image):
        self._ctr("images", "rm", "--sync", image)

    def listed(self):
        return set(self._ctr("images", "ls", "-q").split())

    @contextlib.contextmanager
    def tree(self, name, image):
        self._ctr("images", "mount", name, "/run/power/view")
        try:
            yield self.place + "/view"
        finally:
            self._ctr("images", "unmount", "--rm", "/run/power/view")


class Podman(InTree):
    """podman with its default settings but for the places of its store."""

    name = "podman"

    def _podman(self, *args):
        return self._in_tree("podman", "--root", "/run/power/disk/podman", "--runroot", "/run/power/run/podman",
                             "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", *args)

    def pull(self, image):
        self._podman("pull", "-q", "--tls-verify=false", image)

    def load(self, archive):
        shutil.copy(archive, self.place + "/archive.tar")
        self._podman("load", "-q", "-i", "/run/power/archive.tar")

    def remove(self, image):
        self._podman("rmi", "-f", image)

    def listed(self):
        return {name for image in json.loads(self._podman("images", "--format", "json")) for name in image.get("Names") or []}

    @contextlib.contextmanager
    def tree(self, name, image):
        place = self._podman("image", "mount", name).strip().splitlines()[-1]
        try:
            yield self.top + place
        finally:
            self._podman("image", "unmount", name)
