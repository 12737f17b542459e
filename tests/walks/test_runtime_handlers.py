"""Runtime handlers: the same pod through the linked runtime, our own by its command line, runc and crun."""

import contextlib
import json
import os
import re
import subprocess
import time

import cri as c
import handlers
import harness
import pytest


class Place:
    """One engine with one handler."""

    def __init__(self, name, **more):
        self.name = name
        self.namespace = handlers.Namespace(name)
        self.engine = harness.Engine(settings=handlers.settings(name, **more), prefix=self.namespace.prefix())
        try:
            self.engine.start()
        except BaseException:
            self.namespace.close()
            raise
        self.cri = c.Client(self.engine.socket, self.engine.folder + "/logs")

    def pod(self, **options):
        config = self.cri.sandbox_config(**options)
        return self.cri.run_sandbox(config, self.name), config

    def run(self, pod, image, *command, **fields):
        sandbox, config = pod
        wanted = self.cri.container_config(image, list(command), name=fields.pop("name", "main"))
        memory = fields.pop("memory", 0)
        if memory:
            wanted.linux.resources.memory_limit_in_bytes = memory
        for key, value in fields.items():
            setattr(wanted, key, value)
        return self.cri.run_container(sandbox, config, wanted)

    def exited(self, container, seconds=20):
        return harness.wait_for(lambda: self.cri.status(container).state == c.EXITED and self.cri.status(container),
                                "the exit", seconds)

    def log(self, pod, name="main"):
        path = os.path.join(pod[1].log_directory, name + ".log")
        return open(path, encoding="utf-8").read() if os.path.exists(path) else ""

    def states(self, pod):
        """What the program keeps of the pod's containers; the sandbox's own is none that was asked for."""
        folder = f"{self.engine.state}/sandboxes/{pod[0]}/monitor/runtime"
        names = os.listdir(folder) if os.path.exists(folder) else []
        return sorted(name for name in names if not name.startswith(".") and name != pod[0])  # crun has a folder for all of them

    def close(self):
        self.cri.close()
        self.engine.close()
        self.namespace.close()


@pytest.fixture(scope="module", params=["runf", *handlers.NAMES])
def place(request):
    if request.param != "runf" and handlers.find(request.param) is None:
        pytest.skip(f"needs {request.param}")
    made = Place(request.param)
    yield made
    made.close()


@pytest.fixture
def pod(place, busybox):
    place.cri.pull(busybox)
    made = place.pod()
    yield made
    place.cri.remove_sandbox(made[0])


def test_walk(place, busybox, pod):
    sandbox, config = pod
    cri = place.cri
    script = "echo out; echo err >&2; sleep 1000"
    container = cri.create(sandbox, config, cri.container_config(busybox, ["sh", "-c", script]))
    assert cri.status(container).state == c.CREATED
    assert place.states(pod) == ([] if place.name == "runf" else [container])
    cri.start(container)
    assert cri.status(container).state == c.RUNNING
    harness.wait_for(lambda: place.log(pod).count("\n") == 2, "two log lines")
    lines = [line.split(" ", 3)[1:] for line in place.log(pod).splitlines()]
    assert sorted(lines) == [["stderr", "F", "err"], ["stdout", "F", "out"]]
    assert cri.exec(container, "sh", "-c", "echo hi; echo no >&2; exit 3") == (3, b"hi\n", b"no\n")
    code, message = c.error_of(cri.exec, container, "no-such-program")
    assert "no-such-program" in message, (code, message)
    cri.stop(container, grace=0)
    status = cri.status(container)
    assert (status.state, status.exit_code) == (c.EXITED, 137)
    cri.stop(container)
    cri.remove(container)
    cri.remove(container)
    assert place.states(pod) == []


def test_exit_codes(place, busybox, pod):
    done = place.run(pod, busybox, "sh", "-c", "exit 42")
    assert (place.exited(done).exit_code, place.exited(done).reason) == (42, "Error")
    done = place.run(pod, busybox, "true", name="other")
    assert (place.exited(done).exit_code, place.exited(done).reason) == (0, "Completed")


