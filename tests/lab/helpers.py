"""Plain boto3 against a lab: what the contract tests share."""

from __future__ import annotations

import base64
import functools
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from leptonami.lab import Lab
from leptonami.lab.planes import Client

UBUNTU = "/aws/service/canonical/ubuntu/eks/22.04/1.33/stable/current/amd64/hvm/ebs-gp2/ami-id"
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
)
CORE = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
LATE_S = 120.0  # on however busy a machine


class Account:
    """The clients of a lab, and the few steps that most tests need."""

    def __init__(self, lab: Lab, region: str = "us-west-2") -> None:
        self.lab = lab
        self.session = boto3.Session(
            lab.environment["AWS_ACCESS_KEY_ID"], lab.environment["AWS_SECRET_ACCESS_KEY"], region_name=region
        )
        # One attempt: a test wants to see the first answer, not the last of several.
        config = self.config = Config(retries={"total_max_attempts": 1})
        make = self.session.client
        self.ec2: Any = make("ec2", endpoint_url=lab.url, config=config)
        self.ssm: Any = make("ssm", endpoint_url=lab.url, config=config)
        self.iam: Any = make("iam", endpoint_url=lab.url, config=config)
        self.sts: Any = make("sts", endpoint_url=lab.url, config=config)

    @functools.cached_property
    def eks(self) -> Any:
        return self.session.client("eks", endpoint_url=self.lab.url, config=self.config)

    @functools.cached_property
    def autoscaling(self) -> Any:
        return self.session.client("autoscaling", endpoint_url=self.lab.url, config=self.config)

    def base(self, parameter: str = UBUNTU) -> str:
        value: str = self.ssm.get_parameter(Name=parameter)["Parameter"]["Value"]
        return value

    def profile(self, name: str, *, policy: str | None = CORE, document: dict[str, Any] | None = None) -> str:
        self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)
        if policy:
            self.iam.attach_role_policy(RoleName=name, PolicyArn=policy)
        if document:
            self.iam.put_role_policy(RoleName=name, PolicyName="inline", PolicyDocument=json.dumps(document))
        self.iam.create_instance_profile(InstanceProfileName=name)
        self.iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
        return name

    def launch(self, *, profile: str | None = None, image: str | None = None, **more: Any) -> str:
        request: dict[str, Any] = {
            "ImageId": image or self.base(),
            "InstanceType": "g4dn.xlarge",
            "MinCount": 1,
            "MaxCount": 1,
            **more,
        }
        if profile:
            request["IamInstanceProfile"] = {"Name": profile}
        deadline = time.monotonic() + LATE_S
        while True:
            try:
                instance: str = self.ec2.run_instances(**request)["Instances"][0]["InstanceId"]
                return instance
            except ClientError as error:
                if profile is None or "Invalid IAM Instance Profile" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def describe(self, instance: str) -> Any:
        return self.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]

    def state(self, instance: str) -> str:
        name: str = self.describe(instance)["State"]["Name"]
        return name

    def wait_state(self, instance: str, wanted: str) -> None:
        eventually(lambda: self.state(instance) == wanted, f"{instance} {wanted}")

    def online(self, instance: str) -> bool:
        found = self.ssm.describe_instance_information(Filters=[{"Key": "InstanceIds", "Values": [instance]}])
        return [each["PingStatus"] for each in found["InstanceInformationList"]] == ["Online"]

    def builder(self, name: str, **more: Any) -> str:
        instance = self.launch(profile=self.profile(name), **more)
        eventually(lambda: self.online(instance), f"{instance} online")
        return instance

    def send(self, instance: str, script: str, *, execution: int = 60, **more: Any) -> str:
        sent = self.ssm.send_command(
            InstanceIds=[instance],
            DocumentName="AWS-RunShellScript",
            Parameters={"commands": [script], "executionTimeout": [str(execution)]},
            **more,
        )
        command: str = sent["Command"]["CommandId"]
        return command

    def invocation(self, command: str, instance: str) -> Any:
        try:
            return self.ssm.get_command_invocation(CommandId=command, InstanceId=instance)
        except ClientError as error:
            assert code(error) == "InvocationDoesNotExist"
            return {"Status": "Pending"}

    def ended(self, command: str, instance: str) -> Any:
        running = {"Pending", "InProgress", "Cancelling", "Delayed"}
        eventually(lambda: self.invocation(command, instance)["Status"] not in running, "the command's end")
        return self.invocation(command, instance)

    def run(self, instance: str, script: str, **more: Any) -> Any:
        return self.ended(self.send(instance, script, **more), instance)

    def image(self, instance: str, name: str, **more: Any) -> str:
        made: str = self.ec2.create_image(InstanceId=instance, Name=name, **more)["ImageId"]
        eventually(lambda: self.described_image(made)["State"] == "available", f"{made} available")
        return made

    def described_image(self, image: str) -> Any:
        return self.ec2.describe_images(ImageIds=[image])["Images"][0]


