"""What a few labels of target images did for the model and say of it, in words."""

from isthmus.evaluation.selection.choice import SOURCE_ONLY
from isthmus.report.results import Findings


def learned_sentence(findings: Findings) -> str:
    """Returns how many labelled target images the model was trained with; empty where there were none."""
    count = findings.target_labels
    return (
        f"It was trained with the labels of {count} target images, which nothing here is measured on." if count else ""
    )


def measured_sentence(findings: Findings) -> str:
    """Returns the measured accuracy with its interval, source-only's beside it; empty where nothing was measured."""
    if "measured" not in findings.truth:
        return ""
    measured, chosen = findings.truth["measured"], findings.choice["chosen"]["method"]
    methods = measured["methods"]
    rest = " whose labels it was not trained with" if findings.target_labels else ""
    sentence = (
        f"Measured on {measured['count']} random target images: {_accuracy(methods[chosen])} of the answers are right"
        f" (95% interval {_bounds(methods[chosen])}, for the {measured['pool']} images of the target's training"
        f" split{rest})"
    )
    if chosen != SOURCE_ONLY:
        floor = methods[SOURCE_ONLY]
        sentence += f"; source-only {_accuracy(floor)} ({_bounds(floor)})"
    if measured["skipped"]:
        sentence += (
            f". {measured['skipped']} images drawn before the last labelled one have no answer: the lower bound takes"
            " them as wrong, the upper one as right"
        )
    return f"{sentence}."


def _accuracy(method: dict[str, float]) -> str:
    return f"{100 * method['accuracy']:.0f}%"


def _bounds(method: dict[str, float]) -> str:
    return f"{100 * method['low']:.0f} to {100 * method['high']:.0f}"
