"""The checks: each looks at evidence and says, with its proof, whether that speaks for what a claim expects or not.

A check knows nothing of pros and cons, nor of scores. It is pure: the evidence, the question and the day are given.
What it cannot tell is neither for nor against.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from leptonami.decide.bearing import Bearing, Direction
from leptonami.decide.evidence import Evidence, Item, catalog_facts, facts, read_log
from leptonami.decide.launches import launches
from leptonami.errors import InputError
from leptonami.proof import Proof, excerpt
from leptonami.readers.mustgather import read_evidence
from leptonami.verdicts import scaledown_log
from leptonami.verdicts.driverimage import ID_LABEL, VERSION_LABEL, images_file, predict_driver_image
from leptonami.verdicts.gpustack import judge_stack
from leptonami.verdicts.operands import Health
from leptonami.verdicts.scaledown import Branch, NodeVerdict, State

if TYPE_CHECKING:
    from leptonami.decide.options import CheckUse, Option, Question

__all__ = ["CHECKS", "Bearing", "Check", "Context", "Direction", "confirmations", "version_key"]

NAMES_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Context:
    """What a check is given.

    Parameters
    ----------
    option, question
        What is judged.
    day
        As of when.
    items
        All evidence; `Context.of` picks what is about the option.
    """

    option: Option
    question: Question
    day: date
    items: Sequence[Item]

    @property
    def system(self) -> str:
        """The version of the option's operating system that the question is about."""
        return self.question.systems[self.option.family]

    def of(self, use: CheckUse, *kinds: str) -> list[Item]:
        """Pick evidence of some kinds: the recordings that the claim names, and runs that are about the option."""
        return [
            each
            for each in self.items
            if each.about.kind in kinds
            and (each.group in use.evidence if each.about.option is None else each.about.option == self.option.id)
        ]

    def other_version(self, item: Item) -> str | None:
        """Say that evidence of a run is about another version than the question; None if it is not, or does not say."""
        if item.about.option is None:
            return None
        asked = {"os": self.system, **self.question.versions}
        for name in ("os", "kubernetes"):
            told = item.about.versions.get(name)
            if told is not None and not same_version(told, asked[name]):
                return f"it is about {name} {excerpt(told, 40)}, and the question about {asked[name]}"
        return None


@dataclass(frozen=True, slots=True)
class Check:
    """A check: what it looks at, what a claim may expect of it, how a reader looks for himself, and the function.

    In `confirm`, {evidence} is a recording's folder, and {family}, {driver} and {image} (the suffix of the driver's
    image, such as amzn2) are what is judged. `lacking` is said where there is no evidence.
    """

    about: str
    expects: tuple[str, ...]
    confirm: str
    run: Callable[[CheckUse, Context], Iterator[Bearing]]
    lacking: str = "there is a check, and no evidence for it"


def version_key(text: str) -> tuple[int, ...]:
    """Give the numbers of a version, to compare by.

    >>> version_key("1.9") < version_key("v1.10")
    True
    """
    parts = text.removeprefix("v").split(".")
    return tuple(int(each) if each.isascii() and each.isdigit() else 0 for each in parts)


def same_version(told: str, asked: str) -> bool:
    """Tell whether a version is the one that is asked about, or a release of it.

    >>> same_version("v1.35.2-eks-3abbec1", "1.35"), same_version("1.3", "1.35"), same_version("24.04.2", "24.04")
    (True, False, True)
    """
    return re.fullmatch(rf"v?{re.escape(asked)}(?:[.+-].*)?", told) is not None


# --- the autoscaler ---------------------------------------------------------------------------------------------------


def scale_down(use: CheckUse, context: Context) -> Iterator[Bearing]:
    """See in an autoscaler's log whether it removed GPU nodes, kept them, or removed them late.

    `removed` and `kept` contradict each other; `late` asks whether nodes that went had not been decided about for a
    while, because their GPUs were not ready. Nodes that are kept because somebody wants it (the group's minimum, pods
    that use them) say nothing.
    """
    for item in context.of(use, "autoscaler-log", "scale-down-verdicts"):
        if (other := context.other_version(item)) is not None:
            yield Bearing(item.about, Direction.NEITHER, other, stale=True)
            continue
        verdicts = [each for each in verdicts_of(item) if not wanted(each)]
        gone = [each for each in verdicts if each.state is State.REMOVED]
        kept = [each for each in verdicts if each.wrong and each.state is State.BLOCKED]
        if use.branch is not None:
            kept = [each for each in kept if use.branch in (each.branch, *each.also)]
        late = [each for each in gone if Branch.GPU_NOT_READY in each.also]
        yield from pointing(use.expect, item.about, gone, kept, late)


