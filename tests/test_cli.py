"""The command as a user meets it: in a folder of its own, in a process of its own."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from isthmus import cli
from isthmus.registry.store.stores import open_store
from tests.data.ingest.test_identity import write_dicom
from tests.pipelines.tiny_project import wait_until
from tests.servers import answers, free_port

if TYPE_CHECKING:
    from isthmus.registry.publish.publish import Published

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "isthmus.cli"]


def isthmus(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, timeout=120)


def project(tmp_path: Path, **changes: object) -> Path:
    """Writes a params.yaml of one scenario with two real folders; `changes` replace top-level sections."""
    for name in ("a/x", "a/y", "b"):
        folder = tmp_path / "data" / "raw" / "mine" / name
        folder.mkdir(parents=True)
        for number in range(2):
            Image.new("L", (20, 20), len(name) * 40 + number).save(folder / f"{number}.png")
    scenario = {"kind": "natural", "raw": "data/raw/mine", "source": ["a"], "target": "b", "classes": ["x", "y"]}
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    document |= {"scenarios": {"mine": scenario | {"model": "small_cnn"}}, "pairs": {}}
    document |= {"methods": {"source_only": {}, "coral": {}}, **changes}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "data" / "labels").mkdir()
    return tmp_path


def told(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Runs the command in this very process, where starting one costs seconds; returns status and standard error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["isthmus", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
    return int(end.value.code or 0), capsys.readouterr().err


def edited(folder: Path, old: str, new: str) -> Path:
    text = (folder / "params.yaml").read_text()
    assert old in text
    (folder / "params.yaml").write_text(text.replace(old, new, 1))
    return folder


def test_help_answers_at_once() -> None:
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        done = isthmus(ROOT, "--help")
        seconds.append(time.monotonic() - start)

    assert done.returncode == 0
    assert all(
        verb in done.stdout for verb in ("run", "fetch", "add", "check", "publish", "gate", "promote", "rollback")
    )
    assert min(seconds) < 0.5


def test_a_good_project_is_said_to_be_in_order(tmp_path: Path) -> None:
    done = isthmus(project(tmp_path), "check")

    assert (done.returncode, done.stdout) == (0, "in order: mine\n")


@pytest.mark.parametrize(
    ("old", "new", "messages"),
    [
        (
            "target: b",
            "taregt: b",
            ["scenarios.mine.taregt: Extra inputs", "Did you mean 'target'?", "Allowed: annotations, classes, group"],
        ),
        ("coral: {}", "coraal: {}", ["methods.coraal: no module 'coraal'", "Did you mean 'coral'?", "source_only"]),
        ("coral: {}", "coral: {wieght: 2}", ["params.yaml: methods.coral.wieght", "(got 2)", "Did you mean 'weight'?"]),
        (
            "information_maximisation: {}",
            "information_maximization: {}",
            ["information_maximization", "Did you mean 'information_maximisation'?"],
        ),
        ("absolute_floor:", "absolut_floor:", ["absolut_floor", "Did you mean 'absolute_floor'?"]),
        ("kind: natural", "kind: naturall", ["no kind 'naturall'. Did you mean 'natural'? There are: industrial"]),
        (
            "model: small_cnn",
            "model: small_cmm",
            ["section 'small_cmm' is missing in 'models'. Did you mean 'small_cnn'?"],
        ),
        (
            "raw: data/raw/mine",
            "raw: data/raw/nowhere",
            ["no folder 'data/raw/nowhere'. Put the images there and run 'dvc add data/raw/nowhere'"],
        ),
        ("raw: data/raw/mine", "raw: ../elsewhere", ["must be a path inside the project, without '..'"]),
        ("source_only: {}", "zscore2: {}", ["source_only"]),
    ],
    ids=["key", "method", "option", "validator", "rule", "kind", "model", "folder", "outside", "no floor"],
)
def test_each_mistake_is_one_clear_message_with_status_2_and_no_traceback(
    tmp_path: Path, old: str, new: str, messages: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status, error = told(edited(project(tmp_path), old, new), capsys, "check", "mine")

    assert status == 2
    assert error.startswith("error: ")
    for message in messages:
        assert message in error


def test_fetch_is_proposed_for_the_missing_folder_of_a_public_pair(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = edited(edited(project(tmp_path), "mine:", "steel:"), "raw: data/raw/mine", "raw: data/raw/steel")

    status, error = told(made, capsys, "check", "steel")

    assert status == 2
    assert "no folder 'data/raw/steel'. Get it with 'isthmus fetch steel', or name an existing folder" in error


def test_an_unknown_scenario_names_the_known_ones_and_how_to_bring_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, error = told(project(tmp_path), capsys, "check", "mien")

    assert status == 2
    assert "no scenario 'mien'. Did you mean 'mine'? There are: mine" in error
    assert "isthmus add mien" in error


def test_an_empty_section_of_methods_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, error = told(project(tmp_path, methods={}), capsys, "check")

    assert status == 2
    assert "section 'methods' is missing or empty" in error


def test_a_stage_tells_a_mistake_the_same_way(tmp_path: Path) -> None:
    folder = edited(project(tmp_path), "coral: {}", "coral: {wieght: 2}")
    flags = ["--params", "params.yaml", "--scenario", "mine", "--method", "coral", "--manifest", "m", "--prepared", "p"]
    flags += ["--labels-train", "l", "--features", "f", "--checkpoints", "c", "--trained", "t"]

    done = subprocess.run(
        [sys.executable, "-m", "isthmus.stages.train", *flags], cwd=folder, capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 2
    assert done.stderr.startswith("error: params.yaml: methods.coral.wieght: ")
    assert "Traceback" not in done.stderr


VERBS: dict[str, list[str]] = {
    "check": [],
    "doctor": [],
    "run": [],
    "fetch": ["steel"],
    "add": ["press", "--source", ".", "--target", ".", "--kind", "natural"],
    "publish": ["mine"],
    "score": ["mine"],
    "gate": ["mine"],
    "promote": ["mine"],
    "rollback": ["mine"],
    "trace": ["mine"],
    "compare": ["HEAD", "mine"],
    "schedule": [],
    "predict": ["mine", "."],
    "watch": ["mine"],
    "lr-range": ["mine", "coral"],
    "tune": ["mine", "coral"],
    "export": ["mine", "--images", "."],
    "reproduce": ["mine"],
    "serve": ["mine"],
    "where": ["mine", "1"],
    "label": ["mine"],
    "list": ["scenarios"],
    "upgrade": [],
    "status": [],
    "report": ["mine"],
    "schema": [],
    "ui": [],
}
NEED_NO_PROJECT = {"init"}


@pytest.mark.slow
@pytest.mark.soak  # each verb in a process of its own
def test_every_verb_outside_of_a_project_says_so_and_leaves_no_litter(tmp_path: Path) -> None:
    commands = isthmus(tmp_path, "--help").stdout.partition("Commands:")[2]
    verbs = set(re.findall(r"^  ([a-z][a-z-]+) ", commands, re.MULTILINE))
    assert set(VERBS) == verbs - NEED_NO_PROJECT
    for verb, arguments in VERBS.items():
        done = isthmus(tmp_path, verb, *arguments)

        assert done.returncode == 2, verb
        assert done.stderr.startswith(f"error: {tmp_path}: not in a project"), done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert list(tmp_path.iterdir()) == [], verb


def test_a_verb_in_a_sub_folder_works_in_the_project_and_says_where_that_is(tmp_path: Path) -> None:
    folder = project(tmp_path) / "notes" / "2026"
    folder.mkdir(parents=True)

    done = isthmus(folder, "check")

    assert (done.returncode, done.stdout, done.stderr) == (0, "in order: mine\n", f"project: {tmp_path}\n")


def test_paths_of_the_command_line_are_relative_to_the_users_folder(tmp_path: Path) -> None:
    folder = project(tmp_path) / "notes"
    (folder / "photos").mkdir(parents=True)
    (tmp_path / ".git").mkdir()

    done = isthmus(folder, "add", "press", "--source", "photos", "--target", "nowhere", "--kind", "natural")

    assert done.returncode == 2
    assert f"{folder}/nowhere: no such folder" in done.stderr
    assert f"{folder}/photos: no such folder" not in done.stderr


def test_the_known_pairs_are_listed_with_their_licence(tmp_path: Path) -> None:
    done = isthmus(tmp_path, "fetch", "list")

    assert "steel: neu -> xsdd" in done.stdout
    assert "Licence: " in done.stdout


# Each stage as `python -m` runs it, in one process: starting Python and torch a dozen times takes 20 s.
ASK_ALL = """
import runpy, sys
for stage in sys.argv[1:]:
    module = f"isthmus.stages.{stage}"
    sys.argv = [module, "--help"]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        print(f"STATUS {end.code}")
