"""What results say: refusals, verdicts, splits, recordings, figures; and the command line around them."""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fakedriver import FakeDriver, experiment

from leptonami import cli, figures, recordings
from leptonami.bench import drivers, groups, parts, recording, report, results, runner, statistics
from leptonami.bench import figures as draw
from leptonami.bench import notebook as tables
from leptonami.bench.model import Mark, Probe, Setup, Trial
from leptonami.bench.results import Results
from leptonami.commands import bench as command
from leptonami.errors import InputError
from leptonami.progress import Silent
from leptonami.runs import Run


def measured(root: Path, *, wanted: Any = None, **more: Any) -> Results:
    """Run an experiment with the fake driver: simulated times."""
    wanted = wanted or experiment()
    place = Run.create(root)
    return runner.run(
        wanted,
        place,
        lambda _: FakeDriver(wanted, place.folder, **more),
        progress=Silent(),
        command="leptonami bench run fake",
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def found(root: Path) -> Results:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        return measured(root, faults={9: "fails"})


def test_verdicts_are_those_of_the_times(found: Results) -> None:
    rows = {each.candidate: each for each in report.verdicts(found)}
    assert set(rows) == {"content-only", "prefetched"}
    assert all(each.found.verdict == "better" for each in rows.values())
    # The fake driver takes 9.4 s cold, 4.4 s from content, 0.9 s pre-fetched, and a little for what is between.
    assert rows["prefetched"].found.difference.estimate == pytest.approx(-8.5, abs=0.8)
    assert rows["content-only"].found.ratio is not None
    assert rows["content-only"].found.ratio.estimate == pytest.approx(0.47, abs=0.06)
    sentence = rows["prefetched"].sentence()
    assert "prefetched against cold (small, 200 Mbit/s): better. Median " in sentence
    assert "95 % interval -" in sentence
    assert "the same with Holm's correction for 2 comparisons. What differs: wire -" in sentence
    assert sentence.endswith(f"Simulated on process ({found.trials[0].began[:10]}).")


def test_content_that_is_unpacked_when_the_container_is_created_is_no_start(found: Results) -> None:
    """CRI 1.6 says that the image is there, and unpacks it then; the fake driver's content is unpacked before."""

    def late(trial: Trial) -> Trial:
        at = {mark.name: mark.at for mark in trial.marks}
        marks = (replace(mark, at=at["sandbox"]) if mark.name == "pulled" else mark for mark in trial.marks)
        return replace(trial, marks=tuple(marks)) if trial.variant == "content-only" else trial

    group = next(
        each
        for each in groups.groups(replace(found, trials=tuple(map(late, found.trials))))
        if each.variant == "content-only"
    )
    assert parts.parts(group)["unpack"] == pytest.approx(3.5, abs=0.5)
    assert parts.parts(group)["start"] == pytest.approx(0.83, abs=0.15)
    assert statistics.summary(group.seconds("create")).median == pytest.approx(3.5, abs=0.5)
    assert statistics.summary(group.seconds("start")).median == pytest.approx(0.83, abs=0.15)


def test_the_split_follows_the_launch(found: Results) -> None:
    cold = next(each for each in groups.groups(found) if each.variant == "cold")
    spans = parts.split(cold)
    assert [each[1] for each in spans] == [
        *("running", "containerd", "sandbox", "pulling", "fetched", "pulled", "container-created", "started"),
        "first-output",
    ]
    assert parts.parts(cold)["wire"] == pytest.approx(5.0, abs=0.6)
    assert parts.parts(cold)["unpack"] == pytest.approx(3.5, abs=0.5)
    assert sum(parts.parts(cold).values()) == pytest.approx(statistics.summary(cold.seconds("launch")).median, abs=0.5)


def test_the_numbers_count_what_counts(found: Results) -> None:
    rows = {each["variant"]: each for each in report.numbers(found)}
    assert sum(each["n"] for each in rows.values()) == 3 * 8 - 1
    assert sum(each["not ok"] for each in rows.values()) == 1
    assert {each["warm-up"] for each in rows.values()} == {1}
    assert "trial 9 (" in report.problems(found)[0]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"driver": "nspawn"}, "driver"),
        ({"machine": {"kernel": "another"}}, "machine"),
        ({"provenance": "recorded"}, "provenance"),
    ],
)
def test_other_drivers_machines_and_provenances_are_not_compared_unless_asked(
    found: Results, change: dict[str, Any], name: str
) -> None:
    other = replace(found, run="20261126-080000-aaaaaa", **change)
    with pytest.raises(InputError, match=f"{name}: ") as caught:
        groups.compare_runs(found, other)
    assert f"--across {name}" in str(caught.value.hint)
    rows = groups.compare_runs(found, other, across=[name])
    assert not {each.found.verdict for each in rows} & {"better", "worse"}
    assert all(each.across == (name,) for each in rows)
    # Where each was measured: of both, where that differs in more than what only the machine's description says.
    there = f"{'Recorded' if name == 'provenance' else 'Simulated'} on {'nspawn' if name == 'driver' else 'process'} ("
    here = " against Simulated on process (" if name != "machine" else ""
    assert all(there in (said := each.sentence()) and here in said for each in rows)


