"""The gate's rules on an int8 file, by the frozen evaluation set of a published project."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from typer.testing import CliRunner

from isthmus.cli import app
from isthmus.core.files import read_json, sha256_file
from isthmus.gates.scored import read_answers
from isthmus.registry.gate.score import evidence_folder, score
from isthmus.registry.publish.model_reference import Address
from isthmus.registry.publish.publish import publish
from isthmus.serving import export
from isthmus.serving.export_gate import judge_exported
from tests.registry.asked_project import RAW, name_all_rules

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def scored(built: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A project whose published model was scored; the model's address and its id. Tests leave it as it is."""
    project = Path(shutil.copytree(built, tmp_path_factory.mktemp("scored") / "project", symlinks=True))
    name_all_rules(project)
    found = publish(project, "demo")
    score(project, "demo")
    return project, f"{found.model}/{found.version}", found.model_id


def test_an_int8_file_answers_the_targets_part_of_the_evaluation_set_and_passes(scored, tmp_path, monkeypatch):
    project, address, model_id = scored
    monkeypatch.chdir(project)

    done = CliRunner().invoke(
        app, ["export", address, "--images", str(RAW / "line_b"), "--int8", "--out", str(tmp_path / "out")]
    )

    assert done.exit_code == 0, done.output
    (facts,) = read_json(tmp_path / "out" / "model.json")["gate"].values()
    assert facts["verdict"] == "yes"
    assert {r["rule"] for r in facts["reasons"]} == {
        "not_worse_than_champion", "per_class_floor", "calibration", "within_budget", "same_data",
    }  # fmt: skip
    folder = evidence_folder(project, model_id)
    target = read_answers(folder, "candidate").image_id
    images = int(next(r["text"] for r in facts["reasons"] if "evaluation set" in r["text"]).split(", ")[1].split()[0])
    assert 0 < images < len(target)
    assert facts["evidence"]["scored"] == sha256_file(folder / "evidence.json")
    assert facts["evidence"]["model.int8.onnx"] == sha256_file(tmp_path / "out" / "model.int8.onnx")
    assert f"model.int8.onnx as candidate against version {address[-1]}: yes" in done.output


def test_an_int8_file_that_mixes_up_two_classes_is_refused_and_kept_with_the_reasons(scored, tmp_path, monkeypatch):
    project, address, _ = scored
    monkeypatch.chdir(project)
    monkeypatch.setattr(export, "quantise", _with_two_classes_exchanged)

    done = CliRunner().invoke(
        app, ["export", address, "--images", str(RAW / "line_b"), "--int8", "--out", str(tmp_path / "out")]
    )

    assert done.exit_code == 3, done.output
    (facts,) = read_json(tmp_path / "out" / "model.json")["gate"].values()
    assert facts["verdict"] == "no"
    refused = {reason["rule"] for reason in facts["reasons"] if reason["verdict"] == "refuse"}
    assert {"not_worse_than_champion", "per_class_floor"} <= refused
    assert (tmp_path / "out" / "model.int8.onnx").is_file()
    assert "the whole interval lies below zero" in done.output


def test_without_answers_of_the_model_on_the_set_of_now_a_person_must_decide(scored, tmp_path):
    project, address, model_id = scored
    project = Path(shutil.copytree(project, tmp_path / "project", symlinks=True))
    name, version = address.split("/")
    other = judge_exported(project, Address(name, "7", "m-other"), None, tmp_path)
    assert other.exit_status == 4
    assert "version 7 did not answer the evaluation set of now, only 1 did" in other.reasons[0]["text"]

    shutil.rmtree(evidence_folder(project, model_id))
    none = judge_exported(project, Address(name, version, model_id), None, tmp_path)
    assert none.exit_status == 4
    assert "the models of demo were not scored. Run 'isthmus score demo' and export again" in none.reasons[0]["text"]


def _with_two_classes_exchanged(full: Path, to: Path) -> None:
    model = onnx.load(str(full))
    for node in model.graph.node:
        node.output[:] = ["straight" if name == "probabilities" else name for name in node.output]
    order = numpy_helper.from_array(np.array([1, 0, 2], np.int64), "order")
    model.graph.initializer.append(order)
    model.graph.node.append(helper.make_node("Gather", ["straight", "order"], ["probabilities"], axis=1))
    onnx.save(model, str(to))
