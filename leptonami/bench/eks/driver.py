"""One trial on EKS: an instance joins the cluster, a pod starts on it, everybody is asked when what happened.

All of it goes through the two seams, so an account and the lab are the same to it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from leptonami import kube
from leptonami.bench import clocks
from leptonami.bench.cost import launch_usd
from leptonami.bench.eks import asking, awsmarks, kubemarks, requests
from leptonami.bench.eks.account import Account
from leptonami.bench.eks.instance import Single
from leptonami.bench.eks.nodegroup import NodeGroups
from leptonami.bench.eks.waiting import Waiting, Watch
from leptonami.bench.marks import Mark
from leptonami.bench.model import Bake, Launch, Probe, Trial, Value, take_along
from leptonami.errors import CredentialsError, InputError, LeptonamiError
from leptonami.kubepods import Pods
from leptonami.target import Target, connect

if TYPE_CHECKING:
    from leptonami.bench.eks.launching import Launcher
    from leptonami.bench.experiment import Eks, Variant
    from leptonami.bench.model import Setup
    from leptonami.runs import Journal
    from leptonami.target import Provenance

__all__ = ["EksDriver", "open_driver"]

ASK_S = 0.5


def open_driver(setup: Setup) -> EksDriver:
    """Open the driver. Nothing is created, and nothing is asked yet but who we are and where the cluster is.

    Raises
    ------
    InputError, CredentialsError
        If there is no such account, region, context or cluster.
    """
    eks = setup.experiment.eks
    if eks is None:
        raise InputError("the driver eks needs `eks`", resource=setup.experiment.name)
    target = connect(setup.aws, region=str(eks.region), profile=setup.profile)
    try:
        return EksDriver(setup, eks, target, kube.connect(setup.context))
    except BaseException:
        target.close()
        raise


class EksDriver:
    """Launches instances that join the cluster of an experiment: single ones, or those of node groups."""

    name = "eks"

    def __init__(self, setup: Setup, eks: Eks, target: Target, cluster: kube.Cluster) -> None:
        self.setup = setup
        self.eks = eks
        self.target = target
        self.cluster = cluster
        self.pods = Pods(cluster)
        self.provenance: Provenance = target.provenance
        self.account = Account(setup, eks, target)
        self.by: Launcher = NodeGroups(self.account) if eks.by == "nodegroup" else Single(self.account)
        self.waiting = Waiting(self.account, cluster, self.by, self.provenance)
        self.prepared = False

    # --- what is there ------------------------------------------------------------------------------------------------

    def probe(self) -> Probe:
        """Find out whether the account and the cluster can be used, and in which zone."""
        try:
            self.target.identity()
            info, _ = self.account.cluster
            if info.endpoint.rstrip("/") != self.cluster.host.rstrip("/"):
                raise InputError(
                    f"the context {self.cluster.name} is another cluster than {self.eks.cluster}",
                    resource="--context",
                    hint=f"aws eks update-kubeconfig --name {self.eks.cluster}, or choose another --context",
                )
            self.cluster.objects("nodes")
            version = self.cluster.document("/version", "get the version")
            zone = self.account.zone
        except (LeptonamiError, CredentialsError) as error:
            return Probe(False, (f"{error}" + (f"; {error.hint}" if error.hint else ""),))
        machine: dict[str, Value] = {
            "region": self.target.region,
            "zone": zone,
            "cluster": info.name,
            "kubernetes": str(version.get("gitVersion", "")),
        }
        return Probe(True, (), machine)

    def bake(self, variant: Variant, journal: Journal) -> Bake:
        """Look the variant's image up and make what its launches need; see that its snapshot is restored as it says."""
        ami = self.account.ami(variant)
        conditions: dict[str, Value] = {"ami": ami.id, "ami name": ami.name, "snapshot": ami.snapshot}
        conditions |= asking.restore(self.account, ami)
        self.check_restore(variant, ami, str(conditions["fast snapshot restore"]))
        self.prepared = True
        self.by.prepare(variant, ami, journal)
        journal.write("image", variant=variant.name, ami=ami.id)
        return Bake(variant.name, ami.id, conditions=conditions, cost=0.0)

    def check_restore(self, variant: Variant, ami: requests.Ami, state: str) -> None:
        """Refuse a variant whose volumes would come to be in another way than it says.

        A rate that is asked for goes before Fast Snapshot Restore, so `init-rate` is what it says in any case.
        https://docs.aws.amazon.com/ebs/latest/userguide/initalize-volume.html
        """
        where = f"Fast Snapshot Restore of {ami.snapshot} in {self.account.zone} is {state}"
        if variant.kind == "fast-snapshot-restore" and state != "enabled":
            raise InputError(
                where,
                resource=f"variant {variant.name}",
                hint="it is billed by the minute, so you switch it on: aws ec2 enable-fast-snapshot-restores "
                f"--source-snapshot-ids {ami.snapshot} --availability-zones {self.account.zone} (an hour for a TiB), "
                "and off afterwards",
            )
        if variant.kind not in {"fast-snapshot-restore", "init-rate"} and state in {
            "enabling",
            "optimizing",
            "enabled",
        }:
            raise InputError(
                f"{where}, and the variant is to be without it",
                resource=f"variant {variant.name}",
                hint="switch it off, or let the variant have an image of its own",
            )

    # --- a launch -----------------------------------------------------------------------------------------------------

    def launch(self, trial: Trial, timeout: float) -> Launch:
        """Launch an instance, wait for its node and for the first output of a pod on it, and ask everybody.

        It is billed until the answers are there: the first read alone can take an hour, with a second volume.
        """
        variant = self.setup.experiment.variant(trial.variant)
        ami = self.account.ami(variant)
        gib = sum(each["Ebs"]["VolumeSize"] for each in requests.disks(self.eks, variant, ami))
        gpus = self.account.accelerators(trial.instance_type)
        watch = Watch(self.provenance, time.monotonic() + timeout, self.pause)
        begun = time.monotonic()

        def spent() -> float | None:
            return launch_usd(trial.instance_type, time.monotonic() - begun, self.eks.volume, gib)

        conditions: dict[str, Value] = {"ami": ami.id}
        asked = self.by.ask(trial, variant, ami)
        watch.marks.append(Mark("requested", asked.sent, asked.source, "host", 0.0, self.provenance))
        try:
            instance, found = self.waiting.joined(trial, watch)
            image = self.setup.experiment.image(trial.image)
            sent = time.time()
            pod = self.pods.create(requests.pod(self.pod_name(trial), found, image.ref or "", image.command))
            took = time.time() - sent
            watch.marks.append(Mark("pod-created", sent, "create pod", "host", took, self.provenance))
            pod = self.waiting.spoke(pod, watch)
            conditions |= self.waiting.gpu_there(str(found["metadata"]["name"]), gpus, watch)
            told = self.ask(trial, instance, found, pod)
        except BaseException as error:
            take_along(error, Launch(tuple(watch.marks), (), conditions, spent()))
            raise
        marks = [*watch.marks, *told.marks]
        bounds = [*asking.stamped("aws", asked.sent, asked.answered, asked.date), *watch.bounds, *told.bounds]
        offsets = clocks.estimate([*bounds, *clocks.from_order(marks)])
        return Launch(tuple(marks), offsets, conditions | told.conditions, spent())

    def ask(self, trial: Trial, instance: str, found: Any, pod: Any) -> asking.Told:
        """Ask everybody what happened when; `found` and `pod` are node and pod as they were seen first."""
        variant, image = self.setup.experiment.variant(trial.variant), self.setup.experiment.image(trial.image)
        name, cluster, provenance = str(found["metadata"]["name"]), self.cluster, self.provenance
        machine = self.account.describe(instance)
        told = asking.ask_node(
            self.account,
            cluster,
            machine,
            variant=variant,
            image=image.ref or "",
            name=name,
            provenance=provenance,
        )
        told.conditions |= asking.surroundings(self.account, machine, self.account.ami(variant))
        told.marks += [*awsmarks.from_instance(machine, provenance), *self.by.marks(trial, instance, provenance)]
        # Last: the kubelet writes the status and the events some time after what they tell.
        told.marks += kubemarks.from_node(cluster.object("nodes", name) or found, provenance)
        # Of both: one that has ended has no sandbox any more.
        later = cluster.object("pods", self.pod_name(trial), self.pods.namespace) or pod
        told.marks += [*kubemarks.from_pod(pod, provenance), *kubemarks.from_pod(later, provenance)]
        told.marks += self.waiting.told(pod["metadata"]["uid"], self.pods.namespace, self.pause)
        told.bounds += asking.clock_of_api(cluster)
        return told

    @property
    def pause(self) -> float:
        """Seconds between two questions."""
        return min(ASK_S, self.target.pace.longest)

    # --- afterwards ---------------------------------------------------------------------------------------------------

    def pod_name(self, trial: Trial) -> str:
        """Name a trial's pod."""
        return f"leptonami-{self.setup.run}-{trial.number}"

    def clean(self, trial: Trial) -> tuple[str, ...]:
        """Delete a trial's pod and end its instances, whatever comes of the other."""
        left: list[str] = []
        try:
            self.pods.delete(self.pod_name(trial))
        except LeptonamiError as error:
            left.append(f"pod {self.pod_name(trial)}: {error}")
        return (*left, *self.by.clean(trial))

    def close(self, *, complete: bool = False) -> None:
        """Remove what launches needed beyond a trial, and close the connections.

        What a killed run has left there is found by the run that goes on.
        """
        try:
            if self.prepared or complete:
                self.by.remove()
        finally:
            self.cluster.close()
            self.target.close()
