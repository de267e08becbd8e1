"""What params.yaml spells out, so that `dvc exp run -S` can change it, is what the code takes anyway."""

from pathlib import Path

import pytest

from isthmus.core import plugins
from isthmus.core.names import read_params
from isthmus.models import ModelConfig

SHIPPED = read_params(Path(__file__).parents[2] / "params.yaml")


def test_the_shipped_models_spell_out_defaults() -> None:
    given = SHIPPED["models"]["vit"]

    assert {"epochs", "learning_rate"} <= set(given)
    default = ModelConfig(mode=given["mode"], backbone=given["backbone"])
    # In params.yaml alone: the least number of steps, which small test projects need not pay for, and the weights of
    # classes, which were tried on this model alone (docs/decisions/0048).
    own = {name: given[name] for name in ("min_steps", "class_weights")}
    assert ModelConfig.model_validate(given) == default.model_copy(update=own)


@pytest.mark.parametrize("method", sorted(SHIPPED["methods"]))
def test_the_shipped_methods_spell_out_defaults(method: str) -> None:
    config = plugins.load("adapt.methods", method).Config

    assert config.model_validate(SHIPPED["methods"][method]) == config()


def test_every_weight_of_a_shipped_method_can_be_changed_by_its_name() -> None:
    for method, options in SHIPPED["methods"].items():
        fields = plugins.load("adapt.methods", method).Config.model_fields
        assert {name for name in fields if name.endswith("weight")} <= set(options), method
