"""Launches by size and bandwidth: what is put beside each other, what is not, and that every trial is a point."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakedriver import FakeDriver, experiment

from leptonami import figures
from leptonami.bench import notebook, results, runner
from leptonami.bench.results import Results
from leptonami.bench.scaling import along_bandwidth, along_size, scaling_figure, scaling_text
from leptonami.progress import Silent
from leptonami.runs import Run

SMALL, MEDIUM = {"name": "small", "unpacked_mib": 100}, {"name": "medium", "unpacked_mib": 400}
Measure = Callable[..., Results]


@pytest.fixture(scope="module")
def measure(tmp_path_factory: pytest.TempPathFactory) -> Measure:
    """Give what measures, with the fake driver: the same changes once."""
    known: dict[str, Results] = {}

    def measured(**changes: Any) -> Results:
        if str(changes) not in known:
            wanted, place = experiment(trials=6, **changes), Run.create(tmp_path_factory.mktemp("runs"))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "fsync", lambda _: None)
                driver = FakeDriver(wanted, place.folder)
                known[str(changes)] = runner.run(wanted, place, lambda _: driver, progress=Silent())
        return known[str(changes)]

    return measured


@pytest.fixture(scope="module")
def sizes(measure: Measure) -> Results:
    return measure(images=[SMALL, MEDIUM])


@pytest.fixture(scope="module")
def bandwidths(measure: Measure) -> Results:
    variants = [{"name": "cold", "kind": "no-images"}, {"name": "prefetched", "kind": "unpacked"}]
    return measure(images=[MEDIUM], variants=variants, local={"bandwidth_mbit": [50, 1000]})


def test_sizes_of_one_run_and_bandwidths_of_two(sizes: Results, bandwidths: Results) -> None:
    by_size, by_bandwidth = along_size([sizes, bandwidths]), along_bandwidth([sizes, bandwidths])
    assert by_size is not None and by_bandwidth is not None
    assert (by_size.stays, sorted(by_size.places)) == ("200 Mbit/s", [100, 400])
    assert (by_bandwidth.stays, sorted(by_bandwidth.places)) == ("image medium", [50, 200, 1000])
    # The fake driver takes 9.4 s cold and 0.9 s pre-fetched, whatever the size and the bandwidth.
    saved = by_bandwidth.savings("prefetched")
    assert [at for at, _ in saved] == [50, 200, 1000]
    assert all(each.low < each.estimate < each.high and each.estimate == pytest.approx(8.5, abs=1) for _, each in saved)
    assert [at for at, _ in by_bandwidth.launches("content-only")] == [200], "the second run has none"
    assert by_size.savings("cold")[0][1].estimate == 0
    told = scaling_text([sizes, bandwidths])
    assert "By image on the disk (MiB), 200 Mbit/s: cold " in told
    assert "prefetched saves 8." in told


def test_either_run_alone(sizes: Results, bandwidths: Results) -> None:
    assert along_bandwidth([sizes]) is None
    assert along_size([bandwidths]) is None
    alone = along_bandwidth([bandwidths])
    assert alone is not None and sorted(alone.places) == [50, 1000]
    for shown in ([sizes], [bandwidths], [sizes, bandwidths]):
        image, width, _ = figures.png(drawn := scaling_figure(shown))
        figures.close(drawn)
        assert image
        assert 600 <= width <= 760


def test_another_machine_driver_or_image_is_not_put_beside(
    sizes: Results, bandwidths: Results, measure: Measure
) -> None:
    for other in (
        replace(bandwidths, machine={"kernel": "another"}),
        replace(bandwidths, driver="nspawn"),
        replace(bandwidths, provenance="measured"),
        measure(images=[{"name": "medium", "unpacked_mib": 900}], local={"bandwidth_mbit": [50, 1000]}),
        measure(images=[MEDIUM], local={"bandwidth_mbit": [50, 1000], "latency_ms": 50}),
    ):
        assert along_bandwidth([sizes, other]) is None
        assert along_bandwidth([other]) is not None


def test_each_verdict_stands_with_the_driver_and_the_machine_that_it_is_of(sizes: Results, bandwidths: Results) -> None:
    machine = {"processor": "AMD EPYC", "cores": "2", "filesystem": "tmpfs"}
    table = notebook.beside_table([sizes, replace(bandwidths, driver="nspawn", machine=machine)])
    where = [row[0].partition(": ")[2] for row in table.rows]
    assert where == ["process"] * (len(where) - 2) + ["nspawn, AMD EPYC, 2 cores, tmpfs"] * 2


def test_recordings_of_this_driver_and_machine_come_first() -> None:
    first = results.read("launch/process", runs=Path())
    shown = notebook.recorded_beside(first, "recorded")
    alike = [(each.driver, each.machine) == (first.driver, first.machine) for each in shown]
    assert sum(alike) >= 2 and alike == sorted(alike, reverse=True)
    other = [each.driver != first.driver for each in shown]
    assert any(other) and other == sorted(other)
    assert notebook.recorded_beside(first, "process") == (first,)


def test_one_size_and_one_bandwidth_are_nothing_to_draw(measure: Measure) -> None:
    shown = [measure(images=[SMALL])]
    assert scaling_text(shown).startswith("No size and no bandwidth changes")
    figures.close(scaling_figure(shown))
    # What is not limited has no place on the axis.
    assert along_bandwidth([measure(images=[SMALL], local={"bandwidth_mbit": [0, 100]})]) is None


def test_every_trial_that_counts_is_a_point(sizes: Results, tmp_path: Path) -> None:
    figure = scaling_figure([sizes])
    upper = figure.axes[0]
    points = [line for line in upper.lines if line.get_linestyle() == "None" and line.get_alpha() is not None]
    drawn = sorted(float(each) for line in points for each in list(line.get_ydata()))
    figures.close(figure)
    assert drawn == sorted(each.timeline.phases()["launch"].seconds for each in sizes.counted)
