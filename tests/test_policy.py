"""The policy of a plan: what it says, that AWS would understand it, and that it is what a build calls."""

from __future__ import annotations

import ast
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from small import load as plan_of

from leptonami import cli, datafiles, policy
from leptonami import plan as plans
from leptonami.bench.experiment import Experiment
from leptonami.bench.experiment import load as load_experiment
from leptonami.bench.policy import for_experiment
from leptonami.build import planner, requests
from leptonami.errors import InputError
from leptonami.plan import Plan
from leptonami.policy import Policy, Statement, characters, for_plan

ROOT = Path(__file__).parent.parent
SHIPPED = sorted((ROOT / "data" / "plans").glob("*.yaml"))
ACCOUNT = "123456789012"
# What IAM asks for beside a call, and what nothing calls.
IMPLIED = {"iam:PassRole"}


def statement(chosen: Policy, sid: str) -> dict[str, Any]:
    (found,) = [each for each in chosen.statements if each.sid == sid]
    return found.as_dict()


VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "no steps": {"steps": []},
    "named image": {"base": {"ami": "ami-0123456789abcdef0"}},
    "own parameter": {"base": {"ssm": "/team/base"}},
    "named": {"base": {"name": "ubuntu-eks/k8s_1.33/images/*"}},
    "own profile": {"builder": {"instance_types": ["m5.large"], "instance_profile": "image-builder"}},
    "boundary": {
        "builder": {
            "instance_types": ["m5.large"],
            "permissions_boundary": "arn:aws:iam::123456789012:policy/image-builders",
        }
    },
    "own network": {
        "builder": {
            "instance_types": ["m5.large"],
            "subnets": ["subnet-0123456789abcdef0"],
            "security_groups": ["sg-0123456789abcdef0"],
        }
    },
    "spot": {"builder": {"instance_types": ["m5.large"], "spot": True}},
    "key": {"root_volume": {"size_gib": 30, "kms_key": "alias/images"}},
    "china": {"region": "cn-north-1"},
}


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest, tmp_path: Path) -> Plan:
    return plan_of(tmp_path, **VARIANTS[request.param])


# What AWS would say to it -------------------------------------------------------------------------------------------

FACTS = yaml.safe_load(datafiles.path("iam-actions.yaml").read_text())["actions"]
EVERYWHERE = {"aws:RequestedRegion", "aws:PrincipalAccount", "kms:ResourceAliases"}


def kind_of(arn: str) -> str:
    """Give the kind of resource of an ARN, as the Service Authorization Reference names it."""
    return re.split(r"[:/]", arn.split(":", 5)[5])[0]


def complaints(each: Statement) -> list[str]:
    """Say what AWS would not understand of a statement: then it would silently allow nothing."""
    found: list[str] = []
    used: set[str] = set()
    for action in each.actions:
        service, _, name = action.partition(":")
        facts = FACTS.get(service, {}).get(name)
        if facts is None:
            found.append(f"{action} is not in data/iam-actions.yaml")
            continue
        kinds = facts.get("resources", {})
        if (each.resources == ("*",)) != (not kinds):
            found.append(f"{action} on {each.resources}: AWS knows {sorted(kinds) or 'no resources'}")
            continue
        about = [resource for resource in each.resources if resource == "*" or kind_of(resource) in kinds]
        if not about:
            found.append(f"{action} is never about {each.resources}")
        used |= set(about)
        for resource in about:
            keys = {*facts.get("keys", []), *EVERYWHERE, *(kinds[kind_of(resource)] if kinds else [])}
            for pairs in each.conditions.values():
                for key in pairs:
                    base = key.partition("/")[0] if "Tag/" in key else key
                    if base not in keys:
                        found.append(f"AWS gives no {key} for {action} on {resource}")
    found += [f"no action is about {resource}" for resource in each.resources if resource not in used]
    return found


def test_aws_understands_every_statement(variant: Plan) -> None:
    assert [line for each in for_plan(variant, account=ACCOUNT).statements for line in complaints(each)] == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_plans_fit(path: Path) -> None:
    chosen = for_plan(plans.load(path), account=ACCOUNT)
    assert [line for each in chosen.statements for line in complaints(each)] == []
    for document in chosen.documents():
        assert characters(document) <= policy.MANAGED_CHARACTERS


