"""The catalog: its tables hold together, impossible pairs are refused, ends are announced, nodes join."""

from __future__ import annotations

import email
import json
import shlex
import subprocess
import tomllib
from datetime import date, timedelta
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami import catalog
from leptonami.build.names import AMI_NAME
from leptonami.catalog import ClusterInfo, Release, minor, user_data
from leptonami.commands.catalog import catalog as command
from leptonami.errors import InputError

CATALOG = catalog.load()
RELEASES = list(CATALOG.releases())
TODAY = date(2026, 11, 23)
CLUSTER = ClusterInfo(
    name="gpu-west",
    endpoint="https://0123456789ABCDEF.gr7.us-west-2.eks.amazonaws.com",
    ca="LS0tLS1CRUdJTg==",
    service_cidr="10.100.0.0/16",
)


def one(family: str, os: str = "22.04", kubernetes: str = "1.33", architecture: str = "amd64") -> Release:
    return CATALOG.release(family, os, kubernetes, architecture)


def test_every_release_resolves_to_itself_and_is_complete() -> None:
    assert len(RELEASES) > 100
    assert len({release.ssm_parameter for release in RELEASES}) == len(RELEASES)
    for release in RELEASES:
        assert CATALOG.release(release.family, release.os, release.kubernetes, release.architecture) == release
        assert "{" not in release.ssm_parameter + release.name_pattern
        assert release.ssm_parameter.startswith("/aws/service/")
        assert release.kubernetes in release.ssm_parameter
        assert AMI_NAME.fullmatch(release.image_name_example)
        assert release.owner.isdigit() and len(release.owner) == 12
        assert release.root_device == ("/dev/sda1" if release.family == "ubuntu-eks" else "/dev/xvda")
        assert release.buildable is (release.not_buildable is None)
        assert json.dumps(release.as_dict())


def test_the_families_are_those_of_the_house() -> None:
    assert list(CATALOG.families) == [
        "al2",
        "al2-gpu",
        "al2023",
        "al2023-nvidia",
        "bottlerocket",
        "bottlerocket-nvidia",
        "ubuntu-eks",
    ]
    assert {name for name, family in CATALOG.families.items() if family.not_buildable} == {
        "bottlerocket",
        "bottlerocket-nvidia",
    }
    assert {name for name, family in CATALOG.families.items() if family.gpu} == {
        "al2-gpu",
        "al2023-nvidia",
        "bottlerocket-nvidia",
    }


def test_every_table_names_its_source_and_its_day() -> None:
    for source, as_of in CATALOG.sources.values():
        assert "https://" in source
        assert date(2026, 1, 1) < as_of <= TODAY


def months_later(day: date, months: int) -> date:
    year, month = divmod(day.month - 1 + months, 12)
    return date(day.year + year, month + 1, min(day.day, 28))


def test_the_calendar_follows_ekss_own_rule() -> None:
    # 14 months of standard support and 12 of extended support; EKS has moved ends by up to two weeks.
    for version, dates in CATALOG.kubernetes.items():
        assert abs(dates.standard_until - months_later(dates.released, 14)) <= timedelta(days=16), version
        assert abs(dates.extended_until - months_later(dates.standard_until, 12)) <= timedelta(days=3), version
    assert [minor(version) for version in CATALOG.kubernetes] == list(range(26, 37))


@pytest.mark.parametrize(
    ("release", "parameter", "pattern"),
    [
        (
            ("ubuntu-eks", "22.04", "1.33", "amd64"),
            "/aws/service/canonical/ubuntu/eks/22.04/1.33/stable/current/amd64/hvm/ebs-gp2/ami-id",
            "ubuntu-eks/k8s_1.33/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-*",
        ),
        (
            ("ubuntu-eks", "24.04", "1.31", "arm64"),
            "/aws/service/canonical/ubuntu/eks/24.04/1.31/stable/current/arm64/hvm/ebs-gp3/ami-id",
            "ubuntu-eks/k8s_1.31/images/hvm-ssd-gp3/ubuntu-noble-24.04-arm64-server-*",
        ),
        (
            ("al2023", "2023", "1.35", "amd64"),
            "/aws/service/eks/optimized-ami/1.35/amazon-linux-2023/x86_64/standard/recommended/image_id",
            "amazon-eks-node-al2023-x86_64-standard-1.35-v*",
        ),
        (
            ("al2023-nvidia", "2023", "1.34", "arm64"),
            "/aws/service/eks/optimized-ami/1.34/amazon-linux-2023/arm64/nvidia/recommended/image_id",
            "amazon-eks-node-al2023-arm64-nvidia-1.34-v*",
        ),
        (
            ("al2-gpu", "2", "1.26", "amd64"),
            "/aws/service/eks/optimized-ami/1.26/amazon-linux-2-gpu/recommended/image_id",
            "amazon-eks-gpu-node-1.26-v*",
        ),
        (
            ("bottlerocket-nvidia", "1", "1.35", "amd64"),
            "/aws/service/bottlerocket/aws-k8s-1.35-nvidia/x86_64/latest/image_id",
            "bottlerocket-aws-k8s-1.35-nvidia-x86_64-v*",
        ),
    ],
)
def test_parameters_and_names_as_the_publishers_document_them(
    release: tuple[str, str, str, str], parameter: str, pattern: str
) -> None:
    found = CATALOG.release(*release)
    assert (found.ssm_parameter, found.name_pattern) == (parameter, pattern)


