"""Metrics for Prometheus: the page is read strictly, and says what happened."""

import os
import socket

import cri as c
import harness
import prometheus
import pytest
from reloaded import Reloaded

DOCS = os.path.join(harness.ROOT, "docs", "metrics.md")


@pytest.fixture(scope="module")
def node():
    made = Reloaded()
    made.address = f"unix:{made.folder}/run/metrics.sock"
    made.base = f'[metrics]\nlisten = "{made.address}"\n'
    made.drop_in("")
    made.start()
    yield made
    made.close()


def test_the_page_says_what_happened(node, kubelet, busybox):
    before = prometheus.scrape(node.address)
    assert before["fluyt_sandboxes"].value(state="ready") == 0
    assert before["fluyt_image_pulls_total"].value(result="ok") == 0
    kubelet.pull(busybox)
    c.error_of(kubelet.pull, busybox.rsplit(":", 1)[0] + ":no-such")
    config = kubelet.sandbox_config()
    sandbox = kubelet.run_sandbox(config)
    kubelet.run_container(sandbox, config, kubelet.container_config(busybox, ["sleep", "1000"]))
    kubelet.create(sandbox, config, kubelet.container_config(busybox, ["true"], name="second"))
    c.error_of(kubelet.run_sandbox, config)  # the name is taken
    now = prometheus.scrape(node.address)
    assert now["fluyt_sandboxes"].value(state="ready") == 1 and now["fluyt_monitors"].value() == 1
    assert now["fluyt_containers"].value(state="running") == 1 and now["fluyt_containers"].value(state="created") == 1
    assert now["fluyt_images"].value() == 1 and now["fluyt_image_store_bytes"].value() > 1000
    assert now["fluyt_image_pulls_total"].value(result="ok") == 1
    assert now["fluyt_image_pulls_total"].value(result="error") == 1
    rpc = {"service": "runtime.v1.RuntimeService", "method": "RunPodSandbox"}
    assert now["fluyt_rpcs_total"].value(code="OK", **rpc) == 1
    assert now["fluyt_rpcs_total"].sum(**rpc) == 2
    took = now["fluyt_rpc_duration_seconds"]
    assert took.value("_count", **rpc) == 2 and 0 < took.value("_sum", **rpc) < 60
    assert now["fluyt_network_duration_seconds"].value("_count", operation="attach") == 1
    assert now["fluyt_network_failures_total"].value(operation="attach") == 0
    assert now["process_resident_memory_bytes"].value() > 1 << 20 and now["process_open_fds"].value() > 5
    kubelet.remove_sandbox(sandbox)
    after = prometheus.scrape(node.address)
    assert after["fluyt_sandboxes"].value(state="ready") == 0
    assert after["fluyt_network_duration_seconds"].value("_count", operation="detach") >= 1
    for name, family in now.items():
        if family.type == "counter":  # never goes back
            for series, value in family.samples.items():
                assert after[name].samples[series] >= value, series


def test_a_network_that_fails_is_counted(node, kubelet):
    with open(node.cni + "/00-broken.conflist", "w", encoding="utf-8") as file:
        file.write('{"cniVersion": "1.0.0", "name": "none", "plugins": [{"type": "no-such-plugin"}]}')
    c.error_of(kubelet.run_sandbox, kubelet.sandbox_config())
    os.unlink(node.cni + "/00-broken.conflist")
    assert prometheus.scrape(node.address)["fluyt_network_failures_total"].value(operation="attach") == 1


def test_every_name_is_documented(node):
    with open(DOCS, encoding="utf-8") as file:
        text = file.read()
    for name in prometheus.scrape(node.address):
        assert f"`{name}`" in text or name.startswith("process_"), name


def test_a_refused_reload_shows_and_the_address_may_change(node):
    assert prometheus.scrape(node.address)["fluyt_config_last_reload_successful"].value() == 1
    node.drop_in("rubbish = 1\n")
    node.reload("reload: nothing changed: ")
    assert prometheus.scrape(node.address)["fluyt_config_last_reload_successful"].value() == 0
    port = harness.free_port()
    old, node.base = node.base, f'[metrics]\nlisten = "127.0.0.1:{port}"\n'
    node.change()
    now = prometheus.scrape(f"127.0.0.1:{port}")
    assert now["fluyt_config_last_reload_successful"].value() == 1
    assert not os.path.exists(node.address[len("unix:"):])
    with socket.create_server(("127.0.0.1", 0)) as taken:  # an address that is not to be had
        node.base = f'[metrics]\nlisten = "127.0.0.1:{taken.getsockname()[1]}"\n'
        node.drop_in("", log_level="debug")
        assert "metrics.listen: " in node.reload("reload: nothing changed: ")
    prometheus.scrape(f"127.0.0.1:{port}")
    node.base = ""
    node.change()
    with pytest.raises(ConnectionRefusedError):
        prometheus.get(f"127.0.0.1:{port}")
    node.base = old
    node.change()
    prometheus.scrape(node.address)


def test_hostile_clients_keep_nobody_out(node):
    path = node.address[len("unix:"):]
    rubbish = [b"", b"\x00" * 100_000, b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 10_000, b"POST /metrics HTTP/1.1\r\nContent-Length: "
               b"999999999\r\n\r\n" + b"x" * 1000, b"GET " + b"/" * 50_000 + b" HTTP/1.1\r\n\r\n"]
    for bytes_sent in rubbish * 10:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(20)
            client.connect(path)
            try:
                client.sendall(bytes_sent)
            except (BrokenPipeError, ConnectionResetError):
                pass
    assert prometheus.get(node.address, "/")[0] == 404
    assert prometheus.scrape(node.address)["process_open_fds"].value() < 200
