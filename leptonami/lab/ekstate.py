"""What EKS keeps of a cluster, and the words of its refusals."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends
from moto.moto_api._internal import mock_random

from leptonami.lab.wire import ApiError
from leptonami.lab.world import ACCOUNT, World

if TYPE_CHECKING:
    from leptonami.lab.groups import LabGroup
    from leptonami.lab.planes import Plane

__all__ = [
    "Cluster",
    "Group",
    "Update",
    "absent",
    "check_role",
    "invalid",
    "issue",
    "launch_issues",
    "subnet_of",
]


def invalid(message: str) -> ApiError:
    """Make the error for a parameter that EKS does not take."""
    return ApiError("InvalidParameterException", message)


def absent(message: str) -> ApiError:
    """Make the error for what is not there."""
    return ApiError("ResourceNotFoundException", message, 404)


@dataclass
class Update:
    """One update of a cluster, a node group or an add-on.

    Attributes
    ----------
    params
        What it changes, by the API's names.
    target
        The node group or the add-on; empty for the cluster itself.
    """

    type: str
    params: dict[str, str]
    target: str = ""
    status: str = "InProgress"
    errors: list[dict[str, Any]] = field(default_factory=list)
    id: str = field(default_factory=lambda: str(mock_random.uuid4()))
    created: datetime = field(default_factory=lambda: datetime.now(UTC))

    def end(self, *errors: dict[str, Any]) -> None:
        """End it, with what went wrong."""
        self.status = "Failed" if errors else "Successful"
        self.errors = list(errors)

    def shown(self) -> dict[str, Any]:
        """Give it as DescribeUpdate does."""
        return {
            "id": self.id,
            "status": self.status,
            "type": self.type,
            "params": [{"type": name, "value": value} for name, value in self.params.items()],
            "createdAt": self.created,
            "errors": self.errors,
        }


@dataclass
class Cluster:
    """A cluster of EKS.

    Attributes
    ----------
    data
        As DescribeCluster gives it.
    plane
        Its API server and fleet, once it has been active.
    """

    region: str
    name: str
    version_: str
    data: dict[str, Any] = field(default_factory=dict)
    plane: Plane | None = None
    groups: dict[str, Group] = field(default_factory=dict)
    updates: dict[str, Update] = field(default_factory=dict)
    addons: dict[str, dict[str, Any]] = field(default_factory=dict)
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    policies: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """Give its state."""
        return str(self.data["status"])

    @property
    def version(self) -> str:
        """Give its Kubernetes version."""
        return str(self.data.get("version", self.version_))

    def enter(self, principal: str, *, kind: str = "STANDARD", policy: str = "", **more: Any) -> dict[str, Any]:
        """Make an access entry."""
        now, (what, name) = datetime.now(UTC), principal.rpartition(":")[2].split("/", 1)
        groups = {"EC2_LINUX": ["system:nodes"]}.get(kind, [])
        user = "system:node:{{EC2PrivateDNSName}}" if kind == "EC2_LINUX" else principal
        entry = {
            "clusterName": self.name,
            "principalArn": principal,
            "kubernetesGroups": groups,
            "accessEntryArn": f"arn:aws:eks:{self.region}:{ACCOUNT}:access-entry/{self.name}/{what}/{ACCOUNT}/{name}/"
            f"{mock_random.uuid4()}",
            "createdAt": now,
            "modifiedAt": now,
            "tags": {},
            "username": user,
            "type": kind,
            **more,
        }
        self.entries[principal] = entry
        self.policies[principal] = []
        if policy:
            self.allow(
                principal, f"arn:aws:eks::aws:cluster-access-policy/{policy}", {"type": "cluster", "namespaces": []}
            )
        return entry

    def allow(self, principal: str, policy: str, scope: dict[str, Any]) -> dict[str, Any]:
        """Associate a policy with an access entry, or change its scope."""
        now = datetime.now(UTC)
        found = {"policyArn": policy, "accessScope": scope, "associatedAt": now, "modifiedAt": now}
        self.policies[principal] = [each for each in self.policies[principal] if each["policyArn"] != policy]
        self.policies[principal].append(found)
        return found

    def close(self) -> None:
        """End what runs for it."""
        if self.plane is not None:
            self.plane.stop()
            self.plane = None


# https://docs.aws.amazon.com/eks/latest/userguide/troubleshooting.html, and the codes of API_Issue
ISSUES = {"InvalidAMIID": "AmiIdNotFound", "UnauthorizedOperation": "AccessDenied", "AccessDenied": "AccessDenied"}


@dataclass
class Group:
    """A managed node group.

    Attributes
    ----------
    data
        As DescribeNodegroup gives it, but for what is found out each time.
    template
        EKS's own launch template, of which each update makes a version.
    base
        The data of the user's template; empty without one.
    """

    cluster: Cluster
    data: dict[str, Any]
    template: Any
    asg: LabGroup
    profile: str
    base: dict[str, Any]
    world: World
    issues: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Give its name."""
        return str(self.data["nodegroupName"])

    def sync(self) -> None:
        """Take over the sizes that somebody, such as an autoscaler, has given the Auto Scaling group meanwhile."""
        if self.data["status"] == "ACTIVE" and not self.asg.gone:
            asg = self.asg
            sizes = {"minSize": asg.min_size, "maxSize": asg.max_size, "desiredSize": asg.desired_capacity}
            self.data["scalingConfig"] = sizes

    def shown(self) -> dict[str, Any]:
        """Describe it, with the issues that there are now."""
        self.sync()
        issues, status = [*self.issues, *self._found()], self.data["status"]
        status = "DEGRADED" if status == "ACTIVE" and issues else status
        return {**self.data, "status": status, "health": {"issues": issues}}

    def _found(self) -> list[dict[str, Any]]:
        """Look for what EKS needs and somebody has taken away."""
        if self.data["status"] in {"CREATING", "DELETING", "CREATE_FAILED"}:
            return []
        backend: Any = ec2_backends[ACCOUNT][self.cluster.region]
        roles = {each.arn for each in iam_backends[ACCOUNT]["aws"].get_roles()}
        template, role = self.template.id, self.data["nodeRole"]
        checks = (
            (self.asg.gone, "AutoScalingGroup", "Auto Scaling group", self.asg.name),
            (template not in backend.launch_templates, "Ec2LaunchTemplate", "launch template", template),
            (role not in roles, "IamNodeRole", "node role", role),
        )
        found = [
            issue(f"{code}NotFound", f"We couldn't find the {what}.", name) for no, code, what, name in checks if no
        ]
        if self.data["status"] == "ACTIVE" and len(self.asg.present()) < self.asg.desired_capacity:
            found += launch_issues(self)
        return found

    def work(self, action: Callable[[Group], None]) -> None:
        """Let something that waits for the cluster take its own time."""
        threading.Thread(target=action, args=(self,), name=f"node group {self.name}", daemon=True).start()


