"""Does a machine's user data join it to this cluster, and with what? Of custom AMIs; EKS writes that of its own.

Read are the three ways there are: `/etc/eks/bootstrap.sh CLUSTER ...` (Amazon Linux 2 and Canonical's Ubuntu), a
`NodeConfig` for nodeadm (Amazon Linux 2023), and TOML settings (Bottlerocket), also inside a MIME archive.
https://docs.aws.amazon.com/eks/latest/userguide/launch-templates.html#launch-template-custom-ami
"""

from __future__ import annotations

import email
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

__all__ = ["Join", "read"]

BOOTSTRAP = "/etc/eks/bootstrap.sh"
BASH_FAMILIES = {"ubuntu", "al2"}
LINE = re.compile(rf"^[^#\n]*?{re.escape(BOOTSTRAP)}(?:[ \t]+(.*))?$", re.MULTILINE)
VARIABLE = re.compile(r"^\s*(?:export\s+)?([A-Za-z_]\w*)=(\"[^\"$`]*\"|'[^']*'|[^\s\"'$`;]*)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Join:
    """What comes of a machine's user data.

    Attributes
    ----------
    why_not
        Why its kubelet never registers; "" if it does.
    labels, taints
        What the kubelet registers with.
    max_pods
        As the user data says; None for the rule by network interfaces.
    """

    why_not: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, str], ...] = ()
    max_pods: int | None = None


def read(text: str, family: str, cluster: str, endpoint: str = "") -> Join:
    """Find out what user data does.

    Parameters
    ----------
    text
        The user data, decoded.
    family
        Whose image it is: `ubuntu`, `al2`, `al2023`, `bottlerocket`; "" if that is not known.
    cluster, endpoint
        The cluster's name and its API server's URL ("" if not known).
    """
    if family == "bottlerocket":
        return bottlerocket(text, cluster, endpoint)
    for kind, part in parts(text):
        config = node_config(part) if kind.startswith("application/node.eks.aws") else None
        if config is not None:
            if family in BASH_FAMILIES:
                return Join(f"a NodeConfig is for nodeadm, which {family} has not")
            return nodeadm(config, cluster, endpoint)
        called = LINE.search(part.replace("\\\n", " "))
        if called:
            if family == "al2023":
                return Join("bootstrap.sh has been removed from AL2023: it takes a NodeConfig for nodeadm")
            return bootstrap(called[1] or "", dict(VARIABLE.findall(part)), cluster, endpoint)
    needed = "a NodeConfig" if family == "al2023" else f"a call of {BOOTSTRAP}"
    return Join(f"the user data has not {needed}: with an AMI of one's own, EKS adds nothing to it")


def parts(text: str) -> Iterator[tuple[str, str]]:
    """Give the parts of user data with their types; what is no MIME archive is one part. Compressed: nothing."""
    message = email.message_from_string(text.lstrip())
    if not message.is_multipart():
        bare = "application/node.eks.aws" if "node.eks.aws/" in text else "text/x-shellscript"
        yield (message.get_content_type() if "content-type" in message else bare), text
        return
    for part in message.walk():
        raw = part.get_payload(decode=True)
        if isinstance(raw, bytes):
            yield part.get_content_type(), raw.decode(errors="replace")


def node_config(part: str) -> dict[str, Any] | None:
    """Read a NodeConfig."""
    try:
        found = yaml.safe_load(part[part.index("apiVersion") :])
    except (yaml.YAMLError, ValueError):
        return None
    return found["spec"] if isinstance(found, dict) and isinstance(found.get("spec"), dict) else None


