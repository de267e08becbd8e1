import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from isthmus.data.audit import near_counts
from isthmus.data.image import Image
from isthmus.data.near import near_pairs, small_picture
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


def test_different_pictures_smooth_gradients_and_flat_ones_are_no_near_duplicates() -> None:
    rng = np.random.default_rng(0)
    pictures = [small(scene(k)) for k in range(60)] + [small(pixels(rng)) for _ in range(60)]
    pictures += [small(np.full((9, 9, 3), level, np.uint8)) for level in (7, 7, 9)]

    assert near_pairs(pictures, 0.05) == []


def test_pictures_with_other_numbers_of_channels_are_never_alike() -> None:
    grey = scene(0)[..., :1]

    assert near_pairs([small(grey), small(np.repeat(grey, 3, axis=2))], 0.5) == []


def test_more_pictures_than_a_block_are_all_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isthmus.data.near._BLOCK", 4)
    pictures = [small(scene(k)) for k in range(11)]

    assert near_pairs([*pictures, pictures[1], pictures[10]], 0.05) == [(1, 11), (10, 12)]


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
