"""Where evidence is read from: a file, a folder of rotated files, or standard input; compressed or not.

This is the one module of the readers that opens files. It gives bytes; what they mean is for `leptonami.readers`.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from leptonami.errors import InputError
from leptonami.readers.blocks import as_utf8, fill, gather, plain
from leptonami.readers.compression import LONGEST_MAGIC, kind_of, unpack
from leptonami.readers.rotation import in_order, is_log

__all__ = ["BLOCK", "DOCUMENT", "Source", "open_sources"]

BLOCK = 1 << 20
DOCUMENT = 256 << 20  # bytes of a whole document: the pods of a cluster of 5,000 nodes are about 200 MiB of JSON
HEAD = 512  # bytes that tell what a file is: a block of tar
MOST_FILES = 10_000  # in one folder
DEEPEST = 4  # folders below the one that was named: /var/log/pods has NAMESPACE_POD_UID/CONTAINER/0.log
STANDARD_INPUT = "-"


@dataclass(slots=True)
class Source:
    """One file, or standard input.

    Attributes
    ----------
    name
        As the user named it; in a folder the folder's name and the file's. `-` is standard input.
    modified
        When it was last written to, in UTC: no line of it is later. None for standard input. A gzip file brings the
        time of the file that was packed.
    problems
        What was wrong with it while it was read, in words: an archive without its end, a file of a folder that could
        not be opened. What could be read was given nevertheless, so whoever shows results has to show these.
    """

    name: str
    modified: datetime | None = None
    problems: list[str] = field(default_factory=list)
    path: Path | None = None
    stream: BinaryIO | None = None
    among_others: bool = False

    def blocks(self, size: int = BLOCK) -> Iterator[bytes]:
        """Give the content from the beginning, unpacked, in blocks of at most `size` bytes.

        UTF-16 with a byte order mark, which PowerShell's `>` writes, is given as UTF-8.

        Raises
        ------
        InputError
            If it cannot be read, or is an archive of several files; in a folder that is a problem of this source
            instead, and the others are read. If standard input is empty or was read before.
        """
        if size < LONGEST_MAGIC:
            raise ValueError(f"a block needs room for {LONGEST_MAGIC} bytes at least")
        given = False
        try:
            with self.open() as stream:
                for block in self.content(stream, size):
                    given = True
                    yield block
        except OSError as error:
            self.fail(f"it cannot be read: {error.strerror or error}", None)
        except InputError as error:
            if not self.among_others:
                raise
            self.note(error.message)
        if not given and not self.problems:
            if self.path is None:
                raise InputError(
                    "nothing came from standard input",
                    resource=self.name,
                    hint="pipe a log into it, such as: kubectl -n kube-system logs deploy/cluster-autoscaler | …",
                )
            self.note("it is empty")

    def read_bytes(self, limit: int = DOCUMENT) -> bytes:
        """Give the whole content.

        Raises
        ------
        InputError
            As `blocks`; and if it is longer than `limit`, which a small compressed file can be, too.
        """
        parts: list[bytes] = []
        left = limit
        for block in self.blocks():
            left -= len(block)
            if left < 0:
                raise InputError(
                    f"it is larger than {limit / (1 << 20):.0f} MiB"
                    if limit >= 1 << 20
                    else f"it has over {limit} bytes",
                    resource=self.name,
                    hint="a document is read as a whole; take it of one namespace or node",
                )
            parts.append(block)
        return b"".join(parts)

    def read_text(self, limit: int = DOCUMENT) -> str:
        """Give the whole content as text. Bytes that are no UTF-8 become the replacement character."""
        return self.read_bytes(limit).decode("utf-8", "replace")

    def note(self, problem: str) -> None:
        """Note a problem, once."""
        if problem not in self.problems:
            self.problems.append(problem)

    def fail(self, message: str, hint: str | None) -> None:
        """Raise an error, or note it if there are other sources to read."""
        if not self.among_others:
            raise InputError(message, resource=self.name, hint=hint)
        self.note(message)

    def open(self) -> closing[BinaryIO] | nullcontext[BinaryIO]:
        """Open it."""
        if self.path is not None:
            return closing(open_file(self.path))
        if self.stream is None:
            raise InputError(
                "standard input can be read only once", resource=self.name, hint="save it to a file, and name that"
            )
        stream, self.stream = self.stream, None
        return nullcontext(stream)

    def content(self, stream: BinaryIO, size: int) -> Iterator[bytes]:
        """Unpack, and take off what stands before the text."""
        # What is there now, not what will be: a pipe may stay open for hours.
        read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
        first = fill(read, min(HEAD, size))
        packed = kind_of(first) is not None
        pieces = gather(unpack(read, first, self.note), size) if packed else plain(read, first, size)
        return as_utf8(self.refuse_archives(pieces), size)

    def refuse_archives(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Stop at an archive of several files: its bytes are no log."""
        start = True
        for piece in pieces:
            if start and piece[257:262] == b"ustar":
                raise InputError(
                    "this is a tar archive, not a log", resource=self.name, hint="unpack it, and name the file in it"
                )
            if start and piece.startswith((b"PK\x03\x04", b"PK\x05\x06")):
                raise InputError(
                    "this is a zip archive, not a log", resource=self.name, hint="unpack it, and name the file in it"
                )
            start = False
            yield piece


