import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from isthmus.core.errors import DataError
from isthmus.data.audit.summary import Bad
from isthmus.data.ingest.scan import _check_domains, find_images, image_id, read_image_facts, scan
from isthmus.data.ingest.table import Found
from tests.dense_folders import dense, write_dense
from tests.raw_folders import CLASSES, scenario, write_raw


def write_table(raw: Path, **changes: object) -> pd.DataFrame:
    paths = sorted(p.relative_to(raw).as_posix() for p in raw.rglob("*.png"))
    frame = pd.DataFrame({"path": paths})
    frame["domain"] = [p.split("/")[0] for p in paths]
    frame["label"] = [p.split("/")[1] for p in paths]
    for name, value in changes.items():
        frame[name] = value
    frame.to_csv(raw / "images.csv", index=False)
    return frame


def test_folders_give_domain_class_and_the_lot_in_the_name(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)
    (raw / "line_a" / "good" / "img-000.png").rename(raw / "line_a" / "good" / "lot-7_img-000.png")

    found, bad = find_images(raw, scenario(group="lot"))

    assert bad == []
    assert len(found) == 8
    assert Found("line_a/good/lot-7_img-000.png", "line_a", "good", "7", None) in found
    assert Found("line_b/crack/img-000.png", "line_b", "crack", None, None) in found


def test_without_target_labels_the_targets_folders_are_only_folders(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)
    (raw / "line_b" / "good").rename(raw / "line_b" / "whatever")
    Image.new("L", (5, 5)).save(raw / "line_b" / "loose.png")

    found, _ = find_images(raw, scenario(target_labels="none"))

    assert [f.label for f in found if f.domain == "line_b"] == [None] * 5


def test_hidden_and_system_files_are_no_images(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)
    for name in (".DS_Store", "Thumbs.db"):
        (raw / "line_a" / "good" / name).write_text("x")

    assert len(find_images(raw, scenario())[0]) == 8


def test_symbolic_links_are_refused_and_never_followed(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", each=2)
    outside = write_raw(tmp_path / "outside", each=1)
    (raw / "line_a" / "good" / "link.png").symlink_to(outside / "line_a" / "good" / "img-000.png")
    (raw / "line_a" / "good" / "folder").symlink_to(outside / "line_a")

    found, bad = find_images(raw, scenario())

    assert len(found) == 8
    assert [(b.path, "symbolic link: refused" in b.reason) for b in bad] == [
        ("line_a/good/folder", True),
        ("line_a/good/link.png", True),
    ]


def test_a_missing_raw_folder_names_key_and_next_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"raw: no such folder, named by 'raw' .*params\.yaml.*isthmus fetch"):
        find_images(tmp_path / "raw", scenario())


def test_a_missing_domain_names_key_near_name_and_what_is_there(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)

    with pytest.raises(
        DataError,
        match=r"line_c: no such folder, named by 'target' .*params\.yaml\. Did you mean 'line_[ab]'\? There are:"
        r" line_a, line_b\nThen run 'dvc repro' again",
    ):
        find_images(raw, scenario(target="line_c"))


def test_a_linked_domain_folder_is_refused(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)
    (raw / "line_b").rename(tmp_path / "elsewhere")
    (raw / "line_b").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(DataError, match="line_b: is a symbolic link: refused"):
        find_images(raw, scenario())


def test_an_unknown_class_folder_is_refused_with_the_allowed_classes(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)
    (raw / "line_a" / "crakc").mkdir()

    with pytest.raises(
        DataError,
        match=r"crakc: class 'crakc' is not among 'classes' .*Did you mean 'crack'\? Allowed: crack, good\.",
    ):
        find_images(raw, scenario())


def test_files_outside_class_folders_are_refused(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)
    Image.new("L", (5, 5)).save(raw / "line_b" / "loose.png")

    with pytest.raises(
        DataError, match=r"1 files lie outside class folders \(loose\.png\).*or set 'target_labels: none'"
    ):
        find_images(raw, scenario())


