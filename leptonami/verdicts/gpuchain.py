"""The chain of a GPU node: NFD label, driver, toolkit, device plugin, allocatable, validator, workload.

Each link needs the one before it, so the first that is not whole is the one to mend; what fails behind it fails because
of it. A link that nothing tells about is not determined, and never counted as whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from leptonami.proof import Proof
from leptonami.readers.deviceplugin import DevicePluginLog, PluginState
from leptonami.readers.gpuoperands import CLUSTER_WIDE, NFD_LABELS, PRESENT, Link, is_gpu_resource
from leptonami.readers.gpuoperator import GpuNode, OperatorState
from leptonami.readers.knownissues import catalogue
from leptonami.readers.operandpods import OperandPod, seconds
from leptonami.verdicts.operands import Health, OperandHealth, host_driver, step_of, worst
from leptonami.verdicts.waiting import SETTLING, just_come, running, starting

__all__ = ["LinkVerdict", "NodeStack", "judge_node"]

DRIVER_STEP = "driver-validation"

REMEDIES = {
    Link.NFD: "see that node feature discovery runs on the node (its worker must tolerate the node's taints) and finds "
    "the PCI device; without its label the operator does nothing on a node",
    Link.DRIVER: "read the driver pod's log and dmesg on the node; or use an AMI with the driver and "
    "driver.enabled=false",
    Link.TOOLKIT: "read the toolkit pod's log; on AMIs that have the toolkit set toolkit.enabled=false",
    Link.DEVICE_PLUGIN: "read the device plugin's log; see that its pod runs with the nvidia runtime",
    Link.ALLOCATABLE: "read the device plugin's log, restart its pod; a GPU that is gone needs a reboot or "
    "another node",
    Link.VALIDATOR: "read the log of the validator pod that failed",
    Link.WORKLOAD: "look at the pod's events",
}
WAIT = "wait, and look again: whatever takes longer than the 15 minutes that a healthy one may need is called broken"
PULL = re.compile(r"\b(?:Init:)?(?:ImagePullBackOff|ErrImagePull|InvalidImageName|ErrImageNeverPull)\b")
# A container that never began has no log.
PULL_REMEDY = "see in the pod's events (kubectl describe pod) why its image cannot be pulled"
NO_DRIVER_IMAGE = (
    "; not every OS has a driver image (leptonami explain gpu-operator --os): where there is none, use Ubuntu nodes, "
    "or an AMI with the driver and driver.enabled=false"
)
IDLE_REMEDY = (
    "the plugin sees no driver library: make nvidia the default runtime or give its pod the runtimeClass nvidia, and "
    "set failOnInitError=true so that the pod fails visibly"
)


@dataclass(frozen=True, slots=True)
class LinkVerdict:
    """How a link of the chain stands.

    Parameters
    ----------
    why
        In one sentence.
    proof
        The object, line or row; only a link that is not determined, or waits for an earlier one, may have none.
    remedy
        What to do; empty if nothing is to be done.
    issues
        The ids of the known issues that it shows.
    """

    link: Link
    state: Health
    why: str
    proof: Proof | None = None
    remedy: str = ""
    issues: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data, for `--json`."""
        return {
            "link": self.link.value,
            "state": self.state.value,
            "why": self.why,
            "proof": self.proof.as_dict() if self.proof else None,
            "remedy": self.remedy,
            "issues": list(self.issues),
        }


