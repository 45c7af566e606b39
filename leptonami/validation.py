"""From a YAML document to a pydantic model, with errors in the words of the file and all of them at once.

pydantic says what is wrong in terms of Python types. Here each of its errors becomes a `yamlfile.Problem`: the line,
the path in the file, the value as it was written, what is allowed, and where it can be guessed what was meant.
"""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from leptonami.yamlfile import Document, Location, Problem, quoted

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

__all__ = ["Matching", "Strict", "Wrong", "near", "problems_of", "validate"]

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """The base of every model of a file: unknown keys are mistakes, nothing is converted, nothing changes later."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        validate_by_name=False,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


class Wrong(ValueError):
    """A value is wrong; `hint` says what would be right. For validators of models."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Matching:
    """Text of a certain form, for `Annotated[str, Matching(...)]`.

    Attributes
    ----------
    pattern
        What the whole text must match; it goes into the JSON Schema too.
    what
        What the text is, for `not {what}: 'value'`.
    hint
        How it is written.
    """

    pattern: str
    what: str
    hint: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$"}

    def check(self, value: str) -> str:
        """Let the text through if it matches."""
        if re.fullmatch(self.pattern, value) is None:
            raise Wrong(f"not {self.what}: {show(value)}", self.hint)
        return value


def near(word: str, words: Iterable[str]) -> str | None:
    """Give a `did you mean ...?` for a misspelt word, or None."""
    found = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return f"did you mean {found[0]}?" if found else None


def choose(word: str, known: Collection[str], what: str) -> str:
    """Name what there is to choose from, the nearest first."""
    guess = near(word, known)
    return f"{f'{guess} ' if guess else ''}{what}: {', '.join(known)}"


def validate(model: type[Model], document: Document) -> tuple[Model | None, list[Problem]]:
    """Check a document against a model; give the model, or all that is wrong with the document.

    The problems that reading the YAML left behind are among them.
    """
    if not isinstance(document.data, dict):
        kind = "a list" if isinstance(document.data, list) else "a single value"
        problem = document.problem((), f"the file must be a mapping (`key: value` lines), not {kind}")
        return None, [*document.problems, problem]
    try:
        checked = model.model_validate(document.data)
    except ValidationError as error:
        return None, [*document.problems, *problems_of(error, model, document)]
    return (None if document.problems else checked), list(document.problems)


def problems_of(error: ValidationError, model: type[BaseModel], document: Document) -> list[Problem]:
    """Translate pydantic's errors."""
    problems = []
    for detail in error.errors(include_url=False):
        location = in_file(detail["loc"], document)
        kind = detail["type"]
        if kind == "too_short" and detail["input"]:
            # Items that are wrong do not count to pydantic; each has an error of its own.
            continue
        message, hint = explain(kind, detail, location, model)
        # What is missing stands nowhere: the line is that of the mapping which lacks it.
        problems.append(Problem(location, document.where(location), message, hint))
    return problems


def in_file(loc: tuple[int | str, ...], document: Document) -> Location:
    """Take out of pydantic's location what is no place in the file: the branches of unions, `[key]`, function names."""
    here: Any = document.data
    location: list[str | int] = []
    for index, part in enumerate(loc):
        in_list = isinstance(here, list) and isinstance(part, int) and part < len(here)
        if in_list or (isinstance(here, dict) and part in here):
            here = here[part]
            location.append(part)
        elif index == len(loc) - 1 and isinstance(here, dict) and isinstance(part, str):
            location.append(part)
    return tuple(location)


def explain(  # noqa: PLR0911, PLR0912 - a table of cases, which reads best as one
    kind: str, detail: Any, location: Location, model: type[BaseModel]
) -> tuple[str, str | None]:
    """Say in words what one pydantic error means."""
    value = detail.get("input")
    context = detail.get("ctx", {})
    shown = show(value)
    match kind:
        case "extra_forbidden":
            known = fields_at(model, location[:-1])
            hint = near(str(location[-1]), known) or (f"known keys: {', '.join(known)}" if known else None)
            return f"unknown key {location[-1]!r}", hint
        case "missing":
            return f"missing key {location[-1]!r}" if location else "something is missing", None
        case "value_error":
            wrong = context.get("error")
            return str(wrong), getattr(wrong, "hint", None)
        case "string_type":
            if value is None:
                return "empty, where text is wanted", None
            if isinstance(value, (dict, list)):
                return f"{shown}, where text is wanted", None
            kind_of = "true/false" if isinstance(value, bool) else "a number"
            hint = f"write {quoted('true' if value is True else 'false' if value is False else value)}"
            return f"{shown} is {kind_of} to YAML, and text is wanted here", hint
        case "bool_type":
            hint = "write true or false" if str(value).lower() in {"yes", "no", "on", "off", "true", "false"} else None
            return f"{shown} is neither true nor false", hint
        case "int_type" | "int_from_float":
            plain = isinstance(value, str) and value.isascii() and value.isdigit()
            return f"{shown} is no whole number", f"write it without quotes: {value}" if plain else None
        case "dict_type" | "model_type" | "mapping_type" | "model_attributes_type":
            known = fields_at(model, location)
            return f"{shown}, where a mapping is wanted", (f"its keys: {', '.join(known)}" if known else None)
        case "list_type" | "tuple_type":
            return f"{shown}, where a list is wanted", f"write [{show(value, bare=True)}]" if is_single(value) else None
        case "literal_error":
            expected = str(context["expected"])
            return f"{shown} is not allowed", f"one of {expected}" if " or " in expected else f"it must be {expected}"
        case "greater_than_equal":
            return f"{shown} is too small", f"at least {context['ge']}"
        case "less_than_equal":
            return f"{shown} is too large", f"at most {context['le']}"
        case "too_short":
            return "empty, where at least one is needed", None
        case "too_long":
            return f"too many: {len(value)}", f"at most {context['max_length']}"
    return f"{shown}: {detail['msg'][:1].lower()}{detail['msg'][1:]}", None


def is_single(value: Any) -> bool:
    """Tell whether a value is one value and not a collection of them."""
    return not isinstance(value, (dict, list)) and value is not None


def show(value: Any, *, bare: bool = False) -> str:
    """Show a value as it stands in the file, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(getattr(value, "source", value))
    text = text if len(text) <= 60 else text[:57] + "..."
    return text if bare or not isinstance(value, str) else repr(text)


def fields_at(model: type[BaseModel], location: Location) -> list[str]:
    """Give the keys that a place in the file may have, by walking down the model."""
    here: Any = model
    for part in location:
        if isinstance(part, int):
            here = next(iter(arguments(here)), None)
        else:
            found = as_model(here)
            if found is None:
                return []
            here = next(
                (f.annotation for name, f in found.model_fields.items() if part in (f.alias or name, name)), None
            )
        if here is None:
            return []
    found = as_model(here)
    return [field.alias or name for name, field in found.model_fields.items()] if found else []


def arguments(annotation: Any) -> list[Any]:
    """Give the types inside a `list[...]`, `tuple[..., ...]`, `X | None` or `Annotated[...]`."""
    return [each for each in typing.get_args(annotation) if each not in (type(None), Ellipsis)]


def as_model(annotation: Any) -> type[BaseModel] | None:
    """Find the model in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for each in arguments(annotation):
        if (found := as_model(each)) is not None:
            return found
    return None
