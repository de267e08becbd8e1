"""The `monai` backbone against MONAI's own networks, on files that are written as MONAI writes them."""

import importlib.util
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from isthmus.core.errors import ConfigError, WeightsError
from isthmus.core.monai_import import monai_import
from isthmus.models import ModelConfig, tuning
from isthmus.models.backbones.monai import ARCHITECTURES, Config
from isthmus.models.classifier import Classifier
from isthmus.models.embedding import encode, store_backbone, stored_encoder
from isthmus.models.recipe import Tuning
from isthmus.models.tokens import tokens
from tests.require import require

pytestmark = pytest.mark.slow  # the import alone takes seconds


@pytest.fixture(autouse=True)
def with_monai() -> None:
    require("monai", importlib.util.find_spec("monai") is not None)


SMALL = {"hidden_size": 32, "mlp_dim": 64, "num_layers": 2, "num_heads": 4}
OPTIONS: dict[str, dict[str, Any]] = {  # so that a test takes a second; EfficientNet has none
    "ViT": SMALL,
    "DenseNet121": {"init_features": 8, "growth_rate": 4, "block_config": (1, 1, 1, 1)},
    "SEResNet50": {"layers": (1, 1, 1, 1)},
    "EfficientNet-B0": {},
}
SIDE = 32


def theirs(architecture: str, channels: int = 3, classes: int = 4) -> nn.Module:
    """MONAI's own network, classifier and all, after a few images, so that no norm is at its start."""
    given = OPTIONS[architecture]
    with monai_import():
        from monai.networks import nets
    torch.manual_seed(3)
    made: nn.Module = {
        "ViT": lambda: nets.ViT(channels, SIDE, 16, classification=True, num_classes=classes, spatial_dims=2, **SMALL),
        "DenseNet121": lambda: nets.DenseNet121(2, channels, classes, **given),
        "SEResNet50": lambda: nets.SEResNet50(spatial_dims=2, in_channels=channels, num_classes=classes, **given),
        "EfficientNet-B0": lambda: nets.EfficientNetBN(
            "efficientnet-b0", pretrained=False, in_channels=channels, num_classes=classes
        ),
    }[architecture]()
    with torch.no_grad():
        made.train()(images(channels, 4))
    return made.eval()


