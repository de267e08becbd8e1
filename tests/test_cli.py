"""The command as a user meets it: in a folder of its own, in a process of its own."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "isthmus.cli"]


def isthmus(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, timeout=120)


def project(tmp_path: Path, **changes: object) -> Path:
    """Writes a params.yaml of one scenario with two real folders; `changes` replace top-level sections."""
    for name in ("a/x", "a/y", "b"):
        (tmp_path / "data" / "raw" / "mine" / name).mkdir(parents=True)
    scenario = {"kind": "natural", "raw": "data/raw/mine", "source": ["a"], "target": "b", "classes": ["x", "y"]}
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    document |= {"scenarios": {"mine": scenario | {"model": "small_cnn"}}, "pairs": {}}
    document |= {"methods": {"source_only": {}, "coral": {}}, **changes}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    return tmp_path


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
            ["scenarios.mine.taregt: Extra inputs", "Did you mean 'target'?", "Allowed: classes, group"],
        ),
        ("coral: {}", "coraal: {}", ["methods.coraal: no module 'coraal'", "Did you mean 'coral'?", "source_only"]),
        ("coral: {}", "coral: {wieght: 2}", ["params.yaml: methods.coral.wieght", "(got 2)", "Did you mean 'weight'?"]),
        (
            "reverse_validation: {}",
            "reverse_validaton: {}",
            ["reverse_validaton", "Did you mean 'reverse_validation'?"],
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
            ["no folder 'data/raw/nowhere'. Bring it with 'isthmus fetch mine'"],
        ),
        ("raw: data/raw/mine", "raw: ../elsewhere", ["must be a path inside the project, without '..'"]),
        ("source_only: {}", "zscore2: {}", ["source_only"]),
    ],
    ids=["key", "method", "option", "validator", "rule", "kind", "model", "folder", "outside", "no floor"],
)
def test_each_mistake_is_one_clear_message_with_status_2_and_no_traceback(
    tmp_path: Path, old: str, new: str, messages: list[str]
) -> None:
    done = isthmus(edited(project(tmp_path), old, new), "check", "mine")

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    for message in messages:
        assert message in done.stderr


def test_an_unknown_scenario_names_the_known_ones_and_how_to_bring_one(tmp_path: Path) -> None:
    done = isthmus(project(tmp_path), "check", "mien")

    assert done.returncode == 2
    assert "no scenario 'mien'. Did you mean 'mine'? There are: mine" in done.stderr
    assert "isthmus add mien" in done.stderr


def test_an_empty_section_of_methods_is_said(tmp_path: Path) -> None:
    done = isthmus(project(tmp_path, methods={}), "check")

    assert done.returncode == 2
    assert "section 'methods' is missing or empty" in done.stderr


def test_a_stage_tells_a_mistake_the_same_way(tmp_path: Path) -> None:
    folder = edited(project(tmp_path), "coral: {}", "coral: {wieght: 2}")
    flags = ["--params", "params.yaml", "--scenario", "mine", "--method", "coral", "--manifest", "m", "--prepared", "p"]
    flags += ["--features", "f", "--checkpoints", "c", "--trained", "t"]

    done = subprocess.run(
        [sys.executable, "-m", "isthmus.stages.train", *flags], cwd=folder, capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 2
    assert done.stderr.startswith("error: params.yaml: methods.coral.wieght: ")
    assert "Traceback" not in done.stderr


VERBS: dict[str, list[str]] = {
    "check": [],
    "run": [],
    "fetch": ["steel"],
    "add": ["press", "--source", ".", "--target", ".", "--kind", "natural"],
    "publish": ["mine"],
    "score": ["mine"],
    "gate": ["mine"],
    "promote": ["mine"],
    "rollback": ["mine"],
    "trace": ["mine"],
    "predict": ["mine", "."],
    "watch": ["mine"],
    "lr-range": ["mine", "coral"],
    "reproduce": ["mine"],
    "serve": ["mine"],
}


@pytest.mark.slow
def test_every_verb_outside_of_a_project_says_so_and_leaves_no_litter(tmp_path: Path) -> None:
    assert set(VERBS) == set(re.findall(r"^  ([a-z][a-z-]+) ", isthmus(tmp_path, "--help").stdout, re.MULTILINE))
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
        assert "--params" in answer


def test_what_is_missing_inside_a_raw_folder_is_left_to_ingest(tmp_path: Path) -> None:
    folder = project(tmp_path)
    shutil.rmtree(folder / "data" / "raw" / "mine" / "b")

    assert isthmus(folder, "check").returncode == 0
