"""Why each node is, or is not, removed by cluster-autoscaler: from a log, from a cluster's objects, or from both.

    found = explain("ca.log")
    found.story(), found.rows(), found.wrong

What is read here is put together from pure parts: `readers.autoscaler` reads the log, `verdicts.scaledown_log` and
`scaledown_state` judge, `verdicts.combine` joins.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

from leptonami.errors import InputError
from leptonami.explain.given import Given, written
from leptonami.explain.known import recorded
from leptonami.explain.reading import Found, Log, find
from leptonami.explain.recognise import HEAD, What, command_for
from leptonami.explain.sidebyside import digest_file
from leptonami.progress import Progress
from leptonami.proof import Proof, excerpt
from leptonami.readers.autoscaler.catalogue import Kind
from leptonami.readers.autoscaler.digest import Digest
from leptonami.readers.autoscaler.events import read_event_lines
from leptonami.readers.autoscaler.metrics import Metrics, read_metrics
from leptonami.readers.autoscaler.scan import digest
from leptonami.readers.describe import describe_objects, looks_like_describe
from leptonami.readers.lines import batches
from leptonami.readers.manifests import decode
from leptonami.readers.objects import Objects, read_objects
from leptonami.readers.years import plain
from leptonami.recordings import Recording
from leptonami.target import Provenance
from leptonami.verdicts import autoscaler_report as report
from leptonami.verdicts import scaledown_log, scaledown_state
from leptonami.verdicts.clusterstate import ClusterState
from leptonami.verdicts.combine import combine
from leptonami.verdicts.scaledown import BRANCHES, NodeVerdict, State

__all__ = ["Explanation", "explain", "explain_recording", "explain_sources"]

OBJECTS = {What.OBJECTS, What.LISTING}
FOR_A_LOG = "kubectl -n kube-system logs deploy/cluster-autoscaler, at -v=4, is what this command reads"


@dataclass(frozen=True)
class Explanation:
    """What came out.

    Attributes
    ----------
    name
        What was read, as it was named; the context of a live cluster.
    provenance
        `recorded` for files, `measured` or `simulated` for a live cluster.
    verdicts
        One for each node; what is wrong first.
    log, state, metrics
        What they rest on; None for what was not given.
    read, left_out
        The files that were used, and those that were not, with the reason.
    problems
        What could not be read, a sentence each.
    recording
        The recording of this package that it is, if it is one.
    lines_in
        Names the file that a line of the log is in.
    inputs
        What a live cluster gave: the name, the SHA-256 and the length of each document. Files are still there to be
        asked.
    """

    name: str
    provenance: Provenance
    verdicts: tuple[NodeVerdict, ...]
    log: Digest | None
    state: ClusterState | None
    read: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    recording: Recording | None = None
    lines_in: Log | None = field(default=None, repr=False)
    inputs: tuple[tuple[str, str, int], ...] = ()
    metrics: Metrics | None = None

    @property
    def wrong(self) -> bool:
        """Whether there is something to mend."""
        return report.wrong(self.verdicts)

    def story(self) -> list[str]:
        """Tell in a few sentences what happened, to which nodes, why, and what to do."""
        measured = [] if self.metrics is None else report.metrics_sentences(self.metrics)
        if self.log is not None:
            return [*report.story(self.log, self.verdicts, self.line), *measured]
        if self.state is None:
            return measured
        nodes = f"{len(self.verdicts):,} node" + ("" if len(self.verdicts) == 1 else "s")
        at = self.state.latest_time() if self.state is not None else None
        opening = f"{nodes}, from Kubernetes objects and without a log{f', as of {plain(at)}' if at else ''}."
        groups = report.grouped(self.verdicts)
        return [opening, *map(report.group_sentence, groups), *report.remedies(self.verdicts), *measured]

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Give a row for each node: its name, its verdict, when (the day only if there are several), and a proof."""
        moments = [at for each in self.verdicts if (at := each.at or each.since) is not None]
        several = len({each.date() for each in moments}) > 1
        return [
            (
                excerpt(each.node, 80),
                verdict_words(each),
                when(each, day=several),
                f"{self.place(each.proofs[0])}: {message_of(each.proofs[0].text)}"
                if each.proofs
                else "; ".join(each.notes),
            )
            for each in self.verdicts
        ]

    def place(self, proof: Proof) -> str:
        """Name the place of a proof, with its file if the log has several."""
        several = self.lines_in is not None and len(self.lines_in.files) > 1 and proof.place.startswith("line ")
        return f"{Path(proof.source).name}, {proof.place}" if several else proof.place

    def node(self, name: str) -> NodeVerdict:
        """Find a node, by its name or by a part of it that only one has.

        Raises
        ------
        InputError
            If there is none, or more than one, naming some.
        """
        exact = [each for each in self.verdicts if each.node == name]
        found = exact or [each for each in self.verdicts if name and name in each.node]
        if len(found) == 1:
            return found[0]
        names = [each.node for each in found or self.verdicts]
        shown = difflib.get_close_matches(name, names, 5, 0.3) or names[:5]
        hint = f"{', '.join(excerpt(each, 80) for each in shown)}{', …' if len(names) > len(shown) else ''}"
        if found:
            raise InputError(f"{len(found)} nodes have {name!r} in their name", resource="--node", hint=hint)
        raise InputError(f"there is no node {name!r}", resource="--node", hint=f"nodes: {hint}")

    def spans(self, node: str | None = None) -> list[dict[str, Any]]:
        """Give what the autoscaler thought of each node, or of one, and from which line to which."""
        if self.log is None:
            return []
        return [each for each in report.spans(self.log) if node is None or each["node"] == node]

    def line(self, number: int) -> str:
        """Name a line of the log, with its file if there are several."""
        if self.lines_in is None or len(self.lines_in.files) < 2:
            return str(number)
        name, line = self.lines_in.place(number)
        return f"{Path(name).name}:{line}"

    def as_dict(self, node: str | None = None) -> dict[str, Any]:
        """Give all of it as plain data, for `--json`; or what there is about one node."""
        about = {
            "source": self.name,
            "provenance": self.provenance,
            "recording": self.recording.id if self.recording else None,
            "read": list(self.read),
            "left_out": list(self.left_out),
            "problems": list(self.problems),
        }
        if node is not None:
            verdict = self.node(node)
            found = {**about, "wrong": verdict.wrong, "node": verdict.as_dict(), "spans": self.spans(verdict.node)}
            return {key: written(value) for key, value in found.items()}
        body = (
            {"story": self.story(), "nodes": [each.as_dict() for each in self.verdicts], "wrong": self.wrong}
            if self.log is None
            else report.as_dict(self.log, self.verdicts, self.line)
        )
        if self.metrics is not None:
            body = {**body, "story": self.story(), "metrics": report.metrics_dict(self.metrics)}
        return {key: written(value) for key, value in {**body, **about, "spans": self.spans()}.items()}


