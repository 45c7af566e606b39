"""EC2 Auto Scaling, where moto differs from AWS: activities, rules, and groups that work over time (`groups`).

Each override has a contract test in `tests/lab/test_scaling.py`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import moto.autoscaling.models
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult, EmptyResult

from leptonami.lab.groups import LEAST_S, LabGroup, stamp
from leptonami.lab.wire import ApiError, page
from leptonami.lab.world import World

__all__ = ["LabAutoScaling", "install"]

# What CreateAutoScalingGroup and UpdateAutoScalingGroup may carry here; moto would drop the rest in silence.
PARAMETERS = {
    *("AutoScalingGroupName", "AvailabilityZones", "CapacityRebalance", "DefaultCooldown", "DesiredCapacity"),
    *("HealthCheckGracePeriod", "HealthCheckType", "LaunchTemplate", "MaxSize", "MinSize", "MixedInstancesPolicy"),
    *("NewInstancesProtectedFromScaleIn", "Tags", "VPCZoneIdentifier", "TerminationPolicies"),
}
DEFAULT_POLICIES = [["Default"], []]


def install(world: World) -> None:
    """Let moto make the lab's groups."""
    LabGroup.world = LabAutoScaling.world = world
    models: Any = moto.autoscaling.models
    models.FakeAutoScalingGroup = LabGroup


