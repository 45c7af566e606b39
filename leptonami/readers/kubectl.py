"""The tables that `kubectl get` prints, read into rows: pods, DaemonSets, nodes, events and the rest of `get all`.

A row is recognised by the shape of its cells and not by where they stand, so a table that lost its header, its spacing
or its last columns, that a mail wrapped or that stands in Markdown, is read like one fresh from the terminal. A header
says which kind of table follows and where columns are that have no shape of their own. What is no row is counted and
kept.

>>> rows = read_tables("pod/nvidia-cuda-validator-9zr76  0/1  Completed  3 (5m ago)  3m44s", "-").rows
>>> rows[0].kind, rows[0].status, rows[0].ready, rows[0].restarts, rows[0].age
('Pod', 'Completed', (0, 1), 3, 224)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from leptonami.errors import InputError
from leptonami.proof import Proof
from leptonami.readers.manifests import decode
from leptonami.readers.quantity import age_seconds

__all__ = ["KINDS", "Row", "Tables", "looks_like_table", "read_tables"]

LARGEST = 64 * 1024 * 1024  # bytes of one listing; 100,000 pods are 15 MB
LONGEST = 16_384  # characters of a line that are looked at
KEPT = 200  # lines that are no rows and are kept, word for word
WRAPPED = 3  # lines that a mail may have broken a row into

KINDS = {
    "pod": "Pod",
    "po": "Pod",
    "daemonset": "DaemonSet",
    "ds": "DaemonSet",
    "deployment": "Deployment",
    "deploy": "Deployment",
    "replicaset": "ReplicaSet",
    "rs": "ReplicaSet",
    "statefulset": "StatefulSet",
    "sts": "StatefulSet",
    "job": "Job",
    "cronjob": "CronJob",
    "service": "Service",
    "svc": "Service",
    "node": "Node",
    "no": "Node",
    "event": "Event",
    "ev": "Event",
    "clusterpolicy": "ClusterPolicy",
    "configmap": "ConfigMap",
    "replicationcontroller": "ReplicationController",
    "horizontalpodautoscaler": "HorizontalPodAutoscaler",
}
PREFIX = re.compile(r"([a-z]{2,30})(?:\.[a-z0-9.-]{1,80})?/(\S{1,253})")
NAME = re.compile(r"[a-z0-9][a-z0-9.:_-]{0,252}(?:…|\.\.\.)?")
READY = re.compile(r"([0-9]{1,5})/([0-9]{1,5})", re.ASCII)
NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)
STATUS = re.compile(
    r"[A-Z][A-Za-z]{2,60}|(?:Init|Signal|ExitCode):[A-Za-z0-9:/_-]{1,60}|[A-Z][A-Za-z]{2,50}(?:…|\.\.\.)"
)
NODE_STATUS = re.compile(r"(?:Ready|NotReady|Unknown)(?:,[A-Za-z,]{1,80})?")
HEADING = re.compile(r"[A-Z][A-Z0-9()/_-]*")
TWO_WORDS = ("LAST SEEN", "FIRST SEEN", "NODE SELECTOR", "NOMINATED NODE", "READINESS GATES")
PROMPT = re.compile(r"[^{}]{0,120}?[$#%>] {1,4}(?:sudo {1,4})?(?:kubectl|oc) (.*)")
NAMESPACE = re.compile(r"(?:^| )(?:-n[ =]?|--namespace[ =])([a-z0-9][a-z0-9-]{0,62})(?= |$)")
GET = re.compile(r"(?:^| )get {1,4}([a-z]{2,30})(?:\.[a-z.]{1,60})?")
LEADING = re.compile(r"[>|*\s]{0,20}")
NO_ROWS = re.compile(r"No resources found|Error from server|Warning:|Defaulted container|Unable to connect|error:")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Parameters
    ----------
    kind
        `Pod`, `DaemonSet`, …; "" if nothing tells.
    namespace
        None if the table has no such column and the prompt did not name one.
    ready
        The READY (or COMPLETIONS) column, `x/y`.
    status
        The STATUS column; of an event its reason. "" if the kind has none.
    restarts, restarted
        How often, and how many seconds ago the last time.
    age
        In seconds; None if it was cut off or is `<unknown>`.
    node
        From `-o wide`.
    counts
        `desired`, `current`, `ready`, `updated`, `available`, as far as the kind has them.
    selector
        A DaemonSet's node selector.
    cells
        Further columns by their heading in lower case: `roles`, `version`; of an event `type`, `object`, `message`.
    """

    kind: str
    name: str
    proof: Proof
    namespace: str | None = None
    ready: tuple[int, int] | None = None
    status: str = ""
    restarts: int | None = None
    restarted: int | None = None
    age: int | None = None
    node: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    selector: Mapping[str, str] | None = None
    cells: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tables:
    """What a listing holds.

    Parameters
    ----------
    rows
        In the order of the listing.
    others
        The lines that are no rows (the first 200), and `other_lines` how many there are.
    commands
        The commands at the prompts in it, as far as they were copied with it.
    """

    rows: tuple[Row, ...]
    others: tuple[Proof, ...] = ()
    other_lines: int = 0
    commands: tuple[str, ...] = ()

    def of_kind(self, kind: str) -> tuple[Row, ...]:
        """Give the rows of a kind."""
        return tuple(each for each in self.rows if each.kind == kind)


