"""What is refused, in the words of the real server: identity, unknown fields and types, and what must be there.

The server decodes (400: a type is wrong, or, if asked to be strict, a field is unknown), then validates (422).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from leptonami.lab.kube import errors, rules
from leptonami.lab.kube.errors import Cause, required, unsupported_value, wrong_value
from leptonami.lab.kube.objects import Object, clone, drop
from leptonami.lab.kube.options import Options
from leptonami.lab.kube.resources import Kind
from leptonami.lab.kube.schemas import Schema, Schemas, types

__all__ = ["NO_VERSION", "check", "check_identity", "decode"]

NO_VERSION = errors.cause(
    "FieldValueInvalid", "metadata.resourceVersion", "Invalid value: 0x0: must be specified for an update"
)
QUANTITY = re.compile(r"([+-]?[0-9.]++)([eEinumkKMGTP]*[-+]?[0-9]*)")
QUANTITY_WORDS = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
TYPE = ("apiVersion", "kind")
IDENTITY = ("name", "generateName", "namespace", "uid", "resourceVersion")
PYTHON = {dict: "object", list: "array", str: "string", bool: "bool", int: "number", float: "number"}
OPENAPI = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
JSON: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}
ZEROS = {"object": {}, "string": "", "boolean": False, "integer": 0, "number": 0}  # what a null in a list is in Go


def check_identity(kind: Kind, namespace: str | None, name: str, obj: Any) -> None:
    """Hold an object to the place that it is sent to.

    Raises
    ------
    ApiError
        400; 422 if it has no name and is to get none.
    """
    if not isinstance(obj, dict) or not isinstance(obj.setdefault("metadata", {}) or {}, dict):
        raise errors.bad_request("the object provided is unrecognized (must be of type " + kind.kind + ")")
    meta = obj["metadata"] = obj["metadata"] or {}
    for holder, key in (*((obj, each) for each in TYPE), *((meta, each) for each in IDENTITY)):
        if holder.get(key) is None:
            holder.pop(key, None)
        elif not isinstance(holder[key], str):
            at = f"ObjectMeta.metadata.{key}" if holder is meta else f"TypeMeta.{key}"
            why = f"json: cannot unmarshal {PYTHON[type(holder[key])]} into Go struct field {at} of type string"
            raise errors.bad_request(_handled(kind, why))
    have = (obj.setdefault("apiVersion", kind.api_version), obj.setdefault("kind", kind.kind))
    if have != (kind.api_version, kind.kind):
        group, _, version = have[0].rpartition("/")
        found, wanted = f"{group}/{version}, Kind={have[1]}", f"{kind.group}/{kind.version}, Kind={kind.kind}"
        raise errors.bad_request(
            f"the API version in the data ({found}) does not match the expected API version ({wanted})"
        )
    if not (name or meta.get("name") or meta.get("generateName")):
        missing = [required("metadata.name", "name or generateName is required")]
        raise errors.invalid(kind.group, kind.kind, "", missing)
    if name and meta.setdefault("name", name) != name:
        raise errors.bad_request(f"the name of the object ({meta['name']}) does not match the name on the URL ({name})")
    if kind.namespaced and namespace and (meta.get("namespace") or namespace) != namespace:
        raise errors.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    if kind.namespaced and namespace:
        meta["namespace"] = namespace
    elif not kind.namespaced:
        meta.pop("namespace", None)


def decode(schemas: Schemas, kind: Kind, obj: Object, options: Options, old: Object | None = None) -> Object:
    """Take an object as the server's decoder does: unknown fields are dropped, wrong types refused.

    It changes the object that it is given; what is as it was in `old` is not looked at. What a custom kind's fields are
    is looked at by `check`: they are only pruned and defaulted here.
    """
    schema = schemas.of(kind)
    if schema is None:
        return obj
    unknown: list[str] = []
    walk = Decoder(schemas, unknown)
    meta = obj["metadata"]
    rest = {key: value for key, value in obj.items() if key != "metadata" and (old is None or old.get(key) != value)}
    try:
        if old is None or meta != old["metadata"]:
            walk.object(schemas.child(schema, "metadata") or {}, meta, "metadata.")
        walk.typed = not kind.custom
        kept = {key: value for key, value in obj.items() if key not in rest}
        walk.object(schema, rest, "")
        obj.clear()
        obj.update({**kept, **rest})
    except ValueError as error:
        raise errors.bad_request(_handled(kind, str(error))) from None
    if unknown and options.field_validation == "Strict":
        told = ", ".join(f'unknown field "{each}"' for each in unknown)
        raise errors.bad_request(_handled(kind, f"strict decoding error: {told}"))
    if options.field_validation == "Warn":
        options.warnings.extend(f'unknown field "{each}"' for each in unknown)
    return obj


def _handled(kind: Kind, why: str) -> str:
    return f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {why}'


@dataclass
class Decoder:
    """One walk down an object and its schema. Nulls go, as they do when Go decodes; so do unknown fields, noted."""

    schemas: Schemas
    unknown: list[str]
    typed: bool = True

    def object(self, schema: Schema, obj: Object, path: str) -> None:
        """Take an object; the path of its fields begins with `path`."""
        properties = schema.get("properties") or {}
        more = schema.get("additionalProperties")
        known = more if isinstance(more, Mapping) else None
        free = (
            schema.get("x-kubernetes-preserve-unknown-fields")
            or more is True
            or not (properties or more or not self.typed)
        )
        embedded = schema.get("x-kubernetes-embedded-resource")
        plain, others = self.schemas.plain(schema)
        for key in list(obj):
            if type(obj[key]) in plain.get(key, others):
                continue
            found = properties.get(key, known)
            if found is None:
                if not free and not (embedded and key in {"apiVersion", "kind", "metadata"}):
                    self.unknown.append(path + key)
                    del obj[key]
            elif obj[key] is None:
                if self.typed or not found.get("nullable"):
                    del obj[key]
            else:
                obj[key] = self.value(schema, found, obj[key], path + key)
        if not self.typed:
            for key, found in properties.items():
                if key not in obj and "default" in found:
                    obj[key] = clone(found["default"])

    def value(self, parent: Schema, schema: Schema, value: Any, path: str) -> Any:
        """Take a value of any type, and give it as it is held."""
        if "$ref" in schema:
            schema = self.schemas.resolve(schema)
        if self.typed:
            value = self._right(parent, schema, value, path)
        if isinstance(value, dict):
            self.object(schema, value, path + ".")
        elif isinstance(value, list):
            items = schema.get("items")
            if items is not None:
                if self.typed and None in value:
                    zero = ZEROS.get(next(iter(types(self.schemas.resolve(items))), ""))
                    value = [clone(zero) if each is None else each for each in value]
                value = [
                    each if each is None else self.value(parent, items, each, f"{path}[{index}]")
                    for index, each in enumerate(value)
                ]
        return value

    def _right(self, parent: Schema, schema: Schema, value: Any, path: str) -> Any:
        """Refuse a value that Go could not decode into its field; give quantities as text, as the real server does."""
        said = schema.get("type")
        if said is None:
            if "oneOf" not in schema or isinstance(value, (str, int, float)):
                if self.schemas.name(schema) != "Quantity":
                    return value
                if QUANTITY.fullmatch(str(value)):
                    return str(value)
                raise ValueError(QUANTITY_WORDS)
            wanted = "IntOrString"
        else:
            wanted = said if isinstance(said, str) else said[0]
            if isinstance(value, JSON[wanted]) and (wanted == "boolean") == isinstance(value, bool):
                return value
        plain = re.sub(r"\[\d+\]", "", path)
        field = f"{self.schemas.name(parent)}.{plain}"
        have, go = PYTHON[type(value)], self._go(schema, wanted)
        raise ValueError(f"json: cannot unmarshal {have} into Go struct field {field} of type {go}")

    def _go(self, schema: Schema, wanted: str) -> str:
        if wanted == "array":
            items = self.schemas.items(schema)
            return "[]" + self._go(items, next(iter(types(items)), ""))
        if wanted == "object" and not self.schemas.name(schema):
            return "map[string]string"
        name = {"boolean": "bool", "integer": schema.get("format", "int32"), "number": "float64", "string": "string"}
        return str(name.get(wanted) or f"v1.{self.schemas.name(schema)}")


def check(schemas: Schemas, kind: Kind, new: Object, old: Object | None) -> None:
    """Refuse what the validation of the real server refuses.

    Raises
    ------
    ApiError
        422, with each field that is wrong.
    """
    causes = [*rules.metadata(kind, new, old)]
    schema = schemas.of(kind) or {}
    looked_at = drop(new, "metadata") if kind.custom else drop(new, "metadata", "status")
    if old is None or any(value is not old.get(key) and value != old.get(key) for key, value in looked_at.items()):
        causes += _custom(schema, looked_at, "") if kind.custom else _required(schemas, schema, looked_at, "")
        if not causes:
            causes += rules.problems(kind, new, old)
    if causes:
        raise errors.invalid(kind.group, kind.kind, new["metadata"].get("name", ""), causes)


def _required(schemas: Schemas, schema: Schema, value: Any, path: str) -> Iterator[Cause]:
    """Give what is missing in a built-in kind, and the values of its enumerations that there are not."""
    if isinstance(value, list):
        items = schemas.items(schema)
        for index, each in enumerate(value):
            yield from _required(schemas, items, each, f"{path}[{index}]")
    elif isinstance(value, dict):
        dot = path and path + "."
        name = schemas.name(schema)
        enumerations = rules.ENUMERATIONS.get(name, {})
        for key in schema.get("required", ()):
            missing = value.get(key) in (None, "", []) and dot + key != "metadata"
            if missing and (name, key) not in rules.MAY_BE_MISSING:
                yield required(dot + key)
        for key, each in value.items():
            if key in enumerations and each not in enumerations[key]:
                yield unsupported_value(dot + key, each, enumerations[key])
            if isinstance(each, (dict, list)):
                yield from _required(schemas, schemas.child(schema, key) or {}, each, dot + key)


def _custom(schema: Schema, value: Any, path: str) -> Iterator[Cause]:
    """Give what the schema of a custom kind refuses, worded as k8s.io/kube-openapi/pkg/validation does.

    jsonschema would do, too, but takes seconds to import where its format checkers are installed. Formats and CEL rules
    (`x-kubernetes-validations`) are not looked at.
    """
    at = f"{path} in body" if path else "body"
    wanted = schema.get("type")
    if value is None and schema.get("nullable"):
        return
    known = (int, str) if schema.get("x-kubernetes-int-or-string") else JSON.get(str(wanted))
    if known and (not isinstance(value, known) or (isinstance(value, bool) and wanted != "boolean")):
        have = OPENAPI.get(type(value), "null")
        yield wrong_value(path, have, f'{at} must be of type {wanted or "integer or string"}: "{have}"')
    else:
        yield from _custom_value(schema, value, path, at)
        yield from _custom_parts(schema, value, path)


def _custom_value(schema: Schema, value: Any, path: str, at: str) -> Iterator[Cause]:
    """Look at a value as a whole."""
    if "enum" in schema and value not in schema["enum"]:
        yield unsupported_value(path, value, map(str, schema["enum"]))
    for keyword, (kind, fits, words) in LIMITS.items():
        if keyword in schema and isinstance(value, kind) and not fits(value, schema[keyword], schema):
            yield wrong_value(path, value, f"{at} {words.format(schema[keyword])}")
    for each in schema.get("allOf") or ():
        yield from _custom(each, value, path)
    for keyword, most, words in COMBINED:
        if keyword in schema:
            given = [schema[keyword]] if keyword == "not" else schema[keyword]
            fitting = sum(not any(_custom(each, value, path)) for each in given)
            if not (keyword != "not") <= fitting <= most:
                yield wrong_value(path, value, f"{at} must {words} ({keyword})")


def _custom_parts(schema: Schema, value: Any, path: str) -> Iterator[Cause]:
    """Look at what is in a value."""
    if isinstance(value, dict):
        dot = path and path + "."
        missing = [key for key in schema.get("required") or () if key not in value and dot + key != "metadata"]
        yield from (required(dot + key) for key in missing)
        properties, more = schema.get("properties") or {}, schema.get("additionalProperties")
        for key, each in value.items():
            found = properties.get(key, more if isinstance(more, Mapping) else None)
            if found is not None:
                yield from _custom(found, each, dot + key)
    elif isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        for index, each in enumerate(value):
            yield from _custom(schema["items"], each, f"{path}[{index}]")


def _found(pattern: str, text: str) -> bool:
    """Tell whether a pattern is in a text; one of Go's that Python cannot read is not looked at."""
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return True


