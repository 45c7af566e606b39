"""EKS's managed node groups: each with a launch template, an instance profile and an Auto Scaling group of its own."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import partial
from typing import Any

from moto.autoscaling.models import autoscaling_backends
from moto.core.responses import ActionResult
from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends
from moto.moto_api._internal import mock_random

from leptonami.lab import rollout
from leptonami.lab.ekstate import Cluster, Group, Update, absent, check_role, invalid, subnet_of
from leptonami.lab.groupimages import ARCHITECTURES, image_of
from leptonami.lab.grouprules import (
    AMI_TYPES,
    check_labels,
    check_template,
    check_types,
    check_update,
    sizes,
    unavailable,
)
from leptonami.lab.groups import LEAST_S
from leptonami.lab.nodedata import template_data
from leptonami.lab.scaling import remove
from leptonami.lab.templates import find, version_of
from leptonami.lab.wire import ApiError, page
from leptonami.lab.world import ACCOUNT

__all__ = ["NodegroupCalls"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
CREATE = {
    *("clusterName", "nodegroupName", "scalingConfig", "diskSize", "subnets", "instanceTypes", "amiType", "nodeRole"),
    *("labels", "taints", "tags", "clientRequestToken", "launchTemplate", "updateConfig", "capacityType", "version"),
    *("releaseVersion", "remoteAccess"),
}


class NodegroupCalls:
    """Comes into EKS's class."""

    def group(self: Any, cluster: Cluster) -> Group:
        """Find the node group that a request names."""
        name = self.params["nodegroupName"]
        if name not in cluster.groups:
            raise absent(f"No node group found for name: {name}.")
        return cluster.groups[name]

    def _steady(self: Any) -> tuple[Cluster, Group]:
        """Find a node group that takes changes."""
        cluster = self.active()
        group = self.group(cluster)
        group.sync()
        if group.data["status"] != "ACTIVE" or group.asg.gone:
            raise ApiError(
                "ResourceInUseException", "Nodegroup cannot be updated as it is currently not in Active State", 409
            )
        return cluster, group

    def _template(self: Any) -> tuple[dict[str, str] | None, dict[str, Any] | None]:
        """Find the launch template that a request names; give how it is shown, and its data."""
        given = self.params.get("launchTemplate")
        if given is None:
            return None, None
        words = {"LaunchTemplateId": given.get("id"), "LaunchTemplateName": given.get("name")}
        try:
            template = find(ec2_backends[ACCOUNT][self.region], words)
            version = version_of(template, given.get("version"))
        except ApiError as problem:
            raise ApiError("InvalidRequestException", problem.message) from problem
        return {"id": template.id, "name": template.name, "version": str(version.number)}, version.data

    def create_nodegroup(self: Any) -> ActionResult:
        """Make a node group: creating until as many nodes as wanted are ready."""
        cluster, asked = self.active(), self.params
        if extra := set(asked) - CREATE:
            raise NotImplementedError(f"CreateNodegroup with {', '.join(sorted(extra))}")
        name = asked["nodegroupName"]
        if not NAME.fullmatch(name):
            raise invalid(f"The node group name '{name}' is not valid")
        if name in cluster.groups:
            message = f"NodeGroup already exists with name {name} and cluster name {cluster.name}"
            raise ApiError("ResourceInUseException", message, 409)
        shown, data = self._template()
        check_template(asked, data)
        if "remoteAccess" in asked:
            raise NotImplementedError("CreateNodegroup with remoteAccess")
        check_labels(asked.get("labels", {}), asked.get("taints", []))
        wanted = sizes(asked.get("scalingConfig", {}))
        if not asked["subnets"]:
            raise invalid("Subnets are not specified")
        for subnet in asked["subnets"]:
            if subnet_of(self.region, subnet).vpc_id != cluster.data["resourcesVpcConfig"]["vpcId"]:
                raise invalid(f"Subnet {subnet} is not in the VPC of the cluster")
        role = check_role(asked["nodeRole"], "ec2")
        image = (data or {}).get("ImageId")
        kind = "CUSTOM" if image else asked.get("amiType", "AL2023_x86_64_STANDARD")
        types = types_of(data or {}, asked)
        if kind != "CUSTOM" and kind not in AMI_TYPES:
            raise NotImplementedError(f"CreateNodegroup with the AMI type {kind}")
        capacity = asked.get("capacityType", "ON_DEMAND")
        if capacity not in {"ON_DEMAND", "SPOT"}:
            raise NotImplementedError(f"CreateNodegroup with the capacity type {capacity}")
        check_types(types, kind, ARCHITECTURES)
        version, release_version, image = image_of(self.region, cluster, kind, asked, image)
        unique, now = str(mock_random.uuid4()), datetime.now(UTC)
        found = {
            "nodegroupName": name,
            "nodegroupArn": f"arn:aws:eks:{self.region}:{ACCOUNT}:nodegroup/{cluster.name}/{name}/{unique}",
            "clusterName": cluster.name,
            "version": version,
            "releaseVersion": release_version,
            "createdAt": now,
            "modifiedAt": now,
            "status": "CREATING",
            "capacityType": capacity,
            "scalingConfig": wanted,
            **({} if data and data.get("InstanceType") else {"instanceTypes": types}),
            "subnets": asked["subnets"],
            "amiType": kind,
            "nodeRole": asked["nodeRole"],
            "labels": asked.get("labels", {}),
            "taints": asked.get("taints", []),
            "resources": {"autoScalingGroups": [{"name": f"eks-{name}-{unique}"}]},
            **({"diskSize": asked.get("diskSize", 20)} if data is None else {}),
            "updateConfig": unavailable(asked.get("updateConfig")),
            **({"launchTemplate": shown} if shown else {}),
            "tags": asked.get("tags", {}),
        }
        group = self._build(cluster, found, data or {}, image, role=role, unique=unique)
        cluster.groups[name] = group
        if asked["nodeRole"] not in cluster.entries:
            cluster.enter(asked["nodeRole"], kind="EC2_LINUX")
        group.work(rollout.create)
        return ActionResult({"nodegroup": group.shown()})

    def _build(
        self: Any,
        cluster: Cluster,
        found: dict[str, Any],
        data: dict[str, Any],
        image: str,
        *,
        role: Any,
        unique: str,
    ) -> Group:
        """Make what EKS makes: an instance profile, a launch template and an Auto Scaling group."""
        profile = f"eks-{unique}"
        filled = template_data(cluster, found, data, image, profile)
        iam: Any = iam_backends[ACCOUNT]["aws"]
        iam.create_instance_profile(profile, "/", [], {})
        iam.add_role_to_instance_profile(profile, role.name)
        tags = {"eks:cluster-name": cluster.name, "eks:nodegroup-name": found["nodegroupName"]}
        backend: Any = ec2_backends[ACCOUNT][self.region]
        template = backend.create_launch_template(profile, "", filled, {"launch-template": tags})
        tags |= {
            f"k8s.io/cluster-autoscaler/{cluster.name}": "owned",
            "k8s.io/cluster-autoscaler/enabled": "true",
            f"kubernetes.io/cluster/{cluster.name}": "owned",
        }
        name, wanted = found["resources"]["autoScalingGroups"][0]["name"], found["scalingConfig"]
        asg: Any = autoscaling_backends[ACCOUNT][self.region].create_auto_scaling_group(
            name=name,
            availability_zones=[],
            desired_capacity=wanted["desiredSize"],
            max_size=wanted["maxSize"],
            min_size=wanted["minSize"],
            launch_config_name=None,  # type: ignore[arg-type]
            launch_template={},
            vpc_zone_identifier=",".join(found["subnets"]),
            default_cooldown=None,
            health_check_period=15,
            health_check_type="EC2",
            load_balancers=[],
            target_group_arns=[],
            placement_group=None,
            termination_policies=["Default"],
            tags=[{"Key": key, "Value": value, "PropagateAtLaunch": True} for key, value in tags.items()],  # type: ignore[dict-item]
            capacity_rebalance=found["capacityType"] == "SPOT",
            mixed_instances_policy=mixed(template, 1, types_of(data, found), spot=found["capacityType"] == "SPOT"),
        )
        group = Group(cluster, found, template, asg, profile, data, self.world)
        asg.drain = partial(rollout.drain_instance, group)
        return group

    def describe_nodegroup(self: Any) -> ActionResult:
        """Describe a node group."""
        return ActionResult({"nodegroup": self.group(self.cluster()).shown()})

    def list_nodegroups(self: Any) -> ActionResult:
        """Name a cluster's node groups."""
        return ActionResult(page(self.params, "nodegroups", sorted(self.cluster().groups)))

    def delete_nodegroup(self: Any) -> ActionResult:
        """Delete a node group: its nodes are drained and go, then what EKS made for it."""
        group = self.group(self.cluster())
        if group.data["status"] in {"UPDATING", "DELETING"}:
            raise ApiError("ResourceInUseException", f"Nodegroup is in {group.data['status']} status", 409)
        group.data["status"] = "DELETING"
        if not group.asg.gone:
            remove(autoscaling_backends[ACCOUNT][self.region], group.asg)
        self.world.later(0, partial(deleted, group))
        return ActionResult({"nodegroup": group.shown()})

    # Updates --------------------------------------------------------------------------------------------------------

    def update_nodegroup_config(self: Any) -> ActionResult:
        """Change a group's sizes, labels, taints or the pace of its updates."""
        cluster, group = self._steady()
        asked, params = self.params, dict[str, str]()
        known = {
            "clusterName",
            "nodegroupName",
            "clientRequestToken",
            "labels",
            "taints",
            "scalingConfig",
            "updateConfig",
        }
        if extra := set(asked) - known:
            raise NotImplementedError(f"UpdateNodegroupConfig with {', '.join(sorted(extra))}")
        labels, taints = asked.get("labels", {}), asked.get("taints", {})
        check_labels(labels.get("addOrUpdateLabels", {}), taints.get("addOrUpdateTaints", []))
        kept = {key: value for key, value in group.data["labels"].items() if key not in labels.get("removeLabels", [])}
        gone = [identity(each) for each in [*taints.get("removeTaints", []), *taints.get("addOrUpdateTaints", [])]]
        left = [each for each in group.data["taints"] if identity(each) not in gone]
        new: dict[str, Any] = {
            "labels": {**kept, **labels.get("addOrUpdateLabels", {})},
            "taints": [*left, *taints.get("addOrUpdateTaints", [])],
        }
        check_labels(new["labels"], new["taints"])
        if "scalingConfig" in asked:
            new["scalingConfig"] = sizes(asked["scalingConfig"], group.data["scalingConfig"])
            params |= {key[0].upper() + key[1:]: str(value) for key, value in asked["scalingConfig"].items()}
        if "updateConfig" in asked:
            new["updateConfig"] = unavailable(asked["updateConfig"])
            params |= {key[0].upper() + key[1:]: str(value) for key, value in asked["updateConfig"].items()}
        for given, words in ((labels, ("LabelsToAdd", "LabelsToRemove")), (taints, ("TaintsToAdd", "TaintsToRemove"))):
            for key, value in given.items():
                params[words[0] if key.startswith("addOrUpdate") else words[1]] = json.dumps(value)
        if not params:
            raise invalid("No update parameters were specified")
        update = Update("ConfigUpdate", params, group.name)
        cluster.updates[update.id] = update
        before = (group.data["labels"], group.data["taints"])
        group.data |= {**new, "status": "UPDATING", "modifiedAt": datetime.now(UTC)}
        if group.data["amiType"] != "CUSTOM" and before != (new["labels"], new["taints"]):
            # What comes from now on begins with them: they are in EKS's user data.
            launch_by(group, group.data, group.base, version_of(group.template, None).data["ImageId"])
        if "scalingConfig" in asked:
            rollout.resize(group.asg, new["scalingConfig"])
        group.work(partial(rollout.configure, update=update, before=before))
        return ActionResult({"update": update.shown()})

    def update_nodegroup_version(self: Any) -> ActionResult:
        """Roll a group to another version of its launch template, or to another release of its AMI type."""
        cluster, group = self._steady()
        asked, before = self.params, group.data
        shown, data = self._template()
        check_update(asked, before, data)
        if shown and shown["id"] != before["launchTemplate"]["id"]:
            raise invalid("You cannot change the launch template of a node group, only its version.")
        image = (data or {}).get("ImageId")
        kind = before["amiType"]
        base = group.base if data is None else data
        if data is not None and not image and "version" not in asked:
            asked = {**asked, "version": before["version"]}
            if "releaseVersion" not in self.params:
                asked["releaseVersion"] = before["releaseVersion"]
        if kind != "CUSTOM" and "version" not in asked:
            asked = {**asked, "version": before["version"]}
        version, release_version, image = image_of(self.region, cluster, kind, asked, image)
        params = {"Version": version, "ReleaseVersion": release_version}
        if shown:
            params |= {"LaunchTemplateName": shown["name"], "LaunchTemplateVersion": shown["version"]}
        if (release_version, version, shown or before.get("launchTemplate")) == (
            before["releaseVersion"],
            before["version"],
            before.get("launchTemplate"),
        ):
            raise invalid("Nodegroup is already at the requested version")
        new = {"version": version, "releaseVersion": release_version, **({"launchTemplate": shown} if shown else {})}
        check_types(types_of(base, before), kind, ARCHITECTURES)
        update = Update("VersionUpdate", params, group.name)
        cluster.updates[update.id] = update
        policy = launch_by(group, {**before, **new}, base, image)
        group.data["status"] = "UPDATING"
        forced = bool(asked.get("force", False))
        group.work(partial(rollout.roll, update=update, new=new, base=base, policy=policy, forced=forced))
        return ActionResult({"update": update.shown()})


