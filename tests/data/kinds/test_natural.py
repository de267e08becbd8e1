import numpy as np
import pytest

from isthmus.core.config import validated
from isthmus.core.errors import ConfigError
from isthmus.data.image import Image
from isthmus.data.kinds.natural import Config, Natural


def test_the_short_side_is_resized_and_the_centre_kept() -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 20:60] = (10, 200, 30)

    found = Natural(20, 3).prepare(Image(pixels, "rgb"), {})

    assert found.shape == (20, 20, 3)
    assert np.abs(found[:, 2:-2].astype(int) - (10, 200, 30)).max() <= 1


def test_deep_images_take_the_range_of_their_domains_training_images() -> None:
    image = Image(np.linspace(1000, 5000, 400).astype(np.uint16).reshape(20, 20, 1), "grey")
    kind = Natural(20, 1)

    found = kind.prepare(image, kind.fit([image]))

    assert (found.min(), found.max()) == (0, 255)
    assert abs(float(found.mean()) - 127.5) < 1


def test_two_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"preprocess\.channels: Input should be 1 or 3"):
        validated(Config, {"channels": 2}, "preprocess.")
