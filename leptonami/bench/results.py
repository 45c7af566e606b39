"""What an experiment has yielded: everything about every trial, as one document that can be kept and read back."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from leptonami.bench.experiment import Experiment
from leptonami.bench.model import SCHEMA, Bake, Trial, Value, dump, load
from leptonami.errors import InputError
from leptonami.runs import Run, parse_id
from leptonami.target import Provenance

__all__ = ["KIND", "Results", "from_journal", "parse", "read"]

KIND: Literal["launch-benchmark"] = "launch-benchmark"
"""Of the evidence and of the recorded file."""
LARGEST = 256 << 20  # bytes of a document, unpacked


@dataclass(frozen=True)
class Results:
    """An experiment with its trials.

    Attributes
    ----------
    run
        The id of the run that measured.
    experiment, driver, provenance, machine, versions
        What was run, by what, on what.
    command
        What does it again.
    bakes, trials
        What came of it. Trials that were never begun are not there.
    reasons
        What the driver had to say about this machine although it could work.
    complete
        Whether every trial of the experiment was run.
    """

    run: str
    experiment: Experiment
    driver: str
    provenance: Provenance
    machine: Mapping[str, Value] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    bakes: tuple[Bake, ...] = ()
    trials: tuple[Trial, ...] = ()
    reasons: tuple[str, ...] = ()
    complete: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Give the document: plain data, with its schema number."""
        return {
            "schema": SCHEMA,
            "kind": KIND,
            "run": self.run,
            "experiment": self.experiment.as_dict(),
            "driver": self.driver,
            "provenance": self.provenance,
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "command": self.command,
            "reasons": list(self.reasons),
            "complete": self.complete,
            "bakes": [dump(each) for each in self.bakes],
            "trials": [dump(each) for each in self.trials],
        }

    def recorded(self) -> Results:
        """Label measured numbers as recorded: what is read back was not measured now. Simulated ones stay so."""
        return self if self.provenance == "simulated" else replace(self, provenance="recorded")

    @property
    def counted(self) -> tuple[Trial, ...]:
        """The trials whose times go into the statistics."""
        return tuple(each for each in self.trials if each.counts)


def parse(content: bytes, *, source: str) -> Results:
    """Read a document; its text may be anything.

    Raises
    ------
    InputError
        If it is none, or of another schema.
    """
    try:
        data = json.loads(content)
        if not isinstance(data, dict) or data.get("kind") != KIND:
            raise InputError("not the results of a launch benchmark", resource=source)
        if data.get("schema") != SCHEMA:
            raise InputError(
                f"its schema is {data.get('schema')!r}, and this version of leptonami reads {SCHEMA}",
                resource=source,
                hint="read it with the version that wrote it",
            )
        return Results(
            run=str(data["run"]),
            experiment=Experiment.model_validate(data["experiment"]),
            driver=str(data["driver"]),
            provenance=load(ProvenanceOnly, {"provenance": data["provenance"]}).provenance,
            machine=dict(data["machine"]),
            versions={str(key): str(value) for key, value in data["versions"].items()},
            command=str(data["command"]),
            bakes=tuple(load(Bake, each) for each in data["bakes"]),
            trials=tuple(load(Trial, each) for each in data["trials"]),
            reasons=tuple(str(each) for each in data["reasons"]),
            complete=data["complete"] is True,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"not the results of a launch benchmark: {str(error)[:200]}", resource=source) from error


@dataclass(frozen=True)
class ProvenanceOnly:
    """For checking a provenance that was read."""

    provenance: Provenance


def unpack(content: bytes, *, source: str) -> bytes:
    """Unpack what is gzip, within bounds."""
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        stream = zlib.decompressobj(wbits=31)
        unpacked = stream.decompress(content, LARGEST)
    except zlib.error as error:
        raise InputError(f"not gzip: {error}", resource=source) from error
    if stream.unconsumed_tail:
        raise InputError(f"more than {LARGEST >> 20} MiB unpacked", resource=source)
    return unpacked


def text(results: Results) -> bytes:
    """Write a document: the same bytes for the same results."""
    return (json.dumps(results.as_dict(), indent=1, sort_keys=True) + "\n").encode()


def read(where: str, *, runs: Path) -> Results:
    """Read results by what a person names them: a run's id, a recording (`launch/process`), a file or a run's folder.

    Raises
    ------
    InputError
        If there is nothing of that name.
    """
    from leptonami import recordings

    path = Path(where)
    if path.is_file():
        return parse(unpack(path.read_bytes(), source=where), source=where).recorded()
    if (path / "journal.jsonl").is_file():
        return from_journal(Run(path.name, path))
    try:
        parse_id(where)
    except InputError:
        known = [each.id for each in recordings.recordings() if any(file.kind == KIND for file in each.files)]
        if where in known:
            return parse(recordings.get(where).read(KIND), source=where).recorded()
        raise InputError(
            f"there are no results {where!r}",
            resource="benchmark",
            hint=f"name a run's id, a file, or a recording ({', '.join(known) or 'there is none yet'})",
        ) from None
    return from_journal(Run.open(runs, where))


def begun(run: Run) -> dict[str, Any] | None:
    """Give what the journal says of the run's begin: experiment, digest, driver, machine; None if it never began."""
    return next((each for each in run.journal.read() if each.get("event") == "experiment"), None)


def from_journal(run: Run) -> Results:
    """Put a run's results together from its journal, however far it came.

    Raises
    ------
    InputError
        If the run is no benchmark.
    """
    entries = run.journal.read()
    first = begun(run)
    if first is None:
        raise InputError(
            "this run is no launch benchmark", resource=f"run {run.id}", hint="leptonami bench run EXPERIMENT"
        )
    # Going on may ask for more trials than it began with: the newest experiment counts.
    last = next(each for each in reversed(entries) if each.get("event") == "experiment")
    try:
        experiment = Experiment.model_validate(last["experiment"])
        bakes = {each["bake"]["variant"]: load(Bake, each["bake"]) for each in entries if each.get("event") == "bake"}
        trials = {
            each["trial"]["number"]: load(Trial, each["trial"]) for each in entries if each.get("event") == "trial"
        }
        return Results(
            run=run.id,
            experiment=experiment,
            driver=str(first["driver"]),
            provenance=load(ProvenanceOnly, {"provenance": first["provenance"]}).provenance,
            machine=dict(first["machine"]),
            versions=dict(first["versions"]),
            command=str(first["command"]),
            bakes=tuple(bakes.values()),
            trials=tuple(trials[number] for number in sorted(trials)),
            reasons=tuple(first["reasons"]),
            complete=all(number in trials for number in range(1, total(experiment) + 1)),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"its journal cannot be read: {str(error)[:200]}", resource=f"run {run.id}") from error


def total(experiment: Experiment) -> int:
    """Count the trials of an experiment."""
    from leptonami.bench.order import order

    return len(order(experiment))


def overhead(trial: Trial) -> float:
    """Give the seconds of a trial that were neither its launch nor its first read: making the disk, asking, cleaning.

    Of a trial without a launch that is all of it. Recordings that were made before the first read was taken out
    have it in `Trial.overhead`, so whoever shows it calls this.
    """
    timeline = trial.timeline
    read = timeline.phases().get("first-read")
    inside = sum(span.seconds for span in timeline.waterfall()) + (read.seconds if read else 0.0)
    return max(0.0, trial.seconds - inside)


def durations(trials: Iterable[Trial], phase: str) -> list[float]:
    """Give the lengths of a phase (s) of the trials that have it."""
    spans = (each.timeline.phases().get(phase) for each in trials)
    return [span.seconds for span in spans if span is not None]
