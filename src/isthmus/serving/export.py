"""A registered model as an ONNX file, for devices that run no Python; checked against the model before it is kept.

`model.onnx` takes prepared images `[N, H, W, C]` and answers `probabilities` float32 `[N, K]`, calibrated as the
registered model's, and `features` float32 `[N, B]`. `model.int8.onnx` is the same with int8 weights in all
but convolutions (dynamic quantisation: activations are quantised as they come), judged by the gate's rules
(`export_gate.py`). `model.json` says which model it is, its classes, how an image is prepared, how far the files'
answers were from the model's, and what the gate says. Preparing an image is the caller's work.
"""

import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isthmus.core.errors import ConfigError, DataError, StoreError
from isthmus.core.files import atomic_folder, read_json, write_json
from isthmus.core.progress import track
from isthmus.data.names import as_text
from isthmus.gates.judge import Judgement
from isthmus.models.classifier import Encoder
from isthmus.models.trained import FACTS, WEIGHTS, TrainedClassifier
from isthmus.registry.gate.decision import MEANING, findings
from isthmus.registry.model.answers import ModelParts
from isthmus.registry.model.model_files import FOLDER, SPEC, TYPICALITY
from isthmus.registry.model.served import Predictor
from isthmus.registry.publish.model_reference import Address, resolve
from isthmus.registry.store.stores import open_store
from isthmus.registry.store.tracking import Store
from isthmus.serving.export_gate import judge_exported, open_session
from isthmus.serving.predict import list_files

OPSET = 17
FULL, INT8, DESCRIPTION = "model.onnx", "model.int8.onnx", "model.json"
_TOLERANCE = 1e-4  # [probability]
_BATCH = 32
_TIMED = 20  # images, one by one
_SHOWN = 5  # names in a message


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: with the files.
        checks: file -> `images`, `largest_difference` [probability], `equal` [share of predictions],
            `milliseconds` an image on one thread, and `megabytes`.
        model_milliseconds: an image by the model itself, in PyTorch on one thread.
        version: of the model.
        gate: what the gate's rules say of the int8 file; None where none was written.
    """

    folder: Path
    checks: dict[str, dict[str, float]]
    model_milliseconds: float
    version: str = ""
    gate: Judgement | None = None

    @property
    def exit_status(self) -> int:
        """0; of an int8 file as the gate's: 3 no, 4 a person must decide."""
        return 0 if self.gate is None else self.gate.exit_status

    def lines(self) -> list[str]:
        """Returns what a person reads."""
        found = [
            f"{self.folder / name}: {check['megabytes']:.1f} MB, {check['milliseconds']:.1f} ms an image (the model:"
            f" {self.model_milliseconds:.1f}); on {check['images']} images {100 * check['equal']:.1f}% of the"
            f" predictions are the model's, probabilities at most {check['largest_difference']:.2g} off"
            for name, check in self.checks.items()
        ]
        if self.gate is None:
            return found
        verdict = f"{INT8} as candidate against version {self.version}: {MEANING[self.gate.verdict]}"
        return [*found, findings(self.gate.reasons), verdict]


def export(project: Path, given: str, out: Path | None, images: Sequence[Path], int8: bool) -> Exported:
    """Writes a registered model's files; an older export there is replaced.

    Args:
        project: its root.
        given: `NAME@ALIAS`, `NAME/VERSION` or `NAME`.
        out: the folder; None: `export/<registered name>-<version>`.
        images: files and folders of the target's images, on which the answers are checked.
        int8: write the file with int8 weights too, judged by the gate. What it says refuses no file: it is a result.

    Raises:
        ConfigError: `given` names no model, or `out` holds something else.
        DataError: an image to check on cannot be used.
        StoreError: there is no such model, or it cannot be exported.
    """
    store = open_store(project)
    address = resolve(store, given)
    out = out or project / "export" / f"{address.model}-{address.version}"
    check_replaceable(out)
    with tempfile.TemporaryDirectory() as folder:
        return export_folder(project, fetch_model(store, address, Path(folder)), address, out, images, int8)


