"""What the notebooks 40 and 50 call: evidence in by parameter, tables out. Every number is worked out from evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from leptonami import recordings
from leptonami.errors import InputError
from leptonami.explain import gpuoperator
from leptonami.explain.autoscaler import Explanation, explain, explain_recording, message_of, verdict_words, when
from leptonami.explain.given import Given
from leptonami.explain.gpuoperator import Driver, StackExplanation
from leptonami.explain.known import provenance_words
from leptonami.explain.timeline import Row, timeline
from leptonami.proof import Proof, excerpt
from leptonami.readers.autoscaler.track import Phase
from leptonami.readers.gotime import parse_time
from leptonami.readers.gpuoperands import Link
from leptonami.recordings import Recording
from leptonami.tables import Table, facts
from leptonami.verdicts import autoscaler_report as report
from leptonami.verdicts.driverimage import predict_driver_image
from leptonami.verdicts.scaledown import BRANCHES, Branch, NodeVerdict, State
from leptonami.verdicts.scaledown_log import short

__all__ = [
    "all_autoscalers",
    "all_stacks",
    "autoscaler",
    "branches_table",
    "compared_proofs_table",
    "compared_table",
    "contradictions_table",
    "evidence_table",
    "gpu_stack",
    "images_table",
    "issues_table",
    "limits_table",
    "nodes_table",
    "plugins_table",
    "proofs_table",
    "stack_evidence_table",
    "stack_table",
    "stacks_table",
    "story_table",
]

SHOWN = 40  # rows
JUDGED = "it was judged by its"  # how `scaledown_log` notes that a node was no GPU node to the autoscaler
GPU_NODES = "gpu-"  # how the recordings name the nodes of their GPU group
# What was done to the GPU stack in each recording (data/recorded/README.md). That a node of Amazon Linux 2 comes to
# these states was read in sources and issues (docs/gpu-operator.md); the recordings set them.
STACKS = {
    "original": "works, on Ubuntu (the original cluster)",
    "autoscaler/healthy": "works: GPUs allocatable, validator pods Completed",
    "autoscaler/broken-toolkit": "toolkit broken: validator pods stay Pending",
    "autoscaler/broken-driver": "no driver, accelerator label set",
    "autoscaler/broken-nolabel": "no driver, no accelerator label",
    "autoscaler/broken-fleet": "no driver on most nodes of the cluster",
}


# --- evidence by parameter --------------------------------------------------------------------------------------------


def autoscaler(recording: str, *, path: str = "", context: str = "") -> Explanation:
    """Explain an autoscaler: of a live cluster if `context` is set, of files if `path` is, else of a recording."""
    one(path, context)
    if context:
        from leptonami.explain import live
        from leptonami.kube import connect

        with connect(context) as cluster:
            return live.autoscaler(cluster, Given(now=datetime.now(UTC)))
    return explain(path) if path else explain_recording(recording)


def gpu_stack(recording: str, *, path: str = "", context: str = "") -> StackExplanation:
    """Explain a GPU stack: of a live cluster if `context` is set, of files if `path` is, else of a recording."""
    one(path, context)
    if context:
        from leptonami.explain import live
        from leptonami.kube import connect

        with connect(context) as cluster:
            return live.gpu_operator(cluster, now=datetime.now(UTC))
    return gpuoperator.explain(path) if path else of_recording(recording)


def one(path: str, context: str) -> None:
    """Refuse a file and a cluster at once."""
    if path and context:
        raise InputError("a file and a cluster at once", resource="path, context", hint="set one of them")


def of_recording(id: str) -> StackExplanation:
    """Explain the GPU stack of a recording, checked against its digests."""
    from dataclasses import replace

    chosen = recordings.get(id)
    chosen.verify()
    return replace(gpuoperator.explain(str(chosen.files[0].path.parent)), name=id)


def all_autoscalers() -> dict[str, Explanation]:
    """Explain every recording that has a log of an autoscaler, in the order in which they are told."""
    return {id: explain_recording(id) for id in STACKS}


def all_stacks() -> dict[str, StackExplanation]:
    """Explain the GPU stack of every recording that has objects or a listing of one."""
    return {id: of_recording(id) for id in STACKS}


# --- the autoscaler ---------------------------------------------------------------------------------------------------


def evidence_table(found: Explanation) -> Table:
    """Show what was read and what is known about it."""
    rows: list[tuple[str, object]] = [("source", found.name), ("provenance", found.provenance)]
    if found.recording is not None:
        rows.append(("recorded", f"{found.recording.recorded}: {found.recording.title}"))
    log = found.log
    if log is not None:
        begin, end = log.when(log.first), log.when(log.last)
        span = f" over {short(end - begin)}" if begin is not None and end is not None else ""
        rows += [("autoscaler", log.version), ("log", f"{log.lines:,} lines, {log.loops:,} loops{span}")]
        rows.append(("year", f"known by: {log.year_known}"))
    if found.state is not None:
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(found.state.objects.kinds.items()))
        rows.append(("objects", kinds or "none"))
    rows += [("not read", each) for each in (*found.left_out, *found.problems)][:10]
    return facts(
        [(key, strip(value, found)) for key, value in rows],
        caption="The evidence",
        columns=("what", "this evidence"),
        provenance=found.provenance,
    )


def strip(value: object, found: Explanation) -> str:
    """Take the folder of the package's own recordings off: it is another on every machine."""
    text = str(value)
    if found.recording is not None:
        text = text.replace(f"{found.recording.files[0].path.parent}/", "")
    return text


