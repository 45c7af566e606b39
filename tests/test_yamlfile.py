"""Strict YAML: what is refused, with which line, and that nothing but InputError ever comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from leptonami import datafiles, yamlfile
from leptonami.errors import InputError
from leptonami.yamlfile import Document, FileError, Float, Int, dotted, parse, quoted, read, refuse


def problems(text: str) -> list[str]:
    return [str(problem) for problem in parse(text, name="f.yaml").problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("false", False),
        ("True", "True"),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("null", None),
        ("~", None),
        ("", None),
        ("1", 1),
        ("-7", -7),
        ("1.30", 1.3),
        ("2026-11-23", "2026-11-23"),
        ("10m", "10m"),
        ('"1.30"', "1.30"),
        ("'true'", "true"),
        ("1.2.3", "1.2.3"),
        ("ubuntu:22", "ubuntu:22"),
        ("|\n  two\n  lines", "two\nlines\n"),
    ],
)
def test_a_value_is_what_it_looks_like(text: str, value: object) -> None:
    document = parse(f"key: {text}\n")
    assert document.data == {"key": value}
    assert type(document.data["key"]) in {type(value), Int, Float}
    assert document.problems == []


def test_numbers_keep_how_they_were_written() -> None:
    found = parse("a: 1.30\nb: +5\n").data
    assert (found["a"].source, found["b"].source) == ("1.30", "+5")
    assert quoted(found["a"]) == '"1.30"'


@pytest.mark.parametrize(
    "text", ["012345678901", "0x1F", "0o17", "0b11", "1_000", "1:30", "1e3", "1.5E-3", ".inf", "-.INF", ".nan", "00"]
)
def test_a_number_that_readers_disagree_about_is_a_mistake(text: str) -> None:
    assert f'text needs quotes: "{text}"' in problems(f"a: {text}\n")[0]
    assert problems(f'a: "{text}"\n') == []


def test_every_doubtful_number_is_doubtful_to_yaml_1_1() -> None:
    # What PyYAML's own (YAML 1.1) resolver takes for a number and we would take for text without a word must not exist.
    for text in [
        "012",
        "0x1F",
        "1_000",
        "1:30",
        "1:30.5",
        "0b11",
        ".inf",
        ".NaN",
        "-0x_f",
        "190:20:30",
        "1_0.5",
        "0.5",
    ]:
        if isinstance(yaml.safe_load(text), (int, float)):
            document = parse(f"a: {text}")
            assert document.problems or isinstance(document.data["a"], (int, float)), text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3 a: 'a' is already on line 1"),
        ("a:\n  b: 1\n  b: 2\n", "f.yaml:3 a.b: 'b' is already on line 2"),
        ("x: &x {a: 1}\ny:\n  <<: *x\n", "f.yaml:3 y.<<: merge keys (<<) are not used here"),
        ("1: a\n", 'f.yaml:1 1: a key must be text: 1\n      write it as "1"'),
        ("true: a\n", "f.yaml:1 true: a key must be text: true"),
        ("? [a, b]\n: c\n", "f.yaml:1: a key must be text, not a list or a mapping"),
        ("steps:\n- x:\n    y: 1_000\n", "f.yaml:3 steps[0].x.y: 1_000 is a number to some YAML readers"),
    ],
)
def test_a_mistake_is_noted_with_its_line(text: str, expected: str) -> None:
    assert problems(text)[0].startswith(expected)


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("", "f.yaml", "the file is empty"),
        ("# only a comment\n", "f.yaml", "the file is empty"),
        ("a: [1\nb: 2\n", "f.yaml:2", "not YAML"),
        ("a:\n\tb: 1\n", "f.yaml:2", "not YAML"),
        ("a: b: c\n", "f.yaml:1", "not YAML"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2", "second YAML document"),
        ("a: !!python/object/apply:os.system [id]\n", "f.yaml:1", "tags are not used here"),
        ("a: !secret b\n", "f.yaml:1", "tags are not used here"),
        ("a: \x00\n", "f.yaml:1", "not YAML"),
        ("a: *nobody\n", "f.yaml:1", "not YAML"),
        ("a: &x [*x]\n", "f.yaml:1", "aliases expand"),
        ("[" * 5_000, "f.yaml:1", "nested deeper"),
        ("a: " + "{b: " * 40 + "1" + "}" * 40, "f.yaml:1", "nested deeper"),
    ],
)
def test_what_is_no_file_of_ours_is_refused(text: str, where: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text, name="f.yaml")
    assert caught.value.resource == where
    assert message in caught.value.message


def test_billion_laughs_cost_nothing() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(InputError, match="aliases expand"):
        parse("\n".join(lines))


def test_many_values_are_refused() -> None:
    with pytest.raises(InputError, match="more than 20000 values"):
        parse("- 1\n" * 20_001)


def test_a_small_alias_is_fine() -> None:
    assert parse("a: &x [1, 2]\nb: *x\n").data == {"a": [1, 2], "b": [1, 2]}


def test_reading_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("a: 1\n")
    with pytest.raises(InputError, match="there is no such plan") as caught:
        read(tmp_path / "plam.yaml", what="plan")
    assert caught.value.hint is not None and "plan.yaml" in caught.value.hint
    with pytest.raises(InputError, match="this is a directory"):
        read(tmp_path)
    with pytest.raises(InputError):
        read("nul\0byte")
    with pytest.raises(InputError):
        read(tmp_path / ("x" * 5_000))
    (tmp_path / "latin1.yaml").write_bytes("a: 1\nb: M\xfcller\n".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8") as caught:
        read(tmp_path / "latin1.yaml")
    assert str(caught.value.resource).endswith("latin1.yaml:2")
    (tmp_path / "large.yaml").write_bytes(b"# " + b"x" * yamlfile.MAX_BYTES)
    with pytest.raises(InputError, match="larger than 256 KiB"):
        read(tmp_path / "large.yaml")
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read(tmp_path / "bom.yaml").data == {"a": 1}


def test_dotted() -> None:
    assert dotted(("steps", 2, "nvidia-driver", "branch")) == "steps[2].nvidia-driver.branch"
    assert dotted(()) == ""


def test_what_a_file_says_cannot_move_the_cursor_or_fill_the_screen() -> None:
    long = "k" * 500
    (first, second) = parse(f'"\\e[2J": 1\n"\\e[2J": 2\n{long}: 1\n{long}: 2\n', name="f.yaml").problems
    assert str(first).startswith("f.yaml:2 \\x1b[2J: ") and "\x1b" not in str(first)
    assert len(str(second)) < 700


def test_problems_become_one_error_in_the_order_of_the_file() -> None:
    document = Document("f.yaml", lines={("b",): 9, ("a",): 2})
    found = [document.problem(("b",), "second"), document.problem(("a",), "first", "do this")]
    with pytest.raises(FileError) as caught:
        refuse([*found, document.problem(("a",), "said already")], what="plan")
    assert [problem.message for problem in caught.value.problems] == ["first", "second"]
    assert str(caught.value) == (
        "f.yaml: 2 mistakes in the plan:\n  - f.yaml:2 a: first\n      do this\n  - f.yaml:9 b: second"
    )
    assert caught.value.as_dict()["problems"][0] == {
        "where": "f.yaml:2",
        "path": "a",
        "message": "first",
        "hint": "do this",
    }
    assert caught.value.exit_code == 2
    refuse([])


def test_a_single_problem_is_said_plainly() -> None:
    document = Document("f.yaml", lines={("a",): 2})
    with pytest.raises(FileError) as caught:
        refuse([document.problem(("a",), "wrong", "right")])
    assert (caught.value.resource, caught.value.message, caught.value.hint) == ("f.yaml:2 a", "wrong", "right")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
@example(b"\xff\xfea\x00")
@example(b"%YAML 9.9\n--- a")
@example(b"? ? ? a")
@example(b"!<tag:x> a")
@example(b"a: \xf0\x9f\x98\x80")
@example(b"- &a a\n- *a\n- &a b")
@example(b"1" * 5_000)
def test_bytes_never_give_anything_but_input_error(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.mktemp("raw") / "f.yaml"
    path.write_bytes(raw)
    try:
        read(path)
    except InputError as error:
        assert str(path) in str(error.resource)


YAML_TEXT = st.text(alphabet="ab:-[]{}&*!|>'\"%@`#?,~ \n\t01.<", max_size=60)


@settings(max_examples=300, deadline=None)
@given(YAML_TEXT)
def test_text_that_looks_like_yaml_never_gives_anything_but_input_error(text: str) -> None:
    try:
        document = parse(text)
    except InputError:
        return
    assert all(line > 0 for line in document.lines.values())


# Without control characters and line separators, which PyYAML folds when it writes them.
WORD = st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=6)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | WORD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(WORD, PLAIN, max_size=4))
def test_what_a_yaml_writer_writes_is_read_back(value: dict[str, Any]) -> None:
    # allow_unicode as editors write; PyYAML quotes what its own YAML 1.1 reader would misread, which is all that we do.
    document = parse(yaml.safe_dump(value, allow_unicode=True))
    if not document.problems:
        assert document.data == value


def read_by_both(text: str) -> list[tuple[Any, dict[Any, int], list[str]] | None]:
    """Read text with libyaml and without it: data, lines and problems; None where it is refused."""
    found: list[tuple[Any, dict[Any, int], list[str]] | None] = []
    for without in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            if without:
                patch.delattr(yaml, "CSafeLoader", raising=False)
            try:
                document = parse(text)
                found.append((document.data, document.lines, [str(each) for each in document.problems]))
            except InputError:
                found.append(None)
    return found


@settings(max_examples=300, deadline=None)
@given(YAML_TEXT)
def test_libyaml_and_the_parser_in_python_read_the_same(text: str) -> None:
    quick, slow = read_by_both(text)
    # libyaml takes a few more for YAML, such as a tab behind a value. What both take must be the same.
    assert quick == slow or (quick is not None and slow is None)


@pytest.mark.parametrize("path", sorted(datafiles.root().rglob("*.yaml")), ids=lambda path: path.name)
def test_they_read_the_data_the_same(path: Path) -> None:
    quick, slow = read_by_both(path.read_text(encoding="utf-8"))
    assert quick == slow
