import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
nibabel = pytest.importorskip("nibabel")

from isthmus.core.errors import DataError  # noqa: E402
from isthmus.core.files import write_text  # noqa: E402
from isthmus.data.audit.summary import Bad  # noqa: E402
from isthmus.data.ingest.scan import Row, read_image_facts  # noqa: E402
from isthmus.data.ingest.table import Found  # noqa: E402
from isthmus.data.ingest.tables import IngestConfig, ingest  # noqa: E402
from isthmus.data.ingest.volumes import Volumes, volumes  # noqa: E402
from isthmus.data.pairs import medical  # noqa: E402
from isthmus.data.pairs.medical import COUNTS, Config  # noqa: E402
from isthmus.data.simulate.chest import SCANNERS  # noqa: E402
from isthmus.data.slices import VolumeConfig  # noqa: E402
from tests.raw_folders import scenario  # noqa: E402

SEED = 1  # with which every split gets a series of the simulated pair
BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests"


def found_in(raw: Path, paths: list[Path]) -> Volumes:
    rows: list[Row] = []
    for path in sorted(paths):
        result = read_image_facts(raw, Found(path.relative_to(raw).as_posix(), "ct_a", None, "one", None))
        assert not isinstance(result, Bad), result
        rows += result
    return volumes(rows, VolumeConfig(), raw)


