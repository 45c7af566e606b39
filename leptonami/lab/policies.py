"""Deciding by IAM policies: identity-based ones, with their resources and conditions, which moto leaves out.

What a policy may contain is IAM's; what the lab does not know, it refuses to decide on, so that no test passes by
chance. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

__all__ = ["Ask", "Facts", "allows", "base_key", "facts", "matches", "parse"]

# Keys that AWS gives with every call. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
GLOBAL_KEYS = frozenset({"aws:RequestedRegion", "aws:PrincipalAccount"})


@dataclass(frozen=True)
class Facts:
    """What AWS documents of an action: the keys by kind of resource, and those for all of them."""

    resources: Mapping[str, frozenset[str]]
    keys: frozenset[str]

    def keys_of(self, kind: str | None) -> frozenset[str]:
        """Give the keys that a call is judged by, for a kind of resource (None where there is none)."""
        return self.keys | GLOBAL_KEYS | self.resources.get(kind or "", frozenset())


@functools.cache
def facts() -> Mapping[str, Facts]:
    """Read `data/iam-actions.yaml`: the actions that the lab can decide on, by `service:Operation`."""
    from leptonami import datafiles

    raw = datafiles.table("iam-actions.yaml")
    return {
        f"{service}:{name}": Facts(
            {kind: frozenset(keys) for kind, keys in found.get("resources", {}).items()},
            frozenset(found.get("keys", [])),
        )
        for service, actions in raw["actions"].items()
        for name, found in actions.items()
    }


@functools.cache
def known_keys() -> frozenset[str]:
    """Give every condition key that the lab knows, tag keys without their tag."""
    found = set(GLOBAL_KEYS)
    for each in facts().values():
        found |= each.keys.union(*each.resources.values())
    return frozenset(found)


@dataclass(frozen=True)
class Ask:
    """One question to IAM: whether this may be done, to this resource, in this context.

    Attributes
    ----------
    kind
        The kind of the resource, such as `instance`; None for an action that knows none.
    context
        The condition keys that AWS gives with it.
    exists
        Whether the resource is there. If it is not, its tags cannot be asked about, and it is enough that the action
        may be done to something: the answer will be that there is no such thing.
    """

    action: str
    resource: str = "*"
    kind: str | None = None
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    exists: bool = True


def parse(document: str) -> list[dict[str, Any]]:
    """Give the statements of a policy document, which IAM may hold URL-encoded."""
    statements = json.loads(unquote(document) if document.startswith("%") else document)["Statement"]
    return list(statements) if isinstance(statements, list) else [statements]


def allows(statements: Iterable[Mapping[str, Any]], ask: Ask) -> bool:
    """Decide: an explicit Deny wins, and without an Allow the answer is no.

    Raises
    ------
    NotImplementedError
        If a statement that matters has something the lab cannot decide.
    """
    allowed = False
    for statement in statements:
        if applies(statement, ask):
            if statement["Effect"] == "Deny":
                return False
            allowed = True
    return allowed


def applies(statement: Mapping[str, Any], ask: Ask) -> bool:
    """Tell whether a statement is about a question."""
    if unknown := set(statement) - {"Sid", "Effect", "Action", "Resource", "Condition"}:
        raise NotImplementedError(f"an IAM policy with {', '.join(sorted(unknown))}")
    if not any(matches(pattern.lower(), ask.action.lower()) for pattern in listed(statement["Action"])):
        return False
    if not ask.exists and statement["Effect"] == "Allow":
        return True
    resources = listed(statement["Resource"])
    if any("${" in each for each in resources):
        raise NotImplementedError("an IAM policy with policy variables")
    if not any(matches(pattern, ask.resource) for pattern in resources):
        return False
    return all(
        holds(operator, key, listed(values), ask)
        for operator, pairs in statement.get("Condition", {}).items()
        for key, values in pairs.items()
    )


def listed(value: Any) -> list[str]:
    """Give one string or many as a list."""
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]


def matches(pattern: str, value: str) -> bool:
    """Match IAM's wildcards: `*` and `?`, nothing else."""
    return compiled(pattern).fullmatch(value) is not None


@functools.lru_cache(maxsize=4096)
def compiled(pattern: str) -> re.Pattern[str]:
    """Turn a pattern into a regular expression."""
    return re.compile("".join({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in pattern), re.DOTALL)


def base_key(key: str) -> str:
    """Take the tag from a key: `aws:RequestTag/team` is `aws:RequestTag`. `ec2:Add/userId` has none."""
    return key.partition("/")[0] if "Tag/" in key else key


Compare = Callable[[str, str], bool]
OPERATORS: dict[str, Compare] = {
    "StringEquals": lambda wanted, found: wanted == found,
    "StringLike": matches,
    "ArnLike": matches,
    "ArnEquals": matches,
    "Bool": lambda wanted, found: wanted.lower() == found.lower(),
}


def holds(operator: str, key: str, wanted: list[str], ask: Ask) -> bool:
    """Decide one key of a condition. A key that the context lacks fails, unless the operator says otherwise.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
    """
    base = base_key(key)
    if base not in known_keys():
        raise NotImplementedError(f"an IAM policy with the condition key {key}")
    # A key that AWS does not give for this action and resource is never there, whatever the lab could tell.
    given = base in facts()[ask.action].keys_of(ask.kind)
    found = ask.context.get(key, ()) if given else ()
    if operator == "Null":
        return (not found) == (wanted == ["true"])
    quantifier, _, name = operator.rpartition(":")
    optional = name.endswith("IfExists")
    name = name.removesuffix("IfExists")
    negated = name.startswith("StringNot")
    compare = OPERATORS.get(name.replace("Not", "") if negated else name)
    if compare is None or quantifier not in {"", "ForAnyValue", "ForAllValues"}:
        raise NotImplementedError(f"an IAM policy with the condition operator {operator}")
    if not found:
        return optional or negated or quantifier == "ForAllValues"
    results = [any(compare(each, value) for each in wanted) != negated for value in found]
    return all(results) if quantifier == "ForAllValues" else any(results)