@dataclass(frozen=True, slots=True)
class NodeStack:
    """The chain of one node.

    Parameters
    ----------
    node
        Its name; "" for a listing that does not tell nodes apart.
    sign
        By what it is known for a GPU node.
    links
        All seven, in order.
    notes
        What else there is to know, a sentence each.
    """

    node: str
    sign: str
    links: tuple[LinkVerdict, ...]
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> LinkVerdict | None:
        """Give the first link that is broken or waits; None if there is none."""
        return next((each for each in self.links if each.state in {Health.BROKEN, Health.WAITING}), None)

    @property
    def state(self) -> Health:
        """Say how the node stands: broken or waiting by its links, ok if it offers its GPUs, else not determined."""
        states = [each.state for each in self.links]
        if Health.BROKEN in states:
            return Health.BROKEN
        if Health.WAITING in states:
            return Health.WAITING
        return self.link(Link.ALLOCATABLE).state if states else Health.NOT_DETERMINED

    def link(self, which: Link) -> LinkVerdict:
        """Give one link."""
        return next(each for each in self.links if each.link is which)

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data, for `--json`."""
        return {
            "node": self.node,
            "state": self.state.value,
            "gpu_node_by": self.sign,
            "first": self.first.link.value if self.first else None,
            "links": [each.as_dict() for each in self.links],
            "notes": list(self.notes),
        }


class Chain:
    """The judging of one node (or, with None, of all pods of a listing together)."""

    def __init__(self, node: GpuNode | None, state: OperatorState, operands: Sequence[OperandHealth]) -> None:
        self.node = node
        self.name = node.name if node else None
        self.state = state
        self.operands = [each for each in operands if each.node == self.name and each.operand not in CLUSTER_WIDE]
        self.links: list[LinkVerdict] = []
        self.notes: list[str] = []

    def pods(self, key: str) -> tuple[OperandPod, ...]:
        """Give the operand's pods of this chain."""
        return self.state.of_operand(key, self.name)

    def health(self, *keys: str) -> OperandHealth | None:
        """Give how operands with pods stand, the worst of them; None if none has a pod."""
        with_pods = [each for each in self.operands if each.operand in keys and each.pod]
        return worst(with_pods) if with_pods else None

    def made(
        self, link: Link, state: Health, why: str, proof: Proof | None = None, *issues: str, remedy: str = ""
    ) -> LinkVerdict:
        """Say how a link stands; the remedy is told where the chain breaks first."""
        if state in {Health.BROKEN, Health.WAITING} and not remedy and not self.held():
            known = next((each for each in catalogue() if each.id in issues), None)
            late = WAIT if state is Health.WAITING and link is not Link.WORKLOAD else REMEDIES[link]
            remedy = known.remedy if known else pull_remedy(link) if PULL.search(why) else late
        return LinkVerdict(link, state, why, proof, remedy, issues)

    def held(self) -> LinkVerdict | None:
        """Give the link before this one that is not whole, if there is one: this one cannot be either."""
        return next((each for each in self.links if each.state in {Health.BROKEN, Health.WAITING}), None)

    def of_operand(self, link: Link, found: OperandHealth) -> LinkVerdict:
        """Say that a link stands as its operand's pod does."""
        return self.made(link, found.health, found.why, found.proof, *found.issues)

    def passed(self) -> OperandPod | None:
        """Give a pod that has the driver's validation behind it, which its first init container waits for.

        A device plugin without the operator has no such init container, and runs whatever there is.
        """
        for key in (
            "operator-validator",
            "container-toolkit",
            "gpu-feature-discovery",
            "dcgm-exporter",
            "device-plugin",
        ):
            for each in self.pods(key):
                names = [one.name for one in each.pod.init_containers] if each.pod else []
                waited = any(name.endswith("-validation") for name in names) or (
                    not each.pod and key != "device-plugin"
                )
                step = step_of(each) if waited else None
                if step == "" or (key == "operator-validator" and step and step != DRIVER_STEP):
                    return each
        return None

    def serves(self) -> Proof | None:
        """Prove that GPUs are offered: by the node, by the device plugin's log, or by the validator, which saw them."""
        node = self.node.node if self.node else None
        if node:
            return node.proof(f"allocatable: {amounts(node.allocatable)}") if offered(node.allocatable) else None
        for log in self.logs():
            if log.state is PluginState.SERVING:
                return log.proof
        return next((each.proof for each in self.pods("operator-validator") if each.healthy), None)

    def nfd(self) -> Iterator[LinkVerdict]:
        """Judge the label by which everything begins."""
        node = self.node.node if self.node else None
        gated = next((each for each in self.operands if each.pod), None)
        if node and self.node:
            for label in (*NFD_LABELS, PRESENT):
                if node.labels.get(label) == "true":
                    yield self.made(Link.NFD, Health.OK, f"the node has {label}", node.proof(f"{label}=true"))
            none, proof = "the node has no NFD label of an NVIDIA device", node.proof(self.node.sign)
            if gated or offered(node.allocatable):
                why = f"{none}, yet {'pods of operands run there' if gated else 'it offers GPUs'}"
                yield self.made(Link.NFD, Health.NOT_DETERMINED, why, proof)
            if came := just_come(self.state, self.node):
                yield self.made(Link.NFD, Health.WAITING, f"{none} yet: {came}", proof, remedy=WAIT)
            workers = (*self.pods("nfd-worker"), *self.state.of_operand("nfd-master"))
            worker = next((each for each in workers if not each.healthy), None)
            why = f"{none}, so that no operand runs there{f'; {worker.name} is {worker.status}' if worker else ''}"
            yield self.made(Link.NFD, Health.BROKEN, why, proof, "K06")
        elsewise = next((each for each in self.state.sets if each.operand.usual and each.desired is not None), None)
        selected = elsewise is None or any(key.startswith("nvidia.com/") for key in elsewise.selector)
        if gated and gated.proof and selected:
            why = "pods of operands are there, which only go where the label is"
            yield self.made(Link.NFD, Health.OK, why, gated.proof)
        yield self.made(Link.NFD, Health.NOT_DETERMINED, "no node's labels are known")

    def driver(self) -> Iterator[LinkVerdict]:
        """Judge the driver: a container's, or the host's."""
        pod, host, passed = self.health("driver"), host_driver(self.node, self.state), self.passed()
        stuck = self.driver_validation_stuck()
        preinstalled = self.node and self.node.preinstalled
        if pod and pod.health is Health.OK:
            yield self.of_operand(Link.DRIVER, pod)
        if pod and pod.health is Health.WAITING and (preinstalled or (passed and "about a minute" in pod.why)):
            proof = host[1] if host else pod.proof
            yield self.made(Link.DRIVER, Health.OK, f"the driver is on the host; {pod.why}", proof)
        if pod:
            if tests := self.pods("cuda-validator"):
                self.notes.append(
                    f"{tests[0].name} is there, which the validator creates only when the driver and the toolkit have "
                    f"passed: they worked once, or {pod.pod} tells less than the truth"
                )
            yield self.of_operand(Link.DRIVER, pod)
        if stuck and host:
            why = f"{host[0]}, but {stuck.name} waits for the driver: there is none on the host"
            issues = ("K22",) if preinstalled else ()
            remedy = "use an AMI with the driver; or set driver.enabled=true, and take a stale label off the node"
            yield self.made(Link.DRIVER, Health.BROKEN, why, stuck.proof, *issues, remedy=remedy)
        if passed:
            said = f"; {host[0]}" if host else ""
            why = f"no driver pod, and {passed.name} found a driver all the same: it is on the host{said}"
            yield self.made(Link.DRIVER, Health.OK, why, passed.proof)
        if not self.state.pods and not self.node:
            yield self.driver_by_log()
        if serves := self.serves():
            why = f"no driver pod, and GPUs are offered: the driver is on the host{f'; {host[0]}' if host else ''}"
            yield self.made(Link.DRIVER, Health.OK, why, serves)
        if stuck:
            why = f"there is no driver pod, and {stuck.name} waits for a driver"
            yield self.made(Link.DRIVER, Health.BROKEN, why, stuck.proof)
        absent = next((each for each in self.operands if each.operand == "driver"), None)
        if absent and absent.health in {Health.BROKEN, Health.WAITING}:
            yield self.of_operand(Link.DRIVER, absent)
        if host:
            yield self.made(Link.DRIVER, Health.NOT_DETERMINED, f"{host[0]}; nothing proves that it works", host[1])
        yield self.made(Link.DRIVER, Health.NOT_DETERMINED, "no driver pod, and no pod that would have waited for one")

    def driver_by_log(self) -> LinkVerdict:
        """Judge the driver where there is no more than the device plugin's log: it finds the driver, or does not."""
        for each in self.logs():
            if each.state is PluginState.SERVING and each.proof:
                where = {True: ", on the host", False: ", in a container", None: ""}[each.driver_on_host]
                why = f"the device plugin found a driver{where}"
                return self.made(Link.DRIVER, Health.OK, why, each.environment_proof or each.proof)
        return self.made(Link.DRIVER, Health.NOT_DETERMINED, "no pods are in the evidence")

    def driver_validation_stuck(self) -> OperandPod | None:
        """Give a pod that has been waiting for the driver for longer than a healthy one does."""
        for each in (*self.pods("operator-validator"), *self.pods("container-toolkit")):
            inits = each.pod.init_containers if each.pod else ()
            step = next((one for one in inits if one.name == DRIVER_STEP), None)
            if step_of(each) != DRIVER_STEP or (step and step.state == "waiting" and starting(each, self.state)):
                continue  # or its image is still being pulled
            since = step.since if step and step.state == "running" else None
            ran = seconds(since, self.state.taken) if since else each.age
            if ran is None or ran > SETTLING:
                return each
        return None

    def toolkit(self) -> Iterator[LinkVerdict]:
        """Judge the container toolkit: a pod's, or the AMI's."""
        pod = self.health("container-toolkit")
        if pod:
            yield self.of_operand(Link.TOOLKIT, pod)
        if (self.node or self.state.pods) and (serves := self.serves()):
            off = self.state.policy and self.state.policy.enabled.get("container-toolkit") is False
            why = f"no toolkit pod{', since toolkit.enabled is false' if off else ''}, and GPUs are offered: the AMI's"
            yield self.made(Link.TOOLKIT, Health.OK, why, serves)
        yield self.absent(Link.TOOLKIT, "container-toolkit")

    def absent(self, link: Link, key: str) -> LinkVerdict:
        """Say how a link stands whose operand has no pod."""
        found = next((each for each in self.operands if each.operand == key), None)
        if found and found.health in {Health.BROKEN, Health.WAITING}:
            return self.of_operand(link, found)
        held = self.held()
        why = f"it waits for the {held.link}" if held else found.why if found else "it has no pod in the evidence"
        return self.made(link, Health.NOT_DETERMINED, why)

    def logs(self) -> list[DevicePluginLog]:
        """Give the device plugins' logs of this chain."""
        names = {each.name for each in self.pods("device-plugin")}
        alone = not self.node and not self.state.of_operand("device-plugin")
        return [
            each for each in self.state.plugin_logs if each.pod in names or alone or (not self.node and not each.pod)
        ]

    def idle(self) -> DevicePluginLog | None:
        """Give the log of a device plugin that waits for ever, or gave up."""
        return next((each for each in self.logs() if each.state in {PluginState.IDLE, PluginState.FAILED}), None)

    def device_plugin(self) -> Iterator[LinkVerdict]:
        """Judge the device plugin, which can be Running and do nothing."""
        pod, idle = self.health("device-plugin"), self.idle()
        if idle and idle.proof:
            waits = "waits for ever without devices" if idle.state is PluginState.IDLE else "failed to start"
            running = "is Running, and " if pod and pod.health is Health.OK else ""
            why = f"{idle.pod or 'the device plugin'} {running}{waits}"
            issues = ("K16",) if idle.state is PluginState.IDLE else ()
            yield self.made(Link.DEVICE_PLUGIN, Health.BROKEN, why, idle.proof, *issues, remedy=IDLE_REMEDY)
        if pod and pod.health is Health.OK:
            node = self.node.node if self.node else None
            if node and not offered(node.allocatable) and not offered(node.capacity) and not self.registering():
                why = f"{pod.pod} is Running, and the node has no GPU to offer"
                proof = node.proof("allocatable has no nvidia.com/gpu")
                yield self.made(Link.DEVICE_PLUGIN, Health.BROKEN, why, proof, "K16", remedy=IDLE_REMEDY)
            for each in self.logs():
                if each.state is PluginState.SERVING:
                    why = f"{pod.why} and registered {', '.join(each.resources)}"
                    yield self.made(Link.DEVICE_PLUGIN, Health.OK, why, each.proof)
            yield self.of_operand(Link.DEVICE_PLUGIN, pod)
        if pod:
            yield self.of_operand(Link.DEVICE_PLUGIN, pod)
        for each in self.logs():
            if each.state is PluginState.SERVING:
                why = f"{each.pod or 'the device plugin'} registered {', '.join(each.resources)} with the kubelet"
                yield self.made(Link.DEVICE_PLUGIN, Health.OK, why, each.proof)
        yield self.absent(Link.DEVICE_PLUGIN, "device-plugin")

    def registering(self) -> OperandPod | None:
        """Give a device plugin that has started so lately that the node may be about to offer its GPUs."""
        for each in self.pods("device-plugin"):
            ran = running(each, self.state)
            if each.healthy and ran is not None and ran <= SETTLING:
                return each
        return None

    def allocatable(self) -> Iterator[LinkVerdict]:
        """Judge what the node offers: GPUs, all of them, none lost."""
        node = self.node.node if self.node else None
        if node is None:
            for each in self.pods("operator-validator"):
                if each.healthy:
                    why = f"{each.name} runs, so the node had GPUs to offer then; how many now is not in the evidence"
                    yield self.made(Link.ALLOCATABLE, Health.OK, why, each.proof)
            yield self.made(Link.ALLOCATABLE, Health.NOT_DETERMINED, "what the nodes offer is not in the evidence")
            return
        offers, has = offered(node.allocatable), offered(node.capacity)
        if not offers:
            held = self.held()
            proof = node.proof(f"allocatable: {amounts(node.allocatable) or 'no nvidia.com/gpu'}")
            if held:
                why = f"the node offers no GPU, since the {held.link} is not whole"
                yield self.made(Link.ALLOCATABLE, Health.WAITING, why, proof)
            if plugin := self.registering():
                why = f"the node offers no GPU yet: {plugin.name} has just started"
                yield self.made(Link.ALLOCATABLE, Health.WAITING, why, proof, remedy=WAIT)
            if has:
                why = f"none of its GPUs is healthy ({amounts(node.capacity)} in capacity)"
                yield self.made(Link.ALLOCATABLE, Health.BROKEN, why, proof, "K10")
            if came := just_come(self.state, self.node, "device-plugin"):
                yield self.made(
                    Link.ALLOCATABLE,
                    Health.WAITING,
                    f"the node offers no GPU yet: {came}",
                    proof,
                    remedy=WAIT,
                )
            yield self.made(Link.ALLOCATABLE, Health.BROKEN, "the node offers no GPU", proof)
        proof = node.proof(f"allocatable: {amounts(node.allocatable)}")
        lost = [name for name, each in has.items() if offers.get(name, Decimal(0)) < each]
        marked = next((each for log in self.logs() for each in log.unhealthy), None)
        if lost:
            why = f"it offers {offers.get(lost[0], 0)} of {has[lost[0]]} {lost[0]}: the others are unhealthy"
            yield self.made(Link.ALLOCATABLE, Health.BROKEN, why, marked.proof if marked else proof, "K10")
        if gone := self.gone(has):
            yield self.made(Link.ALLOCATABLE, Health.BROKEN, gone, proof)
        if marked:
            xid = f" (Xid {marked.xid})" if marked.xid is not None else ""
            self.notes.append(f"the device plugin marked {marked.device or 'a device'} unhealthy{xid}: {marked.proof}")
        yield self.made(Link.ALLOCATABLE, Health.OK, f"it offers {amounts(node.allocatable)}", proof)

    def gone(self, has: dict[str, Decimal]) -> str:
        """Say that GPU feature discovery counted more GPUs than the node has to offer; "" if it did not."""
        labels = self.node.node.labels if self.node and self.node.node else {}
        counted, replicas = labels.get("nvidia.com/gpu.count", ""), labels.get("nvidia.com/gpu.replicas", "1")
        if not (counted.isdecimal() and replicas.isdecimal() and len(counted) < 5 and len(replicas) < 5):
            return ""
        shared = has.get("nvidia.com/gpu", has.get("nvidia.com/gpu.shared"))
        mig = labels.get("nvidia.com/mig.strategy", "none") not in {"none", ""} and "nvidia.com/mig.config" in labels
        expected = int(counted) * max(1, int(replicas))
        if shared is None or mig or shared >= expected:
            return ""
        return (
            f"GPU feature discovery counted {expected} GPUs (nvidia.com/gpu.count={counted}), and the node has {shared}"
        )

    def validator(self) -> Iterator[LinkVerdict]:
        """Judge the validator and the pods that it creates."""
        found = self.health("operator-validator", "cuda-validator", "device-plugin-validator")
        verdict = self.of_operand(Link.VALIDATOR, found) if found else self.absent(Link.VALIDATOR, "operator-validator")
        for each in (*self.pods("cuda-validator"), *self.pods("device-plugin-validator")):
            owner = each.pod.controller if each.pod else None
            if not each.terminal and not starting(each, self.state) and owner and owner.kind == "ClusterPolicy":
                self.notes.append(
                    f"{each.name} has not ended and belongs to the {owner.kind}: it keeps cluster-autoscaler from "
                    "removing the node (K33)"
                )
                verdict = replace(verdict, issues=tuple(dict.fromkeys((*verdict.issues, "K33"))))
        yield verdict

    def workload(self) -> Iterator[LinkVerdict]:
        """Judge what asks for a GPU on the node."""
        here = self.state.workloads_on(self.name) if self.name else ()
        for each in here:
            if each.phase in {"Running", "Succeeded"}:
                why = f"{each.namespace}/{each.name} {'runs' if each.phase == 'Running' else 'has run'} with a GPU"
                yield self.made(Link.WORKLOAD, Health.OK, why, each.proof(f"{each.phase}, {amounts(each.requests)}"))
        for each in here:
            if each.phase == "Pending":
                proof = each.proof(f"{each.status}, {amounts(each.requests)}")
                yield self.made(Link.WORKLOAD, Health.WAITING, f"{each.namespace}/{each.name} is {each.status}", proof)
        for tested in self.pods("device-plugin-validator"):
            if tested.healthy:
                yield self.made(Link.WORKLOAD, Health.OK, f"{tested.name} has run with a GPU", tested.proof)
        yield self.made(Link.WORKLOAD, Health.NOT_DETERMINED, "no pod there asks for a GPU")


