"""Reading what `train` wrote: what fits is read, what does not is refused by name."""

from pathlib import Path

import numpy as np
import pytest

from isthmus.core.errors import DataError
from isthmus.core.files import read_json, write_json
from isthmus.data.manifest import MANIFEST, read_table, write_table
from isthmus.evaluation.metrics import softmax
from isthmus.evaluation.selection.ensemble import open_compared
from isthmus.evaluation.trained import UNKNOWN, Trained, open_trained, read_samples
from tests.scenario_files import CLASSES, EPOCHS, ScenarioFiles, write_scenario


@pytest.fixture
def files(tmp_path: Path) -> ScenarioFiles:
    return write_scenario(tmp_path, {"source_only": 0.5, "coral": 0.8}, images=60)


def opened(files: ScenarioFiles, *methods: str, count: int = 60, classes: list[str] = CLASSES) -> dict[str, Trained]:
    return open_trained(files.trained, methods or ("source_only", "coral"), classes, count)


def test_arrays_come_in_the_order_of_the_index(files: ScenarioFiles) -> None:
    run = opened(files)["coral"]

    assert run.logits(1, EPOCHS[0]).shape == (60, 3)
    assert run.embeddings(1, EPOCHS[0]).dtype == np.float32
    assert run.all_logits(EPOCHS[1]).shape == (3, 60, 3)
    assert [line["epoch"] for line in run.curves(0)] == [1, 2, 3, 4]


def test_what_was_compared_is_opened_with_the_ensemble_as_the_mean_of_its_probabilities(files: ScenarioFiles) -> None:
    made = {
        "epochs": {"coral": EPOCHS[1], "ensemble": EPOCHS[1], "source_only": EPOCHS[0]},
        "ensemble": {"source_only": [0, 1], "coral": [0, 1]},
    }

    runs = open_compared(files.trained, made, CLASSES, 60)

    mean, coral, floor = runs["ensemble"], runs["coral"], runs["source_only"]
    parts = [softmax(run.logits(s, e)) for run, e in ((floor, EPOCHS[0]), (coral, EPOCHS[1])) for s in (0, 1)]
    np.testing.assert_allclose(softmax(mean.logits(0, EPOCHS[1])), np.mean(parts, axis=0), rtol=1e-5)
    assert mean.all_logits(EPOCHS[1]).shape == (1, 60, 3) and mean.all_logits(EPOCHS[1]).dtype == np.float32
    seen = mean.embeddings(0, EPOCHS[1])
    np.testing.assert_array_equal(seen[:, seen.shape[1] // 2 :], coral.embeddings(0, EPOCHS[1]))
    assert (mean.facts.method, mean.facts.epochs, mean.facts.seeds, mean.curves(0)) == (
        "ensemble",
        [EPOCHS[1]],
        [0],
        [],
    )
    assert {*mean.facts.optimises} == {*coral.facts.optimises, *floor.facts.optimises}
    assert set(open_compared(files.trained, made | {"ensemble": None}, CLASSES, 60)) == {"source_only", "coral"}


def test_samples_hold_no_label_of_the_target(files: ScenarioFiles) -> None:
    samples = read_samples(files.manifest, files.prepared)

    assert set(samples.label[samples.domain == "line_b"]) == {UNKNOWN}
    assert UNKNOWN not in samples.label[samples.domain == "line_a"]
    assert set(samples.split[samples.rows(["line_a"], "val")]) == {"val"}


def test_images_that_were_not_prepared_are_left_out(files: ScenarioFiles) -> None:
    index = read_json(files.prepared / "facts.json")
    assert index["sources"] == 1
    rows = read_table(files.manifest, MANIFEST)

    samples = read_samples(files.manifest, files.prepared)

    assert list(samples.image_id) == list(rows["image_id"])


def test_a_prepared_image_that_the_manifest_does_not_know_is_refused(files: ScenarioFiles) -> None:
    write_table(files.manifest, read_table(files.manifest, MANIFEST).iloc[3:], MANIFEST)

    with pytest.raises(
        DataError, match=r"index.parquet: 3 images are not in .*manifest.parquet \(first: [0-9a-f]{32}\)"
    ):
        read_samples(files.manifest, files.prepared)


def test_a_method_that_was_not_trained_is_named_with_the_stage_to_run(files: ScenarioFiles) -> None:
    with pytest.raises(DataError, match=r"method 'dann' has not been trained. Run: dvc repro --glob 'train@\*-dann'"):
        opened(files, "source_only", "dann")


def test_all_missing_methods_are_named_at_once(files: ScenarioFiles) -> None:
    with pytest.raises(DataError, match=r"(?s)'dann'.*'mmd'"):
        opened(files, "mmd", "dann")


def test_a_method_trained_for_other_classes_is_refused(files: ScenarioFiles) -> None:
    with pytest.raises(DataError, match="classes are crack, dent, good; the scenario has crack, good"):
        opened(files, classes=["crack", "good"])


def test_logits_of_another_number_of_images_are_refused(files: ScenarioFiles) -> None:
    with pytest.raises(DataError, match=r"logits.npy: shape is \[60, 3\]; expected \[59, 3\] for 59 prepared images"):
        opened(files, count=59)["coral"].logits(0, EPOCHS[0])


def test_a_missing_array_is_refused(files: ScenarioFiles) -> None:
    (files.trained / "coral" / "seeds" / "2" / "epochs" / "002.logits.npy").unlink()

    with pytest.raises(DataError, match=r"002.logits.npy: cannot be read .* Run: dvc repro --glob 'train@\*-coral'"):
        opened(files)["coral"].all_logits(2)


def test_curves_that_end_early_are_refused(files: ScenarioFiles) -> None:
    path = files.trained / "coral" / "seeds" / "0" / "curves.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))

    with pytest.raises(DataError, match=r"curves.jsonl: has 3 epochs; run.json keeps epochs \[2, 4\]"):
        opened(files)["coral"].curves(0)


def test_broken_curves_are_refused(files: ScenarioFiles) -> None:
    (files.trained / "coral" / "seeds" / "0" / "curves.jsonl").write_text('{"epoch": 1\n')

    with pytest.raises(DataError, match=r"curves.jsonl: cannot be read"):
        opened(files)["coral"].curves(0)


def test_a_run_without_seeds_is_refused(files: ScenarioFiles) -> None:
    path = files.trained / "coral" / "run.json"
    document = read_json(path)
    del document["seeds"]
    write_json(path, document)

    with pytest.raises(DataError, match=r"run.json: seeds: Field required. Run: dvc repro --glob 'train@\*-coral'"):
        opened(files)
