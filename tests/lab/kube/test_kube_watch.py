"""Watches over HTTP as client-go's reflectors use them, and what the server does with many clients."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import manifests
import pytest

from leptonami.lab.kube import Server, history, start, watching
from leptonami.lab.kube.store import Options

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json"


def connect(server: Server) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cadata=server.ca_pem)
    return http.client.HTTPSConnection("127.0.0.1", int(server.url.rpartition(":")[2]), context=context, timeout=60)


class Client:
    """A connection that is kept open."""

    def __init__(self, server: Server) -> None:
        self.server, self.connection = server, connect(server)

    def close(self) -> None:
        self.connection.close()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> http.client.HTTPResponse:
        sent = {"Authorization": f"Bearer {self.server.token}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        self.connection.request(method, path, data, sent)
        return self.connection.getresponse()

    def get(self, path: str, **headers: str) -> Any:
        return json.loads(self.ask("GET", path, **headers).read())

    def events(self, path: str, **headers: str) -> Iterator[tuple[str, Any]]:
        response = self.ask("GET", path, **headers)
        assert response.status == 200, response.read()
        while line := response.readline():
            found = json.loads(line)
            yield found["type"], found["object"]


@pytest.fixture
def http_client(server: Server) -> Iterator[Client]:
    with closing(Client(server)) as made:
        yield made


def config_map(server: Server, name: str, **labels: str) -> Any:
    kind = server.store.kind("configmaps")
    body = {"metadata": {"name": name, "labels": labels}}
    return server.store.create(kind, "default", body, options=Options())


def test_list_then_watch_misses_nothing(server: Server, http_client: Client) -> None:
    config_map(server, "before")
    listed = http_client.get("/api/v1/namespaces/default/configmaps?limit=500&resourceVersion=0")
    assert "before" in [each["metadata"]["name"] for each in listed["items"]]
    assert "kind" not in listed["items"][0]
    version = listed["metadata"]["resourceVersion"]
    config_map(server, "after")
    path = f"/api/v1/configmaps?watch=true&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds=1"
    events = list(http_client.events(path))
    assert [(kind, obj["metadata"].get("name")) for kind, obj in events] == [("ADDED", "after"), ("BOOKMARK", None)]
    assert events[0][1]["kind"] == "ConfigMap"
    assert events[1][1]["metadata"]["resourceVersion"] == str(server.store.resource_version)


def test_a_watch_list_begins_with_all_and_says_when_that_was_all(server: Server, http_client: Client) -> None:
    config_map(server, "listed", asked="yes")
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
    events = list(http_client.events(f"/api/v1/configmaps?{query}&labelSelector=asked%3Dyes"))
    assert [kind for kind, _ in events] == ["ADDED", "BOOKMARK", "BOOKMARK"]
    notes = events[1][1]["metadata"]["annotations"]
    assert notes["k8s.io/initial-events-end"] == "true"
    empty = json.loads(base64.b64decode(notes["kubernetes.io/initial-events-list-blueprint"]))
    assert empty == {"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {}, "items": []}


def test_bookmarks_come_by_themselves(server: Server, http_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "BOOKMARK_SECONDS", 0.1)
    events = http_client.events("/api/v1/nodes?watch=true&allowWatchBookmarks=true&resourceVersion=1&timeoutSeconds=20")
    assert next(events)[0] == "BOOKMARK"
    http_client.close()


@pytest.mark.parametrize("version", ["1"])
def test_a_version_that_is_forgotten_is_an_error_event(server: Server, http_client: Client, version: str) -> None:
    config_map(server, "forgotten")
    log = server.store.table("configmaps").history
    log.forgotten, before = log.changes[-1].version, log.forgotten
    try:
        ((kind, status),) = http_client.events(f"/api/v1/configmaps?watch=true&resourceVersion={version}")
    finally:
        log.forgotten = before
    assert (kind, status["code"], status["reason"]) == ("ERROR", 410, "Expired")


def test_one_object_is_watched_by_field_selector_by_name_and_by_the_old_path(server: Server) -> None:
    config_map(server, "single")
    config_map(server, "other")
    base, query = "/api/v1/namespaces/default/configmaps", "timeoutSeconds=1"
    paths = (
        f"{base}?watch=true&fieldSelector=metadata.name%3Dsingle&{query}",
        f"{base}/single?watch=true&{query}",
        f"/api/v1/watch/namespaces/default/configmaps/single?{query}",
    )
    with ExitStack() as stack:
        for response in [stack.enter_context(closing(Client(server))).ask("GET", path) for path in paths]:
            [line] = response.read().splitlines()
            assert json.loads(line)["object"]["metadata"]["name"] == "single"


def test_tables_and_metadata_in_watches(server: Server, http_client: Client) -> None:
    config_map(server, "t1", tables="yes")
    config_map(server, "t2", tables="yes")
    path = "/api/v1/namespaces/default/configmaps?watch=true&labelSelector=tables&timeoutSeconds=1"
    with closing(Client(server)) as other:
        in_tables = other.ask("GET", path, Accept=TABLE)
        found = [obj for _, obj in http_client.events(path, Accept=METADATA)]
        tables = [json.loads(line)["object"] for line in in_tables.read().splitlines()]
    assert [each["name"] for each in tables[0]["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert tables[1]["columnDefinitions"] is None
    assert [row["cells"][0] for each in tables for row in each["rows"]] == ["t1", "t2"]
    assert [set(each) for each in found] == [{"kind", "apiVersion", "metadata"}] * 2


def shown(event: history.Event) -> bytes:
    return f"{event.type} {event.obj['metadata'].get('name')}\n".encode()


def test_what_happened_before_a_watch_ends_is_told_however_late_it_looks() -> None:
    client = manifests.Client()
    client.create("customresourcedefinitions", manifests.definition(manifests.version()))
    client.create("widgets", {"apiVersion": "x.io/v1", "kind": "Widget", "metadata": {"name": "w"}})
    begin = str(client.store.resource_version)
    watch = client.store.watch(client.kind("widgets"), resource_version=begin)
    definitions = client.kind("customresourcedefinitions")
    timed = client.store.watch(definitions, resource_version=begin, bookmarks=True)
    client.store.delete(definitions, None, "widgets.x.io")
    assert watch.ended
    told = watching.stream(watch, shown, seconds=60, alive=lambda: True)
    assert list(told)[-1].splitlines()[-1] == b"DELETED w"
    lines = b"".join(watching.stream(timed, shown, seconds=0, alive=lambda: True)).splitlines()
    assert lines[-2:] == [b"DELETED widgets.x.io", b"BOOKMARK None"]


def test_many_watches_do_not_starve_the_rest() -> None:
    with start() as server, ExitStack() as stack:
        clients = [stack.enter_context(closing(Client(server))) for _ in range(50)]
        path = "/api/v1/configmaps?watch=true&resourceVersion=1&timeoutSeconds=60"
        responses = [each.ask("GET", path) for each in clients]
        busy = stack.enter_context(closing(Client(server)))
        for number in range(20):
            body = {"metadata": {"name": f"c{number}"}}
            assert busy.ask("POST", "/api/v1/namespaces/default/configmaps", body).read()
        for response in responses:
            names = [json.loads(response.readline())["object"]["metadata"]["name"] for _ in range(20)]
            assert names == [f"c{number}" for number in range(20)]


def threads(server: Server) -> list[threading.Thread]:
    return list(server.http.connections)


def until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def test_a_client_that_goes_away_costs_no_thread() -> None:
    with start() as server:
        client = Client(server)
        response = client.ask("GET", "/api/v1/configmaps?watch=true")
        assert response.status == 200 and threads(server)
        response.close()
        client.close()
        until(lambda: not threads(server))


def test_stopping_ends_every_thread_and_socket() -> None:
    before = set(threading.enumerate())
    server = start()
    clients = [Client(server) for _ in range(5)]
    responses = [each.ask("GET", "/api/v1/configmaps?watch=true") for each in clients[:3]]
    clients[3].get("/version")
    lazy = socket.create_connection(("127.0.0.1", server.http.server_port))
    until(lambda: len(threads(server)) >= 5)
    server.stop()
    assert not [each for each in threading.enumerate() if each not in before and each.is_alive()]
    for response in responses:
        assert response.readline() == b""
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.http.server_port))
    lazy.close()
    for each in clients:
        each.close()


def test_stopping_ends_a_connection_whose_handshake_just_begins() -> None:
    before = set(threading.enumerate())
    server = start()
    context, go_on, wrapped = server.http.context, threading.Event(), threading.Event()

    class Context:
        """Makes a connection's TLS socket at the worst moment: `stop` knows the connections, and has ended none."""

        def wrap_socket(self, *given: Any, **named: Any) -> Any:
            assert context and go_on.wait(60)
            found = context.wrap_socket(*given, **named)
            wrapped.set()
            return found

    class Connections(dict[Any, Any]):
        def items(self) -> Any:
            found = list(super().items())
            go_on.set()
            assert wrapped.wait(60)
            return found

    server.http.context = Context()  # type: ignore[assignment]
    server.http.connections = Connections()
    with closing(socket.create_connection(("127.0.0.1", server.http.server_port))):
        until(lambda: threads(server))
        server.stop()
        assert not [each for each in threading.enumerate() if each not in before and each.is_alive()]


def test_a_connection_that_comes_while_it_stops_is_closed() -> None:
    with start(tls=False) as server:
        pass
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        thread = threading.Thread(target=server.http.process_request_thread, args=(theirs, None), daemon=True)
        thread.start()
        ours.settimeout(60)
        assert ours.recv(1) == b""
        thread.join(60)
        assert not thread.is_alive() and not server.http.connections


def test_a_connection_without_a_handshake_keeps_nobody_waiting(server: Server, http_client: Client) -> None:
    with closing(socket.create_connection(("127.0.0.1", server.http.server_port))):
        assert http_client.get("/version")["minor"] == "37"


def test_alone_it_says_where_it_is_and_ends_when_its_input_does() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "leptonami.lab.kube", '{"cluster": "alone", "version": "1.30"}'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None and process.stdout is not None
        about = json.loads(process.stdout.readline())
        context = ssl.create_default_context(cadata=about["ca_pem"])
        with urllib.request.urlopen(about["url"] + "/version", context=context, timeout=60) as answer:
            assert json.loads(answer.read())["gitVersion"] == "v1.30.0-eks-lab"
        process.stdin.close()
        assert process.wait(60) == 0
    assert about["cluster"] == "alone"