def verdicts_of(item: Item) -> list[NodeVerdict]:
    """Judge the nodes of a log, or read the verdicts that an explanation has kept of a log or a cluster."""
    if item.about.kind == "autoscaler-log":
        return scaledown_log.judge(read_log(item.raw, item.about.id, item.about.day.year))
    nodes = item.payload.get("nodes") if isinstance(item.payload, Mapping) else None
    found = (kept_verdict(each) for each in nodes if isinstance(each, Mapping)) if isinstance(nodes, list) else ()
    return [each for each in found if each is not None]


def kept_verdict(kept: Mapping[str, object]) -> NodeVerdict | None:
    """Read a verdict that was kept; None if it is none, or has no proof."""
    proofs, notes, also = (
        [*each] if isinstance(each := kept.get(key), list) else [] for key in ("proofs", "notes", "also")
    )
    shown = [
        Proof.of(*(str(each.get(key, "")) for key in ("source", "place", "text")))
        for each in proofs
        if isinstance(each, Mapping)
    ]
    try:
        state, branch = State(str(kept.get("state"))), kept.get("branch")
        return (
            NodeVerdict(
                str(kept.get("node")),
                state,
                Branch(str(branch)) if branch is not None else None,
                proofs=tuple(shown),
                notes=tuple(map(str, notes)),
                also=tuple(Branch(str(each)) for each in also),
            )
            if shown
            else None
        )
    except ValueError:
        return None


def wanted(verdict: NodeVerdict) -> bool:
    """Tell whether a node is kept for a reason that somebody wants, or is none of our business."""
    if Branch.MIN_SIZE in (verdict.branch, *verdict.also):
        return True
    return verdict.state not in {State.REMOVED, State.BLOCKED, State.WILL_BE_REMOVED}


def pointing(
    expect: str,
    about: Evidence,
    gone: Sequence[NodeVerdict],
    kept: Sequence[NodeVerdict],
    late: Sequence[NodeVerdict],
) -> Iterator[Bearing]:
    """Say where the nodes of one log point. Some may have gone and others been kept: then it points both ways."""
    if not gone and not kept:
        yield Bearing(about, Direction.NEITHER, "no node in it that could be removed was judged to the end")
        return
    if expect == "late":
        if late:
            first = next((note for note in late[0].notes if "nothing was decided" in note), "")
            yield Bearing(about, Direction.FOR, f"{names(late)} went late: {first}", late[0].proofs[0])
        elif gone:
            yield Bearing(about, Direction.AGAINST, f"{names(gone)} went without delay", gone[0].proofs[0])
        else:
            yield Bearing(about, Direction.NEITHER, f"{names(kept)} did not go at all", kept[0].proofs[0])
        return
    if gone:
        how = "late, not never: for a while nothing was decided, since the GPU was not ready" if late else "removed"
        toward = Direction.FOR if expect == "removed" else Direction.AGAINST
        yield Bearing(about, toward, f"{names(gone)}: {how}", gone[0].proofs[0])
    if kept:
        why = f"kept to the end of the log by {kept[0].branch}"
        toward = Direction.AGAINST if expect == "removed" else Direction.FOR
        yield Bearing(about, toward, f"{names(kept)}: {why}", kept[0].proofs[0])


def names(verdicts: Sequence[NodeVerdict]) -> str:
    """Count nodes and name a few. Names are untrusted text."""
    shown = ", ".join(excerpt(each.node, 60) for each in verdicts[:NAMES_SHOWN])
    more = ", …" if len(verdicts) > NAMES_SHOWN else ""
    return f"{len(verdicts)} node{'s' if len(verdicts) > 1 else ''} ({shown}{more})"


# --- the GPU operator -------------------------------------------------------------------------------------------------


