"""Makes the Debian package: `./dev package [FOLDER]` (default build/package). It needs a release build, dpkg-deb and dpkg-shlibdeps;
nothing outside the folder is touched.
"""

import gzip
import os
import re
import shutil
import subprocess
import sys

import completion
import help_text
import manual

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
BIN = os.path.join(ROOT, "build", "release", "bin")
PROGRAMS = ("fluyt", "fluytd", "runf", "rung")  # what is called by its name
HELPERS = ("fluyt-monitor", "fluyt-pod-init", "fluyt-unpack")  # what fluytd calls
CONFIG = "/etc/fluyt/fluytd.toml"
PROFILE = "/etc/apparmor.d/fluyt-default"
CONTROL = """Package: fluyt
Version: {version}
Architecture: {architecture}
Maintainer: The fluyt authors <fluyt@localhost>
Installed-Size: {size}
Depends: {depends}
Recommends: containernetworking-plugins, gpgv
Suggests: apparmor, criu, systemd
Section: admin
Priority: optional
Description: container engine for Kubernetes and for people
 fluytd serves the Kubernetes container runtime interface: pods, containers,
 images and networks. Containers go on while it is stopped or replaced.
 .
 fluyt is its command, runf a runtime with runc's command line, rung a guest
 kernel in user space.
"""
MORE = [("FILES", [".TP", "\\fI" + CONFIG + "\\fR", "Configuration, see \\fBfluytd.toml\\fR(5).", ".TP", "\\fI/var/lib/fluyt\\fR",
                   "Images and records.", ".TP", "\\fI/run/fluyt\\fR", "The socket, and what ends with the boot."]),
        ("SIGNALS", [".TP", "SIGTERM, SIGINT", "Ends fluytd; containers go on.", ".TP", "SIGHUP", "Reads the configuration again."])]


def run(*command, **options):
    print("+", *command, flush=True)
    return subprocess.run(command, check=True, text=True, **options)


def project_version():
    with open(os.path.join(ROOT, "CMakeLists.txt"), encoding="utf-8") as file:
        return re.search(r"project\(fluyt VERSION (\S+)", file.read()).group(1)


def put(root, path, text, mode=0o644):
    place = root + path
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with open(place, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(place, mode)


def put_compressed(root, path, text):
    place = root + path + ".gz"
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with open(place, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        file.write(text.encode())
    os.chmod(place, 0o644)


def put_programs(root):
    for folder, names in (("/usr/bin", PROGRAMS), ("/usr/libexec/fluyt", HELPERS)):
        os.makedirs(root + folder, exist_ok=True)
        for name in names:
            place = f"{root}{folder}/{name}"
            shutil.copy(f"{BIN}/{name}", place)
            # fluyt-pod-init is a few hundred bytes laid out by hand: nothing in it to strip.
            if name != "fluyt-pod-init":
                run("strip", "--strip-unneeded", place)
            os.chmod(place, 0o755)


def put_system(root):
    for name in ("fluytd.service", "fluytd.socket"):
        with open(f"{HERE}/{name}", encoding="utf-8") as file:
            put(root, f"/lib/systemd/system/{name}", file.read())
    with open(f"{HERE}/apparmor/fluyt-default", encoding="utf-8") as file:
        put(root, PROFILE, file.read())


def put_documents(root, version):
    tops = {name: help_text.with_commands(f"{BIN}/{name}") for name in ("fluyt", "runf")}
    tops["fluytd"] = (help_text.of(f"{BIN}/fluytd"), [])
    pages = {"fluyt": (1, "run containers, together with fluytd", ()), "runf": (8, "Open Container Initiative runtime", ()),
             "fluytd": (8, "the container engine's daemon", MORE)}
    for name, (number, about, more) in pages.items():
        text = manual.page(name, number, about, *tops[name], version=version, more=more)
        put_compressed(root, f"/usr/share/man/man{number}/{name}.{number}", text)
        put(root, f"/usr/share/bash-completion/completions/{name}", completion.script(name, *tops[name]))
    config = run(f"{BIN}/fluytd", "config", "default", stdout=subprocess.PIPE).stdout
    put(root, CONFIG, config)
    put_compressed(root, "/usr/share/man/man5/fluytd.toml.5",
                   manual.file_page("fluytd.toml", 5, "configuration of fluytd", config, version))
    for name in ("README.md", "CHANGELOG.md", "LICENSE"):
        with open(os.path.join(ROOT, name), encoding="utf-8") as file:
            text = file.read()
        if name == "LICENSE":
            put(root, "/usr/share/doc/fluyt/copyright", text)
        else:
            put_compressed(root, f"/usr/share/doc/fluyt/{'changelog' if name.startswith('CHANGE') else name}", text)


def depends(root):
    """What dpkg-shlibdeps finds in the programs. It wants a source package's control file beside it."""
    folder = os.path.dirname(root) + "/shlibs"
    shutil.rmtree(folder, ignore_errors=True)
    put(folder, "/debian/control", "Source: fluyt\n\nPackage: fluyt\nArchitecture: any\n")
    programs = [f"{root}/usr/bin/{name}" for name in PROGRAMS] + [f"{root}/usr/libexec/fluyt/fluyt-unpack"]
    programs = [path for path in programs if b"INTERP" in subprocess.run(["readelf", "-lW", path], check=True,
                                                                         stdout=subprocess.PIPE).stdout]
    out = run("dpkg-shlibdeps", "-O", "--ignore-missing-info", *programs, cwd=folder, stdout=subprocess.PIPE).stdout
    shutil.rmtree(folder)
    return out.strip().split("shlibs:Depends=", 1)[1]


def put_control(root, version):
    with open(os.devnull, "r+", encoding="utf-8") as null:
        architecture = run("dpkg", "--print-architecture", stdout=subprocess.PIPE, stderr=null).stdout.strip()
    wanted = depends(root)
    size = sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(root) for name in names)
    put(root, "/DEBIAN/control",
        CONTROL.format(version=version, architecture=architecture, size=(size + 1023) // 1024, depends=wanted))
    put(root, "/DEBIAN/conffiles", CONFIG + "\n" + PROFILE + "\n")
    for name in ("postinst", "prerm", "postrm"):
        with open(f"{HERE}/deb/{name}", encoding="utf-8") as file:
            put(root, f"/DEBIAN/{name}", file.read(), 0o755)
    return architecture


def main():
    target = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build", "package"))
    revision = os.environ.get("FLUYT_REVISION", "1")  # of the package; the tests upgrade from one to the next
    version = f"{project_version()}-{revision}"
    root = target + "/root"
    shutil.rmtree(root, ignore_errors=True)
    os.makedirs(root)
    put_programs(root)
    put_system(root)
    put_documents(root, project_version())
    architecture = put_control(root, version)
    for folder, _, _ in os.walk(root):
        os.chmod(folder, 0o755)
    package = f"{target}/fluyt_{version}_{architecture}.deb"
    run("dpkg-deb", "--root-owner-group", "-Zxz", "--build", root, package)
    print(package)


if __name__ == "__main__":
    main()
