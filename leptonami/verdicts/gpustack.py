"""The verdict on a cluster's GPU stack: node by node the link that is broken first, why, and what to do.

It does not believe a status alone. A ClusterPolicy is `ready` where no node has a GPU and where no node has the label
by which the operator finds them; a DaemonSet that wants no pod has all of them ready; a device plugin can be Running
and offer nothing. None of these is healthy here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from leptonami.proof import Proof
from leptonami.readers.decisive import decisive
from leptonami.readers.gpuoperands import CLUSTER_WIDE, Link
from leptonami.readers.gpuoperator import GpuNode, OperandSet, OperatorState, operator_state
from leptonami.readers.knownissues import Match, catalogue
from leptonami.readers.mustgather import Evidence
from leptonami.verdicts.driverimage import ClusterDriverImage, predict_for_cluster
from leptonami.verdicts.gpuchain import WAIT, LinkVerdict, NodeStack, judge_node
from leptonami.verdicts.gpuissues import known_issues
from leptonami.verdicts.operands import Health, OperandHealth, judge_operands
from leptonami.verdicts.waiting import early, just_come, starting

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Finding", "StackVerdict", "judge_stack", "matrix", "story", "table"]

NVIDIA = "nvcr.io/nvidia"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the cluster and not about one node."""

    state: Health
    text: str
    proof: Proof | None = None
    remedy: str = ""
    issues: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data, for `--json`."""
        return {
            "state": self.state.value,
            "text": self.text,
            "proof": self.proof.as_dict() if self.proof else None,
            "remedy": self.remedy,
            "issues": list(self.issues),
        }


@dataclass(frozen=True, slots=True)
class StackVerdict:
    """The verdict on a cluster.

    Parameters
    ----------
    state
        `broken` or `waiting` if any node or the operator itself is; `ok` if every GPU node offers its GPUs; else `not
        determined`, also where there is no GPU node.
    headline
        The verdict in one sentence.
    nodes
        The chain of each GPU node, the broken ones first; one chain with the name "" for a listing without nodes.
    operands
        Each operand on each node.
    findings
        What concerns the cluster: the operator, the ClusterPolicy, DaemonSets, pods that wait for a GPU.
    image
        The driver image that the operator asks for, if the ClusterPolicy (or a driver pod) tells what it is made of.
    known
        The known issues that messages, events and logs show.
    cannot_tell
        What the evidence says nothing about, a sentence each.
    version
        The operator's, "" if nothing tells.
    """

    state: Health
    headline: str
    nodes: tuple[NodeStack, ...]
    operands: tuple[OperandHealth, ...]
    findings: tuple[Finding, ...]
    image: ClusterDriverImage | None
    known: tuple[Match, ...]
    cannot_tell: tuple[str, ...]
    version: str = ""
    problems: tuple[str, ...] = ()

    @property
    def wrong(self) -> bool:
        """Tell whether something is wrong: the command's exit code 3."""
        return self.state is Health.BROKEN

    @property
    def issues(self) -> tuple[str, ...]:
        """Give the ids of all known issues that show, in a text or in a state, sorted."""
        found = {each.issue.id for each in self.known}
        found |= {issue for each in self.findings for issue in each.issues}
        found |= {issue for node in self.nodes for link in node.links for issue in link.issues}
        return tuple(sorted(found))

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data, for `--json`."""
        return {
            "state": self.state.value,
            "headline": self.headline,
            "story": story(self),
            "operator_version": self.version,
            "nodes": [each.as_dict() for each in self.nodes],
            "operands": [each.as_dict() for each in self.operands],
            "findings": [each.as_dict() for each in self.findings],
            "driver_image": self.image.as_dict() if self.image else None,
            "issues": list(self.issues),
            "known_issues": [each.as_dict() for each in self.known],
            "cannot_tell": list(self.cannot_tell),
            "problems": list(self.problems),
        }


def judge_stack(evidence: Evidence | OperatorState, *, now: datetime | None = None) -> StackVerdict:
    """Judge a cluster's GPU stack.

    Parameters
    ----------
    evidence
        What `leptonami.readers.mustgather.read_evidence` read, or the state made of it.
    now
        When the evidence was collected, if the caller knows; else its latest time counts.
    """
    state = evidence if isinstance(evidence, OperatorState) else operator_state(evidence, now=now)
    operands = judge_operands(state)
    by_node: dict[str | None, list[OperandHealth]] = {}
    for each in operands:
        by_node.setdefault(each.node, []).append(each)
    nodes = [judge_node(each, state, by_node.get(each.name, [])) for each in state.nodes]
    unnamed = by_node.get(None, [])
    if any(each.operand not in CLUSTER_WIDE for each in unnamed) or (state.plugin_logs and not state.nodes):
        nodes.append(judge_node(None, unplaced(state), unnamed))
    nodes.sort(key=lambda each: (ORDER.index(each.state), each.node))
    image = predicted(state)
    findings = tuple(sorted(found_in(state, operands, image), key=lambda each: ORDER.index(each.state)))
    overall = overall_state(nodes, findings)
    return StackVerdict(
        state=overall,
        headline=headline_of(overall, state, nodes, operands, findings),
        nodes=tuple(nodes),
        operands=operands,
        findings=findings,
        image=image,
        known=known_issues(state, broken=any(each.health is Health.BROKEN for each in operands)),
        cannot_tell=tuple(missing(state, nodes)),
        version=state.version.text if state.version else "",
        problems=state.problems,
    )


# The operands that have exactly one pod on every GPU node, whatever is switched off.
PER_NODE = ("container-toolkit", "device-plugin", "operator-validator", "gpu-feature-discovery")
ORDER = (Health.BROKEN, Health.WAITING, Health.NOT_DETERMINED, Health.OK, Health.NOT_EXPECTED)


def unplaced(state: OperatorState) -> OperatorState:
    """Give the state with those pods alone whose node is unknown, for the chain that they make together."""
    if not state.nodes:
        return state
    from dataclasses import replace

    return replace(state, pods=tuple(each for each in state.pods if each.node not in state.by_node))


def overall_state(nodes: list[NodeStack], findings: tuple[Finding, ...]) -> Health:
    """Join what is known of the nodes and of the cluster."""
    states = {each.state for each in nodes} | {each.state for each in findings}
    if Health.BROKEN in states:
        return Health.BROKEN
    if Health.WAITING in states:
        return Health.WAITING
    if not nodes or any(each.state is not Health.OK for each in nodes):
        return Health.NOT_DETERMINED
    return Health.OK


def predicted(state: OperatorState) -> ClusterDriverImage | None:
    """Predict the driver image, if the ClusterPolicy says what it is made of and nodes are known."""
    policy = state.policy
    nodes = [(each.name, each.node.labels) for each in state.nodes if each.node]
    if not policy or not policy.driver_version or policy.enabled.get("driver") is False or not nodes:
        return None
    return predict_for_cluster(
        nodes,
        policy.driver_repository or NVIDIA,
        policy.driver_image or "driver",
        policy.driver_version,
        operator=state.version.text if state.version else None,
        precompiled=policy.driver_precompiled,
        per_pool=policy.driver_crd,
    )


def found_in(
    state: OperatorState, operands: tuple[OperandHealth, ...], image: ClusterDriverImage | None
) -> Iterator[Finding]:
    """Find what concerns the cluster."""
    for each in operands:
        if each.operand in CLUSTER_WIDE and each.health in {Health.BROKEN, Health.WAITING}:
            issues = (
                ("K12", *each.issues) if each.operand == "gpu-operator" and "OOMKilled" in each.why else each.issues
            )
            yield Finding(each.health, each.why, each.proof, f"read the log of {each.pod}", issues)
    if state.no_nfd_label:
        yield unlabelled(state, "no node has an NFD label of an NVIDIA device", state.no_nfd_label)
    if state.no_policy:
        text, remedy = "there is no ClusterPolicy, so the operator does nothing", "install the operator's chart whole"
        yield Finding(Health.BROKEN, text, state.no_policy, remedy)
    yield from of_policy(state)
    yield from of_sets(state)
    yield from of_image(state, image)
    waiting = state.workloads_on("")
    waiting = tuple(each for each in waiting if not each.terminal)
    if waiting:
        text = (
            f"{len(waiting)} pod(s) that ask for a GPU are on no node, such as {waiting[0].namespace}/{waiting[0].name}"
        )
        why = next((each.message for each in waiting[0].conditions if each.status == "False" and each.message), "")
        yield Finding(
            Health.NOT_DETERMINED, f"{text}{': ' + decisive([why]) if why else ''}", waiting[0].proof(waiting[0].status)
        )


def of_policy(state: OperatorState) -> Iterator[Finding]:
    """Judge the ClusterPolicy's status, without believing `ready`."""
    policy = state.policy
    if not policy:
        return
    ready = policy.condition("Ready")
    error = policy.condition("Error")
    reason = ready.reason if ready else ""
    if reason == "NFDLabelsMissing":
        text = f"the ClusterPolicy is {policy.state}, but for the reason NFDLabelsMissing: no node has the label"
        yield unlabelled(state, text, policy.proof)
    elif reason == "NoGPUNodes":
        text = f"the ClusterPolicy is {policy.state}, but for the reason NoGPUNodes: there is nothing to be ready"
        yield Finding(Health.NOT_DETERMINED, text, policy.proof)
    elif policy.state == "ready" and state.nodes_known and not state.nodes:
        yield Finding(Health.NOT_DETERMINED, "the ClusterPolicy is ready, and there is no GPU node", policy.proof)
    elif policy.state and policy.state not in {"ready", "disabled"}:
        why = error if error and error.status == "True" else ready
        told = f": {why.reason} {why.message}".rstrip() if why and why.reason else ""
        waits = (
            Health.BROKEN if error and error.status == "True" and error.reason == "ReconcileFailed" else Health.WAITING
        )
        yield Finding(
            waits, f"the ClusterPolicy is {policy.state}{told}", policy.proof, "read the gpu-operator pod's log"
        )


