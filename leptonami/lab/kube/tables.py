"""Tables, as `kubectl get` prints them: the cells of every kind, computed as the real server computes them.

The columns are data (`resources.yaml`, or a CustomResourceDefinition's `additionalPrinterColumns`). What a JSON path
cannot say is computed here, after kubernetes/pkg/printers/internalversion/printers.go.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from leptonami.lab.kube.errors import bad_request
from leptonami.lab.kube.objects import Object
from leptonami.lab.kube.resources import Column, Kind

__all__ = ["SHAPES", "at_path", "human_duration", "partial", "partial_list", "since", "table"]

META = "meta.k8s.io"
SHAPES = frozenset(
    (shape, META, version)
    for shape in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")
    for version in ("v1", "v1beta1")
)
CREATED = ".metadata.creationTimestamp"
EMPTY = {"integer": 0, "boolean": False}
NUMBERS: dict[str, Any] = {"integer": int, "number": (int, float), "boolean": bool}
STEP = re.compile(
    r"""\.?(?:\['(?P<quoted>[^']*)'\]|\[(?P<index>-?\d+|\*)\]|\[\?\(@\.(?P<key>[\w.\\/-]+)\s*==\s*["'](?P<value>[^"']*)["']\)\]"""
    r"""|(?P<name>(?:\\.|[^.\[\]\\])+))"""
)


def table(kind: Kind, items: Iterable[Object], version: str, *, include: str, meta: Object | None = None) -> Object:
    """Make a table of objects.

    Parameters
    ----------
    version
        Of meta.k8s.io: `v1` or `v1beta1`.
    include
        What goes with each row: `None`, `Metadata` (also if empty) or `Object`.
    """
    if include not in {"", "None", "Metadata", "Object"}:
        raise bad_request(f"unrecognized includeObject value: {include!r}")
    from leptonami.lab.kube.cells import CELLS

    compute, now = CELLS.get(kind.storage), time.time()
    rows = []
    for each in items:
        computed = compute(each, now) if compute else {}
        row: Object = {"cells": [cell(kind, column, each, computed, now) for column in kind.columns]}
        if include == "Object":
            row["object"] = each
        elif include != "None":
            row["object"] = partial(each, version)
        rows.append(row)
    columns = [
        {
            "name": each.name,
            "type": each.type,
            "format": each.format,
            "description": each.description or each.name,
            "priority": each.priority,
        }
        for each in kind.columns
    ]
    about = {"kind": "Table", "apiVersion": f"{META}/{version}", "metadata": meta or {}}
    return {**about, "columnDefinitions": columns, "rows": rows}


def partial(obj: Object, version: str) -> Object:
    """Give nothing but the metadata of an object."""
    return {"kind": "PartialObjectMetadata", "apiVersion": f"{META}/{version}", "metadata": obj["metadata"]}


def partial_list(items: Iterable[Object], version: str, meta: Object) -> Object:
    """Give nothing but the metadata of a list's objects."""
    about = {"kind": "PartialObjectMetadataList", "apiVersion": f"{META}/{version}", "metadata": meta}
    return {**about, "items": [partial(each, version) for each in items]}


def cell(kind: Kind, column: Column, obj: Object, computed: Mapping[str, Any], now: float) -> Any:
    """Compute one cell."""
    if column.name in computed:
        return computed[column.name]
    found = at_path(obj, column.path) if column.path else None
    # AGE is computed here for built-in kinds; for custom ones every date is. CREATED AT is the time itself.
    if column.path == CREATED and (column.type == "date") == kind.custom:
        return since(found, now)
    if kind.custom:
        return custom_cell(column, found, now)
    if found is None:
        return EMPTY.get(column.type, "")
    return str(found).lower() if isinstance(found, bool) and column.type == "string" else found


def custom_cell(column: Column, found: Any, now: float) -> Any:
    """Write a value of a custom resource (apiextensions-apiserver, pkg/registry/customresource/tableconvertor)."""
    if found is None:
        return None
    if column.type in NUMBERS:
        return found if isinstance(found, NUMBERS[column.type]) else None
    return since(found, now) if column.type == "date" else go_text(found)


def go_text(value: Any) -> str:
    """Write a value as a Go template would."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{' '.join(go_text(each) for each in value)}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{go_text(each)}' for key, each in sorted(value.items()))}]"
    return str(value)


@lru_cache(maxsize=1024)
def steps(path: str) -> tuple[tuple[str, Any], ...]:
    """Read a JSON path into its steps: keys, indices, `[*]` and `[?(@.key=="value")]`."""
    found: list[tuple[str, Any]] = []
    for match in STEP.finditer(path.strip().removeprefix("{").removesuffix("}").removeprefix("$")):
        if match["index"]:
            found.append(("all", None) if match["index"] == "*" else ("index", int(match["index"])))
        elif match["key"]:
            found.append(("where", (match["key"].replace("\\", ""), match["value"])))
        else:
            found.append(
                ("key", match["quoted"] if match["quoted"] is not None else re.sub(r"\\(.)", r"\1", match["name"]))
            )
    return tuple(found)


def at_path(obj: Any, path: str) -> Any:
    """Give what is at a JSON path: the first of several, None if there is nothing."""
    found = [obj]
    for step, what in steps(path):
        if step == "key":
            found = [each[what] for each in found if isinstance(each, dict) and what in each]
            continue
        found = [each for each in found if isinstance(each, list)]
        if step == "index":
            found = [each[what] for each in found if -len(each) <= what < len(each)]
        else:
            found = [one for each in found for one in each]
            if step == "where":
                key, value = what
                found = [one for one in found if isinstance(one, dict) and go_text(one.get(key)) == value]
    return found[0] if found else None


def seconds_of(text: Any) -> float | None:
    """Read a time; None if it is none."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError):
        return None


def since(text: Any, now: float) -> str:
    """Tell how long ago a time was, as the AGE column has it."""
    when = seconds_of(text)
    return "<unknown>" if when is None else human_duration(now - when)


def human_duration(seconds: float) -> str:  # noqa: PLR0911 - a ladder
    """Write a duration as k8s.io/apimachinery/pkg/util/duration.HumanDuration does."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{max(whole, 0)}s"
    if minutes < 10:
        return pair(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return pair(days, "d", hours % 24, "h")
    if days < 2 * 365:
        return f"{days}d"
    return pair(days // 365, "y", days % 365, "d") if days < 8 * 365 else f"{days // 365}y"


def pair(much: int, unit: str, little: int, smaller: str) -> str:
    """Write `2h5m`, or `2h`."""
    return f"{much}{unit}{little}{smaller}" if little else f"{much}{unit}"