def test_stop_lets_a_program_finish(place, busybox, pod):
    container = place.run(pod, busybox, "sh", "-c", "trap 'echo bye; exit 7' TERM; echo up; while true; do sleep 0.1; done")
    harness.wait_for(lambda: "up" in place.log(pod), "the shell")
    place.cri.stop(container, grace=20)
    assert place.cri.status(container).exit_code == 7
    assert "bye" in place.log(pod)


def test_a_container_that_was_never_started_can_be_stopped(place, busybox, pod):
    sandbox, config = pod
    container = place.cri.create(sandbox, config, place.cri.container_config(busybox, ["sleep", "1000"]))
    place.cri.stop(container, grace=5)
    assert place.cri.status(container).state == c.EXITED
    place.cri.remove(container)


def test_out_of_memory_is_named(place, busybox, pod):
    container = place.run(pod, busybox, "sh", "-c", "tail /dev/zero", memory=16 << 20)
    status = place.exited(container, 40)
    assert (status.exit_code, status.reason) == (137, "OOMKilled")


def test_update_changes_the_limit(place, busybox, pod):
    if place.name == "guest":
        pytest.skip("a guest sees no cgroup of the host's")
    container = place.run(pod, busybox, "sleep", "1000", memory=64 << 20)
    limits = ("sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null")
    assert place.cri.exec(container, *limits)[1].split() == [b"%d" % (64 << 20)]
    place.cri.runtime.UpdateContainerResources(c.pb.UpdateContainerResourcesRequest(
        container_id=container, linux=c.pb.LinuxContainerResources(memory_limit_in_bytes=96 << 20)), timeout=20)
    assert place.cri.exec(container, *limits)[1].split() == [b"%d" % (96 << 20)]


def test_stats_come_from_the_cgroup(place, busybox, pod):
    container = place.run(pod, busybox, "sleep", "1000")
    stats = place.cri.runtime.ContainerStats(c.pb.ContainerStatsRequest(container_id=container), timeout=10).stats
    assert stats.memory.usage_bytes.value > 0 and stats.cpu.usage_core_nano_seconds.value > 0


def test_terminal(place, busybox, pod):
    container = place.run(pod, busybox, "sh", "-c", "tty; exec sleep 1000", tty=True)
    harness.wait_for(lambda: "/dev/" in place.log(pod), "the terminal's name")
    assert re.search(r"stdout F /dev/(pts/0|console)\r?\n", place.log(pod)), place.log(pod)
    done = place.engine.fluyt("exec", "-t", container, "tty")
    assert done.stdout.strip() == "/dev/pts/1", (done.stdout, done.stderr)


def test_attach_carries_input_and_output(place, busybox, pod):
    sandbox, config = pod
    wanted = place.cri.container_config(busybox, ["sh", "-c", "read line; echo got $line; exit 3"])
    wanted.stdin = wanted.stdin_once = True
    container = place.cri.run_container(sandbox, config, wanted)
    done = subprocess.run([harness.BIN + "/fluyt", "--socket", place.engine.socket, "attach", container],
                          input=b"a line\n", stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30, check=False)
    assert b"got a line" in done.stdout, (done.stdout, done.stderr)
    assert place.exited(container).exit_code == 3


def test_shared_pid_namespace(place, busybox):
    pod = place.pod(pid=c.pb.POD)
    try:
        first = place.run(pod, busybox, "sh", "-c", "sleep 1234 & exec sleep 1000")
        second = place.run(pod, busybox, "sleep", "1000", name="second")
        assert b"sleep 1234" in place.cri.exec(second, "ps")[1]
        place.cri.stop(first, grace=0)
        # The rest of a container goes with its first process, though another's is pid 1.
        harness.wait_for(lambda: b"sleep 1234" not in place.cri.exec(second, "ps")[1], "the rest to end")
        assert place.cri.status(second).state == c.RUNNING
    finally:
        place.cri.remove_sandbox(pod[0])


def test_a_missing_program_is_named(place, busybox, pod):
    sandbox, config = pod
    wanted = place.cri.container_config(busybox, ["/no/such/program"])
    code, message = c.error_of(lambda: place.cri.run_container(sandbox, config, wanted))
    assert "/no/such/program" in message, (code, message)
    assert code != "NOT_FOUND"  # which would say that the container is not there


