"""The MLflow store. Beside it only `tables.py` imports mlflow, and what runs inside MLflow's own process."""

import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.core.addresses import without_passwords
from isthmus.core.errors import StoreError
from isthmus.core.plugins import install_command
from isthmus.core.process.failures import machine_trouble

# Before the import: MLflow reads these once. No telemetry; a server that is down is reported in seconds, not in the
# minutes of seven growing waits; a uv project in the working folder must not slip into a model.
for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}.items():
    os.environ.setdefault(_name, _value)

import mlflow  # noqa: E402
import requests  # noqa: E402
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelStatus, Metric, Param, RunTag  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.models import ModelSignature  # noqa: E402
from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema  # noqa: E402
from sqlalchemy.exc import SQLAlchemyError  # noqa: E402

PUBLICATION, PART = "isthmus.publication", "isthmus.part"  # tags: which publication a run belongs to, and as what
ARTIFACTS = "mlartifacts"  # folder beside a store's file
_PROCESS_WIDE = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
# its page begins with the runs; without, MLflow 3 guesses, and shows what belongs to language models
_EXPERIMENT = {"mlflow.experimentKind": "custom_model_development"}
_METRICS_AT_ONCE = 1000  # MLflow's limit of one log_batch call
_PARAMS_AT_ONCE = 100
_STORAGE = ("boto3", "botocore")  # where a server hands no files on, MLflow itself writes to S3 through these


@dataclass(frozen=True)
class DatasetRecord:
    """A dataset as a run shows it: name, DVC's md5 as digest, path, number of images a domain, and its part."""

    name: str
    digest: str
    path: str
    profile: dict[str, Any]
    context: str


@dataclass(frozen=True)
class Point:
    """One value of a metric at one epoch; 0 for a final number."""

    key: str
    value: float
    step: int


