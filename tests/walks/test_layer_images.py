"""Containers on layers that are EROFS images (image.layer_form), and on copies of their layers (image.root_driver)."""

import glob
import os
import tarfile

import cri as c
import harness
import images
import pytest


def mounted_below(folder):
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return [line for line in file if folder in line]


@pytest.fixture
def erofs_engine():
    engine = harness.Engine(settings='[image]\nlayer_form = "erofs"\n')
    try:
        engine.start()
    except RuntimeError as error:
        engine.close()
        if "layers as EROFS images" not in str(error):
            raise
        pytest.skip("this kernel does not mount EROFS from files: " + str(error).splitlines()[-1])
    yield engine
    engine.close()
    assert mounted_below(engine.folder) == []


def test_containers_stand_on_images(erofs_engine, registry):
    two = images.Image([images.busybox_layer(), images.layer([
        images.Entry("etc/implied/file", data=b"second"), images.Entry("etc/.wh.group")])], {"Env": [images.PATH_ENV], "Cmd": ["sh"]})
    images.push(two, registry.address, "walks/erofs", "latest")
    name = registry.address + "/walks/erofs:latest"

    def connect():
        return c.Client(erofs_engine.socket, erofs_engine.folder + "/logs")
    client = connect()
    client.pull(name)
    layers = glob.glob(erofs_engine.root + "/image/layers/*")
    assert len(layers) == 2
    assert all(os.path.exists(layer + "/layer.erofs") for layer in layers)
    config = client.sandbox_config(network=c.pb.NODE)
    sandbox = client.run_sandbox(config)
    container = client.run_container(sandbox, config, client.container_config(name, ["sleep", "1000"]))
    script = "cat /etc/implied/file; echo; ls /etc; echo own >/etc/passwd; cat /etc/passwd; rm /bin/cat"
    code, out, _ = client.exec(container, "sh", "-c", script)
    assert (code, out.decode().split()) == (0, ["second", "hostname", "hosts", "implied", "passwd", "resolv.conf", "own"])
    other = client.run_container(sandbox, config, client.container_config(name, ["sleep", "1000"], name="other"))
    assert client.exec(other, "cat", "/etc/passwd")[1].startswith(b"root:")
    # Neither the end of fluytd nor the image's removal takes away what containers stand on.
    mounts = len(mounted_below(erofs_engine.folder + "/root/image/layers"))
    assert mounts == 2, "one mount a layer, for both containers"
    erofs_engine.kill()
    client.close()
    erofs_engine.start()
    client = connect()
    client.images.RemoveImage(c.pb.RemoveImageRequest(image=c.pb.ImageSpec(image=name)))
    assert client.exec(other, "sh", "-c", "cat /etc/implied/file")[1] == b"second"
    erofs_engine.stop()
    assert mounted_below(erofs_engine.folder + "/root/image/layers") == []
    client.close()
    erofs_engine.start()
    client = connect()
    assert client.exec(other, "sh", "-c", "cat /etc/implied/file")[1] == b"second"
    client.remove_sandbox(sandbox)
    assert glob.glob(erofs_engine.root + "/image/layers/*") == []
    client.close()


@pytest.mark.parametrize("form", ["directory", "erofs"])
def test_containers_on_copies(form, registry):
    engine = harness.Engine(settings=f'[image]\nlayer_form = "{form}"\nroot_driver = "copy"\n')
    try:
        engine.start()
        two = images.Image([images.busybox_layer(), images.layer([
            images.Entry("etc/implied/file", data=b"second"), images.Entry("etc/.wh.group")])], {"Env": [images.PATH_ENV], "Cmd": ["sh"]})
        images.push(two, registry.address, "walks/copy", "latest")
        name = registry.address + "/walks/copy:latest"
        client = c.Client(engine.socket, engine.folder + "/logs")
        client.pull(name)
        config = client.sandbox_config(network=c.pb.NODE)
        sandbox = client.run_sandbox(config)
        container = client.run_container(sandbox, config, client.container_config(name, ["sleep", "1000"]))
        script = "cat /etc/implied/file; echo; ls /etc; echo own >/etc/passwd; grep -c overlay /proc/mounts"
        code, out, _ = client.exec(container, "sh", "-c", script)
        assert out.decode().split() == ["second", "hostname", "hosts", "implied", "passwd", "resolv.conf", "0"]
        other = client.run_container(sandbox, config, client.container_config(name, ["sleep", "1000"], name="other"))
        assert client.exec(other, "cat", "/etc/passwd")[1].startswith(b"root:")
        client.remove_sandbox(sandbox)
        # Their disk is given back behind the answer.
        harness.wait_for(lambda: not os.listdir(engine.root + "/image/roots"), "the roots to be gone")
        client.close()
    except RuntimeError as error:
        if "layers as EROFS images" not in str(error):
            raise
        pytest.skip("this kernel does not mount EROFS from files")
    finally:
        engine.close()


def test_an_image_is_sent_on_without_its_blobs(erofs_engine, registry, tmp_path):
    """The archive is in the layer's image: compressed anew for a registry that lacks it, and as it is for `fluyt save`."""
    image = images.Image([images.busybox_layer(), images.layer([images.Entry("etc/own", data=b"second")])],
                         {"Env": [images.PATH_ENV], "Cmd": ["sh"]})
    images.push(image, registry.address, "walks/sent", "1")
    name = registry.address + "/walks/sent:1"
    client = c.Client(erofs_engine.socket, erofs_engine.folder + "/logs")
    image_id = client.pull(name)
    client.close()
    other = harness.Registry(str(tmp_path / "other"))
    try:
        there, here = other.address + "/walks/sent:2", registry.address + "/walks/elsewhere:2"
        for target in (there, here):
            erofs_engine.fluyt("tag", name, target)
        # This registry has the blobs, under another name: it is asked for nothing but that.
        original = erofs_engine.fluyt("push", "-q", name).stdout
        assert erofs_engine.fluyt("push", "-q", here).stdout == original
        said = erofs_engine.fluyt("push", there).stdout
        assert "2 layers were compressed anew" in said and original.strip() not in said, said
        archive = str(tmp_path / "saved.tar")
        erofs_engine.fluyt("save", "-o", archive, name)
        with tarfile.open(archive) as saved:
            for data in image.layers:
                digest = images.digest_of(data).split(":")[1]
                assert saved.extractfile("blobs/sha256/" + digest).read() == data
        for target in (name, there, here):
            erofs_engine.fluyt("rmi", target)
        assert glob.glob(erofs_engine.root + "/image/layers/*") == []
        assert erofs_engine.fluyt("pull", "-q", there).stdout.strip() == image_id
        assert erofs_engine.fluyt("run", "--rm", "--network", "host", there, "cat", "/etc/own").stdout == "second"
        erofs_engine.fluyt("rmi", there)
        erofs_engine.fluyt("import", "-q", archive)
        assert erofs_engine.fluyt("run", "--rm", "--network", "host", name, "cat", "/etc/own").stdout == "second"
    finally:
        other.stop()
