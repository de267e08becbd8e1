import numpy as np
import pytest
from PIL import Image

from isthmus.core.errors import DataError
from isthmus.data.imaging.resample import Box, around_middle, middle, resampled


def noise(height: int, width: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).normal(100, 20, (height, width, channels)).astype(np.float32)


def test_nodata_is_never_averaged_in_whatever_its_value() -> None:
    pixels, valid = np.full((40, 60, 2), 7, np.float32), np.ones((40, 60), bool)
    valid[::3, ::4] = False
    hostile = np.where(valid[..., None], pixels, np.float32(-3.4e38))

    out, enough = resampled(hostile, valid, (0, 0, 40, 60), 17, 23)

    assert enough.all()
    np.testing.assert_allclose(out, 7, rtol=1e-5)


def test_no_number_under_the_mask_spoils_its_neighbours() -> None:
    pixels, valid = np.full((8, 8, 1), 3, np.float32), np.ones((8, 8), bool)
    pixels[2, 2], valid[2, 2] = np.nan, False

    out, _ = resampled(pixels, valid, (0, 0, 8, 8), 4, 4)

    np.testing.assert_allclose(out, 3, rtol=1e-6)


def test_an_output_pixel_mostly_without_data_is_without_data() -> None:
    valid = np.ones((8, 8), bool)
    valid[:, :4] = False

    _, enough = resampled(noise(8, 8), valid, (0, 0, 8, 8), 4, 4)

    assert not enough[:, :2].any()
    assert enough[:, 2:].all()


def test_it_is_the_normalised_convolution_written_out_slowly() -> None:
    pixels, valid = noise(9, 7), np.random.default_rng(1).random((9, 7)) > 0.3
    box, count = (0.5, -1.0, 8.0, 6.5), 3

    out, enough = resampled(pixels, valid, box, count, count)

    for i in range(count):
        for j in range(count):
            sy, sx = (box[2] - box[0]) / count, (box[3] - box[1]) / count
            cy, cx = box[0] + (i + 0.5) * sy, box[1] + (j + 0.5) * sx
            total = weight = whole = 0.0
            for y in range(-20, 30):
                for x in range(-20, 30):
                    w = max(0, 1 - abs(y + 0.5 - cy) / max(sy, 1)) * max(0, 1 - abs(x + 0.5 - cx) / max(sx, 1))
                    whole += w
                    if 0 <= y < 9 and 0 <= x < 7 and valid[y, x]:
                        total, weight = total + w * pixels[y, x, 0], weight + w
            assert enough[i, j] == (weight >= 0.5 * whole)
            if enough[i, j]:
                assert out[i, j, 0] == pytest.approx(total / weight, rel=1e-5)


def test_without_a_mask_the_middle_is_pillows_antialiased_bilinear() -> None:
    pixels = noise(90, 120)

    out, _ = resampled(pixels, None, middle(90, 120), 30, 30)

    expected = np.asarray(
        Image.fromarray(pixels[..., 0]).resize((30, 30), Image.Resampling.BILINEAR, box=(15, 0, 105, 90))
    )
    np.testing.assert_allclose(out[1:-1, 1:-1, 0], expected[1:-1, 1:-1], atol=1e-2)


def test_beyond_the_image_there_is_no_data() -> None:
    out, enough = resampled(noise(10, 10), None, around_middle(10, 10, 20, 20, "gsd"), 20, 20)

    assert enough[5:15, 5:15].all()
    assert enough.sum() == 100
    np.testing.assert_array_equal(out[5:15, 5:15], noise(10, 10))


@pytest.mark.parametrize("box", [(0.0, 0.0, 40.0, 50.0), (5.0, 0.0, 45.0, 40.0), (-10.0, 3.3, 30.0, 43.3)])
def test_an_image_without_a_hole_gives_the_same_with_a_mask_and_without(box: Box) -> None:
    pixels = np.random.default_rng(0).normal(100, 20, (40, 50, 3)).astype(np.float32)
    before = pixels.copy()

    plain, everywhere = resampled(pixels, None, box, 20, 24)
    everywhere_before = everywhere.copy()
    everywhere[:] = False  # what a caller does with its own copy changes no later answer
    masked, known = resampled(pixels, np.ones((40, 50), bool), box, 20, 24)
    again, _ = resampled(pixels, None, box, 20, 24)

    assert plain.tobytes() == masked.tobytes() == again.tobytes()
    assert np.array_equal(known, everywhere_before)
    assert np.array_equal(pixels, before)


def test_a_grid_that_is_the_images_own_gives_its_pixels_as_they_are() -> None:
    pixels, valid = noise(30, 40, 2), np.ones((30, 40), bool)
    valid[3:9, 4] = False
    pixels[~valid] = np.nan

    out, known = resampled(pixels, valid, (0, 0, 30, 40), 30, 40)
    shifted, there = resampled(pixels, valid, (0, 1e-9, 30, 40 + 1e-9), 30, 40)  # by the weights

    assert np.array_equal(known, valid)
    assert np.array_equal(there, valid)
    assert np.array_equal(out[valid], pixels[valid])
    assert (out[~valid] == 0).all()
    np.testing.assert_allclose(shifted, out, rtol=1e-6)


def test_a_scale_at_which_the_image_is_lost_in_the_square_is_refused() -> None:
    message = (
        r"the image of 100 x 200 pixels would fill 5\.0% of the prepared square, which is 1000 x 400 of them; at least"
        r" 10% are needed\. Lower 'preprocess\.spacing', or set 'spacing: null'"
    )

    with pytest.raises(DataError, match=message):
        around_middle(100, 200, 1000, 400, "spacing")
    assert around_middle(100, 200, 500, 400, "spacing") == (-200, -100, 300, 300)  # a tenth