@pytest.mark.parametrize(
    ("wanted", "resource", "message", "hint"),
    [
        (("ubuntu", "22.04", "1.33", "amd64"), "family", "unknown family 'ubuntu'", "did you mean ubuntu-eks?"),
        (("ubuntu-eks", "22.4", "1.33", "amd64"), "os", "has no version '22.4'", "20.04, 22.04, 24.04, 26.04"),
        (("ubuntu-eks", "20.04", "1.33", "amd64"), "kubernetes", "does not exist for Kubernetes 1.33", "1.26 to 1.29"),
        (("ubuntu-eks", "20.04", "1.33", "amd64"), "kubernetes", "", "for 1.33 there is ubuntu-eks 22.04 and 24.04"),
        (("ubuntu-eks", "24.04", "1.26", "amd64"), "kubernetes", "", "for 1.26 there is ubuntu-eks 20.04"),
        (("al2", "2", "1.33", "amd64"), "kubernetes", "does not exist", "1.26 to 1.32"),
        (("al2023", "2023", "1.99", "amd64"), "kubernetes", "does not exist", "the catalog knows Kubernetes 1.26"),
        (("al2023", "2023", "", "amd64"), "kubernetes", "does not exist", "1.26 to 1.36"),
        (("al2-gpu", "2", "1.30", "arm64"), "architecture", "is not published for arm64", "it is for amd64"),
        (("al2023", "2023", "1.30", "x86_64"), "architecture", "is not published for x86_64", "amd64 and arm64"),
    ],
)
def test_an_impossible_pair_is_refused_with_what_is_possible(
    wanted: tuple[str, str, str, str], resource: str, message: str, hint: str
) -> None:
    with pytest.raises(InputError) as caught:
        CATALOG.release(*wanted)
    assert caught.value.resource == resource
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_owners_follow_the_region() -> None:
    def owner(family: str, region: str) -> str:
        os = next(iter(CATALOG.families[family].systems))
        kubernetes = CATALOG.kubernetes_of(family, os, "amd64")[0]
        return CATALOG.release(family, os, kubernetes, "amd64", region=region).owner

    assert owner("al2023", "us-west-2") == owner("al2", "eu-central-1") == "602401143452"
    assert owner("al2023", "af-south-1") == "877085696533"
    assert owner("al2023", "us-gov-west-1") == "013241004608"
    assert owner("ubuntu-eks", "us-west-2") == owner("ubuntu-eks", "af-south-1") == "099720109477"
    assert owner("ubuntu-eks", "cn-north-1") == "837727238323"
    assert owner("bottlerocket", "us-east-1") == "092701018921"
    assert owner("bottlerocket", "us-west-2") == "651937483462"
    with pytest.raises(InputError, match="publishes in xx-moon-1 is not known"):
        owner("bottlerocket", "xx-moon-1")


def test_no_two_regions_share_a_bottlerocket_account() -> None:
    accounts = list(CATALOG.accounts["bottlerocket"].regions.values())
    assert len(set(accounts)) == len(accounts)


