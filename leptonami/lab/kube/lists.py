"""Lists in pages: every page shows the moment at which the first one was made."""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_left, bisect_right, insort
from itertools import islice

import orjson

from leptonami.lab.kube import errors
from leptonami.lab.kube.history import History
from leptonami.lab.kube.objects import Key, Object, key_of, order
from leptonami.lab.kube.options import Page
from leptonami.lab.kube.selectors import Selector

__all__ = ["bounds", "moment", "page", "read_token", "read_version"]

TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You must start a new list"
    " without the continue parameter."
)


def bounds(
    keys: list[Key], namespace: str | None, name: str | None = None, after: Key | None = None
) -> tuple[int, int]:
    """Give the part of sorted keys that a namespace takes, or one name in it, or what comes after a key."""
    low, high = 0, len(keys)
    if namespace is not None:
        low = bisect_left(keys, order((namespace, name or "")), key=order)
        high = bisect_right(keys, order((namespace, "\U0010ffff" if name is None else name)), key=order)
    return (max(low, bisect_right(keys, order(after), key=order)) if after else low), high


def page(keys: list[Key], items: list[Object], selector: Selector, *, limit: int, version: int, total: int) -> Page:
    """Take the objects that are selected, until the limit; without a selector there are `total`, given or not."""
    if not selector and not 0 < limit < total:
        return Page(items, version)
    chosen = (place for place, each in enumerate(items) if selector.matches(each))
    places = list(islice(chosen, limit + 1 if limit else None))
    found = [items[place] for place in places[: limit or None]]
    if len(found) == len(places):
        return Page(found, version)
    token = {"v": "meta.k8s.io/v1", "rv": version, "start": keys[places[limit - 1]]}
    text = base64.urlsafe_b64encode(orjson.dumps(token)).decode().rstrip("=")
    return Page(found, version, text, None if selector else total - limit)


def read_token(text: str) -> tuple[int, Key]:
    """Read a `continue` token into the version and the last key before it.

    Raises
    ------
    ApiError
        400: it is none of ours.
    """
    try:
        token = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        namespace, name = token["start"]
        return int(token["rv"]), (str(namespace), str(name))
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise errors.bad_request(f"continue key is not valid: {error}") from error


def read_version(text: str, current: int, *, match: str = "", limit: int = 0) -> int | None:
    """Read a `resourceVersion` into the exact version that is wanted, or None where the newest will do.

    A version that comes with a limit is an exact one, unless the client says otherwise:
    https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions

    Raises
    ------
    ApiError
        400 and 422 for nonsense, 504 for a version that is yet to come.
    """
    if not text.isdecimal() and text:
        raise errors.bad_request(f'Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax')
    field, problem = "resourceVersionMatch", None
    if match not in {"", "Exact", "NotOlderThan"}:
        problem = errors.unsupported_value(field, match, ("Exact", "NotOlderThan", ""))
    elif match and not text:
        problem = errors.forbidden_value(field, f"{field} is forbidden unless resourceVersion is provided")
    elif match == "Exact" and text == "0":
        problem = errors.forbidden_value(field, f'{field} "exact" is forbidden for resourceVersion "0"')
    if problem:
        raise errors.invalid("meta.k8s.io", "ListOptions", "", [problem])
    if int(text or 0) > current:
        raise errors.too_large_version(int(text), current)
    return int(text) if match == "Exact" or (limit and not match and int(text or 0)) else None


def moment(
    history: History, keys: list[Key], objects: dict[Key, Object], version: int, *, paging: bool
) -> tuple[list[Key], dict[Key, Object]]:
    """Give the keys and objects of a storage as they were at a version, from those of now.

    Raises
    ------
    ApiError
        410: that is too far back.
    """
    if version < history.forgotten:
        raise errors.expired(TOO_OLD if paging else f"too old resource version: {version} ({history.forgotten})")
    then = {key_of(each.new or each.old or {}): each.old for each in reversed(history.since(version))}
    if not then:
        return keys, objects
    keys = [key for key in keys if then.get(key, objects) is not None]
    for key in [key for key, each in then.items() if each is not None and key not in objects]:
        insort(keys, key, key=order)
    return keys, objects | {key: each for key, each in then.items() if each is not None}
