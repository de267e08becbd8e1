"""Trains one method on one scenario, all seeds.

`run.json`: what was run, resolved, and which share of the backbone's weights trained. `seeds/K/curves.jsonl`: one line
an epoch. `seeds/K/epochs/EEE.*` for each kept epoch: `safetensors` weights (in frozen mode without the backbone),
`logits.npy` float32 `[N, K]` and `embeddings.npy` float16 `[N, B]` of all images, rows in the order of
`prepared/index.parquet`. Of tasks with cells the last epoch alone, `logits.npy` float32 `[N * T, K]` of the cells of
each image's grid, and embeddings are means over an image's cells; of boxes also `extents.npy` float32 `[N * T, 4]`,
from each cell's centre to left, top, right and bottom edge, in cells (`data/boxes.py`). Of task anomaly `maps.npy`
float32 `[N, T]` too, above 0 where a cell looks like a defect. A method that has nothing to do with the model's head
has no seeds, and `left_out` says why. Of the target only the labels that a person gave for training are read; methods
that must not see the target do not get them.
"""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import nn

from isthmus.adapt import Method, MethodConfig, Shape
from isthmus.core.code.fingerprint import Code
from isthmus.core.config import Config, plugin
from isthmus.core.device import DeviceName, make_deterministic, pick_device, training_precision
from isthmus.core.errors import ConfigError, DataError
from isthmus.core.files import atomic_folder, read_json, write_json
from isthmus.core.progress import log
from isthmus.core.seeds import derive_seed
from isthmus.data.augment.photometric import EXCHANGED, mean_skewness, opposite
from isthmus.data.boxes import source_extents
from isthmus.data.labels.given import GIVEN_LABELS
from isthmus.data.manifest import BOXES, INDEX, MANIFEST, read_table
from isthmus.data.masks import CellShares, source_cells
from isthmus.data.scenario import Scenario
from isthmus.data.shards import CellRows, Rows
from isthmus.data.workers import in_order
from isthmus.models import ModelConfig
from isthmus.models.classifier import Classifier, Encoder, Features, Standardise
from isthmus.models.embedding import read_facts, stored_encoder, view_prefix
from isthmus.models.neighbours import NeighbourHead
from isthmus.models.patch_memory import PatchMemory
from isthmus.models.tuning import prepare
from isthmus.stages._cli import stage
from isthmus.training.checkpoint import checkpoint_key
from isthmus.training.data import (
    TrainingData,
    check_augment,
    training_data,
    with_cell_shares,
    with_cells,
    with_target_labels,
)
from isthmus.training.devices import Devices, launch, must_launch, open_devices
from isthmus.training.extents import fit_extents
from isthmus.training.loop import LoopSession, Plan, check_early_stop, kept_epochs, planned_epochs
from isthmus.training.memory import check_head, check_trains_nothing, memorise, memorise_good, why_left_out
from isthmus.training.statistics import feature_statistics


class TrainConfig(Config):
    """The section `train`."""

    seeds: list[int] = Field(
        [0, 1, 2], min_length=1, description="all are trained; the first is served, the spread is reported"
    )
    batch_size: int = Field(64, ge=2, description="source rows a step, and as many target rows")
    keep: int = Field(4, ge=1, description="epochs that are stored, evenly spaced; the last is the candidate")
    threads: int = Field(1, ge=1, description="of the CPU, for each seed; one is fastest for frozen mode")
    workers: int = Field(
        3, ge=1, le=64, description="processes that train seeds side by side on a CPU, in full mode and for cells"
    )
    device: DeviceName = "auto"
    processes: int = Field(
        1, ge=1, description="one a device; they share the backbone's work in full mode. Frozen mode needs one"
    )

    @field_validator("seeds")
    @classmethod
    def _once(cls, seeds: list[int]) -> list[int]:
        if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
            raise ValueError(f"each seed stands once, as its files are named by it (twice: {twice}). Drop the others")
        return seeds


class Params(Config):
    """What `train` reads."""

    SECTIONS: ClassVar[dict[str, str]] = {
        "scenario": "scenarios.{scenario}",
        "model": "models.[scenarios.{scenario}.model]",
        "method": "methods.{method}",
    }
    scenario: Scenario
    model: ModelConfig
    method: Annotated[MethodConfig, plugin("adapt.methods")]
    train: TrainConfig
    seed: int


