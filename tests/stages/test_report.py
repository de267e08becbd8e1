import csv
import html
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import tests.scenario_files
from isthmus.core.errors import DataError
from isthmus.data.manifest import LOCATIONS, MANIFEST, read_table, write_table
from isthmus.data.scenario import Scenario
from isthmus.evaluation.scoring.robustness import robustness_document
from isthmus.report.explanations import Explained, overlay
from isthmus.report.results import _runs, is_simulated
from tests.report_files import ACCURACY, TABLES, ReportFiles, run_stages, write_report_files
from tests.scenario_files import write_scenario


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    return write_report_files(tmp_path_factory.mktemp("labelled"))


@pytest.fixture
def own(labelled: ReportFiles, tmp_path: Path) -> ReportFiles:
    root = tmp_path / "files"
    return ReportFiles(labelled.files.copied(root), root)


def _page(folder: Path) -> str:
    return (folder / "report.html").read_text()


def _edited(source: Path, target: Path, **values: object) -> Path:
    target.write_text(json.dumps(json.loads(source.read_text()) | values))
    return target


def _truth_with(made: ReportFiles, target: Path, **gain: float) -> Path:
    truth = json.loads((made.root / "truth.json").read_text())
    truth["methods"][truth["chosen"]]["minus_source_only"] = gain
    target.write_text(json.dumps(truth))
    return target


