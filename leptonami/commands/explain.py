"""`leptonami explain`: what the autoscaler, the GPU operator and a node's journal are telling."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from leptonami.explain.autoscaler import Explanation
    from leptonami.explain.given import Given
    from leptonami.explain.gpuoperator import Driver, StackExplanation
    from leptonami.explain.journal import JournalExplanation
    from leptonami.kube import Cluster
    from leptonami.progress import Progress

__all__ = ["explain"]

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def explain() -> None:
    """Say why: read a log, a listing or a live cluster, and tell what happened, to which node, and what to do.

    The exit code is 3 when something is wrong, 0 when nothing is.
    """


def cluster_options(command: F) -> F:
    """Say which cluster to look at, instead of files. Nothing is ever changed in it."""
    command = click.option("--timeout", type=float, default=15.0, show_default=True, help="Seconds for an answer.")(
        command
    )
    command = click.option("--kubeconfig", type=click.Path(path_type=Path), help="Its kubeconfig.")(command)
    command = click.option("--namespace", help="Where the component runs; by default it is looked for.")(command)
    command = click.option("--live", is_flag=True, help="Read the cluster of the current context.")(command)
    return click.option("--context", help="Read the live cluster of this context.")(command)


def output_options(command: F) -> F:
    """Say what to print."""
    command = click.option("--json", "as_json", is_flag=True, help="Write everything as JSON.")(command)
    return click.option("--all", "everything", is_flag=True, help="Every row of the tables.")(command)


def clock_options(command: F) -> F:
    """Say what a log's header leaves out."""
    command = click.option("--zone", help="The zone of its times: UTC, +02:00, Europe/Berlin.")(command)
    return click.option(
        "--year", type=click.IntRange(1970, 9999), help="The year of its first line; by default it is found."
    )(command)


def where_to_look(path: str | None, *, live: bool, context: str | None, kubeconfig: Path | None) -> bool:
    """Tell whether a live cluster is to be read.

    Raises
    ------
    InputError
        If both or none are named.
    """
    from leptonami.errors import InputError

    wanted = live or context is not None or kubeconfig is not None
    if wanted and path is not None:
        raise InputError("a file and a cluster at once", resource=path, hint="name the file, or --context")
    if not wanted and path is None:
        raise InputError("nothing to read", hint="name a file, a folder or - (standard input), or --context, or --live")
    return wanted


@contextmanager
def progress_for(title: str) -> Iterator[Progress]:
    """Show progress: on a terminal only, and only of what takes long."""
    from leptonami.explain.show import Patient
    from leptonami.progress import Silent

    if not sys.stderr.isatty():
        yield Silent()
        return
    shown = Patient(title)
    try:
        yield shown
    finally:
        shown.close()


def leave(*, wrong: bool) -> None:
    """End with the exit code that scripts decide by."""
    from leptonami.errors import CheckFailed

    if wrong:
        sys.exit(CheckFailed.exit_code)


# --- the autoscaler ---------------------------------------------------------------------------------------------------


@explain.command()
@click.argument("path", required=False)
@click.option("--node", help="Everything about this node; a part of its name will do.")
@click.option("--parquet", type=click.Path(path_type=Path, dir_okay=False), help="Write every event into this file.")
@click.option("--unneeded-time", help="The autoscaler's --scale-down-unneeded-time, such as 10m.")
@click.option("--unready-time", help="Its --scale-down-unready-time.")
@click.option("--delay-after-add", help="Its --scale-down-delay-after-add.")
@clock_options
@output_options
@cluster_options
def autoscaler(
    path: str | None,
    node: str | None,
    parquet: Path | None,
    unneeded_time: str | None,
    unready_time: str | None,
    delay_after_add: str | None,
    year: int | None,
    zone: str | None,
    as_json: bool,
    everything: bool,
    context: str | None,
    live: bool,
    namespace: str | None,
    kubeconfig: Path | None,
    timeout: float,
) -> None:
    """Say of each node why cluster-autoscaler removes it, or keeps it.

    PATH is its log, objects of the cluster (kubectl get nodes,pods,... -A -o json), a folder with both, or - for
    standard input. Logs may be compressed or rotated.
    """
    from leptonami.explain.given import Given, parse_length, parse_zone
    from leptonami.explain.show import quietly

    of_cluster = where_to_look(path, live=live, context=context, kubeconfig=kubeconfig)
    if parquet is not None and (of_cluster or path == "-"):
        raise no_parquet(parquet)
    given = Given(
        year=year,
        zone=parse_zone(zone) if zone else None,
        unneeded=parse_length(unneeded_time, "--unneeded-time") if unneeded_time else None,
        unready=parse_length(unready_time, "--unready-time") if unready_time else None,
        after_add=parse_length(delay_after_add, "--delay-after-add") if delay_after_add else None,
    )
    if of_cluster:
        with open_cluster(context, kubeconfig, timeout) as cluster:
            found = of_live_autoscaler(cluster, namespace, given)
    else:
        from leptonami.explain.autoscaler import explain as explain_files

        assert path is not None  # noqa: S101 - where_to_look refused it
        with progress_for(f"reading {path}") as progress:
            found = explain_files(path, given, progress)
    if parquet is not None:
        write_parquet(found, parquet)
    with quietly():
        show_autoscaler(found, node, as_json=as_json, everything=everything)
    leave(wrong=found.node(node).wrong if node else found.wrong)


