"""Builds `report.html`: the view of one scenario's numbers, and the page made from it."""

import importlib.resources
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2

from isthmus.evaluation.confidence.estimate import known_pairs
from isthmus.evaluation.selection.choice import SOURCE_ONLY
from isthmus.report.charts.figures import curves, maps, predicted_shares, reliability
from isthmus.report.data_facts import data_facts, data_warnings, shift_facts
from isthmus.report.explanations import Explained
from isthmus.report.formatting import ABSENT, MINUS, markdown_cell, points, share
from isthmus.report.labels.label_list import Line
from isthmus.report.leaderboard import leaderboard
from isthmus.report.results import Findings, extended_epochs
from isthmus.report.thumbnails import sample_images
from isthmus.report.verdict import judge


def render(template: str, **view: Any) -> str:
    """Fills one of the package's templates; a name the view lacks is an error, and a `.html.jinja` is escaped."""
    return _environment().get_template(template).render(**view)


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    """Returns the templates; one object for the process, as compiling them takes longer than filling them."""
    folder = importlib.resources.files("isthmus.report") / "templates"
    environment = jinja2.Environment(
        autoescape=jinja2.select_autoescape(["html.jinja"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        loader=jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
    )
    environment.filters |= {"share": share, "points": points, "number": number, "fixed": fixed}
    environment.filters |= {"words": words, "cell": markdown_cell}
    return environment


@dataclass(frozen=True)
class Extras:
    """What is shown beside the findings.

    Attributes:
        queries: the target images to label first.
        explained: where the model looked.
        robustness: the content of `robustness.json`.
    """

    queries: list[Line]
    explained: Explained
    robustness: dict[str, Any]


def report_page(findings: Findings, prepared: Path, extras: Extras) -> str:
    """Returns the whole page as one text: no file, script, font or image outside it is needed."""
    return render("report.html.jinja", **view(findings, prepared, extras))


def common_view(findings: Findings) -> dict[str, Any]:
    """Returns what the pages of all tasks show, already computed: the templates only lay it out."""
    return {
        "ABSENT": ABSENT,
        "name": findings.name,
        "scenario": findings.scenario,
        "simulated": findings.simulated,
        "labelled": findings.labelled,
        "verdict": judge(findings),
        "chosen": findings.choice["chosen"],
        "choice": findings.choice,
        "truth": findings.truth,
        "metrics": findings.metrics,
        "trust": findings.trust,
        "rows": leaderboard(findings),
        "floor": SOURCE_ONLY,
        "image": {key: findings.facts[key] for key in ("height", "width", "channels", "dtype")},
        "curves": curves(findings),
        "extended": extended_epochs(findings.runs),
        "settings": {m: json.dumps(run["config"], indent=2, sort_keys=True) for m, run in findings.runs.items()},
        "data": data_facts(findings),
        "warnings": data_warnings(findings),
    }


def view(findings: Findings, prepared: Path, extras: Extras) -> dict[str, Any]:
    """Returns what the page of classes of images shows."""
    classes = findings.facts["classes"]
    return common_view(findings) | {
        "target_labels": findings.target_labels,
        "classes": classes,
        "chance": 1 / len(classes),
        "scored": findings.scored,
        "anomaly": findings.truth.get("anomaly"),
        "unscored": findings.unscored,
        "known": known_pairs(),
        "held": findings.truth["trust"] if findings.labelled else None,
        "reliability": reliability(findings),
        "samples": sample_images(prepared, findings.index, findings.manifest, classes, findings.scenario.target),
        "shift": shift_facts(findings),
        "maps": maps(findings),
        "predicted": predicted_shares(findings),
        "queries": extras.queries,
        "explained": extras.explained,
        "robustness": extras.robustness,
    }


def number(value: Any) -> str:
    """Returns a number with three significant digits, integers whole.

    >>> number(0.123456), number(12), number(True)
    ('0.123', '12', 'yes')
    """
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}".replace("-", MINUS) if isinstance(value, float) else str(value)


def fixed(value: float | None, digits: int = 3) -> str:
    """Returns a number with a fixed count of decimals, so that a column lines up.

    >>> fixed(0.5), fixed(0.66666, 2)
    ('0.500', '0.67')
    """
    return ABSENT if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def words(name: str) -> str:
    """Returns a key as words.

    >>> words("source_val_accuracy")
    'source val accuracy'
    """
    return name.replace("_", " ")
