"""Putting a fleet together and running it: the controllers, the caches, the servers."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from leptonami.errors import InputError
from leptonami.lab.fleet import gpu
from leptonami.lab.fleet.api import Api, connect
from leptonami.lab.fleet.behaviours import Behaviours, NodeFacts
from leptonami.lab.fleet.cluster import Cluster
from leptonami.lab.fleet.controllers import PLURALS, Workloads
from leptonami.lab.fleet.faults import Fault, parse
from leptonami.lab.fleet.heartbeats import Hearts
from leptonami.lab.fleet.images import normal
from leptonami.lab.fleet.instances import Instances
from leptonami.lab.fleet.kubelet import Kubelets
from leptonami.lab.fleet.kubelet_server import KubeletServer
from leptonami.lab.fleet.kwok import Adoption
from leptonami.lab.fleet.launch import model
from leptonami.lab.fleet.lifecycle import Lifecycle
from leptonami.lab.fleet.loop import Clock, Controller, Loop
from leptonami.lab.fleet.machines import Machines
from leptonami.lab.fleet.scheduler import Scheduler

__all__ = ["Fleet", "Settings"]


@dataclass(frozen=True)
class Settings:
    """What a fleet is told.

    Attributes
    ----------
    kubeconfig, context
        The way to the cluster; "" as kubectl finds it.
    cluster
        The name of the EKS cluster whose instances become nodes; "" for none: then only nodes for kwok are run.
    endpoint_url
        The AWS; "" as boto3 finds it.
    lab
        The URL of a lab, whose `/lab-api/` tells what is on a machine's disk.
    speed
        How many times faster than reality; 0 and `inf` without delays.
    seed
        Makes the launch times the same each time.
    faults
        A JSON file with what goes wrong (`faults`).
    control
        Whether the scheduler, the workload controllers and the node controller run here; not where a cluster has
        its own.
    envtest
        Whether to start an API server of one's own first (`envtest`).
    """

    kubeconfig: str = ""
    context: str = ""
    cluster: str = ""
    region: str = ""
    endpoint_url: str = ""
    lab: str = ""
    speed: float = 100.0
    seed: int | None = None
    faults: str = ""
    control: bool = True
    envtest: bool = False


@dataclass
class Fleet:
    """A fleet that runs.

    Attributes
    ----------
    port
        Of the kubelets' server.
    """

    settings: Settings
    api: Api
    cluster: Cluster
    machines: Machines
    kubelets: Kubelets
    server: KubeletServer
    loop: Loop
    stop: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def open(cls, settings: Settings) -> Fleet:
        """Connect, list what there is, and put the controllers together. `run` begins.

        Raises
        ------
        LeptonamiError
            If the cluster cannot be reached, or a file cannot be read.
        """
        faults = faults_of(settings.faults)
        api = connect(settings.kubeconfig or None, settings.context or None)
        try:
            version = str(api.ask("GET", "/version").get("gitVersion") or "v1.0.0")
        except BaseException:
            api.close()
            raise
        cluster = Cluster(api, dict.fromkeys((*PLURALS, *gpu.PLURALS, ("", "v1", "nodes"), ("", "v1", "pods"))))
        clock, behaviours = Clock(settings.speed), Behaviours(pull=[denied])
        kubelets = Kubelets(clock, model(), behaviours, cluster, settings.seed)
        lifecycle = Lifecycle(clock, model(), cluster, kubelets)
        hearts = Hearts(clock, model(), cluster, kubelets, lifecycle)
        lifecycle.interval = hearts.interval
        instances = None
        if settings.cluster:
            instances = Instances(
                session_of(settings.region, settings.endpoint_url),
                settings.cluster,
                settings.lab,
                clock.speed,
                faults,
                complain=sys.stderr.write,
            )
        machines = Machines(clock, model(), cluster, kubelets, hearts, settings.cluster, instances, settings.seed)
        server = KubeletServer(kubelets.log, machines.report)
        hearts.port = server.port
        controllers: list[Controller] = [machines, Adoption(hearts, version, settings.seed), hearts]
        if settings.control:
            controllers += [lifecycle, Workloads(clock), Scheduler(clock)]
        controllers += [*gpu.register(behaviours, cluster, clock), kubelets]
        return cls(settings, api, cluster, machines, kubelets, server, Loop(cluster, clock, controllers))

    @property
    def port(self) -> int:
        """Give the port of the kubelets' server."""
        return self.server.port

    def run(self) -> None:
        """Run until `end` is called."""
        try:
            self.cluster.start()
            if self.machines.instances:
                self.machines.instances.start()
            self.loop.run(self.stop)
        finally:
            self.server.close()
            if self.machines.instances:
                self.machines.instances.close()
            self.cluster.close()

    def end(self) -> None:
        """Have `run` come to its end. Any thread may."""
        self.stop.set()
        self.cluster.changed.set()


def denied(image: str, node: NodeFacts) -> str:
    """Say what the registry answers where the fault `pull-denied` strikes; "" elsewhere."""
    fault = node.faults().get("pull-denied")
    name = normal(image)
    if fault is None or not (fnmatchcase(image, fault["image"]) or fnmatchcase(name, fault["image"])):
        return ""
    tag = name.rpartition("@" if "@" in name else ":")[2]
    return (
        f'rpc error: code = Unknown desc = failed to pull and unpack image "{name}": failed to resolve reference '
        f'"{name}": pulling from host {name.partition("/")[0]} failed with status code [manifests {tag}]: '
        "401 Unauthorized"
    )


def faults_of(path: str) -> tuple[Fault, ...]:
    """Read a file of faults.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    if not path:
        return ()
    try:
        return parse(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"it cannot be read: {error}", resource=path) from error


def session_of(region: str, endpoint_url: str) -> Any:
    """Give a boto3 session; the endpoint comes by the environment, as for all clients, unless one is named."""
    import os

    import boto3

    if endpoint_url:
        os.environ["AWS_ENDPOINT_URL"] = endpoint_url
    return boto3.Session(region_name=region or None)
