"""`leptonami lab`: the embedded AWS in the foreground, or for one command, and what runs already."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from leptonami.console import say
from leptonami.errors import InputError, LeptonamiError
from leptonami.lab import DEFAULT_KUBERNETES, Lab, running, start
from leptonami.lab.fleet.gpu.command import command as gpu_operator
from leptonami.lab.world import DEFAULT_SPEED, clean_environment

__all__ = ["lab"]

F = TypeVar("F", bound=Callable[..., Any])
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


# How often a lab in the foreground looks whether its fleets have been started again.
LOOK_S = 2.0


def clustered(*, by_default: bool) -> Callable[[F], F]:
    """Give a command the options for a cluster."""

    def decorate(function: F) -> F:
        for option in (
            click.option("--kubernetes", default=DEFAULT_KUBERNETES, show_default=True, help="Version of the cluster."),
            click.option(
                "--cluster/--no-cluster",
                default=by_default,
                show_default=True,
                help="EKS and Auto Scaling, with a cluster named leptonami.",
            ),
        ):
            function = option(function)
        return function

    return decorate


def options(function: F) -> F:
    """Give a command the options with which a lab is started."""
    for option in (
        click.option("--log", type=click.Path(dir_okay=False, path_type=Path), help="Write a line for each request."),
        click.option(
            "--faults", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="JSON file of faults."
        ),
        click.option("--seed", type=int, help="Make ids, and the luck of faults, the same again."),
        click.option("--region", default="us-west-2", show_default=True, help="The region the environment names."),
        click.option(
            "--speed",
            type=click.FloatRange(min=0),
            default=DEFAULT_SPEED,
            show_default=True,
            help="Faster than AWS; 0: no delays.",
        ),
        click.option(
            "--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1.  [default: a free one]"
        ),
    ):
        function = option(function)
    return function


def open_lab(*, faults: Path | None, log: Path | None, cluster: bool, kubernetes: str, **rest: Any) -> Lab:
    """Start a lab as the options say, and say where its word counts for less."""
    if cluster:
        from leptonami import catalog

        known = catalog.load().kubernetes
        if kubernetes not in known:
            raise InputError(f"EKS has no version {kubernetes!r}", resource="--kubernetes", hint=", ".join(known))
    chosen = []
    if faults is not None:
        try:
            chosen = json.loads(faults.read_text(encoding="utf-8"))
        except ValueError as problem:
            raise InputError(f"not JSON: {problem}", resource=str(faults)) from problem
        from leptonami.lab.faults import Faults

        Faults().replace(chosen)
    log_file = str(log) if log else None
    opened = start(faults=chosen, log=log_file, cluster=kubernetes if cluster else False, **rest)
    if opened.recorded:
        say(f"scripts are recorded here, not run, and commands end as failed: {opened.recorded}")
    return opened


@click.group()
def lab() -> None:
    """Start the embedded AWS on this machine. Everything in it is simulated."""


@lab.command()
@options
@clustered(by_default=True)
def up(**given: Any) -> None:
    """Run a lab until Ctrl-C; print the environment with which other programs use it.

    For instance: `leptonami lab up --port 5000`, then in another terminal paste what it printed and run `aws ec2
    describe-images --owners 099720109477`, or `kubectl get nodes --watch`.
    """
    with open_lab(**given) as opened:
        stopped = threading.Event()
        # SIGINT too: what a shell starts with & would otherwise ignore it.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: stopped.set())
        for name, value in opened.environment.items():
            click.echo(f"export {name}={shlex.quote(value)}")
        sys.stdout.flush()
        say(f"the lab answers on {opened.url}; paste the lines above into another terminal. Ctrl-C ends it")
        say('an aws CLI before 2.13 (v1: 1.29) needs: aws --endpoint-url "$AWS_ENDPOINT_URL" ...')
        fleets = Fleets(opened) if opened.kubeconfig else None
        while not stopped.wait(LOOK_S if fleets else 0.5):
            code = opened.process.poll()
            if code == 0:
                break  # leptonami lab down
            if code is not None:
                raise LeptonamiError("the lab's process has ended by itself", hint="start it again, with --log")
            if fleets is not None:
                fleets.look()
    say("the lab has ended, and everything in it is gone")


class Fleets:
    """Says when a cluster's fleet has ended by itself and was started again."""

    def __init__(self, opened: Lab) -> None:
        self.opened = opened
        self.seen: dict[str, int] = {}

    def look(self) -> None:
        """Look once."""
        with contextlib.suppress(OSError):
            for cluster in self.opened.clusters(nodes=False):
                name, fleet = cluster["name"], cluster["fleet"]
                if fleet["restarts"] > self.seen.get(name, 0):
                    self.seen[name] = fleet["restarts"]
                    say(f"the fleet of {name} had ended by itself and was started again: {fleet['said'] or 'no word'}")


