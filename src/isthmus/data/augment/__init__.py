"""Views of image batches: weak, strong, RandAugment, AugMix, and artifacts of medical devices.

Plain tensor operations without files; training and robustness may import from here.
"""
