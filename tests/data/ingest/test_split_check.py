from pathlib import Path

import pandas as pd
import pytest

from isthmus.core.errors import DataError
from isthmus.data.ingest.scan import scan
from isthmus.data.ingest.split import Splits
from isthmus.data.ingest.split_check import check_known_groups, check_splits
from tests.raw_folders import scenario, write_raw
from tests.stages.test_ingest import audit, manifest, run


def checked(**changes: object) -> None:
    rows = pd.DataFrame(
        {
            "domain": ["a"] * 4 + ["b"] * 2,
            "group": list("123456"),
            "split": ["train", "val", "cal", "test", "train", "test"],
            "path": [f"p{i}" for i in range(6)],
            "label": pd.array([0, 0, 0, 0, None, None], dtype="Int32"),
        }
    )
    rows["named"], rows["given"] = [f"lot {g}" for g in rows["group"]], None
    for name, value in changes.items():
        rows[name] = value
    check_splits(rows, ["a", "b"], ["crack"], Splits())


def test_a_group_in_two_splits_is_a_leak() -> None:
    with pytest.raises(
        DataError, match=r"leak in domain 'b': one group \(group lot 5, lot 6; .* in 2 splits \(test: p5, train: p4\)"
    ):
        checked(group=["1", "2", "3", "4", "5", "5"])


def test_an_empty_split_is_refused_with_what_there_is() -> None:
    with pytest.raises(
        DataError,
        match=r"domain 'b': no image in split test \(got train 2 images of group lot 5, lot 6; 2 groups in all\)\."
        r" .* a share of 0\.3 stays empty in 49% of draws, with 9 in 5%\. Add groups, give test .*'ingest\.splits'",
    ):
        checked(split=["train", "val", "cal", "test", "train", "train"])


def test_a_class_without_training_images_is_refused() -> None:
    with pytest.raises(DataError, match=r"class 'crack': none of its 3 source images fell into split 'train'"):
        checked(label=pd.array([None, 0, 0, 0, None, None], dtype="Int32"))


def test_good_splits_pass() -> None:
    checked()


def lots(folder: Path, count: int) -> Path:
    """Writes a raw folder whose files are of so many lots."""
    raw = write_raw(folder)
    for place, path in enumerate(sorted(raw.rglob("*.png"))):
        path.rename(path.with_name(f"lot-{place % count}_{path.name}"))
    return raw


def test_ten_lots_that_leave_a_split_empty_are_named_with_the_odds_and_a_seed_that_works(tmp_path: Path) -> None:
    raw = lots(tmp_path / "raw", 10)

    with pytest.raises(
        DataError,
        match=r"domain 'line_a': no image in split .*got train \d+ images of group \d.*; 10 groups in all\)\..*stays"
        r" empty in .*larger share in 'ingest\.splits'(.|\n)*With these groups 'split_seed: \d+' of the scenario in",
    ) as refused:
        run(raw, tmp_path / "out", group="lot")

    seed = int(str(refused.value).split("'split_seed: ")[1].split("'")[0])
    assert set(manifest(run(raw, tmp_path / "out", split_seed=seed, group="lot"))["split"]) == {
        "train",
        "val",
        "cal",
        "test",
    }


def test_two_lots_cannot_fill_four_splits_with_any_seed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No 'split_seed' below 100 fills every split with these groups"):
        run(lots(tmp_path / "raw", 2), tmp_path / "out", group="lot")


def test_groups_of_medical_images_are_named_by_their_hash(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"images of group [0-9a-f]{16}") as refused:
        run(lots(tmp_path / "raw", 2), tmp_path / "out", group="lot", kind="medical", preprocess={})

    assert "lot-" not in str(refused.value)


def table(raw: Path, **columns: list[str]) -> Path:
    paths = sorted(p.relative_to(raw).as_posix() for p in raw.rglob("*.png"))
    rows = pd.DataFrame({"path": paths, "domain": [p[:6] for p in paths], "label": [p.split("/")[1] for p in paths]})
    rows.assign(**columns).to_csv(raw / "images.csv", index=False)
    return raw


