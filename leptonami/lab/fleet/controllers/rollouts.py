"""How many pods each ReplicaSet of a Deployment is to have next: the arithmetic of roll-outs.

It is that of pkg/controller/deployment: rolling.go, sync.go and util/deployment_util.go.
"""

from __future__ import annotations

from dataclasses import dataclass

from leptonami.lab.fleet.controllers.plans import Object, amount, created

__all__ = ["MAXIMUM", "Rollout", "having", "rolled", "scaled", "size"]

MAXIMUM = "deployment.kubernetes.io/max-replicas"


def size(replicaset: Object) -> int:
    """Give how many pods a ReplicaSet is to have."""
    return int(replicaset["spec"].get("replicas", 1))


def having(replicaset: Object, what: str) -> int:
    """Give a number of a ReplicaSet's status."""
    return int((replicaset.get("status") or {}).get(what) or 0)


def _available(replicaset: Object) -> int:
    """Give its available pods: no more than its size, which may be newer than its status; the others go first."""
    return min(size(replicaset), having(replicaset, "availableReplicas"))


@dataclass(frozen=True)
class Rollout:
    """How many pods a Deployment wants, and how many more or fewer there may be meanwhile."""

    replicas: int
    surge: int
    unavailable: int

    @classmethod
    def of(cls, deployment: Object) -> Rollout:
        """Read a Deployment. With both nought it would never move, so one may be missing (`ResolveFenceposts`)."""
        spec = deployment["spec"]
        replicas, strategy = int(spec.get("replicas", 1)), spec.get("strategy") or {}
        if strategy.get("type", "RollingUpdate") != "RollingUpdate":
            return cls(replicas, 0, 0)
        limits = strategy.get("rollingUpdate") or {}
        surge = amount(limits.get("maxSurge"), replicas, up=True, default="25%")
        unavailable = amount(limits.get("maxUnavailable"), replicas, up=False, default="25%")
        return cls(replicas, surge, min(replicas, unavailable if surge or unavailable else 1))


def rolled(rollout: Rollout, new: Object, old: list[Object]) -> dict[str, int]:
    """Give the sizes of the ReplicaSets (by name) that the next step of a rolling update changes.

    First the new one grows, as far as the surge lets it. Only when it cannot, old ones shrink: pods that are not
    available first, then as many as are not needed to keep the minimum available.
    """
    total = size(new) + sum(map(size, old))
    if size(new) > rollout.replicas:
        return {new["metadata"]["name"]: rollout.replicas}
    grow = min(rollout.replicas + rollout.surge - total, rollout.replicas - size(new))
    if grow > 0:
        return {new["metadata"]["name"]: size(new) + grow}
    minimum = rollout.replicas - rollout.unavailable
    budget = total - minimum - (size(new) - _available(new))
    if budget <= 0:
        return {}
    sizes = {each["metadata"]["name"]: size(each) for each in sorted(old, key=created)}
    for each in sorted(old, key=created):
        name = each["metadata"]["name"]
        sick = min(budget, sizes[name] - _available(each))
        sizes[name], budget = sizes[name] - sick, budget - sick
    spare = sum(map(_available, [new, *old])) - minimum
    for name, left in sizes.items():
        less = max(0, min(spare, left))
        sizes[name], spare = left - less, spare - less
    return {
        each["metadata"]["name"]: sizes[each["metadata"]["name"]]
        for each in old
        if sizes[each["metadata"]["name"]] != size(each)
    }


def scaled(rollout: Rollout, deployment: Object, new: Object | None, old: list[Object]) -> dict[str, int]:
    """Give the sizes that change when a Deployment was scaled or is paused: in proportion, amid a roll-out."""
    everything = [each for each in [new, *old] if each is not None]
    living = [each for each in everything if size(each) > 0]
    if len(living) <= 1:
        only = living[0] if living else new or max(old, key=created, default=None)
        return {} if only is None else {only["metadata"]["name"]: rollout.replicas}
    if new is not None and size(new) == rollout.replicas == having(new, "availableReplicas"):
        return {each["metadata"]["name"]: 0 for each in old if size(each) > 0}
    most = rollout.replicas + rollout.surge if rollout.replicas else 0
    missing = most - sum(map(size, living))
    # The largest first; of equals the newest first when there is something to gain, the oldest to lose.
    ordered = sorted(sorted(living, key=created, reverse=missing > 0), key=size, reverse=True)
    sizes, left = {}, missing
    for each in ordered:
        notes = each["metadata"].get("annotations") or {}
        before = int(notes.get(MAXIMUM) or 0) or int((deployment.get("status") or {}).get("replicas") or 0)
        share = int(size(each) * most / before + 0.5) - size(each) if before and missing else 0
        share = min(share, left) if missing > 0 else max(share, left)
        sizes[each["metadata"]["name"]], left = size(each) + share, left - share
    first = ordered[0]["metadata"]["name"]
    sizes[first] = max(0, sizes[first] + left)
    return sizes
