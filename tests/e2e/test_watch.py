"""From a champion through a drift to the next one, on a small real scenario with a real store and flow."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from isthmus.core.files import hash_files, read_json, sha256_file
from isthmus.data.manifest import MANIFEST, read_table
from isthmus.registry.store.stores import open_store
from tests.e2e.test_whole_line import ROOT, project, repro, run
from tests.raw_folders import pixels, write_raw


def isthmus(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "PATH": path, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    environment["PREFECT_HOME"] = str(folder.parent / "prefect")
    command = [sys.executable, "-m", "isthmus.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def small_project(folder: Path) -> Path:
    """The project of the whole line with more images, so that enough are held out, and one gate that they can pass."""
    project(folder)
    shutil.rmtree(folder / "data/raw/demo")
    write_raw(folder / "data/raw/demo", each=60)
    document = yaml.safe_load((folder / "params.yaml").read_text())
    document["methods"] = {"source_only": {}, "zscore": {}}
    document["gates"] = {"loads_alone": {}, "same_data": {}}
    document["pairs"] = {}
    (folder / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    shutil.copy(ROOT / "requirements.lock", folder)
    shutil.copy(ROOT / ".gitignore", folder)
    run(folder, sys.executable, "-m", "dvc", "add", "-q", "data/raw/demo")
    run(folder, "git", "-c", "user.name=t", "-c", "user.email=t", "commit", "-q", "--allow-empty", "-m", "first")
    return folder


def write_batch(folder: Path, count: int, inverted: bool) -> Path:
    rng = np.random.default_rng(11)
    folder.mkdir()
    for number in range(count):
        image = pixels(rng)
        Image.fromarray(255 - image // 3 if inverted else image).save(folder / f"{number:03d}.png")
    return folder


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_drift_is_seen_adapted_to_judged_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "ISTHMUS_PROMOTION_DB", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    folder = small_project(tmp_path / "project")
    repro(folder)
    for step in ("publish", "score", "gate", "promote"):
        done = isthmus(folder, step, "demo")
        assert done.returncode == 0, done.stdout + done.stderr
    raw = folder / "data/raw/demo"
    before = {sha256_file(path) for path in raw.rglob("*.png")}

    same = isthmus(folder, "watch", "demo", str(write_batch(tmp_path / "same", 80, inverted=False)))
    other = write_batch(tmp_path / "other", 80, inverted=True)
    (other / "broken.png").write_bytes(b"no image")
    seen = isthmus(folder, "watch", "demo", str(other))

    assert same.returncode == 0, same.stderr
    assert "demo: no drift" in same.stderr
    assert seen.returncode == 3, seen.stderr
    assert f"isthmus watch demo {other} --adapt would:\n  copy 80 images into data/raw/demo" in seen.stderr
    drift = read_json(folder / ".isthmus/watch/demo/drift.json")
    assert (drift["verdict"], len(drift["bad"]), drift["share"] > 0.5) == ("drift", 1, True)
    assert {sha256_file(path) for path in raw.rglob("*.png")} == before

    adapted = isthmus(folder, "watch", "demo", str(other), "--adapt")

    assert adapted.returncode == 0, adapted.stderr
    assert "isthmus-demo: champion is version 2, before: 1" in adapted.stderr
    assert open_store(folder).aliases("isthmus-demo") == {"candidate": "2", "champion": "2", "previous": "1"}
    batch = {sha256_file(path) for path in other.glob("[0-9]*.png")}
    assert {sha256_file(path) for path in raw.rglob("*.png")} == before | batch
    manifest = read_table(folder / "out/demo/manifest.parquet", MANIFEST)
    assert set(manifest.loc[manifest["domain"] == "line_b", "sha256"]) == batch
    assert hash_files([other / "000.png"]) == hash_files([raw / "line_b" / "000.png"])

    again = isthmus(folder, "watch", "demo", str(other))
    assert again.returncode in (0, 4), again.stderr  # of its own images, and of those it was adapted to
