"""Registries that want a login, and images that have to prove something."""

import base64
import http.server
import json
import os
import subprocess
import threading
import time
import warnings

import cri as c
import harness
import images
import prometheus
import pytest

USER, PASSWORD = "walker", "pass word:with colon"


def bcrypt(password):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import crypt
    return crypt.crypt(password, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16))


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    """A registry that is filled while it is open to all, and closed then."""
    folder = str(tmp_path_factory.mktemp("private"))
    with harness.contextlib.ExitStack() as cleanup:
        opened = harness.Registry(folder)
        for name in ("team/app", "other/app"):
            images.push(harness.busybox_image(), opened.address, name, "v1")
        opened.stop()
        with open(folder + "/passwords", "w", encoding="utf-8") as file:
            file.write(f"{USER}:{bcrypt(PASSWORD)}\n")
        closed = harness.Registry(folder, {"htpasswd": {"realm": "walk", "path": folder + "/passwords"}})
        cleanup.callback(closed.stop)
        yield closed.address


@pytest.fixture(scope="module")
def keeper(private, tmp_path_factory):
    """An engine that has credentials for team/ of the closed registry, and a policy a namespace."""
    folder = str(tmp_path_factory.mktemp("keeper"))
    os.makedirs(folder + "/policies")
    for namespace, kind in (("strict", "reject"), ("lenient", "insecureAcceptAnything")):
        with open(f"{folder}/policies/{namespace}.json", "w", encoding="utf-8") as file:
            json.dump({"default": [{"type": kind}]}, file)
    with open(folder + "/password", "w", encoding="utf-8") as file:
        file.write(PASSWORD + "\n")
    metrics = f"unix:{folder}/metrics.sock"
    settings = f"""
[metrics]
listen = "{metrics}"
[image]
policy_dir = "{folder}/policies"
[[image.credentials]]
match = "{private}/team"
username = "{USER}"
password_file = "{folder}/password"
"""
    made = harness.Engine(settings=settings)
    made.settings, made.policies, made.verifiers = settings, folder + "/policies", folder + "/verifiers"
    made.metrics = metrics
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def kubelet(keeper):
    client = c.Client(keeper.socket, keeper.folder + "/logs")
    yield client
    client.close()


def pull(kubelet, name, auth=None, namespace=None):
    request = c.pb.PullImageRequest(image=c.pb.ImageSpec(image=name))
    if auth:
        request.auth.CopyFrom(auth)
    if namespace:
        request.sandbox_config.metadata.namespace = namespace
    return kubelet.images.PullImage(request, timeout=60).image_ref


def test_the_nodes_credentials_are_for_their_prefix(private, kubelet):
    assert pull(kubelet, f"{private}/team/app:v1")
    code, message = c.error_of(pull, kubelet, f"{private}/other/app:v1")
    assert code == "UNAUTHENTICATED" and "wants credentials and none were given" in message


@pytest.mark.parametrize("form", ["username", "auth", "elsewhere"])
def test_the_kubelets_credentials(private, kubelet, form):
    encoded = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    auth = {"username": c.pb.AuthConfig(username=USER, password=PASSWORD),
            "auth": c.pb.AuthConfig(auth=encoded, server_address="http://" + private),
            "elsewhere": c.pb.AuthConfig(username=USER, password=PASSWORD, server_address="registry.test")}[form]
    if form == "elsewhere":
        code, _ = c.error_of(pull, kubelet, f"{private}/other/app:v1", auth)
        assert code == "UNAUTHENTICATED"
    else:
        assert pull(kubelet, f"{private}/other/app:v1", auth)


