"""Server-side apply, and who manages which field.

https://kubernetes.io/docs/reference/using-api/server-side-apply/ and sigs.k8s.io/structured-merge-diff.
How sets of fields are held and written: `managers.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from leptonami.lab.kube import errors, validation
from leptonami.lab.kube.errors import ApiError
from leptonami.lab.kube.managers import Manager, Path, having, read, shared, write
from leptonami.lab.kube.objects import Object, clone, drop, timestamp
from leptonami.lab.kube.options import Options
from leptonami.lab.kube.resources import Kind
from leptonami.lab.kube.schemas import Schema, Schemas, list_keys

__all__ = ["merge", "track"]

MISSING: Any = object()
NESTED = (dict, list)
# What nobody manages: structured-merge-diff's stripSet in k8s.io/apimachinery/pkg/util/managedfields.
UNMANAGED = (
    "name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields", "resourceVersion",
    "deletionTimestamp", "deletionGracePeriodSeconds", "generateName",
)  # fmt: skip


def track(
    schemas: Schemas, kind: Kind, old: Object | None, new: Object, *, manager: str, subresource: str = ""
) -> None:
    """Note in an object's `managedFields` who changed what by a create, an update or a patch.

    Other managers lose what was changed; everybody loses what was removed.
    """
    meta = new["metadata"]
    given = meta.pop("managedFields", None)
    if old is None and not given:
        _note_new(schemas, kind, new, manager)
        return
    managers = [] if given == [] else read(given or [])
    changed, removed = _difference(schemas, kind, old, new)
    if old is None and kind.storage != "nodes" and "status" in kind.subresources:
        changed = {each for each in changed if each[0] != "f:status"}
    mine = Manager(manager, "Update", kind.api_version, subresource, "", frozenset())
    kept: list[Manager] = []
    for each in managers:
        if each.identity == mine.identity:
            mine = each
        else:
            kept.append(having(each, each.fields - removed - changed))
    if manager:
        kept.append(having(mine, (mine.fields - removed) | changed))
    write(meta, kept)


def _note_new(schemas: Schemas, kind: Kind, new: Object, manager: str) -> None:
    """Note that a manager made all of an object: what `track` does, without sets of paths."""
    tree = _made(schemas, schemas.of(kind), _managed(new))
    if kind.storage != "nodes" and "status" in kind.subresources:
        tree.pop("f:status", None)
    if tree and manager:
        entry = {"manager": manager, "operation": "Update", "apiVersion": kind.api_version, "time": timestamp()}
        new["metadata"]["managedFields"] = [{**entry, "fieldsType": "FieldsV1", "fieldsV1": shared(orjson.dumps(tree))}]


def _made(schemas: Schemas, schema: Schema | None, value: Any) -> Object:
    """Give the `fieldsV1` of all that is in a value."""
    tree: Object = {}
    for key, each in (_children(schema, value) or {}).items():
        below = _made(schemas, _below(schemas, schema, key), each) if isinstance(each, NESTED) else {}
        tree[key] = {**below, ".": {}} if key[0] == "k" else below
    return tree


def merge(
    schemas: Schemas, kind: Kind, live: Object | None, body: Object, *, subresource: str, options: Options
) -> Object:
    """Give what a server-side apply makes of an object, `managedFields` included.

    Raises
    ------
    ApiError
        409: another manager owns a field that the body has another value for, and `force` is not set.
    """
    if not options.manager:
        problem = errors.required("fieldManager", "is required for apply patch")
        raise errors.invalid("meta.k8s.io", "PatchOptions", "", [problem])
    if body["metadata"].get("managedFields"):
        raise errors.bad_request("metadata.managedFields must be nil")
    body = validation.decode(schemas, kind, clone(body), options)
    body = _scope(kind, body, subresource)
    wanted, _ = _difference(schemas, kind, None, body)
    mine = Manager(options.manager, "Apply", kind.api_version, subresource, "", frozenset())
    if live is None:
        made: Object = body
        others: list[Manager] = []
    else:
        managers = read(live["metadata"].get("managedFields") or [])
        mine = next((each for each in managers if each.identity == mine.identity), mine)
        others = [each for each in managers if each.identity != mine.identity]
        schema = schemas.of(kind) or {}
        made = _overlay(schemas, schema, live, body)
        changed, _ = _difference(schemas, kind, live, made)
        others = _settle_conflicts(others, wanted & changed, force=options.force)
        owned = frozenset().union(*(each.fields for each in others))
        for path in sorted(mine.fields - wanted, key=len):
            if not any(each[: len(path)] == path for each in owned | wanted):
                made = _without(schemas, schema, made, path)
    made = {**made, "metadata": drop(made["metadata"], "managedFields")}
    write(made["metadata"], [*others, having(mine, frozenset(wanted))])
    return made


def _scope(kind: Kind, body: Object, subresource: str) -> Object:
    """Give the part of an applied object that its subresource takes."""
    if subresource == "status":
        return {key: body[key] for key in ("apiVersion", "kind", "metadata", "status") if key in body}
    return drop(body, "status") if "status" in kind.subresources else body


def _settle_conflicts(others: list[Manager], contested: Iterable[Path], *, force: bool) -> list[Manager]:
    """Take contested fields from their managers, or refuse to."""
    taken = {each.identity: each.fields & frozenset(contested) for each in others}
    conflicts = [(each, path) for each in others for path in sorted(taken[each.identity]) if path[-1][:2] != "k:"]
    if not conflicts or force:
        return [having(each, each.fields - taken[each.identity]) for each in others]
    causes = [
        errors.cause("FieldManagerConflict", _shown(path), f"conflict with {each.told()}") for each, path in conflicts
    ]
    if len(conflicts) == 1:
        manager, path = conflicts[0]
        message = f"Apply failed with 1 conflict: conflict with {manager.told()}: {_shown(path)}"
    else:
        lines = []
        for told in sorted({each.told() for each, _ in conflicts}):
            lines += [
                f"conflicts with {told}:",
                *(f"- {_shown(path)}" for each, path in conflicts if each.told() == told),
            ]
        message = f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)
    raise ApiError(409, "Conflict", message, {"causes": causes})


def _shown(path: Path) -> str:
    """Give a path as a person reads it, such as `.spec.containers[name="a"].image`."""
    text = ""
    for kind, value in ((each[0], each[2:]) for each in path):
        if kind == "f":
            text += f".{value}"
        elif kind == "k":
            keys = orjson.loads(value)
            text += "[" + ",".join(f"{key}={orjson.dumps(each).decode()}" for key, each in keys.items()) + "]"
        else:
            text += f"[={value}]"
    return text


# Fields of objects


def _difference(schemas: Schemas, kind: Kind, old: Object | None, new: Object) -> tuple[set[Path], set[Path]]:
    """Give the paths that were added or changed, and those that were removed."""
    found = Difference(schemas)
    found.compare(schemas.of(kind), MISSING if old is None else _managed(old), _managed(new), ())
    found.changed.discard(())
    return found.changed, found.removed


def _managed(obj: Object) -> Object:
    """Give the part of an object that can be managed."""
    meta = drop(obj["metadata"], *UNMANAGED)
    return drop(obj, "apiVersion", "kind", "metadata") | ({"metadata": meta} if meta else {})


@dataclass
class Difference:
    """The paths in which two values differ."""

    schemas: Schemas
    changed: set[Path] = field(default_factory=set)
    removed: set[Path] = field(default_factory=set)

    def compare(self, schema: Schema | None, old: Any, new: Any, path: Path) -> None:
        """Note how a value differs from another; either may be missing."""
        before, after = _children(schema, old), _children(schema, new)
        item = bool(path) and path[-1][0] == "k"
        if new is MISSING:
            if before is None or item:
                self.removed.add(path)
        elif after is None or (item and old is MISSING):
            self.changed.add(path)
        if before is None and after is not None and old is not MISSING:
            self.removed.add(path)
        before, after = before or {}, after or {}
        for key in before if not after else after if not before else {**before, **after}:
            was, now = before.get(key, MISSING), after.get(key, MISSING)
            if was is now or was == now:
                continue
            if isinstance(was, NESTED) or isinstance(now, NESTED):
                self.compare(_below(self.schemas, schema, key), was, now, (*path, key))
            elif now is MISSING:
                self.removed.add((*path, key))
            else:
                self.changed.add((*path, key))


def _below(schemas: Schemas, schema: Schema | None, key: str) -> Schema | None:
    """Give the schema of a part."""
    if not schema or key[0] == "v":
        return None
    return schemas.child(schema, key[2:]) if key[0] == "f" else schemas.items(schema)


def _children(schema: Schema | None, value: Any) -> dict[str, Any] | None:
    """Give the parts of a value that are managed one by one; None for what is managed as one."""
    if not value or not isinstance(value, NESTED):
        return None
    schema = schema or {}
    if isinstance(value, dict):
        atomic = schema.get("x-kubernetes-map-type") == "atomic"
        return None if atomic else {"f:" + key: each for key, each in value.items()}
    keys = list_keys(schema)
    if keys is None or (keys and not all(isinstance(each, dict) for each in value)):
        return None
    if not keys:
        return {"v:" + orjson.dumps(each).decode(): each for each in value}
    return {_element(keys, each): each for each in value}


def _element(keys: tuple[str, ...], item: Any) -> str:
    known = {key: item.get(key, DEFAULT_KEYS.get(key)) for key in sorted(keys)}
    return "k:" + orjson.dumps({key: value for key, value in known.items() if value is not None}).decode()


DEFAULT_KEYS = {"protocol": "TCP"}  # of list items: the protocol of a port


def _overlay(schemas: Schemas, schema: Schema | None, live: Any, body: Any) -> Any:
    """Lay an applied value over a live one."""
    old, new = _children(schema, live), _children(schema, body)
    if new is None:
        # An empty object or list says that it is there, not that it is empty.
        return live if type(live) is type(body) and body in ({}, []) and old is not None else body
    if old is None or type(live) is not type(body):
        return body
    merged = {
        key: _overlay(schemas, _below(schemas, schema, key), each, new[key]) if key in new else each
        for key, each in old.items()
    }
    merged |= {key: each for key, each in new.items() if key not in old}
    return list(merged.values()) if isinstance(live, list) else {key[2:]: each for key, each in merged.items()}


def _without(schemas: Schemas, schema: Schema | None, value: Any, path: Path) -> Any:
    """Give a value without what is at a path; what is empty then goes, too."""
    parts = _children(schema, value)
    if parts is None or path[0] not in parts:
        return value
    each = parts[path[0]]
    if len(path) == 1:
        del parts[path[0]]
    elif path[1][0] == "f" and path[0][0] == "k" and len(path) == 2 and path[1][2:] in orjson.loads(path[0][2:]):
        return value  # An item that stays keeps its keys.
    else:
        parts[path[0]] = _without(schemas, _below(schemas, schema, path[0]), each, path[1:])
        if parts[path[0]] in ({}, []) and each not in ({}, []):
            del parts[path[0]]
    return list(parts.values()) if isinstance(value, list) else {key[2:]: part for key, part in parts.items()}
