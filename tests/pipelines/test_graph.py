import os
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.core.errors import ConfigError
from pipelines.graph import StageNode, read_graph
from tests.pipelines.tiny_project import write_project

# dvc 3.67 (dvc/repo/trie.py) reads a value that pygtrie will one day refuse
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value will soon raise:DeprecationWarning")

ALL = ["first", "train@tiny-a", "train@tiny-b", "report@tiny"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "project")


def dvc(project: Path, *arguments: str) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = [sys.executable, "-m", "dvc", *arguments, "-q"]
    subprocess.run(command, cwd=project, env=os.environ | {"PATH": path}, check=True)


def changed(nodes: list[StageNode]) -> list[str]:
    return [node.address for node in nodes if node.status == "changed"]


def test_the_target_and_its_ancestors_come_dependencies_first(project: Path) -> None:
    nodes = read_graph(project, ["report@tiny"])

    assert sorted(node.address for node in nodes) == sorted(ALL)
    places = {node.address: place for place, node in enumerate(nodes)}
    assert all(places[before] < places[node.address] for node in nodes for before in node.dependencies)
    assert set(nodes[-1].dependencies) == {"train@tiny-a", "train@tiny-b"}


def test_what_does_not_lead_to_the_target_is_left_out(project: Path) -> None:
    assert [node.address for node in read_graph(project, ["train@tiny-a"])] == ["first", "train@tiny-a"]


def test_a_stage_that_two_targets_need_stands_there_once(project: Path) -> None:
    nodes = read_graph(project, ["train@tiny-a", "train@tiny-b"])

    assert [node.address for node in nodes] == ["first", "train@tiny-a", "train@tiny-b"]


def test_everything_is_changed_before_and_cached_after_a_run(project: Path) -> None:
    assert changed(read_graph(project, ["report@tiny"])) == [n.address for n in read_graph(project, ["report@tiny"])]

    dvc(project, "repro")

    assert changed(read_graph(project, ["report@tiny"])) == []


def test_stages_after_a_changed_one_are_not_shown_as_cached(project: Path) -> None:
    dvc(project, "repro")
    (project / "input.txt").write_text("2")

    assert sorted(changed(read_graph(project, ["report@tiny"]))) == sorted(ALL)


def test_stages_beside_a_changed_one_stay_cached(project: Path) -> None:
    dvc(project, "repro")
    (project / "a.txt").unlink()

    assert changed(read_graph(project, ["report@tiny"])) == ["train@tiny-a", "report@tiny"]


def test_addresses_do_not_depend_on_the_current_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dvc(project, "repro")
    monkeypatch.chdir(project.parent)
    (project / "b.txt").unlink()

    assert changed(read_graph(project, ["report@tiny"])) == ["train@tiny-b", "report@tiny"]


def test_tracked_data_is_a_node_of_its_own(project: Path) -> None:
    dvc(project, "add", "input.txt")

    nodes = read_graph(project, ["first"])

    assert nodes == [StageNode("input.txt.dvc", (), "cached"), StageNode("first", ("input.txt.dvc",), "changed")]


def test_an_unknown_stage_is_refused(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"dvc.yaml: .*report@tinny.*'dvc stage list' shows the stages there are"):
        read_graph(project, ["report@tinny"])


def test_a_folder_without_dvc_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"not a DVC project \(no .dvc folder\). Run the command in the project's root"
    ):
        read_graph(tmp_path, ["report@tiny"])


def test_a_graph_that_is_not_yaml_is_refused(project: Path) -> None:
    (project / "dvc.yaml").write_text("stages: {first: [")

    with pytest.raises(ConfigError, match=r"project/dvc.yaml: .*YAML file structure is corrupted$"):
        read_graph(project, ["report@tiny"])
