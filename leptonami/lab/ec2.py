"""EC2, where moto differs from AWS in a way that matters to a build: launches, and states over time.

Each override has a contract test in `tests/lab/test_ec2.py` which names the documented behaviour it follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, ClassVar

from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import camelcase_to_underscores
from moto.ec2 import utils
from moto.ec2.models import ec2_backends
from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS, INSTANCE_TYPES
from moto.ec2.models.instances import InstanceState, StateReason
from moto.ec2.models.spot_requests import SpotInstanceRequest
from moto.ssm.models import ssm_backends

from leptonami.lab import disks, node
from leptonami.lab.disks import LabAmi
from leptonami.lab.iam import usable_profile
from leptonami.lab.images import Images
from leptonami.lab.machines import Machines
from leptonami.lab.templates import Templates
from leptonami.lab.tokens import Idempotent
from leptonami.lab.wire import ApiError, page
from leptonami.lab.world import ACCOUNT, World

__all__ = ["RUN_PARAMETERS", "LabEC2", "every_instance"]

STATES = {
    "pending": InstanceState("pending", 0),
    "running": InstanceState("running", 16),
    "shutting-down": InstanceState("shutting-down", 32),
    "terminated": InstanceState("terminated", 48),
    "stopping": InstanceState("stopping", 64),
    "stopped": InstanceState("stopped", 80),
}
# What RunInstances may carry here. moto would ignore the rest, and a silent success is worse than a refusal.
RUN_PARAMETERS = {
    *("BlockDeviceMappings", "ClientToken", "DisableApiTermination", "DryRun", "EbsOptimized", "IamInstanceProfile"),
    *("ImageId", "InstanceInitiatedShutdownBehavior", "InstanceMarketOptions", "InstanceType", "KeyName", "MaxCount"),
    *("MetadataOptions", "MinCount", "Monitoring", "NetworkInterfaces", "Placement", "SecurityGroupIds"),
    *("SecurityGroups", "SubnetId", "TagSpecifications", "UserData", "DisableApiStop", "PrivateIpAddress"),
}
# Filters of DescribeInstances that moto lacks, by the attribute that answers them.
utils.filter_dict_attribute_mapping.update({"client-token": "client_token", "instance-lifecycle": "lifecycle"})


def matching(obj: Any, _filter: str, filter_value: Any, moto: Callable[..., Any] = utils.is_filter_matching) -> bool:
    """Tell whether a filter matches: any of its values is enough, where moto wants all of them from what has several.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Filter.html
    """
    value = obj.get_filter_value(_filter)
    if isinstance(value, (list, tuple, set)) and isinstance(filter_value, list):
        return any(fnmatchcase(str(each), pattern) for each in value for pattern in filter_value)
    return bool(moto(obj, _filter, filter_value))


utils.is_filter_matching = matching


def every_instance() -> Iterable[Any]:
    """Give the instances of all regions."""
    for backend in list(ec2_backends[ACCOUNT].values()):
        for reservation in list(backend.reservations.values()):
            yield from reservation.instances


class BoughtSpot(SpotInstanceRequest):
    """The spot request behind an instance that RunInstances launched at spot price."""

    launched: ClassVar[Any] = None

    def launch_instance(self) -> Any:
        """Give the instance that is there already, where moto would launch one."""
        return type(self).launched


class LabEC2(Idempotent, Templates, Images):
    """EC2 with the lab's behaviour; everything else is moto's."""

    idempotency = "ClientToken"
    mismatch = (
        "IdempotentParameterMismatch",
        "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
    )

    # Launching ------------------------------------------------------------------------------------------------------

    def run_instances(self) -> ActionResult:
        """Launch: what AWS would refuse is refused, disks and interfaces come out as asked for, states take time."""
        from_template = self.from_template()
        if extra := set(self.params) - RUN_PARAMETERS:
            raise NotImplementedError(f"RunInstances with {', '.join(sorted(extra))}")
        image = self._launchable(self._resolve(self._get_param("ImageId", "")))
        self.params["ImageId"] = image.id
        kind = self._get_param("InstanceType", "m1.small")
        zone = self._zone(kind)
        self._check_type(kind, image, zone)
        self._check_groups()
        profile = usable_profile(self.world, self._get_param("IamInstanceProfile"))
        self._mappings = disks.overlay(image, self._get_param("BlockDeviceMappings", []), self._encrypt_all())
        if not self._get_param("DryRun") and self.world.faults.hit("capacity", instance_type=kind, zone=zone):
            # AWS answers this with status 500, which botocore's retries take for a passing fault.
            raise ApiError(
                "InsufficientInstanceCapacity",
                f"We currently do not have sufficient {kind} capacity in the Availability Zone you requested ({zone}). "
                "Our system will be working on provisioning additional capacity.",
                status=500,
            )
        self.params["MinCount"] = self._get_param("MaxCount", 1)
        result = super().run_instances()
        reservation: Any = result.result
        tags = self._parse_tag_specification()
        image.lab_launches.append((f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", self.world.clock()))
        for instance in reservation.instances:
            self._finish_launch(instance, image, tags)
            instance.add_tags(from_template)
            instance.iam_instance_profile = {"Arn": profile.arn, "Id": profile.id} if profile else None
            instance.lab_machine = self.machines.launch(instance, image)
            self.world.later(self.world.times.pending, partial(self._run, self.world, self.machines, instance))
        return result

    def _parse_block_device_mapping(self) -> list[dict[str, Any]]:
        """Give moto the image's devices with the request's changes laid over them."""
        return self._mappings

    def _resolve(self, given: str) -> str:
        """Read `resolve:ssm:NAME` as RunInstances does."""
        if not given.startswith("resolve:ssm:"):
            return given
        parameter = ssm_backends[self.current_account][self.region].get_parameter(given.removeprefix("resolve:ssm:"))
        if parameter is None:
            raise ApiError("InvalidParameterValue", f"Parameter {given} does not exist")
        return str(parameter.value)

    def _offered(self, kind: str) -> list[str]:
        offered = INSTANCE_TYPE_OFFERINGS["availability-zone"].get(self.region, [])
        return sorted(each["Location"] for each in offered if each["InstanceType"] == kind)

    def _zone(self, kind: str) -> str:
        """Find the zone of a launch; without a subnet it takes place in a default one, where the type is offered."""
        nics = self._get_param("NetworkInterfaces", [])
        subnet = self._get_param("SubnetId") or next((each["SubnetId"] for each in nics if "SubnetId" in each), None)
        if subnet:
            return str(self.ec2_backend.get_subnet(subnet).availability_zone)
        defaults = self.ec2_backend.get_default_subnets()
        fitting = [each for each in self._offered(kind) if each in defaults]
        zone = str(self._get_param("Placement.AvailabilityZone") or next(iter(fitting), f"{self.region}a"))
        if zone not in defaults:
            raise ApiError("InvalidInput", f"No default subnet for availability zone: '{zone}'.")
        if not nics:
            self.params["SubnetId"] = defaults[zone].id
        return zone

    def _check_type(self, kind: str, image: LabAmi, zone: str) -> None:
        if kind not in INSTANCE_TYPES:
            raise ApiError("InvalidParameterValue", f"Invalid value '{kind}' for InstanceType.")
        supported = INSTANCE_TYPES[kind]["ProcessorInfo"]["SupportedArchitectures"]
        if image.architecture not in supported:
            raise ApiError(
                "InvalidParameterValue",
                f"The architecture '{','.join(supported)}' of the specified instance type does not match the "
                f"architecture '{image.architecture}' of the specified AMI. Specify an instance type and an AMI that "
                "have matching architectures, and try again. You can use 'describe-instance-types' or "
                "'describe-images' to discover the architecture of the instance type or AMI.",
            )
        zones = self._offered(kind)
        if zone not in zones:
            raise ApiError(
                "Unsupported",
                f"Your requested instance type ({kind}) is not supported in your requested Availability Zone ({zone}). "
                "Please retry your request by not specifying an Availability Zone or choosing "
                f"{', '.join(zones) or 'another region'}.",
            )

    def _check_groups(self) -> None:
        """Refuse security groups of another VPC than the subnet's."""
        backend = self.ec2_backend
        placed = [(self._get_param("SubnetId"), self._get_param("SecurityGroupIds", []))]
        placed += [
            (each.get("SubnetId"), each.get("Groups") or []) for each in self._get_param("NetworkInterfaces", [])
        ]
        for subnet, groups in placed:
            for group in groups:
                found = backend.get_security_group_from_id(group)
                if found is None:
                    raise ApiError("InvalidGroup.NotFound", f"The security group '{group}' does not exist")
                if subnet and found.vpc_id != backend.get_subnet(subnet).vpc_id:
                    raise ApiError(
                        "InvalidParameter",
                        f"Security group {group} and subnet {subnet} belong to different networks.",
                    )

    def _finish_launch(self, instance: Any, image: LabAmi, tags: dict[str, dict[str, str]]) -> None:
        """Set what moto leaves out of a new instance."""
        instance._state = InstanceState("pending", 0)
        instance.state_reason = None
        instance.lab_boot = 0
        instance.disable_api_termination = bool(self._get_param("DisableApiTermination", False))
        asked = {nic.get("DeviceIndex", 0): nic for nic in self._get_param("NetworkInterfaces", [])}
        groups = []
        for index, interface in instance.nics.items():
            given = asked.get(index, {})
            # An interface that was made with the instance goes with it, unless the request says otherwise.
            interface.delete_on_termination = given.get("DeleteOnTermination", "NetworkInterfaceId" not in given)
            interface.add_tags(tags.get("network-interface", {}))
            groups += [each for each in interface.group_set if each not in groups]
        instance.security_groups = groups or instance.security_groups
        for mapping in self._mappings:
            device = instance.block_device_mapping[mapping["DeviceName"]]
            disks.finish(instance.ec2_backend.volumes[device.volume_id], mapping["Ebs"])
        options, asked_options = instance.metadata_options, self._get_param("MetadataOptions", {})
        if image.imds_support == "v2.0":
            if "HttpTokens" not in asked_options:
                options.http_tokens = "required"
            if "HttpPutResponseHopLimit" not in asked_options:
                options.http_put_response_hop_limit = 2
        if self._get_param("InstanceMarketOptions.MarketType") == "spot":
            self._note_spot(instance, tags)

    def _note_spot(self, instance: Any, tags: dict[str, dict[str, str]]) -> None:
        """Leave the spot request that AWS makes behind a spot launch."""
        BoughtSpot.launched = instance
        options = self._get_param("InstanceMarketOptions.SpotOptions", {})
        request = BoughtSpot(
            self.ec2_backend,
            utils.random_spot_request_id(),
            options.get("MaxPrice", ""),
            instance.image_id,
            options.get("SpotInstanceType", "one-time"),
            *(None, None, None, None),
            instance.key_name or "",
            [group.id for group in instance.security_groups],
            None,
            instance.instance_type,
            instance.availability_zone,
            None,
            None,
            monitoring_enabled=False,
            subnet_id=instance.subnet_id,
            tags=tags,
            spot_fleet_id=None,
            instance_interruption_behaviour=options.get("InstanceInterruptionBehavior"),
        )
        self.ec2_backend.spot_instance_requests[request.id] = request
        instance.lifecycle = "spot"
        instance.spot_instance_request_id = request.id
        instance.lab_one_time = request.type == "one-time"

    # States over time -----------------------------------------------------------------------------------------------

    @staticmethod
    def _run(world: World, machines: Machines, instance: Any) -> None:
        """Let an instance run: its first boot, or another one."""
        if instance.state != "pending":
            return
        if getattr(instance, "lab_booted", False):
            # It was shut down in order when it stopped: what is left of a reboot is starting.
            node.reboot(instance.lab_machine)
        else:
            node.first_boot(instance.lab_machine)
            instance.lab_booted = True
            instance.lab_offline = world.faults.hit("ssm-offline") is not None
        instance._state = InstanceState("running", 16)
        instance.lab_running_since = world.clock()
        if instance.lifecycle == "spot" and (fault := world.faults.hit("interrupt")):
            world.later(fault.seconds, partial(LabEC2._interrupt, machines, instance))

    @staticmethod
    def _interrupt(machines: Machines, instance: Any) -> None:
        """Take a spot instance back, as AWS does with two minutes' notice."""
        if instance.state in {"shutting-down", "terminated"}:
            return
        LabEC2._gone(machines, instance)
        code = "Server.SpotInstanceTermination"
        instance.state_reason = StateReason(f"{code}: Spot instance termination", code)
        instance._reason = code

    @staticmethod
    def _gone(machines: Machines, instance: Any) -> None:
        """End an instance: volumes and interfaces go as their flags say, its disk is removed."""
        if instance.state == "terminated":
            return
        reason = instance.state_reason
        instance.terminate()
        if reason is not None:
            instance.state_reason = reason
        request = instance.ec2_backend.spot_instance_requests.get(getattr(instance, "spot_instance_request_id", ""))
        if request is not None:
            request.state, request._status_code = "closed", "instance-terminated-by-user"
        machines.forget_instance(instance.id)

    def _change(self, listed: str, wanted: str, allowed: set[str], verb: str) -> tuple[list[Any], ActionResult]:
        """Bring instances into a passing state; give those that changed, and the answer."""
        self.error_on_dryrun()
        instances = self.ec2_backend.get_multi_instances_by_id(self._get_param("InstanceIds", []))
        for instance in instances:
            if instance.state not in allowed:
                raise ApiError(
                    "IncorrectInstanceState",
                    f"The instance '{instance.id}' is not in a state from which it can be {verb}.",
                )
            if wanted == "shutting-down" and instance.disable_api_termination:
                raise ApiError(
                    "OperationNotPermitted",
                    f"The instance '{instance.id}' may not be terminated. Modify its 'disableApiTermination' instance "
                    "attribute and try again.",
                )
            if wanted == "stopping" and getattr(instance, "lab_one_time", False):
                raise ApiError(
                    "UnsupportedOperation",
                    f"You can't stop the Spot Instance '{instance.id}' because it is associated with a one-time Spot "
                    "Instance request. You can only stop Spot Instances associated with persistent Spot Instance "
                    "requests.",
                )
        done = {"shutting-down": "terminated", "stopping": "stopped", "pending": "running"}[wanted]
        rows, changed = [], []
        for instance in instances:
            before = instance._state
            if before.name not in {wanted, done}:
                instance._state = InstanceState(wanted, STATES[wanted].code)
                changed.append(instance)
            rows.append({"InstanceId": instance.id, "CurrentState": instance._state, "PreviousState": before})
        return changed, ActionResult({listed: rows})

    def terminate_instances(self) -> ActionResult:
        """Terminate: shutting-down first, with its volumes and interfaces still there."""
        changed, answer = self._change("TerminatingInstances", "shutting-down", set(STATES), "terminated")
        for instance in changed:
            code = "Client.UserInitiatedShutdown"
            instance.state_reason = StateReason(f"{code}: User initiated shutdown", code)
            self.world.later(self.world.times.terminate, partial(self._gone, self.machines, instance))
        return answer

    def stop_instances(self) -> ActionResult:
        """Stop: stopping first."""
        allowed = {"running", "stopping", "stopped"}
        changed, answer = self._change("StoppingInstances", "stopping", allowed, "stopped")
        for instance in changed:
            self.machines.stop(instance)
            done = partial(self.machines.when_idle, instance, partial(self._stopped, instance))
            self.world.later(self.world.times.stop, done)
        return answer

    @staticmethod
    def _stopped(instance: Any) -> None:
        if instance.state == "stopping":
            instance.stop()

    def start_instances(self) -> ActionResult:
        """Start a stopped instance: pending first."""
        allowed = {"pending", "running", "stopped"}
        changed, answer = self._change("StartingInstances", "pending", allowed, "started")
        for instance in changed:
            for interface in instance.nics.values():
                interface.start()
            instance.state_reason, instance._reason = None, ""
            self.world.later(self.world.times.pending, partial(self._run, self.world, self.machines, instance))
        return answer

    def reboot_instances(self) -> ActionResult:
        """Reboot: the state stays `running`, the SSM agent is away for a while."""
        self.error_on_dryrun()
        for instance in self.ec2_backend.get_multi_instances_by_id(self._get_param("InstanceIds", [])):
            if instance.state != "running":
                raise ApiError("IncorrectState", f"The instance '{instance.id}' is not in the 'running' state.")
            self.machines.reboot(instance)
        return EmptyResult()

    def modify_instance_metadata_options(self) -> ActionResult:
        """Change only the options that are named, where moto resets the others."""
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        self.error_on_dryrun()
        for name in (
            *("HttpTokens", "HttpPutResponseHopLimit", "HttpEndpoint", "HttpProtocolIpv6"),
            "InstanceMetadataTags",
        ):
            if (value := self._get_param(name)) is not None:
                setattr(instance.metadata_options, camelcase_to_underscores(name), value)
        return ActionResult({"InstanceId": instance.id, "InstanceMetadataOptions": instance.metadata_options})

    def describe_instances(self) -> ActionResult:
        """Describe instances; a filter that moto lacks is refused, also while there is nothing to filter."""
        for name in self._filters_from_querystring():
            if name not in utils.filter_dict_attribute_mapping and not name.startswith("tag:") and name != "tag-key":
                raise NotImplementedError(f"DescribeInstances with the filter {name}")
        return super().describe_instances()

    def delete_security_group(self) -> ActionResult:
        """Delete a group, unless an interface still uses it."""
        group = self._get_param("GroupId")
        if group and any(
            group in {each.id for each in interface.group_set} for interface in self.ec2_backend.enis.values()
        ):
            raise ApiError("DependencyViolation", f"resource {group} has a dependent object")
        return super().delete_security_group()

    def delete_network_interface(self) -> ActionResult:
        """Delete an interface, unless it is attached."""
        interface = self.ec2_backend.enis.get(self._get_param("NetworkInterfaceId"))
        if interface is not None and interface.instance is not None and interface.instance.state != "terminated":
            raise ApiError(
                "InvalidNetworkInterface.InUse",
                f"Network interface '{interface.id}' is currently in use; it must be detached first.",
            )
        return super().delete_network_interface()

    def describe_instance_types(self) -> ActionResult:
        """Give the types a page at a time, as AWS does: serialising all 1,400 would take seconds."""
        names = self._get_param("InstanceTypes", [])
        if unknown := [name for name in names if name not in INSTANCE_TYPES]:
            shown = ", ".join(unknown)
            raise ApiError("InvalidInstanceType", f"The following supplied instance types do not exist: [{shown}]")
        filters = self._filters_from_querystring()
        found = self.ec2_backend.describe_instance_types(names, filters)
        return ActionResult(page(self.params, "InstanceTypes", found, token="NextToken", most="MaxResults"))  # noqa: S106
