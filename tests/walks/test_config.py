"""fluytd's configuration: what `fluytd config` says of it, and what a reload by SIGHUP changes under pods that run."""

import json
import os
import re
import signal
import socket
import subprocess

import cri as c
import handlers
import harness
import images
import pytest
from reloaded import Reloaded, fluytd, write

# What is printed ---------------------------------------------------------------------------------------------------------

def test_the_printed_default_is_a_configuration(tmp_path):
    printed = fluytd("config", "default")
    assert printed.returncode == 0
    path = str(tmp_path / "fluytd.toml")
    write(path, printed.stdout)
    checked = fluytd("config", "check", "--config", path)
    assert checked.returncode == 0 and "no errors" in checked.stdout, checked.stderr

    def in_force(file):
        dump = fluytd("config", "dump", "--config", file).stdout
        return [line.split("  # ")[0] for line in dump.splitlines() if line and not line.startswith("#")]
    assert in_force(path) == in_force("/dev/null")


def test_everything_that_is_wrong_is_said_at_once(tmp_path):
    path = str(tmp_path / "fluytd.toml")
    os.mkdir(tmp_path / "conf.d")
    write(path, 'root = "x"\nlog_level = "loud"\n\n[image]\nparalel_fetches = 3\n')
    write(str(tmp_path / "conf.d" / "10.toml"), '[cni]\nbin_dirs = "/x"\n[runtime.handlers.x]\npath = "/no/such"\n')
    write(str(tmp_path / "conf.d" / "20.toml"), "[image\n")
    done = fluytd("config", "check", "--config", path)
    assert done.returncode == 1
    lines = done.stderr.replace(str(tmp_path), "DIR").splitlines()
    for wanted in ('DIR/fluytd.toml:1: root: "x": expected an absolute path',
                   'DIR/fluytd.toml:2: log_level: "loud": expected trace, debug, info, warn or error',
                   'DIR/fluytd.toml:5: image.paralel_fetches: 3: there is no such key: did you mean "image.parallel_fetches"?',
                   'DIR/conf.d/10.toml:2: cni.bin_dirs: "/x": expected a list of absolute paths'):
        assert wanted in lines, done.stderr
    assert [line for line in lines if line.startswith("DIR/conf.d/10.toml:4: runtime.handlers.x.path: ")], done.stderr
    assert [line for line in lines if line.startswith("DIR/conf.d/20.toml:1: ")], done.stderr
    assert len(lines) == 6, done.stderr


def test_the_dump_says_where_each_value_comes_from(tmp_path):
    path = str(tmp_path / "fluytd.toml")
    os.mkdir(tmp_path / "conf.d")
    write(path, 'root = "/a"\nstate = "/b"\n[[image.credentials]]\nmatch = "a.example"\nusername = "u"\npassword = "hunter2"\n')
    write(str(tmp_path / "conf.d" / "10.toml"), '\nstate = "/c"\n')
    dump = fluytd("config", "dump", "--config", path, "--log-level", "warn").stdout
    assert f'root = "/a"  # {path}:1\n' in dump
    assert f'state = "/c"  # {tmp_path}/conf.d/10.toml:2\n' in dump
    assert 'log_level = "warn"  # --log-level\n' in dump
    assert "parallel_fetches = 3  # default\n" in dump
    assert 'match = "a.example"' in dump and "hunter2" not in dump


# What a reload changes -----------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def node():
    made = Reloaded()
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def running(node, kubelet, busybox):
    """A container that runs through all of it, and counts."""
    kubelet.pull(busybox)
    config = kubelet.sandbox_config()
    sandbox = kubelet.run_sandbox(config)
    container = kubelet.run_container(sandbox, config, kubelet.container_config(
        busybox, ["sh", "-c", "i=0; while true; do i=$((i+1)); echo $i; sleep 0.05; done"]))
    pid = json.loads(kubelet.runtime.ContainerStatus(c.pb.ContainerStatusRequest(
        container_id=container, verbose=True), timeout=30).info["info"])["pid"]
    yield container
    with open(config.log_directory + "/main.log", encoding="utf-8") as file:
        counted = [int(line.split()[-1]) for line in file]
    assert counted == list(range(1, len(counted) + 1)) and len(counted) > 20
    assert os.path.exists(f"/proc/{pid}"), "it was disturbed"
    assert kubelet.status(container).state == c.RUNNING


def verbose_config(kubelet):
    return json.loads(kubelet.runtime.Status(c.pb.StatusRequest(verbose=True), timeout=30).info["config"])