def test_the_same_files_give_the_same_bytes(labelled: ReportFiles):
    first, second = labelled.make("first"), labelled.make("second")

    for name in ("report.html", "model_card.md", "model_card.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_more_epochs_than_params_yaml_names_are_explained_on_page_and_card(own: ReportFiles, labelled: ReportFiles):
    why = "epochs: 2 in params.yaml became 4, so that training has at least min_steps: 500 steps."
    for file in own.files.trained.glob("*/run.json"):
        run = json.loads(file.read_text())
        run["config"]["model"] |= {"epochs": 2, "min_steps": 500}
        file.write_text(json.dumps(run))

    made, plain = own.make(), labelled.make()

    assert "<b>epoch 4 of 4</b>" in _page(made) and "<b>epoch 4 of 4</b>" in _page(plain)
    assert why in _page(made) and f"- Epochs: {why}" in (made / "model_card.md").read_text()
    assert "min_steps" not in _page(plain) + (plain / "model_card.md").read_text()


def test_scores_and_tables_hold_the_numbers_of_the_page(labelled: ReportFiles):
    page, truth = _page(labelled.make()), json.loads((labelled.root / "truth.json").read_text())
    texts = {name: (labelled.root / "plots" / f"{name}.csv").read_text() for name in TABLES}
    tables = {name: list(csv.DictReader(text.splitlines())) for name, text in texts.items()}
    scores = json.loads((labelled.root / "scores.json").read_text())

    row = truth["methods"][truth["chosen"]]
    assert scores["target"] == round(row["balanced_accuracy"]["mean"], 4) and f"{100 * scores['target']:.1f}%" in page
    assert scores["gain_low"] == round(row["minus_source_only"]["low"], 4)
    assert {"source", "regret", "source_only"} <= set(scores)
    assert {line["method"] for line in tables["leaderboard"]} == set(truth["methods"])
    assert float(tables["leaderboard"][0]["score"]) == max(float(line["score"]) for line in tables["leaderboard"])
    assert {line["series"] for line in tables["curves"]} == set(ACCURACY)
    assert {line["series"] for line in tables["reliability"]} == {"calibrated", "source test", "target test"}
    shares = [float(line["share"]) for line in tables["confusion"]]
    assert sum(shares) == pytest.approx(len({line["true"] for line in tables["confusion"]}), abs=1e-4)


def test_the_page_asks_for_nothing_outside_itself(labelled: ReportFiles):
    page = _page(labelled.make())

    assert not re.findall(r"https?://", page)
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", page)
    assert "<script" not in page
    assert "default-src 'none'" in page


def test_the_first_screen_gives_the_gain_with_its_interval_and_the_next_commands(labelled: ReportFiles):
    truth = json.loads((labelled.root / "truth.json").read_text())
    gain = truth["methods"][truth["chosen"]]["minus_source_only"]

    page = _page(labelled.make())

    assert "Better than source-only" in page
    assert f"+{100 * gain['mean']:.1f} points (paired 95% interval +{100 * gain['low']:.1f} to" in page
    for command in ("isthmus publish demo", "isthmus score demo &amp;&amp; isthmus gate demo", "isthmus promote demo"):
        assert f"<code>{command}</code>" in page


def test_a_gain_whose_interval_lies_below_zero_is_called_worse(labelled: ReportFiles, tmp_path: Path):
    truth = _truth_with(labelled, tmp_path / "truth.json", mean=-0.1, low=-0.2, high=-0.01)

    page = _page(labelled.make("worse", truth=truth))

    assert "Worse than source-only" in page
    assert "Do not promote this model" in page
    assert "isthmus promote demo" not in page


def test_a_gain_whose_interval_holds_zero_is_not_called_better(labelled: ReportFiles, tmp_path: Path):
    truth = _truth_with(labelled, tmp_path / "truth.json", mean=0.1, low=-0.01, high=0.2)

    page = _page(labelled.make("open", truth=truth))

    assert "No clear difference" in page
    assert "Better than source-only" not in page


def test_without_target_labels_the_page_claims_no_gain_and_shows_no_confusion(tmp_path: Path):
    page = _page(write_report_files(tmp_path, target_labels="none").make())

    assert "Chosen without labels" in page
    assert "No gain is claimed." in page
    assert "asks for a person" in page
    assert 'class="confusion"' not in page


def test_a_fallback_to_source_only_is_said_on_the_first_screen(tmp_path: Path):
    files = write_scenario(tmp_path, {"source_only": 0.6, "coral": 0.6, "dann": 0.6})
    for path in files.trained.glob("[cd]*/seeds/0/epochs/*.logits.npy"):
        np.save(path, np.load(path) * np.nan)

    page = _page(run_stages(files).make())

    assert "Fallback to source" in page
    assert "the guards refused every adapted method, so source-only is used" in page
    assert "logits or embeddings are not finite" in page


def test_source_only_that_is_asked_for_is_no_fallback(tmp_path: Path):
    files = write_scenario(tmp_path, ACCURACY)
    document = yaml.safe_load(files.params.read_text())
    document["select"] |= {"average": ["source_only"]}
    files.params.write_text(yaml.safe_dump(document))

    page = _page(run_stages(files).make())

    assert "is used, as select.average says." in page
    assert "Fallback" not in page


@pytest.mark.parametrize("labels", ["folders", "none"])
def test_an_ensemble_is_reported_with_what_it_is_the_mean_of(tmp_path: Path, labels: str):
    files = write_scenario(tmp_path, ACCURACY | {"source_only": 0.75}, target_labels=labels)
    document = yaml.safe_load(files.params.read_text())
    document["select"] |= {"average": ["coral", "dann"]}
    files.params.write_text(yaml.safe_dump(document))

    made = run_stages(files)
    page, card = _page(made.make()), json.loads((made.make() / "model_card.json").read_text())

    assert json.loads((made.root / "choice.json").read_text())["chosen"]["method"] == "ensemble"
    assert "The mean of coral and dann: fixed in advance" in page
    assert ("The mean of coral and dann was chosen without target labels." in page) == (labels == "none")
    columns = [f'<th scope="col">{name}</th>' for name in ("Measure", "ensemble", "source_only")]
    assert ("".join(columns) in page) == (labels == "none")
    assert card["method"]["name"] == "ensemble"
    assert card["method"]["config"]["method"] == {"mean_of_probabilities": {"coral": [0], "dann": [0]}}
    assert "4 methods were trained" in (made.make() / "model_card.md").read_text()


@pytest.mark.parametrize(
    ("high", "label"), [(0.4, "No better than guessing"), (0.7, "Too few labels")], ids=["narrow", "wide"]
)
def test_few_labels_are_not_taken_for_a_model_that_guesses(tmp_path: Path, high: float, label: str):
    made = write_report_files(tmp_path)
    truth = json.loads((made.root / "truth.json").read_text())
    truth["methods"][truth["chosen"]]["balanced_accuracy"] |= {"mean": 0.36, "low": 0.2, "high": high}
    (tmp_path / "few.json").write_text(json.dumps(truth))

    page = _page(made.make("few", truth=tmp_path / "few.json"))

    assert label in page
    assert ("too few to tell whether" in page) == (high == 0.7)


def test_an_ensemble_optimises_what_any_of_its_methods_does(tmp_path: Path):
    trained = write_scenario(tmp_path, ACCURACY).trained
    for method, optimised in (("coral", []), ("dann", ["snd", "entropy"]), ("mmd", ["snd"])):
        run = trained / method / "run.json"
        _edited(run, run, optimises=optimised)
    made = {"ensemble": {"coral": [0], "dann": [0], "mmd": [0]}, "epochs": {"ensemble": 4}}

    assert _runs(trained, ["coral", "dann", "mmd"], made)["ensemble"]["optimises"] == ["entropy", "snd"]


def test_source_only_alone_is_reported_as_all_there_is(tmp_path: Path):
    page = _page(write_report_files(tmp_path, {"source_only": 0.6}).make())

    assert "Nothing to choose from" in page


def test_a_method_whose_interval_overlaps_the_chosen_ones_is_a_tie_and_one_far_below_is_not(labelled: ReportFiles):
    truth = json.loads((labelled.root / "truth.json").read_text())
    rows = truth["methods"]
    chosen = rows[truth["chosen"]]["balanced_accuracy"]
    assert rows["dann"]["minus_chosen"]["high"] >= 0 < rows[truth["chosen"]]["minus_source_only"]["low"]
    assert rows["mmd"]["balanced_accuracy"]["high"] < chosen["low"]

    forest = _page(labelled.make()).split('id="leaderboard"')[1].split("</ul>")[0]

    badges = {re.split(r"[\s<]", row.strip())[0]: row for row in forest.split('<span class="who">')[1:]}
    assert ">tie<" in badges["dann"]
    assert ">tie<" not in badges["mmd"]
    assert ">tie<" not in badges["source_only"]
    assert ">chosen<" in badges[truth["chosen"]]


def test_the_best_by_truth_is_no_tie_with_itself_and_a_worse_method_is_called_worse(
    labelled: ReportFiles, tmp_path: Path
):
    truth = json.loads((labelled.root / "truth.json").read_text())
    assert truth["methods"]["coral"]["transfer"] == "better"
    best = truth["oracle"]["method"]
    for name, row in truth["methods"].items():
        apart = {"mean": -0.1, "low": -0.2, "high": -0.01}
        same = {"mean": 0.0, "low": 0.0, "high": 0.0}
        row |= {"minus_oracle": same if name == best else apart}
        row |= {"minus_chosen": same if name == truth["chosen"] else apart}
    truth["methods"]["mmd"]["transfer"] = "worse"
    (tmp_path / "truth.json").write_text(json.dumps(truth))

    page = _page(labelled.make("apart", truth=tmp_path / "truth.json"))

    assert ">tie<" not in page
    assert page.split('id="leaderboard"')[1].count(">worse<") == 3  # badges of chart and table, the word in the table


def test_the_estimate_stands_beside_the_truth_and_the_promised_coverage_beside_the_kept_one(labelled: ReportFiles):
    trust, truth = (json.loads((labelled.root / f"{name}.json").read_text()) for name in ("trust", "truth"))

    folder = labelled.make("trust")

    page = _page(folder).split('id="trust"')[1].split('id="leaderboard"')[0]
    card = json.loads((folder / "model_card.json").read_text())
    for value in (
        truth["trust"]["estimate"]["true_accuracy"],
        trust["conformal"]["source_test"]["coverage"]["mean"],
        truth["trust"]["conformal"]["coverage"]["mean"],
        trust["calibration"]["source_test"]["calibrated"]["ece"],
        trust["estimate"]["parts"]["atc"]["mean"],
    ):
        assert f"{100 * value:.1f}%" in page
    assert card["trust"]["estimate"]["cannot_tell"] == trust["estimate"]["cannot_tell"]
    assert card["trust"]["transfer"]["coral"] == "better"
    assert "## Uncertainty and calibration" in (folder / "model_card.md").read_text()


def test_an_estimate_that_is_told_is_shown_with_its_interval(labelled: ReportFiles, tmp_path: Path):
    trust = json.loads((labelled.root / "trust.json").read_text())
    trust["estimate"] |= {"accuracy": 0.812, "low": 0.711, "high": 0.913, "cannot_tell": []}
    truth = json.loads((labelled.root / "truth.json").read_text())
    truth["trust"]["estimate"] = {"true_accuracy": 0.85, "error": -0.038, "inside": True}
    for name, values in (("trust", trust), ("truth", truth)):
        (tmp_path / f"{name}.json").write_text(json.dumps(values))

    folder = labelled.make("told", trust=tmp_path / "trust.json", truth=tmp_path / "truth.json")

    assert "71.1% to 91.3%" in _page(folder)
    assert "3.8 points away, inside the interval" in _page(folder)
    assert "81.2% (71.1% to 91.3%)" in (folder / "model_card.md").read_text()


@pytest.mark.parametrize("kind", ["natural", "medical"])
def test_quarantined_files_are_counted_by_reason_and_named_only_where_no_patient_can_be(own: ReportFiles, kind: str):
    own.edit_scenario(kind="natural")
    hostile = "line_a/crack/<script>alert(1)</script>.png"
    entries = [
        {"path": hostile, "domain": "line_a", "reason": "truncated (10 bytes of 900)"},
        {"path": "line_a/dent/Miller^Anna_1962.png", "domain": "line_a", "reason": "truncated (3 bytes of 7)"},
        {"path": "line_b/b.png", "domain": "line_b", "reason": "Miller^Anna_1962 is in b.png twice"},
        {"path": "line_b/miller_42.png", "domain": "line_b", "reason": "miller_42 cannot be read"},
    ]
    own.files.quarantine.write_text(json.dumps(entries))

    made = _medical_page(own) if kind == "medical" else _page(own.make())

    assert "<td>truncated</td>" in made
    assert "<script" not in made
    if kind == "medical":
        assert "miller_42" not in made
        assert "alert(1)" not in made
        assert "File names are not shown for medical images." in made
    else:
        assert "&lt;script&gt;alert(1)&lt;/script&gt;.png" in made


def test_a_class_shortcut_is_shown_with_its_number_and_what_to_do_and_a_domain_shortcut_as_expected(own: ReportFiles):
    told = {"balanced_accuracy": 0.91, "low": 0.84, "high": 0.97, "skill": 0.82, "skill_low": 0.68, "chance": 0.5}
    none = dict.fromkeys(told, None) | {"chance": 0.5, "found": None}
    shortcuts = {
        "domain": {"file_size": told | {"found": True}, "corners": told | {"found": False}},
        "class": {"line_a": {"file_size": none, "corners": told | {"found": True}}},
    }
    _edited(own.files.audit, own.files.audit, shortcuts=shortcuts)

    part = _page(own.make()).split('id="shortcuts"')[1].split("</table>")[0]

    rows = [re.sub(r"<[^>]+>", "|", row) for row in part.split("<tr>")[2:]]
    assert "expected between two devices" in rows[0]
    assert "no shortcut" in rows[1] and "look" not in rows[1]
    assert "cannot tell: fewer than two groups" in rows[2]
    assert "class in line_a" in rows[3] and "look" in rows[3]
    assert "0.91" in rows[3] and "0.84 to 0.97" in rows[3] and "crop rulers" in rows[3]


def test_what_is_odd_with_labels_splits_and_pixels_is_shown(own: ReportFiles):
    image_id = "0123456789abcdef0123456789abcdef"
    _edited(
        own.files.audit,
        own.files.audit,
        assumed={"no unit of length is stated: assumed to be mm": {"line_a": 3, "line_b": 1}},
        shares={"line_a": {"cal": {"images": 0.071, "groups": 0.082, "wanted": 0.1}}},
        classes={"line_a": {"crack": {"train": 30}, "dent": {"train": 10}, "good": {}}},
        labels={
            "missing": {"line_a": ["good"]},
            "imbalance": {"line_a": 12.5},
            "two_labels": [image_id],
            "near_two_labels": [[image_id, "other"]],
        },
        sizes={"line_a": {"20x20x3": 5, "9x9x1": 1}},
        dtypes={"line_a": {"uint8": 6}},
        pixels={
            "line_a": {"constant": [image_id], "saturated": [], "saturated_median": 0.02, "saturated_highest": 0.4}
        },
    )
    truth = json.loads((own.root / "truth.json").read_text())
    truth["methods"][truth["chosen"]]["per_class"]["dent"]["count"] = 0
    (own.root / "truth.json").write_text(json.dumps(truth))

    page = _page(own.make())

    for words in (
        "line_a has no image of class good",
        "its largest class has 12.5 times",
        "models: class_weights: balanced counts all classes alike",
        "1 source images lie under two classes",
        "1 pairs of source images look the same",
        "test split has no image of class dent",
        "3 files of line_a, 1 files of line_b: no unit of length is stated: assumed to be mm.",
        "2 sizes, most often 20x20x3",
        "<td>75.0%</td><td>25.0%</td><td>0.0%</td>",
        "<td>10.0%</td><td>8.2%</td><td>7.1%</td>",
        f'1 constant images of line_a</summary><ul class="plain paths"><li>{image_id}</li>',
    ):
        assert words in page, words


def _medical_page(made: ReportFiles) -> str:
    # The kind's own module may not be installed here; the page only looks at the name.
    from isthmus.report.page import Extras, report_page
    from isthmus.report.results import CLASSES, read_findings

    files, root = made.files, made.root
    known = Scenario(
        kind="natural", raw=Path("data/raw/demo"), source=["line_a"], target="line_b", classes=["crack", "dent"]
    )
    names = ("choice", "metrics", "truth", "trust")
    findings = read_findings(
        known.model_copy(update={"kind": "medical", "classes": tests.scenario_files.CLASSES}),
        manifest=files.manifest,
        audit=files.audit,
        quarantine=files.quarantine,
        prepared=files.prepared,
        shift=root / "shift",
        trained=files.trained,
        predictions=root / "predictions.parquet",
        **{name: root / f"{name}.json" for name in names},
        scored=CLASSES,
    )
    return report_page(findings, files.prepared, Extras([], Explained(None, []), {"measured": False}))


def test_long_images_of_which_little_is_used_are_the_first_thing_on_page_and_card(own: ReportFiles):
    rows = read_table(own.files.manifest, MANIFEST)
    long = rows["domain"] == "line_b"
    rows.loc[long, "height"], rows.loc[long, "width"] = 2000, 100
    write_table(own.files.manifest, rows, MANIFEST)

    folder = own.make()

    sentence = "Of images of line_b (2000 x 100 pixels) 5% is used, the middle"
    page, card = html.unescape(_page(folder)), json.loads((folder / "model_card.json").read_text())
    assert page.index(sentence) < page.index('id="verdict"')
    assert len(card["warnings"]) == 1 and card["warnings"][0].startswith(sentence)


def test_groups_on_both_sides_are_the_first_thing_on_page_and_card(own: ReportFiles):
    audit = json.loads(own.files.audit.read_text())
    assert "Warning." not in _page(own.make())
    own.edit_scenario(group="patient")
    own.files.audit.write_text(json.dumps(audit | {"groups_trained_and_tested": 12, "groups": {"line_a": 40}}))

    folder = own.make()

    sentence = "12 'patient' groups are trained on in the source and tested on in the target."
    page, card = html.unescape(_page(folder)), json.loads((folder / "model_card.json").read_text())
    assert page.index(sentence) < page.index('id="verdict"')
    assert "groups trained and tested" in page.partition('id="data"')[2]
    assert card["warnings"][0].startswith(sentence)
    text = (folder / "model_card.md").read_text()
    assert 0 < text.index(sentence) < text.index("## Intended use")


def test_names_that_folders_can_have_are_escaped_on_page_card_and_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    names = ["<b>R&D", "=1+1 | \"q\" 'x'", "50% {{worn}} $x$ \U0001f44d\U0001f3fd \u0915\u094d\u0937"]
    monkeypatch.setattr(tests.scenario_files, "CLASSES", names)

    folder = write_report_files(tmp_path, {"source_only": 0.5, "coral": 0.9}).make()

    page = _page(folder)
    assert "<b>R&D" not in page and "&lt;b&gt;R&amp;D" in page
    assert all(name in html.unescape(page) for name in names)
    card = (folder / "model_card.md").read_text()
    assert "<b>" not in card and "=1+1 \\|" in card
    rows = list(csv.DictReader((folder / "label_first.csv").read_text().splitlines()))
    assert {row["predicted"] for row in rows} <= {names[0], f"'{names[1]}", names[2]}


def test_hostile_reasons_and_sentences_are_escaped(labelled: ReportFiles, tmp_path: Path):
    choice = json.loads((labelled.root / "choice.json").read_text())
    choice["chosen"]["why"] = "<img src=x onerror=alert(1)>"
    choice["candidates"][0]["out"] = ["</td><script>alert(2)</script>"]
    (tmp_path / "choice.json").write_text(json.dumps(choice))

    page = _page(labelled.make("hostile", choice=tmp_path / "choice.json"))

    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_a_folder_of_a_dropped_method_is_not_in_the_report(own: ReportFiles):
    (own.files.trained / "dropped_method").mkdir()

    assert "dropped_method" not in _page(own.make())


def test_a_loss_that_is_not_finite_is_marked_beside_its_curve(own: ReportFiles):
    curves = own.files.trained / "coral" / "seeds" / "0" / "curves.jsonl"
    lines = [json.loads(line) for line in curves.read_text().splitlines()]
    lines[1]["loss_total"] = None
    curves.write_text("".join(json.dumps(line) + "\n" for line in lines))

    assert "1 not finite" in _page(own.make())


def test_a_run_that_trains_nothing_has_no_loss_and_nothing_missing(own: ReportFiles):
    for curves in own.files.trained.glob("coral/seeds/*/curves.jsonl"):
        lines = [json.loads(line) for line in curves.read_text().splitlines()]
        kept = [{k: v for k, v in line.items() if not k.startswith("loss_")} for line in lines]
        curves.write_text("".join(json.dumps(line) + "\n" for line in kept))

    page = _page(own.make())

    assert "No loss: the head remembers the source" in page
    assert "not finite" not in page


def test_ten_classes_and_images_of_16_bit_with_five_bands_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tests.scenario_files, "CLASSES", [f"class {number}" for number in range(10)])
    made = write_report_files(tmp_path, {"source_only": 0.5, "coral": 0.9})
    for path in (made.files.prepared / "shards").glob("*.npy"):
        images = np.load(path)
        np.save(path, np.concatenate([images, images[..., :2]], axis=3).astype(np.uint16) * 200)
    _edited(made.files.prepared / "facts.json", made.files.prepared / "facts.json", channels=5, dtype="uint16")

    page = _page(made.make())

    assert "Of 5 channels the first three are shown." in page
    assert "Brightness is stretched for display." in page
    assert page.count('alt="line_a, class class') >= 20


