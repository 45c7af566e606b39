"""What controllers are made of: what they see, what they decide, and what they all need to know about pods.

A controller is a function from an object and a `View` to a `Plan`; it changes nothing. `driver.py` calls it and carries
the plan out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from math import ceil
from typing import Any, Protocol
from zlib import crc32

import orjson

from leptonami.lab.conditions import condition
from leptonami.lab.fleet.matching import selects
from leptonami.lab.fleet.recorder import mark

__all__ = ["Create", "Delete", "Object", "Patch", "Plan", "Tell", "View"]

Object = dict[str, Any]

BURST = 500  # pods that a controller makes or removes at once: replica_set.go BurstReplicas
LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # k8s.io/apimachinery/pkg/util/rand


class View(Protocol):
    """What a controller sees. Objects are not to be changed."""

    def all(self, plural: str, namespace: str | None = None) -> list[Object]:
        """Give the objects of a resource."""

    def get(self, plural: str, namespace: str | None, name: str) -> Object | None:
        """Give one object."""

    def children(self, owner: Object, plural: str) -> list[Object]:
        """Give the objects whose controller `owner` is."""

    def orphans(self, plural: str, namespace: str) -> list[Object]:
        """Give the objects of a namespace that have no controller."""

    def stamp(self) -> str:
        """Give the time of this machine as Kubernetes writes it."""

    def age(self, stamp: str) -> float:
        """Give the simulated seconds since a time stamp."""


@dataclass(frozen=True)
class Tell:
    """An event about the object that is reconciled. `{name}` stands for the name of what was created or deleted."""

    reason: str
    message: str
    type: str = "Normal"


@dataclass(frozen=True)
class Create:
    """Make an object, and say so."""

    plural: str
    obj: Object
    event: Tell | None = None


@dataclass(frozen=True)
class Patch:
    """Change an object by a merge patch."""

    plural: str
    obj: Object
    body: Object
    subresource: str = ""


@dataclass(frozen=True)
class Delete:
    """Remove an object, and say so."""

    plural: str
    obj: Object
    event: Tell | None = None
    grace: int | None = None


@dataclass
class Plan:
    """What is to be done now, in this order, and after how many simulated seconds to look again in any case."""

    actions: list[Create | Patch | Delete | Tell] = field(default_factory=list)
    again: float | None = None

    def do(self, *actions: Create | Patch | Delete | Tell) -> None:
        """Add to what is to be done."""
        self.actions += actions

    def look(self, seconds: float | None) -> None:
        """Have it looked at again after so many seconds, or sooner."""
        if seconds is not None:
            self.again = seconds if self.again is None else min(seconds, self.again)

    def status(self, plural: str, obj: Object, status: Object, *, guarded: bool = False) -> None:
        """Set the status as far as it differs, and the first time say that it is simulated; None removes a field.

        `guarded`: only over the version that was read.
        """
        old = obj.get("status") or {}
        if changed := {key: value for key, value in status.items() if old.get(key) != value}:
            about = mark(obj).get("metadata", {})
            if guarded:
                about = {**about, "resourceVersion": obj["metadata"]["resourceVersion"]}
            self.do(Patch(plural, obj, {**({"metadata": about} if about else {}), "status": changed}, "status"))


# --- values -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=65536)
def epoch(stamp: str) -> float:
    """Give the seconds since 1970 of a time stamp."""
    return datetime.fromisoformat(stamp).timestamp()


def created(obj: Mapping[str, Any]) -> tuple[float, str]:
    """Give an order by age, oldest first. What the server has not answered for yet is the newest."""
    stamp = obj["metadata"].get("creationTimestamp")
    return (epoch(stamp) if stamp else float("inf")), obj["metadata"]["name"]


def amount(value: int | str | None, total: int, *, up: bool, default: int | str = 0) -> int:
    """Give a number, or a percentage of a total, as Kubernetes' IntOrString has it."""
    value = default if value is None else value
    if isinstance(value, str) and value.endswith("%"):
        share = int(value[:-1]) * total
        return -(-share // 100) if up else share // 100
    return int(value)


def safe_hash(value: object) -> str:
    """Give a hash for a name. Not the one that Kubernetes works out, but of its look and as stable."""
    number = str(crc32(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)))
    return "".join(LETTERS[ord(digit) % len(LETTERS)] for digit in number)


