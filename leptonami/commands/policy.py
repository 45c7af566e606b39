"""`leptonami policy PLAN`, or `--for bench EXPERIMENT`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from leptonami.policy import Policy

__all__ = ["policy"]


@click.command()
@click.argument("file", metavar="PLAN", type=click.Path(path_type=Path))
@click.option(
    "--for",
    "purposes",
    multiple=True,
    type=click.Choice(["build", "publish", "sweep", "images", "retire", "bench"]),
    help="What it is to be good for (may be repeated).  [default: build, publish and sweep] With bench, PLAN is an "
    "experiment, and beside it only sweep means something.",
)
@click.option("--account-id", help="The account in the ARNs; without it they say ACCOUNT_ID.")
@click.option("--partition", help="The partition in the ARNs.  [default: the region's]")
@click.option("--builder-role", help="The role in the plan's own instance profile, if it has another name.")
@click.option("--node-role", help="With --for bench: the role in the experiment's profile, if it has another name.")
@click.option("--builder", is_flag=True, help="Give the policy of the builder's own role instead.")
@click.option("--explain", is_flag=True, help="Say in a table what each statement is for.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write each document to a file of its own in there.",
)
@click.option("--json", "as_json", is_flag=True, help="Write everything as JSON: documents, sizes, reasons, notes.")
def policy(
    file: Path,
    purposes: tuple[Any, ...],
    account_id: str | None,
    partition: str | None,
    builder_role: str | None,
    node_role: str | None,
    builder: bool,
    explain: bool,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Print the IAM policy that a plan (or an experiment) needs, and nothing more. Calls nothing.

    Standard output gets the document, for `aws iam create-policy --policy-document file://...`. A plan that needs more
    than one managed policy can hold gets a list of documents; --folder writes them one by one.
    """
    from leptonami import plan as plans
    from leptonami import policy as policies
    from leptonami.console import print_json, say

    where: dict[str, Any] = {"account": account_id or policies.ACCOUNT, "partition": partition}
    if "bench" in purposes:
        chosen = of_experiment(file, purposes, builder=builder, node_role=node_role, **where)
        documents = list(chosen.documents())
    else:
        plan = plans.load(file)
        chosen = policies.for_plan(plan, purposes=purposes or policies.USUAL, builder_role=builder_role, **where)
        documents = [policies.builder_document(plan, partition=partition)] if builder else list(chosen.documents())
    if not builder:
        for note in chosen.notes:
            say(f"note: {note}")
        if account_id is None:
            say(f"note: put your account id where it says {policies.ACCOUNT}, or give --account-id")
    files = write(folder, f"{chosen.plan}-builder" if builder else chosen.plan, documents) if folder else []
    if as_json:
        print_json(
            {
                "plan": chosen.plan,
                "documents": [{"characters": policies.characters(each), "document": each} for each in documents],
                "files": [str(path) for path in files],
                "statements": [] if builder else statements(chosen),
                "notes": [] if builder else list(chosen.notes),
            }
        )
    elif explain:
        print_reasons(chosen)
    elif files:
        for path in files:
            click.echo(path)
    else:
        if len(documents) > 1:
            limit = policies.MANAGED_CHARACTERS
            say(f"note: {len(documents)} documents, since a managed policy takes {limit} characters")
        print_json(documents[0] if len(documents) == 1 else documents)


def of_experiment(file: Path, purposes: tuple[Any, ...], *, builder: bool, **options: Any) -> Policy:
    """Give the policy of an experiment."""
    from leptonami.bench import experiment
    from leptonami.bench.policy import for_experiment
    from leptonami.errors import InputError

    others = sorted(set(purposes) - {"bench", "sweep"})
    if others or builder:
        what = f"--for {others[0]}" if others else "--builder"
        raise InputError(f"{what} is about a plan, and --for bench about an experiment", resource=str(file))
    return for_experiment(experiment.load(file), purposes=purposes, **options)


def write(folder: Path, name: str, documents: list[dict[str, Any]]) -> list[Path]:
    """Write each document to a file."""
    import json

    from leptonami.errors import InputError

    paths = []
    for number, each in enumerate(documents, start=1):
        path = folder / (f"{name}.json" if len(documents) == 1 else f"{name}-{number}.json")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(each, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror}", resource=str(path)) from error
        paths.append(path)
    return paths


def statements(chosen: Policy) -> list[dict[str, Any]]:
    """Give the statements with their reasons as plain data."""
    return [{"purposes": list(each.purposes), "why": each.why, **each.as_dict()} for each in chosen.statements]


def print_reasons(chosen: Policy) -> None:
    """Print what each statement is for."""
    from leptonami.console import print_table

    print_table(
        ["statement", "for", "why", "allows"],
        [(each.sid, ", ".join(each.purposes), each.why, short(each.actions)) for each in chosen.statements],
    )


def short(actions: tuple[str, ...]) -> str:
    """Write actions with their service once: `ec2: CreateImage, CreateTags`."""
    services: dict[str, list[str]] = {}
    for action in actions:
        service, _, name = action.partition(":")
        services.setdefault(service, []).append(name)
    return "; ".join(f"{service}: {', '.join(names)}" for service, names in services.items())
