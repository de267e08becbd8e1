"""The notebook on the files of a finished scenario."""

from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from tests.repo.notebook import CODE, NOTEBOOK, run_notebook
from tests.report_files import write_report_files


def test_no_output_is_committed() -> None:
    assert len(CODE) == 5
    assert [
        cell.get("outputs", []) for cell in NOTEBOOK["cells"] if cell.get("outputs") or cell.get("execution_count")
    ] == []


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["folders", "none"])
def test_the_notebook_shows_leaderboard_features_errors_and_attention_of_a_finished_scenario(
    labels: str, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "demo"
    out.mkdir(parents=True)
    made = write_report_files(out, target_labels=labels)
    made.files.params.rename(tmp_path / "params.yaml")

    names = run_notebook(tmp_path, "demo")

    board = names["leaderboard"]
    assert board["chosen"].sum() == 1 and {"source_only", "coral"} <= set(board.index)
    assert ("balanced accuracy" in board) == (labels == "folders")
    assert set(names["points"]["domain"]) == {"line_a", "line_b"}
    assert len(names["errors"]) > 4 and set(names["errors"]["domain"]) == {"line_b"}
    assert not names["errors"]["correct"].any() if labels == "folders" else names["errors"]["correct"].isna().all()
    assert names["maps"].shape[1] == 2 and len(plt.get_fignums()) == 3
    plt.close("all")
