"""Builds `report.html` of a task whose answers are masks."""

from typing import Any

import numpy as np

from isthmus.report.charts.figures import domain_map
from isthmus.report.data_facts import shift_facts
from isthmus.report.masks.cases import Cases
from isthmus.report.masks.pictures import PREDICTED, TRUE, colour_code, wrong_legend
from isthmus.report.page import common_view, render
from isthmus.report.results import Findings
from isthmus.report.verdict import guessing


def mask_page(findings: Findings, cases: Cases) -> str:
    """Returns the whole page as one text: no file, script, font or image outside it is needed."""
    return render("masks.html.jinja", **view(findings, cases))


def view(findings: Findings, cases: Cases) -> dict[str, Any]:
    """Returns what the page shows."""
    classes = findings.facts["classes"]
    guess = guessing(findings) if findings.labelled else None
    return common_view(findings) | {
        "second": findings.scenario.annotation_config().second,
        "classes": classes,
        "guess": guess,
        "chance": guess.score if guess else 0.0,
        "cases": cases,
        "lines": {"true": colour_code(TRUE), "predicted": colour_code(PREDICTED)},
        "wrong": [(text, colour_code(colour)) for text, colour in wrong_legend(classes)],
        "shift": shift_facts(findings) | {"backbone": None},  # its measures are of one label an image
        "maps": domain_map(findings),
        "predicted": class_shares(findings),
    }


def class_shares(findings: Findings) -> list[dict[str, Any]]:
    """Returns the share of each class among the source's annotated pixels, and among those predicted on the target."""
    counts = findings.audit["mask_pixels"]
    classes = findings.facts["classes"]
    source = np.array([sum(domain[name] for domain in counts.values()) for name in classes], dtype=np.float64)
    target = findings.predictions[findings.predictions["domain"] == findings.scenario.target]
    predicted = np.stack(target["shares"].to_list()).mean(axis=0) if len(target) else np.zeros(len(classes))
    return [
        {"name": name, "source": float(source[k] / max(source.sum(), 1)), "target": float(predicted[k])}
        for k, name in enumerate(classes)
    ]
