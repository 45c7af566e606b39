"""Lines that a terminal or an editor has broken at a fixed width, told from messages of several lines.

A terminal breaks at the width and nowhere else, so every broken line is as long as the longest of the log. An editor or
`fold -s` breaks between words: the next word would not have fitted. A message that has several lines of its own does
neither, but by chance; so a few lines prove nothing, most of them must agree, and a message that comes again and again
counts once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Wrapping", "detect"]

FEWEST = 3  # broken lines before anything is said
MOST_OF = 0.8  # of the lines that go on must be explained by the width
NARROWEST, WIDEST = 40, 400  # characters: what terminals have
DIGITS = re.compile(rb"[0-9]+")


@dataclass(frozen=True, slots=True)
class Wrapping:
    """How a log was wrapped.

    Parameters
    ----------
    width
        In characters.
    words
        Whether between words; else anywhere.
    kept
        Whether the space between two words was left at the end of the first line, as `fold -s` does.
    """

    width: int
    words: bool
    kept: bool = False

    def joint(self, before: bytes, after: bytes) -> bytes | None:
        r"""Give what stood where a line was broken: nothing or a space; None if the line end is the message's own.

        >>> Wrapping(40, words=True).joint(b"x" * 38, b"word and more")
        b' '
        """
        if indented(after):
            return None
        length = characters(before)
        if not self.words:
            if length == self.width:
                return b""
            # The space at the edge was taken off when the text was copied.
            return b" " if length == self.width - 1 and not before.endswith(b" ") else None
        shortest, longest = could_be(length, after)
        if not shortest <= self.width <= longest:
            # A word that is longer than a line stands alone, and is longer than the width.
            return b" " if length > self.width and not self.kept and b" " not in before else None
        return b"" if self.kept else b" "


def detect(lines: Sequence[tuple[bytes, bytes, bool]]) -> Wrapping | None:
    """Tell from the beginning of a log how it was wrapped.

    Parameters
    ----------
    lines
        The first lines, some hundreds: each as it stands there, without what stands before it, and whether a record
        begins with it.
    """
    broken: list[tuple[bytes, bytes, bytes]] = []
    unbroken: list[int] = []
    for (before, text, _), (_, after, begins) in pairwise(lines):
        if begins:
            unbroken.append(characters(before))
        elif text.strip() and after.strip():
            broken.append((before, text, after))
    if len(broken) < FEWEST:
        return None
    return at_the_width(broken, unbroken) or between_words(broken, unbroken)


def at_the_width(broken: list[tuple[bytes, bytes, bytes]], unbroken: list[int]) -> Wrapping | None:
    """Tell whether lines were broken at a width and nowhere else."""
    width = max([characters(before) for before, _, _ in broken] + unbroken)
    if not NARROWEST <= width <= WIDEST:
        return None
    edge = [
        (text, length)
        for before, text, after in broken
        if width - 1 <= (length := characters(before)) <= width and not indented(after)
    ]
    different = {texts(text) for text, length in edge if length == width}
    if len(different) >= FEWEST and len(edge) >= MOST_OF * len(broken) and unbroken.count(width) <= len(edge) // 4:
        return Wrapping(width, words=False)
    return None


def between_words(broken: list[tuple[bytes, bytes, bytes]], unbroken: list[int]) -> Wrapping | None:
    """Tell whether lines were broken between words: there is a width at which each of them had to be."""
    kept = sum(before.endswith(b" ") for before, _, _ in broken) * 2 > len(broken)
    fitting = [(*could_be(characters(before), after), text) for before, text, after in broken if not indented(after)]
    edges = sorted([(shortest, 1) for shortest, _, _ in fitting] + [(longest + 1, -1) for _, longest, _ in fitting])
    width = most = depth = 0
    for place, step in edges:
        depth += step
        if depth > most:
            width, most = place, depth
    if not NARROWEST <= width <= WIDEST or most < MOST_OF * len(broken):
        return None
    if sum(length > width for length in unbroken) > (1 - MOST_OF) * len(unbroken):
        return None
    # A line that is not half full says little: the word after it is very long.
    telling = [(low, texts(text)) for low, high, text in fitting if low <= width <= high and low * 2 > width]
    if min(len({low for low, _ in telling}), len({text for _, text in telling})) < FEWEST:
        return None
    return Wrapping(width, words=True, kept=kept)


def could_be(length: int, after: bytes) -> tuple[int, int]:
    """Give the least and the greatest width at which a line had to be broken before the next word."""
    word = characters(b"".join(after.split(maxsplit=1)[:1]))
    return length, length + word


def texts(line: bytes) -> bytes:
    """Give what a line has besides numbers: the same for a message that comes again at another time."""
    return DIGITS.sub(b"", line[: 4 * WIDEST])


def indented(line: bytes) -> bool:
    """Tell whether a line begins as a message's own further lines do, and hardly any line that was broken off does."""
    return line.startswith((b"\t", b"  "))


def characters(line: bytes) -> int:
    """Count the characters of a line."""
    return len(line) if line.isascii() else len(line.decode("utf-8", "replace"))
