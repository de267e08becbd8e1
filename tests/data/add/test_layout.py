"""Folders as people have them: understood, or a question with the choices. Nothing is decoded here."""

import itertools
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from isthmus.core.errors import ConfigError, DataError
from isthmus.data.add.plan import Plan, check_contradictions, domain_names, make_plan

_NUMBER = itertools.count()


def put(folder: Path, paths: Iterable[str]) -> Path:
    """Writes files of different bytes, and folders where a path ends in '/'."""
    for path in paths:
        place = folder / path
        if path.endswith("/"):
            place.mkdir(parents=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(f"{next(_NUMBER):06d}".encode())
    return folder


def images(*folders: str, each: int = 2) -> list[str]:
    return [f"{folder}/{name}.png".lstrip("/") for folder in folders for name in "abcdefghijklm"[:each]]


def source(tmp_path: Path, *paths: str, name: str = "old") -> Path:
    return put(tmp_path / name, paths or images("crack", "good"))


@pytest.mark.parametrize(("folders", "task"), [(("images", "masks"), "segmentation"), (("a", "b", "masks"), "change")])
@pytest.mark.parametrize("masked", ["old", "new"])
def test_folders_with_masks_are_refused_with_the_task_to_set_and_may_be_classes(
    folders: tuple[str, ...], task: str, masked: str, tmp_path: Path
) -> None:
    old = source(tmp_path, *images(*(folders if masked == "old" else ("crack", "good"))))
    new = target(tmp_path, *images(*(folders if masked == "new" else ("",))))

    with pytest.raises(DataError, match=rf"{masked}: holds .*masks/: images with masks.*'--task {task} --classes"):
        plan(old, new)
    if masked == "old":
        assert set(plan(old, new, classes=folders).scenario.classes) == set(folders)


@pytest.mark.parametrize("beside", ["boxes.json", "labels/a.txt", "annotations/a.xml"])
def test_folders_with_boxes_are_refused_with_the_task_to_set(beside: str, tmp_path: Path) -> None:
    old, new = source(tmp_path, *images("images")), target(tmp_path)
    (old / beside).parent.mkdir(exist_ok=True)
    (old / beside).write_text("{}")

    with pytest.raises(DataError, match=r"old: holds images/ and .*: images with boxes\. Add '--task detection'"):
        plan(old, new)


def target(tmp_path: Path, *paths: str) -> Path:
    return put(tmp_path / "new", paths or images(""))


def plan(old: Path, new: Path, kind: str = "natural", **options: object) -> Plan:
    chosen = {"classes": None, "target_labels": None, "group": None} | options
    return make_plan("mine", [old], new, kind, **chosen)  # type: ignore[arg-type]


def text(made: Plan) -> str:
    return "\n".join(made.lines())


def labels(made: Plan, domain: str) -> dict[str, int]:
    return made.layouts[domain].counts()


def test_folders_of_classes_are_counted_and_a_flat_target_has_no_labels(tmp_path: Path) -> None:
    made = plan(source(tmp_path, *images("crack", "good", each=3)), target(tmp_path))

    assert made.section["classes"] == ["crack", "good"]
    assert (made.section["target_labels"], made.table) == ("none", False)
    assert "source 'old' (" in text(made) and "6 images, classes from folders: crack 3, good 3" in text(made)
    assert "2 images, no labels" in text(made)
    assert "its images are not in class folders, and no table beside them names their classes" in text(made)
    assert "target labels: none" in text(made)
    assert {c.to for c in made.copies()} >= {"old/crack/a.png", "new/a.png"}


@pytest.mark.parametrize(
    ("old", "new", "alias"),
    [
        ("crack", "Crack", "folder Crack is class 'crack'"),
        ("caf\u00e9", "cafe\u0301", "is class 'caf\u00e9'"),
        ("cafe\u0301", "caf\u00e9", "is class 'caf\u00e9'"),
        ("GOOD ONE", "good one", "folder good one is class 'GOOD ONE'"),
    ],
)
def test_capitals_and_the_spelling_of_accents_do_not_cost_the_targets_labels(
    old: str, new: str, alias: str, tmp_path: Path
) -> None:
    made = plan(source(tmp_path, *images(old, "other")), target(tmp_path, *images(new, "other")))

    assert made.section["target_labels"] == "folders"
    assert sum(labels(made, "new").values()) == 4
    assert alias in text(made)


def test_a_class_that_the_target_lacks_is_said(tmp_path: Path) -> None:
    made = plan(source(tmp_path), target(tmp_path, *images("good")))

    assert made.section["target_labels"] == "folders"
    assert "(crack without images there)" in text(made)


def test_one_folder_more_in_the_target_is_a_question_with_its_choices(tmp_path: Path) -> None:
    old, new = source(tmp_path), target(tmp_path, *images("crack", "good", "unknown"))

    with pytest.raises(
        DataError, match=r"folders of the source's classes \(crack, good\), and beside them 1 folders"
    ) as asked:
        plan(old, new)

    assert "(unknown: 2 images)" in str(asked.value)
    assert "'--target-labels none'" in str(asked.value) and "'--classes'" in str(asked.value)
    assert labels(plan(old, new, classes=["crack", "good"]), "new") == {"crack": 2, "good": 2}
    assert "left out: unknown: 2 images" in text(plan(old, new, classes=["crack", "good"]))
    none = plan(old, new, target_labels="none")
    assert (none.section["target_labels"], len(none.layouts["new"].files)) == ("none", 6)


@pytest.mark.parametrize("new", ["cracks", "crakc"])
def test_folders_that_are_nearly_classes_are_a_question_and_never_dropped(new: str, tmp_path: Path) -> None:
    old = source(tmp_path)

    for number, folders in enumerate([(new, "whatever"), (new,)]):
        with pytest.raises(DataError, match=rf"have names close to classes of the source \({new} for class crack\)"):
            plan(old, put(tmp_path / f"n{number}", images(*folders)))


def test_the_only_class_of_a_target_is_no_wrapper(tmp_path: Path) -> None:
    assert labels(plan(source(tmp_path), target(tmp_path, *images("Crack"))), "new") == {"crack": 2}


def test_folders_that_are_no_classes_at_all_are_only_folders(tmp_path: Path) -> None:
    made = plan(source(tmp_path), target(tmp_path, *images("2024-01-01", "2024-01-02")))

    assert made.section["target_labels"] == "none"
    assert "its 2 folders (2024-01-01, 2024-01-02) are not classes of the source" in text(made)


def test_images_beside_folders_of_classes_in_the_target_are_a_question(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="beside them 2 images outside folders that are none"):
        plan(source(tmp_path), target(tmp_path, *images("crack", "good", "")))


def test_wanted_labels_that_are_not_there_are_refused(tmp_path: Path) -> None:
    old, new = source(tmp_path), target(tmp_path)

    with pytest.raises(DataError, match=r"'--target-labels folders', but no folder in it is a class \(crack, good\)"):
        plan(old, new, target_labels="folders")
    with pytest.raises(DataError, match="'--target-labels table', but no table in it names its images"):
        plan(old, new, target_labels="table")


def test_some_of_the_classes_may_be_taken_and_the_rest_is_counted(tmp_path: Path) -> None:
    old = source(tmp_path, *images("crack", "good", "dent"))

    made = plan(old, target(tmp_path), classes=["good", "crack"])

    assert made.section["classes"] == ["good", "crack"]
    assert "left out: dent: 2 images" in text(made)
    assert len(list(made.copies())) == 6


def test_a_class_that_was_asked_for_and_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"class 'dent' .*no image in the source \(old\)\. Classes with images: crack\. Left out: good"
    ):
        plan(source(tmp_path), target(tmp_path), classes=["crack", "dent"])


