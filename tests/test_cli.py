"""The face: help that is quick, errors that help, exit codes that are documented."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from leptonami import cli
from leptonami.errors import InputError, LeptonamiError

ROOT = Path(__file__).parent.parent
HEAVY = {
    "boto3",
    "botocore",
    "pydantic",
    "pandas",
    "matplotlib",
    "papermill",
    "nbconvert",
    "moto",
    "rich",
    "yaml",
    "kubernetes",
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "leptonami", *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from leptonami.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        f"print(sorted(set(sys.modules) & {HEAVY!r}), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "[]"
    assert "Build an AMI from a plan" in result.stdout


@pytest.mark.parametrize("name", [*cli.COMMANDS, *cli.PLUGINS])
def test_every_command_has_help(name: str) -> None:
    result = run(name, "--help")
    assert result.returncode == 0, result.stderr
    assert "Usage" in result.stdout


def test_unknown_commands_and_options_are_usage_errors() -> None:
    assert run("bild").returncode == 2
    assert run("build", "--frobnicate").returncode == 2
    assert "No such command" in run("bild").stderr


def test_a_missing_plan_says_so_on_one_screen() -> None:
    result = run("build", "no-such-plan.yaml", "--aws", "lab")
    assert result.returncode == 2
    assert "no-such-plan.yaml" in result.stderr
    assert "Traceback" not in result.stderr


def test_errors_leave_with_their_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def boom(**_: object) -> None:
        raise InputError("it is wrong", resource="plan.yaml:3", hint="mend it")

    monkeypatch.setattr(cli.cli, "main", boom)
    with pytest.raises(SystemExit) as caught:
        cli.main([])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: plan.yaml:3: it is wrong\n  what to do: mend it\n"


def test_every_error_has_a_documented_exit_code() -> None:
    documented = {
        int(code) for code in re.findall(r"^\|\s*(\d+)\s*\|", (ROOT / "docs/exit-codes.md").read_text(), re.M)
    }

    def tree(kind: type[LeptonamiError]) -> set[int]:
        return {kind.exit_code}.union(*(tree(each) for each in kind.__subclasses__()))

    assert tree(LeptonamiError) | {0} <= documented


def test_nothing_outside_the_lab_imports_the_lab() -> None:
    package = ROOT / "leptonami"
    for path in package.rglob("*.py"):
        if path.is_relative_to(package / "lab"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(f"{node.module}.{each.name}" for each in node.names)]
            assert not [name for name in names if name.startswith("leptonami.lab")], path


def test_only_the_seam_imports_boto3() -> None:
    package = ROOT / "leptonami"
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"^\s*(import|from) (boto3|botocore)", path.read_text(), re.M) and "lab" not in path.parts
    }
    assert found == {"target.py"}


def test_the_readme_names_only_what_exists() -> None:
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (ROOT / target).exists(), target
    commands = [each for block in text.split("```")[1::2] for each in re.findall(r"^leptonami (\w+)", block, re.M)]
    assert len(commands) > 5
    assert set(commands) <= {*cli.COMMANDS, *cli.PLUGINS}
    for plan in re.findall(r"data/plans/[\w.-]+\.yaml", text):
        assert (ROOT / plan).exists(), plan
    makefile = (ROOT / "Makefile").read_text()
    for verb in re.findall(r"^make (\w+)", text, re.M):
        assert re.search(rf"^{verb}:", makefile, re.M)
