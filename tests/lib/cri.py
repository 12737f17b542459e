"""A CRI v1 client for the walks: stubs made from proto/cri/v1/api.proto at first use, and short forms of what the
kubelet asks."""

import importlib
import os
import subprocess
import sys
import time
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def _stubs():
    out = os.path.join(ROOT, "build", "stubs")
    proto = os.path.join(ROOT, "proto", "cri", "v1")
    source = os.path.join(proto, "api.proto")
    made = os.path.join(out, "api_pb2_grpc.py")
    if not os.path.exists(made) or os.path.getmtime(made) < os.path.getmtime(source):
        os.makedirs(out, exist_ok=True)
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-I" + proto, "--python_out=" + out,
                        "--grpc_python_out=" + out, source], check=True)
    if out not in sys.path:
        sys.path.insert(0, out)
    return importlib.import_module("api_pb2"), importlib.import_module("api_pb2_grpc")


pb, _grpc_stubs = _stubs()
import grpc  # noqa: E402  (after the stubs, whose absence has the clearer error)

RUNNING, EXITED, CREATED = pb.CONTAINER_RUNNING, pb.CONTAINER_EXITED, pb.CONTAINER_CREATED


class Client:
    """`client.rpc.X(request)` for any RPC; the methods below for what walks do often."""

    def __init__(self, socket_path, log_root, options=()):
        self.channel = grpc.insecure_channel("unix:" + socket_path, options=options)
        self.runtime = _grpc_stubs.RuntimeServiceStub(self.channel)
        self.images = _grpc_stubs.ImageServiceStub(self.channel)
        self.log_root = log_root

    def close(self):
        self.channel.close()

    def wait_served(self):
        """After a restart of the engine: until this client's connection is to the new one. A channel that nothing was asked
        of meanwhile takes its old connection for alive."""
        for _ in range(100):
            try:
                return self.runtime.Version(pb.VersionRequest(), timeout=5, wait_for_ready=True)
            except grpc.RpcError:
                time.sleep(0.05)
        raise TimeoutError("no answer of the engine")

    def sandbox_config(self, name=None, **options):
        """A pod's configuration; namespaces default to what the kubelet sends for an ordinary pod."""
        name = name or "pod-" + uuid.uuid4().hex[:8]
        logs = os.path.join(self.log_root, name)
        os.makedirs(logs, exist_ok=True)
        config = pb.PodSandboxConfig(
            metadata=pb.PodSandboxMetadata(name=name, uid=uuid.uuid4().hex, namespace="default", attempt=0),
            hostname=options.get("hostname", name), log_directory=options.get("log_directory", logs))
        namespaces = config.linux.security_context.namespace_options
        namespaces.pid = options.get("pid", pb.CONTAINER)
        namespaces.network = options.get("network", pb.POD)
        return config

    def run_sandbox(self, config, handler=""):
        return self.runtime.RunPodSandbox(pb.RunPodSandboxRequest(config=config, runtime_handler=handler),
                                          timeout=60).pod_sandbox_id

    def container_config(self, image, command, name="main", log_path=None):
        config = pb.ContainerConfig(metadata=pb.ContainerMetadata(name=name, attempt=0),
                                    image=pb.ImageSpec(image=image), command=command,
                                    log_path=f"{name}.log" if log_path is None else log_path)
        # What the kubelet always sends: private PID namespace unless the pod shares one.
        config.linux.security_context.namespace_options.pid = pb.CONTAINER
        return config

    def create(self, sandbox, sandbox_config, config, timeout=60):
        namespaces = sandbox_config.linux.security_context.namespace_options
        config.linux.security_context.namespace_options.pid = namespaces.pid
        config.linux.security_context.namespace_options.network = namespaces.network
        return self.runtime.CreateContainer(pb.CreateContainerRequest(
            pod_sandbox_id=sandbox, config=config, sandbox_config=sandbox_config), timeout=timeout).container_id

    def start(self, container):
        self.runtime.StartContainer(pb.StartContainerRequest(container_id=container), timeout=60)

    def run_container(self, sandbox, sandbox_config, config):
        container = self.create(sandbox, sandbox_config, config)
        self.start(container)
        return container

    def status(self, container):
        return self.runtime.ContainerStatus(pb.ContainerStatusRequest(container_id=container), timeout=30).status

    def exec(self, container, *command, timeout=20):
        """(exit code, stdout, stderr) as bytes."""
        answer = self.runtime.ExecSync(pb.ExecSyncRequest(container_id=container, cmd=command, timeout=timeout),
                                       timeout=timeout + 30)
        return answer.exit_code, answer.stdout, answer.stderr

    def stop(self, container, grace=0):
        self.runtime.StopContainer(pb.StopContainerRequest(container_id=container, timeout=grace), timeout=grace + 30)

    def remove(self, container):
        self.runtime.RemoveContainer(pb.RemoveContainerRequest(container_id=container), timeout=60)

    def remove_sandbox(self, sandbox):
        self.runtime.StopPodSandbox(pb.StopPodSandboxRequest(pod_sandbox_id=sandbox), timeout=60)
        self.runtime.RemovePodSandbox(pb.RemovePodSandboxRequest(pod_sandbox_id=sandbox), timeout=60)

    def pull(self, image):
        return self.images.PullImage(pb.PullImageRequest(image=pb.ImageSpec(image=image)), timeout=120).image_ref


def error_of(call, *arguments, **options):
    """The gRPC error that a call must end in: (code name, message)."""
    try:
        call(*arguments, **options)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    raise AssertionError("the call succeeded")
