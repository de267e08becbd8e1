"""Boxes around objects: average precision."""

from isthmus.evaluation.box_evaluation import BoxEvaluation


class Evaluation(BoxEvaluation):
    """Of boxes."""
