"""The flow `promote`: runs the gate on the published version of a scenario and promotes it if the gate says yes.

It is for schedules (`isthmus schedule NAME --flow promote`); a person runs `isthmus gate` and `isthmus promote`.
"""

import sys
from pathlib import Path
from typing import Any, cast

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from isthmus.registry.gate import decision, score
from isthmus.registry.promotion import promotion
from pipelines.tasks import CLOSED, error_of, state_of


@task(task_run_name="score {scenario}", cache_policy=NO_CACHE, persist_result=False)
def ask_models(scenario: str) -> State[Any]:
    """Scores candidate and champion, each in its own process, where a rule under `gates:` needs predictions."""
    return state_of(lambda: score.score_if_needed(Path.cwd(), scenario))


@task(task_run_name="gate {scenario}", cache_policy=NO_CACHE, persist_result=False)
def gate(scenario: str) -> State[Any]:
    """Applies the rules under `gates:` to the published results."""
    return state_of(lambda: decision.gate(Path.cwd(), scenario))


@task(task_run_name="promote {scenario}", cache_policy=NO_CACHE, persist_result=False)
def move_aliases(scenario: str, approve: str | None, version: str) -> State[Any]:
    """Makes the evaluated version the champion, never a later one."""
    return state_of(lambda: promotion.promote(Path.cwd(), scenario, approve, version))


@flow(name="promote", persist_result=False)
def promote(scenario: str, approve: str | None = None) -> State[Any]:
    """Runs the gate, and promotes if it allows it.

    Args:
        scenario: a name under `scenarios:` in params.yaml.
        approve: name of the person who approves where the gate asks for one.
    """
    end = ask_models(scenario, return_state=True)
    if not end.is_completed():
        return own_state(end)
    end = gate(scenario, return_state=True)
    if not end.is_completed():
        return own_state(end)
    judged = cast(decision.Decision, end.result())
    print(judged.table(), file=sys.stderr)
    create_markdown_artifact(f"```\n{judged.table()}\n```", key="gate", description="what the gate found")
    end = move_aliases(scenario, approve, judged.version, return_state=True)
    if end.name in CLOSED.values() or not end.is_completed():
        return own_state(end)
    moved = cast(promotion.Promotion, end.result())
    before = f", before: {moved.previous}" if moved.previous else ""
    return Completed(message=f"{moved.model}: champion is version {moved.champion}{before}")


def own_state(end: State[Any]) -> State[Any]:
    """Makes the flow's state of a task's: handed on as it is, Prefect would sum it up and drop name and message."""
    if end.is_completed():
        return Completed(name=end.name, message=end.message)
    return Failed(message=end.message, data=error_of(end))
