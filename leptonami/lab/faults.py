"""Faults on order: what goes wrong, where, and how often. Seeded, so that a failure can be had again.

A fault is a JSON object; `kind` says which:

- `error`: an operation fails with `code`, `message` and `status`; `operation` may hold wildcards (`ec2.Describe*`).
  With `asks` at `id` it strikes only requests to EC2 that ask for something by its id, with `filter` only the others.
- `throttle`: the same with the throttling code of the service.
- `lost-reply`: the operation is carried out and the connection breaks before the answer.
- `reset`: the connection breaks before the operation is carried out.
- `stale`: a list (by filter, not by id) does not have yet what was made within the last `calls` calls.
- `delay`: the operation takes `seconds` longer.
- `capacity`: RunInstances has no capacity for `instance_type` in `zone` (both may hold wildcards).
- `ssm-offline`: the agent of a new instance never answers.
- `image-fails`: an image goes to `failed` instead of `available`.
- `interrupt`: AWS takes a spot instance back, `seconds` (of this machine's clock) after it started to run.
- `script`: a new instance's disk gets the node's own fault `name` with `value` (`leptonami.lab.node.tools` lists them).

`nth` starts at that matching call, `times` limits how many are hit, `probability` makes it a matter of (seeded) luck.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, get_args, get_type_hints

from leptonami.errors import InputError

__all__ = ["Fault", "Faults"]

KINDS = (
    "error",
    "throttle",
    "lost-reply",
    "reset",
    "stale",
    "delay",
    "capacity",
    "ssm-offline",
    "image-fails",
    "interrupt",
    "script",
)


@dataclass
class Fault:
    """One fault; see the module for what the fields mean. `seen` and `hits` count what matched and what was hit."""

    kind: str
    operation: str = "*"
    asks: str = "*"
    code: str = "InternalError"
    message: str = "a fault that the lab was asked for"
    status: int = 400
    seconds: float = 0.0
    calls: int = 10
    instance_type: str = "*"
    zone: str = "*"
    name: str = ""
    value: object = True
    nth: int = 1
    times: int | None = None
    probability: float = 1.0
    seen: int = 0
    hits: int = 0

    @classmethod
    def parse(cls, value: object, where: str = "fault") -> Fault:
        """Read a fault from data.

        Raises
        ------
        InputError
            If a name or a type is wrong.
        """
        if not isinstance(value, Mapping):
            raise InputError("not an object", resource=where)
        known = {item.name for item in fields(cls)} - {"seen", "hits"}
        if unknown := sorted(set(map(str, value)) - known):
            raise InputError(
                f"unknown: {', '.join(unknown)}", resource=where, hint=f"known: {', '.join(sorted(known))}"
            )
        if value.get("kind") not in KINDS:
            raise InputError(f"kind is not one of {', '.join(KINDS)}", resource=where)
        hints = get_type_hints(cls)
        for name, item in value.items():
            if name == "value":
                continue
            wanted = get_args(hints[name]) or (hints[name],)
            if isinstance(item, bool) or not isinstance(item, (*wanted, int) if float in wanted else wanted):
                raise InputError(f"{name} has the wrong type: {item!r}", resource=where)
        return cls(**value)


@dataclass
class Faults:
    """The faults of a lab, with their luck."""

    seed: int = 0
    faults: list[Fault] = field(default_factory=list)
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Seed the luck."""
        self._random = random.Random(self.seed)  # noqa: S311 - luck, not secrets

    def replace(self, values: object) -> None:
        """Set the faults from data, and start their luck again.

        Raises
        ------
        InputError
            If one of them is wrong; the old ones stay.
        """
        if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
            raise InputError("faults are a list of objects", resource="faults")
        self.faults = [Fault.parse(value, f"faults[{index}]") for index, value in enumerate(values)]
        self._random = random.Random(self.seed)  # noqa: S311

    def ordered(self, kind: str) -> bool:
        """Tell whether there is a fault of a kind."""
        return any(each.kind == kind for each in self.faults)

    def hit(self, kind: str, **context: str) -> Fault | None:
        """Find the first fault of a kind that strikes in this context, and count it."""
        return next(self.all(kind, **context), None)

    def all(self, kind: str, **context: str) -> Iterator[Fault]:
        """Give every fault of a kind that strikes in this context, counting each as it is given."""
        for fault in self.faults:
            if fault.kind != kind or not all(
                fnmatchcase(value, getattr(fault, name)) for name, value in context.items()
            ):
                continue
            fault.seen += 1
            if fault.seen < fault.nth or (fault.times is not None and fault.hits >= fault.times):
                continue
            if fault.probability < 1.0 and self._random.random() >= fault.probability:
                continue
            fault.hits += 1
            yield fault

    def as_data(self) -> list[dict[str, Any]]:
        """Give the faults as data, counters included."""
        return [vars(fault).copy() for fault in self.faults]
