"""The registered model's own script: MLflow runs it when the model is loaded, with the code bundled beside it.

It takes raw images in a column `image`: a `pathlib.Path`, `(path, part)` for one image of several in a file, the bytes
of a file, those bytes in base64, or an array `[H, W]` / `[H, W, C]`. It does to them what the pipeline did to the
target's images (or, with the parameter `domain`, to a source's), and answers class, calibrated probabilities, the
conformal set of classes, and whether that set is one class: else the model abstains and a person should look.
MLflow's scoring server decodes base64 in `dataframe_split` and `dataframe_records`, but hands on that of `instances`
as text.
"""

import base64
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from numpy.typing import NDArray

from isthmus.core import plugins
from isthmus.core.config import validated
from isthmus.core.errors import DataError
from isthmus.core.files import read_json
from isthmus.core.seeds import derive_seed
from isthmus.data.image import Image
from isthmus.data.kinds import Kind
from isthmus.data.readers import Reader, reader_for
from isthmus.evaluation.conformal import answered, scores
from isthmus.evaluation.validators import softmax
from isthmus.models.trained import load_trained

with warnings.catch_warnings():
    # While it is imported, MLflow 3.17 warns of a type hint of its own (mlflow/types/responses.py).
    warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType", category=UserWarning)
    from mlflow.pyfunc.model import PythonModel

SPEC = "served.json"
BATCH = 32  # images decoded and predicted at once

# (place in the file, bytes found there, suffix): bytes come without a name, and readers are chosen by suffix.
_SIGNATURES = [
    (0, b"\x89PNG", ".png"),
    (0, b"\xff\xd8\xff", ".jpg"),
    (0, b"II*\x00", ".tif"),
    (0, b"MM\x00*", ".tif"),
    (0, b"BM", ".bmp"),
    (8, b"WEBP", ".webp"),
    (0, b"GIF8", ".gif"),
    (128, b"DICM", ".dcm"),
    (344, b"n+1\x00", ".nii"),
]
_MODES = {1: "grey", 3: "rgb"}


class Predictor:
    """Preprocessing and network of one scenario, for raw images of its target domain.

    Args:
        folder: weights as `models.trained.export_trained` writes them, and `served.json`.
    """

    def __init__(self, folder: Path) -> None:
        spec = read_json(folder / SPEC)
        self.classes: list[str] = spec["classes"]
        self._domain: str = spec["domain"]
        self._promise: dict[str, Any] = spec["promise"]
        self._fitted: dict[str, dict[str, Any]] = spec["fitted"]
        self._kind = _build_kind(spec["kind"], spec["preprocess"])
        self._classifier = load_trained(folder)

    def predict(self, images: Iterable[object], domain: str = "") -> pd.DataFrame:
        """Returns a row an image: `class`, `probability_<class>` for each class, `set` and `answered`.

        Probabilities are softmax(logits / T) with the domain's temperature. `set` names the classes that hold the true
        one with the promised coverage (`registry/promise.py`), separated by `|`; `answered` says that it is one class.

        Args:
            images: of one domain, each as `decode` takes it.
            domain: whose images they are; empty: the target's.

        Raises:
            DataError: the domain is unknown, or an image cannot be read or prepared; the message says which.
        """
        given, domain = list(images), domain or self._domain
        if domain not in self._fitted:
            raise DataError(f"the model knows no domain '{domain}'. Allowed: {', '.join(self._fitted)}")
        parts = [
            self._probabilities(given[first : first + BATCH], first, domain) for first in range(0, len(given), BATCH)
        ]
        probabilities = np.concatenate(parts) if parts else np.empty((0, len(self.classes)))
        names = [self.classes[place] for place in probabilities.argmax(axis=1)]
        columns = {f"probability_{name}": probabilities[:, place] for place, name in enumerate(self.classes)}
        inside = self._sets(probabilities, domain)
        sets = ["|".join(name for name, here in zip(self.classes, row, strict=True) if here) for row in inside]
        promised = {"set": pd.Series(sets, dtype=object), "answered": answered(inside)}
        return pd.DataFrame({"class": pd.Series(names, dtype=object), **columns, **promised})

    def _probabilities(self, images: list[object], first: int, domain: str) -> NDArray[np.float64]:
        prepared = []
        for place, image in enumerate(images, first):
            try:
                prepared.append(self._kind.prepare(decode(image), self._fitted[domain]))
            except DataError as error:
                raise DataError(f"image {place}: {error}") from None
        logits = self._classifier.predict_logits(np.stack(prepared), domain).astype(np.float64)
        shares: NDArray[np.float64] = softmax(logits / self._promise["temperature"][self._role(domain)])
        return shares

    def _sets(self, probabilities: NDArray[np.float64], domain: str) -> NDArray[np.bool_]:
        threshold = self._promise["threshold"][self._role(domain)]
        if threshold is None or not len(probabilities):
            return np.ones(probabilities.shape, np.bool_)
        # one by one, the random part of `aps` drawn by the answer itself: an image's set does not hang on its batch
        rows = [scores(row[None], self._promise["score"], derive_seed(0, row.tobytes().hex())) for row in probabilities]
        inside: NDArray[np.bool_] = np.concatenate(rows) <= threshold
        return inside

    def _role(self, domain: str) -> str:
        return "target" if domain == self._domain else "source"


