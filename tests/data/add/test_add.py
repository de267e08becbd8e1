import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus import cli
from isthmus.core.errors import ConfigError, DataError, StoreError
from isthmus.data.add import add, register
from isthmus.data.add.add import add_pair
from isthmus.data.ingest.tables import IngestConfig, ingest
from isthmus.data.scenario import Scenario
from tests.raw_folders import write_raw


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_raw(tmp_path / "images", each=3)


def nothing_was_done(home: Path) -> bool:
    left = [p.name for p in (home / "data" / "raw").iterdir()] if (home / "data").exists() else []
    return left in ([], [".gitignore"]) and "mine_too" not in (home / "params.yaml").read_text()


def test_a_users_pair_is_copied_versioned_and_described(
    home: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = add_pair(home, "mine_too", [images / "line_a"], images / "line_b", "natural")

    section = yaml.safe_load((home / "params.yaml").read_text())["scenarios"]["mine_too"]
    assert Scenario.model_validate(section).classes == ["crack", "good"]
    assert section["target_labels"] == "folders"
    assert "Next: isthmus check mine_too, which reads some of the images, then isthmus run" in capsys.readouterr().err
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
    with pytest.raises(ConfigError, match=r"'scenarios\.own' already exists\. Choose another name"):
        add_pair(home, "own", [images / "line_a"], images / "line_b", "natural")


def test_a_raw_folder_that_is_there_is_not_touched(home: Path, images: Path) -> None:
    (home / "data" / "raw" / "mine_too").mkdir(parents=True)

    with pytest.raises(DataError, match="mine_too: already exists"):
        add_pair(home, "mine_too", [images / "line_a"], images / "line_b", "natural")

    assert (home / "data" / "raw" / "mine_too").is_dir()


@pytest.mark.parametrize("name", ["Mine", "my-pair", "../mine", ""])
def test_a_name_that_stages_cannot_take_is_refused(name: str, home: Path, images: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be used. Allowed: lower-case letters, digits and '_'"):
        add_pair(home, name, [images / "line_a"], images / "line_b", "natural")


def test_the_name_of_the_fingerprints_folder_is_refused(home: Path, images: Path) -> None:
    with pytest.raises(ConfigError, match="name 'code' is taken: out/code holds fingerprints of the code. Choose ano"):
        add_pair(home, "code", [images / "line_a"], images / "line_b", "natural")


def test_missing_folders_and_equal_names_are_reported_together(home: Path, images: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such folder\ntwo folders are named 'line_a'"):
        add_pair(home, "mine_too", [images / "line_a", images / "nowhere"], images / "line_a", "natural")


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        ("line_aa", "natural", r"line_aa: no such folder\. Did you mean 'line_a'\?$"),
        ("lin_a/good", "natural", r"lin_a/good: no such folder\. Did you mean 'line_a'\?$"),
        ("line_aa", "medical", "line_aa: no such folder$"),  # folders of medical images may be called after people
    ],
)
def test_for_a_missing_folder_one_of_a_similar_name_is_suggested(
    home: Path, images: Path, wrong: str, kind: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        add_pair(home, "mine_too", [images / wrong], images / "line_b", kind)


def test_an_unknown_kind_is_refused_before_anything_is_copied(home: Path, images: Path) -> None:
    with pytest.raises(ConfigError, match=r"no kind 'naturel'\. Did you mean 'natural'\?"):
        add_pair(home, "mine_too", [images / "line_a"], images / "line_b", "naturel")

    assert nothing_was_done(home)


def test_what_was_decided_is_said_and_a_dry_run_does_nothing_else(
    home: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "line_a" / "good" / "img-000.json").write_text("{}")

    add_pair(home, "mine_too", [images / "line_a"], images / "line_b", "natural", ["good", "crack"], dry_run=True)

    said = capsys.readouterr().err
    assert "mine_too: natural, 2 classes: good, crack" in said
    assert "6 images, classes from folders: crack 3, good 3" in said
    assert "beside the images, ignored: annotations and tables 1" in said
    assert "target labels: folders" in said
    assert "groups: none" in said
    assert "mine_too: a dry run, nothing was done" in said
    assert nothing_was_done(home)
    assert not (home / "data").exists()


def test_splits_and_odd_names_come_through_add_and_ingest(home: Path, tmp_path: Path) -> None:
    names = ["Corn_(maize)___healthy", "50% worn & #1"]
    raw = write_raw(tmp_path / "made", each=24)
    old = tmp_path / "old \"$x\"; 'cam'"
    for old_name, name in zip(["crack", "good"], names, strict=True):
        files = sorted((raw / "line_a" / old_name).iterdir())
        for number, split in enumerate(("train", "val", "test")):
            (old / split / name).mkdir(parents=True)
            for path in files[number::3]:
                path.rename(old / split / name / path.name)

    add_pair(home, "mine_too", [old], raw / "line_b", "natural", target_labels="none")

    section = yaml.safe_load((home / "params.yaml").read_text())["scenarios"]["mine_too"]
    done = ingest(home / section["raw"], Scenario.model_validate(section), IngestConfig(workers=1), 0)
    assert section["source"] == [old.name]
    assert done.audit["classes"][old.name][names[0]]["test"] == 8
    assert {s for rows in done.audit["classes"][old.name].values() for s in rows} == {"train", "val", "cal", "test"}
    assert done.bad == []


def test_what_is_refused_leaves_nothing_behind_not_even_a_line_for_git(
    home: Path, images: Path, monkeypatch: Any
) -> None:
    def fail(*_: object) -> None:
        (home / "data" / "raw" / ".gitignore").write_text("/mine_too\n")
        (home / "data" / "raw" / "mine_too.dvc").write_text("outs: []\n")
        raise StoreError("'dvc add' failed: disk full")

    monkeypatch.setattr(add, "dvc_add", fail)
    with pytest.raises(StoreError, match="disk full"):
        add_pair(home, "mine_too", [images / "line_a"], images / "line_b", "natural")
    assert not (home / "data").exists()

    (home / "data" / "raw").mkdir(parents=True)
    (home / "data" / "raw" / ".gitignore").write_text("/older\n")
    with pytest.raises(StoreError, match="disk full"):
        add_pair(home, "mine_too", [images / "line_a"], images / "line_b", "natural")
    assert [p.name for p in (home / "data" / "raw").iterdir()] == [".gitignore"]
    assert (home / "data" / "raw" / ".gitignore").read_text() == "/older\n"
    assert "mine_too" not in (home / "params.yaml").read_text()


def test_contradictions_are_refused_before_anything_is_copied(home: Path, images: Path) -> None:
    shutil.copy(images / "line_a" / "good" / "img-000.png", images / "line_a" / "crack" / "twin.png")

    with pytest.raises(DataError, match="1 images have identical bytes under two classes"):
        add_pair(home, "mine_too", [images / "line_a"], images / "line_b", "natural")

    assert nothing_was_done(home)


def test_add_holds_the_limit_of_ingest(home: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in sorted((images / "line_a").rglob("*.png"))[:2]:
        path.write_bytes(b"")
    os.mkfifo(images / "line_a" / "good" / "pipe.png")
    params = home / "params.yaml"
    allowed, refused = params.read_text() + "ingest: {max_bad_share: 0.25}\n", params.read_text()

    params.write_text(refused)
    with pytest.raises(
        DataError, match=r"3 of 13 files cannot be used \(23\.1%\); 'ingest\.max_bad_share' .*20\.0%"
    ) as found:
        add_pair(home, "mine_too", [images / "line_a"], images / "line_b", "natural", dry_run=True)
    params.write_text(allowed)
    add_pair(home, "mine_too", [images / "line_a"], images / "line_b", "natural", dry_run=True)

    assert "pipe.png: a named pipe and no file: refused, not opened" in str(found.value)


def test_a_file_that_cannot_be_copied_is_an_error_without_a_traceback(
    home: Path, images: Path, monkeypatch: Any
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "MUELLER.png")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(
        DataError, match=r"img-000\.png: cannot be copied to data/raw/mine_too \(No space left on device"
    ):
        add_pair(home, "mine_too", [images / "line_a"], images / "line_b", "natural")
    assert nothing_was_done(home)


def test_more_than_fits_on_the_disk_is_refused_before_it_is_copied(home: Path, images: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]

    with pytest.raises(DataError, match="GB are to be copied, and 0.00 GB are free. Make room"):
        add_pair(home, "mine_too", [images / "line_a"], images / "line_b", "natural")


def test_a_section_that_cannot_be_written_is_refused_before_anything_is_copied(
    home: Path, images: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(register, "_dumped", lambda _: "nonsense: 1\n")

    with pytest.raises(ConfigError, match=r"cannot add 'scenarios\.mine_too' to a file laid out like this"):
        add_pair(home, "mine_too", [images / "line_a"], images / "line_b", "natural")
    assert nothing_was_done(home)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--target-labels=foldrs", "--target-labels 'foldrs': Did you mean 'folders'? Allowed: folders, table, none"),
        ("--contradictions=ignore", "--contradictions 'ignore': Allowed: refuse, keep"),
    ],
)
def test_a_misspelt_option_names_what_is_allowed(option: str, message: str) -> None:
    flags = ["add", "x", "--source", "a", "--target", "b", "--kind", "natural", option]

    with pytest.raises(ConfigError) as refused:
        cli.app(flags, standalone_mode=False)

    assert str(refused.value) == message


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
