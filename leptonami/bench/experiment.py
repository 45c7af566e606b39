"""The experiment file: what is launched, how often, in which surroundings, and which difference would matter.

`load` reads it and checks all of it at once; errors name the line and the field. Two things are stated beforehand,
because whoever states them after looking can prove anything: the smallest difference worth having, and which trials are
warm-up. `docs/benchmark.md` is the reference for people, `json_schema` the one for editors.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_serializer, field_validator, model_validator

from leptonami import datafiles
from leptonami.bench.marks import PHASES
from leptonami.errors import InputError
from leptonami.imagelist import reference
from leptonami.plan import AmiId, Duration, GroupId, InstanceType, Name, ProfileName, Region, SubnetId, duration
from leptonami.validation import Strict, Wrong, near, validate
from leptonami.yamlfile import read, refuse

__all__ = ["Eks", "Experiment", "Image", "Local", "Smallest", "Variant", "VariantKind", "find", "json_schema", "load"]

VariantKind = Literal[
    "base",
    "no-images",
    "content-only",
    "unpacked",
    "init-rate",
    "fast-snapshot-restore",
    "al2023",
    "al2",
    "bottlerocket",
]
"""base: the vendor's image as it comes. no-images: the custom image without pre-fetched images. content-only: the
layers are in the store, compressed. unpacked: pulled, unpacked and pinned, as the product's pre-fetch step does.
init-rate, fast-snapshot-restore: `unpacked`, on a volume that is initialised at a rate, or restored fast. al2023, al2,
bottlerocket: Amazon's images as they come."""

UNPACKED = frozenset({"unpacked", "init-rate", "fast-snapshot-restore"})
# On one snapshot: a rate that a launch asks for goes before Fast Snapshot Restore.
FAST = frozenset({"init-rate", "fast-snapshot-restore"})


class Variant(Strict):
    """One way of making a node, to be held against others."""

    name: Name = Field(description="How results name it.")
    kind: VariantKind = Field(description="What it is.")
    about: str = Field(default="", description="A sentence for the reader.")
    ami: AmiId | None = Field(default=None, description="Driver eks: what to launch.")
    initialization_rate: int | None = Field(
        default=None, ge=100, le=300, description="Driver eks: MiB/s at which EBS initialises the volume."
    )

    @property
    def prefetch(self) -> Literal["none", "content", "unpacked"]:
        """What of the images is on the disk before the first start."""
        return "content" if self.kind == "content-only" else "unpacked" if self.kind in UNPACKED else "none"

    def is_read(self, settings: Eks | Local) -> bool:
        """Tell whether the first read of what is pre-fetched in it is timed."""
        return settings.first_read and self.prefetch != "none"

    @model_validator(mode="after")
    def rated(self) -> Self:
        """Want the rate for init-rate, and only for it."""
        if (self.kind == "init-rate") is not (self.initialization_rate is not None):
            raise Wrong("the kind init-rate has `initialization_rate`, and no other has", "MiB/s, from 100 to 300")
        return self


class Image(Strict):
    """An image whose container is launched: one that exists (`ref`), or one that the driver makes to measure."""

    name: Name = Field(description="How results name it.")
    ref: str | None = Field(default=None, description="An image that exists. Driver eks; the others make their own.")
    unpacked_mib: int | None = Field(default=None, ge=1, le=20_000, description="Size on the disk of an image to make.")
    small_files: int = Field(default=10_000, ge=0, le=500_000, description="How many small files it has.")
    large_files: int = Field(default=4, ge=1, le=1_000, description="How many large files share what the small leave.")
    layers: int = Field(default=4, ge=1, le=100, description="How many layers.")
    compression: Literal["gzip", "zstd", "none"] = Field(default="gzip", description="Of the layers.")
    command: list[str] = Field(
        default=[],
        max_length=50,
        description="Driver eks: instead of the image's own; it writes a line when it is of use.",
    )

    @field_validator("ref")
    @classmethod
    def reference(cls, value: str | None) -> str | None:
        """Write the reference out in full."""
        return None if value is None else str(reference(value))

    @model_validator(mode="after")
    def either(self) -> Self:
        """Want one of the two."""
        if (self.ref is None) is (self.unpacked_mib is None):
            raise Wrong("an image has either `ref` or `unpacked_mib`", "ref: what exists; unpacked_mib: what to make")
        return self


