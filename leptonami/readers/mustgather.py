"""Evidence about a GPU stack as named documents: the operator's must-gather, or files of listings, objects and logs.

`must-gather.sh` of gpu-operator names its files (`cluster_policy.yaml`, `gpu_nodes.descr`, `gpu_operand_pod_NAME.log`
and so on); what a file of another name is, is told by its content.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from leptonami.errors import InputError
from leptonami.proof import Proof
from leptonami.readers.describe import describe_objects, looks_like_describe
from leptonami.readers.gpuoperands import operand_of
from leptonami.readers.kubectl import PROMPT, Row, looks_like_table, read_tables
from leptonami.readers.manifests import decode, looks_like_objects
from leptonami.readers.objects import Objects, read_objects

__all__ = ["Evidence", "Log", "read_evidence"]

MARKS = frozenset(
    {
        "cluster_policy.yaml",
        "cluster_policy.missing",
        "gpu_operand_pods.yaml",
        "gpu_operand_pods.status",
        "must-gather.log",
    }
)
POD_LOG = re.compile(r"gpu_operand_pod_(.{1,253}?)(\.previous)?\.log(?:\.gz)?")
OPERATOR_LOG = re.compile(r"gpu_operator_pod(\.previous)?\.log(?:\.gz)?")
LABEL = re.compile(r"- ([^\s=]{1,317})=(.{0,400})")
NODE_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,252}")
NO_GPU_NODES = "could not find nodes with NVIDIA PCI labels"
MOST_SECTIONS = 100  # of one document; more are no session that anybody copied
BINARY = 1000  # bytes that are looked at for a NUL


@dataclass(frozen=True, slots=True)
class Log:
    """A log: its document, whose it is as far as the name tells, and its text."""

    name: str
    pod: str
    previous: bool
    text: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the documents hold, sorted.

    Parameters
    ----------
    objects
        From JSON, YAML and descriptions.
    rows
        From listings.
    logs
        Whatever else is text.
    no_nfd_label
        The line with which must-gather gave up, since no node has an NFD label of an NVIDIA device.
    no_policy
        That there is no ClusterPolicy, as must-gather notes it.
    others
        Lines of listings that are no rows.
    problems
        What could not be read, a sentence each.
    """

    objects: Objects = field(default_factory=Objects)
    rows: tuple[Row, ...] = ()
    logs: tuple[Log, ...] = ()
    no_nfd_label: Proof | None = None
    no_policy: Proof | None = None
    others: tuple[Proof, ...] = ()
    problems: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


def read_evidence(documents: Mapping[str, bytes], *, root: str = "", notes: Iterable[str] = ()) -> Evidence:
    """Read whatever documents there are.

    Parameters
    ----------
    documents
        Their contents by name (`leptonami.documents.load_bundle` loads them).
    root
        What is put before the names in proofs: the folder or archive that they come from.
    notes
        What the loader left out.

    Raises
    ------
    InputError
        If there is nothing in them that can be read.
    """
    chosen, problems = newest(documents)
    draft = Draft(problems=[*notes, *problems])
    for name, data in chosen.items():
        source = f"{root.rstrip('/')}/{name}" if root and root != name else name
        try:
            read_document(name, data, source, draft)
        except InputError as error:
            draft.problems.append(f"{error}")
    if not (draft.items or draft.rows or draft.logs or draft.no_nfd_label):
        reason = draft.problems[0] if draft.problems else "there is nothing in it that can be read"
        raise InputError(reason, resource=root or None, hint="give a listing, JSON or YAML, or a must-gather")
    # A description tells less of a node than its YAML, and labels less than a description: what tells most holds.
    ordered = sorted(draft.items, key=lambda each: each[0])
    return Evidence(
        objects=Objects.of(((source, obj) for _, source, obj in ordered)),
        rows=tuple(draft.rows),
        logs=tuple(draft.logs),
        no_nfd_label=draft.no_nfd_label,
        no_policy=draft.no_policy,
        others=tuple(draft.others),
        problems=tuple(draft.problems),
        commands=tuple(draft.commands),
    )


