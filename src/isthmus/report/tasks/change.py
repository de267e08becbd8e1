"""What changed between two images of one place: as of segmentation, with both dates shown."""

from isthmus.report.masks.report import MaskReport


class Report(MaskReport):
    """Of masks of two images."""
