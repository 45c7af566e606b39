"""The pipeline's file: everything that is wrong with it is told before anything runs, with line and way out."""

from __future__ import annotations

from pathlib import Path

import pytest
import sample_notebooks as notebooks

from leptonami.errors import InputError
from leptonami.pipeline.definition import Pipeline, load
from leptonami.pipeline.prepare import Assignments, Limits, assign, find_step, prepare, split

ROOT = Path(__file__).parent.parent

PARAMETERS = 'kubernetes: str = "1.33"  # the version\ntrials: int = 3\nmap: dict[str, str] = {}\nrun_id: str = ""'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three notebooks: a and b declare parameters, c none."""
    for name in ("10_a", "20_b"):
        cell = notebooks.code(PARAMETERS, "parameters")
        notebooks.write(tmp_path / f"{name}.ipynb", notebooks.text(f"# Title of {name} <b>"), cell)
    notebooks.write(tmp_path / "30_c.ipynb", "1")
    return tmp_path


def read(folder: Path, text: str) -> Pipeline:
    path = folder / "pipeline.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path)


GOOD = """schema: 1
notebooks:
  - notebook: 30_c
    for: comes last
    needs: [20_b]
  - notebook: 10_a
    for: begins
    parameters: {kubernetes: "1.30", trials: 5}
    timeout: 30m
    cell_timeout: 90s
    grace: 10s
  - notebook: 20_b
    for: goes on
    needs: [10_a]
