"""Chooses what answers on the target without its labels; opens no file that holds one.

Writes `choice.json`: the chosen method, epoch and seed, whether it is the fallback and why in one sentence; the epoch
of each method, its last; every candidate with what was measured (means over seeds) and why the guards refused it; the
guards; the networks whose mean answers. Only methods named under `methods:` are looked at: a folder of a method that
was dropped is of another time.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, SerializeAsAny, field_validator

from isthmus.core import plugins
from isthmus.core.config import Config, validated
from isthmus.core.errors import ConfigError
from isthmus.core.files import write_json
from isthmus.data.scenario import Scenario
from isthmus.evaluation.guards import TaskGuards
from isthmus.evaluation.selection.candidates import candidate, measure, views_of
from isthmus.evaluation.selection.choice import ENSEMBLE, SOURCE_ONLY, Guards, Part, choose
from isthmus.evaluation.selection.ensemble import Ensemble, seeds_of
from isthmus.evaluation.trained import open_trained, read_samples
from isthmus.evaluation.validators import ValidatorConfig
from isthmus.stages._cli import stage


class SelectConfig(Guards):
    """Which methods answer, the guards that may refuse them, and scores that are reported beside."""

    average: list[str] | dict[str, list[str]] = Field(
        default_factory=dict,
        description="[methods] whose mean answers, all adapted ones where none is under methods; source_only can be one"
        " of them, or answer alone: a list for every task, or a list a task; what is not named is as the task's module"
        " says",
    )
    max_images: int = Field(2000, ge=2, description="[image, or cell] of each split that candidates are measured on")
    validators: dict[str, SerializeAsAny[ValidatorConfig]] = Field(
        default_factory=dict, description="modules of isthmus.evaluation.validators, each with its options; reported"
    )

    @field_validator("average")
    @classmethod
    def _methods(cls, given: list[str] | dict[str, list[str]]) -> list[str] | dict[str, list[str]]:
        tasks = plugins.names("evaluation.guards")
        if isinstance(given, dict) and (wrong := [name for name in given if name not in tasks]):
            raise ValueError(f"{', '.join(wrong)}: no such task. Allowed: {', '.join(tasks)}")
        allowed = plugins.names("adapt.methods")
        for values in given.values() if isinstance(given, dict) else [given]:
            if wrong := [name for name in values if name not in allowed]:
                raise ValueError(f"{', '.join(wrong)}: no such method. Allowed: {', '.join(allowed)}")
        return given

    def average_of(self, task: str, default: Sequence[str]) -> list[str]:
        """Returns the methods whose mean answers for a task."""
        return self.average if isinstance(self.average, list) else self.average.get(task, list(default))

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
    """Checks that the floor is among the methods, and that those that answer together can.

    Raises:
        ConfigError: it is not, or they cannot.
    """
    task: TaskGuards = plugins.load("evaluation.guards", params.scenario.task).Guards()
    _check_average(params.select.average_of(params.scenario.task, task.average), task, params.scenario.task)
    if SOURCE_ONLY not in params.methods:
        raise ConfigError(
            f"params.yaml: methods: '{SOURCE_ONLY}' is missing (got {', '.join(params.methods) or 'none'}). It is the"
            f" floor that every choice is held against: add '{SOURCE_ONLY}: {{}}' and run 'dvc repro'"
        )


def _check_average(methods: Sequence[str], task: TaskGuards, name: str) -> None:
    if len(methods) > 1 and not task.averages:
        raise ConfigError(
            f"params.yaml: select.average: {', '.join(methods)}: for the task '{name}' one method answers; scores of"
            f" several have no common scale. Set select.average: {{{name}: [{task.average[0]}]}}"
        )


def run(params: Params, *, manifest: Path, prepared: Path, trained: Path, choice: Path) -> None:
    """Reads what was trained, measures every method, chooses, writes."""
    scenario, config = params.scenario, params.select
    check_methods(params)
    samples = read_samples(manifest, prepared)
    runs = open_trained(trained, params.methods, scenario.classes, len(samples.label))
    task: TaskGuards = plugins.load("evaluation.guards", scenario.task).Guards()
    validators = {name: options.build() for name, options in config.validators.items() if task.validators}
    rows = task.rows(samples, runs, prepared)
    views = views_of(rows, scenario.source, scenario.target, config.max_images)
    named = config.average_of(scenario.task, task.average)
    labels = max(run.facts.target_labels for run in runs.values())
    made = choose(measure(runs, views, validators, task, config.significance), named, labels, task.words)
    _check_average(made.average, task, scenario.task)
    epochs, candidates = {c.method: c.epoch for c in made.candidates}, made.candidates
    seeds = {method: seeds_of(runs[method]) for method in made.average}
    networks = [Part(method, seed, epochs[method]) for method in seeds for seed in seeds[method]]
    method = made.average[0] if networks else SOURCE_ONLY
    if len(networks) > 1:
        method, average = ENSEMBLE, Ensemble(runs, networks)
        candidates = [*candidates, candidate(average, views, validators, task, config.significance)]
        epochs[ENSEMBLE] = average.facts.epochs[-1]
    write_json(
        choice,
        {
            "scenario": runs[SOURCE_ONLY].facts.scenario,
            "chosen": {
                "method": method,
                "epoch": epochs[method],
                "seed": runs[SOURCE_ONLY].facts.seeds[0],  # the first: none is picked by its result
                "fallback": method == SOURCE_ONLY != "".join(named),
                "why": made.why,
            },
            "epochs": epochs,
            "left_out": sorted(set(params.methods) - set(runs)),
            "candidates": [asdict(c) for c in candidates],
            "guards": {name: getattr(config, name) for name in Guards.model_fields},
            "validators": sorted(validators),
            "average": named,
            "ensemble": seeds if method == ENSEMBLE else None,
        },
    )


if __name__ == "__main__":
    stage(run)
