"""What an experiment costs: estimated before, counted after, and said where it is not known.

Prices are data (`data/prices.yaml`, with source and date); list prices, on demand. Nothing is bought by the drivers of
one machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from leptonami import datafiles
from leptonami.bench.order import order

if TYPE_CHECKING:
    from leptonami.bench.experiment import Experiment, Volume
    from leptonami.bench.model import Bake, Trial

__all__ = ["Cost", "count", "estimate", "launch_usd"]

# Billed by the second, for a minute at least: https://aws.amazon.com/ec2/pricing/on-demand/ and
# https://aws.amazon.com/ebs/pricing/ (read 2026-11).
LEAST_SECONDS = 60
# From the request to the end of the billing. Published: 24 to 90 s to a Ready node, minutes for a large image
# (facts of amazon-eks-ami #1273, node-latency-for-k8s), and a minute to shut down.
ASSUMED_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars of what is known, how long it takes (h, None after the fact), what is not known, what was assumed."""

    usd: float
    hours: float | None
    unknown: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return asdict(self)

    def words(self) -> str:
        """Say it in a sentence."""
        least = "at least " if self.unknown else "about "
        lacking = f"; not known: {', '.join(self.unknown)}" if self.unknown else ""
        return f"{least}USD {self.usd:.2f}{lacking}"


@lru_cache(maxsize=1)
def prices() -> dict[str, Any]:
    """Read the prices."""
    found: dict[str, Any] = datafiles.table("prices.yaml")
    return found


def launch_usd(instance_type: str, seconds: float, volume: Volume, gib: int) -> float | None:
    """Give what an instance with its volumes, `gib` in all, costs for some seconds; None if a price is not known."""
    table = prices()
    hourly = table["instance_hour"].get(instance_type)
    if hourly is None or volume.type != "gp3" or volume.iops is not None or volume.throughput is not None:
        return None
    monthly = gib * table["gp3_gib_month"]
    hours = max(seconds, LEAST_SECONDS) / 3600
    return float(hourly * hours + monthly / table["hours_a_month"] * hours)


def estimate(experiment: Experiment, *, seconds: float = ASSUMED_SECONDS) -> Cost:
    """Estimate an experiment from its file alone.

    Parameters
    ----------
    seconds
        Of a trial, from its launch to the end of its billing; trials run one after another.
    """
    trials = order(experiment)
    hours = len(trials) * seconds / 3600
    if experiment.eks is None:
        return Cost(0.0, None, (), ("nothing is bought: it runs on this machine",))
    table = prices()
    usd, unknown = 0.0, []
    for each in trials:
        second = experiment.variant(each.variant).is_read(experiment.eks)
        gib = experiment.eks.volume.size_gib * (2 if second else 1)
        one = launch_usd(each.instance_type, seconds, experiment.eks.volume, gib)
        usd += one or 0.0
        if one is None:
            unknown.append(f"{each.instance_type} with a {experiment.eks.volume.type} volume")
    assumptions = [
        f"{len(trials)} launches one after another, {seconds:.0f} s each until the billing ends",
        f"on-demand prices of {' and '.join(table['regions'])}, written by hand in {table['as_of']}, not fetched",
        "without data transfer, NAT, the cluster itself, and snapshots that are kept",
    ]
    if experiment.eks.region not in table["regions"]:
        assumptions.append(f"prices in {experiment.eks.region} differ")
    kinds = {each.kind for each in experiment.variants}
    if "fast-snapshot-restore" in kinds:
        zones = len(experiment.eks.subnets)
        restored = max(hours, 1.0) * zones
        usd += restored * float(table["fast_snapshot_restore_hour"])
        assumptions.append(f"Fast Snapshot Restore of one snapshot for {restored:.1f} zone hours (an hour at least)")
    if "init-rate" in kinds and table["volume_initialization_gib"] is None:
        unknown.append("the provisioned rate of volume initialisation")
    return Cost(round(usd, 2), round(hours, 2), tuple(dict.fromkeys(unknown)), tuple(assumptions))


def count(experiment: Experiment, items: Iterable[Trial | Bake]) -> Cost:
    """Add up what was spent; say what is billed beside the launches, and cannot be counted from here."""
    if experiment.eks is None:
        return Cost(0.0, None)
    costs = [each.cost for each in items]
    lacking = sum(each is None for each in costs)
    unknown = [f"what {lacking} launches or bakes cost"] if lacking else []
    kinds = {each.kind for each in experiment.variants}
    if "fast-snapshot-restore" in kinds:
        unknown.append("Fast Snapshot Restore, which is billed for as long as it is switched on")
    if "init-rate" in kinds:
        unknown.append("the provisioned rate of volume initialisation")
    return Cost(round(sum(each or 0.0 for each in costs), 4), None, tuple(unknown))
