"""What runs left behind, found by tag: decide what may go, then remove it in the right order.

The decision (`plan`) is a pure function of what the account holds, of what the run folders say, of the time and of who
asks. Whatever it cannot be sure about stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leptonami.build.image import DEAD
from leptonami.build.names import EXPIRES, LIFETIME, PREFIX
from leptonami.errors import BuildError, InputError, Interrupted
from leptonami.lifecycle.costs import Prices
from leptonami.lifecycle.inventory import collect
from leptonami.lifecycle.known import KnownRun, read_run, read_runs
from leptonami.lifecycle.removal import Outcome, Remover
from leptonami.lifecycle.resources import KINDS, PERMANENT, Marks, Resource, marks
from leptonami.progress import Progress, Silent, Stages
from leptonami.runs import Run, now

if TYPE_CHECKING:
    from leptonami.target import Provenance, Target

__all__ = ["Plan", "Swept", "Verdict", "plan", "sweep"]

MANIFEST_SCHEMA = 1
# What a node group has, without a time of its own: whoever took an instance would make the group launch another.
PARTS = {"command", "instance", "volume"}
# States that an image reaches only after it was made. Who disables one means something by it.
MADE_IMAGE = {"available", "disabled"}


@dataclass(frozen=True)
class Verdict:
    """What is to become of one resource, and why.

    Attributes
    ----------
    expected
        It stays because it is meant to: the image of a run that succeeded, and that image's snapshots.
    """

    resource: Resource
    why: str
    run: str | None = None
    owner: str | None = None
    expected: bool = False


@dataclass(frozen=True)
class Plan:
    """What a sweep will do: `removals`, in their order, and what it leaves alone although it carries our tags."""

    removals: tuple[Verdict, ...] = ()
    left: tuple[Verdict, ...] = ()

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs that something is removed of."""
        return tuple(sorted({each.run for each in self.removals if each.run is not None}))


def plan(
    inventory: Iterable[Resource],
    runs: Mapping[str, KnownRun],
    now: datetime,
    owners: Collection[str],
    *,
    even_kept: bool = False,
) -> Plan:
    """Decide what goes. Pure.

    Something goes if it carries all of a run's tags, just as a run sets them; if it belongs to one of `owners`; if
    nobody is working on its run; and if that run is over, by what its folder here says, or if what it carries has
    expired. An image that was finished never goes, nor one that cannot be told to be unfinished.

    Parameters
    ----------
    inventory
        What the account holds; what is not leptonami's may be among it.
    runs
        The runs with a folder on this machine.
    owners
        Whose things may go (`leptonami:owner`).
    even_kept
        Also what a build left on purpose (`--keep-on-error`) and what has not expired.
    """
    return _Judge(tuple(inventory), runs, now, owners, even_kept=even_kept).judge()


