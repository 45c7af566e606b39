"""What happens to one pod on its node: sandbox, images, containers, restarts, its end; and what its events say."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from leptonami.lab.fleet.behaviours import Life, Step
from leptonami.lab.fleet.cluster import Object
from leptonami.lab.fleet.images import Image, normal
from leptonami.lab.fleet.podstatus import Box, Log, boxes_of, news, status
from leptonami.lab.fleet.recorder import mark
from leptonami.lab.fleet.wording import containers, go_duration, pulled

if TYPE_CHECKING:
    from leptonami.lab.fleet.kubelet import Host, Kubelets

__all__ = ["Worker"]

KILLED = 137  # SIGKILL, when the grace is over


class Worker:
    """One pod on its node."""

    def __init__(self, kubelets: Kubelets, host: Host, pod: Object) -> None:
        self.kubelets, self.host, self.pod = kubelets, host, pod
        self.uid = str(pod["metadata"]["uid"])
        self.namespace, self.name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        self.boxes = boxes_of(pod)
        self.start = kubelets.clock.stamp()
        self.ip = ""
        self.refused: tuple[str, str] | None = None
        self.written: Object = {}
        self.ending = self.dead = False

    # --- the pod ------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Admit the pod, and have its sandbox made."""
        self.kubelets.dirty(self)
        for hook in self.kubelets.behaviours.admission:
            if message := hook(self.pod, self.host.facts):
                self.refused = "UnexpectedAdmissionError", message
                self.event("Warning", "UnexpectedAdmissionError", message)
                return
        self.after(self.draw("sandbox"), self.sandbox)

    def sandbox(self) -> None:
        """Make the sandbox; where that fails, try again and again."""
        if self.ending:
            return
        for hook in self.kubelets.behaviours.sandbox:
            if message := hook(self.pod, self.host.facts):
                self.event("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {message}")
                self.after(self.again("sandbox-retry"), self.sandbox)
                return
        own = self.pod["spec"].get("hostNetwork")
        self.ip = self.host.ip if own else self.kubelets.address()
        self.go_on()

    def go_on(self) -> None:
        """Start the next container: init containers one by one, sidecars before what follows, then the others."""
        for box in self.boxes:
            if self.ending or box.stage == "preparing" or (box.role != "main" and box.stage != "new" and not box.done):
                return
            if box.stage == "new":
                self.ensure(box)
                return

    def changed(self, pod: Object) -> None:
        """Take note of a change of the pod in the cluster."""
        self.pod = pod
        if "deletionTimestamp" in pod["metadata"]:
            self.end()
        if news(pod.get("status", {}), self.written):
            self.kubelets.dirty(self)

    def end(self) -> None:
        """Stop the containers, and take the pod out of the cluster when they have ended."""
        if self.ending:
            return
        self.ending = True
        running = [box for box in self.boxes if box.running]
        for box in running:
            self.event("Normal", "Killing", f"Stopping container {box.name}", box)
        about = self.pod["metadata"]
        grace = about.get("deletionGracePeriodSeconds", self.pod["spec"].get("terminationGracePeriodSeconds", 30))
        wanted = max((self.draw("stop") for _ in running), default=0.0)
        code = KILLED if wanted > grace else 0
        self.after(min(wanted, grace), lambda: self.over(code))

    def over(self, code: int) -> None:
        """Take the pod out of the cluster: its containers have ended."""
        for box in self.boxes:
            if box.running:
                self.stopped(box, Step("terminated", exit_code=code, reason="Error" if code else "Completed"))
        self.report()
        self.kubelets.cluster.delete("pods", self.namespace, self.name, 0)

    def report(self) -> None:
        """Write the pod's status, if it is not what the cluster has."""
        if self.dead or not self.host.alive:
            return
        pod = self.kubelets.cluster.get("pods", self.namespace, self.name)
        if pod is None or pod["metadata"].get("uid") != self.uid:
            return
        self.pod = pod
        now = self.kubelets.clock.stamp()
        found = status(
            pod, self.boxes, now, host_ip=self.host.ip, pod_ip=self.ip, start=self.start, refused=self.refused
        )
        self.written = found
        if patch := news(pod.get("status", {}), found):
            body = {"status": patch, **mark(pod)}
            self.kubelets.cluster.patch("pods", self.namespace, self.name, body, "status")

    # --- a container's image ------------------------------------------------------------------------------------------

    def ensure(self, box: Box) -> None:
        """See to a container's image, then have the container made."""
        box.stage = "preparing"
        image = box.spec["image"]
        latest = normal(image).endswith(":latest")
        policy = box.spec.get("imagePullPolicy") or ("Always" if latest else "IfNotPresent")
        found = self.host.store.find(image)
        if found and policy != "Always":
            self.event("Normal", "Pulled", f'Container image "{image}" already present on machine', box)
            self.create(box, found)
            return
        if policy == "Never":
            message = f'Container image "{image}" is not present with pull policy of Never'
            self.event("Warning", "ErrImageNeverPull", message, box)
            self.failed(box, "ErrImageNeverPull", message)
            return
        self.event("Normal", "Pulling", f'Pulling image "{image}"', box)
        facts, model = self.host.facts, self.kubelets.model
        overhead = self.draw("pull-overhead")
        error = next((said for hook in self.kubelets.behaviours.pull if (said := hook(image, facts))), "")
        if error:
            self.after(overhead, lambda: self.not_pulled(box, error))
            return
        size = found.size if found else model.size(image)
        work = 0.0 if found else model.pull(size, slow="slow-disk" in facts.faults())

        def done(took: float, waited: float) -> None:
            self.now(lambda: self.pulled(box, size, took, waited))

        self.host.puller.pull(normal(image), overhead + work, self.kubelets.clock.now(), done)

    def pulled(self, box: Box, size: int, took: float, waited: float) -> None:
        """Go on with an image that is there now."""
        image, store = box.spec["image"], self.host.store
        found = store.find(image)
        if found is None:
            digest = f"sha256:{random.Random(normal(image)).getrandbits(256):064x}"  # noqa: S311 - no secret
            found = store.add(image, size, digest)
            self.kubelets.images_changed(self.host)
        self.event("Normal", "Pulled", pulled(image, took, waited, size, self.host.minor), box)
        box.pull_wait = 0.0
        self.create(box, found)

    def not_pulled(self, box: Box, error: str) -> None:
        """Say that a pull has failed."""
        image = box.spec["image"]
        self.event("Warning", "Failed", f'Failed to pull image "{image}": {error}', box)
        self.event("Warning", "Failed", "Error: ErrImagePull", box)
        self.failed(box, "ErrImagePull", error)

    def failed(self, box: Box, reason: str, message: str) -> None:
        """Wait for another try, longer each time. The pod's other containers go on meanwhile."""
        box.stage = "waiting"
        box.state = {"waiting": {"reason": reason, "message": message}}
        model, image = self.kubelets.model, box.spec["image"]
        box.pull_wait = min(max(2 * box.pull_wait, model.wait("pull-backoff")), model.wait("pull-backoff", "most"))

        def back_off() -> None:
            said = f'Back-off pulling image "{image}"'
            self.event("Normal", "BackOff", said, box)
            self.event("Warning", "Failed", "Error: ImagePullBackOff", box)
            box.state = {"waiting": {"reason": "ImagePullBackOff", "message": f"{said}: {reason}: {message}"}}

        wait = self.kubelets.clock.again(box.pull_wait)
        if reason == "ErrImagePull":
            self.after(wait / 5, back_off)
        self.after(wait, lambda: self.ensure(box))
        self.go_on()

    # --- a container --------------------------------------------------------------------------------------------------

    def create(self, box: Box, image: Image) -> None:
        """Make a container. The first start of an image that came with the AMI waits for its blocks."""
        model = self.kubelets.model
        self.event("Normal", "Created", containers("Created", box.name, self.host.minor), box)
        box.image_id = image.names[0]
        delay = self.draw("start")
        if image.baked and image not in self.host.read:
            slow = 10.0 if "slow-disk" in self.host.facts.faults() else 1.0
            delay += model.first_read(image.size) * slow
            self.host.read.add(image)
        self.after(delay, lambda: self.started(box))

    def started(self, box: Box) -> None:
        """Let the container run, unless the runtime could not start it."""
        if self.ending:
            return
        clock = self.kubelets.clock
        box.stage = "running"
        box.container_id = f"containerd://{self.host.rng.getrandbits(256):064x}"
        if box.state.get("terminated"):
            box.last = box.state
        box.life = life = Life(self.pod, box.spec, self.host.facts, box.restarts, clock.now())
        box.state = {"running": {"startedAt": clock.stamp()}}
        step, log = self.outcome(life), Log()
        log.add(clock.micro(), step.log)
        box.previous, box.log = box.log, log  # with its first lines: others may read it at any moment
        if step.reason == "StartError":
            self.event("Warning", "Failed", f"Error: {step.message}", box)
        else:
            self.event("Normal", "Started", containers("Started", box.name, self.host.minor), box)
        self.take(box, life, replace(step, log=()))

    def outcome(self, life: Life) -> Step:
        """Ask the container's behaviour for its next step."""
        life.pod = self.pod
        step = self.kubelets.behaviours.find(self.pod, life.container).outcome(life, self.kubelets.clock.now())
        life.steps += 1
        return step

    def take(self, box: Box, life: Life, step: Step) -> None:
        """Take a step, and have the next one taken when it is over."""
        clock = self.kubelets.clock
        if box.log:
            box.log.add(clock.micro(), step.log)
        if step.state == "terminated":
            self.exited(box, life, step)
            return
        age = clock.now() - life.started
        due = [probe_delay(box.spec.get(kind)) for kind in ("startupProbe", "readinessProbe")]
        box.started = age >= due[0]
        box.ready = step.ready and age >= max(due)
        for late in {delay for delay in due if delay > age}:
            self.after(late - age, lambda: self.probe(box, life, step.ready, due))
        if step.seconds is not None:
            self.after(step.seconds, lambda: self.next_step(box, life))
        self.go_on()

    def probe(self, box: Box, life: Life, ready: bool, due: list[float]) -> None:
        """Probe a container."""
        if box.life is life and box.running:
            age = self.kubelets.clock.now() - life.started
            box.started = age >= due[0] - 1e-6
            box.ready = ready and age >= max(due) - 1e-6
            self.go_on()

    def next_step(self, box: Box, life: Life) -> None:
        """Take the next step, if the container still runs."""
        if box.life is life and box.running:
            self.take(box, life, self.outcome(life))

    def stopped(self, box: Box, step: Step) -> None:
        """Note a container's end."""
        since = box.state["running"]["startedAt"]
        ended = {"exitCode": step.exit_code, "reason": step.reason, "startedAt": since}
        ended |= {"finishedAt": self.kubelets.clock.stamp(), "containerID": box.container_id}
        box.state = {"terminated": {**ended, **({"message": step.message} if step.message else {})}}
        box.ready = box.started = False
        if box.log:
            box.log.ended = True

    def exited(self, box: Box, life: Life, step: Step) -> None:
        """Start a container again that has ended by itself: at once the first time, later and later after that."""
        model = self.kubelets.model
        self.stopped(box, step)
        policy = "Always" if box.role == "sidecar" else self.pod["spec"].get("restartPolicy", "Always")
        if box.role == "init":
            policy = "OnFailure" if policy == "Always" else policy
        box.stage = "ended"
        if policy == "Never" or (policy == "OnFailure" and step.exit_code == 0) or self.ending:
            self.go_on()
            return
        if self.kubelets.clock.now() - life.started > model.wait("crash", "reset"):
            box.crash_wait = 0.0
        wait, box.stage = box.crash_wait, "waiting"
        box.crash_wait = min(max(2 * wait, model.wait("crash")), model.wait("crash", "most"))
        box.restarts += 1
        if wait:
            pod = f"{self.name}_{self.namespace}({self.uid})"
            said = f"Back-off restarting failed container {box.name} in pod {pod}"
            self.event("Warning", "BackOff", said, box)
            box.last = box.state
            message = f"back-off {go_duration(wait)} restarting failed container={box.name} pod={pod}"
            box.state = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
        self.after(self.kubelets.clock.again(wait or 1.0), lambda: self.ensure(box))
        self.go_on()

    # --- small things -------------------------------------------------------------------------------------------------

    def draw(self, name: str) -> float:
        """Draw how long something takes here."""
        return self.kubelets.model.draw(name, self.host.rng, self.host.facts.root.family)

    def again(self, name: str) -> float:
        """Give a wait that repeats."""
        return self.kubelets.clock.again(self.kubelets.model.wait(name))

    def after(self, seconds: float, action: Callable[[], Any]) -> None:
        """Do something later, if the pod is still there then."""
        self.kubelets.agenda.at(self.kubelets.clock.now() + seconds, lambda: self.now(action))

    def now(self, action: Callable[[], Any]) -> None:
        """Do something, when the kubelet runs."""
        if self.dead:
            return
        if not self.host.alive:
            self.host.held.append(lambda: self.now(action))
            return
        action()
        self.kubelets.dirty(self)

    def event(self, type: str, reason: str, message: str, box: Box | None = None) -> None:
        """Record an event about the pod or one of its containers."""
        part = "" if box is None else f"spec.{'containers' if box.role == 'main' else 'initContainers'}{{{box.name}}}"
        self.kubelets.cluster.event(
            {"kind": "Pod", "apiVersion": "v1", **self.pod},
            type,
            reason,
            message,
            "kubelet",
            host=self.host.name,
            field_path=part,
        )


def probe_delay(probe: Object | None) -> float:
    """Give after how many seconds a probe that succeeds has done so; an initial delay, and the successes it needs."""
    if not probe:
        return 0.0
    return float(
        probe.get("initialDelaySeconds", 0) + (probe.get("successThreshold", 1) - 1) * probe.get("periodSeconds", 10)
    )
