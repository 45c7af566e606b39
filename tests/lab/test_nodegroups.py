"""EKS's managed node groups, as AWS describes them. The nodes are `helpers.Joining`'s: no fleet is needed for rules."""

from __future__ import annotations

import base64
import email
import time
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import Account, Joining, eventually, refused
from test_eks import update_of

pytestmark = pytest.mark.lab
ROLE = "arn:aws:iam::123456789012:role/leptonami-node"
LONG_S = 120.0  # on however busy a machine
COUNT = iter(range(1000))
PLAIN = "#!/bin/bash\n/etc/eks/bootstrap.sh leptonami\n"
INVALID, REQUEST = "InvalidParameterException", "InvalidRequestException"


class Nodegroups:
    """Makes node groups and takes them away at the end."""

    def __init__(self, account: Account) -> None:
        self.account, self.eks = account, account.eks
        self.made: list[str] = []

    def template(self, image: str | None = None, **data: Any) -> dict[str, str]:
        name = f"nodes-{next(COUNT)}"
        data = {"UserData": base64.b64encode(PLAIN.encode()).decode(), **data} if image else data
        data |= {"ImageId": image} if image else {}
        made = self.account.ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
        return {"id": made["LaunchTemplate"]["LaunchTemplateId"], "version": "1"}

    def custom(self, **data: Any) -> dict[str, str]:
        return self.template(self.account.base(), **{"InstanceType": "g4dn.xlarge", **data})

    def request(self, **more: Any) -> dict[str, Any]:
        network = self.eks.describe_cluster(name="leptonami")["cluster"]["resourcesVpcConfig"]
        subnets = {
            each["AvailabilityZone"]: each["SubnetId"]
            for each in self.account.ec2.describe_subnets(SubnetIds=network["subnetIds"])["Subnets"]
        }
        request = {
            "clusterName": "leptonami",
            "nodegroupName": f"group-{next(COUNT)}",
            "nodeRole": ROLE,
            "subnets": [subnets["us-west-2a"], subnets["us-west-2b"]],
            "scalingConfig": {"minSize": 0, "maxSize": 4, "desiredSize": 1},
            **more,
        }
        return {key: value for key, value in request.items() if value is not None}

    def make(self, **more: Any) -> str:
        found = self.eks.create_nodegroup(**self.request(**more))["nodegroup"]
        self.made.append(found["nodegroupName"])
        return str(found["nodegroupName"])

    def describe(self, name: str) -> Any:
        return self.eks.describe_nodegroup(clusterName="leptonami", nodegroupName=name)["nodegroup"]

    def wait(self, name: str, status: str = "ACTIVE") -> Any:
        eventually(lambda: self.describe(name)["status"] == status, f"{name} {status}")
        return self.describe(name)

    def group(self, name: str) -> Any:
        asg = self.describe(name)["resources"]["autoScalingGroups"][0]["name"]
        return self.account.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[asg])["AutoScalingGroups"][
            0
        ]

    def instances(self, name: str) -> list[Any]:
        ids = [each["InstanceId"] for each in self.group(name)["Instances"]]
        return [self.account.describe(each) for each in ids]

    def update(self, name: str, **more: Any) -> Any:
        call = self.eks.update_nodegroup_version
        return call(clusterName="leptonami", nodegroupName=name, **more)["update"]

    def end(self, name: str) -> None:
        self.eks.delete_nodegroup(clusterName="leptonami", nodegroupName=name)
        names = self.eks.list_nodegroups
        eventually(lambda: name not in names(clusterName="leptonami")["nodegroups"], f"the end of {name}")


@pytest.fixture
def nodegroups(clustered: Account) -> Iterator[Nodegroups]:
    made = Nodegroups(clustered)
    yield made
    clustered.lab.set_faults()
    clustered.lab.set_patience(LONG_S)
    with Joining(clustered):
        left = clustered.eks.list_nodegroups(clusterName="leptonami")["nodegroups"]
        for name in [each for each in made.made if each in left]:
            eventually(lambda name=name: made.describe(name)["status"] != "UPDATING", f"{name} is steady")  # type: ignore[misc]
            made.end(name)


@pytest.fixture
def joining(clustered: Account) -> Iterator[Joining]:
    with Joining(clustered) as running:
        yield running


# Creating -----------------------------------------------------------------------------------------------------------


