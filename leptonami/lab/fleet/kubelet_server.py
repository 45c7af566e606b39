"""The kubelets' server, one on 127.0.0.1 for all nodes: `GET /containerLogs/NAMESPACE/POD/CONTAINER`, as theirs.

Also `GET /machines`: how far each instance is on its way to being a node, and why one never gets there.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from leptonami.lab.fleet.podstatus import Log

__all__ = ["KubeletServer"]

LOOK_S = 0.1  # between two looks for new lines
TRUE = {"true", "1", "True"}


class Find(Protocol):
    """Gives a container's log, or the kubelet's words if there is none."""

    def __call__(self, namespace: str, pod: str, container: str, *, previous: bool) -> Log | str:
        """Find it."""


class KubeletServer:
    """The server.

    Parameters
    ----------
    find
        Finds a log.
    machines
        Gives what `/machines` says.
    """

    def __init__(self, find: Find, machines: Callable[[], Any]) -> None:
        self.stopping = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                """Answer."""
                parts = urlsplit(self.path)
                words = [unquote(each) for each in parts.path.split("/")[1:]]
                query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
                match words:
                    case ["machines"]:
                        self.whole(200, json.dumps(machines()) + "\n", "application/json")
                    case ["healthz"]:
                        self.whole(200, "ok")
                    case ["containerLogs", namespace, pod, container]:
                        found = find(namespace, pod, container, previous=query.get("previous") in TRUE)
                        try:
                            self.log(found, query) if isinstance(found, Log) else self.whole(400, found)
                        except ValueError as error:
                            self.whole(400, f"the query cannot be read: {error}")
                    case _:
                        self.whole(404, "404 page not found")

            def whole(self, status: int, text: str, kind: str = "text/plain") -> None:
                """Send an answer in one piece."""
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log(self, log: Log, query: dict[str, str]) -> None:
                """Send a log, and what comes to it if it is followed."""
                follow = server.stopping if query.get("follow") in TRUE else None
                blocks = lines_of(log, query, follow)
                first = next(blocks)  # what is wrong with the query shows here
                self.send_response(200)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                try:
                    for block in itertools.chain([first], blocks):
                        if block:
                            self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
                    self.wfile.write(b"0\r\n\r\n")
                except OSError:
                    self.close_connection = True  # who listened is gone

        server = self
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.block_on_close = False
        self.port: int = self.http.server_port
        self._thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self.stopping.set()
        self.http.shutdown()
        self.http.server_close()
        self._thread.join(5)


def lines_of(log: Log, query: dict[str, str], follow: threading.Event | None) -> Iterator[bytes]:
    """Give a log in blocks.

    Parameters
    ----------
    query
        `tailLines`, `sinceSeconds`, `sinceTime`, `timestamps`, `limitBytes`, as kubelets know them.
    follow
        Go on with new lines until the container has ended, or this is set.

    Raises
    ------
    ValueError
        If a number is none.
    """
    tail = int(query["tailLines"]) if query.get("tailLines") else None
    since = query.get("sinceTime", "")
    if query.get("sinceSeconds"):
        since = (datetime.now(UTC) - timedelta(seconds=int(query["sinceSeconds"]))).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    limit = int(query["limitBytes"]) if query.get("limitBytes") else None
    stamped = query.get("timestamps") in TRUE

    def written(lines: list[tuple[str, str]]) -> bytes:
        return "".join(f"{at} {line}\n" if stamped else f"{line}\n" for at, line in lines).encode()

    ended, (dropped, lines) = log.ended, log.kept
    lines = list(lines)
    seen = dropped + len(lines)
    chosen = [each for each in lines if each[0] >= since]
    if tail is not None:
        chosen = chosen[max(0, len(chosen) - tail) :]
    block = written(chosen)
    yield block[:limit]
    while follow is not None and not ended and limit is None and not follow.wait(LOOK_S):
        ended, (dropped, lines) = log.ended, log.kept
        fresh = lines[max(0, seen - dropped) :]
        seen = max(seen, dropped) + len(fresh)
        yield written(fresh)
