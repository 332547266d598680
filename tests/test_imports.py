"""The shape of the package: what imports what."""

import ast
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import skae

PACKAGE = Path(skae.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
# A room imports from itself and from those on its right.
OUTER = {"anomaly", "imputation", "inspection", "persistence"}
ALLOWED = {
    "base": {"base"},
    "model": {"model", "base"},
    "training": {"training", "model", "base"},
    "tables": {"tables", "base"},
    "autoencoders": {"autoencoders", "training", "model", "tables", "base"},
    **{room: {room, "autoencoders", "training", "model", "tables", "base"} for room in OUTER},
}


def imported_names(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    room = path.relative_to(PACKAGE).parts[0]
    if room == "__init__.py":
        return
    parts = [name.split(".") for name in imported_names(path) if name.split(".")[0] == "skae"]
    rooms = {part[1] for part in parts if len(part) > 1}
    assert rooms <= ALLOWED[room]
    assert ["skae"] not in parts, "the package's own names come from where they are defined"


def test_matplotlib_is_imported_inside_functions_only():
    for path in MODULES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in getattr(node, "names", [])] + [getattr(node, "module", "") or ""]
            assert not any(name.split(".")[0] == "matplotlib" for name in names), path


def test_tables_need_no_torch():
    rooms = {name.split(".")[0] for path in MODULES if path.parent.name == "tables" for name in imported_names(path)}
    assert rooms <= {*sys.stdlib_module_names, "numpy", "pandas", "polars", "sklearn", "skae"}


def test_importing_skae_loads_nothing_beside_sklearn_and_torch():
    """What skae itself adds is its own modules, and single modules of packages that are loaded already."""
    script = """
        import sys
        import scipy.sparse, sklearn.base, sklearn.utils.validation, sklearn.callback, torch, torch.func
        before = {name.split(".")[0] for name in sys.modules}
        import skae
        print(*sorted({name.split(".")[0] for name in sys.modules} - before))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    added = {name for name in done.stdout.split() if name not in sys.stdlib_module_names}
    assert added == {"skae"}


def test_all_names_are_there_and_sorted_out_of_private_modules():
    assert len(set(skae.__all__)) == len(skae.__all__)
    for name in skae.__all__:
        assert not inspect.ismodule(getattr(skae, name))
