"""Plans: every plan we ship is sound, every mistake is named with its place, nothing but InputError comes out.

`python tests/test_plan.py` writes the parts of docs/plan.md and data/plan.schema.json anew that come from the code.
"""

from __future__ import annotations

import json
import re
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

from leptonami import datafiles, plan
from leptonami.build import steps as provisioning
from leptonami.build.names import Names
from leptonami.commands.plan import plan as command
from leptonami.errors import InputError
from leptonami.plan import Plan, duration, is_arm64, is_nvidia, seconds
from leptonami.validation import Wrong
from leptonami.yamlfile import FileError

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs" / "plan.md"
SHIPPED = sorted(datafiles.path("plans").glob("*.yaml"))
TODAY = date(2026, 11, 23)

SMALL: dict[str, Any] = {
    "schema": 1,
    "name": "small",
    "family": "ubuntu-eks",
    "os": "22.04",
    "kubernetes": "1.34",
    "architecture": "amd64",
    "region": "us-west-2",
    "builder": {"instance_types": ["g5.xlarge"]},
}


def load_text(tmp_path: Path, text: str) -> Plan:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    return plan.load(path, today=TODAY)


def load(tmp_path: Path, **changes: Any) -> Plan:
    """Load the small plan with some keys changed, or left out where the value is `...`."""
    content = {key: value for key, value in {**SMALL, **changes}.items() if value is not ...}
    return load_text(tmp_path, yaml.safe_dump(content, sort_keys=False))


def mistakes(tmp_path: Path, **changes: Any) -> list[tuple[str, str, str]]:
    with pytest.raises(FileError) as caught:
        load(tmp_path, **changes)
    return [(plan_path(problem.resource), problem.message, problem.hint or "") for problem in caught.value.problems]


def plan_path(resource: str) -> str:
    return resource.partition(" ")[2]


# --- what we ship ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_plan_we_ship_is_sound(path: Path) -> None:
    found = plan.load(path, today=TODAY)
    assert path.read_text().startswith("# yaml-language-server: $schema=../plan.schema.json\n")
    assert found.name == path.stem
    assert found.release.buildable
    assert found.path == path
    assert re.fullmatch("[0-9a-f]{64}", found.digest)
    assert found.images
    for use in found.steps:
        context = provisioning.Context(
            found.name, "r", found.family, found.os, found.kubernetes, found.architecture, found.region, found.images
        )
        assert provisioning.render(use, context)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_plan_we_ship_fits_the_schema(path: Path) -> None:
    schema = json.loads(datafiles.path("plan.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(path.read_text()))


def test_the_shipped_plans_cover_what_was_asked_for() -> None:
    plans = [plan.load(path, today=TODAY) for path in SHIPPED]
    kinds = {(each.family, each.os, each.architecture, each.needs_gpu) for each in plans}
    assert kinds >= {
        ("ubuntu-eks", "20.04", "amd64", True),
        ("ubuntu-eks", "22.04", "amd64", True),
        ("ubuntu-eks", "22.04", "amd64", False),
        ("ubuntu-eks", "24.04", "amd64", True),
        ("ubuntu-eks", "24.04", "amd64", False),
        ("ubuntu-eks", "24.04", "arm64", False),
        ("al2023", "2023", "amd64", False),
        ("al2023-nvidia", "2023", "amd64", True),
    }
    original = next(each for each in plans if each.os == "20.04")
    assert original.kubernetes == "1.26"
    assert sum(text.startswith("END OF LIFE") for text in original.warnings) == 2
    assert not any("END OF LIFE" in text for each in plans for text in each.warnings if each is not original)
    assert len({each.digest for each in plans}) == len(plans)


def test_the_schema_is_current() -> None:
    written = json.loads(datafiles.path("plan.schema.json").read_text())
    assert written == json.loads(json.dumps(plan.json_schema())), "python tests/test_plan.py writes it anew"
    jsonschema.Draft202012Validator.check_schema(written)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "A"},
        {"kubernetes": 1.33},
        {"os": 22.04},
        {"family": "bottlerocket"},
        {"extra": 1},
        {"builder": {"instance_types": []}},
        {"builder": {"instance_types": ["g5"]}},
        {"steps": ["setle"]},
        {"steps": [{"nvidia-driver": {"branch": "535"}}]},
        {"steps": [{"prefetch": {"imags": "x"}}]},
        {"image": {"wait": 4}},
        {"publish": {"accounts": [123456789012]}},
        {"architecture": "x86_64"},
    ],
)
def test_the_schema_refuses_what_we_refuse(tmp_path: Path, changes: dict[str, Any]) -> None:
    schema = jsonschema.Draft202012Validator(plan.json_schema())
    schema.validate(SMALL)
    with pytest.raises(jsonschema.ValidationError):
        schema.validate({**SMALL, **changes})
    assert mistakes(tmp_path, **changes)


# --- what a plan says -----------------------------------------------------------------------------


def test_the_smallest_plan_has_sensible_defaults(tmp_path: Path) -> None:
    found = load(tmp_path)
    assert (found.root_volume.size_gib, found.root_volume.type) == (40, "gp3")
    assert found.image.wait == 4 * 3600
    assert found.builder.subnets == found.builder.security_groups == ()
    assert found.builder.public_ip == "auto"
    assert found.steps == found.images == ()
    assert found.needs_gpu is False
    assert found.base is None
    assert found.release.owner == "099720109477"
    with pytest.raises(Exception, match="frozen"):
        found.name = "other"  # type: ignore[misc]


