"""An autoscaler's log for people: a short story, and lists of what became of the nodes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from leptonami.proof import excerpt
from leptonami.readers.autoscaler.catalogue import Kind
from leptonami.readers.autoscaler.digest import Digest
from leptonami.readers.autoscaler.metrics import Metrics
from leptonami.readers.autoscaler.track import Period, Phase
from leptonami.readers.years import From, plain
from leptonami.verdicts.scaledown import BRANCHES, Branch, NodeVerdict, State
from leptonami.verdicts.scaledown_log import count, reason_of, short, timers
from leptonami.verdicts.scaledown_timers import UNLESS

__all__ = ["as_dict", "clock", "scale_ups", "spans", "story", "wrong"]

SHOWN = 4  # names in a sentence


def wrong(verdicts: Iterable[NodeVerdict]) -> bool:
    """Tell whether there is anything to mend."""
    return any(each.wrong for each in verdicts)


def story(digest: Digest, verdicts: Sequence[NodeVerdict], line: Callable[[int], str] = str) -> list[str]:
    """Tell in a few sentences what happened, to which nodes, and why.

    Parameters
    ----------
    digest
        The log.
    verdicts
        What `scaledown_log.judge` (or `combine`) made of it.
    line
        Names a line of the log: with its file, where there are several.
    """
    lines = [opening(digest, verdicts)]
    lines += [group_sentence(group) for group in grouped(verdicts)]
    of_cluster = (scale_up_sentence, no_scale_up_sentence, failure_sentence, not_ready_sentence, cooldown_sentence)
    lines += [each for each in (sentence(digest) for sentence in of_cluster) if each]
    late = [each for each in verdicts if each.state is State.REMOVED and Branch.GPU_NOT_READY in each.also]
    if late:
        nodes = names(late)
        lines.append(f"{nodes} went late, not never: for a while nothing was decided, since the GPU was not ready.")
    lines += [each for each in (by_cpu_sentence(digest, verdicts, line), *remedies(verdicts)) if each]
    if digest.unread.total:
        lines.append(f"{count(digest.unread.total, 'line')} could not be read as log lines.")
    return lines


def opening(digest: Digest, verdicts: Sequence[NodeVerdict]) -> str:
    """Say what the log is."""
    if digest.first is None:
        return f"There is no line of an autoscaler in {count(digest.lines, 'line')}."
    begun, ended = digest.when(digest.first), digest.when(digest.last)
    span = ""
    if begun is not None and ended is not None:
        span = f"From {plain(begun)} to {clock(ended, begun)} ({short(ended - begun)}) "
    year = {
        From.UNKNOWN: " The log does not tell its year (--year).",
        From.REFERENCE: " The year is that of the file's last change.",
    }.get(digest.year_known, "")
    who = f"cluster-autoscaler {digest.version}" if digest.version.certainty != "unknown" else "an autoscaler"
    loops = f"{count(digest.loops, 'loop')} " if digest.loops else "part of a loop "
    what = f"{span}{who} made {loops}over {count(len(verdicts), 'node')}."
    more = ""
    if digest.version.certainty == "unknown":
        more = f" Its version is {digest.version}."
    if digest.forgotten:
        more += f" {count(digest.forgotten, 'node')} more were seen and left out."
    return (what[0].upper() + what[1:]) + more + year


def grouped(verdicts: Sequence[NodeVerdict]) -> list[list[NodeVerdict]]:
    """Put verdicts together that say the same; what is wrong comes first."""
    groups: dict[tuple[State, Branch | None], list[NodeVerdict]] = defaultdict(list)
    for each in verdicts:
        groups[each.state, each.branch].append(each)
    order = list(State)
    return sorted(groups.values(), key=lambda group: (not group[0].wrong, order.index(group[0].state), -len(group)))


def group_sentence(group: Sequence[NodeVerdict]) -> str:
    """Say what became of nodes that share a verdict."""
    first, nodes = group[0], names(group)
    plural = len(group) > 1
    match first.state:
        case State.REMOVED:
            times = [each.at for each in group if each.at is not None]
            when = f" at {plain(min(times))}" if times else ""
            if len(set(times)) > 1 and plain(min(times)) != plain(max(times)):
                when = f" between {plain(min(times))} and {clock(max(times), min(times))}"
            return f"{nodes} {'were' if plural else 'was'} removed{when}{'' if plural else before_removal(first)}."
        case State.WILL_BE_REMOVED:
            when = f" at about {plain(first.at)}" if first.at is not None else ""
            unless = f", {UNLESS}" if UNLESS in first.notes else ""
            return f"{nodes} will be removed{'' if plural else when}{unless}: {first.cause}."
        case State.NOT_DETERMINED:
            nodes = nodes if plural else nodes[0].lower() + nodes[1:]
            return f"What becomes of {nodes} is not determined: {first.notes[0] if first.notes else 'nothing tells'}."
        case State.NEEDED:
            return f"{nodes} {'are' if plural else 'is'} needed: {first.cause}."
        case State.REMOVING:
            return f"{nodes} {'are' if plural else 'is'} being removed."
    pods = sorted(
        {note.removeprefix("the pod is ") for each in group for note in each.notes if note.startswith("the pod")}
    )
    pod = f" (pod {pods[0]}{f' and {len(pods) - 1:,} more' if len(pods) > 1 else ''})" if pods else ""
    return f"{nodes} {'are' if plural else 'is'} kept [{label(first.branch)}]: {first.cause}{pod}."


def before_removal(verdict: NodeVerdict) -> str:
    """Say since when a node was unneeded, in the zone of the log, and which pods were on it."""
    begun, gone = verdict.unneeded_since, verdict.at
    if begun is not None and gone is not None and gone.tzinfo is not None:
        begun = begun.astimezone(gone.tzinfo)
    since = f", unneeded since {clock(begun, gone or begun)}" if begun is not None else ""
    return since + next((f" ({note})" for note in verdict.notes if "to reschedule" in note), "")


def by_cpu_sentence(digest: Digest, verdicts: Sequence[NodeVerdict], line: Callable[[int], str]) -> str:
    """Say which nodes are no GPU nodes to the autoscaler, where pods wanted GPUs."""
    if digest.gpu_wanted is None:
        return ""
    judged = [each for each in verdicts if any(note.startswith("it was judged by its") for note in each.notes)]
    if not judged:
        return ""
    place = line(digest.gpu_wanted.number)
    were, them = ("were", "them") if len(judged) > 1 else ("was", "it")
    return (
        f"{names(judged)} {were} judged by CPU or memory, while pods wanted GPUs (line {place}): if "
        f"there are GPUs in {them}, the accelerator label is missing [branch 3, {Branch.NO_ACCELERATOR_LABEL}], and "
        "scaling up goes on while the pods still cannot run."
    )


def scale_up_sentence(digest: Digest) -> str:
    """Say how often it scaled up."""
    plans = scale_ups(digest)
    if not plans:
        return ""
    shown = ", ".join(f"{each['group']} {each['from']} to {each['to']}" for each in plans[:SHOWN])
    return f"It scaled up {count(len(plans), 'time')}: {shown}{', …' if len(plans) > SHOWN else ''}."


def no_scale_up_sentence(digest: Digest) -> str:
    """Say that pods waited and nothing was scaled up, and why not."""
    if not digest.pods or digest.happenings.get(Kind.SCALE_UP_PLAN):
        return ""
    shown = ", ".join(excerpt(each, 80) for each in list(digest.pods)[:SHOWN])
    more = f" and {len(digest.pods) - SHOWN:,} more" if len(digest.pods) > SHOWN else ""
    reasons = ((Kind.NO_OPTIONS, "no group would have helped"), (Kind.MAX_SIZE, "a group is at its maximum size"))
    why = " and ".join(words for kind, words in reasons if digest.counts[kind])
    return (
        f"{count(len(digest.pods), 'pod')} had no place ({shown}{more}), and it did not scale up{why and f': {why}'}."
    )


def failures(digest: Digest) -> list[dict[str, Any]]:
    """List what went wrong in scaling up: no node in time, and groups that are not asked for a while."""
    found = [
        {
            "at": digest.when(each.seen),
            "what": str(kind),
            "group": each.fields.get("group", ""),
            "reason": each.fields.get("reason", "") or each.fields.get("duration", ""),
            "until": each.fields.get("since") or None,
            "line": each.seen.number,
        }
        for kind in (Kind.SCALE_UP_TIMED_OUT, Kind.BACKOFF)
        for each in digest.happenings.get(kind, ())
    ]
    return sorted(found, key=lambda each: int(each["line"]))


def failure_sentence(digest: Digest) -> str:
    """Say which groups could not be scaled up, and why."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in failures(digest):
        groups[each["group"]].append(each)
    told = []
    for group, failed in list(groups.items())[:SHOWN]:
        last = failed[-1]
        times = max(Counter(each["what"] for each in failed).values())
        why = "no node within " * (last["what"] == Kind.SCALE_UP_TIMED_OUT) + excerpt(last["reason"], 120)
        when = f" at {last['at']:%H:%M:%S}" if last["at"] else ""
        told.append(f"{excerpt(group, 80)} {count(times, 'time')}, the last{when}{why and f' ({why})'}")
    more = f"; and {count(len(groups) - SHOWN, 'group')} more" if len(groups) > SHOWN else ""
    return f"Scaling up failed: {'; '.join(told)}{more}." if told else ""


