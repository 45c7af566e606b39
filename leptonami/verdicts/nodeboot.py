"""Did the node come up? What its journal says: how far it got, what went wrong first, and what took long.

A node has come up when its kubelet has registered it and reported it ready. What was reached is known from the marks
of the journal, and what was not reached only if the journal goes on for long enough: a journal that ends early, or does
not have the boot, leaves it `not determined`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leptonami.errors import InputError
from leptonami.proof import Proof, excerpt
from leptonami.readers.journal import Boot, Journal, Mark
from leptonami.readers.journal_marks import Family, Name
from leptonami.readers.journal_pulls import Pull
from leptonami.readers.knownissues import Match
from leptonami.readers.years import PLACEHOLDER, From
from leptonami.verdicts.nodeboot_state import State, decide, first_failure
from leptonami.verdicts.nodeboot_steps import SLOW, STAGES, Stage, missing, steps

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NodeBoot", "Stage", "State", "judge", "table"]


@dataclass(frozen=True, slots=True)
class NodeBoot:
    """The verdict on one boot of one node.

    Attributes
    ----------
    journal
        What was read.
    boot
        The boot that the verdict is about.
    state
        What became of the node.
    why
        Why nothing is determined, or what the state rests on, in one sentence.
    stages
        The steps that were reached, in the order of their times.
    last
        The latest of them on the way to a ready node.
    failed, failed_stage
        What went wrong first of all that keeps a node from joining, and at which step; else that the GPU driver is
        missing. A node that came up may have one too.
    missing
        The steps that a node of this family goes through, and that the journal does not show.
    issues
        The known issues that this boot shows.
    troubles
        All that went wrong.
    pulls
        The image pulls.
    notes
        What else there is to know, a sentence each.
    """

    journal: Journal
    boot: Boot | None
    state: State
    why: str
    stages: tuple[Stage, ...]
    last: Mark | None
    failed: Mark | None
    failed_stage: str
    missing: tuple[Name, ...]
    issues: tuple[Match, ...]
    troubles: tuple[Mark, ...]
    pulls: tuple[Pull, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the node came up."""
        return self.state is State.READY

    @property
    def proofs(self) -> tuple[Proof, ...]:
        """What the verdict rests on, the decisive line first."""
        decisive = [self.failed, self.last] if not self.ok else [self.last, self.failed]
        return tuple(each.proof for each in decisive if each is not None)

    def stage(self, name: Name) -> Stage | None:
        """Give a step, if it was reached."""
        return next((each for each in self.stages if each.mark.name is name), None)

    def story(self) -> list[str]:
        """Tell what happened, a sentence each: the verdict, the cause, the known issues, the time, the GPU, notes."""
        return list(tell(self))

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data, for `--json`."""
        return {
            "source": self.journal.source,
            "host": self.journal.host,
            "family": str(self.journal.family),
            "boot": self.boot.number if self.boot else None,
            "state": str(self.state),
            "ok": self.ok,
            "why": self.why,
            "last": str(self.last.name) if self.last else None,
            "failed_stage": self.failed_stage or None,
            "failed": self.failed.as_dict() if self.failed else None,
            "missing": [str(each) for each in self.missing],
            "stages": [
                {
                    **each.mark.as_dict(),
                    "since_kernel": each.since_kernel,
                    "took": each.took,
                    "uncertainty": each.uncertainty,
                    "slow": each.slow,
                }
                for each in self.stages
            ],
            "issues": [each.as_dict() for each in self.issues],
            "troubles": [each.as_dict() for each in self.troubles],
            "pulls": [each.as_dict() for each in self.pulls],
            "notes": list(self.notes),
            "story": self.story(),
            "proofs": [each.as_dict() for each in self.proofs],
        }


def judge(journal: Journal, *, boot: int | None = None) -> NodeBoot:
    """Judge one boot of a journal.

    Parameters
    ----------
    journal
        What `readers.journal.read` gave.
    boot
        Which boot, from 0; the last one if None.

    Raises
    ------
    InputError
        If there is no such boot.
    """
    chosen = journal.boots[-1] if journal.boots and boot is None else None
    if boot is not None:
        chosen = next((each for each in journal.boots if each.number == boot), None)
        if chosen is None:
            numbers = ", ".join(str(each.number) for each in journal.boots[:20]) or "none"
            raise InputError(f"the journal has no boot {boot}", resource="boot", hint=f"it has: {numbers}")
    if chosen is None:
        why = "there is no entry of a journal in it"
        return NodeBoot(journal, None, State.NOT_DETERMINED, why, (), None, None, "", (), (), (), (), ())
    marks = journal.of_boot(chosen.number)
    reached = {each.name: each for each in marks if not each.trouble}
    troubles = tuple(each for each in marks if each.trouble)
    failed, failed_stage, final = first_failure(troubles, reached, journal.family)
    state, why = decide(chosen, reached, failed_stage, final=final)
    order = {name: number for number, name in enumerate(STAGES)}
    on_the_way = [each for each in reached.values() if order.get(each.name, 99) <= order[Name.NODE_READY]]
    last = max(on_the_way, key=lambda each: order[each.name], default=None)
    return NodeBoot(
        journal=journal,
        boot=chosen,
        state=state,
        why=why,
        stages=steps(reached),
        last=last,
        failed=failed,
        failed_stage=failed_stage,
        missing=missing(reached, journal.family) if chosen.from_start else (),
        issues=tuple(each for each in journal.issues if shows(each, chosen)),
        troubles=troubles,
        pulls=tuple(each for each in journal.pulls if each.boot == chosen.number),
        notes=tuple(remarks(journal, chosen)),
    )


def shows(found: Match, boot: Boot) -> bool:
    """Tell whether one of an issue's lines is in a boot."""
    lines = (int(each.place.removeprefix("line ")) for each in found.proofs)
    return any(boot.first_line <= line <= boot.last_line for line in lines)


