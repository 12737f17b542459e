"""Cuts the power (or kills the engine) at random moments of its work with images, starts it again, and looks at every
file of every image that it then lists.

`./dev powercut [N]` makes N cuts on each file system, `./dev kills [N]` sends N SIGKILLs. A cut is FS_IOC_SHUTDOWN on a
loop-mounted file system: what was not on the disk at that moment is gone. The mount after it is a new one to the kernel, as
it is after a real power cut; the boot id alone stays, since the machine does. Nothing in the engine is told that it is being
tested.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "bench"))
import disk as disks  # noqa: E402  (found beside this file)
import engines  # noqa: E402
import harness  # noqa: E402  (found in tests/lib)
import images  # noqa: E402
import trees  # noqa: E402

# What a root is compared by. Times of directories that no layer lists are the engine's own affair.
FIELDS = ("kind", "mode", "uid", "gid", "content", "links")
FLAGS = {disks.NOTHING_FLUSHED: "nothing flushed", disks.JOURNAL_FLUSHED: "journal flushed", disks.FLUSHED: "all flushed"}


def files(rng, folder, count, largest, listed=True):
    entries = [images.Entry(folder, "d", mode=0o750, uid=7, gid=8)] if listed else []
    for i in range(count):
        size = rng.randrange(1, largest)
        data = rng.randbytes(size // 2) + b"x" * (size - size // 2)
        entries.append(images.Entry(f"{folder}/{i}", data=data, mode=rng.choice((0o644, 0o755, 0o4755)), uid=i % 3))
    return entries


def make_images(lower_links):
    """{short name: Image}. a, b and e stand on one base; d needs directories of the layer below and, with `lower_links`,
    a hard link to a file of it (peers refuse that, and an EROFS image has a copy there)."""
    rng = random.Random(4)
    base = images.layer(files(rng, "base", 300, 40_000) + files(rng, "base/large", 6, 4_000_000))
    def image(*layers):
        return images.Image(list(layers), {"Env": [images.PATH_ENV], "Cmd": ["sh"]}, level=1)
    on_it = images.layer(files(rng, "base/more", 200, 20_000, listed=False) + [
        *([images.Entry("base/link", "h", "base/1")] if lower_links else []), images.Entry("base/.wh.2"), images.Entry("base/3", data=b"another 3")])
    return {
        "a": image(base, images.layer(files(rng, "a", 400, 30_000)), images.layer(files(rng, "a/top", 50, 9_000))),
        "b": image(base, images.layer(files(rng, "b", 100, 200_000))),
        "c": image(images.layer(files(rng, "c", 900, 6_000))),
        "d": image(base, on_it, images.layer(files(rng, "d", 20, 500_000))),
        "e": image(base, images.layer(files(rng, "e", 300, 30_000))),
    }


class Library:
    """The images in a registry on loopback, one of them as an archive, and what each must look like."""

    def __init__(self, work, lower_links):
        self.registry = harness.Registry(work + "/registry")
        self.images, self.trees, self.archives = {}, {}, {}
        for name, image in make_images(lower_links).items():
            full = f"{self.registry.address}/power/{name}:latest"
            self.images[full], self.trees[full] = image, trees.of_layers(image.layers)
            if name == "e":
                images.write_layout(image, work + "/layout", full)
                self.archives[full] = work + "/e.tar"
                subprocess.run(["tar", "-C", work + "/layout", "-cf", self.archives[full], "."], check=True)
                shutil.rmtree(work + "/layout")
            else:
                images.push(image, self.registry.address, "power/" + name, "latest")

    def get(self, engine, name):
        if name in self.archives:
            engine.load(self.archives[name])
        else:
            engine.pull(name)


def alias_of(name):
    """A second name, of a repository of its own."""
    return name.replace("/power/", "/second/")


class Work:
    """Verbs at random on some of the images until told to end, and what was answered: for each image PULLED, LOADED or
    REMOVED, for its second name TAGGED or REMOVED, or nothing while a verb is under way or has failed."""

    PULLED, LOADED, REMOVED, TAGGED = "pulled", "loaded", "removed", "tagged"

    def __init__(self, engine, library, names, rng, answered):
        self.engine, self.library, self.names, self.rng, self.answered = engine, library, names, rng, answered
        self.tags = self.collects = 0
        self.limit = None  # of verbs
        self.verbs, self.stopping, self.cut_made = 0, False, False
        self.errors = []
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        while not self.stopping and (self.limit is None or self.verbs < self.limit):
            name = self.rng.choice(self.names)
            verb = self.rng.random() if self.engine.tags_and_collects else 1
            try:
                if verb < 0.15:
                    self.engine.collect()
                    self.collects += 1
                elif verb < 0.4 and self.answered.get(name) in (self.PULLED, self.LOADED):
                    self._name_again(name)
                else:
                    self._have_or_remove(name)
            except (engines.Failed, subprocess.TimeoutExpired) as error:
                if not self.cut_made:
                    self.errors.append(str(error))
                return
            self.verbs += 1

    def _name_again(self, name):
        """Gives an image that is there its second name, or takes it away."""
        alias = alias_of(name)
        if self.answered.pop(alias, None) == self.TAGGED:
            self.engine.remove(alias)
            self.answered[alias] = self.REMOVED
        else:
            self.engine.tag(name, alias)
            self.answered[alias] = self.TAGGED
        self.tags += 1

    def _have_or_remove(self, name):
        before = self.answered.pop(name, None)
        if before in (self.PULLED, self.LOADED):
            self.engine.remove(name)
            after = self.REMOVED
        else:
            self.library.get(self.engine, name)
            after = self.LOADED if name in self.library.archives else self.PULLED
        self.answered[name] = after


class Tally(dict):
    """Counts by name, and the sentences that say what was wrong."""

    def __init__(self):
        super().__init__()
        self.wrong = []

    def add(self, name, count=1):
        self[name] = self.get(name, 0) + count

    def blame(self, name, text, count=1):
        self.add(name, count)
        self.wrong.append(text)


def check(engine, library, answered, tally, how):
    """What the engine lists and keeps after its start, against what it had answered and what the images hold. Returns
    the images that are right."""
    there = engine.listed()
    listed = there & set(library.images)
    tally.add("images listed after it", len(listed))
    for name, what in answered.items():
        kept = name in there
        if what == Work.TAGGED:
            continue
        if what == Work.REMOVED and kept:
            tally.blame("removed, but listed again", f"{name}: listed after its removal was answered")
        if what == Work.LOADED or (what == Work.PULLED and how == "kill"):
            if not kept:
                tally.blame("answered for, but gone", f"{name}: {what} before and not listed now")
        elif what == Work.PULLED:
            tally.add("pulls answered before it")
            tally.add("of these kept" if kept else "of these not durable yet, and dropped")
    check_second_names(engine, library, answered, there, tally, how)
    right = {name for name in sorted(listed)
             if compare(engine, library, name, tally, "images listed, but wrong", "wrong files in them")}
    left = engine.unaccounted()
    end = time.monotonic() + 5
    while left and time.monotonic() < end:
        time.sleep(0.2)
        left = engine.unaccounted()
    for line in left:
        tally.blame("leaks", line)
    return right


def check_second_names(engine, library, answered, there, tally, how):
    """A second name is on the disk when its tag was answered; with its image it goes where that was not durable yet."""
    for name in sorted(library.images):
        alias = alias_of(name)
        if answered.get(alias) == Work.TAGGED:
            tally.add("tags answered before it")
            durable = how == "kill" or name in there or answered.get(name) == Work.LOADED
            if alias not in there and durable:
                tally.blame("tags answered for, but gone", f"{alias}: tagged before and not listed now")
        if alias in there and name not in there:
            compare(engine, library, name, tally, "images listed, but wrong", "wrong files in them", shown_as=alias)


def compare(engine, library, name, tally, of_images, of_files, shown_as=None):
    try:
        with engine.tree(shown_as or name, library.images[name]) as place:
            wrong = trees.differences(library.trees[name], trees.read(place), FIELDS)
    except (engines.Failed, OSError, subprocess.CalledProcessError) as error:
        wrong = [f"cannot be shown: {error}"]
    if wrong:
        tally.blame(of_images, f"{name}: {len(wrong)} files: {'; '.join(wrong[:3])}")
        tally.add(of_files, len(wrong))
    return not wrong


def mend(engine, library, right, tally):
    """What is missing or wrong pulled again, as a caller would who needs it, and second names taken away."""
    for name in sorted(set(library.images) - right):
        tally.add("pulled again")
        try:
            library.get(engine, name)
        except (engines.Failed, subprocess.TimeoutExpired) as error:
            tally.blame("pulls that failed afterwards", f"{name}: {error}")
            continue
        compare(engine, library, name, tally, "images wrong after pulling again", "wrong files after that")
    for alias in sorted(engine.listed() & {alias_of(name) for name in library.images}):
        engine.remove(alias)


def one(engine, disk, library, rng, tally, how, answered):
    """One round: work, the end of it at a random moment, a new start, the check."""
    work = [Work(engine, library, names, random.Random(rng.random()), answered)
            for names in (sorted(library.images)[:3], sorted(library.images)[3:])]
    afterwards = how != "kill" and rng.random() < 0.4
    for part in work:
        part.limit = rng.randrange(1, 4) if afterwards else None
        part.thread.start()
    if afterwards:  # up to ten seconds after the last answer, most often soon
        for part in work:
            part.thread.join()
        time.sleep(10 ** rng.uniform(-2, 1))
    else:
        time.sleep(rng.uniform(0.02, engine.busy_seconds))
    for part in work:
        part.stopping = part.cut_made = True
    if how == "kill":
        engine.kill()
    else:
        disk.cut(how)
        engine.power_off()
    for part in work:
        part.thread.join()
        tally.add("verbs answered before", part.verbs)
        tally.add("of these tag and rmi of a second name", part.tags)
        tally.add("of these gc", part.collects)
        for error in part.errors:
            tally.blame("verbs that failed before", error)
    if how != "kill":
        disk.unmount()
        disk.mount()
    engine.start()
    right = check(engine, library, dict(answered), tally, how)
    mend(engine, library, right, tally)
    answered.clear()
    answered.update({name: Work.LOADED if name in library.archives else Work.PULLED for name in library.images})


def rounds(engine_class, work, kind, library, options, seed):
    """{label: Tally} of one file system."""
    out = {}
    disk = engine = None
    rng = random.Random(seed)
    answered = {}
    count = options.kills or options.cuts
    try:
        for i in range(count):
            if i % engine_class.cuts_a_disk == 0:
                if engine is not None:
                    engine.stop()
                    disk.unmount()
                disk = disks.Disk(work, kind)
                engine = engine_class(work, disk.mount_point)
                engine.start()
                answered.clear()
            how = "kill" if options.kills else rng.choices((2, 1, 0), (70, 20, 10))[0]
            label = f"{kind}, " + ("SIGKILL" if how == "kill" else FLAGS[how])
            tally = out.setdefault(label, Tally())
            tally.add("rounds")
            before = len(tally.wrong)
            one(engine, disk, library, rng, tally, how, answered)
            for line in tally.wrong[before:]:
                print(f"  round {i} ({label}): {line}", flush=True)
    finally:
        if engine is not None:
            engine.power_off()
        if disk is not None:
            disk.close()
    return out


def show(out):
    names = []
    for tally in out.values():
        names += [name for name in tally if name not in names]
    width = max(len(name) for name in names)
    for name in names:
        print(f"  {name.ljust(width)}  " + "  ".join(str(tally.get(name, 0)).rjust(len(label)) for label, tally in out.items()))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", choices=("fluyt", "fluyt-erofs", "containerd", "podman"), default="fluyt")
    parser.add_argument("--fs", default="ext4,xfs")
    parser.add_argument("--cuts", type=int, default=100, help="on each file system")
    parser.add_argument("--kills", type=int, default=0, help="SIGKILLs instead of cuts")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--json", help="a file for the counts")
    options = parser.parse_args()
    engine_class = {engine.name: engine for engine in (engines.Fluyt, engines.FluytErofs, engines.Containerd, engines.Podman)}[options.engine]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of the cleaning up
    out = {}
    with tempfile.TemporaryDirectory(prefix="fluyt-power-") as work, contextlib.ExitStack() as stack:
        library = Library(work, lower_links=options.engine == "fluyt")
        stack.callback(library.registry.stop)
        for kind in options.fs.split(","):
            reason = disks.why_not(kind)
            if reason:
                print(f"skipped {kind}: {reason}")
                continue
            print(f"{options.engine} on {kind}, seed {options.seed}", flush=True)
            out.update(rounds(engine_class, work, kind, library, options, options.seed))
    if out:
        show(out)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({label: dict(tally) for label, tally in out.items()}, file, indent=1)
    bad = sum(len(tally.wrong) for tally in out.values())
    print("nothing wrong" if out and not bad else f"{bad} things wrong")
    return 0 if out and not bad else 1


if __name__ == "__main__":
    sys.exit(main())
