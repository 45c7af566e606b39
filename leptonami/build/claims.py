"""What a plan claims about its image, and the one script that checks every claim on the builder before imaging.

The script (`scripts/verify.sh`) changes nothing. It prints one line, `LEPTONAMI-FINDINGS:` and base64 of gzipped JSON,
which fits into the 24,000 characters that Run Command gives. A claim that cannot be checked is a failed claim.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import shlex
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from leptonami.build import steps
from leptonami.errors import BuildError

if TYPE_CHECKING:
    from leptonami.imagelist import Image

__all__ = ["Claim", "Finding", "claims", "parse", "script", "version_record"]

MARK = "LEPTONAMI-FINDINGS:"
# The answer has 24,000 characters at most; nothing honest unpacks to more than this.
MAX_ANSWER_BYTES = 8 * 1024 * 1024
KUBELET_UNITS = {"ubuntu-eks": "snap.kubelet-eks.daemon.service"}


class Planned(Protocol):
    """What claims need of a plan."""

    @property
    def family(self) -> str:
        """Family of the catalog."""

    @property
    def kubernetes(self) -> str:
        """Kubernetes version, such as `1.33`."""

    @property
    def architecture(self) -> str:
        """`amd64` or `arm64`."""

    @property
    def steps(self) -> tuple[steps.StepUse, ...]:
        """The steps, in order."""

    @property
    def images(self) -> tuple[Image, ...]:
        """The images to pre-fetch."""


@dataclass(frozen=True)
class Claim:
    """One statement about the image that the builder must bear out.

    Attributes
    ----------
    id
        Stable name, such as `driver.kernel` or `image.docker.io/library/busybox:1.37`.
    statement
        The claim in words.
    step
        The step that makes it true.
    check
        The words of the check in the script; shell patterns among them are expanded on the builder.
    """

    id: str
    statement: str
    step: str
    check: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """What became of a claim on the builder."""

    claim: str
    statement: str
    ok: bool
    expected: str
    observed: str
    evidence: str


# Files that must be gone: id, what, patterns (expanded on the builder), all by the step `hygiene`.
GONE = (
    ("ssh-host-keys", "SSH host key", "/etc/ssh/ssh_host_*"),
    ("authorized-keys", "authorized key", "/root/.ssh/authorized_keys /home/*/.ssh/authorized_keys"),
    (
        "cloud-init",
        "cloud-init state",
        "/var/lib/cloud/instance /var/lib/cloud/instances/* /var/lib/cloud/data/* /var/lib/cloud/sem/*",
    ),
    (
        "credentials",
        "credential",
        "/root/.aws /home/*/.aws /root/.docker /home/*/.docker /root/.config/containers /home/*/.config/containers"
        " /root/.netrc /home/*/.netrc /root/.git-credentials /home/*/.git-credentials /root/.kube /home/*/.kube",
    ),
    (
        "kubelet",
        "kubelet state",
        "/var/lib/kubelet/config.json /var/lib/kubelet/pki /var/lib/kubelet/kubeconfig /var/lib/kubelet/pods"
        " /var/lib/kubelet/image_manager/pulling /var/lib/kubelet/image_manager/pulled /etc/kubernetes/pki/ca.crt",
    ),
    (
        "histories",
        "history",
        "/root/.bash_history /home/*/.bash_history /root/.python_history /home/*/.python_history /root/.viminfo"
        " /home/*/.viminfo /root/.lesshst /home/*/.lesshst /root/.wget-hsts /home/*/.wget-hsts",
    ),
    ("random-seed", "saved random seed", "/var/lib/systemd/random-seed /var/lib/systemd/credential.secret"),
    ("package-lists", "package list or archive", "/var/lib/apt/lists/* /var/cache/apt/archives/*.deb"),
    ("leases", "DHCP lease", "/var/lib/dhcp/*.leases /var/lib/dhclient/*.leases /var/lib/NetworkManager/*.lease"),
    ("crashes", "crash dump", "/var/crash/* /var/lib/systemd/coredump/*"),
    ("working-files", "file of the build", "/var/lib/leptonami /usr/local/share/eks/*.leptonami-base"),
)


def _driver(options: dict[str, Any]) -> Iterator[Claim]:
    suffix = options["branch"] + ("-server" if options["flavour"] == "server" else "")
    version, module = options["version"], options["kernel_module"]
    step = "nvidia-driver"
    yield Claim(
        "driver.version",
        f"driver {version}, module and library of one release",
        step,
        ("driver_version", shlex.quote(f"nvidia-utils-{suffix}"), shlex.quote(version)),
    )
    yield Claim("driver.kernel", "the driver's module fits the kernel that boots", step, ("driver_kernel",))
    yield Claim("driver.licence", f"the kernel module is the {module} one", step, ("driver_licence", module))
    yield Claim("driver.loads", "the module loads and every GPU answers", step, ("driver_loads", shlex.quote(version)))
    named = [f"nvidia-utils-{suffix}"]
    if options["modules"] == "dkms":
        named.append(f"nvidia-dkms-{suffix}{'-open' if module == 'open' else ''}")
    if options["fabric_manager"]:
        named.append(f"nvidia-fabricmanager-{options['branch']}")
    yield Claim(
        "driver.held", "driver and kernel packages are held", step, ("driver_held", *(shlex.quote(n) for n in named))
    )
    yield Claim("driver.nouveau", "nouveau stays away from the GPU", step, ("no_nouveau",))


def _toolkit(options: dict[str, Any]) -> Iterator[Claim]:
    step, version, runtime = "nvidia-toolkit", options["version"], options["default_runtime"]
    yield Claim(
        "toolkit.version",
        f"container toolkit and libnvidia-container {version}",
        step,
        ("toolkit_version", shlex.quote(version)),
    )
    yield Claim("toolkit.held", "the toolkit's packages are held", step, ("toolkit_held",))
    yield Claim(
        "toolkit.key",
        "NVIDIA's repository is bound to the one accepted key",
        step,
        ("toolkit_key", options["key_fingerprint"]),
    )
    for name, default in (("containerd-config.toml", runtime), ("nvidia-runtime-config.toml", "nvidia")):
        yield Claim(
            f"toolkit.{name}",
            f"the template {name} that bootstrap copies gives pods the nvidia runtime",
            step,
            ("toolkit_template", name, default),
        )


def _prefetch(options: dict[str, Any], images: tuple[Image, ...], architecture: str) -> Iterator[Claim]:
    for image in images:
        for ref in (image.ref, *image.also_tagged):
            yield Claim(
                f"image.{ref}",
                f"{ref} is there for {architecture}, unpacked, pinned",
                "prefetch",
                ("image", shlex.quote(ref), shlex.quote(image.digest or ""), options["pins"]),
            )


def _guard(options: dict[str, Any], family: str) -> Iterator[Claim]:
    step, unit = "gpu-guard", KUBELET_UNITS.get(family, "kubelet.service")
    yield Claim("guard.passes", "the GPU guard passes on the builder", step, ("guard_passes",))
    yield Claim("guard.fails", "the GPU guard fails when nvidia-smi fails", step, ("guard_works",))
    yield Claim(
        "guard.enabled",
        f"the GPU guard runs at boot, on failure: {options['on_failure']}",
        step,
        ("guard_enabled", unit, options["on_failure"]),
    )


def _record(kubernetes: str) -> Iterator[Claim]:
    step = "versions"
    yield Claim("record.whole", "the version record is there and complete", step, ("record_whole",))
    yield Claim("record.true", "the version record says what is on the machine", step, ("record_true",))
    yield Claim("record.packages", "the recorded list of packages is what is installed", step, ("record_packages",))
    yield Claim("kubelet.version", f"the kubelet is {kubernetes}", step, ("kubelet", shlex.quote(kubernetes)))


def _hygiene(family: str, settled: bool, recorded: bool) -> Iterator[Claim]:
    step = "hygiene"
    for name, what, patterns in GONE:
        yield Claim(f"hygiene.{name}", f"no {what} is left", step, ("gone", shlex.quote(what), *patterns.split()))
    yield Claim("hygiene.machine-id", "the machine id is empty", step, ("machine_id",))
    yield Claim("hygiene.registry-auth", "no registry credential is left", step, ("registry_auth",))
    yield Claim("hygiene.logs", "no log from the build is left", step, ("logs",))
    yield Claim("hygiene.temporary", "no temporary file is left", step, ("temporary",))
    yield Claim("hygiene.ssm", "the SSM agent's state goes when the machine stops", step, ("seal",))
    if family == "ubuntu-eks" and settled and recorded:
        yield Claim("hygiene.snap-hold", "snap refreshes are held only as the base image had it", step, ("snap_hold",))


def claims(plan: Planned) -> tuple[Claim, ...]:
    """Give every claim that a plan makes about its image, in the order of its steps."""
    uses = {use.name: steps.values(use) for use in plan.steps}
    result: list[Claim] = []
    if "settle" in uses and plan.family == "ubuntu-eks":
        result.append(Claim("packages.whole", "no package is half installed", "settle", ("packages_whole",)))
    if "nvidia-driver" in uses:
        result += _driver(uses["nvidia-driver"])
    if "nvidia-toolkit" in uses:
        result += _toolkit(uses["nvidia-toolkit"])
    if "prefetch" in uses:
        result += _prefetch(uses["prefetch"], plan.images, plan.architecture)
    if "gpu-guard" in uses:
        result += _guard(uses["gpu-guard"], plan.family)
    if "versions" in uses:
        result += _record(plan.kubernetes)
    if "hygiene" in uses:
        result += _hygiene(plan.family, "settle" in uses, "versions" in uses)
    return tuple(result)


def _line(claim: Claim) -> str:
    """Give the shell line of a claim. Those of images are shorter: there may be a hundred of them."""
    if claim.check[0] == "image":
        return f"claim_{' '.join(claim.check)}"
    return f"claim {shlex.quote(claim.id)} {shlex.quote(claim.statement)} {' '.join(claim.check)}"


def script(plan: Planned, context: steps.Context) -> str:
    """Give the script that checks every claim on the builder, changes nothing, and prints the findings.

    Raises
    ------
    InputError
        If it is too long for Run Command.
    """
    made = claims(plan)
    lines = [
        "#!/bin/bash",
        "# leptonami: check every claim of the plan; read-only",
        "# shellcheck disable=SC2016,SC2034 # values are data, and no plan uses all of them",
        *steps.assignments(context, "verify"),
    ]
    checks = ["look_at_images"] if any(claim.check[0] == "image" for claim in made) else []
    checks += [*(_line(each) for each in made), "answer"]
    used = " ".join([*checks, *(f"check_{each.check[0]}" for each in made)])
    libraries = steps.needed([steps.SCRIPTS / "lib.sh", steps.SCRIPTS / "verify.sh"], used)
    return steps.fitting("\n".join([*lines, *libraries, *checks]) + "\n", what="the verification", where="steps")


def _answer(stdout: str) -> dict[str, Any]:
    """Find and unpack the one line that counts. It comes from a machine where the plan's scripts ran as root."""
    lines = [line for line in stdout.splitlines() if line.startswith(MARK)]
    if len(lines) != 1:
        raise BuildError(
            f"the verification script gave {len(lines) or 'no'} answers instead of one",
            resource="verify",
            hint="its whole output is in the run's evidence",
        )
    try:
        packed = base64.b64decode(lines[0].removeprefix(MARK), validate=True)
        unpacker = zlib.decompressobj(wbits=31)
        text = unpacker.decompress(packed, MAX_ANSWER_BYTES)
        if not unpacker.eof:
            raise ValueError("cut off, or too long")
        value = json.loads(text)
        if not isinstance(value, dict) or not isinstance(value.get("findings"), list):
            raise ValueError("not an answer")
    except (ValueError, binascii.Error, zlib.error, gzip.BadGzipFile, RecursionError) as error:
        raise BuildError(
            f"the verification's answer cannot be read: {error}", resource="verify", hint="Run Command may have cut it"
        ) from error
    return value


def parse(stdout: str) -> tuple[Finding, ...]:
    """Read the findings from what the verification script printed.

    Raises
    ------
    BuildError
        If there is no answer, or it is not whole.
    """
    findings = []
    for entry in _answer(stdout)["findings"]:
        if not isinstance(entry, list) or len(entry) != len(Finding.__dataclass_fields__):
            raise BuildError("the verification's answer has a finding that is none", resource="verify")
        claim, statement, ok, expected, observed, evidence = entry
        texts = (claim, statement, expected, observed, evidence)
        if not isinstance(ok, bool) or not all(isinstance(text, str) for text in texts):
            raise BuildError("the verification's answer has a finding that is none", resource="verify")
        findings.append(Finding(claim, statement, ok, expected, observed, evidence))
    return tuple(findings)


def version_record(stdout: str) -> dict[str, Any]:
    """Give the version record (`/etc/leptonami/image.json`) from the same output; empty if the image has none.

    Raises
    ------
    BuildError
        If there is no answer, or it is not whole.
    """
    record = _answer(stdout).get("record")
    return record if isinstance(record, dict) else {}
