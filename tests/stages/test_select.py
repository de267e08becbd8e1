"""The stage `select`: refuses collapsed candidates, reads no target label, looks only at the named methods."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from isthmus.core import plugins
from isthmus.core.errors import ConfigError
from isthmus.core.files import read_json, write_json
from isthmus.data.manifest import INDEX, MANIFEST, TARGET_LABELS, read_table, write_table
from isthmus.stages._cli import stage
from isthmus.stages.select import Params, check_methods, run
from tests.scenario_files import SEEDS, ScenarioFiles, sharpen, write_scenario

ACCURACY = {"source_only": 0.55, "coral": 0.85, "dann": 0.7}


def select(files: ScenarioFiles) -> dict:
    stage(run, arguments(files))
    return read_json(files.root / "choice.json")


def arguments(files: ScenarioFiles) -> list[str]:
    paths = {"params": files.params, "manifest": files.manifest, "prepared": files.prepared, "trained": files.trained}
    paths |= {"choice": files.root / "choice.json"}
    return ["--scenario", "demo", *(part for name, path in paths.items() for part in (f"--{name}", str(path)))]


def refused(files: ScenarioFiles, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        select(files)
    assert end.value.code == 2
    return capsys.readouterr().err


def plant(files: ScenarioFiles, method: str, shown: int, height: float) -> None:
    """Makes a method answer one class for every target image; on the source it stays as good as it was."""
    target = read_table(files.prepared / "index.parquet", INDEX)["domain"].to_numpy() == "line_b"
    for path in (files.trained / method).glob("seeds/*/epochs/*.logits.npy"):
        logits = np.load(path)
        logits[target] = np.eye(3, dtype=np.float32)[shown] * height
        np.save(path, logits)


def change_params(files: ScenarioFiles, **sections: dict) -> None:
    document = yaml.safe_load(files.params.read_text())
    for name, values in sections.items():
        document[name] = values if name == "methods" else {**document[name], **values}
    files.params.write_text(yaml.safe_dump(document, sort_keys=False))


def outs(choice: dict, method: str) -> list[str]:
    return [reason for c in choice["candidates"] if c["method"] == method for reason in c["refused"]]


@pytest.fixture
def files(tmp_path: Path) -> ScenarioFiles:
    files = write_scenario(tmp_path, ACCURACY, images=600)
    sharpen(files, "coral")
    return files


def test_a_healthy_better_method_is_chosen_and_everything_is_written(files: ScenarioFiles) -> None:
    choice = select(files)

    assert choice["chosen"]["method"] == "coral"
    assert choice["chosen"]["epoch"] == choice["epochs"]["coral"]
    assert (choice["chosen"]["seed"], choice["chosen"]["fallback"], choice["scenario"]) == (0, False, "demo")
    assert choice["guards"] == {"significance": 0.05}
    assert choice["validators"] == ["entropy", "information_maximisation", "snd"]
    assert len(choice["candidates"]) == 3  # each method at its last epoch
    assert (choice["average"], choice["ensemble"]) == (["coral"], None)
    assert set(choice["candidates"][0]) == {
        *("method", "epoch", "scores", "faults", "refused", "learned"),
        *("source_val_accuracy", "effective_classes", "collapsed", "seed_disagreement"),
    }


def test_every_validator_scores_every_candidate(files: ScenarioFiles) -> None:
    names = plugins.names("evaluation.validators")
    change_params(files, select={"validators": {name: {} for name in names}})

    candidates = select(files)["candidates"]

    assert all(set(c["scores"]) == set(names) and None not in c["scores"].values() for c in candidates)


def test_several_methods_answer_together_all_seeds_of_them_where_the_backbone_is_frozen(files: ScenarioFiles) -> None:
    change_params(files, select={"average": ["coral", "dann"]})
    for path in files.trained.glob("*/run.json"):
        write_json(path, read_json(path) | {"mode": "frozen"})

    choice = select(files)

    assert (choice["chosen"]["method"], choice["chosen"]["epoch"]) == ("ensemble", 4)
    assert choice["ensemble"] == {"coral": [0, 1, 2], "dann": [0, 1, 2]}
    assert choice["epochs"] == {"coral": 4, "dann": 4, "ensemble": 4, "source_only": 4}
    assert choice["candidates"][-1]["method"] == "ensemble" and not choice["candidates"][-1]["refused"]
    assert choice["chosen"]["why"].startswith("The mean of coral and dann: fixed in advance")


def test_in_full_mode_one_network_a_method_answers(files: ScenarioFiles) -> None:
    change_params(files, select={"average": ["coral", "dann"]})

    assert select(files)["ensemble"] == {"coral": [0], "dann": [0]}


def test_methods_that_are_not_trained_leave_the_average_to_all_that_are(files: ScenarioFiles) -> None:
    change_params(files, select={"average": ["mcc", "shot"]})

    assert select(files)["ensemble"] == {"coral": [0], "dann": [0]}


def test_source_only_answers_where_it_is_asked_for_and_that_is_no_fallback(files: ScenarioFiles) -> None:
    change_params(files, select={"average": ["source_only"]})

    chosen = select(files)["chosen"]

    assert (chosen["method"], chosen["fallback"]) == ("source_only", False)
    assert chosen["why"] == "select.average names source_only: training on the source alone answers."


def test_scores_are_taken_on_the_first_images_by_id_where_there_are_more_than_the_limit(files: ScenarioFiles) -> None:
    everything = select(files)

    change_params(files, select={"max_images": 10_000})
    assert select(files) == everything
    change_params(files, select={"max_images": 20})
    assert select(files)["candidates"] != everything["candidates"]


def test_a_copier_of_the_majority_class_is_out_even_with_modest_confidence(files: ScenarioFiles) -> None:
    change_params(files, select={"average": ["coral", "dann"]})
    plant(files, "coral", shown=0, height=0.5)  # probabilities .45, .27, .27: the mean alone looks even

    choice = select(files)

    assert outs(choice, "coral") == ["nearly all of the target is predicted as one class"]
    assert choice["candidates"][1]["effective_classes"] > 2.8
    assert choice["chosen"]["method"] == "dann"


def test_a_method_whose_loss_was_not_a_number_is_out(files: ScenarioFiles) -> None:
    change_params(files, select={"average": ["coral", "dann"]})
    path = files.trained / "coral" / "seeds" / "1" / "curves.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[2]["loss_total"] = None
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    choice = select(files)

    assert outs(choice, "coral") == ["loss_total is not a number in epoch 3"]
    assert choice["chosen"]["method"] == "dann"


def test_logits_that_are_not_finite_are_out_and_the_file_is_valid_json(files: ScenarioFiles) -> None:
    change_params(files, select={"average": ["coral", "dann"]})
    for path in (files.trained / "coral").glob("seeds/0/epochs/*.logits.npy"):
        logits = np.load(path)
        logits[:, 0] = np.nan
        np.save(path, logits)

    choice = select(files)

    assert all(
        "logits or embeddings are not finite" in c["refused"] for c in choice["candidates"] if c["method"] == "coral"
    )
    assert choice["chosen"]["method"] == "dann"


def test_when_every_adapted_method_collapses_the_choice_is_source_only_and_says_why(files: ScenarioFiles) -> None:
    change_params(files, select={"average": ["coral", "dann"]})
    plant(files, "coral", shown=2, height=20.0)
    plant(files, "dann", shown=0, height=20.0)

    chosen = select(files)["chosen"]

    assert (chosen["method"], chosen["fallback"]) == ("source_only", True)
    assert chosen["why"] == (
        "The guards refused every adapted method that would answer (collapse 2), so source_only answers."
    )


def test_target_labels_change_nothing_even_when_they_are_not_there(files: ScenarioFiles) -> None:
    select(files)
    before = (files.root / "choice.json").read_bytes()
    labels = read_table(files.labels_target, TARGET_LABELS)
    labels["label"] = np.random.default_rng(0).permutation(labels["label"])
    write_table(files.labels_target, labels, TARGET_LABELS)

    select(files)
    permuted = (files.root / "choice.json").read_bytes()
    files.labels_target.unlink()
    select(files)

    assert permuted == before
    assert (files.root / "choice.json").read_bytes() == before


def test_the_targets_test_images_change_nothing(files: ScenarioFiles) -> None:
    select(files)
    before = (files.root / "choice.json").read_bytes()
    rows = read_table(files.manifest, MANIFEST)
    unseen = ((rows["domain"] == "line_b") & (rows["split"] == "test")).to_numpy()
    for path in files.trained.glob("*/seeds/*/epochs/*.npy"):
        array = np.load(path)
        array[unseen] = 7
        np.save(path, array)

    select(files)

    assert (files.root / "choice.json").read_bytes() == before


def test_a_folder_of_a_dropped_method_is_ignored(files: ScenarioFiles) -> None:
    change_params(files, methods={"source_only": {}, "dann": {"weight": 1.0}})
    kept = select(files)
    shutil.rmtree(files.trained / "coral")

    assert {c["method"] for c in kept["candidates"]} == {"source_only", "dann"}
    assert select(files) == kept


def test_the_order_of_methods_changes_nothing(files: ScenarioFiles) -> None:
    select(files)
    before = (files.root / "choice.json").read_bytes()
    change_params(files, methods={"dann": {}, "coral": {}, "source_only": {}})

    select(files)

    assert (files.root / "choice.json").read_bytes() == before


def test_a_method_that_has_not_been_trained_is_refused(
    files: ScenarioFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(files.trained / "dann")

    assert "method 'dann' has not been trained. Run: dvc repro --glob 'train@*-dann'" in refused(files, capsys)


def test_without_source_only_there_is_no_floor(files: ScenarioFiles, capsys: pytest.CaptureFixture[str]) -> None:
    change_params(files, methods={"coral": {}})

    error = refused(files, capsys)

    assert "params.yaml: methods: 'source_only' is missing (got coral)" in error
    assert "add 'source_only: {}'" in error


def test_several_methods_are_refused_for_anomalies_with_what_to_set(files: ScenarioFiles) -> None:
    document = yaml.safe_load(files.params.read_text())
    anomaly = {**document["scenarios"]["demo"], "task": "anomaly", "classes": ["good", "defect"]}
    given = {"scenario": anomaly, "methods": {"source_only": {}}, "select": {"average": ["zscore", "target_memory"]}}
    why = r"average: zscore, target_memory: for the task 'anomaly' one method answers.*anomaly: \[target_memory\]"

    with pytest.raises(ConfigError, match=why):
        check_methods(Params.model_validate(given))


def test_an_unknown_validator_is_refused_with_file_key_and_allowed(
    files: ScenarioFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    change_params(files, select={"validators": {"entropyy": {}, "snd": {"k": 3}}})

    error = refused(files, capsys)

    assert f"{files.params}: select.validators: " in error
    assert "no module 'entropyy' in isthmus.evaluation.validators. Did you mean 'entropy'? There are: bnm, " in error
    assert "snd.k: Extra inputs are not permitted (got 3)" in error


def test_an_unknown_method_to_average_is_refused_with_those_there_are(
    files: ScenarioFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    change_params(files, select={"average": ["mcc", "mccc", "source_only"]})

    error = refused(files, capsys)

    assert "select.average: mccc: no such method. Allowed: adabn, " in error


def test_a_significance_outside_its_range_is_refused(files: ScenarioFiles, capsys: pytest.CaptureFixture[str]) -> None:
    change_params(files, select={"significance": 5})

    assert "select.significance: Input should be less than 1 (got 5)" in refused(files, capsys)


def test_a_method_that_did_not_learn_the_source_is_refused(files: ScenarioFiles) -> None:
    domain = read_table(files.prepared / "index.parquet", INDEX)["domain"].to_numpy()
    for path in (files.trained / "coral").glob("seeds/*/epochs/*.logits.npy"):
        logits = np.load(path)
        logits[domain == "line_a"] = np.random.default_rng(0).permutation(logits[domain == "line_a"])
        np.save(path, logits)

    assert "are not shown to be told apart better than by chance" in outs(select(files), "coral")[0]


def test_a_list_of_validators_is_refused(files: ScenarioFiles, capsys: pytest.CaptureFixture[str]) -> None:
    change_params(files, select={"validators": ["entropy"]})

    assert "select.validators: must be a mapping. Allowed: bnm, " in refused(files, capsys)


def test_a_source_without_validation_images_is_refused(
    files: ScenarioFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = read_table(files.manifest, MANIFEST)
    rows.loc[rows["split"] == "val", "split"] = "train"
    write_table(files.manifest, rows, MANIFEST)

    assert "no prepared image in split 'val' of line_a" in refused(files, capsys)


def test_one_seed_is_enough(files: ScenarioFiles) -> None:
    for path in files.trained.glob("*/run.json"):
        path.write_text(json.dumps({**read_json(path), "seeds": SEEDS[:1]}))

    choice = select(files)

    assert {c["seed_disagreement"] for c in choice["candidates"]} == {0.0}
