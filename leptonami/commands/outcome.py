"""How a command ends that shows what it would do or has done: as JSON or in words, with an error if some failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from leptonami.errors import BuildError

__all__ = ["conclude"]


class Result(Protocol):
    """What a sweep or a retirement gives."""

    @property
    def problem(self) -> BuildError | None:
        """What did not work."""

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""


R = TypeVar("R", bound=Result)


def conclude(result: R, show: Callable[[R], None], *, as_json: bool) -> None:
    """Write what came of it, and fail if something should have been done and was not.

    Raises
    ------
    BuildError
        What did not work.
    """
    from leptonami.console import print_json

    if as_json:
        print_json(result.as_dict())
    else:
        show(result)
    if (problem := result.problem) is not None:
        raise problem