@pytest.mark.parametrize("name", ["zone", "accelerator"])
def test_trials_in_other_zones_are_not_compared_unless_asked(found: Results, name: str) -> None:
    moved = tuple(
        replace(each, conditions={**each.conditions, name: "b" if each.variant == "cold" else "a"})
        for each in found.trials
    )
    with pytest.raises(InputError, match=f"{name}: b against a"):
        report.verdicts(replace(found, trials=moved))
    assert "not compared" in report.payload(replace(found, trials=moved))["refused"]
    assert report.verdicts(replace(found, trials=moved), across=[name])
    # Both variants in both zones is what interleaving gives, and is compared.
    both = tuple(replace(each, conditions={name: "ab"[each.block % 2]}) for each in found.trials)
    assert report.verdicts(replace(found, trials=both))


def test_other_instance_types_images_and_bandwidths_are_not_compared_unless_asked(found: Results) -> None:
    for name, change in (
        ("instance-type", {"instance_type": "g5.xlarge"}),
        ("bandwidth", {"bandwidth_mbit": 1000}),
    ):
        other = replace(found, trials=tuple(replace(each, **change) for each in found.trials))
        with pytest.raises(InputError, match="no variant in common"):
            groups.compare_runs(found, other)
        assert groups.compare_runs(found, other, across=[name])
    with pytest.raises(InputError, match="different smallest differences"):
        groups.compare_runs(found, replace(found, experiment=experiment(smallest={"seconds": 9.0})))
    with pytest.raises(InputError, match="nothing to compare across: 'weather'"):
        groups.compare_runs(found, found, across=["weather"])


def test_a_single_trial_is_shown_and_not_compared(found: Results) -> None:
    few = replace(found, trials=tuple(each for each in found.trials if each.block <= 2))
    assert report.verdicts(few) == ()
    assert any("too few trials that count to compare: 1" in each for each in report.problems(few))


def reads(trial: Trial) -> bool:
    """Tell whether a trial has a first read."""
    return any(mark.name == "first-read" for mark in trial.marks)


def test_the_first_read_and_its_break_even(found: Results) -> None:
    sized = replace(found, trials=tuple(replace(each, conditions={"first read MiB": 400.0}) for each in found.trials))
    rows = {each["variant"]: each for each in report.first_reads(sized)}
    assert set(rows) == {"content-only", "prefetched"}
    assert rows["prefetched"]["first read (s)"] == pytest.approx(0.3)
    assert rows["prefetched"]["MiB/s"] == pytest.approx(400 / 0.3, rel=0.01)
    assert rows["prefetched"]["break even"] == pytest.approx(400 / 8.5, rel=0.1)
    # `bench show` says it too, and what the harness took: by these seconds, one each beside launch and first read.
    longer = tuple(
        replace(each, seconds=sum(span.seconds for span in each.timeline.waterfall()) + 1 + 0.3 * reads(each))
        for each in sized.trials
    )
    lines = {each.variant: parts.line(each) for each in groups.groups(replace(sized, trials=longer))}
    assert lines["prefetched"].endswith("; first read 0.30 s (400 MiB, 1333 MiB/s); harness 1.00 s")
    assert lines["cold"].endswith("s; harness 1.00 s")


