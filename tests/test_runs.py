"""Runs on disk: ids, journals that survive a crash, evidence with its provenance."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from leptonami.errors import InputError
from leptonami.runs import Journal, Run, new_id, parse_id


def test_an_id_says_when_it_began() -> None:
    moment = datetime(2026, 11, 23, 21, 15, tzinfo=UTC)
    assert parse_id(new_id(moment)) == moment


@pytest.mark.parametrize(
    "bad",
    [
        *("", "x", "../../etc", "20261123-211500-a1b2c3; rm", "20261123-211500-A1B2C3", "20261123"),
        *("20261323-211500-a1b2c3", "20261123-216100-a1b2c3", "00000000-000000-000000"),
    ],
)
def test_ids_become_names_so_nothing_else_is_let_through(bad: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run id"):
        parse_id(bad)
    if bad:
        with pytest.raises(InputError):
            Run.create(tmp_path, bad)
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_used_once(tmp_path: Path) -> None:
    run = Run.create(tmp_path)
    run.journal.write("build")
    with pytest.raises(InputError, match="has been used"):
        Run.create(tmp_path, run.id)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(InputError, match="cannot make") as caught:
        Run.create(tmp_path / "runs")
    assert "--runs" in str(caught.value.hint)


def test_the_intent_is_on_disk_before_and_the_outcome_after(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    with journal.action("ec2.RunInstances", token="t") as outcome:
        (intent,) = journal.read()
        assert (intent["event"], intent["action"], intent["token"]) == ("intent", "ec2.RunInstances", "t")
        outcome["id"] = "i-1"
    assert journal.read()[1] | {"at": 0} == {"at": 0, "event": "done", "action": "ec2.RunInstances", "id": "i-1"}


def test_every_line_is_seen_onto_the_disk_and_so_are_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fsync: what only the kernel has is gone after a power cut."""
    run, synced, real = Run.create(tmp_path), [], os.fsync

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((path, path.read_text() if path.is_file() else ""))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with run.journal.action("ec2.RunInstances", where="here"):
        assert [path for path, _ in synced] == [run.journal.path, run.folder, tmp_path]
        assert '"intent"' in synced[0][1], "before the call is made"
    assert len(synced) == 4
    assert '"done"' in synced[3][1]
    run.write_manifest({"state": "running"})
    assert "running" in synced[4][1]
    assert synced[5][0] == run.folder


def test_a_failure_is_written_down(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    with pytest.raises(KeyboardInterrupt), journal.action("x"):
        raise KeyboardInterrupt
    assert [each["event"] for each in journal.read()] == ["intent", "failed"]


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.write("one")
    with journal.path.open("a") as file:
        file.write('{"event": "tw')
    assert [each["event"] for each in journal.read()] == ["one"]


@pytest.mark.parametrize("line", ["[" * 100_000, '{"at": ' + "9" * 5000 + "}", "\x00\x01", "null", '{"a": NaN'])
def test_a_line_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path, line: str) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.write("one")
    with journal.path.open("a") as file:
        file.write(line + "\n")
    journal.write("two")
    assert [each["event"] for each in journal.read()] == ["one", "two"]


def test_evidence_says_where_it_comes_from(tmp_path: Path) -> None:
    run = Run.create(tmp_path)
    path = run.write_evidence("x", kind="findings", provenance="simulated", source="s", payload=[1], raw=b"raw")
    document = json.loads(path.read_text())
    assert document["provenance"] == "simulated"
    assert document["sha256"] == hashlib.sha256(b"raw").hexdigest()
    assert (run.folder / "evidence" / "raw" / "x.txt").read_bytes() == b"raw"


def test_the_manifest_is_replaced_whole(tmp_path: Path) -> None:
    run = Run.create(tmp_path)
    run.write_manifest({"state": "running"})
    run.write_manifest({"state": "succeeded"})
    assert json.loads(run.manifest_path.read_text()) == {"state": "succeeded"}
    assert [each.name for each in run.folder.glob(".*")] == []
