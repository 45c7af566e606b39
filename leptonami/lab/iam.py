"""IAM: profiles that take a moment to be known, and whether a profile lets the SSM agent work."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from moto.core.responses import ActionResult
from moto.iam.models import AWSManagedPolicy, iam_backends
from moto.iam.responses import IamResponse
from moto.sts.responses import TokenResponse

from leptonami.lab.authorize import issued, statements_of
from leptonami.lab.policies import listed, matches
from leptonami.lab.wire import ApiError
from leptonami.lab.world import ACCOUNT, OWNER, World

__all__ = ["LabIAM", "LabSTS", "agent_may_work", "seed", "usable_profile"]

CORE = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["ssm:UpdateInstanceInformation", "ssm:GetParameter*", "ssmmessages:*", "ec2messages:*"],
            "Resource": "*",
        }
    ],
}
PULL = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            "Resource": "*",
        }
    ],
}
NODE = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["ec2:Describe*", "eks:DescribeCluster"], "Resource": "*"}],
}
# Names of AWS's own policies, with the part of their content that the lab looks at.
MANAGED = {
    "AmazonSSMManagedInstanceCore": CORE,
    "AmazonEC2ContainerRegistryReadOnly": PULL,
    "AmazonEC2ContainerRegistryPullOnly": PULL,
    "AmazonEKSClusterPolicy": NODE,
    "AmazonEKSWorkerNodePolicy": NODE,
    "AmazonEKS_CNI_Policy": NODE,
}


def seed() -> None:
    """Put a few of AWS's own policies in; moto has them all, at two seconds of start-up."""
    backend = iam_backends[ACCOUNT]["aws"]
    # moto leaves a few of its base class's methods open, which only mypy minds.
    make: Any = AWSManagedPolicy
    for name, document in MANAGED.items():
        policy = make(name, account_id=ACCOUNT, region="us-east-1", path="/", document=json.dumps(document))
        backend.managed_policies[policy.arn] = policy


class LabIAM(IamResponse):
    """IAM that notes when a profile became what it is."""

    world: ClassVar[World]

    def create_instance_profile(self) -> ActionResult:
        """Make a profile, which EC2 knows a moment later."""
        answer = super().create_instance_profile()
        self._changed()
        return answer

    def add_role_to_instance_profile(self) -> ActionResult:
        """Put a role into a profile, which EC2 knows a moment later."""
        answer = super().add_role_to_instance_profile()
        self._changed()
        return answer

    def remove_role_from_instance_profile(self) -> ActionResult:
        """Take a role out of a profile; moto stumbles over one that is not in it."""
        name, role = self._get_param("InstanceProfileName"), self._get_param("RoleName")
        profile: Any = self.backend.get_instance_profile(name)
        if role not in [each.name for each in profile.roles]:
            message = f"Role {role} in instance profile {name} cannot be found."
            raise ApiError("NoSuchEntity", message, status=404)
        answer: ActionResult = super().remove_role_from_instance_profile()
        return answer

    def _changed(self) -> None:
        profile: Any = self.backend.get_instance_profile(self._get_param("InstanceProfileName"))
        profile.lab_known_at = self.world.clock() + self.world.times.profile


class LabSTS(TokenResponse):
    """STS that knows whose the lab's own key is."""

    def get_caller_identity(self) -> ActionResult:
        """Tell who calls, where moto makes somebody up for a key that it does not know."""
        if issued(self.get_access_key()):
            return super().get_caller_identity()
        return ActionResult({"UserId": "AIDASIMULATEDLABUSER", "Account": ACCOUNT, "Arn": OWNER})


def usable_profile(world: World, asked: dict[str, str] | None) -> Any:
    """Find the profile that RunInstances names, as EC2 would: not if it does not exist, is too new or has no role."""
    # Some clients (Packer) send an empty name for none.
    name, arn = (asked or {}).get("Name"), (asked or {}).get("Arn")
    if not name and not arn:
        return None
    for profile in iam_backends[ACCOUNT]["aws"].get_instance_profiles():
        if (name and profile.name != name) or (arn and profile.arn != arn):
            continue
        if getattr(profile, "lab_known_at", 0.0) > world.clock():
            break
        if not profile.roles:
            raise ApiError("InvalidParameterValue", f'IAM Instance Profile "{profile.arn}" has no associated IAM Roles')
        return profile
    field = "name" if name else "arn"
    raise ApiError(
        "InvalidParameterValue",
        f"Value ({name or arn}) for parameter iamInstanceProfile.{field} is invalid. "
        f"Invalid IAM Instance Profile {field if name else 'ARN'}",
    )


def agent_may_work(profile_arn: str) -> bool:
    """Tell whether the role of a profile lets an SSM agent register and receive commands."""
    for profile in iam_backends[ACCOUNT]["aws"].get_instance_profiles():
        if profile.arn == profile_arn and profile.roles:
            role = profile.roles[0]
            trust = json.dumps(role.assume_role_policy_document)
            statements = [
                each
                for policy in (*role.policies.values(), *role.managed_policies.values())
                for each in statements_of(policy)
            ]
            listens = allowed(statements, "ssmmessages:OpenControlChannel") or allowed(
                statements, "ec2messages:GetMessages"
            )
            return "ec2.amazonaws.com" in trust and allowed(statements, "ssm:UpdateInstanceInformation") and listens
    return False


def allowed(statements: Iterable[Mapping[str, Any]], action: str) -> bool:
    """Tell whether one of the statements allows an action; IAM ignores case."""
    patterns = [each for one in statements if one["Effect"] == "Allow" for each in listed(one.get("Action", []))]
    return any(matches(each.lower(), action.lower()) for each in patterns)
