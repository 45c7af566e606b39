"""EC2's side of publishing, which moto lacks or takes too easily: keys of copies, sharing, fast snapshot restore.

Each override has a contract test in `tests/lab/test_publishing.py` which names the documented behaviour it follows.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from moto.core.responses import ActionResult, EmptyResult

from leptonami.lab.ec2 import LabEC2
from leptonami.lab.wire import ApiError

__all__ = ["PublishingEC2"]

AWS_KEY = "alias/aws/ebs"
# https://docs.aws.amazon.com/ebs/latest/userguide/time-based-copies.html
SHORTEST_COPY_MIN, LONGEST_COPY_MIN, COPY_STEP_MIN = 15, 2_880, 15
# Five snapshots a Region, 60 min a TiB: https://docs.aws.amazon.com/ebs/latest/userguide/ebs-fast-snapshot-restore.html
RESTORES_MAX, OPTIMIZE_S_PER_GIB = 5, 3_600 / 1_024
COPY_PARAMETERS = {
    *("ClientToken", "CopyImageTags", "Description", "DryRun", "Encrypted", "KmsKeyId", "Name", "SourceImageId"),
    *("SourceRegion", "SnapshotCopyCompletionDurationMinutes", "TagSpecifications"),
}


class PublishingEC2(LabEC2):
    """The lab's EC2 with what publishing an image needs."""

    # Keys -----------------------------------------------------------------------------------------------------------

    def get_ebs_default_kms_key_id(self) -> ActionResult:
        """Name the default key for EBS: an alias as long as nobody has changed it."""
        chosen = self.ec2_backend.__dict__.get("lab_default_key")
        return ActionResult({"KmsKeyId": chosen or AWS_KEY})

    def modify_ebs_default_kms_key_id(self) -> ActionResult:
        """Take another default key. The lab has no KMS, so any key exists."""
        key = self._arn(self._get_param("KmsKeyId", ""))
        self.ec2_backend.lab_default_key = self.ec2_backend.default_kms_key_id = key
        return ActionResult({"KmsKeyId": key})

    def reset_ebs_default_kms_key_id(self) -> ActionResult:
        """Go back to AWS's own key."""
        self.ec2_backend.lab_default_key = None
        self.ec2_backend._create_default_encryption_key()
        return ActionResult({"KmsKeyId": AWS_KEY})

    def _arn(self, key: str) -> str:
        """Give the ARN of a key, as DescribeSnapshots shows it; made up for an alias."""
        if key.startswith("arn:") and ":key/" in key:
            return key
        if key.startswith(AWS_KEY):
            managed: str = self.ec2_backend._create_default_encryption_key()
            return managed
        name = key.rpartition(":")[2]
        made = name if not name.startswith("alias/") else str(uuid5(NAMESPACE_URL, f"{self.region} {name}"))
        return f"arn:aws:kms:{self.region}:{self.current_account}:key/{made}"

    def _is_awss(self, key: str | None) -> bool:
        """Tell whether a key is the one that AWS manages, which nobody can share."""
        from moto.kms.models import kms_backends

        kms = kms_backends[self.current_account][self.region]
        return key is not None and (
            key.endswith(AWS_KEY) or (kms.alias_exists(AWS_KEY) and key == kms.describe_key(AWS_KEY).arn)
        )

    # Copies ---------------------------------------------------------------------------------------------------------

    def copy_image(self) -> ActionResult:
        """Copy an image with the key and within the time that are asked for."""
        if extra := set(self.params) - COPY_PARAMETERS:
            raise NotImplementedError(f"CopyImage with {', '.join(sorted(extra))}")
        key, minutes = self._get_param("KmsKeyId"), self._get_param("SnapshotCopyCompletionDurationMinutes")
        if key and not self._get_param("Encrypted", False):
            raise ApiError("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted.")
        if minutes is not None and (
            not SHORTEST_COPY_MIN <= int(minutes) <= LONGEST_COPY_MIN or int(minutes) % COPY_STEP_MIN
        ):
            raise ApiError(
                "InvalidParameterValue",
                f"Invalid value '{minutes}' for completion duration: 15 to 2880 minutes in increments of 15.",
            )
        answer = super().copy_image()
        image = self.ec2_backend.amis[answer.result["ImageId"]]  # type: ignore[index]
        for snapshot in image.snapshots:
            if key:
                snapshot.kms_key_id = self._arn(key)
            snapshot.lab_minutes = None if minutes is None else int(minutes)
        return answer

    # Sharing --------------------------------------------------------------------------------------------------------

    def modify_image_attribute(self) -> ActionResult:
        """Share an image, unless its snapshots have a key that cannot be shared."""
        image = self._image(self._get_param("ImageId", ""))
        sharing = bool(self._get_param("LaunchPermission.Add", [])) or self._get_param("OperationType") == "add"
        if sharing and any(each.encrypted and self._is_awss(each.kms_key_id) for each in image.snapshots):
            # The documentation says that it cannot be done, not with which error.
            raise ApiError(
                "OperationNotPermitted",
                f"The image {image.id} has snapshots that are encrypted with the AWS managed key and cannot be shared.",
            )
        return super().modify_image_attribute()

    def modify_snapshot_attribute(self) -> ActionResult:
        """Let others make volumes, unless the key cannot be shared; an encrypted snapshot is never public."""
        snapshot = self.ec2_backend.get_snapshot(self._get_param("SnapshotId"))
        if snapshot.owner_id != self.current_account:
            raise ApiError("AuthFailure", f"Not authorized for snapshot:{snapshot.id}", 403)
        added = self._get_param("CreateVolumePermission.Add", [])
        groups = [*self._get_param("GroupNames", []), *(each["Group"] for each in added if "Group" in each)]
        users = [*self._get_param("UserIds", []), *(each["UserId"] for each in added if "UserId" in each)]
        adding = bool(added) or self._get_param("OperationType") == "add"
        if adding and snapshot.encrypted and (groups or self._is_awss(snapshot.kms_key_id)):
            what = "cannot be public" if groups else "with the EBS default key cannot be shared"
            raise ApiError("OperationNotPermitted", f"Encrypted snapshots {what}")
        if added:
            self.error_on_dryrun()
            self.ec2_backend.add_create_volume_permission(snapshot.id, user_ids=users, groups=groups)
            return EmptyResult()
        return super().modify_snapshot_attribute()

    def enable_image_deprecation(self) -> ActionResult:
        """Note a date of deprecation, unless it has passed."""
        when = self._get_param("DeprecateAt")
        known = when if when.tzinfo else when.replace(tzinfo=UTC)
        if known <= datetime.now(UTC):
            raise ApiError("InvalidParameterValue", "The deprecation date must be in the future.")
        return super().enable_image_deprecation()

    # Fast snapshot restore ------------------------------------------------------------------------------------------

    @property
    def _restores(self) -> dict[tuple[str, str], dict[str, Any]]:
        restores: dict[tuple[str, str], dict[str, Any]] = self.ec2_backend.__dict__.setdefault("lab_restores", {})
        return restores

    def enable_fast_snapshot_restores(self) -> ActionResult:
        """Enable it for each snapshot in each zone: enabling, optimizing (60 min a TiB), enabled."""
        zones = {each.name for each in self.ec2_backend.describe_availability_zones()}
        self.error_on_dryrun()
        done: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for name in self._get_param("SourceSnapshotIds", []):
            snapshot = self.ec2_backend.get_snapshot(name)
            errors = []
            for zone in self._get_param("AvailabilityZones", []):
                used = {key[0] for key, each in self._restores.items() if each["State"] != "disabled"}
                code = None
                if zone not in zones:
                    code, text = "InvalidParameterValue", f"Invalid availability zone: {zone}"
                elif name not in used and len(used) >= RESTORES_MAX:
                    # The quota is documented, the code is not.
                    code, text = "FastSnapshotRestoreLimitExceeded", f"limit of {RESTORES_MAX} snapshots reached"
                if code is not None:
                    errors.append({"AvailabilityZone": zone, "Error": {"Code": code, "Message": text}})
                    continue
                row = self._restores.setdefault((name, zone), {"State": "disabled"})
                if row["State"] == "disabled":
                    row |= {
                        "SnapshotId": name,
                        "AvailabilityZone": zone,
                        "OwnerId": self.current_account,
                        "State": "enabling",
                        "StateTransitionReason": "Client.UserInitiated",
                    }
                    took = self.world.scaled(OPTIMIZE_S_PER_GIB * snapshot.volume_size)
                    self.world.later(took / 10, partial(self._advance, row, "enabling", "optimizing"))
                    self.world.later(took, partial(self._advance, row, "optimizing", "enabled"))
                done.append(dict(row))
            if errors:
                failed.append({"SnapshotId": name, "FastSnapshotRestoreStateErrors": errors})
        return ActionResult({"Successful": done, "Unsuccessful": failed})

    @staticmethod
    def _advance(row: dict[str, Any], before: str, after: str) -> None:
        if row["State"] == before:
            row["State"] = after

    def disable_fast_snapshot_restores(self) -> ActionResult:
        """End it."""
        self.error_on_dryrun()
        done = []
        for name in self._get_param("SourceSnapshotIds", []):
            for zone in self._get_param("AvailabilityZones", []):
                row = self._restores.pop((name, zone), None)
                if row is not None:
                    done.append({**row, "State": "disabling"})
        return ActionResult({"Successful": done, "Unsuccessful": []})

    def describe_fast_snapshot_restores(self) -> ActionResult:
        """List them by snapshot, zone and state."""
        wanted = {each["Name"]: each["Values"] for each in self._get_param("Filters", [])}
        columns = {"snapshot-id": "SnapshotId", "availability-zone": "AvailabilityZone", "state": "State"}
        if unknown := set(wanted) - set(columns):
            raise NotImplementedError(f"DescribeFastSnapshotRestores with the filter {', '.join(sorted(unknown))}")
        rows = [
            row
            for (name, _), row in self._restores.items()
            if name in self.ec2_backend.snapshots and all(row[columns[key]] in values for key, values in wanted.items())
        ]
        return ActionResult({"FastSnapshotRestores": rows})