def test_warnings_are_loud_about_what_has_ended() -> None:
    al2 = one("al2", "2", "1.32").warnings(TODAY)
    assert al2[0].startswith("END OF LIFE: Amazon Linux 2 is frozen since 2025-11-26")
    assert "ended on 2026-06-30" in al2[1]
    assert al2[2].startswith("Kubernetes 1.32 is in extended support since 2026-03-23")
    focal = one("ubuntu-eks", "20.04", "1.26").warnings(TODAY)
    assert len(focal) == 2 and all(text.startswith("END OF LIFE") for text in focal)
    assert one("al2023", "2023", "1.36").warnings(TODAY) == ()


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (date(2025, 5, 28), ["comes to EKS on 2025-05-29"]),
        (date(2025, 5, 29), []),
        (date(2026, 4, 29), []),
        (date(2026, 4, 30), ["leaves EKS's standard support on 2026-07-29, in 90 days"]),
        (date(2026, 7, 28), ["in 1 days"]),
        (date(2026, 7, 29), ["is in extended support since 2026-07-29"]),
        (date(2027, 1, 29), ["is in extended support"]),
        (date(2027, 1, 30), ["ubuntu-eks 22.04 ends on 2027-04-30, in 90 days", "is in extended support"]),
        (date(2027, 4, 30), ["ends on 2027-04-30, in 0 days", "is in extended support"]),
        (date(2027, 5, 1), ["END OF LIFE: the operating system", "is in extended support"]),
        (date(2027, 7, 29), ["END OF LIFE: the operating system", "END OF LIFE: EKS ended Kubernetes 1.33"]),
    ],
)
def test_warnings_change_on_the_right_day(day: date, expected: list[str]) -> None:
    found = one("ubuntu-eks").warnings(day)
    assert len(found) == len(expected)
    for text, part in zip(found, expected, strict=True):
        assert part in text


def test_ubuntu_joins_with_its_bootstrap_script() -> None:
    flags = ["--node-labels=a=b,c=d", "--register-with-taints=nvidia.com/gpu=true:NoSchedule"]
    text = user_data(one("ubuntu-eks"), cluster=CLUSTER, gpu=True, kubelet_args=flags)
    first, options, call = text.splitlines()
    assert (first, options) == ("#!/bin/bash", "set -euo pipefail")
    words = shlex.split(call)
    assert words[:2] == ["/etc/eks/bootstrap.sh", "gpu-west"]
    assert words[words.index("--dns-cluster-ip") + 1] == "10.100.0.10"
    assert words[words.index("--container-runtime") + 1] == "nvidia-container-runtime"
    assert words[words.index("--kubelet-extra-args") + 1] == " ".join(flags)
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    assert "--container-runtime" not in user_data(one("ubuntu-eks"), cluster=CLUSTER)


def test_al2_has_no_runtime_to_choose() -> None:
    text = user_data(one("al2-gpu", "2", "1.32"), cluster=CLUSTER, gpu=True)
    assert "--container-runtime" not in text and "/etc/eks/bootstrap.sh gpu-west" in text


def test_al2023_joins_with_a_node_config() -> None:
    text = user_data(one("al2023-nvidia", "2023", "1.34"), cluster=CLUSTER, gpu=True, kubelet_args=["--max-pods=20"])
    message = email.message_from_string(text)
    assert message.is_multipart()
    parts = message.get_payload()
    assert isinstance(parts, list) and len(parts) == 1
    part: Any = parts[0]
    assert part.get_content_type() == "application/node.eks.aws"
    config = yaml.safe_load(part.get_payload())
    assert (config["apiVersion"], config["kind"]) == ("node.eks.aws/v1alpha1", "NodeConfig")
    assert config["spec"]["cluster"] == {
        "name": CLUSTER.name,
        "apiServerEndpoint": CLUSTER.endpoint,
        "certificateAuthority": CLUSTER.ca,
        "cidr": CLUSTER.service_cidr,
    }
    assert config["spec"]["kubelet"] == {"flags": ["--max-pods=20"]}


def test_bottlerocket_joins_with_settings() -> None:
    text = user_data(
        one("bottlerocket-nvidia", "1"),
        cluster=CLUSTER,
        gpu=True,
        kubelet_args=[
            "--node-labels=a=b,c.d/e=f",
            "--register-with-taints=x=y:NoSchedule,x=z:NoExecute",
            "--max-pods=9",
        ],
    )
    found = tomllib.loads(text)["settings"]["kubernetes"]
    assert found == {
        "cluster-name": CLUSTER.name,
        "api-server": CLUSTER.endpoint,
        "cluster-certificate": CLUSTER.ca,
        "cluster-dns-ip": "10.100.0.10",
        "max-pods": 9,
        "node-labels": {"a": "b", "c.d/e": "f"},
        "node-taints": {"x": ["y:NoSchedule", "z:NoExecute"]},
    }
    with pytest.raises(InputError, match="Bottlerocket has no setting for --v=4"):
        user_data(one("bottlerocket", "1"), cluster=CLUSTER, kubelet_args=["--v=4"])


