"""Builds `report.html` of a task whose answers are boxes."""

import json
from typing import Any

from isthmus.evaluation.selection.choice import SOURCE_ONLY
from isthmus.report.audit_facts import warnings
from isthmus.report.box_cases import Cases
from isthmus.report.box_pictures import MISSED, RIGHT, WRONG
from isthmus.report.charts import curves, domain_map
from isthmus.report.data_facts import data_facts, shift_facts
from isthmus.report.formatting import ABSENT
from isthmus.report.leaderboard import leaderboard
from isthmus.report.mask_pictures import colour_code
from isthmus.report.page import render
from isthmus.report.results import Findings
from isthmus.report.verdict import judge


def box_page(findings: Findings, cases: Cases) -> str:
    """Returns the whole page as one text: no file, script, font or image outside it is needed."""
    return render("boxes.html.jinja", **view(findings, cases))


def view(findings: Findings, cases: Cases) -> dict[str, Any]:
    """Returns everything the page shows, already computed: the template only lays it out."""
    return {
        "ABSENT": ABSENT,
        "name": findings.name,
        "scenario": findings.scenario,
        "simulated": findings.simulated,
        "labelled": findings.labelled,
        "classes": findings.facts["classes"][1:],
        "chance": 0.0,
        "verdict": judge(findings),
        "chosen": findings.choice["chosen"],
        "choice": findings.choice,
        "truth": findings.truth,
        "metrics": findings.metrics,
        "trust": findings.trust,
        "rows": leaderboard(findings),
        "floor": SOURCE_ONLY,
        "cases": cases,
        "lines": {name: colour_code(c) for name, c in (("right", RIGHT), ("wrong", WRONG), ("missed", MISSED))},
        "image": {key: findings.facts[key] for key in ("height", "width", "channels", "dtype")},
        "shift": shift_facts(findings) | {"backbone": None},  # its measures are of one label an image
        "maps": domain_map(findings),
        "curves": curves(findings),
        "settings": {m: json.dumps(run["config"], indent=2, sort_keys=True) for m, run in findings.runs.items()},
        "data": data_facts(findings),
        "warnings": warnings(findings.audit, findings.scenario.group),
    }