def test_a_plan_is_plain_data_for_the_manifest(tmp_path: Path) -> None:
    found = plan.load(datafiles.path("plans/ubuntu-22.04-gpu.yaml"), today=TODAY)
    data = json.loads(json.dumps(found.model_dump(mode="json")))
    assert data["schema"] == 1
    assert data["steps"][1]["options"]["branch"] == "535"
    assert data["release"]["ssm_parameter"] == found.release.ssm_parameter
    assert data["images"][0]["ref"].endswith("pause:3.10")


def test_everything_can_be_said(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        base={"ami": "ami-0123456789abcdef0"},
        builder={
            "instance_types": ["g5.xlarge", "p4d.24xlarge", "g5.metal"],
            "subnets": ["subnet-0123456789abcdef0", "subnet-01234567"],
            "security_groups": ["sg-0123456789abcdef0"],
            "instance_profile": "builder",
            "spot": True,
            "public_ip": False,
        },
        root_volume={"size_gib": 100, "iops": 6000, "throughput": 1000, "kms_key": "alias/x"},
        image={"name": "a {plan} {date}-{time} {run}", "description": "It's fine.", "wait": "1h30m"},
        tags={"team": "gpu", "cost centre": "4711"},
        publish={
            "regions": ["eu-central-1"],
            "accounts": ["123456789012"],
            "organizations": ["arn:aws:organizations::123456789012:organization/o-abcdefghij"],
            "ssm_parameter": "/leptonami/x",
            "deprecate_after": "90d",
            "protect": True,
        },
    )
    assert found.image.wait == 5400
    assert found.publish.deprecate_after == 90 * 86400
    assert found.publish.accounts == ("123456789012",)
    assert found.builder.public_ip is False
    assert found.base is not None and found.base.ami == "ami-0123456789abcdef0"


def test_steps_are_read_with_their_options(tmp_path: Path) -> None:
    (tmp_path / "images.yaml").write_text("schema: 1\nimages: ['a:1', {ref: 'b:1', architectures: [arm64]}]\n")
    (tmp_path / "extra.sh").write_text("echo hello\n")
    found = load(
        tmp_path,
        steps=[
            "settle",
            {"prefetch": {"images": "images.yaml", "timeout": "3h"}},
            "versions",
            "hygiene",
            {"script": {"path": "extra.sh", "after": "settle", "timeout": "90s"}},
        ],
    )
    assert [use.name for use in found.steps] == ["settle", "script", "prefetch", "versions", "hygiene"]
    script, prefetch = found.steps[1], found.steps[2]
    assert (script.timeout, script.options["path"]) == (90, str(tmp_path / "extra.sh"))
    assert script.where == f"{tmp_path}/plan.yaml:{line(tmp_path, 'script:')} steps[4].script"
    assert prefetch.timeout == 3 * 3600
    assert [image.ref for image in found.images] == ["docker.io/library/a:1"]


def line(tmp_path: Path, text: str) -> int:
    lines = (tmp_path / "plan.yaml").read_text().splitlines()
    return next(number for number, each in enumerate(lines, start=1) if text in each)


def test_a_step_may_have_an_empty_mapping(tmp_path: Path) -> None:
    found = load_text(tmp_path, yaml.safe_dump(SMALL) + "steps:\n- settle:\n- versions: {}\n- hygiene\n")
    assert [use.name for use in found.steps] == ["settle", "versions", "hygiene"]


# --- what a plan may not say ----------------------------------------------------------------------

