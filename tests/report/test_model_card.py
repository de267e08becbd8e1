import html
import json
from pathlib import Path

import numpy as np
import pytest

from tests.report_files import ReportFiles, run_stages, write_report_files
from tests.scenario_files import write_scenario


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    return write_report_files(tmp_path_factory.mktemp("labelled"))


def _card(folder: Path) -> tuple[dict, str]:
    return json.loads((folder / "model_card.json").read_text()), (folder / "model_card.md").read_text()


def test_both_forms_of_the_card_give_the_numbers_of_truth_json(labelled: ReportFiles):
    truth = json.loads((labelled.root / "truth.json").read_text())

    card, text = _card(labelled.make())

    mine = truth["methods"][truth["chosen"]]
    assert card["target"]["balanced_accuracy"] == mine["balanced_accuracy"]
    assert card["target"]["minus_source_only"] == mine["minus_source_only"]
    assert card["target"]["regret"] == truth["regret"]
    mean, low, high = (f"{100 * mine['balanced_accuracy'][key]:.1f}%" for key in ("mean", "low", "high"))
    assert f"| balanced accuracy | {mean} | {low} | {high} |" in text


def test_the_card_says_who_chose_and_how_many_candidates_there_were(labelled: ReportFiles):
    choice = json.loads((labelled.root / "choice.json").read_text())

    card, text = _card(labelled.make())

    assert card["choice"]["why"] == choice["chosen"]["why"]
    assert card["choice"]["candidates"] == len(choice["candidates"])
    last = json.loads((labelled.files.trained / "source_only" / "run.json").read_text())["epochs"][-1]
    assert set(choice["epochs"].values()) == {last}
    assert any(f"the model that answers stands at its last epoch, {last}." in line for line in card["made_by"])
    assert f"{card['choice']['eligible']} of {len(choice['candidates'])} candidates passed the guards" in text


def test_every_section_a_reader_looks_for_is_there(labelled: ReportFiles):
    _, text = _card(labelled.make())

    for section in ("Intended use", "Data", "Method", "Choice without labels", "Numbers", "Limits", "How it was made"):
        assert f"\n## {section}\n" in text
    assert "The target is taken to have the source's classes" in text


def test_without_target_labels_the_card_claims_no_accuracy_on_the_target(tmp_path: Path):
    card, text = _card(write_report_files(tmp_path, target_labels="none").make())

    assert card["target"] is None
    assert "There is no true score on the target: see Limits." in text
    assert "The target has no labels: accuracy on the target is unknown, and no gain is claimed" in text
    assert "- It was chosen without target labels.\n" in text  # none were read
    assert "better than source-only by" not in text


def test_a_target_of_good_images_alone_is_not_said_to_have_no_labels(tmp_path: Path):
    files = write_report_files(tmp_path, target_labels="none")
    alarms = {"false_alarm_rate": {"mean": 0.1, "low": 0.0, "high": 0.2}, "found": None}
    methods = json.loads((files.root / "choice.json").read_text())["epochs"]
    found = {"false_alarms": 0.02, "good": 40, "defective": 0, "with_mask": 0}
    found["methods"] = {method: alarms | {"pixel_auroc": None, "aupro": None} for method in methods}
    (files.root / "truth.json").write_text(json.dumps({"available": False, "anomaly": found}))

    folder = files.make()
    card, text = _card(folder)

    why = "A score needs labelled images of both kinds, and the target's test split has 40 good and 0 defective ones"
    page = html.unescape((folder / "report.html").read_text())
    assert "All 40 labelled target test images are good: 10.0% of them raise an alarm" in card["verdict"]["detail"]
    assert f"{why}: accuracy on the target is unknown" in text
    assert f"{why}, so there are no scores on it." in page
    assert card["data"]["target_labels"] == "used by the evaluation alone"
    assert "the labels of the target test split were read once, by the evaluation." in text
    assert "has no labels" not in text + page


def test_labelled_images_that_were_trained_with_are_counted_on_page_and_card(tmp_path: Path):
    files = write_scenario(tmp_path, {"source_only": 0.5, "coral": 0.9}, target_labels="none")
    run = files.trained / "coral" / "run.json"
    run.write_text(json.dumps(json.loads(run.read_text()) | {"target_labels": 15}))

    folder = run_stages(files).make()
    card, text = _card(folder)

    page = (folder / "report.html").read_text()
    assert "coral answers, trained with 15 labelled target images." in page.replace("\u2011", "-")
    assert "It was trained with the labels of 15 target images, which nothing here is measured on." in page
    assert "of its labels only the 15 that were given for training play a part before evaluation" in page
    assert "The target's test split has no labels: the true accuracy is not known" in card["verdict"]["detail"]
    assert card["method"]["target_labels"] == 15
    assert card["data"]["target_labels"] == "of the test split none; of the training split 15 used for training"
    assert "- Target images seen in training: yes, 15 of them with labels\n" in text
    assert "The target's test split has no labels: accuracy on the target is unknown" in text


def test_a_fallback_is_a_limit_of_the_model(tmp_path: Path):
    files = write_scenario(tmp_path, {"source_only": 0.6, "coral": 0.6})
    for path in files.trained.glob("coral/seeds/0/epochs/*.logits.npy"):
        np.save(path, np.load(path) * np.nan)

    card, text = _card(run_stages(files).make())

    assert card["choice"]["fallback"] is True
    assert card["target"]["minus_source_only"] is None
    assert "Nothing was adapted: this is the source-only model." in text


def test_text_from_outside_cannot_leave_its_table_cell_or_become_html(labelled: ReportFiles, tmp_path: Path):
    choice = json.loads((labelled.root / "choice.json").read_text())
    choice["chosen"]["why"] = "a | b <script>alert(1)</script>"
    (tmp_path / "choice.json").write_text(json.dumps(choice))

    _, text = _card(labelled.make("hostile", choice=tmp_path / "choice.json"))

    assert "<script>" not in text
    assert "a \\| b &lt;script>" in text
