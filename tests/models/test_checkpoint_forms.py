"""Every form in which authors hand out weights loads to the features of its own network, frozen and full."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.checkpoint_forms import FORMS, TABLE, Form, load, make
from isthmus.models import ModelConfig
from isthmus.models.classifier import Classifier, Encoder
from isthmus.models.embedding import encode, store_backbone, stored_encoder
from isthmus.models.weights.fit import find

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:DeprecationWarning")  # how CLIP's archive is made
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_form_loads_to_the_features_of_its_own_network_frozen_and_full(form: Form, tmp_path: Path) -> None:
    path, images, wanted = make(form, tmp_path)

    built = load(form, path, tmp_path)
    backbone = {"name": "timm", "architecture": form.architecture, "options": form.options}
    store_backbone(tmp_path, built, ModelConfig(mode="frozen", backbone=backbone), 3, form.side)
    frozen = stored_encoder(tmp_path, 2, torch.zeros(2, 3), torch.ones(2, 3)).eval()
    full = Classifier(stored_encoder(tmp_path, 2), built.feature_dim, 2, 4, "batch", 0)

    scale = float(wanted.abs().max())
    assert float((wanted[0] - wanted[1]).abs().max()) > 0.02 * scale  # the features depend on the image
    pixels = images.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(encode(frozen, pixels, torch.device("cpu")), wanted, atol=2e-3 * scale)
    assert isinstance(full.backbone, Encoder)
    own = built.network.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in full.backbone.network.state_dict().items())
    full(images, torch.tensor([0, 1])).logits.sum().backward()
    assert all(p.requires_grad for p in full.backbone.parameters())


def test_the_table_of_forms_names_exactly_those_that_are_tried() -> None:
    page = (REPOSITORY / "docs" / "weights.md").read_text(encoding="utf-8")
    found = TABLE.search(page)
    assert found is not None

    rows = [line.split(" | ") for line in found.group().splitlines() if line.startswith("| ")][2:]

    assert [row[0].removeprefix("| ") for row in rows] == [form.name for form in FORMS]
    assert {row[-1] for row in rows} == {"yes |"}


@pytest.fixture(scope="module")
def vit() -> Any:
    import timm

    torch.manual_seed(0)
    return timm.create_model("test_vit", num_classes=5)


WRAPPERS = "model state_dict teacher ema model_ema state_dict_ema module net model_state_dict student params_ema"
PREFIXES = (
    "module. _orig_mod. backbone. encoder. visual. model. vit. dinov2. deit. image_encoder. student.backbone."
    " base_model.model. my_own_name."
)


def test_wrappers_and_prefixes_are_undone_in_any_order_and_depth(vit: Any) -> None:
    import timm

    network = timm.create_model("test_vit", num_classes=0)
    prefixes = PREFIXES.split()
    places = [
        *((prefix, "") for prefix in prefixes),
        *itertools.pairwise(prefixes),
        *itertools.pairwise(prefixes[::-1]),
    ]

    for wrapper, (first, second) in zip(itertools.cycle(["", *WRAPPERS.split()]), places, strict=False):
        state = {f"{first}{second}{name}": tensor for name, tensor in vit.state_dict().items()}
        contents = {"epoch": 3, wrapper: {"state_dict": state} if second else state} if wrapper else state
        fit = find(network, contents)

        assert fit is not None and fit.whole, (wrapper, first, second, fit)
        assert all(torch.equal(tensor, vit.state_dict()[name]) for name, tensor in fit.tensors.items())


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("state_dict_ema", "state_dict"),
        ("model_ema", "model"),
        ("teacher", "student"),
        ("state_dict.teacher.backbone.", "state_dict.student.backbone."),
        ("state_dict.module.base_encoder.", "state_dict.module.momentum_encoder."),
        ("state_dict.module.encoder_q.", "state_dict.module.encoder_k."),
        ("target_encoder", "encoder"),
    ],
)
def test_of_several_sets_of_weights_the_one_that_its_authors_evaluate_is_taken(
    better: str, worse: str, vit: Any
) -> None:
    import timm

    contents: dict[str, Any] = {}
    for place, factor in ((worse, 0.0), (better, 1.0)):
        wrapper, _, prefix = place.partition(".")
        state = {f"{prefix}{name}": factor * tensor for name, tensor in vit.state_dict().items()}
        contents.setdefault(wrapper, {}).update(state)

    fit = find(timm.create_model("test_vit", num_classes=0), contents)

    assert fit is not None and fit.whole
    assert torch.equal(fit.tensors["patch_embed.proj.weight"], vit.state_dict()["patch_embed.proj.weight"])


def test_optimiser_states_are_never_taken_for_weights(vit: Any) -> None:
    import timm

    moments = {f"state.{name}": tensor for name, tensor in vit.state_dict().items()}
    network = timm.create_model("test_vit", num_classes=0)

    assert find(network, {"optimizer": vit.state_dict(), "optimizer_states": [moments], "lr_schedulers": {}}) is None


@pytest.mark.parametrize("name", ["DINOv2", "CLIP, OpenAI's names", "ConvNeXt, authors' file", "Swin, authors' file"])
def test_authors_files_load_as_timms_own_filter_loads_them(name: str, tmp_path: Path) -> None:
    import sys

    import timm

    form = next(form for form in FORMS if form.name == name)
    path, _, _ = make(form, tmp_path)
    network = timm.create_model(form.architecture, num_classes=0, **form.options)
    filter_fn = sys.modules[timm.models.model_entrypoint(form.architecture).__module__].checkpoint_filter_fn

    timm.models.load_checkpoint(network, str(path), strict=False, filter_fn=filter_fn)

    built = load(form, path, tmp_path).network.state_dict()
    assert all(torch.equal(tensor, built[key]) for key, tensor in network.state_dict().items())
