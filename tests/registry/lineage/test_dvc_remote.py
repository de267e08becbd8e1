from pathlib import Path

import pytest

from isthmus.core.errors import StoreError
from isthmus.registry.lineage.lineage import run_dvc


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "install"), [("s3", r"'dvc-s3': .*pip install .*s3"), ("gs", r"'dvc-gs': pip install dvc-gs$")]
)
def test_the_package_that_a_remote_needs_is_named_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, install: str
) -> None:
    lacking = tmp_path / "lacking" / f"dvc_{scheme}.py"  # as where it is not installed
    lacking.parent.mkdir()
    lacking.write_text("raise ModuleNotFoundError('not installed')")
    monkeypatch.setenv("PYTHONPATH", str(lacking.parent))
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text(
        f"[core]\n    no_scm = True\n    remote = store\n['remote \"store\"']\n    url = {scheme}://team/x\n"
    )

    with pytest.raises(StoreError, match=f"DVC's remote is on {scheme}, which needs {install}"):
        run_dvc(tmp_path, "push")
