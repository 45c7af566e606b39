"""Small things that every part says about objects: their key, a private copy, the time, a path's value."""

from __future__ import annotations

import datetime
import random
import secrets
import uuid
from collections.abc import Iterable
from typing import Any

import orjson

__all__ = [
    "Key",
    "Object",
    "clone",
    "drop",
    "key_of",
    "new_uid",
    "order",
    "put",
    "random_suffix",
    "timestamp",
    "value_at",
]

Object = dict[str, Any]
Key = tuple[str, str]
"""Namespace (empty for what has none) and name."""


def key_of(obj: Object) -> Key:
    """Give the key of an object within its storage."""
    return obj["metadata"].get("namespace") or "", obj["metadata"]["name"]


def order(key: Key) -> str:
    """Give what etcd sorts by: `team-a` comes before `team`, since a slash follows. Clients' watch lists rely on it."""
    return f"{key[0]}/{key[1]}"


def clone(value: Any) -> Any:
    """Give a deep copy of JSON data. A round trip through orjson is ten times as quick as `copy.deepcopy`.

    It does not write what is nested 255 deep. With the frame this is refused here, not later when a list is written.
    """
    return orjson.loads(orjson.dumps([[[[value]]]]))[0][0][0][0]


def timestamp(later: float = 0) -> str:
    """Give the time as `metav1.Time` writes it, `later` seconds from now."""
    at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=later)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def new_uid() -> str:
    """Give an object its uid. `uuid.uuid4` asks the kernel for each, and nothing here must be hard to guess."""
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def random_suffix() -> str:
    """Give what `generateName` appends: k8s.io/apimachinery/pkg/util/rand has no vowels and no look-alikes."""
    return "".join(secrets.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(5))


def value_at(obj: Any, path: str | Iterable[str], default: Any = None) -> Any:
    """Give the value at a dotted path, or the default where a part of it is missing or null."""
    for key in path.split(".") if isinstance(path, str) else path:
        obj = obj.get(key) if isinstance(obj, dict) else None
    return default if obj is None else obj


def put(obj: Object, path: str, value: Any) -> None:
    """Set the value at a dotted path, making the objects on the way."""
    *parents, last = path.split(".")
    for key in parents:
        if not isinstance(obj.get(key), dict):
            obj[key] = {}
        obj = obj[key]
    obj[last] = value


def drop(obj: Object, *keys: str) -> Object:
    """Give an object without some of its keys."""
    return {key: value for key, value in obj.items() if key not in keys}
