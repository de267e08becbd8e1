import pytest
import torch

from isthmus.core.errors import StoreError
from isthmus.data.scenario import Scenario
from isthmus.registry.model.raw_images import decode
from isthmus.registry.publish.packaging import _example, served_requirements
from tests.registry.project_files import ROOT


def test_requirements_are_the_lock_files_own_numbers_and_never_this_package():
    wanted = served_requirements(ROOT / "requirements.lock", "timm")
    lock = (ROOT / "requirements.lock").read_text().splitlines()

    assert all(line in lock for line in wanted)
    assert {line.partition("==")[0] for line in wanted} >= {"mlflow", "torch", "timm", "pillow", "safetensors"}
    assert not any("isthmus" in line for line in wanted)
    assert not {line.partition("==")[0] for line in wanted} & {"dvc", "prefect", "typer"}


def test_monai_is_required_of_a_model_with_its_networks_and_of_no_other(tmp_path):
    names = {
        backbone: {line.partition("==")[0] for line in served_requirements(ROOT / "requirements.lock", backbone)}
        for backbone in ("timm", "small_cnn", "monai")
    }

    assert names["monai"] - names["timm"] == {"monai", "einops"}
    assert names["small_cnn"] == names["timm"]
    lock = (ROOT / "requirements.lock").read_text()
    (tmp_path / "requirements.lock").write_text(lock.replace("\nmonai==", "\n# monai=="))
    with pytest.raises(StoreError, match="does not pin monai, which the served model needs"):
        served_requirements(tmp_path / "requirements.lock", "monai")


def test_without_a_lock_file_the_installed_versions_are_required(tmp_path):
    wanted = served_requirements(tmp_path / "requirements.lock", "timm", ["PyYAML"])

    lock = (ROOT / "requirements.lock").read_text().splitlines()
    assert [line for line in wanted if line.lower() not in lock] == []
    assert f"torch=={torch.__version__.partition('+')[0]}" in wanted
    assert {"pyarrow", "scipy"} <= {line.partition("==")[0] for line in wanted}
    with pytest.raises(StoreError, match="the served model needs 'no-such-package', which is not installed"):
        served_requirements(tmp_path / "requirements.lock", "timm", ["no-such-package"])


def test_a_lock_file_that_does_not_pin_what_is_needed_is_refused(tmp_path):
    (tmp_path / "requirements.lock").write_text("torch==2.13.0 ; python_version > '3'\nmlflow>=3\n")

    with pytest.raises(StoreError, match=r"does not pin mlflow, numpy, .*which the served model needs"):
        served_requirements(tmp_path / "requirements.lock", "timm")


@pytest.mark.parametrize(("tiles", "shape"), [(None, (20, 30, 1)), ({"size": 12}, (12, 12, 1))])
def test_the_example_image_is_one_that_the_model_takes(tiles, shape):
    given = {"kind": "natural", "raw": "data/raw/demo", "source": ["a"], "target": "b", "classes": ["x", "y"]}

    facts = {"width": 30, "height": 20, "channels": 1, "fitted": {"b": {}}}
    made = _example(facts, Scenario(**given, tiles=tiles, preprocess={"channels": 1}))

    assert made is not None and decode(made).pixels.shape == shape


@pytest.mark.parametrize(
    ("kind", "fitted", "more"),
    [
        ("remote_sensing", {"uint16": {"low": [0.0] * 3, "high": [9.0] * 3, "median": [1.0] * 3}}, {}),
        ("natural", {}, {"tiles": {"size": 12, "unit": "m"}}),
    ],
)
def test_a_model_that_takes_no_plain_image_has_no_example(kind, fitted, more):
    given = {"kind": kind, "raw": "data/raw/demo", "source": ["a"], "target": "b", "classes": ["x", "y"]} | more

    facts = {"width": 30, "height": 20, "channels": 3, "fitted": {"b": fitted}}
    assert _example(facts, Scenario(**given)) is None
