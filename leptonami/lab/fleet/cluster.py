"""The cluster as the fleet's controllers see it: caches that watches keep fresh, and writes that show at once.

One thread (the loop's) owns everything here. Readers and senders are threads that only carry: they put what came in on
one queue, and `sync` takes it from there. A write is applied to the cached object right away and sent by a few
connections in the background, in order for each object; merge patches of one object that still wait become one, as a
kubelet's status manager sends only the latest status. When the server has answered, its object counts. If it refused,
the write is forgotten, the object counts as changed, and its controller decides anew: "next time".
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from leptonami.lab.fleet.api import Api, Resource
from leptonami.lab.fleet.carrier import CONFLICT, LATER, Carrier
from leptonami.lab.fleet.recorder import Recorder
from leptonami.lab.fleet.writes import Change, Key, Object, Write, compose, ended, merged

__all__ = ["Cluster", "Key", "Object", "owner_of"]

MOST_WAITING = 20_000  # writes; where there are more, events are dropped, as client-go drops them from a full queue
LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # of generated names: k8s.io/apimachinery/pkg/util/rand
EVENTS = Resource("", "v1", "events")


@dataclass(slots=True)
class Entry:
    """An object: as the server has it, as it will be, and the writes in between."""

    base: Object | None = None
    version: int = -1
    view: Object | None = None
    flying: Write | None = None
    waiting: list[Write] = field(default_factory=list)
    ended: str = ""  # the uid of an object that the server has deleted for us, and whose end the watch has yet to tell


class Cluster:
    """Caches of some resources of a cluster, and its writes.

    Parameters
    ----------
    api
        The way there.
    plurals
        What is watched, as (group, version, plural). One that the server does not have (yet) is empty until it does.
    """

    def __init__(self, api: Api, plurals: Iterable[tuple[str, str, str]]) -> None:
        self.api = api
        self.resources = {plural: Resource(group, version, plural) for group, version, plural in plurals}
        self.carrier = Carrier(api, self.resources.values())
        self.changed = self.carrier.changed
        self.recorder = Recorder()
        self._entries: dict[str, dict[tuple[str, str], Entry]] = {plural: {} for plural in self.resources}
        self._by_node: dict[str, set[tuple[str, str]]] = {}
        self._by_owner: dict[str, set[Key]] = {}
        self._changes: set[Key] = set()
        self._rng = random.Random()  # noqa: S311 - names, not secrets

    def start(self, seconds: float = 30) -> None:
        """Start watching, and wait until each resource that exists has been listed once."""
        self.carrier.start(seconds)
        self.sync()

    def close(self) -> None:
        """Send what still waits, stop watching and close the connections."""
        self.carrier.close()

    @property
    def sent(self) -> int:
        """Give how many writes were answered."""
        return self.carrier.sent

    # --- what there is ------------------------------------------------------------------------------------------------

    def all(self, plural: str, namespace: str | None = None) -> list[Object]:
        """Give the objects of a resource, as they will be once the writes under way are done. Do not change them."""
        return [
            entry.view
            for (place, _), entry in self._entries[plural].items()
            if entry.view is not None and (namespace is None or place == namespace)
        ]

    def get(self, plural: str, namespace: str | None, name: str) -> Object | None:
        """Give one object; None if there is none."""
        entry = self._entries[plural].get((namespace or "", name))
        return entry.view if entry else None

    def by_node(self, node: str) -> list[Object]:
        """Give the pods that are bound to a node."""
        pods = self._entries["pods"]
        return [view for key in self._by_node.get(node, ()) if (view := pods[key].view) is not None]

    def by_owner(self, uid: str) -> list[Object]:
        """Give the objects whose controller has this uid, of all resources that are watched."""
        found = (self._entries[plural][place, name].view for plural, place, name in self._by_owner.get(uid, ()))
        return [view for view in found if view is not None]

    def changes(self) -> set[Key]:
        """Give what has changed since the last call."""
        found, self._changes = self._changes, set()
        return found

    def has_changes(self) -> bool:
        """Tell whether there are any."""
        return bool(self._changes)

    def idle(self) -> bool:
        """Tell whether no write of a cached object is under way."""
        return not any(entry.flying for entries in self._entries.values() for entry in entries.values())

    # --- writes -------------------------------------------------------------------------------------------------------

    def create(self, plural: str, obj: Object) -> str:
        """Create an object and give its name, which for `generateName` is made up here.

        Until the server has answered, the cached object has no uid.
        """
        about = obj["metadata"]
        name = str(about.get("name") or about["generateName"] + "".join(self._rng.choices(LETTERS, k=5)))
        obj = {**obj, "metadata": {**about, "name": name}}
        self._write(Write("create", self._resource(plural), about.get("namespace") or "", name, "", obj))
        return name

    def patch(self, plural: str, namespace: str | None, name: str, patch: Object, subresource: str = "") -> None:
        """Send a JSON merge patch (RFC 7386: lists are replaced as a whole)."""
        self._write(Write("patch", self._resource(plural), namespace or "", name, subresource, patch))

    def modify(self, plural: str, namespace: str | None, name: str, change: Change) -> None:
        """Send the merge patch that `change` makes of the object, and make it anew if somebody else was quicker.

        For lists to which others add too, such as taints. None from `change`: there is nothing to do.
        """
        self._write(Write("modify", self._resource(plural), namespace or "", name, "", {}, change))

    def delete(self, plural: str, namespace: str | None, name: str, grace: int | None = None) -> None:
        """Delete an object, the one with the uid that is cached and no other."""
        body: Object = {"kind": "DeleteOptions", "apiVersion": "v1"}
        obj = self.get(plural, namespace, name)
        if obj is not None and obj["metadata"].get("uid"):
            body["preconditions"] = {"uid": obj["metadata"]["uid"]}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        self._write(Write("delete", self._resource(plural), namespace or "", name, "", body))

    def bind(self, pod: Object, node: str) -> None:
        """Bind a pod to a node."""
        about = pod["metadata"]
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": about["name"], "namespace": about["namespace"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        self._write(Write("bind", self._resource("pods"), about["namespace"], about["name"], "binding", body))

    def event(
        self,
        obj: Object,
        type: str,
        reason: str,
        message: str,
        component: str,
        *,
        host: str = "",
        field_path: str = "",
    ) -> None:
        """Record an event about an object; one that repeats is counted, as client-go's recorder does."""
        found = self.recorder.record(obj, type, reason, message, component=component, host=host, field_path=field_path)
        if found is None:
            return
        verb, namespace, name, body = found
        if self.carrier.waiting() < MOST_WAITING:
            self.carrier.put(Write(verb, EVENTS, namespace, name, "", body), LATER)

    def blind(self, verb: str, resource: Resource, namespace: str, name: str, body: Object) -> None:
        """Send a write of something that is not cached, and do not look at the answer: heartbeats."""
        self.carrier.put(Write(verb, resource, namespace, name, "", body))

    # --- inside: the loop's thread ------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Take in what has arrived. Everything else here is as it was at the last call, plus one's own writes."""
        while self.carrier.inbox:
            plural, what, value = self.carrier.inbox.popleft()
            match what:
                case "listed":
                    self._relisted(plural, *value)
                case "answer":
                    self._answered(*value)
                case _:
                    self._seen(plural, value, gone=what == "DELETED")

    def _resource(self, plural: str) -> Resource:
        return self.resources[plural]

    def _write(self, write: Write) -> None:
        plural = write.resource.plural
        entry = self._entries[plural].setdefault((write.namespace, write.name), Entry())
        last = entry.waiting[-1] if entry.waiting else None
        both = last and last.verb == write.verb == "patch" and last.subresource == write.subresource
        together = compose(last.body, write.body) if last and both else None
        if last and together is not None:
            last.body = together
        else:
            entry.waiting.append(write)
        self._next(entry)
        self._show(plural, write.namespace, write.name, entry)

    def _next(self, entry: Entry) -> None:
        while entry.flying is None and entry.waiting:
            write = entry.waiting.pop(0)
            if write.change:
                patch = write.change(entry.base) if entry.base else None
                if not patch:
                    continue
                write.body = merged(patch, {"metadata": {"resourceVersion": str(entry.version)}})
            entry.flying = write
            self.carrier.put(write)

    def _answered(self, write: Write, answer: Object | None, status: int) -> None:
        plural = write.resource.plural
        entry = self._entries[plural].get((write.namespace, write.name))
        if entry is None or entry.flying is not write:
            return
        entry.flying = None
        if status == CONFLICT and write.change:
            entry.waiting.insert(0, write)
        if answer is not None and answer.get("kind") != "Status" and not ended(write, answer):
            self._fresher(entry, answer)
        elif write.verb == "delete" and (answer is not None or status == 404):
            self._deleted(entry, write)
        elif write.verb == "bind" and answer is not None:
            entry.base = write.shown(entry.base)  # the answer is no pod; the watch will bring it
        elif answer is None:
            self._changes.add((plural, write.namespace, write.name))
        self._next(entry)
        self._show(plural, write.namespace, write.name, entry)

    def _seen(self, plural: str, obj: Object, *, gone: bool) -> None:
        place, name = place_of(obj)
        entry = self._entries[plural].setdefault((place, name), Entry())
        if not gone:
            self._fresher(entry, obj)
        else:
            if entry.ended == uid_of(obj):
                entry.ended = ""
            if version_of(obj) >= entry.version:
                entry.version, entry.base = version_of(obj), None
        self._show(plural, place, name, entry)

    def _relisted(self, plural: str, version: int, objects: list[Object]) -> None:
        """Take in a list. What an answer has brought since it was made is not missing from it."""
        found = {place_of(obj) for obj in objects}
        for obj in objects:
            self._seen(plural, obj, gone=False)
        for (place, name), entry in list(self._entries[plural].items()):
            there = entry.base is not None or entry.ended
            if there and (place, name) not in found and entry.version <= version:
                entry.base, entry.ended = None, ""
                self._show(plural, place, name, entry)

    def _deleted(self, entry: Entry, write: Write) -> None:
        """Forget an object that a deletion has ended: the one that was meant, not one that came after it."""
        meant = (write.body.get("preconditions") or {}).get("uid")
        if entry.base is not None and meant in {None, uid_of(entry.base)}:
            entry.ended, entry.base = uid_of(entry.base), None

    def _fresher(self, entry: Entry, obj: Object) -> None:
        """Take an object of the server's unless this or a later one is known. Versions are comparable: KEP-5504.

        An answer may be here before the events of what was earlier, and two say no version: a binding's and a
        deletion's. Nothing undoes either, so a pod that is not bound any more, or an object that is there again under
        the same uid, is an earlier one.
        """
        version = version_of(obj)
        unbound = entry.base is not None and node_of(entry.base) and not node_of(obj)
        if uid_of(obj) == entry.ended or (unbound and uid_of(obj) == uid_of(entry.base)):
            return
        if version > entry.version or (version == entry.version and entry.base is None):
            entry.version, entry.base = version, obj

    def _show(self, plural: str, place: str, name: str, entry: Entry) -> None:
        """Work out the view anew, and keep the indexes and the changes by it."""
        view = entry.base
        for write in ([entry.flying] if entry.flying else []) + entry.waiting:
            view = write.shown(view)
        before, entry.view = entry.view, view
        if before is not view:
            self._changes.add((plural, place, name))
            if not self.changed.is_set():
                self.changed.set()
            self._index(plural, place, name, before, view)
        if view is None and entry.flying is None and not entry.waiting and not entry.ended:
            self._entries[plural].pop((place, name), None)

    def _index(self, plural: str, place: str, name: str, before: Object | None, view: Object | None) -> None:
        if before and view and before["metadata"] is view["metadata"] and before.get("spec") is view.get("spec"):
            return  # a patch of the status: owner and node are what they were
        for old, new, index, key in self._indexed(plural, place, name, before, view):
            if old == new:
                continue
            if old and old in index:
                index[old].discard(key)
                if not index[old]:
                    del index[old]
            if new:
                index.setdefault(new, set()).add(key)

    def _indexed(
        self, plural: str, place: str, name: str, before: Object | None, view: Object | None
    ) -> Iterator[tuple[str, str, Any, Any]]:
        yield owner_of(before), owner_of(view), self._by_owner, (plural, place, name)
        if plural == "pods":
            yield node_of(before), node_of(view), self._by_node, (place, name)


def owner_of(obj: Object | None) -> str:
    """Give the uid of an object's controller; "" if it has none."""
    references = ((obj or {}).get("metadata") or {}).get("ownerReferences") or ()
    return next((str(each["uid"]) for each in references if each.get("controller")), "")


def node_of(obj: Object | None) -> str:
    """Give the node that a pod is bound to; "" if it is to none."""
    return str((obj or {}).get("spec", {}).get("nodeName") or "")


def uid_of(obj: Object | None) -> str:
    """Give an object's uid; "" before the server has given it one."""
    return str((obj or {}).get("metadata", {}).get("uid") or "")


def version_of(obj: Object) -> int:
    """Give an object's version."""
    return int(obj["metadata"]["resourceVersion"])


def place_of(obj: Object) -> tuple[str, str]:
    """Give the namespace ("" if none) and the name of an object."""
    return obj["metadata"].get("namespace") or "", obj["metadata"]["name"]