def verdict_words(each: NodeVerdict) -> str:
    """Say a verdict in a cell."""
    if each.branch is None:
        return str(each.state)
    return f"{each.state}: {each.branch} ({BRANCHES[each.branch].number})"


def when(each: NodeVerdict, *, day: bool = True) -> str:
    """Say in a cell when it was removed or will be, or since when it is as it is."""
    moment = each.at or each.since
    if moment is None:
        return ""
    text = plain(moment) if day else f"{moment:%H:%M:%S}"
    return text if each.at is not None else f"since {text}"


def message_of(text: str) -> str:
    """Take a header of klog off a proof's text: what counts is the message.

    >>> message_of("I0624 20:42:30.904516       1 a.go:67] Skipping x")
    'Skipping x'
    """
    head, found, message = text.partition("] ")
    return message if found and len(head) < 120 and head[:1] in "IWEF" and head[1:5].isdecimal() else text


# --- files ------------------------------------------------------------------------------------------------------------


def explain(where: str, given: Given | None = None, progress: Progress | None = None) -> Explanation:
    """Explain a log, a folder with a log and objects of the cluster, or objects alone.

    Parameters
    ----------
    where
        A file, a folder, or `-` for standard input.
    given
        What the caller knows besides.
    progress
        Told how far the reading is.

    Raises
    ------
    InputError
        If there is nothing of an autoscaler and no node in it; the message says what it looks like.
    """
    found = find(where)
    given = given or Given()
    recording = recorded(where)
    if recording is not None:
        given = replace(given, year=given.year or recording.recorded.year, zone=given.zone or UTC)
    return explain_sources(found, where, given, progress, recording=recording)


