"""What MLflow's pages tell of a run, a version and a model: Markdown made of the model card and the scores."""

from collections.abc import Mapping
from typing import Any

from isthmus.report.formatting import markdown_cell
from isthmus.report.scores import MEANING

NOTE = "mlflow.note.content"  # MLflow's tag of a description


def run_name(scenario: str, choice: Mapping[str, Any]) -> str:
    """Returns scenario and what answers.

    >>> run_name("press", {"chosen": {"method": "ensemble"}, "ensemble": {"zscore": [0], "mcc": [0]}})
    'press: mcc + zscore'
    """
    method = choice["chosen"]["method"]
    return f"{scenario}: {' + '.join(sorted(choice['ensemble'])) if method == 'ensemble' else method}"


def run_note(scenario: str, card: Mapping[str, Any], scores: Mapping[str, float], score: str) -> str:
    """Returns the description of a scenario's run: the verdict, its numbers, and where the rest is.

    Args:
        scenario: its name.
        card: `model_card.json`.
        scores: `scores.json`.
        score: name of the task's score.
    """
    return "\n".join(
        [
            *verdict_lines(card, scores, score),
            "",
            "Artifacts: `report/report.html` is the report, `report/model_card.md` the card, `plots` has the pictures,"
            " `truth.json` and `metrics.json` all numbers. The runs below it are the methods, one a seed.",
            "",
            f"`isthmus report {scenario}` opens the report, `isthmus gate {scenario}` says whether the model may be"
            " promoted.",
        ]
    )


def version_note(model: str, card: Mapping[str, Any], scores: Mapping[str, float], score: str) -> str:
    """Returns the description of a version; arguments as of `run_note`."""
    commands = (
        f"`isthmus trace {model}/VERSION` leads to the bytes of each image, `isthmus compare {model}@champion"
        f" {model}/VERSION` shows what is different."
    )
    return "\n".join([*verdict_lines(card, scores, score), "", commands])


def model_note(model: str, card: Mapping[str, Any]) -> str:
    """Returns the description of a registered model, the same for all of its versions."""
    return (
        f"{markdown_cell(card['intended_use'])}\n\n"
        "Aliases: `candidate` was published last, `champion` passed the gate and serves, `previous` was champion"
        " before.\n\n"
        f"`isthmus predict {model}@champion FOLDER`, `isthmus serve {model}@champion`."
    )


def method_note(method: str, seed: int, score: str, value: float | None) -> str:
    """Returns the description of a method's run."""
    told = "" if value is None else f": {score} {value:.4f} on the target's test split"
    return f"{method}, seed {seed}{told}"


def verdict_lines(card: Mapping[str, Any], scores: Mapping[str, float], score: str) -> list[str]:
    """Returns the verdict and a table of its numbers; arguments as of `run_note`."""
    verdict = card["verdict"]
    rows = [f"| {n} | {scores[n]:.4f} | {text.format(score=score)} |" for n, text in MEANING.items() if n in scores]
    lines = [f"**{markdown_cell(verdict['headline'])}** {markdown_cell(verdict['detail'])}"]
    if card.get("simulated"):
        lines += ["", "The images are simulated."]
    return [*lines, "", "| number | value | what it is |", "| --- | --- | --- |", *rows] if rows else lines
