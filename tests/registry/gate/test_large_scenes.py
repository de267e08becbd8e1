"""Files that `ingest` took under raised bounds are scored too; what else a model is given keeps the default ones."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

from isthmus.core.errors import DataError
from isthmus.core.files import sha256_file
from isthmus.data.bounds import DEFAULT, TooManyPixelsError
from isthmus.data.masks import MaskConfig
from isthmus.registry.gate.answered_masks import AnsweredMasks
from isthmus.registry.gate.scorer import _examples
from isthmus.registry.model.mask_text import as_text
from isthmus.registry.model.raw_images import decode

SIDE = 9500  # [pixel]
CLASSES = ["ground", "crack"]
TILES = ["@0-0-4-4", "@0-4-4-4", "@4-0-4-4"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert DEFAULT.max_pixels < SIDE**2
    path = tmp_path_factory.mktemp("scene") / "a.png"
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels[:4, 4:8] = 1
    Pillow.fromarray(pixels).save(path, compress_level=1)
    return path


def masks(scene: Path) -> AnsweredMasks:
    images = pd.DataFrame({"image_id": ["x", "y", "z"], "part": TILES, "label": 0, "mask": scene.name})
    return AnsweredMasks(scene.parent, images.assign(mask_sha256=sha256_file(scene)), MaskConfig(), CLASSES)


def answered(folder: Path) -> Path:
    blank = as_text(np.zeros((4, 4), np.uint8))
    pd.DataFrame({"image_id": ["x", "y", "z"], "sha256": "0", "mask": blank}).to_parquet(folder / "a.parquet")
    return folder / "a.parquet"


def test_the_mask_of_a_scene_above_the_default_bounds_is_decoded_once_for_all_its_tiles(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    read = MaskConfig.read
    monkeypatch.setattr(MaskConfig, "read", lambda *given: decoded.append(given) or read(*given))
    path = answered(tmp_path)

    masks(scene).count(path, CLASSES)

    assert [list(row) for row in pd.read_parquet(path)["counts"]] == [[16, 0, 0, 0], [0, 0, 16, 0], [16, 0, 0, 0]]
    assert len(decoded) == 1


def test_a_mask_that_is_missing_or_changed_is_refused(tmp_path: Path) -> None:
    Pillow.new("L", (8, 8)).save(tmp_path / "b.png")
    given = masks(tmp_path / "b.png")
    for change in (lambda path: path.write_bytes(b"other"), Path.unlink):
        change(tmp_path / "b.png")

        with pytest.raises(
            DataError, match=r"the mask of image x is missing or changed\. Restore it with 'dvc checkout'"
        ):
            given.count(answered(tmp_path), CLASSES)


def test_an_image_of_the_evaluation_set_above_the_default_bounds_is_decoded_and_a_file_of_a_stranger_is_not(
    scene: Path,
) -> None:
    examples = _examples([[str(scene), "", "line_b", str(scene)]])

    for column in ("image", "image_b"):
        assert decode(examples[column][0]).pixels.shape == (SIDE, SIDE, 1)
    for given in (scene, scene.read_bytes()):
        with pytest.raises(TooManyPixelsError, match=r"too many pixels \(9500 x 9500"):
            decode(given)
