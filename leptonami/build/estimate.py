"""How long a build will take and what it will cost, with every assumption said."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from leptonami import datafiles
from leptonami.build import sizing

if TYPE_CHECKING:
    from leptonami.plan import Plan

__all__ = ["Estimate", "Phase", "estimate", "used_gib"]

# Seconds, each with its basis. `preload-container-images.md` is a published log of a 150 GiB image cache build in
# awslabs/data-on-eks (facts/ami.md): two ML images pulled in 5:38 and 3:36, stop 0:49, snapshot 6:11.
LAUNCH_S = (90, "launch to SSM Online; GPU instances take 80 to 120 s to boot (tensorfuse, 2025-08)")
STOP_S = (49, "stop, from the data-on-eks log")
STEP_S = {
    "settle": (60, "assumed: cloud-init and snapd to come to rest"),
    "nvidia-driver": (240, "assumed: download and, where needed, a DKMS build on 4 cores"),
    "nvidia-toolkit": (30, "assumed"),
    "gpu-guard": (5, "assumed"),
    "versions": (5, "assumed"),
    "hygiene": (15, "assumed"),
    "script": (60, "assumed: nobody knows what your script does"),
}
# 30 GiB unpacked in 5:38 + 3:36 in that log's order of magnitude; see PULL_MIB_S for what is used.
PULL_MIB_S = 30.0
PULL_BASIS = "assumed: compressed MiB at 30 MiB/s, download and unpack together"
SNAPSHOT_FIXED_S, SNAPSHOT_S_PER_GIB = 120.0, 6.0
SNAPSHOT_BASIS = "assumed: 2 min and 6 s for each GiB written; up to hours have been reported for 300 GB"


@dataclass(frozen=True)
class Phase:
    """A part of the build: seconds, and what the figure rests on."""

    name: str
    seconds: float
    basis: str


@dataclass(frozen=True)
class Estimate:
    """Duration by phase (s) and costs (USD); None where a price is not known."""

    phases: tuple[Phase, ...]
    builder_usd: float | None
    snapshot_usd_month: float
    assumptions: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """The whole duration."""
        return sum(phase.seconds for phase in self.phases)

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {**asdict(self), "seconds": self.seconds}


def compressed_mib(plan: Plan) -> float:
    """Add up what is pulled (MiB)."""
    return sum(image.size_mib if image.size_mib is not None else sizing.UNKNOWN_MIB for image in plan.images)


def used_gib(plan: Plan) -> float:
    """Estimate how much of the root volume holds data, and so what its snapshot holds (GiB)."""
    used = (sizing.GPU_BASE_MIB if plan.release.gpu else sizing.BASE_MIB) / 1024
    used += compressed_mib(plan) * (1 + sizing.UNPACKED_RATIO) / 1024
    if any(use.name == "nvidia-driver" for use in plan.steps):
        used += sizing.DRIVER_MIB / 1024
    return min(used, plan.root_volume.size_gib)


def estimate(plan: Plan) -> Estimate:
    """Estimate a build from the plan alone."""
    prices = datafiles.table("prices.yaml")
    images = compressed_mib(plan)
    phases = [Phase("launch", *LAUNCH_S)] if plan.steps else [Phase("launch", 30, "assumed: instance running")]
    for use in plan.steps:
        if use.name == "prefetch":
            phases.append(Phase("prefetch", round(images / PULL_MIB_S), PULL_BASIS))
        else:
            phases.append(Phase(use.name, *STEP_S.get(use.name, (60, "assumed"))))
    phases.append(Phase("stop", *STOP_S))
    data_gib = used_gib(plan)
    phases.append(Phase("image", round(SNAPSHOT_FIXED_S + data_gib * SNAPSHOT_S_PER_GIB), SNAPSHOT_BASIS))
    hours = sum(phase.seconds for phase in phases) / 3600
    first = plan.builder.instance_types[0]
    hourly = prices["instance_hour"].get(first)
    volume = plan.root_volume.size_gib * prices["gp3_gib_month"] / prices["hours_a_month"] * hours
    assumptions = [
        f"on-demand prices of {' and '.join(prices['regions'])}, written by hand in {prices['as_of']}, not fetched",
        f"the builder is {first}" + ("" if hourly is not None else ", whose price is not in data/prices.yaml"),
        f"the snapshot holds {data_gib:.0f} GiB for a month",
    ]
    unknown = sum(1 for image in plan.images if image.size_mib is None)
    if unknown:
        assumptions.append(
            f"{unknown} of {len(plan.images)} images have no known size and count {sizing.UNKNOWN_MIB} MiB"
        )
    if plan.region not in prices["regions"]:
        assumptions.append(f"prices in {plan.region} differ")
    return Estimate(
        phases=tuple(phases),
        builder_usd=None if hourly is None else round(hourly * hours + volume, 2),
        snapshot_usd_month=round(data_gib * prices["snapshot_gib_month"], 2),
        assumptions=tuple(assumptions),
    )
