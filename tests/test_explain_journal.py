"""`leptonami explain node-journal`: one journal, a folder of them, and what is none. The samples are synthetic."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from leptonami import datafiles
from leptonami.cli import cli, main
from leptonami.errors import InputError
from leptonami.explain.journal import explain

SAMPLES = Path(__file__).parent / "readers" / "samples"


def run(*arguments: object, input: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["explain", "node-journal", *map(str, arguments)], input=input)


def words(text: str) -> str:
    return " ".join(text.split())


def test_a_node_that_came_up() -> None:
    result = run(SAMPLES / "journal-al2023.json")
    told = words(result.stdout)
    assert result.exit_code == 0
    assert "came up: registered 23.9 s, ready 32.9 s after the kernel started" in told
    assert "Provenance: recorded" in told
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("name", "issue"), [("journal-ubuntu-snap-race.log", "K29"), ("journal-al2023-al2-user-data.log", "K30")]
)
def test_a_node_that_did_not_come_up_ends_with_3_and_the_known_issue(name: str, issue: str) -> None:
    result = run(SAMPLES / name)
    told = words(result.stdout)
    assert result.exit_code == 3
    assert "did not come up" in told and f"Known issue {issue}" in told and "What to do" in told
    document = json.loads(run(SAMPLES / name, "--json").stdout)
    assert document["wrong"] and document["nodes"][0]["proofs"]


def test_a_folder_is_many_nodes_what_is_wrong_first() -> None:
    result = run(SAMPLES)
    told = words(result.stdout)
    assert result.exit_code == 3
    assert "5 of 8 nodes came up." in told
    rows = [row[1] for row in explain(str(SAMPLES)).rows()]
    assert [each.partition(" (")[0] for each in rows][-5:] == ["ready"] * 5


def test_rotated_files_of_one_node_are_one_journal(tmp_path: Path) -> None:
    lines = (SAMPLES / "journal-al2-messages.log").read_bytes().splitlines(keepends=True)
    (tmp_path / "messages-20230625").write_bytes(b"".join(lines[:30]))
    (tmp_path / "messages").write_bytes(b"".join(lines[30:]))
    found = explain(str(tmp_path))
    assert len(found.verdicts) == 1 and found.verdicts[0].ok
    assert found.verdicts[0].journal.lines == len(lines)


def test_what_is_no_journal_in_a_folder_is_left_out_and_told(tmp_path: Path) -> None:
    shutil.copy(SAMPLES / "journal-al2023.json", tmp_path)
    shutil.copy(datafiles.path("recorded/original/device-plugin.log"), tmp_path)
    result = run(tmp_path)
    assert result.exit_code == 0
    assert "left out" in result.stderr and "the log of a device plugin" in result.stderr


def test_standard_input_a_given_year_and_a_given_system() -> None:
    content = (SAMPLES / "journal-al2-messages.log").read_bytes()
    document = json.loads(run("-", "--year", "2019", "--os", "al2023", "--json", input=content).stdout)
    node = document["nodes"][0]
    assert node["family"] == "al2023"
    assert all(each["at"].startswith("2019-") for each in node["stages"] if each["at"])


def test_a_boot_that_is_not_there() -> None:
    with pytest.raises(InputError, match="no boot 7"):
        explain(str(SAMPLES / "journal-al2023.json"), boot=7)


@pytest.mark.parametrize(
    ("path", "says", "hint"),
    [
        ("recorded/original/cluster-autoscaler.log", "the log of an autoscaler", "leptonami explain autoscaler"),
        ("recorded/original", "no journal of a node", "journalctl"),
    ],
)
def test_another_kind_of_file(capsys: pytest.CaptureFixture[str], path: str, says: str, hint: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["explain", "node-journal", str(datafiles.path(path))])
    told = capsys.readouterr()
    assert (caught.value.code, told.out) == (2, "")
    assert says in told.err and hint in told.err


def test_a_journal_cannot_drive_the_terminal() -> None:
    content = (SAMPLES / "journal-ubuntu-snap-race.log").read_bytes()
    evil = content.replace(b"kubelet-eks", b"kubelet-\x1b[2J\x07eks").replace(b"ip-192-0-2-90", b"ip-\x1b]0;x\x07-90")
    result = run("-", input=evil)
    assert "\x1b" not in result.output and "\x07" not in result.output
