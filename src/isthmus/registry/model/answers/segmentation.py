"""The class of each pixel of an image."""

from isthmus.registry.model.mask_answers import MaskAnswers


class Answers(MaskAnswers):
    """One mask an image."""
