"""What is done with resources: the options are read, the store is asked, and the answer is put into its form."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from leptonami.lab.kube import logs, patches, reviews, subresources, tables, watching
from leptonami.lab.kube.auth import Authenticator
from leptonami.lab.kube.discovery import verbs_of
from leptonami.lab.kube.errors import ApiError, bad_request, invalid, required, unsupported_value
from leptonami.lab.kube.formats import Format, answer, choose, media_type, read, warnings
from leptonami.lab.kube.history import Watch
from leptonami.lab.kube.objects import Object, value_at
from leptonami.lab.kube.resources import Kind, column
from leptonami.lab.kube.server import Request, Response
from leptonami.lab.kube.store import DeleteOptions, Options, Store

__all__ = ["Target", "Verbs", "no_such", "not_allowed"]

DELETE_OPTIONS = {
    "gracePeriodSeconds": int,
    "propagationPolicy": str,
    "orphanDependents": bool,
    "preconditions": dict,
    "dryRun": list,
}
ACTIONS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch"}
SCALE_COLUMNS = ("Name", "Desired | integer | .spec.replicas", "Available | integer | .status.replicas", "Age")
SCALE = Kind("autoscaling", "v1", "scales", "Scale", "scale", True, columns=tuple(map(column, SCALE_COLUMNS)))
NO_SUCH = "the server could not find the requested resource"


@dataclass(frozen=True)
class Target:
    """What a path names: a kind, and then a namespace, an object and its subresource, as far as they are there."""

    kind: Kind
    namespace: str | None
    name: str = ""
    subresource: str = ""
    watch: bool = False


def no_such() -> ApiError:
    """Say that there is no such path."""
    return ApiError(404, "NotFound", NO_SUCH)


def not_allowed() -> ApiError:
    """Say that the path is right and the method is not."""
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


class Verbs:
    """Answers requests for objects from a store."""

    def __init__(self, store: Store, authenticator: Authenticator) -> None:
        self.store, self.authenticator = store, authenticator
        self.watches: weakref.WeakSet[Watch] = weakref.WeakSet()

    def close(self) -> None:
        """End the watches: those that wait would go on for a moment."""
        with self.store.lock:
            for each in self.watches:
                each.close()

    def answer(self, request: Request, target: Target) -> Response:  # noqa: PLR0911 - one line per verb
        """Answer a request for objects."""
        if target.subresource and ACTIONS.get(request.method) not in verbs_of(target.subresource):
            raise not_allowed()
        match request.method, bool(target.name), target.subresource:
            case "GET", True, "log":
                return self.log(request, target)
            case "GET", _, _ if target.watch or request.flag("watch"):
                return self.watch(request, target)
            case "GET" | "HEAD", named, _:
                return self.get(request, target) if named else self.list(request, target)
            case "POST" | "DELETE", False, _ if target.kind.namespaced and target.namespace is None:
                raise not_allowed()
            case "POST", False, _:
                return self.create(request, target)
            case "POST", True, sub if sub:
                return self.create_subresource(request, target)
            case "PUT", True, _:
                return self.put(request, target)
            case "PATCH", True, _:
                return self.patch(request, target)
            case "DELETE", _, "":
                return self.delete(request, target)
        raise not_allowed()

    @staticmethod
    def shaped(request: Request, kind: Kind, form: Format, found: Object, *, status: int = 200) -> Response:
        """Answer with one object, in the form that was asked for."""
        if found.get("kind") != "Status" and form.shape == "Table":
            meta = {"resourceVersion": value_at(found, "metadata.resourceVersion", "")}
            include = request.query.get("includeObject", "")
            found = tables.table(kind, [found], form.version, include=include, meta=meta)
        elif found.get("kind") != "Status" and form.shape == "PartialObjectMetadata":
            found = tables.partial(found, form.version)
        return answer(found, form, status)

    def get(self, request: Request, target: Target) -> Response:
        """Answer with an object, or with its scale."""
        form = choose(request, tables.SHAPES)
        found = self.store.get(target.kind, target.namespace, target.name)
        if target.subresource == "scale":
            return self.shaped(request, SCALE, form, subresources.scale(target.kind, found))
        return self.shaped(request, target.kind, form, found)

    def list(self, request: Request, target: Target) -> Response:
        """Answer with a list, or a page of it."""
        form, query, kind = choose(request, tables.SHAPES), request.query, target.kind
        page = self.store.list(
            kind,
            target.namespace,
            labels=query.get("labelSelector", ""),
            fields=query.get("fieldSelector", ""),
            limit=number(query, "limit"),
            token=query.get("continue", ""),
            resource_version=query.get("resourceVersion", ""),
            match=query.get("resourceVersionMatch", ""),
        )
        meta: Object = {"resourceVersion": str(page.resource_version)}
        if page.token:
            meta["continue"] = page.token
        if page.remaining:
            meta["remainingItemCount"] = page.remaining
        if form.shape == "Table":
            include = query.get("includeObject", "")
            return answer(tables.table(kind, page.items, form.version, include=include, meta=meta), form)
        if form.shape:
            return answer(tables.partial_list(page.items, form.version, meta), form)
        items = page.items
        if not kind.custom:
            # Typed lists do not repeat the kind in every item; those of custom resources do.
            items = [{key: each[key] for key in each if key not in {"kind", "apiVersion"}} for each in items]
        return answer({"kind": kind.list_kind, "apiVersion": kind.api_version, "metadata": meta, "items": items}, form)

    def watch(self, request: Request, target: Target) -> Response:
        """Answer with a stream of what happens."""
        form, query = choose(request, tables.SHAPES), request.query
        fields = query.get("fieldSelector", "")
        if target.name:
            fields = ",".join(filter(None, (fields, f"metadata.name={target.name}")))
        seconds = watching.lasting(query.get("timeoutSeconds", ""))
        try:
            watch = self.store.watch(
                target.kind,
                target.namespace,
                labels=query.get("labelSelector", ""),
                fields=fields,
                resource_version=query.get("resourceVersion", ""),
                match=query.get("resourceVersionMatch", ""),
                initial=request.flag("sendInitialEvents") if "sendInitialEvents" in query else None,
                bookmarks=request.flag("allowWatchBookmarks"),
            )
        except ApiError as problem:
            if problem.code != 410:
                raise
            return Response(watching.refused(problem))
        with self.store.lock:
            self.watches.add(watch)
        include = query.get("includeObject", "")
        shape = watching.shaper(target.kind, form, include)
        return Response(watching.stream(watch, shape, seconds=seconds, alive=request.alive))

    def create(self, request: Request, target: Target) -> Response:
        """Create an object."""
        form, options, body = choose(request, tables.SHAPES), self.options(request), self.body(request)
        if target.kind.storage == "pods" and body.get("kind") == "Binding":
            raise no_such()
        found = self.store.create(target.kind, target.namespace, body, options=options)
        return warned(self.shaped(request, target.kind, form, found, status=201), options)

    def create_subresource(self, request: Request, target: Target) -> Response:
        """Evict or bind a pod; make a token for a service account."""
        form, namespace, name = choose(request), target.namespace or "", target.name
        if target.subresource == "token":
            account = self.store.get(target.kind, namespace, name)
            return answer(reviews.token_request(account, self.read(request), self.authenticator), form, 201)
        body = self.body(request)
        if target.subresource == "binding":
            return answer(subresources.bind(self.store, namespace, name, body, self.options(request)), form, 201)
        options = delete_options(request, body.get("deleteOptions") or {})
        return answer(subresources.evict(self.store, namespace, name, body, options), form, 201)

    def put(self, request: Request, target: Target) -> Response:
        """Replace an object, one of its subresources, or its scale."""
        form, options, body = choose(request, tables.SHAPES), self.options(request), self.body(request)
        if target.subresource == "scale":
            return self.shaped(request, SCALE, form, self.rescale(target, lambda _: body, options))
        found, created = self.store.update(
            target.kind, target.namespace, target.name, body, subresource=target.subresource, options=options
        )
        return warned(self.shaped(request, target.kind, form, found, status=201 if created else 200), options)

    def patch(self, request: Request, target: Target) -> Response:
        """Patch an object, one of its subresources, or its scale."""
        form, options, media = choose(request, tables.SHAPES), self.options(request), media_type(request)
        if media == "application/apply-patch+yaml" and "fieldManager" not in request.query:
            causes = [required("fieldManager", "is required for apply patch")]
            raise invalid("meta.k8s.io", "PatchOptions", "", causes)
        if target.subresource == "scale":
            media = patches.MERGE_PATCH if patches.is_apply(media) else media
            change = patches.patcher(self.store.schemas, SCALE, self.read(request), media)
            return self.shaped(request, SCALE, form, self.rescale(target, change, options))
        found, created = self.store.patch(
            target.kind,
            target.namespace,
            target.name,
            self.read(request),
            media,
            subresource=target.subresource,
            options=options,
        )
        return warned(self.shaped(request, target.kind, form, found, status=201 if created else 200), options)

    def rescale(self, target: Target, change: Callable[[Object], Object], options: Options) -> Object:
        """Change a scale, which is no part of the object but a view of it."""
        return subresources.rescale(self.store, target.kind, target.namespace, target.name, change, options=options)

    def delete(self, request: Request, target: Target) -> Response:
        """Delete an object, or all that are selected."""
        form, kind = choose(request, tables.SHAPES), target.kind
        options = delete_options(request, self.read(request) or {})
        if target.name:
            found = self.store.delete(kind, target.namespace, target.name, options=options)
            return self.shaped(request, target.kind, form, found)
        items = self.store.delete_collection(
            kind,
            target.namespace,
            labels=request.query.get("labelSelector", ""),
            fields=request.query.get("fieldSelector", ""),
            options=options,
        )
        meta = {"resourceVersion": str(self.store.resource_version)}
        return answer({"kind": kind.list_kind, "apiVersion": kind.api_version, "metadata": meta, "items": items}, form)

    def log(self, request: Request, target: Target) -> Response:
        """Answer with a container's log."""
        pod = self.store.get(target.kind, target.namespace, target.name)
        node: Object | None = None
        with contextlib.suppress(ApiError):
            node = self.store.get(self.store.kind("nodes"), None, value_at(pod, "spec.nodeName", ""))
        return logs.open_log(pod, node, request.query, request.alive)

    def read(self, request: Request) -> Any:
        """Read a body."""
        return read(request, self.store.schemas)

    def body(self, request: Request) -> Object:
        """Read a body that must be an object."""
        body = self.read(request)
        if not isinstance(body, dict):
            raise bad_request("Object 'Kind' is missing in the body of the request: an object is expected")
        return body

    def options(self, request: Request) -> Options:
        """Read how to write."""
        query = request.query
        validation = query.get("fieldValidation") or "Warn"
        known = {"Strict", "Warn", "Ignore"}
        if validation not in known:
            raise invalid("meta.k8s.io", "CreateOptions", "", [unsupported_value("fieldValidation", validation, known)])
        agent = request.headers.get("user-agent", "").partition("/")[0] or "unknown"
        return Options(dry_run(query), query.get("fieldManager") or agent, request.flag("force"), validation)


