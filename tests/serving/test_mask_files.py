"""Masks beside images of medical formats: in the image's own format, read back by the libraries that define it."""

import base64
import gzip
import io
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image as Pillow
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.multival import MultiValue

from isthmus.core.errors import DataError
from isthmus.data.readers import reader_for
from isthmus.registry.model.mask_text import as_text, from_text
from isthmus.registry.publish.model_reference import Address
from isthmus.serving.mask_files import MaskFiles, replaced

CLASSES = ["background", "low", "high"]
ADDRESS = Address("isthmus-chest", "3", "m-1")
OBLIQUE = np.array([[0.1, -2.0, 0.3, 5], [1.5, 0.1, 0.0, -7], [0.1, 0.2, -4.0, 9], [0, 0, 0, 1]])


def classes_of(pixels: np.ndarray) -> np.ndarray:
    """Returns a mask that depends on the values alone, so that it can be had of a file's voxels as well."""
    return np.digitize(pixels, [np.float32(0.4), np.float32(0.7)]).astype(np.uint8)


def answered(image: Path) -> dict[str, str]:
    """Returns the mask of each part of a file, as a model answers it."""
    reader = reader_for(image)
    return {part: as_text(classes_of(reader.read(image, part).pixels[..., 0])) for part in reader.parts(image)}


@pytest.mark.parametrize("shape", [(7, 6, 5), (7, 6, 5, 2), (7, 6), (7, 6, 1)], ids=str)
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan.img"])
def test_the_masks_of_a_nifti_files_slices_are_one_file_with_its_voxels_and_affine(
    name: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    kind = nibabel.Nifti1Pair if name.endswith(".img") else nibabel.Nifti2Image if "gz" in name else nibabel.Nifti1Image
    image = kind(values, OBLIQUE)
    image.header.set_xyzt_units("mm", "sec")
    image.set_qform(np.diag([-3.0, 3, 3, 1]), 1)
    image.to_filename(tmp_path / name)

    path = MaskFiles(tmp_path / "masks", ADDRESS, CLASSES).write(tmp_path / name, answered(tmp_path / name), True)

    assert path.name == {"scan.img": "scan.img.nii"}.get(name, f"{name}.{name.partition('.')[2]}")
    found, like = nibabel.load(path), nibabel.load(tmp_path / name)
    np.testing.assert_array_equal(np.asarray(found.dataobj), classes_of(values))
    assert found.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(found.affine, like.affine)
    for form in ("get_sform", "get_qform"):
        (one, code), (other, same) = getattr(found, form)(coded=True), getattr(like, form)(coded=True)
        np.testing.assert_allclose(one, other, atol=1e-6)
        assert code == same > 0
    assert found.header.get_zooms() == like.header.get_zooms()
    assert found.header.get_xyzt_units() == ("mm", "sec")
    again = reader_for(path)
    for part, mask in answered(tmp_path / name).items():  # as a companion of the image it is its mask
        np.testing.assert_array_equal(again.numbers(path, part)[..., 0], from_text(mask))


def test_slices_that_were_not_answered_are_255_and_the_same_answer_is_the_same_bytes(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 4, 3), np.int16), np.eye(4))
    image.to_filename(tmp_path / "scan.nii.gz")
    some = {"1": as_text(np.ones((4, 4), np.uint8))}

    files = MaskFiles(tmp_path / "masks", ADDRESS, CLASSES)
    one, two = (files.write(tmp_path / "scan.nii.gz", some, True) for _ in range(2))

    assert one != two
    assert gzip.decompress(one.read_bytes()) == gzip.decompress(two.read_bytes())
    found = np.asarray(nibabel.load(one).dataobj)
    assert (found[..., 1] == 1).all()
    assert (found[..., [0, 2]] == 255).all()


# PS3.3, A.51 and the modules it names: attributes of type 1, which must have a value, and of type 2, which may be empty
FILLED = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "Modality", "SeriesInstanceUID", "SeriesNumber",
    "FrameOfReferenceUID", "Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions",
    "InstanceNumber", "ContentDate", "ContentTime", "ImageType", "SamplesPerPixel", "PhotometricInterpretation",
    "Rows", "Columns", "BitsAllocated", "BitsStored", "NumberOfFrames", "LossyImageCompression",
    "SegmentationType", "ContentLabel", "SegmentSequence", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "DimensionOrganizationSequence", "DimensionIndexSequence",
    "ReferencedSeriesSequence", "PixelData",
)  # fmt: skip
THERE = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "ReferringPhysicianName", "StudyID", "AccessionNumber", "PositionReferenceIndicator", "ContentDescription",
    "ContentCreatorName", "HighBit", "PixelRepresentation",
)  # fmt: skip


