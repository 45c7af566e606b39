"""Selectors, taints and tolerations: what the scheduler, the DaemonSets and the budgets mean by "matches".

The rules are those of the Kubernetes documentation: label selectors, node affinity, taints and tolerations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["node_matches", "required_terms", "selects", "tolerates", "untolerated"]

Object = dict[str, Any]


def _holds(requirement: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Tell whether one `matchExpressions` item holds. What is not a number is neither greater nor less."""
    key, operator, values = requirement.get("key", ""), requirement.get("operator"), requirement.get("values") or []
    value = labels.get(key)
    if operator == "In":
        return value in values
    if operator == "NotIn":
        return value not in values
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    try:
        there, asked = int(value or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return (operator == "Gt" and there > asked) or (operator == "Lt" and there < asked)


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Tell whether a label selector selects: an empty one selects everything, none at all nothing."""
    if selector is None:
        return False
    return all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items()) and all(
        _holds(item, labels) for item in selector.get("matchExpressions") or ()
    )


def term_matches(term: Mapping[str, Any], name: str, labels: Mapping[str, str]) -> bool:
    """Tell whether one node selector term matches a node; an empty term matches none."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(_holds(item, labels) for item in expressions) and all(
        _holds(item, {"metadata.name": name}) for item in fields
    )


def required_terms(spec: Mapping[str, Any]) -> list[Object] | None:
    """Give the terms of a pod's required node affinity, or None if it has none."""
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return None if required is None else list(required.get("nodeSelectorTerms") or ())


def node_matches(spec: Mapping[str, Any], name: str, labels: Mapping[str, str]) -> bool:
    """Tell whether a pod's `nodeSelector` and required node affinity allow a node."""
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    terms = required_terms(spec)
    return terms is None or any(term_matches(term, name, labels) for term in terms)


def tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Tell whether a toleration tolerates a taint."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def untolerated(
    tolerations: Iterable[Mapping[str, Any]], taints: Iterable[Mapping[str, Any]], *effects: str
) -> list[Mapping[str, Any]]:
    """Give the taints with one of these effects that nothing tolerates, in their order."""
    return [
        taint
        for taint in taints
        if taint.get("effect") in effects and not any(tolerates(each, taint) for each in tolerations)
    ]
