"""The small project of `project_files`, with real images and weights that can tell them apart: for asking models."""

from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from isthmus.core.files import read_json, sha256_file, write_json
from isthmus.core.plugins import names
from isthmus.data.kinds.natural import Config
from isthmus.data.manifest import LOCATIONS, MANIFEST, TARGET_LABELS, read_table, write_table
from isthmus.evaluation.scoring.predict import PREDICTIONS, predictions_table
from isthmus.evaluation.trained import read_samples
from isthmus.models.trained import export_trained, load_trained
from isthmus.registry.model.raw_images import decode
from tests.registry.project_files import CLASSES, SIZE, commit, dvc

RAW = Path("data/raw/demo")
_COLOURS = {"crack": (200, 40, 40), "dent": (40, 200, 40), "good": (40, 40, 200)}
_SHIFT = {"line_a": 0, "line_b": 25}


def fill(project: Path) -> Path:
    """Writes an image for each row of the manifest, fits the heads, and writes their answers as `evaluate` would."""
    out = project / "out" / "demo"
    labels = _write_images(project, out)
    images = np.stack([Config(image_size=SIZE).build().prepare(decode(path), {}) for path in _paths(project)])
    for method in ("coral", "source_only"):
        _fit_heads(out, method, images, labels)
    export_trained(out / "train", [("coral", 0, 4)], out / "features", 0, project / "exported")
    domains = read_table(out / "manifest.parquet", MANIFEST)["domain"].to_numpy()
    model = load_trained(project / "exported")
    logits = np.zeros((len(images), len(CLASSES)), np.float32)
    for domain in sorted(set(domains)):
        logits[domains == domain] = model.predict_logits(images[domains == domain], domain)
    samples = read_samples(out / "manifest.parquet", out / "prepared")
    write_table(out / "predictions.parquet", predictions_table(samples, logits, labels), PREDICTIONS)
    numbers = {"source_test_balanced_accuracy": 0.95, "source_only_source_test_balanced_accuracy": 0.96}
    write_json(out / "metrics.json", read_json(out / "metrics.json") | numbers)
    for file in (project / "exported").iterdir():
        file.unlink()
    (project / "exported").rmdir()
    dvc(project, "commit", "-q", "-f")
    commit(project)
    return project


def name_all_rules(project: Path) -> None:
    """Has every rule run; those that count images are told that there are few here."""
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["gates"] = {name: {} for name in names("gates.rules")} | {"per_class_floor": {"min_images": 2}}
    params["gates"]["within_budget"] = {"max_times_champion": 20}  # a busy machine must not decide a test
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def name_rules(project: Path, *rules: str) -> None:
    """Has these rules run as they are."""
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["gates"] = {name: {} for name in rules}
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def forget_target_labels(project: Path) -> None:
    """Makes the results those of a target that nobody has labelled."""
    out = project / "out" / "demo"
    table = read_table(out / "predictions.parquet", PREDICTIONS)
    target = table["domain"] == "line_b"
    table["label"] = table["label"].astype("Int32").mask(target)
    table["correct"] = table["correct"].astype("boolean").mask(target)
    write_table(out / "predictions.parquet", table, PREDICTIONS)
    write_json(out / "truth.json", {"available": False})
    labels = read_table(out / "labels_target.parquet", TARGET_LABELS)
    write_table(out / "labels_target.parquet", labels.iloc[:0], TARGET_LABELS)
    dvc(project, "commit", "-q", "-f")


def spoil(project: Path, method: str = "coral", swap: tuple[int, int] = (0, 1)) -> None:
    """Trains the chosen method badly: two classes change places in its head, and the pipeline's answers with them."""
    out = project / "out" / "demo"
    for path in (out / "train" / method).glob("seeds/*/epochs/*.safetensors"):
        tensors = load_file(path)
        order = list(range(len(CLASSES)))
        order[swap[0]], order[swap[1]] = order[swap[1]], order[swap[0]]
        save_file(tensors | {f"head.{p}": tensors[f"head.{p}"][order].contiguous() for p in ("weight", "bias")}, path)
    table = read_table(out / "predictions.parquet", PREDICTIONS)
    other = {swap[0]: swap[1], swap[1]: swap[0]}
    table["predicted"] = [other.get(place, place) for place in table["predicted"]]
    table["correct"] = (table["predicted"] == table["label"]).astype("boolean")
    write_table(out / "predictions.parquet", table, PREDICTIONS)
    dvc(project, "commit", "-q", "-f")


def drawn_image(name: str, domain: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Returns one more image of a class and a domain, uint8 `[24, 30, 3]`."""
    noise = rng.integers(-30, 30, (24, 30, 3)) + np.array(_COLOURS[name]) + _SHIFT[domain]
    return noise.clip(0, 255).astype(np.uint8)


def _paths(project: Path) -> list[Path]:
    locations = read_table(project / "out/demo/locations.parquet", LOCATIONS)
    return [project / RAW / path for path in locations["path"]]


def _write_images(project: Path, out: Path) -> NDArray[np.int64]:
    manifest = read_table(out / "manifest.parquet", MANIFEST)
    target = read_table(out / "labels_target.parquet", TARGET_LABELS).set_index("image_id")["label"]
    label = manifest["label"].fillna(manifest["image_id"].map(target)).to_numpy(dtype=np.int64)
    rng = np.random.default_rng(0)
    paths = []
    for place, row in enumerate(manifest.itertuples()):
        name = CLASSES[label[place]]
        path = Path(str(row.domain)) / name / f"{place:03d}.png"
        (project / RAW / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn_image(name, str(row.domain), rng)).save(project / RAW / path)
        paths.append(path.as_posix())
    manifest["sha256"] = [sha256_file(project / RAW / path) for path in paths]
    write_table(out / "manifest.parquet", manifest, MANIFEST)
    write_table(out / "locations.parquet", manifest[["image_id", "part"]].assign(path=paths), LOCATIONS)
    return label


def _fit_heads(out: Path, method: str, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    """Solves the head of each kept epoch by ridge regression on its own bottleneck's features, and keeps these."""
    for path in (out / "train" / method).glob("seeds/*/epochs/*.safetensors"):
        epoch, seed = int(path.stem), int(path.parts[-3])
        export_trained(out / "train", [(method, seed, epoch)], out / "features", seed, out / "one")
        model = load_trained(out / "one")
        with torch.no_grad():
            domains = torch.zeros(len(images), dtype=torch.int64)
            features = model.encoder(torch.from_numpy(images).permute(0, 3, 1, 2), domains)
            inputs = model.classifier(features, domains).features
            ones = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1).double()
            wanted = torch.eye(len(CLASSES), dtype=torch.float64)[torch.from_numpy(labels)] * 12 - 6
            gram = ones.T @ ones + 1e-6 * torch.eye(ones.shape[1], dtype=torch.float64)
            solved = torch.linalg.solve(gram, ones.T @ wanted).float()
        head = {"head.weight": solved[:-1].T.contiguous(), "head.bias": solved[-1].contiguous()}
        save_file(load_file(path) | head, path)
        np.save(path.with_suffix(".embeddings.npy"), inputs.numpy().astype(np.float16))
    for file in (out / "one").iterdir():
        file.unlink()
    (out / "one").rmdir()