def test_a_segmentation_of_a_dicom_image_has_what_the_standard_requires_and_reads_back(tmp_path: Path) -> None:
    image = Path(str(get_testdata_file("CT_small.dcm", download=False)))
    source = dcmread(image)
    mask = np.digitize(source.pixel_array, [200, 1000]).astype(np.uint8)
    mask[:3] = 255

    path = MaskFiles(tmp_path, ADDRESS, CLASSES).write(image, {"": as_text(mask)}, True)

    found = dcmread(path)
    assert path.name == "CT_small.dcm.dcm"
    assert found.file_meta.MediaStorageSOPClassUID == found.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4"
    assert [name for name in FILLED if not str(found.get(name, "")).strip("[]")] == []
    assert [name for name in THERE if name not in found] == []
    np.testing.assert_array_equal(found.pixel_array, np.stack([mask == 1, mask == 2]))
    for name in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName", "Rows", "Columns"):
        assert found[name].value == source[name].value
    assert [segment.SegmentLabel for segment in found.SegmentSequence] == ["low", "high"]
    shared = found.SharedFunctionalGroupsSequence[0]
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == list(source.PixelSpacing)
    orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    assert list(orientation) == list(source.ImageOrientationPatient)
    for number, frame in enumerate(found.PerFrameFunctionalGroupsSequence, 1):
        assert frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number
        assert list(frame.PlanePositionSequence[0].ImagePositionPatient) == list(source.ImagePositionPatient)
        of = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert (of.ReferencedSOPInstanceUID, "ReferencedFrameNumber" in of) == (source.SOPInstanceUID, False)
        values = frame.FrameContentSequence[0].DimensionIndexValues
        assert len(values) == len(found.DimensionIndexSequence)
    assert lengths_of_text(found) == []


def lengths_of_text(dataset: Dataset) -> list[str]:
    """Returns the short texts that are longer than their kind allows (PS3.5, table 6.2-1)."""
    most = {"CS": 16, "LO": 64, "SH": 16, "UI": 64, "DA": 8}
    wrong = []
    for element in dataset.iterall():
        several = element.value if isinstance(element.value, MultiValue) else [element.value]
        wrong += [element.keyword for value in several if len(str(value)) > most.get(element.VR, 10**6)]
    return wrong


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # of pydicom's own file
def test_a_segmentation_of_several_frames_names_the_frame_of_each_and_claims_no_wrong_place(tmp_path: Path) -> None:
    image = Path(str(get_testdata_file("rtdose.dcm", download=False)))
    reader = reader_for(image)
    masks = {part: np.full((10, 10), int(part) % 3, np.uint8) for part in reader.parts(image)}
    assert len(masks) == 15

    path = MaskFiles(tmp_path, ADDRESS, CLASSES).write(image, {part: as_text(m) for part, m in masks.items()}, True)

    found = dcmread(path)
    assert found.NumberOfFrames == 30
    stack = np.stack([*masks.values()])
    np.testing.assert_array_equal(found.pixel_array, np.concatenate([stack == 1, stack == 2]))
    frames = found.PerFrameFunctionalGroupsSequence
    assert [f.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber for f in frames[15:]] == [
        *range(1, 16)
    ]
    assert not any("PlanePositionSequence" in frame for frame in frames)  # its header has that of the first alone


def test_segmentations_of_one_series_are_one_series_of_its_patient_and_each_is_an_instance_of_its_own(
    tmp_path: Path,
) -> None:
    source = dcmread(str(get_testdata_file("MR_small.dcm", download=False)))
    source.SpecificCharacterSet, source.PatientName = "ISO_IR 100", "Müller^Jörg"
    source.LossyImageCompression, source.LossyImageCompressionRatio = "01", "12.5"
    source.save_as(image := tmp_path / "image.dcm")
    text, files = as_text(np.zeros((64, 64), np.uint8)), MaskFiles(tmp_path, ADDRESS, CLASSES)

    one, two = (dcmread(files.write(image, {"": text}, True)) for _ in range(2))
    other = dcmread(MaskFiles(tmp_path, Address("m", "1", "m-2"), CLASSES).write(image, {"": text}, True))

    assert str(one.PatientName) == "Müller^Jörg"
    assert (one.LossyImageCompression, one.LossyImageCompressionRatio) == ("01", 12.5)
    assert one.SeriesInstanceUID == two.SeriesInstanceUID != other.SeriesInstanceUID
    assert one.SOPInstanceUID != two.SOPInstanceUID


