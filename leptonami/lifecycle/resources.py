"""What runs make, as values, and the tags that they mark it with: whose it is, of which run, until when it may stay."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from leptonami.build.names import CLUSTER, PREFIX, Names
from leptonami.lifecycle.known import started

__all__ = ["KINDS", "OUR_KEYS", "PERMANENT", "Marks", "Resource", "marks", "moment"]

# In the order in which they can be removed: what holds others goes first.
KINDS = (
    *("command", "nodegroup", "instance", "image", "snapshot", "interface", "volume", "template", "group"),
    *("profile", "role"),
)
PERMANENT = {"image", "snapshot"}
NAMED = {"group", "profile", "role"}
# What a benchmark makes, and what only it makes: names of those have two numbers at their end.
BENCH = {"command", "nodegroup", "instance", "interface", "volume", "template"}
NUMBERED = {"nodegroup", "template"}
OUR_KEYS = tuple(PREFIX + name for name in ("run", "plan", "step", "owner", "expires"))


@dataclass(frozen=True)
class Resource:
    """One thing in an account.

    Attributes
    ----------
    region
        `global` for what IAM keeps.
    name
        The name it was given, where its kind has one: a group's, a profile's, a role's, an image's.
    created
        When, as far as AWS tells.
    holder
        The instance that an interface or a volume is attached to; the node group that a launch template is for.
    parts
        Of an image its snapshots, of a profile its roles, of a role the profiles it is in, of a command its instances.
    size_gib
        Of a volume, a snapshot, or of all an image's devices.
    type
        Of an instance, or of a volume.
    """

    kind: str
    id: str
    region: str
    tags: Mapping[str, str] = field(default_factory=dict)
    state: str = ""
    name: str = ""
    created: datetime | None = None
    holder: str | None = None
    parts: tuple[str, ...] = ()
    size_gib: int = 0
    type: str = ""

    @property
    def run(self) -> str | None:
        """The run that its tag names, whether that is true or not."""
        return self.tags.get(PREFIX + "run")


@dataclass(frozen=True)
class Marks:
    """The tags with which a run marks what it makes."""

    run: str
    plan: str
    owner: str
    started: datetime
    expires: datetime | None


def marks(resource: Resource, now: datetime) -> Marks | str | None:
    """Read leptonami's tags from a resource.

    Gives None if it has none of them, and the reason, in words, if they are not just as a run sets them: then somebody
    else has been at it, or set some of them by hand, and nothing may be concluded from them.
    """
    tags = {key.removeprefix(PREFIX): value for key, value in resource.tags.items() if key in OUR_KEYS}
    if not tags:
        return None
    temporary = resource.kind not in PERMANENT
    wanted = {"run", "plan", "step", "owner"} | ({"expires"} if temporary else set())
    if missing := sorted(name for name in wanted if not tags.get(name)):
        return f"without {', '.join(PREFIX + name for name in missing)}"
    steps = {"image"} if not temporary else {"bench"} if resource.kind in NUMBERED else {"builder"}
    steps |= {"bench"} if resource.kind in BENCH else set()
    begun, expires = started(tags["run"]), moment(tags.get("expires"))
    # A day's grace for clocks that are wrong; what began later than that has been made up.
    if begun is None or (begun - now).total_seconds() > 86_400:
        problem = f"{PREFIX}run is not the id of a run"
    elif tags["step"] not in steps:
        problem = f"{PREFIX}step is not {' or '.join(sorted(steps))}"
    elif not temporary and "expires" in tags:
        problem = f"{PREFIX}expires does not belong on it"
    elif temporary and (expires is None or expires < begun):
        problem = f"{PREFIX}expires is not a time after the run's beginning"
    elif not fits(resource, Names(tags["run"], tags["plan"], tags["owner"])):
        problem = "its name is not the one that its run gives"
    elif resource.kind == "template" and not resource.tags.get(CLUSTER):
        problem = f"without {CLUSTER}"
    else:
        return Marks(tags["run"], tags["plan"], tags["owner"], begun, expires)
    return problem


def fits(resource: Resource, names: Names) -> bool:
    """Tell whether a resource has the name that its run gives, if its kind has one."""
    if resource.kind in NUMBERED:
        return re.fullmatch(rf"{names.temporary}-[0-9]+-[0-9]+", resource.name) is not None
    return resource.kind not in NAMED or resource.name == names.temporary


def moment(value: str | datetime | None) -> datetime | None:
    """Read a time as AWS and our tags write it; None if it is none."""
    if value is None or isinstance(value, datetime):
        return value
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
