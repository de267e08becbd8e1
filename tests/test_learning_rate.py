"""The command that tries learning rates, on the files of a small project."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from typer.testing import CliRunner

from isthmus.cli import app
from isthmus.core.config import validated
from isthmus.core.errors import ConfigError
from isthmus.core.files import read_json
from isthmus.learning_rate import RangeConfig
from tests.repo import REPOSITORY
from tests.stages.test_train import place


def project(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose prepared files lie where the shipped dvc.yaml says."""
    files = place(root)
    (root / "dvc.yaml").write_text((REPOSITORY / "dvc.yaml").read_text())
    out = root / "out" / "demo"
    out.mkdir(parents=True)
    for path in (files.manifest, files.prepared, files.features, files.labels_train):
        path.rename(out / path.name)
    monkeypatch.chdir(root)
    return out


def test_the_command_suggests_a_rate_and_writes_its_curve_twice_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = project(tmp_path, monkeypatch)
    folder = out / "learning_rate" / "mmd"

    first = CliRunner().invoke(app, ["lr-range", "demo", "mmd", "--steps", "30"], catch_exceptions=False)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    second = CliRunner().invoke(app, ["lr-range", "demo", "mmd", "--steps", "30"], catch_exceptions=False)

    found = read_json(folder / "learning_rate.json")
    assert set(before) == {"learning_rate.json", "learning_rate.svg"}
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert first.output == second.output
    assert re.search(rf"suggested learning_rate: {found['suggestion']:.2g}\n", first.output)
    assert found["rates"][0] == 1e-6
    assert len(found["rates"]) == len(found["losses"]) == len(found["smoothed"])
    picture = ElementTree.fromstring((folder / "learning_rate.svg").read_text())
    assert len(picture.findall("{http://www.w3.org/2000/svg}polyline")) == 3


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match="lr-range: --steps: Input should be greater than or equal to 3"):
        validated(RangeConfig, {"steps": 1}, "lr-range: --")


def test_a_method_that_params_do_not_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)
    document = yaml.safe_load((tmp_path / "params.yaml").read_text())
    assert "cdan" not in document["methods"]

    with pytest.raises(ConfigError, match="section 'cdan' is missing in 'methods'"):
        CliRunner().invoke(app, ["lr-range", "demo", "cdan"], catch_exceptions=False)
