import json
import pickle

import numpy as np
import pytest

from isthmus.contracts import frame
from isthmus.core import plugins
from isthmus.core.config import validated
from isthmus.core.errors import ConfigError, DataError
from isthmus.data.image import Image
from isthmus.data.kinds import Kind
from isthmus.data.masks import IGNORED, placed

NAMES = plugins.names("data.kinds")


def build(name: str, **options: object) -> Kind:
    try:
        module = plugins.load("data.kinds", name)
    except ConfigError as error:
        pytest.skip(str(error))
    kind: Kind = validated(module.Config, options, "preprocess.").build()
    return kind


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_of_a_kind_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"preprocess\.image_sise.*Did you mean 'image_size'\?"):
        build(name, image_sise=20)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_fitted_is_json_and_the_kind_travels_to_a_worker(name: str) -> None:
    kind = build(name, image_size=28)

    fitted = kind.fit([frame(1, (30, 40, 1)), frame(2, (30, 40, 1))])

    assert json.loads(json.dumps(fitted)) == fitted
    assert isinstance(pickle.loads(pickle.dumps(kind)), Kind)


@pytest.mark.parametrize("name", NAMES)
def test_every_image_of_a_kind_gets_one_shape_and_dtype_and_the_same_bytes_twice(name: str) -> None:
    kind = build(name, image_size=28)
    images = [frame(1, (30, 40, 1)), frame(2, (64, 33, 3)), frame(3, (28, 28, 1))]
    try:
        first = [kind.prepare(image, kind.fit(images)) for image in images]
    except DataError as error:
        pytest.skip(f"{name} does not take plain grey or RGB: {error}")

    second = [kind.prepare(image, kind.fit(images)) for image in images]

    assert {(a.shape, a.dtype.name) for a in first} == {((28, 28, 3), first[0].dtype.name)}
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    "options", [{}, {"flat_field": True}, {"exposure": True}, {"stain": "reinhard"}, {"window": [40, 400]}]
)
@pytest.mark.parametrize("name", NAMES)
def test_a_kind_learns_nothing_from_the_images_it_says_it_does_not_look_at(
    name: str, options: dict[str, object]
) -> None:
    if not options.keys() <= plugins.load("data.kinds", name).Config.model_fields.keys():
        return
    kind = build(name, image_size=28, **options)
    eight, sixteen = frame(1, (30, 40, 3)), frame(2, (30, 40, 3))
    sixteen = Image(sixteen.pixels.astype(np.uint16) * 100, "rgb")
    images = [eight, sixteen, Image(sixteen.pixels[..., :1], "hu")]

    seen = [image for image in images if kind.learns_from(image.pixels.dtype.name, image.pixels.shape[2])]

    assert kind.fit(seen) == kind.fit(images)
    assert kind.learns_from("float32", 3)


def blocks(height: int, width: int, facts: dict[str, object]) -> tuple[Image, np.ndarray]:
    """Returns an image of large grey blocks, and a mask of the bright ones."""
    bright = np.random.default_rng(3).random((6, 7)) < 0.5
    mask = bright[np.arange(height)[:, None] * 6 // height, np.arange(width)[None, :] * 7 // width].astype(np.uint8)
    return Image(np.repeat(mask[..., None] * np.uint8(200) + np.uint8(20), 3, axis=2), "rgb", facts), mask


PLACES: list[dict[str, object]] = [{}, {"crop": 0.8}, {"crop_mode": "squash"}, {"roi": (5, 20, 80, 60)}]
PLACES += [{"spacing": 0.7}, {"spacing": 1.5}, {"gsd": 7.0}, {"gsd": 15.0}]


@pytest.mark.parametrize("options", PLACES, ids=str)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(120, 170), (201, 90), (64, 64)])
def test_a_mask_lies_where_the_kind_shows_its_image(
    name: str, options: dict[str, object], size: tuple[int, int]
) -> None:
    if not options.keys() <= plugins.load("data.kinds", name).Config.model_fields.keys():
        return
    image, mask = blocks(*size, {"pixel_spacing_mm": [1.0, 1.2], "gsd_m": [10.0, 12.0]})
    kind = build(name, image_size=64, channels=3, **options)
    try:
        shown = kind.prepare(image, kind.fit([image]))[..., 0].astype(float)
    except DataError:
        assert "roi" in options
        return

    found = placed(mask, None, kind.box(image), 64)

    near = np.stack([np.roll(found, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)])
    inner = (near == found).all(axis=0) & (found != IGNORED)
    inner[[0, -1], :] = inner[:, [0, -1]] = False
    middle = (shown[inner & (found == 0)].mean() + shown[inner & (found == 1)].mean()) / 2
    assert inner.mean() > 0.1
    assert np.array_equal(shown[inner] > middle, found[inner] == 1)
