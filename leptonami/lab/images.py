"""EC2's images, where moto differs from AWS: pending for a while, with their instance's disks, tags and attributes.

Each override has a contract test in `tests/lab/test_ec2.py` which names the documented behaviour it follows.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, ClassVar

from moto.core.responses import ActionResult
from moto.ec2.models import ec2_backends
from moto.ec2.responses import EC2Response

from leptonami.lab import disks, node
from leptonami.lab.authorize import may_delete
from leptonami.lab.disks import LabAmi
from leptonami.lab.machines import Machines
from leptonami.lab.wire import ApiError
from leptonami.lab.world import World

__all__ = ["Images"]

# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeImageAttribute.html: LastLaunchedTime
DAY_S = 86_400.0
IMAGE_ID = re.compile(r"ami-(?:[0-9a-f]{8}|[0-9a-f]{17})")
IMAGE_NAME = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]{3,128}")


class Images(EC2Response):
    """EC2 with the lab's images."""

    world: ClassVar[World]
    machines: ClassVar[Machines]

    def _image(self, image: str) -> LabAmi:
        if not IMAGE_ID.fullmatch(image):
            raise ApiError("InvalidAMIID.Malformed", f'Invalid id: "{image}" (expecting "ami-...")')
        found = self.ec2_backend.amis.get(image)
        if found is None:
            raise ApiError("InvalidAMIID.NotFound", f"The image id '[{image}]' does not exist")
        return found  # type: ignore[no-any-return]

    def _own_image(self) -> LabAmi:
        """Find the image that a request names; it must be one's own."""
        found = self._image(self._get_param("ImageId", ""))
        if found.owner_id != self.current_account:
            raise ApiError("AuthFailure", f"Not authorized for image:{found.id}", 403)
        return found

    def _launchable(self, image: str) -> LabAmi:
        found = self._image(image)
        if found.state != "available":
            raise ApiError("InvalidAMIID.Unavailable", f"The image ID '{image}' is not available")
        return found

    def _encrypt_all(self) -> bool:
        return bool(self.ec2_backend.ebs_encryption_by_default)

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

    def lacking(self) -> ActionResult:
        """Refuse: moto would make an image without the disks that were named, and shows a console recorded in 2006."""
        raise NotImplementedError

    register_image = get_console_output = lacking

    def deregister_image(self) -> ActionResult:
        """Deregister, unless protected; the snapshots stay unless the request names them too."""
        if self._get_param("ImageId") in self.ec2_backend.deleted_amis:
            return super().deregister_image()
        image = self._own_image()
        if image.deregistration_protection.startswith("enabled"):
            raise ApiError(
                "OperationNotPermitted", f"The image '{image.id}' is protected from deregistration. Disable it first."
            )
        super().deregister_image()
        deleted = []
        for snapshot in image.snapshots:
            # Freed from its image first, which is what keeps a snapshot from being deleted.
            snapshot.from_ami = None
            if not self._get_param("DeleteAssociatedSnapshots", False):
                continue
            if may_delete(self, snapshot.id):
                self.ec2_backend.delete_snapshot(snapshot.id)
                deleted.append({"SnapshotId": snapshot.id, "ReturnCode": "success"})
            else:
                deleted.append({"SnapshotId": snapshot.id, "ReturnCode": "missing-permissions"})
        self.machines.forget_image(image.id)
        return ActionResult({"Return": True, **({"DeleteSnapshotResults": deleted} if deleted else {})})

    def describe_images(self) -> ActionResult:
        """Describe images; an id that is unknown or malformed is an error, also beside known ones."""
        for image in self._get_param("ImageIds", []):
            if image not in self.ec2_backend.deleted_amis:
                self._image(image)
        answer = super().describe_images()
        if not self._get_param("IncludeDisabled", False):
            found: Any = answer.result
            answer = ActionResult({**found, "Images": [each for each in found["Images"] if each.state != "disabled"]})
        return answer

    def disable_image(self) -> ActionResult:
        """Disable an image of one's own: nobody else may use it any more, and lists leave it out."""
        image = self._own_image()
        answer = super().disable_image()
        image.launch_permissions.clear()
        return answer

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
        image = self._own_image()
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
            case "lastLaunchedTime":
                # A launch is reported a day later, by the clock of AWS; the time is left out if there was none.
                told = self.world.clock() - self.world.scaled(DAY_S)
                launched = [when for when, at in image.lab_launches if at <= told]
                last = {"Value": launched[-1]} if launched else {}
                return ActionResult({"ImageId": image.id, "LastLaunchedTime": last})
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
