"""The files that a team edits: options and criteria. What is wrong in them is said, with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from decidehelp import criteria, options

from leptonami.decide import criteria as criteria_files
from leptonami.decide import options as options_files
from leptonami.decide.criteria import parse_weights
from leptonami.decide.options import Options
from leptonami.errors import InputError

SHIPPED = Path(__file__).parent.parent.parent / "data"


def test_the_shipped_files_fit_together() -> None:
    known, counted = options_files.load(), criteria_files.load()
    counted.fitting(known)
    assert [each.id for each in counted.criteria if each.must] == ["gpu-operator", "autoscaler"]
    for option in known.options:
        # Somebody who compares needs something on every criterion, for and against.
        bearing = {claim.criterion for claim in option.claims}
        assert bearing == {each.id for each in counted.criteria}, option.id
        assert {claim.side for claim in option.claims} == {"pro", "con"}, option.id
        for must in ("gpu-operator", "autoscaler"):
            assert any(claim.decides for claim in option.claims if claim.criterion == must), option.id


def test_options_are_the_same_from_their_own_data() -> None:
    known = options_files.load()
    again = Options.model_validate_json(__import__("json").dumps(known.as_dict()))
    assert again == known
    assert again.digest == known.digest


def edited(tmp_path: Path, name: str, old: str, new: str) -> Path:
    text = (SHIPPED / name).read_text()
    assert old in text
    path = tmp_path / name
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("side: pro", "side: maybe", "'maybe' is not allowed"),
        ("id: al2.any-workload", "id: al2.maintained-by-eks", "a second claim 'al2.maintained-by-eks'"),
        ("id: al2.any-workload", "id: al3.any-workload", "a claim's id begins with its option's"),
        ("id: al2.any-workload", "id: Any Workload", "not a claim's id"),
        ("family: al2-gpu", "family: al3", "no such family: 'al3'"),
        ("name: driver-image", "name: driver-images", "there is no check 'driver-images'"),
        ("expect: missing", "expect: gone", "driver-image cannot expect 'gone'"),
        ("branch: validator-pods", "branch: validators", "there is no branch 'validators'"),
        ("evidence: [autoscaler/broken-toolkit]", "evidence: [autoscaler/nothing]", "there is no recording"),
        ('al2-gpu: "2", ubuntu-eks: "20.04"', 'ubuntu-eks: "20.04"', "names no version of al2-gpu"),
        ('ubuntu-eks: "20.04"', 'ubuntu-eks: "19.04"', "the catalog has no ubuntu-eks 19.04"),
        ("options: [al2,", "options: [al9,", "there is no option 'al9'"),
        ("to: al2\n", "to: al9\n", "there is no option 'al9'"),
        ('versions: {kubernetes: "1.26", ', "versions: {", "names no version of kubernetes"),
        ('kubernetes: "1.26"', "kubernetes: 1.26", "text is wanted"),
        ('["1.21", "1.32"]', '["1.32", "1.21"]', "1.32 comes after 1.21"),
        ("sources: [original decision document]", "sources: [http://insecure.example/]", "not a source"),
        ("sources: [original decision document]", 'sources: ["https://x.example/a b"]', "not a source"),
        ("sources: [original decision document]", 'sources: ["https://x.example/<script>"]', "not a source"),
        ("sources: [original decision document]", "sources: []", "empty"),
        ("date: 2023-06-24", "date: 2023-06-31", "not a date"),
        ("schema: 1", "schema: 2", "2 is not allowed"),
        ("read: 2026-11-25", "red: 2026-11-25", "unknown key 'red'"),
        ("shelf_life: 365", "shelf_life: 0", "too small"),
        ("id: gpu-nodes\n", "id: gpu-nodes-2023\n", "two questions have the same id"),
    ],
)
def test_a_mistake_in_the_options_names_its_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = edited(tmp_path, "options.yaml", old, new)
    with pytest.raises(InputError) as caught:
        options_files.load(path)
    assert words in str(caught.value)
    assert f"{path}:" in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("weight: 5", "weight: -1", "not a weight"),
        ("weight: 5", "weight: 1001", "not a weight"),
        ("weight: 5", "weight: five", "five"),
        ("untested: 0.5", "untested: 2", "too large"),
        ("id: autoscaler", "id: gpu-operator", "two criteria have the same id"),
    ],
)
def test_a_mistake_in_the_criteria_is_said(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        criteria_files.load(edited(tmp_path, "criteria.yaml", old, new))


def test_a_claim_on_a_criterion_that_there_is_not_is_refused() -> None:
    known = options([{"id": "one.a", "criterion": "beauty"}])
    with pytest.raises(InputError, match="'beauty'"):
        criteria().fitting(known)


def test_weights_can_be_changed_one_by_one() -> None:
    made = criteria(works=1, other=2).with_weights(parse_weights(["works=0.25"]))
    assert [each.weight for each in made.criteria] == [0.25, 2.0]


@pytest.mark.parametrize("word", ["works", "works=", "works=many", "=1x", ""])
def test_what_is_no_weight_is_refused(word: str) -> None:
    with pytest.raises(InputError, match="not a weight"):
        parse_weights([word])


@pytest.mark.parametrize(
    "weights", [{"beauty": 1.0}, {"works": float("nan")}, {"works": -1.0}, {"works": float("inf")}]
)
def test_an_impossible_weight_is_refused(weights: dict[str, float]) -> None:
    with pytest.raises(InputError):
        criteria().with_weights(weights)


def test_an_unknown_question_names_those_that_there_are() -> None:
    with pytest.raises(InputError) as caught:
        options_files.load().question("gpu-node")
    assert "did you mean gpu-nodes" in str(caught.value.hint)
