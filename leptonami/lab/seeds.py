"""What a region holds before anybody has done anything: public images, their SSM parameters, a network with a way out.

Everything comes from the catalog, with two dates for each release (so that "the newest" is a question), and one image
that imitates Ubuntu's newest name under another account (so that "whose" is one too). Ids are derived from region and
name: they are the same in every lab.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from moto.ec2.models import ec2_backends
from moto.ssm.models import Parameter, ssm_backends

from leptonami import catalog
from leptonami.lab.disks import base_image
from leptonami.lab.wire import ApiError
from leptonami.lab.world import ACCOUNT

if TYPE_CHECKING:
    from leptonami.catalog import Release

__all__ = ["IMITATOR", "image_id", "seed"]

# Nobody's account: the lab's own, backwards.
IMITATOR = ACCOUNT[::-1]
# Sizes of the root snapshots in GiB, as the publishers' images had them in 2025.
ROOT_GIB = {"bottlerocket": 2, "bottlerocket-nvidia": 2}
AMAZON = {"al2", "al2-gpu", "al2023", "al2023-nvidia", "bottlerocket", "bottlerocket-nvidia"}


def image_id(region: str, owner: str, name: str) -> str:
    """Derive the id of a public image."""
    return "ami-" + hashlib.sha256(f"{region} {owner} {name}".encode()).hexdigest()[:17]


def seed(region: str) -> None:
    """Fill a region.

    Raises
    ------
    ApiError
        If there is none of that name.
    """
    if region not in ec2_backends[ACCOUNT]:
        raise ApiError("LabNoSuchRegion", f"leptonami lab: AWS has no region {region!r}")
    ec2 = ec2_backends[ACCOUNT][region]
    parameters: Any = ssm_backends[ACCOUNT][region]._parameters
    # moto's own public parameters name images that do not exist here.
    parameters.latest_amis_loaded = parameters.latest_ecs_amis_loaded = True
    # moto leaves two of its base class's methods open, which only mypy minds.
    make: Any = Parameter
    newest: Release | None = None
    for release in catalog.load().releases(region=region):
        versions = [publish(ec2, release, name, created) for name, created in names(release)]
        for number, (image, created) in enumerate(versions, start=1):
            parameters[release.ssm_parameter].append(
                make(
                    # Public parameters belong to no account: their ARN has none.
                    account_id="",
                    name=release.ssm_parameter,
                    value=image.id,
                    parameter_type="String",
                    description=None,
                    allowed_pattern=None,
                    keyid=None,
                    last_modified_date=created,
                    version=number,
                    data_type="text",
                    tier="Standard",
                )
            )
        if release.family == "ubuntu-eks" and release.architecture == "amd64":
            newest = release
    if newest is not None:
        imitate(ec2, newest)
    open_network(ec2)


def names(release: Release) -> list[tuple[str, datetime]]:
    """Give the names and dates of a release's two images, the older one first."""
    name = release.image_name_example
    found = re.search(r"20\d{6}", name)
    created = datetime.strptime(found[0], "%Y%m%d") if found else datetime(2026, 9, 1)
    earlier = created - timedelta(days=28)
    older = name.replace(found[0], f"{earlier:%Y%m%d}") if found else earlier_version(name)
    return [(older, earlier.replace(tzinfo=UTC)), (name, created.replace(tzinfo=UTC))]


def earlier_version(name: str) -> str:
    """Lower the minor number of a version such as `v1.49.0` in a name."""
    return re.sub(r"v(\d+)\.(\d+)", lambda m: f"v{m[1]}.{max(int(m[2]) - 1, 0)}", name, count=1)


def publish(ec2: Any, release: Release, name: str, created: datetime) -> tuple[Any, datetime]:
    """Make one public image."""
    chosen = image_id(ec2.region_name, release.owner, name)
    snapshot = "snap-" + chosen.removeprefix("ami-")
    devices = [(release.root_device, ROOT_GIB.get(release.family, 20), snapshot)]
    if release.family.startswith("bottlerocket"):
        devices.append(("/dev/xvdb", 20, "snap-" + chosen[5:] + chosen[4]))
    image = base_image(
        ec2,
        chosen,
        devices,
        name=name,
        description=release.title,
        owner_id=release.owner,
        # AWS shows an alias for its own images only; Canonical's have none.
        owner_alias="amazon" if release.family in AMAZON else None,
        architecture={"amd64": "x86_64"}.get(release.architecture, release.architecture),
        virtualization_type="hvm",
        creation_date=created,
        image_location=f"{'amazon' if release.family in AMAZON else release.owner}/{name}",
        root_device_name=release.root_device,
        boot_mode="uefi-preferred" if release.architecture == "amd64" else "uefi",
    )
    image.image_owner_alias = "amazon" if release.family in AMAZON else None
    image.imds_support = "v2.0" if release.family.startswith("al2023") else None
    image.lab_release = release
    return image, created


def imitate(ec2: Any, release: Release) -> None:
    """Put up an image with Ubuntu's name and a later date, by somebody else."""
    name, created = names(release)[1]
    found = re.search(r"20\d{6}", name)
    later = created + timedelta(days=1)
    imitation = name.replace(found[0], f"{later:%Y%m%d}") if found else f"{name}.1"
    image = base_image(
        ec2,
        image_id(ec2.region_name, IMITATOR, imitation),
        [(release.root_device, 20, "snap-" + image_id(ec2.region_name, IMITATOR, imitation)[4:])],
        name=imitation,
        description="an imitation, for tests of who owns an image",
        owner_id=IMITATOR,
        architecture="x86_64",
        virtualization_type="hvm",
        creation_date=later,
        image_location=f"{IMITATOR}/{imitation}",
        root_device_name=release.root_device,
    )
    image.lab_release = release


def open_network(ec2: Any) -> None:
    """Give the default VPC the internet gateway that AWS makes with it and moto does not."""
    gateway = ec2.create_internet_gateway()
    ec2.attach_internet_gateway(gateway.id, ec2.default_vpc.id)
    for table in ec2.route_tables.values():
        if table.vpc_id == ec2.default_vpc.id:
            ec2.create_route(table.id, "0.0.0.0/0", gateway_id=gateway.id)
