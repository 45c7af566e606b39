"""The runs of this machine in a list: how each stands, what it owns, what it has cost so far."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from leptonami.build.names import PREFIX
from leptonami.lifecycle.costs import Prices
from leptonami.lifecycle.known import KnownRun, text
from leptonami.lifecycle.resources import Resource, moment

__all__ = ["Overview", "from_aws", "from_journal", "overview"]

# What a removal of a build says that it removed (`what`), and the kind of it.
REMOVED = re.compile(
    r"(?:builder (i-\w+)|security group (\S+)|instance profile (\S+)|role (\S+)|half-made image (ami-\w+))"
)
MADE = {
    "ec2.RunInstances": ("instance", "id"),
    "ec2.CreateSecurityGroup": ("group", "id"),
    "iam.CreateInstanceProfile": ("profile", "name"),
    "iam.CreateRole": ("role", "name"),
    "ec2.CreateImage": ("image", "id"),
}


@dataclass(frozen=True)
class Overview:
    """A run, what it owns, and what it has cost.

    Attributes
    ----------
    owns
        As `kind id`.
    source
        Who says so: `AWS`, or the run's own `journal`.
    usd
        What its builder and its image have cost so far; None where a price or a time is not known.
    """

    known: KnownRun
    owns: tuple[str, ...]
    source: str
    usd: float | None

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        known = self.known
        names = ("id", "kind", "state", "live", "copied", "plan", "owner", "region", "provenance")
        return {
            **{name: getattr(known, name) for name in names},
            "started": known.started.isoformat(),
            "folder": str(known.folder),
            "finished_images": sorted(known.finished),
            "swept": swept(known),
            "owns": list(self.owns),
            "owns_according_to": self.source,
            "usd_so_far": None if self.usd is None else round(self.usd, 4),
            "notes": list(known.notes),
        }


def overview(known: Iterable[KnownRun], inventory: Iterable[Resource] | None, now: datetime) -> list[Overview]:
    """Put runs and what an account holds together; without an inventory, the journals have to do. Pure."""
    prices = Prices.load()
    resources = None if inventory is None else list(inventory)
    rows = []
    for each in known:
        if resources is None or each.region is None:
            owns, source = from_journal(each), "journal"
        else:
            owns, source = from_aws(each, resources), "AWS"
        rows.append(Overview(each, tuple(owns), source, cost(each, prices, now)))
    return rows


def from_aws(known: KnownRun, inventory: Iterable[Resource]) -> list[str]:
    """Name what carries the run's tag."""
    return [
        f"{each.kind} {each.id}"
        for each in inventory
        if each.tags.get(PREFIX + "run") == known.id and not (each.kind == "instance" and each.state == "terminated")
    ]


def from_journal(known: KnownRun) -> list[str]:
    """Name what the run made and did not remove, by its journal; a call whose outcome is not written down too."""
    owned: dict[tuple[str, str], None] = {}
    pending: dict[str, Mapping[str, Any]] = {}
    for entry in known.entries:
        event, action = text(entry, "event"), text(entry, "action") or ""
        if event == "intent":
            pending[action] = entry
            continue
        begun = pending.pop(action, {}) if event in {"done", "failed"} else {}
        if event == "done" and action in MADE:
            kind, field = MADE[action]
            if name := text({**begun, **entry}, field):
                owned[kind, name] = None
        elif event == "done" and action == "remove" and (found := REMOVED.match(text(begun, "what") or "")):
            name = next(each for each in found.groups() if each is not None)
            gone = [key for key in owned if name in key or (key[0] == "group" and found[2] is not None)]
            for key in gone:
                del owned[key]
        elif event == "swept":
            owned = {key: None for key in owned if key[1] in known.finished}
    lost = [f"{kind} (perhaps)" for action, (kind, _) in MADE.items() if action in pending]
    return [*(f"{kind} {name}" for kind, name in owned), *lost]


def swept(known: KnownRun) -> str | None:
    """Name the sweep that took what the run had left."""
    by = [text(entry, "by") for entry in known.entries if entry.get("event") == "swept"]
    return by[-1] if by else None


def cost(known: KnownRun, prices: Prices, now: datetime) -> float | None:
    """Estimate what a run has cost: its builder while it was there, and its image's snapshot since.

    By the run's own files; nothing for what is simulated, None where they do not tell.
    """
    if known.provenance == "simulated" or known.kind != "build":
        return 0.0
    total = 0.0
    for begun, ended, kind in builders(known, now):
        hourly = prices.instance_hour.get(kind or "")
        if hourly is None:
            return None
        size = number(known.manifest, "plan", "parameters", "root_volume", "size_gib")
        total += (hourly + size * prices.volume_gib_hour) * max((ended - begun).total_seconds(), 0.0) / 3600
    if known.finished:
        made = times(known, "done", "ec2.CreateImage")
        size = number(known.manifest, "image", "size_gib")
        if made:
            total += size * prices.snapshot_gib_hour * max((now - made[-1]).total_seconds(), 0.0) / 3600
    return total


def builders(known: KnownRun, now: datetime) -> list[tuple[datetime, datetime, str | None]]:
    """Give for each builder when it came, when it went (or now) and its type."""
    found: list[tuple[datetime, datetime, str | None]] = []
    began: datetime | None = None
    kind = text(known.manifest, "builder", "type")
    removing = False
    for entry in known.entries:
        at, event, action = moment_of(entry), entry.get("event"), entry.get("action")
        if event == "builder":
            kind = text(entry, "builder", "type") or kind
        elif event == "done" and action == "ec2.RunInstances" and at is not None:
            began = began or at
        elif event == "intent" and action == "remove":
            removing = (text(entry, "what") or "").startswith("builder ")
        elif began is not None and at is not None and ((event == "done" and removing) or event == "swept"):
            found.append((began, at, kind))
            began = None
    if began is not None:
        found.append((began, now, kind))
    return found


def times(known: KnownRun, event: str, action: str) -> list[datetime]:
    """Give when something was written down."""
    found = [
        moment_of(entry) for entry in known.entries if entry.get("event") == event and entry.get("action") == action
    ]
    return [each for each in found if each is not None]


def moment_of(entry: Mapping[str, Any]) -> datetime | None:
    """Give the time of a journal's entry."""
    return moment(text(entry, "at"))


def number(value: Any, *path: str) -> float:
    """Give a number in nested objects; 0 if it is not there."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0
