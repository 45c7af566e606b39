"""What goes over the wire: which form of an answer the client accepts, and how its body is read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
import yaml

from leptonami.lab.kube import protobuf
from leptonami.lab.kube.errors import ApiError, bad_request
from leptonami.lab.kube.schemas import Schemas
from leptonami.lab.kube.server import Request, Response

__all__ = ["Format", "answer", "choose", "dump", "media_type", "read", "warnings"]

JSON, YAML = "application/json", "application/yaml"
READABLE = f"{JSON}, {YAML}, {protobuf.MEDIA_TYPE}"
META = "meta.k8s.io"


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads YAML as JSON: a date stays text, as sigs.k8s.io/yaml leaves it."""


Loader.yaml_implicit_resolvers = {
    first: [each for each in found if each[0] != "tag:yaml.org,2002:timestamp"]
    for first, found in Loader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True)
class Format:
    """The form of an answer: its media type, and what the object is turned into (`as=Table` and so on)."""

    media: str = JSON
    shape: str = ""
    group: str = ""
    version: str = ""
    pretty: bool = False

    @property
    def content_type(self) -> str:
        """Give the header; discovery's clients tell by it whether they got what they wished for."""
        if not self.shape or self.group == META:
            return self.media
        return f"{self.media};g={self.group};v={self.version};as={self.shape}"


def choose(request: Request, shapes: frozenset[tuple[str, str, str]] = frozenset()) -> Format:
    """Find the first form that the client accepts and that there is.

    Parameters
    ----------
    shapes
        What can be made here: the shape, its group and the version of that.

    Raises
    ------
    ApiError
        406, if there is none: protobuf alone, for example. With JSON as a second choice the answer is JSON.
    """
    pretty = request.flag("pretty")
    accept = request.headers.get("accept") or "*/*"
    for media, parameters in accepted(accept):
        shape, group, version = parameters.get("as", ""), parameters.get("g", ""), parameters.get("v", "")
        kind = YAML if media in {YAML, "application/x-yaml"} else JSON
        if media not in {JSON, YAML, "application/x-yaml", "*/*", "application/*"}:
            continue
        if not shape:
            return Format(kind, pretty=pretty)
        if (shape, group, version) in shapes:
            return Format(kind, shape, group, version, pretty)
    message = f"only the following media types are accepted: {JSON}, {YAML}"
    raise ApiError(406, "NotAcceptable", message)


@lru_cache(maxsize=256)
def accepted(header: str) -> list[tuple[str, dict[str, str]]]:
    """Read an Accept header: media types with their parameters, the most wanted first."""
    found: list[tuple[float, str, dict[str, str]]] = []
    for each in header.split(","):
        media, *rest = (part.strip() for part in each.split(";"))
        parameters = dict(part.partition("=")[::2] for part in rest)
        weight = parameters.pop("q", "1")
        try:
            found.append((-float(weight), media.lower(), parameters))
        except ValueError:
            continue
    return [(media, parameters) for _, media, parameters in sorted(found, key=lambda each: each[0])]


def media_type(request: Request) -> str:
    """Give the media type of a body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def read(request: Request, schemas: Schemas) -> Any:
    """Read a body: JSON, YAML, or protobuf of the kinds that there are. None if there is no body.

    Raises
    ------
    ApiError
        400 if it cannot be read, 415 if it is none of these.
    """
    if not request.body:
        return None
    media = media_type(request)
    in_yaml = media in {YAML, "application/x-yaml", "text/yaml"} or media.endswith("+yaml")
    if in_yaml or media in {"", "*/*", JSON} or media.endswith("+json"):
        try:
            return orjson.loads(request.body)
        except ValueError as error:
            if not in_yaml:
                raise bad_request(f"couldn't get version/kind; json parse error: {error}") from error
        try:
            if b"*" in request.body:
                refuse_aliases(request.body)
            found = yaml.load(request.body, Loader)  # noqa: S506 - a safe loader
            return orjson.loads(orjson.dumps(found, option=orjson.OPT_NON_STR_KEYS))
        except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
            raise bad_request(f"error converting YAML to JSON: {error}") from error
    if media == protobuf.MEDIA_TYPE:
        return protobuf.decode(request.body, schemas)
    message = f"the body of the request was in an unknown format - accepted media types include: {READABLE}"
    raise ApiError(415, "UnsupportedMediaType", message)


def refuse_aliases(text: bytes) -> None:
    """Refuse YAML that names parts of itself: nine lines of that can fill the memory."""
    if any(isinstance(each, yaml.AliasEvent) for each in yaml.parse(text, Loader)):
        raise bad_request("error converting YAML to JSON: leptonami lab: aliases are not taken")


def dump(value: Any, form: Format) -> bytes:
    """Write an object."""
    if form.media == YAML:
        return yaml.safe_dump(value, sort_keys=True).encode()
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 if form.pretty else 0) + b"\n"


def answer(value: Any, form: Format, status: int = 200) -> Response:
    """Make an answer."""
    return Response(dump(value, form), status, form.content_type)


def warnings(told: list[str]) -> list[tuple[str, str]]:
    """Make the headers that warn a client (RFC 7234, section 5.5); kubectl prints them."""
    return [("Warning", f'299 - "{quoted(each)}"') for each in dict.fromkeys(told)]


def quoted(text: str) -> str:
    """Make text fit for a quoted string of a header: nothing of it may end the line."""
    shown = "".join(each if each.isprintable() else " " for each in text)
    return shown.encode("ascii", "replace").decode().replace("\\", "\\\\").replace('"', '\\"')