def explain_recording(id: str, progress: Progress | None = None) -> Explanation:
    """Explain a recording that comes with the package; its files are checked against their digests first.

    Raises
    ------
    InputError
        If there is no such recording, it is damaged, or it has no log of an autoscaler.
    """
    from leptonami import recordings as known

    chosen = known.get(id)
    chosen.verify()
    chosen.path("autoscaler-log")
    folder = chosen.files[0].path.parent
    found = [each for each in find(str(folder)) if each.source.path and each.source.path.name in names(chosen)]
    given = Given(year=chosen.recorded.year, zone=UTC)
    return explain_sources(found, id, given, progress, recording=chosen)


def names(recording: Recording) -> set[str]:
    """Give the names of a recording's files that are about the autoscaler."""
    kinds = {"autoscaler-log", "autoscaler-status", "nodes", "pods", "daemonsets", "events"}
    return {each.name for each in recording.files if each.kind in kinds}


def explain_sources(
    found: Sequence[Found],
    name: str,
    given: Given,
    progress: Progress | None = None,
    *,
    provenance: Provenance = "recorded",
    recording: Recording | None = None,
) -> Explanation:
    """Explain files of which it is known what they are.

    Raises
    ------
    InputError
        As `explain`.
    """
    alone = len(found) == 1
    logs = [each for each in found if is_part_of_log(each, alone=alone)]
    refuse_several(logs, name)
    problems: list[str] = []
    state, used = read_state(found, given, problems)
    used += logs
    log = Log(logs, logs[0].source.name if len(logs) == 1 else name) if logs else None
    read = None if log is None else read_log(log, state, given, progress)
    if read is not None and log is not None:
        problems += log.problems
        if not is_of_autoscaler(read):
            if state is None:
                raise nothing(found, name)
            problems.append(f"{log.name}: there is no line of an autoscaler in it")
            read = None
    verdicts = judge(read, log, state, given)
    metrics = read_measured(found, read, state, given)
    if metrics is not None:
        used += [each for each in found if each.what is What.AUTOSCALER_METRICS][:1]
    if not verdicts and metrics is None and (read is None or not is_of_autoscaler(read)):
        raise nothing(found, name)
    return Explanation(
        name=name,
        provenance=provenance,
        verdicts=tuple(ordered(verdicts)),
        log=read,
        state=state,
        read=tuple(each.source.name for each in found if each in used),
        left_out=tuple(f"{each.source.name}: {each.what}" for each in found if each not in used),
        problems=tuple(dict.fromkeys(problems)),
        recording=recording,
        lines_in=log,
        metrics=metrics,
    )


def is_part_of_log(found: Found, *, alone: bool) -> bool:
    """Tell whether a file is read as a log. One that was named itself is: its beginning may mislead."""
    if found.what is What.AUTOSCALER_LOG:
        return True
    return alone and found.what in {What.KLOG, What.TEXT, What.JOURNAL, What.DEVICE_PLUGIN_LOG}


def refuse_several(logs: Sequence[Found], name: str) -> None:
    """Refuse logs from several folders: they are of several autoscalers, and one story would mix them."""
    folders = {str(each.source.path.parent) for each in logs if each.source.path is not None}
    if len(folders) > 1:
        shown = ", ".join(sorted({str(Path(each.source.name).parent) for each in logs})[:8])
        raise InputError(
            f"there are logs of autoscalers in {len(folders)} folders below it",
            resource=name,
            hint=f"name one: {shown}",
        )


def read_log(log: Log, state: ClusterState | None, given: Given, progress: Progress | None) -> Digest:
    """Read a log in one pass; in parts, side by side, where it is a large file."""
    reference = log.modified
    latest = state.latest_time() if state is not None else None
    if latest is not None:
        # Objects are taken when the log is; the file may have been copied years later.
        after = latest + timedelta(days=1)
        reference = after if reference is None else min(reference, after)
    plain_file = log.plain_file()
    if plain_file is not None:
        return digest_file(
            plain_file, source=log.name, year=given.year, zone=given.zone, reference=reference, progress=progress
        )
    return digest(batches(log.blocks(progress)), source=log.name, year=given.year, zone=given.zone, reference=reference)


def is_of_autoscaler(read: Digest) -> bool:
    """Tell whether there is any message that only an autoscaler writes."""
    return sum(read.counts.values()) > read.counts[Kind.OTHER] or bool(read.tracks)


