"""The seam to Kubernetes, against a small real HTTPS server on this machine."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from kubeserver import KubeServer, answer, hang, kubeconfig, serving, status

from leptonami import datafiles, kube
from leptonami import kubeconfig as kubeconfigs
from leptonami.errors import CredentialsError, InputError, LeptonamiError, Timeout
from leptonami.kube import Cluster, KubeError, KubeUnreachable, connect

PACKAGE = Path(kube.__file__).parent


@pytest.fixture
def server(tmp_path: Path) -> Iterator[KubeServer]:
    with serving(tmp_path) as running:
        running.take(datafiles.path("recorded/autoscaler/broken-toolkit"))
        yield running


@pytest.fixture
def cluster(server: KubeServer) -> Iterator[Cluster]:
    with connect(kubeconfig=server.kubeconfig, timeout=60) as opened:
        opened.sleep = lambda seconds: None
        yield opened


def test_objects_come_as_the_api_sent_them_with_their_kind(server: KubeServer, cluster: Cluster) -> None:
    found = cluster.objects("pods")
    assert [each["metadata"] for each in found] == [each["metadata"] for each in server.lists["/api/v1/pods"]]
    assert {(each["kind"], each["apiVersion"]) for each in found} == {("Pod", "v1")}
    assert cluster.objects("daemonsets")[0]["apiVersion"] == "apps/v1"


def test_a_loopback_endpoint_is_simulated_and_nothing_is_sent_to_open_it(server: KubeServer, cluster: Cluster) -> None:
    assert (cluster.provenance, cluster.name, server.asked) == ("simulated", "test", [])


def test_another_endpoint_is_measured(server: KubeServer, tmp_path: Path) -> None:
    other = kubeconfig("https://api.example.invalid", tmp_path / "server.crt")
    (tmp_path / "other").write_text(json.dumps(other))
    assert connect(kubeconfig=tmp_path / "other").provenance == "measured"


def test_a_long_listing_is_read_page_by_page(
    server: KubeServer, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube, "PAGE", 3)
    server.lists["/api/v1/nodes"] = [{"metadata": {"name": f"n{number}"}} for number in range(10)]
    names = [each["metadata"]["name"] for each in cluster.objects("nodes")]
    assert names == [f"n{number}" for number in range(10)]
    assert [path for _, path in server.asked] == [
        "/api/v1/nodes?limit=3",
        "/api/v1/nodes?limit=3&continue=3",
        "/api/v1/nodes?limit=3&continue=6",
        "/api/v1/nodes?limit=3&continue=9",
    ]


def test_pages_that_expired_are_read_anew_without_a_limit(
    server: KubeServer, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube, "PAGE", 3)
    server.lists["/api/v1/nodes"] = [{"metadata": {"name": f"n{number}"}} for number in range(10)]
    server.wrong["/api/v1/nodes"] = lambda handler, query: (
        status(handler, 410, "The provided continue parameter is too old") if "continue" in query else False
    )
    assert len(cluster.objects("nodes")) == 10
    assert server.asked[-1] == ("GET", "/api/v1/nodes")


def test_a_listing_that_does_not_end_is_left(server: KubeServer, cluster: Cluster) -> None:
    page = {"metadata": {"continue": "again"}, "items": [{"metadata": {"name": "a"}}]}
    server.wrong["/api/v1/nodes"] = lambda handler, query: answer(handler, 200, json.dumps(page).encode())
    with pytest.raises(KubeUnreachable, match="does not end"):
        cluster.objects("nodes")
    assert len(server.asked) == 2


def test_namespace_and_labels_narrow_what_is_asked(server: KubeServer, cluster: Cluster) -> None:
    server.lists["/api/v1/namespaces/gpu-operator/pods"] = []
    assert cluster.objects("pods", namespace="gpu-operator", labels="app=nvidia-device-plugin-daemonset") == []
    assert server.asked[-1][1].startswith("/api/v1/namespaces/gpu-operator/pods?labelSelector=app%3Dnvidia-device")


def test_a_list_that_go_left_null_is_empty(server: KubeServer, cluster: Cluster) -> None:
    server.wrong["/api/v1/nodes"] = lambda handler, query: answer(handler, 200, b'{"metadata": {}, "items": null}')
    assert cluster.objects("nodes") == []


def test_what_a_cluster_need_not_have_is_empty_and_what_it_must_have_is_an_error(
    server: KubeServer, cluster: Cluster
) -> None:
    assert cluster.objects("clusterpolicies") == []
    del server.lists["/api/v1/nodes"]
    with pytest.raises(KubeError, match="no nodes"):
        cluster.objects("nodes")


def test_an_older_group_version_is_asked_for_when_the_newer_is_missing(server: KubeServer, cluster: Cluster) -> None:
    del server.lists["/apis/policy/v1/poddisruptionbudgets"]
    server.lists["/apis/policy/v1beta1/poddisruptionbudgets"] = [{"metadata": {"name": "web"}}]
    assert [each["apiVersion"] for each in cluster.objects("poddisruptionbudgets")] == ["policy/v1beta1"]


def test_one_object_or_none(server: KubeServer, cluster: Cluster) -> None:
    server.documents["/api/v1/namespaces/kube-system/configmaps/cluster-autoscaler-status"] = {"data": {"status": "x"}}
    found = cluster.object("configmaps", "cluster-autoscaler-status", "kube-system")
    assert found == {"data": {"status": "x"}}
    assert cluster.object("configmaps", "another", "kube-system") is None


def test_a_name_cannot_lead_to_another_path(server: KubeServer, cluster: Cluster) -> None:
    assert cluster.object("configmaps", "../../../../nodes?x=", "kube-system") is None
    assert server.asked[-1][1] == "/api/v1/namespaces/kube-system/configmaps/..%2F..%2F..%2F..%2Fnodes%3Fx%3D"


def test_a_log_comes_in_blocks_with_its_times(server: KubeServer, cluster: Cluster) -> None:
    text = b"2026-11-23T10:00:00Z I1123 10:00:00.000000 1 a.go:1] x\n" * 5000
    server.logs["/api/v1/namespaces/kube-system/pods/ca-0/log"] = text
    blocks = list(cluster.log("kube-system", "ca-0"))
    assert b"".join(blocks) == text
    assert max(map(len, blocks)) <= kube.BLOCK < len(text)
    assert server.asked[-1][1].endswith("/log?timestamps=true")


def test_forbidden_names_the_verb_and_the_resource(server: KubeServer, cluster: Cluster) -> None:
    said = 'pods is forbidden: User "me" cannot list resource "pods" in API group ""'
    server.wrong["/api/v1/pods"] = lambda handler, query: status(handler, 403, said)
    with pytest.raises(CredentialsError, match="not allowed to list pods in the whole cluster") as caught:
        cluster.objects("pods")
    assert said in str(caught.value)
    assert caught.value.hint is not None and "'list' on pods" in caught.value.hint
    assert caught.value.exit_code == 4


def test_a_token_that_is_not_known_is_a_question_of_credentials(server: KubeServer, tmp_path: Path) -> None:
    (tmp_path / "bad").write_text(json.dumps(kubeconfig(server.url, tmp_path / "server.crt", token="stale")))
    with connect(kubeconfig=tmp_path / "bad", timeout=60) as cluster, pytest.raises(CredentialsError, match="401"):
        cluster.objects("nodes")


def test_a_server_that_hangs_runs_into_the_time_out(server: KubeServer, cluster: Cluster) -> None:
    cluster.objects("pods")  # the connection is there: that it takes its time is another matter
    cluster.timeout = 0.3
    server.wrong["/api/v1/nodes"] = hang(30)
    with pytest.raises(Timeout, match=r"no answer for 0.3 s") as caught:
        cluster.objects("nodes")
    assert "list nodes" in str(caught.value)
    assert len(server.asked) == 2


def test_a_server_that_drips_runs_into_the_deadline(server: KubeServer, cluster: Cluster) -> None:
    now = iter(range(0, 10_000, 100))
    cluster.clock = lambda: float(next(now))
    server.logs["/api/v1/namespaces/a/pods/b/log"] = b"x" * 1_000_000
    with pytest.raises(Timeout, match="more than 300 s"):
        list(cluster.log("a", "b"))


@pytest.mark.parametrize(
    ("body", "words"),
    [(b"<html>nginx</html>", "not JSON"), (b"[1, 2]", "no object"), (b'{"items": 5}', "no list"), (b"{", "not JSON")],
)
def test_answers_that_make_no_sense(server: KubeServer, cluster: Cluster, body: bytes, words: str) -> None:
    server.wrong["/api/v1/nodes"] = lambda handler, query: answer(handler, 200, body)
    with pytest.raises(KubeUnreachable, match=words):
        cluster.objects("nodes")


def test_objects_of_any_type_are_left_out_or_passed_on(server: KubeServer, cluster: Cluster) -> None:
    body = json.dumps({"items": [5, None, {"metadata": None}, ["x"], {"kind": 7}], "metadata": {"continue": ""}})
    server.wrong["/api/v1/nodes"] = lambda handler, query: answer(handler, 200, body.encode())
    assert [each["kind"] for each in cluster.objects("nodes")] == ["Node", 7]


def test_a_connection_that_is_closed_in_the_middle(server: KubeServer, cluster: Cluster) -> None:
    def half(handler: BaseHTTPRequestHandler, query: dict[str, list[str]]) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"items": [')
        handler.close_connection = True
        return True

    server.wrong["/api/v1/nodes"] = half
    with pytest.raises(KubeUnreachable, match="cannot be reached"):
        cluster.objects("nodes")


def test_a_busy_server_is_asked_again_after_the_pause_it_names(server: KubeServer, cluster: Cluster) -> None:
    pauses: list[float] = []
    cluster.sleep = pauses.append
    left = [429, 503]

    def busy(handler: BaseHTTPRequestHandler, query: dict[str, list[str]]) -> bool:
        if not left:
            return False
        handler.send_response(left.pop(0))
        handler.send_header("Retry-After", "3600" if left else "1")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    server.wrong["/api/v1/nodes"] = busy
    assert cluster.objects("nodes")
    assert pauses == [kube.LONGEST_PAUSE, 1.0]


def test_a_server_that_stays_broken_is_left_after_some_tries(server: KubeServer, cluster: Cluster) -> None:
    server.wrong["/api/v1/nodes"] = lambda handler, query: status(handler, 500, "etcdserver: request timed out")
    with pytest.raises(KubeError, match="500: etcdserver: request timed out") as caught:
        cluster.objects("nodes")
    assert (caught.value.status, len(server.asked)) == (500, kube.ATTEMPTS)


def test_redirects_are_not_followed(server: KubeServer, cluster: Cluster) -> None:
    def elsewhere(handler: BaseHTTPRequestHandler, query: dict[str, list[str]]) -> bool:
        handler.send_response(302)
        handler.send_header("Location", "/api/v1/pods")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    server.wrong["/api/v1/nodes"] = elsewhere
    with pytest.raises(KubeError, match="302"):
        cluster.objects("nodes")
    assert len(server.asked) == 1


def test_a_certificate_that_nobody_vouches_for(server: KubeServer, tmp_path: Path) -> None:
    untrusted = kubeconfig(server.url, tmp_path / "server.crt", trusted=False)
    (tmp_path / "untrusted").write_text(json.dumps(untrusted))
    with connect(kubeconfig=tmp_path / "untrusted") as cluster, pytest.raises(KubeUnreachable, match="be trusted"):
        cluster.objects("nodes")
    assert server.asked == []


def test_nobody_there(server: KubeServer, tmp_path: Path) -> None:
    (tmp_path / "nobody").write_text(json.dumps(kubeconfig("https://127.0.0.1:1", tmp_path / "server.crt")))
    with connect(kubeconfig=tmp_path / "nobody") as cluster, pytest.raises(KubeUnreachable, match="be reached"):
        cluster.objects("nodes")


def test_nothing_but_get_is_sent(server: KubeServer, cluster: Cluster) -> None:
    for plural in kube.RESOURCES:
        cluster.objects(plural)
    cluster.object("configmaps", "x", "y")
    assert {verb for verb, _ in server.asked} == {"GET"}
    source = (PACKAGE / "kube.py").read_text() + (PACKAGE / "kubeconfig.py").read_text()
    assert not {each for each in ("POST", "PUT", "PATCH", "DELETE") if f'"{each}"' in source}


def test_no_other_module_touches_the_client() -> None:
    # The lab is a server, and its fleet a client of its own.
    modules = [each for each in PACKAGE.rglob("*.py") if PACKAGE / "lab" not in each.parents]
    assert {each.name for each in modules if imports_kubernetes(each.read_text())} == {"kubeconfig.py"}


def imports_kubernetes(source: str) -> bool:
    words = ("import kubernetes", "from kubernetes", 'import_module("kubernetes', 'kubernetes_module("')
    return any(re.search(rf"^ *[^#\n]*{re.escape(each)}", source, re.MULTILINE) for each in words)


# --- the kubeconfig ---------------------------------------------------------------------------------------------------


def test_no_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(InputError, match="no kubeconfig") as caught:
        connect()
    assert caught.value.hint is not None and "update-kubeconfig" in caught.value.hint


def test_the_environment_names_the_file_when_it_is_opened(server: KubeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", f"{server.kubeconfig}{os.pathsep}/nowhere")
    assert connect().host == server.url


def test_a_context_that_is_not_there_names_those_that_are(server: KubeServer) -> None:
    with pytest.raises(InputError, match="no context 'tset'") as caught:
        connect("tset", kubeconfig=server.kubeconfig)
    assert caught.value.hint is not None and "contexts: test" in caught.value.hint


def test_the_kubeconfig_is_never_written(server: KubeServer) -> None:
    before = server.kubeconfig.read_bytes(), server.kubeconfig.stat().st_mtime_ns
    connect(kubeconfig=server.kubeconfig, timeout=60).objects("nodes")
    assert (server.kubeconfig.read_bytes(), server.kubeconfig.stat().st_mtime_ns) == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "[]",
        "{",
        "contexts: 5\ncurrent-context: x\n",
        "contexts: [5]\ncurrent-context: x\n",
        "contexts:\n- name: a\ncurrent-context: a\n",
        "contexts:\n- name: a\n  context: {cluster: c, user: u}\ncurrent-context: a\nclusters: []\nusers: []\n",
        "contexts:\n- name: a\n  context: {cluster: c, user: u}\ncurrent-context: a\n"
        "clusters:\n- name: c\n  cluster: {server: 'file:///etc/passwd'}\nusers:\n- name: u\n  user: {token: t}\n",
        "contexts:\n- name: a\n  context: {cluster: c, user: u}\ncurrent-context: a\n"
        "clusters:\n- name: c\n  cluster: {server: 'https://x', certificate-authority-data: 'a'}\n"
        "users:\n- name: u\n  user: {token: t}\n",
        "\x00\x01",
    ],
)
def test_a_damaged_kubeconfig_is_an_input_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(LeptonamiError) as caught:
        connect(kubeconfig=tmp_path / "config")
    assert caught.value.exit_code == 2


def test_a_credential_plug_in_that_fails_is_told(server: KubeServer, tmp_path: Path) -> None:
    plugin = tmp_path / "get-token"
    plugin.write_text("#!/bin/sh\necho 'Token has expired and refresh failed' >&2\nexit 255\n")
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    config = kubeconfig(server.url, tmp_path / "server.crt")
    config["users"][0]["user"] = {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": str(plugin), "args": []}
    }
    (tmp_path / "config").write_text(json.dumps(config))
    with pytest.raises(CredentialsError, match="Token has expired and refresh failed"):
        connect(kubeconfig=tmp_path / "config")


def test_a_credential_plug_in_that_works(server: KubeServer, tmp_path: Path) -> None:
    plugin = tmp_path / "get-token"
    token = {"apiVersion": "client.authentication.k8s.io/v1beta1", "kind": "ExecCredential"}
    token["status"] = {"token": "a-token-of-this-test"}  # type: ignore[assignment] # a document of any shape
    plugin.write_text(f"#!/bin/sh\necho '{json.dumps(token)}'\n")
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    config = kubeconfig(server.url, tmp_path / "server.crt")
    config["users"][0]["user"] = {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": str(plugin), "args": []}
    }
    (tmp_path / "config").write_text(json.dumps(config))
    assert connect(kubeconfig=tmp_path / "config", timeout=60).objects("nodes")


def test_a_certificate_that_is_none_is_told_when_it_is_used(server: KubeServer, tmp_path: Path) -> None:
    config = kubeconfig(server.url, tmp_path / "server.crt")
    config["clusters"][0]["cluster"]["certificate-authority-data"] = "%%%"
    (tmp_path / "config").write_text(json.dumps(config))
    with connect(kubeconfig=tmp_path / "config") as cluster, pytest.raises(LeptonamiError, match="list nodes"):
        cluster.objects("nodes")


def test_inside_a_pod_its_service_account_is_used(
    server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-of-this-test")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setattr(kubeconfigs, "TOKEN_FILE", token)
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_CERT_FILENAME", str(tmp_path / "server.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", server.url.rpartition(":")[2])
    with connect(timeout=60) as cluster:
        assert (cluster.name, bool(cluster.objects("nodes"))) == ("in-cluster", True)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    with pytest.raises(InputError, match="service account cannot be used"):
        connect()