class LabAutoScaling(AutoScalingResponse):
    """Auto Scaling with the lab's behaviour; everything else is moto's."""

    world: ClassVar[World]

    def _group(self, name: str | None = None) -> LabGroup:
        found: Any = self.autoscaling_backend.autoscaling_groups.get(name or self._get_param("AutoScalingGroupName"))
        if found is None:
            raise ApiError("ValidationError", "AutoScalingGroup name not found - null")
        return found  # type: ignore[no-any-return]

    def _check(self) -> None:
        if extra := set(self.params) - PARAMETERS:
            raise NotImplementedError(f"{self._get_action()} with {', '.join(sorted(extra))}")
        if self._get_param("TerminationPolicies", []) not in DEFAULT_POLICIES:
            raise NotImplementedError(f"{self._get_action()} with TerminationPolicies other than Default")
        for subnet in filter(None, (self._get_param("VPCZoneIdentifier") or "").split(",")):
            ec2: Any = self.autoscaling_backend.ec2_backend
            if not any(subnet in zones for zones in ec2.subnets.values()):
                raise ApiError("ValidationError", f"The subnet ID '{subnet}' does not exist")

    def create_auto_scaling_group(self) -> ActionResult:
        """Make a group; what AWS refuses is refused."""
        self._check()
        name = self._get_param("AutoScalingGroupName")
        if name in self.autoscaling_backend.autoscaling_groups:
            raise ApiError(
                "AlreadyExists",
                f"AutoScalingGroup by this name already exists - A group with the name {name} already exists",
            )
        low, high = self._get_param("MinSize"), self._get_param("MaxSize")
        within(self._get_param("DesiredCapacity", low), low, high)
        return super().create_auto_scaling_group()

    def update_auto_scaling_group(self) -> ActionResult:
        """Change a group, its size within its limits."""
        self._check()
        group = self._group()
        low, high = self._get_param("MinSize", group.min_size), self._get_param("MaxSize", group.max_size)
        within(self._get_param("DesiredCapacity", min(max(group.desired_capacity, low), high)), low, high)
        return super().update_auto_scaling_group()

    def set_desired_capacity(self) -> ActionResult:
        """Say how many are wanted, within the group's limits."""
        group, wanted = self._group(), int(self._get_param("DesiredCapacity"))
        for limit, beyond, word in (
            (group.max_size, wanted > (group.max_size or 0), "above max"),
            (group.min_size, wanted < (group.min_size or 0), "below min"),
        ):
            if beyond:
                raise ApiError(
                    "ValidationError",
                    f"New SetDesiredCapacity value {wanted} is {word} value {limit} for the AutoScalingGroup.",
                )
        group.why = ""
        group.set_desired_capacity(wanted)
        return EmptyResult()

    def describe_scaling_activities(self) -> ActionResult:
        """Give what was done, the newest first."""
        name, ids = self._get_param("AutoScalingGroupName"), self._get_param("ActivityIds", [])
        every: list[Any] = list(self.autoscaling_backend.autoscaling_groups.values())
        groups = [self._group(name)] if name else every
        found = [each for group in groups for each in group.activities if not ids or each["ActivityId"] in ids]
        found.sort(key=lambda each: each["StartTime"], reverse=True)
        return ActionResult(page(self.params, "Activities", found, token="NextToken", most="MaxRecords"))  # noqa: S106

    def terminate_instance_in_auto_scaling_group(self) -> ActionResult:
        """Terminate one instance, and want one fewer if asked to."""
        instance, fewer = self._get_param("InstanceId"), bool(self._get_param("ShouldDecrementDesiredCapacity", False))
        member: Any = next(iter(self.autoscaling_backend.describe_auto_scaling_instances([instance])), None)
        if member is None or member.lifecycle_state.startswith("Terminating"):
            raise ApiError(
                "ValidationError", f"Instance Id not found - No managed instance found for instance ID: {instance}"
            )
        group: LabGroup = member.auto_scaling_group
        before, low = group.desired_capacity, group.min_size or 0
        if fewer and before <= low:
            raise ApiError(
                "ValidationError",
                f"Currently, desiredSize equals minSize ({low}). Terminating instance without replacement will violate "
                "group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower group's "
                "min size.",
            )
        shrinking = f", shrinking the capacity from {before} to {before - 1}" if fewer else ""
        cause = f"At {stamp()} instance {instance} was taken out of service in response to a user request{shrinking}."
        activity = group.terminate(member, cause)
        group.desired_capacity = before - fewer
        self.world.later(self.world.times.scaling, group.reconcile)
        return ActionResult({"Activity": activity})

    def set_instance_health(self) -> ActionResult:
        """Take an instance for unhealthy: the group replaces it."""
        answer = super().set_instance_health()
        self.world.later(self.world.times.scaling, self._group_of(self._get_param("InstanceId")).reconcile)
        return answer

    def _group_of(self, instance: str) -> LabGroup:
        member: Any = self.autoscaling_backend.describe_auto_scaling_instances([instance])[0]
        return member.auto_scaling_group  # type: ignore[no-any-return]

    def resume_processes(self) -> ActionResult:
        """Let the group go on, and do what has waited."""
        answer = super().resume_processes()
        self.world.later(self.world.times.scaling, self._group().reconcile)
        return answer

    def suspend_processes(self) -> ActionResult:
        """Hold the group up."""
        self._group()
        return super().suspend_processes()

    def delete_auto_scaling_group(self) -> ActionResult:
        """Delete an empty group, or with `ForceDelete` one with its instances, which go over time."""
        group = self._group()
        if group.instance_states and not self._get_param("ForceDelete", False):
            raise ApiError(
                "ResourceInUse",
                "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s) "
                "still in the group.",
            )
        remove(self.autoscaling_backend, group)
        return EmptyResult()

    def lacking(self) -> ActionResult:
        """Refuse: moto would launch within the call, or take note of what nobody would ever do."""
        raise NotImplementedError

    attach_instances = detach_instances = enter_standby = exit_standby = lacking
    attach_load_balancers = attach_load_balancer_target_groups = lacking
    put_lifecycle_hook = put_scaling_policy = put_warm_pool = put_scheduled_update_group_action = lacking
    batch_put_scheduled_update_group_action = create_launch_configuration = lacking


def remove(backend: Any, group: LabGroup) -> None:
    """Delete a group; it stays in lists until its instances are gone."""
    if not group.gone:
        group.delete()
    if group.instance_states:
        group.world.later(LEAST_S, partial(remove, backend, group))
    else:
        backend.autoscaling_groups.pop(group.name, None)


def within(desired: int, low: int, high: int) -> None:
    """Refuse sizes in the wrong order."""
    if low > high:
        raise ApiError("ValidationError", f"Max bound, {high}, must be greater than or equal to min bound, {low}")
    if not low <= desired <= high:
        raise ApiError(
            "ValidationError",
            f"Desired capacity:{desired} must be between the specified min size:{low} and max size:{high}",
        )