def test_a_missing_source_is_made(place, busybox, pod):
    sandbox, config = pod
    wanted = place.cri.container_config(busybox, ["sh", "-c", "echo here >/data/file; sleep 1000"])
    source = place.engine.folder + "/new/" + place.name
    wanted.mounts.add(container_path="/data", host_path=source)
    place.cri.run_container(sandbox, config, wanted)
    harness.wait_for(lambda: os.path.exists(source + "/file"), "the file on the host")


def test_the_host_has_no_mount_of_a_root(place, busybox, pod):
    before = open("/proc/self/mountinfo", encoding="utf-8").read()
    container = place.run(pod, busybox, "sleep", "1000")
    assert open("/proc/self/mountinfo", encoding="utf-8").read() == before
    assert place.cri.exec(container, "touch", "/written")[0] == 0


def test_fluytd_may_die_in_between(place, busybox, pod):
    counting = place.run(pod, busybox, "sh", "-c", "i=0; while true; do i=$((i+1)); echo $i; sleep 0.02; done")
    ending = place.run(pod, busybox, "sh", "-c", "sleep 1; exit 9", name="ending")
    place.engine.kill()
    time.sleep(1.5)  # the containers' time: one of them ends with no fluytd there
    place.engine.start()
    place.cri.wait_served()
    assert place.exited(ending).exit_code == 9
    assert place.cri.status(counting).state == c.RUNNING
    assert place.cri.exec(counting, "echo", "still")[1] == b"still\n"
    place.cri.stop(counting)
    numbers = [int(line.split(" ")[3]) for line in place.log(pod).splitlines()]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 50


def test_nothing_is_left(place, busybox):
    place.cri.pull(busybox)

    def round_trip():
        pod = place.pod()
        for number in range(3):
            place.run(pod, busybox, "sh", "-c", "sleep 1000 & sleep 1000", name=f"c{number}")
        place.cri.remove_sandbox(pod[0])

    round_trip()  # what the first one makes for all
    before = harness.settled_counts(place.engine)
    for _ in range(3):
        round_trip()
    assert harness.settled_counts(place.engine) == before


def test_settings_of_a_handler(busybox, tmp_path):
    root = str(tmp_path / "states")
    place = Place("runf-program", options='["--debug"]', root=f'"{root}"', annotations='["walk.*", "exact"]',
                  privileged_without_host_devices="true")
    try:
        cri = place.cri
        cri.pull(busybox)
        config = cri.sandbox_config()
        config.annotations.update({"walk.pod": "1", "exactly": "2", "run.oci.handler": "3"})
        config.linux.security_context.privileged = True
        sandbox = cri.run_sandbox(config, place.name)
        wanted = cri.container_config(busybox, ["sleep", "1000"])
        wanted.annotations.update({"exact": "4", "other": "5"})
        wanted.linux.security_context.privileged = True
        wanted.envs.add(key="SECRET", value=b"token")
        container = cri.run_container(sandbox, config, wanted)
        assert os.listdir(root) == [container]
        path = f"{place.engine.state}/sandboxes/{sandbox}/bundles/{container}/config.json"
        assert os.stat(path).st_mode & 0o777 == 0o600  # the environment is in it
        with open(path, encoding="utf-8") as file:
            spec = json.load(file)
        assert spec["annotations"] == {"walk.pod": "1", "exact": "4"}
        assert not spec["linux"].get("devices")
        cri.remove_sandbox(sandbox)
        assert os.listdir(root) == [] and not os.path.exists(path)
    finally:
        place.close()


# What a program can do wrong, and what the configuration can: one engine with programs of a few lines. -------------------


@pytest.fixture(scope="module")
def odd():
    """An engine whose handlers misbehave; `odd.script(name)` is what one of them does."""
    folder = "/tmp/fluyt-odd-" + str(os.getpid())
    os.makedirs(folder)
    text = ""
    for name in ("hangs", "fails", "later"):
        script(folder, name, f'exec {harness.BIN}/runf "$@"')
        text += f'[runtime.handlers.{name}]\npath = "{folder}/{name}"\n'
    engine = harness.Engine(settings=text)
    engine.start()
    engine.odd, engine.settings = folder, text
    yield engine
    engine.close()
    subprocess.run(["rm", "-r", folder], check=True)