def test_a_complaint_is_made() -> None:
    """The check above must be able to fail."""
    wrong = Statement(
        "Wrong",
        ("build",),
        "",
        ("ec2:DescribeImages", "ec2:StopInstances", "ec2:Fly"),
        ("arn:aws:ec2:us-west-2:123456789012:volume/*",),
        {"StringEquals": {"aws:RequestTag/a": "b"}},
    )
    text = "\n".join(complaints(wrong))
    assert "ec2:DescribeImages on ('arn" in text
    assert "ec2:StopInstances is never about" in text
    assert "ec2:Fly is not" in text
    tagged = Statement("W", ("build",), "", ("ec2:StopInstances",), ("arn:aws:ec2:r:1:instance/*",), wrong.conditions)
    assert "no action is about arn:aws:ec2:us-west-2:123456789012:volume/*" in text
    assert complaints(tagged) == ["AWS gives no aws:RequestTag/a for ec2:StopInstances on arn:aws:ec2:r:1:instance/*"]


def test_statements_have_names_that_iam_takes(variant: Plan) -> None:
    sids = [each.sid for each in for_plan(variant).statements]
    assert len(set(sids)) == len(sids)
    assert all(re.fullmatch(r"[A-Za-z0-9]+", sid) for sid in sids)


def test_nothing_is_allowed_on_everything_without_a_reason(variant: Plan) -> None:
    for each in for_plan(variant, account=ACCOUNT).statements:
        text = json.dumps(each.as_dict())
        assert '"Action": "*"' not in text
        assert not any("*" in action for action in each.actions)
        if each.sid == "LookForRoles":
            assert set(each.actions) == {"iam:ListRoles", "iam:ListInstanceProfiles"}
        elif each.resources == ("*",):
            assert each.conditions == {"StringEquals": {"aws:RequestedRegion": variant.region}}, each.sid
        else:
            assert all(resource.startswith("arn:") for resource in each.resources)
            # Whatever changes something is held by a tag, a name, the plan's own words or a key of the service.
            unbound = [resource for resource in each.resources if resource.endswith("/*") and not each.conditions]
            assert not unbound or each.sid in {"NewGroupsVpc", "LaunchInto", "LookAtGroups"}, each.sid


# That it is what a build does ---------------------------------------------------------------------------------------


def operations(service: str) -> dict[str, str]:
    """Give boto3's method names of a service's operations."""
    import botocore.session
    from botocore import xform_name

    model = botocore.session.get_session().get_service_model(service)
    return {xform_name(name): f"{service}:{name}" for name in model.operation_names}


def methods_in(folder: str, *modules: str, more: tuple[str, ...] = ()) -> set[str]:
    """Find the AWS operations that a folder's source names: called, handed on, or by the name of their method."""
    services = (*more, "iam", "ssm", "sts", "ec2")
    known = {name: action for service in services for name, action in operations(service).items()}
    found = set()
    for path in (ROOT / "leptonami" / folder).rglob("*.py"):
        if modules and path.stem not in modules:
            continue
        tree = ast.parse(path.read_text())
        tree.body = [each for each in tree.body if not (isinstance(each, ast.Assign) and "__all__" in ast.dump(each))]
        for node in ast.walk(tree):
            # A function of a module of ours that is called like a method of boto3 is no call of AWS.
            if isinstance(node, ast.Attribute) and node.attr in known and not named_module(node.value):
                found.add(known[node.attr])
            elif isinstance(node, ast.Constant) and node.value in known:
                found.add(known[str(node.value)])
    return found


