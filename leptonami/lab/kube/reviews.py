"""Resources that are only questions: who am I, may I, whose token is this. Nothing of them is stored.

The lab has no RBAC: everything is allowed to whom it knows.
"""

from __future__ import annotations

from typing import Any

from leptonami.lab.kube.auth import Authenticator, Refused, User
from leptonami.lab.kube.errors import bad_request
from leptonami.lab.kube.objects import timestamp, value_at
from leptonami.lab.kube.resources import Kind

__all__ = ["KINDS", "review", "token_request"]

ALLOWED = {"allowed": True, "reason": "leptonami lab: no RBAC, everything is allowed"}
LONGEST_TOKEN_S = 24 * 3600
SHORTEST_TOKEN_S = 600


def virtual(group: str, plural: str, kind: str, *, namespaced: bool = False) -> Kind:
    """Give a kind that can only be created."""
    return Kind(group, "v1", plural, kind, kind.lower(), namespaced, storage=f"{plural}.{group}", verbs=("create",))


KINDS: dict[tuple[str, str, str], Kind] = {
    (each.group, each.version, each.plural): each
    for each in (
        virtual("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
        virtual("authentication.k8s.io", "tokenreviews", "TokenReview"),
        virtual("authorization.k8s.io", "localsubjectaccessreviews", "LocalSubjectAccessReview", namespaced=True),
        virtual("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
        virtual("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
        virtual("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview"),
    )
}


def review(kind: Kind, body: Any, user: User, authenticator: Authenticator) -> dict[str, Any]:
    """Answer a question."""
    if not isinstance(body, dict) or body.get("kind", kind.kind) != kind.kind:
        raise bad_request(f"the body must be a {kind.kind}")
    spec, metadata = body.get("spec") or {}, body.get("metadata") or {}
    if not isinstance(spec, dict) or not isinstance(metadata, dict):
        raise bad_request(f"the spec and the metadata of a {kind.kind} must be objects")
    match kind.kind:
        case "SelfSubjectReview":
            status: dict[str, Any] = {"userInfo": user.info()}
        case "TokenReview":
            try:
                found = authenticator.of_token(str(spec.get("token", "")))
                status = {"authenticated": True, "user": found.info(), "audiences": spec.get("audiences") or ["lab"]}
            except Refused:
                status = {"authenticated": False, "error": "invalid bearer token", "user": {}}
        case "SelfSubjectRulesReview":
            status = {
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
                "incomplete": False,
            }
        case _:
            status = ALLOWED
    metadata = {"creationTimestamp": None, **metadata}
    return {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata, "spec": spec, "status": status}


def token_request(account: dict[str, Any], body: Any, authenticator: Authenticator) -> dict[str, Any]:
    """Make a token for a service account (`kubectl create token`)."""
    spec = value_at(body, "spec", {})
    if not isinstance(spec, dict):
        raise bad_request("the spec of a TokenRequest must be an object")
    wanted = spec.get("expirationSeconds") or 3600
    if not isinstance(wanted, int) or wanted < SHORTEST_TOKEN_S:
        raise bad_request("spec.expirationSeconds: Invalid value: may not specify a duration less than 10 minutes")
    metadata = account["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    user = User(f"system:serviceaccount:{namespace}:{name}", groups, metadata.get("uid", ""))
    token, _ = authenticator.issue(user, min(wanted, LONGEST_TOKEN_S))
    spec = spec | {"audiences": spec.get("audiences") or ["lab"], "expirationSeconds": wanted}
    return {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": timestamp()},
        "spec": spec,
        "status": {"token": token, "expirationTimestamp": timestamp(min(wanted, LONGEST_TOKEN_S))},
    }