class _Judge:
    """One decision: what is found on the way decides about what hangs on it."""

    def __init__(
        self,
        inventory: tuple[Resource, ...],
        runs: Mapping[str, KnownRun],
        now: datetime,
        owners: Collection[str],
        *,
        even_kept: bool,
    ) -> None:
        self.inventory, self.runs, self.now, self.owners, self.even_kept = inventory, runs, now, owners, even_kept
        self.removed: dict[tuple[str, str, str], Verdict] = {}
        self.left: list[Verdict] = []
        # Whichever run finished or published them.
        self.finished = frozenset(image for each in runs.values() for image in each.finished)
        self.users: dict[tuple[str, str], list[str]] = {}
        for each in inventory:
            if each.kind == "image":
                for part in each.parts:
                    self.users.setdefault((each.region, part), []).append(each.id)

    def judge(self) -> Plan:
        """Look at node groups, instances and images before what belongs to them."""
        first = {"nodegroup": 0, "instance": 0, "image": 1}
        for each in sorted(self.inventory, key=lambda each: first.get(each.kind, 2)):
            self.look_at(each)
        order = {kind: number for number, kind in enumerate(KINDS)}
        removals = sorted(self.removed.values(), key=lambda each: order[each.resource.kind])
        return Plan(tuple(removals), tuple(self.left))

    def look_at(self, resource: Resource) -> None:
        """Decide about one."""
        if resource.kind not in KINDS or (resource.kind == "instance" and resource.state == "terminated"):
            return
        read = marks(resource, self.now)
        if read is None:
            return
        lasting = resource.kind in PARTS and resource.tags.get(f"{PREFIX}step") == "bench"
        if lasting and EXPIRES not in resource.tags:
            self.left.append(Verdict(resource, "it goes with its node group", resource.run, expected=True))
            return
        if isinstance(read, str):
            self.left.append(Verdict(resource, f"its tags are not as a run sets them: {read}"))
            return
        known = self.runs.get(read.run)
        if known is not None and known.live:
            self.leave(resource, read, "its run is being worked on")
        elif read.owner not in self.owners:
            self.leave(resource, read, f"it belongs to {read.owner}")
        elif resource.kind in PERMANENT:
            self.image(resource, read, known) if resource.kind == "image" else self.snapshot(resource, read, known)
        else:
            self.temporary(resource, read, known)

    def leave(self, resource: Resource, read: Marks, why: str, *, expected: bool = False) -> None:
        self.left.append(Verdict(resource, why, read.run, read.owner, expected))

    def remove(self, resource: Resource, read: Marks, why: str) -> None:
        self.removed[(resource.kind, resource.region, resource.id)] = Verdict(resource, why, read.run, read.owner)

    def goes(self, kind: str, region: str, name: str) -> bool:
        """Tell whether it has been decided that something goes."""
        return (kind, region, name) in self.removed

    def temporary(self, resource: Resource, read: Marks, known: KnownRun | None) -> None:
        """Decide about what a run makes only for itself."""
        until = read.expires
        expired = until is not None and until <= self.now
        when = f"{until:%Y-%m-%d %H:%M} UTC" if until is not None else "never"
        if expired:
            why = f"expired {when}"
        elif known is not None and known.over and (self.even_kept or not known.kept):
            why = f"its run {word(known)}"
        elif known is not None and known.over:
            return self.leave(resource, read, f"kept on purpose until {when}")
        elif known is not None and known.copied:
            return self.leave(resource, read, f"its run's folder here is a copy, and it expires {when}")
        else:
            return self.leave(resource, read, f"its run is not known to be over, and it expires {when}")
        if obstacle := self.obstacle(resource):
            return self.leave(resource, read, obstacle)
        return self.remove(resource, read, why)

    def obstacle(self, resource: Resource) -> str | None:
        """Say what of somebody else's hangs on it."""
        match resource.kind:
            case "command":
                others = [each for each in resource.parts if not self.goes("instance", resource.region, each)]
                return f"it runs on {others[0]} too" if others else None
            case "interface" | "volume" if resource.holder is not None:
                if self.goes("instance", resource.region, resource.holder):
                    return None
                return f"attached to {resource.holder}, which stays"
            case "template" if resource.holder is not None:
                stays = not self.goes("nodegroup", resource.region, resource.holder)
                return f"the node group {resource.holder} is made from it, and stays" if stays else None
            case "profile" | "role":
                others = [each for each in resource.parts if each != resource.name]
                what = "holds the role" if resource.kind == "profile" else "is in the profile"
                return f"it {what} {others[0]}, which is not its run's" if others else None
        return None

    def image(self, resource: Resource, read: Marks, known: KnownRun | None) -> None:
        """Decide about an image: only one that will never be finished goes."""
        if resource.id in self.finished:
            self.leave(resource, read, "a finished image", expected=True)
        elif resource.state in DEAD:
            old = resource.created is not None and resource.created + LIFETIME <= self.now
            if old or (known is not None and known.over):
                self.remove(resource, read, f"an image that is {resource.state}")
            else:
                self.leave(resource, read, f"{resource.state}, but its run is not known to be over")
        elif known is None or not known.over:
            made = resource.state in MADE_IMAGE
            what = "a finished image, as far as can be told" if made else "still being made"
            self.leave(resource, read, what, expected=made)
        elif (why := self.doubt(resource, known)) is not None:
            self.leave(resource, read, why, expected=resource.state in MADE_IMAGE)
        else:
            self.remove(resource, read, f"half-made: its run {word(known)}")

    def doubt(self, resource: Resource, known: KnownRun) -> str | None:
        """Say why an image or a snapshot of a run that is over may be something else than what it left half-made."""
        if known.succeeded or known.region != resource.region:
            return "a copy, or of a run that succeeded"
        if resource.state == "disabled":
            return "somebody has disabled it, and not deregistered it"
        # The run's tag alone says little: a copy carries it too, and a journal may be lost with all it knew.
        asked = known.asked & {resource.id, resource.name} if resource.kind == "image" else known.asked
        if known.finished or not asked:
            return "its run's journal does not say that it was left half-made"
        return "kept on purpose" if known.kept and not self.even_kept else None

    def snapshot(self, resource: Resource, read: Marks, known: KnownRun | None) -> None:
        """Decide about a snapshot: it goes with its image, or if its run came to nothing and no image has it."""
        users = self.users.get((resource.region, resource.id), [])
        staying = [each for each in users if not self.goes("image", resource.region, each)]
        if staying:
            self.leave(resource, read, f"{staying[0]} needs it", expected=True)
        elif users:
            self.remove(resource, read, f"with {users[0]}")
        elif known is None or not known.over:
            self.leave(resource, read, "no image has it, but its run is not known to have failed")
        elif (why := self.doubt(resource, known)) is not None:
            self.leave(resource, read, f"no image has it; {why}")
        else:
            self.remove(resource, read, f"no image has it, and its run {word(known)}")


