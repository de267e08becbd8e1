import numpy as np
import pandas as pd
import pytest

from isthmus.core.errors import DataError
from isthmus.core.files import sha256_file, write_json
from isthmus.data.manifest import MANIFEST, read_table, write_table
from isthmus.evaluation.scoring.predict import PREDICTIONS, predictions_table
from isthmus.evaluation.trained import read_samples
from isthmus.gates.scored import EVALUATION, evaluation_set, read_answers, read_scored, set_md5
from tests.gates.evidence import CLASSES, scored
from tests.scenario_files import write_scenario


@pytest.fixture
def tables(tmp_path):
    files = write_scenario(tmp_path / "made", {"source_only": 0.5}, images=60)
    samples = read_samples(files.manifest, files.prepared)
    logits = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    write_table(tmp_path / "predictions.parquet", predictions_table(samples, logits, samples.label), PREDICTIONS)
    return files.manifest, tmp_path / "predictions.parquet"


def write_evidence(folder, **facts):
    made = scored()
    write_table(folder / "evaluation.parquet", made.images, EVALUATION)
    rows = pd.DataFrame(made.candidate.probabilities, columns=[f"probability_{name}" for name in CLASSES])
    rows.insert(0, "image_id", made.candidate.image_id)
    rows.insert(1, "sha256", made.candidate.sha256)
    rows.to_parquet(folder / "candidate.parquet")
    kept = ("model_id", "version", "failure", "bundled", "classes", "inputs", "outputs", "size_bytes", "latency")
    write_json(folder / "candidate.json", {name: getattr(made.candidate, name) for name in kept})
    names = ["evaluation.parquet", "candidate.json", "candidate.parquet"]
    body = {"champion": None, "classes": CLASSES, "set_md5": "md5", "acceptance": made.acceptance}
    body |= {"origin": made.origin, "seen": made.seen, "files": {name: sha256_file(folder / name) for name in names}}
    write_json(folder / "evidence.json", body | facts)
    return made


def test_the_evaluation_set_is_every_test_image_with_its_bytes_hash_and_known_label(tables):
    frame = evaluation_set(*tables, "line_b")

    facts = read_table(tables[0], MANIFEST).set_index("image_id")
    wanted = facts[facts["split"] == "test"]
    assert list(frame["image_id"]) == sorted(wanted.index)
    assert list(frame["sha256"]) == list(wanted.loc[frame["image_id"], "sha256"])
    assert frame.loc[frame["role"] == "target", "label"].isna().all()
    assert frame.loc[frame["role"] == "source", "label"].notna().all()


def test_its_identity_moves_with_a_label_or_a_byte_and_with_nothing_else(tables):
    frame = evaluation_set(*tables, "line_b")
    relabelled, rewritten = frame.copy(), frame.copy()
    place = frame.index[frame["role"] == "source"][0]
    relabelled.loc[place, "label"] = (relabelled.loc[place, "label"] + 1) % 3
    rewritten.loc[place, "sha256"] = "f" * 64

    assert set_md5(frame) == set_md5(frame.assign(predicted=0, group="other"))
    assert len({set_md5(one) for one in (frame, relabelled, rewritten, frame.iloc[1:])}) == 4


def test_predictions_of_another_run_or_without_a_test_split_are_refused(tables, tmp_path):
    manifest = read_table(tables[0], MANIFEST)
    test = manifest["split"] == "test"
    write_table(tmp_path / "less.parquet", manifest[~test], MANIFEST)
    answered = read_table(tables[1], PREDICTIONS)
    write_table(tmp_path / "none.parquet", answered[answered["split"] != "test"], PREDICTIONS)

    with pytest.raises(DataError, match=r"images are not in .*less.parquet. Run 'dvc repro' again"):
        evaluation_set(tmp_path / "less.parquet", tables[1], "line_b")
    with pytest.raises(DataError, match=r"none.parquet: holds no image of a test split"):
        evaluation_set(tables[0], tmp_path / "none.parquet", "line_b")


def test_evidence_is_read_back_as_it_was_written(tmp_path):
    made = write_evidence(tmp_path)

    found = read_scored(tmp_path, "now")

    assert found.champion is None
    assert (found.set_md5, found.current_md5) == ("md5", "now")
    np.testing.assert_array_equal(found.candidate.probabilities, made.candidate.probabilities)
    assert found.candidate.sha256 == list(made.images["sha256"])
    np.testing.assert_array_equal(found.right(found.candidate), made.right(made.candidate))


def test_a_model_that_failed_is_read_back_with_its_reason_and_no_answers(tmp_path):
    facts = {"classes": [], "inputs": {}, "outputs": {}, "size_bytes": 0, "latency": {}, "bundled": False}
    write_json(tmp_path / "candidate.json", facts | {"failure": "no torch", "model_id": "m-2", "version": "2"})

    found = read_answers(tmp_path, "candidate")

    assert found.failure == "no torch"
    assert found.probabilities.shape == (0, 0)


def test_evidence_that_was_changed_by_hand_is_refused(tmp_path):
    write_evidence(tmp_path)
    with (tmp_path / "candidate.json").open("a") as stream:
        stream.write(" ")
    (tmp_path / "evaluation.parquet").unlink()

    with pytest.raises(DataError, match=r"candidate.json, evaluation.parquet missing or changed since scoring"):
        read_scored(tmp_path, "md5")


def test_answers_are_compared_by_the_names_of_classes_and_not_by_their_places():
    made = scored(candidate={"right": 1.0, "classes": ["good", "crack", "dent"]})

    assert made.right(made.candidate).all()
