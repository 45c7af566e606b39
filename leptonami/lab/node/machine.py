"""What a simulated machine is: the values an EC2 instance has, and the folder that is its disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Machine"]


@dataclass
class Machine:
    """One simulated EC2 instance.

    Parameters
    ----------
    root
        The node root: the folder that stands for its root volume.
    instance_id, instance_type, region, availability_zone, account, image_id
        As EC2 knows them; the instance metadata stand-in answers with them.
    architecture
        `amd64` or `arm64` (EC2's `x86_64` is taken for `amd64`).
    gpus, gpu_name
        How many NVIDIA GPUs are on its PCI bus, and what `nvidia-smi` calls them.
    root_gib
        Size of the root volume in GiB; `df` answers by it.
    instance_profile
        Name of the role whose credentials the metadata stand-in hands out; without one it has none.
    """

    root: Path
    instance_id: str
    instance_type: str
    architecture: str
    gpus: int
    gpu_name: str | None
    region: str
    availability_zone: str
    account: str
    image_id: str
    root_gib: int = 60
    instance_profile: str | None = "leptonami-lab"

    def facts(self) -> dict[str, Any]:
        """Give what the stand-ins inside the machine may know, as plain data."""
        facts = asdict(self)
        del facts["root"]
        facts["architecture"] = {"x86_64": "amd64", "aarch64": "arm64"}.get(self.architecture, self.architecture)
        return facts
