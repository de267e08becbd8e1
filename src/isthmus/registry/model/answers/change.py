"""What changed between two images of one place: columns `image` and `image_b`, the later one."""

from typing import ClassVar

from isthmus.registry.model.mask_answers import MaskAnswers


class Answers(MaskAnswers):
    """One mask a pair of images."""

    inputs: ClassVar[tuple[str, ...]] = ("image", "image_b")
