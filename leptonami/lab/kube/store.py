"""The store of the API server: create, read, change, delete, list and watch.

What differs between kinds is elsewhere: `defaults.py`, `validation.py` and `rules.py`, `subresources.py`, `crds.py`;
what follows from a deletion in `collector.py`; how objects are held in `memory.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from leptonami.lab.kube import apply, crds, defaults, errors, lists, patches, subresources, validation
from leptonami.lab.kube.history import Event, Watch, bookmark
from leptonami.lab.kube.memory import Memory, share
from leptonami.lab.kube.objects import Object, clone, key_of, new_uid, order, random_suffix, timestamp
from leptonami.lab.kube.options import DeleteOptions, Options, Page
from leptonami.lab.kube.resources import Kind
from leptonami.lab.kube.schemas import Schemas
from leptonami.lab.kube.selectors import selector
from leptonami.lab.kube.versions import convert

__all__ = ["DeleteOptions", "Options", "Page", "Store"]

HISTORY = 10_000
"""Changes that are kept per storage (up to twice as many); the real watch cache holds up to 102,400."""
APART = frozenset({"metadata", "status"})
GENERATE_TRIES = 8
"""How often a generated name that is taken is drawn again (RetryGenerateName)."""
LONGEST_BASE = 58
"""Of a generated name: what is longer is cut, so that the name can be a label's value."""
Objects = list[Object]