def gpu_stack(use: CheckUse, context: Context) -> Iterator[Bearing]:
    """See in listings, objects and logs whether the GPU operator's operands all came up."""
    for item in context.of(use, "gpu-stack-verdict"):
        yield kept_stack(item, use, context)
    groups: dict[str, list[Item]] = {}
    for item in context.of(use, "gpu-operator-listing", "device-plugin-log"):
        groups.setdefault(item.group, []).append(item)
    for items in groups.values():
        first = items[0].about
        if (other := context.other_version(items[0])) is not None:
            yield Bearing(first, Direction.NEITHER, other, stale=True)
            continue
        try:
            verdict = judge_stack(read_evidence({each.about.id: each.raw for each in items}))
        except InputError as error:
            yield Bearing(first, Direction.NEITHER, f"it cannot be read: {error.message}")
            continue
        toward = toward_health(use.expect, verdict.state)
        proofs = [each.proof for each in verdict.operands if each.proof and each.health is verdict.state]
        completed = [each for each in proofs if "validator" in each.text]
        proof = next(iter(completed or proofs), None)
        for each in items:
            yield Bearing(each.about, toward, verdict.headline, own_proof(each, proof))


def toward_health(expect: str, state: str) -> Direction:
    """Say where the state of a stack points."""
    if state not in {Health.OK.value, Health.BROKEN.value}:
        return Direction.NEITHER
    return Direction.FOR if (state == Health.OK.value) is (expect == "healthy") else Direction.AGAINST


def kept_stack(item: Item, use: CheckUse, context: Context) -> Bearing:
    """Read the verdict on a stack that an explanation has kept."""
    payload = item.payload if isinstance(item.payload, Mapping) else {}
    headline = excerpt(str(payload.get("headline") or "it has no headline"))
    if (other := context.other_version(item)) is not None:
        return Bearing(item.about, Direction.NEITHER, other, stale=True)
    toward = toward_health(use.expect, str(payload.get("state")))
    return Bearing(item.about, toward, headline, Proof.of(item.about.id, "headline", headline))


def own_proof(item: Item, proof: Proof | None) -> Proof | None:
    """Give a proof if it is of this piece of evidence; else the last line of it that says something."""
    if proof is not None and proof.source == item.about.id:
        return proof
    lines = item.raw.decode("utf-8", "replace").splitlines()
    last = next((n for n in range(len(lines), 0, -1) if lines[n - 1].strip()), 0)
    return Proof.of(item.about.id, f"line {last}", lines[last - 1]) if last else None


def os_id(family: str) -> str | None:
    """Give the ID that a family's os-release has, by which the operator names images."""
    starts = {"al2": "amzn", "ubuntu": "ubuntu", "bottlerocket": "bottlerocket"}
    return next((id for start, id in starts.items() if family.startswith(start)), None)


def driver_image(use: CheckUse, context: Context) -> Iterator[Bearing]:
    """Predict the driver image that the operator asks for on the option's OS, and whether it exists.

    `published` and `missing` ask for the image; `suffixed` asks whether the OS is added to the tag at all.
    """
    family = os_id(context.option.family)
    table = images_file()
    known = next((each for each in table.families if each.id == family), None)
    if family is None or known is None:
        return
    labels = {ID_LABEL: family, VERSION_LABEL: context.system}
    version = use.version or context.question.versions.get("driver", "")
    found = predict_driver_image(
        labels,
        "nvcr.io/nvidia",
        "driver",
        version,
        operator=context.question.versions.get("gpu-operator"),
    )
    item = facts(
        f"driver-images/{family}",
        f"data/driver-images.yaml: {table.source}",
        date.fromisoformat(str(table.as_of)),
        known.model_dump(mode="json"),
    )
    proof = Proof.of(item.about.id, f"the image for {found.os}", found.image)
    if use.expect == "suffixed":
        toward = Direction.FOR if found.image.endswith(found.os) else Direction.AGAINST
    elif found.published is None:
        toward = Direction.NEITHER
    else:
        toward = Direction.FOR if found.published is (use.expect == "published") else Direction.AGAINST
    yield Bearing(item.about, toward, found.why, proof)


# --- the image, and its life ------------------------------------------------------------------------------------------


