"""How a command that changes something ends when it is stopped from outside."""

from __future__ import annotations

import signal

__all__ = ["stop_as_by_ctrl_c"]


def stop_as_by_ctrl_c() -> None:
    """Take SIGTERM and SIGHUP for Ctrl-C, so that what was begun is cleaned up and written down.

    A CI job that is stopped gets SIGTERM, a terminal that is closed SIGHUP.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
