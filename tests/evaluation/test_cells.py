import numpy as np
import pytest

from isthmus.core.errors import DataError
from isthmus.evaluation.cells import known, some
from isthmus.evaluation.trained import UNKNOWN, Samples

CELLS = Samples(
    *(
        np.array(values, dtype=object)
        for values in ("abcd", ["a", "a", "b", "t"], ["val", "cal", "cal", "cal"], "abcd")
    ),
    label=np.array([1, UNKNOWN, 2, UNKNOWN]),
)


def test_a_split_without_a_scored_pixel_is_refused_with_its_name() -> None:
    assert known(CELLS, ["a", "b"], "cal").tolist() == [2]

    with pytest.raises(DataError, match="no prepared image in split 'cal' of a has a scored pixel, so .* Add images"):
        some(known(CELLS, ["a"], "cal"))


def test_of_many_cells_evenly_spaced_ones_are_looked_at() -> None:
    assert some(np.arange(50_000))[:3].tolist() == [0, 3, 6]
    assert some(np.arange(20_000)).tolist() == list(range(20_000))