def script(folder, name, *lines):
    """Written beside and renamed into place: a program that runs cannot be written."""
    with open(f"{folder}/{name}.new", "w", encoding="ascii") as file:
        file.write("\n".join(["#!/bin/sh", *lines]) + "\n")
    os.chmod(f"{folder}/{name}.new", 0o755)
    os.rename(f"{folder}/{name}.new", f"{folder}/{name}")


@pytest.fixture(scope="module")
def odd_cri(odd):
    client = c.Client(odd.socket, odd.folder + "/logs")
    yield client
    client.close()


def start_again(odd, settings):
    """Another fluytd under what runs, with another configuration. Clients have lost their connection by then."""
    odd.kill()
    odd.configure(settings)
    odd.start()
    client = c.Client(odd.socket, odd.folder + "/logs")

    def answers():
        with contextlib.suppress(c.grpc.RpcError):
            return client.runtime.Version(c.pb.VersionRequest(), timeout=5)

    harness.wait_for(answers, "a new connection")
    return client


def statuses(cri):
    answer = cri.runtime.Status(c.pb.StatusRequest(), timeout=10)
    return {handler.name: handler.features.recursive_read_only_mounts for handler in answer.runtime_handlers}


def test_unknown_handlers_are_refused(odd, odd_cri, busybox):
    config = odd_cri.sandbox_config()
    code, message = c.error_of(odd_cri.run_sandbox, config, "kata")
    assert code == "INVALID_ARGUMENT" and '"kata"' in message and '"hangs"' in message, message
    image = c.pb.ImageSpec(image=busybox, runtime_handler="kata")
    code, message = c.error_of(odd_cri.images.PullImage, c.pb.PullImageRequest(image=image))
    assert code == "INVALID_ARGUMENT" and '"kata"' in message, message
    odd_cri.pull(busybox)
    sandbox = odd_cri.run_sandbox(config)
    wanted = odd_cri.container_config(busybox, ["true"])
    wanted.image.runtime_handler = "kata"
    code, message = c.error_of(odd_cri.create, sandbox, config, wanted)
    assert code == "INVALID_ARGUMENT" and '"kata"' in message, message
    odd_cri.remove_sandbox(sandbox)


def test_status_lists_handlers_and_what_they_can(odd, odd_cri):
    assert statuses(odd_cri) == {"": True, "runf": True, "guest": True, "hangs": True, "fails": True, "later": True}
    script(odd.odd, "later", "exit 1")
    harness.wait_for(lambda: statuses(odd_cri)["later"] is False, "the new program to be asked")
    script(odd.odd, "later", f'exec {harness.BIN}/runf "$@"')
    harness.wait_for(lambda: statuses(odd_cri)["later"], "the next one to be asked")


def test_a_person_chooses_one_too(odd, busybox):
    assert re.search(r"^Handlers +runf, fails, hangs, later, guest$", odd.fluyt("info").stdout, re.MULTILINE)
    done = odd.fluyt("run", "--rm", "--runtime", "later", busybox, "echo", "hello")
    assert done.stdout == "hello\n", done.stderr
    refused = odd.fluyt("run", "--rm", "--runtime", "kata", busybox, "true", check=False)
    assert refused.returncode != 0 and '"kata"' in refused.stderr, refused.stderr


def test_a_program_that_hangs_is_ended_and_undone(odd, odd_cri, busybox):
    odd_cri.pull(busybox)
    config = odd_cri.sandbox_config()
    sandbox = odd_cri.run_sandbox(config, "hangs")
    script(odd.odd, "hangs", 'case " $* " in *" create "*) sleep 4321;; esac', f'exec {harness.BIN}/runf "$@"')
    wanted = odd_cri.container_config(busybox, ["sleep", "1000"])
    code, message = c.error_of(odd_cri.create, sandbox, config, wanted, timeout=3)
    assert code == "DEADLINE_EXCEEDED", message
    odd_cri.remove_sandbox(sandbox)  # waits for no create
    harness.wait_for(lambda: subprocess.run(["pgrep", "-f", "sleep 4321"], stdout=subprocess.DEVNULL).returncode == 1,
                     "its processes to end", 20)
    assert not os.path.exists(f"{odd.state}/sandboxes/{sandbox}")


