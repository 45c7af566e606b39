"""What containers do: looked up by image or annotation, told to the kubelet step by step.

A `Behaviour` is asked when a container starts, and again whenever its step is over. So a container's whole life is a
row of steps: `Step(seconds=40, ready=False, log=("loading",))`, then `Step()` (runs until it is stopped), or
`exited(1)`. Behaviours keep what they need in `life.memory` (this run of the container) and `life.node.memory`
(the node's /run: gone when the node is).
"""

from __future__ import annotations

import random
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol

from leptonami.lab.fleet.cluster import Object

__all__ = ["ANNOTATION", "Behaviour", "Behaviours", "Life", "NodeFacts", "Step", "exited"]

ANNOTATION = "lab.leptonami.dev/behaviour"  # of a pod: the name of the behaviour of all its containers
LAB_IMAGE = "lab/"  # an image that only the lab has: its Jobs are done at once


@dataclass(frozen=True, slots=True)
class Step:
    """What a container does next.

    Attributes
    ----------
    state
        `running` or `terminated`.
    seconds
        For how long (simulated); then the behaviour is asked again. None: until the container is stopped.
    ready
        Whether it is ready, as far as it is up to the container; a readiness probe's delay comes on top.
    log
        Lines that it writes at the beginning of the step.
    reason, message, exit_code
        Of its end. By default `Completed` or `Error`, as the runtime reports them.
    """

    state: str = "running"
    seconds: float | None = None
    ready: bool = True
    log: tuple[str, ...] = ()
    exit_code: int = 0
    reason: str = ""
    message: str = ""


def exited(code: int, *log: str, reason: str = "", message: str = "") -> Step:
    """Give the step that ends a container."""
    return Step("terminated", 0, False, log, code, reason or ("Error" if code else "Completed"), message)


@dataclass
class NodeFacts:
    """A node as its kubelet knows it.

    Attributes
    ----------
    name, group
        The Node's name; its node group ("" if none).
    root
        What the node root says (`images.Root`), with `root.driver`, `root.glibc` and so on.
    object
        The Node as it is in the cluster now: labels, allocatable, conditions.
    faults
        The names of the faults that its node group has, with their data.
    memory
        What lasts as long as the node does: the barrier files of /run, say.
    rng
        The node's luck: seeded, the same for the same instance.
    """

    name: str
    group: str
    root: Any
    object: Callable[[], Object | None]
    faults: Callable[[], Mapping[str, Mapping[str, Any]]]
    rng: random.Random
    memory: dict[str, Any] = field(default_factory=dict)


@dataclass
class Life:
    """One run of a container.

    Attributes
    ----------
    pod
        The pod as it is in the cluster now.
    container
        Its container in the pod's spec.
    attempt
        How often it was restarted before.
    started
        When this run began, in simulated seconds.
    steps
        How many steps it had so far.
    memory
        What lasts as long as this run.
    """

    pod: Object
    container: Object
    node: NodeFacts
    attempt: int
    started: float
    steps: int = 0
    memory: dict[str, Any] = field(default_factory=dict)


class Behaviour(Protocol):
    """What a container does."""

    def outcome(self, life: Life, now: float) -> Step:
        """Give the next step."""


class Hook(Protocol):
    """What a node says to a pod before its containers run: "" if nothing is wrong."""

    def __call__(self, pod: Object, node: NodeFacts) -> str:
        """Give the message."""


@dataclass
class Behaviours:
    """Which behaviour a container has.

    Attributes
    ----------
    admission
        Asked once, when a pod comes to a node: a message refuses it for good (`UnexpectedAdmissionError`).
    sandbox
        Asked before the sandbox is made: a message is `FailedCreatePodSandBox`, and it is tried again.
    pull
        Asked for an image and a node before a pull: a message fails it (`ErrImagePull`), and it is tried again.
    """

    admission: list[Hook] = field(default_factory=list)
    sandbox: list[Hook] = field(default_factory=list)
    pull: list[Callable[[str, NodeFacts], str]] = field(default_factory=list)
    _images: list[tuple[str, Behaviour]] = field(default_factory=list)
    _named: dict[str, Behaviour] = field(default_factory=dict)

    def register(self, behaviour: Behaviour, *, image: str = "", name: str = "") -> None:
        """Add one for images (a shell pattern, such as `*/k8s-device-plugin:*`) or for a name in the annotation.

        The first pattern that fits counts.
        """
        if image:
            self._images.append((image, behaviour))
        if name:
            self._named[name] = behaviour

    def find(self, pod: Object, container: Object) -> Behaviour:
        """Give the behaviour of a container."""
        name = (pod["metadata"].get("annotations") or {}).get(ANNOTATION)
        if name in self._named:
            return self._named[name]
        image = container.get("image", "")
        return next((each for pattern, each in self._images if fnmatchcase(image, pattern)), DEFAULT)


class Plain:
    """What any container does: what its command says if that is one of a few, else it runs until it is stopped.

    `true`, `false`, `sleep N`, `exit N` and `echo ...`, also in a row by `;` or `&&` within `sh -c`.
    """

    def outcome(self, life: Life, now: float) -> Step:  # noqa: ARG002 - as any behaviour
        """Give the next step."""
        todo = life.memory.setdefault("todo", commands(life.container))
        if not todo:
            return exited(0) if life.steps > 0 or to_be_done(life) else Step()
        words = todo.pop(0)
        match words:
            case ["sleep", "infinity"]:
                return Step()
            case ["sleep", seconds]:
                return Step(seconds=float(seconds))
            case ["echo", *said]:
                return Step(seconds=0, log=(" ".join(said),))
            case ["true"]:
                return Step(seconds=0)
        return exited(1 if words == ["false"] else int(words[1]))


def to_be_done(life: Life) -> bool:
    """Tell whether a container that says nothing of itself is done at once.

    An init container is, or no pod would ever start; and what a Job runs of an image that only the lab has.
    """
    spec, name = life.pod["spec"], life.container["name"]
    if any(each["name"] == name and each.get("restartPolicy") != "Always" for each in spec.get("initContainers") or ()):
        return True
    return spec.get("restartPolicy") in {"Never", "OnFailure"} and life.container["image"].startswith(LAB_IMAGE)


def commands(container: Object) -> list[list[str]]:
    """Read a container's command as a row of commands that are known here; nothing if one of them is not."""
    words = [str(each) for each in (container.get("command") or []) + (container.get("args") or [])]
    if len(words) == 3 and words[0].rsplit("/", 1)[-1] in {"sh", "bash"} and words[1] in {"-c", "-ec"}:
        try:
            lexer = shlex.shlex(words[2], posix=True, punctuation_chars=";&|")
            lexer.whitespace_split = True
            words = list(lexer)
        except ValueError:
            return []
    row: list[list[str]] = [[]]
    for word in words:
        if word in {";", "&&"}:
            row.append([])
        else:
            row[-1].append(word)
    row = [[each[0].rsplit("/", 1)[-1], *each[1:]] for each in row if each]
    return row if row and all(known(each) for each in row) else []


def known(words: list[str]) -> bool:
    """Tell whether a command is one of those that `Plain` does."""
    match words:
        case ["true"] | ["false"] | ["echo", *_] | ["sleep", "infinity"]:
            return True
        case ["sleep", number] | ["exit", number]:
            return number.isascii() and number.replace(".", "", words[0] == "sleep").isdecimal()
    return False


DEFAULT: Behaviour = Plain()
