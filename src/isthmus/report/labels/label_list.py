"""The list 'label these first' of one scenario: read from its files, written as CSV, shown with thumbnails."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from isthmus.data.manifest import INDEX, LOCATIONS, read_table
from isthmus.data.names import PRIVATE_KINDS
from isthmus.data.shards import Rows
from isthmus.evaluation.confidence.label_first import Query, label_first, reason
from isthmus.evaluation.metrics import softmax
from isthmus.evaluation.selection.ensemble import open_compared
from isthmus.evaluation.shift.distances import narrow, standardise
from isthmus.evaluation.trained import Samples, read_samples
from isthmus.report.results import Findings
from isthmus.report.thumbnails import thumbnails

MAX_IMAGES = 5000  # [image] of the sources, and of the target, that are looked at; more are cut by id, a hash
SHOWN_NEIGHBOURS = 3
_FORMULA = ("=", "+", "-", "@")  # a spreadsheet would run a cell that begins so


@dataclass(frozen=True)
class Line:
    """One image of the list, ready to be shown.

    Attributes:
        neighbours: thumbnail and class of the nearest source images.
    """

    image_id: str
    query: Query
    reason: str
    image: str
    neighbours: list[tuple[str, str]]


def query_lines(
    findings: Findings,
    manifest: Path,
    prepared: Path,
    features: Path,
    trained: Path,
) -> list[Line]:
    """Returns the list: of the target's training split, so that the labelling person does not see the test split.

    Args:
        findings: of the scenario.
        manifest: as of the stage `report`, and so are `prepared`, `features` and `trained`.
    """
    samples = read_samples(manifest, prepared)
    pool = samples.rows([findings.scenario.target], "train")[:MAX_IMAGES]
    known = samples.rows(findings.scenario.source, "train")[:MAX_IMAGES]
    index = read_table(prepared / "index.parquet", INDEX)
    read = Rows(features, index)
    source, target = (narrow(read.of_images(rows).astype(np.float64), 0) for rows in (known, pool))
    chances = _probabilities(findings, samples, trained)[pool]
    queries = label_first(chances, standardise(target, source), standardise(source, source))
    pixels, classes = Rows(prepared / "shards", index), findings.facts["classes"]
    shown = thumbnails(pixels.take(pool[[query.place for query in queries]]))
    lines = []
    for query, image in zip(queries, shown, strict=True):
        near = known[query.nearest[:SHOWN_NEIGHBOURS]]
        names = [classes[k] if k >= 0 else "no label" for k in samples.label[near]]
        pairs = list(zip(thumbnails(pixels.take(near)), names, strict=True))
        lines.append(Line(str(samples.image_id[pool[query.place]]), query, reason(query, classes), image, pairs))
    return lines


def as_csv(lines: list[Line], classes: list[str], kind: str, locations: Path) -> str:
    """Returns the list as CSV, with where the files lie; not of medical images, whose paths may name a person."""
    rows = []
    for line in lines:
        query = line.query
        numbers = [f"{value:.4f}" for value in (query.probability, query.uncertainty, query.novelty)]
        texts = [no_formula(text) for text in (classes[query.first], line.reason)]
        rows.append((line.image_id, [texts[0], *numbers, texts[1]]))
    return _ranked_csv(rows, ["predicted", "probability", "uncertainty", "novelty", "reason"], kind, locations)


def first_by_confidence(confidences: Sequence[tuple[str, float]], kind: str, locations: Path) -> str:
    """Returns images to label first as CSV, in their order: id and confidence; other arguments as of `as_csv`."""
    rows = [(image_id, [f"{confidence:.4f}"]) for image_id, confidence in confidences]
    return _ranked_csv(rows, ["confidence"], kind, locations)


def _ranked_csv(rows: list[tuple[str, list[str]]], columns: list[str], kind: str, locations: Path) -> str:
    """Returns images in their order as CSV, with where the files lie; not of medical images.

    Args:
        rows: of each image its id and the values of `columns`.
        columns: behind rank, id and place.
        kind: of the scenario.
        locations: `locations.parquet`.
    """
    named = kind not in PRIVATE_KINDS
    places = read_table(locations, LOCATIONS).set_index("image_id") if named else None
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["rank", "image_id", *(["path", "part"] if named else []), *columns])
    for rank, (image_id, values) in enumerate(rows, start=1):
        writer.writerow([rank, image_id, *(_place(places, image_id) if places is not None else []), *values])
    return stream.getvalue()


def _place(places: pd.DataFrame, image_id: str) -> list[str]:
    found = places.loc[[image_id]].iloc[0]
    return [no_formula(str(found["path"])), str(found["part"])]


def no_formula(text: str) -> str:
    """Returns a cell that no spreadsheet runs: a quote is put before what would be a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _probabilities(findings: Findings, samples: Samples, trained: Path) -> NDArray[np.float64]:
    """Returns calibrated probabilities `[N, K]` of the chosen candidate, mean over seeds."""
    chosen = findings.choice["chosen"]
    run = open_compared(trained, findings.choice, findings.facts["classes"], len(samples.label))[chosen["method"]]
    logits = run.all_logits(chosen["epoch"]) / findings.trust["temperature"]["target"]
    mean: NDArray[np.float64] = softmax(logits).mean(axis=0)
    return mean