def image_claims(use: CheckUse, context: Context) -> Iterator[Bearing]:
    """See in a build's evidence whether what the plan claims of the image was found on the builder."""
    for item in context.of(use, "findings"):
        if (other := context.other_version(item)) is not None:
            yield Bearing(item.about, Direction.NEITHER, other, stale=True)
            continue
        found = [each for each in findings_of(item) if str(each["claim"]).startswith(tuple(use.claims))]
        wrong = [each for each in found if each["ok"] is not True]
        if not found:
            yield Bearing(item.about, Direction.NEITHER, f"no finding about {', '.join(use.claims)}")
            continue
        shown = wrong[0] if wrong else found[0]
        text = f"{len(wrong)} of {len(found)} findings do not hold" if wrong else f"all {len(found)} findings hold"
        proof = Proof.of(item.about.id, f"finding {shown['claim']}", f"{shown['statement']}: {shown['observed']}")
        yield Bearing(item.about, Direction.AGAINST if wrong else Direction.FOR, text, proof)


def findings_of(item: Item) -> Iterator[Mapping[str, object]]:
    """Give the findings in a payload that have the form of one; what a file says may be anything."""
    payload = item.payload if isinstance(item.payload, Mapping) else {}
    findings = payload.get("findings")
    for each in findings if isinstance(findings, list) else ():
        if isinstance(each, Mapping) and {"claim", "ok", "statement", "observed"} <= set(each):
            yield each


def end_of_life(use: CheckUse, context: Context) -> Iterator[Bearing]:
    """Compute from the catalog whether an OS is still published for the Kubernetes version, and still repaired."""
    item = catalog_facts(context.option.family, context.system, context.question.kubernetes)
    known = json.loads(item.raw)
    name = f"{context.option.family} {context.system}"
    ended = []
    if known["kubernetes"] not in known["published_for"]:
        last = known["published_for"][-1]
        ended.append(f"{name} is not published for Kubernetes {known['kubernetes']}; the last is {last}")
    if known["frozen"] and date.fromisoformat(known["frozen"]) <= context.day:
        ended.append(f"{name} is frozen since {known['frozen']}")
    if known["os_ends"] and date.fromisoformat(known["os_ends"]) < context.day:
        ended.append(f"its OS ended on {known['os_ends']}")
    until = f"repaired until {known['os_ends']}" if known["os_ends"] else "no end of it is announced"
    text = "; ".join(ended) or f"{name} is published for Kubernetes {known['kubernetes']}, and {until}"
    toward = Direction.FOR if bool(ended) is (use.expect == "ended") else Direction.AGAINST
    stated = ", ".join(f"{key} {known[key]}" for key in ("os_ends", "frozen") if known[key]) or "no end"
    yield Bearing(item.about, toward, f"as of {context.day}: {text}", Proof.of(item.about.id, name, stated))


CHECKS: dict[str, Check] = {
    "scale-down": Check(
        "the autoscaler's log: which GPU nodes went",
        ("removed", "kept", "late"),
        "leptonami explain autoscaler {evidence}",
        scale_down,
    ),
    "gpu-stack": Check(
        "the GPU operator's operands: whether all came up",
        ("healthy", "broken"),
        "leptonami explain gpu-operator {evidence}",
        gpu_stack,
    ),
    "driver-image": Check(
        "the driver image that the operator will ask for",
        ("published", "missing", "suffixed"),
        "leptonami explain gpu-operator --os {image} --driver-version {driver}",
        driver_image,
    ),
    "image-claims": Check(
        "what was verified on the builder", ("hold",), "leptonami run 10_build_ami -p plan=PLAN", image_claims
    ),
    "launch-benchmark": Check(
        "measured launches: which of two kinds of nodes is up sooner",
        ("sooner", "later"),
        "leptonami bench show {evidence}",
        launches,
        "no launch has been measured yet",
    ),
    "end-of-life": Check(
        "the catalog's dates",
        ("alive", "ended"),
        "leptonami catalog list --family {family}",
        end_of_life,
    ),
}


def confirmations(use: CheckUse, option: Option, question: Question) -> Iterator[str]:
    """Give the commands with which a reader looks at what a check has looked at."""
    check = CHECKS.get(use.name)
    system = question.systems[option.family]
    words = {
        "family": option.family,
        "driver": use.version or question.versions.get("driver", "VERSION"),
        "image": f"{os_id(option.family) or ''}{system}",
    }
    places = [f"data/recorded/{each}" for each in use.evidence] or ["PATH"]
    for place in places:
        if check is not None and not words["driver"].startswith("sha256:"):
            yield check.confirm.format_map({**words, "evidence": place})
