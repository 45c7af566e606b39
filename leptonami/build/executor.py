"""One build, from the plan to the AMI: look, launch, provision, verify, image, clean up. Their order is here."""

from __future__ import annotations

import contextlib
import functools
import getpass
import hashlib
import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leptonami.build import builder as builders
from leptonami.build import claims, image, preflight, requests, steps
from leptonami.build.cleanup import Cleanup, Removal
from leptonami.build.command import Shell
from leptonami.build.past import Past
from leptonami.build.work import Work
from leptonami.errors import BuildError, CheckFailed, InputError, Interrupted, LeptonamiError, Timeout
from leptonami.progress import Progress, Silent, Stage, Stages
from leptonami.publish import publishing
from leptonami.runs import Run, now
from leptonami.target import Provenance, Target

if TYPE_CHECKING:
    from leptonami.plan import Plan

__all__ = ["BuildResult", "build", "context"]

MANIFEST_SCHEMA = 1
VERIFY_S = 900


@dataclass(frozen=True)
class BuildResult:
    """What came of a build; `manifest` is the file that says it all."""

    run: Run
    image: image.Ami
    base: Any
    findings: tuple[claims.Finding, ...]
    versions: dict[str, Any]
    stages: tuple[Stage, ...]
    removals: tuple[Removal, ...]
    manifest: Path
    provenance: Provenance


def context(plan: Plan, run_id: str) -> steps.Context:
    """Give what the steps' scripts are rendered with."""
    return steps.Context(
        plan_name=plan.name,
        run_id=run_id,
        family=plan.family,
        os=plan.os,
        kubernetes=plan.kubernetes,
        architecture=plan.architecture,
        region=plan.region,
        images=plan.images,
    )


def build(
    target: Target,
    plan: Plan,
    *,
    runs: Path,
    run_id: str | None = None,
    progress: Progress | None = None,
    keep_on_error: bool = False,
    resume: bool = False,
) -> BuildResult:
    """Build the plan's image, or go on with a build that was killed.

    A run that goes on repeats no step that had ended. It finds what exists by name, tag, client token and journal, and
    where AWS and the journal disagree, AWS is right.

    Parameters
    ----------
    target
        Where; its region must be the plan's.
    runs
        The folder of all runs; the run gets its own in it.
    run_id
        The run's id; a new one by default.
    resume
        Go on with the run `run_id` if it has begun.
    progress
        Where progress is shown; nowhere by default.
    keep_on_error
        Leave the builder as it is after a failure, to look at. It is tagged with its expiry.

    Returns
    -------
    BuildResult
        With the image, which is available and whose every claim was verified on the builder; and published, where
        the plan asks for it (`publish.json` in the run's folder).

    Raises
    ------
    InputError
        The plan cannot work here.
    CheckFailed
        The builder does not hold what the plan claims; no image was made.
    BuildError, CredentialsError, Timeout
        What stopped the build.
    Interrupted
        Ctrl-C. As after every failure, what was temporary has been removed.
    """
    if plan.region != target.region:
        raise InputError(
            f"the plan is for {plan.region}, the target is {target.region}",
            hint="open the target with the plan's region",
        )
    begun = resume and run_id is not None and (runs / run_id / "journal.jsonl").exists()
    run = Run.open(runs, run_id or "") if begun else Run.create(runs, run_id)
    with run.lock():
        result = _Build(target, plan, run, progress or Silent(), keep_on_error=keep_on_error).run_all()
        if not plan.publish.asks_for_nothing:
            # The image is made and its record written: should this fail, `leptonami publish RUN` takes it up again.
            publishing.publish(target, plan, result.image.id, run, progress)
    return result


