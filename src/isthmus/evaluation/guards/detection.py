"""Boxes around objects: rows are cells, as for masks, and most of them are background."""

from typing import ClassVar

from isthmus.evaluation.mask_guards import MaskGuards


class Guards(MaskGuards):
    """Of the cells' classes."""

    average: ClassVar[tuple[str, ...]] = ("domain_randomisation",)