@contextmanager
def open_cluster(context: str | None, kubeconfig: Path | None, timeout: float) -> Iterator[Cluster]:
    """Open a live cluster."""
    from leptonami.kube import connect

    with connect(context, kubeconfig=kubeconfig, timeout=timeout) as cluster:
        yield cluster


def of_live_autoscaler(cluster: Cluster, namespace: str | None, given: Given) -> Explanation:
    """Read a live cluster."""
    from dataclasses import replace

    from leptonami.explain.live import autoscaler as look

    with progress_for(f"reading {cluster.name}") as progress:
        return look(cluster, replace(given, now=datetime.now(UTC)), namespace=namespace, progress=progress)


def write_parquet(found: Explanation, path: Path) -> None:
    """Write a log's events, in a second pass over it."""
    from leptonami.console import say
    from leptonami.explain.parquet import export
    from leptonami.readers.lines import batches

    if found.log is None or found.lines_in is None or not found.lines_in.again:
        raise no_parquet(path)
    with progress_for(f"writing {path}") as progress:
        rows = export(batches(found.lines_in.blocks(progress)), found.log, path)
    say(f"{rows:,} events in {path}")


def no_parquet(path: Path) -> Exception:
    """Say that there is no log to read a second time."""
    from leptonami.errors import InputError

    return InputError(
        "only a log that is a file can be written as Parquet",
        resource=str(path),
        hint="save the log to a file first",
    )


def show_autoscaler(found: Explanation, node: str | None, *, as_json: bool, everything: bool) -> None:
    """Print it."""
    from leptonami.console import print_json
    from leptonami.explain import show
    from leptonami.explain.known import provenance_words

    if as_json:
        print_json(found.as_dict(node))
        return
    show.show_notes(found.problems)
    if node is not None:
        show_node(found, node)
        return
    show.show_story(found.story())
    rows = found.rows()
    if rows:
        show.blank()
        show.show_records(
            ("node", "verdict", "when"), [row[:3] for row in rows], [row[3] for row in rows], everything=everything
        )
    show.blank()
    show.show_story([provenance_words(found.provenance, found.recording)])


def show_node(found: Explanation, name: str) -> None:
    """Print everything about one node."""
    from leptonami.explain import show
    from leptonami.explain.autoscaler import verdict_words, when

    each = found.node(name)
    at = when(each)
    show.show_story([f"Node {each.node}: {verdict_words(each)}{f', {at}' if at else ''}."])
    show.show_story([f"{each.cause[0].upper()}{each.cause[1:]}."] if each.cause else [])
    show.show_story([f"What to do: {each.remedy}."] if each.wrong else [])
    show.show_story([f"- {note}" for note in each.notes])
    show.show_story([f"- it also meets: {', '.join(each.also)}"] if each.also else [])
    show.show_table(
        ("where", "what stands there"),
        [(f"{proof.source}, {proof.place}", proof.text) for proof in each.proofs],
        everything=True,
        title="What proves it",
    )
    spans = found.spans(each.node)
    if spans:
        rows = [
            (span["phase"], span["branch"], clock(span["begin"]), clock(span["end"]), lines_of(found, span))
            for span in spans
        ]
        show.show_table(("phase", "why", "from", "to", "lines"), rows, everything=True, title="What the log says of it")


def clock(at: datetime | None) -> str:
    """Write a time."""
    from leptonami.readers.years import plain

    return "" if at is None else plain(at)


def lines_of(found: Explanation, span: dict[str, Any]) -> str:
    """Name the lines of a span."""
    first, last = found.line(span["first_line"]), found.line(span["last_line"])
    return first if first == last else f"{first} to {last}"


# --- the GPU operator -------------------------------------------------------------------------------------------------


