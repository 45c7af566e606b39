"""How a cluster is reached: the kubeconfig, its contexts and credentials. The only module that imports the client.

The kubeconfig is never written to, and the client's own habits are left out: it tells failures of credential plug-ins
to a logger and goes on, follows redirects, and repeats what was not answered.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leptonami.errors import CredentialsError, InputError, LeptonamiError
from leptonami.imports import kubernetes_module
from leptonami.proof import excerpt
from leptonami.validation import near

__all__ = ["Access", "open_access"]

TOKEN_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


@dataclass
class Access:
    """A way to a cluster.

    Attributes
    ----------
    name
        The context's name.
    host
        The API server's URL.
    """

    name: str
    host: str
    configuration: Any = field(repr=False)
    _rest: Any = field(default=None, repr=False)

    def headers(self) -> dict[str, str]:
        """Give the headers that say who we are. A credential plug-in may run again here, if its token has expired.

        Raises
        ------
        CredentialsError
            If it failed.
        """
        with telling() as said:
            found = {each["key"]: each["value"] for each in self.configuration.auth_settings().values()}
        if said:
            raise not_logged_in(said[0], self.name)
        return found

    def get(self, url: str, headers: dict[str, str], timeout: float) -> Any:
        """Send one GET; the answer's body is still unread. Nearly everything here only reads."""
        return self.request("GET", url, headers, timeout)

    def request(
        self, method: str, url: str, headers: dict[str, str], timeout: float, body: Mapping[str, Any] | None = None
    ) -> Any:
        """Send a request; the answer's body is still unread. Only `kubepods` sends another than GET."""
        if self._rest is None:
            rest: Any = kubernetes_module("kubernetes.client.rest")
            self._rest = rest.RESTClientObject(self.configuration)
        return self._rest.request(method, url, headers=headers, body=body, _request_timeout=(timeout, timeout))

    def close(self) -> None:
        """Close the connections."""
        if self._rest is not None:
            self._rest.close()
            self._rest = None


def open_access(context: str | None, kubeconfig: str | Path | None) -> Access:
    """Find the way to a cluster. Nothing is sent to it, but a credential plug-in may run.

    Parameters
    ----------
    context
        The context's name; by default the current one.
    kubeconfig
        Its file; by default `KUBECONFIG`, then `~/.kube/config`, then, inside a pod, its service account.

    Raises
    ------
    InputError
        If there is no kubeconfig, it cannot be read, or it has no such context.
    CredentialsError
        If the kubeconfig's credential plug-in failed.
    """
    client: Any = kubernetes_module("kubernetes.client")
    # A Configuration of the client reads class-wide defaults that other code may have set; this one starts afresh.
    configuration = type.__call__(client.Configuration)
    configuration.retries = retries()
    files = str(kubeconfig) if kubeconfig is not None else os.environ.get("KUBECONFIG") or "~/.kube/config"
    existing = [each for each in files.split(os.pathsep) if each and Path(each).expanduser().is_file()]
    if not existing and kubeconfig is None and context is None and TOKEN_FILE.is_file():
        name = from_pod(configuration)
    elif not existing:
        raise InputError(
            "there is no kubeconfig",
            resource=files,
            hint="aws eks update-kubeconfig --name CLUSTER writes one; or name its file with --kubeconfig",
        )
    else:
        name = from_file(configuration, files, context)
    host = str(configuration.host or "").rstrip("/")
    if not host.startswith(("https://", "http://")):
        raise InputError(f"the cluster has no usable server: {host!r}", resource=files)
    return Access(name, host, configuration)


def retries() -> Any:
    """Let a connection be tried twice; answers are repeated by `kube.Cluster.ask`, and redirects are not followed."""
    from urllib3 import Retry

    return Retry(total=1, connect=1, read=0, redirect=False, status=0, other=0, raise_on_status=False)


def from_pod(configuration: Any) -> str:
    """Use the service account of the pod that this runs in."""
    config: Any = kubernetes_module("kubernetes.config")
    try:
        config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException as error:
        raise InputError(f"the pod's service account cannot be used: {error}", resource=str(TOKEN_FILE)) from error
    return "in-cluster"


def from_file(configuration: Any, files: str, context: str | None) -> str:
    """Use a context of a kubeconfig; the file is never written."""
    config: Any = kubernetes_module("kubernetes.config")
    expanded = os.pathsep.join(str(Path(each).expanduser()) for each in files.split(os.pathsep) if each)
    with telling() as said:
        try:
            names, current = contexts(config, expanded)
            chosen = context or current
            if chosen not in names:
                guess = near(chosen, names)
                raise InputError(
                    f"there is no context {chosen!r}" if chosen else "no context is the current one",
                    resource=files,
                    hint=(f"{guess} " if guess else "") + f"contexts: {', '.join(sorted(names)[:20]) or 'none'}",
                )
            config.load_kube_config(
                config_file=expanded, context=chosen, client_configuration=configuration, persist_config=False
            )
        except LeptonamiError:
            raise
        except Exception as error:
            # The library lets KeyError, YAMLError, binascii.Error and others out of a damaged file.
            detail = excerpt(str(error), 200) or type(error).__name__
            raise InputError(
                f"the kubeconfig cannot be used: {detail}", resource=files, hint="kubectl config view shows it"
            ) from error
    if said:
        raise not_logged_in(said[0], chosen)
    return chosen


def contexts(config: Any, files: str) -> tuple[list[str], str]:
    """Give the names of the contexts, and of the current one ("" if there is none)."""
    loader: Any = kubernetes_module("kubernetes.config.kube_config")
    merged = loader.KubeConfigMerger(files).config
    found = merged.value if hasattr(merged, "value") else None
    if not isinstance(found, dict):
        raise config.ConfigException("it is empty")
    listed: Sequence[Any] = found.get("contexts") or []
    names = [str(each["name"]) for each in listed]
    return names, str(found.get("current-context") or "")


def not_logged_in(said: str, name: str) -> CredentialsError:
    """Say that the kubeconfig's credential plug-in failed."""
    return CredentialsError(
        f"the kubeconfig's credential plug-in failed: {excerpt(said, 200)}",
        resource=name,
        hint="run it by hand (aws eks get-token --cluster-name ...); log in again: aws sso login",
    )


class Kept(logging.Handler):
    """Keeps what one thread logs at ERROR."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []
        self.thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        if record.thread == self.thread:
            self.said.append(record.getMessage())


@contextlib.contextmanager
def telling() -> Iterator[list[str]]:
    """Hear the client's credential plug-in fail: it tells only the root logger, and goes on without a token."""
    handler = Kept()
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield handler.said
    finally:
        root.removeHandler(handler)
