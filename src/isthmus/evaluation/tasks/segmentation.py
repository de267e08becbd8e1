"""The class of each pixel: mean IoU, Dice and boundary score."""

from isthmus.evaluation.mask_evaluation import MaskEvaluation


class Evaluation(MaskEvaluation):
    """Of masks of one image."""
