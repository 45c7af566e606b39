"""A custom image from its build to the verdict, and beside it images that fail for their documented reasons."""

from __future__ import annotations

import base64
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import small

from leptonami import catalog
from leptonami.build import executor
from leptonami.lab import Lab, start
from leptonami.target import connect

KUBERNETES = "1.32"  # the last version with an AMI of Amazon Linux 2
CLUSTER = "leptonami"
LONG_S = 240.0  # on however busy a machine
IMAGE = "registry.k8s.io/nfd/node-feature-discovery:v0.12.1"  # of NFD in the operator's v23.3; the AMI brings it


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, scripts: None) -> Iterator[Lab]:
    with start(cluster=KUBERNETES, speed=400, seed=4, patience=LONG_S) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running
        # A controller that failed may have gone on; it is a defect all the same.
        log = Path(running.kubeconfig).with_suffix(".fleet.log")
        assert "Traceback" not in log.read_text(encoding="utf-8")


def run(*words: str, given: str = "", codes: tuple[int, ...] = (0,)) -> str:
    """Run a command of the environment that Python is in, as a user does."""
    where = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        words,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=LONG_S,
        env={**os.environ, "PATH": where},
    )
    assert done.returncode in codes, (words, done.returncode, done.stdout, done.stderr)
    return done.stdout


def until(found: Callable[[], Any]) -> Any:
    """Ask until there is an answer."""
    end = time.monotonic() + LONG_S
    while not (answer := found()):
        assert time.monotonic() < end, run("kubectl", "get", "nodes,pods", "-A", "-o", "wide")
        time.sleep(0.2)
    return answer


class Groups:
    """Makes node groups as `docs/lab.md` does."""

    def __init__(self) -> None:
        self.eks: Any = boto3.Session().client("eks")
        self.ec2: Any = boto3.Session().client("ec2")
        iam = boto3.Session().client("iam")
        self.cluster = self.eks.describe_cluster(name=CLUSTER)["cluster"]
        self.role = iam.get_role(RoleName="leptonami-node")["Role"]["Arn"]
        iam.close()

    def __enter__(self) -> Groups:
        return self

    def __exit__(self, *_: object) -> None:
        self.eks.close()
        self.ec2.close()

    def make(self, name: str, **how: Any) -> None:
        self.eks.create_nodegroup(
            clusterName=CLUSTER,
            nodegroupName=name,
            nodeRole=self.role,
            subnets=self.cluster["resourcesVpcConfig"]["subnetIds"],
            scalingConfig={"minSize": 0, "maxSize": 2, "desiredSize": 1},
            **how,
        )

    def of_image(self, name: str, image: str) -> None:
        """Make one of an Ubuntu image, with the user data that leptonami writes."""
        known = self.cluster
        info = catalog.ClusterInfo(
            known["name"],
            known["endpoint"],
            known["certificateAuthority"]["data"],
            known["kubernetesNetworkConfig"]["serviceIpv4Cidr"],
        )
        release = catalog.load().release("ubuntu-eks", "22.04", KUBERNETES, "amd64")
        text = catalog.user_data(release, cluster=info, gpu=name == "custom")
        data = {"ImageId": image, "InstanceType": "g4dn.xlarge", "UserData": base64.b64encode(text.encode()).decode()}
        self.ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
        self.make(name, launchTemplate={"name": name})

    def status(self, name: str) -> str:
        found = self.eks.describe_nodegroup(clusterName=CLUSTER, nodegroupName=name)["nodegroup"]
        assert not found["health"]["issues"]
        return str(found["status"])


def items(kind: str, *more: str) -> list[dict[str, Any]]:
    """Get objects, of a namespace those of the operator's."""
    found = json.loads(run("kubectl", "get", kind, "-n", "gpu-operator", "-o", "json", *more))
    return list(found["items"])


def ready_nodes() -> dict[str, Any]:
    """Give the Nodes that are Ready, by their node group."""
    good = [
        each for each in items("nodes") if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions(each))
    ]
    return {each["metadata"]["labels"].get("eks.amazonaws.com/nodegroup", ""): each for each in good}


def conditions(obj: Any) -> list[dict[str, str]]:
    return list(obj["status"].get("conditions") or ())


def built(folder: Path) -> str:
    """Build a GPU image: a driver, a toolkit, and one image of the operator's that is there already."""
    (folder / "images.yaml").write_text(
        json.dumps({"schema": 1, "images": [{"ref": IMAGE, "size": {"compressed_mib": 60, "unpacked_mib": 180}}]})
    )
    plan = small.load(
        folder,
        kubernetes=KUBERNETES,
        builder={"instance_types": ["g4dn.xlarge"]},
        steps=[
            "settle",
            {"nvidia-driver": {"branch": "535", "version": "535.309.01-0ubuntu0.22.04.1", "modules": "precompiled"}},
            {"nvidia-toolkit": {"version": "1.17.8-1"}},
            {"prefetch": {"images": "images.yaml"}},
            "versions",
            "hygiene",
        ],
    )
    with connect("account", region="us-west-2") as target:
        result = executor.build(target, plan, runs=folder / "runs")
    assert all(each.ok for each in result.findings)
    return result.image.id


def explained(what: str) -> dict[str, Any]:
    """Ask leptonami about the cluster. It ends with 3 when something is wrong in it."""
    found: dict[str, Any] = json.loads(run("leptonami", "explain", what, "--context", CLUSTER, "--json", codes=(0, 3)))
    return found


def broken(stack: dict[str, Any]) -> dict[str, Any]:
    """Give the first link of a node's chain that is broken."""
    return next(each for each in stack["links"] if each["state"] == "broken")


def listed() -> str:
    """Give the operator's pods as kubectl lists them."""
    return run("kubectl", "get", "pods", "-n", "gpu-operator", "--no-headers")


