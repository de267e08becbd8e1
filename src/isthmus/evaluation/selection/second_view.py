"""What hand-made descriptors make of the same images: a second opinion whose mistakes are not the networks' own.

All candidates on one backbone see the same features, so they are wrong together, and neither their agreement nor their
confidence says how often. Classifiers of distinct views, whose mistakes are nearly independent, agree about as often as
both are right: Blum & Mitchell, "Combining Labeled and Unlabeled Data with Co-Training", COLT 1998; Platanios, Blum &
Mitchell, "Estimating Accuracy from Unlabeled Data", UAI 2014. A second network (MobileNetV2) was tried and shares the
first one's mistakes on real targets (docs/decisions/0015-second-view.md).

The reader is a logistic regression on the source's training labels and descriptors (`models/descriptors.py`), each
domain standardised by itself, in the principal directions of both. It sees no target label, and no candidate sees it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.data.manifest import INDEX, read_table
from isthmus.data.shards import SECOND_VIEW, Rows
from isthmus.evaluation.linear import linear_answers
from isthmus.evaluation.selection.candidates import SHARED_DIMENSIONS
from isthmus.evaluation.selection.consensus import principal
from isthmus.evaluation.shift.distances import standardise
from isthmus.evaluation.trained import Samples

MOST_IMAGES = 2000  # [image] of each domain that the reader learns from: the first ones by id, which is a hash

Places = NDArray[np.int64]
Features = Callable[[Places], NDArray[Any]]


def read_second_view(features: Path, prepared: Path) -> Features:
    """Returns what gives the descriptors of rows.

    Raises:
        DataError: `embed` has written none.
    """
    return Rows(features / SECOND_VIEW, read_table(prepared / "index.parquet", INDEX)).take


def second_opinion(features: Features, samples: Samples, sources: Sequence[str], target: str, rows: Places) -> Places:
    """Returns the classes `[M]` that the reader gives the images at `rows`.

    Args:
        features: float32 `[M, D]` of rows.
        samples: facts of the images.
        sources: domains with labels.
        target: domain.
        rows: int64 `[M]`, images of these domains.
    """
    domains = [*sources, target]
    places = {domain: samples.rows([domain], "train")[:MOST_IMAGES] for domain in domains}
    raw = {domain: np.asarray(features(places[domain]), dtype=np.float64) for domain in domains}
    own = {domain: standardise(raw[domain], raw[domain]) for domain in domains}
    asked = np.asarray(features(rows), dtype=np.float64)
    for domain in domains:
        here = samples.domain[rows] == domain
        asked[here] = standardise(asked[here], raw[domain])
    shared = principal(np.concatenate(list(own.values())), SHARED_DIMENSIONS)
    learnt = np.concatenate([own[domain] for domain in sources])
    labels = np.concatenate([samples.label[places[domain]] for domain in sources])
    return linear_answers(learnt @ shared, labels, asked @ shared)
