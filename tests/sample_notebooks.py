"""Small notebooks for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook


def text(source: str, **metadata: Any) -> Any:
    return new_markdown_cell(source, metadata=metadata)


def code(source: str, *tags: str, outputs: list[Any] | None = None, count: int | None = None) -> Any:
    metadata = {"tags": list(tags)} if tags else {}
    return new_code_cell(source, metadata=metadata, outputs=outputs or [], execution_count=count)


def write(path: Path, *cells: Any, **metadata: Any) -> Path:
    """Write a notebook; plain strings are code cells, and numbered ids keep it the same from run to run."""
    made = [code(cell) if isinstance(cell, str) else cell for cell in cells]
    for number, cell in enumerate(made):
        cell["id"] = f"cell-{number:02d}"
    notebook = new_notebook(cells=made, metadata=metadata)
    nbformat.write(notebook, path)
    return path


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


SLEEPER = """
import time
from pathlib import Path
try:
    Path({begun!r}).touch()
    time.sleep(60)
finally:
    time.sleep({cleaning})
    Path({clean!r}).touch()
"""


def sleeper(begun: Path, clean: Path, cleaning: float = 0.3) -> str:
    """Give a cell that says that it has begun, sleeps, and says that it has cleaned up, however soon it is stopped."""
    return SLEEPER.format(begun=str(begun), clean=str(clean), cleaning=cleaning)