def test_a_class_without_source_images_is_refused(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)

    with pytest.raises(
        DataError, match=r"class 'dent' of 'classes' .*: no image in the source \(line_a\)\. .*crack, good"
    ):
        find_images(raw, scenario(classes=[*CLASSES, "dent"]))


def test_a_domain_of_one_image_is_refused(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)
    for path in sorted((raw / "line_b").rglob("*.png"))[1:]:
        path.unlink()

    with pytest.raises(DataError, match=r"domain 'line_b', named by 'target' .*: 1 images \(0 refused\)\. At least 2"):
        find_images(raw, scenario())


def test_a_domain_whose_images_are_all_refused_is_told_why(tmp_path: Path) -> None:
    raw = write_dense(tmp_path / "raw", each=3)
    for path in (raw / "one" / "masks").iterdir():
        path.rename(path.with_name(f"mask of {path.name}"))

    with pytest.raises(
        DataError, match=r"domain 'one', .*: 0 images \(6 refused, most because: no file of its name lies in 'masks'\)"
    ):
        find_images(raw, dense())


def test_a_group_that_no_file_name_holds_is_refused(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)

    with pytest.raises(DataError, match=r"'group: lot' .*no file name holds 'lot-<value>_' \(first: line_a/crack"):
        find_images(raw, scenario(group="lot"))


def test_target_labels_from_a_table_need_a_table(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)

    with pytest.raises(DataError, match=r"'target_labels: table' .*there is no images\.csv or images\.parquet"):
        find_images(raw, scenario(target_labels="table"))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_gives_label_group_and_split(kind: str, tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)
    frame = write_table(raw, lot="L1", split=["train"] * 4 + [""] * 4)
    if kind == "parquet":
        (raw / "images.csv").unlink()
        frame.to_parquet(raw / "images.parquet")

    found, _ = find_images(raw, scenario(target_labels="table", group="lot"))

    assert found[0] == Found("line_a/crack/img-000.png", "line_a", "crack", "L1", "train")
    assert found[-1] == Found("line_b/good/img-001.png", "line_b", "good", "L1", None)


def test_with_target_labels_none_a_tables_target_labels_are_not_read(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)
    write_table(raw)

    found, _ = find_images(raw, scenario(target_labels="none"))

    assert {f.label for f in found if f.domain == "line_b"} == {None}


def test_a_table_beside_target_labels_from_folders_is_refused(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)
    write_table(raw)

    with pytest.raises(DataError, match=r"'target_labels: folders' .*but a table defines the images"):
        find_images(raw, scenario())


def test_two_tables_are_refused(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)
    write_table(raw).to_parquet(raw / "images.parquet")

    with pytest.raises(DataError, match=r"holds both images\.csv and images\.parquet\. Keep one"):
        find_images(raw, scenario(target_labels="table"))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)
    write_table(raw)

    with pytest.raises(DataError, match=r"column patient is missing\. There are: path, domain, label\. Known: path"):
        find_images(raw, scenario(target_labels="table", group="patient"))


def test_an_unreadable_table_is_refused(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)
    (raw / "images.parquet").write_text("no parquet")

    with pytest.raises(DataError, match=r"images\.parquet: cannot be read"):
        find_images(raw, scenario(target_labels="table"))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("path", "../../etc/passwd.png", r"path '\.\./\.\./etc/passwd\.png' leaves the raw folder"),
        ("path", "/etc/passwd.png", r"path '/etc/passwd\.png' leaves the raw folder"),
        ("path", "line_a/crack/img-001.png", r"path 'line_a/crack/img-001\.png' is named twice"),
        ("label", "craks", r"label 'craks' .*Did you mean 'crack'\? Allowed: crack, good"),
        ("label", "", r"label of line_a/crack/img-000\.png is empty"),
        ("split", "tset", r"split 'tset' .*Allowed in 'line_a': train, val, cal, test, or empty"),
    ],
)
def test_a_wrong_line_of_a_table_is_refused(column: str, value: str, message: str, tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)
    frame = write_table(raw, split="")
    frame.loc[0, column] = value
    frame.to_csv(raw / "images.csv", index=False)

    with pytest.raises(DataError, match=message):
        find_images(raw, scenario(target_labels="table"))


