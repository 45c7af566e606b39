"""Strict YAML: what a person wrote is what a program reads, and every complaint names the line.

PyYAML's safe loader underneath, with the parts of YAML 1.1 that surprise people taken out:

- only `true` and `false` are booleans (`on`, `off`, `yes` and `no` stay text);
- a number keeps the text it was written as (`Int`, `Float`), so that `kubernetes: 1.30` can be refused where text is
  wanted instead of becoming 1.3; numbers that YAML readers read differently (`012`, `0x1F`, `1_000`, `1:30`,
  `1e3`) are mistakes;
- dates stay text; tags (`!!python/...`), merge keys (`<<`) and a second document are mistakes;
- a key must be text and may be written once.

A file is read within limits of size, depth and expanded size, so that a hostile file costs little.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leptonami.errors import InputError

if TYPE_CHECKING:
    import yaml

__all__ = [
    "Document",
    "FileError",
    "Float",
    "Int",
    "Location",
    "Problem",
    "dotted",
    "parse",
    "quoted",
    "read",
    "refuse",
]

Location = tuple[str | int, ...]

# No plan comes near these; a file that passes them is a mistake or an attack. The time is bounded by the size
# (PyYAML reads about 100 KiB/s), the memory by the nodes that aliases expand to.
MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_NODES = 20_000

INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|[-+]?\.[0-9]+")
# What a YAML 1.1 reader takes for a number and a YAML 1.2 reader for text, or for another number: 012 (octal or not),
# 0b1, 0x1F, 0o17, 1_000, 1:30 (base sixty), 1e3 (which may be half of a commit's id), .inf and .nan.
DOUBTFUL = re.compile(
    r"[-+]?(?:0[0-9_]+(?:\.[0-9]*)?|0b[01_]+|0x[0-9a-fA-F_]+|0o[0-7_]+|[0-9][0-9_]*_[0-9_]*(?:\.[0-9_]*)?"
    r"|[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?|(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9_]+)[eE][-+]?[0-9]+|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))"
)


class Int(int):
    """A whole number that knows how it was written."""

    source: str

    def __new__(cls, value: int, source: str) -> Int:
        """Keep the value and the text."""
        self = super().__new__(cls, value)
        self.source = source
        return self


class Float(float):
    """A number with a fraction that knows how it was written: `1.30` is not `1.3` when it is a version."""

    source: str

    def __new__(cls, value: float, source: str) -> Float:
        """Keep the value and the text."""
        self = super().__new__(cls, value)
        self.source = source
        return self


@dataclass(frozen=True)
class Problem:
    """One mistake in a file.

    Attributes
    ----------
    location
        The way to it from the top of the file; empty for the file as a whole.
    where
        `file:line`.
    message, hint
        What is wrong, and the way out.
    """

    location: Location
    where: str
    message: str
    hint: str | None = None

    def __post_init__(self) -> None:
        # What a file says ends up on a terminal: nothing in it may move the cursor, and no value may fill the screen.
        object.__setattr__(self, "message", printable(self.message, 400))
        object.__setattr__(self, "hint", printable(self.hint, 600) if self.hint else self.hint)

    @property
    def resource(self) -> str:
        """The place for a reader: `file:line path.in.the[0].file`."""
        return f"{self.where} {dotted(self.location)}" if self.location else self.where

    def __str__(self) -> str:
        text = f"{self.resource}: {self.message}"
        return f"{text}\n      {self.hint}" if self.hint else text


class FileError(InputError):
    """A file has one or several mistakes; all that were found are in `problems`."""

    def __init__(self, problems: Sequence[Problem], *, what: str = "file") -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        if len(self.problems) == 1:
            super().__init__(first.message, resource=first.resource, hint=first.hint)
            return
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(
            f"{len(self.problems)} mistakes in the {what}:\n{lines}",
            resource=first.where.rpartition(":")[0] or first.where,
        )

    def as_dict(self) -> dict[str, Any]:
        """Give the error as plain data, with every mistake on its own."""
        return {
            **super().as_dict(),
            "error": "InputError",
            "problems": [
                {
                    "where": problem.where,
                    "path": dotted(problem.location),
                    "message": problem.message,
                    "hint": problem.hint,
                }
                for problem in self.problems
            ],
        }


def dotted(location: Iterable[str | int]) -> str:
    """Write a location as people do.

    >>> dotted(("steps", 2, "nvidia-driver", "branch"))
    'steps[2].nvidia-driver.branch'
    """
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            word = printable(part, 80)
            text += f".{word}" if text else word
    return text


def printable(text: str, limit: int) -> str:
    r"""Give a text without control characters and not longer than a limit.

    >>> printable("a\x1b[31mb", 80)
    'a\\x1b[31mb'
    """
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def quoted(value: object) -> str:
    """Write a value as quoted YAML, from the text it was written as where that is known.

    >>> quoted(Float(1.3, "1.30"))
    '"1.30"'
    """
    text = str(getattr(value, "source", value))
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclass
class Document:
    """A file's content, and where each part of it stands.

    Attributes
    ----------
    data
        Mappings, lists, text, `Int`, `Float`, booleans and None.
    lines
        The line (from 1) of every value, by its location. A mapping's entry has the line of its key.
    problems
        What was wrong with it as YAML; the rest could be read all the same.
    """

    name: str
    data: Any = None
    lines: dict[Location, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def where(self, location: Location = ()) -> str:
        """Give `file:line` of a location, or of the nearest part of the file that contains it."""
        for end in range(len(location), -1, -1):
            if line := self.lines.get(location[:end]):
                return f"{self.name}:{line}"
        return f"{self.name}:1"

    def problem(self, location: Location, message: str, hint: str | None = None) -> Problem:
        """Make a problem of this file."""
        return Problem(location, self.where(location), message, hint)


def refuse(problems: Sequence[Problem], *, what: str = "file") -> None:
    """Raise what was found, one message a place, in the order of the file.

    Raises
    ------
    FileError
        If there is any problem.
    """
    first: dict[tuple[str, Location], Problem] = {}
    files: dict[str, int] = {}
    for problem in problems:
        first.setdefault((problem.where, problem.location), problem)
        files.setdefault(split_where(problem.where)[0], len(files))

    def place(problem: Problem) -> tuple[int, int]:
        name, line = split_where(problem.where)
        return files[name], line

    if first:
        raise FileError(sorted(first.values(), key=place), what=what)


def split_where(where: str) -> tuple[str, int]:
    """Take `file:line` apart."""
    name, _, line = where.rpartition(":")
    return (name, int(line)) if line.isdigit() else (where, 0)


def read(path: Path | str, *, what: str = "file") -> Document:
    """Read a file.

    Parameters
    ----------
    path
        The file.
    what
        What it is to the reader, for messages: `plan`, `image list`.

    Raises
    ------
    InputError
        If there is no such file, or it cannot be read, or is no YAML. Mistakes inside an otherwise readable file are
        left in `Document.problems`.
    """
    path = Path(path)
    name = str(path)
    try:
        if path.is_dir():
            raise InputError(f"this is a directory, not a {what}", resource=name, hint=f"name the {what}'s file in it")
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        from leptonami.sources import nearby

        raise InputError(f"there is no such {what}", resource=name, hint=nearby(path, {".yaml", ".yml"})) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"the {what} cannot be read: {reason}", resource=name) from error
    if len(raw) > MAX_BYTES:
        raise InputError(f"the {what} is larger than {MAX_BYTES // 1024} KiB", resource=name)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"the {what} is not UTF-8 (byte 0x{raw[error.start]:02x})",
            resource=f"{name}:{line}",
            hint="save it as UTF-8 text",
        ) from error
    return parse(text, name=name, what=what)


def parse(text: str, *, name: str = "<text>", what: str = "file") -> Document:
    """Read text as strict YAML.

    Raises
    ------
    InputError
        If it is not YAML, is empty, or is beyond the limits.
    """
    import yaml

    document = Document(name)
    try:
        try:
            root = compose(text, document, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except yaml.YAMLError:
            # libyaml takes a tenth of the time. PyYAML's own parser says better what is wrong.
            root = compose(text, document, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        detail = " ".join(part for part in (error.context, error.problem) if part)
        raise InputError(
            f"not YAML: {detail}", resource=f"{name}:{mark.line + 1 if mark else 1}", hint=advice(detail)
        ) from error
    except yaml.YAMLError as error:
        line = text.count("\n", 0, getattr(error, "position", 0) or 0) + 1
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"not YAML: {reason}", resource=f"{name}:{line}") from error
    if root is None:
        raise InputError(f"the {what} is empty", resource=name)
    budget = [MAX_NODES]
    document.data = construct(root, (), document, budget)
    return document


def advice(detail: str) -> str | None:
    """Give the usual reason for a complaint of the YAML parser."""
    if "\\t" in detail or "tab" in detail:
        return "indent with spaces: YAML takes no tabs"
    if "mapping values are not allowed" in detail:
        return "text with `: ` in it needs quotes, and keys of one level need the same indentation"
    if "%" in detail or "@" in detail or "`" in detail:
        return "text that begins with % @ or ` needs quotes"
    return None


def compose(text: str, document: Document, parser: type[Any]) -> yaml.Node | None:
    """Read text with one of PyYAML's loaders as nodes, within the limits."""
    check_events(text, document, parser)

    class Loader(parser):  # type: ignore[misc]
        """Takes every plain value for text: what it is gets decided in `scalar`."""

        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the name and the type are PyYAML's

    loader = Loader(text)
    try:
        root: yaml.Node | None = loader.get_single_node()
        return root
    finally:
        loader.dispose()


