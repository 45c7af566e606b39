"""What the benchmark speaks of: trials, bakes, probes, and the interface that every driver has.

A launch is a handful of *marks* (`marks.py`): something was reached, at a time, on a clock, as somebody said it.
`timeline.py` puts them onto one clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from leptonami.bench.marks import MARKS, PHASES, Clock, Mark
from leptonami.bench.timeline import Offset, Span, Timeline
from leptonami.errors import InputError
from leptonami.target import Provenance

if TYPE_CHECKING:
    from collections.abc import Callable

    from leptonami.bench.experiment import Experiment, Variant
    from leptonami.runs import Journal

__all__ = [
    "MARKS",
    "PHASES",
    "SCHEMA",
    "Bake",
    "Check",
    "Clock",
    "Driver",
    "Launch",
    "Mark",
    "Offset",
    "Outcome",
    "Probe",
    "Setup",
    "Span",
    "Timeline",
    "Trial",
    "Value",
    "dump",
    "load",
    "take_along",
    "taken_along",
]

SCHEMA = 1
"""Of the JSON that holds these values; a reader refuses another."""

Outcome = Literal["planned", "ok", "failed", "timed-out", "interrupted"]
Value = str | int | float | bool
"""What a condition, a parameter or a fact about the machine may be."""


@dataclass(frozen=True)
class Trial:
    """One launch: what it was to be, and what came of it.

    Attributes
    ----------
    number
        Its place in the order, from 1; with the run it names everything that the trial makes.
    block
        In which round of the variants, from 1.
    variant, instance_type, image
        As the experiment names them. `instance_type` is empty for a driver without instances.
    bandwidth_mbit
        What the registry is shaped to; 0 if it is not.
    warmup
        Declared beforehand: kept, shown, and left out of the statistics.
    outcome, reason
        What came of it, and why it was not `ok`.
    marks, offsets
        As far as it came, and the offsets of their clocks.
    conditions
        What it ran under: zone, AMI, volume type, page cache, load, bytes that the registry sent, ...
    cost
        In US dollars; None if not known.
    seconds, overhead
        The whole trial on the measuring machine's clock, and what of it was neither the launch nor the first read
        (making the disk, clean-up, asking): see `results.overhead`.
    began
        When, in ISO 8601.
    """

    number: int
    block: int
    variant: str
    instance_type: str = ""
    image: str = ""
    bandwidth_mbit: int = 0
    warmup: bool = False
    outcome: Outcome = "planned"
    reason: str = ""
    marks: tuple[Mark, ...] = ()
    offsets: tuple[Offset, ...] = ()
    conditions: Mapping[str, Value] = field(default_factory=dict)
    cost: float | None = None
    seconds: float = 0.0
    overhead: float = 0.0
    began: str = ""

    @property
    def timeline(self) -> Timeline:
        """The trial's marks, on the measuring machine's clock."""
        return Timeline(self.marks, self.offsets)

    @property
    def counts(self) -> bool:
        """Whether its time goes into the statistics."""
        return self.outcome == "ok" and not self.warmup


@dataclass(frozen=True)
class Check:
    """One claim about a bake, such as `unpacked` or `pinned`, and what its check found."""

    name: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True)
class Bake:
    """What the launches of a variant start from: an AMI, a disk image, a snapshot.

    Attributes
    ----------
    variant
        Whose.
    reference
        What the driver finds it by: an AMI's id, a file's name in the run's folder.
    seconds, bytes
        How long it took to make; what it takes on the disk.
    digest
        Of its content, if it has one.
    checks
        The claims that the product's own pre-fetch step makes, as its check answered them.
    conditions, cost
        As in `Trial`.
    """

    variant: str
    reference: str
    seconds: float = 0.0
    bytes: int = 0
    digest: str = ""
    checks: tuple[Check, ...] = ()
    conditions: Mapping[str, Value] = field(default_factory=dict)
    cost: float | None = None


@dataclass(frozen=True)
class Launch:
    """What a driver saw of a launch: all of it, or as much as there was before an error (`take_along`)."""

    marks: tuple[Mark, ...] = ()
    offsets: tuple[Offset, ...] = ()
    conditions: Mapping[str, Value] = field(default_factory=dict)
    cost: float | None = None


@dataclass(frozen=True)
class Probe:
    """Whether a driver can work here.

    Attributes
    ----------
    possible
        Whether it can.
    reasons
        Why not, each with the way out; or what the reader has to know although it can.
    machine
        What the numbers depend on: processor, cores, memory, kernel, file system, versions. No name or address of it,
        and nothing that changes from hour to hour: an experiment goes on only where this is the same, and runs with
        another one are not compared. The load belongs to a trial's conditions.
    """

    possible: bool
    reasons: tuple[str, ...] = ()
    machine: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Setup:
    """What a driver is opened with.

    Attributes
    ----------
    experiment
        Its variants, images, bandwidth, instance types, ...
    run
        The run's id. Names of what a driver makes begin with it, so that a sweep finds what a killed run left.
    folder
        The run's folder. What the driver must find again after a kill is below `folder / "driver"`.
    say
        Told in a short sentence what is going on.
    aws, profile, context
        For the driver eks: `account` or `lab`, the AWS profile, the context of the kubeconfig.
    """

    experiment: Experiment
    run: str
    folder: Path
    say: Callable[[str], None] = lambda _: None
    aws: str = "account"
    profile: str | None = None
    context: str | None = None


class Driver(Protocol):
    """What launches nodes. Opened by `open_driver(setup: Setup) -> Driver` in its module (see `drivers.py`).

    A driver raises `LeptonamiError` for what it cannot do; any error of `launch` makes that trial a failed one, with
    the message as the reason. KeyboardInterrupt passes through everything.
    """

    @property
    def name(self) -> str:
        """`process`, `nspawn`, `eks`, ...: numbers of two drivers are never compared."""
        ...

    @property
    def provenance(self) -> Provenance:
        """Of its marks: `measured`, or `simulated` against the lab."""
        ...

    def probe(self) -> Probe:
        """Find out whether it can work here. Quick, and leaves nothing behind."""
        ...

    def bake(self, variant: Variant, journal: Journal) -> Bake:
        """Make what the variant's launches start from.

        Called once a variant in each process, before its first launch. After a kill it is called again: what is there
        and whole is used, what is half made is made anew. The intent of what lasts is in the journal first.
        """
        ...

    def launch(self, trial: Trial, timeout: float) -> Launch:
        """Launch a node, wait for the container's first output (and the first read, where the variant asks for it).

        Parameters
        ----------
        trial
            `outcome` is `planned`; its number is unique in the run.
        timeout
            Seconds for all of it.

        Raises
        ------
        Timeout
            When they are over; the message says what it was waiting for. This and any other error may take along
            what was seen so far (`take_along`).
        """
        ...

    def clean(self, trial: Trial) -> tuple[str, ...]:
        """Remove everything that a trial made; called after every launch, however it ended.

        Works from the trial's number alone, in another process too, and when there is nothing to do. Gives what is
        still there, in words: empty is what is wanted.
        """
        ...

    def close(self, *, complete: bool = False) -> None:
        """End what it started. What the run needs to go on stays in its folder until the experiment is complete."""
        ...


def take_along(error: BaseException, launch: Launch) -> None:
    """Let an error that ends a launch take along what was seen of it: a trial that fails keeps its marks."""
    error.__dict__["launch"] = launch


def taken_along(error: BaseException) -> Launch:
    """Give what was seen of a launch before an error."""
    launch = error.__dict__.get("launch")
    return launch if isinstance(launch, Launch) else Launch()


T = TypeVar("T")
Storable = Trial | Bake | Probe | Launch | Mark | Offset


ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def adapter(kind: Any) -> TypeAdapter[Any]:
    """Give what checks a kind of value; it takes a while to make, so each is made once."""
    if kind not in ADAPTERS:
        ADAPTERS[kind] = TypeAdapter(kind)
    return ADAPTERS[kind]


def dump(value: Storable) -> dict[str, Any]:
    """Give a value as plain data for JSON."""
    plain: dict[str, Any] = adapter(type(value)).dump_python(value, mode="json")
    return plain


def load(kind: type[T], data: Any) -> T:
    """Read a value from plain data.

    Raises
    ------
    InputError
        If it is not what `dump` gives.
    """
    try:
        found: T = adapter(kind).validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"not a {kind.__name__.lower()}: {where}: {first['msg']}", resource="benchmark") from error
    return found
