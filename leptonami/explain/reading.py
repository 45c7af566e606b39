"""Reading evidence for an explanation: several files as one log, progress while it goes, and which line is whose."""

from __future__ import annotations

import codecs
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from leptonami.explain.recognise import HEAD, What, recognise
from leptonami.progress import Progress, Silent
from leptonami.proof import Proof
from leptonami.readers.compression import LONGEST_MAGIC, kind_of
from leptonami.sources import Source, open_sources

__all__ = ["Found", "Log", "find"]

BLOCK = 1 << 16  # as `readers.autoscaler.scan.BLOCK`: what keeps a block's lines in the processor's cache
MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
STEP = 16 << 20  # bytes between two words of progress


@dataclass(slots=True)
class Found:
    """One file of what was named, with what it is.

    Attributes
    ----------
    source
        The file, or standard input.
    what
        What it is, by its first bytes.
    started
        What was read of it to tell, where it cannot be read twice (standard input, a pipe).
    """

    source: Source
    what: What
    started: Iterator[bytes] | None = None

    def blocks(self, size: int = BLOCK) -> Iterator[bytes]:
        """Give its content from the beginning, unpacked."""
        if self.started is None:
            return self.source.blocks(size)
        blocks, self.started = self.started, iter(())
        return blocks

    def read(self) -> bytes:
        """Give its content as a whole.

        Raises
        ------
        InputError
            As `Source.read_bytes`.
        """
        return self.source.read_bytes() if self.started is None else b"".join(self.blocks())


def find(where: str) -> list[Found]:
    """Find what is named, and what each file of it is.

    Raises
    ------
    InputError
        As `sources.open_sources`; a file alone that cannot be read.
    """
    return [recognised(each) for each in open_sources(where, wanted=is_visible)]


def is_visible(name: str) -> bool:
    """Tell whether a file of a folder is looked at: all but hidden ones and drafts."""
    return not name.startswith(".") and not name.endswith(("~", ".tmp", ".swp"))


def recognised(source: Source) -> Found:
    """Look at the first bytes of a source."""
    blocks = source.blocks(HEAD)
    parts: list[bytes] = []
    size = 0
    for block in blocks:
        parts.append(block)
        size += len(block)
        if size >= HEAD:
            break
    what = recognise(b"".join(parts))
    if source.path is not None and source.path.is_file():
        blocks.close()  # type: ignore[attr-defined] # blocks() is a generator
        return Found(source, what)
    return Found(source, what, chained(parts, blocks))


def chained(parts: Iterable[bytes], rest: Iterator[bytes]) -> Iterator[bytes]:
    """Give what was read already, in small blocks, and then the rest."""
    for part in parts:
        for start in range(0, len(part), BLOCK):
            yield part[start : start + BLOCK]
    yield from rest


@dataclass
class Log:
    """Several files as one log, in their order.

    Attributes
    ----------
    files
        The files.
    name
        What the log is called as a whole.
    starts
        The number of each file's first line, minus one, once it has been read.
    """

    files: Sequence[Found]
    name: str
    starts: list[int] = field(default_factory=list)

    @property
    def modified(self) -> datetime | None:
        """When the last of it was written, if that is known."""
        times = [each.source.modified for each in self.files if each.source.modified is not None]
        return max(times, default=None)

    @property
    def again(self) -> bool:
        """Whether it can be read a second time."""
        return all(each.started is None for each in self.files)

    @property
    def size(self) -> int | None:
        """How many bytes will be read; None if nobody knows: a pipe, a compressed file."""
        total = 0
        for each in self.files:
            path = each.source.path
            if path is None or not path.is_file():
                return None
            with path.open("rb") as stream:
                if kind_of(stream.read(LONGEST_MAGIC)) is not None:
                    return None
            total += path.stat().st_size
        return total

    def plain_file(self) -> Path | None:
        """Give the file if the log is one, as it stands there: not packed, not a pipe, not in UTF-16."""
        path = self.files[0].source.path if len(self.files) == 1 else None
        if path is None or self.size is None:
            return None
        with path.open("rb") as stream:
            return None if stream.read(3).startswith(MARKS) else path

    def blocks(self, progress: Progress | None = None) -> Iterator[bytes]:
        """Give it block by block; a line never goes over from one file to the next."""
        shown = progress or Silent()
        total = self.size if progress is not None else None
        done = told = lines = 0
        self.starts = []
        alone = len(self.files) == 1
        for each in self.files:
            self.starts.append(lines)
            last = b"\n"
            for block in each.blocks():
                done += len(block)
                if not alone:
                    lines += block.count(b"\n")
                    last = block[-1:]
                if done - told >= STEP:
                    told = done
                    shown.update(f"{done >> 20:,} MiB", done / total if total else None)
                yield block
            if last != b"\n":
                lines += 1
                yield b"\n"

    def place(self, line: int) -> tuple[str, int]:
        """Give the file that a line of the whole is in, and its number there."""
        if len(self.starts) < 2:
            return (self.files[0].source.name if self.files else self.name), line
        at = max(0, bisect_right(self.starts, line - 1) - 1)
        return self.files[at].source.name, line - self.starts[at]

    def settle(self, proof: Proof) -> Proof:
        """Name the file in a proof that was found in the whole."""
        word, _, number = proof.place.partition(" ")
        if proof.source != self.name or word != "line" or not number.isdecimal():
            return proof
        name, line = self.place(int(number))
        return replace(proof, source=name, place=f"line {line}")

    @property
    def problems(self) -> list[str]:
        """What was wrong with the files, once they have been read."""
        return [f"{each.source.name}: {problem}" for each in self.files for problem in each.source.problems]
