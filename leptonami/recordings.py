"""The recordings that come with the package: what real programs wrote, where it comes from, and what it can show.

`data/recorded/index.yaml` describes them: each recording has an id (its folder), its provenance, how and when it was
made, with what versions, and what it can and cannot show; each file has its digest. Whoever reads a file through this
module reads the bytes that were recorded, or gets an error. `data/recorded/README.md` tells the same in words.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from leptonami import datafiles
from leptonami.catalog import Date
from leptonami.errors import InputError
from leptonami.validation import Strict, Wrong, choose, validate
from leptonami.yamlfile import read, refuse

__all__ = ["Kind", "RecordedFile", "Recording", "get", "recordings"]

# What a file is to a reader.
Kind = Literal[
    "autoscaler-log",
    "autoscaler-status",
    "daemonsets",
    "device-plugin-log",
    "events",
    "gpu-operator-listing",
    "launch-benchmark",
    "nodes",
    "pods",
    "timeline",
]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Texts = Annotated[list[str], Field(min_length=1)]


class UnpackedEntry(Strict):
    """What a compressed file holds."""

    bytes: int
    sha256: Sha256


class FileEntry(Strict):
    """One file, as the index describes it."""

    name: str
    kind: Kind
    bytes: int
    sha256: Sha256
    unpacked: UnpackedEntry | None = None
    changed: str | None = None

    @field_validator("name")
    @classmethod
    def plain(cls, value: str) -> str:
        """Let no name lead out of the recording's folder."""
        if value in {"", ".", ".."} or "/" in value or "\\" in value:
            raise Wrong(f"not the name of a file: {value!r}", "it stands in the recording's own folder")
        return value

    @model_validator(mode="after")
    def packed(self) -> Self:
        """Want `unpacked` for compressed files, and only for them."""
        if self.name.endswith(".gz") is not (self.unpacked is not None):
            raise Wrong(f"{self.name}: a file that ends in .gz has `unpacked`, and no other has")
        return self