def open_sources(
    where: str | Path, *, stdin: BinaryIO | None = None, wanted: Callable[[str], bool] = is_log
) -> list[Source]:
    """Find what is to be read.

    Parameters
    ----------
    where
        A file, a folder, or `-`. Of a folder the logs in it are taken, or if it has none, those in the folders below;
        log by log, oldest file first (`readers.rotation`).
    stdin
        What `-` stands for, if not this process' standard input.
    wanted
        Which files of a folder are taken, by their names.

    Returns
    -------
    list of Source
        At least one. Nothing has been read yet.

    Raises
    ------
    InputError
        If there is no such file or folder, it may not be read, is empty, or has no log in it.
    """
    name = os.fspath(where)
    if name == STANDARD_INPUT:
        return [Source(name, stream=sys.stdin.buffer if stdin is None else stdin)]
    path = Path(name)
    try:
        status = path.stat() if name else None
    except FileNotFoundError:
        raise InputError("there is no such file or folder", resource=name, hint=nearby(path)) from None
    except (OSError, ValueError) as error:
        raise unreadable(name, error) from error
    if status is None:
        raise InputError("no file is named", hint="name a file or a folder, or - for standard input")
    if stat.S_ISDIR(status.st_mode):
        return folder(path, name, wanted)
    if not stat.S_ISREG(status.st_mode):
        # A pipe (`<(kubectl logs ...)`) is only opened when it is read: opening it waits for its writer.
        if stat.S_ISFIFO(status.st_mode) or stat.S_ISCHR(status.st_mode):
            return [Source(name, path=path)]
        raise InputError("this is neither a file nor a folder", resource=name)
    if status.st_size == 0:
        raise InputError(
            "the file is empty", resource=name, hint="was it recorded? kubectl logs --previous gives the run before"
        )
    try:
        return [Source(name, modified(path, status), path=path)]
    except OSError as error:
        raise unreadable(name, error) from error


def folder(path: Path, name: str, wanted: Callable[[str], bool]) -> list[Source]:
    """Find the logs of a folder."""
    try:
        found, others = list_logs(path, wanted, 0)
    except OSError as error:
        raise unreadable(name, error) from error
    sources: list[Source] = []
    for each in found:
        source = Source(os.path.join(name, each.relative_to(path)), path=each, among_others=True)  # noqa: PTH118 - `./x` stays `./x`
        try:
            source.modified = modified(each, each.stat())
        except OSError as error:
            source.note(f"it cannot be read: {error.strerror or error}")
        sources.append(source)
    if not sources:
        seen = f"it has {', '.join(sorted(others)[:5])}" if others else "it has no file that is not empty"
        raise InputError("there is no log in this folder", resource=name, hint=f"{seen}; name a file to have it read")
    unread = [source for source in sources if source.problems]
    if len(unread) == len(sources):
        raise InputError(
            f"no file of this folder can be read; {unread[0].name}: {unread[0].problems[0]}",
            resource=name,
            hint="are the files yours to read? logs of a node belong to root",
        )
    return sources


def list_logs(path: Path, wanted: Callable[[str], bool], depth: int) -> tuple[list[Path], set[str]]:
    """List the logs of a folder in their order, and the names that are none."""
    files: dict[str, Path] = {}
    folders: list[str] = []
    others: set[str] = set()
    real: dict[tuple[int, int], str] = {}
    with os.scandir(path) as entries:
        for number, entry in enumerate(entries):
            if number >= MOST_FILES:
                raise InputError(f"the folder has more than {MOST_FILES} files", resource=str(path), hint="name a file")
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith("."):
                    folders.append(entry.name)
                continue
            status = status_of(entry)
            if status is None or not stat.S_ISREG(status.st_mode) or status.st_size == 0:
                continue
            if not wanted(entry.name):
                others.add(entry.name)
                continue
            # klog keeps a link `x.INFO` to the file that it writes: one file under two names is read once.
            identity = status.st_dev, status.st_ino
            previous = real.get(identity)
            if previous is not None:
                if entry.is_symlink():
                    continue
                files.pop(previous, None)
            real[identity] = entry.name
            files[entry.name] = path / entry.name
    ordered = [files[name] for name in in_order(files)]
    if not ordered and depth < DEEPEST:
        for name in in_order(folders):
            try:
                below, more = list_logs(path / name, wanted, depth + 1)
            except PermissionError:
                continue
            ordered += below
            others |= {f"{name}/{each}" for each in more}
            if len(ordered) > MOST_FILES:
                raise InputError(f"there are more than {MOST_FILES} files below it", resource=str(path))
    return ordered, others


def status_of(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Give a file's status; none for a link that leads nowhere."""
    try:
        return entry.stat()
    except OSError:
        return None


def modified(path: Path, status: os.stat_result) -> datetime | None:
    """Tell when a file was last written to, and see on the way that it can be opened."""
    with closing(open_file(path)) as stream:
        first = stream.read(8)
    seconds = status.st_mtime
    packed = int.from_bytes(first[4:8], "little") if kind_of(first) == "gzip" and len(first) == 8 else 0
    if 0 < packed < seconds:
        seconds = packed
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading, without a buffer: blocks are large."""
    return path.open("rb", buffering=0)


def unreadable(name: str, error: OSError | ValueError) -> InputError:
    """Say why something cannot be read."""
    if isinstance(error, PermissionError):
        return InputError(
            "it may not be read: permission denied", resource=name, hint="read it as its owner, or copy it: sudo cat"
        )
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InputError(f"it cannot be read: {reason}", resource=name)


def nearby(path: Path, suffixes: Collection[str] = ()) -> str | None:
    """Say what a missing file may have been called: one with these suffixes, if some are given."""
    import difflib

    try:
        names = [each.name for each in path.parent.iterdir() if not suffixes or each.suffix in suffixes]
    except (OSError, ValueError):
        return None
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    return f"did you mean {', '.join(str(path.parent / each) for each in near)}?" if near else None
