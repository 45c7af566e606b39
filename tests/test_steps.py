"""Steps: what they declare, how plans use them, what they render to."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nodes import GPU, OPTIONS

from leptonami.build import steps
from leptonami.build.steps import StepUse, arrange
from leptonami.errors import InputError
from leptonami.imagelist import Image

CONTEXT = GPU.context


def uses(*names: str, **options: dict[str, object]) -> list[StepUse]:
    """Give uses of steps, with the options that they need."""
    return [StepUse(n, options.get(n.replace("-", "_"), OPTIONS.get(n, {})), None, f"p.yaml:{n}") for n in names]


def names(arranged: tuple[StepUse, ...]) -> list[str]:
    return [use.name for use in arranged]


# --- declarations


def test_catalogue_is_in_the_order_in_which_steps_run() -> None:
    found = steps.catalogue()
    assert list(found) == [
        "settle",
        "nvidia-driver",
        "nvidia-toolkit",
        "prefetch",
        "gpu-guard",
        "versions",
        "hygiene",
        "script",
    ]
    orders = [step.order for step in found.values()]
    assert orders == [10, 30, 40, 50, 60, 80, 90, None]


@pytest.mark.parametrize("step", steps.catalogue().values(), ids=lambda step: step.name)
def test_every_step_declares_what_people_need(step: steps.Step) -> None:
    assert step.summary
    assert 60 <= step.timeout <= 6 * 3600
    assert step.families
    assert all(need in steps.catalogue() for need, _ in step.needs)
    for option in step.options:
        assert len(option.help) > 10, option
        assert not (option.required and option.default is not None), option
    # The script uses every option that it declares, and none besides. Files become content.
    text = step.path.read_text()
    for option in step.options:
        if option.kind != "path" and option.name != "after":
            assert f"OPT_{option.name.upper()}" in text, option.name


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("option Bad: string -- help text", "not an option"),
        ("option a: string", "not an option"),
        ("option a: strange -- help text", "not a kind"),
        ("option a: string sometimes -- help text", "not a property"),
        ("option a: x|y default=z -- help text", "not one of"),
        ("option a: integer default=-4 -- help text", "negative"),
        ("option a: string default=1 match=[a-z]+ -- help text", "does not match"),
    ],
)
def test_a_wrong_declaration_is_found(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "x.sh"
    path.write_text(f"# leptonami-step: x\n# summary: s\n# families: al2\n# timeout: 5m\n# {line}\n")
    with pytest.raises(ValueError, match=why):
        steps.read(path)


def test_a_declaration_must_name_its_file(tmp_path: Path) -> None:
    path = tmp_path / "y.sh"
    path.write_text("# leptonami-step: x\n# summary: s\n# families: al2\n# timeout: 5m\n")
    with pytest.raises(ValueError, match="declares 'x'"):
        steps.read(path)


@pytest.mark.parametrize("text", ["", "10", "m", "1d", "1.5h", "-1s", " 5m"])
def test_durations_are_strict(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        steps.seconds(text)
    assert steps.seconds("90s") == 90
    assert steps.seconds("2h") == 7200


# --- use in plans


def test_a_right_plan_is_left_as_it_is() -> None:
    given_ = uses("settle", "nvidia-driver", "nvidia-toolkit", "prefetch", "gpu-guard", "versions", "hygiene")
    assert arrange(given_, family="ubuntu-eks", architecture="amd64") == tuple(given_)
    assert arrange([], family="al2", architecture="arm64") == ()


@pytest.mark.parametrize(
    ("given_", "family", "message", "hint"),
    [
        (uses("setle"), "al2", "no step 'setle'", "did you mean settle"),
        (uses("settle", settle={"wiat": 3}), "al2", "no option 'wiat'", "did you mean wait"),
        (uses("settle", settle={"wait": "3"}), "al2", "'3' is not a whole number", "seconds"),
        (uses("settle", settle={"wait": True}), "al2", "True is not a whole number", "seconds"),
        (uses("settle", settle={"wait": -1}), "al2", "negative", "seconds"),
        (uses("settle", "versions", versions={"x": 1}), "al2", "no option", "takes no options"),
        (uses("settle", "settle"), "al2", "there twice", "first in p.yaml:settle"),
        (uses("versions", "settle"), "al2", "settle (order 10) comes after versions", "list settle before"),
        (uses("prefetch"), "al2", "prefetch needs the step settle", "add settle"),
        (uses("settle", "gpu-guard"), "ubuntu-eks", "gpu-guard needs the step nvidia-driver", "add nvidia-driver"),
        (uses("settle", "nvidia-driver"), "al2023", "does not work on al2023", "there are settle"),
        (uses("settle"), "bottlerocket", "does not work on bottlerocket", "cannot be provisioned"),
        (
            uses("settle", "nvidia-driver", nvidia_driver={"branch": "535"}),
            "ubuntu-eks",
            "needs the option 'version'",
            "package version",
        ),
        (
            uses("settle", "nvidia-driver", nvidia_driver={"branch": 535, "version": "535.1"}),
            "ubuntu-eks",
            "535 is not text",
            "driver branch",
        ),
        (
            uses("settle", "nvidia-driver", nvidia_driver={"branch": "535", "version": "535.1; reboot"}),
            "ubuntu-eks",
            "does not match",
            "package version",
        ),
        (
            uses("settle", "nvidia-driver", nvidia_driver={**OPTIONS["nvidia-driver"], "modules": "magic"}),
            "ubuntu-eks",
            "'magic' is not one of precompiled, dkms",
            "signed by Canonical",
        ),
        (
            uses("settle", "nvidia-driver", nvidia_driver={**OPTIONS["nvidia-driver"], "fabric_manager": "yes"}),
            "ubuntu-eks",
            "not true or false",
            "NVSwitches",
        ),
        (
            uses("settle", "nvidia-toolkit", nvidia_toolkit={"version": "1.17.8-1", "key_fingerprint": "C95B"}),
            "ubuntu-eks",
            "does not match",
            "only key",
        ),
        (
            uses("settle", "nvidia-toolkit", nvidia_toolkit={"version": "1.17.8-1", "repository": "http://a/b"}),
            "ubuntu-eks",
            "does not match",
            "mirror",
        ),
    ],
)
def test_wrong_uses_name_the_place_and_the_way_out(given_: list[StepUse], family: str, message: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        arrange(given_, family=family, architecture="amd64")
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
    assert str(caught.value.resource).startswith("p.yaml:")


def test_a_need_may_hold_for_one_family_only() -> None:
    assert names(arrange(uses("settle", "gpu-guard"), family="al2-gpu", architecture="amd64")) == [
        "settle",
        "gpu-guard",
    ]


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(InputError, match="neither amd64 nor arm64"):
        arrange([], family="al2", architecture="x86_64")


def test_a_timeout_must_be_positive() -> None:
    with pytest.raises(InputError, match="timeout of 0 s"):
        arrange([StepUse("settle", {}, 0)], family="al2", architecture="amd64")


def script_use(after: str | None, where: str) -> StepUse:
    options = {"path": "x.sh"} | ({"after": after} if after else {})
    return StepUse("script", options, None, where)


def test_scripts_go_where_they_say_in_the_order_of_the_plan() -> None:
    first, second, third = (script_use(after, f"s{n}") for n, after in enumerate(["prefetch", "settle", "prefetch"], 1))
    arranged = arrange(
        [first, *uses("settle", "prefetch"), second, third, *uses("versions")], family="al2", architecture="amd64"
    )
    assert [use.where if use.name == "script" else use.name for use in arranged] == [
        "settle",
        "s2",
        "prefetch",
        "s1",
        "s3",
        "versions",
    ]


def test_a_script_without_after_runs_where_it_is_listed() -> None:
    arranged = arrange([*uses("settle"), script_use(None, "s"), *uses("prefetch")], family="al2", architecture="amd64")
    assert names(arranged) == ["settle", "script", "prefetch"]


@pytest.mark.parametrize("after", ["versions", "hygiene", None])
def test_no_script_runs_after_the_record_or_hygiene(after: str | None) -> None:
    given_ = [*uses("settle", "versions", "hygiene"), script_use(after, "p.yaml:9")]
    with pytest.raises(InputError, match="would change what has been recorded") as caught:
        arrange(given_, family="al2", architecture="amd64")
    assert caught.value.resource == "p.yaml:9"


def test_a_script_after_an_unknown_step_is_refused() -> None:
    with pytest.raises(InputError, match="'prefetch' is not a step of this plan"):
        arrange([*uses("settle"), script_use("prefetch", "p.yaml:9")], family="al2", architecture="amd64")


@given(st.permutations(["settle", "prefetch", "versions", "hygiene"]))
def test_only_the_declared_order_passes(order: list[str]) -> None:
    if order == ["settle", "prefetch", "versions", "hygiene"]:
        assert names(arrange(uses(*order), family="al2", architecture="amd64")) == order
    else:
        with pytest.raises(InputError, match="comes after"):
            arrange(uses(*order), family="al2", architecture="amd64")


# --- rendering


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0\r"), max_size=40))
def test_values_reach_the_shell_as_they_are(text: str) -> None:
    lines = steps.assignments(replace(CONTEXT, plan_name=text), "x")
    program = "\n".join([*lines, steps.array("A", [text, "end"]), 'printf "%s\\0%s\\0%s" "$LEPTONAMI_PLAN" "${A[@]}"'])
    done = subprocess.run(["bash", "-c", program], capture_output=True, check=True)
    assert done.stdout.decode() == f"{text}\0{text}\0end"


def test_values_of_the_plan_and_defaults_are_in_the_script() -> None:
    text = GPU.render("nvidia-driver", kernel_module="open", fabric_manager=True)
    assert "OPT_KERNEL_MODULE=open\n" in text
    assert "OPT_FABRIC_MANAGER=true\n" in text
    assert "OPT_MODULES=precompiled\n" in text
    assert "OPT_KERNEL=''\n" in text


def test_a_script_has_only_what_it_needs_of_the_library() -> None:
    text = steps.render(StepUse("settle"), CONTEXT)
    assert "hold_snaps()" in text
    assert "apt_quiet()" in text
    assert "toml_set()" not in text
    assert "cri_images()" not in text
    assert len(text) < 8 * 1024


def test_no_path_of_the_plans_machine_is_in_a_script(tmp_path: Path) -> None:
    own = tmp_path / "own.sh"
    own.write_text("true\n")
    text = steps.render(StepUse("script", {"path": str(own)}), CONTEXT)
    assert str(tmp_path) not in text
    assert "own.sh" in text
    assert "images.yaml" not in GPU.render("prefetch")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"echo a\r\n", "carriage return"),
        (b"echo \0", "NUL"),
        (b"\xff\xfe", "not UTF-8"),
        (b"  \n", "empty"),
        (b"#" * 60_000, "Run Command takes"),
    ],
)
def test_scripts_that_a_shell_cannot_read_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    own = tmp_path / "own.sh"
    own.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        steps.render(StepUse("script", {"path": str(own)}, None, "p.yaml:7"), CONTEXT)
    assert caught.value.resource == "p.yaml:7"


def test_a_missing_script_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        steps.render(StepUse("script", {"path": str(tmp_path / "none.sh")}, None, "p.yaml:7"), CONTEXT)


def test_an_own_script_cannot_end_its_here_document(tmp_path: Path) -> None:
    own = tmp_path / "own.sh"
    content = "LEPTONAMI_SCRIPT_0\nLEPTONAMI_SCRIPT_1\necho $(reboot) `reboot` $HOME 'x\"\n"
    own.write_text(content)
    text = steps.render(StepUse("script", {"path": str(own)}), CONTEXT)
    start = text.index("own_script() {")
    function = text[start : text.index("\n}\n", start) + 3]
    done = subprocess.run(["bash", "-c", function + "own_script"], capture_output=True, text=True, check=True)
    assert done.stdout == "#!/bin/bash\nset -euo pipefail\n" + content


def test_a_hundred_images_fit() -> None:
    name = "602401143452.dkr.ecr.us-west-2.amazonaws.com/platform/team/component-{}:v1.2.3-eksbuild.{}"
    images = tuple(Image(name.format(n, n), "sha256:" + "0123456789abcdef" * 4, 100, 300) for n in range(100))
    made = replace(GPU, images=images)
    assert len(made.render("prefetch")) < steps.MAX_SCRIPT_BYTES
    assert len(made.verify()) < steps.MAX_SCRIPT_BYTES
    with pytest.raises(InputError, match="Run Command takes") as caught:
        replace(GPU, images=images * 4).render("prefetch")
    assert "split the list" in str(caught.value.hint)


def test_rendering_is_reproducible() -> None:
    assert [GPU.render(use.name) for use in GPU.steps] == [GPU.render(use.name) for use in GPU.steps]