def nodeadm(spec: Mapping[str, Any], cluster: str, endpoint: str) -> Join:
    """Read what nodeadm is told (https://awslabs.github.io/amazon-eks-ami/nodeadm/doc/api/)."""
    about = spec.get("cluster") or {}
    missing = [name for name in ("name", "apiServerEndpoint", "certificateAuthority", "cidr") if not about.get(name)]
    if missing:
        return Join(f"the NodeConfig lacks cluster.{missing[0]}")
    kubelet = spec.get("kubelet") or {}
    config = kubelet.get("config") or {}
    flags = flags_of([str(each) for each in kubelet.get("flags") or []])
    pods = config.get("maxPods", flags.get("max-pods"))
    taints = [{str(key): str(value) for key, value in each.items()} for each in config.get("registerWithTaints") or []]
    return Join(
        other(str(about["name"]), str(about["apiServerEndpoint"]), cluster, endpoint),
        labels_of(flags.get("node-labels", "")),
        (*taints, *taints_of(flags.get("register-with-taints", ""))),
        int(pods) if pods else None,
    )


def bootstrap(line: str, variables: Mapping[str, str], cluster: str, endpoint: str) -> Join:
    """Read a call of bootstrap.sh, with the variables that the script sets to plain values."""
    values = {name: value.strip("\"'") for name, value in variables.items()}
    line = re.sub(r"\$\{?([A-Za-z_]\w*)\}?", lambda found: values.get(found[1], found[0]), line)
    try:
        words = shlex.split(line.split("||")[0].split("&&")[0].split(" #")[0])
    except ValueError as error:
        return Join(f"the call of bootstrap.sh cannot be read: {error}")
    options, names = {}, []
    rest = iter(words)
    for word in rest:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            options[name] = value or next(rest, "")
        elif word not in {";", "2>&1"} and not word.startswith((">", "|")):
            names.append(word)
    if not names:
        return Join("bootstrap.sh is called without a cluster's name")
    extra = flags_of(shlex.split(options.get("kubelet-extra-args", "").strip("'\"")))
    pods = extra.get("max-pods")
    if options.get("use-max-pods", "true") == "false":
        pods = pods or "110"  # the kubelet's own default
    return Join(
        other(names[0], options.get("apiserver-endpoint", ""), cluster, endpoint),
        labels_of(extra.get("node-labels", "")),
        taints_of(extra.get("register-with-taints", "")),
        int(pods) if pods and pods.isdecimal() else None,
    )


def bottlerocket(text: str, cluster: str, endpoint: str) -> Join:
    """Read Bottlerocket's settings (https://bottlerocket.dev/en/os/latest/#/api/settings/kubernetes/)."""
    try:
        settings = tomllib.loads(text).get("settings", {}).get("kubernetes", {})
    except tomllib.TOMLDecodeError as error:
        return Join(f"the user data is not TOML: {error}")
    for name in ("cluster-name", "api-server", "cluster-certificate"):
        if not settings.get(name):
            return Join(f"the settings lack kubernetes.{name}")
    taints = [
        taint
        for key, values in settings.get("node-taints", {}).items()
        for value in (values if isinstance(values, list) else [values])
        for taint in taints_of(f"{key}={value}")
    ]
    return Join(
        other(settings["cluster-name"], settings["api-server"], cluster, endpoint),
        {str(key): str(value) for key, value in settings.get("node-labels", {}).items()},
        tuple(taints),
        settings.get("max-pods"),
    )


def other(name: str, server: str, cluster: str, endpoint: str) -> str:
    """Say why a kubelet that is told this name and server does not come to this cluster; "" if it does."""
    if name != cluster:
        return f"it joins a cluster {name!r}, not {cluster!r}: its token is not accepted here"
    if server and endpoint and server.rstrip("/") != endpoint.rstrip("/"):
        return f"it joins {server}, which is not this cluster's endpoint"
    return ""


def flags_of(words: list[str]) -> dict[str, str]:
    """Read `--name=value` and `--name value`."""
    found: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            found[name] = value if equals else next(rest, "")
    return found


def labels_of(text: str) -> dict[str, str]:
    """Read `a=b,c=d`."""
    return {key: value for key, equals, value in (each.partition("=") for each in text.split(",")) if equals}


def taints_of(text: str) -> tuple[dict[str, str], ...]:
    """Read `key=value:Effect,...`."""
    found = []
    for each in filter(None, text.split(",")):
        what, _, effect = each.rpartition(":")
        key, _, value = what.partition("=")
        if key and effect:
            found.append({"key": key, "effect": effect, **({"value": value} if value else {})})
    return tuple(found)
