"""Medical images: window in [HU] or the file's own, polarity, one [mm/pixel], stain normalisation of microscopy.

Order: burned-in annotation, stain or window (`imaging.dicom_window`), inversion, resampling, channels. Statistics (the
range of images without a window, stains) are of a domain's training images alone.
Text that was burned into the pixels may name the patient: an image that says so, or of a modality that carries such
text and says nothing, is refused, and nothing is fitted on it. MONAI's `ScaleIntensityRange` and `Spacing` are what the
tests compare with and are not used: their import quadruples the memory of each worker, and `Spacing` skips pixels when
it shrinks an image (docs/decisions/0024-monai.md).
"""

from collections.abc import Iterable
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from isthmus.core.errors import DataError
from isthmus.data.image import Image
from isthmus.data.imaging.dicom_window import looked_up, window
from isthmus.data.imaging.pixels import DepthFit, as_seen, to_eight_bit, with_channels
from isthmus.data.imaging.resample import around_middle, middle, resampled
from isthmus.data.imaging.stain import StainFit, normalised
from isthmus.data.kinds import Fitted, Kind, KindConfig

# Modalities whose devices write text into the image itself (DICOM PS3.15, E.3.1, Clean Pixel Data Option).
_CARRIES_TEXT = {"US", "IVUS", "SC", "XC", "ES", "GM", "OP", "OT", "RF", "XA", "ECG", "DG"}
Width = Annotated[float, Field(gt=0)]


class Config(KindConfig):
    """Options of medical images."""

    channels: Literal[1, 3] = Field(3, description="1: grey; 3: RGB, grey images repeated")
    window: Literal["file", "range"] | tuple[float, Width] = Field(
        "file",
        description="[centre, width] in [HU]; 'file': the image's own window, where it has none as 'range'; 'range': "
        "0.5 % to 99.5 % quantile of the domain's training images, 8-bit ones as they are",
    )
    values: Literal["stated", "hu"] = Field(
        "stated",
        description="'hu': grey values are Hounsfield units also where the file does not say so, as NIfTI never does",
    )
    spacing: float | None = Field(
        None,
        gt=0,
        le=100,
        description="[mm/pixel] to which all images are resampled, then cropped or padded; none: resized",
    )
    stain: Literal["none", "reinhard", "macenko"] = Field(
        "none", description="stain normalisation of RGB microscopy, fitted per domain on training images"
    )
    burned_in: Literal["refuse", "allow"] = Field(
        "refuse", description="images with burned-in annotation, or of a modality that carries it and does not say"
    )

    def build(self) -> "Medical":
        """Returns the kind with these options."""
        return Medical(
            self.image_size, self.channels, self.window, self.spacing, self.stain, self.burned_in, self.values
        )