def check_replaceable(out: Path) -> None:
    """Refuses a folder that the files of an export are not to take the place of: they replace it as a whole.

    Raises:
        ConfigError: it is there, and holds anything else than an older export.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    found = {path.name for path in out.iterdir()} if out.is_dir() else set()
    others = [as_text(name) for name in sorted(found - {FULL, INT8, DESCRIPTION})]
    if not others and DESCRIPTION in found:
        try:
            about = read_json(out / DESCRIPTION)
        except (DataError, OSError):
            about = None
        if isinstance(about, dict) and "model_id" in about:
            return
        others = [f"a {DESCRIPTION} that no export wrote"]
    shown = ", ".join(others[:_SHOWN]) + (f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else "")
    raise ConfigError(
        f"--out {out}: holds something else than an export{f' ({shown})' if shown else ''}, which would be replaced."
        " Name a folder that is not there"
    )


def fetch_model(store: Store, address: Address, into: Path) -> Path:
    """Copies the files of a registered model below a folder; returns where they lie.

    Raises:
        StoreError: the version lacks one.
    """
    for name in (FACTS, WEIGHTS, SPEC, TYPICALITY):
        if store.fetch_model_file(address.model_id, f"{FOLDER}/{name}", into) is None:
            raise StoreError(
                f"{address.model}: version {address.version} has no file '{name}'. Publish the scenario again"
            )
    return next(into.rglob(SPEC)).parent


def export_folder(
    project: Path, folder: Path, address: Address, out: Path, images: Sequence[Path], int8: bool
) -> Exported:
    """Writes the files of a model whose own files lie in a folder; arguments and exceptions as of `export`."""
    predictor = Predictor(folder)
    parts = predictor.parts
    if parts.spec["task"] != "classification":
        raise StoreError(
            f"{address.model}: task {parts.spec['task']} is not exported. Allowed: models of classification; others"
            " answer by 'isthmus predict' and 'isthmus serve'"
        )
    classifier = parts.classifier
    for encoder in [module for module in classifier.modules() if isinstance(module, Encoder)]:
        encoder.at("float32")  # ONNX Runtime has no bfloat16 on a CPU
    prepared = _prepared(predictor, images)
    if prepared.dtype == np.uint16:
        raise StoreError(
            f"{address.model}: its prepared images are uint16, which torch does not write as ONNX. Allowed: uint8,"
            " float16. Set 'depth: uint8' in the scenario's preprocess and publish again; 'isthmus predict' and"
            " 'isthmus serve' answer by this model"
        )
    network = Calibrated(classifier, parts.target, parts.spec["promise"]["temperature"]["target"]).eval()
    with atomic_folder(out) as written:
        write_onnx(network, prepared[:2], written / FULL, address.model)
        if int8:
            quantise(written / FULL, written / INT8)
        with torch.no_grad():
            wanted = np.concatenate([network(torch.from_numpy(rows))[0].numpy() for rows in _batches(prepared)])
        checks = {name: _check(written / name, prepared, wanted) for name in ([FULL, INT8] if int8 else [FULL])}
        check = checks[FULL]
        if check["largest_difference"] > _TOLERANCE or check["equal"] < 1:
            raise StoreError(
                f"{address.model}: answers of the ONNX file differ from the model's by"
                f" {check['largest_difference']:.2g} (allowed: {_TOLERANCE:g}), {100 * check['equal']:.1f}% of the"
                " predictions are equal; nothing was written"
            )
        gate = judge_exported(project, address, predictor, written / INT8) if int8 else None
        write_json(written / DESCRIPTION, _description(address, parts, prepared, checks, gate))
    torch.set_num_threads(1)
    with torch.no_grad():
        milliseconds = _milliseconds(lambda row: network(torch.from_numpy(row)), prepared)
    return Exported(out, checks, milliseconds, address.version, gate)


class Calibrated(nn.Module):
    """A trained model as one network, for the images of one domain."""

    def __init__(self, classifier: TrainedClassifier, domain: str, temperature: float) -> None:
        super().__init__()
        self.classifier = classifier
        self.place = classifier.domains.index(domain)
        self.temperature = temperature

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Prepared images `[N, H, W, C]` -> calibrated probabilities `[N, K]` and features `[N, D]`."""
        pixels = images.permute(0, 3, 1, 2)
        domains = torch.full((pixels.shape[0],), self.place, dtype=torch.int64)
        found = self.classifier(pixels, domains)
        return (found.logits.double() / self.temperature).softmax(dim=1).float(), found.features