class Store:
    """One MLflow tracking store with its registry."""

    def __init__(self, uri: str, artifacts: str | None) -> None:
        self.uri = uri
        self._artifacts = artifacts
        with self._reached():
            self._client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)

    @property
    def file(self) -> Path | None:
        """Path of the SQLite file, None for any other store."""
        return Path(self.uri.removeprefix("sqlite:///")) if self.uri.startswith("sqlite:///") else None

    @property
    def place(self) -> str:
        """Address that may stand in a message: without a password."""
        return without_passwords(self.uri)

    def experiment(self, name: str) -> str:
        """Returns the id of an experiment, made where missing."""
        with self._reached():
            found = self._client.get_experiment_by_name(name)
            if found is None:
                place = f"{self._artifacts}/{name}" if self._artifacts else None
                try:
                    return str(self._client.create_experiment(name, place, tags=_EXPERIMENT))
                except MlflowException as error:
                    # Another publisher made it in between: now it can be found.
                    found = self._client.get_experiment_by_name(name)
                    if found is None or error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
            for key, value in _EXPERIMENT.items():
                if key not in found.tags:  # of an older version
                    self._client.set_experiment_tag(found.experiment_id, key, value)
            return str(found.experiment_id)

    def start_run(
        self, experiment: str, name: str, started: int, tags: dict[str, str], parent: str | None = None
    ) -> str:
        """Makes a run and returns its id; `started` in milliseconds."""
        nested = {"mlflow.parentRunId": parent} if parent else {}
        with self._reached():
            return str(self._client.create_run(experiment, started, tags | nested, name).info.run_id)

    def runs_of(self, experiment: str, publication: str) -> dict[str, str]:
        """Returns part -> run id of the runs that bear this publication's tag."""
        with self._reached():
            wanted = f"tags.`{PUBLICATION}` = '{publication}'"
            found = self._client.search_runs([experiment], wanted, max_results=5000)
        return {run.data.tags[PART]: run.info.run_id for run in found if PART in run.data.tags}

    def log(
        self, run: str, started: int, params: dict[str, str], points: Sequence[Point], model_id: str | None = None
    ) -> None:
        """Logs params and metrics in batches; the same call again adds nothing, for it bears the same time.

        Args:
            run: its id.
            started: [ms].
            params: name -> value.
            points: metrics.
            model_id: a model of which these are metrics too.
        """
        rows = [Metric(point.key, point.value, started, point.step, model_id=model_id) for point in points]
        pairs = [Param(key, value[:6000]) for key, value in params.items()]
        with self._reached():
            for first in range(0, len(pairs), _PARAMS_AT_ONCE):
                self._client.log_batch(run, params=pairs[first : first + _PARAMS_AT_ONCE])
            for first in range(0, len(rows), _METRICS_AT_ONCE):
                self._client.log_batch(run, metrics=rows[first : first + _METRICS_AT_ONCE])

    def log_datasets(self, run: str, records: Sequence[DatasetRecord]) -> None:
        """Names the data that a run rests on."""
        inputs = []
        for record in records:
            source = json.dumps({"path": record.path, "dvc_md5": record.digest})
            dataset = Dataset(record.name, record.digest, "dvc", source, profile=json.dumps(record.profile))
            inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", record.context)]))
        with self._reached():
            self._client.log_inputs(run, inputs)

    def log_file(self, run: str, path: Path, folder: str | None = None) -> None:
        """Uploads a file, or a folder as a whole, into the run's artifacts."""
        with self._reached():
            if path.is_dir():
                self._client.log_artifacts(run, str(path), folder)
            else:
                self._client.log_artifact(run, str(path), folder)

    def tag(self, run: str, tags: dict[str, str]) -> None:
        """Sets tags of a run."""
        with self._reached():
            self._client.log_batch(run, tags=[RunTag(key, value) for key, value in tags.items()])

    def end_run(self, run: str) -> None:
        """Marks a run as finished."""
        with self._reached():
            self._client.set_terminated(run)

    def has_run(self, run: str) -> bool:
        """Says whether the store still has this run."""
        try:
            with self._reached():
                return str(self._client.get_run(run).info.lifecycle_stage) == "active"
        except _MissingError:
            return False

    def create_model(self, experiment: str, run: str, name: str, tags: dict[str, str]) -> str:
        """Returns the id (`m-...`) of the run's model, made empty where missing; `write_model` fills it."""
        with self._reached():
            # A publisher that was killed before it wrote the id down left a model of this very run.
            wanted = f"source_run_id = '{run}'"
            found = self._client.search_logged_models([experiment], wanted, max_results=1)
            model = found[0] if found else self._client.create_logged_model(experiment, name, run, tags=tags)
            return str(model.model_id)

    def model_is_ready(self, model_id: str) -> bool:
        """Says whether the model's files were all uploaded."""
        try:
            with self._reached():
                return bool(self._client.get_logged_model(model_id).status == LoggedModelStatus.READY)
        except _MissingError:
            return False

    def write_model(
        self, run: str, model_id: str, script: Path, weights: Path, code: Path, requirements: list[str],
        inputs: Sequence[str], example: bytes | None, outputs: dict[str, str], metadata: dict[str, Any],
    ) -> None:  # fmt: skip
        """Uploads a pyfunc: a script, the folder it reads, the code it imports, and exactly these requirements.

        Args:
            run: the run it came from.
            model_id: from `create_model`.
            script: a models-from-code script.
            weights: folder with weights and facts; the script finds it as artifact `model`.
            code: package to bundle.
            requirements: pinned; nothing is inferred.
            inputs: columns of images that it takes.
            example: a small encoded image, the same for each column; None: there is none.
            outputs: column -> MLflow type of what it answers.
            metadata: JSON types, shown on the model's page.
        """
        import pandas as pd

        with warnings.catch_warnings():
            # While it is imported, MLflow 3.17 warns of a type hint of its own (mlflow/types/responses.py).
            warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType", category=UserWarning)
            import mlflow.pyfunc.model

        signature = ModelSignature(
            Schema([ColSpec("binary", column) for column in inputs]),
            Schema([ColSpec(kind, column) for column, kind in outputs.items()]),
            ParamSchema([ParamSpec("domain", "string", "")]),  # whose image it is; empty: the target's
        )
        with self._reached(), self._as_default(), mlflow.start_run(run_id=run, nested=True):
            mlflow.pyfunc.log_model(
                name="classifier", model_id=model_id, python_model=str(script), artifacts={"model": str(weights)},
                code_paths=[str(code)], pip_requirements=requirements, signature=signature, metadata=metadata,
                input_example=None if example is None else pd.DataFrame({column: [example] for column in inputs}),
            )  # fmt: skip

    def register(self, name: str, model_id: str, run: str, tags: dict[str, str], note: str | None = None) -> str:
        """Registers a model as a version of `name` and returns its number; a registered one keeps its number."""
        with self._reached(), self._as_default():
            try:
                self._client.create_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            # A publisher that was killed between registering and writing its record left a version of this very id.
            # Its source says so; the field `model_id` of a version is empty in MLflow's SQL stores.
            uri = f"models:/{model_id}"
            for version in self._client.search_model_versions(f"name = '{name}'"):
                if version.source == uri:
                    return self._linked(model_id, name, version.version)
            made = self._client.create_model_version(name, uri, run, tags, None, note, model_id=model_id)
            return self._linked(model_id, name, made.version)

    def _linked(self, model_id: str, name: str, version: str) -> str:
        """Returns a version's number; the model's page then names it, as after MLflow's own `register_model`."""
        link = json.dumps([{"name": name, "version": int(version)}])
        self._client.set_logged_model_tags(model_id, {"mlflow.modelVersions": link})
        return str(version)

    def describe_model(self, name: str, note: str, tags: dict[str, str]) -> None:
        """Sets description and tags of a registered model."""
        with self._reached():
            self._client.update_registered_model(name, note)
            for key, value in tags.items():
                self._client.set_registered_model_tag(name, key, value)

    def model_of(self, name: str, version: str) -> str | None:
        """Returns the model id of a version, None where there is no such version."""
        try:
            with self._reached():
                return str(self._client.get_model_version(name, version).source).removeprefix("models:/")
        except _MissingError:
            return None

    def version_tags(self, name: str, version: str) -> dict[str, str]:
        """Returns the tags of a version; empty where there is no such version."""
        try:
            with self._reached():
                return dict(self._client.get_model_version(name, version).tags)
        except _MissingError:
            return {}

    def tag_version(self, name: str, version: str, tags: dict[str, str]) -> None:
        """Sets tags of a version."""
        with self._reached():
            for key, value in tags.items():
                self._client.set_model_version_tag(name, version, key, value)

    def run_of(self, name: str, version: str) -> str | None:
        """Returns the run that a version came from, None where there is no such version."""
        try:
            with self._reached():
                return str(self._client.get_model_version(name, version).run_id)
        except _MissingError:
            return None

    def versions(self) -> list[tuple[str, str]]:
        """Returns (registered name, version) of every version in the registry, in order."""
        with self._reached():
            found = [v for m in self._pages(self._client.search_registered_models) for v in self._versions(m.name)]
        return sorted(found, key=lambda pair: (pair[0], int(pair[1])))

    def _versions(self, name: str) -> list[tuple[str, str]]:
        pages = self._pages(lambda **page: self._client.search_model_versions(f"name = '{name}'", **page))
        return [(name, str(version.version)) for version in pages]

    @staticmethod
    def _pages(search: Callable[..., Any]) -> Iterator[Any]:
        token = None
        while True:
            page = search(page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def fetch_file(self, run: str, name: str, folder: Path) -> Path | None:
        """Downloads one artifact of a run into a folder, None where the run has no such artifact."""
        with self._reached():
            if name not in {artifact.path for artifact in self._client.list_artifacts(run)}:
                self.check_artifacts()
                return None
            return Path(self._client.download_artifacts(run, name, str(folder)))

    def fetch_model_file(self, model_id: str, name: str, folder: Path) -> Path | None:
        """Downloads one file of a model into a folder, None where the model has no such file."""
        from mlflow.artifacts import download_artifacts

        parent = name.rpartition("/")[0]
        with self._reached():
            there = self._client.list_logged_model_artifacts(model_id, parent)
            place = self._client.get_logged_model(model_id).artifact_location
            if name not in {artifact.path for artifact in there}:
                self.check_artifacts()
                return None
            return Path(download_artifacts(f"{place}/{name}", dst_path=str(folder), tracking_uri=self.uri))

    def check_artifacts(self) -> None:
        """Checks that the folder of artifacts lies beside the store's file, as it does unless one was moved alone.

        Raises:
            StoreError: it does not.
        """
        if self.file is not None and not (self.file.parent / ARTIFACTS).is_dir():
            raise StoreError(
                f"{self.file}: the folder '{ARTIFACTS}' with its models and reports is not beside it. Bring it from"
                f" where the store was before to {self.file.parent / ARTIFACTS}, and run the same command again"
            )

    def aliases(self, name: str) -> dict[str, str]:
        """Returns alias -> version of a registered model; empty where nothing is registered."""
        try:
            with self._reached():
                found: dict[str, Any] = self._client.get_registered_model(name).aliases
        except _MissingError:
            return {}
        return {alias: str(version) for alias, version in found.items()}

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Points an alias at a version."""
        with self._reached():
            self._client.set_registered_model_alias(name, alias, version)

    def delete_alias(self, name: str, alias: str) -> None:
        """Removes an alias; does nothing where there is none."""
        with self._reached():
            self._client.delete_registered_model_alias(name, alias)

    @contextmanager
    def _as_default(self) -> Iterator[None]:
        # log_model and the SQL registry look into MLflow's process-wide store, whatever the client's is. Setting it
        # also sets environment variables, from which the next open_store() would take the store of another project.
        before = {name: os.environ.get(name) for name in _PROCESS_WIDE}
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(self.uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # its way to forget
            mlflow.set_registry_uri("")
            for name, value in before.items():
                os.environ.pop(name, None)
                os.environ.update({} if value is None else {name: value})

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except MlflowException as error:
            kind = _MissingError if error.error_code == "RESOURCE_DOES_NOT_EXIST" else StoreError
            hint = (
                "Nothing is lost: results and records are files of the project."
                " Is it running and is MLFLOW_TRACKING_URI right? Then run the same command again"
            )
            told = without_passwords(_line(error))
            raise kind(f"the MLflow store {self.place} refused or did not answer: {told}. {hint}") from error
        except (requests.RequestException, SQLAlchemyError, ConnectionError, PermissionError) as error:
            raise StoreError(
                f"the MLflow store {self.place} cannot be reached: {without_passwords(_line(error))}."
                " Nothing is lost: results and records are files of the project."
                " Start it, or correct MLFLOW_TRACKING_URI, and run the same command again"
            ) from error
        except ModuleNotFoundError as error:
            if error.name not in _STORAGE:
                raise
            raise StoreError(
                f"the MLflow store {self.place} keeps its files on S3, which needs '{error.name}':"
                f" {install_command('s3')}"
            ) from None
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in _STORAGE:
                raise
            raise StoreError(
                f"the MLflow store {self.place} keeps its files on S3, and that refused or did not answer:"
                f" {without_passwords(_line(error))}. Nothing is lost: results and records are files of the project."
                " Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to your keys and, of storage"
                " other than AWS's own, MLFLOW_S3_ENDPOINT_URL to its address, and run the same command again"
            ) from error


class _MissingError(StoreError):
    """What was asked for is not in the store."""


def _line(error: Exception) -> str:
    return machine_trouble(error) or " ".join(str(error).split())[:400]
