"""EC2, where moto differs from AWS in a way that matters to a build: launches, images, disks, states over time.

Each override has a contract test in `tests/lab/test_ec2.py` which names the documented behaviour it follows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import partial
from typing import Any, ClassVar

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.models import ec2_backends
from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS, INSTANCE_TYPES
from moto.ec2.models.instances import InstanceState, StateReason
from moto.ec2.models.spot_requests import SpotInstanceRequest
from moto.ec2.responses import EC2Response
from moto.ec2.utils import filter_dict_attribute_mapping, random_spot_request_id
from moto.ssm.models import ssm_backends

from leptonami.lab import disks, node
from leptonami.lab.disks import LabAmi
from leptonami.lab.iam import usable_profile
from leptonami.lab.inuse import InUse
from leptonami.lab.machines import Machines
from leptonami.lab.wire import ApiError
from leptonami.lab.world import ACCOUNT, World

__all__ = ["LabEC2", "every_instance"]

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
filter_dict_attribute_mapping.update({"client-token": "client_token", "instance-lifecycle": "lifecycle"})
IMAGE_ID = re.compile(r"ami-(?:[0-9a-f]{8}|[0-9a-f]{17})")
IMAGE_NAME = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]{3,128}")


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


class LabEC2(InUse, EC2Response):
    """EC2 with the lab's behaviour; everything else is moto's."""

    world: ClassVar[World]
    machines: ClassVar[Machines]
    tokens: ClassVar[dict[tuple[str, str, str], tuple[str, Any]]] = {}

    def call_action(self) -> Any:
        """Answer; a client token that was used before gets the answer it got then."""
        token = self._get_param("ClientToken")
        if not token or self._get_param("DryRun"):
            return super().call_action()
        rest = {name: value for name, value in self.params.items() if name != "ClientToken"}
        print_ = json.dumps(rest, sort_keys=True, default=str)
        key = (self.region, self._get_action(), token)
        if key in self.tokens:
            before, answer = self.tokens[key]
            if before != print_:
                raise ApiError(
                    "IdempotentParameterMismatch",
                    "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
                )
            status, headers, body = answer
            return status, dict(headers), body
        answer = super().call_action()
        if answer[0] < 300:
            self.tokens[key] = (print_, (answer[0], dict(answer[1]), answer[2]))
        return answer

    # Launching ------------------------------------------------------------------------------------------------------

    def run_instances(self) -> ActionResult:
        """Launch: what AWS would refuse is refused, disks and interfaces come out as asked for, states take time."""
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
        for instance in reservation.instances:
            self._finish_launch(instance, image, tags)
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

    def _image(self, image: str) -> LabAmi:
        if not IMAGE_ID.fullmatch(image):
            raise ApiError("InvalidAMIID.Malformed", f'Invalid id: "{image}" (expecting "ami-...")')
        found = self.ec2_backend.amis.get(image)
        if found is None:
            raise ApiError("InvalidAMIID.NotFound", f"The image id '[{image}]' does not exist")
        return found  # type: ignore[no-any-return]

    def _launchable(self, image: str) -> LabAmi:
        found = self._image(image)
        if found.state != "available":
            raise ApiError("InvalidAMIID.Unavailable", f"The image ID '{image}' is not available")
        return found

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

    def _encrypt_all(self) -> bool:
        return bool(self.ec2_backend.ebs_encryption_by_default)

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
            random_spot_request_id(),
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
        names = ("HttpTokens", "HttpPutResponseHopLimit", "HttpEndpoint", "HttpProtocolIpv6", "InstanceMetadataTags")
        attributes = (
            *("http_tokens", "http_put_response_hop_limit", "http_endpoint"),
            *("http_protocol_ipv6", "instance_metadata_tags"),
        )
        for name, attribute in zip(names, attributes, strict=True):
            if (value := self._get_param(name)) is not None:
                setattr(instance.metadata_options, attribute, value)
        return ActionResult({"InstanceId": instance.id, "InstanceMetadataOptions": instance.metadata_options})

    def describe_instances(self) -> ActionResult:
        """Describe instances; a filter that moto lacks is refused, also while there is nothing to filter."""
        for name in self._filters_from_querystring():
            if name not in filter_dict_attribute_mapping and not name.startswith("tag:") and name != "tag-key":
                raise NotImplementedError(f"DescribeInstances with the filter {name}")
        return super().describe_instances()

    def get_console_output(self) -> ActionResult:
        """Say that there is no console, where moto shows one recorded in 2006."""
        import base64

        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        text = f"leptonami lab: {instance.id} is simulated and has no console\n"
        return ActionResult({"InstanceId": instance.id, "Output": base64.b64encode(text.encode()).decode()})

    def delete_security_group(self) -> ActionResult:
        """Delete a group, unless an interface still uses it."""
        group = self._get_param("GroupId")
        if group and any(
            group in {each.id for each in interface.group_set} for interface in self.ec2_backend.enis.values()
        ):
            raise ApiError("DependencyViolation", f"resource {group} has a dependent object")
        return super().delete_security_group()

    def describe_instance_types(self) -> ActionResult:
        """Give the types a page at a time, as AWS does: serialising all 1,400 would take seconds."""
        names = self._get_param("InstanceTypes", [])
        if unknown := [name for name in names if name not in INSTANCE_TYPES]:
            shown = ", ".join(unknown)
            raise ApiError("InvalidInstanceType", f"The following supplied instance types do not exist: [{shown}]")
        filters = self._filters_from_querystring()
        start = int(self._get_param("NextToken", "0"))
        size = int(self._get_param("MaxResults", 100))
        found = self.ec2_backend.describe_instance_types(names, filters)
        more = {"NextToken": str(start + size)} if start + size < len(found) else {}
        return ActionResult({"InstanceTypes": found[start : start + size], **more})

    # Images ---------------------------------------------------------------------------------------------------------

    def _free_name(self, name: str) -> None:
        if not IMAGE_NAME.fullmatch(name):
            raise ApiError(
                "InvalidAMIName.Malformed",
                "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, '(', ')', "
                "'.', '-', '/' and '_'",
            )
        for image in self.ec2_backend.amis.values():
            if image.name == name and image.owner_id == self.current_account:
                raise ApiError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {image.id}")

    def _tags_for(self, *kinds: str) -> dict[str, dict[str, str]]:
        tags = self._parse_tag_specification()
        for kind in tags:
            if kind not in kinds:
                raise ApiError(
                    "InvalidParameterValue", f"'{kind}' is not a valid taggable resource type for this operation."
                )
        return tags

    def create_image(self) -> ActionResult:
        """Make an image: pending first, with its disks as the instance has them, tags on image and snapshots."""
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        name = self._get_param("Name", "")
        self._free_name(name)
        tags = self._tags_for("image", "snapshot")
        if instance.state not in {"running", "stopped"}:
            raise ApiError(
                "IncorrectState", f"The instance '{instance.id}' is in an invalid state ({instance.state}) for this."
            )
        self.error_on_dryrun()
        image = disks.image_of(
            self.ec2_backend,
            instance,
            self.ec2_backend.amis.get(instance.image_id),
            name=name,
            text=self._get_param("Description", ""),
            snapshot_tags=tags.get("snapshot", {}),
        )
        image.add_tags(tags.get("image", {}))
        keep = partial(self.machines.keep, instance.id, image.id)
        if instance.state == "running" and not self._get_param("NoReboot", False):
            # AWS shuts it down, takes the snapshots, and lets it boot again.
            self.machines.reboot(instance, partial(node.stop, instance.lab_machine), keep)
        else:
            self.machines.work(instance, keep)
        self._pending(image, instance)
        return ActionResult({"ImageId": image.id})

    def _pending(self, image: LabAmi, instance: Any = None) -> None:
        """Let an image and its snapshots be pending for their time, and until its instance's disk has been copied."""
        self.ec2_backend.amis[image.id] = image
        failing = self.world.faults.hit("image-fails") is not None
        image.state = "pending"
        begun = self.world.clock()
        done = partial(disks.settle, image, failing)
        if instance is not None:
            done = partial(self.machines.when_idle, instance, done)
        due = self.world.later(self.world.times.image, done)
        for snapshot in image.snapshots:
            snapshot.pend(self.world.clock, begun, due)

    def copy_image(self) -> ActionResult:
        """Copy an image from another region or this one, with its disk, encrypted if asked for, tagged if asked for."""
        source_region, source = self._get_param("SourceRegion"), self._get_param("SourceImageId")
        origin = ec2_backends[self.current_account][source_region]
        found: Any = origin.amis.get(source)
        if found is None:
            raise ApiError("InvalidAMIID.NotFound", f"The image id '[{source}]' does not exist")
        if found.state != "available":
            raise ApiError("InvalidAMIID.Unavailable", f"The image ID '{source}' is not available")
        name = self._get_param("Name", "")
        self._free_name(name)
        tags = self._tags_for("image", "snapshot")
        self.error_on_dryrun()
        image = disks.copy_of(
            self.ec2_backend,
            found,
            name,
            self._get_param("Description") or found.description,
            encrypted=bool(self._get_param("Encrypted", False)) or self._encrypt_all(),
            snapshot_tags=tags.get("snapshot", {}),
        )
        image.source_image_id, image.source_image_region = source, source_region
        if self._get_param("CopyImageTags", False):
            image.add_tags({each["key"]: each["value"] for each in found.get_tags()})
        image.add_tags(tags.get("image", {}))
        self.machines.copy_image(source, image.id)
        self._pending(image)
        return ActionResult({"ImageId": image.id})

    def register_image(self) -> ActionResult:
        """Refuse: moto would make an image without the disks that were named."""
        raise NotImplementedError("RegisterImage")

    def deregister_image(self) -> ActionResult:
        """Deregister, unless protected; the snapshots stay unless the request names them too."""
        image = self.ec2_backend.amis.get(self._get_param("ImageId"))
        if image is not None and image.deregistration_protection.startswith("enabled"):
            raise ApiError(
                "OperationNotPermitted", f"The image '{image.id}' is protected from deregistration. Disable it first."
            )
        if image is not None and image.owner_id != self.current_account:
            raise ApiError("AuthFailure", f"Not authorized for image:{image.id}", 403)
        answer = super().deregister_image()
        if image is None:
            return answer
        deleted = []
        for snapshot in image.snapshots:
            # Freed from its image first, which is what keeps a snapshot from being deleted.
            snapshot.from_ami = None
            if self._get_param("DeleteAssociatedSnapshots", False):
                self.ec2_backend.delete_snapshot(snapshot.id)
                deleted.append({"SnapshotId": snapshot.id, "ReturnCode": "success"})
        self.machines.forget_image(image.id)
        return ActionResult({"Return": True, **({"DeleteSnapshotResults": deleted} if deleted else {})})

    def describe_images(self) -> ActionResult:
        """Describe images; an id that is unknown or malformed is an error, also beside known ones."""
        for image in self._get_param("ImageIds", []):
            if image not in self.ec2_backend.deleted_amis:
                self._image(image)
        return super().describe_images()

    def describe_snapshots(self) -> ActionResult:
        """Describe snapshots one owns, as AWS does without further ado: those of public images are not among them."""
        owners = [self.current_account if each == "self" else each for each in self._get_param("OwnerIds", [])]
        found = self.ec2_backend.describe_snapshots(
            snapshot_ids=self._get_param("SnapshotIds", []), filters=self._filters_from_querystring()
        )
        mine = [each for each in found if each.owner_id in (owners or [self.current_account])]
        mine = [each for each in mine if each.owner_id == self.current_account]
        if len(mine) < len(found) and self._get_param("SnapshotIds"):
            hidden = next(each.id for each in found if each not in mine)
            raise ApiError("InvalidSnapshot.NotFound", f"The snapshot '{hidden}' does not exist.")
        return ActionResult({"Snapshots": mine})

    def modify_image_attribute(self) -> ActionResult:
        """Change an attribute: the ones moto drops silently are kept, those the lab lacks are refused."""
        image = self._image(self._get_param("ImageId", ""))
        if image.owner_id != self.current_account:
            raise ApiError("AuthFailure", f"Not authorized for image:{image.id}", 403)
        known = {"ImageId", "DryRun", "Attribute", "Value", "Description", "ImdsSupport", "LaunchPermission"}
        known |= {"OperationType", "UserIds", "UserGroups", "OrganizationArns", "OrganizationalUnitArns"}
        if extra := set(self.params) - known:
            raise NotImplementedError(f"ModifyImageAttribute with {', '.join(sorted(extra))}")
        self.error_on_dryrun()
        added = [
            *self._get_param("LaunchPermission.Add", []),
            *({"Group": g} for g in self._get_param("UserGroups", [])),
        ]
        block = self.ec2_backend.__dict__.get("lab_block_public", "block-new-sharing")
        public = any(each.get("Group") == "all" for each in added)
        if public and block != "unblocked" and self._get_param("OperationType") != "remove":
            raise ApiError(
                "OperationNotPermitted",
                "You can't publicly share this image because block public access for AMIs is enabled.",
            )
        attribute = self._get_param("Attribute")
        if support := self._get_param("ImdsSupport.Value") or (attribute == "imdsSupport" and self._get_param("Value")):
            image.imds_support = support
        if text := self._get_param("Description.Value") or (attribute == "description" and self._get_param("Value")):
            image.description = text
        return super().modify_image_attribute()

    def describe_image_attribute(self) -> ActionResult:
        """Describe an attribute, with the ones that moto has under no name."""
        image = self._image(self._get_param("ImageId", ""))
        match self._get_param("Attribute"):
            case "imdsSupport":
                value = {"Value": image.imds_support} if image.imds_support else {}
                return ActionResult({"ImageId": image.id, "ImdsSupport": value})
            case "deregistrationProtection":
                return ActionResult(
                    {"ImageId": image.id, "DeregistrationProtection": {"Value": image.deregistration_protection}}
                )
            case "description":
                return ActionResult({"ImageId": image.id, "Description": {"Value": image.description}})
            case "launchPermission":
                return super().describe_image_attribute()
            case other:
                raise NotImplementedError(f"DescribeImageAttribute {other}")

    def enable_image_deprecation(self) -> ActionResult:
        """Note when an image is to be deprecated; DescribeImages shows it as DeprecationTime."""
        image = self._image(self._get_param("ImageId", ""))
        self.error_on_dryrun()
        # AWS rounds to the minute, and refuses a date in the past.
        when = self._get_param("DeprecateAt").replace(second=0, microsecond=0)
        image.deprecation_time = when.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return ActionResult({"Return": True})

    def disable_image_deprecation(self) -> ActionResult:
        """Take the deprecation back."""
        self._image(self._get_param("ImageId", "")).deprecation_time = None
        return ActionResult({"Return": True})

    def enable_image_deregistration_protection(self) -> ActionResult:
        """Protect an image from deregistration."""
        image = self._image(self._get_param("ImageId", ""))
        cooldown = self._get_param("WithCooldown", False)
        image.deregistration_protection = "enabled-with-cooldown" if cooldown else "enabled"
        return ActionResult({"Return": image.deregistration_protection})

    def disable_image_deregistration_protection(self) -> ActionResult:
        """Take the protection back."""
        image = self._image(self._get_param("ImageId", ""))
        image.deregistration_protection = "disabled"
        return ActionResult({"Return": "disabled"})

    def get_image_block_public_access_state(self) -> ActionResult:
        """Tell whether images may be shared with everybody; new accounts block it."""
        state = self.ec2_backend.__dict__.get("lab_block_public", "block-new-sharing")
        return ActionResult({"ImageBlockPublicAccessState": state, "ManagedBy": "account"})

    def enable_image_block_public_access(self) -> ActionResult:
        """Block sharing with everybody."""
        self.ec2_backend.lab_block_public = "block-new-sharing"
        return ActionResult({"ImageBlockPublicAccessState": "block-new-sharing"})

    def disable_image_block_public_access(self) -> ActionResult:
        """Allow sharing with everybody."""
        self.ec2_backend.lab_block_public = "unblocked"
        return ActionResult({"ImageBlockPublicAccessState": "unblocked"})
