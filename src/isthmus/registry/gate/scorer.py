"""Runs one registered model in a clean process: run by path with `python -I`, never imported.

Two models with different bundled code in one process run the first one's code for both, so each gets a process; and
nothing of a project may help a model that must stand alone, so this file imports nothing of ours.

    python -I scorer.py JOB.json

JOB.json: `tracking_uri`, `model` (a uri), `files` (`[path, part, domain]`, absolute), `ids`, `timed` (images), `out`,
`name` (of the progress lines, the only ones on standard output).
Writes `<out>.parquet` (image_id, sha256 of the bytes read, probabilities, `mask` or `boxes`) and `<out>.json`. A file
of a model that compares two images has the path of the later one behind its domain.
"""

import hashlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

_BATCH = 256  # images a call


def main(job: dict[str, Any]) -> None:
    """Loads, predicts, times, writes."""
    sys.meta_path.insert(0, _BundledOnly())
    os.environ.update(
        MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false"
    )
    warnings.filterwarnings("ignore")
    import mlflow

    mlflow.set_tracking_uri(job["tracking_uri"])
    folder = Path(mlflow.artifacts.download_artifacts(job["model"]))
    model = mlflow.pyfunc.load_model(str(folder))
    facts: dict[str, Any] = {"bundled": _bundled(folder)}
    facts["size_bytes"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    facts["classes"] = list(model.metadata.metadata["classes"])
    signature = model.metadata.signature
    facts["inputs"] = {column.name: str(column.type.name) for column in signature.inputs}
    facts["outputs"] = {column.name: str(column.type.name) for column in signature.outputs}
    knows_domains = signature.params is not None and "domain" in {param.name for param in signature.params.params}
    answered = [name for name in ("mask", "boxes", "threshold") if name in facts["outputs"]]
    columns = answered or [f"probability_{name}" for name in facts["classes"]]
    rows = _answers(model, job, columns, knows_domains)
    rows.to_parquet(f"{job['out']}.parquet")
    facts["latency"] = _latency(model, job["files"][: job["timed"]], knows_domains)
    Path(f"{job['out']}.json").write_text(json.dumps(facts), encoding="utf-8")


def _answers(model: Any, job: dict[str, Any], columns: list[str], knows_domains: bool) -> Any:
    import pandas as pd

    frames = []
    places = range(len(job["files"]))
    show = _progress(job["name"], len(places))
    for domain in sorted({file[2] for file in job["files"]}):
        mine = [place for place in places if job["files"][place][2] == domain]
        for first in range(0, len(mine), _BATCH):
            batch = mine[first : first + _BATCH]
            images = _examples([job["files"][place] for place in batch])
            with redirect_stdout(sys.stderr):
                answer = model.predict(images, params={"domain": domain} if knows_domains else None)
            frames.append(answer[columns].set_axis(pd.Index(batch)))
            show(sum(map(len, frames)))
    rows = pd.concat(frames).sort_index()
    rows.insert(0, "image_id", job["ids"])
    hashes = {path: _sha256(path) for path in {file[0] for file in job["files"]}}  # a scene once for all of its tiles
    rows.insert(1, "sha256", [hashes[file[0]] for file in job["files"]])
    return rows.reset_index(drop=True)


def _sha256(path: str) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _progress(name: str, total: int) -> Callable[[int], None]:
    """Returns what prints, as `core/progress.py` does, how many of the images are done."""
    start = time.monotonic()

    def tell(done: int) -> None:
        rate = done / max(time.monotonic() - start, 1e-9)
        print(f"{name}: {done}/{total} images, {rate:.1f}/s, {(total - done) / rate:.0f} s left", flush=True)

    return tell


def _latency(model: Any, files: list[list[str]], knows_domains: bool) -> dict[str, float]:
    import torch

    torch.set_num_threads(1)
    seconds = []
    for file in [files[0], *files]:
        example, params = _examples([file]), {"domain": file[2]} if knows_domains else None
        start = time.perf_counter()
        model.predict(example, params=params)
        seconds.append(time.perf_counter() - start)
    ordered = sorted(seconds[1:])  # the first call warms up
    last = len(ordered) - 1
    return {
        "images": len(ordered), "median_s": ordered[last // 2], "p95_s": ordered[round(last * 0.95)],
        "fastest_s": ordered[0],
    }  # fmt: skip


def _examples(files: list[list[str]]) -> Any:
    import pandas as pd

    # with its part, also an empty one: `ingest` has held the file against the scenario's own bounds, and none are left
    columns = {"image": [(Path(file[0]), file[1]) for file in files]}
    if len(files[0]) > 3:
        columns["image_b"] = [(Path(file[3]), file[1]) for file in files]
    return pd.DataFrame(columns)


def _bundled(folder: Path) -> bool:
    loaded = sys.modules.get("isthmus")
    return loaded is not None and Path(str(loaded.__file__)).is_relative_to(folder / "code")


class _BundledOnly(MetaPathFinder):
    """Finds `isthmus` nowhere but where loading a model has put it: an installed one would answer in its place."""

    def __init__(self) -> None:
        self._before = set(sys.path)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname != "isthmus":
            return None
        spec = PathFinder.find_spec(fullname, [entry for entry in sys.path if entry not in self._before])
        if spec is None:
            raise ModuleNotFoundError("the model bundles no package 'isthmus'", name=fullname)
        return spec


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
