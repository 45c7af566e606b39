"""Looking for known issues in a text of any size, in one pass.

Most of a log shows nothing. So each piece of it is searched for the fixed texts of the symptoms, which the interpreter
does fast, and a pattern is tried only on the lines that have one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from leptonami.proof import Proof
from leptonami.readers.issue import Issue, Match
from leptonami.readers.patterns import Pattern

__all__ = ["KEPT", "Search", "chunks", "find"]

# How many lines of one issue are kept as proofs; the others are counted.
KEPT = 5
CHUNK = 1 << 20
# A longer line is searched in parts, so that a text without line breaks costs no more than one with them.
PART = 8192


@dataclass(slots=True)
class Tally:
    """What was found of one issue: the lines, and how many matched each of its symptoms."""

    count: int = 0
    kept: list[tuple[int, str]] = field(default_factory=list)
    of: dict[int, int] = field(default_factory=dict)


class Search:
    """One pass over a text for a list of issues."""

    def __init__(self, issues: Iterable[Issue], source: str) -> None:
        self.issues = [each for each in issues if each.symptoms]
        self.source = source
        self.tallies = [Tally() for _ in self.issues]
        self.plan = [
            (index, number, symptom.compiled)
            for index, issue in enumerate(self.issues)
            for number, symptom in enumerate(issue.symptoms)
        ]
        self.line = 1

    def feed(self, chunk: str) -> None:
        """Search some whole lines."""
        hits: dict[int, dict[int, int]] = {}  # issue -> start of line -> its end
        for index, number, pattern in self.plan:
            lines: dict[int, int] = {}
            for literal in pattern.literals:
                lines.update((start, end) for start, end, _ in find(chunk, literal, pattern))
            if lines:
                tally = self.tallies[index]
                tally.of[number] = tally.of.get(number, 0) + len(lines)
                hits.setdefault(index, {}).update(lines)
        self.keep(chunk, hits)
        self.line += chunk.count("\n")

    def keep(self, chunk: str, hits: Mapping[int, Mapping[int, int]]) -> None:
        """Count the lines of each issue, and keep the first of them with their numbers."""
        wanted: list[tuple[int, int, int]] = []
        for index, lines in hits.items():
            tally = self.tallies[index]
            tally.count += len(lines)
            room = KEPT - len(tally.kept)
            if room > 0:
                wanted += [(start, lines[start], index) for start in sorted(lines)[:room]]
        number, at = self.line, 0
        for start, end, index in sorted(wanted):
            number, at = number + chunk.count("\n", at, start), start
            # `Proof` cuts and cleans the text; here only a very long line is kept from being copied whole.
            self.tallies[index].kept.append((number, chunk[start : min(end, start + PART)].strip()))

    def found(self, versions: Mapping[str, str]) -> list[Match]:
        """Give what was found, in the catalogue's order."""
        matches = []
        for issue, tally in zip(self.issues, self.tallies, strict=True):
            met = [tally.of.get(number, 0) >= symptom.at_least for number, symptom in enumerate(issue.symptoms)]
            if not (all(met) if issue.need == "all" else any(met)):
                continue
            version = versions.get(issue.affected.component) if issue.affected else None
            affected = issue.affected.has(version) if issue.affected and version else None
            proofs = tuple(Proof.of(self.source, f"line {number}", text) for number, text in tally.kept)
            matches.append(Match(issue, tally.count, proofs, affected))
        return matches


def find(chunk: str, literal: str, pattern: Pattern) -> Iterator[tuple[int, int, int]]:
    """Find the lines with a literal that match a pattern: their start and end, and where the match begins."""
    at, end = chunk.find(literal), -1
    start = 0
    while at >= 0:
        if at >= end:
            start = chunk.rfind("\n", max(end, 0), at) + 1 or max(end, 0)
            end = chunk.find("\n", at)
            end = len(chunk) if end < 0 else end
        first, last = start, end
        if end - start > PART:
            first, last = max(start, at - pattern.width), min(end, at + pattern.width + PART)
        found = pattern.regex.search(chunk, first, last)
        # What ends where a part was cut may only look as if it ended there: `\b` cannot see the next character.
        if found and (found.end() < last or last == end):
            yield start, end, found.start()
            at = chunk.find(literal, end)
        else:
            # A match around any place of the literal before this one would have been inside the part.
            at = chunk.find(literal, end if last == end else last - pattern.width)


def chunks(text: str | Iterable[str]) -> Iterator[str]:
    """Cut a text, or put lines together, to pieces of about a megabyte that end with a line."""
    if isinstance(text, str):
        at = 0
        while at < len(text):
            end = text.find("\n", at + CHUNK) + 1 or len(text)
            yield text[at:end]
            at = end
        return
    held: list[str] = []
    size = 0
    for line in text:
        # One element is one line, whatever is in it: the numbers are those of the elements.
        whole = line.rstrip("\r\n").replace("\n", " ")
        held.append(whole)
        size += len(whole) + 1
        if size >= CHUNK:
            yield "\n".join(held) + "\n"
            held, size = [], 0
    if held:
        yield "\n".join(held) + "\n"
