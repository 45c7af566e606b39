"""Marks that AWS tells: of the instance and of the Auto Scaling group's activity. Whole seconds, on AWS's clock.

EC2 says when an instance was launched, and what its state is, but not since when: `running` is known from asking again
and again, on the measuring machine's clock, as finely as it was asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from leptonami.bench.marks import Mark
from leptonami.target import Provenance

__all__ = ["from_activity", "from_asking", "from_instance"]


def from_instance(instance: Mapping[str, Any], provenance: Provenance = "measured") -> tuple[Mark, ...]:
    """Give when an instance was launched (it is pending from then on)."""
    return timed("pending", instance.get("LaunchTime"), "ec2:DescribeInstances", provenance)


def from_activity(
    activities: Iterable[Mapping[str, Any]], instance: str, provenance: Provenance = "measured"
) -> tuple[Mark, ...]:
    """Give when the group began to launch an instance: the start of the activity that names it."""
    for each in activities:
        if f"EC2 instance: {instance}" in str(each.get("Description", "")):
            return timed("requested", each.get("StartTime"), "autoscaling:DescribeScalingActivities", provenance)
    return ()


def from_asking(name: str, asked: float, before: float, source: str, provenance: Provenance = "measured") -> Mark:
    """Give a mark that was found by asking: it was not so at `before` and was at `asked` (s since 1970, our clock)."""
    return Mark(name, before, f"{source}, asked again", "host", max(asked - before, 0.0), provenance)


def timed(name: str, value: Any, source: str, provenance: Provenance) -> tuple[Mark, ...]:
    """Give a mark at a time as boto3 gives it; activities have fractions, instances whole seconds."""
    if not isinstance(value, datetime):
        return ()
    at = value if value.tzinfo else value.replace(tzinfo=UTC)
    return (Mark(name, at.timestamp(), source, "aws", 1e-3 if at.microsecond else 1.0, provenance),)
