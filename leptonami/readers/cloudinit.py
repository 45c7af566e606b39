"""`cloud-init analyze dump`: when each stage of cloud-init began and ended, on the node's clock.

The dump is a JSON list of events with `event_type` (`start` or `finish`), `name` (`init-local`, `init-network`,
`modules-config`, `modules-final`, and below them `init-network/config-ssh` and so on), `timestamp` (seconds since 1970,
with a fraction) and, at the end, `result`. https://docs.cloud-init.io/en/latest/explanation/analyze.html
A node that booted more than once has the stages again: those of the last boot count.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from leptonami.errors import InputError

__all__ = ["STAGES", "Stage", "read"]

STAGES = ("init-local", "init-network", "modules-config", "modules-final")
LARGEST = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage: its name, when it began and ended (s since 1970; None if it has not ended), and its result."""

    name: str
    begun: float
    ended: float | None = None
    result: str = ""


def read(text: str | bytes, *, source: str = "-") -> tuple[Stage, ...]:
    """Read the stages of the last boot, in their order.

    Raises
    ------
    InputError
        If it is not what the command prints.
    """
    if len(text) > LARGEST:
        raise InputError(f"larger than {LARGEST >> 20} MiB", resource=source)
    try:
        events = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError("not JSON", resource=source, hint="it is the output of: cloud-init analyze dump") from error
    if not isinstance(events, list):
        raise InputError("not a list of events", resource=source, hint="cloud-init analyze dump prints one")
    found: dict[str, Stage] = {}
    for name, kind, at, result in wanted(events):
        if kind == "start":
            if name == STAGES[0]:
                found.clear()
            found[name] = Stage(name, at)
        elif name in found and found[name].ended is None and at >= found[name].begun:
            found[name] = Stage(name, found[name].begun, at, result)
    return tuple(found[name] for name in STAGES if name in found)


def wanted(events: Iterable[Any]) -> Iterable[tuple[str, str, float, str]]:
    """Give the events of whole stages: name, kind, time, result."""
    for each in events:
        if not isinstance(each, dict) or each.get("name") not in STAGES:
            continue
        at = each.get("timestamp")
        if isinstance(at, (int, float)) and not isinstance(at, bool) and math.isfinite(at):
            yield each["name"], str(each.get("event_type") or ""), float(at), str(each.get("result") or "")[:40]
