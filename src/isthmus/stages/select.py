"""Chooses a method without target labels; opens no file that holds one.

Writes `choice.json`: the chosen method, epoch and seed, whether it is the fallback and why in one sentence; the epoch
taken for each method; every candidate with its scores (means over seeds), the validators that count for it, its rank
in [0, 1] or its reasons to be out; the guards; the preferred methods; the shares of the half step. Only methods named
under `methods:` are looked at: a folder of a method that was dropped is of another time. Features are those of the
backbone before any method trained: what candidates of different methods can be compared by.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from isthmus.core import plugins
from isthmus.core.config import Config, validated
from isthmus.core.errors import ConfigError
from isthmus.core.files import write_json
from isthmus.data.manifest import INDEX, read_table
from isthmus.data.scenario import Scenario
from isthmus.data.shards import Rows
from isthmus.evaluation.selection.advantage import reverse_p_value
from isthmus.evaluation.selection.candidates import Views, measure, views_of, with_half_step
from isthmus.evaluation.selection.choice import SOURCE_ONLY, Candidate, Guards, Leave, choose, half_step
from isthmus.evaluation.trained import Samples, Trained, open_trained, read_samples
from isthmus.evaluation.validators import ValidatorConfig, reverse_validation
from isthmus.stages._cli import stage


class SelectConfig(Guards):
    """Guards, and the validators that rank what passes them."""

    max_images: int = Field(2000, ge=2, description="[image] of each split that scores are taken on; cut by id")
    leave_level: float | None = Field(
        None, gt=0, lt=1, description="[p-value] under which a candidate's advantage over source_only counts; null: any"
    )
    prefer: list[str] = Field([], description="[methods] chosen before any other that passed the guards")
    half_step: bool = Field(
        False, description="average source_only with the preferred, where the first of them is not shown to be better"
    )
    validators: dict[str, SerializeAsAny[ValidatorConfig]] = Field(
        min_length=1, description="modules of isthmus.evaluation.validators, each with its options"
    )

    @field_validator("prefer")
    @classmethod
    def _methods(cls, values: list[str]) -> list[str]:
        allowed = [name for name in plugins.names("adapt.methods") if name != SOURCE_ONLY]
        if wrong := [name for name in values if name not in allowed]:
            raise ValueError(f"{', '.join(wrong)}: no such adapted method. Allowed: {', '.join(allowed)}")
        return values

    @model_validator(mode="after")
    def _half_a_step_from_what(self) -> "SelectConfig":
        if self.half_step and (self.leave_level is None or not self.prefer):
            raise ValueError(
                "half_step: averages source_only with the methods under prefer where leave_level is not passed (got"
                f" prefer {self.prefer}, leave_level {self.leave_level}). Set both, or half_step: false"
            )
        return self

    @field_validator("validators", mode="before")
    @classmethod
    def _by_name(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            raise ValueError(f"must be a mapping. Allowed: {', '.join(plugins.names('evaluation.validators'))}")
        configs, problems = {}, []
        for name, options in values.items():
            try:
                kind = plugins.load("evaluation.validators", str(name)).Config
                configs[name] = validated(kind, options or {}, f"{name}.")
            except ConfigError as error:
                problems.append(str(error))
        if problems:
            raise ValueError("; ".join(problems))
        return configs


class Params(Config):
    """Sections of `params.yaml` that this stage reads; of `methods` only the names matter."""

    SECTIONS: ClassVar[dict[str, str]] = {"scenario": "scenarios.{scenario}"}

    scenario: Scenario
    methods: dict[str, Any]
    select: SelectConfig


def check_methods(params: Params) -> None:
    """Checks that the floor is among the methods.

    Raises:
        ConfigError: it is not.
    """
    if SOURCE_ONLY not in params.methods:
        raise ConfigError(
            f"params.yaml: methods: '{SOURCE_ONLY}' is missing (got {', '.join(params.methods) or 'none'}). It is the"
            f" floor that every choice is held against: add '{SOURCE_ONLY}: {{}}' and run 'dvc repro'"
        )


def run(params: Params, *, manifest: Path, prepared: Path, features: Path, trained: Path, choice: Path) -> None:
    """Reads what was trained, measures every candidate, chooses, writes."""
    scenario, config = params.scenario, params.select
    check_methods(params)
    samples = read_samples(manifest, prepared)
    runs = open_trained(trained, params.methods, scenario.classes, len(samples.label))
    validators = {name: options.build() for name, options in config.validators.items()}
    read = Rows(features, read_table(prepared / "index.parquet", INDEX))
    views = views_of(samples, scenario.source, scenario.target, read.take, config.max_images)
    candidates = measure(runs, views, validators, config)
    of = half_step(candidates, config, len(scenario.classes), config.prefer) if config.half_step else {}
    runs, candidates = with_half_step(runs, candidates, views, of)
    leave = leave_of(config, runs, views, samples)
    made = choose(candidates, config, len(scenario.classes), leave, config.prefer)
    write_json(
        choice,
        {
            "scenario": runs[SOURCE_ONLY].facts.scenario,
            "chosen": {
                "method": made.method,
                "epoch": made.epoch,
                "seed": runs[made.method].facts.seeds[0],  # the first seed ships: none is picked by its result
                "fallback": made.fallback,
                "why": made.why,
            },
            "best_epoch": made.best_epoch,
            "candidates": made.candidates,
            "guards": {name: getattr(config, name) for name in Guards.model_fields},
            "validators": sorted(validators),
            "prefer": config.prefer,
            "leave": made.leave,
            "half_step": {method: share for method, (_, share) in of.items()} or None,
        },
    )


def leave_of(config: SelectConfig, runs: Mapping[str, Trained], views: Views, samples: Samples) -> Leave | None:
    """Returns the test that a candidate must pass before source-only is left, if one is asked for."""
    if config.leave_level is None:
        return None
    options = config.validators.get("reverse_validation", reverse_validation.Config())
    assert isinstance(options, reverse_validation.Config)
    way = options.build()

    def p_value(candidate: Candidate, floor: Candidate) -> float:
        one, other = ((runs[c.method], c.epoch) for c in (candidate, floor))
        return reverse_p_value(one, other, views, samples, way)

    return Leave(config.leave_level, p_value)


if __name__ == "__main__":
    stage(run)
