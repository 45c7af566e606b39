"""Who asks: the lab's bearer token, tokens of EKS, and tokens of service accounts. Everything else is 401.

A token of EKS (`aws eks get-token`) is `k8s-aws-v1.` and a presigned URL of STS GetCallerIdentity. What is checked of
it follows aws-iam-authenticator's verifier (pkg/token/token.go), and then, in the place of STS, the signature itself:
the cluster's name is in no parameter of the URL, it is the value of the signed header `x-k8s-aws-id`. Only the secret
of the access key can tell whether the URL was signed for this cluster.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from leptonami.lab.kube.errors import ApiError

__all__ = ["Authenticator", "User"]

PREFIX = "k8s-aws-v1."
LONGEST_TOKEN = 4096
CLUSTER_HEADER = "x-k8s-aws-id"
VALID_S = 15 * 60
SKEW_S = 5 * 60  # what SigV4 lets a clock be ahead
STS_HOST = re.compile(r"sts(-fips)?(\.[a-z0-9-]+)?\.(amazonaws\.com(\.cn)?|api\.aws)|(127\.0\.0\.1|localhost)(:\d+)?")
NEEDED = {"action", "version", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"}
ALLOWED = NEEDED | {"x-amz-expires", "x-amz-security-token", "x-amz-signedheaders", "x-amz-user-agent"}
EMPTY = hashlib.sha256(b"").hexdigest()
ADMIN_GROUPS = ("system:masters", "system:authenticated")


@dataclass(frozen=True)
class User:
    """Who asks, as `kubectl auth whoami` shows it."""

    name: str
    groups: tuple[str, ...] = ADMIN_GROUPS
    uid: str = ""
    extra: dict[str, list[str]] = field(default_factory=dict)

    def info(self) -> dict[str, Any]:
        """Give a `UserInfo` of authentication.k8s.io."""
        whole = {"username": self.name, "uid": self.uid, "groups": list(self.groups), "extra": self.extra}
        return {key: value for key, value in whole.items() if value}


class Refused(Exception):
    """A token that is none, and why. The caller is only told that it is unauthorized, as the real server does."""


class Authenticator:
    """Knows the tokens of one cluster.

    Parameters
    ----------
    cluster
        The name that EKS tokens must have been signed for.
    tokens
        Bearer tokens and the names of their users.
    secret_of
        Gives the secret of an access key, None for one that is unknown. Without it the signature of EKS tokens is not
        checked, and neither is whom they are for.
    clock
        Seconds since 1970.
    """

    def __init__(
        self,
        cluster: str,
        tokens: dict[str, str],
        secret_of: Callable[[str], str | None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.cluster, self.tokens, self.secret_of, self.clock = cluster, dict(tokens), secret_of, clock
        self.issued: dict[str, tuple[float, User]] = {}
        self.lock = threading.Lock()

    def user(self, authorization: str) -> User:
        """Tell who sent an `Authorization` header.

        Raises
        ------
        ApiError
            401, if that cannot be told.
        """
        scheme, _, token = authorization.partition(" ")
        try:
            if scheme.lower() != "bearer":
                raise Refused("no bearer token")
            return self.of_token(token.strip())
        except Refused as why:
            raise ApiError(401, "Unauthorized", "Unauthorized") from why

    def of_token(self, token: str) -> User:
        """Tell whose token it is; raises `Refused`."""
        for known, name in self.tokens.items():
            if hmac.compare_digest(known.encode(), token.encode(errors="replace")):
                return User(name)
        if token.startswith(PREFIX):
            return self.of_eks(token)
        with self.lock:
            expires, user = self.issued.get(token, (0.0, None))
        if user is None or expires < self.clock():
            raise Refused("unknown token")
        return user

    def issue(self, user: User, seconds: float) -> tuple[str, float]:
        """Make a token for a service account; give it and when it expires (seconds since 1970)."""
        token, now = f"lab.{secrets.token_urlsafe(32)}", self.clock()
        with self.lock:
            self.issued = {key: each for key, each in self.issued.items() if each[0] > now}
            self.issued[token] = now + seconds, user
        return token, now + seconds

    def of_eks(self, token: str) -> User:
        """Check a token of EKS."""
        if len(token) > LONGEST_TOKEN:
            raise Refused("token is too large")
        encoded = token.removeprefix(PREFIX)
        try:
            url = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True).decode()
            parts = urlsplit(url)
            pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)
        except (binascii.Error, ValueError) as error:
            raise Refused(f"no presigned URL: {error}") from error
        query = {name.lower(): value for name, value in pairs}
        loopback = parts.netloc.startswith(("127.0.0.1", "localhost"))
        if not STS_HOST.fullmatch(parts.netloc) or parts.scheme not in ({"https", "http"} if loopback else {"https"}):
            raise Refused(f"unexpected host or scheme in {parts.scheme}://{parts.netloc}")
        if parts.path not in {"", "/"}:
            raise Refused("unexpected path in the presigned URL")
        if len(query) != len(pairs) or query.keys() - ALLOWED or NEEDED - query.keys():
            raise Refused("the presigned URL's parameters are not those of GetCallerIdentity")
        if query["action"] != "GetCallerIdentity":
            raise Refused("unexpected action")
        signed = query.get("x-amz-signedheaders", "").lower().split(";")
        if CLUSTER_HEADER not in signed or "host" not in signed:
            raise Refused(f"{CLUSTER_HEADER} is not among the signed headers")
        self.check_time(query)
        scope = query["x-amz-credential"].split("/")
        if len(scope) != 5 or scope[3:] != ["sts", "aws4_request"] or scope[1] != query["x-amz-date"][:8]:
            raise Refused("unexpected X-Amz-Credential")
        if self.secret_of is not None:
            secret = self.secret_of(scope[0])
            headers = {"host": parts.netloc, CLUSTER_HEADER: self.cluster}
            wanted = signature(secret or "", scope, pairs, headers, signed) if secret else ""
            if not wanted or not hmac.compare_digest(wanted.encode(), query["x-amz-signature"].encode()):
                raise Refused(f"not signed for {self.cluster} by a known key")
        return User("kubernetes-admin", uid=f"aws-iam-authenticator:{scope[0]}", extra={"accessKeyId": [scope[0]]})

    def check_time(self, query: dict[str, str]) -> None:
        """Refuse what is expired, or from the future."""
        try:
            when = datetime.datetime.strptime(query["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
        except ValueError as error:
            raise Refused("X-Amz-Date is no time") from error
        age = self.clock() - when.timestamp()
        expires = query.get("x-amz-expires", "60")
        if not (expires.isascii() and expires.isdigit()) or int(expires) > VALID_S:
            raise Refused("invalid X-Amz-Expires")
        # The real one takes a token for 15 minutes whatever X-Amz-Expires says: `aws eks get-token` says 60 s.
        if age > VALID_S or age < -SKEW_S:
            raise Refused("X-Amz-Date is expired, or in the future")


def signature(
    secret: str, scope: list[str], pairs: Iterable[tuple[str, str]], headers: dict[str, str], signed: list[str]
) -> str:
    """Compute the SigV4 signature of a presigned GET (AWS General Reference, "Create a signed request")."""
    rest = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in pairs)
    query = "&".join(f"{name}={value}" for name, value in rest if name.lower() != "x-amz-signature")
    lines = "".join(f"{name}:{headers.get(name, '')}\n" for name in signed)
    request = "\n".join(("GET", "/", query, lines, ";".join(signed), EMPTY))
    date = next((value for name, value in pairs if name.lower() == "x-amz-date"), "")
    text = "\n".join(("AWS4-HMAC-SHA256", date, "/".join(scope[1:]), hashlib.sha256(request.encode()).hexdigest()))
    key = f"AWS4{secret}".encode()
    for each in scope[1:]:
        key = hmac.digest(key, each.encode(), "sha256")
    return hmac.new(key, text.encode(), "sha256").hexdigest()
