"""Bodies in protobuf: what `kubectl create` and other Go clients send by themselves since client-go 1.32.

Only bodies are read; answers are JSON, which these clients accept as well. The numbers of the fields are data
(`protobuf.yaml`), their types those of the OpenAPI definitions. On the wire a Go field that is no pointer is always
there, with a zero if nothing was said; JSON leaves those out, and so does this.
"""

from __future__ import annotations

import base64
import datetime
import struct
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from leptonami import datafiles
from leptonami.lab.kube.errors import ApiError, bad_request
from leptonami.lab.kube.schemas import REFERENCE, Schema, Schemas

__all__ = ["MEDIA_TYPE", "decode"]

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"
META = "io.k8s.apimachinery.pkg.apis.meta.v1."


@cache
def data() -> dict[str, Any]:
    """Read what is known of the messages."""
    found: dict[str, Any] = datafiles.parsed(Path(__file__).with_name("protobuf.yaml").read_text(encoding="utf-8"))
    return found


@cache
def pointers() -> frozenset[str]:
    """Give the fields that are pointers in Go: a zero there was said. Everything else that is zero was not."""
    return frozenset(data()["pointers"].split())


@cache
def numbers() -> dict[str, dict[int, str]]:
    """Give the numbers of the fields, by definition."""
    found: dict[str, dict[int, str]] = {}
    for package, messages in data()["packages"].items():
        for name, fields in messages.items():
            mine = found.setdefault(f"{package}.{name}", {})
            number = 0
            for each in fields.split():
                if each.startswith("="):
                    number = int(each[1:]) - 1
                else:
                    number += 1
                    mine[number] = each
    return found


