"""The lab's Kubernetes API server: in memory, on 127.0.0.1, in the threads of the process that starts it.

It knows nothing of AWS, of nodes' life or of controllers; those are clients of it, as they are of a real one. What it
answers is simulated.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from leptonami.lab.kube.auth import Authenticator
from leptonami.lab.kube.routes import Api
from leptonami.lab.kube.schemas import Schemas
from leptonami.lab.kube.server import HttpServer
from leptonami.lab.kube.store import Store
from leptonami.lab.kube.tls import server_context

__all__ = ["DEFAULT_VERSION", "Server", "start"]

DEFAULT_VERSION = "1.37"


@dataclass
class Server:
    """A running API server.

    Attributes
    ----------
    url
        Where it is: `https://127.0.0.1:PORT`.
    ca_pem
        The authority that clients must trust.
    token
        A bearer token that it accepts; an administrator's.
    store
        The objects themselves.
    """

    url: str
    ca_pem: str
    token: str = field(repr=False)
    store: Store = field(repr=False)
    cluster: str
    api: Api = field(repr=False)
    http: HttpServer = field(repr=False)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it: every connection, every watch, every thread."""
        self.http.stopping.set()
        self.api.verbs.close()
        self.http.stop()

    def upgrade(self, version: str) -> None:
        """Say another Kubernetes version from now on, and validate by its schemas; objects and connections stay."""
        self.api.version, self.store.schemas = version, Schemas(version)

    def kubeconfig(self) -> dict[str, Any]:
        """Give a kubeconfig with the bearer token, to be written as YAML or JSON into a file that only we can read."""
        ca = base64.b64encode(self.ca_pem.encode()).decode()
        name = self.cluster
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {"server": self.url, "certificate-authority-data": ca}}],
            "users": [{"name": name, "user": {"token": self.token}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }


def start(
    cluster: str = "lab",
    *,
    port: int = 0,
    version: str = DEFAULT_VERSION,
    tokens: Mapping[str, str] | None = None,
    secret_of: Callable[[str], str | None] | None = None,
    tls: bool = True,
) -> Server:
    """Start an API server.

    Parameters
    ----------
    cluster
        The name that EKS tokens must carry.
    port
        Where to listen on 127.0.0.1; a free one by default.
    version
        The Kubernetes version that it says it is, and whose schemas it validates by.
    tokens
        Bearer tokens that are accepted, with the names of their users. By default one is made up.
    secret_of
        Gives the secret of an AWS access key (None: unknown), for the signature of EKS tokens. Without it an EKS token
        is taken as signed when its form is right.
    tls
        False serves plain HTTP, for measurements.
    """
    tokens = dict(tokens or {secrets.token_urlsafe(32): "lab-admin"})
    store = Store(version=version)
    api = Api(store, Authenticator(cluster, tokens, secret_of), version)
    context, ca_pem = server_context() if tls else (None, "")
    http = HttpServer(port, api.answer, api.refusal, context)
    http.thread.start()
    url = f"{'https' if tls else 'http'}://127.0.0.1:{http.server_port}"
    return Server(url, ca_pem, next(iter(tokens)), store, cluster, api, http)