def test_a_patient_in_two_splits_of_the_users_table_stops_the_run_and_is_named(tmp_path: Path) -> None:
    raw = table(
        write_raw(tmp_path / "raw"),
        patient=[f"P{i // 2}" for i in range(96)],
        split=["train", "val", "cal", "test"] * 12 + ["train", "test"] * 24,
    )

    with pytest.raises(
        DataError,
        match=r"leak in domain 'line_a': one group \(group P0; .*\(train: line_a/.*val: line_a/.*group P1".replace(
            ".*group P1", "(.|\n)*group P1"
        ),
    ):
        run(raw, tmp_path / "out", target_labels="table", group="patient")


def test_a_patient_trained_on_as_source_and_tested_on_as_target_is_counted(tmp_path: Path) -> None:
    patients = [f"P{i}" for i in range(48)] * 2
    raw = table(
        write_raw(tmp_path / "raw"),
        patient=patients,
        split=["train", "val", "cal", "test"] * 12 + ["test", "train", "train", "train"] * 12,
    )

    out = run(raw, tmp_path / "out", target_labels="table", group="patient")

    assert audit(out)["groups_trained_and_tested"] == 12
    hashed = run(lots(tmp_path / "lots", 48), tmp_path / "own", group="lot", seed=1)
    assert audit(hashed)["groups_trained_and_tested"] == 0


def test_a_seed_is_named_too_where_the_source_has_defects_that_none_need_be_trained_on(tmp_path: Path) -> None:
    raw = lots(tmp_path / "raw", 10)
    anomaly = {"task": "anomaly", "classes": ["good", "crack"], "group": "lot"}

    with pytest.raises(DataError, match=r"no image in split") as refused:
        run(raw, tmp_path / "out", **anomaly)

    seed = int(str(refused.value).split("'split_seed: ")[1].split("'")[0])
    assert len(manifest(run(raw, tmp_path / "out", split_seed=seed, **anomaly))) == 96


def test_a_domain_that_loses_all_its_images_is_named_with_the_reason(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    for path in sorted((raw / "line_b").rglob("*.png")):
        path.write_bytes(b"") if path.name < "img-004.png" else path.unlink()

    with pytest.raises(
        DataError,
        match=r"domain 'line_b': none of its images can be used \(8 files are refused, most because: file is empty"
        r" \(0 bytes\)\)\. Repair",
    ):
        run(raw, tmp_path / "out")


def known(raw: Path, seed: int = 0, **changes: object) -> None:
    plan = scenario(**changes)
    seen = scan(raw, plan)
    check_known_groups(seen.found, seen.names, plan, Splits(), seed)


def test_before_anything_is_decoded_an_empty_split_of_known_groups_is_told_in_the_words_of_ingest(
    tmp_path: Path,
) -> None:
    raw = lots(tmp_path / "raw", 10)
    with pytest.raises(DataError) as later:
        run(raw, tmp_path / "out", group="lot")

    with pytest.raises(DataError, match="With these groups 'split_seed: ") as sooner:
        known(raw, group="lot")

    assert str(sooner.value) == str(later.value)
    known(raw, group="lot", split_seed=int(str(later.value).split("'split_seed: ")[1].split("'")[0]))


def test_before_anything_is_decoded_groups_of_medical_images_are_named_by_their_hash(tmp_path: Path) -> None:
    raw = lots(tmp_path / "raw", 2)
    with pytest.raises(DataError, match=r"images of group [0-9a-f]{16}") as later:
        run(raw, tmp_path / "out", group="lot", kind="medical", preprocess={})

    with pytest.raises(DataError) as sooner:
        known(raw, group="lot", kind="medical", preprocess={})

    assert str(sooner.value) == str(later.value)


def test_groups_that_the_files_themselves_say_are_not_checked_before_decoding(tmp_path: Path) -> None:
    known(write_raw(tmp_path / "raw", each=1))
    raw = lots(tmp_path / "lots", 2)
    path = next(raw.rglob("lot-*.png"))
    path.rename(path.with_name("without.png"))
    known(raw, group="lot")