DRIVER = {"branch": "535", "version": "535.183.01-0ubuntu0.22.04.1"}
REFUSED: list[tuple[dict[str, Any], str, str, str]] = [
    ({"schema": 2}, "schema", "2 is not allowed", "it must be 1"),
    ({"schema": ...}, "schema", "missing key", ""),
    ({"name": "Upper"}, "name", "not a name: 'Upper'", "a-z"),
    ({"name": "a" * 64}, "name", "not a name", ""),
    ({"name": ""}, "name", "not a name: ''", ""),
    ({"nmae": "x"}, "nmae", "unknown key 'nmae'", "did you mean name?"),
    ({"zzz": "x"}, "zzz", "unknown key 'zzz'", "known keys: schema, name"),
    ({"family": "ubuntu"}, "family", "unknown family 'ubuntu'", "did you mean ubuntu-eks?"),
    ({"family": "bottlerocket", "os": "1"}, "family", "cannot be built on: Bottlerocket has no shell", "al2023"),
    ({"os": "21.04"}, "os", "has no version '21.04'", "22.04"),
    ({"os": "20.04"}, "kubernetes", "does not exist for Kubernetes 1.34", "1.26 to 1.29"),
    ({"kubernetes": "v1.34"}, "kubernetes", "not a Kubernetes version", "major and minor"),
    ({"kubernetes": "1.34.2"}, "kubernetes", "not a Kubernetes version", "major and minor"),
    ({"architecture": "x86_64"}, "architecture", "'x86_64' is not allowed", "one of 'amd64' or 'arm64'"),
    ({"region": "us_west_2"}, "region", "not an AWS region", "us-west-2"),
    ({"region": "uswest2"}, "region", "not an AWS region", ""),
    ({"base": {}}, "base", "base is empty", "one of ssm, ami and name"),
    ({"base": {"ami": "ami-01234567", "name": "xyz"}}, "base", "base has ami and name", ""),
    ({"base": {"ami": "ami-xyz"}}, "base.ami", "not an AMI id", ""),
    ({"base": {"ssm": "aws/x"}}, "base.ssm", "not the name of an SSM parameter", "begins with /"),
    ({"builder": ...}, "builder", "missing key", ""),
    ({"builder": []}, "builder", "a list, where a mapping is wanted", "instance_types"),
    ({"builder": {"instance_types": []}}, "builder.instance_types", "empty", ""),
    ({"builder": {"instance_types": "g5.xlarge"}}, "builder.instance_types", "a list is wanted", "[g5.xlarge]"),
    ({"builder": {"instance_types": ["g5"]}}, "builder.instance_types[0]", "not an instance type", ""),
    ({"builder": {"instance_types": ["g5.xlarge"] * 2}}, "builder.instance_types", "stands twice", ""),
    ({"builder": {"instance_types": ["m7g.large"]}}, "builder.instance_types[0]", "m7g.large is arm64", "m7i"),
    (
        {"builder": {"instance_types": ["g5.xlarge"], "instance_typ": 1}},
        "builder.instance_typ",
        "unknown key 'instance_typ'",
        "did you mean instance_types?",
    ),
    (
        {"builder": {"instance_types": ["g5.xlarge"], "subnets": ["subnet-1"]}},
        "builder.subnets[0]",
        "not a subnet id",
        "",
    ),
    (
        {"builder": {"instance_types": ["g5.xlarge"], "security_groups": ["sg-01234567"] * 1 + ["default"]}},
        "builder.security_groups[1]",
        "not a security group id",
        "",
    ),
    (
        {
            "builder": {
                "instance_types": ["g5.xlarge"],
                "instance_profile": "arn:aws:iam::123456789012:instance-profile/x",
            }
        },
        "builder.instance_profile",
        "not the name of an instance profile",
        "not its ARN",
    ),
    (
        {"builder": {"instance_types": ["g5.xlarge"], "spot": "yes"}},
        "builder.spot",
        "neither true nor false",
        "true or",
    ),
    ({"builder": {"instance_types": ["g5.xlarge"], "public_ip": "yes"}}, "builder.public_ip", "not allowed", "auto"),
    ({"root_volume": {"size_gib": 7}}, "root_volume.size_gib", "7 is too small", "at least 8"),
    ({"root_volume": {"size_gib": "60"}}, "root_volume.size_gib", "'60' is no whole number", "without quotes: 60"),
    ({"root_volume": {"size_gib": True}}, "root_volume.size_gib", "true is no whole number", ""),
    ({"root_volume": {"type": "st1"}}, "root_volume.type", "'st1' is not allowed", "gp3"),
    ({"root_volume": {"type": "gp2", "iops": 3000}}, "root_volume", "gp2 volume takes no iops", ""),
    ({"root_volume": {"type": "io2"}}, "root_volume", "an io2 volume needs iops", ""),
    ({"root_volume": {"type": "io2", "iops": 3000, "throughput": 125}}, "root_volume", "takes no throughput", ""),
    ({"root_volume": {"type": "io1", "size_gib": 10, "iops": 501}}, "root_volume", "501 iops", "at most 500"),
    ({"root_volume": {"size_gib": 10, "iops": 5001}}, "root_volume", "5001 iops", "3000 to 5000"),
    ({"root_volume": {"iops": 2999}}, "root_volume", "2999 iops", "3000 to 20000"),
    ({"root_volume": {"throughput": 751}}, "root_volume", "751 MiB/s with 3000 iops", "0.25"),
    ({"root_volume": {"kms_key": "my key"}}, "root_volume.kms_key", "not a KMS key", "alias/name"),
    ({"root_volume": {"encrypted": False}}, "root_volume.encrypted", "unknown key", ""),
    ({"image": {"name": "{pln}"}}, "image.name", "unknown placeholder {pln}", "did you mean plan?"),
    ({"image": {"name": "{plan.__class__}"}}, "image.name", "unknown placeholder", ""),
    ({"image": {"name": "{plan!r}"}}, "image.name", "takes no format", "write {plan}"),
    ({"image": {"name": "{plan:>99999999}"}}, "image.name", "takes no format", ""),
    ({"image": {"name": "{plan"}}, "image.name", "not a template", ""),
    ({"image": {"name": "a&b"}}, "image.name", "which is no AMI name", "3 to 128"),
    ({"image": {"name": "ab"}}, "image.name", "which is no AMI name", ""),
    ({"image": {"name": "{run}" * 7}}, "image.name", "a name of 154 characters", ""),
    ({"image": {"wait": 4}}, "image.wait", "4 has no unit", "4h"),
    ({"image": {"wait": "4 hours"}}, "image.wait", "not a duration: '4 hours'", "1h30m"),
    ({"image": {"wait": "30s"}}, "image.wait", "30 is too small", ""),
    ({"image": {"description": "two\nlines"}}, "image.description", "not a description", ""),
    ({"tags": {"aws:x": "y"}}, "tags", "begins with aws:", ""),
    ({"tags": {"AWS:x": "y"}}, "tags", "begins with aws:", ""),
    ({"tags": {"Leptonami:run": "y"}}, "tags", "by which leptonami knows its own", ""),
    ({"tags": {"k" * 129: "y"}}, "tags", "not the key of a tag", ""),
    ({"tags": {"k": "v" * 257}}, "tags", "not the value of the tag 'k'", ""),
    ({"tags": {"k": "<b>"}}, "tags", "not the value of the tag 'k'", ""),
    ({"tags": {"k": 1}}, "tags.k", "1 is a number to YAML", 'write "1"'),
    ({"tags": {"k": True}}, "tags.k", "true is true/false to YAML", 'write "true"'),
    ({"tags": {"k": None}}, "tags.k", "empty, where text is wanted", ""),
    ({"tags": {f"k{n}": "v" for n in range(36)}}, "tags", "too many: 36", "at most 35"),
    ({"publish": {"accounts": ["all"]}}, "publish.accounts[0]", "never made public", "12 digits"),
    ({"publish": {"accounts": ["1234"]}}, "publish.accounts[0]", "not an AWS account id: '1234'", "twelve digits"),
    ({"publish": {"organizations": ["all"]}}, "publish.organizations[0]", "never made public", ""),
    ({"publish": {"organizations": ["o-abc"]}}, "publish.organizations[0]", "not the ARN", ""),
    ({"publish": {"public": True}}, "publish.public", "unknown key 'public'", ""),
    ({"publish": {"ssm_parameter": "/aws/x"}}, "publish.ssm_parameter", "not the name of an SSM parameter", "belong"),
    ({"publish": {"ssm_parameter": "/SSM"}}, "publish.ssm_parameter", "not the name of an SSM parameter", ""),
    ({"publish": {"ssm_parameter": "/x/"}}, "publish.ssm_parameter", "not the name of an SSM parameter", "at the end"),
    ({"publish": {"ssm_parameter": "/awsome"}}, "publish.ssm_parameter", "not the name of an SSM parameter", ""),
    ({"publish": {"ssm_parameter": "/a/b/c/d/e/f/g"}}, "publish.ssm_parameter", "not the name of", "six parts"),
    ({"publish": {"regions": ["us-west-2"]}}, "publish.regions[0]", "us-west-2 is where the image is made", "other"),
    ({"publish": {"regions": ["cn-north-1"]}}, "publish.regions[0]", "another partition", ""),
    ({"publish": {"regions": ["eu-west-1", "eu-west-1"]}}, "publish.regions", "eu-west-1 stands twice", "once"),
    ({"publish": {"kms_keys": {"eu-west-1": "alias/x"}}}, "publish.kms_keys.eu-west-1", "no copy goes to", "regions"),
    ({"publish": {"kms_keys": {"us-west-2": "alias/x"}}}, "publish.kms_keys.us-west-2", "no copy", "root_volume"),
    ({"publish": {"kms_keys": {"eu-west-1": "x"}}}, "publish.kms_keys.eu-west-1", "not a KMS key", "alias/name"),
    (
        {
            "publish": {
                "regions": ["eu-west-1"],
                "kms_keys": {"eu-west-1": "arn:aws:kms:us-west-2:123456789012:alias/x"},
            }
        },
        "publish.kms_keys.eu-west-1",
        "the key is of us-west-2",
        "eu-west-1",
    ),
    ({"publish": {"copy_within": "20m"}}, "publish.copy_within", "20m is no multiple of 15 minutes", "15m, 30m"),
    ({"publish": {"copy_within": "3d"}}, "publish.copy_within", "too large", ""),
    ({"publish": {"fast_launch": {}}}, "publish.fast_launch", "fast_launch is empty", "give one of"),
    (
        {"publish": {"fast_launch": {"pre_read": True, "volume_initialization_rate": 200}}},
        "publish.fast_launch",
        "has volume_initialization_rate and pre_read",
        "give one of",
    ),
    ({"publish": {"fast_launch": {"pre_read": False}}}, "publish.fast_launch.pre_read", "false is not allowed", ""),
    (
        {"publish": {"fast_launch": {"volume_initialization_rate": 301}}},
        "publish.fast_launch.volume_initialization_rate",
        "301 is too large",
        "at most 300",
    ),
    (
        {"publish": {"fast_launch": {"fast_snapshot_restore": {"zones": ["us-west-2-lax-1a"]}}}},
        "publish.fast_launch.fast_snapshot_restore.zones[0]",
        "not an Availability Zone",
        "no Local Zone",
    ),
    (
        {"publish": {"fast_launch": {"fast_snapshot_restore": {"zones": ["us-west-2a", "eu-west-1a"]}}}},
        "publish.fast_launch.fast_snapshot_restore.zones[1]",
        "the image is not in eu-west-1",
        "publish.regions",
    ),
    ({"steps": "settle"}, "steps", "a list of steps is wanted", "- settle"),
    ({"steps": [{}]}, "steps[0]", "not a step: a mapping", ""),
    ({"steps": [["settle"]]}, "steps[0]", "not a step: a list", ""),
    ({"steps": [None]}, "steps[0]", "not a step: nothing", ""),
    ({"steps": ["setle"]}, "steps[0]", "there is no step 'setle'", "did you mean settle?"),
    ({"steps": [{"settle": {}, "hygiene": {}}]}, "steps[0]", "one step has 2 keys", "indent"),
    ({"steps": [{"settle": 5}]}, "steps[0].settle", "the options of settle are 5", ""),
    ({"steps": [{"settle": {"wait": "long"}}]}, "steps[0].settle.wait", "is not a whole number", ""),
    ({"steps": [{"settle": {"wiat": 5}}]}, "steps[0].settle.wiat", "has no option 'wiat'", "did you mean wait?"),
    ({"steps": [{"settle": {"timeout": 5}}]}, "steps[0].settle.timeout", "5 has no unit", "5m"),
    ({"steps": [{"settle": {"timeout": "3d"}}]}, "steps[0].settle.timeout", "is no timeout", "1s to 2d"),
    ({"steps": [{"settle": {"timeout": None}}]}, "steps[0].settle.timeout", "is no timeout", ""),
    ({"steps": ["settle", "settle"]}, "steps[1]", "settle is there twice", ""),
    ({"steps": ["hygiene", "settle"]}, "steps[1]", "settle (order 10) comes after hygiene", "before"),
    ({"steps": ["hygiene"]}, "steps[0]", "hygiene needs the step settle", ""),
    ({"steps": ["settle", "nvidia-driver"]}, "steps[1]", "nvidia-driver needs the option 'branch'", ""),
    (
        {"steps": ["settle", {"nvidia-driver": {**DRIVER, "branch": 535}}]},
        "steps[1].nvidia-driver.branch",
        "535 is a number to YAML, and text is wanted here",
        'write "535"',
    ),
    (
        {"steps": ["settle", {"nvidia-driver": {**DRIVER, "modules": "binary"}}]},
        "steps[1].nvidia-driver.modules",
        "'binary' is not one of precompiled, dkms",
        "",
    ),
    (
        {"steps": ["settle", {"nvidia-driver": DRIVER}], "builder": {"instance_types": ["g5.xlarge", "m7i.large"]}},
        "builder.instance_types[1]",
        "m7i.large has no NVIDIA GPU, on which the step nvidia-driver is proved",
        "g5.xlarge",
    ),
    (
        {"steps": ["settle", {"nvidia-driver": DRIVER}], "family": "al2023", "os": "2023"},
        "steps[1].nvidia-driver",
        "nvidia-driver does not work on al2023, only on ubuntu-eks",
        "",
    ),
    ({"steps": [{"prefetch": {"images": "no.yaml"}}]}, "steps[0].prefetch.images", "there is no such image list", ""),
    ({"steps": [{"prefetch": {"images": ["a:1"]}}]}, "steps[0].prefetch.images", "a list, where text is wanted", ""),
    ({"steps": [{"script": {"path": "no.sh"}}]}, "steps[0].script.path", "no.sh cannot be read", "relative"),
    ({"steps": [{"script": {"path": "."}}]}, "steps[0].script.path", "cannot be read", ""),
    ({"region": "us-wset-2"}, "region", "unknown AWS region 'us-wset-2'", "did you mean us-west-2?"),
    (
        {"publish": {"regions": ["eu-west-1", "eu-wets-2"]}},
        "publish.regions[1]",
        "unknown AWS region 'eu-wets-2'",
        "did you mean eu-west-2?",
    ),
]


