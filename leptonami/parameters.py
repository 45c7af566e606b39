"""The parameters of a notebook: what its one cell tagged `parameters` declares, and values of exactly those types.

The cell holds annotated assignments of literals, one a line, each with a trailing comment as its help::

    plan: str = "ubuntu-22.04-gpu"  # the plan to build
    trials: int = 10  # launches per variant

It is read with `ast`, never run. What is given for a parameter is converted to the type that the cell declares and to
no other, so an account id keeps its leading zero and a Kubernetes version its last one (papermill's own command line
turns `012345678901` into 12345678901 and `1.30` into 1.3).
"""

from __future__ import annotations

import ast
import difflib
import io
import json
import math
import re
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leptonami.errors import InputError

__all__ = ["Parameter", "Type", "coerce", "from_file", "parameters"]

TAG = "parameters"

# A parameter is written into the executed notebook twice (the injected cell and papermill's metadata) and is shown in
# the HTML, so whatever is named like one of these must not become a parameter at all.
SECRETS = re.compile(
    r"password|passwd|passphrase|secret|token|credential|api_?key|private_?key|access_?key", re.IGNORECASE
)

INT = re.compile(r"[+-]?(?:0|[1-9][0-9]*)")
FLOAT = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class Mismatch(Exception):
    """A value is not of its type; `hint` says how to write one that is."""

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.hint = hint


@dataclass(frozen=True)
class Type:
    """A type that a parameter can have.

    Attributes
    ----------
    kind
        `str`, `int`, `float`, `bool`, `list`, `dict` (with text keys) or `literal`.
    item
        The type of a list's or dict's values.
    values
        What a literal may be: all text or all whole numbers.
    optional
        Whether None is allowed too.
    """

    kind: str
    item: Type | None = None
    values: tuple[str | int, ...] = ()
    optional: bool = False

    def __str__(self) -> str:
        match self.kind:
            case "list":
                text = f"list[{self.item}]"
            case "dict":
                text = f"dict[str, {self.item}]"
            case "literal":
                text = f"Literal[{', '.join(json.dumps(value, ensure_ascii=False) for value in self.values)}]"
            case _:
                text = self.kind
        return f"{text} | None" if self.optional else text

    def from_text(self, text: str) -> object:
        """Read what somebody typed on a command line.

        Raises
        ------
        Mismatch
            If it is no such value.
        """
        if self.optional and text == "null":
            return None
        if self.kind in ("list", "dict"):
            return self._collection_from_text(text)
        return self._single_from_text(text)

    def _single_from_text(self, text: str) -> object:
        """Read one value."""
        match self.kind:
            case "str":
                return sound(text)
            case "int" if INT.fullmatch(text) and len(text) <= 40:
                return int(text)
            case "float" if FLOAT.fullmatch(text) and math.isfinite(float(text)):
                return float(text)
            case "bool" if text.lower() in BOOLEANS:
                return BOOLEANS[text.lower()]
            case "literal":
                for value in self.values:
                    if str(value) == text:
                        return value
        raise Mismatch(*self._complaint(text))

    def _complaint(self, text: str) -> tuple[str, str | None]:
        """Say what is wrong with a single value, and how to write one."""
        match self.kind:
            case "int":
                return "not a whole number", "digits, with no leading zero, underscore or fraction"
            case "float":
                return "not a finite number", "such as 2.5 or 1e-3"
            case "bool":
                return "neither true nor false", "true or false"
        return "not one of them", closest(text, [str(value) for value in self.values])

    def _collection_from_text(self, text: str) -> object:
        from leptonami import yamlfile

        assert self.item is not None  # noqa: S101 - only lists and dicts come here, and both have one
        stripped = text.strip()
        opening, example = ("[", "a,b or ['a', 'b']") if self.kind == "list" else ("{", "a=1,b=2 or {'a': '1'}")
        if stripped.startswith(opening):
            try:
                document = yamlfile.parse(stripped)
                yamlfile.refuse(document.problems)
            except InputError as error:
                raise Mismatch(error.message, error.hint) from error
            return self.from_value(document.data)
        parts = [part.strip() for part in stripped.split(",")] if stripped else []
        if not all(parts):
            raise Mismatch("an empty entry between commas", f"write it as {example}")
        if self.kind == "list":
            return [self.item.from_text(part) for part in parts]
        result: dict[str, object] = {}
        for part in parts:
            name, equals, value = part.partition("=")
            if not equals:
                raise Mismatch(f"{part!r} is no name=value", f"write it as {example}")
            if name.strip() in result:
                raise Mismatch(f"{name.strip()!r} is given twice")
            result[sound(name.strip())] = self.item.from_text(value.strip())
        return result

    def from_value(self, value: object) -> object:  # noqa: PLR0911, PLR0912 - one return a kind
        """Take a typed value (from a file, or from Python) that must already be of this type.

        Raises
        ------
        Mismatch
            If it is of another one. The only conversion is that of a whole number to a float.
        """
        if value is None and self.optional:
            return None
        match self.kind, value:
            case "str", str():
                return sound(value)
            case "bool", bool():
                return value
            case _, bool():
                pass  # True is an int to Python, and to nobody else
            case "int", int():
                return int(value)
            case "float", int() | float() if math.isfinite(value):
                return float(value)
            case "literal", str() | int() if value in self.values:
                return next(each for each in self.values if each == value)
            case "list", list() | tuple():
                return [inside(f"entry {number}", self.item, each) for number, each in enumerate(value, 1)]
            case "dict", Mapping():
                for key in value:
                    if not isinstance(key, str):
                        raise Mismatch(f"the key {key!r} is not text", "put quotes around it")
                return {sound(key): inside(f"the value of {key!r}", self.item, each) for key, each in value.items()}
        hint = None
        if self.kind in ("str", "literal") and isinstance(value, int | float):
            hint = f'put quotes around it: "{getattr(value, "source", value)}"'
        elif self.kind == "literal" and isinstance(value, str):
            hint = closest(value, [str(each) for each in self.values])
        raise Mismatch(f"it is {named(value)}", hint)


