"""What goes over the wire: negotiation, Status errors, paths and methods, sizes, discovery and OpenAPI."""

from __future__ import annotations

import contextlib
import email.utils
import itertools
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from manifests import definition, deployment, pod, version
from test_kube_watch import Client

from leptonami.lab.kube import Server, discovery, formats, openapi, protobuf
from leptonami.lab.kube.errors import ApiError
from leptonami.lab.kube.objects import clone
from leptonami.lab.kube.schemas import Schemas
from leptonami.lab.kube.server import Request
from leptonami.lab.kube.verbs import Target

PODS = "/api/v1/namespaces/default/pods"
PROTOBUF = "application/vnd.kubernetes.protobuf"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
POD = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with closing(Client(server)) as made:
        made.ask("POST", PODS, POD).read()
        yield made


def status(client: Client, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str, str]:
    response = client.ask(method, path, body, **headers)
    found = json.loads(response.read())
    assert found["kind"] == "Status" and found["code"] == response.status
    return response.status, found["reason"], found["message"]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json", "PodList"),
        (f"{PROTOBUF},application/json", "PodList"),
        (f"{PROTOBUF}, */*;q=0.1", "PodList"),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "Table"),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", "Table"),
        ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", "PodList"),
        ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "PartialObjectMetadataList"),
        ("application/json;q=0.1,application/json;as=Table;v=v1;g=meta.k8s.io", "Table"),
    ],
)
def test_an_answer_has_the_form_that_is_wished_for(client: Client, accept: str, kind: str) -> None:
    assert client.get(PODS, Accept=accept)["kind"] == kind


@pytest.mark.parametrize("accept", [PROTOBUF, "application/cbor", "text/html"])
def test_what_cannot_be_given_is_not_acceptable(client: Client, accept: str) -> None:
    assert status(client, "GET", PODS, Accept=accept)[:2] == (406, "NotAcceptable")


def test_yaml_is_read_and_written(client: Client) -> None:
    body = b"""
metadata: {name: in-yaml, annotations: {when: 2020-01-02, 1: one}}
spec: {containers: [{name: c, image: i}]}
"""
    response = client.ask("POST", PODS, body, Content_Type="application/yaml", Accept="application/yaml")
    found = yaml.safe_load(response.read())
    assert response.status == 201
    assert found["metadata"]["annotations"] == {"when": "2020-01-02", "1": "one"}


BOMB = b"a: &a [x, x]\n" + b"".join(
    b"%c: &%c [*%c, *%c]\n" % (n + 1, n + 1, n, n) for n in b"abcdefghijklmnopqrstuvwxy"
)
DEEP = b'{"metadata":{"name":"deep"},"spec":' + b'{"a":' * 400 + b"1" + b"}" * 401


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_yaml_that_names_parts_of_itself_is_refused(client: Client, method: str) -> None:
    place, media = (PODS, "application/yaml") if method == "POST" else (f"{PODS}/p", "application/apply-patch+yaml")
    code, _, message = status(client, method, f"{place}?fieldManager=f", BOMB, Content_Type=media)
    assert code == 400 and "aliases" in message


def test_what_is_nested_too_deeply_to_be_written_is_not_stored(client: Client) -> None:
    crds, widgets = (
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        "/apis/x.io/v1/namespaces/default/widgets",
    )
    assert client.ask("POST", crds, definition(version())).read()
    assert status(client, "POST", widgets, DEEP)[0] == 400
    assert client.ask("POST", widgets, {"metadata": {"name": "w"}, "spec": {}}).read()
    path, code = "/spec", 200
    while code == 200:  # deeper and deeper
        patch = [{"op": "add", "path": f"{path}{'/a' * each}", "value": {}} for each in range(1, 30)]
        answer = client.ask("PATCH", f"{widgets}/w", patch, Content_Type="application/json-patch+json")
        answer.read()
        code, path = answer.status, path + "/a" * 29
    assert (code, len(path) > 400) == (400, True)
    assert client.get(widgets)["items"][0]["metadata"]["name"] == "w"


def test_answers_carry_the_servers_time(client: Client) -> None:
    answer = client.ask("GET", "/version")
    answer.read()
    told = email.utils.parsedate_to_datetime(answer.headers["Date"])
    assert abs((datetime.now(UTC) - told).total_seconds()) < 60


@pytest.mark.parametrize("media", ["application/cbor", "text/plain", "application/octet-stream"])
def test_a_body_of_another_type_is_unsupported(client: Client, media: str) -> None:
    code, reason, message = status(client, "POST", PODS, b"x", Content_Type=media)
    assert (code, reason) == (415, "UnsupportedMediaType")
    assert "accepted media types include: application/json" in message


