"""A registry of container images on loopback: read-only, counted, and as slow as it is told to be.

It speaks the pull half of the OCI distribution specification (1.1). One registry is one node's link: all its
connections share one token bucket. Shaping in user space is as exact as a queueing discipline of the kernel
(25.0 MB/s at "200 Mbit", both; facts/local-nodes.md) and needs no privilege.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

    from leptonami.bench.local.oci import Layout

__all__ = ["Registry", "Sent", "TokenBucket"]

CHUNK = 64 * 1024
# opencontainers/distribution-spec, "Pulling manifests": what names and tags may look like.
NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
TAG = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"
DIGEST = r"sha256:[0-9a-f]{64}"
PATH = re.compile(rf"/v2/(?P<name>{NAME})/(?P<kind>manifests|blobs)/(?P<reference>{DIGEST}|{TAG})")
RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{1,18})?")
MAX_NAME = 255


class TokenBucket:
    """Lets bytes through at a rate. Whoever takes waits until its bytes may go; in order of arrival.

    Parameters
    ----------
    rate
        Bytes a second; 0 for no limit.
    burst
        Bytes that may go at once after a pause.
    clock, sleep
        In seconds.
    """

    def __init__(
        self,
        rate: float,
        burst: float = 2 * CHUNK,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.rate, self.burst, self.clock, self.sleep = rate, burst, clock, sleep
        self.lock = threading.Lock()
        self.free_at = float("-inf")  # when everything that has been taken will have gone

    def take(self, count: int) -> None:
        """Wait until this many bytes may have gone."""
        if not self.rate:
            return
        with self.lock:
            now = self.clock()
            self.free_at = max(self.free_at, now - self.burst / self.rate) + count / self.rate
            wait = self.free_at - now
        if wait > 0:
            self.sleep(wait)


@dataclass(frozen=True)
class Sent:
    """An answer of the registry.

    Attributes
    ----------
    kind, digest, count
        `manifests` or `blobs`, of which content, and how many bytes of it were sent.
    begun, ended
        When the request came, and when its last byte was given to the kernel (`time.monotonic`).
    """

    kind: str
    digest: str
    count: int
    begun: float
    ended: float


class Registry:
    """A registry that serves a layout on 127.0.0.1 until it is closed.

    Parameters
    ----------
    layout
        The images.
    rate
        Bytes a second for all connections together; 0 for no limit.
    latency
        Seconds before each answer.
    """

    def __init__(self, layout: Layout, rate: float = 0, latency: float = 0) -> None:
        self.layout = layout
        self.bucket = TokenBucket(rate)
        self.latency = latency
        self.sent: list[Sent] = []
        self._answers = 0
        self._noted = threading.Condition()
        self.closing = threading.Event()
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.registry = self
        self.port = int(self.server.server_address[1])
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True, name="registry")
        self.thread.start()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it; connections that still send are cut off."""
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Note that content is being sent, until the block has noted what was."""
        with self._noted:
            self._answers += 1
        try:
            yield
        finally:
            with self._noted:
                self._answers -= 1
                self._noted.notify_all()

    def settle(self, patience: float = 5) -> None:
        """Wait until all that was sent is noted in `sent`: a client has the last byte before, and may have gone on."""
        with self._noted:
            self._noted.wait_for(lambda: not self._answers, patience)

    @property
    def bytes(self) -> int:
        """Everything that has been sent."""
        return sum(each.count for each in self.sent)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    registry: Registry

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep silent: a client that goes away in the middle is no fault of the registry."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    # A client that says nothing for so long is gone.
    timeout = 60

    def log_message(self, format: str, *args: object) -> None:
        """Keep silent: what was sent is in `Registry.sent`."""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        registry, begun = self.server.registry, time.monotonic()
        if registry.latency and registry.closing.wait(registry.latency):
            return
        path = self.path.partition("?")[0]
        if path in ("/v2", "/v2/"):
            self._small(200, {}, body)
            return
        found = PATH.fullmatch(path)
        if found is None or len(found["name"]) > MAX_NAME:
            self._error(404, "NAME_INVALID", body)
            return
        media_type, file, digest = self._find(found["name"], found["kind"], found["reference"])
        if file is None:
            self._error(404, "MANIFEST_UNKNOWN" if found["kind"] == "manifests" else "BLOB_UNKNOWN", body)
            return
        self._send(file, media_type, digest, body=body, kind=found["kind"], begun=begun)

    def _find(self, name: str, kind: str, reference: str) -> tuple[str, Path | None, str]:
        layout = self.server.registry.layout
        index = layout.manifests()
        if kind == "manifests":
            for known, entry in index.items():
                if known == f"{name}:{reference}" or (known.startswith(f"{name}:") and entry["digest"] == reference):
                    return str(entry["mediaType"]), layout.path(str(entry["digest"])), str(entry["digest"])
            return "", None, ""
        file = layout.path(reference)
        there = reference.startswith("sha256:") and file.is_file() and any(k.startswith(f"{name}:") for k in index)
        return "application/octet-stream", file if there else None, reference

    def _send(self, file: Path, media_type: str, digest: str, *, body: bool, kind: str, begun: float) -> None:
        with file.open("rb") as source:
            size = file.stat().st_size
            first, last = 0, size - 1
            wanted = RANGE.fullmatch(self.headers.get("Range", ""))
            if wanted:
                first, last = int(wanted[1]), min(last, int(wanted[2] or last))
                if first > last:
                    self._error(416, "RANGE_INVALID", body, {"Content-Range": f"bytes */{size}"})
                    return
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(last - first + 1))
            self.send_header("Docker-Content-Digest", digest)
            self.send_header("Accept-Ranges", "bytes")
            if wanted:
                self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            self.end_headers()
            if body:
                source.seek(first)
                with self.server.registry.answering():
                    count = self._pour(source, last - first + 1)
                    self.server.registry.sent.append(Sent(kind, digest, count, begun, time.monotonic()))

    def _pour(self, source: BinaryIO, count: int) -> int:
        registry, left = self.server.registry, count
        while left > 0 and not registry.closing.is_set():
            data = source.read(min(CHUNK, left))
            registry.bucket.take(len(data))
            self.wfile.write(data)
            left -= len(data)
        if left:
            self.close_connection = True
        return count - left

    def _small(self, status: int, content: object, body: bool, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Docker-Distribution-Api-Version": "registry/2.0", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def _error(self, status: int, code: str, body: bool, headers: dict[str, str] | None = None) -> None:
        self._small(status, {"errors": [{"code": code, "message": code.lower().replace("_", " ")}]}, body, headers)
