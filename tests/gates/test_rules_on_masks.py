"""The rules that read the models' answers, where these are masks."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from isthmus.core import plugins
from isthmus.evaluation.scoring.masks import mean_iou
from isthmus.gates import Evidence, Reason
from isthmus.gates.comparison import paired_difference
from isthmus.gates.scored import TARGET, Answers, Scored
from tests.gates import evidence as classes

CLASSES = ["background", "lesion"]


def answered(right: float, version: str = "2") -> Answers:
    """Returns masks of 120 images, 100 pixels each and 20 of them lesions, found with this share of pixels."""
    made = classes.answers(classes.scored().images, version=version)
    missed = round(20 * (1 - right))
    counts = np.tile([[80 - missed, missed], [missed, 20 - missed]], (classes.IMAGES, 1, 1))
    outputs = {"mask": "string", "share_background": "double", "share_lesion": "double", "confidence": "double"}
    nothing = np.zeros((classes.IMAGES, 0))
    return replace(made, classes=CLASSES, probabilities=nothing, counts=counts, outputs=outputs)


def scored(candidate: Answers, champion: Answers | None = None, known: bool = True) -> Scored:
    asked = classes.scored()
    label = np.where(known | (asked.images["role"] != TARGET), 0, None)
    iou = float(mean_iou(candidate.counts[0]))  # type: ignore[index]
    images = asked.images.assign(mask_sha256="f" * 64, label=pd.array(label, dtype="Int32"))
    images["mean_iou"] = pd.array(np.where(label == 0, iou, np.nan), dtype="Float32")
    return replace(asked, images=images, classes=CLASSES, candidate=candidate, champion=champion)


def given(asked: Scored, mean: float = 0.7) -> Evidence:
    scores: dict[str, Any] = {"mean_iou": {"mean": mean, "per_seed": [mean]}, "minus_source_only": {}}
    truth = {"available": True, "metric": "mean_iou", "classes": CLASSES, "methods": {"mmd": scores}}
    metrics = {"source_test_mean_iou": 0.6, "source_only_source_test_mean_iou": 0.7}
    choice = {"chosen": {"method": "mmd", "epoch": 4, "seed": 0, "fallback": False}}
    return Evidence(metrics, truth, choice, asked)


def say(rule: str, evidence: Evidence, **options: object) -> list[Reason]:
    reasons: list[Reason] = plugins.load("gates.rules", rule).Config(**options).reasons(evidence)
    return reasons


def test_models_are_compared_by_mean_iou_of_all_pixels() -> None:
    asked = scored(answered(0.5), answered(0.9, "1"))

    found = paired_difference(asked, asked.champion, TARGET, 200)  # type: ignore[arg-type]

    assert found.mean == pytest.approx(float(mean_iou(answered(0.5).counts[0]) - mean_iou(answered(0.9).counts[0])))  # type: ignore[index]
    (reason,) = say("not_worse_than_champion", given(asked))
    assert reason.verdict == "refuse"


def test_a_mask_without_known_truth_needs_a_person() -> None:
    (reason,) = say("not_worse_than_champion", given(scored(answered(0.9), answered(0.5, "1"), known=False)))

    assert (reason.verdict, reason.number) == ("person", None)


def test_the_floor_is_of_mean_iou() -> None:
    (mean, shipped) = say("absolute_floor", given(scored(answered(0.9)), mean=0.55))

    assert (mean.verdict, shipped.verdict) == ("refuse", "refuse")
    assert mean.text == "target mean IoU of mmd (mean over seeds) 0.550 is below the floor 0.600"


def test_lost_source_masks_are_refused() -> None:
    reason, *_ = say("source_kept", given(scored(answered(0.9))))

    assert reason.verdict == "refuse"
    assert reason.text == "source test mean IoU 0.600, source-only 0.700: -0.100"


def test_a_class_whose_pixels_are_missed_is_refused() -> None:
    reasons = say("per_class_floor", given(scored(answered(0.1))))

    assert {reason.text for reason in reasons if reason.verdict == "refuse"} == {
        f"{role}: recall of class 'lesion' 0.100 is below the floor 0.200" for role in ("target", "source")
    }
    assert {reason.verdict for reason in say("per_class_floor", given(scored(answered(0.9))))} == {"pass"}


def test_a_candidate_that_answers_nothing_where_the_truth_is_known_is_refused_and_the_decision_can_be_written() -> None:
    candidate = answered(0.9)
    assert candidate.counts is not None
    candidate.counts[70] = 0

    found = [reason for rule in ("loads_alone", "per_class_floor") for reason in say(rule, given(scored(candidate)))]

    assert "refuse" in {reason.verdict for reason in found if reason.rule == "loads_alone"}
    assert json.dumps([reason.as_json() for reason in found], allow_nan=False)


def test_nothing_is_said_of_the_calibration_of_pixels() -> None:
    (reason,) = say("calibration", given(scored(answered(0.9))))

    assert (reason.verdict, reason.number) == ("pass", None)
    assert "says nothing of masks" in reason.text


def test_masks_that_differ_from_the_pipelines_are_refused() -> None:
    same = scored(answered(0.9))
    other = replace(same, images=same.images.assign(mean_iou=pd.array([0.4] * classes.IMAGES, dtype="Float32")))
    unknown = replace(same, images=same.images.assign(mean_iou=pd.array([None] * classes.IMAGES, dtype="Float32")))

    verdicts = [say("loads_alone", given(asked))[1].verdict for asked in (same, other, unknown)]

    assert verdicts == ["pass", "refuse", "person"]


def test_shares_of_classes_are_no_part_of_the_promised_signature() -> None:
    champion = answered(0.9, "1")
    renamed = replace(champion, outputs={n.replace("lesion", "tumour"): kind for n, kind in champion.outputs.items()})
    narrower = replace(answered(0.9), outputs={"mask": "string"})

    assert say("compatible", given(scored(answered(0.9), renamed)))[1].verdict == "pass"
    (reason,) = [r for r in say("compatible", given(scored(narrower, champion))) if r.verdict == "refuse"]
    assert "lacks confidence (double)" in reason.text
