"""`kubectl describe` of nodes, pods and DaemonSets, read back into plain objects and events.

A must-gather has nodes in no other form, and events only here. What is read is what the verdicts need: names, labels,
annotations, taints, capacity, allocatable, conditions, system information and events.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from leptonami.readers.manifests import decode

__all__ = ["describe_objects", "looks_like_describe"]

LONGEST = 16_384
MOST = 2_000_000  # lines
FIELD = re.compile(r"([A-Z][A-Za-z -]{1,40}):(?:\s{1,60}(.*)|$)")
PAIR = re.compile(r"\s{1,60}([^\s:=]{1,317})\s{0,3}[:=]\s{0,60}(.*)")
INNER = re.compile(r"\s{1,10}([A-Za-z][A-Za-z0-9 ./-]{0,252}):\s{0,60}(.{0,400})")
EVENT = re.compile(
    r"\s{1,8}(Normal|Warning)\s{1,8}([A-Za-z]{2,80})\s{1,8}(\S{1,30}(?: \(x([0-9]{1,9}) over [^)]{1,30}\))?)"
    r"\s{1,12}(\S{1,80})\s{1,8}(.*)"
)
CONDITION = re.compile(r"\s{1,8}([A-Za-z]{2,60})\s{1,20}(True|False|Unknown)\s{1,60}(.*)")
TAINT = re.compile(r"([^\s=:]{1,317})(?:=([^\s:]{0,63}))?:([A-Za-z]{1,30})")
SYSTEM = {
    "Kernel Version": "kernelVersion",
    "OS Image": "osImage",
    "Container Runtime Version": "containerRuntimeVersion",
    "Kubelet Version": "kubeletVersion",
    "Architecture": "architecture",
}


def looks_like_describe(text: str) -> bool:
    """Tell whether a text may be such a description, by its first 4,000 characters."""
    lines = [each for each in text[:4000].splitlines() if each.strip()][:4]
    return bool(lines) and lines[0].startswith("Name: ") and any(each.startswith(KINDLY) for each in lines)


KINDLY = ("Roles:", "Namespace:", "Labels:", "Selector:", "Priority:")


def describe_objects(data: bytes | str) -> list[dict[str, Any]]:
    """Read a description.

    Parameters
    ----------
    data
        What `kubectl describe` printed about one object or several, of one kind or several.

    Returns
    -------
    list of dict
        Nodes as whole as the description tells them, and an Event for every event. Of a pod or DaemonSet only
        the events: what else the description tells, its YAML tells better.
    """
    found: list[dict[str, Any]] = []
    for lines in blocks(decode(data).splitlines()[:MOST]):
        fields = dict(sections(lines))
        name = first(fields, "Name")
        if not name:
            continue
        if "Capacity" in fields or "Allocatable" in fields or "System Info" in fields:
            kind, namespace = "Node", ""
            found.append(node(fields, name))
        else:
            kind = "DaemonSet" if "Desired Number of Nodes Scheduled" in fields else "Pod"
            namespace = first(fields, "Namespace")
        found.extend(events(fields.get("Events", []), kind, namespace, name))
    return found


def blocks(lines: Sequence[str]) -> Iterator[list[str]]:
    """Part the description into objects: each begins with its name."""
    block: list[str] = []
    for line in lines:
        if line.startswith("Name: ") and block:
            yield block
            block = []
        block.append(line[:LONGEST])
    if block:
        yield block


def sections(lines: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Part an object into its fields; a field's own line comes first, what is indented under it follows."""
    name = ""
    body: list[str] = []
    for line in lines:
        match = FIELD.fullmatch(line) if line[:1].isupper() else None
        if match:
            if name:
                yield name, body
            name, body = match.group(1), [match.group(2) or ""]
        elif line[:1].isspace():
            body.append(line)
    if name:
        yield name, body


def first(fields: dict[str, list[str]], name: str) -> str:
    """Give the text on a field's own line."""
    return fields.get(name, [""])[0].strip()


def pairs(body: Sequence[str]) -> dict[str, str]:
    """Read `key=value` (labels) or `key: value` (annotations, amounts), one a line."""
    found: dict[str, str] = {}
    for each in body:
        match = PAIR.fullmatch(f" {each.strip()}")
        if match:
            found[match.group(1)] = match.group(2).strip()
    return found


def node(fields: dict[str, list[str]], name: str) -> dict[str, Any]:
    """Make a node of its description."""
    conditions = []
    for each in fields.get("Conditions", [])[1:]:
        match = CONDITION.fullmatch(each)
        if match:
            # Two times stand between the status and the reason, each of six words.
            rest = match.group(3).split(maxsplit=13)
            reason = rest[12] if len(rest) > 12 else ""
            message = rest[13] if len(rest) > 13 else ""
            conditions.append({"type": match.group(1), "status": match.group(2), "reason": reason, "message": message})
    inner = [match for each in fields.get("System Info", [])[1:] if (match := INNER.fullmatch(each))]
    info = {match.group(1): match.group(2).strip() for match in inner}
    taints = [
        {"key": match.group(1), "value": match.group(2) or "", "effect": match.group(3)}
        for each in fields.get("Taints", [])
        if (match := TAINT.fullmatch(each.strip()))
    ]
    return {
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": pairs(fields.get("Labels", [])),
            "annotations": pairs(fields.get("Annotations", [])),
        },
        "spec": {
            "providerID": first(fields, "ProviderID"),
            "taints": taints,
            "unschedulable": first(fields, "Unschedulable") == "true",
        },
        "status": {
            "capacity": pairs(fields.get("Capacity", [])[1:]),
            "allocatable": pairs(fields.get("Allocatable", [])[1:]),
            "conditions": conditions,
            "nodeInfo": {SYSTEM[key]: value for key, value in info.items() if key in SYSTEM},
        },
    }


def events(body: Sequence[str], kind: str, namespace: str, name: str) -> Iterator[dict[str, Any]]:
    """Read the events of an object. Their ages say nothing without the moment of the description, and are left out."""
    for each in body:
        match = EVENT.fullmatch(each)
        if match:
            yield {
                "kind": "Event",
                "involvedObject": {"kind": kind, "namespace": namespace, "name": name},
                "type": match.group(1),
                "reason": match.group(2),
                "message": match.group(6),
                "count": int(match.group(4) or 1),
                "source": {"component": match.group(5)},
            }
