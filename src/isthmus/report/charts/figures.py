"""What the report draws: maps of the features, curves of training, shares of the classes."""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from isthmus.evaluation.selection.choice import SOURCE_ONLY
from isthmus.report.charts import shapes
from isthmus.report.results import Findings

_MAPS = ((("x", "y"), ""), (("tsne_x", "tsne_y"), ", t-SNE"))  # columns of `map.parquet`, what titles add


def maps(findings: Findings) -> list[dict[str, Any]]:
    """Returns two rows of three charts in one frame each, principal components and t-SNE: by domain; sources by class;
    target by predicted class.
    """
    return [chart for axes, suffix in _MAPS for chart in _three(findings, axes, suffix)]


def _three(findings: Findings, axes: tuple[str, str], suffix: str) -> list[dict[str, Any]]:
    places = _places(findings, axes)
    predicted = findings.predictions[["image_id", "predicted"]]
    places = places.merge(predicted, on="image_id", how="left")
    target = (places["domain"] == findings.scenario.target).to_numpy()
    x, y = _x_and_y(places, axes)
    classes = findings.facts["classes"]
    numbers = {name: float(k) for k, name in enumerate(classes)}
    shown = places["predicted"].map(lambda v: numbers.get(v, v))  # a class by its number or by its name
    labels = {"source": places["label"].fillna(-1).to_numpy(float), "target": shown.fillna(-1).to_numpy(float)}
    by_class = {
        role: [
            shapes.class_cloud(name, k, x[here & (labels[role] == k)], y[here & (labels[role] == k)])
            for k, name in enumerate(classes)
        ]
        for role, here in (("source", ~target), ("target", target))
    }
    sources = ", ".join(findings.scenario.source)
    frame = shapes.Frame.around(x, y)
    return [
        _by_domain(findings, places, axes, suffix),
        _chart(f"Source ({sources}) by true class{suffix}", by_class["source"], frame),
        _chart(f"Target ({findings.scenario.target}) by predicted class{suffix}", by_class["target"], frame),
    ]


def domain_map(findings: Findings) -> list[dict[str, Any]]:
    """Returns two charts, principal components and t-SNE: each image in the colour of its domain."""
    return [_by_domain(findings, _places(findings, axes), axes, suffix) for axes, suffix in _MAPS]


def _by_domain(findings: Findings, places: pd.DataFrame, axes: tuple[str, str], suffix: str) -> dict[str, Any]:
    target = (places["domain"] == findings.scenario.target).to_numpy()
    x, y = _x_and_y(places, axes)
    clouds = [shapes.Cloud(", ".join(findings.scenario.source), x[~target], y[~target], "source")]
    clouds.append(shapes.Cloud(findings.scenario.target, x[target], y[target], "target", 1))
    return _chart(f"By domain{suffix}", clouds, shapes.Frame.around(x, y))


def _places(findings: Findings, axes: tuple[str, str]) -> pd.DataFrame:
    drawn = findings.points.dropna(subset=list(axes))
    return drawn.merge(findings.manifest[["image_id", "domain", "label"]], on="image_id", how="inner")


def _x_and_y(places: pd.DataFrame, axes: tuple[str, str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = (places[name].to_numpy(dtype=np.float64) for name in axes)
    return x, y


def _chart(title: str, clouds: list[shapes.Cloud], frame: shapes.Frame) -> dict[str, Any]:
    return {
        "title": title,
        "svg": shapes.scatter(clouds, frame, title),
        "legend": [{"name": c.name, "count": len(c.x), "marker": shapes.marker(c)} for c in clouds],
    }


def curves(findings: Findings) -> list[dict[str, Any]]:
    """Returns two line charts a method: total loss on its own scale, source accuracy on one scale for all."""
    key = "source_val_balanced_accuracy"
    accuracies = [v for seeds in findings.curves.values() for s in seeds for e in s if (v := e.get(key)) is not None]
    floor = min([*accuracies, 0.9])
    best = findings.choice["epochs"]
    charts = []
    for method in sorted(
        findings.curves, key=lambda m: (m != findings.choice["chosen"]["method"], m != SOURCE_ONLY, m)
    ):
        seeds, kept = findings.curves[method], findings.runs[method]["epochs"]
        losses = [[line.get("loss_total") for line in seed] for seed in seeds]
        finite = [v for seed in losses for v in seed if v is not None] or [0.0, 1.0]
        scores = [[line.get(key) for line in seed] for seed in seeds]
        args = (f"{method}: total loss by epoch, {len(seeds)} seeds", kept, best[method])
        score_args = (f"{method}: source validation balanced accuracy by epoch, {len(seeds)} seeds", kept, best[method])
        charts.append(
            {
                "method": method,
                "epochs": max((len(seed) for seed in seeds), default=0),
                "trained": any("loss_total" in line for seed in seeds for line in seed),  # not with `head: knn`
                "loss": shapes.lines(losses, min(finite), max(finite), *args),
                "loss_limits": (min(finite), max(finite)),
                "score": shapes.lines(scores, floor, 1.0, *score_args),
                "score_limits": (floor, 1.0),
                "gaps": sum(line.get("loss_total", 0.0) is None for seed in seeds for line in seed),
            }
        )
    return charts


def reliability(findings: Findings) -> list[dict[str, Any]]:
    """Returns reliability diagrams, right answers over mean confidence: source test and, where labelled, the target."""
    tables = [("Source test split", findings.trust["calibration"]["source_test"])]
    if findings.labelled:
        tables.append((f"Target test split ({findings.scenario.target})", findings.truth["trust"]["calibration"]))
    line = np.linspace(0, 1, 61)
    charts = []
    for title, table in tables:
        clouds = [shapes.Cloud("as sure as right", line, line, "even")]
        for name, colour, shape in (("uncalibrated", "target", 1), ("calibrated", "source", 0)):
            bins = table[name]["reliability"]
            x, y = (np.array([b[key] for b in bins], dtype=np.float64) for key in ("confidence", "accuracy"))
            clouds.append(shapes.Cloud(name, x, y, colour, shape))
        legend = [{"name": c.name, "marker": shapes.marker(c)} for c in clouds]
        svg = shapes.scatter(clouds, shapes.Frame(0.0, 1.0, 0.0, 1.0), f"Reliability, {title}")
        charts.append({"title": title, "svg": svg, "legend": legend, "table": table})
    return charts


def predicted_shares(findings: Findings) -> list[dict[str, Any]]:
    """Returns how often each class is in the source and among the predictions on the target."""
    classes = findings.facts["classes"]
    target = findings.predictions[findings.predictions["domain"] == findings.scenario.target]
    predicted = Counter(classes.index(v) if v in classes else v for v in target["predicted"].tolist())
    labels = Counter(findings.manifest["label"].dropna().tolist())
    return [
        {
            "name": name,
            "source": labels[k] / max(sum(labels.values()), 1),
            "target": predicted[k] / max(len(target), 1),
        }
        for k, name in enumerate(classes)
    ]
