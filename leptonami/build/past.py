"""What a run's journal says that an earlier process of the same run did. What AWS says counts for more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from leptonami.errors import BuildError

__all__ = ["Past"]

# What an entry must have to be understood. One of another version that has not is left out, as if it were cut off.
FIELDS: dict[str, tuple[str, type]] = {
    "base": ("image", dict),
    "builder": ("builder", dict),
    "agent": ("version", str),
    "finished": ("record", dict),
    "no-room": ("where", str),
}
MADE = {"ec2.CreateImage", "ec2.RunInstances"}


class Past:
    """The journal of a run as it stood when this process opened it.

    It is false as long as no build has begun: other notebooks of a pipeline write into the journal of the same run.
    """

    def __init__(self, entries: Sequence[dict[str, Any]] = ()) -> None:
        self.entries = tuple(entry for entry in entries if understood(entry))

    def __bool__(self) -> bool:
        # A build writes this before its first call that could make anything.
        return self.last("build") is not None

    def last(self, event: str, **wanted: Any) -> dict[str, Any] | None:
        """Give the latest entry of an event whose fields are these."""
        found = self.all(event, **wanted)
        return found[-1] if found else None

    def all(self, event: str, **wanted: Any) -> list[dict[str, Any]]:
        """Give the entries of an event whose fields are these, oldest first."""
        return [
            entry
            for entry in self.entries
            if entry.get("event") == event and all(entry.get(key) == value for key, value in wanted.items())
        ]

    def count(self, event: str) -> int:
        """Count the entries of an event."""
        return len(self.all(event))

    @property
    def base(self) -> dict[str, Any] | None:
        """The base image that the run began with: the parameter may point to another one by now."""
        entry = self.last("base")
        return dict(entry["image"]) if entry is not None else None

    @property
    def account(self) -> str | None:
        """The mark of the account that the run began in; None if the journal has none."""
        entry = self.last("base")
        mark = entry.get("account") if entry is not None else None
        return mark if isinstance(mark, str) else None

    def require(self, event: str, **wanted: Any) -> dict[str, Any]:
        """Give the latest such entry of an event that must be there.

        Raises
        ------
        BuildError
            If the journal has lost it.
        """
        entry = self.last(event, **wanted)
        if entry is None:
            raise BuildError(
                f"the run's journal has no {event!r}, so the run cannot go on",
                resource="journal.jsonl",
                hint="start a new run, and remove what this one made (it is tagged with leptonami:run)",
            )
        return entry

    def refused(self) -> tuple[str, ...]:
        """Name the places where there was no room."""
        return tuple(entry["where"] for entry in self.all("no-room"))


def understood(entry: dict[str, Any]) -> bool:
    """Tell whether an entry has what this version reads from it."""
    event = entry.get("event")
    if event == "done" and entry.get("action") in MADE:
        return isinstance(entry.get("id"), str)
    name, kind = FIELDS.get(str(event), ("event", str))
    return isinstance(entry.get(name), kind)