def test_one_stray_quote_drops_no_image_but_is_refused_with_its_line(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=10)
    write_table(raw)
    lines = (raw / "images.csv").read_text().splitlines()
    lines[5], lines[20] = f'"{lines[5]}', f'{lines[20]}"'  # what lies between becomes one field
    (raw / "images.csv").write_text("\n".join(lines) + "\n")

    with pytest.raises(DataError, match=r"images\.csv: line 6: a field begins with a quote .*it runs to line 21"):
        find_images(raw, scenario(target_labels="table"))


def test_a_quote_that_swallows_lines_and_keeps_the_number_of_fields_is_refused_too(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=10)
    write_table(raw)
    lines = (raw / "images.csv").read_text().splitlines()
    lines[5], lines[20] = f'"{lines[5]}', lines[20].replace(".png", '.png"')
    (raw / "images.csv").write_text("\n".join(lines) + "\n")

    with pytest.raises(DataError, match=r"images\.csv: line 6: .*it runs over 16 lines"):
        find_images(raw, scenario(target_labels="table"))


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        ("Line_A", r"line 2: domain 'Line_A'\. Did you mean 'line_a'\?"),
        ("", r"line 2: domain is empty\. Allowed: line_a"),
    ],
)
def test_a_domain_that_is_nearly_one_is_refused(domain: str, message: str, tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)
    frame = write_table(raw)
    frame.loc[0, "domain"] = domain
    frame.to_csv(raw / "images.csv", index=False)

    with pytest.raises(DataError, match=message):
        find_images(raw, scenario(target_labels="table"))


def test_lines_of_other_domains_and_files_without_a_line_are_counted(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=3)
    frame = write_table(raw)
    frame.loc[0, "domain"] = "another"
    frame.iloc[:-1].to_csv(raw / "images.csv", index=False)

    seen = scan(raw, scenario(target_labels="table"))

    assert (len(seen.found), seen.elsewhere, seen.unlisted) == (10, 1, 2)


def test_a_table_and_the_disk_may_spell_accents_and_spaces_in_their_own_ways(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)
    (raw / "line_a" / "crack").rename(raw / "line_a" / "cafe\u0301")
    (raw / "line_a" / "good" / "img-000.png").rename(raw / "line_a" / "good" / "two\nlines.png")
    frame = write_table(raw)
    frame["label"] = [{"cafe\u0301": "caf\u00e9", "crack": " caf\u00e9"}.get(v, v) for v in frame["label"]]
    frame["path"] = [p.replace("cafe\u0301", "caf\u00e9") for p in frame["path"]]
    frame.to_csv(raw / "images.csv", index=False)

    found, bad = find_images(raw, scenario(target_labels="table", classes=["caf\u00e9", "good"]))

    assert bad == []
    assert [f.label for f in found if f.domain == "line_a"] == ["caf\u00e9"] * 2 + ["good"] * 2
    assert all((raw / f.path).is_file() for f in found)


def test_folders_may_spell_accents_apart(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)
    (raw / "line_a" / "crack").rename(raw / "line_a" / "cafe\u0301")
    (raw / "line_b").rename(raw / "e\u0301")

    found, _ = find_images(raw, scenario(target="\u00e9", target_labels="none", classes=["caf\u00e9", "good"]))

    assert {f.label for f in found} == {"caf\u00e9", "good", None}
    assert {f.domain for f in found} == {"line_a", "\u00e9"}


def test_files_beside_images_are_counted_a_domain_and_kind(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)
    (raw / "line_a" / "notes.txt").write_text("words")
    (raw / "line_a" / "annotations").mkdir()
    (raw / "line_a" / "annotations" / "a.xml").write_text("<a/>")
    (raw / "line_b" / "good" / "img-000.png.aux.xml").write_text("<a/>")
    (raw / "line_b" / ".DS_Store").write_bytes(b"x")

    seen = scan(raw, scenario())

    assert len(seen.found) == 8
    assert seen.beside == {
        "line_a": {"annotations and tables": 2},
        "line_b": {"annotations and tables": 1, "hidden": 1},
    }


