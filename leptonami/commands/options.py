"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = ["aws_options", "quiet_option", "runs_option"]

F = TypeVar("F", bound=Callable[..., Any])


def aws_options(command: F) -> F:
    """Say where to act."""
    command = click.option("--profile", help="The AWS profile; by default what boto3 finds.")(command)
    return click.option(
        "--aws",
        default="account",
        show_default=True,
        help="account: what the credentials name. lab: the embedded AWS, started for this command.",
    )(command)


def runs_option(command: F) -> F:
    """Say where runs are kept."""
    return click.option(
        "--runs",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("runs"),
        show_default=True,
        envvar="LEPTONAMI_RUNS",
        help="The folder that each run gets its own folder in.",
    )(command)


def quiet_option(command: F) -> F:
    """Say nothing on the way."""
    return click.option("-q", "--quiet", is_flag=True, help="No progress.")(command)