def test_target_samples_carry_no_class_and_no_test_image_is_shown(labelled: ReportFiles):
    page = _page(labelled.make())

    alts = re.findall(r'alt="(line_b[^"]*)"', page)
    assert alts
    assert all(re.fullmatch(r"line_b, sample \d+", alt) for alt in alts)


def test_the_shipped_industrial_pair_is_stated_as_simulated_and_real_digits_are_not():
    values = {"kind": "natural", "source": ["a"], "target": "b", "classes": ["x", "y"]}

    assert is_simulated(Scenario(raw=Path("data/raw/industrial"), **values))
    assert not is_simulated(Scenario(raw=Path("data/raw/digits"), **values))
    assert not is_simulated(Scenario(raw=Path("data/raw/steel"), **values))


def test_a_simulated_scenario_says_so_before_the_verdict(own: ReportFiles):
    own.edit_scenario(raw="data/raw/industrial")

    folder = own.make()

    page = _page(folder)
    assert page.index("Simulated scenario.") < page.index('id="verdict"')
    assert "Simulated scenario: all images are made by a generator" in (folder / "model_card.md").read_text()
    assert "Simulated scenario." not in _page_of_real(own)


def _page_of_real(made: ReportFiles) -> str:
    made.edit_scenario(raw="data/raw/demo")
    return _page(made.make("real"))


