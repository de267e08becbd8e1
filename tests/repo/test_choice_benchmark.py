"""What the benchmark of the choice is built on: reversed pairs that leak nothing, variants, and a section that is
replaced."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.choice import write_section
from benchmarks.pool import inputs_of, variants
from benchmarks.pseudo_pairs import corrupted, kept, make_pair, make_uneven
from isthmus.core.files import read_json
from isthmus.data.manifest import INDEX, MANIFEST, TARGET_LABELS, read_table
from isthmus.data.shards import Rows
from tests.scenario_files import write_scenario
from tests.stages.test_train import place


def test_a_reversed_pair_swaps_the_labels_and_keeps_test_images_test_images(tmp_path: Path) -> None:
    files = write_scenario(tmp_path / "demo", {"source_only": 0.5}, images=240)
    before = read_table(files.manifest, MANIFEST).set_index("image_id")
    known = read_table(files.labels_target, TARGET_LABELS).drop_duplicates("image_id", keep=False)
    source = before["domain"][before["label"].notna()].iloc[0]

    folder = inputs_of("demo_reverse", files.root, tmp_path / "work", 0)

    after = read_table(folder / "manifest.parquet", MANIFEST).set_index("image_id")
    held = read_table(folder / "labels_target.parquet", TARGET_LABELS).set_index("image_id")["label"]
    assert after.loc[after["domain"] == source, "label"].isna().all()
    assert held.to_dict() == before["label"].dropna().to_dict()
    labelled = after["label"].dropna()
    assert labelled.to_dict() == known.set_index("image_id")["label"].loc[labelled.index].to_dict()
    assert ((before["split"] == "test") == (after["split"] == "test")).all()
    assert set(after.loc[after["domain"] == source, "split"]) == {"train", "test"}
    assert {"train", "val", "test"} <= set(after.loc[after["domain"] != source, "split"])


def test_a_pair_that_is_not_reversed_is_read_where_it_lies(tmp_path: Path) -> None:
    assert inputs_of("demo", tmp_path / "demo", tmp_path / "work", 0) == tmp_path / "demo"


def test_only_methods_that_heed_the_switch_have_a_raw_variant_and_only_on_features() -> None:
    assert variants(["zscore", "mmd", "source_only"], "frozen") == ["mmd", "mmd.raw", "source_only", "zscore"]
    assert variants(["zscore", "mmd"], "full") == ["mmd", "zscore"]


def test_a_corruption_is_the_same_twice_and_another_for_another_kind() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)

    assert (corrupted(images, "tone", 1) == corrupted(images, "tone", 1)).all()
    assert (corrupted(images, "tone", 1) != corrupted(images, "optics", 1)).any()
    assert corrupted(images, "resolution", 1).std() < images.std()  # noise is what lost resolution takes first


def test_uneven_shares_keep_all_of_one_class_and_a_third_of_another() -> None:
    labels = np.repeat([0, 1, 2], 3000)

    shares = sorted(np.bincount(labels[kept(labels, np.random.default_rng(0))]) / 3000)

    assert shares[2] == 1.0
    assert shares[:2] == pytest.approx([1 / 3, 2 / 3], abs=0.03)


def test_an_uneven_pair_takes_images_out_of_the_targets_training_split_and_nothing_else(tmp_path: Path) -> None:
    files = write_scenario(tmp_path / "demo", {"source_only": 0.5}, images=240)
    before = read_table(files.manifest, MANIFEST).set_index("image_id")

    make_uneven(files.root, tmp_path / "uneven", 0)

    after = read_table(tmp_path / "uneven" / "manifest.parquet", MANIFEST).set_index("image_id")
    moved = after["split"] != before["split"]
    assert 0 < moved.sum() < (before["split"] == "train").sum()
    assert before.loc[moved, "label"].isna().all() and set(before.loc[moved, "split"]) == {"train"}
    assert after.drop(columns="split").equals(before.drop(columns="split"))


def test_a_pair_for_a_backbone_that_trains_has_corrupted_target_images_and_their_own_facts(tmp_path: Path) -> None:
    files = place(tmp_path / "demo", mode="full")
    before = read_table(files.prepared / "index.parquet", INDEX).set_index("image_id")
    pixels = Rows(files.prepared / "shards", before.reset_index()).take(np.arange(len(before)))

    source, target = make_pair(files.root, tmp_path / "pair", "tone", 0, with_images=True)

    index = read_table(tmp_path / "pair" / "prepared" / "index.parquet", INDEX)
    made = Rows(tmp_path / "pair" / "prepared" / "shards", index).take(np.arange(len(index)))
    old = pixels[before.index.get_indexer(index["image_id"])]
    changed = (made != old).any(axis=(1, 2, 3))
    assert changed.any() and (changed == (index["domain"] == target)).all()
    manifest = read_table(tmp_path / "pair" / "manifest.parquet", MANIFEST).set_index("image_id")
    train = (manifest.loc[index["image_id"], "split"] == "train").to_numpy()
    facts = read_json(tmp_path / "pair" / "prepared" / "facts.json")
    for domain in (source, target):
        mine = made[train & (index["domain"] == domain).to_numpy()] / 255
        assert facts["mean"][domain] == pytest.approx(mine.mean(axis=(0, 1, 2)), abs=1e-6)
        assert facts["std"][domain] == pytest.approx(mine.std(axis=(0, 1, 2)), abs=1e-6)


def test_a_section_is_replaced_and_its_neighbours_stay(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    write_section(page, "one", "first")
    write_section(page, "two", "other")

    write_section(page, "one", "second")

    text = page.read_text()
    assert "second" in text and "other" in text and "first" not in text
    assert text.count("## one") == 1
