"""Which drivers can work on this machine, and why others cannot."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leptonami.bench.drivers import DRIVERS, open_driver
from leptonami.bench.experiment import Experiment
from leptonami.bench.model import Probe, Setup, dump
from leptonami.errors import LeptonamiError
from leptonami.runs import new_id

__all__ = ["Probed", "probe_all"]


@dataclass(frozen=True, slots=True)
class Probed:
    """A driver and what its probe found."""

    name: str
    probe: Probe

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {"driver": self.name, **dump(self.probe)}


def probe_all(names: Sequence[str] | None = None) -> tuple[Probed, ...]:
    """Ask drivers, all of them by default. One that cannot even be opened says why."""
    return tuple(Probed(name, probe_one(name)) for name in names or DRIVERS)


def probe_one(name: str) -> Probe:
    """Open a driver in a folder that goes away again, and ask it."""
    with tempfile.TemporaryDirectory(prefix="leptonami-probe-") as folder:
        try:
            driver = open_driver(name, Setup(smallest_experiment(name), new_id(), Path(folder)))
            try:
                return driver.probe()
            finally:
                driver.close()
        except LeptonamiError as error:
            return Probe(False, (f"{error}" + (f"; {error.hint}" if error.hint else ""),))


def smallest_experiment(name: str) -> Experiment:
    """Give an experiment that only a probe is asked of."""
    data: dict[str, Any] = {
        "schema": 1,
        "name": "probe",
        "driver": name,
        "variants": [{"name": "cold", "kind": "no-images"}],
        "images": [{"name": "none", "unpacked_mib": 1}],
        "trials": 1,
        "seed": 0,
        "timeout": "1m",
        "smallest": {"seconds": 1.0},
    }
    if name == "eks":
        data["variants"][0]["ami"] = "ami-00000000"
        data["images"] = [{"name": "none", "ref": "registry.k8s.io/pause:3.10"}]
        data["instance_types"] = ["m7i.large"]
        data["eks"] = {
            "cluster": "probe",
            "region": "us-west-2",
            "subnets": ["subnet-00000000"],
            "instance_profile": "probe",
        }
    return Experiment.model_validate(data)
