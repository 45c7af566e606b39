"""Whether a node has a GPU: what cluster-autoscaler thinks, and what else in the node's object says so.

The autoscaler goes by two things only: its cloud provider's label and `nvidia.com/gpu` among what is allocatable. A GPU
node that lacks both is an ordinary node to it (branch 3), so that other evidence is needed to tell that it is one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from leptonami.readers.objects import Node
from leptonami.verdicts.flags import Flags

__all__ = ["GPU", "GpuView", "gpu_view", "instance_type"]

GPU = "nvidia.com/gpu"
INSTANCE_TYPE = ("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type")
# AWS families with NVIDIA GPUs: P2 to P6, G2 to G7 and Gr; G4ad has AMD's.
NVIDIA_FAMILY = re.compile(r"(?:p[2-9]|g[2-9]|gr[2-9])[a-z0-9-]{0,20}\.[a-z0-9-]{1,20}", re.ASCII)
AMD_FAMILY = re.compile(r"g4ad\.", re.ASCII)
PCI = re.compile(r"feature\.node\.kubernetes\.io/pci-(?:[0-9a-f]{4}_)?10de(?:_[0-9a-f_]{1,40})?\.present")
GROUPS = ("eks.amazonaws.com/nodegroup", "alpha.eksctl.io/nodegroup-name", "node-group", "nodegroup")
GPU_WORD = re.compile(r"(?<![a-z])gpus?(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class GpuView:
    """A node's GPU.

    Parameters
    ----------
    labelled
        It has the autoscaler's GPU label.
    allocatable
        How many `nvidia.com/gpu` are allocatable.
    partitions
        MIG resources (`nvidia.com/mig-...`) that are allocatable: the autoscaler does not count them.
    evidence
        What else says that it has a GPU, the strongest first, as `field = value`; names count as a hint only.
    """

    labelled: bool
    allocatable: Decimal
    partitions: tuple[str, ...]
    evidence: tuple[str, ...]

    @property
    def known(self) -> bool:
        """Tell whether the autoscaler takes it for a GPU node (`NodeHasGpu` in its source)."""
        return self.labelled or self.allocatable > 0

    @property
    def unready(self) -> bool:
        """Tell whether the autoscaler takes its GPU for unready: labelled, and nothing allocatable."""
        return self.labelled and self.allocatable <= 0

    @property
    def unknown_gpu(self) -> bool:
        """Tell whether it is a GPU node that the autoscaler does not know for one (branch 3)."""
        return not self.known and bool(self.evidence)

    @property
    def notes(self) -> tuple[str, ...]:
        """What else there is to know of it, a sentence each."""
        notes = []
        if self.known and not self.labelled:
            notes.append(
                "without the accelerator label it is a CPU node to the autoscaler until its GPU is allocatable"
            )
        if self.partitions and self.allocatable <= 0:
            notes.append(f"the autoscaler does not count {', '.join(self.partitions[:3])}, only {GPU}")
        return tuple(notes)

    def __str__(self) -> str:
        if self.unready:
            return f"accelerator label, and no allocatable {GPU}"
        if self.known:
            return f"allocatable {GPU} = {self.allocatable:f}"
        if self.unknown_gpu:
            return f"no accelerator label and no allocatable {GPU}, but a GPU node by: {', '.join(self.evidence[:3])}"
        return "no GPU node"


def instance_type(node: Node) -> str:
    """Give its instance type, "" if no label has it."""
    return next((node.labels[each] for each in INSTANCE_TYPE if node.labels.get(each)), "")


def gpu_view(node: Node, flags: Flags) -> GpuView:
    """Look at a node's labels and resources."""
    evidence: list[str] = []
    capacity = node.capacity.get(GPU, Decimal(0))
    if capacity > 0:
        evidence.append(f"capacity {GPU} = {capacity:f}")
    if node.labels.get("nvidia.com/gpu.present") == "true":
        evidence.append("label nvidia.com/gpu.present = true")
    evidence += [
        f"label {key} = true" for key in sorted(node.labels) if PCI.fullmatch(key) and node.labels[key] == "true"
    ]
    kind = instance_type(node)
    if NVIDIA_FAMILY.fullmatch(kind) and not AMD_FAMILY.match(kind):
        evidence.append(f"instance type {kind}")
    if not evidence:
        named = [(f"label {key}", node.labels[key]) for key in GROUPS if key in node.labels] + [("name", node.name)]
        evidence += [f"{what} = {value} (a name is a hint only)" for what, value in named if GPU_WORD.search(value)][:1]
    partitions = tuple(
        sorted(name for name, amount in node.allocatable.items() if name.startswith("nvidia.com/mig-") and amount > 0)
    )
    return GpuView(flags.gpu_label in node.labels, node.allocatable.get(GPU, Decimal(0)), partitions, tuple(evidence))