with_pod = pytest.mark.usefixtures("running")


@with_pod
def test_the_log_level_changes(node):
    said = node.change(log_level="debug")
    assert f'reload: log_level: "info" -> "debug" ({node.folder}/fluytd.toml:4)' in said
    assert node.fluyt("log-level").stdout == "debug\n"
    assert node.fluyt("log-level", "warn").returncode == 0  # live, until the next reload
    assert node.fluyt("log-level").stdout == "warn\n"
    assert 'log level: debug -> warn' not in node.text().splitlines()[-1]  # it is below warn
    node.change()
    assert node.fluyt("log-level").stdout == "info\n"
    refused = node.fluyt("log-level", "loud", check=False)
    assert refused.returncode != 0 and '"loud": expected trace, debug, info, warn or error' in refused.stderr


@with_pod
def test_a_log_that_was_moved_is_opened_again_and_may_change_its_form(node):
    os.rename(node.folder + "/own.log", node.folder + "/own.log.1")
    write(node.folder + "/own.log", "")
    node.change(log_format="json")
    lines = [json.loads(line) for line in node.text().splitlines()]
    assert lines and all(set(line) == {"time", "level", "message"} for line in lines)
    node.change()
    assert " info reload: log_format: " in node.text()


@with_pod
def test_journald_gets_the_log(node):
    """A socket in journald's place, in the mount namespace that the walk has for itself."""
    place = "/run/systemd/journal"
    if os.path.exists(place + "/socket"):
        pytest.skip("journald runs here: this would write into its journal")
    os.makedirs(place, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(place + "/socket")
        journal.settimeout(20)
        try:
            node.drop_in("", log_target="journald")
            node.process.send_signal(signal.SIGHUP)
            entries = [journal.recv(1 << 16).decode()]
            while " keys changed" not in entries[-1]:
                entries.append(journal.recv(1 << 16).decode())
            assert all("\nSYSLOG_IDENTIFIER=fluytd\n" in entry and entry.startswith("PRIORITY=6\n") for entry in entries)
            node.change()
        finally:
            os.unlink(place + "/socket")


@with_pod
def test_a_new_handler_runs_pods_and_an_old_one_leaves(node, kubelet, busybox):
    config = kubelet.sandbox_config()
    code, message = c.error_of(kubelet.run_sandbox, config, "program")
    assert code == "INVALID_ARGUMENT" and '"program"' in message
    text = f'[runtime.handlers.program]\npath = "{handlers.find("runf-program")}"\n'
    said = node.change(text)
    assert re.search(r"reload: runtime\.handlers: \{ guest = .* -> \{ .*program = ", said), said
    assert "program" in node.fluyt("info").stdout
    sandbox = kubelet.run_sandbox(config, "program")
    container = kubelet.run_container(sandbox, config, kubelet.container_config(busybox, ["sleep", "1000"]))
    said = node.change(text + '[runtime]\ndefault_handler = "program"\n')
    assert 'reload: runtime.default_handler: "runf" -> "program"' in said
    by_default = kubelet.sandbox_config()
    other = kubelet.run_sandbox(by_default)
    kubelet.run_container(other, by_default, kubelet.container_config(busybox, ["sleep", "1000"]))
    assert os.listdir(f"{node.state}/sandboxes/{other}/monitor/runtime")  # what a program keeps of its containers
    node.change()
    assert kubelet.exec(container, "echo", "still")[1] == b"still\n"
    assert c.error_of(kubelet.run_sandbox, kubelet.sandbox_config(), "program")[0] == "INVALID_ARGUMENT"
    kubelet.remove_sandbox(sandbox)
    kubelet.remove_sandbox(other)


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    """A registry that wants a login: anybody with the password "open sesame"."""
    from test_registries import bcrypt
    folder = str(tmp_path_factory.mktemp("private"))
    opened = harness.Registry(folder)
    images.push(harness.busybox_image(), opened.address, "team/app", "v1")
    opened.stop()
    with open(folder + "/passwords", "w", encoding="utf-8") as file:
        file.write("walker:" + bcrypt("open sesame") + "\n")
    closed = harness.Registry(folder, {"htpasswd": {"realm": "walk", "path": folder + "/passwords"}})
    yield closed.address
    closed.stop()


@with_pod
def test_credentials_change_and_a_password_file_is_read_again(node, kubelet, private):
    image = private + "/team/app:v1"
    password = node.folder + "/password"
    write(password, "wrong\n")
    text = f'[[image.credentials]]\nmatch = "{private}"\nusername = "walker"\npassword_file = "{password}"\n'
    node.change(text)
    assert c.error_of(kubelet.pull, image)[0] != "OK"
    write(password, "open sesame\n")
    said = node.reload()
    assert "reload: image.credentials: changed" in said and "sesame" not in said
    assert kubelet.pull(image)
    node.fluyt("rmi", image)
    node.change()
    assert c.error_of(kubelet.pull, image)[0] != "OK"
    assert "sesame" not in node.text()


@with_pod
def test_pinned_images_change(node, kubelet, busybox):
    def pinned():
        return [image.pinned for image in kubelet.images.ListImages(c.pb.ListImagesRequest(), timeout=30).images
                if busybox in image.repo_tags]
    assert pinned() == [False]
    node.change(f'[image]\npinned = ["{busybox}"]\n')
    assert pinned() == [True]
    node.change()
    assert pinned() == [False]


@with_pod
def test_another_folder_of_networks_is_for_the_pods_after_it(node, kubelet, busybox):
    before = kubelet.sandbox_config()
    old = kubelet.run_sandbox(before)
    os.makedirs(node.folder + "/other.d", exist_ok=True)
    other = json.loads(json.dumps(harness.BRIDGE))
    other["name"] = "fluyt-other"
    for plugin in other["plugins"]:
        if "ipam" in plugin:
            plugin["ipam"]["ranges"] = [[{"subnet": "10.188.0.0/16"}]]
            plugin["ipam"]["dataDir"] = node.folder + "/leases"
            plugin["bridge"] = "fluyttest1"
    with open(node.folder + "/other.d/10-other.conflist", "w", encoding="utf-8") as file:
        json.dump(other, file)

    def address(sandbox):
        return kubelet.runtime.PodSandboxStatus(c.pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox), timeout=30).status.network.ip
    said = node.change(f'[cni]\nconf_dir = "{node.folder}/other.d"\n')
    assert "reload: cni.conf_dir: " in said
    assert verbose_config(kubelet)["cniConfDir"] == node.folder + "/other.d"
    new = kubelet.run_sandbox(kubelet.sandbox_config())
    assert address(old).startswith("10.187.") and address(new).startswith("10.188.")
    kubelet.remove_sandbox(old)  # by the one that is not in force any more
    node.change("[network]\nbuiltin = false\n")
    kubelet.remove_sandbox(new)
    by_programs = kubelet.run_sandbox(kubelet.sandbox_config())
    assert address(by_programs).startswith("10.187.")
    node.change()
    kubelet.remove_sandbox(by_programs)
    subprocess.run(["ip", "link", "del", "fluyttest1"], check=True)


