"""Images and volumes as EBS has them: sizes, types, encryption and progress, which moto makes up.

An image's devices come from the volumes of its instance, an instance's volumes from the devices of its image with the
request's changes laid over them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.ec2.models.amis import Ami
from moto.ec2.models.elastic_block_store import Snapshot, Volume
from moto.ec2.utils import random_ami_id, random_snapshot_id, random_volume_id

from leptonami.lab.wire import ApiError

__all__ = ["LabAmi", "LabSnapshot", "base_image", "copy_of", "finish", "image_of", "overlay", "settle"]

GP3_IOPS, GP3_THROUGHPUT = 3000, 125


class LabSnapshot(Snapshot):
    """A snapshot whose progress follows the clock."""

    _clock: Callable[[], float] | None = None
    _begun = 0.0
    _due = 0.0

    def pend(self, clock: Callable[[], float], begun: float, due: float) -> None:
        """Be pending until an image's agenda says otherwise."""
        self.status = "pending"
        self._clock, self._begun, self._due = clock, begun, due

    @property
    def progress(self) -> str:
        """Give how much has been copied, such as `42%`."""
        if self.status == "completed" or self._clock is None:
            return "100%"
        share = (self._clock() - self._begun) / max(self._due - self._begun, 1e-9)
        return f"{min(int(share * 100), 99)}%"


class LabAmi(Ami):
    """An image with the devices it was made with, and the attributes that AWS shows."""

    def __init__(self, backend: Any, ami_id: str, **known: Any) -> None:
        super().__init__(backend, ami_id, **known)
        # moto makes a snapshot of 15 GiB for every image; ours come from the volumes.
        backend.snapshots.pop(self.ebs_snapshot.id)
        self.devices: list[dict[str, Any]] = []
        self.snapshots: list[LabSnapshot] = []
        self.imds_support: str | None = None
        self.deprecation_time: str | None = None
        self.deregistration_protection = "disabled"
        self.ena_support = True
        self.platform_details = "Linux/UNIX"
        self.usage_operation = "RunInstances"
        self.state_reason: dict[str, str] | None = None
        self.source_image_id: str | None = None
        self.source_image_region: str | None = None
        self.image_owner_alias: str | None = None
        self.lab_release: Any = None
        # When it was launched: for people, and by the lab's clock.
        self.lab_launches: list[tuple[str, float]] = []

    def device(self, name: str, snapshot: LabSnapshot, **settings: Any) -> None:
        """Add a device with its snapshot."""
        self.devices.append({"DeviceName": name, **settings, "snapshot": snapshot})
        self.snapshots.append(snapshot)
        if name == self.root_device_name:
            self.ebs_snapshot = snapshot

    @property
    def block_device_mappings(self) -> list[dict[str, Any]]:
        """Give the devices as DescribeImages shows them."""
        return [
            {
                "DeviceName": each["DeviceName"],
                "Ebs": {
                    "SnapshotId": each["snapshot"].id,
                    "VolumeSize": each["snapshot"].volume_size,
                    "Encrypted": each["snapshot"].encrypted,
                    **{
                        key: each[key]
                        for key in ("VolumeType", "DeleteOnTermination", "Iops", "Throughput")
                        if each.get(key) is not None
                    },
                },
            }
            for each in self.devices
        ]

    def get_filter_value(self, filter_name: str, method_name: str | None = None) -> Any:
        """Know a few filters that moto does not, and the right form of the creation date."""
        match filter_name:
            case "creation-date":
                return self.creation_date.strftime("%Y-%m-%dT%H:%M:%S.000Z")
            case "root-device-type" | "root-device-name" | "image-type" | "hypervisor" | "description":
                return getattr(self, filter_name.replace("-", "_"))
            case "ena-support":
                return "true"
        return super().get_filter_value(filter_name, method_name)


def take_snapshot(backend: Any, volume: Any, text: str, *, owner: str, image: str, snapshot_id: str) -> LabSnapshot:
    """Make the snapshot of a volume for an image."""
    made = LabSnapshot(
        backend,
        snapshot_id,
        volume,
        text,
        encrypted=volume.encrypted,
        kms_key_id=volume.kms_key_id,
        owner_id=owner,
        from_ami=image,
    )
    backend.snapshots[made.id] = made
    return made


