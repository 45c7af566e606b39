"""The kinds that the API server serves: built in (`resources.yaml`), or added by CustomResourceDefinitions."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from leptonami import datafiles
from leptonami.lab.kube.errors import ApiError

__all__ = ["Column", "Kind", "Registry", "ScalePaths", "builtin"]

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True)
class Column:
    """A column of a table; without a path its cell is computed."""

    name: str
    type: str = "string"
    format: str = ""
    description: str = ""
    priority: int = 0
    path: str = ""


@dataclass(frozen=True)
class ScalePaths:
    """Where the scale subresource finds its numbers; dotted, without a leading dot."""

    spec: str = "spec.replicas"
    status: str = "status.replicas"
    selector: str = ""


@dataclass(frozen=True)
class Kind:
    """One resource in one version. `resources.yaml` says what the fields mean."""

    group: str
    version: str
    plural: str
    kind: str
    singular: str
    namespaced: bool
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: frozenset[str] = frozenset()
    columns: tuple[Column, ...] = ()
    fields: frozenset[str] = frozenset()
    generation: bool = False
    put_creates: bool = False
    versioned: bool = False
    returned: bool = False
    storage: str = ""
    """What the objects are stored under: one for all versions of a resource."""
    custom: bool = False
    list_kind: str = ""
    scale: ScalePaths | None = None
    schema: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    """The `openAPIV3Schema` of a custom kind; the built-in ones have theirs in `schemas.py`."""
    verbs: tuple[str, ...] = VERBS

    @property
    def api_version(self) -> str:
        """Give what stands as `apiVersion` in its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """Give the name in messages, such as `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


class Registry:
    """The kinds there are now."""

    def __init__(self, kinds: Iterable[Kind] = ()) -> None:
        self._kinds: dict[tuple[str, str, str], Kind] = {}
        self._by_kind: dict[tuple[str, str], Kind] = {}
        self._stored: dict[str, Kind] = {}
        self._lock = threading.Lock()
        for each in kinds:
            self.add(each)

    def find(self, group: str, version: str, plural: str) -> Kind:
        """Find a kind by its place in a URL.

        Raises
        ------
        ApiError
            404, as for any path that is not served.
        """
        try:
            return self._kinds[group, version, plural]
        except KeyError:
            raise ApiError(404, "NotFound", "the server could not find the requested resource") from None

    def by_kind(self, api_version: str, kind: str) -> Kind | None:
        """Find a kind as an owner reference or a manifest names it."""
        return self._by_kind.get((api_version, kind))

    def stored(self, storage: str) -> Kind:
        """Give the version in which the objects of a storage are held."""
        return self._stored[storage]

    def kinds(self) -> tuple[Kind, ...]:
        """Give all of them, in the order in which they were added."""
        return tuple(self._kinds.values())

    def add(self, kind: Kind, *, storage_version: bool = False) -> None:
        """Serve a kind; the first version of a storage is the one that its objects are held in, unless one says so."""
        with self._lock:
            self._kinds = {**self._kinds, (kind.group, kind.version, kind.plural): kind}
            self._by_kind = {**self._by_kind, (kind.api_version, kind.kind): kind}
            held = self._stored.get(kind.storage)
            if storage_version or held is None or (held.group, held.version) == (kind.group, kind.version):
                self._stored = {**self._stored, kind.storage: kind}

    def remove(self, kind: Kind) -> None:
        """Serve a kind no longer."""
        with self._lock:
            self._kinds = {key: each for key, each in self._kinds.items() if each != kind}
            self._by_kind = {key: each for key, each in self._by_kind.items() if each != kind}
            self._stored = {key: each for key, each in self._stored.items() if each != kind}


def column(text: str) -> Column:
    """Read `Name | type | path | priority`."""
    name, kind, path, priority = ([part.strip() for part in text.split("|")] + ["", "", ""])[:4]
    if name == "Name":
        return Column(name, "string", "name", path=".metadata.name", priority=int(priority or 0))
    if name == "Age":
        return Column(name, path=".metadata.creationTimestamp")
    return Column(name, kind or "string", path=path, priority=int(priority or 0))


@cache
def builtin() -> tuple[Kind, ...]:
    """Read the kinds that are built in."""
    return tuple(_builtin())


def _builtin() -> Iterator[Kind]:
    for entry in datafiles.parsed(Path(__file__).with_name("resources.yaml").read_text(encoding="utf-8")):
        group, version = entry["group"], entry["version"]
        for plural, about in entry["resources"].items():
            subresources = frozenset(about.get("subresources", ()))
            yield Kind(
                group=group,
                version=version,
                plural=plural,
                kind=about["kind"],
                singular=about.get("singular", about["kind"].lower()),
                namespaced=not about.get("cluster", False),
                short=tuple(about.get("short", ())),
                categories=tuple(about.get("categories", ())),
                subresources=subresources,
                columns=tuple(column(each) for each in about.get("columns", ("Name", "Age"))),
                fields=frozenset(about.get("fields", ())),
                generation=about.get("generation", False),
                put_creates=about.get("put_creates", False),
                versioned=about.get("versioned", False),
                returned=about.get("returned", False),
                storage=about.get("storage", f"{plural}.{group}" if group else plural),
                list_kind=about["kind"] + "List",
                scale=ScalePaths() if "scale" in subresources else None,
            )
