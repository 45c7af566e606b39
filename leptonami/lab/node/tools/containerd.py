"""containerd with its images, as its own client and as CRI show them."""

# pathlib would cost 5 ms at every call.
# ruff: noqa: PTH123

from __future__ import annotations

import json
import re

from .core import SOCKET, STATE, Failed, Refused, fault, flags, load, machine, out, read, save, spend, version_key
from .systemd import active_units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CONTAINERD = "/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.json"


def _containerd_version() -> str:
    return str(load(f"{STATE}/versions.json", {}).get("containerd", "1.7.24"))


def _pins_honoured() -> bool:
    """Containerd before 1.7 does not hand the label on (seen with 1.6.20)."""
    return version_key(_containerd_version()) >= version_key("1.7.0")


def stored() -> dict[str, Any]:
    """Give the images that containerd has, by reference."""
    found: dict[str, Any] = load(CONTAINERD, {})
    return found


def cri_rebuild() -> None:
    """Let CRI read what containerd has, as at its start; later labels it does not see (containerd 9381, 9785)."""
    pinned = {}
    for ref, image in stored().items():
        pinned[ref] = image["labels"].get("io.cri-containerd.pinned") == "pinned" and _pins_honoured()
    save("/run/containerd/lab-cri.json", pinned)


def containerd_needed(tool: str) -> None:
    """Fail as a client does when the daemon does not run."""
    if active_units().get("containerd.service") != "active":
        raise Failed(
            f'{tool}: failed to dial "{SOCKET}": connection error: desc = "transport: error while dialing:'
            f' dial unix {SOCKET}: connect: no such file or directory"'
        )


def digest(ref: str, architecture: str) -> str:
    """Give the digest under which the lab's registry serves a reference: the one in it, or one computed from it."""
    import hashlib

    if "@" in ref:
        return ref.partition("@")[2]
    return "sha256:" + hashlib.sha256(f"{ref} {architecture}".encode()).hexdigest()


def _size_mib(ref: str) -> int:
    import hashlib

    return 20 + int(hashlib.sha256(ref.encode()).hexdigest()[:4], 16) % 300


def ctr(arguments: list[str]) -> None:  # noqa: PLR0912 - one branch a subcommand
    """Containerd's own client: version, and images pull, ls, check, label, tag, rm."""
    namespace = "default"
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        if rest[0] in ("-n", "--namespace") and len(rest) > 1:
            namespace = rest[1]
            rest = rest[2:]
        elif rest[0].startswith("--namespace="):
            namespace = rest.pop(0).partition("=")[2]
        else:
            raise Refused
    if rest == ["version"]:
        containerd_needed("ctr")
        out("Client:", f"  Version:  {_containerd_version()}", "Server:", f"  Version:  {_containerd_version()}")
        return
    if len(rest) < 2 or rest[0] not in ("images", "image", "i") or namespace != "k8s.io":
        raise Refused
    containerd_needed("ctr")
    command, rest = rest[1], rest[2:]
    if command == "pull":
        _pull(rest)
    elif command in ("ls", "list", "check"):
        _list_images(command, rest)
    elif command == "label":
        images = stored()
        if not rest or rest[0] not in images:
            raise Failed(f"ctr: image {json.dumps(rest[0] if rest else '')}: not found")
        for label in rest[1:]:
            name, _, value = label.partition("=")
            images[rest[0]]["labels"][name] = value
            if not value:
                del images[rest[0]]["labels"][name]
        save(CONTAINERD, images)
        out(rest[0])
    elif command == "tag":
        options, names = flags(rest, "", "--force")
        images = stored()
        if len(names) < 2 or names[0] not in images:
            raise Failed(f"ctr: image {json.dumps(names[0] if names else '')}: not found")
        for name in names[1:]:
            if name in images and not options:
                raise Failed(f"ctr: image {json.dumps(name)}: already exists")
            images[name] = {**images[names[0]], "labels": {}}
            out(name)
        save(CONTAINERD, images)
    elif command in ("rm", "remove", "delete"):
        images = stored()
        for name in rest:
            if images.pop(name, None) is None:
                raise Failed(f"ctr: image {json.dumps(name)}: not found")
            out(name)
        save(CONTAINERD, images)
    else:
        raise Refused


ECR = re.compile(r"[0-9]{12}\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.")


def ecr_token(region: str) -> str:
    """Give the password that the lab's ECR hands out on this machine."""
    import hashlib

    return "lab" + hashlib.sha256(f"ecr {region} {machine()['instance_id']}".encode()).hexdigest()


