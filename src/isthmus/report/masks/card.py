"""The model card of a task whose answers are masks: the facts that all cards have, with the scores of masks."""

from typing import Any

from isthmus.report.model_card import common_facts, common_limits, rendered, target_facts, transfers
from isthmus.report.results import Findings
from isthmus.report.verdict import guessing

_SCORES = ("mean_iou", "dice", "boundary", "pixel_accuracy")


def mask_card(findings: Findings) -> dict[str, Any]:
    """Returns the card as JSON types. `target` is None where the target has no masks."""
    scenario, classes = findings.scenario, ", ".join(findings.facts["classes"])
    kind = scenario.kind.replace("_", " ")
    what = f"of {kind} images of '{scenario.target}'"
    if scenario.annotation_config().second:
        what = f"of a place of which there are two {kind} images of '{scenario.target}', on one grid,"
    return common_facts(findings) | {
        "intended_use": (
            f"Give each pixel {what} one of these classes: {classes}. Images must come from the same kind of device and"
            " be prepared by the pipeline that is packed with the model."
        ),
        "not_for": [
            "Images of another domain than those listed under 'Data'.",
            "Classes that are not listed: the model always answers with one of them.",
            "Measuring lengths or areas where outlines must be exact: see the boundary score.",
            "Decisions about people or safety without a person who checks them.",
        ],
        "target": _target(findings),
        "trust": {"estimate": findings.trust["estimate"]["why"], "temperature": findings.trust["temperature"]},
        "limits": _limits(findings),
    }


def as_markdown(card: dict[str, Any]) -> str:
    """Returns the card for people; every number in it is one of the card's own."""
    return rendered("mask_card.md.jinja", card)


def _target(findings: Findings) -> dict[str, Any] | None:
    if not findings.labelled:
        return None
    facts = target_facts(findings, ("pixels",), (*_SCORES, "per_class", "confusion"))
    return facts | {"one_class_everywhere": guessing(findings).score, "transfer": transfers(findings)}


def _limits(findings: Findings) -> list[str]:
    limits = common_limits(findings)
    if not findings.labelled:
        limits.append("No target mask exists: the score on the target is unknown, and no gain is claimed.")
    limits.append(
        f"An answer is computed on a grid of cells and enlarged to {findings.facts['width']} x"
        f" {findings.facts['height']} pixels: structures thinner than a cell are lost, and outlines are smooth."
    )
    limits.append("The confidence is not calibrated: it puts images in order and is no probability of being right.")
    limits.append("The set of classes is closed, and shares of the classes in the field may differ from those here.")
    return limits
