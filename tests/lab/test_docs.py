"""`docs/lab.md` says what is so."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from leptonami.lab import POLL
from leptonami.lab.faults import KINDS, Faults
from leptonami.lab.world import DEFAULT_SPEED, Times
from leptonami.target import Pace

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs/lab.md").read_text(encoding="utf-8")


def test_every_test_that_it_names_exists() -> None:
    there = {
        name
        for path in (ROOT / "tests/lab").glob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    assert len(named) > 30 and named <= there, sorted(named - there)


def test_every_file_that_it_names_exists() -> None:
    for name in re.findall(r"`((?:tests|data|leptonami)/[\w./-]+)`", TEXT):
        assert (ROOT / name).exists() or (ROOT / f"{name}.py").exists(), name


def test_it_tells_the_kinds_of_faults_and_its_example_is_one() -> None:
    table = TEXT.partition("| kind | what happens |")[2]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)) == set(KINDS)
    import json

    example = re.search(r"```json\n(.*?)```", TEXT, re.DOTALL)
    assert example
    Faults().replace(json.loads(example[1]))


def test_its_times_are_those_of_the_code() -> None:
    row = re.search(r"\| pending \|.*\n.*\n\| (.*) \|\n", TEXT)
    assert row
    assert [float(each) for each in row[1].split(" | ")] == list(dataclasses.astuple(Times()))
    assert f"({DEFAULT_SPEED:.0f} by default" in TEXT


def test_the_pace_that_it_hands_out_is_one() -> None:
    assert Pace.parse(POLL).longest < 1