def named_module(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in {"requests", "builders", "image", "preflight"}


def whole(tmp_path: Path) -> frozenset[str]:
    """Give what plans need in all: the temporary profile and one of the plan's own exclude each other."""
    return frozenset().union(
        *(for_plan(plan_of(tmp_path, **VARIANTS[name]), purposes=["build"]).actions for name in VARIANTS)
    )


def test_every_call_in_the_source_of_a_build_is_allowed_and_no_other(tmp_path: Path) -> None:
    called = methods_in("build") - {"sts:GetCallerIdentity"}
    assert len(called) > 25
    keys = {action for action in whole(tmp_path) if action.startswith("kms:")}
    assert called == whole(tmp_path) - IMPLIED - keys


def test_every_announced_call_is_allowed(variant: Plan) -> None:
    ground = policy.Ground(variant, account=ACCOUNT)
    announced = {action.call.replace(".", ":") for action in ground.actions}
    assert announced <= for_plan(variant).actions


def test_a_call_without_a_rule_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = planner.outline

    def outline(*given: Any) -> planner.Outline:
        found = real(*given)
        more = planner.Action("ec2.CreateVpc", "a new one", {}, True)
        return planner.Outline(found.base, found.image_name, (*found.actions, more), found.scripts, found.estimate)

    monkeypatch.setattr(planner, "outline", outline)
    with pytest.raises(NotImplementedError, match=r"no rule for ec2\.CreateVpc"):
        for_plan(plan_of(tmp_path))


def test_the_document_is_the_one_that_is_sent() -> None:
    source = (ROOT / "leptonami" / "build" / "command.py").read_text()
    assert re.findall(r'DocumentName="([^"]+)"', source) == [policy.DOCUMENT]


# Experiments ----------------------------------------------------------------------------------------------------------

EXPERIMENT = datafiles.path("experiments/eks.yaml")


def experiment_of(by: str, **eks: Any) -> Experiment:
    """Give the shipped experiment, launched by instances or node groups."""
    shipped = load_experiment(EXPERIMENT).as_dict()
    return Experiment.model_validate({**shipped, "eks": {**shipped["eks"], "by": by, **eks}})


@pytest.mark.parametrize("by", ["instance", "nodegroup"])
def test_aws_understands_what_an_experiment_needs(by: str) -> None:
    for firewall in ([], ["sg-0123456789abcdef0"]):
        chosen = for_experiment(experiment_of(by, security_groups=firewall), account=ACCOUNT)
        assert [line for each in chosen.statements for line in complaints(each)] == []
        assert all(characters(each) <= policy.MANAGED_CHARACTERS for each in chosen.documents())
        for each in chosen.statements:
            assert each.resources != ("*",) or each.conditions or each.sid == "LookForRoles"


def test_every_call_in_the_source_of_the_driver_is_allowed_and_no_other() -> None:
    called = methods_in("bench/eks", more=("autoscaling", "eks")) - {"sts:GetCallerIdentity"}
    called |= methods_in("build", "command", "agent")
    chosen = [for_experiment(experiment_of(by), purposes=["bench"]) for by in ("instance", "nodegroup")]
    # What is asked for beside CreateNodegroup, RunInstances and CreateLaunchTemplate.
    beside = {"iam:PassRole", "iam:GetRole", "iam:ListAttachedRolePolicies", "eks:TagResource", "ec2:CreateTags"}
    assert frozenset().union(*(each.actions for each in chosen)) == called | beside | {
        "ec2:DescribeLaunchTemplateVersions"
    }


def test_an_experiment_of_another_driver_needs_none() -> None:
    with pytest.raises(InputError, match="calls nothing of AWS"):
        for_experiment(load_experiment("process"))


def test_the_command_gives_the_policy_of_an_experiment(tmp_path: Path) -> None:
    found = run("eks", "--for", "bench", "--account-id", ACCOUNT)
    assert found.exit_code == 0, found.output
    assert "role/my-node-role" in found.stdout
    assert "--node-role" in found.stderr
    named = run("eks", "--for", "bench", "--for", "sweep", "--node-role", "workers", "--json")
    told = json.loads(named.stdout)
    assert (told["plan"], len(told["documents"])) == ("eks", 1)
    assert "role/workers" in named.stdout and "sweep" in {
        each for row in told["statements"] for each in row["purposes"]
    }
    for wrong in (("--for", "build"), ("--builder",)):
        refused = run("eks", "--for", "bench", *wrong)
        assert isinstance(refused.exception, InputError)
        assert "about an experiment" in str(refused.exception)


# What it says -------------------------------------------------------------------------------------------------------


def test_a_plan_without_steps_needs_neither_ssm_nor_a_role(tmp_path: Path) -> None:
    actions = for_plan(plan_of(tmp_path, steps=[]), purposes=["build"]).actions
    assert {action for action in actions if not action.startswith("ec2:")} == {"ssm:GetParameter"}


def test_a_plan_with_its_own_profile_writes_nothing_in_iam(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, **VARIANTS["own profile"])
    chosen = for_plan(plan, account=ACCOUNT, builder_role="team/builders", purposes=["build"])
    assert {action for action in chosen.actions if action.startswith("iam:")} == {
        "iam:GetInstanceProfile",
        "iam:PassRole",
    }
    assert statement(chosen, "PassRole")["Resource"] == f"arn:aws:iam::{ACCOUNT}:role/team/builders"
    assert not chosen.notes
    (note,) = for_plan(plan, account=ACCOUNT).notes
    assert "--builder-role" in note


def test_a_boundary_is_asked_for_wherever_a_role_is_made_or_filled(tmp_path: Path) -> None:
    chosen = for_plan(plan_of(tmp_path, **VARIANTS["boundary"]), account=ACCOUNT, purposes=["build"])
    boundary = VARIANTS["boundary"]["builder"]["permissions_boundary"]
    for sid in ("NewRole", "FillRole"):
        assert statement(chosen, sid)["Condition"]["StringEquals"]["iam:PermissionsBoundary"] == boundary
    assert set(statement(chosen, "OwnRole")["Action"]) == {"iam:DeleteRole", "iam:DeleteRolePolicy"}
    # Nothing takes a boundary off, or a policy of another kind onto the role.
    assert not [action for action in chosen.actions if "Boundary" in action or "Attach" in action]
    assert not chosen.notes
    (note,) = for_plan(plan_of(tmp_path), purposes=["build"]).notes
    assert "permissions_boundary" in note


def test_the_builders_policy_is_a_boundary_that_the_build_fits_into(tmp_path: Path) -> None:
    """What is put into the temporary role is what `--builder` prints, to make the boundary from."""
    plan = plan_of(tmp_path, **VARIANTS["boundary"])
    request = requests.put_role_policy(plan, names(plan))
    assert json.loads(request["PolicyDocument"]) == policy.builder_document(plan)
    made = requests.create_role(plan, names(plan))
    assert made["PermissionsBoundary"] == VARIANTS["boundary"]["builder"]["permissions_boundary"]
    assert "PermissionsBoundary" not in requests.create_role(plan_of(tmp_path), names(plan))


@pytest.mark.parametrize(
    "builder",
    [
        {"permissions_boundary": "image-builders"},
        {"permissions_boundary": "arn:aws:iam::1:policy/x"},
        {"permissions_boundary": "arn:aws:iam::123456789012:role/x"},
        {"permissions_boundary": "arn:aws:iam::123456789012:policy/x", "instance_profile": "mine"},
    ],
    ids=str,
)
def test_bad_boundaries(tmp_path: Path, builder: dict[str, str]) -> None:
    with pytest.raises(InputError):
        plan_of(tmp_path, builder={"instance_types": ["m5.large"], **builder})


def test_what_the_plan_names_is_named(tmp_path: Path) -> None:
    chosen = for_plan(plan_of(tmp_path, **VARIANTS["own network"]), account=ACCOUNT)
    here = f"arn:aws:ec2:us-west-2:{ACCOUNT}"
    assert statement(chosen, "LaunchInto")["Resource"] == f"{here}:subnet/subnet-0123456789abcdef0"
    assert statement(chosen, "LaunchWithGroup")["Resource"] == f"{here}:security-group/sg-0123456789abcdef0"
    assert "ec2:CreateSecurityGroup" not in chosen.actions
    launch = statement(chosen, "LaunchBuilder")["Condition"]["StringEquals"]
    assert (launch["ec2:InstanceType"], launch["ec2:MetadataHttpTokens"]) == (["m5.large"], "required")
    image = for_plan(plan_of(tmp_path, **VARIANTS["named image"]), account=ACCOUNT)
    assert statement(image, "LaunchFrom")["Resource"] == "arn:aws:ec2:us-west-2::image/ami-0123456789abcdef0"
    assert "ssm:GetParameter" not in image.actions
    own = for_plan(plan_of(tmp_path, **VARIANTS["own parameter"]), account=ACCOUNT)
    assert statement(own, "BaseParameter")["Resource"] == f"arn:aws:ssm:us-west-2:{ACCOUNT}:parameter/team/base"
    public = for_plan(plan_of(tmp_path), account=ACCOUNT)
    assert statement(public, "BaseParameter")["Resource"].startswith("arn:aws:ssm:us-west-2::parameter/aws/service/")


def test_names_of_runs_fit_and_others_do_not(tmp_path: Path) -> None:
    from leptonami.runs import new_id

    resource = statement(for_plan(plan_of(tmp_path), account=ACCOUNT), "OwnRole")["Resource"]
    pattern = re.compile(re.escape(resource).replace(r"\?", "."))
    assert "*" not in resource
    assert pattern.fullmatch(f"arn:aws:iam::{ACCOUNT}:role/leptonami-{new_id()}")
    assert not pattern.fullmatch(f"arn:aws:iam::{ACCOUNT}:role/leptonami-admin")
    assert not pattern.fullmatch(f"arn:aws:iam::{ACCOUNT}:role/admin")


@pytest.mark.parametrize(
    ("key", "resource", "alias"),
    [
        ("alias/images", f"arn:aws:kms:us-west-2:{ACCOUNT}:key/*", "alias/images"),
        ("arn:aws:kms:us-west-2:111122223333:alias/shared", "arn:aws:kms:us-west-2:111122223333:key/*", "alias/shared"),
        (
            "12345678-1234-1234-1234-123456789012",
            f"arn:aws:kms:us-west-2:{ACCOUNT}:key/12345678-1234-1234-1234-123456789012",
            None,
        ),
        ("mrk-" + "a" * 32, f"arn:aws:kms:us-west-2:{ACCOUNT}:key/mrk-" + "a" * 32, None),
        (
            "arn:aws:kms:us-west-2:111122223333:key/12345678-1234-1234-1234-123456789012",
            "arn:aws:kms:us-west-2:111122223333:key/12345678-1234-1234-1234-123456789012",
            None,
        ),
    ],
)
def test_a_key_is_used_through_ec2_only_which_the_lab_cannot_check(
    tmp_path: Path, key: str, resource: str, alias: str | None
) -> None:
    chosen = for_plan(plan_of(tmp_path, root_volume={"size_gib": 30, "kms_key": key}), account=ACCOUNT)
    for sid in ("UseKey", "GrantKey"):
        found = statement(chosen, sid)
        assert found["Resource"] == resource
        assert found["Condition"]["StringEquals"] == {"kms:ViaService": "ec2.us-west-2.amazonaws.com"}
        assert found["Condition"].get("ForAnyValue:StringEquals", {}).get("kms:ResourceAliases") == alias
    assert statement(chosen, "GrantKey")["Condition"]["Bool"] == {"kms:GrantIsForAWSResource": "true"}


def test_partitions_are_botocores() -> None:
    import botocore.session

    session = botocore.session.get_session()
    for partition in session.get_available_partitions():
        for region in session.get_available_regions("ec2", partition):
            assert policy.partition_of(region) == partition


def test_china(tmp_path: Path) -> None:
    chosen = for_plan(plan_of(tmp_path, region="cn-north-1"), account=ACCOUNT)
    resources = [each for found in chosen.statements for each in found.resources if each != "*"]
    assert all(each.startswith("arn:aws-cn:") for each in resources)
    passed = statement(chosen, "PassRole")["Condition"]["StringEquals"]["iam:PassedToService"]
    assert passed == "ec2.amazonaws.com.cn"
    trust = json.loads(
        requests.create_role(chosen_plan := plan_of(tmp_path), names(chosen_plan), partition="aws-cn")[
            "AssumeRolePolicyDocument"
        ]
    )
    assert trust["Statement"][0]["Principal"]["Service"] == passed


def names(plan: Plan) -> Any:
    from leptonami.build.names import Names

    return Names(run=policy.EXAMPLE_RUN, plan=plan.name, owner="me")


@pytest.mark.parametrize(
    "given",
    [{"account": "12345678901"}, {"account": "*"}, {"partition": "aws:x"}, {"builder_role": "arn:aws:iam::1:role/x"}],
)
def test_bad_parts_of_arns(tmp_path: Path, given: dict[str, str]) -> None:
    with pytest.raises(InputError):
        for_plan(plan_of(tmp_path), **given)  # type: ignore[arg-type]


# Publishing and sweeping ---------------------------------------------------------------------------------------------

PUBLISH: dict[str, Any] = {
    "regions": ["eu-central-1"],
    "kms_keys": {"eu-central-1": "alias/europe"},
    "accounts": ["111122223333"],
    "ssm_parameter": "/images/test",
    "deprecate_after": "90d",
    "protect": True,
    "fast_launch": {"fast_snapshot_restore": {"zones": ["us-west-2a"], "replace": True}},
}


def publishing(tmp_path: Path, **changes: Any) -> Policy:
    plan = plan_of(tmp_path, publish={**PUBLISH, **changes}, root_volume={"size_gib": 30, "kms_key": "alias/home"})
    return for_plan(plan, account=ACCOUNT, purposes=["publish"])


def test_a_plan_that_publishes_nothing_needs_nothing_for_it(tmp_path: Path) -> None:
    assert for_plan(plan_of(tmp_path), purposes=["publish"]).statements == ()


def test_a_build_that_publishes_is_said_to_need_both(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, publish=PUBLISH)
    build = for_plan(plan, purposes=["build"])
    assert "ec2:CopyImage" not in build.actions
    assert any("--for publish" in note for note in build.notes)
    assert not any("--for publish" in note for note in for_plan(plan).notes)


def test_aws_understands_what_publishing_needs(tmp_path: Path) -> None:
    chosen = publishing(tmp_path)
    assert [line for each in chosen.statements for line in complaints(each)] == []
    assert all(characters(each) <= policy.MANAGED_CHARACTERS for each in chosen.documents())


def test_every_call_of_publishing_is_allowed_and_no_other(tmp_path: Path) -> None:
    from leptonami.publish.model import Order
    from leptonami.publish.publishing import calls

    plan = plan_of(tmp_path, publish=PUBLISH)
    announced = {call.replace(".", ":") for call in calls(Order.of_plan(plan))}
    allowed = {action for action in publishing(tmp_path).actions if not action.startswith("kms:")}
    assert announced == allowed
    # What the source names and nobody announced would be refused on AWS.
    assert methods_in("publish") <= announced


def test_a_call_of_publishing_that_is_not_known_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leptonami.publish.publishing.calls", lambda _: ("ec2.ExportImage",))
    with pytest.raises(NotImplementedError, match="ec2:ExportImage"):
        publishing(tmp_path)


def test_snapshots_are_shared_with_the_plans_accounts_and_nobody_else(tmp_path: Path) -> None:
    share = statement(publishing(tmp_path), "ShareSnapshot")
    assert share["Action"] == "ec2:ModifySnapshotAttribute"
    assert share["Condition"]["ForAllValues:StringEquals"] == {"ec2:Add/userId": ["111122223333"]}
    assert share["Condition"]["Null"] == {"ec2:Add/group": "true"}
    assert "ec2:ModifySnapshotAttribute" not in publishing(tmp_path, accounts=[]).actions


def test_publishing_reaches_the_plans_regions_and_its_parameters(tmp_path: Path) -> None:
    chosen = publishing(tmp_path)
    regions = {each.split(":")[3] for found in chosen.statements for each in found.resources if each != "*"}
    assert regions == {"us-west-2", "eu-central-1"}
    assert statement(chosen, "Parameters")["Resource"] == [
        f"arn:aws:ssm:{region}:{ACCOUNT}:parameter/images/test/ubuntu-eks/22.04/1.33/amd64/*"
        for region in ("us-west-2", "eu-central-1")
    ]
    assert statement(chosen, "CopyTo")["Resource"] == [
        "arn:aws:ec2:eu-central-1::image/*",
        "arn:aws:ec2:eu-central-1::snapshot/*",
    ]
    through = statement(chosen, "UseKeyOfSource")["Condition"]["StringEquals"]["kms:ViaService"]
    assert through == ["ec2.us-west-2.amazonaws.com", "ec2.eu-central-1.amazonaws.com"]


def test_every_call_of_a_sweep_is_allowed_and_no_other(tmp_path: Path) -> None:
    called = methods_in("lifecycle", "inventory", "removal", "sweep", "known", "where", more=("eks",))
    called |= methods_in("build", "image") & {"ec2:DeregisterImage"}
    called -= {"sts:GetCallerIdentity"}
    # A plan makes no node groups: a sweep looks whether an experiment has left some, and lets them be.
    groups = {"eks:DeleteNodegroup", "ec2:DeleteLaunchTemplate"}
    assert called - groups == for_plan(plan_of(tmp_path), purposes=["sweep"]).actions
    assert groups <= called & for_experiment(experiment_of("nodegroup"), purposes=["sweep"]).actions


def test_aws_understands_what_a_sweep_needs(tmp_path: Path) -> None:
    chosen = for_plan(plan_of(tmp_path), account=ACCOUNT, purposes=["sweep"])
    assert [line for each in chosen.statements for line in complaints(each)] == []


def test_every_call_about_images_is_allowed_and_no_other(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, publish=PUBLISH)
    called = methods_in("lifecycle", "images", "usage", more=("autoscaling", "eks"))
    assert called == for_plan(plan, purposes=["images"]).actions
    retired = called | methods_in("lifecycle", "retire") - {"sts:GetCallerIdentity"}
    retired |= methods_in("build", "image") & {"ec2:DeregisterImage"}
    assert retired == for_plan(plan, purposes=["retire"]).actions


@pytest.mark.parametrize("changes", [{}, {"publish": PUBLISH}], ids=["here", "published"])
def test_aws_understands_what_images_and_retire_need(tmp_path: Path, changes: dict[str, Any]) -> None:
    chosen = for_plan(plan_of(tmp_path, **changes), account=ACCOUNT, purposes=["images", "retire"])
    assert [line for each in chosen.statements for line in complaints(each)] == []
    regions = {each.split(":")[3] for found in chosen.statements for each in found.resources if each != "*"}
    assert regions == {"us-west-2", *changes.get("publish", {}).get("regions", [])}
    assert any("resolve:ssm:" in note for note in chosen.notes)


def test_nothing_that_lets_images_go_is_given_unasked(tmp_path: Path) -> None:
    assert not {"ec2:EnableImageDeprecation", "ssm:DeleteParameters"} & for_plan(plan_of(tmp_path)).actions
    shown = for_plan(plan_of(tmp_path, publish=PUBLISH), purposes=["images"]).actions
    assert not [each for each in shown if not each.partition(":")[2].startswith(("Describe", "Get", "List"))]


def test_what_build_and_sweep_share_stands_once(tmp_path: Path) -> None:
    chosen = for_plan(plan_of(tmp_path))
    shared = {each.sid for each in chosen.statements if each.purposes == ("build", "sweep")}
    assert shared == {"Look", "OwnRole", "OwnProfile", "CancelScript", "OwnBuilder", "OwnGroup", "DiscardImage"}


# Sizes --------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=40))
def test_documents_are_split_between_statements_and_lose_none(lengths: list[int]) -> None:
    statements = tuple(
        Statement(f"S{number}", ("build",), "", ("ec2:StopInstances",), ("arn:" + "x" * length,))
        for number, length in enumerate(lengths)
    )
    documents = Policy("test", statements, ()).documents()
    assert all(characters(each) <= policy.MANAGED_CHARACTERS for each in documents)
    assert [each for document in documents for each in document["Statement"]] == [each.as_dict() for each in statements]
    # As few as possible in this order: no document could have taken the next one's first statement.
    for before, after in itertools.pairwise(documents):
        more = {**before, "Statement": [*before["Statement"], after["Statement"][0]]}
        assert characters(more) > policy.MANAGED_CHARACTERS


def test_a_statement_that_is_too_long_is_refused() -> None:
    long = Statement("S", ("build",), "", ("ec2:StopInstances",), tuple(f"arn:{number:040}" for number in range(200)))
    with pytest.raises(InputError, match="S has"):
        Policy("test", (long,), ()).documents()


def test_white_space_does_not_count() -> None:
    assert characters({"a": ["b", "c d"]}) == len('{"a":["b","cd"]}')


# The builder's own role ---------------------------------------------------------------------------------------------


def with_images(tmp_path: Path, *refs: str) -> Plan:
    (tmp_path / "images.yaml").write_text(
        json.dumps(
            {"schema": 1, "images": [{"ref": ref, "size": {"compressed_mib": 1, "unpacked_mib": 1}} for ref in refs]}
        )
    )
    steps = ["settle", {"prefetch": {"images": "images.yaml"}}, "versions", "hygiene"]
    return plan_of(tmp_path, steps=steps)


def test_the_builder_may_pull_the_plans_private_images_and_no_others(tmp_path: Path) -> None:
    plan = with_images(
        tmp_path,
        f"{ACCOUNT}.dkr.ecr.us-west-2.amazonaws.com/team/app:1",
        f"{ACCOUNT}.dkr.ecr.us-west-2.amazonaws.com/team/app:2",
        "registry.k8s.io/pause:3.10",
    )
    document = policy.builder_document(plan)
    found = {each["Sid"]: each for each in document["Statement"]}
    assert found["PullImages"]["Resource"] == [f"arn:aws:ecr:us-west-2:{ACCOUNT}:repository/team/app"]
    assert set(found["PullImages"]["Action"]) == {"ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"}
    writes = {"ssm:SendCommand", "ec2:", "iam:", "s3:", "ssm:GetParameter", "*"}
    actions = [action for each in document["Statement"] for action in each["Action"]]
    assert not [action for action in actions if any(action.startswith(bad) for bad in writes)]


def test_without_private_images_the_builder_has_the_agents_channel_only(tmp_path: Path) -> None:
    (only,) = policy.builder_document(plan_of(tmp_path))["Statement"]
    assert only["Sid"] == "SystemsManagerAgent"
    assert all(action.split(":")[0] in {"ssm", "ssmmessages", "ec2messages"} for action in only["Action"])


def test_a_builder_policy_that_no_role_takes_is_refused(tmp_path: Path) -> None:
    refs = [f"{ACCOUNT}.dkr.ecr.us-west-2.amazonaws.com/team/{'x' * 60}{number}:1" for number in range(120)]
    with pytest.raises(InputError, match="a role takes"):
        policy.builder_document(with_images(tmp_path, *refs))


# The command --------------------------------------------------------------------------------------------------------


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.cli, ["policy", *arguments], standalone_mode=True)


