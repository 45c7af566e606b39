"""Imports that take longer than what they are for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

__all__ = ["kubernetes_module", "prepare_nbformat", "prepare_papermill"]

GRAMMAR = "rfc3987_syntax"
SCHEMAS = "kubernetes_validate"
# Where papermill could read notebooks from besides a folder.
STORES = ("boto3", "pyarrow")


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


def prepare_papermill() -> None:
    """Import papermill without the clients of S3 and HDFS; call it before `import leptonami.engine`.

    It imports them in case that a notebook's path is an address there: half of its time, in every process that runs a
    notebook, for what only ever gets the paths of files here. Afterwards the packages can be imported as ever.
    """
    prepare_nbformat()
    if "papermill" not in sys.modules:
        with without(*STORES):
            import papermill  # noqa: F401 - to have it imported


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
def without(*names: str) -> Iterator[None]:
    """Let packages look as if they were not installed, but for those that have been imported already."""
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment] # which is how Python says that there is none
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
