"""How a trial's instance is asked for: the one interface of both ways, and what an answer says."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from leptonami.bench.eks.requests import Ami
    from leptonami.bench.experiment import Variant
    from leptonami.bench.marks import Mark
    from leptonami.bench.model import Trial
    from leptonami.runs import Journal
    from leptonami.target import Provenance, Target

__all__ = ["Asked", "Launcher", "ask"]


@dataclass(frozen=True)
class Asked:
    """A call that asks for an instance.

    Attributes
    ----------
    source
        The call, such as `ec2:RunInstances`.
    sent, answered
        Seconds since 1970, on the measuring machine's clock.
    date
        The answer's `Date`: AWS's clock, whole seconds.
    """

    source: str
    sent: float
    answered: float
    date: str


def ask(target: Target, source: str, call: Callable[..., Any], request: Mapping[str, Any]) -> tuple[Asked, Any]:
    """Send a call, and note when."""
    sent = time.time()
    answer: Any = target.call(call, **request)
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    return Asked(source, sent, time.time(), str(headers.get("date", ""))), answer


class Launcher(Protocol):
    """Launches a trial's instance, and sees to its end."""

    def prepare(self, variant: Variant, ami: Ami, journal: Journal) -> None:
        """Make what a variant's launches need and what lasts longer than a trial; find it again after a kill."""

    def ask(self, trial: Trial, variant: Variant, ami: Ami) -> Asked:
        """Ask for the trial's instance."""
        ...

    def instance(self, trial: Trial) -> str:
        """Give its id; "" while there is none.

        Raises
        ------
        LeptonamiError
            If there will be none.
        """
        ...

    def marks(self, trial: Trial, instance: str, provenance: Provenance) -> tuple[Mark, ...]:
        """Give what AWS tells of the launch beside the instance itself."""
        ...

    def clean(self, trial: Trial) -> tuple[str, ...]:
        """End the trial's instances; give what is still there. From the trial's number alone."""
        ...

    def remove(self) -> None:
        """Remove what `prepare` made, in this process or another. Harmless when there is nothing."""