NUMBER = (int, float)
LIMITS: dict[str, tuple[Any, Callable[[Any, Any, Schema], bool], str]] = {
    "minimum": (
        NUMBER,
        lambda v, n, s: v > n if s.get("exclusiveMinimum") else v >= n,
        "should be greater than or equal to {}",
    ),
    "maximum": (
        NUMBER,
        lambda v, n, s: v < n if s.get("exclusiveMaximum") else v <= n,
        "should be less than or equal to {}",
    ),
    "pattern": (str, lambda v, n, _: _found(n, v), "should match '{}'"),
    "minLength": (str, lambda v, n, _: len(v) >= n, "should be at least {} chars long"),
    "maxLength": (str, lambda v, n, _: len(v) <= n, "should be at most {} chars long"),
    "minItems": (list, lambda v, n, _: len(v) >= n, "should have at least {} items"),
    "maxItems": (list, lambda v, n, _: len(v) <= n, "should have at most {} items"),
    "minProperties": (dict, lambda v, n, _: len(v) >= n, "should have at least {} properties"),
    "maxProperties": (dict, lambda v, n, _: len(v) <= n, "should have at most {} properties"),
}
"""By keyword: what it is about, whether a value keeps to it, and the words when it does not."""
COMBINED = (
    ("anyOf", math.inf, "validate at least one schema"),
    ("oneOf", 1, "validate one and only one schema"),
    ("not", 0, "not validate the schema"),
)
"""Keyword, and how many of its schemas may fit at most."""