def test_results_come_back_from_a_file_a_run_and_are_refused_otherwise(
    found: Results, root: Path, tmp_path: Path
) -> None:
    content = results.text(found)
    assert results.parse(content, source="x") == found
    path = tmp_path / "results.json.gz"
    path.write_bytes(gzip.compress(content))
    assert results.read(str(path), runs=root) == found  # simulated stays simulated
    assert results.read(found.run, runs=root) == found
    assert results.read(str(root / found.run), runs=root) == found
    assert replace(found, provenance="measured").recorded().provenance == "recorded"
    document = json.loads(content)
    for wrong in (b"", b"{", b"[]", b'{"kind": "launch-benchmark"}', b"\x1f\x8bno", b"\xff\xfe"):
        path.write_bytes(wrong)
        with pytest.raises(InputError):
            results.read(str(path), runs=root)
    for change in ({"schema": 2}, {"provenance": "believed"}, {"trials": [{"number": "x"}]}, {"experiment": {}}):
        with pytest.raises(InputError):
            results.parse(json.dumps({**document, **change}).encode(), source="x")
    with pytest.raises(InputError, match="there are no results 'nothing'"):
        results.read("nothing", runs=root)
    other = Run.create(tmp_path)
    other.journal.write("begun", by="explain")
    with pytest.raises(InputError, match="no launch benchmark"):
        results.read(other.id, runs=tmp_path)


