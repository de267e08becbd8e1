"""The precision of a frozen network: how it is chosen and recorded, and that all who run the network agree."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from isthmus.core.device import has_bfloat16
from isthmus.core.files import hash_files, read_json, write_json
from isthmus.models import ModelConfig, embedding
from isthmus.models.backbones.timm import Config as Timm
from isthmus.models.classifier import Encoder, Standardise, same_for_all
from isthmus.models.embedding import encode, frozen_encoder, read_facts, store_backbone

CPU = torch.device("cpu")
BACKBONE = {"name": "timm", "architecture": "test_vit", "weights": "random", "image_size": 32}


def images(count: int = 9) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a backbone whose blocks change its features; with random weights of timm they hardly do."""
    folder = tmp_path_factory.mktemp("features")
    built = Timm(architecture="test_vit", weights="random", image_size=32).build(3, 32, folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for parameter in built.network.parameters():
            nn.init.normal_(parameter, std=0.05)
    store_backbone(folder, built, ModelConfig(mode="frozen", backbone=BACKBONE), 3, 32)
    return folder


@pytest.fixture
def device_has(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    return lambda there: monkeypatch.setattr(embedding, "has_bfloat16", lambda _: there)


@pytest.mark.parametrize(
    ("asked", "there", "precision"),
    [
        ("auto", True, "bfloat16"),
        ("auto", False, "float32"),
        ("float32", True, "float32"),
        ("bfloat16", True, "bfloat16"),
    ],
)
def test_auto_follows_the_device_and_the_answer_is_recorded(
    stored: Path, device_has: Callable[[bool], None], asked: str, there: bool, precision: str
) -> None:
    device_has(there)

    encoder = frozen_encoder(stored, 2, asked, images(), CPU)  # type: ignore[arg-type]

    assert read_facts(stored).precision == read_json(stored / "embed.json")["precision"] == precision
    assert {weight.dtype for weight in encoder.network.parameters()} == {getattr(torch, precision)}
    assert encode(encoder, images(), CPU).dtype == np.float32


def test_auto_stays_in_float32_where_rounding_would_change_features(
    stored: Path,
    device_has: Callable[[bool], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device_has(True)
    monkeypatch.setattr(embedding, "LEAST_COSINE", 0.999999)

    frozen_encoder(stored, 2, "auto", images(), CPU)

    assert read_facts(stored).precision == "float32"
    assert "embed: float32: features in bfloat16 have a cosine of 0.99" in capsys.readouterr().err


class _Offset(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels.mean(dim=(2, 3)) + 1000) - 1000  # the digits of bfloat16 end at 4


def test_features_that_are_lost_in_rounding_have_a_cosine_far_from_one() -> None:
    encoder = Encoder(_Offset(), Standardise(same_for_all([0.5] * 3, 1), same_for_all([0.25] * 3, 1)))
    exact = encode(encoder, images(), CPU)

    rounded = encode(encoder.at("bfloat16"), images(), CPU)

    assert embedding._least_cosine(exact, exact) == 1
    assert embedding._least_cosine(exact, rounded) < 0.9
    assert embedding._least_cosine(exact, np.full_like(exact, np.nan)) == 0


def test_a_device_without_the_instructions_emulates_them_and_that_is_logged(
    stored: Path, device_has: Callable[[bool], None], capsys: pytest.CaptureFixture[str]
) -> None:
    device_has(False)

    encoder = frozen_encoder(stored, 2, "bfloat16", images(), CPU)

    assert encoder.dtype == torch.bfloat16
    assert "no bfloat16 instructions: torch emulates them" in capsys.readouterr().err


@pytest.mark.skipif(not has_bfloat16(CPU), reason="the processor has no bfloat16 instructions")
def test_features_in_bfloat16_are_the_same_bytes_alone_and_in_a_batch(stored: Path) -> None:
    encoder = frozen_encoder(stored, 2, "bfloat16", images(), CPU)

    together = encode(encoder, images(), CPU)

    for size in (1, 2, 4):
        parts = [encode(encoder, images()[start : start + size], CPU) for start in range(0, 9, size)]
        np.testing.assert_array_equal(np.concatenate(parts), together)


def test_backbones_that_were_stored_before_precision_was_recorded_are_of_float32(stored: Path, tmp_path: Path) -> None:
    facts = read_json(stored / "embed.json")
    del facts["precision"]
    write_json(tmp_path / "embed.json", facts)

    assert read_facts(tmp_path).precision == "float32"


def test_the_precision_does_not_change_the_stored_weights(stored: Path) -> None:
    before = hash_files([stored / "backbone.safetensors"])

    frozen_encoder(stored, 2, "bfloat16", images(), CPU)

    assert hash_files([stored / "backbone.safetensors"]) == before
