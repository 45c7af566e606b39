"""Which driver image the GPU operator will ask for on a node, and whether there is one: before it is installed.

The operator adds the node's OS to the image's tag, from two labels of node feature discovery:
`repository/image:version-IDVERSION_ID`, so `nvcr.io/nvidia/driver:525.105.17-amzn2` on Amazon Linux 2, which does not
exist. A `sha256:` digest takes no suffix. It looks at one node only: a cluster of two OSes gets one tag for all.
(`controllers/object_controls.go` at v23.3.2 and `controllers/state_manager.go` of 2026.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from pydantic import Field

from leptonami import datafiles
from leptonami.readers.gpuoperands import parse_version
from leptonami.validation import Strict, validate
from leptonami.yamlfile import read, refuse

__all__ = ["ClusterDriverImage", "DriverImage", "predict_driver_image", "predict_for_cluster"]

ID_LABEL = "feature.node.kubernetes.io/system-os_release.ID"
VERSION_LABEL = "feature.node.kubernetes.io/system-os_release.VERSION_ID"
DRIVER_LABEL = "nvidia.com/gpu.deploy.driver"
KERNEL_LABEL = "feature.node.kubernetes.io/kernel-version.full"
NVIDIA = "nvcr.io/nvidia/"
BRANCH = re.compile(r"([0-9]{1,6})(?:[.-].{0,80})?")


class PublishedVersion(Strict):
    """A version of an OS that there are images for."""

    version: str
    first_branch: int | None = None
    former: bool = False


class Family(Strict):
    """A family of operating systems, by the ID of its os-release."""

    id: str
    published: bool | Literal["unknown"]
    versions: list[str | PublishedVersion] = Field(default=[])
    note: str = ""

    def find(self, version: str) -> PublishedVersion | None:
        """Find a version in the list."""
        for each in self.versions:
            entry = PublishedVersion(version=each) if isinstance(each, str) else each
            if entry.version == version:
                return entry
        return None


class OmitMinor(Strict):
    """For which families the operator takes the major version only, and since when."""

    families: list[str]
    not_up_to: str
    surely_from: str
    source: str


class ImagesFile(Strict):
    """What `data/driver-images.yaml` holds."""

    schema_: Literal[1] = Field(alias="schema")
    source: str
    as_of: Any
    omit_minor: OmitMinor
    families: list[Family]


@lru_cache(maxsize=1)
def images_file() -> ImagesFile:
    """Read the list of published images.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    document = read(datafiles.path("driver-images.yaml"), what="list of driver images")
    model, problems = validate(ImagesFile, document)
    refuse(problems, what="list of driver images")
    assert model is not None  # noqa: S101 - without problems there is a model
    return model


@dataclass(frozen=True, slots=True)
class DriverImage:
    """The driver image that the operator asks for.

    Parameters
    ----------
    image
        The whole name; "" if it cannot be told.
    os
        What the labels say: `amzn2`, `ubuntu22.04`; "" if they do not say it.
    published
        Whether there is such an image: True if NVIDIA publishes for this OS, False if it never did, None if nobody can
        tell (an OS or version that is not in our list, a digest, a registry of your own).
    why
        The reason, in one sentence.
    alternatives
        What else it may ask for, where that depends on the operator's version and that is unknown or in between.
    """

    image: str
    os: str
    published: bool | None
    why: str
    alternatives: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data, for `--json`."""
        return {
            "image": self.image,
            "os": self.os,
            "published": self.published,
            "why": self.why,
            "alternatives": list(self.alternatives),
        }


@dataclass(frozen=True, slots=True)
class ClusterDriverImage:
    """The driver image for a cluster: one for all its GPU nodes.

    Parameters
    ----------
    image
        What the operator asks for, None if there is no node.
    winner
        The node whose labels decide.
    wrong
        The nodes that get an image for another OS than theirs, each with the image that it would need.
    note
        What else to know.
    """

    image: DriverImage | None
    winner: str
    wrong: tuple[tuple[str, DriverImage], ...] = ()
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data, for `--json`."""
        return {
            "image": self.image.as_dict() if self.image else None,
            "winner": self.winner,
            "wrong": [{"node": name, **each.as_dict()} for name, each in self.wrong],
            "note": self.note,
        }


