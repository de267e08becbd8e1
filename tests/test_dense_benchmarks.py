"""benchmarks.views and benchmarks.published on small scenarios of masks, boxes and defects."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
import yaml

from benchmarks import pixels, published, views
from benchmarks.methods import params_of
from isthmus.data.augment.photometric import photometric_view
from isthmus.data.shards import open_shard
from isthmus.models.embedding import encode, stored_encoder
from isthmus.stages import evaluate
from tests.mask_project import build_project, run_stages


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`out/demo` of a project whose images are embedded; tests do not change it."""
    return (
        run_stages(build_project(tmp_path_factory.mktemp("masks"), preprocess={"image_size": 96}), "embed")
        / "out"
        / "demo"
    )


@pytest.mark.slow
@pytest.mark.soak
def test_views_are_features_of_images_with_and_without_exchanged_light_and_dark_and_settle_on_training_masks(
    masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "SEEDS", (0,))

    found = views.measured(masks, tmp_path / "demo")

    images = open_shard(masks / "prepared" / "shards" / "domain0-all.npy")
    encoder = stored_encoder(masks / "features", 2).eval()
    for name, share in (("plain", 0.0), ("exchanged", 1.0)):
        expected = encode(encoder, photometric_view(images, 1, share), torch.device("cpu"))
        np.testing.assert_allclose(np.load(tmp_path / "demo" / f"{name}-domain0-all.npy"), expected, atol=0.02)
    assert found["images"] == 6  # of the target, for training
    adapted = set(views.ADAPTED)  # of change alone
    assert set(found["target"]) == {answer for answer, of in views.ANSWERS.items() if not adapted & set(of)}
    assert tuple(found["target"]["source-only"]["foreground"]["source-only"]) == (0, 0)
    low, high = found["target"]["views of both"]["foreground"]["source-only"]
    assert low < high
    text = views.report([found | {"scenario": "seg_nuclei"}])
    assert "| views of both |" in text
    assert "| nearer: half, or none |" in text