@lab.command("exec", context_settings={"ignore_unknown_options": True})
@options
@clustered(by_default=False)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(command: tuple[str, ...], **given: Any) -> None:
    """Run COMMAND with a lab of its own, and end with its exit code (128 + n after signal n).

    For instance: `leptonami lab exec -- aws ec2 describe-vpcs`.
    """
    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def receive(number: int, _: object) -> None:
        if process is None:
            early.append(number)
        else:
            pass_on(process, number)

    with open_lab(**given) as opened:
        # The terminal sends Ctrl-C to both of us; what is sent to us alone is passed on, and the command decides. It
        # may be at work before we know of it, and somebody may send us a signal because it is.
        for number in FORWARDED:
            signal.signal(number, receive)
        try:
            process = subprocess.Popen(command, env={**clean_environment(), **opened.environment})
        except OSError as problem:
            raise InputError(f"cannot be run: {problem.strerror}", resource=command[0]) from problem
        for received in early:
            pass_on(process, received)
        code = process.wait()
    sys.exit(code if code >= 0 else 128 - code)


@lab.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(as_json: bool) -> None:
    """Show the labs that you run here: clusters, node groups, nodes, calls."""
    found = running.described(running.labs())
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    if not found:
        say("no lab runs here; leptonami lab up starts one")
    for each in found:
        there = ", ".join(counted(count, name) for name, count in each["state"].items() if count) or "nothing"
        click.echo(f"{each['url']}  {each['region']}  process {each['pid']}  {each['calls']} calls  (simulated)")
        click.echo(f"  {there}")
        for cluster in each["clusters"]:
            nodes, fleet = cluster["nodes"], cluster["fleet"]
            life = f"fleet {fleet['pid']}" if fleet["pid"] else "no fleet"
            life += f", started again {fleet['restarts']} times: {fleet['said']}" if fleet["restarts"] else ""
            click.echo(
                f"  cluster {cluster['name']}  {cluster['version']}  {cluster['status']}  "
                f"{nodes['ready']} of {nodes['count']} nodes ready  {life}"
            )
            for group in cluster["nodegroups"]:
                issues = f"  {', '.join(group['issues'])}" if group["issues"] else ""
                click.echo(
                    f"    {group['name']}  {group['status']}  {group['amiType']}  {group['releaseVersion']}  "
                    f"{group['instances']} of {group['desired']} instances{issues}"
                )


def counted(count: int, kind: str) -> str:
    """Write a number of things, such as `1 node group`."""
    words = kind.replace("_", " ")
    return f"{count} {words.removesuffix('s') if count == 1 else words}"


@lab.command()
@click.option("--pid", type=int, help="Which lab, if there are several.")
def down(pid: int | None) -> None:
    """End a lab that runs here."""
    chosen = running.choose(running.labs(), pid)
    running.end(chosen)
    say(f"the lab on {chosen.url} has ended, and everything in it is gone")


@lab.command()
@click.option("--cluster", default="leptonami", show_default=True, help="The cluster's name.")
@click.option("--pid", type=int, help="Which lab, if there are several.")
def kubeconfig(cluster: str, pid: int | None) -> None:
    """Print the path of the file with which kubectl reaches a lab's cluster.

    For instance: `export KUBECONFIG=$(leptonami lab kubeconfig)`.
    """
    chosen = running.choose(running.labs(), pid)
    known = {each["name"]: each["kubeconfig"] for each in chosen.ask("clusters?brief")}
    if not known.get(cluster):
        raise InputError(
            f"the lab has no cluster {cluster!r} that answers", hint=f"clusters: {', '.join(known) or 'none'}"
        )
    click.echo(known[cluster])


lab.add_command(gpu_operator)


def pass_on(process: subprocess.Popen[bytes], number: int) -> None:
    """Pass a signal on; one that a terminal has sent to the whole foreground group has arrived already."""
    if number == signal.SIGINT and sys.stdin.isatty():
        return
    process.send_signal(number)
