"""containerd with runf as its runtime, driven by crictl: containerd and its shim are Debian's, crictl is the one that
`./dev tools` builds."""

import json
import os

import pytest
from peer import IMAGE, RUNF, SUITE, cgroup_dirs, make_archive, on_terminal, processes, sh, start_daemon, stop_daemon, tail, wait_for

SOCKET = "/run/containerd/containerd.sock"
LOG = "/run/containerd.log"
STATE = "/run/containerd/runc/k8s.io"
PAUSE = "docker.io/fluyt/pause:latest"
CRICTL = "/fluyt/build/tools/crictl"

CONFIG = {"bookworm": """version = 2
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "%(image)s"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/run/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runf"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runf]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runf.options]
        BinaryName = "%(runf)s"
""", "sid": """version = 3
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "%(image)s"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "/run/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runf"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runf]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runf.options]
        BinaryName = "%(runf)s"
"""}
NETWORK = {"cniVersion": "0.4.0", "name": "peers", "plugins": [
    {"type": "bridge", "bridge": "peers0", "isGateway": True,
     "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.201.0.0/24"}]], "dataDir": "/run/leases"}}]}


def crictl(*words, **options):
    return sh(CRICTL, "-r", "unix://" + SOCKET, "-i", "unix://" + SOCKET, "-t", "60s", *words, **options)


@pytest.fixture(scope="module", autouse=True)
def daemon(archive):
    if not os.path.exists(CRICTL):
        pytest.skip("no crictl: ./dev tools builds it")
    os.makedirs("/run/cni")
    with open("/run/cni/10-peers.conflist", "w", encoding="utf-8") as file:
        json.dump(NETWORK, file)
    with open("/run/containerd.toml", "w", encoding="utf-8") as file:
        file.write(CONFIG[SUITE] % {"image": PAUSE, "runf": RUNF})
    before = cgroup_dirs()
    process = start_daemon(["containerd", "--config", "/run/containerd.toml"], LOG)
    try:
        wait_for(lambda: process.poll() is not None or crictl("version", code=None).code == 0, "containerd", 40)
        assert process.poll() is None, tail(LOG)
        for path in (archive[0], make_archive("/run/pause.tar", PAUSE, ["sleep", "1000000"])):
            sh("ctr", "-n", "k8s.io", "images", "import", path)
        yield
        crictl("rmp", "-fa", code=None)
        assert os.listdir(STATE) == []
        wait_for(lambda: not [line for line in processes().values() if "containerd-shim" in line], "the shims to end")
        wait_for(lambda: not {folder for folder in cgroup_dirs() - before if "/k8s.io" in folder or "/peers-pod/" in folder},
                 "the cgroups to go")
    finally:
        stop_daemon(process)


@pytest.fixture
def files(tmp_path):
    """Writes a configuration and returns its path."""
    def write(name, value):
        path = tmp_path / (name + ".json")
        path.write_text(json.dumps(value))
        return str(path)
    return write


COUNT = [0]


@pytest.fixture
def pod(files, tmp_path):
    """(its id, the file of its configuration)."""
    COUNT[0] += 1
    name = f"pod{COUNT[0]}"
    config = files("pod", {"metadata": {"name": name, "namespace": "default", "uid": name, "attempt": 0},
                           "hostname": name, "log_directory": str(tmp_path), "linux": {"cgroup_parent": "/peers-pod"}})
    made = crictl("runp", config).out.strip()
    yield made, config
    crictl("rmp", "-f", made, code=None)  # a test may have removed it


def start(pod, files, command, linux=None, name="main"):
    config = files(name, {"metadata": {"name": name, "attempt": 0}, "image": {"image": IMAGE}, "command": command,
                          "log_path": name + ".log", "linux": linux or {}})
    made = crictl("create", pod[0], config, pod[1]).out.strip()
    crictl("start", made)
    return made


LOOP = ["sh", "-c", "trap 'echo told; exit 7' TERM; echo begun; while :; do sleep 0.1; done"]


def info(container):
    return json.loads(crictl("inspect", container).out)


def test_it_is_runf_that_runs(pod, files):
    made = start(pod, files, LOOP)
    assert {pod[0], made} <= set(os.listdir(STATE))
    for name in (pod[0], made):
        assert json.loads(sh(RUNF, "--root", STATE, "state", name).out)["status"] == "running"
    assert info(made)["info"]["pid"] == json.loads(sh(RUNF, "--root", STATE, "state", made).out)["pid"]


def test_the_verbs_of_a_pod_s_life(pod, files):
    made = start(pod, files, LOOP)
    assert info(made)["status"]["state"] == "CONTAINER_RUNNING"
    wait_for(lambda: "begun" in crictl("logs", made).out, "the first line")
    done = crictl("exec", "-s", made, "sh", "-c", "hostname; cat /proc/1/comm")
    assert done.out.splitlines()[0].startswith("pod")
    crictl("stop", "-t", "10", made)
    assert info(made)["status"]["state"] == "CONTAINER_EXITED" and info(made)["status"]["exitCode"] == 7
    assert crictl("logs", made).out == "begun\ntold\n"
    crictl("rm", made)
    assert made not in os.listdir(STATE)
    crictl("stopp", pod[0])
    assert json.loads(crictl("inspectp", pod[0]).out)["status"]["state"] == "SANDBOX_NOTREADY"
    crictl("rmp", pod[0])
    assert pod[0] not in os.listdir(STATE)


