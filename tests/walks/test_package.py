"""The Debian package: what is in it, and that its manual pages and completions say what the programs say. Nothing is installed: that
is for `./dev vm unit`."""

import gzip
import os
import re
import shutil
import subprocess
import sys

import harness
import pytest

PACKAGING = os.path.join(harness.ROOT, "packaging")
sys.path.insert(0, PACKAGING)
import help_text  # noqa: E402  (found there)
import manual  # noqa: E402


def run(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options).stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package's file, and what is in it unpacked."""
    for program in ("dpkg-deb", "dpkg-shlibdeps", "strip"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: ./dev setup package")
    folder = str(tmp_path_factory.mktemp("package"))
    made = run(sys.executable, "-B", PACKAGING + "/package.py", folder).split()[-1]
    run("dpkg-deb", "-R", made, folder + "/unpacked")
    return made, folder + "/unpacked"


def test_files_lie_where_debian_has_them(package):
    rows = [line.split() for line in run("dpkg-deb", "-c", package[0]).splitlines()]
    files = {row[5].lstrip("."): row[0] for row in rows}
    assert {row[1] for row in rows} == {"root/root"}
    for path in ("/usr/bin/fluyt", "/usr/bin/fluytd", "/usr/bin/runf", "/usr/libexec/fluyt/fluyt-monitor",
                 "/usr/libexec/fluyt/fluyt-pod-init", "/usr/libexec/fluyt/fluyt-unpack"):
        assert files[path] == "-rwxr-xr-x", path
    for path in ("/lib/systemd/system/fluytd.service", "/lib/systemd/system/fluytd.socket", "/etc/fluyt/fluytd.toml",
                 "/etc/apparmor.d/fluyt-default", "/usr/share/man/man1/fluyt.1.gz", "/usr/share/man/man8/fluytd.8.gz",
                 "/usr/share/man/man8/runf.8.gz", "/usr/share/man/man5/fluytd.toml.5.gz", "/usr/share/bash-completion/completions/fluyt",
                 "/usr/share/doc/fluyt/copyright"):
        assert files[path] == "-rw-r--r--", path
    assert run("dpkg-deb", "-I", package[0], "conffiles") == "/etc/fluyt/fluytd.toml\n/etc/apparmor.d/fluyt-default\n"


def test_programs_are_whole(package):
    """Stripped, they still start; the smallest, which is laid out by hand, is what was built."""
    root = package[1]
    for name in ("fluyt", "fluytd", "runf", "rung"):
        assert run(f"{root}/usr/bin/{name}", "--version").strip()
    with open(f"{root}/usr/libexec/fluyt/fluyt-pod-init", "rb") as ours, open(harness.BIN + "/fluyt-pod-init", "rb") as built:
        assert ours.read() == built.read()


def test_dependencies_are_those_of_the_programs(package):
    depends = run("dpkg-deb", "-f", package[0], "Depends")
    for library in ("libc6", "libgrpc++", "libcurl4", "libsqlite3-0", "libnftables1"):
        assert library in depends


def test_default_configuration_is_valid(package):
    """As it is printed, and so as it is installed."""
    root = package[1]
    with open(root + "/etc/fluyt/fluytd.toml", encoding="utf-8") as file:
        assert file.read() == run(root + "/usr/bin/fluytd", "config", "default")
    run(harness.BIN + "/fluytd", "config", "check", "--config", root + "/etc/fluyt/fluytd.toml")  # with the helpers beside it


def test_every_option_is_in_the_manual(package):
    for name, number in (("fluyt", 1), ("runf", 8), ("fluytd", 8)):
        with gzip.open(f"{package[1]}/usr/share/man/man{number}/{name}.{number}.gz", "rt", encoding="utf-8") as file:
            page = file.read()
        top, commands = help_text.with_commands(f"{harness.BIN}/{name}")
        assert name == "fluytd" or len(commands) > 10
        for word, told in [("", top), *commands]:
            assert told.options(), (name, word)
            for option, _ in told.options():
                assert manual.bold(option) in page, (name, word, option)
        if shutil.which("man"):
            said = subprocess.run(["man", "-l", "--warnings", "-"], input=page, check=True, text=True, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE)
            assert said.stderr == ""


def complete(package, name, *words):
    script = f"""
source {package[1]}/usr/share/bash-completion/completions/{name}
COMP_WORDS=({' '.join(repr(word) for word in words)}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=()
_{name}; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    return run("bash", "-c", script, cwd="/usr").split()


def test_completion(package):
    assert complete(package, "fluyt", "fluyt", "pu") == ["pull", "push"]
    assert complete(package, "fluyt", "fluyt", "--socket", "/x", "exe") == ["exec"]
    assert complete(package, "fluyt", "fluyt", "image", "") == ["tree", "prune", "verify"]
    assert complete(package, "fluyt", "fluyt", "run", "--pri") == ["--privileged"]
    assert "lib" in complete(package, "fluyt", "fluyt", "load", "--input", "li"), "a file is wanted there"
    assert complete(package, "runf", "runf", "--root", "/r", "chec") == ["checkpoint"]


def test_scripts_end_no_pod(package):
    """No maintainer script kills by name, stops a slice or a scope, or runs fluyt itself."""
    for name in ("postinst", "prerm", "postrm"):
        with open(f"{package[1]}/DEBIAN/{name}", encoding="utf-8") as file:
            text = re.sub(r"(?m)#.*$", "", file.read())
        assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0
        assert not re.search(r"\b(pkill|killall|kill)\b|\.slice|\.scope|\bfluyt (rm|stop)\b", text), name