def decode(body: bytes, schemas: Schemas) -> dict[str, Any]:
    """Read a body.

    Raises
    ------
    ApiError
        400 if it is damaged, 415 if it has a kind or a field that is not known here.
    """
    if not body.startswith(MAGIC):
        raise bad_request("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    try:
        envelope = dict(fields(body[len(MAGIC) :]))
        about = dict(fields(envelope[1]))
        api_version, kind = about[1].decode(), about[2].decode()
        name = definition(schemas, api_version, kind)
        if name is None:
            # A Kubernetes that is older than the client: what it lacks is refused later, in its own words.
            schemas = newest()
            name = definition(schemas, api_version, kind)
        if name is None:
            raise unknown(f"the kind {kind} of {api_version}")
        return {"apiVersion": api_version, "kind": kind, **Decoder(schemas).message(name, envelope.get(2, b""))}
    except (KeyError, IndexError, ValueError, TypeError, AttributeError, struct.error, RecursionError) as error:
        raise bad_request(f"the protobuf message cannot be read: {type(error).__name__}: {error}") from error


@cache
def newest() -> Schemas:
    """Give the schemas of the newest Kubernetes that is known."""
    return Schemas()


def definition(schemas: Schemas, api_version: str, kind: str) -> str | None:
    """Find the definition of a kind; None if it is not known."""
    group, _, version = api_version.rpartition("/")
    if kind == "DeleteOptions":
        return META + kind
    if (api_version, kind) == ("policy/v1beta1", "Eviction"):
        version = "v1"  # what the cluster-autoscaler sends; the real server takes it still, and it has the same fields
    mine = {"group": group, "version": version, "kind": kind}
    described = ((name, schemas.definitions.get(name) or {}) for name in numbers())
    return next((name for name, each in described if mine in each.get("x-kubernetes-group-version-kind", ())), None)


def unknown(what: str) -> ApiError:
    """Say that something cannot be read here, and the way out."""
    message = f"leptonami lab: {what} is not known in protobuf: let the client send application/json"
    return ApiError(415, "UnsupportedMediaType", message)


class Decoder:
    """Turns messages into JSON data."""

    def __init__(self, schemas: Schemas) -> None:
        self.schemas = schemas

    def message(self, name: str, data: bytes, schema: Schema | None = None) -> dict[str, Any]:
        """Read one message; an embedded one has its names in the schema around it."""
        known = numbers().get(name)
        properties: Mapping[str, Any] = (schema or self.schemas.definitions.get(name) or {}).get("properties") or {}
        found: dict[str, Any] = {}
        if known is None:
            raise unknown(name)
        for number, raw in fields(data):
            key = known.get(number)
            if key is None:
                raise unknown(f"field {number} of {name}")
            if key.startswith("+"):
                inside = f"{name.rpartition('.')[0]}.{key[1:]}"
                found |= self.message(inside, raw, {"properties": properties})
                continue
            about = properties.get(key)
            if about is None:
                raise unknown(f"{key} of {name}")
            if isinstance(about.get("additionalProperties"), dict):
                pair = dict(fields(raw))
                item = self.value(about["additionalProperties"], pair.get(2, b""), in_map=True)
                found.setdefault(key, {})[pair.get(1, b"").decode()] = item
            elif isinstance(about.get("items"), dict):
                found.setdefault(key, []).append(self.value(about["items"], raw))
            elif (value := self.value(about, raw)) is not None and (
                value or key in pointers() or isinstance(value, dict)
            ):
                found[key] = value
        return found

    def value(self, schema: Schema, raw: Any, *, in_map: bool = False) -> Any:  # noqa: PLR0911 - one per type
        """Read one value by its schema."""
        if "$ref" in schema:
            name = schema["$ref"].removeprefix(REFERENCE)
            special = SPECIAL.get(name.rpartition(".")[2])
            if special:
                return special(raw)
            if name in numbers() or "properties" in self.schemas.definitions.get(name, {}):
                return self.message(name, raw)
            return self.value(self.schemas.definitions.get(name) or {}, raw)
        kinds = schema.get("type") or ()
        if "boolean" in kinds:
            return bool(raw)
        if "integer" in kinds:
            return signed(raw)
        if "number" in kinds:
            return struct.unpack("<d", raw)[0]
        if in_map and "array" in kinds:
            # A map of lists is a map of messages whose field 1 is the list.
            return [item.decode() for _, item in fields(raw)]
        if "string" in kinds:
            return base64.b64encode(raw).decode() if schema.get("format") == "byte" else raw.decode()
        raise unknown(f"a field of the type {kinds}")


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Give the fields of a message: numbers as they are, everything else as bytes."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        match tag & 7:
            case 0:
                value, at = varint(data, at)
                yield tag >> 3, value
            case 2:
                length, at = varint(data, at)
                if at + length > len(data):
                    raise ValueError("unexpected EOF")
                yield tag >> 3, data[at : at + length]
                at += length
            case 1 | 5 as wire:
                length = 8 if wire == 1 else 4
                yield tag >> 3, data[at : at + length]
                at += length
            case wire:
                raise ValueError(f"wire type {wire}")


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a variable-length number; give it and where the next thing begins."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("varint overflow")


def time_of(raw: bytes, digits: str = "seconds") -> str | None:
    """Read a `Time`; an empty one is none."""
    found = dict(fields(raw))
    if not found:
        return None
    seconds, nanos = signed(found.get(1, 0)), found.get(2, 0)
    when = datetime.datetime.fromtimestamp(seconds, datetime.UTC) + datetime.timedelta(microseconds=nanos // 1000)
    return when.replace(tzinfo=None).isoformat(timespec=digits) + "Z"


def int_or_string(raw: bytes) -> int | str:
    """Read an `IntOrString`."""
    found = dict(fields(raw))
    return found.get(3, b"").decode() if found.get(1) else signed(found.get(2, 0))


def signed(value: int) -> int:
    """Give a number its sign."""
    return value - (1 << 64) if value >> 63 else value


def quantity(raw: bytes) -> str:
    """Read a `Quantity`."""
    text: str = dict(fields(raw)).get(1, b"").decode()
    return text or "0"


def raw_json(raw: bytes) -> Any:
    """Read what is JSON inside protobuf."""
    return orjson.loads(dict(fields(raw)).get(1, b"null") or b"null")


SPECIAL = {
    "Time": time_of,
    "MicroTime": lambda raw: time_of(raw, "microseconds"),
    "IntOrString": int_or_string,
    "Quantity": quantity,
    "FieldsV1": raw_json,
    "RawExtension": raw_json,
}