def run(
    params: Params,
    *,
    scenario: str,
    method: str,
    manifest: Path,
    prepared: Path,
    features: Path,
    labels_train: Path,
    checkpoints: Path,
    trained: Path,
) -> None:
    """Writes the trained seeds."""
    make_deterministic(params.train.threads)
    check_head(params.scenario, params.model)
    shape = Shape(len(params.scenario.classes), 2, 1, 1, 0)
    if why := why_left_out(params.method.build(shape), params.model.head, _whole(params)):
        log(f"{method} is left out: {why}")
        with atomic_folder(trained) as written:
            write_json(written / "run.json", _left_out(params, scenario, method, why))
        return
    if params.model.mode == "full" and must_launch(params.train.processes):
        launch("isthmus.stages.train", sys.argv[1:], params.train.processes)
        return
    devices = open_devices(params.train.processes, pick_device(params.train.device))
    data = read_data(params, manifest, prepared, features, labels_train)
    facts = _facts(params, scenario, method, data)
    work = checkpoints / key_of_run(facts, manifest, prepared, features, labels_train)
    same = Params.model_construct(**dict(params))  # of a class that another process finds: `load_params` made its own
    train = partial(_train_seed, same, method, data, prepared, features, work, devices)
    takes_long = params.model.mode == "full" or data.cells > 1
    side_by_side = takes_long and pick_device(params.train.device).type == "cpu"
    workers = params.train.workers if side_by_side else 1
    # torchrun has shared out the work already
    of_seeds = partial(in_order, workers=workers, chunk=1, long=True, setting="train.workers")
    shares = of_seeds(train, facts["seeds"]) if devices is None else map(train, facts["seeds"])
    facts["trained_share"] = [round(share, 4) for share in shares][-1]
    if devices is not None and not devices.leads:
        return  # one process writes
    with atomic_folder(trained) as written:
        write_json(written / "run.json", facts)
        for seed in facts["seeds"]:
            done = work / "seeds" / str(seed)
            shutil.copytree(done / "epochs", written / "seeds" / str(seed) / "epochs")
            shutil.copy(done / "curves.jsonl", written / "seeds" / str(seed) / "curves.jsonl")
    shutil.rmtree(work)


def _train_seed(
    params: Params,
    method: str,
    data: TrainingData,
    prepared: Path,
    features: Path,
    work: Path,
    devices: Devices | None,
    seed: int,
) -> float:
    """Trains one seed into its folder in `work`; a unit of work (`core/engine.py`). Returns the share that trained."""
    make_deterministic(params.train.threads)
    folder = work / "seeds" / str(seed)
    session = open_session(params, data, prepared, features, folder, seed, f"{method}, seed {seed}", devices)
    if params.model.head == "knn":
        memorise(session, method)
    elif params.model.head == "memory":
        memorise_good(session, data, params.model.memory, params.scenario.domains)
    else:
        session.method.fit(session)
    if devices is None or devices.leads:
        session.write(folder)
    return session.trained_share


def read_data(params: Params, manifest: Path, prepared: Path, features: Path, labels_train: Path) -> TrainingData:
    """Returns the rows by role.

    Raises:
        DataError: a domain has no training images.
    """
    index = read_table(prepared / "index.parquet", INDEX)
    table = read_table(manifest, MANIFEST).set_index("image_id").loc[index["image_id"]].reset_index()
    images = params.model.mode == "full"
    rows = Rows(prepared / "shards" if images else features, index)
    data = training_data(
        table,
        rows,
        params.scenario.domains,
        images=images,
        shift_pixels=params.model.shift_pixels,
        class_shares=_class_shares(params),
        classes=len(params.scenario.classes),
        augment=params.model.augment,
        kind=params.scenario.kind,
        most_steps=params.model.max_steps // params.model.epochs,
        weighted=params.model.class_weights == "balanced",
    )
    if params.model.views and images:
        data = replace(data, looks=params.model.views, exchanged=_exchanged(data))
    elif params.model.views:
        data = replace(data, views=tuple(_view_rows(params, index, features)))
    answers = params.scenario.annotation_config()
    if answers.cells:
        data = _of_cells(params, data, index, prepared, features)
    else:
        data = with_target_labels(data, list(index["image_id"]), read_table(labels_train, GIVEN_LABELS))
    if answers.regions:
        data = _of_good(data, table["group"].to_numpy(dtype=object))
    empty = [
        d for d, r in zip(params.scenario.domains, [*data.source_train, data.target_train], strict=True) if not len(r)
    ]
    if empty:
        raise DataError(
            f"no training images in: {', '.join(empty)}. See out/.../audit.json and the shares of the splits"
        )
    return data


