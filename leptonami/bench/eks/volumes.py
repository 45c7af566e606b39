"""What is known about a trial's volume: what EBS does with its blocks before they are first read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from leptonami.publish.fastlaunch import credits_of

if TYPE_CHECKING:
    from leptonami.bench.model import Value

__all__ = ["credits_at_most", "of_restore", "of_volume"]


def of_volume(volume: Mapping[str, Any]) -> dict[str, Value]:
    """Give the conditions that a volume sets, from DescribeVolumes."""
    found: dict[str, Value] = {
        "volume type": str(volume.get("VolumeType", "")),
        "volume GiB": int(volume.get("Size", 0)),
    }
    for name, field in (
        ("volume IOPS", "Iops"),
        ("volume throughput MiB/s", "Throughput"),
        ("initialization rate MiB/s", "VolumeInitializationRate"),
    ):
        if volume.get(field) is not None:
            found[name] = int(volume[field])
    # Not what the snapshot's state promises, but what this volume got: without a credit it is like any other.
    found["fast restored"] = bool(volume.get("FastRestored"))
    return found


def of_restore(restores: list[Mapping[str, Any]], zone: str, size_gib: int, now: datetime) -> dict[str, Value]:
    """Give the state of Fast Snapshot Restore in a zone, and how many credits there can be at most.

    Parameters
    ----------
    restores
        From DescribeFastSnapshotRestores of the snapshot.
    size_gib
        Of the snapshot (the volume that it was made of): the bucket goes by it, not by the volumes that are made.
    """
    mine = next((each for each in restores if each.get("AvailabilityZone") == zone), None)
    if mine is None:
        return {"fast snapshot restore": "disabled"}
    found: dict[str, Value] = {"fast snapshot restore": str(mine.get("State", "unknown"))}
    since = mine.get("EnabledTime")
    if found["fast snapshot restore"] == "enabled" and isinstance(since, datetime):
        hours = max((now - (since if since.tzinfo else since.replace(tzinfo=UTC))).total_seconds() / 3600, 0.0)
        found["fast snapshot restore credits at most"] = credits_at_most(size_gib, hours)
    return found


def credits_at_most(size_gib: int, hours: float) -> float:
    """Give how many volumes could be restored fast by now, if none has been: the bucket fills from 0."""
    found = credits_of(max(size_gib, 1))
    return round(min(found.bucket, found.per_hour * hours), 2)
