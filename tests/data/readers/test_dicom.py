import importlib.util
import json
import warnings
from pathlib import Path

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")

from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut  # noqa: E402
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MultiFrameTrueColorSecondaryCaptureImageStorage  # noqa: E402

from isthmus.core.errors import DataError  # noqa: E402
from isthmus.data.audit.near_duplicates import small_picture  # noqa: E402
from isthmus.data.audit.pixel_facts import pixel_facts  # noqa: E402
from isthmus.data.bounds import Bounds  # noqa: E402
from isthmus.data.formats import dicom_facts  # noqa: E402
from isthmus.data.kinds.medical import Medical  # noqa: E402
from isthmus.data.readers import dicom as module  # noqa: E402
from isthmus.data.readers import reader_for  # noqa: E402
from isthmus.data.readers.dicom import FileReader  # noqa: E402

ROOT = Path(pydicom.__file__).parent / "data"
BUNDLED = sorted(p for p in ROOT.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc"))
if found := importlib.util.find_spec("nibabel"):  # its tests carry DICOM of three more scanners
    BUNDLED += sorted(Path(str(found.origin)).parent.rglob("*.dcm"))
KEY = b"0123456789abcdef"


def write(path: Path, pixels: np.ndarray, **tags: object) -> Path:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
    dataset.Modality, dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "CT", "MONOCHROME2", 1
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, int(pixels.dtype.kind == "i")
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path


def as_pydicom_reads(path: Path, part: str) -> np.ndarray:
    dataset = pydicom.dcmread(path)
    values = dataset.pixel_array
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        values = values[int(part)]
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        return apply_color_lut(values, dataset)
    if "DoseGridScaling" in dataset:
        return values * float(dataset.DoseGridScaling)
    return apply_modality_lut(values, dataset)


@pytest.mark.parametrize("path", BUNDLED, ids=lambda p: "/".join(p.parts[-4:]))
def test_a_bundled_file_reads_as_pydicom_reads_it_or_is_refused_where_pydicom_fails(path: Path) -> None:
    reader = FileReader()
    try:
        parts = reader.parts(path)
        found = [reader.read(path, part) for part in parts]
    except DataError as error:
        assert str(error)
        with warnings.catch_warnings(), pytest.raises(Exception) as caught:
            warnings.simplefilter("ignore")
            _ = pydicom.dcmread(path).pixel_array
        assert not isinstance(caught.value, MemoryError)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for part, image in zip(parts, found, strict=True):
            expected = as_pydicom_reads(path, part)
            got = image.pixels[..., 0] if image.pixels.shape[2] == 1 else image.pixels
            np.testing.assert_allclose(got, expected, rtol=1e-6)
            assert image.pixels.dtype.isnative
            json.dumps(image.facts)


def test_enough_of_the_bundled_files_are_read_and_none_crashes() -> None:
    read = 0
    for path in BUNDLED:
        try:
            read += bool(FileReader().parts(path))
        except DataError:
            continue

    assert read > 90


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("MR_truncated.dcm", r"^file is truncated \(8130 of 8192 bytes of pixels\)$"),
        ("MR_small_jpeg_ls_lossless.dcm", "^pixels are 'JPEG-LS Lossless.*: pip install pylibjpeg pylibjpeg-libjpeg$"),
        ("JPGExtended.dcm", "^pixels are 'JPEG Extended .*no installed package decodes: pip install pylibjpeg"),
        ("rtplan.dcm", "^holds no image: RT Plan Storage$"),
        ("waveform_ecg.dcm", "^holds no image: 12-lead ECG Waveform Storage$"),
        ("no_meta.dcm", "^not a DICOM file: the marker 'DICM' at byte 128 is missing$"),
        ("nested_priv_SQ.dcm", "^header lacks Rows, Columns, BitsAllocated"),
        ("README.txt", "^content is text, not a DICOM file$"),
        ("badVR.dcm", r"^cannot be decoded \(ValueError\)$"),
    ],
)
def test_a_bundled_file_that_cannot_be_read_is_refused_with_its_true_reason(name: str, reason: str) -> None:
    reader, path = FileReader(), ROOT / "test_files" / name

    with pytest.raises(DataError, match=reason):
        reader.read(path, reader.parts(path)[0])


def test_slope_and_intercept_give_hounsfield_units_of_signed_pixels(tmp_path: Path) -> None:
    stored = np.array([[-5, 0], [100, 3000]], np.int16)
    path = write(tmp_path / "a.dcm", stored, RescaleSlope="0.5", RescaleIntercept="-1000", RescaleType="HU")

    image = FileReader().read(path, "")

    assert image.mode == "hu"
    assert image.pixels.dtype == np.float32
    assert image.pixels[..., 0].tolist() == [[-1002.5, -1000.0], [-950.0, 500.0]]


