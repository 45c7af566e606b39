"""`leptonami doctor`: what this machine and these credentials can do."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, version

import click

from leptonami.commands.options import aws_options

__all__ = ["doctor"]

PACKAGES = ("leptonami", "boto3", "papermill", "nbconvert", "jupyterlab", "kubernetes", "pydantic")


@dataclass(frozen=True)
class Diagnosis:
    """One thing looked at: ok True, False, or None where it is only worth knowing."""

    what: str
    found: str
    ok: bool | None


@click.command()
@aws_options
@click.option("--json", "as_json", is_flag=True, help="Write it as JSON.")
def doctor(aws: str, profile: str | None, as_json: bool) -> None:
    """Say what this machine and these credentials can do. Exit code 3 if something is wrong."""
    from dataclasses import asdict

    from leptonami.console import print_json, print_table
    from leptonami.errors import CheckFailed

    found = [*machine(), *credentials(aws, profile)]
    if as_json:
        print_json([asdict(each) for each in found])
    else:
        mark = {True: "ok", False: "WRONG", None: ""}
        print_table(["", "what", "found"], [(mark[each.ok], each.what, each.found) for each in found])
    wrong = [each.what for each in found if each.ok is False]
    if wrong:
        raise CheckFailed(f"not in order: {', '.join(wrong)}", hint="the table above says what was found")


def machine() -> Iterator[Diagnosis]:
    """Look at Python, the packages and the tools."""
    yield Diagnosis("python", f"{platform.python_version()} {sys.platform}", sys.version_info >= (3, 11))
    for package in PACKAGES:
        try:
            yield Diagnosis(package, version(package), True)
        except PackageNotFoundError:
            yield Diagnosis(package, "not installed", False)
    check = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    lines = (check.stdout or check.stderr).strip().splitlines()
    yield Diagnosis("pip check", lines[0] if lines else "no answer", check.returncode == 0)
    labs = [entry.name for entry in entry_points(group="leptonami.targets")]
    yield Diagnosis("targets", ", ".join(["account", *labs]), True)
    sandbox = shutil.which("unshare") is not None and subprocess.run(
        ["unshare", "-Urm", "true"], capture_output=True, check=False
    )
    ran = sandbox is not False and sandbox.returncode == 0
    yield Diagnosis(
        "user namespaces",
        "yes: the lab runs scripts" if ran else "no: the lab records scripts and does not run them",
        None,
    )


def credentials(aws: str, profile: str | None) -> Iterator[Diagnosis]:
    """Ask AWS who we are. Only the last digits of the account are shown."""
    from leptonami.errors import CredentialsError, LeptonamiError
    from leptonami.target import connect

    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    try:
        with connect(aws, region=region or "us-west-2", profile=profile) as target:
            yield Diagnosis("AWS account", f"…{target.identity().account[-4:]}", True)
            yield Diagnosis(
                "AWS region", target.region if region else f"{target.region} (assumed: AWS_REGION is not set)", None
            )
            yield Diagnosis("provenance", target.provenance, None)
    except CredentialsError as error:
        # No credentials are no fault: everything but an account itself works without.
        yield Diagnosis("AWS account", f"{error}; the lab needs none (--aws lab)", None)
    except LeptonamiError as error:
        yield Diagnosis("AWS account", str(error), False)
