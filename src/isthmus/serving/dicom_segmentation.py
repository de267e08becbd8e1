"""Masks of a DICOM image as a DICOM segmentation (PS3.3, A.51): a binary segment for each class but the first.

It belongs to the patient and study of the image, and refers to it by its UIDs; so it identifies a person as the image
does. Segments of one model on one series are of one series. By pydicom alone: highdicom is not among the dependencies.
What a class is in anatomy is not known here: its code is a private one, with the class's name as its meaning.
"""

import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isthmus import __version__
from isthmus.core.files import atomic_file
from isthmus.data.formats.dicom_facts import group, numbers
from isthmus.data.masks import Mask
from isthmus.registry.publish.model_reference import Address

if TYPE_CHECKING:
    from pydicom import Dataset

_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_PATIENT_AND_STUDY = (  # of type 1 or 2: there, if empty; but for the two first identifiers
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime",
    "ReferringPhysicianName", "StudyID", "AccessionNumber",
)  # fmt: skip
_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_PRIVATE = "99ISTHMUS"  # scheme of codes; PS3.3, 8.2: those of one's own begin with 99
_LONGEST = 64  # characters of a label or meaning (LO)


def write_segmentation(
    masks: Mapping[str, Mask], image: Path, to: Path, classes: Sequence[str], address: Address
) -> Path | None:
    """Writes a segmentation, and returns its path; None where the image lacks the UIDs that one refers to.

    Args:
        masks: frame of the image, from 0, or empty for the only one -> uint8 `[H, W]`, places in `classes`.
        image: the DICOM file.
        to: path of the file.
        classes: the first is the background.
        address: the model that answered.
    """
    from pydicom import dcmread

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # header values of the image that pydicom finds odd are handed on as they are
        source = dcmread(image, stop_before_pixels=True)
        if not all(source.get(name) for name in _NEEDED):
            return None
        made = _head(source, address)
        made.SegmentSequence = [_segment(number, name, address) for number, name in enumerate(classes[1:], 1)]
        _add_frames(made, source, masks, len(classes) - 1)
        with atomic_file(to) as partial:
            made.save_as(partial, enforce_file_format=True)
    return to