def test_a_group_of_ones_own_image_launches_exactly_what_the_template_says(
    nodegroups: Nodegroups, joining: Joining
) -> None:
    ebs = [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 100, "VolumeType": "gp3", "Encrypted": True}}]
    template = nodegroups.custom(
        BlockDeviceMappings=ebs,
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "team", "Value": "gpu"}]}],
    )
    name = nodegroups.make(launchTemplate=template, labels={"team": "gpu"}, tags={"of": "group"})
    found = nodegroups.describe(name)
    assert (found["status"], found["amiType"], found["version"]) == ("CREATING", "CUSTOM", "1.33")
    assert found["releaseVersion"] == nodegroups.account.base()
    assert found["launchTemplate"]["version"] == "1" and "instanceTypes" not in found and "diskSize" not in found
    assert nodegroups.wait(name)["health"]["issues"] == []
    asg = nodegroups.group(name)
    assert asg["AutoScalingGroupName"].startswith(f"eks-{name}-")
    tags = {each["Key"]: each["Value"] for each in asg["Tags"]}
    assert tags == {
        "eks:cluster-name": "leptonami",
        "eks:nodegroup-name": name,
        "k8s.io/cluster-autoscaler/enabled": "true",
        "k8s.io/cluster-autoscaler/leptonami": "owned",
        "kubernetes.io/cluster/leptonami": "owned",
    }
    (instance,) = nodegroups.instances(name)
    assert (instance["ImageId"], instance["InstanceType"]) == (nodegroups.account.base(), "g4dn.xlarge")
    assert instance["MetadataOptions"]["HttpPutResponseHopLimit"] == 2
    shown = {each["Key"]: each["Value"] for each in instance["Tags"]}
    assert shown.items() >= {**tags, "team": "gpu", "aws:autoscaling:groupName": asg["AutoScalingGroupName"]}.items()
    assert "of" not in shown
    facts = nodegroups.account.lab._ask("GET", f"nodes/{instance['InstanceId']}")
    assert facts["user_data"] == PLAIN
    assert (facts["family"], facts["os_release"]["VERSION_ID"], facts["glibc"]) == ("ubuntu", "22.04", "2.35")
    assert (facts["kubelet"], facts["driver"], facts["toolkit"], facts["images"]) == ("v1.33.8", None, None, [])
    (role,) = nodegroups.account.iam.get_instance_profile(
        InstanceProfileName=instance["IamInstanceProfile"]["Arn"].rpartition("/")[2]
    )["InstanceProfile"]["Roles"]
    assert role["Arn"] == ROLE
    entry = nodegroups.eks.describe_access_entry(clusterName="leptonami", principalArn=ROLE)["accessEntry"]
    assert (entry["type"], entry["kubernetesGroups"]) == ("EC2_LINUX", ["system:nodes"])


@pytest.mark.parametrize(
    ("kind", "release", "words"),
    [
        ("AL2023_x86_64_NVIDIA", "1.33.8-20260923", ["application/node.eks.aws", "kind: NodeConfig"]),
        ("AL2_x86_64_GPU", "1.32.11-20251112", ["text/x-shellscript", "/etc/eks/bootstrap.sh leptonami"]),
        ("BOTTLEROCKET_x86_64_NVIDIA", "1.58.0-c5c37032", ["[settings.kubernetes]", 'cluster-name = "leptonami"']),
    ],
)
def test_a_group_of_an_ami_type_gets_its_newest_image_and_eks_own_user_data(
    nodegroups: Nodegroups, kind: str, release: str, words: list[str]
) -> None:
    name = nodegroups.make(
        amiType=kind,
        instanceTypes=["g4dn.xlarge"],
        version="1.32" if kind.startswith("AL2_") else None,
        labels={"team": "gpu"},
        taints=[{"key": "gpu", "value": "yes", "effect": "NO_SCHEDULE"}],
        diskSize=60,
    )
    eventually(lambda: nodegroups.instances(name) != [], "an instance")
    (instance,) = nodegroups.instances(name)
    found = nodegroups.describe(name)
    assert (found["releaseVersion"], found["instanceTypes"], found["diskSize"]) == (release, ["g4dn.xlarge"], 60)
    facts = nodegroups.account.lab._ask("GET", f"nodes/{instance['InstanceId']}")
    text = facts["user_data"]
    assert all(each in text for each in words), text
    for each in ("eks.amazonaws.com/nodegroup", name, instance["ImageId"], "team", "gpu"):
        assert each in text
    assert facts["driver"]["version"] and facts["toolkit"] and facts["default_runtime"] == "nvidia"
    sizes = {
        each["Size"]
        for device in instance["BlockDeviceMappings"]
        for each in nodegroups.account.ec2.describe_volumes(VolumeIds=[device["Ebs"]["VolumeId"]])["Volumes"]
    }
    assert 60 in sizes