class RecordingEntry(Strict):
    """One recording, as the index describes it."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9-]+(?:/[a-z0-9-]+)*$")]
    title: str
    provenance: Literal["recorded"]
    recorded: Date
    how: str
    versions: dict[str, str]
    shows: Texts
    cannot_show: Texts
    left_as_recorded: Texts | None = None
    files: Annotated[list[FileEntry], Field(min_length=1)]


class Index(Strict):
    """What `data/recorded/index.yaml` holds."""

    schema_: Literal[1] = Field(alias="schema")
    recordings: Annotated[list[RecordingEntry], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class RecordedFile:
    """One file of a recording.

    Parameters
    ----------
    name
        Its name in the recording's folder; `.gz` if it is compressed.
    kind
        What it is, such as `autoscaler-log` or `pods`.
    path
        Where it stands.
    size, sha256
        Its bytes as it stands there, and their digest.
    unpacked_size, unpacked_sha256
        Of its content; the same as above if it is not compressed.
    changed
        What was replaced in it since it was recorded; None if nothing was.
    """

    name: str
    kind: Kind
    path: Path
    size: int
    sha256: str
    unpacked_size: int
    unpacked_sha256: str
    changed: str | None

    def read(self) -> bytes:
        """Give its content, unpacked and checked against both digests.

        Raises
        ------
        InputError
            If it is missing, or not what was recorded.
        """
        try:
            with self.path.open("rb") as stream:
                stored = stream.read(self.size + 1)
        except OSError as error:
            raise InputError(
                f"the recorded file cannot be read: {error.strerror}", resource=str(self.path), hint=AGAIN
            ) from error
        self.check(stored, self.size, self.sha256)
        if not self.name.endswith(".gz"):
            return stored
        try:
            content = gzip.decompress(stored)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"not gzip: {error}", resource=str(self.path), hint=AGAIN) from error
        self.check(content, self.unpacked_size, self.unpacked_sha256)
        return content

    def check(self, content: bytes, size: int, sha256: str) -> None:
        """Refuse bytes that are not those of the index."""
        if len(content) != size or hashlib.sha256(content).hexdigest() != sha256:
            raise InputError(
                "the file is not what was recorded: its digest is not that of the index",
                resource=str(self.path),
                hint=AGAIN,
            )


AGAIN = "install the package again; in a checkout, git status shows what changed"


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording: files that were made together, and what is known about them.

    Parameters
    ----------
    id
        Its folder below `data/recorded`, such as `autoscaler/healthy`.
    title
        What happens in it, in one line.
    provenance
        How its numbers are labelled: always `recorded`.
    recorded
        On which day. Log headers without a year are of this one.
    how
        How it was made.
    versions
        Of what took part, as text.
    shows, cannot_show
        What it is evidence of, and what not.
    left_as_recorded
        What looks as if it had to be replaced, and was left.
    files
        What it consists of.
    """

    id: str
    title: str
    provenance: Literal["recorded"]
    recorded: date
    how: str
    versions: dict[str, str]
    shows: tuple[str, ...]
    cannot_show: tuple[str, ...]
    left_as_recorded: tuple[str, ...]
    files: tuple[RecordedFile, ...]

    def file(self, kind: Kind) -> RecordedFile:
        """Find the file of a kind.

        Raises
        ------
        InputError
            If the recording has none, naming what it has.
        """
        for each in self.files:
            if each.kind == kind:
                return each
        has = ", ".join(each.kind for each in self.files)
        raise InputError(f"the recording has no {kind}", resource=self.id, hint=f"it has {has}")

    def path(self, kind: Kind) -> Path:
        """Give the path of the file of a kind, as it stands (a log may be compressed); nothing is checked.

        Raises
        ------
        InputError
            If the recording has none.
        """
        return self.file(kind).path

    def read(self, kind: Kind) -> bytes:
        """Give the content of the file of a kind, unpacked and checked.

        Raises
        ------
        InputError
            If there is none, or it is not what was recorded.
        """
        return self.file(kind).read()

    def verify(self) -> None:
        """Check the digests of all its files.

        Raises
        ------
        InputError
            Naming the first file that is missing or differs by as much as a byte.
        """
        for each in self.files:
            each.read()

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data, for `--json` and for the evidence of a run. Paths stay out."""
        return {
            "id": self.id,
            "title": self.title,
            "provenance": self.provenance,
            "recorded": self.recorded.isoformat(),
            "how": self.how,
            "versions": dict(self.versions),
            "shows": list(self.shows),
            "cannot_show": list(self.cannot_show),
            "left_as_recorded": list(self.left_as_recorded),
            "files": [
                {"name": each.name, "kind": each.kind, "sha256": each.unpacked_sha256, "changed": each.changed}
                for each in self.files
            ],
        }


@lru_cache(maxsize=1)
def recordings() -> tuple[Recording, ...]:
    """Give all recordings that come with the package, in the order of the index. No file but the index is opened.

    Raises
    ------
    InputError
        If the index is damaged.
    """
    return load(datafiles.path("recorded"))


def get(id: str) -> Recording:
    """Find a recording.

    Parameters
    ----------
    id
        For instance `original` or `autoscaler/broken-toolkit`.

    Raises
    ------
    InputError
        If there is none, naming what there is.
    """
    known = {each.id: each for each in recordings()}
    if id not in known:
        raise InputError(f"there is no recording {id!r}", resource="recording", hint=choose(id, known, "recordings"))
    return known[id]


def load(folder: Path) -> tuple[Recording, ...]:
    """Read the index of a folder of recordings.

    Raises
    ------
    InputError
        If it is missing or has mistakes.
    """
    document = read(folder / "index.yaml", what="index of the recordings")
    model, problems = validate(Index, document)
    if model is not None:
        ids = [each.id for each in model.recordings]
        problems += [
            document.problem(("recordings", at, "id"), f"a second recording {id!r}")
            for at, id in enumerate(ids)
            if id in ids[:at]
        ]
        for at, each in enumerate(model.recordings):
            for what, values in (
                ("name", [str(file.name) for file in each.files]),
                ("kind", [str(file.kind) for file in each.files]),
            ):
                problems += [
                    document.problem(("recordings", at, "files", n, what), f"a second file of this {what}: {value}")
                    for n, value in enumerate(values)
                    if value in values[:n]
                ]
    refuse(problems, what="index of the recordings")
    assert model is not None  # noqa: S101 - without problems there is a model
    return tuple(make(each, folder / each.id) for each in model.recordings)


def make(entry: RecordingEntry, folder: Path) -> Recording:
    """Make a recording of what the index says."""
    return Recording(
        id=entry.id,
        title=entry.title,
        provenance=entry.provenance,
        recorded=entry.recorded,
        how=entry.how,
        versions=dict(entry.versions),
        shows=tuple(entry.shows),
        cannot_show=tuple(entry.cannot_show),
        left_as_recorded=tuple(entry.left_as_recorded or ()),
        files=tuple(
            RecordedFile(
                name=each.name,
                kind=each.kind,
                path=folder / each.name,
                size=int(each.bytes),
                sha256=each.sha256,
                unpacked_size=int(each.unpacked.bytes if each.unpacked else each.bytes),
                unpacked_sha256=each.unpacked.sha256 if each.unpacked else each.sha256,
                changed=each.changed,
            )
            for each in entry.files
        ),
    )
