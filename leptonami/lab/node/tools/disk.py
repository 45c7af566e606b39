"""The root volume."""

# ruff: noqa: PTH110

from __future__ import annotations

import os

from .containerd import stored
from .core import Failed, Refused, fault, flags, machine, out

# What a base image takes of the disk, in MiB.
BASE_USED_MIB = 4096


def df(arguments: list[str]) -> None:
    """Room on the root volume: its size, what the base image takes, and the images that were pulled."""
    options, paths = flags(arguments, "", "-P -k -m -h --portability")
    if "-h" in options:
        raise Refused
    # ctr's images: compressed layers and what comes out of them (three times as much).
    used = BASE_USED_MIB + sum(image["mib"] * 4 for image in stored().values()) + int(fault("disk_used_gib", 0)) * 1024
    total = machine()["root_gib"] * 1024
    unit, name = (1, "1M-blocks") if "-m" in options else (1024, "1024-blocks")
    out(f"Filesystem     {name}      Used Available Capacity Mounted on")
    for path in paths or ["/"]:
        if not os.path.exists(path):
            raise Failed(f"df: {path}: No such file or directory")
        free = max(0, total - used)
        out(f"/dev/root {total * unit} {used * unit} {free * unit} {100 * used // total}% /")
