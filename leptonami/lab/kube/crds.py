"""CustomResourceDefinitions: they add kinds at run time, and take them away with all their objects.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from leptonami.lab.kube.objects import Object, timestamp, value_at
from leptonami.lab.kube.resources import Column, Kind, ScalePaths

if TYPE_CHECKING:
    from leptonami.lab.kube.memory import Memory

__all__ = ["CLEANUP", "STORAGE", "changed", "kinds", "served"]

STORAGE = "customresourcedefinitions.apiextensions.k8s.io"
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
"""The finalizer with which the real server holds a definition until its objects are gone."""


def kinds(crd: Object) -> Iterator[tuple[Kind, bool]]:
    """Give the kinds that a definition serves, and whether their version is the one in which objects are held."""
    spec = crd["spec"]
    names = spec["names"]
    for version in spec["versions"]:
        if not version.get("served"):
            continue
        subresources = version.get("subresources") or {}
        scale = subresources.get("scale")
        columns = [
            Column(
                each["name"],
                each["type"],
                each.get("format", ""),
                each.get("description", ""),
                each.get("priority", 0),
                each["jsonPath"],
            )
            for each in version.get("additionalPrinterColumns") or ()
        ] or [Column("Age", "date", path=".metadata.creationTimestamp")]
        kind = Kind(
            group=spec["group"],
            version=version["name"],
            plural=names["plural"],
            kind=names["kind"],
            singular=names.get("singular") or names["kind"].lower(),
            namespaced=spec["scope"] == "Namespaced",
            short=tuple(names.get("shortNames") or ()),
            categories=tuple(names.get("categories") or ()),
            subresources=frozenset(subresources),
            columns=(Column("Name", format="name", path=".metadata.name"), *columns),
            fields=frozenset(each["jsonPath"].lstrip(".") for each in version.get("selectableFields") or ()),
            storage=crd["metadata"]["name"],
            custom=True,
            list_kind=names.get("listKind") or names["kind"] + "List",
            scale=scale
            and ScalePaths(
                scale["specReplicasPath"].lstrip("."),
                scale["statusReplicasPath"].lstrip("."),
                scale.get("labelSelectorPath", "").lstrip("."),
            ),
            schema=value_at(version, "schema.openAPIV3Schema"),
        )
        yield kind, bool(version.get("storage"))


def changed(store: Memory, kind: Kind, obj: Object) -> None:
    """Serve what a definition that was written says, and say so in its status."""
    if kind.storage != STORAGE or obj["metadata"].get("deletionTimestamp"):
        return
    before = served(store, obj["metadata"]["name"])
    now = dict(kinds(obj))
    for each, held in now.items():
        if not any(each == other and each.schema is other.schema for other in before):
            store.registry.add(each, storage_version=held)
    for other in before:
        if other not in now and store.registry.by_kind(other.api_version, other.kind) is other:
            store.registry.remove(other)
    made = status(obj)
    if made != obj.get("status"):
        store.commit(STORAGE, obj, {**obj, "status": made})


def served(store: Memory, storage: str) -> list[Kind]:
    """Give the kinds that a definition has brought."""
    return [each for each in store.registry.kinds() if each.storage == storage]


def status(crd: Object) -> Object:
    """Give the status of a definition whose names are accepted."""
    old = {each["type"]: each for each in value_at(crd, "status.conditions", [])}
    told = {
        "NamesAccepted": ("NoConflicts", "no conflicts found"),
        "Established": ("InitialNamesAccepted", "the initial names have been accepted"),
    }
    made = [
        old.get(kind)
        or {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": timestamp()}
        for kind, (reason, message) in told.items()
    ]
    stored = [each["name"] for each in crd["spec"]["versions"] if each.get("storage")]
    versions = list(dict.fromkeys([*value_at(crd, "status.storedVersions", []), *stored]))
    return {"conditions": made, "acceptedNames": crd["spec"]["names"], "storedVersions": versions}