def test_pixels_without_slope_keep_their_own_dtype_and_are_not_called_hounsfield(tmp_path: Path) -> None:
    image = FileReader().read(write(tmp_path / "a.dcm", np.array([[-5, 7]], np.int16)), "")

    assert (image.mode, image.pixels.dtype) == ("grey", np.int16)
    assert image.pixels[..., 0].tolist() == [[-5, 7]]


def test_window_and_inversion_are_facts_and_are_not_applied(tmp_path: Path) -> None:
    stored = np.array([[0, 4095]], np.uint16)
    path = write(
        tmp_path / "a.dcm", stored, PhotometricInterpretation="MONOCHROME1", WindowCenter="40", WindowWidth="400"
    )

    image = FileReader().read(path, "")

    assert image.pixels[..., 0].tolist() == [[0, 4095]]
    assert image.facts["monochrome1"] is True
    assert (image.facts["window"], image.facts["window_function"]) == ([40.0, 400.0], "LINEAR")


def test_each_frame_of_an_enhanced_file_takes_its_own_slope_and_spacing(tmp_path: Path) -> None:
    frames = []
    for slope, spacing in (("1", 0.5), ("2", 0.7)):
        transform, measures, one = Dataset(), Dataset(), Dataset()
        transform.RescaleSlope, transform.RescaleIntercept, transform.RescaleType = slope, "-10", "HU"
        measures.PixelSpacing = [spacing, spacing]
        one.PixelValueTransformationSequence, one.PixelMeasuresSequence = [transform], [measures]
        frames.append(one)
    stored = np.full((2, 2, 2), 100, np.uint16)
    path = write(tmp_path / "a.dcm", stored, NumberOfFrames="2", PerFrameFunctionalGroupsSequence=frames)

    first, second = (FileReader().read(path, part) for part in FileReader().parts(path))

    assert (first.pixels.max(), second.pixels.max()) == (90, 190)
    assert (first.facts["pixel_spacing_mm"], second.facts["pixel_spacing_mm"]) == ([0.5, 0.5], [0.7, 0.7])


def test_no_tag_outside_the_list_survives_into_facts(tmp_path: Path) -> None:
    secret, tags = "QUINCE", {}
    for keyword in ("PatientName", "PatientID", "InstitutionName", "StudyDescription", "ImageComments", "ProtocolName",
                    "OperatorsName", "AccessionNumber", "DeviceSerialNumber", "WindowCenterWidthExplanation",
                    "Modality", "RescaleType", "VOILUTFunction", "ConversionType"):  # fmt: skip
        tags[keyword] = secret
    tags |= {"StudyInstanceUID": "1.2.840.99", "PatientBirthDate": "19700101", "StudyDate": "20200202"}
    tags |= {"PixelSpacing": [0.5, 0.5], "WindowCenter": "40", "WindowWidth": "400", "RescaleSlope": "1",
             "RescaleIntercept": "-1024", "SliceThickness": "2"}  # fmt: skip

    facts = FileReader().read(write(tmp_path / "a.dcm", np.zeros((2, 2), np.uint16), **tags), "").facts

    allowed = {"burned_in", "monochrome1", "modality", "secondary_capture", "pixel_spacing_mm", "spacing_at"}
    allowed |= {"slice_thickness_mm", "bits_stored", "plane", "window", "window_function", "voi_lut"}
    assert set(facts) <= allowed
    text = json.dumps(facts)
    assert all(word not in text for word in (secret, "1.2.840", "1970", "2020"))


def test_the_list_of_tags_that_are_looked_at_is_this_one() -> None:
    assert sorted(dicom_facts.SURVIVES) == [
        "BitsStored", "BurnedInAnnotation", "ConversionType", "DoseGridScaling", "ImageOrientationPatient",
        "ImagePositionPatient", "ImagerPixelSpacing", "Modality", "NominalScannedPixelSpacing",
        "PhotometricInterpretation", "PixelPaddingRangeLimit", "PixelPaddingValue", "PixelRepresentation",
        "PixelSpacing", "PresentationLUTShape", "RescaleIntercept", "RescaleSlope", "RescaleType", "SliceThickness",
        "VOILUTFunction", "VOILUTSequence", "WindowCenter", "WindowWidth",
    ]  # fmt: skip