def owner_reference(owner: Object) -> Object:
    """Give the reference that makes `owner` the controller of an object."""
    about = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": about["name"],
        "uid": about["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controller_of(obj: Mapping[str, Any]) -> Object | None:
    """Give the reference to an object's controller."""
    return next((each for each in obj["metadata"].get("ownerReferences") or () if each.get("controller")), None)


def leaving(obj: Mapping[str, Any]) -> bool:
    """Tell whether an object is being deleted."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def claim(view: View, owner: Object, plural: str, plan: Plan) -> list[Object]:
    """Give the children that an object's selector selects. Orphans that it selects are adopted, others let go."""
    selector, kept = owner["spec"].get("selector"), list[Object]()
    for child in view.children(owner, plural):
        if selects(selector, child["metadata"].get("labels") or {}):
            kept.append(child)
        elif not leaving(child) and not leaving(owner):
            left = [each for each in child["metadata"]["ownerReferences"] if each["uid"] != owner["metadata"]["uid"]]
            plan.do(Patch(plural, child, {"metadata": {"ownerReferences": left or None}}))
    for child in [] if leaving(owner) else view.orphans(plural, owner["metadata"]["namespace"]):
        if selects(selector, child["metadata"].get("labels") or {}) and not leaving(child) and not finished(child):
            others = child["metadata"].get("ownerReferences") or []
            body = {"metadata": {"ownerReferences": [*others, owner_reference(owner)]}}
            plan.do(Patch(plural, child, body))
            kept.append(child)
    return kept


# --- pods -------------------------------------------------------------------------------------------------------------


def phase(pod: Mapping[str, Any]) -> str:
    """Give a pod's phase."""
    return str((pod.get("status") or {}).get("phase") or "Pending")


def finished(pod: Mapping[str, Any]) -> bool:
    """Tell whether a pod has run to its end."""
    return phase(pod) in {"Succeeded", "Failed"}


def active(pods: Iterable[Object]) -> list[Object]:
    """Give the pods that are neither done nor being deleted."""
    return [pod for pod in pods if not finished(pod) and not leaving(pod)]


def until_available(pod: Mapping[str, Any], seconds: int, view: View) -> float | None:
    """Give how long a pod still has to be ready to be available: 0 if it is, None if it is not ready."""
    ready = condition(pod, "Ready")
    if ready.get("status") != "True":
        return None
    since = ready.get("lastTransitionTime")
    return max(0.0, seconds - view.age(since)) if seconds and since else 0.0


def count(pods: Iterable[Object], seconds: int, view: View, plan: Plan) -> tuple[int, int]:
    """Count the ready and the available ones, and have it looked at again when the next one becomes available."""
    waits = [wait for pod in pods if (wait := until_available(pod, seconds, view)) is not None]
    plan.look(min((ceil(wait) for wait in waits if wait > 0), default=None))
    return len(waits), sum(wait == 0 for wait in waits)


def pod_of(owner: Object, template: Object, labels: Mapping[str, str] | None = None) -> Object:
    """Make a pod of a template."""
    about = template.get("metadata") or {}
    meta: Object = {
        "generateName": f"{owner['metadata']['name']}-",
        "namespace": owner["metadata"]["namespace"],
        "labels": {**(about.get("labels") or {}), **(labels or {})},
        "ownerReferences": [owner_reference(owner)],
    }
    if about.get("annotations"):
        meta["annotations"] = about["annotations"]
    if about.get("finalizers"):
        meta["finalizers"] = about["finalizers"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}


MADE = Tell("SuccessfulCreate", "Created pod: {name}")
REMOVED = Tell("SuccessfulDelete", "Deleted pod: {name}")