@pytest.mark.parametrize(
    "paths",
    [
        images("train/crack", "train/good", "test/crack", "test/good"),
        images("Train/crack", "Train/good", "TEST/crack", "TEST/good"),
        images("crack/train", "crack/test", "good/train", "good/test"),
        images("data/train/crack", "data/train/good", "data/test/crack", "data/test/good"),
        images("train/images/crack", "train/images/good", "test/images/crack", "test/images/good"),
    ],
    ids=["image folder", "capitals", "below", "wrapped", "wrapped inside"],
)
def test_folders_of_splits_are_no_classes_and_the_splits_are_kept(paths: list[str], tmp_path: Path) -> None:
    made = plan(source(tmp_path, *paths), target(tmp_path))

    assert made.section["classes"] == ["crack", "good"]
    assert made.table
    assert "splits as given: test 4, train 4" in text(made)
    assert made.table_text().splitlines()[0] == "path,domain,label,split,group"
    assert made.table_text().count(",old,crack,train,") == made.table_text().count(",old,good,test,") == 2


def test_validation_images_of_a_target_test_where_no_others_do(tmp_path: Path) -> None:
    old = source(tmp_path)
    three = plan(old, put(tmp_path / "three", images("train/good", "val/good", "test/good")))
    two = plan(old, put(tmp_path / "two", images("train/good", "val/good")))

    assert "splits as given: test 2, train 4" in text(three)
    assert "splits as given: test 2, train 2" in text(two)


