"""How nodes booted, from their journals: one file, the rotated files of one node, or a folder with many nodes'."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from leptonami.errors import InputError
from leptonami.explain.given import Given, written
from leptonami.explain.known import recorded
from leptonami.explain.reading import Found, Log, find
from leptonami.explain.recognise import What, command_for
from leptonami.progress import Progress
from leptonami.proof import excerpt
from leptonami.readers import journal
from leptonami.readers.journal import Journal
from leptonami.readers.journal_marks import Family, Name
from leptonami.readers.rotation import place
from leptonami.recordings import Recording
from leptonami.target import Provenance
from leptonami.verdicts import nodeboot
from leptonami.verdicts.nodeboot import NodeBoot, State
from leptonami.verdicts.nodeboot_state import GPU_DRIVER

__all__ = ["JournalExplanation", "explain", "explain_sources", "is_wrong"]

MOST = 2_000  # journals in one folder


@dataclass(frozen=True)
class JournalExplanation:
    """What came out: a verdict for each journal, what is wrong first."""

    name: str
    provenance: Provenance
    verdicts: tuple[NodeBoot, ...]
    left_out: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    recording: Recording | None = None

    @property
    def wrong(self) -> bool:
        """Whether a node did not come up, or came up without its GPU driver."""
        return any(map(is_wrong, self.verdicts))

    def story(self) -> list[str]:
        """Tell what became of the nodes: one in full; of several, how many came up, and each that did not."""
        if len(self.verdicts) == 1:
            return self.verdicts[0].story()
        ready = sum(each.ok for each in self.verdicts)
        told = [f"{ready:,} of {len(self.verdicts):,} nodes came up."]
        bad = [each for each in self.verdicts if is_wrong(each)]
        told += [" ".join(each.story()[:3]) for each in bad[:5]]
        return [*told, f"And {len(bad) - 5:,} more."] if len(bad) > 5 else told

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Give a row for each node: its name, what became of it, when it was ready, and what proves it."""
        return [row_of(each) for each in self.verdicts]

    def steps(self) -> list[tuple[str, str, str, str, str]]:
        """Give a row for each step and trouble of the one node: the step, when, how long it took, what, the line."""
        if len(self.verdicts) != 1:
            return []
        return [
            (
                f"{each['mark']}{' (trouble)' if each['trouble'] else ''}",
                seconds(each["since_kernel"]),
                seconds(each["took"]),
                str(each["detail"]) + (f" ({each['count']} times)" if each["count"] > 1 else ""),
                str(each["line"]),
            )
            for each in nodeboot.table(self.verdicts[0]).to_dict("records")
        ]

    def as_dict(self) -> dict[str, Any]:
        """Give all of it as plain data, for `--json`."""
        found = {
            "source": self.name,
            "provenance": self.provenance,
            "recording": self.recording.id if self.recording else None,
            "story": self.story(),
            "nodes": [each.as_dict() for each in self.verdicts],
            "left_out": list(self.left_out),
            "problems": list(self.problems),
            "wrong": self.wrong,
        }
        return {key: written(value) for key, value in found.items()}


def is_wrong(verdict: NodeBoot) -> bool:
    """Tell whether there is something to mend."""
    return verdict.state in {State.FAILED, State.REGISTERED} or verdict.failed_stage == GPU_DRIVER


def row_of(each: NodeBoot) -> tuple[str, str, str, str]:
    """Give the row of one node."""
    ready = each.stage(Name.NODE_READY)
    took = ready.since_kernel if ready is not None else None
    proof = each.proofs[0] if each.proofs else None
    text = f"{proof.place}: {proof.text}" if proof else each.why
    name = each.journal.host or Path(each.journal.source).name
    return excerpt(name, 80), f"{each.state} ({each.journal.family})", seconds(took), text


def seconds(value: Any) -> str:
    """Write seconds; nothing where they are not known.

    >>> seconds(12.34), seconds(None), seconds(float("nan"))
    ('12.3 s', '', '')
    """
    return "" if value is None or not value == value else f"{value:.1f} s"  # noqa: PLR0124, SIM201 - NaN is not itself


def explain(
    where: str,
    given: Given | None = None,
    progress: Progress | None = None,
    *,
    family: str | None = None,
    boot: int | None = None,
) -> JournalExplanation:
    """Explain a journal, or a folder of them.

    Parameters
    ----------
    where
        A file, a folder, or `-` for standard input.
    given
        The year and the zone, if the caller knows them.
    progress
        Told how far the reading is.
    family
        The operating system, if the caller knows it: al2, al2023, ubuntu, bottlerocket.
    boot
        Which boot, from 0; by default the last.

    Raises
    ------
    InputError
        If there is no entry of a journal in it; the message says what it looks like.
    """
    found = explain_sources(find(where), where, given or Given(), progress, family=family, boot=boot)
    return replace(found, recording=recorded(where))


def explain_sources(
    found: Sequence[Found],
    name: str,
    given: Given,
    progress: Progress | None = None,
    *,
    family: str | None = None,
    boot: int | None = None,
) -> JournalExplanation:
    """Explain files of which it is known what they are.

    Raises
    ------
    InputError
        As `explain`.
    """
    alone = len(found) == 1
    chosen = [each for each in found if alone or each.what in {What.JOURNAL, What.TEXT}]
    verdicts: list[NodeBoot] = []
    problems: list[str] = []
    empty: list[Found] = []
    for log in journals(chosen):
        read = journal.read(
            log.blocks(progress), source=log.name, year=given.year, zone=given.zone, reference=log.modified
        )
        problems += log.problems
        if not read.entries:
            empty += log.files
            continue
        verdicts.append(nodeboot.judge(with_family(read, family), boot=boot))
    if not verdicts:
        raise nothing(found, name)
    left = [each for each in found if each not in chosen or each in empty]
    return JournalExplanation(
        name=name,
        provenance="recorded",
        verdicts=tuple(sorted(verdicts, key=lambda each: (not is_wrong(each), each.ok, each.journal.source))),
        left_out=tuple(f"{each.source.name}: {each.what}" for each in left),
        problems=tuple(dict.fromkeys(problems)),
    )


def journals(found: Iterable[Found]) -> list[Log]:
    """Put the rotated files of one journal together: those of one folder whose names differ by their rotation only.

    Raises
    ------
    InputError
        If there are too many journals.
    """
    groups: dict[tuple[str, str], list[Found]] = {}
    for each in found:
        path = each.source.path
        key = (str(path.parent), place(path.name).series) if path is not None else ("", each.source.name)
        groups.setdefault(key, []).append(each)
    if len(groups) > MOST:
        raise InputError(f"more than {MOST} journals", hint="name fewer of them")
    return [Log(files, files[-1].source.name) for files in groups.values()]


def with_family(read: Journal, family: str | None) -> Journal:
    """Take the operating system from the caller."""
    return read if family is None else replace(read, family=Family(family))


def nothing(found: Sequence[Found], name: str) -> InputError:
    """Say that there is nothing to explain, and what it looks like."""
    hint = "journalctl -b -o short-iso-precise, or -o json, is what this command reads"
    if len(found) == 1:
        command = command_for(found[0].what, name)
        if command and "node-journal" not in command:
            hint = f"try {command}"
        words = f"there is no entry of a journal in it; it looks like {found[0].what}"
        return InputError(words, resource=name, hint=hint)
    return InputError("there is no journal of a node in it", resource=name, hint=hint)
