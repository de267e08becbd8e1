import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from isthmus.core.config import load_params
from isthmus.core.errors import DataError, StoreError
from isthmus.core.files import hash_files, read_json, sha256_file
from isthmus.data.manifest import read_table
from isthmus.evaluation.scoring.predict import PREDICTIONS
from isthmus.gates.scored import EVALUATION
from isthmus.registry.gate.decision import gate
from isthmus.registry.gate.score import check_champion, evidence_folder, run_scorer, score
from isthmus.registry.lineage.lineage import read_lineage
from isthmus.registry.promotion.promotion import ApprovalNeededError, PromotionRefusedError, promote
from isthmus.registry.publish.fitted_confidence import promise
from isthmus.registry.publish.packaging import ScenarioParams
from isthmus.registry.publish.publish import publish
from isthmus.registry.trace.trace import trace, who_saw
from tests.registry.asked_project import RAW, forget_target_labels, name_all_rules, spoil

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def scored(published):
    project, found = published
    before = (project / "params.yaml").read_text()
    name_all_rules(project)
    yield project, found, score(project, "demo")
    (project / "params.yaml").write_text(before)


@pytest.fixture
def own(project):
    name_all_rules(project)
    return project


def test_every_test_image_is_answered_by_the_registered_model_as_by_the_pipeline(scored):
    project, found, done = scored
    folder = evidence_folder(project, found.model_id)
    images = read_table(folder / "evaluation.parquet", EVALUATION)
    answers = pd.read_parquet(folder / "candidate.parquet").set_index("image_id")
    pipeline = read_table(project / "out/demo/predictions.parquet", PREDICTIONS).set_index("image_id")

    assert len(images) == done.images == (pipeline["split"] == "test").sum()
    assert set(images["domain"]) == {"line_a", "line_b"}
    scenario = load_params(ScenarioParams, project / "params.yaml", {"scenario": "scenarios.demo"}).scenario
    warmth = promise(read_lineage(project, "demo"), scenario)["temperature"]
    power = images.set_index("image_id").loc[answers.index, "role"].map(warmth).to_numpy()[:, None]
    raw = answers.drop(columns="sha256").to_numpy() ** power  # the pipeline's confidences are not calibrated
    confidence = raw.max(axis=1) / raw.sum(axis=1)
    np.testing.assert_allclose(confidence, pipeline.loc[answers.index, "confidence"], atol=1e-5)
    facts = read_json(folder / "candidate.json")
    assert (facts["failure"], facts["bundled"]) == ("", True)
    assert facts["size_bytes"] > 1000
    assert 0 < facts["latency"]["fastest_s"] <= facts["latency"]["median_s"] <= facts["latency"]["p95_s"]
    assert facts["classes"] == ["crack", "dent", "good"]


def test_all_rules_pass_a_good_first_candidate_and_scoring_again_asks_nobody(scored):
    project, found, done = scored
    before = hash_files([evidence_folder(project, found.model_id)])

    again = score(project, "demo")
    decision = gate(project, "demo")

    assert again == done
    assert hash_files([evidence_folder(project, found.model_id)]) == before
    assert (decision.verdict, decision.exit_status) == ("yes", 0), decision.table()
    assert len({reason["rule"] for reason in decision.reasons}) == 12
    assert "no champion yet: a first promotion" in decision.table()
    assert decision.evidence["scored"] == sha256_file(evidence_folder(project, found.model_id) / "evidence.json")


def test_the_trace_lists_the_sha256_of_every_image_file_and_who_saw_it(scored):
    project, found, _ = scored
    chain = trace(project, f"{found.model}@candidate")

    files = {sha256_file(path) for path in (project / RAW).rglob("*/[0-9]*.png")}
    assert set(chain.images["sha256"]) == files
    assert len(chain.images) == 60
    assert all(chain.checks.values())
    assert (chain.version.number, chain.lineage["snapshot"]) == (found.version, found.snapshot)
    assert "path" not in chain.images.columns
    assert json.loads(json.dumps(chain.as_json()))["images"][0]["sha256"] in files
    file = next((project / RAW / "line_b").rglob("[0-9]*.png"))
    (seen,) = who_saw(project, image=str(file))
    assert list(seen.images["sha256"]) == [sha256_file(file)]
    group = seen.images["group"].iloc[0]
    (same,) = who_saw(project, group=group)
    assert len(same.images) == (chain.images["group"] == group).sum()
    assert who_saw(project, image="0" * 64) == []


