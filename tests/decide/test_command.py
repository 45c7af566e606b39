"""`leptonami record` from outside: what it prints where, what it writes, and how it ends."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from decidehelp import RUN_ID, built, kept, removed, rewrite, run_with

from leptonami.cli import main

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Ended:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def leptonami(*words: object, cwd: Path = ROOT) -> Ended:
    """Run a command in this process: a new one takes a second to start."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(each) for each in words])
        except SystemExit as left:
            code = left.code
    assert isinstance(code, int)
    return Ended(code, out.getvalue(), err.getvalue())


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("NO_COLOR", "1")


def record(folder: Path, command: str, *words: object) -> Ended:
    return leptonami("record", command, *words, "--folder", folder, cwd=folder.parent)


NEW = ("--question", "gpu-nodes", "--as-of", "2026-11-25")


def finding(ok: bool = True) -> dict[str, Any]:
    claims = [{"claim": "image.x", "ok": ok, "statement": "x is there", "expected": "there", "observed": "there"}]
    return {"name": "contents", "kind": "findings", "payload": {"findings": claims}, "raw": b"what the script printed"}


def test_a_record_from_new_to_superseded(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    made = record(folder, "new", *NEW, "--title", "The first one", "--decision-maker", "Ada")
    assert (made.returncode, made.stdout.splitlines()[-1]) == (0, str(folder / "0001-the-first-one.html"))
    assert "Chosen option: Custom Ubuntu image on top of Ubuntu EKS, because" in made.stderr
    assert "recorded" in made.stderr
    again = record(folder, "new", *NEW, "--weight", "cost=6", "--title", "Cheaper", "--json")
    assert again.returncode == 0
    told = json.loads(again.stdout)
    assert (told["name"], told["chosen"], told["status"]) == ("0002-cheaper", "ubuntu-eks", "proposed")
    assert json.loads(record(folder, "list", "--json").stdout)[0]["chosen"] == "ubuntu-custom"
    compared = record(folder, "diff", "1", "2")
    assert compared.returncode == 0
    assert "moved from ubuntu-custom to ubuntu-eks; each of these alone moved it: the weights" in compared.stderr
    superseded = record(folder, "status", "1", "superseded", "--by", "2", "--on", "2026-11-26")
    assert superseded.returncode == 0
    assert "status: superseded by 0002-cheaper\n" in (folder / "0001-the-first-one.md").read_text()
    assert record(folder, "check", "1", "--as-of", "2035-01-01").returncode == 3
    later = json.loads(record(folder, "check", "--as-of", "2035-01-01", "--json").stdout)
    assert [each["holds"] for each in later] == [True, False]
    checked = record(folder, "check", "--as-of", "2026-11-26")
    assert (checked.returncode, checked.stdout) == (0, "")
    assert "0001-the-first-one: holds" in checked.stderr


def test_the_table_breaks_no_word_at_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = record(tmp_path / "records", "new", *NEW, "--dry-run").stdout
    for word in ("Bottlerocket", "Portability", "(AL2_GPU)", "Criterion", "contested", "chosen", "(×5,"):
        assert word in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    made = record(folder, "new", *NEW, "--dry-run", "--json")
    assert made.returncode == 0
    assert json.loads(made.stdout)["path"] is None
    assert not folder.exists()


def test_check_ends_with_3_and_says_what_changed(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    record(folder, "new", *NEW, "--title", "One")
    later = record(folder, "check", "1", "--as-of", "2031-01-01", "--json")
    assert later.returncode == 3
    (result,) = json.loads(later.stdout)
    assert result["holds"] is False
    assert {each["what"] for each in result["changes"]} == {"expired", "outcome"}
    path = folder / "0001-one.md"
    path.write_text(path.read_text().replace("because", "becausf", 1))
    altered = record(folder, "check", "--as-of", "2026-11-25")
    assert altered.returncode == 3
    assert "0001-one.md" in altered.stdout
    assert "its text was altered" in altered.stdout
    # Nothing is built on an altered record.
    for command in (("render", "1"), ("status", "1", "rejected")):
        refused = record(folder, *command)
        assert (refused.returncode, refused.stdout) == (3, "")
        assert "its text was altered" in refused.stderr


def test_evidence_of_a_run_counts_and_its_alteration_is_found(tmp_path: Path) -> None:
    folder, runs = tmp_path / "records", tmp_path / "runs"
    run_with(runs, finding(), manifest=built("24.04", "1.35"))
    made = record(folder, "new", *NEW, "--title", "One", "--run", RUN_ID, "--json")
    told = json.loads(made.stdout)
    assert (made.returncode, told["claims"]["ubuntu-custom.cached-images"]) == (0, "supported")
    assert record(folder, "check", "--as-of", "2026-11-25").returncode == 0
    raw = runs / RUN_ID / "evidence" / "raw" / "contents.txt"
    raw.write_bytes(raw.read_bytes().replace(b"what", b"whut"))
    checked = record(folder, "check", "--as-of", "2026-11-25", "--json")
    assert checked.returncode == 3
    assert "digest differs" in checked.stdout
    refused = record(folder, "new", *NEW, "--title", "Two", "--run", RUN_ID)
    assert refused.returncode == 3
    assert "its raw input is not what it was" in refused.stderr
    assert not (folder / "0002-two.json").exists()


def test_a_build_of_the_lab_is_simulated_and_cannot_be_accepted_alone(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    run_with(tmp_path / "runs", {**finding(), "provenance": "simulated"}, manifest=built("24.04", "1.35"))
    made = record(folder, "new", *NEW, "--title", "One", "--run", RUN_ID, "--json")
    assert json.loads(made.stdout)["provenance"] == "simulated"
    page = (folder / "0001-one.html").read_text()
    assert "<title>Simulated: One</title>" in page
    # The autoscaler's recordings speak for the chosen option as well: it is not simulation alone.
    assert record(folder, "status", "1", "accepted").returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("new", "--question", "gpu-node"), "there is no question"),
        (("new", *NEW, "--weight", "cost"), "not a weight"),
        (("new", *NEW, "--weight", "beauty=1"), "there is no criterion"),
        (("new", "--as-of", "tomorrow"), "not a day"),
        (("new", *NEW, "--status", "agreed"), "no such status"),
        (("new", *NEW, "--options", "nothing.yaml"), "there is no such options file"),
        (("new", *NEW, "--criteria", "nothing.yaml"), "there is no such criteria file"),
        (("new", *NEW, "--run", "../../etc"), "not a run id"),
        (("new", *NEW, "--observed", "al2024"), "there is no option"),
        (("check",), "there is no record"),
        (("check", "7"), "there is no record"),
        (("render", "7"), "there is no record"),
        (("diff", "1", "2"), "there is no record"),
        (("status", "7", "accepted"), "there is no record"),
    ],
)
def test_what_is_wrong_is_said_with_the_way_out(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    result = record(tmp_path / "records", *words)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
    assert "what to do:" in result.stderr or "nothing.yaml" in words
    assert "Traceback" not in result.stderr


def test_a_missing_run_is_no_evidence(tmp_path: Path) -> None:
    result = record(tmp_path / "records", "new", *NEW, "--run", "20200101-000000-000000")
    assert (result.returncode, "its folder is missing" in result.stderr) == (3, True)


def test_measured_evidence_turns_the_outcome_over(tmp_path: Path) -> None:
    """The operator was seen to work on Amazon Linux 2023, and nodes of our image to be kept: AL2023 is in again."""
    folder, runs = tmp_path / "records", tmp_path / "runs"
    record(folder, "new", *NEW, "--title", "Before")
    listing = (ROOT / "data/recorded/original/gpu-operator-get-all.txt").read_bytes()
    versions = {"os": "2023", "kubernetes": "1.35"}
    run_with(
        runs,
        {
            "name": "operator",
            "kind": "gpu-operator-listing",
            "payload": {"option": "al2023-nvidia", "versions": versions},
            "raw": listing,
        },
        {"name": "ours", "payload": {"option": "ubuntu-custom"}, "raw": kept("n-1")},
        {"name": "theirs", "payload": {"option": "al2023-nvidia", "versions": versions}, "raw": removed("n-2")},
    )
    after = record(folder, "new", *NEW, "--title", "After", "--run", RUN_ID, "--json")
    told = json.loads(after.stdout)
    by_option = {each["option"]: each for each in told["decision"]["options"]}
    assert by_option["al2023-nvidia"]["musts"]["gpu-operator"] == "contested"
    assert told["claims"]["ubuntu-custom.scales-down"] == "contested"
    found = json.loads(record(folder, "diff", "1", "2", "--json").stdout)
    changed = {each["id"]: each for each in found["claims"]}
    assert set(changed) == {"al2023-nvidia.operands-come-up", "ubuntu-custom.scales-down"}
    assert changed["ubuntu-custom.scales-down"]["evidence_came"] == [f"{RUN_ID}/ours"]


def test_evidence_that_a_run_describes_otherwise_is_found(tmp_path: Path) -> None:
    folder, runs = tmp_path / "records", tmp_path / "runs"
    run = run_with(runs, finding(), manifest=built("24.04", "1.35"))
    record(folder, "new", *NEW, "--title", "One", "--run", RUN_ID)
    rewrite(run.folder / "evidence" / "contents.json", source="somewhere else")
    assert record(folder, "check", "--as-of", "2026-11-25").returncode == 3


def test_help_names_every_command() -> None:
    shown = leptonami("record", "--help").stdout
    assert all(word in shown for word in ("new", "check", "render", "list", "diff", "status"))
