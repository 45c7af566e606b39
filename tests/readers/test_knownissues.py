"""The catalogue of known issues: whole, consistent, and found in any text. All log lines here are synthetic."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami import datafiles
from leptonami.errors import InputError, LeptonamiError
from leptonami.readers import issuesearch
from leptonami.readers.issuesearch import KEPT
from leptonami.readers.knownissues import KINDS, NOT_AFFECTED, Affected, Issue, catalogue, load, match

ISSUES = {each.id: each for each in catalogue()}
STATES = {"K23", "K35"}  # no line of any log says these


def ids(text: Any, **options: Any) -> list[str]:
    return [each.issue.id for each in match(text, **options)]


def test_all_thirty_seven_are_there() -> None:
    assert list(ISSUES) == [f"K{number:02}" for number in range(1, 38)]
    assert {each.id for each in catalogue() if not each.symptoms} == STATES
    assert all(each.signs for each in catalogue() if not each.symptoms)


@pytest.mark.parametrize("issue", [each for each in catalogue() if each.symptoms], ids=lambda each: each.id)
def test_an_entry_matches_its_examples_and_nobody_elses(issue: Issue) -> None:
    assert len(issue.examples) >= 2
    assert issue.near_misses
    for example in issue.examples:
        assert issue.id in ids(example), example
        others = set(ids(example)) - {issue.id}
        assert others <= {each.id for each in catalogue() if issue.id in each.overlaps}, example
    for text in issue.near_misses:
        assert issue.id not in ids(text), text


@pytest.mark.parametrize("issue", [each for each in catalogue() if each.symptoms], ids=lambda each: each.id)
def test_each_symptom_is_needed_by_an_example(issue: Issue) -> None:
    for symptom in issue.symptoms:
        lines = [line for example in issue.examples for line in example.splitlines()]
        # nouveau has three ways to show, and two examples
        if issue.id == "K13" and "MSI-X" in symptom.pattern:
            lines.append("kernel: NVRM: Failed to enable MSI-X.")
        assert any(symptom.compiled.regex.search(line) for line in lines), symptom.pattern


def test_the_matched_line_is_the_proof() -> None:
    text = "nothing\r\nDriver/library version mismatch\x1b[31m\r\n\nDriver/library version mismatch"
    [found] = match(text, source="dmesg")
    assert found.issue.id == "K17"
    assert found.count == 2
    assert [str(each) for each in found.proofs] == [
        "dmesg, line 2: Driver/library version mismatch\N{REPLACEMENT CHARACTER}[31m",
        "dmesg, line 4: Driver/library version mismatch",
    ]
    assert match(text.split("\n"), source="dmesg") == [found]
    assert found.as_dict()["proofs"][1]["place"] == "line 4"


def test_many_lines_are_counted_and_few_kept() -> None:
    lines = ["No devices were found" if number % 3 == 0 else "x" * 50 for number in range(100_000)]
    for text in (lines, "\n".join(lines)):
        [found] = match(text)
        assert found.count == 33_334
        assert [each.place for each in found.proofs] == [f"line {1 + 3 * number}" for number in range(KEPT)]


def test_lines_are_numbered_through_all_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuesearch, "CHUNK", 40)
    lines = ["quiet"] * 50
    lines[7] = lines[31] = "infoROM is corrupted"
    for text in (lines, "\n".join(lines)):
        [found] = match(text)
        assert [each.place for each in found.proofs] == ["line 8", "line 32"]


def test_one_issue_counts_a_line_once() -> None:
    [found] = match("Incompatible platform detected; No devices found. Waiting indefinitely.")
    assert (found.issue.id, found.count) == ("K16", 1)


def test_a_symptom_may_need_several_lines() -> None:
    lines = ISSUES["K05"].examples[0].splitlines()
    assert ids(lines) == ["K05"]
    assert ids(lines[1:]) == []  # two operands are not three
    assert ids(lines[:3]) == []  # and no validator


def test_the_kind_of_the_text_narrows_what_is_looked_for() -> None:
    text = "Cluster is not ready for autoscaling\ninfoROM is corrupted"
    assert ids(text) == ["K08", "K32"]
    assert ids(text, kind="autoscaler-log") == ["K08", "K32"]  # a broken GPU shows anywhere
    assert ids(text, kind="device-plugin-log") == ["K08"]
    with pytest.raises(InputError, match="no kind of text"):
        match(text, kind="any")
    assert "any" not in KINDS


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("v1.8.0", False),
        ("v1.8.1", True),
        ("23.3.2", True),
        ("v25.10.7", True),
        ("v26.3.0", False),
        ("v25.10.0-eks-a1b2c3", True),
        ("unknown", None),
        ("", None),
    ],
)
def test_versions_outside_are_marked(version: str, expected: bool | None) -> None:
    [found] = match(ISSUES["K34"].examples[0], versions={"gpu-operator": version, "cluster-autoscaler": "1.27.1"})
    assert found.affected is expected
    assert (found.note == NOT_AFFECTED) is (expected is False)


def test_an_inference_says_so() -> None:
    [found] = match(ISSUES["K33"].examples[0])
    assert "inference" in found.note
    assert found.affected is None


def test_half_a_range() -> None:
    assert Affected(component="x", last="1.34").has("1.34.9") is True
    assert Affected(component="x", last="1.34").has("1.35.0") is False
    assert Affected(component="x", first="2").has("1.9") is False
    assert Affected(component="x").has("7") is True


def test_a_long_line_is_searched_in_parts_and_whole() -> None:
    symptom = "nvidia-container-cli: libnvidia-ml.so.1: cannot open shared object file"
    for before in (0, 1, 8_100, 8_191, 8_192, 20_000, 300_000):
        assert ids("a" * before + " " + symptom + " " + "b" * 300_000) == ["K27"], before
    # The fixed text that is looked for stands at the end of the match.
    assert ids("x" * 20_000 + "nvidia.com/gpu.deploy.driver=paused-for-driver-upgrade" + "y" * 20_000) == ["K21"]
    # The literal without the rest first, and the whole near where the first part ends.
    for gap in range(8_050, 8_350, 3):
        line = "Xid (PCI:" + "." * gap + "Xid (PCI:0000:00:1e): 79, pid=1" + "." * 20_000
        assert ids(line) == ["K09"], gap
    # The literal again and again, and the whole only at the end.
    assert ids("Xid (PCI:" * 5_000 + "0000:00:1e): 79, pid=1") == ["K09"]
    assert ids("Xid (PCI:" * 5_000 + "0000:00:1e): 791, pid=1") == []


@pytest.mark.parametrize("issue", [each for each in catalogue() if each.symptoms], ids=lambda each: each.id)
def test_time_is_proportional_to_the_text(issue: Issue) -> None:
    """Half of each example over and over, on one line: what makes a pattern try again and again."""
    for example in issue.examples:
        line = example.splitlines()[0]
        for text in (
            line[: len(line) * 3 // 4],
            line[:-1],
            *(each for s in issue.symptoms for each in s.compiled.literals),
        ):
            one = (text + " ") * (500_000 // (len(text) + 1))
            started = time.process_time()
            match(one, issues=[issue])
            assert time.process_time() - started < 2, text


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=80),
            st.binary(max_size=80).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
            st.sampled_from([line for each in catalogue() for text in each.examples for line in text.splitlines()]),
        ),
        max_size=12,
    ),
    st.integers(1, 200),
)
def test_the_engine_finds_what_the_patterns_find(lines: list[str], chunk: int) -> None:
    """The fast way gives what trying every pattern on every line gives."""
    lines = [each.replace("\n", " ") for each in lines]
    expected = {}
    for issue in catalogue():
        hits = [[n for n, line in enumerate(lines, 1) if s.compiled.regex.search(line)] for s in issue.symptoms]
        met = [len(each) >= s.at_least for each, s in zip(hits, issue.symptoms, strict=True)]
        if met and (all(met) if issue.need == "all" else any(met)):
            expected[issue.id] = sorted({n for each in hits for n in each})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(issuesearch, "CHUNK", chunk)
        for text in (lines, "\n".join(lines)):
            found = match(text)
            assert {each.issue.id: each.count for each in found} == {key: len(value) for key, value in expected.items()}
            for each in found:
                assert [int(p.place.removeprefix("line ")) for p in each.proofs] == expected[each.issue.id][:KEPT]


ENTRY = """\
schema: 1
source: synthetic
issues:
  - id: TEAM01
    title: ours
    where: [node-journal]
    symptoms:
      - pattern: '{pattern}'
    cause: a cause
    remedy: a remedy
    sources: [docs]
    certainty: reported
    examples: ['{example}']
