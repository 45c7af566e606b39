"""A driver that launches nothing: simulated times, seeded, with the faults that a test asks for."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from leptonami.bench.experiment import Experiment, Variant
from leptonami.bench.model import Bake, Check, Launch, Mark, Probe, Trial, take_along
from leptonami.errors import BuildError, Timeout
from leptonami.runs import Journal

Fault = Literal["fails", "times-out", "hangs", "ctrl-c", "dies", "leaves", "clean-fails"]

# Seconds of the phases, by what is pre-fetched: containerd, wire, unpack, start.
TIMES = {"none": (0.1, 5.0, 3.5, 0.8), "content": (0.1, 0.0, 3.5, 0.8), "unpacked": (0.1, 0.0, 0.0, 0.9)}


class Died(BaseException):
    """Stands for SIGKILL: nothing catches it, nothing is cleaned up."""


def experiment(**changes: Any) -> Experiment:
    """Give a small experiment."""
    data: dict[str, Any] = {
        "schema": 1,
        "name": "fake",
        "driver": "process",
        "variants": [
            {"name": "cold", "kind": "no-images"},
            {"name": "content-only", "kind": "content-only"},
            {"name": "prefetched", "kind": "unpacked"},
        ],
        "images": [{"name": "small", "unpacked_mib": 100}],
        "trials": 8,
        "warmup": 1,
        "seed": 7,
        "timeout": "1m",
        "smallest": {"seconds": 0.5},
        **changes,
    }
    return Experiment.model_validate(data)


@dataclass
class FakeDriver:
    """Simulated launches. `there` is what its trials have made and not removed."""

    experiment: Experiment
    folder: Path
    faults: Mapping[int, Fault] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=lambda: {"kernel": "simulated"})
    possible: bool = True
    good_bake: bool = True
    slower: float = 1.0
    conditions: Mapping[str, str] = field(default_factory=lambda: {"page_cache": "dropped"})
    launched: list[int] = field(default_factory=list)
    cleaned: list[int] = field(default_factory=list)
    baked: list[str] = field(default_factory=list)
    closed: bool = False
    complete: bool = False
    name: str = "process"
    provenance: Literal["simulated"] = "simulated"

    def probe(self) -> Probe:
        return Probe(
            self.possible, () if self.possible else ("no containerd: apt-get install containerd",), self.machine
        )

    def bake(self, variant: Variant, journal: Journal) -> Bake:
        journal.write("intent", action="bake", variant=variant.name)
        self.baked.append(variant.name)
        return Bake(
            variant.name, f"{variant.name}.img", 1.0, 1 << 20, checks=(Check("unpacked", self.good_bake, "told"),)
        )

    def launch(self, trial: Trial, timeout: float) -> Launch:
        self.launched.append(trial.number)
        self.mount(trial).mkdir(parents=True)
        match self.faults.get(trial.number):
            case "fails":
                raise BuildError("the pull failed: no space left on device")
            case "times-out":
                error = Timeout(f"the container's first output did not come within {timeout:g} s")
                take_along(error, Launch(self.marks(trial)[:3], conditions=self.conditions, cost=0.5))
                raise error
            case "hangs":
                time.sleep(600)
            case "ctrl-c":
                raise KeyboardInterrupt
            case "dies":
                raise Died
        return Launch(self.marks(trial), conditions=self.conditions, cost=0.0)

    def clean(self, trial: Trial) -> tuple[str, ...]:
        self.cleaned.append(trial.number)
        match self.faults.get(trial.number):
            case "leaves":
                return ("a mount",)
            case "clean-fails":
                raise OSError("device is busy")
        if self.mount(trial).exists():
            self.mount(trial).rmdir()
        return ()

    def close(self, *, complete: bool = False) -> None:
        self.closed = True
        self.complete = complete

    def mount(self, trial: Trial) -> Path:
        return self.folder / "driver" / f"trial-{trial.number}"

    @property
    def there(self) -> list[str]:
        """What is left of the trials."""
        return sorted(each.name for each in (self.folder / "driver").glob("*"))

    def marks(self, trial: Trial) -> tuple[Mark, ...]:
        """Make up a launch; the same for the same seed and number."""
        chance = random.Random(f"{self.experiment.seed}-{trial.number}")
        kind = self.experiment.variant(trial.variant).prefetch
        containerd, wire, unpack, start = (each * chance.lognormvariate(0, 0.08) * self.slower for each in TIMES[kind])
        at = 1_795_000_000.0 + trial.number * 60
        found = [("requested", at), ("running", at + 0.05), ("containerd", at := at + 0.05 + containerd)]
        found.append(("sandbox", at := at + 0.02))
        if kind == "none":
            found += [("pulling", at := at + 0.01), ("fetched", at := at + wire)]
        found += [("pulled", at := at + unpack + 0.001), ("container-created", at := at + 0.01)]
        found += [("started", at := at + 0.03), ("first-output", at + start)]
        if kind != "none":
            found += [("first-read-begun", at + start + 0.1), ("first-read", at + start + 0.4)]
        return tuple(Mark(name, when, "fake", "host", 0.001, "simulated") for name, when in found)
