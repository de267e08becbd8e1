"""The body of `truth.json` of segmentation and change."""

import json
from typing import Any

import numpy as np
import pytest

from isthmus.core.errors import DataError
from isthmus.evaluation import metrics
from isthmus.evaluation.scoring import masks
from isthmus.evaluation.scoring.mask_truth import build_mask_truth
from tests.evaluation.scoring.mask_files import blobs, moved

CLASSES = ["background", "nucleus", "absent"]


@pytest.fixture(scope="module")
def answers() -> dict[str, np.ndarray]:
    """Predicted masks `[R, N, H, W]` of three methods: two seeds each."""
    truth = blobs(10, 2, seed=0)
    noisy = [moved(moved(truth, seed), seed + 5) for seed in (1, 2)]
    return {
        "mmd": np.stack([moved(truth, seed) for seed in (1, 2)]),
        "source_only": np.stack(noisy),
        "mcc": 0 * np.stack(noisy),
    }


@pytest.fixture(scope="module")
def truth(answers: dict[str, np.ndarray]) -> dict[str, Any]:
    return built(answers, blobs(10, 2, seed=0), chosen="source_only")


def built(answers: dict[str, np.ndarray], true: np.ndarray, chosen: str) -> dict[str, Any]:
    return build_mask_truth(
        {m: np.stack([masks.confusions(seed, true, 3) for seed in rows]) for m, rows in answers.items()},
        {m: np.stack([masks.boundary_scores(seed, true, 3) for seed in rows]) for m, rows in answers.items()},
        dict.fromkeys(answers, 20),
        np.arange(10) // 2,
        CLASSES,
        chosen,
        resamples=200,
        seed=0,
        task="change",
    )


def test_it_is_json_with_the_fields_of_the_contract(truth: dict[str, Any]) -> None:
    again = json.loads(json.dumps(truth, allow_nan=False))

    assert list(again) == [
        "available", "task", "metric", "classes", "count", "groups", "pixels", "intervals", "methods", "chosen",
        "oracle", "regret",
    ]  # fmt: skip
    assert list(again["methods"]["mmd"]) == [
        "epoch", "mean_iou", "dice", "boundary", "pixel_accuracy", "per_class", "confusion", "minus_source_only",
        "minus_chosen", "minus_oracle", "transfer",
    ]  # fmt: skip
    assert (again["task"], again["metric"], again["count"], again["pixels"]) == ("change", "mean_iou", 10, 10 * 48 * 48)
    assert again["intervals"] == "95% bootstrap by group, 200 resamples"
    assert again["methods"]["mmd"]["per_class"]["absent"] == {
        "iou": None, "dice": None, "boundary": None, "true_share": 0.0, "predicted_share": 0.0,
    }  # fmt: skip


def test_scores_are_means_over_seeds_and_lie_in_their_intervals(
    truth: dict[str, Any], answers: dict[str, np.ndarray]
) -> None:
    true = blobs(10, 2, seed=0)
    found = truth["methods"]["mmd"]

    expected = [float(masks.mean_iou(masks.confusions(seed, true, 3).sum(axis=0))) for seed in answers["mmd"]]
    assert found["mean_iou"]["per_seed"] == pytest.approx(expected)
    for name in ("mean_iou", "dice", "boundary", "pixel_accuracy"):
        scores = found[name]
        assert scores["mean"] == pytest.approx(np.mean(scores["per_seed"]))
        assert scores["low"] < scores["mean"] < scores["high"]
    per_class = found["per_class"]
    for name in ("iou", "dice", "boundary"):
        overall = found["mean_iou" if name == "iou" else name]["mean"]
        assert np.mean([per_class[c][name] for c in CLASSES[:2]]) == pytest.approx(overall)
    assert per_class["nucleus"]["true_share"] == pytest.approx((true == 1).mean())
    assert per_class["nucleus"]["predicted_share"] == pytest.approx((answers["mmd"] == 1).mean())
    assert found["confusion"] == masks.confusions(answers["mmd"][0], true, 3).sum(axis=0).tolist()


def test_differences_are_in_mean_iou_paired_and_name_the_oracle(truth: dict[str, Any]) -> None:
    methods = truth["methods"]
    gap = methods["mmd"]["mean_iou"]["mean"] - methods["source_only"]["mean_iou"]["mean"]

    assert truth["oracle"] == {"method": "mmd", "epoch": 20}
    assert truth["regret"]["mean"] == pytest.approx(gap)
    assert truth["regret"] == methods["mmd"]["minus_source_only"] == methods["mmd"]["minus_chosen"]
    assert methods["mmd"]["minus_oracle"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert (methods["mmd"]["transfer"], methods["mcc"]["transfer"]) == ("better", "worse")
    assert methods["source_only"]["transfer"] == "no difference shown"


def test_resamples_that_hold_no_scored_pixel_are_left_out_of_the_intervals(answers: dict[str, np.ndarray]) -> None:
    true = blobs(10, 2, seed=0)
    true[2:] = 255  # of the five groups one is annotated
    weights = metrics.group_weights(np.arange(10) // 2, 200, 0)
    assert (weights[:, :2].sum(axis=1) == 0).any()

    found = built(answers, true, chosen="mmd")

    json.dumps(found, allow_nan=False)
    scores = found["methods"]["mmd"]["mean_iou"]
    assert scores["low"] == pytest.approx(scores["mean"]) == pytest.approx(scores["high"])  # always the same two images


def test_a_boundary_that_is_nowhere_defined_is_none(answers: dict[str, np.ndarray]) -> None:
    true = blobs(10, 2, seed=0)
    true[:, ::2] = 255  # every second row

    found = built(answers, true, chosen="mmd")

    boundary = found["methods"]["mmd"]["boundary"]
    assert boundary == {"mean": None, "low": None, "high": None, "per_seed": [None, None]}
    assert found["methods"]["mmd"]["mean_iou"]["mean"] > 0.5


def test_masks_without_a_scored_pixel_are_refused(answers: dict[str, np.ndarray]) -> None:
    with pytest.raises(
        DataError, match="the target's masks hold no scored pixel: each of the 10 images is 255 all over"
    ):
        built(answers, np.full((10, 48, 48), 255, np.uint8), chosen="mmd")
