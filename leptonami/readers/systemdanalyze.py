"""`systemd-analyze` (its line `time`): how long the firmware, the loader, the kernel, the initrd and userspace took.

The line is `Startup finished in 2.411s (kernel) + 25.732s (userspace) = 28.143s`; the parts before the kernel are there
on machines that tell them. The form is that of systemd's `analyze-time-data.c` and `format_timespan`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["PARTS", "Startup", "read"]

PARTS = ("firmware", "loader", "kernel", "initrd", "userspace")
UNITS: Mapping[str, float] = MappingProxyType(
    {"d": 86_400.0, "h": 3_600.0, "min": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "\N{MICRO SIGN}s": 1e-6}
)
SPAN = rf"(?:[0-9]{{1,9}}(?:\.[0-9]{{1,6}})?(?:{'|'.join(sorted(UNITS, key=len, reverse=True))}) ?){{1,6}}"
LINE = re.compile(rf"Startup finished in ((?:{SPAN} ?\([a-z]{{1,20}}\)(?: \+ )?){{1,8}})(?: ?= ?({SPAN}))?")
PART = re.compile(rf"({SPAN}) ?\(([a-z]{{1,20}})\)")
NUMBER = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([a-z\N{MICRO SIGN}]{1,3})")
LONGEST = 4096


@dataclass(frozen=True, slots=True)
class Startup:
    """How long a machine took to start: seconds of each of `PARTS` that was told, and of all of them."""

    parts: Mapping[str, float]
    total: float

    @property
    def since_kernel(self) -> float:
        """Seconds from the kernel's start to the end of userspace's: without firmware and loader."""
        return sum(self.parts.get(each, 0.0) for each in ("kernel", "initrd", "userspace"))


def read(text: str) -> Startup | None:
    """Read the line out of the command's output, or out of a journal's message; None if it is not there.

    >>> read("Startup finished in 2.411s (kernel) + 1min 5.7s (userspace) = 1min 8.111s").parts["userspace"]
    65.7
    """
    for line in text.splitlines():
        found = LINE.search(line[:LONGEST])
        if found is None:
            continue
        parts = {name: seconds(span) for span, name in PART.findall(found[1]) if name in PARTS}
        if parts:
            return Startup(MappingProxyType(parts), seconds(found[2]) if found[2] else sum(parts.values()))
    return None


def seconds(span: str) -> float:
    """Add up a span such as `1min 5.7s`."""
    return round(sum(float(number) * UNITS.get(unit, 0.0) for number, unit in NUMBER.findall(span)), 6)
