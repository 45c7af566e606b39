"""Build, prove, measure and decide on the machine images of EKS GPU nodes.

Importing this package is cheap on purpose: `leptonami --help` must answer at once, so every module imports what is
heavy (boto3, pandas, pydantic, papermill) where it uses it.
"""

from __future__ import annotations

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("leptonami")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
