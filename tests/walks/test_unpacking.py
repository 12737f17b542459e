"""The root that fluyt makes of an image, beside what umoci and skopeo (containers/storage) make of it, entry by entry, and
what the layers say when they are read plainly (trees.of_layers). docs/unpacking.md tells who is right where they differ."""

import os
import shutil
import subprocess

import harness
import images
import odd_layers
import pytest
import trees
import unpackers

CORPUS = ("sparse forms", "PAX", "GNU long names", "ustar prefix", "names that are no UTF-8", "times", "times of GNU tar",
          "large ids", "hard link to a lower layer", "hard links", "hard links that say otherwise", "whiteout and file of one name", "whiteouts", "opaque",
          "opaque below", "directory to file and back", "implied parents", "implied parent that is a link below",
          "duplicates", "special", "odd spellings")
# What an EROFS image cannot have, which is of one layer: the file is copied for the link.
COPIED = "hard link to a lower layer"
NO_ROOT_ENTRY = "a root directory that no layer lists is 0555"
# What the others are known to do otherwise: {tool: {image: words of the error, or {path: fields}}}. Checked, so that the
# page stays true; a newer version that does better fails here, and is to be welcomed on the page.
OTHERWISE = {
    "umoci": {
        "sparse forms": "unknown typeflag",
        "PAX": {b"d/xattr": {"xattrs"}},
        "implied parent that is a link below": {b"lib": {"kind", "mode", "content"}, b"lib/two": {"missing"},
                                                b"usr/lib/two": {"not expected"}},
    },
    "skopeo": {
        "sparse forms": "unhandled tar header type",
        "PAX": {b"d/xattr": {"xattrs"}},
        "times": {b"before 1970": {"mtime_ns"}},
        "times of GNU tar": {b"before": {"mtime_ns"}},
        "hard link to a lower layer": "no such file or directory",
        "hard links that say otherwise": {b"file": {"mode", "uid", "gid", "mtime_ns"}, b"link": {"mode", "uid", "gid", "mtime_ns"}},
        "hard links": "duplicates of file paths not supported",
        "whiteout and file of one name": "file exists",
        "whiteouts": {b"dir": {"mode", "uid", "gid", "mtime_ns", "xattrs"}},
        "opaque": {b"dir": {"uid", "mtime_ns"}},
        "opaque below": {b"dir": {"mode", "uid", "gid", "mtime_ns", "xattrs"}, b"dir/sub": {"mode", "uid", "mtime_ns"}},
        "implied parents": {b"dir": {"mode", "uid", "gid", "mtime_ns", "xattrs"}, b"dir/sub": {"mode", "uid", "mtime_ns"}},
        "duplicates": "duplicates of file paths not supported",
        "odd spellings": {b"": {"mode", "uid", "mtime_ns"}},
    },
}


@pytest.fixture(scope="module", params=["directory", "erofs"])
def engine(request):
    """In each form that layers have."""
    made = harness.Engine(network=None, settings=f'[image]\nlayer_form = "{request.param}"\n')
    made.form = request.param
    try:
        made.start()
    except RuntimeError as error:
        made.close()
        if "layers as EROFS images" not in str(error):
            raise
        pytest.skip("this kernel does not mount EROFS from files: " + str(error).splitlines()[-1])
    yield made
    made.close()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return odd_layers.corpus(str(tmp_path_factory.mktemp("corpus")))


def differing(wanted, found):
    """{path: fields} in which a tree is another one."""
    out = {}
    for name, node in wanted.items():
        if name not in found:
            out[name] = {"missing"}
            continue
        other = found[name]
        fields = {field for field in ("kind", "mode", "uid", "gid", "mtime_ns", "content", "xattrs", "links")
                  if getattr(node, field) != getattr(other, field)}
        if node.mtime_ns is None:
            fields.discard("mtime_ns")
        if node.kind == "l" and other.kind == "l":
            fields.discard("mode")  # means nothing
        if fields:
            out[name] = fields
    return {**out, **{name: {"not expected"} for name in found if name not in wanted}}


def check_fluyt(engine, layers, layout, name, links_are_copies=False):
    with unpackers.fluyt(engine, layers, layout, name) as place:
        wanted, found = trees.of_layers(layers), trees.read(place)
        wrong = differing(wanted, found)
    for path, node in wanted.items():
        # See docs/unpacking.md: its time alone is not worth another directory in the stack.
        if node.implied and wrong.get(path) == {"mtime_ns"} and (node.mode, node.uid, node.gid, node.xattrs) == (0o755, 0, 0, {}):
            del wrong[path]
    if links_are_copies:
        assert wrong and set(map(frozenset, wrong.values())) == {frozenset({"links"})}
        return
    assert not wrong, trees.differences(wanted, found)[:20]