def check_events(text: str, document: Document, parser: type[Any]) -> None:
    """Go through the file as events, without building anything, and stop at whatever is beyond the limits."""
    import yaml

    depth = nodes = documents = 0
    for event in yaml.parse(text, Loader=parser):
        mark = event.start_mark
        line = mark.line + 1 if mark else 1
        where = f"{document.name}:{line}"
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise InputError("there is a second YAML document here", resource=where, hint="one file, one document")
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if isinstance(event, yaml.NodeEvent):
            nodes += 1
        if depth > MAX_DEPTH:
            raise InputError(f"nested deeper than {MAX_DEPTH} levels", resource=where)
        if nodes > MAX_NODES:
            raise InputError(f"more than {MAX_NODES} values", resource=where)
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            raise InputError(f"tags are not used here: {printable(tag, 80)}", resource=where, hint="leave the tag out")


def construct(node: yaml.Node, location: Location, document: Document, budget: list[int]) -> Any:
    """Build a node's value and remember where it stands."""
    import yaml

    document.lines.setdefault(location, node.start_mark.line + 1)
    budget[0] -= 1
    # Aliases are expanded here, so a file of one line can become millions of values ("billion laughs"), or never end.
    if budget[0] < 0 or len(location) > MAX_DEPTH:
        raise InputError(
            f"its aliases expand to more than {MAX_NODES} values or {MAX_DEPTH} levels",
            resource=document.where(location),
            hint="write the values out, without anchors (&) and aliases (*)",
        )
    if isinstance(node, yaml.SequenceNode):
        return [construct(each, (*location, index), document, budget) for index, each in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        return mapping(node, location, document, budget)
    assert isinstance(node, yaml.ScalarNode)  # noqa: S101 - PyYAML has three kinds of node
    return scalar(node, location, document)


def mapping(node: yaml.MappingNode, location: Location, document: Document, budget: list[int]) -> dict[str, Any]:
    """Build a mapping: keys are text, each written once."""
    import yaml

    result: dict[str, Any] = {}
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        where = f"{document.name}:{line}"
        if not isinstance(key_node, yaml.ScalarNode):
            document.problems.append(Problem(location, where, "a key must be text, not a list or a mapping"))
            continue
        key = key_node.value
        place = (*location, key)
        if not key_node.style and (key == "<<" or not is_text(key)):
            hint = "write the values out" if key == "<<" else f"write it as {quoted(key)}"
            what = "merge keys (<<) are not used here" if key == "<<" else f"a key must be text: {key or 'nothing'}"
            document.problems.append(Problem(place, where, what, hint))
            continue
        if key in seen:
            document.problems.append(
                Problem(
                    place, where, f"{key!r} is already on line {seen[key]}", "a key may stand once: remove one of them"
                )
            )
            continue
        seen[key] = line
        document.lines[place] = line
        result[key] = construct(value_node, place, document, budget)
    return result


def is_text(plain: str) -> bool:
    """Tell whether a plain (unquoted) scalar is text and nothing else."""
    if plain in {"", "~", "null", "true", "false"}:
        return False
    return not (FLOAT.fullmatch(plain) or DOUBTFUL.fullmatch(plain))


def scalar(node: yaml.ScalarNode, location: Location, document: Document) -> Any:
    """Decide what a single value is."""
    text = str(node.value)
    constants: Mapping[str, bool | None] = {"": None, "~": None, "null": None, "true": True, "false": False}
    if node.style or (is_text(text) and text not in constants):
        return text
    if text in constants:
        return constants[text]
    if DOUBTFUL.fullmatch(text):
        document.problems.append(
            document.problem(
                location,
                f"{text} is a number to some YAML readers and not to others",
                f"text needs quotes: {quoted(text)}; a number has no leading zero, underscore, colon or prefix",
            )
        )
        return text
    # Python refuses to convert endless digits; such a number is no number of ours either.
    if len(text) > 40:
        document.problems.append(
            document.problem(location, "a number with more than 40 characters", "text needs quotes")
        )
        return text
    return Int(int(text), text) if INT.fullmatch(text) else Float(float(text), text)
