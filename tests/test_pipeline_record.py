"""The record of a pipeline's run: what a killed pipeline's notebooks are found to have done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonami.errors import InputError
from leptonami.pipeline import record as records
from leptonami.pipeline.record import NotebookRecord, Record

RUN = "20260102-030405-abcdef"
STARTED = "2026-01-02T03:04:05.678000+00:00"


def left(folder: Path, *, page: bool = True, **changes: Any) -> NotebookRecord:
    """Leave an executed notebook behind and find out about it."""
    (folder / "notebooks").mkdir(exist_ok=True)
    about = {
        "run": RUN,
        "started": "2026-01-02T03:04:05+00:00",
        "finished": "2026-01-02T03:05:00+00:00",
        "provenance": "simulated",
        "outcome": {"status": "completed", "exit_code": 0, "seconds": 3.5, "cells": 2, "executed": 2, "error": None},
    }
    document = {"metadata": {"leptonami": {**about, **changes}}}
    (folder / "notebooks" / "10_a.ipynb").write_text(json.dumps(document))
    if page:
        (folder / "notebooks" / "10_a.html").write_text("x")
    entry = NotebookRecord(name="10_a", state="running", started=STARTED)
    records.recover(entry, folder)
    return entry


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / RUN
    made.mkdir()
    return made


def test_one_that_completed_has_completed(folder: Path) -> None:
    entry = left(folder)
    assert (entry.state, entry.exit_code, entry.seconds, entry.provenance) == ("completed", 0, 3.5, "simulated")
    assert entry.html == "notebooks/10_a.html"
    assert entry.notebook_sha256 == records.digest(folder / "notebooks" / "10_a.ipynb")


@pytest.mark.parametrize(
    "changes",
    [
        {"run": "20260102-030405-000000"},  # another run's
        {"started": "2026-01-02T03:04:04+00:00"},  # an earlier attempt's
        {"started": None},
        {"outcome": "completed"},
        {"outcome": {}},
    ],
)
def test_what_is_not_of_this_execution_is_not_believed(folder: Path, changes: dict[str, Any]) -> None:
    entry = left(folder, **changes)
    assert entry.state != "completed"
    assert entry.html is None


def test_without_its_page_it_has_not_completed(folder: Path) -> None:
    assert left(folder, page=False).state == "interrupted"


def test_one_that_failed_has_failed(folder: Path) -> None:
    outcome = {"status": "failed", "exit_code": 3, "error": {"message": "no"}}
    entry = left(folder, outcome=outcome)
    assert (entry.state, entry.exit_code, entry.error) == ("failed", 3, {"message": "no"})


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"metadata": 3}', b"\xff\xfe", b"[" * 100_000])
def test_one_that_left_nothing_was_interrupted(folder: Path, content: bytes | None) -> None:
    if content is not None:
        (folder / "notebooks").mkdir()
        (folder / "notebooks" / "10_a.ipynb").write_bytes(content)
    entry = NotebookRecord(name="10_a", state="running", started=STARTED)
    records.recover(entry, folder)
    assert (entry.state, entry.why) == ("interrupted", "the pipeline's process died while it ran")


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.dictionaries(st.sampled_from(["schema", "run", "notebooks", "name", "state"]), inner) | st.lists(inner)
        ),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    root = tmp_path_factory.mktemp("runs")
    (root / RUN).mkdir()
    (root / RUN / records.FILE).write_bytes(raw)
    try:
        assert records.load(root, RUN).run == RUN
    except InputError as error:
        assert error.resource


def test_what_is_written_is_read_back(folder: Path) -> None:
    made = Record(run=RUN, notebooks=[NotebookRecord(name="10_a", given={"a": [1, None, "1.30", {"b": True}]})])
    records.save(made, folder)
    assert records.load(folder.parent, RUN) == made
    assert [each.name for each in folder.iterdir()] == [records.FILE]