def unlabelled(state: OperatorState, text: str, proof: Proof) -> Finding:
    """Judge that no node has NFD's label, without which the operator does nothing: it comes some time after a node."""
    if came := recent(state):
        return Finding(Health.WAITING, f"{text} yet: {came}", proof, WAIT)
    return Finding(
        Health.BROKEN, f"{text}, so the operator does nothing", proof, "see that node feature discovery runs", ("K06",)
    )


def of_sets(state: OperatorState) -> Iterator[Finding]:
    """Judge DaemonSets that want no pod (those for MIG and MPS often do), and operands that differ in number."""
    none = [each for each in state.sets if each.desired == 0 and each.operand.usual and each.operand.key != "driver"]
    stale = [each for each in none if state.of_operand(each.operand.key) or not (each.counted or early(each))]
    empty = [each for each in none if each not in stale]
    if stale:
        pods = " and have pods" if state.of_operand(stale[0].operand.key) else ""
        text = f"{names(stale)} say DESIRED 0{pods}: their status is not kept up"
        yield Finding(Health.NOT_DETERMINED, text, stale[0].proof)
    if empty and state.nodes:
        came = [recent(state, each.operand.key) for each in empty]
        late = [each for each, why in zip(empty, came, strict=True) if not why]
        if late:
            text = f"{names(late)} want no pod (DESIRED 0), though there are {len(state.nodes)} GPU nodes"
            remedy = "see that the nodes have their NFD labels, and that the DaemonSets tolerate their taints"
            yield Finding(Health.BROKEN, text, late[0].proof, remedy, ("K06",))
        else:
            text = f"{names(empty)} want no pod (DESIRED 0) yet: {came[0]}"
            yield Finding(Health.WAITING, text, empty[0].proof, WAIT)
    elif empty:
        why = "there is no GPU node" if state.nodes_known else "there is no GPU node, or none has its NFD label"
        yield Finding(Health.NOT_DETERMINED, f"{names(empty)} want no pod (DESIRED 0): {why}", empty[0].proof)
    if not state.nodes:
        counts = {key: state.of_operand(key) for key in PER_NODE if state.of_operand(key)}
        if len({len(each) for each in counts.values()}) > 1:
            told = ", ".join(f"{len(each)} {key}" for key, each in counts.items())
            few = min(counts.values(), key=len)
            yield Finding(Health.WAITING, f"not every GPU node has a pod of every operand: {told}", few[0].proof)


