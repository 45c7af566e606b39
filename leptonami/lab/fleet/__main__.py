"""A fleet in a process of its own: `python -m leptonami.lab.fleet [SETTINGS] [--NAME VALUE ...]`.

SETTINGS is one JSON object (`running.Settings`), which the options override. Secrets come by the environment and by the
kubeconfig, never by the command line. When it runs it prints one line of JSON with the port of the kubelets' server and
the kubeconfig. It ends with a signal, when its standard input closes, or when its parent is gone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
from dataclasses import fields, replace

from leptonami.errors import InputError, LeptonamiError
from leptonami.lab.fleet import envtest
from leptonami.lab.fleet.running import Fleet, Settings
from leptonami.lab.server import wait_for_end

__all__: list[str] = []


def settings_of(arguments: list[str]) -> Settings:
    """Read the settings.

    Raises
    ------
    InputError
        If they make no sense.
    """
    parser = argparse.ArgumentParser("python -m leptonami.lab.fleet", description="EC2 instances become nodes.")
    parser.add_argument("settings", nargs="?", default="{}", help="settings as one JSON object")
    parser.add_argument("--no-control", dest="control", action="store_false", default=None, help="only kubelets")
    parser.add_argument("--envtest", action="store_true", default=None, help=f"start what {envtest.VARIABLE} has")
    for each in fields(Settings):
        if each.name not in {"control", "envtest"}:
            parser.add_argument(f"--{each.name.replace('_', '-')}", type=int if each.name == "seed" else str)
    named = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    try:
        found = json.loads(named.pop("settings")) | named
    except (ValueError, TypeError) as error:
        raise InputError(f"they are no JSON object: {error}", resource="settings") from error
    if unknown := sorted(found.keys() - {each.name for each in fields(Settings)}):
        raise InputError(f"unknown: {', '.join(unknown)}", resource="settings")
    try:
        # JSON has no infinity: the speed comes as text.
        return Settings(**{**found, "speed": float(found.get("speed", Settings.speed))})
    except ValueError as error:
        raise InputError(f"the speed is no number: {error}", resource="settings") from error


def main(arguments: list[str]) -> int:
    """Run a fleet until the end."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    try:
        settings = settings_of(arguments)
        with contextlib.ExitStack() as stack:
            if settings.envtest:
                settings = replace(settings, kubeconfig=str(stack.enter_context(envtest.start())))
            return serve(Fleet.open(settings), stop)
    except LeptonamiError as error:
        sys.stderr.write(f"{error}{f' ({error.hint})' if error.hint else ''}\n")
        return error.exit_code


def serve(fleet: Fleet, stop: threading.Event) -> int:
    """Run a fleet until somebody ends it, or it fails."""
    failed: list[LeptonamiError] = []

    def run() -> None:
        try:
            fleet.run()
        except LeptonamiError as error:
            failed.append(error)
        stop.set()

    thread = threading.Thread(target=run, name="fleet")
    thread.start()
    sys.stdout.write(json.dumps({"port": fleet.port, "kubeconfig": fleet.settings.kubeconfig}) + "\n")
    sys.stdout.flush()
    wait_for_end(stop)
    fleet.end()
    thread.join(10)
    for each in failed:
        sys.stderr.write(f"{each}\n")
    sys.stderr.flush()
    return failed[0].exit_code if failed else 0


if __name__ == "__main__":
    # Without waiting for threads that still talk to somebody who is gone.
    os._exit(main(sys.argv[1:]))
