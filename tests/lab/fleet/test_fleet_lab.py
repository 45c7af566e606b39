"""The fleet as the lab starts it: a node group grows, shrinks, and does not come up where a fault strikes."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from fleets import until

from leptonami.errors import InputError
from leptonami.lab import start
from leptonami.lab.fleet.__main__ import settings_of
from leptonami.lab.fleet.api import connect
from leptonami.lab.fleet.running import Settings


def test_a_node_group_becomes_nodes_and_a_fault_keeps_one_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with start(cluster=True, seed=3, patience=300) as lab:
        for name, value in lab.environment.items():
            monkeypatch.setenv(name, value)
        about = lab.clusters()[0]
        eks, iam = boto3.Session().client("eks"), boto3.Session().client("iam")
        subnets = eks.describe_cluster(name=about["name"])["cluster"]["resourcesVpcConfig"]["subnetIds"]
        role = iam.get_role(RoleName="leptonami-node")["Role"]["Arn"]
        api = connect(about["kubeconfig"])
        lab.set_fleet_faults({"group": "broken", "fault": "never-joins"})
        for name in ("workers", "broken"):
            eks.create_nodegroup(
                clusterName=about["name"],
                nodegroupName=name,
                nodeRole=role,
                subnets=subnets,
                amiType="AL2023_x86_64_STANDARD",
                instanceTypes=["m5.large"],
                scalingConfig={"minSize": 0, "maxSize": 2, "desiredSize": 1},
            )

        def nodes() -> list[Any]:
            found: list[Any] = api.ask("GET", "/api/v1/nodes")["items"]
            return [
                node
                for node in found
                if any(each["type"] == "Ready" and each["status"] == "True" for each in node["status"]["conditions"])
            ]

        node = until(nodes)[0]
        labels = node["metadata"]["labels"]
        assert labels["eks.amazonaws.com/nodegroup"] == "workers"
        assert labels["node.kubernetes.io/instance-type"] == "m5.large"
        assert node["status"]["nodeInfo"]["osImage"] == "Amazon Linux 2023"
        assert node["status"]["capacity"]["pods"] == "29"
        until(lambda: status(eks, about["name"], "workers") == "ACTIVE")
        # EKS waits for the other one's node, which never comes.
        assert status(eks, about["name"], "broken") == "CREATING"
        assert len(nodes()) == 1
        eks.update_nodegroup_config(
            clusterName=about["name"], nodegroupName="workers", scalingConfig={"minSize": 0, "desiredSize": 0}
        )
        until(lambda: not api.ask("GET", "/api/v1/nodes")["items"])
        # A single instance joins by its tag and its user data; another one without the tag is nobody's.
        ec2 = boto3.Session().client("ec2")
        images = ec2.describe_images(
            Owners=["099720109477"], Filters=[{"Name": "name", "Values": ["ubuntu-eks/*1.33*"]}]
        )
        image = next(each["ImageId"] for each in images["Images"] if each["Architecture"] == "x86_64")
        single = ""
        for tag in (f"kubernetes.io/cluster/{about['name']}", "another"):
            launched = ec2.run_instances(
                ImageId=image,
                InstanceType="m5.large",
                MinCount=1,
                MaxCount=1,
                UserData=f"#!/bin/bash\n/etc/eks/bootstrap.sh {about['name']}\n",
                TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": tag, "Value": "owned"}]}],
            )
            single = single or launched["Instances"][0]["InstanceId"]
        (node,) = until(nodes)
        assert node["spec"]["providerID"].endswith(f"/{single}")
        assert "eks.amazonaws.com/nodegroup" not in node["metadata"]["labels"]
        ec2.terminate_instances(InstanceIds=[single])
        until(lambda: not api.ask("GET", "/api/v1/nodes")["items"])
        ec2.close()
        assert lab.clusters()[0]["fleet"]["restarts"] == 0
        api.close()
        for client in (eks, iam):
            client.close()


def status(eks: Any, cluster: str, group: str) -> str:
    return str(eks.describe_nodegroup(clusterName=cluster, nodegroupName=group)["nodegroup"]["status"])


def test_settings_are_json_that_options_override() -> None:
    given = '{"kubeconfig": "a", "cluster": "b", "speed": "inf", "seed": null}'
    found = settings_of([given, "--cluster", "c", "--endpoint-url", "http://127.0.0.1:1", "--no-control"])
    assert found == Settings("a", cluster="c", endpoint_url="http://127.0.0.1:1", speed=float("inf"), control=False)
    for wrong in ("[]", "{", '{"colour": 1}', '{"speed": "fast"}'):
        with pytest.raises(InputError):
            settings_of([wrong])
