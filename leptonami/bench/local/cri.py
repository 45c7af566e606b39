"""A client of containerd's CRI, as far as a kubelet's part in a launch goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from leptonami.errors import BuildError, InputError, Timeout

__all__ = ["Cri"]

POLL = 0.002  # seconds


def _stubs() -> tuple[Any, Any, Any]:
    try:
        grpc: Any = import_module("grpc")  # it has no types
        from cri_api.v1 import api_pb2, api_pb2_grpc
    except ModuleNotFoundError as error:
        raise InputError(
            f"talking to containerd needs {error.name!r}", resource="cri", hint="pip install 'leptonami[bench]'"
        ) from error
    return grpc, api_pb2, api_pb2_grpc


class Cri:
    """One connection. Times are in seconds; every call ends by the deadline.

    Parameters
    ----------
    socket
        The path of containerd's socket (107 characters at most: the kernel's limit).
    deadline
        On `time.monotonic`'s clock.
    """

    def __init__(self, socket: str, deadline: float) -> None:
        self.grpc, self.messages, services = _stubs()
        self.deadline = deadline
        # Without the authority, a path with escapes in it (a forwarded socket, /proc/...) is taken for a host name.
        self.channel = self.grpc.insecure_channel(
            f"unix://{socket}", options=[("grpc.default_authority", "localhost"), ("grpc.enable_http_proxy", 0)]
        )
        self.runtime = services.RuntimeServiceStub(self.channel)
        self.images = services.ImageServiceStub(self.channel)

    def __enter__(self) -> Cri:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.channel.close()

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except self.grpc.RpcError as error:
            if error.code() == self.grpc.StatusCode.DEADLINE_EXCEEDED:
                raise Timeout(f"{what} did not end in time", resource="containerd") from error
            raise BuildError(f"{what} failed: {error.details()}", resource="containerd") from error

    @property
    def left(self) -> float:
        """Seconds until the deadline, and never none at all: gRPC takes 0 for already over."""
        return max(0.001, self.deadline - time.monotonic())

    def ready(self) -> bool:
        """Tell whether the runtime says that it is ready."""
        try:
            status = self.runtime.Status(self.messages.StatusRequest(), timeout=min(5.0, self.left)).status
        except self.grpc.RpcError:
            return False
        return any(each.type == "RuntimeReady" and each.status for each in status.conditions)

    def listed(self) -> dict[str, bool]:
        """Give the names of all images, and whether CRI shows them as pinned."""
        with self._errors("ListImages"):
            answer = self.images.ListImages(self.messages.ListImagesRequest(), timeout=self.left)
        return {name: bool(image.pinned) for image in answer.images for name in image.repo_tags}

    def pull(self, ref: str) -> None:
        """Pull and unpack an image."""
        with self._errors(f"the pull of {ref}"):
            request = self.messages.PullImageRequest(image=self.messages.ImageSpec(image=ref))
            self.images.PullImage(request, timeout=self.left)

    def sandbox(self, name: str, logs: str, cgroup: str) -> tuple[Any, str]:
        """Start a pod's sandbox in the host's network, which needs no CNI; give its config and id."""
        m = self.messages
        namespaces = m.NamespaceOption(network=m.NODE, pid=m.CONTAINER, ipc=m.POD)
        config = m.PodSandboxConfig(
            metadata=m.PodSandboxMetadata(name=name, uid=name, namespace="default", attempt=0),
            log_directory=logs,
            linux=m.LinuxPodSandboxConfig(
                cgroup_parent=cgroup,
                security_context=m.LinuxSandboxSecurityContext(namespace_options=namespaces),
            ),
        )
        with self._errors("RunPodSandbox"):
            answer = self.runtime.RunPodSandbox(m.RunPodSandboxRequest(config=config), timeout=self.left)
        return config, str(answer.pod_sandbox_id)

    def create(self, sandbox: tuple[Any, str], ref: str, log: str) -> str:
        """Create a container of an image that is there; give its id."""
        m = self.messages
        config = m.ContainerConfig(
            metadata=m.ContainerMetadata(name="app", attempt=0), image=m.ImageSpec(image=ref), log_path=log
        )
        request = m.CreateContainerRequest(pod_sandbox_id=sandbox[1], sandbox_config=sandbox[0], config=config)
        with self._errors("CreateContainer"):
            return str(self.runtime.CreateContainer(request, timeout=self.left).container_id)

    def start(self, container: str) -> None:
        """Start a container."""
        with self._errors("StartContainer"):
            self.runtime.StartContainer(self.messages.StartContainerRequest(container_id=container), timeout=self.left)

    def exited(self, container: str) -> str:
        """Say how a container ended; empty while it runs."""
        with self._errors("ContainerStatus"):
            request = self.messages.ContainerStatusRequest(container_id=container)
            status = self.runtime.ContainerStatus(request, timeout=self.left).status
        if status.state != self.messages.CONTAINER_EXITED:
            return ""
        return f"exit code {status.exit_code} {status.reason} {status.message}".strip()

    def version(self) -> str:
        """Give the runtime's version."""
        with self._errors("Version"):
            return str(self.runtime.Version(self.messages.VersionRequest(), timeout=self.left).runtime_version)