def test_a_missing_file_names_the_file_and_what_to_look_at(own: ReportFiles):
    own.files.audit.unlink()

    with pytest.raises(DataError, match=r"audit\.json: no such file\. The stage that writes it has not run"):
        own.make()


def test_a_choice_of_another_version_names_the_missing_key(labelled: ReportFiles, tmp_path: Path):
    choice = json.loads((labelled.root / "choice.json").read_text())
    del choice["epochs"]
    (tmp_path / "choice.json").write_text(json.dumps(choice))

    with pytest.raises(DataError, match=r"choice\.json: key 'epochs' is missing\. There are: average, candidates,"):
        labelled.make("broken", choice=tmp_path / "choice.json")


def test_a_truth_of_another_version_names_the_missing_key(labelled: ReportFiles, tmp_path: Path):
    truth = json.loads((labelled.root / "truth.json").read_text())
    del truth["trust"]
    (tmp_path / "truth.json").write_text(json.dumps(truth))

    with pytest.raises(DataError, match=r"truth\.json: key 'trust' is missing\. There are: available,"):
        labelled.make("broken", truth=tmp_path / "truth.json")


def test_predictions_without_a_column_name_the_column(labelled: ReportFiles, tmp_path: Path):
    pd.DataFrame({"image_id": ["a"]}).to_parquet(tmp_path / "p.parquet")

    with pytest.raises(DataError, match=r"p\.parquet: column 'domain' is missing\. There are: image_id"):
        labelled.make("broken", predictions=tmp_path / "p.parquet")


