"""Baking: the product's own pre-fetch step, and its own checks, on a node that runs here.

What runs is what `steps.render` and `claims.script` give for a builder on EC2, byte for byte; a variable of the
environment (`LEPTONAMI_HOSTS_DIR`) tells the step where our registry is. Two things differ from an AMI's build: there
is no kubelet, so that the step `versions` would refuse, and the record which the checks compare with has only what
`prefetch` wrote; and nothing has to stay free on the disk beyond what the step needs (`reserve_gib: 0`).
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from leptonami.bench.local.oci import Built, architecture
from leptonami.bench.model import Check
from leptonami.build import claims
from leptonami.build.steps import Context, StepUse, render
from leptonami.errors import BuildError
from leptonami.imagelist import Image

__all__ = ["Prefetch", "Store", "fill"]

Store = Literal["none", "content", "unpacked"]
Script = Callable[[str, float], "subprocess.CompletedProcess[str]"]
# As the step `versions` puts it there; hygiene would remove prefetch's own copy.
RECORD = """set -eu
mkdir -p /etc/leptonami
{ printf '{"prefetched": '; cat /var/lib/leptonami/prefetch.json; printf '}\\n'; } >/etc/leptonami/image.json
"""
# What the stock EKS images do with theirs (amazon-eks-ami, pull-image.sh): fetched, not unpacked.
FETCH = 'set -eu\nctr -n k8s.io content fetch --hosts-dir "$LEPTONAMI_HOSTS_DIR" --platform linux/{} {} >/dev/null\n'


@dataclass(frozen=True)
class Prefetch:
    """A plan that has nothing but its pre-fetched images, as far as claims and scripts need one."""

    images: tuple[Image, ...]
    family: str = "ubuntu-eks"
    kubernetes: str = "1.34"

    @property
    def architecture(self) -> str:
        """As OCI names it."""
        return architecture()

    @property
    def steps(self) -> tuple[StepUse, ...]:
        """The one step."""
        return (StepUse("prefetch", {"images": "images.yaml", "reserve_gib": 0}),)

    @property
    def context(self) -> Context:
        """What its scripts are rendered with."""
        return Context(
            plan_name="benchmark",
            run_id="benchmark",
            family=self.family,
            os="",
            kubernetes=self.kubernetes,
            architecture=self.architecture,
            region="",
            images=self.images,
        )


def plan(images: Sequence[Built]) -> Prefetch:
    """Give the plan that pre-fetches images, with their digests and sizes, as an image list has them."""
    mib = 2**20
    return Prefetch(
        tuple(Image(each.ref, each.digest, -(-each.packed // mib), -(-each.unpacked // mib)) for each in images)
    )


def fill(script: Script, images: Sequence[Built], store: Store, timeout: float) -> tuple[Check, ...]:
    """Fill a node's store with the pause image (the first) and the others; give what the product's checks say.

    Parameters
    ----------
    script
        Runs a shell script on the node, within a time.
    images
        The first is unpacked whatever `store` says, as every custom image has the pause image.
    store
        What happens to the others.

    Raises
    ------
    BuildError
        If the pre-fetch step failed, with what it said.
    """
    made = plan(images if store == "unpacked" else images[:1])
    _run(script, render(made.steps[0], made.context), "prefetch", timeout)
    if store == "content":
        for image in images[1:]:
            _run(script, FETCH.format(architecture(), shlex.quote(image.ref)), "content fetch", timeout)
    _run(script, RECORD, "record", timeout)
    answer = _run(script, claims.script(made, made.context), "verify", timeout)
    return tuple(Check(each.claim, each.ok, each.observed) for each in claims.parse(answer))


def _run(script: Script, text: str, what: str, timeout: float) -> str:
    done = script(text, timeout)
    if done.returncode:
        raise BuildError(
            f"ended with {done.returncode}: {done.stderr.strip()[-600:] or done.stdout.strip()[-600:]}", resource=what
        )
    return done.stdout
