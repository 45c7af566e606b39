"""The evidence that claims are put to: recordings of this package, evidence of runs, and tables of looked-up facts.

Each piece has a row (`Evidence`), which a record keeps, and its content (`Item`), which the checks read. The digest in
the row is that of the content as it was read, so whoever has the content can tell whether it is still the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leptonami.catalog import load as load_catalog
from leptonami.errors import InputError
from leptonami.proof import excerpt
from leptonami.readers.autoscaler.digest import Digest
from leptonami.readers.autoscaler.scan import digest
from leptonami.readers.lines import batches
from leptonami.recordings import Recording, recordings
from leptonami.runs import parse_id
from leptonami.target import Provenance

if TYPE_CHECKING:
    from leptonami.decide.options import Options, Question

__all__ = ["FACTS", "LAUNCHES", "Evidence", "Item", "collect", "facts", "read_log", "weakest"]

FACTS = "facts"  # the kind of looked-up tables, which are no observation of any option
LAUNCHES = "launch-benchmark"
READ_FROM_RECORDINGS = ("autoscaler-log", "gpu-operator-listing", "device-plugin-log", LAUNCHES)
PROVENANCES: tuple[Provenance, ...] = ("measured", "recorded", "simulated")  # the strongest first
LARGEST = 64 << 20  # bytes of one piece of a run's evidence
MOST = 500  # pieces of one run
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a record says about a piece of evidence.

    Parameters
    ----------
    id
        `autoscaler/healthy/cluster-autoscaler.log.gz`, `<run>/image-contents`, or `facts/...`.
    kind
        What it is: `autoscaler-log`, `findings` and so on.
    provenance
        `measured`, `recorded` or `simulated`.
    source
        Where it comes from, in one line. Untrusted.
    sample
        How much it is, with its unit.
    collected_at
        The day, or the time in UTC.
    sha256
        Of its content; of a compressed file what it holds.
    file_sha256
        Of the file that stands on the disk, where that is another.
    versions
        Of what took part.
    option
        The option that it is about; None if a claim has to name it.
    limits
        What it cannot show, a sentence each.
    setting
        What was real in it and what was not, for a recording.
    """

    id: str
    kind: str
    provenance: Provenance
    source: str
    sample: str
    collected_at: str
    sha256: str
    file_sha256: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    option: str | None = None
    limits: tuple[str, ...] = ()
    setting: str = ""

    @property
    def label(self) -> str:
        """Its provenance, and for a recording what was real in it."""
        return f"{self.provenance} ({self.setting})" if self.setting else self.provenance

    @property
    def day(self) -> date:
        """The day on which it was collected."""
        return date.fromisoformat(self.collected_at[:10])

    @property
    def observed(self) -> bool:
        """Whether somebody saw it happen: facts that were looked up are no observation."""
        return self.kind != FACTS


@dataclass(frozen=True, slots=True)
class Item:
    """A piece of evidence with its content: the raw input, and what was made of it (a run's payload)."""

    about: Evidence
    group: str
    raw: bytes = field(repr=False)
    payload: Any = field(default=None, repr=False)


def weakest(provenances: Iterable[str]) -> Provenance | None:
    """Give the weakest of some provenances: what rests on one simulated number is simulated."""
    found = set(provenances)
    return next((each for each in reversed(PROVENANCES) if each in found), None)


def collect(
    options: Options,
    question: Question,
    *,
    runs: Path | None = None,
    run_ids: Iterable[str] = (),
    observed: str = "",
) -> tuple[tuple[Item, ...], list[str]]:
    """Gather all evidence: every recording, and what the named runs have kept.

    Parameters
    ----------
    options, question
        To tell which option a run's evidence is about.
    runs
        The folder of runs.
    run_ids
        The runs whose evidence is wanted.
    observed
        The option that a cluster of these runs had, for evidence that does not name one itself.

    Returns
    -------
    tuple
        The evidence, and what is wrong with some of it, a sentence each: a digest that does not match, a file that
        cannot be read. Such a piece is left out.
    """
    items: list[Item] = []
    problems: list[str] = []
    for recording in recordings():
        try:
            items += of_recording(recording)
        except InputError as error:
            problems.append(f"recording {recording.id}: {error}")
    for run_id in dict.fromkeys(run_ids):
        parse_id(run_id)
        if runs is None or not (runs / run_id).is_dir():
            problems.append(f"run {run_id}: its folder is missing")
            continue
        found, wrong = of_run(runs / run_id, options, question, observed)
        items += found
        problems += wrong
    return tuple(items), problems


