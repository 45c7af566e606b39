"""Publishing one image: look, copy, share, and only then let the parameters name it.

Everything is asked first and changed only where it is not as ordered, so publishing again goes on where it stopped, and
changes nothing when all is done. The parameters come last, when every region has its image: whoever reads `latest`
sees the old image or a finished new one.
"""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from leptonami.errors import BuildError, CheckFailed, CredentialsError, InputError, Interrupted, LeptonamiError, Timeout
from leptonami.progress import Progress, Silent, Stages
from leptonami.publish import copies, parameters
from leptonami.publish.fastlaunch import launch_template
from leptonami.publish.live import apply, look
from leptonami.publish.model import Change, Live, Order, changes, copy_image, extra, imagined, when_deprecated
from leptonami.publish.subject import Checks, Subject, checks, read_manifest
from leptonami.runs import Run, now, write_whole
from leptonami.target import Provenance, Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leptonami.plan import Plan

__all__ = ["Outline", "Published", "Region", "calls", "outline", "publish"]

SCHEMA = 1
# How long a change may take until EC2 shows it: its answers are eventually consistent.
VISIBLE_S = 120.0
WORKERS = 16
RECORD = "publish.json"
# What publishing may call; which of the writing ones a plan needs is in `calls`.
READS = (
    *("ec2.DescribeImages", "ec2.DescribeImageAttribute", "ec2.DescribeSnapshots", "ec2.DescribeSnapshotAttribute"),
    *("ec2.GetImageBlockPublicAccessState", "ec2.DescribeRegions"),
)


@dataclass
class Region:
    """What came of one region.

    Attributes
    ----------
    made
        Whether the image was copied there by this call; False for one that was there.
    done
        The changes that were made, in words.
    also
        Who else may use the image, without the plan saying so. Nobody's permission is taken back.
    """

    region: str
    live: Live | None = None
    made: bool = False
    seconds: float = 0.0
    done: list[str] = field(default_factory=list)
    also: tuple[str, ...] = ()
    error: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "region": self.region,
            **(self.live.as_dict() if self.live else {}),
            "copied_now": self.made,
            "copy_seconds": self.seconds,
            "changed": list(self.done),
            "also_allowed": list(self.also),
            "error": self.error,
        }