@pytest.mark.parametrize(("changes", "place", "message", "hint"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, Any], place: str, message: str, hint: str) -> None:
    found = mistakes(tmp_path, **changes)
    assert len(found) == 1, found
    assert found[0][0] == place
    assert message in found[0][1]
    assert hint in found[0][2]


def test_versions_and_accounts_need_quotes(tmp_path: Path) -> None:
    text = yaml.safe_dump({key: value for key, value in SMALL.items() if key not in {"kubernetes", "os"}})
    with pytest.raises(FileError) as caught:
        load_text(tmp_path, text + "kubernetes: 1.30\nos: 22.04\npublish: {accounts: [012345678901, 123456789012]}\n")
    found = {plan_path(problem.resource): (problem.message, problem.hint) for problem in caught.value.problems}
    assert found["kubernetes"] == ("1.30 is a number to YAML, and text is wanted here", 'write "1.30"')
    assert found["os"][1] == 'write "22.04"'
    assert '"012345678901"' in str(found["publish.accounts[0]"][1])
    assert found["publish.accounts[1]"][1] == 'write "123456789012"'


def test_all_mistakes_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "images.yaml").write_text("schema: 1\nimages:\n- nginx\n")
    text = """\
schema: 1
name: Big
family: ubuntu-eks
os: "20.04"
kubernetes: "1.34"
architecture: amd64
region: us-west-2
builder:
  instance_types: [m7g.large]
  sbunets: []
root_volume: {size_gib: 60, size_gib: 70}
steps:
- settel
- nvidia-driver: {branch: 535}
- prefetch: {images: images.yaml}
tags: {"aws:x": y}
"""
    with pytest.raises(FileError) as caught:
        load_text(tmp_path, text)
    places = [problem.resource.replace(f"{tmp_path}/", "") for problem in caught.value.problems]
    assert places == [
        "plan.yaml:2 name",
        "plan.yaml:5 kubernetes",
        "plan.yaml:10 builder.sbunets",
        "plan.yaml:11 root_volume.size_gib",
        "plan.yaml:13 steps[0]",
        "plan.yaml:14 steps[1].nvidia-driver.branch",
        "plan.yaml:14 steps[1].nvidia-driver",
        "plan.yaml:16 tags",
        "images.yaml:3 images[0]",
    ]
    assert str(caught.value).startswith(
        f"{tmp_path}/plan.yaml: 9 mistakes in the plan:\n  - {tmp_path}/plan.yaml:2 name"
    )