def inside(place: str, wanted: Type | None, value: object) -> object:
    """Convert one entry of a list or dict, and say which one if it fails."""
    assert wanted is not None  # noqa: S101 - the caller has a list or a dict, and both have one
    try:
        return wanted.from_value(value)
    except Mismatch as mismatch:
        raise Mismatch(f"{place} is not {wanted}: {mismatch}", mismatch.hint) from mismatch


def named(value: object) -> str:
    """Name the type of a value as the reader of a YAML file would."""
    kinds: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (type(None), "nothing (null)"),
        (bool, "true or false"),
        (int, "a whole number"),
        (float, "a number"),
        (str, "text"),
        ((list, tuple), "a list"),
        (Mapping, "a mapping"),
    )
    return next((name for kind, name in kinds if isinstance(value, kind)), f"a {type(value).__name__}")


def sound(text: str) -> str:
    """Refuse text that no notebook can hold: bytes that were no UTF-8 arrive as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Mismatch("it is not valid Unicode text") from error
    return str(text)


def closest(text: str, known: Sequence[str]) -> str | None:
    """Give a did-you-mean, or all there is when it is little."""
    near = difflib.get_close_matches(text, known, n=3, cutoff=0.5)
    if near:
        return f"did you mean {', '.join(near)}?"
    return f"it can be {', '.join(known)}" if known else None


@dataclass(frozen=True)
class Parameter:
    """A parameter that a notebook declares.

    Attributes
    ----------
    name, type, default
        As the cell says.
    help
        The comment behind it.
    where
        The notebook and the line in its parameters cell, for messages.
    notebook
        The notebook's file name.
    """

    name: str
    type: Type
    default: object
    help: str = ""
    where: str = field(default="", compare=False)
    notebook: str = field(default="", compare=False)


def parameters(path: Path | str) -> tuple[Parameter, ...]:
    """Read what a notebook declares; a notebook with no such cell has no parameters.

    Raises
    ------
    InputError
        If the file is no notebook, has several such cells, or the cell holds anything but annotated literals; or if
        a parameter is named like a secret.
    """
    path = Path(path)
    cells = [
        cell
        for cell in read_cells(path)
        if cell.get("cell_type") == "code" and TAG in (cell.get("metadata") or {}).get("tags", [])
    ]
    if len(cells) > 1:
        raise InputError(
            f"{len(cells)} cells are tagged {TAG!r}", resource=str(path), hint="keep one: papermill would use the first"
        )
    return declared(source_of(cells[0]), path) if cells else ()


def read_cells(path: Path) -> list[dict[str, Any]]:
    """Read a notebook's cells as plain JSON (nbformat takes ten times as long to import).

    Raises
    ------
    InputError
        If the file cannot be read or is no notebook of format 4.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        near = closest(path.name, sorted(each.name for each in path.parent.glob("*.ipynb")))
        raise InputError("there is no such notebook", resource=str(path), hint=near) from error
    except OSError as error:
        raise InputError(f"the notebook cannot be read: {error.strerror}", resource=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"this is no notebook: {error}", resource=str(path), hint="a notebook is JSON") from error
    cells = document.get("cells") if isinstance(document, dict) else None
    if (
        not isinstance(cells, list)
        or document.get("nbformat") != 4
        or not all(isinstance(cell, dict) for cell in cells)
    ):
        raise InputError(
            "this is no notebook of format 4",
            resource=str(path),
            hint="open and save it in JupyterLab, or run jupyter nbconvert --to notebook",
        )
    return cells