def not_ready_sentence(digest: Digest) -> str:
    """Say when the whole loop stopped."""
    return periods_sentence(digest, digest.not_ready, "the whole loop stopped: too many nodes were not ready")


def cooldown_sentence(digest: Digest) -> str:
    """Say when scale-down was held back."""
    return periods_sentence(digest, digest.cooldown, "scale-down was held back after a scale-up, a start or a failure")


def periods_sentence(digest: Digest, periods: Sequence[Period], what: str) -> str:
    """Say in how many loops something held, and when the last time."""
    if not periods:
        return ""
    loops = sum(each.loops for each in periods)
    begun, ended = digest.when(periods[-1].first), digest.when(periods[-1].last)
    when = f", the last time from {begun:%H:%M:%S} to {clock(ended, begun)}" if begun and ended else ""
    return f"In {loops:,} of {count(digest.loops, 'loop')} {what}{when}."


def metrics_sentences(metrics: Metrics) -> list[str]:
    """Say what the metrics count: they name no node."""
    reasons = ", ".join(f"{each.count:,} by {each.shown} ({each.proof.place})" for each in metrics.unremovable)
    told = [f"Its metrics count nodes that cannot be removed: {reasons}."] if reasons else []
    if metrics.safe_to_autoscale is False:
        told.append(f"Its metrics say that the whole loop stops [{label(Branch.CLUSTER_NOT_READY)}].")
    return told or ["Its metrics count no node that cannot be removed."]