def test_a_broken_table_says_how_to_write_it_again(labelled: ReportFiles, tmp_path: Path):
    (tmp_path / "p.parquet").write_text("no table")

    with pytest.raises(DataError, match=r"p\.parquet: cannot be read .* Run 'dvc repro' to write it again"):
        labelled.make("broken", predictions=tmp_path / "p.parquet")


def test_a_report_that_fails_leaves_the_earlier_one_whole(own: ReportFiles):
    before = _page(own.make())
    own.files.audit.unlink()

    with pytest.raises(DataError):
        own.make()

    assert _page(own.root / "report") == before


def test_class_shares_are_a_table_only_where_they_could_be_told_and_maps_have_the_images_with_a_place(
    labelled: ReportFiles, tmp_path: Path
):
    document = json.loads((labelled.root / "shift" / "shift.json").read_text())
    shares = {name: {"share": 0.61, "low": 0.5, "high": 0.72} for name in document["label_shift"]["source"]}
    told = {"verdict": "fits", "mlls": shares, "bbse": shares, "fit_p_value": 0.4}
    folder = tmp_path / "shift"
    folder.mkdir()
    map_of_features = pd.read_parquet(labelled.root / "shift" / "map.parquet")
    map_of_features.loc[10:, ["tsne_x", "tsne_y"]] = np.nan  # as of images beyond the most that t-SNE takes
    map_of_features.to_parquet(folder / "map.parquet")
    _edited(labelled.root / "shift" / "shift.json", folder / "shift.json", label_shift=document["label_shift"] | told)

    untold, page = _page(labelled.make("untold")), _page(labelled.make("told", shift=folder))

    assert document["label_shift"]["verdict"] == "cannot tell"
    assert document["label_shift"]["why"].split(":")[0] in untold
    assert "Class shares of the target, estimated" not in untold
    assert "Class shares of the target, estimated" in page
    assert "The target is taken to have the classes of the source" in page
    drawn = {"": len(map_of_features), ", t-SNE": 10}
    for name, count in drawn.items():
        points = re.search(rf'"By domain{name}: line_a (\d+) points, line_b (\d+) points"', page)
        assert points is not None and int(points[1]) + int(points[2]) == count
        assert f"Target (line_b) by predicted class{name}</figcaption>" in page
    assert page.count("(50.0% to 72.0%)") == 2 * len(shares)