@dataclass(slots=True)
class Heading:
    """What is known about the rows that follow."""

    kind: str = ""
    columns: tuple[str, ...] = ()
    namespace: str | None = None
    asked: str = ""

    @property
    def namespaced(self) -> bool:
        return "NAMESPACE" in self.columns


def looks_like_table(text: str) -> bool:
    """Tell whether a text may be such a listing, by its first 8,000 characters: a header, or an unmistakable row."""
    for line in text[:8000].splitlines():
        cells = tokens(line)
        if heading_of(cells) or any(read(cells, Heading()) for read in (pod_row, daemonset_row, node_row)):
            return True
        if cells and PREFIX.fullmatch(cells[0]) and replicas_row(cells, Heading()):
            return True
    return False


def read_tables(data: bytes | str, source: str) -> Tables:
    """Read every table of a listing.

    Parameters
    ----------
    data
        What `kubectl get` printed, one command or several, with or without the prompts.
    source
        Its name, for proofs and messages.

    Raises
    ------
    InputError
        If it is larger than 64 MiB.
    """
    if len(data) > LARGEST:
        raise InputError(f"a listing of more than {LARGEST // 1024**2} MiB", resource=source)
    rows: list[Row] = []
    others: list[Proof] = []
    commands: list[str] = []
    count = 0
    lines = decode(data).splitlines()
    heading = Heading()
    at = 0
    while at < len(lines):
        line = lines[at][:LONGEST]
        cells = tokens(line)
        number = at + 1
        at += 1
        command = PROMPT.fullmatch(line) if "kubectl" in line or "oc " in line else None
        if command:
            commands.append(command.group(1)[:400])
            heading = asked(command.group(1))
        elif not cells or cells[0].startswith(("```", "~~~", "---")):
            continue
        elif columns := heading_of(cells):
            heading = Heading(kind_of(columns) or heading.asked, columns, heading.namespace, heading.asked)
        else:
            row, used = read_row(lines, at - 1, heading)
            if row is None:
                count += 1
                if len(others) < KEPT:
                    others.append(Proof.of(source, f"line {number}", line))
                continue
            written = " ".join(each.strip()[:LONGEST] for each in lines[at - 1 : at - 1 + used])
            rows.append(replace(row, proof=Proof.of(source, f"line {number}", written)))
            at += used - 1
    return Tables(tuple(rows), tuple(others), count, tuple(commands))


def tokens(line: str) -> list[str]:
    """Take a line apart, without what a mail or Markdown puts in front of it."""
    match = LEADING.match(line)
    return line[match.end() if match else 0 : LONGEST].rstrip("| \t").split(maxsplit=200)


def asked(command: str) -> Heading:
    """Read from a command which kind and which namespace it asks for."""
    command = command[:400]
    namespace, what = NAMESPACE.search(command), GET.search(command)
    word = what.group(1) if what else ""
    kind = KINDS.get(word) or KINDS.get(word.removesuffix("s")) or KINDS.get(word.removesuffix("ies") + "y", "")
    return Heading(kind="", namespace=namespace.group(1) if namespace else None, asked=kind)


