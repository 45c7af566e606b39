"""Whether everything fits on the root volume, before a byte is pulled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leptonami.build.base import BaseImage
    from leptonami.plan import Plan

__all__ = ["Budget", "budget"]

# An unpacked image needs the compressed layers and what comes out of them. Measured in facts/local-nodes.md, section 0:
# 119.6 MiB compressed are 371 MiB unpacked.
UNPACKED_RATIO = 371 / 119.6
# For an image whose size is not known: no small guess, since running out of disk in the middle costs a build.
UNKNOWN_MIB = 1024
# Driver, kernel headers and DKMS build, toolkit: what the packages say they install, rounded up.
DRIVER_MIB = 3 * 1024
# What a base image occupies on its disk: 2.4 GB for AL2 (awslabs/amazon-eks-ami issue 1144), and room for newer ones.
# The variants that bring drivers hold several of them.
BASE_MIB, GPU_BASE_MIB = 4 * 1024, 8 * 1024
# The system, logs, and what a node writes before the kubelet's garbage collection starts at 85 % of the disk.
FREE_SHARE = 0.15


@dataclass(frozen=True)
class Budget:
    """How the root volume will be used, in MiB. `unknown` images are estimated, and said to be.

    Attributes
    ----------
    snapshot
        The size of the base image's root snapshot: no volume can be smaller.
    """

    volume: int
    snapshot: int
    base: int
    driver: int
    images: int
    known: int
    unknown: int

    @property
    def needed(self) -> int:
        """What must fit, with the share that has to stay free (MiB)."""
        return math.ceil((self.base + self.driver + self.images) / (1 - FREE_SHARE))

    @property
    def needed_gib(self) -> int:
        """The smallest volume that will do (GiB)."""
        return math.ceil(max(self.needed, self.snapshot) / 1024)

    @property
    def fits(self) -> bool:
        """Whether the volume is large enough."""
        return self.needed <= self.volume and self.snapshot <= self.volume

    def explain(self) -> str:
        """Say what goes where."""
        if self.snapshot > self.volume:
            return f"the base image's snapshot alone is {self.snapshot / 1024:.0f} GiB"
        parts = [f"base image {self.base / 1024:.1f} GiB (estimated)"]
        if self.driver:
            parts.append(f"driver {self.driver / 1024:.1f} GiB (estimated)")
        if self.known or self.unknown:
            how = "" if not self.unknown else f", {self.unknown} of {self.known + self.unknown} sizes estimated"
            parts.append(f"images {self.images / 1024:.1f} GiB{how}")
        return f"{' + '.join(parts)}, and {FREE_SHARE:.0%} free, make {self.needed / 1024:.1f} GiB"


def budget(plan: Plan, base: BaseImage) -> Budget:
    """Add up what the build puts on the root volume; the builder measures the rest before it pulls."""
    images = known = unknown = 0
    for image in plan.images:
        compressed, unpacked = image.size_mib, image.unpacked_mib
        if compressed is None and unpacked is None:
            unknown += 1
            images += math.ceil(UNKNOWN_MIB * (1 + UNPACKED_RATIO))
            continue
        known += 1
        packed = compressed if compressed is not None else (unpacked or 0) / UNPACKED_RATIO
        images += math.ceil(packed + (unpacked if unpacked is not None else packed * UNPACKED_RATIO))
    driver = DRIVER_MIB if any(step.name == "nvidia-driver" for step in plan.steps) else 0
    return Budget(
        volume=plan.root_volume.size_gib * 1024,
        snapshot=base.root_gib * 1024,
        base=GPU_BASE_MIB if plan.release.gpu else BASE_MIB,
        driver=driver,
        images=images,
        known=known,
        unknown=unknown,
    )