def test_the_shift_section_tells_of_each_class_and_of_the_backbone_with_its_errors(labelled: ReportFiles):
    shift, truth = (json.loads((labelled.root / p).read_text()) for p in ("shift/shift.json", "truth.json"))

    section = _page(labelled.make("carried")).split('id="shift"')[1].split('id="trust"')[0]

    told = shift["transferability"]
    assert told["images"] == told["available"] > 0
    assert (
        f"<td>{told['log_me']['value']:.3g}</td><td>{told['log_me']['error']:.3g}</td>".replace("-", "\u2212")
        in section
    )
    assert "without a head of its own" in section
    assert set(truth["class_shift"]) == {"source_only", truth["chosen"]} == set(truth["leep"]["methods"])
    assert f"<td>{truth['class_shift'][truth['chosen']]['dent']['sliced_wasserstein']:.3g}</td>" in section


def test_without_target_labels_nothing_is_told_within_the_classes(tmp_path: Path):
    page = _page(write_report_files(tmp_path, target_labels="none").make())

    assert "Within each class" not in page
    assert "LEEP of the backbone" in page


def test_the_list_to_label_first_is_of_target_training_images_with_paths_and_reasons(labelled: ReportFiles):
    manifest = read_table(labelled.files.manifest, MANIFEST).set_index("image_id")
    places = read_table(labelled.root / "locations.parquet", LOCATIONS).set_index("image_id")["path"]

    folder = labelled.make("listed")

    listed = pd.read_csv(folder / "label_first.csv")
    rows = manifest.loc[listed["image_id"]]
    assert list(listed["rank"]) == list(range(1, 21))
    assert set(rows["domain"]) == {"line_b"} and set(rows["split"]) == {"train"}
    assert list(listed["path"]) == list(places.loc[listed["image_id"]])
    section = _page(folder).split('id="label-first"')[1].split('id="leaderboard"')[0]
    assert section.count("<figure") == 20 and section.count("<img") == 80
    assert listed["reason"][0] in section.replace("&#39;", "'")


