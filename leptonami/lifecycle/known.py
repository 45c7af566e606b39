"""What the run folders of this machine say: which runs there are, whether one is being worked on, what it finished.

Reads only, and reads what it can: a folder from another version, or one that a crash cut off, as far as it goes.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from leptonami.errors import InputError
from leptonami.runs import Journal, Run, parse_id

__all__ = ["KnownRun", "is_locked", "read_run", "read_runs", "started"]

SCHEMA = 1
COPIED = "the folder is a copy, or its lock was deleted: whether the run goes on elsewhere cannot be told"
# States of a manifest after which nobody works on it any more. `running` with a free lock: it was killed.
OVER = {"killed", "failed", "interrupted", "succeeded", "succeeded, with leftovers"}


@dataclass(frozen=True)
class KnownRun:
    """A run as its folder tells it.

    Attributes
    ----------
    kind
        `build`, `bench`, or what else keeps a journal: `sweep`, `retire`, ...
    state
        The manifest's, with two of our own: `killed` (the manifest says running, and no process has the lock) and
        `unknown` (there is no manifest that can be read).
    live
        A process is working on it, or it cannot be told.
    copied
        The folder is a copy, or its lock was deleted. Then a free lock says nothing: the run may go on elsewhere.
    finished
        The images that it finished, or published.
    asked
        What its journal says that it asked EC2 to make images as: the ids that it was given, and the name where the
        answer was not written down any more. Nothing that is not in here is known to be half-made.
    kept
        It left what it had made on purpose (`--keep-on-error`).
    notes
        What could not be read.
    """

    id: str
    folder: Path
    kind: str = "build"
    state: str = "unknown"
    live: bool = False
    copied: bool = False
    plan: str | None = None
    owner: str | None = None
    region: str | None = None
    provenance: str | None = None
    finished: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()
    kept: bool = False
    notes: tuple[str, ...] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    entries: tuple[Mapping[str, Any], ...] = field(default=(), repr=False, compare=False)

    @property
    def over(self) -> bool:
        """Tell whether nobody works any more on a run that makes things, and that its folder tells us so."""
        return not self.live and not self.copied and self.kind in {"build", "bench"} and self.state in OVER

    @property
    def succeeded(self) -> bool:
        """Tell whether it came to its end."""
        return self.state.startswith("succeeded")

    @property
    def started(self) -> datetime:
        """When it began."""
        return parse_id(self.id)

    @property
    def run(self) -> Run:
        """The run, to lock it or to write into its journal."""
        return Run(self.id, self.folder)


def started(run_id: str) -> datetime | None:
    """Read the time from a run id; None if it is not one, or not a time."""
    try:
        return parse_id(run_id)
    except (InputError, ValueError):
        return None


def is_locked(folder: Path) -> bool:
    """Tell whether a process is working on a run. What cannot be told counts as yes."""
    try:
        with (folder / "lock").open("rb") as file:
            # Shared and let go at once: we only look.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def read_runs(root: Path) -> dict[str, KnownRun]:
    """Read every run folder, oldest first; nothing if there is no such folder."""
    if not root.is_dir():
        return {}
    names = sorted(each.name for each in root.iterdir() if each.is_dir() and started(each.name) is not None)
    return {name: read_run(root / name) for name in names}


def read_run(folder: Path, *, live: bool | None = None) -> KnownRun:
    """Read one run folder; `live` is for those who know it, since they hold the lock themselves."""
    # The lock first: a run that ends while we read is then seen as live, and not as killed.
    live = is_locked(folder) if live is None else live
    manifest, notes = read_manifest(folder / "manifest.json")
    try:
        entries = tuple(Journal(folder / "journal.jsonl").read())
    except OSError as error:
        entries, notes = (), [*notes, f"journal.jsonl cannot be read: {error.strerror}"]
    copied = is_copy(folder, entries)
    if copied:
        notes = [*notes, COPIED]
    state = text(manifest, "state") or "unknown"
    if state == "running" and not live and not copied:
        state = "killed"
    removed = manifest.get("removed")
    return KnownRun(
        id=folder.name,
        folder=folder,
        kind=text(manifest, "kind") or "build",
        state=state,
        live=live,
        copied=copied,
        plan=text(manifest, "plan", "name") or first(entries, "plan"),
        owner=text(manifest, "owner"),
        region=text(manifest, "target", "region"),
        provenance=text(manifest, "provenance") or first(entries, "provenance"),
        finished=frozenset(finished(manifest, entries)),
        asked=frozenset(asked(entries)),
        kept=isinstance(removed, list) and any(text(each, "outcome") == "kept" for each in removed),
        notes=tuple(notes),
        manifest=manifest,
        entries=entries,
    )


def is_copy(folder: Path, entries: tuple[Mapping[str, Any], ...]) -> bool:
    """Tell whether the lock is another one than the run's latest process had (earlier versions wrote none down)."""
    begun = [entry for entry in entries if text(entry, "event") in {"build", "experiment"}]
    number = begun[-1].get("lock") if begun else None
    return isinstance(number, int) and Run(folder.name, folder).lock_number != number


def read_manifest(path: Path) -> tuple[Mapping[str, Any], list[str]]:
    """Read a manifest, and say what is odd about it."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return {}, ["there is no manifest"]
    except (OSError, ValueError, RecursionError):
        return {}, ["the manifest cannot be read"]
    if not isinstance(manifest, dict):
        return {}, ["the manifest is no object"]
    schema = manifest.get("schema")
    return manifest, [] if schema == SCHEMA else [
        f"the manifest has schema {schema!r:.20}, this version knows {SCHEMA}"
    ]


def text(value: Any, *path: str) -> str | None:
    """Give a text in nested objects; None if it is not there, or no text."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else None


def first(entries: tuple[Mapping[str, Any], ...], name: str) -> str | None:
    """Give a text from the journal's first line that has it."""
    return next((found for entry in entries if (found := text(entry, name)) is not None), None)


def finished(manifest: Mapping[str, Any], entries: tuple[Mapping[str, Any], ...]) -> Iterator[str]:
    """Name the images that a run finished.

    One that the manifest of a run that succeeded names; and one that is only missing in the manifest, since the process
    was killed while it cleaned up: the last call that makes an image what it is to be was answered. And one that
    somebody set out to publish, whatever its run says.
    """
    if (text(manifest, "state") or "").startswith("succeeded") and (image := text(manifest, "image", "id")):
        yield image
    last: str | None = None
    for entry in entries:
        if entry.get("event") == "publish" and (image := text(entry, "image")):
            yield image
        if entry.get("action") != "ec2.ModifyImageAttribute":
            continue
        if entry.get("event") == "intent":
            last = text(entry, "id")
        elif entry.get("event") == "done" and last is not None:
            yield last
            last = None


def asked(entries: tuple[Mapping[str, Any], ...]) -> Iterator[str]:
    """Name the images that a run asked for: by id, or by name where the process died before it wrote the id down.

    A name is unique in a region, so no copy of the image can have it.
    """
    pending: str | None = None
    for entry in entries:
        if entry.get("action") != "ec2.CreateImage":
            continue
        if entry.get("event") == "intent":
            pending = text(entry, "name")
        elif image := text(entry, "id"):
            yield image
            pending = None
    # A call that failed, as far as the process could see, may have taken effect too.
    if pending:
        yield pending
