"""The second view: what its reader says, what it may read, and where it is looked for."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from isthmus.core.errors import DataError
from isthmus.data.manifest import INDEX, write_table
from isthmus.evaluation.selection.second_view import MOST_IMAGES, read_second_view, second_opinion
from isthmus.evaluation.trained import UNKNOWN, Samples

COUNT = 120  # images of each domain


def two_domains(moved: float) -> tuple[np.ndarray, Samples, np.ndarray]:
    """Two classes along one feature; the target's are moved along it."""
    rng = np.random.default_rng(0)
    label = np.arange(2 * COUNT) // 4 % 2  # as many of each class in every split
    target = np.arange(2 * COUNT) >= COUNT
    features = rng.normal(0, 0.3, (2 * COUNT, 8)).astype(np.float32)
    features[:, 0] += np.where(label == 1, 2, -2) + np.where(target, moved, 0)
    split = np.where(np.arange(2 * COUNT) % 4 == 0, "test", "train")
    domain = np.where(target, "new", "old").astype(object)
    ids = np.array([f"{n:04d}" for n in range(2 * COUNT)], dtype=object)
    known = np.where(target, UNKNOWN, label)
    return features, Samples(ids, domain, split.astype(object), ids, known), label


def test_the_reader_stands_where_each_domain_stands() -> None:
    features, samples, label = two_domains(moved=6.0)

    told = second_opinion(features.__getitem__, samples, ["old"], "new", np.arange(2 * COUNT))

    assert (told == label).mean() > 0.95


def test_every_source_is_standardised_by_itself() -> None:
    features, samples, label = two_domains(moved=3.0)
    half = np.arange(2 * COUNT) < COUNT // 2
    features[half, 0] -= 50.0
    domain = np.where(half, "older", samples.domain).astype(object)
    apart = Samples(samples.image_id, domain, samples.split, samples.group, samples.label)

    told = second_opinion(features.__getitem__, apart, ["older", "old"], "new", np.arange(2 * COUNT))

    assert (told == label).mean() > 0.95


def test_no_target_label_and_no_test_image_reaches_the_reader() -> None:
    features, samples, _ = two_domains(moved=1.0)
    asked = samples.rows(["new"], "train")
    seen: list[int] = []

    def watched(rows: np.ndarray) -> np.ndarray:
        seen.extend(rows.tolist())
        return features[rows]

    first = second_opinion(watched, samples, ["old"], "new", asked)
    labelled = np.where(samples.domain == "new", 1 - (np.arange(2 * COUNT) % 2), samples.label)
    told = Samples(samples.image_id, samples.domain, samples.split, samples.group, labelled)

    assert set(samples.split[np.array(seen)]) == {"train"}
    assert (second_opinion(features.__getitem__, told, ["old"], "new", asked) == first).all()


def test_the_reader_learns_from_a_bounded_number_of_images() -> None:
    count = 2 * (MOST_IMAGES + 50)
    domain = np.where(np.arange(count) % 2 == 0, "old", "new").astype(object)
    ids = np.arange(count).astype(str).astype(object)
    samples = Samples(ids, domain, np.full(count, "train", dtype=object), ids, np.arange(count) // 2 % 2)
    asked: list[int] = []

    def given(rows: np.ndarray) -> np.ndarray:
        asked.append(len(rows))
        return np.random.default_rng(0).normal(size=(len(rows), 3)).astype(np.float32)

    second_opinion(given, samples, ["old"], "new", np.arange(4))

    assert asked == [MOST_IMAGES, MOST_IMAGES, 4]


def test_a_source_of_one_class_is_answered_by_it() -> None:
    features, samples, _ = two_domains(moved=0.0)
    single = Samples(
        samples.image_id,
        samples.domain,
        samples.split,
        samples.group,
        np.where(samples.domain == "old", 2, UNKNOWN),
    )

    assert (second_opinion(features.__getitem__, single, ["old"], "new", np.arange(5)) == 2).all()


def test_descriptors_are_read_in_the_order_of_the_index_and_missing_ones_are_said(tmp_path: Path) -> None:
    index = pd.DataFrame({"image_id": ["a", "b"], "domain": ["x", "x"], "shard": ["s", "s"], "row": [1, 0]})
    write_table(tmp_path / "prepared" / "index.parquet", index, INDEX)
    with pytest.raises(DataError, match=r"second/s.npy: cannot be read .* Run 'dvc repro' to write it again"):
        read_second_view(tmp_path / "features", tmp_path / "prepared")

    (tmp_path / "features" / "second").mkdir(parents=True)
    np.save(tmp_path / "features" / "second" / "s.npy", np.array([[1.0], [2.0]], dtype=np.float32))

    read = read_second_view(tmp_path / "features", tmp_path / "prepared")

    assert read(np.array([0, 1])).ravel().tolist() == [2.0, 1.0]
