"""What the status of cluster-autoscaler says, as values: `status` reads them out of the ConfigMap.

A field that a version does not have is None.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from leptonami.proof import Proof

__all__ = ["NAME", "STALE", "Activity", "Counts", "GroupStatus", "Health", "Status"]

NAME = "cluster-autoscaler-status"  # the default of --status-config-map-name
# It is written in every loop, 10 seconds by default; a loop of minutes is a sign of trouble itself.
STALE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many nodes are in which state; None where this version does not say.

    Parameters
    ----------
    registered
        All nodes that the API server knows, whatever their state.
    ready, unready, not_started, being_deleted
        Of them. A node without the GPU that its label promises is not started for its first 15 minutes, then unready.
    resource_unready
        Of the unready ones, those that lack a resource such as the GPU; from 1.24 on.
    long_not_started
        Nodes that have not started for long; the text form only.
    unregistered, long_unregistered
        Instances of the cloud without a node, and those for longer than --max-node-provision-time.
    """

    registered: int | None = None
    ready: int | None = None
    unready: int | None = None
    resource_unready: int | None = None
    not_started: int | None = None
    long_not_started: int | None = None
    being_deleted: int | None = None
    unregistered: int | None = None
    long_unregistered: int | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """The health of the cluster or of a node group: `Healthy`, `Unhealthy`, or None if it is not told."""

    status: str | None = None
    counts: Counts = field(default_factory=Counts)
    probed: datetime | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Activity:
    """What goes on in one direction.

    Parameters
    ----------
    status
        Scale-up: `Needed`, `NotNeeded`, `InProgress`, `NoActivity`, `Backoff`, `Unhealthy`. Scale-down:
        `CandidatesPresent`, `NoCandidates`. None if it is not told.
    candidates
        How many nodes are candidates for removal; scale-down only.
    error_code, error_message
        Why the group is in back-off; the YAML form only.
    probed, since
        When it was looked at, and since when it is so.
    """

    status: str | None = None
    candidates: int | None = None
    error_code: str = ""
    error_message: str = ""
    probed: datetime | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """One node group; on AWS its name is that of the Auto Scaling group."""

    name: str
    health: Health = field(default_factory=Health)
    target: int | None = None
    minimum: int | None = None
    maximum: int | None = None
    scale_up: Activity = field(default_factory=Activity)
    scale_down: Activity = field(default_factory=Activity)

    @property
    def at_minimum(self) -> bool | None:
        """Tell whether its target is its minimum, so that none of its nodes is removed; None if that is not told."""
        return None if self.target is None or self.minimum is None else self.target <= self.minimum

    def __str__(self) -> str:
        size = f"cloudProviderTarget={self.target} (minSize={self.minimum}, maxSize={self.maximum})"
        return f"{self.name}: {self.health.status} {size}"


@dataclass(frozen=True, slots=True)
class Status:
    """What the autoscaler last wrote about the cluster.

    Parameters
    ----------
    form
        `text` (up to 1.29), `yaml` (from 1.30 on), or `initializing`: it has not been through a loop yet.
    time
        When it was written, by its own account.
    updated
        The ConfigMap's annotation `last-updated`, where that is given.
    state
        `Running`, `Initializing`, ...: the YAML form only.
    health, scale_up, scale_down
        Of the whole cluster.
    groups
        The node groups.
    source, place
        Where it stands, for proofs.
    """

    form: str
    time: datetime | None = None
    updated: datetime | None = None
    state: str | None = None
    health: Health = field(default_factory=Health)
    scale_up: Activity = field(default_factory=Activity)
    scale_down: Activity = field(default_factory=Activity)
    groups: tuple[GroupStatus, ...] = ()
    source: str = ""
    place: str = f"configmap {NAME}"

    @property
    def latest(self) -> datetime | None:
        """The latest sign of life in it."""
        times = (self.time, self.updated, self.health.probed, self.scale_down.probed)
        return max((each for each in times if each is not None), default=None)

    def is_stale(self, now: datetime, limit: timedelta = STALE) -> bool | None:
        """Tell whether the autoscaler has been silent for too long: dead, or no leader. None if no time is told."""
        return None if self.latest is None else now - self.latest > limit

    def group(self, name: str) -> GroupStatus | None:
        """Find a node group by its exact name."""
        return next((each for each in self.groups if each.name == name), None)

    def proof(self, statement: str) -> Proof:
        """Prove something by this status."""
        return Proof.of(self.source, self.place, statement)
