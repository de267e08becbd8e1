"""The class of each pixel: scores by class, worst images first with both outlines, images to label first."""

from isthmus.report.masks.report import MaskReport


class Report(MaskReport):
    """Of masks of one image."""
