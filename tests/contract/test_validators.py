"""Every module of `evaluation/validators/` keeps the contract of its folder."""

import math

import numpy as np
import pytest

from isthmus.core import plugins
from isthmus.core.config import validated
from isthmus.core.errors import ConfigError
from isthmus.evaluation.validators import Trial, Validator, ValidatorConfig

FOLDER = "evaluation.validators"
NAMES = plugins.names(FOLDER)


def trial(source: int, target: int, *, constant: bool = False, scale: float = 1.0) -> Trial:
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        values = np.full(shape, 0.1) if constant else rng.normal(size=shape) * scale
        return values.astype(np.float32)

    return Trial(
        source_logits=draw(source, 4),
        source_labels=rng.integers(0, 4, source),
        source_features=draw(source, 6),
        target_logits=draw(target, 4),
        target_features=draw(target, 6),
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_validator_has_options_and_one_final_class(name: str) -> None:
    module = plugins.load(FOLDER, name)
    classes = [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__]

    validators = [c for c in classes if issubclass(c, Validator)]

    assert issubclass(module.Config, ValidatorConfig)
    assert len(validators) == 1
    assert getattr(validators[0], "__final__", False)
    assert isinstance(module.Config().build(), validators[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_validator_names_its_paper_and_its_known_failure(name: str) -> None:
    text = plugins.load(FOLDER, name).__doc__

    assert "https://" in text
    assert "score = " in text
    assert "Known failure:" in text


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "given",
    [
        trial(1, 1),
        trial(20, 1),
        trial(1, 20),
        trial(30, 20, constant=True),
        trial(1, 1, constant=True),
        trial(30, 20, scale=1e4),
        trial(30, 20, scale=1e-6),
    ],
    ids=["one_each", "one_target", "one_source", "constant", "one_constant", "huge", "tiny"],
)
def test_a_score_is_finite_for_odd_inputs(name: str, given: Trial) -> None:
    score = plugins.load(FOLDER, name).Config().build().score(given)

    assert type(score) is float
    assert math.isfinite(score)


@pytest.mark.parametrize("name", NAMES)
def test_a_score_does_not_depend_on_the_order_of_rows(name: str) -> None:
    given, order = trial(40, 30), np.random.default_rng(1).permutation(30)
    validator = plugins.load(FOLDER, name).Config().build()

    shuffled = Trial(
        source_logits=given.source_logits[::-1],
        source_labels=given.source_labels[::-1],
        source_features=given.source_features[::-1],
        target_logits=given.target_logits[order],
        target_features=given.target_features[order],
    )

    assert validator.score(shuffled) == pytest.approx(validator.score(given), abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="tau: Extra inputs are not permitted"):
        validated(plugins.load(FOLDER, name).Config, {"tau": 1}, f"{name}.")