class Medical(Kind):
    """Prepares medical images; uint8 `[image_size, image_size, channels]`."""

    def __init__(
        self,
        image_size: int,
        channels: int,
        window: str | tuple[float, float] = "file",
        spacing: float | None = None,
        stain: str = "none",
        burned_in: str = "refuse",
        values: str = "stated",
    ) -> None:
        self.image_size = image_size
        self.channels = channels
        self.window = window
        self.spacing = spacing
        self.stain = stain
        self.burned_in = burned_in
        self.values = values

    def fit(self, images: Iterable[Image]) -> Fitted:
        """Returns `range` of deep images without a set window, and `stain` of RGB ones where `stain` is set."""
        depth, stain = DepthFit(), StainFit(self.stain)
        seen = (as_seen(image) for image in images if not self._refusal(image))
        for image in depth.watch(image for image in seen if self._set_window(image.pixels.shape[2]) is None):
            if self.stain != "none" and _is_eight_bit_rgb(image):
                stain.add(image.pixels / 255.0)
        ranges = depth.ranges()
        fitted: Fitted = {"range": ranges} if ranges else {}
        return fitted | ({"stain": stain.fitted()} if self.stain != "none" else {})

    def learns_from(self, dtype: str, channels: int) -> bool:
        """Returns whether such images are looked at: all for stains, else deep ones without a set window."""
        return self.stain != "none" or (dtype != "uint8" and self._set_window(channels) is None)

    def prepare(self, image: Image, fitted: Fitted) -> NDArray[np.uint8]:
        """Returns the prepared image, uint8 `[image_size, image_size, channels]`."""
        if refusal := self._refusal(image):
            raise DataError(refusal)
        image = as_seen(image)
        if image.valid is not None and not image.valid.any():
            raise DataError("no pixel of the image has data")
        if self.stain != "none" and _is_eight_bit_rgb(image):
            unit = normalised(image.pixels / 255.0, self.stain, fitted["stain"])
        else:
            unit = self._windowed(image, fitted)
        # Hounsfield units say which end is air; MONOCHROME1 only makes a viewer show them as a negative
        if image.facts.get("monochrome1") and not self._in_hounsfield(image):
            unit = 1 - unit
        side = self.image_size
        out, _ = resampled(unit.astype(np.float32), image.valid, self.box(image), side, side)  # beyond the image: black
        return with_channels(np.rint(np.clip(out, 0, 1) * 255).astype(np.uint8), self.channels)

    def box(self, image: Image) -> tuple[float, float, float, float]:
        """Returns the middle, or what `spacing` makes fill the square; see `Kind`."""
        height, width = image.pixels.shape[:2]
        if self.spacing is None:
            return middle(height, width)
        tall, wide = (self.image_size * self.spacing / mm for mm in _spacing(image))
        return around_middle(height, width, tall, wide, "spacing")

    def _refusal(self, image: Image) -> str:
        said, modality = image.facts.get("burned_in"), image.facts.get("modality")
        if self.burned_in == "allow" or said in (None, "no"):
            return ""
        if said == "yes":
            return "burned-in annotation: yes, by its tag; the pixels may name a patient"
        if modality in _CARRIES_TEXT or image.facts.get("secondary_capture"):
            named = modality if modality in _CARRIES_TEXT else "a secondary capture"
            return f"burned-in annotation: not stated, and {named} may carry it; the pixels may name a patient"
        return ""

    def _in_hounsfield(self, image: Image) -> bool:
        return image.mode == "hu" or (self.values == "hu" and image.mode == "grey")

    def _set_window(self, channels: int) -> tuple[float, float] | None:
        return self.window if channels == 1 and isinstance(self.window, tuple) else None

    def _windowed(self, image: Image, fitted: Fitted) -> NDArray[np.float64]:
        """Returns values in [0, 1] `[H, W, C]`."""
        if (centre_and_width := self._set_window(image.pixels.shape[2])) is not None:
            if not self._in_hounsfield(image):
                raise DataError(
                    "not in Hounsfield units, which 'preprocess.window' is in. Set 'values: hu' if the values are in"
                    " them, as in a CT that was saved as NIfTI; else 'window: file' or 'range'"
                )
            return window(image.pixels, *centre_and_width, "LINEAR_EXACT")
        if image.pixels.shape[2] == 1 and self.window == "file":
            if table := image.facts.get("voi_lut"):
                return looked_up(image.pixels, table)
            if found := image.facts.get("window"):
                return window(image.pixels, found[0], found[1], image.facts["window_function"])
        return to_eight_bit(image.pixels, fitted.get("range", {}), image.valid) / 255.0


def _is_eight_bit_rgb(image: Image) -> bool:
    return image.pixels.shape[2] == 3 and image.pixels.dtype == np.uint8


def _spacing(image: Image) -> list[float]:
    found: list[float] | None = image.facts.get("pixel_spacing_mm")
    if found is None:
        raise DataError("file does not state its pixel spacing, which 'preprocess.spacing' needs. Set 'spacing: null'")
    return found