def word(known: KnownRun) -> str:
    """Say how a run ended."""
    if known.succeeded:
        return "is over"
    return known.state if known.state == "failed" else f"was {known.state}"


@dataclass(frozen=True)
class Swept:
    """What a sweep found, and what it did if it was told to.

    Attributes
    ----------
    outcomes
        One for each removal; empty after a dry run.
    usd
        What the removals have cost so far, by `kind/region/id`; None where that cannot be told.
    run
        The sweep's own run, with its journal; None after a dry run.
    """

    plan: Plan
    regions: tuple[str, ...]
    owners: tuple[str, ...]
    at: datetime
    provenance: Provenance
    prices: Prices
    outcomes: tuple[Outcome, ...] = ()
    run: Run | None = None

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """What should have gone and did not."""
        return tuple(each for each in self.outcomes if each.outcome == "failed")

    @property
    def problem(self) -> BuildError | None:
        """Tell it as an error."""
        if not self.failed:
            return None
        first = self.failed[0]
        return BuildError(
            f"{len(self.failed)} of {len(self.plan.removals)} are still there",
            resource="sweep",
            hint=f"sweep again in a few minutes; {first.resource.id}: {first.error}",
        )

    def usd(self, resource: Resource) -> float | None:
        """Estimate what it has cost so far."""
        return self.prices.so_far(resource, self.at)

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        outcome = {id(each.resource): each for each in self.outcomes}

        def row(verdict: Verdict) -> dict[str, Any]:
            each, cost = verdict.resource, self.usd(verdict.resource)
            done = outcome.get(id(each))
            return {
                "kind": each.kind,
                "id": each.id,
                "region": each.region,
                "run": verdict.run or each.run,
                "owner": verdict.owner or each.tags.get("leptonami:owner"),
                "state": each.state,
                "created": each.created.isoformat() if each.created else None,
                "usd_so_far": None if cost is None else round(cost, 4),
                "why": verdict.why,
                **({"outcome": done.outcome, "error": done.error} if done is not None else {}),
            }

        return {
            "provenance": self.provenance,
            "at": self.at.isoformat(),
            "dry_run": self.run is None,
            "run": self.run.id if self.run else None,
            "regions": list(self.regions),
            "owners": list(self.owners),
            "assumptions": list(self.prices.assumptions),
            "removals": [row(each) for each in self.plan.removals],
            "left": [row(each) for each in self.plan.left],
        }


