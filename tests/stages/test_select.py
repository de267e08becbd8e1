"""The stage `select`: refuses collapsed candidates, reads no target label, looks only at the named methods."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from isthmus.core import plugins
from isthmus.core.files import read_json
from isthmus.data.manifest import INDEX, MANIFEST, TARGET_LABELS, read_table, write_table
from isthmus.stages._cli import stage
from isthmus.stages.select import run
from tests.scenario_files import SEEDS, ScenarioFiles, sharpen, write_scenario

ACCURACY = {"source_only": 0.55, "coral": 0.85, "dann": 0.7}


def select(files: ScenarioFiles) -> dict:
    stage(run, arguments(files))
    return read_json(files.root / "choice.json")


def arguments(files: ScenarioFiles) -> list[str]:
    paths = {"params": files.params, "manifest": files.manifest, "prepared": files.prepared, "trained": files.trained}
    paths |= {"choice": files.root / "choice.json", "features": files.features}
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
    return [reason for c in choice["candidates"] if c["method"] == method for reason in c["out"]]


@pytest.fixture
def files(tmp_path: Path) -> ScenarioFiles:
    files = write_scenario(tmp_path, ACCURACY, images=600)
    sharpen(files, "coral")
    return files


def test_a_healthy_better_method_is_chosen_and_everything_is_written(files: ScenarioFiles) -> None:
    choice = select(files)

    assert choice["chosen"]["method"] == "coral"
    assert choice["chosen"]["epoch"] == choice["best_epoch"]["coral"]
    assert (choice["chosen"]["seed"], choice["chosen"]["fallback"], choice["scenario"]) == (0, False, "demo")
    assert choice["guards"] == {"source_floor": 0.05, "min_effective_classes": 0.5, "max_seed_disagreement": 0.5}
    assert choice["validators"] == ["entropy", "information_maximisation", "nearest_source", "seed_agreement"]
    assert len(choice["candidates"]) == 3  # each method at its last epoch
    assert choice["prefer"] == []
    assert set(choice["candidates"][0]) == {
        *("method", "epoch", "scores", "scored_by", "rank", "out"),
        *("source_val_accuracy", "effective_classes", "seed_disagreement"),
    }


def test_every_validator_scores_every_candidate_that_the_guards_let_pass(files: ScenarioFiles) -> None:
    names = plugins.names("evaluation.validators")
    change_params(files, select={"validators": {name: {} for name in names}})

    candidates = select(files)["candidates"]

    assert all(set(c["scores"]) == set(names) and None not in c["scores"].values() for c in candidates)


def test_scores_are_taken_on_the_first_images_by_id_where_there_are_more_than_the_limit(files: ScenarioFiles) -> None:
    everything = select(files)

    change_params(files, select={"max_images": 10_000})
    assert select(files) == everything
    change_params(files, select={"max_images": 20})
    assert select(files)["candidates"] != everything["candidates"]


def test_a_collapsed_method_is_out_however_confident_it_is(files: ScenarioFiles) -> None:
    plant(files, "coral", shown=2, height=20.0)

    choice = select(files)

    assert outs(choice, "coral") == ["1.00 effective classes on the target, under 1.50 of 3"]
    assert choice["chosen"]["method"] == "dann"


def test_a_copier_of_the_majority_class_is_out_even_with_modest_confidence(files: ScenarioFiles) -> None:
    plant(files, "coral", shown=0, height=0.5)  # probabilities .45, .27, .27: the mean alone looks even

    choice = select(files)

    assert outs(choice, "coral") == ["over 99% of the target images are predicted as one class"]
    assert choice["candidates"][1]["effective_classes"] > 2.8
    assert choice["chosen"]["method"] == "dann"


def test_a_method_whose_loss_was_not_a_number_is_out(files: ScenarioFiles) -> None:
    path = files.trained / "coral" / "seeds" / "1" / "curves.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[2]["loss_total"] = None
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    choice = select(files)

    assert outs(choice, "coral") == ["loss_total is not a number in epoch 3"]
    assert choice["chosen"]["method"] == "dann"


def test_logits_that_are_not_finite_are_out_and_the_file_is_valid_json(files: ScenarioFiles) -> None:
    for path in (files.trained / "coral").glob("seeds/0/epochs/*.logits.npy"):
        logits = np.load(path)
        logits[:, 0] = np.nan
        np.save(path, logits)

    choice = select(files)

    assert all(
        "logits or embeddings are not finite" in c["out"] for c in choice["candidates"] if c["method"] == "coral"
    )
    assert choice["chosen"]["method"] == "dann"


def test_a_method_that_forgets_the_source_is_out(files: ScenarioFiles) -> None:
    domain = read_table(files.prepared / "index.parquet", INDEX)["domain"].to_numpy()
    for path in (files.trained / "coral").glob("seeds/*/epochs/*.logits.npy"):
        logits = np.load(path)
        logits[domain == "line_a"] = np.roll(logits[domain == "line_a"], 1, axis=1)
        np.save(path, logits)

    assert "is more than 0.050 below source_only's" in outs(select(files), "coral")[0]


def test_when_every_adapted_method_collapses_the_choice_is_source_only_and_says_why(files: ScenarioFiles) -> None:
    plant(files, "coral", shown=2, height=20.0)
    plant(files, "dann", shown=0, height=20.0)

    chosen = select(files)["chosen"]

    assert (chosen["method"], chosen["fallback"]) == ("source_only", True)
    assert chosen["why"].startswith(
        "None of the 2 adapted candidates passed the guards (collapse 2), so nothing is adapted"
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


def test_an_unknown_validator_is_refused_with_file_key_and_allowed(
    files: ScenarioFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    change_params(files, select={"validators": {"entropyy": {}, "nearest_source": {"k": 3}}})

    error = refused(files, capsys)

    assert f"{files.params}: select.validators: " in error
    assert "no module 'entropyy' in isthmus.evaluation.validators. Did you mean 'entropy'? There are: bnm, " in error
    assert "nearest_source.k: Extra inputs are not permitted (got 3)" in error


def test_an_unknown_preferred_method_is_refused_with_those_there_are(
    files: ScenarioFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    change_params(files, select={"prefer": ["mcc", "mccc", "source_only"]})

    error = refused(files, capsys)

    assert "select.prefer: mccc, source_only: no such adapted method. Allowed: adabn, " in error
    assert "source_only" not in error.partition("Allowed: ")[2].partition(" (got")[0]


def test_a_preferred_method_is_taken_and_written(files: ScenarioFiles) -> None:
    change_params(files, select={"prefer": ["dann"]})

    choice = select(files)

    assert (choice["chosen"]["method"], choice["prefer"]) == ("dann", ["dann"])
    assert "of the preferred (dann)" in choice["chosen"]["why"]


def test_a_list_of_validators_is_refused(files: ScenarioFiles, capsys: pytest.CaptureFixture[str]) -> None:
    change_params(files, select={"validators": ["entropy"]})

    assert "select.validators: must be a mapping. Allowed: bnm, " in refused(files, capsys)


def test_no_validator_at_all_is_refused(files: ScenarioFiles, capsys: pytest.CaptureFixture[str]) -> None:
    change_params(files, select={"validators": {}})

    assert "select.validators: at least 1 needed, none there" in refused(files, capsys)


def test_a_guard_outside_its_range_is_refused(files: ScenarioFiles, capsys: pytest.CaptureFixture[str]) -> None:
    change_params(files, select={"source_floor": 5})

    assert "select.source_floor: Input should be less than or equal to 1 (got 5)" in refused(files, capsys)


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


def test_the_others_consensus_leaves_out_the_own_method_and_the_consensus_does_not(files: ScenarioFiles) -> None:
    validators = {"consensus": {}, "others_consensus": {}}
    change_params(files, select={"validators": validators}, methods={"source_only": {}, "coral": {}})

    found = {(c["method"], c["epoch"]): c["scores"] for c in select(files)["candidates"]}

    # Two methods: each is judged by the other alone, so both see about the same agreement.
    assert all(scores["others_consensus"] < scores["consensus"] for scores in found.values())


def test_source_only_is_left_only_where_the_advantage_is_shown_if_that_is_asked_for(files: ScenarioFiles) -> None:
    plain = select(files)
    change_params(
        files, select={"leave_level": 0.000999}
    )  # the least p-value that 1,000 resamples can show is 0.000999

    choice = select(files)

    assert plain["leave"] is None and plain["chosen"]["method"] == "coral"
    assert choice["chosen"]["method"] == "source_only" and not choice["chosen"]["fallback"]
    assert choice["leave"]["ranked_first"]["method"] == "coral"
    assert choice["leave"]["p_value"] >= choice["leave"]["level"] == 0.000999
    assert choice["candidates"] == plain["candidates"]


def test_half_a_step_is_taken_and_written_where_no_advantage_is_shown(files: ScenarioFiles) -> None:
    change_params(files, select={"leave_level": 0.000999, "prefer": ["coral", "dann"]})
    plain = select(files)
    change_params(files, select={"half_step": True})

    choice = select(files)

    assert (plain["half_step"], plain["chosen"]["method"]) == (None, "source_only")
    assert choice["half_step"] == {"source_only": 0.5, "coral": 0.25, "dann": 0.25}
    assert (choice["chosen"]["method"], choice["chosen"]["epoch"]) == ("half_step", 4)
    assert choice["best_epoch"] == plain["best_epoch"] | {"half_step": 4}
    assert choice["candidates"][:-1] == plain["candidates"]
    half = choice["candidates"][-1]
    assert (half["method"], half["rank"], half["scores"], half["out"]) == ("half_step", None, {}, [])


def test_a_half_step_of_nothing_is_refused(files: ScenarioFiles, capsys: pytest.CaptureFixture[str]) -> None:
    change_params(files, select={"half_step": True, "prefer": ["coral"]})

    error = refused(files, capsys)

    assert "half_step: averages source_only with the methods under prefer where leave_level is not passed" in error
    assert "(got prefer ['coral'], leave_level None). Set both, or half_step: false" in error


@pytest.mark.parametrize("penalty", [0.01, 1e-12])
def test_that_advantage_is_measured_with_the_options_of_reverse_validation(
    files: ScenarioFiles, penalty: float
) -> None:
    validators = {"seed_agreement": {}, "reverse_validation": {"inverse_penalty": penalty}}
    change_params(files, select={"leave_level": 0.5, "validators": validators})

    leave = select(files)["leave"]

    assert leave["ranked_first"]["method"] != "source_only"
    assert (leave["p_value"] == 1.0) == (penalty == 1e-12)  # so smooth a classifier goes back with one class


def test_a_level_outside_its_range_is_refused(files: ScenarioFiles, capsys: pytest.CaptureFixture[str]) -> None:
    change_params(files, select={"leave_level": 5})

    assert "select.leave_level: Input should be less than 1 (got 5)" in refused(files, capsys)
