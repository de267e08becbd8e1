"""The registered model's own script: MLflow runs it when the model is loaded, with the code bundled beside it.

It takes raw images in a column `image` (and of change the later ones in `image_b`): a `pathlib.Path`, `(path, part)`
for one image of several in a file, the bytes of a file, those bytes in base64, or an array `[H, W]` / `[H, W, C]`. It
does to them what the pipeline did to the target's images (or, with the parameter `domain`, to a source's), and answers
as its task does: class, calibrated probabilities and a conformal set of classes, or a mask, or boxes; and how typical
the image is of what the model was adapted to.
MLflow's scoring server decodes base64 in `dataframe_split` and `dataframe_records`, but hands on that of `instances`
as text.
"""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model

from isthmus.core import plugins
from isthmus.core.config import validated
from isthmus.core.errors import DataError
from isthmus.core.files import read_json
from isthmus.data.bounds import DEFAULT, TooManyPixelsError
from isthmus.data.image import Image
from isthmus.data.kinds import Kind
from isthmus.data.tiles import Tiles
from isthmus.evaluation.shift.membership import read_typicalities
from isthmus.models.trained import load_trained
from isthmus.registry.model.answers import ModelParts, TaskAnswers
from isthmus.registry.model.model_files import SPEC, TYPICALITY
from isthmus.registry.model.raw_images import decode

with warnings.catch_warnings():
    # While it is imported, MLflow 3.17 warns of a type hint of its own (mlflow/types/responses.py).
    warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType", category=UserWarning)
    from mlflow.pyfunc.model import PythonModel

_BANDS = 4  # of a pixel


class Predictor:
    """Preprocessing and network of one scenario, for raw images of its target domain.

    Args:
        folder: weights as `models.trained.export_trained` writes them, `served.json` and `typicality.safetensors`.

    Attributes:
        parts: what was loaded.
    """

    def __init__(self, folder: Path) -> None:
        spec = read_json(folder / SPEC)
        self._answers: TaskAnswers = plugins.load("registry.model.answers", spec["task"]).Answers()
        tiles = validated(Tiles, spec["tiles"], f"{SPEC}: tiles.") if spec["tiles"] else None
        self.parts = ModelParts(
            spec, spec["classes"], spec["domain"], _build_kind(spec["kind"], spec["preprocess"]), spec["fitted"], tiles,
            read_typicalities(folder / TYPICALITY, list(spec["fitted"])), load_trained(folder),
        )  # fmt: skip

    def predict(
        self, examples: pd.DataFrame | Iterable[object], domain: str = "", most_pixels: int | None = None
    ) -> pd.DataFrame:
        """Returns a row an example, with the columns of the task (`registry/model/answers/`).

        Args:
            examples: of one domain: columns as the task's `inputs`, or images alone; each as `decode` takes it.
            domain: whose images they are; empty: the target's.
            most_pixels: of all images together, as their files declare them; None: only each by itself is bounded.

        Raises:
            TooManyPixelsError: there are more.
            DataError: the domain is unknown, a column is missing, or an image cannot be read or prepared; the message
                says which.
        """
        answers, parts, domain = self._answers, self.parts, domain or self.parts.target
        given = self._given(examples)
        if domain not in parts.fitted:
            raise DataError(f"the model knows no domain '{domain}'. Allowed: {', '.join(parts.fitted)}")
        left = Allowance(most_pixels)
        found = []
        for first in range(0, len(given), answers.at_once):
            batch = given[first : first + answers.at_once]
            prepared = [self._prepared(example, first + place, domain, left) for place, example in enumerate(batch)]
            found.append(answers.answer(parts, prepared, domain))
        return pd.concat(found, ignore_index=True) if found else answers.empty(parts)

    def prepared(self, *example: object) -> Any:
        """Returns one example of the target as the network takes it; arguments as `decode` takes them.

        Raises:
            DataError: an image cannot be read or prepared.
        """
        return self._prepared(example, 0, self.parts.target, Allowance(None))

    def _given(self, examples: pd.DataFrame | Iterable[object]) -> list[tuple[object, ...]]:
        wanted = self._answers.inputs
        if not isinstance(examples, pd.DataFrame):
            examples = pd.DataFrame({"image": pd.Series(list(examples), dtype=object)})
        if missing := [name for name in wanted if name not in examples]:
            raise DataError(f"column '{missing[0]}' is missing. An example has {' and '.join(wanted)}")
        return list(zip(*(examples[name] for name in wanted), strict=True))

    def _prepared(self, example: Iterable[object], place: int, domain: str, left: "Allowance") -> Any:
        try:
            return self._answers.prepare(self.parts, [left.decoded(image) for image in example], domain)
        except DataError as error:
            raise type(error)(f"image {place}: {error}") from None
        except Exception as error:  # this image's fault alone: the others of a batch get their predictions
            raise DataError(f"image {place}: cannot be prepared ({type(error).__name__})") from error


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
        """Returns the task's answers to the images in the input's columns; `params` may name their `domain`."""
        return self._predictor.predict(model_input, (params or {}).get("domain", ""), self.most_pixels)


set_model(ServedClassifier())
