from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from isthmus.core.errors import ConfigError
from isthmus.data.masks import IGNORED, CellShares, cell_shares
from isthmus.models.recipe import Augment
from isthmus.training.data import (
    WINDOW,
    TrainingData,
    training_data,
    with_cell_shares,
    with_cells,
    with_target_labels,
)
from isthmus.training.loop import planned_epochs


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


def test_a_phase_has_the_least_number_of_steps_whatever_the_number_of_target_images() -> None:
    for images in (1, 7, 40, 4000):
        steps = data({"a": 20, "b": images}).steps(8)

        for phases in (1, 2):
            assert planned_epochs(3, 500, steps, phases) * steps >= 500 * phases
            assert planned_epochs(3, 500, steps, phases) == max(3, -(-500 // steps)) * phases


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


class CellTable(Table):
    """Cells of images: the row's number says the image, its second column the cell."""

    def __init__(self, images: int, cells: int) -> None:
        super().__init__(images * cells)
        self.values[:, 0] = np.arange(images * cells) // cells
        self.values[:, 1] = np.arange(images * cells) % cells
        self.cells = cells


def of_cells(scored: list[int]) -> TrainingData:
    """Two source images, two of validation, two target images and two of its test split, of three cells each."""
    shares = np.zeros((8, 3, 2), np.float32)
    for place in scored:
        shares[place // 3, place % 3] = [0.25, 0.75]
    return with_cells(data({"a": 2, "t": 2}), CellTable(8, 3), shares)  # type: ignore[arg-type]


def test_cells_take_the_role_of_their_image_and_unscored_ones_none() -> None:
    given = of_cells([0, 2, 3, 7])

    assert [rows.tolist() for rows in given.source_train] == [[0, 2, 3]]
    assert given.source_val.tolist() == [7]
    assert given.target_train.tolist() == list(range(12, 18))
    assert given.labels.tolist()[:4] == [1, -1, 1, 1]
    assert set(given.labels[12:].tolist()) == {-1}


def test_batches_of_cells_have_shares_of_classes_and_count_their_overlap() -> None:
    (batch,) = of_cells([0, 2, 3]).batches(1, 4, 0, target=True, strong=False)

    assert batch.overlap
    assert batch.soft_labels is not None
    assert batch.soft_labels.tolist() == [[0.25, 0.75]] * 4
    assert set(batch.inputs[4:, 0].int().tolist()) <= {4, 5}  # images of the target's training split


def test_source_rows_are_drawn_from_views_too_where_the_method_asks_and_target_rows_never() -> None:
    given = data({"a": 40, "t": 40})
    view = Table(len(given.inputs))
    view.values[:, 1] = 7
    given = replace(given, views=(view,))

    with_views = torch.cat([batch.inputs for batch in drawn(given, views=True)])
    without = torch.cat([batch.inputs for batch in drawn(given)])

    of_view = with_views[:, 1] == 7
    source = torch.cat([batch.domains for batch in drawn(given)]) == 0
    assert 0.2 < of_view[source].float().mean() < 0.8
    assert not of_view[~source].any()
    assert with_views[:, 0].tolist() == without[:, 0].tolist()  # the same images in the same order
    assert not (without[:, 1] == 7).any()


class MaskImages:
    """Images `[N, S, S, 3]` that show their own masks."""

    def __init__(self, masks: np.ndarray) -> None:
        self.values = np.repeat(masks[..., None], 3, axis=3)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, positions: np.ndarray) -> np.ndarray:
        return self.values[positions]


def of_images(folder: Path, side: int, augment: Augment, **changes: object) -> TrainingData:
    """Four source images of training, the last without a scored pixel, two of validation, four of the target."""
    masks = np.random.default_rng(0).integers(0, 2, (10, side // 4, side // 4), dtype=np.uint8)
    masks = masks.repeat(4, axis=1).repeat(4, axis=2)
    table = pd.DataFrame({"domain": ["a"] * 6 + ["t"] * 4, "split": ["train"] * 4 + ["val"] * 2 + ["train"] * 4})
    table["label"] = pd.array([None] * 10, dtype="Int32")
    given = training_data(
        table, MaskImages(masks), ["a", "t"], images=True, shift_pixels=2, classes=2, augment=augment, **changes
    )  # type: ignore[arg-type]  # tests give values by name
    (folder / "masks").mkdir(parents=True)
    known = masks[:6].copy()
    known[3] = IGNORED
    known[0, :8] = IGNORED
    np.save(folder / "masks" / "domain0-all.npy", known)
    index = pd.DataFrame({"shard": ["domain0-all"] * 6 + ["domain1-all"] * 4, "row": [*range(6), *range(4)]})
    return with_cell_shares(given, CellShares(folder / "masks", index, (side // 4, side // 4), 2))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("side", [32, 4 * WINDOW + 32])
def test_masks_are_turned_and_cut_as_their_images_are(side: int, dtype: type, tmp_path: Path) -> None:
    given = of_images(tmp_path, side, Augment(orientation="turns"))
    given.inputs.values = given.inputs.values.astype(dtype)  # type: ignore[attr-defined] # `Inputs` in memory
    assert [rows.tolist() for rows in given.source_train] == [[0, 1, 2]]

    batches = [batch for epoch in range(4) for batch in given.batches(epoch, 3, 0, target=False, strong=False)]

    for batch in batches:
        shown = min(side, 4 * WINDOW)
        assert (batch.inputs.shape, batch.overlap) == ((3, 3, shown, shown), True)
        expected, _ = cell_shares(batch.inputs[:, 0].numpy().astype(np.uint8), shown // 4, shown // 4, 2)
        assert batch.soft_labels is not None
        shares = batch.soft_labels.numpy()
        known = shares.sum(axis=1) > 0
        np.testing.assert_array_equal(shares[known], expected.reshape(-1, 2)[known])
        assert known.any()
    assert len({batch.inputs.numpy().tobytes() for batch in batches}) == len(batches)


def test_classes_of_cells_are_known_where_a_pixel_is_scored_and_weights_are_of_cells(tmp_path: Path) -> None:
    given = of_images(tmp_path, 32, Augment())

    first, last, target = (given.classes_of(np.array([place])) for place in (0, 3, 7))

    assert (first[:16] == -1).all() and set(first[16:]) == {0, 1}  # 8 cells a row, of which two rows are not scored
    assert (last == -1).all() and (target == -1).all()
    share = np.mean(np.concatenate([given.classes_of(np.array([n])) for n in (0, 1, 2)]) == 1) * 192 / 176
    np.testing.assert_allclose(given.class_weights(False).numpy(), [0.5 / (1 - share), 0.5 / share], rtol=1e-5)


def test_images_with_masks_refuse_changes_that_masks_cannot_follow(tmp_path: Path) -> None:
    for number, augment in enumerate([Augment(crop=0.5), Augment(cutmix=1.0), Augment(randaugment=2)]):
        with pytest.raises(ConfigError, match="with mode: full and masks, images are mirrored, turned"):
            of_images(tmp_path / str(number), 32, augment)
    with pytest.raises(ConfigError, match="Drop crop, mixup"):
        of_images(tmp_path / "shares", 32, Augment(), class_shares=np.array([0.5, 0.5]))


@pytest.mark.parametrize(
    ("augment", "kind"),
    [
        (Augment(orientation="turns", crop=0.5, mixup=1.0, erase=0.5), ""),
        (Augment(orientation="mirror", cutmix=1.0, randaugment=2), "remote_sensing"),
        (Augment(augmix=2), "remote_sensing"),
        (Augment(artefacts=1.0), "medical"),
    ],
)
def test_batches_of_sixteen_bit_images_keep_their_depth_through_every_change(augment: Augment, kind: str) -> None:
    pytest.importorskip("monai" if kind == "medical" else "torchvision")
    given = data({"a": 16, "t": 16}, images=True)
    deep = given.inputs.values.astype(np.uint16) * 2000  # type: ignore[attr-defined] # `Inputs` in memory
    given = replace(given, inputs=MaskImages(deep[..., 0]), augment=augment, kind=kind, classes=3, looks=1)

    batch = drawn(given, strong=True, views=True)[0]

    assert batch.inputs.dtype == batch.target_strong.dtype == torch.uint16
    assert batch.inputs.float().max() > 1000


def test_looks_are_drawn_anew_for_some_source_images_where_the_method_asks() -> None:
    given = replace(data({"a": 40, "t": 40}, images=True), looks=1, exchanged=1.0, shift_pixels=0)

    plain, seen = (torch.cat([b.inputs for b in drawn(given, views=views)]) for views in (False, True))
    again = torch.cat([batch.inputs for batch in drawn(given, epoch=2, views=True)])
    bright = torch.cat([b.inputs for b in drawn(replace(given, exchanged=0.0), views=True)])

    changed = (plain != seen).flatten(1).any(dim=1)
    assert (seen[changed].float().mean() > 80) and (bright.float().mean() < 80)  # the images are dark
    source = torch.cat([batch.domains for batch in drawn(given)]) == 0
    assert 0.2 < changed[source].float().mean() < 0.8
    assert not changed[~source].any()
    assert not torch.equal(seen, again)


def test_an_epoch_takes_no_more_steps_than_its_limit() -> None:
    given = replace(data({"a": 80, "t": 8}), most_steps=3)

    assert (given.steps(8), len(drawn(given))) == (3, 3)
    assert replace(given, most_steps=0).steps(8) == 10


def few(given: TrainingData, labels: dict[int, int]) -> TrainingData:
    """With labels by row of `given`, whose image ids are the rows' numbers, and of one image that is not prepared."""
    table = pd.DataFrame({"image_id": [*map(str, labels), "gone"], "label": pd.array([*labels.values(), 0], "Int32")})
    return with_target_labels(given, [str(row) for row in range(len(given.labels))], table)


def test_labelled_target_rows_are_half_of_the_labelled_rows_and_stay_among_the_unlabelled_ones() -> None:
    plain = data({"a": 20, "b": 6, "t": 40})  # the target's training rows begin at 30
    given = few(plain, {31: 2, 45: 0})

    batches = drawn(given)

    assert given.target_labelled.tolist() == [31, 45]
    assert (np.flatnonzero(given.labels != plain.labels).tolist(), given.labels[[31, 45]].tolist()) == (
        [31, 45],
        [2, 0],
    )
    assert len(batches) == len(drawn(plain))
    for batch, other in zip(batches, drawn(plain), strict=True):
        assert batch.source_count == 8
        assert batch.domains.tolist() == [0] * 2 + [1] * 2 + [2] * 4 + [2] * 8
        rows = batch.inputs[4:8, 0].int().tolist()
        assert set(rows) == {31, 45}
        assert batch.labels[4:].tolist() == [{31: 2, 45: 0}[row] for row in rows]
        assert torch.equal(batch.inputs[8:], other.inputs[8:])
    assert {31 - 30, 45 - 30} <= set(torch.cat([batch.target_index for batch in batches]).tolist())


def test_without_labels_and_for_a_method_that_must_not_see_the_target_batches_are_as_they_were() -> None:
    plain = data({"a": 20, "b": 40})

    for one, other in ((few(plain, {}), True), (few(plain, {25: 1}), False)):
        for batch, before in zip(drawn(one, target=other), drawn(plain, target=other), strict=True):
            assert torch.equal(batch.inputs, before.inputs) and torch.equal(batch.labels, before.labels)


def test_labelled_rows_are_the_sources_and_then_the_targets_where_they_may_be_seen() -> None:
    given = few(data({"a": 3, "b": 40}), {7: 1})

    assert given.labelled(True).tolist() == [0, 1, 2, 7]
    assert given.labelled(False).tolist() == [0, 1, 2]


def test_a_label_of_another_split_never_reaches_training() -> None:
    with pytest.raises(AssertionError, match="a label of another split reached training"):
        few(data({"a": 3, "b": 4}), {9: 0})
