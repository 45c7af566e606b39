"""environment.yml and pyproject.toml name the same packages in the same versions."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
ENVIRONMENT: dict[str, Any] = yaml.safe_load((ROOT / "environment.yml").read_text())

# conda-forge's name -> PyPI's, where they differ. The -base and -core packages leave out what a library does not need
# (a GUI toolkit, pandoc).
PYPI = {
    "matplotlib-base": "matplotlib",
    "jupyter_client": "jupyter-client",
    "nbconvert-core": "nbconvert",
    "python-duckdb": "duckdb",
    "python-kubernetes": "kubernetes",
}
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)(?P<extras>\[[a-z0-9,]+\])?\s*(?P<version>[<>=!~].*)?")


def parse(text: str) -> tuple[str, str]:
    found = REQUIREMENT.fullmatch(text)
    assert found is not None, text
    name = found["name"].lower()
    return PYPI.get(name, name) + (found["extras"] or ""), (found["version"] or "").replace(" ", "")


def conda() -> tuple[list[str], list[str]]:
    plain = [each for each in ENVIRONMENT["dependencies"] if isinstance(each, str)]
    (nested,) = [each for each in ENVIRONMENT["dependencies"] if isinstance(each, dict)]
    assert set(nested) == {"pip"}
    return plain, nested["pip"]


def test_the_packages_are_the_same() -> None:
    wanted = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["lab"],
        *PROJECT["project"]["optional-dependencies"]["bench"],
        *PROJECT["dependency-groups"]["dev"],
    ]
    plain, pip = conda()
    given = [each for each in plain if not each.startswith(("python>", "pip"))] + [
        each for each in pip if each != "-e ."
    ]
    assert len(given) == len(set(given))
    assert dict(map(parse, given)) == dict(map(parse, wanted))


def test_python_is_the_same() -> None:
    plain, _ = conda()
    assert "python" + PROJECT["project"]["requires-python"] in plain


def test_the_project_itself_is_installed_last() -> None:
    _, pip = conda()
    assert pip[-1] == "-e ."


def test_moto_is_pinned_to_the_minor() -> None:
    # The lab overrides moto's response classes: another minor may move them.
    extra = PROJECT["project"]["optional-dependencies"]["lab"]
    (lab,) = [each for each in extra if each.startswith("moto[")]
    name, version = parse(lab)
    assert name.startswith("moto[")
    low, high = re.fullmatch(r">=(\d+\.\d+)\.\d+,<(\d+\.\d+)", version).groups()  # type: ignore[union-attr]
    assert [int(part) for part in high.split(".")] == [int(low.split(".")[0]), int(low.split(".")[1]) + 1]


def test_no_name_of_the_map_is_left_over() -> None:
    plain, _ = conda()
    names = {re.split("[<>=]", each)[0] for each in plain}
    assert set(PYPI) <= names


# The name that is imported -> the package that brings it, where they differ.
PACKAGE = {
    "bs4": "beautifulsoup4",
    "cri_api": "container-runtime-interface-api",
    "jupyter_client": "jupyter-client",
    "kubernetes_validate": "kubernetes-validate",
    "pydantic_core": "pydantic",
    "yaml": "pyyaml",
}
# What comes with a declared package and is its business to name.
BROUGHT = {
    "IPython": "ipykernel",
    "botocore": "boto3",
    "cycler": "matplotlib",
    "google": "container-runtime-interface-api",
    "grpc": "container-runtime-interface-api",
    "numpy": "pandas",
    "jsonschema": "nbformat",
    "urllib3": "kubernetes",
    "referencing": "kubernetes-validate",
}


def test_what_is_imported_is_declared() -> None:
    declared = {parse(each)[0].partition("[")[0] for each in PROJECT["project"]["dependencies"]}
    extra = {
        name: {parse(each)[0].partition("[")[0] for each in wanted}
        for name, wanted in PROJECT["project"]["optional-dependencies"].items()
    }
    for path in (ROOT / "leptonami").rglob("*.py"):
        # The folder of an extra's name may import what the extra brings, and nothing else may.
        known = declared | extra.get(path.relative_to(ROOT).parts[1], set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in {each.partition(".")[0] for each in names}:
                if name in sys.stdlib_module_names or name in {"leptonami", "__future__"} or name.startswith("types_"):
                    continue
                assert PACKAGE.get(name, BROUGHT.get(name, name)) in known, f"{path}: {name}"


def test_no_two_test_files_have_one_name() -> None:
    # pytest imports them by their name alone: the second one would be an error of the collection.
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py") if "node_modules" not in path.parts)
    del names["conftest.py"]
    assert [name for name, many in names.items() if many > 1] == []
