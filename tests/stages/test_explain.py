"""The stage `explain` on a small transformer, and on a network that cannot be looked into."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import save_file
from torch import ones, zeros

from isthmus.core.config import load_params
from isthmus.core.files import read_json, write_json
from isthmus.data.manifest import INDEX, read_table, write_table
from isthmus.evaluation.scoring.predict import PREDICTIONS
from isthmus.models import ModelConfig
from isthmus.models.classifier import Classifier, Encoder, Features, Standardise
from isthmus.models.embedding import store_backbone
from isthmus.stages import explain
from tests.scenario_files import CLASSES, ScenarioFiles, write_scenario


def made(root: Path, backbone: dict[str, object], side: int, method: str = "source_only") -> ScenarioFiles:
    """Writes a scenario whose models, source-only and `method`, can be loaded; `method` is chosen, labels unknown."""
    files = write_scenario(root, {"source_only": 0.6} | {method: 0.6}, images=60)
    for path in (files.prepared / "shards").glob("*.npy"):
        rng = np.random.default_rng(0)
        np.save(path, rng.integers(0, 255, (len(np.load(path)), side, side, 3)).astype(np.uint8))
    config = ModelConfig(mode="frozen", backbone=backbone, bottleneck=8)
    built = config.backbone_config("test: ").build(3, side, root)
    store_backbone(files.features, built, config, 3, side)
    for seed, name in enumerate(sorted({"source_only", method})):
        folder = files.trained / name
        facts = read_json(folder / "run.json") | {"config": {"model": config.model_dump(mode="json")}}
        write_json(folder / "run.json", facts)
        plain = Standardise(zeros(2, built.feature_dim), ones(2, built.feature_dim))
        model = Classifier(Features(plain), built.feature_dim, len(CLASSES), 8, "batch", seed)
        save_file(model.state_dict(), folder / "seeds" / "0" / "epochs" / "004.safetensors")
    chosen = {"method": method, "epoch": 4, "seed": 0}
    best = {"source_only": 4, method: 4}
    write_json(root / "choice.json", {"chosen": chosen, "epochs": best, "ensemble": None})
    index = read_table(files.prepared / "index.parquet", INDEX)
    rows = index[["image_id", "domain"]].assign(split="test", predicted=np.arange(len(index)) % 3, confidence=0.5)
    empty = rows.assign(label=pd.array([None] * len(rows), "Int32"), correct=pd.array([None] * len(rows), "boolean"))
    write_table(root / "predictions.parquet", empty, PREDICTIONS)
    return files


def run(files: ScenarioFiles) -> Path:
    root = files.root
    explain.run(
        load_params(explain.Params, files.params, {"scenario": "scenarios.demo"}),
        prepared=files.prepared,
        features=files.features,
        trained=files.trained,
        choice=root / "choice.json",
        predictions=root / "predictions.parquet",
        explained=root / "explained",
    )
    return root / "explained"


@pytest.mark.slow
def test_twelve_target_images_get_two_maps_each_and_the_same_files_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    files = made(tmp_path, {"name": "timm", "architecture": "test_vit", "weights": "random"}, 32)

    folder = run(files)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    facts, maps = read_json(folder / "explain.json"), np.load(folder / "maps.npy")
    domains = read_table(files.prepared / "index.parquet", INDEX).set_index("image_id")["domain"]
    assert maps.shape == (12, 2, 2, 2) and maps.dtype == np.float32
    assert facts["why_not"] is None and len(facts["images"]) == 12
    assert {domains[fact["image_id"]] for fact in facts["images"]} == {"line_b"}
    assert {path.name: path.read_bytes() for path in run(files).iterdir()} == before


def test_a_network_without_attention_is_named_and_has_no_maps(tmp_path: Path) -> None:
    folder = run(made(tmp_path, {"name": "small_cnn"}, 20))

    assert "not a vision transformer" in read_json(folder / "explain.json")["why_not"]
    assert len(np.load(folder / "maps.npy")) == 0


MEAN = {"chosen": {"method": "ensemble", "epoch": 4, "seed": 0}, "ensemble": {"source_only": [0], "coral": [0]}}


@pytest.mark.slow
def test_of_an_ensemble_the_one_frozen_network_is_looked_into(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    backbone = {"name": "timm", "architecture": "test_vit", "weights": "random"}
    files = made(tmp_path, backbone, 32, "coral")
    alone = np.load(run(files) / "maps.npy")
    write_json(tmp_path / "choice.json", read_json(tmp_path / "choice.json") | MEAN)

    maps = np.load(run(files) / "maps.npy")

    np.testing.assert_allclose(maps[:, 0], alone[:, 0], atol=1e-5)  # rollout knows no class
    assert not np.allclose(maps[:, 1], alone[:, 1], atol=1e-3)  # Grad-CAM asks all heads


def test_an_ensemble_of_several_networks_is_named_and_has_no_maps(tmp_path: Path) -> None:
    files = made(tmp_path, {"name": "small_cnn"}, 20, "coral")
    for method in ("source_only", "coral"):
        folder = files.trained / method
        config = ModelConfig(mode="full", backbone={"name": "small_cnn"}, bottleneck=8)
        facts = read_json(folder / "run.json") | {"config": {"model": config.model_dump(mode="json")}}
        write_json(folder / "run.json", facts)
        built = config.backbone_config("test: ").build(3, 20, tmp_path)
        plain = Standardise(zeros(2, 3), ones(2, 3))
        model = Classifier(Encoder(built.network, plain), built.feature_dim, len(CLASSES), 8, "batch", 0)
        save_file(model.state_dict(), folder / "seeds" / "0" / "epochs" / "004.safetensors")
    write_json(tmp_path / "choice.json", read_json(tmp_path / "choice.json") | MEAN)

    folder = run(files)

    assert read_json(folder / "explain.json")["why_not"] == "the prediction is a mean of several networks"
    assert len(np.load(folder / "maps.npy")) == 0
