"""Fast launch: what EBS's lazy loading of an image's volumes can be met with, what that costs and what it buys.

A volume made from a snapshot is empty at first; its blocks come from S3 when they are read, at a rate that nobody
promises. For a node with images on its disk that can be slower than pulling them. Three ways out, one at a time:

- a *volume initialization rate*: every new volume is filled at 100 to 300 MiB/s; set where volumes are made, which is
  the launch template (CreateImage does not take it);
- *Fast Snapshot Restore*: volumes are full at once, as long as there are credits; billed by snapshot, zone and hour,
  used or not;
- *pre-reading* the files that a node needs first, at its boot: it costs nothing and promises nothing.

https://docs.aws.amazon.com/ebs/latest/userguide/initalize-volume.html and
https://docs.aws.amazon.com/ebs/latest/userguide/volume-creation-credits.html
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leptonami import datafiles

if TYPE_CHECKING:
    from leptonami.plan import FastLaunch, Plan
    from leptonami.publish.model import Live, Order

__all__ = [
    "Choice",
    "Credits",
    "choices",
    "credits_of",
    "fill_seconds",
    "launch_template",
    "pre_read_script",
    "restore_usd",
]

# https://docs.aws.amazon.com/ebs/latest/userguide/ebs-fast-snapshot-restore.html
OPTIMIZE_MIN_PER_TIB = 60
MINIMUM_H = 1.0
RATES = (100, 200, 300)


@dataclass(frozen=True)
class Credits:
    """The volume creation credits of one snapshot in one zone.

    Attributes
    ----------
    bucket
        How many volumes at most can be made full at once.
    per_hour
        How fast credits come back.
    optimize_min
        Minutes until fast snapshot restore is enabled at all. The bucket is empty then.
    """

    bucket: float
    per_hour: float
    optimize_min: float

    def minutes_for(self, volumes: int) -> float:
        """Give the minutes after enabling until so many volumes could have been made full, one after the other."""
        return self.optimize_min + volumes / self.per_hour * 60


def credits_of(snapshot_gib: float) -> Credits:
    """Work out the credits of a snapshot of a volume of so many GiB.

    Raises
    ------
    ValueError
        If the size is not above 0.
    """
    if snapshot_gib <= 0:
        raise ValueError("a snapshot has a size")
    rate = min(10.0, 1024 / snapshot_gib)
    return Credits(bucket=max(1.0, rate), per_hour=rate, optimize_min=OPTIMIZE_MIN_PER_TIB * snapshot_gib / 1024)


def restore_usd(price_hour: float, *, snapshots: int, zones: int, hours: float) -> float:
    """Give what fast snapshot restore costs: each snapshot in each zone, by the minute, one hour at least (USD)."""
    return price_hour * snapshots * zones * max(hours, MINIMUM_H)


def fill_seconds(data_gib: float, rate_mib_s: float) -> float:
    """Give the seconds in which a volume is full at an initialization rate; data is what the snapshot holds."""
    return data_gib * 1024 / rate_mib_s


@dataclass(frozen=True)
class Choice:
    """One way to launch: what it costs and buys; `chosen` if the plan takes it."""

    name: str
    chosen: bool
    costs: str
    buys: str


def choices(plan: Plan) -> tuple[Choice, ...]:
    """Say for each way what it costs and buys with this plan's volume. Estimates, with list prices; calls nothing."""
    from leptonami.build.estimate import used_gib

    return compare(
        plan.publish.fast_launch,
        volume_gib=plan.root_volume.size_gib,
        data_gib=used_gib(plan),
        prices=datafiles.table("prices.yaml"),
    )


def compare(
    chosen: FastLaunch | None, *, volume_gib: float, data_gib: float, prices: dict[str, Any]
) -> tuple[Choice, ...]:
    """Compare the ways for a volume of so many GiB that holds so much data."""
    rate = chosen.volume_initialization_rate if chosen else None
    restore = chosen.fast_snapshot_restore if chosen else None
    zones = len(restore.zones) if restore else 1
    found = credits_of(volume_gib)
    hour = prices["fast_snapshot_restore_hour"]
    by_rate = prices.get("volume_initialization_gib") or {}
    times = ", ".join(f"{fill_seconds(data_gib, each):.0f} s at {each}" for each in ((rate,) if rate else RATES))
    # Billed on the whole snapshot; the list has a price for each rate.
    known = by_rate.get(rate or RATES[-1])
    fee = "a fee for each GiB and launch; its price is not in data/prices.yaml"
    if known is not None:
        fee = f"about ${known * data_gib:.3f} a launch at {rate or RATES[-1]} MiB/s"
    day = restore_usd(hour, snapshots=1, zones=zones, hours=24)
    where = f"{zones} zone{'s' if zones > 1 else ''}"
    return (
        Choice("none", chosen is None, "nothing", "blocks come when they are first read, at a rate nobody promises"),
        Choice(
            "volume_initialization_rate",
            rate is not None,
            fee,
            f"every volume full after {times} MiB/s ({data_gib:.0f} GiB of data)",
        ),
        Choice(
            "fast_snapshot_restore",
            restore is not None,
            f"${day:.2f} a day, ${day * prices['hours_a_month'] / 24:.0f} a month in {where} "
            f"(${hour} an hour and zone, one hour at least), for every image that keeps it",
            f"full at once for {found.bucket:.1f} launches, then {found.per_hour:.1f} an hour and zone; first after "
            f"{found.minutes_for(1):.0f} min, all credits after {found.minutes_for(int(found.bucket)):.0f} min",
        ),
        Choice(
            "pre_read",
            chosen is not None and chosen.pre_read is not None,
            "nothing but the boot's disk bandwidth",
            "what a node needs first is read in the background at boot; no promise",
        ),
    )


def launch_template(order: Order, live: Live) -> dict[str, Any] | None:
    """Give what a launch template needs so that the choice takes effect; None if it needs nothing.

    Fast snapshot restore needs nothing there: a rate beside it would even switch it off.
    """
    fast = order.publish.fast_launch
    if fast is None or fast.fast_snapshot_restore is not None:
        return None
    if fast.volume_initialization_rate is not None:
        ebs = {"VolumeInitializationRate": fast.volume_initialization_rate}
        return {"BlockDeviceMappings": [{"DeviceName": live.root_device, "Ebs": ebs}]}
    return {"UserData": base64.b64encode(pre_read_script().encode()).decode()}


def pre_read_script() -> str:
    """Give the shell script that reads the files a node needs first, in the background, as user data at its boot.

    First the programs that start the node, then the unpacked layers of the images; eight readers at a time, since each
    read waits for S3. Reading changes nothing, and whatever is not there is passed over.
    """
    return Path(__file__).with_name("pre-read.sh").read_text(encoding="utf-8")