def judge_node(node: GpuNode | None, state: OperatorState, operands: Sequence[OperandHealth]) -> NodeStack:
    """Judge the chain of a node.

    Parameters
    ----------
    node
        The node; None judges the pods of which nobody knows the node, all together.
    operands
        What `judge_operands` found, of all nodes.
    """
    chain = Chain(node, state, operands)
    steps: tuple[Callable[[], Iterator[LinkVerdict]], ...] = (
        chain.nfd,
        chain.driver,
        chain.toolkit,
        chain.device_plugin,
        chain.allocatable,
        chain.validator,
        chain.workload,
    )
    for step in steps:
        chain.links.append(next(step()))  # the first reason that holds
    if node and node.node and node.node.ready is False:
        chain.notes.append("the node itself is not Ready, so that its pods tell of an earlier time")
    return NodeStack(node.name if node else "", node.sign if node else "", tuple(chain.links), tuple(chain.notes))


def pull_remedy(link: Link) -> str:
    """Say what to do about an image that cannot be pulled."""
    return PULL_REMEDY + (NO_DRIVER_IMAGE if link is Link.DRIVER else "")


def offered(resources: Any) -> dict[str, Decimal]:
    """Give the GPUs among resources, as far as there are any."""
    return {name: each for name, each in resources.items() if is_gpu_resource(name) and each > 0}


def amounts(resources: Any) -> str:
    """Write the GPUs among resources: `nvidia.com/gpu: 1`."""
    return ", ".join(f"{name}: {each.normalize():f}" for name, each in offered(resources).items())
