"""What a GPU operator's state says: a listing, objects, a must-gather, a device plugin's log, or a live cluster."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from leptonami.documents import Bundle, load_bundle
from leptonami.errors import InputError
from leptonami.explain.given import written
from leptonami.explain.known import recorded
from leptonami.explain.recognise import HEAD, What, command_for, recognise
from leptonami.proof import Proof, excerpt
from leptonami.readers.autoscaler.status import read_status
from leptonami.readers.deviceplugin import DevicePluginLog, PluginState
from leptonami.readers.gpuoperands import Link
from leptonami.readers.gpuoperator import OperatorState, Version, operator_state
from leptonami.readers.mustgather import Evidence, read_evidence
from leptonami.readers.objects import Node
from leptonami.recordings import Recording
from leptonami.target import Provenance
from leptonami.verdicts import gpustack
from leptonami.verdicts.driverimage import ID_LABEL, VERSION_LABEL, DriverImage, predict_driver_image
from leptonami.verdicts.gpustack import StackVerdict

__all__ = ["Driver", "StackExplanation", "explain", "explain_bundle", "labels_of_os", "predict"]

# How the OS of a node is named by /etc/os-release, which node feature discovery makes its labels of, from how kubelet
# names it (its PRETTY_NAME).
SYSTEMS = (
    (re.compile(r"Amazon Linux 2$"), "amzn", "2"),
    (re.compile(r"Amazon Linux (20\d\d)"), "amzn", ""),
    (re.compile(r"Ubuntu (\d\d\.\d\d)"), "ubuntu", ""),
    (re.compile(r"Bottlerocket OS (\d{1,4}\.\d{1,4}\.\d{1,4})"), "bottlerocket", ""),
    (re.compile(r"Red Hat Enterprise Linux (\d{1,2}\.\d{1,2})"), "rhel", ""),
    (re.compile(r"Red Hat Enterprise Linux CoreOS (4\d{1,3}\.\d{1,3})"), "rhcos", ""),
    (re.compile(r"Rocky Linux (\d{1,2}\.\d{1,2})"), "rocky", ""),
    (re.compile(r"Debian GNU/Linux (\d{1,2})"), "debian", ""),
)
OS = re.compile(r"([a-z]{2,30})[-_ ]?([0-9]{1,4}(?:\.[0-9]{1,3}){0,2})")


@dataclass(frozen=True, slots=True)
class Driver:
    """The driver that the operator is to install, for predicting its image.

    Parameters
    ----------
    version, repository, image
        `driver.version`, `.repository` and `.image` of the ClusterPolicy or the chart.
    """

    version: str
    repository: str = "nvcr.io/nvidia"
    image: str = "driver"


@dataclass(frozen=True)
class StackExplanation:
    """What came out.

    Attributes
    ----------
    name, provenance, recording
        See `explain.autoscaler.Explanation`.
    verdict
        The verdict on the cluster.
    plugins
        The device plugins' logs among the evidence.
    images
        The driver image that the operator would ask for on each node, if that was asked.
    problems
        What could not be read.
    told
        The logs that the verdict tells of already: those of pods that are among the evidence and serve.
    alone
        Whether the logs of device plugins are all there is.
    inputs
        The name, the SHA-256 and the length of each document that was read.
    """

    name: str
    provenance: Provenance
    verdict: StackVerdict
    plugins: tuple[DevicePluginLog, ...]
    images: tuple[tuple[str, DriverImage], ...] = ()
    recording: Recording | None = None
    problems: tuple[str, ...] = ()
    told: tuple[DevicePluginLog, ...] = ()
    alone: bool = False
    inputs: tuple[tuple[str, str, int], ...] = ()

    @property
    def wrong(self) -> bool:
        """Whether there is something to mend."""
        idle = any(each.state in {PluginState.IDLE, PluginState.FAILED} for each in self.plugins)
        none = any(image.published is False for _, image in self.images)
        return self.verdict.wrong or idle or none

    def story(self) -> list[str]:
        """Tell what is broken first, on which nodes, why, and what to do."""
        told = [] if self.alone else gpustack.story(self.verdict)
        told += [sentence_of(each) for each in self.plugins if self.alone or each not in self.told]
        told += [f"{excerpt(node, 80)}: {image_words(image)}." for node, image in grouped(self.images)]
        for each in self.verdict.known:
            told.append(f"Known issue {each.issue.id}: {each.issue.title}. What to do: {each.issue.remedy}.")
        return told

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Give a row for each GPU node: its name, how it stands, its first link that is not whole, and a proof."""
        rows = []
        for each in self.verdict.nodes:
            shown = each.first or each.link(Link.ALLOCATABLE)
            why = f"{shown.why} ({place(shown.proof)})" if shown.proof else shown.why
            link = str(shown.link) if each.first else ""
            rows.append((excerpt(each.node or "(not named)", 80), str(each.state), link, why))
        return rows

    def as_dict(self) -> dict[str, Any]:
        """Give all of it as plain data, for `--json`."""
        found = {
            "source": self.name,
            "provenance": self.provenance,
            "recording": self.recording.id if self.recording else None,
            **self.verdict.as_dict(),
            "story": self.story(),
            "wrong": self.wrong,
            "problems": list(self.problems),
            "device_plugin_logs": [each.as_dict() for each in self.plugins],
            "predicted_images": [{"node": node, **image.as_dict()} for node, image in self.images],
        }
        return {key: written(value) for key, value in underscored(found).items()}


