"""Which image is to be published, and whether it has passed its checks."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from leptonami.errors import InputError
from leptonami.publish.model import Live
from leptonami.runs import RUN_ID, Run

__all__ = ["Checks", "Subject", "checks", "find", "read_manifest"]

IMAGE = re.compile(r"ami-(?:[0-9a-f]{8}|[0-9a-f]{17})")


@dataclass(frozen=True)
class Subject:
    """An image, and the run that made it, if its folder is on this machine."""

    image: str
    run: Run | None
    manifest: dict[str, Any]


@dataclass(frozen=True)
class Checks:
    """Whether an image passed its checks.

    Attributes
    ----------
    ok
        Whether everything that a build records of a good image is there and says so.
    basis
        What that rests on.
    claims
        How many claims were verified on the builder.
    problems
        What is missing or wrong.
    """

    ok: bool
    basis: str
    claims: int
    problems: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return asdict(self)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a run's manifest; an empty one where it is missing or not whole."""
    try:
        found = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def image_in(manifest: dict[str, Any]) -> str | None:
    """Name the image that a manifest says was made."""
    image = manifest.get("image")
    name = image.get("id") if isinstance(image, dict) else None
    return name if isinstance(name, str) and IMAGE.fullmatch(name) else None


def find(what: str, runs: Path) -> Subject:
    """Find the image that somebody names: by the run that made it, or by its id.

    Raises
    ------
    InputError
        If it is neither, or the run made no image.
    """
    if RUN_ID.fullmatch(what):
        run = Run.open(runs, what)
        manifest = read_manifest(run.folder)
        image = image_in(manifest)
        if image is None:
            state = manifest.get("state", "has no manifest")
            raise InputError(f"the run made no image ({state})", resource=f"run {what}", hint="build it first")
        return Subject(image, run, manifest)
    if IMAGE.fullmatch(what):
        for folder in sorted(runs.glob("*-*-*"), reverse=True):
            if RUN_ID.fullmatch(folder.name) and (folder / "journal.jsonl").exists():
                manifest = read_manifest(folder)
                if image_in(manifest) == what and manifest.get("kind") != "publish":
                    return Subject(what, Run(folder.name, folder), manifest)
        return Subject(what, None, {})
    raise InputError(
        f"neither a run nor an image: {what!r}",
        resource="IMAGE",
        hint="a run looks like 20261123-211500-a1b2c3, an image like ami-0123456789abcdef0",
    )


def checks(subject: Subject, live: Live) -> Checks:
    """Judge from the run's manifest, its evidence and the image's tags whether the image passed its checks.

    All three must be there and agree: a manifest alone can be written by anybody, and a tag can be copied.
    """
    if subject.run is None:
        made = live.tags.get("leptonami:run")
        what = f"it was made by run {made!r}" if made else "it has no tag of leptonami's"
        return Checks(
            False, "nothing", 0, (f"{what}, whose evidence is not on this machine (--runs says where it is)",)
        )
    manifest, problems = subject.manifest, []
    state = str(manifest.get("state"))
    if not state.startswith("succeeded"):
        problems.append(f"the run's state is {state!r}")
    if live.tags.get("leptonami:run") != subject.run.id:
        problems.append(f"the image's tag names the run {live.tags.get('leptonami:run')!r}, not {subject.run.id}")
    plan = manifest.get("plan")
    if image_in(manifest) != live.id:
        problems.append(f"the run made {image_in(manifest) or 'no image'}")
    digest = plan.get("digest") if isinstance(plan, dict) else None
    if live.tags.get("leptonami:digest") != digest or not digest:
        problems.append("the image was not made from the plan that the manifest names")
    findings, wrong = evidence(subject.run.folder)
    problems += wrong
    said = manifest.get("findings") or []
    if {each.get("claim") for each in said} != {each.get("claim") for each in findings}:
        problems.append("the manifest and the evidence name different claims")
    steps = plan.get("parameters", {}).get("steps") if isinstance(plan, dict) else None
    if steps and not findings:
        problems.append("no claim was verified, although the plan has steps")
    failed = [str(each.get("statement")) for each in [*findings, *said] if each.get("ok") is not True]
    problems += [f"does not hold: {each}" for each in dict.fromkeys(failed)]
    return Checks(not problems, f"run {subject.run.id}: manifest, evidence, tags", len(findings), tuple(problems))


def evidence(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the findings that the run kept as evidence; what is wrong with the evidence beside them."""
    path = folder / "evidence" / "image-contents.json"
    if not path.exists():
        return [], []
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        findings = [each for each in document["payload"]["findings"] if isinstance(each, dict)]
        raw = (folder / "evidence" / "raw" / "image-contents.txt").read_bytes()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return [], [f"the evidence cannot be read: {type(error).__name__}: {error}"]
    if hashlib.sha256(raw).hexdigest() != document.get("sha256"):
        return findings, ["the evidence does not match the output that it was read from"]
    return findings, []
