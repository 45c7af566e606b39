"""The launch-time model: `launch-times.yaml`, read and drawn from. Figures are seconds of a real cluster."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from leptonami import datafiles

__all__ = ["Model", "luck", "model"]


@dataclass(frozen=True)
class Model:
    """The figures."""

    data: dict[str, Any]

    def draw(self, name: str, rng: random.Random, family: str = "") -> float:
        """Draw how long something takes, in seconds: a log-normal around the family's median."""
        figure = self.data["times"][name]
        median = float(figure.get("by", {}).get(family, figure["seconds"]))
        return median * math.exp(rng.gauss(0, figure["spread"]))

    def wait(self, name: str, what: str = "seconds") -> float:
        """Give a wait that a component is configured to have, in seconds."""
        return float(self.data["waits"][name][what])

    def rate(self, name: str) -> float:
        """Give a rate in bytes per second."""
        return float(self.data["rates"][name]["bytes"])

    def serial(self, family: str) -> bool:
        """Tell whether a kubelet pulls one image after the other."""
        return bool(self.data["serial"]["by"].get(family, self.data["serial"]["default"]))

    def size(self, image: str) -> int:
        """Give the compressed bytes of an image that is known by its name only."""
        sizes = self.data["sizes"]
        found = next((mib for pattern, mib in sizes["patterns"].items() if fnmatchcase(image, pattern)), None)
        return int((sizes["default"] if found is None else found) * 2**20)

    def pull(self, size: int, *, slow: bool = False) -> float:
        """Give how long a pull of so many compressed bytes works, in seconds, beside its overhead."""
        disk = self.rate("slow-disk" if slow else "disk")
        unpacked = size * self.data["expansion"]["ratio"]
        return float(max(size / self.rate("wire"), size / self.rate("gunzip"), unpacked / disk))

    def first_read(self, size: int) -> float:
        """Give how long a program's start waits for blocks of an image that came with the AMI, in seconds.

        A new volume's blocks are loaded from its snapshot when they are first read.
        """
        read = size * self.data["expansion"]["ratio"] * self.data["first-read"]["ratio"]
        return float(read / self.rate("slow-disk"))


@cache
def model() -> Model:
    """Read the model."""
    text = (Path(__file__).parent / "launch-times.yaml").read_text(encoding="utf-8")
    return Model(datafiles.parsed(text))


def luck(seed: int | None, *what: str) -> random.Random:
    """Give the luck of something, the same for the same seed and names; without a seed another each time."""
    return random.Random("/".join([str(seed), *what]) if seed is not None else None)  # noqa: S311 - luck, not secrets
