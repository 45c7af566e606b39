"""Logs that are asked of a kubelet: followed as they come, and what goes wrong on the way."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from test_kube_watch import Client, until

from leptonami.lab.kube import Server, logs
from leptonami.lab.kube.store import Options


class Kubelet(ThreadingHTTPServer):
    """Answers with what the test lets it, a line at a time."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.go_on = threading.Event()
        self.over = threading.Event()
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Kubelet

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if "/waiting" in self.path:
            body = b'container "waiting" in pod "p" is waiting to start: ContainerCreating\n'
            self.send_response(400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            self.line(b"one\n")
            # Longer than one look at the client: a quiet log must not end.
            self.server.go_on.wait(120)
            for number in range(2 if "endless" not in self.path else 1_000_000):
                self.line(b"more %d\n" % number)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True
        finally:
            self.server.over.set()

    def line(self, text: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(text), text))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def kubelet(server: Server) -> Iterator[Kubelet]:
    made = Kubelet()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    kind = server.store.kind("nodes")
    status = {"daemonEndpoints": {"kubeletEndpoint": {"Port": made.server_port}}}
    server.store.create(kind, None, {"metadata": {"name": "node"}, "status": status}, options=Options())
    server.store.update(
        kind,
        None,
        "node",
        {**server.store.get(kind, None, "node"), "status": status},
        subresource="status",
        options=Options(),
    )
    containers = [{"name": each, "image": "i"} for each in ("main", "waiting", "endless")]
    pod: dict[str, Any] = {"metadata": {"name": "p"}, "spec": {"containers": containers, "nodeName": "node"}}
    server.store.create(server.store.kind("pods"), "default", pod, options=Options())
    yield made
    made.go_on.set()
    made.shutdown()
    made.server_close()
    thread.join()
    server.store.delete_collection(server.store.kind("pods"), "default")
    for each in server.store.list(server.store.kind("pods"), "default").items:
        from leptonami.lab.kube.store import DeleteOptions

        name = each["metadata"]["name"]
        server.store.delete(server.store.kind("pods"), "default", name, options=DeleteOptions(grace=0))
    server.store.delete(kind, None, "node")


LOG = "/api/v1/namespaces/default/pods/p/log"


def test_a_followed_log_comes_as_it_is_written_and_may_be_quiet_meanwhile(
    server: Server, kubelet: Kubelet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "LOOK_S", 0.1)
    with closing(Client(server)) as client:
        response = client.ask("GET", f"{LOG}?container=main&follow=true&tailLines=5")
        assert response.readline() == b"one\n"
        monkeypatch.setattr(logs, "ANSWER_S", 0.1)  # from here on: the answer itself may take its time
        threading.Timer(0.5, kubelet.go_on.set).start()
        assert response.read() == b"more 0\nmore 1\n"
    assert kubelet.asked == ["/containerLogs/default/p/main?follow=true&tailLines=5"]


def test_who_follows_and_goes_away_is_followed_no_longer(server: Server, kubelet: Kubelet) -> None:
    client = Client(server)
    response = client.ask("GET", f"{LOG}?container=endless&follow=true")
    assert response.readline() == b"one\n"
    response.close()
    client.close()
    until(lambda: not server.http.connections)
    kubelet.go_on.set()
    until(kubelet.over.is_set)


def test_a_log_that_is_not_followed_is_one_answer(server: Server, kubelet: Kubelet) -> None:
    kubelet.go_on.set()
    with closing(Client(server)) as client:
        response = client.ask("GET", f"{LOG}?container=main&timestamps=true")
        assert response.read() == b"one\nmore 0\nmore 1\n"
        assert (response.getheader("Content-Type"), response.getheader("Content-Length")) == ("text/plain", "18")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("container=waiting", 'container "waiting" in pod "p" is waiting to start: ContainerCreating'),
        ("container=none", "container none is not valid for pod p"),
        ("", "a container name must be specified for pod p, choose one of: [main waiting endless]"),
    ],
)
def test_why_there_is_no_log_is_said_in_the_real_words(
    server: Server, kubelet: Kubelet, query: str, words: str
) -> None:
    with closing(Client(server)) as client:
        status = json.loads(client.ask("GET", f"{LOG}?{query}").read())
    assert (status["code"], status["reason"], status["message"]) == (400, "BadRequest", words)
