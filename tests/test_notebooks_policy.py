"""What a notebook of ours may be: `docs/notebooks.md` says why. Each rule is proven by a notebook that breaks it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat.v4 as v4
import pytest
import sample_notebooks as notebooks

from leptonami import html
from leptonami.errors import InputError
from leptonami.parameters import parameters, source_of

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("**/*.ipynb"))

LINES = 12
# The lab's made-up account, and the public owners of images (data/catalog has their sources).
ACCOUNTS = {"123456789012", "000000000000", "099720109477", "602401143452"}
# strict: nbval compares every output. run: it needs something that CI has not, so it is only executed where that is.
CHECKS = ("strict", "run")

PATHS = re.compile(
    r"(?<![\w.])/(?:home|root|work|tmp|Users|private|var/folders|mnt|opt)/[\w.-]+|\b[A-Z]:\\Users", re.ASCII
)
ACCOUNT = re.compile(r"(?<![\w.-])\d{12}(?![\w.-])")
PRIVATE = re.compile(
    r"(?<![\d.])(?:10[.-]\d{1,3}|192[.-]168|172[.-](?:1[6-9]|2\d|3[01]))[.-]\d{1,3}[.-]\d{1,3}(?![.-]?\d)"
)
# Two hosts of the original decision document, whose published log is among the recordings (data/recorded/README.md).
RECORDED_HOSTS = {"10-0-2-185", "10-0-2-252"}
KEYS = re.compile(
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY-----|\baws_secret_access_key\b", re.IGNORECASE
)


def violations(path: Path) -> list[str]:
    """Everything that is wrong with a notebook, cell by cell."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return [*of_the_whole(path, document), *(f"cell {name}: {what}" for name, what in of_the_cells(document))]


def of_the_whole(path: Path, document: dict[str, Any]) -> Iterator[str]:
    cells = document["cells"]
    first = cells[0] if cells else {}
    if first.get("cell_type") != "markdown" or not re.match(r"# \S", source_of(first)):
        yield "the first cell is not a text that begins with a title (# ...)"
    titles = sum(
        len(re.findall(r"^# ", re.sub(r"```.*?```", "", source_of(cell), flags=re.DOTALL), re.MULTILINE))
        for cell in cells
        if cell["cell_type"] == "markdown"
    )
    if titles > 1:
        yield f"{titles} titles (# ...), not one"
    if not re.fullmatch(r"\d\d_[a-z0-9_]+\.ipynb", path.name):
        yield "the file is not named like 10_build_ami.ipynb: the number is its place in the order"
    ids = [cell.get("id") for cell in cells]
    if len(set(ids)) != len(ids):
        yield "two cells have the same id"
    yield from (f"the cell id {each!r} is no word that says what the cell is for" for each in ids if not is_word(each))
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        yield f"{len(tagged)} cells are tagged parameters, not one"
    try:
        parameters(path)
    except InputError as error:
        yield str(error)
    extra = set(document["metadata"]) - {"kernelspec", "language_info", "leptonami"}
    if extra:
        yield f"metadata that is not ours: {', '.join(sorted(extra))}"
    about = document["metadata"].get("leptonami", {})
    if set(about) - {"check"} or about.get("check", "strict") not in CHECKS:
        yield f"metadata.leptonami is {{'check': one of {', '.join(CHECKS)}}}, or left out for strict"