def test_the_list_of_medical_images_names_no_file(own: ReportFiles):
    own.edit_scenario(kind="medical")

    folder = own.make()

    text = (folder / "label_first.csv").read_text()
    assert text.splitlines()[0] == "rank,image_id,predicted,probability,uncertainty,novelty,reason"
    assert ".png" not in text and len(text.splitlines()) == 21


def test_a_path_that_a_spreadsheet_would_run_is_quoted(own: ReportFiles):
    rows = read_table(own.root / "locations.parquet", LOCATIONS)
    rows["path"] = "=cmd/x.png"
    write_table(own.root / "locations.parquet", rows, LOCATIONS)

    assert set(pd.read_csv(own.make() / "label_first.csv")["path"]) == {"'=cmd/x.png"}


def test_target_labels_do_not_change_the_list(tmp_path: Path):
    first, second = (
        write_report_files(tmp_path / name, target_labels=name).make() / "label_first.csv"
        for name in ("folders", "none")
    )

    assert first.read_bytes() == second.read_bytes()


def test_explained_images_stand_under_right_and_wrong_with_both_maps(labelled: ReportFiles):
    section = _page(labelled.make("looked")).split('id="looked"')[1].split('id="label-first"')[0]

    assert section.index(">Right<") < section.index(">Wrong<")
    assert section.count("<img") == 12
    assert section.count("in truth") == 2  # of the wrong ones alone