@pytest.mark.parametrize("split", ["train", "val", "TEST"])
def test_a_split_without_another_is_a_folder_like_any_other(split: str, tmp_path: Path) -> None:
    made = plan(
        source(tmp_path, *images(f"{split}/crack", f"{split}/good")), put(tmp_path / "new", images(f"{split}/good"))
    )

    assert made.section["classes"] == ["crack", "good"]
    assert not made.table and f"{split}: the only split, so 'ingest' divides its images" in text(made)
    assert "splits as given" not in text(made)


def test_a_class_that_is_called_train_stays_one(tmp_path: Path) -> None:
    made = plan(source(tmp_path, *images("train", "car", "bus")), target(tmp_path))

    assert made.section["classes"] == ["bus", "car", "train"]


def test_splits_beside_other_folders_are_a_question(tmp_path: Path) -> None:
    old = source(tmp_path, *images("train/crack", "train/good", "test/crack", "test/good", "more/crack"))

    with pytest.raises(DataError, match="test, train look like splits, but 1 more folders lie beside them"):
        plan(old, target(tmp_path))


@pytest.mark.parametrize(
    "paths",
    [
        images("set/crack", "set/good"),
        images("a/b/c/crack", "a/b/c/good"),
        [*images("set/crack", "set/good"), "notes.txt"],
    ],
)
def test_folders_that_wrap_everything_are_no_classes(paths: list[str], tmp_path: Path) -> None:
    made = plan(source(tmp_path, *paths), target(tmp_path, *images("wrap/crack", "wrap/good")))

    assert made.section["classes"] == ["crack", "good"]
    assert made.section["target_labels"] == "folders"
    assert {"old/crack/a.png", "new/good/a.png"} <= {c.to for c in made.copies()}


def test_sources_of_one_class_each_are_no_wrappers(tmp_path: Path) -> None:
    one, two = source(tmp_path, *images("good")), source(tmp_path, *images("crack", "good"), name="older")

    made = make_plan("mine", [one, two], target(tmp_path), "natural", None, None, None)

    assert made.section["classes"] == ["crack", "good"]
    assert labels(made, "old") == {"good": 2}


def test_two_levels_that_may_each_be_the_classes_are_a_question_that_classes_answer(tmp_path: Path) -> None:
    old = source(tmp_path, *images("day1/crack", "day1/good", "day2/crack", "day2/good"))

    with pytest.raises(
        DataError, match=r"each of its 2 folders \(day1, day2\) holds the same 2 folders \(crack, good\)"
    ):
        plan(old, target(tmp_path))

    assert labels(plan(old, target(tmp_path), classes=["crack", "good"]), "old") == {"crack": 4, "good": 4}
    assert labels(plan(old, target(tmp_path), classes=["day1", "day2"]), "old") == {"day1": 4, "day2": 4}


