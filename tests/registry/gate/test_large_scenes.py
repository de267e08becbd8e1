"""Files that `ingest` took under raised bounds are scored too; what else a model is given keeps the default ones."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

from isthmus.core.errors import DataError
from isthmus.core.files import sha256_file
from isthmus.data.bounds import DEFAULT, TooManyPixelsError
from isthmus.data.manifest import COMPANIONS, LOCATIONS, write_table
from isthmus.data.masks import MaskConfig
from isthmus.data.preprocess import tiling
from isthmus.registry.gate import score
from isthmus.registry.gate.answered_boxes import AnsweredBoxes
from isthmus.registry.gate.answered_masks import AnsweredMasks
from isthmus.registry.gate.scorer import _examples, _latency
from isthmus.registry.lineage.lineage import Lineage
from isthmus.registry.model.mask_text import as_text
from isthmus.registry.model.raw_images import decode
from tests.dense_folders import dense

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


def evaluated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Lineage, pd.DataFrame]:
    """Returns two tiles of one scene and its later image, as `ingest` lists them, and the bytes that are hashed."""
    for name in ("a.png", "b.png"):
        Pillow.new("L", (4, 8)).save(folder / name)
    ids, sha256 = ["x", "y"], sha256_file(folder / "a.png")
    images = pd.DataFrame({"image_id": ids, "sha256": sha256, "part": TILES[:2], "domain": "line_b"})
    places = pd.DataFrame({"image_id": ids, "path": "a.png", "part": TILES[:2]})
    beside = pd.DataFrame({"image_id": ids, "mask": "", "mask_sha256": "", "boxes": "", "second": "b.png"})
    write_table(folder / "locations.parquet", places, LOCATIONS)
    write_table(folder / "companions.parquet", beside.assign(second_sha256=sha256), COMPANIONS)
    command = "x --locations locations.parquet --companions companions.parquet end"
    monkeypatch.setattr(score, "scenario_of", lambda lineage: dense(task="change"))
    return Lineage(folder, "demo", {"ingest@demo": {"cmd": command}}, "", ("", ""), "", ""), images


def test_a_scene_is_hashed_once_for_all_its_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lineage, images = evaluated(tmp_path, monkeypatch)
    hashed: list[Path] = []
    monkeypatch.setattr(score, "sha256_file", lambda path: hashed.append(path) or sha256_file(path))

    assert score.raw_files(lineage, images) == [tmp_path / "a.png"] * 2
    assert hashed == [tmp_path / "a.png"]


def test_a_model_that_is_given_a_tile_does_not_hash_its_scene(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "sha256_file", lambda path: pytest.fail("hashed"))

    assert decode((scene, TILES[1])).pixels.max() == 1


def test_a_later_image_that_was_changed_is_named_before_a_model_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lineage, images = evaluated(tmp_path, monkeypatch)
    store = SimpleNamespace(uri="sqlite:///mlflow.db")
    files = score._job(lineage, images, store)["files"]  # type: ignore[arg-type] # stand-ins
    (tmp_path / "b.png").write_bytes(b"other")

    assert [file[3] for file in files] == [str(tmp_path / "b.png")] * 2
    with pytest.raises(DataError, match=r"2 of 2 raw images are missing or changed \(first: image x\)"):
        score._job(lineage, images, store)  # type: ignore[arg-type] # stand-ins


@pytest.mark.parametrize("truth", [AnsweredBoxes([], []), None])
def test_a_champion_of_another_task_did_not_answer_and_is_no_crash(truth: AnsweredBoxes | None) -> None:
    told = score._other_task({"mask": "string", "share_crack": "double"}, truth)

    assert told.startswith("it is of another task: it answers mask, share_crack, and no '")
    assert not score._other_task({"boxes": "string"}, AnsweredBoxes([], []))
    assert not score._other_task({"class": "string", "probability_crack": "double"}, None)


def test_each_image_is_timed_as_one_of_its_own_domain(scene: Path) -> None:
    asked = []
    model = SimpleNamespace(predict=lambda images, params: asked.append(params))

    _latency(model, [[str(scene), "", "line_a"], [str(scene), "", "line_b"]], knows_domains=True)
    _latency(model, [[str(scene), "", "line_a"]], knows_domains=False)

    assert [params and params["domain"] for params in asked] == ["line_a", "line_a", "line_b", None, None]


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
