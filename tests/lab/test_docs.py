"""`docs/lab.md` says what is so."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import click

from leptonami.cli import cli
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


def test_every_command_of_leptonami_that_the_pages_name_can_be_given() -> None:
    found = {
        line
        for page in (*ROOT.glob("docs/lab*.md"), ROOT / "README.md")
        for language, block in re.findall(r"(?ms)^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"))
        if language in {"", "console", "sh"}
        for line in re.findall(
            r"(?:^|^\$ |\$\(|&& )(leptonami (?!lab exec)[^|)&\n]*)", re.sub(r"(?m)(^|\s)#.*", "", block), re.MULTILINE
        )
    }
    assert len(found) > 25
    for line in sorted(found):
        context = click.Context(cli, info_name="leptonami")
        words = shlex.split(line)[1:]
        command: click.Command = cli
        while isinstance(command, click.Group):
            name, found_command, words = command.resolve_command(context, words)
            assert found_command, line
            command = found_command
            # Reads the options, and complains about those that there are not; runs nothing.
            parsed = command.make_context(name, list(words), parent=context)
            if isinstance(command, click.Group):
                words, context = [*parsed._protected_args, *parsed.args], parsed
