"""What changed between two images of one place."""

from typing import ClassVar

from isthmus.evaluation.mask_guards import MaskGuards


class Guards(MaskGuards):
    """Of masks of two images."""

    average: ClassVar[tuple[str, ...]] = ("source_only", "domain_randomisation")  # docs/decisions/0047
