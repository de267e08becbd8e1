"""All mistakes of `params.yaml` and of the raw folders, found together before anything runs.

What a stage would refuse is refused here by the stage's own functions. A few images of each domain are decoded and
prepared, not all: `ingest` quarantines the ones that are broken.
"""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from isthmus.core.code import code_lock
from isthmus.core.config import load_params, read_yaml
from isthmus.core.errors import ConfigError, DataError, IsthmusError
from isthmus.core.project import stage_path
from isthmus.data.audit.summary import Bad, plural
from isthmus.data.bounds import Bounds
from isthmus.data.catalog.pairs import PAIRS
from isthmus.data.image import Image
from isthmus.data.ingest.identity import read_key
from isthmus.data.ingest.scan import Scanned, read_image_facts, scan
from isthmus.data.ingest.split_check import check_known_groups
from isthmus.data.ingest.table import Found
from isthmus.data.ingest.tables import IngestConfig
from isthmus.data.names import private_reason, shown_name
from isthmus.data.preprocess.tiling import read_part
from isthmus.data.scenario import Scenario
from isthmus.data.scenario_names import scenario_names, section_names
from isthmus.gates.judge import read_rules
from isthmus.models.preprocessing import with_defaults_of_weights
from isthmus.monitoring.drift import WatchParams
from isthmus.plugin_checks import misplaced
from isthmus.registry.lineage.git_remote import LineageParams
from isthmus.stages import (
    embed,
    evaluate,
    ingest,
    labels,
    prepare,
    pretrain,
    report,
    robustness,
    select,
    shift,
    simulate,
    train,
)

STAGES = (ingest, labels, prepare, embed, shift, select, evaluate, robustness, report)
_SAMPLE = 3  # images a domain that are decoded and prepared
_LOCKS = ("dvc.lock", "dvc.yaml")


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
    problems += misplaced(project)
    _collect(problems, lambda: code_lock.check(project / code_lock.NAME))
    for name in _LOCKS:
        if (project / name).is_file():
            _collect(problems, lambda name=name: read_yaml(project / name))
    _collect(problems, lambda: _check_labels(project, wanted[0]))
    for name in wanted:
        problems += _scenario_problems(params, document, name)
    _collect(problems, lambda: read_rules(params))
    _collect(problems, lambda: load_params(WatchParams, params, {}))
    _collect(problems, lambda: load_params(LineageParams, params, {}))
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    for name in wanted:
        _collect(problems, lambda name=name: _check_raw(project, document, name))
    if problems:
        raise DataError("\n".join(dict.fromkeys(problems)))
    return wanted


def _check_labels(project: Path, name: str) -> None:
    """Checks that the folder of given labels is there, which all scenarios share: DVC does not make it."""
    stages = (read_yaml(project / "dvc.yaml")["stages"] or {}) if (project / "dvc.yaml").is_file() else {}
    if "labels" in stages and not (project / (folder := stage_path(stages, "labels", "labels", name))).is_dir():
        raise ConfigError(f"{folder}: no such folder, and the stage 'labels' reads it. Run 'mkdir -p {folder}'")


def _scenario_problems(params: Path, document: dict[str, Any], name: str) -> list[str]:
    problems: list[str] = []
    methods = section_names(document, "methods", params)
    for stage in STAGES:
        _collect(problems, lambda stage=stage: _load(params, stage, scenario=name))
    for method in methods:
        _collect(problems, lambda method=method: _load(params, train, scenario=name, method=method))
    if name in document.get("pairs", {}):
        _collect(problems, lambda: _load(params, simulate, pair=name))
    if name in document.get("pretraining", {}):
        _collect(problems, lambda: _load(params, pretrain, scenario=name))
    if not problems:
        _collect(problems, lambda: select.check_methods(_load(params, select, scenario=name)))
        _collect(problems, lambda: _check_model(params, document, name, methods, problems))
    return problems


def _check_model(
    params: Path, document: dict[str, Any], name: str, methods: Sequence[str], problems: list[str]
) -> None:
    """Checks that kind, backbone and methods go together."""
    loaded: Any = _load(params, train, scenario=name, method=methods[0])
    scenario = with_defaults_of_weights(loaded.scenario, loaded.model.backbone)
    kind = scenario.kind_config(f"params.yaml: scenarios.{name}.preprocess.")
    network = train.empty_network(loaded, kind.channels, kind.image_size)
    _collect(problems, lambda: loaded.model.backbone_config("").check_weights(kind.image_size))
    for method in methods:
        given: Any = _load(params, train, scenario=name, method=method)
        _collect(problems, lambda given=given, method=method: train.check_method(given, method, network))
    if name in document.get("pretraining", {}):
        pretrain.check_backbone(_load(params, pretrain, scenario=name), kind.channels)