def test_two_folders_that_differ_in_capitals_alone_are_a_question(tmp_path: Path) -> None:
    old = source(tmp_path, *images("Crack", "crack", "good"))

    with pytest.raises(DataError, match=r"2 folders \(Crack, crack\) differ only in upper and lower case"):
        plan(old, target(tmp_path))
    assert labels(plan(old, target(tmp_path), classes=["Crack", "crack", "good"]), "old") == {
        "Crack": 2,
        "crack": 2,
        "good": 2,
    }


def test_two_spellings_of_one_accent_are_one_class_and_no_file_is_lost(tmp_path: Path) -> None:
    old = source(tmp_path, *images("caf\u00e9", "cafe\u0301", "good"))

    made = plan(old, target(tmp_path))

    assert labels(made, "old") == {"caf\u00e9": 4, "good": 2}
    assert len({c.to for c in made.copies() if c.domain == "old"}) == 6


def test_sub_folders_of_classes_become_groups_where_there_are_enough_of_them(tmp_path: Path) -> None:
    many = [f"{c}/p{n}/{k}.png" for c in ("crack", "good") for n in range(6) for k in range(2)]
    old = source(tmp_path, *[p.replace("good/p", "good/q") for p in many])
    few = source(tmp_path, *images("crack/left", "crack/right", "good/left", "good/middle"), name="few")

    made = plan(old, target(tmp_path))

    assert made.section["group"] == "group"
    assert "groups that stay in one split: 12, by sub-folder" in text(made)
    assert "old/crack/p0/0.png,old,crack,,p0" in made.table_text()
    assert "group" not in plan(old, target(tmp_path), group="none").section
    assert "sub-folders of classes (3) are not used; '--group folder' keeps" in text(plan(few, target(tmp_path)))
    assert plan(few, target(tmp_path), group="folder").section["group"] == "group"


def test_sub_folders_of_an_unlabelled_target_are_groups_where_those_of_a_source_are(tmp_path: Path) -> None:
    old = source(tmp_path, *(f"{c}/{c[0]}{n}/{k}.png" for c in ("crack", "good") for n in range(6) for k in range(2)))
    new = target(tmp_path, *(f"q{n}/{k}.png" for n in range(10) for k in range(2)))
    few = put(tmp_path / "few", images("left", "right"))
    flat = source(tmp_path, name="flat")

    made = plan(old, new)

    assert "groups that stay in one split: 10, by sub-folder" in text(made)
    assert "new/q0/0.png,new,,,q0" in made.table_text()
    assert {f.group for f in plan(old, few).layouts["few"].files} == {None}
    assert "group" not in plan(flat, new).section
    assert {f.group for f in plan(old, new, group="none").layouts["new"].files} == {None}


def test_an_entity_in_file_names_can_be_the_group_and_is_pointed_out(tmp_path: Path) -> None:
    old = source(tmp_path, *(f"{c}/lot-{n}_x.png" for c in ("crack", "good") for n in range(3)))

    assert "'--group lot' keeps these together" in text(plan(old, target(tmp_path)))
    made = plan(old, target(tmp_path), group="lot")
    assert (made.section["group"], made.table) == ("lot", False)
    with pytest.raises(DataError, match="'--group patient', but no file name in .* holds 'patient-<value>_'"):
        plan(old, target(tmp_path), group="patient")
    with pytest.raises(DataError, match="'--group folder', but no image of .* lies in a sub-folder"):
        plan(old, target(tmp_path), group="folder")


TABLES = {
    "labels.csv": "path,label\nimages/a.png,crack\nimages/b.png,good\nimages/c.png,good\nimages/d.png,crack\n",
    "names only": "filename;class\na.png;crack\nb.png;good\nc.png;good\nd.png;crack\n",
    "without suffix": "image_id,dx,patient_id\na,crack,1\nb,good,2\nc,good,2\nd,crack,3\n",
    "tabs": "\tfile\tdefect\n0\ta.png\tcrack\n1\tb.png\tgood\n2\tc.png\tgood\n3\td.png\tcrack\n",
    "odd column": "n,file,what\n1,a.png,crack\n2,b.png,good\n3,c.png,good\n4,d.png,crack\n",
    "backslashes": "path,label\n.\\images\\a.png,crack\nimages\\b.png,good\nimages\\c.png,good\nimages\\d.png,crack\n",
}


