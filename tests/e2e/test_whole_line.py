"""The whole line on a small real project: DVC's graph from raw files to the report, in a folder of its own."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from isthmus.core.files import hash_files, read_json
from isthmus.label import take, write_list
from tests.raw_folders import CLASSES, write_raw

ROOT = Path(__file__).parents[2]
WITHOUT_LABELS = ("manifest.parquet", "prepared", "features", "shift", "train", "choice.json")


def project(folder: Path, **scenario: object) -> Path:
    """Makes a project of one scenario, 24 images a class and domain, that runs in seconds."""
    write_raw(folder / "data" / "raw" / "demo")
    for name in ("data/labels", "plugins"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "src").symlink_to(ROOT / "src")
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    demo = {"kind": "natural", "raw": "data/raw/demo", "source": ["line_a"], "target": "line_b", "classes": CLASSES}
    demo |= {"target_labels": "folders", "model": "small", "preprocess": {"image_size": 20, "channels": 3}, **scenario}
    document["scenarios"] = {"demo": demo}
    document["models"] = {"small": {"mode": "frozen", "backbone": {"name": "small_cnn"}, "epochs": 3, "bottleneck": 16}}
    document["methods"] = {"source_only": {}, "zscore": {}}
    document["train"] |= {"seeds": [0, 1], "keep": 2, "batch_size": 8}
    document["pairs"] = {"digits": {}}
    (folder / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    run(folder, "git", "init", "-q")
    run(folder, sys.executable, "-m", "dvc", "init", "-q")
    return folder


def run(folder: Path, *command: str) -> str:
    clean = {**os.environ, "DVC_NO_ANALYTICS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, env=clean)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def repro(folder: Path, stage: str = "report") -> str:
    return run(folder, sys.executable, "-m", "dvc", "repro", f"{stage}@demo")


def keep_links(folder: Path, kind: str) -> Path:
    """Puts raw images and all that stages write into a cache beside the project, as a team has it: links stay."""
    run(folder, "dvc", "config", "-q", "cache.type", kind)
    run(folder, "dvc", "cache", "dir", "-q", str(folder.parent / "team cache"))
    run(folder, "dvc", "add", "-q", "data/raw/demo")
    return folder


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluated project whose files are all links into a cache elsewhere, which is the hardest case."""
    folder = keep_links(project(tmp_path_factory.mktemp("evaluated") / "project"), "symlink")
    repro(folder, "evaluate")
    return folder


@pytest.mark.slow
def test_raw_images_and_outputs_may_all_be_links_into_the_cache(evaluated: Path) -> None:
    assert all(path.is_symlink() for path in (evaluated / "data/raw/demo").rglob("*.png"))
    assert all(path.is_symlink() for path in (evaluated / "out/demo/prepared").rglob("*.npy"))
    assert read_json(evaluated / "out/demo/quarantine.json") == []


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["symlink", "hardlink", "reflink,copy"])
def test_the_whole_line_runs_on_every_kind_of_link_and_once(tmp_path: Path, kind: str) -> None:
    folder = keep_links(project(tmp_path / "project"), kind)

    repro(folder)

    assert (folder / "out/demo/report/report.html").is_file()
    assert "Running stage" not in repro(folder)
    assert read_json(folder / "out/demo/quarantine.json") == []


@pytest.mark.slow
def test_permuting_the_targets_class_folders_changes_no_byte_until_labels_are_joined(
    evaluated: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(evaluated, tmp_path / "project", symlinks=True))
    out = folder / "out" / "demo"
    before = {name: hash_files([out / name]) for name in WITHOUT_LABELS}
    truth = read_json(out / "truth.json")
    raw = folder / "data" / "raw" / "demo" / "line_b"
    for old, new in (("crack", "aside"), ("good", "crack"), ("aside", "good")):
        (raw / old).rename(raw / new)

    said = repro(folder, "evaluate")

    assert {name: hash_files([out / name]) for name in WITHOUT_LABELS} == before
    assert "Running stage 'ingest@demo'" in said
    assert "Stage 'train@demo-zscore' didn't change, skipping" in said
    assert "Running stage 'evaluate@demo'" in said
    assert read_json(out / "truth.json") != truth


