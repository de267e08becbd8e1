"""Masks with smooth outlines, and answers that are wrong at the outlines and in places."""

import numpy as np
from scipy.ndimage import gaussian_filter, shift

SIZE = 48


def blobs(images: int, classes: int, seed: int) -> np.ndarray:
    """True masks uint8 `[N, H, W]`: smooth regions of K classes."""
    noise = np.random.default_rng(seed).normal(size=(images, classes, SIZE, SIZE))
    return gaussian_filter(noise, (0, 0, 5, 5)).argmax(axis=1).astype(np.uint8)


def moved(masks: np.ndarray, seed: int) -> np.ndarray:
    """Predicted masks uint8 `[N, H, W]`: each moved by up to 4 pixels, with a square of another class in it."""
    rng = np.random.default_rng(seed)
    answers = np.stack([shift(m, rng.integers(-4, 5, size=2), order=0, mode="nearest") for m in masks])
    for answer in answers:
        top, left = rng.integers(SIZE - 8, size=2)
        answer[top : top + 8, left : left + 8] = rng.choice(masks.ravel())
    return answers


def with_unscored(masks: np.ndarray) -> np.ndarray:
    """The masks with a frame and a corner of 255."""
    result = masks.copy()
    result[:, :3] = result[:, :, :3] = result[:, -20:, -15:] = 255
    return result
