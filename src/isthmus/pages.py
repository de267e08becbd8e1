"""Opens what a person looks at: a scenario's report, and MLflow's page on the project's store."""

import os
import sys
import webbrowser
from pathlib import Path
from typing import NoReturn

from isthmus.core.errors import ConfigError, DataError
from isthmus.core.params.yaml_file import read_yaml
from isthmus.core.project import stage_path
from isthmus.data.scenario_names import scenario_names


def open_report(project: Path, scenario: str) -> Path:
    """Opens the report in the browser, where this machine has one, and returns its file.

    Raises:
        ConfigError: there is no such scenario.
        DataError: it has no report yet.
    """
    params = project / "params.yaml"
    scenario_names(read_yaml(params), [scenario], params)
    stages = read_yaml(project / "dvc.yaml")["stages"]
    file = project / stage_path(stages, "report", "report", scenario) / "report.html"
    if not file.is_file():
        raise DataError(f"{file}: no such file. Make the report with 'isthmus run {scenario}'")
    webbrowser.open(file.as_uri())
    return file


def start_ui(project: Path, port: int) -> NoReturn:
    """Becomes MLflow's server on the project's store, for this machine alone.

    Raises:
        ConfigError: the project uses a tracking server, which has a page of its own.
        StoreError: nothing was published yet.
    """
    from isthmus.registry.store.stores import open_store

    store = open_store(project)
    if store.uri.startswith("http"):
        raise ConfigError(f"MLFLOW_TRACKING_URI names a server: open {store.place} in a browser")
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    # the address may hold a password: in the environment and not in the list of processes
    os.execve(sys.executable, command, os.environ | {"MLFLOW_BACKEND_STORE_URI": store.uri})  # noqa: S606 - no shell
