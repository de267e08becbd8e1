"""The flow `transfer`: checks the configuration, runs DVC's graph of each scenario stage by stage, publishes.

`isthmus run` starts it. Exit status: 0 done; 1 a stage, publishing or the server failed; 2 the user can put it right;
130 interrupted.
"""

import os
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal
from uuid import UUID

import httpx
from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from isthmus.core.errors import ConfigError, IsthmusError
from isthmus.core.names import read_params
from isthmus.core.params.params_copy import NAME, VARIABLE
from isthmus.data.scenario_names import scenario_names
from pipelines.brief import show_briefly
from pipelines.graph import StageNode, from_json
from pipelines.leftovers import clear_leftovers
from pipelines.progress import Progress
from pipelines.runner import Outcome, end_commands, run_command
from pipelines.running import check_free, running
from pipelines.task_runner import task_runner
from pipelines.tasks import StageFailedError, error_of, last_words, publish_results, stage, state_of

_CHECK = ("isthmus.cli", "check")
Terminal = Literal["everything", "stages", "warnings"]
AT_ONCE = 2  # stages side by side; each uses one thread, and two such runs beat one with two threads
_THREADS: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=AT_ONCE)
# What the command began to look at before the flow. Not part of the flow itself, which task runners pickle.
_LOOKED: ContextVar["Look | None"] = ContextVar("looked", default=None)


class RunError(IsthmusError):
    """A stage or publishing failed, and it need not be the user's mistake. Exit status 1."""

    exit_status = 1


@dataclass(frozen=True)
class Look:
    """What a run looks at before its first stage.

    Attributes:
        params: what `params.yaml` held.
        graph: what was cleared of killed processes, and the stages, of `read_graph`.
    """

    params: bytes
    graph: Future[tuple[list[str], list[StageNode]]]


def look(scenarios: Sequence[str], check: bool) -> Look:
    """Reads the graph and checks what is to run, beside what comes next."""
    pool = ThreadPoolExecutor(max_workers=1)
    params = (Path.cwd() / NAME).read_bytes()
    try:
        return Look(params, pool.submit(_graph, Path.cwd(), scenarios, check))
    finally:
        pool.shutdown(wait=False)


def _graph(project: Path, scenarios: Sequence[str], check: bool) -> tuple[list[str], list[StageNode]]:
    # first: dvc refuses to read the graph at all beside a half-written file of a killed one
    cleared = clear_leftovers(project)
    try:
        nodes = from_json(_child(project, "pipelines.graph", *(f"report@{name}" for name in scenarios)))
    except ConfigError:
        if check:
            _child(project, *_CHECK, *scenarios)  # finds more mistakes than DVC's first
        raise
    if check and any(node.status == "changed" for node in nodes):
        _child(project, *_CHECK, *scenarios)
    return cleared, nodes


def _child(project: Path, module: str, *arguments: str) -> list[str]:
    # a process of its own: imports in a thread here would hold up the start of Prefect's client
    status, lines = run_command(project, [sys.executable, "-P", "-m", module, *arguments], lambda line: None)
    if status != 0:
        raise (ConfigError if status == 2 else RunError)("\n".join(lines).removeprefix("error: "))
    return lines


@flow(name="transfer", persist_result=False, task_runner=_THREADS)
def transfer(
    scenarios: list[str], publish: bool = True, timeout: float | None = None, check: bool = True
) -> State[Any]:
    """Runs each scenario to its report and publishes it.

    Args:
        scenarios: names under `scenarios:` in params.yaml; none: all of them.
        publish: feed the tracking store afterwards.
        timeout: longest time for one stage [s].
        check: check params.yaml and the raw data first where a stage is to run; False: run the graph as it stands.
    """
    return _state(scenarios, publish, timeout, check, _LOOKED.get())


def _state(scenarios: list[str], publish: bool, timeout: float | None, check: bool, seen: Look | None) -> State[Any]:
    try:
        return state_of(lambda: _transfer(scenarios, publish, timeout, check, seen))
    except BaseException:  # Ctrl-C, TERM: the main thread only
        end_commands()
        raise