def heading_of(cells: Sequence[str]) -> tuple[str, ...]:
    """Take a header apart; () if the line is none."""
    if not cells or not ("NAME" in cells or "SEEN" in cells or "REASON" in cells):
        return ()
    if len(cells) > 40 or not all(HEADING.fullmatch(each) for each in cells):
        return ()
    columns: list[str] = []
    for each in cells:
        if columns and f"{columns[-1]} {each}" in TWO_WORDS:
            columns[-1] = f"{columns[-1]} {each}"
        else:
            columns.append(each)
    return tuple(columns)


def kind_of(columns: Sequence[str]) -> str:
    """Tell from a header what the rows are; "" if it does not say."""
    has = set(columns)
    tests = (
        ("Event", {"REASON"}),
        ("DaemonSet", {"DESIRED", "UP-TO-DATE"}),
        ("DaemonSet", {"DESIRED", "NODE SELECTOR"}),
        ("ReplicaSet", {"DESIRED", "READY"}),
        ("Deployment", {"READY", "UP-TO-DATE"}),
        ("Pod", {"READY", "STATUS"}),
        ("Pod", {"STATUS", "RESTARTS"}),
        ("Job", {"COMPLETIONS"}),
        ("Node", {"STATUS", "ROLES"}),
        ("Node", {"STATUS", "VERSION"}),
        ("Service", {"CLUSTER-IP"}),
        ("StatefulSet", {"READY", "AGE"}),
    )
    return next((kind for kind, needed in tests if needed <= has), "")


def read_row(lines: Sequence[str], at: int, heading: Heading) -> tuple[Row | None, int]:
    """Read the row that begins at a line, and say how many lines it takes."""
    cells = tokens(lines[at])
    row = parse_row(cells, heading)
    if row is not None and (row.age is not None or row.kind in {"", "Event"}):
        return row, 1
    # A row that is none, or lost its age, may go on in the next line: mails break lines at about 76 characters.
    joined = list(cells)
    for used in range(2, WRAPPED + 1):
        following = tokens(lines[at + used - 1]) if at + used <= len(lines) else []
        if not following or heading_of(following) or len(joined) > 60 or parse_row(following, heading):
            break
        joined += following
        longer = parse_row(joined, heading)
        if longer is not None and longer.age is not None:
            return longer, used
    return row, 1


def parse_row(cells: Sequence[str], heading: Heading) -> Row | None:
    """Read a row by the shape of its cells, whichever kind it is."""
    if len(cells) < 2:
        return None
    if heading.kind == "Event" or (not heading.kind and "/" in "".join(cells[2:6])):
        found = event_row(cells, heading)
        if found:
            return found
    readers = (pod_row, daemonset_row, workload_row, replicas_row, node_row, policy_row)
    for read in readers:
        found = read(cells, heading)
        if found and (not heading.kind or not found.kind or found.kind == heading.kind):
            return found
    return other_row(cells, heading)


def subject(cells: Sequence[str], heading: Heading, shape: re.Pattern[str]) -> tuple[str, str, str | None, int] | None:
    """Find kind, name and namespace: the cell that has the given shape stands behind the name, or behind both.

    Returns
    -------
    tuple or None
        The kind (from a prefix, else ""), the name, the namespace, and where the shaped cell is.
    """
    for at in (1, 2):
        if at >= len(cells) or not shape.fullmatch(cells[at]):
            continue
        prefixed = PREFIX.fullmatch(cells[at - 1])
        kind = KINDS.get(prefixed.group(1), prefixed.group(1)) if prefixed else ""
        name = prefixed.group(2) if prefixed else cells[at - 1]
        namespace = cells[0] if at == 2 else heading.namespace
        if NAME.fullmatch(name) and (at == 1 or (NAME.fullmatch(cells[0]) and "/" not in cells[0])):
            return kind, name, namespace, at
    return None


def unproven(kind: str, name: str, namespace: str | None) -> Row:
    return Row(kind, name, Proof("", "", ""), namespace)