"""


def own(folder: Path, pattern: str = "our own [a-z]{1,9} message", example: str = "our own little message") -> Path:
    path = folder / "mine.yaml"
    path.write_text(ENTRY.format(pattern=pattern, example=example))
    return path


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    issues = load(own(tmp_path))
    assert ids("a line\nour own little message", issues=issues) == ["TEAM01"]


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(a+)+ our own", "no bound"),
        ("our own" * 60, "420 characters"),
        ("our own(", "parenthesis"),
        ("[a-z]{1,9}", "fixed text"),
    ],
)
def test_a_bad_pattern_names_its_line_and_field(tmp_path: Path, pattern: str, why: str) -> None:
    path = own(tmp_path, pattern)
    with pytest.raises(InputError) as error:
        load(path)
    assert why in error.value.message
    assert error.value.resource == f"{path}:8 issues[0].symptoms[0].pattern"
    assert error.value.hint or "parenthesis" in why


@pytest.mark.parametrize(
    ("old", "new", "line", "why"),
    [
        ("['our own little message']", "['something else']", 13, "does not match its own example"),
        (
            "    certainty: reported",
            "    near_misses: ['our own big message']\n    certainty: reported",
            12,
            "near miss",
        ),
        ("certainty: reported", "certainty: certain", 12, "not allowed"),
        ("where: [node-journal]", "where: [moon]", 6, "not allowed"),
        ("    cause: a cause\n", "", 4, "missing"),
        ("sources: [docs]", "sources: ['http://example']", 11, "not a source"),
        ("id: TEAM01", "id: team 1", 4, "not the id"),
        ("    symptoms:\n      - pattern: 'our own [a-z]{1,9} message'\n", "", 4, "neither symptoms nor signs"),
        ("    certainty: reported", "    certainty: reported\n    overlaps: [K99]", 13, "no K99"),
        ("    certainty: reported", "    certainty: reported\n    colour: red", 13, "unknown key"),
        ("sources: [docs]", "sources: [docs]\n    affected: {component: x, last: 1.30}", 12, "text"),
    ],
)
def test_mistakes_in_a_file_name_their_line(tmp_path: Path, old: str, new: str, line: int, why: str) -> None:
    path = own(tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(LeptonamiError) as error:
        load(path)
    assert why in str(error.value), str(error.value)
    assert f"{path}:{line}" in str(error.value), str(error.value)


def test_an_id_may_be_there_once(tmp_path: Path) -> None:
    path = own(tmp_path)
    text = path.read_text()
    path.write_text(text + text[text.index("  - id") :])
    with pytest.raises(InputError, match="twice"):
        load(path)


def test_the_recorded_autoscaler_shows_the_validator_pod() -> None:
    """Modelled on the recording of the broken toolkit, whose wording is that of cluster-autoscaler 1.30.7."""
    pod = "gpu-operator/nvidia-cuda-validator-gznqd"
    line = f"I1123 16:49:59.974014 1 cluster.go:160] node gpu-a cannot be removed: {pod} is not replicated"
    assert ids(line, kind="autoscaler-log") == ["K33"]


def test_no_account_and_no_private_address_in_the_data() -> None:
    text = Path(datafiles.path("known-issues.yaml")).read_text()
    assert not re.search(r"\b\d{12}\b", text)
    assert not re.search(r"\b(?:10|172\.(?:1[6-9]|2\d|3[01])|192\.168)\.\d{1,3}\.\d{1,3}", text)
