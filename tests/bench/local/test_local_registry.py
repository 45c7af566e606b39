"""The registry: what it serves, what it refuses, and how fast."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leptonami.bench.local import containerd
from leptonami.bench.local.launching import Stopwatch, pod
from leptonami.bench.local.oci import Built, File, Layout
from leptonami.bench.local.registry import CHUNK, Registry, Sent, TokenBucket

CONTENT = bytes(range(256)) * 2048


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    made = Layout(tmp_path_factory.mktemp("layout"))
    made.add("team/app:1", {}, [made.layer([File("a", CONTENT)], "none")])
    (made.folder / "secret").write_text("nobody's business")
    return made


@pytest.fixture(scope="module")
def registry(layout: Layout) -> Iterator[Registry]:
    with Registry(layout) as made:
        yield made


def ask(registry: Registry, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True)
        for name, value in {"Host": "registry.leptonami.test", **headers}.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read()
    finally:
        connection.close()


def test_a_pull_by_tag_and_by_digest(registry: Registry, layout: Layout) -> None:
    assert ask(registry, "/v2/")[0] == 200
    status, headers, body = ask(registry, "/v2/team/app/manifests/1")
    manifest = json.loads(body)
    assert status == 200
    assert headers["Content-Type"] == manifest["mediaType"]
    digest = headers["Docker-Content-Digest"]
    assert ask(registry, f"/v2/team/app/manifests/{digest}")[2] == body
    status, headers, nothing = ask(registry, "/v2/team/app/manifests/1", "HEAD")
    assert (status, int(headers["Content-Length"]), nothing) == (200, len(body), b"")
    layer = manifest["layers"][0]["digest"]
    registry.settle(60)
    before, seen = registry.bytes, len(registry.sent)
    status, headers, blob = ask(registry, f"/v2/team/app/blobs/{layer}")
    assert blob == layout.path(layer).read_bytes()
    registry.settle(60)
    (sent,) = registry.sent[seen:]
    assert (sent.kind, sent.digest, sent.count, registry.bytes - before) == ("blobs", layer, len(blob), len(blob))
    assert sent.begun <= sent.ended


def test_ranges(registry: Registry, layout: Layout) -> None:
    layer = layout.manifests()["team/app:1"]
    digest = json.loads(layout.path(layer["digest"]).read_text())["layers"][0]["digest"]
    whole = layout.path(digest).read_bytes()
    path = f"/v2/team/app/blobs/{digest}"
    status, headers, body = ask(registry, path, Range="bytes=1000-1999")
    assert (status, body, headers["Content-Range"]) == (206, whole[1000:2000], f"bytes 1000-1999/{len(whole)}")
    status, _, body = ask(registry, path, Range=f"bytes={len(whole) - 5}-")
    assert (status, body) == (206, whole[-5:])
    status, headers, _ = ask(registry, path, Range=f"bytes={len(whole)}-")
    assert (status, headers["Content-Range"]) == (416, f"bytes */{len(whole)}")
    # Anything else is no range that we know, and may be left unheard (RFC 9110, 14.2).
    assert ask(registry, path, Range="bytes=-5")[0] == 200


def test_range_at_zero_is_one_byte(registry: Registry, layout: Layout) -> None:
    digest = layout.manifests()["team/app:1"]["digest"]
    status, headers, body = ask(registry, f"/v2/team/app/blobs/{digest}", Range="bytes=0-0")
    assert (status, len(body), headers["Content-Length"]) == (206, 1, "1")


@pytest.mark.parametrize(
    "path",
    [
        "/v2/team/app/blobs/../../secret",
        "/v2/team/app/blobs/sha256:..%2f..%2fsecret",
        "/v2/../secret/manifests/1",
        "/v2/team/app/manifests/2",
        "/v2/Team/app/manifests/1",
        "/v2/other/blobs/sha256:" + "0" * 64,
        "/v2/team/app/blobs/latest",
        "/v2/team/app/tags/list",
        "/secret",
        "/v2/" + "a/" * 200 + "manifests/1",
    ],
)
def test_what_is_not_there_or_not_a_name_is_refused(registry: Registry, path: str) -> None:
    status, _, body = ask(registry, path)
    assert status == 404
    assert json.loads(body)["errors"][0]["code"] in {"NAME_INVALID", "MANIFEST_UNKNOWN", "BLOB_UNKNOWN"}


def test_a_blob_of_the_layout_is_served_only_under_a_known_name(registry: Registry, layout: Layout) -> None:
    digest = layout.manifests()["team/app:1"]["digest"]
    assert ask(registry, f"/v2/team/app/blobs/{digest}")[0] == 200
    assert ask(registry, f"/v2/team/other/blobs/{digest}")[0] == 404


def test_it_is_read_only(registry: Registry) -> None:
    assert ask(registry, "/v2/team/app/blobs/uploads/", "POST")[0] == 501


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="?#"), max_size=80))
def test_whatever_the_path_nothing_of_the_disk_comes_out(registry: Registry, tail: str) -> None:
    status, _, body = ask(registry, f"/v2/team/app/blobs/{tail}")
    assert status == 404
    assert b"nobody" not in body


class Time:
    """A clock that goes on only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.floats(1e3, 1e9),
    st.floats(1.0, 1e6),
    st.lists(st.tuples(st.integers(1, CHUNK), st.floats(0, 2)), min_size=1, max_size=50),
)
def test_never_more_than_rate_and_burst(rate: float, burst: float, takes: list[tuple[int, float]]) -> None:
    timer = Time()
    bucket = TokenBucket(rate, burst, timer.clock, timer.sleep)
    gone = [(timer.now, 0.0)]
    for count, pause in takes:
        timer.now += pause
        bucket.take(count)
        gone.append((timer.now, gone[-1][1] + count))
    for first, (began, before) in enumerate(gone):
        for ended, after in gone[first + 1 :]:
            assert after - before <= burst + rate * (ended - began) + CHUNK + 1e-6 * after
    # And no slower than that: who always has something to send gets the whole rate.
    steady = TokenBucket(rate, burst, timer.clock, timer.sleep)
    begun, total = timer.now, sum(count for count, _ in takes)
    for count, _ in takes:
        steady.take(count)
    assert timer.now - begun <= total / rate + 1e-6 * timer.now