def test_a_line_without_its_file_goes_to_quarantine(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=3)
    write_table(raw)
    (raw / "line_a" / "good" / "img-000.png").unlink()

    _, bad = find_images(raw, scenario(target_labels="table"))

    assert bad == [Bad("line_a/good/img-000.png", "line_a", "named in images.csv but not there")]


def test_a_table_cannot_reach_through_a_link(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", each=3)
    write_table(raw)
    (raw / "line_a" / "good").rename(tmp_path / "good")
    (raw / "line_a" / "good").symlink_to(tmp_path / "good")

    with pytest.raises(DataError, match="class 'good' .*no image in the source"):
        find_images(raw, scenario(target_labels="table"))


def test_facts_of_an_image_are_what_was_decoded(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((7, 9), np.uint16)).save(tmp_path / "a.png")

    rows = read_image_facts(tmp_path, Found("a.png", "d", None, None, None))

    assert not isinstance(rows, Bad)
    assert [(r.height, r.width, r.channels, r.dtype, r.part) for r in rows] == [(7, 9, 1, "uint16", "")]


def test_an_identity_depends_on_domain_bytes_and_part() -> None:
    ids = {image_id(d, s, p) for d in ("a", "b") for s in ("0", "1") for p in ("", "1")}

    assert len(ids) == 8
    assert all(len(i) == 32 for i in ids)


def test_a_group_of_a_table_has_no_margins_and_an_empty_one_is_none(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)
    write_table(raw, patient=["P1", "P1 ", " P1", "P2", "P2", "  ", "P3", "P4"])

    found, _ = find_images(raw, scenario(target_labels="table", group="patient"))

    assert [one.group for one in found] == ["P1", "P1", "P1", "P2", "P2", None, "P3", "P4"]


def test_a_name_that_no_disk_can_hold_is_told_as_any_other(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)
    frame = write_table(raw)
    long = [f"line_a/{'x' * 300}.png", f"{'y' * 300}/a.png"]
    for path in long:
        frame.loc[len(frame)] = [path, "line_a", "good"]
    frame.to_csv(raw / "images.csv", index=False)

    _, bad = find_images(raw, scenario(target_labels="table"))

    assert [one.path for one in bad] == long
    assert {one.reason for one in bad} == {"named in images.csv but not there"}


def test_a_stray_quote_that_swallows_a_long_text_is_told_with_its_line(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)
    write_table(raw)
    with (raw / "images.csv").open("a") as stream:
        stream.write(f'"{"x" * 300}\nnext",line_a,good\n')

    with pytest.raises(DataError, match=r"images\.csv: line 10: .*it runs over 2 lines"):
        find_images(raw, scenario(target_labels="table"))


def test_whole_numbers_of_a_parquet_table_stay_whole_beside_an_empty_cell(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, each=2)
    frame = write_table(raw)
    (raw / "images.csv").unlink()
    numbers = [
        int(name == "good") if domain == "line_a" else None for domain, name in frame[["domain", "label"]].values
    ]
    columns = {"path": list(frame["path"]), "domain": list(frame["domain"]), "label": numbers}
    pq.write_table(pa.table(columns), raw / "images.parquet")  # without what pandas adds of its own types

    found, _ = find_images(raw, scenario(target_labels="table", classes=["0", "1"]))

    assert [one.label for one in found] == ["0", "0", "1", "1", None, None, None, None]


def test_a_domain_of_many_refused_files_is_told_at_once() -> None:
    bad = [Bad(f"line_a/{n}.png", "line_a", f"reason {n % 20_000}") for n in range(40_000)]
    start = time.process_time()

    with pytest.raises(DataError, match=r"0 images \(40000 refused, most because: reason 0\)"):
        _check_domains([], bad, scenario(), "")

    assert time.process_time() - start < 5  # 25 s and more where each reason is counted among all