def test_a_model_that_cannot_be_loaded_is_a_finding_with_its_reason(tmp_path):
    job = {"tracking_uri": f"sqlite:///{tmp_path / 'none.db'}", "model": str(tmp_path / "no model"), "files": []}

    found = run_scorer(job | {"ids": [], "timed": 0, "out": str(tmp_path / "answers"), "name": "score"}, tmp_path)

    assert "no model" in found["failure"]


def test_a_raw_image_that_changed_is_named_and_no_model_is_asked(scored):
    project, _, _ = scored
    manifest = pd.read_parquet(project / "out/demo/manifest.parquet")
    row = manifest[manifest["split"] == "test"].iloc[0]
    places = pd.read_parquet(project / "out/demo/locations.parquet").set_index("image_id")["path"]
    path = project / RAW / places[row["image_id"]]
    kept = path.read_bytes()
    path.write_bytes(kept + b"x")

    with pytest.raises(StoreError, match="not up to date"):  # DVC sees it first
        score(project, "demo")

    path.write_bytes(kept)


def test_missing_evidence_and_evidence_about_another_champion_are_named(tmp_path):
    with pytest.raises(StoreError, match=r"evidence.json: no such file: .*Run 'isthmus score demo'"):
        check_champion(tmp_path, "demo", None)
    (tmp_path / "evidence.json").write_text('{"champion": "1"}')
    with pytest.raises(StoreError, match=r"compares with champion 1, but the champion is now 2. Run 'isthmus score"):
        check_champion(tmp_path, "demo", "2")


@pytest.mark.soak
def test_a_spoiled_candidate_is_refused_against_the_champion_and_its_runner_up_is_not_asked(own):
    publish(own, "demo")
    score(own, "demo")
    assert gate(own, "demo").verdict == "yes"
    promote(own, "demo")
    spoil(own)
    spoiled = publish(own, "demo")

    with pytest.raises(StoreError, match="evidence.json: no such file"):
        gate(own, "demo")
    done = score(own, "demo")
    decision = gate(own, "demo")

    assert done.champion == "1"
    assert done.acceptance["choices"] == 2
    assert (decision.verdict, decision.expected_champion) == ("no", "1")
    refused = {reason["rule"] for reason in decision.reasons if reason["verdict"] == "refuse"}
    assert refused >= {"not_worse_than_champion", "per_class_floor", "calibration", "source_kept"}
    with pytest.raises(PromotionRefusedError, match="candidate minus champion 1 is -"):
        promote(own, "demo")
    _choose(own, "source_only")
    publish(own, "demo")
    asked = score(own, "demo").acceptance
    runner_up = gate(own, "demo")
    assert asked["runner_up_of"] == spoiled.version
    texts = [reason["text"] for reason in runner_up.reasons if reason["verdict"] == "refuse"]
    assert any(f"pool of version {spoiled.version}, which was refused" in text for text in texts)
    folder = evidence_folder(own, runner_up.model_id)
    images = read_table(folder / "evaluation.parquet", EVALUATION)
    assert images.loc[images["role"] == "target", "label"].isna().all()


@pytest.mark.soak
def test_without_target_labels_a_person_must_decide_and_an_approval_works(own, capfd):
    forget_target_labels(own)
    publish(own, "demo")
    done = score(own, "demo")
    assert f"score version 1: {done.images}/{done.images} images, " in capfd.readouterr().err
    decision = gate(own, "demo")

    assert done.acceptance == {"choices": 0, "labelled": 0, "runner_up_of": ""}
    assert (decision.verdict, decision.exit_status) == ("person", 4), decision.table()
    with pytest.raises(ApprovalNeededError, match="a person must decide") as raised:
        promote(own, "demo")
    assert raised.value.exit_status == 4
    assert promote(own, "demo", approve="Ada").approved_by == "Ada"


@pytest.mark.soak
def test_a_raw_image_that_is_gone_stops_scoring_with_its_count(own, monkeypatch):
    publish(own, "demo")
    monkeypatch.setattr("isthmus.registry.lineage.lineage._check_fresh", lambda *_: None)  # as after dvc commit
    shutil.rmtree(own / RAW / "line_b")

    with pytest.raises(DataError, match=r"raw images are missing or changed \(first: image [0-9a-f]+\). Restore them"):
        score(own, "demo")


def _choose(project: Path, method: str) -> None:
    from isthmus.core.files import write_json
    from tests.registry.project_files import dvc

    choice = read_json(project / "out/demo/choice.json")
    write_json(project / "out/demo/choice.json", choice | {"chosen": choice["chosen"] | {"method": method}})
    dvc(project, "commit", "-q", "-f")