def test_the_command_prints_a_document(tmp_path: Path) -> None:
    path = str(plan_of(tmp_path).path)
    result = run(path, "--for", "build", "--account-id", ACCOUNT)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["Version"] == "2012-10-17"
    assert policy.ACCOUNT not in result.stdout
    assert policy.ACCOUNT in run(path).stdout
    assert "--account-id" in run(path).stderr


def test_what_does_not_fit_comes_in_several_documents(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    result = run(str(plan.path), "--account-id", ACCOUNT)
    documents = json.loads(result.stdout)
    assert documents == list(for_plan(plan, account=ACCOUNT).documents())
    assert len(documents) == 2
    assert "2 documents" in result.stderr
    written = run(str(plan.path), "--folder", str(tmp_path / "out")).stdout.split()
    assert [Path(each).name for each in written] == ["test-1.json", "test-2.json"]


def test_the_command_as_json_and_in_words(tmp_path: Path) -> None:
    path = str(plan_of(tmp_path).path)
    found = json.loads(run(path, "--for", "build", "--json").stdout)
    (only,) = found["documents"]
    assert only["characters"] == characters(only["document"])
    assert {each["Sid"] for each in found["statements"]} == {each["Sid"] for each in only["document"]["Statement"]}
    assert all(each["why"] for each in found["statements"])
    told = run(path, "--explain").stdout
    assert "TagAtCreation" in told
    assert max(map(len, told.splitlines())) <= 80


def test_the_command_writes_files(tmp_path: Path) -> None:
    path = str(plan_of(tmp_path).path)
    result = run(path, "--for", "build", "--folder", str(tmp_path / "out"))
    (written,) = (tmp_path / "out").iterdir()
    assert result.stdout.strip() == str(written)
    assert json.loads(written.read_text()) == json.loads(run(path, "--for", "build").stdout)
    builder = run(path, "--builder", "--folder", str(tmp_path / "out")).stdout.strip()
    assert json.loads(Path(builder).read_text()) == policy.builder_document(plans.load(path))
    (tmp_path / "file").write_text("")
    refused = CliRunner().invoke(cli.cli, ["policy", path, "--folder", str(tmp_path / "file" / "x")])
    assert isinstance(refused.exception, InputError)


def test_a_wrong_plan_is_exit_code_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.yaml").write_text("schema: 1\n")
    with pytest.raises(SystemExit) as caught:
        cli.main(["policy", str(tmp_path / "bad.yaml")])
    assert caught.value.code == 2


# docs/policy.md -----------------------------------------------------------------------------------------------------

DOCS = ROOT / "docs" / "policy.md"


def everything(folder: Path) -> list[Statement]:
    """Give every statement that there is, by the plans and experiments that need them."""
    with_boundary = VARIANTS["boundary"]
    key = {"root_volume": {"size_gib": 30, "kms_key": "alias/home"}, "publish": PUBLISH}
    found: dict[str, Statement] = {}
    for changes in ({}, with_boundary, VARIANTS["own profile"], key):
        for each in for_plan(plan_of(folder, **changes), purposes=policy.PURPOSES).statements:
            found.setdefault(each.sid, each)
    for by in ("instance", "nodegroup"):
        for each in for_experiment(experiment_of(by)).statements:
            found.setdefault(each.sid, each)
    return list(found.values())


def statements_table(folder: Path) -> str:
    """Write the table of the statements."""
    lines = ["| Statement | for | allows | why |", "|---|---|---|---|"]
    for each in everything(folder):
        actions = ", ".join(f"`{action}`" for action in each.actions)
        lines.append(f"| `{each.sid}` | {', '.join(each.purposes)} | {actions} | {each.why} |")
    return "\n".join(lines)


def test_the_page_names_every_statement(tmp_path: Path) -> None:
    text = DOCS.read_text()
    assert statements_table(tmp_path) in text, "python tests/test_policy.py writes it anew"


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        head, begin, rest = DOCS.read_text().partition("<!-- statements: begin -->\n")
        rest = rest[rest.index("<!-- statements: end -->") :]
        DOCS.write_text(f"{head}{begin}{statements_table(Path(name))}\n{rest}")