def check_other(tool, layers, layout, work, known):
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    wanted = trees.of_layers(layers)
    try:
        with {"umoci": unpackers.umoci, "skopeo": unpackers.skopeo}[tool](layout, work) as place:
            found = trees.read(place)
    except RuntimeError as error:
        assert isinstance(known, str) and known in str(error), error
        return
    assert not isinstance(known, str), "it succeeds"
    wrong = differing(wanted, found)
    if tool == "skopeo" and b"" not in known and wrong.pop(b"", None):
        assert found[b""].mode == 0o555, NO_ROOT_ENTRY
    assert wrong == known, trees.differences(wanted, found)[:20]


@pytest.mark.parametrize("name", CORPUS)
def test_an_odd_layer_becomes_what_it_says(engine, corpus, tmp_path, name):
    layout = unpackers.layout_of(corpus[name], str(tmp_path / "layout"))
    check_fluyt(engine, corpus[name], layout, "test/odd:1", links_are_copies=engine.form == "erofs" and name == COPIED)


@pytest.mark.parametrize("tool", ["umoci", "skopeo"])
@pytest.mark.parametrize("name", CORPUS)
def test_what_others_make_of_an_odd_layer(corpus, tmp_path, tool, name):
    layout = unpackers.layout_of(corpus[name], str(tmp_path / "layout"))
    check_other(tool, corpus[name], layout, str(tmp_path), OTHERWISE[tool].get(name, {}))


def test_the_corpus_is_looked_at_whole(corpus):
    assert set(CORPUS) == set(corpus)


def files_of(*packages):
    """A layer with all files of Debian packages of this machine, as they are on it, below usr."""
    listed = subprocess.run(["dpkg-query", "-L", *packages], check=True, stdout=subprocess.PIPE).stdout.split(b"\n")
    names = set()
    for name in listed:
        name = os.path.join(os.path.realpath(os.path.dirname(name)), os.path.basename(name))  # /bin is usr/bin
        if name.startswith(b"/usr/") and os.path.lexists(name):
            names.add(name[1:])
    names = sorted(names)
    return subprocess.run(["tar", "-C", "/", "--null", "--no-recursion", "--numeric-owner", "--xattrs", "--xattrs-include=*",
                           "--format=posix", "--pax-option=delete=atime,delete=ctime", "-T", "-", "-cf", "-"], check=True,
                          input=b"\0".join(names), stdout=subprocess.PIPE).stdout


BASE = ("base-files", "base-passwd", "bash", "coreutils", "dash", "debianutils", "login", "mount", "passwd", "perl-base", "sed",
        "tar")


def debian_images():
    """Images made of what Debian ships."""
    busybox = images.busybox_layer()
    base = files_of(*BASE)
    f = odd_layers.entry
    special = odd_layers.tar(
        f("opt", "d"), f("opt/caps", data=b"x", mode=0o755, xattrs={"security.capability": odd_layers.CAPABILITY}),
        f("opt/suid", data=b"y", mode=0o6755, uid=3, gid=4), f("opt/hard", "h", "opt/suid", mode=0o6755, uid=3, gid=4), f("opt/xattr", data=b"z", xattrs={"user.a": b"b"}),
        f("dev", "d"), f("dev/null", "c", (1, 3), mode=0o666), f("dev/loop", "b", (7, 0)), f("dev/pipe", "p"))
    removals = odd_layers.tar(
        f("usr", "d"), f("usr/share", "d"), f("usr/share/.wh.doc"), f("usr/share/man", "d"), f("usr/share/man/.wh..wh..opq"),
        f("usr/share/man/readme", data=b"none"), f("usr/bin", "d"), *[f(f"usr/bin/.wh.{name}") for name in ("sort", "tac", "wc")])
    again = odd_layers.tar(
        f("usr", "d"), f("usr/share", "d"), f("usr/share/doc", "d"), f("usr/share/doc/copyright", data=b"back"),
        f("usr/share/man", "d"), f("usr/share/man/.wh.readme"), f("usr/bin", "d"), f("usr/bin/.wh..wh..opq"), f("usr/bin/sort", data=b"mine"))
    return {
        "busybox": [busybox],
        "base packages": [base],
        "python3": [base, files_of("python3-minimal", "libpython3-stdlib", "python3.11-minimal")],
        "capabilities, devices, links": [base, special],
        "whiteouts over layers": [base, removals, again],
    }


@pytest.fixture(scope="module")
def debian():
    return debian_images()


@pytest.mark.parametrize("name", ["busybox", "base packages", "python3", "capabilities, devices, links", "whiteouts over layers"])
def test_an_image_of_debian_packages_is_the_same_by_all(engine, debian, tmp_path, name):
    layers = debian[name]
    layout = unpackers.layout_of(layers, str(tmp_path / "layout"))
    check_fluyt(engine, layers, layout, "test/debian:1")
    for tool in ("umoci", "skopeo"):
        check_other(tool, layers, layout, str(tmp_path), {})