@explain.command("gpu-operator")
@click.argument("path", required=False)
@click.option("--operator-version", help="The operator's version, such as v23.3.2; by default it is found.")
@click.option("--driver-version", help="Predict the image of this driver on the nodes, such as 525.105.17.")
@click.option("--driver-repository", default="nvcr.io/nvidia", show_default=True, help="Where it is pulled from.")
@click.option("--os", help="Predict it for this OS, such as amzn2 or ubuntu22.04; nothing needs to be read then.")
@output_options
@cluster_options
def gpu_operator(
    path: str | None,
    operator_version: str | None,
    driver_version: str | None,
    driver_repository: str,
    os: str | None,
    as_json: bool,
    everything: bool,
    context: str | None,
    live: bool,
    namespace: str | None,
    kubeconfig: Path | None,
    timeout: float,
) -> None:
    """Say which link of the GPU stack is the first that is broken, node by node.

    PATH is what kubectl get pods|all printed, objects as JSON or YAML, a must-gather (a folder or a tarball), the log
    of a device plugin, or - for standard input.
    """
    from leptonami.errors import InputError
    from leptonami.explain.gpuoperator import Driver
    from leptonami.explain.show import quietly

    if os is not None:
        if driver_version is None or path is not None:
            raise InputError("--os goes with --driver-version, and without a file", resource="--os")
        with quietly():
            wrong = show_prediction(os, Driver(driver_version, driver_repository), operator_version, as_json=as_json)
        leave(wrong=wrong)
        return
    driver = Driver(driver_version, driver_repository) if driver_version else None
    if where_to_look(path, live=live, context=context, kubeconfig=kubeconfig):
        from leptonami.explain.live import gpu_operator as look

        with open_cluster(context, kubeconfig, timeout) as cluster, progress_for(f"reading {cluster.name}") as progress:
            found = look(
                cluster,
                now=datetime.now(UTC),
                namespace=namespace,
                version=operator_version,
                driver=driver,
                progress=progress,
            )
    else:
        from leptonami.explain.gpuoperator import explain as explain_files

        assert path is not None  # noqa: S101 - where_to_look refused it
        found = explain_files(path, version=operator_version, driver=driver)
    with quietly():
        show_stack(found, as_json=as_json, everything=everything)
    leave(wrong=found.wrong)


def show_prediction(os: str, driver: Driver, version: str | None, *, as_json: bool) -> bool:
    """Print which driver image the operator would ask for on an OS; tell whether there is none."""
    from leptonami.console import print_json
    from leptonami.explain import show
    from leptonami.explain.gpuoperator import image_words, labels_of_os
    from leptonami.verdicts.driverimage import predict_driver_image

    image = predict_driver_image(labels_of_os(os), driver.repository, driver.image, driver.version, operator=version)
    if as_json:
        print_json({"os": os, **image.as_dict()})
    else:
        show.show_story([f"On {os} {image_words(image)}."])
    return image.published is False


def show_stack(found: StackExplanation, *, as_json: bool, everything: bool) -> None:
    """Print it."""
    from leptonami.console import print_json
    from leptonami.explain import show
    from leptonami.explain.known import provenance_words

    if as_json:
        print_json(found.as_dict())
        return
    show.show_notes(found.problems)
    show.show_story(found.story())
    rows = found.rows()
    if rows:
        show.blank()
        show.show_records(
            ("node", "state", "first link not whole"),
            [row[:3] for row in rows],
            [row[3] for row in rows],
            everything=everything,
        )
    show.blank()
    show.show_story([provenance_words(found.provenance, found.recording)])


# --- a node's journal -------------------------------------------------------------------------------------------------


@explain.command("node-journal")
@click.argument("path")
@click.option(
    "--os",
    type=click.Choice(["al2", "al2023", "ubuntu", "bottlerocket"]),
    help="The operating system; by default the journal tells.",
)
@click.option("--boot", type=click.IntRange(0), help="Which boot, from 0; by default the last.")
@clock_options
@output_options
def node_journal(
    path: str,
    os: str | None,
    boot: int | None,
    year: int | None,
    zone: str | None,
    as_json: bool,
    everything: bool,
) -> None:
    """Say how far a node came when it booted, what went wrong first, and what took long.

    PATH is what journalctl printed (text or -o json), /var/log/messages, a folder of such files, or - for standard
    input.
    """
    from leptonami.explain.given import Given, parse_zone
    from leptonami.explain.journal import explain as explain_files
    from leptonami.explain.show import quietly

    given = Given(year=year, zone=parse_zone(zone) if zone else None)
    with progress_for(f"reading {path}") as progress:
        found = explain_files(path, given, progress, family=os, boot=boot)
    with quietly():
        show_journal(found, as_json=as_json, everything=everything)
    leave(wrong=found.wrong)


def show_journal(found: JournalExplanation, *, as_json: bool, everything: bool) -> None:
    """Print it."""
    from leptonami.console import print_json
    from leptonami.explain import show
    from leptonami.explain.known import provenance_words

    if as_json:
        print_json(found.as_dict())
        return
    show.show_notes([*found.problems, *(f"left out: {each}" for each in found.left_out)])
    show.show_story(found.story())
    show.blank()
    if len(found.verdicts) == 1:
        columns = ("step", "after the kernel", "took", "what", "line")
        show.show_table(columns, found.steps(), everything=everything)
    else:
        rows = found.rows()
        show.show_records(
            ("node", "state", "ready after"), [row[:3] for row in rows], [row[3] for row in rows], everything=everything
        )
        show.blank()
    show.show_story([provenance_words(found.provenance, found.recording)])
