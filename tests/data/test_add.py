import shutil
from pathlib import Path

import pytest
import yaml

from isthmus.core.errors import ConfigError, DataError, StoreError
from isthmus.data.add import add_pair
from isthmus.data.scenario import Scenario
from tests.data.test_register import project
from tests.raw_folders import write_raw


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "params.yaml").write_text("scenarios: # mine\n  own: {kind: natural}\nseed: 0\n")
    return project(folder)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_raw(tmp_path / "images", each=3)


def nothing_was_done(home: Path) -> bool:
    left = [p.name for p in (home / "data" / "raw").iterdir()] if (home / "data").exists() else []
    return left in ([], [".gitignore"]) and "mine_too" not in (home / "params.yaml").read_text()


def test_a_users_pair_is_copied_versioned_and_described(home: Path, images: Path) -> None:
    raw = add_pair(home, "mine_too", [images / "line_a"], images / "line_b", "natural")

    section = yaml.safe_load((home / "params.yaml").read_text())["scenarios"]["mine_too"]
    assert Scenario.model_validate(section).classes == ["crack", "good"]
    assert section["target_labels"] == "folders"
    assert len(list(raw.rglob("*.png"))) == 12
    assert (home / "data" / "raw" / "mine_too.dvc").is_file()
    assert "# mine" in (home / "params.yaml").read_text()


def test_a_target_without_class_folders_has_no_labels(home: Path, images: Path) -> None:
    for path in sorted((images / "line_b").rglob("*.png")):
        path.rename(images / "line_b" / f"{path.parent.name}-{path.name}")

    add_pair(home, "mine_too", [images / "line_a"], images / "line_b", "natural", target_labels="none")

    section = yaml.safe_load((home / "params.yaml").read_text())["scenarios"]["mine_too"]
    assert section["target_labels"] == "none"


def test_several_sources_are_taken(home: Path, images: Path) -> None:
    shutil.copytree(images / "line_a", images / "line_c")

    add_pair(home, "mine_too", [images / "line_a", images / "line_c"], images / "line_b", "natural")

    assert yaml.safe_load((home / "params.yaml").read_text())["scenarios"]["mine_too"]["source"] == ["line_a", "line_c"]


def test_a_name_that_is_taken_is_refused(home: Path, images: Path) -> None:
    with pytest.raises(ConfigError, match=r"'scenarios\.own' is there already\. Choose another name"):
        add_pair(home, "own", [images / "line_a"], images / "line_b", "natural")


def test_a_raw_folder_that_is_there_is_not_touched(home: Path, images: Path) -> None:
    (home / "data" / "raw" / "mine_too").mkdir(parents=True)

    with pytest.raises(DataError, match="mine_too: is there already"):
        add_pair(home, "mine_too", [images / "line_a"], images / "line_b", "natural")

    assert (home / "data" / "raw" / "mine_too").is_dir()


@pytest.mark.parametrize("name", ["Mine", "my-pair", "../mine", ""])
def test_a_name_that_stages_cannot_take_is_refused(name: str, home: Path, images: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be used. Allowed: lower-case letters, digits and '_'"):
        add_pair(home, name, [images / "line_a"], images / "line_b", "natural")


def test_missing_folders_and_equal_names_are_reported_together(home: Path, images: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such folder\ntwo folders are named 'line_a'"):
        add_pair(home, "mine_too", [images / "line_a", images / "nowhere"], images / "line_a", "natural")


def test_an_unknown_kind_is_refused_before_anything_is_copied(home: Path, images: Path) -> None:
    with pytest.raises(ConfigError, match=r"no kind 'naturel'\. Did you mean 'natural'\?"):
        add_pair(home, "mine_too", [images / "line_a"], images / "line_b", "naturel")

    assert nothing_was_done(home)


def test_a_class_that_was_not_named_is_refused_and_nothing_stays(home: Path, images: Path) -> None:
    with pytest.raises(DataError, match=r"class 'good' is not among 'classes'.*Allowed: crack, dent"):
        add_pair(home, "mine_too", [images / "line_a"], images / "line_b", "natural", classes=["crack", "dent"])

    assert nothing_was_done(home)


def test_what_is_wrong_is_said_of_the_users_own_folders_and_not_of_their_copies(home: Path, images: Path) -> None:
    (images / "line_a" / "empty").mkdir()
    with pytest.raises(DataError, match="class 'empty' of 'classes' of the new scenario: no image") as no_image:
        add_pair(home, "mine_too", [images / "line_a"], images / "line_b", "natural")
    with pytest.raises(DataError, match="Then run the same command again") as unknown:
        add_pair(home, "mine_too", [images / "line_a"], images / "line_b", "natural", classes=["crack", "dent"])

    assert "partial" not in f"{no_image.value} {unknown.value}"
    assert f"{images / 'line_a' / 'good'}: class 'good' is not among" in str(unknown.value)


def test_files_that_cannot_be_read_are_refused_and_nothing_stays(home: Path, images: Path) -> None:
    for path in (images / "line_b").rglob("*.png"):
        path.write_text("words")

    with pytest.raises(DataError, match=r"domain 'line_b': 6 of 6 sampled files cannot be read\. .*content is text"):
        add_pair(home, "mine_too", [images / "line_a"], images / "line_b", "natural")

    assert nothing_was_done(home)


def test_symbolic_links_are_refused_and_nothing_stays(home: Path, images: Path) -> None:
    (images / "line_a" / "good" / "link.png").symlink_to("/etc/hostname")

    with pytest.raises(DataError, match=r"line_a/good/link\.png: symbolic link: refused.*\(1 in all\)"):
        add_pair(home, "mine_too", [images / "line_a"], images / "line_b", "natural")

    assert nothing_was_done(home)


def test_when_dvc_refuses_nothing_stays(home: Path, images: Path) -> None:
    shutil.rmtree(home / ".dvc")

    with pytest.raises(StoreError, match="'dvc add' failed"):
        add_pair(home, "mine_too", [images / "line_a"], images / "line_b", "natural")

    assert nothing_was_done(home)