@pytest.mark.parametrize("table", TABLES)
def test_images_beside_a_table_that_names_them_are_labelled_by_it(table: str, tmp_path: Path) -> None:
    old = source(tmp_path, *images("images", each=4))
    (old / "labels.csv").write_text(TABLES[table])

    made = plan(old, target(tmp_path))

    assert labels(made, "old") == {"crack": 2, "good": 2}
    assert made.table and "classes from a table" in text(made)
    assert "labels.csv is read: files from" in text(made)
    assert "old/images/a.png,old,crack,," in made.table_text()
    assert ("group" in made.section) == (table == "without suffix")


def test_a_flat_folder_with_a_table_and_splits_in_it(tmp_path: Path) -> None:
    old = source(tmp_path, *images("", each=4))
    (old / "meta.csv").write_bytes(
        "path,class,split\na.png,Bäcker,train\nb.png,x,train\nc.png,x,valid\nd.png,x,test\n".encode("cp1252")
    )

    made = plan(old, target(tmp_path))

    assert labels(made, "old") == {"Bäcker": 1, "x": 3}
    assert "splits as given: test 1, train 2, val 1" in text(made)


def test_what_a_table_does_not_name_or_names_in_vain_is_counted(tmp_path: Path) -> None:
    old = source(tmp_path, *images("", each=5))
    (old / "labels.csv").write_text("path,label\na.png,crack\nb.png,good\nc.png,good\nzz.png,good\nd.png,crack\n")

    made = plan(old, target(tmp_path))

    assert "left out: not in labels.csv: 1 images" in text(made)
    assert "1 lines of labels.csv name missing files" in text(made)


def test_a_target_is_labelled_by_a_table_too(tmp_path: Path) -> None:
    new = target(tmp_path, *images("", each=3))
    (new / "labels.csv").write_text("file,label\na.png,Crack\nb.png,good\n")

    made = plan(source(tmp_path), new)

    assert made.section["target_labels"] == "table"
    assert labels(made, "new") == {"crack": 1, "good": 1}
    assert len(made.layouts["new"].files) == 3
    assert "old/crack/a.png,old,crack,," in made.table_text()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "path,a,b\na.png,x,u\nb.png,y,v\nc.png,x,v\nd.png,y,u\n",
            "which column holds their classes\\? There are: a, b",
        ),
        ("path,label\na.png,x\nb.png,\nc.png,x\nd.png,y\n", "1 images have no label in labels.csv"),
        ("path,label\na.png,x\na.png,y\nc.png,x\nd.png,y\n", "lines 2 and 3 give different values for a.png"),
        ('path,label\na.png,x\n"b.png,y\nc.png,x\nd.png,y\n', "line 3: a field begins with a quote that is not closed"),
    ],
)
def test_a_table_that_is_not_clear_is_a_question(table: str, message: str, tmp_path: Path) -> None:
    old = source(tmp_path, *images("", each=4))
    (old / "labels.csv").write_text(table)

    with pytest.raises(DataError, match=message):
        plan(old, target(tmp_path))


