"""Statements of IAM policies, and how they are collected: what the policies of plans and of experiments have in common.

Pure: nothing is called.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from leptonami.build.names import LEPTONAMI
from leptonami.errors import InputError

__all__ = [
    "ACCOUNT",
    "EXAMPLE_RUN",
    "MANAGED_CHARACTERS",
    "Conditions",
    "Grants",
    "Policy",
    "Purpose",
    "Statement",
    "characters",
    "partition_of",
]

Purpose = Literal["build", "publish", "sweep", "images", "retire", "bench"]

# Stands for the account id where none was given.
ACCOUNT = "ACCOUNT_ID"
# Any run will do: a policy says what all runs of a plan have in common.
EXAMPLE_RUN = "20261123-211500-a1b2c3"
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html: white space is not counted.
MANAGED_CHARACTERS = 6_144

# https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html, and botocore's
# partitions.json, which a test compares this with.
PARTITIONS = {
    "cn-": "aws-cn",
    "us-gov-": "aws-us-gov",
    "us-iso-": "aws-iso",
    "us-isob-": "aws-iso-b",
    "us-isof-": "aws-iso-f",
    "eu-isoe-": "aws-iso-e",
    "eusc-": "aws-eusc",
}

Conditions = Mapping[str, Mapping[str, str | Sequence[str]]]


def partition_of(region: str) -> str:
    """Give the partition of a region: `aws`, but for China, the governments' and the sovereign regions."""
    return next((name for prefix, name in PARTITIONS.items() if region.startswith(prefix)), "aws")


@dataclass(frozen=True)
class Statement:
    """One statement, always an Allow.

    Attributes
    ----------
    sid
        Its name in the document: letters and digits.
    purposes
        What it is for; build and sweep have some in common.
    why
        Why it is there, in a few words.
    actions
        `service:Operation`, each in full.
    resources
        ARNs with wildcards, or `*` where the service knows no resources for the actions.
    conditions
        As in the document: operator, then key, then value or values.
    """

    sid: str
    purposes: tuple[Purpose, ...]
    why: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: Conditions = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Give it as it stands in a policy document."""
        document: dict[str, Any] = {
            "Sid": self.sid,
            "Effect": "Allow",
            "Action": self.actions[0] if len(self.actions) == 1 else list(self.actions),
            "Resource": self.resources[0] if len(self.resources) == 1 else list(self.resources),
        }
        if self.conditions:
            document["Condition"] = {
                operator: {key: value if isinstance(value, str) else list(value) for key, value in pairs.items()}
                for operator, pairs in self.conditions.items()
            }
        return document


@dataclass(frozen=True)
class Policy:
    """What a plan needs: its statements, and what a reader should know about them."""

    plan: str
    statements: tuple[Statement, ...]
    notes: tuple[str, ...]

    def documents(self) -> tuple[dict[str, Any], ...]:
        """Give policy documents, as few as the limit of a managed policy allows.

        Raises
        ------
        InputError
            If one statement alone is too long, as with hundreds of accounts.
        """
        documents: list[dict[str, Any]] = []
        for statement in self.statements:
            new = statement.as_dict()
            if documents and characters(document([*documents[-1]["Statement"], new])) <= MANAGED_CHARACTERS:
                documents[-1]["Statement"].append(new)
                continue
            documents.append(document([new]))
            if (size := characters(documents[-1])) > MANAGED_CHARACTERS:
                raise InputError(
                    f"the statement {statement.sid} has {size} characters, a managed policy takes {MANAGED_CHARACTERS}",
                    resource=self.plan,
                    hint="split the plan, or share with an organization and not with single accounts",
                )
        return tuple(documents)

    @property
    def actions(self) -> frozenset[str]:
        """Every action that is allowed."""
        return frozenset(action for each in self.statements for action in each.actions)


def document(statements: list[dict[str, Any]]) -> dict[str, Any]:
    """Give a policy document."""
    return {"Version": "2012-10-17", "Statement": statements}


def characters(policy: Mapping[str, Any]) -> int:
    """Count a document's characters as IAM does, which is without white space."""
    return len(re.sub(r"\s", "", json.dumps(policy, ensure_ascii=False)))


