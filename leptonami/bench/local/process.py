"""The driver `process`: containerd, runc and CRI of this machine on a disk of their own; no systemd, no kubelet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leptonami.bench.local.driver import LocalDriver

if TYPE_CHECKING:
    from leptonami.bench.model import Driver, Setup

__all__ = ["open_driver"]


def open_driver(setup: Setup) -> Driver:
    """Open the driver.

    Raises
    ------
    InputError
        If the experiment has what it cannot do.
    """
    return LocalDriver(setup)
