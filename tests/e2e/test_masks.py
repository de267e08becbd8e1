"""The whole line where answers are masks: raw files, every stage, registry, gate, promotion, prediction."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import nibabel
import numpy as np
import pandas as pd
import pytest
import rasterio
import yaml
from PIL import Image
from rasterio import Affine

from isthmus.core.files import read_json, write_json
from isthmus.data.manifest import INDEX, LOCATIONS, read_table
from isthmus.evaluation.masks import predicted_masks
from isthmus.evaluation.selection.ensemble import open_compared
from isthmus.monitoring.watch import watch
from isthmus.registry.gate.decision import gate
from isthmus.registry.gate.score import score
from isthmus.registry.model.mask_text import from_text
from isthmus.registry.promotion.promotion import promote, rollback
from isthmus.registry.publish.publish import publish
from isthmus.registry.store.stores import open_store
from isthmus.registry.trace import reproduce
from isthmus.registry.trace.compare import compare
from isthmus.registry.trace.trace import trace
from isthmus.serving.predict import predict
from isthmus.serving.serving_process import Worker
from tests.mask_project import CLASSES, SIDE, build_project, record, run_stages
from tests.registry.project_files import dvc

GATES = {"no_negative_transfer": {"margin": 1.0}, "loads_alone": {}, "compatible": {}, "retrievable": {}}
INSTEAD = {
    "repro": ("checkout", "-q", "--with-deps", "report@demo")
}  # of the stages, what DVC has of them in its cache

UNET = {
    "mode": "full",
    "backbone": {"name": "monai", "architecture": "BasicUNet", "options": {"features": [8, 8, 8, 16, 16, 8]}},
    "head": "linear",
    "backbone_rate": 1.0,
    "learning_rate": 0.01,
    "batch_size": 4,
    "epochs": 10,
    "min_steps": 60,
    "views": 1,
}


def made(folder: Path, task: str, model: dict | None = None, side: int = SIDE) -> Path:
    """Runs every stage and records the results; the gate asks for no accuracy, which random features have not."""
    project = build_project(folder, task, preprocess={"image_size": side})
    change_params(project, gates=GATES, **({"models": {"cells": model}} if model else {}))
    return record(run_stages(project))


def change_params(project: Path, **sections: object) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text()) | sections
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def check_reproduced(found: reproduce.Reproduction) -> None:
    assert found.reproduced and found.outputs[0] == found.outputs[1] > 20, found.text()
    assert {"source_test_mean_iou", "truth.methods.mmd.mean_iou.low"} <= {number.name for number in found.numbers}


def pipelines_masks(project: Path, grid: int = 3, side: int = SIDE) -> dict[str, np.ndarray]:
    """Returns file -> mask that the chosen model gave it in the pipeline."""
    out = project / "out" / "demo"
    choice, index = read_json(out / "choice.json"), read_table(out / "prepared" / "index.parquet", INDEX)
    chosen = choice["chosen"]
    run = open_compared(out / "train", choice, CLASSES, len(index))[chosen["method"]]
    masks = predicted_masks(run.logits(chosen["seed"], chosen["epoch"]), np.arange(len(index)), (grid, grid), side)
    paths = read_table(out / "locations.parquet", LOCATIONS).set_index("image_id")["path"]
    return {paths[image_id]: mask for image_id, mask in zip(index["image_id"], masks, strict=True)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("masks") / "project", "segmentation")


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A finished project of masks, nothing of it registered."""
    return Path(shutil.copytree(finished, tmp_path / "project", symlinks=True))


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_a_model_of_masks_is_promoted_traced_served_as_the_pipeline_evaluated_it_and_withdrawn(
    store: str, project: Path, tmp_path: Path, use_server: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if store == "postgres":
        use_server()

    version = publish(project, "demo").version
    score(project, "demo")
    decision = gate(project, "demo")
    assert decision.verdict == "yes", decision.reasons
    promote(project, "demo")
    assert open_store(project).aliases("isthmus-demo")["champion"] == version

    night = project / "data" / "raw" / "demo" / "images" / "night"
    colours = np.stack(
        [np.asarray(Image.open(night / f"0{n}.png")) for n in (0, 1)]
    )  # as slices, each turned as RAS is
    turned = np.ascontiguousarray(colours[:, ::-1, ::-1].transpose(2, 1, 0, 3))
    slices = turned.view([(c, "u1") for c in "RGB"])[..., 0]
    nibabel.Nifti1Image(slices, np.diag([1.0, 1, 5, 1])).to_filename(tmp_path / "volume.nii.gz")
    given = [night, tmp_path / "volume.nii.gz"]
    done = predict(project, "demo@champion", given, tmp_path / "answers.parquet", tmp_path / "kept.jsonl")
    rows, expected = pd.read_parquet(tmp_path / "answers.parquet"), pipelines_masks(project)
    assert (done.count, done.exit_status, len(rows)) == (11, 0, 11)
    for row in rows[:10].itertuples():
        mask = np.asarray(Image.open(row.mask))
        np.testing.assert_array_equal(mask, expected[f"images/night/{Path(row.path).name}"])
        assert (mask == 1).mean() == pytest.approx(row.share_blob)
    (row,) = rows[10:].itertuples()
    written = nibabel.load(row.mask)
    assert (written.shape, written.header.get_zooms()) == (slices.shape, (1, 1, 5))
    for n in (0, 1):
        mask = np.asarray(written.dataobj)[..., n].T[::-1, ::-1]
        np.testing.assert_array_equal(mask, expected[f"images/night/0{n}.png"])
    assert row.share_blob == pytest.approx((np.asarray(written.dataobj) == 1).mean())
    watched = watch(project, "demo", tmp_path / "kept.jsonl")
    assert (watched.drift.verdict, watched.drift.images, sum(watched.as_json()["domain_score"])) == (
        "too few images", 11, 11,
    )  # fmt: skip
    assert watched.as_json()["classes"]["blob"] == pytest.approx(rows["share_blob"].mean())
    assert watched.as_json()["answered"] is None

    monkeypatch.setenv("MLFLOW_TRACKING_URI", open_store(project).uri)
    worker = Worker(mlflow.pyfunc.load_model("models:/isthmus-demo@champion"), 2, 10**7)
    text = base64.b64encode((night / "00.png").read_bytes()).decode()
    status, (served,) = worker.answer(json.dumps({"dataframe_records": [{"image": text}]}).encode())
    assert status == 200
    np.testing.assert_array_equal(from_text(served["mask"]), expected["images/night/00.png"])

    assert trace(project, "demo@champion").lineage["scenario"] == "demo"
    both = compare(project, "demo@champion", "HEAD")  # from the files of its run, and from what DVC has of the commit
    assert both.first.scores == both.second.scores == read_json(project / "out" / "demo" / "scores.json")
    assert not any(both.differences(what) for what in ("settings", "data", "code"))
    run = reproduce._run
    monkeypatch.setattr(reproduce, "_run", lambda tree, *words, **how: run(tree, *INSTEAD.get(words[0], words), **how))
    again = reproduce.reproduce(project, "demo@champion", tolerance=0)
    check_reproduced(again)
    rollback(project, "demo", withdraw=True)
    assert "champion" not in open_store(project).aliases("isthmus-demo")


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_a_model_of_masks_is_rolled_back_to_the_one_before_it_whose_results_come_out_the_same_again(
    store: str, project: Path, use_server: Callable[[], str]
) -> None:
    if store == "postgres":
        use_server()
    change_params(project, gates={"no_negative_transfer": {"margin": 1.0}})  # no rule that asks the models
    first = publish(project, "demo")
    assert gate(project, "demo").verdict == "yes"
    promote(project, "demo")
    out = project / "out" / "demo"
    truth = read_json(out / "truth.json")
    write_json(out / "truth.json", truth | {"count": truth["count"] + 1})  # no stage would give this
    dvc(project, "commit", "-q", "-f", "evaluate@demo", "report@demo")
    second = publish(project, "demo")
    assert gate(project, "demo").verdict == "yes"
    promote(project, "demo")

    back = rollback(project, "demo")

    assert (back.champion, back.previous) == (first.version, second.version) == ("1", "2")
    traced = trace(project, "demo@champion").lineage
    assert (traced["snapshot"], traced["raw"]["path"]) == (first.snapshot, "data/raw/demo")
    check_reproduced(reproduce.reproduce(project, "demo@champion", tolerance=0))


@pytest.mark.slow
def test_a_unet_learns_masks_from_whole_images_and_is_served_as_the_pipeline_evaluated_it(tmp_path: Path) -> None:
    project = made(tmp_path / "project", "segmentation", UNET, 96)
    out = project / "out" / "demo"

    why = "it looks at target images, and with mode: full masks are learnt from the source's alone"
    assert read_json(out / "train" / "mmd" / "run.json")["left_out"] == why
    run = read_json(out / "train" / "domain_randomisation" / "run.json")
    assert (run["cells"], run["seeds"], run["sees_target"], run["exchanged"]) == (24 * 24, [0, 1], False, 0.5)
    assert np.load(out / "features" / "domain0-all.npy").shape == (12, 8)  # of images, as training reads no cells
    truth = read_json(out / "truth.json")["methods"]
    assert read_json(out / "choice.json")["ensemble"] == {"domain_randomisation": [0, 1]}
    assert read_json(out / "choice.json")["chosen"]["method"] == "ensemble"
    means = {name: truth[name]["mean_iou"]["mean"] for name in ("source_only", "ensemble")}
    assert means["ensemble"] > means["source_only"] + 0.1  # the night is the negative of the day

    publish(project, "demo")
    night = project / "data" / "raw" / "demo" / "images" / "night"
    predict(project, "demo@candidate", [night], tmp_path / "answers.parquet")
    expected = pipelines_masks(project, 24, 96)
    for row in pd.read_parquet(tmp_path / "answers.parquet").itertuples():
        mask = np.asarray(Image.open(row.mask))  # of the file's own size, half of the prepared one
        assert (mask == expected[f"images/night/{Path(row.path).name}"][::2, ::2]).mean() > 0.97


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("model", "side", "grid"), [(None, SIDE, 3), (UNET, 96, 24)], ids=["cells", "unet"])
def test_a_model_of_change_compares_two_images_and_gives_masks_the_coordinates_of_the_first(
    model: dict | None, side: int, grid: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = made(tmp_path / "project", "change", model, side)
    # of the file's own size; the U-Net's prepared images are twice as large
    expected = pipelines_masks(project, grid, side)["images/night/00.png"][:: side // SIDE, :: side // SIDE]
    publish(project, "demo")
    raw, pairs = project / "data" / "raw" / "demo", tmp_path / "pairs"
    for name, folder in (("a", "images"), ("b", "later")):
        (pairs / name).mkdir(parents=True)
        pixels = np.asarray(Image.open(raw / folder / "night" / "00.png"))
        place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000)}
        with rasterio.open(
            pairs / name / "00.tif", "w", driver="GTiff", dtype="uint8", count=3, height=SIDE, width=SIDE, **place
        ) as scene:
            scene.write(pixels.transpose(2, 0, 1))
    (pairs / "a" / "alone.png").write_bytes((raw / "images" / "night" / "00.png").read_bytes())

    done = predict(project, "demo@candidate", [pairs], tmp_path / "answers.parquet")

    (row,) = pd.read_parquet(tmp_path / "answers.parquet").itertuples()
    with rasterio.open(row.mask) as written:
        assert (written.crs.to_epsg(), written.transform.e, written.nodata) == (32633, -10, 255)
        assert (written.read(1) == expected).mean() > (0.97 if model else 0.9999)
    assert done.exit_status == 5
    bad = json.loads((tmp_path / "answers.parquet.bad.json").read_text())
    assert [line["reason"] for line in bad] == ["no file of its name lies in 'b'"]

    store = open_store(project)
    store.set_alias("isthmus-demo", "champion", store.aliases("isthmus-demo")["candidate"])
    watched = watch(project, "demo", pairs)
    assert (watched.drift.images, list(watched.seen.bad.values())) == (1, ["no file of its name lies in 'b'"])

    texts = [base64.b64encode((pairs / name / "00.tif").read_bytes()).decode() for name in ("a", "b")]
    body = json.dumps({"dataframe_records": [{"image": texts[0], "image_b": texts[1]}]}).encode()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", open_store(project).uri)
    worker = Worker(mlflow.pyfunc.load_model("models:/isthmus-demo@candidate"), 2, 10**7)
    status, (served,) = worker.answer(body)
    assert status == 200
    assert (from_text(served["mask"]) == expected).mean() > (0.97 if model else 0.9999)
