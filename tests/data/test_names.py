import os

import pytest
from pydantic import ValidationError

from isthmus.data.names import as_text, name_problem, nfc, printable, private_reason, readable, shown_name
from tests.raw_folders import scenario


@pytest.mark.parametrize(
    "name",
    [
        "Corn_(maize)___healthy",
        "R&D",
        "50% worn",
        " lead",
        "trail ",
        "'\"",
        "$x",
        "#1",
        "a.b",
        "-",
        "\U0001f44d\U0001f3fd",
        "\u0915\u094d\u0937",
    ],
)
def test_a_scenario_takes_every_name_that_a_folder_can_have(name: str) -> None:
    made = scenario(classes=[name, "other"], source=[f"{name} a"], target=f"{name} b")

    assert made.classes[0] == made.domains[0].removesuffix(" a") == name


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("a/b", "holds '/'"),
        ("a\0b", "holds a NUL byte"),
        (".a", "begins with a dot"),
        ("", "is empty"),
        ("\udce9", "is not UTF-8"),
    ],
)
def test_a_name_that_no_folder_can_have_is_refused(name: str, problem: str) -> None:
    assert name_problem(name).startswith(problem)
    with pytest.raises(
        (ValidationError, ValueError), match=rf"cannot be a folder's name: it {problem}|surrogate|string"
    ):
        scenario(classes=[name, "other"])


def test_accents_composed_or_apart_are_one_name() -> None:
    apart, composed = "cafe\u0301", "caf\u00e9"

    assert nfc(apart) == readable(apart) == composed
    assert scenario(classes=[apart, "b"]).classes == [composed, "b"]
    with pytest.raises(ValidationError, match="classes contains a duplicate"):
        scenario(classes=[apart, composed])


def test_bytes_that_are_no_utf8_can_be_read_written_and_shown() -> None:
    name = os.fsdecode(b"Ma\xdfe\x81")

    assert readable(name) == "Maße\x81"
    assert as_text(name) == "Ma\\xdfe\\x81"
    assert printable("a\nb\u2028c\x7f") == "a\\nb\\u2028c\\x7f"


def test_a_shown_name_is_the_path_unless_it_may_be_a_patients() -> None:
    assert shown_name("ct/a.dcm", "natural", "file 1") == "ct/a.dcm"
    assert shown_name("ct/a.dcm", "medical", "file 1") == "file 1"


@pytest.mark.parametrize(
    ("reason", "path", "shown"),
    [
        ("no reader for '.HANS'. Known: .dcm", "ct/x.HANS", "no reader for '...'. Known: .dcm"),
        ("cannot open /raw/ct/Hans/a.dcm", "ct/Hans/a.dcm", "cannot open /raw/..."),
        ("hans_mueller is broken", "ct/HANS_MUELLER.dcm", "... is broken"),
        ("no DICOM file", "ct/a.dicom", "no DICOM file"),
    ],
)
def test_a_private_reason_holds_no_part_of_the_path(reason: str, path: str, shown: str) -> None:
    assert private_reason(reason, path, "medical") == shown
    assert private_reason(reason, path, "natural") == reason
