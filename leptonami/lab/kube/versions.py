"""Several versions of one resource: the objects are held in one, and given out in the one that is asked for."""

from __future__ import annotations

from leptonami.lab.kube.objects import Object
from leptonami.lab.kube.resources import Kind

__all__ = ["convert"]

# The two faces of an event: k8s.io/kubernetes/pkg/apis/events/v1/conversion.go (core name, events.k8s.io name).
EVENT_FIELDS = (
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
)
TO_CORE = {new: core for core, new in EVENT_FIELDS}
TO_NEW = dict(EVENT_FIELDS)


def convert(obj: Object, kind: Kind) -> Object:
    """Give an object in another version of its kind; itself if it is in that version.

    The versions of a custom kind differ in their name only, as with the conversion strategy `None`.
    """
    if obj.get("apiVersion") == kind.api_version:
        return obj
    if kind.storage == "events":
        names = TO_NEW if kind.group else TO_CORE
        obj = {names.get(key, key): value for key, value in obj.items()}
        # A real server gives null, which the official Python client refuses to read.
        if kind.group and not obj.get("eventTime") and (first := obj.get("deprecatedFirstTimestamp")):
            obj["eventTime"] = first.replace("Z", ".000000Z")
    return {**obj, "apiVersion": kind.api_version}
