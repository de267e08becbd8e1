"""Artifacts that MLflow's client writes to S3 itself: one clear message where that cannot be."""

import shutil
import sys
from pathlib import Path

import boto3
import pytest
from mlflow.store.artifact.s3_artifact_repo import _cached_get_s3_client

from isthmus.core.errors import StoreError
from isthmus.registry.store.tracking import Store
from tests.servers import free_port

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture
def store(fresh_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store whose artifacts are on storage that does not answer; one try of each request."""
    shutil.copy(fresh_store, tmp_path)
    for name, value in {
        "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    _cached_get_s3_client.cache_clear()
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it keeps the keys that another test of this process had
    return Store(f"sqlite:///{tmp_path / fresh_store.name}", "s3://team/mlflow")


def upload(store: Store) -> None:
    store.log_file(store.start_run(store.experiment("demo"), "one", 1000, {}), Path(__file__))


@pytest.mark.parametrize(
    ("keys", "told"),
    [({}, "Unable to locate credentials"), (dict.fromkeys(KEYS, "secret"), "Could not connect to the endpoint")],
)
def test_missing_keys_and_a_storage_that_does_not_answer_have_one_message(
    store: Store, monkeypatch: pytest.MonkeyPatch, keys: dict[str, str], told: str
) -> None:
    for name, value in keys.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(StoreError, match=f"keeps its files on S3, .*{told}.* MLFLOW_S3_ENDPOINT_URL") as raised:
        upload(store)
    assert "secret" not in str(raised.value)


def test_a_missing_package_is_named_with_what_installs_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)

    with pytest.raises(StoreError, match=r"keeps its files on S3, which needs 'boto3': .*pip install .*s3"):
        upload(store)