class Smallest(Strict):
    """The smallest difference worth having, stated before anything is measured; what is less makes no difference."""

    seconds: float | None = Field(default=None, ge=0.001, le=86_400, description="Of the medians.")
    ratio: float | None = Field(default=None, ge=1.001, le=1_000, description="Of the medians: 1.1 is a tenth.")

    @model_validator(mode="after")
    def either(self) -> Self:
        """Want one of the two."""
        if (self.seconds is None) is (self.ratio is None):
            raise Wrong("say either `seconds` or `ratio`", "seconds: 2.0, or ratio: 1.1 for a tenth of the median")
        return self


class Local(Strict):
    """The drivers process and nspawn: what surrounds a node on this machine."""

    bandwidth_mbit: Annotated[list[Annotated[int, Field(ge=0, le=100_000)]], Field(min_length=1)] = Field(
        default=[200], description="Of the registry, Mbit/s; 0 is as fast as it can. Each is a condition of its own."
    )
    latency_ms: int = Field(default=0, ge=0, le=10_000, description="Added to each answer of the registry.")
    page_cache: Literal["drop", "keep"] = Field(
        default="drop", description="Whether the page cache is dropped before each launch, where that is permitted."
    )
    first_read: bool = Field(default=True, description="Whether the pre-fetched layers are read once, and timed.")


class Volume(Strict):
    """The root volume of the driver eks."""

    size_gib: int = Field(default=100, ge=8, le=16_384)
    type: Literal["gp3", "gp2", "io1", "io2"] = "gp3"
    iops: int | None = Field(default=None, ge=100, le=256_000)
    throughput: int | None = Field(default=None, ge=125, le=2_000, description="MiB/s, gp3 only.")


class Eks(Strict):
    """The driver eks: the cluster that nodes join, and what they are launched with."""

    cluster: str = Field(description="The cluster's name.")
    region: Region = Field(description="Where it is.")
    subnets: Annotated[list[SubnetId], Field(min_length=1)] = Field(description="Best of one zone: zones differ.")
    security_groups: list[GroupId] = Field(default=[], description="The cluster's own if left out.")
    instance_profile: ProfileName = Field(description="Of the nodes' role.")
    by: Literal["instance", "nodegroup"] = Field(default="instance", description="What a trial launches.")
    volume: Volume = Volume()
    first_read: bool = Field(default=True, description="Whether the pre-fetched layers are read once, and timed.")