def test_a_recording_is_read_through_the_index(found: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Simulated numbers never get into data/recorded: these are passed off as measured, in a folder of the test's own.
    with pytest.raises(InputError, match="simulated results are no recording"):
        recording.record(found, tmp_path / "launch" / "fake")
    real = replace(found, provenance="measured", machine={"kernel": "6.1", "containerd": "1.6.20"})
    with pytest.raises(InputError, match="not complete"):
        recording.record(replace(real, complete=False), tmp_path / "launch" / "fake")
    entry = recording.record(real, tmp_path / "launch" / "fake")
    assert entry == recording.record(real, tmp_path / "launch" / "fake")  # the same bytes every time
    (tmp_path / "index.yaml").write_text(f"schema: 1\nrecordings:\n{entry}")
    (only,) = recordings.load(tmp_path)
    assert only.id == "launch/fake"
    assert only.versions["containerd"] == "1.6.20"
    assert "leptonami bench run fake" in only.how
    assert any("prefetched against cold" in each for each in only.shows)
    assert results.parse(only.read("launch-benchmark"), source="x") == real
    monkeypatch.setattr(recordings, "recordings", lambda: (only,))
    assert results.read("launch/fake", runs=tmp_path) == replace(real, provenance="recorded")


def test_figures_and_their_words(found: Results) -> None:
    figures.style()
    for name in ("waterfall", "trials", "distribution", "first_read"):
        figure, words = getattr(draw, f"{name}_figure"), getattr(draw, f"{name}_text")
        image, width, height = figures.png(drawn := figure(found))
        figures.close(drawn)
        assert image
        assert 600 <= width <= 760  # the page scales it down to a phone's width as one
        assert 100 <= height <= 1200
        assert "prefetched" in words(found)
        assert " s" in words(found)
        nothing = replace(found, trials=())
        figures.close(figure(nothing))
        assert words(nothing).startswith("No ")


def test_a_slow_image_is_on_the_page_beside_a_quick_one(found: Results) -> None:
    """Panels share their scale, whichever is drawn first."""
    slow = tuple(
        replace(each, image="slow", marks=tuple(replace(mark, at=mark.at * 5) for mark in moved(each)))
        for each in found.trials
    )
    images = [{"name": "small", "unpacked_mib": 100}, {"name": "slow", "unpacked_mib": 400}]
    both = replace(found, trials=(*found.trials, *slow), experiment=experiment(images=images))
    longest = max(time for each in groups.groups(both) for time in each.seconds("launch"))
    for figure in (draw.distribution_figure(both), draw.trials_figure(both), draw.waterfall_figure(both)):
        assert figure.axes[0].get_xlim()[1] >= 0.8 * longest
        figures.close(figure)


def moved(trial: Trial) -> tuple[Mark, ...]:
    """Give a trial's marks as seconds since the first."""
    start = min((mark.at for mark in trial.marks), default=0.0)
    return tuple(replace(mark, at=mark.at - start) for mark in trial.marks)


def grey(colour: str) -> float:
    """Give the lightness of a colour in a grey print (relative luminance of sRGB)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_parts_that_touch_can_be_told_apart_in_grey() -> None:
    # As they follow each other, with or without the parts between.
    for one, other in (
        *(("instance or disk", "node"), ("node", "pod"), ("pod", "wire"), ("wire", "unpack"), ("unpack", "start")),
        *(("pod", "pull"), ("pull", "pod"), ("unpack", "pod"), ("pod", "start")),
    ):
        lighter, darker = sorted((grey(draw.PARTS[one].fill), grey(draw.PARTS[other].fill)), reverse=True)
        hatched = draw.PARTS[one].hatch != draw.PARTS[other].hatch
        assert (lighter + 0.05) / (darker + 0.05) >= 1.5 or hatched, (one, other)


def test_tables_of_the_notebook(found: Results, tmp_path: Path) -> None:
    assert "stated beforehand" in repr(tables.setting_table(found))
    assert tables.verdicts_table(found).columns[:3] == ("where", "what", "verdict")
    assert "better" in repr(tables.sentences(found))
    assert "instance type" not in tables.numbers_table(found).columns  # says nothing here
    assert "fails" not in repr(tables.problems_table(found))
    assert "no space left on device" in repr(tables.problems_table(found))
    assert "EC2" in repr(tables.limits_table(found))
    assert "Anything about time" in repr(tables.limits_table(found))  # it is simulated
    run = "20261126-080000-abcdef"
    tables.keep(replace(found, provenance="recorded"), str(tmp_path), run, recording="launch/process")
    kept = json.loads((tmp_path / run / "evidence" / "launch-benchmark.json").read_text())
    assert kept["payload"]["recording"] == "launch/process"
    assert "recording" not in report.payload(found)
    row = report.payload(found)["comparisons"][1]
    assert (row["candidate"], row["baseline"], row["verdict"]) == ("prefetched", "cold", "better")
    assert row["times"]["candidate"]["n"] == 8


def test_the_notebook_measures_with_the_driver_that_it_is_told(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    opened: list[Setup] = []

    def fake(name: str, setup: Setup) -> FakeDriver:
        assert name == "process"
        opened.append(setup)
        return FakeDriver(setup.experiment, setup.folder)

    monkeypatch.setattr(tables, "open_driver", fake)
    runs = str(tmp_path / "runs")
    fresh = tables.measure(
        "process", "launch/process", file=str(file), trials=2, runs_folder=runs, aws="lab", context="here"
    )
    assert (fresh.complete, len(fresh.counted), fresh.experiment.name) == (True, 2 * 2, "mine")
    assert fresh.command == "leptonami bench run mine.yaml --trials 2"
    assert (opened[0].aws, opened[0].context, opened[0].run) == ("lab", "here", fresh.run)
    # The run is one as any other: it can be gone on with, and read.
    more = tables.measure("process", "", file=str(file), trials=3, runs_folder=runs, resume=fresh.run)
    assert (more.run, len(more.counted)) == (fresh.run, 2 * 3)
    assert more.trials[: len(fresh.trials)] == fresh.trials
    assert tables.measure("recorded", fresh.run, runs_folder=runs) == more
    for source, why in (("nspawn", "is for the driver process"), ("proces", "no such source: 'proces'")):
        with pytest.raises(InputError, match=why):
            tables.measure(source, "launch/process", file=str(file), runs_folder=runs)
    assert len(opened) == 2
    assert len(list(Path(runs).iterdir())) == 1


def invoke(*arguments: str) -> int:
    """Call the command line as a shell does; give the exit code."""
    with pytest.raises(SystemExit) as left:
        cli.main(["bench", *arguments])
    return int(left.value.code or 0)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Put the fake driver in the place of `process`; what a test puts into the dict goes to the driver."""
    told: dict[str, Any] = {}
    monkeypatch.setattr(os, "fsync", lambda _: None)

    def opened(name: str, setup: Setup) -> FakeDriver:
        assert name == "process"
        told["setup"] = setup
        return FakeDriver(setup.experiment, setup.folder, **told.get("driver", {}))

    monkeypatch.setattr(drivers, "open_driver", opened)
    return told


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "schema: 1\nname: mine\ndriver: process\ntimeout: 1m\nseed: 1\ntrials: 6\nsmallest: {seconds: 0.5}\n"
        "variants: [{name: cold, kind: no-images}, {name: quick, kind: unpacked}]\n"
        "images: [{name: small, unpacked_mib: 100}]\n"
    )
    return path


