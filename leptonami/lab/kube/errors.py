"""The errors of the API server: one exception that becomes a `metav1.Status`, in the words of the real one.

The messages follow k8s.io/apimachinery/pkg/api/errors and pkg/util/validation/field: clients print them and people
search for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

__all__ = [
    "ApiError",
    "already_exists",
    "bad_request",
    "cause",
    "conflict",
    "expired",
    "forbidden",
    "forbidden_value",
    "invalid",
    "not_found",
    "required",
    "status_body",
    "too_large_version",
    "too_long",
    "unsupported_value",
    "wrong_value",
]

Cause = dict[str, str]


class ApiError(Exception):
    """A request that is refused.

    Parameters
    ----------
    code
        The HTTP status.
    reason
        The machine's word, such as `NotFound`.
    message
        What a person reads.
    details
        What it is about: `name`, `group`, `kind`, `uid`, `causes`, `retryAfterSeconds`.
    """

    def __init__(self, code: int, reason: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = dict(details or {})

    def status(self) -> dict[str, Any]:
        """Give the body of the answer."""
        return status_body("Failure", self.code, self.reason, self.message, self.details)


def status_body(
    status: str, code: int = 0, reason: str = "", message: str = "", details: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Give a `metav1.Status`, without what is empty."""
    body: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": status}
    extra = {"message": message, "reason": reason, "details": dict(details or {}), "code": code}
    return body | {key: value for key, value in extra.items() if value}


def _about(group: str, kind: str, name: str, causes: Iterable[Cause] = ()) -> dict[str, Any]:
    whole = {"name": name, "group": group, "kind": kind, "causes": list(causes)}
    return {key: value for key, value in whole.items() if value}


def _resource(group: str, plural: str) -> str:
    return f"{plural}.{group}" if group else plural


def not_found(group: str, plural: str, name: str) -> ApiError:
    """Say that there is no object of that name."""
    return ApiError(404, "NotFound", f'{_resource(group, plural)} "{name}" not found', _about(group, plural, name))


def already_exists(group: str, plural: str, name: str) -> ApiError:
    """Say that there is one of that name already."""
    message = f'{_resource(group, plural)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _about(group, plural, name))


def conflict(group: str, plural: str, name: str, why: str = "", causes: Iterable[Cause] = ()) -> ApiError:
    """Say that the object has moved on, or that a precondition does not hold."""
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {_resource(group, plural)} "{name}": {why}'
    return ApiError(409, "Conflict", message, _about(group, plural, name, causes))


def forbidden(group: str, plural: str, name: str, why: str, causes: Iterable[Cause] = ()) -> ApiError:
    """Say that it is not allowed, such as creating in a namespace that goes away."""
    message = f'{_resource(group, plural)} "{name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", message, _about(group, plural, name, causes))


def bad_request(message: str) -> ApiError:
    """Say that the request itself makes no sense."""
    return ApiError(400, "BadRequest", message)


def expired(message: str) -> ApiError:
    """Say that the history does not reach back so far: list again."""
    return ApiError(410, "Expired", message)


def too_large_version(wanted: int, current: int) -> ApiError:
    """Say that a resource version is yet to come."""
    message = f"Too large resource version: {wanted}, current: {current}"
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    return ApiError(504, "Timeout", message, {"causes": causes, "retryAfterSeconds": 1})


def invalid(group: str, kind: str, name: str, causes: Iterable[Cause]) -> ApiError:
    """Say what is wrong with an object, field by field."""
    found = list({(each["field"], each["message"]): each for each in causes}.values())
    told = [f"{each['field']}: {each['message']}" for each in found]
    message = f'{_resource(group, kind)} "{name}" is invalid: ' + (
        told[0] if len(told) == 1 else f"[{', '.join(told)}]"
    )
    return ApiError(422, "Invalid", message, _about(group, kind, name, found))


def cause(reason: str, field: str, message: str) -> Cause:
    """Give one thing that is wrong with an object."""
    return {"reason": reason, "message": message, "field": field}


def required(field: str, detail: str = "") -> Cause:
    """Say that something must stand there."""
    return cause("FieldValueRequired", field, f"Required value: {detail}" if detail else "Required value")


def wrong_value(field: str, value: Any, detail: str) -> Cause:
    """Say that what stands there cannot be."""
    return cause("FieldValueInvalid", field, f"Invalid value: {_shown(value)}: {detail}")


def forbidden_value(field: str, why: str) -> Cause:
    """Say that it may not be there, or not change."""
    return cause("FieldValueForbidden", field, f"Forbidden: {why}")


def too_long(field: str, most: int) -> Cause:
    """Say that there is too much of it."""
    return cause("FieldValueTooLong", field, f"Too long: may not be more than {most} bytes")


def unsupported_value(field: str, value: Any, supported: Iterable[str]) -> Cause:
    """Say that what stands there is none of what may stand there."""
    known = ", ".join(f'"{each}"' for each in sorted(supported))
    return cause("FieldValueNotSupported", field, f"Unsupported value: {_shown(value)}: supported values: {known}")


def _shown(value: Any) -> str:
    return "null" if value is None else orjson.dumps(value).decode()
