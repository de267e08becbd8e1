"""Trains a published method on the source of finished scenarios of masks, boxes and defects, beside the pipeline's.

`python -m benchmarks.published --out FOLDER --write . PROJECT/out/NAME...`: one seed, source-only, the same splits and
prepared images as the pipeline; no pretrained weights but those of the pipeline's frozen network.

- Masks: MONAI's BasicUNet, all weights from random, STEPS steps of BATCH crops of 112 pixels of images at half the
  prepared size, cross-entropy plus Dice (Falk et al., Nature Methods 2019). Its input are the prepared bands of one
  image or of both dates, one behind the other.
- Boxes: torchvision's FCOS (Tian et al., ICCV 2019), its head, losses and decoding, on the pipeline's frozen cells in
  place of a ResNet with a pyramid: one level. torchvision's non-maximum suppression does not run beside the CPU build
  of torch, ours takes its place.
- Defects: PatchCore (Roth et al., CVPR 2022) with neighbourhoods of 3 x 3, a greedy coreset of a tenth, and the
  reweighted score of its equation 7, on the pipeline's frozen cells in place of a WideResNet's second and third block.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.methods import params_of
from benchmarks.sections import table, write_section
from isthmus.core.device import make_deterministic
from isthmus.core.files import read_json, write_json
from isthmus.core.monai_import import monai_import
from isthmus.data.manifest import INDEX, read_table
from isthmus.data.masks import IGNORED
from isthmus.data.shards import Rows
from isthmus.evaluation.boxes import LEAST_SCORE, MAX_IOU, TrueBoxes
from isthmus.evaluation.masks import TrueMasks
from isthmus.evaluation.scoring.anomaly import auroc
from isthmus.evaluation.scoring.boxes import (
    Boxes,
    Detections,
    ap,
    ap50,
    average_precisions,
    match_boxes,
    suppress,
)
from isthmus.evaluation.scoring.masks import class_iou, confusions, mean_defined, mean_iou
from isthmus.evaluation.selection.choice import SOURCE_ONLY
from isthmus.evaluation.trained import Samples, read_samples
from isthmus.models.embedding import read_facts
from isthmus.stages import evaluate

STEPS, BATCH, CROP, RATE = 150, 8, 112, 1e-3
BOX_STEPS, BOX_BATCH, WIDTH, HELD = 100, 4, 64, 100  # width of FCOS's head; boxes of an image
CORESET = 0.1  # [share] of cells
PROJECTED, NEIGHBOURS = 128, 9  # width of the projection that picks them; b of equation 7


def unet(params: evaluate.Params, folder: Path) -> dict[str, Any]:
    """Returns mean IoU and IoU of the foreground on the target's test split, and mean IoU on the source's."""
    scenario, samples = params.scenario, read_samples(folder / "manifest.parquet", folder / "prepared")
    images = Rows(folder / "prepared" / "shards", read_table(folder / "prepared" / "index.parquet", INDEX))
    masks, classes = TrueMasks(folder / "prepared", folder / "masks_target"), len(scenario.classes)
    own = samples.rows(scenario.source, "train")
    own = own[masks.scored(own)]
    halved = _halved(images, own)
    mean, std = (halved.mean(dim=(0, 2, 3), keepdim=True), halved.std(dim=(0, 2, 3), keepdim=True).clamp_min(1e-3))
    truth = torch.from_numpy(masks.take(own)[:, ::2, ::2].astype(np.int64))
    network = _trained_unet((halved - mean) / std, truth, classes).eval()

    def counts(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        total = np.zeros((classes, classes), np.int64)
        for row in rows[masks.scored(rows)]:
            with torch.no_grad():
                logits = network((_halved(images, row[None]) - mean) / std)
            found = functional.interpolate(logits, size=(masks.side, masks.side), mode="bilinear").argmax(1)
            total += confusions(found.numpy().astype(np.uint8), masks.take(row[None]), classes)[0]
        return total

    target, source = (counts(samples.rows(domains, "test")) for domains in ([scenario.target], scenario.source))
    return {
        "method": "MONAI BasicUNet",
        "target": [float(mean_iou(target)), float(mean_defined(class_iou(target)[1:]))],
        "source": float(mean_iou(source)),
    }


def _halved(images: Rows, rows: NDArray[np.int64]) -> Tensor:
    """Returns images at half their size, float32 `[n, C, H / 2, W / 2]`, values in [0, 1]."""
    taken = images.take(rows)
    top = np.iinfo(taken.dtype).max if taken.dtype.kind == "u" else 1
    return functional.avg_pool2d(torch.from_numpy(taken.astype(np.float32) / top).permute(0, 3, 1, 2), 2)


def _trained_unet(images: Tensor, truth: Tensor, classes: int) -> nn.Module:
    with monai_import():
        from monai.losses import MaskedDiceLoss
        from monai.networks.nets import BasicUNet
    network = BasicUNet(2, images.shape[1], classes)
    dice = MaskedDiceLoss(include_background=False)
    optimiser, generator = torch.optim.Adam(network.parameters(), RATE), torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        pixels, wanted = _crops(images, truth, generator)
        logits, scored = network(pixels), wanted != IGNORED
        one_hot = functional.one_hot(wanted.masked_fill(~scored, 0), classes).permute(0, 3, 1, 2).float()
        loss = functional.cross_entropy(logits, wanted, ignore_index=IGNORED)
        loss = loss + dice(logits.softmax(dim=1), one_hot, scored[:, None].float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found: nn.Module = network
    return found


def _crops(images: Tensor, truth: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns crops of random images, mirrored and turned at random, that hold a scored pixel."""
    pixels: list[Tensor] = []
    wanted: list[Tensor] = []
    while len(pixels) < BATCH:
        row, turn, mirror = (int(torch.randint(n, (1,), generator=generator)) for n in (len(images), 4, 2))
        top, left = (int(torch.randint(s - CROP + 1, (1,), generator=generator)) for s in images.shape[2:])
        area = (slice(top, top + CROP), slice(left, left + CROP))
        image, mask = images[row][:, *area], truth[row][area]
        if (mask != IGNORED).any():
            both = (torch.rot90(part.flip(-1) if mirror else part, turn, (-2, -1)) for part in (image, mask))
            pixels.append(next(both))
            wanted.append(next(both))
    return torch.stack(pixels), torch.stack(wanted)


