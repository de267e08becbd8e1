"""Answers as people bring them: tables and folders; and everything that is refused, with nothing taken."""

from pathlib import Path

import pandas as pd
import pytest

from isthmus.core.errors import DataError
from isthmus.core.files import sha256_file
from isthmus.data.labels.answers import Images, merged, read_answers
from isthmus.data.labels.given import Given
from tests.raw_folders import scenario

IDS = [f"{n:032x}" for n in range(6)]
PATHS = ["line_b/0.png", "line_b/1.png", "line_b/big.tif", "line_b/big.tif", "line_b/test.png", "line_a/crack/s.png"]


@pytest.fixture
def images(tmp_path: Path) -> Images:
    """Two images of the target, a file of two pages, one of the target's test split, one of the source."""
    return made(tmp_path, "natural")


def made(tmp_path: Path, kind: str) -> Images:
    raw = tmp_path / "data/raw/demo"
    for path in PATHS:
        (raw / path).parent.mkdir(parents=True, exist_ok=True)
        (raw / path).write_bytes(path.encode())
    sha256 = [sha256_file(raw / path) for path in PATHS]
    domains = [path.partition("/")[0] for path in PATHS]
    splits = [*["train"] * 4, "test", "train"]
    manifest = pd.DataFrame({"image_id": IDS, "sha256": sha256, "domain": domains, "split": splits})
    locations = pd.DataFrame({"image_id": IDS, "path": PATHS, "part": ["", "", "page 0", "page 1", "", ""]})
    options = {"kind": kind} if kind == "natural" else {"kind": kind, "preprocess": {}}
    return Images(scenario(**options), raw, manifest, locations)


def table(images: Images, text: str) -> Path:
    path = images.raw.parent / "answers.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        f"image_id,class\n{IDS[0]},crack\n{IDS[1]},\n",
        f"number;image_id;purpose;Class\n1;{IDS[0]};measure;crack\n2;{IDS[1]};measure;\n",
        "path,label\nline_b/0.png,crack\n",
        "path,class\ndata/raw/demo/line_b/0.png,crack\n",
        "path,class\nline_b\\0.png, crack \n",
        f"image_id,class\n{IDS[0]},crack\n{IDS[0]},crack\n",
    ],
)
def test_a_table_names_images_by_id_or_path_and_empty_classes_are_no_answers(images: Images, text: str) -> None:
    assert read_answers(table(images, text), images) == {IDS[0]: "crack"}


def test_a_whole_path_a_page_and_a_copy_find_their_image(images: Images) -> None:
    (images.raw / "line_b" / "copy.png").write_bytes(PATHS[0].encode())
    text = f"path,part,class\n{images.raw.absolute()}/line_b/1.png,,good\n"
    text += "line_b/big.tif,page 1,crack\nline_b/copy.png,,crack\n"

    assert read_answers(table(images, text), images) == {IDS[1]: "good", IDS[3]: "crack", IDS[0]: "crack"}


def test_what_was_kept_from_a_spreadsheet_is_found_again(images: Images) -> None:
    odd = images.scenario.model_copy(update={"classes": ["-1", "good"]})
    there = Images(odd, images.raw, images.manifest, images.locations)

    assert read_answers(table(images, f"image_id,class\n{IDS[0]},'-1\n"), there) == {IDS[0]: "-1"}


