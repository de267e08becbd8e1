"""All mistakes of `params.yaml` and of the raw folders, found together before anything runs."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from isthmus.core.config import load_params, read_yaml
from isthmus.core.errors import ConfigError, DataError, IsthmusError
from isthmus.data.scenario import Scenario
from isthmus.data.scenario_names import scenario_names, section_names
from isthmus.gates.judge import read_rules
from isthmus.models import ModelConfig
from isthmus.registry.drift import WatchParams
from isthmus.stages import (
    embed,
    evaluate,
    ingest,
    prepare,
    pretrain,
    report,
    robustness,
    select,
    shift,
    simulate,
    train,
)

_STAGES = (ingest, prepare, embed, shift, select, evaluate, robustness, report)


def check(project: Path, names: Sequence[str]) -> list[str]:
    """Returns the names of the checked scenarios: the given ones, or all.

    Args:
        project: the folder with `params.yaml`.
        names: of scenarios; none: all.

    Raises:
        ConfigError, DataError: all mistakes at once, one a line.
    """
    params = project / "params.yaml"
    document = read_yaml(params)
    wanted = scenario_names(document, names, params)
    problems: list[str] = []
    for name in wanted:
        problems += _scenario_problems(params, document, name)
    _collect(problems, lambda: read_rules(params))
    _collect(problems, lambda: load_params(WatchParams, params, {}))
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    missing = [line for name in wanted for line in _raw_problems(project, document, name)]
    if missing:
        raise DataError("\n".join(missing))
    return wanted


def _scenario_problems(params: Path, document: dict[str, Any], name: str) -> list[str]:
    problems: list[str] = []
    methods = section_names(document, "methods", params)
    for stage in _STAGES:
        _collect(problems, lambda stage=stage: _load(params, stage, scenario=name))
    for method in methods:
        _collect(problems, lambda method=method: _load(params, train, scenario=name, method=method))
    if name in document.get("pairs", {}):
        _collect(problems, lambda: _load(params, simulate, pair=name))
    if name in document.get("pretraining", {}):
        _collect(problems, lambda: _load(params, pretrain, scenario=name))
    if not problems:
        loaded: Any = _load(params, train, scenario=name, method=methods[0])
        scenario: Scenario = loaded.scenario
        model: ModelConfig = loaded.model
        _collect(problems, lambda: scenario.kind_config(f"params.yaml: scenarios.{name}.preprocess."))
        _collect(problems, lambda: model.backbone_config(f"params.yaml: models.{scenario.model}.backbone."))
    return problems


def _raw_problems(project: Path, document: dict[str, Any], name: str) -> list[str]:
    section = document["scenarios"][name]
    raw = Path(section["raw"])
    if name in document.get("pairs", {}) or (project / raw).is_dir():
        return []
    pointer = project / f"{raw}.dvc"
    bring = f"'dvc pull {raw}.dvc' or 'dvc checkout {raw}.dvc'" if pointer.is_file() else f"'isthmus fetch {name}'"
    return [f"params.yaml: scenarios.{name}.raw: no folder '{raw}'. Bring it with {bring}, or name an existing folder"]


def _load(params: Path, stage: ModuleType, **given: str) -> Any:
    sections = {field: place.format(**given) for field, place in getattr(stage.Params, "SECTIONS", {}).items()}
    return load_params(stage.Params, params, sections)


def _collect(problems: list[str], attempt: Any) -> None:
    try:
        attempt()
    except IsthmusError as error:
        problems += [line for line in str(error).splitlines() if line not in problems]