def test_of_several_frames_without_uids_to_refer_to_each_is_a_png_in_a_folder(tmp_path: Path) -> None:
    image = dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
    del image.StudyInstanceUID
    image.save_as(tmp_path / "bare.dcm")
    frames = {str(n): as_text(np.full((4, 4), n, np.uint8)) for n in range(2)}
    files = MaskFiles(tmp_path / "masks", ADDRESS, CLASSES)

    folders = [files.write(tmp_path / "bare.dcm", frames, True) for _ in range(2)]

    assert [folder.name for folder in folders] == ["bare.dcm", "bare.dcm-1"]
    for folder in folders:
        assert {path.name: int(np.asarray(Pillow.open(path)).max()) for path in folder.iterdir()} == {
            "0.png": 0,
            "1.png": 1,
        }


def test_files_of_one_name_in_many_folders_are_numbered_without_a_look_at_all_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "image.png").write_bytes(base64.b64decode(as_text(np.zeros((2, 2), np.uint8))))
    mask, files = {"": as_text(np.zeros((2, 2), np.uint8))}, MaskFiles(tmp_path / "masks", ADDRESS, CLASSES)
    looked = []
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: looked.append(path) or exists(path))

    written = [files.write(tmp_path / "image.png", mask, True).name for _ in range(20)]

    assert written == ["image.png.png", *(f"image.png-{n}.png" for n in range(1, 20))]
    assert len(looked) <= 20 * 6


def test_without_uids_to_refer_to_and_for_maps_of_defects_the_answer_is_a_png(tmp_path: Path) -> None:
    image = dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
    del image.StudyInstanceUID
    image.save_as(tmp_path / "bare.dcm")
    nibabel.Nifti1Image(np.zeros((128, 128, 1), np.int16), np.eye(4)).to_filename(tmp_path / "scan.nii")
    mask = np.random.default_rng(0).integers(0, 255, (128, 128)).astype(np.uint8)
    files = MaskFiles(tmp_path / "masks", ADDRESS, CLASSES)

    written = [
        files.write(tmp_path / name, {"": as_text(mask)}, name == "bare.dcm") for name in ("bare.dcm", "scan.nii")
    ]

    assert [path.name for path in written] == ["bare.dcm.png", "scan.nii.png"]
    for path in written:
        np.testing.assert_array_equal(np.asarray(Pillow.open(io.BytesIO(path.read_bytes()))), mask)
        assert path.read_bytes() == base64.b64decode(as_text(mask))


def test_masks_of_a_later_prediction_replace_those_of_an_earlier_one_as_a_whole(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        (tmp_path / name).write_bytes(base64.b64decode(as_text(np.zeros((2, 2), np.uint8))))
    folder, mask = tmp_path / "masks", {"": as_text(np.zeros((2, 2), np.uint8))}

    with replaced(folder, ADDRESS, CLASSES) as write:
        assert [write(tmp_path / name, mask, True) for name in ("one.png", "two.png")] == [
            folder / "one.png.png",
            folder / "two.png.png",
        ]
        assert not folder.exists()
    with replaced(folder, ADDRESS, CLASSES) as write:
        assert write(tmp_path / "two.png", mask, True) == folder / "two.png.png"

    assert [path.name for path in folder.iterdir()] == ["two.png.png"]


def test_without_a_mask_or_after_an_error_earlier_masks_stay(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(base64.b64decode(as_text(np.zeros((2, 2), np.uint8))))
    folder, mask = tmp_path / "masks", {"": as_text(np.zeros((2, 2), np.uint8))}
    with replaced(folder, ADDRESS, CLASSES):
        pass
    assert not folder.exists()
    folder.mkdir()
    (folder / "before.png").touch()

    with pytest.raises(DataError, match="not an image"), replaced(folder, ADDRESS, CLASSES) as write:
        write(tmp_path / "one.png", mask, True)
        raise DataError("not an image")
    with replaced(folder, ADDRESS, CLASSES):
        pass

    assert [path.name for path in tmp_path.glob("**/*.png")] == ["one.png", "before.png"]
