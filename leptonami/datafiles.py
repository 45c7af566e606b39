"""Where the package's data stands: `leptonami/_data` in an installed wheel, `data` in a checkout."""

from __future__ import annotations

from pathlib import Path

from leptonami.errors import InputError

__all__ = ["path", "root"]


def root() -> Path:
    """Give the folder of the data.

    A checkout's own `data` comes second: an installed package must never read a folder that happens to stand beside
    `site-packages`.
    """
    package = Path(__file__).resolve().parent
    installed = package / "_data"
    return installed if installed.is_dir() else package.parent / "data"


def path(name: str) -> Path:
    """Find a file or folder of the data, such as `plans/ubuntu-22.04-gpu.yaml`.

    Raises
    ------
    InputError
        If there is none, or the name leads out of the folder.
    """
    base = root()
    found = (base / name).resolve()
    if not found.is_relative_to(base.resolve()) or not found.exists():
        raise InputError(
            "there is no such file in the package's data", resource=name, hint=f"it is looked for in {base}"
        )
    return found
