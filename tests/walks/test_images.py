"""Images from hand to hand: pushed, pulled back, saved, loaded, and read by Debian's skopeo and podman."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import pty
import select
import shutil
import sqlite3
import subprocess
import tarfile
import time

import grpc
import harness
import images
import pytest
from cri import pb as cri_pb
from podman import Podman


@pytest.fixture
def app(registry, engine, busybox):
    """An image of two layers, the lower one busybox's, pulled to be pushed on; removed afterwards with all its names."""
    image = images.Image([images.busybox_layer(), images.layer([images.Entry("app", data=os.urandom(200_000))])],
                         {"Env": [images.PATH_ENV], "Cmd": ["sh"], "Labels": {"who": "walk"}})
    images.push(image, registry.address, "walk/app", "1")
    name = registry.address + "/walk/app:1"
    engine.fluyt("pull", name)
    yield name
    for line in json.loads(engine.fluyt("images", "--format", "json").stdout):
        engine.fluyt("rmi", line["id"])


def ids(engine):
    return set(engine.fluyt("images", "-q", "--no-trunc").stdout.split())


def program(name):
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@contextlib.contextmanager
def podman_in(folder):
    if not Podman.is_there():
        pytest.skip("podman is neither installed nor in the benchmarks' tree")
    podman = Podman(str(folder))
    try:
        yield podman
    finally:
        podman.close()


def run(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, timeout=120, **options)
    assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_pushed_and_pulled_back(engine, registry, app):
    image = json.loads(engine.fluyt("inspect", "--type", "image", app).stdout)
    mine = registry.address + "/walk/pushed:2"
    engine.fluyt("tag", app, mine)
    done = engine.fluyt("push", mine)
    assert done.stdout == f"{mine}: digest: {image['manifestDigest']} size: {len(_manifest(registry, 'walk/app', '1'))}\n"
    # The registry had every layer in another repository: mounted, not sent.
    assert done.stderr.count("already there") == 3, done.stderr
    assert _manifest(registry, "walk/pushed", "2") == _manifest(registry, "walk/app", "1")
    assert engine.fluyt("push", "-q", mine).stdout == image["manifestDigest"] + "\n"
    engine.fluyt("rmi", image["id"])
    assert image["id"] not in ids(engine)
    assert engine.fluyt("pull", "-q", mine).stdout == image["id"] + "\n"
    refused = engine.fluyt("push", registry.address + "/walk/nothing:1", check=False)
    assert (refused.returncode, "no image has this name" in refused.stderr) == (1, True)


def test_layers_are_sent_where_the_registry_lacks_them(engine, app, tmp_path):
    other = harness.Registry(str(tmp_path / "registry"))
    try:
        name = other.address + "/first/app:1"
        engine.fluyt("tag", app, name)
        done = engine.fluyt("push", name)
        assert done.stderr.count(": pushed, ") == 3, done.stderr
        skopeo = program("skopeo")
        seen = json.loads(run(skopeo, "inspect", "--tls-verify=false", "docker://" + name))
        assert seen["Labels"] == {"who": "walk"}
        assert len(seen["Layers"]) == 2
        copied = str(tmp_path / "copied")
        run(skopeo, "copy", "-q", "--src-tls-verify=false", "docker://" + name, "dir:" + copied)
    finally:
        other.stop()