def underscored(value: Any) -> Any:
    """Write keys of several words with underscores, as all of our JSON does. No key of Kubernetes has a space."""
    if isinstance(value, dict):
        return {str(key).replace(" ", "_"): underscored(each) for key, each in value.items()}
    return [underscored(each) for each in value] if isinstance(value, list) else value


def place(proof: Proof) -> str:
    """Name a proof shortly: without the folder that was named."""
    return f"{Path(proof.source).name}, {proof.place}"


def sentence_of(log: DevicePluginLog) -> str:
    """Say what a device plugin's log says."""
    who = f"The device plugin {log.pod}" if log.pod else "The device plugin"
    where = f" ({place(log.proof)})" if log.proof else ""
    platform = f" It detected {log.platform}." if log.platform else ""
    host = {True: " The driver is the host's own.", False: " The driver is a driver container's.", None: ""}
    if log.state is PluginState.SERVING:
        resources = ", ".join(log.resources) or "its resources"
        marks = f" It marked devices unhealthy {log.unhealthy_marks} times." if log.unhealthy_marks else ""
        return f"{who} registered {resources} with the kubelet{where}.{platform}{host[log.driver_on_host]}{marks}"
    if log.state is PluginState.IDLE:
        return f"{who} found no device and waits for ever, though its pod is Running{where}.{platform}"
    if log.state is PluginState.FAILED:
        return f"{who} failed to start{where}: {excerpt(log.proof.text, 200) if log.proof else 'no reason is given'}."
    return f"{who} has not said in its log what became of it."


def image_words(image: DriverImage) -> str:
    """Say which driver image is asked for, and whether there is one."""
    exists = {True: "which exists", False: "which does not exist", None: "of which it is not known whether it exists"}
    if not image.image:
        return f"which driver image the operator would ask for cannot be told: {image.why}"
    return f"the operator would ask for {image.image}, {exists[image.published]}: {image.why}"


def grouped(images: Iterable[tuple[str, DriverImage]]) -> list[tuple[str, DriverImage]]:
    """Put nodes with the same image together."""
    nodes: dict[DriverImage, list[str]] = {}
    for node, image in images:
        nodes.setdefault(image, []).append(node)
    return [
        (names[0] if len(names) == 1 else f"{len(names)} nodes ({names[0]} and others)", image)
        for image, names in nodes.items()
    ]


# --- reading ----------------------------------------------------------------------------------------------------------


def explain(
    where: str, *, version: str | None = None, driver: Driver | None = None, now: datetime | None = None
) -> StackExplanation:
    """Explain a file, a folder, an archive or standard input (`-`).

    Parameters
    ----------
    where
        A listing, objects, a must-gather, a device plugin's log; or a folder or archive of these.
    version
        The operator's version, if the caller knows it.
    driver
        Predict the image of this driver for the nodes.
    now
        When the evidence was collected, if the caller knows.

    Raises
    ------
    InputError
        If there is nothing of a GPU operator and no node in it; the message says what it looks like.
    """
    bundle = load_bundle(where)
    found = explain_bundle(bundle, version=version, driver=driver, now=now)
    return replace(found, recording=recorded(where))


