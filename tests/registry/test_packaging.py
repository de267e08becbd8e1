import pytest

from isthmus.core.errors import StoreError
from isthmus.registry.packaging import served_requirements
from tests.registry.project_files import ROOT


def test_requirements_are_the_lock_files_own_numbers_and_never_this_package():
    wanted = served_requirements(ROOT / "requirements.lock")
    lock = (ROOT / "requirements.lock").read_text().splitlines()

    assert all(line in lock for line in wanted)
    assert {line.partition("==")[0] for line in wanted} >= {"mlflow", "torch", "timm", "pillow", "safetensors"}
    assert not any("isthmus" in line for line in wanted)
    assert not {line.partition("==")[0] for line in wanted} & {"dvc", "prefect", "typer"}


def test_a_missing_lock_file_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"requirements.lock: no such file; the model's requirements"):
        served_requirements(tmp_path / "requirements.lock")


def test_a_lock_file_that_does_not_pin_what_is_needed_is_refused(tmp_path):
    (tmp_path / "requirements.lock").write_text("torch==2.13.0 ; python_version > '3'\nmlflow>=3\n")

    with pytest.raises(StoreError, match=r"does not pin mlflow, numpy, .*which the served model needs"):
        served_requirements(tmp_path / "requirements.lock")