def issue(code: str, message: str, *resources: str) -> dict[str, Any]:
    """Write an issue of a node group."""
    return {"code": code, "message": message, "resourceIds": list(resources)}


def launch_issues(group: Group) -> list[dict[str, Any]]:
    """Give the issue of a launch that failed, if the last one did."""
    last = next((each for each in group.asg.activities if "Launching" in each["Description"]), None)
    if last is None or last["StatusCode"] != "Failed":
        return []
    text = last["StatusMessage"]
    code = next((each for start, each in ISSUES.items() if start in text), "AsgInstanceLaunchFailures")
    return [issue(code, text, group.asg.name)]


def subnet_of(region: str, name: str) -> Any:
    """Find a subnet."""
    backend: Any = ec2_backends[ACCOUNT][region]
    for zones in backend.subnets.values():
        if name in zones:
            return zones[name]
    raise invalid(f"The subnet ID '{name}' does not exist")


def check_role(arn: str, service: str) -> Any:
    """Find a role that a service of AWS may take on.

    Raises
    ------
    ApiError
        If there is none of that ARN, or it trusts others.
    """
    for role in iam_backends[ACCOUNT]["aws"].get_roles():
        if role.arn == arn and f"{service}.amazonaws.com" in json.dumps(role.assume_role_policy_document):
            return role
    if not re.fullmatch(r"arn:aws[\w-]*:iam::\d{12}:role/.+", arn):
        raise invalid(f"Invalid Role Arn: '{arn}'")
    raise invalid(
        f"Role with arn: {arn}, could not be assumed because it does not exist or the trusted entity is not correct"
    )
