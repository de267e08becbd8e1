"""The nine packages that the project is named for: the product imports each of them, where docs/packages.md says."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from isthmus.core.code.fingerprint import Code
from tests.repo import REPOSITORY

PACKAGES = {  # distribution -> the module that it is imported as
    "torch": "torch",
    "timm": "timm",
    "mlflow": "mlflow",
    "dvc": "dvc",
    "prefect": "prefect",
    "monai": "monai",
    "rasterio": "rasterio",
    "scikit-learn": "sklearn",
    "pytorch-adapt": "pytorch_adapt",
}
# Their import takes seconds: only in functions, or in a plugin that is loaded where its name is asked for.
SLOW = {
    "monai": set[str](),
    "pytorch_adapt": {f"src/isthmus/adapt/methods/{m}.py" for m in ("atdoc", "bsp", "rtn", "swd", "vada")},
}
TABLE = re.findall(r"^\| `([^`]+)` \|.*\| ([^|]*) \|$", (REPOSITORY / "docs" / "packages.md").read_text(), re.MULTILINE)


@cache
def importers() -> dict[str, set[str]]:
    """Which of our files import a package, and which of these at the top of the module."""
    found: dict[str, set[str]] = {}
    for folder in ("src", "pipelines"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            top = {id(node) for node in tree.body}
            for node in ast.walk(tree):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                for name in {name.partition(".")[0] for name in names}:
                    place = path.relative_to(REPOSITORY).as_posix()
                    found.setdefault(name, set()).add(place)
                    if id(node) in top:
                        found.setdefault(f"top {name}", set()).add(place)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_imported_by_the_product(package: str) -> None:
    assert importers().get(PACKAGES[package]), f"no file in src or pipelines imports {package}"


def test_what_is_slow_to_import_is_imported_where_it_is_needed() -> None:
    assert {name: importers().get(f"top {name}", set()) for name in SLOW} == SLOW


def test_a_served_model_reaches_monai_by_its_backbone_alone() -> None:
    code = Code()
    plugins = [name for folder in ("data.kinds", "data.readers", "models.backbones") for name in code.plugins(folder)]

    modules = code.reachable(["isthmus.registry.model.served", *plugins])

    files = {code.file(module).relative_to(REPOSITORY).as_posix() for module in modules}
    assert "src/isthmus/models/trained.py" in files
    assert files & importers()["monai"] == {"src/isthmus/models/backbones/monai.py"}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_table_names_files_that_import_the_package(package: str) -> None:
    rows = [files for name, files in TABLE if name == package]
    assert len(rows) == 1, f"docs/packages.md has {len(rows)} rows of {package}"

    named = set(re.findall(r"`([^`]+)`", rows[0]))

    assert named
    for name in named:
        assert (REPOSITORY / name).exists(), name
        files = importers().get(PACKAGES[package], set())
        assert any(Path(file).is_relative_to(name) for file in files), f"{name} does not import {package}"


def test_every_package_of_the_table_is_locked() -> None:
    lock = (REPOSITORY / "requirements.lock").read_text()

    assert [name for name, _ in TABLE if not re.search(rf"^{re.escape(name)}==", lock, re.MULTILINE)] == []
