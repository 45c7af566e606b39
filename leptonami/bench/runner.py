"""Running an experiment: trial after trial, each written down before the next, so that a killed one goes on.

The journal has the experiment, each bake, the begin of each trial and what came of it. After a kill the trial that was
under way is cleaned up and recorded as interrupted, and the order goes on after it: no trial is run twice. A trial that
fails is a result with a reason.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from leptonami.bench import results as outcomes
from leptonami.bench.model import Bake, Driver, Launch, Outcome, Trial, dump, taken_along
from leptonami.bench.order import order
from leptonami.errors import CheckFailed, InputError, Interrupted, LeptonamiError, Timeout
from leptonami.progress import Stages

if TYPE_CHECKING:
    from leptonami.bench.experiment import Experiment
    from leptonami.bench.results import Results
    from leptonami.progress import Progress
    from leptonami.runs import Run

__all__ = ["run"]

# Seconds beyond a trial's time-out after which it is stopped although its driver does not notice.
SLACK = 10.0


def run(
    experiment: Experiment,
    place: Run,
    opener: Callable[[Callable[[str], None]], Driver],
    *,
    progress: Progress,
    command: str = "",
) -> Results:
    """Run an experiment, or go on with it, and keep what came of it.

    Parameters
    ----------
    place
        The run's folder: a new one, or one in which this experiment has begun.
    opener
        Opens the driver; it is given what the driver may tell a line to.
    command
        What does it again, for whoever reads the results.

    Raises
    ------
    InputError
        If the driver cannot work here, or the run is of another experiment or machine.
    Interrupted
        If somebody pressed Ctrl-C; what the trial had made is gone, and the run can go on.
    LeptonamiError
        If a bake fails, or too many trials in a row.
    """
    stages = Stages(progress)
    with place.lock():
        place.journal.mend()
        driver = opener(stages.progress.line)
        state = "failed"
        try:
            begin(experiment, place, driver, command)
            stand(experiment, place, driver, "running")
            Runner(experiment, place, driver, stages).all()
            state = "succeeded"
        except KeyboardInterrupt:
            state = "interrupted"
            place.journal.write("interrupted")
            raise Interrupted(
                "interrupted", resource=f"run {place.id}", hint=f"go on with: leptonami bench run --resume {place.id}"
            ) from None
        finally:
            driver.close(complete=state == "succeeded")
            stages.progress.close()
            if outcomes.begun(place) is not None:
                keep(place)
                stand(experiment, place, driver, state)
    return outcomes.from_journal(place)


def begin(experiment: Experiment, place: Run, driver: Driver, command: str) -> None:
    """Write down what is run, on what; or check that it is what was begun.

    Raises
    ------
    InputError
        If it cannot be.
    """
    probe = driver.probe()
    if not probe.possible:
        raise InputError(
            f"the driver {driver.name} cannot work here: {'; '.join(probe.reasons) or 'it does not say why'}",
            resource="driver",
            hint="leptonami bench probe shows all drivers",
        )
    before = outcomes.begun(place)
    if before is not None:
        if before["digest"] != experiment.digest:
            raise InputError(
                "it was begun with another experiment",
                resource=f"run {place.id}",
                hint="more trials are the same experiment; for anything else begin a new run",
            )
        then, now = dict(before["machine"]), dict(probe.machine)
        if then != now:
            changed = [name for name in {**then, **now} if then.get(name) != now.get(name)]
            raise InputError(
                f"it was begun on another machine: {', '.join(sorted(changed))} differ",
                resource=f"run {place.id}",
                hint="times of two machines are not one experiment; begin a new run",
            )
    place.journal.write(
        "experiment",
        experiment=experiment.as_dict(),
        digest=experiment.digest,
        driver=driver.name,
        provenance=driver.provenance,
        machine=dict(probe.machine),
        reasons=list(probe.reasons),
        versions={name: version(name) for name in ("leptonami", "scipy")},
        command=command,
        # A copy of the folder has another one: what that says about who works on the run is not to be believed.
        lock=place.lock_number,
    )


def stand(experiment: Experiment, place: Run, driver: Driver, state: str) -> None:
    """Say in the manifest how the run stands, for `leptonami runs` and for a sweep after a kill."""
    place.write_manifest(
        {
            "schema": 1,
            "kind": "bench",
            "run": place.id,
            "state": state,
            "provenance": driver.provenance,
            "plan": {"name": experiment.name},
            "target": {"region": experiment.eks.region if experiment.eks is not None else None},
        }
    )


@dataclass
class Runner:
    """The state of a running experiment."""

    experiment: Experiment
    place: Run
    driver: Driver
    stages: Stages

    def all(self) -> None:
        """Run every trial that has not been run."""
        trials = order(self.experiment)
        done = {each.number: each for each in outcomes.from_journal(self.place).trials}
        self.half(trials, done)
        waiting = [each for each in trials if each.number not in done]
        baked: set[str] = set()
        failures = 0
        for block in dict.fromkeys(each.block for each in waiting):
            now = [each for each in waiting if each.block == block]
            for variant in dict.fromkeys(each.variant for each in now):
                if variant not in baked:
                    self.bake(variant)
                    baked.add(variant)
            warm = " (warm-up)" if now[0].warmup else ""
            with self.stages.stage(f"block {block} of {trials[-1].block}{warm}") as progress:
                for each in now:
                    left = [other for other in trials if other.number not in done]
                    told = f"trial {each.number} of {len(trials)}: {words(each)}"
                    progress.update(f"{told}; {ends(list(done.values()), left)}", (each.number - 1) / len(trials))
                    trial = self.trial(each)
                    done[each.number] = trial
                    progress.line(f"{told}: {told_of(trial, self.experiment.phase)}")
                    failures = 0 if trial.outcome == "ok" else failures + 1
                    if failures >= self.experiment.max_failures:
                        raise LeptonamiError(
                            f"{failures} trials in a row have failed, the last one: {trial.reason}",
                            resource=f"run {self.place.id}",
                            hint=f"mend it and go on: leptonami bench run --resume {self.place.id}",
                        )
        self.place.journal.write("finished")

    def half(self, trials: Sequence[Trial], done: dict[int, Trial]) -> None:
        """Clean up after the trial in which the process was killed, and record it as interrupted."""
        begun = {each["number"] for each in self.place.journal.read() if each.get("event") == "trial-begins"}
        for each in trials:
            if each.number in begun and each.number not in done:
                self.clean(each)
                stopped = replace(each, outcome="interrupted", reason="the process that ran it was killed")
                done[each.number] = stopped
                self.place.journal.write("trial", trial=dump(stopped))

    def bake(self, variant: str) -> None:
        """Make what a variant's launches start from, and want every claim about it to hold."""
        with self.stages.stage(f"bake {variant}"):
            found: Bake = self.driver.bake(self.experiment.variant(variant), self.place.journal)
            self.place.journal.write("bake", bake=dump(found))
        wrong = [each for each in found.checks if not each.ok]
        if wrong:
            raise CheckFailed(
                f"the bake is not what it should be: {wrong[0].name}: {wrong[0].detail}",
                resource=f"variant {variant}",
                hint="its launches would measure something else",
            )

    def trial(self, planned: Trial) -> Trial:
        """Run one trial and write it down, whatever comes of it."""
        began, start = datetime.now(UTC), time.monotonic()
        self.place.journal.write("trial-begins", number=planned.number, variant=planned.variant)
        launch = Launch()
        outcome: Outcome = "ok"
        reason = ""
        stopped = False
        try:
            with alarm(self.experiment.timeout + SLACK):
                launch = self.driver.launch(planned, float(self.experiment.timeout))
        except KeyboardInterrupt as error:
            outcome, reason, stopped = "interrupted", "somebody pressed Ctrl-C", True
            launch = taken_along(error)
        except Timeout as error:
            outcome, reason, launch = "timed-out", str(error), taken_along(error)
        except Exception as error:
            outcome, reason, launch = "failed", str(error) or type(error).__name__, taken_along(error)
        left = self.clean(planned)
        if left and outcome == "ok":
            outcome, reason = "failed", f"it left behind: {'; '.join(left)}"
        trial = replace(
            planned,
            outcome=outcome,
            reason=reason,
            marks=launch.marks,
            offsets=launch.offsets,
            conditions={**dict(launch.conditions), **({"left": "; ".join(left)} if left else {})},
            cost=launch.cost,
            began=began.isoformat(timespec="milliseconds"),
        )
        trial = replace(trial, seconds=round(time.monotonic() - start, 6))
        trial = replace(trial, overhead=round(outcomes.overhead(trial), 6))
        self.place.journal.write("trial", trial=dump(trial))
        if stopped:
            raise KeyboardInterrupt
        return trial

    def clean(self, trial: Trial) -> tuple[str, ...]:
        """Remove what a trial made; say what is still there."""
        try:
            return self.driver.clean(trial)
        except Exception as error:
            return (f"its clean-up failed: {error}",)


