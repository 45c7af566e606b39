"""`leptonami plan`: check a plan, give the JSON Schema for editors."""

from __future__ import annotations

from typing import Any

import click

from leptonami.console import print_json, print_mapping, say

__all__ = ["plan"]


@click.group()
def plan() -> None:
    """Check a plan and show what it will do."""


@plan.command()
@click.argument("path", metavar="PLAN", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Write the checked plan as JSON.")
def check(path: str, as_json: bool) -> None:
    """Check PLAN and everything it refers to; call nothing.

    Every mistake is named with its line. Exit code 2 if there is one; warnings do not change the exit code.
    """
    from leptonami.errors import InputError
    from leptonami.plan import load

    try:
        found = load(path)
    except InputError as error:
        if as_json:
            print_json({"ok": False, **error.as_dict()})
        raise
    for warning in found.warnings:
        say(f"warning: {warning}")
    if as_json:
        print_json({"ok": True, **summary(found), "plan": found.model_dump(mode="json")})
        return
    print_mapping(
        {
            "plan": found.name,
            "builds": f"{found.release.title} {found.os}, Kubernetes {found.kubernetes}, {found.architecture}",
            "base": base_of(found),
            "owner": found.release.owner,
            "region": found.region,
            "steps": ", ".join(use.name for use in found.steps) or "none",
            "images": len(found.images),
            "digest": found.digest[:16],
        }
    )


@plan.command()
def schema() -> None:
    """Write the JSON Schema of plan files, for editors.

    A plan names it in its first line: `# yaml-language-server: $schema=../plan.schema.json`.
    """
    from leptonami.plan import json_schema

    print_json(json_schema())


def base_of(found: Any) -> str:
    """Say in a line where the base image comes from."""
    if found.base is None:
        return str(found.release.ssm_parameter)
    return str(found.base.ssm or found.base.ami or found.base.name)


def summary(found: Any) -> dict[str, Any]:
    """Give what a machine wants to know of a checked plan first."""
    return {
        "path": str(found.path),
        "name": found.name,
        "digest": found.digest,
        "base": base_of(found),
        "steps": [use.name for use in found.steps],
        "images": [image.ref for image in found.images],
        "warnings": list(found.warnings),
    }


# `plan show` and what it needs live in a module of their own.
from leptonami.commands.plan_show import show_command  # noqa: E402

plan.add_command(show_command, "show")
