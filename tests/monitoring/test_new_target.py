"""Bringing a batch in as the new target: nothing is lost, twice is once, and what stands in the way is said first."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image as Pillow

from isthmus.core.errors import ConfigError, DataError
from isthmus.core.files import sha256_file
from isthmus.data.ingest.scan import find_images
from isthmus.monitoring.new_target import bring_in, read_incoming
from tests.pipelines.tiny_project import init_without_git
from tests.raw_folders import CLASSES, pixels, scenario, write_raw

SECTION = {"kind": "natural", "raw": "data/raw/demo", "source": ["line_a"], "target": "line_b", "classes": CLASSES}
PARAMS = """# kept: a comment
scenarios:
  demo: # another
    kind: natural
    raw: data/raw/demo
    source: [line_a]
    target: line_b
    target_labels: {labels} # a third
    classes: [crack, good]
    model: small
pairs: {{}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    write_raw(folder / "data/raw/demo", each=4)
    (folder / "params.yaml").write_text(PARAMS.format(labels="folders"))
    init_without_git(folder)
    return folder


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    rng = np.random.default_rng(9)
    (tmp_path / "batch" / "deep").mkdir(parents=True)
    for name in ("one.png", "two.png", "deep/three.png"):
        Pillow.fromarray(pixels(rng)).save(tmp_path / "batch" / name)
    return tmp_path / "batch"


def files_of(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in folder.rglob("*") if path.is_file()}


def listed(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_batch_of_links_into_a_cache_is_brought_in_as_files_under_its_own_names(
    project: Path, batch: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    for number, path in enumerate(listed(batch)):
        path.rename(tmp_path / "cache" / str(number))
        path.symlink_to(tmp_path / "cache" / str(number))

    assert bring_in(read_incoming(project, "demo", batch, listed(batch)))

    target = project / "data/raw/demo/line_b"
    assert files_of(target).keys() == {"one.png", "two.png", "deep/three.png"}
    assert not any(path.is_symlink() for path in listed(target))


def md5(project: Path) -> str:
    return str(yaml.safe_load((project / "data/raw/demo.dvc").read_text())["outs"][0]["md5"])


def test_the_batch_is_the_target_the_old_one_is_kept_and_both_versions_are_in_dvc(project: Path, batch: Path) -> None:
    raw = project / "data/raw/demo"
    before = files_of(raw)
    incoming = read_incoming(project, "demo", batch, listed(batch))

    assert bring_in(incoming)

    after = files_of(raw)
    assert {path for path in after if path.startswith("line_b/")} == {
        "line_b/deep/three.png",
        "line_b/one.png",
        "line_b/two.png",
    }
    kept = {path.replace("line_b/", "line_b_before_1/"): sha256 for path, sha256 in before.items()}
    assert {path: after[path] for path in kept} == kept
    assert (project / "params.yaml").read_text() == PARAMS.format(labels="none")
    found, bad = find_images(raw, scenario(target_labels="none"))
    assert (sum(one.domain == "line_b" for one in found), bad) == (3, [])
    assert files_of(batch).keys() == {"one.png", "two.png", "deep/three.png"}  # copied, not moved
    # the version before is in DVC's cache: an empty workspace gets it back
    first = {path.name for path in (project / ".dvc/cache").rglob("*.dir")}
    assert len(first) == 2

    again = read_incoming(project, "demo", batch, listed(batch))
    version = md5(project)
    assert not bring_in(again)
    assert (files_of(raw), md5(project)) == (after, version)


def test_a_call_that_was_killed_before_params_were_written_is_finished(project: Path, batch: Path) -> None:
    bring_in(read_incoming(project, "demo", batch, listed(batch)))
    (project / "params.yaml").write_text(PARAMS.format(labels="folders"))
    (project / "data/raw/demo.dvc").unlink()

    assert not bring_in(read_incoming(project, "demo", batch, listed(batch)))

    assert (project / "params.yaml").read_text() == PARAMS.format(labels="none")
    assert md5(project)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_gets_new_rows_and_the_old_one_stays_beside_it(project: Path, batch: Path, suffix: str) -> None:
    raw = project / "data/raw/demo"
    rows = [{"path": p, "domain": p[:6], "label": p.split("/")[1], "lot": "7"} for p in sorted(files_of(raw))]
    table = raw / f"images.{suffix}"
    frame = pd.DataFrame(rows)
    frame.to_csv(table, index=False) if suffix == "csv" else frame.to_parquet(table, index=False)
    (project / "params.yaml").write_text(PARAMS.format(labels="table"))

    assert bring_in(read_incoming(project, "demo", batch, listed(batch)))

    found, bad = find_images(raw, scenario(target_labels="none"))
    target = [one for one in found if one.domain == "line_b"]
    assert sorted(one.path for one in target) == ["line_b/deep/three.png", "line_b/one.png", "line_b/two.png"]
    assert {one.label for one in target} == {None}
    assert (len(found), bad) == (8 + 3, [])
    old = raw / f"line_b_before_1_images.{suffix}"
    assert len(pd.read_csv(old) if suffix == "csv" else pd.read_parquet(old)) == 16
    assert len(list((raw / "line_b_before_1").rglob("*.png"))) == 8
    assert not bring_in(read_incoming(project, "demo", batch, listed(batch)))


def test_images_of_masks_go_where_such_images_lie_and_pairs_of_images_are_refused(project: Path, batch: Path) -> None:
    raw, params = project / "data/raw/demo", project / "params.yaml"
    (raw / "line_b" / "crack").rename(raw / "line_b" / "images")
    text = params.read_text()
    params.write_text(text.replace("kind: natural", "kind: natural\n    task: segmentation"))

    assert bring_in(read_incoming(project, "demo", batch, listed(batch)))

    assert sorted(files_of(raw / "line_b")) == ["images/deep/three.png", "images/one.png", "images/two.png"]
    assert not bring_in(read_incoming(project, "demo", batch, listed(batch)))

    params.write_text(text.replace("kind: natural", "kind: natural\n    task: change"))
    with pytest.raises(
        ConfigError, match="scenarios.demo: task change compares two images, which --adapt cannot bring"
    ):
        read_incoming(project, "demo", batch, listed(batch))


def test_a_failure_half_way_leaves_raw_data_and_params_as_they_were(project: Path, batch: Path) -> None:
    raw = project / "data/raw/demo"
    before = files_of(raw)
    incoming = read_incoming(project, "demo", batch, [*listed(batch), batch / "gone.png"])

    with pytest.raises(FileNotFoundError):
        bring_in(incoming)

    assert files_of(raw) == before
    assert (project / "params.yaml").read_text() == PARAMS.format(labels="folders")


def test_images_of_another_domain_in_the_targets_folder_are_refused(project: Path, batch: Path) -> None:
    raw = project / "data/raw/demo"
    rows = [{"path": path, "domain": "line_a", "label": "good"} for path in sorted(files_of(raw))]
    pd.DataFrame(rows).to_csv(raw / "images.csv", index=False)

    with pytest.raises(ConfigError, match="8 images of other domains lie in the target's folder 'line_b/'. Move them"):
        bring_in(read_incoming(project, "demo", batch, listed(batch)))
    assert len(pd.read_csv(raw / "images.csv")) == 16


def test_what_stands_in_the_way_is_said_before_anything_is_done(project: Path, batch: Path) -> None:
    with pytest.raises(ConfigError, match="lies inside the raw data of 'demo'. Name a folder outside data/raw/demo"):
        read_incoming(project, "demo", project / "data/raw/demo/line_b", [])
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("pairs: {}", "pairs: {demo: {}}"))
    with pytest.raises(ConfigError, match="pairs.demo: the stage 'simulate@demo' writes data/raw/demo, so no images"):
        read_incoming(project, "demo", batch, [])
    params.write_text(PARAMS.format(labels="folders").replace("data/raw/demo", "data/raw/gone"))
    with pytest.raises(DataError, match="gone: no such folder. Get it with 'dvc checkout data/raw/gone.dvc'"):
        read_incoming(project, "demo", batch, [])


def test_params_that_cannot_be_edited_by_a_program_are_left_to_a_person(project: Path, batch: Path) -> None:
    params = project / "params.yaml"
    anchored = PARAMS.format(labels="*labels").replace("# kept: a comment", "shared: &labels folders")
    params.write_text(anchored)

    with pytest.raises(ConfigError, match="scenarios.demo: set 'target_labels: none' by hand, and run this again"):
        bring_in(read_incoming(project, "demo", batch, listed(batch)))
    assert params.read_text() == anchored


def test_the_plan_says_what_would_be_done(project: Path, batch: Path) -> None:
    plan = read_incoming(project, "demo", batch, listed(batch)).plan()

    assert plan[0] == ("copy 3 images into data/raw/demo as target 'line_b'; the old one becomes line_b_before_1")
    assert "score, gate and promote" in plan[2]


def test_a_table_with_spaces_after_its_commas_gets_new_rows_and_loses_the_old_ones(project: Path, batch: Path) -> None:
    raw = project / "data/raw/demo"
    lines = ["path, domain, label", *(f"{p}, {p[:6]}, {p.split('/')[1]}" for p in sorted(files_of(raw)))]
    (raw / "images.csv").write_text("\n".join(lines) + "\n")
    (project / "params.yaml").write_text(PARAMS.format(labels="table"))

    assert bring_in(read_incoming(project, "demo", batch, listed(batch)))

    found, bad = find_images(raw, scenario(target_labels="none"))
    assert (sum(one.domain == "line_b" for one in found), len(found), bad) == (3, 8 + 3, [])
    assert not bring_in(read_incoming(project, "demo", batch, listed(batch)))


def test_a_target_that_is_called_na_is_brought_in_once(project: Path, batch: Path) -> None:
    raw = project / "data/raw/demo"
    (raw / "line_b").rename(raw / "NA")
    rows = [{"path": p, "domain": p.split("/")[0], "label": p.split("/")[1]} for p in sorted(files_of(raw))]
    pd.DataFrame(rows).to_csv(raw / "images.csv", index=False)
    (project / "params.yaml").write_text(PARAMS.format(labels="table").replace("line_b", "'NA'"))

    assert bring_in(read_incoming(project, "demo", batch, listed(batch)))
    assert not bring_in(read_incoming(project, "demo", batch, listed(batch)))