def test_folders_of_classes_are_found_by_content_whatever_the_files_are_called(images: Images, tmp_path: Path) -> None:
    folder = tmp_path / "sorted"
    for place, path in (("crack/a.png", PATHS[0]), ("good/batch 1/b.png", PATHS[1])):
        (folder / place).parent.mkdir(parents=True)
        (folder / place).write_bytes(path.encode())
    (folder / "notes.txt").write_text("not an image")

    assert read_answers(folder, images) == {IDS[0]: "crack", IDS[1]: "good"}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (f"image_id,class\n{IDS[0]},crak\n", "line 2: no class 'crak'. Did you mean 'crack'\\? Allowed: crack, good"),
        (f"image_id,class\n{'e' * 32},crack\n", "line 2: no such image in 'line_b'"),
        ("path,class\nline_b/none.png,crack\n", "line 2: no such image in 'line_b'"),
        ("path,class\n,crack\n", "line 2: no such image in 'line_b'"),
        ("path,class\nline_b/big.tif,crack\n", "line 2: holds 2 images. Name one by its image_id"),
        (f"image_id,class\n{IDS[5]},crack\n", "line 2: an image of 'line_a', not of the target 'line_b'"),
        (f"image_id,class\n{IDS[4]},crack\n", "line 2: an image of the target's test split, which stays unseen"),
        (
            f"image_id,class\n{IDS[0]},crack\n{IDS[0]},good\n",
            "line 3: 'good', and .*line 2 says 'crack' of the same image. Keep one answer",
        ),
        (f"image_id,answer\n{IDS[0]},crack\n", "columns are image_id, answer. There must be 'class', and 'image_id'"),
        ("class\ncrack\n", "columns are class. There must be 'class', and 'image_id' or 'path'"),
        ("", "columns are none. There must be"),
        (f"image_id,class\n{IDS[0]},\n", "holds no answer. Write a class into the column 'class'"),
    ],
)
def test_what_cannot_be_taken_is_refused(images: Images, text: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        read_answers(table(images, text), images)


def test_all_mistakes_are_told_at_once_and_many_are_cut(images: Images) -> None:
    lines = "".join(f"{IDS[0]},wrong {n}\n" for n in range(30))

    with pytest.raises(DataError, match="Nothing was taken. Correct it and take it again") as refused:
        read_answers(table(images, f"image_id,class\n{lines}"), images)

    assert "line 2: " in str(refused.value) and "line 21: " in str(refused.value)
    assert "line 22: " not in str(refused.value) and "... and 10 more" in str(refused.value)


def test_a_place_that_is_not_there_is_refused(images: Images, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such file or folder. Name a table with the answers"):
        read_answers(tmp_path / "nowhere", images)


@pytest.mark.parametrize(
    ("place", "content", "match"),
    [
        ("a.png", PATHS[0], "a.png: lies in no class folder. Allowed: crack, good"),
        ("crak/a.png", PATHS[0], "crak/a.png: no class 'crak'. Did you mean 'crack'"),
        ("crack/a.png", "another image", "crack/a.png: no such image in 'line_b'"),
        ("crack/a.png", PATHS[2], "crack/a.png: holds 2 images"),
    ],
)
def test_a_file_in_a_folder_that_is_no_answer_is_refused(
    images: Images, tmp_path: Path, place: str, content: str, match: str
) -> None:
    (tmp_path / "sorted" / place).parent.mkdir(parents=True)
    (tmp_path / "sorted" / place).write_bytes(content.encode())

    with pytest.raises(DataError, match=match):
        read_answers(tmp_path / "sorted", images)


def test_a_link_among_the_sorted_files_is_refused(images: Images, tmp_path: Path) -> None:
    (tmp_path / "sorted" / "crack").mkdir(parents=True)
    (tmp_path / "sorted" / "crack" / "a.png").symlink_to("/etc/hostname")

    with pytest.raises(DataError, match="crack/a.png: .*Nothing was taken. Move it away, and take the folder again"):
        read_answers(tmp_path / "sorted", images)


def test_one_image_in_two_class_folders_is_refused(images: Images, tmp_path: Path) -> None:
    for name in ("crack", "good"):
        (tmp_path / "sorted" / name).mkdir(parents=True)
        (tmp_path / "sorted" / name / "a.png").write_bytes(PATHS[0].encode())

    with pytest.raises(DataError, match="'good', and .*crack/a.png says 'crack' of the same image"):
        read_answers(tmp_path / "sorted", images)


@pytest.mark.parametrize("place", ["MUELLER^HANS/a.png", "MUELLER.dcm.png", "crack/MUELLER.png"])
def test_of_medical_files_no_name_is_told(tmp_path: Path, place: str) -> None:
    images = made(tmp_path, "medical")
    (tmp_path / "sorted" / place).parent.mkdir(parents=True)
    (tmp_path / "sorted" / place).write_bytes(b"an image of nobody")

    with pytest.raises(DataError, match="sorted: file 1") as refused:
        read_answers(tmp_path / "sorted", images)

    assert "MUELLER" not in str(refused.value)


def kept(purpose: str, label: str = "crack") -> dict[str, Given]:
    return {IDS[0]: Given(IDS[0], label, purpose, "Ann", "2026-01-02")}  # type: ignore[arg-type]


def test_an_image_that_nobody_was_asked_for_never_enters_the_measurement() -> None:
    asked = {IDS[0]: "measure", IDS[1]: "train"}
    answers = dict.fromkeys(IDS[:3], "crack")

    result = merged({}, answers, asked, "Bob", "2026-02-03", False)  # type: ignore[arg-type]

    assert [result[i].purpose for i in IDS[:3]] == ["measure", "train", "train"]
    assert result[IDS[2]] == Given(IDS[2], "crack", "train", "Bob", "2026-02-03")


def test_the_same_answer_again_changes_nothing() -> None:
    assert merged(kept("train"), {IDS[0]: "crack"}, {}, "Bob", "2026-02-03", False) == kept("train")


def test_another_answer_is_refused_unless_it_shall_replace() -> None:
    with pytest.raises(DataError, match="'crack' was taken of Ann on 2026-01-02, now it is 'good'.*\n.*--replace"):
        merged(kept("measure"), {IDS[0]: "good"}, {}, "Bob", "2026-02-03", False)

    result = merged(kept("measure"), {IDS[0]: "good"}, {}, "Bob", "2026-02-03", True)

    assert result[IDS[0]] == Given(IDS[0], "good", "measure", "Bob", "2026-02-03")


@pytest.mark.parametrize(("first", "later"), [("train", "measure"), ("measure", "train")])
def test_a_label_serves_one_purpose_for_good(first: str, later: str) -> None:
    result = merged(kept(first), {IDS[0]: "good"}, {IDS[0]: later}, "Bob", "2026-02-03", True)  # type: ignore[dict-item]

    assert result[IDS[0]].purpose == first
