"""One API server, as the official client reaches it: its configuration, its connections, JSON as it is.

The client's models are left out: at 50,000 pods they would be the fleet.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from leptonami.errors import LeptonamiError
from leptonami.imports import kubernetes_module
from leptonami.kubeconfig import Access, open_access

__all__ = ["Api", "Refused", "Resource", "connect"]

CONNECT_S = 5
ANSWER_S = 60
BLOCK = 1 << 16
SAID_S = 10.0  # for which the headers that say who we are hold; the client reads its configuration for them each time
UNAUTHORIZED = 401
MERGE = "application/merge-patch+json"


class Refused(LeptonamiError):
    """The API server did not do what it was asked: `status` is the HTTP status, 0 without any answer."""

    def __init__(self, status: int, message: str, resource: str) -> None:
        super().__init__(message, resource=resource)
        self.status = status


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of the API."""

    group: str
    version: str
    plural: str

    def path(self, namespace: str | None = None, name: str = "", subresource: str = "") -> str:
        """Give the path of an object, or of the collection."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        parts += ["namespaces", namespace] if namespace else []
        parts += [self.plural, *([quote(name, safe="")] if name else []), *([subresource] if subresource else [])]
        return "/".join(parts)


class Api:
    """The connections to one API server. Safe to use from several threads."""

    def __init__(self, access: Access, connections: int = 64) -> None:
        client: Any = kubernetes_module("kubernetes.client")
        access.configuration.connection_pool_maxsize = connections
        self.access = access
        self.host = access.host
        self._client = client.ApiClient(access.configuration)
        self._pool = self._client.rest_client.pool_manager
        self._said: tuple[float, dict[str, str]] = (0.0, {})

    def close(self) -> None:
        """Close the connections."""
        self._client.rest_client.close()
        self._client.close()
        self.access.close()

    def open(self, method: str, path: str, body: bytes | None, kind: str, seconds: float) -> Any:
        """Send a request; the answer's body is still unread.

        Raises
        ------
        Refused
            If there is no answer, or one that is no success.
        """
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError

        until, said = self._said
        if until < time.monotonic():
            said = self.access.headers()
            self._said = time.monotonic() + SAID_S, said
        headers = {"Accept": "application/json", "User-Agent": "leptonami-lab-fleet", **said}
        if body is not None:
            headers["Content-Type"] = kind
        try:
            answer = self._pool.request(
                method,
                self.host + path,
                body=body,
                headers=headers,
                preload_content=False,
                timeout=Timeout(connect=CONNECT_S, read=seconds),
            )
            if answer.status < 300:
                return answer
            problem = answer.data
        except (HTTPError, OSError) as error:
            raise Refused(0, str(error), f"{method} {path}") from error
        if answer.status == UNAUTHORIZED:
            self._said = (0.0, {})
        raise Refused(answer.status, message_of(problem), f"{method} {path}")

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> dict[str, Any]:
        """Send a request and read the answer."""
        from urllib3.exceptions import HTTPError

        answer = self.open(method, path, None if body is None else orjson.dumps(body), kind, ANSWER_S)
        try:
            found: dict[str, Any] = orjson.loads(answer.data)
        except (HTTPError, OSError, ValueError) as error:
            raise Refused(0, str(error), f"{method} {path}") from error
        return found

    def pages(self, path: str, limit: int = 1000) -> Iterator[dict[str, Any]]:
        """List a collection, page after page."""
        token = ""
        while True:
            query = {"limit": str(limit), **({"continue": token} if token else {})}
            page = self.ask("GET", f"{path}?{urlencode(query)}")
            yield page
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return

    def watch(self, path: str, query: Mapping[str, str], seconds: int) -> Any:
        """Open a watch; `events` reads it."""
        asked = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds), **query}
        return self.open("GET", f"{path}?{urlencode(asked)}", None, "", seconds + 30)


def events(answer: Any) -> Iterator[list[dict[str, Any]]]:
    """Give the events of a watch in blocks, as they arrive."""
    rest = b""
    for block in answer.stream(BLOCK):
        *lines, rest = (rest + block).split(b"\n")
        found = [orjson.loads(line) for line in lines if line.strip()]
        if found:
            yield found


def message_of(body: bytes) -> str:
    """Read the message of a Status; what is none is shown cut."""
    try:
        return str(orjson.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")


def connect(kubeconfig: str | Path | None = None, context: str | None = None) -> Api:
    """Open an API server by a kubeconfig; see `leptonami.kubeconfig.open_access`."""
    return Api(open_access(context, kubeconfig))
