"""dvc.yaml against the code: what a stage depends on, who may see target labels and paths, what a stage may not do."""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import yaml

from isthmus.core.code.fingerprint import NAMED_PLUGIN, Code, import_statements
from tests.repo import REPOSITORY
from tests.report_files import TABLES

CODE = Code()
STAGES = CODE.stages()
# what the key of a stage names in dvc.yaml, where it is one plugin of a folder
KEYS = {"simulate": "${key}", "prepare": "${item.kind}", "train": "${item.method}"}
GRAPH: dict[str, Any] = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]

# A stage gives the same bytes for the same inputs: it may not know where, when and by whom it is run.
FORBIDDEN = {"mlflow", "prefect", "dvc", "urllib", "requests", "httpx", "socket", "subprocess", "time", "datetime"}
EXCEPTED = {
    "isthmus.core.engine": {"socket"},  # whether a cluster listens where units of work shall be computed
    "isthmus.core.progress": {"time"},  # shows a rate, on standard error only
    "isthmus.core.params.yaml_file": {"time"},  # waits for a file that another program is writing
    "isthmus.training.loop": {"time"},  # decides how often the checkpoint for a crash is written, never what is in it
    "isthmus.training.masked": {"time"},  # the same
    # where pretrained bytes come from, once; they are cached under their hash, and their origin is in embed.json
    "isthmus.models.weights.sources": {"urllib", "socket", "httpx"},
}
# where a run keeps the copy of params.yaml that all its stages read in place of the file; who computes units of work,
# which changes no byte (tests/soak/test_engines.py); how many processes torchrun started, as params.yaml must say too
READS_ENVIRONMENT = {
    "isthmus",  # how threads wait
    "isthmus.core.params.params_copy",
    "isthmus.core.engine",
    "isthmus.training.devices",
}


def body(stage: str) -> dict[str, Any]:
    entry: dict[str, Any] = GRAPH[stage]
    return entry.get("do", entry)


def entries(stage: str, kind: str) -> list[str]:
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in body(stage).get(kind, [])]


def modules_run_by(stage: str) -> set[str]:
    plugins = CODE.plugins(NAMED_PLUGIN[stage]) if stage in NAMED_PLUGIN else []
    return CODE.modules(stage) | CODE.reachable(plugins)


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(CODE.file(module).read_bytes())


def imports_of(module: str) -> list[tuple[str, list[str]]]:
    return [found for node in ast.walk(tree(module)) for found in import_statements(node)]


def names_in(module: str) -> Iterator[str]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.alias):
            yield node.name
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.arg):
            yield node.arg


def test_every_stage_of_the_graph_is_a_module_and_the_other_way_round() -> None:
    assert sorted(GRAPH) == STAGES


@pytest.mark.parametrize("stage", sorted(set(STAGES) - {"code"}))
def test_a_stage_depends_on_the_fingerprint_of_its_code_and_on_no_source(stage: str) -> None:
    wanted = f"out/code/{stage}/{KEYS[stage]}" if stage in NAMED_PLUGIN else f"out/code/{stage}"

    assert [entry for entry in entries(stage, "deps") if entry.startswith(("out/code", "src"))] == [wanted]


def test_the_fingerprints_are_made_of_all_of_the_source() -> None:
    assert (entries("code", "deps"), entries("code", "outs")) == (["plugins", "src/isthmus"], ["out/code"])


def test_imports_are_written_in_full_since_the_walk_follows_no_other() -> None:
    modules = {module for stage in STAGES for module in modules_run_by(stage)}
    nodes = [(module, node) for module in sorted(modules) for node in ast.walk(tree(module))]

    assert [(m, ast.unparse(node)) for m, node in nodes if isinstance(node, ast.ImportFrom) and node.level] == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_command_names_every_input_and_output_of_its_stage(stage: str) -> None:
    command = shlex.split(body(stage)["cmd"])

    data = [
        path
        for kind in ("deps", "outs", "metrics", "plots")
        for path in entries(stage, kind)
        if not path.startswith(("src/", "out/code/", "out/${item.scenario}/model.json"))  # the last: settings, for DVC
    ]

    assert [path for path in data if path not in command] == []


