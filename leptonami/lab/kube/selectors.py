"""Label and field selectors, as k8s.io/apimachinery/pkg/labels and pkg/fields read them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from leptonami.lab.kube.errors import bad_request
from leptonami.lab.kube.resources import Kind

__all__ = ["Selector", "label_matcher", "label_selector", "selector", "selector_text"]

Object = Mapping[str, Any]
Labels = Mapping[str, str]

NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
KEY = re.compile(rf"(?:[a-z0-9](?:[-a-z0-9.]{{0,251}}[a-z0-9])?/)?{NAME}")
VALUE = re.compile(rf"(?:{NAME})?")
# One requirement of a label selector: `key`, `!key`, `key=value`, `key in (a,b)`, `key>3`.
REQUIREMENT = re.compile(
    r"\s*(?:(?P<absent>!)\s*(?P<none>[^\s,=!()<>]+)"
    r"|(?P<key>[^\s,=!()<>]+)\s*(?:(?P<set>in|notin)\s*\((?P<values>[^()]*)\)|(?P<op>==|!=|=|>|<)\s*(?P<value>[^\s,=!()<>]*))?)"
    r"\s*(?:,|$)"
)
FIELD = re.compile(r"([\w.\[\]-]+)(==|!=|=)((?:\\.|[^\\,=])*)$")


@dataclass(frozen=True)
class Selector:
    """Both selectors of a list or a watch. Empty ones match everything."""

    labels: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    fields: tuple[tuple[tuple[str, ...], bool, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.labels or self.fields)

    def matches(self, obj: Object) -> bool:
        """Tell whether an object is selected."""
        if self.labels and not matches_labels(self.labels, obj["metadata"].get("labels") or {}):
            return False
        return all((_text(obj, path) == value) is equal for path, equal, value in self.fields)

    def value(self, *path: str) -> str | None:
        """Give what a field must be equal to, if the selector says so."""
        return next((value for at, equal, value in self.fields if equal and at == path), None)


def selector(kind: Kind, labels: str = "", fields: str = "") -> Selector:
    """Read the selectors of a request.

    Raises
    ------
    ApiError
        400: it cannot be read, or the field is none that this kind is selected by.
    """
    return Selector(parse_labels(labels), tuple(_known(kind, *each) for each in parse_fields(fields)))


@lru_cache(maxsize=512)
def parse_labels(text: str) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Read a label selector into (key, operator, values)."""
    found: list[tuple[str, str, tuple[str, ...]]] = []
    at = 0
    while at < len(text.rstrip()):
        match = REQUIREMENT.match(text, at)
        if not match:
            raise bad_request(f"unable to parse requirement: found '{text[at:]}', expected: a requirement")
        at = match.end()
        key = match["none"] or match["key"]
        if not KEY.fullmatch(key):
            raise bad_request(f'unable to parse requirement: <nil>: Invalid value: "{key}": {QUALIFIED}')
        if match["absent"]:
            found.append((key, "!", ()))
        elif match["set"]:
            found.append((key, match["set"], tuple(sorted({each.strip() for each in match["values"].split(",")}))))
        elif match["op"]:
            found.append((key, match["op"].replace("==", "="), (match["value"],)))
        else:
            found.append((key, "exists", ()))
        _check(*found[-1])
    if text.rstrip().endswith(","):
        raise bad_request("unable to parse requirement: found '', expected: identifier after ','")
    return tuple(found)


QUALIFIED = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric"
    " character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is"
    " '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
LABEL_VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is"
    " '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def _check(key: str, operator: str, values: tuple[str, ...]) -> None:
    for value in values:
        if operator in "<>" and not re.fullmatch(r"[-+]?\d+", value):
            problem = "for 'Gt', 'Lt' operators, the value must be an integer"
        elif not VALUE.fullmatch(value):
            problem = LABEL_VALUE
        else:
            continue
        raise bad_request(f'unable to parse requirement: values[0][{key}]: Invalid value: "{value}": {problem}')


def matches_labels(requirements: tuple[tuple[str, str, tuple[str, ...]], ...], labels: Labels) -> bool:
    """Tell whether labels meet all requirements. `!=` and `notin` hold for what has no such label."""
    return all(TESTS[operator](labels.get(key), values) for key, operator, values in requirements)


def _number(test: Callable[[int, int], bool]) -> Callable[[str | None, tuple[str, ...]], bool]:
    return lambda have, values: bool(have and re.fullmatch(r"[-+]?\d+", have) and test(int(have), int(values[0])))


TESTS: dict[str, Callable[[str | None, tuple[str, ...]], bool]] = {
    "=": lambda have, values: have == values[0],
    "!=": lambda have, values: have != values[0],
    "in": lambda have, values: have in values,
    "notin": lambda have, values: have not in values,
    "exists": lambda have, _: have is not None,
    "!": lambda have, _: have is None,
    ">": _number(lambda have, wanted: have > wanted),
    "<": _number(lambda have, wanted: have < wanted),
}


def parse_fields(text: str) -> list[tuple[str, bool, str]]:
    """Read a field selector into (field, whether equal, value)."""
    found = []
    for term in filter(None, re.split(r"(?<!\\),", text)):
        match = FIELD.match(term.strip())
        if not match:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
        found.append((match[1], match[2] != "!=", re.sub(r"\\(.)", r"\1", match[3])))
    return found


def _known(kind: Kind, name: str, equal: bool, value: str) -> tuple[tuple[str, ...], bool, str]:
    if name not in kind.fields and name != "metadata.name" and not (name == "metadata.namespace" and kind.namespaced):
        if kind.fields or kind.custom:
            raise bad_request(f"field label not supported: {name}")
        raise bad_request(f'"{name}" is not a known field selector: only "metadata.name", "metadata.namespace"')
    if kind.storage == "events":
        name = name.replace("regarding.", "involvedObject.").replace("reportingController", "reportingComponent")
    return tuple(name.split(".")), equal, value


def _text(obj: Object, path: tuple[str, ...]) -> str:
    """Give a field as its kind's selector sees it: what is not there is empty, or false where it is a yes or no."""
    value: Any = obj
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    if path == ("source",):
        value = (value or {}).get("component") or obj.get("reportingComponent")
    if value is None:
        return "false" if path in {("spec", "unschedulable"), ("spec", "hostNetwork")} else ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def label_selector(selector: Mapping[str, Any] | None) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Give the requirements of a `metav1.LabelSelector` (matchLabels and matchExpressions)."""
    selector = selector or {}
    operators = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}
    wanted = [(key, "=", (value,)) for key, value in (selector.get("matchLabels") or {}).items()]
    wanted += [
        (each["key"], operators[each["operator"]], tuple(each.get("values") or ()))
        for each in selector.get("matchExpressions") or ()
    ]
    return tuple(wanted)


def label_matcher(selector: Mapping[str, Any] | None) -> Callable[[Labels], bool]:
    """Give the test of a `metav1.LabelSelector`; an empty one takes everything, none nothing."""
    wanted = label_selector(selector)
    return lambda labels: selector is not None and matches_labels(wanted, labels)


def selector_text(selector: Mapping[str, Any] | None) -> str:
    """Write a `metav1.LabelSelector` (or the plain labels of a ReplicationController) as text."""
    if selector and not selector.keys() & {"matchLabels", "matchExpressions"}:
        selector = {"matchLabels": selector}
    forms = {"=": "{0}={1}", "exists": "{0}", "!": "!{0}"}
    return ",".join(
        forms.get(operator, "{0} {2} ({1})").format(key, ",".join(sorted(values)), operator)
        for key, operator, values in sorted(label_selector(selector))
    )
