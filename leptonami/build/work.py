"""What every part of a build has in hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leptonami.build.cleanup import Cleanup
    from leptonami.plan import Plan
    from leptonami.progress import Progress
    from leptonami.runs import Journal
    from leptonami.target import Target

__all__ = ["Work"]


@dataclass(frozen=True)
class Work:
    """The target and the plan of a build, where its intents are written, what it owes, and where progress goes."""

    target: Target
    plan: Plan
    journal: Journal
    cleanup: Cleanup
    progress: Progress
