"""Letting old images go, in two steps: deprecate, which hides them from others, and after a grace period deregister.

The decision (`plan`) is a pure function of the images, the rules and the time. What somebody uses stays, and so does
whatever cannot be told to be unused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from leptonami.build.image import deregister
from leptonami.errors import BuildError, Interrupted, LeptonamiError
from leptonami.lifecycle import images
from leptonami.lifecycle.images import ImageRecord, Images
from leptonami.lifecycle.known import started
from leptonami.lifecycle.resources import moment
from leptonami.progress import Progress, Silent, Stages
from leptonami.runs import Journal, Run, now
from leptonami.target import AwsError, Target

__all__ = ["Decision", "Outcome", "Retired", "plan", "retire"]

MANIFEST_SCHEMA = 1
Action = Literal["keep", "deprecate", "wait", "deregister"]
GONE = {"InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"}
# EC2 refuses a time in the past and rounds to the minute.
SOON = timedelta(minutes=2)


@dataclass(frozen=True)
class Decision:
    """What is to become of one image, and why."""

    image: ImageRecord
    action: Action
    why: str


def plan(
    records: Iterable[ImageRecord],
    *,
    keep: int,
    grace: timedelta,
    now: datetime,
    owners: Collection[str] | None,
    unasked: Mapping[str, Collection[str]],
) -> tuple[Decision, ...]:
    """Decide about each image. Pure.

    In each region the last `keep` of a plan stay, by the run that made them (an image and its copies in the same region
    count as one); what somebody uses stays beside them. The others are deprecated; they are deregistered when they have
    been deprecated for `grace`, and nobody has launched them for as long.

    Parameters
    ----------
    records
        The images, in any order.
    owners
        Whose images may go, and count (`leptonami:owner`); None for everybody's.
    unasked
        The services that could not say who uses an image, by region. Where there are any, nothing is deregistered.
    """
    decisions: list[Decision] = []
    counted: dict[tuple[str, str], set[str]] = {}
    for image in sorted(records, key=lambda each: (each.version, each.created or now, each.id), reverse=True):
        obstacle = untouchable(image, owners)
        if obstacle is not None:
            decisions.append(Decision(image, "keep", obstacle))
            continue
        versions = counted.setdefault((image.plan, image.region), set())
        versions.add(image.version)
        if len(versions) <= keep:
            what = "the last" if keep == 1 else f"one of the last {keep}"
            decisions.append(Decision(image, "keep", what))
            continue
        decisions.append(decide(image, grace, now, unasked.get(image.region, ())))
    return tuple(decisions)


def untouchable(image: ImageRecord, owners: Collection[str] | None) -> str | None:
    """Say why an image is not ours to retire, whatever its age."""
    if image.odd or started(image.version) is None or not image.plan:
        return f"its tags are not as a run sets them: {image.odd or 'no run or no plan'}"
    if owners is not None and image.owner not in owners:
        return f"it belongs to {image.owner}"
    if image.state == "disabled":
        return "somebody has disabled it: enable it again (aws ec2 enable-image), or deregister it"
    if image.state != "available":
        return f"it is {image.state}, which is a matter for sweep"
    return None


def decide(image: ImageRecord, grace: timedelta, now: datetime, unasked: Collection[str]) -> Decision:
    """Decide about an image that is not among the last ones."""
    action: Action = "keep"
    deprecated = image.deprecated if image.deprecated is not None and image.deprecated <= now + 2 * SOON else None
    if image.current_users:
        why = f"used by {named(image)}"
    elif image.launched is not None and now - image.launched < grace:
        why = f"launched on {image.launched:%Y-%m-%d}"
    elif image.launched is None and not image.launched_known:
        action, why = "wait", "nobody can tell when it was last launched (ec2:DescribeImageAttribute)"
    elif deprecated is None:
        action, why = "deprecate", f"{age_of(image, now)} old, and not among the last ones"
    elif deprecated + grace > now:
        action, why = "wait", f"deprecated on {deprecated:%Y-%m-%d}, to go on {deprecated + grace:%Y-%m-%d}"
    elif image.protected:
        why = "protected from being deregistered"
    elif unasked:
        action, why = "wait", f"nobody can tell who uses it: {', '.join(sorted(unasked))} did not answer"
    else:
        action, why = "deregister", f"deprecated on {deprecated:%Y-%m-%d}, and nobody uses it"
    return Decision(image, action, why)


def named(image: ImageRecord) -> str:
    """Name the first user, and count the others."""
    users = image.current_users
    return str(users[0]) + (f" and {len(users) - 1} more" if len(users) > 1 else "")


def age_of(image: ImageRecord, now: datetime) -> str:
    """Say how old an image is."""
    from leptonami.lifecycle.words import age

    return age(started(image.version), now)


@dataclass(frozen=True)
class Outcome:
    """What came of one action: `deprecated`, `deregistered`, `was not there`, `held` or `failed`, and then why."""

    image: ImageRecord
    outcome: str
    error: str | None = None


@dataclass(frozen=True)
class Retired:
    """What was decided and, unless it was a dry run, done."""

    decisions: tuple[Decision, ...]
    found: Images
    keep: int
    grace: timedelta
    owners: tuple[str, ...] | None
    outcomes: tuple[Outcome, ...] = ()
    run: Run | None = None

    @property
    def acts(self) -> tuple[Decision, ...]:
        """What is to be done."""
        return tuple(each for each in self.decisions if each.action in {"deprecate", "deregister"})

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """What did not work."""
        return tuple(each for each in self.outcomes if each.outcome == "failed")

    @property
    def problem(self) -> BuildError | None:
        """Tell it as an error."""
        if not self.failed:
            return None
        first = self.failed[0]
        what = f"{len(self.failed)} of {len(self.acts)} did not work"
        return BuildError(what, resource="retire", hint=f"{first.image.id}: {first.error}")

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        outcomes = {(each.image.region, each.image.id): each for each in self.outcomes}
        rows = []
        for each in self.decisions:
            done = outcomes.get((each.image.region, each.image.id))
            row: dict[str, Any] = {"action": each.action, "why": each.why, **each.image.as_dict()}
            if done is not None:
                row |= {"outcome": done.outcome, "error": done.error}
            rows.append(row)
        return {
            "provenance": self.found.provenance,
            "at": self.found.at.isoformat(),
            "dry_run": self.run is None,
            "run": self.run.id if self.run else None,
            "keep": self.keep,
            "grace_s": int(self.grace.total_seconds()),
            "owners": None if self.owners is None else list(self.owners),
            "unasked": self.found.unasked,
            "images": rows,
        }


def retire(
    target: Target,
    plan_name: str,
    *,
    keep: int,
    grace: timedelta,
    regions: Sequence[str],
    runs: Path,
    owners: Sequence[str] = (),
    any_owner: bool = False,
    skip: Collection[str] = (),
    act: bool = False,
    progress: Progress | None = None,
) -> Retired:
    """Retire a plan's old images, or only say which.

    Parameters
    ----------
    plan_name
        The plan's name, as in `leptonami:plan`.
    owners
        Whose images too, beside the caller's own.
    any_owner
        Everybody's.
    skip
        Services that need not be asked who uses an image, since somebody knows: see `usage.SERVICES`.
    act
        Do it. It gets a run of its own in `runs`, with a journal.

    Raises
    ------
    CredentialsError
        If the credentials may not list images.
    Interrupted
        Ctrl-C while something is done.
    """
    allowed = None if any_owner else tuple(dict.fromkeys([target.identity().name, *owners]))
    shown = progress or Silent()
    stage = Stages(shown).stage
    try:
        with stage("look at the images and who uses them"):
            found = images.find(target, plan=plan_name, regions=regions, skip=skip)
        unasked = {region: tuple(usage.unasked) for region, usage in found.usage.items()}
        decisions = plan(found.records, keep=keep, grace=grace, now=found.at, owners=allowed, unasked=unasked)
        retired = Retired(decisions, found, keep, grace, allowed)
        if not act or not retired.acts:
            return retired
        run = Run.create(runs)
        with run.lock(), stage(f"retire {len(retired.acts)} images"):
            run.journal.write("retire", plan=plan_name, keep=keep, grace_s=int(grace.total_seconds()))
            run.write_manifest(manifest(target, plan_name, retired, run, "running"))
            try:
                outcomes = Retirer(target, run.journal, shown).run(retired.acts)
            except KeyboardInterrupt as error:
                run.write_manifest(manifest(target, plan_name, replace(retired, run=run), run, "interrupted"))
                raise Interrupted(
                    "interrupted while retiring; what was done is in the journal, and doing it again goes on",
                    resource=str(run.journal.path),
                ) from error
            retired = replace(retired, outcomes=tuple(outcomes), run=run)
            run.write_manifest(manifest(target, plan_name, retired, run, "failed" if retired.failed else "succeeded"))
        return retired
    finally:
        shown.close()


def manifest(target: Target, plan_name: str, retired: Retired, run: Run, state: str) -> dict[str, Any]:
    """Give the manifest of a retirement."""
    return {
        "schema": MANIFEST_SCHEMA,
        "kind": "retire",
        "state": state,
        "plan": {"name": plan_name},
        "target": {"region": target.region},
        "updated": now().isoformat(),
        "calls": dict(sorted(target.calls.items())),
        **retired.as_dict(),
        "run": run.id,
    }


class Retirer:
    """Does what was decided, each image by itself; one that fails does not keep the others from being tried."""

    def __init__(self, target: Target, journal: Journal, progress: Progress) -> None:
        self.target, self.journal, self.progress = target, journal, progress

    def run(self, decisions: Sequence[Decision]) -> list[Outcome]:
        """Deprecate first, then deregister."""
        outcomes = []
        for each in sorted(decisions, key=lambda each: each.action != "deprecate"):
            self.progress.update(f"{each.action} {each.image.id}")
            outcomes.append(self.one(each))
        return outcomes

    def one(self, decision: Decision) -> Outcome:
        """Do one, and write down what came of it."""
        image = decision.image
        try:
            with self.journal.action(decision.action, id=image.id, region=image.region) as outcome:
                try:
                    done = self.deprecate(image) if decision.action == "deprecate" else self.deregister(image)
                except AwsError as error:
                    if error.code not in GONE:
                        raise
                    done = "was not there"
                outcome["outcome"] = done
        except LeptonamiError as error:
            return Outcome(image, "failed", str(error))
        return Outcome(image, done)

    def deprecate(self, image: ImageRecord) -> str:
        """Deprecate an image as of now. `aws ec2 disable-image-deprecation` takes it back."""
        ec2 = self.target.client("ec2", image.region)
        self.target.call(ec2.enable_image_deprecation, ImageId=image.id, DeprecateAt=now() + SOON)
        return "deprecated"

    def deregister(self, image: ImageRecord) -> str:
        """Deregister an image with its snapshots, if it is still as it was when that was decided."""
        ec2 = self.target.client("ec2", image.region)
        described = self.target.call(ec2.describe_images, ImageIds=[image.id], IncludeDisabled=True)["Images"]
        if not described:
            return "was not there"
        if described[0]["State"] != "available":
            raise BuildError(f"it is {described[0]['State']} meanwhile", resource=image.id)
        if moment(described[0].get("DeprecationTime")) != image.deprecated:
            raise BuildError("somebody has changed its deprecation meanwhile", resource=image.id)
        gone = deregister(self.target, image.id, image.region)
        left = [each for each in image.snapshots if each not in gone]
        for snapshot in left:
            # EC2 keeps a snapshot that another image needs, and one that it could not delete with its image.
            try:
                with self.journal.action("ec2.DeleteSnapshot", id=snapshot, region=image.region):
                    self.target.call(ec2.delete_snapshot, SnapshotId=snapshot)
            except AwsError as error:
                if error.code not in {"InvalidSnapshot.NotFound", "InvalidSnapshot.InUse"}:
                    raise BuildError(
                        f"the image is deregistered, its snapshot {snapshot} is still there: {error}",
                        resource=image.id,
                        hint=f"delete it: aws ec2 delete-snapshot --region {image.region} --snapshot-id {snapshot}",
                    ) from error
        self.forget(image)
        return "deregistered"

    def forget(self, image: ImageRecord) -> None:
        """Delete the parameters of this version, which name an image that is no more."""
        names = [
            each.name for each in image.users if each.kind == "parameter" and each.name.endswith(f"/{image.version}")
        ]
        if names:
            with self.journal.action("ssm.DeleteParameters", id=names, region=image.region):
                self.target.call(self.target.client("ssm", image.region).delete_parameters, Names=names)