def warned(response: Response, options: Options) -> Response:
    """Add what the client should be told of: fields that nobody knows, for example."""
    response.headers += warnings(options.warnings)
    return response


def dry_run(query: dict[str, str]) -> bool:
    """Tell whether nothing is to be changed."""
    wanted = query.get("dryRun", "")
    if wanted not in {"", "All"}:
        raise invalid("meta.k8s.io", "CreateOptions", "", [unsupported_value("dryRun", wanted, {"All"})])
    return bool(wanted)


def number(query: dict[str, str], name: str) -> int:
    """Read a parameter that is a number; 0 if it is not there."""
    text = query.get(name) or "0"
    if not (text.isascii() and text.isdigit()):
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)


def delete_options(request: Request, body: Any) -> DeleteOptions:
    """Read how to delete: the body, then what the query says."""
    if not isinstance(body, dict):
        raise bad_request("DeleteOptions must be an object")
    for name, kind in DELETE_OPTIONS.items():
        if name in body and type(body[name]) not in {kind, type(None)}:
            raise bad_request(f"DeleteOptions cannot be read: {name} is of the wrong type")
    query = request.query
    grace = body.get("gracePeriodSeconds")
    if "gracePeriodSeconds" in query:
        grace = number(query, "gracePeriodSeconds")
    propagation = query.get("propagationPolicy") or body.get("propagationPolicy") or ""
    orphan = body.get("orphanDependents", {"true": True, "false": False}.get(query.get("orphanDependents", "")))
    if not propagation and orphan is not None:
        propagation = "Orphan" if orphan else "Background"
    known = {"Orphan", "Background", "Foreground"}
    if propagation not in {"", *known}:
        raise invalid("meta.k8s.io", "DeleteOptions", "", [unsupported_value("propagationPolicy", propagation, known)])
    wanted = body.get("preconditions") or {}
    return DeleteOptions(
        dry_run=dry_run(query) or any(dry_run({"dryRun": str(each)}) for each in body.get("dryRun") or ()),
        grace=grace,
        propagation=propagation,
        uid=wanted.get("uid") or "",
        resource_version=wanted.get("resourceVersion") or "",
    )
