"""Which drivers there are. Each is a module of its own with `open_driver(setup) -> Driver`, imported when used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from leptonami.errors import InputError
from leptonami.validation import choose

if TYPE_CHECKING:
    from leptonami.bench.model import Driver, Setup

__all__ = ["DRIVERS", "open_driver"]

DRIVERS: dict[str, tuple[str, str]] = {
    "process": ("leptonami.bench.local.process", "a private containerd on this machine; images from a shaped registry"),
    "nspawn": (
        "leptonami.bench.local.nspawn",
        "a whole node with systemd and cloud-init in a container of this machine",
    ),
    "eks": ("leptonami.bench.eks", "instances that join a cluster of your account, or of the lab"),
}


def open_driver(name: str, setup: Setup) -> Driver:
    """Open a driver.

    Raises
    ------
    InputError
        If there is none of that name, or what it needs is not installed.
    """
    if name not in DRIVERS:
        raise InputError(f"there is no driver {name!r}", resource="driver", hint=choose(name, DRIVERS, "drivers"))
    module, _ = DRIVERS[name]
    try:
        driver: Driver = import_module(module).open_driver(setup)
    except ModuleNotFoundError as error:
        if error.name == module:
            raise InputError(f"this version of leptonami has no driver {name}", resource="driver") from error
        raise InputError(
            f"the driver {name} needs {error.name!r}", resource="driver", hint="pip install 'leptonami[bench]'"
        ) from error
    return driver
