"""Decoding, validation and defaults of the built-in kinds."""

from __future__ import annotations

from typing import Any

import pytest
from manifests import Client, deployment, pod, refused

from leptonami.lab.kube import rules
from leptonami.lab.kube.defaults import quality
from leptonami.lab.kube.resources import Registry, builtin
from leptonami.lab.kube.schemas import Schemas, definitions_file, list_keys, merge_key

Object = dict[str, Any]


@pytest.fixture
def client() -> Client:
    return Client()


def test_unknown_fields(client: Client) -> None:
    typo = deployment()
    typo["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
    typo["spec"]["replica"] = 1
    typo["metadata"]["label"] = {}
    options = client.options()
    made = client.store.create(client.kind("deployments"), "default", typo, options=options)
    assert sorted(options.warnings) == [
        'unknown field "metadata.label"',
        'unknown field "spec.replica"',
        'unknown field "spec.template.spec.containers[0].imagee"',
    ]
    assert "replica" not in made["spec"]
    silent = client.options(field_validation="Ignore", dry_run=True)
    client.store.create(client.kind("deployments"), "kube-system", typo, options=silent)
    assert silent.warnings == []
    with refused(400, "BadRequest") as error:
        client.create("deployments", typo, field_validation="Strict")
    assert (
        'Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "'
        in error.value.message
    )
    with refused(400) as error:
        client.patch("deployments", "d", {"spec": {"replica": 2}}, field_validation="Strict")
    assert 'unknown field "spec.replica"' in error.value.message


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (
            "spec.replicas",
            "3",
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "spec.replicas",
            True,
            "json: cannot unmarshal bool into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "spec.paused",
            "yes",
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.paused of type bool",
        ),
        (
            "spec.template.spec.containers",
            {},
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers"
            " of type []v1.Container",
        ),
        (
            "metadata.labels",
            {"a": 1},
            "json: cannot unmarshal number into Go struct field .metadata.labels.a of type string",
        ),
        (
            "spec.template",
            [],
            "cannot unmarshal array into Go struct field DeploymentSpec.spec.template of type v1.PodTemplateSpec",
        ),
        ("spec.template.spec.overhead", {"cpu": "x"}, "quantities must match the regular expression '^([+-]?[0-9.]+)"),
    ],
)
def test_values_of_a_wrong_type(client: Client, path: str, value: Any, told: str) -> None:
    obj = deployment()
    at = obj
    *parents, last = path.split(".")
    for key in parents:
        at = at.setdefault(key, {})
    at[last] = value
    with refused(400, "BadRequest") as error:
        client.create("deployments", obj)
    assert error.value.message.startswith('Deployment in version "v1" cannot be handled as a Deployment: ')
    assert told in error.value.message


