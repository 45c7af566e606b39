"""What a request says besides its object, and what a list answers."""

from __future__ import annotations

from dataclasses import dataclass, field

from leptonami.lab.kube.objects import Object

__all__ = ["DeleteOptions", "Options", "Page"]


@dataclass
class Options:
    """How to write."""

    dry_run: bool = False
    manager: str = ""
    force: bool = False
    field_validation: str = "Warn"
    """`Strict` refuses fields that the schema does not know, `Warn` notes them in `warnings`, `Ignore` is silent."""
    warnings: list[str] = field(default_factory=list)


@dataclass
class DeleteOptions:
    """How to delete: `metav1.DeleteOptions`."""

    dry_run: bool = False
    grace: int | None = None
    propagation: str = ""
    uid: str = ""
    resource_version: str = ""


@dataclass(frozen=True)
class Page:
    """What a list gives."""

    items: list[Object]
    resource_version: int
    token: str = ""
    remaining: int | None = None