def image_of(
    backend: Any, instance: Any, base: LabAmi | None, *, name: str, text: str, snapshot_tags: dict[str, str]
) -> LabAmi:
    """Make the image of an instance from its volumes as they are."""
    image = LabAmi(
        backend,
        random_ami_id(),
        instance=instance,
        name=name,
        description=text,
        root_device_type="ebs",
        root_device_name=instance.root_device_name,
        image_location=f"{backend.account_id}/{name}",
        hypervisor="xen",
        boot_mode=base.boot_mode if base else "uefi-preferred",
    )
    image.imds_support = base.imds_support if base else None
    image.source_image_id = instance.image_id
    image.source_image_region = backend.region_name
    image.lab_release = base.lab_release if base else None
    for device_name, device in instance.get_block_device_mapping:
        volume = backend.volumes[device.volume_id]
        snapshot = take_snapshot(
            backend,
            volume,
            f"Created by CreateImage({instance.id}) for {image.id}",
            owner=backend.account_id,
            image=image.id,
            snapshot_id=random_snapshot_id(),
        )
        snapshot.add_tags(snapshot_tags)
        image.device(
            device_name,
            snapshot,
            VolumeType=volume.volume_type,
            DeleteOnTermination=device.delete_on_termination,
            Iops=volume.iops,
            Throughput=volume.throughput,
        )
    return image


def copy_of(
    backend: Any, source: LabAmi, name: str, text: str | None, *, encrypted: bool, snapshot_tags: dict[str, str]
) -> LabAmi:
    """Make a copy of an image, with snapshots of its own."""
    image = LabAmi(
        backend,
        random_ami_id(),
        source_ami=source,
        name=name,
        description=text,
        root_device_type=source.root_device_type,
        root_device_name=source.root_device_name,
        image_location=f"{backend.account_id}/{name}",
        hypervisor="xen",
        boot_mode=source.boot_mode,
    )
    image.imds_support, image.lab_release = source.imds_support, source.lab_release
    for each in source.devices:
        origin = each["snapshot"]
        volume = free_volume(backend, origin.volume_size, encrypted=encrypted or origin.encrypted)
        made = take_snapshot(
            backend,
            volume,
            f"Copied for DestinationAmi {image.id} from SourceAmi {source.id} for SourceSnapshot {origin.id}.",
            owner=backend.account_id,
            image=image.id,
            snapshot_id=random_snapshot_id(),
        )
        made.add_tags(snapshot_tags)
        settings = {key: value for key, value in each.items() if key not in {"DeviceName", "snapshot"}}
        image.device(each["DeviceName"], made, **settings)
    return image


def base_image(backend: Any, ami_id: str, devices: list[tuple[str, int, str]], **known: Any) -> LabAmi:
    """Make a public image with devices of (name, GiB, snapshot id), all gp3 and deleted with the instance."""
    image = LabAmi(backend, ami_id, root_device_type="ebs", hypervisor="xen", public=True, **known)
    for name, size, snapshot_id in devices:
        volume = free_volume(backend, size, encrypted=False)
        snapshot = take_snapshot(backend, volume, "", owner=image.owner_id, image=ami_id, snapshot_id=snapshot_id)
        image.device(
            name,
            snapshot,
            VolumeType="gp3",
            DeleteOnTermination=True,
            Iops=GP3_IOPS,
            Throughput=GP3_THROUGHPUT,
        )
    backend.amis[ami_id] = image
    return image


def free_volume(backend: Any, size: int, *, encrypted: bool) -> Volume:
    """Make the volume that a snapshot remembers and that is there no more."""
    key = None
    if encrypted:
        key = backend.default_kms_key_id or backend._create_default_encryption_key()
    # moto leaves a few of its base class's methods open, which only mypy minds.
    make: Any = Volume
    made: Volume = make(backend, random_volume_id(), size, zone=None, encrypted=encrypted, kms_key_id=key)
    return made


