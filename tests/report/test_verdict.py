"""The first screen of what is plainly wrong says of each task what its guards look at."""

from importlib import resources
from types import SimpleNamespace
from typing import Any, cast

import pytest

from isthmus.report.results import ANOMALY, CLASSES, MASKS, Findings, Scored
from isthmus.report.verdict import _foreign_steps, judge


def findings(scored: Scored, **alarms: bool) -> Findings:
    estimate = {"accuracy": None, "cannot_tell": ["nothing is averaged"]}
    values: dict[str, Any] = {"name": "demo", "scored": scored, "labelled": False, "truth": {}, "target_labels": 0}
    good = {"source_learned": True, "target_collapsed": False, "shift_found": True}
    trust = {"alarms": good | alarms, "estimate": estimate}
    return cast(Findings, SimpleNamespace(**values, trust=trust, choice={"chosen": {"method": "mmd"}}))


@pytest.mark.parametrize(
    ("scored", "headline", "detail"),
    [
        (CLASSES, "mmd gives nearly all target images the same answer.", "Over 99% of them get one class, and"),
        (MASKS, "mmd gives nearly all target images the same answer.", "Nearly all of their pixels get one class, and"),
        (
            ANOMALY,
            "mmd calls most target images defective.",
            "More than half of those of the training split are called",
        ),
    ],
)
def test_a_collapse_is_told_as_the_tasks_guard_saw_it(scored: Scored, headline: str, detail: str) -> None:
    found = judge(findings(scored, target_collapsed=True))

    assert found.headline == headline
    assert found.detail.startswith(detail)
    assert ("its answer does not depend on the image" in found.steps[0].text) == (scored is not ANOMALY)


def test_a_detector_that_prefers_good_images_is_not_said_to_be_no_better_than_chance() -> None:
    found = judge(findings(ANOMALY, source_learned=False))

    assert "it raises alarms at defects less often than at good images." in found.detail


@pytest.mark.parametrize("page", ["report", "masks", "boxes"])
def test_a_step_names_a_table_that_every_page_has(page: str) -> None:
    template = resources.files("isthmus.report").joinpath("templates", f"{page}.html.jinja").read_text("utf-8")

    assert "at the scores per class below" in _foreign_steps("demo")[1].text
    assert "'Scores per class'" in template
