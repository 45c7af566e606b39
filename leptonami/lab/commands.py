"""`leptonami lab`: the embedded AWS in the foreground, or for one command."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from leptonami.console import say
from leptonami.errors import InputError, LeptonamiError
from leptonami.lab import Lab, start
from leptonami.lab.world import DEFAULT_SPEED

__all__ = ["lab"]

F = TypeVar("F", bound=Callable[..., Any])
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def options(function: F) -> F:
    """Give a command the options with which a lab is started."""
    for option in (
        click.option("--log", type=click.Path(dir_okay=False, path_type=Path), help="Write a line for each request."),
        click.option(
            "--faults", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="JSON file of faults."
        ),
        click.option("--seed", type=int, help="Make ids, and the luck of faults, the same again."),
        click.option("--region", default="us-west-2", show_default=True, help="The region the environment names."),
        click.option(
            "--speed",
            type=click.FloatRange(min=0),
            default=DEFAULT_SPEED,
            show_default=True,
            help="Faster than AWS; 0: no delays.",
        ),
        click.option(
            "--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1.  [default: a free one]"
        ),
    ):
        function = option(function)
    return function


def open_lab(*, faults: Path | None, log: Path | None, **rest: Any) -> Lab:
    """Start a lab as the options say, and say where its word counts for less."""
    chosen = []
    if faults is not None:
        try:
            chosen = json.loads(faults.read_text(encoding="utf-8"))
        except ValueError as problem:
            raise InputError(f"not JSON: {problem}", resource=str(faults)) from problem
        from leptonami.lab.faults import Faults

        Faults().replace(chosen)
    running = start(faults=chosen, log=str(log) if log else None, **rest)
    if running.recorded:
        say(f"scripts are recorded here, not run, and commands end as failed: {running.recorded}")
    return running


@click.group()
def lab() -> None:
    """Start the embedded AWS on this machine. Everything in it is simulated."""


@lab.command()
@options
def up(**given: Any) -> None:
    """Run a lab until Ctrl-C; print the environment with which other programs use it.

    For instance: `leptonami lab up --port 5000`, then in another terminal paste what it printed and run `aws ec2
    describe-images --owners 099720109477`.
    """
    with open_lab(**given) as running:
        stopped = threading.Event()
        # SIGINT too: what a shell starts with & would otherwise ignore it.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: stopped.set())
        for name, value in running.environment.items():
            click.echo(f"export {name}={shlex.quote(value)}")
        sys.stdout.flush()
        say(f"the lab answers on {running.url}; paste the lines above into another terminal. Ctrl-C ends it")
        say('an aws CLI before 2.13 (v1: 1.29) needs: aws --endpoint-url "$AWS_ENDPOINT_URL" ...')
        while not stopped.wait(0.5):
            if running.process.poll() is not None:
                raise LeptonamiError("the lab's process has ended by itself", hint="start it again, with --log")
    say("the lab has ended, and everything in it is gone")


@lab.command("exec", context_settings={"ignore_unknown_options": True})
@options
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(command: tuple[str, ...], **given: Any) -> None:
    """Run COMMAND with a lab of its own, and end with its exit code (128 + n after signal n).

    For instance: `leptonami lab exec -- aws ec2 describe-vpcs`.
    """
    with open_lab(**given) as running:
        try:
            process = subprocess.Popen(command, env={**clean_environment(), **running.environment})
        except OSError as problem:
            raise InputError(f"cannot be run: {problem.strerror}", resource=command[0]) from problem
        # The terminal sends Ctrl-C to both of us; what is sent to us alone is passed on, and the command decides.
        for number in FORWARDED:
            signal.signal(number, lambda received, _: pass_on(process, received))
        code = process.wait()
    sys.exit(code if code >= 0 else 128 - code)


def pass_on(process: subprocess.Popen[bytes], number: int) -> None:
    """Pass a signal on; one that a terminal has sent to the whole foreground group has arrived already."""
    if number == signal.SIGINT and sys.stdin.isatty():
        return
    process.send_signal(number)


def clean_environment() -> dict[str, str]:
    """Give the environment without credentials or settings of a real account."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
