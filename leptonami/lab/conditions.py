"""The conditions of an object of Kubernetes, as all parts of the lab read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["condition", "holds", "is_ready"]


def condition(obj: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Give an object's condition of a type; empty if it has none."""
    found: dict[str, Any]
    for found in (obj.get("status") or {}).get("conditions") or ():
        if found.get("type") == kind:
            return found
    return {}


def holds(obj: Mapping[str, Any], kind: str) -> bool:
    """Tell whether a condition is true."""
    return condition(obj, kind).get("status") == "True"


def is_ready(obj: Mapping[str, Any]) -> bool:
    """Tell whether a Node or a Pod is ready."""
    return holds(obj, "Ready")
