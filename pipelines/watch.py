"""The flow `watch`: does a batch still look like what the champion was adapted to? If not, adapts to it where asked.

`isthmus watch` starts it. Exit status: 0 no drift; 3 drift; 4 too few images to tell; 1 or 2 an error; 130 interrupted.
With --adapt and drift: 0 a new model was promoted; 3 the gate says no to it; 4 a person must decide.
"""

import sys
from pathlib import Path
from typing import Any, cast

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from isthmus.core.errors import ConfigError, IsthmusError
from isthmus.core.names import read_params
from isthmus.core.params.params_copy import NAME
from isthmus.data.scenario_names import scenario_names
from isthmus.monitoring import new_target
from isthmus.monitoring.watch import EXIT, Watched, find_champion
from isthmus.monitoring.watch import watch as watch_batch
from pipelines.brief import show_briefly
from pipelines.promote import own_state, promote
from pipelines.running import running
from pipelines.tasks import CLOSED, error_of, last_words, state_of
from pipelines.transfer import transfer

_NAMES = {"drift": "Drift", "no drift": None, "too few images": "TooFewImages"}  # of Prefect's state
_STATUS = {name: EXIT[verdict] for verdict, name in _NAMES.items()} | {name: status for status, name in CLOSED.items()}
_LINE_FAILED = "LineFailed"


@task(task_run_name="watch {scenario}", cache_policy=NO_CACHE, persist_result=False)
def look(scenario: str, place: Path | None, adapt: bool) -> State[Any]:
    """Tests the batch for drift; obstacles to adapting to it are reported before any image is read."""
    return state_of(lambda: _watched(scenario, place, adapt))


@task(task_run_name="bring in {scenario}", cache_policy=NO_CACHE, persist_result=False)
def bring_in(scenario: str, batch: Watched) -> State[Any]:
    """Makes the batch the scenario's target, as a new version of its raw data."""
    return state_of(lambda: new_target.bring_in(_incoming(scenario, batch)))


@flow(name="watch", persist_result=False)
def watch(scenario: str, place: str | None = None, adapt: bool = False) -> State[Any]:
    """Tests a batch of images for drift and adapts to it on drift, if asked to.

    Args:
        scenario: a name under `scenarios:` in params.yaml.
        place: folder of images, or file of kept statistics; None: what servers of the champion kept here.
        adapt: on drift, make the batch the target, run the pipeline, and promote what comes out if the gate says yes.
    """
    end = look(scenario, Path(place) if place else None, adapt, return_state=True)
    if not end.is_completed():
        return own_state(end)
    batch = cast(Watched, end.result())
    print(batch.table(), file=sys.stderr)
    create_markdown_artifact(f"```\n{batch.table()}\n```", key="watch", description="drift of the batch")
    if batch.drift.verdict != "drift" or not adapt:
        plan = _plan(scenario, batch) if batch.drift.verdict == "drift" else []
        message = "\n".join([f"{scenario}: {batch.drift.verdict}", *plan])
        return Completed(name=_NAMES[batch.drift.verdict], message=message)
    end = state_of(lambda: _adapted(scenario, batch))
    return end if end.is_failed() else own_state(promote(scenario, return_state=True))


def _adapted(scenario: str, batch: Watched) -> State[Any]:
    with running(Path.cwd(), [scenario]):  # no other run may train on the raw data while they change
        end = bring_in(scenario, batch, return_state=True)
        if not end.is_completed():
            return own_state(end)
        end = transfer([scenario], return_state=True)
    if not end.is_completed():
        name = "Mistake" if end.name == "Mistake" else _LINE_FAILED
        return Failed(name=name, message=end.message, data=error_of(end))
    return end


def _watched(scenario: str, place: Path | None, adapt: bool) -> Watched:
    if adapt and (place is None or place.is_file()):
        raise ConfigError(
            "--adapt: needs images, and stored statistics contain none."
            f" Name their folder: 'isthmus watch {scenario} FOLDER --adapt'"
        )
    if adapt and place is not None and place.is_dir():
        new_target.read_incoming(Path.cwd(), scenario, place, [])
    return watch_batch(Path.cwd(), scenario, place)


def _incoming(scenario: str, batch: Watched) -> new_target.Incoming:
    return new_target.read_incoming(Path.cwd(), scenario, batch.place, batch.seen.files)


def _plan(scenario: str, batch: Watched) -> list[str]:
    if not batch.seen.files:
        return [f"to adapt to such images: isthmus watch {scenario} FOLDER --adapt"]
    try:
        plan = _incoming(scenario, batch).plan()
    except IsthmusError as error:
        return [f"cannot be adapted to: {error}"]
    return [f"isthmus watch {scenario} {batch.place} --adapt would:", *(f"  {line}" for line in plan)]


def main(scenario: str, place: Path | None, adapt: bool) -> int:
    """Runs the flow in the current project; returns the exit status. Arguments: as those of the flow."""
    # Errors that the user can fix are reported before Prefect's server starts.
    scenario_names(read_params(Path(NAME)), [scenario], Path(NAME))
    find_champion(Path.cwd(), scenario)
    show_briefly()  # else Prefect logs a task's error three times before it is printed here
    end = watch(scenario, str(place.absolute()) if place else None, adapt, return_state=True)
    if end.is_completed():
        last_words(end.message or "")
        return _STATUS.get(end.name or "", 0)
    error = error_of(end)
    last_words(f"error: {error or end.message}")
    return error.exit_status if isinstance(error, IsthmusError) else 1