def test_a_program_that_fails_says_why(odd, odd_cri, busybox):
    odd_cri.pull(busybox)
    config = odd_cri.sandbox_config()
    script(odd.odd, "fails", 'log=; for word; do [ "$last" = --log ] && log=$word; last=$word; done',
           """case " $* " in *" create "*) echo '{"level":"error","msg":"no moon tonight"}' >"$log"; exit 1;; esac""",
           f'exec {harness.BIN}/runf "$@"')
    sandbox = odd_cri.run_sandbox(config, "fails")
    wanted = odd_cri.container_config(busybox, ["sleep", "1000"])
    code, message = c.error_of(odd_cri.create, sandbox, config, wanted)
    assert "fails: no moon tonight" in message, message
    script(odd.odd, "fails", f'exec {harness.BIN}/runf "$@"')
    container = odd_cri.create(sandbox, config, wanted)  # nothing of the first is in the way
    odd_cri.start(container)
    odd_cri.remove_sandbox(sandbox)


def test_a_handler_may_leave_the_configuration(odd, odd_cri, busybox):
    odd_cri.pull(busybox)
    config = odd_cri.sandbox_config()
    sandbox = odd_cri.run_sandbox(config, "later")
    container = odd_cri.run_container(sandbox, config, odd_cri.container_config(busybox, ["sleep", "1000"]))
    later = start_again(odd, "")
    try:
        assert statuses(later) == {"": True, "runf": True, "guest": True}
        assert later.status(container).state == c.RUNNING
        assert later.exec(container, "echo", "here")[1] == b"here\n"
        wanted = later.container_config(busybox, ["true"], name="second")
        code, message = c.error_of(later.create, sandbox, config, wanted)
        assert code == "FAILED_PRECONDITION" and '"later"' in message, message
        later.stop(container)
        later.remove_sandbox(sandbox)
        assert not os.path.exists(f"{odd.state}/sandboxes/{sandbox}")
    finally:
        later.close()
        start_again(odd, odd.settings).close()


def test_the_default_can_be_another(odd, busybox):
    cri = start_again(odd, '[runtime]\ndefault_handler = "later"\n' + odd.settings)
    cri.pull(busybox)
    config = cri.sandbox_config()
    sandbox = cri.run_sandbox(config)
    container = cri.run_container(sandbox, config, cri.container_config(busybox, ["sleep", "1000"]))
    assert os.listdir(f"{odd.state}/sandboxes/{sandbox}/monitor/runtime") == [container]
    cri.remove_sandbox(sandbox)
    cri.close()


@pytest.mark.parametrize("text, words", [
    ('[runtime.handlers.x]\npath = "runc"', 'runtime.handlers.x.path: "runc": expected an absolute path'),
    ('[runtime.handlers.x]\npath = "/no/such"', "runtime.handlers.x.path: /no/such"),
    ('[runtime.handlers.x]\npath = "/etc/passwd"', "runtime.handlers.x.path: /etc/passwd: expected a program"),
    ('[runtime.handlers.X]\npath = "/bin/true"', '"X": expected a handler\'s name'),
    ('[runtime.handlers.runf]\npath = "/bin/true"', '"runf": is built in'),
    ('[runtime.handlers.x]\npath = "/bin/true"\noptions = ["--root=/x"]', "\"--root=/x\": expected none of"),
    ('[runtime.handlers.x]\npath = "/bin/true"\nsandbox_container = "yes"', 'runtime.handlers.x.sandbox_container: "yes": expected true'),
    ('[runtime.handlers.x]\npath = "/bin/true"\nspeed = 3', 'runtime.handlers.x.speed: there is no such key: expected one of'),
    ('[runtime]\ndefault_handler = "x"', 'runtime.default_handler: "x": expected "runf" or one of'),
])
def test_a_wrong_configuration_names_the_field(text, words, tmp_path):
    path = str(tmp_path / "fluytd.toml")
    with open(path, "w", encoding="ascii") as file:
        file.write(text + "\n")
    done = subprocess.run([harness.BIN + "/fluytd", "--config", path, "--root", str(tmp_path / "root"), "--state",
                           str(tmp_path / "state"), "--listen", f"unix:{tmp_path}/sock"], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=20, check=False)
    assert done.returncode != 0 and words in done.stdout, done.stdout
