"""Windows over images of any size: what is answered where a scene, or one of its dates, has no data."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from isthmus.core.errors import DataError
from isthmus.data.image import Image
from isthmus.data.kinds.remote_sensing import Config
from isthmus.data.tiles import Tiles
from isthmus.registry.model.windows import windows_of

SIDE = 16


def parts() -> Any:
    """Returns the part of a model that windows need: tiles of 16 pixels, images with data in a tenth at least."""
    kind = Config.model_validate({"image_size": SIDE, "channels": 3}).build()
    numbers = {"low": [0.0] * 3, "median": [100.0] * 3, "high": [255.0] * 3}
    fitted = {"line_b": {"uint8": numbers}}
    return SimpleNamespace(kind=kind, fitted=fitted, tiles=Tiles(size=SIDE), spec={"whole_frame": False})


def scene(valid: np.ndarray | None) -> Image:
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE, 2 * SIDE, 3)).astype(np.uint8)
    return Image(pixels, "rgb", valid=valid)


def rim() -> np.ndarray:
    valid = np.ones((SIDE, 2 * SIDE), np.bool_)
    valid[:, SIDE - 2 :] = False
    return valid


def test_windows_at_the_rim_of_a_scene_that_hold_no_data_are_left_out_and_the_others_are_answered() -> None:
    whole, cut = (windows_of(parts(), [scene(valid)], "line_b") for valid in (None, rim()))

    assert [box.left for box in whole.boxes] == [0, 12, 16]
    assert [box.left for box in cut.boxes] == [0, 12]
    assert len(cut.pixels) == len(cut.squares) == 2


def test_a_scene_without_data_is_refused_with_the_reason() -> None:
    with pytest.raises(DataError, match=r"0\.0% of the image has data; 'preprocess\.min_valid' requires 10\.0%"):
        windows_of(parts(), [scene(np.zeros((SIDE, 2 * SIDE), np.bool_))], "line_b")


def test_where_one_of_two_dates_has_no_data_there_is_no_answer() -> None:
    found = windows_of(parts(), [scene(None), scene(rim())], "line_b")

    assert found.valid is not None
    np.testing.assert_array_equal(found.valid, rim())
