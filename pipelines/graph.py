"""Reads DVC's graph: which stages lead to a target, in which order, and which are unchanged.

    python -P -m pipelines.graph report@steel ...

prints the stages of the current folder's project as JSON, for a process that does not import DVC. The only file that
touches dvc's Python API. It only reads: stages run in child processes (`runner.py`), since reproducing inside threads
of one process is not safe.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from isthmus.core.errors import ConfigError
from isthmus.core.process.failures import one_message
from isthmus.core.project import no_repository
from isthmus.data.add.register import hidden_pointer

if TYPE_CHECKING:
    from dvc.repo import Repo

_TRIES, _SECONDS_BETWEEN_TRIES = 5, 0.3


@dataclass(frozen=True)
class StageNode:
    """One stage of the graph.

    Attributes:
        address: what `dvc repro -s` takes: `train@steel-coral`, or `data/raw/steel.dvc` for tracked data.
        dependencies: addresses of the stages it needs directly.
        status: `cached`: neither it nor anything before it has changed; `changed`: dvc must look at it.
    """

    address: str
    dependencies: tuple[str, ...]
    status: Literal["cached", "changed"]


def read_graph(project: Path, targets: Sequence[str]) -> list[StageNode]:
    """Returns the targets and all they need, dependencies first.

    A stage after a changed one counts as changed although its own inputs still are the old ones.

    Raises:
        ConfigError: there is no such stage, no DVC project, or `dvc.yaml` cannot be read.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.scm import SCMError
    from dvc.stage.exceptions import StageNotFound
    from dvc.utils.serialize import ParseError

    for tried in range(_TRIES):
        try:
            return _read(project, targets)
        except ParseError as error:
            # dvc empties dvc.lock and params.yaml before it rewrites them: another one may be at it
            if tried == _TRIES - 1:
                raise ConfigError(f"{project / Path(error.path).name}: {error}") from None
            time.sleep(_SECONDS_BETWEEN_TRIES)
        except NotDvcRepoError:
            raise ConfigError(
                f"{project}: not a DVC project (no .dvc folder). Run the command in the project's root"
            ) from None
        except SCMError:
            raise ConfigError(no_repository(project)) from None
        except DvcException as error:
            hint = ". 'dvc stage list' shows the stages there are" if isinstance(error, StageNotFound) else ""
            raise ConfigError(f"{project / 'dvc.yaml'}: {error}{hint}") from None
    raise AssertionError("the last try raises")


def _read(project: Path, targets: Sequence[str]) -> list[StageNode]:
    from dvc.repo import Repo

    with Repo(str(project), _wait_for_lock=True) as repo:
        found = {str(stage.path) for stage in repo.index.stages}
        for pointer in sorted((project / "data" / "raw").glob("*.dvc")):
            if str(Path(repo.root_dir) / pointer.relative_to(project)) not in found:
                raise ConfigError(hidden_pointer(pointer.relative_to(project).with_suffix("")))
        stages = list(_in_order(repo, targets))
        # by their ends and not one by one: dvc reads all of dvc.lock again for each stage that it is asked about
        places = [_place(repo, target) for target in targets]
        report = repo.status(targets=places, with_deps=True, check_updates=False) if stages else {}
        graph = repo.index.graph
        nodes: dict[str, StageNode] = {}
        for stage in stages:
            before = tuple(_address(repo, other) for other in graph.successors(stage))
            clean = stage.addressing not in report and all(nodes[a].status == "cached" for a in before)
            address = _address(repo, stage)
            nodes[address] = StageNode(address, before, "cached" if clean else "changed")
    return list(nodes.values())


def _in_order(repo: "Repo", targets: Sequence[str]) -> Iterator[Any]:
    import networkx

    graph = repo.index.graph
    seen: set[Any] = set()
    for target in targets:
        for root in repo.stage.collect(_place(repo, target)):
            for stage in networkx.dfs_postorder_nodes(graph, root):
                if stage not in seen:
                    seen.add(stage)
                    yield stage


def _place(repo: "Repo", target: str) -> str:
    """With the file named, since dvc looks for a bare name in the current folder, which may hold another project."""
    return str(Path(repo.root_dir) / (target if target.endswith(".dvc") else f"dvc.yaml:{target}"))


def _address(repo: "Repo", stage: Any) -> str:
    """dvc's own `addressing` is relative to the current folder; this one always to the project."""
    place = Path(stage.path).relative_to(repo.root_dir).as_posix()
    name = getattr(stage, "name", None)
    if name is None:
        return place
    return name if place == "dvc.yaml" else f"{place}:{name}"


def as_json(nodes: Sequence[StageNode]) -> str:
    """Returns stages as a line of text, for `from_json`."""
    return json.dumps([asdict(node) for node in nodes])


def from_json(lines: Sequence[str]) -> list[StageNode]:
    """Returns the stages of the output of a process that printed `as_json`, among warnings perhaps.

    >>> nodes = [StageNode("ingest@steel", (), "cached"), StageNode("prepare@steel", ("ingest@steel",), "changed")]
    >>> from_json(["a warning", as_json(nodes), "another"]) == nodes
    True
    """
    found = next(line for line in reversed(lines) if line.startswith("["))
    return [StageNode(one["address"], tuple(one["dependencies"]), one["status"]) for one in json.loads(found)]


if __name__ == "__main__":
    with one_message("graph"):
        print(as_json(read_graph(Path.cwd(), sys.argv[1:])))
