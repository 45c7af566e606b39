"""What every part of a build has in hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leptonami.build.cleanup import Cleanup
    from leptonami.build.past import Past
    from leptonami.plan import Plan
    from leptonami.progress import Progress
    from leptonami.runs import Journal
    from leptonami.target import Target

__all__ = ["Work"]


@dataclass(frozen=True)
class Work:
    """What a build works with.

    Attributes
    ----------
    journal
        Where intents and outcomes are written.
    cleanup
        What the build owes: removals.
    past
        What earlier processes of the same run did; empty in a new run.
    """

    target: Target
    plan: Plan
    journal: Journal
    cleanup: Cleanup
    progress: Progress
    past: Past