def test_a_table_of_a_target_with_other_or_nearly_right_labels_is_a_question(tmp_path: Path) -> None:
    old, new = source(tmp_path), target(tmp_path, *images("", each=3))

    def with_labels(*labels: str, **options: object) -> Plan:
        rows = "".join(f"{name}.png,{label}\n" for name, label in zip("abc", labels, strict=True))
        (new / "labels.csv").write_text(f"path,label\n{rows}")
        return plan(old, new, **options)

    with pytest.raises(DataError, match=r"labels.csv has labels of the source's classes, and 1 \(dust\) that are none"):
        with_labels("crack", "good", "dust")
    with pytest.raises(
        DataError, match=r"labels of labels.csv have names close to classes .* \(cracks for class crack"
    ):
        with_labels("cracks", "goods", "x")
    assert "left out: label dust: 1 images" in text(with_labels("crack", "good", "dust", classes=["crack", "good"]))
    none = with_labels("7", "8", "9")
    assert none.section["target_labels"] == "none"
    assert "labels.csv names its images, but holds no class of the source" in text(none)


def test_sources_that_spell_a_class_each_in_its_own_way_are_a_question(tmp_path: Path) -> None:
    one, two = source(tmp_path), source(tmp_path, *images("Crack", "good"), name="older")

    with pytest.raises(
        DataError, match=r"1 classes differ only in upper and lower case \('crack' in old, 'Crack' in older\)"
    ):
        make_plan("mine", [one, two], target(tmp_path), "natural", None, None, None)

    made = make_plan("mine", [one, two], target(tmp_path), "natural", ["crack", "good"], None, None)
    assert labels(made, "older") == {"crack": 2, "good": 2}


def test_what_says_two_things_of_one_image_is_a_question(tmp_path: Path) -> None:
    nested = source(tmp_path, *images("crack", "good/crack"))
    tables = source(tmp_path, *images("", each=2), name="tables")
    (tables / "one.csv").write_text("path,label\na.png,x\nb.png,y\n")
    (tables / "two.csv").write_text("path,label\na.png,x\nb.png,x\n")

    with pytest.raises(DataError, match="good/crack/a.png lies in folders of several classes: good, crack"):
        plan(nested, target(tmp_path), classes=["crack", "good"])
    with pytest.raises(DataError, match="one.csv and two.csv give different classes for b.png"):
        plan(tables, target(tmp_path))


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(DataError, match="file: is not a folder"):
        plan(tmp_path / "file", target(tmp_path))


