"""Runs the stages between `train` and `report` on synthetic files, so that reports are made from real inputs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from isthmus.core.config import load_params
from isthmus.core.files import write_json
from isthmus.data.manifest import LOCATIONS, MANIFEST, read_table, write_table
from isthmus.evaluation.explanation.shown_cases import cases
from isthmus.evaluation.scoring.predict import PREDICTIONS
from isthmus.stages import evaluate, report, select, shift
from tests.scenario_files import ScenarioFiles, write_scenario

ACCURACY = {"source_only": 0.5, "coral": 0.85, "dann": 0.8, "mmd": 0.6}
TABLES = ("curves", "leaderboard", "confusion", "reliability")
SECTIONS = {"scenario": "scenarios.demo"}


@dataclass(frozen=True)
class ReportFiles:
    """The files of one scenario up to the report's inputs."""

    files: ScenarioFiles
    root: Path

    def make(self, folder: str = "report", **paths: Path) -> Path:
        """Runs the report stage; `paths` replace single inputs. Returns the report's folder."""
        files, out = self.files, self.root / folder
        params = load_params(report.Params, files.params, SECTIONS)
        inputs = {
            "manifest": files.manifest,
            "audit": files.audit,
            "quarantine": files.quarantine,
            "prepared": files.prepared,
            "masks_target": files.masks_target,
            "locations": self.root / "locations.parquet",
            "features": files.features,
            "shift": self.root / "shift",
            "trained": files.trained,
            **{name: self.root / f"{name}.json" for name in ("choice", "metrics", "truth", "trust")},
            "predictions": self.root / "predictions.parquet",
            "explained": self.root / "explained",
            "robustness": self.root / "robustness.json",
        }
        tables = {name: self.root / "plots" / f"{name}.csv" for name in TABLES}
        report.run(params, **(inputs | paths), report=out, scores=self.root / "scores.json", **tables)
        return out

    def edit_scenario(self, **values: object) -> None:
        """Changes keys of the scenario's section in params.yaml."""
        document = yaml.safe_load(self.files.params.read_text())
        document["scenarios"]["demo"] |= values
        self.files.params.write_text(yaml.safe_dump(document, sort_keys=False))


def write_report_files(
    root: Path, accuracy: dict[str, float] | None = None, *, images: int = 240, target_labels: str = "folders"
) -> ReportFiles:
    """Writes a scenario and runs shift, select and evaluate on it."""
    return run_stages(write_scenario(root, accuracy or ACCURACY, images=images, target_labels=target_labels))


def run_stages(files: ScenarioFiles) -> ReportFiles:
    """Runs shift, select and evaluate on files that are there already."""
    root = files.root
    made = ReportFiles(files, root)
    _write_locations(files, root / "locations.parquet")
    common = {"manifest": files.manifest, "prepared": files.prepared}
    shift.run(
        load_params(shift.Params, files.params, SECTIONS), **common, features=files.features, shift=root / "shift"
    )
    select.run(
        load_params(select.Params, files.params, SECTIONS),
        **common,
        trained=files.trained,
        choice=root / "choice.json",
    )
    evaluate.run(
        load_params(evaluate.Params, files.params, SECTIONS),
        **common,
        labels_target=files.labels_target,
        labels_measure=files.labels_measure,
        labels_train=files.labels_train,
        masks_target=files.masks_target,
        trained=files.trained,
        choice=root / "choice.json",
        shift=root / "shift",
        trust=root / "trust.json",
        truth=root / "truth.json",
        predictions=root / "predictions.parquet",
        metrics=root / "metrics.json",
    )
    if load_params(select.Params, files.params, SECTIONS).scenario.annotation_config().labelled:
        _write_explained(root)
    write_json(root / "robustness.json", {"measured": False})
    return made


def _write_locations(files: ScenarioFiles, path: Path) -> None:
    rows = read_table(files.manifest, MANIFEST)[["image_id", "part", "domain"]]
    rows["path"] = [f"{domain}/{number:04d}.png" for number, domain in enumerate(rows["domain"])]
    write_table(path, rows, LOCATIONS)


def _write_explained(root: Path) -> None:
    """Writes maps as `explain` does; the weights of these methods are no model that could be looked into."""
    shown = cases(read_table(root / "predictions.parquet", PREDICTIONS), "line_b", 4)
    facts = shown[["image_id", "case", "predicted"]].to_dict("records")
    maps = np.random.default_rng(0).random((len(facts), 2, 5, 5)).astype(np.float32)
    write_json(
        root / "explained" / "explain.json", {"why_not": None, "images": [f | {"confidence": 0.9} for f in facts]}
    )
    np.save(root / "explained" / "maps.npy", maps)
