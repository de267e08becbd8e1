"""What the linear probe counts, in cells and in pixels."""

import numpy as np

from benchmarks.linear_probe import Split, intersection_over_union
from isthmus.data.masks import cell_shares


def test_a_cell_with_one_pixel_of_the_class_is_right_in_cells_and_mostly_wrong_in_pixels() -> None:
    mask = np.zeros((1, 4, 4), np.uint8)
    mask[0, 0, 0] = 1  # of the first of four cells, one pixel of four
    mask[0, 2:, 2:] = 255  # the last cell is not scored
    shares, scored = cell_shares(mask, 2, 2, 2)
    test = Split(np.zeros((4, 3), np.float32), shares[0, :, 1], scored[0] > 0, mask)

    exact = intersection_over_union(np.array([True, False, False, True]), test, 0.0)
    none = intersection_over_union(np.array([False, False, False, True]), test, 0.0)

    assert exact == (1.0, 0.25)
    assert none == (0.0, 0.0)