def story_table(found: Explanation | StackExplanation) -> Table:
    """Show the story, a sentence a row."""
    told = [*found.story(), provenance_words(found.provenance, found.recording)]
    return Table.of(
        ["#", "what happened"], list(enumerate(told, start=1)), caption="The story", provenance=found.provenance
    )


def nodes_table(found: Explanation) -> Table:
    """Show what becomes of each node, and the decisive proof."""
    rows = [
        (excerpt(each.node, 80), verdict_words(each), when(each), ": ".join(filter(None, line_of(each))))
        for each in found.verdicts
    ]
    return Table.of(
        ["node", "verdict", "when", "proof"],
        rows[:SHOWN],
        caption=f"What becomes of each node{rest(len(rows))}",
        provenance=found.provenance,
    )


def rest(number: int) -> str:
    """Say that there are more rows."""
    return f" (the first {SHOWN} of {number:,})" if number > SHOWN else ""


def shown(proofs: Iterable[Proof]) -> str:
    """Write proofs shortly: the file without its folder."""
    return "; ".join(f"{Path(each.source).name}, {each.place}: {each.text}" for each in proofs)


def proofs_table(found: Explanation) -> Table:
    """Show everything that proves the verdict about the first node that is wrong, or else about the first one."""
    if not found.verdicts:
        return Table.of(["what", "where", "text"], [], caption="No node", provenance=found.provenance)
    chosen = next((each for each in found.verdicts if each.wrong), found.verdicts[0])
    rows: list[tuple[str, str, str]] = [
        ("proof", f"{Path(each.source).name}, {each.place}", each.text) for each in chosen.proofs
    ]
    rows += [("note", "", note) for note in chosen.notes]
    rows += [("also met", "", f"{each} (branch {BRANCHES[each].number})") for each in chosen.also]
    return Table.of(
        ["what", "where", "text"],
        rows,
        caption=f"Node {excerpt(chosen.node, 80)}: {verdict_words(chosen)}",
        provenance=found.provenance,
    )


def gpu_verdicts(found: Explanation) -> list[NodeVerdict]:
    """Give the verdicts about the GPU nodes of a recording; of the original, those about the node that was removed."""
    gpu = [each for each in found.verdicts if each.node.startswith(GPU_NODES)]
    return gpu or [each for each in found.verdicts if each.state is State.REMOVED]


def compared_table(everything: Mapping[str, Explanation]) -> Table:
    """Show each recording in a row: the GPU stack, what became of the GPU nodes, and the branch."""
    rows = []
    for id, found in everything.items():
        verdicts = gpu_verdicts(found)
        first = verdicts[0]
        branch = f"{first.branch} ({BRANCHES[first.branch].number})" if first.branch else "none"
        also = ", ".join(f"{each} ({BRANCHES[each].number})" for each in first.also)
        rows.append(
            (
                bare(id),
                STACKS[id],
                f"{len(verdicts)} {first.state}",
                branch + (f"; on the way {also}" if also and first.state is State.REMOVED else ""),
                not_ready_for(found),
                unneeded_for(found),
            )
        )
    return Table.of(
        ["recording", "GPU stack", "GPU nodes", "branch", "GPU not ready", "unneeded until gone"],
        rows,
        caption="What became of the GPU nodes in each recording (timers divided by five, except in the original)",
        provenance="recorded",
    )


def compared_proofs_table(everything: Mapping[str, Explanation]) -> Table:
    """Show the line that decides about the first GPU node of each recording."""
    rows = []
    for id, found in everything.items():
        each = gpu_verdicts(found)[0]
        rows.append((bare(id), each.node, *line_of(each)))
    return Table.of(
        ["recording", "node", "where", "what stands there"],
        rows,
        caption="The decisive line for the first GPU node of each recording",
        provenance="recorded",
    )


