"""A few target labels from the file that keeps them to the choice: what they change, and what may change nothing."""

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from isthmus.core.config import load_params
from isthmus.core.files import hash_files, read_json
from isthmus.data.labels.given import drawing_order, pool_of
from isthmus.data.manifest import MANIFEST, TARGET_LABELS, read_table, write_table
from isthmus.evaluation.metrics import softmax
from isthmus.stages import select
from tests.scenario_files import CLASSES, ScenarioFiles
from tests.stages.test_labels import give, one_group_each, part
from tests.stages.test_train import filled, place, trained

METHODS = ("source_only", "mcc")


def line(files: ScenarioFiles) -> dict[str, str]:
    """Runs labels, train and select; returns the hash of what each wrote."""
    part(files)
    for method in METHODS:
        trained(files, method)
    choice = files.root / "choice.json"
    params = load_params(select.Params, files.params, filled(select.Params.SECTIONS))
    select.run(params, manifest=files.manifest, prepared=files.prepared, trained=files.trained, choice=choice)
    return {method: hash_files([files.trained / method]) for method in METHODS} | {"choice": hash_files([choice])}


def small(root: Path) -> tuple[ScenarioFiles, list[str]]:
    """A scenario of quick methods, and its pool in the order of the draw."""
    files = place(root, epochs=8)
    document = yaml.safe_load(files.params.read_text())
    document["methods"] = {name: {} for name in METHODS}
    document["train"] = {"seeds": [0], "batch_size": 16, "keep": 1}
    document["select"] = {"average": ["mcc"]}
    files.params.write_text(yaml.safe_dump(document))
    one_group_each(files)
    return files, drawing_order(pool_of(read_table(files.manifest, MANIFEST), "line_b"))


def test_exchanging_the_answers_of_all_other_target_images_changes_no_byte_of_training_and_choice(
    tmp_path: Path,
) -> None:
    files, order = small(tmp_path)
    purposes = dict.fromkeys(order[:10], "measure") | dict.fromkeys(order[10:16], "train")
    truth = {image_id: CLASSES[n % 3] for n, image_id in enumerate(order)}
    give(files, purposes, truth)
    before = line(files)

    give(files, purposes, truth | {image_id: CLASSES[(n + 1) % 3] for n, image_id in enumerate(order[:10])})
    table = read_table(files.labels_target, TARGET_LABELS)
    write_table(files.labels_target, table.assign(label=(table["label"] + 1) % 3), TARGET_LABELS)
    assert line(files) == before

    give(files, purposes, truth | {order[10]: CLASSES[(10 + 1) % 3]})
    after = line(files)
    assert after["mcc"] != before["mcc"] and after["source_only"] == before["source_only"]


def test_labelled_images_are_learned_and_counted_and_source_only_never_sees_them(tmp_path: Path) -> None:
    files, order = small(tmp_path)
    plain = line(files)
    ids = list(pd.read_parquet(files.prepared / "index.parquet")["image_id"])
    rows, truth = [ids.index(image_id) for image_id in order[:12]], np.arange(12) % 3

    def fit() -> float:
        logits = np.load(files.trained / "mcc" / "seeds" / "0" / "epochs" / "008.logits.npy")
        return float(-np.log(softmax(logits[rows])[np.arange(12), truth]).mean())

    before = fit()

    give(files, dict.fromkeys(order[:12], "train"), {image_id: CLASSES[n % 3] for n, image_id in enumerate(order)})
    with_labels = line(files)

    assert with_labels["source_only"] == plain["source_only"]
    assert "target_labels" not in read_json(files.trained / "source_only" / "run.json")
    assert read_json(files.trained / "mcc" / "run.json")["target_labels"] == 12
    assert fit() < before - 0.01  # random answers of random pixels: only their labels tell


def test_a_head_that_remembers_holds_the_labelled_target_images_too(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    files, order = small(tmp_path)
    document = yaml.safe_load(files.params.read_text())
    document["methods"]["zscore"] = {}
    document["models"]["small_cnn"] = {
        "mode": "frozen", "backbone": {"name": "small_cnn", "width": 4}, "epochs": 1, "head": "knn",
    }  # fmt: skip
    files.params.write_text(yaml.safe_dump(document))
    give(files, dict.fromkeys(order[:4], "train"), {})
    part(files)

    sizes = {}
    for method in ("source_only", "zscore"):
        kept = trained(files, method) / "seeds" / "0" / "epochs" / "001.safetensors"
        sizes[method] = len(load_file(kept)["head.labels"])

    assert sizes["zscore"] == sizes["source_only"] + 4