def metrics_dict(metrics: Metrics) -> dict[str, Any]:
    """Give the metrics as plain data."""
    return {
        "unremovable": [
            {"reason": each.reason, "name": each.name, "count": each.count, "line": each.proof.place}
            for each in metrics.unremovable
        ],
        "safe_to_autoscale": metrics.safe_to_autoscale,
        "in_cooldown": metrics.in_cooldown,
        "unneeded": metrics.unneeded,
        "unschedulable_pods": metrics.unschedulable_pods,
        "nodes": dict(metrics.nodes),
    }


def remedies(verdicts: Sequence[NodeVerdict]) -> list[str]:
    """Say what to do, once for each thing that is wrong."""
    branches = dict.fromkeys(each.branch for each in verdicts if each.wrong and each.branch)
    return [f"What to do [{label(branch)}]: {BRANCHES[branch].remedy}." for branch in branches]


def label(branch: Branch | None) -> str:
    """Name a branch, with its number in the decision tree."""
    return "unknown" if branch is None else f"branch {BRANCHES[branch].number}, {branch}"


def names(group: Sequence[NodeVerdict]) -> str:
    """Name some nodes, and count the others. The names are the log's own: text, and cut."""
    shown = [excerpt(each.node, 80) for each in group[:SHOWN]]
    more = f" and {len(group) - SHOWN:,} more" if len(group) > SHOWN else ""
    if len(group) == 1:
        return f"Node {shown[0]}"
    return f"{len(group):,} nodes ({', '.join(shown)}{more})"