def settle(image: LabAmi, failing: bool) -> None:
    """End an image's being pending."""
    if image.state != "pending":
        return
    image.state = "failed" if failing else "available"
    if failing:
        image.state_reason = {"Code": "Server.InternalError", "Message": "a fault that the lab was asked for"}
    for snapshot in image.snapshots:
        snapshot.status = "error" if failing else "completed"


def overlay(image: LabAmi, asked: list[dict[str, Any]], encrypt_all: bool) -> list[dict[str, Any]]:
    """Lay a request's block device mappings over an image's, and refuse what AWS refuses."""
    merged: dict[str, dict[str, Any]] = {
        each["DeviceName"]: {"DeviceName": each["DeviceName"], "Ebs": dict(each["Ebs"])}
        for each in image.block_device_mappings
    }
    for mapping in asked:
        name = mapping.get("DeviceName", "")
        if "NoDevice" in mapping:
            merged.pop(name, None)
            continue
        if "Ebs" not in mapping:
            continue
        given = dict(mapping["Ebs"])
        before = merged.get(name, {}).get("Ebs", {"DeleteOnTermination": True, "VolumeType": "gp2"})
        if given.get("VolumeType", before.get("VolumeType")) != before.get("VolumeType"):
            # Another type starts from its own defaults.
            before = {key: value for key, value in before.items() if key not in {"Iops", "Throughput"}}
        ebs = {**before, **given}
        if not ebs.get("VolumeSize") and not ebs.get("SnapshotId"):
            raise ApiError("MissingParameter", "The request must contain the parameter size or snapshotId")
        least = before.get("VolumeSize", 0) if "SnapshotId" in before else 0
        if ebs["VolumeSize"] < least:
            raise ApiError(
                "InvalidBlockDeviceMapping",
                f"Volume of size {ebs['VolumeSize']}GB is smaller than snapshot '{before['SnapshotId']}', expect size "
                f">= {least}GB",
            )
        if given.get("KmsKeyId") and not given.get("Encrypted"):
            raise ApiError("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted.")
        merged[name] = {"DeviceName": name, "Ebs": ebs}
    if image.root_device_name not in merged:
        raise ApiError("InvalidBlockDeviceMapping", "The root device cannot be suppressed.")
    for mapping in merged.values():
        check(mapping["Ebs"])
        if encrypt_all:
            mapping["Ebs"]["Encrypted"] = True
    return list(merged.values())


def check(ebs: dict[str, Any]) -> None:
    """Refuse rates that a volume type does not have.

    Limits of gp3 since 2025: 80,000 IOPS and 2,000 MiB/s, at most 500 IOPS a GiB and 0.25 MiB/s an IOPS.
    https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html
    """
    kind, iops, rate = ebs.get("VolumeType", "gp2"), ebs.get("Iops"), ebs.get("Throughput")
    if rate is not None and kind != "gp3":
        raise ApiError("InvalidParameterCombination", f"The parameter throughput is not supported for {kind} volumes.")
    if iops is not None and kind not in {"gp3", "io1", "io2"}:
        raise ApiError("InvalidParameterCombination", f"The parameter iops is not supported for {kind} volumes.")
    if kind in {"io1", "io2"} and iops is None:
        raise ApiError("MissingParameter", f"The parameter iops must be specified for {kind} volumes.")
    if kind == "gp3":
        iops, rate = iops or GP3_IOPS, rate or GP3_THROUGHPUT
        ebs["Iops"], ebs["Throughput"] = iops, rate
        if not GP3_IOPS <= iops <= 80_000 or iops > max(500 * ebs["VolumeSize"], GP3_IOPS):
            raise ApiError("InvalidParameterValue", f"Volume iops of {iops} is not valid for a gp3 volume of this size")
        if not GP3_THROUGHPUT <= rate <= 2_000 or rate > iops / 4:
            raise ApiError("InvalidParameterValue", f"Throughput of {rate} MiB/s is not valid for {iops} iops")


def finish(volume: Volume, ebs: dict[str, Any]) -> None:
    """Set what moto drops when it makes a volume with an instance."""
    volume.iops, volume.throughput = ebs.get("Iops"), ebs.get("Throughput")
    volume.volume_initialization_rate = ebs.get("VolumeInitializationRate")  # type: ignore[attr-defined]
