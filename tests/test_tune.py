"""The command that searches settings, on the files of a small project."""

import shutil
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from isthmus.cli import app
from isthmus.core.errors import ConfigError, DataError
from isthmus.data.labels.given import GIVEN_LABELS
from isthmus.data.manifest import write_table
from isthmus.tune import Search, parsed, tune
from tests.test_learning_rate import project

WEIGHT = {"methods.mmd.weight": "0.1:10"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_store: Path) -> Path:
    shutil.copy(fresh_store, tmp_path / "mlflow.db")  # to make its tables takes seconds
    project(tmp_path, monkeypatch)
    document = yaml.safe_load((tmp_path / "params.yaml").read_text())
    document["train"]["seeds"] = [0]
    document["models"]["small_cnn"] |= {"min_steps": 1}
    document["select"]["significance"] = 0.999  # a network of random values learns little in four epochs
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(document))
    return tmp_path


def give_labels(root: Path, count: int) -> None:
    """Writes labels of the first target images of the training split, as a person would give them."""
    manifest = pd.read_parquet(root / "out" / "demo" / "manifest.parquet")
    target = yaml.safe_load((root / "params.yaml").read_text())["scenarios"]["demo"]["target"]
    rows = manifest[(manifest["domain"] == target) & (manifest["split"] == "train")].head(count)
    given = pd.DataFrame({"image_id": rows["image_id"], "label": [number % 2 for number in range(len(rows))]})
    write_table(root / "out" / "demo" / "labels_train.parquet", given, GIVEN_LABELS)


def test_a_search_begins_with_the_settings_at_hand_goes_on_where_it_was_cut_off_and_is_in_mlflow(root: Path) -> None:
    first = tune(root, "demo", "mmd", Search(2, ranges=WEIGHT))
    again = CliRunner().invoke(
        app, ["tune", "demo", "mmd", "--trials", "3", "--range", "methods.mmd.weight=0.1:10"], catch_exceptions=False
    )

    table = pd.read_csv(first.folder / "trials.csv")
    assert first.objective == "information_maximisation"
    assert table["number"].tolist() == [0, 1, 2]
    assert table["params_methods.mmd.weight"].iloc[0] == 1.0  # of params.yaml
    assert table["params_methods.mmd.weight"].between(0.1, 10).all()
    assert table["value"].iloc[0] == pytest.approx(first.first.value)  # type: ignore[union-attr]
    assert "3 trials, scored by information_maximisation; settings of params.yaml: " in again.output
    client = mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("isthmus-demo-tune")
    runs = {run.data.tags["isthmus.part"]: run for run in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == ["search", "trial 0", "trial 1", "trial 2"]
    assert runs["trial 2"].data.params == {"methods.mmd.weight": str(table["params_methods.mmd.weight"].iloc[2])}
    assert runs["trial 2"].data.tags["mlflow.parentRunId"] == runs["search"].info.run_id
    assert [run.info.status for run in runs.values()] == ["FINISHED"] * 4
    assert [m.step for m in client.get_metric_history(runs["search"].info.run_id, "objective")] == [0, 1, 2]


def test_given_labels_score_and_the_half_that_scores_is_not_trained_with(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from isthmus.stages import train

    give_labels(root, 12)
    seen: list[pd.DataFrame] = []
    run = train.run

    def watched(*args: object, **kwargs: object) -> None:
        seen.append(pd.read_parquet(kwargs["labels_train"]))  # type: ignore[arg-type]
        run(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(train, "run", watched)

    found = tune(root, "demo", "mmd", Search(1, ranges=WEIGHT))

    assert found.objective == "labels"
    assert [len(labels) for labels in seen] == [6]
    assert found.best is not None
    assert found.best.value in [k / 6 for k in range(7)]


def test_what_is_found_is_a_command_for_dvc_and_nothing_better_is_said(root: Path) -> None:
    found = tune(root, "demo", "mmd", Search(1))

    assert found.text().endswith("nothing was better than the settings of params.yaml")
    assert found.command == (
        "dvc exp run -S '+methods.mmd.weight=1' -S '+models.small_cnn.learning_rate=0.001' report@demo"
    )


def test_ranges_that_do_not_hold_the_settings_and_lists_of_values_are_searched(root: Path) -> None:
    found = tune(
        root, "demo", "mmd", Search(2, ranges={"methods.mmd.weight": "2:3", "models.small_cnn.bottleneck": "4,6"})
    )

    assert found.first is None
    assert "not tried, for the ranges do not hold them" in found.text()
    assert found.best is not None
    assert 2 <= found.best.params["methods.mmd.weight"] <= 3
    assert found.best.params["models.small_cnn.bottleneck"] in (4, 6)


def test_a_search_whose_trials_are_all_refused_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isthmus.tune.refusals", lambda _: {"collapse": "one class"})

    found = tune(root, "demo", "mmd", Search(1, ranges=WEIGHT))

    assert "settings of params.yaml: refused by the guards\nthe guards refused every trial" in found.text()


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (Search(1, objective="snc"), "--objective snc: unknown. Did you mean 'snd'"),
        (Search(1, objective="labels"), r"--objective labels: needs 10 target labels .* \(got 0\)"),
        (
            Search(1, ranges={"train.seeds": "1:2"}),
            r"--range train.seeds: is not searched. Allowed: keys under methods",
        ),
        (Search(1, ranges={"methods.mmd.weight": "3:1"}), "must be LOW:HIGH, two numbers, the lower first"),
        (
            Search(1, ranges={"methods.mmd.weight": "-3:1"}),
            "tune: params.yaml: methods.mmd.weight: .*greater than or equal",
        ),
        (Search(1, ranges={"methods.mmd.wait": "1:2"}), "tune: params.yaml: methods.mmd.wait: .*Did you mean 'weight'"),
        (Search(1, ranges={"models.small_cnn.epochs.x": "1:2"}), "'epochs' of params.yaml has no options below it"),
    ],
)
def test_what_cannot_be_searched_is_refused(root: Path, search: Search, message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        tune(root, "demo", "mmd", search)


def test_a_range_without_its_key_and_a_task_without_an_objective_are_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match="--range 0.1:1: must be KEY=LOW:HIGH"):
        parsed(["0.1:1"])
    document = yaml.safe_load((root / "params.yaml").read_text())
    document["scenarios"]["demo"] |= {"task": "segmentation"}
    (root / "params.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError, match="scenario 'demo' has task segmentation"):
        tune(root, "demo", "mmd", Search(1))


def test_labels_that_cannot_be_halved_are_refused(root: Path) -> None:
    give_labels(root, 12)
    path = root / "out" / "demo" / "labels_train.parquet"
    given = pd.read_parquet(path).assign(label=[0] * 11 + [1])
    write_table(path, given, GIVEN_LABELS)

    with pytest.raises(DataError, match="target labels for training cannot be halved"):
        tune(root, "demo", "mmd", Search(1, objective="labels"))
