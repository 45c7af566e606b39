"""The catalog of AMI families: what exists, who publishes it, how long it lives, and how its nodes join a cluster.

The facts are data (`data/catalog.yaml`), each table with its source and the date it was looked up. This module reads
them, refuses combinations that do not exist, warns about those whose life has ended, and writes the user data with
which a node of a managed node group joins its cluster when the group uses an AMI of one's own (EKS adds nothing to the
user data then: https://docs.aws.amazon.com/eks/latest/userguide/launch-templates.html#launch-template-custom-ami).
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field

from leptonami import datafiles
from leptonami.errors import InputError
from leptonami.validation import Strict, Wrong, choose, validate
from leptonami.yamlfile import read, refuse

__all__ = ["Catalog", "ClusterInfo", "Family", "KubernetesVersion", "Release", "load", "user_data"]

# How long before an end the warning begins: a quarter, in which a team can plan a move.
NOTICE = timedelta(days=90)
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html: before it is encoded.
USER_DATA_LIMIT = 16 * 1024
MACHINE = {"amd64": "x86_64", "arm64": "arm64"}


def to_date(value: Any) -> Any:
    """Read a date as it is written in the file."""
    try:
        return date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError as error:
        raise Wrong(f"not a date: {value}", "write year-month-day") from error


Date = Annotated[date, BeforeValidator(to_date)]
Account = Annotated[str, Field(pattern=r"^[0-9]{12}$")]
Version = Annotated[str, Field(pattern=r"^1\.[0-9]{1,2}$")]


class KubernetesVersion(Strict):
    """The dates of one Kubernetes version on EKS (UTC)."""

    released: Date
    standard_until: Date
    extended_until: Date


class Calendar(Strict):
    """EKS's calendar."""

    source: str
    as_of: Date
    versions: dict[Version, KubernetesVersion]


class Accounts(Strict):
    """The accounts of one publisher: one for each region, or a default."""

    default: Account | None = None
    regions: dict[str, Account] = Field(default={})


class Publishers(Strict):
    """Who publishes images."""

    source: str
    as_of: Date
    accounts: dict[str, Accounts]


class System(Strict):
    """One version of a family's operating system: its end, and for which Kubernetes versions it is published."""

    ends: Date | None = None
    architectures: dict[Literal["amd64", "arm64"], Annotated[tuple[Version, Version], Field(strict=False)]]


class Family(Strict):
    """A family of AMIs, as the data describes it.

    Attributes
    ----------
    systems
        The operating system's versions.
    frozen, frozen_why
        Since when nothing new is published, and why.
    not_buildable
        Why leptonami cannot build on it, if it cannot.
    """

    title: str
    publisher: Literal["eks", "canonical", "bottlerocket"]
    gpu: bool
    root_device: Literal["/dev/xvda", "/dev/sda1"]
    package_manager: Literal["apt", "dnf", "yum", "none"]
    bootstrap: Literal["bootstrap.sh", "nodeadm", "settings"]
    frozen: Date | None = None
    frozen_why: str | None = None
    not_buildable: str | None = None
    systems: dict[str, System]
    parameter: dict[Literal["amd64", "arm64"], str]
    pattern: dict[Literal["amd64", "arm64"], str]
    words: dict[str, dict[str, str]] = Field(default={})
    stamp: str


class Families(Strict):
    """All families."""

    source: str
    as_of: Date
    list_: dict[str, Family] = Field(alias="list")


class CatalogFile(Strict):
    """What `data/catalog.yaml` holds."""

    schema_: Literal[1] = Field(alias="schema")
    kubernetes: Calendar
    publishers: Publishers
    families: Families


