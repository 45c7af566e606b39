"""The clusters of a lab as a whole: the one that it begins with, what people are told of them, and their end."""

from __future__ import annotations

import json
from typing import Any

from moto.autoscaling.models import autoscaling_backends
from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends

from leptonami.lab.conditions import is_ready
from leptonami.lab.eks import LabEKS
from leptonami.lab.ekstate import Cluster
from leptonami.lab.world import ACCOUNT

__all__ = ["SEEDED", "close_all", "count_nodes", "inventory", "report", "seed"]

SEEDED = "leptonami"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "{}.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


def close_all() -> None:
    """End the API servers and fleets of all clusters."""
    clusters = list(LabEKS.clusters.values())  # requests still come, and change it
    for cluster in clusters:
        if (plane := cluster.plane) is not None:
            plane.fleet.closing.set()
    for cluster in clusters:
        cluster.close()


def report() -> list[dict[str, Any]]:
    """Describe the clusters for people: `leptonami lab status`."""
    found = []
    for cluster in LabEKS.clusters.values():
        plane = cluster.plane  # once: the lab may be ending meanwhile
        fleet = plane.fleet if plane is not None else None
        process = fleet.process if fleet is not None else None
        found.append(
            {
                "name": cluster.name,
                "region": cluster.region,
                "status": cluster.status,
                "version": cluster.version,
                "endpoint": cluster.data.get("endpoint", ""),
                "kubeconfig": str(plane.kubeconfig) if plane is not None else "",
                "fleet": {
                    "pid": process.pid if process is not None and process.poll() is None else None,
                    "restarts": fleet.restarts if fleet is not None else 0,
                    "said": fleet.said if fleet is not None else "",
                },
                "nodegroups": [
                    {
                        "name": group.name,
                        **{key: shown[key] for key in ("status", "amiType", "releaseVersion")},
                        "desired": group.asg.desired_capacity,
                        "instances": len(group.asg.instance_states),
                        "issues": [each["code"] for each in shown["health"]["issues"]],
                    }
                    for group in cluster.groups.values()
                    for shown in [group.shown()]
                ],
            }
        )
    return found


def inventory() -> dict[str, list[str]]:
    """Give the names of what there is of clusters, by kind, as `leptonami.lab.inventory` does for the rest."""
    groups = [f"{cluster.name}/{name}" for cluster in LabEKS.clusters.values() for name in cluster.groups]
    scaling: list[Any] = list(autoscaling_backends[ACCOUNT].values())
    return {
        "clusters": [cluster.name for cluster in LabEKS.clusters.values()],
        "node_groups": groups,
        "auto_scaling_groups": [name for backend in scaling for name in backend.autoscaling_groups],
    }


def seed(endpoint: str, region: str, version: str, name: str = SEEDED) -> Cluster:
    """Put a cluster there that is active at once, with roles for it and for nodes; `leptonami lab up` begins so."""
    LabEKS.endpoint = endpoint
    iam: Any = iam_backends[ACCOUNT]["aws"]
    for role, service in ((f"{name}-cluster", "eks"), (f"{name}-node", "ec2")):
        trust = json.dumps(TRUST).replace("{}", service)
        iam.create_role(role, trust, "/", None, "", [], "3600")
    for policy in ("AmazonEKSWorkerNodePolicy", "AmazonEKS_CNI_Policy", "AmazonEC2ContainerRegistryPullOnly"):
        iam.attach_role_policy(f"arn:aws:iam::aws:policy/{policy}", f"{name}-node")
    subnets = ec2_backends[ACCOUNT][region].get_default_subnets()
    call: Any = LabEKS()
    call.region, call.current_account, call.querystring, call.headers = region, ACCOUNT, {}, {}
    call.params = {
        "name": name,
        "version": version,
        "roleArn": f"arn:aws:iam::{ACCOUNT}:role/{name}-cluster",
        "resourcesVpcConfig": {"subnetIds": [each.id for _, each in sorted(subnets.items())]},
        "accessConfig": {"authenticationMode": "API_AND_CONFIG_MAP"},
    }
    call.create_cluster()
    made = LabEKS.clusters[region, name]
    LabEKS.created(made)
    return made


def count_nodes(clusters: list[dict[str, Any]]) -> None:
    """Add how many nodes each cluster has, and how many are ready: asked of its API server, without the lab's lock."""
    for row in clusters:
        cluster = LabEKS.clusters.get((row["region"], row["name"]))  # it may be gone by now
        plane = cluster.plane if cluster is not None else None
        nodes = plane.client.items("/api/v1/nodes") if plane is not None else []
        row["nodes"] = {"count": len(nodes), "ready": sum(map(is_ready, nodes))}
