"""Patches: JSON patch (RFC 6902), merge patch (RFC 7386) and the strategic merge patch of Kubernetes.

https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md
None of the functions changes what it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from leptonami.lab.kube.errors import ApiError, bad_request
from leptonami.lab.kube.objects import Object, clone, drop
from leptonami.lab.kube.resources import Kind
from leptonami.lab.kube.schemas import Schema, Schemas, merge_key

__all__ = ["is_apply", "merge", "patcher", "strategic"]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
LONGEST = 3 * 1024 * 1024  # JSONPatchMaxCopyBytes of k8s.io/apiserver


def is_apply(content_type: str) -> bool:
    """Tell whether a patch is a server-side apply."""
    return content_type.startswith("application/apply-patch+")


def patcher(schemas: Schemas, kind: Kind, patch: Any, content_type: str) -> Callable[[Object], Object]:
    """Give the function that a patch is.

    Raises
    ------
    ApiError
        415 for a type that this kind does not take.
    """
    if content_type == JSON_PATCH:
        return lambda obj: json_patch(obj, patch)
    if content_type == MERGE_PATCH and isinstance(patch, dict):
        return lambda obj: _object(merge(obj, patch))
    if content_type == STRATEGIC and not kind.custom and isinstance(patch, dict):
        schema = schemas.of(kind) or {}
        return lambda obj: _object(strategic(schemas, schema, obj, patch))
    if content_type in {MERGE_PATCH, STRATEGIC} and not isinstance(patch, dict):
        raise bad_request("error decoding patch: cannot unmarshal it into Go value of type map[string]interface {}")
    known = ", ".join([JSON_PATCH, MERGE_PATCH, *([] if kind.custom else [STRATEGIC]), APPLY])
    message = f"the body of the request was in an unknown format - accepted media types include: {known}"
    raise ApiError(415, "UnsupportedMediaType", message)


def _object(value: Any) -> Object:
    if not isinstance(value, dict):
        raise bad_request("the patch leaves no object")
    return value


def json_patch(obj: Object, patch: Any) -> Object:
    """Apply a JSON patch."""
    import jsonpatch

    if not isinstance(patch, list):
        raise bad_request("error decoding patch: cannot unmarshal it into Go value of type jsonpatch.Patch")
    try:
        made: Object = clone(obj)
        for each in patch:
            made = _object(jsonpatch.apply_patch(made, [each], in_place=True))
            # Thirty copies of the whole into itself would fill the memory.
            if each["op"] == "copy" and len(orjson.dumps(made)) > LONGEST:
                raise ApiError(413, "RequestEntityTooLarge", f"the patch makes more than {LONGEST} bytes by copying")
        return made
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, TypeError, KeyError) as error:
        message = f"the server rejected our request due to an error in our request: {error}"
        raise ApiError(422, "Invalid", message) from None


def merge(target: Any, patch: Any) -> Any:
    """Apply a merge patch, as RFC 7386 defines it."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def strategic(schemas: Schemas, schema: Schema, target: Any, patch: Object) -> Object | None:
    """Apply a strategic merge patch to an object; None if the patch deletes it."""
    directive = patch.get("$patch", "merge")
    if directive in {"replace", "delete"}:
        return drop(patch, "$patch") if directive == "replace" else None
    if directive != "merge":
        raise bad_request(f"unknown patch type found in patch: {directive}")
    result = dict(target) if isinstance(target, dict) else {}
    if "$retainKeys" in patch:
        result = {key: value for key, value in result.items() if key in patch["$retainKeys"]}
    # First what takes away, then what brings, then the order.
    for key, value in sorted(patch.items(), key=lambda item: STEPS.get(item[0].partition("/")[0], 1)):
        step, _, name = key.partition("/")
        below = schemas.child(schema, name)
        if step == "$deleteFromPrimitiveList" and name in result:
            result[name] = [each for each in result[name] or () if each not in value]
        elif step == "$setElementOrder" and result.get(name):
            before = target.get(name) if isinstance(target, dict) else None
            result[name] = _ordered(result[name], before or [], merge_key(below), value)
        elif not key.startswith("$"):
            made = None if value is None else _value(schemas, schemas.child(schema, key), result.get(key), value)
            result[key] = made
            if made is None:
                del result[key]
    return result


STEPS = {"$deleteFromPrimitiveList": 0, "$setElementOrder": 2}


def _value(schemas: Schemas, schema: Schema | None, target: Any, patch: Any) -> Any:
    if isinstance(patch, dict):
        return strategic(schemas, schema or {}, target, patch)
    key = merge_key(schema)
    if not isinstance(patch, list) or schema is None or key is None:
        return patch
    before = target if isinstance(target, list) else []
    if key == "":
        return list(dict.fromkeys([*before, *patch]))
    return _list(schemas, schemas.items(schema), before, patch, key)


def _list(schemas: Schemas, schema: Schema, target: list[Any], patch: list[Any], key: str) -> list[Any]:
    """Merge a list of objects by their key."""
    if not all(isinstance(each, dict) for each in patch):
        raise bad_request(f"the items of the list with the merge key {key} must be objects")
    if any(each.get("$patch") == "replace" for each in patch):
        return [each for each in patch if each.get("$patch") != "replace"]
    result = list(target)
    for each in patch:
        if key not in each:
            raise bad_request(f"map: {each} does not contain declared merge key: {key}")
        places = [place for place, other in enumerate(result) if other.get(key) == each[key]]
        if each.get("$patch") == "delete":
            result = [other for other in result if other.get(key) != each[key]]
        elif places:
            result[places[0]] = strategic(schemas, schema, result[places[0]], each)
        else:
            result.append(strategic(schemas, schema, {}, each))
    return result


def _ordered(items: list[Any], server: list[Any], key: str | None, order: list[Any]) -> list[Any]:
    """Put a list in the order that `$setElementOrder` says; what only the server has keeps its place among these."""

    def name(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    wanted = [name(each) for each in order]
    before = [name(each) for each in server]
    said = sorted((each for each in items if name(each) in wanted), key=lambda each: wanted.index(name(each)))
    others = [each for each in items if name(each) not in wanted]
    result = []
    while said and others:
        mine, other = name(said[0]), name(others[0])
        first = other in before and mine in before and before.index(other) < before.index(mine)
        result.append(others.pop(0) if first else said.pop(0))
    return [*result, *said, *others]
