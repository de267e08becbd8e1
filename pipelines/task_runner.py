"""Which of Prefect's task runners waits for stages: threads of the flow's process, or Dask's or Ray's on this machine.

The variable ISTHMUS_TASK_RUNNER names it. It is not derived from ISTHMUS_ENGINE: a stage that waits in a cluster for
units of work of its own would hold the worker that they need (docs/decisions/0040).
"""

import os
from typing import Any

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from isthmus.core.errors import ConfigError
from isthmus.core.plugins import install_command

VARIABLE = "ISTHMUS_TASK_RUNNER"


def task_runner(at_once: int) -> TaskRunner[Any]:
    """Returns the task runner for so many stages side by side.

    Raises:
        ConfigError: there is no such task runner, or it is not installed.
    """
    name = os.environ.get(VARIABLE, "") or "threads"
    try:
        if name == "threads":
            return ThreadPoolTaskRunner(max_workers=at_once)
        if name == "dask":
            from prefect_dask.task_runners import DaskTaskRunner

            return DaskTaskRunner(
                cluster_kwargs={"n_workers": at_once, "threads_per_worker": 1, "dashboard_address": None}
            )
        if name == "ray":
            from prefect_ray.task_runners import RayTaskRunner

            return RayTaskRunner(init_kwargs={"num_cpus": at_once, "include_dashboard": False})
    except ImportError as error:
        raise ConfigError(f"{VARIABLE}: {name} needs '{error.name}': {install_command(name)}") from None
    raise ConfigError(f"{VARIABLE}: no such task runner (got '{name}'). Allowed: threads, dask, ray")