def is_word(cell_id: object) -> bool:
    """nbformat's own ids are random: eight hexadecimal digits, which tell a reader of a diff nothing."""
    text = str(cell_id or "")
    return bool(re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", text)) and not re.fullmatch(r"[0-9a-f]{8}", text)


def of_the_cells(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    strict = document["metadata"].get("leptonami", {}).get("check", "strict") == "strict"
    count = 0
    for cell in document["cells"]:
        if cell["cell_type"] == "markdown":
            yield from ((cell["id"], what) for what in of_text(source_of(cell)))
            continue
        if cell["cell_type"] != "code":
            yield cell["id"], f"a {cell['cell_type']} cell"
            continue
        yield from ((cell["id"], what) for what in of_code(source_of(cell)))
        yield from ((cell["id"], what) for what in of_metadata(cell["metadata"]))
        for output in cell["outputs"]:
            yield from ((cell["id"], what) for what in of_output(output))
        count += 1
        if strict and cell["execution_count"] != count:
            yield cell["id"], f"its outputs are not those of one run from the top (execution count, wanted {count})"
        if not strict and (cell["outputs"] or cell["execution_count"] is not None):
            yield cell["id"], "outputs are kept that nothing checks"


def of_text(source: str) -> Iterator[str]:
    words = re.sub(r"```.*?```|`[^`]*`", "", source, flags=re.DOTALL)
    if re.search(r"!\[\s*\]\(|<img(?![^>]*\balt=\"[^\"]+\")", words):
        yield "an image without a description"
    if re.search(r"<(?!https?://|/?(?:br|sub|sup|kbd)\b)[a-zA-Z/!]", words):
        yield "HTML: the page would drop most of it"
    yield from of_anything(source)


FORBIDDEN: dict[type[ast.AST], str] = {
    ast.FunctionDef: "def",
    ast.AsyncFunctionDef: "async def",
    ast.ClassDef: "class",
    ast.Lambda: "lambda",
    ast.For: "for",
    ast.While: "while",
    ast.Try: "try",
    ast.Match: "match",
    ast.If: "if",
    ast.Global: "global",
    ast.Delete: "del",
}


def of_code(source: str) -> Iterator[str]:
    if len(source.splitlines()) > LINES:
        yield f"{len(source.splitlines())} lines, more than {LINES}"
    if not source.strip():
        yield "it is empty"
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        magic = re.search(r"^\s*[%!?]|=\s*!|\?\s*$", source, re.MULTILINE)
        yield "a magic or a shell command" if magic else f"not Python: {error.msg}"
        return
    for node in ast.walk(tree):
        if type(node) in FORBIDDEN:
            yield f"{FORBIDDEN[type(node)]}: logic belongs into the package"
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in {"exit", "quit", "input", "exec", "eval"}
        ):
            yield f"{node.func.id}()"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (
                f"{name} is imported" for name in names if f"{name}.".startswith(("leptonami.lab.", "subprocess."))
            )
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            yield "import *"
    yield from of_anything(source)


def of_metadata(metadata: dict[str, Any]) -> Iterator[str]:
    extra = set(metadata) - {"tags"}
    if extra:
        yield f"metadata that is not ours: {', '.join(sorted(extra))}"
    allowed = {"parameters", "remove-input", "remove-output", "raises-exception", "nbval-ignore-output"}
    yield from (f"an unknown tag: {tag}" for tag in metadata.get("tags", []) if tag not in allowed)


def of_output(output: dict[str, Any]) -> Iterator[str]:
    if output["output_type"] == "error":
        yield f"an error is kept: {output['ename']}"
    data = output.get("data", {})
    for kind in set(data) & set(html.IMAGES):
        if not (output["metadata"].get(kind) or {}).get("alt", "").strip():
            yield "a figure without a description"
    if "run" in output.get("metadata", {}).get("leptonami", {}):
        yield "the id of one run is kept: use leptonami run --keep-outputs"
    images = set(html.IMAGES) - {"image/svg+xml"}
    texts = {key: value for key, value in data.items() if key not in images} or output.get("text", "")
    yield from of_anything(json.dumps(texts, ensure_ascii=False).replace("\\n", "\n"))
    if len(json.dumps(output)) > 400_000:
        yield "an output of more than 400 kB"


def of_anything(text: str) -> Iterator[str]:
    yield from (f"a path of a machine: {found[0]}" for found in PATHS.finditer(text))
    yield from (f"an account id: {found[0]}" for found in ACCOUNT.finditer(text) if found[0] not in ACCOUNTS)
    yield from (f"a private address: {found[0]}" for found in PRIVATE.finditer(text) if found[0] not in RECORDED_HOSTS)
    yield from ("a key" for _ in KEYS.finditer(text))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_our_notebooks_keep_the_policy(path: Path) -> None:
    assert violations(path) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_our_notebooks_make_a_page(path: Path, tmp_path: Path) -> None:
    assert html.render(path, tmp_path / "page.html").stat().st_size < 1_500_000


def test_the_order_is_that_of_the_names() -> None:
    numbers = [path.name[:2] for path in NOTEBOOKS if path.parent == FOLDER]
    assert len(numbers) == len(set(numbers))


def good() -> list[Any]:
    """The cells of a notebook that keeps every rule."""
    stream = v4.new_output(
        "stream", name="stdout", text="ami-0123456789abcdef0 in account 123456789012, 1.30, 127.0.0.1\n"
    )
    figure = v4.new_output(
        "display_data",
        {"image/png": "AAAA", "text/plain": "Figure"},
        metadata={"image/png": {"alt": "It takes 74 s"}, "leptonami": {"role": "figure"}},
    )
    cells = [
        notebooks.text("# A title\n\nWords with `<b>` and `![]()`.\n\n```\n# no title\n```"),
        notebooks.code('plan: str = "x"  # help', "parameters", count=1),
        notebooks.text("## Part"),
        notebooks.code("with open('a') as file:\n    x = [each for each in file]", outputs=[stream, figure], count=2),
    ]
    for name, cell in zip(("title", "parameters", "part", "part-code"), cells, strict=True):
        cell["id"] = name
    return cells


def written(path: Path, cells: list[Any], **metadata: Any) -> Path:
    # By hand: nbformat would mend what is to be found.
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells}))
    return path


def test_a_good_notebook_passes(tmp_path: Path) -> None:
    assert violations(written(tmp_path / "10_good.ipynb", good())) == []


def change(number: int, **values: Any) -> Any:
    def apply(cells: list[Any], metadata: dict[str, Any]) -> None:
        cells[number].update(values)

    return apply


def text_output(text: str) -> list[Any]:
    return [v4.new_output("stream", name="stdout", text=text)]