@dataclass(frozen=True)
class Release:
    """One published kind of image: a family for an OS version, a Kubernetes version and an architecture.

    Attributes
    ----------
    ssm_parameter
        The public parameter whose value is the newest image's id.
    name_pattern, image_name_example
        The images' names, for a filter and for a reader.
    owner
        The account that publishes it in `region`. Check it on the image that comes back: names can be imitated.
    region
        The region that `owner` belongs to; publishers use other accounts in some regions.
    root_device
        The root device's name in its block device mapping.
    gpu
        Whether it comes with an NVIDIA driver.
    buildable, not_buildable
        Whether leptonami can build on it, and why not.
    """

    family: str
    os: str
    kubernetes: str
    architecture: str
    ssm_parameter: str
    name_pattern: str
    image_name_example: str
    owner: str
    region: str
    root_device: str
    gpu: bool
    package_manager: Literal["apt", "dnf", "yum", "none"]
    bootstrap: Literal["bootstrap.sh", "nodeadm", "settings"]
    buildable: bool
    not_buildable: str | None
    title: str
    os_ends: date | None
    frozen: date | None
    frozen_why: str | None
    dates: KubernetesVersion

    def warnings(self, today: date) -> tuple[str, ...]:
        """Say what is at its end, or close to it: the OS, the Kubernetes version on EKS, the family itself.

        What has ended begins with `END OF LIFE`.
        """
        found = []
        if self.frozen and self.frozen <= today:
            found.append(f"END OF LIFE: {self.title} is frozen since {self.frozen}: {self.frozen_why}")
        if self.os_ends:
            name = f"the operating system of {self.family} {self.os}"
            if self.os_ends < today:
                found.append(f"END OF LIFE: {name} ended on {self.os_ends}: no security fixes reach these nodes")
            elif self.os_ends - today <= NOTICE:
                found.append(f"{name} ends on {self.os_ends}, in {(self.os_ends - today).days} days")
        return (*found, *self.kubernetes_warnings(today))

    def kubernetes_warnings(self, today: date) -> Iterator[str]:
        """Say where the Kubernetes version is in its life on EKS."""
        name, dates = f"Kubernetes {self.kubernetes}", self.dates
        if dates.extended_until <= today:
            yield (
                f"END OF LIFE: EKS ended {name} on {dates.extended_until}: no new cluster can have it, and EKS "
                "upgrades the control planes that still do"
            )
        elif dates.standard_until <= today:
            yield (
                f"{name} is in extended support since {dates.standard_until}, which EKS charges extra for each cluster "
                f"and hour; it ends on {dates.extended_until}"
            )
        elif dates.standard_until - today <= NOTICE:
            days = (dates.standard_until - today).days
            yield f"{name} leaves EKS's standard support on {dates.standard_until}, in {days} days"
        if today < dates.released:
            yield f"{name} comes to EKS on {dates.released}"

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "family": self.family,
            "os": self.os,
            "kubernetes": self.kubernetes,
            "architecture": self.architecture,
            "title": self.title,
            "ssm_parameter": self.ssm_parameter,
            "name_pattern": self.name_pattern,
            "owner": self.owner,
            "region": self.region,
            "root_device": self.root_device,
            "gpu": self.gpu,
            "package_manager": self.package_manager,
            "bootstrap": self.bootstrap,
            "buildable": self.buildable,
            "not_buildable": self.not_buildable,
            "os_ends": self.os_ends.isoformat() if self.os_ends else None,
            "frozen": self.frozen.isoformat() if self.frozen else None,
            "kubernetes_released": self.dates.released.isoformat(),
            "kubernetes_standard_until": self.dates.standard_until.isoformat(),
            "kubernetes_extended_until": self.dates.extended_until.isoformat(),
        }


