"""The schemas of the kinds, and the way down them.

The built-in ones are those that `kubernetes-validate` carries: the OpenAPI definitions of each Kubernetes version, with
the merge keys (`x-kubernetes-patch-merge-key`) and list types. Its own `validate` reads 1.8 MB of JSON for each object,
so only its data is used. Custom kinds bring their `openAPIV3Schema`. Both are read by the same functions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from leptonami.errors import InputError
from leptonami.lab.kube.resources import Kind

__all__ = ["Schema", "Schemas", "list_keys", "merge_key", "types"]

Schema = Mapping[str, Any]
META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
REFERENCE = "#/$defs/"
Plain = tuple[dict[str, frozenset[type]], frozenset[type]]
SCALARS: dict[str, frozenset[type]] = {
    "string": frozenset({str}),
    "boolean": frozenset({bool}),
    "integer": frozenset({int}),
    "number": frozenset({int, float}),
}


class Schemas:
    """The schemas of one Kubernetes version. The file is read at the first use.

    Parameters
    ----------
    version
        Such as `1.30`; the newest there is by default, and the nearest older one where there is none of that version.
    """

    def __init__(self, version: str = "") -> None:
        self._version = version
        # With the schema itself, so that an id stays its own.
        self._children: dict[tuple[int, str], tuple[Schema, Schema | None]] = {}
        self._plain: dict[int, tuple[Schema, Plain]] = {}
        self._custom: dict[int, tuple[Schema, Schema]] = {}

    @cached_property
    def definitions(self) -> dict[str, Schema]:
        """Give all definitions, by name such as `io.k8s.api.core.v1.PodSpec`."""
        return load(definitions_file(self._version))

    @cached_property
    def _by_kind(self) -> dict[tuple[str, str, str], Schema]:
        return {
            (each["group"], each["version"], each["kind"]): schema
            for schema in self.definitions.values()
            for each in schema.get("x-kubernetes-group-version-kind", ())
        }

    def of(self, kind: Kind) -> Schema | None:
        """Give the schema of a kind; None where this Kubernetes version does not know it."""
        if not kind.custom:
            return self._by_kind.get((kind.group, kind.version, kind.kind))
        if kind.schema is None:
            return {
                "x-kubernetes-preserve-unknown-fields": True,
                "properties": {"metadata": {"$ref": REFERENCE + META}},
            }
        if id(kind.schema) not in self._custom:
            text = {"type": "string"}
            fixed = {"apiVersion": text, "kind": text, "metadata": {"$ref": REFERENCE + META}}
            properties = {**(kind.schema.get("properties") or {}), **fixed}
            self._custom[id(kind.schema)] = (kind.schema, {**kind.schema, "properties": properties})
        return self._custom[id(kind.schema)][1]

    def resolve(self, schema: Schema | None) -> Schema:
        """Follow references; what is not known is an empty schema, which says nothing."""
        while schema and "$ref" in schema:
            schema = self.definitions.get(schema["$ref"].removeprefix(REFERENCE))
        return schema or {}

    def child(self, schema: Schema, key: str) -> Schema | None:
        """Give the schema of a key in an object, with the marks beside its reference; None where it is unknown."""
        held, found = self._children.get((id(schema), key), (None, None))
        if held is not schema:
            found = (schema.get("properties") or {}).get(key)
            if found is None:
                more = schema.get("additionalProperties")
                found = more if isinstance(more, Mapping) else None
            if found is not None and "$ref" in found:
                marks = {each: value for each, value in found.items() if each.startswith("x-")}
                found = {**self.resolve(found), **marks} if marks else self.resolve(found)
            self._children[id(schema), key] = (schema, found)
        return found

    def plain(self, schema: Schema) -> Plain:
        """Give the Python types with which a key's value needs no further look, and those of keys with no property."""
        held = self._plain.get(id(schema))
        if held is None or held[0] is not schema:
            properties, more = schema.get("properties") or {}, schema.get("additionalProperties")
            found = {key: self._types(each) for key, each in properties.items()}
            held = (schema, (found, self._types(more) if isinstance(more, Mapping) else frozenset()))
            self._plain[id(schema)] = held
        return held[1]

    def _types(self, schema: Schema) -> frozenset[type]:
        said = self.resolve(schema).get("type")
        return SCALARS.get(said if isinstance(said, str) else said[0] if said else "", frozenset())

    def items(self, schema: Schema) -> Schema:
        """Give the schema of the items of a list."""
        return self.resolve(schema.get("items"))

    def name(self, schema: Schema) -> str:
        """Give the short name of a built-in definition, such as `PodSpec`."""
        return self._names.get(id(schema), "")

    @cached_property
    def _names(self) -> dict[int, str]:
        return {id(schema): name.rpartition(".")[2] for name, schema in self.definitions.items()}


@cache
def load(path: Path) -> dict[str, Schema]:
    """Read the definitions of a version, once for all clusters of a process."""
    found: dict[str, Schema] = orjson.loads(path.read_bytes())["$defs"]
    return found


def definitions_file(version: str) -> Path:
    """Find the definitions of a version: the newest that is not newer."""
    spec = find_spec("kubernetes_validate")
    if spec is None or spec.origin is None:
        raise InputError("kubernetes-validate is not installed", hint="pip install 'leptonami[lab]'")
    known = {}
    for folder in (Path(spec.origin).parent / "kubernetes-json-schema").glob("v*-local"):
        if found := re.match(r"v(\d+)\.(\d+)\.", folder.name):
            known[int(found[1]), int(found[2])] = folder
    wanted = tuple(int(each) for each in re.findall(r"\d+", version)[:2]) or max(known)
    fitting = [each for each in known if each <= wanted] or [min(known)]
    return known[max(fitting)] / "_definitions.json"


def types(schema: Schema) -> frozenset[str]:
    """Give the JSON types that a schema allows; none where it does not say."""
    said = schema.get("type")
    found = {said} if isinstance(said, str) else set(said or ())
    return frozenset(found - {"null"})


def merge_key(schema: Schema | None) -> str | None:
    """Give the key by which a strategic merge patch merges a list: empty for lists of values, None for no merging."""
    if schema and "merge" in str(schema.get("x-kubernetes-patch-strategy", "")).split(","):
        return str(schema.get("x-kubernetes-patch-merge-key", ""))
    return None


def list_keys(schema: Schema | None) -> tuple[str, ...] | None:
    """Give the keys of a list's items for server-side apply: empty for a set, None for a list that is one value."""
    kind = (schema or {}).get("x-kubernetes-list-type")
    if schema is None or kind not in {"map", "set"}:
        return None
    return tuple(schema["x-kubernetes-list-map-keys"]) if kind == "map" else ()