def identity(taint: dict[str, str]) -> tuple[str, str]:
    """Give what makes a taint the same one."""
    return taint["key"], taint["effect"]


def types_of(data: dict[str, Any], group: dict[str, Any]) -> list[str]:
    """Give the instance types of a group: its launch template's, its own, or EKS's choice."""
    return [data["InstanceType"]] if data.get("InstanceType") else group.get("instanceTypes") or ["t3.medium"]


def launch_by(group: Group, found: dict[str, Any], base: dict[str, Any], image: str) -> Any:
    """Let a group launch by a new version of EKS's own template from now on; give the policy it had before."""
    before = group.asg.mixed_instances_policy
    filled = template_data(group.cluster, found, base, image, group.profile)
    number = group.template.create_version(filled, "").number
    group.template.default_version_number = number
    group.asg.switch(mixed(group.template, number, types_of(base, found), spot=found["capacityType"] == "SPOT"))
    return before


def mixed(template: Any, version: int, types: list[str], *, spot: bool) -> dict[str, Any]:
    """Write the policy of a node group's Auto Scaling group."""
    return {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": {"LaunchTemplateId": template.id, "Version": str(version)},
            "Overrides": [{"InstanceType": each} for each in types],
        },
        "InstancesDistribution": {
            "OnDemandAllocationStrategy": "prioritized",
            "OnDemandBaseCapacity": 0,
            "OnDemandPercentageAboveBaseCapacity": 0 if spot else 100,
            "SpotAllocationStrategy": "price-capacity-optimized",
        },
    }


def deleted(group: Group) -> None:
    """Take a group away once its instances are gone, with what EKS made for it."""
    if group.asg.instance_states:
        group.world.later(LEAST_S, partial(deleted, group))
        return
    backend: Any = ec2_backends[ACCOUNT][group.cluster.region]
    if group.template.id in backend.launch_templates:
        backend.delete_launch_template(None, group.template.id)
    iam: Any = iam_backends[ACCOUNT]["aws"]
    profile = iam.instance_profiles.pop(group.profile, None)
    if profile is not None:
        iam.instance_profiles.pop(profile.id, None)
    group.cluster.groups.pop(group.name, None)
