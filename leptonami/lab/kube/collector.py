"""What follows from a deletion: grace, finalizers, dependents, and what is in a namespace.

In a real cluster the garbage collector and the namespace controller do this a moment later, in the controller manager;
here it is done within the request that causes it, so that its outcome does not depend on luck.
https://kubernetes.io/docs/concepts/architecture/garbage-collection/
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from leptonami.lab.kube import crds, errors
from leptonami.lab.kube.lists import bounds
from leptonami.lab.kube.objects import Key, Object, drop, key_of, timestamp, value_at
from leptonami.lab.kube.options import DeleteOptions
from leptonami.lab.kube.resources import Kind

if TYPE_CHECKING:
    from leptonami.lab.kube.memory import Memory

__all__ = ["Collector"]

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
IMMORTAL = frozenset({"default", "kube-system", "kube-public"})
ORPHANED = frozenset({"jobs.batch", "replicationcontrollers"})
"""What leaves its dependents behind when a client does not say (DefaultGarbageCollectionPolicy); kubectl does."""
Place = tuple[str, Key]


class Collector:
    """Deletes, and collects what a deletion leaves behind. Its callers hold the store's lock."""

    def __init__(self, store: Memory) -> None:
        self._store = store
        self._by_uid: dict[str, Place] = {}
        self._dependents: dict[str, dict[str, None]] = {}
        self._work: deque[str] = deque()
        self._namespaces: dict[str, None] = {}

    def note(self, storage: str, old: Object | None, new: Object | None) -> None:
        """Keep the indexes of uids and owners, and remember what has to be looked at."""
        before, after = _owners(old), _owners(new)
        obj = new or old or {}
        uid = obj["metadata"]["uid"]
        if old is None:
            self._by_uid[uid] = (storage, key_of(obj))
        elif new is None:
            self._by_uid.pop(uid, None)
            self._work.extend(self._dependents.get(uid, ()))
            self._work.extend(before)
            namespace = obj["metadata"].get("namespace")
            if namespace and value_at(self._namespace(namespace), "metadata.deletionTimestamp"):
                self._namespaces[namespace] = None
            definition = self._store.table(crds.STORAGE).objects.get(("", storage))
            if definition and definition["metadata"].get("deletionTimestamp"):
                self._work.append(definition["metadata"]["uid"])
        for owner in before - after:
            self._dependents[owner].pop(uid, None)
            if not self._dependents[owner]:
                del self._dependents[owner]
        for owner in after - before:
            self._dependents.setdefault(owner, {})[uid] = None
        if after - before:
            self._work.append(uid)

    def _namespace(self, name: str) -> Object | None:
        return self._store.table("namespaces").objects.get(("", name))

    def admit(self, kind: Kind, meta: Object) -> None:
        """Refuse a new object whose namespace is missing or goes away."""
        name = meta.get("namespace", "")
        namespace = self._namespace(name)
        if not kind.namespaced or (namespace and not namespace["metadata"].get("deletionTimestamp")):
            return
        if namespace is None:
            raise errors.not_found("", "namespaces", name)
        why = f"unable to create new content in namespace {name} because it is being terminated"
        cause = errors.cause("NamespaceTerminating", "metadata.namespace", f"namespace {name} is being terminated")
        raise errors.forbidden(kind.group, kind.plural, meta["name"], why, [cause])

    def run(self) -> None:
        """Do what is left to do, until nothing is."""
        while self._work or self._namespaces:
            while self._work:
                self._look_at(self._work.popleft())
            if self._namespaces:
                self._empty(next(iter(self._namespaces)))

    def delete(self, kind: Kind, obj: Object, options: DeleteOptions) -> Object:
        """Delete an object as a client asks for it. Gives the body of the answer: the object, or a Status."""
        _check_preconditions(kind, obj, options)
        if kind.storage == "namespaces" and obj["metadata"]["name"] in IMMORTAL:
            raise errors.forbidden("", "namespaces", obj["metadata"]["name"], "this namespace may not be deleted")
        propagation = options.propagation or ("Orphan" if kind.storage in ORPHANED else "")
        marked = self._mark(kind, obj, options.grace, propagation)
        if options.dry_run:
            return marked or obj
        if marked is None:
            gone = self._store.commit(kind.storage, obj, None)
            if kind.returned:
                return gone
        elif marked is not obj:
            obj = self._store.commit(kind.storage, obj, marked)
            self._work.append(obj["metadata"]["uid"])
            if kind.storage == "namespaces":
                self._namespaces[obj["metadata"]["name"]] = None
            return obj
        else:
            return obj
        about = {
            "name": obj["metadata"]["name"],
            "group": kind.group,
            "kind": kind.plural,
            "uid": obj["metadata"]["uid"],
        }
        return errors.status_body("Success", details={key: value for key, value in about.items() if value})

    def settle(self, kind: Kind, obj: Object) -> None:
        """Remove an object that waited for its last finalizer, once that is gone."""
        meta = obj["metadata"]
        if meta.get("deletionTimestamp"):
            waits = meta.get("finalizers") or meta.get("deletionGracePeriodSeconds")
            if not waits and not (kind.storage == "namespaces" and value_at(obj, "spec.finalizers")):
                self._store.commit(kind.storage, obj, None)
            else:
                self._work.append(meta["uid"])

    def _mark(self, kind: Kind, obj: Object, grace: int | None, propagation: str) -> Object | None:
        """Give the object as it is while it waits for its end; itself if nothing changes, None if it goes at once."""
        meta = obj["metadata"]
        finalizers = list(meta.get("finalizers") or ())
        if propagation in {"Foreground", "Orphan", "Background"}:
            finalizers = [each for each in finalizers if each not in {FOREGROUND, ORPHAN}]
            finalizers += {"Foreground": [FOREGROUND], "Orphan": [ORPHAN]}.get(propagation, [])
        if kind.storage == crds.STORAGE and not meta.get("deletionTimestamp"):
            finalizers.append(crds.CLEANUP)
        seconds = _grace(kind, obj, grace)
        if not finalizers and not seconds and kind.storage != "namespaces":
            return None
        new = dict(meta, finalizers=finalizers) if finalizers else drop(meta, "finalizers")
        if not meta.get("deletionTimestamp") or seconds < meta.get("deletionGracePeriodSeconds", 0):
            new |= {"deletionTimestamp": timestamp(seconds), "deletionGracePeriodSeconds": seconds}
            if kind.storage == "namespaces":
                del new["deletionGracePeriodSeconds"]
            if "generation" in new:
                new["generation"] += 1
        if new == meta:
            return obj
        changed = {**obj, "metadata": new}
        if kind.storage == "namespaces":
            changed["status"] = {**obj.get("status", {}), "phase": "Terminating"}
        return changed

    def _look_at(self, uid: str) -> None:
        """Bring one object on: away when its owners are gone or going, on when its dependents are."""
        if uid not in self._by_uid:
            return
        storage, key = self._by_uid[uid]
        obj = self._store.table(storage).objects[key]
        kind = self._store.registry.stored(storage)
        finalizers = obj["metadata"].get("finalizers") or ()
        if obj["metadata"].get("deletionTimestamp"):
            if ORPHAN in finalizers:
                self._orphan(uid)
                self._release(kind, obj, ORPHAN)
            elif FOREGROUND in finalizers and not self._delete_dependents(uid):
                self._release(kind, obj, FOREGROUND)
            elif crds.CLEANUP in finalizers and storage == crds.STORAGE:
                self._undefine(kind, obj)
            return
        references = obj["metadata"].get("ownerReferences") or ()
        if references and all(self._gone(each, obj) for each in references):
            self._remove(kind, obj, "Background")

    def _gone(self, reference: Object, dependent: Object) -> bool:
        """Tell whether an owner is gone. One of a kind that is not served is unknown: nothing is done about it."""
        kind = self._store.registry.by_kind(reference.get("apiVersion", ""), reference.get("kind", ""))
        if kind is None:
            return False
        storage, key = self._by_uid.get(reference["uid"], ("", ("", "")))
        return storage != kind.storage or (kind.namespaced and key[0] != dependent["metadata"].get("namespace"))

    def _children(self, uid: str) -> list[tuple[Kind, Object]]:
        places = [self._by_uid[each] for each in self._dependents.get(uid, ())]
        return [(self._store.registry.stored(at), self._store.table(at).objects[key]) for at, key in places]

    def _delete_dependents(self, uid: str) -> bool:
        """Delete the dependents in the foreground; tell whether some are left that block their owner."""
        for kind, each in self._children(uid):
            references = each["metadata"]["ownerReferences"]
            if each["metadata"].get("deletionTimestamp") or any(
                other["uid"] != uid and not self._gone(other, each) for other in references
            ):
                continue
            self._remove(kind, each, "Foreground" if each["metadata"]["uid"] in self._dependents else "")
        left = [other for _, each in self._children(uid) for other in each["metadata"]["ownerReferences"]]
        return any(other["uid"] == uid and other.get("blockOwnerDeletion") for other in left)

    def _undefine(self, kind: Kind, definition: Object) -> None:
        """Delete the objects of a custom kind; when none is left, the kind goes with its definition."""
        name = definition["metadata"]["name"]
        table = self._store.table(name)
        for each in list(table.objects.values()):
            if not each["metadata"].get("deletionTimestamp"):
                self._remove(self._store.registry.stored(name), each, "Background")
        if not table.objects:
            for served in crds.served(self._store, name):
                self._store.registry.remove(served)
            self._store.forget(name)
            self._release(kind, definition, crds.CLEANUP)

    def _orphan(self, uid: str) -> None:
        for kind, each in self._children(uid):
            references = [other for other in each["metadata"]["ownerReferences"] if other["uid"] != uid]
            meta = drop(each["metadata"], "ownerReferences") | ({"ownerReferences": references} if references else {})
            self._store.commit(kind.storage, each, {**each, "metadata": meta})

    def _release(self, kind: Kind, obj: Object, finalizer: str) -> None:
        left = [each for each in obj["metadata"]["finalizers"] if each != finalizer]
        meta = drop(obj["metadata"], "finalizers") | ({"finalizers": left} if left else {})
        self.settle(kind, self._store.commit(kind.storage, obj, {**obj, "metadata": meta}))

    def _remove(self, kind: Kind, obj: Object, propagation: str) -> None:
        marked = self._mark(kind, obj, None, propagation)
        if marked is not obj:
            self._store.commit(kind.storage, obj, marked)
            if marked is not None:
                self._work.append(obj["metadata"]["uid"])

    def _empty(self, name: str) -> None:
        """Delete what a namespace holds; when nothing is left, let it go."""
        self._namespaces.pop(name)
        namespace = self._namespace(name)
        if namespace is None:
            return
        left: list[tuple[Kind, Object]] = []
        for storage, table in self._store.tables():
            kind = self._store.registry.stored(storage)
            low, high = bounds(table.keys, name)
            for key in table.keys[low:high] if kind.namespaced else ():
                obj = table.objects[key]
                if not obj["metadata"].get("deletionTimestamp"):
                    self._remove(kind, obj, "Background")
                if key in table.objects:
                    left.append((kind, table.objects[key]))
        self._namespaces.pop(name, None)
        status = {**namespace["status"], "conditions": _conditions(left)}
        if left:
            if value_at(namespace, "status.conditions") != status["conditions"]:
                self._store.commit("namespaces", namespace, {**namespace, "status": status})
            return
        changed = {**namespace, "spec": {}, "status": status}
        self.settle(self._store.registry.stored("namespaces"), self._store.commit("namespaces", namespace, changed))