def clock(at: datetime, after: datetime) -> str:
    """Write a time; the day only if it is another than that of the time before."""
    return f"{at:%H:%M:%S}" if at.date() == after.date() else plain(at)


def scale_ups(digest: Digest) -> list[dict[str, Any]]:
    """List the scale-ups: when, which group, from how many nodes to how many, and the line."""
    return [
        {"at": digest.when(each.seen), **plan, "line": each.seen.number}
        for each in digest.happenings.get(Kind.SCALE_UP_PLAN, ())
        for plan in plans_of(each.fields.get("reason", ""))
    ]


def plans_of(text: str) -> list[dict[str, Any]]:
    """Read `{group 0->2 (max: 6)} {other 1->2 (max: 4)}`.

    >>> plans_of("{gpu-workers 0->2 (max: 6)}")
    [{'group': 'gpu-workers', 'from': 0, 'to': 2, 'max': 6}]
    """
    plans = []
    for part in text.split("{")[1:]:
        words = part.replace("}", " ").replace(")", " ").split()
        if len(words) < 2 or "->" not in words[1]:
            continue
        before, _, after = words[1].partition("->")
        numbers = [before, after, words[3] if len(words) > 3 else ""]
        if not (before.isdecimal() and after.isdecimal()) or max(map(len, numbers)) > 9:
            continue
        most = int(numbers[2]) if numbers[2].isdecimal() else None
        plans.append({"group": words[0], "from": int(before), "to": int(after), "max": most})
    return plans


SPAN = ("node", "phase", "branch", "begin", "end", "first_line", "last_line")


def spans(digest: Digest) -> list[dict[str, Any]]:
    """Give every status of every node: node, phase, branch, from, to, and the lines. The source of the timeline."""
    rows = []
    for track in sorted(digest.tracks.values(), key=lambda each: each.name):
        node = track.name.decode("utf-8", "replace")
        for span in track.spans:
            blocked = span.status.phase is Phase.BLOCKED
            branch = str(reason_of(span.status.reason)[0]) if blocked else str(span.status.reason)
            times = digest.when(span.first), digest.when(span.last)
            cells = (node, str(span.status.phase), branch, *times, span.first.number, span.last.number)
            rows.append(dict(zip(SPAN, cells, strict=True)))
    return rows


def as_dict(digest: Digest, verdicts: Sequence[NodeVerdict], line: Callable[[int], str] = str) -> dict[str, Any]:
    """Give all of it as plain data, for `--json`."""
    known = timers(digest)
    return {
        "source": digest.source,
        "lines": digest.lines,
        "loops": digest.loops,
        "unread": digest.unread.as_dict(),
        "first": digest.when(digest.first),
        "last": digest.when(digest.last),
        "year_known": digest.year_known,
        "version": digest.version.as_dict(),
        "timers": {
            "unneeded_seconds": known.unneeded.length.total_seconds(),
            "unneeded_known": known.unneeded.known,
            "unready_seconds": known.unready.length.total_seconds(),
            "unready_known": known.unready.known,
        },
        "messages": {str(kind): number for kind, number in digest.counts.most_common()},
        "scale_ups": scale_ups(digest),
        "scale_up_failures": failures(digest),
        "not_ready_loops": sum(each.loops for each in digest.not_ready),
        "cooldown_loops": sum(each.loops for each in digest.cooldown),
        "unschedulable_pods": [
            {"pod": pod, "times": times, "last_line": seen.number} for pod, (seen, times) in digest.pods.items()
        ],
        "nodes_left_out": digest.forgotten,
        "story": story(digest, verdicts, line),
        "nodes": [each.as_dict() for each in verdicts],
        "wrong": wrong(verdicts),
    }
