"""The list of container images that a build pulls and unpacks into the AMI.

A list is a file of its own (`data/images/*.yaml`), so that several plans share one and a tool can update it:

```yaml
schema: 1
images:
  - registry.k8s.io/pause:3.10
  - ref: nvcr.io/nvidia/k8s-device-plugin:v0.17.4
    digest: {amd64: sha256:..., arm64: sha256:...}    # or one digest for all
    architectures: [amd64, arm64]                     # the default: both
    size: {compressed_mib: 120, unpacked_mib: 400}    # or `unknown`, the default
    also_tagged: [registry.example.com/k8s-device-plugin:v0.17.4]
```

References are written out in full (`nginx:1.27` becomes `docker.io/library/nginx:1.27`), because that is the name
under which containerd and the kubelet look for them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator

from leptonami.validation import Strict, Wrong, validate
from leptonami.yamlfile import Document, Problem, read, refuse

__all__ = ["Image", "ImageList", "Reference", "ecr_registry", "is_private_ecr", "load", "reference"]

Architecture = Literal["amd64", "arm64"]

# The grammar of references: https://github.com/distribution/reference (reference.go, regexp.go), and
# https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests for names and tags.
LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
HOST = re.compile(rf"(?:{LABEL}(?:\.{LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?")
COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
MAX_NAME = 255

# The names of private ECR registries, as the kubelet's ECR credential provider matches them:
# https://github.com/kubernetes/cloud-provider-aws/blob/master/cmd/ecr-credential-provider/main.go
ECR = re.compile(
    r"(?P<account>[0-9]{12})\.dkr[.-]ecr(?:-fips)?\.(?P<region>[a-z]{2,4}(?:-[a-z]+)+-[0-9])\."
    r"(?:amazonaws\.com(?:\.cn)?|on\.aws|on\.amazonwebservices\.com\.cn|c2s\.ic\.gov|sc2s\.sgov\.gov"
    r"|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)"
)


@dataclass(frozen=True)
class Reference:
    """A reference to an image, taken apart."""

    registry: str
    repository: str
    tag: str | None
    digest: str | None

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        """Give the whole reference; the tag where there is one, else the digest."""
        return f"{self.name}:{self.tag}" if self.tag else f"{self.name}@{self.digest}"


@dataclass(frozen=True)
class Image:
    """One image to pre-fetch, for one architecture.

    Attributes
    ----------
    ref
        What to pull: the full reference with its tag, or with its digest if it has no tag.
    digest
        What must come back, if the list says so.
    size_mib, unpacked_mib
        The size of the compressed layers, and on disk when unpacked (MiB); None where nobody knows.
    also_tagged
        Further references under which the image will be known on the node.
    """

    ref: str
    digest: str | None
    size_mib: int | None
    unpacked_mib: int | None
    also_tagged: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "ref": self.ref,
            "digest": self.digest,
            "size_mib": self.size_mib,
            "unpacked_mib": self.unpacked_mib,
            "also_tagged": list(self.also_tagged),
        }


def reference(text: str) -> Reference:
    """Read a reference to an image and write it out in full.

    Raises
    ------
    Wrong
        If it is none, or has neither tag nor digest.
    """
    if not text or text != text.strip() or any(c.isspace() for c in text):
        raise Wrong(f"not an image reference: {text!r}", "a reference has no spaces: registry/repository:tag")
    if "://" in text:
        raise Wrong(f"not an image reference: {text!r}", f"leave the scheme out: {text.partition('://')[2]}")
    rest, at, digest = text.partition("@")
    if at and DIGEST.fullmatch(digest) is None:
        raise Wrong(f"not a digest: {digest!r}", "a digest is sha256: and 64 hexadecimal digits in lower case")
    head, _, tail = rest.rpartition("/")
    path, colon, tag = tail.partition(":")
    if colon and TAG.fullmatch(tag) is None:
        raise Wrong(f"not a tag: {tag!r}", "a tag is up to 128 letters, digits, _ . and -, not beginning with . or -")
    name = f"{head}/{path}" if head else path
    first, slash, remainder = name.partition("/")
    # Docker's rule for what is a registry and what the first part of a repository on Docker Hub.
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, repository = first.lower(), remainder
    else:
        registry, repository = "docker.io", name
    if registry == "index.docker.io":
        registry = "docker.io"
    if registry == "docker.io" and "/" not in repository:
        repository = f"library/{repository}"
    if HOST.fullmatch(registry) is None:
        raise Wrong(f"not a registry: {registry!r}", "a registry is host or host:port")
    if not all(COMPONENT.fullmatch(part) for part in repository.split("/")):
        lower = repository.lower()
        hint = f"repositories are in lower case: {lower}" if lower != repository else None
        raise Wrong(f"not a repository: {repository!r}", hint or "parts of a-z, 0-9 and single . _ - between them")
    if len(f"{registry}/{repository}") > MAX_NAME:
        raise Wrong("the reference is too long", f"registry and repository have {MAX_NAME} characters at most")
    if not colon and not at:
        raise Wrong(f"{text!r} has neither tag nor digest", f"name a version, such as {text}:1.2.3")
    return Reference(registry, repository, tag if colon else None, digest if at else None)


def ecr_registry(ref: str) -> tuple[str, str] | None:
    """Give account and region of the private ECR registry that a reference points to, or None.

    >>> ecr_registry("602401143452.dkr.ecr.us-west-2.amazonaws.com/eks/pause:3.10")
    ('602401143452', 'us-west-2')
    """
    found = ECR.fullmatch(ref.partition("/")[0])
    return (found["account"], found["region"]) if found else None


def is_private_ecr(ref: str) -> bool:
    """Tell whether pulling needs a login at a private ECR registry. `public.ecr.aws` needs none."""
    return ecr_registry(ref) is not None


def checked_reference(value: Any) -> Any:
    """Check a reference and write it out in full (for pydantic; other types are its to refuse)."""
    return full(reference(value)) if isinstance(value, str) else value


def full(parsed: Reference) -> str:
    """Give everything that a reference says, tag and digest."""
    return f"{parsed.name}:{parsed.tag}@{parsed.digest}" if parsed.tag and parsed.digest else str(parsed)


def checked_digest(value: Any) -> Any:
    """Let one digest, or one for each architecture, be written; give the latter."""
    if isinstance(value, str):
        value = {"amd64": value, "arm64": value}
    if isinstance(value, dict):
        for architecture, digest in value.items():
            if architecture not in ("amd64", "arm64"):
                raise Wrong(f"unknown architecture {architecture!r}", "one of amd64, arm64")
            if not isinstance(digest, str) or DIGEST.fullmatch(digest) is None:
                raise Wrong(f"not a digest: {digest}", "a digest is sha256: and 64 hexadecimal digits in lower case")
        return value
    if value is None:
        return value
    raise Wrong("not a digest", "write sha256:..., or {amd64: sha256:..., arm64: sha256:...}")


def checked_size(value: Any) -> Any:
    """Let `unknown` stand for no size."""
    return {} if value == "unknown" else value


REFERENCE_SCHEMA = {"type": "string", "description": "registry/repository:tag, or with @sha256:..."}
DIGEST_SCHEMA = {"type": "string", "pattern": "^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$"}
Ref = Annotated[str, BeforeValidator(checked_reference), WithJsonSchema(REFERENCE_SCHEMA)]
Digests = Annotated[
    dict[str, str] | None,
    BeforeValidator(checked_digest),
    WithJsonSchema(
        {
            "anyOf": [
                DIGEST_SCHEMA,
                {
                    "type": "object",
                    "properties": {"amd64": DIGEST_SCHEMA, "arm64": DIGEST_SCHEMA},
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


class Size(Strict):
    """How large an image is (MiB)."""

    compressed_mib: int | None = Field(default=None, ge=0, le=1_000_000)
    unpacked_mib: int | None = Field(default=None, ge=0, le=1_000_000)


class Entry(Strict):
    """One image of the list."""

    ref: Ref
    digest: Digests = None
    architectures: tuple[Architecture, ...] = Field(default=("amd64", "arm64"), min_length=1, strict=False)
    size: Annotated[Size, BeforeValidator(checked_size)] = Size()
    also_tagged: tuple[Ref, ...] = Field(default=(), strict=False)

    @field_validator("also_tagged")
    @classmethod
    def tags_only(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse a digest: a further name is a tag, since containerd cannot give an image another digest."""
        for ref in value:
            if "@" in ref:
                raise Wrong(f"{ref} has a digest, and a further name must be a tag", f"write {ref.partition('@')[0]}")
        return value