def _owners(obj: Object | None) -> set[str]:
    return {each["uid"] for each in obj["metadata"].get("ownerReferences") or ()} if obj else set()


def _grace(kind: Kind, obj: Object, wanted: int | None) -> int:
    """Give the seconds that a deletion waits: only a pod that a kubelet has to stop waits at all.

    k8s.io/kubernetes/pkg/registry/core/pod, CheckGracefulDelete.
    """
    if kind.storage != "pods" or not value_at(obj, "spec.nodeName"):
        return 0
    if value_at(obj, "status.phase") in {"Succeeded", "Failed"}:
        return 0
    default = value_at(obj, "spec.terminationGracePeriodSeconds", 30)
    return max(default if wanted is None else wanted, 0)


def _check_preconditions(kind: Kind, obj: Object, options: DeleteOptions) -> None:
    meta = obj["metadata"]
    for name, wanted, have in (
        ("UID", options.uid, meta["uid"]),
        ("ResourceVersion", options.resource_version, meta["resourceVersion"]),
    ):
        if wanted and wanted != have:
            why = f"Precondition failed: {name} in precondition: {wanted}, {name} in object meta: {have}"
            raise errors.conflict(kind.group, kind.plural, meta["name"], why)


def _conditions(left: list[tuple[Kind, Object]]) -> list[Object]:
    """Say what a namespace that goes away waits for: k8s.io/kubernetes/pkg/controller/namespace/deletion."""
    kinds: dict[str, int] = {}
    finalizers: dict[str, int] = {}
    for kind, obj in left:
        kinds[kind.resource] = kinds.get(kind.resource, 0) + 1
        for each in obj["metadata"].get("finalizers") or ():
            finalizers[each] = finalizers.get(each, 0) + 1
    remaining = ", ".join(f"{name} has {count} resource instances" for name, count in sorted(kinds.items()))
    blocked = ", ".join(f"{name} in {count} resource instances" for name, count in sorted(finalizers.items()))
    content = "Some resources are remaining", "All content successfully removed"
    finals = "Some content in the namespace has finalizers remaining", "All content-preserving finalizers finished"
    return [
        _condition("NamespaceContentRemaining", remaining, ("SomeResourcesRemain", "ContentRemoved"), content),
        _condition("NamespaceFinalizersRemaining", blocked, ("SomeFinalizersRemain", "ContentHasNoFinalizers"), finals),
    ]


def _condition(name: str, told: str, reasons: tuple[str, str], messages: tuple[str, str]) -> Object:
    """Give a condition that is true as long as there is something to tell."""
    return {
        "type": name,
        "status": "True" if told else "False",
        "reason": reasons[not told],
        "message": f"{messages[0]}: {told}" if told else messages[1],
        "lastTransitionTime": timestamp(),
    }
