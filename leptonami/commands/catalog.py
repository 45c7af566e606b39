"""`leptonami catalog`: the AMI families, what they exist for, and when they end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import click

from leptonami.console import print_json, print_mapping, print_table, say

if TYPE_CHECKING:
    from leptonami.catalog import Catalog

__all__ = ["catalog"]


@click.group()
def catalog() -> None:
    """Show the AMI families and what they exist for."""


@catalog.command("list")
@click.option("--family", help="Only this family.")
@click.option("--json", "as_json", is_flag=True, help="Write every release as JSON.")
def list_(family: str | None, as_json: bool) -> None:
    """List the families, their versions and the Kubernetes versions they exist for."""
    from leptonami.catalog import load
    from leptonami.errors import InputError
    from leptonami.validation import choose

    known = load()
    if family is not None and family not in known.families:
        hint = choose(family, known.families, "families")
        raise InputError(f"unknown family {family!r}", resource="--family", hint=hint)
    today = datetime.now(UTC).date()
    if as_json:
        releases = [
            {**each.as_dict(), "warnings": list(each.warnings(today))}
            for each in known.releases()
            if family in (None, each.family)
        ]
        print_json(releases)
        return
    print_table(("family", "os", "arch", "k8s", "gpu", "os ends", "build"), rows(known, family, today))
    source, as_of = known.sources["families"]
    say(f"as of {as_of}; sources: data/catalog.yaml ({source.split(',', maxsplit=1)[0]} and others)")


def rows(known: Catalog, family: str | None, today: date) -> Iterator[tuple[str, ...]]:
    """Give a line for each version of each family."""
    for name, each in known.families.items():
        if family not in (None, name):
            continue
        for os, system in each.systems.items():
            for architecture in system.architectures:
                versions = known.kubernetes_of(name, os, architecture)
                state = "yes"
                if each.not_buildable:
                    state = "no"
                elif each.frozen and each.frozen <= today:
                    state = "frozen"
                elif system.ends and system.ends < today:
                    state = "ended"
                yield (
                    name,
                    os,
                    architecture,
                    versions[0] if len(versions) == 1 else f"{versions[0]}-{versions[-1]}",
                    "yes" if each.gpu else "no",
                    str(system.ends or "-"),
                    state,
                )


@catalog.command()
@click.argument("family")
@click.argument("os")
@click.argument("kubernetes")
@click.argument("architecture")
@click.option("--region", default="us-west-2", show_default=True, help="Decides the owner account.")
@click.option("--json", "as_json", is_flag=True, help="Write it as JSON.")
def show(family: str, os: str, kubernetes: str, architecture: str, region: str, as_json: bool) -> None:
    """Show one release, for instance: ubuntu-eks 22.04 1.33 amd64."""
    from leptonami.catalog import load

    release = load().release(family, os, kubernetes, architecture, region=region)
    warnings = release.warnings(datetime.now(UTC).date())
    if as_json:
        print_json({**release.as_dict(), "warnings": list(warnings)})
        return
    for warning in warnings:
        say(f"warning: {warning}")
    shown: dict[str, Any] = release.as_dict()
    print_mapping({name: "-" if value is None else value for name, value in shown.items()})
