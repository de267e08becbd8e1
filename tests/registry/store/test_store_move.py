"""A project that was renamed or copied after publishing finds its own artifacts and leaves the original alone."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from isthmus.core.errors import StoreError
from isthmus.core.files import hash_files
from isthmus.registry.gate.decision import gate
from isthmus.registry.gate.score import score
from isthmus.registry.promotion.promotion import promote
from isthmus.registry.publish.publish import Published, publish
from isthmus.registry.store import store_move
from isthmus.registry.store.stores import open_store
from isthmus.registry.trace.trace import trace
from isthmus.serving.predict import predict
from tests.registry.asked_project import RAW, name_rules
from tests.registry.project_files import set_truth, truth

ADDRESSES = """SELECT artifact_location FROM experiments WHERE experiment_id <> 0
UNION ALL SELECT artifact_uri FROM runs
UNION ALL SELECT artifact_location FROM logged_models UNION ALL SELECT storage_location FROM model_versions"""


def addresses(store: Path) -> list[str]:
    with closing(sqlite3.connect(store)) as connection:
        return [str(row[0]) for row in connection.execute(ADDRESSES)]


def filled(project: Path, fresh_store: Path) -> Path:
    """Writes a store with one run and its artifact."""
    project.mkdir()
    (project / "params.yaml").write_text("{}")
    shutil.copy(fresh_store, project)
    store = open_store(project)
    experiment = store.experiment("isthmus-demo")
    run = store.start_run(experiment, "one", 1000, {})
    store.log_file(run, project / "params.yaml")
    store.register("isthmus-demo", store.create_model(experiment, run, "isthmus-demo", {}), run, {})
    return project


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.soak  # each verb in a process of its own, twice
def test_every_verb_works_in_a_copy_and_after_a_renaming_and_the_original_stays_as_it_was(
    published: tuple[Path, Published], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original, found = published
    before = hash_files([original / "mlflow.db", original / "mlartifacts", original / ".isthmus"])
    shutil.copytree(original, tmp_path / "first", symlinks=True)
    project = (tmp_path / "first").rename(tmp_path / "a copy of it")
    name_rules(project, "absolute_floor", "loads_alone")

    again = publish(project, "demo")

    assert (again.new, again.version, again.run) == (False, found.version, found.run)
    assert f"its artifacts were at {original / 'mlartifacts'} when it was last opened" in capsys.readouterr().err
    assert all(trace(project, "demo@candidate").checks.values())
    image = next((project / RAW).rglob("[0-9]*.png"))
    assert predict(project, "demo@candidate", [image], tmp_path / "out.parquet").count == 1
    score(project, "demo")
    assert gate(project, "demo").verdict == "yes"
    assert promote(project, "demo").champion == found.version
    assert trace(project, "demo@champion").differs == ""
    open_store(project).delete_alias(found.model, "champion")
    told = "in the registry the champion is none, but by the last promote in the record of promotions it is version 1"
    assert f"DIFFERS   {found.model}: {told}" in trace(project, "demo@candidate").text()
    set_truth(project, truth(0.79, 0.5))
    assert publish(project, "demo").version != found.version
    ours = f"file://{tmp_path}/a%20copy%20of%20it/mlartifacts/"
    assert all(address.startswith(ours) for address in addresses(project / "mlflow.db"))
    assert hash_files([original / "mlflow.db", original / "mlartifacts", original / ".isthmus"]) == before


def test_a_store_that_does_not_remember_its_place_is_known_by_its_runs(fresh_store: Path, tmp_path: Path) -> None:
    project = filled(tmp_path / "old", fresh_store)
    with closing(sqlite3.connect(project / "mlflow.db")) as connection, connection:
        connection.execute("DELETE FROM experiment_tags")
    moved = project.rename(tmp_path / "new")

    store = open_store(moved)

    (run,) = store._client.search_runs(["1"])
    assert store.fetch_file(run.info.run_id, "params.yaml", tmp_path) is not None
    assert {address.partition("/mlartifacts")[0] for address in addresses(moved / "mlflow.db")} == {f"file://{moved}"}


def test_a_store_that_was_moved_without_its_artifacts_says_which_folder_to_bring(
    fresh_store: Path, tmp_path: Path
) -> None:
    project = filled(tmp_path / "old", fresh_store)
    (tmp_path / "new").mkdir()
    shutil.copy(project / "mlflow.db", tmp_path / "new")
    before = hash_files([project])

    with pytest.raises(StoreError, match=r"new/mlflow.db: the folder 'mlartifacts' with its models .*new/mlartifacts"):
        trace(tmp_path / "new", "demo/1")

    store = open_store(tmp_path / "new")
    store.log_file(store.start_run(store.experiment("isthmus-demo"), "two", 1000, {}), project / "params.yaml")
    assert hash_files([project]) == before  # nothing was written to where the store had been


def test_a_failure_while_the_addresses_are_corrected_changes_none_of_them(
    fresh_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = filled(tmp_path / "old", fresh_store).rename(tmp_path / "new")
    before = addresses(moved / "mlflow.db")
    with monkeypatch.context() as patch:
        patch.setitem(store_move._ADDRESSES, "no_table", "x")
        with pytest.raises(StoreError, match=r"its tables name another place, which cannot be corrected \(no such"):
            open_store(moved)

    assert addresses(moved / "mlflow.db") == before
    open_store(moved)
    assert addresses(moved / "mlflow.db") != before