def test_a_template_without_an_image_keeps_its_parts_beside_eks_own(nodegroups: Nodegroups) -> None:
    mime = (
        'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="B"\n\n--B\nContent-Type: text/x-shellscript\n\n'
        "#!/bin/bash\necho mine\n--B--\n"
    )
    template = nodegroups.template(UserData=base64.b64encode(mime.encode()).decode())
    name = nodegroups.make(launchTemplate=template, instanceTypes=["m6i.large"])
    eventually(lambda: nodegroups.instances(name) != [], "an instance")
    (instance,) = nodegroups.instances(name)
    text = nodegroups.account.lab._ask("GET", f"nodes/{instance['InstanceId']}")["user_data"]
    parts = [each for each in email.message_from_string(text).walk() if not each.is_multipart()]
    assert [each.get_content_type() for each in parts] == ["text/x-shellscript", "application/node.eks.aws"]
    assert "echo mine" in str(parts[0].get_payload())
    assert nodegroups.describe(name)["amiType"] == "AL2023_x86_64_STANDARD"


def test_an_older_release_can_be_asked_for(nodegroups: Nodegroups) -> None:
    request = {"amiType": "AL2023_x86_64_STANDARD", "scalingConfig": {"minSize": 0, "maxSize": 1, "desiredSize": 0}}
    name = nodegroups.make(**request, releaseVersion="1.33.8-20260826")
    assert nodegroups.describe(name)["releaseVersion"] == "1.33.8-20260826"
    asked = nodegroups.request(**request, releaseVersion="1.33.8-20200101")
    refused(INVALID, nodegroups.eks.create_nodegroup, says="20260923", **asked)


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"nodegroupName": "-x"}, INVALID, "not valid"),
        ({"nodeRole": "arn:aws:iam::123456789012:role/none"}, INVALID, "could not be assumed"),
        ({"subnets": ["subnet-0"]}, INVALID, "subnet-0"),
        ({"amiType": "CUSTOM"}, INVALID, "Launch template details can't be null for Custom ami type node group"),
        ({"amiType": "AL2_x86_64"}, REQUEST, "AMI Type AL2_x86_64 is only supported for kubernetes versions 1.32 or"),
        ({"amiType": "WINDOWS_CORE_2022_x86_64"}, "LabNotImplemented", "WINDOWS"),
        ({"version": "1.34"}, INVALID, "cannot be newer"),
        ({"instanceTypes": ["m6g.large"]}, INVALID, "[m6g.large] is not a valid instance type for requested amiType"),
        ({"instanceTypes": ["x9.huge"]}, INVALID, "do not exist: [x9.huge]"),
        ({"scalingConfig": {"minSize": 2, "maxSize": 3, "desiredSize": 1}}, INVALID, "Minimum capacity 2 can't be"),
        ({"scalingConfig": {"minSize": 1, "maxSize": 2, "desiredSize": 3}}, INVALID, "desired capacity 3 can't be"),
        ({"labels": {"eks.amazonaws.com/x": "y"}}, INVALID, "Label cannot contain reserved prefixes"),
        ({"labels": {"a": "b" * 64}}, INVALID, "label"),
        ({"labels": {"bad key": "b"}}, INVALID, "label"),
        ({"taints": [{"key": "a", "value": "b", "effect": "NO_SCHEDULE"}] * 51}, INVALID, "greater than 50"),
        ({"updateConfig": {"maxUnavailable": 1, "maxUnavailablePercentage": 5}}, INVALID, "both"),
        ({"remoteAccess": {"ec2SshKey": "k"}}, "LabNotImplemented", "remoteAccess"),
        ({"nodeRepairConfig": {"enabled": True}}, "LabNotImplemented", "nodeRepairConfig"),
        ({"capacityType": "CAPACITY_BLOCK"}, "LabNotImplemented", "CAPACITY_BLOCK"),
    ],
)
def test_groups_that_eks_refuses(nodegroups: Nodegroups, change: dict[str, Any], code: str, says: str) -> None:
    refused(code, nodegroups.eks.create_nodegroup, says=says, **nodegroups.request(**change))


