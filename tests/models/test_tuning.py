"""Ways of tuning a backbone: exactly which parameters train, and that nothing changes at the start."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from isthmus.core.errors import ConfigError
from isthmus.models import ModelConfig
from isthmus.models.recipe import Tuning
from isthmus.models.tuning import distance_to_start, layers, merged, prepare, unfreeze
from isthmus.training import loop
from isthmus.training.loop import LoopSession
from isthmus.training.optim import make_optimiser
from tests.adapt.small_session import INPUTS, changed, classifier, method, session, snapshot


def vit() -> Any:
    from timm.models.vision_transformer import VisionTransformer  # after isthmus, whose import hook it needs

    torch.manual_seed(0)
    return VisionTransformer(img_size=8, patch_size=4, embed_dim=INPUTS, depth=3, num_heads=1, num_classes=0)


def images(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def training(network: nn.Module) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def names(network: nn.Module, *starts: str) -> set[str]:
    return {name for name, _ in network.named_parameters() if name.startswith(starts)}


def running(folder: Path, how: Tuning, epochs: int = 4) -> LoopSession:
    model = classifier(images=True, network=vit())
    prepare(model.backbone.network, how, 0)  # type: ignore[arg-type]
    return session(method("fixmatch"), folder, model, epochs=epochs, tuning=how)


def test_layers_are_embeddings_then_blocks_and_the_last_norm_goes_with_the_last_block() -> None:
    found = layers(vit())

    assert {found["cls_token"], found["pos_embed"], found["patch_embed.proj.weight"]} == {0}
    assert [found[f"blocks.{i}.attn.qkv.weight"] for i in range(3)] == [1, 2, 3]
    assert found["norm.weight"] == 3


@pytest.mark.parametrize(
    ("blocks", "trains"), [(0, ()), (1, ("blocks.2.", "norm.")), (2, ("blocks.1.", "blocks.2.", "norm."))]
)
def test_partial_trains_exactly_the_last_blocks(blocks: int, trains: tuple[str, ...]) -> None:
    network = vit()

    prepare(network, Tuning(how="partial", blocks=blocks), 0)

    assert training(network) == (names(network, *trains) if trains else set())


def test_partial_moves_exactly_the_last_block_in_training(tmp_path: Path) -> None:
    session_ = running(tmp_path, Tuning(how="partial", blocks=1), epochs=1)
    before = snapshot(session_._network)

    session_.method.fit(session_)

    assert changed(before, session_._network) == names(session_._network, "blocks.2.", "norm.")


def test_more_blocks_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"the backbone has 3 layers after its first \(got 4\). Allowed: 0 to 3"):
        prepare(vit(), Tuning(how="partial", blocks=4), 0)


def test_lora_answers_as_its_base_at_the_start_and_trains_only_its_own_matrices() -> None:
    network = vit()
    expected = network(images())

    prepare(network, Tuning(how="lora", rank=2), 0)

    assert torch.equal(network(images()), expected)
    own = {f"blocks.{i}.attn.{part}.{side}" for i in range(3) for part in ("qkv", "proj") for side in ("down", "up")}
    assert training(network) == own


def test_a_merged_lora_answers_as_an_unmerged_one_under_the_standard_names() -> None:
    network, standard = vit(), set(vit().state_dict())
    prepare(network, Tuning(how="lora", rank=2, alpha=4.0), 0)
    for name, parameter in network.named_parameters():
        if name.endswith("up"):
            nn.init.normal_(parameter)

    plain = merged(network)

    assert set(plain.state_dict()) == standard
    assert torch.allclose(plain(images()), network(images()), atol=1e-5)
    assert not torch.allclose(plain(images()), vit()(images()), atol=1e-2)
    layer = network.blocks[0].attn.qkv
    slow = layer.base.weight + 4.0 / 2 * layer.up @ layer.down
    assert torch.allclose(plain.blocks[0].attn.qkv.weight, slow)  # type: ignore[union-attr,index]


def test_lora_moves_only_its_own_matrices_in_training_and_is_kept_merged(tmp_path: Path) -> None:
    session_ = running(tmp_path, Tuning(how="lora", rank=2), epochs=1)
    before = snapshot(session_._network)

    session_.method.fit(session_)

    moved = changed(before, session_._network)
    assert moved
    assert moved <= training(session_._network)
    kept = load_file(tmp_path / "epochs" / "001.safetensors")
    assert {name for name in kept if name.startswith("backbone.network.")} == {
        f"backbone.network.{name}" for name in vit().state_dict()
    }


@pytest.mark.parametrize("how", ["lora", "prompts"])
def test_a_network_without_attention_is_refused(how: str) -> None:
    with pytest.raises(ConfigError, match=f"tuning.how: {how} .*vision transformer"):
        prepare(nn.Sequential(nn.Linear(2, 2)), Tuning(how=how), 0)  # type: ignore[arg-type]


def test_prompts_join_the_patches_and_are_all_that_trains() -> None:
    network = vit()
    seen: list[int] = []
    network.blocks[0].register_forward_hook(lambda _, given, __: seen.append(given[0].shape[1]))

    prepare(network, Tuning(how="prompts", prompts=6), 0)

    assert network(images()).shape == (4, INPUTS)
    assert seen == [1 + 4 + 6]  # class token, patches, prompts
    assert training(network) == {"norm_pre.tokens"}


def test_prompts_change_the_answer_through_attention_alone() -> None:
    network, plain = vit(), vit()
    prepare(network, Tuning(how="prompts", prompts=2), 0)
    for block in network.blocks:
        nn.init.zeros_(block.attn.proj.weight)
    for block in plain.blocks:
        nn.init.zeros_(block.attn.proj.weight)

    assert torch.allclose(network(images()), plain(images()))  # without attention they cannot reach the class token
    other = vit()
    prepare(other, Tuning(how="prompts", prompts=2), 0)
    assert not torch.allclose(other(images()), vit()(images()))


def test_layers_thaw_one_after_another_the_last_first() -> None:
    network = vit()
    everything = [name for name, _ in network.named_parameters()]
    found = []

    for epoch in range(1, 10):
        unfreeze(network, everything, epoch, 2)
        found.append(training(network))

    assert found[0] == found[1] == set()
    assert found[2] == found[3] == names(network, "blocks.2.", "norm.")
    assert found[4] == names(network, "blocks.2.", "norm.", "blocks.1.")
    assert found[6] == names(network, "blocks.", "norm.")
    assert found[8] == set(everything)


def test_a_frozen_layer_does_not_move_before_its_turn(tmp_path: Path) -> None:
    session_ = running(tmp_path, Tuning(unfreeze_every=1), epochs=2)
    before = snapshot(session_._network)

    session_.method.fit(session_)

    assert changed(before, session_._network) == names(session_._network, "blocks.2.", "norm.")


def test_each_layer_learns_at_its_share_of_the_one_after_it() -> None:
    model = classifier(images=True, network=vit())

    rates: dict[str, Any] = {"learning_rate": 0.1, "backbone_rate": 0.5, "weight_decay": 0.0}
    config = ModelConfig(mode="full", backbone={}, **rates, tuning=Tuning(layer_decay=0.5))
    optimiser = make_optimiser(model, nn.Identity(), config)

    rates = {(g["name"], round(g["full_rate"], 9), g["weight_decay"]) for g in optimiser.param_groups}
    layer_rates = {("backbone", 0.05 * 0.5**power, 0.0) for power in (3, 2, 1, 0)}
    assert rates == {*layer_rates, ("bottleneck", 0.1, 0.0), ("head", 0.1, 0.0)}
    counted = sum(len(group["params"]) for group in optimiser.param_groups)
    assert counted == len(list(model.parameters()))


def test_the_distance_to_the_start_is_half_the_squared_norm_and_zero_at_the_start(tmp_path: Path) -> None:
    pairs = [(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0])), (torch.tensor([3.0]), torch.tensor([1.0]))]
    session_ = running(tmp_path, Tuning(l2_sp=10.0), epochs=1)

    assert float(distance_to_start(pairs)) == 0.5 * (1 + 4 + 4)
    assert distance_to_start(session_._start).item() == 0.0
    session_.method.fit(session_)
    assert session_._curves[0]["loss_l2_sp"] > 0


def test_a_strong_pull_keeps_the_backbone_nearer_to_its_start(tmp_path: Path) -> None:
    ends = []
    for weight in (0.0, 1000.0):
        session_ = running(tmp_path / str(weight), Tuning(l2_sp=weight))
        session_.method.fit(session_)
        ends.append(distance_to_start(session_._start).item())

    assert ends[1] < 0.5 * ends[0]


@pytest.mark.parametrize(
    "how",
    [
        Tuning(how="lora", rank=2),
        Tuning(how="prompts", prompts=2),
        Tuning(how="partial", blocks=1),
        Tuning(layer_decay=0.5, unfreeze_every=1, l2_sp=0.1),
    ],
    ids=str,
)
def test_a_tuning_that_was_cut_off_ends_in_the_same_weights(
    how: Tuning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    unbroken = running(tmp_path / "unbroken", how)
    unbroken.method.fit(unbroken)
    broken = running(tmp_path / "broken", how)
    real = broken.step

    def until_killed(losses: dict[str, torch.Tensor]) -> None:
        if broken._epoch == 3:
            raise KeyboardInterrupt
        real(losses)

    broken.step = until_killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        broken.method.fit(broken)
    resumed = running(tmp_path / "broken", how)
    resumed.method.fit(resumed)

    expected, found = unbroken.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("family", ["beit", "eva", "swin_transformer_v2"])
def test_lora_reaches_networks_that_multiply_by_the_weight_of_attention_themselves(family: str) -> None:
    import timm.models

    sizes: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "num_classes": 0}
    torch.manual_seed(0)
    if family == "beit":
        network: Any = timm.models.beit.Beit(**sizes, depth=1, num_heads=2)
    elif family == "eva":
        network = timm.models.eva.Eva(**sizes, depth=1, num_heads=2)
    else:
        sizes["patch_size"] = 4
        network = timm.models.swin_transformer_v2.SwinTransformerV2(**sizes, depths=(1,), num_heads=(2,), window_size=4)
    for norm in (module for module in network.modules() if isinstance(module, nn.LayerNorm)):
        nn.init.ones_(norm.weight)  # Swin v2 begins with zeros behind attention
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    before = network.eval()(pixels)
    prepare(network, Tuning(how="lora", rank=2, alpha=4.0), 0)

    started = network(pixels)
    started[:, 0].sum().backward()

    assert torch.equal(started, before)
    ups = {name: p for name, p in network.named_parameters() if name.endswith(".up")}
    assert any("qkv" in name for name in ups)
    assert all(p.grad is not None and p.grad.any() for p in ups.values())
    for parameter in ups.values():
        nn.init.normal_(parameter)
    assert torch.allclose(merged(network)(pixels), network(pixels), atol=1e-5)
    assert not torch.allclose(network(pixels), before, atol=1e-2)
