"""What all stand-ins share: their state in the node root, the machine, faults, options."""

# pathlib would cost 5 ms at every call.
# ruff: noqa: PTH103, PTH105, PTH120, PTH123, PTH211

from __future__ import annotations

import json
import os
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STATE = "/lab/state"
# The fingerprint of the key with which NVIDIA signs its repository, as its installation guide gives it.
NVIDIA_KEY = "C95B321B61E88C1809C4F759DDCAE044F796ECB0"
SOCKET = "/run/containerd/containerd.sock"


class Refused(Exception):
    """The stand-in does not do what it was asked for."""


class Failed(Exception):
    """The real program would fail here: its message and its status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def load(path: str, default: Any = None) -> Any:
    """Read a JSON file."""
    try:
        with open(path) as file:
            return json.load(file)
    except FileNotFoundError:
        return default


def save(path: str, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    draft = f"{path}.{os.getpid()}"
    with open(draft, "w") as file:
        json.dump(value, file, indent=1, sort_keys=True)
    os.replace(draft, path)


def machine() -> dict[str, Any]:
    """Give what the machine is."""
    found: dict[str, Any] = load("/lab/machine.json")
    return found


def fault(name: str, default: Any = None) -> Any:
    """Give a fault that a test switched on."""
    return load("/lab/faults.json", {}).get(name, default)


def spend(name: str, count: int) -> bool:
    """Tell whether a fault that holds `count` times (-1: always) strikes now, and count it."""
    if count < 0:
        return True
    path = f"{STATE}/spent.json"
    spent = load(path, {})
    if spent.get(name, 0) >= count:
        return False
    spent[name] = spent.get(name, 0) + 1
    save(path, spent)
    return True


def read(path: str) -> str:
    """Give a file's text, nothing if it is not there."""
    try:
        with open(path) as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def write(path: str, text: str) -> None:
    """Write a file, making its folder."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


def out(*lines: str) -> None:
    """Print lines."""
    for line in lines:
        sys.stdout.write(line + "\n")


def flags(arguments: list[str], valued: str, plain: str) -> tuple[dict[str, list[str]], list[str]]:
    """Take options apart: those with a value, those without; an unknown one is refused. Gives options and the rest."""
    takes, bare = set(valued.split()), set(plain.split())
    found: dict[str, list[str]] = {}
    rest: list[str] = []
    queue = list(arguments)
    while queue:
        word = queue.pop(0)
        name, equals, value = word.partition("=")
        if word == "--":
            rest += queue
            break
        if word.startswith("--") and equals and name in takes:
            found.setdefault(name, []).append(value)
        elif word in takes:
            if not queue:
                raise Refused
            found.setdefault(word, []).append(queue.pop(0))
        elif word in bare:
            found.setdefault(word, []).append("")
        elif re.fullmatch(r"-[A-Za-z]{2,}", word):
            # -fsS, or -Pk: single letters together; one with a value must come last.
            queue = ["-" + letter for letter in word[1:]] + queue
        elif word.startswith("-") and word != "-":
            raise Refused
        else:
            rest.append(word)
    return found, rest


PACKAGES = f"{STATE}/packages.json"


def packages() -> dict[str, Any]:
    """Installed packages and holds."""
    found: dict[str, Any] = load(PACKAGES, {"installed": {}, "held": []})
    return found


def version_key(version: str) -> list[Any]:
    """Order versions much as dpkg does: numbers as numbers, ~ before everything."""
    return [
        (2, int(part), "") if part.isdigit() else (0, 0, part) if part == "~" else (1, 0, part)
        for part in re.findall(r"\d+|~|[^\d~]+", version)
    ]


def escaped(text: str) -> str:
    """Resolve the escapes of a format."""
    return text.replace("\\n", "\n").replace("\\t", "\t")


def link(tool: str) -> None:
    """Put a stand-in on the machine."""
    if not os.path.lexists(f"/lab/bin/{tool}"):
        os.symlink("/lab/tool", f"/lab/bin/{tool}")


def module_path(kernel: str) -> str:
    """Give where a kernel's nvidia module is."""
    return f"/lib/modules/{kernel}/kernel/drivers/video/nvidia/nvidia.ko"
