"""The class of each pixel."""

from isthmus.evaluation.mask_guards import MaskGuards


class Guards(MaskGuards):
    """Of masks of one image."""
