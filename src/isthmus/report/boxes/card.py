"""The model card of a task whose answers are boxes: the facts that all cards have, with the scores of boxes."""

from typing import Any

from isthmus.report.model_card import common_facts, common_limits, rendered, target_facts, transfers
from isthmus.report.results import Findings


def box_card(findings: Findings) -> dict[str, Any]:
    """Returns the card as JSON types. `target` is None where the target has no boxes."""
    scenario, classes = findings.scenario, ", ".join(findings.facts["classes"][1:])
    return common_facts(findings) | {
        "intended_use": (
            f"Find objects of these classes in {scenario.kind.replace('_', ' ')} images of '{scenario.target}', with a"
            f" box around each: {classes}. Images must come from the same kind of device, and be prepared by the"
            " pipeline that is packed with the model."
        ),
        "not_for": [
            "Images of another domain than those listed under 'Data'.",
            "Objects that are not listed: they get no box, or that of a listed class.",
            "Measuring objects where edges must be exact: see AP, which asks for closer boxes than AP50.",
            "Decisions about people or safety without a person who checks them.",
        ],
        "target": _target(findings),
        "trust": {"estimate": findings.trust["estimate"]["why"], "threshold": findings.trust["threshold"]},
        "limits": _limits(findings),
    }


def as_markdown(card: dict[str, Any]) -> str:
    """Returns the card for people; every number in it is one of the card's own."""
    return rendered("box_card.md.jinja", card)


def _target(findings: Findings) -> dict[str, Any] | None:
    if not findings.labelled:
        return None
    return target_facts(findings, ("boxes",), ("ap50", "ap", "per_class")) | {"transfer": transfers(findings)}


def _limits(findings: Findings) -> list[str]:
    limits = common_limits(findings)
    if not findings.labelled:
        limits.append("No target box exists: the score on the target is unknown, and no gain is claimed.")
    limits.append(
        "A box is answered by a cell of the image's grid: objects smaller than a cell, and several whose centres lie in"
        " one cell, are lost."
    )
    limits.append(
        "Scores put boxes in order and are no probabilities of being right. The one from which boxes are counted was"
        " fitted on the source."
    )
    return limits
