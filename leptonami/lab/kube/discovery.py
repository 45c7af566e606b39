"""What the API server tells about itself: its version, its groups and its resources, in the old form and aggregated.

Clients ask for all of it at once (KEP-3352, `apidiscovery.k8s.io` v2 or v2beta1 at `/api` and `/apis`); older ones ask
group by group.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from leptonami.lab.kube.errors import ApiError
from leptonami.lab.kube.resources import Kind

__all__ = ["SHAPES", "aggregated", "group_of", "groups", "resources", "version", "versions"]

SHAPES = frozenset(("APIGroupDiscoveryList", "apidiscovery.k8s.io", version) for version in ("v2", "v2beta1"))
CREATE_ONLY = {"eviction", "binding", "token"}
READ_ONLY = {"log"}
# Subresources whose body is of another kind than the resource: group, version, kind.
OTHER_KINDS = {
    "scale": ("autoscaling", "v1", "Scale"),
    "eviction": ("policy", "v1", "Eviction"),
    "binding": ("", "v1", "Binding"),
    "token": ("authentication.k8s.io", "v1", "TokenRequest"),
}
# The preferred version first; kinds of other groups follow in the order in which they were added.
PRIORITY = ("", "apps", "events.k8s.io", "authentication.k8s.io", "authorization.k8s.io", "autoscaling", "batch")


def version(text: str) -> dict[str, str]:
    """Answer `/version` for a Kubernetes version such as `1.33` or `1.33.4`."""
    major, minor, *patch = text.removeprefix("v").split(".")
    full = f"v{major}.{minor}.{patch[0] if patch else 0}-eks-lab"
    unknown = {"gitCommit": "simulated", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z"}
    names = {"goVersion": "none", "compiler": "none", "platform": "linux/amd64"}
    return {"major": major, "minor": minor, "gitVersion": full, **unknown, **names}


def by_group(kinds: Iterable[Kind]) -> dict[str, dict[str, list[Kind]]]:
    """Sort kinds by group and version."""
    found: dict[str, dict[str, list[Kind]]] = {}
    for each in kinds:
        found.setdefault(each.group, {}).setdefault(each.version, []).append(each)
    found = {group: dict(sorted(each.items(), key=lambda one: age(one[0]))) for group, each in found.items()}
    rank = {group: place for place, group in enumerate(PRIORITY)}
    return dict(sorted(found.items(), key=lambda each: rank.get(each[0], len(rank))))


def age(version: str) -> tuple[int, ...] | tuple[int, str]:
    """Give what sorts versions as Kubernetes does, the preferred one first: v2, v1, v1beta1, v1alpha1, other names."""
    if not (found := re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)):
        return 3, version
    return ("", "beta", "alpha").index(found[2] or ""), -int(found[1]), -int(found[3] or 0)


def verbs_of(subresource: str) -> list[str]:
    """Give what can be done with a subresource."""
    if subresource in CREATE_ONLY:
        return ["create"]
    if subresource == "finalize":
        return ["update"]
    return ["get"] if subresource in READ_ONLY else ["get", "patch", "update"]


def versions() -> dict[str, Any]:
    """Answer `/api`."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def group_of(kinds: Iterable[Kind], name: str) -> dict[str, Any]:
    """Answer `/apis/GROUP`."""
    found = by_group(kinds).get(name)
    if not found:
        raise ApiError(404, "NotFound", "the server could not find the requested resource")
    listed = [{"groupVersion": f"{name}/{each}", "version": each} for each in found]
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": listed, "preferredVersion": listed[0]}


def groups(kinds: Iterable[Kind]) -> dict[str, Any]:
    """Answer `/apis`."""
    kinds = list(kinds)
    listed = [group_of(kinds, name) for name in by_group(kinds) if name]
    items = [{key: value for key, value in each.items() if key not in {"kind", "apiVersion"}} for each in listed]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": items}


def resources(kinds: Iterable[Kind], group: str, version: str) -> dict[str, Any]:
    """Answer `/api/v1` and `/apis/GROUP/VERSION`."""
    found = by_group(kinds).get(group, {}).get(version)
    if not found:
        raise ApiError(404, "NotFound", "the server could not find the requested resource")
    listed: list[dict[str, Any]] = []
    for each in sorted(found, key=lambda kind: kind.plural):
        about: dict[str, Any] = {"singularName": each.singular, "namespaced": each.namespaced, "kind": each.kind}
        names: dict[str, Any] = {"shortNames": list(each.short), "categories": list(each.categories)}
        listed.append(
            {"name": each.plural, **about, "verbs": list(each.verbs), **{k: v for k, v in names.items() if v}}
        )
        for subresource in sorted(each.subresources):
            other = OTHER_KINDS.get(subresource, ("", "", each.kind))
            place = {"group": other[0], "version": other[1]} if subresource in OTHER_KINDS else {}
            entry = {"name": f"{each.plural}/{subresource}", "singularName": "", "namespaced": each.namespaced}
            listed.append({**entry, **place, "kind": other[2], "verbs": verbs_of(subresource)})
    name = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": listed}


def aggregated(kinds: Iterable[Kind], version: str, *, core: bool) -> dict[str, Any]:
    """Answer `/api` (core) or `/apis` in the aggregated form."""
    items = [
        {
            "metadata": {"name": group, "creationTimestamp": None} if group else {"creationTimestamp": None},
            "versions": [
                {"version": name, "resources": [described(each) for each in found], "freshness": "Current"}
                for name, found in found_versions.items()
            ],
        }
        for group, found_versions in by_group(kinds).items()
        if core == (not group)
    ]
    about = {"kind": "APIGroupDiscoveryList", "apiVersion": f"apidiscovery.k8s.io/{version}", "metadata": {}}
    return {**about, "items": items}


def described(kind: Kind) -> dict[str, Any]:
    """Describe a kind with its subresources."""
    own = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    found: dict[str, Any] = {
        "resource": kind.plural,
        "responseKind": own,
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(kind.verbs),
        "shortNames": list(kind.short),
        "categories": list(kind.categories),
        "subresources": [
            {
                "subresource": each,
                "responseKind": dict(zip(("group", "version", "kind"), OTHER_KINDS[each], strict=True))
                if each in OTHER_KINDS
                else own,
                "verbs": verbs_of(each),
            }
            for each in sorted(kind.subresources)
        ],
    }
    return {key: value for key, value in found.items() if value}
