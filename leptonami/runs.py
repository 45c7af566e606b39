"""One run on disk: its folder, its journal, its evidence.

The journal is append-only. The intent is on the disk *before* a call that creates or changes something, the outcome
after it, so that whatever happens to the process, what it may have left behind is written down.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from leptonami.errors import InputError
from leptonami.target import Provenance

__all__ = ["Journal", "Run", "new_id", "now", "parse_id"]

RUN_ID = re.compile(r"(\d{8}-\d{6})-[0-9a-f]{6}")


def now() -> datetime:
    """Give the present time, in UTC, to the millisecond."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def new_id(moment: datetime | None = None) -> str:
    """Make a run id: the time in UTC and six random hexadecimal digits, such as `20261123-211500-a1b2c3`."""
    return f"{moment or now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def parse_id(run_id: str) -> datetime:
    """Read the time from a run id.

    Raises
    ------
    InputError
        If it is not a run id. Run ids become folder names, tags and resource names, so nothing else is let through.
    """
    match = RUN_ID.fullmatch(run_id)
    if match is not None:
        # Digits in the right places may still be no time: 20261323-211500-a1b2c3.
        with contextlib.suppress(ValueError):
            return datetime.strptime(match[1], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    raise InputError(
        f"not a run id: {run_id!r}",
        resource="run",
        hint="it looks like 20261123-211500-a1b2c3; leave it out for a new one",
    )


class Journal:
    """The append-only record of what a run meant to do and what came of it; one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, event: str, /, **details: Any) -> None:
        """Append a line and see it onto the disk."""
        line = json.dumps({"at": now().isoformat(), "event": event, **details}, default=str)
        new = not self.path.exists()
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        if new:
            # A file whose name is not on the disk is not there after a power cut, nor is a folder's.
            for folder in (self.path.parent, self.path.parent.parent):
                settle(folder)

    @contextlib.contextmanager
    def action(self, call: str, /, **details: Any) -> Iterator[dict[str, Any]]:
        """Write the intent, do it, write the outcome. The block puts what came of it into the dict it is given."""
        self.write("intent", action=call, **details)
        outcome: dict[str, Any] = {}
        try:
            yield outcome
        except BaseException as error:
            self.write("failed", action=call, error=f"{type(error).__name__}: {error}", **outcome)
            raise
        self.write("done", action=call, **outcome)

    def read(self) -> list[dict[str, Any]]:
        """Read every whole line; one that was cut off by a crash, or is no JSON for another reason, is left out."""
        if not self.path.exists():
            return []
        entries = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").split("\n"):
            # ValueError: also of a number with too many digits. RecursionError: of what is nested too deep.
            with contextlib.suppress(ValueError, RecursionError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    entries.append(entry)
        return entries

    def mend(self) -> None:
        """End a line that a crash cut off, so that the next one is whole."""
        if self.path.exists():
            raw = self.path.read_bytes()
            if raw and not raw.endswith(b"\n"):
                with self.path.open("ab") as file:
                    file.write(b"\n")


@dataclass(frozen=True)
class Run:
    """A run and its folder: `manifest.json`, `journal.jsonl`, `evidence/`, `logs/`, `scripts/`."""

    id: str
    folder: Path

    @classmethod
    def create(cls, root: Path, run_id: str | None = None) -> Run:
        """Make the folder of a new run.

        Raises
        ------
        InputError
            If the id is taken, or the folder cannot be written.
        """
        chosen = run_id or new_id()
        parse_id(chosen)
        folder = root / chosen
        if (folder / "journal.jsonl").exists():
            raise InputError(
                f"the run {chosen} has been used",
                resource=str(folder),
                hint="leave the run id out for a new one",
            )
        try:
            for name in ("evidence", "logs", "scripts"):
                (folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot make the run's folder: {error.strerror}",
                resource=str(folder),
                hint="choose another with --runs",
            ) from error
        return cls(chosen, folder)

    @classmethod
    def open(cls, root: Path, run_id: str) -> Run:
        """Open the folder of a run that has begun.

        Raises
        ------
        InputError
            If there is no such run.
        """
        parse_id(run_id)
        folder = root / run_id
        if not (folder / "journal.jsonl").exists():
            raise InputError(f"there is no run {run_id}", resource=str(root), hint="choose its folder with --runs")
        for name in ("evidence", "logs", "scripts"):
            (folder / name).mkdir(exist_ok=True)
        return cls(run_id, folder)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other process away from the run, for as long as this one lives.

        Raises
        ------
        InputError
            If another process has it: its pid and its start are named.
        """
        path = self.folder / "lock"
        with path.open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise InputError(
                    f"the run is being worked on by {file.read().strip() or 'another process'}",
                    resource=f"run {self.id}",
                    hint="wait until it is done, or stop that process: it cleans up",
                ) from None
            file.seek(0)
            file.truncate()
            file.write(f"process {os.getpid()}, which started at {now().isoformat()}\n")
            file.flush()
            yield

    @property
    def lock_number(self) -> int | None:
        """The number that the file system gave the lock's file, which a copy of the folder has not; None if it is gone.

        A lock says nothing about who works with another copy of the folder, on this machine or elsewhere.
        """
        try:
            return (self.folder / "lock").stat().st_ino
        except OSError:
            return None

    @property
    def journal(self) -> Journal:
        """The run's journal."""
        return Journal(self.folder / "journal.jsonl")

    @property
    def manifest_path(self) -> Path:
        """Where the manifest is."""
        return self.folder / "manifest.json"

    def write_manifest(self, manifest: Mapping[str, Any]) -> Path:
        """Write the manifest in one piece: a reader sees the old one or the new one, never half of it."""
        write_whole(self.manifest_path, json.dumps(manifest, indent=2, default=str) + "\n")
        return self.manifest_path

    def write_evidence(
        self, name: str, *, kind: str, provenance: Provenance, source: str, payload: Any, raw: bytes = b""
    ) -> Path:
        """Keep one finding or table, with where it comes from.

        Parameters
        ----------
        name
            The file's stem, such as `image-contents`.
        kind
            What the payload is, such as `findings` or `versions`.
        raw
            The input it was read from; kept beside it in `evidence/raw/` and named by its digest.
        """
        document: dict[str, Any] = {
            "kind": kind,
            "provenance": provenance,
            "source": source,
            "collected_at": now().isoformat(),
            "run": self.id,
            "sha256": None,
            "payload": payload,
        }
        if raw:
            document["sha256"] = hashlib.sha256(raw).hexdigest()
            kept = self.folder / "evidence" / "raw" / f"{name}.txt"
            kept.parent.mkdir(exist_ok=True)
            kept.write_bytes(raw)
        path = self.folder / "evidence" / f"{name}.json"
        write_whole(path, json.dumps(document, indent=2, default=str) + "\n")
        return path


def settle(folder: Path) -> None:
    """See the names in a folder onto the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a crash leaves the old one or the new one."""
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=f".{path.name}.", delete=False, encoding="utf-8"
    ) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)
    settle(path.parent)
