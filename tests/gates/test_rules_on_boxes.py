"""The rules that read the models' answers, where these are boxes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from isthmus.core import plugins
from isthmus.evaluation.scoring.boxes import Matches
from isthmus.gates import Evidence, Reason
from isthmus.gates.comparison import paired_difference
from isthmus.gates.scored import TARGET, Answers, Scored
from tests.gates import evidence as classes

CLASSES = ["background", "cell"]


def answered(right: float, version: str = "2") -> Answers:
    """Returns boxes of 120 images with ten objects each, of which this share is found; none is wrong."""
    made = classes.answers(classes.scored().images, version=version)
    found = round(10 * right)
    images = np.repeat(np.arange(classes.IMAGES), 10)
    hits = np.tile(np.arange(10) < found, classes.IMAGES)
    true = np.tile([0, 10], (classes.IMAGES, 1))
    matches = Matches(images[hits], np.ones(hits.sum(), np.int64), np.full(hits.sum(), 0.8), hits[hits][None], true)
    outputs = {"boxes": "string", "count_cell": "long", "confidence": "double"}
    nothing = np.zeros((classes.IMAGES, 0))
    return replace(made, classes=CLASSES, probabilities=nothing, matches=matches, boxes_from=0.5, outputs=outputs)


def scored(candidate: Answers, champion: Answers | None = None, ap50: float = 0.9) -> Scored:
    asked = classes.scored()
    images = asked.images.assign(mask_sha256="f" * 64, label=pd.array([0] * classes.IMAGES, dtype="Int32"))
    images["ap50"] = pd.array([ap50] * classes.IMAGES, dtype="Float32")
    return replace(asked, images=images, classes=CLASSES, candidate=candidate, champion=champion)


def given(asked: Scored, mean: float = 0.7) -> Evidence:
    scores: dict[str, Any] = {"ap50": {"mean": mean, "per_seed": [mean]}, "minus_source_only": {}}
    truth = {"available": True, "metric": "ap50", "classes": CLASSES, "methods": {"mmd": scores}}
    metrics = {"source_test_ap50": 0.6, "source_only_source_test_ap50": 0.7}
    choice = {"chosen": {"method": "mmd", "epoch": 4, "seed": 0, "fallback": False}}
    return Evidence(metrics, truth, choice, asked)


def say(rule: str, evidence: Evidence, **options: object) -> list[Reason]:
    reasons: list[Reason] = plugins.load("gates.rules", rule).Config(**options).reasons(evidence)
    return reasons


def test_models_are_compared_by_ap50() -> None:
    asked = scored(answered(0.5), answered(0.9, "1"))

    found = paired_difference(asked, asked.champion, TARGET, 200)  # type: ignore[arg-type]

    assert found.mean == pytest.approx((51 - 91) / 101)  # recalls .00 to .50 and .00 to .90, each with precision 1
    (reason,) = say("not_worse_than_champion", given(asked))
    assert reason.verdict == "refuse"


def test_the_floor_of_ap50_has_no_part_for_chance() -> None:
    above = say("absolute_floor", given(scored(answered(0.9)), mean=0.35))
    below = say("absolute_floor", given(scored(answered(0.9)), mean=0.25))

    assert {reason.verdict for reason in above} == {"pass"} and {reason.verdict for reason in below} == {"refuse"}
    assert below[0].text == "target AP50 of mmd (mean over seeds) 0.250 is below the floor 0.300"


def test_lost_source_boxes_are_refused() -> None:
    reason, *_ = say("source_kept", given(scored(answered(0.9))))

    assert (reason.verdict, reason.text) == ("refuse", "source test AP50 0.600, source-only 0.700: -0.100")


def test_a_source_whose_test_images_show_no_object_has_nothing_to_lose() -> None:
    candidate, champion = answered(0.9), answered(0.9, "1")
    source = (classes.scored().images["role"] == "source").to_numpy()
    for made in (candidate, champion):
        assert made.matches is not None
        made.matches.true_boxes[source] = 0
    evidence = given(scored(candidate, champion))
    evidence.metrics.clear()  # as `evaluate` leaves them out

    (reason,) = say("source_kept", evidence)

    assert reason.verdict == "person"
    assert reason.text == "no AP50 on test images of the source: the loss on the source is unknown"


def test_a_class_whose_boxes_are_missed_is_refused() -> None:
    reasons = say("per_class_floor", given(scored(answered(0.1))), min_slice_accuracy=0.3)

    told = {reason.text for reason in reasons if reason.verdict == "refuse"}
    for role in ("target", "source"):
        assert f"{role}: recall of class 'cell' 0.100 is below the floor 0.200" in told
    assert any(text.startswith("target: F1 of domain") and "0.182 is below the floor 0.300" in text for text in told)
    assert {reason.verdict for reason in say("per_class_floor", given(scored(answered(0.9))))} == {"pass"}


def test_boxes_under_the_score_from_which_they_count_are_not_found() -> None:
    strict = replace(answered(0.9), boxes_from=0.85)

    assert "refuse" in {reason.verdict for reason in say("per_class_floor", given(scored(strict)))}


def test_nothing_is_said_of_the_calibration_of_boxes() -> None:
    (reason,) = say("calibration", given(scored(answered(0.9))))

    assert (reason.verdict, reason.number) == ("pass", None) and "says nothing of boxes" in reason.text


def test_boxes_that_differ_from_the_pipelines_are_refused() -> None:
    asked = [scored(answered(0.9), ap50=value) for value in (91 / 101, 0.4, np.nan)]

    verdicts = [say("loads_alone", given(one))[1].verdict for one in asked]

    assert verdicts == ["pass", "refuse", "person"]


def test_counts_of_classes_are_no_part_of_the_promised_signature() -> None:
    champion = replace(answered(0.9, "1"), outputs={"boxes": "string", "count_seed": "long", "confidence": "double"})

    assert say("compatible", given(scored(answered(0.9), champion)))[1].verdict == "pass"