@pytest.mark.parametrize(
    ("data", "change", "code", "says"),
    [
        ({"own": True}, {"amiType": "AL2023_x86_64_STANDARD"}, INVALID, "AMI Type other than CUSTOM"),
        ({"own": True}, {"version": "1.33"}, INVALID, "You cannot specify a kubernetes version to use"),
        ({"own": True}, {"releaseVersion": "1"}, INVALID, "You cannot specify a release version to use"),
        ({}, {"amiType": "CUSTOM"}, INVALID, "image id"),
        ({}, {"diskSize": 50}, INVALID, "Disk size must be specified within the launch template."),
        ({}, {"remoteAccess": {"ec2SshKey": "k"}}, INVALID, "Remote access configuration cannot be specified"),
        ({"InstanceType": "m6i.large"}, {"instanceTypes": ["m6i.large"]}, REQUEST, "Cannot specify instance types in"),
        ({"IamInstanceProfile": {"Name": "p"}}, {}, INVALID, "An instance profile is not supported"),
        ({"InstanceMarketOptions": {"MarketType": "spot"}}, {}, INVALID, "Instance market options are not supported"),
        ({"InstanceInitiatedShutdownBehavior": "stop"}, {}, INVALID, "shutdown behavior"),
        ({"NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": "subnet-1"}]}, {}, INVALID, "Subnets are not supported"),
        ({"CreditSpecification": {"CpuCredits": "standard"}}, {}, "LabNotImplemented", "CreditSpecification"),
    ],
)
def test_templates_that_eks_refuses(
    nodegroups: Nodegroups, data: dict[str, Any], change: dict[str, Any], code: str, says: str
) -> None:
    given = dict(data)
    template = (
        nodegroups.custom() if given.pop("own", False) else nodegroups.template(**{"EbsOptimized": True, **given})
    )
    refused(code, nodegroups.eks.create_nodegroup, says=says, **nodegroups.request(launchTemplate=template, **change))


def test_a_template_that_is_not_there(nodegroups: Nodegroups) -> None:
    create, template = nodegroups.eks.create_nodegroup, nodegroups.custom()
    for given in ({"name": "none"}, {"id": "lt-0123456789abcdef0"}, {**template, "version": "9"}):
        refused(REQUEST, create, **nodegroups.request(launchTemplate=given))


def test_names_are_unique_in_a_cluster(nodegroups: Nodegroups) -> None:
    name = nodegroups.make(scalingConfig={"minSize": 0, "maxSize": 1, "desiredSize": 0})
    says = f"NodeGroup already exists with name {name} and cluster name leptonami"
    refused(
        "ResourceInUseException", nodegroups.eks.create_nodegroup, says=says, **nodegroups.request(nodegroupName=name)
    )
    refused(
        "ResourceInUseException",
        nodegroups.eks.delete_cluster,
        says="Cluster has nodegroups attached",
        name="leptonami",
    )
    none = {"clusterName": "leptonami", "nodegroupName": "none"}
    refused("ResourceNotFoundException", nodegroups.eks.describe_nodegroup, says="No node group found", **none)


def test_a_request_token_makes_one_group_as_long_as_it_is_there(nodegroups: Nodegroups) -> None:
    nothing = {"minSize": 0, "maxSize": 1, "desiredSize": 0}
    request = nodegroups.request(clientRequestToken="one", scalingConfig=nothing)

    def make(**more: Any) -> Any:
        return nodegroups.eks.create_nodegroup(**{**request, **more})["nodegroup"]

    first = make()
    assert make()["nodegroupArn"] == first["nodegroupArn"]
    refused(INVALID, make, says="other parameters", labels={"a": "b"})
    name = first["nodegroupName"]
    nodegroups.wait(name)
    nodegroups.end(name)
    second = make(labels={"a": "b"})
    assert (second["status"], second["labels"]) == ("CREATING", {"a": "b"})
    assert second["nodegroupArn"] != first["nodegroupArn"]
    nodegroups.wait(name)
    nodegroups.end(name)


# Health -------------------------------------------------------------------------------------------------------------


def test_nodes_that_do_not_join_fail_the_group(nodegroups: Nodegroups) -> None:
    name = nodegroups.make(launchTemplate=nodegroups.custom())
    eventually(lambda: len(nodegroups.group(name)["Instances"]) == 1, "an instance")
    nodegroups.account.lab.set_patience(0)
    found = nodegroups.wait(name, "CREATE_FAILED")
    (problem,) = found["health"]["issues"]
    assert problem["code"] == "NodeCreationFailure"
    assert problem["message"] == "Instances failed to join the kubernetes cluster"
    assert problem["resourceIds"] == [each["InstanceId"] for each in nodegroups.group(name)["Instances"]]


def test_launches_that_fail_fail_the_group(nodegroups: Nodegroups, joining: Joining) -> None:
    nodegroups.account.lab.set_faults({"kind": "capacity", "instance_type": "g4dn.*"})
    name = nodegroups.make(launchTemplate=nodegroups.custom())
    activities = nodegroups.account.autoscaling.describe_scaling_activities
    asg = nodegroups.group(name)["AutoScalingGroupName"]
    eventually(lambda: activities(AutoScalingGroupName=asg)["Activities"], "a launch that fails")
    nodegroups.account.lab.set_patience(0)
    (problem,) = nodegroups.wait(name, "CREATE_FAILED")["health"]["issues"]
    assert problem["code"] == "AsgInstanceLaunchFailures"
    assert problem["message"].startswith("Could not launch On-Demand Instances. InsufficientInstanceCapacity - We")
    assert problem["resourceIds"] == [nodegroups.group(name)["AutoScalingGroupName"]]