@pytest.mark.parametrize("text", ["[]", "just text", "- a\n- b", "1.5"])
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="the file must be a mapping"):
        load_text(tmp_path, text)


def test_a_plan_for_a_region_whose_publisher_is_not_known(tmp_path: Path) -> None:
    # A region newer than the catalog has the owner of the commercial regions: the base image's check then decides.
    assert load(tmp_path, region="ap-southeast-6").release.owner == "099720109477"
    assert load(tmp_path, region="us-gov-west-1").release.owner == "513442679011"


# --- warnings -------------------------------------------------------------------------------------


def test_warnings_of_the_catalog_and_our_own(tmp_path: Path) -> None:
    assert load(tmp_path).warnings == ("Kubernetes 1.34 leaves EKS's standard support on 2026-12-02, in 9 days",)
    fresh = {"os": "24.04", "kubernetes": "1.35"}
    assert load(tmp_path, **fresh).warnings == ()
    (found,) = load(tmp_path, **fresh, image={"name": "{plan}-{date}"}).warnings
    assert "neither {run} nor {time}" in found
    (found,) = load(tmp_path, **fresh, publish={"accounts": ["123456789012"]}).warnings
    assert "cannot be shared" in found
    key = {"kms_key": "alias/own"}
    assert load(tmp_path, **fresh, publish={"accounts": ["123456789012"]}, root_volume=key).warnings == ()
    shared = {"accounts": ["123456789012"], "regions": ["eu-west-1", "eu-central-1"]}
    shared["kms_keys"] = {"eu-west-1": "alias/own", "eu-central-1": "alias/aws/ebs"}
    (found,) = load(tmp_path, **fresh, publish=shared, root_volume=key).warnings
    assert "(eu-central-1)" in found and "publish.kms_keys" in found
    (found,) = load(tmp_path, **fresh, publish={"copy_within": "5h"}).warnings
    assert "copy_within is longer than image.wait" in found
    (found,) = load(tmp_path, **fresh, base={"name": "ubuntu-eks/*"}).warnings
    assert "base follows whatever is newest" in found
    (found,) = load(tmp_path, **fresh, builder={"instance_types": ["g5.xlarge", "g55.xlarge"]}).warnings
    assert "g55.xlarge is not known to botocore; did you mean g5" in found
    (tmp_path / "images.yaml").write_text("schema: 1\nimages: [{ref: 'a:latest', architectures: [arm64]}]\n")
    latest, nothing = load(tmp_path, **fresh, steps=["settle", {"prefetch": {"images": "images.yaml"}}]).warnings
    assert "has the tag `latest`" in latest and "has nothing for amd64" in nothing


