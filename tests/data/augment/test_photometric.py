import numpy as np
import pytest
from scipy.stats import skew

from isthmus.data.augment.photometric import mean_skewness, opposite, photometric_view, skewness


def images(dtype: str = "uint8") -> np.ndarray:
    values = np.random.default_rng(0).random((12, 16, 16, 3))
    return (values * {"uint8": 255, "uint16": 65535, "float16": 1}[dtype]).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16"])
def test_a_view_keeps_shape_dtype_and_range_and_changes_every_image(dtype: str) -> None:
    given = images(dtype)

    found = photometric_view(given, 1)

    assert (found.shape, found.dtype) == (given.shape, given.dtype)
    assert np.isfinite(found.astype(np.float32)).all()
    assert (found != given).any(axis=(1, 2, 3)).all()


def test_a_view_depends_on_the_pixels_and_its_number_alone() -> None:
    given = images()

    again, alone, other = photometric_view(given, 1), photometric_view(given[3:4], 1), photometric_view(given, 2)

    assert np.array_equal(photometric_view(given, 1), again)
    assert np.array_equal(again[3:4], alone)
    assert (other != again).any(axis=(1, 2, 3)).all()


def test_order_of_brightness_is_kept_or_turned_over_and_both_occur() -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 16).astype(np.uint8)[None, None, :, None], (1, 16, 16, 1))

    turns = []
    for number in range(1, 21):
        row = photometric_view(ramp, number)[0, 0, :, 0].astype(int)
        steps = np.diff(row)
        assert (steps >= 0).all() or (steps <= 0).all()
        turns.append(row[-1] < row[0])

    assert 0.2 < np.mean(turns) < 0.8


def test_a_share_of_none_or_all_exchanges_no_or_every_image_and_changes_nothing_else() -> None:
    given = images("float16")

    none, all_ = (photometric_view(given, 1, share).astype(np.float32) for share in (0.0, 1.0))
    half = photometric_view(given, 1).astype(np.float32)

    np.testing.assert_allclose(all_, 1 - none, atol=1e-3)
    alike = np.isclose(half, none).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(np.isclose(half, all_, atol=1e-3).all(axis=(1, 2, 3)), ~alike)
    assert 0 < alike.sum() < len(given)


def test_skewness_is_that_of_scipy_and_says_whether_light_and_dark_stand_for_opposite_things() -> None:
    bright_disk = np.full((1, 16, 16, 3), 20, np.uint8)
    bright_disk[:, 5:8, 5:8] = 200
    every = np.concatenate([bright_disk, images("uint8")])

    one, many = (skewness(part) for part in (bright_disk, every))

    grey = every.astype(float).mean(axis=3).reshape(len(every), -1)
    assert many == pytest.approx(skew(grey, axis=1).mean())
    assert skewness(255 - bright_disk) == pytest.approx(-one)
    assert skewness(np.full((1, 4, 4, 1), 7, np.uint8)) == 0
    assert opposite(one, -one) and not opposite(one, one) and not opposite(one, -0.4)
    assert mean_skewness(every.__getitem__, np.arange(len(every))) == pytest.approx(many)
