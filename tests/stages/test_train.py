"""The stages embed and train on small real arrays: what they write, that they repeat it, that they resume."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from isthmus.core.config import load_params
from isthmus.core.device import pick_device, training_precision
from isthmus.core.errors import ConfigError, DataError
from isthmus.core.files import hash_files, read_json, write_json
from isthmus.data.workers import _submitted
from isthmus.evaluation.selection.choice import Part
from isthmus.evaluation.selection.ensemble import Ensemble
from isthmus.evaluation.trained import open_trained
from isthmus.models import embedding
from isthmus.models.backbones import small_cnn
from isthmus.models.trained import export_trained, load_trained
from isthmus.stages import embed, train
from isthmus.training import loop
from isthmus.training.data import TrainingData
from tests.scenario_files import CLASSES, ScenarioFiles, write_scenario


def place(root: Path, embed_precision: str = "float32", **changes: object) -> ScenarioFiles:
    """Writes a scenario whose model is small and quick; `changes` go into its model section."""
    files = write_scenario(root, {"source_only": 0.5}, images=160)
    document = yaml.safe_load(files.params.read_text())
    model = {"mode": "frozen", "backbone": {"name": "small_cnn", "width": 4}, "epochs": 4, "bottleneck": 8, **changes}
    document["models"]["small_cnn"] = model
    document["methods"] = {name: {} for name in ("source_only", "zscore", "dann", "mmd", "coral")}
    document["train"] = {"seeds": [0, 1], "batch_size": 16, "keep": 2, "workers": 1}
    document["embed"] = {"batch_size": 16, "precision": embed_precision}
    files.params.write_text(yaml.safe_dump(document))
    run_embed(files)
    return files


def run_embed(files: ScenarioFiles) -> None:
    params = load_params(embed.Params, files.params, filled(embed.Params.SECTIONS))
    root = files.root
    embed.run(params, prepared=files.prepared, cache=root / "cache", features=files.features, model=root / "model.json")


def filled(sections: dict[str, str], method: str = "") -> dict[str, str]:
    return {field: section.format(scenario="demo", method=method) for field, section in sections.items()}


def trained(files: ScenarioFiles, method: str, out: Path | None = None) -> Path:
    params = load_params(train.Params, files.params, filled(train.Params.SECTIONS, method))
    folder = out or files.trained / method
    train.run(
        params,
        scenario="demo",
        method=method,
        manifest=files.manifest,
        prepared=files.prepared,
        features=files.features,
        labels_train=files.labels_train,
        checkpoints=files.root / "checkpoints",
        trained=folder,
    )
    return folder


def test_the_file_that_train_depends_on_holds_the_settings_of_the_scenarios_model_and_no_others(tmp_path: Path) -> None:
    files = place(tmp_path)
    document = yaml.safe_load(files.params.read_text())
    written = read_json(tmp_path / "model.json")
    assert written["epochs"] == document["models"]["small_cnn"]["epochs"]

    def again(document: dict[str, Any]) -> Any:
        files.params.write_text(yaml.safe_dump(document))
        run_embed(files)
        return read_json(tmp_path / "model.json")

    document["models"]["other"] = {"mode": "full", "backbone": {"name": "small_cnn"}, "epochs": 9}
    assert again(document) == written
    document["models"]["small_cnn"]["epochs"] = 5
    assert again(document) == written | {"epochs": 5}


def test_every_shipped_method_trains_in_frozen_mode_and_writes_what_the_contract_says(tmp_path: Path) -> None:
    files = place(tmp_path)
    count = len(pd.read_parquet(files.prepared / "index.parquet"))

    for method in ("source_only", "zscore", "dann", "mmd", "coral"):
        folder = trained(files, method)

        run = read_json(folder / "run.json")
        assert (run["scenario"], run["method"], run["epochs"], run["seeds"]) == ("demo", method, [2, 4], [0, 1])
        for seed in ("0", "1"):
            lines = [json.loads(line) for line in (folder / "seeds" / seed / "curves.jsonl").read_text().splitlines()]
            assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
            for epoch in ("002", "004"):
                kept = folder / "seeds" / seed / "epochs"
                logits = np.load(kept / f"{epoch}.logits.npy")
                assert logits.shape == (count, 3)
                assert np.isfinite(logits).all()
                assert np.load(kept / f"{epoch}.embeddings.npy").shape == (count, 8)
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize("mode", ["frozen", "full"])
def test_the_same_inputs_and_seeds_give_the_same_bytes(tmp_path: Path, mode: str) -> None:
    files = place(tmp_path, mode=mode)

    first = trained(files, "dann", tmp_path / "first")
    second = trained(files, "dann", tmp_path / "second")

    assert hash_files([first]) == hash_files([second])


def test_seeds_that_train_side_by_side_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, handed = place(tmp_path, mode="full"), []
    document = yaml.safe_load(files.params.read_text())

    def go(workers: int) -> Path:
        document["train"]["workers"] = workers
        files.params.write_text(yaml.safe_dump(document))
        return trained(files, "dann", tmp_path / str(workers)) / "seeds"

    alone = go(1)
    monkeypatch.setattr("isthmus.data.workers._submitted", lambda *given: handed.append(given) or _submitted(*given))
    together = go(2)

    assert [given[-1] for given in handed] == [[0], [1]]
    assert hash_files([alone]) == hash_files([together])


def test_source_only_has_the_same_weights_when_the_target_is_noise(tmp_path: Path) -> None:
    for mode in ("frozen", "full"):
        files = place(tmp_path / mode, mode=mode)
        before = trained(files, "source_only", tmp_path / mode / "before")
        rng = np.random.default_rng(0)
        for folder in (files.features, files.prepared / "shards"):
            target = np.load(folder / "domain1-all.npy")
            noise = rng.integers(0, 255, target.shape) if target.dtype == np.uint8 else rng.normal(5, 9, target.shape)
            np.save(folder / "domain1-all.npy", noise.astype(target.dtype))

        after = trained(files, "source_only", tmp_path / mode / "after")

        for weights in sorted(before.rglob("*.safetensors")):
            assert weights.read_bytes() == (after / weights.relative_to(before)).read_bytes()


def test_a_run_that_was_cut_off_ends_in_the_same_bytes_as_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = place(tmp_path, mode="full")
    unbroken = trained(files, "dann", tmp_path / "unbroken")
    real_step = train.LoopSession.step
    steps = 0

    def step_until_killed(session: train.LoopSession, losses: dict) -> None:
        nonlocal steps
        steps += 1
        if steps == 14:
            raise KeyboardInterrupt
        real_step(session, losses)

    monkeypatch.setattr(train.LoopSession, "step", step_until_killed)
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        trained(files, "dann", tmp_path / "resumed")
    assert list((tmp_path / "checkpoints").rglob("state.pt"))
    assert not (tmp_path / "resumed").exists()

    resumed = trained(files, "dann", tmp_path / "resumed")

    assert hash_files([resumed]) == hash_files([unbroken])


def read(params: train.Params, files: ScenarioFiles) -> TrainingData:
    return train.read_data(params, files.manifest, files.prepared, files.features, files.labels_train)


def test_a_checkpoint_of_other_params_or_code_is_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = place(tmp_path)
    keys = set()
    monkeypatch.setattr(train.LoopSession, "run_shared_loop", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    for rate in (0.001, 0.002):
        document = yaml.safe_load(files.params.read_text())
        document["models"]["small_cnn"]["learning_rate"] = rate
        files.params.write_text(yaml.safe_dump(document))
        params = load_params(train.Params, files.params, filled(train.Params.SECTIONS, "coral"))
        facts = train._facts(params, "demo", "coral", read(params, files))
        keys.add(train.key_of_run(facts, files.manifest, files.prepared, files.features, files.labels_train))
    monkeypatch.setattr(train.Code, "fingerprint", lambda *asked: f"other code of {asked[1:]}")
    keys.add(train.key_of_run(facts, files.manifest, files.prepared, files.features, files.labels_train))

    assert len(keys) == 3


def test_a_broken_checkpoint_is_thrown_away_and_the_seed_starts_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = place(tmp_path)
    params = load_params(train.Params, files.params, filled(train.Params.SECTIONS, "coral"))
    facts = train._facts(params, "demo", "coral", read(params, files))
    key = train.key_of_run(facts, files.manifest, files.prepared, files.features, files.labels_train)
    broken = tmp_path / "checkpoints" / key / "seeds" / "0" / "state.pt"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"not a checkpoint")

    trained(files, "coral")

    assert "cannot be read" in capsys.readouterr().err


def test_a_method_that_needs_images_is_refused_in_frozen_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from isthmus.adapt.methods import mmd

    files = place(tmp_path)
    monkeypatch.setattr(mmd.Adaptation, "needs", "images")

    with pytest.raises(ConfigError, match="methods: mmd needs images, but model 'small_cnn' is frozen"):
        trained(files, "mmd")


def test_embed_takes_unchanged_shards_from_its_cache_and_those_of_other_code_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = place(tmp_path)
    before = hash_files([files.features])
    monkeypatch.setattr(embedding, "encode", lambda *_: (_ for _ in ()).throw(AssertionError("encoded again")))
    shutil.rmtree(files.features)

    run_embed(files)

    assert hash_files([files.features]) == before
    monkeypatch.setattr(embed.Code, "fingerprint", lambda *asked: f"other code of {asked[1:]}")
    with pytest.raises(AssertionError, match="encoded again"):
        run_embed(files)


@pytest.mark.parametrize(
    ("mode", "method", "precision"),
    [
        ("frozen", "coral", "bfloat16"),
        ("frozen", "source_only", "float32"),
        ("full", "zscore", "bfloat16"),  # of the features that `shift` reads; a network that trained answers in float32
    ],
)
def test_an_exported_model_answers_prepared_images_as_the_stage_did(
    tmp_path: Path, mode: str, method: str, precision: str
) -> None:
    files = place(tmp_path, precision, mode=mode)
    folder = trained(files, method)
    export_trained(files.trained, [(method, 1, 4)], files.features, 1, tmp_path / "exported")
    facts = read_json(tmp_path / "exported" / "classifier.json")
    assert facts.pop("precision") == (precision if mode == "frozen" else "float32")
    if precision == "float32":
        write_json(tmp_path / "exported" / "classifier.json", facts)  # as models of older versions are
    index = pd.read_parquet(files.prepared / "index.parquet")
    logits = np.load(folder / "seeds" / "1" / "epochs" / "004.logits.npy")

    model = load_trained(tmp_path / "exported")

    for domain in ("line_a", "line_b"):
        rows = index["domain"] == domain
        images = np.load(files.prepared / "shards" / f"{index.loc[rows, 'shard'].iloc[0]}.npy")
        np.testing.assert_allclose(model.predict_logits(images, domain), logits[rows], atol=1e-5)
    with pytest.raises(DataError, match="the model knows no domain 'line_c'. Allowed: line_a, line_b"):
        model.predict_logits(images, "line_c")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"class_shares": {"crack": 1}},
            "class_shares: must name each class once \\(got crack\\). Classes: ",
        ),
        ({"class_shares": {"crack": -1, "dent": 1, "good": 1}}, "shares must be 0 or more, and one above 0"),
        (
            {"class_shares": {"crack": 1, "dent": 1, "good": 1}, "sampling": "balanced"},
            "class_shares: cannot be combined with sampling: balanced",
        ),
        (
            {"target_shares": {"dent": 1}},
            "target_shares: must name each class once \\(got dent\\). Classes: crack, dent, ",
        ),
    ],
)
def test_class_shares_that_do_not_fit_the_scenario_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    files = place(tmp_path, **changes)

    with pytest.raises(ConfigError, match=message):
        trained(files, "source_only")


def test_target_shares_reach_a_method_with_a_diversity_term_and_no_other(tmp_path: Path) -> None:
    found = {}
    for name, changes in {"none": {}, "given": {"target_shares": {"good": 6, "crack": 3, "dent": 1}}}.items():
        files = place(tmp_path / name, **changes)
        document = yaml.safe_load(files.params.read_text())
        document["methods"] = {"bnm": {}, "mmd": {}}
        document["train"]["seeds"] = [0]
        files.params.write_text(yaml.safe_dump(document))
        found[name] = {method: hash_files([trained(files, method) / "seeds"]) for method in ("bnm", "mmd")}

    assert found["none"]["mmd"] == found["given"]["mmd"]
    assert found["none"]["bnm"] != found["given"]["bnm"]


def test_every_training_option_reaches_the_stage(tmp_path: Path) -> None:
    changes = {
        "optimiser": {"name": "sgd"},
        "schedule": {"name": "plateau"},
        "accumulate": 2,
        "precision": "bf16",
        "average": 0.9,
        "label_smoothing": 0.1,
        "sampling": "balanced",
        "class_weights": "balanced",
        "early_stop": {"patience": 1},
    }
    files = place(tmp_path)
    document = yaml.safe_load(files.params.read_text())
    document["train"]["seeds"] = [0]
    model = document["models"]["small_cnn"]
    files.params.write_text(yaml.safe_dump(document))
    seen = {hash_files([trained(files, "mmd", tmp_path / "before") / "seeds"])}

    for name, value in changes.items():
        document["models"]["small_cnn"] = model | {name: value}
        files.params.write_text(yaml.safe_dump(document))
        folder = trained(files, "mmd", tmp_path / name)
        line = json.loads((folder / "seeds" / "0" / "curves.jsonl").read_text().splitlines()[1])
        assert ("plateau_watch" in line, "early_stop_watch" in line) == (name == "schedule", name == "early_stop")
        seen.add(hash_files([folder / "seeds"]))

    assert len(seen) == 1 + len(changes)


def test_the_precision_that_training_took_by_itself_is_recorded(tmp_path: Path) -> None:
    files = place(tmp_path, precision="auto")

    run = read_json(trained(files, "source_only") / "run.json")

    assert run["precision"] == training_precision("auto", pick_device("auto"))
    assert run["config"]["model"]["precision"] == "auto"


@pytest.mark.parametrize(
    "changes",
    [{"mode": "frozen"}, {"mode": "full"}, {"mode": "full", "precision": "bf16"}, {"head": "knn", "epochs": 1}],
    ids=str,
)
def test_an_exported_mean_of_methods_answers_as_the_mean_of_what_they_answered(tmp_path: Path, changes: dict) -> None:
    files, epoch = place(tmp_path, **changes), changes.get("epochs", 4)
    parts = [Part(method, seed, epoch) for method in ("source_only", "zscore") for seed in (0, 1)]
    for method in ("source_only", "zscore"):
        trained(files, method)
    export_trained(files.trained, parts, files.features, 1, tmp_path / "exported")
    index = pd.read_parquet(files.prepared / "index.parquet")
    runs = open_trained(files.trained, ["source_only", "zscore"], CLASSES, len(index))
    mean = Ensemble(runs, parts)

    model = load_trained(tmp_path / "exported")

    for domain in ("line_a", "line_b"):
        rows = (index["domain"] == domain).to_numpy()
        images = np.load(files.prepared / "shards" / f"{index.loc[rows, 'shard'].iloc[0]}.npy")
        embeddings, logits = model.predict(images, domain)
        np.testing.assert_allclose(logits, mean.logits(1, epoch)[rows], atol=1e-4)
        np.testing.assert_allclose(embeddings, mean.embeddings(1, epoch)[rows], atol=1e-2, rtol=1e-2)  # kept as float16
        assert embeddings.shape[1] == model.width
    assert not np.allclose(mean.logits(1, epoch), runs["zscore"].logits(1, epoch), atol=1e-3)


def tiny_vit(*_: object) -> object:
    from timm.models.vision_transformer import VisionTransformer  # after isthmus, whose import hook it needs

    return VisionTransformer(img_size=20, patch_size=10, embed_dim=8, depth=2, num_heads=2, num_classes=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": "frozen", "head": "linear"},
        {"mode": "full", "head": "linear"},
        {"mode": "full", "tuning": {"how": "partial", "blocks": 1}},
        {"mode": "full", "tuning": {"how": "lora", "rank": 2}},
        {"mode": "full", "tuning": {"how": "prompts", "prompts": 3}, "average": 0.9},
        {"mode": "full", "tuning": {"layer_decay": 0.5, "unfreeze_every": 1, "l2_sp": 0.1}},
    ],
    ids=str,
)
def test_every_way_of_tuning_ends_in_a_model_that_answers_as_the_stage_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict
) -> None:
    monkeypatch.setattr(small_cnn.Config, "skeleton", tiny_vit)
    monkeypatch.setattr(small_cnn, "_feature_dim", lambda *_: 8)
    files = place(tmp_path, **changes)
    document = yaml.safe_load(files.params.read_text())
    document["train"]["seeds"] = [0]
    files.params.write_text(yaml.safe_dump(document))
    folder = trained(files, "mmd")
    export_trained(files.trained, [("mmd", 0, 4)], files.features, 0, tmp_path / "exported")
    index = pd.read_parquet(files.prepared / "index.parquet")
    rows = index["domain"] == "line_b"
    images = np.load(files.prepared / "shards" / f"{index.loc[rows, 'shard'].iloc[0]}.npy")

    found = load_trained(tmp_path / "exported").predict_logits(images, "line_b")

    np.testing.assert_allclose(found, np.load(folder / "seeds" / "0" / "epochs" / "004.logits.npy")[rows], atol=1e-5)


@pytest.mark.parametrize("method", ["source_only", "zscore"])
def test_nearest_neighbours_vote_without_training_and_the_exported_model_votes_the_same(
    tmp_path: Path, method: str
) -> None:
    files = place(tmp_path, head="knn", epochs=1, neighbours={"count": 5})
    folder = trained(files, method)
    again = trained(files, method, tmp_path / "again")
    export_trained(files.trained, [(method, 1, 1)], files.features, 1, tmp_path / "exported")
    index = pd.read_parquet(files.prepared / "index.parquet")
    logits = np.load(folder / "seeds" / "1" / "epochs" / "001.logits.npy")

    model = load_trained(tmp_path / "exported")

    for domain in ("line_a", "line_b"):
        rows = index["domain"] == domain
        images = np.load(files.prepared / "shards" / f"{index.loc[rows, 'shard'].iloc[0]}.npy")
        embeddings, found = model.predict(images, domain)
        np.testing.assert_allclose(found, logits[rows], atol=1e-4)
        assert embeddings.shape == (rows.sum(), read_json(files.features / "embed.json")["feature_dim"])
    assert hash_files([folder]) == hash_files([again])
    assert read_json(folder / "run.json")["epochs"] == [1]
    with pytest.raises(ConfigError, match="methods: coral trains a model"):
        trained(files, "coral")


def test_tuning_of_a_frozen_backbone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tuning needs a backbone that trains. Set mode: full, or drop tuning"):
        place(tmp_path, tuning={"how": "lora"})


@pytest.mark.parametrize(("most", "steps"), [(5, 1), (7, 1), (8, 2)])
def test_a_phase_has_at_most_as_many_steps_as_max_steps_says(tmp_path: Path, most: int, steps: int) -> None:
    files = place(tmp_path, max_steps=most)
    params = load_params(train.Params, files.params, filled(train.Params.SECTIONS, "source_only"))

    data = train.read_data(params, files.manifest, files.prepared, files.features, files.labels_train)

    assert params.model.epochs * data.steps(16) <= most
    assert data.steps(16) == steps


def test_a_seed_that_stands_twice_is_refused(tmp_path: Path) -> None:
    files = place(tmp_path)
    document = yaml.safe_load(files.params.read_text())
    document["train"]["seeds"] = [0, 3, 0]
    files.params.write_text(yaml.safe_dump(document))

    with pytest.raises(
        ConfigError, match="train.seeds: .*each seed stands once.*\\(twice: \\[0\\]\\). Drop the others"
    ):
        trained(files, "source_only")


def test_one_row_a_step_is_refused_where_a_batch_norm_would_have_to_standardise_it(tmp_path: Path) -> None:
    files = place(tmp_path, batch_size=1, epochs=1)
    message = "small_cnn.batch_size: BatchNorm of the bottleneck needs two rows a step \\(got 1\\). Set 2 or more"

    with pytest.raises(ConfigError, match=message):
        trained(files, "source_only")
    params = load_params(train.Params, files.params, filled(train.Params.SECTIONS, "source_only"))
    with pytest.raises(ConfigError, match=message):
        train.check_method(params, "source_only", train.empty_network(params, 3, 16))
    for number, changes in enumerate(({"norm": "layer"}, {"head": "linear"})):
        files = place(tmp_path / str(number), batch_size=1, epochs=1, **changes)
        assert trained(files, "source_only").is_dir()
