"""Where the package's data stands: `leptonami/_data` in an installed wheel, `data` in a checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leptonami.errors import InputError

__all__ = ["parsed", "path", "root", "table"]


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


def table(name: str) -> Any:
    """Read a YAML file of the data that the package itself wrote, such as `prices.yaml`."""
    return parsed(path(name).read_text(encoding="utf-8"))


def parsed(text: str) -> Any:
    """Read YAML of the package's own, by libyaml where PyYAML has it, in a tenth of the time.

    What others wrote is read by `yamlfile`.
    """
    import yaml

    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
