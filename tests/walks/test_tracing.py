"""Spans that fluytd sends: below the caller's span, nested as the work was, and never in anybody's way."""

import http.server
import json
import subprocess
import threading
import time

import pytest

import cri as c
import harness
import prometheus
from reloaded import Reloaded

SERVICE = "runtime.v1.RuntimeService"


class Collector:
    """Takes OTLP over HTTP on loopback. `answers`: statuses of the next requests, before 200."""

    def __init__(self):
        self.requests, self.answers, self.delay = [], [], 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append((self.path, self.headers["Content-Type"], body))
                time.sleep(outer.delay)
                status = outer.answers.pop(0) if outer.answers else 200
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", "2")
                    self.end_headers()
                    self.wfile.write(b"{}")
                except BrokenPipeError:
                    pass

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def resources(self):
        return [resource for _, _, body in self.requests for resource in body["resourceSpans"]]

    def spans(self):
        return [span for resource in self.resources() for scope in resource["scopeSpans"] for span in scope["spans"]]

    def traced(self, trace_id, count=1):
        """All spans of a trace, once there are so many calls in it."""
        def calls():
            return [span for span in self.spans() if span["traceId"] == trace_id and span["kind"] == 2]
        harness.wait_for(lambda: len(calls()) >= count, f"{count} calls of trace {trace_id}")
        return [span for span in self.spans() if span["traceId"] == trace_id]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def collector():
    made = Collector()
    yield made
    made.close()


@pytest.fixture(scope="module")
def node(collector):
    made = Reloaded()
    made.address = f"unix:{made.folder}/run/metrics.sock"
    made.metrics = f'[metrics]\nlisten = "{made.address}"\n'
    made.traced_to = lambda endpoint, more="": made.metrics + f'[tracing]\nendpoint = "{endpoint}"\n' + more
    made.base = made.traced_to(collector.endpoint)
    made.drop_in("")
    made.start()
    yield made
    made.close()


def attributes(of):
    return {item["key"]: next(iter(item["value"].values())) for item in of["attributes"]}


def parent(trace_id, span_id, flags="01"):
    return (("traceparent", f"00-{trace_id}-{span_id}-{flags}"),)


def run(kubelet, config, metadata):
    return kubelet.runtime.RunPodSandbox(c.pb.RunPodSandboxRequest(config=config), timeout=60, metadata=metadata).pod_sandbox_id


def counted(node, result):
    return prometheus.scrape(node.address)["fluyt_tracing_spans_total"].value(result=result)


def test_a_pod_is_below_the_callers_span(node, kubelet, collector):
    trace_id, span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    before = time.time_ns()
    sandbox = run(kubelet, kubelet.sandbox_config("traced"), parent(trace_id, span_id))
    spans = collector.traced(trace_id)
    after = time.time_ns()
    by_id = {span["spanId"]: span for span in spans}
    assert len(by_id) == len(spans) and all(len(name) == 16 and name == name.lower() for name in by_id)
    (root,) = [span for span in spans if span["parentSpanId"] == span_id]
    assert root["name"] == SERVICE + "/RunPodSandbox" and root["kind"] == 2 and root["status"] == {}
    assert attributes(root) == {"rpc.system": "grpc", "rpc.service": SERVICE, "rpc.method": "RunPodSandbox",
                                "rpc.grpc.status_code": "0", "fluyt.sandbox.id": sandbox}
    assert before < int(root["startTimeUnixNano"]) < int(root["endTimeUnixNano"]) < after
    # The same tree as `fluyt trace` prints, each part within what it was called in.
    names = [span["name"] for span in spans if span is not root]
    (walk,) = json.loads(node.fluyt("trace", "--format", "json", sandbox).stdout)
    assert names == [part["name"] for part in walk["parts"]]
    slack = 1_000_000  # the two clocks are read one after the other
    for span in spans:
        if span is root:
            continue
        above = by_id[span["parentSpanId"]]
        assert int(above["startTimeUnixNano"]) <= int(span["startTimeUnixNano"]) + slack
        assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]) <= int(above["endTimeUnixNano"]) + slack
    plugins = [span for span in spans if span["name"].startswith("plugin ")]
    assert plugins and all(by_id[span["parentSpanId"]]["name"] == "network" for span in plugins)
    resource = attributes(collector.resources()[0]["resource"])
    assert resource["service.name"] == "fluytd" and resource["service.version"] and resource["host.name"]
    assert {(path, kind) for path, kind, _ in collector.requests} == {("/v1/traces", "application/json")}
    kubelet.remove_sandbox(sandbox)


def test_each_call_of_a_pods_life_is_one(kubelet, collector, busybox):
    trace_id = "1" * 32
    kubelet.pull(busybox)
    config = kubelet.sandbox_config()
    metadata = parent(trace_id, "2" * 16)
    sandbox = run(kubelet, config, metadata)
    made = kubelet.runtime.CreateContainer(c.pb.CreateContainerRequest(
        pod_sandbox_id=sandbox, config=kubelet.container_config(busybox, ["sleep", "1000"]), sandbox_config=config),
        metadata=metadata, timeout=60).container_id
    for call in (kubelet.runtime.StartContainer(c.pb.StartContainerRequest(container_id=made), metadata=metadata, timeout=60),
                 kubelet.runtime.StopContainer(c.pb.StopContainerRequest(container_id=made), metadata=metadata, timeout=60),
                 kubelet.runtime.RemovePodSandbox(c.pb.RemovePodSandboxRequest(pod_sandbox_id=sandbox), metadata=metadata, timeout=60)):
        assert call is not None
    calls = [span for span in collector.traced(trace_id, 5) if span["kind"] == 2]
    assert [attributes(span)["rpc.method"] for span in calls] == ["RunPodSandbox", "CreateContainer", "StartContainer",
                                                                  "StopContainer", "RemovePodSandbox"]
    assert all(attributes(span)["fluyt.sandbox.id"] == sandbox for span in calls)
    assert [attributes(span).get("container.id") for span in calls] == [None, made, made, made, None]


