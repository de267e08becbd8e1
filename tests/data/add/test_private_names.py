"""Of medical images nothing but `locations.parquet` holds a part of a path: every error is provoked, and searched."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from isthmus.checks import check
from isthmus.core.errors import ConfigError, DataError, IsthmusError
from isthmus.data.add.add import add_pair
from isthmus.data.ingest.scan import find_images
from isthmus.data.ingest.tables import IngestConfig
from isthmus.data.kinds import medical
from isthmus.data.manifest import LOCATIONS, read_table
from isthmus.stages import ingest, prepare
from isthmus.where import where
from tests.data.ingest.test_identity import write_dicom
from tests.raw_folders import pixels, scenario

NAME = "MUELLER_HANS"
FILES = ("manifest", "locations", "companions", "labels_target", "audit", "quarantine")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images whose names and folders below the classes are those of a patient."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("raw")
    for domain in ("line_a", "line_b"):
        for name in ("crack", "good"):
            (folder / domain / name / NAME).mkdir(parents=True)
            for number in range(24):
                Image.fromarray(pixels(rng)).save(folder / domain / name / NAME / f"{NAME}-{number:02d}.png")
    return folder


@pytest.fixture
def raw(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "data" / "raw" / "demo"))


def run(raw: Path, out: Path, config: dict[str, Any] | None = None, **changes: object) -> Path:
    changed: dict[str, Any] = {"kind": "medical", "preprocess": {"image_size": 20}, **changes}
    params = ingest.Params(
        scenario=scenario(**changed), ingest=IngestConfig.model_validate({"workers": 1, **(config or {})}), seed=0
    )
    ingest.run(params, raw=raw, **{name: out / name for name in FILES})
    return out


def first(raw: Path) -> Path:
    return raw / "line_a" / "crack" / NAME / f"{NAME}-00.png"


def table(raw: Path, edit: Callable[[str], str]) -> None:
    paths = sorted(p.relative_to(raw).as_posix() for p in raw.rglob("*.png"))
    lines = [f"{p},{p.split('/')[0]},{p.split('/')[1]},\n" for p in paths]
    lines[0] = edit(lines[0])
    (raw / "images.csv").write_text("path,domain,label,split\n" + "".join(lines))


def link(raw: Path) -> None:
    (raw / "line_a" / "good" / f"{NAME}.png").symlink_to(f"/nowhere/{NAME}")


def unknown(raw: Path, suffix: str) -> None:
    first(raw).with_suffix(suffix).write_bytes(b"\x93NUMPY\x01\x00" + bytes(64))
    first(raw).unlink()


def odd_bytes(raw: Path) -> None:
    (raw / "line_a" / "good" / os.fsdecode(f"{NAME}-".encode() + b"\xe9.png")).write_bytes(first(raw).read_bytes())


BAD_FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "broken": (lambda raw: first(raw).write_bytes(b""), "file is empty"),
    "text": (lambda raw: first(raw).write_text(f"of {NAME}"), "content is text"),
    "suffix": (lambda raw: unknown(raw, f".{NAME}"), "no reader for '...'"),
    "suffix, lower case": (lambda raw: unknown(raw, f".{NAME.lower()}"), "no reader for '...'"),
    "link": (link, "symbolic link: refused"),
    "pipe": (lambda raw: os.mkfifo(raw / "line_b" / "good" / NAME / "pipe"), "a named pipe"),
    "bytes": (odd_bytes, "is not UTF-8"),
    "contradiction": (
        lambda raw: shutil.copy(first(raw), raw / "line_a" / "good" / NAME / f"{NAME}-x.png"),
        "identical files are in 2 classes: crack, good",
    ),
    "no key": (
        lambda raw: write_dicom(first(raw).with_suffix(".dcm"), np.random.default_rng(0), "7", "1.2"),
        "names a patient or study, and there is no key to hash it with",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_is_not_used_is_a_number_in_every_file_and_where_finds_it(
    case: str, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, reason = BAD_FILES[case]
    change(raw)

    out = run(raw, tmp_path / "out")

    entries = json.loads((out / "quarantine").read_text())
    assert entries and all(re.fullmatch(r"file \d+", e["path"]) and reason in e["reason"] for e in entries)
    said = "".join(capsys.readouterr())
    written = b"".join((out / name).read_bytes() for name in FILES if name not in ("locations", "companions"))
    assert NAME.casefold() not in said.casefold()
    assert NAME.casefold().encode() not in written.lower()
    found = where(_project(tmp_path), "demo", entries[0]["path"])
    assert NAME.casefold() in str(found[0]).casefold() and os.path.lexists(found[0])


LIMITS: dict[str, tuple[Callable[[Path], Any], dict[str, Any], dict[str, Any]]] = {
    "too many bad": (lambda raw: first(raw).write_bytes(b""), {}, {"max_bad_share": 0}),
    "outside class folders": (lambda raw: (raw / "line_a" / f"{NAME}.png").write_bytes(b"x"), {}, {}),
    "unknown class": (lambda raw: shutil.copytree(raw / "line_a" / "good", raw / "line_a" / NAME), {}, {}),
    "unknown class, empty": (lambda raw: (raw / "line_a" / NAME).mkdir(), {}, {}),
    "no such domain": (lambda raw: (raw / "line_b").rename(raw / NAME), {}, {}),
    "no such group": (lambda raw: None, {"group": "lot"}, {}),
    "volumes": (lambda raw: None, {"volumes": {}}, {}),
    "tiles": (lambda raw: None, {"tiles": {"size": 64}}, {}),
    "constant": (lambda raw: Image.new("RGB", (20, 20)).save(first(raw)), {}, {"max_constant_share": 0}),
    "leak": (
        lambda raw: (table(raw, lambda line: line), _split(raw)),
        {"target_labels": "table", "group": "patient"},
        {},
    ),
    "path": (lambda raw: table(raw, lambda line: f"../{line}"), {"target_labels": "table"}, {}),
    "twice": (lambda raw: table(raw, lambda line: line + line), {"target_labels": "table"}, {}),
    "label": (lambda raw: table(raw, lambda line: line.replace(",crack", f",{NAME}")), {"target_labels": "table"}, {}),
    "no label": (lambda raw: table(raw, lambda line: line.replace(",crack", ",")), {"target_labels": "table"}, {}),
    "split": (lambda raw: table(raw, lambda line: line.replace(",\n", f",{NAME}\n")), {"target_labels": "table"}, {}),
    "quote": (lambda raw: table(raw, lambda line: f'"{line}'), {"target_labels": "table"}, {}),
    "fields": (lambda raw: table(raw, lambda line: line.replace("line_a,", "")), {"target_labels": "table"}, {}),
    "domain": (
        lambda raw: table(raw, lambda line: line.replace(",line_a,", ",Line_A,")),
        {"target_labels": "table"},
        {},
    ),
    "not there": (
        lambda raw: (table(raw, lambda line: line), first(raw).unlink()),
        {"target_labels": "table"},
        {"max_bad_share": 0},
    ),
}


def _split(raw: Path) -> None:
    lines = (raw / "images.csv").read_text().splitlines()
    rows = [f"{line}{('train', 'test')[n % 2]},{NAME}{n // 2}" for n, line in enumerate(lines[1:])]
    (raw / "images.csv").write_text("\n".join([f"{lines[0]},patient", *rows]) + "\n")


@pytest.mark.parametrize("case", LIMITS)
def test_no_refusal_of_ingest_or_check_names_a_file_or_folder(
    case: str, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, section, config = LIMITS[case]
    change(raw)

    with pytest.raises(DataError) as refused:
        run(raw, tmp_path / "out", config, **section)
    looked = ""
    try:
        check(_project(tmp_path, **section), ["demo"])
    except IsthmusError as error:
        looked = str(error)

    assert NAME.casefold() not in f"{refused.value}{looked}{''.join(capsys.readouterr())}".casefold()


def test_prepare_names_images_by_their_ids(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = run(raw, tmp_path / "out")
    params = prepare.Params(scenario=scenario(kind="medical", preprocess={"image_size": 20}))
    paths = {name: out / name for name in ("manifest", "locations", "companions")}
    paths |= {"checkpoints": tmp_path / "work", "masks_target": tmp_path / "masks_target"}
    places = read_table(out / "locations", LOCATIONS).set_index("path")["image_id"]
    image_id = str(places[first(raw).relative_to(raw).as_posix()])
    refusal = medical.Medical._refusal
    monkeypatch.setattr(medical.Medical, "_refusal", lambda self, image: "" if image.pixels.any() else "burned-in")

    first(raw).write_bytes(b"changed")
    with pytest.raises(DataError, match=rf"{image_id}: changed or missing since 'ingest' read it") as changed:
        prepare.run(params, raw=raw, prepared=tmp_path / "prepared", **paths)
    monkeypatch.setattr(medical.Medical, "_refusal", refusal)

    assert NAME not in str(changed.value)
    assert where(_project(tmp_path), "demo", image_id) == [first(raw)]
    with pytest.raises(DataError, match=rf"demo: no image {'0' * 32} in .*locations"):
        where(_project(tmp_path), "demo", "0" * 32)


def test_add_names_no_file_whatever_is_wrong(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = _project(tmp_path)
    sources, target = [raw / "line_a"], raw / "line_b"

    def refused(message: str, **options: Any) -> None:
        with pytest.raises(IsthmusError, match=message) as found:
            add_pair(project, "more", sources, target, "medical", **options)
        assert NAME.casefold() not in f"{found.value}{''.join(capsys.readouterr())}".casefold()

    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", f"{NAME}.png")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", fail)
        refused("image 1 of more: cannot be copied to data/raw/more")
    with monkeypatch.context() as patch:
        patch.setattr("isthmus.data.add.register.DVC", (str(_failing_dvc(tmp_path)),))
        refused("'dvc add' failed in .*; its output may name files and is not shown")
    kept = first(raw).read_bytes()
    shutil.copy(first(raw), raw / "line_a" / "good" / NAME / f"{NAME}-x.png")
    refused(r"1 images .* two classes:\n  file 1 of .*line_a \('isthmus where' finds it\) = file 49 of")
    for path in sorted((raw / "line_b").rglob("*.png")):
        path.write_bytes(b"")
    refused("domain 'line_b': 20 of 20 sampled files cannot be read. First: file 1 of")
    link(raw)
    refused(r"file 25 of .*line_a .*: symbolic link: refused")
    assert where(project, str(raw / "line_a"), "file 1") == [first(raw)]
    assert kept


def test_add_says_that_a_key_will_be_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project, rng = _project(tmp_path), np.random.default_rng(0)
    for number in range(4):
        for place in ("old/x", "old/y", "new"):
            write_dicom(tmp_path / place / f"{NAME}{number}.dcm", rng, f"P{number}", f"1.{number}")
    folders: tuple[list[Path], Path] = ([tmp_path / "old"], tmp_path / "new")

    add_pair(project, "more", *folders, "medical", dry_run=True)

    said = capsys.readouterr().err
    assert "files name patients: before the first run set 'ingest.identity_key'" in said
    assert NAME not in said


def test_add_says_that_a_key_will_be_needed_where_the_source_alone_has_groups(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project, rng = _project(tmp_path), np.random.default_rng(0)
    for number in range(12):
        for place in (f"old/{'xy'[number % 2]}/{number}", f"patients/{number}", "flat"):
            write_dicom(tmp_path / place / f"{number}.dcm", rng, f"P{number}", f"1.{number}")

    add_pair(project, "with_key", [tmp_path / "old"], tmp_path / "flat", "medical", dry_run=True)
    flat = capsys.readouterr().err
    add_pair(project, "without", [tmp_path / "old"], tmp_path / "patients", "medical", dry_run=True)

    assert "files name patients: before the first run set 'ingest.identity_key'" in flat
    assert "files name patients" not in capsys.readouterr().err


def test_folders_of_patients_are_not_taken_for_classes(tmp_path: Path) -> None:
    project, rng = _project(tmp_path), np.random.default_rng(0)
    for number in range(3):
        for k in range(2):
            write_dicom(tmp_path / "old" / f"{NAME}{number}" / f"{k}.dcm", rng, f"P{number}", f"1.{number}")
            write_dicom(tmp_path / "new" / f"{number}-{k}.dcm", rng, "Q", "1.9")

    with pytest.raises(DataError, match="each of its 3 folders holds the images of one patient") as asked:
        add_pair(project, "more", [tmp_path / "old"], tmp_path / "new", "medical")

    assert NAME not in str(asked.value)


@pytest.mark.parametrize(
    ("place", "name", "kind", "message"),
    [
        ("demo", "one", ConfigError, "'one': not a file. Allowed: a number, as in 'file 12', or an image id"),
        ("demo", "97", DataError, "demo: no file 97. There are 96, numbered from 1"),
        ("demo", "0" * 32, DataError, r"locations\.parquet: no such file. Run 'dvc repro ingest@demo' first"),
        ("dmeo", "1", ConfigError, r"dmeo: no scenario and no folder\. Did you mean 'demo'\? Scenarios: demo"),
    ],
)
def test_what_stands_for_no_file_is_refused(
    place: str, name: str, kind: type[Exception], message: str, raw: Path, tmp_path: Path
) -> None:
    project = _project(tmp_path)
    shutil.rmtree(project / "out", ignore_errors=True)

    with pytest.raises(kind, match=message):
        where(project, place, name)


def test_the_numbers_are_those_of_the_scan(raw: Path, tmp_path: Path) -> None:
    found, _ = find_images(raw, scenario(kind="medical"))

    assert where(_project(tmp_path), "demo", "30") == [raw / found[29].path]


def _project(folder: Path, **section: object) -> Path:
    """Writes a params.yaml beside the raw folder, and says where `locations` lie as dvc.yaml does."""
    mine = scenario(kind="medical", preprocess={"image_size": 20}, **section).model_dump(mode="json", exclude_none=True)
    document = {
        "scenarios": {"demo": mine},
        "models": {"small_cnn": {"mode": "full", "backbone": {"name": "small_cnn"}}},
        "methods": {"source_only": {}},
        "gates": {"absolute_floor": {}},
        "seed": 0,
        **{name: {} for name in ("embed", "evaluate", "robustness")},
        "train": {"seeds": [0]},
        "shift": {},
        "select": {"validators": {"entropy": {}}},
    }
    (folder / "params.yaml").write_text(json.dumps(document))
    stages = {
        "ingest": {
            "do": {"cmd": f"x --locations {'out/locations' if (folder / 'out').exists() else 'locations.parquet'}"}
        }
    }
    (folder / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    return folder


def _failing_dvc(folder: Path) -> Path:
    script = folder / "python"
    script.write_text(f"#!/bin/sh\necho {NAME} is broken >&2\nexit 1\n")
    script.chmod(0o755)
    return script
