"""What Prefect runs: one task a stage of DVC's graph, and one that publishes. DVC owns the cache, Prefect retries."""

import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from isthmus.core.addresses import without_passwords
from isthmus.core.errors import IsthmusError
from isthmus.core.process.failures import in_our_words, other_words
from pipelines.runner import Outcome, last_error, run_command, run_stage

_BUSY_DELAYS = [1.0, 2.0, 4.0, 8.0, 15.0, *[30.0] * 25]  # [s], a quarter of an hour in all
_TRANSIENT_TRIES = 3
CLOSED = {3: "Refused", 4: "NeedsApproval"}  # exit status -> name of Prefect's state: a closed gate is a result
_FINAL = {"mistake": "Mistake", "timeout": "TimedOut"}  # names of Prefect's failed state; any other verdict: Failed


class StageFailedError(Exception):
    """Carries a failed stage's outcome through Prefect, which takes exceptions as the data of failed states."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


def error_of(state: State[Any]) -> Any:
    """Returns the exception that a failed state carries, None for any other state."""
    return state.result(raise_on_failure=False) if state.is_failed() and state.data is not None else None


def state_of(call: Callable[[], Any]) -> State[Any]:
    """Turns exceptions into states with one message, which Prefect shows without a traceback; states stay."""
    try:
        result = call()
        return result if isinstance(result, State) else Completed(data=result)
    except IsthmusError as error:
        if error.exit_status in CLOSED:
            return Completed(name=CLOSED[error.exit_status], message=str(error))
        name = "Mistake" if error.exit_status == 2 else "Failed"
        return Failed(name=name, message=str(error).partition("\n")[0], data=error)
    except Exception as error:
        told = in_our_words(error, "flow", ["data/raw"])
        return Failed(message=str(told).partition("\n")[0], data=told)


def last_words(text: str) -> None:
    """Prints what a person should read as the last lines of the command: Prefect's server logs its own end after it."""
    logging.disable(logging.CRITICAL)
    print(without_passwords(text), file=sys.stderr, flush=True)


def worth_another_try(task: Any, run: TaskRun, state: State[Any]) -> bool:
    """Says whether a failed stage may succeed unchanged: its files were busy, or the trouble was transient."""
    return state.name == "Busy" or (state.name == "Transient" and run.run_count < _TRANSIENT_TRIES)


@task(
    task_run_name="{address}",
    cache_policy=NO_CACHE,  # DVC owns the cache
    persist_result=False,
    retries=len(_BUSY_DELAYS),
    retry_delay_seconds=_BUSY_DELAYS,
    retry_condition_fn=worth_another_try,
)
def stage(address: str, cached: bool, timeout: float | None, extra: dict[str, str] | None = None) -> State[Any]:
    """Runs one stage of the graph; an unchanged one costs nothing."""
    return state_of(lambda: _ended(address, cached, timeout, extra))


def _ended(address: str, cached: bool, timeout: float | None, extra: dict[str, str] | None) -> State[Any]:
    if cached:
        return Completed(name="Cached", message="unchanged", data=Outcome("cached", "", 0.0))
    outcome = run_stage(Path.cwd(), address, get_run_logger().info, timeout, extra)
    if outcome.verdict in ("done", "cached"):
        return Completed(name="Cached" if outcome.verdict == "cached" else None, data=outcome)
    name = {"busy": "Busy", "transient": "Transient"}.get(outcome.verdict) or _FINAL.get(outcome.verdict)
    return Failed(name=name or "Failed", message=outcome.message.partition("\n")[0], data=StageFailedError(outcome))


@task(task_run_name="publish {scenario}", cache_policy=NO_CACHE, persist_result=False)
def publish_results(scenario: str, flow_run_id: str | None, extra: dict[str, str] | None = None) -> State[Any]:
    """Feeds the tracking store from a finished scenario's files; an artifact shows the verdict, with links."""
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "note.md"
        # started and not imported: MLflow takes two seconds, and two models with different code cannot share a process
        command = [sys.executable, "-P", "-m", "isthmus.cli", "publish", scenario, "--note", str(note)]
        command += ["--flow-run-id", flow_run_id] if flow_run_id else []
        status, lines = run_command(Path.cwd(), command, get_run_logger().info, extra=extra)
        text = note.read_text(encoding="utf-8") if note.exists() else ""
    if status == 0:
        key = f"verdict-{scenario.replace('_', '-')}"  # Prefect's keys take no underscore
        create_markdown_artifact(text, key=key, description=f"the verdict on {scenario}, its report, model and run")
        report, model, page = lines[-3:]
        last = f"{report} ({model.removeprefix('model:').strip()})"
        return Completed(data=Outcome("done", f"{page}\n{last}", 0.0))
    said = last_error(lines) or other_words("\n".join(lines)) or f"it ended with status {status}"
    message = (
        f"{scenario}: the results are complete (out/{scenario}), but they could not be published: {said}\n"
        f"Then run 'isthmus publish {scenario}'"
    )
    return Failed(message=message.partition("\n")[0], data=StageFailedError(Outcome("failed", message, 0.0)))
