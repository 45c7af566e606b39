"""Record 0001: what is in docs/records is what its command gives today, and a reader finds in it what he asks."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import html5lib
import pytest
from bs4 import BeautifulSoup
from click.testing import CliRunner

from leptonami import catalog, datafiles, recordings
from leptonami.cli import cli
from leptonami.decide import store, verify
from leptonami.decide.study import as_day

ROOT = Path(__file__).parent.parent.parent
RECORDS = ROOT / "docs" / "records"
NAME = "0001-node-group-ami"
AGAIN = "remove the three files of 0001, run the command at the end of docs/decide.md, and look at what differs"


def command() -> list[str]:
    """Read the command that wrote it from the page that names it, so that the two cannot drift apart."""
    text = (ROOT / "docs" / "decide.md").read_text()
    (found,) = re.findall(r"^leptonami (record new --question gpu-nodes-2023 .*?)\n```", text, re.DOTALL | re.MULTILINE)
    return shlex.split(found.replace("\\\n", " "))


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    result = CliRunner().invoke(cli, [*command(), "--folder", str(folder)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return folder


def test_its_text_is_what_its_command_gives(again: Path) -> None:
    assert (again / f"{NAME}.md").read_text() == (RECORDS / f"{NAME}.md").read_text(), AGAIN


def test_its_value_is_what_its_command_gives(again: Path) -> None:
    def value(folder: Path) -> dict[str, Any]:
        content = json.loads((folder / f"{NAME}.json").read_text())
        del content["page_sha256"]  # that of the page, which the template makes
        return content

    assert value(again) == value(RECORDS), AGAIN


def test_its_page_is_what_its_command_gives(again: Path) -> None:
    def page(folder: Path) -> str:
        # The figure's pixels may differ with the fonts' library; what it says is in its description.
        return re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "PNG", (folder / f"{NAME}.html").read_text())

    assert page(again) == page(RECORDS), "leptonami record render 1"


def test_it_holds() -> None:
    found = verify.check(RECORDS / f"{NAME}.json", runs=None, day=as_day("2026-11-25"))
    assert found.changes == ()


@pytest.mark.parametrize("name", ["original/device-plugin.log", "autoscaler/healthy/cluster-autoscaler.log.gz"])
def test_one_altered_byte_of_a_recording_is_found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    shutil.copytree(ROOT / "data", data)
    path = data / "recorded" / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(bytes(raw))
    monkeypatch.setattr(datafiles, "root", lambda: data)
    recordings.recordings.cache_clear()
    try:
        found = verify.check(RECORDS / f"{NAME}.json", runs=None, day=as_day("2026-11-25"))
    finally:
        recordings.recordings.cache_clear()
    said = [(each.what, each.where) for each in found.changes]
    assert ("evidence", name) in said
    assert any(each.what == "evidence" and name.rpartition("/")[2] in each.text for each in found.changes)


def test_an_altered_table_of_facts_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    shutil.copytree(ROOT / "data", data)
    path = data / "catalog.yaml"
    text = path.read_text()
    path.write_text(text.replace("ends: 2026-06-30", "ends: 2022-06-30"))
    monkeypatch.setattr(datafiles, "root", lambda: data)
    catalog.load.cache_clear()
    try:
        found = verify.check(RECORDS / f"{NAME}.json", runs=None, day=as_day("2026-11-25"))
    finally:
        catalog.load.cache_clear()
    said = [(each.what, each.where) for each in found.changes]
    assert ("evidence", "facts/catalog/al2-gpu-2-k8s-1.26") in said
    assert ("claim", "al2.alive") in said


def test_a_reader_finds_what_he_asks() -> None:
    page = (RECORDS / f"{NAME}.html").read_text()
    html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)
    soup = BeautifulSoup(page, "html.parser")
    text = " ".join(soup.get_text(" ").split())
    assert len(soup.find_all("h1")) == 1
    headings = [each.get_text() for each in soup.find_all("h2")]
    assert headings[:5] == [
        "Context and Problem Statement",
        "Decision Drivers",
        "Considered Options",
        "Decision Outcome",
        "Pros and Cons of the Options",
    ]
    assert {"Evidence", "Sensitivity", "Fallback Conditions", "More Information"} <= set(headings)
    assert "Chosen option: Custom Ubuntu image on top of Ubuntu EKS, because" in text  # which, and why
    assert "fails the must-have" in text
    assert "contested" in text
    assert "Higher weight turns it over" in text  # what would change it
    assert "leptonami record check 0001" in text  # how to check
    assert "runbooks/fall-back-to-amazon-linux.md" in text  # how to go back
    assert (ROOT / "runbooks" / "fall-back-to-amazon-linux.md").is_file()
    assert soup.find("p", class_="provenance").get_text().startswith("Recorded.")
    for image in soup.find_all("img"):
        assert len(image["alt"]) > 80
    for table in soup.find_all("table"):
        assert table.find("caption") or table.find_parent("header")
        assert all(cell.get("scope") for cell in table.find_all("th"))
    assert len(page) < 1_500_000


def test_every_command_that_it_names_is_one_of_ours() -> None:
    text = (RECORDS / f"{NAME}.md").read_text()
    found = re.findall(r"^leptonami .*$", text, re.MULTILINE)
    assert len(found) > 10
    for line in found:
        words = shlex.split(line)[1:]
        if words[0] in ("explain", "catalog"):
            result = CliRunner().invoke(cli, words)
            # 3: it read the evidence, and found something wrong in it.
            assert result.exit_code in (0, 3), f"{line}: {result.output}"


def test_every_number_in_it_has_its_provenance() -> None:
    record = store.read(RECORDS / f"{NAME}.json")
    assert record.body.provenance == "recorded"
    text = (RECORDS / f"{NAME}.md").read_text()
    for line in text.splitlines():
        if re.search(r"\*\*(supported|refuted|contested)\*\*", line) and "|" not in line:
            assert "recorded" in line, line
