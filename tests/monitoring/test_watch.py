"""Watching with a real registered model: what is no drift, what is, and what a user is told where it cannot be said."""

import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image as Pillow

from isthmus.core.errors import ConfigError, DataError, StoreError
from isthmus.core.files import read_json
from isthmus.monitoring.watch import watch
from isthmus.registry.publish.publish import CHAMPION
from isthmus.registry.store.stores import open_store
from isthmus.serving.batch_statistics import BINS, BatchStatistics, keep
from isthmus.serving.serve import kept_path
from tests.registry.asked_project import drawn_image
from tests.registry.project_files import CLASSES
from tests.registry.versions import MODEL, add_version

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def champion(published, tmp_path_factory):
    """The published project with its version as champion; few images are held out there, so the tail is wider."""
    place = Path(shutil.copytree(published[0], tmp_path_factory.mktemp("watched") / "project", symlinks=True))
    kept_path(place, published[1].model_id).unlink(missing_ok=True)  # of tests that served the same model
    document = yaml.safe_load((place / "params.yaml").read_text())
    document["watch"] = {"tail": 0.2, "min_images": 20}
    (place / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        open_store(place).set_alias(published[1].model, CHAMPION, published[1].version)
    return place, published[1]


def write_batch(folder: Path, count: int, spoilt: bool = False) -> Path:
    rng = np.random.default_rng(5)
    (folder / "deep").mkdir(parents=True)
    for number in range(count):
        pixels = drawn_image(CLASSES[number % 3], "line_b", rng)
        pixels = 255 - pixels if spoilt else pixels
        Pillow.fromarray(pixels).save(folder / ("deep" if number % 2 else "") / f"{number:03d}.png")
    return folder


@pytest.mark.slow
def test_images_of_the_same_line_are_no_drift_and_broken_ones_are_counted_and_named(champion, tmp_path):
    project, _ = champion
    batch = write_batch(tmp_path / "batch", 30)
    (batch / "broken.png").write_bytes((batch / "000.png").read_bytes()[:60])
    (batch / "animated.gif").write_bytes(b"GIF89a")
    (batch / "notes.txt").write_text("no image")

    seen = watch(project, "demo", batch)

    assert (seen.drift.verdict, seen.exit_status, seen.drift.images) == ("no drift", 0, 30)
    kept = read_json(project / ".isthmus/watch/demo/drift.json")
    assert [Path(row["path"]).name for row in kept["bad"]] == ["animated.gif", "broken.png"]
    assert kept["bad"][0]["reason"] == "content is text, not an image"
    assert (kept["verdict"], kept["images"], kept["version"], kept["domain"]) == ("no drift", 30, "1", "line_b")
    assert kept["thresholds"] == {"significance": 0.01, "tail": 0.2, "min_images": 20, "hours": 24.0}
    assert sum(kept["classes"].values()) == pytest.approx(1)
    assert sum(kept["domain_score"]) == 30
    assert 0 < kept["mean_confidence"] <= 1
    assert f"bad: {batch}/animated.gif: content is text" in seen.table()
    assert re.search(r"files that could not be used +2\n", seen.table())


@pytest.mark.slow
def test_images_that_look_otherwise_are_a_drift_with_its_size(champion, tmp_path):
    project, _ = champion

    seen = watch(project, "demo", write_batch(tmp_path / "batch", 30, spoilt=True))

    assert (seen.drift.verdict, seen.exit_status) == ("drift", 3)
    assert seen.drift.share > 0.8
    assert seen.drift.expected <= 0.2
    assert seen.drift.p_value <= 0.01
    assert "isthmus-demo version 1, adapted to 'line_b': drift: p-value" in seen.table()


@pytest.mark.slow
@pytest.mark.soak
def test_a_batch_without_one_usable_file_is_an_error(champion, tmp_path):
    (tmp_path / "animated.gif").write_bytes(b"GIF89a")

    with pytest.raises(DataError, match=r"none of 1 files could be used \(.*animated.gif: content is text"):
        watch(champion[0], "demo", tmp_path)


def line(found, in_tail: int, count: int, hours_ago: float = 1, model_id: str = "") -> BatchStatistics:
    time = (NOW - timedelta(hours=hours_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
    scores = [in_tail, *[0] * (BINS - 2), count - in_tail]
    return BatchStatistics(time, count, model_id or found.model_id, "1", scores, {"good": count}, 0.9, 0.5)


@pytest.mark.slow
def test_kept_statistics_of_the_champion_within_the_hours_are_judged_together(champion, tmp_path):
    project, found = champion
    file = tmp_path / "kept.jsonl"
    keep(file, line(found, 32, 32, hours_ago=30))  # of the day before
    keep(file, line(found, 32, 32, model_id="m-other"))
    keep(file, line(found, 4, 20))
    keep(file, replace(line(found, 0, 20), mean_confidence=0.7, answered=1.0))

    seen = watch(project, "demo", file, NOW)

    assert (seen.drift.images, seen.drift.in_tail, seen.drift.verdict) == (40, 4, "no drift")
    kept = read_json(project / ".isthmus/watch/demo/drift.json")
    assert (kept["since"], kept["place"]) == ("2026-11-20T12:00:00Z", str(file))
    assert (kept["mean_confidence"], kept["answered"]) == (pytest.approx(0.8), pytest.approx(0.75))

    keep(file, line(found, 30, 32))
    assert watch(project, "demo", file, NOW).drift.in_tail == 34


@pytest.mark.slow
def test_what_servers_kept_is_looked_at_by_default_and_old_statistics_are_too_few(champion):
    project, found = champion
    with pytest.raises(
        DataError, match="no statistics of served inputs are stored for isthmus-demo version 1. Serve it"
    ):
        watch(project, "demo")

    keep(kept_path(project, found.model_id), line(found, 32, 32, hours_ago=25))
    seen = watch(project, "demo", now=NOW)

    assert (seen.drift.verdict, seen.exit_status) == ("too few images", 4)
    assert "0 images; watch.min_images requires 20" in seen.table()


@pytest.mark.slow
def test_a_place_that_is_not_there_or_empty_and_a_file_of_something_else_are_named(champion, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no statistics")

    with pytest.raises(DataError, match="nowhere: no such folder of images, and no such file of kept statistics"):
        watch(champion[0], "demo", tmp_path / "nowhere")
    with pytest.raises(DataError, match="empty: no files. Name image files, or folders"):
        watch(champion[0], "demo", tmp_path / "empty")
    with pytest.raises(DataError, match="notes.txt: contains no statistics. 'isthmus serve' and"):
        watch(champion[0], "demo", tmp_path / "notes.txt")
    with pytest.raises(ConfigError, match="section 'dmeo' is missing in 'scenarios'"):
        watch(champion[0], "dmeo", tmp_path)


def test_without_a_champion_the_way_to_one_is_shown(project, tmp_path):
    with pytest.raises(StoreError, match="isthmus-demo: there is no champion .* Run 'isthmus publish demo', 'isthmus"):
        watch(project, "demo", tmp_path)


def test_a_champion_of_before_domain_scores_is_named(built, empty_files, tmp_path):
    shutil.copy(built / "params.yaml", empty_files)
    version = add_version(empty_files)
    open_store(empty_files).set_alias(MODEL, CHAMPION, version)

    with pytest.raises(StoreError, match="isthmus-demo version 1: answers no domain_score, so drift cannot be tested"):
        watch(empty_files, "demo", tmp_path)
