"""The stage `shift`: finds a planted shift, finds none in equal domains, looks at no test image and no label."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from isthmus.core.files import read_json
from isthmus.data.manifest import INDEX, MANIFEST, read_table, write_table
from isthmus.stages._cli import stage
from isthmus.stages.shift import MAP, run
from tests.scenario_files import ScenarioFiles, write_scenario


@pytest.fixture
def files(tmp_path: Path) -> ScenarioFiles:
    return write_scenario(tmp_path, {"source_only": 0.5}, images=400)


def measure(files: ScenarioFiles) -> dict:
    paths = {"params": files.params, "manifest": files.manifest, "prepared": files.prepared}
    paths |= {"features": files.features, "shift": files.root / "shift"}
    stage(run, ["--scenario", "demo", *(part for name, path in paths.items() for part in (f"--{name}", str(path)))])
    return read_json(files.root / "shift" / "shift.json")


def test_a_planted_shift_is_found_and_the_control_stays_at_zero(files: ScenarioFiles) -> None:
    found = measure(files)

    assert found["pairs"]["pooled"] == found["pairs"]["line_a"]
    assert found["pairs"]["line_a"]["mmd_p_value"] == pytest.approx(1 / 201)
    assert found["pairs"]["line_a"]["proxy_a_distance"] > 1.5
    assert found["control"]["mmd_p_value"] > 0.05
    assert found["control"]["proxy_a_distance"] < 0.6
    for measured in ("mmd2", "proxy_a_distance", "sliced_wasserstein"):
        assert found["pairs"]["line_a"][measured] > 2 * found["control"][measured]
    assert "Standardising each domain by itself leaves" in " ".join(found["advice"])
    assert found["subsampled"] is False


def test_equal_domains_are_advised_not_to_adapt(files: ScenarioFiles) -> None:
    rng = np.random.default_rng(3)
    for path in files.features.glob("*.npy"):
        np.save(path, rng.normal(size=np.load(path).shape).astype(np.float32))

    assert measure(files)["advice"][0].startswith("No shift was found in these features")


def test_the_map_holds_the_images_used_in_the_order_of_their_ids(files: ScenarioFiles) -> None:
    measure(files)

    table = read_table(files.root / "shift" / "map.parquet", MAP)
    rows = read_table(files.manifest, MANIFEST)
    assert list(table["image_id"]) == sorted(rows.loc[rows["split"] == "train", "image_id"])
    assert np.isfinite(table[["x", "y", "tsne_x", "tsne_y"]].to_numpy()).all()


def test_a_large_domain_is_cut_by_id_and_it_says_so(files: ScenarioFiles) -> None:
    document = yaml.safe_load(files.params.read_text())
    document["shift"]["max_images"] = 50
    files.params.write_text(yaml.safe_dump(document))

    found = measure(files)

    table = read_table(files.root / "shift" / "map.parquet", MAP)
    rows = read_table(files.manifest, MANIFEST)
    first = [rows[(rows["domain"] == d) & (rows["split"] == "train")]["image_id"][:50] for d in ("line_a", "line_b")]
    assert found["subsampled"] is True
    assert found["images"]["line_a"]["used"] == 50 < found["images"]["line_a"]["train"]
    assert set(table["image_id"]) == set(first[0]) | set(first[1])


def test_test_images_and_target_labels_change_nothing(files: ScenarioFiles) -> None:
    measure(files)
    before = [(files.root / "shift" / name).read_bytes() for name in ("shift.json", "map.parquet")]
    rows = read_table(files.manifest, MANIFEST)
    unseen = (rows["split"] == "test").to_numpy()
    index = read_table(files.prepared / "index.parquet", INDEX)
    for shard in sorted(set(index["shard"])):
        array = np.load(files.features / f"{shard}.npy")
        array[index.loc[unseen & (index["shard"] == shard).to_numpy(), "row"].to_numpy(dtype=int)] = 99
        np.save(files.features / f"{shard}.npy", array)
    rows["label"] = rows["label"].where(~unseen | rows["label"].isna(), 0)
    write_table(files.manifest, rows, MANIFEST)
    files.labels_target.unlink()

    measure(files)

    assert [(files.root / "shift" / name).read_bytes() for name in ("shift.json", "map.parquet")] == before


def test_several_sources_are_compared_one_by_one_and_together(files: ScenarioFiles) -> None:
    rows = read_table(files.manifest, MANIFEST)
    index = read_table(files.prepared / "index.parquet", INDEX)
    second = (rows["domain"] == "line_a").to_numpy() & (np.arange(len(rows)) % 2 == 0)
    for path, frame, schema in (
        (files.manifest, rows, MANIFEST),
        (files.prepared / "index.parquet", index, INDEX),
    ):
        frame.loc[second, "domain"] = "line_c"
        write_table(path, frame, schema)
    document = yaml.safe_load(files.params.read_text())
    document["scenarios"]["demo"]["source"] = ["line_a", "line_c"]
    files.params.write_text(yaml.safe_dump(document))

    found = measure(files)

    assert set(found["pairs"]) == {"line_a", "line_c", "pooled"}
    assert found["pairs"]["pooled"]["images"][0] == sum(found["pairs"][d]["images"][0] for d in ("line_a", "line_c"))
    assert "is nearest to the target" in " ".join(found["advice"])


def test_constant_features_are_measured_without_a_warning(files: ScenarioFiles) -> None:
    for path in files.features.glob("*.npy"):
        np.save(path, np.ones_like(np.load(path)))

    found = measure(files)

    assert found["pairs"]["pooled"]["mmd2"] == 0
    assert found["pairs"]["pooled"]["proxy_a_distance"] == 0


def test_a_domain_without_training_images_is_refused(files: ScenarioFiles, capsys: pytest.CaptureFixture[str]) -> None:
    rows = read_table(files.manifest, MANIFEST)
    rows.loc[rows["domain"] == "line_b", "split"] = "test"
    write_table(files.manifest, rows, MANIFEST)

    with pytest.raises(SystemExit) as end:
        measure(files)

    assert end.value.code == 2
    assert "domain 'line_b' has 0 prepared training images; at least 4 are needed" in capsys.readouterr().err


def test_features_that_do_not_hold_the_classes_make_the_shares_of_the_target_unknown(files: ScenarioFiles) -> None:
    found = measure(files)

    assert found["label_shift"]["verdict"] == "cannot tell"
    assert set(found["label_shift"]["priors"].values()) == {round(1 / len(found["label_shift"]["priors"]), 9)}
    assert found["advice"][-1] == found["label_shift"]["why"]


def test_a_target_that_is_source_images_with_other_shares_is_told_and_warned_of(files: ScenarioFiles) -> None:
    rows = read_table(files.manifest, MANIFEST)
    index = read_table(files.prepared / "index.parquet", INDEX)
    rng = np.random.default_rng(0)
    is_target = (rows["domain"] == "line_b").to_numpy()
    labels = np.where(is_target, rng.random(len(rows)) < 0.1, rows["label"].fillna(0)).astype(int)
    for shard in sorted(set(index["shard"])):
        here = (index["shard"] == shard).to_numpy()
        array = np.load(files.features / f"{shard}.npy")
        array[:] = rng.normal(size=array.shape)
        array[index.loc[here, "row"].to_numpy(dtype=int), 0] += 3 * labels[here]
        np.save(files.features / f"{shard}.npy", array)

    found = measure(files)["label_shift"]

    assert found["verdict"] == "fits"
    assert list(found["priors"].values())[1] < 0.3
    assert "aligning marginals" in found["warning"]


def test_transferability_is_measured_on_source_images_alone_and_says_how_many(files: ScenarioFiles) -> None:
    document = yaml.safe_load(files.params.read_text())
    document["shift"]["max_transfer_images"] = 60
    files.params.write_text(yaml.safe_dump(document))
    before = measure(files)["transferability"]
    array = np.load(files.features / "domain1-all.npy")
    np.save(files.features / "domain1-all.npy", array + 7)

    found = measure(files)["transferability"]

    assert found == before
    assert found["images"] == 60 < found["available"]
    assert found["h_score_shrunk"]["error"] > 0
