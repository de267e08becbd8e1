"""What may leave a DICOM header: an allow-list, each value checked, so that no name, date, UID or free text passes.

Every fact is a number, a truth value, or a word out of a closed list; nothing is copied as the file spells it.
`SURVIVES` names all tags that are looked at; DICOM PS3.15, table E.1-1, names those that identify a person.
"""

import math
from typing import Any

from isthmus.data.slices import place_of

# Keyword of each tag -> the fact it becomes.
SURVIVES = {
    "Modality": "modality",
    "PhotometricInterpretation": "monochrome1",
    "PresentationLUTShape": "monochrome1",
    "PixelSpacing": "pixel_spacing_mm",
    "ImagerPixelSpacing": "pixel_spacing_mm",
    "NominalScannedPixelSpacing": "pixel_spacing_mm",
    "SliceThickness": "slice_thickness_mm",
    "BitsStored": "bits_stored",
    "RescaleSlope": "rescale",
    "RescaleIntercept": "rescale",
    "RescaleType": "unit",
    "DoseGridScaling": "rescale",
    "WindowCenter": "window",
    "WindowWidth": "window",
    "VOILUTFunction": "window_function",
    "VOILUTSequence": "voi_lut",
    "BurnedInAnnotation": "burned_in",
    "ConversionType": "secondary_capture",
    "ImageOrientationPatient": "plane",
    "ImagePositionPatient": "slice",
    "PixelPaddingValue": "valid",
    "PixelPaddingRangeLimit": "valid",
    "PixelRepresentation": "valid",
}
# DICOM PS3.3, C.7.3.1.1.1: defined terms of Modality that images have.
_MODALITIES = {
    "AR", "BI", "BMD", "CR", "CT", "DG", "DX", "EC", "EM", "ES", "FID", "GM", "IO", "IVOCT", "IVUS", "LS",
    "MG", "MR", "NM", "OAM", "OCT", "OP", "OPM", "OPT", "OPTBSV", "OPTENF", "OT", "PA", "PT", "PX", "RF",
    "RG", "RTDOSE", "RTIMAGE", "SC", "SEG", "SM", "TG", "US", "VA", "XA", "XC",
}  # fmt: skip
_UNITS = {"HU": "HU", "US": "unspecified", "MGML": "mg/ml", "Z_EFF": "atomic number", "ED": "electron density"}
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
_GREY = ("MONOCHROME1", "MONOCHROME2")
_LARGEST_LUT = 65_536  # entries


def facts_of(dataset: Any, frame: int) -> dict[str, Any]:
    """Returns the facts of one frame; what the header does not state, or states wrongly, is left out.

    Args:
        dataset: a `pydicom.Dataset`.
        frame: its number from 0, for values that enhanced multi-frame files hold frame by frame.
    """
    facts: dict[str, Any] = {"burned_in": _burned_in(dataset), "monochrome1": _is_inverted(dataset)}
    modality = _word(dataset, "Modality")
    if modality in _MODALITIES:
        facts["modality"] = modality
    facts["secondary_capture"] = "ConversionType" in dataset
    measures = group(dataset, frame, "PixelMeasuresSequence")
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        spacing = numbers(measures, keyword) or numbers(dataset, keyword)
        if len(spacing) == 2 and min(spacing) > 0:
            facts["pixel_spacing_mm"] = spacing  # row distance, column distance
            facts["spacing_at"] = "patient" if keyword == "PixelSpacing" else "detector"
            break
    thickness = numbers(measures, "SliceThickness") or numbers(dataset, "SliceThickness")
    if len(thickness) == 1 and thickness[0] > 0:
        facts["slice_thickness_mm"] = thickness[0]
    if bits := numbers(dataset, "BitsStored"):
        facts["bits_stored"] = int(bits[0])
    if plane := _plane(dataset, frame):
        facts["plane"] = plane
    return facts | _window(dataset, frame)


def rescale(dataset: Any, frame: int) -> tuple[float, float, str]:
    """Returns slope, intercept and unit of a frame's real values: real = slope * stored + intercept.

    A CT image that states no unit is in [HU]: DICOM PS3.3, C.8.2.1.1.2, makes it the default of original images.
    """
    transform = group(dataset, frame, "PixelValueTransformationSequence")
    where = dataset if transform is None else transform
    slope, intercept = numbers(where, "RescaleSlope"), numbers(where, "RescaleIntercept")
    unit = _UNITS.get(_word(where, "RescaleType"), "")
    stated = bool(slope and intercept)
    if stated and not unit and _word(dataset, "Modality") == "CT":
        unit = "HU"
    if not stated and (dose := numbers(dataset, "DoseGridScaling")):
        return dose[0], 0.0, "dose"
    return (slope[0], intercept[0], unit) if stated else (1.0, 0.0, "")


