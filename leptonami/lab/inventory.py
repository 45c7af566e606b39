"""What there is in the lab that somebody made: how tests prove that nothing is left."""

from __future__ import annotations

import sys
from typing import Any

from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends
from moto.ssm.models import ssm_backends

from leptonami.lab.ec2 import every_instance
from leptonami.lab.ssm import LabSSM
from leptonami.lab.world import ACCOUNT

__all__ = ["inventory"]


def inventory() -> dict[str, list[str]]:
    """Give the ids of everything of one's own, over all regions, by kind.

    What every account has (default VPCs and groups, public images and parameters) is not counted.
    """
    found: dict[str, list[str]] = {
        "instances": [each.id for each in every_instance() if each.state != "terminated"],
        "commands": [
            command.id
            for command in LabSSM.commands.values()
            if any(not each.over for each in command.invocations.values())
        ],
    }
    kinds = ("volumes", "snapshots", "images", "security_groups", "interfaces", "key_pairs", "launch_templates")
    for kind in (*kinds, "spot_requests", "parameters"):
        found[kind] = []
    for backend in list(ec2_backends[ACCOUNT].values()):
        found["volumes"] += backend.volumes
        found["snapshots"] += [each.id for each in backend.snapshots.values() if each.owner_id == ACCOUNT]
        found["images"] += [each.id for each in backend.amis.values() if each.owner_id == ACCOUNT]
        groups = [group for vpc in backend.groups.values() for group in vpc.values()]
        found["security_groups"] += [each.id for each in groups if each.name != "default"]
        found["interfaces"] += backend.enis
        found["key_pairs"] += backend.key_pairs
        found["launch_templates"] += backend.launch_templates
        spots: dict[str, Any] = backend.spot_instance_requests
        found["spot_requests"] += [each.id for each in spots.values() if each.state in {"open", "active"}]
    for store in list(ssm_backends[ACCOUNT].values()):
        found["parameters"] += [name for name in store._parameters if not name.startswith("/aws/")]
    iam = iam_backends[ACCOUNT]["aws"]
    found["roles"] = [each.name for each in iam.get_roles()]
    found["profiles"] = [each.name for each in iam.get_instance_profiles()]
    if (clusters := sys.modules.get("leptonami.lab.clusters")) is not None:
        found |= clusters.inventory()
    return found
