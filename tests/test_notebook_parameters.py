"""Parameters: what a cell may declare, and that values arrive as exactly what was meant."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path

import pytest
import sample_notebooks as notebooks
from hypothesis import given
from hypothesis import strategies as st

from leptonami import parameters as module
from leptonami.errors import InputError
from leptonami.parameters import Mismatch, Parameter, Type, coerce, declared, from_file, parameters

CELL = """
from typing import Literal

account: str = "000000000000"  # twelve digits
kubernetes: str = "1.30"
trials: int = 10  # launches per variant
factor: float = 2
spot: bool = False
regions: list[str] = ["us-west-2", "eu-west-1"]  # where
sizes: list[int] = []
tags: dict[str, str] = {"team": "gpu"}
mode: Literal["fast", "slow"] = "fast"  # how
level: Literal[1, 2] = 1
profile: str | None = None
limit: "int | None" = None
url: str = "https://example.org/?a=b"  # x == y
nested: dict[str, list[int]] = {
    "a": [1, 2],
}  # behind the end
"""


def declare(source: str) -> dict[str, Parameter]:
    return {each.name: each for each in declared(source, Path("some.ipynb"))}


KNOWN = declare(CELL)


def one(source: str, text: str) -> object:
    return coerce(tuple(declare(source).values()), {"x": text})["x"]


class TestDeclaring:
    def test_every_form_is_read(self) -> None:
        assert {name: str(each.type) for name, each in KNOWN.items()} == {
            "account": "str",
            "kubernetes": "str",
            "trials": "int",
            "factor": "float",
            "spot": "bool",
            "regions": "list[str]",
            "sizes": "list[int]",
            "tags": "dict[str, str]",
            "mode": 'Literal["fast", "slow"]',
            "level": "Literal[1, 2]",
            "profile": "str | None",
            "limit": "int | None",
            "url": "str",
            "nested": "dict[str, list[int]]",
        }
        assert KNOWN["account"].help == "twelve digits"
        assert KNOWN["url"].help == "x == y"
        assert KNOWN["url"].default == "https://example.org/?a=b"
        assert KNOWN["nested"].help == "behind the end"
        assert KNOWN["kubernetes"].help == ""
        assert KNOWN["factor"].default == 2.0
        assert isinstance(KNOWN["factor"].default, float)

    @pytest.mark.parametrize(
        ("annotation", "same"),
        [
            ("Optional[int]", "int | None"),
            ("None | str", "str | None"),
            ("Union[str, None]", "str | None"),
            ("typing.Optional[List[str]]", "list[str] | None"),
            ("Dict[str, float]", "dict[str, float]"),
        ],
    )
    def test_older_spellings(self, annotation: str, same: str) -> None:
        value = "{}" if "dict" in same else "None"
        assert str(declare(f"x: {annotation} = {value}")["x"].type) == same

    @pytest.mark.parametrize(
        ("source", "said"),
        [
            ("x = 1", "only annotated literals"),
            ("x: int = 1\nprint(x)", "only annotated literals"),
            ("import os", "only annotated literals"),
            ("x: int", "only annotated literals"),
            ("x.y: int = 1", "only annotated literals"),
            ("x: int = 1 + 1", "not a literal"),
            ("x: str = f'{1}'", "not a literal"),
            ("x: str = open('f').read()", "not a literal"),
            ("x: int = '1'", "is not int: it is text"),
            ("x: int = True", "is not int: it is true or false"),
            ("x: str = None", "is not str: it is nothing"),
            ("x: list[str] = ['a', 1]", "entry 2 is not str"),
            ("x: Literal['a'] = 'b'", "is not Literal"),
            ("x: set[str] = {'a'}", "cannot be of the type"),
            ("x: int | str = 1", "cannot be of the type"),
            ("x: Literal['a', 1] = 1", "cannot be of the type"),
            ("x: Literal[True] = True", "cannot be of the type"),
            ("x: Path = 'a'", "cannot be of the type"),
            ("x: 'int |' = 1", "cannot be of the type"),
            ("x: dict[int, str] = {}", "cannot be of the type"),
            ("x: float = 1e999", "is not float"),
            ("x: int = 1\nx: int = 2", "declared twice"),
            ("%matplotlib inline", "not Python"),
            ("x: str = 'a", "not Python"),
            ("x: str = '\\ud800'", "not valid Unicode"),
        ],
    )
    def test_anything_else_is_refused_with_its_line(self, source: str, said: str) -> None:
        with pytest.raises(InputError, match=re.escape(said)) as caught:
            declare(source)
        assert re.fullmatch(r"some\.ipynb \(parameters cell, line \d+\)", str(caught.value.resource))

    @pytest.mark.parametrize(
        "name", ["password", "db_password", "api_token", "SECRET", "client_secret_id", "aws_access_key_id", "apikey"]
    )
    def test_secrets_are_refused_with_the_way_out(self, name: str) -> None:
        with pytest.raises(InputError, match="written into the notebook") as caught:
            declare(f'{name}: str = ""')
        assert "environment" in str(caught.value.hint)

    def test_a_notebook_has_one_such_cell_or_none(self, tmp_path: Path) -> None:
        none = notebooks.write(tmp_path / "none.ipynb", notebooks.text("# T"), "x: int = 1")
        assert parameters(none) == ()
        cells = [notebooks.code(f"{name}: int = 1", "parameters") for name in "ab"]
        with pytest.raises(InputError, match="2 cells are tagged"):
            parameters(notebooks.write(tmp_path / "two.ipynb", *cells))

    def test_a_source_in_lines_is_read_too(self, tmp_path: Path) -> None:
        path = notebooks.write(tmp_path / "a.ipynb", notebooks.code("a: int = 1\nb: str = 'x'  # help", "parameters"))
        document = json.loads(path.read_text())
        document["cells"][0]["source"] = ["a: int = 1\n", "b: str = 'x'  # help"]
        path.write_text(json.dumps(document))
        assert [(each.name, each.help) for each in parameters(path)] == [("a", ""), ("b", "help")]

    @pytest.mark.parametrize(
        "content",
        ["", "[]", "{}", '{"cells": 1, "nbformat": 4}', '{"cells": [1], "nbformat": 4}', "\ud7ff", "[" * 9999],
    )
    def test_a_file_that_is_no_notebook(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "a.ipynb"
        path.write_text(content)
        with pytest.raises(InputError, match="notebook"):
            parameters(path)

    def test_a_missing_file_names_the_nearest(self, tmp_path: Path) -> None:
        notebooks.write(tmp_path / "build.ipynb", "1")
        with pytest.raises(InputError) as caught:
            parameters(tmp_path / "biuld.ipynb")
        assert "build.ipynb" in str(caught.value.hint)


class TestTyped:
    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("account", "012345678901", "012345678901"),
            ("kubernetes", "1.30", "1.30"),
            ("kubernetes", "", ""),
            ("kubernetes", "null", "null"),
            ("account", "1_000", "1_000"),
            ("account", "nan", "nan"),
            ("account", "false", "false"),
            ("account", " a ", " a "),
            ("account", 'it\'s "quoted" \\n {x}', 'it\'s "quoted" \\n {x}'),
            ("trials", "12", 12),
            ("trials", "-3", -3),
            ("factor", "2", 2.0),
            ("factor", "1e-3", 0.001),
            ("spot", "true", True),
            ("spot", "No", False),
            ("regions", "a,b", ["a", "b"]),
            ("regions", "a, b", ["a", "b"]),
            ("regions", "1.30,012", ["1.30", "012"]),
            ("regions", "", []),
            ("regions", "[]", []),
            ("regions", '["a,b", "1.30"]', ["a,b", "1.30"]),
            ("regions", "[a, b]", ["a", "b"]),
            ("sizes", "1,2", [1, 2]),
            ("sizes", "[1, 2]", [1, 2]),
            ("tags", "a=1,b=x=y", {"a": "1", "b": "x=y"}),
            ("tags", '{"a": "1"}', {"a": "1"}),
            ("tags", "", {}),
            ("nested", "{a: [1], b: []}", {"a": [1], "b": []}),
            ("mode", "slow", "slow"),
            ("level", "2", 2),
            ("profile", "null", None),
            ("profile", "", ""),
            ("limit", "null", None),
            ("limit", "7", 7),
        ],
    )
    def test_text_becomes_the_declared_type(self, name: str, text: str, value: object) -> None:
        result = coerce(tuple(KNOWN.values()), {name: text})[name]
        assert result == value
        assert type(result) is type(value)

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("trials", "1.5"),
            ("trials", "1_000"),
            ("trials", "007"),
            ("trials", ""),
            ("trials", "0x10"),
            ("trials", " 1"),
            ("trials", "١"),
            ("trials", "9" * 5000),
            ("factor", "nan"),
            ("factor", "inf"),
            ("factor", "1e999"),
            ("factor", "1_0.0"),
            ("spot", "maybe"),
            ("spot", ""),
            ("regions", "a,,b"),
            ("regions", "[a"),
            ("regions", "[1.30]"),
            ("regions", "[true]"),
            ("regions", "[[a]]"),
            ("regions", "[!!python/object:os.system x]"),
            ("sizes", "1,x"),
            ("tags", "a"),
            ("tags", "a=1,a=2"),
            ("tags", "{a: 1}"),
            ("tags", "{a: x, a: y}"),
            ("mode", "fats"),
            ("level", "3"),
            ("limit", "None"),
            ("account", "\ud800"),
        ],
    )
    def test_text_that_is_not_of_the_type(self, name: str, text: str) -> None:
        with pytest.raises(InputError) as caught:
            coerce(tuple(KNOWN.values()), {name: text})
        assert caught.value.resource == f"some.ipynb, parameter {name}"
        assert str(KNOWN[name].type) in caught.value.message
        assert len(caught.value.message) < 400

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("trials", "5"),
            ("trials", 5.0),
            ("trials", True),
            ("kubernetes", 1.3),
            ("account", 12345678901),
            ("spot", 1),
            ("spot", "true"),
            ("regions", "a"),
            ("regions", None),
            ("regions", [1.3]),
            ("tags", {1: "a"}),
            ("tags", {"a": None}),
            ("level", 1.5),
            ("level", True),
            ("mode", "nothing like it"),
            ("factor", float("nan")),
        ],
    )
    def test_typed_values_are_not_bent(self, name: str, value: object) -> None:
        with pytest.raises(InputError, match="is not"):
            coerce(tuple(KNOWN.values()), {}, values={name: value})

    def test_a_typed_null_text_is_text(self) -> None:
        assert coerce(tuple(KNOWN.values()), {}, values={"profile": "null"}) == {"profile": "null"}

    def test_what_was_typed_comes_before_the_file(self) -> None:
        given = coerce(tuple(KNOWN.values()), {"trials": "3"}, values={"trials": 4, "mode": "slow"})
        assert given == {"trials": 3, "mode": "slow"}

    def test_an_unknown_name_is_told_the_nearest(self) -> None:
        with pytest.raises(InputError, match="no parameter 'trails'") as caught:
            coerce(tuple(KNOWN.values()), {"trails": "1"})
        assert str(caught.value.hint).startswith("did you mean trials")

    def test_a_notebook_without_parameters_takes_none(self) -> None:
        with pytest.raises(InputError) as caught:
            coerce((), {"x": "1"})
        assert "declares no parameters" in str(caught.value.hint)

    @given(st.text(st.characters(exclude_categories=["Cs"])))
    def test_text_stays_what_it_is(self, text: str) -> None:
        assert one('x: str = ""', text) == text

    @given(st.integers(-(10**30), 10**30))
    def test_whole_numbers_go_round(self, value: int) -> None:
        assert one("x: int = 0", str(value)) == value

    @given(st.floats(allow_nan=False, allow_infinity=False))
    def test_numbers_go_round(self, value: float) -> None:
        assert one("x: float = 0.0", repr(value)) == value

    @given(st.lists(st.text(string.ascii_letters + string.digits + ".-_/:", min_size=1)))
    def test_lists_of_words_go_round(self, values: list[str]) -> None:
        text = ",".join(values)
        assert one("x: list[str] = []", text) == values

    @given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126))))
    def test_lists_as_json_go_round(self, values: list[str]) -> None:
        assert one("x: list[str] = []", json.dumps(values)) == values

    @given(st.text())
    def test_any_text_is_a_value_or_a_mismatch(self, text: str) -> None:
        for wanted in (each.type for each in KNOWN.values()):
            try:
                value = wanted.from_text(text)
            except Mismatch:
                continue
            # Whatever was accepted is a value of the type, and can be written into a notebook.
            assert wanted.from_value(value) == value
            json.dumps(value).encode()


class TestFile:
    def test_a_file_is_read_strictly(self, tmp_path: Path) -> None:
        path = tmp_path / "p.yaml"
        path.write_text('kubernetes: "1.30"\ntrials: 3\nfactor: 2\nregions: [a, b]\nspot: true\nprofile: null\n')
        given = coerce(tuple(KNOWN.values()), {}, values=from_file(path))
        assert given == {
            "kubernetes": "1.30",
            "trials": 3,
            "factor": 2.0,
            "regions": ["a", "b"],
            "spot": True,
            "profile": None,
        }
        assert [type(value) for value in given.values()] == [str, int, float, list, bool, type(None)]

    def test_an_unquoted_version_is_refused_as_it_was_written(self, tmp_path: Path) -> None:
        path = tmp_path / "p.yaml"
        path.write_text("kubernetes: 1.30\n")
        with pytest.raises(InputError, match=re.escape("'1.30' is not str")) as caught:
            coerce(tuple(KNOWN.values()), {}, values=from_file(path))
        assert caught.value.hint == 'put quotes around it: "1.30"'

    @pytest.mark.parametrize(
        "content", ["account: 012345678901\n", "- a\n", "a: 1\na: 2\n", "x: !!python/name:os\n", ""]
    )
    def test_what_is_no_such_file(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "p.yaml"
        path.write_text(content)
        with pytest.raises(InputError) as caught:
            from_file(path)
        assert str(path) in str(caught.value.resource)


def test_a_type_prints_as_it_is_written() -> None:
    for text in ("str", "list[int]", "dict[str, list[str]]", "bool | None", 'Literal["a b", "c"]'):
        default = {"s": "''", "l": "[]", "d": "{}", "b": "None", "L": "'c'"}[text[0]]
        assert str(declare(f"x: {text} = {default}")["x"].type) == text


def test_the_module_is_light() -> None:
    """The command's help and `--list-parameters` read notebooks without nbformat or papermill."""
    import subprocess
    import sys

    script = (
        "import sys, leptonami.notebook, leptonami.commands.run; "
        "print([m for m in ('nbformat', 'papermill', 'nbclient', 'yaml', 'nbconvert', 'IPython') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert module.TAG == "parameters"
    assert isinstance(KNOWN["trials"].type, Type)