def _pull(arguments: list[str]) -> None:
    options, names = flags(arguments, "--platform --label --user -u --hosts-dir --snapshotter", "--local -q")
    if len(names) != 1:
        raise Refused
    ref = names[0]
    if fault("pull_fails") and spend("pull", fault("pull_fails")):
        raise Failed(f'ctr: failed to copy: httpReadSeeker: failed open: unexpected status code for "{ref}": 503')
    registry = ref.partition("/")[0]
    private = ECR.match(ref)
    if private:
        import base64

        login = "AWS:" + ecr_token(private[1])
        given = (options.get("--user") or options.get("-u") or [""])[0]
        hosts = read(f"{options['--hosts-dir'][0]}/{registry}/hosts.toml") if "--hosts-dir" in options else ""
        if given != login and f"Basic {base64.b64encode(login.encode()).decode()}" not in hosts:
            raise Failed(
                f'ctr: failed to resolve reference "{ref}": pull access denied, repository does not exist or may'
                " require authorization: authorization failed: no basic auth credentials"
            )
    name, _, tag = ref.partition("@")[0].rpartition(":")
    if not re.fullmatch(r"[a-z0-9.-]+(:[0-9]+)?/[a-z0-9._/-]+(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?", ref):
        raise Failed(f'ctr: failed to parse reference "{ref}": invalid reference format')
    if "does-not-exist" in (name or ref) or tag == "missing":
        raise Failed(f'ctr: failed to resolve reference "{ref}": {ref}: not found')
    here = machine()["architecture"]
    wanted = (options.get("--platform") or [f"linux/{here}"])[0].removeprefix("linux/")
    offered = [each for each in ("amd64", "arm64") if f"-{'arm64' if each == 'amd64' else 'amd64'}-only" not in ref]
    images = stored()
    images[ref] = {
        "digest": digest(ref, wanted),
        "labels": dict(label.partition("=")[::2] for label in options.get("--label", [])),
        "platforms": [f"linux/{each}" for each in offered],
        # An image of one platform only is pulled and unpacked whatever the platform asked for: seen with 1.6.20, 1.7.24
        # and 2.1.9. Content without a snapshot is what `ctr content fetch` leaves.
        "unpacked": "-no-snapshot" not in ref,
        "mib": _size_mib(ref),
    }
    save(CONTAINERD, images)
    out(f"{ref}: resolved", "done")


def _list_images(command: str, arguments: list[str]) -> None:
    options, filters = flags(arguments, "", "-q --quiet")
    images = stored()
    wanted = set()
    for each in filters:
        if not each.startswith("name=="):
            raise Refused
        wanted.add(each.removeprefix("name=="))
    chosen = {ref: image for ref, image in sorted(images.items()) if not wanted or ref in wanted}
    if options:
        out(*chosen)
        return
    kind = "application/vnd.oci.image.index.v1+json"
    if command == "check":
        out("REF TYPE DIGEST STATUS SIZE UNPACKED")
        for ref, image in chosen.items():
            size = f"{image['mib']}.0 MiB/{image['mib']}.0 MiB"
            out(f"{ref} {kind} {image['digest']} complete (4/4) {size} {'true' if image['unpacked'] else 'false'}")
        return
    out("REF TYPE DIGEST SIZE PLATFORMS LABELS")
    for ref, image in chosen.items():
        labels = ",".join(f"{name}={value}" for name, value in sorted(image["labels"].items())) or "-"
        platforms = ",".join(image["platforms"])
        out(f"{ref} {kind} {image['digest']} {image['mib']}.0 MiB {platforms} {labels}")


def containerd(arguments: list[str]) -> None:
    """Be the daemon's command: --version, and config dump, which really reads the file."""
    if arguments == ["--version"]:
        out(f"containerd github.com/containerd/containerd {_containerd_version()} lab")
        return
    options, rest = flags(arguments, "-c --config", "")
    if rest != ["config", "dump"]:
        raise Refused
    import tomllib

    path = (options.get("-c") or options.get("--config") or ["/etc/containerd/config.toml"])[0]
    try:
        with open(path, "rb") as file:
            value = tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Failed(f"containerd: failed to load TOML: {path}: {error}") from error
    out(json.dumps(value, indent=1))


def runc(arguments: list[str]) -> None:
    """Its version."""
    if arguments != ["--version"]:
        raise Refused
    out(f"runc version {load(f'{STATE}/versions.json', {}).get('runc', '1.1.12')}", "spec: 1.2.0")


def cri() -> list[dict[str, Any]]:
    """Give the images as CRI lists them."""
    if fault("no_cri"):
        raise Failed("rpc error: code = Unimplemented desc = unknown service runtime.v1.ImageService")
    pinned = load("/run/containerd/lab-cri.json", {})
    found = []
    for ref, image in sorted(stored().items()):
        if image["labels"].get("io.cri-containerd.image") != "managed":
            continue
        repository = ref.partition("@")[0].rpartition(":")[0] if "@" not in ref else ref.partition("@")[0]
        found.append(
            {
                "id": image["digest"],
                "repoTags": [ref] if "@" not in ref else [],
                "repoDigests": [f"{repository}@{image['digest']}"],
                "size": str(image["mib"] << 20),
                "pinned": bool(pinned.get(ref)),
            }
        )
    return found


def crictl(arguments: list[str]) -> None:
    """CRI's client: images and inspecti, as JSON."""
    valued = "--runtime-endpoint --image-endpoint -r -i --timeout -t -o --output"
    options, rest = flags(arguments, valued, "")
    output = (options.get("-o") or options.get("--output") or [""])[0]
    containerd_needed("crictl")
    if rest == ["images"] and output == "json":
        out(json.dumps({"images": cri()}, indent=2))
    elif len(rest) == 2 and rest[0] == "inspecti" and output in ("", "json"):
        for image in cri():
            if rest[1] in (*image["repoTags"], *image["repoDigests"], image["id"]):
                out(json.dumps({"status": image}, indent=2))
                return
        raise Failed(f'no such image "{rest[1]}" present')
    else:
        raise Refused


def kubelet(arguments: list[str]) -> None:
    """Its version."""
    if arguments != ["--version"]:
        raise Refused
    out(f"Kubernetes v{load(f'{STATE}/versions.json', {})['kubelet']}")