def source_of(cell: Mapping[str, Any]) -> str:
    """Give a cell's source: nbformat allows one string or a list of lines."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def declared(source: str, path: Path) -> tuple[Parameter, ...]:
    """Read the source of a parameters cell."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise InputError(
            f"the parameters cell is not Python: {getattr(error, 'msg', error)}", resource=place(path, line)
        ) from error
    helps = comments(source)
    found: dict[str, Parameter] = {}
    for statement in tree.body:
        match statement:
            case ast.ImportFrom(module="typing" | "__future__"):
                continue
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                where = place(path, statement.lineno)
                if name in found:
                    raise InputError(f"the parameter {name!r} is declared twice", resource=where)
                refuse_secret(name, where)
                wanted = read_type(statement.annotation, where)
                found[name] = Parameter(
                    name,
                    wanted,
                    read_default(value, wanted, name, where),
                    helps.get(statement.end_lineno or statement.lineno, ""),
                    where,
                    path.name,
                )
            case _:
                raise InputError(
                    f"the parameters cell holds only annotated literals, not: {ast.unparse(statement)[:60]}",
                    resource=place(path, statement.lineno),
                    hint='write each as `name: str = "value"  # help`',
                )
    return tuple(found.values())


def place(path: Path, line: int) -> str:
    """Name a line of a notebook's parameters cell."""
    return f"{path} (parameters cell, line {line})"


