import numpy as np

from isthmus.data.audit.near_duplicates import near_pairs
from isthmus.data.audit.small_images import Pictures


def test_pictures_come_back_as_they_were_in_any_order_and_stand_in_for_a_list() -> None:
    rng = np.random.default_rng(0)
    given = [rng.normal(size=(16, 16, channels)).astype(np.float32) for channels in (1, 3, 2, 3)]
    given.append(given[1] + np.float32(0.001))
    with Pictures() as kept:
        places = [kept.add(picture) for picture in given]

        assert places == [0, 1, 2, 3, 4]
        view = kept.chosen([3, 0, 4, 1])
        assert len(view) == 4
        assert np.array_equal(view[1], given[0])
        assert all(np.array_equal(a, b) for a, b in zip(view[1:], [given[0], given[4], given[1]], strict=True))
        assert near_pairs(kept, 0.05) == near_pairs(given, 0.05) == [(1, 4)]