class _Build:
    """The state of a build that is going on; everything it learns goes into the manifest."""

    def __init__(self, target: Target, plan: Plan, run: Run, progress: Progress, *, keep_on_error: bool) -> None:
        self.target, self.plan, self.run, self.keep_on_error = target, plan, run, keep_on_error
        self.journal = run.journal
        self.cleanup = Cleanup(self.journal)
        self.stages = Stages(progress)
        progress = self.stages.progress
        self.journal.mend()
        self.past = Past(self.journal.read())
        self.succeeded_before = bool(self.past) and succeeded(run)
        self.work = Work(target, plan, self.journal, self.cleanup, progress, self.past)
        self.started = now()
        self.facts: dict[str, Any] = {}

    def run_all(self) -> BuildResult:
        begun = self.past.last("build")
        if begun is not None and begun.get("digest") != self.plan.digest:
            raise InputError(
                "the plan, its image list or one of its scripts has changed since the run began",
                resource=f"run {self.run.id}",
                hint="put it back as it was, or start a new run (and sweep what this one left)",
            )
        if begun is not None:
            self._refuse_elsewhere(begun)
        self.journal.write(
            "build",
            plan=self.plan.name,
            digest=self.plan.digest,
            provenance=self.target.provenance,
            # By this a sweep tells the folder of the run from a copy of it, whose lock is always free.
            lock=self.run.lock_number,
        )
        if not self.succeeded_before:
            self._write_manifest("running")
        try:
            made, findings, versions, base = self._make()
        except BaseException as error:
            problem = self._after(error)
            if problem is error:
                raise
            raise problem from error
        self._tidy()
        left = self.cleanup.left
        manifest = self._write_manifest("succeeded" if not left else "succeeded, with leftovers")
        return BuildResult(
            run=self.run,
            image=made,
            base=base,
            findings=findings,
            versions=versions,
            stages=tuple(self.stages.ended),
            removals=tuple(self.cleanup.done),
            manifest=manifest,
            provenance=self.target.provenance,
        )

    def _refuse_elsewhere(self, begun: dict[str, Any]) -> None:
        """Refuse to go on in another account: all would be made again there, and what is left in the first forgotten.

        Earlier versions wrote no account down.
        """
        simulated = begun.get("provenance", self.target.provenance) == "simulated"
        if simulated != (self.target.provenance == "simulated"):
            where = "the lab" if simulated else "an account of AWS, and this is the lab"
        elif self.past.account not in {None, place_mark(self.run.id, self.target.identity().account)}:
            where = "another account"
        else:
            return
        raise InputError(
            f"the run began in {where}",
            resource=f"run {self.run.id}",
            hint="go on with the credentials and the --aws that it began with, or start a new run",
        )

    def _make(self) -> tuple[image.Ami, tuple[claims.Finding, ...], dict[str, Any], Any]:
        target, plan, work, stage = self.target, self.plan, self.work, self.stages.stage
        with stage("look at the account and find the base image"):
            site = preflight.survey(target, plan, self.run.id, self.past)
            if self.past.base is None:
                mark = place_mark(self.run.id, site.account)
                self.journal.write("base", image=site.base.as_dict(), account=mark)
            self.facts |= {
                "base": site.base.as_dict(),
                "disk": asdict(site.budget),
                "image_name": site.image_name,
                "owner": site.names.owner,
            }
        if self.past:
            # Whatever happens from here on: what an earlier process has made is this one's to remove.
            builders.owe(work, site)
        if self.past and not self.succeeded_before:
            with stage("let what the run has made live on"):
                builders.prolong(work, site)
        made = image.find_earlier(work, site) if self.past else None
        if made is None and self.succeeded_before:
            raise InputError(
                "the run came to its end, and its image is no more",
                resource=f"run {self.run.id}",
                hint="start a new run: two images must not have the same version",
            )
        if made is not None:
            # An earlier process of this run had asked for the image: all that is left is to wait, and to clean up.
            builder = builders.recalled(self.past)
            self.facts["builder"] = asdict(builder)
            findings, versions = self._recall(builder)
            stopped = not builder.spot
        else:
            builder, findings, versions = self._furnish(site)
            with stage("stop the builder"):
                stopped = image.stop(work, builder)
                if stopped:
                    builders.wait_stopped(work, builder.instance)
        with stage("make the image"):
            undo = 0
            if made is None:
                made, undo = image.create(work, site, builder, stopped=stopped)
            # An image that an earlier process asked for is owed no removal: it may be finished, published and in use.
            self.facts["image"] = {"id": made, "name": site.image_name, "state": "pending"}
            try:
                ami = image.wait_available(work, made)
            except Timeout:
                # EC2 goes on with it, and `--resume` waits on.
                self.cleanup.forget(undo)
                raise
            # Of this image: an earlier one of the run may be gone.
            if self.past.last("done", action="ec2.ModifyImageAttribute", id=made) is None:
                with self.journal.action("ec2.ModifyImageAttribute", id=made, imds="v2.0") as outcome:
                    target.call(target.client("ec2").modify_image_attribute, **requests.protect_metadata(made))
                    outcome["id"] = made
            self.cleanup.forget(undo)
            self.facts["image"] = asdict(ami)
        return ami, findings, versions, site.base

    def _furnish(self, site: preflight.Site) -> tuple[builders.Builder, tuple[claims.Finding, ...], dict[str, Any]]:
        """Launch the builder, provision it and verify it, each only as far as it has not been done."""
        work, stage = self.work, self.stages.stage
        with stage("make what is temporary"):
            groups = builders.create_group(work, site)
            # Without steps nobody talks to the builder, so it needs no profile.
            profile = builders.create_profile(work, site) if self.plan.steps else None
        with stage("launch the builder"):
            builder = builders.launch(work, site, groups=groups, profile=profile)
            self.facts["builder"] = asdict(builder)
            self.journal.write("builder", builder=asdict(builder))
            verified = self.past.last("verified", instance=builder.instance) is not None
            if not verified:
                builders.revive(work, builder.instance)
        if verified:
            return builder, *self._recall(builder)
        if not self.plan.steps:
            return builder, (), {}
        findings, versions = self._provision(builder)
        self.journal.write("verified", instance=builder.instance)
        return builder, findings, versions

    def _provision(self, builder: builders.Builder) -> tuple[tuple[claims.Finding, ...], dict[str, Any]]:
        target, plan, stage = self.target, self.plan, self.stages.stage
        with stage("wait for the builder's SSM agent"):
            self.facts["agent"] = builders.wait_online(self.work, builder.instance)
            self.journal.write("agent", instance=builder.instance, version=self.facts["agent"])
        around = context(plan, self.run.id)
        shell = Shell(target, builder.instance, self.journal, self.stages.progress, run_id=self.run.id)
        kept: list[dict[str, Any]] = []
        self.facts["steps"] = kept
        for number, use in enumerate(plan.steps, start=1):
            name = f"{number:02d}-{use.name}"
            script = steps.render(use, around)
            (self.run.folder / "scripts" / f"{name}.sh").write_text(script, encoding="utf-8")
            timeout = use.timeout or steps.catalogue()[use.name].timeout
            digest = hashlib.sha256(script.encode()).hexdigest()
            identity = {"name": name, "instance": builder.instance, "script": digest}
            finished = self.past.last("finished", **identity)
            if finished is not None:
                kept.append(finished["record"])
                continue
            with stage(f"step {number} of {len(plan.steps)}: {use.name}"):
                outcome = shell.run(
                    name,
                    script,
                    timeout=timeout,
                    log=self.run.folder / "logs" / f"{name}.log",
                    # The last step removes what the steps before it left on the disk, their logs included.
                    keep_remote_log=number < len(plan.steps),
                    pick_up=shell.running(name, self.past),
                )
            kept.append(
                {
                    "step": use.name,
                    "options": portable(dict(use.options), Path(plan.path).parent),
                    "timeout_s": timeout,
                    "seconds": outcome.seconds,
                    "exit_code": outcome.code,
                    "log": f"logs/{name}.log",
                    "log_complete": outcome.log_complete,
                }
            )
            self.journal.write("finished", **identity, record=kept[-1])
        with stage("verify every claim on the builder"):
            answer = shell.run("verify", claims.script(plan, around), timeout=VERIFY_S, log=None)
            findings = claims.parse(answer.stdout)
            versions = claims.version_record(answer.stdout)
            self.run.write_evidence(
                "image-contents",
                kind="findings",
                provenance=target.provenance,
                source=f"verification script on builder {builder.instance}",
                payload={"findings": [asdict(each) for each in findings], "versions": versions},
                raw=answer.stdout.encode(),
            )
            self.facts["findings"] = [asdict(each) for each in findings]
            self.facts["versions"] = versions
            self._judge(findings)
        return findings, versions

    def _recall(self, builder: builders.Builder) -> tuple[tuple[claims.Finding, ...], dict[str, Any]]:
        """Read back what an earlier process of this run did and verified on the builder."""
        if not self.plan.steps:
            return (), {}
        path = self.run.folder / "evidence" / "image-contents.json"
        try:
            payload = json.loads(path.read_text(encoding="utf-8"))["payload"]
            findings = tuple(claims.Finding(**each) for each in payload["findings"])
            versions = dict(payload["versions"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise BuildError(
                f"the evidence of what was verified on the builder is lost ({type(error).__name__}: {error})",
                resource=str(path),
                hint="put the file back, or start a new run: an image without evidence is not published, and the one "
                f"that this run may have made is tagged leptonami:run={self.run.id}",
            ) from error
        self.facts |= {
            "agent": self.past.require("agent", instance=builder.instance)["version"],
            "steps": [each["record"] for each in self.past.all("finished", instance=builder.instance)],
            "findings": payload["findings"],
            "versions": versions,
        }
        return findings, versions

    def _judge(self, findings: tuple[claims.Finding, ...]) -> None:
        """Refuse to image a builder that does not hold what the plan claims, a claim without an answer included."""
        answered = {each.claim for each in findings}
        silent = [each for each in claims.claims(self.plan) if each.id not in answered]
        wrong = [each for each in findings if not each.ok]
        if not wrong and not silent:
            return
        lines = [f"    {each.statement}: expected {each.expected}, found {each.observed}" for each in wrong]
        lines += [f"    {each.statement}: not answered" for each in silent]
        raise CheckFailed(
            f"{len(wrong) + len(silent)} of {len(claims.claims(self.plan))} claims do not hold, so no image is made\n"
            + "\n".join(lines),
            resource=self.plan.name,
            hint=f"the evidence is in {self.run.folder / 'evidence' / 'image-contents.json'}",
        )

    def _after(self, error: BaseException) -> BaseException:
        """Clean up after a failure, write it down, and give the error that the caller sees."""
        with contextlib.suppress(OSError):
            self.journal.write("stopped", error=f"{type(error).__name__}: {error}")
        if self.keep_on_error and not isinstance(error, KeyboardInterrupt):
            self.cleanup.keep()
        else:
            self._tidy()
        problem: BaseException = error
        if isinstance(error, KeyboardInterrupt):
            problem = Interrupted(
                "interrupted; "
                + ("what was temporary has been removed" if not self.cleanup.left else self._leftovers()),
                resource=f"run {self.run.id}",
            )
        elif isinstance(error, OSError):
            problem = BuildError(
                f"the run's folder cannot be written: {error}",
                resource=str(self.run.folder),
                hint="is the disk full, or was the folder removed? Start again with --runs on another disk",
            )
        if isinstance(problem, LeptonamiError) and self.cleanup.left and not isinstance(problem, Interrupted):
            problem.hint = f"{problem.hint + '. ' if problem.hint else ''}{self._leftovers()}"
        details = problem.as_dict() if isinstance(problem, LeptonamiError) else {"error": repr(problem)}
        if self.succeeded_before:
            return problem
        with contextlib.suppress(OSError):
            self._write_manifest("interrupted" if isinstance(error, KeyboardInterrupt) else "failed", error=details)
        return problem

    def _leftovers(self) -> str:
        return (
            "left behind, tagged leptonami:run="
            + f"{self.run.id}: "
            + ", ".join(each.what for each in self.cleanup.left)
        )

    def _tidy(self) -> None:
        with self.stages.stage("remove what was temporary"):
            self.cleanup.run()
        self.stages.progress.close()

    def _write_manifest(self, state: str, **more: Any) -> Path:
        return self.run.write_manifest(
            {
                "schema": MANIFEST_SCHEMA,
                "run": self.run.id,
                "state": state,
                "provenance": self.target.provenance,
                "started": self.started.isoformat(),
                "updated": now().isoformat(),
                "plan": {
                    "name": self.plan.name,
                    "file": Path(self.plan.path).name,
                    "digest": self.plan.digest,
                    "parameters": portable(self.plan.model_dump(mode="json"), Path(self.plan.path).parent),
                    "warnings": list(self.plan.warnings),
                },
                "target": {"region": self.target.region, "endpoint": "lab" if self.target.endpoint else "aws"},
                "tools": tools(),
                **self.facts,
                "stages": [asdict(each) for each in self.stages.ended],
                "calls": dict(sorted(self.target.calls.items())),
                "removed": [asdict(each) for each in self.cleanup.done],
                **more,
            }
        )


def place_mark(run_id: str, account: str) -> str:
    """Give a mark by which an account is known again; run folders are passed on, so its number is not in them."""
    return hashlib.sha256(f"{run_id}/{account}".encode()).hexdigest()[:16]


def succeeded(run: Run) -> bool:
    """Tell whether an earlier process of the run came to its end: then its record stays, whatever comes now."""
    try:
        state = json.loads(run.manifest_path.read_text(encoding="utf-8"))["state"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return str(state).startswith("succeeded")


def portable(value: Any, folder: Path) -> Any:
    """Give plain data without the places of this machine: paths become relative to the plan's folder."""
    if isinstance(value, dict):
        return {key: portable(each, folder) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [portable(each, folder) for each in value]
    if isinstance(value, Path):
        return os.path.relpath(value, folder)
    if isinstance(value, str):
        prefix = f"{folder.absolute()}{os.sep}"
        return os.path.relpath(value, folder) if value.startswith((prefix, f"{folder}{os.sep}")) else value
    return value


@functools.cache
def tools() -> dict[str, str | None]:
    """Name what a build was made with: versions, the git revision where there is one, and who ran it."""
    found: dict[str, str | None] = {"python": platform.python_version(), "user": None, "git": None}
    # A container's user may have no name, and a machine no git.
    with contextlib.suppress(OSError, KeyError):
        found["user"] = getpass.getuser()
    for package in ("leptonami", "boto3", "botocore", "papermill"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    with contextlib.suppress(OSError):
        git = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=False,
        )
        found["git"] = git.stdout.strip() or None
    return found