def comments(source: str) -> dict[int, str]:
    """Give the comment of each line that has one."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("#").strip() for token in tokens if token.type == tokenize.COMMENT}


def refuse_secret(name: str, where: str) -> None:
    """Refuse a parameter that is named like a secret.

    Raises
    ------
    InputError
        If it is.
    """
    if SECRETS.search(name):
        raise InputError(
            f"{name!r} is named like a secret, and parameters are written into the notebook that is kept",
            resource=where,
            hint="let the code read it from the environment (os.environ, or the AWS credential chain) instead",
        )


def read_type(annotation: ast.expr, where: str) -> Type:
    """Turn an annotation into a type.

    Raises
    ------
    InputError
        If it is none that a parameter can have.
    """
    wanted = simple_type(annotation)
    if wanted is None:
        raise InputError(
            f"a parameter cannot be of the type {ast.unparse(annotation)}",
            resource=where,
            hint="str, int, float, bool, list[...], dict[str, ...], Literal[...], or one of these | None",
        )
    return wanted


def simple_type(node: ast.expr) -> Type | None:  # noqa: PLR0911 - one return a form
    """Read one annotation; None where it is not understood."""
    match node:
        case ast.Constant(value=str() as text):
            try:
                return simple_type(ast.parse(text, mode="eval").body)
            except SyntaxError:
                return None
        case ast.Name(id="str" | "int" | "float" | "bool" as kind):
            return Type(kind)
        case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)):
            return optional(simple_type(left))
        case ast.BinOp(left=ast.Constant(value=None), op=ast.BitOr(), right=right):
            return optional(simple_type(right))
        case ast.Subscript(value=ast.Name(id=form) | ast.Attribute(attr=form), slice=inner):
            return generic_type(form, inner.elts if isinstance(inner, ast.Tuple) else [inner])
    return None


def generic_type(form: str, arguments: list[ast.expr]) -> Type | None:
    """Read an annotation with brackets."""
    match form, arguments:
        case "list" | "List", [only]:
            item = simple_type(only)
            return Type("list", item) if item else None
        case "dict" | "Dict", [ast.Name(id="str"), last]:
            item = simple_type(last)
            return Type("dict", item) if item else None
        case "Optional", [only]:
            return optional(simple_type(only))
        case "Union", [first, ast.Constant(value=None)] | [ast.Constant(value=None), first]:
            return optional(simple_type(first))
        case "Literal", [*each]:
            values = [part.value for part in each if isinstance(part, ast.Constant)]
            texts = all(isinstance(value, str) for value in values)
            numbers = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
            if len(values) == len(each) and values and (texts or numbers):
                return Type("literal", values=tuple(values))  # type: ignore[arg-type]
    return None


def optional(wanted: Type | None) -> Type | None:
    """Allow None as well."""
    return wanted and Type(wanted.kind, wanted.item, wanted.values, optional=True)


def read_default(node: ast.expr, wanted: Type, name: str, where: str) -> object:
    """Read a default value, which must be a literal of the declared type.

    Raises
    ------
    InputError
        If it is not.
    """
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise InputError(
            f"the default of {name!r} is not a literal: {ast.unparse(node)[:60]}",
            resource=where,
            hint="what needs to be worked out belongs into a later cell",
        ) from error
    try:
        return wanted.from_value(value)
    except Mismatch as mismatch:
        raise InputError(
            f"the default of {name!r} is not {wanted}: {mismatch}", resource=where, hint=mismatch.hint
        ) from mismatch


def coerce(
    declared: Sequence[Parameter],
    assignments: Mapping[str, str | object],
    *,
    values: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Give values of exactly the declared types.

    Parameters
    ----------
    declared
        The notebook's parameters.
    assignments
        What was asked for. Text is read as typed on a command line (`a,b` is a list, `null` is None where that is
        allowed); anything else must be of the type already.
    values
        Typed values, as from a file: here text is text. `assignments` come before them.

    Returns
    -------
    dict
        Only what was given; what was not keeps the notebook's default.

    Raises
    ------
    InputError
        For a name that the notebook does not declare, or a value of another type.
    """
    known = {parameter.name: parameter for parameter in declared}
    notebook = declared[0].notebook if declared else "the notebook"
    result: dict[str, object] = {}
    for given, typed in ((values or {}, True), (assignments, False)):
        for name, value in given.items():
            if name not in known:
                raise InputError(
                    f"there is no parameter {name!r}",
                    resource=notebook,
                    hint=closest(name, list(known)) or "this notebook declares no parameters",
                )
            wanted = known[name].type
            try:
                if isinstance(value, str) and not typed:
                    result[name] = wanted.from_text(value)
                else:
                    result[name] = wanted.from_value(value)
            except Mismatch as mismatch:
                raise InputError(
                    f"{shortened(value)} is not {wanted}: {mismatch}",
                    resource=f"{notebook}, parameter {name}",
                    hint=mismatch.hint,
                ) from mismatch
    return result


def shortened(value: object) -> str:
    """Show a value in a message, however long it is."""
    text = repr(str(getattr(value, "source", value)) if isinstance(value, int | float) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def from_file(path: Path | str) -> dict[str, object]:
    """Read a YAML (or JSON) file of parameter values, strictly: `1.30` unquoted never becomes 1.3.

    Raises
    ------
    InputError
        If it cannot be read, has mistakes, or is not a mapping of names to values.
    """
    from leptonami import yamlfile

    document = yamlfile.read(path, what="parameter file")
    yamlfile.refuse(document.problems, what="parameter file")
    if not isinstance(document.data, dict):
        raise InputError(
            f"a parameter file is a mapping of names to values, not {named(document.data)}",
            resource=str(path),
            hint="write `name: value`, one a line",
        )
    return document.data
