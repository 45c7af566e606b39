"""Which trials may be held against each other, and how they compare.

A *cell* is what was the same for all variants: the image, the instance type, the bandwidth. Variants are compared
within a cell. What else was the same is looked up in what the trials recorded; where it was not, the comparison is
refused, unless whoever asks names what may differ.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from leptonami.bench import statistics
from leptonami.bench.experiment import Smallest
from leptonami.bench.model import Trial
from leptonami.bench.parts import because
from leptonami.bench.results import Results, durations
from leptonami.errors import InputError
from leptonami.target import Provenance

__all__ = ["ACROSS", "Cell", "Group", "Row", "compare_runs", "compare_variants", "groups"]

# What must be the same, by the name that allows it to differ; `instance-type`, `image` and `bandwidth` are the cell's.
ACROSS = ("driver", "machine", "instance-type", "zone", "accelerator", "image", "bandwidth", "provenance")


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """What is the same for all variants."""

    image: str
    instance_type: str
    bandwidth_mbit: int

    def words(self) -> str:
        """Name it for a reader."""
        network = f"{self.bandwidth_mbit} Mbit/s" if self.bandwidth_mbit else ""
        return ", ".join(filter(None, (self.image, self.instance_type, network)))


@dataclass(frozen=True)
class Group:
    """The counted trials of a variant in a cell, and all that were run."""

    results: Results
    cell: Cell
    variant: str
    trials: tuple[Trial, ...]
    run: int
    warmup: int

    def seconds(self, phase: str) -> list[float]:
        """Give the lengths of a phase (s)."""
        return durations(self.trials, phase)

    @property
    def failed(self) -> int:
        """How many trials were begun, were no warm-up, and did not end well."""
        return self.run - self.warmup - len(self.trials)

    def setting(self, what: str) -> frozenset[str]:
        """Give what a setting was: one value, or several if the trials differ."""
        machine = ", ".join(f"{name} {value}" for name, value in sorted(self.results.machine.items()))
        told = {
            "driver": self.results.driver,
            # Recorded numbers were measured once.
            "provenance": "simulated" if self.results.provenance == "simulated" else "measured",
            "machine": machine,
            "instance-type": self.cell.instance_type,
            "image": self.cell.image,
            "bandwidth": str(self.cell.bandwidth_mbit),
        }
        if what in told:
            return frozenset({told[what]})
        return frozenset(str(each.conditions[what]) for each in self.trials if what in each.conditions)


@dataclass(frozen=True)
class Row:
    """A candidate against a baseline in one cell.

    Attributes
    ----------
    across
        What was allowed to differ and did.
    because
        Which parts of the launch make the difference.
    where
        Provenance, driver and machine in some words.
    among
        How many comparisons were made together; the verdict is corrected for that.
    """

    cell: Cell
    baseline: str
    candidate: str
    phase: str
    found: statistics.Comparison
    across: tuple[str, ...] = ()
    because: str = ""
    where: str = ""
    among: int = 1

    def sentence(self) -> str:
        """Say what came of it in a sentence, with its interval."""
        found = self.found
        low, high = found.difference.low, found.difference.high
        medians = f"{found.candidate.median:.2f} s against {found.baseline.median:.2f} s"
        interval = f"{found.difference.estimate:+.2f} s (95 % interval {low:+.2f} to {high:+.2f} s"
        ratio = f", {found.ratio.estimate:.2f} times as long)" if found.ratio is not None else ")"
        n = f"n = {found.candidate.n} and {found.baseline.n}"
        several = f", the same with Holm's correction for {self.among} comparisons" if self.among > 1 else ""
        text = f"{self.candidate} against {self.baseline} ({self.cell.words()}): {found.verdict}. "
        text += f"Median {medians}: {interval}{ratio}; {n}; {found.why}"
        text += f"{several}." if found.verdict in {"better", "worse"} else "."
        if self.because and found.verdict != "no practical difference":
            text += f" What differs: {self.because}."
        if found.verdict == "inconclusive":
            text += " " + (
                f"About {found.more} more trials of each would tell."
                if found.more is not None
                else "More trials are no way out: it is too close to what would matter, or spreads too much."
            )
        return f"{text} {self.where}." if self.where else text

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        found = self.found.as_dict()
        return {
            "image": self.cell.image,
            "instance_type": self.cell.instance_type,
            "bandwidth_mbit": self.cell.bandwidth_mbit,
            "baseline": self.baseline,
            "candidate": self.candidate,
            "phase": self.phase,
            "across": list(self.across),
            "because": self.because,
            "among": self.among,
            "sentence": self.sentence(),
            "times": {"baseline": found.pop("baseline"), "candidate": found.pop("candidate")},
            **found,
        }


def groups(results: Results) -> tuple[Group, ...]:
    """Sort the trials by cell and variant, in the order of the experiment."""
    found: dict[tuple[Cell, str], list[Trial]] = {}
    for each in results.trials:
        cell = Cell(each.image, each.instance_type, each.bandwidth_mbit)
        found.setdefault((cell, each.variant), []).append(each)
    variants = [each.name for each in results.experiment.variants]
    images = [each.name for each in results.experiment.images]
    keys = sorted(
        found,
        key=lambda key: (
            images.index(key[0].image),
            key[0].instance_type,
            key[0].bandwidth_mbit,
            variants.index(key[1]),
        ),
    )
    return tuple(
        Group(
            results=results,
            cell=cell,
            variant=variant,
            trials=tuple(each for each in found[cell, variant] if each.counts),
            run=len(found[cell, variant]),
            warmup=sum(each.warmup for each in found[cell, variant]),
        )
        for cell, variant in keys
    )


def compare_variants(results: Results, *, across: Collection[str] = (), phase: str | None = None) -> tuple[Row, ...]:
    """Hold every variant against the experiment's baseline, in each cell.

    Raises
    ------
    InputError
        If what must be the same was not; see `ACROSS`.
    """
    phase = phase or results.experiment.phase
    sorted_groups = groups(results)
    base = {each.cell: each for each in sorted_groups if each.variant == results.experiment.base}
    pairs = [
        (base[each.cell], each)
        for each in sorted_groups
        if each.variant != results.experiment.base and each.cell in base
    ]
    return rows(pairs, phase, results.experiment.smallest, across, seed=results.experiment.seed)


def compare_runs(
    first: Results, second: Results, *, across: Collection[str] = (), phase: str | None = None
) -> tuple[Row, ...]:
    """Hold the same variant of two runs against each other, in each cell that both have.

    With `instance-type`, `image` or `bandwidth` in `across` cells need not be the same in it. What would matter is as
    the first run's experiment has it, since both must have stated it beforehand: another one is refused.

    Raises
    ------
    InputError
        If nothing in them may be compared, or what must be the same was not.
    """
    if first.experiment.smallest != second.experiment.smallest:
        raise InputError(
            "the two experiments state different smallest differences",
            resource=f"{first.run} and {second.run}",
            hint="the smallest difference worth having is stated before measuring; compare runs of one experiment",
        )
    phase = phase or first.experiment.phase
    pairs = [
        (one, other)
        for one in groups(first)
        for other in groups(second)
        if one.variant == other.variant
        and all(
            one.setting(name) == other.setting(name) or name in across
            for name in ("image", "instance-type", "bandwidth")
        )
    ]
    if not pairs:
        raise InputError(
            "they have no variant in common that was launched with the same image, instance type and bandwidth",
            resource=f"{first.run} and {second.run}",
            hint="--across image, instance-type or bandwidth compares them all the same",
        )
    found = rows(pairs, phase, first.experiment.smallest, across, seed=first.experiment.seed)
    where = " against ".join(dict.fromkeys((surroundings(second), surroundings(first))))
    return tuple(
        replace(
            each, baseline=f"{each.baseline} of {first.run}", candidate=f"{each.candidate} of {second.run}", where=where
        )
        for each in found
    )


def surroundings(results: Results) -> str:
    """Say in some words where numbers come from."""
    when = min((each.began for each in results.trials), default="")[:10]
    place = ", ".join(filter(None, (machine_words(results), when)))
    return f"{results.provenance.capitalize()} on {results.driver} ({place})"


def machine_words(results: Results) -> str:
    """Say in some words on what machine, or where, a driver launched."""
    machine = results.machine
    told = [f"{machine['processor']}, {machine.get('cores')} cores"] if "processor" in machine else []
    return ", ".join([*told, *(str(machine[name]) for name in ("region", "zone", "filesystem") if name in machine)])


def rows(
    pairs: Iterable[tuple[Group, Group]], phase: str, smallest: Smallest, across: Collection[str], *, seed: int
) -> tuple[Row, ...]:
    """Compare pairs of groups that have two times each; fewer do not say how times spread."""
    unknown = sorted(set(across) - set(ACROSS))
    if unknown:
        raise InputError(f"nothing to compare across: {unknown[0]!r}", hint=f"one of {', '.join(ACROSS)}")
    found = []
    for baseline, candidate in pairs:
        differing = differences(baseline, candidate)
        refuse([each for each in differing if each[0] not in across], baseline, candidate)
        times = baseline.seconds(phase), candidate.seconds(phase)
        if min(map(len, times)) >= 2:
            comparison = statistics.compare(*times, seconds=smallest.seconds, ratio=smallest.ratio, seed=seed)
            names = tuple(name for name, _, _ in differing)
            # The parts are those of the whole launch.
            why = because(baseline, candidate, comparison.difference.estimate) if phase == "launch" else ""
            where = surroundings(candidate.results)
            found.append(Row(candidate.cell, baseline.variant, candidate.variant, phase, comparison, names, why, where))
    judged = statistics.together([each.found for each in found])
    return tuple(replace(row, found=each, among=len(found)) for row, each in zip(found, judged, strict=True))


def differences(one: Group, other: Group) -> list[tuple[str, str, str]]:
    """Say in what two groups differ that must be the same: the setting, and what it was in each."""
    found = []
    for name in ACROSS:
        mine, theirs = one.setting(name), other.setting(name)
        if one.trials and other.trials and mine != theirs:
            found.append((name, " and ".join(sorted(mine)) or "not told", " and ".join(sorted(theirs)) or "not told"))
    return found


def refuse(differing: Sequence[tuple[str, str, str]], one: Group, other: Group) -> None:
    """Refuse to compare what was measured under different conditions.

    Raises
    ------
    InputError
        Naming what differs, and how to compare all the same.
    """
    if differing:
        words = "; ".join(f"{name}: {mine} against {theirs}" for name, mine, theirs in differing)
        flags = " ".join(f"--across {name}" for name, _, _ in differing)
        raise InputError(
            f"not compared, since they differ in more than the variant: {words}",
            resource=f"{one.variant} of {one.results.run} and {other.variant} of {other.results.run}",
            hint=f"if you want to know all the same: {flags}",
        )


def weakest(found: Iterable[Results]) -> Provenance:
    """Give the weakest provenance of some results."""
    order: tuple[Provenance, ...] = ("measured", "recorded", "simulated")
    return max((each.provenance for each in found), key=order.index)