def padding_of(dataset: Any) -> tuple[int, int] | None:
    """Returns the lowest and highest stored value that stand for no data, None where the header names none.

    DICOM PS3.3, C.7.5.1.1.2: PixelPaddingValue alone, or all from it to PixelPaddingRangeLimit, both inclusive, in
    stored values, before slope and intercept. Many scanners write them as unsigned beside signed pixels, or the other
    way round, and in more bits than are stored.
    """
    found = [numbers(dataset, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    allocated = numbers(dataset, "BitsAllocated")
    stored = numbers(dataset, "BitsStored") or allocated
    if not found[0] or not stored or _word(dataset, "PhotometricInterpretation") not in _GREY:
        return None
    signed = numbers(dataset, "PixelRepresentation") == [1.0]
    ends = [_as_stored(int(values[0]), int(allocated[0]), int(stored[0]), signed) for values in found if values]
    return min(ends), max(ends)


def _as_stored(value: int, allocated: int, stored: int, signed: bool) -> int:
    """Returns a value of two's complement as the pixels hold it, whichever sign the header gives it.

    >>> _as_stored(63536, 16, 16, True), _as_stored(-2000, 16, 16, False), _as_stored(63536, 16, 12, False)
    (-2000, 63536, 2096)
    """
    if value >= 2 ** (allocated - 1):
        value -= 2**allocated
    return value if signed or value >= 0 else value % 2**stored


def group(dataset: Any, frame: int, keyword: str) -> Any:
    """Returns one functional group of an enhanced multi-frame file, the frame's own before the shared one, or None."""
    per_frame, shared = (
        dataset.get(name) or [] for name in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
    )
    for candidate in [*per_frame[frame : frame + 1], *shared[:1]]:
        if found := candidate.get(keyword):
            return found[0]
    return None


def slice_place(dataset: Any, frame: int) -> tuple[tuple[float, float, float], float] | None:
    """Returns the normal of a frame's plane and its place along it [mm], None where the header does not state them."""
    position, plane = group(dataset, frame, "PlanePositionSequence"), group(dataset, frame, "PlaneOrientationSequence")
    origin = numbers(dataset if position is None else position, "ImagePositionPatient")
    cosines = numbers(dataset if plane is None else plane, "ImageOrientationPatient")
    return place_of(origin, cosines) if (len(origin), len(cosines)) == (3, 6) else None


def numbers(dataset: Any, keyword: str) -> list[float]:
    """Returns the finite numbers of an element, empty where it is absent, empty or no number."""
    value = None if dataset is None else dataset.get(keyword)
    if value is None or value == "":
        return []
    several = value if isinstance(value, list | tuple) or hasattr(value, "__iter__") else [value]
    if isinstance(several, str):
        several = [several]
    try:
        found = [float(v) for v in several]
    except (TypeError, ValueError):
        return []
    return found if all(map(math.isfinite, found)) else []


def _word(dataset: Any, keyword: str) -> str:
    value = dataset.get(keyword)
    return value.strip().upper() if isinstance(value, str) else ""


def _burned_in(dataset: Any) -> str:
    return {"YES": "yes", "NO": "no"}.get(_word(dataset, "BurnedInAnnotation"), "unknown")


def _is_inverted(dataset: Any) -> bool:
    inverse = _word(dataset, "PresentationLUTShape") == "INVERSE"
    kind = _word(dataset, "PhotometricInterpretation")
    return kind == "MONOCHROME1" or (kind == "MONOCHROME2" and inverse)


def _plane(dataset: Any, frame: int) -> str:
    """Returns the anatomical plane that a slice is nearest to, by its normal in the patient's coordinates."""
    where = group(dataset, frame, "PlaneOrientationSequence")
    cosines = numbers(dataset if where is None else where, "ImageOrientationPatient")
    if len(cosines) != 6:
        return ""
    a, b = cosines[:3], cosines[3:]
    normal = [abs(a[1] * b[2] - a[2] * b[1]), abs(a[2] * b[0] - a[0] * b[2]), abs(a[0] * b[1] - a[1] * b[0])]
    return ("sagittal", "coronal", "axial")[normal.index(max(normal))]


def _window(dataset: Any, frame: int) -> dict[str, Any]:
    found = group(dataset, frame, "FrameVOILUTSequence")
    where = dataset if found is None else found
    facts: dict[str, Any] = {}
    centre, width = numbers(where, "WindowCenter"), numbers(where, "WindowWidth")
    function = _word(where, "VOILUTFunction") or "LINEAR"
    if centre and width and width[0] > 0 and function in _FUNCTIONS:
        facts |= {"window": [centre[0], width[0]], "window_function": function}
    if tables := where.get("VOILUTSequence"):
        described = numbers(tables[0], "LUTDescriptor")
        values = numbers(tables[0], "LUTData")
        if len(described) == 3 and 0 < len(values) <= _LARGEST_LUT:
            facts["voi_lut"] = {"first": described[1], "bits": int(described[2]), "values": values}
    return facts
