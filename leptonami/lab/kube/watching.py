"""Watches over HTTP: one JSON document a line, as long as the client listens."""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from leptonami.lab.kube import tables
from leptonami.lab.kube.errors import ApiError
from leptonami.lab.kube.formats import Format
from leptonami.lab.kube.history import Event, Watch
from leptonami.lab.kube.objects import Object
from leptonami.lab.kube.resources import Kind

__all__ = ["lasting", "refused", "shaper", "stream"]

LOOK_S = 1.0  # how often a watch that has nothing to say looks whether the client is still there
BLUEPRINT = "kubernetes.io/initial-events-list-blueprint"
LEAST_S = 1800.0  # --min-request-timeout: a watch lasts that long to twice that long, unless the client says


def lasting(seconds: str) -> float:
    """Give how long a watch lasts, from its `timeoutSeconds`."""
    if seconds.isascii() and seconds.isdigit() and int(seconds) > 0:
        return float(seconds)
    return LEAST_S * (1 + random.random())  # noqa: S311 - spreads the clients that come again


def line(kind: str, obj: Object) -> bytes:
    """Write one event."""
    return orjson.dumps({"type": kind, "object": obj}) + b"\n"


def refused(problem: ApiError) -> Iterator[bytes]:
    """Give a stream that says nothing but why there is no watch: as the real server, since clients expect 200."""
    yield line("ERROR", problem.status())


def stream(
    watch: Watch, shape: Callable[[Event], bytes], *, seconds: float, alive: Callable[[], bool]
) -> Iterator[bytes]:
    """Give the lines of a watch until its time is over, its kind is removed or the client has gone.

    What happened before the end is told, however late this thread looks: that its kind's objects went away, too.
    """
    until = time.monotonic() + seconds
    try:
        while alive():
            left = until - time.monotonic()
            events = watch.next(min(LOOK_S, max(left, 0.0)))
            if events:
                yield b"".join(map(shape, events))
            elif watch.ended:
                return
            if left <= 0:
                if last := watch.bookmark():
                    yield shape(last)
                return
    except ApiError as problem:
        yield line("ERROR", problem.status())
    finally:
        watch.close()


def ended(mark: Object, kind: Kind, form: Format) -> Object:
    """Add to the bookmark that ends the initial events what client-go makes its list of: an empty one, encoded."""
    notes = mark["metadata"].get("annotations")
    if notes is None:
        return mark
    about = {"kind": kind.list_kind, "apiVersion": kind.api_version}
    if form.shape:
        about = {"kind": "PartialObjectMetadataList", "apiVersion": f"{form.group}/{form.version}"}
    empty = base64.b64encode(orjson.dumps({**about, "metadata": {}, "items": []})).decode()
    return {**mark, "metadata": {**mark["metadata"], "annotations": {**notes, BLUEPRINT: empty}}}


def shaper(kind: Kind, form: Format, include: str) -> Callable[[Event], bytes]:
    """Give what writes an event: the object, its metadata, or a table with one row."""
    if form.shape == "Table":
        described: list[Any] = []

        def as_table(event: Event) -> bytes:
            meta = {"resourceVersion": event.obj["metadata"].get("resourceVersion", "")}
            if event.type == "BOOKMARK":
                rows = tables.table(kind, [], form.version, include=include, meta=meta)
                rows["rows"] = [{"cells": [], "object": tables.partial(event.obj, form.version)}]
            else:
                rows = tables.table(kind, [event.obj], form.version, include=include, meta=meta)
            # Only the first table of a watch says what the columns are.
            if described:
                rows["columnDefinitions"] = None
            described.append(True)
            return line(event.type, rows)

        return as_table

    def as_object(event: Event) -> bytes:
        obj = ended(event.obj, kind, form) if event.type == "BOOKMARK" else event.obj
        return line(event.type, tables.partial(obj, form.version) if form.shape else obj)

    return as_object
