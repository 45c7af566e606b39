"""What notebook 30 calls: results in by parameter, tables out. Every number is worked out from trials."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from leptonami.bench import cost, experiment, report, runner
from leptonami.bench.drivers import DRIVERS, open_driver
from leptonami.bench.groups import compare_variants, machine_words, weakest
from leptonami.bench.model import Setup
from leptonami.bench.results import KIND, Results, read, text
from leptonami.errors import InputError
from leptonami.explain.evidence import open_run
from leptonami.progress import choose
from leptonami.recordings import recordings
from leptonami.runs import Run
from leptonami.tables import Table, facts

if TYPE_CHECKING:
    from leptonami.bench.groups import Row

__all__ = [
    "beside_table",
    "first_read_table",
    "keep",
    "limits_table",
    "measure",
    "numbers_table",
    "problems_table",
    "recorded_beside",
    "sentences",
    "setting_table",
    "verdicts_table",
]


def measure(
    source: str,
    recording: str,
    *,
    file: str = "",
    trials: int = 0,
    runs_folder: str = "runs",
    resume: str = "",
    aws: str = "account",
    context: str = "",
) -> Results:
    """Give results: recorded ones, or fresh ones of a driver.

    Parameters
    ----------
    source
        `recorded`, or the driver that measures now.
    recording
        What is read if it is `recorded`: a recording, a run's id, or a file of results.
    file
        The experiment, if not the one that comes with the package for the driver.
    trials
        Of each variant; 0 for as many as the experiment has.
    resume
        A run to go on with. A fresh measurement is a run of its own below `runs_folder`.
    """
    if source == "recorded":
        return read(recording, runs=Path(runs_folder))
    if source not in DRIVERS:
        raise InputError(f"no such source: {source!r}", hint=f"recorded, or a driver: {', '.join(DRIVERS)}")
    chosen = experiment.load(file or source)
    if chosen.driver != source:
        raise InputError(
            f"the experiment is for the driver {chosen.driver}", resource=file, hint=f"source={chosen.driver}"
        )
    if trials:
        chosen = chosen.model_copy(update={"trials": trials})
    root = Path(runs_folder)
    place = Run.open(root, resume) if resume else Run.create(root)
    return runner.run(
        chosen,
        place,
        lambda say: open_driver(source, Setup(chosen, place.id, place.folder, say, aws=aws, context=context or None)),
        progress=choose(),
        command=f"leptonami bench run {Path(file).name or source}" + (f" --trials {trials}" if trials else ""),
    )


def seconds(value: object) -> str:
    """Write seconds with their unit."""
    return "" if value is None else f"{float(str(value)):.2f} s"


def setting_table(results: Results) -> Table:
    """Say what was measured, by what, on what."""
    wanted = results.experiment
    worth = f"{wanted.smallest.seconds:g} s" if wanted.smallest.seconds else f"a factor of {wanted.smallest.ratio:g}"
    counted = cost.count(wanted, (*results.bakes, *results.trials)).words()
    spent = counted if results.driver == "eks" else "nothing was bought"
    return facts(
        [
            ("question", wanted.about),
            (
                "driver",
                f"{results.driver}: {DRIVERS[results.driver][1]}" if results.driver in DRIVERS else results.driver,
            ),
            ("variants", ", ".join(f"{each.name} ({each.kind})" for each in wanted.variants)),
            ("trials", f"{len(results.trials)} run, {len(results.counted)} count; interleaved, seed {wanted.seed}"),
            ("smallest difference worth having", f"{worth}, stated beforehand"),
            ("machine", "; ".join(f"{name} {value}" for name, value in results.machine.items())),
            ("to be known", "; ".join(results.reasons)),
            ("cost", spent),
            ("again", results.command),
        ],
        caption="What was measured, and where",
        provenance=results.provenance,
    )


def numbers_table(results: Results, phase: str = "") -> Table:
    """Give the numbers of each variant."""
    what = phase or results.experiment.phase
    rows = [
        (
            each["image"],
            each["instance type"],
            each["Mbit/s"],
            each["variant"],
            each["n"],
            seconds(each["median"]),
            f"{seconds(each['q1'])} to {seconds(each['q3'])}" if each["n"] else "",
            seconds(each["p90"]),
            each["outliers"],
            each["not ok"],
        )
        for each in report.numbers(results, what)
    ]
    columns = (
        "image",
        "instance type",
        "Mbit/s",
        "variant",
        "trials",
        "median",
        "quartiles",
        "p90",
        "outliers",
        "not ok",
    )
    caption = f"{what}: every trial that counts; warm-ups do not, outliers do"
    return tidy(columns, rows, caption, results)


def verdicts_table(results: Results, across: Collection[str] = ()) -> Table:
    """Give the verdict on each variant."""
    found: tuple[Row, ...] = compare_variants(results, across=across)
    many = f"; differences stand Holm's correction for {len(found)} comparisons" if len(found) > 1 else ""
    rows = [
        (
            each.cell.words(),
            f"{each.candidate} against {each.baseline}",
            each.found.verdict,
            seconds(each.found.difference.estimate),
            f"{each.found.difference.low:+.2f} to {seconds(each.found.difference.high)}",
            f"{each.found.delta:+.2f}",
            "" if each.found.verdict != "inconclusive" else (each.found.more or "no way out"),
        )
        for each in found
    ]
    columns = ("where", "what", "verdict", "difference", "95 % interval", "Cliff's δ", "more trials")
    return tidy(columns, rows, f"Verdicts on the difference of the medians{many}", results)


def sentences(results: Results, across: Collection[str] = ()) -> Table:
    """Say each verdict in a sentence, with all that a reader needs to bet on it."""
    told = [row.sentence() for row in compare_variants(results, across=across)] or ["There is nothing to compare."]
    return Table.of(
        ("the verdict",), [(each,) for each in told], caption="In a sentence", provenance=results.provenance
    )


def recorded_beside(results: Results, source: str) -> tuple[Results, ...]:
    """Give these results and, if they are recorded, all others that were: those of this driver and machine first."""
    if source != "recorded":
        return (results,)
    known = [each.id for each in recordings() if any(file.kind == KIND for file in each.files)]
    others = [each for name in known if (each := read(name, runs=Path())).run != results.run]

    def order(each: Results) -> tuple[bool, str, bool, str]:
        here = each.driver != results.driver, each.driver, each.machine != results.machine
        return (*here, machine_words(each))

    return (results, *sorted(others, key=order))


def beside_table(shown: Sequence[Results]) -> Table:
    """Give the verdicts of several results, one below the other. Each is within one of them: none is across."""
    rows = [
        (
            f"{row.cell.words()}: {', '.join(filter(None, (each.driver, machine_words(each))))}",
            f"{row.candidate} against {row.baseline}",
            " and ".join(dict.fromkeys((str(row.found.candidate.n), str(row.found.baseline.n)))),
            f"{seconds(row.found.candidate.median)} against {seconds(row.found.baseline.median)}",
            f"{seconds(row.found.difference.low)} to {seconds(row.found.difference.high)}",
            row.found.verdict,
        )
        for each in shown
        for row in compare_variants(each)
    ]
    return Table.of(
        ("launch", "what", "trials", "medians", "95 % interval of the difference", "verdict"),
        rows,
        caption="By image and bandwidth; rows of different drivers or machines are never compared",
        provenance=weakest(shown),
    )


def first_read_table(results: Results) -> Table:
    """Say how fast the pre-fetched layers were read once, and below which rate pre-fetching would lose."""
    rows = [
        (
            each["image"],
            each["Mbit/s"],
            each["variant"],
            each["n"],
            seconds(each["first read (s)"]),
            "" if each["MiB"] is None else f"{each['MiB']:.0f} MiB",
            "" if each["MiB/s"] is None else f"{each['MiB/s']:.0f} MiB/s",
            "" if each["break even"] is None else f"{each['break even']:.0f} MiB/s",
        )
        for each in report.first_reads(results)
    ]
    columns = ("image", "Mbit/s", "variant", "trials", "first read", "size", "rate", "loses below")
    return tidy(columns, rows, "The first read of all pre-fetched layers", results)


def problems_table(results: Results) -> Table:
    """Say which trials did not end well, which marks contradict their order, and how far clocks were apart."""
    told = report.problems(results) or ("none",)
    rows = [(each,) for each in (*told, *report.clock_lines(results))]
    return Table.of(("what went wrong",), rows, caption="Problems", provenance=results.provenance)


def limits_table(results: Results) -> Table:
    """Say what these numbers cannot tell."""
    rows = [(each,) for each in report.cannot_tell(results)]
    return Table.of(("these numbers say nothing about",), rows, caption="What this cannot tell")


def tidy(columns: tuple[str, ...], rows: Sequence[tuple[object, ...]], caption: str, results: Results) -> Table:
    """Make a table without the columns that say nothing here."""
    empty = {"", "unlimited", 0}
    kept = [
        at
        for at, name in enumerate(columns)
        if name in {"variant", "trials", "what", "verdict"} or any(row[at] not in empty for row in rows)
    ]
    return Table.of(
        [columns[at] for at in kept],
        [[row[at] for at in kept] for row in rows],
        caption=caption,
        provenance=results.provenance,
    )


def keep(results: Results, runs_folder: str, run_id: str, *, recording: str = "") -> Table:
    """Keep the numbers and verdicts as evidence of a run, so that a decision can rest on them.

    Parameters
    ----------
    recording
        What they were read from, if they are recorded: the recording itself counts as evidence, and not twice.
    """
    payload = report.payload(results)
    if results.provenance == "recorded":
        payload["recording"] = recording
    path = open_run(runs_folder, run_id).write_evidence(
        KIND,
        kind=KIND,
        provenance=results.provenance,
        source=f"leptonami bench, driver {results.driver}, experiment {results.experiment.name}",
        payload=payload,
        raw=text(results),
    )
    rows = [("file", path.name), ("trials", len(results.trials)), ("verdicts", len(payload["comparisons"]))]
    return Table.of(("what", "value"), rows, caption="Kept as evidence", provenance=results.provenance)
