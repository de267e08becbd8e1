from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from isthmus.core.errors import ConfigError, WeightsError
from isthmus.models import ModelConfig
from isthmus.models.backbones import Backbone, small_cnn
from isthmus.models.backbones import timm as timm_backbone
from isthmus.models.bands import colour_shares, inflated, moved, rgb_places
from isthmus.models.embedding import store_backbone, stored_encoder

TINY = "test_vit"
SENTINEL = [490.0, 560.0, 665.0, 842.0, 1610.0, None]  # blue, green, red, nir, swir, an index


def vit(channels: int, **options: object) -> Backbone:
    config = timm_backbone.Config.model_validate({"architecture": TINY, "weights": "random", "seed": 3, **options})
    return config.build(channels, 48, Path("unused"))


def images(channels: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(2, channels, 48, 48, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def features(built: Backbone, values: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor(built.mean).view(1, -1, 1, 1), torch.tensor(built.std).view(1, -1, 1, 1)
    out: torch.Tensor = built.network.eval()((values - mean) / std)
    return out


def test_bands_that_repeat_their_nearest_colour_give_the_features_of_the_rgb_network() -> None:
    rgb = images(3)
    many = rgb[:, [2, 1, 0, 0, 0]]  # near and short-wave infrared are nearest to red

    wide = features(vit(5, wavelengths=SENTINEL[:5]), many)

    torch.testing.assert_close(wide, features(vit(3), rgb), rtol=1e-4, atol=1e-5)


def test_a_grey_picture_gives_the_features_of_the_rgb_network_in_any_number_of_bands() -> None:
    grey = torch.rand(2, 1, 48, 48, generator=torch.Generator().manual_seed(1)) - 0.5

    narrow = vit(3).network.eval()(grey.repeat(1, 3, 1, 1))

    for channels, waves in ((1, None), (2, None), (4, None), (7, None), (6, SENTINEL), (2, [842, 1610]), (1, [450])):
        wide = vit(channels, wavelengths=waves).network.eval()(grey.repeat(1, channels, 1, 1))
        torch.testing.assert_close(wide, narrow, rtol=1e-4, atol=1e-5)


def test_only_the_first_layer_differs_and_its_bias_does_not() -> None:
    narrow, wide = vit(3).network.state_dict(), vit(6, wavelengths=SENTINEL).network.state_dict()

    assert [name for name in narrow if not torch.equal(narrow[name], wide[name])] == ["patch_embed.proj.weight"]


def test_shares_by_hand() -> None:
    thirds = colour_shares([490, 560, 665, None])

    # red: itself 1 and a third of the unknown band: 3/4 and 1/4
    torch.testing.assert_close(thirds, torch.tensor([[0, 0, 0.75], [0, 0.75, 0], [0.75, 0, 0], [0.25, 0.25, 0.25]]))
    assert colour_shares([842, 1610]).tolist() == [[0.5, 1, 1], [0.5, 0, 0]]  # green and blue lie nearest to the first
    weight = torch.arange(6.0).view(2, 3, 1, 1)
    assert inflated(weight, [560, 490, 665])[:, :, 0, 0].tolist() == [[1, 2, 0], [4, 5, 3]]


def test_mean_and_std_move_with_the_bands() -> None:
    built = vit(6, wavelengths=SENTINEL)
    red, green, blue = vit(3).mean

    assert built.mean == pytest.approx([blue, green, red, red, red, (red + green + blue) / 3])
    assert moved((0.2, 0.3, 0.4), [None]) == (0.3,)
    assert vit(3).mean == vit(3, bands="rgb").mean


def test_rgb_alone_gives_the_features_of_the_rgb_network_whatever_the_other_bands_hold() -> None:
    rgb, others = images(3), images(3, seed=5)
    many = torch.cat([rgb[:, [2, 1, 0]], others], dim=1)

    built = vit(6, wavelengths=SENTINEL, bands="rgb")

    assert torch.equal(features(built, many), features(vit(3), rgb))
    assert built.network.state_dict().keys() == vit(3).network.state_dict().keys()


def test_unstated_wavelengths_are_red_green_blue_first() -> None:
    rgb = images(3)

    built = vit(4, bands="rgb")

    assert torch.equal(features(built, torch.cat([rgb, images(1)], dim=1)), features(vit(3), rgb))


def test_the_small_network_takes_all_bands_or_rgb_alone(tmp_path: Path) -> None:
    rgb = images(3)
    many = torch.cat([images(1, seed=5), rgb], dim=1)
    waves = [842.0, 665.0, 560.0, 490.0]

    whole = small_cnn.Config(wavelengths=waves).build(4, 48, tmp_path)
    alone = small_cnn.Config(wavelengths=waves, bands="rgb").build(4, 48, tmp_path)

    assert whole.network[0].in_channels == 4
    assert torch.equal(alone.network.eval()(many), small_cnn.Config().build(3, 48, tmp_path).network.eval()(rgb))


@pytest.mark.parametrize("bands", ["inflate", "rgb"])
def test_a_stored_backbone_of_many_bands_comes_back_with_the_same_features(bands: str, tmp_path: Path) -> None:
    backbone = {"name": "timm", "architecture": TINY, "weights": "random", "bands": bands, "wavelengths": SENTINEL}
    config = ModelConfig(mode="frozen", backbone=backbone)
    built = config.backbone_config("test: ").build(6, 48, tmp_path)

    store_backbone(tmp_path, built, config, 6, 48)
    again = stored_encoder(tmp_path, 2).eval()

    with torch.no_grad():
        got = again(images(6), torch.zeros(2, dtype=torch.int64))
    torch.testing.assert_close(got, features(built, images(6)), rtol=1e-4, atol=1e-5)


def test_weights_are_loaded_strictly_before_they_are_inflated(tmp_path: Path) -> None:
    tensors = vit(3).network.state_dict()
    save_file({name: value for name, value in tensors.items() if name != "cls_token"}, tmp_path / "w.safetensors")

    with pytest.raises(WeightsError, match="1 tensors missing"):
        vit(6, wavelengths=SENTINEL, weights=str(tmp_path / "w.safetensors"))


def test_a_wrong_number_of_wavelengths_and_a_missing_colour_are_said() -> None:
    with pytest.raises(ConfigError, match="wavelengths names 6 bands, but the prepared images have 4 channels"):
        vit(4, wavelengths=SENTINEL)
    with pytest.raises(ConfigError, match=r"no band within 40 nm of blue \(490 nm\); .* are: 665 nm, 560 nm, 842 nm"):
        vit(3, wavelengths=[665, 560, 842], bands="rgb")
    with pytest.raises(ConfigError, match=r"no band within 40 nm of red .*; the channels are: unknown, unknown\. Name"):
        vit(2, bands="rgb")
    assert rgb_places([842, 490, 560, 665]) == [3, 2, 1]
