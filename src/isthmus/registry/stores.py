"""Which MLflow store a project uses, and its tables made once."""

import logging
import os
from pathlib import Path

from isthmus.core.errors import StoreError
from isthmus.registry.locks import exclusive
from isthmus.registry.tracking import Store


def open_store(project: Path) -> Store:
    """Opens the store of `MLFLOW_TRACKING_URI`, by default `mlflow.db` in the project, its tables made where missing.

    Raises:
        StoreError: the address is of no known kind, or the store does not answer.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project.resolve() / 'mlflow.db'}"
    if uri.startswith(("http://", "https://")):
        return Store(uri, None)  # the server owns its artifact location
    if "://" not in uri or uri.startswith("file:"):
        raise StoreError(
            f"MLFLOW_TRACKING_URI: '{uri}' is a file store, which MLflow 3 no longer writes."
            " Allowed: sqlite:///PATH, postgresql://..., http(s)://...; or unset it for mlflow.db in the project"
        )
    file = (
        Path(uri.removeprefix("sqlite:///")).resolve() if uri.startswith("sqlite:///") else project.resolve() / "mlflow"
    )
    uri = f"sqlite:///{file}" if uri.startswith("sqlite:///") else uri
    # Four processes on a fresh file at once: none or one survived. Opening makes the tables; one at a time does it.
    with exclusive(file.with_name(f"{file.stem}.tables-lock.db"), "making MLflow's tables"):
        _quiet(logging.getLogger("alembic"), logging.getLogger("mlflow"))
        return Store(uri, (file.parent / "mlartifacts").as_uri())


def _quiet(*loggers: logging.Logger) -> None:
    for logger in loggers:
        logger.setLevel(logging.WARNING)
