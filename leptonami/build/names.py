"""Names, tags and client tokens: everything is derived from the run, so that a run finds again what it made."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from leptonami.errors import InputError
from leptonami.runs import parse_id

__all__ = ["CLUSTER", "EXPIRES", "LEPTONAMI", "LIFETIME", "PREFIX", "Names"]

PREFIX = "leptonami:"
LEPTONAMI = "leptonami-"
EXPIRES = f"{PREFIX}expires"
CLUSTER = f"{PREFIX}cluster"
# How long what is temporary may live before a sweep may take it, besides what the plan lets the image, or steps that
# are slower than usual, take.
LIFETIME = timedelta(hours=12)
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateImage.html
AMI_NAME = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]{3,128}")
NAMESPACE = uuid.UUID("5f0cba5e-6f0d-5a1e-9c6b-1e9707a31a11")


@dataclass(frozen=True)
class Names:
    """The names of one run's resources.

    Parameters
    ----------
    run
        The run's id.
    plan
        The plan's name.
    owner
        Who runs it, as a tag: the ARN's last part, never a secret.
    wait
        The seconds that the plan asks for beyond `LIFETIME`: for the image (`image.wait`), and for slow steps.
    since
        When the process that makes something began with it: a run that goes on after a day makes nothing that has
        expired already. By default the run's own beginning.
    """

    run: str
    plan: str
    owner: str
    wait: int = 0
    since: datetime | None = None

    @property
    def started(self) -> datetime:
        """When the run began, which its id says."""
        return parse_id(self.run)

    @property
    def expires(self) -> str:
        """Say until when what is temporary may stay, as `leptonami:expires` does."""
        until = (self.since or self.started) + LIFETIME + timedelta(seconds=self.wait)
        return f"{until:%Y-%m-%dT%H:%M:%SZ}"

    @property
    def temporary(self) -> str:
        """The name of the run's temporary role, profile and security group (IAM allows 64 characters)."""
        return f"{LEPTONAMI}{self.run}"

    def group(self, *place: int) -> str:
        """Give the name of a node group of the run and of its launch template (EKS allows 63 characters)."""
        return "-".join((self.temporary, *map(str, place)))

    def image(self, template: str, **more: str) -> str:
        """Expand the plan's template of the AMI's name.

        Raises
        ------
        InputError
            If it has an unknown placeholder, or the result is not a name that EC2 takes.
        """
        fields = {
            "plan": self.plan,
            "run": self.run,
            "date": f"{self.started:%Y%m%d}",
            "time": f"{self.started:%H%M%S}",
            **more,
        }
        try:
            name = template.format_map(fields)
        except (KeyError, IndexError, ValueError) as error:
            raise InputError(
                f"cannot expand {template!r}: {error}",
                resource="image.name",
                hint="the placeholders are " + ", ".join(f"{{{field}}}" for field in fields),
            ) from error
        if AMI_NAME.fullmatch(name) is None:
            raise InputError(
                f"not an AMI name: {name!r}",
                resource="image.name",
                hint="3 to 128 of letters, digits and ( ) [ ] space . / - ' @ _",
            )
        return name

    def token(self, *parts: str) -> str:
        """Give the client token of a creating call: the same call of the same run has the same one."""
        return str(uuid.uuid5(NAMESPACE, "/".join((self.run, *parts))))

    def tags(self, step: str, extra: Mapping[str, str], *, temporary: bool) -> list[dict[str, str]]:
        """Give the tags of a resource: the plan's own, then ours, which say who owns it, for which run, until when."""
        ours = {
            "run": self.run,
            "plan": self.plan,
            "step": step,
            "owner": self.owner,
        }
        if temporary:
            ours["expires"] = self.expires
        tags = {"Name": f"leptonami {self.plan}", **extra, **{PREFIX + key: value for key, value in ours.items()}}
        return [{"Key": key, "Value": value[:256]} for key, value in tags.items()]
