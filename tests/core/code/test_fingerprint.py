"""The fingerprint of a stage's code against edits of a copy of the package, as an installed one lies."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.core.code.fingerprint import ROOT, Code

METHODS = "adapt/methods"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as a wheel lays it out: alone, below site-packages."""
    site = tmp_path_factory.mktemp("environment") / "site-packages"
    return Path(shutil.copytree(ROOT, site / "isthmus", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture(scope="module")
def before(copy: Path) -> dict[str, str]:
    return Code(copy).fingerprints()


@pytest.fixture
def package(copy: Path) -> Iterator[Path]:
    """The copy, which the test may edit through `edit`: it is put right again."""
    yield copy
    for kept in copy.rglob("*.kept"):
        kept.replace(kept.with_suffix(""))


def edit(package: Path, name: str, old: str, new: str) -> None:
    path = package / name
    text = path.read_text()
    assert old in text, f"{name} no longer holds {old!r}"
    if not path.with_name(f"{path.name}.kept").exists():
        path.with_name(f"{path.name}.kept").write_text(text)
    path.write_text(text.replace(old, new, 1))


def changed(package: Path, before: dict[str, str]) -> set[str]:
    after = Code(package).fingerprints()
    assert set(after) == set(before)
    return {name for name in before if after[name] != before[name]}


def test_there_is_a_fingerprint_of_each_stage_and_plugin_that_its_key_names(before: dict[str, str]) -> None:
    assert {"select", "embed", "train/dann", "prepare/medical", "simulate/digits"} <= set(before)
    assert not {"code", "train", "prepare", "simulate"} & set(before)
    assert len(set(before.values())) == len(before)
    assert all(len(value) == 64 for value in before.values())


def test_the_package_elsewhere_has_the_same_fingerprints(before: dict[str, str]) -> None:
    assert Code().fingerprints() == before


@pytest.mark.slow
def test_an_installed_package_fingerprints_its_own_files_and_loads_no_torch(package: Path, tmp_path: Path) -> None:
    edit(package, f"{METHODS}/coral.py", "class ", "EDITED = 1\n\n\nclass ")
    script = (
        "import sys; from isthmus.stages.code import run; from pathlib import Path;"
        " run(package=Path('src'), plugins=Path('plugins'), out=Path('code'));"
        " assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(package.parent)}, check=True)

    written = {
        path.relative_to(tmp_path / "code").as_posix(): path.read_text().strip()
        for path in (tmp_path / "code").rglob("*")
        if path.is_file()
    }
    assert written == Code(package).fingerprints()
    assert written["train/coral"] != Code().fingerprint("train", "coral")


def test_a_changed_method_changes_its_own_training_alone(package: Path, before: dict[str, str]) -> None:
    edit(package, f"{METHODS}/coral.py", "class ", "EDITED = 1\n\n\nclass ")

    assert changed(package, before) == {"train/coral"}


def test_what_methods_share_changes_those_that_import_it(package: Path, before: dict[str, str]) -> None:
    edit(package, "adapt/alternating.py", "import torch", "EDITED = 1\nimport torch")

    assert changed(package, before) == {"train/adda", "train/mcd", "train/shot", "train/swd"}


def test_a_changed_kind_changes_the_preparation_of_that_kind_alone(package: Path, before: dict[str, str]) -> None:
    edit(package, "data/kinds/medical.py", "class ", "EDITED = 1\n\n\nclass ")

    assert changed(package, before) == {"prepare/medical"}


def test_in_unit_range_changes_every_stage_that_shows_images_to_a_network(
    package: Path, before: dict[str, str]
) -> None:
    edit(package, "models/classifier.py", "def in_unit_range", "def in_unit_range(x):\n    return x\n\n\ndef was")

    trained = {name for name in before if name.startswith("train/")}
    assert changed(package, before) == {"embed", "explain", "pretrain", "robustness", *trained}


def test_comments_docstrings_and_formatting_change_nothing(package: Path, before: dict[str, str]) -> None:
    for name in ("core/files.py", "data/image.py", f"{METHODS}/dann.py", "stages/embed.py"):
        edit(package, name, '"""', '"""Another sentence. ')
        edit(package, name, "\nfrom ", "\n# a comment\nfrom  ")
    edit(package, "core/files.py", '    """Writes text atomically, UTF-8."""\n', "")
    edit(package, "core/code/fingerprint.py", '    """The modules of the package, each read once.', '    """Reads.')

    assert changed(package, before) == set()


def test_a_text_that_is_no_docstring_counts(package: Path, before: dict[str, str]) -> None:
    edit(package, "core/files.py", '".{path.name}', '"._{path.name}')

    assert changed(package, before) == set(before)


def test_after_a_dropped_import_the_module_no_longer_counts(package: Path, before: dict[str, str]) -> None:
    line = "from isthmus.data.audit.shortcut import "
    edit(package, "data/audit/shortcut.py", "import ", "EDITED = 1\nimport ")
    assert changed(package, before) == {"ingest", "report"}
    for path in (package / "report").glob("*.py"):
        if line in path.read_text():
            edit(package, f"report/{path.name}", line, "from somewhere import ")
    dropped = Code(package).fingerprints()

    edit(package, "data/audit/shortcut.py", "EDITED = 1", "EDITED = 2")

    assert dropped["report"] != before["report"]
    assert changed(package, dropped) == {"ingest"}


def test_a_template_of_the_report_counts_for_the_report_alone(package: Path, before: dict[str, str]) -> None:
    edit(package, "report/templates/report.html.jinja", "<", "<!-- edited --><")

    assert changed(package, before) == {"report"}


def test_the_walk_sees_imports_in_functions_packages_on_the_way_and_look_ups() -> None:
    code = Code()

    train = code.modules("train", "dann")

    assert {"isthmus", "isthmus.adapt", "isthmus.adapt.methods", "isthmus.adapt.methods.dann"} <= train
    assert "isthmus.core.torchvision_schemas" in train  # imported by the package's own __init__
    assert "isthmus.adapt.methods.coral" not in train
    assert set(code.plugins("models.backbones")) <= train  # the stage may load any
    assert "isthmus.models.preprocessing" in code.modules("prepare", "natural")  # imported in a function
    assert "isthmus.data.kinds" in code.modules("embed")  # named in a look-up


def test_a_module_that_cannot_be_parsed_changes_what_imports_it_and_stops_nothing_else(
    package: Path, before: dict[str, str]
) -> None:
    edit(package, f"{METHODS}/coral.py", "class ", "class class ")

    assert changed(package, before) == {"train/coral"}
