"""A linear probe on frozen cells of finished scenarios of masks: how much its score changes with what is counted.

`python -m benchmarks.linear_probe --cache FOLDER --write . PROJECT/out/NAME...`

A logistic regression on the tokens of a frozen ViT-S/14 names the second class where it holds most of a cell, or a
pixel of it. It is trained on the source's or on the target's training images, and its intersection over union on test
images is counted in cells, as probes are often reported, and in pixels, as the pipeline scores masks. At most MOST
images of a split and CELLS cells are used. Scenarios need two classes and one image each, so no `task: change`.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.sections import table, write_section
from isthmus.core.device import make_deterministic
from isthmus.core.files import read_json
from isthmus.data.manifest import INDEX, read_table
from isthmus.data.masks import IGNORED, cell_shares
from isthmus.data.shards import Rows
from isthmus.evaluation.masks import TrueMasks
from isthmus.evaluation.scoring.masks import class_iou, confusions
from isthmus.evaluation.selection.choice import SOURCE_ONLY
from isthmus.evaluation.trained import read_samples
from isthmus.models.backbones import timm
from isthmus.models.tokens import tokens

MOST, CELLS, BATCH = 120, 20_000, 4
RULES = {"most of it": 0.5, "a pixel of it": 0.0}  # [share] of a cell above which it is of the second class


class Split(NamedTuple):
    """Cells `[N * T]` of the images of one split: tokens, share of the second class, whether scored; and the masks."""

    tokens: NDArray[np.float32]
    share: NDArray[np.float32]
    scored: NDArray[np.bool_]
    masks: NDArray[np.uint8]


class Prepared:
    """The images and masks that a scenario's stages left."""

    def __init__(self, out: Path, cache: Path) -> None:
        self._samples = read_samples(out / "manifest.parquet", out / "prepared")
        self._images = Rows(out / "prepared" / "shards", read_table(out / "prepared" / "index.parquet", INDEX))
        self._masks = TrueMasks(out / "prepared", out / "masks_target")
        self._domains = read_json(out / "train" / SOURCE_ONLY / "run.json")["domains"]  # the target is the last
        side = self._masks.side
        backbone = timm.Config(architecture="vit_small_patch14_dinov2", weights="auto").build(3, side, cache)
        self._network = backbone.network.eval()
        self._mean, self._std = (torch.tensor(each).view(3, 1, 1) for each in (backbone.mean, backbone.std))

    def split(self, target: bool, name: str) -> Split:
        """Returns up to MOST images of a split of the target, or of the source."""
        domains = self._domains[-1:] if target else self._domains[:-1]
        rows = self._samples.rows(domains, name)[:MOST]
        masks = self._masks.take(rows)
        found, grid = self._tokens(self._images.take(rows))
        shares, scored = cell_shares(masks, *grid, 2)
        return Split(found, shares[..., 1].reshape(-1), scored.reshape(-1) > 0, masks)

    def _tokens(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], tuple[int, int]]:
        found = []
        with torch.no_grad():
            for start in range(0, len(images), BATCH):
                pixels = torch.from_numpy(images[start : start + BATCH]).permute(0, 3, 1, 2).float() / 255
                made = tokens(self._network, (pixels.expand(-1, 3, -1, -1) - self._mean) / self._std)
                found.append(made.values.numpy())
        values = np.concatenate(found)
        return values.reshape(-1, values.shape[-1]), (made.rows, made.columns)


def intersection_over_union(predicted: NDArray[np.bool_], test: Split, least: float) -> tuple[float, float]:
    """Returns that of the second class over all scored cells, and over all scored pixels.

    Args:
        predicted: `[N * T]`, of square images' square grids.
        test: what is true.
        least: share of a cell above which it is of the second class.
    """
    cells = np.where(test.scored, test.share > least, IGNORED).astype(np.uint8)
    side = round((len(predicted) / len(test.masks)) ** 0.5)
    place = np.arange(test.masks.shape[1]) * side // test.masks.shape[1]
    answers = predicted.astype(np.uint8).reshape(-1, side, side)
    return _foreground(answers, cells.reshape(answers.shape)), _foreground(answers[:, place][:, :, place], test.masks)


def _foreground(predicted: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    return float(class_iou(confusions(predicted, truth, 2).sum(axis=0))[1])


def probed(out: Path, cache: Path) -> list[tuple[str, ...]]:
    """Returns rows of the table."""
    prepared, rows = Prepared(out, cache), []
    tests = [prepared.split(target, "test") for target in (False, True)]
    for trained_on, target in (("source", False), ("target", True)):
        train = prepared.split(target, "train")
        chosen = np.random.default_rng(0).permutation(np.flatnonzero(train.scored))[:CELLS]
        for rule, least in RULES.items():
            probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200))
            probe.fit(train.tokens[chosen], train.share[chosen] > least)
            scores = [intersection_over_union(probe.predict(test.tokens), test, least) for test in tests]
            rows.append((out.name, trained_on, rule, *(f"{score:.3f}" for pair in scores for score in pair)))
    return rows


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder for the network's weights")
    parser.add_argument("--write", type=Path, help="folder of the repository: docs/benchmarks.md gets the table")
    parser.add_argument("scenarios", type=Path, nargs="+", metavar="PROJECT/out/NAME", help="finished scenarios")
    given = parser.parse_args()
    make_deterministic(1)
    where = ("source test, cells", "source test, pixels", "target test, cells", "target test, pixels")
    rows = [row for out in given.scenarios for row in probed(out, given.cache)]
    text = table(("scenario", "trained on", "a cell is of the class by", *where), *rows)
    print(text)
    if given.write:
        write_section(given.write / "docs" / "benchmarks.md", "linear probe", text)


if __name__ == "__main__":
    main()