@dataclass(frozen=True)
class Catalog:
    """All families, and what they exist for."""

    families: Mapping[str, Family]
    kubernetes: Mapping[str, KubernetesVersion]
    accounts: Mapping[str, Accounts]
    sources: Mapping[str, tuple[str, date]]

    def owner(self, publisher: str, region: str) -> str:
        """Give the account with which a publisher publishes in a region.

        Raises
        ------
        InputError
            If it is not known.
        """
        accounts = self.accounts[publisher]
        owner = accounts.regions.get(region, accounts.default)
        if owner is None:
            raise InputError(
                f"the account with which {publisher} publishes in {region} is not known",
                resource="region",
                hint="known for " + ", ".join(sorted(accounts.regions)),
            )
        return owner

    def kubernetes_of(self, family: str, os: str, architecture: str) -> tuple[str, ...]:
        """Give the Kubernetes versions that a family's OS version and architecture is published for, oldest first."""
        system = self.families[family].systems[os]
        if architecture not in system.architectures:
            return ()
        first, last = (minor(each) for each in system.architectures[architecture])
        return tuple(each for each in self.kubernetes if first <= minor(each) <= last)

    def release(
        self, family: str, os: str, kubernetes: str, architecture: str, *, region: str = "us-west-2"
    ) -> Release:
        """Find one release.

        Parameters
        ----------
        family, os, kubernetes, architecture
            For instance `ubuntu-eks`, `22.04`, `1.33`, `amd64`.
        region
            Decides the owner.

        Raises
        ------
        InputError
            If there is no such thing, naming what there is. `resource` is the name of the parameter at fault.
        """
        if family not in self.families:
            raise InputError(
                f"unknown family {family!r}", resource="family", hint=choose(family, self.families, "families")
            )
        found = self.families[family]
        if os not in found.systems:
            raise InputError(
                f"{family} has no version {os!r}", resource="os", hint=choose(os, found.systems, "its versions")
            )
        system = found.systems[os]
        if architecture not in system.architectures:
            raise InputError(
                f"{family} {os} is not published for {architecture}",
                resource="architecture",
                hint=f"it is for {' and '.join(system.architectures)}",
            )
        exists = self.kubernetes_of(family, os, architecture)
        if kubernetes not in exists:
            raise InputError(
                f"{family} {os} on {architecture} does not exist for Kubernetes {kubernetes}",
                resource="kubernetes",
                hint=f"it exists for {exists[0]} to {exists[-1]}{self.others(family, os, kubernetes, architecture)}",
            )
        return self.make(family, os, kubernetes, architecture, region)

    def others(self, family: str, os: str, kubernetes: str, architecture: str) -> str:
        """Say which other OS versions of a family exist for a Kubernetes version."""
        fitting = [
            each
            for each in self.families[family].systems
            if each != os and kubernetes in self.kubernetes_of(family, each, architecture)
        ]
        if fitting:
            return f"; for {kubernetes} there is {family} {' and '.join(fitting)}"
        return "" if kubernetes in self.kubernetes else f"; the catalog knows Kubernetes {', '.join(self.kubernetes)}"

    def make(self, family: str, os: str, kubernetes: str, architecture: str, region: str) -> Release:
        """Put a release together from the tables."""
        found = self.families[family]
        words = {
            "kubernetes": kubernetes,
            "os": os,
            "arch": architecture,
            "machine": MACHINE[architecture],
            **found.words.get(os, {}),
        }
        pattern = found.pattern[architecture].format_map(words)  # type: ignore[index]
        return Release(
            family=family,
            os=os,
            kubernetes=kubernetes,
            architecture=architecture,
            ssm_parameter=found.parameter[architecture].format_map(words),  # type: ignore[index]
            name_pattern=pattern,
            image_name_example=pattern.replace("*", found.stamp),
            owner=self.owner(found.publisher, region),
            region=region,
            root_device=found.root_device,
            gpu=found.gpu,
            package_manager=found.package_manager,
            bootstrap=found.bootstrap,
            buildable=found.not_buildable is None,
            not_buildable=found.not_buildable,
            title=found.title,
            os_ends=found.systems[os].ends,
            frozen=found.frozen,
            frozen_why=found.frozen_why,
            dates=self.kubernetes[kubernetes],
        )

    def releases(self, *, region: str = "us-west-2") -> Iterator[Release]:
        """Go through everything that exists, family by family."""
        for name, family in self.families.items():
            for os, system in family.systems.items():
                for architecture in system.architectures:
                    for kubernetes in self.kubernetes_of(name, os, architecture):
                        yield self.make(name, os, kubernetes, architecture, region)


def minor(version: str) -> int:
    """Give the number by which Kubernetes versions are ordered: 1.9 comes before 1.10."""
    return int(version.partition(".")[2])


