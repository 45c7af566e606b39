"""The log of NVIDIA's device plugin for Kubernetes: what it found on its node and what it told the kubelet.

Reads the old text (Go's `log`, up to v0.9), klog lines with the configuration as JSON over many lines (from v0.10) and
structured or JSON lines (newer), each also with the prefixes that collectors put before them. The wording is that of
k8s-device-plugin `cmd/nvidia-device-plugin/main.go`, `internal/plugin` and `internal/rm`.

The log matters most where the pod says nothing: with `failOnInitError: false` (the default outside of the operator) a
plugin that finds no GPU stays Running and waits for ever.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from leptonami.errors import InputError
from leptonami.proof import Proof
from leptonami.readers.fields import boolean, text
from leptonami.readers.klogline import parse
from leptonami.readers.manifests import decode
from leptonami.readers.prefixes import strip

__all__ = ["DevicePluginLog", "PluginState", "looks_like_device_plugin_log", "read_device_plugin_log"]

LARGEST = 64 * 1024 * 1024  # bytes; a plugin writes some 60 lines and then nothing
LONGEST = 16_384  # characters of a line
LONGEST_CONFIG = 400  # lines of a configuration
LARGEST_CONFIG = 65_536  # characters
TRIES = 20  # configurations that are looked for: one is printed at each start
KEPT = 50  # devices and errors that are kept; the others are counted

GO_LOG = re.compile(r"[0-9]{4}/[0-9]{2}/[0-9]{2} [0-9:]{8}(?:\.[0-9]{1,6})? (.*)")
CONFIG = re.compile(r"\s{0,20}(?:Running with config:)?\s{0,20}\{\s{0,20}")
ENV = re.compile(r"([A-Z][A-Z0-9_]{2,60})=(\S{0,400})")
PROMPT = re.compile(
    r".{0,120}?[$#%>] {1,4}(?:kubectl|oc) .{0,300}?logs .{0,200}?(nvidia-device-plugin[a-z0-9-]{1,120})"
)
REGISTERED = re.compile(r"Registered device plugin for '?\"?([^'\"\s]{1,200})'?\"? with Kubelet", re.IGNORECASE)
XID = re.compile(r"XidCriticalError: Xid=([0-9]{1,6}) on Device=([^;\s]{1,120})")
MARKED = re.compile(r"'([^']{1,200})' device marked unhealthy: (\S{1,200})")
TOO_OLD = re.compile(r"Marking (?:it|device|[A-Za-z0-9-]{1,80}) (?:as )?unhealthy", re.IGNORECASE)
STRATEGY = re.compile(r"Incompatible (?:device discovery )?(strategy|platform) detected ?(\S{0,60})", re.IGNORECASE)
PLATFORM = re.compile(r"Detected (non-)?(NVML|Tegra|WSL|CDI)[A-Za-z-]{0,20} ?(?:platform|mode)?:? ?(.{0,200})")
VERSION = re.compile(
    r"(?:NVIDIA Device Plugin|nvidia-device-plugin)[^\n]{0,40}?version[=:< \"]{0,6}(v?[0-9][0-9a-zA-Z.+-]{0,40})"
)
IDLE = "no devices found. waiting indefinitely"
FAILURES = (
    "failed to initialize nvml",
    "error starting plugin",
    "error getting plugins",
    "error creating plugin",
    "could not register device plugin",
    "could not load nvml library",
    "failed to start plugin",
    "unable to create plugin manager",
    "unable to load config",
    "error starting plugins",
    "invalid device discovery strategy",
    "could not start device plugin",
    "received error:",
)


class PluginState(StrEnum):
    """How the device plugin stands at the end of its log."""

    SERVING = "serving"
    IDLE = "idle"
    FAILED = "failed"
    STARTING = "starting"
    NOT_DETERMINED = "not determined"


@dataclass(frozen=True, slots=True)
class Unhealthy:
    """A device that the plugin marked unhealthy; `xid` is the driver's error number if it told one."""

    device: str
    xid: int | None
    proof: Proof