def test_facts_of_the_bundled_files_hold_no_text_but_the_closed_lists() -> None:
    texts = set()
    for path in BUNDLED:
        try:
            facts = FileReader().read(path, FileReader().parts(path)[0]).facts
        except DataError:
            continue
        texts |= {value for value in facts.values() if isinstance(value, str)}

    words = dicom_facts._MODALITIES | {"yes", "no", "unknown", "patient", "detector", "axial", "coronal", "sagittal"}
    assert texts <= words | {"LINEAR", "LINEAR_EXACT", "SIGMOID"}


def test_a_person_is_a_keyed_hash_of_the_patient_and_of_the_study_where_the_patient_is_a_placeholder(
    tmp_path: Path,
) -> None:
    zeros, reader = np.zeros((2, 2), np.uint16), FileReader()
    one = write(tmp_path / "1.dcm", zeros, PatientID="A17", StudyInstanceUID="1.2.1")
    two = write(tmp_path / "2.dcm", zeros, PatientID="A17 ", StudyInstanceUID="1.2.2")
    empty = write(tmp_path / "3.dcm", zeros, PatientID="", StudyInstanceUID="1.2.3")
    masked = write(tmp_path / "4.dcm", zeros, PatientID="anonymous", StudyInstanceUID="1.2.4")
    nobody = write(tmp_path / "5.dcm", zeros)

    hashes = [reader.person(path, KEY) for path in (one, two, empty, masked)]

    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3
    assert reader.person(one, b"another key 1234") != hashes[0]
    assert reader.person(nobody, None) is None
    assert all(h and "A17" not in h for h in hashes)