def test_images_without_folders_or_table_are_refused_with_both_ways(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 images lie outside class folders .* one folder a class, or write a table"):
        plan(source(tmp_path, *images("")), target(tmp_path))


def test_an_empty_folder_beside_the_classes_is_a_question(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 folders beside those of the classes are empty \(dent\)"):
        plan(source(tmp_path, *images("crack", "good"), "dent/"), target(tmp_path))


def test_what_systems_and_other_programs_leave_is_ignored_and_counted(tmp_path: Path) -> None:
    junk = [
        ".DS_Store", "crack/._a.png", "__MACOSX/crack/._a.png", "crack/@eaDir/a.png/SYNOFILE.jpg", "Thumbs.db",
        "#recycle/a.png", "System Volume Information/x", "lost+found/", "labels/a.txt", "good/a.json", "good/a.tfw",
        "good/a.png.aux.xml", "LICENSE", "README.md", "SHA256SUMS",
    ]  # fmt: skip

    made = plan(source(tmp_path, *images("crack", "good"), *junk), target(tmp_path))

    assert made.section["classes"] == ["crack", "good"]
    assert len(made.layouts["old"].files) == 4
    assert "annotations and tables 3, checksums 1, documents 2, geographic side files 1, hidden 2, system 6" in text(
        made
    )


@pytest.mark.parametrize(
    "names",
    [
        [
            "Corn_(maize)___healthy",
            "R&D",
            "50% worn",
            "don't",
            'say "x"',
            "a$b",
            "#1",
            " lead",
            "trail ",
            "\U0001f44d\U0001f3fd",
        ],
        ["a,b", "c;d", "e|f", "g\\h", "i\nj", "k: l", "- m", "[n", "{o}", "*p", "!q", "null", "no", "0x10", "1e3", "~"],
        [
            "\u0915\u094d\u0937",
            "\u0e01\u0e33",
            "\u4e2d\u6587",
            "\u0627\u0644\u0639\u0631\u0628\u064a\u0629",
            "caf\u00e9",
        ],
    ],
    ids=["signs", "yaml and csv", "scripts"],
)
def test_classes_and_domains_can_be_called_what_folders_can(names: list[str], tmp_path: Path) -> None:
    old = source(tmp_path, *images(*names), name=names[0])
    new = put(tmp_path / names[1], images(*names))

    made = plan(old, new)

    assert made.section["classes"] == sorted(names)
    assert made.section["source"] == [names[0]]
    assert made.section["target_labels"] == "folders"


def test_names_that_are_no_utf8_are_read_as_latin_letters_and_nothing_is_lost(tmp_path: Path) -> None:
    old = source(tmp_path, *images("crack"))
    odd = Path(os.fsdecode(os.fsencode(old) + b"/Ma\xdfe"))
    odd.mkdir()
    (odd / os.fsdecode(b"\xe9.png")).write_bytes(b"1")
    (odd / "b.png").write_bytes(b"2")

    made = plan(old, target(tmp_path))

    assert made.section["classes"] == ["Maße", "crack"]
    assert {"old/Maße/é.png", "old/Maße/b.png"} <= {c.to for c in made.copies()}
    assert text(made).encode()


def test_names_that_no_folder_can_have_are_refused(tmp_path: Path) -> None:
    old = source(tmp_path, *images("", each=4))
    (old / "labels.csv").write_text("path,label\na.png,a/b\nb.png,a/b\nc.png,.d\nd.png,.d\n")

    with pytest.raises(ConfigError, match=r"cannot be a folder's name: it begins with a dot"):
        plan(old, target(tmp_path))


def test_folders_of_one_name_get_domains_of_their_own(tmp_path: Path) -> None:
    one, two, three = (
        put(tmp_path / place, images("crack", "good")) for place in ("x/a/images", "x/b/images", "y/b/images")
    )

    assert domain_names([one, two], "natural") == ["a_images", "b_images"]
    assert domain_names([one, two, three], "natural") == ["a_images", "x_b_images", "y_b_images"]
    with pytest.raises(DataError, match="two folders are named 'images': they are one folder"):
        domain_names([one, one], "natural")


def test_the_same_bytes_under_two_classes_or_in_both_domains_are_found_without_decoding(tmp_path: Path) -> None:
    old, new = source(tmp_path), target(tmp_path)
    large = os.urandom(200_000)
    (old / "crack" / "a.png").write_bytes(large)
    (old / "good" / "copy.png").write_bytes(large)
    (new / "a.png").write_bytes((old / "good" / "a.png").read_bytes())
    (old / "good" / "other.png").write_bytes(large[:-1] + b"x")  # the same size and beginning
    made = plan(old, new)

    with pytest.raises(
        DataError, match=r"1 images have identical bytes under two classes:\n  .*crack/a.png = .*copy.png"
    ) as found:
        check_contradictions(made, "refuse")

    assert "1 images of the target are identical to images of a source:" in str(found.value)
    assert "other.png" not in str(found.value)
    assert "--contradictions keep" in str(found.value)
    assert len(check_contradictions(made, "keep")) == 4


def test_of_medical_images_no_question_names_a_file_or_a_folder(tmp_path: Path) -> None:
    name = "MUELLER_HANS"
    old = source(tmp_path)
    cases = [
        (source(tmp_path, *images("crack", "good"), f"{name}/", name="e"), target(tmp_path)),
        (source(tmp_path, f"{name}.dcm", "b.dcm", name="f"), target(tmp_path)),
        (old, put(tmp_path / "n1", images("crack", name))),
        (old, put(tmp_path / "n2", [*images("crack"), f"{name}.dcm"])),
        (source(tmp_path, *images(f"{name}/a", f"{name}/b", "x/a", "x/b"), name="g"), target(tmp_path)),
        (source(tmp_path, *images(name, name.lower(), "b"), name="h"), target(tmp_path)),
    ]
    for one, two in cases:
        with pytest.raises(DataError) as asked:
            plan(one, two, kind="medical")
        assert name.casefold() not in str(asked.value).casefold()
