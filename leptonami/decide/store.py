"""Records as files: `NNNN-title.json` (the value), `.md` (MADR 4) and `.html` (for readers), in one folder."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from leptonami.decide import madr
from leptonami.decide.record import STATUS_LINE, Body, Entry, Record, adapter, plain, sha256
from leptonami.errors import InputError
from leptonami.runs import write_whole

__all__ = ["as_json", "find", "listed", "next_number", "read", "render", "write_again", "write_new"]

NAME = re.compile(r"([0-9]{4})-([a-z0-9]+(?:-[a-z0-9]+)*)")
LARGEST = 16 << 20


def as_json(record: Record) -> str:
    """Write a record as its JSON file holds it."""
    value = {
        "schema": 1,
        "body": json.loads(record.written),
        "digest": record.digest,
        "text_sha256": record.text_sha256,
        "page_sha256": record.page_sha256,
        "history": [plain(each) for each in record.history],
    }
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def read(path: Path) -> Record:
    """Read a record's JSON file. Its digests are not checked: that is `verify.check`.

    Raises
    ------
    InputError
        If there is no such file, or it is no record.
    """
    try:
        with path.open("rb") as stream:
            value = json.loads(stream.read(LARGEST))
        if value["schema"] != 1:
            raise InputError("it has another schema than 1", resource=str(path), hint="use a newer leptonami")
        written = json.dumps(value["body"], ensure_ascii=False)
        body: Body = adapter(Body).validate_json(written)
        history = tuple(adapter(Entry).validate_json(json.dumps(each)) for each in value["history"])
        digests = [str(value[name]) for name in ("digest", "text_sha256", "page_sha256")]
        if not history or not body.evaluations:
            raise ValueError("it has no status, or no evaluation")
    except OSError as error:
        raise InputError(f"the record cannot be read: {error.strerror}", resource=str(path)) from error
    except (ValidationError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        hint = "git log tells what changed"
        raise InputError(f"this is no record: {reason}", resource=str(path), hint=hint) from error
    return Record(body, written, digests[0], digests[1], digests[2], history)


def listed(folder: Path) -> list[Path]:
    """Give the JSON files of the records in a folder, by number."""
    return sorted(each for each in folder.glob("*.json") if NAME.fullmatch(each.stem)) if folder.is_dir() else []


def find(folder: Path, name: str) -> Path:
    """Find a record by its number, its name, or its path.

    Raises
    ------
    InputError
        If there is none, naming what there is.
    """
    known = listed(folder)
    number = f"{int(name):04d}" if name.isascii() and name.isdigit() and len(name) <= 4 else None
    for each in known:
        if name in (each.stem, each.name, str(each)) or each.stem[:4] == number:
            return each
    path = Path(name)
    if NAME.fullmatch(path.stem) and path.with_suffix(".json").is_file():
        return path.with_suffix(".json")
    there = ", ".join(each.stem for each in known) or "none"
    raise InputError(f"there is no record {name!r}", resource=str(folder), hint=f"records: {there}")


def next_number(folder: Path) -> int:
    """Give the number that comes next in a folder."""
    return max((int(each.stem[:4]) for each in listed(folder)), default=0) + 1


def render(record: Record) -> dict[str, str]:
    """Give a new record's files by their names."""
    page = madr.page(record)
    name = record.body.name
    return {
        f"{name}.json": as_json(replace(record, page_sha256=sha256(page))),
        f"{name}.md": madr.markdown(record.body, str(record.status)),
        f"{name}.html": page,
    }


def write_new(record: Record, folder: Path) -> Path:
    """Write a new record.

    Raises
    ------
    InputError
        If its number is taken, or the folder cannot be written: a record is never written over.
    """
    taken = [each.name for each in folder.glob(f"{record.body.number:04d}-*")] if folder.is_dir() else []
    if taken:
        raise InputError(
            f"the number {record.body.number:04d} is taken by {taken[0]}",
            resource=str(folder),
            hint="records are not written over: leave the number out for the next one",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in render(record).items():
            with (folder / name).open("x", encoding="utf-8", newline="") as stream:
                stream.write(text)
    except OSError as error:
        raise InputError(f"the record cannot be written: {error.strerror}", resource=str(folder)) from error
    return folder / f"{record.body.name}.json"


def write_again(record: Record, path: Path) -> None:
    """Write a record's page anew, and its last status into the other two files; all else in them stays as it is.

    Raises
    ------
    InputError
        If the Markdown is missing: another version of leptonami may write it otherwise, and then it is another text.
    """
    text = path.with_suffix(".md")
    try:
        before = text.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        hint = "git has it"
        raise InputError("the record's Markdown cannot be read", resource=str(text), hint=hint) from error
    page = madr.page(record)
    write_whole(path.with_suffix(".html"), page)
    write_whole(text, STATUS_LINE.sub(f"status: {record.status}", before, count=1))
    write_whole(path, as_json(replace(record, page_sha256=sha256(page))))
