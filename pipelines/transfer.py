"""The flow `transfer`: checks the configuration, runs DVC's graph of each scenario stage by stage, publishes.

    python -m pipelines.transfer steel        what `isthmus run steel` starts

Exit status: 0 done; 1 a stage, publishing or the server failed; 2 the user can put it right; 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.futures import PrefectConcurrentFuture
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from isthmus.core.config import read_yaml
from isthmus.core.errors import IsthmusError
from isthmus.data.scenario_names import scenario_names
from pipelines.graph import StageNode, read_graph
from pipelines.progress import Progress
from pipelines.runner import Outcome, clear_locks, run_command
from pipelines.supervisor import supervise
from pipelines.tasks import StageFailedError, error_of, publish_results, stage

AT_ONCE = 2  # stages side by side; each uses one thread, and two such runs beat one with two threads
_RUNNER: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=AT_ONCE)


@dataclass(frozen=True)
class Look:
    """What a run looks at before its first stage; each comes with `result()`.

    Attributes:
        check: exit status and lines of `isthmus check`; None: not wanted.
        graph: the stages, of `read_graph`.
    """

    check: Future[tuple[int | None, list[str]]] | None
    graph: Future[list[StageNode]]


_begun: dict[tuple[str, ...], Look] = {}  # before the flow


def look(scenarios: Sequence[str], check: bool) -> Look:
    """Starts the check and reads the graph, beside what comes next."""
    command = [sys.executable, "-m", "isthmus.cli", "check", *scenarios]
    pool = ThreadPoolExecutor(max_workers=2)
    try:
        checking = pool.submit(run_command, Path.cwd(), command, lambda line: None) if check else None
        return Look(checking, pool.submit(read_graph, Path.cwd(), [f"report@{name}" for name in scenarios]))
    finally:
        pool.shutdown(wait=False)


@flow(name="transfer", persist_result=False, task_runner=_RUNNER)
def transfer(
    scenarios: list[str], publish: bool = True, timeout: float | None = None, check: bool = True
) -> State[Any]:
    """Runs each scenario to its report and publishes it.

    Args:
        scenarios: names under `scenarios:` in params.yaml.
        publish: feed the tracking store afterwards.
        timeout: longest time for one stage [s].
        check: check params.yaml and the raw data first; False: run the graph as it stands.
    """
    seen = _begun.pop(tuple(scenarios), None) or look(scenarios, check)
    if seen.check is not None:
        status, lines = seen.check.result()
        if status != 0:
            return _ended("Mistake" if status == 2 else "Failed", "\n".join(lines).removeprefix("error: "))
    try:
        nodes = seen.graph.result()
    except IsthmusError as error:
        return _ended("Mistake", str(error))
    clear_locks(Path.cwd(), get_run_logger().info)  # also where no stage will run
    progress = Progress(nodes)
    verdicts = _run_graph(progress, timeout)
    if progress.messages:
        progress.messages.append(_not_run(progress))
    places: list[str] = []
    if publish and not progress.messages:
        run_id = str(flow_run.id) if flow_run.id else None
        for name in scenarios:
            end = publish_results(name, run_id, return_state=True)
            (places if end.is_completed() else progress.messages).append(_outcome(end, f"publish {name}").message)
    if progress.messages:
        return _ended("Mistake" if "mistake" in verdicts else "Failed", "\n".join(filter(None, progress.messages)))
    changed = sum(node.status == "changed" for node in nodes)
    counts = f"{', '.join(scenarios)}: {len(nodes)} stages, {len(nodes) - changed} unchanged"
    return Completed(message="\n".join([counts, *places]))


def _run_graph(progress: Progress, timeout: float | None) -> set[str]:
    """Runs each stage as soon as all it needs is finished; what does not depend on a failed one still runs."""
    log = get_run_logger()
    for node in progress.nodes:
        if node.status == "cached":
            stage(node.address, True, timeout, return_state=True)
    running: dict[PrefectConcurrentFuture[Any], str] = {}
    verdicts: set[str] = set()
    while True:
        for address in progress.ready()[: AT_ONCE - len(running)]:
            progress.states[address] = "running"
            running[cast(PrefectConcurrentFuture[Any], stage.submit(address, False, timeout))] = address
        create_markdown_artifact(progress.table(), key="transfer", description="stages of this run")
        if not running:
            break
        wait([future.wrapped_future for future in running], return_when=FIRST_COMPLETED)
        for future in [future for future in running if future.wrapped_future.done()]:
            future.wait()  # fetches the state; the run itself is over
            outcome = _outcome(future.state, running[future])
            verdicts.add(outcome.verdict)
            log.info(progress.finish(running.pop(future), outcome))
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
    return f"not run, because of that: {', '.join(left)}" if left else ""


def _ended(name: str, message: str) -> State[Any]:
    return Failed(name=name, message=message.partition("\n")[0], data=IsthmusError(message))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the flow under a supervisor, so that it and all it starts die with this process's parent."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.transfer", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("scenarios", nargs="*", metavar="NAME", help="scenarios of params.yaml")
    parser.add_argument("--all", action="store_true", help="every scenario of params.yaml")
    parser.add_argument("--no-publish", action="store_true", help="do not feed the tracking store")
    parser.add_argument("--no-check", action="store_true", help="do not check params.yaml and the raw data first")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="longest time for one stage")
    given = parser.parse_args(arguments)
    if bool(given.scenarios) == given.all:
        parser.error("name one scenario or more, or --all")
    if given.timeout is not None and given.timeout <= 0:
        parser.error(f"--timeout: must be more than 0 seconds (got {given.timeout:g})")
    status = supervise(lambda: _run(given))
    if status in (130, 143):
        print("interrupted: nothing half-written is left; run the same command again", file=sys.stderr)
    return status


def _run(given: argparse.Namespace) -> int:
    try:
        # A misspelt name is told before Prefect's server comes up.
        names = scenario_names(read_yaml(Path("params.yaml")), given.scenarios, Path("params.yaml"))
        _begun[tuple(names)] = look(
            names, not given.no_check
        )  # while Prefect's server comes up: seconds of a no-op run
        end = transfer(names, not given.no_publish, given.timeout, not given.no_check, return_state=True)
    except IsthmusError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except RuntimeError as error:  # what Prefect raises when its API cannot be reached, before the flow begins
        server = os.environ.get("PREFECT_API_URL")
        hint = f"Start the server at {server}, or unset PREFECT_API_URL" if server else "Run the same command again"
        print(f"error: Prefect: {error}. {hint}", file=sys.stderr)
        return 1
    if end.is_completed():
        print(end.message, file=sys.stderr)
        return 0
    print(f"error: {error_of(end) or end.message}", file=sys.stderr)
    return 2 if end.name == "Mistake" else 1


if __name__ == "__main__":
    sys.exit(main())
