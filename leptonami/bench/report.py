"""What is said about results: numbers by variant, where the time went, verdicts, and what none of it can tell."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from leptonami.bench import clocks, statistics
from leptonami.bench.groups import Row, compare_variants, groups
from leptonami.bench.parts import first_read, parts
from leptonami.bench.results import overhead
from leptonami.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from leptonami.bench.results import Results

__all__ = ["cannot_tell", "clock_lines", "numbers", "payload", "trials_of", "verdicts"]

EVERYWHERE = "Other drivers and other machines: their times are never compared with these."
EC2 = (
    "EC2: how long an instance takes to start, and how slowly EBS loads the blocks of a snapshot that are read for the "
    "first time. Pre-fetched images can lose there what they win here."
)
GPU = "A GPU: no driver is loaded here, and no device plugin registers."
SHARED = "A quiet machine: others may use this one at the same time, and its disk is not that of an instance."
LIMITS: dict[str, tuple[str, ...]] = {
    "process": (
        EC2,
        "The boot of a node and its way into a cluster: the node is a containerd and its disk, without a kernel of its "
        "own, systemd, cloud-init or a kubelet.",
        GPU,
        SHARED,
        "A registry that is far away: its bandwidth is shaped, its distance only by `latency_ms`.",
    ),
    "nspawn": (
        EC2,
        "The boot of a kernel, and a node's way into a cluster: it shares this machine's kernel, and has no kubelet.",
        GPU,
        SHARED,
    ),
    "eks": (
        "Other regions, zones and days: EC2 and EBS differ between them, and from hour to hour.",
        "Other instance types and volumes than those that were launched.",
    ),
}
SIMULATED = "Anything about time: these numbers are simulated and show only that the measuring works."


def cannot_tell(results: Results) -> tuple[str, ...]:
    """Say in plain words what these numbers cannot tell."""
    first = (SIMULATED,) if results.provenance == "simulated" else ()
    return (*first, *LIMITS.get(results.driver, ()), EVERYWHERE)


def verdicts(results: Results, *, across: Collection[str] = ()) -> tuple[Row, ...]:
    """Give the verdict on every variant against the baseline, in each cell."""
    return compare_variants(results, across=across)


def numbers(results: Results, phase: str | None = None) -> list[dict[str, Any]]:
    """Give the numbers of each variant in each cell: a row each, also of one that yielded nothing."""
    phase = phase or results.experiment.phase
    rows = []
    for group in groups(results):
        times = group.seconds(phase)
        found = statistics.summary(times) if times else None
        rows.append(
            {
                "image": group.cell.image,
                "instance type": group.cell.instance_type,
                "Mbit/s": group.cell.bandwidth_mbit or "unlimited",
                "variant": group.variant,
                "n": len(times),
                "median": found and found.median,
                "q1": found and found.q1,
                "q3": found and found.q3,
                "p90": found and found.p90,
                "lowest": found and found.lowest,
                "highest": found and found.highest,
                "outliers": len(found.outliers) if found else 0,
                "not ok": group.failed,
                "warm-up": group.warmup,
                "parts": parts(group),
            }
        )
    return rows


def first_reads(results: Results) -> list[dict[str, Any]]:
    """Give the first reads: how long reading the pre-fetched layers once took, how fast that was, and the break-even.

    Below the break-even rate (the layers' size by what the variant saves against the baseline) a volume that loads
    every block when it is first read would take back all that pre-fetching wins. A container reads less than all.
    """
    rows = []
    base = {each.cell: each for each in groups(results) if each.variant == results.experiment.base}
    for group in groups(results):
        read = first_read(group)
        if read is None:
            continue
        seconds, size, rate = read
        mine = group.seconds(results.experiment.phase)
        theirs = base[group.cell].seconds(results.experiment.phase) if group.cell in base else []
        saved = median(theirs) - median(mine) if mine and theirs else 0.0
        rows.append(
            {
                "image": group.cell.image,
                "instance type": group.cell.instance_type,
                "Mbit/s": group.cell.bandwidth_mbit or "unlimited",
                "variant": group.variant,
                "n": len(group.seconds("first-read")),
                "first read (s)": seconds,
                "MiB": size,
                "MiB/s": rate,
                "break even": size / saved if size and saved > 0 else None,
            }
        )
    return rows


def problems(results: Results) -> tuple[str, ...]:
    """Say which trials did not end well, where marks contradict their order, and what is not known well enough."""
    told = [
        f"trial {each.number} ({each.variant}): {each.outcome}: {each.reason}"
        for each in results.trials
        if each.outcome != "ok"
    ]
    told += [
        f"{each.variant} ({each.cell.words()}): too few trials that count to compare: {len(each.trials)}"
        for each in groups(results)
        if len(each.trials) < 2
    ]
    told += [
        f"trial {each.number} ({each.variant}): {text}" for each in results.trials for text in each.timeline.problems()
    ]
    fast = {each.name for each in results.experiment.variants if each.kind == "fast-snapshot-restore"}
    told += [
        f"trial {each.number} ({each.variant}): its volume was not restored fast: without a credit of the snapshot "
        "its blocks come as without Fast Snapshot Restore"
        for each in results.counted
        if each.variant in fast and each.conditions.get("fast restored") is not True
    ]
    return (*told, *uncertain(results))


def uncertain(results: Results) -> list[str]:
    """Say in which trials that count the measured phase is known less well than what would make a difference.

    They stay in the verdict, whose interval knows nothing of clocks: one that is ahead in each of a variant's trials
    moves its median.
    """
    phase, smallest = results.experiment.phase, results.experiment.smallest
    told = []
    for group in groups(results):
        spans = {each.number: span for each in group.trials if (span := each.timeline.phases().get(phase))}
        wide = {
            number: span.uncertainty
            for number, span in spans.items()
            if span.uncertainty > (smallest.seconds or span.seconds * ((smallest.ratio or 1.0) - 1))
        }
        if wide:
            worst = max(wide.values())
            what = "by an unknown amount" if worst == float("inf") else f"by up to {worst:.2f} s"
            told.append(
                f"{group.variant} ({group.cell.words()}): {phase} is uncertain {what}, more than the smallest "
                f"difference worth having, since clocks are not known better: trials {', '.join(map(str, wide))}"
            )
    return told


def clock_lines(results: Results) -> tuple[str, ...]:
    """Say how far the clocks of the trials that count were apart; nothing if there was one."""
    return clocks.in_words(each.timeline for each in results.counted)


def payload(results: Results) -> dict[str, Any]:
    """Give what is kept as evidence: the numbers, the verdicts and the setting, without the trials (its raw input)."""
    refused = ""
    found: Sequence[Row] = ()
    try:
        found = verdicts(results)
    except InputError as error:
        refused = str(error)
    return {
        "schema": 1,
        "run": results.run,
        "experiment": results.experiment.name,
        "digest": results.experiment.digest,
        "driver": results.driver,
        "machine": dict(results.machine),
        "phase": results.experiment.phase,
        "smallest": results.experiment.smallest.model_dump(),
        "variants": {each.name: each.kind for each in results.experiment.variants},
        "complete": results.complete,
        "cannot_tell": list(cannot_tell(results)),
        "problems": list(problems(results)),
        "clocks": list(clock_lines(results)),
        "numbers": numbers(results),
        "first_reads": first_reads(results),
        "comparisons": [each.as_dict() for each in found],
        "refused": refused,
    }


def trials_of(results: Results) -> pd.DataFrame:
    """Give every trial as a row, for whoever wants to compute for himself."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "number": each.number,
                "block": each.block,
                "variant": each.variant,
                "image": each.image,
                "instance type": each.instance_type,
                "Mbit/s": each.bandwidth_mbit,
                "warm-up": each.warmup,
                "outcome": each.outcome,
                **{name: span.seconds for name, span in each.timeline.phases().items()},
                "overhead": overhead(each),
            }
            for each in results.trials
        ]
    )