@with_pod
def test_cgroup_parents_are_for_new_pods(node, kubelet, busybox):
    def cgroup_of(container):
        info = json.loads(kubelet.runtime.ContainerStatus(c.pb.ContainerStatusRequest(
            container_id=container, verbose=True), timeout=30).info["info"])
        with open(f"/proc/{info['pid']}/cgroup", encoding="utf-8") as file:
            return file.read()
    node.change('[cgroup]\nparent = "/fluyt-other"\n')
    config = kubelet.sandbox_config()
    sandbox = kubelet.run_sandbox(config)
    container = kubelet.run_container(sandbox, config, kubelet.container_config(busybox, ["sleep", "1000"]))
    assert "/fluyt-other/" in cgroup_of(container)
    node.change()
    kubelet.remove_sandbox(sandbox)


@with_pod
def test_a_bad_reload_changes_nothing_and_says_so_once(node, kubelet):
    before = verbose_config(kubelet)
    node.drop_in('[runtime.handlers.x]\npath = "/bin/true"\n[image]\npined = []\n', log_level="debug")
    said = node.reload("reload: nothing changed: ")
    assert 'image.pined: []: there is no such key: did you mean "image.pinned"?' in said
    assert len([line for line in said.splitlines() if "reload: " in line]) == 1 and " error reload: " in said
    assert node.fluyt("log-level").stdout == "info\n"
    assert c.error_of(kubelet.run_sandbox, kubelet.sandbox_config(), "x")[0] == "INVALID_ARGUMENT"
    now = verbose_config(kubelet)
    assert "image.pined" in now.pop("configRefused") and before.pop("configRefused") == ""
    assert now == before  # the files and the time are those of what is in force
    assert "the last reload changed nothing" in node.fluyt("info").stdout

    # What only a part can tell: the certificate is not there.
    node.drop_in(f'[cri.streaming]\ntls_cert = "{node.folder}/none.pem"\ntls_key = "{node.folder}/none.key"\n', log_level="debug")
    assert "cri.streaming.tls_cert: " in node.reload("reload: nothing changed: ")
    assert node.fluyt("log-level").stdout == "info\n"

    node.change()
    assert "changed nothing" not in node.fluyt("info").stdout
    assert verbose_config(kubelet)["configLoadedAt"] > before["configLoadedAt"]


