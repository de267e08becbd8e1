"""What a scenario leaves open of its preprocessing is as the model's weights want it; what it sets stays."""

from typing import Any

import pytest

from isthmus.core.errors import ConfigError
from isthmus.models.backbones import small_cnn
from isthmus.models.backbones import timm as timm_backbone
from isthmus.models.preprocessing import with_defaults_of_weights
from tests.raw_folders import scenario


def options(backbone: dict[str, Any], kind: str = "natural", **preprocess: Any) -> dict[str, Any]:
    return with_defaults_of_weights(scenario(kind=kind, preprocess=preprocess), backbone).preprocess


def timm(architecture: str, **further: Any) -> dict[str, Any]:
    return {"name": "timm", "architecture": architecture, **further}


def test_photographs_are_resized_and_cropped_as_the_weights_want_it() -> None:
    assert options(timm("vit_base_patch16_224")) == {
        "image_size": 224,
        "crop": 0.9,
        "crop_mode": "center",
        "interpolation": "bicubic",
    }
    assert options(timm("resnet18.tv_in1k"))["interpolation"] == "bilinear"
    assert options(timm("vit_base_patch16_clip_384.laion2b_ft_in12k_in1k"))["crop_mode"] == "squash"


def test_what_the_scenario_or_the_model_sets_stays_the_scenarios_word_first() -> None:
    backbone = timm("vit_base_patch16_224", image_size=96, crop=0.8, interpolation="nearest")

    assert options(backbone)["image_size"] == 96
    assert options(backbone, image_size=64, crop=1.0) == {
        "image_size": 64,
        "crop": 1.0,
        "crop_mode": "center",
        "interpolation": "nearest",
    }


@pytest.mark.parametrize("kind", ["industrial", "medical", "remote_sensing"])
def test_other_kinds_take_the_size_alone(kind: str) -> None:
    assert options(timm("vit_small_patch14_dinov2"), kind) == {"image_size": 518}


def test_a_network_without_weights_leaves_everything_to_the_kind() -> None:
    assert options({"name": "small_cnn"}) == {}
    assert options({}) == {}
    with pytest.raises(ConfigError, match="params.yaml: models.small_cnn.backbone.architecture: Field required"):
        options({"name": "timm"})


def test_timm_is_not_asked_where_nothing_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> dict[str, Any]:
        raise AssertionError("asked")

    monkeypatch.setattr(timm_backbone.Config, "made_for", fail)

    assert options(timm("vit_small_patch14_dinov2", image_size=154), "industrial") == {"image_size": 154}
    assert small_cnn.Config().preprocessing(["image_size"]) == {}


def test_where_defects_are_looked_for_the_whole_frame_is_shown_unless_the_scenario_says_otherwise() -> None:
    def of(kind: str, **preprocess: Any) -> dict[str, Any]:
        given = scenario(kind=kind, task="anomaly", preprocess=preprocess)
        return with_defaults_of_weights(given, timm("vit_base_patch16_224")).preprocess

    assert of("natural")["crop_mode"] == "squash" and "crop" not in of("natural")
    assert of("industrial")["squash"] is True and of("industrial", squash=False)["squash"] is False
    assert "squash" not in options(timm("vit_base_patch16_224"), "industrial")
    assert not {"squash", "crop_mode"} & of("medical").keys()
