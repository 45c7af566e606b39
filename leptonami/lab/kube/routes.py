"""From a request to an answer: which resource is meant, what is to be done with it, in which form it is given out."""

from __future__ import annotations

import traceback

import orjson

from leptonami.lab.kube import discovery, openapi, reviews
from leptonami.lab.kube.auth import Authenticator
from leptonami.lab.kube.errors import ApiError, bad_request
from leptonami.lab.kube.formats import Format, answer, choose, read
from leptonami.lab.kube.server import Request, Response
from leptonami.lab.kube.store import Store
from leptonami.lab.kube.verbs import Target, Verbs, no_such, not_allowed

__all__ = ["Api"]

OPEN = {"healthz", "livez", "readyz", "version"}  # for anybody, as system:public-info-viewer has it
DEPTH = {"api": 3, "apis": 4}  # from here on a path names resources
# What would need containers that really run, or addresses that lead somewhere.
NOT_HERE = {"exec", "attach", "portforward", "proxy"}
PATHS = ("/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version")
PROBLEM = "an error on the server of the lab"


class Api:
    """Answers requests from a store.

    Parameters
    ----------
    version
        The Kubernetes version that `/version` tells.
    """

    def __init__(self, store: Store, authenticator: Authenticator, version: str) -> None:
        self.store, self.authenticator, self.version = store, authenticator, version
        self.verbs = Verbs(store, authenticator)

    def answer(self, request: Request) -> Response:
        """Answer a request; whatever goes wrong becomes a Status."""
        try:
            return self.dispatch(request)
        except ApiError as problem:
            return self.refusal(problem)
        except (RecursionError, orjson.JSONEncodeError) as error:
            return self.refusal(bad_request(f"the object is nested too deeply: {error}"))
        except Exception as error:  # a mistake of the lab's own must not look like a broken connection
            place = traceback.extract_tb(error.__traceback__)[-1]
            about = f"{PROBLEM}: {type(error).__name__}: {error} ({place.name}, line {place.lineno})"
            return self.refusal(ApiError(500, "InternalError", f"Internal error occurred: {about}"))

    @staticmethod
    def refusal(problem: ApiError) -> Response:
        """Write a Status."""
        response = answer(problem.status(), Format(), problem.code)
        if wait := problem.details.get("retryAfterSeconds"):
            response.headers.append(("Retry-After", str(wait)))
        return response

    def dispatch(self, request: Request) -> Response:
        """Tell apart what the server says of itself, and its resources."""
        parts = request.parts
        if parts and parts[0] in OPEN:
            return self.about_itself(request)
        user = self.authenticator.user(request.headers.get("authorization", ""))
        if not parts or parts[0] == "openapi" or len(parts) < DEPTH.get(parts[0], 0):
            return self.about_itself(request)
        target = self.target(parts)
        if target.subresource in NOT_HERE:
            text = (
                f"leptonami lab: {target.kind.plural}/{target.subresource} is not simulated: no container really runs"
            )
            raise ApiError(501, "NotImplemented", text)
        if (target.kind.group, target.kind.version, target.kind.plural) in reviews.KINDS:
            if request.method != "POST" or target.name:
                raise not_allowed()
            found = reviews.review(target.kind, read(request, self.store.schemas), user, self.authenticator)
            return answer(found, choose(request), 201)
        if target.subresource and target.subresource not in target.kind.subresources:
            raise no_such()
        return self.verbs.answer(request, target)

    # What the server says of itself

    def about_itself(self, request: Request) -> Response:  # noqa: PLR0911 - one line per path
        """Answer discovery, health, the version and the schemas."""
        if request.method not in {"GET", "HEAD"}:
            raise not_allowed()
        kinds = (*self.store.registry.kinds(), *reviews.KINDS.values())
        match request.parts:
            case ():
                return answer({"paths": PATHS}, choose(request))
            case ("version",):
                return answer(discovery.version(self.version), choose(request))
            case ("healthz" | "livez" | "readyz", *checks):
                text = "[+]ping ok\nhealthz check passed\n" if "verbose" in request.query and not checks else "ok"
                return Response(text.encode(), 200, "text/plain; charset=utf-8")
            case ("api" | "apis" as root,):
                form = choose(request, discovery.SHAPES)
                if form.shape:
                    return answer(discovery.aggregated(kinds, form.version, core=root == "api"), form)
                return answer(discovery.versions() if root == "api" else discovery.groups(kinds), form)
            case ("api", "v1"):
                return answer(discovery.resources(kinds, "", "v1"), choose(request))
            case ("apis", group):
                return answer(discovery.group_of(kinds, group), choose(request))
            case ("apis", group, version):
                return answer(discovery.resources(kinds, group, version), choose(request))
            case ("openapi", *rest):
                return openapi.answer(request, rest, kinds, self.store.schemas, self.version)
        raise no_such()

    # Resources

    def target(self, parts: tuple[str, ...]) -> Target:
        """Read the path of a resource."""
        if parts[0] not in {"api", "apis"}:
            raise no_such()
        group, version, *rest = ("", *parts[1:]) if parts[0] == "api" else parts[1:]
        watch = rest[:1] == ["watch"] and len(rest) > 1
        rest = rest[1:] if watch else rest
        namespace: str | None = None
        if len(rest) > 2 and rest[0] == "namespaces" and rest[2] not in {"status", "finalize"}:
            namespace, rest = rest[1], rest[2:]
        kind = reviews.KINDS.get((group, version, rest[0])) or self.store.registry.find(group, version, rest[0])
        name, subresource, *more = [*rest[1:], "", ""][:3] if len(rest) < 4 else rest[1:4]
        if (namespace is not None and not kind.namespaced) or (any(more) and subresource != "proxy"):
            raise no_such()
        if kind.namespaced and namespace is None and name:
            raise no_such()
        return Target(kind, namespace, name, subresource, watch)