def code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


def refused(wanted: str, call: Callable[..., Any], *, says: str = "", **request: Any) -> ClientError:
    """Expect an error code (and words of the message), and give the error."""
    with pytest.raises(ClientError) as caught:
        call(**request)
    assert code(caught.value) == wanted, str(caught.value)
    assert says in str(caught.value)
    return caught.value


def eventually(check: Callable[[], Any], what: str, seconds: float = LATE_S) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.02)


class Joining:
    """Stands in for a fleet: every instance in service has a Node that is ready, and pods that are to go are gone."""

    def __init__(self, account: Account) -> None:
        self.account = account
        config = json.loads(Path(account.lab.kubeconfig).read_text())
        place = config["clusters"][0]["cluster"]
        authority = base64.b64decode(place["certificate-authority-data"]).decode()
        self.kube = Client(place["server"], authority, config["users"][0]["user"]["token"])
        self.groups = account.autoscaling  # here: two threads must not make clients of one session at once
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self) -> Joining:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        self.kube.pool.clear()

    def run(self) -> None:
        while not self.over.wait(0.05):
            self.step()

    def step(self) -> None:
        members = self.groups.describe_auto_scaling_instances()["AutoScalingInstances"]
        here = {each["InstanceId"] for each in members if each["LifecycleState"] in {"InService", "Terminating:Wait"}}
        there = {each["metadata"]["name"] for each in self.kube.items("/api/v1/nodes")}
        for name in here - there:
            spec = {"providerID": f"aws:///us-west-2a/{name}"}
            self.kube.ask("POST", "/api/v1/nodes", {"metadata": {"name": name}, "spec": spec})
            ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
            self.kube.merge(f"/api/v1/nodes/{name}/status", ready)
        for name in there - here:
            self.kube.ask("DELETE", f"/api/v1/nodes/{name}")
        for pod in self.kube.items("/api/v1/pods"):
            if pod["metadata"].get("deletionTimestamp") or pod["spec"].get("nodeName") not in here:
                self.delete(pod["metadata"]["name"])

    def delete(self, pod: str) -> None:
        now = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}
        self.kube.ask("DELETE", f"/api/v1/namespaces/default/pods/{pod}", now)

    def pod(self, name: str, node: str, app: str = "", *, held: bool = False) -> None:
        """Let a pod run on a node; one that is held does not end before `release`."""
        spec = {"nodeName": node, "containers": [{"name": "c", "image": "lab/sleep"}]}
        metadata = {"name": name, "labels": {"app": app or name}, "finalizers": ["lab/held"] if held else []}
        status, said = self.kube.ask("POST", "/api/v1/namespaces/default/pods", {"metadata": metadata, "spec": spec})
        assert status == 201, said
        self.kube.merge(
            f"/api/v1/namespaces/default/pods/{name}/status",
            {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}},
        )

    def release(self, pod: str) -> None:
        """Let a pod that is held end."""
        self.kube.merge(f"/api/v1/namespaces/default/pods/{pod}", {"metadata": {"finalizers": None}})

    def budget(self, app: str, allowed: int) -> None:
        """Let a budget allow so many disruptions of an app's pods from now on."""
        spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": app}}}
        place = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
        status, said = self.kube.ask("POST", place, {"metadata": {"name": app}, "spec": spec})
        assert status in {201, 409}, said
        counts = {"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}
        self.kube.merge(f"{place}/{app}/status", {"status": {**counts, "observedGeneration": 1}})
