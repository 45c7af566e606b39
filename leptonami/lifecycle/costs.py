"""What things cost, estimated from list prices: never what the bill will say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from leptonami import datafiles
from leptonami.lifecycle.resources import Resource

__all__ = ["Prices"]

# What is billed while it exists. The others cost nothing.
RUNNING = {"pending", "running", "stopping"}


@dataclass(frozen=True)
class Prices:
    """On-demand list prices, from data/prices.yaml.

    Attributes
    ----------
    instance_hour
        USD an hour, by instance type.
    volume_gib_hour, snapshot_gib_hour
        USD for a GiB for an hour.
    """

    instance_hour: Mapping[str, float]
    volume_gib_hour: float
    snapshot_gib_hour: float
    regions: tuple[str, ...]
    as_of: str

    @classmethod
    def load(cls) -> Prices:
        """Read them."""
        data: dict[str, Any] = datafiles.table("prices.yaml")
        month = data["hours_a_month"]
        return cls(
            instance_hour=data["instance_hour"],
            volume_gib_hour=data["gp3_gib_month"] / month,
            snapshot_gib_hour=data["snapshot_gib_month"] / month,
            regions=tuple(data["regions"]),
            as_of=data["as_of"],
        )

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What every figure rests on."""
        return (
            f"on-demand list prices of {' and '.join(self.regions)} as of {self.as_of} (data/prices.yaml)",
            "a snapshot counts as if its whole volume held data, a volume as gp3",
            "an instance counts as if it had run since its last launch",
        )

    def hourly(self, resource: Resource) -> float | None:
        """Give the USD an hour that it costs as it is; None if its price is not known."""
        match resource.kind:
            case "instance":
                return self.instance_hour.get(resource.type) if resource.state in RUNNING else 0.0
            case "volume":
                return resource.size_gib * self.volume_gib_hour
            case "snapshot":
                return resource.size_gib * self.snapshot_gib_hour
        return 0.0

    def so_far(self, resource: Resource, now: datetime) -> float | None:
        """Give the USD that it has cost since it was made; None if that cannot be told."""
        hourly = self.hourly(resource)
        if not hourly:
            return hourly
        if resource.created is None:
            return None
        return hourly * max((now - resource.created).total_seconds(), 0.0) / 3600
