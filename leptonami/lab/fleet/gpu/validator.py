"""The operator's validator: four steps, each a barrier, and the two pods that it makes to try a GPU out.

Those pods belong to the ClusterPolicy, since the validator copies its DaemonSet's own references onto them
(cmd/nvidia-validator/main.go). No controller of theirs is one that the cluster-autoscaler knows: one that has not
ended keeps its node.
"""

# ruff: noqa: ARG002 - a behaviour is told the time, whether it asks for it or not

from __future__ import annotations

from leptonami.lab.fleet.behaviours import Life, Step, exited
from leptonami.lab.fleet.cluster import Cluster, Object
from leptonami.lab.fleet.gpu.logs import lines
from leptonami.lab.fleet.gpu.operands import TABLE, TOLERATIONS
from leptonami.lab.fleet.gpu.plugin import RESOURCE
from leptonami.lab.fleet.gpu.stack import TOOLKIT_READY, Stack, app_of, mark, pause, stack_of, start_error, variable
from leptonami.lab.fleet.gpu.toolkit import coming
from leptonami.lab.fleet.loop import Clock

__all__ = ["Validator", "workload_pod"]

VALIDATOR = TABLE.operands["operator-validator"].name
CUDA, PLUGIN = "nvidia-cuda-validator", "nvidia-device-plugin-validator"


class Validator:
    """All containers that run the validator's image."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self.cluster, self.clock = cluster, clock
        self.retry = TABLE.seconds("validator_retry")

    def outcome(self, life: Life, now: float) -> Step:
        """Give the next step."""
        stack = stack_of(life.node, self.cluster)
        own = app_of(life.pod) == VALIDATOR
        match life.container["name"]:
            case "driver-validation":
                step = self.driver(life, stack)
            case "toolkit-validation":
                step = self.toolkit(life, stack) if own else self.barrier(life, stack)
            case "cuda-validation":
                step = self.workload(life, CUDA) if own else vector_add(life, stack)
            case "plugin-validation":
                step = self.plugin(life) if own else vector_add(life, stack)
            case "nvidia-cuda-validator" | "nvidia-device-plugin-validator" as name:
                step = exited(0, *lines("cuda-valid" if name == CUDA else "plugin-valid"))
            case _:
                step = Step(log=lines("all-valid"))
        return step

    def again(self, *log: str) -> Step:
        """Look again after the validator's interval."""
        return Step(seconds=pause(self.clock, self.retry), ready=False, log=log)

    def driver(self, life: Life, stack: Stack) -> Step:
        """Wait for a driver, for ever: on the host first, then in a container."""
        style = style_of(life)
        host = lines(f"host-driver-{style}") if life.steps == 0 and (stack.root.driver or style != "commands") else ()
        if not stack.driver:
            return self.again(*host, *lines(f"driver-missing-{style}"))
        if "smi" not in life.memory:
            life.memory["smi"] = True
            return Step(seconds=TABLE.seconds("smi"), ready=False, log=host)
        found = "driver-found" if stack.root.driver else "container-driver"
        return exited(0, *smi(stack), *lines(f"{found}-{style}"))

    def toolkit(self, life: Life, stack: Stack) -> Step:
        """Run nvidia-smi, which is there if the runtime has put it there."""
        if life.steps == 0:
            if error := start_error(stack, life.pod):
                return exited(128, reason="StartError", message=error)
            return Step(seconds=TABLE.seconds("smi"), ready=False)
        if not stack.sees_gpu(life.pod):
            return exited(1, *lines("no-smi"))
        mark(life, TOOLKIT_READY)
        return exited(0, *smi(stack))

    def barrier(self, life: Life, stack: Stack) -> Step:
        """Wait for the validator's file, as the other operands do, and for a toolkit that is on its way."""
        if stack.toolkit_ready and not coming(life, self.cluster):
            return exited(0)
        return self.again(*lines("waiting-for-toolkit"))

    def plugin(self, life: Life) -> Step:
        """Wait until the node has GPUs; then, if the version does that, try one out."""
        capacity = ((life.node.object() or {}).get("status") or {}).get("capacity") or {}
        if int(capacity.get(RESOURCE, 0)) > 0 or "pod" in life.memory:
            if variable(life.container, "WITH_WORKLOAD") == "false":
                return exited(0)
            return self.workload(life, PLUGIN)
        if life.steps >= TABLE.tries["discovery"].times:
            return exited(1, *lines("discovery-given-up"))
        return self.again(*lines(f"not-discovered-{style_of(life)}", number=life.steps + 1))

    def workload(self, life: Life, app: str) -> Step:
        """Make a pod that tries a GPU out, in place of one that is there, and wait until it has ended."""
        namespace, what = life.pod["metadata"]["namespace"], "cuda workload" if app == CUDA else "plugin installation"
        if "pod" not in life.memory:
            if coming(life, self.cluster):
                return self.again()
            old = [each for each in self.cluster.by_node(life.node.name) if app_of(each) == app]
            for each in old:
                self.cluster.delete("pods", namespace, each["metadata"]["name"], grace=0)
            owners = (self.cluster.get("daemonsets", namespace, VALIDATOR) or life.pod)["metadata"]["ownerReferences"]
            pod = workload_pod(app, namespace, life.node.name, life.container["image"], owners)
            life.memory |= {"pod": self.cluster.create("pods", pod), "first": life.steps}
        name = life.memory["pod"]
        found = self.cluster.get("pods", namespace, name)
        phase = ((found or {}).get("status") or {}).get("phase", "Pending")
        if phase == "Succeeded":
            return exited(0, *lines("workload-done", pod=name))
        if found is None or life.steps - life.memory["first"] >= TABLE.tries["workload"].times:
            return exited(1, *lines("workload-given-up", pod=name, what=what))
        return self.again(*lines("workload-pending", pod=name, phase=phase))


