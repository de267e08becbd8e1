"""Windows of medical images, by DICOM PS3.3, C.11.2.1.2, clipped to [0, 1], and tables in their place (VOI LUT).

LINEAR        y = (x - (c - 0.5)) / (w - 1) + 0.5
LINEAR_EXACT  y = (x - c) / w + 0.5
SIGMOID       y = 1 / (1 + exp(-4 (x - c) / w))
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def window(values: NDArray[Any], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """Returns values in [0, 1]: the window of DICOM PS3.3, C.11.2.1.2.

    Args:
        values: `[H, W, 1]`, such as [HU].
        centre: of the window.
        width: of the window, above 0.
        function: LINEAR, LINEAR_EXACT or SIGMOID.

    >>> window(np.array([-160.0, 40.0, 240.0]), 40, 400, "LINEAR_EXACT").tolist()
    [0.0, 0.5, 1.0]
    """
    out = values.astype(np.float64)  # and then in place: a slice is large beside a processor's cache
    linear = function == "LINEAR" and width > 1  # at a width of one it is the step that LINEAR_EXACT is
    out -= centre - 0.5 if linear else centre
    if function == "SIGMOID":
        out = 1 / (1 + np.exp(np.clip(-4 * out / width, -500, 500)))
    else:
        out /= width - 1 if linear else width
        out += 0.5
    np.clip(out, 0, 1, out=out)
    out[np.isnan(out)] = 0
    return out


def looked_up(values: NDArray[Any], table: dict[str, Any]) -> NDArray[np.float64]:
    """Returns values in [0, 1]: a VOI LUT, DICOM PS3.3, C.11.2.1.1; what lies beyond it takes its first or last.

    Args:
        values: `[H, W, 1]`.
        table: `first`, the value of the first entry; `bits` of an entry; `values`, the entries.
    """
    entries = np.asarray(table["values"], np.float64) / (2.0 ** table["bits"] - 1)
    place = np.clip(np.rint(np.nan_to_num(values) - table["first"]), 0, len(entries) - 1).astype(np.intp)
    return np.clip(entries[place], 0, 1)