def fcos(params: evaluate.Params, folder: Path) -> dict[str, Any]:
    """Returns AP50 and AP on the target's test split, and AP50 on the source's."""
    from torchvision.models.detection import fcos as reference

    scenario, samples = params.scenario, read_samples(folder / "manifest.parquet", folder / "prepared")
    grid = read_facts(folder / "features").grid
    rows = Rows(folder / "features", read_table(folder / "prepared" / "index.parquet", INDEX))
    truth, classes = TrueBoxes(folder / "prepared", folder / "masks_target"), len(scenario.classes)
    cell = truth.side / grid[0]  # [pixel]; the network's pixel is a cell
    own = samples.rows(scenario.source, "train")
    own = own[truth.known(own)]
    mean, std = _statistics(rows, own)

    def maps(places: NDArray[np.int64]) -> Tensor:
        cells = (torch.from_numpy(rows.take(places).astype(np.float32)) - mean) / std
        return cells.permute(0, 2, 1).reshape(len(places), -1, *grid)

    network = _fcos(reference, mean.shape[-1], classes)
    optimiser, generator = torch.optim.Adam(network.parameters(), RATE), torch.Generator().manual_seed(0)
    for _ in range(BOX_STEPS):
        places = own[torch.randint(len(own), (BOX_BATCH,), generator=generator).numpy()]
        losses = network(list(maps(places)), [_target(boxes, cell) for boxes in truth.take(places)])
        optimiser.zero_grad()
        sum(losses.values()).backward()
        optimiser.step()
    network.eval()

    def found(places: NDArray[np.int64]) -> Iterator[Detections]:
        with torch.no_grad(), patch.object(reference.box_ops, "batched_nms", _suppressed):
            for place in places:
                (one,) = network(list(maps(place[None])))
                yield Detections(
                    one["boxes"].numpy() * cell, one["labels"].numpy(), one["scores"].numpy().astype(float)
                )

    scores = []
    for domains in ([scenario.target], scenario.source):
        places = samples.rows(domains, "test")
        places = places[truth.known(places)]
        matches = match_boxes([*found(places)], truth.take(places), classes)
        precisions = average_precisions(matches, np.ones((1, len(places))))
        scores.append([float(ap50(precisions)[0]), float(ap(precisions)[0])])
    return {"method": "torchvision FCOS on frozen cells", "target": scores[0], "source": scores[1][0]}