def recent(state: OperatorState, key: str = "") -> str:
    """Say what has come so lately that nothing (or no pod of this operand) can be expected on any GPU node yet."""
    came = [just_come(state, each, key) for each in state.nodes or (None,)]
    return came[0] if all(came) else ""


def names(several: Sequence[OperandSet]) -> str:
    """Name DaemonSets, or count them if there are many."""
    return f"{len(several)} DaemonSets" if len(several) > 2 else " and ".join(each.name for each in several)


def of_image(state: OperatorState, image: ClusterDriverImage | None) -> Iterator[Finding]:
    """Judge the driver image that the operator asks for, where it is the operator that brings the driver."""
    if not image or not image.image:
        return
    proof = state.policy.proof if state.policy else None
    asking = [each for each in state.nodes if not each.preinstalled]
    if not asking:
        return
    looking = bool(state.pods) and all(is_looked_at(state, each) for each in asking)
    health = Health.WAITING if looking else Health.BROKEN
    unless = "; unless the nodes have a driver, for which k8s-driver-manager is looking" if looking else ""
    if image.image.published is False:
        text = f"the operator asks for {image.image.image}, which does not exist: {image.image.why}"
        remedy = WAIT if looking else "use Ubuntu nodes, or an AMI with the driver and driver.enabled=false"
        issues = ("K01",) if image.image.os.startswith("amzn") and not looking else ()
        yield Finding(health, f"{text}{unless}", proof, remedy, issues)
    if image.wrong:
        names = ", ".join(name for name, _ in image.wrong[:3])
        more = f" and {len(image.wrong) - 3} more" if len(image.wrong) > 3 else ""
        get = "get" if len(image.wrong) > 1 else "gets"
        text = f"{names}{more} {get} the driver image of another OS ({image.image.image}): {image.note}"
        remedy = WAIT if looking else "use NVIDIADriver resources, or one OS for all GPU nodes"
        yield Finding(health, f"{text}{unless}", proof, remedy)


