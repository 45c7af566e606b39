"""What a build will do, as a value: every call that creates or changes something, in order, with its request.

The requests come from `leptonami.build.requests`, which the build itself uses; what only AWS knows (ids) stands in
angle brackets.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from leptonami.build import preflight, requests, steps
from leptonami.build.estimate import Estimate, estimate
from leptonami.build.executor import context
from leptonami.publish import publishing
from leptonami.publish.model import Order

if TYPE_CHECKING:
    from leptonami.plan import Plan

__all__ = ["Action", "Outline", "outline"]


@dataclass(frozen=True)
class Action:
    """One call that creates or changes something: `purpose` says why, `temporary` whether it is undone in the end."""

    call: str
    purpose: str
    request: dict[str, Any]
    temporary: bool


@dataclass(frozen=True)
class Outline:
    """Everything that a build will do."""

    base: dict[str, Any]
    image_name: str
    actions: tuple[Action, ...]
    scripts: dict[str, str]
    estimate: Estimate

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "base": self.base,
            "image_name": self.image_name,
            "actions": [asdict(each) for each in self.actions],
            "scripts": self.scripts,
            "estimate": self.estimate.as_dict(),
        }


def outline(plan: Plan, site: preflight.Site, run_id: str) -> Outline:
    """Say what the build of a plan at a surveyed site will do. Pure: nothing is called."""
    names, profile = site.names, plan.builder.instance_profile
    around = context(plan, run_id)
    scripts = {f"{number:02d}-{use.name}": steps.render(use, around) for number, use in enumerate(plan.steps, start=1)}
    actions: list[Action] = []

    def act(call: str, purpose: str, request: dict[str, Any], *, temporary: bool = True) -> None:
        actions.append(Action(call, purpose, request, temporary))

    groups = list(plan.builder.security_groups)
    if not groups:
        act("ec2.CreateSecurityGroup", "nothing comes in", requests.create_security_group(plan, names, site.vpc))
        groups = ["<the group>"]
    if plan.steps and profile is None:
        profile = names.temporary
        partition = site.partition
        act("iam.CreateRole", "the builder's role", requests.create_role(plan, names, partition=partition))
        act("iam.PutRolePolicy", "no more than it needs", requests.put_role_policy(plan, names, partition=partition))
        act("iam.CreateInstanceProfile", "to hand it over", requests.create_instance_profile(plan, names))
        act("iam.AddRoleToInstanceProfile", "the role in it", requests.add_role_to_instance_profile(names))
    machine, subnet = site.machines[0], site.subnets[0]
    act(
        "ec2.RunInstances",
        f"the builder, a {machine.type} in {subnet.zone}"
        + (f"; {others} where there is no room" if (others := alternatives(site)) else ""),
        requests.run_instances(
            plan,
            names,
            site.base,
            instance_type=machine.type,
            subnet=subnet.id,
            groups=groups,
            profile=profile if plan.steps else None,
            spot=plan.builder.spot,
        ),
    )
    for name, script in scripts.items():
        act("ssm.SendCommand", f"step {name}", {"InstanceIds": ["<the builder>"], "Script": f"{len(script)} bytes"})
    if plan.steps:
        act("ssm.SendCommand", "verify every claim", {"InstanceIds": ["<the builder>"]})
    if not plan.builder.spot:
        act("ec2.StopInstances", "so that its file system is whole", {"InstanceIds": ["<the builder>"]})
    act(
        "ec2.CreateImage",
        "the AMI",
        requests.create_image(
            plan, names, site.base, instance="<the builder>", name=site.image_name, stopped=not plan.builder.spot
        ),
        temporary=False,
    )
    act("ec2.ModifyImageAttribute", "IMDSv2 by default", requests.protect_metadata("<the AMI>"), temporary=False)
    act("ec2.TerminateInstances", "the builder goes", {"InstanceIds": ["<the builder>"]})
    if plan.steps and plan.builder.instance_profile is None:
        pair = requests.add_role_to_instance_profile(names)
        act("iam.RemoveRoleFromInstanceProfile", "the role leaves it", pair)
        act("iam.DeleteInstanceProfile", "the profile", {"InstanceProfileName": names.temporary})
        act("iam.DeleteRolePolicy", "the policy", {"RoleName": names.temporary, "PolicyName": "builder"})
        act("iam.DeleteRole", "the role", {"RoleName": names.temporary})
    if not plan.builder.security_groups:
        act("ec2.DeleteSecurityGroup", "its group", {"GroupId": "<the group>"})
    ordered = Order.of_plan(plan)
    for call in publishing.calls(ordered):
        if not call.partition(".")[2].startswith(("Describe", "Get", "List")):
            act(
                call,
                "publish",
                {"publish": plan.publish.model_dump(mode="json", exclude_defaults=True)},
                temporary=False,
            )
    return Outline(
        base=site.base.as_dict(),
        image_name=site.image_name,
        actions=tuple(actions),
        scripts=scripts,
        estimate=estimate(plan),
    )


def alternatives(site: preflight.Site) -> str:
    """Say where else the builder may be launched."""
    parts = [each.type for each in site.machines[1:]]
    if len(site.subnets) > 1:
        parts.append(f"{len(site.subnets) - 1} more subnets")
    return ", ".join(parts)