def decode(given: object) -> Image:
    """Decodes the file at a `Path`, one part of it, the bytes of a file (as they are or in base64), or an array.

    Raises:
        DataError: it is none of these, it is broken, or the file holds several images.
    """
    if isinstance(given, np.ndarray):
        return _from_array(given)
    if isinstance(given, bytes | bytearray | memoryview):
        return _from_bytes(bytes(given))
    if isinstance(given, Path):
        return _from_file(given)
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], Path):
        return _existing(given[0]).read(*given)
    if isinstance(given, str):
        # Never a path: a request to the scoring server arrives as text, and a client could have the server open any
        # of its files. Nothing that comes over the network can be a Path.
        return _from_base64(given)
    raise DataError(
        f"cannot take a {type(given).__name__}. Allowed: a pathlib.Path, the bytes of an image file, an array"
    )


def _from_base64(text: str) -> Image:
    data = _unpacked(text.encode())
    if data is None:
        raise DataError(
            f"{len(text)} characters of text are not an image file in base64. Allowed: a pathlib.Path, the bytes of an"
            " image file, those bytes in base64, an array; the text of a path is not opened"
        )
    return _from_bytes(data)


def _unpacked(text: bytes) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None


def _from_array(pixels: NDArray[Any]) -> Image:
    if pixels.ndim not in (2, 3) or pixels.size == 0 or pixels.dtype.kind not in "uif":
        raise DataError(f"array of shape {list(pixels.shape)}, {pixels.dtype}. Allowed: numbers, [H, W] or [H, W, C]")
    shaped = pixels[..., None] if pixels.ndim == 2 else pixels
    return Image(shaped, _MODES.get(shaped.shape[2], "bands"))


def _from_bytes(data: bytes) -> Image:
    suffix = _suffix(data)
    if not suffix:
        # `instances` requests reach a model as the bytes of their base64 text: MLflow 3.17 does not decode them
        unpacked = _unpacked(data)
        if unpacked is None or not _suffix(unpacked):
            raise DataError(f"{len(data)} bytes beginning with {data[:8]!r} are no image file of a known format")
        data, suffix = unpacked, _suffix(unpacked)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"image{suffix}"
        path.write_bytes(data)
        return _from_file(path)


def _suffix(data: bytes) -> str:
    return next((suffix for place, magic, suffix in _SIGNATURES if data[place : place + len(magic)] == magic), "")


def _existing(path: Path) -> Reader:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    return reader_for(path)


def _from_file(path: Path) -> Image:
    reader = _existing(path)
    parts = reader.parts(path)
    if len(parts) != 1:
        raise DataError(f"{path.name}: holds {len(parts)} images; one is expected. Pass (path, part) for each of them")
    return reader.read(path, parts[0])


def _build_kind(name: str, options: dict[str, Any]) -> Kind:
    config = validated(plugins.load("data.kinds", name).Config, options, f"{SPEC}: ")
    kind: Kind = config.build()
    return kind


class ServedClassifier(PythonModel):
    """What MLflow loads and calls."""

    def load_context(self, context: Any) -> None:
        """Loads weights and facts from the model's own artifacts."""
        self._predictor = Predictor(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Returns class and probabilities of the images in column `image`; `params` may name their `domain`."""
        return self._predictor.predict(model_input["image"], (params or {}).get("domain", ""))


set_model(ServedClassifier())
