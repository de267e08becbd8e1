"""SimMIM: the loss and the masks of the paper, and the stage from prepared images to features of the new backbone."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from isthmus.core.config import load_params
from isthmus.core.errors import ConfigError, DataError
from isthmus.core.files import hash_files, read_json
from isthmus.models.backbones import timm as timm_backbone
from isthmus.models.bands import seeing_rgb
from isthmus.stages import embed, pretrain
from isthmus.training import masked
from isthmus.training.masked import MaskedImages, masked_l1, random_masks
from tests.scenario_files import ScenarioFiles, write_scenario


def vit(*_: object) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer  # after isthmus, whose import hook it needs

    network = VisionTransformer(
        img_size=20, patch_size=5, embed_dim=8, depth=2, num_heads=2, num_classes=0, dynamic_img_size=True
    )
    network.default_cfg = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.2, 0.3)}
    return network


def model() -> MaskedImages:
    torch.manual_seed(0)
    return MaskedImages(vit(), 3, 1).eval()


def pixels(count: int = 3) -> Tensor:
    return torch.randn(count, 3, 20, 20, generator=torch.Generator().manual_seed(0))


def masks(count: int = 3, unit: int = 1, ratio: float = 0.5) -> Tensor:
    return random_masks(count, 4, 4, unit, ratio, torch.Generator().manual_seed(0))


def test_the_loss_is_the_mean_absolute_difference_over_masked_values_alone() -> None:
    predicted, given, hidden = pixels(2), pixels(4)[2:], masks(2)
    total, count = 0.0, 0
    for n in range(2):
        for c in range(3):
            for i in range(20):
                for j in range(20):
                    if hidden[n, i // 5, j // 5]:
                        total += abs(float(predicted[n, c, i, j]) - float(given[n, c, i, j]))
                        count += 1

    assert float(masked_l1(predicted, given, hidden)) == pytest.approx(total / count, rel=1e-5)
    assert torch.autograd.gradcheck(
        lambda x: masked_l1(x, given[:, :, :10, :10].double(), hidden[:, :2, :2]),
        (predicted[:, :, :10, :10].double().requires_grad_(),),
        fast_mode=True,
    )


@pytest.mark.parametrize(("rows", "unit", "ratio"), [(4, 1, 0.6), (11, 2, 0.6), (8, 4, 0.1)])
def test_each_image_has_the_papers_number_of_masked_squares_at_other_places(rows: int, unit: int, ratio: float) -> None:
    found = random_masks(50, rows, rows, unit, ratio, torch.Generator().manual_seed(0))

    squares = found[:, ::unit, ::unit]
    side = -(-rows // unit)
    assert (squares.flatten(1).sum(1) == math.ceil(ratio * side**2)).all()
    assert torch.equal(found, squares.repeat_interleave(unit, 1).repeat_interleave(unit, 2)[:, :rows, :rows])
    assert len({tuple(row.flatten().tolist()) for row in squares}) > 3


def test_the_network_does_not_see_what_is_masked_and_sees_the_rest() -> None:
    network, given, hidden = model(), pixels(), masks()
    where = hidden.repeat_interleave(5, 1).repeat_interleave(5, 2)[:, None]

    plain = network(given, hidden)

    assert torch.equal(network(torch.where(where, given + 9.0, given), hidden), plain)
    assert not torch.allclose(network(torch.where(where, given, given + 9.0), hidden), plain)


def test_the_decoder_lays_each_patch_where_it_stood() -> None:
    network = model()
    with torch.no_grad():
        network.decoder.weight.zero_()
        network.decoder.bias.copy_(torch.arange(75.0))

    predicted = network(pixels(), masks())

    patch = torch.arange(75.0).view(5, 5, 3).permute(2, 0, 1)
    assert torch.equal(predicted, patch.repeat(1, 4, 4).expand(3, -1, -1, -1))


def place(root: Path, monkeypatch: pytest.MonkeyPatch, **changes: object) -> ScenarioFiles:
    monkeypatch.setattr(timm_backbone.Config, "_network", vit)
    files = write_scenario(root, {"source_only": 0.5}, images=80)
    document = yaml.safe_load(files.params.read_text())
    document["models"]["small_cnn"] = {"mode": "frozen", "backbone": {"name": "timm", "architecture": "vit"}}
    document["models"]["small_cnn"]["backbone"]["weights"] = "random"
    document["pretraining"] = {"demo": {"weights": "random", "epochs": 3, "batch_size": 16, "unit": 1, **changes}}
    document["pretraining"]["demo"] |= {"learning_rate": 0.01, "threads": 1}
    document["embed"] = {"batch_size": 16, "threads": 1}
    files.params.write_text(yaml.safe_dump(document))
    return files


def checked(files: ScenarioFiles) -> pretrain.Params:
    sections = {field: section.format(scenario="demo") for field, section in pretrain.Params.SECTIONS.items()}
    return load_params(pretrain.Params, files.params, sections)


def pretrained(files: ScenarioFiles, out: Path) -> Path:
    paths = {"manifest": files.manifest, "prepared": files.prepared, "cache": files.root / "cache"}
    pretrain.run(checked(files), **paths, checkpoints=files.root / "checkpoints", pretrained=out)
    return out


def embedded(files: ScenarioFiles, weights: str) -> np.ndarray:
    document = yaml.safe_load(files.params.read_text())
    document["models"]["small_cnn"]["backbone"]["weights"] = weights
    files.params.write_text(yaml.safe_dump(document))
    sections = {field: section.format(scenario="demo") for field, section in embed.Params.SECTIONS.items()}
    out = files.root / "embedded"
    params = load_params(embed.Params, files.params, sections)
    embed.run(
        params, prepared=files.prepared, cache=files.root / "cache", features=out, model=files.root / "model.json"
    )
    return np.load(out / "domain1-all.npy")


def test_the_stage_learns_repeats_itself_and_embed_takes_its_backbone_strictly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = place(tmp_path, monkeypatch)

    first, second = (pretrained(files, tmp_path / name) for name in ("first", "second"))

    assert hash_files([first]) == hash_files([second])
    facts = read_json(first / "pretrain.json")
    assert len(facts["losses"]) == 3
    assert facts["losses"][-1] < facts["losses"][0]
    assert (facts["domains"], facts["start"]) == (["line_a", "line_b"], "random weights, seed 0")
    assert not list((tmp_path / "checkpoints").iterdir())
    before = embedded(files, "random")
    after = embedded(files, str(first / "backbone.safetensors"))
    assert np.isfinite(after).all()
    assert not np.allclose(before, after)
    assert read_json(tmp_path / "embedded" / "embed.json")["origin"].startswith("backbone.safetensors, sha256 ")


def test_a_run_that_was_cut_off_ends_in_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = place(tmp_path, monkeypatch)
    monkeypatch.setattr(masked, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    unbroken = pretrained(files, tmp_path / "unbroken")
    real = masked._batches

    def until_killed(*given: object) -> object:
        if given[-1] == 3:
            raise KeyboardInterrupt
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(masked, "_batches", until_killed)
    with pytest.raises(KeyboardInterrupt):
        pretrained(files, tmp_path / "broken")
    assert list((tmp_path / "checkpoints").rglob("state.pt"))
    assert not (tmp_path / "broken").exists()
    monkeypatch.setattr(masked, "_batches", real)

    assert hash_files([pretrained(files, tmp_path / "broken")]) == hash_files([unbroken])


def test_with_the_source_alone_the_target_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = place(tmp_path, monkeypatch, domains="source")
    before = pretrained(files, tmp_path / "before")
    shard = files.prepared / "shards" / "domain1-all.npy"
    np.save(shard, np.random.default_rng(0).integers(0, 255, np.load(shard).shape).astype(np.uint8))

    after = pretrained(files, tmp_path / "after")

    assert hash_files([before]) == hash_files([after])


def test_what_has_no_patches_and_what_has_no_images_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="pretraining masks the patches of a vision transformer"):
        MaskedImages(nn.Linear(2, 2), 3, 0)
    files = place(tmp_path, monkeypatch)
    document = yaml.safe_load(files.params.read_text())
    document["models"]["small_cnn"]["backbone"] = {"name": "small_cnn"}
    files.params.write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError, match=r"pretraining needs a timm vision transformer and .* \(got small_cnn, 3\)"):
        pretrained(files, tmp_path / "out")

    document["models"]["small_cnn"]["backbone"] = {"name": "timm", "architecture": "vit", "weights": "random"}
    for bands in ([665, 560, 490], None):
        document["models"]["small_cnn"]["backbone"]["wavelengths"] = bands
        files.params.write_text(yaml.safe_dump(document))
        pretrain.check_backbone(checked(files), 3)
    document["models"]["small_cnn"]["backbone"]["wavelengths"] = [490, 560, 665]  # blue, green, red
    files.params.write_text(yaml.safe_dump(document))
    with pytest.raises(
        ConfigError, match=r"small_cnn.backbone.wavelengths: pretraining writes.*\(got \[490.0, .*rgb, "
    ):
        pretrained(files, tmp_path / "out")
    document["models"]["small_cnn"]["backbone"]["bands"] = "rgb"
    files.params.write_text(yaml.safe_dump(document))
    pretrain.check_backbone(checked(files), 3)

    del document["models"]["small_cnn"]["backbone"]["wavelengths"]
    files.params.write_text(yaml.safe_dump(document))
    monkeypatch.setattr(pretrain, "read_table", lambda path, columns: _without_training(path, columns))
    with pytest.raises(DataError, match="no training images in: line_a, line_b"):
        pretrained(files, tmp_path / "out")


def _without_training(path: Path, columns: object) -> object:
    from isthmus.data.manifest import read_table

    table = read_table(path, columns)  # type: ignore[arg-type]
    return table.assign(split="test") if "split" in table else table


def test_a_network_that_drops_paths_is_pretrained_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = place(tmp_path, monkeypatch)

    def dropping(*_: object) -> nn.Module:
        network = vit()
        blocks = network.blocks
        assert isinstance(blocks, nn.Module)
        blocks.register_forward_hook(lambda _, __, tokens: nn.functional.dropout(tokens, 0.5))
        return network

    monkeypatch.setattr(timm_backbone.Config, "_network", dropping)

    first, second = (pretrained(files, tmp_path / name) for name in ("first", "second"))

    assert hash_files([first]) == hash_files([second])


def test_hooks_of_the_network_see_the_pixels_first() -> None:
    turned, plain = model(), model()
    seeing_rgb(turned.network, [490, 560, 665])  # blue first: the network is handed red first

    assert torch.equal(turned(pixels(), masks()), plain(pixels().flip(1), masks()))
    assert not torch.equal(turned(pixels(), masks()), plain(pixels(), masks()))
