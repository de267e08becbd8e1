"""The stage `robustness`: off by default, right counts, goes on where it was cut off."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from isthmus.core.config import load_params
from isthmus.core.files import read_json, write_json
from isthmus.data.manifest import INDEX, read_table, write_table
from isthmus.data.shards import Rows
from isthmus.evaluation.scoring.corruptions import SEVERITIES, corrupted, suite
from isthmus.evaluation.scoring.predict import PREDICTIONS
from isthmus.models.trained import export_trained, load_trained
from isthmus.stages import robustness
from tests.engine_here import InThisProcess
from tests.scenario_files import ScenarioFiles
from tests.stages.test_explain import made


@pytest.fixture
def files(tmp_path: Path) -> ScenarioFiles:
    found = made(tmp_path, {"name": "small_cnn"}, 20, "coral")
    label(found, ["line_a", "line_b"])
    return found


def label(files: ScenarioFiles, domains: list[str]) -> None:
    """Gives images of these domains labels in `predictions.parquet`."""
    table = read_table(files.root / "predictions.parquet", PREDICTIONS)
    labels = pd.array(np.arange(len(table)) % 3, "Int32")
    labels[~table["domain"].isin(domains).to_numpy()] = pd.NA
    correct = pd.array([pd.NA if pd.isna(value) else value == 0 for value in labels], "boolean")
    write_table(files.root / "predictions.parquet", table.assign(label=labels, correct=correct), PREDICTIONS)


def run(files: ScenarioFiles, images: int) -> dict[str, Any]:
    document = yaml.safe_load(files.params.read_text()) | {"robustness": {"images": images}}
    files.params.write_text(yaml.safe_dump(document))
    root = files.root
    robustness.run(
        load_params(robustness.Params, files.params, {"scenario": "scenarios.demo"}),
        prepared=files.prepared,
        features=files.features,
        trained=files.trained,
        choice=root / "choice.json",
        predictions=root / "predictions.parquet",
        checkpoints=root / "checkpoints",
        robustness=root / "robustness.json",
    )
    found: dict[str, Any] = read_json(root / "robustness.json")
    return found


def test_it_is_off_until_images_are_asked_for(files: ScenarioFiles) -> None:
    assert run(files, 0) == {"measured": False}


def test_an_ensemble_is_damaged_as_one_model(files: ScenarioFiles) -> None:
    alone = run(files, 6)["domains"]["line_b"]
    path = files.root / "choice.json"
    twice = {"chosen": {"method": "ensemble", "epoch": 4, "seed": 0}, "ensemble": {"source_only": [0, 0]}}
    write_json(path, read_json(path) | twice)

    found = run(files, 6)["domains"]["line_b"]

    assert found["errors"]["ensemble"] == found["errors"]["source_only"] == alone["errors"]["source_only"]


def test_errors_are_those_of_the_exported_models_on_the_damaged_images(files: ScenarioFiles, tmp_path: Path) -> None:
    found = run(files, 6)["domains"]["line_b"]

    table, index = (
        read_table(files.root / "predictions.parquet", PREDICTIONS),
        read_table(files.prepared / "index.parquet", INDEX),
    )
    rows = np.flatnonzero((table["domain"] == "line_b").to_numpy())[:6]
    images, labels = Rows(files.prepared / "shards", index).take(rows), table["label"].to_numpy()[rows]
    seed = robustness.derive_seed(0, "robustness")
    damaged = corrupted(images, "noise", suite("natural")["noise"], 4, seed)
    for method in ("coral", "source_only"):
        export_trained(files.trained, [(method, 0, 4)], files.features, 0, tmp_path / method)
        model = load_trained(tmp_path / method)
        for pictures, told in ((images, found["clean"][method]), (damaged, found["errors"][method]["noise"][3])):
            wrong = model.predict_logits(pictures, "line_b").argmax(axis=1) != labels.astype(int)
            assert told == pytest.approx(wrong.mean())
    assert found["images"] == 6
    assert all(len(v) == len(SEVERITIES) for v in found["errors"]["coral"].values())
    assert not list((files.root / "checkpoints").iterdir())


def test_a_target_without_labels_is_left_out(files: ScenarioFiles) -> None:
    label(files, ["line_a"])

    assert set(run(files, 2)["domains"]) == {"line_a"}


def test_a_run_that_was_cut_off_goes_on_by_an_engine_and_ends_in_the_same_numbers(
    files: ScenarioFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(files, 2)
    calls: list[str] = []

    def counting(stop: int) -> Callable[..., Any]:
        def damaged(images: Any, name: str, *rest: Any) -> Any:
            if len(calls) == stop:
                raise KeyboardInterrupt
            calls.append(name)
            return corrupted(images, name, *rest)

        return damaged

    monkeypatch.setattr(robustness, "corrupted", counting(7))
    with pytest.raises(KeyboardInterrupt):
        run(files, 2)
    monkeypatch.setattr(robustness, "corrupted", counting(-1))
    cluster = InThisProcess.used(monkeypatch)

    assert run(files, 2) == whole
    assert cluster.sent == 42 - 9  # cells were left: two undamaged and seven damaged ones were counted
    assert len(calls) == 2 * len(suite("natural")) * len(SEVERITIES)  # both domains, no cell twice