def test_a_file_that_names_a_person_is_refused_without_a_key(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", np.zeros((2, 2), np.uint16), PatientID="A17")

    with pytest.raises(DataError, match=r"names a patient or study.*'ingest\.identity_key'") as caught:
        FileReader().person(path, None)

    assert "A17" not in str(caught.value)


def test_a_file_without_a_known_suffix_is_known_by_its_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "1.2.840.113", np.zeros((2, 2), np.uint16))

    assert isinstance(reader_for(path), FileReader)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"Rows": 60000, "Columns": 60000}, r"too many pixels \(60000 x 60000 = 3600000000\)"),
        ({"Rows": 5000, "Columns": 5000}, r"file is truncated \(8 of 50000000 bytes of pixels\)"),
        ({"NumberOfFrames": "2000000000"}, r"file is truncated \(8 of 16000000000 bytes"),
        ({"NumberOfFrames": "-1"}, "declares no pixels"),
        ({"Rows": 0}, "declares no pixels"),
    ],
)
def test_declared_sizes_are_held_against_what_is_there(tags: dict[str, object], reason: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", np.zeros((2, 2), np.uint16), **tags)

    with pytest.raises(DataError, match=reason):
        FileReader().parts(path)


def test_many_packed_frames_in_few_bytes_are_refused(tmp_path: Path) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import RLELossless

    path = write(tmp_path / "a.dcm", np.zeros((2, 2), np.uint16), NumberOfFrames="300", Rows=4000, Columns=4000)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.PixelData = encapsulate([bytes(64)] * 300)
    dataset.save_as(path)

    with pytest.raises(DataError, match="too many pixels for its size: [0-9]+ bytes decode to 9600000000"):
        FileReader().parts(path)
    with pytest.raises(DataError, match="300 images in one file; the limit is 299"):
        FileReader().parts(path, Bounds(max_images=299, max_expansion=10**9))


def test_a_file_larger_than_the_memory_for_one_decoding_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", np.zeros((200, 200), np.uint16))

    with pytest.raises(DataError, match="too large to decode.*bytes at once"):
        FileReader().parts(path, Bounds(max_decoded_bytes=50_000))


@pytest.mark.parametrize(
    ("dtype", "stored_bits", "padding", "limit", "where"),
    [
        ("int16", 16, -2000, None, [-2000]),
        ("int16", 16, 63536, None, [-2000]),  # the same two bytes, written as unsigned
        ("uint16", 16, 63536, None, [63536]),
        ("uint16", 16, -2000, None, [63536]),  # and the other way round
        ("uint16", 12, 63536, None, [2096]),  # in more bits than are stored
        ("int16", 12, 63536, None, [-2000]),
        ("int16", 16, -2000, -1500, [-2000, -1800, -1500]),
        ("int16", 16, 64036, 63536, [-2000, -1800, -1500]),  # as unsigned and the higher one first
        ("uint16", 12, 4095, 4090, [4095, 4092]),
        ("uint16", 12, 0, None, [0]),
        ("uint16", 12, 4096, None, []),  # no pixel can hold it
    ],
)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_no_data_whichever_sign_the_header_gives_it(
    dtype: str, stored_bits: int, padding: int, limit: int | None, where: list[int], photometric: str, tmp_path: Path
) -> None:
    pixels = np.array([[*where, 7, 1000]], np.int64).astype(dtype)
    path = write(
        tmp_path / "a.dcm", pixels, BitsStored=stored_bits, HighBit=stored_bits - 1, RescaleSlope="2",
        RescaleIntercept="-10", RescaleType="HU", PhotometricInterpretation=photometric,
    )  # fmt: skip
    dataset = pydicom.dcmread(path)
    dataset.add_new("PixelPaddingValue", "SS" if padding < 0 else "US", padding)
    if limit is not None:
        dataset.add_new("PixelPaddingRangeLimit", "SS" if limit < 0 else "US", limit)
    dataset.save_as(path)

    image = FileReader().read(path, "")

    expected = [False] * len(where) + [True, True]
    assert (np.ones((1, 2), bool) if image.valid is None else image.valid).tolist() == [expected]
    assert image.pixels[0, -1, 0] == 1990


def test_padding_is_neither_black_nor_counted_when_a_ct_is_prepared(tmp_path: Path) -> None:
    stored = np.full((40, 40), 1024, np.int16)
    y, x = np.indices(stored.shape) - 19.5
    stored[np.hypot(y, x) > 18] = -2000
    path = write(
        tmp_path / "a.dcm",
        stored,
        RescaleSlope="1",
        RescaleIntercept="-1024",
        RescaleType="HU",
        PixelPaddingValue=-2000,
    )

    image = FileReader().read(path, "")

    kind = Medical(40, 1, "range")
    assert kind.fit([image])["range"]["float32"] == [0.0, 0.0]
    assert small_picture(image)[8, 8, 0] == 0 and small_picture(image)[0, 0, 0] == 0
    assert pixel_facts(image).constant


def test_a_deflated_bomb_is_refused_before_it_is_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_INFLATED_LIMIT", 1000)

    with pytest.raises(DataError, match="inflates to more than 1000 bytes; refused"):
        FileReader().parts(ROOT / "test_files" / "image_dfl.dcm")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_RLE.dcm", "SC_rgb_jpeg_dcmtk.dcm", "examples_jpeg2k.dcm"])
def test_a_cut_file_is_refused(name: str, share: float, tmp_path: Path) -> None:
    data = (ROOT / "test_files" / name).read_bytes()
    (tmp_path / "a.dcm").write_bytes(data[: int(len(data) * share)])

    with pytest.raises(DataError, match="truncated|decoded|no image|lacks"):
        for part in FileReader().parts(tmp_path / "a.dcm"):
            FileReader().read(tmp_path / "a.dcm", part)


def test_mutated_files_are_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = np.frombuffer((ROOT / "test_files" / "CT_small.dcm").read_bytes(), np.uint8)
    path = tmp_path / "a.dcm"
    for _ in range(100):
        mutated = data.copy()
        module._parsed.cache_clear()
        places = rng.integers(128, 3000, rng.integers(1, 20))
        mutated[places] = rng.integers(0, 256, len(places))
        path.write_bytes(mutated.tobytes())
        try:
            for part in FileReader().parts(path)[:2]:
                FileReader().read(path, part)
        except DataError as error:
            assert str(error)


def test_a_colour_sop_class_is_known(tmp_path: Path) -> None:
    stored = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    path = write(
        tmp_path / "a.dcm", stored, SOPClassUID=MultiFrameTrueColorSecondaryCaptureImageStorage, SamplesPerPixel=3,
        PhotometricInterpretation="RGB", PlanarConfiguration=0, NumberOfFrames="2", Rows=2, Columns=2,
        ConversionType="WSD",
    )  # fmt: skip

    image = FileReader().read(path, "1")

    assert np.array_equal(image.pixels, stored[1])
    assert (image.mode, image.facts["secondary_capture"]) == ("rgb", True)


def test_a_file_of_many_frames_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    path, reads = ROOT / "test_files" / "examples_ybr_color.dcm", []
    plain = pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda given: reads.append(given) or plain(given))
    module._parsed.cache_clear()

    for part in FileReader().parts(path):
        FileReader().read(path, part)

    assert len(reads) == 1


@pytest.mark.timeout(60)
def test_a_jpeg_2000_box_without_length_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(ROOT / "test_files" / "MR_small_jp2klossless.dcm")
    frame = b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(64)
    dataset.PixelData = pydicom.encaps.encapsulate([frame])
    dataset.save_as(tmp_path / "a.dcm")

    with pytest.raises(DataError, match="pixels are damaged: JPEG 2000 box of no length at byte 12 of the frame"):
        FileReader().read(tmp_path / "a.dcm", "")
