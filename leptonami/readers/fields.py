"""Taking a field out of an object in which any value may be of any type."""

from __future__ import annotations

from typing import Any

__all__ = ["boolean", "dig", "integer", "listing", "mapping", "mappings", "strings", "text"]


def dig(value: Any, *path: str) -> Any:
    """Follow keys into nested mappings; None where one is missing or is no mapping."""
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def mapping(value: Any, *path: str) -> dict[str, Any]:
    """Give the mapping at a path, or an empty one."""
    found = dig(value, *path)
    return found if isinstance(found, dict) else {}


def listing(value: Any, *path: str) -> list[Any]:
    """Give the list at a path, or an empty one."""
    found = dig(value, *path)
    return found if isinstance(found, list) else []


def mappings(value: Any, *path: str) -> list[dict[str, Any]]:
    """Give the mappings in the list at a path; what else is in it is left out."""
    return [each for each in listing(value, *path) if isinstance(each, dict)]


def text(value: Any, *path: str) -> str:
    """Give the text at a path, a number as it would be written, or ""; lone surrogates are replaced."""
    found = dig(value, *path)
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, int | float) and not (isinstance(found, int) and found.bit_length() > 128):
        return str(found)
    if not isinstance(found, str):
        return ""
    return found if found.isascii() else found.encode("utf-8", "replace").decode("utf-8")


def integer(value: Any, *path: str) -> int | None:
    """Give the whole number at a path, None if there is none."""
    found = dig(value, *path)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    if isinstance(found, float):
        return int(found) if found.is_integer() and abs(found) < 2**63 else None
    return found if abs(found) < 2**63 else None


def boolean(value: Any, *path: str) -> bool | None:
    """Give the boolean at a path (also written as text, as in labels), None if there is none."""
    found = dig(value, *path)
    if isinstance(found, str):
        return {"true": True, "false": False}.get(found.strip().lower())
    return found if isinstance(found, bool) else None


def strings(value: Any, *path: str) -> dict[str, str]:
    """Give the mapping of text to text at a path, such as labels; what is neither text nor number is left out."""
    found = mapping(value, *path)
    return {
        text(key): text(each)
        for key, each in found.items()
        if isinstance(key, str) and isinstance(each, str | int | float)
    }