def _exchanged(data: TrainingData) -> float:
    """Returns the share of views with light and dark exchanged: none where grey values do not ask for it."""
    rows = (np.concatenate(data.source_train), data.target_train)
    source, target = (mean_skewness(data.inputs.take, part) for part in rows)
    asked = opposite(source, target)
    which = "some" if asked else "none"
    log(f"views: light and dark are exchanged in {which}: grey values have skewness {source:.2f}, {target:.2f}")
    return EXCHANGED if asked else 0.0


def _view_rows(params: Params, index: pd.DataFrame, features: Path) -> Iterator[Rows | CellRows]:
    """Yields the rows of each view; those of the target, of which there are no views, are the images' own."""
    kind = CellRows if params.scenario.annotation_config().cells else Rows
    source = index["domain"] != params.scenario.target
    for number in range(1, params.model.views + 1):
        shards = index["shard"].where(~source, view_prefix(number) + index["shard"])
        yield kind(features, index.assign(shard=shards))


def _of_cells(params: Params, data: TrainingData, index: pd.DataFrame, prepared: Path, features: Path) -> TrainingData:
    grid, classes = read_facts(features).grid, len(params.scenario.classes)
    if _whole(params):
        return with_cell_shares(data, CellShares(prepared / "masks", index, grid, classes))
    shares, _ = source_cells(prepared, index, grid, classes)
    return with_cells(data, CellRows(features, index), shares)


def _whole(params: Params) -> bool:
    """Says whether a network trains on whole images and has an answer for each of their cells.

    Raises:
        ConfigError: the answers are boxes.
    """
    answers = params.scenario.annotation_config()
    if params.model.mode == "full" and answers.boxes:
        raise ConfigError(
            f"params.yaml: models.{params.scenario.model}.mode: full trains on whole images, and task"
            f" {params.scenario.task} on cells of frozen features. Set mode: frozen"
        )
    return params.model.mode == "full" and answers.cells


def _extents(prepared: Path, features: Path) -> NDArray[np.float32]:
    index = read_table(prepared / "index.parquet", INDEX)
    boxes, side = read_table(prepared / "boxes.parquet", BOXES), read_json(prepared / "facts.json")["height"]
    return source_extents(boxes, index, read_facts(features).grid, side)


def _of_good(data: TrainingData, groups: NDArray[Any]) -> TrainingData:
    """Returns the good images of the source, and the target's less those that a person called defective."""
    defective = data.target_labelled[data.labels[data.target_labelled] == 1]
    return replace(
        data,
        source_train=[rows[data.labels[rows] == 0] for rows in data.source_train],
        target_train=data.target_train[~np.isin(data.target_train, defective)],
        groups=groups,
    )


def _class_shares(params: Params) -> NDArray[np.float64] | None:
    config, classes = params.model, params.scenario.classes
    if not config.class_shares:
        return np.full(len(classes), 1 / len(classes)) if config.sampling == "balanced" else None
    where = f"params.yaml: models.{params.scenario.model}.class_shares"
    if config.sampling == "balanced":
        raise ConfigError(f"{where}: cannot be combined with sampling: balanced. Drop one of the two")
    return _normalised(config.class_shares, classes, where)


def _target_shares(params: Params) -> tuple[float, ...] | None:
    if not params.model.target_shares:
        return None
    where = f"params.yaml: models.{params.scenario.model}.target_shares"
    return tuple(_normalised(params.model.target_shares, params.scenario.classes, where).tolist())


def _normalised(given: dict[str, float], classes: list[str], where: str) -> NDArray[np.float64]:
    if set(given) != set(classes):
        got = ", ".join(sorted(given))
        raise ConfigError(f"{where}: must name each class once (got {got}). Classes: {', '.join(classes)}")
    shares = np.array([given[name] for name in classes])
    if (shares < 0).any() or not shares.sum():
        raise ConfigError(f"{where}: shares must be 0 or more, and one above 0 (got {shares.tolist()})")
    normalised: NDArray[np.float64] = shares / shares.sum()
    return normalised