@pytest.mark.parametrize(
    ("method", "path", "code", "reason"),
    [
        ("GET", "/nothing", 404, "NotFound"),
        ("GET", "/apis/none.example.com/v1", 404, "NotFound"),
        ("GET", "/apis/apps/v1/unicorns", 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/nodes", 404, "NotFound"),
        ("GET", "/api/v1/pods/p", 404, "NotFound"),
        ("GET", f"{PODS}/none", 404, "NotFound"),
        ("GET", f"{PODS}/p/none", 404, "NotFound"),
        ("GET", f"{PODS}/p/status/more", 404, "NotFound"),
        ("POST", f"{PODS}/p", 405, "MethodNotAllowed"),
        ("PUT", PODS, 405, "MethodNotAllowed"),
        ("PATCH", PODS, 405, "MethodNotAllowed"),
        ("DELETE", "/api/v1/pods", 405, "MethodNotAllowed"),
        ("POST", "/api/v1/pods", 405, "MethodNotAllowed"),
        ("OPTIONS", PODS, 405, "MethodNotAllowed"),
        ("POST", "/version", 405, "MethodNotAllowed"),
        ("GET", f"{PODS}/p/eviction", 405, "MethodNotAllowed"),
        ("PUT", f"{PODS}/p/binding", 405, "MethodNotAllowed"),
        ("PATCH", f"{PODS}/p/log", 405, "MethodNotAllowed"),
        ("POST", f"{PODS}/p/status", 405, "MethodNotAllowed"),
        ("GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", 405, "MethodNotAllowed"),
        ("GET", f"{PODS}?limit=many", 400, "BadRequest"),
        ("GET", f"{PODS}?labelSelector=a+in", 400, "BadRequest"),
        ("GET", f"{PODS}?fieldSelector=spec.unknown%3D1", 400, "BadRequest"),
        ("GET", f"{PODS}?continue=nonsense", 400, "BadRequest"),
        ("GET", f"{PODS}?resourceVersion=x", 400, "BadRequest"),
        ("GET", f"{PODS}?resourceVersion=999999", 504, "Timeout"),
        ("DELETE", f"{PODS}/p?dryRun=Some", 422, "Invalid"),
        ("DELETE", f"{PODS}/p?propagationPolicy=None", 422, "Invalid"),
        ("POST", f"{PODS}/p/exec?command=ls", 501, "NotImplemented"),
    ],
)
def test_what_goes_wrong_is_a_status(client: Client, method: str, path: str, code: int, reason: str) -> None:
    assert status(client, method, path)[:2] == (code, reason)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b'{"kind":"Service"}'])
def test_a_body_that_is_no_such_object_is_a_bad_request(client: Client, body: bytes) -> None:
    assert status(client, "POST", PODS, body, Content_Type="application/json")[0] in {400, 422}


def test_an_apply_needs_a_manager(client: Client) -> None:
    code, _, message = status(client, "PATCH", f"{PODS}/p", POD, Content_Type="application/apply-patch+yaml")
    assert code == 422 and "fieldManager: Required value: is required for apply patch" in message


def test_an_apply_says_of_what_kind_it_is(client: Client) -> None:
    path = f"{PODS}/p?fieldManager=f"
    code, _, message = status(client, "PATCH", path, {"kind": "Pod"}, Content_Type="application/apply-patch+yaml")
    assert code == 400 and "is missing" in message


def test_a_put_that_creates_says_so(client: Client) -> None:
    leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    codes = []
    for _ in range(2):
        answer = client.ask("PUT", f"{leases}/l", {"metadata": {"name": "l"}, "spec": {}})
        codes.append(answer.status)
        answer.read()
    assert codes == [201, 422], "the second one lacks the version"
    client.ask("DELETE", f"{leases}/l").read()
    body = {"metadata": {"name": "l", "resourceVersion": "1"}, "spec": {}}
    with client.ask("PUT", f"{leases}/l", body) as answer:
        assert (answer.status, answer.read()[:1]) == (201, b"{"), "a leader whose lease was deleted goes on"


def test_unknown_fields_are_told_by_a_warning(client: Client) -> None:
    body = {**POD, "metadata": {"name": "warned"}, "unheardOf": "\u2026"}
    response = client.ask("POST", PODS, body)
    response.read()
    assert response.getheader("Warning") == '299 - "unknown field \\"unheardOf\\""'


def test_a_body_that_is_too_large_is_refused_and_the_next_request_is_heard(server: Server) -> None:
    with closing(Client(server)) as client:
        client.connection.putrequest("POST", PODS)
        client.connection.putheader("Authorization", f"Bearer {server.token}")
        client.connection.putheader("Content-Length", str(4 << 20))
        client.connection.endheaders()
        response = client.connection.getresponse()
        assert json.loads(response.read())["reason"] == "RequestEntityTooLarge"
        assert client.get("/version")["major"] == "1"


