import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from isthmus.core.errors import ConfigError, DataError
from isthmus.data.audit.summary import Bad
from isthmus.data.ingest.identity import read_key
from isthmus.data.ingest.scan import read_image_facts
from isthmus.data.ingest.table import Found
from isthmus.data.ingest.tables import IngestConfig
from isthmus.data.manifest import MANIFEST, read_table
from isthmus.stages import ingest
from tests.raw_folders import CLASSES, scenario


def write_dicom(path: Path, rng: np.random.Generator, patient: str, study: str) -> None:
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = pydicom.uid.CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
    dataset.PatientID, dataset.StudyInstanceUID, dataset.Modality = patient, study, "CT"
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel, dataset.PixelRepresentation = "MONOCHROME2", 1, 0
    dataset.Rows = dataset.Columns = 8
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelData = rng.integers(0, 4096, (8, 8)).astype(np.uint16).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def raw_dicoms(folder: Path, patients: int = 60) -> Path:
    rng = np.random.default_rng(0)
    for domain in ("line_a", "line_b"):
        for patient in range(patients):
            for k, name in enumerate(CLASSES):
                # the odd patients are anonymous: their two images share a study instead
                number = f"{domain}-QUINCE{patient}" if patient % 2 == 0 else "ANONYMOUS"
                file = folder / domain / name / f"{patient}-{k}.dcm"
                write_dicom(file, rng, number, f"1.2.{len(domain)}.{patient}.{ord(domain[-1])}")
    return folder


def run(raw: Path, out: Path, key: Path | None) -> pd.DataFrame:
    files = ("manifest", "locations", "companions", "labels_target", "audit", "quarantine")
    params = ingest.Params(
        scenario=scenario(kind="medical", preprocess={}), ingest=IngestConfig(identity_key=key, workers=1), seed=0
    )
    ingest.run(params, raw=raw, **{name: out / name for name in files})
    return read_table(out / "manifest", MANIFEST)


def test_the_images_of_a_patient_or_an_anonymous_study_are_one_group_under_the_key(tmp_path: Path) -> None:
    raw = raw_dicoms(tmp_path / "raw")
    (tmp_path / "key").write_bytes(b"k" * 32)

    found = run(raw, tmp_path / "out", tmp_path / "key")

    assert found.groupby("group").size().tolist() == [2] * 120
    for file in (tmp_path / "out").iterdir():
        assert b"QUINCE" not in file.read_bytes()


def test_another_key_gives_other_groups(tmp_path: Path) -> None:
    raw = raw_dicoms(tmp_path / "raw")
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(name.encode() * 16)

    groups = [set(run(raw, tmp_path / f"out {name}", tmp_path / name)["group"]) for name in ("one", "two")]

    assert not groups[0] & groups[1]


def test_without_a_key_or_a_group_files_that_name_patients_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"240 of 240 files cannot be used(.|\n)*there is no key to hash it with"
    ) as found:
        run(raw_dicoms(tmp_path / "raw"), tmp_path / "out", None)

    assert "QUINCE" not in str(found.value)


def test_a_group_that_the_user_gives_needs_no_key(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", np.random.default_rng(0), "QUINCE", "1.2")

    rows = read_image_facts(tmp_path, Found("a.dcm", "d", None, "07", None))

    assert not isinstance(rows, Bad)
    assert rows[0].person is None
    assert "QUINCE" not in json.dumps([str(r) for r in rows])


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "no such file. Create one outside git: mkdir"), (b"short", "5 bytes. Allowed: at least 16")],
)
def test_a_key_file_that_is_missing_or_short_is_refused(content: bytes | None, reason: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)

    with pytest.raises(ConfigError, match=rf"params\.yaml: ingest\.identity_key: .*{reason}"):
        read_key(tmp_path / "key")


def test_a_key_file_inside_a_repository_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "key").write_bytes(b"k" * 32)

    with pytest.raises(ConfigError, match="lies in the git repository"):
        read_key(tmp_path / "key")


def test_a_relative_key_path_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be an absolute path or begin with ~"):
        read_key(Path("key"))
