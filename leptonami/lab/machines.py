"""The disks of the lab: a node root for each instance and each image, kept under the lab's folder."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leptonami.lab import node
from leptonami.lab.world import ACCOUNT, World, remove

if TYPE_CHECKING:
    from leptonami.catalog import Release

__all__ = ["Machines"]

LOOK_AGAIN_S = 0.02


@dataclass
class Machines:
    """Node roots of images and instances.

    Attributes
    ----------
    recorded
        Why scripts are recorded and not run on this machine; empty where they run.
    """

    world: World
    recorded: str

    def image_root(self, image: str) -> Path:
        """Give the folder of an image's root; it need not exist."""
        return self.world.folder / "images" / image

    def instance_root(self, instance: str) -> Path:
        """Give the folder of an instance's root."""
        return self.world.folder / "machines" / instance / "root"

    def outputs(self, instance: str, command: str) -> Path:
        """Make the folder for the output of a command on an instance: outside its root, as S3 would be."""
        folder = self.world.folder / "machines" / instance / "outputs" / command
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def launch(self, instance: Any, image: Any) -> node.Machine:
        """Give a new instance the disk of its image, and describe it as a machine."""
        source = self.image_root(image.id)
        if not source.exists():
            release: Release = image.lab_release
            source.parent.mkdir(parents=True, exist_ok=True)
            node.seed(
                source,
                family=release.family,
                os=release.os,
                kubernetes=release.kubernetes,
                architecture=release.architecture,
                image_name=image.name,
            )
        root = self.instance_root(instance.id)
        root.parent.mkdir(parents=True, exist_ok=True)
        node.copy(source, root)
        # Written anew each time: the disk of an image has its builder's.
        faults = {fault.name: fault.value for fault in self.world.faults.all("script")}
        (root / "lab" / "faults.json").write_text(json.dumps(faults))
        return describe(instance, root)

    def work(self, instance: Any, *steps: Callable[[], object]) -> None:
        """Let a guest do something that takes its own time (services run what they declared for their end)."""

        def through() -> None:
            for step in steps:
                step()

        instance.lab_work = threading.Thread(target=through, name=f"{instance.id} at work", daemon=True)
        instance.lab_work.start()

    def when_idle(self, instance: Any, action: Callable[[], None]) -> None:
        """Do something as soon as a guest has done its work."""
        if instance.lab_work.is_alive():
            self.world.later(LOOK_AGAIN_S, lambda: self.when_idle(instance, action))
        else:
            action()

    def reboot(self, instance: Any, *before: Callable[[], object]) -> None:
        """Reboot: the agent is away meanwhile, for as long as the lab says, and again for its own start."""
        instance.lab_boot += 1
        instance.lab_running_since = float("inf")
        self.work(instance, *before, lambda: node.reboot(instance.lab_machine), lambda: self._back(instance))

    def _back(self, instance: Any) -> None:
        instance.lab_running_since = self.world.clock() + self.world.times.reboot

    def stop(self, instance: Any) -> None:
        """Shut a guest down."""
        self.work(instance, lambda: node.stop(instance.lab_machine))

    def keep(self, instance: str, image: str) -> None:
        """Copy an instance's disk to an image, as it is now."""
        self.image_root(image).parent.mkdir(parents=True, exist_ok=True)
        node.copy(self.instance_root(instance), self.image_root(image))

    def copy_image(self, source: str, target: str) -> None:
        """Copy an image's disk; a base image that nothing was launched from has none yet, and needs none."""
        if self.image_root(source).exists():
            node.copy(self.image_root(source), self.image_root(target))

    def forget_instance(self, instance: str) -> None:
        """Remove an instance's disk, outputs included."""
        remove(self.world.folder / "machines" / instance)

    def forget_image(self, image: str) -> None:
        """Remove an image's disk."""
        remove(self.image_root(image))


def describe(instance: Any, root: Path) -> node.Machine:
    """Describe a moto instance as a machine of the lab."""
    from moto.ec2.models.instance_types import INSTANCE_TYPES

    found = INSTANCE_TYPES[instance.instance_type].get("GpuInfo", {}).get("Gpus", [])
    gpus = [each for each in found if each["Manufacturer"] == "NVIDIA"]
    profile = instance.iam_instance_profile
    volume = instance.ec2_backend.volumes[instance.block_device_mapping[instance.root_device_name].volume_id]
    return node.Machine(
        root=root,
        instance_id=instance.id,
        instance_type=instance.instance_type,
        architecture={"x86_64": "amd64"}.get(instance.architecture, instance.architecture),
        gpus=sum(each["Count"] for each in gpus),
        gpu_name=gpus[0]["Name"] if gpus else None,
        region=instance.region_name,
        availability_zone=instance.availability_zone,
        account=ACCOUNT,
        image_id=instance.image_id,
        root_gib=volume.size,
        instance_profile=profile["Arn"].rpartition("/")[2] if profile else None,
    )