def test_without_a_rate_nobody_waits() -> None:
    def sleep(_: float) -> None:
        raise AssertionError("waited")

    TokenBucket(0, sleep=sleep).take(10**12)


def test_what_was_sent_is_noted_once_it_has_settled(layout: Layout) -> None:
    """The client has the last byte before the registry has noted it."""
    with Registry(layout) as made:
        made.sent = Tardy()
        body = ask(made, "/v2/team/app/manifests/1")[2]
        made.settle(60)
        assert made.bytes == len(body)


def test_a_pull_is_fetched_before_it_is_pulled_however_late_the_registry_notes_it(
    layout: Layout, tmp_path: Path
) -> None:
    manifest = layout.path(layout.manifests()["team/app:1"]["digest"])
    layer = json.loads(manifest.read_text())["layers"][0]["digest"]
    app = Built("team/app:1", "sha256:0", (layer,), 1, 1, 1)
    (tmp_path / containerd.LOGS).mkdir(parents=True)
    (tmp_path / containerd.LOGS / "app.log").write_bytes(b"now READY\n")
    node: Any = SimpleNamespace(name="node", root=tmp_path)
    stopwatch = Stopwatch(60)
    with Registry(layout) as made:
        made.sent = Tardy()
        client: Any = SimpleNamespace(
            sandbox=lambda *_: None,
            listed=list,
            pull=lambda _: ask(made, f"/v2/team/app/blobs/{layer}"),
            create=lambda *_: "container",
            start=lambda _: None,
        )
        pod(node, client, app, stopwatch, registry=made, unpacked=False)
    at = {mark.name: mark.at for mark in stopwatch.marks}
    assert at["pulling"] <= at["fetched"] <= at["pulled"]


class Tardy(list[Sent]):
    """A list that the processor is taken away from before it takes something in, and from what noted it."""

    def append(self, sent: Sent) -> None:
        time.sleep(0.2)
        super().append(replace(sent, ended=time.monotonic()))


def test_two_connections_share_the_rate_and_closing_ends_them(layout: Layout) -> None:
    digest = json.loads(layout.path(layout.manifests()["team/app:1"]["digest"]).read_text())["layers"][0]["digest"]
    size = layout.path(digest).stat().st_size
    rate = size * 4
    with Registry(layout, rate) as made:
        path = f"/v2/team/app/blobs/{digest}"
        both = [threading.Thread(target=ask, args=(made, path)) for _ in range(2)]
        begun = time.monotonic()
        for each in both:
            each.start()
        for each in both:
            each.join()
        # Two blobs at the rate of four a second, less the burst: a lower bound holds on a busy machine too.
        assert time.monotonic() - begun >= (2 * size - 2 * CHUNK) / rate
        made.settle(60)
        assert made.bytes == 2 * size


def test_closing_it_ends_what_it_sends(layout: Layout) -> None:
    manifest = layout.path(layout.manifests()["team/app:1"]["digest"])
    layer = json.loads(manifest.read_text())["layers"][0]["digest"]
    with Registry(layout) as made:
        # Beyond the burst, nothing more goes before it is closed.
        made.bucket = TokenBucket(CHUNK, sleep=lambda _: made.closing.wait(60))
        connection = http.client.HTTPConnection("127.0.0.1", made.port, timeout=60)
        connection.request("GET", f"/v2/team/app/blobs/{layer}")
        answer = connection.getresponse()
        answer.read(10)
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    connection.close()
    with pytest.raises(ConnectionError):
        ask(made, "/v2/")


def test_latency_comes_before_each_answer(layout: Layout) -> None:
    with Registry(layout, latency=0.05) as made:
        begun = time.monotonic()
        ask(made, "/v2/")
        assert time.monotonic() - begun >= 0.05


def test_nothing_listens_beyond_loopback(registry: Registry) -> None:
    assert registry.server.server_address[0] == "127.0.0.1"
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    assert f"0100007F:{registry.port:04X}" in listening
    assert f"00000000:{registry.port:04X}" not in listening
