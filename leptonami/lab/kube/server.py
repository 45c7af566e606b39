"""The HTTP server: one thread per connection, keep-alive, TLS, whole answers and streams.

It stands on the standard library's `http.server`. Werkzeug's threaded server, which the lab's AWS uses, closes the
connection after every answer, and each new one would cost a TLS handshake. Three things make it quick: answers are
written in one piece (with Nagle's algorithm a second write waits 40 ms for the client's acknowledgement), handshakes
happen in the connection's own thread, and accepted sockets have no delay.
"""

from __future__ import annotations

import contextlib
import io
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qsl, unquote

from leptonami.lab.kube.errors import ApiError

__all__ = ["HttpServer", "Request", "Response"]

LONGEST_BODY = 3 * 1024 * 1024  # bytes, as the real API server: MaxRequestBodyBytes
LONGEST_LINE, MOST_HEADERS = 1 << 16, 100  # bytes, and fields, as http.client has them
HANDSHAKE_S = 10.0
READ_S = 30.0  # a request that has begun and does not go on
IDLE_S = 300.0  # a connection on which nothing moves, in either direction
BACKLOG = 256


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes
    ----------
    parts
        The path in pieces, decoded.
    query
        Each parameter's first value.
    headers
        Names in lower case.
    alive
        Tells whether the client still listens and the server still runs; streams ask now and then.
    """

    method: str
    path: str
    parts: tuple[str, ...]
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    alive: Callable[[], bool]

    def flag(self, name: str) -> bool:
        """Tell whether a boolean parameter is on, as the real server reads them."""
        return name in self.query and self.query[name].lower() not in {"false", "0"}


@dataclass
class Response:
    """One answer: the whole body, or pieces that are sent as they come."""

    body: bytes | Iterator[bytes] = b""
    status: int = 200
    content_type: str = "application/json"
    headers: list[tuple[str, str]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    """Reads the requests of one connection and writes the answers."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    timeout = HANDSHAKE_S
    server: HttpServer
    fields: dict[str, str]
    raw_requestline: bytes

    def setup(self) -> None:
        """Shake hands, here in the connection's thread: a client that is slow at it keeps nobody waiting."""
        if self.server.context is not None:
            raw = self.request
            raw.settimeout(HANDSHAKE_S)
            self.request = self.server.context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
            self.server.connections[threading.current_thread()] = self.request
            if self.server.stopping.is_set():  # `stop` has seen the socket that this one took the place of
                raise ConnectionAbortedError
            self.request.do_handshake()
        super().setup()
        self.connection.settimeout(IDLE_S)

    def parse_request(self) -> bool:
        """Read the first line and the headers. The standard library's parser is one of e-mails: a third of a GET."""
        self.connection.settimeout(READ_S)
        self.command, self.requestline, self.request_version = "", str(self.raw_requestline, "iso-8859-1").strip(), ""
        self.close_connection, self.fields = True, {}
        words = self.requestline.split()
        if len(words) != 3 or words[2] not in {"HTTP/1.0", "HTTP/1.1"}:
            self.send_error(400, "Bad request syntax")
            return False
        self.command, self.path, self.request_version = words
        while (line := self.rfile.readline(LONGEST_LINE + 1).decode("iso-8859-1")).strip():
            name, colon, value = line.partition(":")
            if len(line) > LONGEST_LINE or len(self.fields) >= MOST_HEADERS:
                self.send_error(431)
                return False
            if not colon or not name or name != name.strip():  # folded lines are obsolete (RFC 9112, section 5.2)
                self.send_error(400, "Bad header")
                return False
            self.fields[name.lower()] = value.strip()
        wanted = self.fields.get("connection", "").lower()
        self.close_connection = wanted == "close" or (words[2] == "HTTP/1.0" and wanted != "keep-alive")
        return self.fields.get("expect", "").lower() != "100-continue" or self.handle_expect_100()

    def handle_expect_100(self) -> bool:
        """Let the client send its body."""
        answer = super().handle_expect_100()
        self.wfile.flush()
        return answer

    def handle_any(self) -> None:
        """Answer one request."""
        try:
            request = self.read()
            response = self.server.answer(request)
        except ApiError as problem:
            self.close_connection = True  # the body, or what is left of it, was not read
            response = self.server.refusal(problem)
        if isinstance(response.body, bytes):
            self.begin(response, [("Content-Length", str(len(response.body)))])
            if self.command != "HEAD":
                self.wfile.write(response.body)
            self.wfile.flush()
        else:
            self.stream(response, response.body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = handle_any

    def read(self) -> Request:
        """Read the rest of a request whose first line and headers are there."""
        headers = self.fields
        too_large = ApiError(
            413, "RequestEntityTooLarge", f"Request entity too large: limit is {LONGEST_BODY}", details={}
        )
        if "chunked" in headers.get("transfer-encoding", "").lower():
            from werkzeug.serving import DechunkedInput

            body = io.BufferedReader(cast(Any, DechunkedInput(cast(Any, self.rfile)))).read(LONGEST_BODY + 1)
            if len(body) > LONGEST_BODY:
                raise too_large
        else:
            length = headers.get("content-length", "0")
            if not (length.isascii() and length.isdigit()):
                raise ApiError(400, "BadRequest", "bad Content-Length", details={})
            if int(length) > LONGEST_BODY:
                raise too_large
            body = self.rfile.read(int(length))
            if len(body) < int(length):
                raise ApiError(400, "BadRequest", "unexpected EOF", details={})
        self.connection.settimeout(IDLE_S)
        path, _, asked = self.path.partition("?")
        query: dict[str, str] = {}
        for name, value in parse_qsl(asked, keep_blank_values=True):
            query.setdefault(name, value)
        parts = tuple(unquote(each) for each in path.split("/") if each)
        return Request(self.command, path, parts, query, headers, body, self.alive)

    def begin(self, response: Response, headers: list[tuple[str, str]]) -> None:
        """Write the status and the headers (into the buffer)."""
        self.send_response_only(response.status)
        self.send_header("Date", self.date_time_string())  # clients tell by it how far the clocks are apart
        for name, value in [("Content-Type", response.content_type), *response.headers, *headers]:
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def stream(self, response: Response, pieces: Iterator[bytes]) -> None:
        """Send pieces as they come, until they end or nobody listens."""
        self.begin(response, [("Transfer-Encoding", "chunked")])
        self.wfile.flush()
        try:
            for piece in pieces:
                if piece:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
            self.wfile.flush()
        finally:
            cast(Any, pieces).close()

    def alive(self) -> bool:
        """Tell whether the client is there: who waits for a stream sends nothing, so what can be read is its end."""
        if self.server.stopping.is_set():
            return False
        poll = select.poll()
        poll.register(self.connection, select.POLLIN | select.POLLHUP)
        return not poll.poll(0)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: it would go to standard error."""


class HttpServer(ThreadingHTTPServer):
    """Listens on 127.0.0.1 and knows its connections, so that it can end them.

    Parameters
    ----------
    answer
        Answers a request. It must not raise.
    refusal
        Makes the answer to a request that could not be read.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = BACKLOG

    def __init__(
        self,
        port: int,
        answer: Callable[[Request], Response],
        refusal: Callable[[ApiError], Response],
        context: ssl.SSLContext | None,
    ) -> None:
        self.answer, self.refusal, self.context = answer, refusal, context
        self.stopping = threading.Event()
        self.connections: dict[threading.Thread, socket.socket] = {}
        super().__init__(("127.0.0.1", port), Handler)
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    def server_bind(self) -> None:
        """Bind without asking the resolver for a name."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection, and forget it."""
        self.connections[threading.current_thread()] = request
        if self.stopping.is_set():  # `stop` has not seen it
            self.shutdown_request(request)
            return
        super().process_request_thread(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, whichever of its sockets is the one in use."""
        for each in {request, self.connections.pop(threading.current_thread(), request)}:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away, or that does not trust our certificate."""

    def stop(self) -> None:
        """End every connection and thread."""
        self.stopping.set()
        if self.thread.is_alive():
            self.shutdown()
            self.thread.join()
        self.server_close()
        left = list(self.connections.items())
        for _, each in left:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread, _ in left:
            thread.join(5)
