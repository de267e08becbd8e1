"""Runs the MNIST <-> USPS protocol with a LeNet and prints our accuracy beside what papers report.

    isthmus fetch mnist_usps && isthmus fetch usps_mnist       (with --mirror DIR where there is no network)
    dvc repro embed@mnist_usps embed@usps_mnist
    python -m benchmarks.digits --report docs/benchmarks.md

28 x 28 grey, LeNet with widths 20 and 50 (`small_cnn`), trained from scratch, all weights at one rate; last epoch; no
label of the target is used before the last step, where its test split gives the accuracy. What differs from the papers:
5,000 MNIST images instead of 60,000 + 10,000 (what the package index carries), so that MNIST as source trains on about
3,000 and MNIST as target on about 3,500 and is tested on about 1,500; of the source a third is kept for validation,
calibration and test; AdamW and a cosine instead of SGD with its own decay; images are moved by up to 4 pixels, as in
SHOT's code, but not turned, which it does by up to 10 degrees.

Two options look for what such differences are worth, and print only. `--mnist N` trains with N of the MNIST images:
whether more of them would help is seen from fewer. `--box 20` shrinks USPS's digits, which fill their frame, to the 20
of 28 pixels that MNIST's fill.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from benchmarks.methods import accuracies, trained
from benchmarks.sections import write_section
from isthmus.core.files import read_json, sha256_bytes, write_json
from isthmus.data.manifest import INDEX, MANIFEST, read_table, write_table
from isthmus.data.preprocess.domain_statistics import moments_of
from isthmus.data.shards import open_shard

Results = dict[str, dict[str, list[float]]]  # method -> pair -> accuracy [share] by seed
PAIRS = ("usps_mnist", "mnist_usps")
# accuracy [%] on (USPS -> MNIST, MNIST -> USPS)
PUBLISHED = {
    "source_only": (88.0, 79.7, "SHOT's table (Liang et al., ICML 2020)"),
    "dann": (73.0, 77.1, "gradient reversal in ADDA's table (Tzeng et al., CVPR 2017): 2,000 and 1,800 images only"),
    "cdan": (98.0, 95.6, "CDAN+E (Long et al., NeurIPS 2018)"),
    "mcd": (94.1, 94.2, "Saito et al., CVPR 2018"),
    "shot": (98.0, 97.9, "SHOT (SHOT-IM alone: 97.6 and 97.7)"),
    "mcc": (97.6, 97.7, "held against SHOT-IM; MCC's paper has no digits"),
}


def accuracy(logits: np.ndarray, truth: np.ndarray) -> float:
    """Returns the share of rows that are right."""
    return float((logits.argmax(1) == truth).mean())


def settings(params: Path, epochs: int, seeds: int, folder: Path) -> Path:
    """Writes the params of this benchmark: LeNet from scratch, one rate for all weights, the last epoch kept."""
    document = yaml.safe_load(params.read_text(encoding="utf-8"))
    protocol = {"epochs": epochs, "learning_rate": 1e-3, "backbone_rate": 1.0, "shift_pixels": 4}
    document["models"]["small_cnn"] |= protocol
    document["train"] |= {"seeds": list(range(seeds)), "keep": 1}
    path = folder / "digits.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Change:
    """What differs from the protocol, to see what it is worth.

    Attributes:
        mnist: MNIST training images; None: all.
        box: side that USPS's digits fill [pixel of 28]; None: all of it.
    """

    mnist: int | None
    box: int | None

    def __str__(self) -> str:
        """Returns what tells results apart; nothing without a change."""
        parts = {"": self.mnist, "box": self.box}
        return "".join(f"-{name}{value}" for name, value in parts.items() if value is not None)

    def made(self, folder: Path, into: Path) -> Path:
        """Returns the folder that `embed` wrote, or a changed one in the place of it."""
        if self.mnist is not None:
            folder = thinned(folder, self.mnist, into / "fewer")
        return folder if self.box is None else boxed(folder, self.box, into / "boxed")


def thinned(folder: Path, count: int, into: Path) -> Path:
    """Returns a folder with so many MNIST training images; the others go to `cal`, on which nothing trains."""
    manifest = read_table(folder / "manifest.parquet", MANIFEST)
    train = (manifest["domain"] == "mnist") & (manifest["split"] == "train")
    # by id, a hash: the fewer are among the more
    dropped = manifest.loc[train, "image_id"].sort_values().iloc[count:]
    manifest.loc[manifest["image_id"].isin(dropped), "split"] = "cal"
    _others(folder, into, "manifest.parquet")
    write_table(into / "manifest.parquet", manifest, MANIFEST)
    return into


def boxed(folder: Path, box: int, into: Path) -> Path:
    """Returns a folder whose USPS images are shrunk to `box` pixels a side, black around them."""
    _others(folder, into, "prepared")
    prepared, shrunk = folder / "prepared", into / "prepared"
    _others(prepared, shrunk, "facts.json", "shards")
    _others(prepared / "shards", shrunk / "shards")
    index = read_table(prepared / "index.parquet", INDEX)
    facts = read_json(prepared / "facts.json")
    manifest = read_table(folder / "manifest.parquet", MANIFEST)
    train = set(manifest.loc[manifest["split"] == "train", "image_id"])
    seen = []
    for name, rows in index[index["domain"] == "usps"].groupby("shard"):
        images = np.stack([_shrunk(image[..., 0], box) for image in open_shard(prepared / "shards" / f"{name}.npy")])
        (shrunk / "shards" / f"{name}.npy").unlink()
        np.save(shrunk / "shards" / f"{name}.npy", images[..., None])
        seen.append(images[rows.loc[rows["image_id"].isin(train), "row"], ..., None])
    moments = moments_of(np.concatenate(seen))
    facts["mean"]["usps"], facts["std"]["usps"] = moments.mean(), moments.std()
    write_json(shrunk / "facts.json", facts)
    return into


def _shrunk(image: np.ndarray, box: int) -> np.ndarray:
    small = np.asarray(Image.fromarray(image).resize((box, box), Image.Resampling.BICUBIC))
    before = (len(image) - box) // 2
    return np.pad(small, (before, len(image) - box - before))


def _others(folder: Path, into: Path, *names: str) -> None:
    """Makes a folder with links to everything in another but what is written anew."""
    into.mkdir(parents=True)
    for path in folder.iterdir():
        if path.name not in names:
            (into / path.name).symlink_to(path.resolve())


def measure(params: Path, out: Path, methods: list[str], work: Path, kept: Path, change: Change) -> Results:
    """Returns method -> pair -> target test accuracy [share] by seed.

    Args:
        params: of `settings`.
        out: folder with what `embed` wrote.
        methods: in the order of the table.
        work: for what is trained.
        kept: results so far, by settings; each is added as soon as it is there, and not measured again.
        change: of the protocol.
    """
    key = f"{sha256_bytes(params.read_bytes())[:16]}{change}"
    known: dict[str, Results] = read_json(kept) if kept.exists() else {}
    results = known.setdefault(key, {})
    for method in methods:
        for pair in PAIRS:
            if pair in results.get(method, {}):
                continue
            with tempfile.TemporaryDirectory(dir=work) as own:
                folder = change.made(out / pair, Path(own))
                seconds = trained(params, pair, method, folder, Path(own))
                found = accuracies(folder, Path(own) / method, "test", accuracy)[0]
            results.setdefault(method, {})[pair] = found
            write_json(kept, known)
            print(f"{method} {pair}: {', '.join(f'{100 * a:.1f}' for a in found)} ({seconds:.0f} s)", flush=True)
    return {method: results[method] for method in methods}


def table(results: Results) -> str:
    """Returns a Markdown table: ours (least to greatest over seeds) beside the published."""
    head = "| method | USPS -> MNIST | published | MNIST -> USPS | published | published by |"
    lines = [head, "| --- | --- | --- | --- | --- | --- |"]
    for method, pairs in results.items():
        *published, source = PUBLISHED[method]
        ours = [100 * np.array(pairs[pair]) for pair in PAIRS]
        cells = [
            f"{a.mean():.1f} ({a.min():.1f} to {a.max():.1f}) | {figure}"
            for a, figure in zip(ours, published, strict=True)
        ]
        lines.append(f"| {method} | {' | '.join(cells)} | {source} |")
    return "\n".join(lines)


def main() -> None:
    """Measures and prints; writes the section `digits` of the report where one is named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.digits", description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="has both scenarios")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder with what `embed` wrote for both")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=list(PUBLISHED), choices=list(PUBLISHED), help="methods")
    parser.add_argument(
        "--kept", type=Path, default=Path("out/digits.json"), help="results so far; a run goes on there"
    )
    parser.add_argument("--mnist", type=int, help="MNIST training images; default: all")
    parser.add_argument("--box", type=int, help="side that USPS's digits fill [pixel of 28]; default: all of it")
    parser.add_argument("--report", type=Path, help="Markdown file whose section `digits` is written")
    given = parser.parse_args()
    change = Change(given.mnist, given.box)
    with tempfile.TemporaryDirectory() as work:
        params = settings(given.params, given.epochs, given.seeds, Path(work))
        text = table(measure(params, given.out, given.only, Path(work), given.kept, change))
    print(text)
    if given.report and not str(change):
        about = (
            "## MNIST <-> USPS, LeNet\n\nAccuracy on the target's test split [%], "
            f"{given.epochs} epochs, {given.seeds} seed(s). `python -m benchmarks.digits`, which also says what differs"
            " from the papers.\n\n"
        )
        write_section(given.report, "digits", about + text)


if __name__ == "__main__":
    main()
