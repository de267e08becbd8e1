import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field, field_validator, model_validator

from isthmus.adapt import MethodConfig
from isthmus.core.config import Config, load_params, plugin, read_yaml, validated
from isthmus.core.errors import ConfigError


class Inner(Config):
    weight: float = Field(1.0, ge=0)
    name: str


class Params(Config):
    SECTIONS: ClassVar[dict[str, str]] = {}
    inner: Inner
    method: Annotated[MethodConfig, plugin("adapt.methods")]
    seed: int = 3


def load(tmp_path: Path, text: str, method: str = "coral") -> Params:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return load_params(Params, path, {"method": f"methods.{method}"})


GOOD = "inner: {name: a}\nmethods: {coral: {weight: 2.0}, dann: {}}\nseed: 5\n"


def test_sections_become_frozen_typed_objects_and_a_plugin_its_own_config(tmp_path: Path) -> None:
    params = load(tmp_path, GOOD)

    assert (params.inner.name, params.seed) == ("a", 5)
    assert params.method.weight == 2.0
    assert type(params.method).__module__ == "isthmus.adapt.methods.coral"
    with pytest.raises(ValueError, match="frozen"):
        params.inner.name = "b"


def test_a_section_with_a_default_may_be_left_out(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD.replace("seed: 5\n", "")).seed == 3


def test_a_misspelt_key_names_file_key_value_and_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"params.yaml: methods.coral.wieght: Extra.*\(got 1.0\)\. Did you mean 'weight'\? Allowed: .*weight",
    ):
        load(tmp_path, GOOD.replace("weight: 2.0", "wieght: 1.0"))


def test_a_missing_section_names_its_neighbours(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"section 'inner' is missing\. Did you mean 'iner'\? There are: iner, methods, seed"
    ):
        load(tmp_path, GOOD.replace("inner:", "iner:"))


def test_an_unknown_method_names_all_methods(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"no module 'coraal' in isthmus.adapt.methods\. Did you mean 'coral'\? There are: .*dann"
    ):
        load(tmp_path, GOOD.replace("coral:", "coraal:"), "coraal")


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "inner: {weight: -1}\nmethods: {coral: {weight: x}}\nseed: 5\n")

    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "inner.weight: Input should be greater than or equal to 0 (got -1)" in lines[0]
    assert "inner.name: Field required" in lines[1]
    assert "methods.coral.weight: Input should be a valid number" in lines[2]