def test_nulls_go_and_quantities_become_text(client: Client) -> None:
    resources = {"limits": {"cpu": 1, "memory": "1Gi", "nvidia.com/gpu": 1}}
    sent = pod(
        containers=[{"name": "c", "image": "x", "resources": resources, "command": None}],
        meta={"creationTimestamp": None},
    )
    [container] = client.create("pods", sent)["spec"]["containers"]
    assert "command" not in container
    assert container["resources"]["limits"] == {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"}
    assert container["resources"]["requests"] == container["resources"]["limits"], (
        "what is limited only is requested as much"
    )


@pytest.mark.parametrize(
    ("plural", "obj", "told"),
    [
        ("pods", pod(containers=[]), 'Pod "p" is invalid: spec.containers: Required value'),
        ("pods", pod(containers=[{"image": "x"}]), "spec.containers[0].name: Required value"),
        ("pods", pod(containers=[{"name": "c"}]), "spec.containers[0].image: Required value"),
        ("pods", pod(containers=[{"name": "c", "image": "x"}] * 2), 'spec.containers[1].name: Duplicate value: "c"'),
        (
            "pods",
            pod(restartPolicy="Sometimes"),
            'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always",',
        ),
        (
            "pods",
            pod(
                containers=[
                    {"name": "c", "image": "x", "resources": {"requests": {"x.io/g": 1}, "limits": {"x.io/g": 2}}}
                ]
            ),
            'spec.containers[0].resources.requests: Invalid value: "1": must be equal to x.io/g limit of 2',
        ),
        (
            "deployments",
            {"metadata": {"name": "d"}, "spec": {}},
            'Deployment.apps "d" is invalid: [spec.selector: Required value, spec.template: Required value]',
        ),
        (
            "deployments",
            deployment(selector={"matchLabels": {"a": "b"}}),
            "`selector` does not match template `labels`",
        ),
        (
            "deployments",
            deployment(replicas=-1),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "jobs",
            {"metadata": {"name": "j"}, "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "x"}]}}}},
            'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"',
        ),
        (
            "nodes",
            {"metadata": {"name": "n"}, "spec": {"taints": [{"key": "a", "effect": "Never"}]}},
            'spec.taints[0].effect: Unsupported value: "Never": supported values: "NoExecute", "NoSchedule",',
        ),
        (
            "nodes",
            {"metadata": {"name": "n"}, "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}] * 2}},
            "spec.taints[1]: Duplicate value",
        ),
        (
            "poddisruptionbudgets",
            {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "maxUnavailable": 1}},
            "cannot be both set",
        ),
        ("roles", {"metadata": {"name": "a/b"}}, "may not contain '/'"),
        (
            "configmaps",
            {"metadata": {"name": "c", "annotations": {"a": "x" * (256 << 10)}}},
            "metadata.annotations: Too long: may not be more than 262144 bytes",
        ),
        (
            "configmaps",
            {"metadata": {"name": "c"}, "data": {"a": "x" * (1 << 20), "b": "x"}},
            'ConfigMap "c" is invalid: []: Too long: may not be more than 1048576 bytes',
        ),
        ("secrets", {"metadata": {"name": "s"}, "stringData": {"a": "x" * ((1 << 20) + 3)}}, "data: Too long: may not"),
    ],
)
def test_what_is_refused(client: Client, plural: str, obj: Object, told: str) -> None:
    with refused(422, "Invalid") as error:
        client.create(plural, obj)
    assert told in error.value.message


JOB = {
    "metadata": {"name": "j"},
    "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}},
}


@pytest.mark.parametrize(
    ("plural", "obj", "patch", "told"),
    [
        (
            "pods",
            pod(),
            {"spec": {"schedulerName": "x"}},
            "spec: Forbidden: pod updates may not change fields other than",
        ),
        (
            "deployments",
            deployment(),
            {"spec": {"selector": {"matchLabels": {"b": "c"}}, "template": {"metadata": {"labels": {"b": "c"}}}}},
            'spec.selector: Invalid value: {"matchLabels":{"app":"d","b":"c"}}: field is immutable',
        ),
        ("jobs", JOB, {"spec": {"template": {"spec": {"restartPolicy": "OnFailure"}}}}, "field is immutable"),
        (
            "services",
            {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}},
            {"spec": {"clusterIP": "10.100.9.9"}},
            'spec.clusterIP: Invalid value: "10.100.9.9": may not change once set',
        ),
        (
            "configmaps",
            {"metadata": {"name": "c"}, "immutable": True},
            {"data": {"a": "b"}},
            "data: Forbidden: field is immutable when `immutable` is set",
        ),
        (
            "nodes",
            {"metadata": {"name": "n"}, "spec": {"providerID": "a"}},
            {"spec": {"providerID": "b"}},
            'node updates may not change providerID except from "" to valid',
        ),
    ],
)
def test_what_may_not_change(client: Client, plural: str, obj: Object, patch: Object, told: str) -> None:
    made = client.create(plural, obj)
    with refused(422, "Invalid") as error:
        client.patch(plural, made["metadata"]["name"], patch)
    assert told in error.value.message


def test_what_may_change_in_a_pod(client: Client) -> None:
    client.create("pods", pod())
    tolerations = [*client.get("pods", "p")["spec"]["tolerations"], {"key": "a", "operator": "Exists"}]
    patch = {"spec": {"containers": [{"name": "c", "image": "nginx:2"}], "tolerations": tolerations}}
    made = client.patch("pods", "p", patch, "strategic")
    assert made["spec"]["containers"][0]["image"] == "nginx:2"
    with refused(422) as error:
        client.patch("pods", "p", {"spec": {"tolerations": tolerations[1:]}})
    assert "existing toleration can not be modified" in error.value.message


def test_the_defaults_of_a_pod(client: Client) -> None:
    made = client.create("pods", {**pod(), "status": {"phase": "Running"}})
    spec = made["spec"]
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    wanted = {
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "terminationGracePeriodSeconds": 30,
        "schedulerName": "default-scheduler",
        "serviceAccountName": "default",
        "priority": 0,
    }
    assert wanted.items() <= spec.items()
    assert [(each["key"], each["effect"], each["tolerationSeconds"]) for each in spec["tolerations"]] == [
        ("node.kubernetes.io/not-ready", "NoExecute", 300),
        ("node.kubernetes.io/unreachable", "NoExecute", 300),
    ]
    assert spec["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    latest = client.create(
        "pods", pod("q", containers=[{"name": "c", "image": "host:5000/x"}], tolerations=[{"operator": "Exists"}])
    )
    assert latest["spec"]["containers"][0]["imagePullPolicy"] == "Always"
    assert latest["spec"]["tolerations"] == [{"operator": "Exists"}], "what tolerates everything tolerates these"


def test_a_pod_gets_the_number_of_its_priority_class(client: Client) -> None:
    client.create("priorityclasses", {"metadata": {"name": "high"}, "value": 7, "preemptionPolicy": "Never"}, None)
    spec = client.create("pods", pod(priorityClassName="high"))["spec"]
    assert (spec["priority"], spec["preemptionPolicy"]) == (7, "Never")
    assert client.create("pods", pod("q", priorityClassName="system-node-critical"))["spec"]["priority"] == 2000001000
    with refused(403, "Forbidden") as error:
        client.create("pods", pod("r", priorityClassName="none"))
    assert error.value.message == 'pods "r" is forbidden: no PriorityClass with name none was found'


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ([{}], "BestEffort"),
        ([{"requests": {"nvidia.com/gpu": "1"}}], "BestEffort"),
        ([{"requests": {"cpu": "1"}}], "Burstable"),
        ([{"requests": {"cpu": "1", "memory": "1"}, "limits": {"cpu": "1", "memory": "1"}}], "Guaranteed"),
        ([{"requests": {"cpu": "1", "memory": "1"}, "limits": {"cpu": "1", "memory": "1"}}, {}], "Burstable"),
    ],
)
def test_the_quality_of_service(resources: list[Object], expected: str) -> None:
    assert (
        quality({"containers": [{"name": str(number), "resources": each} for number, each in enumerate(resources)]})
        == expected
    )