def is_looked_at(state: OperatorState, node: GpuNode) -> bool:
    """Tell whether the driver pod is still finding out if its node has one: it does not pull its image yet."""
    pods = state.of_operand("driver", node.name)
    return all(starting(each, state) for each in pods) if pods else bool(just_come(state, node, "driver"))


def missing(state: OperatorState, nodes: list[NodeStack]) -> Iterator[str]:
    """Say what the evidence tells nothing about."""
    if not state.nodes_known:
        yield "which GPU nodes there are, their labels, and how many GPUs each offers (kubectl get nodes -o yaml)"
    if any(not each.node for each in nodes):
        yield "which pod is on which node (kubectl get pods -o wide, or -o yaml)"
    if not state.policy and not state.no_policy:
        yield "what the ClusterPolicy asks for and says (kubectl get clusterpolicies.nvidia.com -o yaml)"
    if not state.version:
        yield "the operator's version, by which it depends which validator pods there are (the pods as YAML have it)"
    if not state.nodes_known and not state.plugin_logs and state.of_operand("device-plugin"):
        yield "whether a device plugin that is Running has found its GPUs (its log)"


def headline_of(
    overall: Health,
    state: OperatorState,
    nodes: list[NodeStack],
    operands: tuple[OperandHealth, ...],
    findings: tuple[Finding, ...],
) -> str:
    """Say the verdict in one sentence."""
    if not nodes:
        return headline_without_nodes(overall, state, findings)
    if overall in {Health.BROKEN, Health.WAITING}:
        return headline_of_trouble(overall, nodes, findings)
    count = len([each for each in nodes if each.node])
    if overall is Health.NOT_DETERMINED:
        known = "no link is known to be broken, and what the GPU nodes offer is not in the evidence"
        if not state.pods and state.plugin_logs:
            known = f"{nodes[0].link(Link.DEVICE_PLUGIN).why}; there is no more than a log"
        return f"not determined: {known}"
    if not count or any(each.node is None for each in state.nodes):
        return f"healthy as far as a listing can tell: {listed(operands)}"
    return f"healthy: {'the GPU node offers its GPUs' if count == 1 else f'all {count} GPU nodes offer their GPUs'}"


def headline_of_trouble(overall: Health, nodes: list[NodeStack], findings: tuple[Finding, ...]) -> str:
    """Say in one sentence what is broken, or not ready yet."""
    word = "broken" if overall is Health.BROKEN else "not ready yet"
    bad = [each for each in nodes if each.state is overall and each.first]
    if not bad or not bad[0].first:
        return f"{word}: {next(each.text for each in findings if each.state is overall)}"
    link = bad[0].first.link
    same = [each for each in bad if each.first and each.first.link is link]
    count = len([each for each in nodes if each.node])
    where = f" on {len(bad)} of {count} GPU nodes" if count > 1 else ""
    others = f" on {len(same)} of them" if len(same) < len(bad) else ""
    return f"{word}{where}: the first link that is not whole is the {link}{others}"


def listed(operands: tuple[OperandHealth, ...]) -> str:
    """Count what a listing shows, for its headline."""
    kinds = {each.operand for each in operands if each.pod and each.operand not in CLUSTER_WIDE}
    each_node = len([each for each in operands if each.operand == "device-plugin" and each.pod])
    completed = len([each for each in operands if each.pod and each.why.endswith("Completed")])
    size = f"on what must be {each_node} GPU node{'s' if each_node != 1 else ''}" if each_node else ""
    done = f", {completed} validator pods Completed as they should be" if completed else ""
    return f"all pods of {len(kinds)} operands are well {size}{done}".replace("  ", " ")