def _fcos(reference: Any, width: int, classes: int) -> Any:
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.image_list import ImageList

    torch.manual_seed(0)
    narrow = nn.Conv2d(width, WIDTH, 1)
    narrow.out_channels = WIDTH
    anchors = AnchorGenerator(((1,),), ((1.0,),))
    anchors.cell_anchors = [torch.tensor([[0.0, 0.0, 1.0, 1.0]])]  # it rounds its own, of one pixel to nothing
    network = reference.FCOS(
        narrow, classes, anchor_generator=anchors, score_thresh=LEAST_SCORE, nms_thresh=MAX_IOU, detections_per_img=HELD
    )

    class Unchanged(nn.Module):
        """In the place of resizing: the images are cells already."""

        def forward(self, images: list[Tensor], targets: Any = None) -> tuple[Any, Any]:
            stacked = torch.stack(images)
            return ImageList(stacked, [tuple(stacked.shape[-2:])] * len(images)), targets

        def postprocess(self, found: Any, *_: Any) -> Any:
            return found

    network.transform = Unchanged()
    return network


def _target(boxes: Boxes, cell: float) -> dict[str, Tensor]:
    corners = torch.from_numpy(np.asarray(boxes.corners, np.float32).reshape(-1, 4) / cell)
    return {"boxes": corners, "labels": torch.from_numpy(boxes.classes)}


def _suppressed(boxes: Tensor, scores: Tensor, classes: Tensor, most: float) -> Tensor:
    return torch.from_numpy(suppress(boxes.numpy(), scores.numpy(), classes.numpy(), most))


def _statistics(rows: Rows, own: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    cells = torch.from_numpy(rows.take(own).astype(np.float32)).flatten(0, 1)
    return cells.mean(dim=0), cells.std(dim=0).clamp_min(1e-6)


def patch_core(params: evaluate.Params, folder: Path) -> dict[str, Any]:
    """Returns the AUROC of images on the target's test split, and on the source's."""
    scenario, samples = params.scenario, read_samples(folder / "manifest.parquet", folder / "prepared")
    grid = read_facts(folder / "features").grid
    rows = Rows(folder / "features", read_table(folder / "prepared" / "index.parquet", INDEX))
    own = samples.rows(scenario.source, "train")
    own = own[samples.label[own] == 0]
    memory = _coreset(_neighbourhoods(rows, own, grid).flatten(0, 1))
    among = torch.cdist(memory, memory)
    labels = _labels(folder, samples)

    def score(place: np.int64) -> float:
        """Returns equation 7: the largest distance, less where the remembered cell lies far from its neighbours."""
        distances = torch.cdist(_neighbourhoods(rows, np.array([place]), grid)[0], memory)
        nearest, where = distances.min(dim=1)
        worst = int(nearest.argmax())
        around = among[where[worst]].topk(NEIGHBOURS, largest=False).indices  # the remembered cell itself among them
        weight = 1 - torch.softmax(distances[worst, around], dim=0)[0]
        return float(weight * nearest[worst])

    def found(domains: list[str]) -> float:
        places = samples.rows(domains, "test")
        places = places[labels[places] >= 0]
        return auroc(np.array([score(place) for place in places]), labels[places] == 1)

    target, source = found([scenario.target]), found(scenario.source)
    return {"method": "PatchCore on frozen cells", "target": [target], "source": source}


def _labels(folder: Path, samples: Samples) -> NDArray[np.int64]:
    """Returns 0 good, 1 defective, -1 not known of all images, also of the target."""
    import pandas as pd

    known = pd.read_parquet(folder / "labels_target.parquet").drop_duplicates("image_id").set_index("image_id")["label"]
    of_target = known.reindex(samples.image_id).fillna(-1).to_numpy(np.int64)
    return np.where(samples.label >= 0, samples.label, of_target)


def _neighbourhoods(rows: Rows, places: NDArray[np.int64], grid: tuple[int, ...]) -> Tensor:
    """Returns the mean of each cell and those around it, float32 `[n, T, D]` (section 3.1)."""
    cells = torch.from_numpy(rows.take(places).astype(np.float32)).permute(0, 2, 1).reshape(len(places), -1, *grid)
    return functional.avg_pool2d(cells, 3, 1, 1, count_include_pad=False).flatten(2).permute(0, 2, 1)


def _coreset(cells: Tensor) -> Tensor:
    """Returns a tenth of the cells, each the farthest from those before it in a random projection (section 3.2)."""
    generator = torch.Generator().manual_seed(0)
    low = cells @ (torch.randn(cells.shape[1], PROJECTED, generator=generator) / PROJECTED**0.5)
    kept = [int(torch.randint(len(cells), (1,), generator=generator))]
    nearest = (low - low[kept[0]]).norm(dim=1)
    for _ in range(int(CORESET * len(cells)) - 1):
        kept.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (low - low[kept[-1]]).norm(dim=1))
    return cells[kept]


