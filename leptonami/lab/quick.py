"""What makes botocore and moto quicker in the lab's process, without a change of what they answer.

`python benchmarks/lab.py` measures the lab beside moto's own server.
"""

from __future__ import annotations

import functools
import gzip
from pathlib import Path
from typing import Any

import orjson
from botocore.loaders import JSONFileLoader, Loader

__all__ = ["read_models", "remember_modules"]


class Models(JSONFileLoader):
    """Reads botocore's models with orjson: Python's reader of JSON is a third of the lab's start."""

    def load_file(self, file_path: str) -> Any:
        """Give a file's data; None if there is no such file. It comes with or without compression."""
        plain, packed = Path(f"{file_path}.json"), Path(f"{file_path}.json.gz")
        if plain.is_file():
            return orjson.loads(plain.read_bytes())
        return orjson.loads(gzip.decompress(packed.read_bytes())) if packed.is_file() else None


def read_models() -> None:
    """Have botocore read its models that way. Before anything makes a session: moto does when it is imported."""
    Loader.FILE_LOADER_CLASS = Models


def remember_modules() -> None:
    """Have moto remember which services it has and what methods their classes have, which it finds out at each call."""
    from moto import backends
    from moto.core import responses

    known = tuple(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: known
    found = functools.cache(responses.method_names_from_class)  # type: ignore[attr-defined] # moto says not what it exports
    responses.method_names_from_class = found  # type: ignore[attr-defined]