def test_names_and_paths_of_params_are_checked_before_a_shell_sees_them() -> None:
    """The stages that something new in params.yaml reaches first; DVC stops at the first line that fails."""
    for stage in ("simulate", "ingest", "pretrain", "train"):
        assert body(stage)["cmd"].splitlines()[0] == "python -m isthmus.core.names params.yaml"
    before_it = {
        stage
        for stage in STAGES
        if not any("${" in dep and re.match("out/(?!code/)", dep) for dep in entries(stage, "deps"))
    }
    assert before_it == {"code", "simulate", "ingest"}
    assert "$" not in body("code")["cmd"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_command_holds_nothing_of_params_but_names_and_paths_in_quotes(stage: str) -> None:
    command = body(stage)["cmd"].replace("'${item.raw}'", "")

    assert set(re.findall(r"\$\{[^}]*\}", command)) <= {"${key}", "${item.scenario}", "${item.method}"}


def test_only_ingest_and_evaluate_name_the_target_labels() -> None:
    assert [s for s in STAGES if "labels_target" in yaml.safe_dump(GRAPH[s])] == ["evaluate", "ingest"]


def test_given_labels_for_measuring_reach_evaluate_alone_and_those_for_training_no_choice() -> None:
    named = {stage: yaml.safe_dump(GRAPH[stage]) for stage in STAGES}

    assert [stage for stage in STAGES if "data/labels" in entries(stage, "deps")] == ["labels"]
    assert [stage for stage in STAGES if "labels_measure" in named[stage]] == ["evaluate", "labels"]
    assert [stage for stage in STAGES if "labels_train" in named[stage]] == ["evaluate", "labels", "train"]


def test_only_ingest_and_prepare_and_the_report_after_all_others_name_the_locations() -> None:
    assert [s for s in STAGES if "locations" in yaml.safe_dump(GRAPH[s])] == ["ingest", "prepare", "report"]
    assert not [s for s in STAGES if {"out/${key}/report"} & set(entries(s, "deps"))]


def test_dvc_shows_the_scores_alone_as_metrics_and_a_template_draws_each_table() -> None:
    assert [path for stage in STAGES for path in entries(stage, "metrics")] == ["out/${key}/scores.json"]

    drawn = [(path, props) for entry in body("report")["plots"] for path, props in entry.items()]

    assert [path.rpartition("/")[2] for path, _ in drawn] == [f"{name}.csv" for name in TABLES]
    for _, props in drawn:
        template = json.loads((REPOSITORY / ".dvc" / "plots" / f"{props['template']}.json").read_text())
        assert "<DVC_METRIC_DATA>" in str(template) and {"x", "y", "title"} <= set(props)


def test_evaluate_comes_after_the_choice_and_nothing_that_chooses_comes_after_it() -> None:
    assert "out/${key}/choice.json" in entries("evaluate", "deps")

    made = set(entries("evaluate", "outs"))

    assert [stage for stage in STAGES if made & set(entries(stage, "deps"))] == ["explain", "report", "robustness"]
    for last in ("explain", "robustness"):
        assert [s for s in STAGES if set(entries(last, "outs")) & set(entries(s, "deps"))] == ["report"]


@pytest.mark.parametrize("stage", sorted(set(STAGES) - {"ingest", "evaluate"}))
def test_no_code_of_another_stage_knows_the_target_labels(stage: str) -> None:
    knows = [
        module
        for module in sorted(modules_run_by(stage) - {"isthmus.data.manifest"})  # defines the table's columns
        if {"TARGET_LABELS", "labels_target"} & set(names_in(module))
    ]

    assert knows == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_knows_no_clock_no_network_no_store_and_no_environment(stage: str) -> None:
    found = []
    for module in sorted(modules_run_by(stage)):
        for name, attributes in imports_of(module):
            top = name.partition(".")[0]
            if top in FORBIDDEN - EXCEPTED.get(module, set()):
                found.append(f"{module} imports {name}")
            if name == "os" and {"environ", "getenv"} & set(attributes):
                found.append(f"{module} imports os.environ")
        attributes_read = {
            node.attr
            for node in ast.walk(tree(module))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
        }
        if attributes_read & {"environ", "getenv", "putenv"} and module not in READS_ENVIRONMENT:
            found.append(f"{module} reads os.environ")

    assert found == []


def test_the_exceptions_are_still_needed() -> None:
    for module, excepted in EXCEPTED.items():
        imported = {name.partition(".")[0] for name, _ in imports_of(module)}
        assert excepted <= imported, f"{module} no longer imports {', '.join(sorted(excepted - imported))}"