def _head(source: Any, address: Address) -> "Dataset":
    """Returns everything but segments and frames."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage, generate_uid

    made, now = Dataset(), datetime.now().astimezone()
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = SegmentationStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SpecificCharacterSet = "ISO_IR 192"
    for name in _PATIENT_AND_STUDY:
        setattr(made, name, source.get(name, ""))
    made.Modality, made.SeriesNumber, made.InstanceNumber = "SEG", 1, source.get("InstanceNumber") or 1
    # the same for all images of a series and one model: viewers list a series once
    made.SeriesInstanceUID = generate_uid(entropy_srcs=[source.SeriesInstanceUID, address.model_id])
    made.SeriesDescription = f"Segmentation by {address.model}"[:_LONGEST]
    if source.get("FrameOfReferenceUID"):
        made.FrameOfReferenceUID, made.PositionReferenceIndicator = source.FrameOfReferenceUID, ""
    made.Manufacturer, made.ManufacturerModelName = "Isthmus", address.model[:_LONGEST]
    made.DeviceSerialNumber, made.SoftwareVersions = address.version[:_LONGEST], __version__
    made.ContentDate, made.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    made.ImageType, made.LossyImageCompression = ["DERIVED", "PRIMARY"], "00"
    for name in _LOSSY:  # what was lossy once stays so, also where something else is derived of it (PS3.3, C.7.6.1.1.5)
        if source.get(name):
            setattr(made, name, source[name].value)
    made.SegmentationType, made.ContentLabel, made.ContentDescription = "BINARY", "PREDICTION", ""
    made.ContentCreatorName = ""
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 0
    made.BitsAllocated, made.BitsStored, made.HighBit = 1, 1, 0
    return made


def _segment(number: int, name: str, address: Address) -> "Dataset":
    from pydicom import Dataset

    segment = Dataset()
    segment.SegmentNumber, segment.SegmentLabel = number, name[:_LONGEST]
    segment.SegmentAlgorithmType, segment.SegmentAlgorithmName = "AUTOMATIC", address.model[:_LONGEST]
    segment.SegmentedPropertyCategoryCodeSequence = [_code("CLASS", _PRIVATE, "Class of a model")]
    segment.SegmentedPropertyTypeCodeSequence = [_code(f"CLASS{number}", _PRIVATE, name[:_LONGEST])]
    return segment


def _add_frames(made: Any, source: Any, masks: Mapping[str, Mask], segments: int) -> None:
    """Adds pixels and the functional groups that say what each frame is: a segment of a frame of the image."""
    from pydicom import Dataset
    from pydicom.datadict import tag_for_keyword
    from pydicom.pixels.utils import pack_bits
    from pydicom.uid import generate_uid

    organisation, instance, shared = Dataset(), Dataset(), Dataset()
    organisation.DimensionOrganizationUID = generate_uid()
    made.DimensionOrganizationSequence, made.DimensionIndexSequence = [organisation], []
    for pointer, of in (
        ("ReferencedSegmentNumber", "SegmentIdentificationSequence"), ("InStackPositionNumber", "FrameContentSequence")
    ):  # fmt: skip
        index = Dataset()
        index.DimensionOrganizationUID = organisation.DimensionOrganizationUID
        index.DimensionIndexPointer, index.FunctionalGroupPointer = tag_for_keyword(pointer), tag_for_keyword(of)
        made.DimensionIndexSequence.append(index)
    instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    series = Dataset()
    series.SeriesInstanceUID, series.ReferencedInstanceSequence = source.SeriesInstanceUID, [instance]
    made.ReferencedSeriesSequence = [series]

    frames = [int(part or 0) for part in masks]
    _add_geometry(shared, source, frames[0])
    made.SharedFunctionalGroupsSequence = [shared]
    made.PerFrameFunctionalGroupsSequence = [
        _frame(source, segment, position, frame, several=len(frames) > 1)
        for segment in range(1, segments + 1)
        for position, frame in enumerate(frames, 1)
    ]
    pixels = np.stack([mask == segment for segment in range(1, segments + 1) for mask in masks.values()])
    made.NumberOfFrames, made.Rows, made.Columns = pixels.shape
    made.PixelData = pack_bits(pixels.astype(np.uint8))


def _add_geometry(shared: "Dataset", source: Any, frame: int) -> None:
    """Adds pixel size and orientation, as far as the image states them."""
    from pydicom import Dataset

    measures, plane = group(source, frame, "PixelMeasuresSequence"), group(source, frame, "PlaneOrientationSequence")
    spacing = numbers(source if measures is None else measures, "PixelSpacing")
    thickness = numbers(source if measures is None else measures, "SliceThickness")
    cosines = numbers(source if plane is None else plane, "ImageOrientationPatient")
    if len(spacing) == 2:
        made = Dataset()
        made.PixelSpacing = spacing
        if thickness:
            made.SliceThickness = thickness[0]
        shared.PixelMeasuresSequence = [made]
    if len(cosines) == 6:
        made = Dataset()
        made.ImageOrientationPatient = cosines
        shared.PlaneOrientationSequence = [made]


def _frame(source: Any, segment: int, position: int, frame: int, *, several: bool) -> "Dataset":
    from pydicom import Dataset

    made, content, of, image, derivation = (Dataset() for _ in range(5))
    content.DimensionIndexValues, content.StackID, content.InStackPositionNumber = [segment, position], "1", position
    of.ReferencedSegmentNumber = segment
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    if several:
        image.ReferencedFrameNumber = frame + 1
    image.PurposeOfReferenceCodeSequence = [_code("121322", "DCM", "Source image for image processing operation")]
    derivation.SourceImageSequence = [image]
    derivation.DerivationCodeSequence = [_code("113076", "DCM", "Segmentation")]
    made.FrameContentSequence, made.SegmentIdentificationSequence = [content], [of]
    made.DerivationImageSequence = [derivation]
    own = group(source, frame, "PlanePositionSequence")
    of_image = None if several else source  # the position of an image of several frames is that of the first
    if len(place := numbers(of_image if own is None else own, "ImagePositionPatient")) == 3:
        where = Dataset()
        where.ImagePositionPatient = place
        made.PlanePositionSequence = [where]
    return made


def _code(value: str, scheme: str, meaning: str) -> "Dataset":
    from pydicom import Dataset

    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code