def test_what_fails_has_its_status(kubelet, collector):
    trace_id = "3" * 32
    config = kubelet.sandbox_config("twice")
    sandbox = kubelet.run_sandbox(config)
    code, message = c.error_of(run, kubelet, config, parent(trace_id, "4" * 16))
    (span,) = collector.traced(trace_id)
    assert span["status"] == {"code": 2, "message": message}
    assert attributes(span)["rpc.grpc.status_code"] == str(c.grpc.StatusCode[code].value[0])
    kubelet.remove_sandbox(sandbox)


def test_the_callers_flag_and_the_ratio_are_obeyed(node, kubelet, collector):
    node.base = node.traced_to(collector.endpoint, "sampling_per_million = 0\nservice_name = \"node-7\"\n")
    node.change()
    for number, (trace_id, flags) in enumerate((("5" * 32, "00"), ("6" * 32, "01"))):
        kubelet.remove_sandbox(run(kubelet, kubelet.sandbox_config(f"flag-{number}"), parent(trace_id, "7" * 16, flags)))
    kubelet.remove_sandbox(kubelet.run_sandbox(kubelet.sandbox_config("nobodys")))
    collector.traced("6" * 32)
    assert {attributes(resource["resource"])["service.name"] for resource in collector.resources()} == {"fluytd", "node-7"}
    assert not [span for span in collector.spans() if span["traceId"] == "5" * 32]
    before = len(collector.spans())
    node.base = node.traced_to(collector.endpoint)
    node.change()
    assert len(collector.spans()) == before
    # A trace of its own, where the caller brings none, or rubbish.
    config = kubelet.sandbox_config("own")
    sandbox = run(kubelet, config, (("traceparent", "00-rubbish-01"),))
    harness.wait_for(lambda: len(collector.spans()) > before, "a trace of its own")
    (own,) = [span for span in collector.spans()[before:] if attributes(span).get("rpc.method") == "RunPodSandbox"]
    assert "parentSpanId" not in own and len(own["traceId"]) == 32
    kubelet.remove_sandbox(sandbox)


def test_a_collector_that_is_busy_gets_them_later(node, kubelet, collector):
    trace_id = "8" * 32
    collector.answers = [503, 429]
    kubelet.remove_sandbox(run(kubelet, kubelet.sandbox_config(), parent(trace_id, "9" * 16)))
    harness.wait_for(lambda: not collector.answers and "takes spans again" in node.text(), "the third try", 30)
    assert "status 503" in node.text()
    assert collector.traced(trace_id) and counted(node, "sent") > 0 and counted(node, "dropped") == 0


def test_a_dead_or_slow_collector_holds_nobody_up(node, kubelet, collector):
    def took():
        began = time.monotonic()
        kubelet.remove_sandbox(kubelet.run_sandbox(kubelet.sandbox_config()))
        return time.monotonic() - began

    node.base = node.metrics
    node.change()
    without = min(took() for _ in range(3))
    node.base = node.traced_to(f"http://127.0.0.1:{harness.free_port()}")
    node.change()
    assert min(took() for _ in range(3)) < without + 0.5
    harness.wait_for(lambda: "/v1/traces: " in node.text().splitlines()[-1] or "spans wait for it" in node.text(), "the word", 30)
    dropped = counted(node, "dropped")
    collector.delay = 30
    node.base = node.traced_to(collector.endpoint)
    node.change()  # what the dead one had is dropped
    assert counted(node, "dropped") > dropped
    assert min(took() for _ in range(3)) < without + 0.5
    # Nor does it hold up the end.
    began = time.monotonic()
    node.stop()
    assert node.process.returncode == 0 and time.monotonic() - began < 8
    collector.delay = 0


def test_at_the_end_what_is_queued_is_sent(node, collector):
    trace_id = "a" * 32
    node.base = node.traced_to(collector.endpoint)
    node.drop_in("")
    node.start()
    client = c.Client(node.socket, node.folder + "/logs")
    client.remove_sandbox(run(client, client.sandbox_config(), parent(trace_id, "b" * 16)))
    client.close()
    node.stop()
    assert node.process.returncode == 0
    assert [span for span in collector.spans() if span["traceId"] == trace_id]


def test_an_endpoint_that_is_none_is_refused(node):
    node.base = node.traced_to("127.0.0.1:4318")
    node.drop_in("")
    checked = subprocess.run([harness.BIN + "/fluytd", "config", "check", "--config", node.folder + "/fluytd.toml"],
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=30)
    assert checked.returncode == 1 and "tracing.endpoint" in checked.stdout and "http://HOST:PORT" in checked.stdout
