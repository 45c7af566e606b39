"""What EKS does to the nodes of a managed node group, through the cluster's API over HTTP: wait, label, drain, roll.

https://docs.aws.amazon.com/eks/latest/userguide/managed-node-update-behavior.html. Each of these runs in a thread of
its own, since a cluster takes its time; the lab's lock is held only while AWS's own state is looked at or changed.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from typing import Any

from leptonami.lab.conditions import is_ready
from leptonami.lab.ekstate import Group, Update, issue, launch_issues
from leptonami.lab.groups import LabGroup, stamp
from leptonami.lab.nodedata import EFFECTS
from leptonami.lab.world import World

__all__ = ["configure", "create", "drain_instance", "resize", "roll"]

POLL_S = 0.1
# EKS tries again to evict a pod after 5 seconds, by the clock of AWS.
EVICT_AGAIN_S = 5.0
MOST_AWAY = 100
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"


class Closing(Exception):
    """The lab ends; nothing is to be finished any more."""


class Late(Exception):
    """Something did not come in time."""


def create(group: Group) -> None:
    """Wait for the nodes of a new group; the group is active, or has failed."""
    try:
        wait_for(group, lambda: ready_count(group) >= group.asg.desired_capacity)
    except Closing:
        return
    except Late:
        with group.world.lock:
            group.issues = failure(group)
            group.data["status"] = "CREATE_FAILED"
        return
    with group.world.lock:
        if group.data["status"] == "CREATING":
            group.data["status"] = "ACTIVE"


def failure(group: Group) -> list[dict[str, Any]]:
    """Say why the nodes did not come: no instances, or instances that did not join."""
    if len(group.asg.present()) < group.asg.desired_capacity and (found := launch_issues(group)):
        return found
    joined = ready(group)
    strangers = [each.instance_id for each in group.asg.present() if each.instance_id not in joined]
    return [issue("NodeCreationFailure", "Instances failed to join the kubernetes cluster", *strangers)]


def wait_for(group: Group, done: Callable[[], bool]) -> None:
    """Wait until something is so, as long as EKS has patience; the lab goes on meanwhile.

    Raises
    ------
    Late
        If it never is.
    Closing
        If the lab ends, or the group is being deleted.
    """
    world = group.world
    since = world.clock()
    while True:
        with world.lock:
            world.advance()
            over = group.data["status"] == "DELETING"
        begun = time.monotonic()
        if done():
            return
        if overdue(world, since):
            raise Late
        # A large cluster is looked at less often.
        if over or world.closing.wait(max(POLL_S, 2 * (time.monotonic() - begun))):
            raise Closing


def overdue(world: World, since: float) -> bool:
    """Tell whether EKS has lost its patience. Of a lab it can be changed meanwhile."""
    return world.clock() - since > max(world.times.join, world.patience)


# Nodes ----------------------------------------------------------------------------------------------------------------


def nodes(group: Group) -> dict[str, dict[str, Any]]:
    """Give the nodes of the group's instances, by instance."""
    plane = group.cluster.plane
    if plane is None:
        return {}
    with group.world.lock:
        mine = {each.instance_id for each in group.asg.instance_states}
    found = {
        str(each.get("spec", {}).get("providerID", "")).rpartition("/")[2]: each
        for each in plane.client.items("/api/v1/nodes")
    }
    return {instance: node for instance, node in found.items() if instance in mine}


def ready(group: Group) -> set[str]:
    """Give the instances whose nodes are ready."""
    return {instance for instance, node in nodes(group).items() if is_ready(node)}


def ready_count(group: Group) -> int:
    """Count the nodes that are ready and that their group counts."""
    found = ready(group)
    with group.world.lock:
        return sum(each.instance_id in found for each in group.asg.present())


def patch_node(group: Group, name: str, patch: dict[str, Any]) -> None:
    """Change a node."""
    if group.cluster.plane is not None:
        group.cluster.plane.client.merge(f"/api/v1/nodes/{name}", patch)


def cordon(group: Group, instances: Collection[str]) -> list[str]:
    """Let the nodes of instances take no pods and no traffic any more; give their names."""
    names = [node["metadata"]["name"] for instance, node in nodes(group).items() if instance in instances]
    for name in names:
        patch_node(group, name, {"metadata": {"labels": {EXCLUDED: "true"}}, "spec": {"unschedulable": True}})
    return names