def test_of_several_platforms_one_goes_out_and_that_is_said(engine, registry, app, tmp_path):
    one = json.loads(engine.fluyt("inspect", "--type", "image", app).stdout)
    other = images.Image([images.layer([images.Entry("other", data=b"other")])], {})
    entries = [{"mediaType": images.OCI + "manifest.v1+json", "digest": digest, "size": len(_manifest(registry, "walk/app", tag)),
                "platform": {"os": "linux", "architecture": architecture}}
               for tag, digest, architecture in (("1", one["manifestDigest"], "amd64"),
                                                 ("other", images.push(other, registry.address, "walk/app", "other"), "s390x"))]
    index = json.dumps({"schemaVersion": 2, "mediaType": images.OCI + "index.v1+json", "manifests": entries}).encode()
    digest = images.push_index(index, registry.address, "walk/app", "both")
    engine.fluyt("rmi", one["id"])
    both, mine = registry.address + "/walk/app:both", registry.address + "/walk/alone:1"
    assert engine.fluyt("pull", "-q", both).stdout == one["id"] + "\n"
    engine.fluyt("tag", both, mine)
    said = (f" came by an index of several platforms, {digest}: what goes out is the manifest for linux/amd64 alone, "
            f"{one['manifestDigest']}\n")
    done = engine.fluyt("push", mine)
    assert done.stderr.startswith(f"fluyt: {mine}{said}"), done.stderr
    assert _manifest(registry, "walk/alone", "1") == _manifest(registry, "walk/app", "1")
    assert engine.fluyt("push", "-q", mine).stderr == ""
    assert engine.fluyt("save", "-o", str(tmp_path / "one.tar"), mine).stderr == f"fluyt: {mine}{said}"
    engine.fluyt("rmi", one["id"])
    engine.fluyt("pull", mine)
    assert " came by an index" not in engine.fluyt("push", mine).stderr


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_saved_and_loaded(engine, registry, app, busybox, tmp_path, form):
    engine.fluyt("pull", busybox)
    engine.fluyt("tag", app, "app:walk")
    before = ids(engine)
    archive = str(tmp_path / "saved.tar")
    engine.fluyt("save", "--format", form, "-o", archive, "app:walk", app, busybox)
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        assert len(names) == len(set(names))  # what two images share is there once
        assert ("manifest.json" in names) == (form == "docker")
    app_id = json.loads(engine.fluyt("inspect", "app:walk").stdout)["id"]
    for image in before:
        engine.fluyt("rmi", image)
    assert ids(engine) == set()
    loaded = engine.fluyt("load", "-i", archive).stdout
    assert sorted(loaded.splitlines()) == sorted(
        f"Loaded image: {name}" for name in ("docker.io/library/app:walk", app, busybox))
    assert ids(engine) == before
    assert json.loads(engine.fluyt("inspect", "app:walk").stdout)["id"] == app_id
    # Standard input, compressed, quietly.
    with open(archive, "rb") as file:
        packed = gzip.compress(file.read(), 1)
    (tmp_path / "saved.tar.gz").write_bytes(packed)
    with open(tmp_path / "saved.tar.gz", "rb") as file:
        assert "Loaded image: " in engine.fluyt("load", "-q", stdin=file).stdout
    run_again = engine.fluyt("run", "--rm", "--network", "host", "app:walk", "sh", "-c", "wc -c < /app", check=False)
    if "--network" not in run_again.stderr:
        assert run_again.stdout == "200000\n", run_again.stderr


def test_an_archive_that_cannot_fit_is_refused(tmp_path):
    """While it is sent, with both numbers, and the disk is as it was."""
    root = tmp_path / "small" / "root"
    root.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m,mode=711", "small", root], check=True)
    engine = harness.Engine(str(tmp_path / "small"), network=None)
    try:
        engine.start()
        archive = tmp_path / "large.tar"
        with open(archive, "wb") as file:
            file.truncate(60 << 20)
        before = shutil.disk_usage(root).free
        refused = engine.fluyt("load", "-i", str(archive), check=False)
        assert refused.returncode != 0
        assert "the archive's first " in refused.stderr and "are to be had on the disk" in refused.stderr
        assert shutil.disk_usage(root).free >= before - (1 << 20)
        assert os.listdir(root / "image" / "staging") == []
    finally:
        engine.stop()
        subprocess.run(["umount", root], check=True)


def test_docker_archives_load(engine, tmp_path):
    """As Docker before 25.0 wrote them: layers as tars by name, no layout."""
    layers = [images.busybox_layer(), images.layer([images.Entry("old", data=b"old\n")])]
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]}, "rootfs": {
        "type": "layers", "diff_ids": [images.digest_of(data) for data in layers]}}).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = [{"Config": config_name, "RepoTags": ["old/app:1", "old/app:latest"],
                 "Layers": [f"{i}/layer.tar" for i in range(2)]}]
    archive = tmp_path / "old.tar"
    with tarfile.open(archive, "w") as tar:
        for name, data in [(config_name, config), ("manifest.json", json.dumps(manifest).encode())] + [
                (f"{i}/layer.tar", data) for i, data in enumerate(layers)]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    loaded = engine.fluyt("load", "-i", str(archive)).stdout
    assert loaded == "Loaded image: docker.io/old/app:1\nLoaded image: docker.io/old/app:latest\n"
    assert engine.fluyt("images", "-q", "--no-trunc", "old/app").stdout.split() == [images.digest_of(config)] * 1
    # Its blobs are kept, so it can be sent on.
    assert engine.fluyt("save", "-o", str(tmp_path / "again.tar"), "old/app:1").returncode == 0
    engine.fluyt("rmi", images.digest_of(config))


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_skopeo_and_podman_read_what_was_saved(engine, app, tmp_path, form):
    archive = str(tmp_path / "saved.tar")
    engine.fluyt("tag", app, "app:walk")
    engine.fluyt("save", "--format", form, "-o", archive, "app:walk")
    image = json.loads(engine.fluyt("inspect", "app:walk").stdout)
    skopeo = program("skopeo")
    seen = json.loads(run(skopeo, "inspect", "--config", f"{form}-archive:{archive}"))
    assert seen["config"]["Labels"] == {"who": "walk"}
    assert [layer["diffId"] for layer in image["layers"]] == seen["rootfs"]["diff_ids"]
    with podman_in(tmp_path) as podman:
        assert "app:walk" in podman("load", "-i", podman.place + "/saved.tar")
        listed = json.loads(podman("images", "--format", "json"))
        assert [entry["Id"] for entry in listed] == [image["id"].split(":")[1]]