def _prepared(predictor: Predictor, images: Sequence[Path]) -> NDArray[Any]:
    """Returns images as the pipeline prepares the target's, `[N, H, W, C]`."""
    files = list_files(images, predictor.parts.spec["kind"]).files
    found = []
    for path in track(files, "export", len(files), "image"):
        try:
            found.append(predictor.prepared(path))
        except DataError as error:
            raise DataError(f"--images {as_text(str(path))}: {error}") from None
    return np.stack(found)


def write_onnx(network: nn.Module, example: NDArray[Any], path: Path, model: str) -> None:
    """Writes a network of prepared images as an ONNX file with outputs `probabilities` and `features`.

    Args:
        network: such as `Calibrated`, in evaluation mode.
        example: images `[N, H, W, C]`; files take any number of images of this size.
        path: of the new file.
        model: its name in messages.

    Raises:
        StoreError: an operator of the network has no ONNX form.
    """
    side = example.shape[1:3]
    for module in network.modules():
        if getattr(
            module, "dynamic_img_size", False
        ):  # else positions are resampled in each call, by no operator of ONNX
            module.set_input_size(side)  # type: ignore[operator]
    names = {"images": {0: "batch"}, "probabilities": {0: "batch"}, "features": {0: "batch"}}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of shapes that are constants here, and of the newer exporter
            torch.onnx.export(
                network,
                (torch.from_numpy(example),),
                str(path),
                opset_version=OPSET,
                input_names=["images"],
                output_names=["probabilities", "features"],
                dynamic_axes=names,
                dynamo=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise StoreError(f"{model}: its network cannot be written as ONNX: {str(error).splitlines()[0]}") from error


def quantise(full: Path, to: Path) -> None:
    """Writes an ONNX file with int8 weights in all but convolutions."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it logs advice on the root logger
    try:
        # Convolutions stay float32: quantised so, MobileNetV2 answers one class for all, in seven times the time.
        quantize_dynamic(
            str(full),
            str(to),
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm"],
        )
    finally:
        logging.getLogger().setLevel(level)


def _check(path: Path, prepared: NDArray[Any], wanted: NDArray[np.float32]) -> dict[str, float]:
    """Returns how far a file's answers are from the model's, and what an image costs; see `Exported`."""
    session = open_session(path)
    found = np.concatenate([session.run(["probabilities"], {"images": rows})[0] for rows in _batches(prepared)])
    return {
        "images": len(found),
        "largest_difference": float(np.abs(found - wanted).max()),
        "equal": float((found.argmax(axis=1) == wanted.argmax(axis=1)).mean()),
        "milliseconds": _milliseconds(lambda row: session.run(None, {"images": row}), prepared),
        "megabytes": path.stat().st_size / 2**20,
    }


def _batches(prepared: NDArray[Any]) -> Iterator[NDArray[Any]]:
    return (prepared[start : start + _BATCH] for start in range(0, len(prepared), _BATCH))


def _milliseconds(answer: Callable[[NDArray[Any]], object], prepared: NDArray[Any]) -> float:
    """Returns the median time of one image, after the first."""
    seconds = []
    for place in range(min(_TIMED, len(prepared) + 1)):
        start = time.perf_counter()
        answer(prepared[max(0, place - 1)][None])
        seconds.append(time.perf_counter() - start)
    return 1000 * median(seconds[1:] or seconds)


def _description(
    address: Address,
    parts: ModelParts,
    prepared: NDArray[Any],
    checks: dict[str, dict[str, float]],
    gate: Judgement | None,
) -> dict[str, Any]:
    spec = parts.spec
    return {
        "model": address.model,
        "version": address.version,
        "model_id": address.model_id,
        "opset": OPSET,
        "classes": spec["classes"],
        "images": {
            "dtype": prepared.dtype.name,
            "shape": ["batch", *prepared.shape[1:]],
            "domain": parts.target,
            "kind": spec["kind"],
            "preprocess": spec["preprocess"],
            "fitted": spec["fitted"][parts.target],
        },
        "checks": checks,
        "gate": {} if gate is None else {INT8: asdict(gate)},
    }