def evict_all(group: Group, names: list[str], *, forced: bool) -> list[dict[str, Any]]:
    """Evict the pods of nodes, of all of them at once, until none is left that can be; give those that would not go.

    Pods of DaemonSets and static ones stay. A budget that forbids an eviction (429) is asked again for as long as EKS
    has patience; then, with `forced`, what is left is deleted.
    """
    plane, world = group.cluster.plane, group.world
    if plane is None:
        return []
    since = world.clock()
    while not world.closing.is_set():
        found = (plane.client.items(f"/api/v1/pods?fieldSelector=spec.nodeName%3D{name}") for name in names)
        left = [pod for pods in found for pod in pods if movable(pod)]
        late = overdue(world, since)
        if not left or (late and not forced):
            return left
        for pod in left:
            name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
            path = f"/api/v1/namespaces/{namespace}/pods/{name}"
            if late:
                plane.client.ask("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0})
            elif not pod["metadata"].get("deletionTimestamp"):
                where = {"name": name, "namespace": namespace}
                body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": where}
                plane.client.ask("POST", f"{path}/eviction", body)
        if late:
            return []
        world.closing.wait(max(world.scaled(EVICT_AGAIN_S), POLL_S))
    raise Closing


def movable(pod: dict[str, Any]) -> bool:
    """Tell whether a pod has to leave a node that is drained."""
    owners = pod["metadata"].get("ownerReferences") or []
    if any(each["kind"] == "DaemonSet" and each.get("controller") for each in owners):
        return False
    static = "kubernetes.io/config.mirror" in (pod["metadata"].get("annotations") or {})
    return not static and pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"}


def drain_instance(group: Group, instance: Any) -> None:
    """Drain the node of an instance that its group gives up; after EKS's patience it goes all the same."""
    with contextlib.suppress(Closing):
        evict_all(group, cordon(group, [instance.id]), forced=True)


# Updates --------------------------------------------------------------------------------------------------------------


def resize(asg: LabGroup, wanted: dict[str, int]) -> None:
    """Give an Auto Scaling group its sizes."""
    asg.min_size, asg.max_size = wanted["minSize"], wanted["maxSize"]
    asg.why = (
        f"a user request update of AutoScalingGroup constraints to min: {asg.min_size}, max: {asg.max_size}, desired: "
        f"{wanted['desiredSize']}"
    )
    asg.set_desired_capacity(wanted["desiredSize"])


def configure(group: Group, *, update: Update, before: tuple[dict[str, str], list[dict[str, str]]]) -> None:
    """Bring a group's labels and taints onto its nodes."""
    labels, taints = before
    gone = {key: None for key in labels if key not in group.data["labels"]}
    if (labels, taints) != (group.data["labels"], group.data["taints"]):
        new = [
            {"key": each["key"], "value": each.get("value", ""), "effect": EFFECTS[each["effect"]]}
            for each in group.data["taints"]
        ]
        names = {(each["key"], EFFECTS[each["effect"]]) for each in [*taints, *group.data["taints"]]}

        def changed(node: dict[str, Any]) -> dict[str, Any]:
            there = node.get("spec", {}).get("taints") or []
            kept = [each for each in there if (each["key"], each["effect"]) not in names]
            return {"metadata": {"labels": {**gone, **group.data["labels"]}}, "spec": {"taints": [*kept, *new]}}

        for node in nodes(group).values():
            if group.cluster.plane is not None:
                group.cluster.plane.client.change(f"/api/v1/nodes/{node['metadata']['name']}", changed)
    with group.world.lock:
        update.end()
        if group.data["status"] == "UPDATING":
            group.data["status"] = "ACTIVE"


def roll(group: Group, *, update: Update, new: dict[str, Any], base: dict[str, Any], policy: Any, forced: bool) -> None:
    """Replace every node of a group by one of the new version, in batches."""
    asg, wanted = group.asg, dict(group.data["scalingConfig"])
    error: dict[str, Any] | None = None
    try:
        replace(group, forced=forced)
    except Closing:
        return
    except Refused as problem:
        error = problem.error
    with group.world.lock:
        if error is None:
            group.data |= new
            group.base = base
        else:
            # What is left of the old version stays and takes pods again; the new nodes that are too many go.
            surplus = len(asg.present()) - wanted["desiredSize"]
            for each in [each for each in asg.present() if current(asg, each)][: max(surplus, 0)]:
                asg.terminate(each, f"At {stamp()} an update of the node group was taken back.")
            asg.switch(policy)
            group.template.default_version_number = int(asg.launch_template_version)
        resize(asg, wanted)
    if error is not None:
        for node in nodes(group).values():
            if EXCLUDED in node["metadata"].get("labels", {}):
                back = {"metadata": {"labels": {EXCLUDED: None}}, "spec": {"unschedulable": None}}
                patch_node(group, node["metadata"]["name"], back)
    else:
        try:
            wait_for(group, lambda: len(asg.instance_states) <= asg.desired_capacity)
        except (Closing, Late):
            if group.world.closing.is_set():
                return
    with group.world.lock:
        update.end(*([error] if error else []))
        group.data |= {"status": "ACTIVE", "modifiedAt": datetime.now(UTC)}


class Refused(Exception):
    """An update that cannot go on, with the error that DescribeUpdate shows."""

    def __init__(self, code: str, message: str, resources: Iterable[str]) -> None:
        super().__init__(message)
        self.error = {"errorCode": code, "errorMessage": message, "resourceIds": list(resources)}


def replace(group: Group, *, forced: bool) -> None:
    """Launch new nodes first, then drain and terminate the old ones, as many at a time as may be away.

    The minimal strategy launches none first, so the old nodes that are not drained yet go on taking pods.
    """
    asg, world = group.asg, group.world
    minimal = group.data["updateConfig"]["updateStrategy"] == "MINIMAL"
    with world.lock:
        old = [each for each in asg.present() if not current(asg, each)]
        batch = away(group, len(old))
        surge = 0 if minimal or not old else max(2 * len(set(asg.availability_zones)), batch)
        before = asg.desired_capacity
        asg.max_size = max(asg.max_size or 0, before + surge)
        asg.why = "a user request executing an update of the node group"
        asg.set_desired_capacity(before + surge)
    wait_ready(group, surge)
    if not minimal:
        cordon(group, [each.instance_id for each in old])
    for start in range(0, len(old), batch):
        chosen = [each for each in old[start : start + batch] if each in asg.present()]
        if stuck := evict_all(group, cordon(group, [each.instance_id for each in chosen]), forced=forced):
            pods = ", ".join(f"{each['metadata']['namespace']}/{each['metadata']['name']}" for each in stuck)
            text = f"Reached max retries while trying to evict pods from nodes in node group {group.name}: {pods}"
            raise Refused("PodEvictionFailure", text, sorted({each["spec"]["nodeName"] for each in stuck}))
        world.closing.wait(world.times.drained)
        with world.lock:
            for each in chosen:
                asg.terminate(
                    each,
                    f"At {stamp()} instance {each.instance_id} was taken out of service in response to a user request.",
                )
            asg.reconcile()
        wait_ready(group, surge + start + len(chosen))


def wait_ready(group: Group, count: int) -> None:
    """Wait until so many nodes of the new version are ready."""

    def enough() -> bool:
        found = ready(group)
        with group.world.lock:
            new = [each for each in group.asg.present() if current(group.asg, each)]
        return sum(each.instance_id in found for each in new) >= count

    try:
        wait_for(group, enough)
    except Late:
        (problem,) = failure(group)
        raise Refused(
            "NodeCreationFailure",
            problem["message"]
            if problem["code"] != "NodeCreationFailure"
            else "Couldn't proceed with upgrade process as new nodes are not joining node group " + group.name,
            problem["resourceIds"],
        ) from None


def current(asg: LabGroup, member: Any) -> bool:
    """Tell whether an instance is of the version that its group launches."""
    return str((member.launch_template or {}).get("Version")) == str(asg.launch_template_version)


def away(group: Group, count: int) -> int:
    """Give how many nodes may be away at once."""
    config: dict[str, int] = group.data["updateConfig"]
    share = config.get("maxUnavailablePercentage")
    wanted = config.get("maxUnavailable", 1) if share is None else math.floor(count * share / 100)
    return min(max(1, wanted), MOST_AWAY)
