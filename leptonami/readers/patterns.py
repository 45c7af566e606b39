r"""Regular expressions that anybody may add to the catalogue of known issues, and that can never take long.

Python's `re` backtracks: `(a+)+b` on a long line of a's takes for ever. A pattern of the catalogue is therefore written
in a small part of the language, and read here before it is compiled:

- text, `.`, classes `[a-z]`, `\d \D \w \W \s \S`, `\b`, `\t`, escaped punctuation, groups, `|`, and `^` for a line's
  start;
- `?`, `{n}` and `{m,n}`; no `*`, `+` or `{m,}`: how long a gap may be is always said;
- what is repeated may not itself vary: no quantifier and no `|` under a quantifier (`?` aside);
- no look-around, no back-reference, no flags, no `$` (a line is searched in parts when it is long).

From the same reading come three numbers: the length of the longest match, the number of ways in which a match can be
tried from one place (both have a limit, so that the time is proportional to the text), and the fixed texts of which
every match contains one (so that text without them need not be searched at all).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from leptonami.validation import Wrong

__all__ = ["Pattern", "compile_pattern"]

MAX_LENGTH = 300  # of the pattern itself
MAX_WIDTH = 1_000  # of a match
# The worst that one start of a match can cost. The most that an entry of our own catalogue needs is about 44,000.
MAX_WAYS = 50_000
MAX_DEPTH = 6
# Shorter texts stand on every other line.
MIN_LITERAL = 4

QUANTIFIER = re.compile(r"\{([0-9]{1,5})(?:(,)([0-9]{0,5}))?\}")
CLASSES = frozenset("dDwWsS")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that has been read and found harmless.

    Attributes
    ----------
    regex
        The compiled pattern; `^` stands for the start of any line.
    width
        How many characters the longest match has.
    ways
        In how many ways a match can be tried from one place.
    literals
        Fixed texts: each match contains at least one of them.
    """

    regex: re.Pattern[str]
    width: int
    ways: int
    literals: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a pattern: its widest match, the ways to try it, its fixed text, and what one of it must hold."""

    width: int
    ways: int
    text: str | None = None
    literals: tuple[str, ...] = ()


def better(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    """Choose the texts that are rarer and cost less to find: of 8 characters or more, the fewer, then the longer."""

    def worth(texts: tuple[str, ...]) -> tuple[int, int, int]:
        shortest = min(map(len, texts), default=0)
        return min(shortest, 8), -len(texts), shortest

    return first if worth(first) >= worth(second) else second


class Reading:
    """One reading of a pattern, from left to right."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0

    def wrong(self, message: str, hint: str | None = None) -> Wrong:
        """Make the error, with the place."""
        return Wrong(f"{message}, at character {self.at + 1} of the pattern", hint)

    def peek(self) -> str:
        """Give the next character; empty at the end."""
        return self.pattern[self.at : self.at + 1]

    def alternatives(self, depth: int) -> Part:
        """Read `a|b|c` up to a closing parenthesis or the end."""
        if depth > MAX_DEPTH:
            raise self.wrong(f"groups nested more than {MAX_DEPTH} deep")
        parts = [self.sequence(depth)]
        while self.peek() == "|":
            self.at += 1
            parts.append(self.sequence(depth))
        if len(parts) == 1:
            return parts[0]
        complete = all(each.literals for each in parts)
        literals = tuple(dict.fromkeys(text for each in parts for text in each.literals)) if complete else ()
        return Part(max(each.width for each in parts), sum(each.ways for each in parts), None, literals)

    def sequence(self, depth: int) -> Part:
        """Read what stands one after the other, each with its quantifier."""
        width, ways, run, fixed = 0, 1, "", True
        best: tuple[str, ...] = ()
        while self.peek() not in {"", "|", ")"}:
            part = self.quantified(self.atom(depth))
            width += part.width
            ways *= part.ways
            if width > MAX_WIDTH:
                raise self.wrong(f"a match could have more than {MAX_WIDTH} characters", "give smaller bounds")
            if ways > MAX_WAYS:
                raise self.wrong("there are too many ways to match", "give smaller bounds, or fewer gaps")
            if part.text is not None:
                run += part.text
                continue
            best, run, fixed = better(better(best, (run,) if run else ()), part.literals), "", False
        best = better(best, (run,) if run else ())
        return Part(width, ways, run if fixed else None, best)

    def atom(self, depth: int) -> Part:
        """Read one character, class or group."""
        here = self.peek()
        match here:
            case "(":
                return self.group(depth)
            case "[":
                return self.bracket()
            case "\\":
                return self.escape()
            case ".":
                self.at += 1
                return Part(1, 1)
            case "^":
                self.at += 1
                return Part(0, 1)
            case "*" | "+" | "?" | "{" | "}" | "]":
                raise self.wrong(f"{here} with nothing to repeat", f"write \\{here} for the character itself")
            case "$":
                raise self.wrong("$ is not supported", "a line is searched in parts; write what stands there instead")
        self.at += 1
        return Part(1, 1, here)

    def group(self, depth: int) -> Part:
        """Read `(...)`, `(?:...)` or `(?P<name>...)`."""
        self.at += 1
        if self.peek() == "?":
            opening = re.compile(r"\?(?::|P<[A-Za-z_][A-Za-z0-9_]{0,31}>)").match(self.pattern, self.at)
            if opening is None:
                raise self.wrong("look-around, flags and references are not supported", "write (?:...) for a group")
            self.at = opening.end()
        inside = self.alternatives(depth + 1)
        if self.peek() != ")":
            raise self.wrong("a group without its closing parenthesis")
        self.at += 1
        return inside

    def bracket(self) -> Part:
        """Read a class, `[...]`."""
        start = self.at
        self.at += 1
        if self.peek() == "^":
            self.at += 1
        if self.peek() == "]":
            self.at += 1
        while self.peek() not in {"", "]"}:
            self.at += 2 if self.peek() == "\\" else 1
        if self.peek() != "]":
            self.at = start
            raise self.wrong("a class without its closing bracket")
        self.at += 1
        return Part(1, 1)

    def escape(self) -> Part:
        """Read a backslash and what follows it."""
        following = self.pattern[self.at + 1 : self.at + 2]
        if following in CLASSES and following:
            part = Part(1, 1)
        elif following == "b":
            part = Part(0, 1)
        elif following == "t":
            part = Part(1, 1, "\t")
        elif following and not following.isalnum() and following.isprintable() and following.isascii():
            part = Part(1, 1, following)
        else:
            raise self.wrong(f"\\{following} is not supported", "known: \\d \\D \\w \\W \\s \\S \\b \\t, punctuation")
        self.at += 2
        return part

    def quantified(self, part: Part) -> Part:
        """Read the quantifier after a part, if there is one."""
        here = self.peek()
        if here in {"*", "+"} and here:
            raise self.wrong(f"{here} has no bound", "say how many: {0,200}")
        if here == "?":
            least, most = 0, 1
            self.at += 1
        elif here == "{":
            least, most = self.counts()
        else:
            return part
        if self.peek() in {"*", "+", "?", "{"} and self.peek():
            raise self.wrong("a quantifier after a quantifier")
        if part.ways > 1 and most > 1:
            raise self.wrong("what is repeated varies itself (a quantifier or | inside)", "write a class")
        if least == most and part.text is not None and len(part.text) * most <= MAX_WIDTH:
            return Part(part.width * most, 1, part.text * most, part.literals)
        ways = part.ways + 1 if most == 1 else most - least + 1
        literals = better((part.text,) if part.text else (), part.literals) if least else ()
        return Part(part.width * most, ways, None, literals)

    def counts(self) -> tuple[int, int]:
        """Read `{n}` or `{m,n}`."""
        found = QUANTIFIER.match(self.pattern, self.at)
        if found is None:
            raise self.wrong("not a number of repetitions", "write {2} or {0,200}, and \\{ for the character itself")
        least = int(found[1])
        if found[2] and not found[3]:
            raise self.wrong("repetitions without an upper bound", f"say how many at most: {{{least},200}}")
        most = int(found[3]) if found[2] else least
        if most < least or most == 0:
            raise self.wrong("not a range of repetitions")
        self.at = found.end()
        return least, most


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> Pattern:
    """Read a pattern, and compile it if it cannot take long.

    Raises
    ------
    Wrong
        If it is no such pattern, saying where and what would be right.
    """
    if len(pattern) > MAX_LENGTH:
        raise Wrong(f"the pattern has {len(pattern)} characters", f"at most {MAX_LENGTH}; split it into two symptoms")
    if not pattern.isprintable():
        raise Wrong(
            "the pattern has a control character or a line break", "a symptom stands on one line; \\t for a tab"
        )
    reading = Reading(pattern)
    whole = reading.alternatives(0)
    if reading.at < len(pattern):
        raise reading.wrong("a closing parenthesis too many")
    if not whole.literals or min(map(len, whole.literals)) < MIN_LITERAL:
        raise Wrong(
            f"no fixed text of {MIN_LITERAL} characters or more that each match contains",
            "write out some of the message; each side of | needs such a text",
        )
    if whole.width > MAX_WIDTH or whole.ways > MAX_WAYS:
        raise Wrong("the pattern can match too much, or in too many ways", "give smaller bounds")
    try:
        regex = re.compile(pattern, re.MULTILINE)
    except (re.error, OverflowError, RecursionError) as error:
        raise Wrong(f"not a regular expression: {error}") from error
    return Pattern(regex, whole.width, whole.ways, whole.literals)
