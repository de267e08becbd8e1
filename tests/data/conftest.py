"""A project that pairs are added to."""

from pathlib import Path

import pytest

from tests.data.add.test_register import project


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "params.yaml").write_text("scenarios: # mine\n  own: {kind: natural}\nseed: 0\n")
    return project(folder)
