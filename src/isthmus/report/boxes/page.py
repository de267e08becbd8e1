"""Builds `report.html` of a task whose answers are boxes."""

from typing import Any

from isthmus.report.boxes.cases import Cases
from isthmus.report.boxes.pictures import MISSED, RIGHT, WRONG
from isthmus.report.charts.figures import domain_map
from isthmus.report.data_facts import shift_facts
from isthmus.report.masks.pictures import colour_code
from isthmus.report.page import common_view, render
from isthmus.report.results import Findings


def box_page(findings: Findings, cases: Cases) -> str:
    """Returns the whole page as one text: no file, script, font or image outside it is needed."""
    return render("boxes.html.jinja", **view(findings, cases))


def view(findings: Findings, cases: Cases) -> dict[str, Any]:
    """Returns what the page shows."""
    return common_view(findings) | {
        "classes": findings.facts["classes"][1:],
        "chance": 0.0,
        "cases": cases,
        "lines": {name: colour_code(c) for name, c in (("right", RIGHT), ("wrong", WRONG), ("missed", MISSED))},
        "shift": shift_facts(findings) | {"backbone": None},  # its measures are of one label an image
        "maps": domain_map(findings),
    }