def of_recording(recording: Recording) -> list[Item]:
    """Read the files of a recording that checks can judge; their digests are checked on the way.

    Raises
    ------
    InputError
        If one is missing or altered.
    """
    items = []
    for each in recording.files:
        if each.kind not in READ_FROM_RECORDINGS:
            continue
        raw = each.read()
        row = Evidence(
            id=f"{recording.id}/{each.name}",
            kind=each.kind,
            provenance=recording.provenance,
            source=f"{recording.title}. {recording.how.partition('. ')[0].rstrip('.')}.",
            sample=sample_of(each.kind, raw, None, recording.recorded.year),
            collected_at=recording.recorded.isoformat(),
            sha256=each.unpacked_sha256,
            file_sha256=each.sha256 if each.sha256 != each.unpacked_sha256 else None,
            versions=dict(recording.versions),
            limits=recording.cannot_show,
            setting=setting_of(recording),
        )
        items.append(Item(row, recording.id, raw))
    return items


def setting_of(recording: Recording) -> str:
    """Say in a few words what was real in a recording; its `how` has the rest."""
    if any(each.kind == LAUNCHES for each in recording.files):
        return "real launches"
    if "emulated" not in recording.how:
        return "a real cluster"
    return f"real cluster-autoscaler {recording.versions.get('cluster-autoscaler', '')}, emulated nodes"


def of_run(folder: Path, options: Options, question: Question, observed: str = "") -> tuple[list[Item], list[str]]:
    """Read the evidence that a run has kept (`runs.Run.write_evidence`)."""
    items: list[Item] = []
    problems: list[str] = []
    about = Known({each.id for each in options.options}, observed, *built_option(folder, options, question))
    paths = sorted((folder / "evidence").glob("*.json"))
    if len(paths) > MOST:
        problems.append(f"run {folder.name}: {len(paths)} pieces of evidence; the first {MOST} were read")
    for path in paths[:MOST]:
        try:
            items.append(of_file(path, folder.name, about))
        except (OSError, ValueError, KeyError, TypeError, RecursionError, InputError) as error:
            problems.append(f"run {folder.name}, evidence/{excerpt(path.name, 80)}: {excerpt(str(error), 200)}")
    return items, problems


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the options that a run's evidence is about: all ids, what its cluster had, and what it built."""

    options: set[str]
    observed: str
    built: str | None
    versions: dict[str, str]

    def about(self, kind: str, payload: Mapping[str, Any]) -> tuple[str | None, dict[str, str]]:
        """Tell which option a piece is about, and of which versions.

        What was made of a recording is about none: the recording itself counts, and it would count twice.
        """
        told = payload.get("versions")
        versions = told if isinstance(told, Mapping) else {}
        stated = {excerpt(str(k), 40): excerpt(str(v), 80) for k, v in versions.items() if isinstance(v, str | int)}
        named = payload.get("option")
        if named is not None:
            return (str(named) if str(named) in self.options else None), stated
        if kind == "findings":
            return self.built, {**stated, **self.versions}
        if payload.get("recording") or "recordings" in payload:
            return None, stated
        return self.observed or None, stated


def of_file(path: Path, run_id: str, known: Known) -> Item:
    """Read one piece of a run's evidence and check its digest; its text may be anything."""
    content = bounded(path)
    document = json.loads(content)
    kind, provenance, source, collected = (
        str(document[key]) for key in ("kind", "provenance", "source", "collected_at")
    )
    if provenance not in PROVENANCES:
        raise InputError(f"no such provenance: {excerpt(provenance, 40)!r}")
    moment = datetime.fromisoformat(collected)
    # Without a zone it is UTC wherever it is read: a record may not depend on the reader's zone.
    moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    stated, raw = document["sha256"], content
    if stated is not None:
        raw = bounded(path.parent / "raw" / f"{path.stem}.txt")
        if SHA256.fullmatch(str(stated)) is None or hashlib.sha256(raw).hexdigest() != stated:
            raise InputError("its raw input is not what it was: the digest differs")
    payload = document["payload"]
    option, versions = known.about(kind, payload if isinstance(payload, Mapping) else {})
    row = Evidence(
        id=f"{run_id}/{excerpt(path.stem, 80)}",
        kind=excerpt(kind, 40),
        provenance=provenance,
        source=excerpt(source, 200),
        sample=sample_of(kind, raw, payload, moment.year),
        collected_at=f"{moment:%Y-%m-%dT%H:%M:%SZ}",
        sha256=hashlib.sha256(raw).hexdigest(),
        file_sha256=hashlib.sha256(content).hexdigest(),
        versions=versions,
        option=option,
    )
    return Item(row, run_id, raw, payload)


