"""What a reader did not understand: counted, and the first of it kept with its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from leptonami.proof import LONGEST, Proof

__all__ = ["KEEP", "Leftover"]

KEEP = 50  # lines: enough to see what kind of thing a reader missed


@dataclass(slots=True)
class Leftover:
    """The lines that a reader could not make anything of.

    They are never dropped silently: a command prints the number and shows the first ones. A log of nothing but such
    lines costs no more memory than `keep` of them.

    Attributes
    ----------
    total
        How many there were.
    kept
        The first `keep` of them: line number (from 1) and text, cut to `proof.LONGEST` characters.
    """

    keep: int = KEEP
    total: int = 0
    kept: list[tuple[int, str]] = field(default_factory=list)

    def add(self, number: int, line: bytes | str) -> None:
        """Note a line."""
        self.total += 1
        if len(self.kept) < self.keep:
            text = line[: 4 * LONGEST].decode("utf-8", "replace") if isinstance(line, bytes) else line
            self.kept.append((number, text[:LONGEST]))

    def proofs(self, source: str) -> Iterator[Proof]:
        """Give those that were kept as proofs."""
        for number, text in self.kept:
            yield Proof.of(source, f"line {number}", text)

    def as_dict(self) -> dict[str, object]:
        """Give it as plain data, for `--json`."""
        return {"total": self.total, "first": [{"line": number, "text": text} for number, text in self.kept]}

    def __bool__(self) -> bool:
        return self.total > 0