@with_pod
def test_what_takes_a_restart_is_named_and_the_rest_is_in_force(node):
    node.drop_in('[cgroup]\ndriver = "systemd"\n', root=node.folder + "/elsewhere", listen="unix:/run/elsewhere.sock",
                 log_level="debug")
    said = node.reload()
    for key in ("root", "listen", "cgroup.driver"):
        assert [line for line in said.splitlines() if f" warning reload: {key}: " in line and "takes a restart" in line], said
    assert node.fluyt("log-level").stdout == "debug\n"
    assert not os.path.exists(node.folder + "/elsewhere")
    assert node.fluyt("info").stdout.count(node.root)
    node.change()


@with_pod
def test_streaming_moves_and_open_sessions_go_on(node, kubelet, running):
    def url():
        return kubelet.runtime.Exec(c.pb.ExecRequest(container_id=running, cmd=["true"], stdout=True), timeout=20).url
    before = url()
    session = subprocess.Popen([harness.crictl(), "-r", "unix://" + node.socket, "exec", "-i", running, "cat"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
    session.stdin.write(b"one\n")
    session.stdin.flush()
    assert session.stdout.readline() == b"one\n"
    port = harness.free_port()
    node.change(f'[cri.streaming]\nport = {port}\naddress = "127.0.0.2"\n')
    harness.wait_for(lambda: url().startswith(f"http://127.0.0.2:{port}/"), "the new address")
    assert node.crictl("exec", running, "echo", "there").stdout == "there\n"
    host, old = before.split("/")[2].rsplit(":", 1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(old)), 5)
    session.stdin.write(b"two\n")
    session.stdin.flush()
    assert session.stdout.readline() == b"two\n"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        node.drop_in(f'[cri.streaming]\nport = {taken.getsockname()[1]}\n')
        assert "cri.streaming: listen on 127.0.0.1:" in node.reload("Address already in use")
    assert url().startswith(f"http://127.0.0.2:{port}/")
    node.change()
    harness.wait_for(lambda: url().startswith("http://127.0.0.1:"), "the first address")
    assert session.communicate(b"three\n", timeout=20)[0] == b"three\n" and session.returncode == 0


@with_pod
def test_streaming_gets_and_loses_tls(node, kubelet, running, tmp_path):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
                    "2", "-subj", "/CN=walk", "-keyout", tmp_path / "key", "-out", tmp_path / "crt"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def scheme():
        return kubelet.runtime.Exec(c.pb.ExecRequest(container_id=running, cmd=["true"], stdout=True), timeout=20).url.split(":")[0]
    assert scheme() == "http"
    node.change(f'[cri.streaming]\ntls_cert = "{tmp_path}/crt"\ntls_key = "{tmp_path}/key"\n')
    harness.wait_for(lambda: scheme() == "https", "https")
    node.change()
    harness.wait_for(lambda: scheme() == "http", "http")


@with_pod
def test_the_configuration_is_shown(node, kubelet):
    shown = verbose_config(kubelet)
    assert shown["configFiles"] == [node.folder + "/fluytd.toml", node.folder + "/conf.d/50-test.toml"]
    said = node.fluyt("info").stdout
    assert node.folder + "/conf.d/50-test.toml" in said and " ago" in said


def test_without_a_file_the_flags_hold_through_a_reload():
    engine = harness.Engine()  # by flags; its file is empty
    engine.start()
    try:
        engine.configure('log_level = "error"\n[image]\npinned = ["a.example/x"]\n')
        engine.process.send_signal(signal.SIGHUP)

        def said():
            with open(engine.log, encoding="utf-8") as file:
                return file.read()
        harness.wait_for(lambda: "1 keys changed" in said(), "the reload")
        assert "reload: image.pinned: " in said() and "reload: log_level" not in said()
    finally:
        engine.close()