def vector_add(life: Life, stack: Stack) -> Step:
    """Add vectors on a GPU."""
    if error := start_error(stack, life.pod):
        return exited(128, reason="StartError", message=error)
    if not stack.sees_gpu(life.pod):
        return exited(1, "Failed to allocate device vector A (error code CUDA driver version is insufficient)!")
    if life.steps == 0:
        return Step(seconds=TABLE.seconds("workload"), ready=False)
    return exited(0, *lines("vector-add"))


def workload_pod(app: str, namespace: str, node: str, image: str, owners: list[Object]) -> Object:
    """Make one of the validator's pods (validator/manifests/*-workload-validation.yaml)."""
    step = "cuda-validation" if app == CUDA else "plugin-validation"
    init: Object = {"name": step, "image": image, "command": ["sh", "-c"], "args": ["vectorAdd"]}
    if app == PLUGIN:
        init["resources"] = {"limits": {RESOURCE: "1"}, "requests": {RESOURCE: "1"}}
    said = "cuda" if app == CUDA else "device-plugin"
    main: Object = {"name": app, "image": image, "command": ["sh", "-c"]}
    main["args"] = [f"echo {said} workload validation is successful"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{app}-",
            "namespace": namespace,
            "labels": {"app": app},
            "ownerReferences": owners,
        },
        "spec": {
            "nodeName": node,
            "restartPolicy": "OnFailure",
            "runtimeClassName": "nvidia",
            "serviceAccountName": "nvidia-operator-validator",
            "tolerations": TOLERATIONS,
            "initContainers": [init],
            "containers": [main],
        },
    }


def style_of(life: Life) -> str:
    """Tell how this version of the validator writes its log."""
    version = life.container["image"].rpartition(":")[2]
    return TABLE.versions[version].log_style if version in TABLE.versions else "sentences"


def smi(stack: Stack) -> tuple[str, ...]:
    """Give what nvidia-smi shows, cut down to what names driver and card."""
    return lines("smi", driver=stack.driver, product=stack.root.gpu_product)