def short_entry(value: Any) -> Any:
    """Let an image be just its reference."""
    return {"ref": value} if isinstance(value, str) else value


class ImageFile(Strict):
    """What an image list's file holds."""

    schema_: Literal[1] = Field(alias="schema", description="The version of this format.")
    images: tuple[Annotated[Entry, BeforeValidator(short_entry)], ...] = Field(min_length=1, strict=False)


@dataclass(frozen=True)
class ImageList:
    """A list of images that has been checked."""

    path: Path
    entries: tuple[Entry, ...]
    warnings: tuple[str, ...]

    def images(self, architecture: str) -> tuple[Image, ...]:
        """Give the images of one architecture, in the order of the file."""
        return tuple(resolve(entry, architecture) for entry in self.entries if architecture in entry.architectures)


def resolve(entry: Entry, architecture: str) -> Image:
    """Make the image of one architecture out of a list's entry."""
    parsed = reference(entry.ref)
    digest = parsed.digest or (entry.digest or {}).get(architecture)
    return Image(
        ref=str(parsed),
        digest=digest,
        size_mib=entry.size.compressed_mib,
        unpacked_mib=entry.size.unpacked_mib,
        also_tagged=entry.also_tagged,
    )


def load(path: Path | str) -> ImageList:
    """Read and check an image list.

    Raises
    ------
    InputError
        With everything that is wrong with it, each with its line.
    """
    document = read(path, what="image list")
    model, problems = validate(ImageFile, document)
    if model is not None:
        problems += contradictions(model, document)
    refuse(problems, what="image list")
    assert model is not None  # noqa: S101 - without problems there is a model
    warnings = tuple(
        f"{document.where(('images', index))}: {entry.ref} has the tag `latest`: what it gives changes with time, "
        "and the kubelet pulls it again for each pod"
        for index, entry in enumerate(model.images)
        if reference(entry.ref).tag == "latest" and reference(entry.ref).digest is None
    )
    return ImageList(Path(path), model.images, warnings)


def contradictions(model: ImageFile, document: Document) -> list[Problem]:
    """Find a name that stands twice for one architecture, and a digest that is given twice and differs."""
    problems = []
    seen: dict[tuple[str, str], int] = {}
    for index, entry in enumerate(model.images):
        location = ("images", index)
        parsed = reference(entry.ref)
        if parsed.digest and entry.digest and set(entry.digest.values()) != {parsed.digest}:
            problems.append(document.problem(location, f"{entry.ref} and its `digest` differ", "keep one of them"))
        if not set(entry.digest or {}) <= {*entry.architectures} and len(set((entry.digest or {}).values())) > 1:
            problems.append(
                document.problem(location, f"{entry.ref} has a digest for an architecture that it is not listed for")
            )
        for ref in (str(parsed), *entry.also_tagged):
            for architecture in entry.architectures:
                before = seen.setdefault((ref, architecture), index)
                if before != index:
                    where = document.lines.get(("images", before), 0)
                    problems.append(
                        document.problem(location, f"{ref} is already on line {where}", "list each image once")
                    )
                    break
    return problems
