"""What an AMI brings: its node root's facts, and the images in its containerd, which grow as the kubelet pulls."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Image", "Root", "Store", "normal", "root_of"]

MOST_LISTED = 50  # nodeStatusMaxImages of the kubelet
DOMAIN = re.compile(r"^(?:localhost|[^/]*[.:][^/]*)/")


@dataclass(frozen=True, slots=True)
class Image:
    """An image on a node: its names, the compressed bytes, and whether it came with the AMI."""

    names: tuple[str, ...]
    size: int
    baked: bool = False
    unpacked: bool = True


@dataclass(frozen=True)
class Root:
    """What the node root says (`GET /lab-api/nodes/<instance-id>`); nothing where there is no lab.

    Attributes
    ----------
    driver
        The version of the NVIDIA driver's module for the kernel that boots; "" without it.
    toolkit
        The version of NVIDIA's container toolkit; "" without it.
    runtimes, default_runtime
        Of containerd's configuration.
    gpus, gpu_product
        Of the instance type (DescribeInstanceTypes): no disk says that. The product as the driver calls it.
    """

    family: str = ""
    image_id: str = ""
    architecture: str = "amd64"
    os_release: Mapping[str, str] = field(default_factory=dict)
    os_image: str = ""
    kernel: str = ""
    containerd: str = ""
    kubelet: str = ""
    glibc: str = ""
    driver: str = ""
    toolkit: str = ""
    runtimes: tuple[str, ...] = ("runc",)
    default_runtime: str = "runc"
    images: tuple[Image, ...] = ()
    snap_hold: Any = None
    user_data: str = ""
    gpus: int = 0
    gpu_product: str = ""

    @property
    def has_runtime(self) -> bool:
        """Tell whether it brings NVIDIA's toolkit, and containerd knows the runtime `nvidia`."""
        return bool(self.toolkit and "nvidia" in self.runtimes)

    @property
    def has_default_runtime(self) -> bool:
        """Tell whether that runtime is containerd's default."""
        return self.has_runtime and self.default_runtime == "nvidia"


def root_of(facts: Mapping[str, Any]) -> Root:
    """Read a node root's facts."""
    known = {name: facts[name] for name in Root.__dataclass_fields__ if facts.get(name) is not None}
    known["images"] = tuple(
        Image(tuple(each["names"]), int(each["size"]), baked=True, unpacked=bool(each.get("unpacked", True)))
        for each in facts.get("images") or ()
    )
    known["runtimes"] = tuple(facts.get("runtimes") or ("runc",))
    known["driver"] = (facts.get("driver") or {}).get("version") or ""
    return Root(**known)


def normal(reference: str) -> str:
    """Give an image's full name, as containerd has it: with registry and tag.

    >>> normal("nginx"), normal("quay.io/a/b@sha256:0")
    ('docker.io/library/nginx:latest', 'quay.io/a/b@sha256:0')
    """
    name, at, digest = reference.partition("@")
    if not DOMAIN.match(name):
        name = f"docker.io/{name if '/' in name else f'library/{name}'}"
    if not at and ":" not in name.rsplit("/", 1)[-1]:
        name += ":latest"
    return name + at + digest


class Store:
    """The images on one node."""

    def __init__(self, images: Sequence[Image] = ()) -> None:
        # Nodes of one AMI share the tuple until they pull something.
        self.images = list(images)
        self._names = {normal(name): image for image in images for name in image.names}

    def find(self, reference: str) -> Image | None:
        """Give an image that is there whole; one that was fetched but not unpacked does not count as such."""
        found = self._names.get(normal(reference))
        return found if found and found.unpacked else None

    def add(self, reference: str, size: int, digest: str) -> Image:
        """Add an image that was pulled."""
        name = normal(reference)
        repository = name.partition("@")[0].rpartition(":")[0] if "@" not in name else name.partition("@")[0]
        image = Image((f"{repository}@{digest}", *([] if "@" in name else [name])), size)
        self.images = [each for each in self.images if each is not self._names.get(name)] + [image]
        self._names |= dict.fromkeys(image.names, image)
        return image

    def listed(self) -> list[dict[str, Any]]:
        """Give `status.images` of the Node: the largest first, and no more than the kubelet reports."""
        largest = sorted(self.images, key=lambda image: image.size, reverse=True)[:MOST_LISTED]
        return [{"names": list(image.names), "sizeBytes": image.size} for image in largest]
