"""OpenAPI: version 3 for `kubectl explain`, `apply` and `diff`, built from kubernetes-validate's schemas on demand.

Version 2 is there for kubectl before 1.28: an empty document, which makes it trust the server instead of validating by
itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from leptonami.lab.kube.errors import ApiError
from leptonami.lab.kube.formats import answer as answer_json
from leptonami.lab.kube.formats import choose
from leptonami.lab.kube.resources import Kind
from leptonami.lab.kube.schemas import META, Schema, Schemas
from leptonami.lab.kube.server import Request, Response

__all__ = ["answer", "document", "index"]

# Go's MIME parser does not take the @ that its own clients send; the real server answers with a dot as well.
V2_ASKED = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
V2_ANSWERED = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
REFERENCE = re.compile(rb'"#/\$defs/')
# The message openapi.v2.Document (gnostic's openapiv2/OpenAPIv2.proto): swagger = 1, info = 2 (title = 1, version = 2),
# paths = 8.
EMPTY_V2 = b"\x0a\x032.0\x12\x14\x0a\x0aKubernetes\x12\x06v1.0.0\x42\x00"
PARAMETERS = [
    {"name": name, "in": "query", "description": text, "schema": {"type": "string", "uniqueItems": True}}
    for name, text in (
        ("dryRun", "All: nothing is persisted"),
        ("fieldManager", "who owns the fields that are set"),
        ("fieldValidation", "Ignore, Warn or Strict"),
    )
]
"""kubectl sends `dryRun` and `fieldValidation` only where a PATCH is said to take them."""


def converted(schema: Schema) -> dict[str, Any]:
    """Turn a definition into one of OpenAPI 3."""
    found: dict[str, Any] = plain(orjson.loads(REFERENCE.sub(b'"#/components/schemas/', orjson.dumps(schema))))
    for each in ("apiVersion", "kind"):
        # kubernetes-validate narrows them to one value, which `kubectl explain` would show.
        found.get("properties", {}).get(each, {}).pop("enum", None)
    return found


def plain(schema: Any) -> Any:
    """Turn JSON schema into OpenAPI: a type that may be null becomes the type."""
    if isinstance(schema, list):
        return [plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: plain(value) for key, value in schema.items()}
    kinds = found.get("type")
    if isinstance(kinds, list):
        found["type"] = next(each for each in kinds if each != "null")
    if isinstance(found.get("$ref"), str) and len(found) > 1:
        # What stands beside a reference counts only inside allOf.
        found["allOf"] = [{"$ref": found.pop("$ref")}]
    return found


def answer(request: Request, rest: list[str], kinds: Iterable[Kind], schemas: Schemas, version: str) -> Response:
    """Answer `/openapi/...`.

    Parameters
    ----------
    rest
        The path after `/openapi`.
    schemas
        The definitions that the server validates by.
    version
        The Kubernetes version that the server says it is.
    """
    kinds = list(kinds)
    match rest:
        case ["v2"]:
            if {V2_ASKED, V2_ANSWERED} & set(request.headers.get("accept", "").replace(" ", "").split(",")):
                return Response(EMPTY_V2, 200, V2_ANSWERED)
            empty = {
                "swagger": "2.0",
                "info": {"title": "Kubernetes", "version": "v1.0.0"},
                "paths": {},
                "definitions": {},
            }
            return answer_json(empty, choose(request))
        case ["v3"]:
            return answer_json(index(kinds, version), choose(request))
        case ["v3", "api", "v1"]:
            place = ("", "v1")
        case ["v3", "apis", group, served_version]:
            place = (group, served_version)
        case _:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
    served = tuple(each for each in kinds if (each.group, each.version) == place)
    if not served:
        raise ApiError(404, "NotFound", "the server could not find the requested resource")
    response = answer_json(document(served, schemas, version), choose(request))
    response.headers.append(("ETag", f'"{digest(served, version)}"'))
    if "hash" in request.query:
        # The content goes by the hash: kubectl keeps it on its disk.
        response.headers.append(("Cache-Control", "public, max-age=31536000, immutable"))
    return response


def index(kinds: Iterable[Kind], release: str) -> dict[str, Any]:
    """Tell where the document of each group and version is."""
    groups: dict[tuple[str, str], list[Kind]] = {}
    for each in kinds:
        groups.setdefault((each.group, each.version), []).append(each)
    paths = {}
    for (group, version), served in groups.items():
        path = root(group, version)
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest(served, release)}"}
    return {"paths": paths}


def root(group: str, version: str) -> str:
    """Give where a group and version is served."""
    return f"apis/{group}/{version}" if group else f"api/{version}"


def digest(served: Iterable[Kind], release: str) -> str:
    """Give a hash that changes with the document."""
    text = orjson.dumps([[each.plural, each.kind, sorted(each.subresources), each.schema] for each in served])
    return hashlib.sha256(release.encode() + text).hexdigest().upper()


def document(served: Iterable[Kind], schemas: Schemas, release: str) -> dict[str, Any]:
    """Make the document of one group and version: its paths, and the schemas that they need."""
    known = schemas.definitions
    paths: dict[str, Any] = {}
    components: dict[str, Any] = {}
    wanted = []
    for kind in served:
        name = component_name(kind, known)
        if kind.custom:
            components[name] = custom_schema(kind)
            wanted.append(META)
        elif name in known:
            wanted.append(name)
        paths |= paths_of(kind, name)
    while wanted:
        name = wanted.pop()
        if name not in components and name in known:
            components[name] = converted(known[name])
            wanted += references(components[name])
    info = {"title": "Kubernetes", "version": f"v{release}"}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": components}}


def references(schema: Any) -> set[str]:
    """Give the names of the schemas that one refers to."""
    return {each.decode() for each in re.findall(rb'"#/components/schemas/([^"]+)"', orjson.dumps(schema))}


def component_name(kind: Kind, known: Mapping[str, Any]) -> str:
    """Find the schema of a kind by what it says it describes; a custom one is named as the real server names it."""
    if kind.custom:
        return ".".join([*reversed(kind.group.split(".")), kind.version, kind.kind])
    mine = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    return next((name for name, each in known.items() if mine in each.get("x-kubernetes-group-version-kind", ())), "")


def custom_schema(kind: Kind) -> dict[str, Any]:
    """Give the schema of a custom kind, with what every object has."""
    schema = dict(kind.schema or {"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    meta = {"allOf": [{"$ref": f"#/components/schemas/{META}"}]}
    text = {"type": "string"}
    properties = {"apiVersion": text, "kind": text, **(schema.get("properties") or {}), "metadata": meta}
    about = [{"group": kind.group, "version": kind.version, "kind": kind.kind}]
    return {**schema, "properties": properties, "x-kubernetes-group-version-kind": about}


def paths_of(kind: Kind, name: str) -> dict[str, Any]:
    """Describe where a kind is served and with which methods."""
    base = f"/{root(kind.group, kind.version)}/" + ("namespaces/{namespace}/" if kind.namespaced else "") + kind.plural
    about = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    body = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}} if name else {}

    def operation(action: str) -> dict[str, Any]:
        found: dict[str, Any] = {"x-kubernetes-action": action, "x-kubernetes-group-version-kind": about}
        if action in {"post", "put", "patch", "delete"}:
            found["parameters"] = PARAMETERS
        return {**found, "responses": {"200": {"description": "OK", "content": body}}}

    many = {"post": operation("post")}
    if kind.verbs == ("create",):
        return {base: many}
    one = {method: operation(method) for method in ("get", "put", "patch", "delete")}
    return {base: {"get": operation("list"), **many}, f"{base}/{{name}}": one}
