"""Which images a page on masks shows."""

import pandas as pd

from isthmus.report.masks.cases import TYPICAL, WORST, worst_and_typical


def table(count: int) -> pd.DataFrame:
    return pd.DataFrame({"image_id": [f"{n:02d}" for n in range(count)], "mean_iou": [n / 100 for n in range(count)]})


def test_the_worst_come_first_and_the_typical_ones_lie_around_the_median() -> None:
    worst, typical = worst_and_typical(table(40).sample(frac=1, random_state=0), "mean_iou")

    assert worst["image_id"].to_list() == [f"{n:02d}" for n in range(WORST)]
    assert typical["image_id"].to_list() == ["18", "19", "20", "21"] and len(typical) == TYPICAL


def test_of_few_images_half_are_the_worst_and_none_is_shown_twice() -> None:
    worst, typical = worst_and_typical(table(5), "mean_iou")

    assert worst["image_id"].to_list() == ["00", "01", "02"] and typical["image_id"].to_list() == ["03", "04"]
    assert [len(part) for part in worst_and_typical(table(1), "mean_iou")] == [1, 0]
    assert [len(part) for part in worst_and_typical(table(0), "mean_iou")] == [0, 0]
