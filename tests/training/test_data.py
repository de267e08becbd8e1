import numpy as np
import pandas as pd
import pytest
import torch

from isthmus.training.data import TrainingData, training_data


class Table:
    """Inputs whose first column is the row's own number."""

    def __init__(self, count: int, images: bool = False) -> None:
        shape = (count, 6, 6, 3) if images else (count, 2)
        self.values = np.zeros(shape, np.uint8 if images else np.float32)
        self.values[..., 0] = np.arange(count).reshape((-1, *[1] * (len(shape) - 2)))

    def __len__(self) -> int:
        return len(self.values)

    def take(self, positions: np.ndarray) -> np.ndarray:
        return self.values[positions]


def data(counts: dict[str, int], images: bool = False) -> TrainingData:
    """Counts of training rows by domain, the last the target; two validation rows a source."""
    rows = []
    names = list(counts)
    for name, count in counts.items():
        target = name == names[-1]
        rows += [(name, "train", None if target else i % 3) for i in range(count)]
        rows += [(name, "test" if target else "val", None if target else 1)] * 2
    table = pd.DataFrame(rows, columns=["domain", "split", "label"]).astype({"label": "Int32"})
    return training_data(table, Table(len(table), images), names, images=images, shift_pixels=1)


def drawn(given: TrainingData, epoch: int = 1, **changes: object) -> list:
    return list(given.batches(epoch, 8, 0, **({"target": True, "strong": False} | changes)))  # type: ignore[arg-type]


def test_batches_hold_as_many_target_rows_as_source_rows_and_only_training_rows() -> None:
    given = data({"a": 20, "b": 40})

    batches = drawn(given)

    assert len(batches) == 5  # the larger role is seen once
    for batch in batches:
        assert (batch.source_count, len(batch.inputs)) == (8, 16)
        assert batch.domains.tolist() == [0] * 8 + [1] * 8
        assert set(batch.inputs[:8, 0].int().tolist()) <= set(range(20))
        assert batch.inputs[8:, 0].int().tolist() == (batch.target_index + 22).tolist()
    seen = torch.cat([batch.target_index for batch in batches])
    assert sorted(seen.tolist()) == list(range(40))


def test_several_sources_have_equal_shares_whatever_their_sizes() -> None:
    for batch in drawn(data({"a": 5, "b": 90, "t": 30})):
        assert batch.domains[:8].tolist() == [0] * 4 + [1] * 4


def test_a_method_that_must_not_see_the_target_gets_no_row_of_it() -> None:
    for batch in drawn(data({"a": 20, "b": 40}), target=False):
        assert len(batch.inputs) == batch.source_count
        assert len(batch.target_index) == 0


def test_source_batches_do_not_depend_on_how_many_target_rows_there_are_when_they_are_unseen() -> None:
    few = drawn(data({"a": 40, "b": 3}), target=False)
    many = drawn(data({"a": 40, "b": 30}), target=False)

    for one, other in zip(few, many, strict=True):
        assert torch.equal(one.inputs, other.inputs)


def test_an_epoch_draws_the_same_every_time_and_another_epoch_differently() -> None:
    given = data({"a": 20, "b": 40})

    assert torch.equal(drawn(given)[0].inputs, drawn(given)[0].inputs)
    assert not torch.equal(drawn(given)[0].inputs, drawn(given, 2)[0].inputs)


def test_a_domain_smaller_than_a_batch_is_repeated() -> None:
    batches = drawn(data({"a": 3, "b": 2}))

    assert [len(batch.inputs) for batch in batches] == [16]


def test_images_come_channels_first_with_a_strong_view_only_when_asked() -> None:
    given = data({"a": 10, "b": 10}, images=True)

    plain, strong = drawn(given)[0], drawn(given, strong=True)[0]

    assert plain.inputs.shape == (16, 3, 6, 6)
    assert plain.inputs.dtype == torch.uint8
    assert plain.target_strong is None
    assert strong.target_strong is not None
    assert strong.target_strong.shape == (8, 3, 6, 6)


def test_a_target_label_that_reaches_training_is_our_mistake_and_stops_it() -> None:
    table = pd.DataFrame({"domain": ["a", "b"], "split": ["train", "train"], "label": [0, 1]})

    with pytest.raises(AssertionError, match="a target label reached training"):
        training_data(table, Table(2), ["a", "b"], images=False, shift_pixels=0)
