"""EKS's clusters, their access entries and add-ons, as AWS describes them."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from helpers import Account, Joining, eventually, refused

from leptonami import catalog
from leptonami.lab.planes import Client

pytestmark = pytest.mark.lab
ROLE = "arn:aws:iam::123456789012:role/leptonami-cluster"
VIEW = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"
SOMEBODY = "arn:aws:iam::123456789012:role/somebody"


def subnets(account: Account) -> list[str]:
    found = account.ec2.describe_subnets()["Subnets"]
    return [each["SubnetId"] for each in sorted(found, key=lambda each: str(each["AvailabilityZone"]))]


def create(account: Account, name: str, **more: Any) -> Any:
    network = {"subnetIds": subnets(account)[:2]}
    return account.eks.create_cluster(**{"name": name, "roleArn": ROLE, "resourcesVpcConfig": network, **more})[
        "cluster"
    ]


def status(account: Account, name: str) -> str:
    found: str = account.eks.describe_cluster(name=name)["cluster"]["status"]
    return found


def update_of(account: Account, update: Any, name: str = "leptonami", **more: str) -> Any:
    def shown() -> Any:
        return account.eks.describe_update(name=name, updateId=update["id"], **more)["update"]

    eventually(lambda: shown()["status"] != "InProgress", f"the end of {update['type']}")
    return shown()


# Clusters -----------------------------------------------------------------------------------------------------------


def test_a_cluster_is_created_over_time_answers_and_is_deleted_over_time(own_cluster: Account) -> None:
    account = own_cluster
    with account.lab.held():
        access = {"authenticationMode": "API"}
        made = create(account, "second", version="1.34", tags={"of": "test"}, accessConfig=access)
        assert (made["status"], made["version"], made["tags"]) == ("CREATING", "1.34", {"of": "test"})
        assert "endpoint" not in made and made["certificateAuthority"] == {}
        assert made["accessConfig"] == {"bootstrapClusterCreatorAdminPermissions": True, **access}
        refused("ResourceInUseException", account.eks.delete_cluster, says="CREATING", name="second")
        refused("InvalidRequestException", account.eks.create_addon, clusterName="second", addonName="vpc-cni")
    eventually(lambda: status(account, "second") == "ACTIVE", "the cluster")
    found = account.eks.describe_cluster(name="second")["cluster"]
    assert found["endpoint"].startswith("https://127.0.0.1:") and found["certificateAuthority"]["data"]
    group = found["resourcesVpcConfig"]["clusterSecurityGroupId"]
    (shown,) = account.ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    assert shown["GroupName"].startswith("eks-cluster-sg-second-")
    assert account.eks.list_clusters()["clusters"] == ["leptonami", "second"]
    (there,) = [each for each in account.lab.clusters() if each["name"] == "second"]
    assert there["version"] == "1.34" and there["nodes"] == {"count": 0, "ready": 0}
    assert account.eks.delete_cluster(name="second")["cluster"]["status"] == "DELETING"
    eventually(lambda: account.eks.list_clusters()["clusters"] == ["leptonami"], "the cluster's end")
    refused("InvalidGroup.NotFound", account.ec2.describe_security_groups, GroupIds=[group])
    assert not Path(there["kubeconfig"]).exists()


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"name": "leptonami"}, "ResourceInUseException", "Cluster already exists with name: leptonami"),
        ({"name": "-x"}, "InvalidParameterException", ""),
        ({"version": "1.99"}, "InvalidParameterException", "unsupported Kubernetes version"),
        ({"roleArn": "arn:aws:iam::123456789012:role/none"}, "InvalidParameterException", "could not be assumed"),
        ({"roleArn": "arn:aws:iam::123456789012:role/leptonami-node"}, "InvalidParameterException", "trusted entity"),
        ({"resourcesVpcConfig": {"subnetIds": ["subnet-0"]}}, "InvalidParameterException", "subnet-0"),
        ({"resourcesVpcConfig": {"subnetIds": []}}, "InvalidParameterException", "at least two different AZs"),
        ({"outpostConfig": {"outpostArns": [], "controlPlaneInstanceType": "x"}}, "LabNotImplemented", "outpostConfig"),
        ({"computeConfig": {"enabled": True}}, "LabNotImplemented", "computeConfig"),
        ({"deletionProtection": True}, "LabNotImplemented", "deletionProtection"),
    ],
)
def test_clusters_that_eks_refuses(clustered: Account, change: dict[str, Any], code: str, says: str) -> None:
    network = {"subnetIds": subnets(clustered)[:2]}
    request = {"name": "refused", "roleArn": ROLE, "resourcesVpcConfig": network, **change}
    refused(code, clustered.eks.create_cluster, says=says, **request)
    assert clustered.eks.list_clusters()["clusters"] == ["leptonami"]


def test_a_request_token_makes_one_cluster(clustered: Account) -> None:
    first = create(clustered, "once", clientRequestToken="token-1")
    assert create(clustered, "once", clientRequestToken="token-1")["arn"] == first["arn"]
    code = "InvalidParameterException"
    network = {"subnetIds": subnets(clustered)[:2]}
    request: Any = {"roleArn": ROLE, "resourcesVpcConfig": network, "clientRequestToken": "token-1"}
    refused(code, clustered.eks.create_cluster, name="other", **request)
    for _ in range(2):  # once it is gone, the token makes another one
        made = create(clustered, "once", clientRequestToken="token-1")
        eventually(lambda: status(clustered, "once") == "ACTIVE", "the cluster")
        clustered.eks.delete_cluster(name="once")
        eventually(lambda: "once" not in clustered.eks.list_clusters()["clusters"], "the cluster's end")
    assert made["identity"] != first["identity"]


def test_names_that_are_not_there(clustered: Account) -> None:
    says = "No cluster found for name: nobody."
    for operation in ("describe_cluster", "delete_cluster", "list_updates"):
        refused("ResourceNotFoundException", getattr(clustered.eks, operation), says=says, name="nobody")
    for operation in ("list_nodegroups", "list_addons"):
        refused("ResourceNotFoundException", getattr(clustered.eks, operation), says=says, clusterName="nobody")


def test_the_calendar_is_the_catalogs(clustered: Account) -> None:
    every = clustered.eks.describe_cluster_versions(includeAll=True)["clusterVersions"]
    dates = {each["clusterVersion"]: each["endOfStandardSupportDate"].date() for each in every}
    assert dates == {name: each.standard_until for name, each in catalog.load().kubernetes.items()}
    (one,) = clustered.eks.describe_cluster_versions(clusterVersions=["1.26"])["clusterVersions"]
    assert (one["versionStatus"], one["status"]) == ("UNSUPPORTED", "unsupported")
    (default,) = clustered.eks.describe_cluster_versions(defaultOnly=True)["clusterVersions"]
    assert default["defaultVersion"]
    supported = clustered.eks.describe_cluster_versions()["clusterVersions"]
    assert "UNSUPPORTED" not in {each["versionStatus"] for each in supported}


def test_a_cluster_goes_up_one_minor_version_at_a_time(clustered: Account) -> None:
    create(clustered, "rises", version="1.33")
    eventually(lambda: status(clustered, "rises") == "ACTIVE", "the cluster")
    found = clustered.eks.describe_cluster(name="rises")["cluster"]
    kube = Client(found["endpoint"], base64.b64decode(found["certificateAuthority"]["data"]).decode(), "")
    assert kube.ask("GET", "/version")[1]["gitVersion"].startswith("v1.33.")
    update = clustered.eks.update_cluster_version
    says = "Unsupported Kubernetes minor version update from 1.33 to 1.35"
    refused("InvalidParameterException", update, says=says, name="rises", version="1.35")
    refused("InvalidParameterException", update, says="from 1.33 to 1.32", name="rises", version="1.32")
    begun = update(name="rises", version="1.34")["update"]
    assert (begun["type"], begun["status"]) == ("VersionUpdate", "InProgress")
    assert {"type": "Version", "value": "1.34"} in begun["params"]
    assert update_of(clustered, begun, "rises")["status"] == "Successful"
    assert clustered.eks.describe_cluster(name="rises")["cluster"]["version"] == "1.34"
    assert kube.ask("GET", "/version")[1]["gitVersion"].startswith("v1.34.")
    kube.pool.clear()
    assert clustered.eks.list_updates(name="rises")["updateIds"] == [begun["id"]]
    refused("ResourceNotFoundException", clustered.eks.describe_update, name="rises", updateId="none")
    clustered.eks.delete_cluster(name="rises")
    eventually(lambda: "rises" not in clustered.eks.list_clusters()["clusters"], "the cluster's end")


def test_a_cluster_takes_one_update_at_a_time(own_cluster: Account) -> None:
    update = own_cluster.eks.update_cluster_version
    with own_cluster.lab.held():
        begun = update(name="leptonami", version="1.34")["update"]
        refused("ResourceInUseException", update, name="leptonami", version="1.34")
        request = {"clusterName": "leptonami", "addonName": "vpc-cni"}
        refused("ResourceInUseException", own_cluster.eks.create_addon, **request)
    assert update_of(own_cluster, begun)["status"] == "Successful"


def test_tags_are_kept(clustered: Account) -> None:
    arn = clustered.eks.describe_cluster(name="leptonami")["cluster"]["arn"]
    clustered.eks.tag_resource(resourceArn=arn, tags={"a": "1", "b": "2"})
    clustered.eks.untag_resource(resourceArn=arn, tagKeys=["a"])
    assert clustered.eks.list_tags_for_resource(resourceArn=arn)["tags"] == {"b": "2"}
    refused("NotFoundException", clustered.eks.list_tags_for_resource, resourceArn=arn + "x")


@pytest.mark.parametrize(
    ("operation", "request_"),
    [
        ("list_pod_identity_associations", {"clusterName": "leptonami"}),
        ("list_fargate_profiles", {"clusterName": "leptonami"}),
        ("update_cluster_config", {"name": "leptonami", "deletionProtection": True}),
        ("list_insights", {"clusterName": "leptonami"}),
        ("list_identity_provider_configs", {"clusterName": "leptonami"}),
    ],
)
def test_what_eks_lacks_in_the_lab_it_says(clustered: Account, operation: str, request_: dict[str, Any]) -> None:
    refused("LabNotImplemented", getattr(clustered.eks, operation), **request_)


# Reaching it --------------------------------------------------------------------------------------------------------


def test_the_kubeconfig_is_private_and_works(clustered: Account) -> None:
    file = Path(clustered.lab.kubeconfig)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert clustered.lab.environment["KUBECONFIG"] == str(file)
    status, found = Joining(clustered).kube.ask("GET", "/version")
    assert (status, found["minor"].rstrip("+")) == (200, "33")


def test_a_token_of_eks_opens_its_cluster_only(clustered: Account) -> None:
    from botocore.model import ServiceId
    from botocore.signers import RequestSigner

    def token(cluster: str) -> str:
        session = clustered.session
        emitter, keys = session._session.get_component("event_emitter"), session.get_credentials()
        assert keys is not None
        signer = RequestSigner(ServiceId("sts"), "us-west-2", "sts", "v4", keys, emitter)
        request = {
            "method": "GET",
            "url": "https://sts.us-west-2.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15",
            "body": {},
            "headers": {"x-k8s-aws-id": cluster},
            "context": {},
        }
        url = signer.generate_presigned_url(request, "us-west-2", 60, "")
        return "k8s-aws-v1." + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")

    client = Joining(clustered).kube
    for cluster, wanted in (("leptonami", 200), ("other", 401)):
        client.headers["Authorization"] = f"Bearer {token(cluster)}"
        assert client.ask("GET", "/api/v1/namespaces")[0] == wanted


def test_a_restricted_key_may_do_what_its_policy_says(clustered: Account) -> None:
    clustered.iam.create_user(UserName="reader")
    document = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "eks:ListClusters", "Resource": "*"},
            {"Effect": "Allow", "Action": "eks:DescribeCluster", "Resource": "arn:aws:eks:*:*:cluster/other"},
            {"Effect": "Allow", "Action": "autoscaling:Describe*", "Resource": "*"},
        ],
    }
    clustered.iam.put_user_policy(UserName="reader", PolicyName="p", PolicyDocument=json.dumps(document))
    key = clustered.iam.create_access_key(UserName="reader")["AccessKey"]
    session = boto3.Session(key["AccessKeyId"], key["SecretAccessKey"], region_name="us-west-2")
    config = Config(retries={"total_max_attempts": 1})
    eks: Any = session.client("eks", endpoint_url=clustered.lab.url, config=config)
    assert "leptonami" in eks.list_clusters()["clusters"]
    refused("AccessDeniedException", eks.describe_cluster, says="eks:DescribeCluster", name="leptonami")
    refused("ResourceNotFoundException", eks.describe_cluster, name="other")
    refused("LabNotImplemented", eks.list_addons, clusterName="leptonami")
    groups: Any = session.client("autoscaling", endpoint_url=clustered.lab.url, config=config)
    assert "AutoScalingGroups" in groups.describe_auto_scaling_groups()


def test_without_a_cluster_nothing_of_it_is_imported() -> None:
    script = (
        "import sys; from leptonami.lab import server; from leptonami.lab.world import *; from pathlib import Path;"
        "from leptonami.lab.faults import Faults; import tempfile;"
        "w = World(Times(), 1.0, Path(tempfile.mkdtemp()), Faults());"
        "server.assemble(server.Settings(), w); w.close();"
        "print([m for m in sys.modules if m.startswith(('moto.eks', 'moto.autoscaling.resp', 'leptonami.lab.kube',"
        " 'leptonami.lab.eks', 'leptonami.lab.fleet', 'kubernetes'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"


# Access entries -----------------------------------------------------------------------------------------------------


def test_access_entries_are_kept_with_their_policies(clustered: Account) -> None:
    eks, here = clustered.eks, {"clusterName": "leptonami", "principalArn": SOMEBODY}
    made = eks.create_access_entry(**here, kubernetesGroups=["viewers"])["accessEntry"]
    assert (made["type"], made["username"], made["kubernetesGroups"]) == ("STANDARD", SOMEBODY, ["viewers"])
    refused("ResourceInUseException", eks.create_access_entry, **here)
    assert SOMEBODY in eks.list_access_entries(clusterName="leptonami")["accessEntries"]
    scope = {"type": "namespace", "namespaces": ["default"]}
    eks.associate_access_policy(**here, policyArn=VIEW, accessScope=scope)
    (found,) = eks.list_associated_access_policies(**here)["associatedAccessPolicies"]
    assert (found["policyArn"], found["accessScope"]) == (VIEW, scope)
    found = eks.list_access_entries(clusterName="leptonami", associatedPolicyArn=VIEW)["accessEntries"]
    assert found == [SOMEBODY]
    changed = eks.update_access_entry(**here, kubernetesGroups=["editors"])["accessEntry"]
    assert changed["kubernetesGroups"] == ["editors"]
    eks.disassociate_access_policy(**here, policyArn=VIEW)
    assert eks.list_associated_access_policies(**here)["associatedAccessPolicies"] == []
    eks.delete_access_entry(**here)
    refused("ResourceNotFoundException", eks.describe_access_entry, says="principalArn", **here)


def test_the_creator_has_an_entry_with_the_administrators_policy(clustered: Account) -> None:
    caller = clustered.sts.get_caller_identity()["Arn"]
    assert caller == "arn:aws:iam::123456789012:user/lab"
    here = {"clusterName": "leptonami", "principalArn": caller}
    (found,) = clustered.eks.list_associated_access_policies(**here)["associatedAccessPolicies"]
    assert found["policyArn"].endswith("/AmazonEKSClusterAdminPolicy")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"principalArn": "nobody"}, "principalArn"),
        ({"type": "WRONG"}, "WRONG"),
        ({"type": "EC2_LINUX", "kubernetesGroups": ["g"]}, "kubernetesGroups"),
        ({"kubernetesGroups": ["system:masters"]}, "cannot start with system:"),
    ],
)
def test_access_entries_that_eks_refuses(clustered: Account, change: dict[str, Any], says: str) -> None:
    request = {"clusterName": "leptonami", "principalArn": f"{SOMEBODY}-else", **change}
    refused("InvalidParameterException", clustered.eks.create_access_entry, says=says, **request)


def test_a_cluster_with_a_config_map_only_has_no_entries(own_cluster: Account) -> None:
    create(own_cluster, "old", accessConfig={"authenticationMode": "CONFIG_MAP"})
    says = "authentication mode must be set to one of [API, API_AND_CONFIG_MAP]"
    refused("InvalidRequestException", own_cluster.eks.list_access_entries, says=says, clusterName="old")


# Add-ons ------------------------------------------------------------------------------------------------------------


def test_an_add_on_comes_changes_and_goes_over_time(clustered: Account) -> None:
    eks, here = clustered.eks, {"clusterName": "leptonami", "addonName": "vpc-cni"}
    (known,) = eks.describe_addon_versions(addonName="vpc-cni", kubernetesVersion="1.33")["addons"]
    newest, older = (each["addonVersion"] for each in known["addonVersions"])
    assert known["addonVersions"][0]["compatibilities"][0]["defaultVersion"]
    made = eks.create_addon(**here, addonVersion=older)["addon"]
    assert (made["status"], made["addonVersion"]) == ("CREATING", older)

    def status() -> str:
        return str(eks.describe_addon(**here)["addon"]["status"])

    eventually(lambda: status() == "ACTIVE", "the add-on")
    refused("ResourceInUseException", eks.create_addon, **here)
    update = eks.update_addon(**here, addonVersion=newest)["update"]
    assert update["type"] == "AddonUpdate"
    assert update_of(clustered, update, addonName="vpc-cni")["status"] == "Successful"
    assert eks.describe_addon(**here)["addon"]["addonVersion"] == newest
    assert eks.list_updates(name="leptonami", addonName="vpc-cni")["updateIds"] == [update["id"]]
    eks.delete_addon(**here)
    eventually(lambda: eks.list_addons(clusterName="leptonami")["addons"] == [], "the add-on's end")
    refused("ResourceNotFoundException", eks.describe_addon, says="No addon: vpc-cni found in cluster", **here)


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"addonName": "none"}, "InvalidParameterException", "Addon none specified is not supported"),
        ({"addonVersion": "v0"}, "InvalidParameterException", "Addon version specified is not supported"),
        ({"podIdentityAssociations": []}, "LabNotImplemented", "podIdentityAssociations"),
    ],
)
def test_add_ons_that_eks_refuses(clustered: Account, change: dict[str, Any], code: str, says: str) -> None:
    request = {"clusterName": "leptonami", "addonName": "coredns", **change}
    refused(code, clustered.eks.create_addon, says=says, **request)


def test_every_add_on_has_a_version_for_every_cluster(clustered: Account) -> None:
    wanted = {"vpc-cni", "coredns", "kube-proxy", "eks-pod-identity-agent"}
    for version in catalog.load().kubernetes:
        found = clustered.eks.describe_addon_versions(kubernetesVersion=version)["addons"]
        assert wanted <= {each["addonName"] for each in found if each["addonVersions"]}, version
