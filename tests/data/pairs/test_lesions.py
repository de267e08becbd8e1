from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pydicom")

from isthmus.data.pairs import lesions
from isthmus.data.pairs.lesions import Config
from isthmus.data.readers.dicom import FileReader
from isthmus.data.simulate.chest import SCANNERS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first slice of each fifth patient, or so, of both scanners: some with lesions, some without."""
    made = tmp_path_factory.mktemp("lesions")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lesions, "SLICES", 12)
        Config().build().write(made, 0)
    return made


def test_a_mask_shows_where_the_lung_is_as_dense_as_soft_tissue(folder: Path) -> None:
    for name, scanner in SCANNERS.items():
        inside = []
        for path in sorted((folder / name / "images").iterdir()):
            pixels = FileReader().read(path, "").pixels[..., 0]
            mask = np.asarray(Image.open(folder / name / "masks" / f"{path.stem}.png"))
            assert mask.shape == pixels.shape == (scanner.side, scanner.side)
            assert set(np.unique(mask)) <= {0, 1}
            if mask.any():
                assert 0.0005 < mask.mean() < 0.05
                inside.append(np.median(pixels[mask == 1]))
        assert np.median(inside) == pytest.approx(35, abs=40)


def test_one_slice_in_five_has_no_lesion_and_every_patient_has_slices_with_lesions() -> None:
    jobs = lesions._jobs("ct_a")

    with_lesions = Counter(patient for _, label, patient, _ in jobs if label == "nodule")

    assert len(jobs) == 60
    assert sum(with_lesions.values()) == 48
    assert len(with_lesions) == lesions.PATIENTS and min(with_lesions.values()) >= 2


def test_no_identifier_is_shared_with_the_pair_of_the_same_scanners(folder: Path) -> None:
    import pydicom

    files = [pydicom.dcmread(path) for path in folder.rglob("*.dcm")]

    assert all(file.PatientID.startswith("SIM-lesions_ct_") for file in files)
    assert len({file.SOPInstanceUID for file in files}) == len(files) == 24
