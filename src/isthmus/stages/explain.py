"""Shows where the chosen model looked: attention rollout and Grad-CAM on a few target test images.

Writes a folder:
- `explain.json`: `why_not` (null, or why this backbone cannot be looked into), `images`: of each map `image_id`, `case`
  (`right`, `wrong`, or `surest`, `least sure` without target labels), `predicted` (class index), `confidence`;
- `maps.npy`: float32 `[images, 2, rows, columns]` in [0, 1] on the grid of patches: rollout, then Grad-CAM of the
  predicted class.

What labels say is read from `predictions.parquet`, which `evaluate` wrote after the choice; the model is the chosen
candidate of the seed that ships.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np

from isthmus.core.config import Config
from isthmus.core.files import atomic_folder, read_json, write_json
from isthmus.data.manifest import INDEX, read_table
from isthmus.data.scenario import Scenario
from isthmus.data.shards import Rows
from isthmus.evaluation.explanation.shown_cases import cases
from isthmus.evaluation.scoring.predict import PREDICTIONS
from isthmus.evaluation.selection.choice import parts
from isthmus.stages._cli import stage

IMAGES = 12  # of the target's test split that are explained
_THREADS = 2  # of the CPU: maps may differ in the last digits between counts


class Params(Config):
    """Sections of `params.yaml` that this stage reads."""

    SECTIONS: ClassVar[dict[str, str]] = {"scenario": "scenarios.{scenario}"}

    scenario: Scenario


def run(
    params: Params,
    *,
    prepared: Path,
    features: Path,
    trained: Path,
    choice: Path,
    predictions: Path,
    explained: Path,
) -> None:
    """Loads the chosen model with its backbone, picks images, writes their maps."""
    answers = params.scenario.annotation_config()
    if not answers.labelled or answers.regions:
        reason = "the answer is a mask, which shows it" if answers.masks else "the answer is boxes, which show it"
        if answers.regions:
            reason = "the map of the defect shows it"
        with atomic_folder(explained) as folder:
            np.save(folder / "maps.npy", np.zeros((0, 2, 1, 1), np.float32))
            write_json(folder / "explain.json", {"why_not": reason, "images": []})
        return
    from isthmus.core.device import make_deterministic  # torch takes 2 s, and masks and boxes do not need it
    from isthmus.evaluation.explanation.attention_maps import why_not
    from isthmus.evaluation.explanation.model_maps import maps_of, network_of
    from isthmus.models.trained import load_candidate

    make_deterministic(_THREADS)
    made = read_json(choice)
    chosen = made["chosen"]
    model = load_candidate(trained, parts(made, chosen["method"]), features, chosen["seed"]).requires_grad_(False)
    target = params.scenario.target
    shown = cases(read_table(predictions, PREDICTIONS), target, IMAGES)
    network = network_of(model)
    hindered = "the prediction is a mean of several networks" if network is None else why_not(network)
    maps = np.zeros((0, 2, 1, 1), np.float32)
    if network is not None and hindered is None and len(shown):
        index = read_table(prepared / "index.parquet", INDEX)
        place = {image_id: row for row, image_id in enumerate(index["image_id"])}
        rows = np.array([place[image_id] for image_id in shown["image_id"]], dtype=np.int64)
        pixels = Rows(prepared / "shards", index).take(rows)
        maps = maps_of(model, network, pixels, shown["predicted"].to_numpy(dtype=np.int64), model.domains.index(target))
    facts = shown[["image_id", "case", "predicted", "confidence"]].to_dict("records") if len(maps) else []
    facts = [fact | {"confidence": round(float(fact["confidence"]), 6)} for fact in facts]
    with atomic_folder(explained) as folder:
        np.save(folder / "maps.npy", maps)
        write_json(folder / "explain.json", {"why_not": hindered, "images": facts})


if __name__ == "__main__":
    stage(run)