def test_without_target_labels_the_surest_and_the_least_sure_are_explained(tmp_path: Path):
    section = _page(write_report_files(tmp_path, target_labels="none").make()).split('id="looked"')[1]

    assert ">Surest<" in section and ">Least sure<" in section
    assert "in truth" not in section


def test_a_backbone_that_cannot_be_looked_into_is_said_and_maps_of_another_run_are_refused(own: ReportFiles):
    facts = own.root / "explained" / "explain.json"
    facts.write_text(json.dumps({"why_not": "the backbone is no transformer", "images": []}))

    with pytest.raises(DataError, match=r"has 4 maps; explain.json names 0 images. Run 'dvc repro'"):
        own.make()
    np.save(own.root / "explained" / "maps.npy", np.zeros((0, 2, 1, 1), np.float32))

    assert "No maps are drawn: the backbone is no transformer." in _page(own.make())


def test_the_overlay_inks_where_the_map_is_high_and_leaves_the_rest_grey():
    image = np.full((20, 20), 100, np.uint8)

    inked = overlay(image, np.array([[0.0, 1.0], [0.0, 0.0]], np.float32))

    assert inked.shape == (20, 20, 3)
    assert (inked[-1, 0] == 100).all()
    assert inked[0, -1].tolist() == [round(35 + 0.65 * ink) for ink in (230, 60, 0)]


def test_robustness_is_shown_where_it_was_measured_and_else_how_to_have_it(own: ReportFiles):
    assert "Set <code>robustness.images</code>" in _page(own.make())
    errors = {"coral": {"blur": [0.1, 0.2, 0.3, 0.4, 0.5]}, "source_only": {"blur": [0.2, 0.4, 0.6, 0.8, 1.0]}}
    clean = {"line_b": {"coral": 0.05, "source_only": 0.15}}
    document = robustness_document("coral", "source_only", clean, {"line_b": errors}, {"line_b": 9})
    (own.root / "robustness.json").write_text(json.dumps(document))

    section = _page(own.make()).split('id="robustness"')[1].split('id="label-first"')[0]

    assert "<b>0.50</b>" in section and "+25.0 points" in section
    assert "Errors of coral on line_b" in section and "<td>5.0%</td><td>10.0%</td>" in section