# --- digest ---------------------------------------------------------------------------------------


def test_the_digest_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    shutil.copytree(datafiles.path("plans"), tmp_path / "plans")
    shutil.copytree(datafiles.path("images"), tmp_path / "images")
    (tmp_path / "plans" / "extra.sh").write_text("true\n")
    path = tmp_path / "plans" / "ubuntu-22.04-gpu.yaml"
    original = plan.load(datafiles.path("plans/ubuntu-22.04-gpu.yaml")).digest
    assert plan.load(path).digest == original
    path.write_text(path.read_text() + "\n# a comment changes nothing\n")
    assert plan.load(path, today=date(2030, 1, 1)).digest == original
    text = path.read_text()
    seen = {original}
    for change in (
        text.replace("size_gib: 80", "size_gib: 81"),
        text.replace("535.309.01-0ubuntu0.22.04.1", "535.309.01-0ubuntu0.22.04.2"),
        text.replace("  - gpu-guard", "  - script: {path: extra.sh}\n  - gpu-guard"),
        text.replace("  - gpu-guard", "  - gpu-guard: {timeout: 6m}"),
        text.replace("team: gpu-platform", "team: gpu"),
    ):
        assert change != text
        path.write_text(change)
        seen.add(plan.load(path).digest)
    assert len(seen) == 6
    path.write_text(text.replace("  - gpu-guard", "  - script: {path: extra.sh}\n  - gpu-guard"))
    (tmp_path / "plans" / "extra.sh").write_text("false\n")
    seen.add(plan.load(path).digest)
    path.write_text(text)
    images = tmp_path / "images" / "gpu-1.34.yaml"
    images.write_text(images.read_text().replace("pause:3.10", "pause:3.11"))
    seen.add(plan.load(path).digest)
    assert len(seen) == 8


def test_the_digest_is_of_what_is_built_and_not_of_who_may_use_it(tmp_path: Path) -> None:
    assert load(tmp_path, publish={"accounts": ["123456789012"], "protect": True}).digest == load(tmp_path).digest


# --- durations and instance types -----------------------------------------------------------------