def open_session(
    params: Params,
    data: TrainingData,
    prepared: Path,
    features: Path,
    folder: Path,
    seed: int,
    name: str,
    devices: Devices | None = None,
) -> LoopSession:
    """Returns model, method and optimiser of one seed, ready to train.

    Raises:
        ConfigError: the method and the model do not go together.
    """
    derived = derive_seed(params.seed, "train", seed)
    device = pick_device(params.train.device) if devices is None else devices.device
    model_config, scenario = params.model, params.scenario
    width = model_config.bottleneck if model_config.head == "bottleneck" else read_facts(features).feature_dim
    sizes = (len(scenario.classes), width, len(scenario.source), len(data.target_train))
    method = build_method(params, name.partition(",")[0], Shape(*sizes, derived, _target_shares(params)))
    model = _classifier(params, method, data, prepared, features, derived)
    if scenario.annotation_config().boxes:
        grid = read_facts(features).grid
        model.extents = fit_extents(model.backbone, data, _extents(prepared, features), grid, method.views, derived)
    epochs = _epochs(params, method, data)
    plan = Plan(epochs, _kept(params, epochs), _batch_size(params), derived, method.phases)
    return LoopSession(model.to(device), method.to(device), data, params.model, plan, device, folder, name, devices)


def _batch_size(params: Params) -> int:
    """Returns the rows of each role a step.

    Raises:
        ConfigError: the bottleneck's BatchNorm would have to standardise a single row.
    """
    config = params.model
    if config.batch_size == 1 and (config.head, config.norm) == ("bottleneck", "batch") and not _whole(params):
        raise ConfigError(
            f"params.yaml: models.{params.scenario.model}.batch_size: BatchNorm of the bottleneck needs two rows a step"
            " (got 1). Set 2 or more, or norm: layer"
        )
    return config.batch_size or params.train.batch_size


def _epochs(params: Params, method: Method, data: TrainingData) -> int:
    return planned_epochs(params.model.epochs, params.model.min_steps, data.steps(_batch_size(params)), method.phases)


def _kept(params: Params, epochs: int) -> list[int]:
    """Returns the epochs that are stored; of cells the last alone, whose logits are as many as a hundred images'."""
    return kept_epochs(epochs, 1 if params.scenario.annotation_config().cells else params.train.keep)


def build_method(params: Params, name: str, shape: Shape) -> Method:
    """Returns the method.

    Raises:
        ConfigError: the scenario's model gives features, and the method needs images.
    """
    method = params.method.build(shape)
    if method.needs == "images" and params.model.mode == "frozen":
        raise ConfigError(
            f"params.yaml: methods: {name} needs images, but model '{params.scenario.model}' is frozen and gives"
            " features. Set scenarios: model to one whose mode is 'full', or drop the method"
        )
    return method


def empty_network(params: Params, channels: int, image_size: int) -> nn.Module:
    """Returns the scenario's backbone without values, for checks that cost no memory and next to no time.

    Raises:
        ConfigError: the backbone takes no such images, or cannot be tuned so.
    """
    config = params.model.backbone_config(f"params.yaml: models.{params.scenario.model}.backbone.")
    with torch.device("meta"):
        network = config.skeleton(channels, image_size)
    if params.model.mode == "full":
        prepare(network, params.model.tuning, 0)
    return network


def check_method(params: Params, name: str, network: nn.Module) -> None:
    """Refuses, before any image is read, what training would refuse.

    Args:
        params: as `run` takes them.
        name: of the method.
        network: of `empty_network`.

    Raises:
        ConfigError: method, model and scenario do not go together.
    """
    config, scenario, width = params.model, params.scenario, 8
    _class_shares(params)
    check_augment(config.augment, scenario.kind)
    shape = Shape(len(scenario.classes), width, len(scenario.source), 2, 0, _target_shares(params))
    method = build_method(params, name, shape)
    check_early_stop(config.early_stop, method, name)
    check_head(scenario, config)
    if why_left_out(method, config.head, _whole(params)):
        return
    _batch_size(params)
    if config.head == "knn":
        check_trains_nothing(method, name)
    standardise = Standardise(torch.zeros(len(scenario.domains), 1), torch.ones(len(scenario.domains), 1))
    backbone: Any = Encoder(network, standardise) if config.mode == "full" else Features(standardise)
    linear = config.head != "bottleneck"
    method.check(Classifier(backbone, width, len(scenario.classes), width, config.norm, 0, linear))


