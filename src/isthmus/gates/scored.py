"""The frozen evaluation set, and what the registered models answered on it. Files in, arrays out.

A folder of evidence holds `evaluation.parquet`, `candidate.json` and `candidate.parquet`, the same two of the champion
where there is one, and `evidence.json`, which bears the hash of each of them and is written last (docs/contracts.md).
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from isthmus.core.errors import DataError
from isthmus.core.files import read_json, sha256_file
from isthmus.data.manifest import COMPANIONS, MANIFEST, read_table
from isthmus.evaluation.scoring.boxes import Matches
from isthmus.evaluation.scoring.predict import BOX_PREDICTIONS, MASK_PREDICTIONS, PREDICTIONS
from isthmus.evaluation.trained import UNKNOWN

SOURCE, TARGET = "source", "target"
NO_LABELS = {role: f"no labels of {role} test images" for role in (SOURCE, TARGET)}  # as reasons begin
EVALUATION = pa.schema(
    [
        ("image_id", pa.string()),
        ("sha256", pa.string()),  # of the file's bytes
        ("part", pa.string()),
        ("role", pa.string()),  # source or target
        ("domain", pa.string()),
        ("group", pa.string()),
        ("label", pa.int32()),  # null where it is not known or may not be asked
        ("predicted", pa.int32()),  # by the pipeline, for the chosen model
    ]
)
MASK_EVALUATION = pa.schema(
    [
        *(EVALUATION.field(name) for name in ("image_id", "sha256", "part", "role", "domain", "group")),
        ("label", pa.int32()),  # 0 where there is a mask with scored pixels, else null
        ("mask_sha256", pa.string()),  # of the mask's bytes
        ("mean_iou", pa.float32()),  # of the pipeline's own mask, at the size of the prepared image
    ]
)
BOX_EVALUATION = pa.schema(
    [
        *(MASK_EVALUATION.field(name) for name in MASK_EVALUATION.names if name != "mean_iou"),
        ("ap50", pa.float32()),  # of the pipeline's own boxes, in the prepared image
    ]
)
_IDENTITY = ["image_id", "sha256", "part", "domain", "label", "mask_sha256"]


@dataclass(frozen=True)
class Answers:
    """What one model answered in a process of its own.

    Attributes:
        model_id: MLflow's id.
        version: number in the registry.
        failure: why it could not be loaded or did not answer; empty when all went well.
        bundled: True when the code that answered came with the model.
        classes: names of the outputs, in order.
        inputs: columns that it takes, name -> type.
        outputs: columns that it answers, name -> type.
        size_bytes: of all its files [byte].
        latency: `median_s`, `p95_s`, `fastest_s` of one image at a time on one thread [s], `images` timed.
        sha256: of the bytes that it read, in the order of the evaluation set.
        image_id: likewise.
        probabilities: float64 `[N, K]`; of a model that answers masks no column.
        matches: the boxes of each image at an IoU of .5, of a model that answers boxes; `boxes_from` is the score from
            which they are counted.
        counts: int64 `[N, K, K]`, pixels of each image by true and answered class, at the image's own size, zero where
            the truth is not known; None for a model that answers classes.
    """

    model_id: str
    version: str
    failure: str
    bundled: bool
    classes: list[str]
    inputs: dict[str, str]
    outputs: dict[str, str]
    size_bytes: int
    latency: dict[str, float]
    sha256: list[str]
    image_id: list[str]
    probabilities: NDArray[np.float64]
    counts: NDArray[np.int64] | None = None
    matches: Matches | None = None
    boxes_from: float = 0.0

    def predicted(self, classes: list[str]) -> NDArray[np.int64]:
        """Returns the place of each answer among `classes` `[N]`, by name; `UNKNOWN` for a class not among them."""
        return places_among(self.classes, classes)[self.probabilities.argmax(axis=1)]


@dataclass(frozen=True)
class Scored:
    """All evidence about a candidate that comes from asking models.

    Attributes:
        images: columns of `EVALUATION`, one row an image, in the order of ids.
        classes: of the scenario, in the order of the labels.
        set_md5: identity of the evaluation set that was asked.
        current_md5: identity of the evaluation set of the results as they are now.
        candidate: its answers.
        champion: the champion's, None where there is none.
        acceptance: how often the labelled target sample was asked: `choices`, `runner_up_of`, `labelled`.
        origin: whether data and snapshot can be had again: `data`, `snapshot`, each `place`, `found`, `missing`.
        seen: model -> how many images of the set it was trained on.
        roles: whose images were asked; an exported file answers the target's alone.
    """

    images: pd.DataFrame
    classes: list[str]
    set_md5: str
    current_md5: str
    candidate: Answers
    champion: Answers | None
    acceptance: dict[str, Any]
    origin: dict[str, Any]
    seen: dict[str, int | None]
    roles: tuple[str, ...] = (TARGET, SOURCE)

    @property
    def metric(self) -> str:
        """Returns the name of the score that models are compared by, as in `truth.json`."""
        found = [name for name in ("mean_iou", "ap50") if name in self.images]
        return found[0] if found else "balanced_accuracy"

    @property
    def label(self) -> NDArray[np.int64]:
        """Returns the labels `[N]`, `UNKNOWN` where there is none."""
        return self.images["label"].fillna(UNKNOWN).to_numpy(dtype=np.int64)

    def labelled(self, role: str) -> NDArray[np.int64]:
        """Returns the places of the labelled images of a role."""
        return np.flatnonzero((self.images["role"] == role).to_numpy() & (self.label != UNKNOWN))

    def right(self, answers: Answers) -> NDArray[np.bool_]:
        """Says of each image whether the answer is its label `[N]`; False where the label is not known."""
        result: NDArray[np.bool_] = (answers.predicted(self.classes) == self.label) & (self.label != UNKNOWN)
        return result


def evaluation_set(
    manifest: Path, predictions: Path, target: str, companions: Path | None = None, boxes: bool = False
) -> pd.DataFrame:
    """Returns the test images of all domains, with the labels that `evaluate` joined: columns of `EVALUATION`.

    Args:
        manifest: of `ingest`.
        predictions: of `evaluate`.
        target: domain.
        companions: of `ingest`, where the answers are masks or boxes: then columns of `MASK_EVALUATION`.
        boxes: whether they are boxes: then columns of `BOX_EVALUATION`.

    Raises:
        DataError: a table is missing, broken, or not of one run.
    """
    cells, schema, key = (
        (BOX_PREDICTIONS, BOX_EVALUATION, "ap50") if boxes else (MASK_PREDICTIONS, MASK_EVALUATION, "mean_iou")
    )
    answered = read_table(predictions, PREDICTIONS if companions is None else cells)
    if companions is not None:
        masks = read_table(companions, COMPANIONS).set_index("image_id")["mask_sha256"]
        answered["mask_sha256"] = masks.loc[answered["image_id"]].to_numpy(dtype=object)
        answered["label"] = answered[key].notna().map({True: 0, False: None}).astype("Int32")
    answered = answered[answered["split"] == "test"]
    facts = read_table(manifest, MANIFEST).set_index("image_id")
    unknown = answered.loc[~answered["image_id"].isin(facts.index), "image_id"]
    if len(unknown) or not len(answered):
        wrong = f"{len(unknown)} images are not in {manifest}" if len(unknown) else "holds no image of a test split"
        raise DataError(f"{predictions}: {wrong}. Run 'dvc repro' again; see 'ingest.splits' in params.yaml")
    schema = EVALUATION if companions is None else schema
    frame = answered.reset_index(drop=True)
    for name in ("sha256", "part", "group"):
        frame[name] = facts.loc[frame["image_id"], name].to_numpy(dtype=object)
    frame["role"] = np.where(frame["domain"] == target, TARGET, SOURCE)
    frame["label"] = frame["label"].astype("Int32")
    return frame.sort_values("image_id", kind="stable").reset_index(drop=True)[schema.names]


def places_among(theirs: Sequence[str], ours: Sequence[str]) -> NDArray[np.int64]:
    """Returns the place of each class of a model among those of the scenario, by name; `UNKNOWN` where it has none.

    >>> places_among(["good", "dent", "crack"], ["crack", "good"]).tolist()
    [1, -1, 0]
    """
    numbers = {name: place for place, name in enumerate(ours)}
    return np.array([numbers.get(name, UNKNOWN) for name in theirs], np.int64)


def set_md5(images: pd.DataFrame) -> str:
    """Returns the identity of an evaluation set: md5 over ids, hashes of the bytes, domains and labels, in order."""
    columns = [name for name in _IDENTITY if name in images]
    rows = images[columns].astype(object).where(images[columns].notna(), "")
    text = "\n".join("\t".join(map(str, row)) for row in rows.itertuples(index=False))
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def read_scored(folder: Path, current_md5: str) -> Scored:
    """Reads a folder of evidence.

    Args:
        folder: as `isthmus score` writes it.
        current_md5: identity of the evaluation set of the results as they are now.

    Raises:
        DataError: a file is missing, broken, or was changed since it was written.
    """
    facts = read_json(folder / "evidence.json")
    changed = [name for name, sha256 in sorted(facts["files"].items()) if _hash(folder / name) != sha256]
    if changed:
        raise DataError(f"{folder}: {', '.join(changed)} missing or changed since scoring. Run 'isthmus score' again")
    schemas = {"mean_iou": MASK_EVALUATION, "ap50": BOX_EVALUATION}
    images = read_table(folder / "evaluation.parquet", schemas.get(facts.get("metric", ""), EVALUATION))
    champion = read_answers(folder, "champion") if facts["champion"] else None
    return Scored(
        images, facts["classes"], facts["set_md5"], current_md5, read_answers(folder, "candidate"), champion,
        facts["acceptance"], facts["origin"], facts["seen"],
    )  # fmt: skip


def read_answers(folder: Path, who: str) -> Answers:
    """Reads what one model answered: `who` is `candidate` or `champion`."""
    facts = read_json(folder / f"{who}.json")
    path = folder / f"{who}.parquet"
    try:
        rows = pd.read_parquet(path) if path.exists() else pd.DataFrame({"image_id": [], "sha256": []})
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Run 'isthmus score' again") from None
    columns = [name for name in (f"probability_{c}" for c in facts["classes"]) if name in rows]
    probabilities = rows[columns].to_numpy(dtype=np.float64)
    counts = None
    if "counts" in rows:
        flat = np.stack(rows["counts"].to_list()).astype(np.int64)
        size = math.isqrt(flat.shape[1])  # classes of the scenario: those of the model may be others
        counts = flat.reshape(len(rows), size, size)
    matches = _matches(rows) if "true_boxes" in rows else None
    return Answers(
        **facts,
        sha256=list(rows["sha256"]),
        image_id=list(rows["image_id"]),
        probabilities=probabilities,
        counts=counts,
        matches=matches,
        boxes_from=float(rows["threshold"].iloc[0]) if "threshold" in rows and len(rows) else 0.0,
    )


def _matches(rows: pd.DataFrame) -> Matches:
    """Returns the boxes of an evidence table: columns `scores`, `classes`, `right`, `true_boxes`, a list an image."""
    scores, classes, right = (np.concatenate(rows[name].to_list()) for name in ("scores", "classes", "right"))
    images = np.repeat(np.arange(len(rows)), rows["scores"].map(len))
    true = np.stack(rows["true_boxes"].to_list()).astype(np.int64)
    return Matches(images, classes.astype(np.int64), scores, right.astype(np.bool_)[None], true)


def _hash(path: Path) -> str:
    return sha256_file(path) if path.is_file() else ""