def pod_row(cells: Sequence[str], heading: Heading) -> Row | None:
    """NAME READY STATUS RESTARTS AGE [IP NODE NOMINATED-NODE READINESS-GATES]."""
    found = subject(cells, heading, READY)
    if not found or found[3] + 1 >= len(cells) or not STATUS.fullmatch(cells[found[3] + 1]):
        return None
    kind, name, namespace, at = found
    if kind not in {"", "Pod"}:
        return None
    row = replace(unproven("Pod", name, namespace), ready=fraction(cells[at]), status=cells[at + 1])
    rest = list(cells[at + 2 :])
    if rest and NUMBER.fullmatch(rest[0]):
        row = replace(row, restarts=int(rest.pop(0)))
        if len(rest) >= 2 and rest[0].startswith("(") and rest[1] == "ago)":
            row = replace(row, restarted=age_seconds(rest[0][1:]))
            rest = rest[2:]
    if rest:
        row = replace(row, age=age_seconds(rest[0]))
    if len(rest) >= 3 and (rest[1] == "<none>" or "." in rest[1] or ":" in rest[1]):
        row = replace(row, node=None if rest[2] == "<none>" else rest[2])
    return row


def daemonset_row(cells: Sequence[str], heading: Heading) -> Row | None:
    """NAME DESIRED CURRENT READY UP-TO-DATE AVAILABLE NODE-SELECTOR AGE […]."""
    found = subject(cells, heading, NUMBER)
    if not found or not all(NUMBER.fullmatch(each) for each in cells[found[3] : found[3] + 5]):
        return None
    kind, name, namespace, at = found
    rest = cells[at + 5 :]
    if len(cells) < at + 5 or kind not in {"", "DaemonSet"} or not (rest or kind or heading.kind):
        return None
    numbers = [int(each) for each in cells[at : at + 5]]
    selector: dict[str, str] | None = None
    if rest and (rest[0] == "<none>" or "=" in rest[0]):
        pairs = [] if rest[0] == "<none>" else rest[0].split(",")
        selector = dict(each.split("=", 1) for each in pairs if "=" in each)
        rest = rest[1:]
    counts = dict(zip(("desired", "current", "ready", "updated", "available"), numbers, strict=True))
    return replace(
        unproven("DaemonSet", name, namespace),
        counts=counts,
        selector=selector,
        age=age_seconds(rest[0]) if rest else None,
    )


def workload_row(cells: Sequence[str], heading: Heading) -> Row | None:
    """Read a Deployment (READY UP-TO-DATE AVAILABLE AGE), a StatefulSet (READY AGE) or a Job (COMPLETIONS …)."""
    found = subject(cells, heading, READY)
    if not found:
        return None
    kind, name, namespace, at = found
    rest = cells[at + 1 :]
    numbers = [int(each) for each in rest[:2] if NUMBER.fullmatch(each)]
    base = replace(unproven(kind or heading.kind, name, namespace), ready=fraction(cells[at]))
    if len(numbers) == 2 and base.kind in {"", "Deployment"}:
        return replace(
            base,
            kind="Deployment",
            counts={"updated": numbers[0], "available": numbers[1]},
            age=age_seconds(rest[2]) if len(rest) > 2 else None,
        )
    if base.kind == "Job":
        return replace(base, age=age_seconds(rest[1]) if len(rest) > 1 else None)
    if base.kind == "StatefulSet":
        return replace(base, age=age_seconds(rest[0]) if rest else None)
    return None


def replicas_row(cells: Sequence[str], heading: Heading) -> Row | None:
    """NAME DESIRED CURRENT READY AGE: a ReplicaSet (or a ReplicationController, by its prefix)."""
    found = subject(cells, heading, NUMBER)
    if not found:
        return None
    kind, name, namespace, at = found
    if len(cells) < at + 4 or not all(NUMBER.fullmatch(each) for each in cells[at : at + 3]):
        return None
    age = age_seconds(cells[at + 3])
    if age is None or NUMBER.fullmatch(cells[at + 3]) or kind not in {"", "ReplicaSet", "ReplicationController"}:
        return None
    counts = dict(zip(("desired", "current", "ready"), map(int, cells[at : at + 3]), strict=True))
    return replace(unproven(kind or "ReplicaSet", name, namespace), counts=counts, age=age)


