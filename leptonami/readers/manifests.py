"""Kubernetes objects as text, read into plain dicts: JSON or YAML, one object, a List, or several documents.

Takes what `kubectl get -o json|yaml` prints and what people make of it: concatenated JSON, a shell prompt in front, a
Markdown fence around, a file that was cut off (what is whole before the cut is kept, and the cut is told). YAML is read
from libyaml's events and not by a loader: tags make nothing, numbers and times keep to what JSON would have made of
them, and aliases (kubectl writes none, other tools do) are counted as if written out, so that none grows to gigabytes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from leptonami.errors import InputError

__all__ = ["LARGEST", "Manifests", "decode", "looks_like_objects", "read_manifests"]

LARGEST = 256 * 1024 * 1024  # bytes of one document; 5,000 pods are about 60 MB of JSON
DEEPEST = 100  # levels of YAML; the deepest schema of Kubernetes (a CRD's OpenAPI) is read by nobody here
MOST_VALUES = 20_000_000  # of YAML with its aliases written out: 256 MiB without any have fewer
MOST_OBJECTS = 2_000_000
FENCE = re.compile(r"(?:```|~~~)[A-Za-z]{0,12}[ \t]*")
PROMPT = re.compile(
    r"(?:[^\s{}\"'][^{}\"']{0,120})?(?:[$%>]|(?<=\S)#)[ \t]{1,4}(?:sudo[ \t]{1,4})?(?:kubectl|oc)[ \t].*"
)
WARNING = re.compile(r"(?:Warning: |W[0-9]{4} |I[0-9]{4} |E[0-9]{4} |error: |Defaulted container )")
ITEMS = re.compile(r'"items"\s{0,20}:\s{0,20}\[')
JSON_OBJECT = re.compile(r'"(?:apiVersion|items|metadata)"\s{0,20}:')
YAML_OBJECT = re.compile(r"^(?:- )?(?:apiVersion|kind|items|metadata):", re.MULTILINE)
INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,38})", re.ASCII)
FLOAT = re.compile(r"[-+]?(?:[0-9]{1,20}\.[0-9]{0,20}|\.[0-9]{1,20}|[0-9]{1,20})(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)
CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(frozen=True, slots=True)
class Manifests:
    """The objects of one document.

    Parameters
    ----------
    items
        Every object, Lists taken apart, each a dict with `kind` (from the List if it has none itself, else "").
    problems
        What could not be read, a sentence each with its line.
    """

    items: tuple[dict[str, Any], ...]
    problems: tuple[str, ...] = ()


def decode(data: bytes | str) -> str:
    """Make text of bytes: UTF-8, or UTF-16 with its mark, which PowerShell writes; what is neither is replaced."""
    if isinstance(data, str):
        return data.removeprefix("\ufeff")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    return data.decode("utf-8-sig", errors="replace")


def looks_like_objects(text: str) -> bool:
    """Tell whether a text may be objects (JSON or YAML) and not a table or a log, by its first 4,000 characters."""
    start = strip_wrapping(text[:4000]).lstrip()
    if start.startswith(("{", "[")):
        return JSON_OBJECT.search(start) is not None
    return YAML_OBJECT.search(start) is not None


def strip_wrapping(text: str) -> str:
    """Blank the lines that are not the objects': prompts, fences, kubectl's warnings. Line numbers stay."""
    lines = text.split("\n")
    kept: list[str] = []
    inside = False
    for line in lines:
        short = line[:400].rstrip("\r")
        prompt = ("kubectl" in short or "oc " in short) and PROMPT.fullmatch(short)
        if prompt or FENCE.fullmatch(short) or (not inside and WARNING.match(short)):
            kept.append("---" if prompt and inside else "")  # behind a prompt another document begins
            continue
        inside = inside or bool(short.strip())
        kept.append(line)
    return "\n".join(kept)


def read_manifests(data: bytes | str, source: str) -> Manifests:
    """Read every object of a document.

    Parameters
    ----------
    data
        The document.
    source
        Its name, for messages.

    Raises
    ------
    InputError
        If there is no object in it: it is neither JSON nor YAML, is too large or nested too deeply, also by aliases.
    """
    if len(data) > LARGEST:
        raise InputError(
            f"more than {LARGEST // 1024**2} MiB", resource=source, hint="give it in parts, by kind or namespace"
        )
    text = decode(data)
    stripped = text.lstrip()
    if stripped[:1] not in ("{", "["):
        text = strip_wrapping(text)
        stripped = text.lstrip()
    roots, problems = read_json(text, source) if stripped[:1] in ("{", "[") else read_yaml(text, source)
    items: list[dict[str, Any]] = []
    for root in roots:
        take(root, items, problems, source)
    if not items:
        reason = problems[0] if problems else "there is no Kubernetes object in it"
        raise InputError(reason, resource=source, hint="give what `kubectl get ... -o json` or `-o yaml` prints")
    return Manifests(tuple(items), tuple(problems))


def take(root: Any, items: list[dict[str, Any]], problems: list[str], source: str) -> None:
    """Take a List (or a plain list of objects) apart, one level after another, without recursion."""
    queue: list[tuple[Any, str]] = [(root, "")]
    position = strays = 0
    while position < len(queue):
        if len(queue) > MOST_OBJECTS:
            raise InputError(f"more than {MOST_OBJECTS} objects", resource=source, hint="give it in parts")
        value, kind = queue[position]
        position += 1
        if isinstance(value, list):
            queue.extend((each, kind) for each in value)
        elif not isinstance(value, dict):
            strays += value is not None
        else:
            written = value.get("kind")
            own = written if isinstance(written, str) else ""
            inner = value.get("items")
            if isinstance(inner, list) and (own.endswith("List") or not own):
                queue.extend((each, own.removesuffix("List")) for each in inner)
            elif own or kind or isinstance(value.get("metadata"), dict):
                items.append(value if own else {**value, "kind": kind})
            else:
                strays += 1
    if strays:
        problems.append(f"{strays} value(s) in it are no Kubernetes objects")


def read_json(text: str, source: str) -> tuple[list[Any], list[str]]:
    """Read one JSON document or several, one behind the other."""
    decoder = json.JSONDecoder(parse_constant=lambda _: None)
    roots: list[Any] = []
    problems: list[str] = []
    position = 0
    while True:
        position = next_document(text, position)
        if position >= len(text):
            return roots, problems
        try:
            root, position = decoder.raw_decode(text, position)
        except RecursionError:
            raise InputError("nested too deeply", resource=source) from None
        except ValueError as error:
            found = salvage(text, position, decoder)
            line = text.count("\n", 0, getattr(error, "pos", position)) + 1
            detail = str(getattr(error, "msg", "a number without end"))
            problems.append(f"not JSON from line {line} on ({detail}): {len(found)} object(s) before it were read")
            return [*roots, *found], problems
        roots.append(root)


def next_document(text: str, position: int) -> int:
    """Find where the next JSON document begins: at the next line that begins with a bracket."""
    match = re.compile(r"\s*").match(text, position)
    position = match.end() if match else position
    while position < len(text) and text[position] not in "{[":
        end = text.find("\n", position)
        if end < 0:
            return len(text)
        match = re.compile(r"\s*").match(text, end)
        position = match.end() if match else end + 1
    return position


def salvage(text: str, position: int, decoder: json.JSONDecoder) -> list[Any]:
    """Read the whole objects of a List that was cut off."""
    match = ITEMS.search(text, position)
    found: list[Any] = []
    position = match.end() if match else len(text)
    while position < len(text):
        while position < len(text) and text[position] in " \t\r\n,":
            position += 1
        if position >= len(text) or text[position] != "{":
            break
        try:
            each, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            break
        found.append(each)
    return found


@dataclass(slots=True)
class Frame:
    """A YAML collection that is being read: its value, the key that waits for a value, its name and its measures."""

    container: Any
    anchor: str | None
    key: list[str | None]
    size: int = 1
    height: int = 1


def read_yaml(text: str, source: str) -> tuple[list[Any], list[str]]:
    """Read one YAML document or several. What stands before a mistake is kept."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    top = Frame([], None, [])
    stack = [top]
    anchors: dict[str, tuple[Any, int, int]] = {}
    problems: list[str] = []
    try:
        for event in yaml.parse(printable(text), Loader=loader):
            if isinstance(event, yaml.ScalarEvent):
                value = scalar(event.value, plain=event.implicit[0])
                put(stack[-1], value, event.value)
                if event.anchor:
                    anchors[event.anchor] = (value, 1, 1)
            elif isinstance(event, yaml.CollectionStartEvent):
                container: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
                put(stack[-1], container, None)
                stack.append(Frame(container, event.anchor, []))
            elif isinstance(event, yaml.CollectionEndEvent):
                done = stack.pop()
                if done.anchor:
                    anchors[done.anchor] = (done.container, done.size, done.height)
                grow(stack[-1], done.size, done.height)
            elif isinstance(event, yaml.AliasEvent):
                # The value is shared, not copied; what counts is what it would be for whoever goes through it.
                if event.anchor not in anchors:
                    raise InputError("an alias stands inside of what it names", resource=where(source, event))
                value, size, height = anchors[event.anchor]
                put(stack[-1], value, value if isinstance(value, str) else None)
                grow(stack[-1], size, height)
            elif isinstance(event, yaml.DocumentStartEvent):
                anchors.clear()
            if stack[-1].size > MOST_VALUES:
                raise InputError(f"its aliases expand to more than {MOST_VALUES} values", resource=where(source, event))
            if len(stack) + stack[-1].height > DEEPEST:
                raise InputError(f"nested deeper than {DEEPEST} levels", resource=where(source, event))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        detail = str(getattr(error, "problem", None) or "cannot be parsed")[:120]
        line = mark.line + 1 if mark else 1
        problems.append(f"not YAML from line {line} on ({detail}); what stands before it was read")
    return top.container, problems


def where(source: str, event: Any) -> str:
    """Name the line of an event."""
    return f"{source}:{event.start_mark.line + 1}"


def grow(frame: Frame, size: int, height: int) -> None:
    """Count what was put into a collection."""
    frame.size += size
    frame.height = max(frame.height, height + 1)


def printable(text: str) -> str:
    """Replace the control characters that YAML refuses: an escape in one annotation must not hide a whole cluster."""
    return re.sub(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


def put(frame: Frame, value: Any, written: str | None) -> None:
    """Put a value into the collection that is being read.

    A key is the text that was written (None for a key that is a collection, which is dropped with its value).
    """
    if isinstance(frame.container, list):
        frame.container.append(value)
    elif not frame.key:
        frame.key.append(written)
    else:
        key = frame.key.pop()
        if key is not None:
            frame.container[key] = value


def scalar(value: str, *, plain: bool) -> Any:
    """Tell what a YAML scalar is, as JSON would have it: text, number, boolean or null; a time stays text."""
    if not plain:
        return value
    if value in CONSTANTS:
        return CONSTANTS[value]
    if INT.fullmatch(value):
        return int(value)
    return float(value) if FLOAT.fullmatch(value) else value