@pytest.mark.parametrize("tool", ["skopeo", "podman"])
def test_others_read_what_was_pushed(engine, app, tmp_path, tool):
    """From a registry that had nothing of it: every blob with its digest, and what a tree is made of."""
    image = json.loads(engine.fluyt("inspect", "--type", "image", app).stdout)
    other = harness.Registry(str(tmp_path / "registry"))
    try:
        name = other.address + "/first/app:1"
        engine.fluyt("tag", app, name)
        engine.fluyt("push", name)
        if tool == "skopeo":
            run(program("skopeo"), "copy", "-q", "--src-tls-verify=false", "docker://" + name, f"dir:{tmp_path}/copied")
            for blob in [image["id"], *(layer["digest"] for layer in image["layers"])]:
                content = (tmp_path / "copied" / blob.split(":")[1]).read_bytes()
                assert images.digest_of(content) == blob
            return
        with podman_in(tmp_path) as podman:
            assert podman("pull", "-q", "--tls-verify=false", name).strip() == image["id"].split(":")[1]
            seen = json.loads(podman("inspect", "--type", "image", name))[0]
            assert seen["Digest"] == image["manifestDigest"]
            assert seen["RootFS"]["Layers"] == [layer["diffId"] for layer in image["layers"]]
    finally:
        other.stop()


def test_an_image_that_a_person_runs_is_pinned(engine, cri, registry, busybox):
    """A kubelet takes an image that none of its own pods uses for unused."""
    image = images.Image([images.busybox_layer(), images.layer([images.Entry("mine", data=b"x")])], {"Env": [images.PATH_ENV], "Cmd": ["sh"]})
    images.push(image, registry.address, "walk/held", "1")
    name = registry.address + "/walk/held:1"
    cri.pull(name)
    cri.pull(busybox)

    def pinned():
        spec = cri_pb.ImageSpec(image=name)
        listed = {tag: found.pinned for found in cri.images.ListImages(cri_pb.ListImagesRequest()).images for tag in found.repo_tags}
        assert listed[busybox] is False
        assert cri.images.ImageStatus(cri_pb.ImageStatusRequest(image=spec)).image.pinned == listed[name]
        return listed[name]

    def answers():
        with contextlib.suppress(grpc.RpcError):
            cri.images.ListImages(cri_pb.ListImagesRequest())
            return True
        return False

    assert not pinned()
    config = cri.sandbox_config(network=cri_pb.NODE)
    sandbox = cri.run_sandbox(config)
    cri.run_container(sandbox, config, cri.container_config(name, ["sleep", "1000"]))
    assert not pinned()  # the kubelet knows its own
    engine.fluyt("run", "-d", "--network", "host", "--name", "walk-held", name, "sleep", "1000")
    assert pinned()
    cri.remove_sandbox(sandbox)
    assert pinned()
    engine.stop()
    engine.start()
    harness.wait_for(answers, "the connection from before to know that it has ended, and another")
    assert pinned()
    engine.fluyt("stop", "-t", "0", "walk-held")
    assert pinned()  # a stopped one can be looked at still
    engine.fluyt("rm", "-f", "walk-held")
    assert not pinned()
    engine.fluyt("rmi", name)