def words(trial: Trial) -> str:
    """Name a trial for a reader."""
    network = f"{trial.bandwidth_mbit} Mbit/s" if trial.bandwidth_mbit else ""
    return ", ".join(filter(None, (trial.variant, trial.image, trial.instance_type, network)))


def told_of(trial: Trial, phase: str) -> str:
    """Say what came of a trial."""
    span = trial.timeline.phases().get(phase)
    return f"{span.seconds:.2f} s" if trial.outcome == "ok" and span is not None else f"{trial.outcome}: {trial.reason}"


def ends(done: Sequence[Trial], left: Sequence[Trial], *, now: datetime | None = None) -> str:
    """Estimate when the last trial will have ended, from how long those of its kind took."""
    if not done:
        return "no estimate yet"

    def mean(trials: Sequence[Trial]) -> float:
        return sum(each.seconds for each in trials) / len(trials)

    kinds: dict[str, list[Trial]] = {}
    for each in done:
        kinds.setdefault(words(each), []).append(each)
    seconds = sum(mean(kinds.get(words(each)) or done) for each in left)
    moment = (now or datetime.now(UTC)) + timedelta(seconds=seconds)
    return f"ends about {moment:%H:%M} UTC, in {seconds / 60:.0f} min"


@contextlib.contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raise `Timeout` in the block when the time is over. Only in the main thread: signals go nowhere else."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_number: int, _frame: Any) -> None:
        raise Timeout(f"the driver did not notice that the time-out had passed {SLACK:g} s ago")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def keep(place: Run) -> None:
    """Write the results so far: as evidence with the verdicts, and all of it as its raw input."""
    from leptonami.bench.report import payload

    found = outcomes.from_journal(place)
    place.write_evidence(
        outcomes.KIND,
        kind=outcomes.KIND,
        provenance=found.provenance,
        source=f"leptonami bench, driver {found.driver}, experiment {found.experiment.name}",
        payload=payload(found),
        raw=outcomes.text(found),
    )
