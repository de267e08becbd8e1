"""What every family of networks must do: load, frozen and full; tokens; pooling; layers that are really layers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmarks.checkpoint_forms import FAMILIES, SHARES, shares
from isthmus.core.errors import ConfigError
from isthmus.core.files import write_json
from isthmus.models import ModelConfig
from isthmus.models.backbones import Backbone, small_cnn
from isthmus.models.backbones.timm import Config
from isthmus.models.classifier import Classifier, Features, Standardise
from isthmus.models.embedding import read_facts, store_backbone, stored_encoder
from isthmus.models.patch_memory import PatchMemory
from isthmus.models.recipe import Tuning
from isthmus.models.tokens import tokens
from isthmus.models.trained import export_trained, load_trained
from isthmus.models.tuning import layers, prepare, train_last, trained_share

REPOSITORY = Path(__file__).resolve().parents[2]
VIT = {"depth": 2, "embed_dim": 48, "num_heads": 3}
STAGES = {"depths": (1, 1, 1, 1), "embed_dim": 24, "num_heads": (1, 2, 4, 8)}
SMALL: dict[str, tuple[str, dict[str, Any], int]] = {  # family -> network, what makes it small, side [pixel]
    "ViT": ("vit_tiny_patch16_224", VIT, 64),
    "DeiT": ("deit_tiny_patch16_224", VIT, 64),
    "DeiT, distilled": ("deit_tiny_distilled_patch16_224", VIT, 64),
    "DINOv2": ("vit_small_patch14_reg4_dinov2", VIT, 56),
    "DINOv3": ("vit_small_patch16_dinov3", VIT, 64),
    "EVA02": ("eva02_tiny_patch14_224", VIT, 56),
    "SigLIP": ("vit_base_patch16_siglip_224", VIT, 64),
    "Swin": ("swin_tiny_patch4_window7_224", STAGES, 64),
    "SwinV2": ("swinv2_tiny_window8_256", STAGES, 64),
    "ConvNeXt": ("convnext_atto", {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}, 64),
    "ResNet": ("resnet18", {"layers": (1, 1, 1, 1), "channels": (16, 24, 32, 64)}, 64),
    "EfficientNet": ("test_efficientnet", {}, 64),
    "MobileNet": ("mobilenetv3_small_050", {}, 64),
}
WITH_CLASS = ("ViT", "DeiT", "DeiT, distilled", "DINOv2", "DINOv3", "EVA02")
FAMILY = pytest.mark.parametrize("family", SMALL)


def config(family: str, weights: str = "random", **options: Any) -> Config:
    architecture, small, _ = SMALL[family]
    return Config.model_validate({"architecture": architecture, "weights": weights, "options": small, **options})


def made(family: str, side: int = 0, **options: Any) -> Backbone:
    built = config(family, **options).build(3, side or SMALL[family][2], Path("unused"))
    built.network.eval()
    return built


def pictures(family: str, seed: int = 0) -> torch.Tensor:
    side = SMALL[family][2]
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def answers(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = network.eval()(images)
    return found


@FAMILY
@pytest.mark.parametrize("mode", ["frozen", "full"])
def test_a_family_is_saved_by_timm_loaded_trained_exported_and_loaded_again(
    family: str, mode: str, tmp_path: Path
) -> None:
    import timm

    architecture, small, side = SMALL[family]
    torch.manual_seed(1)
    theirs = timm.create_model(architecture, num_classes=7, **small)
    save_file(theirs.state_dict(), tmp_path / "w.safetensors")
    features, trained = tmp_path / "features", tmp_path / "train" / "source_only"
    built = config(family, str(tmp_path / "w.safetensors")).build(3, side, tmp_path)
    own, wanted = built.network.state_dict(), theirs.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in own.items())
    options = {"name": "timm", "architecture": architecture, "weights": "random", "options": small}
    model = ModelConfig.model_validate({"mode": mode, "backbone": options, "bottleneck": 8, "norm": "layer"})
    features.mkdir()
    store_backbone(features, built, model, 3, side)

    encoder = stored_encoder(features, 2).eval()
    images = (pictures(family) * 255).to(torch.uint8)
    domains = torch.zeros(2, dtype=torch.int64)
    values = answers_of(encoder, images, domains)
    standardise = Standardise(torch.zeros(2, built.feature_dim), torch.ones(2, built.feature_dim))
    classifier = Classifier(Features(standardise) if mode == "frozen" else encoder, built.feature_dim, 2, 8, "layer", 0)
    if mode == "full":
        step(classifier, images, domains)
        assert not torch.equal(answers_of(encoder, images, domains), values)  # it trains
    with torch.no_grad():
        expected = classifier.eval()(values if mode == "frozen" else images, domains).logits
    (trained / "seeds" / "0" / "epochs").mkdir(parents=True)
    save_file(classifier.state_dict(), trained / "seeds" / "0" / "epochs" / "001.safetensors")
    run = {"config": {"model": model.model_dump(mode="json")}, "classes": ["a", "b"], "domains": ["s", "t"]}
    write_json(trained / "run.json", run)
    export_trained(trained.parent, [("source_only", 0, 1)], features, 0, tmp_path / "model")
    again = load_trained(tmp_path / "model").predict_logits(images.permute(0, 2, 3, 1).numpy(), "s")

    np.testing.assert_allclose(again, expected, atol=1e-5)


@torch.no_grad()
def answers_of(encoder: torch.nn.Module, images: torch.Tensor, domains: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = encoder.eval()(images, domains)
    return found


def step(classifier: Classifier, images: torch.Tensor, domains: torch.Tensor) -> None:
    optimiser = torch.optim.SGD(classifier.parameters(), lr=0.1)
    classifier.train()
    torch.nn.functional.cross_entropy(classifier(images, domains).logits, torch.tensor([0, 1])).backward()
    optimiser.step()


@FAMILY
def test_tokens_are_what_the_network_pools(family: str) -> None:
    built, images = made(family), pictures(family)
    network: Any = built.network

    with torch.no_grad():
        found = tokens(network, images)
        enlarged = images
        for hook in network._forward_pre_hooks.values():
            (enlarged,) = hook(network, (enlarged,))
        wanted = network.forward_features(enlarged)
    if wanted.dim() == 4:
        wanted = wanted.permute(0, 3, 1, 2) if getattr(network, "output_fmt", "") == "NHWC" else wanted
        assert found[1:] == tuple(wanted.shape[2:])
        wanted = wanted.flatten(2).transpose(1, 2)
    else:
        wanted = wanted[:, network.num_prefix_tokens :]
        assert found[1:] == (4, 4)

    assert found.values.shape == (2, found.rows * found.columns, wanted.shape[-1])
    assert torch.equal(found.values, wanted)
    assert torch.equal(answers(network, images), answers(network, images))  # the network itself is as it was


@pytest.mark.parametrize("family", ["ViT", "ConvNeXt", "Swin"])
def test_tokens_of_an_earlier_layer_and_of_rectangles(family: str) -> None:
    built, images = made(family, side=128), torch.rand(2, 3, 128, 128)

    with torch.no_grad():
        first, wide = tokens(built.network, images, layer=0), tokens(built.network, torch.cat([images, images], dim=3))

    assert first.values.shape[1] == first.rows * first.columns
    assert wide.columns == 2 * wide.rows
    assert not torch.equal(first.values[..., :8], tokens(built.network, images).values[:, : first.values.shape[1], :8])


@pytest.mark.parametrize("family", ["ViT", "ConvNeXt"])
def test_cells_of_an_earlier_layer_are_stored_and_exported_as_such(family: str, tmp_path: Path) -> None:
    built, images = made(family), pictures(family).half()
    architecture, small, side = SMALL[family]
    options = {"name": "timm", "architecture": architecture, "options": small}
    model = ModelConfig(mode="frozen", backbone=options, layer=0, head="memory", epochs=1)
    features, trained = tmp_path / "features", tmp_path / "train" / "source_only"
    domains = torch.zeros(2, dtype=torch.int64)

    facts = store_backbone(features, built, model, 3, side, images=1)
    encoder = stored_encoder(features, 2, torch.zeros(2, 3), torch.ones(2, 3))
    found = answers_of(encoder, images, domains)

    with torch.no_grad():
        expected = tokens(built.network, images.float(), layer=0)
    torch.testing.assert_close(found, expected.values)
    assert (facts.feature_dim, facts.grid) == (found.shape[2], (expected.rows, expected.columns))
    assert read_facts(features).layer == 0

    (trained / "seeds" / "0" / "epochs").mkdir(parents=True)
    width = facts.feature_dim
    standardise = Standardise(torch.zeros(2, width), torch.ones(2, width))
    head = PatchMemory(width, 2)
    head.rows = torch.rand(5, width)
    classifier = Classifier(Features(standardise), width, 2, width, "batch", 0, head=head).eval()
    save_file(classifier.state_dict(), trained / "seeds" / "0" / "epochs" / "001.safetensors")
    run = {"config": {"model": model.model_dump(mode="json")}, "classes": ["a", "b"], "domains": ["s", "t"]}
    write_json(trained / "run.json", run)
    export_trained(trained.parent, [("source_only", 0, 1)], features, 0, tmp_path / "model")
    again = load_trained(tmp_path / "model").predict_all(images.permute(0, 2, 3, 1).numpy(), "s")

    normalised = answers_of(stored_encoder(features, 2), images, domains).half().float()
    with torch.no_grad():
        np.testing.assert_allclose(again.maps, classifier(normalised, domains).maps.numpy(), atol=1e-4)


def test_networks_without_a_grid_or_such_a_layer_say_so() -> None:
    plain = small_cnn.Config().build(3, 32, Path("unused")).network
    with pytest.raises(ConfigError, match=r"need a network of timm \(got Sequential\). Set name: timm"):
        tokens(plain, torch.zeros(1, 3, 32, 32))
    with pytest.raises(ConfigError, match=r"gives no features of layer 9 by place .* Leave the layer out"):
        tokens(made("ViT").network, torch.zeros(1, 3, 64, 64), layer=9)


@FAMILY
def test_pooling_takes_the_class_token_the_patches_or_both(family: str) -> None:
    images, own = pictures(family), made(family)
    network: Any = own.network
    if family in ("Swin", "SwinV2", "ConvNeXt", "ResNet", "EfficientNet", "MobileNet"):
        with pytest.raises(ConfigError, match="has no tokens; .* Set pool: default"):
            made(family, pool="mean")
        return
    norm = network.fc_norm if hasattr(network, "fc_norm") else torch.nn.Identity()
    with torch.no_grad():
        mean = norm(tokens(network, images).values.mean(dim=1))
        first = norm(network.forward_features(images)[:, 0])

    torch.testing.assert_close(answers(made(family, pool="mean").network, images), mean)
    if family not in WITH_CLASS:
        with pytest.raises(ConfigError, match="has no class token. Allowed: default, mean"):
            made(family, pool="class")
        return
    torch.testing.assert_close(answers(made(family, pool="class").network, images), first)
    both = made(family, pool="both")
    torch.testing.assert_close(answers(both.network, images), torch.cat([first, mean], dim=1))
    assert both.feature_dim == 2 * own.feature_dim
    assert both.network.state_dict().keys() == network.state_dict().keys()


def test_a_stored_backbone_pools_as_it_did(tmp_path: Path) -> None:
    built = made("ViT", pool="both")
    options = {"name": "timm", "architecture": SMALL["ViT"][0], "pool": "both", "options": VIT}
    store_backbone(tmp_path, built, ModelConfig(mode="frozen", backbone=options), 3, 64)

    again = stored_encoder(tmp_path, 1, torch.zeros(1, 3), torch.ones(1, 3)).eval()

    with torch.no_grad():
        got = again(pictures("ViT").half(), torch.zeros(2, dtype=torch.int64))
    torch.testing.assert_close(got, answers(built.network, pictures("ViT").half().float()))


def test_prompts_and_explanations_see_that_the_class_token_is_not_what_answers() -> None:
    from isthmus.evaluation.explanation.attention_maps import why_not

    with pytest.raises(ConfigError, match="prompts needs a timm vision transformer that reads its class token"):
        prepare(made("ViT", pool="mean").network, Tuning(how="prompts"), 0)
    assert why_not(made("ViT", pool="both").network) is not None
    assert why_not(made("ViT", pool="class").network) is None


@FAMILY
def test_partial_trains_the_last_blocks_and_nothing_before_them(family: str) -> None:
    network = made(family).network
    depth = layers(network)
    names = [name for name, _ in network.named_parameters()]

    train_last(network, 1)

    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert 0 < trained_share(network) < 1
    assert trained == {name for name in names if depth[name] == max(depth.values())}
    assert not trained & {"cls_token", "reg_token", "dist_token", "pos_embed", names[0]}
    assert any(len(parameter.shape) > 1 for parameter in network.parameters() if parameter.requires_grad)
    first = [name for name in names if depth[name] == 0]
    assert any(name.startswith(("patch_embed", "stem", "conv1", "conv_stem")) for name in first)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_share_that_two_blocks_are_is_as_documented_and_far_from_all(family: str) -> None:
    page = (REPOSITORY / "docs" / "weights.md").read_text(encoding="utf-8")
    found = SHARES.search(page)
    assert found is not None

    count, share = shares(FAMILIES[family])

    assert f"| {family} | `{FAMILIES[family]}` | {count} | {share:.1%} |" in found.group().splitlines()
    assert count >= 12
    assert 0.1 < share < 0.6


@pytest.mark.parametrize("architecture", ["caformer_s18", "maxvit_nano_rw_256"])
def test_networks_whose_layers_timm_does_not_count_or_counts_as_stages_have_blocks_too(architecture: str) -> None:
    count, share = shares(architecture, 1)

    assert count >= 7
    assert share < 0.5