def nothing(found: Sequence[Found], name: str) -> InputError:
    """Say that there is nothing to explain, what it looks like, and where that is read."""
    if len(found) != 1:
        kinds = ", ".join(f"{Path(each.source.name).name}: {each.what}" for each in found[:8])
        more = f", and {len(found) - 8} more" if len(found) > 8 else ""
        return InputError("there is no log of an autoscaler in it, and no node", resource=name, hint=kinds + more)
    what = found[0].what
    command = command_for(what, name)
    if what in OBJECTS or what is What.AUTOSCALER_STATUS:
        return InputError(
            f"this looks like {what}, with no node in it",
            resource=name,
            hint="kubectl get nodes,pods -A -o json is what this command reads"
            + (f"; for the GPU stack try {command}" if what in OBJECTS else ""),
        )
    tried = f"try {command}" if command and what is not What.AUTOSCALER_LOG else FOR_A_LOG
    return InputError(f"there is no line of an autoscaler in it; it looks like {what}", resource=name, hint=tried)


def read_state(found: Iterable[Found], given: Given, problems: list[str]) -> tuple[ClusterState | None, list[Found]]:
    """Read the objects of a cluster, its autoscaler's status and its events; say what was of use."""
    objects = Objects()
    texts: dict[What, tuple[bytes, str]] = {}
    used: list[Found] = []
    for each in found:
        if each.what not in {*OBJECTS, What.AUTOSCALER_STATUS}:
            continue
        content = each.read()
        problems += [f"{each.source.name}: {problem}" for problem in each.source.problems]
        name = each.source.name if each.source.path is None else each.source.path.name
        try:
            if each.what is What.OBJECTS:
                objects = objects.joined(objects_of(content, name))
            # Of what kubectl prints as a table, only events say anything about scaling.
            elif each.what is What.AUTOSCALER_STATUS or read_event_lines(content, name, given.now):
                texts[each.what] = content, name
            else:
                continue
            used.append(each)
        except InputError as error:
            problems.append(str(error))
    if not used:
        return None, used
    status, events = texts.get(What.AUTOSCALER_STATUS), texts.get(What.LISTING)
    state = ClusterState.of(
        objects,
        status=status[0] if status else None,
        events=events[0] if events else None,
        source=(status or events or (b"", "-"))[1],
        now=given.now,
    )
    problems += state.problems
    return state, used


def read_measured(
    found: Iterable[Found], read: Digest | None, state: ClusterState | None, given: Given
) -> Metrics | None:
    """Read the autoscaler's metrics; the reasons in them are numbers that only its version explains."""
    first = next((each for each in found if each.what is What.AUTOSCALER_METRICS), None)
    if first is None:
        return None
    versions = tuple(read.version.releases) if read is not None else ()
    if not versions and state is not None:
        flags = given.flags(read, state.objects)
        versions = (flags.version,) if flags is not None and flags.version else ()
    return read_metrics(first.read(), first.source.name, versions)


def objects_of(content: bytes, name: str) -> Objects:
    """Read objects, from JSON, YAML or what `kubectl describe` prints."""
    if looks_like_describe(decode(content[:HEAD])):
        return Objects.of((name, each) for each in describe_objects(content))
    return read_objects(content, name)


def judge(read: Digest | None, log: Log | None, state: ClusterState | None, given: Given) -> list[NodeVerdict]:
    """Judge every node by what there is, and join it."""
    from_log: list[NodeVerdict] = []
    if read is not None:
        lengths = scaledown_log.timers(read, unneeded=given.unneeded, unready=given.unready, after_add=given.after_add)
        from_log = scaledown_log.judge(read, lengths)
    if read is not None and log is not None and len(log.files) > 1:
        from_log = [replace(each, proofs=tuple(map(log.settle, each.proofs))) for each in from_log]
    if state is None:
        return from_log
    from_state = scaledown_state.judge(state, now=given.now, flags=given.flags(read, state.objects))
    if read is None:
        return from_state
    return combine(from_log, from_state, log_until=read.when(read.last), state_at=given.now or state.latest_time())


def ordered(verdicts: Iterable[NodeVerdict]) -> list[NodeVerdict]:
    """Put what is wrong first, then what is not determined, and what is gone last."""
    order = [State.BLOCKED, State.WILL_BE_REMOVED, State.NOT_DETERMINED, State.REMOVING, State.NEEDED, State.REMOVED]
    return sorted(verdicts, key=lambda each: (not each.wrong, order.index(each.state), each.node))