def node_row(cells: Sequence[str], heading: Heading) -> Row | None:
    """NAME STATUS ROLES AGE VERSION [INTERNAL-IP EXTERNAL-IP OS-IMAGE KERNEL-VERSION CONTAINER-RUNTIME]."""
    found = subject(cells, heading, NODE_STATUS)
    if not found or found[3] != 1 or found[0] not in {"", "Node"} or len(cells) < 5:
        return None
    if not re.fullmatch(r"v[0-9]+\.[0-9]+\S{0,60}", cells[4]) or age_seconds(cells[3]) is None:
        return None
    further = {"roles": cells[2], "version": cells[4]}
    rest = cells[5:]
    if len(rest) >= 4 and "://" in rest[-1]:  # wide: the OS image has spaces, what stands around it has none
        further |= {
            "internal-ip": rest[0],
            "os-image": " ".join(rest[2:-2]),
            "kernel-version": rest[-2],
            "container-runtime": rest[-1],
        }
    elif rest and "=" in rest[0] and "LABELS" in heading.columns:
        further["labels"] = rest[0]
    return replace(unproven("Node", found[1], None), status=cells[1], age=age_seconds(cells[3]), cells=further)


def policy_row(cells: Sequence[str], heading: Heading) -> Row | None:
    """Read a ClusterPolicy: NAME STATUS AGE, where the age may be a time."""
    found = subject(cells, heading, re.compile("ready|notReady|ignored|disabled"))
    if not found or found[0] not in {"", "ClusterPolicy"} or found[3] != 1 or len(cells) > 3:
        return None
    if not found[0] and heading.asked != "ClusterPolicy" and cells[0] not in {"cluster-policy", "gpu-cluster-policy"}:
        return None
    return replace(unproven("ClusterPolicy", found[1], None), status=cells[1])


def event_row(cells: Sequence[str], heading: Heading) -> Row | None:
    """LAST-SEEN TYPE REASON OBJECT [SUBOBJECT SOURCE] MESSAGE, with the namespace in front if there is one."""
    for at in range(min(len(cells) - 2, 9)):
        if cells[at] not in {"Normal", "Warning"}:
            continue
        about = PREFIX.fullmatch(cells[at + 2])
        if not about or not re.fullmatch(r"[A-Za-z]{2,80}", cells[at + 1]):
            continue
        before = [each for each in cells[:at] if age_seconds(each) is None]
        namespace = before[0] if before and NAME.fullmatch(before[0]) else heading.namespace
        ages = [age_seconds(each) for each in cells[:at]]
        times = next((each for each in before if re.fullmatch(r"\(x[0-9]{1,9}", each)), "(x1")
        further = {
            "type": cells[at],
            "object": f"{KINDS.get(about.group(1), about.group(1))}/{about.group(2)}",
            "message": " ".join(cells[at + 3 :]),
            "count": times[2:],
        }
        return replace(
            unproven("Event", about.group(2), namespace),
            status=cells[at + 1],
            age=next((each for each in ages if each is not None), None),
            cells=further,
        )
    return None


def other_row(cells: Sequence[str], heading: Heading) -> Row | None:
    """Any other row that names its kind (`service/kubernetes …`), or custom columns with as many cells as headings."""
    prefixed = next((PREFIX.fullmatch(each) for each in cells[:2] if PREFIX.fullmatch(each)), None)
    if prefixed and prefixed.group(1) in KINDS and KINDS[prefixed.group(1)] not in {"Pod", "DaemonSet"}:
        namespace = cells[0] if "/" not in cells[0] else heading.namespace
        return replace(unproven(KINDS[prefixed.group(1)], prefixed.group(2), namespace), age=age_seconds(cells[-1]))
    if not heading.columns or len(cells) != len(heading.columns) or "NAME" not in heading.columns:
        return None
    values = dict(zip((each.lower() for each in heading.columns), cells, strict=True))
    own = {key: each for key, each in values.items() if each != "<none>"}
    if not NAME.fullmatch(values["name"]):
        return None
    restarts = own.get("restarts", "")
    return replace(
        unproven(heading.kind or heading.asked, values["name"], own.get("namespace") or heading.namespace),
        status=own.get("status") or own.get("phase", ""),
        ready=fraction(own.get("ready", "")),
        restarts=int(restarts) if NUMBER.fullmatch(restarts) else None,
        node=own.get("node"),
        age=age_seconds(own.get("age", "")),
        cells=own,
    )


def fraction(cell: str) -> tuple[int, int] | None:
    """Read `1/2`."""
    match = READY.fullmatch(cell)
    return (int(match.group(1)), int(match.group(2))) if match else None