def bounded(path: Path) -> bytes:
    """Read a file that may not be larger than we allow.

    Raises
    ------
    InputError
        If it is.
    """
    with path.open("rb") as stream:
        content = stream.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise InputError(f"{path.name} is larger than {LARGEST >> 20} MiB")
    return content


def built_option(folder: Path, options: Options, question: Question) -> tuple[str | None, dict[str, str]]:
    """Tell from a build's manifest which option it built, and of which versions."""
    try:
        plan = json.loads(bounded(folder / "manifest.json"))["plan"]["parameters"]
        family, versions = str(plan["family"]), {key: str(plan[key]) for key in ("os", "kubernetes")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError, InputError):
        return None, {}
    for each in options.options:
        if each.built_by_leptonami and each.family == family and each.id in question.options:
            return each.id, versions
    return None, versions


def sample_of(kind: str, raw: bytes, payload: Any, year: int) -> str:
    """Say how much a piece of evidence is: the number of what was looked at."""
    if kind == LAUNCHES:
        trials = raw.count(b'"outcome": ')
        return f"{trials} trials" if trials else "1 document"
    if kind == "autoscaler-log":
        read = read_log(raw, "log", year)
        return f"{len(read.tracks)} nodes, {read.lines:,} lines"
    findings = payload.get("findings") if isinstance(payload, Mapping) else None
    if isinstance(findings, list):
        return f"1 machine, {len(findings)} findings"
    if payload is not None:
        return "1 document"
    if kind == "gpu-operator-listing":
        return f"{sum(line.startswith(b'pod/') for line in raw.splitlines())} pods"
    return f"{len(raw.splitlines())} lines"


@lru_cache(maxsize=32)
def read_log(raw: bytes, source: str, year: int) -> Digest:
    """Read an autoscaler's log; the same log is read once, however many claims it bears on."""
    return digest(batches([raw]), source=source, year=year, zone=UTC)


def facts(id: str, source: str, read: date, content: Mapping[str, Any]) -> Item:
    """Make evidence of facts that were looked up: the part of a table that a check has used, and nothing else of it.

    Parameters
    ----------
    id
        What it is about, such as `catalog/ubuntu-eks-20.04`.
    source
        Where they were looked up.
    read
        On which day.
    content
        The facts; their canonical JSON is what the digest is of.
    """
    raw = json.dumps(content, sort_keys=True, ensure_ascii=False, default=str).encode()
    row = Evidence(
        id=f"{FACTS}/{id}",
        kind=FACTS,
        provenance="recorded",
        source=source,
        sample=f"{len(content)} facts",
        collected_at=read.isoformat(),
        sha256=hashlib.sha256(raw).hexdigest(),
    )
    return Item(row, FACTS, raw, dict(content))


def catalog_facts(family: str, system: str, kubernetes: str) -> Item:
    """Give what the catalog says about one release, as evidence.

    Raises
    ------
    InputError
        If the catalog has no such family or system: a record that was altered, or one of a catalog that is gone.
    """
    catalog = load_catalog()
    if family not in catalog.families or system not in catalog.families[family].systems:
        raise InputError(
            f"the catalog has no {excerpt(family, 40)} {excerpt(system, 40)}", resource="data/catalog.yaml"
        )
    known = catalog.families[family]
    of_system = known.systems[system]
    dates = catalog.kubernetes.get(kubernetes)
    _, read = catalog.sources["families"]
    versions = catalog.kubernetes_of(family, system, "amd64")
    content = {
        "family": family,
        "os": system,
        "kubernetes": kubernetes,
        "published_for": list(versions),
        "os_ends": of_system.ends,
        "frozen": known.frozen,
        "frozen_why": known.frozen_why,
        "kubernetes_extended_until": dates.extended_until if dates else None,
    }
    return facts(
        f"catalog/{family}-{system}-k8s-{kubernetes}", "data/catalog.yaml, which names its sources", read, content
    )
