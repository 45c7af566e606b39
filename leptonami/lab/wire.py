"""What goes over the wire beside moto: telling which operation a request is, and writing an error in its protocol.

Errors are written here and not by moto, since a fault or a missing operation can strike a service that moto was never
asked to load. The four forms are those of the AWS protocols ec2, query, json and rest-xml.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, parse_qsl
from uuid import uuid4
from xml.sax.saxutils import escape

__all__ = ["ApiError", "Call", "error", "identify", "page"]

JSON_TYPE = "application/x-amz-json-1.1"


class ApiError(Exception):
    """An error as an AWS service answers it."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


@dataclass(frozen=True)
class Call:
    """One request: what is called, where and by whom.

    Attributes
    ----------
    service
        As in the credential scope (`ec2`); empty for an unsigned request.
    operation
        `RunInstances`; empty if the request does not say, as with the protocols that put it into the path.
    form
        `ec2`, `query`, `json` or `rest-xml`: how an error must be written.
    """

    service: str
    operation: str
    region: str
    key: str
    form: str

    @property
    def name(self) -> str:
        """Give `ec2.RunInstances`."""
        return f"{self.service}.{self.operation}"


def identify(environ: dict[str, Any]) -> Call:
    """Tell what a request calls. The body of a form is read and put back."""
    scope = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].partition(",")[0].split("/")
    if len(scope) != 5:
        query = dict(parse_qsl(environ.get("QUERY_STRING", "")))
        scope = query.get("X-Amz-Credential", "").split("/")
    key, region, service = (scope[0], scope[2], scope[3].lower()) if len(scope) == 5 else ("", "", "")
    operation, form = "", "json"
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        operation = target.rpartition(".")[2]
    elif environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        operation = parse_qs(body.decode(errors="replace")).get("Action", [""])[0]
        form = "ec2" if service == "ec2" else "query"
    elif action := dict(parse_qsl(environ.get("QUERY_STRING", ""))).get("Action"):
        operation, form = action, "ec2" if service == "ec2" else "query"
    elif service in {"s3", "route53", "cloudfront"}:
        form = "rest-xml"
    if not operation and service:
        operation = by_path(service, environ)
    return Call(service, operation, region, key, form)


def by_path(service: str, environ: dict[str, Any]) -> str:
    """Name the operation of a protocol that has it in the path, by botocore's model; else give method and path."""
    path = f"{environ['REQUEST_METHOD']} {environ.get('PATH_INFO', '/')}"
    try:
        from moto.core.request import Request
        from moto.core.routing import get_service_router

        operation, _ = get_service_router(service).match(Request(environ.copy()))
    except Exception:  # a service that botocore does not know, or no such path: the path itself will do
        return path
    return str(operation.name)


def error(call: Call, problem: ApiError) -> tuple[list[tuple[str, str]], bytes]:
    """Write an error as the service's protocol has it; give headers and body."""
    code, message, request = escape(problem.code), escape(problem.message), str(uuid4())
    match call.form:
        case "ec2":
            body = (
                f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
                f"<RequestID>{request}</RequestID></Response>"
            )
        case "query":
            sender = "Sender" if problem.status < 500 else "Receiver"
            body = (
                f"<ErrorResponse><Error><Type>{sender}</Type><Code>{code}</Code><Message>{message}</Message></Error>"
                f"<RequestId>{request}</RequestId></ErrorResponse>"
            )
        case "rest-xml":
            body = f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{request}</RequestId></Error>"
        case _:
            body = json.dumps({"__type": problem.code, "message": problem.message})
    kind = JSON_TYPE if call.form == "json" else "text/xml;charset=UTF-8"
    headers = [("Content-Type", kind), ("x-amzn-RequestId", request)]
    if call.form == "json":
        headers.append(("x-amzn-ErrorType", problem.code))
    return headers, body.encode()


def page(
    asked: Mapping[str, Any],
    key: str,
    rows: list[Any],
    *,
    token: str = "nextToken",  # noqa: S107
    most: str = "maxResults",
    size: int = 100,
) -> dict[str, Any]:
    """Give one page of a list, `size` rows unless asked for another number, and the token of the next."""
    start, size = int(asked.get(token) or 0), int(asked.get(most) or size)
    more = {token: str(start + size)} if start + size < len(rows) else {}
    return {key: rows[start : start + size], **more}
