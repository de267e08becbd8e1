import numpy as np
import pytest

from isthmus.data.imaging.dicom_window import window


@pytest.mark.parametrize(
    ("function", "expected"),
    [  # c = 40, w = 400: DICOM PS3.3, C.11.2.1.2, by hand
        ("LINEAR", [0.0, (0 - 39.5) / 399 + 0.5, (40 - 39.5) / 399 + 0.5, 1.0]),
        ("LINEAR_EXACT", [0.0, 0.4, 0.5, 1.0]),
        ("SIGMOID", [1 / (1 + np.exp(20.4)), 1 / (1 + np.exp(0.4)), 0.5, 1 / (1 + np.exp(-19.6))]),
    ],
)
def test_the_three_window_functions_are_those_of_the_standard(function: str, expected: list[float]) -> None:
    found = window(np.array([-2000.0, 0.0, 40.0, 2000.0]), 40, 400, function)

    np.testing.assert_allclose(found, expected, atol=1e-9)
