"""Good images are remembered; each training image is compared with the others, never with its own group."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from isthmus.adapt import Shape
from isthmus.core import plugins
from isthmus.core.errors import ConfigError, DataError
from isthmus.data.scenario import Scenario
from isthmus.models import ModelConfig
from isthmus.models.classifier import Classifier, Features, Standardise
from isthmus.models.patch_memory import PatchMemory, conformal_threshold
from isthmus.models.recipe import Memory
from isthmus.stages import train
from isthmus.training.data import TrainingData
from isthmus.training.loop import LoopSession, Plan
from isthmus.training.memory import check_head, memorise_good, why_left_out
from tests.adapt.small_session import Array
from tests.raw_folders import scenario

COUNT, CELLS, WIDTH = 12, 4, 5
OPTIONS = Memory(false_alarms=0.2, most=1000)
CONFIG = ModelConfig(mode="frozen", backbone={}, head="memory", epochs=1)
DOMAINS = ["old", "new"]


def data(seed: int = 0) -> TrainingData:
    """Twelve images of each domain, in six groups; the last four of each are of no training split."""
    values = np.random.default_rng(seed).normal(size=(2 * COUNT, CELLS, WIDTH)).astype(np.float32)
    domains = np.repeat([0, 1], COUNT)
    train = np.tile(np.arange(COUNT) < 8, 2)
    rows = [np.flatnonzero((domains == place) & train) for place in (0, 1)]
    groups = np.array([f"g{number // 2}" for number in range(2 * COUNT)], dtype=object)
    labels = np.where(domains == 0, 0, -1)
    return TrainingData(Array(values), domains, labels, rows[:1], rows[0][:0], rows[1], False, groups=groups)


def run(name: str, rows: TrainingData, folder: Path, options: Memory = OPTIONS) -> LoopSession:
    method = plugins.load("adapt.methods", name).Config().build(Shape(2, WIDTH, 1, 8, 0))
    model = Classifier(
        Features(Standardise(torch.zeros(2, WIDTH), torch.ones(2, WIDTH))), WIDTH, 2, WIDTH, "batch", 0,
        head=PatchMemory(WIDTH, 2),
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "epochs").mkdir(exist_ok=True)
    made = LoopSession(model, method, rows, CONFIG, Plan(1, [1], 4, 0), torch.device("cpu"), folder, name)
    memorise_good(made, rows, options, DOMAINS)
    return made


def left_out(rows: TrainingData, kept: np.ndarray, of: np.ndarray) -> np.ndarray:
    values = rows.inputs.take(np.arange(2 * COUNT))
    found = []
    for row in of:
        others = values[[k for k in kept if rows.groups[k] != rows.groups[row]]].reshape(-1, WIDTH)
        found.append(np.linalg.norm(values[row][:, None] - others[None], axis=2).min(axis=1).max())
    return np.array(found)


@pytest.mark.parametrize("name", ["source_only", "zscore", "target_memory"])
def test_thresholds_are_of_images_compared_with_other_groups_alone(name: str, tmp_path: Path) -> None:
    rows = data()
    made = run(name, rows, tmp_path)
    kept = rows.target_train if name == "target_memory" else rows.source_train[0]

    scores = [left_out(rows, kept, rows.source_train[0]), left_out(rows, kept, rows.target_train)]
    expected = [conformal_threshold(part, OPTIONS.false_alarms) for part in scores]
    if name == "source_only":
        expected[1], scores = expected[0], scores[:1]  # no target image is looked at
    head = made.model.head
    assert isinstance(head, PatchMemory)
    np.testing.assert_allclose(head.threshold.numpy(), expected, rtol=1e-4)
    logits = np.load(tmp_path / "epochs" / "001.logits.npy")
    for place, part in enumerate(scores):
        own = [rows.source_train[0], rows.target_train][place]
        np.testing.assert_allclose(logits[own, 1], np.log(part / expected[place]), atol=1e-4)
        assert (logits[own, 1] > 0).mean() <= OPTIONS.false_alarms
    maps = np.load(tmp_path / "epochs" / "001.maps.npy")
    new = np.flatnonzero(~np.isin(np.arange(2 * COUNT), np.concatenate([rows.source_train[0], rows.target_train])))
    np.testing.assert_allclose(maps[new].max(axis=1), logits[new, 1], atol=2e-3)


def test_source_only_is_the_same_whatever_the_target_looks_like(tmp_path: Path) -> None:
    rows, other = data(), data(1)
    mixed = np.concatenate([rows.inputs.take(np.arange(COUNT)), other.inputs.take(np.arange(COUNT, 2 * COUNT))])

    states = [
        run("source_only", replace(rows, inputs=Array(values)), tmp_path / str(number)).model.state_dict()
        for number, values in enumerate((rows.inputs.take(np.arange(2 * COUNT)), mixed))
    ]

    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_run_that_was_cut_off_after_its_checkpoint_ends_in_the_same_memory(tmp_path: Path) -> None:
    first = run("target_memory", data(), tmp_path)
    before = (tmp_path / "epochs" / "001.logits.npy").read_bytes()

    again = run("target_memory", data(), tmp_path)

    assert all(torch.equal(first.model.state_dict()[key], value) for key, value in again.model.state_dict().items())
    assert (tmp_path / "epochs" / "001.logits.npy").read_bytes() == before


def test_of_more_cells_than_it_holds_evenly_spaced_ones_are_kept(tmp_path: Path) -> None:
    rows = data()
    head = run("source_only", rows, tmp_path, Memory(false_alarms=0.2, most=8)).model.head

    cells = rows.inputs.take(rows.source_train[0]).reshape(-1, WIDTH)
    np.testing.assert_array_equal(head.rows.numpy(), cells[np.linspace(0, len(cells) - 1, 8).astype(int)])


def test_too_few_images_for_the_rate_and_one_group_alone_are_refused(tmp_path: Path) -> None:
    rows = data()
    few = r"domain 'old' has 8 training images to set a threshold by; 0\.05 false alarms need at least 19\. Add good"
    with pytest.raises(DataError, match=few):
        run("source_only", rows, tmp_path / "few", Memory(false_alarms=0.05))
    with pytest.raises(DataError, match="all good training images are of one group"):
        run("source_only", replace(rows, groups=np.full(2 * COUNT, "one", object)), tmp_path / "one")


def test_methods_that_have_nothing_to_do_with_a_head_are_left_out() -> None:
    built = {
        n: plugins.load("adapt.methods", n).Config().build(Shape(2, 4, 1, 8, 0))
        for n in ("mmd", "target_memory", "zscore", "source_only")
    }

    assert why_left_out(built["mmd"], "memory") == "it trains a model, and head: memory trains nothing"
    assert why_left_out(built["target_memory"], "bottleneck") == "it remembers images, and head: bottleneck does not"
    whole = "it looks at target images, and with mode: full masks are learnt from the source's alone"
    assert why_left_out(built["mmd"], "linear", whole=True) == whole
    assert why_left_out(built["source_only"], "linear", whole=True) == ""
    assert why_left_out(built["target_memory"], "memory") == why_left_out(built["zscore"], "bottleneck") == ""


def test_the_head_that_remembers_and_the_task_of_defects_stand_together() -> None:
    remembers = ModelConfig(mode="frozen", backbone={"name": "small_cnn"}, head="memory", epochs=1)
    defects: Scenario = scenario(task="anomaly")

    check_head(defects, remembers)
    with pytest.raises(ConfigError, match=r"head: bottleneck is trained on classes, and task anomaly has good images"):
        check_head(defects, ModelConfig(mode="frozen", backbone={"name": "small_cnn"}))
    with pytest.raises(ConfigError, match=r"head: memory is for task anomaly \(got task: classification\)"):
        check_head(scenario(), remembers)


def test_a_layer_is_of_tasks_with_cells_alone() -> None:
    layered = ModelConfig(mode="frozen", backbone={"name": "small_cnn"}, layer=3)

    check_head(scenario(task="segmentation"), layered)
    with pytest.raises(ConfigError, match=r"layer: is of cells, and task classification has one row .* \(got 3\)"):
        check_head(scenario(), layered)


def test_target_images_that_a_person_called_defective_are_not_remembered() -> None:
    rows = data()
    labels = rows.labels.copy()
    first, second = rows.target_train[:2]
    labels[first], labels[second], labels[rows.source_train[0][0]] = 1, 0, 1

    good = train._of_good(replace(rows, labels=labels, target_labelled=rows.target_train[:2]), rows.groups)

    assert first not in good.target_train and second in good.target_train
    np.testing.assert_array_equal(good.source_train[0], rows.source_train[0][1:])


def test_an_image_whose_like_stands_in_another_group_has_a_finite_answer(tmp_path: Path) -> None:
    rows = data()
    rows.inputs.values[2] = rows.inputs.values[0]  # type: ignore[attr-defined] # of `Array`

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run("source_only", rows, tmp_path / "one")
        rows.inputs.values[:] = rows.inputs.values[0]  # type: ignore[attr-defined] # likewise
        run("source_only", rows, tmp_path / "all")

    for name in ("one", "all"):
        assert np.isfinite(np.load(tmp_path / name / "epochs" / "001.logits.npy")).all()
        assert np.isfinite(np.load(tmp_path / name / "epochs" / "001.maps.npy")).all()