"""


def test_a_good_file(folder: Path) -> None:
    pipeline = read(folder, GOOD)
    assert [step.name for step in pipeline.steps] == ["10_a", "20_b", "30_c"]
    first = pipeline.step("10_a")
    assert dict(first.values) == {"kubernetes": "1.30", "trials": 5}
    assert (first.timeout, first.cell_timeout, first.grace) == (1800, 90, 10)
    assert first.title == "Title of 10_a <b>"
    assert (pipeline.step("30_c").title, pipeline.step("30_c").grace) == ("30_c", 300)
    assert pipeline.needs == {"10_a": (), "20_b": ("10_a",), "30_c": ("20_b",)}


A = "schema: 1\nnotebooks:\n  - notebook: 10_a\n    for: x\n"
B = "  - notebook: 20_b\n    for: y\n"

# What is wrong, what is said, in which line, and what of the way out.
BAD = [
    (A + "    nees: [20_b]\n" + B, "unknown key 'nees'", 5, "did you mean needs"),
    (A + "  - notebook: 40_gone\n    for: z\n", "there is no notebook 40_gone.ipynb beside this file", 5, ""),
    (A + "  - notebook: 10_aa\n    for: z\n", "there is no notebook 10_aa.ipynb", 5, "did you mean 10_a.ipynb"),
    (A + "    needs: [30_x]\n" + B, "no notebook '30_x' is named", 5, "10_a, 20_b"),
    (A + "    needs: [20_c]\n" + B, "no notebook '20_c' is named", 5, "did you mean 20_b"),
    (A + "    needs: [10_a]\n", "10_a needs itself", 5, "remove it"),
    (A + "    needs: [20_b, 20_b]\n" + B, "20_b stands twice", 5, "once"),
    (A + "    needs: [20_b]\n" + B + "    needs: [10_a]\n", "a circle: 10_a needs 20_b needs 10_a", 5, "must not need"),
    (A + "  - notebook: 10_a\n    for: z\n", "10_a is already on line 3", 5, "remove one"),
    (A + "    parameters: {nope: 1}\n", "10_a.ipynb: there is no parameter 'nope'", 5, "kubernetes"),
    (A + "    parameters: {kubernetes: 1.30}\n", "is not str", 5, 'put quotes around it: "1.30"'),
    (A + "    parameters:\n      trials: many\n", "is not int", 6, ""),
    (A + "    parameters: {run_id: x}\n", "run_id is the run's own", 5, "fills it in"),
    (A + "    timeout: 30\n", "30 has no unit", 5, "30m"),
    (A + "    timeout: soon\n", "not a duration", 5, "90s"),
    ("schema: 1\nnotebooks:\n  - notebook: 10_a\n", "missing key 'for'", 3, ""),
    ("schema: 1\nnotebooks:\n  - notebook: ../10_a\n    for: x\n", "not the name of a notebook", 3, "without .ipynb"),
    ("schema: 1\nnotebooks:\n  - notebook: 10_a.ipynb\n    for: x\n", "not the name of a notebook", 3, "without"),
    ("schema: 1\nnotebooks: []\n", "empty, where at least one is needed", 2, ""),
    ("schema: 2\nnotebooks:\n  - notebook: 10_a\n    for: x\n", "2 is not allowed", 1, "it must be 1"),
    ("- 10_a\n", "the file must be a mapping", 1, ""),
    ("schema: 1\nnotebooks: 3\n", "where a list is wanted", 2, ""),
]


@pytest.mark.parametrize(("text", "said", "line", "hint"), BAD, ids=[row[1][:40] for row in BAD])
def test_a_bad_file_is_refused_with_its_line_and_the_way_out(
    folder: Path, text: str, said: str, line: int, hint: str
) -> None:
    with pytest.raises(InputError) as caught:
        read(folder, text)
    assert said in caught.value.message
    assert caught.value.resource is not None
    assert f"pipeline.yaml:{line}" in caught.value.resource
    assert hint in str(caught.value.hint or "")
    assert caught.value.exit_code == 2


def test_everything_that_is_wrong_is_told_at_once(folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(folder, A + "    needs: [x]\n    parameters: {nope: 1, trials: a}\n  - notebook: 40_d\n    for: z\n")
    assert "4 mistakes in the pipeline" in caught.value.message


def test_a_notebook_that_is_none(folder: Path) -> None:
    (folder / "10_a.ipynb").write_text("{}")
    with pytest.raises(InputError, match=r"10_a\.ipynb: .*no notebook of format 4"):
        read(folder, A)


def test_the_file_that_comes_with_leptonami_is_good() -> None:
    pipeline = load(ROOT / "notebooks" / "pipeline.yaml")
    names = [step.name for step in pipeline.steps]
    assert names[0] == "10_build_ami"
    # Every notebook of the project is in it, and each stands where its number has it.
    assert names == sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert all(step.timeout for step in pipeline.steps)


class TestParameters:
    def test_for_all_and_for_one(self, folder: Path) -> None:
        pipeline = read(folder, GOOD)
        given = assign(
            pipeline,
            Assignments(
                typed={"trials": 7, "kubernetes": "1.29"},
                single_typed={"20_b": {"trials": 8}},
                texts={"kubernetes": "1.31"},
                single_texts={"20_b": {"kubernetes": "1.32", "map": "a=b"}},
            ),
        )
        assert given == {
            "10_a": {"trials": 7, "kubernetes": "1.31"},
            "20_b": {"trials": 8, "kubernetes": "1.32", "map": {"a": "b"}},
            "30_c": {},
        }

    def test_a_file_of_parameters_is_sorted(self, folder: Path) -> None:
        pipeline = read(folder, GOOD)
        values = {"trials": 7, "map": {"x": "y"}, "b": {"trials": 8}}
        sorted_out = split(pipeline, values)
        # `map` is a parameter that takes a mapping, `b` is a notebook without its number.
        assert (sorted_out.typed, sorted_out.single_typed) == (
            {"trials": 7, "map": {"x": "y"}},
            {"20_b": {"trials": 8}},
        )
        with pytest.raises(InputError, match="no notebook 'd'"):
            split(pipeline, {"d": {"trials": 1}})

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (Assignments(texts={"nope": "1"}), "no notebook of the pipeline has a parameter 'nope'"),
            (Assignments(texts={"trials": "many"}), "'many' is not int"),
            (Assignments(single_texts={"30_c": {"trials": "1"}}), "there is no parameter 'trials'"),
            (Assignments(single_texts={"10_a": {"run_id": "x"}}), "run_id is the same for all"),
            (Assignments(texts={"runs_folder": "x"}), "runs_folder is the same for all"),
            (Assignments(typed={"kubernetes": 1.3}), "is not str"),
        ],
    )
    def test_what_is_wrong_is_refused(self, folder: Path, given: Assignments, said: str) -> None:
        with pytest.raises(InputError, match=said):
            assign(read(folder, GOOD), given)

    def test_what_a_job_is_told(self, folder: Path) -> None:
        jobs = prepare(read(folder, GOOD), Assignments(texts={"trials": "9"}), limits=Limits(timeout=5))
        first = jobs[0]
        assert dict(first.values) == {"kubernetes": "1.30", "trials": 9}
        assert dict(first.given) == {"trials": 9}
        assert dict(first.used) == {"kubernetes": "1.30", "trials": 9, "map": {}}
        assert (first.timeout, first.cell_timeout, first.grace) == (5, 90, 10)

    def test_names_with_and_without_number(self, folder: Path) -> None:
        pipeline = read(folder, GOOD)
        assert find_step(pipeline, "a", "") == find_step(pipeline, "10_a", "") == "10_a"
        with pytest.raises(InputError) as caught:
            find_step(pipeline, "10_b", "--only")
        assert "20_b" in str(caught.value.hint)