@dataclass
class Published:
    """What came of publishing an image."""

    image: str
    order: Order
    provenance: Provenance
    checked: Checks
    regions: list[Region]
    parameters: list[parameters.Move] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    state: str = "running"

    @property
    def changed(self) -> bool:
        """Whether anything was changed."""
        moved = any(each.outcome == "set" for each in self.parameters)
        return moved or any(each.made or each.done for each in self.regions)

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data: the manifest of the publication."""
        own = next((each.live for each in self.regions if each.region == self.order.region and each.live), None)
        return {
            "schema": SCHEMA,
            "image": self.image,
            "plan": self.order.plan,
            "state": self.state,
            "provenance": self.provenance,
            "updated": now().isoformat(),
            "ordered": self.order.publish.model_dump(mode="json"),
            "checked": self.checked.as_dict(),
            "changed": self.changed,
            "regions": [each.as_dict() for each in self.regions],
            "parameters": [vars(each) for each in self.parameters],
            "launch_template": launch_template(self.order, own) if own else None,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Outline:
    """What publishing will do: every call that changes something, in order, and what to know before."""

    image: str
    checked: Checks
    changes: tuple[Change, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "image": self.image,
            "checked": self.checked.as_dict(),
            "changes": [each.as_dict() for each in self.changes],
            "notes": list(self.notes),
        }


def calls(order: Order) -> tuple[str, ...]:
    """Name every call that publishing what a plan orders may make, reads included: what a policy must allow."""
    publish = order.publish
    if publish.asks_for_nothing:
        return ()
    found = {*READS}
    if order.shared:
        found |= {"ec2.GetEbsDefaultKmsKeyId", "ec2.ModifyImageAttribute"}
    if publish.accounts:
        found.add("ec2.ModifySnapshotAttribute")
    if publish.regions:
        found |= {"ec2.CopyImage", "ec2.CreateTags", "ec2.ModifyImageAttribute"}
        # A copy that EC2 has given up is replaced.
        found |= {"ec2.DeregisterImage", "ec2.DeleteSnapshot"}
    if publish.deprecate_after is not None:
        found.add("ec2.EnableImageDeprecation")
    if publish.protect:
        found.add("ec2.EnableImageDeregistrationProtection")
    if publish.fast_launch and publish.fast_launch.fast_snapshot_restore:
        found |= {"ec2.DescribeFastSnapshotRestores", "ec2.EnableFastSnapshotRestores"}
        if publish.fast_launch.fast_snapshot_restore.replace:
            found.add("ec2.DisableFastSnapshotRestores")
    if publish.ssm_parameter:
        found |= {"ssm.GetParameterHistory", "ssm.PutParameter", "ssm.ListTagsForResource", "ssm.AddTagsToResource"}
    return tuple(sorted(found))


def publish(
    target: Target,
    plan: Plan | Order,
    image: str,
    run: Run,
    progress: Progress | None = None,
    *,
    manifest: dict[str, Any] | None = None,
    unchecked: bool = False,
    set_latest: bool = False,
) -> Published:
    """Publish an image as a plan orders it. Doing it again changes nothing, and goes on after a failure.

    Parameters
    ----------
    target
        Where; its region must be the one in which the image was made.
    plan
        The plan, or what is ordered.
    image
        The image's id.
    run
        The run whose folder gets the journal's lines and `publish.json`: the one that made the image, or one of its
        own. Its lock must be held.
    manifest
        What the run's manifest says, if it is not the one in the folder.
    unchecked
        Publish although the evidence of the checks is not here.
    set_latest
        Move the parameter `latest` although it names a newer image, or somebody has gone back from this one.

    Returns
    -------
    Published
        How the image stands everywhere; the same is in `publish.json`.

    Raises
    ------
    InputError
        The order cannot work here: a region that is not enabled, a key that cannot be shared, a date in the past.
    CheckFailed
        The image has not passed its checks, or it is public. Nothing was changed.
    BuildError, CredentialsError, Timeout
        What stopped it, in one region or more. The others are finished; no parameter was moved.
    Interrupted
        Ctrl-C. Copies that EC2 has begun go on.
    """
    order = plan if isinstance(plan, Order) else Order.of_plan(plan)
    publication = _Publication(
        target, order, image, run, progress=progress or Silent(), manifest=manifest, set_latest=set_latest
    )
    return publication.run_all(unchecked=unchecked)


def outline(target: Target, order: Order, subject: Subject) -> Outline:
    """Say what publishing will do. Only reads."""
    source = source_of(target, order, subject.image)
    found: list[Change] = []
    notes: list[str] = []
    check(target, order, source)
    for region in order.regions:
        live: Live | None = source
        if region != order.region:
            good = next((each for each in copies.find(target, region, source.id) if copies.usable(each)), None)
            live = look(target, region, good["ImageId"], restores=bool(order.zones(region))) if good else None
            if live is None:
                request = copy_image(order, source, region)
                found.append(Change("ec2.CopyImage", region, "the image there", request))
                live = imagined(source, region)
        assert live is not None  # noqa: S101 - either found or imagined
        found += changes(order, source, live)
        notes += [f"{each} may use it in {region}, which the plan does not say" for each in extra(order, live)]
        for version in (source.version, "latest"):
            name = order.parameter(version)
            if name is None:
                continue
            versions = parameters.history(target, region, name)
            if versions and versions[-1].value == live.id:
                continue
            before = f" (now {versions[-1].value})" if versions else ""
            request = {"Name": name, "Value": live.id, "Type": "String"}
            found.append(Change("ssm.PutParameter", region, f"after all regions are done{before}", request))
    # The parameters come last, as they will.
    found.sort(key=lambda each: each.call == "ssm.PutParameter")
    return Outline(source.id, checks(subject, source), tuple(found), tuple(notes))


def source_of(target: Target, order: Order, image: str) -> Live:
    """Look at the image itself.

    Raises
    ------
    InputError
        If it is not there, not available, or of another architecture than the plan's.
    CheckFailed
        If it is public.
    """
    live = look(target, order.region, image, restores=bool(order.zones(order.region)))
    if live is None:
        raise InputError(f"there is no such image in {order.region}", resource=image, hint="is this its account?")
    if live.state != "available":
        raise InputError(f"the image is {live.state}", resource=image, hint="wait until it is available")
    wanted = {"amd64": "x86_64"}.get(order.architecture, order.architecture)
    if live.architecture != wanted:
        raise InputError(f"the image is {live.architecture}, the plan {order.architecture}", resource=image)
    made_by = live.tags.get("leptonami:plan")
    if made_by is not None and made_by != order.plan:
        raise InputError(
            f"the image was made from the plan {made_by!r}, not {order.plan}", resource=image, hint="give its own plan"
        )
    refuse_public(live)
    return live


def refuse_public(live: Live) -> None:
    """Refuse an image that everybody may use.

    Raises
    ------
    CheckFailed
        If it is so, by whoever's doing.
    """
    if live.public:
        raise CheckFailed(
            f"the image is public in {live.region}, or one of its snapshots is; leptonami publishes to nobody but the "
            f"accounts and organizations of the plan (block public access: {live.block_public})",
            resource=live.id,
            hint=f"aws ec2 reset-image-attribute --region {live.region} --image-id {live.id} --attribute "
            "launchPermission, and see who made it so",
        )


def check(target: Target, order: Order, source: Live) -> None:
    """Refuse what cannot work before anything is changed: it would only be found out after hours of copying."""
    if order.publish.regions:
        asked = target.call(
            target.client("ec2").describe_regions, RegionNames=list(order.publish.regions), AllRegions=True
        )["Regions"]
        closed = [each["RegionName"] for each in asked if each.get("OptInStatus") == "not-opted-in"]
        if closed:
            raise InputError(
                f"not enabled for this account: {', '.join(closed)}",
                resource="publish.regions",
                hint="enable them (aws account enable-region), or take them out of the plan",
            )
    due = when_deprecated(order, source)
    if due is not None and due <= now() and source.deprecated != due:
        raise InputError(
            f"the image was made on {source.created:%Y-%m-%d}, so it would have been deprecated on {due:%Y-%m-%d}",
            resource="publish.deprecate_after",
            hint="build a new one, or raise deprecate_after",
        )
    if not order.shared:
        return
    for region in order.regions:
        key = order.key(region)
        if key is None and (region != order.region or source.encrypted):
            key = target.call(target.client("ec2", region).get_ebs_default_kms_key_id)["KmsKeyId"]
        if key is not None and key.endswith("alias/aws/ebs"):
            own = region == order.region
            raise InputError(
                f"in {region} the image has AWS's own key for EBS, and what that encrypts cannot be shared",
                resource="root_volume.kms_key" if own else "publish.kms_keys",
                hint="name a key of your own, which the accounts may use"
                + (", and build again" if own else f": {{{region}: alias/...}}"),
            )


class _Publication:
    """The state of a publication that is going on."""

    def __init__(
        self,
        target: Target,
        order: Order,
        image: str,
        run: Run,
        *,
        progress: Progress,
        manifest: dict[str, Any] | None,
        set_latest: bool,
    ) -> None:
        self.target, self.order, self.image, self.run, self.set_latest = target, order, image, run, set_latest
        self.journal = run.journal
        self.stages = Stages(progress)
        self.stop = threading.Event()
        self.shares: dict[str, float] = {}
        found = read_manifest(run.folder) if manifest is None else manifest
        made = found.get("kind") != "publish" and bool(found)
        self.subject = Subject(image, run if made else None, found if made else {})
        self.result = Published(image, order, target.provenance, Checks(False, "nothing", 0), [])

    def run_all(self, *, unchecked: bool) -> Published:
        result, order = self.result, self.order
        if order.publish.asks_for_nothing:
            result.state, result.notes = "nothing to do", ["the plan's section publish asks for nothing"]
            return result
        if order.region != self.target.region:
            raise InputError(
                f"the image was made in {order.region}, the target is {self.target.region}",
                hint="open the target with the image's region",
            )
        self.journal.mend()
        with self.stages.stage("look at the image and its checks"):
            source = source_of(self.target, order, self.image)
            result.checked = checks(self.subject, source)
            self._judge(unchecked=unchecked)
            check(self.target, order, source)
        self.journal.write("publish", image=self.image, plan=order.plan, checked=result.checked.ok)
        result.regions = [Region(each) for each in order.regions]
        self._record()
        try:
            self._everywhere(source)
            self._parameters()
            self._restores()
        except BaseException as error:
            result.state = "interrupted" if isinstance(error, (KeyboardInterrupt, Interrupted)) else "failed"
            self.journal.write("publish stopped", image=self.image, error=f"{type(error).__name__}: {error}")
            self._record()
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted(
                    "interrupted; copies that EC2 has begun go on, and publishing again takes them up",
                    resource=self.image,
                ) from error
            raise
        finally:
            self.stages.progress.close()
        result.state = "published"
        self._record()
        self.journal.write("published", image=self.image, changed=result.changed)
        return result

    def _judge(self, *, unchecked: bool) -> None:
        found = self.result.checked
        if found.ok:
            return
        if unchecked:
            self.result.notes.append(f"published unchecked: {'; '.join(found.problems)}")
            return
        raise CheckFailed(
            "the image has not passed its checks, so nothing was changed\n"
            + "\n".join(f"    {each}" for each in found.problems),
            resource=self.image,
            hint="build it again, or say --unchecked if you know why it is good all the same",
        )

    def _record(self) -> None:
        import json

        write_whole(
            self.run.folder / RECORD,
            json.dumps({**self.result.as_dict(), "run": self.run.id}, indent=2, default=str) + "\n",
        )

    # Regions ------------------------------------------------------------------------------------------------------

    def _everywhere(self, source: Live) -> None:
        """Bring the image into order in every region at once; one that fails does not stop the others."""
        number = len(self.result.regions)
        what = f"publish in {number} region{'s' if number > 1 else ''}"
        with self.stages.stage(what), ThreadPoolExecutor(min(number, WORKERS)) as pool:
            jobs = {pool.submit(self._region, source, each): each for each in self.result.regions}
            try:
                errors = self._watch(jobs)
            except BaseException:
                self.stop.set()
                raise
        if errors:
            raise together(errors)

    def _watch(self, jobs: dict[Future[None], Region]) -> dict[str, LeptonamiError]:
        """Wait for all regions, showing how far they are."""
        left, errors = set(jobs), dict[str, LeptonamiError]()
        while left:
            ended, left = wait_for(left, timeout=0.5, return_when=FIRST_COMPLETED)
            for each in ended:
                try:
                    each.result()
                except LeptonamiError as error:
                    jobs[each].error = error.as_dict()
                    errors[jobs[each].region] = error
            if self.shares:
                done = sum(self.shares.values()) / len(self.shares)
                self.stages.progress.update(f"{len(jobs) - len(left)} of {len(jobs)} regions", done)
        return errors

    def _region(self, source: Live, region: Region) -> None:
        """Bring the image into order in one region."""
        target, order, name = self.target, self.order, region.region
        image = source.id
        if name != order.region:
            self.shares[name] = 0.0

            def tick(share: float) -> None:
                self.shares[name] = share

            copy = copies.ensure(target, order, source, name, self.journal, stop=self.stop, tick=tick)
            image, region.made, region.seconds = copy.image, copy.made, copy.seconds
        live = self._see(name, image)
        refuse_public(live)
        if name != order.region and not live.encrypted:
            raise BuildError("the copy is not encrypted", resource=f"{image} in {name}")
        todo = changes(order, source, live)
        for change in todo:
            apply(target, change, self.journal)
            region.done.append(f"{change.call}: {change.purpose}")
        region.live = self._settled(source, name, image) if todo else live
        region.also = extra(order, region.live)

    def _see(self, region: str, image: str) -> Live:
        """Look at an image that must be there; EC2 may need a moment to know it."""
        restores = bool(self.order.zones(region))
        return self.target.poll(
            lambda: look(self.target, region, image, restores=restores),
            what=f"EC2 in {region} to know {image}",
            timeout=VISIBLE_S,
        )

    def _settled(self, source: Live, region: str, image: str) -> Live:
        """Read back what was changed, until EC2 shows it as ordered; never public, whoever did it in the meantime."""

        def check() -> Live | None:
            live = self._see(region, image)
            refuse_public(live)
            return None if changes(self.order, source, live) else live

        return self.target.poll(check, what=f"EC2 in {region} to show what was changed on {image}", timeout=VISIBLE_S)

    # Parameters ---------------------------------------------------------------------------------------------------

    def _parameters(self) -> None:
        """Let the parameters name the images, now that all of them are as ordered."""
        if self.order.publish.ssm_parameter is None:
            return
        with self.stages.stage("set the parameters"):
            # Those of the version first: whoever sees the new `latest` finds its version too.
            for latest in (False, True):
                for region in self.result.regions:
                    live = region.live
                    assert live is not None  # noqa: S101 - every region has ended well
                    name = self.order.parameter("latest" if latest else live.version)
                    assert name is not None  # noqa: S101 - asked for above
                    move = parameters.settle(
                        self.target, self.order, live, name, self.journal, latest=latest, force=self.set_latest
                    )
                    self.result.parameters.append(move)
                    if move.outcome == "held":
                        self.result.notes.append(f"{name} in {region.region} stays: {move.why} (--set-latest moves it)")

    # Fast snapshot restore ----------------------------------------------------------------------------------------

    def _restores(self) -> None:
        """Find fast snapshot restores of the plan's other images, which cost money; end them if the plan says so."""
        fast = self.order.publish.fast_launch
        if fast is None or fast.fast_snapshot_restore is None:
            return
        held = {each.region for each in self.result.parameters if each.outcome == "held"}
        for region in self.result.regions:
            live = region.live
            zones = self.order.zones(region.region)
            if live is None or not zones:
                continue
            older = self._older(region.region, live, zones)
            for zone, snapshots in older.items():
                if not fast.fast_snapshot_restore.replace or region.region in held:
                    self.result.notes.append(
                        f"fast snapshot restore of older images goes on in {zone} and costs by the hour: "
                        + ", ".join(snapshots)
                    )
                    continue
                request = {"AvailabilityZones": [zone], "SourceSnapshotIds": snapshots}
                change = Change("ec2.DisableFastSnapshotRestores", region.region, "of older images", request)
                apply(self.target, change, self.journal)
                region.done.append(f"{change.call}: {len(snapshots)} of older images in {zone}")

    def _older(self, region: str, live: Live, zones: Sequence[str]) -> dict[str, list[str]]:
        """Find snapshots of the plan's other images that have fast snapshot restore, by zone."""
        ec2: Any = self.target.client("ec2", region)
        wanted = [
            {"Name": "availability-zone", "Values": list(zones)},
            {"Name": "state", "Values": ["enabling", "optimizing", "enabled"]},
        ]
        rows = self.target.call(ec2.describe_fast_snapshot_restores, Filters=wanted)["FastSnapshotRestores"]
        others = sorted({each["SnapshotId"] for each in rows} - set(live.snapshots))
        if not others:
            return {}
        mine = [
            {"Name": "tag:leptonami:plan", "Values": [self.order.plan]},
            {"Name": "snapshot-id", "Values": others},
        ]
        found = self.target.call(ec2.describe_snapshots, OwnerIds=["self"], Filters=mine)["Snapshots"]
        ours = {each["SnapshotId"] for each in found}
        older: dict[str, list[str]] = {}
        for row in rows:
            if row["SnapshotId"] in ours:
                older.setdefault(row["AvailabilityZone"], []).append(row["SnapshotId"])
        return older


def together(errors: dict[str, LeptonamiError]) -> LeptonamiError:
    """Make one error of those of several regions; its exit code is theirs where they agree."""
    rest = "the other regions are done, no parameter was moved, and publishing again goes on"
    if len(errors) == 1:
        ((region, error),) = errors.items()
        error.hint = f"{error.hint + '. ' if error.hint else ''}{region} failed; {rest}"
        return error
    text = "\n".join(f"    {region}: {error}" for region, error in sorted(errors.items()))
    kinds = {type(error) for error in errors.values()}
    message = f"{len(errors)} regions failed\n{text}"
    for kind in (Timeout, CredentialsError, CheckFailed, Interrupted):
        if kinds == {kind}:
            return kind(message, hint=rest)
    return BuildError(message, hint=rest)
