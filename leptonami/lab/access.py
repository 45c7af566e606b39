"""EKS's access entries: who may do what in a cluster, by IAM principal.

The lab's API server lets everybody who has a token do everything; the entries are kept and checked for their form only.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from moto.core.responses import ActionResult, EmptyResult

from leptonami.lab.authorize import caller_of as who
from leptonami.lab.authorize import issued
from leptonami.lab.ekstate import absent, invalid
from leptonami.lab.wire import ApiError, page
from leptonami.lab.world import OWNER

__all__ = ["AccessCalls", "caller_of"]

# https://docs.aws.amazon.com/eks/latest/userguide/access-policy-permissions.html
POLICIES = (
    *("AmazonEKSAdminPolicy", "AmazonEKSClusterAdminPolicy", "AmazonEKSAdminViewPolicy", "AmazonEKSEditPolicy"),
    "AmazonEKSViewPolicy",
)
POLICY_ARN = "arn:aws:eks::aws:cluster-access-policy/"
TYPES = {"STANDARD", "EC2_LINUX", "EC2_WINDOWS", "EC2", "FARGATE_LINUX", "HYBRID_LINUX", "HYPERPOD_LINUX"}
PRINCIPAL = re.compile(r"arn:aws[\w-]*:iam::\d{12}:(role|user)/.+")


def caller_of(response: Any) -> str:
    """Give the ARN of who calls, a role instead of its session."""
    key = response.get_access_key()
    if not issued(key):
        return OWNER
    arn = str(who(response, key)[0].arn)
    return re.sub(r":sts::(\d+):assumed-role/([^/]+)/.*", r":iam::\1:role/\2", arn)


class AccessCalls:
    """Comes into EKS's class."""

    def _entry(self: Any) -> tuple[Any, dict[str, Any]]:
        cluster = self._with_entries()
        found = cluster.entries.get(self.params["principalArn"])
        if found is None:
            raise absent(
                "The specified principalArn could not be found. You can view your available access entries with "
                "'ListAccessEntries'."
            )
        return cluster, found

    def _with_entries(self: Any) -> Any:
        cluster = self.cluster()
        if cluster.data["accessConfig"]["authenticationMode"] == "CONFIG_MAP":
            raise ApiError(
                "InvalidRequestException",
                "The cluster's authentication mode must be set to one of [API, API_AND_CONFIG_MAP] to perform this "
                "operation.",
            )
        return cluster

    def create_access_entry(self: Any) -> ActionResult:
        """Make an access entry for a role or a user."""
        cluster, asked = self._with_entries(), self.params
        principal, kind = asked["principalArn"], asked.get("type", "STANDARD")
        if not PRINCIPAL.fullmatch(principal):
            raise invalid("The principalArn parameter format is not valid")
        if kind not in TYPES:
            raise invalid(f"The type {kind} is not valid")
        if principal in cluster.entries:
            raise ApiError(
                "ResourceInUseException",
                "The specified access entry resource is already in use on this cluster.",
                409,
            )
        groups = asked.get("kubernetesGroups", [])
        if kind != "STANDARD" and (groups or asked.get("username")):
            raise invalid(f"kubernetesGroups and username can not be set for type {kind}")
        if any(each.startswith(("system:", "eks:", "aws:", "amazon:", "iam:")) for each in groups):
            raise invalid(
                "The kubernetes group name is invalid, it cannot start with system:, eks:, aws:, amazon:, or iam:"
            )
        more = {"tags": asked.get("tags", {})}
        if kind == "STANDARD":
            more |= {"kubernetesGroups": groups, "username": asked.get("username", principal)}
        return ActionResult({"accessEntry": cluster.enter(principal, kind=kind, **more)})

    def describe_access_entry(self: Any) -> ActionResult:
        """Describe an entry."""
        return ActionResult({"accessEntry": self._entry()[1]})

    def list_access_entries(self: Any) -> ActionResult:
        """Name the principals that have an entry, or only those with a policy."""
        cluster, policy = self._with_entries(), self.params.get("associatedPolicyArn")
        found = [
            arn
            for arn in cluster.entries
            if not policy or any(each["policyArn"] == policy for each in cluster.policies[arn])
        ]
        return ActionResult(page(self.params, "accessEntries", found))

    def update_access_entry(self: Any) -> ActionResult:
        """Change an entry's groups or user name."""
        _, entry = self._entry()
        entry |= {key: self.params[key] for key in ("kubernetesGroups", "username") if key in self.params}
        entry["modifiedAt"] = datetime.now(UTC)
        return ActionResult({"accessEntry": entry})

    def delete_access_entry(self: Any) -> ActionResult:
        """Delete an entry."""
        cluster, entry = self._entry()
        del cluster.entries[entry["principalArn"]], cluster.policies[entry["principalArn"]]
        return EmptyResult()

    def associate_access_policy(self: Any) -> ActionResult:
        """Associate a policy of EKS, for the cluster or some namespaces."""
        cluster, entry = self._entry()
        policy, scope = self.params["policyArn"], self.params["accessScope"]
        if policy.removeprefix(POLICY_ARN) not in POLICIES:
            raise invalid(f"The policyArn parameter format is not valid: {policy}")
        if (scope.get("type") == "namespace") != bool(scope.get("namespaces")):
            raise invalid("The namespaces of an access scope go with the type namespace, and with nothing else")
        if entry["type"] != "STANDARD":
            raise ApiError(
                "InvalidRequestException", f"Access policies can not be associated with type {entry['type']}"
            )
        scope = {"type": scope["type"], "namespaces": scope.get("namespaces", [])}
        found = cluster.allow(entry["principalArn"], policy, scope)
        return ActionResult(
            {
                "clusterName": cluster.name,
                "principalArn": entry["principalArn"],
                "associatedAccessPolicy": found,
            }
        )

    def disassociate_access_policy(self: Any) -> ActionResult:
        """Take a policy away."""
        cluster, entry = self._entry()
        left = [
            each for each in cluster.policies[entry["principalArn"]] if each["policyArn"] != self.params["policyArn"]
        ]
        if len(left) == len(cluster.policies[entry["principalArn"]]):
            raise absent("The specified policyArn is not associated with the access entry")
        cluster.policies[entry["principalArn"]] = left
        return EmptyResult()

    def list_associated_access_policies(self: Any) -> ActionResult:
        """Give the policies of an entry."""
        cluster, entry = self._entry()
        shown = {"clusterName": cluster.name, "principalArn": entry["principalArn"]}
        found = cluster.policies[entry["principalArn"]]
        return ActionResult({**shown, **page(self.params, "associatedAccessPolicies", found)})

    def list_access_policies(self: Any) -> ActionResult:
        """Give the policies that EKS has."""
        found = [{"name": each, "arn": f"{POLICY_ARN}{each}"} for each in POLICIES]
        return ActionResult(page(self.params, "accessPolicies", found))
