"""Serves a registered model over HTTP: this process becomes the server, and a child of it runs the model."""

import json
import os
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from isthmus.core.errors import ConfigError
from isthmus.core.progress import log
from isthmus.registry.publish.model_reference import resolve
from isthmus.registry.store.stores import open_store
from isthmus.serving.predict import check_statistics, model_environment
from isthmus.serving.request_limits import Limits

FOLDER = Path(".isthmus") / "served"


def serve(project: Path, given: str, host: str, port: int, limits: Limits, statistics: Path | None = None) -> NoReturn:
    """Becomes the server: without MLflow, which took to find the model, it is small, and ends in an instant.

    Args:
        project: its root.
        given: `NAME@ALIAS`, `NAME/VERSION` or `NAME`.
        host: address to listen on.
        port: likewise.
        limits: of requests.
        statistics: file that statistics of batches are appended to; None: that of `kept_path`.

    Raises:
        ConfigError: `given` names no model, the port is taken, or `statistics` cannot be written.
        StoreError: there is no such model.
    """
    store = open_store(project)
    address = resolve(store, given)
    _check_port(host, port)
    if host not in ("127.0.0.1", "::1", "localhost"):
        log(f"serve: {host} can be reached from other machines, and the server has no authentication")
    kept = (statistics or kept_path(project, address.model_id)).resolve()
    check_statistics(kept)
    job = {
        "model": address.model, "version": address.version, "model_id": address.model_id, "host": host, "port": port,
        "limits": asdict(limits), "kept": str(kept),
    }  # fmt: skip
    command = [sys.executable, "-P", "-m", "isthmus.serving.http_server", json.dumps(job)]
    os.execve(sys.executable, command, model_environment(store.uri))  # noqa: S606 - a fixed argument list, no shell


def kept_path(project: Path, model_id: str) -> Path:
    """Returns where servers of a model keep what `isthmus watch` reads, all of them in one file."""
    return project / FOLDER / model_id / "statistics.jsonl"


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(f"--host {host} --port {port}: {error.strerror}. Name a free one with --port") from None