METHODS: dict[str, Callable[[evaluate.Params, Path], dict[str, Any]]] = {
    "segmentation": unet,
    "change": unet,
    "detection": fcos,
    "anomaly": patch_core,
}
METRICS = {"mean_iou": "mean IoU / IoU of the foreground", "ap50": "AP50 / AP", "auroc": "AUROC"}


def measured(folder: Path, out: Path) -> dict[str, Any]:
    """Returns the result of one finished scenario; what is there already is not done again."""
    done = out / f"{folder.name}.json"
    if not done.is_file():
        params = params_of(evaluate.Params, folder.parents[1] / "params.yaml", scenario=folder.name)
        make_deterministic(1)
        torch.manual_seed(0)
        out.mkdir(parents=True, exist_ok=True)
        write_json(done, {"scenario": folder.name} | METHODS[params.scenario.task](params, folder))
    return read_json(done) | _pipelines(folder)


def _pipelines(folder: Path) -> dict[str, Any]:
    """Returns the scores of source-only (mean over seeds) and of the choice, as the pipeline evaluated them."""
    truth = read_json(folder / "truth.json")
    return {"metric": truth["metric"], "count": truth["count"]} | {
        name: _scores(truth, method) for name, method in ((SOURCE_ONLY, SOURCE_ONLY), ("choice", truth["chosen"]))
    }


def _scores(truth: dict[str, Any], method: str) -> list[float]:
    own = truth["methods"][method]
    if truth["metric"] == "mean_iou":
        foreground = [own["per_class"][name]["iou"] for name in truth["classes"][1:]]
        return [own["mean_iou"]["mean"], float(mean_defined(np.array(foreground, float)))]
    return [own[name]["mean"] for name in (["ap50", "ap"] if truth["metric"] == "ap50" else ["auroc"])]


def report(results: list[dict[str, Any]]) -> str:
    """Returns the scenarios as Markdown, one row each."""
    head = ("scenario", "test images", "score", "published method", "it, on the target", "it, on the source")
    rows = [
        (
            r["scenario"], r["count"], METRICS[r["metric"]], r["method"], _shown(r["target"]), _shown([r["source"]]),
            _shown(r[SOURCE_ONLY]), _shown(r["choice"]),
        )
        for r in results
    ]  # fmt: skip
    return table((*head, "our source_only", "our choice"), *rows)


def _shown(scores: list[float]) -> str:
    return " / ".join(f"{score:.3f}" for score in scores)


def main() -> None:
    """Trains on the scenarios of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.published", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for results")
    parser.add_argument("--write", type=Path, help="folder of the repository: docs/benchmarks.md gets the table")
    parser.add_argument("folders", nargs="+", type=Path, metavar="PROJECT/out/NAME")
    given = parser.parse_args()
    results = []
    for folder in given.folders:
        results.append(measured(folder.absolute(), given.out))
        print(results[-1], flush=True)
    if given.write:
        write_section(given.write / "docs" / "benchmarks.md", "published", report(results), keep_rows=True)


if __name__ == "__main__":
    main()
