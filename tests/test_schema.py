"""The schema of `params.yaml` against the shipped file and against mistakes in it."""

import copy
from typing import Any

import jsonschema
import pytest
import yaml

from isthmus.new_project import template
from isthmus.schema import schema
from tests.repo import REPOSITORY

SHIPPED = yaml.safe_load((REPOSITORY / "params.yaml").read_text())


@pytest.fixture(scope="module")
def checker() -> Any:
    found = schema()
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


def test_the_shipped_params_and_those_of_a_new_project_are_valid(checker: Any) -> None:
    assert [error.message for error in checker.iter_errors(SHIPPED)] == []
    assert [error.message for error in checker.iter_errors(yaml.safe_load(template("params.yaml")))] == []
    assert set(SHIPPED) <= set(checker.schema["properties"])


@pytest.mark.parametrize(
    ("place", "value", "wrong"),
    [
        (("methods", "coraal"), {}, "'coraal' was unexpected"),
        (("methods", "coral", "weight"), -1, "-1 is less than the minimum of 0"),
        (("models", "vit", "epochs"), "many", "'many' is not of type 'integer'"),
        (("scenarios", "industrial", "sources"), ["line_a"], "'sources' was unexpected"),
        (("train", "batch_sise"), 4, "'batch_sise' was unexpected"),
        (("seed",), "zero", "'zero' is not of type 'integer'"),
        (("gates", "calibration", "max_eror"), 1, "'max_eror' was unexpected"),
    ],
)
def test_a_mistake_is_found_where_it_is(checker: Any, place: tuple[str, ...], value: Any, wrong: str) -> None:
    document: Any = copy.deepcopy(SHIPPED)
    section = document
    for key in place[:-1]:
        section = section[key]
    section[place[-1]] = value

    errors = [deep for error in checker.iter_errors(document) for deep in (error, *(error.context or []))]

    assert any(wrong in error.message for error in errors), [error.message for error in errors]


def test_options_have_their_meaning_and_unit(checker: Any) -> None:
    options = checker.schema["$defs"]

    described = [field for kind in options.values() for field in kind.get("properties", {}).values()]
    assert sum("description" in field for field in described) > 100
