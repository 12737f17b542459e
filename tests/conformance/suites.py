"""The suites: how each is made ready in a working copy, which files it has, and how one file of it is run."""

import glob
import os
import platform
import shutil
import subprocess
import tempfile

import table
import tap

ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def call(command, cwd, **environment):
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-2000:]}")


def speak(command, cwd, seconds, **environment):
    """What `command` prints, its exit status; a note in the status' place at the time's end."""
    with tempfile.TemporaryFile("w+", errors="replace") as out:
        process = subprocess.Popen(command, cwd=cwd, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            code = f"no end after {seconds} s"
        out.seek(0)
        return out.read(), code


class Bats:
    """runc's tests/integration."""

    name = "bats"
    marker = "tests/integration/helpers.bash"
    limit_s = 1800
    render = staticmethod(table.by_file)

    def __init__(self, copy):
        self.folder = copy
        self.tests = os.path.join(copy, "tests/integration")

    def prepare(self):
        if shutil.which("bats") is None or shutil.which("jq") is None:
            raise RuntimeError("bats and jq are needed: install Debian's packages of these names")
        helpers = self.folder + "/tests/cmd/_bin"
        os.makedirs(helpers, exist_ok=True)
        for source in sorted(glob.glob(self.folder + "/tests/cmd/*/")):
            name = os.path.basename(source.rstrip("/"))
            if name == "_bin" or os.path.exists(f"{helpers}/{name}"):
                continue
            try:
                call(["go", "build", "-mod=vendor", "-tags", "seccomp", "-o", f"{helpers}/{name}", f"./tests/cmd/{name}"], self.folder)
            except (OSError, RuntimeError) as why:
                print(f"bats: {name} could not be built; tests that need it will fail: {str(why).splitlines()[-1]}", flush=True)
        self._images()

    def _images(self):
        """The suite takes two root file systems, and fetches what is not there. Of our own making here."""
        for name, make in (("busybox", self._busybox), ("debian", self._debian)):
            archive = f"{self.tests}/testdata/{name}-{ARCH}.tar.xz"
            if os.path.exists(archive):
                continue
            given = os.environ.get(f"FLUYT_CONFORMANCE_{name.upper()}")
            with tempfile.TemporaryDirectory(dir=self.folder) as root:
                if given:
                    shutil.copy(given, archive)
                else:
                    make(root)
                    os.chmod(root, 0o755)
                    call(["tar", "-C", root, "-cJf", archive, "."], self.folder)

    @staticmethod
    def _busybox(root):
        program = shutil.which("busybox")
        if program is None:
            raise RuntimeError("busybox is needed: install busybox-static")
        # Without proc and sys, which are to be made: one test puts links there.
        for folder in ("bin", "dev", "etc", "home", "root", "tmp", "usr/bin", "usr/sbin", "sbin", "var/spool/mail"):
            os.makedirs(f"{root}/{folder}")
        os.chmod(root + "/tmp", 0o1777)
        shutil.copy(program, root + "/bin/busybox")
        for applet in subprocess.check_output([program, "--list"], text=True).split():
            if applet != "busybox":
                os.link(root + "/bin/busybox", f"{root}/bin/{applet}")
        with open(root + "/etc/passwd", "w", encoding="ascii") as file:
            file.write("root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n")
        with open(root + "/etc/group", "w", encoding="ascii") as file:
            file.write("root:x:0:\ndaemon:x:1:\nnogroup:x:65534:\n")

    @staticmethod
    def _debian(root):
        print("bats: making a Debian root file system (once; FLUYT_CONFORMANCE_DEBIAN names one that is there)", flush=True)
        call(["debootstrap", "--variant=minbase", "bookworm", root, *filter(None, [os.environ.get("MIRROR")])], "/")

    def files(self):
        return sorted(os.path.basename(path).removesuffix(".bats") for path in glob.glob(self.tests + "/*.bats"))

    def run(self, file, runtime, words):
        command = ["bats", "-t", *(["-f", words] if words else []), f"tests/integration/{file}.bats"]
        with tempfile.TemporaryDirectory() as links:  # one test reads the program's name
            os.symlink(runtime, links + "/runc")
            text, code = speak(command, self.folder, self.limit_s, RUNC=links + "/runc", BATS_TEST_TIMEOUT="180")
        return unfinished(tap.read(text), tap.planned(text), code)


class Crun:
    """crun's tests/test_*.py."""

    name = "crun"
    marker = "tests/tests_utils.py"
    limit_s = 1200
    render = staticmethod(table.by_file)

    def __init__(self, copy):
        self.folder = copy

    def prepare(self):
        if not os.path.exists(self.folder + "/tests/init"):
            with tempfile.TemporaryDirectory() as headers:  # without the libraries that its configure looks for
                with open(headers + "/config.h", "w", encoding="ascii"):
                    pass
                call(["gcc", "-static", "-I", headers, "-o", "tests/init", "tests/init.c"], self.folder)

    def files(self):
        return sorted(os.path.basename(path)[len("test_"):-len(".py")] for path in glob.glob(self.folder + "/tests/test_*.py"))

    def run(self, file, runtime, words):
        environment = {"OCI_RUNTIME": runtime, "INIT": self.folder + "/tests/init", **({"RUN_TESTS": words} if words else {})}
        text, code = speak(["python3", "-B", f"tests/test_{file}.py"], self.folder, self.limit_s, **environment)
        return unfinished(tap.read(text), tap.planned(text), code)


class RuntimeTools:
    """runtime-tools' validation programs."""

    name = "runtime-tools"
    marker = "validation/util/test.go"
    limit_s = 300
    render = staticmethod(table.by_program)

    def __init__(self, copy):
        self.folder = copy

    def prepare(self):
        call(["make", "runtimetest", "validation-executables"], self.folder)

    def files(self):
        found = glob.glob(self.folder + "/validation/*/*.t") or glob.glob(self.folder + "/validation/*/[!u]*.go")
        return sorted({os.path.basename(os.path.dirname(path)) for path in found} - {"util"})

    def run(self, file, runtime, words):
        text, code = speak([f"validation/{file}/{file}.t"], self.folder, self.limit_s, RUNTIME=runtime)
        outcomes = tap.read(text)
        return outcomes + [tap.Outcome(table.EXIT, "passed" if code == 0 else "failed", "" if code == 0 else f"exit {code}")]


def unfinished(outcomes, planned, code):
    """A file that did not come to its end has a test of that name that fails: nothing is lost in silence."""
    if not isinstance(code, str) and (planned is None or len(outcomes) >= planned) and (outcomes or code == 0):
        return outcomes
    missing = f"{len(outcomes)} of {planned} tests" if planned is not None else f"{len(outcomes)} tests"
    return outcomes + [tap.Outcome("(the file's end)", "failed", f"{code if isinstance(code, str) else f'exit {code}'} after {missing}")]


ALL = {suite.name: suite for suite in (Bats, Crun, RuntimeTools)}
