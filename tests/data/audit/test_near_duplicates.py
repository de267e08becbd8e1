import io
import itertools
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from isthmus.data.audit.near_duplicates import near_pairs, small_picture
from isthmus.data.audit.summary import near_counts
from isthmus.data.image import Image
from tests.raw_folders import pixels, write_raw
from tests.stages.test_ingest import audit, manifest, run


def scene(seed: int, side: int = 120) -> np.ndarray:
    small = np.random.default_rng(seed).uniform(20, 235, (9, 9, 3)).astype(np.uint8)
    return np.asarray(Pillow.fromarray(small).resize((side, side), Pillow.Resampling.BICUBIC))


def saved_again(values: np.ndarray, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    Pillow.fromarray(values).save(stream, "JPEG", quality=quality)
    return np.asarray(Pillow.open(stream))


def small(values: np.ndarray) -> np.ndarray:
    return small_picture(Image(values, "rgb"))


def test_a_picture_saved_again_or_resized_is_a_near_duplicate_of_itself() -> None:
    original = scene(0)
    shrunk = np.asarray(Pillow.fromarray(original).resize((80, 80), Pillow.Resampling.LANCZOS))

    pairs = near_pairs([small(original), small(scene(1)), small(saved_again(original, 70)), small(shrunk)], 0.05)

    assert {(0, 2), (0, 3)} <= set(pairs)  # with the original, which joins the copies too
    assert not any(1 in pair for pair in pairs)


def test_a_large_photograph_is_a_near_duplicate_of_its_small_copy() -> None:
    large = [scene(seed, 1100) for seed in range(6)]
    copies = [np.asarray(Pillow.fromarray(values).resize((200, 200), Pillow.Resampling.LANCZOS)) for values in large]

    assert near_pairs([small(values) for values in [*large, *copies]], 0.05) == [(k, k + 6) for k in range(6)]


def test_different_pictures_smooth_gradients_and_flat_ones_are_no_near_duplicates() -> None:
    rng = np.random.default_rng(0)
    pictures = [small(scene(k)) for k in range(60)] + [small(pixels(rng)) for _ in range(60)]
    pictures += [small(np.full((9, 9, 3), level, np.uint8)) for level in (7, 7, 9)]

    assert near_pairs(pictures, 0.05) == []


def test_pictures_with_other_numbers_of_channels_are_never_alike() -> None:
    grey = scene(0)[..., :1]

    assert near_pairs([small(grey), small(np.repeat(grey, 3, axis=2))], 0.5) == []


@pytest.mark.parametrize("common", [0.0, 0.6, 0.9])
def test_pairs_are_those_of_comparing_all_with_all(common: float) -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 1, (16, 16, 1))
    pictures = [(common * shared + rng.normal(0, 1 - common, (16, 16, 1))).astype(np.float32) for _ in range(60)]
    pictures += [(p + rng.normal(0, 0.1, p.shape)).astype(np.float32) for p in pictures[::3]]

    expected = []
    for (i, a), (j, b) in itertools.combinations(enumerate(pictures), 2):
        brighter = [p[:, 1:, 0] > p[:, :-1, 0] for p in (a, b)]
        if (brighter[0] != brighter[1]).sum() <= 12 and np.sqrt(((a - b) ** 2).mean()) <= 0.3 * max(a.std(), b.std()):
            expected.append((i, j))

    assert near_pairs(pictures, 0.3) == expected
    assert len(expected) > (15 if common == 0 else 0)


@pytest.mark.parametrize("bits", [12, 13])
def test_twelve_bits_may_differ_wherever_they_lie(bits: int) -> None:
    picture = np.tile(np.arange(16, dtype=np.float32), (16, 1))[..., None]
    bumps = np.zeros((40, 16, 16, 1), np.float32)  # of each picture, other bits
    for bump, rng in zip(bumps, map(np.random.default_rng, range(40)), strict=True):
        for place in rng.permutation(16 * 7)[:bits]:
            bump[place // 7, 2 * (place % 7) + 1] = 1.5

    assert all(near_pairs([picture, picture + bump], 0.5) == ([(0, 1)] if bits == 12 else []) for bump in bumps)


def test_near_duplicates_join_one_group_within_a_domain_and_are_counted_across(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    for k in range(8):
        Pillow.fromarray(scene(k)).save(raw / "line_a" / "good" / f"scene-{k}.png")
        Pillow.fromarray(scene(k)).save(raw / "line_a" / "good" / f"again-{k}.jpg", quality=85)
    Pillow.fromarray(scene(0)).save(raw / "line_b" / "good" / "crossed.jpg", quality=80)

    out = run(raw, tmp_path / "out")

    large = manifest(out)
    large = large[(large["domain"] == "line_a") & (large["height"] == 120)]
    assert len(large) == 16
    assert large.groupby("group").size().tolist() == [2] * 8
    assert large.groupby("group")["split"].nunique().max() == 1
    assert audit(out)["near_duplicates_within"] == {"line_a": 16, "line_b": 0}
    assert audit(out)["near_duplicates_across"] == 2  # with the original and with its copy


def test_pairs_with_an_image_that_is_not_used_do_not_count() -> None:
    assert near_counts([("a", "b"), ("a", "c")], {"a": "x", "b": "x"}, ["x", "y"]) == {
        "near_duplicates_within": {"x": 2, "y": 0},
        "near_duplicates_across": 0,
    }


@pytest.mark.parametrize("channels", [1, 3])
def test_a_photographs_small_picture_is_that_of_the_same_values_in_float(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (61, 83, channels), np.uint8)

    assert np.array_equal(small_picture(Image(pixels, "rgb")), small_picture(Image(pixels.astype(np.float32), "rgb")))


def test_thousands_of_empty_tiles_are_not_compared_with_each_other() -> None:
    original = scene(0)
    empty = [np.zeros((16, 16, 3), np.float32)] * 10_000
    start = time.process_time()

    pairs = near_pairs([*empty, small(original), *empty, small(saved_again(original, 70))], 0.05)

    assert pairs == [(10_000, 20_001)]
    assert time.process_time() - start < 10  # a minute and more where they are
