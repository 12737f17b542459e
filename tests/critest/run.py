"""Runs the official CRI suite (critest) against a private fluytd and compares each spec with tests/critest/expected.

`expected` has a line a spec: pass, skip or fail, a tab, the spec's full name, and for skip and fail a tab and the reason.
A difference fails the run; --write makes the file anew. The whole suite streams over SPDY; the streaming specs are then
run over WebSocket too, once for each of the suite's three switches. `--handler NAME` runs all that with a runtime handler
(runc, crun or runf-program, our own by its command line), whose differences from `expected` are in `expected.NAME`. Other
arguments go to critest, which is then run once.
"""

import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lib"))
import critest_images  # noqa: E402  (found beside this file)
import handlers  # noqa: E402
import harness  # noqa: E402

HOSTS = ("registry.k8s.io", "k8s.gcr.io", "gcr.io")
EXPECTED = os.path.join(HERE, "expected")
LIMIT_S = 2400
PASSES = ("-websocket-exec", "-websocket-attach", "-websocket-portforward")
STREAMING = "[k8s.io] Streaming "
# Specs that nobody can run without the original: they count as skipped, as long as this is what they fail with.
ONLY_THE_ORIGINAL = {
    "[k8s.io] Image Manager public image with digest should be pulled and removed [Conformance]":
        "test-image-digest@sha256:9700f9a2f5bf2c45f2f605a0bd3bce7cf37420ec9d3ed50ac2758413308766bf\": registry",
}


def read_rows(path):
    rows = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            for line in file:
                if line.strip() and not line.startswith("#"):
                    fields = line.rstrip("\n").split("\t")
                    rows[fields[1]] = (fields[0], fields[2] if len(fields) > 2 else "")
    return rows


def write_rows(path, head, rows, old_rows):
    with open(path, "w", encoding="utf-8") as file:
        file.write(head + "\n")
        for name, (state, reason) in sorted(rows.items()):
            old = old_rows.get(name, ("", ""))
            reason = old[1] if old[0] == state and old[1] else reason
            file.write("\t".join([state, name] + ([reason] if state != "pass" else [])) + "\n")


def outcomes(report):
    with open(report, encoding="utf-8") as file:
        suites = json.load(file)
    rows = {}
    for suite in suites:
        for spec in suite.get("SpecReports") or []:
            if spec.get("LeafNodeType") != "It":
                continue
            name = " ".join([*(spec.get("ContainerHierarchyTexts") or []), spec["LeafNodeText"]])
            state = spec["State"]
            message = (spec.get("Failure") or {}).get("Message", "").strip()
            reason = message.split("\n")[0][:200]
            outcome = {"passed": "pass", "skipped": "skip", "pending": "skip"}.get(state, "fail")
            if outcome == "fail" and ONLY_THE_ORIGINAL.get(name, message + "?") in message:
                outcome = "skip"
            rows[name] = (outcome, reason)
    return rows


def run_critest(engine, handler, arguments, log):
    report = engine.folder + "/report.json"
    endpoint = "unix://" + engine.socket
    # The suite mounts too, for volumes: where fluytd sees it.
    command = [*engine.prefix, os.path.join(harness.ROOT, "build", "tools", "critest"), "-runtime-endpoint", endpoint,
               "-image-endpoint", endpoint, "-ginkgo.no-color", f"-ginkgo.json-report={report}",
               "-ginkgo.seed=1", "-ginkgo.timeout=35m", *([f"-runtime-handler={handler}"] if handler else []),
               *arguments]
    print("+", *command, flush=True)
    subprocess.run(command, check=False, timeout=LIMIT_S, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    return outcomes(report)


def run_over_websocket(engine, handler, expected, log):
    """How many streaming specs differ from what is expected of them, whichever the protocol."""
    different = 0
    for option in PASSES:
        rows = run_critest(engine, handler, [option, "-ginkgo.focus=Streaming"], log)
        streaming = {name: row for name, row in rows.items() if name.startswith(STREAMING)}
        passed = sum(row[0] == "pass" for row in streaming.values())
        print(f"{option}: {passed} of {len(streaming)} streaming specs passed")
        wrong = {name: row for name, row in streaming.items() if row[0] != expected.get(name, ("pass", ""))[0]}
        different += len(wrong) + (not streaming)
        for name, (state, reason) in sorted(wrong.items()):
            print(f"{state}: {option}: {name}: {reason}")
    return different


def take_handler(arguments):
    """The value of --handler, which goes from the arguments; empty: the linked runtime."""
    if "--handler" not in arguments:
        return ""
    at = arguments.index("--handler")
    name = arguments[at + 1] if at + 1 < len(arguments) else ""
    if name not in handlers.NAMES or handlers.find(name) is None:
        sys.exit(f"--handler {name}: expected one of {' '.join(handlers.NAMES)}, and its program")
    del arguments[at:at + 2]
    return name


def main():
    arguments = sys.argv[1:]
    write = "--write" in arguments
    arguments = [word for word in arguments if word != "--write"]
    handler = take_handler(arguments)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with open("/proc/sys/net/ipv4/conf/all/route_localnet", "w", encoding="ascii") as file:
        file.write("1")
    namespace = handlers.Namespace(handler)
    engine = harness.Engine(settings=handlers.settings(handler) if handler else "", prefix=namespace.prefix())
    registry = None
    try:
        registry = harness.Registry(engine.folder + "/registry")
        print("making the images", flush=True)
        critest_images.make(registry.address, os.path.join(harness.ROOT, "build", "critest-images"))
        harness.write_mirrors(engine.certs, registry.address, HOSTS)
        engine.start()
        base, own = read_rows(EXPECTED), f"{EXPECTED}.{handler}"
        expected = {**base, **read_rows(own)} if handler else base
        with open(os.path.join(harness.ROOT, "build", "critest.log"), "wb") as log:
            rows = run_critest(engine, handler, arguments, log)
            different = 0 if arguments else run_over_websocket(engine, handler, expected, log)
    finally:
        engine.close()
        namespace.close()
        if registry is not None:
            registry.stop()
    ran = {name: row for name, row in rows.items() if row[0] != "skip"}
    counts = {state: sum(row[0] == state for row in rows.values()) for state in ("pass", "fail", "skip")}
    for name, (state, reason) in sorted(rows.items()):
        want = expected.get(name, ("unlisted", ""))[0]
        if state != want and (ran or not arguments):
            different += state != "skip" or not arguments
            print(f"{state} (expected {want}): {name}: {reason}")
    if write and handler:
        changed = {name: row for name, row in rows.items() if row[0] != base.get(name, ("",))[0]}
        write_rows(own, f"# Where critest with the runtime handler {handler} differs from `expected`.", changed, expected)
    elif write:
        write_rows(EXPECTED, "# What each spec of critest (cri-tools 1.37.0) does here; ./dev critest --write makes this file.", rows, base)
    print("log: build/critest.log")
    print(f"{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} skipped")
    return 1 if different and not write else 0


if __name__ == "__main__":
    sys.exit(main())
