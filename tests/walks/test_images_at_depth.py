"""Images of many layers, one layer on two bases, and many who want one image at once."""

import concurrent.futures
import os
import re

import cri as c
import harness
import images
import odd_layers
import pytest
import trees
import unpackers


@pytest.fixture(scope="module")
def base():
    return images.busybox_layer()


def deep(base, count):
    """`count` layers: each has a file of its own, and all have `top`."""
    f = odd_layers.entry
    layers = [base] + [odd_layers.tar(f("mark", "d"), f(f"mark/{i}", data=b"x"), f("top", data=str(i).encode()))
                       for i in range(1, count)]
    return images.Image(layers, {"Env": [images.PATH_ENV], "Cmd": ["sh"]}, level=1)


@pytest.mark.parametrize("count", [127, 200])
def test_a_container_runs_on_many_layers(engine, registry, base, count):
    images.push(deep(base, count), registry.address, f"depth/{count}", "latest")
    name = f"{registry.address}/depth/{count}:latest"
    engine.fluyt("pull", "-q", name)
    out = engine.fluyt("run", "--rm", "--network", "host", name, "sh", "-c", "ls /mark | wc -l | tr -d '\\n'; cat /top; echo w >/new").stdout
    assert out.split() == [str(count - 1) * 2], out  # the files under /mark, and what the topmost layer says
    engine.fluyt("rmi", name)


def test_an_image_too_deep_for_overlayfs_is_refused_at_pull(engine, registry, base):
    again = deep(base, 2).layers
    images.push(images.Image(again[:1] + again[1:] * 500, {"Cmd": ["sh"]}), registry.address, "depth/501", "latest")
    done = engine.fluyt("pull", "-q", f"{registry.address}/depth/501:latest", check=False)
    assert done.returncode != 0 and "layers: 501 entries: expected at most 500" in done.stderr, done.stderr
    listed = engine.fluyt("images").stdout
    assert "depth/501" not in listed
    assert not os.listdir(engine.root + "/image/staging")


def test_one_layer_on_two_bases_is_stored_once_and_right_on_both(engine, tmp_path):
    f = odd_layers.entry
    one = odd_layers.tar(f("srv", "d", mode=0o2770, uid=1234, gid=1234, xattrs={"user.of": b"one"}), f("srv/deep", "d", mode=0o700))
    two = odd_layers.tar(f("srv", "d", mode=0o755, uid=7, gid=8), f("srv/deep", "d", mode=0o1777, uid=9))
    shared = odd_layers.tar(f("srv/deep/file", data=b"d" * 3_000_000))
    before = used(engine)
    shown = {}
    for name, bottom in (("one", one), ("two", two)):
        layout = unpackers.layout_of([bottom, shared], str(tmp_path / name))
        engine.fluyt("import", "-q", "--name", f"test/{name}:1", layout)
    assert used(engine) - before < 2 * 3_000_000 - 500_000, "the data is there once"
    for name, bottom in (("one", one), ("two", two)):
        layers = [bottom, shared]
        with unpackers.fluyt(engine, layers, str(tmp_path / name), f"test/{name}:1") as place:
            shown[name] = trees.read(place)
        wanted = trees.of_layers(layers)
        for path in (b"srv", b"srv/deep", b"srv/deep/file"):
            for field in ("kind", "mode", "uid", "gid", "xattrs", "content", "mtime_ns"):
                assert getattr(shown[name][path], field) == getattr(wanted[path], field), (name, path, field)
    assert (shown["one"][b"srv"].uid, shown["two"][b"srv"].uid) == (1234, 7)


def used(engine):
    """Bytes of all trees of layers."""
    out = 0
    for folder, _, names in os.walk(engine.root + "/image/layers"):
        out += sum(os.lstat(os.path.join(folder, name)).st_blocks * 512 for name in names)
    return out


def test_ten_pods_that_ask_for_one_image_cost_one_fetch(engine, tmp_path_factory, base):
    counted = harness.Registry(str(tmp_path_factory.mktemp("counted")), access_log=True)
    try:
        image = images.Image([base, odd_layers.tar(odd_layers.entry("file", data=os.urandom(3_000_000)))], {"Cmd": ["sh"]})
        images.push(image, counted.address, "at/once", "latest")
        pushed = os.path.getsize(counted.log)
        clients = [c.Client(engine.socket, engine.folder + "/logs") for _ in range(10)]
        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            got = list(pool.map(lambda client: client.pull(counted.address + "/at/once:latest"), clients))
        for client in clients:
            client.close()
        assert len(set(got)) == 1
        with open(counted.log, encoding="utf-8", errors="replace") as file:
            file.seek(pushed)
            fetched = re.findall(r'"GET /v2/at/once/(blobs/\S+|manifests/\S+)', file.read())
        assert len(fetched) == len(set(fetched)), fetched
        assert sum(name.startswith("blobs/") for name in fetched) == 3, fetched  # config and two layers
    finally:
        counted.stop()
