"""Imports that take longer than what they are for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

__all__ = ["kubernetes_module", "prepare_nbformat"]

GRAMMAR = "rfc3987_syntax"
SCHEMAS = "kubernetes_validate"


def prepare_nbformat() -> None:
    """Import nbformat without the grammar of international addresses; call it before `import nbformat`.

    nbformat imports jsonschema, and that, where rfc3987-syntax is installed (jupyterlab brings it), builds a parser for
    the formats "iri" and "iri-reference": 1 s of 1.3 s in all, in every process that touches a notebook. No notebook's
    schema has these formats, and jsonschema does without the package where it is missing (jsonschema/_format.py, 4.26).
    Afterwards the package can be imported as ever.
    """
    if "jsonschema" not in sys.modules:
        with without(GRAMMAR):
            import nbformat  # noqa: F401 - to have it imported


def kubernetes_module(name: str) -> Any:
    """Import a module of the Kubernetes client, without the schemas that its dynamic client validates with.

    Where kubernetes-validate is installed (the lab uses its schemas), kubernetes 37 imports it, and that jsonschema
    with the grammar above: 2.3 s of 2.8 s in every process that talks to a cluster. Only the dynamic client's
    `validate` uses it, which does without where it is missing. Afterwards the package can be imported as ever.

    Parameters
    ----------
    name
        Such as `kubernetes.client`.
    """
    with without(SCHEMAS):
        return import_module(name)


@contextmanager
def without(name: str) -> Iterator[None]:
    """Let a package look as if it were not installed, unless it has been imported already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment] # which is how Python says that there is none
    try:
        yield
    finally:
        del sys.modules[name]
