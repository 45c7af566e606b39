"""The status ConfigMap of cluster-autoscaler, in both of its forms, as one typed value.

Up to 1.29 it is a text for people (`Cluster-autoscaler status at ...`), from 1.30 on YAML. Either may come bare, inside
the ConfigMap object (JSON or YAML), as `kubectl describe` prints it, or with its line breaks lost. A field that a
version does not have is None; a field that the YAML form leaves out because it is zero is 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from leptonami.errors import InputError
from leptonami.proof import excerpt
from leptonami.readers.autoscaler.statusvalues import (
    NAME,
    STALE,
    Activity,
    Counts,
    GroupStatus,
    Health,
    Status,
)
from leptonami.readers.fields import dig, integer, mapping, mappings, text
from leptonami.readers.gotime import parse_rfc3339, parse_time
from leptonami.readers.manifests import decode, read_yaml
from leptonami.readers.objects import Objects, read_objects
from leptonami.readers.views import ConfigMap

__all__ = [
    "LAST_UPDATED",
    "NAME",
    "STALE",
    "Activity",
    "Counts",
    "GroupStatus",
    "Health",
    "Status",
    "find_status",
    "read_status",
    "status_of",
]

LAST_UPDATED = "cluster-autoscaler.kubernetes.io/last-updated"
LARGEST = 8 * 1024 * 1024  # characters; a ConfigMap holds 1 MiB at most
MOST_GROUPS = 10_000


def status_of(config_map: ConfigMap) -> Status:
    """Read the status out of its ConfigMap.

    Raises
    ------
    InputError
        If there is no status in it.
    """
    body = config_map.data.get("status", "")
    read = body_of(body, config_map.source)
    updated = go_time(config_map.annotations.get(LAST_UPDATED, ""))
    return replace(read, updated=updated, place=excerpt(config_map.place, 200))


def find_status(objects: Objects) -> Status | None:
    """Find the status among objects; None if there is none that can be read.

    The name can be changed by an option, so the annotation tells it as well.
    """
    named = [each for each in objects.configmaps if each.name == NAME]
    other = [each for each in objects.configmaps if each.name != NAME and LAST_UPDATED in each.annotations]
    for each in (*named, *other):
        try:
            return status_of(each)
        except InputError:
            continue
    return None


def read_status(data: str | bytes, source: str) -> Status:
    """Read a status from whatever it was saved as: bare, as the object, or as `kubectl describe` prints it.

    Raises
    ------
    InputError
        If it is no status.
    """
    given = decode(data)
    if len(given) > LARGEST:
        raise InputError(
            "too large for a status of cluster-autoscaler", resource=source, hint="give the ConfigMap alone"
        )
    if "metadata" in given and "ConfigMap" in given and not DESCRIBED.search(given):
        found = find_status(read_objects(given, source))
        if found is None:
            raise InputError(
                "no ConfigMap with a status of cluster-autoscaler in it",
                resource=source,
                hint=f"kubectl -n kube-system get configmap {NAME} -o yaml",
            )
        return found
    updated = DESCRIBED_UPDATE.search(given)
    body = DESCRIBED.search(given)
    rest = given[body.end() :] if body else given
    end = DESCRIBED_END.search(rest) if body else None
    read = body_of(rest[: end.start()] if end else rest, source)
    return replace(read, updated=go_time(updated[1]) if updated else None)


DESCRIBED = re.compile(r"^status:[ \t]*\r?\n-{3,10}[ \t]*\r?\n", re.MULTILINE)
DESCRIBED_END = re.compile(r"^(?:BinaryData|Events:|[A-Za-z0-9._-]{1,80}:[ \t]*\r?\n-{3,10}[ \t]*$)", re.MULTILINE)
DESCRIBED_UPDATE = re.compile(re.escape(LAST_UPDATED) + r"[\"']?:[ \t]*[\"']?([^\n\"',]{10,80})")


def body_of(body: str, source: str) -> Status:
    """Read the status itself."""
    if len(body) > LARGEST:
        raise InputError("too large for a status of cluster-autoscaler", resource=source)
    if body.strip().strip("\"'") == "Initializing":
        return Status("initializing", state="Initializing", source=source)
    # Line breaks that were written as two characters: the value of a JSON field, copied with its quotes.
    unfolded = body.replace("\\n", "\n").replace('\\"', '"') if "\n" not in body.strip() else body
    if TEXT_FORM.search(unfolded):
        return read_text(unfolded, source)
    roots, _ = read_yaml(unfolded, source)
    root = next((each for each in roots if isinstance(each, dict)), {})
    if "autoscalerStatus" in root or isinstance(root.get("clusterWide"), dict):
        return read_tree(root, source)
    raise InputError(
        "this is no status of cluster-autoscaler",
        resource=source,
        hint=f"kubectl -n kube-system get configmap {NAME} -o yaml",
    )


def go_time(value: object) -> datetime | None:
    """Read a time as Go prints it, or RFC 3339; None for no time and for Go's zero time, the year 1."""
    if not isinstance(value, str) or len(value) > 120:
        return None
    written = value.strip().strip("\"'")
    read = parse_time(written) or parse_rfc3339(written)
    if read is None or read.year < 1970:
        return None
    try:
        return read.astimezone(UTC)
    except OverflowError:  # the last hours of the year 9999, west of Greenwich
        return None


TEXT_FORM = re.compile(r"(?<!\S)Cluster-wide:|Cluster-autoscaler status at ")
WRITTEN_AT = re.compile(r"Cluster-autoscaler status at ([^\n]{10,100}?):(?=\s|$)")
KEY = re.compile(
    r"(?<!\S)(Cluster-wide|NodeGroups|Name|Health|ScaleUp|ScaleDown|LastProbeTime|LastTransitionTime):(?!\S)"
)
CONDITION = re.compile(r"\s*([A-Za-z]{1,40})")
PAIR = re.compile(r"([A-Za-z]{1,40})=(-?[0-9]{1,12})(?![0-9])", re.ASCII)


