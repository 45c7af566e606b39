"""What decides between options, and how much it counts: `data/criteria.yaml`, a team's own file, or single weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from leptonami import datafiles
from leptonami.decide.options import Id, Options, Text
from leptonami.errors import InputError
from leptonami.validation import Strict, Wrong, choose, validate
from leptonami.yamlfile import read, refuse

__all__ = ["Criteria", "Criterion", "load", "parse_weights"]

LARGEST = 1000.0


def a_weight(value: float) -> float:
    """Let a weight through if it is one."""
    if not math.isfinite(value) or not 0 <= value <= LARGEST:
        raise Wrong(f"not a weight: {value:g}", f"from 0 to {LARGEST:g}")
    return float(value)


Weight = Annotated[float, Field(strict=False), AfterValidator(a_weight)]


class Criterion(Strict):
    """One criterion; a `must` excludes the options that fail it, whatever their score."""

    id: Id
    title: Text
    what: Text
    weight: Weight
    must: bool = False


class Criteria(Strict):
    """All criteria, in the order in which they are shown."""

    schema_: Literal[1] = Field(alias="schema")
    untested: Annotated[float, Field(strict=False, ge=0, le=1)] = 0.5
    criteria: Annotated[list[Criterion], Field(min_length=1)]

    def find(self, id: str) -> Criterion:
        """Find a criterion.

        Raises
        ------
        InputError
            If there is none, naming what there is.
        """
        for each in self.criteria:
            if each.id == id:
                return each
        hint = choose(id, [each.id for each in self.criteria], "criteria")
        raise InputError(f"there is no criterion {id!r}", resource="criteria", hint=hint)

    def with_weights(self, weights: Mapping[str, float]) -> Criteria:
        """Give the same with some weights changed.

        Raises
        ------
        InputError
            If a criterion is unknown, or a weight is none.
        """
        for name, value in weights.items():
            self.find(name)
            try:
                a_weight(value)
            except Wrong as error:
                raise InputError(str(error), resource=f"weight of {name}", hint=error.hint) from error
        changed = [
            each.model_copy(update={"weight": float(weights.get(each.id, each.weight))}) for each in self.criteria
        ]
        return self.model_copy(update={"criteria": changed})

    def without(self, id: str) -> Criteria:
        """Give the same for somebody to whom one criterion does not matter at all: no must-have, no weight."""
        changed = [
            each.model_copy(update={"must": False, "weight": 0.0}) if each.id == id else each for each in self.criteria
        ]
        return self.model_copy(update={"criteria": changed})

    def fitting(self, options: Options) -> None:
        """See that every claim bears on a criterion that there is.

        Raises
        ------
        InputError
            Naming the first claim that does not.
        """
        known = {each.id for each in self.criteria}
        for option in options.options:
            for claim in option.claims:
                if claim.criterion not in known:
                    raise InputError(
                        f"the claim bears on the criterion {claim.criterion!r}, which there is not",
                        resource=claim.id,
                        hint=f"criteria: {', '.join(sorted(known))}",
                    )

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data, as it would stand in a file."""
        return self.model_dump(mode="json", by_alias=True)


def load(path: Path | str | None = None) -> Criteria:
    """Read the criteria that come with the package, or a file of one's own.

    Raises
    ------
    InputError
        If there is no such file, or it has mistakes.
    """
    document = read(path or datafiles.path("criteria.yaml"), what="criteria file")
    model, problems = validate(Criteria, document)
    if model is not None and len({each.id for each in model.criteria}) < len(model.criteria):
        problems.append(document.problem(("criteria",), "two criteria have the same id"))
    refuse(problems, what="criteria file")
    assert model is not None  # noqa: S101 - without problems there is a model
    return model


def parse_weights(words: Iterable[str]) -> dict[str, float]:
    """Read `cost=3`.

    Raises
    ------
    InputError
        If one is not of that form.

    >>> parse_weights(["cost=3", "launch-time=0.5"])
    {'cost': 3.0, 'launch-time': 0.5}
    """
    found: dict[str, float] = {}
    for word in words:
        name, equals, number = word.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            equals = ""
        if not equals:
            raise InputError(f"not a weight: {word!r}", resource="--weight", hint="a criterion and a number: cost=3")
    return found
