"""docs/how-to/from_torchgeo.md: its settings on a file of weights in torchgeo's form, and on images of EuroSAT's."""

import re
from pathlib import Path

import numpy as np
import torch
import yaml

from isthmus.data.image import Image
from isthmus.data.kinds import remote_sensing
from isthmus.models.backbones import timm
from tests.repo import REPOSITORY

PAGE = (REPOSITORY / "docs" / "how-to" / "from_torchgeo.md").read_text()


def test_its_settings_give_the_features_of_timms_network_on_reflectance(tmp_path: Path) -> None:
    from timm import create_model

    (text,) = re.findall(r"^```text\n(models:.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    settings = yaml.safe_load(text)
    options, scenario = settings["models"]["sentinel2"]["backbone"], settings["scenarios"]["land"]["preprocess"]
    network = create_model("resnet18", in_chans=13)
    state = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("fc.")}
    torch.save(state, tmp_path / "weights.pth")
    stored = np.random.default_rng(0).integers(0, 10_000, (224, 224, 13), dtype=np.uint16)  # bands in the file's order

    kind = remote_sensing.Config.model_validate(scenario).build()
    prepared = kind.prepare(Image(stored, {}), kind.fit([Image(stored, {})]))
    name = options.pop("name")
    built = timm.Config.model_validate(options | {"weights": str(tmp_path / "weights.pth")}).build(13, 224, tmp_path)
    pixels = (torch.from_numpy(prepared / 65_535) - torch.tensor(built.mean)) / torch.tensor(built.std)
    found = built.network.eval()(pixels.permute(2, 0, 1)[None].float())

    in_order = [0, 1, 2, 3, 4, 5, 6, 7, 12, 8, 9, 10, 11]  # B8A behind B8
    reflectance = torch.from_numpy(stored[..., in_order] / 10_000).permute(2, 0, 1)[None].float()
    network.reset_classifier(0)
    expected = network.eval()(reflectance)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert name == "timm"
    assert not torch.allclose(network(reflectance.flip(1)), expected, rtol=1e-3, atol=1e-4)
