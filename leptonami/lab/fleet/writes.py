"""What is written to a cluster: the requests, what an object will be once they are done, merge patches."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from leptonami.lab.fleet.api import MERGE, Resource

__all__ = ["Key", "Object", "Write", "compose", "ended", "merged", "now_text"]

Object = dict[str, Any]
Key = tuple[str, str, str]  # plural, namespace ("" if it has none), name
Change = Callable[[Object], Object | None]


@dataclass(slots=True)
class Write:
    """A write under way. `body` is a merge patch, an object, or the options of a deletion.

    For `modify` it is the patch that `change` gave last, for the resourceVersion that stands in it.
    """

    verb: str  # create, patch, modify, delete, bind
    resource: Resource
    namespace: str
    name: str
    subresource: str
    body: Object
    change: Change | None = None

    def request(self) -> tuple[str, str, Any, str]:
        """Give method, path, body and content type."""
        resource, json = self.resource, "application/json"
        path = resource.path(self.namespace, self.name, self.subresource)
        match self.verb:
            case "create":
                return "POST", resource.path(self.namespace), self.body, json
            case "bind":
                return "POST", path, self.body, json
            case "delete":
                return "DELETE", path, self.body, json
        return "PATCH", path, self.body, MERGE

    def shown(self, obj: Object | None) -> Object | None:
        """Give the object as it will be."""
        if self.verb == "create" and obj is None:
            return self.body
        if obj is None or (self.verb == "delete" and self.body.get("gracePeriodSeconds") == 0):
            return None
        patch: Object = {}
        match self.verb:
            case "patch":
                patch = self.body
            case "modify" if self.change:
                patch = self.change(obj) or {}
            case "bind":
                patch = {"spec": {"nodeName": self.body["target"]["name"]}}
            case "delete" if "deletionTimestamp" not in obj["metadata"]:
                patch = {"metadata": {"deletionTimestamp": now_text()}}
        return dict(merged(obj, patch)) if patch else obj


def merged(obj: Any, patch: Any) -> Any:
    """Apply a JSON merge patch; neither argument is changed."""
    if not isinstance(patch, dict):
        return patch
    found = dict(obj) if isinstance(obj, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value)
    return found


def compose(first: Object, second: Object) -> Object | None:
    """Make one merge patch of two that follow each other; None where no patch says both.

    One cannot: what the first removes or sets to a plain value, and the second then adds to.
    """
    found = dict(first)
    for key, value in second.items():
        if isinstance(value, dict) and key in first:
            inner = compose(first[key], value) if isinstance(first[key], dict) else None
            if inner is None:
                return None
            found[key] = inner
        else:
            found[key] = value
    return found


def ended(write: Write, answer: Object) -> bool:
    """Tell whether a deletion's answer is the last of the object, and not one that goes on (finalizers, grace)."""
    if write.verb != "delete":
        return False
    about = answer["metadata"]
    grace = about.get("deletionGracePeriodSeconds") or 0
    return not about.get("finalizers") and (not about.get("deletionTimestamp") or grace == 0)


def now_text() -> str:
    """Give the time of this machine as Kubernetes writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