"""


@pytest.mark.slow
def test_every_stage_shows_its_flags() -> None:
    stages = sorted(path.stem for path in (ROOT / "src/isthmus/stages").glob("[a-z]*.py"))

    done = subprocess.run([sys.executable, "-c", ASK_ALL, *stages], capture_output=True, text=True, timeout=120)

    answers = done.stdout.split("STATUS 0\n")
    assert answers.pop() == ""
    for stage, answer in zip(stages, answers, strict=True):
        assert f"usage: python -m isthmus.stages.{stage}" in answer
        assert ("--params" in answer) == (stage != "code")


RAW = Path("data/raw/mine")


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (lambda raw: shutil.rmtree(raw / "b"), ["b: no such folder, named by 'target'", "There are: a"]),
        (lambda raw: (raw / "a").rename(raw / "c"), ["a: no such folder, named by 'source'", "There are: b, c"]),
        (lambda raw: (raw / "a" / "x").rename(raw / "a" / "z"), ["class 'z' is not among 'classes'", "Allowed: x, y"]),
        (lambda raw: [p.unlink() for p in (raw / "a" / "x").iterdir()], ["class 'x' of 'classes'", "no image in the"]),
        (lambda raw: [p.unlink() for p in (raw / "b").iterdir()], ["domain 'b', named by 'target'", "0 images"]),
        (
            lambda raw: [p.write_text("words") for p in (raw / "b").iterdir()],
            ["domain 'b': none of 2 images that were tried can be used", "b/0.png: content is text, not an image"],
        ),
        (lambda raw: (raw / "images.csv").write_text("path,domain\n"), ["images.csv: column label is missing"]),
    ],
    ids=["target", "source", "unknown class", "class", "empty", "unreadable", "table"],
)
def test_check_finds_what_ingest_will_find_in_the_raw_folder(
    tmp_path: Path, change: Any, messages: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    change(project(tmp_path) / RAW)

    status, error = told(tmp_path, capsys, "check", "mine")

    assert status == 2
    for message in messages:
        assert message in error


@pytest.mark.parametrize(
    ("section", "messages"),
    [
        ({"group": "lot"}, ["'group: lot' of scenarios.mine in params.yaml, but no file name holds 'lot-<value>_'"]),
        ({"preprocess": {"image_size": 14}}, ["preprocess.image_size 14 is too small. Allowed: 16 or more"]),
        (
            {"model": "vit", "preprocess": {"image_size": 100}},
            ["preprocess.image_size 100 is not a multiple of the patch size 14", "Nearest allowed: 98 [pixel]"],
        ),
        (
            {"kind": "industrial", "preprocess": {"roi": [0, 0, 30, 30]}},
            ["none of 3 images that were tried can be used: a/x/0.png: frame of 20 x 20 pixels does not contain"],
        ),
        (
            {"kind": "remote_sensing", "preprocess": {"bands": ["B4", 1, 1]}},
            ["domain 'b': none of 2 images that were tried", "b/0.png: "],
        ),
        (
            {"kind": "remote_sensing", "preprocess": {"channels": 4}, "model": "waves"},
            ["models: backbone.wavelengths names 2 bands, but the prepared images have 4 channels"],
        ),
        (
            {"model": "no_file"},
            ["models: backbone.weights: 'weights/dino.pth' is neither a file nor one of: auto, hub"],
        ),
        ({"model": "frozen_cnn"}, ["methods: fixmatch needs images, but model 'frozen_cnn' is frozen"]),
        ({"model": "shares"}, ["models.shares.class_shares: must name each class once (got x, z). Classes: x, y"]),
        (
            {"model": "artefacts"},
            ["models: augment.artefacts: bias field, Gibbs ringing and noise are of medical images"],
        ),
        ({"model": "knn"}, ["methods: coral trains a model, and head: knn has nothing to train"]),
        ({"model": "stops"}, ["early_stop: shot has a loop of its own"]),
        ({"model": "lora"}, ["tuning.how: lora changes the attention of a vision transformer"]),
    ],
    ids=[
        "group",
        "size",
        "patch",
        "roi",
        "bands",
        "waves",
        "weights",
        "images",
        "shares",
        "artefacts",
        "knn",
        "stop",
        "tuning",
    ],
)
def test_check_refuses_what_a_later_stage_would_refuse(
    tmp_path: Path, section: dict[str, Any], messages: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    cnn: dict[str, Any] = {"mode": "full", "backbone": {"name": "small_cnn"}}
    models = {
        "small_cnn": cnn,
        "vit": {"mode": "frozen", "backbone": {"name": "timm", "architecture": "vit_small_patch14_dinov2"}},
        "no_file": cnn | {"backbone": {"name": "timm", "architecture": "test_vit", "weights": "weights/dino.pth"}},
        "frozen_cnn": cnn | {"mode": "frozen"},
        "waves": cnn | {"backbone": {"name": "small_cnn", "bands": "rgb", "wavelengths": [665, 842]}},
        "shares": cnn | {"class_shares": {"x": 1, "z": 1}},
        "artefacts": cnn | {"augment": {"artefacts": 0.5}},
        "knn": cnn | {"mode": "frozen", "head": "knn", "epochs": 1},
        "stops": cnn | {"early_stop": {"patience": 1}},
        "lora": cnn | {"tuning": {"how": "lora"}},
    }
    methods = {
        "source_only": {},
        "coral": {},
        "shot": {},
        **({"fixmatch": {}} if "frozen_cnn" in section.values() else {}),
    }
    folder = project(tmp_path, models=models, methods=methods)
    document = yaml.safe_load((folder / "params.yaml").read_text())
    document["scenarios"]["mine"] |= section
    (folder / "params.yaml").write_text(yaml.safe_dump(document))

    status, error = told(folder, capsys, "check", "mine")

    assert status == 2
    for message in messages:
        assert message in error


def test_check_tells_that_few_known_groups_leave_a_split_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project(tmp_path)
    for path in sorted((folder / RAW).rglob("*.png")):
        path.rename(path.with_name(f"lot-{path.stem}_{path.name}"))
    edited(folder, "kind: natural", "kind: natural\n    group: lot")

    status, error = told(folder, capsys, "check", "mine")

    assert status == 2
    assert "domain 'a': no image in split" in error
    assert "'split_seed' below 100 fills every split with these groups" in error


def test_check_wants_a_key_where_dicom_files_name_patients_and_names_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project(tmp_path)
    for path in (folder / RAW).rglob("*.png"):
        path.unlink()
    for number, place in enumerate(["a/x/0", "a/x/1", "a/y/0", "a/y/1", "b/0", "b/1"]):
        write_dicom(folder / RAW / f"{place}_MUELLER.dcm", np.random.default_rng(number), "MUELLER^HANS", "1.2")
    edited(folder, "kind: natural", "kind: medical")

    status, error = told(folder, capsys, "check", "mine")

    assert status == 2
    assert "domain 'b': none of 2 images that were tried can be used: file 5: names a patient or study" in error
    assert "MUELLER" not in error


@pytest.mark.parametrize("name", ["dvc.lock", "params.yaml"])
def test_check_names_a_merge_that_was_not_settled(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project(tmp_path)
    with (folder / name).open("a") as stream:
        stream.write("<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> other\n")

    status, error = told(folder, capsys, "check")

    assert status == 2
    assert f"{name}: line" in error and f"git checkout --ours {name}" in error


def test_a_project_without_the_folder_of_labels_is_told_to_make_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project(tmp_path) / "data" / "labels").rmdir()

    status, error = told(tmp_path, capsys, "check", "mine")

    assert status == 2
    assert "data/labels: no such folder, and the stage 'labels' reads it. Run 'mkdir -p data/labels'" in error


def test_the_version_names_release_and_code() -> None:
    assert re.fullmatch(r"isthmus 0\.1\.0 \(code [0-9a-f]{8}\)\n", isthmus(ROOT, "--version").stdout)


def test_names_are_listed_with_a_line_about_each_in_a_project_and_outside_of_any(tmp_path: Path) -> None:
    outside = isthmus(tmp_path, "list", "methods").stdout.splitlines()
    (project(tmp_path) / "plugins" / "adapt" / "methods").mkdir(parents=True)
    (tmp_path / "plugins" / "adapt" / "methods" / "mine.py").write_text('"""My own."""\n1 / 0\n')

    inside = isthmus(tmp_path, "list", "methods").stdout.splitlines()

    assert "coral                 CORAL: the covariances of source and target features are drawn together." in outside
    assert set(inside) - set(outside) == {"mine                  My own. (plugins/)"}
    assert isthmus(tmp_path, "list", "scenarios").stdout == "mine  classification, natural: a -> b\n"
    assert isthmus(tmp_path, "list", "scenarios", "--names").stdout == "mine\n"
    shown = json.loads(isthmus(tmp_path, "list", "scenarios", "--json").stdout)
    assert shown == {"mine": "classification, natural: a -> b"}
    refused = isthmus(tmp_path, "list", "method")
    assert refused.stderr == (
        "error: list 'method': Did you mean 'methods'? Allowed: scenarios, methods, kinds, tasks, rules, pairs,"
        " validators, backbones, readers\n"
    )


def asked_in_json(status: int, *arguments: str) -> Any:
    done = CliRunner().invoke(cli.app, [*arguments, "--json"])
    assert done.exit_code == status, (arguments, done.exception, done.output)
    return json.loads(done.stdout)


@pytest.mark.slow
def test_what_was_published_decided_and_traced_is_printed_as_json(
    published: "tuple[Path, Published]", monkeypatch: pytest.MonkeyPatch
) -> None:
    project, found = published
    monkeypatch.chdir(project)

    there = asked_in_json(0, "publish", "demo")
    decision = asked_in_json(0, "gate", "demo")

    assert (there["model"], there["version"], there["new"]) == (found.model, found.version, False)
    assert "tracking_uri" not in there  # it may hold a password
    assert (decision["verdict"], decision["version"]) == ("yes", found.version)
    assert {"rule", "verdict", "number", "threshold", "text"} <= set(decision["reasons"][0])
    assert len(asked_in_json(0, "trace", f"{found.model}@candidate")["images"]) == 60
    assert asked_in_json(0, "trace", "--image", "0" * 64) == {"models": []}


def test_scores_promotions_and_reproductions_are_printed_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from isthmus.registry.gate.score import ScoredModels  # here and not above: they import torch
    from isthmus.registry.promotion.promotion import Promotion
    from isthmus.registry.trace.reproduce import Comparison, Reproduction

    monkeypatch.chdir(project(tmp_path))
    (tmp_path / ".git").mkdir()
    acceptance = {"labelled": 9, "choices": 1, "runner_up_of": None}
    answers = {
        "gate.score.score": ScoredModels(tmp_path / "evidence", "2", "1", "a" * 32, 30, acceptance),
        "promotion.promotion.promote": Promotion("isthmus-mine", "2", "1", True, "Ada"),
        "promotion.promotion.rollback": Promotion("isthmus-mine", None, "2", True, ""),
        "trace.reproduce.reproduce": Reproduction(
            "isthmus-mine", "2", "c" * 40, ("d", "d"), (9, 8), [Comparison("target", 0.5, 0.6, False)], []
        ),
    }
    for place, answer in answers.items():
        monkeypatch.setattr(f"isthmus.registry.{place}", lambda *_, answer=answer: answer)

    scored, promoted = asked_in_json(0, "score", "mine"), asked_in_json(0, "promote", "mine")
    again = asked_in_json(3, "reproduce", "mine/2")

    assert (scored["candidate"], scored["champion"], scored["images"]) == ("2", "1", 30)
    assert (scored["folder"], scored["acceptance"]) == (str(tmp_path / "evidence"), acceptance)
    assert promoted["champion"] == "2" and promoted["approved_by"] == "Ada"
    assert asked_in_json(0, "rollback", "mine", "--withdraw")["champion"] is None
    assert (again["reproduced"], again["numbers"][0]["again"]) == (False, 0.6)


def test_a_misplaced_plugin_is_one_of_the_mistakes_that_check_reports(tmp_path: Path) -> None:
    (project(tmp_path) / "plugins" / "methods").mkdir(parents=True)
    (tmp_path / "plugins" / "methods" / "mine.py").write_text("")

    done = isthmus(tmp_path, "check")

    assert done.returncode == 2
    assert "plugins/methods/mine.py: 'methods' is no plugin folder. Did you mean" in done.stderr


def test_a_report_is_opened_in_the_users_browser_and_a_missing_one_names_the_command(tmp_path: Path) -> None:
    missing = isthmus(project(tmp_path), "report", "mine")
    file = tmp_path / "out" / "mine" / "report" / "report.html"
    file.parent.mkdir(parents=True)
    file.write_text("<p>report</p>")
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\necho $1 > {tmp_path}/opened\n")
    browser.chmod(0o755)

    environment = os.environ | {"BROWSER": str(browser)}
    done = subprocess.run(
        [*COMMAND, "report", "mine"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )

    assert (missing.returncode, missing.stderr) == (
        2, f"error: {file}: no such file. Make the report with 'isthmus run mine'\n"
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{file}\n"), done.stderr
    assert (tmp_path / "opened").read_text() == f"{file.as_uri()}\n"


@pytest.mark.soak
def test_ui_serves_mlflows_page_on_the_projects_store_and_names_a_server_that_has_one(tmp_path: Path) -> None:
    nothing = isthmus(project(tmp_path), "ui")
    open_store(tmp_path, make=True).experiment("isthmus-mine")
    port = free_port()

    with subprocess.Popen([*COMMAND, "ui", "--port", str(port)], cwd=tmp_path, stderr=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"), "MLflow's page", 90)
            search = f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/experiments/get-by-name?experiment_name=isthmus-mine"
            assert answers(search)
        finally:
            server.terminate()

    assert nothing.returncode == 2 and "mlflow.db" in nothing.stderr
    named = subprocess.run(
        [*COMMAND, "ui"], cwd=tmp_path, env=os.environ | {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "MLFLOW_TRACKING_URI names a server: open http://127.0.0.1:9 in a browser" in named.stderr


def test_a_time_of_nothing_for_a_stage_is_refused() -> None:
    done = CliRunner().invoke(cli.app, ["run", "demo", "--timeout", "0"])

    assert done.exit_code == 2 and "Invalid value for '--timeout': " in done.output
