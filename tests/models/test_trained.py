"""A model of boxes as a folder of its own: the same boxes after loading; also of an earlier version."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from isthmus.core.files import write_json
from isthmus.models import ModelConfig
from isthmus.models.backbones.timm import Config
from isthmus.models.classifier import Classifier, Features, Standardise
from isthmus.models.embedding import encode, store_backbone, stored_encoder
from isthmus.models.extents import ExtentHead
from isthmus.models.trained import export_trained, load_trained

SIDE = 64
OPTIONS: dict[str, Any] = {"depth": 2, "embed_dim": 48, "num_heads": 3}
BACKBONE = {"name": "timm", "architecture": "vit_tiny_patch16_224", "weights": "random", "options": OPTIONS}


def exported(folder: Path) -> Classifier:
    """Writes a model of boxes with random weights; returns its classifier."""
    model = ModelConfig(mode="frozen", backbone=BACKBONE, bottleneck=8)
    built = Config.model_validate({k: v for k, v in BACKBONE.items() if k != "name"}).build(3, SIDE, Path("unused"))
    facts = store_backbone(folder / "features", built, model, 3, SIDE, images=1)
    width = facts.feature_dim
    classifier = Classifier(Features(Standardise(torch.zeros(2, width), torch.ones(2, width))), width, 3, 8, "batch", 0)
    classifier.extents = ExtentHead(width, facts.grid)
    epochs = folder / "train" / "source_only" / "seeds" / "0" / "epochs"
    epochs.mkdir(parents=True)
    save_file(classifier.state_dict(), epochs / "001.safetensors")
    run = {"config": {"model": model.model_dump(mode="json")}, "classes": ["-", "a", "b"], "domains": ["s", "t"]}
    write_json(folder / "train" / "source_only" / "run.json", run)
    export_trained(folder / "train", [("source_only", 0, 1)], folder / "features", 0, folder / "model")
    return classifier.eval()


def test_a_loaded_model_answers_logits_and_edges_of_each_cell_as_the_trained_one(tmp_path: Path) -> None:
    classifier = exported(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)

    found = load_trained(tmp_path / "model").predict_all(images, "t", batch_size=2)

    cells = torch.from_numpy(encode(stored_encoder(tmp_path / "features", 2).eval(), images, torch.device("cpu")))
    with torch.no_grad():
        expected = classifier(cells.float(), torch.ones(3, dtype=torch.int64))
        by_row = classifier(cells.float().flatten(0, 1), torch.ones(48, dtype=torch.int64))
    assert expected.extents is not None and by_row.extents is None  # rows without a place have no edges
    torch.testing.assert_close(by_row.logits, expected.logits)
    np.testing.assert_allclose(found.extents, expected.extents.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.logits, expected.logits.numpy(), atol=1e-5)
    assert found.extents.shape == (3 * 16, 4)


def test_a_model_of_boxes_by_cell_of_an_earlier_version_answers_as_it_did(tmp_path: Path) -> None:
    exported(tmp_path)
    weights = tmp_path / "model" / "weights.safetensors"
    width = 48
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, 4))  # what was trained then
    kept = {name: tensor for name, tensor in load_file(weights).items() if ".extents." not in name}
    old = {f"classifier.extents.layers.{name}": tensor for name, tensor in layers.state_dict().items()}
    save_file(kept | old, weights)
    images = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)

    found = load_trained(tmp_path / "model").predict_all(images, "t")

    cells = torch.from_numpy(encode(stored_encoder(tmp_path / "features", 2).eval(), images, torch.device("cpu")))
    with torch.no_grad():
        expected = layers(cells.float()).clamp(-6, 6).exp().flatten(0, 1)
    np.testing.assert_allclose(found.extents, expected.numpy(), rtol=1e-4)