@given(st.integers(0, 10**9))
def test_durations_go_round(value: int) -> None:
    assert seconds(duration(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("90s", 90), ("10m", 600), ("4h", 14_400), ("90d", 7_776_000), ("1h30m", 5_400), ("1d1s", 86_401)],
)
def test_durations(text: str, value: int) -> None:
    assert seconds(text) == value
    assert duration(value) in {text, "1m30s"}


@given(st.text(max_size=12))
@example("")
@example("1h 30m")
@example("30m1h")
@example("-1h")
@example("1.5h")
@example("٣m")
@example("9999999s")
def test_what_is_no_duration_is_wrong(text: str) -> None:
    if re.fullmatch(r"(?=.)([0-9]{1,6}d)?([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?", text):
        assert seconds(text) >= 0
    else:
        with pytest.raises(Wrong):
            seconds(text)


# https://docs.aws.amazon.com/ec2/latest/instancetypes/: architecture and NVIDIA GPU of each.
@pytest.mark.parametrize(
    ("name", "arm64", "nvidia"),
    [
        ("a1.large", True, False),
        ("m6g.large", True, False),
        ("m7gd.metal", True, False),
        ("c6gn.xlarge", True, False),
        ("c8g.metal-24xl", True, False),
        ("im4gn.large", True, False),
        ("is4gen.large", True, False),
        ("x2gd.large", True, False),
        ("t4g.nano", True, False),
        ("hpc7g.4xlarge", True, False),
        ("g5g.xlarge", True, True),
        ("p6e-gb200.36xlarge", True, True),
        ("m7i.large", False, False),
        ("m7i-flex.large", False, False),
        ("m5zn.large", False, False),
        ("u-6tb1.metal", False, False),
        ("i3en.large", False, False),
        ("g4dn.xlarge", False, True),
        ("g4ad.xlarge", False, False),
        ("g5.xlarge", False, True),
        ("g6e.xlarge", False, True),
        ("gr6.4xlarge", False, True),
        ("p3dn.24xlarge", False, True),
        ("p4d.24xlarge", False, True),
        ("p5en.48xlarge", False, True),
        ("p6-b200.48xlarge", False, True),
        ("inf2.xlarge", False, False),
        ("trn1.2xlarge", False, False),
    ],
)
def test_what_an_instance_types_name_tells(tmp_path: Path, name: str, arm64: bool, nvidia: bool) -> None:
    assert (is_arm64(name), is_nvidia(name)) == (arm64, nvidia)
    found = load(tmp_path, builder={"instance_types": [name]}, architecture="arm64" if arm64 else "amd64")
    assert found.builder.instance_types == (name,)


def test_what_the_template_gives_is_what_the_build_uses(tmp_path: Path) -> None:
    found = load(tmp_path, image={"name": "{plan}_{family}_{os}_{kubernetes}_{architecture}_{date}_{time}_{run}"})
    names = Names(run="20261123-211500-a1b2c3", plan=found.name, owner="me")
    more = {"family": found.family, "os": found.os, "kubernetes": found.kubernetes, "architecture": found.architecture}
    assert names.image(found.image.name, **more) == (
        "small_ubuntu-eks_22.04_1.34_amd64_20261123_211500_20261123-211500-a1b2c3"
    )


# --- hostile input --------------------------------------------------------------------------------

WORDS = [
    "schema", "name", "family", "os", "kubernetes", "architecture", "region", "base", "builder", "instance_types",
    "root_volume", "size_gib", "steps", "image", "tags", "publish", "accounts", "settle", "prefetch", "images",
    "nvidia-driver", "branch", "script", "path", "timeout", "ubuntu-eks", "22.04", "1.34", "amd64", "us-west-2", "",
]  # fmt: skip
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.text(max_size=10)
    | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=6))
