"""DVC's verbs about the whole project, against a real remote: what `add` and `fetch` brought is part of it."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import yaml

from isthmus.core.files import hash_files
from isthmus.data.add.add import add_pair
from isthmus.data.catalog.pairs import PAIRS
from isthmus.data.catalog.public import fetch
from tests.data.catalog.test_public import sha, write_mirror
from tests.e2e.test_whole_line import ROOT, run
from tests.raw_folders import write_raw

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
RAW = (Path("data/raw/press"), Path("data/raw/steel"))
GIT = ("git", "-c", "user.name=t", "-c", "user.email=t")


def dvc(folder: Path, *arguments: str) -> str:
    return run(folder, "dvc", *arguments)


def objects(folder: Path) -> set[str]:
    """The contents that a cache or a remote holds, by name."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project as a plain clone has it, with an added and a fetched scenario, run as far as `prepare@press`."""
    folder = tmp_path_factory.mktemp("verbs")
    home = folder / "project"
    run(folder, "git", "clone", "-q", str(ROOT), "project")
    for name in (".gitignore", ".dvcignore", "dvc.yaml"):  # as they stand, committed or not
        shutil.copy(ROOT / name, home)
    shutil.rmtree(home / "src")
    shutil.copytree(ROOT / "src", home / "src", ignore=shutil.ignore_patterns("__pycache__"))
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    document |= {"scenarios": {}, "pairs": {"digits": {}}, "methods": {"source_only": {}}}
    document["models"] = {"vit": {"mode": "frozen", "backbone": {"name": "small_cnn"}, "epochs": 1}}
    (home / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    images = write_raw(folder / "images", each=8)
    add_pair(home, "press", [images / "line_a"], images / "line_b", "natural")
    mirror = write_mirror(folder / "mirror" / "steel_neu_xsdd")
    with pytest.MonkeyPatch.context() as patch:
        pair = dataclasses.replace(PAIRS["steel"], checks={"manifest.csv": sha(mirror / "manifest.csv")})
        patch.setitem(PAIRS, "steel", pair)
        fetch("steel", home, str(mirror.parent))
    dvc(home, "repro", "-q", "prepare@press")
    dvc(home, "remote", "add", "-q", "-d", "store", str(folder / "remote"))
    run(home, "git", "add", "-A")
    run(home, *GIT, "commit", "-q", "-m", "two pairs")
    return home


def test_the_pointers_are_in_git_and_the_images_are_not(project: Path) -> None:
    tracked = run(project, "git", "ls-files", "data/raw").split()

    assert tracked == [f"{raw}.dvc" for raw in RAW]


def test_a_clone_pulls_all_that_was_pushed_and_finds_every_stage_up_to_date(project: Path) -> None:
    dvc(project, "push")
    run(project.parent, "git", "clone", "-q", str(project), "clone")
    clone = project.parent / "clone"

    targets = ["data/raw/press.dvc", "data/raw/steel.dvc", "code", "ingest@press", "prepare@press"]
    dvc(clone, "fetch", *targets)
    dvc(clone, "checkout", *targets)

    for raw in RAW:
        assert hash_files([clone / raw]) == hash_files([project / raw])
    assert "up to date" in dvc(clone, "status", "prepare@press", "data/raw/press.dvc", "data/raw/steel.dvc")
    assert "Running stage" not in dvc(clone, "repro", "prepare@press")
    remote, cache = objects(project.parent / "remote" / "files"), objects(project / ".dvc" / "cache" / "files")
    assert cache - remote == set()


def test_gc_of_the_workspace_removes_nothing_that_it_needs(project: Path) -> None:
    cache = project / ".dvc" / "cache" / "files"
    kept = [*RAW, Path("out/press")]
    before, hashes = objects(cache), hash_files([project / path for path in kept])

    dvc(project, "gc", "-w", "-f")

    assert objects(cache) == before
    for path in kept:
        shutil.rmtree(project / path)
    dvc(project, "checkout", "data/raw/press.dvc", "data/raw/steel.dvc", "ingest@press", "prepare@press")
    assert hash_files([project / path for path in kept]) == hashes


@pytest.mark.soak
@pytest.mark.parametrize("where", [[], ["--temp"]], ids=["workspace", "temp"])
def test_an_experiment_runs_on_the_added_data(project: Path, where: list[str]) -> None:
    override = "scenarios.press.preprocess.image_size=28" if where else "scenarios.press.preprocess.image_size=42"

    said = dvc(project, "exp", "run", *where, "-S", f"+{override}", "prepare@press")

    assert "Ran experiment(s)" in said
    assert "Running stage 'prepare@press'" in said
    run(project, "git", "checkout", "-q", "params.yaml", "dvc.lock")


def test_a_line_of_gitignore_that_hides_the_pointers_is_told_before_anything_is_lost(
    project: Path, tmp_path: Path
) -> None:
    from isthmus.core.errors import ConfigError
    from pipelines.graph import read_graph

    home = Path(shutil.copytree(project, tmp_path / "project", symlinks=True))
    text = (home / ".gitignore").read_text().replace("/data/raw/?*", "/data/raw/*")
    (home / ".gitignore").write_text(text)
    images = write_raw(tmp_path / "images", each=3)

    message = (
        r"data/raw/\w+.dvc: DVC does not look for pointers in data/raw, because git ignores that folder: 'dvc push'"
    )
    with pytest.raises(ConfigError, match=message):
        add_pair(home, "more", [images / "line_a"], images / "line_b", "natural")
    with pytest.raises(ConfigError, match=message):
        read_graph(home, ["prepare@press"])
    assert not (home / "data" / "raw" / "more.dvc").exists()