@pytest.fixture
def shuffled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two series of each simulated scanner, 12 slices a series, under names that say nothing of their order."""
    monkeypatch.setattr(medical, "PATIENTS", 2)
    monkeypatch.setattr(medical, "COUNTS", {name: dict.fromkeys(counts, 6) for name, counts in COUNTS.items()})
    small = {name: dataclasses.replace(scanner, side=32) for name, scanner in SCANNERS.items()}
    monkeypatch.setattr(medical, "SCANNERS", small)
    Config().build().write(tmp_path / "raw", 0)
    rng = np.random.default_rng(0)
    for domain in SCANNERS:
        files = sorted((tmp_path / "raw" / domain).rglob("*.dcm"))
        for path, number in zip(files, rng.permutation(len(files)), strict=True):
            patient = path.name.partition("_")[0]
            path.rename(path.with_name(f"{patient}_img-{number:04d}x.dcm"))
    return tmp_path / "raw"


def test_a_series_is_ordered_by_position_whatever_its_files_are_called(shuffled: Path) -> None:
    done = found_in(shuffled, list((shuffled / "ct_a").rglob("*.dcm")))

    assert done.counts() == {"volumes": 2, "slices": 24, "taken": 24}
    for volume in done.rows:
        headers = [pydicom.dcmread(shuffled / row.found.path) for row in volume]
        assert len({header.SeriesInstanceUID for header in headers}) == 1
        numbers = [int(header.InstanceNumber) for header in headers]
        assert numbers == sorted(numbers)
        assert [row.found.path for row in volume] != sorted(row.found.path for row in volume)


def test_pydicoms_own_series_reads_as_one_volume_in_the_order_of_its_positions(tmp_path: Path) -> None:
    folder = tmp_path / "CT5N"
    shutil.copytree(BUNDLED / "98892001" / "CT5N", folder)
    files = {float(pydicom.dcmread(p).ImagePositionPatient[2]): p.name for p in folder.iterdir()}

    (volume,) = found_in(tmp_path, list(folder.iterdir())).rows

    assert [row.found.path for row in volume] == [f"CT5N/{files[z]}" for z in sorted(files)]


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("77654033/CT2", "1 gaps, the first of 202 mm after -99.48 mm"),
        ("98892001/CT2N", "the slices of the series are not parallel"),
    ],
)
def test_pydicoms_series_that_are_no_volumes_are_refused_whole_with_the_reason(folder: str, reason: str) -> None:
    paths = list((BUNDLED / folder).iterdir())

    done = found_in(BUNDLED, paths)

    assert not done.rows
    assert {bad.path for bad in done.bad} == {p.relative_to(BUNDLED).as_posix() for p in paths}
    assert all(reason in bad.reason for bad in done.bad)


def test_one_missing_slice_refuses_its_series_and_no_other(shuffled: Path) -> None:
    paths = {int(pydicom.dcmread(p).InstanceNumber): p for p in (shuffled / "ct_a").rglob("*.dcm")}

    done = found_in(shuffled, [path for number, path in paths.items() if number != 4])

    assert [len(volume) for volume in done.rows] == [12]
    assert len(done.bad) == 11
    assert "missing or broken: 1 gaps, the first of 4 mm after 2 mm, where 2 mm are usual" in done.bad[0].reason


def test_two_slices_at_one_place_refuse_their_series_but_a_copied_file_does_not(shuffled: Path) -> None:
    paths = {int(pydicom.dcmread(p).InstanceNumber): p for p in (shuffled / "ct_a").rglob("*.dcm")}
    shutil.copy(paths[2], paths[2].with_name("patient-00_img-copy.dcm"))
    other = pydicom.dcmread(paths[3])
    other.ImagePositionPatient = pydicom.dcmread(paths[5]).ImagePositionPatient
    other.save_as(paths[3])

    done = found_in(shuffled, list((shuffled / "ct_a").rglob("*.dcm")))

    assert [len(volume) for volume in done.rows] == [13]
    assert {bad.reason for bad in done.bad} == {
        "no volume: 1 of the 12 slices of the series have the position of another slice"
    }


def test_slices_of_two_sizes_are_no_volume(shuffled: Path) -> None:
    paths = {int(pydicom.dcmread(p).InstanceNumber): p for p in (shuffled / "ct_a").rglob("*.dcm")}
    header = pydicom.dcmread(paths[0])
    header.PixelData, header.Rows = header.PixelData[: len(header.PixelData) // 2], header.Rows // 2
    header.save_as(paths[0])

    done = found_in(shuffled, list((shuffled / "ct_a").rglob("*.dcm")))

    assert {bad.reason for bad in done.bad} == {"no volume: the slices of the series have 2 different sizes"}


def test_a_file_without_a_place_is_refused_beside_volumes_and_alone_it_stops_the_run(shuffled: Path) -> None:
    paths = {int(pydicom.dcmread(p).InstanceNumber): p for p in (shuffled / "ct_a").rglob("*.dcm")}
    header = pydicom.dcmread(paths[22])
    del header.ImagePositionPatient
    header.save_as(paths[22])

    done = found_in(shuffled, list((shuffled / "ct_a").rglob("*.dcm")))

    assert [b.reason for b in done.bad] == ["states no position in a series, which 'volumes' of the scenario needs"]
    with pytest.raises(DataError, match="no file states a position in a series.*Remove 'volumes'"):
        found_in(shuffled, [paths[22]])


def test_the_slices_of_a_nifti_file_are_a_volume(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(8, 9, 5)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1, 1, 2.5, 1])), tmp_path / "a.nii")

    (volume,) = found_in(tmp_path, [tmp_path / "a.nii"]).rows

    assert [row.part for row in volume] == ["0", "1", "2", "3", "4"]


def test_ingest_takes_the_wanted_slices_and_keeps_a_series_in_one_group_and_without_its_uid(
    shuffled: Path, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    write_text(key, "0123456789abcdef")
    options = {
        "kind": "medical",
        "source": ["ct_a"],
        "target": "ct_b",
        "classes": ["normal", "nodule", "emphysema", "effusion"],
        "preprocess": {},
    }
    for path in shuffled.rglob("*.dcm"):  # 12 series of 2 slices a scanner, so that every split has one; a patient each
        header = pydicom.dcmread(path)
        header.SeriesInstanceUID = f"{header.SeriesInstanceUID[:50]}.{int(header.InstanceNumber) % 12}"
        header.PatientID = f"{header.PatientID}-{path.name}"
        header.save_as(path)

    shares = {"source": {"train": 0.4, "val": 0.2, "cal": 0.2, "test": 0.2}}
    config = IngestConfig.model_validate(
        {"identity_key": key, "workers": 1, "near_duplicates": 0, "max_bad_share": 0, "splits": shares}
    )
    one = ingest(shuffled, scenario(**options, volumes={}), config, SEED)
    middle = ingest(shuffled, scenario(**options, volumes={"most": 1}), config, SEED)

    assert one.audit["volumes"] == {"volumes": 24, "slices": 48, "taken": 48}
    assert one.audit["groups"] == {"ct_a": 12, "ct_b": 12}
    assert middle.audit["volumes"] == {"volumes": 24, "slices": 48, "taken": 24}
    assert set(middle.manifest["image_id"]) < set(one.manifest["image_id"])
    uid = str(pydicom.dcmread(next(shuffled.rglob("*.dcm"))).SeriesInstanceUID)
    assert uid not in one.manifest.to_json() + str(one.audit)