def bare(id: str) -> str:
    """Give a recording's name without its folder."""
    return id.rpartition("/")[2]


def line_of(verdict: NodeVerdict) -> tuple[str, str]:
    """Give the place of the decisive proof, and its message without klog's header."""
    if not verdict.proofs:
        return "", "; ".join(verdict.notes[:1])
    first = verdict.proofs[0]
    place = first.place if first.place.startswith("line ") else f"{Path(first.source).name}, {first.place}"
    return place, message_of(first.text)


def rows_of(found: Explanation) -> list[Row]:
    """Give the timeline's rows of the GPU nodes."""
    names = {each.node for each in gpu_verdicts(found)}
    return [each for each in timeline(found.log).single if each.nodes[0] in names] if found.log is not None else []


def not_ready_for(found: Explanation) -> str:
    """Say for how long the GPU of a node was not ready, at most."""
    longest = max(
        (sum(bar.end - bar.begin for bar in row.bars if bar.phase is Phase.GPU_NOT_READY) for row in rows_of(found)),
        default=0.0,
    )
    return f"{longest / 60:.0f} min" if longest else "no line says so"


def unneeded_for(found: Explanation) -> str:
    """Say for how long the nodes had been unneeded when their removal began, by the autoscaler's own clock."""
    waits = []
    for each in gpu_verdicts(found):
        track = found.log.tracks.get(each.node.encode()) if found.log is not None else None
        since = parse_time(track.since) if track is not None and track.since else None
        if each.at is None or since is None:
            return "not gone"
        waits.append((each.at - since).total_seconds())
    return f"{max(waits) / 60:.1f} min" if waits else ""


def branches_table(everything: Mapping[str, Explanation]) -> Table:
    """Show the branches of the decision tree, what each means, and which recording shows it."""
    rows = []
    for branch, about in BRANCHES.items():
        fired = [bare(id) for id, found in everything.items() if any(branch is each.branch for each in found.verdicts)]
        met = [bare(id) for id, found in everything.items() if bare(id) not in fired and was_met(found, branch)]
        if about.number < 7 or fired:
            told = [", ".join(fired)] if fired else []
            told += [f"on the way: {', '.join(met)}"] if met else []
            rows.append((about.number, str(branch), about.cause, "; ".join(told) or "no recording"))
    return Table.of(
        ["branch", "name", "why a node stays", "shown by"],
        rows,
        caption="The decision tree, and what these recordings show of it (of branch 7 only what they show)",
        provenance="recorded",
    )


def was_met(found: Explanation, branch: Branch) -> bool:
    """Tell whether a branch held for a while, or for a node that it did not keep in the end."""
    if branch is Branch.SCALE_UP_COOLDOWN and found.log is not None:
        return bool(found.log.cooldown and report.scale_ups(found.log))
    if branch is Branch.NO_ACCELERATOR_LABEL and found.log is not None and found.log.gpu_wanted is not None:
        judged = [note for each in gpu_verdicts(found) for note in each.notes if note.startswith(JUDGED)]
        return bool(judged)
    return any(branch in each.also for each in found.verdicts)


def contradictions_table(everything: Mapping[str, Explanation]) -> Table:
    """Show the recordings with a broken GPU stack whose GPU nodes were removed all the same."""
    rows = []
    for id, found in everything.items():
        if STACKS[id].startswith("works"):
            continue
        verdicts = gpu_verdicts(found)
        if verdicts and all(each.state is State.REMOVED for each in verdicts):
            rows.append((bare(id), STACKS[id], why_removed(found, verdicts), not_ready_for(found), unneeded_for(found)))
    return Table.of(
        ["recording", "GPU stack", "what happened", "GPU not ready", "unneeded until gone"],
        rows,
        caption="Where the simple story (broken, so never removed) does not hold",
        provenance="recorded",
    )


def why_removed(found: Explanation, verdicts: Iterable[NodeVerdict]) -> str:
    """Say why nodes went although their GPU stack was broken."""
    several = list(verdicts)
    if any(Branch.GPU_NOT_READY in each.also for each in several):
        return "late, not never: not started for 15 minutes, then unneeded, then removed by the timer for unready nodes"
    judged = next((note for each in several for note in each.notes if note.startswith(JUDGED)), "")
    ups = timeline(found.log).scale_ups if found.log is not None else ()
    grown = sum(number for _, group, number in ups if group.startswith(GPU_NODES))
    return f"removed: {judged or 'no GPU node to the autoscaler'}; but first the group grew by {grown} nodes"


