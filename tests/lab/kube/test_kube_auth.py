"""Who is let in: tokens of EKS as botocore signs them, the lab's token, service accounts; and the TLS around it.

The rules of an EKS token: https://github.com/kubernetes-sigs/aws-iam-authenticator, pkg/token/token.go.
"""

from __future__ import annotations

import base64
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import botocore.session
import pytest
from botocore.credentials import Credentials
from botocore.model import ServiceId
from botocore.signers import RequestSigner

from leptonami.lab.kube import Server, start
from leptonami.lab.kube.auth import Authenticator, Refused
from leptonami.lab.kube.errors import ApiError

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
REGION = "us-west-2"


def url(
    cluster: str = "a-cluster",
    *,
    secret: str = SECRET,
    session_token: str | None = None,
    expires: int = 60,
    endpoint: str = f"https://sts.{REGION}.amazonaws.com",
) -> str:
    """Presign as `aws eks get-token` does."""
    credentials = Credentials(KEY, secret, session_token)
    session = botocore.session.get_session()
    signer = RequestSigner(ServiceId("STS"), REGION, "sts", "v4", credentials, session.get_component("event_emitter"))
    request = {
        "method": "GET",
        "url": f"{endpoint}/?Action=GetCallerIdentity&Version=2011-06-15",
        "body": {},
        "headers": {"x-k8s-aws-id": cluster},
        "context": {},
    }
    return signer.generate_presigned_url(request, "", expires, REGION)


def token(signed: str) -> str:
    return "k8s-aws-v1." + base64.urlsafe_b64encode(signed.encode()).decode().rstrip("=")


def authenticator(*, later: float = 0, secret_of: Callable[[str], str | None] | None = None) -> Authenticator:
    known = secret_of or {KEY: SECRET}.get
    return Authenticator("a-cluster", {"the-lab-token": "lab-admin"}, known, lambda: time.time() + later)


def test_a_token_of_eks_is_who_its_access_key_is() -> None:
    user = authenticator().user("Bearer " + token(url()))
    assert user.name == "kubernetes-admin"
    assert user.extra == {"accessKeyId": [KEY]}
    assert "system:masters" in user.info()["groups"]


def test_temporary_credentials_and_the_labs_own_endpoint_do_as_well() -> None:
    authenticator().of_token(token(url(session_token="a/session+token==")))
    authenticator().of_token(token(url(endpoint="http://127.0.0.1:5000")))


@pytest.mark.parametrize("later", [14 * 60, -4 * 60])
def test_a_token_holds_for_fifteen_minutes_and_clocks_may_differ_a_little(later: float) -> None:
    authenticator(later=later).of_token(token(url()))


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda: token(url("another-cluster")), id="signed for another cluster"),
        pytest.param(lambda: token(url(secret="another")), id="signed with another secret"),
        pytest.param(lambda: token(url().replace(KEY, "AKIAUNKNOWN")), id="an unknown key"),
        pytest.param(lambda: token(url().replace("x-k8s-aws-id", "x-other")), id="the cluster is not signed"),
        pytest.param(lambda: token(url().replace("amazonaws.com", "example.com")), id="another host"),
        pytest.param(lambda: token(url().replace("https://", "http://")), id="no TLS"),
        pytest.param(lambda: token(url().replace("GetCallerIdentity", "GetSessionToken")), id="another action"),
        pytest.param(lambda: token(url() + "&More=1"), id="an unknown parameter"),
        pytest.param(lambda: token(url() + "&Action=GetCallerIdentity"), id="a parameter twice"),
        pytest.param(lambda: token(url(expires=901)), id="too long"),
        pytest.param(lambda: token(url().replace("/?", "/path?")), id="a path"),
        pytest.param(lambda: token("https://sts.amazonaws.com/"), id="no parameters"),
        pytest.param(lambda: token(url()) + "!", id="not base64"),
        pytest.param(lambda: "k8s-aws-v1." + "A" * 5000, id="endless"),
        pytest.param(lambda: "k8s-aws-v2." + token(url()).removeprefix("k8s-aws-v1."), id="another version"),
        pytest.param(lambda: "the-lab-tokem", id="nearly the lab's token"),
        pytest.param(lambda: "", id="nothing"),
    ],
)
def test_anything_else_is_unauthorized(wrong: Callable[[], str]) -> None:
    with pytest.raises(ApiError) as caught:
        authenticator().user("Bearer " + wrong())
    assert caught.value.status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "Unauthorized",
        "reason": "Unauthorized",
        "code": 401,
    }


@pytest.mark.parametrize("later", [16 * 60, -6 * 60])
def test_an_old_token_and_one_of_the_future_are_refused(later: float) -> None:
    signed = token(url())
    with pytest.raises(Refused, match="expired"):
        authenticator(later=later).of_token(signed)


def test_a_token_whose_form_is_right_is_believed_where_no_secret_is_known() -> None:
    Authenticator("a-cluster", {}).of_token(token(url("any-cluster")))


def ask(server: Server, path: str, authorization: str = "", ca: str = "") -> tuple[int, Any]:
    request = urllib.request.Request(
        server.url + path, headers={"Authorization": authorization} if authorization else {}
    )
    context = ssl.create_default_context(cadata=ca or server.ca_pem)
    try:
        with urllib.request.urlopen(request, context=context, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_over_https_with_a_token_of_eks_and_without() -> None:
    with start("a-cluster", secret_of={KEY: SECRET}.get) as server:
        assert ask(server, "/api/v1/namespaces", "Bearer " + token(url()))[0] == 200
        assert ask(server, "/api/v1/namespaces", "Bearer " + token(url("other")))[0] == 401
        assert ask(server, "/api/v1/namespaces")[1]["reason"] == "Unauthorized"
        assert ask(server, "/api/v1/namespaces", "Basic YTpi")[0] == 401
        assert ask(server, "/readyz")[0] == 200
        assert ask(server, "/version")[0] == 200


def test_a_stranger_to_its_authority_does_not_talk_to_it(server: Server) -> None:
    with start("another") as other, pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        ask(server, "/readyz", ca=other.ca_pem)


def test_strict_clients_take_the_certificates(server: Server) -> None:
    context = ssl.create_default_context(cadata=server.ca_pem)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with urllib.request.urlopen(server.url + "/readyz", context=context, timeout=60) as answer:
        assert answer.read() == b"ok"
