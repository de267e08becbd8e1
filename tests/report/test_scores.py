"""`scores.json` of every task from the files of `evaluate`, and the tables that `dvc plots show` draws."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from isthmus.report.charts.tables import confusion_table, curves_table, reliability_table
from isthmus.report.results import BOXES, CLASSES, Findings
from isthmus.report.scores import MEANING, scores

CHOICE = {"chosen": {"method": "mmd"}}


def truth(metric: str, **beside: Any) -> dict[str, Any]:
    """`truth.json` with source-only at .5 and the chosen `mmd` at .7."""
    rows = {
        name: {metric: {"mean": score}, "minus_source_only": {"mean": gain, "low": gain - 0.1, "high": gain + 0.1}}
        for name, score, gain in (("source_only", 0.5, 0.0), ("mmd", 0.7, 0.2))
    }
    rows["mmd"] |= beside
    return {"available": True, "methods": rows, "regret": {"mean": 0.04}}


GAIN = {"target": 0.7, "source_only": 0.5, "gain": 0.2, "gain_low": 0.1, "gain_high": 0.3, "regret": 0.04}


@pytest.mark.parametrize(
    ("metric", "beside", "trust", "more"),
    [
        ("balanced_accuracy", {}, {"estimate": {"accuracy": 0.6500499, "low": 0.5, "high": 0.8}}, {"estimate": 0.65}),
        ("mean_iou", {"boundary": {"mean": 0.4}}, {"estimate": {"available": False}}, {"boundary": 0.4}),
        ("ap50", {"ap": {"mean": 0.3}}, {}, {"ap": 0.3}),
    ],
)
def test_with_target_labels_the_scores_are_target_source_only_gain_and_regret(
    metric: str, beside: dict[str, Any], trust: dict[str, Any], more: dict[str, float]
) -> None:
    found = scores(metric, CHOICE, {f"source_test_{metric}": 0.9, "other": 1.0}, truth(metric, **beside), trust)

    assert found == GAIN | more | {"source": 0.9}
    assert list(found) == [name for name in MEANING if name in found]


def test_of_defects_the_scores_hold_false_alarms_and_what_was_found() -> None:
    row = {"false_alarm_rate": {"mean": 0.05}, "found": {"mean": 0.8}}

    found = scores("auroc", CHOICE, {}, truth("auroc") | {"anomaly": {"methods": {"mmd": row}}}, {})

    assert found == GAIN | {"false_alarms": 0.05, "found": 0.8}


def test_of_good_images_alone_the_false_alarms_are_known_and_nothing_else() -> None:
    row = {"false_alarm_rate": {"mean": 0.05}, "found": None}

    found = scores("auroc", CHOICE, {}, {"available": False, "anomaly": {"methods": {"mmd": row}}}, {})

    assert found == {"false_alarms": 0.05}


def test_without_target_labels_what_was_measured_or_else_the_estimate_stands_with_its_interval() -> None:
    measured = {"methods": {"mmd": {"accuracy": 0.6, "low": 0.5, "high": 0.7}}}
    trust = {"estimate": {"accuracy": 0.65, "low": 0.5, "high": 0.8}}

    found = scores("balanced_accuracy", CHOICE, {}, {"available": False, "measured": measured}, trust)
    without = scores("balanced_accuracy", CHOICE, {}, {"available": False}, trust)

    assert found == {"estimate": 0.65, "measured": 0.6, "measured_low": 0.5, "measured_high": 0.7}
    assert without == {"estimate": 0.65, "estimate_low": 0.5, "estimate_high": 0.8}


def test_an_estimate_that_cannot_be_given_is_left_out() -> None:
    trust = {"estimate": {"accuracy": None, "low": None, "high": None}}

    assert scores("balanced_accuracy", CHOICE, {}, {"available": False}, trust) == {}


def findings(**values: Any) -> Findings:
    return cast(Findings, SimpleNamespace(**{"scored": CLASSES, "labelled": True} | values))


def test_curves_are_means_over_seeds_and_leave_out_epochs_without_a_loss() -> None:
    seeds = [[{"loss_total": 1.0}, {"loss_total": 0.5}], [{"loss_total": 3.0}, {"loss_total": None}]]

    assert curves_table(findings(curves={"mmd": seeds, "knn": [[{}]]})) == "series,epoch,loss\nmmd,1,2\n"


def test_confusion_is_the_share_of_each_true_class_and_has_no_row_of_a_class_without_an_image() -> None:
    row = {"confusion": [[3, 1], [0, 0]]}

    table = confusion_table(findings(truth={"chosen": "m", "classes": ["R&D, x", "dent"], "methods": {"m": row}}))

    assert table == 'true,predicted,share\n"R&D, x","R&D, x",0.75\n"R&D, x",dent,0.25\n'


def test_of_boxes_each_class_is_found_or_missed() -> None:
    rows = {"per_class": {"cell": {"recall": 0.75}, "rare": {"recall": None}}}
    truth = {"chosen": "m", "classes": ["background", "cell", "rare"], "methods": {"m": rows}}

    table = confusion_table(findings(scored=BOXES, truth=truth))

    assert table == "true,predicted,share\ncell,cell,0.75\ncell,missed,0.25\n"


def test_tables_that_a_task_or_missing_labels_cannot_fill_have_no_row() -> None:
    assert confusion_table(findings(labelled=False)) == "true,predicted,share\n"
    assert reliability_table(findings(trust={})) == "series,confidence,accuracy\n"
