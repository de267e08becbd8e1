import numpy as np

from benchmarks.label_sets import _long_tailed


def test_an_uneven_source_keeps_all_images_of_its_first_class_and_a_ninth_of_its_last() -> None:
    labels = np.repeat(np.arange(3), 900)

    kept = [int(_long_tailed(labels, 3)[labels == label].sum()) for label in range(3)]

    assert kept[0] == 900
    np.testing.assert_allclose(kept[1:], [300, 100], atol=50)