def test_any_content_gives_a_plan_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("plan") / "plan.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **changes}), encoding="utf-8", errors="surrogateescape")
    try:
        found = plan.load(path)
    except InputError as error:
        json.dumps(error.as_dict())
        return
    assert found.name


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_an_input_error(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.mktemp("plan") / "plan.yaml"
    path.write_bytes(raw)
    with pytest.raises(InputError):
        plan.load(path)


@pytest.mark.parametrize("path", ["\0", "/etc/passwd\0", "~", "../" * 40 + "etc/hostname/x", "a" * 5000, "$(id)"])
def test_hostile_paths(tmp_path: Path, path: str) -> None:
    for step, option in (("script", "path"), ("prefetch", "images")):
        with pytest.raises(InputError):
            load(tmp_path, steps=[{step: {option: path}}])


# --- commands -------------------------------------------------------------------------------------


def test_plan_check(tmp_path: Path) -> None:
    path = str(datafiles.path("plans/ubuntu-20.04-gpu-k8s-1.26.yaml"))
    result = CliRunner().invoke(command, ["check", path])
    assert result.exit_code == 0
    assert "END OF LIFE" in result.stderr and "END OF LIFE" not in result.stdout
    assert "Ubuntu for EKS 20.04, Kubernetes 1.26, amd64" in result.stdout
    result = CliRunner().invoke(command, ["check", path, "--json"])
    found = json.loads(result.stdout)
    assert found["ok"] is True and found["plan"]["schema"] == 1 and found["steps"][0] == "settle"


def test_plan_check_says_what_is_wrong_as_data(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("schema: 1\nname: x\n")
    result = CliRunner().invoke(command, ["check", str(path), "--json"])
    assert isinstance(result.exception, InputError) and result.exception.exit_code == 2
    found = json.loads(result.stdout)
    assert found["ok"] is False and found["exit_code"] == 2
    assert {problem["path"] for problem in found["problems"]} >= {"family", "region", "builder"}


def test_plan_schema_is_what_is_shipped() -> None:
    result = CliRunner().invoke(command, ["schema"])
    assert result.stdout == datafiles.path("plan.schema.json").read_text()


def test_data_files_stay_in_their_folder() -> None:
    assert datafiles.path("plans/al2023.yaml").is_file()
    for name in ("../pyproject.toml", "/etc/passwd", "plans/none.yaml"):
        with pytest.raises(InputError):
            datafiles.path(name)


# --- docs/plan.md ---------------------------------------------------------------------------------


def examples(kind: str) -> list[str]:
    return re.findall(rf"<!-- test: {kind} -->\n```yaml\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)


def steps_table() -> str:
    lines = ["| step | order | families | options |", "| --- | --- | --- | --- |"]
    for step in provisioning.catalogue().values():
        options = []
        for option in step.options:
            kind = " or ".join(f"`{choice}`" for choice in option.choices) or option.kind
            default = "" if option.default is None else f", default `{json.dumps(option.default).strip(chr(34))}`"
            options.append(f"`{option.name}` ({kind}{', required' if option.required else default}): {option.help}")
        order = "-" if step.order is None else str(step.order)
        # Within a table a bar ends the cell.
        cells = (f"`{step.name}`: {step.summary}", order, ", ".join(step.families), "<br>".join(options) or "-")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def errors_text(tmp_path: Path) -> str:
    (text,) = examples("errors")
    with pytest.raises(FileError) as caught:
        load_text(tmp_path, text)
    return "```text\nerror: " + str(caught.value).replace(f"{tmp_path}/", "") + "\n```"


def section(name: str) -> str:
    found = re.search(rf"<!-- {name}: begin -->\n(.*?)<!-- {name}: end -->", DOCS.read_text(), flags=re.DOTALL)
    assert found is not None
    return found[1].strip()


def test_the_reference_names_every_step_and_option() -> None:
    assert section("steps") == steps_table(), "python tests/test_plan.py writes it anew"


def test_the_reference_shows_the_errors_as_they_are(tmp_path: Path) -> None:
    assert section("errors") == errors_text(tmp_path), "python tests/test_plan.py writes it anew"


def test_the_references_plans_are_plans(tmp_path: Path) -> None:
    shutil.copytree(datafiles.path("images"), tmp_path / "images")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "extra.sh").write_text("true\n")
    (tmp_path / "plans").mkdir()
    found = [load_text(tmp_path / "plans", text) for text in examples("plan")]
    assert len(found) == 2 and found[1].publish.protect


def test_the_references_image_list_is_one(tmp_path: Path) -> None:
    from leptonami import imagelist

    (text,) = examples("images")
    (tmp_path / "images.yaml").write_text(text)
    assert len(imagelist.load(tmp_path / "images.yaml").images("arm64")) == 3


def test_the_reference_names_every_key() -> None:
    text = DOCS.read_text()
    for name, field in plan.Common.model_fields.items():
        assert f"`{field.alias or name}" in text, name
    for model, prefix in ((plan.Builder, "builder."), (plan.ImageSettings, "image.")):
        for name in model.model_fields:
            assert f"`{prefix}{name}`" in text, name
    for model in (plan.RootVolume, plan.Publish, plan.Base):
        for name in model.model_fields:
            assert f"`{name}`" in text, name


def rewrite() -> None:
    """Write anew what comes from the code."""
    import tempfile

    (ROOT / "data" / "plan.schema.json").write_text(json.dumps(plan.json_schema(), indent=2, ensure_ascii=False) + "\n")
    text = DOCS.read_text()
    with tempfile.TemporaryDirectory() as folder:
        parts = {"steps": steps_table(), "errors": errors_text(Path(folder))}
    for name, content in parts.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        head, _, rest = text.partition(begin)
        text = head + begin + content + "\n" + end + rest.partition(end)[2]
    DOCS.write_text(text)


if __name__ == "__main__":
    rewrite()


def test_a_shipped_plan_is_found_by_its_name() -> None:
    assert plan.load("ubuntu-22.04-gpu").name == "ubuntu-22.04-gpu"
    with pytest.raises(InputError, match="no such plan") as caught:
        plan.load("ubuntu-22.04-gpuu")
    assert "did you mean ubuntu-22.04-gpu?" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"script": {"path": "/dev/zero"}}, "not a file"),
        ({"script": {"path": "large.sh"}}, "larger than the 40 KiB"),
        (
            {"nvidia-driver": {"branch": "550", "version": "535.309.01-0ubuntu0.22.04.1"}},
            "is not of branch '550'",
        ),
    ],
)
def test_what_would_fail_on_the_builder_fails_here(tmp_path: Path, step: dict[str, Any], message: str) -> None:
    (tmp_path / "large.sh").write_text("#!/bin/bash\n" + "true\n" * 10_000)
    found = mistakes(tmp_path, steps=["settle", step, "versions", "hygiene"])
    assert any(message in each[1] for each in found), found