def test_a_pull_for_running_keeps_no_blobs(engine, cri, registry, tmp_path):
    image = images.Image([images.layer([images.Entry("only", data=b"kubelet")])], {"Cmd": ["sh"]})
    images.push(image, registry.address, "walk/kubelet", "1")
    name = registry.address + "/walk/kubelet:1"
    cri.pull(name)
    refused = engine.fluyt("save", "-o", str(tmp_path / "x.tar"), name, check=False)
    assert refused.returncode == 1
    assert "are here as trees alone" in refused.stderr and "fluyt pull" in refused.stderr
    assert os.listdir(tmp_path) == []
    engine.fluyt("pull", name)
    engine.fluyt("save", "-o", str(tmp_path / "x.tar"), name)
    engine.fluyt("rmi", name)


def test_what_people_see(engine, app, busybox):
    engine.fluyt("pull", busybox)
    table = engine.fluyt("images").stdout.splitlines()
    assert table[0].split() == ["REPOSITORY", "TAG", "ID", "CREATED", "SIZE", "SHARED", "UNIQUE"]
    row = next(line for line in table if line.startswith(app.rsplit(":", 1)[0]))
    assert row.split()[1] == "1"
    by_filter = engine.fluyt("images", "-q", "--no-trunc", "--filter", "label=who=walk").stdout.split()
    assert by_filter == [json.loads(engine.fluyt("inspect", app).stdout)["id"]]
    wrong = engine.fluyt("images", "--filter", "colour=red", check=False)
    assert (wrong.returncode, "colour" in wrong.stderr) == (2, True)
    tree = engine.fluyt("image", "tree", app).stdout
    assert f"also in {busybox}" in tree and tree.count("─ ") == 2
    history = engine.fluyt("history", app).stdout.splitlines()
    assert history[0].split() == ["LAYER", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert [line.split()[-2:] == ["layer", "1"] or "layer 1" in line for line in history[1:2]] == [True]
    verified = engine.fluyt("image", "verify", "--all")
    assert verified.stdout.endswith("all is well\n")
    dry = engine.fluyt("gc", "--dry-run").stdout
    assert dry.splitlines()[-1].startswith("Would remove 0 things, 0B in 0 files; ")
    assert f"of {app}" in dry or app in dry


def test_damage_is_found_and_mended(engine, app):
    image = json.loads(engine.fluyt("inspect", app).stdout)
    file = f"{engine.root}/image/layers/{image['layers'][1]['diffId'].split(':')[1]}/fs/app"
    before = os.stat(file)
    with open(file, "r+b") as damaged:
        damaged.write(b"\0\0\0\0")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = engine.fluyt("image", "verify", app, check=False)
    assert found.returncode == 1
    assert '"/app" has other content' in found.stdout and f"of {app}" in found.stdout
    mended = engine.fluyt("image", "verify", "--repair", app)
    assert "mended: unpacked again from its blob" in mended.stdout
    assert engine.fluyt("image", "verify", app).stdout.endswith("all is well\n")


def test_damage_of_what_a_kubelet_pulled_is_found_and_mended(engine, cri, registry):
    """No blob of it is here: sizes and times are right, and its manifest tells."""
    image = images.Image([images.layer([images.Entry("data", data=os.urandom(3000)), images.Entry("whole", data=b"whole")])], {})
    images.push(image, registry.address, "walk/pulled", "1")
    name = registry.address + "/walk/pulled:1"
    cri.pull(name)
    try:
        layer = json.loads(engine.fluyt("inspect", name).stdout)["layers"][0]["diffId"].split(":")[1]
        file = f"{engine.root}/image/layers/{layer}/fs/data"
        before = os.stat(file)
        with open(file, "r+b") as damaged:
            damaged.seek(2000)
            byte = damaged.read(1)[0]
            damaged.seek(2000)
            damaged.write(bytes([byte ^ 1]))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        found = engine.fluyt("image", "verify", name, check=False)
        assert found.returncode == 1
        assert '"/data" has other content' in found.stdout and "whole" not in found.stdout
        mended = engine.fluyt("image", "verify", "--repair", name)
        assert "mended: fetched and unpacked again" in mended.stdout
        assert engine.fluyt("image", "verify", name).stdout.endswith("1 layer compared, 0 counted; all is well\n")
    finally:
        engine.fluyt("rmi", name)


def test_a_lost_catalogue_comes_back(engine, app):
    before = engine.fluyt("images", "--no-trunc").stdout
    for damage in ("remove", "zero", "cut"):
        engine.stop()
        path = engine.root + "/image/catalog.db"
        size = os.path.getsize(path)
        if damage == "remove":
            os.remove(path)
        elif damage == "zero":
            with open(path, "wb") as file:
                file.write(bytes(size))
        else:
            os.truncate(path, size // 2 + 100)
        engine.start()
        assert engine.fluyt("images", "--no-trunc").stdout == before, damage
    assert engine.fluyt("image", "verify", "--all").stdout.endswith("all is well\n")


def test_that_the_disk_lost_writes_is_remembered(engine, app):
    """A layer that no sync has ended for is kept in its boot and mount, but not where a fluytd that was killed had been told that pages are lost."""
    image = json.loads(engine.fluyt("inspect", "--type", "image", app).stdout)["id"]
    note = engine.state + "/image-lost-writes"

    def start_again():
        engine.kill()
        with contextlib.closing(sqlite3.connect(engine.root + "/image/catalog.db")) as database, database:
            layers = database.execute("SELECT diff_id FROM image_layer WHERE image_id = ? ORDER BY position", (image,)).fetchall()
            database.execute("UPDATE layer SET durable = 0 WHERE diff_id = ?", layers[-1])
        engine.start()
    start_again()
    assert image in ids(engine)
    with open(note, "w", encoding="utf-8"):
        pass
    start_again()
    assert image not in ids(engine)
    assert not os.path.exists(note)
    assert engine.fluyt("pull", "-q", app).stdout == image + "\n"


def test_two_engines_on_one_store(engine):
    second = harness.Engine(folder=engine.folder)
    second.socket, second.log = engine.folder + "/second.sock", engine.folder + "/second.log"
    second.start(wait=False)
    assert second.process.wait(20) == 1
    with open(second.log, encoding="utf-8") as file:
        assert f"another fluytd serves it: pid {engine.process.pid}" in file.read()


def test_pruning(engine, cri, registry, app):
    assert engine.fluyt("image", "prune").stdout.endswith("Total reclaimed space: 0B\n")
    image = json.loads(engine.fluyt("inspect", app).stdout)
    pruned = engine.fluyt("image", "prune", "--all").stdout
    assert f"untagged {app}" in pruned and f"removed {image['id']}" in pruned
    assert not pruned.endswith(" 0B\n")


def test_progress_on_a_terminal(engine, registry):
    """Bars that are redrawn, none wider than the terminal."""
    image = images.Image([images.layer([images.Entry("noise", data=os.urandom(30_000_000))])], {"Cmd": ["sh"]}, 1)
    images.push(image, registry.address, "walk/large", "1")
    name = registry.address + "/walk/large:1"
    for width in (100, 40, 12):
        engine.fluyt("rmi", name, check=False)
        shown = _on_terminal(engine, width, "pull", name)
        assert "\x1b[J" in shown  # redrawn
        lines = [line for line in shown.replace("\x1b[J", "\n").split("\n") if line and "\x1b" not in line]
        drawn = [line.rstrip("\r") for line in lines if not line.startswith("sha256:")]
        assert max(len(line) for line in drawn) < width
        assert any("done" in line for line in drawn) or width == 12
    engine.fluyt("rmi", name)


def _on_terminal(engine, width, *args):
    master, slave = pty.openpty()
    subprocess.run(["stty", "rows", "24", "cols", str(width)], stdin=slave, check=True)
    process = subprocess.Popen([harness.BIN + "/fluyt", "--socket", engine.socket, *args], stdin=slave, stdout=slave,
                               stderr=slave, close_fds=True)
    os.close(slave)
    out = b""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if not select.select([master], [], [], 0.2)[0]:
            if process.poll() is not None:
                break
            continue
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        out += piece
    os.close(master)
    assert process.wait(10) == 0, out
    return out.decode("utf-8", "replace")


def _manifest(registry, repository, tag):
    import urllib.request
    request = urllib.request.Request(f"http://{registry.address}/v2/{repository}/manifests/{tag}",
                                     headers={"Accept": images.OCI + "manifest.v1+json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read()


def test_the_first_word_of_two_lists_its_commands(engine):
    asked = engine.fluyt("image", "--help")
    assert "  image verify  Read images'" in asked.stdout and "  pull" not in asked.stdout and asked.stderr == ""
    alone = engine.fluyt("image", check=False)
    assert (alone.returncode, alone.stdout, alone.stderr) == (2, "", asked.stdout)
    wrong = engine.fluyt("image", "rub", check=False)
    assert wrong.returncode == 2 and wrong.stderr == 'fluyt: there is no command "image rub"\n' + asked.stdout