def test_ipv6_clusters() -> None:
    cluster = ClusterInfo(CLUSTER.name, CLUSTER.endpoint, CLUSTER.ca, "fd12:3456::/108")
    words = shlex.split(user_data(one("ubuntu-eks"), cluster=cluster).splitlines()[2])
    assert words[words.index("--service-ipv6-cidr") + 1] == "fd12:3456::/108"
    assert words[words.index("--ip-family") + 1] == "ipv6"
    assert (
        tomllib.loads(user_data(one("bottlerocket", "1"), cluster=cluster))["settings"]["kubernetes"]["cluster-dns-ip"]
        == "fd12:3456::a"
    )


def test_a_gpu_needs_a_driver() -> None:
    with pytest.raises(InputError) as caught:
        user_data(one("al2023", "2023"), cluster=CLUSTER, gpu=True)
    assert caught.value.hint == "use al2023-nvidia"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "a b"),
        ("name", "-a"),
        ("name", "a\n"),
        ("name", "$(id)"),
        ("name", ""),
        ("name", "a" * 101),
        ("endpoint", "http://example.com"),
        ("endpoint", "https://"),
        ("endpoint", "https://a b"),
        ("endpoint", "https://a'; id"),
        ("ca", ""),
        ("ca", "not base64!"),
        ("ca", "QUJD\n--BOUNDARY"),
        ("service_cidr", "10.100.0.0"),
        ("service_cidr", "10.100.0.0/31"),
        ("service_cidr", "x"),
    ],
)
def test_a_cluster_that_is_none_is_refused(field: str, value: str) -> None:
    cluster = ClusterInfo(**{**CLUSTER.__dict__, field: value})
    with pytest.raises(InputError):
        user_data(one("ubuntu-eks"), cluster=cluster)


def test_too_much_user_data() -> None:
    with pytest.raises(InputError, match="EC2 takes 16384"):
        user_data(one("ubuntu-eks"), cluster=CLUSTER, kubelet_args=["--node-labels=" + "a" * 17_000])


@settings(max_examples=200)
@given(st.text(max_size=20), st.lists(st.text(max_size=20), max_size=3))
def test_no_text_breaks_out_of_the_user_data(name: str, flags: list[str]) -> None:
    cluster = ClusterInfo(name, CLUSTER.endpoint, CLUSTER.ca, CLUSTER.service_cidr)
    for release in (one("ubuntu-eks"), one("al2023", "2023"), one("bottlerocket", "1")):
        try:
            text = user_data(release, cluster=cluster, kubelet_args=flags)
        except InputError:
            continue
        if release.bootstrap == "bootstrap.sh":
            assert len(text.splitlines()) == 3
            assert len(shlex.split(text.splitlines()[2])) == 8 + 2 * bool(flags)
        elif release.bootstrap == "settings":
            assert tomllib.loads(text)["settings"]["kubernetes"]["cluster-name"] == name
        else:
            assert text.count("--BOUNDARY") == 2


def test_catalog_list_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = CliRunner().invoke(command, ["list"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    # Nothing is folded: each line begins with a family, so that grep finds whole rows.
    rows = [line for line in lines if "amd64" in line or "arm64" in line]
    assert len(rows) == 19 and all(line.split()[0] in CATALOG.families for line in rows)
    assert any(line.split()[:4] == ["ubuntu-eks", "22.04", "amd64", "1.29-1.34"] for line in rows)


def test_catalog_list_of_one_family_as_json() -> None:
    result = CliRunner().invoke(command, ["list", "--family", "al2", "--json"])
    found = json.loads(result.stdout)
    assert {each["family"] for each in found} == {"al2"} and len(found) == 14
    assert all(each["warnings"] for each in found)


def test_catalog_list_of_no_family() -> None:
    result = CliRunner().invoke(command, ["list", "--family", "al3"])
    assert isinstance(result.exception, InputError)
    assert "did you mean al2" in str(result.exception.hint)


def test_catalog_show() -> None:
    result = CliRunner().invoke(command, ["show", "ubuntu-eks", "20.04", "1.26", "amd64"])
    assert result.exit_code == 0
    assert "099720109477" in result.stdout and "END OF LIFE" in result.stderr and "END OF LIFE" not in result.stdout
    result = CliRunner().invoke(
        command, ["show", "al2023", "2023", "1.36", "arm64", "--region", "af-south-1", "--json"]
    )
    assert json.loads(result.stdout)["owner"] == "877085696533"
