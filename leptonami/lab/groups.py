"""Auto Scaling groups whose instances come and go over the lab's time, through the lab's own EC2.

moto's group changes its instances within the call. Here a call says what is wanted, and the group works towards it on
the lab's agenda: it launches where it has fewest, goes on to another zone or type where there is no capacity, tries
again later, replaces what died, and leaves an activity for each step, in the words of AWS.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar

from moto.autoscaling.models import FakeAutoScalingGroup, InstanceState
from moto.core.exceptions import ServiceException
from moto.moto_api._internal import mock_random

from leptonami.lab.publishing import PublishingEC2
from leptonami.lab.templates import find, merged, version_of
from leptonami.lab.wire import ApiError
from leptonami.lab.world import ACCOUNT, World

__all__ = ["LEAST_S", "LabGroup", "ec2", "now", "stamp"]

PRESENT = {"Pending", "InService"}
LOST = {"shutting-down", "terminated", "stopping", "stopped"}
# Seconds of AWS until a failed launch is tried again, and between two looks at what is there; and how long both
# are at least by this machine's clock, so that a lab without delays does not spin.
RETRY_S, LOOK_S, LEAST_S, LEAST_RETRY_S = 60.0, 20.0, 0.05, 0.5


def ec2(region: str, **params: Any) -> PublishingEC2:
    """Give the lab's EC2 with the parameters of a call, as a service of AWS makes it: nobody's policy is asked."""
    response = PublishingEC2()
    response.region, response.current_account, response.partition = region, ACCOUNT, "aws"
    response.params, response.uri_match, response.querystring, response.headers = params, {}, {}, {}
    return response


def now() -> datetime:
    """Give the moment for an activity."""
    return datetime.now(UTC)


def stamp() -> str:
    """Give the moment in an activity's cause."""
    return f"{now():%Y-%m-%dT%H:%M:%SZ}"


class Member(InstanceState):
    """An instance of a group, with the version of the template that it was launched from."""

    def __init__(self, instance: Any, group: LabGroup, version: dict[str, Any] | None) -> None:
        super().__init__(instance, "Pending", "Healthy", group.new_instances_protected_from_scale_in, group)
        self.version = version
        self.born = group.world.clock()

    @property
    def launch_template(self) -> dict[str, Any] | None:
        """Give the template with the version that was launched, where moto gives the default one."""
        return self.version