def limits_table(everything: Iterable[Explanation | StackExplanation]) -> Table:
    """Show what this evidence cannot show, once each."""
    limits: dict[str, dict[str, None]] = {}
    for found in everything:
        each: Recording | None = found.recording
        if each is not None:
            for limit in each.cannot_show:
                limits.setdefault(limit, {})[bare(each.id)] = None
    rows = [(limit, f"all {len(ids)} of them" if len(ids) > 3 else ", ".join(ids)) for limit, ids in limits.items()]
    return Table.of(["it cannot show", "recordings"], rows, caption="What this evidence cannot show")


# --- the GPU stack ----------------------------------------------------------------------------------------------------


def stack_evidence_table(found: StackExplanation) -> Table:
    """Show what was read."""
    rows: list[tuple[str, object]] = [("source", found.name), ("provenance", found.provenance)]
    if found.recording is not None:
        rows.append(("recorded", f"{found.recording.recorded}: {found.recording.title}"))
    rows.append(("operator", found.verdict.version or "its version is not in the evidence"))
    rows.append(("read", ", ".join(name for name, _, _ in found.inputs[:12])))
    rows += [("cannot tell", each) for each in found.verdict.cannot_tell]
    rows += [("not read", each) for each in found.problems[:10]]
    return facts(rows, caption="The evidence", columns=("what", "this evidence"), provenance=found.provenance)


def stack_table(found: StackExplanation) -> Table:
    """Show each GPU node: how it stands, the first link that is not whole, why, and what to do."""
    rows = [
        (
            excerpt(each.node or "(not named)", 80),
            str(each.state),
            str(each.first.link) if each.first else "none",
            (each.first or each.link(Link.ALLOCATABLE)).why,
            each.first.remedy if each.first else "",
        )
        for each in found.verdict.nodes
    ]
    return Table.of(
        ["node", "state", "first link that is not whole", "why", "what to do"],
        rows[:SHOWN],
        caption=f"The chain of each GPU node: {', '.join(Link)}{rest(len(rows))}",
        provenance=found.provenance,
    )


def stacks_table(everything: Mapping[str, StackExplanation]) -> Table:
    """Show the verdict on the GPU stack of each recording."""
    rows = [(bare(id), STACKS[id], found.verdict.headline) for id, found in everything.items()]
    return Table.of(
        ["recording", "GPU stack", "verdict, by what was left at the end"],
        rows,
        caption="The GPU stack in each recording",
        provenance="recorded",
    )


def plugins_table(found: StackExplanation) -> Table:
    """Show what the device plugins' logs say."""
    rows = [
        (
            each.pod or "(not named)",
            str(each.state),
            ", ".join(each.resources),
            {True: "the host's", False: "a container's", None: "not told"}[each.driver_on_host],
            shown([each.proof]) if each.proof else "",
        )
        for each in found.plugins
    ]
    return Table.of(
        ["pod", "state", "registered", "driver", "proof"],
        rows,
        caption="What the device plugin's log says",
        provenance=found.provenance,
    )


def images_table(systems: Iterable[str], *, version: str, operator: str | None = None) -> Table:
    """Show which driver image the operator asks for on each OS, and whether there is one.

    Parameters
    ----------
    systems
        As in the image's tag: `amzn2`, `ubuntu22.04`.
    version
        The driver's version.
    operator
        The operator's version, if it is known.
    """
    driver = Driver(version)
    rows = []
    for each in systems:
        labels = gpuoperator.labels_of_os(each)
        image = predict_driver_image(labels, driver.repository, driver.image, version, operator=operator)
        exists = {True: "yes", False: "no", None: "not known"}[image.published]
        rows.append((each, image.image, exists, image.why))
    return Table.of(
        ["OS", "image", "exists", "why"],
        rows,
        caption=f"The driver image that the operator asks for, with driver {version}: a rule, not a measurement",
    )


def issues_table(everything: Iterable[StackExplanation]) -> Table:
    """Show the known issues that the evidence shows, with the line."""
    from leptonami.readers.knownissues import catalogue

    titles = {each.id: each for each in catalogue()}
    rows = []
    for found in everything:
        lines = {each.issue.id: shown(each.proofs[:1]) for each in found.verdict.known}
        for id in found.verdict.issues:
            issue = titles.get(id)
            rows.append(
                (
                    found.name,
                    id,
                    issue.title if issue else "",
                    lines.get(id, "by its state, not by a line"),
                    issue.remedy if issue else "",
                )
            )
    return Table.of(
        ["evidence", "id", "known issue", "shown by", "what to do"],
        rows or [("all of it", "none", "no known issue shows", "", "")],
        caption="Known issues (data/known-issues.yaml)",
        provenance="recorded",
    )