def _check_raw(project: Path, document: dict[str, Any], name: str) -> None:
    """Checks that the raw folder holds what the scenario says, and that a few of its images can be prepared."""
    loaded: Any = _load(project / "params.yaml", ingest, scenario=name)
    scenario: Scenario = loaded.scenario
    config: IngestConfig = loaded.ingest
    raw = project / scenario.raw
    if not raw.is_dir():
        if name in (document.get("pairs") or {}):
            return  # `simulate` writes it
        pointer = project / f"{scenario.raw}.dvc"
        pull = f"'dvc pull {scenario.raw}.dvc' or 'dvc checkout {scenario.raw}.dvc'"
        if pointer.is_file():
            bring = f"Get it with {pull}"
        elif name in PAIRS:
            bring = f"Get it with 'isthmus fetch {name}'"
        else:
            bring = f"Put the images there and run 'dvc add {scenario.raw}'"
        raise DataError(
            f"params.yaml: scenarios.{name}.raw: no folder '{scenario.raw}'. {bring}, or name an existing folder"
        )
    key = None if config.identity_key is None else read_key(config.identity_key)
    seen = scan(raw, scenario, f"of scenarios.{name} in params.yaml")
    problems: list[str] = []
    for domain in scenario.domains:
        _collect(problems, lambda domain=domain: _check_sample(raw, scenario, seen, domain, key, config.files))
    _collect(problems, lambda: check_known_groups(seen.found, seen.names, scenario, config.splits, loaded.seed))
    if problems:
        raise DataError("\n".join(problems))


def _check_sample(raw: Path, scenario: Scenario, seen: Scanned, domain: str, key: bytes | None, bounds: Bounds) -> None:
    """Checks that at least one of a few images, with what belongs to it, can be decoded and prepared.

    If none can, the run cannot go on; if no mask of the target can be used, nothing can be evaluated.
    """
    files = [found for found in seen.found if found.domain == domain]
    files = [found for found in files if found.mask is not None] or files  # a target may be answered in part
    sample = files[:: max(1, len(files) // _SAMPLE)][:_SAMPLE]
    reasons: list[str] = []
    without: list[str] = []
    images: list[tuple[Found, Image]] = []
    for found in sample:
        rows = read_image_facts(
            raw, found, key, scenario.tiles, bounds, scenario.annotation_config(), scenario.classes, scenario.target
        )
        if isinstance(rows, Bad):
            reasons.append(_told(found, rows.reason, scenario, seen))
        else:
            images += [(found, read_part(raw / found.path, row.part, row.sha256)) for row in rows[:1]]
            without += [_told(found, row.beside.refused, scenario, seen) for row in rows[:1] if row.beside.refused]
    if without and len(without) == len(sample):
        raise DataError(
            f"domain '{domain}': none of {len(sample)} {plural(scenario.annotation_config().noun)} that were tried can"
            f" be used: {'; '.join(without)}. Correct"
            " them, or set 'target_labels: none'"
        )
    kind = scenario.kind_config("").build()
    fitted = kind.fit(image for _, image in images)
    for found, image in images:
        try:
            kind.prepare(image, fitted)
            return
        except DataError as error:
            reasons.append(_told(found, str(error), scenario, seen))
    if sample:
        raise DataError(
            f"domain '{domain}': none of {len(sample)} images that were tried can be used: {'; '.join(reasons)}"
        )


def _told(found: Found, reason: str, scenario: Scenario, seen: Scanned) -> str:
    name = shown_name(found.path, scenario.kind, seen.names[found.path])
    return f"{name}: {private_reason(reason, found.path, scenario.kind)}"


def _load(params: Path, stage: ModuleType, **given: str) -> Any:
    sections = {field: place.format(**given) for field, place in getattr(stage.Params, "SECTIONS", {}).items()}
    return load_params(stage.Params, params, sections)


def _collect(problems: list[str], attempt: Any) -> None:
    try:
        attempt()
    except IsthmusError as error:
        problems += [line for line in str(error).splitlines() if line not in problems]