def _transfer(scenarios: list[str], publish: bool, timeout: float | None, check: bool, seen: Look | None) -> State[Any]:
    scenarios = scenario_names(read_params(Path(NAME)), scenarios, Path(NAME))
    with running(Path.cwd(), scenarios) as copy:
        extra = {VARIABLE: str(copy)}
        if seen is None or seen.params != copy.read_bytes():
            seen = look(scenarios, check)
        cleared, nodes = seen.graph.result()
        for line in cleared:
            get_run_logger().info(f"cleared: {line}")
        progress = Progress(nodes)
        verdicts = _run_graph(progress, timeout, extra)
        if progress.messages:
            progress.messages.append(_not_run(progress))
        places: list[str] = []
        if publish and not progress.messages:
            run_id = str(flow_run.id) if flow_run.id else None
            for name in scenarios:
                end = publish_results(name, run_id, extra, return_state=True)
                found = places if end.is_completed() else progress.messages
                found.append(_outcome(end, f"publish {name}").message)
    if progress.messages:
        return _ended("Mistake" if "mistake" in verdicts else "Failed", "\n".join(filter(None, progress.messages)))
    changed = sum(node.status == "changed" for node in nodes)
    counts = f"{', '.join(scenarios)}: {len(nodes)} stages, {len(nodes) - changed} unchanged"
    return Completed(message=counts, data="\n".join([counts, *(places or map(_report, scenarios))]))


def _report(scenario: str) -> str:
    return f"report: out/{scenario}/report/report.html"


def _run_graph(progress: Progress, timeout: float | None, extra: dict[str, str]) -> set[str]:
    """Runs each stage as soon as all it needs is finished; what does not depend on a failed one still runs."""
    log = get_run_logger()
    for node in progress.nodes:
        if node.status == "cached":
            stage(node.address, True, timeout, return_state=True)
    running: dict[UUID, str] = {}  # of a task run -> its stage
    ended: SimpleQueue[PrefectFuture[Any]] = SimpleQueue()
    verdicts: set[str] = set()
    while True:
        for address in progress.ready()[: AT_ONCE - len(running)]:
            progress.states[address] = "running"
            future = stage.submit(address, False, timeout, extra)
            running[future.task_run_id] = address
            future.add_done_callback(ended.put)
        create_markdown_artifact(progress.table(), key="transfer", description="stages of this run")
        if not running:
            break
        future = ended.get()
        future.wait()  # fetches the state; the run itself is over
        address = running.pop(future.task_run_id)
        outcome = _outcome(future.state, address)
        verdicts.add(outcome.verdict)
        log.info(progress.finish(address, outcome))
    progress.close()
    return verdicts


def _outcome(state: State[Any], address: str) -> Outcome:
    if isinstance(error := error_of(state), StageFailedError):
        return error.outcome
    if state.is_completed():
        outcome = state.result()
        assert isinstance(outcome, Outcome)
        return outcome
    return Outcome("failed", f"{address}: {state.name}: {state.message}", 0.0)


def _not_run(progress: Progress) -> str:
    left = [address for address, state in progress.states.items() if state == "not run"]
    return f"not run because of this: {', '.join(left)}" if left else ""


def _ended(name: str, message: str) -> State[Any]:
    error = IsthmusError(message) if name == "Mistake" else RunError(message)
    return Failed(name=name, message=message.partition("\n")[0], data=error)


def main(names: Sequence[str], publish: bool, check: bool, timeout: float | None, terminal: Terminal) -> int:
    """Runs the flow in the current project; returns the exit status.

    Args:
        names: scenarios; none: all.
        publish: to MLflow afterwards.
        check: check params.yaml and the raw data first where a stage is to run.
        timeout: longest time for one stage [s]; None: no limit.
        terminal: what a person sees of it.
    """
    if terminal != "everything":
        show_briefly(quiet=terminal == "warnings")
    # What a person can put right is told before Prefect's server comes up.
    names = scenario_names(read_params(Path(NAME)), names, Path(NAME))
    check_free(Path.cwd(), names)
    runs = transfer.with_options(task_runner=task_runner(AT_ONCE))
    # beside the start of Prefect's server: seconds of a run with nothing to do
    _LOOKED.set(look(names, check))
    try:
        end = runs(names, publish, timeout, check, return_state=True)
    except RuntimeError as error:  # what Prefect raises when its API cannot be reached, before the flow begins
        server = os.environ.get("PREFECT_API_URL")
        hint = f"Start the server at {server}, or unset PREFECT_API_URL" if server else "Run the same command again"
        last_words(f"error: Prefect: {error}. {hint}")
        return 1
    except httpx.TransportError as error:  # it ended, or cannot be reached any more, in the middle of the run
        last_words(
            f"error: Prefect's server was lost during the run ({error}). Finished stages are cached:"
            " run the same command again"
        )
        sys.stderr.flush()
        os._exit(1)  # else Prefect tries for seconds to send each message that is left, and prints it whole
    if end.is_completed():
        if terminal != "warnings":
            last_words(str(end.result()))
        return 0
    wrong = error_of(end)
    last_words(f"error: {wrong or end.message}")
    return wrong.exit_status if isinstance(wrong, IsthmusError) else 1