def test_exec_tells_the_status(pod, files):
    made = start(pod, files, LOOP)
    done = crictl("exec", "-s", made, "sh", "-c", "echo out; echo err >&2; exit 5", code=None)
    assert done.code != 0 and "exited with 5: err" in done.err
    done = crictl("exec", "-s", made, "/no/such", code=None)
    assert "no such file or directory" in done.err


def test_exec_over_a_stream_and_a_terminal(pod, files):
    made = start(pod, files, LOOP)
    endpoint = ["-r", "unix://" + SOCKET, "-i", "unix://" + SOCKET]
    assert crictl("exec", "-i", made, "cat", text="through\n").out == "through\n"
    code, shown = on_terminal([CRICTL, *endpoint, "exec", "-it", made, "sh"], "test -t 0 && echo got-$((40+2)); exit 0\n")
    assert code == 0 and "got-42" in shown


def test_a_missing_program_is_an_error_of_create_or_start(pod, files):
    config = files("bad", {"metadata": {"name": "bad"}, "image": {"image": IMAGE}, "command": ["/no/such"]})
    made = crictl("create", pod[0], config, pod[1]).out.strip()
    assert "no such file or directory" in crictl("start", made, code=1).err
    crictl("rm", "-f", made)


def test_stats(pod, files):
    made = start(pod, files, LOOP)
    figures = wait_for(lambda: json.loads(crictl("stats", "-o", "json", made).out)["stats"], "figures")[0]
    assert int(figures["memory"]["workingSetBytes"]["value"]) > 0
    assert int(figures["cpu"]["usageCoreNanoSeconds"]["value"]) > 0


def limit(container, controller, name):
    with open(f"/proc/{info(container)['info']['pid']}/cgroup", encoding="ascii") as file:
        for line in file:
            _, controllers, path = line.strip().split(":", 2)
            if controller in controllers.split(","):
                with open(f"/sys/fs/cgroup/{controllers}{path}/{name}", encoding="ascii") as value:
                    return value.read().strip()
    raise AssertionError(f"no cgroup of {controller}")


def test_limits_and_update(pod, files):
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        pytest.skip("reads the limits as a v1 host has them")
    made = start(pod, files, LOOP, {"resources": {"memory_limit_in_bytes": 64 << 20, "cpu_quota": 50000,
                                                  "cpu_period": 100000, "cpu_shares": 512}})
    assert limit(made, "memory", "memory.limit_in_bytes") == str(64 << 20)
    assert limit(made, "cpu", "cpu.cfs_quota_us") == "50000"
    crictl("update", "--memory", str(96 << 20), "--cpu-quota", "25000", "--cpu-period", "100000", made)
    assert limit(made, "memory", "memory.limit_in_bytes") == str(96 << 20)
    assert limit(made, "cpu", "cpu.cfs_quota_us") == "25000"


def test_one_that_eats_its_memory_is_said_to_be_oom_killed(pod, files):
    made = start(pod, files, ["tail", "/dev/zero"], {"resources": {"memory_limit_in_bytes": 16 << 20}})
    wait_for(lambda: info(made)["status"]["state"] == "CONTAINER_EXITED", "its end")
    assert info(made)["status"]["reason"] == "OOMKilled" and info(made)["status"]["exitCode"] == 137


def test_containers_of_a_pod_share_what_a_pod_shares(pod, files):
    first, second = start(pod, files, LOOP, name="one"), start(pod, files, LOOP, name="two")

    def namespace(container, kind):
        return os.readlink(f"/proc/{info(container)['info']['pid']}/ns/{kind}")
    for kind in ("net", "ipc", "uts", "pid"):
        assert namespace(first, kind) == namespace(second, kind)
    assert namespace(first, "mnt") != namespace(second, "mnt")
    address = json.loads(crictl("inspectp", pod[0]).out)["status"]["network"]["ip"]
    assert address in crictl("exec", "-s", second, "ip", "-4", "addr", "show", "eth0").out


def test_a_security_context(pod, files):
    made = start(pod, files, LOOP, {"security_context": {
        "run_as_user": {"value": 1234}, "readonly_rootfs": True, "no_new_privs": True, "seccomp": {"profile_type": 0},
        "capabilities": {"drop_capabilities": ["ALL"]}}})
    out = crictl("exec", "-s", made, "sh", "-c", "id -u; touch /new; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status",
                 code=None).out
    assert "1234" in out and "CapEff:\t0000000000000000" in out and "NoNewPrivs:\t1" in out and "Seccomp:\t2" in out


def test_ten_pods_at_once_and_nothing_left(files, tmp_path):
    made = []
    for number in range(10):
        config = files(f"many{number}", {"metadata": {"name": f"many{number}", "namespace": "default", "uid": f"many{number}"},
                                         "log_directory": str(tmp_path), "linux": {"cgroup_parent": "/peers-pod"}})
        made.append(crictl("runp", config).out.strip())
    assert set(made) <= set(os.listdir(STATE))
    crictl("rmp", "-f", *made)
    assert not set(made) & set(os.listdir(STATE))