def headline_without_nodes(overall: Health, state: OperatorState, findings: tuple[Finding, ...]) -> str:
    """Say the verdict where no GPU node is known."""
    if overall is Health.BROKEN:
        return f"broken: {findings[0].text}"
    if state.nodes_known:
        others = (
            f" ({state.other_nodes} other node{'s' if state.other_nodes != 1 else ''})" if state.other_nodes else ""
        )
        return f"no GPU node{others}: nothing to judge"
    if findings:
        return f"not determined: {findings[0].text}"
    return "not determined: there is nothing about GPU nodes or the operator's pods in the evidence"


NOBODY = NodeStack("", "", ())


def story(verdict: StackVerdict) -> list[str]:
    """Tell the verdict in two to six plain sentences: what is broken first, where, why, and what to do."""
    told = [sentence(verdict.headline)]
    worst = next((each for each in verdict.nodes if each.first), None)
    if worst and worst.first:
        first = worst.first
        where = f"On {worst.node}: " if worst.node else ""
        told.append(sentence(f"{where}{first.why}"))
        if first.remedy:
            told.append(sentence(f"What to do: {first.remedy}"))
        titles = [f"{each.id}, {each.title}" for each in catalogue() if each.id in first.issues]
        told += [sentence(f"It is known as {'; '.join(titles[:2])}")] if titles else []
    finding = next((each for each in verdict.findings if sentence(each.text)[1:-1] not in told[0]), None)
    if finding and not (worst and finding.state is Health.NOT_DETERMINED):
        told.append(sentence(finding.text))
    if finding and finding.remedy and not worst:
        told.append(sentence(f"What to do: {finding.remedy}"))
    # The last notes are about the validator, and these matter most: they say what keeps a node from being removed.
    told += [sentence(each) for each in (worst or NOBODY).notes[-2:]]
    host = next((each for node in verdict.nodes for each in node.links if "on the host" in each.why), None)
    if host and host.state is Health.OK and verdict.state is Health.OK:
        told.append(sentence(f"The driver: {host.why}"))
    if verdict.state is not Health.BROKEN and verdict.cannot_tell:
        told.append(sentence(f"The evidence cannot tell {verdict.cannot_tell[0]}"))
    if len(told) == 1:
        told.append(sentence(second(verdict)))
    return told[:6]


def second(verdict: StackVerdict) -> str:
    """Give a second sentence where the headline says it all."""
    if verdict.issues:
        return f"Known issues that show: {', '.join(verdict.issues)}"
    if verdict.nodes:
        offered: LinkVerdict = verdict.nodes[0].link(Link.ALLOCATABLE)
        return f"{verdict.nodes[0].node or 'The listing'}: {offered.why}"
    return "Collect the evidence while a GPU node is there"


def sentence(text: str) -> str:
    """Make a sentence of it."""
    text = text.strip().rstrip(".")
    word = text.partition(" ")[0].rstrip(",:;")
    return f"{text[:1].upper() if word.isalpha() else text[:1]}{text[1:]}."  # names keep their case


def table(verdict: StackVerdict) -> pd.DataFrame:
    """Give a row for each GPU node: how it stands, the first link that is not whole, why, what to do, and the proof."""
    import pandas as pd

    rows = [
        {
            "node": each.node or "(not named)",
            "state": each.state.value,
            "first": each.first.link.value if each.first else "",
            "why": each.first.why if each.first else each.link(Link.ALLOCATABLE).why,
            "remedy": each.first.remedy if each.first else "",
            "issues": ", ".join(each.first.issues) if each.first else "",
            "proof": str((each.first or each.link(Link.ALLOCATABLE)).proof or ""),
            **{link.link.value: link.state.value for link in each.links},
        }
        for each in verdict.nodes
    ]
    columns = ["node", "state", "first", "why", "remedy", "issues", "proof", *(each.value for each in Link)]
    return pd.DataFrame(rows, columns=columns)


def matrix(verdict: StackVerdict) -> pd.DataFrame:
    """Give operands × nodes: a row for each operand, a column for each node, the health in words.

    Pods of which nobody knows the node are counted in one column, `(not named)`, by the worst of them.
    """
    import pandas as pd

    cells: dict[str, dict[str, Health]] = {}
    for each in verdict.operands:
        if each.operand in CLUSTER_WIDE:
            continue
        row = cells.setdefault(each.operand, {})
        name = each.node or "(not named)"
        row[name] = min(row.get(name, each.health), each.health, key=ORDER.index)
    nodes = sorted({name for row in cells.values() for name in row})
    rows = {key: [row[name].value if name in row else "" for name in nodes] for key, row in cells.items()}
    found = pd.DataFrame.from_dict(rows, orient="index", columns=nodes, dtype=object)
    found.index.name = "operand"
    return found
