"""Mutated real files of each family: read or refused with a reason; no crash, hang, memory bomb or file elsewhere.

ISTHMUS_FUZZ_SECONDS a family (60), ISTHMUS_FUZZ_SEED (0).
"""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.soak.fuzzing import FAMILIES

SECONDS = float(os.environ.get("ISTHMUS_FUZZ_SECONDS", "60"))
SEED = os.environ.get("ISTHMUS_FUZZ_SEED", "0")
HANG = 60.0  # [s] for one file of at most 350 kB, on a busy machine
MEMORY = 3_000  # [MB]: what the limits of pixels, voxels and blocks allow, twice over for a copy

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_mutated_file_is_read_or_refused_and_nothing_else(family: str, tmp_path: Path) -> None:
    pytest.importorskip({"dicom": "pydicom", "nifti": "nibabel", "geotiff": "rasterio", "pictures": "PIL"}[family])
    command = [sys.executable, "-m", "tests.soak.fuzzing", family, SEED, str(SECONDS), str(tmp_path / "fuzz")]
    with (tmp_path / "errors").open("w") as errors:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        lines, last = [""], [time.monotonic()]

        def follow() -> None:
            assert child.stdout is not None
            for line in child.stdout:
                lines[0], last[0] = line, time.monotonic()

        reader = threading.Thread(target=follow, daemon=True)
        reader.start()
        while child.poll() is None and time.monotonic() - last[0] < HANG:
            time.sleep(0.2)
        hung = child.poll() is None
        child.kill()
        child.wait()
        reader.join()
        assert child.stdout is not None
        child.stdout.close()

    assert not hung, f"hangs at case {lines[0]}"
    assert child.returncode == 0, f"status {child.returncode} at case {lines[0]}: {(tmp_path / 'errors').read_text()}"
    counts = json.loads(lines[0])
    print(family, counts)
    findings = "\n".join(path.read_text() for path in sorted((tmp_path / "fuzz").glob("finding-*.txt"))[:5])
    assert counts["findings"] == 0, findings
    assert counts["read"] > 0 and counts["refused"] > 0
    assert counts["peak_mb"] < MEMORY
