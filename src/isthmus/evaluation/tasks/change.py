"""What changed between two images of one place: scored as segmentation is."""

from isthmus.evaluation.mask_evaluation import MaskEvaluation


class Evaluation(MaskEvaluation):
    """Of masks of two images."""