def test_an_active_group_whose_things_are_taken_away_is_degraded(nodegroups: Nodegroups, joining: Joining) -> None:
    iam, ec2 = nodegroups.account.iam, nodegroups.account.ec2
    nodegroups.account.profile("short-lived", policy=None)
    role = "arn:aws:iam::123456789012:role/short-lived"
    name = nodegroups.make(launchTemplate=nodegroups.custom(), nodeRole=role)
    nodegroups.wait(name)
    own = nodegroups.group(name)["MixedInstancesPolicy"]["LaunchTemplate"]["LaunchTemplateSpecification"]
    ec2.delete_launch_template(LaunchTemplateId=own["LaunchTemplateId"])
    for profile in iam.list_instance_profiles_for_role(RoleName="short-lived")["InstanceProfiles"]:
        iam.remove_role_from_instance_profile(
            InstanceProfileName=profile["InstanceProfileName"], RoleName="short-lived"
        )
    iam.delete_role(RoleName="short-lived")
    found = nodegroups.describe(name)
    assert found["status"] == "DEGRADED"
    assert {each["code"] for each in found["health"]["issues"]} == {"Ec2LaunchTemplateNotFound", "IamNodeRoleNotFound"}


# Updates ------------------------------------------------------------------------------------------------------------


def test_sizes_labels_and_taints_are_changed(nodegroups: Nodegroups, joining: Joining) -> None:
    name = nodegroups.make(launchTemplate=nodegroups.custom(), labels={"old": "1"})
    nodegroups.wait(name)
    here = {"clusterName": "leptonami", "nodegroupName": name}
    change = nodegroups.eks.update_nodegroup_config
    refused(INVALID, change, says="can't be greater than max size", **here, scalingConfig={"desiredSize": 9})
    refused(INVALID, change, says="No update parameters", **here)
    update = change(
        **here,
        scalingConfig={"desiredSize": 2},
        labels={"addOrUpdateLabels": {"new": "2"}, "removeLabels": ["old"]},
        taints={"addOrUpdateTaints": [{"key": "gpu", "value": "yes", "effect": "NO_SCHEDULE"}]},
        updateConfig={"maxUnavailablePercentage": 50},
    )["update"]
    assert update["type"] == "ConfigUpdate"
    assert {"type": "DesiredSize", "value": "2"} in update["params"]
    assert update_of(nodegroups.account, update, nodegroupName=name)["status"] == "Successful"
    found = nodegroups.wait(name)
    assert found["scalingConfig"] == {"minSize": 0, "maxSize": 4, "desiredSize": 2}
    assert (found["labels"], found["updateConfig"]["maxUnavailablePercentage"]) == ({"new": "2"}, 50)
    (taint,) = found["taints"]
    assert taint == {"key": "gpu", "value": "yes", "effect": "NO_SCHEDULE"}
    eventually(lambda: len(nodegroups.group(name)["Instances"]) == 2, "two instances")
    (node,) = [
        each
        for each in joining.kube.items("/api/v1/nodes")
        if each["spec"].get("taints") and (each["metadata"].get("labels") or {}).get("new") == "2"
    ]
    assert node["spec"]["taints"][0] == {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
    assert nodegroups.eks.list_updates(name="leptonami", nodegroupName=name)["updateIds"] == [update["id"]]


def test_new_nodes_of_an_ami_type_begin_with_changed_labels(nodegroups: Nodegroups) -> None:
    nothing = {"minSize": 0, "maxSize": 1, "desiredSize": 0}
    name = nodegroups.make(labels={"old": "1"}, scalingConfig=nothing, instanceTypes=[])
    assert nodegroups.wait(name)["instanceTypes"] == ["t3.medium"]
    labels: Any = {"addOrUpdateLabels": {"new": "2"}, "removeLabels": ["old"]}
    here = {"clusterName": "leptonami", "nodegroupName": name}
    update = nodegroups.eks.update_nodegroup_config(**here, labels=labels, scalingConfig={"desiredSize": 1})["update"]
    assert update_of(nodegroups.account, update, nodegroupName=name)["status"] == "Successful"
    eventually(lambda: nodegroups.instances(name), "an instance")
    (instance,) = nodegroups.instances(name)
    text = nodegroups.account.lab._ask("GET", f"nodes/{instance['InstanceId']}")["user_data"]
    assert ",new=2" in text and "old=1" not in text


def test_a_group_without_its_auto_scaling_group_takes_no_update(nodegroups: Nodegroups) -> None:
    name = nodegroups.make(scalingConfig={"minSize": 0, "maxSize": 1, "desiredSize": 0})
    nodegroups.wait(name)
    asg = nodegroups.group(name)["AutoScalingGroupName"]
    nodegroups.account.autoscaling.delete_auto_scaling_group(AutoScalingGroupName=asg)
    found = nodegroups.wait(name, "DEGRADED")
    assert [each["code"] for each in found["health"]["issues"]] == ["AutoScalingGroupNotFound"]
    refused("ResourceInUseException", nodegroups.update, says="not in Active State", name=name)


def test_an_update_survives_an_old_node_that_dies(nodegroups: Nodegroups, joining: Joining) -> None:
    template = nodegroups.custom()
    name = nodegroups.make(launchTemplate=template)
    nodegroups.wait(name)
    (old,) = (each["InstanceId"] for each in nodegroups.instances(name))
    joining.pod("held", old)
    joining.budget("held", 0)
    nodegroups.account.ec2.create_launch_template_version(
        LaunchTemplateId=template["id"], SourceVersion="1", LaunchTemplateData={"InstanceType": "g5.xlarge"}
    )
    update = nodegroups.update(name, launchTemplate={"id": template["id"], "version": "2"})
    eventually(lambda: joining.kube.ask("GET", f"/api/v1/nodes/{old}")[1]["spec"].get("unschedulable"), "the cordon")
    gone = {"clusterName": "leptonami", "nodegroupName": name}
    refused("ResourceInUseException", nodegroups.eks.delete_nodegroup, says="UPDATING", **gone)
    nodegroups.account.ec2.terminate_instances(InstanceIds=[old])
    assert update_of(nodegroups.account, update, nodegroupName=name)["status"] == "Successful"
    nodegroups.wait(name)
    assert [each["InstanceType"] for each in nodegroups.instances(name)] == ["g5.xlarge"]


def test_a_new_version_rolls_every_node_after_its_pods_have_left(nodegroups: Nodegroups, joining: Joining) -> None:
    template = nodegroups.custom()
    name = nodegroups.make(launchTemplate=template, scalingConfig={"minSize": 1, "maxSize": 2, "desiredSize": 1})
    nodegroups.wait(name)
    # As an autoscaler does: EKS takes it over.
    asg = nodegroups.group(name)["AutoScalingGroupName"]
    nodegroups.account.autoscaling.set_desired_capacity(AutoScalingGroupName=asg, DesiredCapacity=2)
    assert nodegroups.describe(name)["scalingConfig"] == {"minSize": 1, "maxSize": 2, "desiredSize": 2}
    eventually(lambda: len(nodegroups.instances(name)) == 2, "a second instance")
    before = {each["InstanceId"] for each in nodegroups.instances(name)}
    joining.pod("moves", sorted(before)[0])
    joining.budget("moves", 0)  # the update is under way until this lets it go on
    nodegroups.account.ec2.create_launch_template_version(
        LaunchTemplateId=template["id"], SourceVersion="1", LaunchTemplateData={"InstanceType": "g5.xlarge"}
    )
    refused(INVALID, nodegroups.update, says="can't be null", name=name)
    update = nodegroups.update(name, launchTemplate={"id": template["id"], "version": "2"})
    assert {"type": "LaunchTemplateVersion", "value": "2"} in update["params"]
    assert nodegroups.describe(name)["status"] == "UPDATING"
    says = "Nodegroup cannot be updated as it is currently not in Active State"
    given = {"launchTemplate": {"id": template["id"], "version": "2"}}
    refused("ResourceInUseException", nodegroups.update, says=says, name=name, **given)
    joining.budget("moves", 1)
    done = update_of(nodegroups.account, update, nodegroupName=name)
    assert (done["status"], done["errors"]) == ("Successful", [])
    found = nodegroups.wait(name)
    assert found["launchTemplate"]["version"] == "2"
    assert found["scalingConfig"] == {"minSize": 1, "maxSize": 2, "desiredSize": 2}
    after = nodegroups.instances(name)
    assert before.isdisjoint(each["InstanceId"] for each in after)
    assert {each["InstanceType"] for each in after} == {"g5.xlarge"} and len(after) == 2
    assert nodegroups.group(name)["MaxSize"] == 2
    assert joining.kube.items("/api/v1/namespaces/default/pods") == []


@pytest.mark.parametrize(
    "pace",
    [{"maxUnavailable": 2}, {"maxUnavailablePercentage": 60}, {"maxUnavailable": 2, "updateStrategy": "MINIMAL"}],
)
def test_as_many_nodes_are_away_at_once_as_may_be(
    nodegroups: Nodegroups, joining: Joining, pace: dict[str, Any]
) -> None:
    minimal, template = "updateStrategy" in pace, nodegroups.custom()
    four = {"minSize": 0, "maxSize": 4, "desiredSize": 4}
    name = nodegroups.make(launchTemplate=template, updateConfig=pace, scalingConfig=four)
    nodegroups.wait(name)
    old = {each["InstanceId"] for each in nodegroups.instances(name)}
    app = f"guests-{name}"
    for node in old:
        joining.pod(f"on-{node}", node, app, held=True)

    def there() -> dict[str, Any]:
        return {each["metadata"]["name"]: each for each in joining.kube.items("/api/v1/nodes")}

    def away() -> set[str]:
        """Give the old nodes whose pods have been told to go, and those that are gone."""
        pods = joining.kube.items("/api/v1/namespaces/default/pods")
        staying = {each["spec"]["nodeName"] for each in pods if not each["metadata"].get("deletionTimestamp")}
        return old - (staying & set(there()))

    joining.budget(app, 1)
    nodegroups.account.ec2.create_launch_template_version(
        LaunchTemplateId=template["id"], SourceVersion="1", LaunchTemplateData={"InstanceType": "g5.xlarge"}
    )
    update = nodegroups.update(name, launchTemplate={"id": template["id"], "version": "2"})
    eventually(away, "the first eviction")
    time.sleep(0.3)  # a few more tries
    assert len(away()) == 1
    joining.budget(app, 3)
    eventually(lambda: len(away()) == 2, "the second one, which the budget held")
    time.sleep(0.3)
    first = away()
    assert len(first) == 2 and len(there()) == (4 if minimal else 8)
    marked = {
        each
        for each, node in there().items()
        if node["spec"].get("unschedulable")
        and node["metadata"]["labels"]["node.kubernetes.io/exclude-from-external-load-balancers"] == "true"
    }
    assert marked == (first if minimal else old)
    for node in sorted(first):
        assert away() == first
        joining.release(f"on-{node}")
        time.sleep(0.3)
    eventually(lambda: away() == old, "the second batch")
    eventually(lambda: first.isdisjoint(there()) and len(there()) == (4 if minimal else 8), "the first batch's end")
    for node in old - first:
        joining.release(f"on-{node}")
    done = update_of(nodegroups.account, update, nodegroupName=name)
    assert (done["status"], done["errors"]) == ("Successful", [])
    assert old.isdisjoint(each["InstanceId"] for each in nodegroups.instances(name))


def test_a_release_of_an_ami_type_is_updated(nodegroups: Nodegroups, joining: Joining) -> None:
    name = nodegroups.make(amiType="AL2023_x86_64_STANDARD", releaseVersion="1.33.8-20260826")
    nodegroups.wait(name)
    update = nodegroups.update(name)
    assert {"type": "ReleaseVersion", "value": "1.33.8-20260923"} in update["params"]
    assert update_of(nodegroups.account, update, nodegroupName=name)["status"] == "Successful"
    found = nodegroups.wait(name)
    assert found["releaseVersion"] == "1.33.8-20260923"
    (instance,) = nodegroups.instances(name)
    assert nodegroups.account.described_image(instance["ImageId"])["Name"].endswith("v20260923")
    refused(INVALID, nodegroups.update, says="already", name=name)


@pytest.mark.parametrize("force", [False, True])
def test_a_budget_that_allows_nothing_stops_an_update_unless_forced(
    nodegroups: Nodegroups, joining: Joining, force: bool
) -> None:
    template = nodegroups.custom()
    name = nodegroups.make(launchTemplate=template)
    nodegroups.wait(name)
    (old,) = (each["InstanceId"] for each in nodegroups.instances(name))
    pod = f"stays-{force}".lower()
    joining.pod(pod, old)
    joining.budget(pod, 0)
    nodegroups.account.ec2.create_launch_template_version(
        LaunchTemplateId=template["id"], SourceVersion="1", LaunchTemplateData={"InstanceType": "g5.xlarge"}
    )
    update = nodegroups.update(name, launchTemplate={"id": template["id"], "version": "2"}, force=force)
    eventually(lambda: joining.kube.ask("GET", f"/api/v1/nodes/{old}")[1]["spec"].get("unschedulable"), "the cordon")
    nodegroups.account.lab.set_patience(0)
    done = update_of(nodegroups.account, update, nodegroupName=name)
    found = nodegroups.wait(name)
    left = [each["metadata"]["name"] for each in joining.kube.items("/api/v1/namespaces/default/pods")]
    if force:
        assert (done["status"], found["launchTemplate"]["version"], left) == ("Successful", "2", [])
        return
    (error,) = done["errors"]
    assert (done["status"], error["errorCode"], error["resourceIds"]) == ("Failed", "PodEvictionFailure", [old])
    assert "Reached max retries while trying to evict pods from nodes in node group" in error["errorMessage"]
    assert (found["launchTemplate"]["version"], left) == ("1", [pod])
    nodegroups.account.lab.set_patience(LONG_S)
    eventually(lambda: [each["InstanceId"] for each in nodegroups.instances(name)] == [old], "the new ones are gone")
    node = joining.kube.ask("GET", f"/api/v1/nodes/{old}")[1]
    assert not node["spec"].get("unschedulable")
    joining.delete(pod)


def test_a_group_stays_of_its_kind(nodegroups: Nodegroups, joining: Joining) -> None:
    nothing = {"minSize": 0, "maxSize": 1, "desiredSize": 0}
    own, plain = nodegroups.custom(), nodegroups.template(InstanceType="m6i.large")
    ec2, image = nodegroups.account.ec2, nodegroups.account.base()
    ec2.create_launch_template_version(LaunchTemplateId=own["id"], LaunchTemplateData={"InstanceType": "m6i.large"})
    ec2.create_launch_template_version(LaunchTemplateId=plain["id"], LaunchTemplateData={"ImageId": image})
    custom = nodegroups.make(launchTemplate=own, scalingConfig=nothing)
    typed = nodegroups.make(launchTemplate=plain, scalingConfig=nothing)
    bare = nodegroups.make(scalingConfig=nothing)
    for name in (custom, typed, bare):
        nodegroups.wait(name)
    says = "You cannot specify the field kubernetesVersion when using custom AMIs."
    refused(INVALID, nodegroups.update, says=says, name=custom, version="1.33", launchTemplate=own)
    new = {"id": own["id"], "version": "2"}
    refused(INVALID, nodegroups.update, says="from an image id", name=custom, launchTemplate=new)
    new = {"id": plain["id"], "version": "2"}
    refused(INVALID, nodegroups.update, says="EKS optimized AMI", name=typed, launchTemplate=new)
    refused(INVALID, nodegroups.update, says="created without one", name=bare, launchTemplate=plain)


# Going --------------------------------------------------------------------------------------------------------------


def test_a_deleted_group_leaves_nothing(nodegroups: Nodegroups, joining: Joining) -> None:
    before = nodegroups.account.lab.state(ids=True)
    template = nodegroups.custom()
    name = nodegroups.make(launchTemplate=template)
    nodegroups.wait(name)
    nodegroups.end(name)
    nodegroups.account.ec2.delete_launch_template(LaunchTemplateId=template["id"])
    eventually(lambda: nodegroups.account.lab.state(ids=True) == before, "all of it is gone")


def test_an_instance_that_auto_scaling_gives_up_is_drained_first(nodegroups: Nodegroups, joining: Joining) -> None:
    name = nodegroups.make(launchTemplate=nodegroups.custom())
    nodegroups.wait(name)
    (old,) = (each["InstanceId"] for each in nodegroups.instances(name))
    joining.pod("guest", old)
    joining.budget("guest", 1)
    nodegroups.account.autoscaling.terminate_instance_in_auto_scaling_group(
        InstanceId=old, ShouldDecrementDesiredCapacity=True
    )
    eventually(lambda: nodegroups.instances(name) == [], "the instance's end")
    assert "guest" not in {each["metadata"]["name"] for each in joining.kube.items("/api/v1/pods")}


# What the fleet asks ------------------------------------------------------------------------------------------------


def test_faults_of_nodes_are_kept_and_checked(clustered: Account) -> None:
    import urllib.error

    faults = [{"group": "gpu-*", "fault": "never-joins"}]
    clustered.lab.set_fleet_faults(*faults)
    assert clustered.lab._ask("GET", "fleet-faults") == faults
    with pytest.raises(urllib.error.HTTPError) as caught:
        clustered.lab.set_fleet_faults({"fault": "made-up"})
    assert caught.value.code == 400
    caught.value.close()
    assert clustered.lab._ask("GET", "fleet-faults") == faults
    clustered.lab.set_fleet_faults()


def test_an_instance_that_is_not_there_has_no_disk(clustered: Account) -> None:
    import urllib.error

    with pytest.raises(urllib.error.HTTPError) as caught:
        clustered.lab._ask("GET", "nodes/i-0123456789abcdef0")
    assert caught.value.code == 404
    caught.value.close()