def predict_driver_image(
    node_labels: Mapping[str, str],
    repository: str,
    image: str,
    version: str,
    *,
    operator: str | None = None,
    precompiled: bool = False,
) -> DriverImage:
    """Predict the driver image that the operator will ask for on a node, and whether it exists.

    Parameters
    ----------
    node_labels
        The node's labels. Three matter: `system-os_release.ID` and `.VERSION_ID` of node feature discovery, and
        `kernel-version.full` for precompiled drivers.
    repository, image, version
        `driver.repository`, `.image` and `.version` of the ClusterPolicy or the chart: `nvcr.io/nvidia`, `driver`,
        `525.105.17`, or a digest (`sha256:…`) as the version. An `image` alone may be the whole name.
    operator
        The operator's version (`v23.3.2`), if it is known; only the tags of RHEL, Rocky and Oracle Linux depend on it.
    precompiled
        Whether precompiled drivers are used (`driver.usePrecompiled`): `version` is then a branch (`535`).

    >>> labels = {ID_LABEL: "amzn", VERSION_LABEL: "2"}
    >>> found = predict_driver_image(labels, "nvcr.io/nvidia", "driver", "525.105.17")
    >>> found.image, found.published
    ('nvcr.io/nvidia/driver:525.105.17-amzn2', False)
    """
    family, os_version = node_labels.get(ID_LABEL, ""), node_labels.get(VERSION_LABEL, "")
    base = "/".join(each for each in (repository.rstrip("/"), image) if each)
    if version.startswith("sha256:"):
        name = f"{family}{os_version}"
        why = "a digest takes no suffix, so that every node gets the same image, whatever its OS"
        return DriverImage(f"{base}@{version}", name, None, why)
    if "@sha256:" in base:
        return DriverImage(base, f"{family}{os_version}", None, "a digest takes no suffix")
    if not version and ":" in image.rpartition("/")[2]:
        base, _, version = base.rpartition(":")
    missing = [label for label in (ID_LABEL, VERSION_LABEL) if not node_labels.get(label)]
    if precompiled and not node_labels.get(KERNEL_LABEL):
        missing.append(KERNEL_LABEL)
    if missing:
        return DriverImage("", f"{family}{os_version}", None, f"the node has no label {missing[0]}")
    suffixes = [f"{family}{each}" for each in os_versions(family, os_version, operator)]
    kernel = f"{node_labels[KERNEL_LABEL]}-" if precompiled else ""
    names = [f"{base}:{version}-{kernel}{suffix}" for suffix in suffixes]
    published, why = judge(family, os_version, version)
    if not base.startswith(NVIDIA) and published is False:
        published, why = None, f"{why}; whether {base} has one of its own cannot be told"
    return DriverImage(names[0], f"{family}{os_version}", published, why, tuple(names[1:]))


def os_versions(family: str, version: str, operator: str | None) -> list[str]:
    """Give the version as it stands in the tag, the likelier one first where two are possible."""
    rule = images_file().omit_minor
    major = version.partition(".")[0]
    if family not in rule.families or major == version:
        return [version]
    number = parse_version(operator or "")
    last_without, first_with = parse_version(rule.not_up_to), parse_version(rule.surely_from)
    if number and last_without and number <= last_without:
        return [version]
    if number and first_with and number >= first_with:
        return [major]
    return [major, version]


def judge(family: str, os_version: str, driver: str) -> tuple[bool | None, str]:
    """Tell whether NVIDIA publishes driver images for an OS, and why we say so."""
    known = next((each for each in images_file().families if each.id == family), None)
    name = f"{family}{os_version}"
    if known is None:
        return None, f"unknown OS: whether NVIDIA publishes driver images for {name} is not in our list"
    if known.published == "unknown":
        return None, f"not known for {name}: {known.note}"
    if not known.published:
        return False, f"NVIDIA publishes no driver image for {name}: {known.note}"
    if not known.versions:
        return True, f"NVIDIA publishes driver images for {family}; {known.note}"
    return judge_version(known, os_version, driver)


def judge_version(family: Family, os_version: str, driver: str) -> tuple[bool | None, str]:
    """Tell it for a version of an OS that NVIDIA publishes for."""
    name = f"{family.id}{os_version}"
    entry = family.find(os_version) or family.find(os_version.partition(".")[0])
    if entry is None:
        return None, f"NVIDIA publishes driver images for {family.id}, but {os_version} is not in our list"
    branch = BRANCH.fullmatch(driver)
    if entry.first_branch and branch and int(branch.group(1)) < entry.first_branch:
        return None, f"for {name} our list has no driver older than {entry.first_branch}"
    if entry.former:
        return True, f"NVIDIA published driver images for {name} until recently; new drivers have none"
    return True, f"NVIDIA publishes driver images for {name}"


def predict_for_cluster(
    nodes: Iterable[tuple[str, Mapping[str, str]]],
    repository: str,
    image: str,
    version: str,
    *,
    operator: str | None = None,
    precompiled: bool = False,
    per_pool: bool = False,
) -> ClusterDriverImage:
    """Predict the driver image for a cluster: the operator asks one node and takes its tag for all.

    Parameters
    ----------
    nodes
        The GPU nodes, each its name and labels.
    repository, image, version, operator, precompiled
        As for `predict_driver_image`.
    per_pool
        Whether drivers come from NVIDIADriver resources, which make a DaemonSet for each OS.

    Notes
    -----
    A node whose AMI brings the driver pulls no image, but its OS may well be the one that all others get.

    The node is the first of the API server's list. Lists come in the order of names, which is what we take; a cache in
    the operator may give them in another.
    """
    ordered = sorted(nodes, key=lambda each: each[0])
    images = {
        name: predict_driver_image(labels, repository, image, version, operator=operator, precompiled=precompiled)
        for name, labels in ordered
    }
    if not ordered:
        return ClusterDriverImage(None, "", note="there is no GPU node")
    winner = ordered[0][0]
    chosen = images[winner]
    if per_pool or precompiled:
        what = "NVIDIADriver resources" if per_pool else "precompiled drivers"
        return ClusterDriverImage(chosen, winner, note=f"with {what} every OS gets an image of its own")
    own = {name for name, labels in ordered if labels.get(DRIVER_LABEL) == "pre-installed"}
    wrong = tuple(
        (name, each)
        for name, each in images.items()
        if each.os and each.os != chosen.os and chosen.os and name not in own
    )
    note = ""
    if wrong:
        systems = sorted({chosen.os, *(each.os for _, each in wrong)})
        note = (
            f"the nodes run {' and '.join(systems)}, and the operator takes the tag of one node for all (the first of "
            "its list, by name); use NVIDIADriver resources, or one OS"
        )
    return ClusterDriverImage(chosen, winner, wrong, note)
