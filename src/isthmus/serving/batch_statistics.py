"""What is kept of inputs so that `isthmus watch` can tell a drift: counts and means, one line of JSON a batch.

Neither an image nor a file's name nor a single answer is kept. Several servers and `isthmus predict` may write to one
file at once: a line is one write under a lock.
"""

import json
import math
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from isthmus.core.files import atomic_file
from isthmus.core.locks import flocked
from isthmus.core.progress import log

BINS = 20  # of `domain_score`: (0, 0.05], (0.05, 0.1], ... the test of drift needs the upper edge inside
LIMIT = 8_000_000  # [byte] a file may grow to; then the older half of its lines goes, some 10,000 batches
_IMAGES_A_BATCH = 32  # answers are kept together: the line of a single one would tell that answer
_SECONDS_A_BATCH = 3600.0  # then a smaller batch is kept, so that an idle server's last images are seen in time
_ROUNDING = 1e-9  # a score is a share k / n; its 20-fold may lie a rounding above a whole number


@dataclass(frozen=True)
class BatchStatistics:
    """One batch of inputs that a model answered.

    Attributes:
        time: when it was answered, UTC, `2026-11-21T15:00:00Z`.
        count: number of images.
        model_id: of the model that answered.
        version: its number in the registry.
        domain_score: images by their `domain_score`, `BINS` equal parts of (0, 1], upper edges inside.
        classes: predicted class -> number of images; of masks the sum of its shares of them, of boxes their number.
        mean_confidence: mean of the largest probability.
        answered: share of images whose set is one class; None of masks and boxes, which have none.
    """

    time: str
    count: int
    model_id: str
    version: str
    domain_score: list[int]
    classes: dict[str, float]
    mean_confidence: float
    answered: float | None


def summarise(rows: Sequence[dict[str, Any]], model_id: str, version: str, time: datetime) -> BatchStatistics:
    """Returns the statistics of a batch of a model's answers, at least one.

    >>> row = {"class": "good", "probability_good": 0.9, "probability_pit": 0.1, "answered": True, "domain_score": 0.05}
    >>> kept = summarise([row], "m-1", "3", datetime(2026, 1, 2, tzinfo=UTC))
    >>> kept.time, kept.domain_score[:2], kept.classes, kept.mean_confidence, kept.answered
    ('2026-01-02T00:00:00Z', [1, 0], {'good': 1}, 0.9, 1.0)

    >>> row = {"share_sound": 0.75, "share_crack": 0.25, "confidence": 0.8, "domain_score": 0.5}
    >>> kept = summarise([row, row], "m-1", "3", datetime(2026, 1, 2, tzinfo=UTC))
    >>> kept.classes, kept.mean_confidence, kept.answered
    ({'crack': 0.5, 'sound': 1.5}, 0.8, None)
    """
    classes: Counter[str] = Counter()
    for row in rows:
        classes.update(_classes(row))
    answered = [bool(row["answered"]) for row in rows if "answered" in row]
    return BatchStatistics(
        time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        len(rows),
        model_id,
        version,
        histogram([float(row["domain_score"]) for row in rows]),
        dict(sorted(classes.items())),
        sum(map(confidence, rows)) / len(rows),
        sum(answered) / len(answered) if answered else None,
    )


def _classes(row: dict[str, Any]) -> dict[str, Any]:
    if "class" in row:
        return {str(row["class"]): 1}
    kinds = ("share_", "count_")  # of masks, of boxes
    return {name.partition("_")[2]: value for name, value in row.items() if name.startswith(kinds)}


def confidence(row: dict[str, Any]) -> float:
    """Returns the confidence that an answer states, or its largest probability.

    >>> confidence({"probability_good": 0.75, "probability_pit": 0.25})
    0.75
    >>> confidence({"share_crack": 0.5, "confidence": 0.8})
    0.8
    """
    if "confidence" in row:
        return float(row["confidence"])
    return max(float(value) for name, value in row.items() if name.startswith("probability_"))


def histogram(scores: Sequence[float]) -> list[int]:
    """Returns how many scores lie in each of `BINS` equal parts of (0, 1], upper edges inside.

    >>> histogram([0.05, 3 / 60, 0.051, 1.0])[:2], histogram([1.0])[-1]
    ([2, 1], 1)
    """
    counts = [0] * BINS
    for score in scores:
        counts[min(max(math.ceil(score * BINS - _ROUNDING) - 1, 0), BINS - 1)] += 1
    return counts


def keep(path: Path, batch: BatchStatistics, limit: int = LIMIT) -> None:
    """Appends one line; safe beside other writers, and a writer that is killed spoils no line but its own.

    Raises:
        OSError: the file cannot be written.
    """
    line = (json.dumps(asdict(batch), sort_keys=True) + "\n").encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    # The lock lies beside the file, since the file itself is replaced.
    with flocked(path.with_name(f".{path.name}.lock"), patience=math.inf), path.open("a+b") as stream:
        size = stream.seek(0, os.SEEK_END)
        if size and not _ends_whole(stream, size):
            stream.write(b"\n")  # what a killed writer left becomes a line that is no JSON: readers pass it over
        stream.write(line)
        stream.flush()
        if stream.tell() > limit:
            _drop_older_half(path)


def read_kept(path: Path) -> Iterator[BatchStatistics]:
    """Yields the batches in the order they were written; a line that a killed writer cut off is passed over."""
    for line in path.read_bytes().splitlines():
        try:
            yield BatchStatistics(**json.loads(line))
        except (ValueError, TypeError):
            continue


class Batches:
    """Gathers a server's answers and appends a line for every 32 images, for an hour, and at the end.

    Args:
        path: the file.
        model_id: of the model that answers.
        version: its number in the registry.
    """

    def __init__(self, path: Path, model_id: str, version: str) -> None:
        self._path = path
        self._model = (model_id, version)
        self._rows: list[dict[str, Any]] = []
        self._began = 0.0

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Takes the answers to one request in."""
        self._began = self._began if self._rows else time.monotonic()
        # A model that was published before there were domain scores answers all the same.
        self._rows += [row for row in rows if "domain_score" in row]
        if len(self._rows) >= _IMAGES_A_BATCH or time.monotonic() - self._began > _SECONDS_A_BATCH:
            self.write()

    def write(self) -> None:
        """Appends what was gathered. A full disk is logged and stops no answer."""
        if not self._rows:
            return
        try:
            keep(self._path, summarise(self._rows, *self._model, datetime.now(UTC)))
        except OSError as error:
            log(f"statistics of {len(self._rows)} images are lost: {error}")
        self._rows = []


def _ends_whole(stream: Any, size: int) -> bool:
    stream.seek(size - 1)
    return bool(stream.read(1) == b"\n")


def _drop_older_half(path: Path) -> None:
    data = path.read_bytes()
    newer = data[data.index(b"\n", len(data) // 2) + 1 :]
    with atomic_file(path) as partial:
        partial.write_bytes(newer)