class Grants:
    """Where a policy holds, and the grants collected so far.

    Parameters
    ----------
    name
        What the tag `leptonami:plan` says: a plan's name, or an experiment's.
    region, account, partition
        Of the ARNs.

    Raises
    ------
    InputError
        If the account id or the partition are not such.
    """

    def __init__(self, name: str, region: str, *, account: str = ACCOUNT, partition: str | None = None) -> None:
        if account != ACCOUNT and re.fullmatch(r"[0-9]{12}", account) is None:
            raise InputError(f"not an account id: {account!r}", resource="account", hint="twelve digits")
        self.name, self.region, self.account = name, region, account
        self.partition = partition or partition_of(region)
        if re.fullmatch(r"aws(-[a-z]+)*", self.partition) is None:
            hint = "aws, aws-cn, aws-us-gov, ..."
            raise InputError(f"not a partition: {self.partition!r}", resource="partition", hint=hint)
        self.notes: list[str] = []
        self._grants: dict[str, Statement] = {}

    def arn(self, kind: str, name: str = "*", *, region: str | None = None) -> str:
        """Give the ARN of an EC2 resource; images and snapshots have no account in theirs."""
        account = "" if kind in {"image", "snapshot"} else self.account
        return f"arn:{self.partition}:ec2:{region or self.region}:{account}:{kind}/{name}"

    def iam(self, kind: str, name: str) -> str:
        """Give the ARN of a role or an instance profile."""
        return f"arn:{self.partition}:iam::{self.account}:{kind}/{name}"

    def nodegroups(self, cluster: str = "*") -> str:
        """Give the ARN of the node groups of any run."""
        return f"arn:{self.partition}:eks:{self.region}:{self.account}:nodegroup/{cluster}/{self.temporary}-*/*"

    def parameter(self, name: str, *, region: str | None = None) -> str:
        """Give the ARN of an SSM parameter; AWS's public ones belong to no account."""
        account = "" if name.startswith("/aws/") else self.account
        return f"arn:{self.partition}:ssm:{region or self.region}:{account}:parameter{name}"

    @property
    def temporary(self) -> str:
        """The name of a run's role and profile, with `?` for what differs from run to run."""
        return f"{LEPTONAMI}{re.sub(r'[0-9a-z]', '?', EXAMPLE_RUN)}"

    def service(self, name: str) -> str:
        """Give the principal of a service of AWS."""
        return f"{name}.amazonaws.com.cn" if self.partition == "aws-cn" and name == "ec2" else f"{name}.amazonaws.com"

    @property
    def requested(self) -> Conditions:
        """The request must put the tag of the plan on what it makes."""
        return {"StringEquals": {"aws:RequestTag/leptonami:plan": self.name}}

    @property
    def tagged(self) -> Conditions:
        """The resource must carry the tag of the plan."""
        return {"StringEquals": {"aws:ResourceTag/leptonami:plan": self.name}}

    @property
    def here(self) -> Conditions:
        """The call must go to the region."""
        return {"StringEquals": {"aws:RequestedRegion": self.region}}

    def grant(
        self,
        sid: str,
        why: str,
        actions: str | Iterable[str],
        resources: str | Iterable[str],
        conditions: Conditions | None = None,
        *,
        purpose: Purpose = "build",
    ) -> None:
        """Add a grant; those with one name become one statement, and must agree on resources and conditions."""
        new = Statement(
            sid,
            (purpose,),
            why,
            (actions,) if isinstance(actions, str) else tuple(actions),
            (resources,) if isinstance(resources, str) else tuple(resources),
            conditions or {},
        )
        old = self._grants.get(sid)
        if old is not None:
            if (old.resources, old.conditions) != (new.resources, new.conditions):
                raise ValueError(f"two different grants are called {sid}")
            new = replace(
                old,
                purposes=tuple(dict.fromkeys([*old.purposes, purpose])),
                actions=tuple(sorted({*old.actions, *new.actions})),
            )
        self._grants[sid] = new

    def look(self, *actions: str, purpose: Purpose = "build") -> None:
        """Allow actions that read, and that know no resources."""
        why = "reads; AWS knows no narrower resource for these"
        self.grant("Look", why, actions, "*", self.here, purpose=purpose)

    @property
    def statements(self) -> tuple[Statement, ...]:
        """What has been granted, in the order of the first grants."""
        return tuple(self._grants.values())