@pytest.fixture(scope="module")
def edited(evaluated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The evaluated project with source of its own, which tests edit one after the other."""
    folder = Path(shutil.copytree(evaluated, tmp_path_factory.mktemp("edited") / "project", symlinks=True))
    source = (folder / "src").resolve()
    (folder / "src").unlink()
    shutil.copytree(source, folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def repro_edited(folder: Path, stage: str, name: str, old: str, new: str) -> set[str]:
    """Edits a module, runs up to a stage and returns the stages that ran."""
    path = folder / "src" / "isthmus" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    said = run(folder, "env", f"PYTHONPATH={folder / 'src'}", sys.executable, "-m", "dvc", "repro", f"{stage}@demo")
    return set(re.findall(r"Running stage '([^']+)'", said))


@pytest.mark.slow
def test_a_changed_comment_and_docstring_run_nothing_but_the_fingerprints(edited: Path) -> None:
    assert repro_edited(edited, "evaluate", "core/files.py", '"""Atomic', '# edited\n"""Edited. Atomic') == {"code"}


@pytest.mark.slow
def test_a_changed_method_trains_that_method_and_runs_what_follows_and_a_model_of_others_nothing(edited: Path) -> None:
    params = yaml.safe_load((edited / "params.yaml").read_text())
    params["models"]["of_others"] = {"mode": "full", "backbone": {"name": "small_cnn"}}
    (edited / "params.yaml").write_text(yaml.safe_dump(params))
    train = {path.name: hash_files([path]) for path in (edited / "out" / "demo" / "train").iterdir()}

    ran = repro_edited(edited, "select", "adapt/methods/zscore.py", ": source_loss(", ": 0.5 * source_loss(")

    assert ran == {"code", "train@demo-zscore", "select@demo"}
    after = {path.name: hash_files([path]) for path in (edited / "out" / "demo" / "train").iterdir()}
    assert {name for name in train if train[name] != after[name]} == {"zscore"}


@pytest.mark.slow
def test_features_kept_by_other_code_are_not_taken_for_those_of_the_changed_one(edited: Path) -> None:
    features = edited / "out" / "demo" / "features"
    before = {path: hash_files([path]) for path in features.rglob("*.npy")}

    ran = repro_edited(edited, "embed", "models/classifier.py", "images.float() / ", "0.5 * images.float() / ")

    assert ran == {"code", "embed@demo"}
    assert before
    assert all(hash_files([path]) != before[path] for path in before)  # features and descriptors


@pytest.mark.slow
def test_a_dropped_method_is_gone_from_the_choice_though_its_files_are_still_there(
    evaluated: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(evaluated, tmp_path / "project", symlinks=True))
    text = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(text.replace("  zscore: {}\n", ""))

    repro(folder, "select")

    assert (folder / "out" / "demo" / "train" / "zscore").is_dir()
    methods = {c["method"] for c in read_json(folder / "out" / "demo" / "choice.json")["candidates"]}
    assert methods == {"source_only"}


@pytest.mark.slow
def test_a_target_without_labels_runs_to_the_report_and_a_few_labels_measure(tmp_path: Path) -> None:
    folder = without_labels(tmp_path)
    repro(folder)

    out = folder / "out" / "demo"
    assert read_json(out / "truth.json") == {"available": False}
    assert read_json(out / "choice.json")["chosen"]["method"] in ("source_only", "zscore")
    assert "without target labels" in (out / "report" / "report.html").read_text()

    before = {name: hash_files([out / name]) for name in WITHOUT_LABELS}
    answer(folder, 10, 0)

    said = repro(folder)

    assert "Running stage 'labels@demo'" in said and "Running stage 'evaluate@demo'" in said
    assert "Running stage 'train" not in said and "Running stage 'select" not in said
    assert {name: hash_files([out / name]) for name in WITHOUT_LABELS} == before
    assert read_json(out / "truth.json")["measured"]["count"] == 10
    assert "Measured on 10 random target images" in (out / "report" / "report.html").read_text()
    shown = json.loads(run(folder, "dvc", "metrics", "show", "--json"))[""]["data"]["out/demo/scores.json"]["data"]
    assert {"measured", "measured_low", "measured_high", "source"} <= set(shown) and "target" not in shown


@pytest.mark.soak
def test_a_few_labels_train_and_leave_the_features_as_they_are(tmp_path: Path) -> None:
    folder = without_labels(tmp_path)
    repro(folder)
    assert "didn't change, skipping" in repro(folder)
    out = folder / "out" / "demo"

    answer(folder, 10, 5)

    said = repro(folder, "select")

    assert "Running stage 'train@demo-zscore'" in said
    assert "Running stage 'select@demo'" in said and "Running stage 'embed" not in said
    assert 5 <= read_json(out / "train" / "zscore" / "run.json")["target_labels"] <= 10
    assert "target_labels" not in read_json(out / "train" / "source_only" / "run.json")


def without_labels(root: Path) -> Path:
    """Makes a project whose target has no class folders."""
    folder = project(root, target_labels="none")
    raw = folder / "data" / "raw" / "demo" / "line_b"
    for number, file in enumerate(sorted(raw.rglob("*.png"))):
        file.rename(raw / f"img-{number:03d}.png")
    for name in CLASSES:
        (raw / name).rmdir()
    return folder


def answer(folder: Path, random: int, per_class: int) -> None:
    """Asks for labels, gives all answers and takes them."""
    write_list(folder, "demo", random, per_class)
    names = {f"img-{number:03d}.png": CLASSES[number >= 24] for number in range(48)}
    with (folder / "out" / "demo" / "label" / "label_first.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    answers = "".join(f"{row['path']},{names[Path(row['path']).name]}\n" for row in rows)
    (folder / "answers.csv").write_text(f"path,class\n{answers}")
    take(folder, "demo", folder / "answers.csv", by="Ann")
