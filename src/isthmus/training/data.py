"""What training may see: inputs of all splits, labels of the source and those given for it, and batches of them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from isthmus.core import plugins
from isthmus.core.errors import ConfigError
from isthmus.core.seeds import derive_seed
from isthmus.data.augment import artifacts
from isthmus.data.augment.photometric import photometric_view
from isthmus.data.augment.views import cropped, cut_mixed, erased, mixed, oriented, strong_view, weak_view
from isthmus.data.batch import Batch
from isthmus.data.kinds import Orientation
from isthmus.data.masks import CellShares
from isthmus.data.shards import CellRows, cells_of
from isthmus.models.recipe import Augment

WINDOW = 56  # [cell] of an image with masks that one training step sees a side
LABELLED_SHARE = 0.5  # of the labelled rows of a batch are of the target, where a person labelled some


class Inputs(Protocol):
    """All rows of a scenario in the manifest's order: features `[N, D]`, or images `[N, H, W, C]`."""

    def __len__(self) -> int:
        """N."""

    def take(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """Returns these rows."""


@dataclass(frozen=True)
class TrainingData:
    """Rows by role. No target label is here but of the rows in `target_labelled`.

    Attributes:
        inputs: all rows.
        domains: int64 `[N]`, the domain's place among the scenario's domains; the target is the last.
        labels: int64 `[N]`, classes of source rows and of `target_labelled`, -1 for every other target row.
        source_train: positions of the source's training rows, one array a source domain.
        source_val: positions of the source's validation rows.
        target_train: positions of the target's training rows.
        images: whether inputs are images.
        shift_pixels: of the weak view [pixel].
        class_shares: float64 `[K]`, with what shares of the classes source rows are drawn; None: as they are.
        classes: K.
        weighted: whether batches have class weights by which all classes count alike in the source loss.
        augment: of images, beside the weak view.
        kind: of imagery; it says which operations of a policy, and which artefacts, the images stand.
        shares: float32 `[N, K]`, of the classes in source rows that are cells of a grid; None: `labels` say all.
        cells: rows of an image.
        cell_shares: of the classes in the cells of source images, where rows are whole images; None: labels, or
            `shares`, say all.
        views: the rows again, of photometric views of the source's images.
        looks: photometric views of a source image, of which one is made anew in place of some images of a batch.
        exchanged: [share] of these with light and dark exchanged.
        most_steps: of an epoch; 0: no limit.
        groups: str `[N]`, of which no image may be compared with another of its own; None: nothing is compared.
        target_labelled: positions of the target's training rows that a person labelled for training; they are in
            `target_train` too.
    """

    inputs: Inputs
    domains: NDArray[np.int64]
    labels: NDArray[np.int64]
    source_train: list[NDArray[np.int64]]
    source_val: NDArray[np.int64]
    target_train: NDArray[np.int64]
    images: bool
    shift_pixels: int = field(default=0)
    class_shares: NDArray[np.float64] | None = None
    classes: int = 0
    augment: Augment = field(default_factory=Augment)
    kind: str = ""
    shares: NDArray[np.float32] | None = None
    cells: int = 1
    cell_shares: CellShares | None = None
    views: tuple[Inputs, ...] = ()
    looks: int = 0
    exchanged: float = 0.0
    most_steps: int = 0
    weighted: bool = False
    groups: NDArray[Any] | None = None
    target_labelled: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def labelled(self, target: bool) -> NDArray[np.int64]:
        """Returns the positions of all labelled training rows, the source's first; the target's only if asked for."""
        return np.concatenate([*self.source_train, *([self.target_labelled] if target else [])])

    def class_weights(self, target: bool) -> Tensor:
        """Returns 1 / (classes * share) of each class in a batch's labelled rows, float32 `[K]`; 0 where it has none.

        Args:
            target: whether labelled rows of the target are among them.
        """
        parts = [self._class_shares(rows) for rows in self.source_train]
        shares = np.mean(parts, axis=0)
        if target and len(self.target_labelled):
            shares = (1 - LABELLED_SHARE) * shares + LABELLED_SHARE * self._class_shares(self.target_labelled)
        weights = np.divide(1 / np.count_nonzero(shares), shares, out=np.zeros_like(shares), where=shares > 0)
        return torch.from_numpy(weights.astype(np.float32))

    def _class_shares(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        if self.shares is not None:
            return self.shares[rows].mean(axis=0, dtype=np.float64)
        if self.cell_shares is not None:
            return self.cell_shares.mean(rows)
        return np.bincount(self.labels[rows], minlength=self.classes) / len(rows)

    def classes_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the class of each of these rows `[n]`, or of each of their cells `[n * T]`; -1: not known."""
        if self.cell_shares is None:
            return self.labels[rows]
        shares = self.cell_shares.take(rows).reshape(-1, self.classes)
        return np.where(shares.sum(axis=1) > 0, shares.argmax(axis=1), -1)

    def steps(self, batch_size: int) -> int:
        """Returns the steps of an epoch: the larger of the roles is seen once, the smaller repeatedly, up to a limit.

        All methods take as many, so that they are compared at the same budget: source-only takes more steps where there
        are more target images, though it sees none of them.
        """
        steps = max(1, max(sum(map(len, self.source_train)), len(self.target_train)) // batch_size)
        return min(steps, self.most_steps or steps)

    def batches(
        self, epoch: int, batch_size: int, seed: int, *, target: bool, strong: bool, views: bool = False
    ) -> Iterator[Batch]:
        """Yields one epoch's batches; they depend on seed and epoch alone, so a resumed run draws the same."""
        steps = self.steps(batch_size)
        few = int(LABELLED_SHARE * batch_size) if target and len(self.target_labelled) else 0
        shares = _shares(batch_size - few, len(self.source_train))
        labelled = _endless(self.target_labelled, steps * few, derive_seed(seed, "labelled", epoch))
        sources = [
            self._source_rows(rows, steps * share, derive_seed(seed, "source", number, epoch))
            for number, (rows, share) in enumerate(zip(self.source_train, shares, strict=True))
        ]
        places = np.arange(len(self.target_train))
        wanted = _endless(places, steps * batch_size, derive_seed(seed, "target", epoch)) if target else places[:0]
        generator = torch.Generator().manual_seed(derive_seed(seed, "views", epoch))
        weights = self.class_weights(target) if self.weighted else None
        for step in range(steps):
            parts = [*zip(sources, shares, strict=True), (labelled, few)]
            rows = np.concatenate([drawn[step * share : (step + 1) * share] for drawn, share in parts])
            wanted_here = wanted[step * batch_size : (step + 1) * batch_size]
            batch = self._batch(rows, wanted_here, generator, strong, views)
            yield replace(batch, class_weights=weights)

    def _source_rows(self, rows: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
        if self.class_shares is None:
            return _endless(rows, count, seed)
        return _by_class(rows, self.labels[rows], self.class_shares, count, seed)

    def in_order(self, rows: NDArray[np.int64], batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields inputs and domains of these rows once, in order, without augmentation."""
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            yield self.tensor(part), torch.from_numpy(self.domains[part])

    def tensor(self, rows: NDArray[np.int64]) -> Tensor:
        """Returns these rows as features `[n, D]` or images `[n, C, H, W]`."""
        values = torch.from_numpy(self.inputs.take(rows))
        return values.permute(0, 3, 1, 2).contiguous() if self.images else values

    def _batch(
        self,
        rows: NDArray[np.int64],
        target_index: NDArray[np.int64],
        generator: torch.Generator,
        strong: bool,
        views: bool,
    ) -> Batch:
        target_rows = self.target_train[target_index]
        both = np.concatenate([rows, target_rows])
        inputs = self.tensor(both)
        if views and (self.views or self.looks):
            self._take_views(inputs, rows, generator)
        target_strong = soft_labels = None
        if self.cell_shares is not None:
            return self._of_cells(inputs, rows, self.cell_shares.take(rows), generator)
        if self.shares is not None:
            soft_labels = torch.from_numpy(self.shares[rows])
        if self.images:
            inputs = cropped(oriented(inputs, self._orientation, generator), self.augment.crop, generator)
            target_strong = strong_view(inputs[len(rows) :], self.shift_pixels, generator) if strong else None
            inputs = weak_view(inputs, self.shift_pixels, generator)
            # Source images and strong views alone: a teacher labels the weak target views.
            source, weak = inputs[: len(rows)], inputs[len(rows) :]
            if self.augment.randaugment or self.augment.augmix:
                source = self._by_policy(source, generator)
                target_strong = None if target_strong is None else self._by_policy(target_strong, generator)
            source, target_strong = self._with_artefacts(source, target_strong, generator)
            if self.augment.erase:
                source = erased(source, self.augment.erase, generator)
                target_strong = None if target_strong is None else erased(target_strong, self.augment.erase, generator)
            source, soft_labels = self._mixed(source, torch.from_numpy(self.labels[rows]), generator)
            inputs = torch.cat([source, weak])
        return Batch(
            inputs,
            torch.from_numpy(self.domains[both]),
            torch.from_numpy(self.labels[rows]),
            torch.from_numpy(target_index),
            target_strong,
            soft_labels,
            overlap=self.shares is not None,
        )

    def _take_views(self, inputs: Tensor, rows: NDArray[np.int64], generator: torch.Generator) -> None:
        """Puts a view of it in the place of some source rows of a batch."""
        drawn = torch.randint(0, 1 + max(len(self.views), self.looks), (len(rows),), generator=generator).numpy()
        for number, view in enumerate(self.views, 1):
            places = np.flatnonzero(drawn == number)
            inputs[places] = torch.from_numpy(view.take(rows[places]))
        if not self.looks:
            return
        draws = torch.randint(2**31, (len(rows),), generator=generator).tolist()
        for place in np.flatnonzero(drawn):
            image = inputs[place].permute(1, 2, 0).numpy()[None]
            seen = photometric_view(image, draws[place], self.exchanged)
            inputs[place] = torch.from_numpy(seen[0]).permute(2, 0, 1)

    def _of_cells(
        self, inputs: Tensor, rows: NDArray[np.int64], shares: NDArray[np.float32], generator: torch.Generator
    ) -> Batch:
        """Returns windows of source images and the shares of the classes in their cells, mirrored and turned alike."""
        side = math.isqrt(self.cells)
        maps = torch.from_numpy(shares).reshape(len(rows), side, side, -1).permute(0, 3, 1, 2)
        inputs, maps = _windows(inputs, maps, generator)
        before = generator.get_state()
        inputs = oriented(inputs, self._orientation, generator)
        generator.set_state(before)
        soft_labels = oriented(maps, self._orientation, generator).permute(0, 2, 3, 1).flatten(0, 2)
        source, _ = self._with_artefacts(inputs, None, generator)
        return Batch(
            source,
            torch.from_numpy(self.domains[rows]),
            soft_labels.argmax(dim=1),
            torch.empty(0, dtype=torch.int64),
            soft_labels=soft_labels,
            overlap=True,
        )

    @cached_property
    def _orientation(self) -> Orientation:
        if self.augment.orientation != "of_kind":
            return self.augment.orientation
        how: Orientation = plugins.load("data.kinds", self.kind).Config.orientation if self.kind else "none"
        return how

    def _by_policy(self, images: Tensor, generator: torch.Generator) -> Tensor:
        from isthmus.data.augment.policies import augmixed, operations, rand_augmented  # torchvision: seconds of import

        chosen = self.augment
        allowed = operations(self.kind, images.dtype, images.shape[1], overlapping=not chosen.augmix)
        if chosen.augmix:
            return augmixed(images, chosen.augmix, chosen.strength, allowed, generator)
        return rand_augmented(images, chosen.randaugment, chosen.strength, allowed, generator)

    def _with_artefacts(
        self, source: Tensor, strong: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Returns source images and strong views with artefacts of medical devices."""
        given, strength = self.augment.artefacts, self.augment.strength
        if self.kind != artifacts.KIND:
            return source, strong
        if given:
            source = artifacts.with_artefacts(source, given, strength, generator)
        if strong is not None:
            strong = artifacts.with_artefacts(strong, artifacts.SHARE if given is None else given, strength, generator)
        return source, strong

    def _mixed(self, source: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Returns source images blended with one another and their soft labels, or None where nothing is blended."""
        alpha = self.augment.mixup or self.augment.cutmix
        if not alpha:
            return source, None
        blend = mixed if self.augment.mixup else cut_mixed
        return blend(source, functional.one_hot(labels, self.classes).float(), alpha, generator)


def check_augment(augment: Augment, kind: str) -> None:
    """Refuses artefacts of medical devices in images of another kind.

    Raises:
        ConfigError: they are set, and the images are no medical ones.
    """
    if augment.artefacts and kind != artifacts.KIND:
        raise ConfigError(
            f"params.yaml: models: augment.artefacts: bias field, Gibbs ringing and noise are of medical images (got"
            f" kind: {kind}, artefacts: {augment.artefacts}). Drop it, or set randaugment or augmix"
        )


def training_data(
    table: pd.DataFrame,
    inputs: Inputs,
    domains: list[str],
    *,
    images: bool,
    shift_pixels: int,
    class_shares: NDArray[np.float64] | None = None,
    classes: int = 0,
    augment: Augment = Augment(),  # noqa: B008 - frozen
    kind: str = "",
    most_steps: int = 0,
    weighted: bool = False,
) -> TrainingData:
    """Sorts the rows of a manifest by role.

    Args:
        table: manifest rows in the order of `inputs`: `domain, split, label`.
        inputs: features or images.
        domains: the scenario's domains, the target last.
        images: whether inputs are images.
        shift_pixels: of the weak view [pixel].
        class_shares: see `TrainingData`.
        classes: K.
        augment: of images.
        kind: of imagery.
        most_steps: see `TrainingData`.
        weighted: see `TrainingData`.

    Raises:
        ConfigError: the images do not stand the augmentation.
    """
    check_augment(augment, kind)
    number = np.array([domains.index(name) for name in table["domain"]], dtype=np.int64)
    split = table["split"].to_numpy()
    is_target = number == len(domains) - 1
    labels = np.array(table["label"].fillna(-1), dtype=np.int64)
    assert (labels[is_target] == -1).all(), "a target label reached training"
    return TrainingData(
        inputs,
        number,
        labels,
        [np.flatnonzero((number == place) & (split == "train")) for place in range(len(domains) - 1)],
        np.flatnonzero(~is_target & (split == "val")),
        np.flatnonzero(is_target & (split == "train")),
        images,
        shift_pixels,
        class_shares,
        classes,
        augment,
        kind,
        most_steps=most_steps,
        weighted=weighted,
    )


def with_target_labels(data: TrainingData, image_ids: Sequence[str], given: pd.DataFrame) -> TrainingData:
    """Returns the data with the labels of those target images that a person labelled for training.

    Args:
        data: of images, without target labels.
        image_ids: `[N]`, of its rows.
        given: `GIVEN_LABELS` of the target's training split; images that could not be prepared are left out.
    """
    place = {image_id: row for row, image_id in enumerate(image_ids)}
    known = given[given["image_id"].isin(place)]
    rows = np.array([place[image_id] for image_id in known["image_id"]], dtype=np.int64)
    assert np.isin(rows, data.target_train).all(), "a label of another split reached training"
    labels = data.labels.copy()
    labels[rows] = known["label"].to_numpy(dtype=np.int64)
    return replace(data, labels=labels, target_labelled=np.sort(rows))


def with_cells(data: TrainingData, inputs: CellRows, shares: NDArray[np.float32]) -> TrainingData:
    """Returns the rows of images as rows of cells: a source cell without a scored pixel has no role.

    Args:
        data: of images.
        inputs: features of the cells.
        shares: float32 `[N, T, K]`, of the classes in each cell, zero where no pixel is scored (`data/masks.py`).
    """
    cells = inputs.cells
    flat = shares.reshape(len(inputs), -1)
    known = flat.sum(axis=1) > 0

    return replace(
        data,
        inputs=inputs,
        domains=np.repeat(data.domains, cells),
        labels=np.where(known, flat.argmax(axis=1), -1),
        source_train=[rows[known[rows]] for rows in (cells_of(images, cells) for images in data.source_train)],
        source_val=(val := cells_of(data.source_val, cells))[known[val]],
        target_train=cells_of(data.target_train, cells),
        shares=flat,
        cells=cells,
    )


def with_cell_shares(data: TrainingData, shares: CellShares) -> TrainingData:
    """Returns images whose cells have labels: a source image without a scored pixel has no role.

    Args:
        data: of images.
        shares: of the classes in the cells of source images.

    Raises:
        ConfigError: images are changed in a way that their masks cannot follow.
    """
    plain = Augment(orientation=data.augment.orientation, artefacts=data.augment.artefacts)
    allowed = plain.model_copy(update={"strength": data.augment.strength})
    if data.augment != allowed or data.class_shares is not None:
        raise ConfigError(
            "params.yaml: models: with mode: full and masks, images are mirrored, turned and given artefacts, and drawn"
            " as they are. Drop crop, mixup, cutmix, erase, randaugment and augmix of augment, class_shares, and"
            " sampling: balanced"
        )
    return replace(
        data,
        source_train=[rows[shares.scored(rows)] for rows in data.source_train],
        source_val=data.source_val[shares.scored(data.source_val)],
        shift_pixels=0,
        cell_shares=shares,
        cells=shares.cells,
    )


def _windows(images: Tensor, maps: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns a random part of each image `[N, C, S, S]` and of its map `[N, K, G, G]`, at most `WINDOW` cells a side.

    Images whose cells are no whole number of pixels stay whole.
    """
    cells, pixels = maps.shape[2], images.shape[2]
    if cells <= WINDOW or pixels % cells:
        return images, maps
    corners = torch.randint(0, cells - WINDOW + 1, (len(images), 2), generator=generator).tolist()

    def cut(parts: Tensor, of: int) -> Tensor:
        shown = [
            (slice(top * of, (top + WINDOW) * of), slice(left * of, (left + WINDOW) * of)) for top, left in corners
        ]
        return torch.stack([part[:, *area] for part, area in zip(parts, shown, strict=True)])

    return cut(images, pixels // cells), cut(maps, 1)


def _shares(batch_size: int, sources: int) -> list[int]:
    """Divides a batch among the sources as evenly as it goes: domain-balanced, whatever their sizes."""
    return [batch_size // sources + (1 if number < batch_size % sources else 0) for number in range(sources)]


def _endless(rows: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Returns `count` rows: one permutation after another, so that no row comes twice before all came once."""
    generator = np.random.default_rng(seed)
    rounds = -(-count // max(1, len(rows)))
    return np.concatenate([generator.permutation(rows) for _ in range(rounds)])[:count] if rounds else rows[:0]


def _by_class(
    rows: NDArray[np.int64], labels: NDArray[np.int64], shares: NDArray[np.float64], count: int, seed: int
) -> NDArray[np.int64]:
    """Returns `count` rows, classes drawn by `shares` among those that are there, rows of a class one after another."""
    there = np.unique(labels)
    wanted = shares[there]
    if not wanted.sum():
        return _endless(rows, count, seed)
    generator = np.random.default_rng(seed)
    classes = generator.choice(there, count, p=wanted / wanted.sum())
    drawn = np.empty(count, dtype=np.int64)
    for number in there:
        places = np.flatnonzero(classes == number)
        drawn[places] = _endless(rows[labels == number], len(places), derive_seed(seed, "class", int(number)))
    return drawn
