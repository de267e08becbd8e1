"""The stages after `train` on a scenario with masks: choice, scores, page, list and card."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from isthmus.core.config import load_params
from isthmus.core.errors import DataError
from isthmus.core.files import read_json, write_json
from isthmus.data.manifest import MANIFEST, read_table, write_table
from isthmus.data.masks import IGNORED
from isthmus.evaluation.masks import predicted_masks
from isthmus.evaluation.scoring.predict import MASK_PREDICTIONS
from isthmus.report.formatting import ABSENT
from isthmus.stages import explain, robustness
from tests.mask_scenario import CLASSES, EPOCH, GRID, SIDE, write_mask_scenario
from tests.report_files import SECTIONS, ReportFiles, run_stages


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    """Segmentation whose target has masks; tests do not change it."""
    return run_stages(write_mask_scenario(tmp_path_factory.mktemp("masks")))


@pytest.fixture(scope="module")
def page(made: ReportFiles) -> str:
    return (made.make() / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    """Change whose target has no masks."""
    return run_stages(write_mask_scenario(tmp_path_factory.mktemp("change"), task="change", target_masks=False))


def predictions(made: ReportFiles) -> pd.DataFrame:
    return read_table(made.root / "predictions.parquet", MASK_PREDICTIONS)


def images(page: str, title: str) -> list[str]:
    return re.findall(rf'alt="{title}: ([^"]*)"', page)


def test_the_choice_is_that_of_the_task_and_no_validator_of_images_is_asked(made: ReportFiles) -> None:
    choice = read_json(made.root / "choice.json")

    assert (choice["average"], choice["ensemble"]) == (["mmd"], {"mmd": [0, 1, 2]})
    assert choice["chosen"]["method"] == "ensemble" and not choice["chosen"]["fallback"]
    assert choice["validators"] == [] and all(c["scores"] == {} and not c["refused"] for c in choice["candidates"])
    assert [c["method"] for c in choice["candidates"]] == ["source_only", "coral", "mmd", "ensemble"]
    assert 0.9 < choice["candidates"][0]["source_val_accuracy"] < 1


def test_a_method_that_marks_everything_as_one_class_is_refused(tmp_path: Path) -> None:
    files = write_mask_scenario(tmp_path)
    for path in (files.trained / "mmd").glob("seeds/*/epochs/*.logits.npy"):
        logits = np.load(path)
        logits[22 * GRID * GRID :] = [5, 0, 0]
        np.save(path, logits)

    choice = read_json(run_stages(files).root / "choice.json")

    refused = {c["method"]: c["refused"] for c in choice["candidates"]}
    assert refused["mmd"] == ["nearly all of the target is predicted as one class"]
    assert (choice["chosen"]["method"], choice["chosen"]["fallback"]) == ("source_only", True)


def test_truth_equals_a_plain_count_of_pixels(made: ReportFiles) -> None:
    truth, files = read_json(made.root / "truth.json"), made.files
    rows = read_table(files.manifest, MANIFEST)
    masks = np.load(files.masks_target / "domain1-all.npy")[10:20]  # the test split's last two have none
    logits = np.load(files.trained / "coral" / "seeds" / "1" / "epochs" / f"{EPOCH:03d}.logits.npy")
    shown = predicted_masks(logits, np.arange(32, 42), (GRID, GRID), SIDE)
    seen = masks != IGNORED
    both = [((shown == k) & (masks == k)).sum() for k in (0, 1)]
    either = [(((shown == k) | (masks == k)) & seen).sum() for k in (0, 1)]

    assert (rows["split"][32:42] == "test").all() and truth["count"] == 10 and truth["masks_missing"] == 2
    assert truth["pixels"] == seen.sum() and (truth["task"], truth["metric"]) == ("segmentation", "mean_iou")
    score = truth["methods"]["coral"]["mean_iou"]
    assert score["per_seed"][1] == pytest.approx(np.mean(np.divide(both, either)))
    assert score["low"] < score["mean"] < score["high"]
    assert truth["methods"]["coral"]["per_class"]["debris"]["iou"] is None
    assert truth["methods"]["mmd"]["transfer"] == "better" and truth["oracle"]["method"] == truth["chosen"]


def test_predictions_hold_shares_and_the_score_of_each_image_whose_mask_is_known(made: ReportFiles) -> None:
    table = predictions(made)

    assert len(table) == 44 and table["mean_iou"].isna().to_numpy().nonzero()[0].tolist() == [42, 43]
    assert np.allclose(np.stack(table["shares"].to_list()).sum(axis=1), 1)
    assert table["confidence"].between(1 / 3, 1).all()


def test_metrics_and_trust_hold_what_is_known_without_target_masks(made: ReportFiles) -> None:
    metrics, trust = read_json(made.root / "metrics.json"), read_json(made.root / "trust.json")

    assert metrics["source_test_mean_iou"] > metrics["source_only_source_test_mean_iou"] > 0.5
    assert set(trust["target_shares"]) == set(CLASSES) and sum(trust["target_shares"].values()) == pytest.approx(1)
    assert (metrics["target_train_count"], metrics["target_test_count"]) == (10, 12)
    assert trust["alarms"] == {"shift_found": True, "source_learned": True, "target_collapsed": False}
    assert trust["estimate"]["why"] == "accuracy without labels is not estimated for segmentation"


def test_other_target_masks_change_the_truth_and_nothing_that_needs_none(made: ReportFiles, tmp_path: Path) -> None:
    files = write_mask_scenario(tmp_path)
    path = files.masks_target / "domain1-all.npy"
    np.save(path, np.random.default_rng(1).permutation(np.load(path)))

    other = run_stages(files)

    for name in ("choice.json", "metrics.json", "trust.json"):
        assert (other.root / name).read_bytes() == (made.root / name).read_bytes()
    assert read_json(other.root / "truth.json")["methods"] != read_json(made.root / "truth.json")["methods"]
    columns = ["image_id", "confidence", "shares"]
    pd.testing.assert_frame_equal(predictions(other)[columns], predictions(made)[columns])


def test_of_masks_no_class_shares_are_estimated_nothing_is_explained_and_nothing_damaged(made: ReportFiles) -> None:
    files, root = made.files, made.root
    common = {"prepared": files.prepared, "features": files.features, "trained": files.trained}
    common |= {"choice": root / "choice.json", "predictions": root / "predictions.parquet"}

    explain.run(load_params(explain.Params, files.params, SECTIONS), **common, explained=root / "explained")
    params = load_params(robustness.Params, files.params, SECTIONS).model_copy(
        update={"robustness": robustness.RobustnessConfig(images=3)}
    )
    robustness.run(params, **common, checkpoints=root / "checkpoints", robustness=root / "robustness.json")

    told = read_json(root / "explained" / "explain.json")
    assert told == {"why_not": "the answer is a mask, which shows it", "images": []}
    assert read_json(root / "robustness.json") == {"measured": False}
    advice = read_json(root / "shift" / "shift.json")["advice"]
    assert advice[-1] == "Class shares of the target are not estimated: its images do not have one class each."


def test_the_page_asks_for_nothing_outside_itself_and_each_picture_has_a_text(page: str) -> None:
    assert "<script" not in page and not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert page.count("<img ") == len(re.findall(r'<img src="data:image/jpeg;base64,[^"]+" alt="[^"]+"', page)) > 30


def test_the_first_screen_gives_the_gain_in_mean_iou_with_its_interval(made: ReportFiles, page: str) -> None:
    mine = read_json(made.root / "truth.json")["methods"]["ensemble"]

    assert '<div class="hero good"' in page and "Mean IoU on the target test split" in page
    assert f"ensemble is better than source\u2011only by {100 * mine['minus_source_only']['mean']:.1f} points." in page
    assert f"{100 * mine['mean_iou']['mean']:.1f}% mean IoU (95% interval" in page
    assert "(2 more have none)" in page and "balanced accuracy (95%" not in page
    scores = read_json(made.root / "scores.json")
    assert (scores["target"], scores["boundary"]) == tuple(round(mine[n]["mean"], 4) for n in ("mean_iou", "boundary"))


def test_the_worst_images_come_first_with_outlines_and_wrong_pixels(made: ReportFiles, page: str) -> None:
    table = predictions(made)
    test = table[(table["domain"] == "line_b") & (table["split"] == "test")].dropna(subset=["mean_iou"])
    worst = test.sort_values("mean_iou")["image_id"].to_list()[:5]  # half of ten

    shown = re.findall(r"<code>([0-9a-f]{32})</code>", page)

    assert shown[:5] == worst and set(shown) <= set(test["image_id"])
    assert images(page, "worst image 1") == ["image", "true and predicted outline", "wrong pixels"]
    assert "cell in truth, predicted as background" in page and "not scored" in page


def test_a_class_that_the_target_lacks_has_a_dash_and_a_note(page: str) -> None:
    row = page[page.index('<tr><th scope="row">debris</th><td class="nowrap">', page.index('id="h-classes"')) :]

    assert row[: row.index("</tr>")].count(ABSENT) >= 4
    assert "The target&#39;s test split has no pixel of class debris: its IoU is not known." in page


def test_the_data_section_has_the_shares_of_annotated_pixels(made: ReportFiles, page: str) -> None:
    pixels = read_json(made.files.audit)["mask_pixels"]["line_a"]

    share = f"{100 * pixels['debris'] / sum(pixels.values()):.1f}%"
    assert f"<td>{sum(pixels.values())}</td>" in page and f"<td>{share}</td>" in page
    assert "Class balance of the source by split" not in page and "Images by class" not in page


def test_the_list_has_the_least_sure_training_images_of_the_target(made: ReportFiles, page: str) -> None:
    table = predictions(made)
    pool = table[(table["domain"] == "line_b") & (table["split"] == "train")].sort_values("confidence")

    listed = pd.read_csv(made.root / "report" / "label_first.csv", dtype=str)

    assert list(listed) == ["rank", "image_id", "path", "part", "confidence"]
    assert listed["image_id"].to_list() == pool["image_id"].to_list()
    assert images(page, "target image 1 to annotate") == ["image", "predicted outline"]


def test_the_list_of_medical_images_names_no_file(tmp_path: Path, made: ReportFiles) -> None:
    copy = ReportFiles(write_mask_scenario(tmp_path / "files"), tmp_path / "files")
    run_stages(copy.files)
    copy.edit_scenario(kind="medical")

    folder = copy.make()

    assert (folder / "label_first.csv").read_text().splitlines()[0] == "rank,image_id,confidence"
    assert "line_b/0" not in (folder / "report.html").read_text(encoding="utf-8")


def test_the_card_gives_the_numbers_of_truth_json(made: ReportFiles, page: str) -> None:
    card, truth = read_json(made.root / "report" / "model_card.json"), read_json(made.root / "truth.json")
    text = (made.root / "report" / "model_card.md").read_text(encoding="utf-8")
    mine = truth["methods"]["ensemble"]

    assert card["target"]["mean_iou"] == mine["mean_iou"] and card["target"]["per_class"] == mine["per_class"]
    assert card["target"]["minus_source_only"] == mine["minus_source_only"]
    assert (
        f"| mean IoU | {100 * mine['mean_iou']['mean']:.1f}% |" in text
        and f"| debris |{f' {ABSENT} |' * 3} 0.0% |" in text
    )
    assert "Give each pixel of natural images of 'line_b' one of these classes: background, cell, debris." in text
    assert "Without a target test pixel, so not measured: debris." in text
    assert "Not known without masks of the target: accuracy without labels is not estimated for segmentation." in text


def test_the_same_files_give_the_same_bytes(made: ReportFiles, page: str) -> None:
    again = made.make("again")

    assert {p.name: p.read_bytes() for p in again.iterdir()} == {
        p.name: p.read_bytes() for p in (made.root / "report").iterdir()
    }


def test_a_source_whose_test_images_have_no_scored_pixel_has_no_score_on_them(tmp_path: Path) -> None:
    files = write_mask_scenario(tmp_path, {"source_only": 0.6, "mmd": 0.95})
    path = files.prepared / "masks" / "domain0-all.npy"
    masks = np.load(path)
    masks[18:] = IGNORED  # the test split
    np.save(path, masks)

    made = run_stages(files)

    metrics = read_json(made.root / "metrics.json")
    assert "source_val_mean_iou" in metrics
    assert not {"source_test_mean_iou", "source_only_source_test_mean_iou"} & metrics.keys()
    assert "on the source's test split" not in (made.make() / "report.html").read_text(encoding="utf-8")


def test_without_target_masks_no_gain_is_claimed_and_both_dates_are_shown(without: ReportFiles) -> None:
    folder = without.make()
    page, card = (folder / "report.html").read_text(encoding="utf-8"), read_json(folder / "model_card.json")

    assert read_json(without.root / "truth.json") == {"available": False}
    assert predictions(without)["mean_iou"].isna().sum() == 22
    assert "The target has no masks: the true score is not known" in page and "No gain is claimed." in page
    assert "Mean IoU on the target test split" not in page and 'id="h-classes"' not in page
    assert images(page, "image of low confidence 1") == ["earlier image", "later image", "predicted outline"]
    assert "isthmus label" not in page and "Draw masks of a few target images" in page
    assert card["target"] is None
    assert "there are two natural images of 'line_b', on one grid" in card["intended_use"]
    assert "No target mask exists: the score on the target is unknown, and no gain is claimed." in card["limits"]


def test_masks_no_better_than_one_class_everywhere_are_called_so_even_with_a_gain(tmp_path: Path) -> None:
    files = write_mask_scenario(tmp_path, {"source_only": 0.3, "mmd": 0.5})
    made = run_stages(files)

    page = (made.make() / "report.html").read_text(encoding="utf-8")

    assert read_json(made.root / "truth.json")["methods"]["mmd"]["transfer"] == "better"
    assert "is no better than marking every pixel as background on the target." in page
    assert re.search(r"Marking every pixel as background would score \d+\.\d%\. Against source-only it is \+", page)


def test_a_truth_of_another_version_names_the_missing_key(made: ReportFiles, tmp_path: Path) -> None:
    truth = read_json(made.root / "truth.json")
    del truth["pixels"]
    write_json(tmp_path / "truth.json", truth)

    with pytest.raises(DataError, match=r"truth.json: key 'pixels' is missing. There are: available, chosen"):
        made.make("refused", truth=tmp_path / "truth.json")


def test_methods_trained_on_images_are_refused(made: ReportFiles, tmp_path: Path) -> None:
    trained = Path(shutil.copytree(made.files.trained, tmp_path / "train"))
    for path in trained.glob("*/run.json"):
        write_json(path, read_json(path) | {"cells": 1})
    for path in trained.glob("*/seeds/*/epochs/*.logits.npy"):
        np.save(path, np.load(path)[:44])

    with pytest.raises(DataError, match="was trained on images and not on cells of a grid. Run: dvc repro --glob"):
        made.make("refused", trained=trained)


def test_a_target_whose_test_images_were_all_refused_is_told(tmp_path: Path) -> None:
    files = write_mask_scenario(tmp_path)
    rows = read_table(files.manifest, MANIFEST)
    rows["split"] = rows["split"].where((rows["domain"] != "line_b") | (rows["split"] != "test"), "train")
    write_table(files.manifest, rows, MANIFEST)

    with pytest.raises(DataError, match=r"no prepared image in split 'test' of line_b, .* run 'dvc repro'"):
        run_stages(files)