@pytest.mark.slow
@pytest.mark.soak
def test_views_for_a_unet_are_compared_on_the_targets_training_masks(tmp_path: Path) -> None:
    project = build_project(tmp_path, preprocess={"image_size": 96})
    document = yaml.safe_load((project / "params.yaml").read_text())
    unet = {"name": "monai", "architecture": "BasicUNet", "options": {"features": [4, 4, 8, 8, 8, 4]}}
    steps = {"batch_size": 4, "epochs": 1, "max_steps": 4, "min_steps": 4}
    document["models"]["cells"] = {"mode": "full", "backbone": unet, "head": "linear"} | steps
    (project / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    folder = run_stages(project, "train") / "out" / "demo"

    found = pixels.measured(folder, tmp_path / "results", 1)

    assert (found["images"], found["exchanges"]) == (6, True)
    assert set(found["scores"]) == set(pixels.ANSWERS)
    assert found["scores"]["source-only"][1:] == [0, 0]
    assert "| demo | 6 |" in pixels.report([found])
    trained = pixels.finished(folder)
    assert trained["source_only"][2:] == [0, 0]
    assert 0 < trained["domain_randomisation"][1] < trained["domain_randomisation"][0] < 1
    for precision, same in (("none", True), ("bf16", False)):
        again = pixels.at_precision(folder, tmp_path / "again", 1, precision)["domain_randomisation"]
        assert (again["stored"] == again["again"], again["apart"] == [0, 0]) == (same, same)
        assert 0 < again["again"][0] < 1 and again["seconds"][0] > 0


def result(scenario: str, source_only: float, half: float, none: float, **facts: bool) -> dict:
    """Returns a result as `views.measured` does, of which three answers matter."""
    scores = dict.fromkeys(views.ANSWERS, source_only)
    scores |= {"views, half exchanged": half, "views, none exchanged": none}
    cells = {}
    for answer, score in scores.items():
        apart = {name: (score - other,) * 2 for name, other in zip(views.AGAINST, (source_only, half), strict=True)}
        cells[answer] = dict.fromkeys(("foreground", "mean_iou"), {"score": score} | apart)
    return {"scenario": scenario, "target": cells, "nearer_share": 0.5, "harms_source": False, "nearer": False} | facts


def test_an_answer_is_settled_on_the_other_families_and_a_rule_takes_what_its_pair_calls_for() -> None:
    text = views.report([
        result("seg_nuclei", 0.2, 0.6, 0.3, nearer=True), result("seg_nuclei_back", 0.2, 0.4, 0.1, nearer=True),
        result("seg_cracks", 0.4, 0.1, 0.5), result("change_landsat", 0.2, 0.2, 0.4, harms_source=True),
        result("lesions", 0.9, 0.9, 0.0),
    ])  # fmt: skip

    lines = text.splitlines()
    assert "| views, half exchanged | **0.600 (+0.400 to +0.400)** |" in text  # significantly above
    assert "| *0.100 (-0.300 to -0.300)* |" in text
    rules = [line for line in lines if line.startswith("| nearer: half, or none |")]
    assert len(rules) == 4  # two scores, against two answers
    assert all(rule.endswith("| 0.467 |") for rule in rules)  # mean of the families' (.6 + .4) / 2, .5 and .4
    assert rules[1].startswith("| nearer: half, or none | 0.600 | 0.400 | **0.500 (+0.400 to +0.400)** |")
    assert next(line for line in lines if line.startswith("| nuclei |")).startswith(
        "| nuclei | views, none exchanged | 0.200 | 0.200 |"
    )
    assert "nearer to exchanged source images: seg_nuclei 0.50" in text


@pytest.mark.slow
@pytest.mark.soak
def test_a_u_net_learns_the_masks_of_the_source(masks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "STEPS", 30)
    monkeypatch.setattr(published, "CROP", 48)
    params = params_of(evaluate.Params, masks.parents[1] / "params.yaml", scenario="demo")

    found = published.unet(params, masks)

    assert found["source"] > 0.7
    assert found["target"][0] < found["source"]  # the target is the negative


def test_fcos_of_torchvision_answers_boxes_in_cells_less_those_that_our_suppression_drops() -> None:
    from torchvision.models.detection import fcos as reference

    network = published._fcos(reference, 4, 3).eval()
    rows, columns = 4, 5
    logits = torch.full((1, rows * columns, 3), -10.0)
    edges, centres = torch.zeros(1, rows * columns, 4), torch.full((1, rows * columns, 1), 10.0)
    for row, column, score, left in ((1, 2, 3.0, 1.0), (1, 3, 2.0, 2.0), (3, 0, 1.0, 0.5)):  # two of them are one box
        place = row * columns + column
        logits[0, place, 1] = score
        edges[0, place] = torch.tensor([left, 0.5, left + 0.5 if row == 3 else 2.5 - left, 1.0])
    network.head.forward = lambda _: {"cls_logits": logits, "bbox_regression": edges, "bbox_ctrness": centres}

    with torch.no_grad(), patch.object(reference.box_ops, "batched_nms", published._suppressed):
        (found,) = network([torch.zeros(4, rows, columns)])

    assert found["boxes"].tolist() == [[1.5, 1.0, 4.0, 2.5], [0.0, 3.0, 1.5, 4.0]]  # the last is cut at the edge
    assert found["labels"].tolist() == [1, 1]


def test_the_coreset_covers_cells_that_lie_apart() -> None:
    far = torch.eye(20) * 100
    cells = torch.cat([far, torch.randn(180, 20, generator=torch.Generator().manual_seed(0)) * 0.01])

    kept = published._coreset(cells)

    assert len(kept) == 20
    assert (
        sum(bool((kept == one).all(dim=1).any()) for one in far) >= 19
    )  # one place may be that of the first, at random


@pytest.mark.slow
@pytest.mark.soak
def test_patch_core_ranks_defects_above_good_images(tmp_path: Path) -> None:
    folder = run_stages(build_project(tmp_path, "anomaly"), "embed") / "out" / "demo"
    params = params_of(evaluate.Params, tmp_path / "params.yaml", scenario="demo")

    found = published.patch_core(params, folder)

    assert found["source"] > 0.8
