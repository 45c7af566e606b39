"""The errors of leptonami: one small tree, each saying what happened, to what, and the way out.

The exit codes are part of the interface (`docs/exit-codes.md`); scripts and CI decide by them.
"""

from __future__ import annotations

__all__ = [
    "BuildError",
    "CapacityError",
    "CheckFailed",
    "CredentialsError",
    "InputError",
    "Interrupted",
    "LeptonamiError",
    "NotebookError",
    "Timeout",
]


class LeptonamiError(Exception):
    """Anything leptonami stops for, with the way out.

    Parameters
    ----------
    message
        What happened, in one sentence.
    resource
        What it happened to: a file and the place in it, a resource id, a step.
    hint
        What the reader can do about it.
    """

    exit_code = 1

    def __init__(self, message: str, *, resource: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.resource = resource
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.resource}: {self.message}" if self.resource else self.message

    def as_dict(self) -> dict[str, str | int | None]:
        """Give the error as plain data, for `--json` and for the run's manifest."""
        return {
            "error": type(self).__name__,
            "message": self.message,
            "resource": self.resource,
            "hint": self.hint,
            "exit_code": self.exit_code,
        }


class InputError(LeptonamiError):
    """A file, an option or a parameter is wrong; nothing was called."""

    exit_code = 2


class CheckFailed(LeptonamiError):
    """The checks ran, and they found something wrong."""

    exit_code = 3


class CredentialsError(LeptonamiError):
    """No credentials, expired ones, or ones that may not do this."""

    exit_code = 4


class Timeout(LeptonamiError):
    """A deadline passed. What was being waited for may still be going on, and the message names it."""

    exit_code = 5


class BuildError(LeptonamiError):
    """A build could not go on."""


class CapacityError(BuildError):
    """AWS has no capacity for any of the instance types and subnets that the plan allows."""


class NotebookError(LeptonamiError):
    """A notebook did not run to its end."""


class Interrupted(LeptonamiError):
    """Somebody pressed Ctrl-C (or sent SIGTERM); what was temporary has been cleaned up."""

    exit_code = 130