def test_a_part_of_a_path_can_come_from_another_value(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("chosen: {which: big}\nmodels: {big: {name: b}, small: {name: s}}\n")

    class One(Config):
        model: Inner

    assert load_params(One, path, {"model": "models.[chosen.which]"}).model.name == "b"
    with pytest.raises(ConfigError, match="section 'what' is missing in 'chosen'"):
        load_params(One, path, {"model": "models.[chosen.what]"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("a: [", "not valid YAML"),
        ("- 1\n", r"top level must be a mapping of sections \(got list\)"),
        (
            "seed: 0\n<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> other\n",
            r"line 2: git conflict markers .* 'git checkout --ours params\.yaml' or .*then 'git add params\.yaml'",
        ),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "params.yaml"
    if text is not None:
        path.write_text(text)

    with pytest.raises(ConfigError, match=message):
        read_yaml(path)


class Whole(Config):
    """One field of every type that the models of this project have."""

    number: float = Field(1.0, gt=0, le=9)
    whole: int = 1
    yes: bool = False
    word: str = "a"
    place: Path = Path("a")
    one_of: Literal["a", "b"] = "a"
    several: list[str] = Field(["a", "b"], min_length=2, max_length=3)
    pair: Literal["off"] | tuple[float, Annotated[float, Field(gt=0)]] = "off"
    scale: float | dict[str, float] | None = None
    options: dict[str, Any] = {}
    inner: Inner = Inner(name="a")

    @model_validator(mode="after")
    def _consistent(self) -> "Whole":
        if self.number == 7:
            raise ValueError("number 7 is taken. Use another")
        return self

    @field_validator("word")
    @classmethod
    def _known(cls, word: str) -> str:
        if word == "b":
            raise ValueError("must not be b")
        return word


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"number": "x"}, "number: Input should be a valid number, unable to parse string as a number (got 'x')"),
        ({"number": 10}, "number: Input should be less than or equal to 9 (got 10)"),
        ({"number": 7}, "number 7 is taken. Use another"),
        ({"whole": 1.5}, "whole: Input should be a valid integer, got a number with a fractional part (got 1.5)"),
        ({"whole": None}, "whole: Input should be a valid integer (got None)"),
        ({"yes": "maybe"}, "yes: Input should be a valid boolean, unable to interpret input (got 'maybe')"),
        ({"word": 1}, "word: Input should be a valid string: put it in quotes (got 1)"),
        ({"word": "b"}, "word: must not be b (got 'b')"),
        ({"place": 1}, "place: must be a path (got 1)"),
        ({"one_of": "c"}, "one_of: Input should be 'a' or 'b' (got 'c')"),
        ({"several": ["a"]}, "several: at least 2 needed, 1 there (got ['a'])"),
        ({"several": []}, "several: at least 2 needed, none there (got [])"),
        ({"several": list("abcd")}, "several: at most 3 needed, 4 there (got ['a', 'b', 'c', 'd'])"),
        ({"several": "a"}, "several: must be a list, such as [a, b] (got 'a')"),
        ({"several": ["a", 1]}, "several.1: Input should be a valid string: put it in quotes (got 1)"),
        ({"pair": "on"}, "pair: Input should be 'off'; or must be a list, such as [a, b] (got 'on')"),
        ({"pair": [1]}, "pair: Input should be 'off'; or Field required: entry 2 (got [1])"),
        ({"pair": [1, -1]}, "pair.1: Input should be greater than 0 (got -1)"),
        (
            {"scale": {"a": "x"}},
            "scale.a: Input should be a valid number, unable to parse string as a number (got 'x')",
        ),
        ({"options": [1]}, "options: must be a section: 'name: value' lines, or {name: value} (got [1])"),
        ({"inner": 3}, "inner: must be a section: 'name: value' lines, or {name: value} (got 3)"),
        ({"inner": {}}, "inner.name: Field required"),
        ({"inner": {"name": "a", "nmae": "b"}}, "inner.nmae: Extra inputs are not permitted (got 'b'). Did you mean"),
        ({"word": 10**200}, f"word: Input should be a valid string: put it in quotes (got 1{'0' * 79}...)"),
    ],
)
def test_each_kind_of_mistake_is_a_plain_sentence_without_what_is_behind_it(
    given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        validated(Whole, given, "params.yaml: whole.")

    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"params.yaml: whole{': ' if sentence.startswith('number 7') else '.'}{sentence}")
    assert not re.search(r"\(all\)|Value error|after validation|instance of|<class|literal\[|tuple\[|dict\[", line)


def test_a_section_that_contradicts_itself_is_named_and_not_printed_whole(tmp_path: Path) -> None:
    class Sections(Config):
        whole: Whole

    (tmp_path / "params.yaml").write_text("sections: {mine: {number: 7, word: long}}\n")

    with pytest.raises(ConfigError, match=r"params\.yaml: sections\.mine: number 7 is taken\. Use another$"):
        load_params(Sections, tmp_path / "params.yaml", {"whole": "sections.mine"})


def test_a_lock_of_dvc_with_the_marks_of_a_merge_says_how_to_settle_it(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\n<<<<<<< HEAD\n=======\n>>>>>>> other\n")

    with pytest.raises(ConfigError, match=r"git checkout --theirs dvc\.lock.*Then run 'dvc repro'"):
        read_yaml(tmp_path / "dvc.lock")
