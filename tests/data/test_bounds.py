"""What one file may hold: refused by its size and header, before anything is decoded."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isthmus.core.config import validated
from isthmus.core.errors import ConfigError
from isthmus.data.audit.summary import Bad
from isthmus.data.bounds import Bounds
from isthmus.data.ingest.scan import Row, read_image_facts
from isthmus.data.ingest.table import Found
from isthmus.data.ingest.tables import IngestConfig
from isthmus.stages import ingest
from tests.hostile_files import declared_raster, packed_nifti, sparse
from tests.raw_folders import scenario, write_raw
from tests.registry.hostile_requests import png_of
from tests.stages.test_ingest import outputs

SECONDS = 5  # [s] of processor time for a file that is refused; each took minutes before there were bounds


def facts_of(path: Path, bounds: Bounds | None = None) -> list[Row] | Bad:
    found = Found(path.name, "d", None, "one", None)
    return read_image_facts(path.parent, found, bounds=bounds or Bounds())


def reason(path: Path, bounds: Bounds | None = None) -> str:
    start = time.process_time()
    result = facts_of(path, bounds)
    assert time.process_time() - start < SECONDS
    assert isinstance(result, Bad)
    assert path.stem not in result.reason
    return result.reason


def test_a_file_is_refused_by_its_size_and_a_sparse_one_by_what_it_declares(tmp_path: Path) -> None:
    path = tmp_path / "secret.tif"
    path.write_bytes(b"II*\0" + bytes(4096))

    assert reason(path, Bounds(max_bytes=4099)) == (
        "file of 4100 bytes is too large; the limit is 4099 ('ingest.files.max_bytes' in params.yaml)"
    )
    sparse(path)
    assert reason(path) == "sparse file: refused (30.0 GB declared, 0.000 GB on the disk)"


def test_a_packed_volume_of_two_megabytes_that_holds_two_gigabytes_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    path = tmp_path / "secret.nii.gz"
    packed_nifti(path, 1024, 1024, 1024)

    assert reason(path).startswith("too many pixels for its size: 20")


@pytest.mark.parametrize("side", [20_000, 200_000])
def test_a_raster_of_a_few_hundred_bytes_is_refused_whatever_it_declares(side: int, tmp_path: Path) -> None:
    pytest.importorskip("rasterio")
    path = tmp_path / "secret.tif"
    declared_raster(path, side)
    assert path.stat().st_size < 2_000

    assert reason(path).startswith("too many pixels for its size")


def test_a_picture_whose_packed_pixels_are_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(png_of(30_000, 30_000, 3))

    assert reason(path).startswith("too many pixels (30000 x 30000 = 900000000); the limit is 89478485 (")


def test_a_file_of_more_images_than_allowed_is_refused(tmp_path: Path) -> None:
    pages = [Image.new("L", (8, 8), value) for value in range(6)]
    path = tmp_path / "secret.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])

    assert reason(path, Bounds(max_images=5)) == (
        "6 images in one file; the limit is 5 ('ingest.files.max_images' in params.yaml)"
    )
    assert len(facts_of(path)) == 6


def test_ingest_holds_files_against_the_users_own_bounds_and_goes_on(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    Image.fromarray(np.zeros((60, 60), np.uint8)).save(raw / "line_a" / "good" / "large.png")
    config = IngestConfig(workers=1, files={"max_pixels": 1000})

    ingest.run(
        ingest.Params(scenario=scenario(), ingest=config, seed=0),
        raw=raw,
        **outputs(tmp_path),
    )

    (bad,) = json.loads((tmp_path / "quarantine.json").read_text())
    assert bad["path"] == "line_a/good/large.png"
    assert bad["reason"].startswith("too many pixels (3600); the limit is 1000 ('ingest.files.max_pixels'")


def test_a_bound_that_allows_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"ingest\.files\.max_pixels.*greater than or equal to 1"):
        validated(IngestConfig, {"files": {"max_pixels": 0}}, "params.yaml: ingest.")


def test_what_files_do_not_say_is_counted_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nibabel = pytest.importorskip("nibabel")
    raw, rng = tmp_path / "raw", np.random.default_rng(0)
    for domain in ("line_a", "line_b"):
        for name in ("crack", "good"):
            (raw / domain / name).mkdir(parents=True)
            for number in range(12):
                image = nibabel.Nifti1Image(rng.normal(size=(9, 9, 2)).astype(np.float32), np.diag([2, 2, 5, 1]))
                image.header.set_xyzt_units("mm" if domain == "line_b" else "unknown")
                image.to_filename(raw / domain / name / f"{number}.nii.gz")
    config = IngestConfig(workers=1, near_duplicates=0)

    ingest.run(
        ingest.Params(scenario=scenario(kind="medical", preprocess={}), ingest=config, seed=0),
        raw=raw,
        **outputs(tmp_path),
    )

    note = "no unit of length is stated: assumed to be mm"
    assert json.loads((tmp_path / "audit.json").read_text())["assumed"] == {note: {"line_a": 24}}
    assert f"ingest: {note} (line_a 24 files)" in capsys.readouterr().err