class Draft:
    """What was read so far."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        self.items: list[tuple[int, str, dict[str, Any]]] = []
        self.rows: list[Row] = []
        self.logs: list[Log] = []
        self.others: list[Proof] = []
        self.commands: list[str] = []
        self.no_nfd_label: Proof | None = None
        self.no_policy: Proof | None = None


def newest(documents: Mapping[str, bytes]) -> tuple[Mapping[str, bytes], list[str]]:
    """Choose the newest must-gather if there are several beside each other: their names begin with the time."""
    folders = {name.rpartition("/")[0] for name in documents if name.rpartition("/")[2] in MARKS}
    if len(folders) < 2:
        return documents, []
    last = max(folders)
    others = folders - {last}
    kept = {name: data for name, data in documents.items() if name.rpartition("/")[0] not in others}
    return kept, [f"there are {len(folders)} must-gathers in it; the last one by name was read: {last}"]


def read_document(name: str, data: bytes, source: str, draft: Draft) -> None:
    """Sort one document."""
    base = name.rpartition("/")[2]
    if base == "cluster_policy.missing":
        draft.no_policy = Proof.of(source, "file", "there is no ClusterPolicy")
        return
    if b"\0" in data[:BINARY] and data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        draft.problems.append(f"{source}: it is no text and was left out")
        return
    text = decode(data)
    if not text.strip():
        return
    pod_log, operator_log = POD_LOG.fullmatch(base), OPERATOR_LOG.fullmatch(base)
    if pod_log or operator_log:
        found = pod_log or operator_log
        pod = pod_log.group(1) if pod_log else ""
        previous = bool(found and found.groups()[-1])
        draft.logs.append(Log(source, pod, previous, text))
    elif base == "gpu_nodes.labels":
        draft.items += [(0, source, each) for each in node_labels(text)]
    elif base.endswith(".descr") or looks_like_describe(text):
        draft.items += [(1, source, each) for each in describe_objects(text)]
    elif base.startswith("must-gather") and base.endswith(".log"):
        at = text.find(NO_GPU_NODES)
        if at >= 0:
            line = text.count("\n", 0, at) + 1
            draft.no_nfd_label = Proof.of(source, f"line {line}", text.splitlines()[line - 1].strip())
    else:
        stem = base.removesuffix(".gz").removesuffix(".txt").removesuffix(".log")
        pod = stem if operand_of(stem) else ""
        for section in sections(text):
            if not read_structure(section, source, draft):
                draft.logs.append(Log(source, pod, False, section))


def sections(text: str) -> list[str]:
    """Part a session that was copied from a terminal, or a page of Markdown, at its prompts and fences.

    Each part keeps as many empty lines before it as lines stand there, so that the numbers of its lines stay right.
    """
    lines = text.split("\n")
    starts = [
        number
        for number, line in enumerate(lines)
        if line.startswith(("```", "~~~")) or ("kubectl " in line and PROMPT.fullmatch(line[:400].rstrip("\r")))
    ]
    if not starts or len(starts) > MOST_SECTIONS:
        return [text]
    edges = [0, *starts, len(lines)]
    parts = [(first, lines[first:last]) for first, last in pairwise(edges) if first < last]
    return ["\n" * first + "\n".join(part) for first, part in parts if any(each.strip() for each in part)] or [text]


def read_structure(text: str, source: str, draft: Draft) -> bool:
    """Read objects or tables; tell whether it was either."""
    if looks_like_objects(text):
        try:
            found = read_objects(text, source)
        except InputError:
            if not looks_like_table(text):
                raise
        else:
            draft.items += [(2, *each) for each in found.items]
            draft.problems += found.problems
            return True
    if looks_like_table(text):
        tables = read_tables(text, source)
        if tables.rows:
            draft.rows += tables.rows
            draft.others += tables.others
            draft.commands += tables.commands
            return True
    return False


def node_labels(text: str) -> list[dict[str, Any]]:
    """Read `gpu_nodes.labels`: a node's name, then its labels, one a line."""
    found: list[dict[str, Any]] = []
    for line in text.splitlines():
        label = LABEL.fullmatch(line[:1000].strip())
        if label and found:
            found[-1]["metadata"]["labels"][label.group(1)] = label.group(2)
        elif not label and NODE_NAME.fullmatch(line[:300].strip()):
            found.append({"kind": "Node", "metadata": {"name": line.strip(), "labels": {}}})
    return found
