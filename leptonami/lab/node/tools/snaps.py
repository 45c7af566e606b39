"""Snaps, and the hold on their refreshes."""

# pathlib would cost 5 ms at every call.

from __future__ import annotations

from .core import Failed, Refused, fault, load, out, save, spend
from .systemd import unit_action

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


SNAPS = "/var/lib/snapd/state.json"


def _snaps() -> dict[str, Any]:
    found: dict[str, Any] = load(SNAPS, {"snaps": {}, "hold": None, "held": []})
    return found


def snap(arguments: list[str]) -> None:  # noqa: PLR0912 - one branch a subcommand
    """Snaps: list, changes, refresh --hold and --unhold, get and set of the refresh hold, services."""
    state = _snaps()
    if not arguments:
        raise Refused
    command, rest = arguments[0], arguments[1:]
    if command == "list":
        if rest and rest[0] not in state["snaps"]:
            raise Failed("error: no matching snaps installed")
        out("Name Version Rev Tracking Publisher Notes")
        for name, entry in sorted(state["snaps"].items()):
            if rest and name not in rest:
                continue
            notes = [
                note for note, on in (("held", state["hold"] or name in state["held"]), (entry["notes"], True)) if on
            ]
            out(
                f"{name} {entry['version']} {entry['revision']} {entry['channel']} {entry['publisher']} "
                + (",".join(note for note in notes if note != "-") or "-")
            )
    elif command == "changes" and not rest:
        out("ID   Status  Spawn               Ready               Summary")
        out("1    Done    2026-11-01T00:00Z   2026-11-01T00:00Z   Initialize system state")
        if fault("snap_changes") and spend("snap_changes", fault("snap_changes")):
            out('2    Doing   2026-11-01T00:01Z   -                   Auto-refresh snap "amazon-ssm-agent"')
    elif command == "refresh" and len(rest) >= 1 and rest[0] in ("--hold", "--unhold"):
        if rest[1:]:
            for name in rest[1:]:
                if name not in state["snaps"]:
                    raise Failed(f'error: snap "{name}" is not installed')
            held = set(state["held"])
            state["held"] = sorted(held | set(rest[1:]) if rest[0] == "--hold" else held - set(rest[1:]))
        else:
            state["hold"] = "forever" if rest[0] == "--hold" else None
        out("General refreshes of all snaps held indefinitely" if rest[0] == "--hold" else "Removed auto-refresh hold")
        save(SNAPS, state)
    elif command == "get" and rest == ["system", "refresh.hold"]:
        if not state["hold"]:
            raise Failed('error: snap "core" has no "refresh.hold" configuration option')
        out(state["hold"])
    elif command == "set" and len(rest) == 2 and rest[0] == "system" and rest[1].startswith("refresh.hold="):
        state["hold"] = rest[1].partition("=")[2] or None
        save(SNAPS, state)
    elif command in ("start", "stop", "restart") and rest:
        names = [f"snap.{name}.daemon.service" for name in rest if not name.startswith("-")]
        for name in names:
            unit_action(command, name)
    elif command == "version":
        out("snap    2.66", "snapd   2.66", "series  16")
    else:
        raise Refused
