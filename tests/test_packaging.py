"""What is installed: requirements that are used, and files that clients and the tests of a source distribution need."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# Imported by another name, or by pandas and scikit-learn for us; and commands.
MODULES = {"scikit-learn": "sklearn", "umap-learn": "umap"}
INDIRECT = {"pyarrow", "pytest-xdist", "rich", "mypy", "ruff", "pre-commit"}


def imported(folder: str) -> set[str]:
    """The packages that the modules of a folder import."""
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module.split(".")[0])
    return found


def required(lines) -> set[str]:
    """Names of requirements, without extras of skae itself."""
    return {re.match(r"[\w-]+", line)[0] for line in lines} - {"skae"}


@pytest.mark.parametrize("extra", [None, *PROJECT["project"]["optional-dependencies"]])
def test_each_requirement_is_used(extra):
    if extra is None:
        names, folders = PROJECT["project"]["dependencies"], ["skae"]
    else:
        names = PROJECT["project"]["optional-dependencies"][extra]
        folders = ["benchmarks"] if extra == "benchmark" else ["skae", "tests"]
    used = set().union(*(imported(folder) for folder in folders))
    assert {MODULES.get(name, name) for name in required(names) - INDIRECT} - used == set()


def test_what_is_imported_is_required():
    names = {MODULES.get(name, name) for name in required(PROJECT["project"]["dependencies"])}
    optional = {"matplotlib", "faiss", "polars"}
    standard = sys.stdlib_module_names
    assert imported("skae") - set(standard) - {"skae"} == {*names, *optional}


def test_types_are_shipped():
    data = PROJECT["tool"]["setuptools"]["package-data"]
    for package, patterns in data.items():
        folder = ROOT.joinpath(*package.split("."))
        assert all(list(folder.glob(pattern)) for pattern in patterns)
    stubs = {path.parent for path in (ROOT / "skae").rglob("*.pyi")}
    assert stubs == {ROOT / "skae" / "base"} and "py.typed" in data["skae"] and "*.pyi" in data["skae.base"]


def test_the_source_distribution_has_what_the_tests_read():
    manifest = (ROOT / "MANIFEST.in").read_text(encoding="utf-8")
    assert {"tests", "docs", "benchmarks"} <= set(re.findall(r"^graft (\w+)$", manifest, re.MULTILINE))
    (files,) = re.findall(r"^include (.*)$", manifest, re.MULTILINE)
    assert {"CONTRIBUTING.md", "CHANGELOG.md", "constraints.txt"} <= set(files.split())
    assert all((ROOT / name).exists() for name in files.split())