@dataclass(frozen=True, slots=True)
class DevicePluginLog:
    """What a device plugin's log says.

    Parameters
    ----------
    state
        `serving` if it registered a resource, `idle` if it waits for ever without devices, `failed` if it gave up.
        What comes last in the log holds: a plugin that is restarted in its container begins anew.
    proof
        What the state rests on; None if nothing tells.
    name
        The document's name.
    pod
        Which pod's log it is, from a prefix or the prompt; "" if nothing tells.
    environment
        The variables that it printed first: the barrier file of the driver validation (`NVIDIA_DRIVER_ROOT`,
        `IS_HOST_DRIVER`, …).
    config
        The configuration that it runs with, as it stands in the log.
    platform
        What it detected (`NVML`, `Tegra`), with the reason in its own words.
    resources
        What it registered with the kubelet: `nvidia.com/gpu`, `nvidia.com/mig-1g.5gb`.
    unhealthy
        The devices that it marked unhealthy (the first 50 marks), `unhealthy_marks` how often.
    errors
        The lines in which starting failed.
    """

    state: PluginState
    proof: Proof | None
    name: str = ""
    pod: str = ""
    version: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    platform: str = ""
    resources: tuple[str, ...] = ()
    unhealthy: tuple[Unhealthy, ...] = ()
    unhealthy_marks: int = 0
    errors: tuple[Proof, ...] = ()
    environment_proof: Proof | None = None

    def of_pod(self, pod: str) -> DevicePluginLog:
        """Give it as the log of a pod that is known from elsewhere (the document's name)."""
        return replace(self, pod=pod)

    @property
    def driver_on_host(self) -> bool | None:
        """Tell whether the driver is the host's own (and no driver container's); None if the log does not tell.

        `IS_HOST_DRIVER` says so (newer); `NVIDIA_DRIVER_ROOT=/` does as well, since a driver container's root is
        `/run/nvidia/driver`. Outside of the operator, the flag `nvidiaDriverRoot` in the configuration has the same
        meaning, but is `/` by default and proves nothing.
        """
        told = boolean(self.environment, "IS_HOST_DRIVER")
        if told is not None:
            return told
        root = self.environment.get("NVIDIA_DRIVER_ROOT")
        return None if not root else root == "/"

    @property
    def mig_strategy(self) -> str:
        """Give the MIG strategy: `none`, `single`, `mixed`; "" if the configuration does not tell."""
        return text(self.config, "flags", "migStrategy")

    @property
    def fails_on_init_error(self) -> bool | None:
        """Tell whether it ends when it finds no GPU, or waits for ever; None if the configuration does not tell."""
        return boolean(self.config, "flags", "failOnInitError")

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data, for `--json`."""
        return {
            "state": self.state.value,
            "proof": self.proof.as_dict() if self.proof else None,
            "pod": self.pod,
            "version": self.version,
            "environment": dict(self.environment),
            "driver_on_host": self.driver_on_host,
            "mig_strategy": self.mig_strategy,
            "fails_on_init_error": self.fails_on_init_error,
            "platform": self.platform,
            "resources": list(self.resources),
            "unhealthy": [
                {"device": each.device, "xid": each.xid, "proof": each.proof.as_dict()} for each in self.unhealthy
            ],
            "errors": [each.as_dict() for each in self.errors],
        }


def looks_like_device_plugin_log(document: str) -> bool:
    """Tell whether a text may be such a log, by its first 20,000 characters."""
    start = document[:20_000].lower()
    return any(
        mark in start
        for mark in (
            "starting nvidia-device-plugin",
            "starting nvidia device plugin",
            "registered device plugin for 'nvidia",
            "retreiving plugins",
            "retrieving plugins",
            IDLE,
            "starting grpc server for 'nvidia",
        )
    )


@dataclass(slots=True)
class Draft:
    """What was read so far."""

    source: str
    state: PluginState = PluginState.NOT_DETERMINED
    proof: Proof | None = None
    pod: str = ""
    version: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    environment_proof: Proof | None = None
    config: dict[str, Any] = field(default_factory=dict)
    platform: str = ""
    resources: dict[str, None] = field(default_factory=dict)
    unhealthy: list[Unhealthy] = field(default_factory=list)
    marks: int = 0
    errors: list[Proof] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    tries: int = 0
    line: str = ""
    number: int = 0

    def here(self) -> Proof:
        """Make the present line a proof; few lines become one."""
        return Proof.of(self.source, f"line {self.number}", self.line)

    def set(self, state: PluginState) -> None:
        """Let the present line decide the state."""
        self.state, self.proof = state, self.here()


def read_device_plugin_log(data: bytes | str, source: str) -> DevicePluginLog:
    """Read a device plugin's log.

    Parameters
    ----------
    data
        The log, with or without a prompt before it and prefixes on its lines. Lines of another container of the same
        pod do no harm.
    source
        Its name, for the proofs.

    Raises
    ------
    InputError
        If it is larger than 64 MiB.
    """
    if len(data) > LARGEST:
        raise InputError(f"a log of more than {LARGEST // 1024**2} MiB", resource=source)
    draft = Draft(source)
    lines = decode(data).splitlines()
    at = 0
    while at < len(lines):
        line = lines[at][:LONGEST]
        message, severity = message_of(line, draft)
        if draft.tries < TRIES and CONFIG.fullmatch(message):
            draft.tries += 1
            at = read_config(lines, at, draft)
            continue
        draft.line, draft.number = line, at + 1
        take(message, severity, draft)
        at += 1
    return DevicePluginLog(
        state=draft.state,
        proof=draft.proof,
        name=source,
        pod=draft.pod,
        version=draft.version,
        environment=draft.environment,
        config=draft.config,
        platform=draft.platform,
        resources=tuple(draft.resources),
        unhealthy=tuple(draft.unhealthy),
        unhealthy_marks=draft.marks,
        errors=tuple(draft.errors),
        environment_proof=draft.environment_proof,
    )


def message_of(line: str, draft: Draft | None = None) -> tuple[str, str]:
    """Take prefixes and header off a line; give the message and its severity (I, W, E or F)."""
    if draft and not draft.pod and (prompt := PROMPT.match(line)):
        draft.pod = prompt.group(1)
    stripped = strip(line.encode("utf-8", "replace"))
    origin = (stripped.origin or "").split("/")
    if draft and not draft.pod and len(origin) == 3 and "device-plugin" in origin[1]:
        draft.pod = origin[1]
    parsed = parse(stripped.rest)
    if parsed is None:
        rest = stripped.rest.decode("utf-8", "replace")
        go = GO_LOG.match(rest)
        return (go.group(1) if go else rest), "I"
    detail = " ".join(
        f"{key}={text(parsed.fields, key)}" for key in ("err", "error", "version") if key in parsed.fields
    )
    return f"{parsed.message} {detail}".strip(), parsed.severity


def read_config(lines: list[str], at: int, draft: Draft) -> int:
    """Read the configuration, which stands over many lines, and give the line behind it."""
    first, _ = message_of(lines[at][:LONGEST])
    parts = [first[first.index("{") :]]
    size = 0
    for following in range(at + 1, min(len(lines), at + LONGEST_CONFIG)):
        inner, _ = message_of(lines[following][:LONGEST])
        parts.append(inner)
        size += len(inner)
        if size > LARGEST_CONFIG:
            break
        if inner.strip() != "}":
            continue
        try:
            read = json.loads("\n".join(parts))
        except (ValueError, RecursionError):
            continue  # an inner bracket; or cut off, or mixed with another's lines
        if isinstance(read, dict) and isinstance(read.get("flags"), dict):
            draft.config = read
        return following + 1
    return at + 1


def take(message: str, severity: str, draft: Draft) -> None:
    """Take in one line."""
    lower = message.lower()
    environment = ENV.fullmatch(message.strip())
    if environment:
        draft.environment[environment.group(1)] = environment.group(2)
        if environment.group(1) in {"NVIDIA_DRIVER_ROOT", "IS_HOST_DRIVER"}:
            draft.environment_proof = draft.here()
    elif "starting nvidia-device-plugin" in lower or "starting nvidia device plugin" in lower:
        draft.set(PluginState.STARTING)
        draft.resources.clear()
        found = VERSION.search(message)
        draft.version = found.group(1) if found else draft.version
    elif registered := REGISTERED.search(message):
        draft.resources[registered.group(1)] = None
        draft.set(PluginState.SERVING)
    elif IDLE in lower:
        draft.set(PluginState.IDLE)
    elif not take_device(message, draft):
        take_problem(message, severity, draft)


def take_device(message: str, draft: Draft) -> bool:
    """Take in a line about a device or the platform; tell whether it is one."""
    if xid := XID.search(message):
        mark(draft, xid.group(2).rstrip("."), int(xid.group(1)))
    elif marked := MARKED.search(message):
        mark(draft, marked.group(2).rstrip("."), None)
    elif TOO_OLD.search(message):
        mark(draft, "", None)
    elif found := PLATFORM.search(message):
        if not found.group(1):
            draft.platform = f"{found.group(2)}: {found.group(3)}".rstrip(": ")
    else:
        return False
    return True


def take_problem(message: str, severity: str, draft: Draft) -> None:
    """Take in a line in which starting failed."""
    lower = message.lower()
    if STRATEGY.search(message) or any(each in lower for each in FAILURES):
        if len(draft.errors) < KEPT:
            draft.errors.append(draft.here())
        # An error before anything is registered ends the start, unless the plugin then says that it waits.
        if draft.state not in {PluginState.SERVING, PluginState.IDLE} or severity == "F":
            draft.set(PluginState.FAILED)
    elif draft.state is PluginState.NOT_DETERMINED and lower.startswith(("retreiving plugin", "retrieving plugin")):
        draft.set(PluginState.STARTING)


def mark(draft: Draft, device: str, xid: int | None) -> None:
    """Note that a device was marked unhealthy; the two lines about one device count once."""
    if xid is None and device and device in draft.seen:
        return
    draft.marks += 1
    if len(draft.unhealthy) < KEPT:
        draft.seen.add(device)
        draft.unhealthy.append(Unhealthy(device, xid, draft.here()))
