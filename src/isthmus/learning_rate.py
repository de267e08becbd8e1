"""Runs a learning-rate range test on one method of one scenario. Not a stage of the graph: a command of its own.

`learning_rate.json`: `rates`, `losses`, `smoothed`, one entry a step, and `suggestion` (null where no loss falls);
`learning_rate.svg`: the two curves over the logarithm of the rate. No target label is read, by any path.
"""

from pathlib import Path
from typing import Any

from markupsafe import escape
from pydantic import Field

from isthmus.core.config import Config, load_params
from isthmus.core.device import make_deterministic
from isthmus.core.files import atomic_folder, write_json
from isthmus.stages.train import Params, open_session, read_data
from isthmus.training.range_test import RangeTest, range_test
from isthmus.training_inputs import training_inputs

_WIDTH, _HEIGHT, _EDGE = 640, 360, 50


class RangeConfig(Config):
    """Which rates are tried."""

    lowest: float = Field(1e-6, gt=0, description="first learning rate")
    highest: float = Field(1.0, gt=0, description="last learning rate")
    steps: int = Field(100, ge=3, description="in all")


def run(params: Params, tried: RangeConfig, *, method: str, paths: dict[str, Path], found: Path) -> RangeTest:
    """Writes what was seen and returns it.

    Args:
        params: as of `train`; its first seed is used.
        tried: which rates.
        method: its name.
        paths: `manifest`, `prepared`, `features`, `labels_train`.
        found: the folder to write.
    """
    make_deterministic(params.train.threads)
    data = read_data(params, *(paths[name] for name in ("manifest", "prepared", "features", "labels_train")))
    session = open_session(
        params, data, paths["prepared"], paths["features"], found / "unused", params.train.seeds[0], method
    )
    seen = range_test(session, tried.lowest, tried.highest, tried.steps)
    document: dict[str, Any] = {"method": method, "rates": seen.rates, "losses": seen.losses}
    with atomic_folder(found) as folder:
        write_json(folder / "learning_rate.json", document | {"smoothed": seen.smoothed, "suggestion": seen.suggestion})
        (folder / "learning_rate.svg").write_text(picture(seen, method), encoding="utf-8")
    return seen


def run_in_project(project: Path, scenario: str, method: str, tried: RangeConfig) -> tuple[RangeTest, Path]:
    """Runs on the files of a project, whose places dvc.yaml names in the command of `train`.

    Returns:
        What was seen, and the folder where it is written.
    """
    sections = {field: place.format(scenario=scenario, method=method) for field, place in Params.SECTIONS.items()}
    params = load_params(Params, project / "params.yaml", sections)
    paths = training_inputs(project, scenario, method)
    found = paths["trained"].parent.parent / "learning_rate" / method
    return run(params, tried, method=method, paths=paths, found=found), found


def picture(seen: RangeTest, method: str) -> str:
    """Returns an SVG: thin the losses, thick their moving average, a line at the suggestion."""
    top, bottom = max(seen.smoothed), min(seen.smoothed)
    right = len(seen.rates) - 1

    def place(step: float, loss: float) -> str:
        share = (min(max(loss, bottom), top) - bottom) / (top - bottom) if top > bottom else 0.5
        x = _EDGE + step / max(1, right) * (_WIDTH - 2 * _EDGE)
        return f"{x:.1f},{_HEIGHT - _EDGE - share * (_HEIGHT - 2 * _EDGE):.1f}"

    def line(losses: list[float], width: int) -> str:
        points = " ".join(place(step, loss) for step, loss in enumerate(losses))
        return f'<polyline points="{points}" fill="none" stroke="#0072b2" stroke-width="{width}"/>'

    marks = []
    if seen.suggestion is not None:
        step = seen.rates.index(seen.suggestion)
        first, last = place(step, bottom), place(step, top)
        marks = [f'<polyline points="{first} {last}" stroke="#d55e00" stroke-dasharray="4"/>']
    words = [
        (_EDGE, _EDGE / 2, f"{method}: loss from {bottom:.3g} to {top:.3g}"),
        (_EDGE, _HEIGHT - _EDGE / 3, f"learning rate {seen.rates[0]:.1e} to {seen.rates[-1]:.1e}, logarithmic"),
    ]
    texts = [f'<text x="{x}" y="{y}" font-family="sans-serif" font-size="13">{escape(t)}</text>' for x, y, t in words]
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    parts = [line(seen.losses, 1), line(seen.smoothed, 3), *marks, *texts]
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(parts)}</svg>\n'