def read_text(body: str, source: str) -> Status:
    """Read the text form, with or without its line breaks: keys, and what stands between them."""
    written = WRITTEN_AT.search(body)
    marks = list(KEY.finditer(body))
    sections: list[dict[str, Any]] = [{"name": None}]
    condition: dict[str, Any] = {}
    for index, mark in enumerate(marks):
        end = marks[index + 1].start() if index + 1 < len(marks) else len(body)
        value = body[mark.end() : min(end, mark.end() + 2000)].strip()
        match mark[1]:
            case "Name":
                if len(sections) > MOST_GROUPS:
                    break
                sections.append({"name": excerpt(value, 300)})
                condition = {}
            case "Health" | "ScaleUp" | "ScaleDown":
                word = CONDITION.match(value)
                condition = {"status": word[1] if word else None, "pairs": pairs_of(value)}
                sections[-1].setdefault(mark[1], condition)
            case "LastProbeTime":
                condition.setdefault("probed", go_time(value))
            case "LastTransitionTime":
                condition.setdefault("since", go_time(value))
    whole = section(sections[0])
    return Status(
        "text",
        go_time(written[1]) if written else None,
        None,
        None,
        whole.health,
        whole.scale_up,
        whole.scale_down,
        tuple(section(each) for each in sections[1:]),
        source,
    )


def pairs_of(value: str) -> dict[str, int]:
    """Read `ready=4 unready=0 (resourceUnready=0) ...`."""
    found: dict[str, int] = {}
    for key, number in PAIR.findall(value):
        found.setdefault(key, int(number))
    return found


def section(read: Mapping[str, Any]) -> GroupStatus:
    """Make typed values of what stands under one heading."""
    conditions = {each: read.get(each) or {} for each in ("Health", "ScaleUp", "ScaleDown")}
    health = conditions["Health"]
    pairs: dict[str, int] = health.get("pairs", {})
    counts = Counts(
        pairs.get("registered"),
        pairs.get("ready"),
        pairs.get("unready"),
        pairs.get("resourceUnready"),
        pairs.get("notStarted"),
        pairs.get("longNotStarted"),
        pairs.get("beingDeleted"),
        pairs.get("unregistered"),
        pairs.get("longUnregistered"),
    )
    up, down = (
        Activity(
            each.get("status"),
            each.get("pairs", {}).get("candidates"),
            probed=each.get("probed"),
            since=each.get("since"),
        )
        for each in (conditions["ScaleUp"], conditions["ScaleDown"])
    )
    target = pairs.get("cloudProviderTarget", conditions["ScaleUp"].get("pairs", {}).get("cloudProviderTarget"))
    return GroupStatus(
        read.get("name") or "",
        Health(health.get("status"), counts, health.get("probed"), health.get("since")),
        target,
        pairs.get("minSize"),
        pairs.get("maxSize"),
        up,
        down,
    )


def read_tree(root: Mapping[str, Any], source: str) -> Status:
    """Read the YAML form."""
    whole = root.get("clusterWide")
    return Status(
        "yaml",
        go_time(root.get("time")),
        None,
        excerpt(text(root, "autoscalerStatus"), 60) or None,
        health_of(dig(whole, "health")),
        activity_of(dig(whole, "scaleUp")),
        activity_of(dig(whole, "scaleDown"), down=True),
        tuple(group_of(each) for each in mappings(root, "nodeGroups")[:MOST_GROUPS]),
        source,
    )


def group_of(group: Mapping[str, Any]) -> GroupStatus:
    """Read one node group of the YAML form. A size that is zero may be missing."""
    health = mapping(group, "health")
    return GroupStatus(
        excerpt(text(group, "name"), 300),
        health_of(group.get("health")),
        zero(health, "cloudProviderTarget"),
        zero(health, "minSize"),
        zero(health, "maxSize"),
        activity_of(group.get("scaleUp")),
        activity_of(group.get("scaleDown"), down=True),
    )


def zero(value: Mapping[str, Any], *path: str) -> int | None:
    """Give a number that is left out when it is zero; None if nothing is around it, or something else in its place."""
    if not value:
        return None
    found = dig(value, *path)
    return 0 if found is None else integer(found)


def health_of(value: Any) -> Health:
    """Read a `health` of the YAML form."""
    health = mapping(value)
    if not health:
        return Health()

    def count(*path: str) -> int | None:
        return zero(health, "nodeCounts", *path)

    counts = Counts(
        count("registered", "total"),
        count("registered", "ready"),
        count("registered", "unready", "total"),
        count("registered", "unready", "resourceUnready"),
        count("registered", "notStarted"),
        None,
        count("registered", "beingDeleted"),
        count("unregistered"),
        count("longUnregistered"),
    )
    return Health(
        excerpt(text(health, "status"), 60) or None,
        counts,
        go_time(health.get("lastProbeTime")),
        go_time(health.get("lastTransitionTime")),
    )


def activity_of(value: Any, *, down: bool = False) -> Activity:
    """Read a `scaleUp` or `scaleDown` of the YAML form."""
    found = mapping(value)
    return Activity(
        excerpt(text(found, "status"), 60) or None,
        zero(found, "candidates") if down else None,
        excerpt(text(found, "backoffInfo", "errorCode"), 100),
        excerpt(text(found, "backoffInfo", "errorMessage")),
        go_time(found.get("lastProbeTime")),
        go_time(found.get("lastTransitionTime")),
    )