def _classifier(
    params: Params, method: Method, data: TrainingData, prepared: Path, features: Path, seed: int
) -> Classifier:
    stored = read_facts(features)
    # Not by domain where rows are cells: their features' mean hangs on how much of a class an image shows.
    by_domain = params.method.standardise and data.cells == 1
    how: Literal["source", "domain"] = method.standardises or ("domain" if by_domain else "source")
    if params.model.mode == "frozen":
        backbone: Any = Features(Standardise(*feature_statistics(data, how)))
    elif how == "source":
        backbone = stored_encoder(features, len(params.scenario.domains))
    else:
        facts = read_json(prepared / "facts.json")
        mean, std = (torch.tensor([facts[w][d] for d in params.scenario.domains]) for w in ("mean", "std"))
        backbone = stored_encoder(features, len(params.scenario.domains), mean, std)
    config = params.model
    if isinstance(backbone, Encoder):
        prepare(backbone.network, config.tuning, derive_seed(seed, "tuning"))
    head: nn.Module | None = None
    if config.head == "memory":
        head = PatchMemory(stored.feature_dim, len(params.scenario.domains))
    if config.head == "knn":
        count, votes = len(data.labelled(method.sees_target)), config.neighbours
        head = NeighbourHead(count, stored.feature_dim, len(params.scenario.classes), votes.count, votes.temperature)
    return Classifier(
        backbone,
        stored.feature_dim,
        len(params.scenario.classes),
        config.bottleneck,
        config.norm,
        derive_seed(seed, "weights"),
        config.head == "linear",
        head,
    )


def _facts(params: Params, scenario: str, name: str, data: TrainingData) -> dict[str, Any]:
    method = params.method.build(Shape(len(params.scenario.classes), 2, len(params.scenario.source), 1, 0))
    more: dict[str, Any] = {"cells": data.cells} if data.cells > 1 else {}
    if params.model.head == "memory":
        more = {"false_alarms": params.model.memory.false_alarms}
    if data.looks and method.views:
        more |= {"exchanged": data.exchanged}
    if params.model.precision == "auto":
        more |= {"precision": training_precision("auto", pick_device(params.train.device))}
    if method.sees_target and len(data.target_labelled):
        more |= {"target_labels": len(data.target_labelled)}
    return more | {
        "scenario": scenario,
        "method": name,
        "mode": params.model.mode,
        "needs": method.needs,
        "sees_target": method.sees_target,
        "optimises": sorted(method.optimises),
        "seeds": params.train.seeds[: 1 if params.model.head == "memory" else None],  # which draws nothing
        "epochs": _kept(params, _epochs(params, method, data)),
        "classes": params.scenario.classes,
        "domains": params.scenario.domains,
        "config": {
            "method": params.method.model_dump(mode="json"),
            "model": params.model.model_dump(mode="json"),
            "train": params.train.model_dump(mode="json"),
            "seed": params.seed,
        },
    }


def _left_out(params: Params, scenario: str, name: str, why: str) -> dict[str, Any]:
    """Returns what `run.json` says of a method that has nothing to do with the scenario's model."""
    given = {"scenario": scenario, "method": name, "mode": params.model.mode, "classes": params.scenario.classes}
    return given | {"optimises": [], "seeds": [], "epochs": [], "left_out": why}


def key_of_run(facts: dict[str, Any], manifest: Path, prepared: Path, features: Path, labels_train: Path) -> str:
    """Returns a hash of the settings (`method` among them), of all files that training reads, and of its code."""
    masks = [path for path in (prepared / "masks", prepared / "boxes.parquet") if path.exists()]
    inputs = [manifest, prepared / "index.parquet", prepared / "facts.json", *masks, features, labels_train]
    return checkpoint_key(facts, inputs, Code().fingerprint("train", facts["method"]))


if __name__ == "__main__":
    from isthmus.stages import train  # by this name workers of an engine find the functions of this file

    stage(train.run)
