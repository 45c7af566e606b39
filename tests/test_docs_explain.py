"""The documents about explanations are in step with the code: the branches, the links, the options and the words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from leptonami.commands import explain as command
from leptonami.explain.draw_matrix import MEANINGS, SIGNS
from leptonami.explain.draw_timeline import WORDS
from leptonami.readers.gpuoperands import Link
from leptonami.verdicts.scaledown import BRANCHES, State

DOCS = Path(__file__).parent.parent / "docs"
AUTOSCALER, OPERATOR = (DOCS / name for name in ("autoscaler.md", "gpu-operator.md"))


def tables(path: Path) -> Iterator[list[list[str]]]:
    """The tables of a document, each with its head."""
    for block in re.findall(r"(?:^\|.*\|\n)+", path.read_text(encoding="utf-8"), re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        yield [rows[0], *rows[2:]]


def table(path: Path, *head: str) -> list[list[str]]:
    return next(rows[1:] for rows in tables(path) if rows[0] == list(head))


def test_the_branches_are_those_of_the_code() -> None:
    written = table(AUTOSCALER, "Branch", "Name", "Why the node stays", "To mend")
    meant = [
        [str(about.number), f"`{branch}`", about.cause, "yes" if about.wrong else "no"]
        for branch, about in sorted(BRANCHES.items(), key=lambda each: each[1].number)
    ]
    assert written == meant


def test_the_links_are_those_of_the_code() -> None:
    assert [each[0] for each in table(OPERATOR, "Link", "Whole when")] == [str(each) for each in Link]


def test_the_words_of_verdicts_and_figures_are_explained() -> None:
    states = [each[0] for each in table(AUTOSCALER, "Word", "Means")]
    assert set(map(str, State)) <= set(states)
    text = AUTOSCALER.read_text(encoding="utf-8")
    assert [each for each in WORDS.values() if f"*{each}*" not in text] == []
    signs = {each[0]: each[1] for each in table(OPERATOR, "Sign", "Word", "Means")}
    for state, meaning in MEANINGS.items():
        sign = SIGNS[state][0]
        assert (sign in signs and signs[sign].startswith(meaning)) or sign == "≠"


@pytest.mark.parametrize("path", [AUTOSCALER, OPERATOR], ids=lambda path: path.name)
def test_every_command_and_option_of_the_documents_exists(path: Path) -> None:
    lines = re.findall(r"leptonami explain ([a-z-]+)((?:\s[^`\n#|]*)?)", path.read_text(encoding="utf-8"))
    assert lines
    for name, rest in lines:
        found = command.explain.commands[name]
        options = {option for each in found.params if isinstance(each, click.Option) for option in each.opts}
        assert [each for each in re.findall(r"--[a-z-]+", rest) if each not in options] == []


def test_files_that_the_documents_name_exist() -> None:
    for path in (AUTOSCALER, OPERATOR):
        for name in re.findall(r"`((?:data|notebooks|leptonami|docs)/[\w./-]+)`", path.read_text(encoding="utf-8")):
            assert (DOCS.parent / name).exists(), name
