"""The sentence on an accuracy that was measured on a few labels."""

from dataclasses import dataclass
from typing import Any

from isthmus.report.measured import learned_sentence, measured_sentence


@dataclass
class Seen:
    """What the sentence is made of."""

    truth: dict[str, Any]
    choice: dict[str, Any]
    target_labels: int = 0


def seen(chosen: str, skipped: int = 0) -> Any:
    scores = {"mcc": (0.85, 0.641, 0.947), "source_only": (0.5, 0.299, 0.701)}
    methods = {m: {"accuracy": a, "low": low, "high": high} for m, (a, low, high) in scores.items()}
    measured = {"count": 20, "skipped": skipped, "pool": 2000, "methods": methods}
    return Seen({"available": False, "measured": measured}, {"chosen": {"method": chosen}})


def test_it_has_count_accuracy_interval_pool_and_source_only_beside_it() -> None:
    assert measured_sentence(seen("mcc")) == (
        "Measured on 20 random target images: 85% of the answers are right (95% interval 64 to 95, for the 2000 images"
        " of the target's training split); source-only 50% (30 to 70)."
    )


def test_source_only_is_not_compared_with_itself() -> None:
    assert "; source-only" not in measured_sentence(seen("source_only"))


def test_images_without_an_answer_are_told() -> None:
    assert "3 images drawn before the last labelled one have no answer: the lower" in measured_sentence(seen("mcc", 3))


def test_where_nothing_was_measured_there_is_no_sentence() -> None:
    assert measured_sentence(Seen({"available": False}, {"chosen": {"method": "mcc"}})) == ""  # type: ignore[arg-type]


def test_labels_that_trained_the_model_are_counted_and_are_no_part_of_what_is_measured() -> None:
    found = seen("mcc")
    found.target_labels = 15

    assert learned_sentence(found) == (
        "It was trained with the labels of 15 target images, which nothing here is measured on."
    )
    assert "for the 2000 images of the target's training split whose labels it was not trained with)" in (
        measured_sentence(found)
    )
    assert learned_sentence(seen("mcc")) == ""
