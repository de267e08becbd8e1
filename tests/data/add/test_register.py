from pathlib import Path

import pytest
import yaml

from isthmus.core.config import read_yaml
from isthmus.core.errors import ConfigError, StoreError
from isthmus.data.add.register import add_section, dvc_add, has_section
from tests.pipelines.tiny_project import init_without_git

TEXT = """# the head
scenarios: # one a pair
  old: # real
    kind: natural   # spaces kept
    classes: ["0", "1"]

pairs: # below
  old: {}
"""
SECTION = {"kind": "industrial", "source": ["a"], "classes": ["0", "no", "x y"], "preprocess": {"image_size": 28}}


def project(folder: Path) -> Path:
    init_without_git(folder)
    return folder


def test_a_section_is_added_and_every_other_byte_stays(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(TEXT)

    add_section(params, "new", SECTION)

    text = params.read_text()
    head, _, tail = TEXT.partition("\npairs:")
    assert text.startswith(head)
    assert text.endswith("\npairs:" + tail)
    assert yaml.safe_load(text)["scenarios"]["new"] == SECTION
    assert list(yaml.safe_load(text)["scenarios"]) == ["old", "new"]


def test_adding_twice_is_adding_once(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(TEXT)
    add_section(params, "new", SECTION)
    once = params.read_text()

    add_section(params, "new", SECTION)

    assert params.read_text() == once
    assert has_section(params, "new")


def test_every_name_that_a_folder_can_have_comes_back_as_it_was(tmp_path: Path) -> None:
    names = [
        "a\tb",
        "a\nb",
        " lead",
        "trail ",
        "#1: [a], {b}",
        "${item}",
        "R&D \"q\" 'x'",
        "-x",
        "- y",
        "\\",
        "%",
        "@a",
        "`b`",
    ]
    names += [
        "no",
        "0x1",
        "1e3",
        "1_000",
        "12:30",
        "~",
        "null",
        "!t",
        "*a",
        "&a",
        "? b",
        "|",
        ">",
        "=",
        "<<",
        "\U0001f44d\U0001f3fd",
    ]
    names += ["\u0915\u094d\u0937", "\u2028", "\x85", "\x7f", "Ma\u00dfe\x81", "\ufeffb", "'", '"', "a" * 255]
    params = tmp_path / "params.yaml"
    params.write_text(TEXT)

    add_section(params, "new", {"target": names[0], "classes": names})

    assert read_yaml(params)["scenarios"]["new"] == {"target": names[0], "classes": names}


@pytest.mark.parametrize(
    "text",
    [
        "seed: 0\nscenarios: {}\n",
        "seed: 0\n",
        "scenarios:\nseed: 0\n",
        "scenarios: {old: {kind: natural}}\nseed: 0\n",
        "seed: 0\nscenarios:\n    old:\n        kind: natural",
    ],
)
def test_other_layouts_of_the_file_get_the_section_too(text: str, tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(text)

    add_section(params, "new", SECTION)

    assert yaml.safe_load(params.read_text())["scenarios"]["new"] == SECTION
    assert yaml.safe_load(params.read_text())["seed" if "seed" in text else "scenarios"] is not None


def test_scenarios_that_are_no_mapping_are_refused(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("scenarios: [a]\n")

    with pytest.raises(ConfigError, match=r"params\.yaml: 'scenarios' must be a mapping of names \(got list\)"):
        has_section(tmp_path / "params.yaml", "a")


def test_dvc_takes_a_folder(tmp_path: Path) -> None:
    project(tmp_path)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.txt").write_text("a")

    dvc_add(tmp_path, Path("raw"))

    assert (tmp_path / "raw.dvc").is_file()


def test_dvcs_own_words_are_passed_on(tmp_path: Path) -> None:
    project(tmp_path)

    with pytest.raises(StoreError, match=r"missing: 'dvc add' failed in .*missing.*run the same command again"):
        dvc_add(tmp_path, Path("missing"))
