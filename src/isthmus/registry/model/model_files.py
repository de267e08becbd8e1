"""The files of a registered model that are read without loading it."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.core.files import read_json

if TYPE_CHECKING:  # the served model imports this file too, and needs no store
    from isthmus.registry.store.tracking import Store

SPEC, TYPICALITY = "served.json", "typicality.safetensors"
FOLDER = "artifacts/model"  # in the model's own artifacts


def read_spec(store: "Store", model_id: str) -> dict[str, Any] | None:
    """Returns classes, domain, kind and preprocessing of a model; None where it was published without them."""
    with tempfile.TemporaryDirectory() as folder:
        file = store.fetch_model_file(model_id, f"{FOLDER}/{SPEC}", Path(folder))
        spec: dict[str, Any] | None = None if file is None else read_json(file)
        return spec
