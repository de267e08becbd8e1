"""benchmarks.masks on a small scenario whose features tell the class of a cell."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import masks
from benchmarks.finished import FILES
from isthmus.core.errors import DataError
from isthmus.core.files import read_json, write_json
from isthmus.data.masks import IGNORED, cell_shares
from tests.mask_scenario import CLASSES, GRID, write_mask_scenario
from tests.report_files import run_stages

TRAIN = slice(0, 10)  # of the target's rows


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of one finished scenario; tests do not change it."""
    root = tmp_path_factory.mktemp("project")
    files = write_mask_scenario(root / "out" / "demo")
    shutil.copy(files.params, root / "params.yaml")
    truth = np.load(files.masks_target / "domain1-all.npy")
    shares, _ = cell_shares(truth, GRID, GRID, len(CLASSES))
    noise = np.random.default_rng(0).normal(0, 0.1, (*shares.shape[:2], 8 - len(CLASSES)))
    np.save(files.features / "domain1-all.npy", np.concatenate([shares, noise], axis=2).astype(np.float16))
    facts = {"backbone": {"name": "small_cnn"}, "origin": "", "feature_dim": 8, "channels": 3, "image_size": 32}
    facts |= {"mean": [0.5] * 3, "std": [0.5] * 3, "data_config": "", "grid": [GRID, GRID]}
    write_json(files.features / "embed.json", facts)
    run_stages(files)
    return root


@pytest.mark.slow
def test_the_head_learns_from_the_targets_own_masks_what_its_features_tell(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masks, "STEPS", 150)
    other = shutil.copytree(project, tmp_path / "other")
    path = other / "out" / "demo" / "masks_target" / "domain1-all.npy"
    changed = np.load(path)
    swapped = np.where(changed < 2, 1 - changed, changed)  # the other class of two, in training masks alone
    changed[TRAIN] = swapped[TRAIN]
    np.save(path, changed)

    right = masks.on_target(project, project / "out" / "demo")
    wrong = masks.on_target(other, other / "out" / "demo")

    assert min(right) > 0.7
    assert max(wrong) < 0.2


def test_cells_that_are_not_scored_and_the_source_are_not_trained_on(project: Path) -> None:
    folder = project / "out" / "demo"
    params = masks.params_of(masks.train.Params, project / "params.yaml", scenario="demo", method="source_only")
    truth = masks.TrueMasks(folder / "prepared", folder / "masks_target")

    data = masks._target_data(params, folder, truth)

    (rows,) = data.source_train
    images = 22 + np.arange(10)  # the target's training split
    known = (cell_shares(truth.take(images), GRID, GRID, len(CLASSES))[1] > 0).reshape(-1)
    assert (truth.take(images) == IGNORED).any() and set(rows // GRID**2) == set(images)
    assert (rows == (images[:, None] * GRID**2 + np.arange(GRID**2)).reshape(-1)[known]).all()
    assert len(data.source_val) == 0


def test_the_table_has_what_the_files_of_the_scenario_say(project: Path) -> None:
    folder = project / "out" / "demo"
    truth, numbers = read_json(folder / "truth.json"), read_json(folder / "metrics.json")

    lines = masks.report([masks.result_of(folder, (0.9, 0.8))]).splitlines()
    head, row = ([cell.strip() for cell in lines[place].split("|")[1:-1]] for place in (2, 4))

    found = dict(zip(head, row, strict=True))
    gain = truth["methods"]["ensemble"]["minus_source_only"]
    for method in ("source_only", "coral", "mmd"):
        scores = truth["methods"][method]
        iou = scores["per_class"]["cell"]["iou"]  # `debris` is not in the target's truth
        assert found[method] == f"{scores['mean_iou']['mean']:.3f} / {iou:.3f}"
    assert found["the choice"].startswith("ensemble ") and found["verdict"] == "better"
    assert found["gain of the choice"] == f"{gain['mean']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"
    assert (found["test images"], found["trained on target"]) == ("10", "0.900 / 0.800")
    assert found["the choice on the source"] == f"{numbers['source_test_mean_iou']:.3f}"


def test_only_finished_scenarios_of_masks_are_taken(project: Path, tmp_path: Path) -> None:
    assert masks.finished(project) == [project / "out" / "demo"]
    other = tmp_path / "out"
    for name, files, truth in (
        ("unfinished", FILES[:2], {"metric": "mean_iou", "available": True}),
        ("classes", FILES, {"metric": "balanced_accuracy", "available": True}),
        ("unlabelled", FILES, {"available": False}),
    ):
        for file in files:
            write_json(other / name / file, truth)

    with pytest.raises(DataError, match=r"no scenario with masks of the target is finished\. Run 'dvc repro report@"):
        masks.finished(tmp_path)
