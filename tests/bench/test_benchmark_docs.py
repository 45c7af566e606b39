"""The figures of docs/benchmark.md are those of the recordings."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import median

import pytest

from leptonami import recordings
from leptonami.bench import results
from leptonami.bench.groups import Group, groups
from leptonami.bench.parts import parts
from leptonami.bench.results import Results

ROOT = Path(__file__).parent.parent.parent
NAMES = ["process", "process-bandwidth", "process-size", "process-memory", "nspawn"]
SAID = re.compile(
    r"(?P<variant>\S+) against cold \((?P<image>\w+), (?P<wire>\d+) Mbit/s\): better\. "
    r"Median (?P<median>\S+) s against (?P<cold>\S+) s: (?P<by>\S+) s "
    r"\(95 % interval (?P<low>\S+) to (?P<high>\S+) s, (?P<ratio>\S+) times"
)


@pytest.mark.parametrize("name", NAMES)
def test_the_table_has_what_the_recordings_show(name: str) -> None:
    text = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")
    shown, measured = recordings.get(f"launch/{name}").shows, results.read(f"launch/{name}", runs=Path())
    for sentence in shown:
        found = SAID.match(sentence)
        assert found, sentence
        wire = f"{int(found['wire']):,} Mbit/s"
        cells = [measured.driver, image(measured, found["image"]), wire, f"{found['cold']} s"]
        start = f"| {' | '.join(cells)} |"
        row = next((line for line in text.splitlines() if line.startswith(start)), "")
        assert row, start
        wanted = [f"| {found['median']} s |"]
        if found["variant"] == "prefetched":
            wanted += [f"{found['by']} s [{found['low']}, {found['high']}], {found['ratio']} times"]
        assert all(each in row for each in wanted), (row, wanted)


@pytest.mark.parametrize("name", NAMES)
def test_the_parts_the_first_read_and_the_harness_are_those_of_the_recordings(name: str) -> None:
    lines = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8").splitlines()
    found = groups(results.read(f"launch/{name}", runs=Path()))
    for cell in {each.cell for each in found}:
        mine = {each.variant: each for each in found if each.cell == cell}
        cold, pre = mine["cold"], mine["prefetched"]
        size = median(float(each.conditions["first read MiB"]) for each in pre.trials)
        start = [cold.results.driver, image(cold.results, cell.image)]
        wanted = [*start, f"{cell.bandwidth_mbit:,} Mbit/s"]
        wanted += [f"{parts(cold)[each]:.2f} s" for each in ("wire", "unpack", "start")]
        wanted += [f"{parts(pre)['start']:.2f} s", f"{median(pre.seconds('first-read')):.2f} s ({size:.0f} MiB)"]
        assert f"| {' | '.join(wanted)} |" in lines
        if cell.bandwidth_mbit == 200:
            row = [f"{harness(mine[each]):.2f} s" for each in ("cold", "content-only", "prefetched")]
            assert f"| {' | '.join([*start, *row])} |" in lines


def image(measured: Results, name: str) -> str:
    """Name an image as the tables do."""
    place = ", in memory" if measured.machine["filesystem"] == "tmpfs" else ""
    return f"{measured.experiment.image(name).unpacked_mib:,} MiB{place}"


def harness(group: Group) -> float:
    """Work out what the harness took from the marks by name, in another way than the package does."""
    took = []
    for each in group.trials:
        at = {mark.name: mark.at + mark.resolution / 2 for mark in each.marks}
        read = at.get("first-read", 0.0) - at.get("first-read-begun", 0.0)
        took.append(each.seconds - (at["first-output"] - at["requested"]) - read)
    return median(took)