def remarks(journal: Journal, boot: Boot) -> Iterable[str]:
    """Say what there is to know of the journal itself."""
    if len(journal.boots) > 1:
        yield f"the journal has {len(journal.boots)} boots; this is about number {boot.number}, from 0"
    if not boot.from_start:
        yield "the journal does not have the beginning of this boot"
    if journal.year_known is From.UNKNOWN:
        yield "the journal does not say the year, and nothing in it does"
    if journal.zone_known is From.UNKNOWN:
        yield "the journal does not say its time zone; UTC is assumed"
    if journal.family is Family.UNKNOWN:
        yield "nothing in the journal says which operating system it is from"
    if journal.unread:
        share = f"{journal.unread} of {journal.lines}"
        yield f"{share} lines are no entry of a journal in any known form"
    if journal.without_time:
        yield f"{journal.without_time} of {journal.entries} entries have no time"


def tell(verdict: NodeBoot) -> Iterable[str]:
    """Tell the story of a boot."""
    journal = verdict.journal
    host = excerpt(journal.host, 100) or "the node"
    kernel = verdict.stage(Name.KERNEL_START)
    what = f"{host} ({journal.family}{f', kernel {excerpt(kernel.mark.detail, 80)}' if kernel else ''})"
    match verdict.state:
        case State.READY:
            times = [
                f"{word} {stage.since_kernel:.1f} s"
                for word, name in (("registered", Name.NODE_REGISTERED), ("ready", Name.NODE_READY))
                if (stage := verdict.stage(name)) and stage.since_kernel is not None
            ]
            yield f"{what} came up{': ' + ', '.join(times) + ' after the kernel started' if times else ''}."
        case State.NOT_DETERMINED:
            yield f"Whether {what} came up is not determined: {verdict.why}."
        case state:
            yield f"{what} {'is' if state is State.REGISTERED else ''} {state}: {verdict.why}.".replace("  ", " ")
    if verdict.last is not None and not verdict.ok:
        yield f"The last step that it reached: {verdict.last.name} ({verdict.last.proof.place})."
    if verdict.failed is not None:
        detail = f" ({excerpt(verdict.failed.detail, 120)})" if verdict.failed.detail else ""
        again = "; the node came up all the same" if verdict.ok else ""
        yield f"What went wrong first: {verdict.failed.name}{detail}, {verdict.failed.proof.place}{again}."
    for found in verdict.issues:
        note = f" ({found.note})" if found.note else ""
        yield f"Known issue {found.issue.id}{note}: {found.issue.title}. What to do: {found.issue.remedy}."
    slow = [each for each in verdict.stages if each.slow]
    if slow:
        listed = ", ".join(f"{each.mark.name} {each.took:.1f} s after the step before" for each in slow)
        yield f"What took long: {listed}."
    long = sorted(
        (each for each in verdict.pulls if (each.seconds or 0) >= SLOW), key=lambda each: -(each.seconds or 0)
    )
    if long:
        yield "Images that took long: " + ", ".join(f"{excerpt(e.ref, 120)} {e.seconds:.1f} s" for e in long[:5]) + "."
    driver = verdict.stage(Name.DRIVER_LOADED)
    if driver is not None:
        plugin = verdict.stage(Name.DEVICE_PLUGIN_REGISTERED)
        after = "and the device plugin has registered" if plugin else "and no device plugin has registered"
        yield f"The NVIDIA driver {excerpt(driver.mark.detail, 40)} was loaded, {after}."
    for note in verdict.notes:
        yield note[:1].upper() + note[1:] + "."


def table(verdict: NodeBoot) -> pd.DataFrame:
    """Give the steps and troubles of a boot as a table, in the order of the journal.

    Returns
    -------
    pandas.DataFrame
        `mark`, `at` (UTC; empty where the year is not known), `since_kernel`, `took`, `uncertainty` (seconds),
        `clock`, `detail`, `trouble`, `count`, `line`.
    """
    import pandas as pd

    stages = {each.mark.line: each for each in verdict.stages}
    marks = sorted({*(each.mark for each in verdict.stages), *verdict.troubles}, key=lambda each: each.line)
    rows = []
    for mark in marks:
        stage = stages.get(mark.line)
        known = stage is not None and stage.mark is mark
        rows.append(
            {
                "mark": str(mark.name),
                "at": mark.at if mark.at is not None and mark.at.year > PLACEHOLDER + 100 else None,
                "since_kernel": stage.since_kernel if stage and known else None,
                "took": stage.took if stage and known else None,
                "uncertainty": stage.uncertainty if stage and known else None,
                "clock": mark.clock,
                "detail": excerpt(mark.detail, 160),
                "trouble": mark.trouble,
                "count": mark.count,
                "line": mark.line,
            }
        )
    columns = ["mark", "at", "since_kernel", "took", "uncertainty", "clock", "detail", "trouble", "count", "line"]
    frame = pd.DataFrame(rows, columns=columns)
    frame["at"] = pd.to_datetime(frame["at"], utc=True, errors="coerce")
    return frame.astype({"since_kernel": "float64", "took": "float64", "uncertainty": "float64"})
