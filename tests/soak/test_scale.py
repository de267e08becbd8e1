"""20,000 photographs through `ingest` and `prepare`: flat memory, and faster than a plain loop."""

import json
import os
from pathlib import Path

import pytest

from benchmarks.ingest import ratios, write_images
from isthmus.core.engine import processors

FEW, MANY = 5_000, 20_000
BROKEN = 25
GROWTH = 60  # [MB] from 5,000 to 20,000 images: the tables of facts, 3 to 4 kB an image; decoded they are 5 GB
RATIO = 1.7  # [of a plain one-process loop] of each stage

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, float]]:
    folder = Path(os.environ.get("ISTHMUS_SOAK_FOLDER") or tmp_path_factory.mktemp("scale"))
    found = {}
    for count in (FEW, MANY):
        write_images(folder / str(count) / "raw", count, broken=BROKEN)
        found[count] = ratios(folder / str(count) / "raw", folder / str(count) / "out")
        audit = json.loads((folder / str(count) / "out" / "audit.json").read_text())
        assert audit["bad"] == BROKEN
        assert sum(audit["images"].values()) == count - BROKEN
        print(count, json.dumps(found[count]))
    return found


@pytest.mark.parametrize("stage", ["ingest", "prepare"])
def test_memory_does_not_grow_with_the_images(measured: dict[int, dict[str, float]], stage: str) -> None:
    few, many = (measured[count][f"{stage}_peak_mb"] for count in (FEW, MANY))

    assert many - few <= GROWTH


@pytest.mark.skipif(processors() < 2, reason="one processor: nothing can work side by side")
@pytest.mark.parametrize("stage", ["ingest", "prepare"])
def test_a_stage_is_faster_than_a_plain_loop(measured: dict[int, dict[str, float]], stage: str) -> None:
    assert measured[MANY][f"{stage}_ratio"] >= RATIO
