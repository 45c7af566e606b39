"""The import that is made cheaper: it does what it says, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from leptonami.imports import prepare_nbformat
prepare_nbformat()
assert "jsonschema" in sys.modules and "nbformat" in sys.modules
assert "lark" not in sys.modules, "the grammar was built all the same"
assert "rfc3987_syntax" not in sys.modules
prepare_nbformat()
import nbformat
from jsonschema import FormatChecker
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
nbformat.validate(notebook)
notebook.cells[0].cell_type = "nonsense"
try:
    nbformat.validate(notebook)
except nbformat.ValidationError:
    pass
else:
    raise AssertionError("validation is gone")
assert not FormatChecker().conforms("x", "date")
import rfc3987_syntax
assert rfc3987_syntax.is_valid_syntax("iri", "https://example.org/")
"""
LATE = """
import sys
import rfc3987_syntax
from leptonami.imports import prepare_nbformat
prepare_nbformat()
assert sys.modules["rfc3987_syntax"] is rfc3987_syntax
"""
USED = """
import sys
from pathlib import Path
from leptonami import notebook
try:
    notebook.check_runnable(Path(sys.argv[1]))
finally:
    assert "lark" not in sys.modules
"""


def run(program: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nbformat_comes_without_the_grammar_and_is_whole() -> None:
    run(PROGRAM)


def test_what_was_imported_before_stays() -> None:
    run(LATE)


def test_a_notebook_is_checked_without_the_grammar() -> None:
    run(USED, str(Path(__file__).parent.parent / "notebooks" / "10_build_ami.ipynb"))


CLIENT = """
import sys
from leptonami.imports import kubernetes_module
client = kubernetes_module("kubernetes.client")
assert "kubernetes_validate" not in sys.modules and "jsonschema" not in sys.modules, "it was imported all the same"
assert client.V1ConfigMap(data={"a": "b"}).data == {"a": "b"}
import kubernetes_validate
assert kubernetes_validate.latest_version()
"""


def test_the_kubernetes_client_comes_without_the_schemas_and_is_whole() -> None:
    run(CLIENT)
