"""Every form in which a line of an autoscaler comes, brought into one: klog's classic one, without a prefix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain

from leptonami.readers import klog, prefixes
from leptonami.readers.drafts import SAMPLE, wrapping_of
from leptonami.readers.wrapping import Wrapping

__all__ = ["Classic", "Forms", "whole_lines"]

MOST_HELD = 64  # writers whose partial lines are held at a time
LONGEST_HELD = 1 << 20  # bytes of a line put together from parts


@dataclass(frozen=True, slots=True)
class Classic:
    """A line in the classic form, and the full time that its prefix or its JSON had; empty for a part of a line."""

    line: bytes
    at: datetime | None = None


@dataclass(slots=True)
class Forms:
    """Brings lines into the classic form; remembers the parts of lines that a container runtime cut."""

    held: dict[str, bytes] = field(default_factory=dict)

    def classic(self, line: bytes) -> Classic | None:
        """Give a line in the classic form; nothing if it is no line of klog in any form.

        A line that goes on in a later one (CRI's `P`) gives an empty one now, and all of it then.
        """
        stripped = prefixes.strip(line)
        rest = stripped.rest
        origin = f"{stripped.origin}/{stripped.stream}"
        if stripped.partial:
            if origin in self.held or len(self.held) < MOST_HELD:
                self.held[origin] = (self.held.get(origin, b"") + rest)[:LONGEST_HELD]
            return Classic(b"")
        if self.held and origin in self.held:
            rest = (self.held.pop(origin) + rest)[:LONGEST_HELD]
        parsed = klog.parse(rest)
        if parsed is None:
            return None
        return Classic(written(parsed, rest), stripped.at or parsed.at)


def written(parsed: klog.Parsed, rest: bytes) -> bytes:
    """Write a line in the classic form. The time of a JSON line becomes UTC."""
    if rest[:1] != b"{":
        return rest
    at = parsed.at.astimezone(UTC) if parsed.at is not None else None
    stamp = "0101 00:00:00.000000" if at is None else f"{at:%m%d %H:%M:%S.%f}"
    place = f"{parsed.file or 'unknown'}:{parsed.line}"
    return f"{parsed.severity}{stamp} {parsed.thread or 1:7d} {place}] {parsed.message}".encode("utf-8", "replace")


def whole_lines(batches: Iterable[list[bytes]]) -> Iterator[list[bytes]]:
    """Put lines together that a terminal or an editor broke, where a log looks like that; others pass untouched.

    A line that was put together stands where it began; empty ones stand for the rest, so that the numbers stay right.
    """
    source = iter(batches)
    sample: list[list[bytes]] = []
    while sum(map(len, sample)) < SAMPLE and (batch := next(source, None)) is not None:
        sample.append(batch)
    every = chain(sample, source)
    wrapping = wrapping_of(list(chain.from_iterable(sample))[:SAMPLE])
    yield from every if wrapping is None else joined(every, wrapping)


def joined(batches: Iterable[list[bytes]], wrapping: Wrapping) -> Iterator[list[bytes]]:
    """Join the lines of a wrapped log."""
    parts: list[bytes] = []
    size = 0
    before = b""  # the last line as it stands in the file: its width tells whether it goes on
    for line in chain.from_iterable(batches):
        rest = prefixes.strip(line).rest
        joint = None if not parts or prefixes.begins(rest) else wrapping.joint(before, line)
        if joint is None or size > LONGEST_HELD:
            if parts:
                yield whole(parts)
            parts, size = [line], 0
        else:
            parts += [joint + line]
        size += len(line)
        before = line
    if parts:
        yield whole(parts)


def whole(parts: list[bytes]) -> list[bytes]:
    """Give a line and as many empty ones as it had further parts."""
    return [b"".join(parts), *[b""] * (len(parts) - 1)]