def pulls(pod: dict[str, Any]) -> list[str]:
    """Give what the kubelet said when a pod's image was there."""
    wanted = f"involvedObject.uid={pod['metadata']['uid']},reason=Pulled"
    return [each["message"] for each in items("events", "--field-selector", wanted)]


def parsed(kubeconfig: str) -> dict[str, int]:
    """Have the official client's models read what there is, kind by kind, and give how many there are of each."""
    client: Any = importlib.import_module("kubernetes.client")
    config: Any = importlib.import_module("kubernetes.config")
    with config.new_client_from_config(kubeconfig) as api:
        lists = {
            "CoreV1Api": ("node", "namespace", "pod_for_all_namespaces", "event_for_all_namespaces"),
            "AppsV1Api": ("daemon_set_for_all_namespaces", "deployment_for_all_namespaces"),
            "EventsV1Api": ("event_for_all_namespaces",),
            "CoordinationV1Api": ("lease_for_all_namespaces",),
            "NodeV1Api": ("runtime_class",),
            "ApiextensionsV1Api": ("custom_resource_definition",),
        }
        lists["AppsV1Api"] += ("replica_set_for_all_namespaces", "controller_revision_for_all_namespaces")
        found = {
            f"{group}.{what}": len(getattr(getattr(client, group)(api), f"list_{what}")().items)
            for group, names in lists.items()
            for what in names
        }
        api.rest_client.pool_manager.clear()
    return found


def test_a_custom_image_works_where_the_others_fail_for_their_documented_reasons(lab: Lab, tmp_path: Path) -> None:
    parameter = f"/aws/service/canonical/ubuntu/eks/22.04/{KUBERNETES}/stable/current/amd64/hvm/ebs-gp2/ami-id"
    ssm = boto3.Session().client("ssm")
    plain = ssm.get_parameter(Name=parameter)["Parameter"]["Value"]
    ssm.close()
    with Groups() as groups:
        # The operator's own pod and NFD's go where most is free. On a GPU node they would keep it from being removed.
        groups.make("system", amiType="AL2023_x86_64_STANDARD", instanceTypes=["m5.4xlarge"])
        # Amazon Linux comes first, and its name is first of all: v23.3 of the operator takes its OS for all nodes.
        groups.make("al2", amiType="AL2_x86_64_GPU", instanceTypes=["g4dn.xlarge"])
        until(lambda: "al2" in ready_nodes())
        groups.of_image("plain", plain)
        groups.of_image("custom", built(tmp_path))
        nodes = until(lambda: len(found := ready_nodes()) == 4 and found)
        until(lambda: {groups.status(each) for each in nodes} == {"ACTIVE"})
    names = {group: node["metadata"]["name"] for group, node in nodes.items() if group != "system"}
    assert min(names.values()) == names["al2"]
    for node in nodes.values():
        assert node["metadata"]["annotations"]["lab.leptonami.dev/simulated"] == "speed=400"
    assert nodes["al2"]["status"]["nodeInfo"]["osImage"] == "Amazon Linux 2"
    assert [IMAGE in str(nodes[each]["status"]["images"]) for each in ("al2", "plain", "custom")] == [0, 0, 1]

    for more in (["--crds"], []):
        run("kubectl", "apply", "-f", "-", given=run("leptonami", "lab", "gpu-operator", "v23.3", *more))

    # Cheaper than to ask for verdicts again and again.
    until(lambda: {"ImagePullBackOff", "CrashLoopBackOff", "Completed"} <= set(listed().split()))

    def settled() -> Any:
        found = explained("gpu-operator")
        wanted = {names["al2"]: "broken", names["plain"]: "broken", names["custom"]: "ok"}
        return {each["node"]: each["state"] for each in found["nodes"] if each["node"] in wanted} == wanted and found

    found = until(settled)
    assert found["provenance"] == "simulated"
    stack = {each["node"]: each for each in found["nodes"]}
    # Amazon Linux 2 has a driver, and a glibc that is too old for the operator's toolkit.
    assert stack[names["al2"]]["first"] == "device plugin"
    assert "K03" in broken(stack[names["al2"]])["issues"]
    # Canonical's image has no driver, and is asked to take that of the other.
    assert stack[names["plain"]]["first"] == "driver"
    assert "driver:525.105.17-amzn2: not found" in broken(stack[names["plain"]])["why"]
    assert "K01" in broken(stack[names["plain"]])["issues"]
    assert [each["node"] for each in found["driver_image"]["wrong"]] == [names["plain"]]
    assert ready_nodes()["custom"]["status"]["allocatable"]["nvidia.com/gpu"] == "1"

    # What was pre-fetched is not pulled.
    pods = {each["spec"].get("nodeName"): each for each in items("pods", "-l", "role=worker")}
    said = until(lambda: len(told := pulls(pods[names["custom"]])) == 1 and told)
    assert said == [f'Container image "{IMAGE}" already present on machine']
    said = until(lambda: len(told := pulls(pods[names["plain"]])) == 1 and told)
    assert said[0].startswith(f'Successfully pulled image "{IMAGE}" in ')
    assert all("lab.leptonami.dev/simulated" in each["metadata"]["annotations"] for each in pods.values())

    # The models of the official client read all of it.
    counts = parsed(lab.kubeconfig)
    assert all(counts.values()), counts

    # And so the autoscaler can remove the one node, and never the other.
    kept = explained("autoscaler")
    assert kept["provenance"] == "simulated"
    why = {each["node"]: (each["state"], each["branch"]) for each in kept["nodes"]}
    assert why[names["al2"]] == ("blocked", "validator-pods")
    assert why[names["custom"]] == ("will be removed", "unneeded-timer")
