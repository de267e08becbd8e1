"""The quantiles are NumPy's, of every dtype and length."""

import numpy as np
import pytest

from isthmus.data.imaging.quantiles import quantiles

SHARES = np.linspace(0, 1, 129)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float32", "float64"])
@pytest.mark.parametrize("count", [1, 2, 97, 4_000])
def test_they_are_those_of_numpy(dtype: str, count: int) -> None:
    values = np.random.default_rng(count).normal(100, 25, (count, 3)).astype(dtype)

    found = quantiles(values, SHARES)

    assert found.dtype == np.float64
    assert np.array_equal(found, np.quantile(values, SHARES, axis=0))
    assert np.array_equal(quantiles(values[:, 1], SHARES), found[:, 1])


def test_the_whole_range_of_a_signed_dtype_does_not_overflow() -> None:
    values = np.array([-32768, 32767], np.int16)

    assert quantiles(values, np.array([0.0, 0.5, 1.0])).tolist() == [-32768.0, -0.5, 32767.0]
