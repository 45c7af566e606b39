"""What publishing means, as values: what a plan orders, how an image stands, and what is still to be done. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from leptonami.errors import InputError
from leptonami.runs import RUN_ID

if TYPE_CHECKING:
    from leptonami.plan import Plan, Publish

__all__ = ["COPY_OF", "Change", "Live", "Order", "changes", "copy_image", "imagined", "tag_value", "when_deprecated"]

# A copy is known by this tag: which image it is of.
COPY_OF = "leptonami:copy-of"
AWS_KEY = "alias/aws/ebs"


@dataclass(frozen=True)
class Change:
    """One call that changes something: `call` such as `ec2.ModifyImageAttribute`, in `region`, for `purpose`."""

    call: str
    region: str
    purpose: str
    request: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Order:
    """What a plan orders to be done with its images.

    Attributes
    ----------
    plan
        The plan's name.
    region
        Where the image was made.
    root_key
        The KMS key of the image's root volume; None for the account's default.
    wait
        Seconds until a copy is given up.
    publish
        The plan's section `publish`.
    """

    plan: str
    family: str
    os: str
    kubernetes: str
    architecture: str
    region: str
    root_key: str | None
    wait: int
    publish: Publish

    @classmethod
    def of_plan(cls, plan: Plan) -> Order:
        """Read it from a plan."""
        return cls(
            plan=plan.name,
            family=plan.family,
            os=plan.os,
            kubernetes=plan.kubernetes,
            architecture=plan.architecture,
            region=plan.region,
            root_key=plan.root_volume.kms_key,
            wait=plan.image.wait,
            publish=plan.publish,
        )

    @classmethod
    def of_manifest(cls, manifest: Mapping[str, Any], *, where: str) -> Order:
        """Read it from what a build's manifest says of its plan, checked again.

        Raises
        ------
        InputError
            If it is not there or not valid.
        """
        from pydantic import ValidationError

        from leptonami.plan import Publish, duration

        try:
            said = manifest["plan"]["parameters"]
            section = dict(said.get("publish") or {})
            # The manifest has seconds, where the plan's file has durations with their units.
            for name in ("copy_within", "deprecate_after"):
                if section.get(name) is not None:
                    section[name] = duration(section[name])
            return cls(
                **{name: str(said[name]) for name in ("family", "os", "kubernetes", "architecture", "region")},
                plan=str(said["name"]),
                root_key=said["root_volume"]["kms_key"],
                wait=int(said["image"]["wait"]),
                publish=Publish.model_validate(section),
            )
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            raise InputError(
                f"the manifest does not say how the image is published: {type(error).__name__}: {error}",
                resource=where,
                hint="give the plan with --plan",
            ) from error

    @property
    def regions(self) -> tuple[str, ...]:
        """Every region that has the image in the end, its own first."""
        return (self.region, *self.publish.regions)

    @property
    def shared(self) -> bool:
        """Whether anybody else may use it."""
        return bool(self.publish.accounts or self.publish.organizations)

    def key(self, region: str) -> str | None:
        """Name the key that the image has in a region; None for the default there."""
        return self.root_key if region == self.region else self.publish.kms_keys.get(region)

    def zones(self, region: str) -> tuple[str, ...]:
        """Name the zones of a region in which volumes are to be restored fast."""
        fast = self.publish.fast_launch
        if fast is None or fast.fast_snapshot_restore is None:
            return ()
        return tuple(zone for zone in fast.fast_snapshot_restore.zones if zone[:-1] == region)

    def parameter(self, version: str) -> str | None:
        """Name the SSM parameter of a version (`latest` or a run's id); None if the plan wants none."""
        if self.publish.ssm_parameter is None:
            return None
        parts = (self.publish.ssm_parameter, self.family, self.os, self.kubernetes, self.architecture, version)
        return "/".join(parts)


@dataclass(frozen=True)
class Live:
    """How an image stands in a region: what EC2 says.

    Attributes
    ----------
    snapshots
        Its snapshots' ids; `keys` are the last parts of their KMS keys' ARNs, which do not name the account.
    volumes_gib
        The sizes of the volumes they are of.
    launch
        Who may launch it: account ids and ARNs of organizations and OUs.
    readers
        By snapshot: the accounts that may make volumes from it.
    public
        Whether everybody may launch it, or read one of its snapshots.
    block_public
        The state of the region's block of public images.
    restores
        Fast snapshot restores: (snapshot, zone) to state.
    """

    id: str
    region: str
    state: str
    name: str
    created: datetime
    architecture: str
    root_device: str
    snapshots: tuple[str, ...]
    volumes_gib: tuple[int, ...]
    encrypted: bool
    keys: tuple[str, ...] = ()
    description: str = ""
    imds: str | None = None
    deprecated: datetime | None = None
    protected: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    launch: frozenset[str] = frozenset()
    readers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    public: bool = False
    block_public: str = "unknown"
    restores: Mapping[tuple[str, str], str] = field(default_factory=dict)
    reason: str = ""

    @property
    def version(self) -> str:
        """Name the image for its parameter: the run that made it, which sorts by time; else the image itself."""
        run = self.tags.get("leptonami:run", "")
        return run if RUN_ID.fullmatch(run) else self.tags.get(COPY_OF, self.id)

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data for the record."""
        return {
            "image": self.id,
            "name": self.name,
            "state": self.state,
            "created": self.created.isoformat(),
            "snapshots": list(self.snapshots),
            "encrypted": self.encrypted,
            "kms_keys": list(self.keys),
            "imds": self.imds,
            "deprecated": self.deprecated.isoformat() if self.deprecated else None,
            "protected": self.protected,
            "launch": sorted(self.launch),
            "readers": {name: sorted(each) for name, each in self.readers.items()},
            "public": self.public,
            "block_public_access": self.block_public,
            "fast_snapshot_restore": {f"{name} {zone}": state for (name, zone), state in self.restores.items()},
        }


def imagined(source: Live, region: str) -> Live:
    """Give a copy that is not there yet, for showing what will be done with it."""
    return replace(
        source,
        id=f"<the copy in {region}>",
        region=region,
        snapshots=tuple(f"<snapshot {number}>" for number, _ in enumerate(source.snapshots, start=1)),
        deprecated=None,
        protected=False,
        launch=frozenset(),
        readers={},
        restores={},
        public=False,
        block_public="unknown",
    )


def tag_value(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Give tags as EC2 wants them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def copy_image(order: Order, source: Live, region: str) -> dict[str, Any]:
    """Give the request for a copy, but for its client token: encrypted, the source's tags on image and snapshots."""
    kept = {key: value for key, value in source.tags.items() if not key.lower().startswith("aws:")}
    request: dict[str, Any] = {
        "SourceImageId": source.id,
        "SourceRegion": source.region,
        "Name": source.name,
        "Description": source.description,
        "Encrypted": True,
        "CopyImageTags": True,
        "TagSpecifications": [
            {"ResourceType": "image", "Tags": tag_value({COPY_OF: source.id})},
            {"ResourceType": "snapshot", "Tags": tag_value({**kept, COPY_OF: source.id})},
        ],
    }
    if (key := order.key(region)) is not None:
        request["KmsKeyId"] = key
    if order.publish.copy_within is not None:
        request["SnapshotCopyCompletionDurationMinutes"] = order.publish.copy_within // 60
    return request


def when_deprecated(order: Order, source: Live) -> datetime | None:
    """Give the date of deprecation, the same for the image and its copies; whole minutes, to which EC2 rounds."""
    if order.publish.deprecate_after is None:
        return None
    due = source.created + timedelta(seconds=order.publish.deprecate_after)
    return due.astimezone(UTC).replace(second=0, microsecond=0)


def changes(order: Order, source: Live, live: Live) -> tuple[Change, ...]:
    """Say what is still to be done with the image in one region; nothing if it stands as ordered.

    Nothing is ever taken back: an account that the plan no longer names keeps its permission until somebody removes it
    (`extra` finds such).
    """
    found: list[Change] = []

    def add(call: str, purpose: str, request: dict[str, Any]) -> None:
        found.append(Change(call, live.region, purpose, request))

    if source.imds is not None and live.imds != source.imds:
        request = {"ImageId": live.id, "ImdsSupport": {"Value": source.imds}}
        add("ec2.ModifyImageAttribute", "IMDSv2 by default, as the original", request)
    publish = order.publish
    missing: list[dict[str, str]] = [{"UserId": each} for each in publish.accounts if each not in live.launch]
    missing += [organization(each) for each in publish.organizations if each not in live.launch]
    if missing:
        request = {"ImageId": live.id, "LaunchPermission": {"Add": missing}}
        add("ec2.ModifyImageAttribute", f"{len(missing)} more may launch it", request)
    for snapshot in live.snapshots:
        readers = [each for each in publish.accounts if each not in live.readers.get(snapshot, frozenset())]
        if readers:
            add(
                "ec2.ModifySnapshotAttribute",
                f"{len(readers)} more may copy it",
                {
                    "SnapshotId": snapshot,
                    "Attribute": "createVolumePermission",
                    "OperationType": "add",
                    "UserIds": readers,
                },
            )
    due = when_deprecated(order, source)
    if due is not None and live.deprecated != due:
        add("ec2.EnableImageDeprecation", f"deprecated on {due:%Y-%m-%d}", {"ImageId": live.id, "DeprecateAt": due})
    zones = [zone for zone in order.zones(live.region) if any((s, zone) not in live.restores for s in live.snapshots)]
    if zones:
        request = {"AvailabilityZones": zones, "SourceSnapshotIds": list(live.snapshots)}
        add("ec2.EnableFastSnapshotRestores", "volumes without lazy loading", request)
    if publish.protect and not live.protected:
        # The last, so that an image that could not be finished can still be taken away.
        add("ec2.EnableImageDeregistrationProtection", "it cannot be deregistered", {"ImageId": live.id})
    return tuple(found)


def organization(arn: str) -> dict[str, str]:
    """Give a launch permission for an organization or an organizational unit."""
    return {"OrganizationalUnitArn" if ":ou/" in arn else "OrganizationArn": arn}


def extra(order: Order, live: Live) -> tuple[str, ...]:
    """Name who may use the image without the plan saying so."""
    ordered = {*order.publish.accounts, *order.publish.organizations}
    return tuple(sorted((live.launch | frozenset().union(*live.readers.values())) - ordered))