def sweep(
    target: Target,
    *,
    runs: Path,
    regions: Sequence[str] = (),
    owners: Sequence[str] = (),
    act: bool = False,
    even_kept: bool = False,
    progress: Progress | None = None,
) -> Swept:
    """Find what runs left behind, and remove it if told to.

    Parameters
    ----------
    runs
        The folder of this machine's runs. The sweep gets a run of its own in it when it removes something.
    regions
        Where to look; the target's region by default. IAM is looked at in any case.
    owners
        Whose things may go beside the caller's own.
    act
        Remove, and do not only say what would be removed.
    even_kept
        Also what a build left on purpose and what has not expired yet.

    Raises
    ------
    CredentialsError
        If the credentials may not list. What they may not remove is told in `Swept.outcomes`.
    Interrupted
        Ctrl-C while something is removed.
    """
    shown = progress or Silent()
    try:
        return find_and_remove(target, shown, runs=runs, regions=regions, owners=owners, act=act, even_kept=even_kept)
    finally:
        shown.close()


def find_and_remove(
    target: Target,
    progress: Progress,
    *,
    runs: Path,
    regions: Sequence[str],
    owners: Sequence[str],
    act: bool,
    even_kept: bool,
) -> Swept:
    """Do what `sweep` says."""
    places = tuple(dict.fromkeys(regions)) or (target.region,)
    allowed = tuple(dict.fromkeys([target.identity().name, *owners]))
    stage = Stages(progress).stage
    with stage("look for what runs have left"):
        inventory = collect(target, places)
    # The folders are read after AWS: a run that ended in between is then known to be over, and its image finished.
    known = read_runs(runs)
    moment = now()
    prices = Prices.load()
    found = plan(inventory, known, moment, allowed, even_kept=even_kept)
    if not act or not found.removals:
        return Swept(found, places, allowed, moment, target.provenance, prices)
    with ExitStack() as stack:
        known = take(stack, known, found.runs)
        found = plan(inventory, known, moment, allowed, even_kept=even_kept)
        if not found.removals:
            return Swept(found, places, allowed, moment, target.provenance, prices)
        run = Run.create(runs)
        stack.enter_context(run.lock())
        try:
            with stage(f"remove {len(found.removals)} things"):
                outcomes = remove(target, run, found, known, progress)
        except KeyboardInterrupt as error:
            unfinished = Swept(found, places, allowed, moment, target.provenance, prices, run=run)
            run.write_manifest(manifest(target, unfinished, "interrupted"))
            raise Interrupted(
                "interrupted while removing; what is gone is in the journal, and sweeping again goes on",
                resource=str(run.journal.path),
            ) from error
        swept = Swept(found, places, allowed, moment, target.provenance, prices, outcomes, run)
        run.write_manifest(manifest(target, swept, "failed" if swept.failed else "succeeded"))
    return swept


def take(stack: ExitStack, known: Mapping[str, KnownRun], wanted: Sequence[str]) -> dict[str, KnownRun]:
    """Lock the runs that are swept, so that nobody goes on with one meanwhile, and read them again."""
    fresh = dict(known)
    for name in wanted:
        if name not in known:
            continue
        try:
            stack.enter_context(known[name].run.lock())
        except (InputError, OSError):
            fresh[name] = replace(known[name], live=True)
            continue
        # With our own lock on it, it would look live.
        fresh[name] = read_run(known[name].folder, live=False)
    return fresh


def remove(
    target: Target, run: Run, found: Plan, known: Mapping[str, KnownRun], progress: Progress
) -> tuple[Outcome, ...]:
    """Remove what was decided, and tell it to the journals: the sweep's own and those of the runs that are swept."""
    run.journal.write("sweep", runs=list(found.runs), provenance=target.provenance)
    run.write_manifest(
        {
            "schema": MANIFEST_SCHEMA,
            "kind": "sweep",
            "run": run.id,
            "state": "running",
            "provenance": target.provenance,
            "target": {"region": target.region},
        }
    )
    for name in found.runs:
        if name in known:
            journal = known[name].run.journal
            journal.mend()
            journal.write(
                "swept",
                by=run.id,
                things=dict(Counter(each.resource.kind for each in found.removals if each.run == name)),
            )
    outcomes = Remover(target, run.journal, progress).run([each.resource for each in found.removals])
    return tuple(outcomes)


def manifest(target: Target, swept: Swept, state: str) -> dict[str, Any]:
    """Give the manifest of a sweep."""
    return {
        "schema": MANIFEST_SCHEMA,
        "kind": "sweep",
        "state": state,
        "target": {"region": target.region},
        "updated": now().isoformat(),
        "calls": dict(sorted(target.calls.items())),
        **swept.as_dict(),
    }