def images(channels: int = 3, count: int = 2) -> Tensor:
    return torch.rand(count, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def features_of(network: nn.Module, architecture: str, given: Tensor) -> Tensor:
    """What MONAI's network hands to its own classifier."""
    seen: list[Tensor] = []
    head = network.get_submodule(ARCHITECTURES[architecture].classifier)
    handle = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(given)
    handle.remove()
    return seen[0]


def bundle(folder: Path, state: object) -> Path:
    """A bundle in MONAI's layout: configs/metadata.json, configs/inference.json, models/model.pt."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "metadata.json").write_text(json.dumps({"version": "0.1.0", "monai_version": "1.6.1"}))
    (folder / "configs" / "inference.json").write_text(json.dumps({"network_def": {"_target_": "DenseNet121"}}))
    torch.save(state, folder / "models" / "model.pt")
    return folder


def zipped(folder: Path) -> Path:
    packed = folder.with_suffix(".zip")
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, file.relative_to(folder.parent))
    return packed


@pytest.mark.parametrize("architecture", OPTIONS)
def test_weights_of_monais_own_network_give_its_features_frozen_and_in_full_mode(
    architecture: str, tmp_path: Path
) -> None:
    network = theirs(architecture)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    backbone = {"architecture": architecture, "weights": str(tmp_path / "weights.pt"), "options": OPTIONS[architecture]}
    expected = features_of(network, architecture, images())

    config = Config(**backbone)
    config.check_weights(SIDE)
    built = config.build(3, SIDE, tmp_path)

    with torch.no_grad():
        torch.testing.assert_close(built.network.eval()(images()), expected)
    assert built.feature_dim == expected.shape[1]
    assert built.origin.startswith("weights.pt, sha256 ")
    model = ModelConfig(mode="frozen", backbone={"name": "monai", **backbone})
    store_backbone(tmp_path / "features", built, model, 3, SIDE)
    encoder = stored_encoder(tmp_path / "features", 2).eval()
    found = encode(encoder, images().permute(0, 2, 3, 1).numpy(), torch.device("cpu"))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4, rtol=1e-4)
    full = Classifier(stored_encoder(tmp_path / "features", 2), built.feature_dim, 2, 4, "batch", 0)
    full(images(), torch.tensor([0, 1])).logits.sum().backward()
    idle = [name for name, parameter in full.backbone.named_parameters() if parameter.grad is None]
    assert all(
        "norm_cross_attn" in name for name in idle
    )  # MONAI's ViT has these norms and uses them in no image model
    assert max(tuning.layers(built.network).values()) > 1  # layers can be trained in part


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_a_bundle_is_read_from_its_folder_and_from_its_zip(wrapped: bool, packed: bool, tmp_path: Path) -> None:
    network = theirs("ViT")
    state = {"model": network.state_dict(), "epoch": 3} if wrapped else network.state_dict()
    place = bundle(tmp_path / "chest_classifier", state)

    built = Config(architecture="ViT", options=SMALL, weights=str(zipped(place) if packed else place)).build(
        3, SIDE, tmp_path
    )

    with torch.no_grad():
        torch.testing.assert_close(built.network.eval()(images()), features_of(network, "ViT", images()))
    assert built.origin.startswith("MONAI bundle chest_classifier")
    assert "sha256" in built.origin


def test_random_weights_are_those_of_the_seed_and_take_any_number_of_channels(tmp_path: Path) -> None:
    for channels in (1, 3, 5):
        one, same = (
            Config(architecture="ViT", options=SMALL, seed=1).build(channels, SIDE, tmp_path) for _ in range(2)
        )
        assert one.network(images(channels)).shape == (2, one.feature_dim)
        assert (len(one.mean), len(one.std)) == (channels, channels)
        other = same.network.state_dict()
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.network.state_dict().items())
    assert one.origin == "random weights, seed 1"


@pytest.mark.parametrize("given", [1, 3])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_that_repeat_what_the_weights_saw_give_the_same_features(
    given: int, channels: int, tmp_path: Path
) -> None:
    network = theirs("ViT", given)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    grey = images(1)

    built = Config(architecture="ViT", options=SMALL, weights=str(tmp_path / "w.safetensors")).build(
        channels, SIDE, tmp_path
    )

    expected = features_of(network, "ViT", grey.repeat(1, given, 1, 1))
    with torch.no_grad():
        torch.testing.assert_close(built.network.eval()(grey.repeat(1, channels, 1, 1)), expected)


def test_bands_rgb_looks_at_red_green_and_blue_alone(tmp_path: Path) -> None:
    network = theirs("ViT")
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    waves = [842.0, 490.0, 560.0, 665.0]
    config = Config(
        architecture="ViT", options=SMALL, weights=str(tmp_path / "w.safetensors"), bands="rgb", wavelengths=waves
    )

    built = config.build(4, SIDE, tmp_path)

    given = images(4)
    with torch.no_grad():
        found = built.network.eval()(given)
    torch.testing.assert_close(found, features_of(network, "ViT", given[:, [3, 2, 1]]))
    assert config.skeleton(4, SIDE).state_dict().keys() == built.network.state_dict().keys()


def test_weights_for_other_bands_are_refused(tmp_path: Path) -> None:
    save_file(theirs("ViT", 5).state_dict(), tmp_path / "w.safetensors")
    config = Config(architecture="ViT", options=SMALL, weights=str(tmp_path / "w.safetensors"))

    assert config.build(5, SIDE, tmp_path).network(images(5)).shape == (2, 32)
    with pytest.raises(WeightsError, match=r"are for images of 5 channels \(got 3 channels, bands: inflate\)"):
        config.build(3, SIDE, tmp_path)


def test_a_vit_without_a_class_token_gives_the_mean_of_its_patches(tmp_path: Path) -> None:
    with monai_import():
        from monai.networks import nets
    network = nets.ViT(3, SIDE, 16, classification=False, spatial_dims=2, **SMALL).eval()
    torch.save(network.state_dict(), tmp_path / "w.pt")
    config = Config(architecture="ViT", options={**SMALL, "classification": False}, weights=str(tmp_path / "w.pt"))

    built = config.build(3, SIDE, tmp_path)

    with torch.no_grad():
        torch.testing.assert_close(built.network.eval()(images()), network(images())[0].mean(dim=1))


def test_positions_of_another_image_size_are_refused_with_the_size_that_fits(tmp_path: Path) -> None:
    torch.save({"model": theirs("ViT").state_dict()}, tmp_path / "w.pt")
    config = Config(architecture="ViT", options=SMALL, weights=str(tmp_path / "w.pt"))

    for call in (lambda: config.build(3, 64, tmp_path), lambda: config.check_weights(64)):
        with pytest.raises(WeightsError, match=r"positions of images of 32 \[pixel\] \(got preprocess.image_size 64\)"):
            call()


def test_lora_changes_its_attention_and_merges_into_its_own_names(tmp_path: Path) -> None:
    network = Config(architecture="ViT", options=SMALL).build(3, SIDE, tmp_path).network.eval()
    before = network(images())

    tuning.prepare(network, Tuning(how="lora", rank=2), 0)

    torch.testing.assert_close(network(images()), before)
    assert 0 < tuning.trained_share(network) < 0.2
    names = Config(architecture="ViT", options=SMALL).skeleton(3, SIDE).state_dict().keys()
    assert tuning.merged(network).state_dict().keys() == names


def test_a_mean_and_std_that_are_set_are_taken_and_otherwise_values_stay_in_0_to_1(tmp_path: Path) -> None:
    plain = Config(architecture="ViT", options=SMALL).build(3, SIDE, tmp_path)
    given = Config(architecture="ViT", options=SMALL, mean=[0.1, 0.2, 0.3], std=[0.5] * 3).build(3, SIDE, tmp_path)

    assert (plain.mean, plain.std) == ((0.0,) * 3, (1.0,) * 3)
    assert (given.mean, given.std) == ((0.1, 0.2, 0.3), (0.5,) * 3)
    assert plain.data_config["statistics_from"] != given.data_config["statistics_from"]


def test_a_file_of_an_older_monai_with_attention_that_was_never_used_loads(tmp_path: Path) -> None:
    network = theirs("ViT")
    stale = {f"blocks.{n}.cross_attn.to_q.weight": torch.ones(32, 32) for n in range(2)}
    torch.save({"state_dict": network.state_dict() | stale}, tmp_path / "w.pt")

    built = Config(architecture="ViT", options=SMALL, weights=str(tmp_path / "w.pt")).build(3, SIDE, tmp_path)

    with torch.no_grad():
        torch.testing.assert_close(built.network.eval()(images()), features_of(network, "ViT", images()))


@pytest.mark.parametrize(
    ("given", "side", "reason"),
    [
        ({"architecture": "DenseNet212"}, 32, "no network 'DenseNet212' of MONAI.*Did you mean 'DenseNet121'.*Allowed"),
        ({"architecture": "ViT"}, 33, "image_size 33 is not a multiple of the patch size 16.*Nearest allowed: 32"),
        (
            {"architecture": "EfficientNet-B0"},
            16,
            "EfficientNet-B0 does not take images of 16.*image_size to 32 or more",
        ),
        ({"architecture": "ViT", "options": {"depth": 3}}, 32, "MONAI's ViT does not take them.*depth"),
        ({"architecture": "ViT", "options": {"hidden_size": 33}}, 32, "MONAI's ViT does not take them.*divisible"),
        ({"architecture": "ViT", "options": {"in_channels": 3}}, 32, "options: in_channels cannot be set here"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], side: int, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=reason):
        Config(**given).build(3, side, tmp_path)


def test_a_file_that_is_none_or_of_another_network_is_refused(tmp_path: Path) -> None:
    def refused(weights: Path, reason: str) -> None:
        config = Config(architecture="ViT", options=SMALL, weights=str(weights))
        for call in (lambda: config.build(3, SIDE, tmp_path), lambda: config.check_weights(SIDE)):
            with pytest.raises(WeightsError, match=reason):
                call()

    refused(tmp_path / "nowhere.pt", "nowhere.pt' is neither a file nor a folder, nor 'random'")
    (tmp_path / "rubbish.pt").write_bytes(b"rubbish")
    refused(tmp_path / "rubbish.pt", "is not a file of plain tensors, or is cut off")
    torch.save([1], tmp_path / "list.pt")
    refused(tmp_path / "list.pt", "holds no dict of tensors")
    torch.save(theirs("DenseNet121").state_dict(), tmp_path / "dense.pt")
    refused(tmp_path / "dense.pt", r"do not fit the architecture: .* \(got ViT\)")
    empty = bundle(tmp_path / "empty", {})
    (empty / "models" / "model.pt").unlink()
    refused(empty, "is no MONAI bundle with weights: models/model.pt is not in it")
    damaged = zipped(bundle(tmp_path / "damaged", theirs("ViT").state_dict()))
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 0xFF
    damaged.write_bytes(data)
    refused(damaged, "damaged.zip': damaged/models/model.pt cannot be unpacked .*Download the bundle again")
    refused(zipped(empty), "is a MONAI bundle without weights: models/model.pt is not in it")


def test_a_machine_without_monai_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "monai"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "monai", None)

    with pytest.raises(ConfigError, match=r"needs the package 'monai', .*pip install -e '\.\[medical\]'"):
        Config(architecture="ViT").skeleton(3, SIDE)


def test_cells_of_a_unet_are_the_maps_of_monais_own_network_at_half_size_and_its_weights_load(tmp_path: Path) -> None:
    with monai_import():
        from monai.networks import nets
    torch.manual_seed(3)
    theirs = nets.BasicUNet(2, 3, 2, features=(4, 4, 8, 8, 8, 4)).eval()
    torch.save(theirs.state_dict(), tmp_path / "unet.pt")
    given = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    maps: list[Tensor] = []
    theirs.final_conv.register_forward_pre_hook(lambda _, inputs: maps.append(inputs[0]))
    with torch.no_grad():
        theirs(torch.nn.functional.avg_pool2d(given, 2))
    expected = torch.nn.functional.avg_pool2d(maps[0], 2)

    options = {"features": [4, 4, 8, 8, 8, 4]}
    config = Config(architecture="BasicUNet", weights=str(tmp_path / "unet.pt"), options=options)
    built = config.build(3, 64, tmp_path)

    with torch.no_grad():
        found, mean = tokens(built.network.eval(), given), built.network(given)
    assert (found.rows, found.columns, built.feature_dim) == (16, 24, 4)
    torch.testing.assert_close(found.values, expected.flatten(2).transpose(1, 2))
    torch.testing.assert_close(mean, expected.mean(dim=(2, 3)))
    assert max(tuning.layers(built.network).values()) > 1


@pytest.mark.parametrize(("side", "nearest"), [(48, 64), (226, 224)])
def test_a_unet_refuses_images_that_it_cannot_halve_and_names_the_nearest_size(
    side: int, nearest: int, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=rf"image_size {side}: BasicUNet .* Nearest allowed: {nearest} \[pixel\]"):
        Config(architecture="BasicUNet").build(3, side, tmp_path)
