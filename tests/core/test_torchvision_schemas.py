"""Torchvision's CUDA wheel beside CPU torch: in this package, and in any program of the environment."""

import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[2]


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs the environment's Python away from the sources, as a program that knows nothing of this package."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_torch_is_imported_beside_a_torchvision_of_another_build() -> None:
    import torchvision  # the package's import hook has declared what its CUDA build asks for

    assert torchvision.__version__
    assert torch.__version__


@pytest.mark.slow
def test_timm_is_imported_in_the_environment_without_this_package(tmp_path: Path) -> None:
    code = "import sys, timm; assert 'isthmus' not in sys.modules; import isthmus; print(timm.is_model('resnet18'))"

    done = python("-c", code, cwd=tmp_path)

    assert done.stdout == "True\n", done.stderr


@pytest.mark.slow
def test_the_files_that_a_wheel_puts_into_site_packages_are_enough(tmp_path: Path) -> None:
    targets = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    for source, name in targets["wheel"]["force-include"].items():
        if name.startswith("isthmus_torchvision"):
            shutil.copy(REPOSITORY / source, tmp_path / name)
    # -S: no start-up file of this environment runs; its packages are found by their path alone.
    code = (
        f"import site, sys; sys.path.append({sysconfig.get_path('purelib')!r})\n"
        "if sys.argv[1:]: site.addsitedir(sys.argv[1])\n"
        "import torchvision; print('imported')"
    )

    assert python("-S", "-c", code, str(tmp_path), cwd=tmp_path).stdout == "imported\n"
    without = python("-S", "-c", code, cwd=tmp_path)
    if not torch.backends.cuda.is_built():
        assert "operator torchvision::nms does not exist" in without.stderr