def retitled(cells: list[Any], metadata: dict[str, Any]) -> None:
    cells.append(notebooks.text("# Another title") | {"id": "another"})


def untagged(cells: list[Any], metadata: dict[str, Any]) -> None:
    cells[1].metadata.clear()


def lax(cells: list[Any], metadata: dict[str, Any]) -> None:
    metadata["leptonami"] = {"check": "run"}


def no_such_check(cells: list[Any], metadata: dict[str, Any]) -> None:
    metadata["leptonami"] = {"check": "never"}


def papermill(cells: list[Any], metadata: dict[str, Any]) -> None:
    metadata["papermill"] = {}


BROKEN: list[tuple[Any, str]] = [
    (change(0, source="No title"), "does not|is not a text"),
    (retitled, "2 titles"),
    (change(2, id="title"), "same id"),
    (change(2, id="1f3a77c0"), "no word"),
    (change(2, id="Part_1"), "no word"),
    (untagged, "0 cells are tagged"),
    (change(3, metadata={"tags": ["parameters"]}), "2 cells are tagged"),
    (change(1, source="plan = 'x'"), "only annotated literals"),
    (change(1, source="api_token: str = ''"), "named like a secret"),
    (change(3, source="\n".join(["x = 1"] * 13)), "13 lines"),
    (change(3, source=""), "empty"),
    (change(3, source="def f(): pass"), "def: logic"),
    (change(3, source="class A: pass"), "class: logic"),
    (change(3, source="f = lambda: 1"), "lambda: logic"),
    (change(3, source="for x in y: print(x)"), "for: logic"),
    (change(3, source="while x: pass"), "while: logic"),
    (change(3, source="if x: y"), "if: logic"),
    (change(3, source="try:\n    x\nexcept: y"), "try: logic"),
    (change(3, source="!ls"), "shell command"),
    (change(3, source="x = !ls"), "shell command"),
    (change(3, source="%matplotlib inline"), "magic"),
    (change(3, source="%%bash\nls"), "magic"),
    (change(3, source="x ="), "not Python"),
    (change(3, source="exit()"), r"exit\(\)"),
    (change(3, source="import subprocess"), "subprocess is imported"),
    (change(3, source="from leptonami.lab import start"), "leptonami.lab is imported"),
    (change(3, source="from os import *"), r"import \*"),
    (change(3, source="x = '/root/.aws'"), "path of a machine"),
    (change(3, metadata={"papermill": {}}), "metadata that is not ours"),
    (change(3, metadata={"tags": ["nbval-skip"]}), "unknown tag"),
    (change(3, outputs=[v4.new_output("error", ename="ValueError", evalue="", traceback=[])]), "an error is kept"),
    (change(3, outputs=text_output("/home/somebody/x")), "path of a machine"),
    (change(3, outputs=text_output("/tmp/tmpabc/x")), "path of a machine"),
    (change(3, outputs=text_output("arn:aws:iam::210987654321:role/x")), "account id: 210987654321"),
    (change(3, outputs=text_output("at 10.0.12.7")), "private address"),
    (change(3, outputs=text_output("ip-172-31-4-5.ec2.internal")), "private address"),
    (change(3, outputs=text_output("ip-10-0-2-186.ec2.internal")), "private address"),
    (change(3, outputs=text_output("AKIAIOSFODNN7EXAMPLE")), "a key"),
    (change(3, outputs=[v4.new_output("display_data", {"image/png": "AAAA"})]), "figure without a description"),
    (
        change(3, outputs=[v4.new_output("display_data", {"text/html": "<p>at 10.0.0.1</p>"})]),
        "private address",
    ),
    (
        change(3, outputs=[v4.new_output("display_data", {"text/plain": "x"}, metadata={"leptonami": {"run": "r"}})]),
        "id of one run",
    ),
    (change(3, outputs=text_output("x" * 400_001)), "more than 400 kB"),
    (change(3, execution_count=None), "one run from the top"),
    (change(3, execution_count=7), "one run from the top"),
    (lax, "nothing checks"),
    (no_such_check, "metadata.leptonami"),
    (papermill, "metadata that is not ours"),
    (change(2, source="## Part\n\n![](a.png)"), "image without a description"),
    (change(2, source="## Part\n\n<img src='a.png'>"), "image without a description"),
    (change(2, source="## Part\n\n<div>x</div>"), "HTML"),
    (change(2, source="## Part\n\nin 192.168.1.1"), "private address"),
    (change(2, cell_type="raw"), "a raw cell"),
]


@pytest.mark.parametrize(("breaking", "said"), BROKEN, ids=[str(number) for number in range(len(BROKEN))])
def test_each_rule_finds_what_breaks_it(tmp_path: Path, breaking: Any, said: str) -> None:
    cells, metadata = good(), {}
    breaking(cells, metadata)
    found = violations(written(tmp_path / "10_bad.ipynb", cells, **metadata))
    assert any(re.search(said, each) for each in found), found


def test_the_name_is_a_rule_too(tmp_path: Path) -> None:
    assert any("not named like" in each for each in violations(written(tmp_path / "Build.ipynb", good())))
