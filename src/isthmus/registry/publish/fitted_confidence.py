"""What a served model promises: temperatures and conformal thresholds, fitted on the source's `cal` split.

And what each of its domains looks like to it, so that it can say how far an image is from what it was adapted to.
"""

from typing import Any

import numpy as np

from isthmus.core.config import Config, load_params
from isthmus.core.files import read_json
from isthmus.core.seeds import derive_seed
from isthmus.data.scenario import Scenario
from isthmus.evaluation.confidence import conformal
from isthmus.evaluation.confidence.calibrated import Judged, TrustConfig, judged
from isthmus.evaluation.metrics import Reals
from isthmus.evaluation.selection.ensemble import open_compared
from isthmus.evaluation.shift.membership import Typicality, fit_typicality
from isthmus.evaluation.trained import Samples, Trained, read_samples
from isthmus.registry.lineage.lineage import Lineage


class PromiseParams(Config):
    """The section of `params.yaml` with the promised coverage."""

    evaluate: TrustConfig


def promise(lineage: Lineage, scenario: Scenario) -> dict[str, Any]:
    """Returns what the bundled code needs to answer with calibrated probabilities and with sets of classes.

    Returns:
        `coverage`, `score`; `temperature` and `threshold`, each for `source` and `target`. A threshold of None puts
        every class into every set: so few calibration images cannot bear the coverage. Of masks `temperature` alone,
        of boxes `boxes_from`, the score from which they are counted.
    """
    answers = scenario.annotation_config()
    if answers.boxes:
        return {"boxes_from": read_json(lineage.path("evaluate", "trust"))["threshold"]}
    if answers.masks:
        temperature = read_json(lineage.path("evaluate", "trust"))["temperature"]
        return {"temperature": {"source": temperature, "target": temperature}}
    config = load_params(PromiseParams, lineage.path("report", "params"), {}).evaluate
    made, samples, chosen = _chosen(lineage, scenario)
    model = judged(chosen, made, samples, scenario.source, scenario.target, config)
    labels, ones = samples.label[model.cal], np.ones(len(model.cal))
    # A new image's own weight is not known when it is served. The largest that was seen on the target gives the largest
    # threshold, so sets are too large rather than too small.
    weights, own = (model.weights.source, float(model.weights.target.max())) if model.weighted else (ones, 1.0)
    return {
        "coverage": config.coverage,
        "score": config.conformal_score,
        "temperature": {"source": model.source_temperature, "target": model.target_temperature},
        "threshold": {
            "source": _threshold(model, labels, model.source_temperature, ones, 1.0, config),
            "target": _threshold(model, labels, model.target_temperature, weights, own, config),
        },
    }


def typicalities(lineage: Lineage, scenario: Scenario) -> dict[str, Typicality]:
    """Returns what each domain looks like to the model that ships, from its training split and without a label.

    Held out are a source's `cal` and the target's `test` images: what nothing was trained on.
    """
    made, samples, chosen = _chosen(lineage, scenario)
    seen = chosen.embeddings(made["seed"], made["epoch"])
    predicted = chosen.logits(made["seed"], made["epoch"]).argmax(axis=1)
    if chosen.facts.cells > 1:  # an image of cells is of no one class
        predicted = np.zeros(len(samples.image_id), np.int64)
    found = {}
    for domain in scenario.domains:
        train = samples.rows([domain], "train")
        held_out = samples.rows([domain], "test" if domain == scenario.target else "cal")
        found[domain] = fit_typicality(seen[train], predicted[train], seen[held_out])
    return found


def _chosen(lineage: Lineage, scenario: Scenario) -> tuple[dict[str, Any], Samples, Trained]:
    choice = read_json(lineage.path("select", "choice"))
    made: dict[str, Any] = choice["chosen"]
    samples = read_samples(lineage.path("ingest", "manifest"), lineage.path("prepare", "prepared"))
    runs = open_compared(lineage.path("select", "trained"), choice, scenario.classes, len(samples.label))
    return made, samples, runs[made["method"]]


def _threshold(
    model: Judged, labels: Any, temperature: float, weights: Reals, own: float, config: TrustConfig
) -> float | None:
    scores = conformal.scores(
        model.probabilities(model.cal, temperature), config.conformal_score, derive_seed(0, "served", "cal")
    )  # fmt: skip
    mine = scores[np.arange(len(labels)), labels]
    found = float(conformal.thresholds(mine, weights, np.array([own]), config.coverage)[0])
    return found if np.isfinite(found) else None
