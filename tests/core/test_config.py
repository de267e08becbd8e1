from pathlib import Path
from typing import Annotated, ClassVar

import pytest
from pydantic import Field

from isthmus.adapt import MethodConfig
from isthmus.core.config import Config, load_params, plugin, read_yaml
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
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "params.yaml"
    if text is not None:
        path.write_text(text)

    with pytest.raises(ConfigError, match=message):
        read_yaml(path)