def test_a_request_that_is_cut_off_does_nothing(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.ask("POST", PODS, {**POD, "metadata": {"name": "kept"}}).read()
    context = ssl.create_default_context(cadata=server.ca_pem)
    head = f"DELETE {PODS}/kept HTTP/1.1\r\nAuthorization: Bearer {server.token}\r\nContent-Length: 99\r\n\r\n"
    monkeypatch.setattr("leptonami.lab.kube.server.READ_S", 0.2)
    for goes_on in (True, False):
        raw = socket.create_connection(("127.0.0.1", server.http.server_port))
        with context.wrap_socket(raw, server_hostname="127.0.0.1") as line, contextlib.suppress(OSError):
            line.sendall(head.encode())
            if not goes_on:
                socket.socket.shutdown(line, socket.SHUT_WR)
            assert not line.recv(100).startswith(b"HTTP/1.1 2")
    assert "deletionTimestamp" not in client.get(f"{PODS}/kept")["metadata"]


def test_a_body_in_chunks_and_one_that_waits_for_a_word(server: Server, client: Client) -> None:
    body = json.dumps({**POD, "metadata": {"name": "chunked"}}).encode()
    response = client.ask("POST", PODS, None)
    response.read()
    client.connection.request(
        "POST", PODS, iter([body[:9], body[9:]]), {"Authorization": f"Bearer {server.token}"}, encode_chunked=True
    )
    with client.connection.getresponse() as answer:
        assert json.loads(answer.read())["metadata"]["name"] == "chunked"
    raw = socket.create_connection(("127.0.0.1", server.http.server_port))
    context = ssl.create_default_context(cadata=server.ca_pem)
    with context.wrap_socket(raw, server_hostname="127.0.0.1") as line:
        head = f"POST {PODS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\nExpect: 100-continue\r\n"
        line.sendall(f"{head}Content-Length: 2\r\n\r\n".encode())
        assert line.recv(100).startswith(b"HTTP/1.1 100")
        line.sendall(b"{}")
        assert line.recv(100).startswith(b"HTTP/1.1 ")


def test_pretty_is_pretty(client: Client) -> None:
    assert b'\n  "kind"' in client.ask("GET", f"{PODS}/p?pretty=true").read()


def test_the_first_form_of_discovery_that_there_is_counts(client: Client) -> None:
    accept = ",".join(AGGREGATED.format(each) for each in ("v3", "v2"))
    response = client.ask("GET", "/apis", Accept=accept)
    assert (response.status, response.getheader("Content-Type")) == (200, AGGREGATED.format("v2"))
    response.read()


def test_the_preferred_version_is_the_most_mature_one() -> None:
    names = ["v1alpha1", "v10", "v2beta2", "foo", "v1", "v2", "v2beta10", "v11alpha2"]
    assert sorted(names, key=discovery.age) == [
        "v10", "v2", "v1", "v2beta10", "v2beta2", "v11alpha2", "v1alpha1", "foo",
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["v2", "v2beta1"])
def test_aggregated_discovery_says_what_the_old_one_says(client: Client, form: str) -> None:
    found: dict[tuple[str, str], set[str]] = {}
    for root in ("/api", "/apis"):
        response = client.ask("GET", root, Accept=f"{AGGREGATED.format(form)},application/json")
        assert response.getheader("Content-Type") == AGGREGATED.format(form)
        for group in json.loads(response.read())["items"]:
            for each in group["versions"]:
                names = {kind["resource"] for kind in each["resources"]}
                names |= {
                    f"{kind['resource']}/{sub['subresource']}"
                    for kind in each["resources"]
                    for sub in kind.get("subresources", ())
                }
                found[group["metadata"].get("name", ""), each["version"]] = names
    old = {("", "v1"): client.get("/api/v1")}
    for group in client.get("/apis")["groups"]:
        for each in group["versions"]:
            old[group["name"], each["version"]] = client.get(f"/apis/{each['groupVersion']}")
    assert {place: {each["name"] for each in listed["resources"]} for place, listed in old.items()} == found


def test_openapi_has_every_kind_with_its_path_and_all_that_it_refers_to(client: Client, server: Server) -> None:
    index = client.get("/openapi/v3")["paths"]
    kinds = {(each.group, each.version, each.kind) for each in server.store.registry.kinds()}
    described = set()
    for place in index.values():
        document = client.get(place["serverRelativeURL"])
        schemas = document["components"]["schemas"]
        for schema in schemas.values():
            assert openapi.references(schema) <= schemas.keys()
            assert "null" not in json.dumps(schema.get("type", ""))
            for about in schema.get("x-kubernetes-group-version-kind", ()):
                described.add((about["group"], about["version"], about["kind"]))
        for path in document["paths"]:
            assert path.startswith(("/api/v1/", "/apis/"))
    assert kinds <= described


def test_openapi_version_2_is_there_for_old_clients(client: Client) -> None:
    response = client.ask("GET", "/openapi/v2", Accept="application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
    assert dict(protobuf.fields(response.read()))[1] == b"2.0"
    assert client.get("/openapi/v2")["swagger"] == "2.0"


REFERENCE = {"apiVersion": "v1", "kind": "Pod", "name": "o", "uid": "u"}
META = {"labels": {"app": "d"}, "annotations": {"a": "b"}, "finalizers": ["x.io/f"], "ownerReferences": [REFERENCE]}
STATUS = {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "Hostname", "address": "a"}]}
MODELS = {
    PODS: pod(nodeName="n", initContainers=[{"name": "i", "image": "i"}], volumes=[{"name": "v"}]),
    "/apis/apps/v1/namespaces/default/deployments": deployment(strategy={"type": "RollingUpdate"}),
    "/api/v1/nodes": {"metadata": {}, "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}, "status": STATUS},
    "/api/v1/namespaces/default/services": {"metadata": {}, "spec": {"ports": [{"port": 80}]}},
    "/apis/policy/v1/namespaces/default/poddisruptionbudgets": {
        "metadata": {},
        "spec": {"selector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}},
    },
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions": definition(
        version(additionalPrinterColumns=[{"name": "N", "type": "integer", "jsonPath": ".spec.n[0]"}]), plural="gadgets"
    ),
}
ODD = (None, 0, -1, "", "x", [], {}, True, 1.5, [None], {"a": None}, [[]], [{}], "a" * 300, "\0")
NUMBERS = itertools.count()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in parts:
        yield (*path, key)
        yield from places(each, (*path, key))


@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from([*MODELS]), st.sampled_from(ODD))
def test_one_odd_value_is_refused_or_does_no_harm_to_those_who_read(
    server: Server, data: st.DataObject, path: str, odd: Any
) -> None:
    body = clone(MODELS[path])
    body["metadata"] |= clone(META) | ({} if "custom" in path else {"name": f"odd-{next(NUMBERS)}"})
    *parents, last = data.draw(st.sampled_from([*places(body)]))
    at = body
    for key in parents:
        at = at[key]
    at[last] = odd

    def ask(method: str, body: bytes, **headers: str) -> int:
        headers["authorization"] = f"Bearer {server.token}"
        return server.api.answer(Request(method, path, tuple(path[1:].split("/")), {}, headers, body, bool)).status

    assert ask("POST", json.dumps(body).encode()) < 500
    assert ask("GET", b"", accept="application/json;as=Table;v=v1;g=meta.k8s.io") == 200


