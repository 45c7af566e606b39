"""The command line: a thin face. Each command is a module of `leptonami.commands`, imported when it is called.

Data goes to standard output, the story to standard error. Errors come out as one message with the way out and an
exit code from `leptonami.errors`, never as a stack trace (`LEPTONAMI_DEBUG=1` shows it).
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

import click

from leptonami.errors import Interrupted, LeptonamiError

__all__ = ["cli", "main"]

# name -> (module, attribute, one line of help). The help stands here so that `leptonami --help` imports nothing.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "bench": ("leptonami.commands.bench", "bench", "Measure how long launches take, and say what differs."),
    "build": ("leptonami.commands.build", "build", "Build an AMI from a plan."),
    "catalog": ("leptonami.commands.catalog", "catalog", "Show the AMI families and what they exist for."),
    "doctor": ("leptonami.commands.doctor", "doctor", "Say what this machine and these credentials can do."),
    "explain": (
        "leptonami.commands.explain",
        "explain",
        "Say why: nodes that stay, GPU stacks, slow boots.",
    ),
    "plan": ("leptonami.commands.plan", "plan", "Check a plan and show what it will do."),
    "policy": ("leptonami.commands.policy", "policy", "Print the IAM policy that a plan needs."),
    "images": ("leptonami.commands.images", "images", "List a plan's images, their age and who uses them."),
    "retire": ("leptonami.commands.retire", "retire", "Deprecate old images, and deregister them later."),
    "publish": ("leptonami.commands.publish", "publish", "Copy, share and announce an image."),
    "record": ("leptonami.commands.record", "record", "Write decision records, and check that they still hold."),
    "run": ("leptonami.commands.run", "run", "Run a notebook with typed parameters, or all of them in their order."),
    "runs": ("leptonami.commands.runs", "runs", "List the runs of this machine and what they own."),
    "sweep": ("leptonami.commands.sweep", "sweep", "Remove what dead and expired runs left behind."),
}
PLUGINS = {"lab": "Start the embedded AWS on this machine (leptonami[lab])."}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used, and which finds the lab by its entry point."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Name every command, installed plugins included."""
        return sorted([*COMMANDS, *PLUGINS])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command."""
        from importlib import import_module

        if cmd_name in COMMANDS:
            module, attribute, _ = COMMANDS[cmd_name]
            command = getattr(import_module(module), attribute)
            assert isinstance(command, click.Command)  # noqa: S101 - a programming error, not an input
            return command
        from importlib.metadata import entry_points

        for entry in entry_points(group="leptonami.commands", name=cmd_name):
            try:
                plugin: click.Command = entry.load()
            except ModuleNotFoundError as error:
                raise click.ClickException(
                    f"the command {cmd_name!r} needs {error.name!r}: pip install 'leptonami[{cmd_name}]'"
                ) from error
            return plugin
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands from the table above, so that help imports none of them."""
        rows = {name: text for name, (_, _, text) in COMMANDS.items()} | PLUGINS
        with formatter.section("Commands"):
            formatter.write_dl(sorted(rows.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="leptonami")
def cli() -> None:
    """Build, prove, measure and decide on the machine images of EKS GPU nodes.

    Start with `leptonami plan show data/plans/ubuntu-22.04-gpu.yaml`, which calls nothing that writes.
    """


def report(error: LeptonamiError) -> None:
    """Write an error to standard error: what happened, to what, and the way out."""
    # The exit code must get through even where nobody reads.
    with contextlib.suppress(OSError):
        click.secho(f"error: {error}", fg="red", err=True)
        if error.hint:
            click.echo(f"  what to do: {error.hint}", err=True)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with the documented exit code."""
    try:
        code: Any = cli.main(args=arguments, prog_name="leptonami", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        code = Interrupted.exit_code
    except click.ClickException as error:
        error.show()
        code = 2
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        code = Interrupted.exit_code
    except LeptonamiError as error:
        if os.environ.get("LEPTONAMI_DEBUG"):
            raise
        report(error)
        code = error.exit_code
    except OSError as error:
        if os.environ.get("LEPTONAMI_DEBUG"):
            raise
        report(LeptonamiError(f"{error.strerror or error}", resource=error.filename and str(error.filename)))
        code = LeptonamiError.exit_code
    sys.exit(code if isinstance(code, int) else 0)