@lru_cache(maxsize=1)
def load() -> Catalog:
    """Read the catalog that comes with the package.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    document = read(datafiles.path("catalog.yaml"), what="catalog")
    model, problems = validate(CatalogFile, document)
    refuse(problems, what="catalog")
    assert model is not None  # noqa: S101 - without problems there is a model
    return Catalog(
        families=model.families.list_,
        kubernetes=dict(sorted(model.kubernetes.versions.items(), key=lambda item: minor(item[0]))),
        accounts=model.publishers.accounts,
        sources={
            "kubernetes": (model.kubernetes.source, model.kubernetes.as_of),
            "publishers": (model.publishers.source, model.publishers.as_of),
            "families": (model.families.source, model.families.as_of),
        },
    )


@dataclass(frozen=True)
class ClusterInfo:
    """What a node has to know to join a cluster (`aws eks describe-cluster`).

    Attributes
    ----------
    endpoint
        The API server's URL.
    ca
        The certificate authority's data, base64 as EKS gives it.
    service_cidr
        The range of service addresses, IPv4 or IPv6; the cluster's DNS is its tenth address.
    """

    name: str
    endpoint: str
    ca: str
    service_cidr: str

    def checked(self) -> ClusterInfo:
        """Refuse what is no cluster.

        Raises
        ------
        InputError
            Naming the field. What passes cannot break out of a script or a configuration file.
        """
        # https://docs.aws.amazon.com/eks/latest/APIReference/API_CreateCluster.html
        if re.fullmatch(r"[0-9A-Za-z][A-Za-z0-9_-]{0,99}", self.name) is None:
            raise InputError(f"not the name of an EKS cluster: {self.name!r}", resource="cluster.name")
        if (
            re.fullmatch(r"https://[A-Za-z0-9.:\[\]-]+(?:/[A-Za-z0-9._~/-]*)?", self.endpoint) is None
            or not urlsplit(self.endpoint).hostname
        ):
            raise InputError(f"not the https URL of an API server: {self.endpoint!r}", resource="cluster.endpoint")
        try:
            base64.b64decode(self.ca, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InputError("the certificate authority is not base64", resource="cluster.ca") from error
        if not self.ca:
            raise InputError("the certificate authority is empty", resource="cluster.ca")
        self.dns()
        return self

    def dns(self) -> str:
        """Give the address of the cluster's DNS.

        Raises
        ------
        InputError
            If the range is none, or too small to have a tenth address.
        """
        try:
            return str(ipaddress.ip_network(self.service_cidr)[10])
        except (ValueError, IndexError) as error:
            raise InputError(f"not a range of service addresses: {error}", resource="cluster.service_cidr") from error


def user_data(release: Release, *, cluster: ClusterInfo, gpu: bool = False, kubelet_args: Sequence[str] = ()) -> str:
    """Write the user data with which a node of a managed node group with an AMI of one's own joins its cluster.

    Parameters
    ----------
    release
        What the AMI was built on.
    gpu
        Whether the node's containers use the NVIDIA runtime.
    kubelet_args
        Flags for the kubelet, each `--name=value`; for Bottlerocket only those that it has settings for
        (`--node-labels`, `--register-with-taints`, `--max-pods`).

    Returns
    -------
    str
        Plain text, not yet base64: a shell script (`bootstrap.sh`), a MIME document with a NodeConfig (`nodeadm`,
        https://awslabs.github.io/amazon-eks-ami/nodeadm/doc/api/), or TOML (`settings`,
        https://bottlerocket.dev/en/os/latest/#/api/settings/kubernetes/).

    Raises
    ------
    InputError
        If the cluster or a flag is not well-formed, the combination is impossible, or the result is too large.
    """
    cluster.checked()
    for flag in kubelet_args:
        if re.fullmatch(r"--[a-z0-9][a-z0-9-]*(?:=[^\s'\"\\`$]*)?", flag) is None:
            raise InputError(
                f"not a flag of the kubelet: {flag!r}",
                resource="kubelet_args",
                hint="write --name=value, without spaces, quotes, $ and backslashes",
            )
    if gpu and not release.gpu and release.family != "ubuntu-eks":
        raise InputError(
            f"{release.family} has no NVIDIA driver", resource="gpu", hint=f"use {gpu_family(release.family)}"
        )
    match release.bootstrap:
        case "bootstrap.sh":
            text = bootstrap_script(release, cluster, gpu=gpu, kubelet_args=kubelet_args)
        case "nodeadm":
            text = node_config(cluster, kubelet_args)
        case "settings":
            text = settings(cluster, kubelet_args)
    if len(text.encode()) > USER_DATA_LIMIT:
        raise InputError(
            f"the user data has {len(text.encode())} bytes, EC2 takes {USER_DATA_LIMIT}", resource="user data"
        )
    return text


def gpu_family(family: str) -> str:
    """Name the family with a driver that belongs to one without."""
    return {"al2": "al2-gpu", "al2023": "al2023-nvidia", "bottlerocket": "bottlerocket-nvidia"}.get(
        family, "a GPU family"
    )


def bootstrap_script(release: Release, cluster: ClusterInfo, *, gpu: bool, kubelet_args: Sequence[str]) -> str:
    """Call the bootstrap script that AL2 and Ubuntu bring along.

    With the endpoint and the CA it does not have to ask EKS, which takes time and a permission.
    """
    words = [
        "/etc/eks/bootstrap.sh",
        cluster.name,
        "--apiserver-endpoint",
        cluster.endpoint,
        "--b64-cluster-ca",
        cluster.ca,
    ]
    if ":" in cluster.service_cidr:
        words += ["--ip-family", "ipv6", "--service-ipv6-cidr", cluster.service_cidr]
    else:
        words += ["--dns-cluster-ip", cluster.dns()]
    if gpu and release.family == "ubuntu-eks":
        # Canonical's script then copies nvidia-runtime-config.toml, which the step nvidia-toolkit has completed.
        words += ["--container-runtime", "nvidia-container-runtime"]
    if kubelet_args:
        words += ["--kubelet-extra-args", " ".join(kubelet_args)]
    return f"#!/bin/bash\nset -euo pipefail\n{shlex.join(words)}\n"


def node_config(cluster: ClusterInfo, kubelet_args: Sequence[str]) -> str:
    """Write a NodeConfig in a MIME document. JSON strings are YAML strings, so nothing needs to be escaped twice."""
    lines = [
        "MIME-Version: 1.0",
        'Content-Type: multipart/mixed; boundary="BOUNDARY"',
        "",
        "--BOUNDARY",
        "Content-Type: application/node.eks.aws",
        "",
        "---",
        "apiVersion: node.eks.aws/v1alpha1",
        "kind: NodeConfig",
        "spec:",
        "  cluster:",
        f"    name: {json.dumps(cluster.name)}",
        f"    apiServerEndpoint: {json.dumps(cluster.endpoint)}",
        f"    certificateAuthority: {json.dumps(cluster.ca)}",
        f"    cidr: {json.dumps(cluster.service_cidr)}",
    ]
    if kubelet_args:
        lines += ["  kubelet:", "    flags:", *(f"      - {json.dumps(flag)}" for flag in kubelet_args)]
    return "\n".join([*lines, "", "--BOUNDARY--", ""])


def settings(cluster: ClusterInfo, kubelet_args: Sequence[str]) -> str:
    """Write Bottlerocket's settings. JSON strings are TOML strings."""
    lines = [
        "[settings.kubernetes]",
        f"cluster-name = {json.dumps(cluster.name)}",
        f"api-server = {json.dumps(cluster.endpoint)}",
        f"cluster-certificate = {json.dumps(cluster.ca)}",
        f"cluster-dns-ip = {json.dumps(cluster.dns())}",
    ]
    labels: dict[str, str] = {}
    taints: dict[str, list[str]] = {}
    for flag in kubelet_args:
        name, _, value = flag.partition("=")
        if name == "--max-pods" and value.isdigit():
            lines.append(f"max-pods = {int(value)}")
        elif name == "--node-labels":
            labels |= {key: text for key, _, text in (each.partition("=") for each in value.split(",") if each)}
        elif name == "--register-with-taints":
            for each in filter(None, value.split(",")):
                key, _, effect = each.partition("=")
                taints.setdefault(key, []).append(effect)
        else:
            raise InputError(
                f"Bottlerocket has no setting for {flag}",
                resource="kubelet_args",
                hint="it takes --node-labels, --register-with-taints and --max-pods",
            )
    if labels:
        lines += ["", "[settings.kubernetes.node-labels]"]
        lines += [f"{json.dumps(key)} = {json.dumps(text)}" for key, text in labels.items()]
    if taints:
        lines += ["", "[settings.kubernetes.node-taints]"]
        lines += [f"{json.dumps(key)} = {json.dumps(effects)}" for key, effects in taints.items()]
    return "\n".join([*lines, ""])
