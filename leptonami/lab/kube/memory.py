"""What the API server holds: the objects of all storages, their versions and histories, behind one lock.

What is given out is never changed afterwards: a write makes a new object, and old versions live as long as a log, a
snapshot of a list or a caller holds them.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from leptonami.lab.kube import errors
from leptonami.lab.kube.collector import Collector
from leptonami.lab.kube.history import Change, History
from leptonami.lab.kube.objects import Key, Object, key_of, order, value_at
from leptonami.lab.kube.resources import Kind, Registry, builtin

__all__ = ["Memory", "share"]


@dataclass
class Table:
    """The objects of one storage, with their keys in order; `kubectl drain` asks for the pods of a node."""

    history: History
    objects: dict[Key, Object] = field(default_factory=dict)
    keys: list[Key] = field(default_factory=list)
    by_node: dict[str, set[Key]] = field(default_factory=dict)

    def move(self, old: Object | None, new: Object | None) -> None:
        """Keep the index of nodes when a pod is written."""
        before, after = (value_at(obj, "spec.nodeName", "") for obj in (old, new))
        key = key_of(new or old or {})
        if before and before != after:
            self.by_node[before].discard(key)
            if not self.by_node[before]:
                del self.by_node[before]
        if after and before != after:
            self.by_node.setdefault(after, set()).add(key)


class Memory:
    """All objects of one API server.

    Parameters
    ----------
    history
        How many changes are kept per storage.
    """

    def __init__(self, history: int) -> None:
        self.registry = Registry(builtin())
        self.lock = threading.RLock()
        self.collector = Collector(self)
        self._version = 1
        self._history = history
        self._tables: dict[str, Table] = {}
        self._depth = 0

    @property
    def resource_version(self) -> int:
        """Give the version of the last write."""
        return self._version

    def kind(self, plural: str, group: str = "", version: str = "v1") -> Kind:
        """Find a kind."""
        return self.registry.find(group, version, plural)

    def table(self, storage: str) -> Table:
        """Give the objects of a storage; for those who hold the lock."""
        if storage not in self._tables:
            with self.lock:
                self._tables.setdefault(storage, Table(History(self._history, threading.Condition(self.lock))))
        return self._tables[storage]

    def tables(self) -> list[tuple[str, Table]]:
        """Give the storages that hold or held something."""
        return list(self._tables.items())

    def held(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """Give one object in the version that it is held in."""
        if (found := self.peek(kind, namespace, name)) is None:
            raise errors.not_found(kind.group, kind.plural, name)
        return found

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock; when the outermost write is done, do what follows from it."""
        with self.lock:
            self._depth += 1
            try:
                yield
            finally:
                try:
                    if self._depth == 1:
                        self.collector.run()
                finally:
                    self._depth -= 1

    def peek(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """Give an object as it is held, or None."""
        return self.table(kind.storage).objects.get(((namespace or "") if kind.namespaced else "", name))

    def commit(self, storage: str, old: Object | None, new: Object | None) -> Object:
        """Put one version of an object in the place of another, note it, and wake the watches.

        Gives the object that a watch sees: for a deletion the last one.
        """
        self._version += 1
        table = self.table(storage)
        if new is not None:
            new = {**new, "metadata": {**new["metadata"], "resourceVersion": str(self._version)}}
            key = key_of(new)
            if old is None:
                insort(table.keys, key, key=order)
            table.objects[key] = new
        elif old is not None:
            key = key_of(old)
            del table.objects[key]
            del table.keys[bisect_left(table.keys, order(key), key=order)]
        if storage == "pods":
            table.move(old, new)
        self.collector.note(storage, old, new)
        table.history.add(Change(self._version, old, new))
        return new or old or {}

    def forget(self, storage: str) -> None:
        """Forget a storage whose kind is gone; its watches end."""
        history = self._tables.pop(storage).history
        history.closed = True
        history.woken.notify_all()


def share(old: Object, new: Object) -> None:
    """Let a new version hold the parts that are equal to those of the old one, or of another object.

    The pods of a workload differ in their names and states only: so they, and the history, cost little.
    """
    for key, value in new.items():
        before = old.get(key)
        if not isinstance(value, NESTED) or not value:
            continue
        if before == value:
            new[key] = before
        elif key in {"metadata", "spec", "status"} and isinstance(value, dict):
            share(before if isinstance(before, dict) else {}, value)
        else:
            if len(PARTS) > MAX_PARTS:
                PARTS.clear()
            new[key] = PARTS.setdefault(orjson.dumps(value), value)


NESTED = (dict, list)
PARTS: dict[bytes, Any] = {}
MAX_PARTS = 10_000