class LabGroup(FakeAutoScalingGroup):
    """An Auto Scaling group.

    Attributes
    ----------
    drain
        What EKS does to an instance of its own before it is terminated; takes its time.
    activities
        What has been done, the newest first.
    """

    world: ClassVar[World]
    drain: Callable[[Any], None] | None = None
    gone = False
    not_before = 0.0

    def __init__(self, *args: Any, **known: Any) -> None:
        self.activities: list[dict[str, Any]] = []
        self.why = "a user request created an AutoScalingGroup"
        self.desired_capacity: int = 0
        super().__init__(*args, **known)
        if self.ec2_launch_template is not None:
            version_of(self.ec2_launch_template, self.launch_template_version)
        self.world.later(max(self.world.scaled(LOOK_S), LEAST_S), self._look)

    def update(self, *args: Any, **asked: Any) -> None:
        """Change what is named, where moto drops a mixed policy that is not."""
        named = any(asked.get(each) for each in ("launch_template", "launch_config_name", "mixed_instances_policy"))
        kept = None if named else self.mixed_instances_policy
        low, high, desired = asked["min_size"], asked["max_size"], asked["desired_capacity"]
        if desired is None and low is not None:
            asked["desired_capacity"] = max(self.desired_capacity, low)
        if desired is None and high is not None:
            asked["desired_capacity"] = min(asked["desired_capacity"] or self.desired_capacity, high)
        self.why = (
            f"a user request update of AutoScalingGroup constraints to min: {self.min_size if low is None else low}, "
            f"max: {self.max_size if high is None else high}, "
            f"desired: {self.desired_capacity if asked['desired_capacity'] is None else asked['desired_capacity']}"
        )
        super().update(*args, **asked)
        self.mixed_instances_policy = kept or self.mixed_instances_policy

    def set_desired_capacity(self, new_capacity: int | None) -> None:
        """Note what is wanted, and begin to work towards it in a moment."""
        before = self.desired_capacity
        self.desired_capacity = (self.min_size or 0) if new_capacity is None else new_capacity
        if before != self.desired_capacity:
            why = self.why or "a user request explicitly set group desired capacity"
            self.why = f"At {stamp()} {why} changing the desired capacity from {before} to {self.desired_capacity}.  "
        self.world.later(self.world.times.scaling, self.reconcile)

    def switch(self, policy: dict[str, Any]) -> None:
        """Launch by another mixed policy from now on."""
        given = policy["LaunchTemplate"]["LaunchTemplateSpecification"]
        # moto completes it with the name, and then refuses what has both.
        given = {name: value for name, value in given.items() if name != "LaunchTemplateName"}
        self.mixed_instances_policy = {
            **policy,
            "LaunchTemplate": {**policy["LaunchTemplate"], "LaunchTemplateSpecification": given},
        }
        self._set_launch_configuration("", {}, self.mixed_instances_policy)

    def present(self) -> list[Any]:
        """Give the instances that count."""
        return [each for each in self.instance_states if each.lifecycle_state in PRESENT]

    # Working towards it ---------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Look from time to time for what has died."""
        if not self.gone:
            self.reconcile()
            self.world.later(max(self.world.scaled(LOOK_S), LEAST_S), self._look)

    def suspended(self, process: str) -> bool:
        """Tell whether a process does not run."""
        return process in self._suspended_processes

    def reconcile(self) -> None:
        """Take one step: notice what died, then launch or terminate the difference."""
        if self.gone:
            return
        if not self.suspended("HealthCheck") and not self.suspended("ReplaceUnhealthy"):
            for member in self.present():
                if member.instance.state in LOST or member.health_status == "Unhealthy":
                    self._lost(member)
        difference = (self.desired_capacity or 0) - len(self.present())
        if difference > 0 and not self.suspended("Launch") and self.world.clock() >= self.not_before:
            for _ in range(difference):
                if not self._launch():
                    # The next look after that tries again.
                    self.not_before = self.world.clock() + max(self.world.scaled(RETRY_S), LEAST_RETRY_S)
                    break
        elif difference < 0 and not self.suspended("Terminate"):
            for member in self._surplus(-difference):
                count = len(self.present())
                self.terminate(
                    member,
                    f"{self.why}At {stamp()} an instance was taken out of service in response to a difference between "
                    f"desired and actual capacity, shrinking the capacity from {count} to {count - 1}.  At {stamp()} "
                    f"instance {member.instance_id} was selected for termination.",
                )
        self.why = self.why if self.why.startswith("At ") and difference else ""

    def _lost(self, member: Any) -> None:
        if member.health_status == "Unhealthy":
            reason = "a user health-check"
        else:
            reason = "an EC2 health check indicating it has been terminated or stopped"
        self.why = f"At {stamp()} an instance was launched in response to an unhealthy instance needing to be replaced."
        self.terminate(member, f"At {stamp()} an instance was taken out of service in response to {reason}.")

    def _surplus(self, count: int) -> list[Any]:
        """Choose by the default termination policy: the zone with most, the oldest version, the oldest instance."""
        left = [each for each in self.present() if not each.protected_from_scale_in]
        chosen: list[Any] = []
        for _ in range(min(count, len(left))):
            zones = Counter(each.availability_zone for each in left)
            most = max(zones.values())
            candidates = [each for each in left if zones[each.availability_zone] == most]
            chosen.append(
                min(candidates, key=lambda each: (int((each.launch_template or {}).get("Version", 0)), each.born))
            )
            left.remove(chosen[-1])
        return chosen

    # Launching ------------------------------------------------------------------------------------------------------

    def _choices(self) -> tuple[dict[str, Any], dict[str, str], list[str]]:
        """Give what a launch asks for, the template's version to note, and the types to try in their order."""
        if self.ec2_launch_template is None:
            raise ApiError("LabNotImplemented", "leptonami lab: a group without a launch template is not implemented")
        policy: dict[str, Any] = self.mixed_instances_policy or {}
        given = policy.get("LaunchTemplate", {}).get("LaunchTemplateSpecification") or {
            "LaunchTemplateId": self.ec2_launch_template.id,
            "Version": self.launch_template_version,
        }
        template = find(self.ec2_backend, {"LaunchTemplateId": given["LaunchTemplateId"]})
        version = version_of(template, given.get("Version"))
        noted = {
            "LaunchTemplateId": template.id,
            "LaunchTemplateName": template.name,
            "Version": str(version.number),
        }
        request = merged(version.data, {})
        overrides = policy.get("LaunchTemplate", {}).get("Overrides", [])
        types = [each["InstanceType"] for each in overrides if each.get("InstanceType")]
        if policy.get("InstancesDistribution", {}).get("OnDemandPercentageAboveBaseCapacity") == 0:
            request["InstanceMarketOptions"] = {"MarketType": "spot"}
        return request, noted, types or [request.get("InstanceType", "m1.small")]

    def _places(self) -> list[dict[str, Any]]:
        """Give where to launch, the emptiest zone first."""
        there = Counter(each.availability_zone for each in self.present())
        if not self.vpc_zone_identifier:
            zones = sorted(self.availability_zones, key=lambda zone: there[zone])
            return [{"Placement": {"AvailabilityZone": zone}} for zone in zones]
        subnets = [self.ec2_backend.get_subnet(each) for each in self.vpc_zone_identifier.split(",")]
        subnets.sort(key=lambda each: there[each.availability_zone])
        return [{"SubnetId": each.id} for each in subnets]

    def _launch(self) -> bool:
        """Launch one instance, wherever there is room; tell whether there was."""
        count = len(self.present())
        why = self.why if self.why.startswith("At ") else ""
        cause = (
            why
            if "needing to be replaced" in why
            else (
                f"{why}At {stamp()} an instance was started in response to a difference between desired and actual "
                f"capacity, increasing the capacity from {count} to {count + 1}."
            )
        )
        kind = "On-Demand"
        try:
            request, noted, types = self._choices()
            kind = "Spot" if "InstanceMarketOptions" in request else kind
            instance = self._first_that_fits(request, types)
            version = {"aws:ec2launchtemplate:id": noted["LaunchTemplateId"]}
            instance.add_tags({**version, "aws:ec2launchtemplate:version": noted["Version"]})
        except (ApiError, ServiceException, NotImplementedError) as problem:
            code, text = getattr(problem, "code", "LabNotImplemented"), getattr(problem, "message", str(problem))
            if self.mixed_instances_policy:
                text = f"Could not launch {kind} Instances. {code} - {text}"
            status = f"{text} Launching EC2 instance failed."
            about = f"Launching a new EC2 instance.  Status Reason: {status}"
            self._activity(about, cause, StatusCode="Failed", StatusMessage=status, EndTime=now(), Progress=100)
            return False
        member = Member(instance, self, noted)
        self.instance_states.append(member)
        place = {"Subnet ID": instance.subnet_id, "Availability Zone": instance.availability_zone}
        activity = self._activity(
            f"Launching a new EC2 instance: {instance.id}",
            cause,
            Details="{" + ",".join(f'"{name}":"{value}"' for name, value in place.items()) + "}",
            StatusCode="PreInService",
            Progress=30,
        )
        self.world.later(self.world.times.pending, partial(self._in_service, member, activity))
        return True

    def _first_that_fits(self, request: dict[str, Any], types: list[str]) -> Any:
        problem: Exception = ApiError("ValidationError", "The group has no place to launch in.")
        for kind in types:
            for place in self._places():
                asked = {**request, "InstanceType": kind, "MinCount": 1, "MaxCount": 1}
                if nics := asked.get("NetworkInterfaces"):
                    asked["NetworkInterfaces"] = [{**nics[0], **place}, *nics[1:]]
                else:
                    asked |= place
                try:
                    result: Any = ec2(self.region, **asked).run_instances().result
                except (ApiError, ServiceException) as refusal:
                    problem = refusal
                    if refusal.code not in {"InsufficientInstanceCapacity", "Unsupported"}:
                        raise
                    continue
                instance = result.instances[0]
                instance.autoscaling_group = self
                # The group's tags win over the template's.
                instance.add_tags({"aws:autoscaling:groupName": self.name, **self.get_propagated_tags()})
                return instance
        raise problem

    def _in_service(self, member: Any, activity: dict[str, Any]) -> None:
        """Take an instance into service once it runs."""
        match member.instance.state:
            case "pending":
                self.world.later(LEAST_S, partial(self._in_service, member, activity))
            case "running":
                if member.lifecycle_state == "Pending":
                    member.lifecycle_state = "InService"
                activity |= {"StatusCode": "Successful", "EndTime": now(), "Progress": 100}
            case _:
                activity |= {"StatusCode": "Cancelled", "EndTime": now(), "Progress": 100}

    # Terminating ----------------------------------------------------------------------------------------------------

    def terminate(self, member: Any, cause: str) -> dict[str, Any]:
        """Begin to terminate an instance of the group; EKS drains its own first."""
        draining = self.drain is not None and member.instance.state == "running"
        member.lifecycle_state = "Terminating:Wait" if draining else "Terminating"
        activity = self._activity(f"Terminating EC2 instance: {member.instance_id}", cause, Progress=50)
        if draining:
            threading.Thread(target=self._after_drain, args=(member, activity), daemon=True).start()
        else:
            self._end(member, activity)
        return activity

    def _after_drain(self, member: Any, activity: dict[str, Any]) -> None:
        if self.drain is not None:
            self.drain(member.instance)
        with self.world.lock:
            self._end(member, activity)

    def _end(self, member: Any, activity: dict[str, Any]) -> None:
        member.lifecycle_state = "Terminating"
        if member.instance.state not in {"shutting-down", "terminated"}:
            member.instance.disable_api_termination = False
            ec2(self.region, InstanceIds=[member.instance_id]).terminate_instances()
        self.world.later(self.world.times.terminate, partial(self._ended, member, activity))

    def _ended(self, member: Any, activity: dict[str, Any]) -> None:
        if member in self.instance_states:
            self.instance_states.remove(member)
        activity |= {"StatusCode": "Successful", "EndTime": now(), "Progress": 100}

    def delete(self, *_: Any) -> None:
        """End the group: its instances begin to go."""
        self.gone = True
        self.desired_capacity = 0
        for member in list(self.instance_states):
            if not member.lifecycle_state.startswith("Terminating"):
                self.terminate(member, f"At {stamp()} a user request deleted the group.")

    def _activity(self, description: str, cause: str, **more: Any) -> dict[str, Any]:
        activity = {
            "ActivityId": str(mock_random.uuid4()),
            "AutoScalingGroupName": self.name,
            "AutoScalingGroupARN": self.arn,
            "Description": description,
            "Cause": cause.strip(),
            "StartTime": now(),
            "StatusCode": "InProgress",
            "Progress": 0,
            "Details": "{}",
            **more,
        }
        self.activities.insert(0, activity)
        return activity
