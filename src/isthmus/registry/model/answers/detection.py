"""Boxes around objects of an image."""

from isthmus.registry.model.box_answers import BoxAnswers


class Answers(BoxAnswers):
    """Boxes of one image."""
