"""The registered model's own script: MLflow runs it when the model is loaded, with the code bundled beside it.

It takes raw images in a column `image`: a `pathlib.Path`, `(path, part)` for one image of several in a file, the bytes
of a file, those bytes in base64, or an array `[H, W]` / `[H, W, C]`. It does to them what the pipeline did to the
target's images (or, with the parameter `domain`, to a source's), and answers class, calibrated probabilities, the
conformal set of classes, whether that set is one class (else the model abstains and a person should look), and how
typical the image is of what the model was adapted to.
MLflow's scoring server decodes base64 in `dataframe_split` and `dataframe_records`, but hands on that of `instances`
as text.
"""

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
from isthmus.data.bounds import DEFAULT, TooManyPixelsError
from isthmus.data.image import Image
from isthmus.data.kinds import Kind
from isthmus.data.tiles import Tiles
from isthmus.evaluation.confidence.conformal import answered, scores
from isthmus.evaluation.metrics import softmax
from isthmus.evaluation.shift.membership import read_typicalities
from isthmus.models.trained import load_trained
from isthmus.registry.model.model_files import SPEC, TYPICALITY
from isthmus.registry.model.raw_images import check_tile, decode

with warnings.catch_warnings():
    # While it is imported, MLflow 3.17 warns of a type hint of its own (mlflow/types/responses.py).
    warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType", category=UserWarning)
    from mlflow.pyfunc.model import PythonModel

BATCH = 32  # images decoded and predicted at once
_BANDS = 4  # of a pixel


class Predictor:
    """Preprocessing and network of one scenario, for raw images of its target domain.

    Args:
        folder: weights as `models.trained.export_trained` writes them, `served.json` and `typicality.safetensors`.
    """

    def __init__(self, folder: Path) -> None:
        spec = read_json(folder / SPEC)
        self.classes: list[str] = spec["classes"]
        self._domain: str = spec["domain"]
        self._promise: dict[str, Any] = spec["promise"]
        self._fitted: dict[str, dict[str, Any]] = spec["fitted"]
        self._kind = _build_kind(spec["kind"], spec["preprocess"])
        self._tiles = validated(Tiles, spec["tiles"], f"{SPEC}: tiles.") if spec["tiles"] else None
        self._typicality = read_typicalities(folder / TYPICALITY, list(self._fitted))
        self._classifier = load_trained(folder)

    def predict(self, images: Iterable[object], domain: str = "", most_pixels: int | None = None) -> pd.DataFrame:
        """Returns a row an image: `class`, `probability_<class>` for each class, `set`, `answered`, `domain_score`.

        Probabilities are softmax(logits / T) with the domain's temperature. `set` names the classes that hold the true
        one with the promised coverage (`fitted_confidence.py`), separated by `|` (one in a name is written `\\|`);
        `answered` says that it is one class.
        `domain_score` is the share of the domain's held-out images that are at least as far from its training images
        (`evaluation/shift/membership.py`): 1 typical, near 0 unlike anything seen there.

        Args:
            images: of one domain, each as `decode` takes it.
            domain: whose images they are; empty: the target's.
            most_pixels: of all images together, as their files declare them; None: only each by itself is bounded.

        Raises:
            TooManyPixelsError: there are more.
            DataError: the domain is unknown, or an image cannot be read or prepared; the message says which.
        """
        given, domain = list(images), domain or self._domain
        if domain not in self._fitted:
            raise DataError(f"the model knows no domain '{domain}'. Allowed: {', '.join(self._fitted)}")
        left = Allowance(most_pixels)
        parts = [self._answers(given[at : at + BATCH], at, domain, left) for at in range(0, len(given), BATCH)]
        probabilities = np.concatenate([np.empty((0, len(self.classes))), *(part[0] for part in parts)])
        typical = np.concatenate([np.empty(0), *(part[1] for part in parts)])
        names = [self.classes[place] for place in probabilities.argmax(axis=1)]
        columns = {f"probability_{name}": probabilities[:, place] for place, name in enumerate(self.classes)}
        inside = self._sets(probabilities, domain)
        told = [name.replace("\\", "\\\\").replace("|", "\\|") for name in self.classes]
        sets = ["|".join(name for name, here in zip(told, row, strict=True) if here) for row in inside]
        promised = {"set": pd.Series(sets, dtype=object), "answered": answered(inside), "domain_score": typical}
        return pd.DataFrame({"class": pd.Series(names, dtype=object), **columns, **promised})

    def _answers(
        self, images: list[object], first: int, domain: str, left: "Allowance"
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        prepared = []
        for place, image in enumerate(images, first):
            try:
                prepared.append(self._prepared(left.decoded(image), domain))
            except DataError as error:
                raise type(error)(f"image {place}: {error}") from None
            except Exception as error:  # this image's fault alone: the others of a batch get their predictions
                raise DataError(f"image {place}: cannot be prepared ({type(error).__name__})") from error
        embeddings, logits = self._classifier.predict(np.stack(prepared), domain)
        shares = softmax(logits.astype(np.float64) / self._promise["temperature"][self._role(domain)])
        return shares, self._typicality[domain].scores(embeddings)

    def _prepared(self, image: Image, domain: str) -> NDArray[Any]:
        if self._tiles is not None:
            check_tile(image, self._tiles, domain)
        return self._kind.prepare(image, self._fitted[domain])

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


class Allowance:
    """Decodes images as long as they have no more pixels together than they may.

    Args:
        most: pixels, more than four bands of one counted once for each four; None: any number.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._left = most or 0

    def decoded(self, given: object) -> Image:
        """Decodes the next image, after its header was held against what is left.

        Raises:
            TooManyPixelsError: it declares more.
            DataError: it cannot be read.
        """
        if self._most is None:
            return decode(given)
        try:
            image = decode(given, DEFAULT.model_copy(update={"max_pixels": self._left}))
        except TooManyPixelsError:
            raise TooManyPixelsError(
                f"the images of a request may have {self._most} pixels together; {max(0, self._left)} of them are left,"
                " and its file declares more. Send fewer or smaller images"
            ) from None
        rows, columns, bands = image.pixels.shape
        self._left -= rows * columns * -(-bands // _BANDS)
        return image


def _build_kind(name: str, options: dict[str, Any]) -> Kind:
    config = validated(plugins.load("data.kinds", name).Config, options, f"{SPEC}: ")
    kind: Kind = config.build()
    return kind


class ServedClassifier(PythonModel):
    """What MLflow loads and calls.

    Attributes:
        most_pixels: of all images of a call together; who serves strangers sets it.
    """

    most_pixels: int | None = None

    def load_context(self, context: Any) -> None:
        """Loads weights and facts from the model's own artifacts."""
        self._predictor = Predictor(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Returns class and probabilities of the images in column `image`; `params` may name their `domain`."""
        return self._predictor.predict(model_input["image"], (params or {}).get("domain", ""), self.most_pixels)


set_model(ServedClassifier())