class Experiment(Strict):
    """An experiment, checked."""

    schema_: Literal[1] = Field(alias="schema", description="The version of this format.")
    name: Name = Field(description="What it is called.")
    about: str = Field(default="", description="The question that it answers.")
    driver: Name = Field(description="process, nspawn or eks.")
    variants: Annotated[list[Variant], Field(min_length=1)]
    baseline: Name | None = Field(default=None, description="What the others are held against; the first if left out.")
    images: Annotated[list[Image], Field(min_length=1)]
    instance_types: list[InstanceType] = Field(default=[], description="Driver eks.")
    trials: int = Field(
        ge=1, le=1_000, description="Of each variant, image, instance type and bandwidth; counted ones."
    )
    warmup: int = Field(default=1, ge=0, le=100, description="Rounds before them that are kept and not counted.")
    seed: int = Field(ge=0, le=2**32 - 1, description="Of the order and of the bootstrap.")
    timeout: Duration = Field(description="Of one trial.")
    phase: str = Field(default="launch", description="What the verdict is about.")
    smallest: Smallest = Field(description="The smallest difference worth having.")
    max_failures: int = Field(default=5, ge=1, le=1_000, description="After so many in a row the experiment stops.")
    local: Local = Local()
    eks: Eks | None = None

    @field_validator("phase")
    @classmethod
    def known(cls, value: str) -> str:
        """Want a phase that there is."""
        names = [each.name for each in PHASES]
        if value not in names:
            raise Wrong(f"no such phase: {value!r}", near(value, names) or f"one of {', '.join(names)}")
        return value

    @field_serializer("timeout")
    def written(self, value: int) -> str:
        """Write the time-out as it may be read."""
        return duration(value)

    @model_validator(mode="after")
    def consistent(self) -> Self:
        """Want every name once, and what the driver needs."""
        for what, names in (
            ("variant", [str(each.name) for each in self.variants]),
            ("image", [str(each.name) for each in self.images]),
            ("instance type", [str(each) for each in self.instance_types]),
            ("bandwidth", [str(each) for each in self.local.bandwidth_mbit]),
        ):
            twice = sorted({each for each in names if names.count(each) > 1})
            if twice:
                raise Wrong(f"a second {what} {twice[0]}", "each has a name of its own")
        known = [str(each.name) for each in self.variants]
        if self.baseline is not None and self.baseline not in known:
            raise Wrong(f"`baseline` names no variant: {self.baseline!r}", near(self.baseline, known))
        if self.driver == "eks":
            self.ready_for_eks()
        elif self.eks is not None or self.instance_types:
            raise Wrong(f"`eks` and `instance_types` mean nothing to the driver {self.driver}", "leave them out")
        return self

    def ready_for_eks(self) -> None:
        """Want what the driver eks needs."""
        if self.eks is None:
            raise Wrong("the driver eks needs `eks`", "with cluster, region, subnets and instance_profile")
        if not self.instance_types:
            raise Wrong("the driver eks needs `instance_types`", "at least one, such as m7i.large")
        without = [each.name for each in self.variants if each.ami is None]
        if without:
            raise Wrong(f"the variant {without[0]} has no `ami`", "the driver eks launches what `ami` names")
        restored = {each.ami for each in self.variants if each.kind == "fast-snapshot-restore"}
        also = [each for each in self.variants if each.ami in restored and each.kind not in FAST]
        if also:
            raise Wrong(
                f"the variant {also[0].name} has the image of one with Fast Snapshot Restore, and would have it too",
                "it is switched on for a snapshot: give one of them a copy of the image",
            )
        made = [each.name for each in self.images if each.ref is None]
        if made:
            raise Wrong(f"the image {made[0]} has no `ref`", "the driver eks pulls images that exist")

    @property
    def base(self) -> str:
        """The variant that the others are held against."""
        return self.baseline or self.variants[0].name

    def variant(self, name: str) -> Variant:
        """Find a variant."""
        return next(each for each in self.variants if each.name == name)

    def image(self, name: str) -> Image:
        """Find an image."""
        return next(each for each in self.images if each.name == name)

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data; `Experiment.model_validate` reads it."""
        return self.model_dump(mode="json", by_alias=True)

    @property
    def digest(self) -> str:
        """The SHA-256 of what decides its results. More trials of the same experiment are the same experiment."""
        content = {name: value for name, value in self.as_dict().items() if name not in {"trials", "about"}}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def find(name: Path | str) -> Path:
    """Find an experiment: a file, or by the stem of its name one of those in `data/experiments`.

    Raises
    ------
    InputError
        If there is neither.
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml"} or len(path.parts) != 1 or path.exists():
        return path
    shipped = sorted(each.stem for each in datafiles.path("experiments").glob("*.yaml"))
    if str(name) in shipped:
        return datafiles.path(f"experiments/{name}.yaml")
    guess = near(str(name), shipped)
    raise InputError(
        "there is no such experiment",
        resource=str(name),
        hint=f"{f'{guess} ' if guess else ''}name a file, or one of {', '.join(shipped)}",
    )


def load(path: Path | str) -> Experiment:
    """Read an experiment and check all of it.

    Raises
    ------
    InputError
        With everything that was found wrong, each with line, path in the file, and the way out.
    """
    document = read(find(path), what="experiment")
    model, problems = validate(Experiment, document)
    refuse(problems, what="experiment")
    assert model is not None  # noqa: S101 - without problems there is a model
    return model


def json_schema() -> dict[str, Any]:
    """Give the JSON Schema (draft 2020-12) of experiment files, for editors."""
    schema = Experiment.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "An experiment of leptonami"
    schema["description"] = "What to launch, how often, and what would matter. The reference is docs/benchmark.md."
    return schema
