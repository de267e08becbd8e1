"""Which MLflow store a project uses. Publishing makes it where there is none; to ask it something never does."""

import logging
import os
from pathlib import Path

from isthmus.core.addresses import check_login
from isthmus.core.errors import StoreError
from isthmus.registry.store import store_database, store_file, store_move
from isthmus.registry.store.tracking import ARTIFACTS, Store


def open_store(project: Path, *, make: bool = False) -> Store:
    """Opens the store of `MLFLOW_TRACKING_URI`, by default `mlflow.db` in the project.

    Args:
        project: its root.
        make: make it where there is none yet.

    Raises:
        StoreError: there is no store, its address is of no known kind, or it does not answer.
    """
    named = os.environ.get("MLFLOW_TRACKING_URI")
    uri = check_login("MLFLOW_TRACKING_URI", named) if named else f"sqlite:///{project.resolve() / 'mlflow.db'}"
    if uri.startswith(("http://", "https://")):
        return Store(uri, None)  # the server owns its artifact location
    if "://" not in uri or uri.startswith("file:"):
        raise StoreError(
            f"MLFLOW_TRACKING_URI: '{uri}' is a file store, which MLflow 3 no longer writes."
            " Allowed: sqlite:///PATH, postgresql://..., http(s)://...; or unset it for mlflow.db in the project"
        )
    _quiet(logging.getLogger("alembic"), logging.getLogger("mlflow"))
    if not uri.startswith("sqlite:///"):
        artifacts = (project.resolve() / ARTIFACTS).as_uri()
        store_database.ready(uri, artifacts, make=make)
        return Store(uri, artifacts)
    file = Path(uri.removeprefix("sqlite:///")).resolve()
    if "?" in str(file):
        raise StoreError(f"{file}: a '?' in the path of a store would begin its options. Rename the folder")
    if not named and not make:
        _check_project(project, file)
    artifacts = (file.parent / ARTIFACTS).as_uri()
    store_file.ready(file, artifacts, make=make)
    store_move.follow(file, artifacts, remember=make)
    return Store(f"sqlite:///{file}", artifacts)


def _check_project(project: Path, file: Path) -> None:
    if not file.exists() and not (project / "params.yaml").exists():
        raise StoreError(
            f"{project.resolve()}: holds no project (no params.yaml) and no store (no {file.name}), and"
            " MLFLOW_TRACKING_URI names none. Run the command in the project's root, or set MLFLOW_TRACKING_URI"
        )


def _quiet(*loggers: logging.Logger) -> None:
    for logger in loggers:
        logger.setLevel(logging.WARNING)