def explain_bundle(
    bundle: Bundle,
    *,
    version: str | None = None,
    driver: Driver | None = None,
    now: datetime | None = None,
    provenance: Provenance = "recorded",
) -> StackExplanation:
    """Explain documents that are in memory.

    Raises
    ------
    InputError
        As `explain`.
    """
    evidence = read_evidence(bundle.documents, root="" if bundle.name == "-" else bundle.name, notes=bundle.skipped)
    state = operator_state(evidence, now=now or taken(bundle))
    if version is not None:
        state = replace(state, version=Version(version, Proof.of("--operator-version", "option", version)))
    empty = not (state.pods or state.sets or state.nodes or state.policy or state.no_policy or state.no_nfd_label)
    if empty and not state.plugin_logs and not state.nodes_known:
        raise nothing(bundle)
    return StackExplanation(
        name=bundle.name,
        provenance=provenance,
        verdict=gpustack.judge_stack(state),
        plugins=state.plugin_logs,
        told=placed(state),
        images=tuple(predict(evidence, state, driver)) if driver else (),
        problems=state.problems,
        alone=empty and not state.nodes_known,
        inputs=tuple(
            (name, hashlib.sha256(content).hexdigest(), len(content)) for name, content in bundle.documents.items()
        ),
    )


def placed(state: OperatorState) -> tuple[DevicePluginLog, ...]:
    """Give the device plugins' logs that serve, and whose pods are among the evidence."""
    pods = {each.name for each in state.pods}
    return tuple(each for each in state.plugin_logs if each.pod in pods and each.state is PluginState.SERVING)


def taken(bundle: Bundle) -> datetime | None:
    """Find when the evidence was taken by the autoscaler's status beside it, which has the time of its last loop."""
    for name, content in bundle.documents.items():
        if recognise(content[:HEAD]) is What.AUTOSCALER_STATUS:
            try:
                return read_status(content, name).latest
            except InputError:
                continue
    return None


def nothing(bundle: Bundle) -> InputError:
    """Say that there is nothing to explain, and what it looks like."""
    kinds = [(name, recognise(content[:HEAD])) for name, content in list(bundle.documents.items())[:8]]
    if len(kinds) == 1:
        what = kinds[0][1]
        command = command_for(what, bundle.name)
        hint = "kubectl get pods -n gpu-operator -o wide is what this command reads; JSON tells more"
        if command and "gpu-operator" not in command:
            hint = f"try {command}"
        return InputError(
            f"there is nothing of a GPU operator in it; it looks like {what}", resource=bundle.name, hint=hint
        )
    shown = ", ".join(f"{name}: {what}" for name, what in kinds)
    return InputError("there is nothing of a GPU operator in it, and no node", resource=bundle.name, hint=shown)


# --- the driver image -------------------------------------------------------------------------------------------------


def labels_of_os(os: str) -> dict[str, str]:
    """Give the labels that node feature discovery would put on a node of an OS, such as `amzn2` or `ubuntu22.04`.

    Raises
    ------
    InputError
        If it is no name of an OS with its version.
    """
    found = OS.fullmatch(os.strip().lower())
    if found is None:
        hint = "as in the image's tag: amzn2, amzn2023, ubuntu22.04, rhel9.4"
        raise InputError(f"not an OS with its version: {os!r}", resource="--os", hint=hint)
    return {ID_LABEL: found[1], VERSION_LABEL: found[2]}


def labels_of(node: Node) -> Mapping[str, str]:
    """Give a node's labels; where node feature discovery has not made any, what it will make of the node's OS."""
    if node.labels.get(ID_LABEL):
        return node.labels
    for pattern, family, version in SYSTEMS:
        found = pattern.match(node.os_image)
        if found:
            return {**node.labels, ID_LABEL: family, VERSION_LABEL: version or found[1]}
    return node.labels


def predict(evidence: Evidence, state: OperatorState, driver: Driver) -> Iterable[tuple[str, DriverImage]]:
    """Predict the driver image for each GPU node, or for every node where none is known for one yet."""
    gpu = {each.name for each in state.nodes}
    for node in sorted(evidence.objects.nodes, key=lambda each: each.name):
        if not gpu or node.name in gpu:
            image = predict_driver_image(
                labels_of(node),
                driver.repository,
                driver.image,
                driver.version,
                operator=state.version.text if state.version else None,
            )
            yield node.name, image
