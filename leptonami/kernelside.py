"""What the notebook runner asks of the kernel, inside the kernel.

An executed notebook says less than the kernel knows: an error keeps its name and its text there, but not its way out
or its exit code, and a shell command that failed leaves nothing at all. The runner calls these functions silently
(they make no output and count as no cell). Standard library only: this is imported into everybody's notebook.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from pathlib import Path
from typing import IO, Any

__all__ = ["account", "finish", "watch"]

crash_log: IO[str] | None = None


def shell() -> Any:
    """Give the IPython shell that this runs in."""
    from IPython.core.getipython import get_ipython

    return get_ipython()


def watch(crash_file: str) -> None:
    """Let a failing `!command` raise, as `%%bash` does: IPython's default is to carry on as if nothing had been.

    The switch is `InteractiveShell.system_raise_on_error`; an IPython too old to have it still leaves `_exit_code`,
    which `account` reads.

    Parameters
    ----------
    crash_file
        Where the Python stack goes if the process crashes. Its standard error would be the place, but ipykernel has
        put a pipe there, and nobody reads that pipe any more when the process is dead.
    """
    global crash_log  # noqa: PLW0603 - the fault handler needs it open for as long as the process lives
    crash_log = Path(crash_file).open("w", encoding="utf-8")  # noqa: SIM115
    faulthandler.enable(crash_log, all_threads=False)
    ipython = shell()
    if ipython.has_trait("system_raise_on_error"):
        ipython.system_raise_on_error = True


def finish() -> None:
    """Get ready to end: nothing that is printed from here on has a reader.

    About one shutdown in ten, ipykernel 7.4 closes the thread that its streams write through while its control thread
    is flushing them; both then wait until jupyter_client ends the kernel the hard way, three seconds later. Streams
    that need no thread leave nothing to wait for.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the process ends


def account() -> str:
    """Say how the last cell went, as JSON: `shell` is the exit status of its last `!command`, `error` its exception."""
    ipython = shell()
    status = ipython.user_ns.pop("_exit_code", 0) or 0
    ipython.user_ns_hidden.pop("_exit_code", None)
    error = getattr(sys, "last_value", None)
    # Once told, an exception is forgotten: it must not be taken for that of a later cell.
    sys.last_value = None
    return json.dumps({"shell": status if isinstance(status, int) else 1, "error": describe(error)}, default=str)


def describe(error: BaseException | None) -> dict[str, Any] | None:
    """Give an exception of leptonami as plain data; any other one speaks for itself in the notebook."""
    from leptonami.errors import LeptonamiError

    # A reloaded package has other classes of the same name, so `isinstance` alone would miss some.
    if isinstance(error, LeptonamiError) or (
        error is not None and hasattr(error, "as_dict") and hasattr(error, "exit_code")
    ):
        told: dict[str, Any] = error.as_dict()
        return told
    return None