def test_the_defaults_of_workloads(client: Client) -> None:
    spec = client.create("deployments", deployment())["spec"]
    assert (spec["replicas"], spec["revisionHistoryLimit"], spec["progressDeadlineSeconds"]) == (1, 10, 600)
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}
    assert spec["template"]["spec"]["schedulerName"] == "default-scheduler"
    job = client.create("jobs", JOB)
    uid = job["metadata"]["uid"]
    assert (job["spec"]["completions"], job["spec"]["parallelism"], job["spec"]["backoffLimit"]) == (1, 1, 6)
    assert job["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    assert job["spec"]["template"]["metadata"]["labels"]["job-name"] == "j"


def test_services_get_addresses_of_their_own(client: Client) -> None:
    made = [
        client.create("services", {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}})
        for name in ("a", "b")
    ]
    addresses = [each["spec"]["clusterIP"] for each in made]
    assert len(set(addresses)) == 2
    assert made[0]["spec"]["clusterIPs"] == addresses[:1]
    assert made[0]["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    again = client.update("services", {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 81}]}})
    assert again["spec"]["clusterIP"] == addresses[0], "an update that is silent keeps it"
    headless = client.create("services", {"metadata": {"name": "h"}, "spec": {"clusterIP": "None"}})
    assert headless["spec"]["clusterIPs"] == ["None"]


def test_a_secret_takes_text(client: Client) -> None:
    made = client.create("secrets", {"metadata": {"name": "s"}, "stringData": {"a": "b"}})
    assert (made["type"], made["data"], "stringData" in made) == ("Opaque", {"a": "Yg=="}, False)


def test_every_built_in_kind_has_its_schema() -> None:
    schemas = Schemas()
    missing = {each.resource for each in builtin() if schemas.of(each) is None}
    assert missing <= {"apiservices.apiregistration.k8s.io"}
    assert set(rules.ENUMERATIONS) <= {each.rpartition(".")[2] for each in schemas.definitions}
    assert {name for name, _ in rules.MAY_BE_MISSING} <= {each.rpartition(".")[2] for each in schemas.definitions}


def test_an_older_version_has_older_schemas() -> None:
    old, new = Schemas("1.26"), Schemas()
    kinds = Registry(builtin())
    assert old.of(kinds.find("resource.k8s.io", "v1", "resourceslices")) is None
    pods = kinds.find("", "v1", "pods")
    assert "resourceClaims" in old.definitions["io.k8s.api.core.v1.PodSpec"]["properties"]
    assert "hostnameOverride" not in old.definitions["io.k8s.api.core.v1.PodSpec"]["properties"]
    assert definitions_file("9.99") == definitions_file("")
    containers = new.child(new.child(new.of(pods) or {}, "spec") or {}, "containers")
    assert (merge_key(containers), list_keys(containers)) == ("name", ("name",))


def test_a_start_reads_no_schema() -> None:
    client = Client()
    assert "definitions" not in vars(client.store.schemas)