def test_run_show_and_compare(
    fake: dict[str, Any], file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = str(tmp_path / "runs")
    assert invoke("run", str(file), "--runs", runs, "--json") == 0
    first = json.loads(capsys.readouterr().out)
    assert first["complete"]
    assert first["comparisons"][0]["verdict"] == "better"
    assert first["results"]["command"] == "leptonami bench run mine.yaml"
    assert str(tmp_path) not in json.dumps(first)
    assert invoke("show", first["run"], "--runs", runs) == 0
    shown = capsys.readouterr()
    assert "quick against cold (small, 200 Mbit/s): better." in shown.out
    (quick,) = (each for each in shown.out.splitlines() if each.startswith("quick: "))
    assert "; first read 0.30 s; harness 0.00 s" in quick
    (cold,) = (each for each in shown.out.splitlines() if each.startswith("cold: "))
    assert "first read" not in cold
    assert "cannot tell: " in shown.err
    assert invoke("show", first["run"], "--runs", runs, "--phase", "wire") == 0
    assert invoke("show", first["run"], "--runs", runs, "--phase", "lunch") == 2
    fake["driver"] = {"slower": 1.5}
    capsys.readouterr()
    assert invoke("run", str(file), "--runs", runs, "--json") == 0
    second = json.loads(capsys.readouterr().out)
    assert invoke("compare", first["run"], first["run"], "--runs", runs) == 0
    shown = capsys.readouterr()
    assert f"quick of {first['run']} against quick of {first['run']}" in shown.out
    assert shown.out.rstrip().endswith(f". Simulated on process ({first['results']['trials'][0]['began'][:10]}).")
    # A worse one ends with 3, as checks do that found something wrong.
    assert invoke("compare", first["run"], second["run"], "--runs", runs, "--json") == 3
    told = json.loads(capsys.readouterr().out)
    assert "worse" in {each["verdict"] for each in told["comparisons"]}


def test_exit_codes_of_run(
    fake: dict[str, Any], file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = str(tmp_path / "runs")
    assert invoke("run", "no-such", "--runs", runs) == 2
    assert invoke("run", "--runs", runs) == 2
    assert invoke("run", str(file), "--resume", "20261126-080000-abcdef", "--runs", runs) == 2
    fake["driver"] = {"possible": False}
    assert invoke("run", str(file), "--runs", runs) == 2
    fake["driver"] = {"good_bake": False}
    assert invoke("run", str(file), "--runs", runs) == 3
    fake["driver"] = {"faults": dict.fromkeys(range(1, 20), "fails")}
    assert invoke("run", str(file), "--runs", runs) == 1
    fake["driver"] = {"faults": {3: "fails", 5: "times-out"}}
    assert invoke("run", str(file), "--runs", runs) == 0  # failed trials are results
    fake["driver"] = {"faults": {3: "ctrl-c"}}
    capsys.readouterr()
    assert invoke("run", str(file), "--runs", runs) == 130
    run = fake["setup"].run
    assert f"--resume {run}" in capsys.readouterr().err
    fake["driver"] = {}
    assert invoke("run", "--resume", run, "--trials", "3", "--runs", runs) == 2
    assert invoke("run", "--resume", run, "--trials", "7", "--runs", runs) == 0
    assert len(results.read(run, runs=Path(runs)).trials) == 2 * 8


def test_dry_run_runs_nothing(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke("run", str(file), "--dry-run", "--runs", str(tmp_path / "runs")) == 0
    assert not (tmp_path / "runs").exists()
    assert "14 trials on the driver process" in capsys.readouterr().out
    assert invoke("run", "eks", "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["cost"]["usd"] > 0


def test_probe_says_why_not(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from leptonami.bench import probing

    monkeypatch.setattr(
        probing,
        "open_driver",
        lambda name, setup: FakeDriver(setup.experiment, setup.folder, possible=name == "nspawn"),
    )
    assert invoke("probe", "--json") == 0
    found = {each["driver"]: each for each in json.loads(capsys.readouterr().out)}
    assert set(found) == set(drivers.DRIVERS)
    assert found["nspawn"]["possible"]
    assert found["process"]["reasons"] == ["no containerd: apt-get install containerd"]
    assert invoke("probe", "--driver", "nspawn") == 0
    assert invoke("probe", "--driver", "process") == 3
    monkeypatch.undo()
    assert invoke("probe", "--driver", "proces") == 3
    assert "did you mean process?" in capsys.readouterr().out


def test_the_schema_and_what_may_differ_are_those_of_the_code() -> None:
    shown = CliRunner().invoke(cli.cli, ["bench", "schema"])
    assert json.loads(shown.output)["title"] == "An experiment of leptonami"
    assert command.ACROSS == groups.ACROSS


def test_every_probe_and_trial_is_plain_data() -> None:
    assert Probe(True).machine == {}
    assert not Trial(1, 1, "x", outcome="failed").counts
    assert not Trial(1, 1, "x", outcome="ok", warmup=True).counts
