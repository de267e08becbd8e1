"""What changed between two images of one place."""

from isthmus.evaluation.mask_guards import MaskGuards


class Guards(MaskGuards):
    """Of masks of two images."""