def test_a_persons_docker_configuration(private, keeper, tmp_path):
    name = f"{private}/other/app:v1"
    nobody = {**os.environ, "HOME": str(tmp_path / "nobody"), "XDG_RUNTIME_DIR": str(tmp_path / "nobody")}
    nobody.pop("DOCKER_CONFIG", None)
    nobody.pop("REGISTRY_AUTH_FILE", None)
    keeper.fluyt("rmi", name, check=False)
    refused = keeper.fluyt("pull", name, check=False, env=nobody)
    assert refused.returncode != 0 and "wants credentials" in refused.stderr
    helper = tmp_path / "docker-credential-walk"
    helper.write_text("#!/bin/sh\nread host\n[ \"$1 $host\" = \"get " + private + "\" ] || exit 9\n"
                      f"echo '{json.dumps({'ServerURL': private, 'Username': USER, 'Secret': PASSWORD})}'\n")
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {private: "walk"}}))
    somebody = {**nobody, "DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert keeper.fluyt("pull", "-q", name, env=somebody).stdout.startswith("sha256:")


def test_a_policy_a_namespace(private, kubelet):
    name = f"{private}/team/app:v1"
    assert pull(kubelet, name, namespace="lenient")
    code, message = c.error_of(pull, kubelet, name, namespace="strict")
    assert code == "UNKNOWN" and message.startswith("SignatureValidationFailed: ")
    assert "policies/strict.json: default[0] (reject)" in message


def test_a_policy_a_namespace_for_what_is_here(private, keeper, kubelet):
    """An image that came for one namespace is not for all of them; nor does it take the registry to say so."""
    name = f"{private}/team/app:v1"
    image = pull(kubelet, name, namespace="lenient")

    def create(namespace, volume=False):
        pod = kubelet.sandbox_config(network=c.pb.NODE)
        pod.metadata.namespace = namespace
        sandbox = kubelet.run_sandbox(pod)
        try:
            config = kubelet.container_config(image, ["sleep", "60"])
            config.image.user_specified_image = name
            if volume:
                config.mounts.add(container_path="/volume", readonly=True, image=c.pb.ImageSpec(image=image, user_specified_image=name))
            container = kubelet.run_container(sandbox, pod, config)
            return kubelet.status(container).state
        finally:
            kubelet.remove_sandbox(sandbox)
    assert create("lenient", volume=True) == c.RUNNING
    code, message = c.error_of(create, "strict")
    assert code == "PERMISSION_DENIED" and message.startswith(f'image "{name}": image policy ')
    assert "policies/strict.json: default[0] (reject): this rule refuses everything" in message
    # Rules that are younger than the image, of which nothing was asked before: it is looked for with the node's own login.
    subprocess.run(["openssl", "genpkey", "-algorithm", "ED25519", "-out", keeper.policies + "/key"], check=True)
    subprocess.run(["openssl", "pkey", "-in", keeper.policies + "/key", "-pubout", "-out", keeper.policies + "/pub"], check=True)
    with open(keeper.policies + "/signed.json", "w", encoding="utf-8") as file:
        json.dump({"default": [{"type": "sigstoreSigned", "keyPath": keeper.policies + "/pub"}]}, file)
    code, message = c.error_of(create, "signed")
    assert code == "PERMISSION_DENIED" and "policies/signed.json: default[0] (sigstoreSigned): no signature is attached to sha256:" in message
    # Programs decide once: what they let through runs without them, after another start of fluytd too.
    os.makedirs(keeper.verifiers)
    asked = keeper.verifiers + ".asked"
    with open(keeper.verifiers + "/count", "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\necho "$2" >> {asked}\n')
    os.chmod(keeper.verifiers + "/count", 0o755)
    keeper.stop()
    keeper.configure(keeper.settings.replace("[image]\n", f'[image]\nverifier_dir = "{keeper.verifiers}"\n'))
    try:
        keeper.start()
        kubelet.wait_served()
        assert [create("lenient"), create("lenient")] == [c.RUNNING, c.RUNNING]
        keeper.kill()
        keeper.start()
        kubelet.wait_served()
        assert create("lenient") == c.RUNNING
        with open(asked, encoding="utf-8") as file:
            assert file.read() == name + "\n"
    finally:
        keeper.stop()
        keeper.configure(keeper.settings)
        keeper.start()
        kubelet.wait_served()


def test_no_secret_is_logged(private, keeper, kubelet):
    pull(kubelet, f"{private}/team/app:v1")
    with open(keeper.log, encoding="utf-8", errors="replace") as file:
        log = file.read()
    encoded = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    assert PASSWORD not in log and encoded not in log


@pytest.mark.parametrize("settings,words", [
    ('[[image.credentials]]\nmatch = "a.test"\n', "expected a username and password, or a token"),
    ('[[image.credentials]]\nmatch = "a.test"\nuser = "x"\n', 'image.credentials[0].user: there is no such key: expected one of'),
    ('[[image.credentials]]\nmatch = "a b"\nusername = "x"\n', "expected host"),
    ('[image]\ncredentials = 7\n', "expected tables [[image.credentials]]"),
    ('[image.pinned_digests]\n"a.test" = ["md5:1"]\n', "md5"),
    ('[image]\nmax_verifiers = -2\n', "expected a number from 0 to 1000, or -1 for all"),
    ('[image]\npolicy_file = "policy.json"\n', "expected an absolute path"),
])
def test_settings_that_are_wrong_are_named(settings, words):
    engine = harness.Engine(network=None, settings=settings)
    try:
        engine.start(wait=False)
        assert engine.process.wait(timeout=30) == 2
        with open(engine.log, encoding="utf-8") as file:
            log = file.read()
        assert "fluytd.toml:" in log and words in log
    finally:
        engine.close()


class SlowRegistry:
    """A registry of one image, under any name, whose layer comes by half until `go_on` is set. `fetches`: how often it was asked for."""

    def __init__(self):
        manifest, blobs = images.build(images.Image([images.layer([images.Entry("data", data=os.urandom(1 << 20))])], {}))
        layer = json.loads(manifest)["layers"][0]["digest"]
        self.asked, self.go_on, self.fetches = threading.Event(), threading.Event(), 0
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                self.answer()

            def do_GET(self):
                self.wfile.write(self.answer())

            def answer(self):
                name = self.path.split("?")[0].rsplit("/", 1)[1]
                body = blobs.get(name, manifest)
                self.send_response(200)
                self.send_header("Content-Type", images.OCI + "manifest.v1+json")
                self.send_header("Docker-Content-Digest", images.digest_of(body))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if name == layer:
                    self.wfile.write(body[:len(body) // 2])
                    registry.fetches += 1
                    registry.asked.set()
                    registry.go_on.wait(60)
                    return body[len(body) // 2:]
                return body

            def finish(self):
                with harness.contextlib.suppress(OSError):
                    super().finish()

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_):
                pass  # a client that goes away in the middle is what this is for

        self.server = Server(("127.0.0.1", 0), Handler)
        self.address = "127.0.0.1:" + str(self.server.server_port)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()


def test_a_pull_whose_caller_goes_away_ends(keeper, kubelet):
    """As of a pod that is deleted, or a kubelet that is restarted: unless another waits for the same."""
    registry = SlowRegistry()
    try:
        def begin():
            request = c.pb.PullImageRequest(image=c.pb.ImageSpec(image=registry.address + "/a/b:v1"))
            return kubelet.images.PullImage.future(request, timeout=60)

        def pulls():
            running = prometheus.scrape(keeper.metrics)["fluyt_rpcs_running"]
            return running.value(service="runtime.v1.ImageService", method="PullImage")
        staging = keeper.root + "/image/staging"
        first = begin()
        assert registry.asked.wait(30)
        harness.wait_for(lambda: os.listdir(staging), "the layer to arrive in staging")
        first.cancel()
        began = time.monotonic()
        harness.wait_for(lambda: not os.listdir(staging), "the cancelled pull to clean up")
        assert time.monotonic() - began < 5, "it was not the pull's own timeout"
        harness.wait_for(lambda: pulls() == 0, "the cancelled call to end")
        registry.asked.clear()
        registry.fetches = 0
        first = begin()
        assert registry.asked.wait(30)
        second = begin()
        harness.wait_for(lambda: pulls() == 2, "the second caller to be there")
        first.cancel()
        harness.wait_for(lambda: pulls() <= 1, "the first caller to leave")
        assert os.listdir(staging) and not second.done()
        registry.go_on.set()
        assert second.result().image_ref.startswith("sha256:")
        assert registry.fetches == 1, "the pull went on"
        keeper.fluyt("rmi", registry.address + "/a/b:v1")
    finally:
        registry.close()


def test_what_the_registry_says_to_people(engine, tmp_path):
    registry = harness.Registry(str(tmp_path / "talks"), headers={"Warning": ['299 - "this tag goes away"']})
    try:
        images.push(harness.busybox_image(), registry.address, "team/app", "v1")
        name = registry.address + "/team/app:v1"
        for quiet in ((), ("-q",)):
            pulled = engine.fluyt("pull", *quiet, name)
            said = [line for line in pulled.stderr.splitlines() if "the registry says" in line]
            assert len(said) == 1 and "this tag goes away" in said[0], pulled.stderr
        with open(engine.log, encoding="utf-8") as file:
            assert 'warns: "this tag goes away"' in file.read()
        engine.fluyt("rmi", name)
    finally:
        registry.stop()
