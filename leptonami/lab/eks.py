"""EKS, which moto knows by a few names only: clusters with an API server behind them, over the lab's time.

Its parts are `nodegroups`, `access` and `addons`; each behaviour has a contract test in
`tests/lab/test_eks.py` or `tests/lab/test_nodegroups.py`. What is not here (Fargate, pod identity, insights and so on)
is refused as not implemented.
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, time
from functools import partial
from typing import Any, ClassVar

from moto.core.responses import ActionResult, BaseResponse, EmptyResult
from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends
from moto.moto_api._internal import mock_random
from moto.sts.models import sts_backends

from leptonami import catalog
from leptonami.lab.access import AccessCalls, caller_of
from leptonami.lab.addons import AddonCalls
from leptonami.lab.ekstate import Cluster, Update, absent, check_role, invalid, subnet_of
from leptonami.lab.node.seeds import KUBELET
from leptonami.lab.nodegroups import NodegroupCalls
from leptonami.lab.planes import open_plane
from leptonami.lab.tokens import Idempotent
from leptonami.lab.wire import ApiError, page
from leptonami.lab.world import ACCOUNT, SECRET, World

__all__ = ["LabEKS"]

DEFAULT_VERSION = "1.35"
NAME = re.compile(r"[0-9A-Za-z][A-Za-z0-9_-]{0,99}")
# What CreateCluster may carry here. The rest would be a promise that nobody keeps.
CREATE = {
    *("name", "version", "roleArn", "resourcesVpcConfig", "kubernetesNetworkConfig", "logging", "clientRequestToken"),
    *("tags", "accessConfig", "bootstrapSelfManagedAddons", "upgradePolicy"),
}
LOG_TYPES = ["api", "audit", "authenticator", "controllerManager", "scheduler"]


class LabEKS(Idempotent, NodegroupCalls, AccessCalls, AddonCalls, BaseResponse):
    """EKS with the lab's behaviour."""

    world: ClassVar[World]
    endpoint: ClassVar[str] = ""
    key: ClassVar[str] = ""
    seed: ClassVar[int | None] = None
    fleet: ClassVar[bool] = True
    clusters: ClassVar[dict[tuple[str, str], Cluster]] = {}
    idempotency = "clientRequestToken"
    mismatch = ("InvalidParameterException", "The client request token was used before with other parameters")

    def __init__(self) -> None:
        super().__init__(service_name="eks")
        self.automated_parameter_parsing = True

    def subject(self, params: dict[str, Any]) -> object:
        """Give the cluster that a request is about, or the node group, add-on or access entry in it, if it is there."""
        cluster = self.clusters.get((self.region, params.get("clusterName") or params.get("name", "")))
        parts = {"nodegroupName": "groups", "addonName": "addons", "principalArn": "entries"}
        part = next((each for each in parts if each in params), None)
        return cluster if cluster is None or part is None else getattr(cluster, parts[part]).get(params[part])

    def cluster(self, name: str | None = None) -> Cluster:
        """Find the cluster that a request names."""
        wanted = name or self.params.get("clusterName") or self.params.get("name", "")
        found = self.clusters.get((self.region, wanted))
        if found is None:
            raise absent(f"No cluster found for name: {wanted}.")
        return found

    def active(self) -> Cluster:
        """Find the cluster that a request names; it must be one that takes changes."""
        cluster = self.cluster()
        if cluster.status != "ACTIVE":
            raise ApiError(
                "ResourceInUseException" if cluster.status == "UPDATING" else "InvalidRequestException",
                f"Cluster '{cluster.name}' is not in ACTIVE status",
                409 if cluster.status == "UPDATING" else 400,
            )
        return cluster

    # Clusters -------------------------------------------------------------------------------------------------------

    def create_cluster(self) -> ActionResult:
        """Make a cluster: creating for a while; its API server answers as soon as it is active."""
        asked = self.params
        if extra := set(asked) - CREATE:
            raise NotImplementedError(f"CreateCluster with {', '.join(sorted(extra))}")
        name, version = asked["name"], asked.get("version", DEFAULT_VERSION)
        if not NAME.fullmatch(name):
            raise invalid(f"The cluster name '{name}' is not valid")
        if (self.region, name) in self.clusters:
            raise ApiError("ResourceInUseException", f"Cluster already exists with name: {name}", 409)
        if version not in catalog.load().kubernetes:
            raise invalid("unsupported Kubernetes version")
        check_role(asked["roleArn"], "eks")
        network = self._network(asked["resourcesVpcConfig"])
        cluster = Cluster(self.region, name, version)
        access = asked.get("accessConfig", {})
        bootstrap = access.get("bootstrapClusterCreatorAdminPermissions", True)
        family = asked.get("kubernetesNetworkConfig", {})
        logs = asked.get("logging", {}).get("clusterLogging", [{"types": LOG_TYPES, "enabled": False}])
        cluster.data = {
            "name": name,
            "arn": f"arn:aws:eks:{self.region}:{ACCOUNT}:cluster/{name}",
            "createdAt": datetime.now(UTC),
            "version": version,
            "roleArn": asked["roleArn"],
            "resourcesVpcConfig": {**network, "clusterSecurityGroupId": self._group(name, network["vpcId"])},
            "kubernetesNetworkConfig": {
                "serviceIpv4Cidr": family.get("serviceIpv4Cidr", "10.100.0.0/16"),
                "ipFamily": family.get("ipFamily", "ipv4"),
            },
            "logging": {"clusterLogging": logs},
            "identity": {
                "oidc": {
                    "issuer": f"https://oidc.eks.{self.region}.amazonaws.com/id/{mock_random.get_random_hex(32).upper()}"
                }
            },
            "status": "CREATING",
            "certificateAuthority": {},
            "platformVersion": "eks.1",
            "tags": asked.get("tags", {}),
            "health": {"issues": []},
            "accessConfig": {
                "bootstrapClusterCreatorAdminPermissions": bootstrap,
                "authenticationMode": access.get("authenticationMode", "CONFIG_MAP"),
            },
            "upgradePolicy": {"supportType": asked.get("upgradePolicy", {}).get("supportType", "EXTENDED")},
            "deletionProtection": False,
        }
        if bootstrap:
            cluster.enter(caller_of(self), policy="AmazonEKSClusterAdminPolicy")
        self.clusters[self.region, name] = cluster
        self.world.later(self.world.times.cluster, partial(self.created, cluster))
        return ActionResult({"cluster": cluster.data})

    def _network(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Check the subnets of a cluster and give its network."""
        zones, vpcs = set(), set()
        for name in asked.get("subnetIds", []):
            subnet = subnet_of(self.region, name)
            zones.add(subnet.availability_zone)
            vpcs.add(subnet.vpc_id)
        if len(zones) < 2:
            raise invalid("Subnets specified must be in at least two different AZs")
        if len(vpcs) > 1:
            raise invalid("Subnets specified must be in the same VPC")
        return {
            "subnetIds": asked["subnetIds"],
            "securityGroupIds": asked.get("securityGroupIds", []),
            "vpcId": vpcs.pop(),
            "endpointPublicAccess": asked.get("endpointPublicAccess", True),
            "endpointPrivateAccess": asked.get("endpointPrivateAccess", False),
            "publicAccessCidrs": asked.get("publicAccessCidrs", ["0.0.0.0/0"]),
        }

    def _group(self, name: str, vpc: str) -> str:
        """Make the security group that EKS makes for a cluster and its nodes."""
        backend: Any = ec2_backends[ACCOUNT][self.region]
        made = backend.create_security_group(
            f"eks-cluster-sg-{name}-{mock_random.randint(10**9, 10**10 - 1)}",
            "EKS created security group applied to ENI that is attached to EKS Control Plane master nodes, as well as "
            "any managed workloads.",
            vpc_id=vpc,
        )
        made.add_tags({f"kubernetes.io/cluster/{name}": "owned", "aws:eks:cluster-name": name})
        return str(made.id)

    @classmethod
    def created(cls, cluster: Cluster) -> None:
        """Let a cluster be there: with its API server, its fleet and the add-ons that it starts with."""
        if cluster.status != "CREATING":
            return
        cluster.plane = open_plane(
            cls.world,
            cluster=cluster.name,
            region=cluster.region,
            version=cluster.version,
            endpoint=cls.endpoint,
            key=cls.key,
            seed=cls.seed,
            secret_of=secret_of if cls.key else None,
            fleet=cls.fleet,
        )
        authority = base64.b64encode(cluster.plane.server.ca_pem.encode()).decode()
        cluster.data |= {
            "status": "ACTIVE",
            "endpoint": cluster.plane.server.url,
            "certificateAuthority": {"data": authority},
        }

    def describe_cluster(self) -> ActionResult:
        """Describe a cluster."""
        return ActionResult({"cluster": self.cluster().data})

    def list_clusters(self) -> ActionResult:
        """Name the clusters of the region."""
        names = sorted(name for region, name in self.clusters if region == self.region)
        return ActionResult(page(self.params, "clusters", names))

    def delete_cluster(self) -> ActionResult:
        """Delete a cluster that has no node groups left, over time."""
        cluster = self.cluster()
        if cluster.groups:
            raise ApiError("ResourceInUseException", "Cluster has nodegroups attached", 409)
        if cluster.status in {"CREATING", "UPDATING"}:
            raise ApiError("ResourceInUseException", f"Cluster is in {cluster.status} status", 409)
        cluster.data["status"] = "DELETING"
        self.world.later(self.world.times.cluster / 2, partial(self._deleted, cluster))
        return ActionResult({"cluster": cluster.data})

    @classmethod
    def _deleted(cls, cluster: Cluster) -> None:
        cluster.close()
        backend: Any = ec2_backends[ACCOUNT][cluster.region]
        group = cluster.data["resourcesVpcConfig"]["clusterSecurityGroupId"]
        if backend.get_security_group_from_id(group) is not None:
            backend.delete_security_group(group_id=group)
        cls.clusters.pop((cluster.region, cluster.name), None)

    # Updates --------------------------------------------------------------------------------------------

    def update_cluster_version(self) -> ActionResult:
        """Update a cluster by one minor version."""
        cluster, wanted = self.active(), self.params["version"]
        before = int(cluster.version.partition(".")[2])
        if wanted not in catalog.load().kubernetes:
            raise invalid("unsupported Kubernetes version")
        if int(wanted.partition(".")[2]) != before + 1:
            raise invalid(f"Unsupported Kubernetes minor version update from {cluster.version} to {wanted}")
        update = Update("VersionUpdate", {"Version": wanted, "PlatformVersion": "eks.1"})
        cluster.updates[update.id] = update
        cluster.data["status"] = "UPDATING"
        self.world.later(self.world.times.upgrade, partial(self._updated, cluster, update, wanted))
        return ActionResult({"update": update.shown()})

    @staticmethod
    def _updated(cluster: Cluster, update: Update, version: str) -> None:
        cluster.data |= {"version": version, "status": "ACTIVE"}
        if cluster.plane is not None:
            cluster.plane.server.upgrade(version)
        update.end()

    def _target(self) -> tuple[Any, str]:
        """Give the cluster and what of it is meant; it must be there."""
        cluster, group, addon = self.cluster(), self.params.get("nodegroupName"), self.params.get("addonName")
        if group:
            self.group(cluster)
        elif addon:
            self.addon(cluster)
        return cluster, group or addon or ""

    def describe_update(self) -> ActionResult:
        """Describe an update."""
        cluster, target = self._target()
        found = cluster.updates.get(self.params["updateId"])
        if found is None or found.target != target:
            raise absent(f"No update found for ID: {self.params['updateId']}")
        return ActionResult({"update": found.shown()})

    def list_updates(self) -> ActionResult:
        """Name the updates, the newest first."""
        cluster, target = self._target()
        ids = [each.id for each in reversed(cluster.updates.values()) if each.target == target]
        return ActionResult(page(self.params, "updateIds", ids))

    def describe_cluster_versions(self) -> ActionResult:
        """Give EKS's calendar, from `data/catalog.yaml`; of today."""
        today, found = datetime.now(UTC).date(), []
        wanted = self.params.get("clusterVersions")
        for version, dates in reversed([*catalog.load().kubernetes.items()]):
            status = "STANDARD_SUPPORT" if today <= dates.standard_until else "EXTENDED_SUPPORT"
            status = status if today <= dates.extended_until else "UNSUPPORTED"
            found.append(
                {
                    "clusterVersion": version,
                    "clusterType": "eks",
                    "defaultPlatformVersion": "eks.1",
                    "defaultVersion": version == DEFAULT_VERSION,
                    "releaseDate": midnight(dates.released),
                    "endOfStandardSupportDate": midnight(dates.standard_until),
                    "endOfExtendedSupportDate": midnight(dates.extended_until),
                    "status": status.lower().replace("_", "-"),
                    "versionStatus": status,
                    "kubernetesPatchVersion": KUBELET.get(version, f"{version}.0"),
                }
            )
        asked = self.params.get("versionStatus") or str(self.params.get("status", "")).upper().replace("-", "_")
        rows = [
            each
            for each in found
            if (not wanted or each["clusterVersion"] in wanted)
            and (not asked or each["versionStatus"] == asked)
            and (each["versionStatus"] != "UNSUPPORTED" or asked or wanted or self.params.get("includeAll"))
            and (each["defaultVersion"] or not self.params.get("defaultOnly"))
        ]
        return ActionResult(page(self.params, "clusterVersions", rows))

    # Tags -----------------------------------------------------------------------------------------------------------

    def _tagged(self) -> dict[str, str]:
        """Find the tags of the cluster or the node group that a request names by its ARN."""
        arn = self.params["resourceArn"]
        for (region, _), cluster in self.clusters.items():
            things = [cluster.data, *(each.data for each in cluster.groups.values()), *cluster.addons.values()]
            for thing in things if region == self.region else []:
                if arn in {thing.get("arn"), thing.get("nodegroupArn"), thing.get("addonArn")}:
                    found: dict[str, str] = thing["tags"]
                    return found
        raise ApiError("NotFoundException", f"The specified resource could not be found: {arn}", 404)

    def tag_resource(self) -> ActionResult:
        """Put tags on a cluster, a node group or an add-on."""
        self._tagged().update(self.params["tags"])
        return EmptyResult()

    def untag_resource(self) -> ActionResult:
        """Take tags away."""
        tags = self._tagged()
        for key in self.params["tagKeys"]:
            tags.pop(key, None)
        return EmptyResult()

    def list_tags_for_resource(self) -> ActionResult:
        """Give the tags."""
        return ActionResult({"tags": self._tagged()})


def midnight(day: Any) -> datetime:
    """Give a date as the moment with which it begins."""
    return datetime.combine(day, time(), UTC)


def secret_of(key: str) -> str | None:
    """Give the secret of an access key, with which the cluster's API server checks tokens of EKS."""
    if key == LabEKS.key:
        return SECRET
    users = iam_backends[ACCOUNT]["aws"].users.values()
    keys: list[Any] = [
        *(each for user in users for each in user.access_keys),
        *sts_backends[ACCOUNT]["aws"].assumed_roles,
    ]
    return next((str(each.secret_access_key) for each in keys if each.access_key_id == key), None)