def test_protobuf_of_an_unknown_kind_says_what_to_send_instead() -> None:
    meta = b"\x0a\x02v1\x12\x07Unicorn"
    with pytest.raises(
        ApiError, match=r"Unicorn.* is not known in protobuf: let the client send application/json"
    ) as told:
        protobuf.decode(b"k8s\x00\x0a" + bytes([len(meta)]) + meta + b"\x12\x00", SCHEMAS)
    assert told.value.code == 415


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_protobuf_of_any_bytes_is_read_or_refused(body: bytes) -> None:
    envelope = b"k8s\x00\x0a\x09\x0a\x02v1\x12\x03Pod\x12" + bytes([len(body) & 127]) + body[: len(body) & 127]
    for text in (body, b"k8s\x00" + body, envelope):
        try:
            assert isinstance(protobuf.decode(text, SCHEMAS), dict)
        except ApiError as problem:
            assert problem.code in {400, 415}


SCHEMAS = Schemas()


def test_every_name_of_the_protobuf_table_is_one_of_the_schemas() -> None:
    for name, fields in protobuf.numbers().items():
        known = SCHEMAS.definitions.get(name, {}).get("properties")
        for field in fields.values():
            assert known is None or field.startswith("+") or field in known, (name, field)


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_accept_header_is_read(header: str) -> None:
    assert isinstance(formats.accepted(header), list)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_a_warning_never_breaks_out_of_its_header(text: str) -> None:
    ((_, value),) = formats.warnings([text])
    assert value.isascii() and "\n" not in value and "\r" not in value


@settings(deadline=None)
@given(st.lists(st.text(max_size=8), min_size=3, max_size=8))
def test_any_path_is_a_target_or_not_found(server: Server, rest: list[str]) -> None:
    api = server.api
    for parts in (("api", "v1", *rest), ("apis", "apps", "v1", *rest), ("apis", *rest)):
        try:
            assert isinstance(api.target(parts), Target)
        except ApiError as problem:
            assert problem.code == 404
