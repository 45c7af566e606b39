"""`managedFields`: who manages which fields of an object, and the form in which that is written.

A set of fields is a set of paths; a path is a tuple of the elements of `fieldsV1`: `f:name`, `k:{"key":"value"}`,
`v:value`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import orjson

from leptonami.lab.kube.objects import Object, timestamp

__all__ = ["Fields", "Manager", "Path", "having", "read", "shared", "write"]

Path = tuple[str, ...]
Fields = frozenset[Path]


@dataclass(frozen=True)
class Manager:
    """One entry of `managedFields`."""

    name: str
    operation: str
    api_version: str
    subresource: str
    time: str
    fields: Fields

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """Give what makes it one entry."""
        return self.name, self.operation, self.api_version, self.subresource

    def told(self) -> str:
        """Give it as a conflict names it."""
        text = f'"{self.name}"' + (f' with subresource "{self.subresource}"' if self.subresource else "")
        return text if self.operation == "Apply" else f"{text} using {self.api_version}"


def having(manager: Manager, fields: Iterable[Path]) -> Manager:
    """Give a manager with other fields; its time is now if they differ."""
    fields = frozenset(fields)
    return manager if fields == manager.fields else replace(manager, fields=fields, time=timestamp())


def read(entries: list[Object]) -> list[Manager]:
    """Read the entries of an object."""
    return [
        Manager(
            each.get("manager", ""),
            each.get("operation", "Update"),
            each.get("apiVersion", ""),
            each.get("subresource", ""),
            each.get("time", ""),
            _paths(orjson.dumps(each.get("fieldsV1") or {})),
        )
        for each in entries
    ]


def write(meta: Object, managers: list[Manager]) -> None:
    """Write them into an object's metadata."""
    entries = [
        {
            "manager": each.name,
            "operation": each.operation,
            "apiVersion": each.api_version,
            **({"time": each.time} if each.time else {}),
            "fieldsType": "FieldsV1",
            "fieldsV1": _tree(each.fields),
            **({"subresource": each.subresource} if each.subresource else {}),
        }
        for each in sorted(managers, key=lambda each: (each.operation, each.time, each.name))
        if each.fields
    ]
    if entries:
        meta["managedFields"] = entries


@lru_cache(maxsize=4096)
def _paths(text: bytes) -> Fields:
    """Read `fieldsV1`."""

    def walk(tree: Any, path: Path) -> Iterator[Path]:
        if not isinstance(tree, dict):
            return  # what a client made up and nobody can read is left out
        if path and not tree:
            yield path
        for key, below in tree.items():
            if key == ".":
                yield path
            else:
                yield from walk(below, (*path, key))

    return frozenset(walk(orjson.loads(text), ()))


@lru_cache(maxsize=4096)
def _tree(fields: Fields) -> Object:
    """Give the `fieldsV1` of a set. Objects of one shape share it: it is the larger part of a small object."""
    tree: Object = {}
    for path in sorted(fields):
        at = tree
        for key in path:
            at = at.setdefault(key, {})
    for path in fields:
        at = tree
        for key in path:
            at = at[key]
        if at:
            at["."] = {}
    return tree


@lru_cache(maxsize=4096)
def shared(text: bytes) -> Object:
    """Give one object for all that have the same text."""
    found: Object = orjson.loads(text)
    return found
