"""Names and paths of params.yaml that would mean something to a shell, in every place where the file is read."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from isthmus.core.config import Config, load_params
from isthmus.core.errors import ConfigError
from isthmus.core.names import path_problem, read_params

GOOD = {"scenarios": {"steel_2": {"raw": "data/raw/my photos; #2 & (new) $HOME"}}, "methods": {"coral": {}}}
HOSTILE = [
    "$(touch owned)",
    "`touch owned`",
    "a; touch owned",
    "a b",
    "A",
    "a-b",
    "a\ntouch owned",
    "a'b",
    "",
    "ä",
    "a/b",
]


class Nothing(Config):
    seed: int = 0


def write(folder: Path, document: dict[str, object]) -> Path:
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.parametrize("section", ["scenarios", "pairs", "models", "methods", "pretraining"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_is_no_bare_word_is_refused_wherever_params_are_read(
    tmp_path: Path, section: str, name: str
) -> None:
    path = write(tmp_path, {section: {name: {}}})

    for read in (lambda: read_params(path), lambda: load_params(Nothing, path, {})):
        with pytest.raises(ConfigError, match=rf"params.yaml: {section}: the name .* cannot be used. Allowed: lower"):
            read()


def test_a_scenario_may_not_write_where_the_fingerprints_are(tmp_path: Path) -> None:
    path = write(tmp_path, {"scenarios": {"code": {}}, "methods": {"code": {}}})

    with pytest.raises(ConfigError, match=r"params.yaml: scenarios: the name 'code' is taken: out/code holds .* it$"):
        read_params(path)


def test_a_name_that_yaml_takes_for_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("methods: {no: {}, 3: {}}\n")

    with pytest.raises(ConfigError, match=r"the name False is not text. Write it in quotes[^\n]*\n.*the name 3 is not"):
        read_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("data/raw/it's", "may not hold"),
        ("data/raw/x'; touch owned; '", "may not hold"),
        ("data/raw/a\ntouch owned", "may not hold"),
        ("data\\raw", "may not hold"),
        ("../elsewhere", "must be a path inside the project"),
        ("/etc", "must be a path inside the project"),
        ("~/photos", "must be a path inside the project"),
        ("-rf", "must be a path inside the project"),
        ("s3://bucket/photos", "must be a path inside the project"),
        (".", "must be a path inside the project"),
        ("", "must be a path inside the project"),
    ],
)
def test_a_path_that_quotes_cannot_hold_or_that_leaves_the_project_is_refused(
    tmp_path: Path, path: str, reason: str
) -> None:
    file = write(tmp_path, {"scenarios": {"demo": {"raw": path}}})

    with pytest.raises(ConfigError, match=rf"params.yaml: scenarios.demo.raw: .*{reason}"):
        read_params(file)


@pytest.mark.parametrize(
    "path", ["data/raw/a b", "data/raw/a;b", "data/raw/$(x)", "data/raw/#1 & `x` | <y> *?", "bäume"]
)
def test_a_path_that_quotes_hold_is_kept(path: str) -> None:
    assert path_problem(path) == ""


def test_the_first_command_of_a_stage_ends_well_or_with_status_2_and_the_message(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "isthmus.core.names", "params.yaml"]
    write(tmp_path, GOOD)
    good = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    write(tmp_path, {"methods": {"$(touch owned)": {}}})
    bad = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert (good.returncode, good.stdout + good.stderr) == (0, "")
    assert bad.returncode == 2
    assert bad.stderr.startswith("error: params.yaml: methods: the name '$(touch owned)' cannot be used")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("section", "entry"),
    [
        ("scenarios", {"$(touch owned)": {"raw": "photos", "kind": "natural", "model": "m"}}),
        ("scenarios", {"demo": {"raw": "photos'; touch owned; '", "kind": "natural", "model": "m"}}),
        ("scenarios", {"demo": {"raw": "photos\ntouch owned", "kind": "natural", "model": "m"}}),
        ("pairs", {"x; touch owned": {}}),
        ("methods", {"`touch owned`": {}}),
        ("pretraining", {"$(touch owned)": {}}),
    ],
)
def test_dvc_alone_runs_nothing_of_a_hostile_params_file(
    tmp_path: Path, section: str, entry: dict[str, object]
) -> None:
    """With the shipped dvc.yaml's commands and keys, everything that a stage needs being there."""
    graph = yaml.safe_load((Path(__file__).parents[2] / "dvc.yaml").read_text())
    for stage in graph["stages"].values():  # each stands alone, so that no other is in its way
        body = stage.get("do", stage)
        body.update(deps=["params.yaml"], params=[], outs=[])
        body.pop("metrics", None), body.pop("plots", None)
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    document = {"scenarios": {}, "pairs": {}, "methods": {}, "pretraining": {}, "models": {}}
    if section == "methods":
        document["scenarios"] = {"demo": {"raw": "photos", "kind": "natural", "model": "m"}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(document | {section: entry}))
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "-q", "--no-scm"], cwd=tmp_path, env=environment, check=True)
    guarded = {"scenarios": "ingest", "pairs": "simulate", "methods": "train", "pretraining": "pretrain"}[section]

    names = subprocess.run(
        [*dvc, "stage", "list", "--name-only"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    targets = [line for line in names.stdout.splitlines() if line.startswith(f"{guarded}@")]
    done = subprocess.run(
        [*dvc, "repro", "-s", *targets], cwd=tmp_path, env=environment, capture_output=True, text=True
    )

    assert done.returncode != 0
    assert "cannot be used" in done.stderr or "may not hold" in done.stderr, done.stderr
    assert not (tmp_path / "owned").exists()
