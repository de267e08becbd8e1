"""Builds `report.html` of a task whose answers are masks."""

import json
from typing import Any

import numpy as np

from isthmus.evaluation.selection.choice import SOURCE_ONLY
from isthmus.report.audit_facts import warnings
from isthmus.report.charts import curves, domain_map
from isthmus.report.data_facts import data_facts, shift_facts
from isthmus.report.formatting import ABSENT
from isthmus.report.leaderboard import leaderboard
from isthmus.report.mask_cases import Cases
from isthmus.report.mask_pictures import PREDICTED, TRUE, colour_code, wrong_legend
from isthmus.report.page import render
from isthmus.report.results import Findings
from isthmus.report.verdict import guessing, judge


def mask_page(findings: Findings, cases: Cases) -> str:
    """Returns the whole page as one text: no file, script, font or image outside it is needed."""
    return render("masks.html.jinja", **view(findings, cases))


def view(findings: Findings, cases: Cases) -> dict[str, Any]:
    """Returns everything the page shows, already computed: the template only lays it out."""
    classes = findings.facts["classes"]
    guess = guessing(findings) if findings.labelled else None
    return {
        "ABSENT": ABSENT,
        "name": findings.name,
        "scenario": findings.scenario,
        "second": findings.scenario.annotation_config().second,
        "simulated": findings.simulated,
        "labelled": findings.labelled,
        "classes": classes,
        "guess": guess,
        "chance": guess.score if guess else 0.0,
        "verdict": judge(findings),
        "chosen": findings.choice["chosen"],
        "choice": findings.choice,
        "truth": findings.truth,
        "metrics": findings.metrics,
        "trust": findings.trust,
        "rows": leaderboard(findings),
        "floor": SOURCE_ONLY,
        "cases": cases,
        "lines": {"true": colour_code(TRUE), "predicted": colour_code(PREDICTED)},
        "wrong": [(text, colour_code(colour)) for text, colour in wrong_legend(classes)],
        "image": {key: findings.facts[key] for key in ("height", "width", "channels", "dtype")},
        "shift": shift_facts(findings) | {"backbone": None},  # its measures are of one label an image
        "maps": domain_map(findings),
        "curves": curves(findings),
        "predicted": class_shares(findings),
        "settings": {m: json.dumps(run["config"], indent=2, sort_keys=True) for m, run in findings.runs.items()},
        "data": data_facts(findings),
        "warnings": warnings(findings.audit, findings.scenario.group),
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