class Store(Memory):
    """All objects of one API server.

    Parameters
    ----------
    version
        The Kubernetes version whose schemas are used, such as `1.30`; the newest that is known by default.
    history
        How many changes are kept per storage.
    """

    def __init__(self, *, version: str = "", history: int = HISTORY) -> None:
        super().__init__(history)
        self.schemas = Schemas(version)
        with self.lock:
            for storage, obj in defaults.beginnings():
                kind = self.registry.stored(storage)
                obj["metadata"] |= {"uid": new_uid(), "creationTimestamp": timestamp()}
                defaults.on_create(kind, obj)
                self.commit(storage, None, {"apiVersion": kind.api_version, "kind": kind.kind, **obj})

    # Reading

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """Give one object; a 404 if there is none."""
        return convert(self.held(kind, namespace, name), kind)

    def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        limit: int = 0,
        token: str = "",
        resource_version: str = "",
        match: str = "",
    ) -> Page:
        """List objects, in the order of namespace and name.

        Raises
        ------
        ApiError
            400; 410 for a moment that is too far back, 504 for one that is yet to come.
        """
        wanted = selector(kind, labels, fields)
        namespace = wanted.value("metadata", "namespace") if namespace is None and kind.namespaced else namespace
        with self.lock:
            exact, after = (
                lists.read_token(token)
                if token
                else (lists.read_version(resource_version, self._version, match=match, limit=limit), None)
            )
            table = self.table(kind.storage)
            keys, objects = table.keys, table.objects
            if exact is None:
                node = wanted.value("spec", "nodeName") if kind.storage == "pods" else None
                if node:
                    keys = sorted(table.by_node.get(node, ()), key=order)
            else:
                keys, objects = lists.moment(table.history, keys, objects, exact, paging=bool(token))
            scope = namespace if kind.namespaced else ""
            low, high = lists.bounds(keys, scope, wanted.value("metadata", "name"), after)
            part = keys[low : min(high, low + limit + 1) if limit and not wanted else high]
            items = [objects[key] for key in part]
            version = self._version if exact is None else exact
        page = lists.page(part, items, wanted, limit=limit, version=version, total=high - low)
        return replace(page, items=[convert(each, kind) for each in page.items])

    def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        resource_version: str = "",
        match: str = "",
        initial: bool | None = None,
        bookmarks: bool = False,
    ) -> Watch:
        """Watch objects.

        Parameters
        ----------
        initial
            `sendInitialEvents`: True starts with the objects there are and a bookmark that says so. When
            it is not given, a watch without a version (or from 0) starts with them, without the bookmark.

        Raises
        ------
        ApiError
            410: the log does not reach back to that version. 422: options that do not go together.
        """
        wanted = selector(kind, labels, fields)
        if problem := subresources.watch_problem(initial, match):
            raise errors.invalid("meta.k8s.io", "ListOptions", "", [problem])
        about = (kind.api_version, kind.kind)
        with self.lock:
            lists.read_version(resource_version, self._version)
            history = self.table(kind.storage).history
            if initial or (initial is None and resource_version in {"", "0"}):
                page = self.list(kind, namespace, labels=labels, fields=fields)
                first = [Event("ADDED", each, int(each["metadata"]["resourceVersion"])) for each in page.items]
                if initial and bookmarks:
                    first.append(bookmark(about, self._version, initial_end=True))
                place = history.end()
            else:
                first = []
                place = history.end() if resource_version in {"", "0"} else history.place(int(resource_version))
            return Watch(
                history=history,
                namespace=namespace if kind.namespaced else None,
                selector=wanted,
                convert=lambda obj: convert(obj, kind),
                current=lambda: self._version,
                about=about,
                first=first,
                place=place,
                bookmarks=bookmarks,
            )

    # Writing

    def create(
        self, kind: Kind, namespace: str | None, obj: Object, *, options: Options, tracked: bool = False
    ) -> Object:
        """Create an object. `tracked` says that its `managedFields` are right already (a server-side apply).

        Raises
        ------
        ApiError
            400, 403 (the namespace goes away), 404 (no such namespace), 409, 422.
        """
        new = clone(obj)
        validation.check_identity(kind, namespace, "", new)
        meta = new["metadata"]
        if meta.get("resourceVersion"):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        if kind.namespaced:
            meta["namespace"] = namespace or meta.get("namespace") or "default"
        if not meta.get("name") and meta.get("generateName"):
            tries = (meta["generateName"][:LONGEST_BASE] + random_suffix() for _ in range(GENERATE_TRIES))
            meta["name"] = next((each for each in tries if not self.peek(kind, meta.get("namespace"), each)), "")
        for each in ("resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"):
            meta.pop(each, None)
        new = validation.decode(self.schemas, kind, new, options)
        meta.update(uid=new_uid(), creationTimestamp=timestamp())
        if kind.generation or kind.custom:
            meta["generation"] = 1
        defaults.on_create(kind, new)
        with self.writing():
            self.collector.admit(kind, meta)
            defaults.allocate(self, kind, new)
            validation.check(self.schemas, kind, new, None)
            if key_of(new) in self.table(kind.storage).objects:
                raise errors.already_exists(kind.group, kind.plural, meta["name"])
            if not tracked:
                apply.track(self.schemas, kind, None, new, manager=options.manager)
            if options.dry_run:
                return new
            share({}, new)
            stored = self.commit(kind.storage, None, convert(new, self.registry.stored(kind.storage)))
            crds.changed(self, kind, stored)
        return convert(self.table(kind.storage).objects.get(key_of(new), stored), kind)

    def update(
        self, kind: Kind, namespace: str | None, name: str, obj: Object, *, subresource: str = "", options: Options
    ) -> tuple[Object, bool]:
        """Replace an object, or one of its subresources. Gives it, and whether it was created.

        Raises
        ------
        ApiError
            400, 404, 409 (it was changed meanwhile), 422.
        """
        obj = clone(obj)
        validation.check_identity(kind, namespace, name, obj)
        with self.writing():
            if kind.put_creates and not subresource and self.peek(kind, namespace, name) is None:
                obj["metadata"].pop("resourceVersion", None)
                return self.create(kind, namespace, obj, options=options), True
            old = self.held(kind, namespace, name)
            if (kind.versioned or kind.custom) and not obj["metadata"].get("resourceVersion"):
                raise errors.invalid(kind.group, kind.kind, name, [validation.NO_VERSION])
            return self.change(kind, old, lambda _: obj, subresource=subresource, options=options), False

    def patch(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        patch: Any,
        content_type: str,
        *,
        subresource: str = "",
        options: Options,
    ) -> tuple[Object, bool]:
        """Patch an object; a server-side apply creates what is not there. Gives it, and whether it was created.

        Raises
        ------
        ApiError
            400, 404, 409 (it was changed, or another manager owns a field), 415, 422.
        """
        with self.writing():
            if not patches.is_apply(content_type):
                function = patches.patcher(self.schemas, kind, patch, content_type)
                old = self.held(kind, namespace, name)
                return self.change(kind, old, function, subresource=subresource, options=options), False
            if isinstance(patch, dict) and not (patch.get("apiVersion") and patch.get("kind")):
                raise errors.bad_request("Object 'apiVersion' or 'Kind' is missing in the body of the request")
            validation.check_identity(kind, namespace, name, patch)
            live = self.peek(kind, namespace, name) if not subresource else self.held(kind, namespace, name)
            new = apply.merge(
                self.schemas,
                kind,
                convert(live, kind) if live else None,
                patch,
                subresource=subresource,
                options=options,
            )
            if live is None:
                return self.create(kind, namespace, new, options=options, tracked=True), True
            return self.change(kind, live, lambda _: new, subresource=subresource, options=options, tracked=True), False

    def change(
        self,
        kind: Kind,
        held: Object,
        function: Callable[[Object], Object],
        *,
        subresource: str = "",
        options: Options,
        tracked: bool = False,
    ) -> Object:
        """Change an object by a function of what it is; the function may change nothing that it is given.

        For those who hold the lock.
        """
        old = convert(held, kind)
        new = private(old, function(old))
        validation.check_identity(kind, old["metadata"].get("namespace"), old["metadata"]["name"], new)
        new = validation.decode(self.schemas, kind, new, options, old)
        subresources.restrict(kind, old, new, subresource)
        if any(value is not old.get(key) for key, value in new.items() if key not in APART):
            defaults.on_update(kind, old, new)
        validation.check(self.schemas, kind, new, old)
        if not tracked:
            apply.track(self.schemas, kind, old, new, manager=options.manager, subresource=subresource)
        if new == old:
            return old
        counted = (kind.generation or kind.custom) and subresource != "status"
        if counted and subresources.counts(kind, old, new):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
        if options.dry_run:
            return new
        share(old, new)
        stored = self.commit(kind.storage, held, convert(new, self.registry.stored(kind.storage)))
        crds.changed(self, kind, stored)
        self.collector.settle(kind, stored)
        return convert(stored, kind)

    # Deleting: the rules are the collector's

    def delete(self, kind: Kind, namespace: str | None, name: str, *, options: DeleteOptions | None = None) -> Object:
        """Delete an object, or mark it for deletion. Gives the body of the answer: the object, or a Status."""
        with self.writing():
            return self.collector.delete(kind, self.held(kind, namespace, name), options or DeleteOptions())

    def delete_collection(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        labels: str = "",
        fields: str = "",
        options: DeleteOptions | None = None,
    ) -> Objects:
        """Delete all that is selected. Gives what was."""
        with self.writing():
            items = self.list(kind, namespace, labels=labels, fields=fields).items
            for each in items:
                self.delete(kind, each["metadata"].get("namespace"), each["metadata"]["name"], options=options)
            return items


def private(old: Object, new: Object) -> Object:
    """Give a copy that may be changed: of the metadata, and of all that a function has not left as it was."""
    return {key: value if value is old.get(key) and key != "metadata" else clone(value) for key, value in new.items()}
