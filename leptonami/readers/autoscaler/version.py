"""Which version of cluster-autoscaler wrote a log: klog prints `file:line`, and the lines move from release to release.

The table (`data/ca-line-fingerprints.json`) holds the call sites of 20 messages in 177 releases; they make 71 different
fingerprints. A log is matched with what it happens to contain: the more of the messages, the narrower the answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from leptonami import datafiles

__all__ = ["Sites", "VersionGuess", "minor", "releases"]

MOST_PLACES = 16  # different places kept of one message: more than one means several versions, or a fork


@cache
def releases() -> Mapping[str, Mapping[str, tuple[str, frozenset[int]]]]:
    """Read the table: release -> message's key -> file and lines, oldest release first."""
    table: dict[str, Any] = json.loads(datafiles.path("ca-line-fingerprints.json").read_bytes())
    return {
        release: {key: (file, frozenset(lines)) for key, (file, lines) in sites.items()}
        for release, sites in table["versions"].items()
    }


@cache
def files() -> Mapping[str, frozenset[str]]:
    """Give the files that each message has been in: message's key -> file names."""
    found: dict[str, set[str]] = {}
    for sites in releases().values():
        for key, (file, _) in sites.items():
            found.setdefault(key, set()).add(file)
    return {key: frozenset(names) for key, names in found.items()}


@dataclass(frozen=True, slots=True)
class VersionGuess:
    """Which releases can have written a log.

    Parameters
    ----------
    releases
        Every release that agrees with all the call sites seen; empty if none does, or none was seen.
    agreeing
        How many call sites the answer rests on.
    contradicting
        The call sites of the nearest releases that do not agree; only where no release agrees with all.
    stated
        The version that the log names itself in its first line, empty if it does not.
    several
        Whether one message was printed from several places that no single release has: an upgrade within the log.
    """

    releases: tuple[str, ...]
    agreeing: int
    contradicting: tuple[str, ...] = ()
    stated: str = ""
    several: bool = False

    @property
    def certainty(self) -> str:
        """How sure it is: `stated`, `exact` (one release), `narrow` (one minor), `wide` (several), or `unknown`."""
        if self.stated:
            return "stated"
        minors = {minor(each) for each in self.releases}
        if not minors:
            return "unknown"
        if len(self.releases) == 1:
            return "exact"
        return "narrow" if len(minors) == 1 else "wide"

    @property
    def minor(self) -> str | None:
        """The minor release, such as `1.27`, if it is certain."""
        minors = {minor(self.stated)} if self.stated else {minor(each) for each in self.releases}
        return minors.pop() if len(minors) == 1 else None

    def __str__(self) -> str:
        """Say it in words: `1.27.1 to 1.27.6 (10 of 10 call sites agree)`."""
        if self.stated:
            return f"{self.stated} (it says so itself)"
        if not self.releases:
            if not self.agreeing and not self.contradicting:
                return "unknown (no line that tells)"
            return f"unknown (no release has these call sites: {', '.join(self.contradicting[:3])})"
        first, last = self.releases[0], self.releases[-1]
        span = first if first == last else f"{first} to {last}"
        sites = "call site agrees" if self.agreeing == 1 else "call sites agree"
        return f"{span} ({self.agreeing} of {self.agreeing} {sites})"

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "text": str(self),
            "certainty": self.certainty,
            "minor": self.minor,
            "stated": self.stated or None,
            "releases": list(self.releases),
            "agreeing": self.agreeing,
            "contradicting": list(self.contradicting),
            "several": self.several,
        }


@dataclass(slots=True)
class Sites:
    """The call sites seen in a log: message's key -> places."""

    places: dict[str, set[tuple[str, int]]] = field(default_factory=dict)

    def add(self, key: str, file: str, line: int) -> None:
        """Note that a message was printed from a place.

        A message with the same words in a file where no release has it is another message, and says nothing; a fork
        moves lines, not files.
        """
        if not line or file not in files().get(key, ()):
            return
        seen = self.places.setdefault(key, set())
        if len(seen) < MOST_PLACES:
            seen.add((file, line))

    def guess(self, stated: str = "") -> VersionGuess:
        """Find the releases that have every place seen."""
        if not self.places:
            return VersionGuess((), 0, stated=stated)
        wrong = {release: self.disagreeing(table) for release, table in releases().items()}
        agreeing = tuple(release for release, sites in wrong.items() if not sites)
        if agreeing:
            return VersionGuess(agreeing, len(self.places), stated=stated)
        nearest = min(wrong.values(), key=len)
        several = any(len(each) > 1 for each in self.places.values())
        return VersionGuess((), len(self.places) - len(nearest), contradicting=nearest, stated=stated, several=several)

    def disagreeing(self, table: Mapping[str, tuple[str, frozenset[int]]]) -> tuple[str, ...]:
        """Name the call sites that a release does not have, one for each message."""
        missing = []
        for key, places in self.places.items():
            file, lines = table.get(key, ("", frozenset()))
            bad = next((place for place in sorted(places) if place[0] != file or place[1] not in lines), None)
            if bad is not None:
                missing.append(f"{bad[0]}:{bad[1]}")
        return tuple(missing)


def minor(release: str) -> str:
    """Give the minor release of a release.

    >>> minor("1.27.6")
    '1.27'
    """
    return ".".join(release.lstrip("v").split(".")[:2])
