import pandas as pd
import pytest

from isthmus.core.config import validated
from isthmus.core.errors import ConfigError
from isthmus.data.ingest.split import Splits, assign_splits, group_key, joined_groups, split_by_hash

SOURCE = {"train": 0.6, "val": 0.15, "cal": 0.1, "test": 0.15}


def frame(domain: str = "a", given: list[str | None] | None = None, count: int = 4000) -> pd.DataFrame:
    rows = pd.DataFrame({"domain": domain, "group": [group_key(str(i)) for i in range(count)]})
    rows["given"] = pd.Series(given or [None] * count, dtype=object)
    return rows


def test_shares_come_out_about_right() -> None:
    found = pd.Series(assign_splits(frame(), "b", Splits(), 0)).value_counts(normalize=True)

    assert found.to_dict() == pytest.approx(SOURCE, abs=0.03)


def test_a_group_keeps_its_split_when_others_come_and_go() -> None:
    every = dict(zip(frame()["group"], assign_splits(frame(), "b", Splits(), 0), strict=True))
    half = frame().iloc[::2]

    assert assign_splits(half, "b", Splits(), 0) == [every[g] for g in half["group"]]


def test_the_target_has_train_and_test_and_another_seed_splits_otherwise() -> None:
    first = assign_splits(frame("b"), "b", Splits(), 0)

    assert set(first) == {"train", "test"}
    assert first != assign_splits(frame("b"), "b", Splits(), 1)


def test_a_group_trained_on_as_source_is_never_tested_on_as_target() -> None:
    source, target = (assign_splits(frame(d), "b", Splits(), 0) for d in ("a", "b"))

    assert not any(s == "train" and t == "test" for s, t in zip(source, target, strict=True))


def test_a_users_split_wins_and_val_and_cal_are_carved_out_of_train() -> None:
    given = ["train"] * 3000 + ["test"] * 1000

    found = pd.Series(assign_splits(frame(given=given), "b", Splits(), 0))

    assert (found[3000:] == "test").all()
    shares = found[:3000].value_counts(normalize=True).to_dict()
    assert shares == pytest.approx({"train": 0.6 / 0.85, "val": 0.15 / 0.85, "cal": 0.1 / 0.85}, abs=0.03)


def test_a_user_who_names_all_splits_gets_exactly_these() -> None:
    given = ["train", "val", "cal", "test"] * 1000

    assert assign_splits(frame(given=given), "b", Splits(), 0) == given


def test_groups_that_share_bytes_become_one() -> None:
    found = joined_groups(["c", "b", "b", "a", "d"], ["1", "1", "2", "2", "3"])

    assert found == {"a": "a", "b": "a", "c": "a", "d": "d"}


def test_split_by_hash_gives_a_zero_share_nothing() -> None:
    assert {split_by_hash(str(i), 0, {"train": 1.0, "val": 0.0}) for i in range(200)} == {"train"}


def test_shares_that_do_not_sum_to_one_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"source: .*shares must sum to 1 \(sum is 1\.3\)"):
        validated(Splits, {"source": {"train": 0.9}}, "ingest.splits.")
