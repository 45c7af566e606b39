"""How one piece of evidence bears on a claim."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from leptonami.decide.evidence import Evidence
from leptonami.proof import Proof

__all__ = ["Bearing", "Direction"]


class Direction(StrEnum):
    """Where a piece of evidence points."""

    FOR = "for"
    AGAINST = "against"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Bearing:
    """How one piece of evidence bears on a claim: where it points, why, and what proves it. The texts are untrusted.

    `stale` says that it does not count: it is older than the claim's shelf life, or, where it points nowhere, about
    versions that the question is not about.
    """

    evidence: Evidence
    direction: Direction
    text: str
    proof: Proof | None = None
    stale: bool = False
